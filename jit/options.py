"""The options of jit: which arguments are static, which may be overwritten; checked at once."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable
from typing import Any, NamedTuple

import numpy as np

from functrans.extend import TransformTypeError, argument_name, describe, name_of, where

Function = Callable[..., Any]


class Options(NamedTuple):
    """Which arguments are part of the program, which may be overwritten, what calls compare."""

    static_argnums: tuple[int, ...]
    static_argnames: tuple[str, ...]
    donate_argnums: tuple[int, ...]
    check_captures: bool


def as_tuple(value: Any) -> tuple[Any, ...]:
    """One position or name, or several, as a tuple."""
    if not isinstance(value, Iterable):
        value = (value,)
    return (value,) if isinstance(value, (int, str)) else tuple(value)


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
    if type(options.check_captures) is not bool:
        raise TransformTypeError(
            f"jit: check_captures must be True or False, not {describe(options.check_captures)}."
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
