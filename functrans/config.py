"""The switches of functrans: attributes of `functrans.config`, which may be set at any time."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any, Literal, get_args

from functrans.errors import FunctransError, describe

Unjitted = Literal["tiered", "compiled", "interpreted"]


class Config:
    """What can be switched.

    unjitted: how programs of un-jitted transforms run. "tiered" evaluates them with NumPy and
    compiles those that come again, in the background; "compiled" compiles each at its first run
    and waits for it; "interpreted" never compiles. FUNCTRANS_UNJITTED in the environment gives the
    value at the start.

    background: does compiling take place in a thread of its own, so that nothing waits for it?
    If not, a program that comes again is compiled when it does.

    memo: do un-jitted transforms recognise what they traced before? FUNCTRANS_MEMO=off in the
    environment turns it off.

    memo_steps: how many operations the memo keeps in all, some 2 kB each; the functions that were
    not met for longest are forgotten first.

    >>> config.unjitted
    'tiered'
    """

    __slots__ = ("background", "memo", "memo_steps", "unjitted")

    unjitted: Unjitted
    background: bool
    memo: bool
    memo_steps: int

    def __init__(self) -> None:
        self.unjitted = os.environ.get("FUNCTRANS_UNJITTED", "tiered")  # type: ignore[assignment]
        self.background = True
        self.memo = os.environ.get("FUNCTRANS_MEMO", "on") not in ("off", "0")
        self.memo_steps = 100_000

    def __setattr__(self, name: str, value: Any) -> None:
        """Set a switch. They are plain attributes, since they are read at every call."""
        check = _checks.get(name)
        if check is not None:
            check(name, value)
        object.__setattr__(self, name, value)

    def __repr__(self) -> str:
        return (
            f"Config(unjitted={self.unjitted!r}, background={self.background}, memo={self.memo}, "
            f"memo_steps={self.memo_steps})"
        )


def _require_mode(_: str, value: Any) -> None:
    if value not in get_args(Unjitted):
        raise FunctransError(
            "config.unjitted (FUNCTRANS_UNJITTED) must be one of "
            f"{', '.join(get_args(Unjitted))}, not {value!r}."
        )


def _require_flag(name: str, value: Any) -> None:
    if type(value) is not bool:
        raise FunctransError(f"config.{name} must be True or False, but got {describe(value)}.")


def _require_count(name: str, value: Any) -> None:
    if type(value) is not int or value < 1:
        raise FunctransError(f"config.{name} must be a positive int, but got {describe(value)}.")


_checks: dict[str, Callable[[str, Any], None]] = {
    "unjitted": _require_mode,
    "background": _require_flag,
    "memo": _require_flag,
    "memo_steps": _require_count,
}

config = Config()
