"""The arguments of a call of a jitted function, taken apart: what is traced, and what is static."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

from functrans.extend import tree

if TYPE_CHECKING:
    from jit.entry.records import Arguments


class Call(NamedTuple):
    """One call's arguments: dynamic leaves, their tree and paths, and the static rest."""

    leaves: list[Any]
    treedef: Any
    dynamic: tuple[int, ...]
    static_args: dict[int, Any]
    static_kwargs: dict[str, Any]
    arity: int


def trees_of(made: Call) -> dict[int | str, Any]:
    """The structure of each traced argument, by its position or its keyword."""
    places, keywords = made.treedef.children()
    trees: dict[int | str, Any] = dict(zip(made.dynamic, places.children(), strict=True))
    trees.update(zip(keywords.node_data()[1], keywords.children(), strict=True))
    return trees


def paths_of(made: Call) -> list[tuple[int | str, str]]:
    """For each leaf the position or keyword of its argument, and the path inside that."""
    found: list[tuple[int | str, str]] = []
    for path, _ in tree.leaves_with_path(tree.unflatten(made.treedef, made.leaves)):
        section, place = path[0].idx, path[1]
        argument = made.dynamic[place.idx] if section == 0 else place.key
        found.append((argument, tree.keystr(path[2:])))
    return found


def arguments_of(made: Call, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Arguments:
    """The trees and values of a call, argument by argument."""
    from jit.entry.records import Arguments

    trees = trees_of(made)
    first: dict[Any, int] = {}
    leaf = 0
    for place, definition in trees.items():
        first[place], leaf = leaf, leaf + definition.num_leaves
    order = [*range(len(args)), *kwargs]
    return Arguments(
        len(args),
        tuple(kwargs),
        [trees.get(k) for k in order],
        [*args, *kwargs.values()],
        [first.get(k, 0) for k in order],
    )
