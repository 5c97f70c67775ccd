"""Loops and branches whose bodies are programs of their own, called once a step on addresses.

A body gets tables of the addresses of its operands and of where its results go. A carry that the
body writes over itself stays where it is; any other has two places that take turns. Nothing is
copied between steps, and slices of stacked operands and results are addresses that move.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple, TypeAlias

from functrans.extend import Atom, Effect, Eqn, Primitive, Var
from jit.loop_ir.nodes import Pointer, Value
from jit.lowering.copying import fill
from jit.lowering.index import Point
from jit.lowering.inner import Inner, inner_programs
from jit.lowering.root import RootContext
from jit.lowering.rules import element_bytes, is_complex, lowers_root, only_lowered

ALIGNMENT = 64
SLOTS = 8
"""Lanes run in so many parts, on threads, where their bodies are worth it."""
GUESSED_STEPS = 10
"""So many steps a loop is taken to run whose number is not known."""
Offset: TypeAlias = int | Value


def calls_of(eqn: Eqn) -> list[str]:
    return [name for inner in inner_programs(eqn) for name in inner.calls]


def inner_primitive(name: str) -> Primitive:
    """A control flow primitive whose bodies are programs, in the param `programs`."""
    return Primitive(
        name=name, abstract_eval=only_lowered, impl=only_lowered, effects=effect_of_programs
    )


def effect_of_programs(*, programs: tuple[Inner, ...], **params: Any) -> Effect:
    return Effect.strongest(inner.effect for inner in programs)


program_cond_p = inner_primitive("cond")
program_scan_p = inner_primitive("scan")
program_while_p = inner_primitive("while")
program_sweep_p = inner_primitive("sweep")


# -- sizes ------------------------------------------------------------------------------------


def rounded(count: int) -> int:
    return -(-count // ALIGNMENT) * ALIGNMENT


def slice_units(atom: Atom) -> int:
    """How many elements of its buffer a slice along the first axis takes."""
    pair = 2 if is_complex(atom.aval.dtype) else 1
    return pair * atom.aval.size // max(atom.aval.shape[0], 1)


def lanes_of(eqn: Eqn) -> int | None:
    lanes: int | None = eqn.params.get("lanes")
    return lanes


def carry_bytes(eqn: Eqn, home: Var) -> int:
    """The bytes of a carry, in one lane where there are lanes."""
    return home.aval.size * element_bytes(home) // (lanes_of(eqn) or 1)


class Group(NamedTuple):
    """Carries that one body hands on: the results where they end, and the body."""

    homes: list[Var]
    body: Inner


def carry_groups(eqn: Eqn) -> list[Group]:
    """The carries of a loop; of a sweep those of its passes, one after the other."""
    bodies, outs = inner_programs(eqn), eqn.outputs
    if eqn.primitive is program_scan_p:
        return [Group(outs[: eqn.params["num_carry"]], bodies[0])]
    if eqn.primitive is program_while_p:
        return [Group(outs, bodies[1])]
    if eqn.primitive is not program_sweep_p:
        return []
    found: list[Group] = []
    plans = eqn.params["plans"]
    for number, (plan, body) in enumerate(zip(plans, bodies[2:], strict=False)):
        homes = homes_of_pass(eqn, number)
        found.append(Group([homes[k] for k in plan.kept], body))
    return found


def homes_of_pass(eqn: Eqn, number: int) -> list[Var]:
    """The results of a sweep that are the carries of a pass."""
    counts = [each.num_carry for each in eqn.params["passes"]]
    start = eqn.params["num_carry"] + sum(counts[:number])
    return eqn.outputs[start : start + counts[number]]


def spare_places(eqn: Eqn) -> tuple[list[dict[int, int]], int]:
    """For each group the carries that have two places, and where in the workspace the second is;
    how many bytes these take."""
    at, found = 0, list[dict[int, int]]()
    for homes, body in carry_groups(eqn):
        places: dict[int, int] = {}
        for k, home in enumerate(homes):
            if home.aval.size and not body.in_place[k]:
                places[k] = at
                at += rounded(carry_bytes(eqn, home))
        found.append(places)
    return found, at


def arena_bytes(eqn: Eqn) -> int:
    """The arena of the inner programs, of which one runs at a time."""
    return max(rounded(inner.program.arena_bytes) for inner in inner_programs(eqn))


def loop_workspace(eqn: Eqn) -> int:
    return spare_places(eqn)[1] + arena_bytes(eqn)


# -- what loops are written with --------------------------------------------------------------


def address_of(ctx: RootContext, atom: Atom, offset: Offset = 0) -> Value:
    """The address of an operand or a result, `offset` elements of its buffer after its start."""
    if atom.aval.size == 0:
        return ctx.b.const("i64", 0)
    return ctx.b.address(ctx.dense(atom), offset)


class Table:
    """Addresses that a program is given, on the stack of the kernel."""

    def __init__(self, ctx: RootContext, name: str, count: int) -> None:
        self.ctx = ctx
        self.buffer = ctx.b.local(f"{ctx.name}_{name}", "i64", max(count, 1))

    def put(self, place: int, address: Value) -> None:
        self.ctx.b.store(self.buffer, place, address)

    def put_all(self, atoms: Sequence[Atom]) -> None:
        """The addresses of these, first to last."""
        for k, atom in enumerate(atoms):
            self.put(k, address_of(self.ctx, atom))

    def put_operands(self, eqn: Eqn, positions: Sequence[int], lane: Value | None) -> None:
        """The addresses of these operands, or of the slices of a lane where they have any."""
        dims = eqn.params["dims"] or [None] * len(eqn.inputs)
        for place, k in enumerate(positions):
            atom = eqn.inputs[k]
            whole = lane is None or dims[k] is None
            offset = 0 if whole else self.ctx.b.mul(lane, slice_units(atom))
            self.put(place, address_of(self.ctx, atom, offset))

    def put_slices(self, start: int, stacks: Sequence[Atom], k: Value) -> None:
        """The addresses of the k-th slices of these, from a place on."""
        for place, stack in enumerate(stacks, start):
            self.put(place, address_of(self.ctx, stack, self.ctx.b.mul(k, slice_units(stack))))


def home_address(ctx: RootContext, home: Var, lane: Value | None) -> Value:
    """Where a carry ends: its result, or the slice of that for a lane."""
    return address_of(ctx, home, 0 if lane is None else ctx.b.mul(lane, slice_units(home)))


class Space:
    """The workspace of one loop: spare places of its carries, then the arena of its programs.

    `start` is where it begins in the workspace of the equation, which holds `count` of them.
    """

    def __init__(self, ctx: RootContext, eqn: Eqn, start: Offset = 0, count: int = 1) -> None:
        self.ctx = ctx
        self.start = start
        self.arena_at = spare_places(eqn)[1]
        total = count * loop_workspace(eqn)
        self.buffer = ctx.slot("u8", total, 0) if total else ctx.b.local(ctx.name, "u8", 1)

    def at(self, offset: int) -> Offset:
        return offset if isinstance(self.start, int) else self.ctx.b.add(self.start, offset)

    def address(self, offset: int) -> Value:
        return self.ctx.b.address(self.buffer, self.at(offset))

    @property
    def arena(self) -> Pointer:
        """The arena; some address where the programs need none."""
        return self.ctx.b.ref(self.buffer, self.at(self.arena_at))


class Carries:
    """The carries of a loop between its steps. Their homes are the results of the equation.

    A carry that the body writes over itself stays at home. Any other is read in one place and
    written to another, and after each step these change roles; `spares` says where in the space
    the place is that is not at home. `lane`: which of the slices of the results this is about;
    `group`: which pass of a sweep.
    """

    def __init__(
        self, ctx: RootContext, eqn: Eqn, space: Space, lane: Value | None = None, group: int = 0
    ) -> None:
        self.ctx = ctx
        self.eqn = eqn
        self.space = space
        self.lane = lane
        self.homes = carry_groups(eqn)[group].homes
        self.spares = spare_places(eqn)[0][group]

    def home(self, k: int) -> Value:
        return home_address(self.ctx, self.homes[k], self.lane)

    def places(self, odd: bool = False) -> list[Value]:
        """For each carry in turns where it is read first, then where it is written.

        odd: it is read first in its spare place.
        """
        found: list[Value] = []
        for k, at in self.spares.items():
            both = [self.home(k), self.space.address(at)]
            found += reversed(both) if odd else both
        return found

    def put_fixed(self, *tables: tuple[Table, int]) -> None:
        """Carries that stay where they are, in tables where carries begin at a place."""
        for k in range(len(self.homes)):
            if k not in self.spares:
                for table, start in tables:
                    table.put(start + k, self.home(k))

    def put_read(self, table: Table, start: int, places: Sequence[Value]) -> None:
        """Where the others are read in this step."""
        for turn, k in enumerate(self.spares):
            table.put(start + k, places[2 * turn])

    def put_written(self, table: Table, start: int, places: Sequence[Value]) -> None:
        """Where the others are written in this step."""
        for turn, k in enumerate(self.spares):
            table.put(start + k, places[2 * turn + 1])

    def come_home(self, places: Sequence[Value]) -> None:
        """Copy what the last step left in a spare place."""
        b = self.ctx.b
        for turn, k in enumerate(self.spares):
            home, count = self.home(k), carry_bytes(self.eqn, self.homes[k])
            with b.if_(b.ne(places[2 * turn], home)).then():
                b.call("memcpy", home, places[2 * turn], count)


def swapped(places: Sequence[Value]) -> list[Value]:
    """The places of the next step."""
    return [places[k ^ 1] for k in range(len(places))]


# -- cond -------------------------------------------------------------------------------------


def cond_overwrites(eqn: Eqn) -> list[tuple[int, int]]:
    """The operands that every branch changes into one result, or leaves as they are."""
    taken: Sequence[int | None] = eqn.params["taken"]
    return [(i + 1, j) for j, i in enumerate(taken) if i is not None]


def cond_memory(eqn: Eqn) -> list[int]:
    """All but the index and what is changed, which is copied where that is done."""
    changed = {i for i, _ in cond_overwrites(eqn)}
    return [k for k in range(1, len(eqn.inputs)) if k not in changed]


@lowers_root(
    program_cond_p,
    cond_memory,
    dense=True,
    workspace=arena_bytes,
    calls=calls_of,
    overwrites=cond_overwrites,
)
def lower_cond(ctx: RootContext, eqn: Eqn) -> None:
    """The program that the index says, on the operands and into the results as they lie."""
    b, programs = ctx.b, inner_programs(eqn)
    index = eqn.inputs[0]
    changed = dict(cond_overwrites(eqn))
    with ctx.walk.kernel(ctx.name):
        ins, outs = Table(ctx, "ins", len(eqn.inputs)), Table(ctx, "outs", len(eqn.outputs))
        for place, k in enumerate(range(1, len(eqn.inputs))):
            if k in changed:
                home = eqn.outputs[changed[k]]
                begin_at(ctx, eqn.inputs[k], home, None)
                ins.put(place, address_of(ctx, home))
            else:
                ins.put(place, address_of(ctx, eqn.inputs[k]))
        outs.put_all(eqn.outputs)
        total = arena_bytes(eqn)
        arena = ctx.space() if total else b.ref(ins.buffer)
        chosen = ctx.walk.value(index, Point((), multi=()))

        def run(first: int, last: int) -> None:
            """Run one of a range of programs, halving it."""
            if first == last:
                b.run(programs[first].program, ins.buffer, outs.buffer, arena)
                return
            middle = (first + last) // 2
            branch = b.if_(b.le(chosen, middle))
            with branch.then():
                run(first, middle)
            with branch.orelse():
                run(middle + 1, last)

        run(0, len(programs) - 1)


# -- scan -------------------------------------------------------------------------------------


class ScanParts(NamedTuple):
    """The operands and results of a scan, told apart."""

    consts: list[Atom]
    inits: list[Atom]
    xs: list[Atom]
    carry: list[Var]
    ys: list[Var]


def scan_parts(eqn: Eqn) -> ScanParts:
    count = eqn.params["num_carry"]
    first, last = eqn.params["num_consts"], eqn.params["num_consts"] + count
    ins, outs = eqn.inputs, eqn.outputs
    return ScanParts(ins[:first], ins[first:last], ins[last:], outs[:count], outs[count:])


def scan_memory(eqn: Eqn) -> list[int]:
    """All but the initial carry, which is written where it is wanted."""
    changed = {i for i, _ in scan_overwrites(eqn)}
    return [k for k in range(len(eqn.inputs)) if k not in changed]


def scan_overwrites(eqn: Eqn) -> list[tuple[int, int]]:
    """The initial carry becomes the final one."""
    first = eqn.params["num_consts"]
    return [(first + k, k) for k in range(eqn.params["num_carry"])]


@lowers_root(
    program_scan_p,
    scan_memory,
    dense=True,
    workspace=loop_workspace,
    calls=calls_of,
    overwrites=scan_overwrites,
)
def lower_scan(ctx: RootContext, eqn: Eqn) -> None:
    """As it is known how many steps there are, it is known in which place carries must begin."""
    (body,) = inner_programs(eqn)
    parts, length, b = scan_parts(eqn), eqn.params["length"], ctx.b
    start, odd = len(parts.consts), length % 2 == 1
    with ctx.walk.kernel(ctx.name):
        space = Space(ctx, eqn)
        carries = Carries(ctx, eqn, space)
        for k, init in enumerate(parts.inits):
            begin_at(ctx, init, parts.carry[k], carries.spares.get(k) if odd else None)
        ins, outs = Table(ctx, "ins", len(eqn.inputs)), Table(ctx, "outs", len(eqn.outputs))
        ins.put_all(parts.consts)
        carries.put_fixed((ins, start), (outs, 0))
        with b.for_(length, "serial", carries.places(odd)) as loop:
            k = b.sub(length - 1, loop.i) if eqn.params["reverse"] else loop.i
            ins.put_slices(start + len(parts.inits), parts.xs, k)
            outs.put_slices(len(parts.carry), parts.ys, k)
            carries.put_read(ins, start, loop.carries)
            carries.put_written(outs, 0, loop.carries)
            b.run(body.program, ins.buffer, outs.buffer, space.arena)
            loop.yield_(*swapped(loop.carries))


def begin_at(ctx: RootContext, init: Atom, home: Var, spare: int | None) -> None:
    """Write the initial value of a carry to a spare place, or to its home if it is not there."""
    if spare is not None:
        like = ctx.buffer(home)
        fill(ctx, init, ctx.slot(like.dtype, like.size, spare))
    elif home.aval.size and not ctx.shares_memory(init, home):
        fill(ctx, init, ctx.buffer(home))


# -- while ------------------------------------------------------------------------------------


def while_memory(eqn: Eqn) -> range:
    """The consts; the initial carry is written where it is wanted."""
    return range(eqn.params["num_cond_consts"] + eqn.params["num_body_consts"])


def while_overwrites(eqn: Eqn) -> list[tuple[int, int]]:
    """The initial carry becomes the final one, where there is one for each lane."""
    first = len(while_memory(eqn))
    return changed_inits(eqn, range(first, len(eqn.inputs)))


def changed_inits(eqn: Eqn, inits: Sequence[int]) -> list[tuple[int, int]]:
    """The operands among `inits` that are as large as the results that they begin."""
    pairs = zip(inits, eqn.outputs, strict=True)
    sizes = [(k, eqn.inputs[k].aval.size, home.aval.size) for k, home in pairs]
    return [(k, j) for j, (k, init, home) in enumerate(sizes) if init == home]


def cost_of(eqn: Eqn) -> float:
    """The work of a loop or a branch, in simple operations."""
    costs = [inner.cost for inner in inner_programs(eqn)]
    if eqn.primitive is program_cond_p:
        return max(costs)
    return sum(costs) * eqn.params.get("length", GUESSED_STEPS * (lanes_of(eqn) or 1))


def lane_slots(eqn: Eqn) -> int:
    """How many lanes may run at the same time."""
    lanes = lanes_of(eqn) or 1
    quiet = all(inner.effect is Effect.NONE for inner in inner_programs(eqn))
    return min(lanes, SLOTS) if quiet else 1


def lanes_workspace(eqn: Eqn) -> int:
    return lane_slots(eqn) * loop_workspace(eqn)


@lowers_root(
    program_while_p,
    while_memory,
    dense=True,
    workspace=lanes_workspace,
    calls=calls_of,
    overwrites=while_overwrites,
)
def lower_while(ctx: RootContext, eqn: Eqn) -> None:
    """One loop, or one for each lane, some lanes at the same time."""
    first = len(while_memory(eqn))
    with ctx.walk.kernel(ctx.name):
        begin_lanes(ctx, eqn.inputs[first:], eqn.outputs)
        in_lanes(ctx, eqn, lambda space, lane: write_while(ctx, eqn, space, lane))


def begin_lanes(ctx: RootContext, inits: Sequence[Atom], homes: Sequence[Var]) -> None:
    """The initial values of carries, once or for every lane, where the results are."""
    for init, home in zip(inits, homes, strict=True):
        size = init.aval.size
        if size in (0, home.aval.size):
            begin_at(ctx, init, home, None)
            continue
        with ctx.nest([home.aval.size // size, size], "vector") as (lane, i):
            element = ctx.walk.value(init, Point(init.aval.shape, flat=i))
            ctx.walk.store(ctx.buffer(home), lane * size + i, element)


def in_lanes(ctx: RootContext, eqn: Eqn, write: Callable[[Space, Value | None], None]) -> None:
    """Write a loop, once or for each lane; those of a slot run one after the other."""
    b, lanes, slots = ctx.b, lanes_of(eqn), lane_slots(eqn)
    if lanes is None:
        write(Space(ctx, eqn), None)
        return
    height = -(-lanes // slots)
    with b.for_(slots, "parallel" if ctx.parallel(cost_of(eqn)) else "serial") as slot:
        space = Space(ctx, eqn, b.mul(slot.i, loop_workspace(eqn)), slots)
        first = b.mul(slot.i, height)
        with b.for_(b.min(b.sub(lanes, first), height)) as lane:
            write(space, b.add(first, lane.i))


def write_while(ctx: RootContext, eqn: Eqn, space: Space, lane: Value | None) -> None:
    """The loop, in one lane where there are lanes."""
    b, (cond, body) = ctx.b, inner_programs(eqn)
    asked, start = eqn.params["num_cond_consts"], eqn.params["num_body_consts"]
    carries = Carries(ctx, eqn, space, lane)
    asks, answer = Table(ctx, "asks", len(eqn.params["cond"].invars)), Table(ctx, "answer", 1)
    ins = Table(ctx, "ins", len(eqn.params["body"].invars))
    outs = Table(ctx, "outs", len(carries.homes))
    truth = b.local(f"{ctx.name}_truth", "bool", 1)
    answer.put(0, b.address(truth))
    asks.put_operands(eqn, range(asked), lane)
    ins.put_operands(eqn, range(asked, asked + start), lane)
    carries.put_fixed((asks, asked), (ins, start), (outs, 0))
    with b.while_(carries.places()) as loop:
        carries.put_read(asks, asked, loop.carries)
        b.run(cond.program, asks.buffer, answer.buffer, space.arena)
        loop.test(b.load(truth, 0))
        carries.put_read(ins, start, loop.carries)
        carries.put_written(outs, 0, loop.carries)
        b.run(body.program, ins.buffer, outs.buffer, space.arena)
        loop.yield_(*swapped(loop.carries))
    carries.come_home(loop.results)
