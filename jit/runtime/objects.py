"""Compiles the runtime's LLVM modules and links them, each once per process.

Invariant: `build_object` is a pure function of the text and the machine, so its bytes may be cached
under `object_key`; addresses enter only in `link_object`.
"""

import ctypes
import hashlib
import os
from collections.abc import Iterable, Mapping
from functools import cache
from typing import Any

import llvmlite.binding as llvm


@cache
def host_features() -> frozenset[str]:
    """The feature names LLVM reports for this processor."""
    return frozenset(name for name, present in llvm.get_host_cpu_features().items() if present)


def object_key(text: str) -> str:
    """The cache key of a module's object code: the text, LLVM, and the machine it is made for."""
    machine = (llvm.get_process_triple(), llvm.get_host_cpu_name(), sorted(host_features()))
    return hashlib.sha256(repr((text, llvm.llvm_version_info, machine)).encode()).hexdigest()


def build_object(text: str) -> bytes:
    """Compile one module for this machine, without any optimisation pass."""
    with llvm.parse_assembly(text, _context()) as module:
        module.verify()
        return _target_machine().emit_object(module)


def link_object(
    name: str, code: bytes, imports: Mapping[str, int], exports: Iterable[str]
) -> dict[str, int]:
    """Load object code for the life of the process and give the addresses of its `exports`."""
    library = llvm.JITLibraryBuilder().add_object_img(code)
    for symbol, address in imports.items():
        library.import_symbol(symbol, address)
    names = tuple(exports)
    for symbol in names:
        library.export_symbol(symbol)
    tracker = library.link(_jit(), name)
    _loaded.append(tracker)
    return {symbol: tracker[symbol] for symbol in names}


def library_symbols(names: Iterable[str]) -> dict[str, int]:
    """Addresses of C library functions that this process has loaded."""
    process: Any = ctypes.CDLL(None if os.name == "posix" else "msvcrt")
    return {name: ctypes.cast(process[name], ctypes.c_void_p).value or 0 for name in names}


_loaded: list[llvm.ResourceTracker] = []


def _context() -> llvm.ContextRef:
    return llvm.create_context()


@cache
def _target_machine() -> llvm.TargetMachine:
    llvm.initialize_native_target()
    llvm.initialize_native_asmprinter()
    features = llvm.get_host_cpu_features().flatten()
    target = llvm.Target.from_triple(llvm.get_process_triple())
    return target.create_target_machine(
        cpu=llvm.get_host_cpu_name(), features=features, opt=2, reloc="pic", codemodel="default"
    )


@cache
def _jit() -> llvm.LLJIT:
    return llvm.create_lljit_compiler(_target_machine())
