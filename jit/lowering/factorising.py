"""Factorisations without Python: in registers where matrices are small, else by NumPy's LAPACK.

LAPACK has matrices by columns, so they are turned on the way to a workspace and back, as NumPy does
it: what comes out are NumPy's bits, but of triangular systems, which NumPy eliminates like others.
Invariant: LAPACK runs on one thread for each matrix; where it reports a failure, the program leaves
with NumPy's message.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from math import prod
from typing import Any, NamedTuple

from functrans.extend import Eqn
from jit import openblas
from jit.factorisations import LETTERS, dtype_of, is_of_lapack, is_written_out
from jit.loop_ir.nodes import ITEMSIZE, Buffer, DType, Pointer, Value
from jit.lowering import small_matrices
from jit.lowering.root import RootContext
from jit.names import FAILED

BLOCK = 64
"""Workspaces have room for so many columns at a time where LAPACK takes more than it needs."""
SLOTS = 8
"""Stacks are cut into so many parts, each with a space of its own."""
ALIGNMENT = 64
STATUS = 0
"""Where the workspace says that some matrix failed."""
INFO = 0
"""Where a slot has what LAPACK reported last."""


class Sizes(NamedTuple):
    """The sizes of the first operand, and the columns of the second."""

    m: int
    n: int
    k: int

    @property
    def least(self) -> int:
        return min(self.m, self.n)

    @property
    def blocks(self) -> int:
        """Room for blocks of rows and of columns."""
        return BLOCK * (self.m + self.n)


class Part(NamedTuple):
    """A named piece of a slot: so many elements of matrices (x), real numbers (r), integers (i)."""

    name: str
    kind: str
    size: int


class Letter(NamedTuple):
    """An option of LAPACK."""

    text: str


class Method(NamedTuple):
    """How LAPACK computes a factorisation: the routines, the parts of a slot, and the steps."""

    routines: tuple[str, ...]
    parts: Callable[[Sizes], Sequence[Part]]
    steps: Callable[[Task], None]


def method_of(eqn: Eqn) -> Method:
    """How LAPACK computes what an equation calls back for."""
    return METHODS[dtype_of(eqn).kind == "c"][eqn.params["callback"].name]


def calls_of(eqn: Eqn) -> tuple[str, ...]:
    """The runtime functions that the native form calls."""
    if not is_of_lapack(eqn):
        return ()
    start = f"{openblas.LAPACK}{LETTERS[dtype_of(eqn).name]}"
    return (*openblas.GUARDS, *[f"{start}{name}" for name in method_of(eqn).routines])


def sizes_of(eqn: Eqn) -> Sizes:
    m, n = eqn.inputs[0].aval.shape[-2:]
    return Sizes(m, n, eqn.inputs[1].aval.shape[-1] if len(eqn.inputs) > 1 else 0)


def count_of(eqn: Eqn) -> int:
    """How many matrices the stacks have; `batch` stands in front of them."""
    return prod(eqn.params["batch"]) * prod(eqn.params["results"][0].shape[: lead_of(eqn)])


def lead_of(eqn: Eqn) -> int:
    """The leading axes of one member's operands, the same for all of them."""
    first = eqn.inputs[0].aval.ndim - 2
    return first - len(eqn.params["batch"]) if eqn.params["mapped"][0] else first


def slots_of(eqn: Eqn) -> int:
    return min(count_of(eqn), SLOTS)


def integers_of_lapack() -> DType:
    found = openblas.find()
    return "i64" if found is not None and found.wide else "i32"


class Layout:
    """Where the parts of a slot are: their first bytes, by name."""

    def __init__(self, eqn: Eqn, method: Method) -> None:
        self.width = 2 if dtype_of(eqn).kind == "c" else 1
        self.types: dict[str, tuple[DType, int]] = {
            "x": ("f64", self.width),
            "r": ("f64", 1),
            "i": (integers_of_lapack(), 1),
        }
        self.starts: dict[str, tuple[int, DType]] = {}
        at = ALIGNMENT
        for name, kind, size in method.parts(sizes_of(eqn)):
            dtype, each = self.types[kind]
            self.starts[name] = at, dtype
            at += -(-size * each * ITEMSIZE[dtype] // ALIGNMENT) * ALIGNMENT
        self.bytes = at


def workspace_of(eqn: Eqn) -> int:
    if not is_of_lapack(eqn):
        return 0
    return ALIGNMENT + slots_of(eqn) * Layout(eqn, method_of(eqn)).bytes


def factorise(ctx: RootContext, eqn: Eqn) -> None:
    """The native form of an equation that has one."""
    b, name = ctx.b, eqn.params["callback"].name
    with ctx.walk.kernel(ctx.name):
        failed = in_registers(ctx, eqn) if is_written_out(eqn) else by_lapack(ctx, eqn)
        if name in FAILED:
            place = f" (in {eqn.source})" if eqn.source else ""
            b.fail(FAILED[name] + place, failed)


def in_registers(ctx: RootContext, eqn: Eqn) -> Value:
    """Factorise matrices of a few rows; answers whether one failed."""
    return small_matrices.write(ctx, eqn, eqn.params["callback"].name, count_of(eqn))


def by_lapack(ctx: RootContext, eqn: Eqn) -> Value:
    """Factorise by LAPACK's routines; answers whether one reported a failure."""
    b, method = ctx.b, method_of(eqn)
    count, slots, sizes = count_of(eqn), slots_of(eqn), sizes_of(eqn)
    height = -(-count // slots)
    work = count * (sizes.m + sizes.k) * sizes.n * sizes.least
    kind = "parallel" if slots > 1 and ctx.parallel(float(work)) else "serial"
    task = Task(ctx, eqn, method)
    status = task.memory("i64")
    b.store(status, STATUS, 0)
    b.call(openblas.BEGIN)
    with b.for_(slots, kind) as slot:
        first = b.mul(slot.i, height)
        with b.for_(b.min(b.sub(count, first), height), hint="matrix") as matrix:
            task.open(slot.i, b.add(first, matrix.i))
            method.steps(task)
    b.call(openblas.END)
    return b.ne(b.load(status, STATUS), 0)


class Task:
    """One matrix of a stack, in one slot of the workspace."""

    def __init__(self, ctx: RootContext, eqn: Eqn, method: Method) -> None:
        self.ctx, self.b, self.eqn, self.sizes = ctx, ctx.b, eqn, sizes_of(eqn)
        self.layout = Layout(eqn, method)
        self.letter = LETTERS[dtype_of(eqn).name]
        self.is_complex = self.layout.width == 2
        self.constants: dict[int | Letter, Buffer] = {}
        self.total = workspace_of(eqn)
        self.slot: Value = self.b.index(0)
        self.matrix: Value = self.b.index(0)

    def open(self, slot: Value, matrix: Value) -> None:
        self.slot, self.matrix = slot, matrix

    # Memory.

    def memory(self, dtype: DType) -> Buffer:
        """The whole workspace, as elements of a type."""
        return self.ctx.slot(dtype, self.total // ITEMSIZE[dtype], 0)

    def place(self, name: str) -> tuple[Buffer, Value]:
        """A part of the slot: its buffer, and the place of its first element there."""
        at, dtype = (INFO, "i64") if name == "info" else self.layout.starts[name]
        size = ITEMSIZE[dtype]
        start = self.b.mul(self.slot, self.layout.bytes // size)
        return self.memory(dtype), self.b.add(start, (ALIGNMENT + at) // size)

    def load(self, name: str, index: int | Value) -> Value:
        buffer, start = self.place(name)
        return self.b.load(buffer, self.b.add(start, index))

    def store(self, name: str, index: int | Value, value: Any) -> None:
        buffer, start = self.place(name)
        self.b.store(buffer, self.b.add(start, index), value)

    def operand(self, j: int) -> tuple[Buffer, Value]:
        """Operand j: its buffer, and where this matrix begins in it."""
        atom, shape = self.eqn.inputs[j], self.eqn.inputs[j].aval.shape
        members = prod(shape[:-2])
        matrix = self.matrix
        if not self.eqn.params["mapped"][j]:
            matrix = self.b.rem(matrix, members)
        return self.ctx.dense(atom), self.b.mul(matrix, prod(shape[-2:]) * self.layout.width)

    def result(self, j: int, ndim: int) -> tuple[Buffer, Value]:
        """Result j, whose last `ndim` axes belong to one matrix."""
        out = self.eqn.outputs[j]
        size = prod(out.aval.shape[out.aval.ndim - ndim :])
        each = 2 if out.aval.dtype.kind == "c" else 1
        return self.ctx.buffer(out), self.b.mul(self.matrix, size * each)

    # Steps.

    def take(self, name: str, j: int, m: int, n: int) -> None:
        """Operand j, of m rows and n columns, by columns."""
        b, width = self.b, self.layout.width
        (source, first), (part, start) = self.operand(j), self.place(name)
        with b.nest((n, m), "vector") as (column, row):
            for c in range(width):
                here = b.add(b.mul(b.add(b.mul(row, n), column), width), c)
                there = b.add(b.mul(b.add(b.mul(column, m), row), width), c)
                number = b.load(source, b.add(first, here))
                b.store(part, b.add(start, there), b.cast(number, "f64"))

    def give(
        self,
        name: str,
        j: int,
        m: int,
        n: int,
        height: int | None = None,
        keep: Callable[[Value, Value], Value] | None = None,
    ) -> None:
        """Result j from a part that has it by columns of `height` elements.

        Where keep(row, column) does not hold, it is 0.
        """
        b, width, height = self.b, self.layout.width, height or m
        (target, first), (part, start) = self.result(j, 2), self.place(name)
        with b.nest((m, n), "vector") as (row, column):
            for c in range(width):
                here = b.add(b.mul(b.add(b.mul(column, height), row), width), c)
                there = b.add(b.mul(b.add(b.mul(row, n), column), width), c)
                value = b.cast(b.load(part, b.add(start, here)), target.dtype)
                kept = value if keep is None else b.select(keep(row, column), value, 0)
                b.store(target, b.add(first, there), kept)

    def give_vector(self, name: str, j: int, n: int) -> None:
        """Result j, of n numbers."""
        b, is_complex = self.b, self.eqn.outputs[j].aval.dtype.kind == "c"
        (target, first), (part, start) = self.result(j, 1), self.place(name)
        with b.for_(2 * n if is_complex else n, "vector") as i:
            number = b.load(part, b.add(start, i.i))
            b.store(target, b.add(first, i.i), b.cast(number, target.dtype))

    def give_number(self, j: int, value: Value) -> None:
        buffer, first = self.result(j, 0)
        self.b.store(buffer, first, self.b.cast(value, buffer.dtype))

    def unit(self, name: str, n: int) -> None:
        """The unit matrix."""
        b, width = self.b, self.layout.width
        part, start = self.place(name)
        with b.nest((n, n), "vector") as (column, row):
            one = b.cast(b.eq(row, column), part.dtype)
            place = b.add(start, b.mul(b.add(b.mul(column, n), row), width))
            b.store(part, place, one)
            if width == 2:
                b.store(part, b.add(place, 1), 0)

    def call(self, routine: str, *args: int | str | Letter, may_fail: bool = True) -> None:
        """A routine of LAPACK, on numbers, letters and parts of the slot."""
        b = self.b
        # An integer may have 32 bits there, so all 64 are zero before.
        self.store("info", 0, 0)
        info = b.ref(*self.place("info"))
        # Fortran wants the lengths of character arguments, behind all others.
        lengths = [1 for a in args if isinstance(a, Letter)]
        passed = [self.argument(a) for a in args]
        b.call(f"{openblas.LAPACK}{self.letter}{routine}", *passed, info, *lengths)
        if may_fail:
            branch = b.if_(b.ne(self.load("info", 0), 0))
            with branch.then():
                b.store(self.memory("i64"), STATUS, 1)
            with branch.orelse():
                pass

    def argument(self, given: int | str | Letter) -> Pointer:
        """The address of an argument: Fortran has no values."""
        if isinstance(given, str):
            return self.b.ref(*self.place(given))
        if given not in self.constants:
            name = f"{self.ctx.name}_argument{len(self.constants)}"
            dtype: DType = "u8" if isinstance(given, Letter) else "i64"
            data = given.text.encode() if isinstance(given, Letter) else given.to_bytes(8, "little")
            self.constants[given] = self.b.constants(name, dtype, data, 1)
        return self.b.ref(self.constants[given])


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
    t.take("a", 0, n, n)
    t.call("getrf", n, n, "a", n, "pivots", may_fail=False)
    one, zero = b.const("f64", 1.0), b.const("f64", 0.0)
    with b.for_(n, carries=[one, zero]) as step:
        sign, log = step.carries
        pivot = t.load("a", b.mul(step.i, n + 1))
        place = b.cast(t.load("pivots", step.i), "i64")
        turns = b.xor(b.lt(pivot, 0.0), b.ne(place, b.add(step.i, 1)))
        step.yield_(b.select(turns, b.neg(sign), sign), b.add(log, b.op("log", b.abs(pivot))))
    sign, log = step.results
    regular = b.eq(t.load("info", 0), 0)
    return b.select(regular, sign, zero), b.select(regular, log, b.const("f64", -math.inf))


def sign_and_log(t: Task) -> None:
    sign, log = sign_and_log_of(t)
    t.give_number(0, sign)
    t.give_number(1, log)


def determinant(t: Task) -> None:
    sign, log = sign_and_log_of(t)
    t.give_number(0, t.b.mul(sign, t.b.op("exp", log)))


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
    return 4 * s.least * s.least + 7 * s.least + max(s.m, s.n) + s.blocks


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


def inverse_parts(s: Sizes) -> list[Part]:
    return [*square(s), Part("b", "x", s.n * s.n)]


def solution_parts(s: Sizes) -> list[Part]:
    return [*square(s), Part("b", "x", s.n * s.k)]


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
    }
    if not is_complex:
        found["sign_and_log"] = Method(("getrf",), square, sign_and_log)
        found["determinant"] = Method(("getrf",), square, determinant)
    return found


METHODS = {is_complex: methods(is_complex) for is_complex in (False, True)}
