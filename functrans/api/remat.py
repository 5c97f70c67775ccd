"""checkpoint for users: trade computing again for memory."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from typing import Any

from functrans import tree
from functrans.api.arguments import places_of, positions, without_fixed
from functrans.api.border import Function, array_leaf, stage
from functrans.bind import bind, is_evaluating
from functrans.control.checkpoint import Policy, checkpoint_p
from functrans.errors import TransformTypeError, describe, name_of, where


def checkpoint(
    f: Function | None = None,
    *,
    policy: Policy | None = None,
    static_argnums: int | Sequence[int] = (),
) -> Function:
    """f, computed again in the backward pass instead of keeping its residuals.

    Only the arguments are kept, and what `policy` allows (see `checkpoint_policies`). Values and
    derivatives are those of f. Use it as `checkpoint(f)` or as a decorator with options. Arguments
    at `static_argnums` are not traced: f gets them as they are.

    >>> from functrans import grad
    >>> grad(checkpoint(lambda x: x**3))(2.0)
    12.0
    """
    if f is None:
        return functools.partial(checkpoint, policy=policy, static_argnums=static_argnums)
    if not callable(f):
        raise TransformTypeError(
            f"checkpoint takes a function, but got {describe(f)}. Write checkpoint(f)(x)."
        )
    if policy is not None and not callable(policy):
        raise TransformTypeError(
            f"checkpoint: policy must be a function of functrans.checkpoint_policies or one like "
            f"them, but got {describe(policy)} ({where(f)})."
        )
    static = positions(static_argnums, "checkpoint: static_argnums")

    @functools.wraps(f, updated=())
    def checkpointed(*args: Any, **kwargs: Any) -> Any:
        if is_evaluating():
            return f(*args, **kwargs)
        fixed = places_of(static, len(args), f, "checkpoint: static_argnums")
        others, call = without_fixed(f, fixed, args, kwargs)
        flat, treedef = tree.flatten(others)
        leaves = [array_leaf(x, f"checkpoint: an argument of {name_of(f)}") for x in flat]

        def flat_f(*xs: Any) -> Any:
            return call(tree.unflatten(treedef, xs))

        with stage(flat_f, leaves, purpose="checkpoint", user=f) as staged:
            outs = bind(checkpoint_p, *staged.captured, *leaves, jaxpr=staged.jaxpr, policy=policy)
        return tree.unflatten(staged.out_tree, outs)

    return checkpointed


remat = checkpoint
"""Its older name."""
