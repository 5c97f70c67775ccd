"""functrans: composable transformations of functions of NumPy arrays, compiled to native code.

    import functrans as ft
    ft.grad(loss)(params);  ft.jacrev(f)(x);  ft.vmap(ft.grad(f), in_axes=(None, 0))(p, xs)

This file holds the public names, and the one line that plugs the native engine in.
"""

from __future__ import annotations

import importlib
from typing import Any

from functrans.collecting import collecting_rarely, settle

__version__ = "0.1.0"

# A sixth of an import would go to looking for garbage among modules that all live on.
with collecting_rarely():
    from functrans import tree, tree_util
    from functrans.api import (
        ShapeDtypeStruct,
        checkpoint,
        closure_convert,
        custom_gradient,
        custom_jvp,
        custom_vjp,
        derivative,
        enable_grad,
        eval_shape,
        grad,
        hessian,
        hvp,
        jacfwd,
        jacobian,
        jacrev,
        jet,
        jvp,
        laplacian,
        linear_transpose,
        linearize,
        make_jaxpr,
        no_grad,
        stop_gradient,
        taylor,
        value_and_grad,
        vhp,
        vjp,
        vmap,
    )
    from functrans.callbacks import io_callback, pure_callback
    from functrans.config import config
    from functrans.engine import start_early
    from functrans.errors import FunctransError
    from functrans.extend import jit, plug
    from functrans.ir import Array
    from functrans.memo.info import memo_info
    from functrans.surface.declare import hooks

    plug("jit.api", __version__)
    hooks.load_library = lambda _: [importlib.import_module(f"functrans.{m}") for m in _LIBRARY]
    hooks.foreign = lambda f: importlib.import_module("functrans.scipy.special").standing_for(f)
    start_early()
    settle()

remat = checkpoint

_LIBRARY = ("numpy", "numpy.linalg")

_MODULES = frozenset(
    {
        "checkpoint_policies",
        "debug",
        "dtypes",
        "errors",
        "extend",
        "flatten_util",
        "lax",
        "nn",
        "numpy",
        "ops",
        "optim",
        "random",
        "scipy",
        "test_util",
        "typing",
    }
)


def __getattr__(name: str) -> Any:
    """The library's packages are imported when they are first named."""
    if name in _MODULES:
        return importlib.import_module(f"functrans.{name}")
    if name == "draw":
        return importlib.import_module("functrans.drawing").draw
    raise AttributeError(f"module 'functrans' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *_MODULES, "draw"})


__all__ = [
    "Array",
    "FunctransError",
    "ShapeDtypeStruct",
    "checkpoint",
    "closure_convert",
    "config",
    "custom_gradient",
    "custom_jvp",
    "custom_vjp",
    "derivative",
    "enable_grad",
    "eval_shape",
    "grad",
    "hessian",
    "hvp",
    "io_callback",
    "jacfwd",
    "jacobian",
    "jacrev",
    "jet",
    "jit",
    "jvp",
    "laplacian",
    "linear_transpose",
    "linearize",
    "make_jaxpr",
    "memo_info",
    "no_grad",
    "pure_callback",
    "remat",
    "stop_gradient",
    "taylor",
    "tree",
    "tree_util",
    "value_and_grad",
    "vhp",
    "vjp",
    "vmap",
]
