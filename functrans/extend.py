"""The seam: all that a backend or another package may import of functrans."""

from functrans import primitives, tree
from functrans.api.arguments import split_arguments
from functrans.api.border import Staged, array_leaf, finish, stage
from functrans.api.inspecting import ShapeDtypeStruct, make_jaxpr, shaped
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
from functrans.control.checkpoint import barrier_p, checkpoint_p
from functrans.control.cond import cond_p
from functrans.control.custom import (
    custom_jvp_call_p,
    custom_tangent_p,
    custom_vjp_call_p,
    forward_of,
)
from functrans.control.scan import scan_p
from functrans.control.solve import linear_solve_p
from functrans.control.sweep import sweep_p
from functrans.control.while_loop import while_p
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
from functrans.primitives.factorisations import Factorisation
from functrans.recording import Trace, stage_walk
from functrans.surface.operators import operators
from functrans.surface.promotion import in_range
from functrans.tracing import Node, Tracer
from functrans.transforms import (
    batch_jaxpr,
    jvp_jaxpr,
    linearize_jaxpr,
    partial_eval_jaxpr,
    simplify,
    transpose_jaxpr,
)

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
    "forward_of",
    "in_range",
    "is_evaluating",
    "is_inexact",
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
