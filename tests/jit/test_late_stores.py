"""Stores come after the loads of elements beside theirs, and never after one of their own."""

from __future__ import annotations

import numpy as np

import functrans as ft
import functrans.numpy as fnp
from jit.loop_ir.builder import Builder
from jit.loop_ir.nodes import Load, Stmt, Store
from jit.passes.late_stores import stores_last


def pairs_of(first: int, second: int) -> list[Stmt]:
    """An element of a pair doubled, then another, in the order they are written."""
    b = Builder("pairs")
    x = b.output("x", "f64", 20)
    with b.kernel("pairs"), b.for_(10, "serial") as loop:
        for k in (first, second):
            place = b.add(b.mul(loop.i, 2), k)
            b.store(x, place, b.mul(b.load(x, place), 2.0))
        return list(b.scopes[-1].block.stmts)


def kinds(stmts: list[Stmt]) -> str:
    """The loads (L) and stores (S) in order."""
    return "".join([type(s).__name__[0] for s in stmts if isinstance(s, Load | Store)])


def test_elements_side_by_side_are_loaded_first() -> None:
    stmts = pairs_of(0, 1)
    assert kinds(stmts) == "LSLS"
    assert kinds(stores_last(stmts)) == "LLSS"


def test_an_element_that_was_stored_is_loaded_afterwards() -> None:
    stmts = pairs_of(1, 1)
    assert stores_last(stmts) == stmts


def test_points_are_scaled_where_they_lie() -> None:
    f = ft.jit(lambda x, scale: fnp.cumsum(x, 0) * scale)
    for columns in (2, 3, 4):
        for rows in (1, 2, 15, 16, 17, 100):
            x, scale = np.arange(rows * columns, dtype="f4").reshape(rows, -1), np.arange(columns)
            np.testing.assert_allclose(f(x, scale), np.cumsum(x, 0) * scale)
