"""Convolutions of dilated inputs as convolutions of the inputs themselves, one for each phase."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from numpy.testing import assert_allclose

from functrans import lax
from functrans.extend import Jaxpr, aval_of, simplify, stage_walk
from jit.lowering import conv_direct, convolution
from jit.passes.prepare import inline_calls, to_graph
from tests.jit.test_conv import LAYERS, Layer, by_loops
from tests.native import compiled

PHASED = {
    **{name: LAYERS[name] for name in ("transposed", "both")},
    "one phase longer": Layer((2, 3, 4), (2, 3, 5), (), ((2, 3),), (3,)),
    "no tap in a phase": Layer((2, 2, 4, 3), (3, 2, 1, 2), (), ((1, 1), (1, 1)), (2, 3)),
    "cut": Layer((1, 2, 5, 6), (3, 2, 3, 3), (), ((-1, 0), (-2, -1)), (2, 2)),
    "fewer places than phases": Layer((2, 2, 2), (3, 2, 3), (), ((0, 0),), (4,)),
    "dilated window": Layer((2, 3, 9), (2, 3, 4), (), ((4, 4),), (2,), (3,)),
    "grouped": Layer((3, 4, 3, 3), (6, 2, 3, 3), (), ((2, 1), (1, 2)), (2, 2), (), 2),
    "volume": Layer((2, 2, 2, 3, 2), (2, 2, 3, 2, 3), (), ((1, 1),) * 3, (2, 2, 2)),
    "many images": Layer((9, 8, 5, 5), (7, 8, 3, 3), (), ((1, 1), (1, 1)), (2, 2)),
}


@pytest.fixture(autouse=True)
def no_kernel(monkeypatch: pytest.MonkeyPatch) -> None:
    """Small convolutions are divided too, and none is for the kernel of long rows."""
    monkeypatch.setattr(convolution, "LARGE_CONV", 1)
    monkeypatch.setattr(conv_direct, "LEAST_LINE", 1 << 20)


def staged(layer: Layer, x: Any, w: Any) -> Jaxpr:
    walk = lambda x, w: [lax.conv_general_dilated(x, w, **layer.params())]
    return stage_walk(walk, [aval_of(x), aval_of(w)], "test")


def shapes(layer: Layer) -> tuple[Any, Any, Any]:
    rng = np.random.default_rng(len(layer.x))
    x, w = rng.normal(size=layer.x), rng.normal(size=layer.w)
    return x, w, lax.conv_general_dilated(x, w, **layer.params())


@pytest.mark.parametrize("name", PHASED)
def test_phases_make_the_convolution(name: str) -> None:
    layer = PHASED[name]
    x, w, eager = shapes(layer)
    jaxpr = staged(layer, x, w)
    (found,) = compiled(jaxpr)([x, w])
    (expected, _, _) = by_loops(layer, x, w, np.zeros(eager.shape))
    assert found.shape == expected.shape
    assert_allclose(found, expected, rtol=0, atol=1e-12 * max(1.0, np.abs(expected).max()))


@pytest.mark.parametrize("name", PHASED)
def test_zeros_are_neither_stored_nor_multiplied(name: str) -> None:
    layer = PHASED[name]
    x, w, _ = shapes(layer)
    graph = to_graph(simplify(inline_calls(staged(layer, x, w))))
    pads = [eqn for eqn in graph.eqns if eqn.primitive.name == "pad"]
    assert not any(any(eqn.params["interior"]) for eqn in pads)
    loops = [eqn for eqn in graph.eqns if eqn.primitive.name == "conv"]
    assert all(max(eqn.params["lhs_dilation"]) == 1 for eqn in loops)


def test_too_many_phases_stay_one_convolution() -> None:
    layer = Layer((1, 2, 4), (2, 2, 3), (), ((1, 1),), (convolution.MOST_PHASES + 1,))
    x, w, _ = shapes(layer)
    graph = to_graph(simplify(inline_calls(staged(layer, x, w))))
    pads = [eqn for eqn in graph.eqns if eqn.primitive.name == "pad"]
    assert any(any(eqn.params["interior"]) for eqn in pads)
