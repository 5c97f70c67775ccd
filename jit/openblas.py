"""The BLAS and LAPACK that NumPy itself uses, found at run time, and its names in programs."""

import ctypes
import sys
from collections.abc import Iterable
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

LAPACK = "ft_lapack_"
"""How programs call LAPACK's routines: this, then the name, such as dpotrf."""
GUARDS = BEGIN, END = "ft_blas_begin", "ft_blas_end"
"""Functions void() that programs call around those of the library."""

CONTROL = ("openblas_get_num_threads", "openblas_set_num_threads")

# NumPy's wheels carry an OpenBLAS whose names have a prefix and, with 64-bit integers, a suffix.
_SPELLINGS = (("scipy_", "64_", True), ("scipy_", "", False), ("", "64_", True), ("", "", False))


class Blas(NamedTuple):
    """An OpenBLAS in this process, and how it spells its names.

    `wide` says that its integers have 64 bits; LAPACK's Fortran entries take the lengths of their
    character arguments as trailing size_t.
    """

    path: str
    prefix: str
    suffix: str
    wide: bool

    def c_name(self, name: str) -> str:
        """The spelling of a C function such as cblas_dgemm."""
        return f"{self.prefix}{name}{self.suffix}"

    def fortran_name(self, name: str) -> str:
        """The spelling of a Fortran routine such as dpotrf."""
        return f"{self.prefix}{name}_{self.suffix}"

    def symbols(self, names: Iterable[str]) -> dict[str, int]:
        """Addresses by plain name, of those that the library has: cblas_* is C, others Fortran."""
        found: dict[str, int] = {}
        for name in names:
            c_like = name.startswith(("cblas_", "openblas_"))
            address = _address(self.path, self.c_name(name) if c_like else self.fortran_name(name))
            if address:
                found[name] = address
        return found


@cache
def find() -> Blas | None:
    """The OpenBLAS that NumPy itself uses, or None."""
    return first_usable(_candidates())


def first_usable(paths: Iterable[Path]) -> Blas | None:
    """The first of these libraries that has a product, a factorisation and thread control."""
    for path in paths:
        for prefix, suffix, wide in _SPELLINGS:
            blas = Blas(str(path), prefix, suffix, wide)
            if len(blas.symbols(("cblas_dgemm", "dpotrf", *CONTROL))) == 2 + len(CONTROL):
                return blas
    return None


def _candidates() -> list[Path]:
    """Files that may be NumPy's BLAS: those it is shipped with, then those it has loaded."""
    package = Path(np.__file__).parent
    folders = (package.parent / "numpy.libs", package / ".dylibs", package / ".libs")
    shipped = [path for folder in folders for path in sorted(folder.glob("*openblas*"))]
    return [*shipped, *_loaded_libraries()]


def _loaded_libraries() -> list[Path]:
    """BLAS libraries mapped into this process, where the system tells."""
    if sys.platform != "linux":
        return []
    with open("/proc/self/maps") as maps:
        files = {line.split(maxsplit=5)[-1].strip() for line in maps if "/" in line}
    names = ("openblas", "libblas", "libcblas")
    return [Path(file) for file in sorted(files) if any(n in Path(file).name for n in names)]


def _address(path: str, symbol: str) -> int:
    """The address of a symbol of a library, or 0."""
    try:
        function: Any = ctypes.CDLL(path)[symbol]
    except (OSError, AttributeError):
        return 0
    return int(ctypes.cast(function, ctypes.c_void_p).value or 0)
