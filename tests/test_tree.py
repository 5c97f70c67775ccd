"""Pytrees: what is a node, what comes back, what is compared, and what the errors say."""

from __future__ import annotations

import copy
import gc
import pickle
import weakref
from collections import OrderedDict, defaultdict, namedtuple
from dataclasses import dataclass, field
from functools import partial
from typing import Any, NamedTuple

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from functrans import tree, tree_util
from functrans.errors import FunctransError, TreeError


class Point(NamedTuple):
    x: Any
    y: Any


Pair = namedtuple("Pair", ["first", "second"])


@dataclass
class Layer:
    w: Any
    b: Any
    name: str = field(default="dense", metadata={"static": True})


@dataclass(frozen=True)
class Frozen:
    value: Any

    def __post_init__(self) -> None:
        if not isinstance(self.value, (int, float)):
            raise TypeError("only numbers")


@dataclass(slots=True)
class Slotted:
    a: Any
    b: Any


@tree.register_pytree_node_class
class Stack:
    def __init__(self, items: Any, label: str) -> None:
        self.items, self.label = list(items), label

    def tree_flatten(self) -> tuple[Any, str]:
        return self.items, self.label

    @classmethod
    def tree_unflatten(cls, aux: str, children: Any) -> Stack:
        return cls(children, aux)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Stack) and vars(self) == vars(other)

    __hash__ = None  # type: ignore[assignment]


@tree.register_pytree_with_keys_class
class Named:
    def __init__(self, left: Any, right: Any) -> None:
        self.left, self.right = left, right

    def tree_flatten_with_keys(self) -> tuple[Any, None]:
        left, right = tree.GetAttrKey("left"), tree.GetAttrKey("right")
        return ((left, self.left), (right, self.right)), None

    @classmethod
    def tree_unflatten(cls, aux: None, children: Any) -> Named:
        return cls(*children)


@tree.register_static
class Config(str):
    pass


TREES: list[tuple[Any, int, str]] = [
    (1.0, 1, "*"),
    (None, 0, "None"),
    ((), 0, "()"),
    ((1,), 1, "(*,)"),
    ([1, [2, 3]], 3, "[*, [*, *]]"),
    ({"b": (1, 2), "a": 3}, 3, "{'a': *, 'b': (*, *)}"),
    (OrderedDict(b=1, a=2), 2, "OrderedDict({'b': *, 'a': *})"),
    (defaultdict(list, {2: 1, 1: 2}), 2, "defaultdict(list, {1: *, 2: *})"),
    (Point(1, (2, None)), 2, "Point(x=*, y=(*, None))"),
    (Pair([1], 2), 2, "Pair(first=[*], second=*)"),
    (Layer(1, [2]), 2, "Layer(w=*, b=[*], name='dense')"),
    (Frozen(2), 1, "Frozen(value=*)"),
    (Slotted(1, {"k": 2}), 2, "Slotted(a=*, b={'k': *})"),
    (Stack([1, 2], "s"), 2, "Stack['s'](*, *)"),
    ({1: 1, "a": 2}, 2, "{1: *, 'a': *}"),
    (Config("relu"), 0, "'relu'"),
    ("text", 1, "*"),
]


@pytest.mark.parametrize(("value", "count", "text"), TREES, ids=[t[2] for t in TREES])
def test_flatten_and_back(value: Any, count: int, text: str) -> None:
    leaves, treedef = tree.flatten(value)
    assert len(leaves) == treedef.num_leaves == count
    assert repr(treedef) == f"PyTreeDef({text})"
    back = tree.unflatten(treedef, leaves)
    assert back == value
    assert type(back) is type(value)
    assert tree.structure(back) == treedef
    assert hash(tree.structure(back)) == hash(treedef)
    assert [leaf for _, leaf in tree.leaves_with_path(value)] == leaves
    assert tree.flatten_with_path(value)[1] == treedef
    assert treedef.flatten_up_to(value) == leaves


@pytest.mark.parametrize("value", [t[0] for t in TREES if not isinstance(t[0], Config)])
def test_treedefs_survive_copies_and_pickles(value: Any) -> None:
    treedef = tree.structure(value)
    assert copy.deepcopy(treedef) is treedef
    assert copy.copy(treedef) is treedef
    assert pickle.loads(pickle.dumps(treedef)) == treedef


def test_every_pair_of_different_structures_differs() -> None:
    defs = [tree.structure(value) for value, _, text in TREES if text != "*"]
    assert len(set(defs)) == len(defs)
    assert all((a == b) is (i == j) for i, a in enumerate(defs) for j, b in enumerate(defs))


simple = st.recursive(
    st.none() | st.integers() | st.floats(allow_nan=False),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.tuples(inner, inner)
        | st.dictionaries(st.text(max_size=2), inner, max_size=3)
        | st.builds(Point, inner, inner)
        | st.builds(Layer, inner, inner, st.text(max_size=1))
    ),
    max_leaves=8,
)


@given(simple, simple)
def test_structures_agree_exactly_when_the_trees_can_be_mapped_together(a: Any, b: Any) -> None:
    assert tree.structure(a).unflatten(tree.leaves(a)) == a
    same = tree.structure(a) == tree.structure(b)
    assert tree.map(lambda x, y: y, a, b) == b if same else True
    if same:
        assert hash(tree.structure(a)) == hash(tree.structure(b))
        tree.check_structure(tree.structure(a), b, "test")
    else:
        with pytest.raises(TreeError):
            tree.check_structure(tree.structure(a), b, "test")


def test_dicts_are_taken_by_sorted_key_and_rebuilt_in_their_own_order() -> None:
    value = {"w10": 1, "b": 2, "w2": 3}
    assert tree.leaves(value) == [2, 1, 3]
    assert list(tree.map(lambda x: x, value)) == ["w10", "b", "w2"]


def test_insertion_order_counts_in_the_exact_key_alone() -> None:
    one, two = tree.structure({"a": 0, "b": (0,)}), tree.structure({"b": (0,), "a": 0})
    assert one == two
    assert hash(one) == hash(two)
    assert one.exact_key != two.exact_key
    assert one.exact_key == tree.structure({"a": 5, "b": (6,)}).exact_key
    nested = tree.structure([{"a": 0, "b": 0}]), tree.structure([{"b": 0, "a": 0}])
    assert nested[0] == nested[1]
    assert [list(d.unflatten([1, 2])[0]) for d in nested] == [["a", "b"], ["b", "a"]]


def test_keys_that_cannot_be_sorted_keep_insertion_order() -> None:
    assert tree.leaves({"a": 1, 1: 2, None: 3}) == [1, 2, 3]
    assert tree.structure({"a": 1, 1: 2}) != tree.structure({1: 2, "a": 1})


def test_static_data_is_compared_by_type_and_value() -> None:
    values = [1, 1.0, True, -0.0, 0.0, (1,), (1.0,), "1", float("nan")]
    defs = [tree.structure(Layer(0, 0, v)) for v in values]  # type: ignore[arg-type]
    assert len(set(defs)) == len(values)
    for value, treedef in zip(values, defs, strict=True):
        rebuilt = treedef.unflatten([1, 2]).name
        assert type(rebuilt) is type(value)
        assert repr(rebuilt) == repr(value)
    nan = tree.structure(Layer(0, 0, float("nan")))  # type: ignore[arg-type]
    assert nan == defs[-1]


def test_static_data_that_cannot_be_hashed_is_an_error_of_hash_alone() -> None:
    treedef = tree.structure(Layer(1, 2, ["a"]))  # type: ignore[arg-type]
    assert treedef == tree.structure(Layer(3, 4, ["a"]))  # type: ignore[arg-type]
    assert treedef.unflatten([1, 2]).name == ["a"]
    with pytest.raises(TypeError, match="static data of a Layer in a pytree must be hashable"):
        hash(treedef)


def test_dataclasses_are_rebuilt_without_running_their_init() -> None:
    assert tree.map(lambda _: "not a number", Frozen(1)).value == "not a number"


def test_a_dataclass_field_that_is_not_set_is_named() -> None:
    @dataclass
    class Lazy:
        a: int
        late: int = field(init=False)

    with pytest.raises(TreeError, match="A Lazy is a pytree of its fields, but one of them"):
        tree.flatten(Lazy(1))


def test_subclasses_of_containers_are_leaves_until_registered() -> None:
    class MyDict(dict[str, int]):
        pass

    assert tree.structure(MyDict(a=1)) is tree.structure(0)
    tree.register_pytree_node(
        MyDict, lambda d: (list(d.values()), tuple(d)), lambda k, v: MyDict(zip(k, v, strict=True))
    )
    assert tree.leaves(MyDict(a=1)) == [1]
    with pytest.raises(TreeError, match="The class MyDict is already registered"):
        tree.register_pytree_node(MyDict, lambda d: ((), None), lambda k, v: MyDict())


def test_a_dataclass_can_be_made_a_leaf() -> None:
    @tree.register_leaf_class
    @dataclass
    class Token:
        a: int

    assert tree.leaves([Token(1)]) == [Token(1)]


def test_register_dataclass() -> None:
    @tree.register_dataclass
    @dataclass
    class Implicit:
        a: Any
        mode: str = field(default="x", metadata={"static": True})

    @partial(tree.register_dataclass, data_fields=["a"], meta_fields=["b"], drop_fields=["c"])
    @dataclass
    class Explicit:
        a: Any
        b: Any
        c: Any = 7

    assert tree.map(lambda x: x + 1, Implicit(1, "y")) == Implicit(2, "y")
    assert tree.map(lambda x: x + 1, Explicit(1, 2, 3)) == Explicit(2, 2, 7)
    assert tree.leaves_with_path(Explicit(1, 2))[0][0] == (tree.GetAttrKey("a"),)


def test_register_dataclass_names_what_is_wrong() -> None:
    @dataclass
    class Model:
        a: Any
        b: Any

    with pytest.raises(TypeError, match=r"must name every field once, but: b not named; z unknown"):
        tree.register_dataclass(Model, ["a"], ["z"])
    with pytest.raises(TypeError, match="give both data_fields and meta_fields, or neither"):
        tree.register_dataclass(Model, ["a", "b"])
    with pytest.raises(TypeError, match="register_dataclass: int is not a dataclass"):
        tree.register_dataclass(int)


def test_map_takes_subtrees_of_the_other_trees() -> None:
    assert tree.map(lambda x, y: (x, y), {"a": 1}, {"a": [2, 3]}) == {"a": (1, [2, 3])}


MISMATCHES: list[tuple[Any, Any, str]] = [
    ((1, 2), [1, 2], "at the root: expected a tuple of length 2, but got [1, 2]"),
    ((1, 2), (1,), "at the root: expected a tuple of length 2, but got a tuple of length 1"),
    ({"a": [0, (1, 2)]}, {"a": [0, np.ones(3)]},
     "at ['a'][1]: expected a tuple of length 2, but got f64[3]"),
    ({"a": 1}, {"b": 1}, "at the root: expected {'a': *}, but got {'b': *}"),
    (Point(1, Layer(1, (2,))), Point(1, Layer(1, 5)),
     "at .y.b: expected a tuple of length 1, but got the int 5"),
    (Layer(1, 2, "p"), Layer(1, 2, "q"),
     "at the root: expected Layer(w=*, b=*, name='p'), but got Layer(w=*, b=*, name='q')"),
    ([None], [1], "at [0]: expected None, but got the int 1"),
    (Stack([(1,)], "s"), Stack([2], "s"),
     "at [<flat index 0>]: expected a tuple of length 1, but got the int 2"),
    (Named((1,), 2), Named(3, 2), "at .left: expected a tuple of length 1, but got the int 3"),
]  # fmt: skip


@pytest.mark.parametrize(("a", "b", "how"), MISMATCHES)
def test_mismatches_name_the_key_path(a: Any, b: Any, how: str) -> None:
    with pytest.raises(TreeError) as error:
        tree.map(lambda x, y: x, a, b)
    assert error.value.reason == f"tree.map: tree 2 differs from the first {how}."
    assert isinstance(error.value, ValueError)
    assert isinstance(error.value, FunctransError)


def test_check_structure_is_exact() -> None:
    with pytest.raises(TreeError) as error:
        tree.check_structure(tree.structure({"a": 1}), {"a": [1, 2]}, "scan: the carry differs")
    assert error.value.reason == (
        "scan: the carry differs at ['a']: expected a leaf, but got [1, 2]."
    )
    tree.check_structure(tree.structure({"a": 1}), {"a": 2}, "fine")


def test_is_leaf() -> None:
    value = {"a": (1, 2), "b": None}

    def is_tuple(x: Any) -> bool:
        return isinstance(x, tuple)

    assert tree.leaves(value, is_leaf=is_tuple) == [(1, 2)]
    assert tree.leaves(value, is_leaf=lambda x: x is None) == [1, 2, None]
    assert tree.map(sum, value, is_leaf=is_tuple) == {"a": 3, "b": None}


def test_map_with_path() -> None:
    named = tree.map_with_path(lambda path, x: tree.keystr(path), {"a": [0, Point(0, 0)]})
    assert named == {"a": ["['a'][0]", Point("['a'][1].x", "['a'][1].y")]}
    both = tree.map_with_path(lambda path, x, y: (tree.keystr(path), x + y), (1,), (2,))
    assert both == (("[0]", 3),)


def test_keystr() -> None:
    path = (tree.DictKey("a"), tree.SequenceKey(0), tree.GetAttrKey("w"), tree.FlattenedIndexKey(1))
    assert tree.keystr(path) == "['a'][0].w[<flat index 1>]"
    assert tree.keystr(path, simple=True, separator="/") == "a/0/w/1"
    assert repr(path) == (
        "(DictKey(key='a'), SequenceKey(idx=0), GetAttrKey(name='w'), FlattenedIndexKey(key=1))"
    )
    assert len({*path, tree.DictKey("a"), tree.SequenceKey(0)}) == 4
    assert tree.FlattenedIndexKey(1) != tree.DictKey(1)


def test_reduce() -> None:
    assert tree.reduce(lambda a, b: a - b, (1, [2, 3])) == -4
    assert tree.reduce(lambda a, b: a - b, (1, [2, 3]), 10) == 4
    assert tree.reduce(lambda a, b: a, None, 5) == 5
    with pytest.raises(TreeError, match=r"tree\.reduce: the tree has no leaves"):
        tree.reduce(lambda a, b: a, ())


def test_reduce_associative() -> None:
    assert tree.reduce_associative(lambda a, b: a + b, ["a", ("b", "c"), "d", "e"]) == "abcde"
    assert tree.reduce_associative(lambda a, b: a + b, [], identity="") == ""
    with pytest.raises(TreeError, match="give an identity"):
        tree.reduce_associative(lambda a, b: a + b, [])


def test_all() -> None:
    assert tree.all((True, [1], None))
    assert not tree.all({"a": 0})
    assert tree.all_leaves([1, 2.0])
    assert not tree.all_leaves([1, (2,)])


def test_transpose() -> None:
    outer, inner = tree.structure([0, 0]), tree.structure({"a": 0, "b": (0,)})
    value = [{"a": 1, "b": (2,)}, {"a": 3, "b": (4,)}]
    expected = {"a": [1, 3], "b": ([2, 4],)}
    assert tree.transpose(outer, inner, value) == expected
    assert tree.transpose(outer, None, value) == expected
    with pytest.raises(TreeError, match="give the inner one"):
        tree.transpose(tree.structure([]), None, [])


def test_broadcast() -> None:
    assert tree.broadcast((0, {"a": 1}), ([1, 2, (3, 4)], {"a": (5, 6)})) == [0] * 4 + [1] * 2
    none = tree.broadcast((None, 0), ((1, 2), 3), is_leaf=lambda x: x is None)
    assert none == [None, None, 0]
    with pytest.raises(TreeError, match=r"at \[0\]: expected a list of length 1"):
        tree.broadcast(([0],), ((1, 2),))


def test_unflatten_counts_leaves() -> None:
    with pytest.raises(TreeError) as error:
        tree.unflatten(tree.structure((1, 2)), [1])
    assert error.value.reason == "unflatten: PyTreeDef((*, *)) has 2 leaves, but 1 were given."
    assert tree.unflatten(tree.structure((1, 2)), iter([3, 4])) == (3, 4)


def test_treedef_methods() -> None:
    treedef = tree.structure({"a": (1, 2), "b": 3})
    assert treedef.children() == [tree.structure((0, 0)), tree.structure(0)]
    assert treedef.num_nodes == 5
    assert treedef.node_data() == (dict, ("a", "b"))
    assert tree.structure(0).node_data() is None
    assert tree.treedef_is_leaf(tree.structure(0))
    assert not tree.treedef_is_leaf(treedef)
    assert tree.treedef_tuple([treedef, tree.structure(0)]) == tree.structure((treedef.unflatten(
        [0, 0, 0]), 0))  # fmt: skip
    assert tree.structure((0, 0)).compose(tree.structure([0])) == tree.structure(([0], [0]))


def test_partial() -> None:
    bound = tree.Partial(pow, 2, mod=5)
    leaves, treedef = tree.flatten(bound)
    assert leaves == [2, 5]
    assert bound(3) == 3
    assert isinstance(treedef.unflatten(leaves), tree.Partial)
    assert treedef == tree.structure(tree.Partial(pow, 4, mod=7))
    assert treedef != tree.structure(tree.Partial(max, 4, mod=7))
    assert tree.keystr(tree.leaves_with_path(bound)[1][0]) == ".keywords['mod']"


def test_a_tree_that_contains_itself_is_an_error() -> None:
    loop: list[Any] = []
    loop.append(loop)
    with pytest.raises(TreeError, match="nested too deeply, or contains itself"):
        tree.flatten(loop)


def test_leaves_are_not_kept_alive() -> None:
    array = np.ones(3)
    seen = weakref.ref(array)
    leaves, treedef = tree.flatten({"a": array})
    del array, leaves
    gc.collect()
    assert seen() is None
    assert treedef.num_leaves == 1


def test_tables_stay_bounded() -> None:
    from functrans import treedef as module

    for i in range(module._MOST_TREEDEFS + 10):
        tree.flatten({i: 0})
    assert len(module._treedefs) <= module._MOST_TREEDEFS
    assert tree.structure({5: 0}) == tree.structure({5: 1})


def test_tree_util_has_the_same_functions_by_their_other_names() -> None:
    value = {"a": (1, 2)}
    assert tree_util.tree_map(lambda x: x + 1, value) == {"a": (2, 3)}
    leaves, treedef = tree_util.tree_flatten(value)
    assert tree_util.tree_unflatten(treedef, leaves) == value
    assert tree_util.tree_structure(value) == treedef
    assert set(tree_util.__all__) <= set(dir(tree_util))
    assert set(tree.__all__) <= set(dir(tree))
