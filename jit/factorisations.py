"""Which factorisations of matrices compiled programs compute without Python."""

from __future__ import annotations

from typing import Any

import numpy as np

from functrans.extend import Eqn, Factorisation
from jit import openblas

LETTERS = {"float32": "d", "float64": "d", "complex64": "z", "complex128": "z"}
"""How the names of LAPACK's routines begin, by the dtype of the matrices; NumPy has all of them
computed in double precision."""
SOLVED = frozenset({"inverse", "solution"})
"""Those whose results have a column for each right side."""
WRITTEN_OUT = SOLVED | {"determinant", "sign_and_log", "cholesky"}
"""Those of which small ones are done in registers."""
BY_FACTORS = "_by_factors"
"""So ends the name of what is found from factors that several take up."""
ROWS = 4
"""So many rows are few."""
STEPS = 160
"""So many multiplications are written out at most."""
OF_REALS = frozenset({"determinant", "sign_and_log"})
"""Those that LAPACK does not do for complex matrices here."""


def name_of(eqn: Eqn) -> str:
    """The name of a factorisation."""
    found = eqn.params.get("factorisation")
    return found if found is not None else eqn.params["callback"].name


def dtype_of(eqn: Eqn) -> np.dtype[Any]:
    """The dtype of the matrices."""
    return eqn.inputs[0].aval.dtype


def is_factorisation(eqn: Eqn) -> bool:
    """Does a callback factorise matrices of a type that LAPACK has, and of some size?"""
    return (
        isinstance(eqn.params["callback"], Factorisation)
        and dtype_of(eqn).name in LETTERS
        and all(atom.aval.size for atom in (*eqn.inputs, *eqn.outputs))
    )


def is_written_out(eqn: Eqn) -> bool:
    """Is it done in registers, of real matrices of a few rows?"""
    if not is_factorisation(eqn):
        return False
    name, n = name_of(eqn), eqn.inputs[0].aval.shape[-1]
    columns = eqn.outputs[0].aval.shape[-1] if name in SOLVED else 0
    small = n <= ROWS and n * n * (n + columns) <= STEPS
    return small and name in WRITTEN_OUT and dtype_of(eqn).kind == "f"


def is_of_lapack(eqn: Eqn) -> bool:
    """Is it done by NumPy's LAPACK?"""
    if not is_factorisation(eqn) or is_written_out(eqn) or openblas.find() is None:
        return False
    return dtype_of(eqn).kind == "f" or name_of(eqn) not in OF_REALS


def is_native(eqn: Eqn) -> bool:
    """Is a callback computed without Python?"""
    return is_written_out(eqn) or is_of_lapack(eqn)
