"""Arguments: which of a call's arguments a transform is about, by position or by name."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple, TypeAlias

import numpy as np

from functrans import tree
from functrans.errors import TransformTypeError, argument_name, describe, name_of, where

Argnums: TypeAlias = int | str | Sequence[int | str]


class Split(NamedTuple):
    """A call's arguments, split into the chosen ones (as flat leaves) and the others.

    `rebuild(leaves)` is the whole call's `args, kwargs` with new leaves in the chosen places;
    `pick(values)` arranges one value per leaf as the chosen arguments are.
    """

    leaves: list[Any]
    names: list[str]
    rebuild: Callable[[Sequence[Any]], tuple[tuple[Any, ...], dict[str, Any]]]
    pick: Callable[[Sequence[Any]], Any]

    def call(self, f: Callable[..., Any], leaves: Sequence[Any]) -> Any:
        """f on the whole call's arguments, with these leaves in the chosen places."""
        args, kwargs = self.rebuild(leaves)
        return f(*args, **kwargs)


def split_arguments(
    f: Callable[..., Any],
    argnums: Argnums,
    args: tuple[Any, ...],
    kwargs: dict[str, Any],
    what: str,
) -> Split:
    """Take the arguments that `argnums` names out of a call of `f`."""
    require_callable(f, what)
    single = isinstance(argnums, (int, str)) or not isinstance(argnums, Sequence)
    chosen = resolve(f, (argnums,) if single else tuple(argnums), args, kwargs, what)  # type: ignore[arg-type]
    values = tuple(args[c] if isinstance(c, int) else kwargs[c] for c in chosen)
    paths, treedef = tree.flatten_with_path(values)
    names = [_leaf_name(f, chosen, path) for path, _ in paths]

    def rebuild(leaves: Sequence[Any]) -> tuple[tuple[Any, ...], dict[str, Any]]:
        new_args, new_kwargs = list(args), dict(kwargs)
        for place, value in zip(chosen, tree.unflatten(treedef, leaves), strict=True):
            if isinstance(place, int):
                new_args[place] = value
            else:
                new_kwargs[place] = value
        return tuple(new_args), new_kwargs

    def pick(results: Sequence[Any]) -> Any:
        parts = tree.unflatten(treedef, results)
        return parts[0] if single else parts

    return Split([leaf for _, leaf in paths], names, rebuild, pick)


def require_callable(f: Any, what: str) -> None:
    """Raise unless f can be called."""
    if not callable(f):
        raise TransformTypeError(
            f"{what} takes a function, but got {describe(f)}. Give it the function itself, not "
            "what the function returns."
        )


def positions(given: Any, what: str) -> tuple[int, ...]:
    """An option that is one position or several, as a tuple."""
    several = given if isinstance(given, Sequence) and not isinstance(given, str) else (given,)
    for n in several:
        if isinstance(n, bool) or not isinstance(n, (int, np.integer)):
            raise TransformTypeError(
                f"{what} must be an int or a tuple of ints, but got {describe(given)}. Positions "
                "count from 0."
            )
    return tuple(map(int, several))


def plain_places(argnums: Argnums) -> int | tuple[int, ...] | None:
    """Argnums that are positions from the front, each once; None for others."""
    several = argnums if isinstance(argnums, tuple) else (argnums,)
    places = tuple([n for n in several if type(n) is int and n >= 0])
    if not places or len(set(places)) < len(several):
        return None
    return places if isinstance(argnums, tuple) else places[0]


def places_of(chosen: Sequence[int], count: int, f: Callable[..., Any], what: str) -> set[int]:
    """Positions among `count` arguments, negative ones from the end; `what` is the option."""
    for n in chosen:
        if not -count <= n < count:
            raise TransformTypeError(
                f"{what} has {n}, but {name_of(f)} was called with {count} arguments ({where(f)}). "
                "Positions count from 0."
            )
    return {n % count for n in chosen}


def without_fixed(
    f: Callable[..., Any], fixed: set[int], args: tuple[Any, ...], kwargs: dict[str, Any]
) -> tuple[Any, Callable[[Any], Any]]:
    """The arguments of a call but those at `fixed`, as a pytree, and f as a function of it."""

    def call(others: Any) -> Any:
        filled, keywords = others
        return f(*[filled.get(i, a) for i, a in enumerate(args)], **keywords)

    return ({i: a for i, a in enumerate(args) if i not in fixed}, kwargs), call


def _leaf_name(f: Callable[..., Any], chosen: list[int | str], path: tree.KeyPath) -> str:
    place = chosen[path[0].idx]  # type: ignore[union-attr]  # the outer container is a tuple
    base = argument_name(f, place) if isinstance(place, int) else f"argument {place!r}"
    return f"{base}{tree.keystr(path[1:])} of {name_of(f)}"


def resolve(
    f: Callable[..., Any],
    argnums: tuple[int | str, ...],
    args: tuple[Any, ...],
    kwargs: dict[str, Any],
    what: str,
) -> list[int | str]:
    """Each of `argnums` as a position among `args` or a key of `kwargs`."""
    found = [_resolve_one(f, a, args, kwargs, what) for a in argnums]
    if not found:
        raise TransformTypeError(
            f"{what}: argnums is empty, so that there is nothing to differentiate by ({where(f)}). "
            "Give the position or the name of at least one argument."
        )
    if len(set(found)) < len(found):
        twice = next(a for a in found if found.count(a) > 1)
        called = argument_name(f, twice) if isinstance(twice, int) else f"argument {twice!r}"
        raise TransformTypeError(
            f"{what}: argnums={argnums} names {called} twice ({where(f)}). Name each argument once."
        )
    return found


def _resolve_one(
    f: Callable[..., Any], argnum: Any, args: tuple[Any, ...], kwargs: dict[str, Any], what: str
) -> int | str:
    if isinstance(argnum, str):
        return _resolve_name(f, argnum, args, kwargs, what)
    if isinstance(argnum, bool) or not isinstance(argnum, (int, np.integer)):
        raise TransformTypeError(
            f"{what}: argnums must be ints or argument names, but got {describe(argnum)} "
            f"({where(f)})."
        )
    position = int(argnum)
    if not -len(args) <= position < len(args):
        raise TransformTypeError(
            f"{what}: argnums={position} asks for an argument that {name_of(f)} was not given: "
            f"it was called with {len(args)} positional argument{'s' if len(args) != 1 else ''} "
            f"({where(f)}). Positions count from 0; keyword arguments are chosen by name."
        )
    return position % len(args)


def _resolve_name(
    f: Callable[..., Any], name: str, args: tuple[Any, ...], kwargs: dict[str, Any], what: str
) -> int | str:
    if name in kwargs:
        return name
    try:
        positions = list(inspect.signature(f).parameters)
    except (TypeError, ValueError):
        positions = []
    if name in positions and positions.index(name) < len(args):
        return positions.index(name)
    raise TransformTypeError(
        f"{what}: argnums={name!r} is not an argument that {name_of(f)} was called with "
        f"({where(f)}). Its arguments were {', '.join([*positions[: len(args)], *kwargs])}."
    )
