"""Functions of numpy.linalg on stacks of matrices, as callbacks that engines know by their names.

Invariant: what one computes depends on its name and operands alone, so an engine that has the same
LAPACK may compute it without Python, and say NumPy's words where there is no result.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np


def lower_eigh(a: Any) -> Any:
    return np.linalg.eigh(a, "L")


def upper_eigh(a: Any) -> Any:
    return np.linalg.eigh(a, "U")


def complex_eig(a: Any) -> Any:
    w, v = np.linalg.eig(a)
    kind = np.result_type(a.dtype, np.complex64)
    return w.astype(kind), v.astype(kind)


def thin_svd(a: Any) -> Any:
    return np.linalg.svd(a, full_matrices=False)


def singular_values(a: Any) -> Any:
    return np.linalg.svd(a, compute_uv=False)


def svd_with_full_matrices(a: Any) -> Any:
    return np.linalg.svd(a)


def qr_with_mode_complete(a: Any) -> Any:
    return np.linalg.qr(a, "complete")


HOST: dict[str, Callable[..., Any]] = {
    "inverse": np.linalg.inv,
    "solution": np.linalg.solve,
    "sign_and_log": np.linalg.slogdet,
    "determinant": np.linalg.det,
    "cholesky": np.linalg.cholesky,
    "qr": np.linalg.qr,
    "complete_qr": qr_with_mode_complete,
    "lower_eigh": lower_eigh,
    "upper_eigh": upper_eigh,
    "eig": complex_eig,
    "svd": thin_svd,
    "full_svd": svd_with_full_matrices,
    "singular_values": singular_values,
}


@dataclass(frozen=True)
class Factorisation:
    """A function of stacks of matrices that gives a list of stacks; `name` is one of HOST."""

    name: str

    @property
    def __wrapped__(self) -> Callable[..., Any]:
        """NumPy's function, whose name messages tell."""
        return HOST[self.name]

    def __call__(self, *stacks: Any) -> list[Any]:
        found = HOST[self.name](*stacks)
        return list(found) if isinstance(found, tuple) else [found]
