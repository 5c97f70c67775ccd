"""What was written by hand, for cases of the other files. NumPy's sort is the limit of sorts."""

from __future__ import annotations

from tests.benchmarks.case import CASES
from tests.benchmarks.libraries import BY_HAND


def by_hand(case, name, *places, valued=True):
    CASES[case].best(BY_HAND)(lambda lib: lib.derivatives(name, *places, valued=valued))


# The price is no derivative, but of the form of one.
by_hand("black_scholes_f64", "black_scholes_f64", 0, 0, 1, 2, valued=False)
by_hand("black_scholes_f32", "black_scholes_f32", 0, 0, 1, 2, valued=False)
by_hand("logsumexp", "logsumexp", 0)
by_hand("cross_entropy", "cross_entropy", 0)
by_hand("layer_norm", "layer_norm", 0, 1, 2)
by_hand("logistic", "logistic", 0)
by_hand("embedding", "embedding", 0)
by_hand("chain_50m", "chain", 0)
CASES["sort"].best(BY_HAND)(lambda lib: lib.np.sort)
