"""Targets: the processors that code can be made for, and the facts that emitted text rests on."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

CACHE_LINE = 64
"""Bytes of a line of the caches."""


@dataclass(frozen=True)
class Target:
    """A processor that code is made for: LLVM's names for it and the widest vector to use."""

    triple: str
    cpu: str
    features: str
    vector_bytes: int

    @cached_property
    def present(self) -> frozenset[str]:
        """Features switched on by name."""
        return frozenset(f[1:] for f in self.features.split(",") if f.startswith("+"))

    @cached_property
    def masks(self) -> bool:
        """Masked loads and stores of every element size, and gathers, cost about one load."""
        return "avx512f" in self.present and "avx512bw" in self.present and self.vector_bytes == 64

    @cached_property
    def fma(self) -> bool:
        """A fused multiply-add instruction."""
        return "fma" in self.present or "neon" in self.present

    @cached_property
    def half(self) -> bool:
        """Instructions that convert between half and float."""
        return "f16c" in self.present or "neon" in self.present

    @cached_property
    def rounds(self) -> bool:
        """Instructions for floor, ceil, trunc, rint."""
        return "sse4.1" in self.present or "neon" in self.present

    @cached_property
    def wide_integers(self) -> bool:
        """Vector conversion between 64-bit integers and doubles."""
        return "avx512dq" in self.present or "neon" in self.present
