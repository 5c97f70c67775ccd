"""Absent names: asking for one that NumPy has, and functrans.numpy has not, says so."""

from __future__ import annotations

from types import ModuleType


def absence(module: str, name: str, counterpart: ModuleType) -> AttributeError:
    """The error for a name that a module does not have."""
    if name.startswith("_") or not hasattr(counterpart, name):
        return AttributeError(f"module {module!r} has no attribute {name!r}")
    return AttributeError(
        f"{module} has no {name}: it cannot be traced, differentiated or compiled yet. On arrays "
        f"that are not traced use {counterpart.__name__}.{name}."
    )
