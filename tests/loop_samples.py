"""Samples of the primitives that run a program several times, or one of several programs."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from functrans.control.cond import cond_p
from functrans.control.scan import scan_p
from functrans.control.solve import linear_solve_p
from functrans.control.stepping import Pass
from functrans.control.sweep import sweep_p
from functrans.control.while_loop import while_p
from functrans.ir import Aval, Jaxpr, Primitive
from functrans.primitives import elementwise as e
from functrans.primitives.derive import full_like
from functrans.recording import stage_walk
from tests.samples import Sample, Variant
from tests.samples import values as any_values
from tests.samples_of import SIZES, ControlSample

INT = Aval((), np.dtype(np.int64))
STEPS: dict[Variant, int] = {"plain": 3, "empty": 0, "one": 1, "odd": 5}

_staged: dict[Any, Jaxpr] = {}


def program(body: Callable[..., list[Any]], *avals: Aval) -> Jaxpr:
    """`body` staged; the same object for the same arguments, as params must be."""
    key = (body.__name__, avals)
    if key not in _staged:
        _staged[key] = stage_walk(body, avals, "sample")
    return _staged[key]


def values(rng: np.random.Generator, shape: tuple[int, ...], dtype: Any) -> Any:
    """Small values, on which a few steps do not explode, complex sines included."""
    return any_values(rng, shape, dtype, -0.7, 0.7)


def _next(i: Any) -> Any:
    return e.add(i, full_like(i, 1))


# -- bodies: what is not linear, and what is -----------------------------------------------------


def _step(w: Any, x: Any, i: Any, slice_: Any) -> list[Any]:
    return [e.add(e.mul(e.sin(x), w), slice_), _next(i), e.mul(x, slice_), e.neg(i)]


def _linear_step(w: Any, x: Any, i: Any, slice_: Any) -> list[Any]:
    return [e.add(e.times(2, x), e.sub(w, slice_)), _next(i), e.add(x, slice_), i]


def _sines(x: Any, y: Any) -> list[Any]:
    return [e.mul(e.sin(x), y), x]


def _products(x: Any, y: Any) -> list[Any]:
    return [e.mul(x, x), e.add(x, e.sin(y))]


def _swap(x: Any, y: Any) -> list[Any]:
    return [y, x]


def _double(x: Any, y: Any) -> list[Any]:
    return [e.times(2, x), e.sub(x, y)]


def _less(n: Any, i: Any, x: Any) -> list[Any]:
    return [e.lt(i, n)]


def _grow(w: Any, i: Any, x: Any) -> list[Any]:
    return [_next(i), e.add(e.mul(e.sin(x), w), x)]


def _grow_linearly(w: Any, i: Any, x: Any) -> list[Any]:
    return [_next(i), e.add(e.times(2, x), w)]


def _grow_and_note(w: Any, i: Any, x: Any) -> list[Any]:
    s = e.sin(x)
    return [_next(i), e.mul(s, w), s]


def _gather(k: Any, a: Any, i: Any, x: Any, s: Any) -> list[Any]:
    """A pass: its const and carry, then what the body noted; notes more."""
    return [e.add(a, e.mul(x, k)), e.mul(a, s)]


def _go_back(k: Any, b: Any, i: Any, x: Any, s: Any, noted: Any) -> list[Any]:
    return [e.add(e.mul(e.sin(b), k), e.mul(noted, x))]


def _count(n: Any, i: Any) -> list[Any]:
    return [e.lt(i, n)]


def _count_and_note(w: Any, i: Any) -> list[Any]:
    return [_next(i), e.mul(w, w)]


def _gather_linearly(k: Any, a: Any, i: Any, s: Any) -> list[Any]:
    return [e.add(e.mul(a, s), k), e.sub(a, e.mul(k, s))]


def _go_back_linearly(k: Any, b: Any, i: Any, s: Any, noted: Any) -> list[Any]:
    return [e.add(e.add(e.mul(b, s), k), noted)]


def _grow_and_note_linearly(w: Any, i: Any, x: Any) -> list[Any]:
    return [_next(i), e.add(e.times(2, x), w), e.sub(x, w)]


def _gather_all(k: Any, a: Any, i: Any, x: Any, s: Any) -> list[Any]:
    return [e.add(e.times(2, a), e.sub(e.add(x, s), k)), e.add(a, x)]


def _go_back_all(k: Any, b: Any, i: Any, x: Any, s: Any, noted: Any) -> list[Any]:
    return [e.add(e.sub(b, k), e.add(noted, e.times(3, s)))]


# -- operands and params -------------------------------------------------------------------------


def _scan(body: Callable[..., list[Any]], reverse: bool) -> Any:
    def make(rng: np.random.Generator, dtype: Any, variant: Variant) -> Any:
        shape, length = SIZES[variant], STEPS[variant]
        aval = Aval(shape, dtype)
        w, x = values(rng, shape, dtype), values(rng, shape, dtype)
        params = {
            "jaxpr": program(body, aval, aval, INT, aval),
            "length": length,
            "reverse": reverse,
            "num_consts": 1,
            "num_carry": 2,
        }
        return [w, x, np.int64(2), values(rng, (length, *shape), dtype)], params

    return make


def _cond(bodies: Sequence[Callable[..., list[Any]]]) -> Any:
    def make(rng: np.random.Generator, dtype: Any, variant: Variant) -> Any:
        aval = Aval(SIZES[variant], dtype)
        branches = tuple(program(body, aval, aval) for body in bodies)
        x, y = (values(rng, aval.shape, dtype) for _ in range(2))
        return [np.int32(rng.integers(-1, 4)), x, y], {"branches": branches}

    return make


def _loop(aval: Aval, body: Callable[..., list[Any]]) -> dict[str, Any]:
    return {
        "cond": program(_less, INT, INT, aval),
        "body": program(body, aval, INT, aval),
        "num_cond_consts": 1,
        "num_body_consts": 1,
        "lanes": None,
        "dims": None,
    }


def _start(rng: np.random.Generator, aval: Aval) -> list[Any]:
    """The bound, w, the counter and x: between none and four steps."""
    w, x = values(rng, aval.shape, aval.dtype), values(rng, aval.shape, aval.dtype)
    return [np.int64(rng.integers(0, 5)), w, np.int64(0), x]


def _while(body: Callable[..., list[Any]]) -> Any:
    def make(rng: np.random.Generator, dtype: Any, variant: Variant) -> Any:
        aval = Aval(SIZES[variant], dtype)
        return _start(rng, aval), _loop(aval, body)

    return make


def _while_in_lanes(rng: np.random.Generator, dtype: Any, variant: Variant) -> Any:
    """Lanes that differ in their number of steps; w is shared, and so is the first counter."""
    aval, lanes = Aval(SIZES[variant], dtype), STEPS[variant]
    params = {**_loop(aval, _grow), "lanes": lanes, "dims": (0, None, None, 0)}
    x = values(rng, (lanes, *aval.shape), dtype)
    return [rng.integers(0, 5, lanes), values(rng, aval.shape, dtype), np.int64(0), x], params


def _sweep(
    body: Callable[..., list[Any]],
    first: Callable[..., list[Any]],
    second: Callable[..., list[Any]],
) -> Any:
    """A pass forwards and one backwards over what a loop notes."""

    def make(rng: np.random.Generator, dtype: Any, variant: Variant) -> Any:
        aval = Aval(SIZES[variant], dtype)
        passes = (
            Pass(program(first, aval, aval, INT, aval, aval), False, 1, 1),
            Pass(program(second, aval, aval, INT, aval, aval, aval), True, 1, 1),
        )
        own = [values(rng, aval.shape, dtype) for _ in range(4)]
        params = {**_loop(aval, body), "num_carry": 2, "passes": passes}
        return [*_start(rng, aval), *own], params

    return make


def _sweep_of_a_count(rng: np.random.Generator, dtype: Any, variant: Variant) -> Any:
    """A loop that carries nothing but its counter, so that all that moves is in the passes."""
    aval = Aval(SIZES[variant], dtype)
    bound, w, counter, _ = _start(rng, aval)
    params = {
        "cond": program(_count, INT, INT),
        "body": program(_count_and_note, aval, INT),
        "num_cond_consts": 1,
        "num_body_consts": 1,
        "num_carry": 1,
        "passes": (
            Pass(program(_gather_linearly, aval, aval, INT, aval), False, 1, 1),
            Pass(program(_go_back_linearly, aval, aval, INT, aval, aval), True, 1, 1),
        ),
        "lanes": None,
        "dims": None,
    }
    return [bound, w, counter, *[values(rng, aval.shape, dtype) for _ in range(4)]], params


def _by_elements(d: Any, x: Any) -> list[Any]:
    """A diagonal matrix times a vector."""
    return [e.mul(d, x)]


def _divided(d: Any, b: Any) -> list[Any]:
    return [e.div(b, d)]


def _linear_solve(rng: np.random.Generator, dtype: Any, variant: Variant) -> Any:
    aval = Aval(SIZES[variant], dtype)
    solve, matvec = program(_divided, aval, aval), program(_by_elements, aval, aval)
    params = {"solve": solve, "matvec": matvec, "transposed": (solve, matvec), "num_consts": 1}
    diagonal = any_values(rng, aval.shape, dtype, 0.7, 1.5)
    return [diagonal, values(rng, aval.shape, dtype)], params


def _sample(record: Primitive, make: Any, label: str = "", **flags: Any) -> ControlSample:
    return ControlSample(record.name, make, label=label, record=record, **{"ulps": 64, **flags})


LOOP_SAMPLES: list[Sample] = [
    _sample(scan_p, _scan(_step, False)),
    _sample(scan_p, _scan(_step, True), "reverse"),
    _sample(scan_p, _scan(_linear_step, False), "linear", kinds="fc", linear=((0, 1, 3),)),
    _sample(scan_p, _scan(_linear_step, True), "linear reverse", linear=((0, 1, 3),)),
    _sample(cond_p, _cond((_sines, _products, _swap)), kinds="fc"),
    _sample(cond_p, _cond((_double, _swap)), "linear", linear=((1, 2),)),
    _sample(linear_solve_p, _linear_solve, kinds="fc", linear=((1,),)),
    _sample(while_p, _while(_grow)),
    _sample(while_p, _while_in_lanes, "lanes"),
    _sample(while_p, _while(_grow_linearly), "linear", kinds="fc", linear=((1, 3),)),
    _sample(sweep_p, _sweep(_grow_and_note, _gather, _go_back)),
    _sample(sweep_p, _sweep_of_a_count, "linear passes", linear=((3, 4, 5, 6),)),
    _sample(
        sweep_p,
        _sweep(_grow_and_note_linearly, _gather_all, _go_back_all),
        "linear",
        kinds="fc",
        linear=((1, 3, 4, 5, 6, 7),),
    ),
]
