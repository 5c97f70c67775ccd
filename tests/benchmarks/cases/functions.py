"""Elementary functions over numbers that fit a cache, to be run with one thread:

    FUNCTRANS_NUM_THREADS=1 OMP_NUM_THREADS=1 taskset -c 0 python -m tests.benchmarks function_...

NumPy itself runs in the column of autograd, whose overhead is one microsecond.
"""

from __future__ import annotations

import importlib

from tests.benchmarks.case import case

SIZE = 30_000
SPECIAL = {
    "functrans": "functrans.scipy.special",
    "jax": "jax.scipy.special",
    "torch": "torch.special",
    "torch.compile": "torch.special",
    "autograd": "autograd.scipy.special",
}
LINE, UNIT, POSITIVE = (-5.0, 5.0), (-0.99, 0.99), (0.01, 100.0)
# Names of NumPy (torch has them too), the range of the arguments.
FUNCTIONS = {
    "exp": LINE,
    "exp2": LINE,
    "expm1": LINE,
    "log": POSITIVE,
    "log2": POSITIVE,
    "log10": POSITIVE,
    "log1p": POSITIVE,
    "sin": LINE,
    "cos": LINE,
    "tan": LINE,
    "arcsin": UNIT,
    "arccos": UNIT,
    "arctan": LINE,
    "sinh": LINE,
    "cosh": LINE,
    "tanh": LINE,
    "arcsinh": LINE,
    "arccosh": (1.0, 20.0),
    "arctanh": UNIT,
    "cbrt": LINE,
    "expit": LINE,
    "erf": LINE,
    "erfc": LINE,
    "erfinv": UNIT,
    "gammaln": (0.1, 20.0),
    "digamma": (0.1, 20.0),
}
OF_TWO = {"power": (0.1, 10.0), "arctan2": LINE, "hypot": LINE, "logaddexp": LINE}
SPECIALS = ("expit", "erf", "erfc", "erfinv", "gammaln", "digamma")
LACKING = {"cbrt": ("torch", "torch.compile", "autograd"), "hypot": ("autograd",)}


def numbers(bounds, dtype, count):
    return lambda rng: tuple(rng.uniform(*bounds, SIZE).astype(dtype) for _ in range(count))


def function(name):
    def program(lib):
        home = importlib.import_module(SPECIAL[lib.name]) if name in SPECIALS else lib.np
        apply = getattr(home, "pow" if name == "power" and lib.name == "torch" else name)
        return lib.jit(lambda *xs: apply(*xs))

    return program


for _name, _bounds in (FUNCTIONS | OF_TWO).items():
    for _type, _dtype, _tolerance in (("f64", "f8", 1e-12), ("f32", "f4", 1e-4)):
        case(
            f"function_{_name}_{_type}",
            f"{_name}, {SIZE} {_type}",
            numbers(_bounds, _dtype, 2 if _name in OF_TWO else 1),
            small=True,
            tolerance=_tolerance,
            without=LACKING.get(_name, ()),
        )(function(_name))
