"""What programs call besides NumPy and the transforms; a printed program imports all of it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

import functrans as ft
from functrans import lax
from functrans import numpy as fnp
from functrans.bind import bind
from functrans.ir import Aval
from functrans.primitives import ALL
from tests.fuzz.program import data
from tests.samples import Polynomial

__all__ = [
    "accumulated",
    "const",
    "custom_jvp_of",
    "custom_vjp_of",
    "data",
    "either",
    "lax",
    "ones_for",
    "polynomial",
    "prim",
    "pulled",
    "scanned",
    "some_rows",
    "switched",
    "total",
]


def prim(name: str, *operands: Any, **params: Any) -> Any:
    """The results of a primitive: one array, or a tuple where there are several."""
    outs = bind(ALL[name], *operands, **params)
    return outs[0] if len(outs) == 1 else tuple(outs)


def polynomial(x: Any) -> dict[str, Any]:
    """The params of a pure callback that computes a polynomial at every position of x."""
    function = Polynomial((0.5, -1.0, 0.25, 0.125))
    members = {"batch": (), "mapped": (False,), "method": "sequential"}
    results = (Aval(x.shape, x.dtype),)
    return {"callback": function, "results": results, "derivative": function, **members}


def ones_for(x: Any, ordered: bool) -> dict[str, Any]:
    """The params of a callback that returns ones."""
    params = {"batch": (), "mapped": (False,), "ordered": ordered}
    return {"callback": _ones, "results": (Aval(x.shape, x.dtype),), **params}


def _ones(x: Any) -> list[Any]:
    return [np.ones_like(x)]


def const(
    seed: int, shape: tuple[int, ...], dtype: str, low: float = -1.5, high: float = 1.5
) -> Any:
    """An array made outside of every trace: programs capture it."""
    return data(seed, shape, dtype, low, high)


def total(values: Any) -> Any:
    """One real number that depends on every floating array among the values."""
    parts = values if isinstance(values, tuple) else (values,)
    floats = [v for v in parts if np.dtype(v.dtype).kind in "fc"]
    scalars = [
        np.sum(np.sin(v.real) + v.imag if v.dtype.kind == "c" else np.sin(v)) for v in floats
    ]
    return sum(s.astype(np.float64) for s in scalars) if scalars else np.float64(0)


def pulled(g: Callable[..., Any], x: Any) -> Any:
    """A cotangent that depends on the value, pulled back through g."""
    y, pullback = ft.vjp(g, x)
    return pullback(np.cos(y))[0]


def custom_jvp_of(g: Callable[..., Any]) -> Callable[..., Any]:
    """g with a rule of its own, which is its derivative computed another way."""
    f = ft.custom_jvp(g)
    f.defjvp(lambda primals, tangents: ft.jvp(g, primals, tangents))
    return f


def custom_vjp_of(g: Callable[..., Any]) -> Callable[..., Any]:
    """g with forward and backward rules of its own: bwd computes g again and pulls back."""
    f = ft.custom_vjp(g)
    f.defvjp(lambda x: (g(x), x), lambda x, ct: ft.vjp(g, x)[1](ct))
    return f


# -- loops and branches around a function of rows, or of the whole --------------------------------


def scanned(g: Callable[..., Any], x: Any, reverse: bool) -> Any:
    """g of every row, each by what those before it came to."""

    def step(carry: Any, row: Any) -> Any:
        y = g(row)
        return np.sin(carry) * 0.5 + np.mean(y), y * (1 + carry)

    carry, ys = lax.scan(step, 0.25, x, reverse=reverse)
    return ys + carry


def accumulated(g: Callable[..., Any], x: Any) -> Any:
    """A fixed number of steps, which read the rows by their numbers."""
    return lax.fori_loop(0, len(x), lambda i, y: np.cos(y) * 0.5 + g(fnp.array(x)[i]), g(x[0]))


def some_rows(g: Callable[..., Any], x: Any) -> Any:
    """As many steps as the values say: between one and the number of rows."""
    count = 1 + np.sum(x > 0) % len(x)

    def step(carry: Any) -> Any:
        i, y = carry
        return i + 1, np.sin(y) * 0.5 + g(fnp.array(x)[i])

    return lax.while_loop(lambda carry: carry[0] < count, step, (0, g(x[0])))[1]


def either(g: Callable[..., Any], x: Any) -> Any:
    """g of x, and something else of that where x sums up to less than nothing."""
    return lax.cond(np.sum(x) > 0, g, lambda x: np.sin(g(x)) + 1, x)


def switched(g: Callable[..., Any], x: Any) -> Any:
    """One of three functions, by the number of positive elements."""
    return lax.switch(np.sum(x > 0), [g, lambda x: g(x) * 2, lambda x: np.cos(g(x))], x)
