"""Every runtime function is found by name, once, also when it is made in the background."""

import ctypes
import threading

import pytest

from jit.runtime import symbols
from jit.runtime.objects import build_object, in_background, link_object, once

NAMES = (
    *("ft_parallel_for", "ft_pool_size", "ft_gemm_f32", "ft_gemv_f64", "ft_gemm_c128"),
    *("ft_sort_u8", "ft_callback", "ft_keep_i32", "ft_largest_i64"),
)


def test_names_have_addresses() -> None:
    found = symbols.addresses([*NAMES, "malloc"])
    assert sorted(found) == sorted(NAMES)
    assert all(found.values())
    assert found == symbols.addresses(NAMES)


@pytest.mark.parametrize(
    "name", ["malloc", "ft_gemm_i32", "ft_gemv_c64", "ft_sort_", "ft_sort_c256", "ft_keep_f32"]
)
def test_other_names_are_not_the_runtimes(name: str) -> None:
    assert not symbols.is_known(name)
    with pytest.raises(KeyError):
        symbols.address(name)


def test_what_is_prepared_is_made_once() -> None:
    made: list[str] = []
    entered, release = threading.Event(), threading.Event()

    @once
    def make(name: str) -> str:
        entered.set()
        release.wait(30)
        made.append(name)
        return name * 2

    in_background(lambda: make("a"))
    assert entered.wait(30)
    release.set()
    assert [make("a"), make("a"), make("b")] == ["aa", "aa", "bb"]
    assert made == ["a", "b"]
    symbols.prepare(["ft_gemm_f32", "ft_sort_f32"])
    assert symbols.address("ft_gemm_f32")


def test_a_module_is_its_text() -> None:
    answers: list[int] = []
    for number in (3, 4, 3):
        code = build_object(f"define i32 @ft_number() nounwind {{\n  ret i32 {number}\n}}\n")
        address = link_object(f"number {number}", code, {}, ["ft_number"])["ft_number"]
        answers.append(ctypes.CFUNCTYPE(ctypes.c_int)(address)())
    assert answers == [3, 4, 3]


def test_a_module_that_calls_what_is_nowhere_names_it() -> None:
    text = (
        "declare void @no_such_function()\n"
        "define void @f() nounwind {\n  call void @no_such_function()\n  ret void\n}\n"
    )
    with pytest.raises(KeyError, match=r"demo: .*no_such_function"):
        link_object("demo", build_object(text), {}, ["f"])
