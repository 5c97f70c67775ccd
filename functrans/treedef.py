"""Treedefs: what kinds of containers are pytree nodes, and the shape of a tree without its leaves.

A treedef is immutable, hashable and comparable; equal trees mostly share one treedef object.
Flattening is on the path of every call: one pass, one dictionary lookup per node.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable, Iterator, Sequence
from typing import Any, TypeAlias, TypeVar, cast

from functrans.errors import TreeError, describe
from functrans.keypath import KeyPath, keystr

Leaf: TypeAlias = Any
IsLeaf: TypeAlias = Callable[[Any], bool]
Order: TypeAlias = "tuple[Any, ...] | None"
Parts: TypeAlias = "tuple[Sequence[Any], Any, Order]"
Class = TypeVar("Class", bound=type[Any])


class Kind:
    """How one class of containers is taken apart, put together, named and shown.

    `take(tree)` gives the children, the static data, and the insertion order where it differs
    from the order of the children; `make(aux, order, children)` is its inverse; `keys(tree, aux)`
    gives the steps to the children; `show(aux, children)` the text of a treedef. `plain` static
    data (names, keys) is compared by equality alone, other static data by type and value.
    """

    __slots__ = ("cls", "keys", "make", "plain", "show", "take")

    def __init__(
        self,
        cls: type[Any],
        take: Callable[[Any], Parts],
        make: Callable[[Any, Order, list[Any]], Any],
        keys: Callable[[Any, Any], Sequence[Any]],
        show: Callable[[Any, list[str]], str],
        plain: bool = False,
    ) -> None:
        self.cls = cls
        self.take = take
        self.make = make
        self.keys = keys
        self.show = show
        self.plain = plain

    def compared(self, aux: Any) -> Any:
        """What of the static data decides whether two nodes are alike."""
        return aux if self.plain else static_key(aux)


def static_key(value: Any) -> Any:
    """A key that tells static values apart by type and value: 1, 1.0, True and -0.0 all differ."""
    if type(value) is tuple:
        return (tuple, tuple(static_key(v) for v in cast("tuple[Any, ...]", value)))
    if type(value) is float:
        return (float, value.hex())
    return (cast("type[Any]", type(value)), value)


class PyTreeDef:
    """The structure of a pytree: its containers, their keys and static data, without the leaves.

    Two treedefs are equal where they have the same classes, keys and static data. The insertion
    order of a dictionary is kept, so that `unflatten` restores it, but does not count in
    comparisons; `exact_key` is equal only where the order agrees too.
    """

    __slots__ = (
        "__weakref__",
        "_exact",
        "_hash",
        "_nested",
        "aux",
        "key",
        "kind",
        "num_leaves",
        "order",
    )

    def __init__(
        self, kind: Kind, aux: Any, key: Any, order: Order, nested: tuple[PyTreeDef, ...]
    ) -> None:
        self.kind = kind
        self.aux = aux
        self.key = key
        self.order = order
        self._nested = nested
        self.num_leaves: int = sum([c.num_leaves for c in nested])
        self._hash: int | None = None
        self._exact: Hashable = None

    @property
    def num_nodes(self) -> int:
        """The number of containers and leaves."""
        return 1 + sum(c.num_nodes for c in self._nested)

    def children(self) -> list[PyTreeDef]:
        """The treedefs of the container's direct children."""
        return list(self._nested)

    def node_data(self) -> tuple[type[Any], Any] | None:
        """The container's class and static data; None for a leaf."""
        return None if self is LEAF else (self.kind.cls, self.aux)

    def unflatten(self, leaves: Iterable[Leaf]) -> Any:
        """The tree with this structure and these leaves; TreeError where their number differs."""
        values = cast("Sequence[Leaf]", leaves) if hasattr(leaves, "__len__") else list(leaves)
        if len(values) != self.num_leaves:
            raise TreeError(
                f"unflatten: {self} has {self.num_leaves} leaves, but {len(values)} were given."
            )
        return self._build(iter(values))

    def _build(self, leaves: Iterator[Leaf]) -> Any:
        if self is LEAF:
            return next(leaves)
        children = [next(leaves) if c is LEAF else c._build(leaves) for c in self._nested]
        return self.kind.make(self.aux, self.order, children)

    def flatten_up_to(self, tree: Any) -> list[Any]:
        """The subtrees of `tree` that stand where this structure has leaves.

        Raises TreeError, naming the key path, where the containers differ.
        """
        out: list[Any] = []
        if not self._take_up_to(tree, out):
            raise TreeError(f"The trees differ {difference(self, tree)}.")
        return out

    def _take_up_to(self, tree: Any, out: list[Any]) -> bool:
        if self is LEAF:
            out.append(tree)
            return True
        kind = kind_of(cast("type[Any]", type(tree)))
        if kind.cls is not self.kind.cls:
            return False
        children, aux, _ = kind.take(tree)
        return (
            len(children) == len(self._nested)
            and kind.compared(aux) == self.key
            and all(
                c._take_up_to(child, out) for c, child in zip(self._nested, children, strict=True)
            )
        )

    def compose(self, inner: PyTreeDef) -> PyTreeDef:
        """This structure with every leaf replaced by `inner`."""
        if self is LEAF:
            return inner
        nested = tuple([c.compose(inner) for c in self._nested])
        return make_treedef(self.kind, self.aux, self.order, nested)

    @property
    def exact_key(self) -> Hashable:
        """Equal for equal treedefs whose dictionaries also have the same insertion order."""
        if self is LEAF:
            return _LEAF_KEY
        if self._exact is None:
            nested = tuple([c.exact_key for c in self._nested])
            self._exact = (self.kind.cls, self.key, self.order, nested)
        return self._exact

    def __eq__(self, other: object) -> bool:
        if self is other:
            return True
        if not isinstance(other, PyTreeDef):
            return NotImplemented
        return (
            self.kind.cls is other.kind.cls
            and self.num_leaves == other.num_leaves
            and bool(self.key == other.key)
            and self._nested == other._nested
        )

    def __hash__(self) -> int:
        if self._hash is None:
            try:
                self._hash = hash((self.kind.cls, self.key, self._nested))
            except TypeError as error:
                raise TypeError(
                    f"The static data of a {self.kind.cls.__name__} in a pytree must be hashable, "
                    f"but it is {describe(self.aux)}: {error}."
                ) from error
        return self._hash

    def __repr__(self) -> str:
        return f"PyTreeDef({self.format()})"

    def format(self) -> str:
        """The structure as the code of its containers, with `*` for each leaf."""
        return self.kind.show(self.aux, [c.format() for c in self._nested])

    def __reduce__(self) -> tuple[Any, ...]:
        if self is LEAF:
            return (_the_leaf, ())
        return (_rebuild, (self.kind.cls, self.aux, self.order, self._nested))

    def __copy__(self) -> PyTreeDef:
        return self

    def __deepcopy__(self, memo: dict[int, Any]) -> PyTreeDef:
        return self


def _the_leaf() -> PyTreeDef:
    return LEAF


def _rebuild(cls: type[Any], aux: Any, order: Order, nested: tuple[PyTreeDef, ...]) -> PyTreeDef:
    return make_treedef(kind_of(cls), aux, order, nested)


LEAF_KIND = Kind(
    object,
    take=lambda leaf: ((), None, None),
    make=lambda aux, order, children: None,
    keys=lambda tree, aux: (),
    show=lambda aux, children: "*",
)
LEAF = PyTreeDef(LEAF_KIND, None, None, None, ())
_LEAF_KEY = "a leaf"
"""In keys, where it is told faster than an object of ours."""
LEAF.num_leaves = 1

# Equal treedefs are one object while this table holds them; equality does not depend on it, so it
# is emptied when full. Children are named by id: each entry keeps its own children alive.
_treedefs: dict[Any, PyTreeDef] = {}
_MOST_TREEDEFS = 8192


def make_treedef(kind: Kind, aux: Any, order: Order, nested: tuple[PyTreeDef, ...]) -> PyTreeDef:
    """The treedef of a container of this kind, shared with equal ones made before."""
    key = aux if kind.plain else static_key(aux)
    name = (kind, key, order, *map(id, nested))
    try:
        found = _treedefs.get(name)
    except TypeError:  # static data that cannot be hashed: hash() of the treedef will say so
        return PyTreeDef(kind, aux, key, order, nested)
    if found is None:
        if len(_treedefs) >= _MOST_TREEDEFS:
            _treedefs.clear()
        found = _treedefs[name] = PyTreeDef(kind, aux, key, order, nested)
    return found


# The kinds that were registered, and those found by looking at a class. The second table is
# bounded, since a program may make classes without end.
_registered: dict[type[Any], Kind] = {}
_kinds: dict[type[Any], Kind] = {}
_MOST_KINDS = 4096
_finders: list[Callable[[type[Any]], Kind | None]] = []


def kind_of(cls: type[Any]) -> Kind:
    """The kind of a class: registered, found by its nature (namedtuple, dataclass), or a leaf."""
    kind = _kinds.get(cls)
    return _find_kind(cls) if kind is None else kind


def _find_kind(cls: type[Any]) -> Kind:
    kind = _registered.get(cls)
    if kind is None:
        found = (finder(cls) for finder in _finders)
        kind = next((k for k in found if k is not None), LEAF_KIND)
    if len(_kinds) >= _MOST_KINDS:
        _kinds.clear()
    _kinds[cls] = kind
    return kind


def register_kind(kind: Kind) -> None:
    """Make a class a node. A class is registered once; a second time raises TreeError."""
    if kind.cls in _registered:
        raise TreeError(f"The class {kind.cls.__name__} is already registered as a pytree node.")
    _registered[kind.cls] = kind
    _kinds[kind.cls] = kind


def register_finder(finder: Callable[[type[Any]], Kind | None]) -> None:
    """Add a rule that makes unregistered classes nodes by their nature."""
    _finders.append(finder)
    _kinds.clear()
    _kinds.update(_registered)


def register_leaf_class(cls: Class) -> Class:
    """Class decorator: instances of this dataclass or namedtuple are leaves, not nodes."""
    _registered[cls] = LEAF_KIND
    _kinds[cls] = LEAF_KIND
    return cls


def walk(tree: Any, leaves: list[Leaf]) -> PyTreeDef:
    """Append the leaves of `tree` to a list and give its treedef."""
    cls = type(tree)
    kind = _kinds.get(cls) or kind_of(cls)
    if kind is LEAF_KIND:
        leaves.append(tree)
        return LEAF
    children, aux, order = kind.take(tree)
    nested: list[PyTreeDef] = []
    for child in children:
        # The test above, inline: most children are leaves, and a call costs more than the rest.
        if _kinds.get(type(child)) is LEAF_KIND:
            leaves.append(child)
            nested.append(LEAF)
        else:
            nested.append(walk(child, leaves))
    return make_treedef(kind, aux, order, tuple(nested))


def walk_with(
    tree: Any, path: KeyPath, leaves: list[tuple[KeyPath, Leaf]], is_leaf: IsLeaf | None
) -> PyTreeDef:
    """`walk` with key paths, and with nodes that `is_leaf` accepts taken as leaves."""
    kind = kind_of(cast("type[Any]", type(tree)))
    if kind is LEAF_KIND or (is_leaf is not None and is_leaf(tree)):
        leaves.append((path, tree))
        return LEAF
    children, aux, order = kind.take(tree)
    keys = kind.keys(tree, aux)
    nested = [
        walk_with(child, (*path, key), leaves, is_leaf)
        for key, child in zip(keys, children, strict=True)
    ]
    return make_treedef(kind, aux, order, tuple(nested))


def difference(
    expected: PyTreeDef, tree: Any, path: KeyPath = (), exact: bool = False
) -> str | None:
    """Where and how `tree` first departs from `expected`, as the end of a sentence.

    None where it does not: with `exact` where the structures are the same, else where `tree` has
    at least the containers of `expected`.
    """
    kind = kind_of(cast("type[Any]", type(tree)))
    if expected is LEAF:
        if not exact or kind is LEAF_KIND:
            return None
        return f"{_at(path)}: expected a leaf, but got {describe(tree)}"
    if kind.cls is not expected.kind.cls:
        return f"{_at(path)}: expected {_container(expected)}, but got {describe(tree)}"
    children, aux, _ = kind.take(tree)
    if len(children) != len(expected.children()) or kind.compared(aux) != expected.key:
        return f"{_at(path)}: expected {_container(expected)}, but got {_contents(kind, aux, tree)}"
    steps = zip(kind.keys(tree, aux), expected.children(), children, strict=True)
    found = (difference(c, child, (*path, key), exact) for key, c, child in steps)
    return next((text for text in found if text is not None), None)


def _at(path: KeyPath) -> str:
    return f"at {keystr(path)}" if path else "at the root"


def _container(node: PyTreeDef) -> str:
    """The outer container of a structure in words, its children not taken apart."""
    return _words(node.kind, node.aux, len(node.children()))


def _contents(kind: Kind, aux: Any, tree: Any) -> str:
    return _words(kind, aux, len(kind.take(tree)[0]))


def _words(kind: Kind, aux: Any, n: int) -> str:
    if kind.cls in (tuple, list):
        return f"a {kind.cls.__name__} of length {n}"
    if kind.cls is type(None):
        return "None"
    return kind.show(aux, ["*"] * n)
