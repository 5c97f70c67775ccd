"""Declarations, operators, weak promotion, indexing and updates of traced arrays, against NumPy."""

from __future__ import annotations

import inspect
import operator
from collections.abc import Callable, Iterator
from types import ModuleType
from typing import Any

import numpy as np
import pytest

import functrans as ft
import functrans.numpy as fnp
from functrans.errors import UnsupportedError
from functrans.surface import attributes, methods, operators
from functrans.surface.declare import DECLARED, NUMPY_TABLE
from functrans.surface.indexing import put
from tests.agreement import compare, disagreement, outcome, staged
from tests.numpy_cases import B1, C16, F2, F4, F8, I4, I8, NAN, ORDER, POS, T3, U1, W4, nonzero

# -- declarations -----------------------------------------------------------------------------


def public_functions(module: ModuleType) -> Iterator[tuple[str, Any]]:
    """The functions that a public module offers under its own names."""
    for name in module.__all__:
        value = getattr(module, name)
        if inspect.isfunction(value) and value.__module__.startswith("functrans."):
            yield name, value


# They take no array: classes and functions of shapes, dtypes and functions.
NOT_OF_ARRAYS = {
    "at", "bfloat16", "vectorize", "broadcast_shapes", "axis_size", "conv_dimension_numbers",
    "stop_gradient",
    "associative_scan", "cond", "custom_linear_solve", "custom_root", "fori_loop", "map", "reduce",
    "scan", "switch", "while_loop",
}  # fmt: skip


@pytest.mark.parametrize(
    "module", [fnp, fnp.linalg, ft.nn, ft.lax, ft.random, ft.scipy.special, ft.ops], ids=str
)
def test_every_public_array_function_is_declared(module: ModuleType) -> None:
    functions = dict(public_functions(module))
    bare = {n for n, f in functions.items() if not hasattr(f, "declaration")}
    assert bare <= NOT_OF_ARRAYS


def test_every_method_and_operator_is_declared() -> None:
    declared = {id(d.body) for d in DECLARED}
    tables: list[dict[str, Any]] = [operators, methods, attributes]
    for table in tables:
        for name, function in table.items():
            body = inspect.unwrap(function)
            assert id(body) in declared, name


def test_every_numpy_function_in_the_table_is_declared() -> None:
    bodies = {id(d.body) for d in DECLARED}
    assert all(id(inspect.unwrap(f)) in bodies for f in NUMPY_TABLE.values())


def test_a_call_sorts_into_operands_and_statics() -> None:
    declaration = fnp.sum.declaration
    operands, statics = declaration.sort((F8, 1), {"keepdims": True})
    assert operands[0] is F8
    assert statics["axis"] == 1
    assert statics["keepdims"] is True
    assert fnp.concatenate.declaration.operands == {"arrays"}


def test_marks_of_creation_and_views() -> None:
    marks = {d.name: (d.creates, d.views) for d in DECLARED}
    assert marks["zeros"] == (True, False)
    assert marks["transpose"][1]
    assert not marks["sin"][0]


# -- operators --------------------------------------------------------------------------------

OPERATORS: list[Callable[[Any, Any], Any]] = [
    operator.add, operator.sub, operator.mul, operator.truediv, operator.floordiv, operator.mod,
    operator.pow, operator.and_, operator.or_, operator.xor, operator.lshift, operator.rshift,
    operator.eq, operator.ne, operator.lt, operator.le, operator.gt, operator.ge, operator.matmul,
    divmod,
]  # fmt: skip
PAIRS: list[tuple[Any, Any]] = [
    (POS, F4), (F4, 2), (F4, 2.5), (I4, np.abs(I8)), (I8, 3), (U1, 3), (B1, B1), (B1, True),
    (C16, F4), (C16, 2.0), (F8, W4), (I8, 2.0), (NAN, 1.0), (F2, F4), (np.float32(2), POS),
    (2, np.abs(I4)), (F8, [1.0, 2.0, 3.0, 4.0]), (F8, np.ones((4, 2))), (np.float64(2), 3),
]  # fmt: skip


@pytest.mark.parametrize("op", OPERATORS, ids=lambda op: op.__name__)
def test_operators_agree_with_numpy(op: Callable[[Any, Any], Any]) -> None:
    for x, y in PAIRS:
        if op in (operator.floordiv, operator.mod, divmod):
            x, y = nonzero(x), nonzero(y)
        if op in (operator.lshift, operator.rshift):
            x, y = (
                np.abs(v) if isinstance(v, np.ndarray) and v.dtype != bool else v for v in (x, y)
            )
        if isinstance(x, np.ndarray):
            compare(lambda m, a, y=y: op(a, y), x)
        if isinstance(y, np.ndarray):
            compare(lambda m, b, x=x: op(x, b), y)
        if isinstance(x, np.ndarray) and isinstance(y, np.ndarray):
            compare(lambda m, a, b: op(a, b), x, y)


WEAK: list[tuple[Callable[..., Any], tuple[Any, ...]]] = [
    (operator.add, (1, 2)), (operator.add, (1, 2.5)), (operator.truediv, (3, 2)),
    (operator.floordiv, (7, 2)), (operator.mod, (-7, 3)), (operator.pow, (2, 3)),
    (operator.pow, (2.0, 0.5)), (operator.neg, (3,)), (operator.neg, (True,)),
    (operator.add, (True, True)), (operator.and_, (True, False)), (operator.gt, (3, 2)),
    (operator.mul, (2j, 3)), (abs, (-2.5,)), (abs, (3 + 4j,)), (lambda x: x**2, (3,)),
    (lambda x: x**-1, (4,)), (lambda x: x**0.5, (4,)), (lambda x: 2**x, (3,)),
    (lambda x: +x, (1.5,)),
]  # fmt: skip


@pytest.mark.parametrize(("f", "args"), WEAK)
def test_arithmetic_of_python_numbers_stays_python(f: Any, args: tuple[Any, ...]) -> None:
    wanted, got = f(*args), ft.jvp(f, args, args)[0] if _floats(args) else ft.no_grad(f)(*args)
    assert type(got) is type(wanted)
    assert got == wanted


def _floats(args: tuple[Any, ...]) -> bool:
    return all(type(a) is float for a in args)


def test_functions_make_python_numbers_strong() -> None:
    assert type(ft.no_grad(np.sin)(1.0)) is np.float64
    assert type(ft.no_grad(lambda x: x * np.float32(2))(1.0)) is np.float32
    assert type(ft.no_grad(fnp.add)(1, 2)) is np.int64


def test_python_ints_are_range_checked() -> None:
    small = np.array([1, 2], np.uint8)
    for f in (lambda x: x + 300, lambda x: np.maximum(x, -1), lambda x: x * 10**30):
        assert isinstance(outcome(lambda f=f: staged(f, small)), OverflowError)
    assert staged(lambda x: x < 300, small)[0].all()
    with pytest.raises(OverflowError):
        ft.no_grad(lambda x, n: x + n)(small, 300)


def test_unknown_operands_are_left_to_their_own_operators() -> None:
    class Other:
        def __radd__(self, x: Any) -> Any:
            return fnp.ones(3)

    assert ft.eval_shape(lambda x: x + Other(), F8).shape == (3,)
    with pytest.raises(TypeError, match="must be arrays or numbers"):
        ft.make_jaxpr(lambda x: x + None)(F8)


def test_whole_exponents_become_products() -> None:
    assert "square" in str(ft.make_jaxpr(lambda x: x**2)(F8))
    assert "integer_pow[exponent=3]" in str(ft.make_jaxpr(lambda x: x**3.0)(F8))
    assert "sqrt" in str(ft.make_jaxpr(lambda x: x**0.5)(F8))
    assert "pow b" in str(ft.make_jaxpr(lambda x: x**33)(F8)) or "pow a" in str(
        ft.make_jaxpr(lambda x: x**33)(F8)
    )


# -- indexing ---------------------------------------------------------------------------------

s_ = np.s_
T4 = np.random.default_rng(1).standard_normal((2, 3, 4, 5))
COLUMN = np.array([[1], [0]])
MASK = F8 > 0
INDICES: list[tuple[Any, Any]] = [
    *((F8, i) for i in (
        0, -1, (1, 2), s_[1:], s_[:, 1:3], s_[::-1], s_[::2, ::-2], s_[..., 0], s_[None],
        s_[:, None, 1], s_[1:1], s_[-1:0:-1], s_[5:], ORDER, s_[ORDER, 0], s_[:, ORDER],
        s_[ORDER, ORDER], s_[COLUMN, ORDER], s_[0, ORDER], s_[ORDER, 1:3], s_[1:, ORDER],
        s_[::-1, ORDER], s_[ORDER, None], s_[None, ORDER], s_[..., ORDER], MASK, s_[MASK[:, 0]],
        s_[:, MASK[0]], s_[MASK[:, 0], 1], [0, 1], [[0, 1], [1, 2]], np.int32(1), np.array(1),
        s_[np.array(1), 1:], 5, (0, 9), (0, 0, 0), "a", 1.5, s_[1.5:], [], s_[[], 1], ..., (),
        s_[..., ...], MASK[:2], np.array([7]),
    )),
    *((T4, i) for i in (
        s_[0, :, ORDER], s_[:, ORDER, :, 0], s_[0, :, ORDER, 0], s_[:, ORDER, ORDER],
        s_[:, ORDER, None, ORDER], s_[ORDER[:2] - 1, :, ORDER[:2]], s_[:, :, ORDER, COLUMN],
        s_[1:, ORDER, 1:3, ORDER], s_[None, 0, ..., ORDER], s_[..., None, ORDER, None],
        s_[:, 0, ORDER, ::-1], s_[::-1, ORDER, ::2, ORDER], s_[0, ..., 0],
        s_[MASK[:2, 0], :, :, 1], s_[:, MASK], s_[np.ones((2, 3, 4), bool)],
        s_[:, None, :, ORDER, 0], s_[0, ORDER, :, COLUMN],
    )),
]  # fmt: skip
INDEX_IDS = [f"{x.ndim}d-{str(i)[:40]}" for x, i in INDICES]


@pytest.mark.parametrize(("x", "index"), INDICES, ids=INDEX_IDS)
def test_getitem_agrees_with_numpy(x: Any, index: Any) -> None:
    compare(lambda m, a: a[index], x)


def updates(x: Any, index: Any) -> list[Any]:
    """Values that fit x[index]: a scalar, an array of its shape, and one that broadcasts."""
    shape = shape_at(x, index)
    if shape is None:
        return [2.5]
    rng = np.random.default_rng(2)
    return [2.5, rng.standard_normal(shape), rng.standard_normal(shape[-1:])]


def shape_at(x: Any, index: Any) -> Any:
    """The shape of x[index]; None where NumPy refuses the index."""
    try:
        return x[index].shape
    except (IndexError, TypeError):
        return None


UFUNC_OF = {"add": np.add, "mul": np.multiply, "min": np.minimum, "max": np.maximum}


@pytest.mark.parametrize("combine", ["set", *UFUNC_OF])
@pytest.mark.parametrize(("x", "index"), INDICES, ids=INDEX_IDS)
def test_put_agrees_with_numpy(x: Any, index: Any, combine: str) -> None:
    def reference(a: Any) -> Any:
        b = a.copy()
        if combine == "set":
            b[index] = value
        else:
            where = np.array(index, int) if isinstance(index, list) else index
            UFUNC_OF[combine].at(b, where, value)
        return b

    for value in updates(x, index):
        compare(lambda m, a, v=value: put(a, index, v, combine), x, reference=reference)


def test_a_value_may_have_more_axes_of_length_one() -> None:
    compare(lambda m, a: put(a, 0, W4[None, None]), F8, reference=lambda a: _set(a, 0, W4[None]))


def test_indices_may_be_traced() -> None:
    for x, i in ((F8, 1), (F8, ORDER), (F8, np.uint8(2)), (F8, -1)):
        compare(lambda m, a, j: a[j], x, i)
        compare(lambda m, a, j: a[:, j], x, i)
        compare(lambda m, a, j: a[j, 1:], x, i)
        compare(lambda m, a, j: put(a, j, 1.0), x, i, reference=lambda a, j: _set(a, j, 1.0))
    compare(lambda m, a, j: a[j], F8, np.float64(1))


def _set(a: Any, index: Any, value: Any) -> Any:
    b = a.copy()
    b[index] = value
    return b


def test_masks_may_be_traced_where_the_update_does_not_depend_on_their_count() -> None:
    compare(lambda m, a, k: put(a, k, 1.0), F8, MASK, reference=lambda a, k: np.where(k, 1.0, a))
    row = np.arange(4.0)
    wanted = lambda a, k: np.where(k[:, None], row, a)
    compare(lambda m, a, k: put(a, k, row), F8, MASK[:, 0], reference=wanted)


def test_put_converts_the_value_as_numpy_does() -> None:
    compare(lambda m, a: put(a, 0, 2.7), I4, reference=lambda a: _set(a, 0, 2.7))
    assert isinstance(outcome(lambda: staged(lambda a: put(a, 0, 1j), F8)), TypeError)
    assert isinstance(outcome(lambda: staged(lambda a: put(a, 0, W4[:3]), F8)), ValueError)


def test_functional_updates() -> None:
    at = fnp.at
    unit = np.eye(3, 4)
    compare(lambda m, x: at(x)[ORDER].add(1.0), F8, reference=lambda x: x + 1)
    compare(lambda m, x: at(x)[ORDER, ORDER].multiply(2.0), F8, reference=lambda x: x * (1 + unit))
    compare(lambda m, x: at(x)[0].power(2), F8, reference=lambda x: _set(x, 0, x[0] ** 2))
    compare(lambda m, x: at(x)[0].divide(2), F8, reference=lambda x: _set(x, 0, x[0] / 2))
    compare(lambda m, x: at(x)[0].subtract(2), F8, reference=lambda x: _set(x, 0, x[0] - 2))
    compare(lambda m, x: at(x)[0].apply(fnp.sin), F8, reference=lambda x: _set(x, 0, np.sin(x[0])))
    compare(
        lambda m, x: at(x)[:, 1].min(0.0),
        F8,
        reference=lambda x: _set(x, s_[:, 1], np.minimum(x[:, 1], 0)),
    )
    compare(
        lambda m, x: at(x)[:, 1].max(0.0),
        F8,
        reference=lambda x: _set(x, s_[:, 1], np.maximum(x[:, 1], 0)),
    )
    compare(
        lambda m, x: x.at[0].set(1.0) if m is fnp else None, F8, reference=lambda x: _set(x, 0, 1.0)
    )


def test_indices_out_of_bounds_have_modes() -> None:
    far = np.array([0, 9])
    compare(lambda m, x: fnp.at(x)[far].get(mode="clip"), F8, reference=lambda x: x[[0, 2]])
    compare(
        lambda m, x: fnp.at(x)[far].get(mode="fill"),
        F8,
        reference=lambda x: np.stack([x[0], x[0] * np.nan]),
    )
    compare(
        lambda m, x: fnp.at(x)[far].set(0.0, mode="drop"), F8, reference=lambda x: _set(x, 0, 0)
    )
    assert isinstance(outcome(lambda: staged(lambda x: fnp.at(x)[far].set(0.0), F8)), IndexError)


def test_updates_of_plain_arrays_leave_them_as_they_are() -> None:
    x = np.zeros(3)
    assert fnp.at(x)[1].set(5.0).tolist() == [0, 5, 0]
    assert x.tolist() == [0, 0, 0]


# -- methods and NumPy's protocols ----------------------------------------------------------------

METHODS: list[tuple[str, tuple[Any, ...]]] = [
    ("reshape", (4, 3)), ("reshape", ((2, 6),)), ("transpose", ()), ("transpose", (1, 0)),
    ("flatten", ()), ("astype", (np.float32,)), ("sum", (0,)), ("mean", ()), ("clip", (0, 1)),
    ("round", (1,)), ("ravel", ()), ("swapaxes", (0, 1)), ("squeeze", ()), ("diagonal", ()),
    ("trace", ()), ("repeat", (2,)), ("take", (ORDER,)), ("argsort", ()), ("std", ()),
    ("var", (1,)), ("max", ()), ("min", (1,)), ("argmax", ()), ("argmin", (0,)), ("cumsum", ()),
    ("cumprod", (1,)), ("prod", ()), ("conj", ()), ("conjugate", ()), ("copy", ()), ("any", ()),
    ("all", ()), ("dot", (W4,)), ("compress", ([True, False, True], 0)), ("searchsorted", (0.5,)),
]  # fmt: skip


@pytest.mark.parametrize(("name", "args"), METHODS)
def test_methods_agree_with_numpy(name: str, args: tuple[Any, ...]) -> None:
    x = np.sort(W4) if name == "searchsorted" else F8
    compare(lambda m, a: getattr(a, name)(*args), x)


def test_attributes_agree_with_numpy() -> None:
    compare(lambda m, a: (a.T, a.mT, a.real, a.imag), C16)
    compare(lambda m, a: (a.T, a.mT, a.real, a.imag), T3)


def test_numpy_functions_reach_traced_arrays() -> None:
    compare(lambda m, a: np.sum(np.sin(a), axis=0) + np.mean(a), F8)
    compare(lambda m, a, b: np.stack([a, b]), F8, F8)
    compare(lambda m, a: np.linalg.norm(a), F8)
    compare(lambda m, a, b: np.einsum("ij,kj->ik", a, b), F8, F4)
    compare(lambda m, a: W4 * a, F8)
    compare(lambda m, a: np.float64(2) * a, F8)


def test_ufunc_methods() -> None:
    for u in (np.add, np.multiply, np.maximum, np.minimum):
        compare(lambda m, a, u=u: u.reduce(a), F8)
        compare(lambda m, a, u=u: u.reduce(a, axis=None, keepdims=True), F8)
        compare(lambda m, a, u=u: u.accumulate(a, axis=1), F8)
        compare(lambda m, a, b, u=u: u.outer(a, b), F8, W4)
    compare(lambda m, a: np.logical_and.reduce(a, axis=1), B1)
    compare(lambda m, a: np.logical_xor.reduce(a, axis=1, keepdims=True), B1)
    compare(lambda m, a: np.logical_xor.reduce(a, axis=None, initial=True, where=a > 0), F8)
    compare(lambda m, a: m.maximum.accumulate(m.add.reduce(a, 1)), F8)
    compare(lambda m, a: m.subtract.outer(a, a[0]), F8)
    compare(lambda m, a: np.add(a, a, dtype=np.float32), F4)
    with pytest.raises(UnsupportedError, match=r"numpy\.subtract\.reduce is not supported"):
        ft.make_jaxpr(lambda a: np.subtract.reduce(a))(F8)


def test_out_and_where_of_ufuncs() -> None:
    def f(m: Any, x: Any) -> Any:
        out = m.zeros(x.shape)
        np.add(x, x, out=out)
        np.multiply(out, 2, out=out, where=B1)
        np.add.at(out, [0, 0], x[:2])
        total = m.zeros(4)
        np.sum(x, axis=0, out=total)
        return out, total

    compare(f, F8)


def test_sorting_in_place() -> None:
    def f(m: Any, x: Any) -> Any:
        y = m.copy(x)
        y.sort(axis=0)
        return y

    compare(f, F8)


def test_rows_at_traced_indices_are_views() -> None:
    def f(x: Any, i: Any) -> Any:
        out = fnp.zeros((3, 3))
        row = out[i]
        row[0] = x[0]
        out[i] = out[i] * 2
        return out, row

    wanted = np.zeros((3, 3))
    wanted[1, 0] = 2 * W4[0]
    for got in (staged(f, W4, 1), ft.vmap(f, (None, 0))(W4, np.array([1]))):
        assert (
            disagreement(
                [wanted, wanted[1]],
                [np.reshape(g, s) for g, s in zip(got, ((3, 3), 3), strict=True)],
            )
            is None
        )


# -- what is refused ----------------------------------------------------------------------------

REFUSED: list[tuple[Callable[[Any], Any], type[Exception], str]] = [
    (lambda x: fnp.sum(x, foo=3), UnsupportedError, "the option `foo`"),
    (lambda x: np.log(x, where=x > 0), UnsupportedError, "where= without out="),
    (lambda x: np.add(x, 1, out=np.zeros((3, 4))), UnsupportedError, "out= is a plain array"),
    (lambda x: x + np.ones(5), ValueError, r"shapes \(3, 4\) and \(5,\)"),
    (lambda x: x & 1, TypeError, "bitwise_and is not defined"),
    (lambda x: fnp.sin("a"), TypeError, "sin"),
    (lambda x: x + np.ma.ones(4), TypeError, "MaskedArray"),
    (lambda x: x + np.ones(4, np.longdouble), TypeError, "float128|longdouble"),
    (lambda x: x + np.array([None] * 4), TypeError, "object"),
]  # fmt: skip


@pytest.mark.parametrize(("f", "error", "words"), REFUSED)
def test_refusals_name_what_was_given(f: Any, error: type[Exception], words: str) -> None:
    with pytest.raises(error, match=words):
        ft.make_jaxpr(f)(F8)


def test_byte_swapped_arrays_are_taken() -> None:
    swapped = F8.astype(">f8")
    compare(lambda m, x: x + swapped, F8, reference=lambda x: x + F8)


# -- derivatives at the edges ---------------------------------------------------------------------


def test_std_and_norm_of_constants_have_derivative_zero_to_second_order() -> None:
    for f, x in (
        (np.std, np.ones(3)),
        (np.linalg.norm, np.zeros(3)),
        (fnp.linalg.vector_norm, np.zeros(3)),
    ):
        assert ft.grad(f)(x).tolist() == [0, 0, 0]
        assert not ft.hessian(f)(x).any()


def test_clip_at_a_bound_and_extremes_at_ties() -> None:
    assert ft.grad(lambda x: np.clip(x, 0.0, 1.0))(1.0) == 1
    assert ft.grad(lambda x: np.maximum(x, 1.0))(1.0) == 0.5
    assert ft.grad(np.max)(np.array([1.0, 2.0, 2.0])).tolist() == [0, 0.5, 0.5]
    assert ft.grad(lambda x: x**0.0)(0.0) == 0


# -- complex values in order --------------------------------------------------------------------

COMPLEX_ORDER = {
    "max": lambda z: np.max(z, axis=1),
    "min of all": np.min,
    "max over two axes": lambda z: np.max(z, axis=(0, 2), keepdims=True),
    "min with initial": lambda z: np.min(z, axis=0, initial=1 - 1j, where=z.real > 0),
    "ptp": lambda z: np.ptp(z, axis=2),
    "clip": lambda z: np.clip(z, -1 + 1j, 1),
    "argmax": lambda z: np.argmax(z, axis=2),
    "argmin of all": np.argmin,
    "nanmax": lambda z: np.nanmax(z, axis=1),
    "nanargmin": lambda z: np.nanargmin(z, axis=1),
    "lexsort": lambda z: np.lexsort((z[0, 0], z[1, 0])),
    "searchsorted": lambda z: np.searchsorted(np.array([-1, -1 + 1j, 0, 2j]), z.ravel()),
    "sort": lambda z: np.sort(z, axis=2),
}


@pytest.mark.parametrize("name", COMPLEX_ORDER)
@pytest.mark.parametrize("edges", [False, True], ids=["finite", "edges"])
def test_complex_values_are_ordered_by_their_parts(name: str, edges: bool) -> None:
    f = COMPLEX_ORDER[name]
    re, im = np.random.default_rng(len(name)).integers(-2, 3, (2, 2, 3, 5))
    z = re + 1j * im
    if edges:
        z[0, 1, 2], z[1, 2, 3], z[0, 0, 0] = complex(np.nan, 1), -np.inf, complex(1, np.inf)
    if edges and name in ("searchsorted", "sort"):
        z[0, 1, 2] = 0  # the parts of sorted NaNs may be told apart
    expected = f(z)
    for g in (ft.jit(f), lambda z: ft.vmap(f)(z[None])[0], lambda z: ft.vjp(f, z)[0]):
        found = g(z)
        assert found.dtype == expected.dtype
        np.testing.assert_array_equal(found, expected)


def test_the_first_extreme_complex_value_has_the_derivative() -> None:
    z = np.array([1 + 1j, 2 - 1j, 2 + 3j, 2 + 3j, 0])
    for f in (np.max, lambda z: -np.min(-z), lambda z: np.sort(z)[-1]):
        g = ft.grad(lambda z, f=f: np.abs(f(z)) ** 2)(z)
        np.testing.assert_allclose(sorted(np.abs(g)), [0, 0, 0, 0, abs(2 * z[2])], rtol=1e-14)
    np.testing.assert_array_equal(
        ft.grad(lambda z: np.max(z).real)(z), ft.jit(ft.grad(lambda z: np.max(z).real))(z)
    )
    assert ft.grad(lambda z: np.max(z).real)(z)[2] == 1


# -- methods of ufuncs ----------------------------------------------------------------------------

LOGADDEXP = {
    "axis 0": lambda x: np.logaddexp.reduce(x),
    "last axis": lambda x: np.logaddexp.reduce(x, axis=-1, keepdims=True),
    "all axes": lambda x: np.logaddexp.reduce(x, axis=None),
    "initial": lambda x: np.logaddexp.reduce(x, axis=1, initial=0.5),
    "where": lambda x: np.logaddexp.reduce(x, axis=1, where=x > -0.5, initial=-np.inf),
}


@pytest.mark.parametrize("name", LOGADDEXP)
def test_logaddexp_reduces_as_in_numpy(name: str) -> None:
    f = LOGADDEXP[name]
    x = np.random.default_rng(3).normal(size=(3, 4)) * 300
    edges = np.array([[-np.inf, 0.0, 1.0], [-np.inf, -np.inf, -np.inf], [np.inf, 2.0, 3.0]])
    with np.errstate(invalid="ignore"):
        for value in (x, edges, x.astype(np.float32)):
            found, expected = ft.jit(f)(value), f(value)
            assert found.dtype == expected.dtype
            np.testing.assert_allclose(found, expected, rtol=1e-6)
    weights = ft.grad(lambda x: np.sum(f(x)))(x / 300)
    step = 1e-6 * np.cos(np.arange(12.0)).reshape(3, 4)
    moved = np.sum(f(x / 300 + step)) - np.sum(f(x / 300 - step))
    np.testing.assert_allclose(np.sum(weights * 2 * step), moved, rtol=1e-6, atol=1e-14)
