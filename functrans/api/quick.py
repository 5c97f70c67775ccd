"""Quick calls: transforms of calls like earlier ones, with as little as can be around the trace.

A call is like an earlier one where the arguments that are traced have its tree and types. All that
is known of these is looked up at once. What is traced may still be new: then the trace goes on as
any other does.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Sequence
from sys import getrefcount
from typing import Any, TypeAlias

import numpy as np

from functrans import tree
from functrans.api.border import Function, Staged, ended, is_scalar
from functrans.api.results import AuxOutput
from functrans.api.tape import Tape
from functrans.bind import TRACING, current_interpreter, enter, in_force, is_evaluating
from functrans.config import config
from functrans.errors import name_of, place_of
from functrans.ir import Aval, MappedAxis, aval_of, is_inexact
from functrans.memo.keys import kind_of
from functrans.memo.trie import Leaf, Root
from functrans.recording import Argument, Trace, root_of
from functrans.tracing import Tracer

_ONE = tree.structure([0]).exact_key
"""The result's tree, as far as the memo is concerned, of a function that returns one leaf."""

Places: TypeAlias = int | tuple[int, ...] | None
"""Which arguments are traced: one, several, or all, those given by name included."""


class Signature:
    """Leaves like those of an earlier call: what is known of them.

    root     where their traces begin
    name     what messages call the function, and `names` what they call the leaves
    flags    which carry a derivative
    axis     what the function is mapped over, along the axes `dims` of the leaves
    spare    traces that have ended, and that nothing refers to: they can begin again
    """

    __slots__ = ("avals", "axis", "dims", "flags", "name", "names", "root", "spare")

    def __init__(
        self,
        root: Root,
        name: str,
        names: list[str],
        avals: list[Aval],
        flags: list[bool],
        axis: MappedAxis | None,
        dims: Sequence[int | None],
    ) -> None:
        self.root, self.name, self.names = root, name, names
        self.avals, self.flags, self.axis, self.dims = avals, flags, axis, dims
        self.spare: list[Trace] = []

    def unmapped(self, leaves: list[Any]) -> list[Any]:
        """The leaves, None in the place of what a trace sees one member of."""
        return [x if d is None else None for x, d in zip(leaves, self.dims, strict=True)]

    def keep(self, trace: Trace) -> None:
        """Let a trace that has ended begin again, unless the user has kept something of it."""
        if getrefcount(trace) <= _ENDED and not trace.holds and len(self.spare) < MOST_SPARE:
            trace.parent = None
            if trace.restarted:
                trace.restarted, trace.tape = False, Tape(self.flags)
            self.spare.append(trace)


Call: TypeAlias = tuple[Signature, list[Any], tree.PyTreeDef | None]
"""A call like an earlier one: its leaves, and their tree; None for a single leaf."""


class Quick:
    """The earlier calls of one transformed function; its arguments at `places` are traced.

    `options` are what else decides how: functions with the same code and options share the calls.
    """

    __slots__ = ("_f", "_known", "_least", "_purpose", "places")

    def __init__(self, f: Function, places: Places, purpose: str, options: Hashable = ()) -> None:
        self.places = places
        self._f, self._purpose = f, purpose
        several = places if isinstance(places, tuple) else () if places is None else (places,)
        self._least = max(several, default=-1) + 1
        if len(_known) >= MOST_FUNCTIONS:
            _known.clear()
        try:
            function = (place_of(f), purpose, places, options)
            self._known: dict[Any, Signature] = _known.setdefault(function, {})
        except TypeError:
            self._known = {}

    def known(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Call | None:
        """A call like an earlier one; None where it is not, or the memo is not to be followed."""
        parent = in_force.interpreter
        if len(args) < self._least or not config.memo or not parent.memoised:
            return None
        places = self.places
        value = args[places] if type(places) is int else self._traced(args, kwargs)
        key, leaves, treedef = _taken_apart(value)
        if parent.parent is not None:
            key = key, parent.axes
        signature = self._known.get(key)
        if signature is None or not signature.root.kept:
            return None
        return signature, leaves, treedef

    def _traced(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        places = self.places
        if isinstance(places, int):
            return args[places]
        return (args, kwargs) if places is None else tuple([args[place] for place in places])

    def learn(
        self,
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
        names: list[str],
        axis: MappedAxis | None = None,
        dims: Sequence[int | None] = (),
        avals: Sequence[Aval] | None = None,
    ) -> None:
        """Note a call that went well. With `avals` its leaves are traced as such, those that are
        mapped without their values."""
        parent = current_interpreter()
        if not config.memo or not parent.memoised:
            return
        key, leaves, _ = _taken_apart(self._traced(args, kwargs))
        if key is None or not all(x.dtype.isnative for x in leaves if type(x) is np.ndarray):
            return
        if len(self._known) >= MOST_SIGNATURES:
            self._known.clear()
        types = list(avals) if avals is not None else [aval_of(x) for x in leaves]
        mapped = [d is not None for d in dims] if dims else [False] * len(leaves)
        flags = [not dims and is_inexact(a.dtype) for a in types]
        arguments = [
            Argument(t, None if m else x, flag, t.shape == () if dims else is_scalar(x), None)
            for x, t, m, flag in zip(leaves, types, mapped, flags, strict=True)
        ]
        root = root_of(self._f, self._purpose, arguments, axis, parent)
        signature = Signature(root, name_of(self._f), names, types, flags, axis, dims)
        self._known[key if parent.parent is None else (key, parent.axes)] = signature

    def trace(
        self,
        call: Call,
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
        flat: Callable[[Any], list[Any]] | None,
        taped: bool = True,
        alone: bool = False,
    ) -> tuple[Trace, Leaf | Staged]:
        """Trace the call: its leaf in the memo, or the staged program. `flat` takes the result
        apart; None where it must be one leaf. With `alone` a result that is one leaf need not be
        taken apart. Not `taped`, what is run for an ask is traced too."""
        trace = self._begun(call[0], taped)
        try:
            return trace, self._followed(trace, call, args, kwargs, flat, alone or flat is None)
        except BaseException:  # of the function, or an interrupt
            trace.release()
            raise

    def _followed(
        self,
        trace: Trace,
        call: Call,
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
        flat: Callable[[Any], list[Any]] | None,
        alone: bool,
    ) -> Leaf | Staged:
        """What becomes of the trace, which is in force meanwhile, and then ends."""
        signature, leaves, treedef = call
        outer = enter(trace)
        try:
            expected, names = trace.expected_argument, signature.names
            if treedef is None:
                value = expected(leaves[0], names[0])
                tracers = [value]
                alone = len(args) == 1 and not kwargs
                result = self._f(value) if alone else self._applied(value, args, kwargs)
            else:
                values = leaves if not signature.dims else signature.unmapped(leaves)
                tracers = [expected(value, names[i]) for i, value in enumerate(values)]
                result = self._applied(treedef.unflatten(tracers), args, kwargs)
            if alone and type(result) is Tracer and result.recorder is trace:
                leaf = trace.returned(result, _ONE)
                if leaf is not None:
                    return leaf
            if flat is None:
                flat = AuxOutput(self._f, False, self._purpose).split_scalar
            return ended(trace, tracers, flat(result), self._f)
        finally:
            in_force.interpreter = outer
            TRACING[0] -= 1
            trace.close()
            if outer.parent is not None:
                outer.resume()

    def _begun(self, signature: Signature, taped: bool) -> Trace:
        """A trace at the root."""
        try:
            trace = signature.spare.pop()
        except IndexError:
            trace = Trace(self._purpose, axis=signature.axis, root=signature.root)
            if taped and is_evaluating():
                trace.tape = Tape(signature.flags)
        else:
            trace.begin_again()
        return trace

    def _applied(self, value: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """The function on the arguments, with others in the place of those that are traced."""
        places = self.places
        if isinstance(places, int):
            if len(args) == 1:
                return self._f(value, **kwargs)
            return self._f(*args[:places], value, *args[places + 1 :], **kwargs)
        if places is None:
            args, kwargs = value
            return self._f(*args, **kwargs)
        given = list(args)
        for place, part in zip(places, value, strict=True):
            given[place] = part
        return self._f(*given, **kwargs)


MOST_SIGNATURES, MOST_FUNCTIONS, MOST_SPARE = 64, 4096, 4
_known: dict[Any, dict[Any, Signature]] = {}
"""The signatures that were met, by the code of the function: one made anew at each call has the
same."""


def _taken_apart(value: Any) -> tuple[Any, list[Any], tree.PyTreeDef | None]:
    """What tells the traces of a value, its leaves, and their tree, None for a single leaf. The
    key is None where a leaf is not an array or a floating scalar."""
    cls = type(value)
    if cls is float or cls is np.float64:
        return cls, [value], None
    if cls is np.ndarray:
        return (value.dtype, value.shape), [value], None
    if cls is Tracer:
        return kind_of(value), [value], None
    leaves, treedef = tree.flatten(value)
    kinds: list[Any] = [treedef]
    for leaf in leaves:
        cls = type(leaf)
        if cls is np.ndarray:
            kinds.append((leaf.dtype, leaf.shape))
        elif cls is Tracer:
            kinds.append(kind_of(leaf))
        elif cls is float or issubclass(cls, np.inexact):
            kinds.append(cls)
        else:
            return None, leaves, treedef
    try:
        hash(treedef)
    except TypeError:  # static data that cannot be hashed
        return None, leaves, treedef
    return tuple(kinds), leaves, treedef


def _references() -> int:
    """How many references `Signature.keep` counts of a trace that only its caller refers to."""

    def counted(x: object) -> int:
        return getrefcount(x)

    x = object()
    return counted(x)


_ENDED = _references()
