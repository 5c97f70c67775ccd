"""Where a compiled program's external functions come from: names to addresses, made on first use.

Invariant: every `ft_*` name that emitted code may call is known here, and nothing is compiled that
was not asked for.
"""

from collections.abc import Iterable

from jit.runtime import gemm, sort, threads

_PRODUCTS: dict[str, gemm.RealName] = {
    "ft_gemm_f32": "f32",
    "ft_gemm_c64": "f32",
    "ft_gemm_f64": "f64",
    "ft_gemm_c128": "f64",
}


def is_known(name: str) -> bool:
    """Whether `address` would find this function."""
    kind, _, element = name.rpartition("_")
    return (
        name in ("ft_parallel_for", "ft_pool_size")
        or name in _PRODUCTS
        or (kind in ("ft_sort", "ft_argsort") and element in sort.NAMES)
    )


def address(name: str) -> int:
    """The address of one runtime function. Raises KeyError for a name that is not the runtime's."""
    if not is_known(name):
        raise KeyError(name)
    if name in _PRODUCTS:
        return gemm.symbols(_PRODUCTS[name])[name]
    if name.startswith(("ft_sort_", "ft_argsort_")):
        return sort.symbols(name)[name]
    return threads.symbols()[name]


def addresses(names: Iterable[str]) -> dict[str, int]:
    """The addresses of those of `names` that are the runtime's."""
    return {name: address(name) for name in names if is_known(name)}


def prepare(names: Iterable[str]) -> None:
    """Start compiling the products among `names`, while the program that calls them is compiled."""
    reals: set[gemm.RealName] = {_PRODUCTS[name] for name in names if name in _PRODUCTS}
    for real in reals:
        gemm.prepare(real)
