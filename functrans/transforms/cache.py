"""Derived jaxprs are built once: each is remembered in the cache of the jaxpr it comes from."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Concatenate, ParamSpec, TypeVar

from functrans.ir import Jaxpr

P = ParamSpec("P")
R = TypeVar("R")
_MISSING: Any = object()


def derived(
    build: Callable[Concatenate[Jaxpr, P], R],
) -> Callable[Concatenate[Jaxpr, P], R]:
    """Remember `build(jaxpr, *args)` on the jaxpr, None too; the arguments must be hashable."""

    def cached(jaxpr: Jaxpr, *args: P.args, **kwargs: P.kwargs) -> R:
        key = (build, args, tuple(sorted(kwargs.items())))
        found = jaxpr.cache.get(key, _MISSING)
        if found is _MISSING:
            found = jaxpr.cache[key] = build(jaxpr, *args, **kwargs)
        return found

    cached.__name__ = cached.__qualname__ = build.__name__
    cached.__doc__ = build.__doc__
    return cached
