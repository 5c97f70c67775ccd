"""What functrans.numpy has unchanged from NumPy: dtypes, constants, and questions about dtypes."""

from __future__ import annotations

from typing import Any

from numpy import (
    bartlett,
    blackman,
    broadcast_shapes,
    complex64,
    complex128,
    complexfloating,
    diag_indices,
    diag_indices_from,
    dtype,
    e,
    errstate,
    euler_gamma,
    finfo,
    float16,
    float32,
    float64,
    floating,
    generic,
    get_printoptions,
    hamming,
    hanning,
    iinfo,
    index_exp,
    inexact,
    inf,
    int8,
    int16,
    int32,
    int64,
    int_,
    integer,
    intp,
    isdtype,
    issubdtype,
    iterable,
    kaiser,
    load,
    mask_indices,
    mgrid,
    nan,
    newaxis,
    number,
    ogrid,
    pi,
    printoptions,
    promote_types,
    s_,
    save,
    savez,
    set_printoptions,
    signedinteger,
    tril_indices,
    triu_indices,
    typename,
    uint,
    uint8,
    uint16,
    uint32,
    uint64,
    unsignedinteger,
)
from numpy import bool as bool
from numpy import bool_ as bool_

from functrans.errors import UnsupportedError
from functrans.ir import Array

ndarray = Array
"""What arrays, NumPy scalars and tracers have in common; for isinstance and annotations."""


def bfloat16() -> Any:
    """The dtype bfloat16 of the package ml_dtypes; UnsupportedError where it is missing."""
    try:
        import ml_dtypes  # pyright: ignore[reportMissingImports]  # need not be installed
    except ImportError:
        raise UnsupportedError(
            "functrans.numpy.bfloat16 needs the package ml_dtypes: pip install ml_dtypes"
        ) from None
    return ml_dtypes.bfloat16


__all__ = [
    "bartlett",
    "blackman",
    "bool",
    "bool_",
    "broadcast_shapes",
    "complex64",
    "complex128",
    "complexfloating",
    "diag_indices",
    "diag_indices_from",
    "dtype",
    "e",
    "errstate",
    "euler_gamma",
    "finfo",
    "float16",
    "float32",
    "float64",
    "floating",
    "generic",
    "get_printoptions",
    "hamming",
    "hanning",
    "iinfo",
    "index_exp",
    "inexact",
    "inf",
    "int8",
    "int16",
    "int32",
    "int64",
    "int_",
    "integer",
    "intp",
    "isdtype",
    "issubdtype",
    "iterable",
    "kaiser",
    "load",
    "mask_indices",
    "mgrid",
    "nan",
    "ndarray",
    "newaxis",
    "number",
    "ogrid",
    "pi",
    "printoptions",
    "promote_types",
    "s_",
    "save",
    "savez",
    "set_printoptions",
    "signedinteger",
    "tril_indices",
    "triu_indices",
    "typename",
    "uint",
    "uint8",
    "uint16",
    "uint32",
    "uint64",
    "unsignedinteger",
]
