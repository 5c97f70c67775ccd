"""Concatenators: `r_` and `c_`, which join what they are indexed with, as rows or as columns."""

from __future__ import annotations

from typing import Any

import numpy as np

from functrans.bind import is_evaluating
from functrans.errors import UnsupportedError, user_frame, where
from functrans.ir import aval_of
from functrans.primitives.derive import Value
from functrans.surface.creation import arange, linspace
from functrans.surface.joining import concatenate
from functrans.surface.shaping import array_of, insert_axes


class Concatenator:
    """`concatenator[a, b, 2:5]`: arrays, numbers and ranges, joined along `axis`.

    What has fewer than `ndim` axes gets new ones behind. A slice is an arange, or a linspace
    where its step is imaginary, as NumPy's are. NumPy's strings of options are not offered.
    """

    def __init__(self, counterpart: Any, axis: int, ndim: int) -> None:
        self._counterpart = counterpart
        self._axis = axis
        self._ndim = ndim

    def __getitem__(self, items: Any) -> Value:
        """The items joined, in the dtype that NumPy promotes them to."""
        if is_evaluating():
            return self._counterpart[items]
        parts: tuple[Any, ...] = items if isinstance(items, tuple) else (items,)
        if any(isinstance(x, str) for x in parts):
            raise UnsupportedError(
                f"r_ and c_ take no strings on values that are being traced "
                f"(in {where(user_frame())}). Use functrans.numpy.concatenate or stack."
            )
        arrays = [self._array(x) for x in parts]
        kinds = [
            x if type(x) in (bool, int, float, complex) else aval_of(a).dtype
            for x, a in zip(parts, arrays, strict=True)
        ]
        return concatenate(arrays, self._axis, dtype=np.result_type(*kinds))

    def _array(self, item: Any) -> Value:
        x = (
            _range(item.start, item.stop, item.step)
            if type(item) is slice
            else array_of(item, "r_")
        )
        have = aval_of(x).ndim
        return insert_axes(x, tuple(range(have, max(have, self._ndim))))


def _range(start: Any, stop: Any, step: Any) -> Value:
    start, step = 0 if start is None else start, 1 if step is None else step
    if isinstance(step, complex):
        return linspace(start, stop, int(abs(step)))
    return arange(start, stop, step)


r_ = Concatenator(np.r_, axis=0, ndim=1)
c_ = Concatenator(np.c_, axis=-1, ndim=2)
