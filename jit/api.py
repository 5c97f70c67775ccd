"""jit: functions compiled to native code, one program for each signature of their arguments."""

from __future__ import annotations

import collections
import functools
from collections.abc import Callable, Iterable, Sequence
from types import MethodType
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from functrans.extend import (
    Aval,
    Jaxpr,
    ShapeDtypeStruct,
    Staged,
    StaleCaptureError,
    Tracer,
    TransformTypeError,
    ambient_axes,
    argument_name,
    array_leaf,
    aval_of,
    collecting_rarely,
    describe,
    engine_name,
    is_evaluating,
    name_of,
    shaped,
    stage,
    tree,
    user_frame,
    where,
)
from jit.calls import Call, arguments_of, paths_of, trees_of
from jit.captures import captures_of, first_change
from jit.entry.base import attach, callable_natively, detach, entry_base, entry_ready
from jit.options import Options, as_tuple, check_options, hashable, positional_names
from jit.signatures import Signature, aval_key, parameter_name, plain_key
from jit.specialised import Specialised
from jit.stages import Compiled, Lowered, Traced
from jit.why import Why, note_detour, note_donations, why

if TYPE_CHECKING:
    # Imported with the first program that is compiled, or called natively: a first call whose
    # program is on disk does without.
    pass

Function = Callable[..., Any]


class CacheInfo(NamedTuple):
    """What a jitted function has compiled, and how its calls were served since."""

    programs: int
    native: int
    python_hits: int
    native_hits: int


MOST_RECORDS = 32
"""A function with more signatures looks for the others in Python's tables."""
MOST_UNKEPT = 100
"""So many of the last traces that could not be kept are remembered for `why`."""


PLAIN = frozenset("?bBhHiIlLqQefdFD")
"""The characters of NumPy's dtypes whose arrays need no further look; long doubles have others."""


@callable_natively
class Jitted(entry_base()):
    """What jit returns: a function that compiles itself for each signature it meets.

    Calls that a record of an earlier one fits are served by native code and never come here.
    """

    def __init__(self, f: Function, options: Options) -> None:
        self._f = f
        self._options = options
        self._names = positional_names(f, options)
        self._known: dict[Any, Specialised] = {}
        self._plain: dict[Any, Specialised] = {}
        self._serving: list[Specialised] = []
        self._unkept: collections.deque[Signature] = collections.deque(maxlen=MOST_UNKEPT)
        self._has_plain = not (options.static_argnums or options.static_argnames)
        functools.update_wrapper(self, f, updated=())

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """The function's result, compiled; under another trace, one call equation of it."""
        plain = None if kwargs or not self._has_plain else plain_key(args)
        evaluating = is_evaluating()
        if plain is not None and evaluating:
            found = self._plain.get(plain)
            if found is not None:
                self._check(found)
                result = found.run(args)
                self._ran(found, args, kwargs, args)
                return result
        made = self._split(args, kwargs)
        leaves = [self._leaf(x, k, made) for k, x in enumerate(made.leaves)]
        special = self._specialised(made, leaves)
        self._check(special)
        if not evaluating:
            return special.bind(leaves, name_of(self._f))
        if plain is not None and all(a is b for a, b in zip(args, leaves, strict=True)):
            self._plain[plain] = special
        result = special.run(leaves)
        self._ran(special, args, kwargs, made.leaves)
        return result

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
        pairs = zip(made.leaves, paths_of(made), strict=True)
        avals = [shaped(x, self._leaf_name(*path)) for x, path in pairs]
        special = self._stage(made, made.leaves, avals)
        return Traced(self, special, made._replace(leaves=[]), avals)

    def cache_info(self) -> CacheInfo:
        """How many programs there are, how many records for native calls, and how many calls each
        way found their program.
        """
        specials = {id(x): x for x in (*self._known.values(), *self._plain.values())}.values()
        records = [r for x in specials for r in x.records.values() if r is not None]
        python = sum(x.hits for x in specials)
        return CacheInfo(len(specials), len(records), python, sum(r.hits for r in records))

    def why(self) -> Why:
        """Why there are as many programs as there are, and why calls were not served natively.

        For each program what differed from the earlier call that was most like it, and the line of
        that call. Print it.
        """
        programs = list(self._known.values())
        return why(self._f, programs, self._unkept, len(self._serving) >= MOST_RECORDS)

    def clear_cache(self) -> None:
        """Forget every program."""
        detach(self, self._serving)
        self._known.clear()
        self._plain.clear()
        self._unkept.clear()

    # calls

    def _ran(
        self,
        special: Specialised,
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
        given: Sequence[Any],
    ) -> None:
        """After a call through Python: serve the next ones natively, or note why it was not."""
        noted = special.is_noted()
        if noted and special.donate:
            note_donations(special, given, user_frame())
        place = (len(args), tuple(kwargs))
        if place not in special.records:
            if entry_ready() and not self._options.check_captures:
                self._attach(special, args, kwargs, place)
        elif noted and special.records[place] is not None:
            note_detour(special, given, user_frame())

    def _check(self, special: Specialised) -> None:
        """StaleCaptureError where a name of the function means something else by now."""
        if not self._options.check_captures:
            return
        change = first_change(special.captures)
        if change is not None:
            name = name_of(self._f)
            raise StaleCaptureError(
                f"jit: {change.name}, which {name} ({where(self._f)}) captured, {change}. Its "
                "program has the value of then. Pass it as an argument, or call "
                f"{name}.clear_cache() to trace again."
            )

    def _attach(
        self,
        special: Specialised,
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
        place: tuple[int, tuple[str, ...]],
    ) -> None:
        """Let native code serve calls like this one from now on."""
        special.records[place] = None
        if engine_name() != "native" or len(self._serving) >= MOST_RECORDS:
            return
        record = special.record(arguments_of(self._split(args, kwargs), args, kwargs))
        if record is not None:
            special.records[place] = record
            attach(self, record.address, special, self._serving, Jitted.__call__)

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
                return f"{aval_of(leaf)} as {self._name_at(k, made)}, but was lowered for {aval}"
        return None

    def _leaf(self, value: Any, position: int, made: Call) -> Any:
        if type(value) is np.ndarray and value.dtype.isnative and value.dtype.char in PLAIN:
            return value
        if type(value) is Tracer or type(value) is float:
            return value
        return array_leaf(value, f"jit: {self._name_at(position, made)}")

    def _name_at(self, position: int, made: Call) -> str:
        return self._leaf_name(*paths_of(made)[position])

    def _leaf_name(self, argument: int | str, inside: str) -> str:
        """What messages call a leaf: its argument, the path inside it, the function."""
        base = (
            argument_name(self._f, argument)
            if isinstance(argument, int)
            else f"argument {argument!r}"
        )
        return f"{base}{inside} of {name_of(self._f)}"

    def _specialised(self, made: Call, leaves: Sequence[Any]) -> Specialised:
        key = self._key(made, leaves)
        found = self._known.get(key)
        if found is None:
            with collecting_rarely():
                found = self._stage(made, leaves, [aval_of(x) for x in leaves])
            if self._options.check_captures:
                found.captures = captures_of(self._f, found.signature.statics)
            if any(type(x) is Tracer for x in found.captured):
                self._unkept.append(found.signature)
            else:
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

        paths = paths_of(made)
        staged: Staged = stage(
            flat,
            leaves,
            purpose="jit",
            avals=None if not any(isinstance(x, ShapeDtypeStruct) for x in leaves) else avals,
            known=False,
            live=True,
            names=[self._leaf_name(argument, inside) for argument, inside in paths],
        )
        staged.release()  # later runs see what is written from now on
        donate = self._donated(made, len(staged.captured))
        signature = self._signature(made, leaves, paths)
        return Specialised(staged.jaxpr, staged.captured, staged.out_tree, donate, signature)

    def _signature(
        self, made: Call, leaves: Sequence[Any], paths: Sequence[tuple[int | str, str]]
    ) -> Signature:
        """What `why` says of this call."""

        def name(argument: int | str) -> str:
            return argument if isinstance(argument, str) else parameter_name(self._f, argument)

        trees = {name(k): definition for k, definition in trees_of(made).items()}
        found: dict[str, dict[str, Any]] = {argument: {} for argument in trees}
        for (argument, inside), leaf in zip(paths, leaves, strict=True):
            found[name(argument)][name(argument) + inside] = aval_key(leaf)
        statics = {name(k): v for k, v in (made.static_args | made.static_kwargs).items()}
        axes = None if is_evaluating() else ambient_axes()
        return Signature(trees, found, statics, axes, user_frame())

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


def jit(
    f: Function | None = None,
    *,
    static_argnums: int | Sequence[int] = (),
    static_argnames: str | Iterable[str] = (),
    donate_argnums: int | Sequence[int] = (),
    check_captures: bool = False,
) -> Any:
    """f compiled to native code; see functrans.jit."""
    options = Options(
        as_tuple(static_argnums),
        as_tuple(static_argnames),
        as_tuple(donate_argnums),
        check_captures,
    )
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


def flat_program(jaxpr: Jaxpr) -> Callable[[list[Any]], list[Any]]:
    """A jaxpr compiled to a function of the list of its inputs."""
    from jit.flat import FlatProgram

    return FlatProgram(jaxpr)


__all__ = ["Compiled", "Jitted", "Lowered", "Traced", "flat_program", "jit"]
