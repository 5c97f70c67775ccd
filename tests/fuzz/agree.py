"""What must hold of a program: NumPy, evaluation, native code and every transform agree."""

from __future__ import annotations

import warnings
import zlib
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np

import functrans as ft
from functrans.bind import eval_jaxpr
from functrans.ir import Primitive, check_jaxpr
from functrans.recording import Trace
from tests.fuzz.helpers import total
from tests.fuzz.program import Program
from tests.law_tools import agree, numerical_derivative, pairing, random_like, wide
from tests.native import compiled
from tests.native_laws import together

MEMBERS = 3
NEARBY = 1e-3
"""How far members of a batch lie from the program's own arguments, well inside all margins."""


class Subject:
    """A program's function, its arguments, and the tolerances of its precision."""

    def __init__(self, program: Program) -> None:
        self.f = program.function()
        self.args = program.arguments()
        self.active = [i for i, x in enumerate(self.args) if x.dtype.kind in "fc"]
        self.single = any(x.dtype == np.float32 for x in self.args)
        self.rtol = 3e-3 if self.single else 1e-8
        self.rng = np.random.default_rng(zlib.crc32(program.source().encode()))

    def outputs(self, *args: Any) -> list[Any]:
        """The results as a list, on arguments of any kind."""
        found = self.f(*args)
        return list(found) if isinstance(found, tuple) else [found]

    def moving(self, *xs: Any) -> list[Any]:
        """The floating results, as a function of the floating arguments only."""
        args = list(self.args)
        for i, x in zip(self.active, xs, strict=True):
            args[i] = x
        return [y for y in self.outputs(*args) if np.dtype(y.dtype).kind in "fc"]

    def loss(self, *args: Any) -> Any:
        return total(self.f(*args))

    @property
    def points(self) -> list[Any]:
        return [self.args[i] for i in self.active]

    def gradient(self, f: Callable[..., Any]) -> Callable[..., Any]:
        """The gradients of a scalar function in the real and complex arguments."""
        return ft.grad(f, argnums=tuple(self.active))

    def same(self, found: Sequence[Any], expected: Sequence[Any], what: str) -> None:
        assert len(found) == len(expected), f"{what}: {len(found)} results, not {len(expected)}"
        for k, (y, e) in enumerate(zip(found, expected, strict=True)):
            agree(y, e, f"{what}, result {k}", self.rtol)


def check(program: Program) -> None:
    """Raise AssertionError, or whatever error arises, unless all agreements hold."""
    subject = Subject(program)
    with np.errstate(all="ignore"), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for agreement in AGREEMENTS_OF_ASKING if program.asks else AGREEMENTS:
            agreement(subject)


def numpy_is_evaluated(s: Subject) -> None:
    """Staged and evaluated, the program gives what NumPy gives: values, shapes and dtypes."""
    before = [x.copy() for x in s.args]
    expected = s.outputs(*s.args)
    for x, old in zip(s.args, before, strict=True):
        assert np.array_equal(x, old), "the program wrote into its argument"
    closed = ft.make_jaxpr(s.outputs)(*s.args)
    check_jaxpr(closed.jaxpr)
    s.same(eval_jaxpr(closed.jaxpr, [*closed.consts, *s.args]), expected, "evaluated")


def compiled_is_evaluated(s: Subject) -> None:
    """Native code of the program, its gradient, and the batched gradient."""
    batch, axes = batched(s)
    mapped = ft.vmap(s.gradient(s.loss), in_axes=axes)
    staged = [
        (ft.make_jaxpr(s.outputs)(*s.args), s.args),
        (ft.make_jaxpr(s.gradient(s.loss))(*s.args), s.args),
        (ft.make_jaxpr(mapped)(*batch), batch),
    ]
    inputs = [[*closed.consts, *args] for closed, args in staged]
    found = iter(compiled(together([c.jaxpr for c, _ in staged]))([x for xs in inputs for x in xs]))
    for what, (closed, _), xs in zip(
        ("jit", "jit of grad", "jit of vmap of grad"), staged, inputs, strict=True
    ):
        expected = eval_jaxpr(closed.jaxpr, xs)
        s.same([np.asarray(next(found)) for _ in expected], [np.asarray(e) for e in expected], what)


def jvp_is_numerical(s: Subject) -> None:
    """Against central differences of the program run by NumPy."""
    dots = [random_like(s.rng, x) for x in s.points]
    outs, moved = ft.jvp(s.moving, tuple(s.points), tuple(dots))
    s.same(outs, s.moving(*s.points), "value under jvp")
    if s.single:
        return
    expected = numerical_derivative(lambda xs: s.moving(*xs), s.points, dots, 1e-4)
    for k, (y, e) in enumerate(zip(moved, expected, strict=True)):
        agree(wide(y), e, f"jvp, result {k}", 2e-6)


def vjp_is_the_adjoint(s: Subject) -> None:
    """<ct, J t> = <J^T ct, t>, for jvp and linearize alike."""
    dots = [random_like(s.rng, x) for x in s.points]
    outs, pullback = ft.vjp(s.moving, *s.points)
    _, moved = ft.jvp(s.moving, tuple(s.points), tuple(dots))
    _, derivative = ft.linearize(s.moving, *s.points)
    s.same(derivative(*dots), moved, "linearize")
    cts = [random_like(s.rng, y) for y in outs]
    bars = pullback(cts)
    left, left_size = pairing(cts, moved)
    right, right_size = pairing(list(bars), dots)
    bound = s.rtol * (left_size + right_size + 1)
    assert abs(left - right) <= bound, f"<ct, J t> = {left} but <J^T ct, t> = {right}"


def vmap_is_a_loop(s: Subject) -> None:
    """The program or its gradient, by turns, over some of the arguments, along some axes."""
    batch, axes = batched(s)
    what, f = ("vmap", s.outputs) if s.rng.random() < 0.5 else ("vmap of grad", s.gradient(s.loss))
    loop = [f(*member(batch, axes, k)) for k in range(MEMBERS)]
    expected = [np.stack(column) for column in zip(*loop, strict=True)]
    s.same(list(ft.vmap(f, in_axes=axes)(*batch)), expected, what)


def batched(s: Subject) -> tuple[list[Any], tuple[int | None, ...]]:
    """Arguments near the program's own, stacked along some axis or not mapped at all."""
    rng = np.random.default_rng(s.args[0].size)
    batch: list[Any] = []
    axes: list[int | None] = []
    for i, x in enumerate(s.args):
        if i and rng.random() < 0.3:
            batch.append(x)
            axes.append(None)
            continue
        near = [x]
        for _ in range(MEMBERS - 1):
            near.append(
                x + (NEARBY * random_like(rng, x) if i in s.active else 0).astype(x.dtype)
                if i in s.active
                else x
            )
        axis = int(rng.integers(0, x.ndim + 1))
        batch.append(np.stack(near, axis))
        axes.append(axis)
    return batch, tuple(axes)


def member(batch: list[Any], axes: tuple[int | None, ...], k: int) -> list[Any]:
    return [x if a is None else np.take(x, k, a) for x, a in zip(batch, axes, strict=True)]


def grad_of_jit_is_jit_of_grad(s: Subject) -> None:
    """In either order, jit leaves the gradient as it is: one for every second program, by turns."""
    if s.rng.random() < 0.5:
        return
    order = "grad of jit" if s.rng.random() < 0.5 else "jit of grad"
    f = s.gradient(ft.jit(s.loss)) if order == "grad of jit" else ft.jit(s.gradient(s.loss))
    s.same(f(*s.args), s.gradient(s.loss)(*s.args), order)


def jet_is_jvp_of_jvp(s: Subject) -> None:
    """The second derivatives along a line, for one program in eight, to save time."""
    if s.rng.random() > 0.125:
        return
    points, dots = tuple(s.points), tuple(random_like(s.rng, x) for x in s.points)
    slope = lambda *xs: ft.jvp(s.moving, xs, dots)[1]
    first, second = ft.jvp(slope, points, dots)
    outs, terms = ft.jet(s.moving, points, [[d, 0] for d in dots])
    s.same(outs, s.moving(*points), "value under jet")
    s.same([t[0] for t in terms], first, "first term of jet")
    s.same([t[1] for t in terms], second, "second term of jet")


AGREEMENTS: tuple[Callable[[Subject], None], ...] = (
    numpy_is_evaluated,
    jvp_is_numerical,
    vjp_is_the_adjoint,
    vmap_is_a_loop,
    compiled_is_evaluated,
    grad_of_jit_is_jit_of_grad,
    jet_is_jvp_of_jvp,
)


# -- programs that ask for values ----------------------------------------------------------------


def second_order_is_numerical(s: Subject) -> None:
    """The jvp of the gradient, against central differences of the gradient."""
    if s.single:
        return
    f = s.gradient(s.loss)

    def gradient(*xs: Any) -> list[Any]:
        args = list(s.args)
        for i, x in zip(s.active, xs, strict=True):
            args[i] = x
        return list(f(*args))

    dots = [random_like(s.rng, x) for x in s.points]
    moved = ft.jvp(gradient, tuple(s.points), tuple(dots))[1]
    expected = numerical_derivative(lambda xs: gradient(*xs), s.points, dots, 1e-4)
    for k, (y, e) in enumerate(zip(moved, expected, strict=True)):
        agree(wide(y), e, f"jvp of grad, result {k}", 1e-5)


def unmapped_values_can_be_asked(s: Subject) -> None:
    """Under vmap, of what is the same for every member."""
    beside = lambda k, *args: [y + k.astype(y.dtype) for y in s.outputs(*args)]
    axes = (0, *[None] * len(s.args))
    found = ft.vmap(beside, in_axes=axes)(np.zeros(2, np.int8), *s.args)
    s.same([y[1] for y in found], [np.asarray(y) for y in s.outputs(*s.args)], "vmap, unmapped")


def jit_refuses_or_agrees(s: Subject) -> None:
    """Abstract values cannot be asked for; what does not depend on them can."""
    try:
        found = ft.jit(s.outputs)(*s.args)
    except ft.errors.ConcretizationError:
        return
    s.same(found, s.outputs(*s.args), "jit")


AGREEMENTS_OF_ASKING: tuple[Callable[[Subject], None], ...] = (
    jvp_is_numerical,
    vjp_is_the_adjoint,
    second_order_is_numerical,
    unmapped_values_can_be_asked,
    jit_refuses_or_agrees,
)


@contextmanager
def counting() -> Iterator[set[str]]:
    """The names of the primitives that are recorded in the block, by any trace."""
    reached: set[str] = set()
    original = Trace.bind

    def bind(self: Trace, primitive: Primitive, args: Sequence[Any], params: Any) -> list[Any]:
        reached.add(primitive.name)
        return original(self, primitive, args, params)

    Trace.bind = bind  # type: ignore[method-assign]
    try:
        yield reached
    finally:
        Trace.bind = original  # type: ignore[method-assign]
