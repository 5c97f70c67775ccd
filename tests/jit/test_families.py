"""Families of rules: the table of what is imported later says what those files are for."""

from __future__ import annotations

import os
import subprocess
import sys

from functrans.primitives import ALL
from jit.lowering import families
from jit.lowering.rules import has_lowering

SCRIPT = """
from functrans.primitives import ALL
from jit.lowering import families
from jit.lowering.rules import has_lowering
known = lambda: {n for n, p in ALL.items() if has_lowering(p)}
print(*known())
for file, names in families.LATER.items():
    if file in ("control", "unrolled_rules", "sparse_pads"):
        continue
    before = known()
    families.load([ALL[names[-1]]])
    assert known() - before == set(names) & ALL.keys(), (file, known() - before)
"""


def test_each_file_is_imported_by_what_it_lowers() -> None:
    """In a process of its own, where nothing else has asked for them."""
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT], env=os.environ, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    at_first = set(done.stdout.split())
    later = {name for names in families.LATER.values() for name in names}
    # Pads have a rule of their own beside the rewriting of sparse ones.
    assert at_first & later <= {"pad"}
    families.load_all()
    assert {n for n, p in ALL.items() if has_lowering(p)} == at_first | (later & ALL.keys())
