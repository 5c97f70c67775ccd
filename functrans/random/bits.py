"""Random bits: Threefry-2x32 keys, their splitting, and the bits that a key stands for.

Keys are uint32 arrays of shape (2,). One key, one shape and one dtype always give the same bits,
and the bits at one position do not depend on how many are asked for (Salmon et al. 2011; the
same bits as JAX's partitionable Threefry with 64-bit types).
"""

from __future__ import annotations

import math
import operator
from typing import Any

import numpy as np

from functrans.bind import bind
from functrans.errors import DtypeError, ShapeError, describe
from functrans.ir import Aval, aval_of
from functrans.ir.aval import Shape
from functrans.primitives import elementwise as e
from functrans.primitives import structural as p
from functrans.primitives.derive import DType, Value, full, full_like
from functrans.surface.axes import as_shape
from functrans.surface.declare import surface
from functrans.surface.promotion import INT, as_operand, canonical_dtype, cast, stretch
from functrans.typing import ArrayLike, DTypeLike, ShapeLike

WORD = np.dtype(np.uint32)
LONG = np.dtype(np.uint64)


# -- keys -------------------------------------------------------------------------------------


@surface(name="key")
def key(seed: ArrayLike) -> Value:
    """The key that an integer stands for: uint32[2].

    >>> from functrans import random
    >>> random.key(7)
    array([0, 7], dtype=uint32)
    """
    value = as_operand(seed, "key")
    if aval_of(value).shape != () or aval_of(value).dtype.kind not in "iu":
        raise DtypeError(f"key: the seed must be an integer, but is {describe(seed)}")
    return _pair(*_words(cast(value, INT if aval_of(value).dtype != LONG else LONG)))


def _words(x: Value) -> tuple[Value, Value]:
    """The upper and lower 32 bits of 64-bit integers."""
    upper = e.shift_right(x, full_like(x, 32))
    return cast(upper, WORD), cast(x, WORD)


def _pair(first: Value, second: Value) -> Value:
    """Two words per position, stacked along a new last axis."""
    shape = aval_of(first).shape
    both = (p.broadcast(v, (*shape, 1), (len(shape),)) for v in (first, second))
    return p.concatenate(list(both), len(shape))


def key_words(key: ArrayLike, function: str) -> tuple[Value, Value]:
    """The two words of a key; an error that says what a key is for anything else."""
    value = as_operand(key, function)
    aval = aval_of(value)
    if aval.shape != (2,) or aval.dtype != WORD:
        raise ShapeError(
            f"{function}: a key is an array uint32[2], made by functrans.random.key(seed) or "
            f"split(key), but got {describe(key)}. Use vmap for several keys."
        )
    return tuple(p.reshape(p.slice(value, (i,), (i + 1,)), ()) for i in (0, 1))  # type: ignore[return-value]


def threefry(words: tuple[Value, Value], upper: Value, lower: Value) -> list[Value]:
    """The counters (upper, lower) encrypted with a key: two words per position."""
    shape = aval_of(upper).shape
    spread = [stretch(w, shape) for w in words]
    return bind(e.threefry2x32_p, *spread, upper, lower)


def _counters(shape: Shape) -> tuple[Value, Value]:
    """The position of each element in C order, as two words."""
    size = math.prod(shape)
    if size <= 1 << 32:
        lower = p.reshape(p.iota((size,), WORD), shape)
        return full_like(lower, 0), lower
    return _words(p.reshape(p.iota((size,), LONG), shape))


@surface(name="split")
def split(key: ArrayLike, num: ShapeLike = 2) -> Value:
    """New keys, independent of each other and of `key`: uint32[num, 2]."""
    return _pair(*threefry(key_words(key, "split"), *_counters(as_shape(num))))


@surface(name="fold_in")
def fold_in(key: ArrayLike, data: ArrayLike) -> Value:
    """A new key, made of `key` and an integer, such as a step number."""
    value = as_operand(data, "fold_in")
    if aval_of(value).shape != () or aval_of(value).dtype.kind not in "iu":
        raise DtypeError(f"fold_in: the data must be an integer, but is {describe(data)}")
    word = cast(cast(value, INT) if aval_of(value).weak else value, WORD)
    return _pair(*threefry(key_words(key, "fold_in"), full(0, Aval((), WORD)), word))


@surface(name="key_data")
def key_data(keys: ArrayLike) -> Value:
    """The words of keys: the keys themselves."""
    return as_operand(keys, "key_data")


@surface(name="wrap_key_data")
def wrap_key_data(key_bits_array: ArrayLike) -> Value:
    """Keys from their words: the words themselves, as uint32."""
    return cast(as_operand(key_bits_array, "wrap_key_data"), WORD)


@surface(name="clone")
def clone(key: ArrayLike) -> Value:
    """The same key."""
    return as_operand(key, "clone")


# -- bits -------------------------------------------------------------------------------------


def random_bits(key: ArrayLike, shape: Shape, dtype: DType, function: str) -> Value:
    """Independent uniform bits in an unsigned dtype."""
    upper, lower = threefry(key_words(key, function), *_counters(shape))
    if dtype == LONG:
        wide = cast(upper, LONG)
        return e.or_(e.shift_left(wide, full_like(wide, 32)), cast(lower, LONG))
    return cast(e.xor(upper, lower), dtype)


@surface(name="bits")
def bits(key: ArrayLike, shape: ShapeLike = (), dtype: DTypeLike = np.uint64) -> Value:
    """Uniform bits, as unsigned integers."""
    target = canonical_dtype(dtype, "bits")
    if target.kind != "u":
        raise DtypeError(f"bits: the dtype must be unsigned, but is {target.name}")
    return random_bits(key, as_shape(shape), target, "bits")


def keys_of(key: ArrayLike, count: int) -> Any:
    """`count` independent keys, apart."""
    keys = split.body(key, operator.index(count))
    return [p.reshape(p.slice(keys, (i, 0), (i + 1, 2)), (2,)) for i in range(count)]
