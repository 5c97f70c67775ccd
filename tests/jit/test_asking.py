"""What a body in registers asks for, where elements stay in a row, and sums of products."""

from __future__ import annotations

from typing import Any

import numpy as np

import functrans as ft
import functrans.numpy as fnp
from functrans.primitives.contraction import dot_general_p
from jit.lowering.asking import DEEP, Body, candidates, readable
from jit.lowering.contraction import summed_impl
from jit.lowering.domain import Domain
from jit.lowering.index import Dynamic, Index, constant


def test_an_index_known_at_run_time_may_name_what_is_inside() -> None:
    index = Index(0, {Dynamic("i", (-3, 9), constant(0)): 1})
    assert list(candidates(None, index, (4,))) == [constant(k) for k in range(4)]
    index = Index(0, {Dynamic("i", (1, 2), constant(0)): 1})
    assert list(candidates(None, index, (4,))) == [constant(1), constant(2)]


def test_so_many_index_functions_are_looked_through() -> None:
    def f(x: Any) -> Any:
        for k in range(DEEP + 4):
            x = fnp.flip(x, k % 2)
        return x

    body = Body(ft.make_jaxpr(f)(np.ones((3, 4))).jaxpr)
    assert len(body.eqns) == DEEP + 4
    assert len(readable(body, frozenset(body.invars))) == 1 + DEEP


def test_what_stays_in_a_row() -> None:
    domain = Domain.of_fold((4, 5), (False, True))
    assert domain.in_row(domain.full)
    assert domain.in_row(domain.row * 5)
    assert not domain.in_row(domain.full + 1)
    assert not domain.in_row(domain.full - 5)
    assert not domain.in_row(domain.column)


def test_sums_of_products_as_numpy_adds_them() -> None:
    a, b = np.arange(6.0).reshape(2, 3), np.arange(12.0).reshape(3, 4)
    product = (dot_general_p, {"contract": ((1,), (0,)), "batch": ((), ())})
    (found,) = summed_impl(a, b, a + 1, b, terms=(product, product))
    np.testing.assert_array_equal(found, a @ b + (a + 1) @ b)
