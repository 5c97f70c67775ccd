"""LAPACK stays within the parts of memory that the steps of factorisations lend it."""

from __future__ import annotations

import ctypes
from typing import Any
from unittest.mock import MagicMock

import numpy as np
import pytest

from jit import openblas
from jit.lowering import lapack_methods
from jit.lowering.lapack import Letter, Part, Sizes
from jit.lowering.lapack_methods import METHODS

KINDS = {
    False: {"x": np.dtype("f8"), "r": np.dtype("f8"), "i": np.dtype("i8")},
    True: {"x": np.dtype("c16"), "r": np.dtype("f8"), "i": np.dtype("i8")},
}
BEHIND = 4096
"""So many bytes behind each part must stay as they are."""
SEEN = 0xA5

SIZES = [
    *(Sizes(n, n, k) for n, k in ((1, 1), (2, 1), (5, 3), (33, 2), (70, 70))),
    *(Sizes(*shape, 0) for shape in ((5, 1), (1, 5), (6, 4), (4, 6), (90, 20), (20, 90), (200, 2))),
]
TALL, WIDE_TOO = ("qr", "complete_qr"), ("svd", "full_svd", "singular_values")


class Lent(MagicMock):
    """Steps run against this: routines of LAPACK are called at once, on parts with guards."""

    def lend(self, parts: list[Part], sizes: Sizes, is_complex: bool) -> None:
        self.sizes, self.is_complex, self.homes = sizes, is_complex, {}
        self.layout.width = 1 + is_complex
        self.bytes, self.kinds = {}, {}
        for name, kind, size in parts:
            dtype = KINDS[is_complex][kind]
            self.bytes[name] = np.full(size * dtype.itemsize + BEHIND, SEEN, "u1")
            self.kinds[name] = dtype
        self.fill()

    def part(self, name: str) -> Any:
        return self.bytes[name][:-BEHIND].view(self.kinds[name])

    def fill(self) -> None:
        """A regular matrix and pivots that exchange nothing, as each routine finds them."""
        n, a = self.sizes.n, self.part("a")
        a[:] = np.linspace(-1, 1, a.size) ** 3
        if self.sizes.m == n:
            a[: n * n : n + 1] += 2 * n
        if "pivots" in self.bytes:
            self.part("pivots")[:] = np.arange(1, self.part("pivots").size + 1)

    def call(self, routine: str, *args: int | str | Letter, may_fail: bool = True) -> None:
        if routine not in ("orgqr", "ungqr", "getrs"):
            self.fill()
        passed = [self.passed(a) for a in args]
        info = ctypes.c_int64(0)
        lengths = [ctypes.c_size_t(1) for a in args if isinstance(a, Letter)]
        function(("z" if self.is_complex else "d") + routine)(*passed, ctypes.byref(info), *lengths)
        assert info.value == 0, f"{routine} {self.sizes}: argument or result {info.value}"
        for name, found in self.bytes.items():
            assert (found[-BEHIND:] == SEEN).all(), f"{routine} {self.sizes} wrote past {name}"

    def operand(self, *which: int) -> tuple[MagicMock, MagicMock]:
        return MagicMock(), MagicMock()

    result = operand

    def passed(self, given: int | str | Letter) -> Any:
        match given:
            case str():
                return ctypes.c_void_p(self.bytes[given].ctypes.data)
            case Letter(text):
                return ctypes.c_char_p(text.encode())
            case _:
                return ctypes.byref(ctypes.c_int64(given))


def function(name: str) -> Any:
    found = openblas.find()
    assert found is not None
    return ctypes.CDLL(found.path)[found.fortran_name(name)]


def wide() -> bool:
    found = openblas.find()
    return found is not None and found.wide


@pytest.mark.skipif(not wide(), reason="NumPy's LAPACK is not one of 64-bit integers")
@pytest.mark.parametrize(
    ("name", "is_complex"), [(name, kind) for kind in METHODS for name in METHODS[kind]]
)
def test_lapack_keeps_within_its_parts(
    name: str, is_complex: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also those parts whose sizes it is not told; and it finds none of them too small."""
    method = METHODS[is_complex][name]
    for loop in ("beside_diagonal", "sign_and_log_of"):  # they call nothing
        monkeypatch.setattr(lapack_methods, loop, Lent.operand)
    for sizes in SIZES:
        m, n, _ = sizes
        if m == n or name in WIDE_TOO or (name in TALL and m > n):
            if name.startswith("inverse"):
                sizes = Sizes(n, n, n)
            t = Lent()
            own = method.parts(sizes)
            taken = {part.name for part in own}
            given = [Part("a", "x", n * n), Part("pivots", "i", n + 1)]
            t.lend([*own, *(p for p in given if p.name not in taken)], sizes, is_complex)
            method.steps(t)
