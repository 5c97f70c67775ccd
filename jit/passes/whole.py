"""The graph of a whole program; what lowers bodies is imported where it holds some."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from functrans.extend import Eqn, Jaxpr, provided_among
from jit.lowering.graph import Graph
from jit.passes.prepare import to_graph


def whole_graph(
    jaxpr: Jaxpr,
    callback: Callable[[Eqn], int],
    errors: list[str],
    taken: Sequence[int | None] = (),
) -> Graph:
    """The graph that fusion works on, of a program without calls.

    callback(eqn) is the number of a callback's function; what bodies may raise is added to errors;
    taken[j] is the input whose memory result j may take.
    """
    bodies = provided_among("cond", "scan", "while", "sweep")
    if not any(eqn.primitive in bodies for eqn in jaxpr.eqns):
        return to_graph(jaxpr, taken=taken)
    from jit.passes.nested import Nesting

    return to_graph(jaxpr, Nesting(callback, errors).expand, taken)
