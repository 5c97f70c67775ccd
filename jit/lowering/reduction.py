"""Reductions fold fused elements; positions of extrema are two of them."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from functrans.extend import Atom, Eqn, Literal, Primitive, primitives
from jit.lowering.rules import EquationBuilder, Fold, expands, folds
from jit.lowering.structural import fold_axes

ft = primitives.reduction
st = primitives.structural
el = primitives.elementwise
INT64 = np.dtype(np.int64)

for _p, _monoid in (
    (ft.reduce_prod_p, "mul"),
    (ft.reduce_max_p, "max"),
    (ft.reduce_min_p, "min"),
    (ft.reduce_and_p, "and"),
    (ft.reduce_or_p, "or"),
):

    def _fold(eqn: Eqn, monoid: str = _monoid) -> Fold:
        return fold_axes(eqn, monoid)

    folds(_p)(_fold)


def expand_position(extremum: Primitive) -> Callable[[EquationBuilder, Eqn], list[Atom]]:
    """The least index among those that hold the extremum, or a NaN."""

    def expand(eqs: EquationBuilder, eqn: Eqn) -> list[Atom]:
        (x,), axis = eqn.inputs, eqn.params["axis"]
        shape = x.aval.shape
        (best,) = eqs.bind(extremum, x, axes=(axis,))
        (spread,) = eqs.bind(st.broadcast_p, best, shape=shape, axes=(axis,))
        (hit,) = eqs.bind(el.eq_p, x, spread)
        if x.aval.dtype.kind not in "biu":
            (is_nan,) = eqs.bind(el.is_nan_p, x)
            (hit,) = eqs.bind(el.or_p, hit, is_nan)
        (places,) = eqs.bind(st.iota_p, shape=shape, dtype=INT64, axis=axis)
        last = Literal(np.int64(shape[axis]))
        (none,) = eqs.bind(st.broadcast_p, last, shape=shape, axes=tuple(range(len(shape))))
        (found,) = eqs.bind(st.select_p, hit, places, none)
        return eqs.bind(ft.reduce_min_p, found, axes=(axis,))

    return expand


expands(ft.argmax_p)(expand_position(ft.reduce_max_p))
expands(ft.argmin_p)(expand_position(ft.reduce_min_p))
