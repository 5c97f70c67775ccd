"""The one printed form of a jaxpr, deterministic, names given in order of appearance."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import count
from typing import Any

import numpy as np

from functrans.ir.aval import short_dtype
from functrans.ir.jaxpr import Atom, Eqn, Jaxpr, Literal, Var

_WIDTH = 100
Names = dict[Var, str]


def _letters() -> Iterator[str]:
    """a, b, ..., z, aa, ab, ..."""
    for n in count():
        name = ""
        while True:
            n, digit = divmod(n, 26)
            name = chr(97 + digit) + name
            if n == 0:
                break
            n -= 1
        yield name


def format_jaxpr(jaxpr: Jaxpr) -> str:
    """`{ lambda ; a:f64[3]. let b:f64[3] = sin a in (b,) }`, on several lines when long."""
    fresh = _letters()
    names: Names = {}
    consts = _binders(jaxpr.invars[: jaxpr.num_consts], names, fresh)
    args = _binders(jaxpr.invars[jaxpr.num_consts :], names, fresh)
    head = f"{{ lambda {consts + ' ' if consts else ''}; {args}. let"
    lines = [_format_eqn(eqn, names, fresh) for eqn in jaxpr.eqns]
    outs = ", ".join(_format_atom(a, names) for a in jaxpr.outvars)
    tail = f"in ({outs}{',' if len(jaxpr.outvars) == 1 else ''}) }}"
    one_line = " ".join([head, "; ".join(lines), tail] if lines else [head, tail])
    if len(lines) <= 1 and len(one_line) <= _WIDTH and "\n" not in one_line:
        return one_line
    body = "\n".join("    " + line.replace("\n", "\n    ") for line in lines)
    return f"{head}\n{body}\n  {tail}"


setattr(Jaxpr, "__str__", format_jaxpr)  # noqa: B010  # the printer lies above the data
setattr(Jaxpr, "__repr__", format_jaxpr)  # noqa: B010


def format_eqn(eqn: Eqn) -> str:
    """One equation by itself; variables are named by their avals only."""
    return _format_eqn(eqn, {}, _letters())


def _binders(variables: list[Var], names: Names, fresh: Iterator[str]) -> str:
    return " ".join(_binder(v, names, fresh) for v in variables)


def _binder(var: Var, names: Names, fresh: Iterator[str]) -> str:
    names[var] = next(fresh)
    return f"{names[var]}:{var.aval}"


def _format_eqn(eqn: Eqn, names: Names, fresh: Iterator[str]) -> str:
    inputs = " ".join(_format_atom(a, names) for a in eqn.inputs)
    outputs = _binders(eqn.outputs, names, fresh)
    params = _format_params(eqn.params)
    left = f"{outputs} = " if outputs else ""
    return f"{left}{eqn.primitive.name}{params}{' ' + inputs if inputs else ''}"


def _format_atom(atom: Atom, names: Names) -> str:
    if isinstance(atom, Literal):
        return _format_literal(atom)
    return names.get(atom) or f"?:{atom.aval}"


def _format_literal(literal: Literal) -> str:
    value = literal.value.item() if isinstance(literal.value, np.generic) else literal.value
    return f"{value}:{literal.aval}"


def _format_params(params: dict[str, Any]) -> str:
    if not params:
        return ""
    inner = [f"{k}={_format_param(v)}" for k, v in sorted(params.items())]
    if any("\n" in p for p in inner):
        joined = "\n".join("  " + p.replace("\n", "\n  ") for p in inner)
        return f"[\n{joined}\n]"
    return f"[{' '.join(inner)}]"


def _format_param(value: Any) -> str:
    if isinstance(value, np.dtype):
        return short_dtype(value)
    if isinstance(value, Jaxpr):
        return format_jaxpr(value)
    if isinstance(value, tuple) and hasattr(value, "_asdict"):
        return f"{type(value).__name__}{_format_params(value._asdict())}"  # type: ignore[attr-defined]
    if isinstance(value, tuple):
        return _format_tuple([_format_param(v) for v in value])
    if callable(value):
        return getattr(value, "__name__", type(value).__name__)
    return str(value)


def _format_tuple(parts: list[str]) -> str:
    """`(a,b)`; a part of several lines begins a line."""
    if any("\n" in part for part in parts):
        return "(" + "".join("\n  " + part.replace("\n", "\n  ") + "," for part in parts) + "\n)"
    return f"({','.join(parts)}{',' if len(parts) == 1 else ''})"
