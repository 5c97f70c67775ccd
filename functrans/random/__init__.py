"""functrans.random: random numbers as pure functions of keys; the bits of JAX's Threefry keys."""

from functrans.random.bits import bits, clone, fold_in, key, key_data, split, wrap_key_data
from functrans.random.distributions import (
    bernoulli,
    categorical,
    cauchy,
    choice,
    exponential,
    gumbel,
    laplace,
    logistic,
    lognormal,
    normal,
    permutation,
    rademacher,
    randint,
    truncated_normal,
    uniform,
)

PRNGKey = key

__all__ = [
    "PRNGKey",
    "bernoulli",
    "bits",
    "categorical",
    "cauchy",
    "choice",
    "clone",
    "exponential",
    "fold_in",
    "gumbel",
    "key",
    "key_data",
    "laplace",
    "logistic",
    "lognormal",
    "normal",
    "permutation",
    "rademacher",
    "randint",
    "split",
    "truncated_normal",
    "uniform",
    "wrap_key_data",
]
