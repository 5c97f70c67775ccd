"""Keys of the cache on disk: a digest of everything that decides the machine code of a program.

That is the program with its literals and types, what memory its results may take, and the base:
the sources of functrans as they are on disk, LLVM, Python, NumPy, the system and the processor.
Invariant: programs with equal keys have equal code; what cannot be told by value has no key.
"""

from __future__ import annotations

import marshal
import os
import sys
import threading
from collections.abc import Sequence
from functools import cache
from importlib.util import find_spec
from typing import Any

import numpy as np

from functrans.extend import (
    IMPORTED,
    PRIMITIVES,
    Aval,
    Eqn,
    Jaxpr,
    Literal,
    Var,
    is_provided,
    primitives,
)
from jit import disk_cache
from jit.disk_cache import DIGEST, blake2b
from jit.factorisations import is_native
from jit.openblas import find
from jit.processor import processor

VERSION = 2
"""The version of marshal's format: the last one in which equal values have equal bytes."""
SETTLED = 10.0
"""Seconds: sources that changed later than this before functrans was imported may have done so
while it was, or since, and then the code that runs is not the code that is read here."""
PLAIN = frozenset({int, bool, float, complex, str, bytes, type(None)})
CHECKED = frozenset(
    {
        primitives.indexing.gather_p,
        primitives.indexing.scatter_p,
        primitives.indexing.scatter_add_p,
        primitives.indexing.scatter_mul_p,
        primitives.indexing.scatter_min_p,
        primitives.indexing.scatter_max_p,
    }
)
"""Equations whose messages name the line of the user's code that they stand for."""


class Unkeyed(Exception):
    """The program holds something that has no value to tell it by, such as a Python function."""


def key_of(kind: str, *parts: Any) -> bytes | None:
    """The key of something made of plain values, on this machine and by these versions."""
    known = base()
    return None if known is None else digest_of((known, kind, parts))


def program_key(jaxpr: Jaxpr, donate: Sequence[int]) -> bytes | None:
    """The key of a program; None where it cannot be cached."""
    try:
        return key_of("program", content_of(jaxpr), tuple(donate))
    except Unkeyed:
        return None


# -- programs ---------------------------------------------------------------------------------


def content_of(jaxpr: Jaxpr) -> bytes:
    """A digest of the equations, their literals and types. Raises Unkeyed."""
    known: bytes | None = jaxpr.cache.get("content")
    if known is None:
        known = jaxpr.cache["content"] = digest_of(Contents(jaxpr).parts)
    return known


class Contents:
    """A jaxpr as a flat list of plain values, made in one walk over its equations.

    An equation is its name, its inputs (numbers of variables, or literals as tuples), its params,
    and the numbers of its outputs' types; types and places are spelled out at the end.
    """

    def __init__(self, jaxpr: Jaxpr) -> None:
        self.types: dict[Aval, int] = {}
        self.seen: dict[int, int] = {}
        self.parts: list[Any] = [len(jaxpr.invars), jaxpr.num_consts]
        self.numbers: dict[Var, int] = {}
        for var in jaxpr.invars:
            self.define(var)
        self.walk(jaxpr)
        self.parts += [self.atom(a) for a in jaxpr.outvars]
        self.parts.append(tuple([self.value(t) for t in self.types]))

    def walk(self, jaxpr: Jaxpr) -> None:
        parts, numbers = self.parts, self.numbers
        for eqn in jaxpr.eqns:
            primitive = eqn.primitive
            name = primitive.name
            if PRIMITIVES.get(name) is not primitive and not is_provided(primitive):
                raise Unkeyed(name)
            parts.append(name)
            for atom in eqn.inputs:
                parts.append(numbers[atom] if type(atom) is Var else self.atom(atom))
            params = eqn.params
            if name == "pure_callback":
                parts.append(self.factorisation(eqn))
            elif params:
                stands_for = primitive.stands_for
                if stands_for is None:
                    parts.append(tuple([(k, self.value(v)) for k, v in params.items()]))
                else:  # Nothing else of the params is left in the code.
                    parts.append(content_of(stands_for(**params)))
            else:
                parts.append(None)
            if primitive in CHECKED:
                parts.append(str(eqn.source) if eqn.source else None)
            for var in eqn.outputs:
                self.define(var)

    def factorisation(self, eqn: Eqn) -> Any:
        """What stands for a callback that compiled code does without: the library that it calls
        and the line that its message names, too.
        """
        if not is_native(eqn):
            raise Unkeyed("pure_callback")
        params = {**eqn.params, "callback": eqn.params["callback"].name}
        place = str(eqn.source) if eqn.source else None
        return (str(find()), place, *[(k, self.value(v)) for k, v in params.items()])

    def define(self, var: Var) -> None:
        """Number a variable, and add the number of its type."""
        self.numbers[var] = len(self.numbers)
        aval = var.aval
        number = self.seen.get(id(aval))
        if number is None:
            number = self.types.setdefault(aval, len(self.types))
            # The jaxpr keeps the aval, so that no other gets its id meanwhile.
            self.seen[id(aval)] = number
        self.parts.append(number)

    def atom(self, atom: Any) -> Any:
        """A variable's number, or a literal by type and bits."""
        if isinstance(atom, Literal):
            return (self.value(atom.aval), self.value(atom.value))
        return self.numbers[atom]

    def value(self, value: Any) -> Any:
        """A param as plain values whose bytes differ where the values do, types included."""
        kind = type(value)
        if kind in PLAIN:
            return value
        if issubclass(kind, tuple):
            return tuple([self.value(v) for v in value])
        if kind is Aval:
            return (value.shape, type_name(value.dtype), value.weak)
        if isinstance(value, np.dtype):
            return ("dtype", type_name(value))
        if isinstance(value, np.generic):
            return ("scalar", type_name(value.dtype), value.tobytes())
        if kind is Jaxpr:
            return ("jaxpr", content_of(value))
        raise Unkeyed(kind.__name__)


_type_names: dict[np.dtype[Any], str] = {}


def type_name(dtype: np.dtype[Any]) -> str:
    """A name for a dtype that no other has."""
    found = _type_names.get(dtype)
    if found is None:
        found = _type_names[dtype] = f"{dtype.name} {dtype.str} {dtype!r}"
    return found


# -- the base ---------------------------------------------------------------------------------


@cache
def base() -> bytes | None:
    """A digest of what every program's code depends on; None where it cannot be told."""
    try:
        ours, llvm = sources(), llvm_files()
    except OSError:
        return None
    if ours is None or not llvm:
        return None
    made_of = (
        ours,
        llvm,
        (sys.implementation.name, sys.version, getattr(sys, "abiflags", ""), sys.maxsize),
        np.__version__,
        (sys.platform, sys.byteorder),
        processor(),
    )
    return digest_of(made_of)


def digest_of(plain: Any) -> bytes:
    """A digest of plain values."""
    return blake2b(marshal.dumps(plain, VERSION), digest_size=DIGEST).digest()


def sources() -> bytes | None:
    """A digest of the files that this process runs; None where they are newer than it may be.

    Files are recognised by size and times, so that their text is read once and not by every
    process.
    """
    root, files = source_files()
    if not files or max(changed for _, _, _, changed in files) > (IMPORTED - SETTLED) * 1e9:
        return None
    place = digest_of(("sources", root, list(files)))
    found = disk_cache.read(place)
    if found is None:
        found = digest_in_turn(root, files)
        disk_cache.write(place, found)
    return found


def read_ahead() -> None:
    """Read the sources for the first program's key, where the disk does not know their digest."""
    if disk_cache.is_on():
        digest_in_turn(*source_files())


def digest_in_turn(root: str, files: tuple[tuple[str, int, int, int], ...]) -> bytes:
    """digest_of_texts; who comes while another thread reads waits, and reads nothing."""
    with _reading:
        return digest_of_texts(root, files)


_reading = threading.Lock()


def renew_lock() -> None:
    """A child of fork must not wait for a thread that only its parent has."""
    global _reading
    _reading = threading.Lock()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=renew_lock)


def source_files() -> tuple[str, tuple[tuple[str, int, int, int], ...]]:
    """Where the packages lie, and their files as files_below tells them."""
    root = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
    return root, tuple([f for package in ("functrans", "jit") for f in files_below(root, package)])


@cache
def digest_of_texts(root: str, files: tuple[tuple[str, int, int, int], ...]) -> bytes:
    """A digest of the names and contents of files."""
    found = blake2b(digest_size=DIGEST)
    for name, size, *_ in files:
        content = content_of_file(os.path.join(root, name), size)
        found.update(f"{name} {len(content)} ".encode() + content)
    return found.digest()


def content_of_file(path: str, size: int) -> bytes:
    """The bytes of a file of so many: Python's file objects take twice the time for a short one."""
    descriptor = os.open(path, os.O_RDONLY | getattr(os, "O_BINARY", 0))
    try:
        return os.read(descriptor, size)
    finally:
        os.close(descriptor)


def files_below(root: str, folder: str) -> list[tuple[str, int, int, int]]:
    """(path, size, time of the content, time of the inode) of the Python files of a package."""
    found: list[tuple[str, int, int, int]] = []
    with os.scandir(os.path.join(root, folder)) as entries:
        for entry in sorted(entries, key=lambda e: e.name):
            name = f"{folder}/{entry.name}"
            if entry.name.endswith(".py"):
                info = entry.stat()
                found.append((name, info.st_size, info.st_mtime_ns, info.st_ctime_ns))
            elif entry.name != "__pycache__" and entry.is_dir():
                found += files_below(root, name)
    return found


def llvm_files() -> list[tuple[str, int, int, int]]:
    """The libraries of llvmlite, by size and times: LLVM is one of them."""
    spec = find_spec("llvmlite")
    if spec is None or spec.origin is None:
        return []
    folder = os.path.join(os.path.dirname(spec.origin), "binding")
    with os.scandir(folder) as entries:
        libraries = sorted((e.path, e.stat()) for e in entries if "llvmlite" in e.name)
    return [(path, s.st_size, s.st_mtime_ns, s.st_ctime_ns) for path, s in libraries]
