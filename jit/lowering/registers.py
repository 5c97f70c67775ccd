"""Loops in registers: a loop whose body is tiny is one loop of one kernel, its carry in scalars.

Two forms. In "registers" every array of the body is unrolled into scalars. In "lanes" the body
computes elements of large arrays that do not depend on each other: these run outermost, on vectors
and threads, and each lane has the whole loop inside. Results that all lanes share (counters) are
made by a loop of their own.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from math import prod
from typing import Any

from functrans.extend import Eqn, Jaxpr, Primitive, Var, jaxprs_in
from jit.loop_ir.nodes import LoopKind, Value
from jit.lowering import (
    register_cond,
    register_joined,
    register_scan,
    register_sweep,
    register_while,
)
from jit.lowering.asking import (
    CONTROLS,
    MOST_COST,
    MOST_ELEMENTS,
    WIDE,
    Asker,
    Body,
    Elements,
    Limits,
    TooLarge,
    without_form,
)
from jit.lowering.graph import View
from jit.lowering.index import Divided, Dynamic, Index, Loop, Point, constant, of_loop, unravel
from jit.lowering.root import RootContext
from jit.lowering.rules import REDUCTIONS, Element, Pair, is_complex, lowers_root
from jit.lowering.unrolled import Sink, Source, Unrolled
from jit.lowering.walk import COMPLEX

FORMS = (register_cond, register_scan, register_sweep, register_while, register_joined)
"""The files of controls; importing them fills the table."""
LEAST_LANES = 8
"""Fewer independent elements are sooner unrolled."""
MOST_TERMS = 128
"""Products and reductions of more terms in all are faster on vectors than one by one, and compiled
several times as fast."""
GRAIN = 256
"""Threads take whole multiples of so many lanes."""
GUESSED_STEPS = 10
"""So many steps a loop is taken to run whose number is not known."""


@dataclass(frozen=True, eq=False)
class Part:
    """One kernel: the needs of the equation for some of its results, and where these lie.

    `places` has the needed elements of each result; of one made step by step, those of a step.
    """

    needs: Asker
    lanes: Loop | None
    places: dict[int, Elements]


@dataclass(frozen=True, eq=False)
class RegisterForm:
    """How an equation that holds bodies runs in registers; `reason` says so to the user."""

    name: str
    reason: str
    eqn: Eqn
    parts: tuple[Part, ...]
    memory: tuple[int, ...]

    @property
    def cost(self) -> float:
        """The work of a step, in simple operations.

        One on a vector of lanes counts twice, since not all that lanes do is their own.
        """
        return sum(
            part.needs.work * (2 * -(-part.lanes.extent // LEAST_LANES) if part.lanes else 1)
            for part in self.parts
        )


def nothing(*operands: Any, **params: Any) -> list[Any]:
    raise NotImplementedError("loops in registers are lowered, never evaluated or typed")


IN_REGISTERS: dict[Primitive, Primitive] = {
    p: Primitive(name=p.name, abstract_eval=nothing, impl=nothing, cheap=False) for p in CONTROLS
}
"""Control flow primitives, and those that stand for them where they run in registers."""


# -- which form ---------------------------------------------------------------------------------


def register_form(eqn: Eqn, expanded: Callable[[Jaxpr], Jaxpr]) -> RegisterForm | str:
    """How the equation runs in registers, or why it does not.

    `expanded` answers a body that is simplified and has no calls, its expansions written out.
    """
    missing = without_form(eqn, expanded)
    if missing:
        return f"{missing} has no form in registers"
    found: list[RegisterForm] = []
    whys: list[str] = []
    terms = folded_terms(eqn, expanded)
    try:
        found.append(in_registers(eqn, expanded, terms))
    except TooLarge as error:
        whys.append(str(error))
    for count in lane_counts(eqn):
        try:
            found.append(in_lanes(eqn, expanded, count, terms))
        except TooLarge as error:
            whys.append(f"in {count} lanes {error}")
    return min(found, key=lambda form: form.cost) if found else "; ".join(whys)


def folded_terms(eqn: Eqn, expanded: Callable[[Jaxpr], Jaxpr]) -> float:
    """How many terms there are in the reductions and products of its bodies, one after the other;
    a complex one counts as what it takes.

    All of them are to be written, unless few elements of an array are ever read: so what is far too
    much is seen before each term is asked for.
    """
    bodies = [expanded(jaxpr) for jaxpr in jaxprs_in(eqn.params)]
    count = 0.0
    for inner in (inner for body in bodies for inner in body.eqns):
        if inner.primitive in REDUCTIONS:
            weight = COMPLEX if is_complex(inner.outputs[0].aval.dtype) else 1.0
            count += weight * prod(REDUCTIONS[inner.primitive](inner).extents)
        elif inner.primitive in CONTROLS:
            count += folded_terms(inner, expanded)
    return count


def require_short(terms: float) -> None:
    if terms > MOST_COST:
        raise TooLarge("its body is too long to be unrolled")


def in_registers(eqn: Eqn, expanded: Callable[[Jaxpr], Jaxpr], terms: float) -> RegisterForm:
    """The form without lanes."""
    if terms > MOST_TERMS:
        raise TooLarge(f"its products and sums of {terms:.0f} terms are sooner done on vectors")
    part = ask(eqn, expanded, None, {k: every(eqn, k) for k in range(len(eqn.outputs))})
    if 2 * part.needs.wide > part.needs.work:
        raise TooLarge("most of its work is on arrays that are wide enough for vectors")
    return made(eqn, "registers", "all that its body computes fits in registers", [part])


def made(eqn: Eqn, name: str, reason: str, parts: Sequence[Part]) -> RegisterForm:
    """The form, and which operands must lie in memory."""
    count = len(eqn.inputs)
    memory = tuple([k for k in range(count) if any(in_memory(part, k) for part in parts)])
    return RegisterForm(name, reason, eqn, tuple(parts), memory)


def in_memory(part: Part, k: int) -> bool:
    """Is an operand read where only the running loop knows?"""
    needs = part.needs
    places = needs.elements(needs.body.invars[k])
    return any(not needs.is_static(flat) for flat in places)


def is_stacked(eqn: Eqn, k: int) -> bool:
    """Is a result made step by step?"""
    return "num_carry" in eqn.params and "jaxpr" in eqn.params and k >= eqn.params["num_carry"]


def own_shape(eqn: Eqn, k: int) -> tuple[int, ...]:
    """The shape of what a result is at one step."""
    shape = eqn.outputs[k].aval.shape
    return shape[1:] if is_stacked(eqn, k) else shape


def every(eqn: Eqn, k: int) -> Elements:
    """All elements of a result (of one step)."""
    size = prod(own_shape(eqn, k))
    if size > MOST_ELEMENTS:
        raise TooLarge(f"a result of {size} elements")
    return {constant(flat): None for flat in range(size)}


def lane_counts(eqn: Eqn) -> Iterator[int]:
    """How many lanes there may be: one for each element, or for each row, of all large results."""
    shapes = [own_shape(eqn, k) for k in range(len(eqn.outputs))]
    wide = [s for s in shapes if prod(s) >= LEAST_LANES]
    sizes = {prod(s) for s in wide}
    if len(sizes) == 1:
        yield sizes.pop()
    firsts = {s[0] for s in wide}
    if len(firsts) == 1 and any(prod(s[1:]) > 1 for s in wide):
        yield from (count for count in firsts if count >= LEAST_LANES)


def in_lanes(
    eqn: Eqn, expanded: Callable[[Jaxpr], Jaxpr], count: int, terms: float
) -> RegisterForm:
    """The form in `count` lanes."""
    require_short(terms // count)
    lanes = Loop(count, "lane")
    own: dict[int, Elements] = {}
    shared: dict[int, Elements] = {}
    for k in range(len(eqn.outputs)):
        size = prod(own_shape(eqn, k))
        if size >= LEAST_LANES and size % count == 0:
            each = size // count
            if each > MOST_ELEMENTS:
                raise TooLarge(f"each lane has {each} elements of a result")
            if each >= max(WIDE, count):
                raise TooLarge(f"there are more elements in each ({each}) than lanes")
            own[k] = {of_loop(lanes) * each + j: None for j in range(each)}
        else:
            shared[k] = every(eqn, k)
    parts = [ask(eqn, expanded, lanes, own)]
    if 2 * parts[0].needs.shared > parts[0].needs.work:
        raise TooLarge("most of the work would be the same")
    if shared:
        parts.append(ask(eqn, expanded, None, shared))
    reason = f"{count} elements that do not depend on each other run the loop in lanes"
    return made(eqn, "lanes", reason, parts)


def ask(
    eqn: Eqn,
    expanded: Callable[[Jaxpr], Jaxpr],
    lanes: Loop | None,
    places: dict[int, Elements],
) -> Part:
    """What the equation needs for these elements of its results."""
    invars = [Var(a.aval) for a in eqn.inputs]
    alone = Eqn(eqn.primitive, invars, eqn.outputs, eqn.params, eqn.source)
    body = Body(Jaxpr(invars, [alone], eqn.outputs))
    needs = Asker(body, set(invars), Limits(expanded, lanes), outermost=True)
    for k, each in places.items():
        step = stacked_step(eqn, k)
        needs.points[eqn.outputs[k]] = {step + flat: None for flat in each}
    needs.run()
    return Part(needs, lanes, places)


def stacked_step(eqn: Eqn, k: int) -> Index:
    """Where the elements of any one step begin in a result that is made step by step."""
    if not is_stacked(eqn, k):
        return constant(0)
    size = prod(own_shape(eqn, k))
    return of_loop(Loop(eqn.outputs[k].aval.shape[0])) * size


# -- the kernels --------------------------------------------------------------------------------


def memory_of(eqn: Eqn) -> Sequence[int]:
    return eqn.params["form"].memory


def lower_register_loop(ctx: RootContext, eqn: Eqn) -> None:
    """A kernel for the lanes, and one for what they share."""
    form: RegisterForm = eqn.params["form"]
    for number, part in enumerate(form.parts):
        with ctx.walk.kernel(f"{ctx.name}_{number}"):
            if part.lanes is None:
                write_part(ctx, eqn, part)
            else:
                write_lanes(ctx, eqn, part, part.lanes)


def write_lanes(ctx: RootContext, eqn: Eqn, part: Part, lanes: Loop) -> None:
    """The lanes outermost."""
    steps = eqn.params["form"].eqn.params.get("length", GUESSED_STEPS)
    parallel = ctx.parallel(part.needs.work * steps * lanes.extent)
    kind: LoopKind = "parallel_vector" if parallel else "vector"
    opened = ctx.b.for_(lanes.extent, kind, grain=GRAIN if parallel else 1, hint="lane")
    with ctx.walk.loop(lanes, opened):
        write_part(ctx, eqn, part)


def write_part(ctx: RootContext, eqn: Eqn, part: Part) -> None:
    """The loop, and its results to memory."""
    form: RegisterForm = eqn.params["form"]
    needs, outs = part.needs, form.eqn.outputs
    sources = {
        var: from_memory(ctx, atom) if k in form.memory else fused(ctx, atom)
        for k, (var, atom) in enumerate(zip(needs.body.invars, eqn.inputs, strict=True))
    }
    sinks = {
        outs[k]: sink(ctx, eqn.outputs[k]) for k in range(len(outs)) if is_stacked(form.eqn, k)
    }
    writer = Unrolled(ctx.b, needs, sources, sinks=sinks)
    writer.run()
    for k, places in part.places.items():
        if not is_stacked(form.eqn, k):
            for flat in places:
                element = writer.element(outs[k], flat)
                writer.store(ctx.buffer(eqn.outputs[k]), flat, element)


def fused(ctx: RootContext, atom: Any) -> Source:
    """An operand whose elements are computed here, in front of the branches and loops inside: the
    walk knows of none of them, and remembers what it computed."""
    level = len(ctx.b.scopes) - 1

    def source(flat: Index) -> Element:
        with ctx.walk.hoisted(level):
            return ctx.walk.value(atom, Point(atom.aval.shape, flat=flat))

    return source


def from_memory(ctx: RootContext, atom: Any) -> Source:
    """An operand that lies in memory, maybe as a strided window of what does."""
    view: View = ctx.view(atom)
    buffer = ctx.buffer(view.base)

    def source(flat: Index) -> Element:
        place = constant(view.offset)
        for index, step in zip(unravel(flat, view.shape), view.strides, strict=True):
            place = place + index * step
        b = ctx.b
        if not is_complex(atom.aval.dtype):
            return b.load(buffer, inside(ctx, place, buffer.size))
        first = b.mul(inside(ctx, place, buffer.size // 2), 2)
        return Pair(b.load(buffer, first), b.load(buffer, b.add(first, 1)))

    return source


def inside(ctx: RootContext, place: Index, size: int) -> Value:
    """A place in memory as a number; what is only known at run time is kept inside the buffer."""
    number = ctx.walk.number(place)
    if not is_dynamic(place):
        return number
    return ctx.b.max(ctx.b.min(number, size - 1), 0)


def is_dynamic(index: Index) -> bool:
    """Does a place depend on an integer that is only known at run time?"""
    return any(
        isinstance(atom, Dynamic) or (isinstance(atom, Divided) and is_dynamic(atom.index))
        for atom in index.terms
    )


def sink(ctx: RootContext, out: Var) -> Sink:
    """A result that is written step by step."""
    size, buffer = prod(out.aval.shape[1:]), ctx.buffer(out)

    def write(step: Index, flat: Index, element: Element) -> None:
        ctx.walk.store(buffer, step * size + flat, element)

    return write


for _primitive in IN_REGISTERS.values():
    lowers_root(_primitive, memory_of)(lower_register_loop)
