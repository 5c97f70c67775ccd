"""Captures: what a function reads from outside itself, and whether it is still what it was.

`check_captures` of jit compares by them. What is seen: closure cells, globals, defaults, attributes
of these (and of static arguments) that are stored in an object, a class or a module, the contents
of captured dicts, lists and tuples, and the same of every function of the user's that is reached
this way. Not seen: names made up at run time, what a property or a container's own class computes,
functions of installed packages, and the contents of arrays, which programs read anew at each call.
"""

from __future__ import annotations

import dis
import functools
import inspect
import sysconfig
from collections.abc import Callable, Iterator, Mapping
from types import CodeType, FunctionType, MethodType, ModuleType
from typing import Any, NamedTuple

import numpy as np

from functrans.extend import definition_of, describe, name_of

Chain = tuple[str, ...]
"""A name and the attributes that are read of it: `model.layer.scale`."""


class _Missing:
    """The value of a name that is not bound."""


MISSING = _Missing()
READING = frozenset({"get", "items", "values", "keys", "index", "count", "copy"})
"""Methods of containers whose result depends on the contents."""
CONTAINERS = (dict, list, tuple)
VALUES = (bool, int, float, complex, str, bytes, np.generic)
"""What is equal where type and value are; all else must be the same object."""


class Capture(NamedTuple):
    """One thing that was read: `name` as users write it, how it is read, and what it was.

    `reader` says who read it, in brackets, where that is not the function itself.
    """

    name: str
    read: Callable[[], Any]
    state: Any
    reader: str


class Change(NamedTuple):
    """A capture that is not what it was."""

    name: str
    was: Any
    now: Any

    def __str__(self) -> str:
        was, now = (shown(x) for x in (self.was, self.now))
        return (
            f"was {was} when it was traced, and is {'a different one' if was == now else now} now"
        )


def shown(value: Any) -> str:
    return "not bound" if value is MISSING else describe(value)


def captures_of(f: Callable[..., Any], statics: Mapping[str, Any]) -> list[Capture]:
    """What f reads from outside now; `statics` are the static arguments by parameter."""
    return list(_Reader().function(f, statics, outermost=True))


def first_change(captures: list[Capture]) -> Change | None:
    """The first capture that is not what it was."""
    for capture in captures:
        change = compared(capture.name, capture.state, capture.read())
        if change is not None:
            return change._replace(name=change.name + capture.reader)
    return None


# -- what is read -----------------------------------------------------------------------------


class _Reader:
    """Collects the captures of functions, each function once."""

    def __init__(self) -> None:
        self.seen: set[tuple[int, ...]] = set()

    def function(
        self, f: Any, statics: Mapping[str, Any], outermost: bool = False
    ) -> Iterator[Capture]:
        """The captures of a function, under wrappers, partials and methods."""
        while True:
            if isinstance(f, functools.partial):
                f = f.func
            elif isinstance(f, MethodType):
                f, statics = f.__func__, with_first(f.__func__, f.__self__, statics)
            elif not isinstance(f, FunctionType) and hasattr(f, "__wrapped__"):
                f = f.__wrapped__
            elif not isinstance(f, (FunctionType, type)) and is_python(type(f).__call__):
                f, statics = type(f).__call__, with_first(type(f).__call__, f, statics)
            else:
                break
        key = (id(f), *map(id, statics.values()))
        if not isinstance(f, FunctionType) or key in self.seen:
            return
        self.seen.add(key)
        if outermost or is_users(f):
            yield from self.plain(f, statics, "" if outermost else f" (read by {name_of(f)})")

    def plain(self, f: FunctionType, statics: Mapping[str, Any], reader: str) -> Iterator[Capture]:
        """The captures of one Python function, those of the functions it reaches after it."""
        yield from defaults(f, reader)
        code, cells = (
            f.__code__,
            dict(zip(f.__code__.co_freevars, f.__closure__ or (), strict=True)),
        )
        for scope, chain in chains(code, set(cells), set(statics)):
            root = roots(f, scope, chain[0], cells, statics)
            owner, end = followed(root(), chain[1:])
            read = functools.partial(reached, root, chain[1:])
            yield Capture(".".join(chain), read, state_of(read()), reader)
            if callable(end):
                method = isinstance(end, FunctionType) and len(chain) > 1 and is_instance(owner)
                yield from self.function(MethodType(end, owner) if method else end, {})


def defaults(f: FunctionType, reader: str) -> Iterator[Capture]:
    """The default values of the parameters."""
    for name in default_values(f):
        read = functools.partial(default_value, f, name)
        yield Capture(f"the default of {name}", read, state_of(read()), reader)


def default_values(f: FunctionType) -> dict[str, Any]:
    values = f.__defaults__ or ()
    names = f.__code__.co_varnames[: f.__code__.co_argcount]
    return dict(zip(names[len(names) - len(values) :], values, strict=True)) | (
        f.__kwdefaults__ or {}
    )


def default_value(f: FunctionType, name: str) -> Any:
    return default_values(f).get(name, MISSING)


def with_first(f: Any, value: Any, statics: Mapping[str, Any]) -> dict[str, Any]:
    """The static arguments of a method whose first parameter is this object."""
    code = getattr(f, "__code__", None)
    names = code.co_varnames[: code.co_argcount] if isinstance(code, CodeType) else ()
    return {**statics, **dict(zip(names[:1], [value], strict=False))}


def roots(
    f: FunctionType, scope: str, name: str, cells: Mapping[str, Any], statics: Mapping[str, Any]
) -> Callable[[], Any]:
    """What reads a name of one of the scopes of `chains`."""
    match scope:
        case "argument":
            return lambda: statics[name]
        case "cell":
            return lambda: cell_contents(cells[name])
        case _:
            return lambda: f.__globals__.get(name, MISSING)


def cell_contents(cell: Any) -> Any:
    try:
        return cell.cell_contents
    except ValueError:
        return MISSING


def is_python(f: Any) -> bool:
    return isinstance(f, FunctionType)


def is_instance(owner: Any) -> bool:
    """Do functions found on this object become methods of it?"""
    return not isinstance(owner, (ModuleType, type))


@functools.cache
def installed() -> tuple[str, ...]:
    """The folders of Python's library and of installed packages."""
    paths = sysconfig.get_paths()
    return tuple({paths[k] for k in ("stdlib", "platstdlib", "purelib", "platlib")})


def is_users(f: FunctionType) -> bool:
    return definition_of(f) is not None and not f.__code__.co_filename.startswith(installed())


# -- names in code ----------------------------------------------------------------------------


def chains(code: CodeType, cells: set[str], arguments: set[str]) -> list[tuple[str, Chain]]:
    """The names from outside that a function and those defined in it read, in order, with scope.

    `cells` are the closure's names, `arguments` those parameters whose value is known.
    """
    written = {
        i.argval for i in dis.get_instructions(code) if i.opname in ("STORE_FAST", "STORE_DEREF")
    }
    arguments = arguments - written
    found: dict[tuple[str, Chain], None] = {}
    current: tuple[str, Chain] | None = None
    for instruction in dis.get_instructions(code):
        if instruction.opname == "PUSH_NULL":
            continue
        if instruction.opname in ("LOAD_ATTR", "LOAD_METHOD") and current is not None:
            current = current[0], (*current[1], str(instruction.argval))
            continue
        if current is not None:
            found[current] = None
        current = outside_name(instruction, cells, arguments)
    for inner in code.co_consts:
        if isinstance(inner, CodeType):
            free = set(inner.co_freevars)
            found.update(dict.fromkeys(chains(inner, cells & free, arguments & free)))
    return list(found)


def outside_name(
    instruction: dis.Instruction, cells: set[str], arguments: set[str]
) -> tuple[str, Chain] | None:
    """The scope and name that an instruction reads, where that is one from outside."""
    operation, name = instruction.opname, instruction.argval
    if isinstance(name, tuple):  # two locals at once: what follows reads of the second
        name = name[-1]
    if operation in ("LOAD_GLOBAL", "LOAD_NAME"):
        return "global", (name,)
    if operation.startswith(("LOAD_DEREF", "LOAD_FAST")):
        if name in cells:
            return "cell", (name,)
        if name in arguments:
            return "argument", (name,)
    return None


# -- values -----------------------------------------------------------------------------------


def reached(root: Callable[[], Any], names: Chain) -> Any:
    """The value at the end of a chain of attributes."""
    return followed(root(), names)[1]


def followed(value: Any, names: Chain) -> tuple[Any, Any]:
    """The object that has the last attribute that can be seen, and that attribute's value."""
    owner: Any = None
    for name in names:
        if isinstance(value, CONTAINERS) and name in READING:
            break
        owner, value = value, stored(value, name)
        if hasattr(type(value), "__get__"):
            break  # a method, a property: what it computes is not stored
    return owner, value


def stored(value: Any, name: str) -> Any:
    """An attribute as it is stored, without running code of the user's."""
    if isinstance(value, ModuleType):
        return vars(value).get(name, MISSING)
    found = inspect.getattr_static(value, name, MISSING)
    if inspect.ismemberdescriptor(found):
        try:
            return found.__get__(value)
        except AttributeError:
            return MISSING
    return found


class Contents(NamedTuple):
    """A container with what was in it."""

    container: Any
    items: dict[Any, Any]


def state_of(value: Any, inside: tuple[int, ...] = ()) -> Any:
    """A value, the contents of containers with it."""
    if type(value) not in CONTAINERS or id(value) in inside:
        return value
    return Contents(
        value, {k: state_of(x, (*inside, id(value))) for k, x in items_of(value).items()}
    )


def items_of(container: Any) -> dict[Any, Any]:
    return dict(container) if isinstance(container, dict) else dict(enumerate(container))


def compared(name: str, state: Any, now: Any) -> Change | None:
    """How a value departs from a state; contents are compared where the container is of a kind."""
    if not isinstance(state, Contents):
        return None if same(state, now) else Change(name, state, now)
    if type(now) is not type(state.container):
        return Change(name, state.container, now)
    items = items_of(now)
    for key in {**state.items, **items}:
        place = f"{name}[{key!r}]"
        was, found = state.items.get(key, MISSING), items.get(key, MISSING)
        change = compared(place, was, found)
        if change is not None:
            return change
    return None


def same(was: Any, now: Any) -> bool:
    if was is now:
        return True
    if type(was) is not type(now):
        return False
    if isinstance(was, MethodType):
        return was.__func__ is now.__func__ and was.__self__ is now.__self__
    return isinstance(was, VALUES) and (was == now or (was != was and now != now))
