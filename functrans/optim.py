"""Optimisers: sgd, momentum, adam and adamw as pairs of pure functions over pytrees.

    optimizer = adam(1e-3)
    state = optimizer.init(params)
    params, state = optimizer.update(params, grads, state)

`params`, `grads` and the moments in the state are pytrees of one structure. Nothing is changed in
place, so a step can be compiled, differentiated and mapped like any other function.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple, TypeAlias

from functrans import tree
from functrans.ir import aval_of
from functrans.surface import creation
from functrans.surface.reductions import square_length
from functrans.typing import ArrayLike

Params: TypeAlias = Any
"""A pytree of arrays."""

Rate: TypeAlias = float | ArrayLike | Callable[[Any], Any]
"""A learning rate, or a function of the number of steps taken so far."""


class Optimizer(NamedTuple):
    """`init(params) -> state` and `update(params, grads, state) -> (params, state)`."""

    init: Callable[[Params], Any]
    update: Callable[[Params, Params, Any], tuple[Params, Any]]


class StepState(NamedTuple):
    """How many steps have been taken."""

    step: Any


class MomentumState(NamedTuple):
    """Steps taken, and the running sum of gradients."""

    step: Any
    velocity: Params


class AdamState(NamedTuple):
    """Steps taken, and running means of gradients and of their squared sizes."""

    step: Any
    mean: Params
    square: Params


def _rate(rate: Rate, step: Any) -> Any:
    return rate(step) if callable(rate) else rate


def _zeros_like(params: Params) -> Params:
    """Zeros in the shape of each parameter; of a Python number, 0.0, which stays one."""
    return tree.map(lambda p: 0.0 if aval_of(p).weak else creation.zeros_like(p), params)


def sgd(learning_rate: Rate) -> Optimizer:
    """Gradient descent: p - rate * g."""

    def init(params: Params) -> StepState:
        return StepState(0)

    def update(params: Params, grads: Params, state: StepState) -> tuple[Params, StepState]:
        rate = _rate(learning_rate, state.step)
        new = tree.map(lambda p, g: p - rate * g, params, grads)
        return new, StepState(state.step + 1)

    return Optimizer(init, update)


def momentum(learning_rate: Rate, mass: float = 0.9, nesterov: bool = False) -> Optimizer:
    """Gradient descent with momentum: v' = mass * v + g; p - rate * v'.

    Nesterov's form steps along g + mass * v' instead.
    """

    def init(params: Params) -> MomentumState:
        return MomentumState(0, _zeros_like(params))

    def update(params: Params, grads: Params, state: MomentumState) -> tuple[Params, MomentumState]:
        rate = _rate(learning_rate, state.step)
        velocity = tree.map(lambda v, g: mass * v + g, state.velocity, grads)
        along = velocity
        if nesterov:
            along = tree.map(lambda v, g: g + mass * v, velocity, grads)
        new = tree.map(lambda p, v: p - rate * v, params, along)
        return new, MomentumState(state.step + 1, velocity)

    return Optimizer(init, update)


def adam(
    learning_rate: Rate = 1e-3, b1: float = 0.9, b2: float = 0.999, eps: float = 1e-8
) -> Optimizer:
    """Adam (Kingma and Ba 2015), with the bias of both means corrected."""
    return adamw(learning_rate, b1, b2, eps, weight_decay=0.0)


def adamw(
    learning_rate: Rate = 1e-3,
    b1: float = 0.9,
    b2: float = 0.999,
    eps: float = 1e-8,
    weight_decay: float = 1e-2,
) -> Optimizer:
    """Adam with decoupled weight decay (Loshchilov and Hutter 2019)."""

    def init(params: Params) -> AdamState:
        return AdamState(0, _zeros_like(params), _zeros_like(params))

    def update(params: Params, grads: Params, state: AdamState) -> tuple[Params, AdamState]:
        step = state.step + 1
        rate = _rate(learning_rate, state.step)
        mean = tree.map(lambda m, g: b1 * m + (1 - b1) * g, state.mean, grads)
        square = tree.map(lambda s, g: b2 * s + (1 - b2) * _size2(g), state.square, grads)
        unbias1, unbias2 = 1 - b1**step, 1 - b2**step

        def moved(p: Any, m: Any, s: Any) -> Any:
            along = (m / unbias1) / ((s / unbias2) ** 0.5 + eps)
            return p - rate * (along + weight_decay * p if weight_decay else along)

        return tree.map(moved, params, mean, square), AdamState(step, mean, square)

    return Optimizer(init, update)


def _size2(g: Any) -> Any:
    """|g| squared, elementwise."""
    return square_length(g) if aval_of(g).dtype.kind == "c" else g * g


__all__ = [
    "AdamState",
    "MomentumState",
    "Optimizer",
    "StepState",
    "adam",
    "adamw",
    "momentum",
    "sgd",
]
