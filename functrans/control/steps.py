"""Steps: what a program does again and again, as calls of one program.

A Python loop is traced to all of its steps. Derivatives of a call are those of the program that is
called, and each of these is built once: so steps are found before derivatives are taken, by what
repeats in the list of equations, in time that is linear in its length.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import groupby
from typing import Any, NamedTuple, TypeAlias

import numpy as np

from functrans.control.bodies import chosen
from functrans.control.call import call_p
from functrans.ir import INLINE, Atom, Effect, Eqn, Jaxpr, Literal, Var, copied
from functrans.transforms.cache import derived

LEAST_STEPS = 8
LEAST_SAVED = 150
"""Fewer equations are not worth looking for."""
LONGEST, SHORTEST = 400, 6
"""The equations of a step: more are not looked for, and of fewer several make one."""
Kinds: TypeAlias = "np.ndarray[Any, np.dtype[np.int64]]"
"""A number for each equation."""


class Step(NamedTuple):
    """One of the repetitions: its equations, what they read, and what is read that they make.

    shape : what each equation reads, as numbers: a result of the step (from 1 on), something from
            elsewhere (below 0), a literal (0)
    given : what is from elsewhere, in the order of those numbers
    """

    start: int
    eqns: list[Eqn]
    shape: tuple[int, ...]
    given: list[Atom]

    @property
    def outputs(self) -> list[Var]:
        return [v for eqn in self.eqns for v in eqn.outputs]

    @property
    def literals(self) -> list[Literal]:
        return [a for eqn in self.eqns for a in eqn.inputs if type(a) is Literal]


def in_steps(jaxpr: Jaxpr) -> Jaxpr:
    """The same program, with steps that repeat as calls; itself where none do."""
    return (_in_steps(jaxpr) if len(jaxpr.eqns) >= LEAST_SAVED else None) or jaxpr


@derived
def _in_steps(jaxpr: Jaxpr) -> Jaxpr | None:
    eqns = _Search(jaxpr).rewritten()
    if len(eqns) == len(jaxpr.eqns):
        return None
    found = Jaxpr(jaxpr.invars, eqns, jaxpr.outvars, jaxpr.num_consts)
    found.simple = jaxpr.simple
    return found


class _Search:
    """The equations of a program by kind, and where each variable is read last.

    Equations of one of the `kinds` differ in their operands only; of one `family`, in params too.
    """

    def __init__(self, jaxpr: Jaxpr) -> None:
        self.eqns = jaxpr.eqns
        self.kinds, self.families = _numbered(jaxpr.eqns)
        self.last: dict[Atom, int] = {}
        for k, eqn in enumerate(jaxpr.eqns):
            self.last.update(dict.fromkeys(eqn.inputs, k))
        self.last.update(dict.fromkeys(jaxpr.outvars, len(jaxpr.eqns)))

    def rewritten(self) -> list[Eqn]:
        """The equations, with calls for those of steps."""
        made: list[Eqn] = []
        done = 0
        for start, stop, period in self.runs():
            length = period * -(-SHORTEST // period)
            for group in self.groups(start, stop, length):
                made += self.eqns[done : group[0].start]
                made += self.calls(group, length)
                done = group[-1].start + length
        return [*made, *self.eqns[done:]]

    def runs(self) -> list[tuple[int, int, int]]:
        """The stretches in which the families repeat, as (start, stop, period), in order."""
        found: list[tuple[int, int, int]] = []
        stretches = [(0, len(self.eqns))]
        while stretches:
            low, high = stretches.pop()
            run = _longest_run(self.families[low:high])
            if run is not None:
                start, stop, period = low + run[0], low + run[1], run[2]
                found.append((start, stop, period))
                stretches += [(low, start), (stop, high)]
        return sorted(found)

    def groups(self, start: int, stop: int, length: int) -> Iterator[list[Step]]:
        """The steps of a run that are alike, where there are enough of them to pay."""
        start += self.narrowest(start, length)
        every = range(length)
        steps = [self.step(k, every) for k in range(start, stop - length + 1, length)]
        for _, alike in groupby(steps, key=lambda step: step.shape):
            group = list(alike)
            if len(group) < LEAST_STEPS or (len(group) - 1) * length < LEAST_SAVED:
                continue
            apart = self.apart(group, length)
            if apart is None:
                continue
            inner = [k for k in every if k not in apart]
            yield [self.step(step.start, inner) for step in group] if apart else group

    def narrowest(self, start: int, length: int) -> int:
        """Where a step begins best: where the fewest values go on to the step that follows."""
        crossing = np.zeros(length + 1, int)
        middle = start + length
        for k in range(start, middle + length):
            for var in self.eqns[k].outputs:
                # What is read further away goes on from wherever the step begins.
                read = min(self.last.get(var, k), k + length)
                first, last = max(k + 1, middle) - middle, min(read, middle + length) - middle
                if first <= last:
                    crossing[first] += 1
                    crossing[min(last + 1, length)] -= 1
        return int(np.argmin(np.cumsum(crossing)[:length]))

    def step(self, start: int, inner: Sequence[int]) -> Step:
        """The step that begins there, of these equations from it on."""
        eqns = [self.eqns[start + k] for k in inner]
        own: dict[Atom, int] = {}
        given: dict[Atom, int] = {}
        shape: list[int] = []
        for eqn in eqns:
            for atom in eqn.inputs:
                if type(atom) is Literal:
                    shape.append(0)
                elif atom in own:
                    shape.append(own[atom])
                else:
                    shape.append(given.setdefault(atom, -1 - len(given)))
            for var in eqn.outputs:
                own[var] = 1 + len(own)
        return Step(start, eqns, tuple(shape), list(given))

    def apart(self, group: Sequence[Step], length: int) -> set[int] | None:
        """The equations whose params differ from step to step, with those that they read of it.

        They go before the step; None where they would be most of it.
        """
        starts = np.array([step.start for step in group])
        kinds = self.kinds[starts[:, None] + np.arange(length)]
        differ = np.flatnonzero((kinds != kinds[0]).any(axis=0)).tolist()
        first = group[0]
        maker: dict[Atom, int] = {v: k for k, eqn in enumerate(first.eqns) for v in eqn.outputs}
        apart: set[int] = set()
        while differ:
            k = differ.pop()
            if k not in apart:
                apart.add(k)
                differ += [maker[a] for a in first.eqns[k].inputs if a in maker]
        return apart if 2 * len(apart) <= length else None

    def calls(self, group: Sequence[Step], length: int) -> list[Eqn]:
        """The equations of steps that are alike: of each what is apart from it, and its call."""
        literals, outputs = [s.literals for s in group], [s.outputs for s in group]
        differ = [len({a.key() for a in same}) > 1 for same in zip(*literals, strict=True)]
        reach = [s.start + length for s in group]
        used = [
            any(self.last.get(v, -1) >= end for v, end in zip(same, reach, strict=True))
            for same in zip(*outputs, strict=True)
        ]
        params = {"jaxpr": _body(group[0], differ, used), "name": "step", "engine": INLINE}
        made: list[Eqn] = []
        for step, constants, results in zip(group, literals, outputs, strict=True):
            inner = set(map(id, step.eqns))
            every = self.eqns[step.start : step.start + length]
            made += [eqn for eqn in every if id(eqn) not in inner]
            inputs = [*step.given, *chosen(constants, differ)]
            made.append(Eqn(call_p, inputs, chosen(results, used), params, step.eqns[0].source))
        return made


def _body(step: Step, differ: Sequence[bool], used: Sequence[bool]) -> Jaxpr:
    """The program of a step: of what it is given, and of those literals that differ."""
    invars = [Var(a.aval) for a in step.given]
    env: dict[Atom, Atom] = dict(zip(step.given, invars, strict=True))
    flags = iter(differ)
    eqns: list[Eqn] = []
    for eqn in step.eqns:
        inputs: list[Atom] = []
        for atom in eqn.inputs:
            if type(atom) is Literal and next(flags):
                invars.append(Var(atom.aval))
                inputs.append(invars[-1])
            else:
                inputs.append(atom)
        eqns.append(Eqn(eqn.primitive, inputs, eqn.outputs, eqn.params, eqn.source))
    eqns = copied(eqns, env, None)
    body = Jaxpr(invars, eqns, [env[v] for v in chosen(step.outputs, used)])
    body.simple = True
    return body


def _numbered(eqns: Sequence[Eqn]) -> tuple[Kinds, Kinds]:
    """The kinds and families of equations, as the place of the first of each."""
    numbers: dict[object, int] = {}
    kinds: list[int] = []
    families: list[int] = []
    for k, eqn in enumerate(eqns):
        if eqn.effect is not Effect.NONE:
            kinds.append(k)
            families.append(k)
            continue
        types = (eqn.primitive, *[a.aval for a in eqn.inputs], *[v.aval for v in eqn.outputs])
        family = numbers.setdefault(types, k)
        families.append(family)
        try:
            kinds.append(numbers.setdefault((family, *eqn.params.items()), k))
        except TypeError:  # a param without a hash is like no other
            kinds.append(k)
    return np.array(kinds), np.array(families)


def _longest_run(families: Kinds) -> tuple[int, int, int] | None:
    """(start, stop, period) of the longest stretch that repeats often enough."""
    size = len(families)
    periods = range(1, min(LONGEST, size // LEAST_STEPS) + 1)
    equal = {p: int(np.count_nonzero(families[p:] == families[:-p])) for p in periods}
    best, found = LEAST_SAVED - 1, None
    for period in sorted(equal, key=lambda p: -equal[p]):
        # Where two loops are, a common multiple of their periods repeats most, but in none of them.
        if equal[period] + period <= best:
            continue
        breaks = np.flatnonzero(families[period:] != families[:-period])
        edges = np.concatenate([[-1], breaks, [size - period]])
        widest = int(np.argmax(np.diff(edges)))
        start, stop = int(edges[widest]) + 1, int(edges[widest + 1]) + period
        if stop - start > best and stop - start >= LEAST_STEPS * period:
            best, found = stop - start, (start, stop, period)
    return found
