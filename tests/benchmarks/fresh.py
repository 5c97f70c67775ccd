"""Fresh processes: start-up, and the first call of a program with nothing compiled before.

    python -m tests.benchmarks.fresh LIBRARY PROGRAM

prints the seconds of PROGRAM: `import`, `gradient` (prints a gradient, for the parent to time from
the start of the process), or `first_...` (traced, differentiated, compiled and run, the cache on
disk switched off; imports and inputs come before). `cached_...` is the same where an earlier
process has left its compiled code, `empty_...` where the cache is on and nobody has yet; the other
libraries compile.
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
    "cached_import": "the same with programs on the disk",
    "gradient": "script start to first gradient",
    "first_10": "first call of 10 operations",
    "first_mlp": "first call of the MLP",
    "first_rnn100": "first call of an RNN unrolled 100 steps",
    "first_rnn_scan": "first call of an RNN of 100 steps as scan",
    "first_chain1000": "first call of a chain of 1000 operations",
    "first_path50": "first call of a path of 50 steps",
    "first_taylor10": "first call of 10 derivatives of tanh(sin x)",
    "empty_10": "first call of 10 operations, the cache on and empty",
    "empty_mlp": "first call of the MLP, the cache on and empty",
    "cached_10": "the same of 10 operations, from the disk",
    "cached_mlp": "the same of the MLP, from the disk",
    "cached_rnn100": "the same of the RNN, from the disk",
    "cached_chain1000": "the same of the chain, from the disk",
}
_WARM: set[tuple[str, str]] = set()
_CASES = {
    "10": "grad10_jit",
    "mlp": "mlp",
    "rnn100": "rnn100",
    "rnn_scan": "rnn_scan",
    "chain1000": "chain1000",
    "path50": "path50",
    "taylor10": "taylor10",
}


def case_of(program: str) -> str | None:
    """The name of the case whose first call a program times, if it does."""
    return _CASES.get(program.partition("_")[2])


@functools.cache
def _kept(purpose: str) -> str:
    """A folder for what later processes find."""
    folder = tempfile.mkdtemp(prefix=f"functrans-{purpose}-")
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    return folder


def seconds(library: str, program: str) -> float:
    """Run one program in a process of its own.

    Python finds its bytecode, as an installation has it; compiled code is there for `cached_...`.
    """
    if (library, program) not in _WARM:
        _WARM.add((library, program))
        seconds(library, "cached_10" if program == "cached_import" else program)
    command = [sys.executable, "-m", "tests.benchmarks.fresh", library, program]
    if program == "gradient":
        command = [sys.executable, "-c", _SCRIPTS[library]]
    with tempfile.TemporaryDirectory() as empty:
        cache = _kept("programs") if program.startswith("cached_") else empty
        switch = "off" if program.startswith("first_") else "on"
        found = {"FUNCTRANS_CACHE_DIR": cache, "FUNCTRANS_CACHE": switch}
        found["PYTHONPYCACHEPREFIX"] = _kept("bytecode")
        environment = os.environ | found
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
    if program in ("import", "cached_import"):
        spent = import_seconds(library)
    else:
        case = case_of(program)
        assert case is not None, program
        spent = first_call_seconds(library, case)
    sys.stdout.write(f"{spent}\n")


if __name__ == "__main__":
    main(sys.argv[1:])
