"""Images: what is linked and loaded without LLVM does what LLVM's own linker makes of it."""

from __future__ import annotations

import ctypes
import gc
import os
import struct
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from jit import native
from jit.elf import Unlinkable, link_image
from jit.image import PAGE, Image, Mapped
from jit.native import Object, host_target
from jit.target import Target

pytestmark = pytest.mark.skipif(
    not host_target().triple.startswith("x86_64"), reason="images are made of code for x86-64"
)

TEXT = """
@table = internal constant [3 x ptr] [ptr @one, ptr @two, ptr @outside]
@count = internal global i64 40
@room = internal global [5000 x i8] zeroinitializer, align 64
@data = external global i64
declare i64 @outside(i64)

define internal i64 @one(i64 %x) noinline nounwind {
  %y = add i64 %x, 1
  ret i64 %y
}
define internal i64 @two(i64 %x) noinline nounwind {
  %y = mul i64 %x, 2
  ret i64 %y
}
define i64 @choose(i64 %k, i64 %x) nounwind {
  %at = getelementptr ptr, ptr @table, i64 %k
  %f = load ptr, ptr %at
  %y = call i64 %f(i64 %x)
  ret i64 %y
}
define i64 @call(i64 %x) nounwind {
  %y = call i64 @outside(i64 %x)
  %z = load i64, ptr @data
  %s = add i64 %y, %z
  ret i64 %s
}
define i64 @tick() nounwind {
  %n = load i64, ptr @count
  %m = add i64 %n, 1
  store i64 %m, ptr @count
  ret i64 %m
}
define i64 @aligned() nounwind {
  %a = ptrtoint ptr @room to i64
  %low = and i64 %a, 63
  ret i64 %low
}
define double @half(double %x) nounwind {
  %y = fmul double %x, 0.4375
  ret double %y
}
"""
EXPORTS = ("choose", "call", "tick", "aligned", "half")
NUMBER = ctypes.c_int64(1000)
OUTSIDE = ctypes.CFUNCTYPE(ctypes.c_int64, ctypes.c_int64)(lambda x: x * 100)
ADDRESSES = {
    "outside": ctypes.cast(OUTSIDE, ctypes.c_void_p).value or 0,
    "data": ctypes.addressof(NUMBER),
}


def code_for(target: Target | None = None) -> bytes:
    return native.emit_object(TEXT, target or host_target())


def functions(loaded: Any) -> dict[str, Any]:
    """The module's functions, ready to be called."""
    kinds = {"choose": 2, "call": 1, "tick": 0, "aligned": 0}
    found = {
        name: ctypes.CFUNCTYPE(ctypes.c_int64, *[ctypes.c_int64] * n)(loaded.addresses[name])
        for name, n in kinds.items()
    }
    double = ctypes.CFUNCTYPE(ctypes.c_double, ctypes.c_double)
    return {**found, "half": double(loaded.addresses["half"])}


@pytest.mark.parametrize("own", [True, False], ids=["image", "LLVM"])
def test_every_kind_of_reference(own: bool) -> None:
    code = native.loadable(code_for()) if own else Object(code_for())
    assert isinstance(code, Image) == own
    loaded = native.load(code, native.finder(ADDRESSES), ADDRESSES, EXPORTS)
    f = functions(loaded)
    assert [f["choose"](k, 21) for k in range(3)] == [22, 42, 2100]
    assert f["call"](5) == 1500
    assert [f["tick"](), f["tick"]()] == [41, 42]
    assert f["aligned"]() == 0
    assert f["half"](8.0) == 3.5


def test_each_load_has_data_of_its_own() -> None:
    image = link_image(code_for())
    one, two = (Mapped(image, ADDRESSES.__getitem__) for _ in range(2))
    assert [functions(one)["tick"]() for _ in range(3)] == [41, 42, 43]
    assert functions(two)["tick"]() == 41
    # A child of fork has its own, too.
    child = os.fork()
    if child == 0:
        os._exit(functions(one)["tick"]())
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 44
    assert functions(one)["tick"]() == 44


def maps_at(address: int) -> list[str]:
    """The permissions of the mappings around an address."""
    found: list[str] = []
    for line in Path("/proc/self/maps").read_text().splitlines():
        first, last = (int(x, 16) for x in line.split()[0].split("-"))
        if first <= address < last:
            found.append(line.split()[1])
    return found


def test_code_is_not_writable_and_goes_with_its_owner() -> None:
    loaded = Mapped(link_image(code_for()), ADDRESSES.__getitem__)
    address = loaded.addresses["half"]
    assert maps_at(address) == ["r-xp"]
    del loaded
    gc.collect()
    assert maps_at(address) != ["r-xp"]


def test_what_is_kept_stays() -> None:
    loaded = Mapped(link_image(code_for()), ADDRESSES.__getitem__)
    loaded.keep()
    half = functions(loaded)["half"]
    del loaded
    gc.collect()
    assert half(2.0) == 0.875


def test_a_symbol_that_is_nowhere() -> None:
    with pytest.raises(KeyError):
        Mapped(link_image(code_for()), {"data": 1}.__getitem__)


def test_parts_of_an_image() -> None:
    image = link_image(code_for())
    assert len(image.code) % PAGE == 0
    assert len(image.data) <= image.size
    assert image.size >= 5000
    assert {name for _, name in image.imports} == {"outside", "data"}
    assert {name for name, _ in image.exports} == set(EXPORTS)
    assert len(image.words) == 2


@pytest.mark.parametrize("name", ["avx2", "sse2"])
def test_objects_of_every_width(name: str) -> None:
    loaded = Mapped(link_image(code_for(native.portable_target(name))), ADDRESSES.__getitem__)
    assert functions(loaded)["half"](4.0) == 1.75


# -- what is left to LLVM ---------------------------------------------------------------------


@pytest.mark.parametrize("name", ["aarch64-linux", "aarch64-macos", "x86_64-windows"])
def test_objects_of_other_machines_are_not_linked(name: str) -> None:
    target = native.portable_target(name)
    with pytest.raises(Unlinkable):
        link_image(native.emit_object(TEXT, target))


def test_variables_of_threads_are_not_linked() -> None:
    text = "@x = thread_local global i32 1\ndefine ptr @f() {\n  ret ptr @x\n}\n"
    code = native.emit_object(text, host_target())
    with pytest.raises(Unlinkable):
        link_image(code)
    assert isinstance(native.loadable(code), Object)


def test_damaged_objects_make_no_trouble() -> None:
    """Whatever bytes there are: an image, or Unlinkable; nothing else, and nothing is run."""
    code = code_for()
    rng = np.random.default_rng(3)
    (table,) = struct.unpack_from("<Q", code, 40)
    places = [*range(64), *range(table, len(code), 7), *rng.integers(0, len(code), 200)]
    outcomes = {"image": 0, "unlinkable": 0}
    for place in places:
        bad = bytearray(code)
        bad[place] ^= int(rng.integers(1, 256))
        try:
            link_image(bytes(bad))
            outcomes["image"] += 1
        except Unlinkable:
            outcomes["unlinkable"] += 1
    for size in (0, 3, 63, 64, 100, len(code) // 2):
        with pytest.raises(Unlinkable):
            link_image(code[:size])
    assert min(outcomes.values()) > 0
