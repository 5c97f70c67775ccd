"""Pytrees: containers of arrays taken apart into leaves and put together again.

Nodes are tuple, list, dict, OrderedDict, defaultdict, namedtuples, None (a node without leaves),
dataclasses (frozen or not: every field is a child, but those with `metadata={"static": True}`),
and the classes registered here. Everything else is a leaf. The children of a dict are taken in
the order of its sorted keys (insertion order where the keys cannot be sorted) and the dict is
rebuilt in its own insertion order.
"""

from __future__ import annotations

import builtins
import dataclasses
import functools
from collections.abc import Callable, Iterable, Sequence
from typing import Any, TypeVar

import functrans.containers as _containers
from functrans.errors import TransformTypeError, TreeError
from functrans.keypath import (
    DictKey,
    FlattenedIndexKey,
    GetAttrKey,
    KeyPath,
    SequenceKey,
    keystr,
)
from functrans.treedef import (
    LEAF,
    Class,
    IsLeaf,
    Kind,
    Leaf,
    Order,
    Parts,
    PyTreeDef,
    difference,
    kind_of,
    make_treedef,
    register_kind,
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

T = TypeVar("T")
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


def register_pytree_node(
    cls: type[T],
    flatten_func: Callable[[T], tuple[Iterable[Any], Any]],
    unflatten_func: Callable[[Any, Any], T],
    flatten_with_keys_func: Callable[[T], tuple[Iterable[tuple[Any, Any]], Any]] | None = None,
) -> None:
    """Make a class a node: `flatten_func(x) -> (children, aux)`, `unflatten_func(aux, children)`.

    `aux` is static: it must be hashable, and decides with the children's structure whether two
    trees match.
    """

    def take(tree: T) -> Parts:
        children, aux = flatten_func(tree)
        return tuple(children), aux, None

    _register(cls, take, unflatten_func, flatten_with_keys_func)


def register_pytree_with_keys(
    cls: type[T],
    flatten_with_keys: Callable[[T], tuple[Iterable[tuple[Any, Any]], Any]],
    unflatten_func: Callable[[Any, Any], T],
    flatten_func: Callable[[T], tuple[Iterable[Any], Any]] | None = None,
) -> None:
    """`register_pytree_node` for `flatten_with_keys(x) -> (((key, child), ...), aux)`."""

    def flatten_without_keys(tree: T) -> tuple[Iterable[Any], Any]:
        pairs, aux = flatten_with_keys(tree)
        return [child for _, child in pairs], aux

    register_pytree_node(
        cls, flatten_func or flatten_without_keys, unflatten_func, flatten_with_keys
    )


def register_pytree_node_class(cls: Class) -> Class:
    """Class decorator: a node with methods `tree_flatten()` and `tree_unflatten(aux, children)`."""
    register_pytree_node(cls, cls.tree_flatten, cls.tree_unflatten)
    return cls


def register_pytree_with_keys_class(cls: Class) -> Class:
    """Class decorator: a node with `tree_flatten_with_keys()`, `tree_unflatten(aux, children)`."""
    register_pytree_with_keys(
        cls, cls.tree_flatten_with_keys, cls.tree_unflatten, getattr(cls, "tree_flatten", None)
    )
    return cls


def _register(
    cls: type[Any],
    take: Callable[[Any], Parts],
    unflatten_func: Callable[[Any, Any], Any],
    flatten_with_keys: Callable[[Any], tuple[Iterable[tuple[Any, Any]], Any]] | None,
) -> None:
    def make(aux: Any, order: Order, children: list[Any]) -> Any:
        return unflatten_func(aux, tuple(children))

    def keys(tree: Any, aux: Any) -> list[Any]:
        if flatten_with_keys is not None:
            return [key for key, _ in flatten_with_keys(tree)[0]]
        return [FlattenedIndexKey(i) for i in range(len(take(tree)[0]))]

    def show(aux: Any, children: list[str]) -> str:
        static = "" if aux is None else f"[{aux!r}]"
        return f"{cls.__name__}{static}({', '.join(children)})"

    register_kind(Kind(cls, take, make, keys, show))


def register_dataclass(
    cls: type[Any] | None = None,
    data_fields: Sequence[str] | None = None,
    meta_fields: Sequence[str] | None = None,
    drop_fields: Sequence[str] = (),
) -> Any:
    """Choose which fields of a class are children (data) and which static (meta).

    A class decorator, with or without arguments. Without lists, the fields of a dataclass whose
    metadata says `static=True` are static. Dropped fields are not kept: they take their default
    when an instance is rebuilt. Neither `__init__` nor `__post_init__` runs then.
    """
    if cls is None:
        return functools.partial(
            register_dataclass,
            data_fields=data_fields,
            meta_fields=meta_fields,
            drop_fields=drop_fields,
        )
    if (data_fields is None) != (meta_fields is None):
        raise TransformTypeError(
            f"register_dataclass({cls.__name__}): give both data_fields and meta_fields, "
            "or neither."
        )
    fields = {f.name: f for f in dataclasses.fields(cls)} if dataclasses.is_dataclass(cls) else {}
    if data_fields is None or meta_fields is None:
        if not fields:
            raise TransformTypeError(
                f"register_dataclass: {cls.__name__} is not a dataclass. Decorate it with "
                "@dataclass first, or name its data_fields and meta_fields."
            )
        kept = [name for name in fields if name not in drop_fields]
        meta_fields = [name for name in kept if fields[name].metadata.get("static", False)]
        data_fields = [name for name in kept if name not in meta_fields]
    _check_fields(cls, set(fields), {*data_fields, *meta_fields, *drop_fields})

    def defaults() -> dict[str, Any]:
        return {
            name: value for name in drop_fields if (value := _default(fields[name])) is not _MISSING
        }

    register_kind(_containers.fields_kind(cls, data_fields, meta_fields, defaults))
    return cls


def _check_fields(cls: type[Any], fields: set[str], named: set[str]) -> None:
    if fields and fields != named:
        missing, unknown = sorted(fields - named), sorted(named - fields)
        how = [f"{', '.join(missing)} not named"] if missing else []
        how += [f"{', '.join(unknown)} unknown"] if unknown else []
        raise TransformTypeError(
            f"register_dataclass({cls.__name__}): data_fields, meta_fields and drop_fields must "
            f"name every field once, but: {'; '.join(how)}."
        )


def _default(field: dataclasses.Field[Any]) -> Any:
    if field.default is not dataclasses.MISSING:
        return field.default
    if field.default_factory is not dataclasses.MISSING:
        return field.default_factory()
    return _MISSING


def register_static(cls: Class) -> Class:
    """Class decorator: an instance is a node without leaves, static data as a whole.

    Instances must be hashable and comparable.
    """
    register_kind(
        Kind(
            cls,
            take=lambda tree: ((), tree, None),
            make=lambda aux, order, children: aux,
            keys=lambda tree, aux: (),
            show=lambda aux, children: repr(aux),
        )
    )
    return cls


class Partial(functools.partial[T]):
    """A `functools.partial` that is a pytree: bound arguments are children, the function is static.

    >>> map(lambda x: 10 * x, Partial(pow, 2))(3)
    8000
    """


def _flatten_partial(tree: Partial[Any]) -> tuple[tuple[Any, Any], Any]:
    return (tree.args, tree.keywords), tree.func


def _unflatten_partial(func: Callable[..., T], children: tuple[Any, Any]) -> Partial[T]:
    return Partial(func, *children[0], **children[1])


register_pytree_node(
    Partial,
    _flatten_partial,
    _unflatten_partial,
    lambda tree: (
        ((GetAttrKey("args"), tree.args), (GetAttrKey("keywords"), tree.keywords)),
        tree.func,
    ),
)
