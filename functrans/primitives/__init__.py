"""Primitives: what exists, one file per family; `ALL` holds every record by name."""

from __future__ import annotations

from types import ModuleType

from functrans.ir import Primitive
from functrans.primitives import (
    callbacks,
    collective,
    contraction,
    effects,
    elementwise,
    indexing,
    ordering,
    recurrence,
    reduction,
    structural,
    windows,
)

MODULES: tuple[ModuleType, ...] = (
    structural,
    windows,
    elementwise,
    recurrence,
    reduction,
    indexing,
    contraction,
    ordering,
    collective,
    effects,
    callbacks,
)


def _records() -> dict[str, Primitive]:
    found: dict[str, Primitive] = {}
    for module in MODULES:
        for value in vars(module).values():
            if isinstance(value, Primitive):
                found[value.name] = value
    return found


ALL: dict[str, Primitive] = _records()
