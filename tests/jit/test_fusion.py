"""Which equations share a nest: the kernels of representative programs, pinned."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import functrans as ft
import functrans.numpy as fnp
from functrans.extend import simplify
from jit.fusion import Kernel, Plan
from jit.passes.prepare import inline_calls, to_graph
from jit.passes.sharing import shared_plan
from jit.stored import MOST_EQUATIONS, MOST_READS

X = ft.ShapeDtypeStruct((128, 40), np.float64)


def kernels(f: Any, *args: Any) -> list[str]:
    """The kernels of f, as compile_report prints them."""
    return list(ft.jit(f).lower(*args).compile_report().kernels)


def plan_of(f: Any, *args: Any) -> Plan:
    jaxpr = ft.make_jaxpr(f)(*args).jaxpr
    return shared_plan(to_graph(simplify(inline_calls(jaxpr))))


def softmax(x: Any, axis: int = 1) -> Any:
    e = fnp.exp(x - fnp.max(x, axis=axis, keepdims=True))
    return e / fnp.sum(e, axis=axis, keepdims=True)


def test_an_elementwise_chain_is_one_line() -> None:
    assert kernels(lambda x: fnp.sin(x) * 2.0 + x, X) == ["0: vector 5120: full f64[128,40]"]


def test_views_are_free() -> None:
    found = kernels(lambda x: (x[1:, ::2] + x[:-1, 1::2]).reshape(-1) * 2.0, X)
    assert found == ["0: vector 2540: full f64[2540]"]


def test_several_results_over_one_domain_share_a_nest() -> None:
    found = kernels(lambda x: (fnp.sin(x), fnp.sum(fnp.sin(x))), X)
    assert found == ["0: vector 5120: full f64[128,40], row_fold f64[]"]


def test_softmax_keeps_its_row() -> None:
    found = kernels(softmax, X)
    assert found == [
        "0: serial 128 x vector 40: "
        "row_fold f64[128], full f64[128,40], row_fold f64[128], full f64[128,40]"
    ]


def test_an_expensive_value_is_computed_once_a_row() -> None:
    """exp is wanted by two passes: it stays in a row of scratch, not in memory."""
    lowered = ft.jit(softmax).lower(X)
    assert lowered.as_text("loops").count("= exp ") == 1
    assert "local row0_0: f64[40]" in lowered.as_text("loops")
    assert lowered.compile_report().arena_bytes == 0


def test_softmax_over_the_first_axis_runs_on_lanes() -> None:
    found = kernels(lambda x: softmax(x, 0), X)
    assert found == [
        "0: vector 40 x serial 128: "
        "row_fold f64[40], full f64[128,40], row_fold f64[40], full f64[128,40]"
    ]


def test_layer_normalisation_is_one_nest() -> None:
    def normalised(x: Any) -> Any:
        d = x - fnp.mean(x, axis=1, keepdims=True)
        return d / fnp.sqrt(fnp.mean(d * d, axis=1, keepdims=True) + 1e-5)

    plan = plan_of(normalised, X)
    assert len(plan.steps) == 1


def test_a_product_ends_a_nest() -> None:
    plan = plan_of(lambda x: fnp.sum(fnp.tanh(x @ x.T), axis=1), X)
    assert [type(s).__name__ for s in plan.steps] == ["RootCall", "Kernel"]


def test_concatenation_of_expensive_parts_is_written_in_parts() -> None:
    found = kernels(lambda x: fnp.concatenate([fnp.sin(x), fnp.cos(x)]), X)
    assert found == ["0: vector 5120: full f64[256,40], full f64[256,40]"]


def test_a_long_chain_of_shifts_is_cut() -> None:
    """Each step reads two neighbours: without cuts the work would double with every step."""

    def diffuse(x: Any) -> Any:
        for _ in range(40):
            x = fnp.concatenate([x[:1], (x[2:] + x[:-2]) * 0.5 + x[1:-1] ** 2, x[-1:]])
        return x

    x = np.linspace(-0.4, 0.4, 50)
    with np.errstate(all="ignore"):
        np.testing.assert_allclose(ft.jit(diffuse)(x), diffuse(x), rtol=1e-12)


@pytest.mark.parametrize("steps", [10, 1000])
def test_deep_chains_do_not_recurse(steps: int) -> None:
    def f(x: Any) -> Any:
        for _ in range(steps):
            x = fnp.sin(x) + 0.1
        return x

    plan = plan_of(f, ft.ShapeDtypeStruct((1000,), np.float64))
    (kernel,) = plan.steps
    assert isinstance(kernel, Kernel)
    assert len(kernel.nodes) == 1


@pytest.mark.parametrize("steps", [100, 1000])
def test_a_long_program_over_few_elements_is_cut_into_stretches(steps: int) -> None:
    """Where it is none that becomes a loop again, since its steps are light."""

    def f(x: Any, y: Any) -> Any:
        for _ in range(steps):
            x, y = x + 0.1 * y, y - 0.1 * x * x
        return x + y

    plan = plan_of(f, *[ft.ShapeDtypeStruct((), np.float64)] * 2)
    kernels = [step for step in plan.steps if isinstance(step, Kernel)]
    assert max(len(kernel.visited) for kernel in kernels) <= 3 * MOST_EQUATIONS
    evaluated = sum(len(scout.visited) for kernel in kernels for scout in kernel.looks.values())
    assert evaluated <= 3 * len(plan.graph.eqns)


def test_an_expression_reads_in_a_bounded_number_of_places() -> None:
    def f(x: Any) -> Any:
        total = x[0]
        for i in range(1, 300):
            total = total + fnp.sin(x[i])
        return total

    plan = plan_of(f, ft.ShapeDtypeStruct((300,), np.float64))
    kernels = [step for step in plan.steps if isinstance(step, Kernel)]
    reads = [len(scout.reads) for kernel in kernels for scout in kernel.looks.values()]
    assert max(reads) <= MOST_READS + 1
    assert sum(reads) < 300 + len(reads) + 1
    x = np.linspace(0.0, 1.0, 300)
    np.testing.assert_allclose(ft.jit(f)(x), x[0] + np.sin(x[1:]).sum(), rtol=1e-13)
