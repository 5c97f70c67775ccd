"""Workspaces of convolutions: every cell that is read was written, and none beside them is."""

from __future__ import annotations

import ctypes
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
from numpy.testing import assert_allclose

import functrans as ft
from functrans import lax
from functrans.extend import Jaxpr, aval_of, stage_walk
from jit.dispatch import data_address
from jit.loop_ir.pprint import format_program
from jit.lowering import convolution
from jit.native import NativeProgram, finder
from jit.pipeline import compile_jaxpr
from jit.runtime import symbols
from tests.guarded import can_guard, guarded

RNG = np.random.default_rng(7)
BESIDE = 1 << 16
"""So many bytes on both sides of the arena must stay as they are."""
UNTOUCHED = 0xFF
"""Bytes that make a NaN of every float."""


@pytest.fixture(autouse=True)
def kernels(monkeypatch: pytest.MonkeyPatch) -> None:
    """Small convolutions take the kernels too."""
    monkeypatch.setattr(convolution, "LARGE_CONV", 1)


def watched(jaxpr: Jaxpr, args: Sequence[Any]) -> list[Any]:
    """The results of native code whose arena is full of NaN; nothing beside the arena changes."""
    made = compile_jaxpr(jaxpr)
    native = NativeProgram(
        made.native.code,
        finder(symbols.addresses(made.native.externals)),
        made.native.externals,
        made.native.errors,
    )
    size = made.program.arena_bytes
    room = np.full(size + 2 * BESIDE + 64, UNTOUCHED, np.uint8)
    start = BESIDE + -data_address(room) % 64
    outs = [np.empty(a.shape, a.dtype) for a in jaxpr.out_avals]
    assert native(addresses(args), addresses(outs), data_address(room) + start) == 0
    assert (room[:start] == UNTOUCHED).all(), "wrote in front of the arena"
    assert (room[start + size :] == UNTOUCHED).all(), "wrote behind the arena"
    return outs


def addresses(arrays: Sequence[Any]) -> int:
    """The address of the arrays' addresses, which are kept until the next call but one."""
    held = (ctypes.c_void_p * len(arrays))(*[data_address(x) for x in arrays])
    _held[:] = [*_held[-1:], held]
    return ctypes.addressof(held)


_held: list[Any] = []


def by_products(x: Any, w: Any, strides: Sequence[int], padding: Sequence[tuple[int, int]]) -> Any:
    """The convolution as sums over the window, one tap at a time."""
    padded = np.pad(x, [(0, 0), (0, 0), *padding])
    kernel = w.shape[2:]
    places = [(n - k) // s + 1 for n, k, s in zip(padded.shape[2:], kernel, strides, strict=True)]
    total = np.zeros((x.shape[0], w.shape[0], *places))
    for tap in np.ndindex(*kernel):
        cut = tuple(
            slice(t, t + (n - 1) * s + 1, s) for t, n, s in zip(tap, places, strides, strict=True)
        )
        met = padded[(slice(None), slice(None), *cut)]
        total += np.einsum("ni...,oi->no...", met, w[(slice(None), slice(None), *tap)])
    return total


@pytest.mark.parametrize("padding", [(0, 0), (3, 0), (0, 3), (4, 3), (100, 0), (0, 100), (90, 80)])
@pytest.mark.parametrize("stride", [1, 2, 3])
@pytest.mark.parametrize("width", [19, 200])
def test_padded_rows(width: int, stride: int, padding: tuple[int, int]) -> None:
    """Zeros and elements of a row lie in as many runs as the stride has phases; the last row ends
    the copy."""
    x, w = RNG.standard_normal((2, 2, 4, width)), RNG.standard_normal((3, 2, 2, 3))
    rows = ((1, 0), padding)

    def f(x: Any, w: Any) -> list[Any]:
        return [lax.conv_general_dilated(x, w, (1, stride), rows)]

    jaxpr = stage_walk(f, [aval_of(x), aval_of(w)], "test")
    (found,) = watched(jaxpr, [x, w])
    assert_allclose(found, by_products(x, w, (1, stride), rows), rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("padding", [(0, 0), (2, 1), (70, 0), (0, 70)])
def test_padded_images_of_gradients(padding: tuple[int, int]) -> None:
    """The cotangents of weights, whose images are copied with their padding."""
    x, w = RNG.standard_normal((3, 4, 5, 90)), RNG.standard_normal((2, 4, 3, 3))
    rows = ((1, 0), padding)
    ct = RNG.standard_normal(by_products(x, w, (1, 1), rows).shape)

    def f(x: Any, w: Any, ct: Any) -> list[Any]:
        return ft.vjp(lambda w: lax.conv_general_dilated(x, w, (1, 1), rows), w)[1](ct)

    jaxpr = stage_walk(f, [aval_of(a) for a in (x, w, ct)], "test")
    (found,) = watched(jaxpr, [x, w, ct])
    for at in np.ndindex(*w.shape):
        unit = np.zeros(w.shape)
        unit[at] = 1.0
        assert_allclose(found[at], np.sum(ct * by_products(x, unit, (1, 1), rows)), rtol=1e-10)


@pytest.mark.skipif(not can_guard(), reason="this system cannot forbid pages")
@pytest.mark.parametrize("at_end", [True, False])
def test_the_last_block_of_channels_is_shorter(at_end: bool) -> None:
    """Channels are copied by blocks, and nothing behind the last is read."""
    x, ct = RNG.standard_normal((8, 5, 6, 7)), RNG.standard_normal((8, 20, 6, 7))
    w = np.zeros((20, 5, 1, 1))

    def f(x: Any, w: Any, ct: Any) -> list[Any]:
        return ft.vjp(lambda w: lax.conv_general_dilated(x, w, (1, 1), "VALID"), w)[1](ct)

    jaxpr = stage_walk(f, [aval_of(a) for a in (x, w, ct)], "test")
    (found,) = compile_jaxpr(jaxpr)([guarded(x, at_end), w, guarded(ct, at_end)])
    assert_allclose(found[..., 0, 0], np.einsum("nohw,nihw->oi", ct, x), rtol=1e-12)


@pytest.mark.skipif(not can_guard(), reason="this system cannot forbid pages")
@pytest.mark.parametrize("at_end", [True, False])
def test_rows_of_the_padding_read_nothing(at_end: bool) -> None:
    """Not even the only element of a row, whose place no inner loop decides."""
    x, w = RNG.standard_normal((1, 1, 4, 1)), RNG.standard_normal((2, 1, 3, 2))
    rows = ((2, 2), (5, 5))

    def f(x: Any, w: Any) -> list[Any]:
        return [lax.conv_general_dilated(x, w, (1, 1), rows)]

    made = compile_jaxpr(stage_walk(f, [aval_of(x), aval_of(w)], "test"))
    assert "ft_conv_f64" in made.native.externals
    _, _, copied = format_program(made.program).partition("kernel conv0\n")
    assert 0 < copied.index("if ") < copied.index("load in0")
    (found,) = made([guarded(x, at_end), w])
    assert_allclose(found, by_products(x, w, (1, 1), rows), rtol=1e-12, atol=1e-12)
