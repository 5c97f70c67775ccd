"""Matrices in Fortran order are read where they lie, with the bits of a copy in C order."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import functrans as ft
import functrans.numpy as fnp
from jit.dispatch import Dispatcher
from jit.programs import executable_for

RNG = np.random.default_rng(11)


def dispatcher(f: Callable[..., Any], *args: Any) -> Dispatcher:
    closed = ft.make_jaxpr(f)(*args)
    assert not closed.consts
    return executable_for(closed.jaxpr).dispatch


def bits(values: Any) -> list[bytes]:
    return [np.asarray(x).tobytes() for x in values]


def turned(f: Callable[..., Any], args: list[Any], places: tuple[int, ...]) -> Dispatcher | None:
    """The program that is used for arguments in Fortran order; all results have the same bits."""
    run = dispatcher(f, *args)
    expected = bits(run(args))
    given = [np.asfortranarray(x) if k in places else x for k, x in enumerate(args)]
    for _ in range(3):
        assert bits(run(given)) == expected
        assert all(x.flags.f_contiguous for k, x in enumerate(given) if k in places)
    found = run.turned(places)
    if found is not None:
        turns = [x.T if k in places else x for k, x in enumerate(given)]
        assert bits(found(turns)) == expected
    return found


SIZES = [(300, 200, 100), (257, 129, 65), (64, 700, 33), (1000, 40, 12), (130, 131, 2)]


@pytest.mark.parametrize("dtype", ["f4", "f8", "c16"])
@pytest.mark.parametrize(("m", "k", "n"), SIZES)
@pytest.mark.parametrize("places", [(0,), (1,), (0, 1)])
def test_products(m: int, k: int, n: int, dtype: str, places: tuple[int, ...]) -> None:
    x, y = RNG.standard_normal((m, k)).astype(dtype), RNG.standard_normal((k, n)).astype(dtype)
    places = tuple(p for p in places if (x, y)[p].nbytes >= 1 << 15)
    if not places:
        return
    assert turned(lambda x, y: x @ y, [x, y], places) is not None
    turned(lambda x, y: (x.T * 1.0).T @ y, [x, y], places)


def test_a_network_and_its_gradient() -> None:
    def loss(weight: Any, x: Any) -> Any:
        hidden = fnp.tanh(x @ weight)
        return fnp.sum(hidden * hidden)

    args = [RNG.standard_normal((200, 150)), RNG.standard_normal((300, 200))]
    f = ft.value_and_grad(loss, argnums=(0, 1))
    flat = lambda w, x: ft.tree.leaves(f(w, x))
    assert turned(flat, args, (0, 1)) is not None
    assert turned(flat, args, (1,)) is not None


def test_elements() -> None:
    x, y = RNG.standard_normal((2, 301, 157))
    assert turned(lambda x, y: fnp.exp(-x * x) * fnp.sin(y), [x, y], (0,)) is not None
    assert turned(lambda x, y: (x + y.T[:157, :157].sum() * 0, x > y), [x, y], (0,)) is None


def test_sums_of_elements_are_made_on_copies() -> None:
    """The order of a sum is that of the memory it walks along."""
    x = RNG.standard_normal((300, 157))
    assert turned(lambda x: fnp.sum(x * x), [x], (0,)) is None
    assert turned(lambda x: fnp.sum(fnp.sin(x), axis=0), [x], (0,)) is None
    assert turned(lambda x: (x.T @ x, fnp.sum(x)), [x], (0,)) is None
    assert turned(lambda x: x @ fnp.ones(157), [x], (0,)) is None


def test_what_does_not_pay_or_cannot_be_is_copied() -> None:
    small = RNG.standard_normal((20, 20))
    run = dispatcher(lambda x: x @ x, small)
    assert run.in_fortran_order([np.asfortranarray(small)], [0]) == ()
    large = RNG.standard_normal((200, 200))
    run = dispatcher(lambda x: x @ x, large)
    assert run.in_fortran_order([np.asfortranarray(large)], [0]) == (0,)
    assert run.in_fortran_order([large[::2]], [0]) == ()
    assert run.in_fortran_order([large.astype(">f8").T], [0]) == ()
    assert run.in_fortran_order([3.0], [0]) == ()


def test_donated_matrices_stay_theirs() -> None:
    f = ft.jit(lambda x, y: x + y @ y, donate_argnums=0)
    x, y = RNG.standard_normal((2, 200, 200))
    expected = x + y @ y
    for _ in range(3):
        given = np.asfortranarray(x)
        np.testing.assert_allclose(f(given, np.asfortranarray(y)), expected)


def test_through_jit() -> None:
    f = ft.jit(lambda w, x: fnp.tanh(x @ w))
    w, x = RNG.standard_normal((200, 100)), RNG.standard_normal((300, 200))
    expected = f(w, x).tobytes()
    for _ in range(3):
        assert f(np.asfortranarray(w), x).tobytes() == expected
        assert f(w.T.copy().T, x.T.copy().T).tobytes() == expected
