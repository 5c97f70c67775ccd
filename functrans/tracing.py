"""Tracers: stand for arrays while a function is staged, and behave as NumPy arrays do.

A tracer is a cell whose node is its current value: an in-place write (views.py) replaces it, so
that reading stays one attribute.
"""

from __future__ import annotations

import math
import weakref
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

import numpy as np

from functrans import surface, tree
from functrans.errors import (
    ConcretizationError,
    MissingAttributeError,
    UnsupportedError,
    describe,
    user_frame,
    where,
)
from functrans.ir import Array, Aval, Source, Var
from functrans.memo.fast import provide_tracer_class
from functrans.memo.keys import provide_tracer
from functrans.surface.declare import NUMPY_TABLE

# What to do instead of asking for a value, as messages say it.
CHOOSE = (
    "Use functrans.numpy.where or lax.cond for a choice, lax.while_loop or lax.fori_loop for a loop"
)
COUNT = (
    "Use lax.fori_loop for a loop, lax.dynamic_slice for a slice, fnp.array(items)[i] for an item "
    "of a list; a size must be known without it"
)
ROUND = "Use numpy.floor, numpy.ceil or numpy.trunc, whose results are arrays"
RETURN = "Return it from the function instead"
MATHS = (
    "Use NumPy's functions in place of math's (np.sin(x)), and functrans.numpy to make arrays of "
    "it (fnp.array([x, y]), fnp.zeros(n))"
)
ARRAYS = "Use functrans.numpy to make arrays of it (fnp.array([x, y]), fnp.zeros(n), fnp.stack)"
MASKS = "Shapes cannot depend on values: use fnp.where(mask, x, 0) in place of x[mask]"
INDICES = (
    "A plain array that is indexed by it must take part: fnp.array(a)[i] in place of a[i]. "
    + ARRAYS
)


_LATE = frozenset({"node", "origin", "scalar", "link", "views"})


class Node:
    """A value while it is traced: what the tracers that stand for it share.

    var      its variable in the trace
    value    its value in the enclosing interpreter, once known
    abstract does it depend on an abstract input, so that it cannot be asked for?
    active   does it carry a derivative of an enclosing transform?
    cell     its number among the values that carry a derivative in a trace that is run segment by
             segment; -1 for others
    slot     what the memo knew it as, before such a segment ended

    Of the value of a segment that the memo knew it has the last two and the value only: the others
    follow when they are asked for.
    """

    __slots__ = ("__weakref__", "abstract", "active", "cell", "slot", "value", "var")

    def __init__(self, var: Var, value: Any, abstract: bool, active: bool) -> None:
        self.var = var
        self.value = value
        self.abstract = abstract
        self.active = active
        self.cell = -1
        self.slot: Any = None

    def __getattr__(self, name: str) -> Any:
        """What is not set yet of the value of a known segment."""
        slot: Any = object.__getattribute__(self, "slot")
        self.var, self.abstract, self.active = Var(slot.aval), False, slot.active
        return object.__getattribute__(self, name)


class Tracer(Array):
    """Stands for an array while a function is staged. Never made by users.

    recorder the trace it belongs to, which answers for it (recording.py)
    slot     what the memo knows it as; None for what the memo does not know
    node     its current value there
    origin   "made" inside the trace, an "argument", or "captured"
    scalar   is it what NumPy would return as a scalar (immutable), not a 0-d array?
    link     how it comes from the array it is a view of, if it is one; see views.py
    views    weak references to the views of it

    Of a trace that follows the memo it has the first two only; the others are set when they are
    asked for.
    """

    __slots__ = ("__weakref__", "link", "node", "origin", "recorder", "scalar", "slot", "views")
    __hash__ = None  # type: ignore[assignment]  # as arrays: equality is elementwise
    __array_priority__ = 1000.0

    def __init__(self, recorder: Any, node: Node, origin: str = "made") -> None:
        self.recorder = recorder
        self.slot: Any = None
        self.node = node
        self.origin = origin
        self.scalar = node.var.aval.shape == ()
        self.link: Any = None
        self.views: list[weakref.ref[Tracer]] | None = None

    if TYPE_CHECKING:
        # The operators and methods of ndarray, which are installed from the surface below.
        def __getitem__(self, index: Any) -> Any: ...
        def __setitem__(self, index: Any, value: Any) -> None: ...

    def __getattr__(self, name: str) -> Any:
        """What is reached when there is no such attribute: an error that says what there is."""
        if name in _LATE:
            return self.recorder.attribute(self, name)
        if name.startswith("__"):
            raise AttributeError(name)
        if hasattr(np.ndarray, name):
            raise MissingAttributeError(
                f"the attribute {name!r} of arrays is not supported on values that are being "
                f"traced (in {where(user_frame())}). Do this outside of the traced function, on "
                "what it returns."
            )
        raise MissingAttributeError(
            f"a traced {describe(self)} has no attribute {name!r} (in {where(user_frame())}). It "
            "has those of numpy.ndarray, and x.at."
        )

    # -- what it is ---------------------------------------------------------------------------

    @property
    def aval(self) -> Aval:
        slot = self.slot
        return self.node.var.aval if slot is None else slot.aval

    @property
    def abstract(self) -> bool:
        """Does it depend on an abstract input?"""
        slot = self.slot
        return self.node.abstract if slot is None else slot.abstract

    @property
    def active(self) -> bool:
        """Does it carry a derivative of an enclosing transform?"""
        slot = self.slot
        return self.node.active if slot is None else slot.active

    @property
    def shape(self) -> tuple[int, ...]:
        slot = self.slot
        return self.node.var.aval.shape if slot is None else slot.aval.shape

    @property
    def dtype(self) -> np.dtype[Any]:
        slot = self.slot
        return self.node.var.aval.dtype if slot is None else slot.aval.dtype

    @property
    def ndim(self) -> int:
        return len(self.shape)

    @property
    def size(self) -> int:
        return self.aval.size

    @property
    def itemsize(self) -> int:
        return self.dtype.itemsize

    @property
    def nbytes(self) -> int:
        return self.size * self.itemsize

    def __len__(self) -> int:
        if not self.shape:
            raise TypeError("len() of unsized object")
        return self.shape[0]

    def __iter__(self) -> Iterator[Any]:
        if not self.shape:
            raise TypeError("iteration over a 0-d array")
        return (self[i] for i in range(self.shape[0]))

    # -- asking for its value -----------------------------------------------------------------

    def _ask(self, remedy: str) -> np.ndarray[Any, Any]:
        return np.asarray(self.recorder.force(self, remedy))

    def __bool__(self) -> bool:
        return self.recorder.decide(self, CHOOSE)

    def __int__(self) -> int:
        return int(self._ask(COUNT))

    def __index__(self) -> int:
        if self.shape or self.dtype.kind not in "iu":
            raise UnsupportedError(
                f"a traced {describe(self)} cannot be an index, a size or a count, which are "
                f"integers (in {where(user_frame())}). Convert it with int(x), or an array with "
                "x.astype(int)."
            )
        return int(self._ask(COUNT))

    def __round__(self, ndigits: int | None = None) -> Any:
        """As of a Python float: an int, or with `ndigits` a float."""
        return round(self.item()) if ndigits is None else np.round(self, ndigits)

    def __floor__(self) -> int:
        return math.floor(self._ask(ROUND))

    def __ceil__(self) -> int:
        return math.ceil(self._ask(ROUND))

    def __trunc__(self) -> int:
        return math.trunc(self._ask(ROUND).item())

    def item(self, *args: Any) -> Any:
        """The value as a Python scalar. It is a constant for derivatives."""
        return self._ask(RETURN).item(*args)

    def tolist(self) -> Any:
        """The values as nested Python lists. They are constants for derivatives."""
        return self._ask(RETURN).tolist()

    def __contains__(self, value: Any) -> bool:
        return bool((self == value).any())

    def __float__(self) -> float:
        return float(self._ask_without_derivative("float(x)", MATHS))

    def __complex__(self) -> complex:
        return complex(self._ask_without_derivative("complex(x)", MATHS))

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray[Any, Any]:
        remedy = {"b": MASKS, "i": INDICES, "u": INDICES}.get(self.dtype.kind, ARRAYS)
        return np.array(self._ask_without_derivative("a plain array", remedy), dtype=dtype)

    def _ask_without_derivative(self, what: str, remedy: str) -> np.ndarray[Any, Any]:
        self.recorder.require_usable(self)
        if self.active and not self.abstract:
            raise ConcretizationError(
                f"{what} of a traced {describe(self)} that carries a derivative would silently "
                f"lose it (in {where(user_frame())}). {remedy}, or say that no derivative is "
                "wanted: x.item() or functrans.stop_gradient(x)."
            )
        return self._ask(remedy)

    def __format__(self, spec: str) -> str:
        if self.abstract:
            return repr(self)
        value = self._ask(RETURN)
        return format(value.item() if value.ndim == 0 else value, spec)

    def __repr__(self) -> str:
        return f"Tracer<{self.aval}>"

    def __str__(self) -> str:
        return repr(self) if self.abstract else str(self._ask(RETURN))

    # -- NumPy's protocols --------------------------------------------------------------------

    def __array_ufunc__(self, ufunc: Any, method: str, *inputs: Any, **kwargs: Any) -> Any:
        function = _declared(ufunc) if method == "__call__" else _ufunc_method(ufunc, method)
        if function is None and method != "at" and _are_plain((inputs, kwargs)):
            return getattr(ufunc, method)(*_plain(inputs), **_plain(kwargs))
        if function is None:
            known = getattr(np, ufunc.__name__, None) is ufunc
            name = f"numpy.{ufunc.__name__}" if known else f"the ufunc {ufunc.__name__}"
            raise _unsupported(name + _suffix(method))
        return function(*inputs, **kwargs)

    def __array_function__(self, func: Any, types: Any, args: Any, kwargs: Any) -> Any:
        function = _declared(func)
        if function is None and _are_plain((args, kwargs)):
            return func(*_plain(args), **_plain(kwargs))
        if function is None:
            raise _unsupported(f"{func.__module__}.{func.__name__}")
        return function(*args, **kwargs)

    def snapshot(self, origin: str = "made") -> Tracer:
        """Another tracer for the present value, which later writes to this one do not reach."""
        copy = self.recorder.copied(self)
        copy.origin = origin
        copy.scalar = self.scalar
        return copy

    def become(self, other: Tracer) -> None:
        """Take the value of another tracer: what an in-place write does."""
        self.recorder.rewrite(self, other)

    @property
    def at(self) -> Any:
        """`x.at[i].set(v)`: functional updates; on plain arrays use `functrans.numpy.at(x)`."""
        return surface.at(self)


def _declared(numpy_function: Any) -> Callable[..., Any] | None:
    """What stands for a NumPy function; the library is imported when the core does not know it."""
    found = NUMPY_TABLE.get(numpy_function)
    if found is None:
        surface.declare.hooks.load_library(None)
        found = NUMPY_TABLE.get(numpy_function)
    return found or surface.declare.hooks.foreign(numpy_function)


def _ufunc_method(ufunc: Any, method: str) -> Callable[..., Any] | None:
    return surface.declare.UFUNC_METHODS.get((ufunc, method))


def _are_plain(arguments: tuple[Any, dict[str, Any]]) -> bool:
    """Can NumPy itself be called: is the value of every tracer known, and free of derivatives?

    Not where a tracer is to be written to.
    """
    kwargs, found = arguments[1], tree.leaves(arguments)
    writes = any(type(x) is Tracer for x in tree.leaves(kwargs.get("out")))
    return not writes and all(type(x) is not Tracer or not (x.abstract or x.active) for x in found)


def _plain(arguments: Any) -> Any:
    """The arguments with values in the place of tracers."""
    return tree.map(_plain_leaf, arguments)


def _plain_leaf(value: Any) -> Any:
    return np.asarray(value)[()] if type(value) is Tracer else value


def _suffix(method: str) -> str:
    return "" if method == "__call__" else f".{method}"


def _unsupported(name: str) -> UnsupportedError:
    source: Source | None = user_frame()
    return UnsupportedError(
        f"{name} is not supported on values that are being traced (in {where(source)}). "
        "See functrans.numpy for what is; for a value that needs no derivative, pass "
        "numpy.asarray(functrans.stop_gradient(x))."
    )


def _install() -> None:
    """Give Tracer the operators and methods of ndarray, all of them surface functions."""
    for name, function in surface.operators.items():
        setattr(Tracer, name, function)
    for name, function in surface.methods.items():
        setattr(Tracer, name, function)
    for name, function in surface.attributes.items():
        setattr(Tracer, name, property(function))


_install()
provide_tracer(Tracer)
provide_tracer_class(Tracer)
