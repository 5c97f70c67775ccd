"""One program at least for every public function of functrans.numpy, as f(module, *arrays).

Each runs with numpy itself and staged with functrans.numpy. Longer than most files because it is
a table of data.
"""

from __future__ import annotations

import operator
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import numpy as np


class Case(NamedTuple):
    """A program and its arguments; `reference` where NumPy itself has no such program."""

    f: Callable[..., Any]
    args: tuple[Any, ...]
    reference: Callable[..., Any] | None = None
    asks: bool = False


CASES: dict[str, list[Case]] = {}


def case(
    name: str, f: Callable[..., Any], *args: Any, reference: Any = None, asks: bool = False
) -> None:
    """Note a program that calls the function `name`."""
    CASES.setdefault(name, []).append(Case(f, args, reference, asks))


def plain(name: str, *args: Any, **options: Any) -> None:
    """The function on these arrays, with these options."""
    case(name, lambda m, *xs: reach(m, name)(*xs, **options), *args)


def reach(m: Any, name: str) -> Any:
    return operator.attrgetter(name)(m)


rng = np.random.default_rng(0)
F8 = rng.standard_normal((3, 4))
F4, F2 = F8.astype(np.float32), F8.astype(np.float16)
G8 = rng.standard_normal((3, 4))
I8 = rng.integers(-5, 6, (3, 4))
I4, U1 = I8.astype(np.int32), rng.integers(0, 200, (3, 4)).astype(np.uint8)
B1 = I8 > 0
C16 = F8 + 1j * G8
UNIT = np.tanh(F8)
POS = np.abs(F8) + 0.5
NAN = F8.copy()
NAN[1, 2], NAN[0, 0] = np.nan, np.inf
T3 = rng.standard_normal((2, 3, 4))
S3 = rng.standard_normal((2, 4, 5))
SQUARE = rng.standard_normal((4, 4))
W4, V5, V7 = (rng.standard_normal(n) for n in (4, 5, 7))
AB = rng.standard_normal((4, 5))
THIN = rng.standard_normal((1, 3, 1))
NONE = np.zeros((0, 3))
ORDER = np.array([0, 2, 1])
KINDS = (F8, F4, F2, POS, UNIT, I8, I4, U1, B1, C16, NAN, 1.5, 2, 2j)


def nonzero(x: Any) -> Any:
    """x with its zeros replaced, for divisors."""
    whole = isinstance(x, np.ndarray) and x.dtype.kind in "iu"
    return np.where(x == 0, np.ones_like(x), x) if whole else x


# -- elementwise ----------------------------------------------------------------------------

UNARY = [
    "absolute",
    "abs",
    "negative",
    "positive",
    "sign",
    "sqrt",
    "square",
    "exp",
    "exp2",
    "expm1",
    "log",
    "log2",
    "log10",
    "log1p",
    "sin",
    "cos",
    "tan",
    "arcsin",
    "arccos",
    "arctan",
    "sinh",
    "cosh",
    "tanh",
    "arcsinh",
    "arccosh",
    "arctanh",
    "asin",
    "acos",
    "atan",
    "asinh",
    "acosh",
    "atanh",
    "floor",
    "ceil",
    "rint",
    "trunc",
    "isnan",
    "isinf",
    "isfinite",
    "signbit",
    "conjugate",
    "conj",
    "reciprocal",
    "logical_not",
    "invert",
    "bitwise_not",
    "bitwise_invert",
    "cbrt",
    "deg2rad",
    "rad2deg",
    "degrees",
    "radians",
    "fabs",
    "bitwise_count",
    "sinc",
    "angle",
    "real",
    "imag",
    "nan_to_num",
    "isposinf",
    "isneginf",
    "iscomplex",
    "isreal",
    "round",
]
for _name in UNARY:
    for _x in KINDS:
        plain(_name, nonzero(_x) if _name == "reciprocal" else _x)
for _x in (F8, I8, U1, NAN):
    plain("fix", _x)
    plain("modf", _x)
for _places in (-1, 1, 2):
    for _x in (F8 * 12, I8 * 7, C16 * 3):
        plain("round", _x, decimals=_places)
plain("nan_to_num", NAN, nan=2.0, posinf=3.0)
plain("angle", C16, deg=True)

BINARY = [
    "add",
    "subtract",
    "multiply",
    "divide",
    "true_divide",
    "floor_divide",
    "remainder",
    "mod",
    "fmod",
    "maximum",
    "minimum",
    "fmax",
    "fmin",
    "logaddexp",
    "logaddexp2",
    "arctan2",
    "atan2",
    "hypot",
    "copysign",
    "nextafter",
    "logical_and",
    "logical_or",
    "logical_xor",
    "bitwise_and",
    "bitwise_or",
    "bitwise_xor",
    "left_shift",
    "right_shift",
    "bitwise_left_shift",
    "bitwise_right_shift",
    "equal",
    "not_equal",
    "less",
    "less_equal",
    "greater",
    "greater_equal",
    "heaviside",
    "divmod",
]
PAIRS: list[tuple[Any, Any]] = [
    (F8, F4), (F4, 2), (F4, 2.5), (I4, I8), (I8, 3), (U1, 3), (B1, B1), (B1, True), (C16, F4),
    (C16, 2.0), (F8, W4), (1.5, 2), (3, 2), (I8, 2.0), (NAN, 1.0), (F2, F4), (np.float32(2), F8),
    (I8.astype(np.uint64), I8), (2, I4), (F8, V5),
]  # fmt: skip
for _name in ("add", "maximum", "bitwise_or"):
    case(_name, lambda m, x, n=_name: getattr(m, n)(x, 300), U1)
for _name in ("less", "equal", "greater_equal"):
    plain(_name, U1, 300)
    case(_name, lambda m, x, n=_name: getattr(m, n)(x, 300), U1)
SHIFTS = {"left_shift", "right_shift", "bitwise_left_shift", "bitwise_right_shift"}
for _name in BINARY:
    for _x, _y in PAIRS:
        if _name in SHIFTS and isinstance(_y, np.ndarray) and _y.dtype != bool:
            _y = np.abs(_y)
        case(_name, lambda m, x, y, n=_name: getattr(m, n)(x, nonzero(y)), _x, nonzero(_y))
        if not isinstance(_y, np.ndarray):
            case(_name, lambda m, x, n=_name, y=_y: getattr(m, n)(x, y), _x)
for _name in ("power", "pow", "float_power"):
    for _x, _y in (
        (POS, F4),
        (POS, 2),
        (POS, -2.0),
        (POS, 0.5),
        (I8, 3),
        (I4, 2.0),
        (F4, 40),
        (C16, 2),
    ):
        case(_name, lambda m, x, n=_name, y=_y: getattr(m, n)(x, y), _x)
        case(_name, lambda m, x, y, n=_name: getattr(m, n)(x, y), _x, _y)
plain("power", I8, np.abs(I4))
case("power", lambda m, x: m.power(x, -1), I8)

case("where", lambda m, c, x: m.where(c, x, 0), B1, F4)
plain("where", I4, F4, W4)
plain("where", I4, F4, V5)
for _low, _high in ((-0.5, 0.5), (0, None), (None, 0.25), (None, None)):
    plain("clip", F4, a_min=_low, a_max=_high)
plain("clip", F8, min=0)
plain("clip", NAN, -1.0, 1.0)
case("clip", lambda m, x: m.clip(x, -1, 100), U1)
case("clip", lambda m, x: m.clip(x, 0.5, 100), I4)
case("select", lambda m, x: m.select([x > 1, x < 0], [x, 2 * x], 5), F8)
case(
    "piecewise", lambda m, x: m.piecewise(x, [x < 0, x > 1], [lambda t: t * 2, 5, lambda t: t]), F8
)

# -- shapes ---------------------------------------------------------------------------------

for _shape in ((4, -1), (5, -1), (-1, -1), (2, 6), 12):
    plain("reshape", F8, shape=_shape)
plain("reshape", F8, shape=(4, 3), order="F")
plain("reshape", NONE, shape=(3, -1))
plain("reshape", NONE, shape=(0, -1))
plain("ravel", F8)
plain("ravel", F8, order="F")
for _axes in (None, (1, 0, 2), (1, 0), (-1, 0, 1)):
    plain("transpose", T3, axes=_axes)
    plain("permute_dims", T3, axes=_axes)
plain("matrix_transpose", T3)
plain("swapaxes", T3, axis1=0, axis2=-1)
plain("moveaxis", T3, source=0, destination=-1)
plain("moveaxis", T3, source=(0, 1), destination=(-1, 0))
plain("rollaxis", T3, axis=2)
plain("rollaxis", T3, axis=0, start=3)
for _axis in (None, 0, 1, (0, 2)):
    plain("squeeze", THIN, axis=_axis)
plain("expand_dims", F8, axis=(0, -1))
plain("expand_dims", F8, axis=7)
for _shape in ((2, 3, 4), (2, 4, 4), (3,)):
    plain("broadcast_to", THIN, shape=_shape)
plain("broadcast_arrays", THIN, W4)
for _name in ("atleast_1d", "atleast_2d", "atleast_3d"):
    for _x in (1.5, W4, F8, T3):
        plain(_name, _x)
    plain(_name, W4, T3)
plain("flip", T3)
plain("flip", T3, axis=1)
plain("fliplr", T3)
plain("flipud", T3)
for _k in range(-1, 5):
    plain("rot90", F8, k=_k)
    plain("rot90", T3, k=_k, axes=(2, 1))

# -- reductions -----------------------------------------------------------------------------

SUMS = [
    "sum",
    "prod",
    "mean",
    "var",
    "std",
    "max",
    "min",
    "amax",
    "amin",
    "any",
    "all",
    "count_nonzero",
    "nansum",
    "nanprod",
    "nanmean",
    "nanvar",
    "nanstd",
    "nanmax",
    "nanmin",
    "ptp",
    "median",
]
ORDERED = {"max", "min", "amax", "amin", "nanmax", "nanmin", "ptp", "median"}
for _name in SUMS:
    for _x in (F8, F4, F2, I4, U1, B1, C16, NAN, T3):
        if (_name in ORDERED and _x.dtype.kind == "c") or (_name in ("ptp", "median") and _x is B1):
            continue
        for _axis in (None, 0, -1, (0, 1)):
            for _keep in (False, True):
                plain(_name, _x, axis=_axis, keepdims=_keep)
    plain(_name, F8, axis=5)
for _name in ("sum", "prod", "mean", "max", "min", "any", "all"):
    plain(_name, NONE, axis=0)
for _name in ("sum", "prod", "max", "min"):
    case(_name, lambda m, x, y, n=_name: getattr(m, n)(x, axis=0, where=y, initial=2), F8, B1)
    plain(_name, I8, initial=2)
    plain(_name, NONE, initial=2.0, axis=0)
for _name in ("mean", "var", "std", "any", "all"):
    case(_name, lambda m, x, y, n=_name: getattr(m, n)(x, axis=0, where=y), F8, B1)
plain("sum", F8, dtype=np.float32)
plain("var", F8, ddof=1, axis=1)
plain("std", C16, ddof=1)
plain("mean", I8, dtype=np.float32)
for _name in ("argmax", "argmin", "nanargmax", "nanargmin"):
    for _x in (F8, I4, B1, T3):
        for _axis in (None, 0, -1):
            for _keep in (False, True):
                plain(_name, _x, axis=_axis, keepdims=_keep)
    plain(_name, NAN)
    plain(_name, NONE)
for _name in ("cumsum", "cumprod", "nancumsum", "nancumprod"):
    for _x in (F8, F2, I4, U1, B1, T3, NAN, C16):
        for _axis in (None, 0, -1):
            plain(_name, _x, axis=_axis)
plain("cumulative_sum", F8, axis=1, include_initial=True)
plain("cumulative_prod", I4, axis=1, include_initial=True)

# -- joining and splitting --------------------------------------------------------------------

for _name in ("concatenate", "concat", "stack", "vstack", "hstack", "dstack", "column_stack"):
    case(_name, lambda m, x, y, n=_name: getattr(m, n)([x, y]), F8, I4)
    case(_name, lambda m, x, y, n=_name: getattr(m, n)((x, y)), W4, W4)
    case(_name, lambda m, x, y, n=_name: getattr(m, n)((x, y)), F8, AB)
    plain(_name, T3)
case("concatenate", lambda m, x, y: m.concatenate([x, y], axis=None), F8, AB)
case("concatenate", lambda m, x, y: m.concatenate([x, y]), 1.0, 2.0)
case("stack", lambda m, x, y: m.stack([x, y], axis=-1), F8, F4)
plain("append", F8, W4)
plain("append", F8, G8, axis=0)
case("block", lambda m, x, y: m.block([[x, y], [y, x]]), F8, G8)
case("block", lambda m, x, y: m.block([x, y]), W4, 2.0)
for _at in (2, [1, 3], 3):
    case("split", lambda m, x, at=_at: m.split(x, at, axis=1), F8)
    case("array_split", lambda m, x, at=_at: m.array_split(x, at, axis=1), F8)
case("array_split", lambda m, x: m.array_split(x, [5, 2], axis=1), F8)
case("hsplit", lambda m, x: m.hsplit(x, 2), F8)
case("vsplit", lambda m, x: m.vsplit(x, 3), F8)
case("dsplit", lambda m, x: m.dsplit(x, 2), T3)
plain("unstack", T3, axis=1)
for _reps in (2, (2, 3), (2, 1, 3), (0, 2)):
    plain("tile", F8, reps=_reps)
for _reps, _axis in ((2, None), (2, 1), ([1, 2, 0, 3], 1), ([2], 0)):
    plain("repeat", F8, repeats=_reps, axis=_axis)
for _shift, _axis in ((1, None), (-2, 1), ((1, 2), (0, 1)), (5, (0, 1)), (0, 0)):
    plain("roll", F8, shift=_shift, axis=_axis)

# -- creation -------------------------------------------------------------------------------

for _name in ("zeros", "ones"):
    case(_name, lambda m, n=_name: getattr(m, n)((2, 3)))
    case(_name, lambda m, n=_name: getattr(m, n)(3, dtype=np.int32))
    case(_name, lambda m, n=_name: getattr(m, n)(()))
case("empty", lambda m: m.empty((2, 0)))
case("empty_like", lambda m, x: m.shape(m.empty_like(x)), F4, reference=lambda x: x.shape)
plain("zeros_like", F4)
plain("ones_like", F4, dtype=int, shape=(2,))
case("full_like", lambda m, x: m.full_like(x, 3), I4)
for _value in (1.5, 2, V5[:3]):
    case("full", lambda m, x: m.full((2, 3), x), _value)
case("full", lambda m, x: m.full((2, 3), x, dtype=np.float32), 2)
case("array", lambda m, x, y: m.array([[x, y], [y, 1]]), 1.5, 2)
case("array", lambda m, x: m.array([x, x]), F8)
case("array", lambda m, x, y: m.array([x, y]), F8, W4)
plain("array", F8, ndmin=4, dtype=np.complex64)
plain("asarray", F8, dtype=np.int32)
case("asarray", lambda m, x: m.asarray([x, 2 * x]), 1.5)
plain("asanyarray", F8, dtype=np.int32)
plain("ascontiguousarray", F8)
case("ascontiguousarray", lambda m, x: m.ascontiguousarray(x, np.float32), 1.5)
plain("copy", F8)
case("astype", lambda m, x: m.astype(x, np.int16), F8)
for _args in ((5,), (2, 7), (2, 7, 2), (0.0, 1.0, 0.1), (5, 0, -1), (3.5,), (0,)):
    case("arange", lambda m, a=_args: m.arange(*a))
    case("arange", lambda m, a=_args: m.arange(*a, dtype=np.float32))
case("arange", lambda m: m.arange(3, dtype=complex))
case("arange", lambda m: m.arange(3, dtype=np.uint8))
SPACES: list[dict[str, Any]] = [
    {}, {"num": 7}, {"num": 1}, {"num": 0}, {"endpoint": False, "num": 5},
    {"num": 5, "dtype": int}, {"retstep": True, "num": 5},
]  # fmt: skip
for _options in SPACES:
    for _ends in ((1.0, 3.5), (1, 4), (np.float32(1), np.float32(4))):
        plain("linspace", *_ends, **_options)
plain("linspace", W4, W4 + 1, num=5, axis=1)
plain("logspace", 0.0, 2.0, num=5)
plain("geomspace", 1.0, 1000.0, num=5)
plain("geomspace", -1.0, -1000.0, num=5)
for _options in ({}, {"indexing": "ij"}, {"sparse": True}):
    plain("meshgrid", W4, V5, **_options)
    plain("meshgrid", W4, V5, V7, **_options)
case("indices", lambda m: m.indices((2, 3)))
case("indices", lambda m: m.indices((2, 3), sparse=True))
case("eye", lambda m: m.eye(3, 4, k=1, dtype=np.float32))
case("identity", lambda m: m.identity(3))
case("tri", lambda m: m.tri(3, 5, -1))
for _k in (-2, -1, 0, 1, 3):
    plain("tril", T3, k=_k)
    plain("triu", F8, k=_k)
    plain("tril", W4, k=_k)
    plain("diag", W4, k=_k)
    plain("diag", F8, k=_k)
    plain("diagonal", T3, offset=_k, axis1=1, axis2=2)
    plain("diagflat", I4, k=_k)
    plain("trace", F8, offset=_k)
plain("diag", np.zeros(0))
plain("trace", I4)
plain("vander", W4, N=3)
plain("vander", I4[0], increasing=True)

# -- products -------------------------------------------------------------------------------

PRODUCTS: list[tuple[Any, Any]] = [
    (F8, AB), (W4, AB), (F8, W4), (W4, W4), (S3, rng.standard_normal((5, 3))), (T3, S3),
    (T3, rng.standard_normal((1, 4, 5))), (W4, S3), (T3, W4), (I4, I8.T), (B1, B1.T),
    (F8, AB.astype(np.float32)), (F8, G8), (C16, C16.T), (2.0, F8),
]  # fmt: skip
for _x, _y in PRODUCTS:
    for _name in ("matmul", "dot", "inner", "vdot", "outer", "kron", "linalg.matmul"):
        plain(_name, _x, _y)
    if isinstance(_x, np.ndarray):
        plain("tensordot", _x, _y, axes=1)
plain("tensordot", F8, F8.T, axes=([0, 1], [1, 0]))
plain("linalg.tensordot", F8, AB, axes=1)
plain("vecdot", C16, C16)
plain("vecdot", F8, F4, axis=0)
plain("linalg.vecdot", C16, C16)
plain("matvec", T3, F8[:2])
plain("vecmat", C16, C16.T)
plain("linalg.outer", W4, V5)
EINSUMS: list[tuple[str, tuple[Any, ...]]] = [
    ("ij,jk->ik", (F8, AB)), ("ij,jk", (F8, AB)), ("ij->ji", (F8,)), ("ii", (SQUARE,)),
    ("ii->i", (SQUARE,)), ("ij,ij->", (F8, G8)), ("ij->i", (F8,)), ("ij,j->i", (F8, W4)),
    ("i,j->ij", (W4, V5)), ("i,i->i", (W4, W4)), ("...ij,...jk->...ik", (T3, S3)),
    ("bij,bjk,bkl->bil", (T3, S3, rng.standard_normal((2, 5, 3)))),
    ("ij,jk,kl,lm->im", (F8, AB, rng.standard_normal((5, 2)), rng.standard_normal((2, 3)))),
    ("i...->...", (T3,)), ("...,...", (F8, G8)), ("ij,ik->jk", (F8, G8)), ("abc,c->ab", (T3, W4)),
    ("ba", (F8,)), ("i,i,i->", (W4, W4, W4)), ("ij,kj->", (F8, G8)),
    ("ijj->i", (rng.standard_normal((2, 3, 3)),)), ("ij,jk->ik", (I4, I8.T)),
    ("iij,jk->ik", (rng.standard_normal((3, 3, 4)), AB)), ("ij,jk->kz", (F8, AB)),
    ("ij,jk->ik", (F8, G8)), ("i->", (B1[0],)), ("ij,ij->ij", (F8, np.ones((3, 1)))),
]  # fmt: skip
for _text, _operands in EINSUMS:
    case("einsum", lambda m, *xs, t=_text: m.einsum(t, *xs), *_operands)
case("einsum", lambda m, x, y: m.einsum(x, [0, 1], y, [1, 2], [0, 2]), F8, AB)
for _ord in (None, 2, 1, np.inf, -np.inf, 0, 3, 0.5, -1):
    plain("linalg.norm", F8, ord=_ord, axis=1)
    plain("linalg.norm", C16, ord=_ord, axis=1, keepdims=True)
    plain("linalg.norm", W4, ord=_ord)
for _ord in (None, "fro", 1, -1, np.inf, -np.inf):
    plain("linalg.norm", F8, ord=_ord)
    plain("linalg.matrix_norm", T3, ord=_ord or "fro")
plain("linalg.norm", I4)
plain("linalg.norm", T3, keepdims=True)
plain("linalg.vector_norm", T3, axis=(0, 1))
plain("linalg.matrix_transpose", T3)
plain("linalg.diagonal", T3, offset=1)
plain("linalg.trace", T3, offset=1)
for _n in (0, 1, 5):
    plain("linalg.matrix_power", T3[:, :, :3], n=_n)
case("linalg.multi_dot", lambda m, x, y, z: m.linalg.multi_dot([x, y, z]), W4, F8.T, F8[:, 0])
case("linalg.multi_dot", lambda m, *xs: m.linalg.multi_dot(xs), F8, AB, AB.T, F8.T)
plain("cross", F8[:, :3], F8[0, :3])
plain("cross", F8, F4, axis=0)
plain("linalg.cross", F8[:, :3], F8[:, 1:])
SQUARES = rng.standard_normal((2, 3, 3)) + 2 * np.eye(3)
HERMITIAN = SQUARES @ SQUARES.swapaxes(1, 2)
for _name in ("inv", "det", "slogdet", "pinv", "svdvals", "cond", "matrix_rank"):
    plain(f"linalg.{_name}", SQUARES)
    plain(f"linalg.{_name}", SQUARES[0] + 1j * SQUARES[1])
for _name in ("pinv", "svdvals", "cond", "matrix_rank", "qr"):
    plain(f"linalg.{_name}", T3)
for _name in ("eigh", "eigvalsh"):
    plain(f"linalg.{_name}", HERMITIAN)
    plain(f"linalg.{_name}", SQUARES, UPLO="U")
    plain(f"linalg.{_name}", HERMITIAN[0] + 1j * (SQUARES[0] - SQUARES[0].T))
case("linalg.eig", lambda m, x: [y + 0j for y in m.linalg.eig(x)], SQUARES)
case("linalg.eigvals", lambda m, x: m.linalg.eigvals(x) + 0j, SQUARES)
plain("linalg.cholesky", HERMITIAN)
plain("linalg.cholesky", HERMITIAN, upper=True)
plain("linalg.solve", SQUARES, F8[0, :3])
plain("linalg.solve", SQUARES[0], SQUARES)
plain("linalg.solve", I8[:, :3] + 20 * np.eye(3, dtype=int), F8)
plain("linalg.svd", SQUARES)
plain("linalg.svd", T3, full_matrices=False)
plain("linalg.svd", T3, compute_uv=False)
plain("linalg.pinv", F8, rcond=0.5)
plain("linalg.lstsq", F8, F8[:, 0])
plain("linalg.lstsq", F8.T, np.arange(8.0).reshape(4, 2) ** 2)
plain("linalg.matrix_power", SQUARES, n=-3)
plain("linalg.tensorsolve", SQUARES[0].reshape(3, 3, 1), F8[0, :3])
plain("linalg.tensorinv", SQUARES[0].reshape(3, 3, 1), ind=1)
for _ord in (2, -2, "nuc"):
    plain("linalg.norm", F8, ord=_ord)
    plain("linalg.norm", T3, ord=_ord, axis=(2, 0), keepdims=True)
    plain("linalg.matrix_norm", T3, ord=_ord)

# -- selection and sorting ----------------------------------------------------------------------

case("take", lambda m, x: m.take(x, ORDER), F8)
for _mode, _shift in (("raise", 0), ("wrap", 5), ("clip", -1), ("raise", 5)):
    case("take", lambda m, x, s=_shift, k=_mode: m.take(x, ORDER + s, axis=1, mode=k), F8)
case("take", lambda m, x: m.take(x, 1, axis=0), F8)
case("take_along_axis", lambda m, x: m.take_along_axis(x, np.argsort(F8, 1), 1), F8)
case("take_along_axis", lambda m, x: m.take_along_axis(x, np.array([[1], [0], [2]]), 1), F8)
case("take_along_axis", lambda m, x: m.take_along_axis(x, np.array([[1, 0, 2, 1]]), 0), F8)
case("take_along_axis", lambda m, x: m.take_along_axis(x, ORDER, None), F8)
case("choose", lambda m, x, y: m.choose(np.array([0, 1, 1, 0]), [x, y]), F8, F4)
case("choose", lambda m, x, y: m.choose(1, [x, y]), 1.0, 2.0)
case("choose", lambda m, x, y: m.choose(np.array([0, 3, 1, 0]), [x, y], mode="wrap"), F8, F4)
case("compress", lambda m, x: m.compress([True, False, True], x, axis=0), F8)
case("extract", lambda m, x: m.extract(B1, x), F8)
case("delete", lambda m, x: m.delete(x, [0, 2], axis=1), F8)
case("delete", lambda m, x: m.delete(x, 1), F8)
case("nonzero", lambda m, x: m.nonzero(x), I8, asks=True)
case("flatnonzero", lambda m, x: m.flatnonzero(x), I8, asks=True)
case("argwhere", lambda m, x: m.argwhere(x), I8, asks=True)
for _x in (F8, I4, NAN, T3, B1, F2):
    for _axis in (0, -1, None):
        plain("sort", _x, axis=_axis)
        plain("argsort", _x, axis=_axis, kind="stable")
plain("sort_complex", I4[0])
case("lexsort", lambda m, x, y: m.lexsort([x, y]), I8[0], I8[1])
case("partition", lambda m, x: m.sort(m.partition(x, 1)), F8)
case("argpartition", lambda m, x: m.sort(m.argpartition(x, 1)), F8)
SORTED = np.sort(V7)
for _side in ("left", "right"):
    for _row, _wanted in (
        (SORTED, F8),
        (np.array([1, 2, 2, 3]), I8),
        (SORTED, SORTED[2]),
        (SORTED, NAN),
    ):
        plain("searchsorted", _row, _wanted, side=_side)
    for _row in (SORTED, SORTED[::-1].copy()):
        case("digitize", lambda m, a, x, s=_side: m.digitize(x, a, right=s == "left"), _row, F8)

# -- sets and counting --------------------------------------------------------------------------

case("unique", lambda m, x: m.unique(x), I8, asks=True)
case("unique", lambda m, x: m.unique(x, True, True, True), I8, asks=True)
case("unique", lambda m, x: m.unique(x, axis=0), I8, asks=True)
for _name in ("unique_all", "unique_counts", "unique_inverse"):
    case(_name, lambda m, x, n=_name: tuple(getattr(m, n)(x)), I8, asks=True)
case("unique_values", lambda m, x: m.sort(m.unique_values(x)), I8, asks=True)
for _name in ("union1d", "intersect1d", "setdiff1d", "setxor1d"):
    case(_name, lambda m, x, y, n=_name: getattr(m, n)(x, y), I8, I4[:1] + 1, asks=True)
plain("isin", I8, np.array([1, 2, 3]))
plain("isin", I8, np.array([1, 2, 3]), invert=True)
case("bincount", lambda m, x: m.bincount(x, minlength=7), np.abs(I8[0]), asks=True)
case("bincount", lambda m, x, w: m.bincount(x, w), np.abs(I8[0]), W4, asks=True)
plain("histogram", F8)
plain("histogram", F8, bins=4, range=(-1, 1))
plain("histogram", F8, bins=4, density=True)
case("histogram", lambda m, x, w: m.histogram(x, bins=[-1, 0, 0.5, 2], weights=w), F8, POS)
plain("histogram_bin_edges", F8, bins=3)

# -- statistics -----------------------------------------------------------------------------

plain("average", F8, axis=0)
case("average", lambda m, x, y: m.average(x, axis=1, weights=y), F8, np.abs(W4))
case("average", lambda m, x, y: m.average(x, weights=y, returned=True), F8, np.abs(F4))
METHODS = [
    "linear",
    "lower",
    "higher",
    "midpoint",
    "nearest",
    "weibull",
    "hazen",
    "median_unbiased",
    "normal_unbiased",
    "interpolated_inverted_cdf",
]
for _q in (0.3, [0.1, 0.5, 1.0], 0):
    for _method in METHODS:
        plain("quantile", F8, q=_q, axis=0, method=_method)
    plain("quantile", T3, q=_q, axis=(0, 1), keepdims=True)
    plain("percentile", I4, q=np.multiply(_q, 100), axis=1)
plain("cov", F8)
plain("cov", F8, F4)
plain("cov", F8, rowvar=False, bias=True)
plain("cov", W4)
plain("cov", F8, fweights=np.array([1, 2, 3, 1]), aweights=np.array([0.5, 1, 2, 0.3]))
plain("cov", C16)
plain("corrcoef", F8)
plain("corrcoef", C16)

# -- calculus -------------------------------------------------------------------------------

plain("diff", F8)
plain("diff", T3, n=2, axis=0)
plain("diff", F8, prepend=0, append=W4[:3, None])
plain("diff", B1)
plain("diff", F8, n=9)
plain("ediff1d", F8, to_end=[1, 2])
plain("gradient", F8)
plain("gradient", V7, 2.0)
plain("gradient", F8, edge_order=2)
case("gradient", lambda m, x, h: m.gradient(x, h, axis=1), F8, np.cumsum(np.abs(W4)))
case("gradient", lambda m, x, h: m.gradient(x, h, axis=1, edge_order=2), F8, np.cumsum(np.abs(W4)))
plain("trapezoid", F8)
plain("trapezoid", F8, W4, axis=1)
plain("trapezoid", F8, F4, axis=0)
plain("unwrap", V5 * 5)
plain("unwrap", T3 * 7, axis=0)
KNOTS, HEIGHTS = np.sort(rng.standard_normal(6)), rng.standard_normal(6)
for _options in ({}, {"left": -9, "right": 9}, {"period": 1.3}):
    for _x in (F8, 0.3, KNOTS):
        plain("interp", _x, KNOTS, HEIGHTS, **_options)
for _mode in ("full", "same", "valid", "other"):
    for _x, _y in ((V7, W4), (W4, V7), (V7, V7), (I8[0], I4[1][:3]), (W4[:2], V7)):
        plain("convolve", _x, _y, mode=_mode)
        plain("correlate", _x, _y, mode=_mode)
    plain("correlate", C16[0], C16[1][:3], mode=_mode)
plain("polyval", W4, F8)

# -- padding --------------------------------------------------------------------------------

PADS: dict[str, list[dict[str, Any]]] = {
    "constant": [{}, {"constant_values": 3}, {"constant_values": ((1, 2), (3, 4))}],
    "edge": [{}],
    "wrap": [{}],
    "reflect": [{}, {"reflect_type": "odd"}],
    "symmetric": [{}, {"reflect_type": "odd"}],
    "linear_ramp": [{}, {"end_values": 5}],
    "maximum": [{}, {"stat_length": 2}],
    "minimum": [{}],
    "mean": [{}, {"stat_length": 2}],
    "median": [{}],
    "unknown": [{}],
}
for _mode, _all in PADS.items():
    for _options in _all:
        for _width in (1, (1, 2), ((0, 1), (2, 0)), ((5, 4), (7, 9)), -1):
            for _x in (F8,) if _mode == "median" else (F8, I4):
                plain("pad", _x, pad_width=_width, mode=_mode, **_options)

# -- comparisons and information ------------------------------------------------------------------

plain("isclose", F8, F4)
plain("isclose", NAN, NAN, equal_nan=True)
plain("allclose", F8, F4)
plain("array_equal", F8, F8)
plain("array_equal", F8, W4)
plain("array_equal", NAN, NAN, equal_nan=True)
plain("array_equiv", F8, W4)
plain("array_equiv", F8, V5)
for _name in ("shape", "ndim", "size", "iscomplexobj", "isrealobj"):
    plain(_name, T3)
plain("size", T3, axis=1)
case("isscalar", lambda m, x: m.isscalar(x), F8)
case("result_type", lambda m, x: np.zeros(1, m.result_type(x, np.float32)), I4)
case("can_cast", lambda m, x: m.can_cast(x.dtype, np.int16), I4)
case("common_type", lambda m, x: np.zeros(1, m.common_type(x, np.float32(1))), I4)
case("min_scalar_type", lambda m, x: np.zeros(1, m.min_scalar_type(x)), I4)
case("real_if_close", lambda m, x: m.real_if_close(x), C16.real + 0j, asks=True)

# -- editing, indices, polynomials ----------------------------------------------------------------

case("insert", lambda m, x: m.insert(x, 1, 9.0), F8)
case("insert", lambda m, x: m.insert(x, [0, 2], 9.0, axis=1), F8)
case("insert", lambda m, x, v: m.insert(x, 1, v, axis=0), F8, W4)
case("insert", lambda m, x, v: m.insert(x, [1, 3], v, axis=0), F8, F8[:2])
case("insert", lambda m, x, v: m.insert(x, 1, v, axis=1), F8, V5[:3])
for _shape in ((2, 3), 20, (0, 2), (5, 4)):
    plain("resize", F8, new_shape=_shape)
for _trim in ("fb", "f", "b"):
    case(
        "trim_zeros",
        lambda m, x, t=_trim: m.trim_zeros(x, t),
        np.array([0, 0, 1.5, 0, 2, 0]),
        asks=True,
    )
case("trim_zeros", lambda m, x: m.trim_zeros(x), np.zeros(3), asks=True)
for _axis in (None, 0, 1):
    for _order in ("big", "little"):
        plain("unpackbits", U1, axis=_axis, bitorder=_order)
        plain("packbits", I8, axis=_axis, bitorder=_order)
        plain("packbits", np.repeat(B1, 3, 1), axis=_axis, bitorder=_order)
plain("unpackbits", U1, axis=1, count=11)
plain("unpackbits", U1, axis=1, count=-3)
plain("unpackbits", U1, axis=1, count=50)
case("ix_", lambda m, x: x[m.ix_([0, 2], [1, 3])], F8)
case("unravel_index", lambda m, i: m.unravel_index(i, (3, 4)), np.abs(I8))
case("unravel_index", lambda m, i: m.unravel_index(i, (3, 4), order="F"), np.abs(I8))
for _mode in ("raise", "wrap", "clip"):
    case(
        "ravel_multi_index",
        lambda m, i, k=_mode: m.ravel_multi_index((i, 2), (6, 4), mode=k),
        np.abs(I8),
    )
case("ravel_multi_index", lambda m, i: m.ravel_multi_index((i, 2), (6, 4), order="F"), np.abs(I8))
case("tril_indices_from", lambda m, x: m.tril_indices_from(x, 1), F8)
case("triu_indices_from", lambda m, x: m.triu_indices_from(x), F8)
case("fromfunction", lambda m, x: x * m.fromfunction(lambda i, j: i + 2 * j, (3, 4)), F8)
for _name in ("polyadd", "polysub", "polymul"):
    plain(_name, W4, V5)
    plain(_name, I4[0], W4)
for _m in (0, 1, 2, 7, -1):
    plain("polyder", W4, m=_m)
    plain("polyder", I4[0], m=_m)
    plain("polyint", W4, m=_m)
plain("polyint", I4[0], m=2, k=[3.0, 4.0])
for _q in (0.3, [0.1, 0.5, 1.0]):
    for _x in (np.where(B1, F8, np.nan), F8, I4):
        plain("nanquantile", _x, q=_q, axis=1)
        plain("nanpercentile", _x, q=np.multiply(_q, 100), axis=0, keepdims=True)
        plain("nanmedian", _x)
        plain("nanmedian", _x, axis=1)
plain("ldexp", F8, np.abs(I8))
plain("ldexp", F4, I4)
plain("ldexp", 1e-300, 2000)
plain("spacing", F8)
plain("spacing", F4)
plain("around", F8, decimals=1)

# -- functions of functions -----------------------------------------------------------------------

case("apply_along_axis", lambda m, x: m.apply_along_axis(lambda r: m.outer(r, r), 1, x), F8)
case("apply_along_axis", lambda m, x: m.apply_along_axis(lambda r: m.cumsum(r), 0, x), T3)
case("apply_over_axes", lambda m, x: m.apply_over_axes(m.sum, x, [0, 1]), T3)
case("vectorize", lambda m, x, y: m.vectorize(lambda a, b: a * b + 1)(x, y), F8, W4)
case("vectorize", lambda m, x, y: m.vectorize(m.dot, signature="(n),(n)->()")(x, y), F8, W4)

# -- in place ---------------------------------------------------------------------------------


def writing(name: str, *args: Any, after: Callable[[Any], Any] = lambda y: y) -> None:
    """The function on a copy of the first array, which it changes."""

    def f(m: Any, x: Any, *rest: Any) -> Any:
        y = m.copy(x)
        reach(m, name)(y, *rest)
        return after(y)

    case(name, f, *args)


writing("copyto", F8, W4)
case("copyto", lambda m, x: _copied(m, x), F8)
case("put", lambda m, x: _changed(m, x, lambda y: m.put(y, [0, 5, 2], [1.0, 2.0])), F8)
case("putmask", lambda m, x: _changed(m, x, lambda y: m.putmask(y, B1, [1.0, 2.0, 3.0])), F8)
case("place", lambda m, x: _changed(m, x, lambda y: m.place(y, B1, [1.0, 2.0])), F8)
case(
    "put_along_axis",
    lambda m, x: _changed(m, x, lambda y: m.put_along_axis(y, np.array([[1], [0], [2]]), 9.0, 1)),
    F8,
)
for _x in (F8, SQUARES, rng.standard_normal((7, 3)), rng.standard_normal((3, 3, 3))):
    for _wrap in (False, True):
        case(
            "fill_diagonal",
            lambda m, x, w=_wrap: _changed(m, x, lambda y: m.fill_diagonal(y, [1.0, 2.0], w)),
            _x,
        )


def _changed(m: Any, x: Any, change: Callable[[Any], None]) -> Any:
    y = m.copy(x)
    change(y)
    return y


def _copied(m: Any, x: Any) -> Any:
    return _changed(m, x, lambda y: m.copyto(y, 2 * x, where=B1))


def all_cases() -> Iterator[tuple[str, Case]]:
    """Every program with the name it stands under."""
    for name, cases in CASES.items():
        for one in cases:
            yield name, one
