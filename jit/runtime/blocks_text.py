"""The LLVM text of recycled blocks: memory that large results own, kept for the next ones.

Invariant: a block is in the table exactly while nobody owns it, and the table, at most SLOTS blocks
from the oldest to the newest, is touched under @lock only. Blocks are mapped and unmapped outside
of it.
"""

from typing import NamedTuple

from jit.names import COLD
from jit.runtime.block_arrays_text import arrays_text

SLOTS = 512
HEADER = 64
"""Bytes before the data: where the mapping starts, and how long it is."""
COLOURS = 16
"""Data starts at one of so many places of a page: arrays read side by side use other cache sets."""
PATIENCE = 5
"""Seconds after which an idle block goes back to the system."""
HUGE_BYTES = 1 << 22
"""From so many bytes on huge pages are asked for."""
EXPORTS = (
    "ft_block_take",
    "ft_block_give",
    "ft_block_trim",
    "ft_block_limit",
    "ft_block_idle",
    "ft_block_mapped",
    "ft_block_forget",
    "ft_block_array",
    "ft_block_handler",
    "ft_block_capsule",
    "ft_block_capsule_name",
)


class System(NamedTuple):
    """What the operating system calls things: MAP_PRIVATE | MAP_ANONYMOUS, SIG_SETMASK, advice."""

    map_flags: int
    set_mask: int
    huge_advice: int  # MADV_HUGEPAGE; 0: there is none


SYSTEMS = {"linux": System(0x22, 2, 14), "darwin": System(0x1002, 3, 0)}
"""The systems that have blocks, by sys.platform."""
IMPORTS = (
    *("mmap", "munmap", "madvise", "memcpy", "memset", "time", "sleep", "sched_yield"),
    *("pthread_create", "pthread_detach", "pthread_sigmask", "sigfillset"),
)


def blocks_text(system: System, patience: int = PATIENCE) -> str:
    """The whole module; idle blocks go back to the system after `patience` seconds."""
    cold = _LOCK + _DROPPING + _MAPPING + _GIVE + _TRIM + arrays_text()
    text = _STATE + _TABLE + _TAKE + cold.replace(") nounwind {", f") {COLD} {{")
    values = {
        "$SLOTS": SLOTS,
        "$LAST": SLOTS - 1,
        "$HEADER": HEADER,
        "$COLOUR_MASK": COLOURS - 1,
        "$COLOUR_STEP": 4096 // COLOURS,
        "$PATIENCE": patience,
        "$HUGE_BYTES": HUGE_BYTES,
        "$MAP_FLAGS": system.map_flags,
        "$SET_MASK": system.set_mask,
        "$HUGE_ADVICE": system.huge_advice,
    }
    for mark in sorted(values, key=len, reverse=True):
        text = text.replace(mark, str(values[mark]))
    return text


_STATE = """
@lock = internal global [32 x i32] zeroinitializer, align 128
@places = internal global [$SLOTS x ptr] zeroinitializer, align 64
@sizes = internal global [$SLOTS x i64] zeroinitializer, align 64
@stamps = internal global [$SLOTS x i64] zeroinitializer, align 64
@count = internal global i64 0, align 8
@idle = internal global i64 0, align 8
@limit = internal global i64 0, align 8
@mapped = internal global i64 0, align 8
@colour = internal global i64 0, align 8
@trimming = internal global i32 0, align 4
"""

_LOCK = """
define internal void @enter() nounwind {
entry:
  br label %try
try:
  %pair = cmpxchg ptr @lock, i32 0, i32 1 acquire monotonic, align 4
  %got = extractvalue { i32, i1 } %pair, 1
  br i1 %got, label %out, label %wait
wait:
  %y = call i32 @sched_yield()
  br label %try
out:
  ret void
}

define internal void @leave() nounwind {
entry:
  store atomic i32 0, ptr @lock release, align 4
  ret void
}

; In the child of a fork no thread trims. Whoever has the GIL is not in the table, so a lock that is
; held was the trimmer's: what it was moving about is not used any more.
define void @ft_block_forget() nounwind {
entry:
  store atomic i32 0, ptr @trimming seq_cst, align 4
  %held = load atomic i32, ptr @lock acquire, align 4
  %torn = icmp ne i32 %held, 0
  br i1 %torn, label %drop, label %out
drop:
  store i64 0, ptr @count, align 8
  store i64 0, ptr @idle, align 8
  br label %out
out:
  call void @leave()
  ret void
}
declare i32 @sched_yield()
"""

_TABLE = """
; Take entry %k out of the table; the lock is held.
define internal ptr @remove(i64 %k) nounwind {
entry:
  %place.at = getelementptr ptr, ptr @places, i64 %k
  %place = load ptr, ptr %place.at, align 8
  %size.at = getelementptr i64, ptr @sizes, i64 %k
  %size = load i64, ptr %size.at, align 8
  %idle = load i64, ptr @idle, align 8
  %less = sub i64 %idle, %size
  store i64 %less, ptr @idle, align 8
  %count = load i64, ptr @count, align 8
  %last = sub i64 %count, 1
  store i64 %last, ptr @count, align 8
  br label %look
look:
  %i = phi i64 [%k, %entry], [%j, %move]
  %more = icmp slt i64 %i, %last
  br i1 %more, label %move, label %out
move:
  %j = add i64 %i, 1
  %p.from = getelementptr ptr, ptr @places, i64 %j
  %p.to = getelementptr ptr, ptr @places, i64 %i
  %p = load ptr, ptr %p.from, align 8
  store ptr %p, ptr %p.to, align 8
  %s.from = getelementptr i64, ptr @sizes, i64 %j
  %s.to = getelementptr i64, ptr @sizes, i64 %i
  %s = load i64, ptr %s.from, align 8
  store i64 %s, ptr %s.to, align 8
  %t.from = getelementptr i64, ptr @stamps, i64 %j
  %t.to = getelementptr i64, ptr @stamps, i64 %i
  %t = load i64, ptr %t.from, align 8
  store i64 %t, ptr %t.to, align 8
  br label %look
out:
  ret ptr %place
}
"""

_DROPPING = """
; The oldest block if it is older than %before, or if there are more bytes than the limit.
define internal ptr @oldest(i64 %before) nounwind {
entry:
  call void @enter()
  %count = load i64, ptr @count, align 8
  %none = icmp eq i64 %count, 0
  br i1 %none, label %nothing, label %look
look:
  %idle = load i64, ptr @idle, align 8
  %limit = load i64, ptr @limit, align 8
  %stamp = load i64, ptr @stamps, align 8
  %over = icmp sgt i64 %idle, %limit
  %old = icmp slt i64 %stamp, %before
  %go = or i1 %over, %old
  br i1 %go, label %found, label %nothing
found:
  %place = call ptr @remove(i64 0)
  call void @leave()
  ret ptr %place
nothing:
  call void @leave()
  ret ptr null
}

define internal void @drop_older(i64 %before) nounwind {
entry:
  br label %next
next:
  %place = call ptr @oldest(i64 %before)
  %none = icmp eq ptr %place, null
  br i1 %none, label %out, label %drop
drop:
  call void @unmap(ptr %place)
  br label %next
out:
  ret void
}

define i64 @ft_block_idle() nounwind {
entry:
  %idle = load i64, ptr @idle, align 8
  ret i64 %idle
}

define i64 @ft_block_mapped() nounwind {
entry:
  %mapped = load atomic i64, ptr @mapped monotonic, align 8
  ret i64 %mapped
}

; Keep at most so many idle bytes from now on.
define void @ft_block_limit(i64 %limit) nounwind {
entry:
  call void @enter()
  store i64 %limit, ptr @limit, align 8
  call void @leave()
  call void @drop_older(i64 -9223372036854775808)
  ret void
}

; Give all idle blocks back to the system.
define void @ft_block_trim() nounwind {
entry:
  call void @drop_older(i64 9223372036854775807)
  ret void
}
"""

_MAPPING = """
; How long the mapping for %size bytes of data is: one of eight lengths per power of two, so that
; blocks of nearly the same length serve for each other.
define internal i64 @rounded(i64 %size) nounwind {
entry:
  %need = add i64 %size, 4096
  %zeros = call i64 @llvm.ctlz.i64(i64 %need, i1 false)
  %shift.raw = sub i64 60, %zeros
  %small = icmp slt i64 %shift.raw, 14
  %shift = select i1 %small, i64 14, i64 %shift.raw
  %unit = shl i64 1, %shift
  %most = sub i64 %unit, 1
  %sum = add i64 %need, %most
  %parts = lshr i64 %sum, %shift
  %length = shl i64 %parts, %shift
  ret i64 %length
}
declare i64 @llvm.ctlz.i64(i64, i1)

; A fresh block of one of these lengths, or null.
define internal ptr @map(i64 %length) nounwind {
entry:
  %start = call ptr @mmap(ptr null, i64 %length, i32 3, i32 $MAP_FLAGS, i32 -1, i64 0)
  %address = ptrtoint ptr %start to i64
  %failed = icmp eq i64 %address, -1
  br i1 %failed, label %none, label %advise
advise:
  %long = icmp uge i64 %length, $HUGE_BYTES
  %known = icmp ne i32 $HUGE_ADVICE, 0
  %huge = and i1 %long, %known
  br i1 %huge, label %ask, label %fill
ask:
  %a = call i32 @madvise(ptr %start, i64 %length, i32 $HUGE_ADVICE)
  br label %fill
fill:
  %turn = atomicrmw add ptr @colour, i64 1 monotonic, align 8
  %colour = and i64 %turn, $COLOUR_MASK
  %spread = mul i64 %colour, $COLOUR_STEP
  %offset = add i64 %spread, $HEADER
  %place = getelementptr i8, ptr %start, i64 %offset
  %start.at = getelementptr i8, ptr %place, i64 -$HEADER
  store ptr %start, ptr %start.at, align 8
  %length.at = getelementptr i8, ptr %start.at, i64 8
  store i64 %length, ptr %length.at, align 8
  %m = atomicrmw add ptr @mapped, i64 %length monotonic, align 8
  ret ptr %place
none:
  ret ptr null
}

define internal i64 @length_of(ptr %place) nounwind {
entry:
  %length.at = getelementptr i8, ptr %place, i64 -56
  %length = load i64, ptr %length.at, align 8
  ret i64 %length
}

; How many bytes of data the block holds.
define internal i64 @room(ptr %place) nounwind {
entry:
  %start.at = getelementptr i8, ptr %place, i64 -$HEADER
  %start = load i64, ptr %start.at, align 8
  %length = call i64 @length_of(ptr %place)
  %end = add i64 %start, %length
  %address = ptrtoint ptr %place to i64
  %room = sub i64 %end, %address
  ret i64 %room
}

define internal void @unmap(ptr %place) nounwind {
entry:
  %start.at = getelementptr i8, ptr %place, i64 -$HEADER
  %start = load ptr, ptr %start.at, align 8
  %length = call i64 @length_of(ptr %place)
  %m = atomicrmw sub ptr @mapped, i64 %length monotonic, align 8
  %r = call i32 @munmap(ptr %start, i64 %length)
  ret void
}
declare ptr @mmap(ptr, i64, i32, i32, i32, i64)
declare i32 @munmap(ptr, i64)
declare i32 @madvise(ptr, i64, i32)
"""

_TAKE = """
; At least %size bytes that are 64-byte aligned and hold anything; null where there is no memory.
define ptr @ft_block_take(i64 %size) nounwind {
entry:
  %vast = icmp ugt i64 %size, 70368744177664
  br i1 %vast, label %none, label %sized
sized:
  %length = call i64 @rounded(i64 %size)
  call void @enter()
  %count = load i64, ptr @count, align 8
  br label %look
look:
  %i = phi i64 [%count, %sized], [%k, %differs]
  %more = icmp sgt i64 %i, 0
  br i1 %more, label %test, label %fresh
test:
  %k = sub i64 %i, 1
  %size.at = getelementptr i64, ptr @sizes, i64 %k
  %found = load i64, ptr %size.at, align 8
  %fits = icmp eq i64 %found, %length
  br i1 %fits, label %take, label %differs
differs:
  br label %look
take:
  %place = call ptr @remove(i64 %k)
  call void @leave()
  ret ptr %place
fresh:
  call void @leave()
  %new = call ptr @map(i64 %length)
  ret ptr %new
none:
  ret ptr null
}
"""

_GIVE = """
; The block is not used any more.
define void @ft_block_give(ptr %place) nounwind {
entry:
  %length = call i64 @length_of(ptr %place)
  %now = call i64 @time(ptr null)
  call void @enter()
  %limit = load i64, ptr @limit, align 8
  %large = icmp sgt i64 %length, %limit
  br i1 %large, label %leave, label %room
leave:
  call void @leave()
  call void @unmap(ptr %place)
  ret void
room:
  %before = load i64, ptr @count, align 8
  %full = icmp eq i64 %before, $SLOTS
  br i1 %full, label %evict, label %keep
evict:
  %victim = call ptr @remove(i64 0)
  br label %keep
keep:
  %evicted = phi ptr [null, %room], [%victim, %evict]
  %count = load i64, ptr @count, align 8
  %place.at = getelementptr ptr, ptr @places, i64 %count
  store ptr %place, ptr %place.at, align 8
  %size.at = getelementptr i64, ptr @sizes, i64 %count
  store i64 %length, ptr %size.at, align 8
  %stamp.at = getelementptr i64, ptr @stamps, i64 %count
  store i64 %now, ptr %stamp.at, align 8
  %more = add i64 %count, 1
  store i64 %more, ptr @count, align 8
  %idle = load i64, ptr @idle, align 8
  %sum = add i64 %idle, %length
  store i64 %sum, ptr @idle, align 8
  %trimming = load atomic i32, ptr @trimming monotonic, align 4
  call void @leave()
  %some = icmp ne ptr %evicted, null
  br i1 %some, label %drop, label %bound
drop:
  call void @unmap(ptr %evicted)
  br label %bound
bound:
  %over = icmp sgt i64 %sum, %limit
  br i1 %over, label %shrink, label %watch
shrink:
  call void @drop_older(i64 -9223372036854775808)
  br label %watch
watch:
  %watched = icmp ne i32 %trimming, 0
  br i1 %watched, label %out, label %start
start:
  call void @start_trimming()
  br label %out
out:
  ret void
}
declare i64 @time(ptr)
"""

_TRIM = """
; A thread that lives while there are idle blocks, and gives back those that stay idle.
define internal ptr @trimmer(ptr %argument) nounwind {
entry:
  br label %again
again:
  %s = call i32 @sleep(i32 1)
  %now = call i64 @time(ptr null)
  %before = sub i64 %now, $PATIENCE
  call void @drop_older(i64 %before)
  call void @enter()
  %count = load i64, ptr @count, align 8
  %none = icmp eq i64 %count, 0
  br i1 %none, label %end, label %on
on:
  call void @leave()
  br label %again
end:
  store atomic i32 0, ptr @trimming seq_cst, align 4
  call void @leave()
  ret ptr null
}

; Signals stay with the threads of the program.
define internal void @start_trimming() nounwind {
entry:
  %thread = alloca i64, align 8
  %all = alloca [16 x i64], align 16
  %old = alloca [16 x i64], align 16
  %pair = cmpxchg ptr @trimming, i32 0, i32 1 seq_cst seq_cst, align 4
  %mine = extractvalue { i32, i1 } %pair, 1
  br i1 %mine, label %start, label %out
start:
  %s = call i32 @sigfillset(ptr %all)
  %m = call i32 @pthread_sigmask(i32 $SET_MASK, ptr %all, ptr %old)
  %failed = call i32 @pthread_create(ptr %thread, ptr null, ptr @trimmer, ptr null)
  %r = call i32 @pthread_sigmask(i32 $SET_MASK, ptr %old, ptr null)
  %fine = icmp eq i32 %failed, 0
  br i1 %fine, label %detach, label %undo
detach:
  %handle = load i64, ptr %thread, align 8
  %d = call i32 @pthread_detach(i64 %handle)
  br label %out
undo:
  store atomic i32 0, ptr @trimming seq_cst, align 4
  br label %out
out:
  ret void
}
declare i32 @sleep(i32)
declare i32 @pthread_create(ptr, ptr, ptr, ptr)
declare i32 @pthread_detach(i64)
declare i32 @pthread_sigmask(i32, ptr, ptr)
declare i32 @sigfillset(ptr)
"""
