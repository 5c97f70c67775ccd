"""The extents of a convolution, and which positions of its input each of its taps meets."""

from __future__ import annotations

from math import gcd, prod
from typing import NamedTuple

from functrans.extend import Eqn
from jit.loop_ir.nodes import ITEMSIZE, DType
from jit.lowering.rules import loop_dtype


class Window:
    """The extents of a convolution whose batch groups have been made channel groups."""

    def __init__(self, eqn: Eqn) -> None:
        x, w = eqn.inputs
        (out,) = eqn.outputs
        p = eqn.params
        self.batch_groups, self.groups = p["batch_groups"], max(p["groups"], p["batch_groups"])
        self.strides, self.padding = p["strides"], p["padding"]
        self.lhs, self.rhs = p["lhs_dilation"], p["rhs_dilation"]
        self.n, self.o, *places = out.aval.shape
        self.places = tuple(places)
        self.i = w.aval.shape[1]
        self.kernel = w.aval.shape[2:]
        self.spatial = x.aval.shape[2:]
        self.per = self.o // self.groups
        self.dtype: DType = loop_dtype(x.aval.dtype)
        self.bytes = ITEMSIZE[self.dtype]
        self.has_kernel = x.aval.dtype.name in ("float32", "float64") and bool(places)

    @property
    def work(self) -> int:
        return self.n * self.o * prod(self.places) * self.i * prod(self.kernel)


class Phase(NamedTuple):
    """Every `step`-th place of an axis from `first` on, and the taps that meet elements there.

    Tap number first_tap + j * tap_step, of `taps`, meets position q * stride + shift + j * hop of
    the undilated input at the q-th of these places.
    """

    first: int
    length: int
    first_tap: int
    tap_step: int
    taps: int
    shift: int
    hop: int


class Axis(NamedTuple):
    """One axis of a convolution as strided convolutions of an input without dilation."""

    phases: tuple[Phase, ...]
    step: int
    stride: int

    @property
    def low(self) -> int:
        """The least position that is met, for the first places."""
        return min((p.shift for p in self.phases if p.taps), default=0)

    @property
    def reach(self) -> int:
        """How much further the last tap may meet than the first."""
        tops = [p.shift + (p.taps - 1) * p.hop for p in self.phases if p.taps]
        return max(tops, default=0) - self.low

    @property
    def most(self) -> int:
        """The places of the longest phase."""
        return max(p.length for p in self.phases)


def axis_of(c: Window, d: int) -> Axis:
    """Axis d: place o and tap t meet position (o * stride + t * rhs - low) / lhs, if whole.

    So places that are lhs / gcd(stride, lhs) apart use the same taps, as a convolution of the
    undilated input.
    """
    stride, lhs, rhs, low = c.strides[d], c.lhs[d], c.rhs[d], c.padding[d][0]
    common = gcd(stride, lhs)
    step = lhs // common
    tap_step = lhs // gcd(rhs, lhs)
    phases: list[Phase] = []
    for first in range(min(step, c.places[d])):
        length = (c.places[d] - first - 1) // step + 1
        taps = [t for t in range(c.kernel[d]) if (first * stride + t * rhs - low) % lhs == 0]
        begin = taps[0] if taps else 0
        shift = (first * stride + begin * rhs - low) // lhs
        phases.append(
            Phase(first, length, begin, tap_step, len(taps), shift, tap_step * rhs // lhs)
        )
    return Axis(tuple(phases), step, stride // common)
