"""Native entries: the same results, errors and references as calls through Python, and no leak."""

from __future__ import annotations

import collections
import dataclasses
import gc
import sys
import threading
import time
import weakref
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
import pytest

import functrans as ft
from functrans.bind import TRACING
from jit.entry import base
from jit.entry.layout import layout

pytestmark = pytest.mark.skipif(layout() is None, reason="no native entry on this interpreter")


@pytest.fixture(scope="module", autouse=True)
def entry() -> None:
    """The entry is compiled in the background: wait for it once."""
    ft.jit(lambda x: x + 1.0)(1.0)
    deadline = time.monotonic() + 60
    while not base.entry_ready():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def hits(f: Any) -> int:
    """How many calls of a jitted function native code served."""
    return f.cache_info().native_hits


def served(f: Any, *args: Any, **kwargs: Any) -> Any:
    """The result of a call that native code serves, equal to that of the Python path."""
    slow = type(f).__call__(f, *args, **kwargs)
    before = hits(f)
    fast = f(*args, **kwargs)
    assert hits(f) == before + 1
    assert_same(fast, slow)
    return fast


def assert_same(a: Any, b: Any) -> None:
    assert type(a) is type(b)
    if isinstance(a, dict):
        assert list(a) == list(b)
        for key in a:
            assert_same(a[key], b[key])
    elif isinstance(a, (tuple, list)):
        assert len(a) == len(b)
        for x, y in zip(a, b, strict=True):
            assert_same(x, y)
    elif isinstance(a, np.ndarray):
        assert (a.dtype, a.shape) == (b.dtype, b.shape)
        assert a.flags.c_contiguous
        np.testing.assert_array_equal(a, b)
    elif dataclasses.is_dataclass(a):
        assert_same(vars(a), vars(b))
    else:
        np.testing.assert_array_equal(a, b)


class Pair(NamedTuple):
    x: Any
    y: Any


@dataclasses.dataclass
class Model:
    w: Any
    rate: float = dataclasses.field(default=0.5, metadata={"static": True})


ARGUMENTS: dict[str, Any] = {
    "array": np.arange(3.0),
    "matrix": np.arange(6, dtype=np.float32).reshape(2, 3),
    "empty": np.zeros((0, 2)),
    "zero-d": np.array(2.0),
    "integers": np.arange(4, dtype=np.int8),
    "booleans": np.array([True, False]),
    "complex": np.array([1.0 + 2.0j]),
    "float": 2.5,
    "int": 7,
    "negative": -7,
    "bool": True,
    "number": 1.5 - 2.0j,
    "scalar": np.float64(1.25),
    "narrow": np.float32(1.25),
    "wide": np.complex128(1 + 3j),
    "byte": np.uint8(200),
    "truth": np.bool_(True),
    "tuple": (np.ones(2), 3.0),
    "list": [np.ones(2), [np.zeros(1), 2]],
    "dict": {"b": np.ones(2), "a": np.zeros(3)},
    "ordered": collections.OrderedDict(b=np.ones(2), a=1.0),
    "nested": {"layers": [{"w": np.ones((2, 2)), "b": np.ones(2)} for _ in range(3)], "n": None},
    "named": Pair(np.ones(2), {"z": (1.0, np.float32(2.0))}),
    "dataclass": Model(np.ones(2)),
    "keys": {3: np.ones(2), 1: np.ones(1)},
    "none": None,
}


@pytest.mark.parametrize("name", ARGUMENTS)
def test_arguments_and_results_of_every_kind(name: str) -> None:
    value = ARGUMENTS[name]
    f = ft.jit(lambda tree, x: (tree, ft.tree.map(lambda leaf: leaf * 1, tree), x + 1.0))
    served(f, value, np.ones(2))


@pytest.mark.usefixtures("young_heap")
@pytest.mark.parametrize("name", ARGUMENTS)
def test_references_are_exact(name: str) -> None:
    value = ARGUMENTS[name]
    f = ft.jit(lambda tree, x: (tree, {"y": x + 1.0, "x": (x,)}))
    x = np.ones(2)
    served(f, value, x)
    leaves = [*ft.tree.leaves(value), value, x, x.dtype, np.dtype("f8"), f, None]

    def counts() -> list[int]:
        gc.collect()
        return [sys.getrefcount(leaf) for leaf in leaves]

    before = counts()
    for _ in range(200):
        f(value, x)
    assert counts() == before


def test_tuples_that_come_back_can_be_hashed() -> None:
    f = ft.jit(lambda x, n: (Pair(x, n), (n, Pair(n, (n,)))))
    served(f, np.ones(2), 3)
    _, (n, pair) = f(np.ones(2), 3)
    assert hash(pair) == hash((n, (n,)))
    assert {pair: 1}[Pair(n, (n,))] == 1


def no_growth(call: Callable[[], Any]) -> None:
    for _ in range(20):
        call()
    gc.collect()
    before = sys.getallocatedblocks()
    for _ in range(500):
        call()
    gc.collect()
    assert sys.getallocatedblocks() - before < 50


@pytest.mark.usefixtures("young_heap")
def test_misses_leave_nothing_behind() -> None:
    f = ft.jit(lambda tree: tree["a"][0] + tree["b"].w)
    good: dict[str, Any] = {"a": [np.ones(2)], "b": Model(np.ones(2))}
    served(f, good)
    others: list[dict[str, Any]] = [
        {"a": [np.ones(2)], "b": Model(np.ones(2), 0.25)},
        {"a": [np.ones(3)], "b": Model(np.ones(3))},
        {"a": [np.ones(2)], "b": Model(1.0)},
    ]
    for other in others:
        assert_same(f(other), other["a"][0] + other["b"].w)
    no_growth(lambda: [f(other) for other in (*others, good)])


@pytest.mark.usefixtures("young_heap")
def test_errors_leave_nothing_behind() -> None:
    f = ft.jit(lambda x, i: (x.at[i].get(mode="raise") if hasattr(x, "at") else x[i], x * 2))
    x = np.arange(3.0)
    served(f, x, 1)

    def fails() -> None:
        with pytest.raises(IndexError):
            f(x, 7)

    no_growth(fails)
    assert sys.exc_info() == (None, None, None)
    served(f, x, 2)


def test_several_signatures_are_served_by_several_records() -> None:
    f = ft.jit(lambda x: x + 1)
    for value in (np.ones(3), np.ones(4), np.ones(3, np.float32), 2, 2.0, True, np.int64(3)):
        served(f, value)
    assert f.cache_info().programs == 7
    assert f.cache_info().native == 7


def test_functions_with_many_signatures_still_work() -> None:
    f = ft.jit(lambda x: x + 1)
    for n in list(range(40)) * 2:
        assert f(np.zeros(n)).shape == (n,)
    assert f.cache_info().native == 32


def test_keywords_in_the_order_of_the_call() -> None:
    f = ft.jit(lambda x, *, y, z=2.0: (x - y) * z)
    served(f, 1.0, y=3.0)
    served(f, 1.0, y=3.0, z=4.0)
    served(f, 1.0, z=4.0, y=3.0)
    served(f, x=1.0, y=3.0)
    with pytest.raises(TypeError, match="w"):
        f(1.0, y=3.0, w=1.0)


def test_static_arguments_by_type_and_value() -> None:
    f = ft.jit(lambda x, n, mode="a": x * n + len(mode), static_argnames=("n", "mode"))
    x = np.ones(2)
    served(f, x, 1000)
    served(f, x, int("1000"))
    assert f(x, 1000.0).dtype == x.dtype
    served(f, x, True)
    served(f, x, 1)
    served(f, x, 3, mode="".join(["l", "ong"]))
    assert f.cache_info().programs == 5
    assert f(x, 3, mode="other")[0] == 8.0


def test_negative_zero_is_not_zero() -> None:
    f = ft.jit(lambda x, n: np.copysign(x, n), static_argnums=1)
    zero, negative = 0.0, -0.0
    served(f, 1.0, zero)
    assert f(1.0, negative) == f(1.0, float("-0.0"))


def test_the_order_of_keys_is_part_of_the_signature() -> None:
    f = ft.jit(lambda d: list(d.values()))
    a, b = {"x": 1.0, "y": 2.0}, {"y": 2.0, "x": 1.0}
    assert served(f, a) == [1.0, 2.0]
    assert served(f, b) == [2.0, 1.0]
    made = {"".join(["x", ""]): 5.0, str(b"y", "ascii"): 6.0}
    assert served(f, made) == [5.0, 6.0]


def test_layouts_that_the_program_does_not_read_go_through_python() -> None:
    f = ft.jit(lambda x: x * 2.0)
    x = np.arange(12.0).reshape(3, 4)
    served(f, x)
    before = hits(f)
    for other in (x.T.copy().T, np.arange(24.0).reshape(3, 8)[:, ::2], x.astype(">f8")):
        np.testing.assert_array_equal(f(other), other * 2.0)
    np.testing.assert_array_equal(f(x.view(np.recarray)), x * 2.0)
    assert hits(f) == before


def test_python_ints_beyond_the_dtype_raise() -> None:
    f = ft.jit(lambda x, n: x + n)
    x = np.zeros(2, np.uint8)
    served(f, x, 3)
    for n in (300, -1, 2**70):
        with pytest.raises(OverflowError):
            f(x, n)
    g = ft.jit(lambda n: n * 1.0)
    served(g, 3)
    assert g(2**62) == float(2**62)


def test_captured_arrays_are_read_when_called() -> None:
    scale = np.ones(2)
    f = ft.jit(lambda x: x * scale)
    served(f, np.ones(2))
    scale[:] = 3.0
    np.testing.assert_array_equal(served(f, np.ones(2)), [3.0, 3.0])


def test_methods() -> None:
    @ft.tree_util.register_pytree_node_class
    class Layer:
        def __init__(self, w: Any) -> None:
            self.w = w

        def tree_flatten(self) -> tuple[Any, Any]:
            return (self.w,), None

        @classmethod
        def tree_unflatten(cls, aux: Any, children: Any) -> Any:
            return cls(*children)

        @ft.jit
        def __call__(self, x: Any) -> Any:
            return x * self.w

        @ft.jit
        def plus(self, x: Any, *, y: Any) -> Any:
            return x + self.w + y

    layer = Layer(np.ones(2))
    for _ in range(3):
        np.testing.assert_array_equal(layer(np.ones(2)), [1.0, 1.0])
        np.testing.assert_array_equal(layer.plus(1.0, y=2.0), [4.0, 4.0])
        np.testing.assert_array_equal(Layer.plus(layer, 1.0, y=2.0), [4.0, 4.0])
    assert hits(Layer.plus) >= 4
    bound = layer.plus
    assert bound.__self__ is layer
    assert hits(Layer.__dict__["__call__"]) >= 1


def test_within_a_trace_calls_are_recorded() -> None:
    f = ft.jit(lambda x: x * 3.0)
    served(f, 2.0)
    text = str(ft.make_jaxpr(lambda x: f(x) + f(2.0))(1.0))
    assert text.count("call[") == 2
    assert ft.grad(f)(2.0) == 3.0
    assert TRACING[0] == 0
    before = hits(f)
    f(2.0)
    assert hits(f) == before + 1


def test_a_failed_trace_leaves_native_calls_on() -> None:
    def bad(x: Any) -> Any:
        raise RuntimeError("no")

    with pytest.raises(RuntimeError):
        ft.grad(bad)(1.0)
    assert TRACING[0] == 0


def test_donated_arrays_come_back() -> None:
    f = ft.jit(lambda x, y: x + y, donate_argnums=0)
    y = np.ones(1000)
    f(np.zeros(1000), y)
    x = np.zeros(1000)
    before = hits(f)
    assert f(x, y) is x
    assert hits(f) == before + 1
    assert x[0] == 1.0
    for given, other in ((y, y), (np.zeros(2000)[:1000], y), (np.broadcast_to(1.0, 1000), y)):
        expected = given + other
        result = f(given, other)
        assert result is not given
        np.testing.assert_array_equal(result, expected)
    whole = np.arange(1001.0)
    np.testing.assert_array_equal(f(whole[:-1], whole[1:]), 2 * np.arange(1000.0) + 1)


def test_clearing_the_cache_while_it_is_called() -> None:
    f = ft.jit(lambda x: np.sin(x) * 2)
    x = np.ones(100_000)
    served(f, x)
    f.clear_cache()
    assert f.cache_info() == (0, 0, 0, 0)
    assert_same(f(x), np.asarray(ft.jit(lambda x: np.sin(x) * 2)(x)))
    stop = time.monotonic() + 1.0

    def clear() -> None:
        while time.monotonic() < stop:
            f.clear_cache()
            time.sleep(0.001)

    thread = threading.Thread(target=clear)
    thread.start()
    expected = f(x)
    while time.monotonic() < stop:
        np.testing.assert_array_equal(f(x), expected)
    thread.join()


def test_flattening_that_clears_the_cache() -> None:
    class Node:
        def __init__(self, x: Any) -> None:
            self.x = x

    def take(node: Node) -> tuple[Any, Any]:
        if clearing:
            f.clear_cache()
        return (node.x,), None

    clearing = False
    ft.tree_util.register_pytree_node(Node, take, lambda aux, children: Node(*children))
    f = ft.jit(lambda node, x: node.x + x)
    for _ in range(3):
        f(Node(1.0), 1.0)
        f(Node(np.ones(2)), 1.0)
    clearing = True
    for _ in range(3):
        assert f(Node(2.0), 1.0) == 3.0
        assert f(Node(2.0), np.float32(1.0)) == 3.0


def test_threads_agree() -> None:
    f = ft.jit(lambda d: {"y": np.tanh(d["x"]) * d["s"], "n": d["s"] + 1})
    sizes = (3, 10, 100, 20_000)
    inputs = [{"x": np.linspace(0, 1, n), "s": float(n)} for n in sizes]
    expected = [f(d) for d in inputs]
    errors: list[BaseException] = []

    def work(start: int) -> None:
        try:
            for k in range(200):
                at = (start + k) % len(inputs)
                assert_same(f(inputs[at]), expected[at])
        except BaseException as error:
            errors.append(error)

    threads = [threading.Thread(target=work, args=(k,)) for k in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert errors == []


def test_values_may_be_replaced_while_the_program_runs() -> None:
    f = ft.jit(lambda d: np.sum(np.sin(d["x"])))
    d = {"x": np.ones(200_000)}
    expected = f(d)
    stop = time.monotonic() + 0.5

    def replace() -> None:
        while time.monotonic() < stop:
            d["x"] = np.ones(200_000)

    thread = threading.Thread(target=replace)
    thread.start()
    while time.monotonic() < stop:
        assert f(d) == expected
    thread.join()


@pytest.fixture
def through_python(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FUNCTRANS_DISPATCH", "python")


@pytest.mark.usefixtures("through_python")
def test_the_switch_for_calls_through_python() -> None:
    f = ft.jit(lambda x: x + 1.0)
    for _ in range(3):
        assert f(1.0) == 2.0
    assert f.cache_info().native == 0


def test_an_unknown_switch_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FUNCTRANS_DISPATCH", "fast")
    with pytest.raises(ft.FunctransError, match="FUNCTRANS_DISPATCH is 'fast'"):
        ft.jit(lambda x: x + 1.0)(1.0)


def test_a_jitted_function_goes_with_its_last_reference() -> None:
    f = ft.jit(lambda x: np.sin(x) + np.sum(x))
    served(f, np.ones(100))
    ref = weakref.ref(f)
    del f
    gc.collect()
    assert ref() is None
