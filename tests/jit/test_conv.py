"""Convolutions and their gradients against plain loops: every kind of window, cut, tile, thread."""

from __future__ import annotations

import ctypes
import platform
from collections.abc import Iterator
from functools import cache
from typing import Any, NamedTuple

import numpy as np
import pytest
from numpy.testing import assert_allclose

import functrans as ft
from functrans import lax
from functrans.extend import Jaxpr, aval_of, stage_walk
from jit import native
from jit.lowering import conv_direct, conv_windows, convolution
from jit.passes import loops as passes_loops
from jit.runtime import threads
from jit.runtime.conv_text import LANES, conv_module
from jit.runtime.gemm_tile import Kind, tile_for
from jit.runtime.objects import build_object, host_features, link_object
from tests.jit.apart import Apart
from tests.native import compiled

Shape = tuple[int, ...]


class Layer(NamedTuple):
    """A convolution: shapes of the input and the filters, and how the window moves."""

    x: Shape
    w: Shape
    strides: Shape = ()
    padding: tuple[tuple[int, int], ...] = ()
    lhs: Shape = ()
    rhs: Shape = ()
    groups: int = 1

    def params(self) -> dict[str, Any]:
        ones = (1,) * (len(self.x) - 2)
        return {
            "window_strides": self.strides or ones,
            "padding": self.padding or ((0, 0),) * len(ones),
            "lhs_dilation": self.lhs or ones,
            "rhs_dilation": self.rhs or ones,
            "feature_group_count": self.groups,
        }


LAYERS = {
    "line": Layer((2, 3, 19), (5, 3, 4), (2,), ((2, 1),), (), (2,)),
    "long line": Layer((1, 2, 90), (3, 2, 5)),
    "same": Layer((2, 3, 5, 18), (9, 3, 3, 3), (), ((1, 1), (1, 1))),
    "one channel": Layer((3, 1, 5, 28), (8, 1, 3, 3), (), ((1, 1), (1, 1))),
    "many steps": Layer((1, 8, 4, 13), (10, 8, 3, 3), (), ((1, 1), (1, 1))),
    "point": Layer((2, 50, 3, 14), (3, 50, 1, 1)),
    "strided": Layer((2, 2, 7, 23), (4, 2, 3, 2), (2, 3), ((2, 0), (1, 1))),
    "dilated": Layer((1, 2, 9, 21), (3, 2, 2, 3), (), ((0, 2), (3, 1)), (), (3, 2)),
    "transposed": Layer((1, 3, 3, 7), (4, 3, 3, 3), (), ((2, 2), (1, 2)), (2, 3)),
    "both": Layer((1, 2, 4, 9), (3, 2, 3, 3), (2, 3), ((1, 2), (2, 2)), (4, 2), (1, 2)),
    "cut": Layer((1, 2, 7, 20), (3, 2, 2, 2), (), ((-1, 1), (-3, -2))),
    "grouped": Layer((2, 6, 4, 13), (9, 2, 3, 3), (), ((1, 1), (1, 1)), (), (), 3),
    "panels in groups": Layer((1, 4, 4, 13), (18, 2, 3, 3), (), ((1, 1), (1, 1)), (), (), 2),
    "large filters in groups": Layer((2, 4, 5, 13), (6, 2, 3, 12), (), (), (), (), 2),
    "depthwise": Layer((2, 4, 5, 20), (4, 1, 3, 3), (1, 2), ((1, 1), (1, 1)), (), (), 4),
    "volume": Layer((1, 2, 3, 4, 11), (3, 2, 2, 3, 3), (1, 2, 1), ((0, 1), (1, 1), (1, 1))),
}


def by_loops(layer: Layer, x: Any, w: Any, ct: Any) -> tuple[Any, Any, Any]:
    """The result, and what ct pulls back to x and to w: one product at a time."""
    p = layer.params()
    strides, padding = p["window_strides"], p["padding"]
    lhs, rhs = p["lhs_dilation"], p["rhs_dilation"]
    out, x_bar, w_bar = np.zeros(ct.shape), np.zeros(x.shape), np.zeros(w.shape)
    per = w.shape[0] // layer.groups
    for n, o, *place in np.ndindex(*ct.shape):
        for i, *tap in np.ndindex(*w.shape[1:]):
            at = [
                q * s + t * r - low
                for q, s, t, r, (low, _) in zip(place, strides, tap, rhs, padding, strict=True)
            ]
            source = [a // d for a, d in zip(at, lhs, strict=True)]
            whole = all(a % d == 0 for a, d in zip(at, lhs, strict=True))
            if whole and all(0 <= a < m for a, m in zip(source, x.shape[2:], strict=True)):
                met, weight = (n, o // per * w.shape[1] + i, *source), (o, i, *tap)
                out[(n, o, *place)] += x[met] * w[weight]
                x_bar[met] += ct[(n, o, *place)] * w[weight]
                w_bar[weight] += ct[(n, o, *place)] * x[met]
    return out, x_bar, w_bar


@pytest.fixture(autouse=True)
def kernels(monkeypatch: pytest.MonkeyPatch) -> None:
    """Small convolutions take the kernels too."""
    monkeypatch.setattr(convolution, "LARGE_CONV", 1)
    monkeypatch.setattr(conv_direct, "LEAST_LINE", 0)


@pytest.fixture
def cut(monkeypatch: pytest.MonkeyPatch) -> None:
    """Work falls into the smallest pieces, and into few slots."""
    for module, name, value in (
        (conv_direct, "BAND_BYTES", 300),
        (conv_direct, "SLOTS", 2),
        (conv_direct, "LEAST_SLOTS", 2),
        (conv_windows, "LEAST_PLACES", 1),
        (conv_windows, "BAND_BYTES", 300),
        (conv_windows, "MOST_SLOTS", 2),
        (conv_windows, "SUMS_BYTES", 1),
        (passes_loops, "PARALLEL_NS", 0.0),
    ):
        monkeypatch.setattr(module, name, value)


@cache
def operands(name: str, dtype: str) -> tuple[Any, ...]:
    """x, w, ct, and what the loops make of them."""
    layer, rng = LAYERS[name], np.random.default_rng(0)
    x, w = (rng.standard_normal(s).astype(dtype) for s in (layer.x, layer.w))
    shape = lax.conv_general_dilated(x, w, **layer.params()).shape
    ct = rng.standard_normal(shape).astype(dtype)
    return x, w, ct, by_loops(layer, *(a.astype(float) for a in (x, w, ct)))


def both_gradients(name: str, dtype: str) -> Jaxpr:
    """The convolution and what a cotangent pulls back to both operands."""

    def walk(x: Any, w: Any, ct: Any) -> list[Any]:
        y, pull = ft.vjp(lambda x, w: lax.conv_general_dilated(x, w, **LAYERS[name].params()), x, w)
        return [y, *pull(ct)]

    return stage_walk(walk, [aval_of(a) for a in operands(name, dtype)[:3]], "test")


def program(name: str, dtype: str) -> Any:
    return compiled(both_gradients(name, dtype))


def agrees(found: list[Any], expected: tuple[Any, ...], dtype: str) -> None:
    tolerance = 1e-5 if dtype == "f4" else 1e-13
    for a, b in zip(found, expected, strict=True):
        assert a.dtype == np.dtype(dtype)
        assert_allclose(a, b, rtol=tolerance, atol=tolerance * np.max(np.abs(b), initial=1.0))


@pytest.mark.parametrize("name", list(LAYERS))
def test_in_whole_images(name: str) -> None:
    x, w, ct, expected = operands(name, "f4")
    agrees(program(name, "f4")([x, w, ct]), expected, "f4")


@pytest.mark.parametrize("name", list(LAYERS))
def test_in_pieces(name: str, cut: None) -> None:
    x, w, ct, expected = operands(name, "f8")
    agrees(program(name, "f8")([x, w, ct]), expected, "f8")


@pytest.mark.parametrize("name", ["same", "line", "point", "grouped"])
def test_several_sums_of_several_pieces(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    for part, value in (("MOST_SLOTS", 2), ("LEAST_PLACES", 1), ("BAND_PLACES", 4)):
        monkeypatch.setattr(conv_windows, part, value)
    x, w, ct, expected = operands(name, "f8")
    agrees(program(name, "f8")([x, w, ct]), expected, "f8")


@pytest.mark.parametrize("name", list(LAYERS))
def test_pieces_write_apart(name: str, cut: None) -> None:
    """Threads that work at once have partial sums and copies of their own."""
    x, w, ct, expected = operands(name, "f8")
    run = Apart(both_gradients(name, "f8"))
    agrees(run([x, w, ct]), expected, "f8")
    assert run.loops >= 2
    assert run.clashes == []


@pytest.fixture
def restored() -> Iterator[None]:
    before = threads.num_threads()
    yield
    threads.set_num_threads(before)


@pytest.mark.parametrize("name", ["same", "strided", "depthwise", "line"])
def test_bits_do_not_depend_on_threads(name: str, cut: None, restored: None) -> None:
    x, w, ct, _ = operands(name, "f4")
    run = program(name, "f4")
    found: list[list[bytes]] = []
    for count in (1, 2, 3):
        threads.set_num_threads(count)
        found.append([y.tobytes() for y in run([x, w, ct])])
    assert found[0] == found[1] == found[2]


def test_what_does_not_meet_does_not_mix() -> None:
    """An infinite element reaches the places whose windows it is in, and no other."""
    x, w = np.ones((1, 2, 6, 30), "f4"), np.ones((8, 2, 3, 3), "f4")
    x[0, 1, 3, 29] = np.inf
    ct = np.ones((1, 8, 6, 30), "f4")
    layer = Layer(x.shape, w.shape, (), ((1, 1), (1, 1)))

    def walk(x: Any, w: Any, ct: Any) -> list[Any]:
        y, pull = ft.vjp(lambda x, w: lax.conv_general_dilated(x, w, **layer.params()), x, w)
        return [y, *pull(ct)]

    y, _, w_bar = compiled(stage_walk(walk, [aval_of(a) for a in (x, w, ct)], "test"))([x, w, ct])
    assert np.isinf(y[0, 0]).sum() == 6
    assert np.isfinite(w_bar[:, 0]).all()
    assert np.isfinite(w_bar[:, 1, :, 0]).all()
    assert np.isinf(w_bar[:, 1, :, 1:]).all()


# -- the kernels for every tile -----------------------------------------------------------------

TILES = {
    "avx512": tile_for(frozenset({"avx512f"}), aarch64=False),
    "avx2": tile_for(frozenset({"avx2", "fma"}), aarch64=False),
    "sse2": tile_for(frozenset(), aarch64=False),
    "neon": tile_for(frozenset(), aarch64=True),
}
X86 = platform.machine().lower() in ("x86_64", "amd64")
_I, _P = ctypes.c_int64, ctypes.c_void_p
SIGNATURES = {
    "ft_conv": ctypes.CFUNCTYPE(None, _I, _I, _I, _P, _P, _I, _P, _I, _P, _I, _I, _P, _I, _I),
    "ft_conv_windows": ctypes.CFUNCTYPE(None, _I, _P, _I, _P, _P, _I, _P, _I, _P, _I, _I),
    "ft_conv_dots": ctypes.CFUNCTYPE(None, _I, _P, _I, _P, _I, _P, _I, _P, _I, _P, _I),
}


def kernel_of(form: str, tile: str) -> Any:
    """A kernel for a tile, in the code of that processor where this machine runs it."""
    function = f"{form}_f32"
    text = conv_module(function, Kind("f32", TILES[tile]))
    older = X86 and tile in {"avx2", "sse2"} & host_features()
    code = native.emit_object(text, native.portable_target(tile)) if older else build_object(text)
    image = link_object(f"test_{form}_{tile}", code, {}, [function])
    return SIGNATURES[form](image[function])


def floats(rng: np.random.Generator, *shape: int) -> Any:
    return rng.standard_normal(shape).astype("f4")


@pytest.mark.parametrize("tile", list(TILES))
@pytest.mark.parametrize("form", list(SIGNATURES))
def test_kernels_of_every_tile(form: str, tile: str) -> None:
    """A 3 x 3 window over images of odd sizes; every count of channels that tiles treat apart."""
    call, rng = kernel_of(form, tile), np.random.default_rng(1)
    for channels, outer, height, width in (
        (1, 8, 5, 28),
        (6, 1, 3, 17),
        (6, 13, 7, 9),
        (2, 3, 1, 40),
    ):
        pitch, plane = width + 2, (height + 2) * (width + 2)
        x = floats(rng, channels * plane + 64)
        steps = np.array(
            [c * plane + i * pitch + j for c in range(channels) for i in range(3) for j in range(3)]
        )
        lines = np.arange(height) * pitch
        places = (lines[:, None] + np.arange(width)).ravel()
        met = x[steps[:, None] + places].astype(float)
        if form == "ft_conv":
            w = floats(rng, outer, steps.size)
            panels = np.zeros((-(-outer // 8) * 8, steps.size), "f4")
            panels[:outer] = w
            packed = panels.reshape(-1, 8, steps.size).transpose(0, 2, 1).copy()
            for apart in (1, 2):
                rows = np.stack([lines, np.arange(height) * width * apart], 1).copy()
                out = np.zeros((outer, height * width * apart), "f4")
                call(
                    *(1, outer, steps.size, packed.ctypes.data, x.ctypes.data, 0),
                    *(
                        steps.ctypes.data,
                        height,
                        rows.ctypes.data,
                        width,
                        pitch if apart == 1 else 0,
                    ),
                    *(out.ctypes.data, out.shape[1], apart),
                )
                assert_allclose(out[:, ::apart], w @ met, rtol=1e-4, atol=1e-4)
                assert apart == 1 or not out[:, 1::2].any()
            continue
        ct = floats(rng, outer, places.size)
        expected = met @ ct.T.astype(float)
        depth = -(-outer // 16) * 16
        shape = (steps.size, outer, LANES) if form == "ft_conv_dots" else (steps.size, depth)
        sums = np.zeros(shape, "f4")
        for again in (0, 1):
            if form == "ft_conv_windows":
                call(
                    *(steps.size, steps.ctypes.data, places.size, places.ctypes.data),
                    *(x.ctypes.data, outer, ct.ctypes.data, places.size, sums.ctypes.data),
                    *(depth, again),
                )
                total = sums[:, :outer]
            else:
                call(
                    *(steps.size, steps.ctypes.data, height, lines.ctypes.data, width),
                    *(x.ctypes.data, outer, ct.ctypes.data, places.size, sums.ctypes.data, again),
                )
                total = sums.sum(2)
            assert_allclose(total, (1 + again) * expected, rtol=1e-4, atol=1e-3)
