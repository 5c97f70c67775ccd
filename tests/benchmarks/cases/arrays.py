"""Single operations: sorting, selection, sums by segment and the matrix product."""

from __future__ import annotations

from tests.benchmarks.case import case


@case("sort", "sort, 1e6 f64", lambda rng: (rng.normal(size=1_000_000),))
def sort(lib):
    return lib.jit(lambda x: lib.np.sort(x))


@sort.best("torch", "torch.compile")
def sort_torch(lib):
    return lib.jit(lambda x: lib.torch.sort(x).values)


@case(
    "sort_grad",
    "sum(sort(x) * w) and gradient, 1e6 f64",
    lambda rng: (rng.normal(size=1_000_000), rng.normal(size=1_000_000)),
)
def sort_grad(lib):
    return lib.jit(lib.value_and_grad(lambda x, w: lib.np.sum(lib.np.sort(x) * w)))


@sort_grad.best("torch", "torch.compile")
def sort_grad_torch(lib):
    return lib.jit(lib.value_and_grad(lambda x, w: (lib.torch.sort(x).values * w).sum()))


@case(
    "argsort", "argsort, 1e6 f64", lambda rng: (rng.normal(size=1_000_000),), without=("autograd",)
)
def argsort(lib):
    return lib.jit(lambda x: lib.np.argsort(x))


def rows_of_scores(rng):
    return (rng.normal(size=(64, 50_000)).astype("f4"),)


@case("top_k", "top_k of 10 in 64 rows of 50000 f32", rows_of_scores, without=("autograd",))
def top_k(lib):
    return lib.jit(lambda x: lib.top_k(x, 10)[0])


def segments(rng):
    return rng.normal(size=1_000_000), rng.integers(0, 1000, 1_000_000)


@case("segment_sum", "segment sum, 1e6 f64 to 1000", segments, without=("autograd",))
def segment_sum(lib):
    return lib.jit(lambda x, where: lib.np.zeros(1000).at[where].add(x))


@segment_sum.best("torch", "torch.compile")
def segment_sum_torch(lib):
    torch = lib.torch
    return lib.jit(lambda x, where: torch.zeros(1000, dtype=x.dtype).index_add(0, where, x))


def square(rng):
    return rng.normal(size=(1024, 1024)), rng.normal(size=(1024, 1024))


@case("product", "matrix product 1024, f64", square, products=True)
def product(lib):
    return lib.jit(lambda x, y: x @ y)


@case(
    "turned",
    "x.T * 2 + y, 1000 x 1000 f32",
    lambda rng: tuple(rng.normal(size=(2, 1000, 1000)).astype("f4")),
    tolerance=1e-6,
    eager=True,
)
def turned(lib):
    return lib.jit(lambda x, y: x.T * 2.0 + y)
