"""Extremes of complex values in NumPy's order: by real part, then by imaginary part; NaN wins.

An extreme is the element at its first position, which has all of its derivative.
"""

from __future__ import annotations

import math

import numpy as np

from functrans.bind import bind
from functrans.ir import aval_of
from functrans.primitives import elementwise as e
from functrans.primitives import reduction as r
from functrans.primitives import structural as p
from functrans.primitives.derive import Value, full_like


def first_extreme(z: Value, axis: int, greatest: bool) -> Value:
    """Where the greatest (or least) value stands first along one axis, which disappears."""
    missing = e.is_nan(z)
    best = _among(p.real(z), e.not_(missing), axis, greatest)
    best = _among(p.imag(z), best, axis, greatest)
    shape = aval_of(z).shape
    spoiled = p.broadcast(bind(r.reduce_or_p, missing, axes=(axis,))[0], shape, (axis,))
    marks = p.select(spoiled, missing, best)
    return r.argmax(p.convert(marks, np.dtype(np.uint8)), axis)


def _among(x: Value, candidates: Value, axis: int, greatest: bool) -> Value:
    """Which candidates along an axis have the extreme value of x."""
    fold, beyond = (r.reduce_max_p, -math.inf) if greatest else (r.reduce_min_p, math.inf)
    chosen = p.select(candidates, x, full_like(x, beyond))
    extreme = p.broadcast(bind(fold, chosen, axes=(axis,))[0], aval_of(x).shape, (axis,))
    return bind(e.and_p, candidates, e.eq(chosen, extreme))[0]


def extreme(z: Value, axes: tuple[int, ...], greatest: bool) -> Value:
    """The greatest (or least) value over axes, which disappear."""
    shape = aval_of(z).shape
    kept = [i for i in range(len(shape)) if i not in axes]
    rows = p.transpose(z, (*kept, *axes))
    lead = tuple(shape[i] for i in kept)
    rows = p.reshape(rows, (*lead, math.prod(shape[i] for i in axes)))
    index = first_extreme(rows, len(lead), greatest)
    found = r.take_along(rows, p.reshape(index, (*lead, 1)), len(lead))
    return p.reshape(found, lead)
