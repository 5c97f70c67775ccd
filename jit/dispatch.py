"""Calls compiled programs: NumPy arrays in, arrays that own new memory out, through ctypes.

Arguments of another layout (strided, unaligned, byte-swapped) are copied first; matrices in Fortran
order are read where they lie by a program of their own, where there is one with the same bits.
Native code runs without the GIL; a status other than 0 becomes the exception that the program's
table names.
"""

from __future__ import annotations

import ctypes
import sys
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple, TypeAlias

import numpy as np

from functrans.extend import Aval, OutOfBoundsError
from jit.names import FAILED, NEGATIVE_POWER, NO_MEMORY
from jit.native import NativeProgram
from jit.runtime import blocks
from jit.runtime.arena import ArenaPool
from jit.runtime.callbacks import take_error

ERRORS: dict[str, type[Exception]] = {NEGATIVE_POWER: ValueError, NO_MEMORY: MemoryError}
PLACE = " (in "
"""What stands before the user's line in the messages of failed factorisations."""
"""What is raised for messages that are not about an index."""
Array: TypeAlias = np.ndarray[Any, Any]

LEAST_TURNED = 1 << 15
"""Copies of fewer bytes are not worth another program."""


class Dispatcher:
    """One loaded program with the types of its arguments and results.

    taken[j] is the number of the argument whose memory result j takes (None: fresh memory). If
    `in_place[j]` the program writes there itself, else the result is copied there afterwards.
    `refused[i]` says why the memory of argument i was not taken, the last time that it was not.
    `loops`: does it hold loops, which may run for long on little memory?
    `turn`, where it is set, gives the dispatcher of a program on the transposes of some arguments.
    """

    def __init__(
        self,
        program: NativeProgram,
        in_avals: Sequence[Aval],
        out_avals: Sequence[Aval],
        arena_bytes: int,
        taken: Sequence[int | None],
        in_place: Sequence[bool],
        loops: bool = False,
    ) -> None:
        self.program = program
        self.in_types = [(a.shape, a.dtype) for a in in_avals]
        self.out_types = [(a.shape, a.dtype) for a in out_avals]
        self.taken = list(taken)
        self.in_place = list(in_place)
        self.loops = loops
        self.donates = any(t is not None for t in taken)
        self.refused: dict[int, Refusal] = {}
        self.turn: Callable[[tuple[int, ...]], Dispatcher | None] | None = None
        self._turned: dict[tuple[int, ...], Dispatcher | None] = {}
        self.makers = [blocks.empty_maker(shape, dtype) for shape, dtype in self.out_types]
        self.arenas = ArenaPool(arena_bytes) if arena_bytes else None
        large = any(blocks.is_large(shape, dtype) for shape, dtype in self.out_types)
        self.recycles = large or arena_bytes >= blocks.MINIMUM
        self._input_pointers: Any = ctypes.c_void_p * max(len(in_avals), 1)
        self._output_pointers: Any = ctypes.c_void_p * max(len(out_avals), 1)

    def __call__(self, args: Sequence[Any]) -> list[Array]:
        """The results; `args` must have the shapes that the program was compiled for."""
        others = [
            k
            for k, (a, (_, dtype)) in enumerate(zip(args, self.in_types, strict=True))
            if type(a) is not np.ndarray
            or a.dtype is not dtype
            or not (flags := a.flags).c_contiguous
            or not flags.aligned
        ]
        arrays = list(args)
        if others:
            places = self.in_fortran_order(args, others) if self.turn is not None else ()
            program = self.turned(places) if places else None
            if program is not None:
                for k in places:
                    arrays[k] = args[k].T
                return program(arrays)
            for k in others:
                arrays[k] = laid_out(args[k], self.in_types[k][1])
        if self.donates:
            return self.donating(args, arrays)
        outs = [make() for make in self.makers]
        self.run(arrays, outs)
        return outs

    def in_fortran_order(self, args: Sequence[Any], others: Sequence[int]) -> tuple[int, ...]:
        """Which of these arguments are large matrices that only stand the other way round."""
        found: list[int] = []
        for k in others:
            a, (_, dtype) = args[k], self.in_types[k]
            if type(a) is np.ndarray and a.dtype is dtype and a.ndim == 2 and k not in self.taken:
                flags = a.flags
                if flags.f_contiguous and flags.aligned and a.nbytes >= LEAST_TURNED:
                    found.append(k)
        return tuple(found)

    def turned(self, places: tuple[int, ...]) -> Dispatcher | None:
        """The dispatcher for these arguments in Fortran order, from their second time on."""
        if places in self._turned:
            found = self._turned[places]
            if found is self and self.turn is not None:
                found = self._turned[places] = self.turn(places)
            return found
        self._turned[places] = self  # met once: who comes but once is not worth compiling for
        return None

    def donating(self, args: Sequence[Any], arrays: list[Array]) -> list[Array]:
        """The same where some results take the memory of arguments."""
        finals: list[Array] = []
        outs: list[Array] = []
        for i, in_place, make in zip(self.taken, self.in_place, self.makers, strict=True):
            takes = i is not None and self.takes(args, arrays, i)
            outs.append(arrays[i] if takes and in_place and i is not None else make())
            finals.append(arrays[i] if takes and i is not None else outs[-1])
        for j, i in enumerate(self.taken):
            if i is not None and self.in_place[j] and outs[j] is not arrays[i]:
                # The program reads this argument where it writes the result.
                outs[j][...] = arrays[i]
                arrays[i] = outs[j]
        self.run(arrays, outs)
        for final, out in zip(finals, outs, strict=True):
            if final is not out:
                final[...] = out
        return finals

    def takes(self, args: Sequence[Any], arrays: Sequence[Array], position: int) -> bool:
        """May a result take the memory of this argument? What speaks against it is noted."""
        reason = why_not(args, arrays, position)
        if reason is not None:
            self.refused[position] = reason
        return reason is None

    def donations(self) -> list[str]:
        """A line for each result that takes an argument's memory, with what came in between."""
        lines: list[str] = []
        for j, i in enumerate(self.taken):
            if i is not None:
                how = "written in place" if self.in_place[j] else "copied into it at the end"
                line = f"result {j} takes the memory of input {i}, {how}"
                reason = self.refused.get(i)
                lines.append(f"{line}; last refused because {reason.text()}" if reason else line)
        return lines

    def run(self, arrays: Sequence[Array], outs: Sequence[Array]) -> None:
        inputs = self._input_pointers(*[data_address(a) for a in arrays])
        outputs = self._output_pointers(*[data_address(a) for a in outs])
        addressof = ctypes.addressof
        if self.arenas is None:
            status = self.program(addressof(inputs), addressof(outputs), 0)
        else:
            arena = self.arenas.take()
            try:
                status = self.program(addressof(inputs), addressof(outputs), arena[1])
            finally:
                self.arenas.give(arena)
        if self.recycles:
            # Before the first call's end there is nothing that another could take up.
            blocks.prepare()
        if status:
            raise self.error(status)

    def error(self, status: int) -> BaseException:
        """The exception for a status: the callback's own, or one for the message of the table."""
        raised = take_error()
        if raised is not None:
            return raised
        message = self.program.errors[status - 1]
        reason, _, place = message.partition(PLACE)
        if reason in FAILED.values():
            return failed(reason, place.removesuffix(")"))
        return ERRORS.get(message, OutOfBoundsError)(message)


def failed(reason: str, place: str) -> BaseException:
    """NumPy's error of a factorisation without a result, with the user's line as a note."""
    error = np.linalg.LinAlgError(reason)
    if place:
        error.add_note(f"in the operation staged at {place}")
    return error


def declared_address(array: Array) -> int:
    """Where an array's data lies, as NumPy's array interface says."""
    return int(array.__array_interface__["data"][0])


def address_in_object(array: Array) -> int:
    """The same, read from the array object itself: three times faster."""
    return ctypes.c_size_t.from_address(id(array) + POINTER_OFFSET).value


POINTER_OFFSET = 16


def fastest_address() -> Callable[[Array], int]:
    """address_in_object where it is proved to answer what NumPy says."""
    if sys.implementation.name != "cpython" or object.__basicsize__ != POINTER_OFFSET:
        return declared_address
    base = np.zeros((3, 4))
    samples = [base, base[1:, 2:], np.empty(0), np.array(1.0), np.arange(5, dtype=np.int8)]
    proved = all(address_in_object(a) == declared_address(a) for a in samples)
    return address_in_object if proved else declared_address


data_address = fastest_address()


def laid_out(value: Any, dtype: np.dtype[Any]) -> Array:
    """The value as an array that native code can read: native bytes, aligned, C order."""
    return np.require(value, dtype, ["C", "A"])


class Refusal(NamedTuple):
    """Why a result did not take the memory of an argument; `other`: the input in its way."""

    reason: str
    other: int | None = None

    def text(self, names: Sequence[str] = ()) -> str:
        if self.other is None:
            return self.reason
        name = names[self.other] if names else f"input {self.other}"
        return self.reason.format(name)


def why_not(args: Sequence[Any], arrays: Sequence[Array], position: int) -> Refusal | None:
    """Why the memory of this argument may not be written; None where it may.

    It must be the array's own, and no other argument's.
    """
    array = arrays[position]
    if array is not args[position]:
        return Refusal("it is not an array in C order of the program's dtype")
    if not array.flags.owndata:
        return Refusal("it does not own its data")
    if not array.flags.writeable:
        return Refusal("it is read-only")
    for k, other in enumerate(arrays):
        if k != position and other is array:
            return Refusal("it is given twice (also as {})", k)
        if k != position and np.may_share_memory(array, other):
            return Refusal("it overlaps {}", k)
    return None
