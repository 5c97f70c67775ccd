"""By hand: derivatives written out in C for single cases, which say what their kernels can reach.

by_hand.c is compiled here by `cc`, with vector maths and a thread for each core. It may round as it
likes, and writes to results that are allocated once.
"""

from __future__ import annotations

import ctypes
import os
import subprocess
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

SOURCE = Path(__file__).with_suffix(".c")
FLAGS = ("-O3", "-march=native", "-ffast-math", "-fopenmp", "-shared", "-fPIC")


class ByHand:
    """The functions of by_hand.c, for the cases that have one."""

    name = "by hand"
    np = np

    def __init__(self) -> None:
        with tempfile.TemporaryDirectory() as folder:
            made = os.path.join(folder, "by_hand.so")
            subprocess.run(["cc", *FLAGS, str(SOURCE), "-o", made, "-lm"], check=True)
            self.compiled = ctypes.CDLL(made)

    def array(self, x: np.ndarray) -> Any:
        return x

    def jit(self, f: Callable[..., Any]) -> Callable[..., Any]:
        return f

    def wait(self, result: Any) -> None:
        pass

    def derivatives(self, name: str, *places: int, valued: bool = True) -> Callable[..., Any]:
        """A function that writes derivatives in the inputs at these places.

        It takes the inputs, those results, and the extents of the first of the inputs with most
        axes; the value that it returns, if any, comes first.
        """
        function: Any = self.compiled[name]
        function.restype = ctypes.c_double if valued else None
        kept: list[np.ndarray] = []

        def call(*inputs: np.ndarray) -> Any:
            kept[:] = kept or [np.zeros_like(inputs[i]) for i in places]
            extents = max((x.shape for x in inputs), key=len)
            pointers = [ctypes.c_void_p(x.ctypes.data) for x in (*inputs, *kept)]
            value = function(*pointers, *map(ctypes.c_ssize_t, extents))
            found = kept[0] if len(kept) == 1 else tuple(kept)
            return (np.asarray(value, kept[0].dtype), found) if valued else found

        return call
