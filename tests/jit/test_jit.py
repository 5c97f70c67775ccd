"""jit as users meet it: signatures, statics, donation, pytrees, composition, looking inside."""

from __future__ import annotations

import gc
import threading
import weakref
from typing import Any

import numpy as np
import pytest

import functrans as ft
import functrans.numpy as fnp


def test_keeps_name_doc_and_signature() -> None:
    @ft.jit
    def scaled(x: Any, *, factor: float = 2.0) -> Any:
        """Twice x."""
        return x * factor

    assert scaled.__name__ == "scaled"
    assert scaled.__doc__ == "Twice x."
    assert scaled(3.0) == 6.0
    assert scaled(3.0, factor=4) == 12.0


def test_one_trace_for_each_signature() -> None:
    traced: list[Any] = []

    @ft.jit
    def f(x: Any) -> Any:
        traced.append(x)
        return x + 1

    for value in (np.ones(2), np.zeros(2), 1.0, 2.0, 1, np.float32(3), np.ones(2, np.float32)):
        f(value)
    assert len(traced) == 5
    f.clear_cache()
    f(1.0)
    assert len(traced) == 6


def test_results_have_numpys_types() -> None:
    f = ft.jit(lambda x: (x, x * 2, fnp.sum(fnp.asarray(x))))
    weak = f(3)
    assert [type(v) for v in weak] == [int, int, np.int64]
    strong = f(np.float32(3))
    assert [type(v) for v in strong] == [np.float32] * 3
    array = f(np.ones((2, 2)))
    assert type(array[0]) is np.ndarray
    assert type(array[2]) is np.float64


def test_results_are_fresh() -> None:
    x = np.ones(3)
    y, z, w = ft.jit(lambda x: (x, x, x.reshape(3, 1)))(x)
    y[0] = z[1] = w[2] = 7
    assert x.tolist() == [1, 1, 1]
    assert (y.tolist(), z.tolist(), w.ravel().tolist()) == ([7, 1, 1], [1, 7, 1], [1, 1, 7])


def test_pytrees_and_keywords() -> None:
    @ft.jit
    def f(params: Any, x: Any, *, bias: Any) -> Any:
        return {"out": params["w"] @ x + bias, "pair": (x, [params["b"]])}

    params = {"w": np.eye(2), "b": 3.0}
    found = f(params, np.array([1.0, 2.0]), bias=np.ones(2))
    assert found["out"].tolist() == [2, 3]
    assert found["pair"][1] == [3.0]


def test_static_arguments() -> None:
    traced: list[Any] = []

    def power(x: Any, n: int, mode: str = "plain") -> Any:
        traced.append((n, mode))
        return x**n if mode == "plain" else -(x**n)

    f = ft.jit(power, static_argnums=1, static_argnames="mode")
    assert f(2.0, 3) == 8.0
    assert f(3.0, 3) == 27.0
    assert f(2.0, n=3, mode="other") == -8.0
    assert f(2.0, 2, "other") == -4.0
    assert traced == [(3, "plain"), (3, "other"), (2, "other")]
    with pytest.raises(TypeError, match=r"argument 1 \(n\) of power .* must be hashable"):
        f(2.0, [3])


def test_statics_of_equal_value_and_other_type_differ() -> None:
    f = ft.jit(lambda x, n: x * n, static_argnums=1)
    assert type(f(2, 1)) is int
    assert type(f(2, 1.0)) is float


def test_methods() -> None:
    class Model:
        def __init__(self, scale: float) -> None:
            self.scale = scale

        @ft.jit(static_argnums=0)
        def apply(self, x: Any) -> Any:
            return x * self.scale

    assert Model(2.0).apply(3.0) == 6.0
    assert Model(5.0).apply(3.0) == 15.0


def test_donated_arrays_are_the_result() -> None:
    f = ft.jit(lambda p, g: p - 0.5 * g, donate_argnums=0)
    p, g = np.ones(1000), np.ones(1000)
    out = f(p, g)
    assert out is p
    assert out[0] == 0.5


@pytest.mark.parametrize("kind", ["view", "readonly", "twice"])
def test_donation_copies_where_memory_is_not_its_own(kind: str) -> None:
    f = ft.jit(lambda p, g: p - 0.5 * g, donate_argnums=0)
    base = np.ones(8)
    p = base[:] if kind == "view" else base
    p.flags.writeable = kind != "readonly"
    out = f(p, p if kind == "twice" else np.ones(8))
    assert out is not p
    assert out.tolist() == [0.5] * 8
    assert base.tolist() == [1.0] * 8


def test_donation_where_elements_are_read_later() -> None:
    """The result is right even where it cannot be written over its own input."""
    x = np.random.default_rng(0).standard_normal((20, 20))
    expected = x.T + x @ x
    f = ft.jit(lambda x: x.T + x @ x, donate_argnums=0)
    assert f(x) is x
    np.testing.assert_allclose(x, expected)


def test_composes_with_transforms() -> None:
    def loss(x: Any) -> Any:
        return fnp.sum(fnp.sin(x) ** 2)

    x = np.linspace(0, 1, 5)
    expected = np.sin(2 * x)
    np.testing.assert_allclose(ft.grad(ft.jit(loss))(x), expected)
    np.testing.assert_allclose(ft.jit(ft.grad(loss))(x), expected)
    np.testing.assert_allclose(ft.jit(ft.grad(ft.jit(loss)))(x), expected)
    rows = np.stack([x, 2 * x])
    np.testing.assert_allclose(ft.vmap(ft.jit(ft.grad(loss)))(rows), np.sin(2 * rows))
    np.testing.assert_allclose(ft.jit(ft.hessian(loss))(x), np.diag(2 * np.cos(2 * x)), atol=1e-12)


def test_closure_over_an_outer_tracer() -> None:
    def f(y: Any) -> Any:
        return ft.jit(lambda x: x * y)(3.0)

    assert ft.grad(f)(2.0) == 3.0


def test_a_captured_array_is_an_input() -> None:
    """What is written to it later changes the next result; nothing is compiled again."""
    table = np.arange(3.0)
    f = ft.jit(lambda i: fnp.asarray(table) * i)
    assert f(2.0).tolist() == [0, 2, 4]
    table[:] = 9
    assert f(2.0).tolist() == [18, 18, 18]


def test_abstract_arguments_cannot_be_asked() -> None:
    @ft.jit
    def f(x: Any) -> Any:
        return x if x > 0 else -x

    with pytest.raises(TypeError, match=r"argument 0 \(x\) of f"):
        f(1.0)


def test_looking_inside() -> None:
    f = ft.jit(lambda x: fnp.sum(x * 2.0))
    lowered = f.lower(ft.ShapeDtypeStruct((4,), np.float64))
    assert "reduce_sum" in lowered.as_text()
    assert "load in0" in lowered.as_text("loops")
    assert "define" in lowered.as_text("llvm")
    assert "ft_entry" in lowered.as_text("asm")
    report = lowered.compile_report()
    assert list(report.seconds) == ["jaxpr", "fuse", "loops", "llvm", "object", "load"]
    assert "compiled in" in str(report)
    assert "mul" in str(f.trace(np.ones(4)).jaxpr)
    assert lowered.compile()(np.ones(4)) == 8.0
    with pytest.raises(ValueError, match="must be one of"):
        lowered.as_text("c")


def test_a_compiled_program_runs_without_another_trace() -> None:
    traced: list[Any] = []

    @ft.jit
    def f(x: Any, *, power: int = 2) -> Any:
        traced.append(x)
        return (x**power).sum()

    compiled = f.lower(np.ones(3)).compile()
    assert compiled(np.full(3, 2.0)) == 12.0
    np.testing.assert_array_equal(ft.grad(compiled)(np.full(3, 2.0)), np.full(3, 4.0))
    assert len(traced) == 1
    abstract = f.lower(ft.ShapeDtypeStruct((2,), np.float64)).compile()
    assert abstract(np.full(2, 3.0)) == 18.0
    with pytest.raises(TypeError, match=r"f64\[4\] as argument 0 \(x\) of f"):
        compiled(np.ones(4))
    with pytest.raises(TypeError, match=r"f32\[3\] as"):
        compiled(np.ones(3, np.float32))
    assert len(traced) == 2


def test_reference_engine(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FUNCTRANS_ENGINE", "numpy")
    f = ft.jit(lambda x: (x, x.T))
    x = np.ones((2, 3))
    same, turned = f(x)
    same[0, 0] = 5
    assert x[0, 0] == 1
    assert turned.shape == (3, 2)


def test_two_threads_at_once() -> None:
    f = ft.jit(lambda x: fnp.sum(fnp.sort(fnp.sin(x) @ x.T)))
    x = np.random.default_rng(1).standard_normal((60, 60))
    expected = float(np.sum(np.sin(x) @ x.T))
    found: list[float] = []

    def work() -> None:
        found.extend(float(f(x)) for _ in range(20))

    workers = [threading.Thread(target=work) for _ in range(3)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    np.testing.assert_allclose(found, [expected] * 60, rtol=1e-9)


def test_programs_go_with_their_function() -> None:
    f = ft.jit(lambda x: x + 1.0)
    f(np.ones(3))
    alive = weakref.ref(f)
    del f
    gc.collect()
    assert alive() is None


def test_what_is_no_function_is_refused() -> None:
    with pytest.raises(TypeError, match="jit takes a function"):
        ft.jit(3)  # type: ignore[arg-type]


def test_a_leaf_that_is_no_array_names_itself() -> None:
    f = ft.jit(lambda params: params["name"])
    with pytest.raises(TypeError, match=r"params.*name"):
        f({"name": "text"})
