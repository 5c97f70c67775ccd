"""Functions of functrans.numpy under transforms: vmap is a loop, derivatives are slopes."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import functrans as ft
import functrans.numpy as fnp
from tests.agreement import disagreement, leaves_of
from tests.numpy_cases import CASES, Case

EACH = 8
"""How many of a function's programs run here, spread evenly over all of them."""

# Their programs' arguments are undefined when shuffled: sorted rows, definite matrices, and shapes
# out of nothing.
NOT_MAPPED = {"searchsorted", "digitize", "empty", "interp", "linalg.cholesky"}
# Where the arguments of their programs lie, they jump or have a kink.
NOT_SMOOTH = {"floor_divide", "remainder", "mod", "fmod", "divmod", "interp", "empty", "modf"}
# Values read one triangle and derivatives take both; vectors turn by phases that LAPACK chooses; a
# rank is cut in the midst of singular values. tests/test_linalg.py has their derivatives.
NOT_UNIQUE = {f"linalg.{name}" for name in ("cholesky", "eigh", "eigvalsh", "eig", "pinv")}


def some(name: str) -> list[Case]:
    """Programs of one function that neither ask for values nor raise."""
    usable = [one for one in CASES[name] if not one.asks and runs(one)]
    return usable[:: max(1, len(usable) // EACH)]


def runs(one: Case) -> bool:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            one.f(fnp, *one.args)
    except (TypeError, ValueError, IndexError, OverflowError):
        return False
    return True


@pytest.mark.parametrize("name", sorted(set(CASES) - NOT_MAPPED))
def test_vmap_is_a_loop(name: str) -> None:
    for one in some(name):
        mapped = [isinstance(a, np.ndarray) and a.size > 0 for a in one.args]
        if any(mapped):
            check_mapped(lambda *xs, one=one: one.f(fnp, *xs), one.args, mapped)


def check_mapped(f: Callable[..., Any], args: tuple[Any, ...], mapped: list[bool]) -> None:
    members = [
        [np.roll(a, k) if m else a for a, m in zip(args, mapped, strict=True)] for k in (0, 1)
    ]
    stacked = [
        np.stack(pair) if m else pair[0]
        for pair, m in zip(zip(*members, strict=True), mapped, strict=True)
    ]
    got = ft.tree.leaves(ft.vmap(f, tuple(0 if m else None for m in mapped))(*stacked))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        each = [leaves_of(f(*xs)) for xs in members]
    wanted = [np.stack(pair) for pair in zip(*each, strict=True)]
    assert disagreement(wanted, got) is None


def is_smooth(one: Case) -> bool:
    """Floating arguments, finite and apart from each other, and finite floating results."""
    arrays = [a for a in one.args if isinstance(a, np.ndarray) and a.dtype.kind in "fc"]
    tied = len(arrays) > 1 and all(
        np.size(a) and np.shape(a) == np.shape(arrays[0]) for a in arrays
    )
    if tied and np.allclose(arrays[0], arrays[1], atol=1e-3):
        return False
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        outs = leaves_of(one.f(fnp, *one.args))
    return all(np.isfinite(a).all() for a in (*arrays, *outs)) and any(
        o.dtype.kind in "fc" for o in outs
    )


@pytest.mark.parametrize("name", sorted(set(CASES) - NOT_SMOOTH - NOT_UNIQUE))
def test_derivatives_are_slopes_and_adjoint_to_each_other(name: str) -> None:
    for one in some(name):
        doubles = [
            isinstance(a, np.ndarray) and a.dtype in (np.float64, np.complex128) for a in one.args
        ]
        if any(doubles) and is_smooth(one):
            check_derivatives(one, doubles)


def check_derivatives(one: Case, doubles: list[bool]) -> None:
    rng = np.random.default_rng(5)
    places = [i for i, d in enumerate(doubles) if d]

    def f(*xs: Any) -> list[Any]:
        args = list(one.args)
        for i, x in zip(places, xs, strict=True):
            args[i] = x
        return [y for y in ft.tree.leaves(one.f(fnp, *args)) if np.dtype(y.dtype).kind in "fc"]

    xs = tuple(one.args[i] for i in places)
    dots = tuple(drawn(rng, x) for x in xs)
    outs, out_dots = ft.jvp(f, xs, dots)
    step = 1e-6
    ahead, behind = (f(*(x + s * d for x, d in zip(xs, dots, strict=True))) for s in (step, -step))
    for mine, b, c in zip(out_dots, ahead, behind, strict=True):
        if mine.dtype.itemsize >= 8 and mine.dtype != np.complex64:
            slope = (np.asarray(b) - np.asarray(c)) / (2 * step)
            scale = max(1.0, float(np.abs(slope).max(initial=0)))
            np.testing.assert_allclose(mine, slope, rtol=2e-4, atol=2e-4 * scale)
    cts = [drawn(rng, y).astype(y.dtype) for y in outs]
    forward = sum(np.real(ct * dot).sum() for ct, dot in zip(cts, out_dots, strict=True))
    back = ft.vjp(f, *xs)[1](cts)
    backward = sum(np.real(bar * dot).sum() for bar, dot in zip(back, dots, strict=True))
    exact = all(y.dtype.itemsize >= 8 and y.dtype != np.complex64 for y in outs)
    np.testing.assert_allclose(forward, backward, rtol=1e-8 if exact else 1e-2, atol=1e-8)


def drawn(rng: np.random.Generator, like: Any) -> Any:
    """Random numbers in the shape of an array, complex ones for a complex array."""
    x = rng.standard_normal(np.shape(like))
    return x + 1j * rng.standard_normal(np.shape(like)) if like.dtype.kind == "c" else x
