"""Why: what jit says of a function's programs, and of calls that native code did not serve."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np

from functrans.extend import TRACING, Source, engine_name, name_of, where
from jit.dispatch import why_not
from jit.entry.base import entry_problem
from jit.signatures import MOST_DIFFERENCES, Signature, nearest, shortened
from jit.specialised import Specialised


class ProgramReason(NamedTuple):
    """Why one program was made, and how it was called since.

    arguments: the signature it is for        place: the call that it was made for
    like: number of the earlier program that is most like it, None for the first
    differences: how the call differed from that      notes: what else there is to say
    """

    arguments: str
    place: Source | None
    like: int | None
    differences: tuple[str, ...]
    native_calls: int
    python_calls: int
    notes: tuple[str, ...]

    def lines(self, number: int) -> list[str]:
        origin = f"traced for the call in {where(self.place)}"
        if self.like is not None:
            listed = ", ".join(shortened(self.differences, MOST_DIFFERENCES))
            origin = f"{origin}; unlike {self.like}: {listed}"
        calls = f"calls since: {self.native_calls} native, {self.python_calls} through Python"
        return [f"{number}. {self.arguments}", *[f"   {x}" for x in (origin, calls, *self.notes)]]


class Why(NamedTuple):
    """Why a jitted function has the programs that it has; print it."""

    function: str
    programs: tuple[ProgramReason, ...]
    notes: tuple[str, ...]

    def __str__(self) -> str:
        count = len(self.programs)
        lines = [f"{self.function}: {count} program{'s' if count != 1 else ''}"]
        for k, program in enumerate(self.programs):
            lines += program.lines(k + 1)
        return "\n".join([*lines, *self.notes])

    def __repr__(self) -> str:
        return str(self)


def why(
    f: Callable[..., Any],
    programs: Sequence[Specialised],
    unkept: Sequence[Signature],
    full: bool,
) -> Why:
    """The report for the programs of f, oldest first, and the traces that could not be kept.

    `full`: the function has as many native records as it may.
    """
    place = where(f)
    function = place if place.startswith(name_of(f)) else f"{name_of(f)} ({place})"
    signatures = [p.signature for p in programs]
    found = [reason(p, signatures[:k]) for k, p in enumerate(programs)]
    return Why(function, tuple(found), tuple(notes_of_all(unkept, full)))


def reason(program: Specialised, earlier: Sequence[Signature]) -> ProgramReason:
    """What there is to say of one program."""
    near = nearest(program.signature, earlier)
    native = sum(r.hits for r in program.records.values() if r is not None)
    return ProgramReason(
        str(program.signature),
        program.signature.place,
        None if near is None else near[0] + 1,
        () if near is None else tuple(near[1]),
        native,
        program.hits,
        (*donations(program), *python_path(program)),
    )


def notes_of_all(unkept: Sequence[Signature], full: bool) -> list[str]:
    """What concerns no single program."""
    notes: list[str] = []
    if engine_name() == "numpy":
        notes.append("programs are evaluated with NumPy: FUNCTRANS_ENGINE is 'numpy'")
    problem = entry_problem()
    if problem is not None:
        notes.append(f"all calls go through Python: {problem}")
    if full:
        notes.append("further signatures are served through Python: there are too many of them")
    if unkept:
        last = unkept[-1]
        notes.append(
            f"traced anew at each of the last {len(unkept)} calls inside other transforms (last in "
            f"{where(last.place)}): it captures values that these trace. Pass them as arguments"
        )
    return notes


def donations(program: Specialised) -> list[str]:
    """The donated arguments whose memory no result took."""
    dispatcher = program.dispatcher
    if dispatcher is None:
        return []
    names = input_names(program)
    vain = [
        f"{names[k]} was donated in vain: no result is left that has its type"
        for k in program.donate
        if k not in dispatcher.taken
    ]
    return [*vain, *program.refused.values()]


def input_names(program: Specialised) -> list[str]:
    """What to call the inputs of a program, captured arrays first."""
    leaves = [name for found in program.signature.leaves.values() for name in found]
    return [*["a captured array" for _ in program.captured], *leaves]


def python_path(program: Specialised) -> list[str]:
    """Why calls of this program were served through Python."""
    found: list[str] = []
    if program.unsuited is not None:
        found.append(f"served through Python: {program.unsuited}")
    if program.detour is not None:
        text, place = program.detour
        found.append(f"last call through Python in {where(place)}: {text}")
    return found


# -- calls that went through Python -----------------------------------------------------------


def note_donations(program: Specialised, given: Sequence[Any], place: Source | None) -> None:
    """Keep with the program which donations the call with these leaves, just made, refused."""
    for position, text in refusals(program, given).items():
        program.refused[position] = f"{text} (in {where(place)})"


def note_detour(program: Specialised, given: Sequence[Any], place: Source | None) -> None:
    """Keep with the program why a call with these leaves, just made, needed Python."""
    names = input_names(program)[len(program.captured) :]
    pairs = zip(names, map(unread, given), strict=True)
    reasons = [f"{name} {text}" for name, text in pairs if text is not None]
    reasons = reasons or list(refusals(program, given).values()) or [unexplained()]
    program.detour = "; ".join(reasons), place


def refusals(program: Specialised, given: Sequence[Any]) -> dict[int, str]:
    """Why no result took the memory of donated arrays, by input; empty where one did."""
    names = input_names(program)
    inputs = [*program.captured, *given]
    found = {k: refusal(program, inputs, k, names) for k in program.donate}
    return {k: text for k, text in found.items() if text is not None}


def unread(value: Any) -> str | None:
    """What keeps native code from reading this value as it is; None where nothing does."""
    if isinstance(value, np.ndarray):
        if type(value) is not np.ndarray:
            return f"is of the class {type(value).__name__}, not an ndarray itself"
        if not value.dtype.isnative:
            return "is byte-swapped"
        if not value.flags.aligned:
            return "is not aligned"
        if not value.flags.c_contiguous:
            return "is in Fortran order" if value.flags.f_contiguous else "is strided"
    elif type(value) is int and not -(1 << 63) <= value < 1 << 63:
        return "is an int of more than 64 bits"
    return None


def refusal(
    program: Specialised, inputs: Sequence[Any], position: int, names: Sequence[str]
) -> str | None:
    """Why no result took the memory of a donated array; None where one did, or none could."""
    dispatcher = program.dispatcher
    if dispatcher is None or position not in dispatcher.taken:
        return None
    layout = unread(inputs[position])
    if layout is not None:
        return f"{names[position]} was donated, but copied: it {layout}"
    copied = np.empty(0)  # what is not read as it is is copied first, and then in nobody's way
    arrays = [x if isinstance(x, np.ndarray) and unread(x) is None else copied for x in inputs]
    reason = why_not(arrays, arrays, position)
    return reason and f"{names[position]} was donated, but copied: {reason.text(names)}"


def unexplained() -> str:
    """The same where every argument could be read."""
    if TRACING[0]:
        return "another thread was tracing"
    return "an argument equals that of the first call, but in a way that only Python can tell"
