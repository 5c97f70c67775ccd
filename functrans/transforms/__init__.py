"""What can be done to a jaxpr: differentiate, split, transpose, batch, simplify; a walk a file."""

from functrans.transforms.affine import require_linear
from functrans.transforms.batching import batch_jaxpr, eval_batch
from functrans.transforms.jvp import eval_jvp, jvp_jaxpr
from functrans.transforms.linearize import Linearized, linearize_jaxpr
from functrans.transforms.partial_eval import PartialEval, partial_eval_jaxpr
from functrans.transforms.series import Curve
from functrans.transforms.simplify import simplify
from functrans.transforms.taylor import eval_taylor, taylor_jaxpr
from functrans.transforms.transpose import eval_transpose, transpose_jaxpr

__all__ = [
    "Curve",
    "Linearized",
    "PartialEval",
    "batch_jaxpr",
    "eval_batch",
    "eval_jvp",
    "eval_taylor",
    "eval_transpose",
    "jvp_jaxpr",
    "linearize_jaxpr",
    "partial_eval_jaxpr",
    "require_linear",
    "simplify",
    "taylor_jaxpr",
    "transpose_jaxpr",
]
