"""How native code makes the results of a call: arrays, numbers, and the containers round them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from functrans.extend import Aval
from jit.dispatch import Dispatcher
from jit.entry.tables import MOST_OBJECTS, Unsuited, Words, is_namedtuple
from jit.entry.words import Made, Packed
from jit.runtime.blocks import is_large

PYTHON_NUMBERS = {
    ("f", 8): Made.FLOAT,
    ("i", 8): Made.INT,
    ("b", 1): Made.BOOL,
    ("c", 16): Made.COMPLEX,
}


class Builds:
    """How the results are packed: containers, children first."""

    def __init__(self, words: Words) -> None:
        self.words = words
        self.rows: list[list[int]] = []
        self.places: list[int] = []
        self.size = 1

    def node(self, definition: Any, place: int) -> None:
        data = definition.node_data()
        if data is None:
            self.places.append(place)
            return
        nested = definition.children()
        first, self.size = self.size, self.size + len(nested)
        if self.size > MOST_OBJECTS:
            raise Unsuited("too many objects")
        kind, obj = self.container(definition)
        places = range(first, first + len(nested))
        if kind is Packed.DICT and definition.order is not None:
            places = [first + definition.order.index(key) for key in data[1]]
        for child, target in zip(nested, places, strict=True):
            self.node(child, target)
        self.rows.append([kind, len(nested), first, place, obj])

    def container(self, definition: Any) -> tuple[Packed, int]:
        """The kind of a container, and the object that making it needs."""
        cls, aux = definition.node_data()
        if cls is tuple:
            return Packed.TUPLE, 0
        if cls is list:
            return Packed.LIST, 0
        if cls is type(None):
            return Packed.CONSTANT, id(None)
        if cls is dict:
            return Packed.DICT, self.words.objects(definition.order or aux)
        if is_namedtuple(cls):
            return Packed.NAMEDTUPLE, self.words.keep(cls)
        make, order = definition.kind.make, definition.order
        return Packed.CALL, self.words.keep(lambda *children: make(aux, order, list(children)))


def output_rows(
    words: Words, dispatcher: Dispatcher, avals: Sequence[Aval], places: Sequence[int]
) -> list[list[int]]:
    """What memory each output needs, and what it becomes."""
    rows: list[list[int]] = []
    for j, (aval, place) in enumerate(zip(avals, places, strict=True)):
        dtype = aval.dtype
        taken = dispatcher.taken[j]
        dims, keep = words.table(aval.shape), words.keep(dtype)
        if taken is not None:
            if not dispatcher.in_place[j]:
                raise Unsuited("a result that is copied into the memory given for it")
            kind = Made.TAKEN
        elif aval.shape:
            kind = Made.ARRAY
        elif aval.weak:
            kind = PYTHON_NUMBERS.get((dtype.kind, dtype.itemsize), Made.SCALAR)
            if kind is Made.SCALAR:
                raise Unsuited("a narrow number")
        else:
            kind = Made.SCALAR
        block = kind is Made.ARRAY and is_large(aval.shape, dtype)
        size = aval.size * dtype.itemsize if block else 0
        rows.append([kind, keep, len(aval.shape), dims, taken or 0, place, size])
    return rows
