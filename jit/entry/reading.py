"""The small steps of emitted entries: words of records, fields of objects, tests, switches."""

from __future__ import annotations

from collections.abc import Callable
from enum import IntEnum

from jit.entry.words import WORD
from jit.runtime.writer import Function

SCALAR_BYTES = 16
"""Room for the value of a number that is an input or an output."""


def word(f: Function, base: str, at: IntEnum, ty: str = "i64") -> str:
    """One word of a record, guard, output or build."""
    return f.load(ty, f.at("i8", base, str(WORD * at)))


def field(f: Function, obj: str, offset: int, ty: str) -> str:
    """What lies at an offset of an object."""
    return f.load(ty, f.at("i8", obj, str(offset)))


def require(f: Function, condition: str, otherwise: str) -> None:
    """Go on only where the condition holds."""
    on = f.label("on")
    f.split(condition, on, otherwise)
    f.open(on)


def switch(f: Function, value: str, cases: dict[IntEnum, Callable[[], None]], default: str) -> None:
    """Run the case of a value; every case goes on after the switch."""
    labels = {kind: f.label("case") for kind in cases}
    done = f.label("done")
    rows = " ".join(f"i64 {int(kind)}, label %{label}" for kind, label in labels.items())
    f.do(f"switch i64 {value}, label %{default} [ {rows} ]")
    for kind, label in labels.items():
        f.open(label)
        cases[kind]()
        f.jump(done)
    f.open(done)
