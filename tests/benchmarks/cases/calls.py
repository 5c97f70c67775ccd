"""Calls of compiled functions so small that only the call costs."""

from __future__ import annotations

from tests.benchmarks.case import case

COMPILED = {"small": True, "without": ("torch", "autograd")}


@case("call_vector", "call of jit(f), 3-vector", lambda rng: (rng.normal(size=3),), **COMPILED)
def call_vector(lib):
    return lib.jit(lambda x: lib.np.sin(x) * 2.0 + x)


def six_arrays(rng):
    return ({name: rng.normal(size=4) for name in "abcdef"},)


@case("call_dict", "call of jit(f), dict of 6 arrays", six_arrays, **COMPILED)
def call_dict(lib):
    return lib.jit(lambda p: {name: 2.0 * x for name, x in p.items()})
