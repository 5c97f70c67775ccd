"""Initializers: functions (key, shape, dtype) -> array that give weights their first values."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any, Literal, Protocol

from functrans import random
from functrans.errors import OptionError, ShapeError
from functrans.primitives.derive import Value
from functrans.surface import creation
from functrans.typing import ArrayLike, DTypeLike

Mode = Literal["fan_in", "fan_out", "fan_avg"]
Distribution = Literal["truncated_normal", "normal", "uniform"]


class Initializer(Protocol):
    """What every initializer is."""

    def __call__(self, key: ArrayLike, shape: Sequence[int], dtype: DTypeLike = float) -> Value:
        """Weights of the given shape and dtype."""
        ...


def zeros(key: ArrayLike, shape: Sequence[int], dtype: DTypeLike = float) -> Value:
    """Zeros."""
    return creation.zeros(shape, dtype)


def ones(key: ArrayLike, shape: Sequence[int], dtype: DTypeLike = float) -> Value:
    """Ones."""
    return creation.ones(shape, dtype)


def constant(value: ArrayLike, dtype: DTypeLike = float) -> Initializer:
    """The same value everywhere."""
    default = dtype

    def init(key: ArrayLike, shape: Sequence[int], dtype: DTypeLike = None) -> Value:
        return creation.full(shape, value, default if dtype is None else dtype)

    return init


def _scaled(draw: Callable[..., Value], scale: float, default: DTypeLike) -> Initializer:
    def init(key: ArrayLike, shape: Sequence[int], dtype: DTypeLike = None) -> Value:
        drawn = draw(key, shape, default if dtype is None else dtype)
        return drawn * drawn.dtype.type(scale)

    return init


def uniform(scale: float = 1e-2, dtype: DTypeLike = float) -> Initializer:
    """Uniform in [0, scale)."""
    return _scaled(random.uniform, scale, dtype)


def normal(stddev: float = 1e-2, dtype: DTypeLike = float) -> Initializer:
    """Normal with mean 0."""
    return _scaled(random.normal, stddev, dtype)


def truncated_normal(
    stddev: float = 1e-2, dtype: DTypeLike = float, lower: float = -2.0, upper: float = 2.0
) -> Initializer:
    """Normal within [lower, upper] standard deviations."""

    def draw(key: ArrayLike, shape: Sequence[int], dtype: DTypeLike) -> Value:
        return random.truncated_normal(key, lower, upper, shape, dtype)

    return _scaled(draw, stddev, dtype)


def variance_scaling(
    scale: float,
    mode: Mode,
    distribution: Distribution,
    in_axis: int = -2,
    out_axis: int = -1,
    dtype: DTypeLike = float,
) -> Initializer:
    """Weights with variance scale / fan, where fan is the number of inputs, outputs or their mean.

    The other axes of the shape count as a receptive field.
    """
    default = dtype

    def init(key: ArrayLike, shape: Sequence[int], dtype: DTypeLike = None) -> Value:
        variance = scale / max(_fan(tuple(shape), mode, in_axis, out_axis), 1)
        return _drawn(key, shape, default if dtype is None else dtype, distribution, variance)

    return init


def _fan(shape: tuple[int, ...], mode: Mode, in_axis: int, out_axis: int) -> float:
    if len(shape) < 2:
        raise ShapeError(f"initializers: weights need at least 2 axes to scale by, but got {shape}")
    size = math.prod(shape)
    field = size // max(shape[in_axis] * shape[out_axis], 1)
    fan_in, fan_out = shape[in_axis] * field, shape[out_axis] * field
    fans = {"fan_in": fan_in, "fan_out": fan_out, "fan_avg": (fan_in + fan_out) / 2}
    if mode not in fans:
        raise OptionError(f"variance_scaling: mode must be one of {', '.join(fans)}, not {mode!r}.")
    return fans[mode]


_TRUNCATED_DEVIATION = 0.87962566103423978
"""The standard deviation of a normal distribution cut at 2 standard deviations."""


def _drawn(
    key: ArrayLike, shape: Any, dtype: DTypeLike, distribution: Distribution, variance: float
) -> Value:
    match distribution:
        case "normal":
            return normal(math.sqrt(variance))(key, shape, dtype)
        case "truncated_normal":
            return truncated_normal(math.sqrt(variance) / _TRUNCATED_DEVIATION)(key, shape, dtype)
        case "uniform":
            bound = math.sqrt(3 * variance)
            return random.uniform(key, shape, dtype, -bound, bound)


def glorot_uniform(in_axis: int = -2, out_axis: int = -1, dtype: DTypeLike = float) -> Initializer:
    """Uniform, variance 1 / mean of fans (Glorot and Bengio 2010)."""
    return variance_scaling(1.0, "fan_avg", "uniform", in_axis, out_axis, dtype)


def glorot_normal(in_axis: int = -2, out_axis: int = -1, dtype: DTypeLike = float) -> Initializer:
    """Truncated normal, variance 1 / mean of fans (Glorot and Bengio 2010)."""
    return variance_scaling(1.0, "fan_avg", "truncated_normal", in_axis, out_axis, dtype)


def lecun_uniform(in_axis: int = -2, out_axis: int = -1, dtype: DTypeLike = float) -> Initializer:
    """Uniform, variance 1 / inputs (LeCun et al. 1998)."""
    return variance_scaling(1.0, "fan_in", "uniform", in_axis, out_axis, dtype)


def lecun_normal(in_axis: int = -2, out_axis: int = -1, dtype: DTypeLike = float) -> Initializer:
    """Truncated normal, variance 1 / inputs (LeCun et al. 1998)."""
    return variance_scaling(1.0, "fan_in", "truncated_normal", in_axis, out_axis, dtype)


def he_uniform(in_axis: int = -2, out_axis: int = -1, dtype: DTypeLike = float) -> Initializer:
    """Uniform, variance 2 / inputs (He et al. 2015)."""
    return variance_scaling(2.0, "fan_in", "uniform", in_axis, out_axis, dtype)


def he_normal(in_axis: int = -2, out_axis: int = -1, dtype: DTypeLike = float) -> Initializer:
    """Truncated normal, variance 2 / inputs (He et al. 2015)."""
    return variance_scaling(2.0, "fan_in", "truncated_normal", in_axis, out_axis, dtype)


xavier_uniform, xavier_normal = glorot_uniform, glorot_normal
kaiming_uniform, kaiming_normal = he_uniform, he_normal
