"""Pytrees: containers of arrays taken apart into leaves and put together again.

Nodes are tuple, list, dict, OrderedDict, defaultdict, namedtuples, None (a node without leaves),
dataclasses (frozen or not: every field is a child, but those with `metadata={"static": True}`),
and the classes registered here. Everything else is a leaf. The children of a dict are taken in
the order of its sorted keys (insertion order where the keys cannot be sorted) and the dict is
rebuilt in its own insertion order.
"""

from __future__ import annotations

import builtins
import functools
from collections.abc import Callable, Iterable, Sequence
from typing import Any

from functrans.errors import TreeError
from functrans.keypath import (
    DictKey,
    FlattenedIndexKey,
    GetAttrKey,
    KeyPath,
    SequenceKey,
    keystr,
)
from functrans.registration import (
    Partial,
    register_dataclass,
    register_pytree_node,
    register_pytree_node_class,
    register_pytree_with_keys,
    register_pytree_with_keys_class,
    register_static,
)
from functrans.treedef import (
    LEAF,
    IsLeaf,
    Leaf,
    PyTreeDef,
    difference,
    kind_of,
    make_treedef,
    register_leaf_class,
    walk,
    walk_with,
)

__all__ = [
    "DictKey",
    "FlattenedIndexKey",
    "GetAttrKey",
    "KeyPath",
    "Partial",
    "PyTreeDef",
    "SequenceKey",
    "all",
    "all_leaves",
    "broadcast",
    "check_structure",
    "flatten",
    "flatten_with_path",
    "keystr",
    "leaves",
    "leaves_with_path",
    "map",
    "map_with_path",
    "multimap",
    "reduce",
    "reduce_associative",
    "register_dataclass",
    "register_leaf_class",
    "register_pytree_node",
    "register_pytree_node_class",
    "register_pytree_with_keys",
    "register_pytree_with_keys_class",
    "register_static",
    "structure",
    "transpose",
    "treedef_is_leaf",
    "treedef_tuple",
    "unflatten",
]

_MISSING: Any = object()


def flatten(tree: Any, is_leaf: IsLeaf | None = None) -> tuple[list[Leaf], PyTreeDef]:
    """The leaves of a tree, left to right, and its structure.

    Nodes for which `is_leaf(node)` is true are leaves.

    >>> flatten({"b": (1, 2), "a": 3})
    ([3, 1, 2], PyTreeDef({'a': *, 'b': (*, *)}))
    """
    if is_leaf is not None:
        found, treedef = flatten_with_path(tree, is_leaf)
        return [leaf for _, leaf in found], treedef
    out: list[Leaf] = []
    try:
        return out, walk(tree, out)
    except RecursionError as error:
        raise _too_deep() from error


def _too_deep() -> TreeError:
    return TreeError("flatten: the tree is nested too deeply, or contains itself.")


def flatten_with_path(
    tree: Any, is_leaf: IsLeaf | None = None
) -> tuple[list[tuple[KeyPath, Leaf]], PyTreeDef]:
    """The leaves of a tree with their key paths, and its structure."""
    out: list[tuple[KeyPath, Leaf]] = []
    try:
        return out, walk_with(tree, (), out, is_leaf)
    except RecursionError as error:
        raise _too_deep() from error


def unflatten(treedef: PyTreeDef, leaves: Iterable[Leaf]) -> Any:
    """The tree with a given structure and leaves; TreeError where their number does not fit."""
    return treedef.unflatten(leaves)


def leaves(tree: Any, is_leaf: IsLeaf | None = None) -> list[Leaf]:
    """The leaves of a tree, left to right."""
    return flatten(tree, is_leaf)[0]


def leaves_with_path(tree: Any, is_leaf: IsLeaf | None = None) -> list[tuple[KeyPath, Leaf]]:
    """The leaves of a tree with their key paths.

    >>> [(keystr(path), leaf) for path, leaf in leaves_with_path({"a": [1, 2]})]
    [("['a'][0]", 1), ("['a'][1]", 2)]
    """
    return flatten_with_path(tree, is_leaf)[0]


def structure(tree: Any, is_leaf: IsLeaf | None = None) -> PyTreeDef:
    """The structure of a tree."""
    return flatten(tree, is_leaf)[1]


def map(f: Callable[..., Any], tree: Any, *rest: Any, is_leaf: IsLeaf | None = None) -> Any:
    """The tree of `f(leaf, *leaves of the rest at the same place)`.

    Every tree of `rest` has at least the containers of the first; what stands there in the place
    of a leaf is passed whole. TreeError names the key path where it has not.

    >>> map(lambda x, y: x + y, {"a": 1, "b": (2, 3)}, {"a": 10, "b": (20, 30)})
    {'a': 11, 'b': (22, 33)}
    """
    found, treedef = flatten(tree, is_leaf)
    if not rest:
        return treedef.unflatten([f(leaf) for leaf in found])
    columns = [found, *_aligned("tree.map", treedef, rest)]
    return treedef.unflatten([f(*row) for row in zip(*columns, strict=True)])


multimap = map


def map_with_path(
    f: Callable[..., Any], tree: Any, *rest: Any, is_leaf: IsLeaf | None = None
) -> Any:
    """`map` whose function gets the key path of the leaf first."""
    found, treedef = flatten_with_path(tree, is_leaf)
    columns = _aligned("tree.map_with_path", treedef, rest)
    rows = zip(*columns, strict=True) if columns else [()] * len(found)
    return treedef.unflatten([f(*at, *row) for at, row in zip(found, rows, strict=True)])


def _aligned(what: str, treedef: PyTreeDef, rest: Sequence[Any]) -> list[list[Any]]:
    columns: list[list[Any]] = []
    for number, tree in enumerate(rest, start=2):
        try:
            columns.append(treedef.flatten_up_to(tree))
        except TreeError as error:
            how = difference(treedef, tree)
            raise TreeError(f"{what}: tree {number} differs from the first {how}.") from error
    return columns


def reduce(
    f: Callable[[Any, Any], Any],
    tree: Any,
    initializer: Any = _MISSING,
    is_leaf: IsLeaf | None = None,
) -> Any:
    """Fold the leaves from the left: `f(f(f(initializer, a), b), c)`.

    Without an initializer the first leaf is the start; a tree without leaves is then a TreeError.
    """
    found = leaves(tree, is_leaf)
    if initializer is not _MISSING:
        return functools.reduce(f, found, initializer)
    if not found:
        raise TreeError("tree.reduce: the tree has no leaves; give an initializer.")
    return functools.reduce(f, found)


def reduce_associative(
    f: Callable[[Any, Any], Any],
    tree: Any,
    *,
    identity: Any = _MISSING,
    is_leaf: IsLeaf | None = None,
) -> Any:
    """Combine the leaves in a balanced tree of applications of an associative function."""
    found = leaves(tree, is_leaf)
    if not found and identity is _MISSING:
        raise TreeError("tree.reduce_associative: the tree has no leaves; give an identity.")
    while len(found) > 1:
        pairs = [f(a, b) for a, b in zip(found[::2], found[1::2], strict=False)]
        found = pairs + found[len(pairs) * 2 :]
    return found[0] if found else identity


def all(tree: Any, *, is_leaf: IsLeaf | None = None) -> bool:
    """Are all the leaves true?"""
    return builtins.all(leaves(tree, is_leaf))


def all_leaves(values: Iterable[Any], is_leaf: IsLeaf | None = None) -> bool:
    """Is each of the given values a leaf, rather than a node?"""
    return builtins.all(treedef_is_leaf(structure(value, is_leaf)) for value in values)


def transpose(outer: PyTreeDef, inner: PyTreeDef | None, tree: Any) -> Any:
    """Turn inside out a tree of the structure `outer` whose leaves have the structure `inner`.

    `inner` may be None: it is then the structure of the first of them.

    >>> pairs = {"a": (1, 2), "b": (3, 4)}
    >>> transpose(structure({"a": 0, "b": 0}), structure((0, 0)), pairs)
    ({'a': 1, 'b': 3}, {'a': 2, 'b': 4})
    """
    parts = outer.flatten_up_to(tree)
    if inner is None:
        if not parts:
            raise TreeError(
                "tree.transpose: the outer structure has no leaves; give the inner one."
            )
        inner = structure(parts[0])
    rows = [inner.flatten_up_to(part) for part in parts]
    columns = zip(*rows, strict=True) if rows else [()] * inner.num_leaves
    return inner.unflatten([outer.unflatten(column) for column in columns])


def broadcast(prefix: Any, tree: Any, is_leaf: IsLeaf | None = None) -> list[Any]:
    """The leaves of `prefix`, each repeated for the leaves of `tree` that stand below it.

    `prefix` has the containers of `tree` down to some depth: `in_axes=(0, None)` says one axis for
    all of the first argument. TreeError names the key path where it has others.

    >>> broadcast((0, 1), ({"w": 5, "b": 6}, 7))
    [0, 0, 1]
    """
    found, treedef = flatten(prefix, is_leaf)
    out: list[Any] = []
    for value, part in zip(found, treedef.flatten_up_to(tree), strict=True):
        out.extend([value] * len(leaves(part)))
    return out


def check_structure(expected: PyTreeDef, tree: Any, what: str) -> None:
    """TreeError `what`, then where and how, unless the structure of `tree` is the expected one."""
    how = difference(expected, tree, exact=True)
    if how is not None:
        raise TreeError(f"{what} {how}.")


def treedef_is_leaf(treedef: PyTreeDef) -> bool:
    """Is this the structure of a single leaf?"""
    return treedef is LEAF


def treedef_tuple(treedefs: Iterable[PyTreeDef]) -> PyTreeDef:
    """The structure of a tuple of trees with the given structures."""
    return make_treedef(kind_of(tuple), None, None, tuple(treedefs))
