"""The sweep primitive: a while that notes each step, and passes over what it noted.

    sweep[cond body num_cond_consts num_body_consts num_carry passes lanes dims]
        cond_const* body_const* carry* (const_i* carry_i*)*  ->  carry* (carry_i*)*

    cond   : cond_const* carry*  ->  bool[]
    body   : body_const* carry*  ->  carry* s_k*
    pass i : const_i* carry_i* carry_k* s_k* e_1k* .. e_{i-1}k*  ->  carry_i* e_ik*

The while runs as `while` does and notes, for each step k, the carry before it and whatever else the
body says (s_k). Then each pass runs over the steps, forwards or with `reverse` backwards, and may
note more (e_ik) for the passes after it. What was noted never leaves the primitive, so that nothing
in a program has a length that is not known. `lanes` and `dims` are those of `while`.

A sweep is what the transpose of a while is; its own jvp and transpose are sweeps again.
"""

from __future__ import annotations

from functrans.control import (
    curves,
    stepping,
    sweep_batch,
    sweep_forward,
    sweep_narrow,
    sweep_reverse,
    trajectories,
)
from functrans.ir import Primitive
from functrans.primitives.derive import provide

sweep_p = provide(
    Primitive(
        name="sweep",
        abstract_eval=stepping.abstract_eval,
        impl=stepping.impl,
        jvp=sweep_forward.jvp,
        transpose=sweep_reverse.transpose,
        batch=sweep_batch.batch,
        partial_eval=sweep_forward.partial_eval,
        taylor=curves.taylor,
        follow=trajectories.follow,
        narrow=sweep_narrow.narrow,
        effects=stepping.effects,
        cheap=False,
    )
)
