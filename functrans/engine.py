"""The engine interface: the native engine is found, checked and imported when it is first used."""

from __future__ import annotations

import importlib
import os
import time
from collections.abc import Callable
from contextlib import suppress
from types import ModuleType
from typing import Any

from functrans import tiers
from functrans.errors import EngineError

IMPORTED = time.time()
"""When functrans was imported: files that changed later are not those that run."""
_plugged: dict[str, str] = {}


def plug(module: str, version: str) -> None:
    """Name the module that compiles, and the version that it must have. Nothing is imported."""
    _plugged.update(module=module, version=version)
    tiers.provide_compiler(lambda jaxpr: native_engine().flat_program(jaxpr))


def start_early() -> None:
    """Let the engine load what the first program will need, where there is one to be compiled.

    What is wrong with the engine is said when it is used.
    """
    if os.environ.get("FUNCTRANS_ENGINE", "native") == "native":
        with suppress(EngineError, ImportError):
            importlib.import_module(f"{own_package().__name__}.early").start()


def native_engine() -> ModuleType:
    """The plugged module, imported; EngineError names what shadows it when it is not ours."""
    own_package()
    return importlib.import_module(_plugged["module"])


def own_package() -> ModuleType:
    """The package of the plugged module; EngineError where another one shadows it."""
    package = importlib.import_module(_plugged["module"].split(".")[0])
    file = package.__file__ or "a namespace package without a file"
    ours = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
    beside = os.path.dirname(os.path.dirname(os.path.abspath(file)))
    version = getattr(package, "__version__", None)
    if beside != ours or version != _plugged["version"]:
        raise EngineError(
            f"functrans {_plugged['version']} needs the package {package.__name__!r} that was "
            f"installed with it in {ours}, but importing it gave {file} (version {version}). "
            "Rename or remove the file that shadows it."
        )
    return package


def engine_name() -> str:
    """`native`, or `numpy` where FUNCTRANS_ENGINE asks for the reference evaluator."""
    name = os.environ.get("FUNCTRANS_ENGINE", "native")
    if name not in ("native", "numpy"):
        raise EngineError(f"FUNCTRANS_ENGINE is {name!r}, but must be 'native' or 'numpy'")
    return name


def jit(f: Callable[..., Any] | None = None, **options: Any) -> Any:
    """f compiled to native code, one program for each signature of its arguments.

    Use it as `jit(f)` or as a decorator with options: `static_argnums`, `static_argnames` (values
    that are part of the program, hashable), `donate_argnums` (arrays whose memory the results may
    take). The result has `.lower(*args).as_text(stage)`, `.trace(*args).jaxpr`, `.cache_info()` and
    `.why()`, which says why there are as many programs as there are. It composes with every
    transform, inside and outside.

    A program has the values that names had when it was traced. With `check_captures` each call
    compares what f captured (closures, globals, defaults, stored attributes, contents of lists and
    dicts) with what it was then, and raises StaleCaptureError where a name means something else;
    such calls go through Python.

    >>> jit(lambda x: x * 2.0 + 1.0)(3.0)
    7.0
    """
    return native_engine().jit(f, **options)
