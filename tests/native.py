"""Native code for the tests: `compiled(jaxpr)` compiles a jaxpr, keeping nothing."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from functrans.ir import Jaxpr
from jit.pipeline import compile_jaxpr


def compiled(jaxpr: Jaxpr) -> Callable[[list[Any]], list[Any]]:
    """The jaxpr as native code: a list of arrays in, a list of fresh arrays out."""
    executable = compile_jaxpr(jaxpr)
    return lambda args: executable([np.asarray(x) for x in args])
