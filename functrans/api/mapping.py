"""vmap: map a function over an axis of its arguments, as one program on all members."""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np

from functrans import tree
from functrans.api.border import Function, Staged, array_leaf, run, stage
from functrans.api.quick import Quick
from functrans.bind import eval_jaxpr
from functrans.control.steps import in_steps
from functrans.errors import (
    ShapeError,
    TransformTypeError,
    TreeError,
    argument_name,
    describe,
    name_of,
    where,
)
from functrans.ir import Aval, Jaxpr, MappedAxis, aval_of
from functrans.recording import stage_walk
from functrans.transforms.batching import batch_jaxpr, move_to
from functrans.transforms.cache import derived


def vmap(
    f: Function,
    in_axes: Any = 0,
    out_axes: Any = 0,
    axis_name: Any = None,
    axis_size: int | None = None,
) -> Function:
    """f mapped over an axis of its arguments.

    `in_axes` is an int, None, or a tuple with one entry for each positional argument, whose
    entries may be pytrees matching the argument: the axis to map over (negative ones count from
    the end), or None for what every call gets whole. Keyword arguments are mapped
    over axis 0. `out_axes` says likewise where the mapped axis of the results goes; None is for
    results that are the same for every member. Inside, collectives (`lax.psum`, ...) see the
    other members under `axis_name`. `axis_size` is needed when nothing is mapped.

    Raises ValueError when mapped axes differ in size.

    >>> vmap(lambda x, y: x * y, in_axes=(0, None))(np.arange(3.), 2.0)
    array([0., 2., 4.])
    """
    if not callable(f):
        raise TransformTypeError(
            f"vmap takes a function, but got {describe(f)}. Write vmap(f)(x), not vmap(f(x))."
        )
    _check_options(f, axis_name, axis_size)
    if isinstance(in_axes, list):
        raise TransformTypeError(
            f"vmap: in_axes must be an int, None or a tuple with one entry for each argument of "
            f"{name_of(f)}, but got the list {in_axes}. Write tuple(in_axes)."
        )

    layouts = Layouts(f, in_axes)
    quick = Quick(f, None, "vmap", (in_axes, axis_name, axis_size))

    @functools.wraps(f, updated=())
    def mapped(*args: Any, **kwargs: Any) -> Any:
        known = quick.known(args, kwargs)
        out_tree: list[tree.PyTreeDef] = []

        def flat(result: Any) -> list[Any]:
            out, treedef = tree.flatten(result)
            out_tree.append(treedef)
            return out

        if known is not None:
            signature, leaves, _ = known
            axis, dims = signature.axis, signature.dims
            _, staged = quick.trace(known, args, kwargs, flat, taped=False)
            assert isinstance(staged, Staged)
            assert axis is not None
        else:
            call = _Call(f, layouts, args, kwargs)
            axis = MappedAxis(call.axis_size(axis_size), axis_name)
            leaves, dims = call.traced, call.dims
            staged = call.stage(flat, axis)
            if len(leaves) == len(call.leaves):
                quick.learn(args, kwargs, call.names, axis, dims, call.members)
        with staged:
            wanted = _out_dims(out_axes, out_tree[0], f)
            all_dims = (*[None] * len(staged.captured), *dims)
            must = tuple([w is not None for w in wanted])
            batched, found = batch_jaxpr(in_steps(staged.jaxpr), axis, all_dims, must)
            _require_unmapped(found, wanted, f)
            if any(w is not None and w != 0 for w in wanted):
                batched = _placed(batched, axis, tuple(wanted))
            outs = run(batched, [*staged.captured, *leaves])
        return tree.unflatten(out_tree[0], outs)

    return mapped


def _check_options(f: Function, axis_name: Any, axis_size: Any) -> None:
    try:
        hash(axis_name)
    except TypeError:
        raise TransformTypeError(
            f"vmap: axis_name must be hashable, but it is {describe(axis_name)} ({where(f)}). A "
            "string will do."
        ) from None
    if axis_size is not None and not isinstance(axis_size, (int, np.integer)):
        raise TransformTypeError(
            f"vmap: axis_size must be an int, but it is {describe(axis_size)} ({where(f)}). Give "
            "the number of members."
        )


class Layout(NamedTuple):
    """The tree of the arguments of a call: for each leaf its name in messages and its axis, which
    is what the user gave."""

    names: list[str]
    axes: list[Any]


class Layouts:
    """The layouts of the calls of `f` so far, by their trees."""

    def __init__(self, f: Function, in_axes: Any) -> None:
        self._f, self._in_axes = f, in_axes
        self._known: dict[Any, Layout] = {}

    def of(self, args: tuple[Any, ...], kwargs: dict[str, Any], treedef: tree.PyTreeDef) -> Layout:
        """That of a call whose arguments have this tree."""
        key = treedef.exact_key
        try:
            known = self._known.get(key)
        except TypeError:  # static data that cannot be hashed
            return self._made(args, kwargs)
        if known is None:
            known = self._made(args, kwargs)
            if len(self._known) >= MOST_LAYOUTS:
                self._known.clear()
            self._known[key] = known
        return known

    def _made(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Layout:
        f, in_axes = self._f, self._in_axes
        if isinstance(in_axes, tuple) and len(in_axes) != len(args):
            raise TransformTypeError(
                f"vmap: in_axes has {len(in_axes)} entries, but {name_of(f)} was called with "
                f"{len(args)} positional arguments ({where(f)}). Give one entry for each."
            )
        paths, _ = tree.flatten_with_path((args, kwargs))
        names = [_name(f, path) for path, _ in paths]
        per_arg = in_axes if isinstance(in_axes, tuple) else (in_axes,) * len(args)
        axes: list[Any] = []
        for i, (prefix, arg) in enumerate(zip(per_arg, args, strict=True)):
            axes += _spread(
                prefix, arg, f, f"vmap: in_axes of {argument_name(f, i)}", "the argument"
            )
        axes += [0] * (len(paths) - len(axes))
        return Layout(names, axes)


MOST_LAYOUTS = 64


class _Call:
    """The arguments of one call as leaves, each with its mapped axis or None.

    `traced` are those at `places`, which are traced, with `dims` for axes, as `members`.
    """

    def __init__(
        self, f: Function, layouts: Layouts, args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> None:
        self.f = f
        leaves, self.treedef = tree.flatten((args, kwargs))
        self.names, axes = layouts.of(args, kwargs, self.treedef)
        self.leaves: list[Any] = []
        self.axes: list[int | None] = []
        for leaf, axis, name in zip(leaves, axes, self.names, strict=True):
            kept = axis is None and not _is_plain_array(leaf)
            self.leaves.append(leaf if kept else array_leaf(leaf, f"vmap: {name}"))
            self.axes.append(None if axis is None else self._normal(axis, self.leaves[-1], name))
        # Arrays that are not mapped are traced too: mapped values can index them, and copies of
        # them can be written to.
        pairs = zip(self.leaves, self.axes, strict=True)
        self.places = [i for i, (x, d) in enumerate(pairs) if d is not None or _is_plain_array(x)]
        self.traced = [self.leaves[i] for i in self.places]
        self.dims = [self.axes[i] for i in self.places]
        pairs = zip(self.traced, self.dims, strict=True)
        self.members = [aval_of(x) if d is None else _member(aval_of(x), d) for x, d in pairs]

    def _normal(self, axis: Any, leaf: Any, name: str) -> int:
        aval = aval_of(leaf)
        if isinstance(axis, bool) or not isinstance(axis, (int, np.integer)):
            raise TransformTypeError(
                f"vmap: in_axes must hold ints and None, but got {describe(axis)} for {name}. "
                "Give the number of the axis to map over."
            )
        axis = int(axis)
        if not -aval.ndim <= axis < aval.ndim:
            remedy = "Put None in its place in in_axes, so that every call gets it whole."
            if aval.ndim:
                remedy = f"Its axes are {-aval.ndim} to {aval.ndim - 1}."
            raise ShapeError(
                f"vmap: {name} is {describe(self.leaves[-1])}, which has no axis {axis} to map "
                f"over. {remedy}"
            )
        return axis % aval.ndim

    def axis_size(self, given: int | None) -> int:
        """The size that all mapped axes share."""
        sizes = [
            (aval_of(x).shape[d], n, d)
            for x, d, n in zip(self.leaves, self.axes, self.names, strict=True)
            if d is not None
        ]
        if not sizes and given is None:
            raise TransformTypeError(
                f"vmap: no argument of {name_of(self.f)} is mapped ({where(self.f)}). Give in_axes "
                "an int for at least one of them, or say how many members there are: axis_size=n."
            )
        distinct = {s for s, _, _ in sizes} | ({given} if given is not None else set())
        if len(distinct) > 1:
            listing = " and ".join(f"axis {d} of {n} has size {s}" for s, n, d in sizes)
            also = "" if given is None else f", and axis_size={given} was given"
            raise ShapeError(
                f"vmap: mapped axes must have one size, but {listing}{also}. Put None in the place "
                "of an argument in in_axes if every call should get it whole."
            )
        return distinct.pop()

    def stage(self, flat: Callable[[Any], list[Any]], axis: MappedAxis) -> Staged:
        """Trace the function on one member; `flat` takes its result apart."""
        return stage(
            lambda *xs: flat(self._apply(xs)),
            self.traced,
            user=self.f,
            purpose="vmap",
            avals=self.members,
            known=[d is None for d in self.dims],
            axis=axis,
            names=[self.names[i] for i in self.places],
        )

    def _apply(self, xs: Sequence[Any]) -> Any:
        leaves = list(self.leaves)
        for i, x in zip(self.places, xs, strict=True):
            leaves[i] = x
        args, kwargs = tree.unflatten(self.treedef, leaves)
        return self.f(*args, **kwargs)


def _is_plain_array(leaf: Any) -> bool:
    return type(leaf) is np.ndarray and leaf.dtype.kind in "biufc"


def _name(f: Function, path: tree.KeyPath) -> str:
    section, place = path[0].idx, path[1]  # type: ignore[union-attr]
    base = argument_name(f, place.idx) if section == 0 else f"argument {place.key!r}"  # type: ignore[union-attr]
    return f"{base}{tree.keystr(path[2:])} of {name_of(f)}"


def _spread(prefix: Any, value: Any, f: Function, what: str, like: str) -> list[Any]:
    """One axis for each leaf of `value`, from a prefix of its tree, whose leaves may be None.

    `what` names the prefix and `like` the value in messages about `f`.
    """
    if prefix is None or isinstance(prefix, int):
        return [prefix] * len(tree.leaves(value))
    try:
        return tree.broadcast(prefix, value, is_leaf=lambda x: x is None)
    except TreeError as error:
        raise TransformTypeError(
            f"{what} must be an int, None or a pytree like {like}, but {_differs(error)} "
            f"({where(f)}). One axis for a container serves all that is in it."
        ) from None


def _differs(error: TreeError) -> str:
    """How two trees differ, as the end of a sentence."""
    return error.reason.replace("The trees differ", "they differ").rstrip(".")


def _out_dims(out_axes: Any, out_tree: tree.PyTreeDef, f: Function) -> list[int | None]:
    if out_axes is None or isinstance(out_axes, int):
        return [out_axes] * out_tree.num_leaves
    value = tree.unflatten(out_tree, [0] * out_tree.num_leaves)
    return _spread(out_axes, value, f, "vmap: out_axes", f"the result of {name_of(f)}")


def _member(aval: Aval, dim: int) -> Aval:
    """The aval of one member of an array mapped along `dim`."""
    return Aval(aval.shape[:dim] + aval.shape[dim + 1 :], aval.dtype)


def _require_unmapped(found: Sequence[int | None], wanted: list[int | None], f: Function) -> None:
    for i, (d, w) in enumerate(zip(found, wanted, strict=True)):
        if w is None and d is not None:
            raise TransformTypeError(
                f"vmap: out_axes is None for result {i} of {name_of(f)}, but it differs between "
                f"the members ({where(f)}). Give it an axis, or reduce it over the mapped axis."
            )


@derived
def _placed(jaxpr: Jaxpr, axis: MappedAxis, wanted: tuple[int | None, ...]) -> Jaxpr:
    """The batched jaxpr with its mapped outputs moved from axis 0 to where they are wanted."""

    def walk(*args: Any) -> list[Any]:
        outs = eval_jaxpr(jaxpr, args)
        return [
            o if w is None else move_to(o, axis, 0, _position(w, aval_of(o), "vmap: out_axes"))
            for o, w in zip(outs, wanted, strict=True)
        ]

    return stage_walk(walk, jaxpr.in_avals, "vmap")


def _position(wanted: Any, aval: Aval, what: str) -> int:
    if isinstance(wanted, bool) or not isinstance(wanted, (int, np.integer)):
        raise TransformTypeError(
            f"{what} must hold ints and None, but got {describe(wanted)}. Give the place of the "
            "mapped axis in the result."
        )
    if not -aval.ndim <= wanted < aval.ndim:
        raise ShapeError(
            f"{what}={wanted} is out of range for a result that is {describe(aval)} with the "
            f"mapped axis. Its axes are {-aval.ndim} to {aval.ndim - 1}."
        )
    return int(wanted) % aval.ndim
