"""Quick calls: gradients of calls like earlier ones, with as little as can be around the trace.

A call is like an earlier one where the arguments to differentiate have its tree and types. All that
is known of these is looked up at once. What is traced may still be new: then the trace goes on as
any other does.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np

from functrans import tree
from functrans.api.border import Function, Staged, ended, is_scalar
from functrans.api.results import AuxOutput
from functrans.api.tape import Tape
from functrans.bind import TRACING, current_interpreter, enter, in_force
from functrans.errors import place_of
from functrans.ir import aval_of
from functrans.memo.keys import kind_of
from functrans.memo.trie import Leaf, Root
from functrans.recording import Argument, Trace, ambient_axes, root_of
from functrans.tracing import Tracer

_ONE = tree.structure([0]).exact_key
"""The result's tree, as far as the memo is concerned, of a function that returns one leaf."""


class Signature(NamedTuple):
    """Arguments like those of an earlier call: where traces begin, and what messages call them."""

    root: Root
    names: list[str]
    flags: list[bool]


class Quick:
    """The earlier calls of one transformed function; its argument at `place` is differentiated."""

    __slots__ = ("_f", "_known", "_purpose", "place")

    def __init__(self, f: Function, place: int, purpose: str) -> None:
        self.place = place
        self._f, self._purpose = f, purpose
        if len(_known) >= MOST_FUNCTIONS:
            _known.clear()
        function = (place_of(f), purpose, place)
        try:
            self._known: dict[Any, Signature] = _known.setdefault(function, {})
        except TypeError:
            self._known = {}

    def given(
        self, args: tuple[Any, ...]
    ) -> tuple[Signature, list[Any], tree.PyTreeDef | None] | None:
        """What is known of a call like an earlier one, its leaves, and their tree; None for one
        leaf."""
        if self.place >= len(args):
            return None
        value = args[self.place]
        cls = type(value)
        leaves: list[Any] = [value]
        treedef = None
        if cls is float or cls is np.float64:
            key: Any = cls
        elif cls is np.ndarray:
            key = (value.dtype, value.shape)
        elif cls is Tracer:
            key = _tracer_key(value)
        else:
            leaves, treedef = tree.flatten(value)
            key = _tree_key(leaves, treedef)
        signature = self._known.get(key)
        if signature is None or not signature.root.kept:
            return None
        return signature, leaves, treedef

    def learn(self, value: Any, names: list[str]) -> None:
        """Note a call that went well."""
        leaves, treedef = tree.flatten(value)
        if type(value) is Tracer:
            key: Any = _tracer_key(value)
        else:
            key = _tree_key(leaves, treedef)
            if key is None:
                return
            if treedef is tree.structure(0):
                key = key[1]
        if len(self._known) >= MOST_SIGNATURES:
            self._known.clear()
        arguments = [Argument(aval_of(x), x, True, is_scalar(x), None) for x in leaves]
        root = root_of(self._f, self._purpose, arguments, None, current_interpreter())
        self._known[key] = Signature(root, names, [True] * len(leaves))

    def trace(
        self,
        signature: Signature,
        leaves: list[Any],
        treedef: tree.PyTreeDef | None,
        args: tuple[Any, ...],
        flat: Callable[[Any], list[Any]] | None,
        taped: bool = True,
    ) -> tuple[Trace, Tape, Leaf | Staged]:
        """Trace the call: its leaf in the memo, or the staged program. `flat` takes the result
        apart; None where it must be one leaf. Not `taped`, what is run for an ask is traced too."""
        trace = Trace(self._purpose, root=signature.root)
        tape = Tape(signature.flags)
        outer = enter(trace)
        try:
            if taped and outer.parent is None:
                trace.tape = tape
            if treedef is None:
                tracers = [trace.expected_argument(leaves[0], signature.names[0])]
                value: Any = tracers[0]
            else:
                expected = trace.expected_argument
                names = signature.names
                tracers = [expected(leaf, names[i]) for i, leaf in enumerate(leaves)]
                value = treedef.unflatten(tracers)
            place = self.place
            if len(args) == 1:
                result = self._f(value)
            else:
                result = self._f(*args[:place], value, *args[place + 1 :])
            if flat is None:
                if type(result) is Tracer and result.recorder is trace and not trace.restarted:
                    leaf = trace.cursor.end((_ONE, result.slot))
                    if leaf is not None and len(trace.ins) == leaf.inputs:
                        trace.known()
                        return trace, tape, leaf
                flat = AuxOutput(self._f, False, self._purpose).split_scalar
            return trace, tape, ended(trace, tracers, flat(result), self._f)
        except BaseException:
            trace.release()
            raise
        finally:
            in_force.interpreter = outer
            TRACING[0] -= 1
            trace.close()
            if outer.parent is not None:
                outer.resume()


MOST_SIGNATURES, MOST_FUNCTIONS = 64, 4096
_known: dict[Any, dict[Any, Signature]] = {}
"""The signatures that were met, by the code of the function: one made anew at each call has the
same."""


def _tracer_key(tracer: Tracer) -> Any:
    """What decides where the traces of a nested transform begin."""
    return kind_of(tracer), ambient_axes()


def _tree_key(leaves: Sequence[Any], treedef: tree.PyTreeDef) -> tuple[Any, ...] | None:
    """The tree and the types of leaves; None where one is not an array or a floating scalar."""
    kinds: list[Any] = []
    for leaf in leaves:
        cls = type(leaf)
        if cls is np.ndarray:
            kinds.append((leaf.dtype, leaf.shape))
        elif cls is float or issubclass(cls, np.inexact):
            kinds.append(cls)
        else:
            return None
    try:
        hash(treedef)
    except TypeError:
        return None
    return (treedef, *kinds)
