"""Measures elementary functions: compiled once, run on many samples, judged by mpmath.

Where NumPy has the function in extended precision, all samples are searched with it and the worst
ones go to mpmath; elsewhere as many samples as mpmath manages.
"""

from __future__ import annotations

from typing import Any

import mpmath
import numpy as np

from jit.loop_ir.builder import Builder
from jit.loop_ir.nodes import DType
from jit.vectors import Target
from tests.jit.loop_programs import NUMPY, run
from tests.ulp.functions import Array, Function

JUDGED = 40
MPMATH_BITS = 200
# Steps of mpmath are a thousand times as long: of those functions fewer samples are taken.
UNSCREENED = 40


def evaluated(f: Function, args: list[Array], dtype: DType, target: Target | None) -> list[Array]:
    """The results of f on samples, by the emitted code."""
    n = args[0].size
    b = Builder(f.name)
    inputs = [b.input(f"x{k}", dtype, n) for k in range(len(args))]
    probe: list[Any] = []
    with b.kernel(f.name), b.for_(n, "vector") as loop:
        found = f.build(b, *[b.load(x, loop.i) for x in inputs])
        probe = list(found) if isinstance(found, tuple) else [found]
        for k, value in enumerate(probe):
            b.store(b.output(f"out{k}", dtype, n), loop.i, value)
    return run(b.finish(), args, target)


def unit(exact: Any, dtype: DType) -> Any:
    """One unit in the last place of an exact value, subnormal values included."""
    digits, least = (53, -1074) if dtype == "f64" else (24, -149)
    exponent = mpmath.frexp(exact)[1] if exact else least
    return mpmath.ldexp(1, max(int(exponent) - digits, least))


def judged(f: Function, found: tuple[Any, ...], given: tuple[Any, ...], dtype: DType) -> float:
    """The error of one result in units of the exact value; of a pair, by its absolute value."""
    args = [mpmath.mpf(float(v)) for v in given]
    largest = mpmath.mpf(float(np.finfo(NUMPY[dtype]).max))
    at_pole = f.poles and all(v <= 0 and v == int(v) for v in args)
    if at_pole:
        return 0.0 if not np.isfinite(found[0]) else float("inf")
    if len(found) == 2:
        exact = f.truth(*[mpmath.mpc(*args[k : k + 2]) for k in range(0, len(args), 2)])
        got = mpmath.mpc(*[float(v) for v in found]) if np.isfinite(found).all() else None
    else:
        exact = f.truth(*args)
        got = mpmath.mpf(float(found[0])) if np.isfinite(found[0]) else None
    half = unit(largest, dtype) / 2
    if got is None:
        too_large = abs(exact) >= largest + half - 2 * half * f.bound
        return 0.0 if too_large else float("inf")
    if abs(exact) > largest + half + 2 * half * f.bound:
        return float("inf")
    floor = f.floor(*args) if f.floor else 0.0
    return float(abs(got - exact) / unit(max(abs(exact), floor), dtype))


def suspects(f: Function, args: list[Array], found: list[Array], dtype: DType, count: int) -> Array:
    """Where the error is greatest, by extended precision: positions of `count` samples."""
    if f.screen is None or np.finfo(np.longdouble).nmant < 63:
        return np.arange(args[0].size)
    wide = np.longdouble if dtype == "f64" else np.float64
    info = np.finfo(NUMPY[dtype])
    with np.errstate(all="ignore"):
        exact = f.screen(*[a.astype(wide) for a in args])
        exponent = np.frexp(np.abs(exact))[1].astype(np.int64)
        least = -1074 if dtype == "f64" else -149
        size = np.ldexp(wide(1), np.maximum(exponent - info.nmant - 1, least))
        error = np.abs(found[0].astype(wide) - exact) / size
        close = np.isinf(exact.astype(NUMPY[dtype])) & np.isinf(found[0])
    error = np.where(close, 0, np.where(np.isnan(error), np.inf, error))
    return np.argsort(-error, kind="stable")[:count]


def worst(
    f: Function, dtype: DType, target: Target | None, samples: int, seed: int = 0
) -> tuple[float, tuple[float, ...]]:
    """The greatest error in units in the last place, and where."""
    rng = np.random.default_rng([seed, *f.name.encode()])
    kind = np.dtype(NUMPY[dtype])
    extended = f.screen is not None and np.finfo(np.longdouble).nmant >= 63
    each = max(samples // len(f.domain) // (1 if extended else UNSCREENED), 10)
    columns: list[list[Array]] = []
    with np.errstate(over="ignore"):
        for samplers in f.domain:
            columns.append([s(rng, each, kind).astype(kind) for s in samplers])
    args = [np.concatenate(parts) for parts in zip(*columns, strict=True)]
    keep = np.isfinite(args).all(axis=0)
    args = [a[keep] for a in args]
    found = evaluated(f, args, dtype, target)
    top, where = 0.0, (0.0,) * len(args)
    with mpmath.workprec(MPMATH_BITS):
        for k in suspects(f, args, found, dtype, JUDGED):
            given = tuple(a[k] for a in args)
            error = judged(f, tuple(v[k] for v in found), given, dtype)
            if error > top:
                top, where = error, tuple(float(v) for v in given)
    return top, where
