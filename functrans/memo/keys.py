"""Keys: what of an operation decides what it records, and what of it is an input of the program.

Own tracers stand in a key as their slots; tracers of enclosing traces, arrays and numbers in
operand position by their kind, and their values are inputs. All else is static: it is compared by
exact type and value, since True, 1 and 1.0 are equal, as are 0.0 and -0.0.
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import Enum
from typing import Any

import numpy as np

from functrans.ir import Aval, is_inexact
from functrans.memo.trie import Key, Slot


class Opaque(Exception):
    """No key tells what the operation does: its parts must be looked at one by one."""


class Numbers(Enum):
    """Which numbers in operand position are inputs of the program.

    STATIC  none, and arrays make the operation opaque
    ARRAYS  none, but arrays are
    MET     those given by position: floats, complex numbers and NumPy scalars; ints where they
            meet floating arrays, so that no range needs to be checked later
    EXACT   all: the operation asks for nothing but their avals
    """

    STATIC = 0
    ARRAYS = 1
    MET = 2
    EXACT = 3


class Kind:
    """What is known of a value from outside; one object for each combination.

    `plain`: a plain array is of this kind.
    """

    __slots__ = ("abstract", "active", "aval", "plain", "scalar")

    def __init__(self, aval: Aval, scalar: bool, abstract: bool, active: bool) -> None:
        self.aval = aval
        self.scalar = scalar
        self.abstract = abstract
        self.active = active
        self.plain = not (aval.weak or scalar or abstract or active)


_kinds: dict[tuple[Any, ...], Kind] = {}
MOST_KINDS = 100_000


def kind_for(aval: Aval, scalar: bool, abstract: bool, active: bool) -> Kind:
    """The kind of a tracer."""
    key = (aval.shape, aval.dtype, aval.weak, scalar, abstract, active)
    found = _kinds.get(key)
    if found is None:
        if len(_kinds) > MOST_KINDS:
            _kinds.clear()
        found = _kinds.setdefault(key, Kind(aval, scalar, abstract, active))
    return found


def slot_kind(slot: Slot) -> Kind:
    """The kind of a slot, found once."""
    kind = slot.kind
    if kind is None:
        kind = slot.kind = kind_for(slot.aval, slot.scalar, slot.abstract, slot.active)
    return kind


def kind_of(value: Any) -> Kind:
    """The kind of a tracer."""
    slot = value.slot
    if slot is not None and id(value) not in value.recorder.twins:
        return slot.kind or slot_kind(slot)
    return kind_for(value.aval, value.scalar, value.abstract, value.active)


def array_kind(array: np.ndarray[Any, Any]) -> Kind:
    """The kind of a plain array."""
    found = _kinds.get((array.shape, array.dtype))
    if found is None:
        aval = Aval(array.shape, array.dtype)
        found = _kinds.setdefault((array.shape, array.dtype), kind_for(aval, False, False, False))
    return found


_tracer: list[type[Any]] = []


def provide_tracer(cls: type[Any]) -> None:
    """Say what tracers are: their class lies above."""
    _tracer[:] = [cls]


_IMMUTABLE = (str, bytes, type, np.dtype, type(None), type(...), range, type(NotImplemented))
_EXACT_INT = 1 << 63


def static_key(value: Any) -> Any:
    """A key that only values of the same type and meaning share; Opaque where there is none."""
    kind = type(value)
    if kind is int or kind is bool or kind is str or value is None:
        return (kind, value)
    if kind is float:
        return (kind, value.hex())
    if kind is tuple or kind is list:
        return (kind, *[static_key(v) for v in value])
    if kind is slice:
        return (kind, static_key(value.start), static_key(value.stop), static_key(value.step))
    if kind is dict:
        return (kind, *[(static_key(k), static_key(v)) for k, v in value.items()])
    if kind is complex:
        return (kind, value.real.hex(), value.imag.hex())
    if isinstance(value, np.generic) and value.dtype.kind in "biufc":
        return (kind, value.tobytes())
    if isinstance(value, _IMMUTABLE):
        return (kind, value)
    if isinstance(value, Enum):
        return value
    raise Opaque


def param_key(value: Any) -> Any:
    """The key of a param of an equation: what is not data counts by identity."""
    try:
        return static_key(value)
    except Opaque:
        pass
    if isinstance(value, (tuple, list)):
        return (type(value), *[param_key(v) for v in value])
    if isinstance(value, (np.ndarray, *_tracer)):
        raise Opaque
    try:
        hash(value)
    except TypeError:
        raise Opaque from None
    return value


OLDER_FIRST = ("older", 0)
"""What an operand is in a key that is the first input of the operation again, a value of an earlier
segment."""


class Reader:
    """Reads the arguments of one operation.

    `inputs` are the values from outside, in order, and `places` their numbers among all values
    that were read; `own` are the trace's own tracers. While `nested`, numbers are static.
    """

    __slots__ = (
        "_args",
        "_numbers",
        "_older",
        "_tracer",
        "count",
        "inputs",
        "nested",
        "own",
        "places",
        "trace",
    )

    def __init__(self, trace: Any, numbers: Numbers, args: Any) -> None:
        self.trace = trace
        self._numbers = numbers
        self._args = args
        self._tracer = _tracer[0]
        self.nested = False
        self.count = 0
        self.own: list[Any] = []
        self._older: dict[int, int] = {}
        self.inputs: list[Any] = []
        self.places: list[int] = []

    def part(self, value: Any) -> Any:
        """What of the key an argument is."""
        cls = type(value)
        if cls is tuple or cls is list:
            outer, self.nested = self.nested, True
            parts = (cls, *[self.part(v) for v in value])
            self.nested = outer
            return parts
        self.count += 1
        if cls is self._tracer:
            return self._tracer_part(value)
        if cls is np.ndarray:
            if self._numbers is Numbers.STATIC or not _is_native(value.dtype):
                raise Opaque
            return self._input(value, array_kind(value))
        if self._is_input(value, cls):
            return self._input(value, cls)
        return static_key(value)

    def _input(self, value: Any, kind: Any) -> Any:
        self.inputs.append(value)
        self.places.append(self.count)
        return kind

    def _tracer_part(self, value: Any) -> Any:
        if value.recorder is self.trace:
            self.own.append(value)
            return self._older_part(value) if value.slot is None else value.slot
        if not self.trace.may_capture(value):
            raise Opaque
        return self._input(value, kind_of(value))

    def _older_part(self, value: Any) -> Any:
        """A value of an earlier segment is an input of this one, once for each call."""
        if not self.trace.is_older(value):
            raise Opaque
        seen = self._older.get(id(value))
        if seen is not None:
            return OLDER_FIRST if seen == 0 else ("older", seen)
        self._older[id(value)] = len(self.inputs)
        slot = value.node.slot
        kind = kind_of(value) if slot is None else slot_kind(slot)
        return self._input(value, kind)

    def _is_input(self, value: Any, cls: type[Any]) -> bool:
        """Is it a number that is an input? Inside sequences numbers do not promote as operands
        do: there they are static."""
        if self.nested or self._numbers is Numbers.STATIC or self._numbers is Numbers.ARRAYS:
            return False
        if cls is float or cls is complex:
            return True
        if cls is int:
            if not -_EXACT_INT <= value < _EXACT_INT:
                return False
            return self._numbers is Numbers.EXACT or self._meets_inexact()
        if cls is bool:
            return self._numbers is Numbers.EXACT
        return isinstance(value, np.generic) and _is_native(value.dtype)

    def _meets_inexact(self) -> bool:
        tracer = self._tracer
        return any(type(a) is tracer and is_inexact(a.aval.dtype) for a in self._args)

    def replaced(self, args: Any, kwargs: Mapping[str, Any], values: list[Any]) -> Any:
        """The arguments with others in the place of the inputs."""
        if not values:
            return args, kwargs
        number = [0]
        given = dict(zip(self.places, values, strict=True))

        def swap(value: Any) -> Any:
            cls = type(value)
            if cls is tuple or cls is list:
                return cls([swap(v) for v in value])
            number[0] += 1
            return given.get(number[0], value)

        return [swap(a) for a in args], {k: swap(v) for k, v in kwargs.items()}


def _is_native(dtype: np.dtype[Any]) -> bool:
    return dtype.kind in "biufc" and dtype.isnative and dtype.itemsize <= 16


def read_call(
    trace: Any, fn: Any, args: tuple[Any, ...], kwargs: Mapping[str, Any]
) -> tuple[Key, Reader]:
    """The key and the inputs of a call of a declared function."""
    if fn.peeks or kwargs.get("out") is not None:
        raise Opaque
    reader = Reader(trace, fn.numbers, args)
    parts = [reader.part(a) for a in args]
    if kwargs:
        reader.nested = True
        parts += [(name, reader.part(value)) for name, value in kwargs.items()]
    if fn.writes and any(map(_is_mask, args[1])):
        raise Opaque
    if fn.is_index or fn.views:
        _require_plain_view(fn, args, reader)
    return (fn, *parts), reader


def _require_plain_view(fn: Any, args: tuple[Any, ...], reader: Reader) -> None:
    """Opaque where a view depends on more than its base, or what is recorded on a mask's values."""
    if not args or type(args[0]) is not _tracer[0]:
        return
    if fn.is_index and any(map(_is_mask, args[1:])):
        raise Opaque
    if args[0].recorder is not reader.trace:
        raise Opaque
    if args[0].origin == "made" and len(reader.own) + len(reader.inputs) > 1:
        raise Opaque


def _is_mask(value: Any) -> bool:
    """A mask as an index: what is recorded depends on its values."""
    if isinstance(value, tuple):
        return any(map(_is_mask, value))
    return type(value) in (_tracer[0], np.ndarray) and value.dtype.kind == "b"


def read_bind(
    trace: Any, primitive: Any, args: Any, params: Mapping[str, Any]
) -> tuple[Key, Reader]:
    """The key and the inputs of an operation that is bound."""
    reader = Reader(trace, Numbers.EXACT, args)
    parts = [reader.part(a) for a in args]
    return (primitive, *parts, *[(k, param_key(v)) for k, v in params.items()]), reader


def read_program(trace: Any, jaxpr: Any, args: Any) -> tuple[Key, Reader]:
    """The key and the inputs of a program that is applied; or of an end, by the result's tree."""
    reader = Reader(trace, Numbers.EXACT, args)
    return (jaxpr, *[reader.part(a) for a in args]), reader
