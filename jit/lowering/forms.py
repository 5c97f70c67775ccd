"""The form that a loop or a branch takes in native code, and why it is that one."""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal, NamedTuple, TypeAlias

from functrans.extend import Eqn, Jaxpr
from jit.lowering.registers import RegisterForm, register_form

FormName: TypeAlias = Literal["program", "registers", "lanes"]


class Form(NamedTuple):
    """program    bodies are programs of their own, called at every step
    registers  the loop is one loop of a kernel, its values in registers
    lanes      the same for many elements at once, one in each lane
    """

    name: FormName
    reason: str


def choose(eqn: Eqn, expanded: Callable[[Jaxpr], Jaxpr]) -> Form | RegisterForm:
    """The form of a control flow equation; `expanded` writes out the expansions of a body."""
    found = register_form(eqn, expanded)
    return Form("program", found) if isinstance(found, str) else found
