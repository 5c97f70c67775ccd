"""Products of many small matrices: a function for each shape and layout, compiled on first use.

A name says everything but the addresses and the batch: `ft_small_f32_4x3x5_5_1_3_1_3` multiplies
4x5 by 5x3 matrices, with row and column strides 5, 1 of A, 3, 1 of B, and rows of C 3 apart; none
is negative. Invariant: as those of ft_gemm, whose arguments they take, the functions may be called
without the GIL, from any thread, and never fail.
"""

from __future__ import annotations

import re

from jit.runtime import threads
from jit.runtime.gemm import host_tile
from jit.runtime.objects import link_object, once, runtime_object

_NAME = re.compile(r"ft_small_(f32|f64)_(\d+)x(\d+)x(\d+)((?:_\d+){5})")


def is_small_name(name: str) -> bool:
    return _NAME.fullmatch(name) is not None


def fields_of(name: str) -> tuple[str, tuple[int, ...], tuple[int, ...]]:
    """The element type; m, n, k; and the strides rsa, csa, rsb, csb, ldc."""
    found = _NAME.fullmatch(name)
    assert found is not None
    strides = tuple(int(s) for s in found[5].split("_")[1:])
    return found[1], tuple(int(found[i]) for i in (2, 3, 4)), strides


def text_of(name: str) -> str:
    """The module of a function for this machine."""
    from jit.runtime.gemm_small_text import small_module

    return small_module(name, host_tile())


@once
def symbols(name: str) -> dict[str, int]:
    """The address of one function."""
    code = runtime_object(name, text=lambda: text_of(name))
    return link_object(name, code, threads.symbols(), [name])
