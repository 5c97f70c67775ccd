"""How native code recognises a call: one test for each argument and each object inside it."""

from __future__ import annotations

import enum
import types
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from jit.entry.layout import NATIVE_FLAGS, OWN_FLAGS, SCALARS
from jit.entry.tables import MOST_OBJECTS, Unsuited, Words, is_namedtuple
from jit.entry.words import Test

MIN_INT, MAX_INT = -(1 << 63), (1 << 63) - 1
BY_IDENTITY = (type, types.FunctionType, types.BuiltinFunctionType, types.ModuleType, enum.Enum)
NUMPY_SCALARS = frozenset(np.dtype(char).type for char in SCALARS)


class Guards:
    """The guards of one record, in the order in which they run."""

    def __init__(
        self, words: Words, captured: int, count: int, inputs: Sequence[tuple[Any, np.dtype[Any]]]
    ) -> None:
        self.words = words
        self.inputs = inputs
        self.rows: list[list[int]] = []
        self.slots = captured + count
        self.captured = captured
        self.customs = False
        self.donated: set[int] = set()
        self.ranges: dict[int, list[np.dtype[Any]]] = {}

    def children(self, count: int) -> int:
        first, self.slots = self.slots, self.slots + count
        if self.slots > MOST_OBJECTS:
            raise Unsuited("too many objects")
        return first

    def node(self, definition: Any, value: Any, slot: int, leaf: int) -> None:
        """Guards for a value of this structure; its leaves are numbered from `leaf`."""
        data = definition.node_data()
        if data is None:
            self.leaf(value, slot, leaf)
            return
        cls = data[0]
        nested = definition.children()
        count = len(nested)
        if cls is type(None):
            self.rows.append([Test.IDENTICAL, slot, id(None)])
        elif cls is dict:
            self.dictionary(definition, value, slot, leaf)
        elif cls in (tuple, list) or is_namedtuple(cls):
            kind = Test.LIST if cls is list else Test.TUPLE
            first = self.children(count)
            self.rows.append([kind, slot, self.words.keep(cls), count, first])
            self.sequence(nested, list(value), first, leaf)
        else:
            taken = taker(definition)
            first = self.children(count)
            self.customs = True
            self.rows.append(
                [Test.CUSTOM, slot, self.words.keep(cls), count, first, self.words.keep(taken)]
            )
            self.sequence(nested, list(taken(value)), first, leaf)

    def sequence(self, nested: Sequence[Any], values: Sequence[Any], first: int, leaf: int) -> None:
        for k, (child, value) in enumerate(zip(nested, values, strict=True)):
            self.node(child, value, first + k, leaf)
            leaf += child.num_leaves

    def dictionary(self, definition: Any, value: dict[Any, Any], slot: int, leaf: int) -> None:
        """The children lie in the order of insertion; leaves are numbered by sorted key."""
        keys = tuple(value)
        if not all(type(k) in (str, int, bytes) for k in keys):
            raise Unsuited("keys that natively cannot be compared")
        first = self.children(len(keys))
        self.rows.append([Test.DICT, slot, 0, len(keys), first, self.words.objects(keys)])
        places = {k: first + i for i, k in enumerate(keys)}
        for key, child in zip(definition.node_data()[1], definition.children(), strict=True):
            self.node(child, value[key], places[key], leaf)
            leaf += child.num_leaves

    def leaf(self, value: Any, slot: int, number: int) -> None:
        """The guard of one input; `number` counts the leaves of the arguments."""
        target = self.captured + number
        kind = type(value)
        if (np.shape(value), np.asarray(value).dtype) != self.inputs[target]:
            raise Unsuited("an input of another type than the argument")
        if kind is np.ndarray:
            self.array(value, slot, target, number in self.donated)
        elif kind is int:
            low, high = MIN_INT, MAX_INT
            for dtype in self.ranges.get(number, ()):
                info = np.iinfo(dtype)
                low, high = max(low, int(info.min)), min(high, int(info.max))
            self.rows.append([Test.INT, slot, 0, low, target, high])
        elif kind is bool:
            self.rows.append([Test.BOOL, slot, 0, 0, target])
        elif kind in (float, complex) or kind in NUMPY_SCALARS:
            self.rows.append([Test.BOXED, slot, self.words.keep(kind), 0, target])
        else:
            raise Unsuited(f"a leaf of type {kind.__name__}")

    def array(self, value: np.ndarray[Any, Any], slot: int, target: int, taken: bool) -> None:
        if not value.dtype.isnative or value.dtype.kind not in "biufc":
            raise Unsuited("an unusual dtype")
        flags = OWN_FLAGS if taken else NATIVE_FLAGS
        dims = self.words.table(value.shape)
        dtype = self.words.keep(value.dtype)
        self.rows.append([Test.ARRAY, slot, dtype, value.ndim, target, dims, flags, value.nbytes])

    def static(self, value: Any, slot: int) -> None:
        """The guard of a static argument."""
        if type(value) in (int, str, bytes):
            self.rows.append([Test.EQUAL, slot, self.words.keep(value)])
        elif never_changes(value):
            self.rows.append([Test.IDENTICAL, slot, self.words.keep(value)])
        else:
            raise Unsuited("a static argument whose equality is its own")


def never_changes(value: Any) -> bool:
    """Does an object stay equal to itself, and mean the same, for ever?"""
    kind = type(value)
    if value is None or kind in (bool, float, complex):
        return True
    if kind in (int, str, bytes):
        return True
    if kind in (tuple, frozenset):
        return all(map(never_changes, value))
    return isinstance(value, BY_IDENTITY) or kind.__hash__ is object.__hash__


def taker(definition: Any) -> Callable[[Any], tuple[Any, ...]]:
    """Takes a node of this very structure apart; raises for one with other static data."""
    kind, key, order = definition.kind, definition.key, definition.order
    count = len(definition.children())

    def take(value: Any) -> tuple[Any, ...]:
        children, aux, found = kind.take(value)
        if len(children) != count or found != order or kind.compared(aux) != key:
            raise LookupError
        return tuple(children)

    return take
