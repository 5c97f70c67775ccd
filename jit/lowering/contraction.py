"""Contractions: matrix products call the emitted GEMM on strided views, the rest are folds.

Small products, and those of types without a GEMM, are loop nests of their own.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import prod
from typing import Any, NamedTuple, TypeAlias

import numpy as np

from functrans.extend import Atom, Aval, Eqn, Primitive, Var, primitives
from jit.loop_ir.nodes import LoopKind
from jit.lowering import complex as cx
from jit.lowering.formulas import NARROW
from jit.lowering.index import Index, Point
from jit.lowering.root import RootContext
from jit.lowering.rules import (
    PRODUCTS,
    EquationBuilder,
    Fold,
    Pair,
    Walk,
    expands,
    folds,
    loop_dtype,
    lowers_root,
)

ft = primitives.contraction
st = primitives.structural
el = primitives.elementwise
GEMMS = {"float32": "f32", "float64": "f64", "complex64": "c64", "complex128": "c128"}
SMALL_PRODUCT = 4096
"""Up to so many multiplications a product is a loop nest in line."""
MOST_WORK, MOST_SIDE = 1 << 15, 64
"""A product of a batch is small, and gets a function of its own, up to so many multiplications and
up to this length of a side."""
WIDENED = 64
"""From this length of every side on, half precisions are converted for ft_gemm."""
LEAST_SHARED = 3_000_000
"""Calls of fewer multiplications than this do not use several threads by themselves."""
VECTOR = 16
"""Multiplications that take as long as one simple operation."""
LEAST_BATCH = 8
"""Fewer products are not worth a function of their own."""
looped_dot_p = Primitive(
    name="dot_general", abstract_eval=ft.dot_general_p.abstract_eval, impl=ft.dot_general_p.impl
)
"""dot_general as a loop nest."""


Axis: TypeAlias = tuple[int, tuple[int, ...]]
"""The extent of an axis, and what a step along it is in each operand that has it."""

# -- dot_general ------------------------------------------------------------------------------


class Product:
    """The axes of a dot_general by what they do."""

    def __init__(self, eqn: Eqn) -> None:
        x, y = eqn.inputs
        (self.x_contract, self.y_contract) = eqn.params["contract"]
        (self.x_batch, self.y_batch) = eqn.params["batch"]
        self.x_free = free(x.aval, self.x_contract + self.x_batch)
        self.y_free = free(y.aval, self.y_contract + self.y_batch)
        self.batch = tuple(x.aval.shape[a] for a in self.x_batch)
        self.rows = tuple(x.aval.shape[a] for a in self.x_free)
        self.columns = tuple(y.aval.shape[a] for a in self.y_free)
        self.depth = tuple(x.aval.shape[a] for a in self.x_contract)

    @property
    def shape(self) -> tuple[int, ...]:
        """The shape of the result, before it is turned."""
        return self.batch + self.rows + self.columns


def free(aval: Aval, used: Sequence[int]) -> tuple[int, ...]:
    return tuple(a for a in range(aval.ndim) if a not in used)


@expands(ft.dot_general_p)
def choose_dot(eqs: EquationBuilder, eqn: Eqn) -> list[Atom] | None:
    """A loop nest where no GEMM would pay; None leaves the equation to the GEMM."""
    p = Product(eqn)
    m, n, k = prod(p.rows), prod(p.columns), prod(p.depth)
    no_gemm = eqn.inputs[0].aval.dtype.name not in GEMMS
    if k == 1:
        return outer_product(eqs, eqn, p)
    if loop_dtype(eqn.inputs[0].aval.dtype) in NARROW and min(m, n, k) >= WIDENED:
        return widened(eqs, eqn)
    if no_gemm or k == 0 or m == n == 1 or prod(p.batch) * m * n * k <= SMALL_PRODUCT:
        return eqs.bind(looped_dot_p, *eqn.inputs, **eqn.params)
    return None


def widened(eqs: EquationBuilder, eqn: Eqn) -> list[Atom]:
    """A product of half precisions by that of their values in float32, rounded once."""
    wide = np.dtype("float32")
    inputs = [eqs.bind(st.convert_p, x, dtype=wide, weak=False)[0] for x in eqn.inputs]
    (found,) = eqs.bind(ft.dot_general_p, *inputs, **eqn.params)
    return eqs.bind(st.convert_p, found, dtype=eqn.outputs[0].aval.dtype, weak=False)


def outer_product(eqs: EquationBuilder, eqn: Eqn, p: Product) -> list[Atom]:
    """A product without a sum: both operands spread over the result and multiplied."""
    x, y = eqn.inputs
    shape = eqn.outputs[0].aval.shape
    nb, nm = len(p.batch), len(p.rows)
    left = arranged(eqs, x, p.x_batch, p.batch + p.rows)
    right = arranged(eqs, y, p.y_batch, p.batch + p.columns)
    left = spread_over(eqs, left, shape, tuple(range(nb + nm, len(shape))))
    right = spread_over(eqs, right, shape, tuple(range(nb, nb + nm)))
    multiply = el.and_p if x.aval.dtype.kind == "b" else el.mul_p
    return eqs.bind(multiply, left, right)


def arranged(eqs: EquationBuilder, x: Atom, axes: tuple[int, ...], shape: tuple[int, ...]) -> Atom:
    """The axes given, in that order, then the others; `shape` leaves axes of length 1 out."""
    perm = (*axes, *(a for a in range(x.aval.ndim) if a not in axes))
    if perm != tuple(range(x.aval.ndim)):
        (x,) = eqs.bind(st.transpose_p, x, perm=perm)
    return eqs.bind(st.reshape_p, x, shape=shape)[0] if x.aval.shape != shape else x


def spread_over(
    eqs: EquationBuilder, x: Atom, shape: tuple[int, ...], axes: tuple[int, ...]
) -> Atom:
    return eqs.bind(st.broadcast_p, x, shape=shape, axes=axes)[0] if axes else x


PRODUCTS.add(looped_dot_p)


@folds(looped_dot_p)
def fold_dot(eqn: Eqn) -> Fold:
    """Over batch, rows and columns; the contracted axes are folded."""
    x, y = eqn.inputs
    p = Product(eqn)
    kept = p.batch + p.rows + p.columns
    cuts = (len(p.batch), len(p.batch) + len(p.rows), len(kept))
    boolean = x.aval.dtype.kind == "b"
    wide = loop_dtype(x.aval.dtype) in NARROW

    def element(walk: Walk, indices: Sequence[Index]) -> Any:
        batch, rows = indices[: cuts[0]], indices[cuts[0] : cuts[1]]
        columns, depth = indices[cuts[1] : cuts[2]], indices[cuts[2] :]
        left = walk.value(x, at(x, (p.x_batch, batch), (p.x_free, rows), (p.x_contract, depth)))
        right = walk.value(y, at(y, (p.y_batch, batch), (p.y_free, columns), (p.y_contract, depth)))
        return product(walk.b, left, right, boolean, wide)

    extents = kept + p.depth
    reduced = (False,) * len(kept) + (True,) * len(p.depth)
    return Fold(extents, reduced, "or" if boolean else "add", element)


def product(b: Any, left: Any, right: Any, boolean: bool, wide: bool) -> Any:
    """One term of a contraction; half precisions are multiplied and summed in f32."""
    if isinstance(left, Pair):
        return cx.mul(b, left, right)
    if boolean:
        return b.and_(left, right)
    if wide:
        left, right = b.cast(left, "f32"), b.cast(right, "f32")
    return b.mul(left, right)


def at(atom: Atom, *parts: tuple[Sequence[int], Sequence[Index]]) -> Point:
    """The point whose axes take the indices given for them."""
    by_axis = {a: i for axes, indices in parts for a, i in zip(axes, indices, strict=True)}
    shape = atom.aval.shape
    return Point(shape, multi=[by_axis[a] for a in range(len(shape))])


def called(eqn: Eqn) -> tuple[str, ...]:
    """The product of two matrices; which one a vector takes depends on strides."""
    p = Product(eqn)
    matrices = eqn.outputs[0].aval.size and prod(p.rows) > 1 and prod(p.columns) > 1
    return (f"ft_gemm_{GEMMS[eqn.outputs[0].aval.dtype.name]}",) if matrices else ()


class Turned(NamedTuple):
    """A product as ft_gemm takes it: the columns of its second operand are adjacent in the result.

    Each of the four kinds of axes is merged into few, with strides of both operands (where they
    have such axes) and of the result.
    """

    left: Any
    right: Any
    batch: list[Axis]
    rows: list[Axis]
    columns: list[Axis]
    depth: list[Axis]


def turned(left: Any, right: Any, p: Product, perm: Sequence[int]) -> Turned:
    """The product of two views whose result is stored with its axes in the order of `perm`."""
    shape = p.shape
    steps = row_major([shape[a] for a in perm])
    out = tuple(steps[perm.index(a)] for a in range(len(shape)))
    nb, nm = len(p.batch), len(p.batch) + len(p.rows)
    batch = merge_axes(p.batch, strides(left, p.x_batch), strides(right, p.y_batch), out[:nb])
    rows = merge_axes(p.rows, strides(left, p.x_free), out[nb:nm])
    columns = merge_axes(p.columns, strides(right, p.y_free), out[nm:])
    depth = merge_axes(p.depth, strides(left, p.x_contract), strides(right, p.y_contract))
    if columns and columns[-1][1][1] != 1:
        swapped = [(e, (b, a, c)) for e, (a, b, c) in batch]
        return Turned(right, left, swapped, columns, rows, [(e, (b, a)) for e, (a, b) in depth])
    return Turned(left, right, batch, rows, columns, depth)


def can_turn(eqn: Eqn, perm: Sequence[int]) -> bool:
    """Can the result be stored with its axes in this order, rows of it side by side?"""
    p = Product(eqn)
    long = [a for a in perm if p.shape[a] > 1]
    nb, nm = len(p.batch), len(p.batch) + len(p.rows)
    ends = [
        [a for a in range(*part) if p.shape[a] > 1][-1:] for part in ((nb, nm), (nm, len(perm)))
    ]
    return not long or long[-1:] in ends


def turned_aval(
    x: Aval, y: Aval, *, contract: Any, batch: Any, perm: Any, shape: Any
) -> list[Aval]:
    (out,) = ft.dot_general_p.abstract_eval(x, y, contract=contract, batch=batch)
    return [Aval(shape, out.dtype, out.weak)]


def turned_impl(x: Any, y: Any, *, contract: Any, batch: Any, perm: Any, shape: Any) -> list[Any]:
    (out,) = ft.dot_general_p.impl(x, y, contract=contract, batch=batch)
    return [np.transpose(out, perm).reshape(shape)]


turned_dot_p = Primitive(name="dot_general", abstract_eval=turned_aval, impl=turned_impl)
"""dot_general, its axes then in the order of `perm`, as an array of `shape`."""


def summed_aval(*operands: Aval, terms: Any) -> list[Aval]:
    """The type of the first product, which all have."""
    primitive, params = terms[0]
    return primitive.abstract_eval(*operands[:2], **params)


def summed_impl(*operands: Any, terms: Any) -> list[Any]:
    total: Any = None
    for (primitive, params), x, y in zip(terms, operands[::2], operands[1::2], strict=True):
        (found,) = primitive.impl(x, y, **params)
        total = found if total is None else total + found
    return [total]


summed_dot_p = Primitive(name="dot_general", abstract_eval=summed_aval, impl=summed_impl)
"""The sum of products of its operands, two by two; `terms` holds primitive and params of each."""


def called_in_sum(eqn: Eqn) -> tuple[str, ...]:
    return (f"ft_gemm_{GEMMS[eqn.outputs[0].aval.dtype.name]}",)


@lowers_root(summed_dot_p, calls=called_in_sum)
def lower_sum(ctx: RootContext, eqn: Eqn) -> None:
    """Each product but the first adds to what is there."""
    (out,) = eqn.outputs
    for i, (primitive, params) in enumerate(eqn.params["terms"]):
        operands = eqn.inputs[2 * i : 2 * i + 2]
        # A kernel each, since equal kernels are compiled once.
        with ctx.walk.kernel(f"{ctx.name}_{i}" if i else ctx.name):
            write_product(ctx, Eqn(primitive, operands, [out], params, eqn.source), i > 0)


@lowers_root(turned_dot_p, calls=called)
@lowers_root(ft.dot_general_p, calls=called)
def lower_dot(ctx: RootContext, eqn: Eqn) -> None:
    if eqn.outputs[0].aval.size:
        with ctx.walk.kernel(ctx.name):
            write_product(ctx, eqn, False)


def write_product(ctx: RootContext, eqn: Eqn, adding: bool) -> None:
    """Calls of ft_gemm on the operands as they lie; loops over what is not one axis."""
    (out,) = eqn.outputs
    p = Product(eqn)
    perm = eqn.params.get("perm", tuple(range(len(p.shape))))
    x, y = eqn.inputs
    left, right, batch, rows, cols, depth = turned(ctx.view(x), ctx.view(y), p, perm)
    # Axes beyond one of each kind become loops; a product may add to what is there only in order.
    (m, (am, cm)), (n, (bn, _)) = last(rows, 2), last(cols, 2)
    k, (ak, bk) = last(depth, 2)
    batch.sort(key=lambda axis: axis[0])
    many, (a_batch, b_batch, c_batch) = last(batch, 3)
    outer = [(e, (s[0], s[1], s[2])) for e, s in reversed(batch[:-1])]
    outer += [(e, (s[0], 0, s[1])) for e, s in rows[:-1]]
    outer += [(e, (0, s[0], s[1])) for e, s in cols[:-1]]
    deeper = [(e, (s[0], s[1], 0)) for e, s in depth[:-1]]
    ldc = cm if m > 1 else n
    symbol = function_for(out, (many, m, n, k), (am, ak, bk, bn, ldc), adding or bool(deeper))
    b, unit = ctx.b, 2 if out.aval.dtype.kind == "c" else 1
    call = m * n * k * many
    spread = bool(outer) and call < LEAST_SHARED and ctx.parallel(call * outer[0][0] / VECTOR)
    loops = outer + deeper
    kinds: list[LoopKind] = [
        "parallel" if spread and not i else "serial" for i in range(len(loops))
    ]
    with ctx.nest([e for e, _ in loops], kinds) as indices:
        offsets = [left.offset, right.offset, 0]
        moves: list[Index] = [Index(o, {}) for o in offsets]
        for index, (_, step) in zip(indices, loops, strict=True):
            moves = [move + index * s for move, s in zip(moves, step, strict=True)]
        adds = b.index(1) if adding else accumulates(ctx, indices[len(outer) :])
        a, bb, c = (ctx.walk.number(move * unit) for move in moves)
        b.call(
            symbol,
            *(m, n, k),
            b.ref(ctx.buffer(left.base), a),
            *(am, ak),
            b.ref(ctx.buffer(right.base), bb),
            *(bk, bn),
            b.ref(ctx.buffer(out), c),
            ldc,
            many,
            *(a_batch, b_batch, c_batch),
            adds,
        )


def function_for(
    out: Var, sizes: tuple[int, int, int, int], steps: tuple[int, ...], adding: bool
) -> str:
    """The runtime function for (batch, m, n, k) and the strides of A, B and the rows of C."""
    element = GEMMS[out.aval.dtype.name]
    _, m, n, _ = sizes
    if element[0] == "f" and not adding and min(steps) >= 0 and is_small(*sizes):
        return small_name(element, *sizes[1:], steps)
    if element[0] == "f" and with_vector(m, n, *steps):
        return f"ft_gemv_{element}"
    return f"ft_gemm_{element}"


def is_small(batch: int, m: int, n: int, k: int) -> bool:
    """Is it worth a function to multiply so many pairs of m x k and k x n matrices?"""
    return batch >= LEAST_BATCH and max(m, n, k) <= MOST_SIDE and m * n * k <= MOST_WORK


def small_name(element: str, m: int, n: int, k: int, steps: Sequence[int]) -> str:
    """The function for a shape and the strides: of A by row and column, of B, of C by row."""
    return f"ft_small_{element}_{m}x{n}x{k}_{'_'.join(map(str, steps))}"


def with_vector(m: int, n: int, am: int, ak: int, bk: int, bn: int, ldc: int) -> bool:
    """Can ft_gemv take this product? One side is a vector, the matrix has an axis of stride 1."""
    column = n == 1 and (ldc == 1 or m == 1)
    return (column or m == 1) and 1 in ((am, ak) if column else (bk, bn))


def accumulates(ctx: RootContext, deep: Sequence[Index]) -> Any:
    """1 but in the first step of loops over contracted axes."""
    b = ctx.b
    total: Index = sum(deep[1:], deep[0]) if deep else Index(0, {})
    return b.cast(b.ne(ctx.walk.number(total), b.index(0)), "i64") if total.terms else b.index(0)


def strides(view: Any, axes: Sequence[int]) -> tuple[int, ...]:
    return tuple(view.strides[a] for a in axes)


def row_major(shape: Sequence[int]) -> tuple[int, ...]:
    found, step = [], 1
    for n in reversed(shape):
        found.append(step)
        step *= n
    return tuple(reversed(found))


def merge_axes(extents: Sequence[int], *steps: Sequence[int]) -> list[Axis]:
    """(extent, strides) of axes, neighbours joined where every operand steps evenly over both."""
    found: list[Axis] = []
    for extent, *step in zip(extents, *steps, strict=True):
        if extent == 1:
            continue
        if found:
            outer, before = found[-1]
            if all(s0 == s1 * extent for s0, s1 in zip(before, step, strict=True)):
                found[-1] = (outer * extent, tuple(step))
                continue
        found.append((extent, tuple(step)))
    return found


def last(axes: Sequence[Axis], operands: int) -> Axis:
    """The innermost axis, or one of a single step."""
    return axes[-1] if axes else (1, (0,) * operands)
