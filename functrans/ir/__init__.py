"""The intermediate representation: pure data, with its checker and its one printed form."""

from functrans.ir.aval import Array, Aval, aval_of, is_inexact, same_type, tangent_dtype
from functrans.ir.check import check_jaxpr
from functrans.ir.intern import intern
from functrans.ir.jaxpr import (
    Atom,
    ClosedJaxpr,
    Eqn,
    Jaxpr,
    Literal,
    Source,
    Var,
    copied,
    inlined,
    jaxprs_in,
    values_of,
)
from functrans.ir.pprint import format_eqn, format_jaxpr
from functrans.ir.primitive import (
    Bilinear,
    Collective,
    Effect,
    Elementwise,
    Form,
    Linear,
    LinearIn,
    MappedAxis,
    Primitive,
    Property,
    Reduction,
)
from functrans.ir.prune import acts, any_acts, calmed, prune, without_effects
from functrans.ir.written import INLINE, Inline, written_out

__all__ = [
    "INLINE",
    "Array",
    "Atom",
    "Aval",
    "Bilinear",
    "ClosedJaxpr",
    "Collective",
    "Effect",
    "Elementwise",
    "Eqn",
    "Form",
    "Inline",
    "Jaxpr",
    "Linear",
    "LinearIn",
    "Literal",
    "MappedAxis",
    "Primitive",
    "Property",
    "Reduction",
    "Source",
    "Var",
    "acts",
    "any_acts",
    "aval_of",
    "calmed",
    "check_jaxpr",
    "copied",
    "format_eqn",
    "format_jaxpr",
    "inlined",
    "intern",
    "is_inexact",
    "jaxprs_in",
    "prune",
    "same_type",
    "tangent_dtype",
    "values_of",
    "without_effects",
    "written_out",
]
