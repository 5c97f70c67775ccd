"""Segment operations: reductions over groups of rows that share a number.

`indices_are_sorted` and `unique_indices` promise that the ids increase, and that no two are equal.
The results are right also where a promise is broken.
"""

from __future__ import annotations

import operator
from typing import Any

from functrans.bind import bind
from functrans.errors import DtypeError, ShapeError
from functrans.ir import Primitive, aval_of
from functrans.primitives import elementwise as e
from functrans.primitives import indexing as g
from functrans.primitives.derive import Value, full, full_like
from functrans.primitives.structural import select
from functrans.surface.declare import surface
from functrans.surface.known import known_values
from functrans.surface.promotion import BOOL, INT, as_operand, cast
from functrans.surface.reductions import highest, lowest
from functrans.surface.shaping import array_of
from functrans.typing import ArrayLike


def _segmented(
    name: str,
    scatter: Primitive,
    start: Any,
    data: ArrayLike,
    segment_ids: ArrayLike,
    num_segments: int | None,
) -> Value:
    """The rows of data combined into as many rows as there are segments."""
    data, ids = array_of(data, name), as_operand(segment_ids, name)
    if aval_of(ids).dtype.kind not in "iu":
        raise DtypeError(f"{name}: segment_ids must be integers, but are {aval_of(ids)}")
    rows = aval_of(data).shape[: aval_of(ids).ndim]
    if aval_of(ids).shape != rows or not rows:
        raise ShapeError(
            f"{name}: segment_ids must have the leading shape of data, but are {aval_of(ids)} for "
            f"{aval_of(data)}"
        )
    if num_segments is None:
        remedy = f"Give {name} the number of segments (num_segments=n)"
        num_segments = int(known_values(ids, remedy).max(initial=-1)) + 1
    n = operator.index(num_segments)
    data = cast(data, INT) if aval_of(data).dtype == BOOL else data
    aval = aval_of(data)
    base = full(start(aval.dtype), aval.with_shape((n, *aval.shape[len(rows) :])))
    # A negative id belongs to no segment; scatter would count it from the end.
    ids = cast(ids, INT)
    ids = select(e.lt(ids, full_like(ids, 0)), full_like(ids, n), ids)
    return bind(scatter, base, data, ids, axes=(0,), mode="drop")[0]


@surface(name="segment_sum")
def segment_sum(
    data: ArrayLike,
    segment_ids: ArrayLike,
    num_segments: int | None = None,
    indices_are_sorted: bool = False,
    unique_indices: bool = False,
) -> Value:
    """The sum of the rows of each segment; ids outside [0, num_segments) belong to none.

    Without `num_segments` the greatest id decides, and the ids are asked for their values.

    >>> segment_sum(np.array([1.0, 2.0, 4.0]), np.array([0, 0, 1]))
    array([3., 4.])
    """
    return _segmented(
        "segment_sum", g.scatter_add_p, lambda dtype: 0, data, segment_ids, num_segments
    )


@surface(name="segment_prod")
def segment_prod(
    data: ArrayLike,
    segment_ids: ArrayLike,
    num_segments: int | None = None,
    indices_are_sorted: bool = False,
    unique_indices: bool = False,
) -> Value:
    """The product of the rows of each segment."""
    return _segmented(
        "segment_prod", g.scatter_mul_p, lambda dtype: 1, data, segment_ids, num_segments
    )


@surface(name="segment_max")
def segment_max(
    data: ArrayLike,
    segment_ids: ArrayLike,
    num_segments: int | None = None,
    indices_are_sorted: bool = False,
    unique_indices: bool = False,
) -> Value:
    """The greatest of the rows of each segment; -inf, or the least integer, for empty ones."""
    return _segmented("segment_max", g.scatter_max_p, lowest, data, segment_ids, num_segments)


@surface(name="segment_min")
def segment_min(
    data: ArrayLike,
    segment_ids: ArrayLike,
    num_segments: int | None = None,
    indices_are_sorted: bool = False,
    unique_indices: bool = False,
) -> Value:
    """The least of the rows of each segment; inf, or the greatest integer, for empty ones."""
    return _segmented("segment_min", g.scatter_min_p, highest, data, segment_ids, num_segments)


__all__ = ["segment_max", "segment_min", "segment_prod", "segment_sum"]
