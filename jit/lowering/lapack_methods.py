"""How LAPACK computes each factorisation: its routines, the parts they need, and the steps."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import NamedTuple

from jit.factorisations import BY_FACTORS
from jit.loop_ir.nodes import Value
from jit.lowering.lapack import Letter, Part, Sizes, Task

BLOCK = 64
"""Workspaces have room for so many columns at a time where LAPACK takes more than it needs."""


class Method(NamedTuple):
    """How LAPACK computes a factorisation: the routines, the parts of a slot, and the steps."""

    routines: tuple[str, ...]
    parts: Callable[[Sizes], Sequence[Part]]
    steps: Callable[[Task], None]


# -- systems and determinants -----------------------------------------------------------------


def inverse(t: Task) -> None:
    n = t.sizes.n
    t.take("a", 0, n, n)
    t.unit("b", n)
    solve(t, n)
    t.give("b", 0, n, n)


def solution(t: Task) -> None:
    n, k = t.sizes.n, t.sizes.k
    t.take("a", 0, n, n)
    t.take("b", 1, n, k)
    solve(t, k)
    t.give("b", 0, n, k)


def solve(t: Task, columns: int) -> None:
    """Solve for `columns` right sides; triangular matrices, such as Cholesky factors, directly."""
    b, n = t.b, t.sizes.n
    above, below = beside_diagonal(t)
    lower = b.if_(b.eq(above, 0))
    with lower.then():
        t.call("trtrs", *TRIANGULAR["L"], n, columns, "a", n, "b", n)
    with lower.orelse():
        upper = b.if_(b.eq(below, 0))
        with upper.then():
            t.call("trtrs", *TRIANGULAR["U"], n, columns, "a", n, "b", n)
        with upper.orelse():
            t.call("gesv", n, columns, "a", n, "pivots", "b", n)


TRIANGULAR = {triangle: (Letter(triangle), Letter("N"), Letter("N")) for triangle in "LU"}
"""Which triangle it is; neither transposed, nor with ones understood on the diagonal."""


def beside_diagonal(t: Task) -> tuple[Value, Value]:
    """0 where the matrix in part a has only zeros above the diagonal; the same for below."""
    b, n, width = t.b, t.sizes.n, t.layout.width
    zero = b.const("i64", 0)

    def any_of(found: Value, first: Value, count: Value) -> Value:
        with b.for_(b.mul(count, width), "vector", [(found, "or")]) as i:
            number = t.load("a", b.add(b.mul(first, width), i.i))
            i.yield_(b.or_(i.carries[0], b.cast(b.ne(number, 0.0), "i64")))
        return i.results[0]

    with b.for_(n, carries=[zero, zero]) as column:
        start, under = b.mul(column.i, n), b.add(column.i, 1)
        above = any_of(column.carries[0], start, column.i)
        below = any_of(column.carries[1], b.add(start, under), b.sub(n, under))
        column.yield_(above, below)
    return column.results[0], column.results[1]


def sign_and_log_of(t: Task) -> tuple[Value, Value]:
    """The sign of a determinant and the logarithm of its size; 0 and -inf of a singular matrix."""
    b, n = t.b, t.sizes.n
    one, zero = b.const("f64", 1.0), b.const("f64", 0.0)
    with b.for_(n, carries=[one, zero, b.const("bool", True)]) as step:
        sign, log, regular = step.carries
        pivot = t.load("a", b.mul(step.i, n + 1))
        place = b.cast(t.load("pivots", step.i), "i64")
        turns = b.xor(b.lt(pivot, 0.0), b.ne(place, b.add(step.i, 1)))
        step.yield_(
            b.select(turns, b.neg(sign), sign),
            b.add(log, b.op("log", b.abs(pivot))),
            b.and_(regular, b.ne(pivot, 0.0)),
        )
    sign, log, regular = step.results
    return b.select(regular, sign, zero), b.select(regular, log, b.const("f64", -math.inf))


def give_sign_and_log(t: Task) -> None:
    sign, log = sign_and_log_of(t)
    t.give_number(0, sign)
    t.give_number(1, log)


def give_determinant(t: Task) -> None:
    sign, log = sign_and_log_of(t)
    t.give_number(0, t.b.mul(sign, t.b.op("exp", log)))


def eliminated(give: Callable[[Task], None]) -> Callable[[Task], None]:
    """What is given of the factors of matrices without one."""

    def steps(t: Task) -> None:
        n = t.sizes.n
        t.take("a", 0, n, n)
        t.call("getrf", n, n, "a", n, "pivots", may_fail=False)
        give(t)

    return steps


# -- factors that several take up ---------------------------------------------------------------

LOWER, UPPER = -1, -2
"""What stands behind the pivots of triangular matrices; else what LAPACK reported."""


def factors(t: Task) -> None:
    """The matrix by columns, eliminated where it is not triangular, and the pivots."""
    b, n = t.b, t.sizes.n
    pivots, first = t.result(1, 1)
    t.homes |= {"a": t.result(0, 2), "pivots": (pivots, first)}
    t.take("a", 0, n, n)
    above, below = beside_diagonal(t)

    def keep(place: int | Value, value: int | Value) -> None:
        b.store(pivots, b.add(first, place), b.cast(b.index(value), pivots.dtype))

    triangular = b.if_(b.eq(b.min(above, below), 0))
    with triangular.then():
        with b.for_(n, "vector") as step:
            keep(step.i, b.add(step.i, 1))
        keep(n, b.select(b.eq(above, 0), b.index(LOWER), b.index(UPPER)))
    with triangular.orelse():
        t.call("getrf", n, n, "a", n, "pivots", may_fail=False)
        keep(n, t.load("info", 0))


def by_factors(steps: Callable[[Task], None]) -> Callable[[Task], None]:
    """Steps that find factors and pivots in the first operands."""

    def with_factors(t: Task) -> None:
        t.homes |= {"a": t.operand(0), "pivots": t.operand(1, 1)}
        steps(t)

    return with_factors


def solution_by_factors(t: Task) -> None:
    n, k = t.sizes.n, t.sizes.k
    t.take("b", 2, n, k)
    solve_by_factors(t, k)
    t.give("b", 0, n, k)


def inverse_by_factors(t: Task) -> None:
    n = t.sizes.n
    t.unit("b", n)
    solve_by_factors(t, n)
    t.give("b", 0, n, n)


def solve_by_factors(t: Task, columns: int) -> None:
    """Solve for `columns` right sides, with the matrix or, as `turned` says, its transpose."""
    b, n = t.b, t.sizes.n
    kind = b.cast(t.load("pivots", n), "i64")
    turned = Letter("T" if t.eqn.params["turned"] else "N")
    lower = b.if_(b.eq(kind, LOWER))
    with lower.then():
        t.call("trtrs", Letter("L"), turned, Letter("N"), n, columns, "a", n, "b", n)
    with lower.orelse():
        upper = b.if_(b.eq(kind, UPPER))
        with upper.then():
            t.call("trtrs", Letter("U"), turned, Letter("N"), n, columns, "a", n, "b", n)
        with upper.orelse():
            singular = b.if_(b.ne(kind, 0))
            with singular.then():
                t.fail()
            with singular.orelse():
                t.call("getrs", turned, n, columns, "a", n, "pivots", "b", n, may_fail=False)


# -- factors ----------------------------------------------------------------------------------


def cholesky(t: Task) -> None:
    n = t.sizes.n
    t.take("a", 0, n, n)
    t.call("potrf", Letter("L"), n, "a", n)
    t.give("a", 0, n, n, keep=t.b.ge)


def qr(width: Callable[[Sizes], int]) -> Callable[[Task], None]:
    """The factors of matrices no wider than tall; `width` is how many columns q has."""

    def steps(t: Task) -> None:
        (m, n, _), columns = t.sizes, width(t.sizes)
        lwork = BLOCK * m
        t.take("a", 0, m, n)
        t.call("geqrf", m, n, "a", m, "tau", "work", lwork)
        t.give("a", 1, columns, n, height=m, keep=t.b.le)
        name = "ungqr" if t.is_complex else "orgqr"
        t.call(name, m, columns, n, "a", m, "tau", "work", lwork)
        t.give("a", 0, m, columns)

    return steps


def eigh(triangle: str) -> Callable[[Task], None]:
    """Eigenvalues and vectors of Hermitian matrices of which one triangle is read."""

    def steps(t: Task) -> None:
        n = t.sizes.n
        t.take("a", 0, n, n)
        rest = ["integers", 3 + 5 * n]
        if t.is_complex:
            rest = ["reals", 1 + 5 * n + 2 * n * n, *rest]
        name = "heevd" if t.is_complex else "syevd"
        lwork = eigh_work(t.sizes)
        t.call(name, Letter("V"), Letter(triangle), n, "a", n, "w", "work", lwork, *rest)
        t.give_vector("w", 0, n)
        t.give("a", 1, n, n)

    return steps


def eigh_work(s: Sizes) -> int:
    return 1 + 6 * s.n + 2 * s.n * s.n + BLOCK * s.n


def real_eig(t: Task) -> None:
    """Eigenvectors of conjugate pairs come as the real and the imaginary part of the first."""
    b, n = t.b, t.sizes.n
    t.take("a", 0, n, n)
    left = Letter("N"), Letter("V")
    t.call("geev", *left, n, "a", n, "re", "im", "a", 1, "v", n, "work", eig_work(t.sizes))
    (values, first), (vectors, begin) = t.result(0, 1), t.result(1, 2)
    with b.for_(n) as column:
        re, im = t.load("re", column.i), t.load("im", column.i)
        place = b.add(first, b.mul(column.i, 2))
        b.store(values, place, b.cast(re, values.dtype))
        b.store(values, b.add(place, 1), b.cast(im, values.dtype))
        before = b.sub(column.i, b.cast(b.lt(im, 0.0), "i64"))
        beside = b.add(before, b.cast(b.ne(im, 0.0), "i64"))
        with b.for_(n) as row:
            real = t.load("v", b.add(b.mul(before, n), row.i))
            other = t.load("v", b.add(b.mul(beside, n), row.i))
            turned = b.select(b.lt(im, 0.0), b.neg(other), b.select(b.gt(im, 0.0), other, 0.0))
            place = b.add(begin, b.mul(b.add(b.mul(row.i, n), column.i), 2))
            b.store(vectors, place, b.cast(real, vectors.dtype))
            b.store(vectors, b.add(place, 1), b.cast(turned, vectors.dtype))


def complex_eig(t: Task) -> None:
    n = t.sizes.n
    t.take("a", 0, n, n)
    left = Letter("N"), Letter("V")
    work = "work", eig_work(t.sizes), "reals"
    t.call("geev", *left, n, "a", n, "w", "a", 1, "v", n, *work)
    t.give_vector("w", 0, n)
    t.give("v", 1, n, n)


def eig_work(s: Sizes) -> int:
    return (4 + 2 * BLOCK) * s.n


def svd(job: str) -> Callable[[Task], None]:
    """Singular values, and vectors: as many (S), all (A) or none (N)."""

    def steps(t: Task) -> None:
        (m, n, _), least = t.sizes, t.sizes.least
        t.take("a", 0, m, n)
        left, right = (m, n) if job == "A" else (least, least)
        u, vh = ("work", "work") if job == "N" else ("u", "vh")
        rest = ["work", svd_work(t.sizes), *(["reals"] if t.is_complex else []), "integers"]
        t.call("gesdd", Letter(job), m, n, "a", m, "s", u, m, vh, right, *rest)
        if job == "N":
            t.give_vector("s", 0, least)
            return
        t.give("u", 0, m, left)
        t.give_vector("s", 1, least)
        t.give("vh", 2, right, n)

    return steps


def svd_work(s: Sizes) -> int:
    return 4 * s.least * s.least + 7 * s.least + max(s.m, s.n) + BLOCK * (s.m + s.n)


def svd_parts(job: str) -> Callable[[Sizes], list[Part]]:
    def parts(s: Sizes) -> list[Part]:
        left, right = {"S": (s.least, s.least), "A": (s.m, s.n), "N": (0, 0)}[job]
        reals = 5 * s.least * s.least + 7 * s.least + 2 * s.least * (max(s.m, s.n) + s.least + 1)
        return [
            *(Part("a", "x", s.m * s.n), Part("s", "r", s.least)),
            *(Part("u", "x", s.m * left), Part("vh", "x", right * s.n)),
            *(Part("work", "x", svd_work(s)), Part("reals", "r", reals)),
            Part("integers", "i", 8 * s.least),
        ]

    return parts


def square(s: Sizes) -> list[Part]:
    return [Part("a", "x", s.n * s.n), Part("pivots", "i", s.n)]


def nothing(s: Sizes) -> list[Part]:
    return []


def right_side(s: Sizes) -> list[Part]:
    return [Part("b", "x", s.n * s.k)]


def inverse_parts(s: Sizes) -> list[Part]:
    return [*square(s), Part("b", "x", s.n * s.n)]


def solution_parts(s: Sizes) -> list[Part]:
    return [*square(s), *right_side(s)]


def qr_parts(width: Callable[[Sizes], int]) -> Callable[[Sizes], list[Part]]:
    return lambda s: [
        *(Part("a", "x", s.m * width(s)), Part("tau", "x", s.n)),
        Part("work", "x", BLOCK * s.m),
    ]


def eigh_parts(s: Sizes) -> list[Part]:
    return [
        *(Part("a", "x", s.n * s.n), Part("w", "r", s.n), Part("work", "x", eigh_work(s))),
        *(Part("reals", "r", 1 + 5 * s.n + 2 * s.n * s.n), Part("integers", "i", 3 + 5 * s.n)),
    ]


def eig_parts(s: Sizes) -> list[Part]:
    return [
        *(Part("a", "x", s.n * s.n), Part("v", "x", s.n * s.n), Part("work", "x", eig_work(s))),
        *(Part("re", "r", s.n), Part("im", "r", s.n)),
        *(Part("w", "x", s.n), Part("reals", "r", 2 * s.n)),
    ]


def methods(is_complex: bool) -> dict[str, Method]:
    """By the names of factorisations; for complex matrices, or real ones."""
    q = "ungqr" if is_complex else "orgqr"
    thin, full = (lambda s: s.n), (lambda s: s.m)
    of_pairs = complex_eig if is_complex else real_eig
    symmetric = ("heevd",) if is_complex else ("syevd",)
    found = {
        "inverse": Method(("gesv", "trtrs"), inverse_parts, inverse),
        "solution": Method(("gesv", "trtrs"), solution_parts, solution),
        "cholesky": Method(("potrf",), square, cholesky),
        "qr": Method(("geqrf", q), qr_parts(thin), qr(thin)),
        "complete_qr": Method(("geqrf", q), qr_parts(full), qr(full)),
        "lower_eigh": Method(symmetric, eigh_parts, eigh("L")),
        "upper_eigh": Method(symmetric, eigh_parts, eigh("U")),
        "eig": Method(("geev",), eig_parts, of_pairs),
        "svd": Method(("gesdd",), svd_parts("S"), svd("S")),
        "full_svd": Method(("gesdd",), svd_parts("A"), svd("A")),
        "singular_values": Method(("gesdd",), svd_parts("N"), svd("N")),
        "factors": Method(("getrf",), nothing, factors),
    }
    solving = ("getrs", "trtrs")
    more = {
        "inverse": Method(solving, right_side, inverse_by_factors),
        "solution": Method(solving, right_side, solution_by_factors),
    }
    if not is_complex:
        found["sign_and_log"] = Method(("getrf",), square, eliminated(give_sign_and_log))
        found["determinant"] = Method(("getrf",), square, eliminated(give_determinant))
        more["sign_and_log"] = Method((), nothing, give_sign_and_log)
        more["determinant"] = Method((), nothing, give_determinant)
    for name, method in more.items():
        found[name + BY_FACTORS] = method._replace(steps=by_factors(method.steps))
    return found


METHODS = {is_complex: methods(is_complex) for is_complex in (False, True)}
