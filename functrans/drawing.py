"""Drawing: the program of a call as a Graphviz graph, operations as boxes and values as arrows."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator
from typing import Any

from functrans.api.inspecting import make_jaxpr
from functrans.ir import Atom, Jaxpr, Literal, Var, jaxprs_in

Names = dict[Var, str]


class Drawing:
    """A graph in Graphviz's language: `print` it, `save` it, or feed `dot -Tsvg` with it."""

    def __init__(self, source: str) -> None:
        self.source = source

    def __str__(self) -> str:
        return self.source

    def save(self, path: str) -> None:
        """Write the graph's text to a file."""
        with open(path, "w", encoding="utf-8") as file:
            file.write(self.source)


def draw(f: Callable[..., Any]) -> Callable[..., Drawing]:
    """A function that draws what f computes on given arguments.

    >>> print(draw(lambda x: x * 2.0)(1.0))
    digraph {
      in0 [shape=ellipse, label="input f64~[]"];
      op1 [shape=box, label="mul"];
      in0 -> op1;
      lit2 [shape=plaintext, label="2.0"];
      lit2 -> op1;
      out3 [shape=ellipse, label="output"];
      op1 -> out3 [label="f64~[]"];
    }
    """

    @functools.wraps(f, updated=())
    def drawing_of(*args: Any, **kwargs: Any) -> Drawing:
        lines = _Lines()
        jaxpr: Jaxpr = make_jaxpr(f)(*args, **kwargs).jaxpr
        lines.graph(jaxpr)
        return Drawing("digraph {\n" + "\n".join(f"  {line}" for line in lines.text) + "\n}")

    return drawing_of


class _Lines:
    """The lines of a graph as they are written, with a number for each node."""

    def __init__(self) -> None:
        self.text: list[str] = []
        self._count = 0

    def node(self, kind: str, shape: str, label: str) -> str:
        name = f"{kind}{self._count}"
        self._count += 1
        quoted = label.replace("\\", "\\\\").replace('"', '\\"')
        self.text.append(f'{name} [shape={shape}, label="{quoted}"];')
        return name

    def edge(self, names: Names, atom: Atom, target: str) -> None:
        if isinstance(atom, Literal):
            source = self.node("lit", "plaintext", str(atom.value))
        else:
            source = names[atom]
        label = "" if source.startswith(("in", "lit")) else f' [label="{atom.aval}"]'
        self.text.append(f"{source} -> {target}{label};")

    def graph(self, jaxpr: Jaxpr) -> None:
        """Inputs, equations in order, outputs; a jaxpr inside an equation is a cluster."""
        names: Names = {}
        for i, var in enumerate(jaxpr.invars):
            word = "captured" if i < jaxpr.num_consts else "input"
            names[var] = self.node("in", "ellipse", f"{word} {var.aval}")
        for eqn in jaxpr.eqns:
            box = self.node("op", "box", eqn.primitive.name)
            for atom in eqn.inputs:
                self.edge(names, atom, box)
            names.update((var, box) for var in eqn.outputs)
            for inner in jaxprs_in(eqn.params):
                self.cluster(inner, eqn.primitive.name)
        for atom in jaxpr.outvars:
            self.edge(names, atom, self.node("out", "ellipse", "output"))

    def cluster(self, jaxpr: Jaxpr, label: str) -> None:
        inside = _Lines()
        inside._count = self._count
        inside.graph(jaxpr)
        self._count = inside._count
        self.text.extend(_indented(f"subgraph cluster{self._count}", label, inside.text))
        self._count += 1


def _indented(head: str, label: str, lines: list[str]) -> Iterator[str]:
    yield f"{head} {{"
    yield f'  label="{label}";'
    yield from (f"  {line}" for line in lines)
    yield "}"
