"""What primitives mean, written out element by element: nothing of their code is shared.

For the primitives whose evaluation is more than one function of NumPy.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from typing import Any

import mpmath
import numpy as np

Definition = Callable[..., list[Any]]


def over_positions(shape: Sequence[int], dtype: Any, value: Callable[..., Any]) -> Any:
    """The array that has value(*position) at each position."""
    out = np.empty(shape, dtype)
    for position in np.ndindex(*shape):
        out[position] = value(*position)
    return out


def each(function: Callable[..., Any]) -> Definition:
    """A scalar function applied everywhere, in Python."""
    return lambda *xs: [
        over_positions(xs[0].shape, xs[0].dtype, lambda *p: function(*(x[p].item() for x in xs)))
    ]


# -- moving --------------------------------------------------------------------------------------


def pad(x: Any, value: Any, *, low: Any, high: Any, interior: Any) -> list[Any]:
    sizes = zip(x.shape, low, high, interior, strict=True)
    out = np.full([lo + n + max(n - 1, 0) * gap + hi for n, lo, hi, gap in sizes], value)
    for p in np.ndindex(*x.shape):
        out[tuple(lo + i * (gap + 1) for i, lo, gap in zip(p, low, interior, strict=True))] = x[p]
    return [out]


def broadcast(x: Any, *, shape: Any, axes: Any) -> list[Any]:
    pick = lambda *p: x[tuple(i for a, i in enumerate(p) if a not in axes)]
    return [over_positions(shape, x.dtype, pick)]


def reverse(x: Any, *, axes: Any) -> list[Any]:
    turn = lambda *p: x[tuple(x.shape[a] - 1 - i if a in axes else i for a, i in enumerate(p))]
    return [over_positions(x.shape, x.dtype, turn)]


def dynamic_slice(x: Any, *starts: Any, sizes: Any) -> list[Any]:
    first = [min(max(int(s), 0), n - k) for s, n, k in zip(starts, x.shape, sizes, strict=True)]
    take = lambda *p: x[tuple(s + i for s, i in zip(first, p, strict=True))]
    return [over_positions(sizes, x.dtype, take)]


def dynamic_update_slice(x: Any, update: Any, *starts: Any) -> list[Any]:
    sizes = zip(starts, x.shape, update.shape, strict=True)
    first = [min(max(int(s), 0), n - k) for s, n, k in sizes]
    out = x.copy()
    for p in np.ndindex(*update.shape):
        out[tuple(s + i for s, i in zip(first, p, strict=True))] = update[p]
    return [out]


# -- indexing ------------------------------------------------------------------------------------


def resolved(i: int, n: int) -> tuple[int, bool]:
    """A position from an index, clamped, and whether the index was inside."""
    i = int(i)
    if -n <= i < n:
        return i % n, True
    return (0 if i < 0 else n - 1), False


def places(
    shape: Any, indices: Any, axes: Any
) -> list[tuple[tuple[int, ...], tuple[int, ...], bool]]:
    """(position in the gathered array, position in x, inside) for everything that is touched."""
    rest = [a for a in range(len(shape)) if a not in axes]
    found = []
    for k in np.ndindex(*indices[0].shape):
        spots = [resolved(i[k], shape[a]) for i, a in zip(indices, axes, strict=True)]
        fixed = {a: s for a, (s, _) in zip(axes, spots, strict=True)}
        inside = all(ok for _, ok in spots)
        for r in np.ndindex(*[shape[a] for a in rest]):
            where = {**fixed, **dict(zip(rest, r, strict=True))}
            found.append(((*k, *r), tuple(where[a] for a in range(len(shape))), inside))
    return found


def gather(x: Any, *indices: Any, axes: Any, mode: str) -> list[Any]:
    rest = [n for a, n in enumerate(x.shape) if a not in axes]
    out = np.zeros((*indices[0].shape, *rest), x.dtype)
    nothing = np.nan if x.dtype.kind in "fc" and mode == "fill" else 0
    for target, source, inside in places(x.shape, indices, axes):
        out[target] = x[source] if inside or mode == "clip" else nothing
    return [out]


def scattering(combine: Callable[[Any, Any], Any]) -> Definition:
    def scatter(x: Any, updates: Any, *indices: Any, axes: Any, mode: str) -> list[Any]:
        out = x.copy()
        for source, target, inside in places(x.shape, indices, axes):
            if inside or mode == "clip":
                out[target] = combine(out[target], updates[source])
        return [out]

    return scatter


# -- folding and ordering ------------------------------------------------------------------------


def scan(combine: Callable[[Any, Any], Any]) -> Definition:
    def apply(x: Any, *, axis: int, reverse: bool) -> list[Any]:
        out = x.copy()
        lines = np.moveaxis(out, axis, -1)
        order = range(x.shape[axis])[::-1] if reverse else range(x.shape[axis])
        for p in np.ndindex(*lines.shape[:-1]):
            for before, here in itertools.pairwise(order):
                lines[p][here] = combine(lines[p][before], lines[p][here])
        return [out]

    return apply


def linear_recurrence(a: Any, b: Any, *, axis: int, reverse: bool) -> list[Any]:
    """Each term times all factors that come after it, added up."""
    out = np.zeros_like(b)
    factors, terms, lines = (np.moveaxis(x, axis, -1) for x in (a, b, out))
    order = list(range(b.shape[axis]))[:: -1 if reverse else 1]
    for p in np.ndindex(*lines.shape[:-1]):
        for k, place in enumerate(order):
            carried = [
                terms[p][i] * np.prod(factors[p][order[j + 1 : k + 1]])
                for j, i in enumerate(order[: k + 1])
            ]
            lines[p][place] = sum(carried)
    return [out]


def sort(*xs: Any, axis: int, num_keys: int) -> list[Any]:
    """Python's sort, stable, by the keys in order; NaN after everything."""
    moved = [np.moveaxis(x.copy(), axis, -1) for x in xs]
    for p in np.ndindex(*moved[0].shape[:-1]):
        rows = [m[p].copy() for m in moved]
        key = lambda i, rows=rows: [nan_last(r[i]) for r in rows[:num_keys]]
        order = sorted(range(len(rows[0])), key=key)
        for m, row in zip(moved, rows, strict=True):
            m[p] = row[order]
    return [np.moveaxis(m, -1, axis) for m in moved]


def nan_last(value: Any) -> Any:
    if isinstance(value, np.complexfloating):
        return (value != value, *(nan_last(part) for part in (value.real, value.imag)))
    return (bool(value != value), 0 if value != value else value)


def top_k(x: Any, *, k: int) -> list[Any]:
    best = np.empty((*x.shape[:-1], k), x.dtype)
    index = np.empty(best.shape, np.int64)
    for p in np.ndindex(*x.shape[:-1]):
        # Reversed sorting keeps equal elements in their order: the lowest index comes first.
        ranked = sorted(range(x.shape[-1]), key=lambda i, p=p: nan_last(x[p][i]), reverse=True)
        index[p] = ranked[:k]
        best[p] = x[p][index[p]]
    return [best, index]


def extreme(better: Callable[[Any, Any], bool]) -> Definition:
    """The first index of the best element; a NaN is better than any number."""

    def arg(x: Any, *, axis: int) -> list[Any]:
        lines = np.moveaxis(x, axis, -1)
        out = np.zeros(lines.shape[:-1], np.int64)
        for p in np.ndindex(*out.shape):
            for i, value in enumerate(lines[p]):
                held = lines[p][out[p]]
                if held == held and (value != value or better(value, held)):
                    out[p] = i
        return [out]

    return arg


# -- contraction ---------------------------------------------------------------------------------


def dot_general(x: Any, y: Any, *, contract: Any, batch: Any) -> list[Any]:
    """NumPy's einsum with a letter for each axis."""
    letters = iter("abcdefghijklmnopqrstuvwxyz")
    of_x = [next(letters) for _ in x.shape]
    of_y = [next(letters) for _ in y.shape]
    for a, b in zip((*contract[0], *batch[0]), (*contract[1], *batch[1]), strict=True):
        of_y[b] = of_x[a]
    free = [of_x[a] for a in range(x.ndim) if a not in (*contract[0], *batch[0])]
    free += [of_y[a] for a in range(y.ndim) if a not in (*contract[1], *batch[1])]
    out = [of_x[a] for a in batch[0]] + free
    text = f"{''.join(of_x)},{''.join(of_y)}->{''.join(out)}"
    return [np.asarray(np.einsum(text, x, y)).astype(x.dtype)]


def conv(
    x: Any,
    w: Any,
    *,
    strides: Any,
    padding: Any,
    lhs_dilation: Any,
    rhs_dilation: Any,
    groups: int,
    batch_groups: int,
) -> list[Any]:
    """The sum over every pair of an input place and a window place that meet at an output place."""
    spatial = range(len(strides))
    spread = lambda n, d: (n - 1) * d + 1 if n else 0
    room = [spread(x.shape[2 + a], lhs_dilation[a]) + sum(padding[a]) for a in spatial]
    window = [spread(w.shape[2 + a], rhs_dilation[a]) for a in spatial]
    extent = [max(0, (room[a] - window[a]) // strides[a] + 1) for a in spatial]
    per_out = w.shape[0] // (groups * batch_groups)
    out = np.zeros((x.shape[0] // batch_groups, w.shape[0], *extent), x.dtype)
    for n, o, *at in np.ndindex(*out.shape):
        part = o // per_out
        total = x.dtype.type(0)
        for c, *k in np.ndindex(*w.shape[1:]):
            place = [at[a] * strides[a] + k[a] * rhs_dilation[a] - padding[a][0] for a in spatial]
            hits = all(place[a] % lhs_dilation[a] == 0 for a in spatial)
            source = [place[a] // lhs_dilation[a] for a in spatial]
            if hits and all(0 <= source[a] < x.shape[2 + a] for a in spatial):
                image = n + part * out.shape[0] if batch_groups > 1 else n
                channel = c + part * w.shape[1] if groups > 1 else c
                total += x[(image, channel, *source)] * w[(o, c, *k)]
        out[(n, o, *at)] = total
    return [out]


# -- scalar functions ----------------------------------------------------------------------------


def in_mpmath(function: Callable[..., Any]) -> Definition:
    """With forty digits, rounded once."""

    def apply(*xs: Any) -> Any:
        with mpmath.workdps(40):
            found = function(*xs)
            return complex(found) if isinstance(found, mpmath.mpc) else float(found)

    return each(apply)


def threefry2x32(*words: Any) -> list[Any]:
    """Salmon et al. 2011: five groups of four rounds, a key word injected after each."""
    outs = [np.empty_like(words[0]), np.empty_like(words[0])]
    for p in np.ndindex(*words[0].shape):
        k0, k1, a, b = (int(w[p]) for w in words)
        keys, word = (k0, k1, k0 ^ k1 ^ 0x1BD11BDA), 2**32
        a, b = (a + k0) % word, (b + k1) % word
        for group in range(5):
            for turn in ((13, 15, 26, 6), (17, 29, 16, 24))[group % 2]:
                a = (a + b) % word
                b = ((b << turn) | (b >> (32 - turn))) % word ^ a
            a = (a + keys[(group + 1) % 3]) % word
            b = (b + keys[(group + 2) % 3] + group + 1) % word
        outs[0][p], outs[1][p] = a, b
    return outs


def population_count(x: Any) -> list[Any]:
    bits = x.dtype.itemsize * 8
    ones = lambda *p: bin(int(x[p]) % 2**bits).count("1")
    return [over_positions(x.shape, x.dtype, ones)]


def integer_pow(x: Any, *, exponent: int) -> list[Any]:
    product = np.ones_like(x)
    for _ in range(abs(exponent)):
        product = product * x
    return [product if exponent > 0 else 1 / product]


DEFINITIONS: dict[str, Definition] = {
    "pad": pad,
    "broadcast": broadcast,
    "reverse": reverse,
    "dynamic_slice": dynamic_slice,
    "dynamic_update_slice": dynamic_update_slice,
    "gather": gather,
    "scatter": scattering(lambda old, new: new),
    "scatter_add": scattering(lambda old, new: old + new),
    "scatter_mul": scattering(lambda old, new: old * new),
    "scatter_min": scattering(min),
    "scatter_max": scattering(max),
    "cumsum": scan(lambda a, b: a + b),
    "cumprod": scan(lambda a, b: a * b),
    "cummax": scan(max),
    "cummin": scan(min),
    "linear_recurrence": linear_recurrence,
    "sort": sort,
    "top_k": top_k,
    "argmax": extreme(lambda a, b: a > b),
    "argmin": extreme(lambda a, b: a < b),
    "dot_general": dot_general,
    "conv": conv,
    "threefry2x32": threefry2x32,
    "population_count": population_count,
    "integer_pow": integer_pow,
    "scale": each(lambda x, y: 0 if x == 0 or y == 0 else x * y),
    "clamp": each(lambda low, x, high: min(max(x, low), high)),
    "logistic": in_mpmath(lambda x: 1 / (1 + mpmath.exp(-x))),
    "rsqrt": in_mpmath(lambda x: 1 / mpmath.sqrt(x)),
    "erf": in_mpmath(mpmath.erf),
    "erfc": in_mpmath(mpmath.erfc),
    "erfinv": in_mpmath(mpmath.erfinv),
    "logaddexp": in_mpmath(lambda x, y: mpmath.log(mpmath.exp(x) + mpmath.exp(y))),
    "tanh": in_mpmath(mpmath.tanh),
    "log1p": in_mpmath(lambda x: mpmath.log(1 + mpmath.mpmathify(x))),
}
