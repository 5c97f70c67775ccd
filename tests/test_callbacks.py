"""Callbacks: Python functions in staged programs, evaluated and compiled, under every transform."""

from __future__ import annotations

import gc
import math
import sys
import threading
import traceback
import weakref
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest

import functrans as ft
from functrans import lax
from functrans.errors import (
    DtypeError,
    OptionError,
    ShapeError,
    TransformTypeError,
    TreeError,
)
from functrans.ir.intern import clear as clear_interned

F8 = ft.ShapeDtypeStruct((), np.float64)
X = np.linspace(0.3, 1.8, 3)
RUNS: dict[str, Callable[[Any], Any]] = {"evaluated": lambda f: f, "compiled": ft.jit}


@pytest.fixture(params=RUNS)
def runs(request: pytest.FixtureRequest) -> Callable[[Any], Any]:
    """How the program runs: by the evaluator, or compiled."""
    return RUNS[request.param]


@pytest.fixture
def log() -> list[Any]:
    return []


def agree(a: Any, b: Any, rtol: float = 1e-13) -> None:
    assert ft.tree.structure(a) == ft.tree.structure(b)
    for x, y in zip(ft.tree.leaves(a), ft.tree.leaves(b), strict=True):
        assert np.asarray(x).dtype == np.asarray(y).dtype
        np.testing.assert_allclose(x, y, rtol=rtol, atol=rtol)


# -- pure callbacks ---------------------------------------------------------------------------


def like(x: Any) -> ft.ShapeDtypeStruct:
    return ft.ShapeDtypeStruct(np.shape(x), np.float64)


def host(x: Any, y: Any) -> Any:
    """A function that no tracer can pass."""
    assert type(x) in (np.ndarray, np.float64)
    return np.array([math.sin(v) for v in np.ravel(x)]).reshape(np.shape(x)) * y


def host_jacobian(x: Any, y: Any) -> Any:
    return np.diag(np.cos(x) * y) if np.ndim(x) else np.cos(x) * y, np.sin(x)


DERIVATIVES: dict[str, Any] = {"given": host_jacobian, "differences": "finite_differences"}
TOLERANCES = {"given": 1e-13, "differences": 1e-9}


def called(x: Any, y: Any, **options: Any) -> Any:
    return ft.pure_callback(host, like(x), x, y, **options)


def traced(x: Any, y: Any) -> Any:
    return np.sin(x) * y


def loss(f: Any) -> Any:
    return lambda x, y: np.sum(f(x, y) ** 2)


TRANSFORMS: dict[str, Callable[[Any], Any]] = {
    "value": lambda f: lambda: f(X, 2.0),
    "grad": lambda f: lambda: ft.grad(loss(f), argnums=(0, 1))(X, np.float64(2.0)),
    "grad of a number": lambda f: lambda: ft.grad(loss(f))(0.5, 2.0),
    "jvp": lambda f: lambda: ft.jvp(f, (X, 2.0), (X, 1.0)),
    "jacfwd": lambda f: lambda: ft.jacfwd(f)(X, 2.0),
    "jacrev": lambda f: lambda: ft.jacrev(f, argnums=(0, 1))(X, np.float64(2.0)),
    "vmap": lambda f: lambda: ft.vmap(f)(X, X),
    "vmap of one": lambda f: lambda: ft.vmap(f, in_axes=(0, None))(np.stack([X, X + 1]), 2.0),
    "vmap of grad": lambda f: lambda: ft.vmap(ft.grad(loss(f)), (None, 0))(X, X),
    "jacobian of vmap": lambda f: lambda: ft.jacrev(ft.vmap(f, (0, None)), (0, 1))(X, 2.0),
    "vmap of vmap": lambda f: lambda: ft.vmap(ft.vmap(f, (0, None)), (None, 0))(X, X),
    "grad of vmap of vmap": lambda f: (
        lambda: ft.grad(lambda x: np.sum(ft.vmap(ft.vmap(f, (0, None)), (None, 0))(x, x) ** 2))(X)
    ),
    "checkpoint": lambda f: lambda: ft.grad(ft.checkpoint(loss(f)))(X, 2.0),
    "inside jit": lambda f: lambda: ft.grad(loss(ft.jit(f)))(X, 2.0),
    "scan": lambda f: lambda: lax.scan(lambda c, x: (f(c, x), c), 0.5, X),
    "grad of scan": lambda f: (
        lambda: ft.grad(lambda x: lax.scan(lambda c, v: (f(c, v), None), 0.5, x)[0])(X)
    ),
    "grad of cond": lambda f: (
        lambda: ft.grad(lambda x: lax.cond(x > 0.0, lambda x: f(x, x), lambda x: x, x))(
            np.float64(0.7)
        )
    ),
    "while_loop": lambda f: (
        lambda: lax.while_loop(lambda c: c < 5.0, lambda c: c + 1 + f(c, 0.5), 1.0)
    ),
}


@pytest.mark.parametrize("derivative", DERIVATIVES)
@pytest.mark.parametrize("name", TRANSFORMS)
def test_a_pure_callback_is_its_function(
    name: str, derivative: str, runs: Callable[[Any], Any]
) -> None:
    def f(x: Any, y: Any) -> Any:
        return called(x, y, derivative=DERIVATIVES[derivative])

    agree(runs(TRANSFORMS[name](f))(), TRANSFORMS[name](traced)(), TOLERANCES[derivative])


def test_differences_of_differences(runs: Callable[[Any], Any]) -> None:
    def f(x: Any, y: Any) -> Any:
        return called(x, y, derivative="finite_differences")

    agree(runs(ft.hessian(loss(f)))(X, 2.0), ft.hessian(loss(traced))(X, 2.0), 1e-6)


@pytest.mark.parametrize("x", [0.01, 3.0, 1000.0])
def test_the_step_of_differences_grows_with_the_number_and_with_the_order(x: float) -> None:
    """The cube root of the noise, relative to values above 1; then of the square of that step."""
    points: list[float] = []

    def f(x: Any) -> Any:
        points.append(float(x))
        return np.sin(x)

    call = lambda x: ft.pure_callback(f, np.float64(0), x, derivative="finite_differences")
    eps = float(np.finfo(np.float64).eps)
    ft.grad(call)(x)
    np.testing.assert_allclose(max(points) - x, eps ** (1 / 3) * max(1.0, x), rtol=1e-6)
    points.clear()
    ft.grad(ft.grad(call))(x)
    widest = eps ** (2 / 9) * max(1.0, x)
    inner = eps ** (1 / 3) * max(1.0, x + widest)
    np.testing.assert_allclose(max(points) - x, widest + inner, rtol=1e-6)


def test_single_precision_is_differenced_with_its_own_step() -> None:
    def f(x: Any) -> Any:
        return ft.pure_callback(np.sin, x, x, derivative="finite_differences")

    x = X.astype(np.float32)
    result = ft.grad(lambda x: np.sum(f(x)))(x)
    assert result.dtype == np.float32
    np.testing.assert_allclose(result, np.cos(x), rtol=2e-4)


def test_rules_of_the_user(runs: Callable[[Any], Any]) -> None:
    @ft.custom_jvp
    def f(x: Any) -> Any:
        return ft.pure_callback(np.sin, like(x), x)

    @f.defjvp
    def f_jvp(primals: Any, tangents: Any) -> Any:
        (x,), (x_dot,) = primals, tangents
        return f(x), ft.pure_callback(np.cos, like(x), x) * x_dot

    agree(runs(ft.grad(lambda x: np.sum(f(x))))(X), np.cos(X))
    agree(runs(ft.vmap(ft.grad(f)))(X), np.cos(X))


def test_trees_in_and_out(runs: Callable[[Any], Any]) -> None:
    def function(params: Any, *, scale: Any) -> Any:
        assert type(scale) is np.float64
        return {"y": params["w"][0] * scale, "n": params["n"] + 1, "pair": (1, True)}

    types = {
        "y": ft.ShapeDtypeStruct((3,), np.float64),
        "n": ft.ShapeDtypeStruct((), np.int64),
        "pair": (ft.ShapeDtypeStruct((), np.int8), ft.ShapeDtypeStruct((), np.bool_)),
    }
    f = runs(lambda w, n: ft.pure_callback(function, types, {"w": [w], "n": n}, scale=2.0))
    agree(f(X, 4), {"y": 2 * X, "n": np.int64(5), "pair": (np.int8(1), np.True_)})


def test_several_results_of_several_arguments(runs: Callable[[Any], Any]) -> None:
    """Each result has the blocks of all arguments."""
    function = lambda x, y: (np.sin(x) * y, x + y**2, np.exp(x - y))
    call = lambda x, y: ft.pure_callback(
        function, (like(X),) * 3, x, y, derivative="finite_differences"
    )
    weighed = lambda f: lambda x, y: sum(np.sum(k * out) for k, out in enumerate(f(x, y), 1))
    found = runs(ft.grad(weighed(call), argnums=(0, 1)))(X, X + 1)
    agree(found, ft.grad(weighed(function), argnums=(0, 1))(X, X + 1), 1e-8)


def test_empty_arrays_and_none(runs: Callable[[Any], Any]) -> None:
    none = np.zeros((2, 0))
    f = runs(lambda x: ft.pure_callback(lambda x: (x, None, np.sum(x)), (none, None, F8), x))
    agree(f(none), (none, None, np.float64(0)))


def test_the_arguments_are_the_callbacks_own(runs: Callable[[Any], Any]) -> None:
    def function(x: Any) -> Any:
        x *= 2
        return x

    x = X.copy()
    f = runs(lambda x: (ft.pure_callback(function, x, x), x + 0))
    agree(f(x), (2 * X, X))
    agree(x, X)


@pytest.mark.parametrize("method", ["expand_dims", "broadcast_all"])
def test_one_call_for_all_members(method: Any, runs: Callable[[Any], Any]) -> None:
    shapes: list[Any] = []

    def function(x: Any, y: Any) -> Any:
        shapes.append((x.shape, np.shape(y)))
        return x * np.expand_dims(y, -1)

    def f(x: Any, y: Any) -> Any:
        return ft.pure_callback(function, like(x), x, y, vmap_method=method)

    xs, ys = np.ones((4, 3)), np.arange(4.0)
    agree(runs(ft.vmap(f))(xs, ys), xs * ys[:, None])
    agree(runs(ft.vmap(f, in_axes=(0, None)))(xs, 2.0), xs * 2.0)
    lead = 1 if method == "expand_dims" else 4
    assert shapes == [((4, 3), (4,)), ((4, 3), (lead,))]


def test_equal_calls_are_one_program() -> None:
    calls: list[int] = []

    def count(x: Any) -> Any:
        calls.append(1)
        return x

    def f(x: Any) -> Any:
        return ft.pure_callback(count, F8, x) + ft.pure_callback(count, F8, x)

    assert ft.jit(f)(1.0) == 2.0
    assert len(calls) == 1
    first, second = (ft.make_jaxpr(f)(1.0).jaxpr for _ in range(2))
    assert first is second


def test_calls_without_a_transform() -> None:
    agree(called(X, 2.0), traced(X, 2.0))
    assert type(called(0.5, 2.0)) is np.float64


# -- callbacks that act -----------------------------------------------------------------------


def noted(log: list[Any], value: Callable[[], Any] = lambda: 1.0) -> Callable[..., Any]:
    """A function that notes what it is called with and returns a number."""

    def function(x: Any) -> Any:
        log.append(float(x))
        return value()

    return function


def read(log: list[Any], x: Any, ordered: bool = True) -> Any:
    return ft.io_callback(noted(log), F8, ft.stop_gradient(x), ordered=ordered)


def asking(log: list[Any], x: Any) -> Any:
    y = read(log, x) * x
    return y * x if y > 0 else y


def asking_later(log: list[Any], x: Any) -> Any:
    y = ft.jit(lambda x: read(log, x) * x * x)(x)
    return y if y > 0 else -y


ONCE: dict[str, tuple[Callable[[list[Any]], Any], list[float]]] = {
    "value": (lambda log: read(log, 3.0), [3.0]),
    "unused": (lambda log: (read(log, 3.0), 1.0)[1], [3.0]),
    "grad": (lambda log: ft.grad(lambda x: x * x * read(log, x))(3.0), [3.0]),
    "hessian": (lambda log: ft.hessian(lambda x: x**3 * read(log, x))(3.0), [3.0]),
    "vmap": (lambda log: ft.vmap(lambda x: read(log, x))(X), [*X]),
    "vmap of grad": (lambda log: ft.vmap(ft.grad(lambda x: x * x * read(log, x)))(X), [*X]),
    "grad of vmap": (
        lambda log: ft.grad(lambda x: np.sum(ft.vmap(lambda x: read(log, x))(x) * x))(X),
        [*X],
    ),
    "checkpoint": (
        lambda log: ft.grad(ft.checkpoint(lambda x: np.sin(x) * read(log, x)))(3.0),
        [3.0],
    ),
    "checkpoint of jit": (
        lambda log: ft.grad(ft.checkpoint(ft.jit(lambda x: np.sin(x) * read(log, x))))(3.0),
        [3.0],
    ),
    "in order": (lambda log: [read(log, x) for x in (3.0, 1.0, 2.0)], [3.0, 1.0, 2.0]),
    "scan": (lambda log: lax.scan(lambda c, x: (c + read(log, x), c), 0.0, X), [*X]),
    "reversed scan": (
        lambda log: lax.scan(lambda c, x: (c + read(log, x), c), 0.0, X, reverse=True),
        [*X[::-1]],
    ),
    "grad of scan": (
        lambda log: ft.grad(
            lambda xs: lax.scan(lambda c, x: (c * np.sin(x) + read(log, x), None), 1.0, xs)[0]
        )(X),
        [*X],
    ),
    "vmap of scan": (
        lambda log: ft.vmap(
            lambda c: lax.scan(lambda c, x: (c + read(log, c * 0 + x), c), c, X[:2])[0]
        )(X[:2]),
        [X[0], X[0], X[1], X[1]],
    ),
    "while_loop": (
        lambda log: lax.while_loop(lambda c: c < 3.5, lambda c: c + read(log, c), 1.0),
        [1.0, 2.0, 3.0],
    ),
    "cond": (
        lambda log: [lax.cond(x > 1.0, lambda x: read(log, x), lambda x: x, x) for x in X],
        [x for x in X if x > 1.0],
    ),
    "vmap of cond": (
        lambda log: ft.vmap(lambda x: lax.cond(x > 1.0, lambda x: read(log, x), lambda x: x, x))(X),
        [x for x in X if x > 1.0],
    ),
    "grad of cond": (
        lambda log: ft.grad(
            lambda x: lax.cond(x > 1.0, lambda x: x * read(log, x), lambda x: x, x)
        )(np.float64(3.0)),
        [3.0],
    ),
}


def tell(log: list[Any], x: Any) -> Any:
    ft.debug.callback(log.append, x)
    return x * 2.0


TOLD: dict[str, tuple[Callable[[list[Any], Any], Any], list[float]]] = {
    "while_loop": (
        lambda log, x: lax.while_loop(lambda c: c < 20.0, lambda c: tell(log, c), x),
        [3.0, 6.0, 12.0],
    ),
    "fori_loop": (lambda log, x: lax.fori_loop(0, 2, lambda i, c: tell(log, c), x), [3.0, 6.0]),
    "scan": (
        lambda log, x: lax.scan(lambda c, _: (tell(log, c), c), x, None, length=2)[0],
        [3.0, 6.0],
    ),
    "cond": (lambda log, x: lax.cond(x > 0.0, lambda x: tell(log, x), np.sin, x), [3.0]),
    "nested": (
        lambda log, x: lax.fori_loop(
            0, 2, lambda i, c: lax.while_loop(lambda c: c < 7.0, lambda c: tell(log, c), c - 1), x
        ),
        [2.0, 4.0],
    ),
    "checkpoint": (lambda log, x: ft.checkpoint(lambda x: np.sin(tell(log, x)))(x), [3.0]),
}
OVER: dict[str, Callable[[Any], Any]] = {
    "value": lambda f: f,
    "unused": lambda f: lambda x: (f(x), x)[1],
    "grad": ft.grad,
    "jacfwd": ft.jacfwd,
    "hessian": ft.hessian,
    "vmap": lambda f: lambda x: ft.vmap(f)(np.reshape(x, (1,))),
    "vmap of grad": lambda f: lambda x: ft.vmap(ft.grad(f))(np.reshape(x, (1,))),
}


@pytest.mark.parametrize("over", OVER)
@pytest.mark.parametrize("name", TOLD)
def test_what_bodies_tell_is_told_once(
    name: str, over: str, runs: Callable[[Any], Any], log: list[Any]
) -> None:
    f, expected = TOLD[name]
    run = runs(OVER[over](lambda x: f(log, x)))
    for _ in range(2):
        log.clear()
        run(3.0)
        assert log == expected


ASKING: dict[str, Callable[[list[Any]], Any]] = {
    "grad": lambda log: ft.grad(lambda x: asking(log, x))(3.0),
    "grad of a jitted function": lambda log: ft.grad(lambda x: asking_later(log, x))(3.0),
    "hessian": lambda log: ft.grad(ft.grad(lambda x: asking(log, x)))(3.0),
    "value_and_grad": lambda log: ft.value_and_grad(lambda x: asking(log, x))(3.0),
    "jvp": lambda log: ft.jvp(lambda x: asking(log, x), (3.0,), (1.0,)),
}


@pytest.mark.parametrize("name", ONCE)
def test_each_effect_takes_place_once_and_in_order(
    name: str, runs: Callable[[Any], Any], log: list[Any]
) -> None:
    f, expected = ONCE[name]
    run = runs(lambda: f(log))
    for _ in range(2):
        log.clear()
        run()
        assert log == expected


@pytest.fixture(params=[True, False], ids=["memo", "no memo"])
def memo(request: pytest.FixtureRequest) -> Iterator[bool]:
    """Whether un-jitted transforms recognise their traces."""
    before = ft.config.memo
    ft.config.memo = request.param
    yield request.param
    ft.config.memo = before


@pytest.mark.usefixtures("memo")
@pytest.mark.parametrize("name", ASKING)
def test_what_ran_for_an_ask_does_not_run_again(name: str, log: list[Any]) -> None:
    for _ in range(4):
        log.clear()
        ASKING[name](log)
        assert log == [3.0]


@pytest.mark.usefixtures("memo")
def test_prints_of_jitted_functions_are_not_repeated_after_an_ask(log: list[Any]) -> None:
    @ft.jit
    def g(x: Any) -> Any:
        ft.debug.callback(log.append, x)
        return x * 2

    def f(x: Any) -> Any:
        y = g(x)
        return y * y if y > 0 else y

    for _ in range(4):
        log.clear()
        assert ft.grad(f)(3.0) == 24.0
        assert log == [3.0]


def test_order_among_kinds_of_callbacks(runs: Callable[[Any], Any], log: list[Any]) -> None:
    def f(x: Any) -> Any:
        ft.debug.callback(log.append, x, ordered=True)
        y = ft.io_callback(noted(log), F8, x + 1, ordered=True)
        ft.io_callback(lambda: log.append("none"), None, ordered=True)
        ft.debug.callback(log.append, x + y + 1, ordered=True)
        return y

    runs(f)(1.0)
    assert log == [1.0, 2.0, "none", 3.0]


def test_results_of_io_are_read_at_every_call() -> None:
    values = iter(range(10))
    f = ft.jit(lambda x: x + ft.io_callback(lambda: next(values), F8))
    assert [f(1.0) for _ in range(4)] == [1.0, 2.0, 3.0, 4.0]


# -- errors -----------------------------------------------------------------------------------


def failing(x: Any) -> Any:
    raise KeyError("of the user")


KINDS: dict[str, Callable[[Any], Any]] = {
    "pure": lambda x: ft.pure_callback(failing, F8, x),
    "io": lambda x: ft.io_callback(failing, F8, x),
    "debug": lambda x: (ft.debug.callback(failing, x), x)[1],
    "in a loop": lambda x: lax.fori_loop(0, 3, lambda i, c: ft.pure_callback(failing, F8, c), x),
    "in a branch": lambda x: lax.cond(x > 0, lambda x: ft.io_callback(failing, F8, x), np.sin, x),
}


@pytest.mark.parametrize("kind", KINDS)
def test_exceptions_come_with_their_own_traceback(kind: str, runs: Callable[[Any], Any]) -> None:
    f = runs(KINDS[kind])
    for _ in range(3):
        with pytest.raises(KeyError, match="of the user") as info:
            f(np.float64(1.0))
    assert any(frame.name == "failing" for frame in traceback.extract_tb(info.value.__traceback__))
    notes = getattr(info.value, "__notes__", [])
    assert all(note.startswith("in the operation staged at") for note in notes)
    assert len(notes) == 1 or runs is RUNS["evaluated"]


@pytest.mark.usefixtures("young_heap")
@pytest.mark.parametrize("kind", KINDS)
def test_exceptions_leave_nothing_behind(kind: str, runs: Callable[[Any], Any]) -> None:
    f = runs(KINDS[kind])

    def fails() -> None:
        with pytest.raises(KeyError):
            f(np.float64(1.0))

    for _ in range(20):
        fails()
    gc.collect()
    before = sys.getallocatedblocks()
    for _ in range(100):
        fails()
    gc.collect()
    assert sys.getallocatedblocks() - before < 50
    assert sys.exc_info() == (None, None, None)


def test_interrupts_pass(runs: Callable[[Any], Any]) -> None:
    def interrupted(x: Any) -> Any:
        raise KeyboardInterrupt

    f = runs(lambda x: ft.pure_callback(interrupted, F8, x))
    with pytest.raises(KeyboardInterrupt):
        f(1.0)
    assert ft.jit(lambda x: x + 1)(1.0) == 2.0


def test_a_function_goes_with_its_program() -> None:
    class Function:
        def __call__(self, x: Any) -> Any:
            return x

    function = Function()
    gone = weakref.ref(function)
    f = ft.jit(lambda x, function=function: ft.pure_callback(function, F8, x))
    f(1.0)
    del f, function
    clear_interned()
    gc.collect()
    assert gone() is None


ANNOUNCED: dict[str, tuple[type[Exception], Any, str]] = {
    "shape": (ShapeError, lambda: np.ones(2), r"returned f64\[2\] where f64\[\] was announced"),
    "dtype": (DtypeError, lambda: np.complex128(1), "returned c128.. where f64.. was announced"),
    "tree": (TreeError, lambda: (1.0, 2.0), "must return what result_shape_dtypes announces"),
}


@pytest.mark.parametrize("kind", ANNOUNCED)
def test_results_are_compared_with_what_was_announced(
    kind: str, runs: Callable[[Any], Any]
) -> None:
    error, function, words = ANNOUNCED[kind]
    for callback in (ft.pure_callback, ft.io_callback):
        with pytest.raises(error, match=words):
            runs(lambda c=callback: c(function, F8))()


def test_wider_results_than_announced_are_refused_narrower_ones_converted() -> None:
    f4 = ft.ShapeDtypeStruct((2,), np.float32)
    with pytest.raises(DtypeError, match="Announce the dtype that it returns"):
        ft.pure_callback(lambda: np.ones(2), f4)
    f8 = ft.ShapeDtypeStruct((2,), np.float64)
    assert ft.pure_callback(lambda: np.ones(2, np.float32), f8).dtype == np.float64
    assert ft.pure_callback(lambda: 1, F8) == 1.0


def test_what_has_no_derivative_says_so() -> None:
    with pytest.raises(TransformTypeError, match="is differentiated, but has no derivative"):
        ft.grad(lambda x: ft.pure_callback(np.sin, F8, x))(1.0)
    with pytest.raises(TransformTypeError, match="acts on the world and so has no derivative"):
        ft.grad(lambda x: ft.io_callback(np.sin, F8, x))(1.0)
    given = ft.grad(lambda x: ft.pure_callback(np.sin, F8, x, derivative=np.cos))
    with pytest.raises(TransformTypeError, match="has no derivative"):
        ft.grad(given)(1.0)
    assert ft.grad(lambda x: x * ft.pure_callback(np.sign, F8, ft.stop_gradient(x)))(2.0) == 1.0


def test_given_jacobians_are_checked() -> None:
    def f(derivative: Any) -> Any:
        return ft.grad(lambda x: ft.pure_callback(host, F8, x, 2.0, derivative=derivative))

    with pytest.raises(TreeError, match="or a tuple of one for each, but at the root"):
        f(lambda x, y: np.cos(x))(1.0)
    with pytest.raises(ShapeError, match=r"returned f64\[2\] where f64\[\] was announced"):
        f(lambda x, y: (np.ones(2), 1.0))(1.0)
    with pytest.raises(TransformTypeError, match="a keyword argument is differentiated"):
        ft.grad(lambda x: ft.pure_callback(lambda x: x, F8, x=x, derivative=lambda x: 1.0))(1.0)


def test_complex_arguments() -> None:
    c16 = ft.ShapeDtypeStruct((), np.complex128)
    z = np.complex128(0.5 + 0.25j)

    def f(z: Any) -> Any:
        return ft.pure_callback(np.sin, c16, z, derivative=np.cos)

    agree(ft.jvp(f, (z,), (1j * z,)), (np.sin(z), np.cos(z) * 1j * z))
    with pytest.raises(TransformTypeError, match="has complex arguments"):
        ft.jvp(
            lambda z: ft.pure_callback(np.sin, c16, z, derivative="finite_differences"), (z,), (z,)
        )
    with pytest.raises(TransformTypeError, match="which no Jacobian describes"):
        ft.jvp(lambda z: ft.pure_callback(np.abs, F8, z, derivative=np.cos), (z,), (z,))


def test_options_are_checked() -> None:
    with pytest.raises(OptionError, match="vmap_method must be one of sequential, expand_dims"):
        ft.pure_callback(np.sin, F8, 1.0, vmap_method="vectorized")  # type: ignore[arg-type]
    with pytest.raises(OptionError, match="derivative must be 'finite_differences', a function"):
        ft.pure_callback(np.sin, F8, 1.0, derivative="exact")  # type: ignore[arg-type]
    with pytest.raises(TransformTypeError, match="pure_callback takes a function"):
        ft.pure_callback(1.0, F8, 1.0)  # type: ignore[arg-type]
    with pytest.raises(TransformTypeError, match="only arrays and numbers"):
        ft.pure_callback(np.sin, F8, "a")


def loop_that_reads(log: list[Any], x: Any) -> Any:
    return lax.scan(lambda c, v: (c * v + read(log, v), None), x, X)[0]


def asking_after_it(log: list[Any], x: Any) -> Any:
    y = loop_that_reads(log, x)
    return y if y > 0 else -y


def test_effects_that_would_have_to_run_twice_are_refused(log: list[Any], memo: bool) -> None:
    if memo:  # what a segment needs later is kept when it runs
        ft.grad(lambda x: asking_after_it(log, x))(1.0)
        assert log == [*X]
    else:
        with pytest.raises(TransformTypeError, match=r"scan holds an io_callback .* asked for"):
            ft.grad(lambda x: asking_after_it(log, x))(1.0)
    with pytest.raises(TransformTypeError, match="its derivative takes the same steps again"):
        ft.grad(lambda x: lax.while_loop(lambda c: c < 9.0, lambda c: c * read(log, c), x))(1.0)
    with pytest.raises(TransformTypeError, match="checkpoint computes it again"):
        ft.grad(ft.checkpoint(lambda x: loop_that_reads(log, x)))(1.0)


# -- programs that call programs ---------------------------------------------------------------


def test_callbacks_may_call_compiled_functions_and_transforms(runs: Callable[[Any], Any]) -> None:
    inner = ft.jit(lambda x: np.sin(x) * x)

    def function(x: Any) -> Any:
        return inner(x) + ft.grad(inner)(x)

    f = runs(lambda x: ft.pure_callback(function, F8, x) * 2)
    for _ in range(3):
        agree(f(0.5), np.float64(2 * (np.sin(0.5) * 1.5 + np.cos(0.5) * 0.5)))


def test_threads() -> None:
    f = ft.jit(lambda x: ft.pure_callback(lambda x: np.sin(x), X, x) + x)
    expected, errors = [np.sin(X + k) + X + k for k in range(8)], []

    def work(k: int) -> None:
        try:
            for _ in range(100):
                np.testing.assert_allclose(f(X + k), expected[k], rtol=1e-15)
        except BaseException as error:
            errors.append(error)

    threads = [threading.Thread(target=work, args=(k,)) for k in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert errors == []


@pytest.fixture
def compiled_at_once() -> Iterator[None]:
    before = ft.config.unjitted
    ft.config.unjitted = "compiled"
    yield
    ft.config.unjitted = before


@pytest.mark.usefixtures("compiled_at_once")
def test_unjitted_programs_with_callbacks_compile(log: list[Any]) -> None:
    def f(x: Any) -> Any:
        return np.sum(np.sin(called(x, 2.0, derivative=host_jacobian)) ** 2) * read(log, x[0])

    def g(x: Any) -> Any:
        return np.sum(np.sin(traced(x, 2.0)) ** 2)

    for _ in range(3):
        agree(ft.grad(f)(X), ft.grad(g)(X))
    assert log == [X[0]] * 3
