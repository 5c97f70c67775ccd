"""The emitted matrix product agrees with NumPy for every shape and layout, in the same bits."""

import ctypes
import mmap
import os
import platform
import threading
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from jit import native
from jit.lowering.contraction import with_vector
from jit.runtime import gemm, gemm_rows, symbols, threads
from jit.runtime.gemm_loops import gemm_module
from jit.runtime.gemm_tile import Tile, tile_for
from jit.runtime.objects import build_object, host_features, library_symbols, link_object
from tests.lanes import one_in

Matrix = NDArray[Any]
NAMES = {"f": "f32", "d": "f64", "F": "c64", "D": "c128"}
_I, _P = ctypes.c_int64, ctypes.c_void_p
CALL = ctypes.CFUNCTYPE(None, _I, _I, _I, _P, _I, _I, _P, _I, _I, _P, _I, _I, _I, _I, _I, _I)
OF_MACHINES = {
    "avx512": tile_for(frozenset({"avx512f"}), aarch64=False),
    "avx2": tile_for(frozenset({"avx2", "fma"}), aarch64=False),
    "sse2": tile_for(frozenset(), aarch64=False),
    "neon": tile_for(frozenset(), aarch64=True),
}
WRITTEN = {name: tile for name, tile in OF_MACHINES.items() if tile.assembly}
TILES = OF_MACHINES | {f"{n} by LLVM": t._replace(assembly=False) for n, t in WRITTEN.items()}
OLDER = {"avx2", "sse2"}
X86 = platform.machine().lower() in ("x86_64", "amd64")


def tile_here(name: str) -> Tile:
    """A tile in code that this machine can run: assembly has the instructions of its tile."""
    needs = {"avx512": "avx512f", "avx2": "avx2"}.get(name)
    here = X86 and os.name == "posix" and needs in host_features()
    return TILES[name] if here else TILES[name]._replace(assembly=False)


@cache
def product_of(char: str, form: str, tile: str) -> Any:
    """The product of this machine, or of another tile, in an older processor's code if it can."""
    function = f"ft_{form}_{NAMES[char]}"
    if tile == "host":
        return CALL(gemm.symbols(function)[function])
    text = gemm_module(function, tile_here(tile))
    target = native.portable_target(tile) if X86 and tile in OLDER & host_features() else None
    code = native.emit_object(text, target) if target else build_object(text)
    imports = {**library_symbols(("malloc", "free", "memset")), **threads.symbols()}
    return CALL(link_object(f"test_{form}_{char}_{tile}", code, imports, [function])[function])


def call(
    a: Matrix,
    b: Matrix,
    c: Matrix,
    accumulate: bool = False,
    tile: str = "host",
    form: str | None = None,
) -> Matrix:
    """C = or += A B through the emitted product; operands are (m, k) or (batch, m, k).

    `form` is the one that a compiled program would choose, unless it is given.
    """
    size = a.itemsize
    a3, b3, c3 = (x if x.ndim == 3 else x[None] for x in (a, b, c))
    strides = [[s // size for s in x.strides] for x in (a3, b3, c3)]
    (sa, rsa, csa), (sb, rsb, csb), (sc, ldc, one) = strides
    batch, m, n = c3.shape
    assert one == 1 or n <= 1 or c.size == 0
    if form is None:
        vector = a.dtype.kind == "f" and with_vector(m, n, rsa, csa, rsb, csb, ldc)
        form = "gemv" if vector else "gemm"
    product_of(a.dtype.char, form, tile)(
        *(m, n, a3.shape[2], a3.ctypes.data, rsa, csa, b3.ctypes.data, rsb, csb),
        *(c3.ctypes.data, ldc, batch, sa, sb, sc, int(accumulate)),
    )
    return c


def random(rng: np.random.Generator, shape: tuple[int, ...], char: str) -> Matrix:
    x = rng.standard_normal(shape)
    return (x + 1j * rng.standard_normal(shape) if char in "FD" else x).astype(char)


def laid_out(x: Matrix, how: str) -> Matrix:
    """The same matrix (or stack of matrices) with other strides."""
    match how:
        case "rows":
            return np.ascontiguousarray(x)
        case "columns":
            return np.ascontiguousarray(x.swapaxes(-1, -2)).swapaxes(-1, -2)
        case "strided":
            big = np.empty((*x.shape[:-2], x.shape[-2] * 2 + 1, x.shape[-1] * 3 + 1), x.dtype)
            view = big[..., : x.shape[-2] * 2 : 2, : x.shape[-1] * 3 : 3]
            view[...] = x
            return view
        case _:
            return np.ascontiguousarray(x[..., ::-1, ::-1])[..., ::-1, ::-1]


LAYOUTS = ("rows", "columns", "strided", "reversed")


def allclose(got: Matrix, want: Matrix, k: int) -> bool:
    eps = float(np.finfo(got.dtype).eps)
    scale = 1.0 + float(np.abs(want).max()) if want.size else 1.0
    return bool(np.all(np.abs(got - want) <= eps * scale * (4 + k**0.5 * 4)))


@pytest.fixture(autouse=True)
def restore_size() -> Iterator[None]:
    before = threads.num_threads()
    yield
    threads.set_num_threads(before)


SIZES = (1, 2, 3, 4, 5, 7, 8, 9, 12, 15, 16, 17, 31, 33, 47, 48, 49, 64, 65, 97, 150)


@pytest.mark.parametrize("tile", WRITTEN)
@pytest.mark.parametrize("char", "fdFD")
def test_assembly_and_llvm_give_the_same_bits(char: str, tile: str) -> None:
    rng = np.random.default_rng(ord(char))
    for m, n, k in ((1, 1, 1), (8, 48, 200), (13, 150, 33), (31, 65, 400), (64, 17, 7)):
        a, b, start = (random(rng, shape, char) for shape in ((m, k), (k, n), (m, n)))
        for accumulate in (False, True):
            one, other = start.copy(), start.copy()
            call(a, b, one, accumulate, tile, "gemm")
            call(a, b, other, accumulate, f"{tile} by LLVM", "gemm")
            assert one.tobytes() == other.tobytes()


@pytest.mark.parametrize("tile", ["host", *OF_MACHINES])
@pytest.mark.parametrize("char", "fdFD")
def test_random_shapes_and_layouts(char: str, tile: str) -> None:
    rng = np.random.default_rng(len(tile) * 7 + ord(char))
    for _ in range(150 if tile == "host" else 60):
        m, n, k = (int(s) for s in rng.choice(SIZES, 3))
        a = laid_out(random(rng, (m, k), char), rng.choice(LAYOUTS))
        b = laid_out(random(rng, (k, n), char), rng.choice(LAYOUTS))
        # The margins right of C and below must not be touched, nor a NaN in them be read.
        room = np.full((m + 2, n + 3), np.nan, char)
        accumulate = bool(rng.integers(2))
        start = random(rng, (m, n), char)
        if accumulate:
            room[:m, :n] = start
        want = a.astype("D") @ b.astype("D") + (start if accumulate else 0)
        call(a, b, room[:m, :n], accumulate, tile)
        assert allclose(room[:m, :n], want, k), (m, n, k, a.strides, b.strides)
        assert np.isnan(room[:, n:]).all()
        assert np.isnan(room[m:]).all()


@pytest.mark.parametrize("char", "fdFD")
@pytest.mark.parametrize("shape", [(1, 40, 50), (40, 1, 50), (1, 1, 9), (1, 40, 1)])
def test_a_product_of_matrices_takes_vectors_too(char: str, shape: tuple[int, int, int]) -> None:
    rng = np.random.default_rng(8)
    m, n, k = shape
    for layout in LAYOUTS:
        a = laid_out(random(rng, (m, k), char), layout)
        b = laid_out(random(rng, (k, n), char), layout)
        got = call(a, b, np.empty((m, n), char), form="gemm")
        assert allclose(got, a.astype("D") @ b.astype("D"), k)


@pytest.mark.parametrize("char", "fdFD")
@pytest.mark.parametrize("tile", ["host", "avx2", "sse2"])
def test_several_blocks(char: str, tile: str) -> None:
    rng = np.random.default_rng(1)
    for layout_a, layout_b in (("rows", "rows"), ("columns", "rows"), ("strided", "columns")):
        a = laid_out(random(rng, (533, 470), char), layout_a)
        b = laid_out(random(rng, (470, 131), char), layout_b)
        got = call(a, b, np.empty((533, 131), char), tile=tile)
        assert allclose(got, a.astype("D") @ b.astype("D"), 470)


@pytest.mark.parametrize("char", "fdFD")
@pytest.mark.parametrize("tile", ["host", *OF_MACHINES])
def test_few_steps_have_the_same_bits_by_rows_and_by_blocks(char: str, tile: str) -> None:
    rng = np.random.default_rng(9)
    below = gemm_rows.LEAST_ROWS - 1  # so many rows are multiplied by blocks
    for m, n, k in ((32, 96, 1), (45, 131, 10), (61, 113, 96), (200, 577, 3)):
        for layout_a, layout_b in (("rows", "rows"), ("columns", "columns"), ("strided", "rows")):
            a = laid_out(random(rng, (m, k), char), layout_a)
            b = laid_out(random(rng, (k, n), char), layout_b)
            room = np.full((m, n + 3), np.nan, char)
            call(a, b, room[:, :n], tile=tile, form="gemm")
            assert np.isnan(room[:, n:]).all()
            assert allclose(room[:, :n], a.astype("D") @ b.astype("D"), k)
            for i in range(0, m, below):
                part = np.empty((len(a[i : i + below]), n), char)
                call(a[i : i + below], b, part, tile=tile, form="gemm")
                assert part.tobytes() == room[i : i + below, :n].tobytes()


large = pytest.mark.parametrize(
    ("tile", "char"),
    [
        *(("host", char) for char in "fdFD"),
        *one_in(2, ((f"{tile}-{char}", (tile, char)) for tile in TILES for char in "fdFD")),
    ],
)


@large
def test_many_steps_of_small_results(char: str, tile: str) -> None:
    """Their sums are taken in parts, for each product of a batch, and added to what is there."""
    rng = np.random.default_rng(12)
    layouts = [("rows", "rows"), ("columns", "columns"), ("rows", "columns")]
    # No step is left, some are, and one more than whole parts have.
    shapes = ((9, 20, 9216), (32, 32, 8193), (3, 70, 9001), (1, 60, 8199), (60, 1, 8250))
    for i, (m, n, k) in enumerate(shapes):
        # All layouts on this machine; for others one of them for each shape.
        for layout_a, layout_b in layouts if tile == "host" else [layouts[(i + ord(char)) % 3]]:
            a = laid_out(random(rng, (2, m, k), char), layout_a)
            b = laid_out(random(rng, (2, k, n), char), layout_b)
            c = random(rng, (2, m, n + 3), char)[..., :n]
            before, want = c.copy(), a.astype("D") @ b.astype("D")
            assert allclose(call(a, b, c.copy(), tile=tile), want, k)
            assert allclose(call(a, b, c, True, tile), before + want, k)


@large
def test_operands_from_afar(char: str, tile: str) -> None:
    """An A of megabytes is fetched ahead or packed by columns, and gives the bits of its parts."""
    rng = np.random.default_rng(13)
    for m, n, k in ((1283, 10, 850), (2048, 30, 520)):
        for layout in ("rows", "columns"):
            a, b = laid_out(random(rng, (1, m, k), char), layout), random(rng, (1, k, n), char)
            whole = np.full((1, m, n), np.nan, char)
            want = a.astype(np.promote_types(char, "d")) @ b
            assert allclose(call(a, b, whole, tile=tile), want, k)
            for rows in (slice(0, 7), slice(m - 30, m)):
                part = call(a[:, rows], b, np.empty_like(whole[:, rows]), tile=tile)
                assert part.tobytes() == whole[:, rows].tobytes()


NO_MEMORY = ctypes.CFUNCTYPE(_P, _I)(lambda size: None)


@cache
def product_without_memory(char: str, tile: str) -> Any:
    function = f"ft_gemm_{NAMES[char]}"
    imports = {**library_symbols(("free", "memset")), **threads.symbols()}
    imports["malloc"] = ctypes.cast(NO_MEMORY, _P).value
    code = build_object(gemm_module(function, tile_here(tile)))
    return CALL(link_object(f"starved_{char}_{tile}", code, imports, [function])[function])


@pytest.mark.parametrize("tile", ["avx2", "avx2 by LLVM"])
@pytest.mark.parametrize("char", "fdFD")
def test_products_need_no_memory(char: str, tile: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where there is none for a workspace, they take longer, and have the same bits."""
    rng = np.random.default_rng(14)
    for m, n, k in ((2048, 30, 520), (300, 90, 700), (70, 200, 40)):
        for layout in ("rows", "columns"):
            a, b = laid_out(random(rng, (m, k), char), layout), random(rng, (k, n), char)
            want = call(a, b, np.empty((m, n), char), tile=tile)
            with monkeypatch.context() as patched:
                patched.setitem(
                    globals(), "product_of", lambda c, _, t: product_without_memory(c, t)
                )
                assert call(a, b, np.empty((m, n), char), tile=tile).tobytes() == want.tobytes()


@pytest.mark.parametrize("char", "fdFD")
def test_empty_sides(char: str) -> None:
    for m, n, k in ((0, 3, 3), (3, 0, 3), (0, 0, 0), (3, 4, 0), (1, 1, 0)):
        a, b = np.ones((m, k), char), np.ones((k, n), char)
        c = np.full((m, n), 7, char)
        assert np.array_equal(call(a, b, c.copy()), np.zeros((m, n)))
        assert np.array_equal(call(a, b, c.copy(), accumulate=True), c if k == 0 else a @ b + c)
    untouched = np.full((5, 2, 2), 3.0, char)
    call(np.ones((0, 2, 2), char), np.ones((0, 2, 2), char), untouched[:0])
    assert (untouched == 3).all()


@pytest.mark.parametrize("char", "fdFD")
@pytest.mark.parametrize(
    "shape",
    [(3, 5, 6, 7), (40, 64, 17, 33), (2, 200, 150, 97), (7, 1, 30, 9), (2, 70, 9, 2500)],
)
@pytest.mark.parametrize("shared", [None, "a", "b"])
def test_batches(char: str, shape: tuple[int, int, int, int], shared: str | None) -> None:
    rng = np.random.default_rng(2)
    batch, m, n, k = shape
    a, b = random(rng, (batch, m, k), char), random(rng, (batch, k, n), char)
    if shared == "a":
        a = np.broadcast_to(a[:1], a.shape)
    if shared == "b":
        b = laid_out(b, "columns")
        b = np.broadcast_to(b[:1], b.shape)
    want = a.astype("D") @ b.astype("D")
    for count in (1, 3):
        threads.set_num_threads(count)
        assert allclose(call(a, b, np.full((batch, m, n), np.nan, char)), want, k)


SHAPES = (
    *((300, 517, 203), (1500, 40, 90), (30, 2000, 100), (260, 260, 260), (900, 1100, 10)),
    *((1, 3000, 700), (3000, 1, 701), (3000, 1, 120), (2000, 7, 1000)),
    *((13, 17, 10_007), (1, 33, 9001), (30, 1, 9216)),
)


@pytest.mark.parametrize("char", "fdFD")
@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("layouts", [("rows", "rows"), ("columns", "columns"), ("strided", "rows")])
def test_bits_do_not_depend_on_threads(
    char: str, shape: tuple[int, int, int], layouts: tuple[str, str]
) -> None:
    rng = np.random.default_rng(3)
    m, n, k = shape
    a, b = (
        laid_out(random(rng, (m, k), char), layouts[0]),
        laid_out(random(rng, (k, n), char), layouts[1]),
    )
    results: list[bytes] = []
    for count in (1, 2, 3, 5):
        threads.set_num_threads(count)
        results.append(call(a, b, np.empty((m, n), char)).tobytes())
    assert len(set(results)) == 1


@pytest.mark.parametrize("char", "fd")
def test_bits_do_not_depend_on_layout_or_neighbours(char: str) -> None:
    rng = np.random.default_rng(4)
    a, b = random(rng, (300, 517), char), random(rng, (517, 203), char)
    first = call(a, b, np.empty((300, 203), char))
    for layout_a in LAYOUTS:
        for layout_b in LAYOUTS:
            again = call(laid_out(a, layout_a), laid_out(b, layout_b), np.empty((300, 203), char))
            assert again.tobytes() == first.tobytes()
    part = call(a[7:20], b[:, 5:60], np.empty((13, 55), char))
    assert part.tobytes() == first[7:20, 5:60].tobytes()


@pytest.mark.parametrize("char", "fd")
@pytest.mark.parametrize("shape", [(9, 20, 30), (1, 50, 40), (50, 1, 40), (100, 100, 100)])
def test_values_that_are_not_finite(char: str, shape: tuple[int, int, int]) -> None:
    rng = np.random.default_rng(5)
    m, n, k = shape
    a, b = random(rng, (m, k), char), random(rng, (k, n), char)
    for array in (a, b):
        where = rng.integers(array.size, size=4)
        array.flat[where] = [np.nan, np.inf, -np.inf, 1e-310 if char == "d" else 1e-40]
    with np.errstate(invalid="ignore"):
        want = a @ b
    got = call(a, b, np.empty((m, n), char))
    assert np.array_equal(np.isnan(got), np.isnan(want))
    fine = ~np.isnan(want)
    assert np.array_equal(np.isinf(got[fine]), np.isinf(want[fine]))
    assert allclose(got[np.isfinite(want)], want[np.isfinite(want)], k)


@pytest.mark.parametrize("char", "FD")
def test_complex_infinities_do_not_spread_to_other_elements(char: str) -> None:
    a, b = np.ones((20, 30), char), np.ones((30, 40), char)
    a[3, 4] = complex(np.inf, 0)
    b[5, 6] = complex(0, np.nan)
    got = call(a, b, np.empty((20, 40), char))
    clean = np.ones((20, 40), bool)
    clean[3, :] = clean[:, 6] = False
    assert (got[clean] == 30).all()
    assert not np.isfinite(got[~clean]).any()


def guarded(shape: tuple[int, int], char: str) -> Matrix:
    """An array that ends where a page without access begins."""
    page = mmap.PAGESIZE
    size = shape[0] * shape[1] * np.dtype(char).itemsize
    room = (size + page - 1) // page * page
    flat = np.frombuffer(mmap.mmap(-1, room + page), np.uint8)
    library: Any = ctypes.CDLL(None)
    assert library.mprotect(ctypes.c_void_p(flat.ctypes.data + room), page, 0) == 0
    return flat[room - size : room].view(char).reshape(shape)


@pytest.mark.skipif(os.name != "posix", reason="needs mprotect")
@pytest.mark.parametrize("char", "fdFD")
@pytest.mark.parametrize(
    "shape", [(5, 7, 11), (8, 48, 6), (13, 1, 17), (1, 19, 5), (70, 70, 70), (43, 130, 6)]
)
def test_nothing_outside_the_operands_is_touched(char: str, shape: tuple[int, int, int]) -> None:
    """Reading or writing past the end would end the process."""
    m, n, k = shape
    for a in (guarded((m, k), char), guarded((k, m), char).T):
        for b in (guarded((k, n), char), guarded((n, k), char).T):
            a[...], b[...] = 1, 2
            assert (call(a, b, guarded((m, n), char)) == 2 * k).all()


def test_concurrent_callers_get_the_same_bits() -> None:
    threads.set_num_threads(2)
    rng = np.random.default_rng(7)
    a, b = random(rng, (200, 190), "d"), random(rng, (190, 180), "d")
    want = call(a, b, np.empty((200, 180))).tobytes()
    results: list[bool] = []

    def work() -> None:
        results.extend(call(a, b, np.empty((200, 180))).tobytes() == want for _ in range(20))

    workers = [threading.Thread(target=work) for _ in range(4)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join(60)
    assert results == [True] * 80


@pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="memory is read from /proc")
def test_workspaces_are_reused() -> None:
    def resident_pages() -> int:
        return int(Path("/proc/self/statm").read_text().split()[1])

    threads.set_num_threads(3)
    a = np.ones((300, 300), np.float32)
    c = np.empty_like(a)
    for _ in range(20):
        call(a, a, c)
    before = resident_pages()
    for _ in range(300):
        call(a, a, c)
    assert resident_pages() - before < 300


@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
@pytest.mark.skipif(not threads.has_threads(), reason="no native threads here")
def test_a_forked_child_gets_the_same_bits() -> None:
    threads.set_num_threads(2)
    rng = np.random.default_rng(6)
    a, b = random(rng, (300, 200), "f"), random(rng, (200, 300), "f")
    before = call(a, b, np.empty((300, 300), "f")).tobytes()
    child = os.fork()
    if child == 0:
        code = 1
        try:
            code = 0 if call(a, b, np.empty((300, 300), "f")).tobytes() == before else 2
        finally:
            os._exit(code)
    assert os.waitpid(child, 0)[1] == 0
    assert call(a, b, np.empty((300, 300), "f")).tobytes() == before


@pytest.mark.parametrize("function", sorted(symbols.PRODUCTS))
@pytest.mark.parametrize("tile", TILES.values(), ids=TILES.keys())
def test_the_text_is_deterministic(function: str, tile: Tile) -> None:
    assert gemm_module(function, tile) == gemm_module(function, tile)
