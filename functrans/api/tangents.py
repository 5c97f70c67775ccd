"""What users differentiate by, and the tangents and cotangents they give, checked leaf by leaf."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from functrans import tree
from functrans.api.border import array_leaf
from functrans.errors import ShapeError, TransformTypeError, describe
from functrans.ir import Aval, aval_of, is_inexact, same_type
from functrans.tracing import Tracer


def differentiable_leaf(value: Any, name: str, what: str, holomorphic: bool = False) -> Any:
    """A leaf to differentiate by: a Python int becomes a float, other ints an error."""
    leaf = array_leaf(value, f"{what}: {name}")
    if type(leaf) is int:
        leaf = float(leaf)
    aval = aval_of(leaf)
    if not is_inexact(aval.dtype):
        raise TransformTypeError(
            f"{what}: {name} is {describe(value)}, and derivatives exist with respect to floating "
            "values only. Convert it with .astype(float), or leave it out of argnums."
        )
    if holomorphic and aval.dtype.kind != "c":
        raise TransformTypeError(
            f"{what}: holomorphic=True needs complex arguments, but {name} is {describe(value)}. "
            "Convert it with .astype(complex), or drop holomorphic."
        )
    return leaf


def check_tangents(
    value: Any, treedef: tree.PyTreeDef, avals: Sequence[Aval], what: str, word: str
) -> list[Any]:
    """The leaves of a tangent or cotangent, checked leaf by leaf; None stands for float0."""
    leaves, given = tree.flatten(value)
    if given == treedef:
        fitting = [_fitting(x, a) for x, a in zip(leaves, avals, strict=True)]
        if not any(x is None for x in fitting):
            return fitting
    wanted = f"{what}: the {word} must have the structure of the value it belongs to, but differs"
    tree.check_structure(treedef, value, wanted)
    paths, _ = tree.flatten_with_path(value)
    return [
        _check_tangent(x, a, what, f"{word}{tree.keystr(p)}")
        for (p, x), a in zip(paths, avals, strict=True)
    ]


def _fitting(value: Any, aval: Aval) -> Any:
    """The value, if it is at first sight an array or a number of the aval's type; else None."""
    cls = type(value)
    if cls is np.ndarray or cls is Tracer:
        same = value.dtype is aval.dtype and value.shape == aval.shape
        return value if same and is_inexact(aval.dtype) else None
    if aval.dtype is not _FLOAT or aval.shape:
        return None
    if aval.weak:
        return value if cls is float else None
    return np.float64(value) if cls is float or cls is np.float64 else None


_FLOAT = np.dtype(np.float64)


def _check_tangent(value: Any, aval: Aval, what: str, word: str) -> Any:
    if not is_inexact(aval.dtype):
        return _check_no_tangent(value, aval, what, word)
    leaf = array_leaf(value, f"{what}: the {word}")
    given = aval_of(leaf)
    if given.shape != aval.shape:
        raise ShapeError(
            f"{what}: the {word} must have the shape of the value it belongs to, "
            f"{describe(aval)}, but it is {describe(given)}. Reshape it, or make one like that "
            "value with numpy.ones_like or zeros_like."
        )
    if same_type(given, aval):
        return leaf
    if given.weak and np.can_cast(given.dtype, aval.dtype, "same_kind"):
        return aval.dtype.type(leaf) if type(leaf) is not Tracer else leaf.astype(aval.dtype)
    remedy = f"Convert it with .astype({aval.dtype.name!r})."
    if given.dtype.kind == "c":
        remedy = "Give its real and imaginary parts apart."
    raise TransformTypeError(
        f"{what}: the {word} must have the dtype of the value it belongs to, "
        f"{describe(aval)}, but it is {describe(given)}. {remedy}"
    )


def _check_no_tangent(value: Any, aval: Aval, what: str, word: str) -> Any:
    """The tangent of an integer or a boolean, which carries nothing: zeros of any integer kind."""
    dtype = getattr(value, "dtype", np.dtype(type(value)))
    if is_inexact(dtype):
        raise TransformTypeError(
            f"{what}: the {word} belongs to {describe(aval)}, which has no derivative, but it is "
            f"{describe(value)}. Make the value a float "
            f"if its derivative is wanted; otherwise give numpy.zeros(shape, {aval.dtype.name!r})."
        )
    return value
