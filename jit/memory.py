"""How loads and stores of one or many lanes are written, by the way the offset moves.

`Place` describes the addresses: the offset of lane 0 and a constant stride between lanes, or a
vector of offsets. No lane that a mask switches off touches memory.
"""

from __future__ import annotations

from collections.abc import Container
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

CLOSE = 4
"""Lanes that stand no further apart are moved as whole runs."""
AHEAD = 1024
"""So many bytes ahead of a run in memory that no cache holds the next one is asked for: the
processor's own foresight ends with each page, and is late where a step takes long."""


@dataclass(slots=True)
class Place:
    """Elements of type `dtype` after `base`; `offsets` (i64 lanes) counts where stride is None.

    `far`: the buffer is larger than what caches keep. `streams`: and nothing in this function reads
    it, so that what is stored may pass the caches by. `read`: something in this function does.
    """

    dtype: DType
    base: str
    first: str
    stride: int | None
    offsets: str = ""
    far: bool = False
    streams: bool = False
    read: bool = False

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
        if place.far:
            prefetch_after(w, place, False)
        found = load_run(w, place, place.first, lanes, mask)
    elif place.stride == -1 and mask is None:
        first = w(f"add i64 {place.first}, {1 - lanes}")
        kind = memory(place.dtype, lanes)
        run = load_run(w, place, first, lanes, None)
        back = indices(range(lanes - 1, -1, -1))
        found = w(f"shufflevector {kind} {run}, {kind} poison, {back}")
    elif takes_runs(place, mask) and (mask is None or has_masked_moves(w, place.dtype)):
        found = load_spaced(w, place, lanes, prefix(mask, lanes))
    elif w.target.masks and ITEMSIZE[place.dtype] >= 4:
        found = gather(w, place, lanes, mask)
    else:
        found = load_lanes(w, place, lanes, mask)
    found = from_memory(w, place.dtype, lanes, found)
    if mask is None or not other:
        return found
    kind = register(place.dtype, lanes)
    return w(f"select {vector('i1', lanes)} {mask}, {kind} {found}, {kind} {other}")


def prefetch_after(w: Writer, place: Place, writes: bool) -> None:
    """Ask for the memory that comes after."""
    start = address(w, place, place.first)
    prefetch(w, w(f"getelementptr i8, ptr {start}, i64 {AHEAD}"), writes)


def prefetch(w: Writer, pointer: str, writes: bool) -> None:
    """Ask for memory, to store there if `writes`; an address past the end does no harm."""
    w.declares.add("declare void @llvm.prefetch.p0(ptr, i32 immarg, i32 immarg, i32 immarg)")
    w.do(f"call void @llvm.prefetch.p0(ptr {pointer}, i32 {int(writes)}, i32 3, i32 1)")


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


def takes_runs(place: Place, mask: str | None) -> bool:
    """Are the lanes so close together, and known now, that whole runs of elements are moved?"""
    if place.stride is None or not 2 <= place.stride <= CLOSE:
        return False
    return mask is None or (is_literal(mask) and mask.startswith("<") and "i1 true" in mask)


def prefix(mask: str | None, lanes: int) -> int:
    """How many lanes a literal mask switches on; they are the first ones."""
    return lanes if mask is None else mask.count("true")


def load_spaced(w: Writer, place: Place, lanes: int, count: int) -> str:
    """Every stride-th element from runs that end at the last one wanted, in memory form."""
    assert place.stride is not None
    kind, stride = memory(place.dtype, lanes), place.stride
    last = (count - 1) * stride
    if last < lanes:
        run = load_run(w, place, place.first, lanes, lane_mask(lanes, range(last + 1)))
        picked = indices([k * stride if k < count else 0 for k in range(lanes)])
        return w(f"shufflevector {kind} {run}, {kind} poison, {picked}")
    result = ""
    for number in range(last // lanes + 1):
        start = min(number * lanes, last + 1 - lanes)
        first = w(f"add i64 {place.first}, {start}") if start else place.first
        run = load_run(w, place, first, lanes, None)
        if number == 0:
            result = run
            continue
        before = (lambda k: k * stride) if number == 1 else (lambda k: k)
        picked = indices(
            [
                min(before(k), lanes - 1)
                if k * stride < number * lanes
                else lanes + min(k * stride - start, lanes - 1)
                for k in range(lanes)
            ]
        )
        result = w(f"shufflevector {kind} {result}, {kind} {run}, {picked}")
    return result


def lane_mask(lanes: int, on: Container[int]) -> str:
    """A literal mask."""
    return "<" + ", ".join([f"i1 {'true' if k in on else 'false'}" for k in range(lanes)]) + ">"


def store_spaced(w: Writer, place: Place, lanes: int, value: str, count: int) -> None:
    """Every stride-th element, by masked moves of runs, the last of which ends at the last one."""
    assert place.stride is not None
    kind, stride = memory(place.dtype, lanes), place.stride
    length, done = (count - 1) * stride + 1, 0
    while done < length:
        start = max(min(done, length - lanes), 0)
        reached = range(max(done, start), start + lanes)
        taken = {k * stride - start: k for k in range(count) if k * stride in reached}
        picked = indices([taken.get(k, 0) for k in range(lanes)])
        spread = w(f"shufflevector {kind} {value}, {kind} poison, {picked}")
        first = w(f"add i64 {place.first}, {start}") if start else place.first
        store_run(w, place, first, lanes, spread, lane_mask(lanes, taken))
        done = start + lanes


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
    kind = memory(place.dtype, lanes)
    streams = place.streams and mask is None and can_stream(w, place.dtype, lanes)
    if place.far and place.stride == 1 and not streams:
        prefetch_after(w, place, True)
    if place.stride == 1 and streams:
        stream(w, place, lanes, value)
    elif place.stride == 1 and mask is None:
        pointer = address(w, place, place.first)
        w.do(f"store {kind} {value}, ptr {pointer}, align {place.align}")
    elif mask and is_row_read_too(place, lanes, mask):
        store_pieces(w, place, lanes, value, prefix(mask, lanes))
    elif place.stride == 1 and mask and (is_literal(mask) or has_masked_moves(w, place.dtype)):
        store_run(w, place, place.first, lanes, value, mask)
    elif w.target.masks and takes_runs(place, mask):
        store_spaced(w, place, lanes, value, prefix(mask, lanes))
    elif w.target.masks and ITEMSIZE[place.dtype] >= 4:
        scatter(w, place, lanes, value, mask)
    else:
        store_lanes(w, place, lanes, value, mask)


def can_stream(w: Writer, dtype: DType, lanes: int) -> bool:
    """Are there stores of such vectors that pass the caches by?"""
    size = ITEMSIZE[dtype] * lanes
    fits = size in (16, 32, 64) and size <= w.target.vector_bytes
    return fits and w.target.triple.startswith("x86_64")


def stream(w: Writer, place: Place, lanes: int, value: str) -> None:
    """A whole vector past the caches where its address is aligned, which is all or none of them."""
    kind, pointer = memory(place.dtype, lanes), address(w, place, place.first)
    size = ITEMSIZE[place.dtype] * lanes
    low = w(f"and i64 {w(f'ptrtoint ptr {pointer} to i64')}, {size - 1}")
    past, plain, done = w.fresh("past"), w.fresh("plain"), w.fresh("stored")
    w.branch(w(f"icmp eq i64 {low}, 0"), past, plain)
    w.open(past)
    w.do(f"store {kind} {value}, ptr {pointer}, align {size}, !nontemporal !0")
    w.declares.add("!0 = !{i32 1}")
    w.jump(done)
    w.open(plain)
    w.do(f"store {kind} {value}, ptr {pointer}, align {place.align}")
    w.jump(done)
    w.open(done)
    w.streams = True


def settle(w: Writer) -> None:
    """Other threads see what was stored past the caches before they see what follows."""
    if w.streams:
        w.declares.add("declare void @llvm.x86.sse.sfence()")
        w.do("call void @llvm.x86.sse.sfence()")


def store_run(w: Writer, place: Place, first: str, lanes: int, value: str, mask: str) -> None:
    """Contiguous elements in memory form, where the mask holds."""
    kind, flags, pointer = memory(place.dtype, lanes), vector("i1", lanes), address(w, place, first)
    name = f"llvm.masked.store.{mangled(place.scalar, lanes)}.p0"
    w.declares.add(f"declare void @{name}({kind}, ptr, {flags})")
    w.do(f"call void @{name}({kind} {value}, ptr align {place.align} {pointer}, {flags} {mask})")


def is_row_read_too(place: Place, lanes: int, mask: str) -> bool:
    """Is it the whole of one of several short rows, in an array that this function reads too?"""
    is_row = place.stride == 1 and place.first.startswith("%")
    return is_row and place.read and mask == lane_mask(lanes, range(prefix(mask, lanes)))


def store_pieces(w: Writer, place: Place, lanes: int, value: str, count: int) -> None:
    """The first `count` elements, by whole stores of 8, 4, 2 and 1 of them.

    A masked store is as wide as its vector for the loads that come after it: the next row, read
    from the same array, would wait for it.
    """
    kind, at = memory(place.dtype, lanes), 0
    while at < count:
        size = 1 << (count - at).bit_length() - 1
        piece = w(f"shufflevector {kind} {value}, {kind} poison, {indices(range(at, at + size))}")
        first = w(f"add i64 {place.first}, {at}") if at else place.first
        pointer = address(w, place, first)
        w.do(f"store <{size} x {place.scalar}> {piece}, ptr {pointer}, align {place.align}")
        at += size


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
