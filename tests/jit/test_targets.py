"""Other processors and systems: whole programs at every width here, object code for the others.

What is for AVX2 and SSE2 runs on this machine. What is for aarch64 Linux, macOS and Windows is
emitted and looked at: the right kind of object, nothing left to the linker but what exists there.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import functrans as ft
import functrans.lax as lax
import functrans.nn as nn
import functrans.numpy as fnp
from functrans.extend import Jaxpr, simplify
from jit import native
from jit.emit import Emitted, emit_program
from jit.entry.text import enter_module
from jit.passes.loops import write_program
from jit.passes.prepare import inline_calls
from jit.passes.sharing import shared_plan
from jit.passes.whole import whole_graph
from jit.pipeline import match_donated
from jit.runtime import block_arrays_text, blocks_text, conv, symbols
from jit.runtime.conv_text import conv_module
from jit.runtime.gemm_loops import gemm_module
from jit.runtime.gemm_tile import Kind, tile_for
from jit.runtime.sort_text import argsort_module, sort_module
from jit.runtime.threads_text import Platform, imported_names, pool_text
from jit.target import Target
from tests.fuzz.generate import generate
from tests.fuzz.report import failure
from tests.jit.loop_programs import narrower
from tests.jit.object_files import ObjectFile, read_object
from tests.laws import LAWS

WIDTHS = tuple(narrower())
FOREIGN = ("aarch64-linux", "aarch64-macos", "x86_64-macos", "x86_64-windows")
KINDS = {
    "aarch64-linux": ("elf", 183),
    "aarch64-macos": ("macho", 0x0100000C),
    "x86_64-macos": ("macho", 0x01000007),
    "x86_64-windows": ("coff", 0x8664),
}
PLATFORMS = {
    "aarch64-linux": Platform("aarch64", "futex"),
    "aarch64-macos": Platform("aarch64", "condition", 3),
    "x86_64-macos": Platform("x86_64", "condition", 3),
    "x86_64-windows": Platform("x86_64", "address"),
}
MATHEMATICS = frozenset(
    {
        *("sin", "cos", "tan", "asin", "acos", "atan", "sinh", "cosh", "tanh", "asinh", "acosh"),
        *("atanh", "exp", "exp2", "expm1", "log", "log2", "log10", "log1p", "pow", "fmod", "atan2"),
        *("hypot", "cbrt", "erf", "erfc", "lgamma", "tgamma", "rint", "floor", "ceil", "trunc"),
    }
)
"""What C's mathematics library has everywhere, for doubles."""
EVERYWHERE = MATHEMATICS | {f"{name}f" for name in MATHEMATICS} | {"memcpy", "memset", "memmove"}
OWN = {
    "x86_64-windows": {"_fltused", "__chkstk"},
    "aarch64-macos": {"bzero"},
    "x86_64-macos": {"bzero", "__bzero"},
}
"""What LLVM asks of a system besides."""

RNG = np.random.default_rng(5)
X = RNG.normal(size=(40, 33))
SQUARE = RNG.normal(size=(70, 70))
IMAGES = RNG.normal(size=(2, 3, 9, 8)).astype(np.float32)
FILTERS = RNG.normal(size=(4, 3, 3, 3)).astype(np.float32)
NUMBERS = RNG.integers(-50, 50, size=300)


def every_function(x: Any) -> Any:
    positive = fnp.abs(x) + 0.1
    small = fnp.tanh(x)
    return [
        *(f(x) for f in (fnp.exp, fnp.sin, fnp.cos, fnp.tan, fnp.tanh, fnp.arctan, fnp.sinh)),
        *(f(positive) for f in (fnp.log, fnp.log1p, fnp.sqrt, fnp.log2, fnp.cbrt)),
        *(f(small * 0.99) for f in (fnp.arcsin, fnp.arccos, fnp.arctanh)),
        fnp.power(positive, x),
        fnp.arctan2(x, positive),
        fnp.hypot(x, positive),
        fnp.fmod(x, positive),
        fnp.floor(x) + fnp.rint(x) + fnp.trunc(x),
        nn.softmax(x),
    ]


def narrow_types(x: Any) -> Any:
    half, single = x.astype(np.float16), x.astype(np.float32)
    whole = (x * 10).astype(np.int16)
    return half * half, fnp.sum(single, axis=1), whole // 3, whole.astype(np.uint8), x > 0.5


def loops(w: Any, x: Any, i: Any) -> Any:
    def step(carry: Any, k: Any) -> Any:
        x, total = carry
        x = lax.cond(k % 2 == 0, lambda x: fnp.tanh(w @ x), lambda x: x * 0.5, x)
        return (x, total + k), fnp.sum(x)

    after = lax.scan(step, (x, 0), i)
    grown = lax.while_loop(lambda x: fnp.sum(x * x) > 1.0, lambda x: w @ x, x)
    return after, grown


def chain(x: Any) -> Any:
    """Long enough to go several vectors abreast."""
    for k in range(5):
        x = fnp.tanh(fnp.sin(x) + 0.1 * k) * 1.1
    return fnp.sum(fnp.exp(x))


def running(x: Any) -> Any:
    products, peaks = fnp.cumprod(1 + x * x / 8, axis=0), lax.cummax(x, axis=1)
    return fnp.sum(products * peaks) + fnp.sum(lax.cumlogsumexp(x) * X[0])


PROGRAMS: dict[str, tuple[Callable[..., Any], tuple[Any, ...]]] = {
    "functions": (every_function, (X,)),
    "functions of singles": (every_function, (X.astype(np.float32),)),
    "narrow types": (narrow_types, (X,)),
    "complex": (lambda z: (fnp.exp(z), fnp.log(z), fnp.sqrt(z), z * z), (X + 1j * X[::-1],)),
    "normalising": (
        ft.grad(lambda x: fnp.sum(fnp.sin(x) * nn.log_softmax(x)) + fnp.sum(nn.standardize(x))),
        (X,),
    ),
    "network": (
        ft.value_and_grad(lambda w, x: fnp.mean(fnp.tanh(x @ w) @ w)),
        (SQUARE, SQUARE),
    ),
    "convolution": (
        ft.value_and_grad(
            lambda x, f: fnp.sum(lax.conv_general_dilated(x, f, (1, 1), "SAME") ** 2), (0, 1)
        ),
        (IMAGES, FILTERS),
    ),
    "sorting": (lambda i, x: (fnp.sort(i), fnp.argsort(x, axis=0)), (NUMBERS, X)),
    "indexing": (
        ft.grad(lambda x, i: fnp.sum(fnp.cumsum(x, axis=0)[i] ** 2)),
        (X, np.array([3, 3, 0, -1])),
    ),
    "large": (lambda x: (fnp.sum(fnp.exp(x)), fnp.cumsum(x), fnp.max(x)), (np.ones(200_001),)),
    "chain": (ft.value_and_grad(chain), (X,)),
    "chain of singles": (ft.value_and_grad(chain), (X.astype(np.float32),)),
    "running": (ft.grad(running), (X,)),
    "running in singles": (ft.grad(running), (X.astype(np.float32),)),
    "loops": (loops, (SQUARE / 70, SQUARE[0], NUMBERS)),
    "integers": (lambda i: (i // 7, i % 7, i**3, fnp.bitwise_xor(i, 5), i << 2), (NUMBERS,)),
}


@pytest.fixture(scope="module", params=WIDTHS)
def width(request: pytest.FixtureRequest) -> Any:
    """Programs are compiled for a processor with narrower vectors."""
    with pytest.MonkeyPatch.context() as patch:
        chosen = native.portable_target(request.param)
        patch.setattr(native, "host_target", lambda: chosen)
        yield request.param


# -- programs that run ------------------------------------------------------------------------


@pytest.mark.parametrize("name", PROGRAMS)
def test_a_program_at_every_width(name: str, width: str) -> None:
    f, args = PROGRAMS[name]
    compiled = ft.jit(f)
    assert native.portable_target(width).cpu == native.host_target().cpu
    for a, b in zip(ft.tree.leaves(compiled(*args)), evaluated(f, args), strict=True):
        assert a.dtype == b.dtype
        eps = np.finfo(a.dtype).eps if a.dtype.kind in "fc" else 0.0
        scale = np.max(np.abs(b)) if b.size and b.dtype.kind in "fc" else 1.0
        np.testing.assert_allclose(a, b, rtol=200 * eps, atol=200 * eps * scale)


def evaluated(f: Callable[..., Any], args: tuple[Any, ...]) -> list[Any]:
    """The results by NumPy's evaluation of the same program."""
    closed = ft.make_jaxpr(f)(*args)
    return ft.extend.eval_jaxpr(closed.jaxpr, [*closed.consts, *ft.tree.leaves(args)])


@pytest.mark.parametrize("name", ["pow", "dot_general", "gather"])
@pytest.mark.parametrize("law", [name for name in LAWS if name.startswith("compiled_is")])
def test_a_law_at_every_width(law: str, name: str, width: str) -> None:
    LAWS[law](name, False)


@pytest.mark.parametrize(
    "number",
    [n if n % 4 == 3 else pytest.param(n, marks=pytest.mark.full) for n in range(700, 712)],
)
def test_a_random_program_at_every_width(number: int, width: str) -> None:
    assert failure(generate(number)) is None


# -- objects that are only looked at ----------------------------------------------------------


def emitted_for(jaxpr: Jaxpr, target: Target) -> Emitted:
    """The text of a program for another machine."""
    prepared = simplify(inline_calls(jaxpr))
    errors: list[str] = []
    callback = lambda eqn: 1
    plan = shared_plan(whole_graph(prepared, callback, errors))
    taken = match_donated(prepared, ())
    written = write_program(plan, "program", taken, callback, errors)
    return emit_program(written.program, target, True)


def assembled(text: str, name: str, allowed: frozenset[str] | set[str]) -> ObjectFile:
    """The object of a text, after it was looked at."""
    target = native.portable_target(name)
    if not name.startswith("x86"):
        assert "llvm.x86" not in text
        assert "intel_ocl" not in text
    found = read_object(native.emit_object(text, target))
    assert (found.form, found.machine) == KINDS[name]
    assert found.code_bytes > 0
    assert found.undefined <= allowed | OWN.get(name, set())
    return found


@pytest.mark.parametrize("name", PROGRAMS)
@pytest.mark.parametrize("target", FOREIGN)
def test_a_program_for_another_system(name: str, target: str) -> None:
    f, args = PROGRAMS[name]
    jaxpr = ft.make_jaxpr(f)(*args).jaxpr
    emitted = emitted_for(jaxpr, native.portable_target(target))
    runtime = {s for s in emitted.externals if symbols.is_known(s)}
    assert emitted.externals - runtime <= EVERYWHERE
    found = assembled(emitted.text, target, runtime | EVERYWHERE)
    assert native.ENTRY in found.defined


def foreign_tile(target: str) -> Any:
    return tile_for(native.portable_target(target).present, target.startswith("aarch64"))


@pytest.mark.parametrize("target", FOREIGN)
@pytest.mark.parametrize("function", sorted(symbols.PRODUCTS))
def test_products_for_another_system(function: str, target: str) -> None:
    text = gemm_module(function, foreign_tile(target))
    pool = {"ft_parallel_for", "ft_parallel_hot", "ft_pool_size", "malloc", "free"}
    assert function in assembled(text, target, pool | EVERYWHERE).defined


@pytest.mark.parametrize("target", FOREIGN)
@pytest.mark.parametrize("function", sorted(conv.NAMES))
def test_convolutions_for_another_system(function: str, target: str) -> None:
    text = conv_module(function, Kind(function.rpartition("_")[2], foreign_tile(target)))
    assert function in assembled(text, target, EVERYWHERE).defined


@pytest.mark.parametrize("target", FOREIGN)
@pytest.mark.parametrize("name", ["f64", "f32", "i64", "u8", "c128"])
def test_sorts_for_another_system(name: str, target: str) -> None:
    pool = {"ft_parallel_for", "ft_parallel_hot", "ft_pool_size"}
    for function, module in (("ft_sort_", sort_module), ("ft_argsort_", argsort_module)):
        found = assembled(module(name), target, pool | {"memcpy", "memmove"})
        assert function + name in found.defined


@pytest.mark.parametrize("target", FOREIGN)
def test_the_thread_pool_for_another_system(target: str) -> None:
    platform = PLATFORMS[target]
    imports = set(imported_names(platform))
    found = assembled(pool_text(platform), target, imports)
    assert imports == found.undefined - OWN.get(target, set())
    assert {"ft_parallel_for", "ft_pool_size", "ft_init"} <= found.defined
    has_futex = "syscall" in found.undefined
    assert has_futex == (target == "aarch64-linux")
    assert ("WaitOnAddress" in found.undefined) == (target == "x86_64-windows")
    assert ("pthread_create" in found.undefined) == (target != "x86_64-windows")


@pytest.mark.parametrize("target", ["aarch64-linux", "aarch64-macos", "x86_64-macos"])
def test_recycled_blocks_for_another_system(target: str) -> None:
    system = blocks_text.SYSTEMS["linux" if target.endswith("linux") else "darwin"]
    own = {*blocks_text.IMPORTS, *block_arrays_text.PYTHON_IMPORTS}
    own |= {"Py_None", "PyArray_Type", "PyArray_NewFromDescr"}
    assembled(blocks_text.blocks_text(system), target, own)


@pytest.mark.parametrize("target", FOREIGN)
def test_the_native_entry_for_another_system(target: str) -> None:
    text = enter_module(native.portable_target(target).triple)
    found = read_object(native.emit_object(text, native.portable_target(target)))
    assert (found.form, found.machine) == KINDS[target]
    ours = {s for s in found.undefined if s.startswith("ft_")}
    assert ours <= {"ft_tracing", "ft_block_table"}
    rest = found.undefined - ours - OWN.get(target, set())
    assert {s for s in rest if not s.startswith(("Py", "_Py"))} <= {"memcpy", "memset", "malloc"}


def test_an_unknown_target_is_an_error() -> None:
    with pytest.raises(
        ValueError, match="unknown target 'vax'; expected one of avx512, avx2, sse2"
    ):
        native.portable_target("vax")


def test_registers_outlive_the_slow_ways_of_functions(width: str) -> None:
    """What an outer loop keeps in registers is there after calls for huge arguments."""
    x, y = RNG.normal(size=(3, 3, 1)), RNG.normal(size=4)

    def loss(x: Any, y: Any) -> Any:
        return fnp.sum(fnp.sin(fnp.hypot(y, x))) + 3.0 * fnp.sum(fnp.sin(x))

    f = ft.vmap(ft.grad(loss, (0, 1)), in_axes=(1, None))
    for a, b in zip(ft.tree.leaves(ft.jit(f)(x, y)), evaluated(f, (x, y)), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-12, atol=1e-12)
