"""Gathers in another form: the emulator refuses an index in the upper sixteen registers."""

from __future__ import annotations

from typing import NamedTuple

PREFIX, MAP = 0x62, 2
OPERATIONS = frozenset((0x90, 0x91, 0x92, 0x93, 0xA0, 0xA1, 0xA2, 0xA3))
"""Gathers and scatters among the operations of this map."""
LONGEST = 15
"""Bytes of the longest instruction."""


class Gather(NamedTuple):
    """A gather or scatter that reads its index in `spare`, where it was written for `index`."""

    code: bytes
    index: int
    spare: int


def with_lower_index(code: bytes) -> Gather | None:
    """What these bytes begin with, its index in a lower register; None where it is no gather with
    an index in an upper one.

    code: LONGEST bytes. The layout is that of the EVEX prefix with a vector index in the SIB byte
    (Intel, Software Developer's Manual, volume 2, section 2.7), whose register bits are inverted.
    """
    prefix, first, second, third, operation, mode, address = code[:7]
    if prefix != PREFIX or first & 7 != MAP or third & 8 or operation not in OPERATIONS:
        return None
    index = 16 + (0 if first & 0x40 else 8) + (address >> 3 & 7)
    data = (mode >> 3 & 7) + (0 if first & 0x80 else 8) + (0 if first & 0x10 else 16)
    spare = 0 if data else 1
    lower = bytes((prefix, first | 0x40, second, third | 8, operation, mode))
    sib = bytes((address & ~0x38 | spare << 3,))
    return Gather(lower + sib + code[7 : 7 + _displacement(mode, address)], index, spare)


def _displacement(mode: int, address: int) -> int:
    """Bytes of the constant in the address."""
    without_base = mode >> 6 == 0 and address & 7 == 5
    return 4 if without_base else (0, 1, 4)[mode >> 6]
