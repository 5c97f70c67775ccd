"""How loads and stores of one or many lanes are written, by the way the offset moves.

`Place` describes the addresses: the offset of lane 0 and a constant stride between lanes, or a
vector of offsets. No lane that a mask switches off touches memory.
"""

from __future__ import annotations

from dataclasses import dataclass

from jit.conversions import const, from_memory, to_memory
from jit.loop_ir.nodes import ITEMSIZE, DType
from jit.vectors import (
    Writer,
    indices,
    mangled,
    memory,
    register,
    steps,
    vector,
)


@dataclass(slots=True)
class Place:
    """Elements of type `dtype` after `base`; `offsets` (i64 lanes) counts where stride is None."""

    dtype: DType
    base: str
    first: str
    stride: int | None
    offsets: str = ""

    @property
    def scalar(self) -> str:
        """The memory type of an element."""
        return memory(self.dtype, 1)

    @property
    def align(self) -> int:
        """All that is known of an address."""
        return ITEMSIZE[self.dtype]

    def vector_offsets(self, w: Writer, lanes: int) -> str:
        """The offset of each lane."""
        if self.stride is None:
            return self.offsets
        kind = vector("i64", lanes)
        start = w.spread("i64", self.first, lanes)
        return w(f"add {kind} {start}, {steps(lanes, self.stride)}") if self.stride else start


def address(w: Writer, place: Place, offset: str) -> str:
    """A pointer to one element."""
    if offset == "0":
        return place.base
    return w(f"getelementptr {place.scalar}, ptr {place.base}, i64 {offset}")


def load_scalar(w: Writer, place: Place, where: str | None, other: str) -> str:
    """One element; where `where` is false element 0 is read instead and not used."""
    offset = place.first
    if where is not None:
        offset = w(f"select i1 {where}, i64 {offset}, i64 0")
    pointer = address(w, place, offset)
    found = w(f"load {place.scalar}, ptr {pointer}, align {place.align}")
    found = from_memory(w, place.dtype, 1, found)
    if where is None:
        return found
    kind = register(place.dtype, 1)
    return w(f"select i1 {where}, {kind} {found}, {kind} {other}")


def store_scalar(w: Writer, place: Place, value: str, where: str | None) -> None:
    """One element, behind a branch when there is a condition."""
    done = ""
    if where is not None:
        todo, done = w.fresh("store"), w.fresh("stored")
        w.branch(where, todo, done)
        w.open(todo)
    pointer = address(w, place, place.first)
    value = to_memory(w, place.dtype, 1, value)
    w.do(f"store {place.scalar} {value}, ptr {pointer}, align {place.align}")
    if where is not None:
        w.jump(done)
        w.open(done)


def has_masked_moves(w: Writer, dtype: DType) -> bool:
    """Whether masked moves of contiguous elements are instructions."""
    return w.target.masks or ("avx2" in w.target.present and ITEMSIZE[dtype] >= 4)


def load_vector(w: Writer, place: Place, lanes: int, mask: str | None, other: str) -> str:
    """A vector of elements; lanes outside the mask give `other`."""
    if place.stride == 1 and (mask is None or is_literal(mask) or has_masked_moves(w, place.dtype)):
        found = load_run(w, place, place.first, lanes, mask)
    elif place.stride == -1 and mask is None:
        first = w(f"add i64 {place.first}, {1 - lanes}")
        kind = memory(place.dtype, lanes)
        run = load_run(w, place, first, lanes, None)
        back = indices(range(lanes - 1, -1, -1))
        found = w(f"shufflevector {kind} {run}, {kind} poison, {back}")
    elif w.target.masks and ITEMSIZE[place.dtype] >= 4:
        found = gather(w, place, lanes, mask)
    else:
        found = load_lanes(w, place, lanes, mask)
    found = from_memory(w, place.dtype, lanes, found)
    if mask is None or not other:
        return found
    kind = register(place.dtype, lanes)
    return w(f"select {vector('i1', lanes)} {mask}, {kind} {found}, {kind} {other}")


def is_literal(mask: str) -> bool:
    """Whether a mask is known now: then a masked move needs no test of its lanes."""
    return not mask.startswith("%")


def load_run(w: Writer, place: Place, first: str, lanes: int, mask: str | None) -> str:
    """Contiguous elements in memory form."""
    kind, pointer = memory(place.dtype, lanes), address(w, place, first)
    if mask is None:
        return w(f"load {kind}, ptr {pointer}, align {place.align}")
    name = f"llvm.masked.load.{mangled(place.scalar, lanes)}.p0"
    flags = vector("i1", lanes)
    w.declares.add(f"declare {kind} @{name}(ptr, {flags}, {kind})")
    passed = f"ptr align {place.align} {pointer}, {flags} {mask}, {kind} zeroinitializer"
    return w(f"call {kind} @{name}({passed})")


def pointers(w: Writer, place: Place, lanes: int) -> str:
    """The address of each lane."""
    offsets = place.vector_offsets(w, lanes)
    kind = vector("i64", lanes)
    return w(f"getelementptr {place.scalar}, ptr {place.base}, {kind} {offsets}")


def gather(w: Writer, place: Place, lanes: int, mask: str | None) -> str:
    """Elements from anywhere by one instruction, in memory form."""
    kind, flags, where = memory(place.dtype, lanes), vector("i1", lanes), vector("ptr", lanes)
    name = f"llvm.masked.gather.{mangled(place.scalar, lanes)}.{mangled('ptr', lanes)}"
    w.declares.add(f"declare {kind} @{name}({where}, {flags}, {kind})")
    active = mask if mask is not None else const("bool", True, lanes)
    aimed = pointers(w, place, lanes)
    passed = f"{where} align {place.align} {aimed}, {flags} {active}, {kind} zeroinitializer"
    return w(f"call {kind} @{name}({passed})")


def lane_offset(w: Writer, place: Place, lanes: int, k: int) -> str:
    """The offset of lane k."""
    if place.stride is None:
        return w.lane(vector("i64", lanes), place.offsets, k)
    return place.first if k == 0 else w(f"add i64 {place.first}, {k * place.stride}")


def load_lanes(w: Writer, place: Place, lanes: int, mask: str | None) -> str:
    """Elements from anywhere one by one, in memory form; masked lanes read element 0."""
    if mask is not None:
        kind = vector("i64", lanes)
        offsets = place.vector_offsets(w, lanes)
        zero = const("i64", 0, lanes)
        safe = w(f"select {vector('i1', lanes)} {mask}, {kind} {offsets}, {kind} {zero}")
        place = Place(place.dtype, place.base, "", None, safe)
    kind, result = memory(place.dtype, lanes), "poison"
    for k in range(lanes):
        pointer = address(w, place, lane_offset(w, place, lanes, k))
        value = w(f"load {place.scalar}, ptr {pointer}, align {place.align}")
        result = w(f"insertelement {kind} {result}, {place.scalar} {value}, i64 {k}")
    return result


def store_vector(w: Writer, place: Place, lanes: int, value: str, mask: str | None) -> None:
    """A vector of elements; lanes outside the mask are left alone."""
    value = to_memory(w, place.dtype, lanes, value)
    kind, flags = memory(place.dtype, lanes), vector("i1", lanes)
    if place.stride == 1 and mask is None:
        pointer = address(w, place, place.first)
        w.do(f"store {kind} {value}, ptr {pointer}, align {place.align}")
    elif place.stride == 1 and mask and (is_literal(mask) or has_masked_moves(w, place.dtype)):
        pointer = address(w, place, place.first)
        name = f"llvm.masked.store.{mangled(place.scalar, lanes)}.p0"
        w.declares.add(f"declare void @{name}({kind}, ptr, {flags})")
        w.do(
            f"call void @{name}({kind} {value}, ptr align {place.align} {pointer}, {flags} {mask})"
        )
    elif w.target.masks and ITEMSIZE[place.dtype] >= 4:
        scatter(w, place, lanes, value, mask)
    else:
        store_lanes(w, place, lanes, value, mask)


def scatter(w: Writer, place: Place, lanes: int, value: str, mask: str | None) -> None:
    """Elements to anywhere by one instruction; a later lane wins over an earlier one."""
    kind, flags, where = memory(place.dtype, lanes), vector("i1", lanes), vector("ptr", lanes)
    name = f"llvm.masked.scatter.{mangled(place.scalar, lanes)}.{mangled('ptr', lanes)}"
    w.declares.add(f"declare void @{name}({kind}, {where}, {flags})")
    active = mask if mask is not None else const("bool", True, lanes)
    aimed = pointers(w, place, lanes)
    w.do(
        f"call void @{name}({kind} {value}, {where} align {place.align} {aimed}, {flags} {active})"
    )


def store_lanes(w: Writer, place: Place, lanes: int, value: str, mask: str | None) -> None:
    """Elements to anywhere one by one, each behind its bit of the mask."""
    kind = memory(place.dtype, lanes)
    for k in range(lanes):
        done = ""
        if mask is not None:
            bit = w.lane(vector("i1", lanes), mask, k)
            todo, done = w.fresh("store"), w.fresh("stored")
            w.branch(bit, todo, done)
            w.open(todo)
        pointer = address(w, place, lane_offset(w, place, lanes, k))
        element = w.lane(kind, value, k)
        w.do(f"store {place.scalar} {element}, ptr {pointer}, align {place.align}")
        if mask is not None:
            w.jump(done)
            w.open(done)
