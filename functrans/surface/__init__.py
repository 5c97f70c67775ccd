"""The surface: NumPy's broadcasting, promotion, operators, indexing and methods over primitives.

Lenient at the border and strict inside: whatever comes in leaves as operands that agree exactly.
`operators`, `methods` and `attributes` are what tracers have in common with ndarray.
"""

from __future__ import annotations

from functrans.surface import declare, ufunc_methods
from functrans.surface.at import at
from functrans.surface.methods import attributes, methods
from functrans.surface.operators import operators

__all__ = ["at", "attributes", "declare", "methods", "operators", "ufunc_methods"]
