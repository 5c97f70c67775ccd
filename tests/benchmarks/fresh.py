"""Fresh processes: start-up, and the first call of a program with nothing compiled before.

    python -m tests.benchmarks.fresh LIBRARY PROGRAM

prints the seconds of PROGRAM: `import`, `gradient` (prints a gradient, for the parent to time from
the start of the process), or `first_...` (traced, differentiated, compiled and run; imports and
inputs come before).
"""

from __future__ import annotations

import atexit
import functools
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence

PROGRAMS = {
    "import": "import, fresh process",
    "gradient": "script start to first gradient",
    "first_10": "first call of 10 operations",
    "first_mlp": "first call of the MLP",
    "first_rnn100": "first call of an RNN unrolled 100 steps",
    "first_chain1000": "first call of a chain of 1000 operations",
}
_WARM: set[tuple[str, str]] = set()
_CASES = {
    "first_10": "grad10_jit",
    "first_mlp": "mlp",
    "first_rnn100": "rnn100",
    "first_chain1000": "chain1000",
}


@functools.cache
def _bytecode() -> str:
    """A folder for Python's own bytecode, as an installation has it beside the sources."""
    folder = tempfile.mkdtemp(prefix="functrans-benchmarks-")
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    return folder


def seconds(library: str, program: str) -> float:
    """Run one program in a process of its own, with an empty cache of compiled code."""
    if (library, program) not in _WARM:
        _WARM.add((library, program))
        seconds(library, program)
    command = [sys.executable, "-m", "tests.benchmarks.fresh", library, program]
    if program == "gradient":
        command = [sys.executable, "-c", _SCRIPTS[library]]
    with tempfile.TemporaryDirectory() as cache:
        environment = dict(os.environ, FUNCTRANS_CACHE_DIR=cache, PYTHONPYCACHEPREFIX=_bytecode())
        environment.pop("PYTHONDONTWRITEBYTECODE", None)
        start = time.perf_counter()
        done = subprocess.run(
            command, env=environment, capture_output=True, text=True, check=False, timeout=300
        )
        spent = time.perf_counter() - start
    if done.returncode:
        raise RuntimeError((done.stderr.strip() or "no message").splitlines()[-1])
    return spent if program == "gradient" else float(done.stdout)


_TORCH = """
import torch
x = torch.tensor(0.5, requires_grad=True)
y = torch.sin(x) * torch.exp(-x)
y.backward()
print(x.grad)
"""
_LIKE_NUMPY = """
{import_}
print(grad(lambda x: np.sin(x) * np.exp(-x))(0.5))
"""
_SCRIPTS = {
    "functrans": _LIKE_NUMPY.format(import_="import numpy as np\nfrom functrans import grad"),
    "jax": _LIKE_NUMPY.format(import_="from jax import grad, numpy as np"),
    "autograd": _LIKE_NUMPY.format(import_="from autograd import grad, numpy as np"),
    "torch": _TORCH,
}


def import_seconds(library: str) -> float:
    """The seconds of the import statement alone."""
    start = time.perf_counter()
    __import__(library)
    return time.perf_counter() - start


def first_call_seconds(library_name: str, case_name: str) -> float:
    """Build, trace, differentiate, compile, run once and wait."""
    from tests.benchmarks.case import load_cases
    from tests.benchmarks.libraries import load

    case, library = load_cases()[case_name], load(library_name)
    arguments = case.arguments(library)
    start = time.perf_counter()
    library.wait(case.function(library)(*arguments))
    return time.perf_counter() - start


def main(arguments: Sequence[str]) -> None:
    library, program = arguments
    if program == "import":
        spent = import_seconds(library)
    else:
        spent = first_call_seconds(library, _CASES[program])
    sys.stdout.write(f"{spent}\n")


if __name__ == "__main__":
    main(sys.argv[1:])
