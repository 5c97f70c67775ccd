"""Key paths: the steps from the root of a pytree to one of its leaves, and how they are printed."""

from __future__ import annotations

from collections.abc import Hashable
from typing import Any, TypeAlias


class DictKey:
    """The step of a key path into a dictionary: `['a']`."""

    __slots__ = ("key",)
    __match_args__ = ("key",)

    def __init__(self, key: Hashable) -> None:
        self.key = key

    def __str__(self) -> str:
        return f"[{self.key!r}]"

    def __repr__(self) -> str:
        return f"{type(self).__name__}(key={self.key!r})"

    def __eq__(self, other: object) -> bool:
        return type(other) is type(self) and other.key == self.key  # type: ignore[attr-defined]

    def __hash__(self) -> int:
        return hash((type(self), self.key))


class FlattenedIndexKey(DictKey):
    """The step into a registered class that names no keys: `[<flat index 0>]`."""

    __slots__ = ()
    key: int

    def __str__(self) -> str:
        return f"[<flat index {self.key}>]"


class SequenceKey:
    """The step of a key path into a tuple or list: `[0]`."""

    __slots__ = ("idx",)
    __match_args__ = ("idx",)

    def __init__(self, idx: int) -> None:
        self.idx = idx

    def __str__(self) -> str:
        return f"[{self.idx}]"

    def __repr__(self) -> str:
        return f"SequenceKey(idx={self.idx})"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, SequenceKey) and other.idx == self.idx

    def __hash__(self) -> int:
        return hash((SequenceKey, self.idx))


class GetAttrKey:
    """The step of a key path into a field of a namedtuple, dataclass or registered class: `.w`."""

    __slots__ = ("name",)
    __match_args__ = ("name",)

    def __init__(self, name: str) -> None:
        self.name = name

    def __str__(self) -> str:
        return f".{self.name}"

    def __repr__(self) -> str:
        return f"GetAttrKey(name={self.name!r})"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, GetAttrKey) and other.name == self.name

    def __hash__(self) -> int:
        return hash((GetAttrKey, self.name))


KeyPath: TypeAlias = tuple[Any, ...]


def keystr(path: KeyPath, *, simple: bool = False, separator: str = "") -> str:
    """A key path as Python code that follows the tree: `['a'][0].w`.

    With `simple`, only the keys themselves, joined by `separator`: `a/0/w`.
    """
    return separator.join(_simple_key(k) if simple else str(k) for k in path)


def _simple_key(key: Any) -> str:
    for attribute in ("key", "idx", "name"):
        if hasattr(key, attribute):
            return str(getattr(key, attribute))
    return str(key)
