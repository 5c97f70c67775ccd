"""Equations: what a trace has recorded, and how it records operations whose types are known."""

from __future__ import annotations

import weakref
from collections.abc import Sequence
from typing import Any

from functrans.bind import source_override
from functrans.capturing import Capturer
from functrans.errors import user_frame
from functrans.ir import Atom, Aval, Eqn, Jaxpr, Literal, Primitive, Source, Var, is_inexact
from functrans.memo.trie import Slot
from functrans.segments import Record
from functrans.tracing import Node

NO_RECORDS: list[Record] = []
"""What a trace has recorded that does not record."""


class Equations(Capturer):
    """The part of a trace that holds what it has recorded.

    records  the equations of the open segment; `closed_eqns`: before them, those of earlier ones
    _slots   what the memo knows a variable as, where it does; `_names`: what messages call it
    _made_of_literals  the results of operations on nothing else, which are recorded once
    _copied  how many equations the simplified program has that was recorded first, as it stands
    whole    that program, where its variables are those of the trace
    """

    records: list[Record] = NO_RECORDS
    closed_eqns: list[Eqn]
    _slots: dict[Var, Slot]
    _names: dict[Var, str]
    _made_of_literals: dict[Any, list[Node]]
    _copied: int | None
    whole: Jaxpr | None

    def start_recording(self) -> None:
        """Make room for what is recorded."""
        self.closed_eqns = []
        self.records = []
        self.captured = []
        self._captured_by_id = {}
        self._hoisted = []
        self._slots = {}
        self._constants = {}
        self._names = {}
        self._made_of_literals = {}
        self._copied = None
        self.whole = None

    def _record(
        self,
        primitive: Primitive,
        atoms: list[Atom],
        nodes: list[Node],
        params: dict[str, Any],
        source: Source | None,
        out_avals: Sequence[Aval],
        abstract: bool,
        active: bool,
    ) -> list[Node]:
        """Note an equation; the nodes of its results."""
        active = active and primitive.varies
        made = [
            Node(Var(aval), None, abstract, active and is_inexact(aval.dtype)) for aval in out_avals
        ]
        eqn = Eqn(primitive, atoms, [n.var for n in made], params, source)
        self.records.append(Record(eqn, nodes, [weakref.ref(n) for n in made]))
        return made

    def record_all(self, eqns: Sequence[Eqn], env: dict[Any, Any]) -> None:
        """Record equations as they stand; `env` has the nodes of their variables, and gets more."""
        here = source_override() or user_frame()
        for eqn in eqns:
            nodes: list[Node] = []
            atoms: list[Atom] = []
            abstract = active = False
            for atom in eqn.inputs:
                known = atom if type(atom) is Literal else env[atom]
                if type(known) is Node:
                    abstract, active = abstract or known.abstract, active or known.active
                    nodes.append(known)
                    atoms.append(known.var)
                else:
                    atoms.append(known)  # type: ignore[arg-type]
            made = self._record(
                eqn.primitive,
                atoms,
                nodes,
                eqn.params,
                eqn.source or here,
                [v.aval for v in eqn.outputs],
                abstract,
                active,
            )
            for var, node in zip(eqn.outputs, made, strict=True):
                env[var] = node
