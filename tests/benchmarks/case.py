"""A case: one workload, written once for all libraries, and the table of all cases.

A program maps a library to a function of the case's inputs; `best(name)` adds the form in which
that library is quickest. All forms must return the same numbers in the same order.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from tests.benchmarks.libraries import BY_HAND, Function, Library

Program = Callable[[Any], Function]
Inputs = Callable[[np.random.Generator], Sequence[Any]]

MODULES = (
    "calls",
    "elementwise",
    "functions",
    "rows",
    "networks",
    "images",
    "research",
    "second_order",
    "taylor",
    "arrays",
    "unjitted",
    "unrolled",
    "loops",
    "recurrent",
    "matrices",
    "by_hand",
)
CASES: dict[str, Case] = {}


@dataclass(frozen=True, kw_only=True)
class Case:
    """One row of the table.

    `products`: NumPy's BLAS threads would spin on and slow the others down, so that libraries
    which multiply with NumPy are timed apart. `small`: a call takes microseconds, so that the
    wait for the result is done once for a block of calls. `tolerance`: the greatest difference
    between two libraries, relative to the greatest entry. `eager`: it asks for no derivative, so
    that NumPy itself can run it.
    """

    name: str
    text: str
    inputs: Inputs
    program: Program
    products: bool = False
    small: bool = False
    tolerance: float = 1e-9
    eager: bool = False
    without: tuple[str, ...] = ()
    better: dict[str, Program] = field(default_factory=dict)

    def best(self, *names: str) -> Callable[[Program], Program]:
        """Declare the form in which these libraries are quickest."""

        def declare(program: Program) -> Program:
            self.better.update(dict.fromkeys(names, program))
            return program

        return declare

    def runs_in(self, library: str) -> bool:
        """Is this library timed?"""
        if library == BY_HAND:
            return library in self.better
        return library not in self.without and (self.eager or library != "numpy")

    def function(self, library: Library) -> Function:
        """The workload in this library's form."""
        return self.better.get(library.name, self.program)(library)

    def arguments(self, library: Library) -> tuple[Any, ...]:
        """The inputs, the same for every library, as its own arrays."""
        inputs = self.inputs(np.random.default_rng(0))
        return tuple(mapped(library.array, x) for x in inputs)


def case(name: str, text: str, inputs: Inputs, **options: Any) -> Callable[[Program], Case]:
    """Declare a case; the decorated function is its program."""

    def declare(program: Program) -> Case:
        CASES[name] = Case(name=name, text=text, inputs=inputs, program=program, **options)
        return CASES[name]

    return declare


def load_cases() -> dict[str, Case]:
    """All cases, in the order of the table."""
    for module in MODULES:
        importlib.import_module(f"tests.benchmarks.cases.{module}")
    return CASES


def mapped(f: Callable[[Any], Any], tree: Any) -> Any:
    """f on the NumPy arrays of nested lists, tuples and dicts; anything else stays."""
    if isinstance(tree, dict):
        return {k: mapped(f, v) for k, v in tree.items()}
    if isinstance(tree, (list, tuple)):
        return type(tree)([mapped(f, v) for v in tree])
    return f(tree) if isinstance(tree, np.ndarray) else tree


def leaves(tree: Any) -> list[np.ndarray]:
    """The arrays of a result in order, as NumPy arrays."""
    if isinstance(tree, dict):
        return [x for k in sorted(tree) for x in leaves(tree[k])]
    if isinstance(tree, (list, tuple)):
        return [x for v in tree for x in leaves(v)]
    return [np.asarray(tree.detach() if hasattr(tree, "detach") else tree)]


def disagreement(result: Any, reference: Sequence[np.ndarray], tolerance: float) -> str | None:
    """Why a result is not the reference's, in words; None where it is."""
    found = leaves(result)
    if len(found) != len(reference):
        return f"{len(found)} results instead of {len(reference)}"
    for i, (a, b) in enumerate(zip(found, reference, strict=True)):
        if a.shape != b.shape:
            return f"result {i} has shape {a.shape} instead of {b.shape}"
        if a.dtype != b.dtype:
            return f"result {i} has dtype {a.dtype} instead of {b.dtype}"
        worst = np.max(np.abs(a - b), initial=0.0)
        if not worst <= tolerance * np.max(np.abs(b), initial=0.0):
            return f"result {i} is off by {worst:.2g}"
    return None
