"""functrans: composable transformations of functions of NumPy arrays, compiled to native code.

    import functrans as ft
    ft.grad(loss)(params);  ft.jacrev(f)(x);  ft.vmap(ft.grad(f), in_axes=(None, 0))(p, xs)

This file holds the public names, and the one line that plugs the native engine in.
"""

from __future__ import annotations

import importlib
import sys
from typing import TYPE_CHECKING, Any

from functrans.collecting import collecting_rarely, settle

__version__ = "0.1.0"

# A sixth of an import would go to looking for garbage among modules that all live on.
with collecting_rarely():
    from functrans import tree
    from functrans.api.gradients import grad, value_and_grad
    from functrans.api.modes import enable_grad, no_grad, stop_gradient
    from functrans.config import config
    from functrans.engine import jit, plug, start_early
    from functrans.errors import FunctransError
    from functrans.exports import on_demand
    from functrans.ir import Array
    from functrans.surface.declare import hooks

    plug("jit.api", __version__)
    hooks.load_library = lambda _: [importlib.import_module(f"functrans.{m}") for m in _LIBRARY]
    hooks.foreign = lambda f: importlib.import_module("functrans.scipy.special").standing_for(f)
    start_early()
    settle()

if TYPE_CHECKING:
    from functrans import tree_util
    from functrans.api.custom_jvp import custom_jvp
    from functrans.api.custom_vjp import custom_gradient, custom_vjp
    from functrans.api.expansion import derivative, jet, laplacian, taylor
    from functrans.api.forward import jvp, linear_transpose, linearize
    from functrans.api.hessians import hessian, hvp, vhp
    from functrans.api.inspecting import ShapeDtypeStruct, closure_convert, eval_shape, make_jaxpr
    from functrans.api.jacobians import jacfwd, jacobian, jacrev
    from functrans.api.mapping import vmap
    from functrans.api.remat import checkpoint, remat
    from functrans.api.reverse import vjp
    from functrans.callbacks import io_callback, pure_callback
    from functrans.drawing import draw
    from functrans.memo.info import memo_info

_LIBRARY = ("numpy", "numpy.linalg")

_HOMES = {
    "functrans.api.custom_jvp": ("custom_jvp",),
    "functrans.api.custom_vjp": ("custom_gradient", "custom_vjp"),
    "functrans.api.expansion": ("derivative", "jet", "laplacian", "taylor"),
    "functrans.api.forward": ("jvp", "linear_transpose", "linearize"),
    "functrans.api.hessians": ("hessian", "hvp", "vhp"),
    "functrans.api.inspecting": (
        "ShapeDtypeStruct",
        "closure_convert",
        "eval_shape",
        "make_jaxpr",
    ),
    "functrans.api.jacobians": ("jacfwd", "jacobian", "jacrev"),
    "functrans.api.mapping": ("vmap",),
    "functrans.api.remat": ("checkpoint", "remat"),
    "functrans.api.reverse": ("vjp",),
    "functrans.callbacks": ("io_callback", "pure_callback"),
    "functrans.drawing": ("draw",),
    "functrans.memo.info": ("memo_info",),
}
"""Where the names are made that are imported when they are first asked for."""
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
        "tree_util",
        "typing",
    }
)
"""The library's packages, likewise."""
_export = on_demand(sys.modules[__name__], _HOMES)


def __getattr__(name: str) -> Any:
    return importlib.import_module(f"functrans.{name}") if name in _MODULES else _export(name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__, *_MODULES})


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
    "draw",
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
