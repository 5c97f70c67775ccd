"""The native side of LLVM: targets, object code, one process-wide linker, loaded programs.

llvmlite is imported at the first use. Object code is a pure function of text and target, holds no
address of this process, and may be kept on disk; addresses enter when it is loaded.
"""

from __future__ import annotations

import ctypes
import itertools
import os
import threading
import weakref
from collections.abc import Iterable, Mapping
from functools import cache
from typing import TYPE_CHECKING, Any, NamedTuple

from jit.emit import ENTRY, emit_program
from jit.loop_ir.nodes import Program
from jit.loops import PARALLEL
from jit.vectors import Target

if TYPE_CHECKING:
    import llvmlite.binding as llvm

_lock = threading.RLock()
_serial = itertools.count()


def renew_lock() -> None:
    """A child of fork must not wait for a thread that only its parent has."""
    global _lock
    _lock = threading.RLock()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=renew_lock)


class ObjectCode(NamedTuple):
    """Machine code of one module and the C symbols that it needs; what a cache keeps."""

    code: bytes
    externals: frozenset[str]
    errors: tuple[str, ...] = ()


class NativeProgram:
    """A loaded program: the address of its entry, and its text for the curious.

    The code is freed when the object goes; who calls `entry` keeps the object alive.
    """

    def __init__(
        self, tracker: llvm.ResourceTracker, obj: ObjectCode, text: str, target: Target
    ) -> None:
        self.object = obj
        self.target = target
        self.llvm_text = text
        self.errors = obj.errors
        self.entry: int = tracker[ENTRY]
        # At exit the process frees everything at once, and LLVM may already be gone.
        weakref.finalize(self, release, tracker).atexit = False
        self._function: Any = ctypes.CFUNCTYPE(
            ctypes.c_int32, ctypes.c_void_p, ctypes.c_void_p, ctypes.c_void_p
        )(self.entry)

    def __call__(self, inputs: int, outputs: int, arena: int) -> int:
        """Run on two arrays of pointers and the arena, by address; answers the status."""
        return int(self._function(inputs, outputs, arena))

    def asm_text(self) -> str:
        """Assembly of the whole program."""
        binding = load_llvm()
        with _lock, binding.parse_assembly(self.llvm_text, binding.create_context()) as module:
            return str(target_machine(self.target).emit_assembly(module))


def release(tracker: llvm.ResourceTracker) -> None:
    """Free the code of a program."""
    with _lock:
        tracker.close()


@cache
def load_llvm() -> Any:
    """llvmlite.binding with this machine's code generator switched on."""
    import llvmlite.binding as binding

    binding.initialize_native_target()
    binding.initialize_native_asmprinter()
    return binding


@cache
def host_target() -> Target:
    """The processor of this machine, with its widest vectors."""
    binding = load_llvm()
    present: Mapping[str, bool] = binding.get_host_cpu_features()
    features = ",".join(sorted(("+" if on else "-") + name for name, on in present.items()))
    triple = str(binding.get_process_triple())
    return Target(triple, str(binding.get_host_cpu_name()), features, widest_vector(present))


def widest_vector(present: Mapping[str, bool]) -> int:
    """Bytes of the widest vectors that are fast to use."""
    if present.get("avx512f") and present.get("avx512bw") and present.get("avx512vl"):
        return 64
    return 32 if present.get("avx2") else 16


AVX2 = "+sse,+sse2,+sse3,+ssse3,+sse4.1,+sse4.2,+popcnt,+avx,+avx2,+fma,+f16c,+bmi,+bmi2,+lzcnt"


def portable_target(name: str) -> Target:
    """An x86-64 processor with "avx2" or only "sse2", for tests and for code that travels."""
    triple = host_target().triple
    if name == "avx2":
        return Target(triple, "x86-64-v3", AVX2, 32)
    if name == "sse2":
        return Target(triple, "x86-64", "+sse,+sse2", 16)
    raise ValueError(f"unknown target {name!r}; expected 'avx2' or 'sse2'")


@cache
def target_machine(target: Target) -> Any:
    """LLVM's code generator for a target; made once, used under the lock."""
    binding = load_llvm()
    return binding.Target.from_triple(target.triple).create_target_machine(
        cpu=target.cpu, features=target.features, opt=2, reloc="pic", codemodel="default"
    )


@cache
def linker() -> Any:
    """The one linker of the process. It owns its own target machine."""
    return load_llvm().create_lljit_compiler()


def emit_object(text: str, target: Target) -> bytes:
    """Machine code of LLVM text, with no optimisation but the code generator's own."""
    with _lock:
        return machine_code(text, target_machine(target))


def machine_code(text: str, generator: Any) -> bytes:
    """The same by a code generator that no other thread uses meanwhile.

    llvmlite lets one thread at a time into LLVM. LLVM itself asks only that threads share neither
    context nor code generator, so its function is called past that lock where it can be.
    """
    binding = load_llvm()
    lib = binding.ffi.lib
    emit: Any = getattr(lib.LLVMPY_TargetMachineEmitToMemory, "_cfn", None)
    with binding.parse_assembly(text, binding.create_context()) as module:
        if emit is None:
            return bytes(generator.emit_object(module))
        with binding.ffi.OutputString() as error:
            buffer = emit(generator, module, 1, error)
            if not buffer:
                raise RuntimeError(str(error))
        try:
            size = lib.LLVMPY_GetBufferSize(buffer)
            return ctypes.string_at(lib.LLVMPY_GetBufferStart(buffer), size)
        finally:
            lib.LLVMPY_DisposeMemoryBuffer(buffer)


def compile_object(program: Program, target: Target, parallel: bool) -> tuple[ObjectCode, str]:
    """Object code of a program and its LLVM text."""
    emitted = emit_program(program, target, parallel)
    code = emit_object(emitted.text, target)
    return ObjectCode(code, emitted.externals, tuple(program.errors)), emitted.text


def load_program(
    obj: ObjectCode, target: Target, symbols: Mapping[str, int], text: str = ""
) -> NativeProgram:
    """Link object code with the addresses of its symbols; libm's and libc's are found here.

    Raises KeyError for a symbol that is neither in `symbols` nor in the process.
    """
    binding = load_llvm()
    with _lock:
        library = binding.JITLibraryBuilder().add_object_img(obj.code).add_current_process()
        for name, address in addresses(obj.externals, symbols):
            library.import_symbol(name, address)
        library.export_symbol(ENTRY)
        tracker = library.link(linker(), f"functrans.{next(_serial)}")
    return NativeProgram(tracker, obj, text, target)


def addresses(names: Iterable[str], symbols: Mapping[str, int]) -> list[tuple[str, int]]:
    """The address of each symbol."""
    return [(n, symbols[n] if n in symbols else process_symbol(n)) for n in sorted(names)]


@cache
def process_symbol(name: str) -> int:
    """The address of a function of the C or mathematics library."""
    for library in (None, "libm.so.6"):
        try:
            found: Any = ctypes.CDLL(library)[name]
        except (OSError, AttributeError):
            continue
        return int(ctypes.cast(found, ctypes.c_void_p).value or 0)
    raise KeyError(f"the compiled program needs the symbol {name!r}, which no library here has")


def compile_program(
    program: Program, target: Target | None = None, symbols: Mapping[str, int] | None = None
) -> NativeProgram:
    """Compile and load a checked program for `target` (this machine).

    symbols: addresses of what the program calls. With ft_parallel_for among them parallel loops
    use threads, else they run on the caller, with the same results.
    """
    target = host_target() if target is None else target
    symbols = {} if symbols is None else symbols
    obj, text = compile_object(program, target, PARALLEL in symbols)
    return load_program(obj, target, symbols, text)
