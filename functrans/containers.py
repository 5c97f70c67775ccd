"""Containers: the classes that are pytree nodes without being registered by anybody.

tuple, list, dict, OrderedDict, defaultdict, None, every namedtuple and every dataclass. Only these
exact classes count: a subclass of dict, list or tuple is a leaf until it is registered.
"""

from __future__ import annotations

import dataclasses
from collections import OrderedDict, defaultdict
from collections.abc import Callable, Sequence
from typing import Any

from functrans.errors import TreeError
from functrans.keypath import DictKey, GetAttrKey, SequenceKey
from functrans.treedef import Kind, Order, Parts, register_finder, register_kind


def _take_sequence(tree: Sequence[Any]) -> Parts:
    return tree, None, None


def _sequence_keys(tree: Sequence[Any], aux: None) -> list[SequenceKey]:
    return [SequenceKey(i) for i in range(len(tree))]


def _show_tuple(aux: None, children: list[str]) -> str:
    return f"({', '.join(children)}{',' if len(children) == 1 else ''})"


def _take_dict(tree: dict[Any, Any]) -> Parts:
    """The children by sorted key. Keys that cannot be sorted (1 and 'a') keep insertion order."""
    keys = tuple(tree)
    try:
        ordered = tuple(sorted(keys))
    except TypeError:
        ordered = keys
    if ordered == keys:
        return list(tree.values()), keys, None
    return [tree[key] for key in ordered], ordered, keys


def _make_dict(aux: tuple[Any, ...], order: Order, children: list[Any]) -> dict[Any, Any]:
    tree = dict(zip(aux, children, strict=True))
    return tree if order is None else {key: tree[key] for key in order}


def _dict_keys(tree: Any, aux: tuple[Any, ...]) -> list[DictKey]:
    return [DictKey(key) for key in aux]


def _show_dict(aux: tuple[Any, ...], children: list[str]) -> str:
    items = (f"{key!r}: {child}" for key, child in zip(aux, children, strict=True))
    return "{" + ", ".join(items) + "}"


def _take_ordered_dict(tree: OrderedDict[Any, Any]) -> Parts:
    return list(tree.values()), tuple(tree), None


def _take_defaultdict(tree: defaultdict[Any, Any]) -> Parts:
    children, keys, order = _take_dict(tree)
    return children, (tree.default_factory, keys), order


def _make_defaultdict(
    aux: tuple[Any, tuple[Any, ...]], order: Order, children: list[Any]
) -> defaultdict[Any, Any]:
    return defaultdict(aux[0], _make_dict(aux[1], order, children))


def _show_defaultdict(aux: tuple[Any, tuple[Any, ...]], children: list[str]) -> str:
    factory = getattr(aux[0], "__name__", repr(aux[0]))
    return f"defaultdict({factory}, {_show_dict(aux[1], children)})"


for _kind in (
    Kind(type(None), lambda t: ((), None, None), lambda a, o, c: None, lambda t, a: (),
         lambda a, c: "None", plain=True),
    Kind(tuple, _take_sequence, lambda a, o, c: tuple(c), _sequence_keys, _show_tuple, plain=True),
    Kind(list, _take_sequence, lambda a, o, c: c, _sequence_keys,
         lambda a, c: f"[{', '.join(c)}]", plain=True),
    Kind(dict, _take_dict, _make_dict, _dict_keys, _show_dict, plain=True),
    Kind(OrderedDict, _take_ordered_dict,
         lambda a, o, c: OrderedDict(zip(a, c, strict=True)), _dict_keys,
         lambda a, c: f"OrderedDict({_show_dict(a, c)})", plain=True),
    Kind(defaultdict, _take_defaultdict, _make_defaultdict, lambda t, a: _dict_keys(t, a[1]),
         _show_defaultdict, plain=True),
):  # fmt: skip
    register_kind(_kind)


def _namedtuple_kind(cls: type[Any]) -> Kind | None:
    """The kind of a namedtuple. It is rebuilt as a tuple, its own `__new__` is not run."""
    if not (issubclass(cls, tuple) and hasattr(cls, "_fields")):
        return None
    names: tuple[str, ...] = cls._fields  # type: ignore[attr-defined]
    keys = [GetAttrKey(name) for name in names]
    return Kind(
        cls,
        take=_take_sequence,
        make=lambda aux, order, children: tuple.__new__(cls, children),
        keys=lambda tree, aux: keys,
        show=lambda aux, children: _show_fields(cls, names, children),
        plain=True,
    )


def _plain_dataclass_kind(cls: type[Any]) -> Kind | None:
    """The kind of a dataclass nobody registered: every field a child, `static=True` ones aside."""
    if not dataclasses.is_dataclass(cls):
        return None
    fields = dataclasses.fields(cls)
    static = [f.name for f in fields if f.metadata.get("static", False)]
    return fields_kind(cls, [f.name for f in fields if f.name not in static], static)


def fields_kind(
    cls: type[Any],
    data: Sequence[str],
    static: Sequence[str],
    defaults: Callable[[], dict[str, Any]] = dict,
) -> Kind:
    """The kind of a class whose named attributes are children (`data`) or static data.

    An instance is rebuilt attribute by attribute: neither `__init__` nor `__post_init__` runs, so
    that validation and conversion never meet a tracer.
    """
    keys = [GetAttrKey(name) for name in data]

    def take(tree: Any) -> Parts:
        try:
            children = [getattr(tree, name) for name in data]
            return children, tuple([getattr(tree, name) for name in static]), None
        except AttributeError as error:
            raise TreeError(
                f"A {cls.__name__} is a pytree of its fields, but one of them is not set: {error}."
            ) from error

    def make(aux: tuple[Any, ...], order: Order, children: list[Any]) -> Any:
        tree = object.__new__(cls)
        fields = defaults()
        fields.update(zip(data, children, strict=True))
        fields.update(zip(static, aux, strict=True))
        for name, value in fields.items():
            object.__setattr__(tree, name, value)
        return tree

    def show(aux: tuple[Any, ...], children: list[str]) -> str:
        names = [*data, *static]
        return _show_fields(cls, names, [*children, *(repr(value) for value in aux)])

    return Kind(cls, take, make, keys=lambda tree, aux: keys, show=show, plain=not static)


def _show_fields(cls: type[Any], names: Sequence[str], values: Sequence[str]) -> str:
    fields = (f"{name}={value}" for name, value in zip(names, values, strict=True))
    return f"{cls.__name__}({', '.join(fields)})"


register_finder(_namedtuple_kind)
register_finder(_plain_dataclass_kind)
