"""Native code for the tests: `compiled(jaxpr)` runs a jaxpr through the whole pipeline, no cache."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable
from typing import Any

from functrans.bind import eval_jaxpr
from functrans.ir import Jaxpr

AVAILABLE = importlib.util.find_spec("jit.pipeline") is not None


def compiled(jaxpr: Jaxpr) -> Callable[[list[Any]], list[Any]]:
    """The jaxpr as native code: a list of arrays in, a list of fresh arrays out."""
    if not AVAILABLE:
        return lambda args: eval_jaxpr(jaxpr, args)
    from jit.pipeline import compile_jaxpr

    executable = compile_jaxpr(jaxpr)
    return lambda args: executable(args)
