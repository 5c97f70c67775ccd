"""The compiler's memory: dropped before a program of large arrays runs, and there again after."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from jit.leaving import MUCH, clean_mappings

SMAPS = """\
7f00-8f00 r-xp 00001000 08:01 77   /a folder/libllvmlite.so
Rss:                 600 kB
Anonymous:             0 kB
Swap:                  0 kB
VmFlags: rd ex mr mw me
8f00-9f00 r--p 00001000 08:01 77   /a folder/libllvmlite.so
Anonymous:            12 kB
Swap:                  0 kB
VmFlags: rd mr mw me ac
9f00-af00 r--p 00001000 08:01 77   /a folder/libllvmlite.so
Anonymous:             0 kB
Swap:                  4 kB
VmFlags: rd mr mw me ac
af00-bf00 rw-p 00001000 08:01 77   /a folder/libllvmlite.so
Anonymous:             0 kB
Swap:                  0 kB
VmFlags: rd wr mr mw me ac
bf00-cf00 r--s 00001000 08:01 77   /a folder/libllvmlite.so
Anonymous:             0 kB
Swap:                  0 kB
VmFlags: rd mr mw me
cf00-df00 r--p 00001000 08:01 77   /a folder/other.so
Anonymous:             0 kB
Swap:                  0 kB
VmFlags: rd mr mw me
df00-ef00 rw-p 00000000 00:00 0
Anonymous:             0 kB
VmFlags: rd wr mr mw me ac
ef00-ff00 r--p 00001000 08:01 77   /a folder/libllvmlite.so
Anonymous:             0 kB
VmFlags: rd mr mw me
"""


def test_only_what_equals_the_file_is_dropped() -> None:
    found = list(clean_mappings(SMAPS.splitlines(True), "libllvmlite"))
    assert found == [(0x7F00, 0x8F00), (0xEF00, 0xFF00)]


PROGRAM = f"""
import re
import numpy as np
import functrans as ft
import functrans.numpy as fnp

def of_llvm():
    text = open("/proc/self/smaps").read()
    parts = re.split(r"(?m)^(?=[0-9a-f]+-[0-9a-f]+ )", text)
    return sum(int(re.search("Rss: +([0-9]+)", p)[1]) for p in parts if "libllvmlite" in p)

few = np.linspace(0.0, 1.0, 1000)
many = np.ones({MUCH} // 8)
small = ft.jit(lambda x: fnp.sin(x) + 1.0)
assert np.allclose(small(few), np.sin(few) + 1.0)
with_compiler = of_llvm()
large = ft.jit(lambda x: fnp.cos(x) + 2.0)
for _ in range(3):
    assert np.allclose(large(many), np.cos(many) + 2.0)
without = of_llvm()
for k in range(5):
    again = ft.jit(lambda x: fnp.exp(x) * (k + 3.0))
    assert np.allclose(again(few), np.exp(few) * (k + 3.0))
print(with_compiler, without, of_llvm())
"""


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux says what is in memory")
def test_the_compiler_leaves_and_comes_back() -> None:
    given = dict(os.environ, FUNCTRANS_CACHE="0")
    command = [sys.executable, "-c", PROGRAM]
    done = subprocess.run(command, env=given, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    with_compiler, without, back = (int(word) for word in done.stdout.split())
    assert with_compiler > 20_000
    assert without < with_compiler / 4
    assert back > without
