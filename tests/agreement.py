"""Runs one program with NumPy and staged by functrans, and says where the two disagree."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import Any

import numpy as np

import functrans as ft
import functrans.numpy as fnp
from functrans.bind import eval_jaxpr

TOLERANCE = {2: 2e-3, 4: 1e-5, 8: 1e-11, 16: 1e-11}
ERRORS = (OverflowError, IndexError, TypeError, ValueError)


def staged(f: Callable[..., Any], *args: Any) -> list[Any]:
    """The leaves of f's result, staged on abstract arguments and evaluated by NumPy."""
    closed = ft.make_jaxpr(f)(*args)
    return eval_jaxpr(closed.jaxpr, [*closed.consts, *ft.tree.leaves(args)])


def traced(f: Callable[..., Any], *args: Any) -> list[Any]:
    """The leaves of f's result under a transform that lets tracers be asked for their values."""
    return ft.tree.leaves(ft.no_grad(f)(*args))


def outcome(run: Callable[[], Any]) -> Any:
    """What a program gives: the leaves of its result, or the error it raises."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return ft.tree.leaves(run())
    except ERRORS as error:
        return error


def disagreement(wanted: Any, got: Any) -> str | None:
    """How two outcomes differ, None where they agree in values, dtypes, shapes or kind of error."""
    if isinstance(wanted, Exception) or isinstance(got, Exception):
        return _error_disagreement(wanted, got)
    if len(wanted) != len(got):
        return f"{len(wanted)} results, but got {len(got)}"
    for one, other in zip(map(np.asarray, wanted), map(np.asarray, got), strict=True):
        if (one.shape, one.dtype) != (other.shape, other.dtype):
            return f"{one.dtype}{one.shape}, but got {other.dtype}{other.shape}"
        size = TOLERANCE[one.dtype.itemsize] if one.dtype.kind in "fc" else 0
        size = 1e-5 if one.dtype == np.complex64 else size
        if not np.allclose(one, other, rtol=size, atol=size, equal_nan=True):
            return f"values {one.ravel()[:6]}, but got {other.ravel()[:6]}"
    return None


def _error_disagreement(wanted: Any, got: Any) -> str | None:
    kinds = [next((k for k in ERRORS if isinstance(e, k)), None) for e in (wanted, got)]
    return None if kinds[0] is kinds[1] is not None else f"{wanted!r}, but got {got!r}"


def compare(f: Callable[..., Any], *args: Any, reference: Callable[..., Any] | None = None) -> None:
    """Assert that `f(numpy, *args)` and the staged `f(functrans.numpy, *args)` agree."""
    wanted = outcome(lambda: f(np, *args) if reference is None else reference(*args))
    got = outcome(lambda: staged(lambda *xs: f(fnp, *xs), *args))
    found = disagreement(wanted, got)
    assert found is None, f"{found} for {[ft.errors.describe(a) for a in args]}"


def leaves_of(result: Any) -> list[np.ndarray[Any, Any]]:
    """The leaves of a result as arrays."""
    return [np.asarray(leaf) for leaf in ft.tree.leaves(result)]
