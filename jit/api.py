"""jit: functions compiled to native code, one program for each signature of their arguments."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from types import MethodType
from typing import Any, NamedTuple

import numpy as np

from functrans.extend import (
    Aval,
    ClosedJaxpr,
    Jaxpr,
    ShapeDtypeStruct,
    Staged,
    Tracer,
    TransformTypeError,
    Var,
    ambient_axes,
    argument_name,
    array_leaf,
    aval_of,
    call,
    describe,
    engine_name,
    eval_jaxpr,
    in_range,
    is_evaluating,
    name_of,
    primitives,
    shaped,
    stage,
    tree,
    where,
)
from jit.pipeline import ENGINE, Executable, Report, compile_jaxpr, executable_for

Function = Callable[..., Any]


# -- one traced signature ---------------------------------------------------------------------


class Specialised:
    """A function traced for one signature: its jaxpr with captured values, its result's tree.

    `donate` lists the inputs of the jaxpr whose memory results may take.
    """

    def __init__(
        self, jaxpr: Jaxpr, captured: list[Any], out_tree: Any, donate: tuple[int, ...]
    ) -> None:
        self.jaxpr = jaxpr
        self.captured = captured
        self.out_tree = out_tree
        self.donate = donate
        self._ranges = checked_ranges(jaxpr, len(captured))
        self._weak = [aval.weak for aval in jaxpr.out_avals]
        self._is_array = out_tree == tree.structure(0) and jaxpr.out_avals[0].shape != ()
        self._compiled: Callable[[Sequence[Any]], Sequence[Any]] | None = None

    def run(self, leaves: Sequence[Any]) -> Any:
        """Compile on the first call, and run."""
        for i, dtype in self._ranges:
            in_range(leaves[i], dtype)
        compiled = self._compiled
        if compiled is None:
            compiled = self._compiled = self._compile()
        outs = compiled([*self.captured, *leaves] if self.captured else leaves)
        return outs[0] if self._is_array else self._pack(outs)

    def _compile(self) -> Callable[[Sequence[Any]], Sequence[Any]]:
        """What computes the outputs: native code, or the evaluator where that is asked for."""
        if engine_name() == "numpy":
            return lambda args: [np.array(x) for x in eval_jaxpr(self.jaxpr, args)]
        return executable_for(self.jaxpr, self.donate).dispatch

    def _pack(self, outs: Sequence[Any]) -> Any:
        """Arrays as the user gets them: scalars of NumPy or Python where they have no axes."""
        values = [
            x if x.shape else x.item() if weak else x[()]
            for x, weak in zip(outs, self._weak, strict=True)
        ]
        return tree.unflatten(self.out_tree, values)

    def bind(self, leaves: Sequence[Any], name: str) -> Any:
        """One call equation in the trace in force."""
        outs = call(self.jaxpr, *self.captured, *leaves, name=name, engine=ENGINE)
        return tree.unflatten(self.out_tree, outs)


def checked_ranges(jaxpr: Jaxpr, captured: int) -> list[tuple[int, np.dtype[Any]]]:
    """(leaf, dtype) for each Python int that the program converts to an integer dtype."""
    places = {v: i for i, v in enumerate(jaxpr.invars[captured:]) if v.aval.weak}
    found = {
        (places[eqn.inputs[0]], eqn.outputs[0].aval.dtype): None
        for eqn in jaxpr.eqns
        if eqn.primitive is primitives.structural.convert_p
        and isinstance(eqn.inputs[0], Var)
        and eqn.inputs[0] in places
        and eqn.inputs[0].aval.dtype.kind == "i"
    }
    return [(i, dtype) for i, dtype in found if dtype.kind in "iu"]


@dataclass(frozen=True, eq=False)
class Compiled:
    """A compiled signature: call it with arguments like those it was lowered for, no others."""

    traced: Traced
    executable: Executable

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        return self.traced.run(args, kwargs)

    def as_text(self, stage: str = "asm") -> str:
        return self.executable.as_text(stage)

    def compile_report(self) -> Report:
        return self.executable.compile_report()


@dataclass(frozen=True, eq=False)
class Lowered:
    """A traced signature that can be compiled and looked at."""

    traced: Traced

    def compile(self) -> Compiled:
        """The native program; compiled once."""
        special = self.traced.specialised
        return Compiled(self.traced, executable_for(special.jaxpr, special.donate))

    def as_text(self, stage: str = "jaxpr") -> str:
        """The program as "jaxpr", "loops", "llvm" or "asm"."""
        return self.compile().as_text(stage)

    def compile_report(self) -> Report:
        """Times of the stages, kernels, and why values are stored."""
        return self.compile().compile_report()


@dataclass(frozen=True, eq=False)
class Traced:
    """A traced signature; `jaxpr` with the values it captured."""

    jitted: Jitted
    specialised: Specialised
    call: Call
    avals: list[Aval]

    @property
    def jaxpr(self) -> ClosedJaxpr:
        return ClosedJaxpr(self.specialised.jaxpr, self.specialised.captured)

    def lower(self) -> Lowered:
        return Lowered(self)

    def run(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """The results for other arguments; TypeError unless they have the traced signature."""
        leaves = self.jitted.leaves_like(self.call, self.avals, args, kwargs)
        if not is_evaluating():
            return self.specialised.bind(leaves, name_of(self.jitted))
        return self.specialised.run(leaves)


# -- signatures -------------------------------------------------------------------------------


class Options(NamedTuple):
    """Which arguments are part of the program, and which may be overwritten."""

    static_argnums: tuple[int, ...]
    static_argnames: tuple[str, ...]
    donate_argnums: tuple[int, ...]


class Call(NamedTuple):
    """One call's arguments: dynamic leaves, their tree and paths, and the static rest."""

    leaves: list[Any]
    treedef: Any
    dynamic: tuple[int, ...]
    static_args: dict[int, Any]
    static_kwargs: dict[str, Any]
    arity: int


def as_tuple(value: Any) -> tuple[Any, ...]:
    """One position or name, or several, as a tuple."""
    if not isinstance(value, Iterable):
        value = (value,)
    return (value,) if isinstance(value, (int, str)) else tuple(value)


def aval_key(value: Any) -> Any:
    """What of a leaf decides the program: shape and dtype, or the type of a Python number."""
    kind = type(value)
    if kind is np.ndarray:
        return value.shape, value.dtype
    if kind is Tracer:
        return value.aval, value.scalar
    return kind


NUMBERS = frozenset({bool, int, float, complex})


def plain_key(args: tuple[Any, ...]) -> tuple[Any, ...] | None:
    """The key of a call whose arguments are arrays and numbers only, without flattening."""
    key: list[Any] = []
    for value in args:
        kind = type(value)
        if kind is np.ndarray:
            key.append(value.shape)
            key.append(value.dtype)
        elif kind in NUMBERS:
            key.append(kind)
        else:
            return None
    return tuple(key)


class Jitted:
    """What jit returns: a function that compiles itself for each signature it meets."""

    def __init__(self, f: Function, options: Options) -> None:
        self._f = f
        self._options = options
        self._names = positional_names(f, options)
        self._known: dict[Any, Specialised] = {}
        self._plain: dict[Any, Specialised] = {}
        self._has_plain = not (options.static_argnums or options.static_argnames)
        functools.update_wrapper(self, f, updated=())

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """The function's result, compiled; under another trace, one call equation of it."""
        plain = None if kwargs or not self._has_plain else plain_key(args)
        evaluating = is_evaluating()
        if plain is not None and evaluating:
            found = self._plain.get(plain)
            if found is not None:
                return found.run(args)
        made = self._split(args, kwargs)
        leaves = [self._leaf(x, k, made) for k, x in enumerate(made.leaves)]
        special = self._specialised(made, leaves)
        if not evaluating:
            return special.bind(leaves, name_of(self._f))
        if plain is not None and all(a is b for a, b in zip(args, leaves, strict=True)):
            self._plain[plain] = special
        return special.run(leaves)

    def __get__(self, instance: Any, owner: type | None = None) -> Any:
        return self if instance is None else MethodType(self, instance)

    def __repr__(self) -> str:
        return f"<jit of {name_of(self._f)}>"

    def __reduce__(self) -> str:
        """Copied and pickled as functions are: copies are the same object, pickles its name."""
        return str(vars(self)["__qualname__"])

    def lower(self, *args: Any, **kwargs: Any) -> Lowered:
        """The program for arguments like these (ShapeDtypeStructs will do), not run."""
        return self.trace(*args, **kwargs).lower()

    def trace(self, *args: Any, **kwargs: Any) -> Traced:
        """The jaxpr for arguments like these."""
        made = self._split(args, kwargs)
        avals = [shaped(x, self._leaf_name(k, made)) for k, x in enumerate(made.leaves)]
        special = self._stage(made, made.leaves, avals)
        return Traced(self, special, made._replace(leaves=[]), avals)

    def clear_cache(self) -> None:
        """Forget every program."""
        self._known.clear()
        self._plain.clear()

    # calls

    def _split(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Call:
        """Separate static arguments from those that are traced."""
        options, count = self._options, len(args)
        if not options.static_argnums and not options.static_argnames:
            leaves, treedef = tree.flatten((args, kwargs))
            return Call(leaves, treedef, tuple(range(count)), {}, {}, count)
        static = {n % count for n in options.static_argnums if -count <= n < count}
        static |= {
            n for n, name in enumerate(self._names[:count]) if name in options.static_argnames
        }
        dynamic = tuple(n for n in range(count) if n not in static)
        named = {self._names[n] for n in options.static_argnums if 0 <= n < len(self._names)}
        named.update(options.static_argnames)
        keywords = {k: v for k, v in kwargs.items() if k not in named}
        leaves, treedef = tree.flatten((tuple(args[n] for n in dynamic), keywords))
        return Call(
            leaves,
            treedef,
            dynamic,
            {n: args[n] for n in sorted(static)},
            {k: v for k, v in kwargs.items() if k in named},
            count,
        )

    def leaves_like(
        self, was: Call, avals: Sequence[Aval], args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> list[Any]:
        """The leaves of a call that has the signature of another one; else TransformTypeError."""
        made = self._split(args, kwargs)
        leaves = [self._leaf(x, k, made) for k, x in enumerate(made.leaves)]
        problem = self._mismatch(made, leaves, was, avals)
        if problem is not None:
            raise TransformTypeError(
                f"a compiled {name_of(self._f)} ({where(self._f)}) was called with {problem}. "
                "Lower the function again for such arguments, or call what jit returned, which "
                "compiles for each signature."
            )
        return leaves

    def _mismatch(
        self, made: Call, leaves: Sequence[Any], was: Call, avals: Sequence[Aval]
    ) -> str | None:
        """How a call differs from the signature that was traced, in words; None: not at all."""
        if (made.static_args, made.static_kwargs) != (was.static_args, was.static_kwargs):
            given, lowered = (
                describe((*c.static_args.values(), *c.static_kwargs.values())) for c in (made, was)
            )
            return f"the static arguments {given}, but was lowered for {lowered}"
        if made.treedef.exact_key != was.treedef.exact_key:
            return f"arguments of the tree {made.treedef}, but was lowered for {was.treedef}"
        for k, (leaf, aval) in enumerate(zip(leaves, avals, strict=True)):
            if aval_of(leaf) != aval:
                return f"{aval_of(leaf)} as {self._leaf_name(k, made)}, but was lowered for {aval}"
        return None

    def _leaf(self, value: Any, position: int, made: Call) -> Any:
        if type(value) is np.ndarray and value.dtype.isnative and value.dtype.kind in "fiubc":
            return value
        return array_leaf(value, f"jit: {self._leaf_name(position, made)}")

    def _leaf_name(self, position: int, made: Call) -> str:
        """What messages call a leaf: its argument, the path inside it, the function."""
        pairs, _ = tree.flatten_with_path(tree.unflatten(made.treedef, made.leaves))
        path = pairs[position][0]
        section, place = path[0].idx, path[1]
        if section == 0:
            base = argument_name(self._f, made.dynamic[place.idx])
        else:
            base = f"argument {place.key!r}"
        return f"{base}{tree.keystr(path[2:])} of {name_of(self._f)}"

    def _specialised(self, made: Call, leaves: Sequence[Any]) -> Specialised:
        key = self._key(made, leaves)
        found = self._known.get(key)
        if found is None:
            found = self._stage(made, leaves, [aval_of(x) for x in leaves])
            if not any(type(x) is Tracer for x in found.captured):
                self._known[key] = found
        return found

    def _key(self, made: Call, leaves: Sequence[Any]) -> Any:
        statics = (*made.static_args.items(), *made.static_kwargs.items())
        try:
            hash(statics)
        except TypeError:
            bad = next((k, v) for k, v in statics if not hashable(v))
            name = (
                argument_name(self._f, bad[0])
                if isinstance(bad[0], int)
                else f"argument {bad[0]!r}"
            )
            raise TransformTypeError(
                f"jit: {name} of {name_of(self._f)} ({where(self._f)}) is static, so it must be "
                f"hashable, but it is {describe(bad[1])}. Pass arrays as traced arguments, "
                "lists as tuples."
            ) from None
        typed = tuple((k, type(v), v) for k, v in statics)
        return (
            made.treedef.exact_key,
            tuple([aval_key(x) for x in leaves]),
            typed,
            None if is_evaluating() else ambient_axes(),
        )

    def _stage(self, made: Call, leaves: Sequence[Any], avals: Sequence[Aval]) -> Specialised:
        """Trace the function on abstract arguments."""

        @functools.wraps(self._f, updated=())
        def flat(*xs: Any) -> Any:
            args, kwargs = tree.unflatten(made.treedef, xs)
            given = dict(zip(made.dynamic, args, strict=True)) | made.static_args
            return self._f(*[given[n] for n in range(made.arity)], **kwargs, **made.static_kwargs)

        names = [self._leaf_name(k, made) for k in range(len(leaves))]
        staged: Staged = stage(
            flat,
            leaves,
            purpose="jit",
            avals=None if not any(isinstance(x, ShapeDtypeStruct) for x in leaves) else avals,
            known=False,
            live=True,
            names=names,
        )
        staged.release()  # later runs see what is written from now on
        donate = self._donated(made, len(staged.captured))
        return Specialised(staged.jaxpr, staged.captured, staged.out_tree, donate)

    def _donated(self, made: Call, captured: int) -> tuple[int, ...]:
        """The positions of donated leaves among the inputs of the jaxpr."""
        wanted = self._options.donate_argnums
        if not wanted:
            return ()
        chosen = {n % made.arity for n in wanted if -made.arity <= n < made.arity}
        pairs, _ = tree.flatten_with_path(tree.unflatten(made.treedef, made.leaves))
        return tuple(
            captured + k
            for k, (path, _) in enumerate(pairs)
            if path[0].idx == 0 and made.dynamic[path[1].idx] in chosen
        )


def positional_names(f: Function, options: Options) -> list[str]:
    """The names of positional parameters, where static ones may be given either way."""
    if not options.static_argnames and not options.static_argnums:
        return []
    code = getattr(f, "__code__", None)
    return list(code.co_varnames[: code.co_argcount]) if code is not None else []


def hashable(value: Any) -> bool:
    try:
        hash(value)
    except TypeError:
        return False
    return True


def jit(
    f: Function | None = None,
    *,
    static_argnums: int | Sequence[int] = (),
    static_argnames: str | Iterable[str] = (),
    donate_argnums: int | Sequence[int] = (),
) -> Any:
    """f compiled to native code; see functrans.jit."""
    options = Options(as_tuple(static_argnums), as_tuple(static_argnames), as_tuple(donate_argnums))
    if f is None:
        return lambda g: jit_with(g, options)
    return jit_with(f, options)


def jit_with(f: Any, options: Options) -> Jitted:
    """Wrap a function, or say what is wrong with what was given."""
    if not callable(f):
        raise TransformTypeError(
            f"jit takes a function, but got {describe(f)}. Write jit(f)(x), not jit(f(x))."
        )
    check_options(f, options)
    return Jitted(f, options)


def check_options(f: Function, options: Options) -> None:
    """Raise unless the options name arguments that f has, each in one role."""
    nums = {
        "static_argnums": options.static_argnums,
        "donate_argnums": options.donate_argnums,
    }
    for option, chosen in nums.items():
        for n in chosen:
            if isinstance(n, bool) or not isinstance(n, (int, np.integer)):
                raise TransformTypeError(
                    f"jit: {option} must be ints, but got {describe(n)}. Name arguments in "
                    "static_argnames."
                )
    for name in options.static_argnames:
        if not isinstance(name, str):
            raise TransformTypeError(
                f"jit: static_argnames must be names, but got {describe(name)}. Name positions in "
                "static_argnums."
            )
    both = set(options.static_argnums) & set(options.donate_argnums)
    if both:
        raise TransformTypeError(
            f"jit: {argument_name(f, min(both))} of {name_of(f)} is both static and donated "
            f"({where(f)}). Static arguments are part of the program: donate arrays only."
        )
    if any(nums.values()) or options.static_argnames:
        check_names(f, options)


def check_names(f: Function, options: Options) -> None:
    """Raise unless f has the arguments that the options name; some callables cannot tell."""
    try:
        parameters = list(inspect.signature(f).parameters.values())
    except (TypeError, ValueError):
        return
    kinds = {p.kind for p in parameters}
    positional = [p for p in parameters if p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD)]
    for n in (*options.static_argnums, *options.donate_argnums):
        count = len(positional)
        if not -count <= n < count and inspect.Parameter.VAR_POSITIONAL not in kinds:
            raise TransformTypeError(
                f"jit: there is no argument {n}: {name_of(f)} takes {count} positional "
                f"argument{'s' if count != 1 else ''} ({where(f)}). Positions count from 0."
            )
    names = {p.name for p in parameters}
    for name in options.static_argnames:
        if name not in names and inspect.Parameter.VAR_KEYWORD not in kinds:
            raise TransformTypeError(
                f"jit: static_argnames={name!r} is not an argument of {name_of(f)} ({where(f)}). "
                f"Its arguments are {', '.join(p.name for p in parameters)}."
            )


__all__ = ["Compiled", "Jitted", "Lowered", "Traced", "compile_jaxpr", "jit"]
