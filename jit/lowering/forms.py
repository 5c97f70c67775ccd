"""The form that a loop or a branch takes in native code, and why it is that one."""

from __future__ import annotations

from typing import Literal, NamedTuple, TypeAlias

from functrans.extend import Eqn

FormName: TypeAlias = Literal["program", "registers", "lanes"]


class Form(NamedTuple):
    """program    bodies are programs of their own, called at every step
    registers  the loop is one loop of a kernel, its values in registers
    lanes      the same for many elements at once, one in each lane
    """

    name: FormName
    reason: str


def choose(eqn: Eqn) -> Form:
    """The form of a control flow equation."""
    return Form("program", "the only form that there is")
