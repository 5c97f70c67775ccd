"""In-place writes on tracers: views see writes to their base and the reverse, as in NumPy.

A write replaces the node of the array and at once that of every live view. Which elements a view
covers is asked of NumPy itself, on a stand-in array that is never read.
"""

from __future__ import annotations

import weakref
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from functrans import surface
from functrans.errors import DtypeError, MutationError, describe, user_frame, where
from functrans.memo.fast import provide_views
from functrans.memo.keys import Numbers, Opaque, static_key
from functrans.primitives.structural import complex as complex_of
from functrans.primitives.structural import imag, real
from functrans.surface.indexing import SameView, put
from functrans.tracing import Tracer
from functrans.typing import ArrayLike


class View:
    """How a view comes from its parent: `function(parent)`."""

    __slots__ = ("function", "parent")

    def __init__(self, parent: Tracer, function: Callable[[Any], Any]) -> None:
        self.parent = parent
        self.function = function


def as_view(result: Any, parent: Any, function: Callable[[Any], Any]) -> Any:
    """Note that `result` is `function(parent)`, which NumPy may compute as a view.

    Called for every function declared as returning views. Views of arguments and of captured
    arrays are as read-only as those are.
    """
    if (
        type(result) is not Tracer
        or type(parent) is not Tracer
        or result.recorder is not parent.recorder
    ):
        return result
    if result is parent:
        result = parent.snapshot(parent.origin)
    if result.shape == () and not _is_traced(function):
        seen = function(np.empty(parent.shape, parent.dtype))
        result.scalar = not isinstance(seen, np.ndarray)
    if parent.origin != "made":
        result.origin = parent.origin
        return result
    note_view(result, parent, function)
    return result


def note_view(view: Tracer, parent: Tracer, function: Callable[[Any], Any]) -> None:
    """Note how an array made inside the function is a view of another."""
    view.link = View(parent, function)
    views = parent.views
    if views is None:
        views = parent.views = []
    elif len(views) >= 8 and not len(views) & (len(views) - 1):
        views[:] = [ref for ref in views if ref() is not None]
    views.append(weakref.ref(view))


def as_created(result: Any) -> Any:
    """Note that `result` is a new array: writes to an operand do not reach it, and a 0-d one is an
    array, not a NumPy scalar."""
    result = as_fresh(result)
    if type(result) is Tracer:
        result.scalar = False
    return result


def as_fresh(result: Any) -> Any:
    """A result that is the operand itself, as an array of its own."""
    return result.snapshot() if type(result) is Tracer else result


def as_captured(result: Any) -> Any:
    """Note that `result` stands for an array from outside."""
    if type(result) is Tracer:
        result.origin = "captured"
    return result


def write(self: Tracer, index: Any, value: Any) -> None:
    """`x[index] = value`."""
    if self.scalar:
        raise TypeError(f"'numpy.{self.dtype.name}' object does not support item assignment")
    self.recorder.require_current(self, "written to")
    require_writable(self)
    if _is_view_at(value, self, index):
        return  # the second half of `x[index] += v`, whose first has written to the view
    updated = written(self, index if type(index) is tuple else (index,), value)
    write_through(self, updated)


@surface.declare.surface(name="__setitem__", numbers=Numbers.MET)
def written(x: ArrayLike, index: tuple[Any, ...], value: ArrayLike, /) -> Any:
    """A copy of the array x as it is after `x[index] = value`."""
    result = put(x, index[0] if len(index) == 1 else index, value)
    if type(result) is Tracer:
        result.scalar = False
    return result


written.declaration.writes = True


class Flat:
    """`x.flat`: the elements of an array in C order, to be read as copies and to be written."""

    __slots__ = ("_array",)

    def __init__(self, array: Tracer) -> None:
        self._array = array

    def __len__(self) -> int:
        return self._array.size

    def __iter__(self) -> Iterator[Any]:
        return iter(self._array.snapshot().reshape(-1))

    def __getitem__(self, index: Any) -> Any:
        return self._array.snapshot().reshape(-1)[index]

    def __setitem__(self, index: Any, value: Any) -> None:
        flat = self._array.snapshot().reshape(-1)
        if np.ndim(value):  # NumPy writes the elements in turn, and again from the first
            value = np.resize(value, flat[index].shape)
        write(self._array, ..., put(flat, index, value).reshape(self._array.shape))


def set_flat(self: Tracer, value: Any) -> None:
    """`x.flat = v`."""
    Flat(self)[:] = value


def fill(self: Tracer, value: Any) -> None:
    """Set every element to `value`, in place."""
    self[...] = value


def sort(self: Tracer, axis: int = -1, **options: Any) -> None:
    """Sort along an axis, in place."""
    self[...] = np.sort(self, axis, **options)  # type: ignore[call-overload]


def delete(self: Tracer, index: Any) -> None:
    """`del x[index]`, which arrays do not have."""
    raise MutationError(
        f"elements of an array cannot be deleted (in {where(user_frame())}). Use numpy.delete, or "
        "a slice."
    )


def require_writable(tracer: Tracer) -> None:
    """Raise MutationError for arguments, captured arrays and views of them."""
    if tracer.origin == "made":
        return
    whose = "an argument" if tracer.origin == "argument" else "a captured array"
    raise MutationError(
        f"{describe(tracer)} is {whose} of a function being transformed and cannot be written to "
        f"in place (in {where(user_frame())}): the caller's array must not change. Write to a copy "
        "(y = x.copy(); y[i] = v), or use functrans.numpy.at(x)[i].set(v), which returns a new one."
    )


def _is_view_at(value: Any, array: Tracer, index: Any) -> bool:
    """Is the value the view array[index] of the array itself?"""
    link = value.link if type(value) is Tracer else None
    if link is None or link.parent is not array or type(link.function) is not SameView:
        return False
    try:
        return bool(static_key(link.function.index) == static_key(index))
    except Opaque:
        return False


def write_through(view: Tracer, updated: Tracer) -> None:
    """Write the new value of an array to the one it is a view of, then refresh every view.

    Through a view at an index it is a write at that index. Which elements another one covers is
    asked of NumPy itself: the same view of an array of positions. Where NumPy would have copied,
    the "view" is an array of its own.
    """
    at, whole = view, updated
    while at.link is not None and type(at.link.function) is SameView:
        index = at.link.function.index
        at = at.link.parent
        whole = written(at, index if type(index) is tuple else (index,), whole)
    if at.link is not None:
        _write_elsewhere(at, whole)
        return
    at.become(whole)
    if at is not view:
        view.become(updated)
    refresh_views(at, known=view)


def _write_elsewhere(view: Tracer, updated: Tracer) -> None:
    """Write through a view that was not taken by an index."""
    chain = [view]
    while chain[-1].link is not None:
        chain.append(chain[-1].link.parent)
    root = chain.pop()
    positions = _positions(root)
    for step in reversed(chain):
        assert step.link is not None
        seen = step.link.function(positions)
        if not _is_view(step.link.function, positions, seen):
            _detach(step)
            if step is view:
                view.become(updated)
                refresh_views(view)
            else:
                write_through(view, updated)
            return
        positions = seen
    root.become(_written(root, positions, updated))
    refresh_views(root)


def _positions(root: Tracer) -> Any:
    """A number for each element; the parts of a complex element i have their own, 2i and 2i + 1."""
    numbers: Any = np.arange(root.size)
    if root.dtype.kind == "c":
        numbers = 2 * numbers + 1j * (2 * numbers + 1)
    return numbers.reshape(root.shape)


def _written(root: Tracer, positions: Any, updated: Tracer) -> Any:
    """The array with new values at the positions that a view of it covers."""
    flat, values = root.reshape(-1), updated.reshape(-1)
    if root.dtype.kind != "c":
        flat = put(flat, positions.reshape(-1), values)
    elif positions.dtype.kind == "c":
        flat = put(flat, positions.real.astype(int).reshape(-1) // 2, values)
    else:
        numbers = positions.astype(int).reshape(-1)
        parts = [real(flat), imag(flat)]
        which = int(numbers[0]) % 2 if numbers.size else 0
        parts[which] = put(parts[which], numbers // 2, values)
        flat = complex_of(*parts)
    return flat.reshape(root.shape)


def _is_view(function: Callable[[Any], Any], base: Any, seen: Any) -> bool:
    """Is `seen`, which is `function(base)`, a view? Taken at a traced index it always is."""
    if _is_traced(function) or type(base) is Tracer:
        return True
    return isinstance(seen, np.ndarray) and np.may_share_memory(seen, base)


def _is_traced(function: Callable[[Any], Any]) -> bool:
    """Does it take a row at an index whose value is not known?"""
    return getattr(function, "traced", False)


def _detach(view: Tracer) -> None:
    """Make an array of its own of what NumPy would have copied."""
    assert view.link is not None
    siblings = view.link.parent.views
    if siblings is not None:
        siblings[:] = [ref for ref in siblings if ref() is not view]
    view.link = None


def refresh_views(
    base: Tracer, stand_in: np.ndarray[Any, Any] | None = None, known: Tracer | None = None
) -> None:
    """Recompute every live view of an array that was written to, but one that is `known`.

    `stand_in` has the layout of the array in NumPy's memory (C order unless it is a view), so
    that NumPy can say what of it would be a view and what a copy.
    """
    if base.views is None:
        return
    if stand_in is None:
        stand_in = np.empty(base.shape, base.dtype)
    for ref in list(base.views):
        view = ref()
        if view is None or view.link is None or view.recorder.is_forgotten(view):
            continue
        function = view.link.function
        seen = None if _is_traced(function) else function(stand_in)
        if _is_view(function, stand_in, seen):
            if view is not known:
                view.become(function(base))
            refresh_views(view, seen, known)
        elif base.size:
            _detach(view)


def _in_place(operator: Callable[[Any, Any], Any], symbol: str) -> Callable[[Tracer, Any], Any]:
    """`x += v` and its like: a write for arrays, a rebinding for NumPy scalars."""

    def apply(self: Tracer, other: Any) -> Any:
        result = operator(self, other)
        if self.scalar:
            return result
        if not np.can_cast(result.dtype, self.dtype, casting="same_kind"):
            raise DtypeError(
                f"x {symbol} y: cannot cast the result from {result.dtype} to {self.dtype}, the "
                f"dtype of the array being written to (in {where(user_frame())}). Make it with a "
                "float dtype, or "
                f"write x = x {symbol[:-1]} y."
            )
        self[...] = result
        return self

    return apply


def _install() -> None:
    """Give Tracer its writing operators, and the surface what notes views and new arrays."""
    setattr(Tracer, "__setitem__", write)  # noqa: B010  # put here from above
    setattr(Tracer, "flat", property(Flat, set_flat))  # noqa: B010
    setattr(Tracer, "fill", fill)  # noqa: B010
    setattr(Tracer, "sort", sort)  # noqa: B010
    setattr(Tracer, "__delitem__", delete)  # noqa: B010
    for symbol, name in _IN_PLACE.items():
        setattr(Tracer, f"__i{name}__", _in_place(surface.operators[f"__{name}__"], symbol))
    provide_views(note_view)
    surface.declare.hooks.view = as_view
    surface.declare.hooks.created = as_created
    surface.declare.hooks.captured = as_captured
    surface.declare.hooks.fresh = as_fresh


_IN_PLACE = {
    "+=": "add",
    "-=": "sub",
    "*=": "mul",
    "/=": "truediv",
    "//=": "floordiv",
    "%=": "mod",
    "**=": "pow",
    "@=": "matmul",
    "&=": "and",
    "|=": "or",
    "^=": "xor",
    "<<=": "lshift",
    ">>=": "rshift",
}

_install()
