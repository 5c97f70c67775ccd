"""Results: what a transformed function returns, and beside it what has no derivative (aux)."""

from __future__ import annotations

from typing import Any

import numpy as np

from functrans import tree
from functrans.api.border import Function
from functrans.errors import TransformTypeError, describe, where
from functrans.tracing import Tracer

_NONE = tree.structure(None)


class AuxOutput:
    """Separates the outputs of `f` from its aux, both pytrees."""

    def __init__(self, f: Function, has_aux: bool, what: str) -> None:
        self.f, self.has_aux, self.what = f, has_aux, what
        self.tree: tree.PyTreeDef = _NONE
        self.count = 0
        self._kept: list[Any] = []
        self._aux_tree = self.tree

    def split(self, result: Any) -> list[Any]:
        if not self.has_aux:
            leaves, self.tree = tree.flatten(result)
            return leaves
        if not (isinstance(result, tuple) and len(result) == 2):
            raise TransformTypeError(
                f"{self.what}: with has_aux=True the function must return (result, aux), but it "
                f"returned {describe(result)} ({where(self.f)}). Return a tuple of two, or drop "
                "has_aux."
            )
        leaves, self.tree = tree.flatten(result[0])
        aux_leaves, self._aux_tree = tree.flatten(result[1])
        self._kept = [None if _is_array(x) else (x,) for x in aux_leaves]
        arrays = [x for x in aux_leaves if _is_array(x)]
        self.count = len(arrays)
        return [*leaves, *arrays]

    def split_scalar(self, result: Any) -> list[Any]:
        """As `split`, for a function whose result must be one leaf."""
        flat = self.split(result)
        value = result[0] if self.has_aux else result
        _require_one_leaf(self.tree, value, self.f, self.what)
        return flat

    def join(self, outputs: list[Any]) -> Any:
        """The aux pytree, from the outputs that belong to it."""
        given = iter(outputs)
        leaves = [next(given) if k is None else k[0] for k in self._kept]
        return tree.unflatten(self._aux_tree, leaves)


def _is_array(value: Any) -> bool:
    return type(value) is Tracer or isinstance(value, (np.ndarray, np.generic, int, float, complex))


def _require_one_leaf(out_tree: tree.PyTreeDef, result: Any, f: Function, what: str) -> None:
    if not tree.treedef_is_leaf(out_tree):
        raise TransformTypeError(
            f"{what}: the function must return a scalar, but it returned {describe(result)} "
            f"({where(f)}). {_one_number(result)}"
        )


def _one_number(result: Any) -> str:
    """What to do about a result that is not one leaf."""
    if result is None:
        return "Is a return statement missing?"
    if isinstance(result, tuple) and len(result) == 2:
        return "Return one number, or give has_aux=True if the second one needs no derivative."
    return "Return one number; what needs no derivative can be returned through has_aux=True."
