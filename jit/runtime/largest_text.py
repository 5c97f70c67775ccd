"""The LLVM text of the largest of a line: pieces are filtered, candidates cut, what is left sorted.

A rank is an integer of which the least is the best. Invariant: candidates stand in the order of
their places, so that of equal ones those that came first are kept, and stable sorting ends it.
"""

from jit.candidates import ALIGNMENT, HEADER, Ranks, RankType
from jit.runtime.sort_rows import Element, Table
from jit.runtime.sort_text import sorter
from jit.runtime.writer import Function

DIGITS = 256
"""Into so many groups the candidates are divided at a time, by eight bits of their ranks."""


def largest_module(name: RankType) -> str:
    """ft_keep_<name> and ft_largest_<name>, with everything they need."""
    ranks = Ranks(name)
    table = Table((Element(name), Element("i64")))
    return "\n\n".join(
        [*sorter(table), _differing(ranks), _kth(ranks), _cut(ranks), _keep(ranks)]
        + [_largest(ranks), _DECLARATIONS]
    )


_DECLARATIONS = """
declare void @llvm.memcpy.p0.p0.i64(ptr, ptr, i64, i1)
declare i32 @llvm.vector.reduce.or.v16i32(<16 x i32>)
declare i64 @llvm.vector.reduce.or.v8i64(<8 x i64>)
declare i32 @llvm.ctlz.i32(i32, i1)
declare i64 @llvm.ctlz.i64(i64, i1)
declare void @ft_parallel_for(ptr, ptr, i64, i64)
"""


def _parts(f: Function, ranks: Ranks, capacity: str) -> list[str]:
    """Ranks, places, other ranks and other places of %space, in this order."""
    at, parts = str(HEADER), list[str]()
    for size in ranks.columns:
        parts.append(f.at("i8", "%space", at))
        at = f.add(at, f.round_up(f.mul(capacity, str(size)), ALIGNMENT))
    return parts


def _differing(ranks: Ranks) -> str:
    """The bits in which %n ranks, at least one, are not all alike."""
    ty, lanes = ranks.name, ranks.lanes
    vector = f"<{lanes} x {ty}>"
    f = Function(f"internal {ty} @differing(ptr %ranks, i64 %n)")
    first = f.load(ty, "%ranks")
    one = f(f"insertelement {vector} poison, {ty} {first}, i64 0")
    firsts = f(f"shufflevector {vector} {one}, {vector} poison, <{lanes} x i32> zeroinitializer")
    whole = f.mul(f.div("%n", str(lanes)), str(lanes))
    with f.fold("0", whole, str(lanes), [(vector, "zeroinitializer")]) as (i, (wide,), set_next):
        x = f.load(vector, f.at(ty, "%ranks", i), ranks.bytes)
        other = f(f"xor {vector} {x}, {firsts}")
        set_next(f(f"or {vector} {wide}, {other}"))
    start = f(f"call {ty} @llvm.vector.reduce.or.v{lanes}{ty}({vector} {wide})")
    with f.fold(whole, "%n", "1", [(ty, start)]) as (i, (found,), set_next):
        other = f(f"xor {ty} {f.load(ty, f.at(ty, '%ranks', i))}, {first}")
        set_next(f(f"or {ty} {found}, {other}"))
    return f.text(f"ret {ty} {found}")


def _kth(ranks: Ranks) -> str:
    """The %k-th least of %n ranks, counted from 1, and by %left how many equal to it are among
    the first %k in order. %room holds as many ranks.

    The candidates are divided by the eight highest bits in which they differ, and those of the
    group that has the k-th go on, until all are equal: each round they become fewer.
    """
    ty, bits = ranks.name, ranks.bits
    f = Function(f"internal {ty} @kth(ptr %ranks, i64 %n, i64 %k, ptr %room, ptr %left)")
    counts = f(f"alloca [{DIGITS} x i64], align 64")
    head, body, done, again = (f.label(hint) for hint in ("head", "body", "done", "again"))
    f.jump(head)
    f.open(head)
    f.do(f"%from = phi ptr [%ranks, %entry], [%room, %{again}]")
    f.do(f"%m = phi i64 [%n, %entry], [%m.next, %{again}]")
    f.do(f"%rank = phi i64 [%k, %entry], [%rank.next, %{again}]")
    differing = f(f"call {ty} @differing(ptr %from, i64 %m)")
    f.split(f.test("eq", differing, "0", ty), done, body)
    f.open(body)
    zeros = f(f"call {ty} @llvm.ctlz.{ty}({ty} {differing}, i1 true)")
    above = f(f"sub {ty} {bits - 8}, {zeros}")
    shift = f.select(f.test("sgt", above, "0", ty), above, "0", ty)

    def digit(rank: str) -> str:
        """Which group a rank is in; the sign bit is turned, so that groups are in order."""
        unsigned = f(f"xor {ty} {rank}, {-(2 ** (bits - 1))}")
        low = f(f"and {ty} {f(f'lshr {ty} {unsigned}, {shift}')}, {DIGITS - 1}")
        return low if ty == "i64" else f(f"zext {ty} {low} to i64")

    with f.loop("0", str(DIGITS)) as i:
        f.store("i64", "0", f.at("i64", counts, i))
    with f.loop("0", "%m") as i:
        count = f.at("i64", counts, digit(f.load(ty, f.at(ty, "%from", i))))
        f.store("i64", f.add(f.load("i64", count), "1"), count)
    carries = [("i64", "0")] * 3
    with f.fold("0", str(DIGITS), "1", carries) as (i, (total, group, before), set_next):
        after = f.add(total, f.load("i64", f.at("i64", counts, i)))
        is_before = f.test("slt", after, "%rank")
        next_group = f.add(group, f(f"zext i1 {is_before} to i64"))
        set_next(after, next_group, f.select(is_before, after, before))
    with f.fold("0", "%m", "1", [("i64", "0")]) as (i, (to,), set_next):
        rank = f.load(ty, f.at(ty, "%from", i))
        f.store(ty, rank, f.at(ty, "%room", to))
        set_next(f.add(to, f(f"zext i1 {f.test('eq', digit(rank), group)} to i64")))
    f.jump(again)
    f.open(again)
    f.do(f"%m.next = add i64 {to}, 0")
    f.do(f"%rank.next = sub i64 %rank, {before}")
    f.jump(head)
    f.open(done)
    f.store("i64", "%rank", "%left")
    return f.text(f"ret {ty} {f.load(ty, '%from')}")


def _cut(ranks: Ranks) -> str:
    """Of the candidates the %k best stay, and only a better one than the worst of them is another.

    Nothing happens to %k or fewer.
    """
    ty = ranks.name
    f = Function("internal void @cut(ptr %space, i64 %k, i64 %capacity)")
    kept, places, room, _ = _parts(f, ranks, "%capacity")
    n = f.load("i64", "%space")
    left = f("alloca i64, align 8")
    with f.when(f.test("sgt", n, "%k")):
        kth = f(f"call {ty} @kth(ptr {kept}, i64 {n}, i64 %k, ptr {room}, ptr {left})")
        carries = [("i64", "0"), ("i64", f.load("i64", left))]
        with f.fold("0", n, "1", carries) as (i, (to, ties), set_next):
            rank = f.load(ty, f.at(ty, kept, i))
            place = f.load("i64", f.at("i64", places, i))
            is_tie = f.both(f.test("eq", rank, kth, ty), f.test("sgt", ties, "0"))
            stays = f.either(f.test("slt", rank, kth, ty), is_tie)
            f.store(ty, rank, f.at(ty, kept, to))
            f.store("i64", place, f.at("i64", places, to))
            set_next(
                f.add(to, f(f"zext i1 {stays} to i64")),
                f.sub(ties, f(f"zext i1 {is_tie} to i64")),
            )
        limit = kth if ty == "i64" else f(f"sext {ty} {kth} to i64")
        f.store("i64", "%k", "%space")
        f.store("i64", limit, f.at("i64", "%space", "1"))
    return f.text()


def _keep(ranks: Ranks) -> str:
    """Take those of %length ranks that may be among the least of all; see KEEP_SIGNATURE."""
    ty, lanes = ranks.name, ranks.lanes
    vector = f"<{lanes} x {ty}>"
    f = Function(
        f"void @ft_keep_{ty}(ptr %space, ptr %ranks, i64 %length, i64 %first, i64 %k, "
        "i64 %capacity)"
    )
    kept, places, _, _ = _parts(f, ranks, "%capacity")
    with f.when(f.test("sgt", f.add(f.load("i64", "%space"), "%length"), "%capacity")):
        f.do("call void @cut(ptr %space, i64 %k, i64 %capacity)")
    limit = f.load("i64", f.at("i64", "%space", "1"))
    # The first limit of 32-bit ranks is above them all.
    highest = str(2 ** (ranks.bits - 1) - 1)
    narrow = limit if ty == "i64" else f(f"trunc i64 {f.min(limit, highest)} to {ty}")
    one = f(f"insertelement {vector} poison, {ty} {narrow}, i64 0")
    limits = f(f"shufflevector {vector} {one}, {vector} poison, <{lanes} x i32> zeroinitializer")

    def take(start: str, stop: str) -> None:
        """Without branches: written after the last, which counts where it is wanted."""
        count = f.load("i64", "%space")
        with f.fold(start, stop, "1", [("i64", count)]) as (i, (to,), set_next):
            rank = f.load(ty, f.at(ty, "%ranks", i))
            f.store(ty, rank, f.at(ty, kept, to))
            f.store("i64", f.add("%first", i), f.at("i64", places, to))
            wanted = f.either(f.test("slt", rank, narrow, ty), f.test("slt", to, "%k"))
            set_next(f.add(to, f(f"zext i1 {wanted} to i64")))
        f.store("i64", to, "%space")

    whole = f.mul(f.div("%length", str(lanes)), str(lanes))
    with f.loop("0", whole, str(lanes)) as start:
        wide = f.load(vector, f.at(ty, "%ranks", start), ranks.bytes)
        better = f(f"icmp slt {vector} {wide}, {limits}")
        mask = f(f"bitcast <{lanes} x i1> {better} to i{lanes}")
        wanted = f.test("ne", mask, "0", f"i{lanes}")
        few = f.test("slt", f.load("i64", "%space"), "%k")
        with f.when(f.either(wanted, few)):
            take(start, f.add(start, str(lanes)))
    take(whole, "%length")
    return f.text()


def _largest(ranks: Ranks) -> str:
    """The places of the %k least ranks; see LARGEST_SIGNATURE."""
    ty = ranks.name
    f = Function(f"void @ft_largest_{ty}(ptr %space, i64 %k, i64 %capacity, ptr %places)")
    f.do("call void @cut(ptr %space, i64 %k, i64 %capacity)")
    parts = _parts(f, ranks, "%capacity")
    f.do(f"call void @sort({', '.join(f'ptr {part}' for part in parts)}, i64 %k)")
    size = f.mul("%k", "8")
    f.do(f"call void @llvm.memcpy.p0.p0.i64(ptr %places, ptr {parts[1]}, i64 {size}, i1 false)")
    return f.text()
