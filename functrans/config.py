"""The switches of functrans: attributes of `functrans.config`, which may be set at any time."""

from __future__ import annotations

import os
from typing import Literal, get_args

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

    __slots__ = ("_background", "_memo", "_memo_steps", "_unjitted")

    def __init__(self) -> None:
        self.unjitted = os.environ.get("FUNCTRANS_UNJITTED", "tiered")  # type: ignore[assignment]
        self.background = True
        self.memo = os.environ.get("FUNCTRANS_MEMO", "on") not in ("off", "0")
        self.memo_steps = 100_000

    @property
    def unjitted(self) -> Unjitted:
        return self._unjitted

    @unjitted.setter
    def unjitted(self, value: Unjitted) -> None:
        if value not in get_args(Unjitted):
            raise FunctransError(
                "config.unjitted (FUNCTRANS_UNJITTED) must be one of "
                f"{', '.join(get_args(Unjitted))}, not {value!r}."
            )
        self._unjitted: Unjitted = value

    @property
    def background(self) -> bool:
        return self._background

    @background.setter
    def background(self, value: bool) -> None:
        self._background = _flag("background", value)

    @property
    def memo(self) -> bool:
        return self._memo

    @memo.setter
    def memo(self, value: bool) -> None:
        self._memo = _flag("memo", value)

    @property
    def memo_steps(self) -> int:
        return self._memo_steps

    @memo_steps.setter
    def memo_steps(self, value: int) -> None:
        if type(value) is not int or value < 1:
            raise FunctransError(
                f"config.memo_steps must be a positive int, but got {describe(value)}."
            )
        self._memo_steps = value

    def __repr__(self) -> str:
        return (
            f"Config(unjitted={self.unjitted!r}, background={self.background}, memo={self.memo}, "
            f"memo_steps={self.memo_steps})"
        )


def _flag(name: str, value: bool) -> bool:
    if type(value) is not bool:
        raise FunctransError(f"config.{name} must be True or False, but got {describe(value)}.")
    return value


config = Config()
