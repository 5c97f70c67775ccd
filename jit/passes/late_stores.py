"""Moves stores behind loads that come after them: no load waits for a store beside it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from jit.loop_ir.nodes import Const, Load, Op, Stmt, Store, Value


def stores_last(stmts: Sequence[Stmt]) -> list[Stmt]:
    """The same statements, the stores at the end where no load is from where they write.

    On vectors that move every third element of an array, the elements between are loaded right
    after their neighbours were stored, which takes a processor as long as the way to memory.
    """
    stores = [stmt for stmt in stmts if isinstance(stmt, Store)]
    others = [stmt for stmt in stmts if not isinstance(stmt, Store)]
    simple = all(isinstance(stmt, Op | Load) for stmt in others)
    if simple and all(are_apart(store, load) for store, load in loads_behind(stmts)):
        return [*others, *stores]
    return list(stmts)


def loads_behind(stmts: Sequence[Stmt]) -> Iterator[tuple[Store, Load]]:
    """Each store with each load that comes after it."""
    before: list[Store] = []
    for stmt in stmts:
        if isinstance(stmt, Store):
            before.append(stmt)
        elif isinstance(stmt, Load):
            yield from ((store, stmt) for store in before)


def are_apart(store: Store, load: Load) -> bool:
    """Do they reach different elements? Buffers of other names may lie in the same place."""
    (base, at), (other, here) = split(store.offset), split(load.offset)
    return store.buffer.dtype == load.buffer.dtype and base is other and at != here


def split(offset: Value) -> tuple[Value | None, int | float]:
    """An offset as a value and a number that is added to it."""
    match offset:
        case Const(value=number):
            return None, number
        case Op(name="add", args=(base, Const(value=number))):
            return base, number
        case Op(name="add", args=(Const(value=number), base)):
            return base, number
        case _:
            return offset, 0
