"""Machine code of a module's text: its functions in several modules, compiled side by side.

LLVM takes a module at a time, and its code generator works on one function after another. The
modules see each other's functions, and the linker makes one image of them. What runs once a call
goes to a code generator that takes a quarter of the time; else no function's code depends on how
they were divided.
"""

from __future__ import annotations

import os
import re
import sys
import threading
from collections.abc import Callable, Sequence
from contextlib import suppress
from functools import cache
from typing import Any, TypeVar

from jit import native
from jit.image import POSIX
from jit.names import COLD
from jit.native import Loadable
from jit.target import Target

T = TypeVar("T")

PIECE = 6000
"""A module of so many characters is not divided: LLVM takes a millisecond for an empty one."""
LEAST_COLD = 40
"""Cold functions of fewer lines are not worth a module of their own."""
MOST = 4
_GLOBAL = re.compile(r"(@[\w.]+) = (internal )?(constant|global) .*[^{]$")
_NAME = re.compile(r" %[\w.]+")


def module_code(text: str, target: Target, bench: int = 0) -> Loadable:
    """The machine code of a module. Two threads must not use one bench at a time for long."""
    texts = [text]
    if has_linker(target) and not is_cold(text):
        texts = divided(text, min(len(text) // PIECE, MOST, processors()))
    if len(texts) > 1:
        from jit.elf import Unlinkable, link_image

        # The cold module, which is the last, is compiled by who has the first.
        workers = len(texts) - is_cold(texts[-1])
        jobs = [
            lambda k=k: [compiled(t, target, bench + k) for t in texts[k::workers]]
            for k in range(workers)
        ]
        with suppress(Unlinkable):
            return link_image(*[code for codes in side_by_side(jobs) for code in codes])
    return native.loadable(compiled(text, target, bench))


def has_linker(target: Target) -> bool:
    """Can several objects for this target be made one here?"""
    return POSIX and sys.platform == "linux" and target.triple.startswith("x86_64")


def processors() -> int:
    """How many threads can run at the same time."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


PROGRAMS, RUNTIME = 0, MOST
"""The benches of programs, and of what they call: these are compiled at the same time."""
QUICK = 2 * MOST
"""The slot of what is cold, whoever compiles it."""


@cache
def generator(target: Target, slot: int) -> Any:
    """The code generator of a slot, for one thread at a time."""
    return native.code_generator(target, 0 if slot == QUICK else 2)


def compiled(text: str, target: Target, slot: int) -> bytes:
    """One module, by the code generator of a slot, or of that for what is cold."""
    slot = QUICK if is_cold(text) and has_linker(target) else slot
    with _locks[slot]:
        return native.machine_code(text, generator(target, slot))


def is_compiling() -> bool:
    """Is some thread at it?"""
    return any(lock.locked() for lock in _locks)


_locks = [threading.Lock() for _ in range(QUICK + 1)]


def renew_locks() -> None:
    """A child of fork must not wait for threads that only its parent has."""
    _locks[:] = [threading.Lock() for _ in _locks]


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=renew_locks)


def side_by_side(jobs: Sequence[Callable[[], T]]) -> list[T]:
    """The results of the jobs, the first run here and the others in threads of their own."""
    results: dict[int, T] = {}
    errors: list[BaseException] = []

    def run(k: int) -> None:
        try:
            results[k] = jobs[k]()
        except BaseException as error:
            errors.append(error)

    threads = [threading.Thread(target=run, args=(k,)) for k in range(1, len(jobs))]
    for thread in threads:
        thread.start()
    run(0)
    for thread in threads:
        thread.join()
    if errors:
        raise errors[0]
    return [results[k] for k in range(len(jobs))]


def divided(text: str, count: int) -> list[str]:
    """The text of a module as up to `count` modules of about one weight, and one of what is cold.

    Functions begin and end on lines of their own. A module whose data takes more than a line stays
    whole.
    """
    shared, given, functions = parsed(text)
    if any(_GLOBAL.match(line) is None for line in given):
        return [text]
    weights = [weight(function) for function in functions]
    cold = [k for k, function in enumerate(functions) if is_cold(function)]
    if len(cold) == len(functions):
        return [text]  # one code generator takes all of it
    if sum(weights[k] for k in cold) < LEAST_COLD:
        cold = []
    hot = [k for k in range(len(functions)) if k not in cold]
    groups = balanced(hot, weights, max(1, count), sum(weights[k] for k in cold))
    groups += [cold] if cold else []
    if len(groups) < 2:
        return [text]
    owned = [line.replace(" = internal ", " = hidden ", 1) for line in given]
    borrowed = [declared_global(line) for line in given]
    declared = [declaration(function) for function in functions]
    texts: list[str] = []
    for k, group in enumerate(groups):
        own = set(group)
        lines = [*shared, *(borrowed if k else owned)]
        lines += [d for number, d in enumerate(declared) if number not in own]
        lines += [visible(functions[number]) for number in sorted(own)]
        texts.append("\n".join(lines) + "\n")
    return texts


def balanced(
    members: Sequence[int], weights: Sequence[int], count: int, first: int
) -> list[list[int]]:
    """The members in up to `count` groups of about one weight; the first has `first` already."""
    groups: list[list[int]] = [[] for _ in range(min(count, len(members)))]
    loads = [first] + [0] * len(groups)
    for number in sorted(members, key=lambda k: -weights[k]):
        # None is left empty, whatever the first has.
        group = min(range(len(groups)), key=lambda g: (bool(groups[g]), loads[g]))
        groups[group].append(number)
        loads[group] += weights[number]
    return groups


def weight(function: str) -> int:
    """How long LLVM takes for a function, in fifths of lines; assembly is one line."""
    lines = function.count("\n")
    return lines if is_cold(function) else 5 * lines


def is_cold(text: str) -> bool:
    """Are all functions of a module, or is a function, to be compiled quickly?"""
    return text.count(COLD) == text.count("\ndefine ") + text.startswith("define ")


def parsed(text: str) -> tuple[list[str], list[str], list[str]]:
    """The lines that every module needs, those that define data, and the functions."""
    shared: list[str] = []
    given: list[str] = []
    functions: list[str] = []
    start = None
    lines = text.split("\n")
    for number, line in enumerate(lines):
        if start is not None:
            if line == "}":
                functions.append("\n".join(lines[start : number + 1]))
                start = None
        elif line.startswith("define "):
            start = number
        elif line.startswith("@") and " = external " not in line:
            given.append(line)
        elif line:
            shared.append(line)
    return shared, given, functions


def declared_global(line: str) -> str:
    """Data of another module."""
    found = _GLOBAL.match(line)
    if found is None:
        raise ValueError(f"not a constant or variable of one line: {line[:80]}")
    # Pointers have no types, so that any will do.
    return f"{found[1]} = external {'hidden ' if found[2] else ''}{found[3]} i8"


def visible(function: str) -> str:
    """A function that other modules of the program may call."""
    return function.replace("define internal ", "define hidden ", 1)


def declaration(function: str) -> str:
    """The declaration of a function that another module defines."""
    header = visible(function[: function.index("{\n")])
    return _NAME.sub("", header[: header.rindex(")") + 1]).replace("define ", "declare ", 1)
