"""Where a compiled program's external functions come from: names to addresses, made on first use.

Invariant: every `ft_*` name that emitted code may call is known here, and nothing is imported or
compiled that was not asked for.
"""

from collections.abc import Callable, Iterable, Mapping

from jit.runtime import callbacks, threads
from jit.runtime.objects import in_background

PRODUCTS = frozenset(
    {"ft_gemm_f32", "ft_gemm_f64", "ft_gemm_c64", "ft_gemm_c128", "ft_gemv_f32", "ft_gemv_f64"}
)


def family(name: str) -> Callable[[], Mapping[str, int]] | None:
    """What gives the address of this function, among others; None where it is not the runtime's."""
    if name in PRODUCTS:
        from jit.runtime import gemm

        return lambda: gemm.symbols(name)
    if name.startswith("ft_small_"):
        from jit.runtime import gemm_small

        return (lambda: gemm_small.symbols(name)) if gemm_small.is_small_name(name) else None
    if name.startswith(("ft_sort_", "ft_argsort_")):
        from jit.runtime import sort

        return (lambda: sort.symbols(name)) if name.rpartition("_")[2] in sort.NAMES else None
    if name.startswith(("ft_keep_", "ft_largest_")):
        from jit.runtime import largest

        return (lambda: largest.symbols(name)) if largest.is_largest_name(name) else None
    if name.startswith("ft_conv_"):
        from jit.runtime import conv

        return (lambda: conv.symbols(name)) if name in conv.NAMES else None
    if name.startswith(("ft_lapack_", "ft_blas_")):
        from jit.runtime import blas

        return lambda: blas.symbols(name)
    if name in threads.LOOPS:
        return threads.symbols
    return callbacks.symbols if name == callbacks.CALLBACK else None


def is_known(name: str) -> bool:
    """Whether `address` would find this function."""
    return family(name) is not None


def address(name: str) -> int:
    """The address of one runtime function. Raises KeyError for a name that is not the runtime's."""
    find = family(name)
    if find is None:
        raise KeyError(name)
    return find()[name]


def addresses(names: Iterable[str]) -> dict[str, int]:
    """The addresses of those of `names` that are the runtime's."""
    return {name: address(name) for name in sorted(names) if is_known(name)}


def prepare(names: Iterable[str]) -> None:
    """Start making what is asked for, while the program that calls it is compiled."""
    new = {name for name in names if is_known(name)} - _prepared
    if new:
        _prepared.update(new)
        in_background(lambda: addresses(new))


_prepared: set[str] = {callbacks.CALLBACK}
