"""Which variables of a program are stored, and why.

Results are, operands of roots, reductions, and what would be computed again at several positions.
The equations of all others are inlined into their consumers.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Container, Iterable, Mapping, Sequence

from functrans.extend import Atom, Eqn, Var
from jit.lowering.graph import Graph, view_base
from jit.lowering.rules import INDEXED, PRODUCTS, ROOTS, SCALARS
from jit.lowering.walk import scalar_cost

CHEAP = 4.0
"""Simple operations per element that are sooner computed again than kept in memory."""
DEEP = 12
"""How many index-moving equations may be inlined into each other."""
PARTS = frozenset({"slice", "gather", "dynamic_slice"})
"""What reads some place of its operand, a place for each equation."""
MOST_READS = 64
"""In how many places one expression may read."""
FEW = 64
"""Storing an array up to this size takes no time that could be felt."""
HEAVY = 8.0
"""Simple operations per element that take less time on vectors, with a store and a load, than one
element after another."""
MOST_RESULTS = 32
"""So many results of elementwise chains are made in one kernel, with what they have in common."""
SINGLE, GRAM, LEAST_STEPS, REPEATED, FAR = 8, 4, 8, 0.9, 32
"""Programs are loops that were written out where so many results at most lie between the equations,
and so many equations in a row come so many times, but for a tenth, whose operands come from equally
many equations before, or from so many at least.
"""
MOST_EQUATIONS = 256
"""Up to so many equations over few elements are one expression, and twice as many one kernel."""


def is_inlined(eqn: Eqn) -> bool:
    """Can consumers compute this equation's elements where they need them?"""
    return eqn.primitive in SCALARS or eqn.primitive in INDEXED


def own_cost(eqn: Eqn) -> float:
    return scalar_cost(eqn) if eqn.primitive in SCALARS else 0.5


def inline_costs(graph: Graph, stored: Iterable[Var]) -> dict[Var, float]:
    """The work per element of each variable, down to stored variables and inputs.

    What is the same along the last axes is computed once for them, and counts as nothing.
    """
    costs: dict[Var, float] = {}
    kept = set(stored)
    same = graph.equal_axes
    for eqn in graph.eqns:
        if is_inlined(eqn):
            below = [costs.get(a, 0.0) for a in eqn.inputs if isinstance(a, Var) and a not in kept]
            total = min(own_cost(eqn) + sum(below), 1e6)
        else:
            total = 0.0
        for out in eqn.outputs:
            costs[out] = 0.0 if is_spread(out, same) else total
    return costs


def is_spread(var: Var, same: Mapping[Var, frozenset[int]]) -> bool:
    """Are the elements along the last axis all equal?"""
    equal = same[var]
    if not equal:
        return False
    axes = [axis for axis, n in enumerate(var.aval.shape) if n > 1]
    return bool(axes) and axes[-1] in equal


def choose_stored(graph: Graph) -> dict[Var, str]:
    """The variables that get memory or registers of their own, each with the reason."""
    stored: dict[Var, str] = dict.fromkeys(graph.outvars, "result")
    stored |= graph.kept
    for var in compared_with_extrema(graph):
        stored.setdefault(var, "compared with its extremum")
    costs = inline_costs(graph, ())
    contexts: dict[Var, set[int]] = {}
    for eqn in reversed(graph.eqns):
        mark_stored(graph, eqn, stored, costs, contexts)
    store_for_serial_loops(graph, stored)
    bound_depth(graph, stored)
    bound_reads(graph, stored)
    bound_equations(graph, stored)
    bound_results(graph, stored)
    return stored


EXTREMA = frozenset({"reduce_max", "reduce_min", "cummax", "cummin"})


def compared_with_extrema(graph: Graph) -> set[Var]:
    """What is asked where its extremum is attained.

    Computed anew it may be rounded otherwise, where a product and a sum become one instruction in
    one place and not in the other, and equal none of its elements. Of windows it is what they show.
    """
    compared = {a for eqn in graph.eqns if eqn.primitive.name == "eq" for a in eqn.inputs}
    folded = {eqn.inputs[0] for eqn in graph.eqns if eqn.primitive.name in EXTREMA}
    shown = {repeated(graph, a) for a in folded & compared if isinstance(a, Var)}
    return shown & graph.producers.keys()


def repeated(graph: Graph, var: Var) -> Var:
    """What windows that were only reshaped show; of anything else itself."""
    below = var
    while (eqn := graph.producers.get(below)) and eqn.primitive.name in ("reshape", "windows"):
        (inner,) = eqn.inputs
        if not isinstance(inner, Var):
            return var
        below = inner
        if eqn.primitive.name == "windows":
            return below
    return var


def mark_stored(
    graph: Graph,
    eqn: Eqn,
    stored: dict[Var, str],
    costs: dict[Var, float],
    contexts: dict[Var, set[int]],
) -> None:
    """Decide on an equation's results; `contexts` says by which index functions they are read."""
    inlined = is_inlined(eqn)
    for out in eqn.outputs:
        positions = contexts.get(out, set())
        if not inlined:
            stored.setdefault(out, eqn.primitive.name)
        elif len(positions) > 1 and costs[out] > CHEAP and out.aval.size > 1:
            stored.setdefault(out, "read at several positions")
        elif eqn.primitive.opaque and positions:
            stored.setdefault(out, eqn.primitive.name)
    joins = eqn.primitive.name == "concatenate"
    if joins and eqn.outputs[0] not in stored and is_heavy_join(eqn, costs):
        stored[eqn.outputs[0]] = "joins expensive parts"
    anew = not inlined or any(out in stored for out in eqn.outputs)
    moves = eqn.primitive in INDEXED and eqn.primitive.name != "reshape"
    inherited = {0} if anew else set().union(*(contexts.get(o, set()) for o in eqn.outputs))
    if moves and not (joins and anew):
        inherited = {id(eqn)}
    for atom in eqn.inputs:
        if isinstance(atom, Var):
            contexts.setdefault(atom, set()).update(inherited)
            # A division is as cheap as that, but not when it is repeated for each of many.
            if rereads(eqn, atom) and costs.get(atom, 0.0) >= CHEAP and atom in graph.producers:
                stored.setdefault(atom, f"read many times by {eqn.primitive.name}")
    if eqn.primitive in ROOTS:
        store_operands(graph, eqn, stored)


def rereads(eqn: Eqn, atom: Var) -> bool:
    """Would the elements of an operand be computed again for each element of a larger result?"""
    size = atom.aval.size
    if size <= 1:
        return False
    if eqn.primitive.name == "broadcast":
        own = [i for i in range(eqn.outputs[0].aval.ndim) if i not in eqn.params["axes"]]
        return min(eqn.params["axes"], default=0) < max(own, default=-1)
    if eqn.primitive.name == "gather":
        return eqn.outputs[0].aval.size > size
    return eqn.primitive in PRODUCTS


def is_heavy_join(eqn: Eqn, costs: dict[Var, float]) -> bool:
    """Is choosing among the operands at every element worse than a pass for each?"""
    return len(eqn.inputs) > 4 or any(
        costs.get(a, 0.0) > CHEAP for a in eqn.inputs if isinstance(a, Var)
    )


def store_operands(graph: Graph, eqn: Eqn, stored: dict[Var, str]) -> None:
    """What a root reads from memory is stored, or what it is a strided view of."""
    root = ROOTS[eqn.primitive]
    for position in root.memory(eqn):
        atom = eqn.inputs[position]
        if isinstance(atom, Var):
            base = atom if root.dense else view_base(graph, atom)
            if base in graph.producers:
                stored.setdefault(base, f"operand of {eqn.primitive.name}")


def store_for_serial_loops(graph: Graph, stored: dict[Var, str]) -> None:
    """Expensive operands of loops without vectors are computed before them, on vectors; of those
    that such a loop reads row by row, what is the same all along a row."""
    serial = [
        (eqn, ROOTS[eqn.primitive].serial(eqn)) for eqn in graph.eqns if eqn.primitive in ROOTS
    ]
    if not any(which for _, which in serial):
        return
    costs = inline_costs(graph, stored)
    for eqn, which in serial:
        singles = [eqn.inputs[i] for i in which]
        repeated = [a for atom in eqn.inputs for a in repeated_below(graph, atom, stored)]
        for atom in [*singles, *(repeated if which else [])]:
            if isinstance(atom, Var) and atom.aval.size > FEW and costs.get(atom, 0.0) > HEAVY:
                stored.setdefault(atom, f"read one by one by {eqn.primitive.name}")


def repeated_below(graph: Graph, atom: Atom, stored: Mapping[Var, str]) -> list[Atom]:
    """What is computed where an operand is read and repeated there along axes that it lacks."""
    found: list[Atom] = []
    pending, seen = [atom], {atom}
    while pending:
        var = pending.pop()
        eqn = graph.producers.get(var) if isinstance(var, Var) and var not in stored else None
        if eqn is None or not is_inlined(eqn):
            continue
        if eqn.primitive.name == "broadcast":
            found += eqn.inputs
        fresh = [a for a in eqn.inputs if a not in seen]
        pending += fresh
        seen.update(fresh)
    return found


def bound_depth(graph: Graph, stored: dict[Var, str]) -> None:
    """Cut chains of index-moving equations, whose evaluation recurses."""
    depths: dict[Var, int] = {}
    for eqn in graph.eqns:
        below = [depths.get(a, 0) for a in eqn.inputs if isinstance(a, Var)]
        depth = max(below, default=0) + (eqn.primitive in INDEXED)
        for out in eqn.outputs:
            if depth > DEEP and is_inlined(eqn):
                stored.setdefault(out, "a long chain of index functions")
            depths[out] = 0 if out in stored else depth


def bound_reads(graph: Graph, stored: dict[Var, str]) -> None:
    """Cut expressions that read memory in many places: the time to generate code for one grows
    with their square.

    Bit i of a variable's mask says that computing it where it is used takes the i-th read.
    """
    masks: dict[Var, int] = {}
    bits: dict[Var, int] = {}
    for eqn in graph.eqns:
        mask = 0
        for atom in eqn.inputs:
            if isinstance(atom, Var):
                is_read = atom in stored or atom not in masks
                mask |= bits.setdefault(atom, 1 << len(bits)) if is_read else masks[atom]
        if eqn.primitive.name in PARTS:
            mask = bits.setdefault(eqn.outputs[0], 1 << len(bits))
        if is_inlined(eqn) and mask.bit_count() > MOST_READS:
            for out in eqn.outputs:
                stored.setdefault(out, "an expression that reads in many places")
        for out in eqn.outputs:
            masks[out] = mask


def bound_equations(graph: Graph, stored: dict[Var, str]) -> None:
    """Cut long programs over few elements into stretches: LLVM's time for a function grows faster
    than its length.

    What a later stretch reads is stored, but for what is computed again in no time.
    """
    few = [e for e in graph.eqns if is_inlined(e) and e.outputs[0].aval.size <= FEW]
    if len(few) <= MOST_EQUATIONS or is_loop(graph, few, stored):
        return
    costs = inline_costs(graph, stored)
    stretches: dict[Var, int] = {}
    count = 0
    for eqn in graph.eqns:
        here = count // MOST_EQUATIONS
        for atom in eqn.inputs:
            if isinstance(atom, Var) and stretches.get(atom, here) != here:
                stored.setdefault(atom, "read far from where it is made")
        if is_inlined(eqn):
            count += 1
            stretches |= {o: here for o in eqn.outputs if o.aval.size <= FEW and costs[o] > CHEAP}


def is_loop(graph: Graph, eqns: Sequence[Eqn], stored: Container[Var]) -> bool:
    """Are most equations the steps of a loop that was written out, with few results on its way?

    Those are made a loop again, which is short.
    """
    if len(results_of(graph, stored)) > SINGLE or max(map(own_cost, eqns)) < HEAVY:
        return False
    places: dict[Atom, int] = {}
    tokens: list[object] = []
    for place, eqn in enumerate(eqns):
        # From nearby operands come from equally far in each step.
        ago = [min(place - places.get(a, -FAR), FAR) for a in eqn.inputs]
        tokens.append((eqn.primitive, *ago))
        places.update(dict.fromkeys(eqn.outputs, place))
    grams = list(zip(*[tokens[k:] for k in range(GRAM)], strict=False))
    count = Counter(grams)
    again = sum(count[gram] >= LEAST_STEPS for gram in grams)
    return again > REPEATED * len(grams)


def bound_results(graph: Graph, stored: dict[Var, str]) -> None:
    """Cut programs that leave many results on their way, as a path of many steps, in stretches.

    No kernel makes them all, and each would compute again all that is before its own.
    """
    results = results_of(graph, stored)
    if len(results) <= MOST_RESULTS:
        return
    costs = inline_costs(graph, stored)
    stretches: dict[Var, int] = {}
    count = 0
    for eqn in graph.eqns:
        here = count // MOST_RESULTS
        if eqn.primitive in INDEXED:
            # A part of a result stands where it is made, not where the parts are joined.
            here = min(
                [stretches.get(a, here) for a in eqn.inputs if isinstance(a, Var)], default=here
            )
        elif is_inlined(eqn):
            for atom in eqn.inputs:
                if isinstance(atom, Var) and stretches.get(atom, here) != here:
                    stored.setdefault(atom, "read by other results than it is made with")
        for out in eqn.outputs:
            count += out in results
            if is_inlined(eqn) and costs[out] > CHEAP:
                stretches[out] = here


def results_of(graph: Graph, stored: Container[Var]) -> set[Var]:
    """What elementwise equations make that is stored, by itself or as a part of what is joined."""
    found = {v for v, eqn in graph.producers.items() if v in stored and is_inlined(eqn)}
    for eqn in graph.eqns:
        if eqn.primitive.name == "concatenate" and eqn.outputs[0] in stored:
            found.update(under_views(graph, a) for a in eqn.inputs if isinstance(a, Var))
    return found


def under_views(graph: Graph, var: Var) -> Var:
    """What a variable is an indexed form of."""
    while True:
        eqn = graph.producers.get(var)
        if eqn is None or eqn.primitive not in INDEXED or not eqn.inputs:
            return var
        if not isinstance(eqn.inputs[0], Var):
            return var
        var = eqn.inputs[0]
