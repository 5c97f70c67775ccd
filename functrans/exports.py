"""Exports on demand: names of a module that are imported from where they are made once asked for.

Half of the library serves transforms and loops that a given program does without; what is not named
is not imported.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable, Iterable, Mapping
from types import ModuleType
from typing import Any


def on_demand(module: ModuleType, homes: Mapping[str, Iterable[str]]) -> Callable[[str], Any]:
    """The `__getattr__` (PEP 562) of a module that exports names[i] of the module homes[names].

    A name that was asked for is an attribute from then on. Raises AttributeError for others.

    >>> import sys
    >>> find = on_demand(sys.modules["functrans"], {"math": ("tau",)})
    >>> find("tau") > 6
    True
    """
    found = {name: home for home, names in homes.items() for name in names}

    def find(name: str) -> Any:
        home = found.get(name)
        if home is None:
            raise AttributeError(f"module {module.__name__!r} has no attribute {name!r}")
        value = getattr(importlib.import_module(home), name)
        setattr(module, name, value)
        return value

    return find
