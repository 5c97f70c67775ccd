"""The records that the native entry reads: arrays of 64-bit words, laid out here and only here.

A Record describes one specialisation of a function: how its arguments are recognised (guards),
what memory its results need (outputs), and how they are packed (builds). The writer of records and
the emitter of the code that walks them share these numbers, and nothing else.
"""

from __future__ import annotations

from enum import IntEnum

WORD = 8


class Record(IntEnum):
    """The words of one specialisation."""

    NEXT = 0  # the record to try after this one, or 0
    OWNER = 1  # the Python object that keeps all this alive
    POSITIONAL = 2  # how many positional arguments
    KEYWORDS = 3  # how many keyword arguments
    NAMES = 4  # their names, in the order of the call
    CAPTURED = 5  # how many captured objects
    CAPTURES = 6  # the objects
    GUARDS = 7  # how many guards
    GUARD = 8  # their words
    SLOTS = 9  # how many objects the guards look at
    INPUTS = 10  # how many inputs the program has
    RUN = 11  # the program: i32 (ptr inputs, ptr outputs, ptr arena)
    ARENA = 12  # the bytes of scratch memory it needs
    IDLE = 13  # an idle arena, or 0
    OUTPUTS = 14  # how many outputs
    OUTPUT = 15  # their words
    BUILDS = 16  # how many containers the result has
    BUILD = 17  # their words
    RESULTS = 18  # how many objects the result is made of
    FLAGS = 19  # HOLD, RELEASE, DONATE
    FAILED = 20  # what raises the exception for a status
    HITS = 21  # how many calls this record served
    SIZE = 22


HOLD = 1
"""References to what the guards fetch are taken, since Python code may run before the end."""
RELEASE = 2
"""The program runs without the GIL."""
DONATE = 4
"""Some arguments give their memory to results: no other argument may overlap them."""


class Guard(IntEnum):
    """The words of one guard: a test of one object, and where it puts what it finds."""

    KIND = 0
    SLOT = 1  # the object to look at
    OBJECT = 2  # what it, its type or its dtype must be
    COUNT = 3  # dimensions of an array, children of a container, least value of an int
    TARGET = 4  # the number of the input, or the slot of the first child
    TABLE = 5  # extents, keys; greatest value of an int
    MASK = 6  # flags that an array must have
    BYTES = 7  # the size of an array that gives its memory away, else 0
    SIZE = 8


class Test(IntEnum):
    """The kinds of guards."""

    ARRAY = 0  # exactly an ndarray, of a dtype, shape and layout
    BOXED = 1  # a number whose value lies in the object: float, complex, NumPy scalars
    INT = 2  # a Python int in a range
    BOOL = 3
    TUPLE = 4  # tuples and namedtuples
    LIST = 5
    DICT = 6  # with these keys in this order
    IDENTICAL = 7  # this very object
    EQUAL = 8  # an equal object of the same type (int, str, bytes)
    CUSTOM = 9  # a class whose own code takes it apart


class Output(IntEnum):
    """The words of one output."""

    KIND = 0
    DTYPE = 1
    COUNT = 2  # dimensions
    TABLE = 3  # extents
    INPUT = 4  # the input whose memory it takes
    TARGET = 5  # the place of the object among the results
    BYTES = 6  # of a new array that is large enough for a recycled block, else 0
    SIZE = 8


class Made(IntEnum):
    """The kinds of outputs."""

    ARRAY = 0  # a new ndarray
    TAKEN = 1  # the array that was given for it
    SCALAR = 2  # a NumPy scalar
    FLOAT = 3
    INT = 4
    BOOL = 5
    COMPLEX = 6


class Build(IntEnum):
    """The words of one container of the result, children first."""

    KIND = 0
    COUNT = 1
    SOURCE = 2  # the place of its first child among the results
    TARGET = 3
    OBJECT = 4  # class, keys, constant or function
    SIZE = 8


class Packed(IntEnum):
    """The kinds of containers."""

    TUPLE = 0
    NAMEDTUPLE = 1
    LIST = 2
    DICT = 3
    CONSTANT = 4  # an object that is always the same
    CALL = 5  # what a function makes of the children
