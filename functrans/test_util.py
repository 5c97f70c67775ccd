"""Testing derivatives: check_grads compares both modes, to any order, with finite differences."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from functrans import tree
from functrans.api.forward import jvp
from functrans.api.reverse import vjp
from functrans.errors import DtypeError, describe, name_of
from functrans.ir import aval_of, is_inexact

Function = Callable[..., Any]


def check_grads(
    f: Function,
    args: Sequence[Any],
    order: int,
    modes: Sequence[str] = ("fwd", "rev"),
    atol: float | None = None,
    rtol: float | None = None,
    eps: float | None = None,
) -> None:
    """Raise AssertionError unless the derivatives of f at `args` are right up to `order`.

    Forward mode is compared with a central difference along a random direction; reverse mode by
    the inner product <v, J u> = <J^T v, u>, and so on for the derivative itself. `args` are
    floating arrays or pytrees of them; use float64.

    >>> check_grads(lambda x: x**3, (2.0,), order=3)
    """
    tolerance = (1e-6 if atol is None else atol, 1e-4 if rtol is None else rtol)
    _check(f, tuple(args), order, tuple(modes), tolerance, 1e-5 if eps is None else eps, 0)


def _check(
    f: Function,
    args: tuple[Any, ...],
    order: int,
    modes: tuple[str, ...],
    tolerance: tuple[float, float],
    eps: float,
    seed: int,
) -> None:
    rng = np.random.default_rng(seed)
    direction = tree.map(lambda x: _random_like(x, rng), args)
    if "fwd" in modes:
        _check_jvp(f, args, direction, tolerance, eps)
        if order > 1:
            pushed = _named(lambda *xs: jvp(f, xs, direction)[1], f"jvp of {name_of(f)}")
            _check(pushed, args, order - 1, modes, tolerance, eps, seed + 1)
    if "rev" in modes:
        bar = _check_vjp(f, args, direction, tolerance, rng)
        if order > 1:
            pulled = _named(lambda *xs: vjp(f, *xs)[1](bar), f"vjp of {name_of(f)}")
            _check(pulled, args, order - 1, modes, tolerance, eps, seed + 2)


def _named(f: Function, name: str) -> Function:
    f.__name__ = name
    return f


def _random_like(x: Any, rng: np.random.Generator) -> Any:
    aval = aval_of(x)
    if not is_inexact(aval.dtype):
        raise DtypeError(
            f"check_grads: arguments must be floating, but got {describe(x)}. Convert with "
            "astype(float), or capture it."
        )
    draw: Any = rng.standard_normal(aval.shape)
    if aval.dtype.kind == "c":
        draw = draw + 1j * rng.standard_normal(aval.shape)
    return np.asarray(draw, aval.dtype)[()] if not aval.weak else float(draw)


def _check_jvp(
    f: Function,
    args: tuple[Any, ...],
    direction: tuple[Any, ...],
    tolerance: tuple[float, float],
    eps: float,
) -> None:
    _, tangent = jvp(f, args, direction)
    ahead = f(*tree.map(lambda x, d: x + eps * d, args, direction))
    behind = f(*tree.map(lambda x, d: x - eps * d, args, direction))
    slope = tree.map(lambda a, b: (np.asarray(a) - np.asarray(b)) / (2 * eps), ahead, behind)
    for (path, got), want in zip(
        tree.flatten_with_path(tangent)[0], tree.leaves(slope), strict=True
    ):
        _require_close(got, want, tolerance, f"forward mode of {name_of(f)}{tree.keystr(path)}")


def _check_vjp(
    f: Function,
    args: tuple[Any, ...],
    direction: tuple[Any, ...],
    tolerance: tuple[float, float],
    rng: np.random.Generator,
) -> Any:
    """<bar, J u> = <J^T bar, u>; returns the random cotangent."""
    _, tangent = jvp(f, args, direction)
    result, pullback = vjp(f, *args)
    bar = tree.map(lambda y: _random_like(y, rng), result)
    pulled = pullback(bar)
    _require_close(
        _inner(pulled, direction), _inner(bar, tangent), tolerance, f"reverse mode of {name_of(f)}"
    )
    return bar


def _inner(xs: Any, ys: Any) -> Any:
    pairs = zip(tree.leaves(xs), tree.leaves(ys), strict=True)
    return sum(np.sum(np.multiply(x, y)) for x, y in pairs)


def _require_close(got: Any, want: Any, tolerance: tuple[float, float], what: str) -> None:
    atol, rtol = tolerance
    np.testing.assert_allclose(
        np.asarray(got), np.asarray(want), rtol=rtol, atol=atol, err_msg=f"check_grads: {what}"
    )
