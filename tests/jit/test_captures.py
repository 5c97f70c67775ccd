"""What jitted functions capture: mutated arrays are read anew, rebound names told on request."""

from __future__ import annotations

import types
from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
import pytest

import functrans as ft
import functrans.numpy as fnp
from functrans.errors import MutationError, StaleCaptureError, TransformTypeError
from jit.captures import captures_of, first_change

# -- mutation ---------------------------------------------------------------------------------

array = np.ones(3)

READ_ANEW: dict[str, Callable[[Any], Any]] = {
    "meets a tracer": lambda x: x * array,
    "a ufunc of functrans.numpy": lambda x: x + fnp.exp(array),
    "a ufunc of NumPy with a tracer": lambda x: np.maximum(array, x),
    "a reduction": lambda x: x * fnp.sum(array),
    "alone": lambda x: (x, fnp.exp(array)),
    "returned": lambda x: (x, array),
    "an index that is a tracer": lambda x: x[fnp.argmax(array)],
    "joined": lambda x: np.concatenate([x, array]),
    "converted": lambda x: x * fnp.asarray(array),
    "through a view": lambda x: x[:2] * array[1:],
    "inside grad": lambda x: ft.grad(lambda y: np.sum(y * fnp.exp(array)))(x),
    "inside vmap": lambda x: ft.vmap(lambda y: y * array)(x),
    "inside jit": lambda x: ft.jit(lambda y: y * array)(x),
    "inside checkpoint": lambda x: ft.grad(ft.checkpoint(lambda y: np.sum(y * y * array)))(x),
    "inside jit, under no trace's name": lambda x: x + ft.jit(lambda: fnp.exp(array))(),
}
FROZEN: dict[str, Callable[[Any], Any]] = {
    "a ufunc of NumPy": lambda x: x + np.exp(array),
    "an element": lambda x: x + array[1],
    "a comparison": lambda x: x * (array > 1.5),
}


@pytest.fixture(autouse=True)
def ones() -> None:
    array[:] = 1.0


def before_and_after(f: Callable[[Any], Any]) -> tuple[Any, Any, Any]:
    """Results of the jitted function before and after the array changes, and f's own then."""
    x = np.array([0.5, 1.0, 2.0])
    jitted = ft.jit(f)
    jitted(x)
    before = ft.tree.leaves(jitted(x))
    array[:] = [1.0, 2.0, 4.0]
    return before, ft.tree.leaves(jitted(x)), ft.tree.leaves(f(x))


@pytest.mark.parametrize("name", READ_ANEW)
def test_mutated_arrays_are_read_anew(name: str) -> None:
    before, after, expected = before_and_after(READ_ANEW[name])
    assert any(not np.array_equal(x, y) for x, y in zip(before, after, strict=True))
    for x, y in zip(after, expected, strict=True):
        np.testing.assert_allclose(x, y, rtol=1e-15)


@pytest.mark.parametrize("name", FROZEN)
def test_what_plain_numpy_computes_is_part_of_the_program(name: str) -> None:
    before, after, expected = before_and_after(FROZEN[name])
    np.testing.assert_array_equal(before, after)
    assert not np.allclose(after, expected)


def test_large_arrays_are_read_anew_too() -> None:
    large = np.ones(1 << 18)
    f = ft.jit(lambda x: np.sum(large * x))
    for value in (1.0, 1.0, 2.0, 3.0):
        large[:] = value
        assert f(2.0) == 2.0 * value * large.size


def test_arrays_that_change_their_shape_are_refused() -> None:
    kept = np.ones(6)
    f = ft.jit(lambda x: x * kept)
    f(1.0)
    f(1.0)
    kept.resize(2, refcheck=False)
    with pytest.raises(MutationError, match=r"had shape \(6,\) .* and has \(2,\) now"):
        f(1.0)


# -- rebinding --------------------------------------------------------------------------------

rate = 0.5
settings: dict[str, Any] = {"steps": [1, 2], "name": "a"}
module = types.ModuleType("module")
layer = types.SimpleNamespace(weights=types.SimpleNamespace(scale=1.0))


def helper(x: Any) -> Any:
    return x * rate


class Slotted:
    __slots__ = ("scale",)

    def __init__(self) -> None:
        self.scale = 1.0


class Model:
    offset = 1.0

    def __init__(self) -> None:
        self.scale = 2.0

    def apply(self, x: Any) -> Any:
        return x * self.scale + self.offset

    @partial(ft.jit, static_argnums=0, check_captures=True)
    def step(self, x: Any) -> Any:
        return self.apply(x) + self.scale

    def __call__(self, x: Any) -> Any:
        return x + self.scale


def raises(f: Any, x: Any, words: str) -> None:
    with pytest.raises(StaleCaptureError, match=words):
        f(x)


def test_rebinding_is_not_seen_without_it() -> None:
    scale = 2.0
    f = ft.jit(lambda x: x * scale)
    assert f(3.0) == 6.0
    scale = 3.0
    assert f(3.0) == 6.0
    f.clear_cache()
    assert f(3.0) == 9.0


def test_closures() -> None:
    scale = 2.0
    f = ft.jit(lambda x: x * scale, check_captures=True)
    assert f(3.0) == f(3.0) == 6.0
    scale = 5.0
    raises(f, 3.0, "scale, which <lambda> .* captured, was the float 2.0 when .* is the float 5.0")
    scale = 2.0
    assert f(3.0) == 6.0
    scale = 5.0
    f.clear_cache()
    assert f(3.0) == 15.0
    assert f(np.ones(2))[0] == 5.0


def test_equal_numbers_of_another_type_are_something_else() -> None:
    scale: Any = 2
    f = ft.jit(lambda x: x * scale, check_captures=True)
    f(3)
    scale = 2.0
    raises(f, 3, "the int 2 when it was traced, and is the float 2.0 now")


def test_arrays_by_identity() -> None:
    scale = np.ones(2)
    f = ft.jit(lambda x: x * scale, check_captures=True)
    f(1.0)
    scale[:] = 7.0
    np.testing.assert_array_equal(f(1.0), [7.0, 7.0])
    scale = np.full(2, 7.0)
    raises(f, 1.0, "scale, .* was f64.2. when it was traced, and is a different one now")


def test_globals_of_functions_that_are_called(monkeypatch: pytest.MonkeyPatch) -> None:
    f = ft.jit(lambda x: [helper(y) for y in (x,)], check_captures=True)
    f(1.0)
    monkeypatch.setitem(globals(), "rate", 0.25)
    raises(f, 1.0, r"rate \(read by helper\), which")
    monkeypatch.undo()
    f(1.0)
    monkeypatch.setitem(globals(), "helper", lambda x: x)
    raises(f, 1.0, "helper, which .* was the function helper when .* is the function <lambda> now")
    monkeypatch.delitem(globals(), "helper")
    raises(f, 1.0, "is not bound now")


def test_defaults() -> None:
    def f(x: Any, y: float = 1.0, *, z: float = 2.0) -> Any:
        return x + y + z

    jitted = ft.jit(f, check_captures=True)
    assert jitted(0.0) == 3.0
    f.__defaults__ = (4.0,)
    raises(jitted, 0.0, "the default of y, which f")
    f.__defaults__ = (1.0,)
    f.__kwdefaults__ = {"z": 5.0}
    raises(jitted, 0.0, "the default of z, which f")


def test_attributes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "bias", 3.0, raising=False)
    slotted = Slotted()
    f = ft.jit(lambda x: x * layer.weights.scale + module.bias + slotted.scale, check_captures=True)
    f(1.0)
    monkeypatch.setattr(layer.weights, "scale", 2.0)
    raises(f, 1.0, "layer.weights.scale, which")
    monkeypatch.undo()
    monkeypatch.setattr(module, "bias", 3.0, raising=False)
    f(1.0)
    monkeypatch.delattr(module, "bias")
    raises(f, 1.0, "module.bias, .* was the float 3.0 .* is not bound now")
    monkeypatch.undo()
    monkeypatch.setattr(module, "bias", 3.0, raising=False)
    slotted.scale = 9.0
    raises(f, 1.0, "slotted.scale, which")


def test_methods_and_static_objects(monkeypatch: pytest.MonkeyPatch) -> None:
    model = Model()
    assert model.step(1.0) == model.step(1.0) == 5.0
    model.scale = 4.0
    raises(model.step, 1.0, "self.scale")
    model.scale = 2.0
    monkeypatch.setattr(Model, "offset", 7.0)
    raises(model.step, 1.0, r"self.offset \(read by apply\)")
    other = Model()
    assert other.step(1.0) == 11.0


def test_callable_objects_and_partials() -> None:
    model = Model()
    f = ft.jit(model, check_captures=True)
    f(1.0)
    g = ft.jit(partial(model.apply), check_captures=True)
    g(1.0)
    h = ft.jit(ft.jit(model.apply), check_captures=True)
    h(1.0)
    model.scale = 3.0
    for jitted in (f, g, h):
        raises(jitted, 1.0, "self.scale")


def test_contents_of_containers(monkeypatch: pytest.MonkeyPatch) -> None:
    f = ft.jit(lambda x: x * settings["steps"][0] + len([*settings.items()]), check_captures=True)
    f(1.0)
    monkeypatch.setitem(settings, "steps", [1, 2])
    f(1.0)  # another list of the same contents
    monkeypatch.setitem(settings, "steps", [3, 2])
    raises(f, 1.0, r"settings\['steps'\]\[0\], which")
    monkeypatch.undo()
    monkeypatch.setitem(settings, "more", 1)
    raises(f, 1.0, r"settings\['more'\], .* was not bound when")


def test_what_is_only_written_to_is_not_compared() -> None:
    seen: list[Any] = []

    def f(x: Any) -> Any:
        seen.append(1)
        return x * 2.0

    jitted = ft.jit(f, check_captures=True)
    jitted(1.0)
    seen.clear()
    assert jitted(1.0) == 2.0


def test_inside_other_transforms() -> None:
    scale = 2.0
    f = ft.jit(lambda x: x * scale, check_captures=True)
    assert ft.grad(f)(1.0) == 2.0
    scale = 3.0
    with pytest.raises(StaleCaptureError):
        ft.grad(f)(1.0)


def test_properties_are_not_run() -> None:
    class Lazy:
        runs = 0

        @property
        def scale(self) -> float:
            Lazy.runs += 1
            return 2.0

    lazy = Lazy()
    f = ft.jit(lambda x: x * lazy.scale, check_captures=True)
    for _ in range(3):
        assert f(1.0) == 2.0
    assert Lazy.runs == 1


def test_containers_in_themselves_and_functions_that_call_themselves() -> None:
    knot: list[Any] = [1.0]
    knot.append(knot)

    def f(x: Any, n: int = 3) -> Any:
        return x if n == 0 else f(x * knot[0], n - 1)

    captures = captures_of(f, {})
    assert first_change(captures) is None
    knot[0] = 2.0
    change = first_change(captures)
    assert change is not None
    assert change.name == "knot[0]"


def test_the_option_is_a_bool() -> None:
    with pytest.raises(TransformTypeError, match="check_captures must be True or False, not"):
        ft.jit(helper, check_captures="yes")
