"""Products that sum over axes: matmul, dot, tensordot, einsum, outer, ..., through dot_general."""

from __future__ import annotations

import operator
from collections.abc import Sequence
from typing import Any

import numpy as np

from functrans.bind import bind
from functrans.errors import OptionError, ShapeError, describe
from functrans.ir import aval_of
from functrans.memo.keys import Numbers
from functrans.primitives import elementwise as e
from functrans.primitives import structural as p
from functrans.primitives.contraction import dot_general_p
from functrans.primitives.derive import Value
from functrans.primitives.reduction import reduce_or_p
from functrans.surface.axes import normal_axes, normal_axis
from functrans.surface.creation import diagonal
from functrans.surface.declare import surface
from functrans.surface.promotion import (
    BOOL,
    align,
    as_operand,
    canonical_dtype,
    cast,
    common_shape,
    promote,
    stretch,
)
from functrans.surface.reductions import sum as total
from functrans.surface.shaping import array_of, insert_axes
from functrans.surface.ufuncs import on_bools
from functrans.typing import ArrayLike, DTypeLike

Dims = tuple[int, ...]


def contract(x: Value, y: Value, axes: tuple[Dims, Dims], batch: tuple[Dims, Dims]) -> Value:
    """The sum of products over paired axes; batch axes first, then x's free ones, then y's."""
    return bind(dot_general_p, x, y, contract=axes, batch=batch)[0]


def product(x: Value, y: Value) -> Value:
    """x * y for operands that agree; of bools, their conjunction."""
    return on_bools(e.and_p, e.mul_p)(x, y)


def matrices(name: str, x: ArrayLike, y: ArrayLike, dtype: DTypeLike = None) -> list[Value]:
    """Two operands in their common dtype, or in the one asked for."""
    x, y = promote(as_operand(x, name), as_operand(y, name))
    if dtype is None:
        return [x, y]
    return [cast(v, canonical_dtype(dtype, name)) for v in (x, y)]


# -- matmul and its relatives -------------------------------------------------------------------


def _mismatch(name: str, x: Value, y: Value, m: int, n: int) -> ShapeError:
    return ShapeError(
        f"{name}: the lengths to be summed over differ: {m} and {n}, "
        f"of operands {describe(aval_of(x))} and {describe(aval_of(y))}. Transpose or reshape one "
        "of them."
    )


@surface(np.matmul, numbers=Numbers.ARRAYS)
def matmul(x: ArrayLike, y: ArrayLike, /, *, dtype: DTypeLike = None) -> Value:
    """The matrix product over the last axis of x and the last but one of y; rest broadcasts."""
    x, y = matrices("matmul", x, y, dtype)
    a, b = aval_of(x).shape, aval_of(y).shape
    if not a or not b:
        raise ShapeError("matmul: operands must have at least one dimension. Use * for scalars.")
    row = b[-2:][0]
    if a[-1] != row:
        raise _mismatch("matmul", x, y, a[-1], row)
    if len(b) <= 2:
        return contract(x, y, ((len(a) - 1,), (max(len(b) - 2, 0),)), ((), ()))
    if len(a) == 1:
        return contract(x, y, ((0,), (len(b) - 2,)), ((), ()))
    return _batched_matmul(x, y)


def _batched_matmul(x: Value, y: Value) -> Value:
    """Matrices of stacks; where one stack has length 1 its axis is not repeated."""
    a, b = aval_of(x).shape, aval_of(y).shape
    stack = common_shape("matmul", a[:-2], b[:-2])
    x, y = stretch(x, (*stack, *a[-2:])), stretch(y, (*stack, *b[-2:]))
    n = len(stack)
    axes = tuple(range(n))
    return contract(x, y, ((n + 1,), (n,)), (axes, axes))


@surface(np.dot, numbers=Numbers.ARRAYS)
def dot(a: ArrayLike, b: ArrayLike) -> Value:
    """The product over the last axis of a and the last but one of b; of scalars, a * b."""
    x, y = matrices("dot", a, b)
    m, n = aval_of(x).ndim, aval_of(y).ndim
    if m == 0 or n == 0:
        return product(*align("dot", x, y))
    pair = ((m - 1,), (max(n - 2, 0),))
    _check_pair("dot", x, y, pair)
    return contract(x, y, pair, ((), ()))


def _check_pair(name: str, x: Value, y: Value, pair: tuple[Dims, Dims]) -> None:
    for i, j in zip(*pair, strict=True):
        m, n = aval_of(x).shape[i], aval_of(y).shape[j]
        if m != n:
            raise _mismatch(name, x, y, m, n)


@surface(np.vdot, numbers=Numbers.ARRAYS)
def vdot(a: ArrayLike, b: ArrayLike, /) -> Value:
    """The inner product of the flattened arrays, the first one conjugated."""
    x, y = matrices("vdot", a, b)
    x, y = (p.reshape(v, (aval_of(v).size,)) for v in (x, y))
    _check_pair("vdot", x, y, ((0,), (0,)))
    return contract(_conjugated(x), y, ((0,), (0,)), ((), ()))


def _conjugated(x: Value) -> Value:
    return p.conj(x) if aval_of(x).dtype.kind == "c" else x


@surface(np.inner, numbers=Numbers.ARRAYS)
def inner(a: ArrayLike, b: ArrayLike, /) -> Value:
    """The product over the last axes of both."""
    x, y = matrices("inner", a, b)
    if aval_of(x).ndim == 0 or aval_of(y).ndim == 0:
        return product(*align("inner", x, y))
    pair = ((aval_of(x).ndim - 1,), (aval_of(y).ndim - 1,))
    _check_pair("inner", x, y, pair)
    return contract(x, y, pair, ((), ()))


@surface(np.outer, numbers=Numbers.ARRAYS)
def outer(a: ArrayLike, b: ArrayLike) -> Value:
    """Every product of an element of a with one of b, both flattened."""
    x, y = (p.reshape(v, (aval_of(v).size,)) for v in matrices("outer", a, b))
    shape = (aval_of(x).size, aval_of(y).size)
    return product(p.broadcast(x, shape, (1,)), p.broadcast(y, shape, (0,)))


@surface(np.vecdot, numbers=Numbers.ARRAYS)
def vecdot(x1: ArrayLike, x2: ArrayLike, /, *, axis: int = -1) -> Value:
    """The inner products along one axis, the first operand conjugated; the rest broadcasts."""
    x, y = (_axis_last(v, axis) for v in matrices("vecdot", x1, x2))
    if aval_of(x).shape[-1] != aval_of(y).shape[-1]:
        raise _mismatch("vecdot", x, y, aval_of(x).shape[-1], aval_of(y).shape[-1])
    x, y = align("vecdot", _conjugated(x), y)
    n = aval_of(x).ndim - 1
    axes = tuple(range(n))
    return contract(x, y, ((n,), (n,)), (axes, axes))


def _axis_last(x: Value, axis: int) -> Value:
    ndim = aval_of(x).ndim
    place = normal_axis(axis, ndim, "vecdot")
    return p.transpose(x, (*(i for i in range(ndim) if i != place), place))


@surface(getattr(np, "matvec", None), numbers=Numbers.ARRAYS)
def matvec(x1: ArrayLike, x2: ArrayLike, /) -> Value:
    """Matrices times vectors; the rest broadcasts."""
    y = array_of(x2, "matvec")
    product_ = matmul.body(x1, insert_axes(y, (aval_of(y).ndim,)))
    return p.reshape(product_, aval_of(product_).shape[:-1])


@surface(getattr(np, "vecmat", None), numbers=Numbers.ARRAYS)
def vecmat(x1: ArrayLike, x2: ArrayLike, /) -> Value:
    """Vectors, conjugated, times matrices; the rest broadcasts."""
    x = _conjugated(array_of(x1, "vecmat"))
    product_ = matmul.body(insert_axes(x, (aval_of(x).ndim - 1,)), x2)
    shape = aval_of(product_).shape
    return p.reshape(product_, (*shape[:-2], shape[-1]))


@surface(np.tensordot, numbers=Numbers.ARRAYS)
def tensordot(a: ArrayLike, b: ArrayLike, axes: Any = 2) -> Value:
    """The product summed over pairs of axes: a count, or one list of axes for each operand."""
    x, y = matrices("tensordot", a, b)
    m, n = aval_of(x).ndim, aval_of(y).ndim
    if isinstance(axes, (tuple, list)):
        left, right = (normal_axes(s, d, "tensordot") for s, d in zip(axes, (m, n), strict=True))
    else:
        count = operator.index(axes)
        if count > min(m, n):
            raise ShapeError(f"tensordot: cannot sum over {count} axes of {m} and {n} dimensions")
        left, right = tuple(range(m - count, m)), tuple(range(count))
    if len(left) != len(right):
        raise ShapeError("tensordot: each operand must give the same number of axes")
    _check_pair("tensordot", x, y, (left, right))
    return contract(x, y, (left, right), ((), ()))


@surface(np.kron, numbers=Numbers.ARRAYS)
def kron(a: ArrayLike, b: ArrayLike) -> Value:
    """Every element of a times the whole of b, laid out as blocks."""
    x, y = matrices("kron", a, b)
    ndim = max(aval_of(x).ndim, aval_of(y).ndim)
    x, y = (insert_axes(v, tuple(range(ndim - aval_of(v).ndim))) for v in (x, y))
    m, n = aval_of(x).shape, aval_of(y).shape
    spread = tuple(k for pair in zip(m, n, strict=True) for k in pair)
    blocks = product(
        p.broadcast(x, spread, tuple(range(1, 2 * ndim, 2))),
        p.broadcast(y, spread, tuple(range(0, 2 * ndim, 2))),
    )
    return p.reshape(blocks, tuple(i * j for i, j in zip(m, n, strict=True)))


@surface(np.trace, numbers=Numbers.ARRAYS)
def trace(
    a: ArrayLike, offset: int = 0, axis1: int = 0, axis2: int = 1, dtype: DTypeLike = None
) -> Value:
    """The sum along the diagonals of two axes."""
    return total.body(diagonal.body(a, offset, axis1, axis2), -1, dtype)


# -- einsum -----------------------------------------------------------------------------------


@surface(np.einsum, numbers=Numbers.ARRAYS)
def einsum(
    subscripts: Any, /, *operands: ArrayLike, optimize: Any = True, dtype: DTypeLike = None
) -> Value:
    """Sums of products by Einstein's convention: `einsum("ij,jk->ik", x, y)`.

    Products of two operands become one dot_general; three or more are taken in the order that
    costs least.
    """
    text, given = _subscripts(subscripts, operands)
    values = promote(*(as_operand(x, "einsum") for x in given))
    if dtype is not None:
        values = [cast(x, canonical_dtype(dtype, "einsum")) for x in values]
    ndims = [aval_of(x).ndim for x in values]
    inputs, output = parse_subscripts(text, ndims)
    terms = [(letters, v) for letters, v in zip(inputs, values, strict=True)]
    sizes = _sizes(text, terms)
    terms = [_diagonalised(letters, x, sizes) for letters, x in terms]
    while len(terms) > 1:
        i, j = _cheapest_pair([letters for letters, _ in terms], sizes, output)
        right, left = terms.pop(j), terms.pop(i)
        kept = set(output).union(*(letters for letters, _ in terms))
        terms.append(_pair_product(left, right, kept, sizes))
    return _arranged(*terms[0], output, sizes)


def _subscripts(first: Any, rest: Sequence[Any]) -> tuple[str, list[Any]]:
    """Both spellings: one string, or each operand followed by its list of axis numbers."""
    if isinstance(first, str):
        return first, list(rest)
    given = [first, *rest]
    output = given.pop() if len(given) % 2 else None
    text = ",".join(map(_letters, given[1::2]))
    return (text if output is None else f"{text}->{_letters(output)}"), given[::2]


def _letters(axes: Sequence[Any]) -> str:
    alphabet = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ"
    return "".join("..." if a is Ellipsis else alphabet[operator.index(a)] for a in axes)


def parse_subscripts(text: str, ndims: Sequence[int]) -> tuple[list[str], str]:
    """The letters of each operand and of the result, with ellipses as letters of their own."""
    text = text.replace(" ", "")
    left, arrow, right = text.partition("->")
    inputs = left.split(",")
    if len(inputs) != len(ndims):
        raise OptionError(f"einsum: {text!r} names {len(inputs)} operands, but got {len(ndims)}.")
    hidden = [n - len(s.replace("...", "")) for s, n in zip(inputs, ndims, strict=True)]
    for letters, n, extra in zip(inputs, ndims, hidden, strict=True):
        if extra < 0 or (extra and "..." not in letters):
            raise OptionError(
                f"einsum: {letters!r} does not name the {n} axes of its operand. Give a letter for "
                "each, or an ellipsis for the rest."
            )
    most = max((h for s, h in zip(inputs, hidden, strict=True) if "..." in s), default=0)
    stands = "".join(chr(0x100 + i) for i in range(most))
    spelt = [
        s.replace("...", stands[most - h :] if h else "")
        for s, h in zip(inputs, hidden, strict=True)
    ]
    output = right.replace("...", stands) if arrow else _implicit_output(spelt, stands)
    if len(set(output)) != len(output) or not set(output) <= set("".join(spelt)):
        raise OptionError(f"einsum: the result {right!r} repeats a letter or names an unknown one.")
    return spelt, output


def _implicit_output(inputs: Sequence[str], stands: str) -> str:
    """Without an arrow: the letters that occur once, in alphabetical order."""
    everything = "".join(inputs)
    once = sorted(c for c in set(everything) if everything.count(c) == 1 and c not in stands)
    return stands + "".join(once)


def _sizes(text: str, terms: Sequence[tuple[str, Value]]) -> dict[str, int]:
    """The length of each letter's axis; axes of length 1 stretch."""
    sizes: dict[str, int] = {}
    for letters, x in terms:
        for letter, n in zip(letters, aval_of(x).shape, strict=True):
            known = sizes.setdefault(letter, n)
            if known == 1:
                sizes[letter] = n
            elif n not in (1, known):
                raise ShapeError(f"einsum: {letter!r} in {text!r} stands for both {known} and {n}")
    return sizes


def _diagonalised(letters: str, x: Value, sizes: dict[str, int]) -> tuple[str, Value]:
    """The operand without axes that stretch, and with repeated letters as diagonals."""
    shape = aval_of(x).shape
    thin = tuple(i for i, c in enumerate(letters) if shape[i] == 1 and sizes[c] != 1)
    x = p.reshape(x, p.without(shape, thin))
    letters = "".join(c for i, c in enumerate(letters) if i not in thin)
    for c in dict.fromkeys(letters):
        while letters.count(c) > 1:
            letters, x = _one_diagonal(letters, x, c)
    return letters, x


def _one_diagonal(letters: str, x: Value, c: str) -> tuple[str, Value]:
    i = letters.index(c)
    j = letters.index(c, i + 1)
    rest = "".join(k for n, k in enumerate(letters) if n not in (i, j))
    return rest + c, diagonal.body(x, 0, i, j)


def _cheapest_pair(names: Sequence[str], sizes: dict[str, int], output: str) -> tuple[int, int]:
    """The pair of operands whose product needs the fewest multiplications, then least memory."""
    if len(names) == 2:
        return 0, 1
    best: tuple[int, int, int, int] | None = None
    for i in range(len(names)):
        for j in range(i + 1, len(names)):
            both = set(names[i]) | set(names[j])
            others = set(output).union(*(s for k, s in enumerate(names) if k not in (i, j)))
            cost = _size(both, sizes), _size(both & others, sizes), i, j
            best = cost if best is None or cost < best else best
    assert best is not None
    return best[2], best[3]


def _size(letters: set[str], sizes: dict[str, int]) -> int:
    total = 1
    for c in letters:
        total *= sizes[c]
    return total


def _pair_product(
    left: tuple[str, Value], right: tuple[str, Value], kept: set[str], sizes: dict[str, int]
) -> tuple[str, Value]:
    """Two operands become one: sum what only one has, contract or batch what both have."""
    (a, x), (b, y) = _summed(*left, kept | set(right[0])), _summed(*right, kept | set(left[0]))
    shared = [c for c in a if c in b]
    batch = [c for c in shared if c in kept]
    summed = [c for c in shared if c not in kept]
    free_a, free_b = [c for c in a if c not in shared], [c for c in b if c not in shared]
    names = "".join([*batch, *free_a, *free_b])
    if not summed:
        return names, _elementwise_product(a, x, b, y, names, sizes)
    axes = tuple(map(a.index, summed)), tuple(map(b.index, summed))
    return names, contract(x, y, axes, (tuple(map(a.index, batch)), tuple(map(b.index, batch))))


def _elementwise_product(
    a: str, x: Value, b: str, y: Value, names: str, sizes: dict[str, int]
) -> Value:
    return product(_arranged(a, x, names, sizes), _arranged(b, y, names, sizes))


def _summed(letters: str, x: Value, kept: set[str]) -> tuple[str, Value]:
    lost = tuple(i for i, c in enumerate(letters) if c not in kept)
    if not lost:
        return letters, x
    rest = "".join(c for c in letters if c in kept)
    if aval_of(x).dtype == BOOL:
        return rest, bind(reduce_or_p, x, axes=lost)[0]
    return rest, p.reduce_sum(x, lost)


def _arranged(letters: str, x: Value, output: str, sizes: dict[str, int]) -> Value:
    """The axes of x in the order of the result; letters that x lacks are repeated."""
    letters, x = _summed(letters, x, set(output))
    x = p.transpose(x, tuple(letters.index(c) for c in output if c in letters))
    new = tuple(i for i, c in enumerate(output) if c not in letters)
    return p.broadcast(x, tuple(sizes[c] for c in output), new)
