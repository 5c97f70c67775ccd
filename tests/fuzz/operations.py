"""The operations that programs are made of: how each is written, chosen, and kept off its kinks.

An operation is a template of Python code, a rule that chooses operands and static arguments from
the stack, and a margin: how far its operands are from where it is not smooth or not defined.
Longer than most files because it is a table: nearly every operation is one line.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
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
        """An entry with a dtype kind among `kinds` that passes the test; later ones are likelier."""
        ...

    def like(self, index: int, low: float = -1.5, high: float = 1.5) -> int:
        """Another entry with the shape and dtype of one, or a constant made for it."""
        ...

    def constant(self, shape: Sequence[int], dtype: Any, low: float, high: float) -> int:
        """A new entry: a constant array that the program captures."""
        ...


Rule: TypeAlias = Callable[[Stack], Choice]


@dataclass(frozen=True)
class Operation:
    """`body` names the shape of function that the operation is given: see generate.py."""

    name: str
    template: str
    choose: Rule
    margin: Margin | None = None
    body: str = ""


OPERATIONS: dict[str, Operation] = {}


def operation(
    name: str, template: str, choose: Rule, margin: Margin | None = None, body: str = ""
) -> None:
    assert name not in OPERATIONS, name
    OPERATIONS[name] = Operation(name, template, choose, margin, body)


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


# -- elementwise ----------------------------------------------------------------------------------

for _name in ("sin", "cos", "exp", "expm1", "exp2", "sinh", "cosh", "tanh", "square"):
    operation(_name, f"np.{_name}({{0}})", one("fc", lambda x: bool((np.abs(x) < 3).all())))
for _name in ("log", "log2", "log10", "sqrt"):
    operation(_name, f"np.{_name}({{0}})", one("fc"), off_cut)
operation("log1p", "np.log1p({0})", one("f"), lambda x: x + 0.9)
operation("arcsinh", "np.arcsinh({0})", one("f"))
operation("arctan", "np.arctan({0})", one("f"))
operation("arcsin", "np.arcsin({0})", one("f"), inside(0.9))
operation("arccos", "np.arccos({0})", one("f"), inside(0.9))
operation("arctanh", "np.arctanh({0})", one("f"), inside(0.9))
operation("arccosh", "np.arccosh({0})", one("f"), lambda x: x - 1.1)
operation("arccosh_shifted", "np.arccosh({0} * {0} + 1.5)", one("f"))
operation("arcsin_of_tanh", "np.arcsin(0.9 * np.tanh({0}))", one("f"))
operation("arccos_of_sin", "np.arccos(0.9 * np.sin({0}))", one("f"))
operation("arctanh_of_sin", "np.arctanh(0.8 * np.sin({0}))", one("f"))
operation("log_of_square", "np.log({0} * {0} + 0.5)", one("f"))
operation("log10_of_square", "np.log10({0} * {0} + 0.5)", one("f"))
operation("log2_of_square", "np.log2(np.square({0}) + 0.5)", one("f"))
operation("log1p_of_square", "np.log1p({0} ** 2)", one("f"))
operation("sqrt_of_square", "np.sqrt({0} ** 2 + 0.3)", one("f"))
operation("tan", "np.tan({0})", one("f"), lambda x: np.abs(np.cos(x)) - 0.3)
operation("tan_of_sin", "np.tan(np.sin({0}))", one("f"))
operation("cbrt", "np.cbrt({0})", one("f"), bigger(0.1))
operation("cbrt_of_exp", "np.cbrt(np.exp({0}))", one("f", lambda x: bool((np.abs(x) < 3).all())))
operation("reciprocal", "np.reciprocal({0})", one("fc"), bigger(0.2))
operation("reciprocal_of_square", "np.reciprocal({0} * {0} + 0.7)", one("f"))
operation("negative", "-{0}", one("ifc"))
operation("absolute", "np.abs({0})", one("fc"), zero)
operation("absolute_int", "abs({0})", one("i"))
operation("sign", "np.sign({0})", one("fc"), zero)
operation("sign_int", "np.sign({0})", one("i"))
operation("floor", "np.floor({0})", one("f"), integer)
operation("ceil", "np.ceil({0})", one("f"), integer)
operation("trunc", "np.trunc({0} * 2)", one("f"), lambda x: integer(2 * x))
operation("rint", "np.rint({0} * 2)", one("f"), lambda x: half_integer(2 * x))
operation("stop_gradient", "ft.stop_gradient(np.floor({0}))", one("f"), integer)
operation("conjugate", "np.conj({0})", one("c"))
operation("real", "{0}.real", one("c"))
operation("imag", "np.imag({0})", one("c"))
operation("angle", "np.angle({0})", one("c"), off_cut)
operation("to_complex", "prim('complex', {0}, {1})", alike(2, "f"))
operation("real_of_product", "np.real(({0} + 1j) * np.exp(1j * {0}))", one("f"))
operation("imag_of_power", "np.imag(np.conj({0} * (1 + 2j)) ** 2)", one("f"))
operation("polynomial", "3 * {0} ** 3 - 2 * {0} + 1", one("fc"))
operation("inverse_cube", "({0} * {0} + 1) ** -3", one("f"))
operation("integer_cube", "{0} ** 3", one("i"))

for _name in ("rsqrt",):
    operation(_name, f"prim('{_name}', {{0}} * {{0}} + {{0}}.dtype.type(0.4))", one("f"))
for _name in ("erf", "erfc", "logistic"):
    operation(_name, f"prim('{_name}', {{0}})", one("f"))
operation(
    "erfinv", "prim('erfinv', np.tanh({0} / 2))", one("f", lambda x: bool((np.abs(x) < 3).all()))
)

operation("add", "{0} + {1}", broadcasting("ifc"))
operation("subtract", "{0} - {1}", broadcasting("ifc"))
operation("multiply", "{0} * {1}", broadcasting("ifc"))
operation("divide", "{0} / {1}", broadcasting("fc"), lambda x, y: np.abs(y) - 0.2)
operation("divide_safely", "{0} / ({1} * {1} + 0.5)", broadcasting("f"))
operation("maximum", "np.maximum({0}, {1})", broadcasting("f"), tie)
operation("minimum", "np.minimum({0}, {1})", broadcasting("f"), tie)
operation("maximum_int", "np.maximum({0}, {1})", broadcasting("ib"))
operation("minimum_int", "np.minimum({0}, {1})", broadcasting("ib"))
operation(
    "maximum_shifted", "np.maximum({0}, {1} - 1.7)", broadcasting("f"), lambda x, y: tie(x, y - 1.7)
)
operation(
    "minimum_shifted", "np.minimum({0}, {1} + 1.3)", broadcasting("f"), lambda x, y: tie(x, y + 1.3)
)
operation("power", "{0} ** {1}", broadcasting("f"), lambda x, y: np.minimum(x - 0.1, 3 - np.abs(y)))
operation(
    "power_of_exp",
    "np.power(np.exp(np.sin({0})), {1})",
    broadcasting("f"),
    lambda x, y: 3 - np.abs(y),
)
operation(
    "arctan2",
    "np.arctan2({0}, {1})",
    broadcasting("f"),
    lambda y, x: np.where(x > 0.1, 1, np.abs(y)),
)
operation("arctan2_right", "np.arctan2({0}, {1} * {1} + 0.2)", broadcasting("f"))
operation("hypot", "np.hypot({0}, {1})", broadcasting("f"), lambda x, y: np.hypot(x, y) - 0.2)
operation("logaddexp", "np.logaddexp({0}, {1})", broadcasting("f"))
operation(
    "copysign",
    "np.copysign({0}, {1})",
    broadcasting("f"),
    lambda x, y: np.minimum(zero(x), zero(y)),
)
operation("nextafter", "np.nextafter({0}, {1})", broadcasting("f"), tie)
operation("floor_divide", "{0} // {1}", broadcasting("f"), quotient)
operation("remainder", "{0} % {1}", broadcasting("f"), quotient)
operation("fmod", "np.fmod({0}, {1})", broadcasting("f"), quotient)
operation("floor_divide_const", "{0} // 0.7", one("f"), lambda x: integer(x / 0.7))
operation("remainder_const", "np.remainder({0}, 0.7)", one("f"), lambda x: integer(x / 0.7))
operation("fmod_const", "np.fmod({0}, 0.7)", one("f"), lambda x: integer(x / 0.7))
operation("floor_divide_int", "{0} // (abs({1}) + 1)", broadcasting("i"))
operation("remainder_int", "np.remainder({0}, abs({1}) + 2)", broadcasting("i"))
operation(
    "clip", "np.clip({0}, -0.6, 0.8)", one("f"), lambda x: np.minimum(tie(x, -0.6), tie(x, 0.8))
)
operation(
    "clamp",
    "prim('clamp', np.full_like({0}, -0.5), {0}, np.full_like({0}, 0.9))",
    one("f"),
    lambda x: np.minimum(tie(x, -0.5), tie(x, 0.9)),
)
operation("clamp_int", "prim('clamp', -abs({1}), {0}, abs({1}))", alike(2, "i"))
operation(
    "scale", "prim('scale', {0}, {1})", alike(2, "fc"), lambda x, y: np.minimum(zero(x), zero(y))
)
operation(
    "scale_shifted",
    "prim('scale', np.exp(np.sin({0})), {1} * {1} + {1}.dtype.type(0.1))",
    alike(2, "f"),
)

# -- comparisons, logic, integers ------------------------------------------------------------------

for _name in ("less", "less_equal", "greater", "greater_equal", "equal", "not_equal"):
    operation(_name, f"np.{_name}({{0}}, {{1}})", broadcasting("f"), tie)
    operation(_name + "_int", f"np.{_name}({{0}}, {{1}})", broadcasting("ib"))
for _name in ("and", "or", "xor"):
    operation(_name, f"np.logical_{_name}({{0}}, {{1}})", broadcasting("b"))
    operation(_name + "_bits", f"np.bitwise_{_name}({{0}}, {{1}})", broadcasting("ib"))
operation("not", "~{0}", one("ib"))
operation("shift_left", "({0} & 31) << (abs({1}) % 4)", alike(2, "i"))
operation("shift_right", "{0} >> (abs({1}) % 4)", alike(2, "i"))
operation("population_count", "np.bitwise_count({0}).astype(np.int64)", one("i"))
operation("is_finite", "np.isfinite({0})", one("fc"))
operation("is_nan", "np.isnan({0})", one("fc"))
operation("signbit", "np.signbit({0})", one("f"), zero)
operation("where", "np.where({2}, {0}, {1})", lambda stack: _where(stack))
operation(
    "select", "prim('select', {0} > 0, np.sin({0}), {1})", alike(2, "f"), lambda x, y: zero(x)
)
operation(
    "bitcast",
    "prim('bitcast', np.floor({0}), dtype=np.dtype('{code}')).astype(np.int64) >> 40",
    one("f", lambda x: x.dtype.itemsize >= 4, code=lambda rng, x: f"i{x.dtype.itemsize}"),
    integer,
)
operation(
    "threefry",
    "prim('threefry2x32', *[({0} + k).astype(np.uint32) for k in range(4)])[{k}].astype(np.int64) % 7",
    one("i", k=lambda rng, x: int(rng.integers(0, 2))),
)
operation("to_int", "np.rint({0} * 3).astype(np.int64)", one("f"), lambda x: half_integer(3 * x))
operation("to_int32", "np.floor({0} * 2).astype(np.int32)", one("f"), lambda x: integer(2 * x))
operation("to_float", "{0}.astype(np.{dtype})", lambda stack: _to_float(stack))
operation("int_times_float", "{0} * {1}", lambda stack: _mixed(stack))


def _where(stack: Stack) -> Choice:
    i = stack.pick("fci")
    if i is None:
        return None
    x = stack.value(i)
    c = stack.pick("b", lambda p: _broadcast(p, x))
    if c is None:
        c = stack.constant(x.shape, np.bool_, 0, 1)
    return [i, stack.like(i), c], {}


def _to_float(stack: Stack) -> Choice:
    i = stack.pick("ib")
    return None if i is None else ([i], {"dtype": stack.dtype.name})


def _mixed(stack: Stack) -> Choice:
    """Integers and floats together: promotion is NumPy's."""
    i = stack.pick("f", lambda x: x.dtype == np.float64)
    if i is None:
        return None
    x = stack.value(i)
    j = stack.pick("ib", lambda y: _broadcast(x, y))
    return None if j is None else ([j, i], {})


# -- reductions and scans --------------------------------------------------------------------------


def _along(x: Any) -> Any:
    return neighbours(x)


for _name, _kinds in (("sum", "ifc"), ("mean", "fc"), ("prod", "f")):
    operation(
        _name,
        f"np.{_name}({{0}}, axis={{axis}}, keepdims={{keepdims}})",
        one(_kinds, has_axis, axis=some_axes, keepdims=flag),
    )
for _name in ("max", "min"):
    operation(
        _name, f"np.{_name}({{0}}, axis={{axis}})", one("f", has_axis, axis=some_axes), _along
    )
    operation(_name + "_int", f"{{0}}.{_name}(axis={{axis}})", one("ib", has_axis, axis=some_axes))
    operation(
        "arg" + _name, f"np.arg{_name}({{0}}, axis={{axis}})", one("f", has_axis, axis=axis), _along
    )
operation("all", "np.all({0}, axis={axis})", one("b", has_axis, axis=some_axes))
operation("any", "{0}.any(axis={axis})", one("b", has_axis, axis=some_axes))
operation(
    "all_of_test",
    "np.all({0} < 0.5, axis={axis})",
    one("f", has_axis, axis=axis),
    lambda x: tie(x, 0.5),
)
operation(
    "any_of_test",
    "np.any({0} > 0.3, axis={axis})",
    one("f", has_axis, axis=axis),
    lambda x: tie(x, 0.3),
)
operation("var", "np.var({0}, axis={axis})", one("f", has_axis, axis=some_axes))
operation("cumsum", "np.cumsum({0}, axis={axis})", one("ifc", has_axis, axis=axis))
operation("cumprod", "np.cumprod({0}, axis={axis})", one("f", has_axis, axis=axis))
for _name in ("cumsum", "cumprod", "cumlogsumexp"):
    operation(
        f"{_name}_of",
        f"prim('{_name}', {{0}}, axis={{axis}}, reverse={{reverse}})",
        one("f", has_axis, axis=own_axis, reverse=flag),
    )
for _name in ("cummax", "cummin"):
    operation(
        _name,
        f"prim('{_name}', {{0}}, axis={{axis}}, reverse={{reverse}})",
        one("f", has_axis, axis=own_axis, reverse=flag),
        _along,
    )
operation(
    "reduce_prod",
    "prim('reduce_prod', np.cos({0}) + {0}.dtype.type(1.1), axes=({axis},))",
    one("f", has_axis, axis=own_axis),
)

# -- shape -------------------------------------------------------------------------------------------

operation("reshape", "np.reshape({0}, {shape})", one("fcib", shape=new_shape))
operation("ravel", "{0}.ravel()", one("fci"))
operation("transpose", "np.transpose({0}, {axes})", one("fci", axes=permutation))
operation("T", "{0}.T", one("fc"))
operation("swapaxes", "np.swapaxes({0}, {a}, {b})", one("fi", has_axis, a=axis, b=axis))
operation("expand_dims", "np.expand_dims({0}, {axis})", one("fc", has_axis, axis=axis))
operation("squeeze", "np.squeeze({0})", one("fc"))
operation(
    "broadcast_to",
    "np.broadcast_to({0}, {shape})",
    one("fi", lambda x: x.size <= 20 and x.ndim <= 2, shape=grown_shape),
)
operation(
    "concatenate", "np.concatenate([{0}, {1}], axis={axis})", lambda stack: _joined(stack, "fci")
)
operation("stack", "np.stack([{0}, {1}, {0}], axis={axis})", lambda stack: _joined(stack, "f"))
operation("flip", "np.flip({0}, axis={axis})", one("fi", has_axis, axis=some_axes))
operation(
    "roll",
    "np.roll({0}, {shift}, axis={axis})",
    one("f", has_axis, axis=axis, shift=lambda rng, x: int(rng.integers(-3, 4))),
)
operation("pad", "np.pad({0}, {widths})", one("fi", has_axis, widths=pads))
operation(
    "pad_interior",
    "prim('pad', {0}, {0}.dtype.type(0.5), low={low}, high={high}, interior={interior})",
    one("fc", has_axis, low=per_axis(0, 3), high=per_axis(0, 2), interior=per_axis(0, 3)),
)
operation(
    "pad_value",
    "prim('pad', {0}, np.sum({0}), low={low}, high={high}, interior={interior})",
    one("f", has_axis, low=per_axis(0, 3), high=per_axis(0, 2), interior=per_axis(0, 3)),
)
operation("tile", "np.tile({0}, 2)", one("f", has_axis))
operation("repeat", "np.repeat({0}, 2, axis={axis})", one("f", has_axis, axis=axis))
operation("reverse", "prim('reverse', {0}, axes=({axis},))", one("fi", has_axis, axis=own_axis))
operation(
    "iota",
    "{0} + prim('iota', shape={0}.shape, dtype={0}.dtype, axis={axis}) / {0}.dtype.type(3)",
    one("f", has_axis, axis=own_axis),
)


def _joined(stack: Stack, kinds: str) -> Choice:
    i = stack.pick(kinds, has_axis)
    if i is None:
        return None
    return [i, stack.like(i)], {"axis": axis(stack.rng, stack.value(i))}


# -- indexing ------------------------------------------------------------------------------------------

operation("getitem", "{0}[{index}]", one("fcib", has_axis, index=slices))
operation("getitem_fancy", "{0}[{index}]", one("fci", has_axis, index=fancy))
operation(
    "getitem_traced",
    "({0} + 0 * {1}.sum().astype({0}.dtype))[abs({1}) % {n}]",
    lambda stack: _traced_index(stack),
)
operation(
    "getitem_one",
    "({0} + 0 * {1}.sum().astype({0}.dtype))[np.sum({1}) % {n}]",
    lambda stack: _traced_index(stack),
)
operation("take", "np.take({0}, {index}, axis={axis}, mode={mode})", lambda stack: _take(stack))
operation(
    "take_along",
    "np.take_along_axis({0}, np.argsort({0}, axis={axis}), axis={axis})",
    one("f", has_axis, axis=axis),
    _along,
)
operation(
    "dynamic_slice",
    "prim('dynamic_slice', {0}, *[np.int64(1) * (np.sum({1}) - k) for k in range({0}.ndim)], sizes={sizes})",
    lambda stack: _dynamic(stack, False),
)
operation(
    "dynamic_update_slice",
    "prim('dynamic_update_slice', {0}, np.sin({2}), *[np.int64(1) * (np.sum({1}) - k) for k in range({0}.ndim)])",
    lambda stack: _dynamic(stack, True),
)
operation(
    "gather", "prim('gather', {0}, {1}, axes=({axis},), mode={mode})", lambda stack: _gather(stack)
)
for _name in ("scatter", "scatter_add", "scatter_mul", "scatter_min", "scatter_max"):
    operation(
        _name,
        f"prim('{_name}', {{0}}, {{2}}, {{1}}, axes=({{axis}},), mode={{mode}})",
        lambda stack, _name=_name: _scatter(stack, _name),
        (lambda x, i, u: neighbours(np.concatenate([x.ravel(), u.ravel()])))
        if _name in ("scatter_min", "scatter_max")
        else None,
    )


def _traced_index(stack: Stack) -> Choice:
    i = stack.pick("fc", has_axis)
    if i is None:
        return None
    k = stack.pick("i", lambda v: 1 <= v.size <= 6)
    if k is None:
        k = stack.constant((2,), np.int64, -4, 5)
    return [i, k], {"n": stack.value(i).shape[0]}


def _take(stack: Stack) -> Choice:
    i = stack.pick("fc", has_axis)
    if i is None:
        return None
    along, x = axis(stack.rng, stack.value(i)), stack.value(i)
    mode = ("'clip'", "'wrap'", "'raise'")[int(stack.rng.integers(0, 3))]
    index = integers(stack.rng, x.shape[along])
    if mode == "'clip'":
        index = [abs(n) for n in index]
    return [i], {"axis": along, "index": f"np.array({index})", "mode": mode}


def _dynamic(stack: Stack, update: bool) -> Choice:
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


def _gather(stack: Stack) -> Choice:
    i = stack.pick("fc", has_axis)
    if i is None:
        return None
    x = stack.value(i)
    along = own_axis(stack.rng, x)
    mode = ("clip", "raise")[int(stack.rng.integers(0, 2))]
    k = _indices(stack, x.shape[along], False, mode == "clip")
    return [i, k], {"axis": along, "mode": repr(mode)}


def _scatter(stack: Stack, name: str) -> Choice:
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


# -- contractions, order --------------------------------------------------------------------------------

operation("matmul", "{0} @ {1}", lambda stack: _matmul(stack))
operation("matmul_transposed", "{0} @ np.swapaxes({0}, -1, -2)", one("fc", lambda x: x.ndim >= 2))
operation("dot", "np.dot({0}, {0})", one("fc", vector))
operation("outer", "np.outer({0}, np.sin({0}))", one("f", lambda x: 1 <= x.size <= 8))
operation(
    "tensordot",
    "np.tensordot({0}, {0}, axes={pairs})",
    one("f", has_axis, pairs=lambda rng, x: ([own_axis(rng, x)],) * 2),
)
operation("einsum", "np.einsum('ij,kj->ki', {0}, {1})", lambda stack: _two_matrices(stack))
operation(
    "dot_general",
    "prim('dot_general', {0}, {1}, contract=((1,), (1,)), batch=((0,), (0,)))",
    lambda stack: _two_alike(stack, matrix),
)
operation(
    "conv",
    "prim('conv', {0}[None, None], np.cos({1})[None, None], strides=({s},), padding=(({p}, 1),), "
    "lhs_dilation=({d},), rhs_dilation=(1,), groups=1, batch_groups=1)[0, 0]",
    lambda stack: _conv(stack),
)
operation("sort", "np.sort({0}, axis={axis})", one("f", has_axis, axis=axis), _along)
operation(
    "sort_two",
    "prim('sort', {0}, {1}, axis={axis}, num_keys=1)[1]",
    alike(2, "f"),
    lambda x, y: neighbours(x),
)
operation("argsort", "np.argsort({0}, axis={axis})", one("f", has_axis, axis=axis), _along)
operation(
    "top_k",
    "prim('top_k', {0}, k={k})[{which}]",
    one(
        "f",
        has_axis,
        k=lambda rng, x: int(rng.integers(1, x.shape[-1] + 1)),
        which=lambda rng, x: int(rng.integers(0, 2)),
    ),
    _along,
)


def _matmul(stack: Stack) -> Choice:
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


def _two_matrices(stack: Stack) -> Choice:
    i = stack.pick("fc", matrix)
    if i is None:
        return None
    x = stack.value(i)
    j = stack.pick(
        x.dtype.kind, lambda y: matrix(y) and y.dtype == x.dtype and y.shape[1] == x.shape[1]
    )
    assert j is not None
    return [i, j], {}


def _two_alike(stack: Stack, test: Callable[[Any], bool]) -> Choice:
    i = stack.pick("fc", test)
    return None if i is None else ([i, stack.like(i)], {})


def _conv(stack: Stack) -> Choice:
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


# operands of sort_two need an axis
OPERATIONS["sort_two"] = Operation(
    "sort_two",
    OPERATIONS["sort_two"].template,
    lambda stack: _sort_two(stack),
    OPERATIONS["sort_two"].margin,
)


def _sort_two(stack: Stack) -> Choice:
    i = stack.pick("f", has_axis)
    if i is None:
        return None
    return [i, stack.like(i)], {"axis": own_axis(stack.rng, stack.value(i))}


# -- writes in place ---------------------------------------------------------------------------------------

_writable = one("f", has_axis, index=view)
operation("write", "{out} = {0}.copy()\n{out}[{index}] = 0.5", _writable)
operation(
    "write_value",
    "{out} = {0} * 1\n{out}[{k}] = np.sin({out}[{j}])",
    one(
        "f",
        has_axis,
        k=lambda rng, x: int(rng.integers(-x.shape[0], x.shape[0])),
        j=lambda rng, x: int(rng.integers(-x.shape[0], x.shape[0])),
    ),
)
operation("write_add", "{out} = {0} + 0\n{out}[{index}] += np.cos({out}[{index}])", _writable)
operation("write_scaled", "{out} = {0} + 0\n{out}[{index}] *= -1.5", _writable)
operation(
    "write_whole", "{out} = np.zeros_like({1}) + {0}\n{out} -= {1}\n{out} /= 2", alike(2, "f")
)
operation(
    "write_zeros",
    "{out} = np.zeros_like({0})\n{out}[{index}] = {0}[{index}] ** 2\n{out}[0] += 1",
    _writable,
)
operation(
    "write_new",
    "{out} = np.zeros(({n}, 2)) + {0}[0].sum()\n{out}[:, 0] = {0}.sum()\n{out}[-1] *= {0}.ravel()[0]",
    one(
        "f",
        lambda x: has_axis(x) and x.dtype == np.float64,
        n=lambda rng, x: int(rng.integers(1, 4)),
    ),
)
operation(
    "write_fancy",
    "{out} = {0}.copy()\n{out}[{index}] = {out}[{index}] * 2 + 1",
    one("f", has_axis, index=fancy),
)
operation(
    "write_masked",
    "{out} = {0}.copy()\n{out}[{0} > 0.2] = -0.3",
    one("f", has_axis),
    lambda x: tie(x, 0.2),
)
operation(
    "write_traced",
    "{out} = {0} + 0 * {1}.sum().astype({0}.dtype)\n{out}[abs({1}) % {n}] = 0.25",
    lambda stack: _traced_index(stack),
)
operation("view_write", "{out} = {0}.copy()\nw = {out}[{index}]\nw[...] = w * w - 1", _writable)
operation(
    "view_of_view",
    "{out} = {0} * 2\nw = {out}.T\nv = w[..., ::-1]\nv += 0.1\n{out}[{index}] *= v.sum()",
    _writable,
)
operation(
    "view_reshape",
    "{out} = {0}.copy()\nw = {out}.reshape(-1)\nw[::2] = np.tanh(w[::2])\n{out} *= 1.5",
    one("f", has_axis),
)
operation(
    "view_read",
    "t = {0}.copy()\nw = t[{index}]\nt[{again}] = 0.125\n{out} = w * 3 + 1",
    one("f", has_axis, index=view, again=view),
)
operation(
    "out_argument",
    "{out} = np.empty_like({0} + {1})\nnp.multiply({0}, {1}, out={out})",
    alike(2, "f"),
)
operation(
    "fill_diagonal",
    "{out} = np.eye({n}) * {0}.sum()\n{out}[np.arange({n}), np.arange({n})] += 1",
    one("f", lambda x: x.dtype == np.float64, n=lambda rng, x: int(rng.integers(1, 4))),
)
operation(
    "loop_writes",
    "{out} = np.zeros_like({0})\nfor i in range(len({0})):\n    {out}[i] = {out}[i - 1] * 0.5 + {0}[i]",
    one("f", has_axis),
)

# -- effects and named axes ----------------------------------------------------------------------------------

operation(
    "debug_callback",
    "{out} = {0} * 2\nprim('debug_callback', {out}, callback=lambda x: None, ordered={ordered})",
    one("f", ordered=flag),
)
_rows = one("f", lambda x: has_axis(x) and x.ndim >= 1 and x.size <= 40)
operation(
    "psum",
    "ft.vmap(lambda r: np.sin(r) * prim('psum', r * 1.0, axis_name='i'), axis_name='i')({0})",
    _rows,
)
operation(
    "pmax",
    "ft.vmap(lambda r: prim('pmax', r * 2.0, axis_name='i') - r, axis_name='i')({0})",
    _rows,
    neighbours,
)
operation(
    "pmin",
    "ft.vmap(lambda r: np.cos(prim('pmin', r * 2.0, axis_name='i')) + r, axis_name='i')({0})",
    _rows,
    neighbours,
)
operation(
    "all_gather",
    "ft.vmap(lambda r: np.sin(prim('all_gather', r * 1.0, axis_name='i', axis=0, size={n})).sum() * r, axis_name='i')({0})",
    one("f", lambda x: has_axis(x) and x.size <= 20, n=lambda rng, x: x.shape[0]),
)
operation(
    "axis_index",
    "ft.vmap(lambda r: r * prim('axis_index', axis_name='i', size={n}), axis_name='i')({0})",
    one("f", has_axis, n=lambda rng, x: x.shape[0]),
)

# -- transforms, each of a function that may close over the stack ----------------------------------------------

_argument = one("f", small)
operation("grad", "ft.grad({g})({0})", _argument, body="scalar")
operation("value_and_grad", "ft.value_and_grad({g})({0})[1]", _argument, body="scalar")
operation("jvp", "ft.jvp({g}, ({0},), ({1},))[1]", lambda stack: _two_small(stack), body="float")
operation(
    "linearize", "ft.linearize({g}, {0})[1]({1})", lambda stack: _two_small(stack), body="float"
)
operation("vjp", "pulled({g}, {0})", _argument, body="float")
operation("jacfwd", "ft.jacfwd({g})({0})", _argument, body="float")
operation("jacrev", "ft.jacrev({g})({0})", _argument, body="float")
operation("hessian", "ft.hessian({g})({0})", one("f", lambda x: 1 <= x.size <= 3), body="scalar")
operation("hvp", "ft.hvp({g}, {0}, {1})", lambda stack: _two_small(stack), body="scalar")
operation(
    "vmap", "ft.vmap({g})({0})", one("f", lambda x: has_axis(x) and x.shape[0] <= 4), body="member"
)
operation(
    "vmap_last",
    "ft.vmap({g}, in_axes=-1, out_axes=-1)({0})",
    one("f", lambda x: has_axis(x) and x.ndim >= 2 and x.shape[-1] <= 4),
    body="last member",
)
operation("jit", "ft.jit({g})({0})", _argument, body="float")
operation("checkpoint", "ft.checkpoint({g})({0})", _argument, body="float")
operation("custom_jvp", "custom_jvp_of({g})({0})", _argument, body="closed")
operation("custom_vjp", "custom_vjp_of({g})({0})", _argument, body="closed")
operation("call_twice", "{g}({0}) + {g}({1})", lambda stack: _two_small(stack), body="float")


def _two_small(stack: Stack) -> Choice:
    i = stack.pick("f", small)
    return None if i is None else ([i, stack.like(i)], {})


# -- constants (put on the stack by the rules above) -------------------------------------------------------------

operation("const", "const({seed}, {shape}, {dtype}, {low}, {high})", lambda stack: None)

CHOSEN = [name for name in OPERATIONS if name != "const"]
TRANSFORMS = [name for name in CHOSEN if OPERATIONS[name].body]

operation("finish_sum", "np.sum({0})", lambda stack: None)
operation("finish_total", "total({0})", lambda stack: None)
