"""The switches of functrans: attributes of `functrans.config`, which may be set at any time."""

from __future__ import annotations

import os
from typing import Literal, get_args

from functrans.errors import FunctransError

Unjitted = Literal["tiered", "compiled", "interpreted"]


class Config:
    """What can be switched.

    unjitted: how programs of un-jitted transforms run. "tiered" evaluates them with NumPy and
    compiles those that come again, in the background; "compiled" compiles each at its first run
    and waits for it; "interpreted" never compiles. FUNCTRANS_UNJITTED in the environment gives the
    value at the start.

    >>> config.unjitted
    'tiered'
    """

    __slots__ = ("_unjitted",)

    def __init__(self) -> None:
        self.unjitted = os.environ.get("FUNCTRANS_UNJITTED", "tiered")  # type: ignore[assignment]

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

    def __repr__(self) -> str:
        return f"Config(unjitted={self.unjitted!r})"


config = Config()
