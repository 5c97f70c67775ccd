"""Expanding: Taylor programs of bodies, each group of values followed by its coefficients."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from functrans.control.bodies import arranged, cut
from functrans.ir import Jaxpr
from functrans.primitives.derive import move_axis
from functrans.transforms.cache import derived
from functrans.transforms.series import Curve
from functrans.transforms.taylor import Coefficients, Orders, packed, taylor_jaxpr, unpacked

NONE: frozenset[int] = frozenset()
"""The orders of what does not move."""


@derived
def expanded(
    jaxpr: Jaxpr, curve: Curve, given: tuple[Orders, ...], wanted: tuple[Orders, ...]
) -> Jaxpr:
    """The Taylor jaxpr, with each group of inputs and of results packed by itself.

    `wanted` must hold every coefficient that a result has.
    """
    program, found = taylor_jaxpr(jaxpr, curve, joined(given), joined(wanted))
    assert found == joined(wanted), "a result has coefficients that nobody takes"
    return arranged(program, _by_groups(given, curve), _by_groups(wanted, curve))


def _by_groups(groups: tuple[Orders, ...], curve: Curve) -> tuple[int, ...]:
    """Where, among groups packed one by one, what is packed all together is."""
    orders = joined(groups)
    count = len(orders) + sum(map(len, orders))
    places = cut(unpacked(range(count), orders, curve), *map(len, groups))
    return tuple(i for group in places for i in packed(group))


def joined(groups: Iterable[Orders]) -> Orders:
    """The orders of all groups in a row."""
    return tuple(own for group in groups for own in group)


def beside(items: Sequence[Any], orders: Sequence[frozenset[int]]) -> list[Any]:
    """One item for each of packed coefficients, from one for each value."""
    return [*items, *[x for x, own in zip(items, orders, strict=True) for _ in own]]


def turned(coefficients: Coefficients, curve: Curve, source: int, destination: int) -> Coefficients:
    """The axis of the curve's directions, where a coefficient has it, moved."""
    if curve.directions is None:
        return coefficients
    return [
        c if c is None or k in (0, curve.order) else move_axis(c, source, destination)
        for k, c in enumerate(coefficients)
    ]
