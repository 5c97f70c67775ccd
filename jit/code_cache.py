"""Machine code by key: read from disk where it is there, else made, and kept there.

Invariant: what comes from disk is loaded exactly as what was made just now would be.
"""

from __future__ import annotations

import marshal
from collections.abc import Callable
from contextlib import suppress
from typing import Any

from jit import disk_cache
from jit.cache_key import VERSION, key_of
from jit.image import Image
from jit.native import Loadable, Object

COUNTS = {"hits": 0, "compiled": 0}
"""How often this process found code on disk, and how often it compiled."""


def code_of(name: Any, make: Callable[[], Loadable]) -> Loadable:
    """The code that `make` makes. `name`, of plain values, says what it is made from."""
    key = key_of("module", name) if disk_cache.is_on() else None
    found = fetch(key)
    if found is not None:
        with suppress(TypeError):
            return unpacked(found)
    code = make()
    keep(key, packed(code))
    return code


def fetch(key: bytes | None) -> Any:
    """What was kept under a key, as plain values; None where nothing was."""
    found = None if key is None else disk_cache.read(key)
    if found is not None:
        with suppress(EOFError, ValueError, TypeError):
            plain = marshal.loads(found)
            COUNTS["hits"] += 1
            return plain
    COUNTS["compiled"] += 1
    return None


def keep(key: bytes | None, plain: Any) -> None:
    """Keep plain values under a key."""
    if key is not None:
        disk_cache.write(key, marshal.dumps(plain, VERSION))


def packed(code: Loadable) -> tuple[Any, ...]:
    """Code as plain values."""
    if isinstance(code, Image):
        return (code.code, code.data, code.size, code.words, code.imports, code.exports)
    return (code.code,)


def unpacked(plain: Any) -> Loadable:
    """The code that was packed."""
    return Object(*plain) if len(plain) == 1 else Image(*plain)
