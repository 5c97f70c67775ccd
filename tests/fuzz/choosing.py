"""How the operations of programs choose operands and static arguments, and stay off kinks.

A rule picks entries of the stack; a margin says how far operands are from where an operation is
not smooth or not defined.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any, Protocol, TypeAlias

import numpy as np

Margin: TypeAlias = Callable[..., Any]
Choice: TypeAlias = tuple[Sequence[int], dict[str, Any]] | None


class Stack(Protocol):
    """What a rule may ask of the program being made: indices of entries, None where none fits."""

    rng: np.random.Generator
    dtype: np.dtype[Any]

    def value(self, index: int) -> Any:
        """The value of an entry in the run that accompanies the making."""
        ...

    def pick(self, kinds: str = "f", test: Callable[[Any], bool] | None = None) -> int | None:
        """An entry with a kind among `kinds` that passes the test; later ones are likelier."""
        ...

    def like(self, index: int, low: float = -1.5, high: float = 1.5) -> int:
        """Another entry with the shape and dtype of one, or a constant made for it."""
        ...

    def constant(self, shape: Sequence[int], dtype: Any, low: float, high: float) -> int:
        """A new entry: a constant array that the program captures."""
        ...


Rule: TypeAlias = Callable[[Stack], Choice]


# -- how operands are chosen --------------------------------------------------------------------


def one(
    kinds: str = "f", test: Callable[[Any], bool] | None = None, **statics: Callable[..., Any]
) -> Rule:
    """One operand; each static is drawn by a function of (rng, operand)."""

    def choose(stack: Stack) -> Choice:
        i = stack.pick(kinds, test)
        if i is None:
            return None
        x = stack.value(i)
        return [i], {k: draw(stack.rng, x) for k, draw in statics.items()}

    return choose


def broadcasting(kinds: str = "f") -> Rule:
    """Two operands of one dtype whose shapes broadcast."""

    def choose(stack: Stack) -> Choice:
        i = stack.pick(kinds)
        if i is None:
            return None
        x = stack.value(i)
        j = stack.pick(x.dtype.kind, lambda y: y.dtype == x.dtype and _broadcast(x, y))
        assert j is not None
        return ([i, j] if stack.rng.random() < 0.5 else [j, i]), {}

    return choose


def _broadcast(x: Any, y: Any) -> bool:
    try:
        return math.prod(np.broadcast_shapes(x.shape, y.shape)) <= 120
    except ValueError:
        return False


def alike(count: int, kinds: str = "f", **statics: Callable[..., Any]) -> Rule:
    """Operands of exactly one shape and dtype."""

    def choose(stack: Stack) -> Choice:
        i = stack.pick(kinds)
        if i is None:
            return None
        x = stack.value(i)
        others = [stack.like(i) for _ in range(count - 1)]
        return [i, *others], {k: draw(stack.rng, x) for k, draw in statics.items()}

    return choose


def within(kinds: str, low: float, high: float, count: int) -> Rule:
    """An entry and constants like it with values in [low, high]."""

    def choose(stack: Stack) -> Choice:
        i = stack.pick(kinds)
        if i is None:
            return None
        x = stack.value(i)
        return [i, *(stack.constant(x.shape, x.dtype, low, high) for _ in range(count - 1))], {}

    return choose


def has_axis(x: Any) -> bool:
    return x.ndim >= 1 and min(x.shape) >= 1


def vector(x: Any) -> bool:
    return x.ndim == 1 and x.size >= 1


def matrix(x: Any) -> bool:
    return x.ndim == 2 and min(x.shape) >= 1


def small(x: Any) -> bool:
    return 1 <= x.size <= 6


# -- statics ------------------------------------------------------------------------------------


def axis(rng: np.random.Generator, x: Any) -> int:
    """Any axis, negative ones too."""
    return int(rng.integers(-x.ndim, x.ndim))


def own_axis(rng: np.random.Generator, x: Any) -> int:
    return int(rng.integers(0, x.ndim))


def some_axes(rng: np.random.Generator, x: Any) -> Any:
    """None, one axis, or a tuple of axes."""
    if x.ndim == 0 or rng.random() < 0.3:
        return None
    if rng.random() < 0.5:
        return axis(rng, x)
    return tuple(int(a) for a in np.flatnonzero(rng.random(x.ndim) < 0.6))


def flag(rng: np.random.Generator, x: Any) -> bool:
    return bool(rng.random() < 0.5)


def permutation(rng: np.random.Generator, x: Any) -> tuple[int, ...]:
    return tuple(int(p) for p in rng.permutation(x.ndim))


def slices(rng: np.random.Generator, x: Any) -> str:
    """A basic index as code: slices with steps of both signs, integers, None, an ellipsis."""
    parts: list[str] = []
    for n in x.shape[: int(rng.integers(0, x.ndim + 1))]:
        kind = rng.integers(0, 6)
        a, b = sorted(int(v) for v in rng.integers(0, n + 1, 2))
        if kind == 0 and n:
            parts.append(str(int(rng.integers(-n, n))))
        elif kind == 1:
            parts.append("::-1")
        elif kind == 2:
            parts.append(f"{b}:{a or ''}:-{1 + int(rng.integers(0, 2))}")
        elif kind == 3:
            parts.append(f"{a}::2")
        else:
            parts.append(f"{a}:{b + (a == b)}")
    if rng.random() < 0.2:
        parts.insert(int(rng.integers(0, len(parts) + 1)), "None")
    if rng.random() < 0.3 or not parts:
        parts.append("...")
    return ", ".join(parts)


def view(rng: np.random.Generator, x: Any) -> str:
    """A basic index that gives an array, which can be written to, even where it has no axes."""
    index = slices(rng, x)
    return index if "..." in index else index + ", ..."


def integers(rng: np.random.Generator, n: int) -> list[int]:
    """A few positions along an axis of n, negative ones and repetitions among them."""
    return [int(i) for i in rng.integers(-n, n, int(rng.integers(1, 4)))]


def fancy(rng: np.random.Generator, x: Any) -> str:
    """An advanced index as code: lists of ints, with slices around, or a mask."""
    kind = rng.integers(0, 4)
    n = x.shape[0]
    if kind == 0:
        return f"{integers(rng, n)}"
    if kind == 1:
        keep = rng.random(n) < 0.6
        return f"np.array({keep.tolist()})"
    if x.ndim == 1:
        return f"np.array({integers(rng, n)})[:, None]"
    m = x.shape[-1]
    if kind == 2:
        return f"..., {integers(rng, m)}"
    rows = integers(rng, n)
    columns = [int(rng.integers(-m, m)) for _ in rows]
    middle = ":, " * (x.ndim - 2)
    return f"{rows}, {middle}{columns}"


def new_shape(rng: np.random.Generator, x: Any) -> Any:
    options = [(-1,), (x.size,), (1, -1), (-1, 1), x.shape[::-1]]
    options += [(d, x.size // d) for d in (2, 3) if x.size and x.size % d == 0]
    return options[int(rng.integers(0, len(options)))] if x.size else x.shape[::-1]


def grown_shape(rng: np.random.Generator, x: Any) -> tuple[int, ...]:
    kept = tuple(3 if n == 1 and rng.random() < 0.5 else n for n in x.shape)
    return (2, *kept)


def pads(rng: np.random.Generator, x: Any) -> tuple[tuple[int, int], ...]:
    return tuple((int(a), int(b)) for a, b in rng.integers(0, 3, (x.ndim, 2)))


def per_axis(low: int, high: int) -> Callable[..., tuple[int, ...]]:
    return lambda rng, x: tuple(int(n) for n in rng.integers(low, high, x.ndim))


# -- margins: distances from where derivatives or values jump ------------------------------------


def zero(x: Any) -> Any:
    return np.abs(x)


def integer(x: Any) -> Any:
    return np.abs(x - np.round(x))


def half_integer(x: Any) -> Any:
    return np.abs(x - np.floor(x) - 0.5)


def tie(x: Any, y: Any) -> Any:
    return np.abs(x - y)


def halvings(x: Any) -> Any:
    """How near x comes to the bound of the loop that makes it small."""
    nearest = np.inf
    while True:
        size = np.sum(x * x)
        nearest = np.minimum(nearest, tie(size, 0.5))
        if not size > 0.5:
            return nearest
        x = np.sin(x) * 0.7


def neighbours(x: Any) -> Any:
    """The smallest difference between any two elements: nothing may be tied or change places."""
    flat = np.sort(np.asarray(x).ravel())
    return np.diff(flat) if flat.size > 1 else np.ones(1)


def quotient(x: Any, y: Any) -> Any:
    with np.errstate(all="ignore"):
        q = x / y
    return np.minimum(np.abs(y) - 0.1, np.where(np.isfinite(q), integer(q), 0))


def off_cut(z: Any) -> Any:
    """From zero, and from the negative real axis where the argument is complex."""
    if np.asarray(z).dtype.kind != "c":
        return z - 0.05
    return np.where(z.real < 0.1, np.minimum(np.abs(z) - 0.1, np.abs(z.imag)), np.abs(z) - 0.1)


def inside(limit: float) -> Margin:
    return lambda x: limit - np.abs(x)


def bigger(limit: float) -> Margin:
    return lambda x: np.abs(x) - limit


# -- operands of particular operations ----------------------------------------------------------


def where_operands(stack: Stack) -> Choice:
    i = stack.pick("fci")
    if i is None:
        return None
    x = stack.value(i)
    c = stack.pick("b", lambda p: _broadcast(p, x))
    if c is None:
        c = stack.constant(x.shape, np.bool_, 0, 1)
    return [i, stack.like(i), c], {}


def to_float_operands(stack: Stack) -> Choice:
    i = stack.pick("ib")
    return None if i is None else ([i], {"dtype": stack.dtype.name})


def mixed_operands(stack: Stack) -> Choice:
    """Integers and floats together: promotion is NumPy's."""
    i = stack.pick("f", lambda x: x.dtype == np.float64)
    if i is None:
        return None
    x = stack.value(i)
    j = stack.pick("ib", lambda y: _broadcast(x, y))
    return None if j is None else ([j, i], {})


def along(x: Any) -> Any:
    return neighbours(x)


def joined_operands(stack: Stack, kinds: str) -> Choice:
    i = stack.pick(kinds, has_axis)
    if i is None:
        return None
    return [i, stack.like(i)], {"axis": axis(stack.rng, stack.value(i))}


def traced_index_operands(stack: Stack) -> Choice:
    i = stack.pick("fc", has_axis)
    if i is None:
        return None
    k = stack.pick("i", lambda v: 1 <= v.size <= 6)
    if k is None:
        k = stack.constant((2,), np.int64, -4, 5)
    return [i, k], {"n": stack.value(i).shape[0]}


def take_operands(stack: Stack) -> Choice:
    i = stack.pick("fc", has_axis)
    if i is None:
        return None
    along, x = axis(stack.rng, stack.value(i)), stack.value(i)
    mode = ("'clip'", "'wrap'", "'raise'")[int(stack.rng.integers(0, 3))]
    index = integers(stack.rng, x.shape[along])
    if mode == "'clip'":
        index = [abs(n) for n in index]
    return [i], {"axis": along, "index": f"np.array({index})", "mode": mode}


def dynamic_operands(stack: Stack, update: bool) -> Choice:
    i = stack.pick("f", has_axis)
    if i is None:
        return None
    x = stack.value(i)
    k = stack.pick("i", lambda v: v.size <= 12)
    if k is None:
        k = stack.constant((), np.int64, -1, 3)
    sizes = tuple(int(stack.rng.integers(1, n + 1)) for n in x.shape)
    if not update:
        return [i, k], {"sizes": sizes}
    return [i, k, stack.constant(sizes, x.dtype, -1.5, 1.5)], {}


def _indices(stack: Stack, n: int, distinct: bool, outside: bool) -> int:
    """An entry with positions along an axis of n: one of the stack, or a constant."""
    bound = n + 2 if outside else n
    fits = lambda v: v.dtype == np.int64 and v.size <= 6 and bool((np.abs(v) < bound).all())
    k = (
        None
        if distinct
        else stack.pick("i", lambda v: fits(v) and v.size > 0 and bool((v >= -n).all()))
    )
    if k is not None and stack.rng.random() < 0.7:
        return k
    count = 1 if distinct else int(stack.rng.integers(1, 4))
    return stack.constant((count,), np.int64, -n, bound)


def gather_operands(stack: Stack) -> Choice:
    i = stack.pick("fc", has_axis)
    if i is None:
        return None
    x = stack.value(i)
    along = own_axis(stack.rng, x)
    mode = ("clip", "raise")[int(stack.rng.integers(0, 2))]
    k = _indices(stack, x.shape[along], False, mode == "clip")
    return [i, k], {"axis": along, "mode": repr(mode)}


def scatter_operands(stack: Stack, name: str) -> Choice:
    i = stack.pick("f", has_axis)
    if i is None:
        return None
    x = stack.value(i)
    along = own_axis(stack.rng, x)
    mode = ("clip", "raise", "drop")[int(stack.rng.integers(0, 3))]
    k = _indices(stack, x.shape[along], name == "scatter_mul", mode != "raise")
    rest = x.shape[:along] + x.shape[along + 1 :]
    u = stack.constant((*stack.value(k).shape, *rest), x.dtype, 0.3, 1.5)
    return [i, k, u], {"axis": along, "mode": repr(mode)}


def matmul_operands(stack: Stack) -> Choice:
    i = stack.pick("fc", has_axis)
    if i is None:
        return None
    x = stack.value(i)
    n = x.shape[-1]
    j = stack.pick(
        x.dtype.kind, lambda y: y.dtype == x.dtype and 1 <= y.ndim <= 2 and y.shape[0] == n
    )
    if j is None or stack.rng.random() < 0.3:
        j = stack.constant((n, 2), x.dtype, -1, 1)
    return [i, j], {}


def two_matrices_operands(stack: Stack) -> Choice:
    i = stack.pick("fc", matrix)
    if i is None:
        return None
    x = stack.value(i)
    j = stack.pick(
        x.dtype.kind, lambda y: matrix(y) and y.dtype == x.dtype and y.shape[1] == x.shape[1]
    )
    assert j is not None
    return [i, j], {}


def two_alike_operands(stack: Stack, test: Callable[[Any], bool]) -> Choice:
    i = stack.pick("fc", test)
    return None if i is None else ([i, stack.like(i)], {})


def conv_operands(stack: Stack) -> Choice:
    i = stack.pick("f", vector)
    if i is None:
        return None
    x, rng = stack.value(i), stack.rng
    w = stack.constant((int(rng.integers(1, min(3, x.size) + 1)),), x.dtype, -1, 1)
    statics = {
        "s": int(rng.integers(1, 3)),
        "p": int(rng.integers(0, 2)),
        "d": int(rng.integers(1, 3)),
    }
    return [i, w], statics


def sort_two_operands(stack: Stack) -> Choice:
    i = stack.pick("f", has_axis)
    if i is None:
        return None
    return [i, stack.like(i)], {"axis": own_axis(stack.rng, stack.value(i))}


def two_small_operands(stack: Stack) -> Choice:
    i = stack.pick("f", small)
    return None if i is None else ([i, stack.like(i)], {})
