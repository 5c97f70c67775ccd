"""What users call: each transform flattens its arguments, stages the function and rewrites it."""

from functrans.api.custom_jvp import custom_jvp
from functrans.api.custom_vjp import custom_gradient, custom_vjp
from functrans.api.expansion import derivative, jet, laplacian, taylor
from functrans.api.forward import jvp, linear_transpose, linearize
from functrans.api.gradients import grad, value_and_grad
from functrans.api.hessians import hessian, hvp, vhp
from functrans.api.inspecting import ShapeDtypeStruct, closure_convert, eval_shape, make_jaxpr
from functrans.api.jacobians import jacfwd, jacobian, jacrev
from functrans.api.mapping import vmap
from functrans.api.modes import enable_grad, no_grad, stop_gradient
from functrans.api.remat import checkpoint
from functrans.api.reverse import vjp

__all__ = [
    "ShapeDtypeStruct",
    "checkpoint",
    "closure_convert",
    "custom_gradient",
    "custom_jvp",
    "custom_vjp",
    "derivative",
    "enable_grad",
    "eval_shape",
    "grad",
    "hessian",
    "hvp",
    "jacfwd",
    "jacobian",
    "jacrev",
    "jet",
    "jvp",
    "laplacian",
    "linear_transpose",
    "linearize",
    "make_jaxpr",
    "no_grad",
    "stop_gradient",
    "taylor",
    "value_and_grad",
    "vhp",
    "vjp",
    "vmap",
]
