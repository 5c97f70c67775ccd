"""All samples by primitive: those of the table, and those of the primitives that hold a jaxpr."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from functrans.control.call import call_p
from functrans.control.checkpoint import barrier_p, checkpoint_p, dots_saveable
from functrans.control.cond import cond_p
from functrans.control.custom import Rule, custom_jvp_call_p, custom_tangent_p, custom_vjp_call_p
from functrans.control.scan import scan_p
from functrans.control.solve import linear_solve_p
from functrans.control.sweep import sweep_p
from functrans.control.while_loop import while_p
from functrans.ir import Aval, Jaxpr, Primitive
from functrans.primitives import elementwise as e
from functrans.recording import stage_walk
from tests.samples import Sample, Variant, values

CONTROL: tuple[Primitive, ...] = (
    call_p,
    checkpoint_p,
    barrier_p,
    custom_jvp_call_p,
    custom_vjp_call_p,
    custom_tangent_p,
    cond_p,
    scan_p,
    while_p,
    sweep_p,
    linear_solve_p,
)
"""The primitives that stand outside functrans/primitives."""

SIZES: dict[Variant, tuple[int, ...]] = {"plain": (2, 3), "empty": (0,), "one": (1,), "odd": (37,)}


@dataclass(frozen=True)
class ControlSample(Sample):
    """A sample of a primitive that is not in the table of primitives."""

    record: Primitive | None = None

    @property
    def primitive(self) -> Primitive:
        assert self.record is not None
        return self.record


_staged: dict[Any, Jaxpr] = {}


def program(key: str, aval: Aval, count: int, body: Callable[..., list[Any]]) -> Jaxpr:
    """`body` staged on `count` arrays of one type; the same object for the same arguments."""
    found = _staged.get((key, aval, count))
    if found is None:
        found = _staged[key, aval, count] = stage_walk(body, [aval] * count, "sample")
    return found


def _inner(x: Any, y: Any) -> list[Any]:
    """Two results, one of which only the first operand reaches."""
    return [e.mul(e.sin(x), y), e.exp(e.neg(e.square(x)))]


def _inner_rule(x: Any, y: Any, x_dot: Any, y_dot: Any) -> list[Any]:
    """The derivative of `_inner`, written another way than the primitives' own rules do."""
    s, g = e.sin(x), e.exp(e.neg(e.square(x)))
    by_x = e.mul(x_dot, e.mul(e.cos(x), y))
    return [e.mul(s, y), g, e.add(by_x, e.mul(s, y_dot)), e.mul(e.times(-2, e.mul(x, g)), x_dot)]


def _inner_fwd(x: Any, y: Any) -> list[Any]:
    return [*_inner(x, y), x, y]


def _inner_bwd(x: Any, y: Any, a: Any, b: Any) -> list[Any]:
    g = e.times(-2, e.mul(x, e.exp(e.neg(e.square(x)))))
    return [e.add(e.mul(a, e.mul(e.cos(x), y)), e.mul(b, g)), e.mul(a, e.sin(x))]


def _linear(x: Any, y: Any) -> list[Any]:
    return [e.add(e.times(3, x), y), e.sub(x, e.times(2, y))]


def _call_params(aval: Aval, body: Callable[..., list[Any]]) -> dict[str, Any]:
    return {"jaxpr": program(body.__name__, aval, 2, body), "name": "inner", "engine": None}


_rules: dict[Jaxpr, Rule] = {}


def _rule(key: str, aval: Aval, count: int, body: Callable[..., list[Any]]) -> Rule:
    """A rule staged at once; the same object for the same arguments."""
    jaxpr = program(key, aval, count, body)
    return _rules.setdefault(jaxpr, Rule.staged(jaxpr))


def _custom_jvp(aval: Aval) -> dict[str, Any]:
    rule = _rule("rule", aval, 4, _inner_rule)
    return {"jaxpr": program("_inner", aval, 2, _inner), "rule": rule, "num_consts": 0}


def _custom_vjp(aval: Aval) -> dict[str, Any]:
    return {
        "jaxpr": program("_inner", aval, 2, _inner),
        "fwd": _rule("fwd", aval, 2, _inner_fwd),
        "bwd": _rule("bwd", aval, 4, _inner_bwd),
        "num_consts": 0,
    }


def _linear_rule(x: Any, y: Any, x_dot: Any, y_dot: Any) -> list[Any]:
    return [*_linear(x, y), *_linear(x_dot, y_dot)]


def _linear_fwd(x: Any, y: Any) -> list[Any]:
    return [*_linear(x, y), x, y]


def _linear_bwd(x: Any, y: Any, a: Any, b: Any) -> list[Any]:
    return [e.add(e.times(3, a), b), e.sub(a, e.times(2, b))]


def _linear_jvp(aval: Aval) -> dict[str, Any]:
    rule = _rule("linear rule", aval, 4, _linear_rule)
    return {"jaxpr": program("_linear", aval, 2, _linear), "rule": rule, "num_consts": 0}


def _linear_vjp(aval: Aval) -> dict[str, Any]:
    return {
        "jaxpr": program("_linear", aval, 2, _linear),
        "fwd": _rule("linear fwd", aval, 2, _linear_fwd),
        "bwd": _rule("linear bwd", aval, 4, _linear_bwd),
        "num_consts": 0,
    }


def _custom_tangent(aval: Aval) -> dict[str, Any]:
    return {"bwd": program("bwd", aval, 4, _inner_bwd), "num_residuals": 2}


def _sample(
    record: Primitive,
    params: Callable[[Aval], dict[str, Any]],
    count: int = 2,
    kinds: str = "f",
    **flags: Any,
) -> ControlSample:
    def make(rng: np.random.Generator, dtype: Any, variant: Variant) -> Any:
        shape = SIZES[variant]
        aval = Aval(shape, dtype)
        return [values(rng, shape, dtype) for _ in range(count)], params(aval)

    return ControlSample(record.name, make, kinds, record=record, **{"ulps": 16, **flags})


CONTROL_SAMPLES: list[Sample] = [
    _sample(call_p, lambda aval: _call_params(aval, _inner), kinds="fc"),
    _sample(call_p, lambda aval: _call_params(aval, _linear), label="linear", linear=((0, 1),)),
    _sample(
        checkpoint_p,
        lambda aval: {"jaxpr": program("_inner", aval, 2, _inner), "policy": None},
        kinds="fc",
    ),
    _sample(
        checkpoint_p,
        lambda aval: {"jaxpr": program("_linear", aval, 2, _linear), "policy": dots_saveable},
        label="linear",
        linear=((0, 1),),
    ),
    _sample(barrier_p, lambda aval: {}, kinds="biufc", linear=((0, 1),), ulps=None, special=True),
    _sample(custom_jvp_call_p, _custom_jvp, kinds="fc"),
    _sample(custom_vjp_call_p, _custom_vjp, kinds="fc"),
    _sample(custom_jvp_call_p, _linear_jvp, label="linear", linear=((0, 1), (0,))),
    _sample(custom_vjp_call_p, _linear_vjp, label="linear", linear=((0, 1), (1,))),
    _sample(custom_tangent_p, _custom_tangent, 4, kinds="fc", linear=((2, 3),)),
]


# -- data at which the table's samples do not look ------------------------------------------------


def _equal_pair(rng: np.random.Generator, dtype: Any, variant: Variant) -> Any:
    x = values(rng, SIZES[variant], dtype)
    return [x, x.copy()], {}


def _crossed_bounds(rng: np.random.Generator, dtype: Any, variant: Variant) -> Any:
    """The lower bound above the upper one: the upper one counts."""
    shape = SIZES[variant]
    low, high = values(rng, shape, dtype, 1, 2), values(rng, shape, dtype, -2, -1)
    return [low, values(rng, shape, dtype, -0.9, 0.9), high], {}


def _few_places(rng: np.random.Generator, dtype: Any, variant: Variant) -> Any:
    """Many factors for few places, the last place among them."""
    x, updates = values(rng, (2,), dtype, 0.5, 1.5), values(rng, (5,), dtype, 0.5, 1.5)
    return [x, updates, np.array([1, 0, 1, 1, 0])], {"axes": (0,), "mode": "raise"}


def _whole_rows(rng: np.random.Generator, dtype: Any, variant: Variant) -> Any:
    """A window that fills the last axis and the first, but not the middle one."""
    x = values(rng, (2, 5, 3), dtype)
    return [x, *(np.int64(rng.integers(0, 4)) for _ in range(3))], {"sizes": (2, 2, 3)}


def _whole_rows_updated(rng: np.random.Generator, dtype: Any, variant: Variant) -> Any:
    operands, _ = _whole_rows(rng, dtype, variant)
    return [operands[0], values(rng, (2, 2, 3), dtype), *operands[1:]], {}


def _crowd(rng: np.random.Generator, dtype: Any, variant: Variant) -> Any:
    """Many more updates than places, in parts that are not of one length."""
    low, high = (1, 2) if dtype.kind in "iu" else (0.9, 1.1)
    x, updates = values(rng, (3,), dtype, low, high), values(rng, (101,), dtype, low, high)
    return [x, updates, rng.integers(0, 3, 101)], {"axes": (0,), "mode": "raise"}


def _near_one(rng: np.random.Generator, dtype: Any, variant: Variant) -> Any:
    """Numbers as near to 1 and -1 as the dtype has them, and as near to 0."""
    gap = np.logspace(np.log10(np.finfo(dtype).eps), -0.5, 20)
    x = np.concatenate([1 - gap, gap - 1, gap * gap, -gap])
    return [x.astype(dtype)], {}


def _as_bytes(target: str) -> Any:
    """8 bytes as another type of that size."""

    def make(rng: np.random.Generator, dtype: Any, variant: Variant) -> Any:
        return [values(rng, SIZES[variant], dtype)], {"dtype": np.dtype(target)}

    return make


_PLAIN: tuple[Variant, ...] = ("plain",)
EXTRA_SAMPLES: list[Sample] = [
    Sample("logaddexp", _equal_pair, label="equal"),
    Sample("erfinv", _near_one, label="tails", variants=_PLAIN, smooth=False),
    *(
        Sample("bitcast", _as_bytes(t), "complex64", f"to {t}", smooth=False, ulps=None)
        for t in ("uint64", "float64", "int64")
    ),
    *(
        Sample("bitcast", _as_bytes("complex64"), f, f"from {f}", smooth=False, ulps=None)
        for f in ("uint64", "float64", "int64")
    ),
    Sample("clamp", _crossed_bounds, label="crossed", ulps=None),
    Sample("scatter_mul", _few_places, label="few", variants=_PLAIN, linear=((0,),), ulps=16),
    *(
        Sample(
            f"scatter_{how}", _crowd, "f", "crowd", _PLAIN, smooth=how in ("add", "mul"), ulps=64
        )
        for how in ("add", "mul", "min", "max")
    ),
    Sample("dynamic_slice", _whole_rows, label="rows", variants=_PLAIN, linear=((0,),), wrt=(0,)),
    Sample(
        "dynamic_update_slice",
        _whole_rows_updated,
        label="rows",
        variants=_PLAIN,
        linear=((0, 1),),
        wrt=(0, 1),
    ),
]


def samples_of(name: str) -> list[Sample]:
    """The samples of the primitive called `name`."""
    return _by_name()[name]


_table: dict[str, list[Sample]] = {}


def _by_name() -> dict[str, list[Sample]]:
    if not _table:
        from tests.loop_samples import LOOP_SAMPLES
        from tests.samples import SAMPLES

        for sample in [*SAMPLES, *EXTRA_SAMPLES, *CONTROL_SAMPLES, *LOOP_SAMPLES]:
            _table.setdefault(sample.name, []).append(sample)
    return _table


def sampled() -> list[str]:
    """The names of the primitives that have a sample."""
    return list(_by_name())
