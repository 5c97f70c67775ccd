"""The seam: all that a backend or another package may import of functrans."""

import sys
from typing import TYPE_CHECKING

from functrans import primitives, tree
from functrans.api.arguments import split_arguments
from functrans.api.border import Staged, array_leaf, finish, stage
from functrans.api.tape import Program, Tape
from functrans.asking import Asked
from functrans.bind import (
    TRACING,
    add_source,
    ambient_axes,
    bind,
    current_interpreter,
    eval_jaxpr,
    is_evaluating,
    last_uses,
)
from functrans.collecting import collecting_rarely
from functrans.config import config
from functrans.control.call import Engine, call, call_p
from functrans.engine import IMPORTED, engine_name, jit, native_engine, plug
from functrans.errors import (
    ConcretizationError,
    DtypeError,
    EngineError,
    EngineWarning,
    FunctransError,
    MutationError,
    OutOfBoundsError,
    ShapeError,
    Source,
    StaleCaptureError,
    TransformTypeError,
    UnsupportedError,
    argument_name,
    definition_of,
    describe,
    name_of,
    user_frame,
    where,
)
from functrans.exports import on_demand
from functrans.ir import (
    Array,
    Atom,
    Aval,
    ClosedJaxpr,
    Effect,
    Eqn,
    Jaxpr,
    Literal,
    MappedAxis,
    Primitive,
    Var,
    aval_of,
    check_jaxpr,
    format_eqn,
    format_jaxpr,
    is_inexact,
    jaxprs_in,
    prune,
    same_type,
)
from functrans.ir.primitive import Bilinear, Collective, Elementwise, Linear, LinearIn, Reduction
from functrans.memo.fast import NOTHING, SAME
from functrans.memo.trie import Root, Step
from functrans.position import Position
from functrans.primitives import ALL as PRIMITIVES
from functrans.primitives import derive
from functrans.primitives.derive import is_provided, provided_among
from functrans.recording import Trace, stage_walk
from functrans.surface.operators import operators
from functrans.surface.promotion import in_range
from functrans.tracing import Node, Tracer
from functrans.transforms.jvp import jvp_jaxpr
from functrans.transforms.linearize import linearize_jaxpr
from functrans.transforms.partial_eval import partial_eval_jaxpr
from functrans.transforms.simplify import simplify
from functrans.transforms.transpose import transpose_jaxpr

if TYPE_CHECKING:
    from functrans.api.inspecting import ShapeDtypeStruct, make_jaxpr, shaped
    from functrans.control.checkpoint import barrier_p, checkpoint_p
    from functrans.control.cond import cond_p
    from functrans.control.custom import (
        custom_jvp_call_p,
        custom_tangent_p,
        custom_vjp_call_p,
    )
    from functrans.control.scan import scan_p
    from functrans.control.solve import linear_solve_p
    from functrans.control.sweep import sweep_p
    from functrans.control.while_loop import while_p
    from functrans.primitives.factorisations import Factorisation
    from functrans.transforms.batching import batch_jaxpr

_HOMES = {
    "functrans.api.inspecting": (
        "ShapeDtypeStruct",
        "make_jaxpr",
        "shaped",
    ),
    "functrans.control.checkpoint": (
        "barrier_p",
        "checkpoint_p",
    ),
    "functrans.control.cond": ("cond_p",),
    "functrans.control.custom": (
        "custom_jvp_call_p",
        "custom_tangent_p",
        "custom_vjp_call_p",
    ),
    "functrans.control.scan": ("scan_p",),
    "functrans.control.solve": ("linear_solve_p",),
    "functrans.control.sweep": ("sweep_p",),
    "functrans.control.while_loop": ("while_p",),
    "functrans.primitives.factorisations": ("Factorisation",),
    "functrans.transforms.batching": ("batch_jaxpr",),
}
"""Where the names are made that are imported when they are first asked for."""
__getattr__ = on_demand(sys.modules[__name__], _HOMES)

__all__ = [
    "IMPORTED",
    "NOTHING",
    "PRIMITIVES",
    "SAME",
    "TRACING",
    "Array",
    "Asked",
    "Atom",
    "Aval",
    "Bilinear",
    "ClosedJaxpr",
    "Collective",
    "ConcretizationError",
    "DtypeError",
    "Effect",
    "Elementwise",
    "Engine",
    "EngineError",
    "EngineWarning",
    "Eqn",
    "Factorisation",
    "FunctransError",
    "Jaxpr",
    "Linear",
    "LinearIn",
    "Literal",
    "MappedAxis",
    "MutationError",
    "Node",
    "OutOfBoundsError",
    "Position",
    "Primitive",
    "Program",
    "Reduction",
    "Root",
    "ShapeDtypeStruct",
    "ShapeError",
    "Source",
    "Staged",
    "StaleCaptureError",
    "Step",
    "Tape",
    "Trace",
    "Tracer",
    "TransformTypeError",
    "UnsupportedError",
    "Var",
    "add_source",
    "ambient_axes",
    "argument_name",
    "array_leaf",
    "aval_of",
    "barrier_p",
    "batch_jaxpr",
    "bind",
    "call",
    "call_p",
    "check_jaxpr",
    "checkpoint_p",
    "collecting_rarely",
    "cond_p",
    "config",
    "current_interpreter",
    "custom_jvp_call_p",
    "custom_tangent_p",
    "custom_vjp_call_p",
    "definition_of",
    "derive",
    "describe",
    "engine_name",
    "eval_jaxpr",
    "finish",
    "format_eqn",
    "format_jaxpr",
    "in_range",
    "is_evaluating",
    "is_inexact",
    "is_provided",
    "jaxprs_in",
    "jit",
    "jvp_jaxpr",
    "last_uses",
    "linear_solve_p",
    "linearize_jaxpr",
    "make_jaxpr",
    "name_of",
    "native_engine",
    "operators",
    "partial_eval_jaxpr",
    "plug",
    "primitives",
    "provided_among",
    "prune",
    "same_type",
    "scan_p",
    "shaped",
    "simplify",
    "split_arguments",
    "stage",
    "stage_walk",
    "sweep_p",
    "transpose_jaxpr",
    "tree",
    "user_frame",
    "where",
    "while_p",
]
