"""Methods: what `x.sum()`, `x.reshape(2, 3)`, `x.T` and so on mean on tracers, as on ndarray."""

from __future__ import annotations

from typing import Any

import numpy as np

from functrans.errors import UnsupportedError, describe, user_frame, where
from functrans.ir import aval_of
from functrans.primitives import structural as p
from functrans.primitives.derive import Value, full_like
from functrans.surface import (
    accumulations,
    contraction,
    creation,
    elementwise,
    joining,
    reductions,
    selection,
    shaping,
    sorting,
)
from functrans.surface.declare import Function, surface
from functrans.surface.shaping import array_of
from functrans.typing import ArrayLike, DTypeLike


def _sequence(args: tuple[Any, ...]) -> Any:
    """`x.reshape(2, 3)` and `x.reshape((2, 3))` mean the same."""
    return args[0] if len(args) == 1 else args


@surface(name="reshape", views=True)
def _reshape(x: ArrayLike, /, *shape: Any, order: str = "C", copy: bool | None = None) -> Value:
    """x in another shape of the same size; one length may be -1."""
    function: Any = np.reshape if isinstance(x, np.ndarray) else shaping.reshape.body
    return function(x, _sequence(shape), order)


@surface(name="transpose", views=True)
def _transpose(x: ArrayLike, /, *axes: Any) -> Value:
    """x with its axes reversed, or in the order given."""
    function: Any = np.transpose if isinstance(x, np.ndarray) else shaping.transpose.body
    return function(x, _sequence(axes) if axes else None)


@surface(name="view", views=True)
def _view(x: ArrayLike, /, dtype: DTypeLike = None) -> Value:
    """x itself, as another array that shares its memory."""
    own = aval_of(x).dtype
    if dtype is not None and np.dtype(dtype) != own:
        raise UnsupportedError(
            f"view: the bits of {describe(x)} cannot be read as {np.dtype(dtype)} while tracing "
            f"(in {where(user_frame())}). Convert values with .astype, or put the parts of complex "
            "values side by side: np.stack([z.real, z.imag], axis=-1)."
        )
    return x[...] if isinstance(x, np.ndarray) else x  # type: ignore[return-value]


@surface(name="flatten", creates=True)
def _flatten(x: ArrayLike, /, order: str = "C") -> Value:
    """A copy of x as one row."""
    return creation.copied(shaping.ravel.body(x, order))


@surface(name="astype", creates=True)
def _astype(x: ArrayLike, /, dtype: DTypeLike, copy: bool = True) -> Value:
    """A copy of x in another dtype."""
    return creation.astype.body(x, dtype)


@surface(name="copy", creates=True)
def _copy(x: ArrayLike, /) -> Value:
    """A copy of x, which may be written in place."""
    return creation.copy.body(x)


@surface(name="clip")
def _clip(
    x: ArrayLike,
    /,
    min: ArrayLike | None = None,  # ndarray's names
    max: ArrayLike | None = None,
) -> Value:
    """x held between two bounds."""
    return elementwise.clip.body(x, min, max)


@surface(name="conj")
def _conjugate(x: ArrayLike, /) -> Value:
    """The complex conjugate."""
    return elementwise.conjugate.staged(x)


@surface(name="sort")
def _sort(x: ArrayLike, /, axis: int = -1, kind: Any = None, *, stable: bool | None = None) -> None:
    """Sort x in place along an axis."""
    x[...] = sorting.sort.body(x, axis)  # type: ignore[index]


@surface(name="__deepcopy__", creates=True)
def _deepcopy(x: ArrayLike, memo: Any = None, /) -> Value:
    """A copy of x, for copy.deepcopy of what holds it."""
    return creation.copy.body(x)


methods: dict[str, Function] = {
    "__copy__": _copy.staged,
    "__deepcopy__": _deepcopy.staged,
    "sort": _sort.staged,
    "reshape": _reshape.staged,
    "transpose": _transpose.staged,
    "view": _view.staged,
    "flatten": _flatten.staged,
    "astype": _astype.staged,
    "copy": _copy.staged,
    "clip": _clip.staged,
    "conj": _conjugate.staged,
    "conjugate": _conjugate.staged,
    "ravel": shaping.ravel.staged,
    "swapaxes": shaping.swapaxes.staged,
    "squeeze": shaping.squeeze.staged,
    "diagonal": creation.diagonal.staged,
    "trace": contraction.trace.staged,
    "dot": contraction.dot.staged,
    "repeat": joining.repeat.staged,
    "take": selection.take.staged,
    "choose": selection.choose.staged,
    "compress": selection.compress_method.staged,
    "nonzero": selection.nonzero.staged,
    "searchsorted": sorting.searchsorted.staged,
    "argsort": sorting.argsort.staged,
    "argpartition": sorting.argpartition.staged,
    "round": elementwise.round.staged,
    "sum": reductions.sum.staged,
    "prod": reductions.prod.staged,
    "mean": reductions.mean.staged,
    "var": reductions.var.staged,
    "std": reductions.std.staged,
    "max": reductions.max.staged,
    "min": reductions.min.staged,
    "any": reductions.any.staged,
    "all": reductions.all.staged,
    "argmax": reductions.argmax.staged,
    "argmin": reductions.argmin.staged,
    "cumsum": accumulations.cumsum.staged,
    "cumprod": accumulations.cumprod.staged,
}
"""Name -> what it computes, for the methods of ndarray that return arrays."""


# -- attributes -------------------------------------------------------------------------------


@surface(np.real, views=True)
def real(val: ArrayLike) -> Value:
    """The real part."""
    x = array_of(val, "real")
    return p.real(x) if aval_of(x).dtype.kind == "c" else x


@surface(np.imag, views=True)
def imag(val: ArrayLike) -> Value:
    """The imaginary part; zeros for real values."""
    x = array_of(val, "imag")
    return p.imag(x) if aval_of(x).dtype.kind == "c" else full_like(x, 0)


attributes: dict[str, Function] = {
    "T": shaping.transpose.staged,
    "mT": shaping.matrix_transpose.staged,
    "real": real.staged,
    "imag": imag.staged,
}
"""Name -> what it computes, for the attributes of ndarray that are arrays."""
