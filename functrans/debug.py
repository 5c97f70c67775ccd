"""Debugging staged code: print and callback run when the program runs, not when it is traced."""

from __future__ import annotations

import builtins
from collections.abc import Callable
from typing import Any

import numpy as np

from functrans import tree
from functrans.bind import bind
from functrans.primitives.effects import debug_callback_p


def print(fmt: str, *args: Any, ordered: bool = False, **kwargs: Any) -> None:
    """Print `fmt.format(*args, **kwargs)` with the values the arguments have at run time.

    Under vmap once for each member, under grad once in the forward pass. `ordered` keeps the
    order of all ordered prints of a program.

    >>> print("x = {x}", x=3.0)
    x = 3.0
    """
    callback(lambda *a, **k: _print(fmt, a, k), *args, ordered=ordered, **kwargs)


def _print(fmt: str, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
    builtins.print(fmt.format(*args, **kwargs))


def callback(
    function: Callable[..., None], *args: Any, ordered: bool = False, **kwargs: Any
) -> None:
    """Call `function` with the values the arguments have when the program runs.

    `args` and `kwargs` are pytrees of arrays; the result is ignored.
    """
    leaves, treedef = tree.flatten((args, kwargs))
    traced = [i for i, x in enumerate(leaves) if hasattr(x, "aval") or isinstance(x, np.ndarray)]

    def run(*values: Any) -> None:
        filled = list(leaves)
        for i, value in zip(traced, values, strict=True):
            filled[i] = value[()] if np.ndim(value) == 0 else value
        positional, keywords = tree.unflatten(treedef, filled)
        function(*positional, **keywords)

    bind(debug_callback_p, *[leaves[i] for i in traced], callback=run, ordered=ordered)
