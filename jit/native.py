"""The native side of LLVM: targets, object code, and programs loaded from it.

llvmlite is imported when something is compiled, not before: object code becomes an image, and an
image is loaded without LLVM. What our own linker does not take goes to LLVM's, one for the process.
"""

from __future__ import annotations

import ctypes
import itertools
import os
import sys
import threading
import weakref
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from functools import cache
from typing import TYPE_CHECKING, Any, TypeAlias

from jit.image import POSIX, Image, Mapped
from jit.names import ENTRY, PARALLEL

if TYPE_CHECKING:
    from jit.loop_ir.nodes import Program
    from jit.target import Target

_lock = threading.RLock()
_serial = itertools.count()


def renew_lock() -> None:
    """A child of fork must not wait for a thread that only its parent has."""
    global _lock
    _lock = threading.RLock()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=renew_lock)


class Object:
    """An object file that only LLVM's linker takes."""

    __slots__ = ("code",)

    def __init__(self, code: bytes) -> None:
        self.code = code


Loadable: TypeAlias = Image | Object
"""Machine code without an address of this process; what a cache keeps."""
Find: TypeAlias = Callable[[str], int]


class NativeProgram:
    """A loaded program: the address of its entry, the messages of its statuses, and where it was
    compiled just now its text for the curious.

    The code is freed when the object goes; who calls `entry` keeps the object alive.
    """

    def __init__(
        self,
        code: Loadable,
        find: Find,
        externals: Iterable[str],
        errors: tuple[str, ...],
        text: str = "",
        target: Target | None = None,
    ) -> None:
        self.code = code
        self.externals = frozenset(externals)
        self.errors = errors
        self.llvm_text = text
        self.target = target
        self._loaded = load(code, find, externals, (ENTRY,))
        self.entry: int = self._loaded.addresses[ENTRY]
        self._function: Any = _entry_type()(self.entry)

    def __call__(self, inputs: int, outputs: int, arena: int) -> int:
        """Run on two arrays of pointers and the arena, by address; answers the status."""
        return int(self._function(inputs, outputs, arena))

    def asm_text(self) -> str:
        """Assembly of the whole program."""
        return emit_assembly(self.llvm_text, self.target or host_target())


@cache
def _entry_type() -> Any:
    return ctypes.CFUNCTYPE(ctypes.c_int32, ctypes.c_void_p, ctypes.c_void_p, ctypes.c_void_p)


# -- loading ----------------------------------------------------------------------------------


def load(
    code: Loadable, find: Find, imports: Iterable[str], exports: Iterable[str]
) -> Mapped | Linked:
    """Put code in memory, its symbols found by `find`. Raises KeyError where one is not found.

    imports, exports: what the code calls and gives, which only an image knows by itself.
    """
    return Mapped(code, find) if isinstance(code, Image) else Linked(code, find, imports, exports)


class Linked:
    """An object file linked by LLVM, freed with this object."""

    def __init__(
        self, code: Object, find: Find, imports: Iterable[str], exports: Iterable[str]
    ) -> None:
        binding, names = load_llvm(), tuple(exports)
        found = [(name, find(name)) for name in sorted(imports)]
        with _lock:
            library = binding.JITLibraryBuilder().add_object_img(code.code).add_current_process()
            for name, address in found:
                library.import_symbol(name, address)
            for name in names:
                library.export_symbol(name)
            tracker = library.link(linker(), f"functrans.{next(_serial)}")
        self.addresses = {name: int(tracker[name]) for name in names}
        # At exit the process frees everything at once, and LLVM may already be gone.
        weakref.finalize(self, release, tracker).atexit = False

    def keep(self) -> None:
        """Stay for the life of the process."""
        ctypes.pythonapi.Py_IncRef(ctypes.py_object(self))


def release(tracker: Any) -> None:
    """Free the code of a program."""
    with _lock:
        tracker.close()


@cache
def linker() -> Any:
    """The one linker of the process. It owns its own target machine."""
    return load_llvm().create_lljit_compiler()


def loadable(code: bytes) -> Loadable:
    """An object file as an image, where the system and our linker can."""
    if POSIX and sys.platform == "linux":
        from jit.elf import Unlinkable, link_image

        with suppress(Unlinkable):
            return link_image(code)
    return Object(code)


def finder(symbols: Mapping[str, int]) -> Find:
    """Looks among these addresses first, then in the C and mathematics libraries."""
    return lambda name: symbols[name] if name in symbols else process_symbol(name)


LIBRARIES: dict[str, tuple[str | None, ...]] = {
    "linux": (None, "libm.so.6", "libm.so"),
    "win32": ("ucrtbase", "msvcrt", "kernel32", "api-ms-win-core-synch-l1-2-0", "ntdll"),
}
"""Where C functions are found, by system; elsewhere the process itself has them all."""


@cache
def process_symbol(name: str) -> int:
    """The address of a function of the C or mathematics library, or of the system."""
    for library in LIBRARIES.get(sys.platform, (None,)):
        try:
            found: Any = _library(library)[name]
        except (OSError, AttributeError):
            continue
        return int(ctypes.cast(found, ctypes.c_void_p).value or 0)
    raise KeyError(f"the compiled program needs the symbol {name!r}, which no library here has")


@cache
def _library(name: str | None) -> Any:
    return ctypes.CDLL(name)


# -- compiling --------------------------------------------------------------------------------


@cache
def load_llvm() -> Any:
    """llvmlite.binding with this machine's code generator switched on."""
    import llvmlite.binding as binding

    binding.initialize_native_target()
    binding.initialize_native_asmprinter()
    binding.initialize_native_asmparser()
    return binding


@cache
def host_target() -> Target:
    """The processor of this machine, with its widest vectors."""
    from jit.target import Target

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
AVX512 = f"{AVX2},+avx512f,+avx512bw,+avx512cd,+avx512dq,+avx512vl,-prefer-256-bit"
PORTABLE: dict[str, tuple[str, str, str, int]] = {
    "avx512": ("", "skylake-avx512", AVX512, 64),
    "avx2": ("", "x86-64-v3", AVX2, 32),
    "sse2": ("", "x86-64", "+sse,+sse2", 16),
    "aarch64-linux": ("aarch64-unknown-linux-gnu", "generic", "+neon", 16),
    "aarch64-macos": ("arm64-apple-macosx11.0.0", "apple-m1", "+neon", 16),
    "x86_64-macos": ("x86_64-apple-macosx11.0.0", "x86-64-v3", AVX2, 32),
    "x86_64-windows": ("x86_64-pc-windows-msvc", "x86-64-v3", AVX2, 32),
}
"""Triple (of this machine where it is empty), processor, features, bytes of a vector."""


def portable_target(name: str) -> Target:
    """A processor of PORTABLE, for tests and for code that travels."""
    from jit.target import Target

    if name not in PORTABLE:
        raise ValueError(f"unknown target {name!r}; expected one of {', '.join(PORTABLE)}")
    triple, cpu, features, width = PORTABLE[name]
    if triple:
        load_all_targets()
    return Target(triple or host_target().triple, cpu, features, width)


@cache
def load_all_targets() -> None:
    """Switch on LLVM's code generators for other machines."""
    binding = load_llvm()
    binding.initialize_all_targets()
    binding.initialize_all_asmprinters()


@cache
def target_machine(target: Target) -> Any:
    """LLVM's code generator for a target; made once, used under the lock."""
    return code_generator(target)


def code_generator(target: Target, level: int = 2) -> Any:
    """A code generator for one thread, by LLVM's level: 0 is quick and writes slow code."""
    found = load_llvm().Target.from_triple(target.triple)
    return found.create_target_machine(
        cpu=target.cpu, features=target.features, opt=level, reloc="pic", codemodel="default"
    )


def emit_object(text: str, target: Target) -> bytes:
    """Machine code of LLVM text, with no optimisation but the code generator's own."""
    with _lock:
        return machine_code(text, target_machine(target))


def emit_assembly(text: str, target: Target) -> str:
    """The same as assembly, to be read."""
    binding = load_llvm()
    with _lock, binding.parse_assembly(text, binding.create_context()) as module:
        return str(target_machine(target).emit_assembly(module))


def machine_code(text: str, generator: Any) -> bytes:
    """Machine code by a code generator that no other thread uses meanwhile.

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


def compile_program(
    program: Program, target: Target | None = None, symbols: Mapping[str, int] | None = None
) -> NativeProgram:
    """Compile and load a checked program for `target` (this machine).

    symbols: addresses of what the program calls. With ft_parallel_for among them parallel loops
    use threads, else they run on the caller, with the same results.
    """
    from jit.emit import emit_program

    target = host_target() if target is None else target
    symbols = {} if symbols is None else symbols
    emitted = emit_program(program, target, PARALLEL in symbols)
    code = loadable(emit_object(emitted.text, target))
    errors = tuple(program.errors)
    return NativeProgram(code, finder(symbols), emitted.externals, errors, emitted.text, target)
