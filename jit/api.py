"""jit for users: functions staged once for each signature, compiled, and called on NumPy arrays."""

from __future__ import annotations

import functools
import importlib
import inspect
import threading
import types
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from functrans.extend import (
    Aval,
    ClosedJaxpr,
    Jaxpr,
    ShapeDtypeStruct,
    Tracer,
    TransformTypeError,
    ambient_axes,
    argument_name,
    array_leaf,
    aval_of,
    call,
    describe,
    engine_name,
    eval_jaxpr,
    finish,
    is_evaluating,
    name_of,
    shaped,
    stage,
    tree,
    where,
)

Function = Callable[..., Any]
Key = tuple[Any, ...]


class NativeEngine:
    """Compiles jaxprs to machine code; each program is kept with the jaxpr it was made from."""

    def __init__(self) -> None:
        self._lock = threading.Lock()

    def compiled(self, jaxpr: Jaxpr, donated: tuple[int, ...] = ()) -> Any:
        """The executable of a jaxpr, compiled when it is first asked for."""
        key = ("executable", donated)
        found = jaxpr.cache.get(key)
        if found is None:
            with self._lock:
                found = jaxpr.cache.get(key)
                if found is None:
                    found = jaxpr.cache[key] = _pipeline().compile_jaxpr(jaxpr, donated=donated)
        return found

    def execute(self, jaxpr: Jaxpr, args: list[Any]) -> list[Any]:
        """The outputs of the jaxpr on arrays, freshly allocated."""
        return self.compiled(jaxpr)(args)

    def __repr__(self) -> str:
        return "native"


def _pipeline() -> Any:
    """The compiler, imported with llvmlite when something is first compiled."""
    return importlib.import_module("jit.pipeline")


NATIVE = NativeEngine()


def current_engine() -> NativeEngine | None:
    """The engine that runs programs, or None where the NumPy evaluator was asked for."""
    return NATIVE if engine_name() == "native" else None


@dataclass(frozen=True, eq=False)
class Program:
    """A function staged for one signature.

    captured  the values of the jaxpr's captured inputs, which come first
    donated   positions among the jaxpr's inputs whose memory results may take
    """

    jaxpr: Jaxpr
    captured: list[Any]
    out_tree: tree.PyTreeDef
    donated: tuple[int, ...]

    @property
    def reusable(self) -> bool:
        """May later calls use it? Not when it captured a value of an enclosing trace."""
        return not any(type(x) is Tracer for x in self.captured)


@dataclass(frozen=True, eq=False)
class Signature:
    """One call's arguments: the traced leaves, and all that decides which program serves them."""

    leaves: list[Any]
    avals: list[Aval]
    treedef: tree.PyTreeDef
    static: dict[int | str, Any]
    num_args: int
    key: Key


def jit(
    f: Function | None = None,
    *,
    static_argnums: int | Sequence[int] = (),
    static_argnames: str | Sequence[str] = (),
    donate_argnums: int | Sequence[int] = (),
    donate_argnames: str | Sequence[str] = (),
) -> Any:
    """f compiled to native code; see `functrans.jit`."""
    options: dict[str, Any] = {
        "static_argnums": static_argnums,
        "static_argnames": static_argnames,
        "donate_argnums": donate_argnums,
        "donate_argnames": donate_argnames,
    }
    if f is None:
        return functools.partial(jit, **options)
    if not callable(f):
        raise TransformTypeError(
            f"jit takes a function, but got {describe(f)}. Write jit(f)(x), not jit(f(x))."
        )
    return Jitted(f, **options)


class Jitted:
    """A compiled function. Called inside a transform it is one `call` equation."""

    def __init__(
        self,
        f: Function,
        static_argnums: int | Sequence[int],
        static_argnames: str | Sequence[str],
        donate_argnums: int | Sequence[int],
        donate_argnames: str | Sequence[str],
    ) -> None:
        functools.update_wrapper(self, f, updated=())
        self._f = f
        self._static = chosen_parameters(f, static_argnums, static_argnames, "static")
        self._donated = chosen_parameters(f, donate_argnums, donate_argnames, "donate")
        self._programs: dict[Key, Program] = {}
        self._lock = threading.RLock()

    def __get__(self, instance: Any, owner: Any = None) -> Any:
        return self if instance is None else types.MethodType(self, instance)

    def __repr__(self) -> str:
        return f"<jit of {name_of(self._f)}>"

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        signature = self._signature(args, kwargs)
        program = self._program(signature)
        engine = current_engine()
        inputs = [*program.captured, *signature.leaves]
        if not is_evaluating():
            outs = call(program.jaxpr, *inputs, name=name_of(self._f), engine=engine)
        elif engine is None:
            outs = finish(eval_jaxpr(program.jaxpr, inputs), program.jaxpr.out_avals, inputs)
        else:
            arrays = [np.asarray(x) for x in inputs]
            outs = engine.compiled(program.jaxpr, program.donated)(arrays)
        return tree.unflatten(program.out_tree, finished(outs, program.jaxpr.out_avals))

    def trace(self, *args: Any, **kwargs: Any) -> Traced:
        """The staged program for these arguments (or ShapeDtypeStructs): `.jaxpr`, `.lower()`."""
        program = self._program(self._signature(args, kwargs, examples=True))
        return Traced(name_of(self._f), program)

    def lower(self, *args: Any, **kwargs: Any) -> Lowered:
        """The program for these arguments (or ShapeDtypeStructs), to be printed or compiled."""
        return self.trace(*args, **kwargs).lower()

    def clear_cache(self) -> None:
        """Forget every staged program."""
        with self._lock:
            self._programs.clear()

    # -- signatures ---------------------------------------------------------------------------

    def _signature(
        self, args: tuple[Any, ...], kwargs: dict[str, Any], examples: bool = False
    ) -> Signature:
        static: dict[int | str, Any] = {}
        dynamic = list(args)
        keywords = kwargs
        if self._static:
            keywords = dict(kwargs)
            dynamic = [self._take(i, a, static) for i, a in enumerate(args)]
            static.update({k: keywords.pop(k) for k in list(keywords) if k in self._static})
        flat, treedef = tree.flatten((dynamic, keywords))
        if examples:
            avals = [shaped(x, self._leaf_name(treedef, i)) for i, x in enumerate(flat)]
            leaves = flat
        else:
            leaves = [
                x if _plain(x) else array_leaf(x, f"jit: {self._leaf_name(treedef, i)}")
                for i, x in enumerate(flat)
            ]
            avals = [aval_of(x) for x in leaves]
        statics = tuple((k, type(v), v) for k, v in static.items())
        key = (treedef, tuple(avals), statics, ambient_axes(), len(args))
        return Signature(leaves, avals, treedef, static, len(args), key)

    def _take(self, position: int, value: Any, static: dict[int | str, Any]) -> Any:
        """None in the place of a static argument, which is set aside."""
        if position not in self._static:
            return value
        static[position] = value
        return None

    def _leaf_name(self, treedef: tree.PyTreeDef, index: int) -> str:
        paths = tree.flatten_with_path(tree.unflatten(treedef, range(treedef.num_leaves)))[0]
        path = paths[index][0]
        section, place = path[0].idx, path[1]  # type: ignore[union-attr]
        if section == 0:
            base = argument_name(self._f, place.idx)  # type: ignore[union-attr]
        else:
            base = f"argument {place.key!r}"  # type: ignore[union-attr]
        return f"{base}{tree.keystr(path[2:])} of {name_of(self._f)}"

    # -- programs -----------------------------------------------------------------------------

    def _program(self, signature: Signature) -> Program:
        try:
            found = self._programs.get(signature.key)
        except TypeError:
            raise self._unhashable(signature) from None
        if found is not None:
            return found
        with self._lock:
            found = self._programs.get(signature.key)
            if found is None:
                found = self._stage(signature)
                if found.reusable:
                    self._programs[signature.key] = found
        return found

    def _stage(self, signature: Signature) -> Program:
        def flat_f(*xs: Any) -> Any:
            dynamic, keywords = tree.unflatten(signature.treedef, xs)
            args = [signature.static.get(i, a) for i, a in enumerate(dynamic)]
            named = {k: v for k, v in signature.static.items() if isinstance(k, str)}
            return self._f(*args, **keywords, **named)

        functools.update_wrapper(flat_f, self._f, updated=())
        names = [self._leaf_name(signature.treedef, i) for i in range(len(signature.leaves))]
        with stage(
            flat_f,
            signature.leaves,
            purpose="jit",
            avals=signature.avals,
            known=False,
            copies=False,
            names=names,
        ) as staged:
            start = len(staged.captured)
            donated = tuple(start + i for i in self._donated_leaves(signature))
            return Program(staged.jaxpr, staged.captured, staged.out_tree, donated)

    def _donated_leaves(self, signature: Signature) -> list[int]:
        if not self._donated:
            return []
        places = tree.unflatten(signature.treedef, range(len(signature.leaves)))
        dynamic, keywords = places
        chosen = [a for i, a in enumerate(dynamic) if i in self._donated]
        chosen += [v for k, v in keywords.items() if k in self._donated]
        return tree.leaves(chosen)

    def _unhashable(self, signature: Signature) -> TransformTypeError:
        for place, value in signature.static.items():
            try:
                hash(value)
            except TypeError:
                what = argument_name(self._f, place) if isinstance(place, int) else repr(place)
                return TransformTypeError(
                    f"jit: the static {what} of {name_of(self._f)} is {describe(value)}, which "
                    f"cannot be hashed ({where(self._f)}). Static arguments are part of the "
                    "program: pass a tuple instead of a list, or do not declare it static."
                )
        return TransformTypeError(f"jit: an argument of {name_of(self._f)} cannot be hashed")


def _plain(value: Any) -> bool:
    """Is this leaf usable as it is? The common cases, decided quickly."""
    return type(value) is np.ndarray and value.dtype.isnative and value.dtype.kind in "fiub"


def finished(outs: Sequence[Any], avals: Sequence[Aval]) -> list[Any]:
    """Results as users get them: Python scalars where weak, NumPy scalars where 0-d."""
    return [_finished(o, a) for o, a in zip(outs, avals, strict=True)]


def _finished(value: Any, aval: Aval) -> Any:
    if aval.shape or type(value) is Tracer:
        return value
    array = np.asarray(value)
    return array.item() if aval.weak else array[()]


def chosen_parameters(
    f: Function, numbers: int | Sequence[int], names: str | Sequence[str], what: str
) -> frozenset[int | str]:
    """The parameters chosen by number or name, by both, so that either way of passing is met."""
    by_number = {numbers} if isinstance(numbers, int) else set(numbers)
    by_name = {names} if isinstance(names, str) else set(names)
    if not by_number and not by_name:
        return frozenset()
    try:
        parameters = list(inspect.signature(f).parameters.values())
    except (TypeError, ValueError):
        return frozenset(by_number | by_name)
    positional = [
        p.name for p in parameters if p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD)
    ]
    has_args = any(p.kind is p.VAR_POSITIONAL for p in parameters)
    known = {p.name for p in parameters}
    if unknown := by_name - known:
        if not any(p.kind is p.VAR_KEYWORD for p in parameters):
            raise TransformTypeError(
                f"jit: {what}_argnames names {sorted(unknown)}, which {name_of(f)} does not have "
                f"({where(f)}); its parameters are {sorted(known)}."
            )
    chosen: set[int | str] = set(by_name)
    for number in by_number:
        if not has_args and not -len(positional) <= number < len(positional):
            raise TransformTypeError(
                f"jit: {what}_argnums={number}, but {name_of(f)} takes {len(positional)} "
                f"positional arguments ({where(f)})."
            )
        place = number if has_args else number % len(positional)
        chosen.add(place)
        if place < len(positional):
            chosen.add(positional[place])
    chosen.update(positional.index(n) for n in by_name if n in positional)
    return frozenset(chosen)


class Traced:
    """A function staged for given arguments."""

    def __init__(self, name: str, program: Program) -> None:
        self._name = name
        self._program = program

    @property
    def jaxpr(self) -> ClosedJaxpr:
        """The program, with the values of its captured inputs."""
        return ClosedJaxpr(self._program.jaxpr, self._program.captured)

    @property
    def out_info(self) -> Any:
        """The shapes and dtypes of the results."""
        avals = self._program.jaxpr.out_avals
        structs = [ShapeDtypeStruct(a.shape, a.dtype, a.weak) for a in avals]
        return tree.unflatten(self._program.out_tree, structs)

    def lower(self) -> Lowered:
        """The program on its way to machine code."""
        return Lowered(self._name, self._program)


class Lowered:
    """A program on its way to machine code."""

    def __init__(self, name: str, program: Program) -> None:
        self._name = name
        self._program = program

    def as_text(self, stage: str = "jaxpr") -> str:
        """The program after a stage: "jaxpr", "loops", "llvm" or "asm"."""
        return self._executable().as_text(stage)

    def compile(self) -> Compiled:
        """The program as machine code."""
        return Compiled(self._name, self._program, self._executable())

    def _executable(self) -> Any:
        return NATIVE.compiled(self._program.jaxpr, self._program.donated)


class Compiled:
    """Machine code for one signature. Called with arguments of exactly that signature."""

    def __init__(self, name: str, program: Program, executable: Any) -> None:
        self._name = name
        self._program = program
        self._executable = executable

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        flat = tree.leaves((args, kwargs))
        avals = self._program.jaxpr.in_avals[len(self._program.captured) :]
        given = [aval_of(x) for x in flat]
        if given != avals:
            expected, got = ", ".join(map(str, avals)), ", ".join(map(str, given))
            raise TransformTypeError(
                f"the compiled {self._name} takes ({expected}), but was called with ({got}). "
                "Call the jit-ed function instead, which compiles for each signature."
            )
        outs = self._executable([np.asarray(x) for x in [*self._program.captured, *flat]])
        return tree.unflatten(self._program.out_tree, finished(outs, self._program.jaxpr.out_avals))

    def as_text(self, stage: str = "asm") -> str:
        """The program after a stage: "jaxpr", "loops", "llvm" or "asm"."""
        return self._executable.as_text(stage)

    def compile_report(self) -> Any:
        """What was compiled: the time of each stage, the fusion groups, and why."""
        return self._executable.compile_report()
