"""Systems, inverses, determinants and Cholesky factors of a few rows, in registers.

The lanes of a vector are matrices of a stack. Invariant: nothing is divided by a pivot that is 0;
where one is and a result has none, the answer of `write` says so.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import reduce
from math import prod
from typing import TypeAlias

from functrans.extend import Eqn
from jit.factorisations import ROWS
from jit.loop_ir.builder import Builder
from jit.loop_ir.nodes import LoopKind, Value
from jit.lowering.root import RootContext

Matrix: TypeAlias = list[list[Value]]


def write(ctx: RootContext, eqn: Eqn, name: str, count: int) -> Value:
    """The results of a small factorisation; answers whether some matrix had none."""
    b = ctx.b
    work = 4.0 * count * prod(eqn.inputs[0].aval.shape[-2:]) * ROWS
    kind: LoopKind = "parallel_vector" if ctx.parallel(work) else "vector"
    with b.for_(count, kind, [(b.const("i64", 0), "or")], hint="matrix") as loop:
        matrices = [_read(ctx, eqn, j, loop.i) for j in range(len(eqn.inputs))]
        results, fails = STEPS_OF[name](b, *matrices)
        for j, result in enumerate(results):
            _write(ctx, eqn, j, loop.i, result)
        loop.yield_(b.or_(loop.carries[0], b.cast(fails, "i64")))
    return b.ne(loop.results[0], 0)


def _read(ctx: RootContext, eqn: Eqn, j: int, matrix: Value) -> Matrix:
    """Operand j of one matrix of the stack, in double precision, as NumPy computes."""
    b, atom = ctx.b, eqn.inputs[j]
    *lead, rows, columns = atom.aval.shape
    index = matrix if eqn.params["mapped"][j] else b.rem(matrix, prod(lead))
    first, source = b.mul(index, rows * columns), ctx.dense(atom)
    return [
        [b.cast(b.load(source, b.add(first, r * columns + c)), "f64") for c in range(columns)]
        for r in range(rows)
    ]


def _write(ctx: RootContext, eqn: Eqn, j: int, matrix: Value, result: Matrix) -> None:
    b, target = ctx.b, ctx.buffer(eqn.outputs[j])
    numbers = [x for row in result for x in row]
    first = b.mul(matrix, len(numbers))
    for k, x in enumerate(numbers):
        b.store(target, b.add(first, k), b.cast(x, target.dtype))


# -- elimination ------------------------------------------------------------------------------


def _exchanged(b: Builder, swap: Value, one: list[Value], other: list[Value]) -> Matrix:
    """Two rows, the other way round where `swap` holds."""
    pairs = list(zip(one, other, strict=True))
    return [
        [b.select(swap, y, x) for x, y in pairs],
        [b.select(swap, x, y) for x, y in pairs],
    ]


def _eliminated(b: Builder, a: Matrix) -> tuple[Matrix, list[Value], Value]:
    """The triangular form of a square matrix with right sides beside it, its inverse pivots, and
    the sign of the permutation.

    Of the rows below, each in turn takes the pivot's place where its element is larger: in the end
    the largest is there. The inverse of a pivot that is 0 is 0.
    """
    n, a = len(a), [list(row) for row in a]
    sign, inverses = b.const("f64", 1.0), list[Value]()
    for k in range(n):
        for i in range(k + 1, n):
            swap = b.gt(b.abs(a[i][k]), b.abs(a[k][k]))
            a[k][k:], a[i][k:] = _exchanged(b, swap, a[k][k:], a[i][k:])
            sign = b.select(swap, b.neg(sign), sign)
        is_zero = b.eq(a[k][k], 0.0)
        inverse = b.div(b.const("f64", 1.0), b.select(is_zero, 1.0, a[k][k]))
        inverses.append(b.select(is_zero, 0.0, inverse))
        for i in range(k + 1, n):
            factor = b.neg(b.mul(a[i][k], inverses[k]))
            a[i][k + 1 :] = [
                b.fma(factor, above, x)
                for above, x in zip(a[k][k + 1 :], a[i][k + 1 :], strict=True)
            ]
    return a, inverses, sign


def _any_zero(b: Builder, pivots: list[Value]) -> Value:
    return reduce(b.or_, [b.eq(pivot, 0.0) for pivot in pivots])


def solution(b: Builder, a: Matrix, right: Matrix) -> tuple[list[Matrix], Value]:
    """x with a x = right: by elimination, then from the last row to the first."""
    n = len(a)
    beside = [[*row, *more] for row, more in zip(a, right, strict=True)]
    rows, inverses, _ = _eliminated(b, beside)
    x: Matrix = [row[n:] for row in rows]
    for k in reversed(range(n)):
        for i in range(k + 1, n):
            factor = b.neg(rows[k][i])
            x[k] = [b.fma(factor, below, value) for below, value in zip(x[i], x[k], strict=True)]
        x[k] = [b.mul(value, inverses[k]) for value in x[k]]
    return [x], _any_zero(b, [rows[k][k] for k in range(n)])


def inverse(b: Builder, a: Matrix) -> tuple[list[Matrix], Value]:
    n = len(a)
    unit: Matrix = [[b.const("f64", float(i == j)) for j in range(n)] for i in range(n)]
    return solution(b, a, unit)


def determinant(b: Builder, a: Matrix) -> tuple[list[Matrix], Value]:
    """The product of the pivots."""
    rows, _, found = _eliminated(b, a)
    for k in range(len(a)):
        found = b.mul(found, rows[k][k])
    return [[[found]]], b.const("bool", False)


def sign_and_log(b: Builder, a: Matrix) -> tuple[list[Matrix], Value]:
    """The sign of the determinant and the logarithm of its size; 0 and -inf where it is 0."""
    rows, _, sign = _eliminated(b, a)
    log = b.const("f64", 0.0)
    for k in range(len(a)):
        pivot = rows[k][k]
        sign = b.select(b.lt(pivot, 0.0), b.neg(sign), b.select(b.eq(pivot, 0.0), 0.0, sign))
        log = b.add(log, b.op("log", b.abs(pivot)))
    return [[[sign]], [[log]]], b.const("bool", False)


def cholesky(b: Builder, a: Matrix) -> tuple[list[Matrix], Value]:
    """Column by column, from the lower triangle."""
    n, zero = len(a), b.const("f64", 0.0)
    factor: Matrix = [[zero] * n for _ in range(n)]
    fails = b.const("bool", False)
    for j in range(n):
        rest = [a[i][j] for i in range(n)]
        for k in range(j):
            rest[j:] = [b.fma(b.neg(factor[i][k]), factor[j][k], rest[i]) for i in range(j, n)]
        fails = b.or_(fails, b.le(rest[j], 0.0))
        root = b.op("sqrt", rest[j])
        inverse = b.div(b.const("f64", 1.0), root)
        factor[j][j] = root
        for i in range(j + 1, n):
            factor[i][j] = b.mul(rest[i], inverse)
    return [factor], fails


STEPS_OF: dict[str, Callable[..., tuple[list[Matrix], Value]]] = {
    "inverse": inverse,
    "solution": solution,
    "determinant": determinant,
    "sign_and_log": sign_and_log,
    "cholesky": cholesky,
}
