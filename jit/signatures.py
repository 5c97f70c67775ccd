"""Signatures: what of a call decides its program, and how two of them differ, in words."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np

from functrans.extend import (
    Aval,
    MappedAxis,
    Source,
    Tracer,
    argument_name,
    describe,
)

Leaves = dict[str, Any]


class Signature(NamedTuple):
    """What of a call decided its program, in the user's names, and where that call was.

    `trees` has the structure of each traced argument, `leaves` what `aval_key` says of the leaves
    inside it, `statics` the values of the static ones. `axes` are the named axes of enclosing
    traces, None for a call outside of any.
    """

    trees: dict[str, Any]
    leaves: dict[str, Leaves]
    statics: dict[str, Any]
    axes: tuple[MappedAxis, ...] | None
    place: Source | None

    def __str__(self) -> str:
        """The arguments in few words: `x: f64[3], n=2`."""
        leaves = [
            f"{name}: {words(key)}" for found in self.leaves.values() for name, key in found.items()
        ]
        statics = [f"{name}={shown(value)}" for name, value in self.statics.items()]
        return ", ".join(shortened([*leaves, *statics], MOST_LEAVES))


MOST_LEAVES, MOST_DIFFERENCES = 8, 4
"""How many leaves and differences are named before the rest is only counted."""


def aval_key(value: Any) -> Any:
    """What of a leaf decides the program: shape and dtype, or the type of a Python number."""
    kind = type(value)
    if kind is np.ndarray:
        return value.shape, value.dtype
    if kind is Tracer:
        return value.aval, value.scalar
    return kind


NUMBERS = frozenset({bool, int, float, complex})


def plain_key(args: tuple[Any, ...]) -> tuple[Any, ...] | None:
    """The key of a call whose arguments are arrays and numbers only, without flattening."""
    key: list[Any] = []
    for value in args:
        kind = type(value)
        if kind is np.ndarray:
            key.append(value.shape)
            key.append(value.dtype)
        elif kind in NUMBERS:
            key.append(kind)
        else:
            return None
    return tuple(key)


# -- names ------------------------------------------------------------------------------------


def parameter_name(f: Callable[..., Any], position: int) -> str:
    """`params`, or `argument 0` where the function does not name it."""
    name = argument_name(f, position)
    named = re.search(r"\((\w+)\)$", name)
    return named[1] if named else name


def words(key: Any) -> str:
    """What `aval_key` says of a leaf, in words."""
    match key:
        case (Aval() as aval, bool()):
            return f"a traced {aval}"
        case (tuple() as shape, np.dtype() as dtype):
            return str(Aval(shape, dtype))
        case type() if key in NUMBERS:
            return f"a Python {key.__name__}"
        case type():
            return f"a NumPy {key.__name__}"
        case _:
            return describe(key)


def shown(value: Any) -> str:
    """A static value: numbers and strings as they are, the rest described."""
    text = repr(value) if isinstance(value, (*NUMBERS, str)) else describe(value)
    return text if len(text) <= 40 else f"{text[:37]}..."


def shortened(items: Sequence[str], most: int) -> list[str]:
    rest = len(items) - most
    return [*items[:most], f"and {rest} more"] if rest > 0 else list(items)


# -- differences ------------------------------------------------------------------------------


def nearest(new: Signature, earlier: Sequence[Signature]) -> tuple[int, list[str]] | None:
    """Which earlier signature differs least, the latest of such, and how; None of none."""
    found = [(k, differences(new, old)) for k, old in enumerate(earlier)]
    return min(found, key=lambda pair: (len(pair[1]), -pair[0]), default=None)


def differences(new: Signature, old: Signature) -> list[str]:
    """How a call differs from an earlier one, a clause for each difference."""
    found = given_otherwise([*new.trees, *new.statics], [*old.trees, *old.statics])
    for name, definition in new.trees.items():
        if name in old.trees:
            before = old.trees[name]
            if definition.exact_key != before.exact_key:
                found.append(f"{name} {other_tree(definition, before)}")
            else:
                found += other_leaves(new.leaves[name], old.leaves[name])
    found += [
        f"{name} is {other_static(value, old.statics[name])}"
        for name, value in new.statics.items()
        if name in old.statics and not same_static(value, old.statics[name])
    ]
    if new.axes != old.axes:
        found.append(other_axes(new.axes, old.axes))
    return found or ["its arguments are passed in another way"]


def given_otherwise(new: Sequence[str], old: Sequence[str]) -> list[str]:
    """The arguments that only one of the calls has."""
    return [
        *[f"{name} is given" for name in new if name not in old],
        *[f"{name} is not given" for name in old if name not in new],
    ]


def other_tree(new: Any, old: Any) -> str:
    if new == old:
        return "has the keys of a dict in another order"
    return f"is {new.format()}, not {old.format()}"


def other_leaves(new: Leaves, old: Leaves) -> list[str]:
    """The leaves of one argument that differ."""
    found: list[str] = []
    for name, key in new.items():
        before = old[name]
        if key == before:
            continue
        match key, before:
            case ((tuple() as shape, kept), (tuple() as other, dtype)) if kept == dtype:
                found.append(f"{name} has shape {shape}, not {other}")
            case ((tuple() as shape, dtype), (tuple() as other, before_dtype)) if shape == other:
                found.append(f"{name} has dtype {dtype}, not {before_dtype}")
            case _:
                found.append(f"{name} is {words(key)}, not {words(before)}{weakness(key, before)}")
    return found


def weakness(new: Any, old: Any) -> str:
    """Python numbers take the dtype of what they meet, NumPy's do not: a usual surprise."""
    weak = [key in NUMBERS for key in (new, old)]
    numbers = [isinstance(key, type) or key[0] == () for key in (new, old)]
    if weak[0] == weak[1] or not all(numbers):
        return ""
    which = "the first" if weak[0] else "the second"
    return f" ({which} is weak: it takes the dtype of what it meets)"


def same_static(new: Any, old: Any) -> bool:
    return type(new) is type(old) and bool(new == old)


def other_static(new: Any, old: Any) -> str:
    given, before = shown(new), shown(old)
    if given == before:
        return (
            f"another {type(new).__name__}"
            if type(new) is type(old)
            else f"{given} of another type"
        )
    return f"{given}, not {before}"


def other_axes(new: tuple[MappedAxis, ...] | None, old: tuple[MappedAxis, ...] | None) -> str:
    """How the traces round a call differ."""
    if new is None:
        return "it is called outside of other transforms"
    if old is None:
        return "it is called inside another transform"
    inside = ", ".join(f"{axis.name!r} of size {axis.size}" for axis in new) or "none"
    return f"the named axes in force are other ones ({inside})"
