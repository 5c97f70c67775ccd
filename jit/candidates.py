"""Candidates for the largest of a line: the types of their ranks, and how they lie in memory.

A space is a header of two i64 (how many candidates there are, and the limit below which a rank is
one), then ranks, places, other ranks and other places, each aligned.
"""

from typing import Literal, NamedTuple, TypeAlias

HEADER = ALIGNMENT = 64
RankType: TypeAlias = Literal["i32", "i64"]
"""The types of ranks, integers of which the least is the best."""
NAMES: tuple[RankType, ...] = ("i32", "i64")


class Ranks(NamedTuple):
    """One type of ranks."""

    name: RankType

    @property
    def bits(self) -> int:
        return int(self.name[1:])

    @property
    def bytes(self) -> int:
        return self.bits // 8

    @property
    def lanes(self) -> int:
        """Ranks in one vector."""
        return 512 // self.bits

    @property
    def columns(self) -> tuple[int, int, int, int]:
        """The sizes of a rank, a place, another rank and another place."""
        return self.bytes, 8, self.bytes, 8

    def space_bytes(self, capacity: int) -> int:
        """The size of a space for so many candidates."""
        return HEADER + sum(-(-size * capacity // ALIGNMENT) * ALIGNMENT for size in self.columns)
