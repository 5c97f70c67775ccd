"""The core: bind, captures, asks for values, custom rules, checkpoint and no_grad."""

from __future__ import annotations

import gc
import threading
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import functrans as ft
import functrans.numpy as fnp
from functrans import errors
from functrans.bind import bind, current_interpreter, eval_jaxpr, is_evaluating
from functrans.control.checkpoint import checkpoint_p
from functrans.ir import Aval, Jaxpr, Primitive, Var, check_jaxpr, jaxprs_in
from functrans.ir.check import JaxprTypeError
from functrans.ir.jaxpr import Eqn
from functrans.primitives import ALL
from functrans.transforms.cache import derived
from functrans.transforms.jvp import jvp_jaxpr
from functrans.transforms.linearize import linearize_jaxpr
from functrans.transforms.simplify import simplify

X = np.array([0.3, -0.7, 1.2])


def close(actual: Any, expected: Any, rtol: float = 1e-12) -> None:
    np.testing.assert_allclose(np.asarray(actual), np.asarray(expected), rtol=rtol, atol=1e-14)


def equations(jaxpr: Jaxpr) -> list[Eqn]:
    """All equations, those of inner programs included."""
    return [e for eqn in jaxpr.eqns for e in (eqn, *_inner(eqn))]


def _inner(eqn: Eqn) -> list[Eqn]:
    return [e for j in jaxprs_in(eqn.params) for e in equations(j)]


def names(jaxpr: Jaxpr) -> list[str]:
    return [e.primitive.name for e in equations(jaxpr)]


# -- bind and the checker ------------------------------------------------------------------------


def test_bind_evaluates_where_nothing_is_staged() -> None:
    assert is_evaluating()
    (y,) = bind(ALL["sin"], X)
    assert isinstance(y, np.ndarray)
    close(y, np.sin(X))


def test_bind_gives_numpy_scalars_for_zero_dimensions() -> None:
    (y,) = bind(ALL["sin"], np.float32(1))
    assert type(y) is np.float32


def test_the_interpreter_in_force_is_restored_after_an_error() -> None:
    def f(x: Any) -> Any:
        raise RuntimeError("in the function")

    outer = current_interpreter()
    for transform in (ft.grad, ft.vmap, ft.make_jaxpr, ft.jit, ft.jacfwd):
        with pytest.raises(RuntimeError, match="in the function"):
            transform(f)(X)
        assert current_interpreter() is outer


def test_evaluation_emits_no_warning() -> None:
    """Staged programs are silent where NumPy would warn; -W error makes a warning fail."""
    close(ft.vmap(lambda x: 1 / x)(np.zeros(2)), [np.inf, np.inf])


@pytest.mark.parametrize(
    ("break_it", "message"),
    [
        (lambda a, b: Jaxpr([a], [], [b]), "unbound"),
        (lambda a, b: Jaxpr([a, a], [], [a]), "bound twice"),
        (lambda a, b: Jaxpr([a], [Eqn(ALL["sin"], [a], [a], {})], [a]), "bound twice"),
        (lambda a, b: Jaxpr([a], [Eqn(ALL["sin"], [b], [Var(a.aval)], {})], [a]), "unbound"),
        (
            lambda a, b: Jaxpr(
                [a], [Eqn(ALL["sin"], [a], [Var(Aval((4,), a.aval.dtype))], {})], []
            ),
            "expected f64",
        ),
    ],
)
def test_the_checker_refuses(break_it: Callable[..., Jaxpr], message: str) -> None:
    a, b = (Var(Aval((3,), np.dtype(np.float64))) for _ in range(2))
    with pytest.raises(JaxprTypeError, match=message):
        check_jaxpr(break_it(a, b))


# -- captures ------------------------------------------------------------------------------------


def test_a_captured_array_counts_as_it_is_when_it_meets_a_tracer() -> None:
    c = np.ones(3)

    def f(x: Any) -> Any:
        y = x * c
        c[0] = 100.0
        return np.sum(y + x * c)

    close(ft.grad(f)(X), [101.0, 2.0, 2.0])


def test_a_captured_array_is_an_input_not_a_constant() -> None:
    c = np.arange(3.0)
    closed = ft.make_jaxpr(lambda x: x * c + c)(X)
    assert closed.jaxpr.num_consts == 1
    close(closed.consts[0], c)
    close(eval_jaxpr(closed.jaxpr, [2 * c, X])[0], X * 2 * c + 2 * c)


def test_large_captured_arrays_are_held_read_only_during_the_run() -> None:
    c = np.ones(1 << 18)
    seen = []

    def f(x: Any) -> Any:
        y = (x * c).sum()
        seen.append(c.flags.writeable)
        return y

    close(ft.grad(f)(2.0), float(c.size))
    assert seen == [False]
    assert c.flags.writeable
    with pytest.raises(ValueError, match="read-only"):
        ft.grad(lambda x: [(x * c).sum(), c.__setitem__(0, 5.0)][0])(2.0)
    assert c.flags.writeable


def test_residuals_do_not_see_later_writes() -> None:
    x = X.copy()
    _, pullback = ft.vjp(lambda x: x * x, x)
    _, derivative = ft.linearize(lambda x: x * x, x)
    x[:] = 100.0
    close(pullback(np.ones(3))[0], 2 * X)
    close(derivative(np.ones(3)), 2 * X)


def test_results_alias_nothing() -> None:
    x = X.copy()
    y, z = ft.vmap(lambda a: (a, a), in_axes=0)(x)
    y[0] = 9.0
    assert x[0] == X[0]
    assert z[0] == X[0]


def test_a_leaked_tracer_is_refused() -> None:
    kept = []
    ft.grad(lambda x: [kept.append(x), x * x][1])(2.0)
    with pytest.raises(errors.LeakedTracerError):
        ft.grad(lambda x: x * kept[0])(2.0)


def test_a_tracer_in_another_thread_is_refused() -> None:
    caught: list[BaseException] = []

    def f(x: Any) -> Any:
        def work() -> None:
            try:
                ft.grad(lambda y: y * x)(1.0)
            except errors.FunctransError as error:
                caught.append(error)

        thread = threading.Thread(target=work)
        thread.start()
        thread.join()
        return x * x

    close(ft.grad(f)(3.0), 6.0)
    assert [type(e) for e in caught] == [errors.ThreadError]


def test_threads_trace_independently() -> None:
    found: dict[int, Any] = {}

    def work(k: int) -> None:
        found[k] = ft.hessian(lambda x: np.sum(x**3) * k)(X)

    threads = [threading.Thread(target=work, args=(k,)) for k in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for k in range(4):
        close(found[k], np.diag(6 * X) * k)


def test_no_trace_outlives_its_transform() -> None:
    import weakref

    class Marker:
        pass

    marker = Marker()
    ref = weakref.ref(marker)
    ft.grad(lambda x, marker=marker: x * x)(2.0)
    del marker
    gc.collect()
    assert ref() is None


# -- asking for values ---------------------------------------------------------------------------


def piecewise(x: Any) -> Any:
    if x > 0:
        return x**2
    return -3 * x


def until_small(x: Any) -> Any:
    steps = 0
    while abs(x) > 0.1:
        x = x / 2
        steps += 1
        assert steps < 100
    return x * steps


def by_item(x: Any) -> Any:
    return x * x.item()


def by_int(x: Any) -> Any:
    total = x * 0
    for k in range(int(x * 3)):
        total = total + x**k
    return total


def by_text(x: Any) -> Any:
    return x * len(f"{x:.3f}")


ASKING = [
    (piecewise, 2.0, 4.0, 2.0),
    (piecewise, -2.0, -3.0, 0.0),
    (until_small, 1.0, 4 / 16, 0.0),
    (by_item, 3.0, 3.0, 0.0),
    (by_int, 1.1, 1 + 2 * 1.1, 2.0),
    (by_text, 2.0, 5.0, 0.0),
]


@pytest.mark.parametrize(("f", "x", "first", "second"), ASKING)
def test_python_control_flow_under_transforms(
    f: Callable[..., Any], x: float, first: float, second: float
) -> None:
    """A tracer can be asked for its value; what was asked for is a constant."""
    close(ft.grad(f)(x), first)
    close(ft.jvp(f, (x,), (1.0,))[1], first)
    close(ft.linearize(f, x)[1](1.0), first)
    close(ft.jacfwd(f)(x), first)
    close(ft.jacrev(f)(x), first)
    close(ft.grad(ft.grad(f))(x), second)
    close(ft.hessian(f)(x), second)
    close(ft.jvp(ft.grad(f), (x,), (1.0,))[1], second)


def test_an_inner_ask_asks_outward() -> None:
    """The value of an inner tracer comes from the outer one's."""

    def f(x: Any) -> Any:
        return ft.grad(lambda y: y**2 * x if y * x > 1 else y)(x)

    close(ft.grad(f)(2.0), 4 * 2.0)
    close(ft.grad(f)(0.5), 0.0)


def test_members_of_a_number_stay_in_front_of_longer_rows() -> None:
    """Nothing is transposed whatever they meet; more members than each row is long are last."""
    row, matrix = np.ones(5), np.ones((3, 5))
    f = ft.vmap(lambda s: s * row + fnp.sum(s - matrix, 0))
    few, many = (ft.make_jaxpr(f)(np.ones(n)).jaxpr.eqns for n in (4, 40))
    assert all(eqn.primitive.name != "transpose" for eqn in few)
    assert all(eqn.outputs[0].aval.shape[-1] == 40 for eqn in many[:-1])


def test_products_along_a_middle_axis_are_differentiated_where_they_lie() -> None:
    """Nothing is transposed, and few factors need no running products."""

    def primitives(factors: int) -> set[str]:
        product = ft.grad(lambda x: np.sum(np.prod(x, 1)))
        eqns = ft.make_jaxpr(product)(np.ones((2, factors, 5))).jaxpr.eqns
        return {eqn.primitive.name for eqn in eqns} & {"transpose", "cumprod"}

    assert primitives(3) == set()
    assert primitives(9) == {"cumprod"}


def test_unmapped_values_can_be_asked_for_under_vmap() -> None:
    f = lambda x, n: x ** (2 if n > 1 else 3)
    close(ft.vmap(f, in_axes=(0, None))(X, 2.0), X**2)
    close(ft.vmap(f, in_axes=(0, None))(X, 0.0), X**3)
    close(ft.vmap(ft.grad(f), in_axes=(0, None))(X, 0.0), 3 * X**2)


def gradient(x: Any) -> Any:
    return ft.grad(lambda t: np.sum(np.sin(t)))(x)


def test_a_trace_of_one_program_is_that_program() -> None:
    """It is not copied: so nothing of it is derived or simplified twice."""
    x = np.arange(3.0)
    once = ft.make_jaxpr(gradient)(x).jaxpr
    assert ft.make_jaxpr(lambda x: gradient(x))(x).jaxpr is once
    assert ft.make_jaxpr(lambda x: ft.jit(gradient)(x))(x).jaxpr is not once


def test_a_program_that_more_is_done_with_is_as_it_was() -> None:
    x = np.arange(3.0)
    once = ft.make_jaxpr(gradient)(x).jaxpr
    before = str(once)
    more = ft.make_jaxpr(lambda x: (gradient(x), gradient(gradient(x)) + x, x))(x).jaxpr
    check_jaxpr(more)
    assert str(ft.make_jaxpr(gradient)(x).jaxpr) == before
    outs = eval_jaxpr(more, [x])
    np.testing.assert_allclose(outs[1], np.cos(np.cos(x)) + x)


def test_programs_without_equations_one_after_the_other() -> None:
    same = ft.make_jaxpr(lambda x: x)(1.0).jaxpr
    both = ft.make_jaxpr(lambda x, y: eval_jaxpr(same, [x]) + eval_jaxpr(same, [y]))(1.0, 2.0)
    check_jaxpr(both.jaxpr)
    assert [*both.jaxpr.outvars] == [*both.jaxpr.invars]


def test_a_program_on_two_tracers_of_one_value() -> None:
    """Distinct arguments, of which one is a copy of the other: equal variables."""
    both = ft.value_and_grad(lambda a, b: np.sum(a * np.sin(b)), argnums=(0, 1))
    x = np.arange(3.0)
    _, (by_a, by_b) = ft.jit(lambda x: both(x, x.copy()))(x)
    np.testing.assert_allclose(by_a, np.sin(x))
    np.testing.assert_allclose(by_b, x * np.cos(x))


def test_a_gradient_that_depends_on_nothing_can_be_asked_for_under_jit() -> None:
    def f(x: Any) -> Any:
        return x * 2 if ft.grad(lambda t: 3.0 * t)(x) > 2 else x

    assert ft.jit(f)(5.0) == 10.0


def test_an_operation_on_literals_is_recorded_once() -> None:
    def f(x: Any) -> Any:
        for _ in range(10):
            x = np.sin(x) * 0.5 + -0.0
        return x

    eqns = ft.make_jaxpr(f)(np.ones(4)).eqns
    assert sum(e.primitive.name == "broadcast" for e in eqns) == 2


def test_constants_built_under_jit_can_be_asked_for() -> None:
    import functrans.numpy as fnp

    def f(x: Any) -> Any:
        n = fnp.arange(4).sum()
        return x * n if n > 5 else x

    close(ft.jit(f)(X), 6 * X)


@pytest.mark.parametrize("transform", [ft.vmap, ft.jit, ft.make_jaxpr])
def test_an_abstract_value_cannot_be_asked_for(transform: Callable[..., Any]) -> None:
    with pytest.raises(errors.ConcretizationError, match=r"argument x of piecewise|where"):
        transform(piecewise)(X)


@pytest.mark.parametrize("ask", [float, complex, np.asarray, lambda x: np.array([x, x])])
def test_what_would_lose_the_derivative_is_refused(ask: Callable[..., Any]) -> None:
    with pytest.raises(errors.ConcretizationError, match="stop_gradient"):
        ft.grad(lambda x: x * ask(x))(2.0)


def test_what_carries_no_derivative_gives_floats() -> None:
    close(ft.grad(lambda x, n: x ** float(n))(2.0, 3.0), 12.0)
    close(ft.grad(lambda x: x * float(ft.stop_gradient(x)))(3.0), 3.0)


def test_tracing_with_asks_is_linear_in_the_steps() -> None:
    """Each ask closes a segment: twice the steps make about twice the equations."""

    def steps(n: int) -> int:
        recorded = [0]

        def f(x: Any) -> Any:
            for _ in range(n):
                if x > 1e-300:
                    x = np.sin(x) * 0.9
            return x

        original = ft.recording.Trace.bind

        def counting(self: Any, *args: Any) -> Any:
            recorded[0] += 1
            return original(self, *args)

        ft.recording.Trace.bind = counting  # type: ignore[method-assign]
        ft.config.memo = False
        try:
            ft.grad(f)(1.0)
        finally:
            ft.config.memo = True
            ft.recording.Trace.bind = original  # type: ignore[method-assign]
        return recorded[0]

    assert steps(60) <= 2.3 * steps(30)


# -- custom rules --------------------------------------------------------------------------------


def marked_jvp() -> Callable[..., Any]:
    """x^2 whose rule says 10 t x: wrong on purpose, to see who uses it."""

    @ft.custom_jvp
    def f(x: Any) -> Any:
        return x**2

    f.defjvp(lambda primals, tangents: (f(*primals), 10 * tangents[0] * primals[0]))
    return f


def marked_vjp() -> Callable[..., Any]:
    @ft.custom_vjp
    def f(x: Any) -> Any:
        return x**2

    f.defvjp(lambda x: (x**2, x), lambda x, ct: (10 * ct * x,))
    return f


@pytest.mark.parametrize("make", [marked_jvp, marked_vjp])
def test_custom_rules_are_used_in_every_mode(make: Callable[..., Any]) -> None:
    f = make()
    close(f(3.0), 9.0)
    close(ft.grad(f)(3.0), 30.0)
    close(ft.jvp(f, (3.0,), (1.0,))[1], 30.0)
    close(ft.linearize(f, 3.0)[1](2.0), 60.0)
    close(ft.jacfwd(f)(X), np.diag(10 * X))
    close(ft.jacrev(f)(X), np.diag(10 * X))
    close(ft.vmap(ft.grad(f))(X), 10 * X)
    close(ft.grad(lambda x: ft.vmap(f)(x).sum())(X), 10 * X)
    close(ft.jit(ft.grad(f))(3.0), 30.0)
    close(ft.grad(ft.jit(f))(3.0), 30.0)
    close(ft.grad(ft.checkpoint(f))(3.0), 30.0)


@pytest.mark.parametrize("make", [marked_jvp, marked_vjp])
def test_the_second_derivative_is_the_rules_own(make: Callable[..., Any]) -> None:
    f = make()
    close(ft.grad(ft.grad(f))(3.0), 10.0)
    close(ft.jvp(ft.grad(f), (3.0,), (1.0,))[1], 10.0)
    close(ft.grad(lambda x: ft.jvp(f, (x,), (1.0,))[1])(3.0), 10.0)
    close(ft.hessian(lambda x: f(x).sum())(X), 10 * np.eye(3))


def test_a_rule_may_ask_for_values() -> None:
    @ft.custom_jvp
    def f(x: Any) -> Any:
        return abs(x)

    @f.defjvp
    def rule(primals: Any, tangents: Any) -> Any:
        (x,), (t,) = primals, tangents
        return f(x), t * (7.0 if x > 0 else -5.0)

    close(ft.grad(f)(2.0), 7.0)
    close(ft.grad(f)(-2.0), -5.0)
    close(ft.grad(lambda x: f(x) ** 2)(-2.0), 2 * 2.0 * -5.0)


def test_several_arguments_and_results() -> None:
    @ft.custom_vjp
    def f(x: Any, y: Any) -> Any:
        return x * y, np.sin(x)

    f.defvjp(
        lambda x, y: ((x * y, np.sin(x)), (x, y)),
        lambda kept, cts: (cts[0] * kept[1] + cts[1] * np.cos(kept[0]), cts[0] * kept[0]),
    )
    value = lambda x, y: f(x, y)[0] + 3 * f(x, y)[1]
    close(ft.grad(value, argnums=(0, 1))(0.5, 2.0), (2.0 + 3 * np.cos(0.5), 0.5))
    close(ft.jvp(value, (0.5, 2.0), (1.0, 1.0))[1], 2.5 + 3 * np.cos(0.5))
    mapped = ft.vmap(ft.grad(value, argnums=(0, 1)), in_axes=(0, None))(X, 2.0)
    close(mapped[0], 2 + 3 * np.cos(X))
    close(mapped[1], X)


def test_a_custom_vjp_mapped_along_its_last_axis() -> None:
    """Cotangents lie as their arguments do."""
    x = np.arange(6.0).reshape(2, 3)
    f = marked_vjp()
    mapped = lambda x: ft.vmap(f, in_axes=-1, out_axes=-1)(x)
    close(mapped(x), x**2)
    close(ft.jvp(mapped, (x,), (np.ones((2, 3)),))[1], 10 * x)
    close(ft.grad(lambda x: mapped(x).sum())(x), 10 * x)


def test_an_argument_that_all_members_share_gets_the_sum() -> None:
    f = ft.custom_vjp(lambda w, x: w * x)
    f.defvjp(lambda w, x: (w * x, (w, x)), lambda kept, ct: (ct * kept[1], ct * kept[0]))
    loss = lambda w: ft.vmap(f, in_axes=(None, 0))(w, X).sum()
    close(ft.grad(loss)(2.0), X.sum())


def test_a_bwd_that_is_not_linear_is_refused_in_forward_mode_only() -> None:
    f = ft.custom_vjp(lambda x: x)
    f.defvjp(lambda x: (x, None), lambda _, ct: (np.clip(ct, -0.1, 0.1),))
    close(ft.grad(lambda x: 3 * f(x))(1.0), 0.1)
    with pytest.raises(errors.NonLinearError, match=r"clamp|max|min|select"):
        ft.jvp(f, (1.0,), (1.0,))


def spread_out(ct: Any) -> Any:
    """Linear, with zeros of every origin added to it."""
    padded = np.concatenate([ct, np.zeros(2)]) + fnp.zeros(5) * 3.0
    grown = fnp.zeros(5)
    grown[1:4] = ct
    chosen = np.where(np.array([True, False, True]), ct, 0.0)
    return padded + grown + np.pad(chosen, (0, 2)) + np.zeros(5)[[0, 1, 2, 3, 4]]


def test_zeros_do_not_make_a_function_affine() -> None:
    matrix = np.stack([np.asarray(spread_out(row)) for row in np.eye(3)])
    y = np.arange(5.0)
    close(ft.linear_transpose(spread_out, X[:3])(y)[0], matrix @ y)
    close(ft.jit(lambda y: ft.linear_transpose(spread_out, X[:3])(y)[0])(y), matrix @ y)
    f = ft.custom_vjp(lambda x: x[:3])
    f.defvjp(lambda x: (x[:3], None), lambda _, ct: (spread_out(ct),))
    for push in (lambda t: ft.jvp(f, (y,), (t,))[1], lambda t: ft.vmap(ft.jit(f))(t[None])[0] * 0):
        assert push(y).shape == (3,)
    tangents = np.stack([y, 2 * y])
    mapped = lambda t: ft.vmap(lambda t: ft.jvp(f, (y,), (t,))[1])(t)
    close(mapped(tangents), tangents @ matrix.T)
    close(ft.jit(mapped)(tangents), tangents @ matrix.T)


@pytest.mark.parametrize("offset", [np.ones(3), np.array([0.0, 0.0, 1e-30])])
def test_a_bwd_that_adds_a_captured_array_is_refused_in_forward_mode(offset: Any) -> None:
    f = ft.custom_vjp(lambda x: x)
    f.defvjp(lambda x: (x, None), lambda _, ct: (ct + offset,))
    close(ft.grad(lambda x: f(x).sum())(X[:3]), 1 + offset)
    with pytest.raises(errors.NonLinearError, match="affine"):
        ft.jvp(f, (X[:3],), (X[:3],))


@pytest.mark.parametrize("kind", [ft.custom_jvp, ft.custom_vjp])
def test_a_captured_tracer_under_differentiation_is_refused(kind: Any) -> None:
    def outer(x: Any) -> Any:
        f = kind(lambda y: y * x)
        if kind is ft.custom_jvp:
            f.defjvp(lambda primals, tangents: (f(*primals), tangents[0] * x))
        else:
            f.defvjp(lambda y: (y * x, None), lambda _, ct: (ct * x,))
        return f(x)

    with pytest.raises(errors.TransformTypeError, match="argument"):
        ft.grad(outer)(2.0)


# -- checkpoint ----------------------------------------------------------------------------------


def chain(x: Any) -> Any:
    for _ in range(4):
        x = np.sin(x) * np.cos(x)
    return x


def residuals(f: Callable[..., Any], *args: Any, passes: int = 0) -> int:
    """How many values the forward pass keeps for the backward pass."""
    jaxpr = ft.make_jaxpr(f)(*args).jaxpr
    for _ in range(passes):
        jaxpr = simplify(jaxpr)
    active = (False,) * jaxpr.num_consts + (True,) * len(args)
    return linearize_jaxpr(jaxpr, active).num_residuals


@pytest.mark.parametrize("passes", [0, 1, 3])
def test_checkpoint_keeps_its_arguments_only(passes: int) -> None:
    """After every pass of simplification: nothing is looked through."""
    assert residuals(chain, X) >= 4
    assert residuals(ft.checkpoint(chain), X, passes=passes) == 1
    twice = lambda x: ft.checkpoint(chain)(ft.checkpoint(chain)(x))
    assert residuals(twice, X, passes=passes) == 2


def test_policies_say_what_is_kept() -> None:
    from functrans.control.checkpoint import dots_saveable, everything_saveable, nothing_saveable

    w = np.eye(3)

    def layer(x: Any) -> Any:
        return np.sin(np.sin(w @ np.sin(x)))

    kept = {
        policy: residuals(ft.checkpoint(layer, policy=policy), X)
        for policy in (nothing_saveable, dots_saveable, everything_saveable)
    }
    assert kept[nothing_saveable] < kept[dots_saveable] <= kept[everything_saveable]


@pytest.mark.parametrize("policy", [None, "dots_saveable", "everything_saveable"])
def test_checkpoint_changes_no_value(policy: str | None) -> None:
    import functrans.control.checkpoint as module

    chosen = None if policy is None else getattr(module, policy)
    plain = lambda x: np.sum(chain(x) ** 2)
    saved = lambda x: np.sum(ft.checkpoint(chain, policy=chosen)(x) ** 2)
    nested = lambda x: np.sum(ft.checkpoint(lambda y: ft.checkpoint(chain)(y) ** 2)(x))
    for f in (saved, nested):
        close(f(X), plain(X))
        close(ft.grad(f)(X), ft.grad(plain)(X))
        close(ft.hessian(f)(X), ft.hessian(plain)(X), 1e-10)
        close(ft.jvp(f, (X,), (X,))[1], ft.jvp(plain, (X,), (X,))[1])
        close(ft.vmap(ft.grad(f))(X[:, None]), ft.vmap(ft.grad(plain))(X[:, None]))
        close(ft.jit(ft.grad(f))(X), ft.grad(plain)(X))


def test_a_checkpoint_inside_the_derivative_of_a_checkpoint() -> None:
    """The backward pass of the inner one needs values that the outer one computes again."""
    f = lambda x: ft.checkpoint(lambda y: ft.checkpoint(np.tanh)(y) ** 2)(x)
    pulled = lambda x: ft.vjp(f, x)[1](np.cos(x))[0]
    plain = lambda x: np.cos(x) * 2 * np.tanh(x) * (1 - np.tanh(x) ** 2)
    close(pulled(X), plain(X))
    close(ft.grad(lambda x: pulled(x).sum())(X), ft.grad(lambda x: plain(x).sum())(X))


def test_the_backward_pass_computes_again() -> None:
    """The gradient's program holds the forward operations twice, once behind the checkpoint."""
    plain = ft.value_and_grad(lambda x: chain(x).sum())
    again = ft.value_and_grad(lambda x: ft.checkpoint(chain)(x).sum())
    once, twice = (names(ft.make_jaxpr(f)(X).jaxpr) for f in (plain, again))
    assert checkpoint_p.name in twice
    assert twice.count("sin") == 2 * once.count("sin")


# -- no_grad, enable_grad, stop_gradient ---------------------------------------------------------


def through_context(x: Any) -> Any:
    with ft.no_grad():
        y = x**2
    return y * x


@ft.no_grad
def _squared(x: Any) -> Any:
    return x**2


@pytest.mark.parametrize(
    "f",
    [
        through_context,
        lambda x: _squared(x) * x,
        lambda x: ft.no_grad(lambda y: y**2)(x) * x,
        lambda x: ft.no_grad(lambda: x**2)() * x,
        lambda x: ft.stop_gradient(x**2) * x,
        lambda x: ft.stop_gradient(x) ** 2 * x,
    ],
)
def test_no_derivative_passes(f: Callable[..., Any]) -> None:
    """The square is a constant: in forward and reverse mode, at every order, closures too."""
    close(f(3.0), 27.0)
    close(ft.grad(f)(3.0), 9.0)
    close(ft.jvp(f, (3.0,), (1.0,))[1], 9.0)
    close(ft.grad(ft.grad(f))(3.0), 0.0)
    close(ft.jacfwd(ft.grad(f))(3.0), 0.0)
    close(ft.vmap(ft.grad(f))(X), X**2)
    close(ft.jit(ft.grad(f))(3.0), 9.0)
    close(ft.grad(ft.jit(f))(3.0), 9.0)


def test_no_grad_keeps_no_residual() -> None:
    assert residuals(ft.no_grad(chain), X) == 0
    assert residuals(lambda x: ft.no_grad(chain)(x) + x, X) == 0


def test_a_transform_inside_no_grad_works() -> None:
    def f(x: Any) -> Any:
        with ft.no_grad():
            slope = ft.grad(lambda y: y**3)(x)
        return slope * x

    close(f(2.0), 24.0)
    close(ft.grad(f)(2.0), 12.0)


def test_enable_grad_nests_inside() -> None:
    def f(x: Any) -> Any:
        with ft.no_grad():
            a = x**2
            with ft.enable_grad():
                b = x**3
            c = x**4
        return a + b + c

    close(ft.grad(f)(2.0), 12.0)
    close(ft.grad(ft.no_grad(lambda x: ft.enable_grad(lambda y: y**2)(x)))(3.0), 0.0)


def test_modes_end_with_their_block() -> None:
    def f(x: Any) -> Any:
        try:
            with ft.no_grad():
                raise KeyError
        except KeyError:
            pass
        return x**2

    close(ft.grad(f)(3.0), 6.0)


# -- symbolic zeros cost nothing -----------------------------------------------------------------


def test_a_frozen_argument_costs_no_equation() -> None:
    """The backward program of w alone holds nothing of x's path."""
    f = lambda w, x: np.sum(w * np.exp(np.sin(x)))
    both = ft.make_jaxpr(ft.grad(f, argnums=(0, 1)))(X, X).jaxpr
    one = ft.make_jaxpr(ft.grad(f, argnums=0))(X, X).jaxpr
    assert len(one.eqns) < len(both.eqns)
    assert "cos" not in names(one)


def test_integer_paths_carry_no_tangent() -> None:
    jaxpr = ft.make_jaxpr(lambda x: np.argsort(x) + np.floor(x).astype(int))(X).jaxpr
    _, nonzero = jvp_jaxpr(jaxpr, (True,))
    assert nonzero == (False,)


def test_derived_programs_are_built_once() -> None:
    jaxpr = ft.make_jaxpr(chain)(X).jaxpr
    assert linearize_jaxpr(jaxpr, (True,)) is linearize_jaxpr(jaxpr, (True,))
    assert jvp_jaxpr(jaxpr, (True,)) is jvp_jaxpr(jaxpr, (True,))


def test_programs_derived_by_functions_of_one_name_differ() -> None:
    """Private helpers of two files may be called the same."""
    jaxpr = ft.make_jaxpr(chain)(X).jaxpr

    def named(answer: int | None) -> Callable[[Jaxpr], int | None]:
        def helper(jaxpr: Jaxpr) -> int | None:
            calls.append(answer)
            return answer

        return derived(helper)

    calls: list[int | None] = []
    first, second = named(1), named(None)
    assert [first(jaxpr), second(jaxpr), first(jaxpr), second(jaxpr)] == [1, None, 1, None]
    assert calls == [1, None]


def test_records_are_immutable() -> None:
    assert isinstance(ALL["sin"], Primitive)
    with pytest.raises(AttributeError):
        ALL["sin"].name = "other"  # type: ignore[misc]
