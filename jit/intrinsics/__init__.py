"""Elementary functions as LLVM text for any number of lanes, emitted into a module when used."""

from jit.intrinsics.table import Intrinsics

__all__ = ["Intrinsics"]
