"""Registration: how a class becomes a pytree node, and Partial, a function that is one."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable, Iterable, Sequence
from typing import Any, TypeVar

from functrans.containers import fields_kind
from functrans.errors import TransformTypeError
from functrans.keypath import FlattenedIndexKey, GetAttrKey
from functrans.treedef import Class, Kind, Order, Parts, register_kind

T = TypeVar("T")
_MISSING: Any = object()


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

    register_kind(fields_kind(cls, data_fields, meta_fields, defaults))
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

    >>> from functrans import tree
    >>> tree.map(lambda x: 10 * x, Partial(pow, 2))(3)
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
