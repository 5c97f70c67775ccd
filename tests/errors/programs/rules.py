"""Misuses of custom_jvp, custom_vjp, custom_gradient and checkpoint: rules that do not fit."""

from __future__ import annotations

import numpy as np

import functrans as ft
from functrans.errors import NonLinearError, ShapeError, TransformTypeError
from tests.errors.pins import misuse


@misuse(TransformTypeError)
def custom_jvp_without_a_rule():
    """custom_jvp: f has no rule (f at HERE). Give one with @f.defjvp."""

    @ft.custom_jvp  # here
    def f(x):
        return x**2

    ft.grad(f)(1.0)


@misuse(TransformTypeError)
def custom_vjp_without_rules():
    """custom_vjp: f has no rules (f at HERE). Give them with f.defvjp(fwd, bwd)."""

    @ft.custom_vjp  # here
    def f(x):
        return x**2

    ft.grad(f)(1.0)


@misuse(TransformTypeError)
def custom_jvp_of_a_result():
    """
    custom_jvp takes a function, but got the float 1.0 (in custom_jvp_of_a_result at HERE). Use it
    as a decorator.
    """
    ft.custom_jvp(1.0)  # here


def square():
    """A fresh custom_jvp function without a rule."""
    return ft.custom_jvp(lambda x: x**2)


@misuse(TransformTypeError)
def a_rule_that_returns_no_pair():
    """
    custom_jvp: the rule of <lambda> must return (result, tangent), but it returned f64[] (rule at
    HERE). Return both, as a tuple of two.
    """
    f = square()

    @f.defjvp  # here
    def rule(primals, tangents):
        return 2 * primals[0] * tangents[0]

    ft.grad(f)(1.0)


@misuse(ShapeError)
def a_rule_with_a_tangent_of_another_shape():
    """
    custom_jvp: the tangent that the rule of <lambda> returned must have the shape of the value it
    belongs to, f64[3], but it is f64[] (rule at HERE). Sum over axes that were broadcast.
    """
    f = square()

    @f.defjvp  # here
    def rule(primals, tangents):
        return primals[0] ** 2, tangents[0].sum()

    ft.jvp(f, (np.ones(3),), (np.ones(3),))


@misuse(TransformTypeError)
def a_rule_with_a_tangent_of_another_tree():
    """
    custom_jvp: the tangent that the rule of <lambda> returned must have the structure f64[3], with
    None for zeros, but it is (f64[3], f64[3]) (rule at HERE).
    """
    f = square()

    @f.defjvp  # here
    def rule(primals, tangents):
        return primals[0] ** 2, (tangents[0], tangents[0])

    ft.jvp(f, (np.ones(3),), (np.ones(3),))


@misuse(ShapeError)
def a_rule_with_a_result_of_another_tree():
    """
    custom_jvp: the result that the rule of <lambda> returned must be like that of the function
    itself, f64[3], but it is [f64[3]] (rule at HERE).
    """
    f = square()

    @f.defjvp  # here
    def rule(primals, tangents):
        return [primals[0] ** 2], [tangents[0]]

    ft.jvp(f, (np.ones(3),), (np.ones(3),))


@misuse(ShapeError)
def a_rule_with_a_result_of_another_shape():
    """
    custom_jvp: the result that the rule of <lambda> returned must be like that of the function
    itself, f64[3], but it is f64[] (rule at HERE).
    """
    f = square()

    @f.defjvp  # here
    def rule(primals, tangents):
        return (primals[0] ** 2).sum(), tangents[0].sum()

    ft.jvp(f, (np.ones(3),), (np.ones(3),))


@misuse(NonLinearError)
def a_rule_that_is_not_linear():
    """
    square is not linear in the values being transposed (in rule at HERE). Functions given to
    linear_transpose, tangents in custom_jvp rules and, in forward mode, the bwd of a custom_vjp
    must be linear. Where a bwd is not (it clips, say), give the derivative by custom_jvp (defjvp)
    instead.
    """
    f = square()

    @f.defjvp
    def rule(primals, tangents):
        return primals[0] ** 2, tangents[0] ** 2  # here

    ft.grad(f)(1.0)


@misuse(TypeError)
def a_rule_of_one_parameter():
    """a_rule_of_one_parameter.<locals>.rule() takes 1 positional argument but 2 were given"""
    f = square()

    @f.defjvp
    def rule(primals):
        return primals

    ft.grad(f)(1.0)


@misuse(TransformTypeError)
def a_rule_that_captures_a_traced_value():
    """
    custom_jvp: f or its rule uses a traced f64[] that is being differentiated but is not among its
    arguments (f at HERE), so that its derivative would be lost. Pass it as an argument.
    """

    def loss(w):
        @ft.custom_jvp  # here
        def f(x):
            return x * 2

        @f.defjvp
        def rule(primals, tangents):
            return primals[0] * 2, tangents[0] * w

        return f(w)

    ft.grad(loss)(1.0)


@misuse(TransformTypeError)
def a_function_that_captures_a_traced_value():
    """
    custom_vjp: f or its rule uses a traced f64[] that is being differentiated but is not among its
    arguments (f at HERE), so that its derivative would be lost. Pass it as an argument.
    """

    def loss(w):
        @ft.custom_vjp  # here
        def f(x):
            return x * w

        f.defvjp(lambda x: (f(x), None), lambda residuals, ct: (ct,))
        return f(2.0)

    ft.grad(loss)(1.0)


def doubled(fwd, bwd):
    """A custom_vjp function with these rules."""
    f = ft.custom_vjp(lambda x: 2 * x)
    f.defvjp(fwd, bwd)
    return f


def forward(x):
    return 2 * x, None


@misuse(TransformTypeError)
def fwd_that_returns_no_pair():
    """
    custom_vjp: fwd of <lambda> must return (result, residuals), but it returned f64[] (fwd at
    HERE). Return both, as a tuple of two; residuals may be None.
    """

    def fwd(x):  # here
        return 2 * x

    def bwd(residuals, ct):
        return (2 * ct,)

    ft.grad(doubled(fwd, bwd))(1.0)


@misuse(ShapeError)
def fwd_with_a_result_of_another_tree():
    """
    custom_vjp: the result that fwd of <lambda> returned must be like that of the function itself,
    f64[], but it is (f64[], f64[]) (fwd at HERE).
    """

    def fwd(x):  # here
        return (2 * x, x), None

    def bwd(residuals, ct):
        return (2 * ct,)

    ft.grad(doubled(fwd, bwd))(1.0)


@misuse(ShapeError)
def fwd_with_a_result_of_another_shape():
    """
    custom_vjp: the result that fwd of <lambda> returned must be like that of the function itself,
    f64[3], but it is f64[] (fwd at HERE).
    """

    def fwd(x):  # here
        return (2 * x).sum(), None

    def bwd(residuals, ct):
        return (2 * ct,)

    ft.vjp(doubled(fwd, bwd), np.ones(3))[1](np.ones(3))


@misuse(TransformTypeError)
def bwd_that_returns_no_tuple():
    """
    custom_vjp: what bwd of <lambda> returned must be a tuple with one cotangent for each argument,
    which are 1, but it is f64[] (bwd at HERE). Write (ct,) for a single one, and None for zeros.
    """

    def bwd(residuals, ct):  # here
        return 2 * ct

    ft.grad(doubled(forward, bwd))(1.0)


@misuse(TransformTypeError)
def bwd_with_too_many_cotangents():
    """
    custom_vjp: what bwd of <lambda> returned must be a tuple with one cotangent for each argument,
    which are 1, but it is (f64[], None) (bwd at HERE). Write (ct,) for a single one, and None for
    zeros.
    """

    def bwd(residuals, ct):  # here
        return 2 * ct, None

    ft.grad(doubled(forward, bwd))(1.0)


@misuse(ShapeError)
def bwd_with_a_cotangent_of_another_shape():
    """
    custom_vjp: what bwd of <lambda> returned must have the shape of the value it belongs to,
    f64[3], but it is f64[] (bwd at HERE). Sum over axes that were broadcast.
    """

    def bwd(residuals, ct):  # here
        return (ct.sum(),)

    ft.vjp(doubled(forward, bwd), np.ones(3))[1](np.ones(3))


@misuse(NonLinearError)
def bwd_that_clips_in_forward_mode():
    """
    clamp is not linear in the values being transposed (in bwd at HERE). Functions given to
    linear_transpose, tangents in custom_jvp rules and, in forward mode, the bwd of a custom_vjp
    must be linear. Where a bwd is not (it clips, say), give the derivative by custom_jvp (defjvp)
    instead.
    """

    def bwd(residuals, ct):
        return (np.clip(ct, -1.0, 1.0),)  # here

    ft.jvp(doubled(forward, bwd), (1.0,), (1.0,))


@misuse(NonLinearError)
def bwd_that_branches_in_forward_mode():
    """
    mul is not linear in the values being transposed (in bwd at HERE). Functions given to
    linear_transpose, tangents in custom_jvp rules and, in forward mode, the bwd of a custom_vjp
    must be linear. Where a bwd is not (it clips, say), give the derivative by custom_jvp (defjvp)
    instead.
    """

    def bwd(residuals, ct):
        return (ct * ct,)  # here

    ft.jvp(doubled(forward, bwd), (1.0,), (1.0,))


@misuse(NonLinearError)
def bwd_that_is_affine_in_forward_mode():
    """
    the bwd of a custom_vjp, which forward mode transposes, is affine, not linear: it adds
    something that is not zero (add in bwd at HERE). Its transpose would silently leave that out.
    Take the part that is linear only.
    """

    def bwd(residuals, ct):
        return (2.0 * ct + 1.0,)  # here

    ft.jvp(doubled(forward, bwd), (1.0,), (1.0,))


@misuse(NonLinearError)
def bwd_that_adds_a_residual_in_forward_mode():
    """
    the bwd of a custom_vjp, which forward mode transposes, is affine, not linear: it adds
    something that is not zero (add in bwd at HERE). Its transpose would silently leave that out.
    Take the part that is linear only.
    """

    def bwd(x, ct):
        return (2.0 * ct + x,)  # here

    ft.jit(lambda x: ft.jvp(doubled(lambda x: (2 * x, x), bwd), (x,), (1.0,)))(1.0)


@misuse(TransformTypeError)
def keyword_only_arguments():
    """
    custom_jvp: f has keyword-only arguments ['scale'] (f at HERE), which rules cannot receive.
    Make them positional.
    """

    @ft.custom_jvp  # here
    def f(x, *, scale):
        return x * scale

    f.defjvp(lambda primals, tangents: (primals[0], tangents[0]))
    ft.grad(lambda x: f(x, scale=2.0))(1.0)


@misuse(TransformTypeError)
def nondiff_argnums_out_of_range():
    """
    custom_jvp: nondiff_argnums has 2, but f was called with 2 arguments (f at HERE). Positions
    count from 0.
    """

    def f(x, n):  # here
        return x * n

    g = ft.custom_jvp(f, nondiff_argnums=(2,))
    g.defjvp(lambda n, primals, tangents: (primals[0], tangents[0]))
    ft.grad(lambda x: g(x, 2))(1.0)


@misuse(TransformTypeError)
def an_argument_of_a_custom_function_that_is_text():
    """
    custom_jvp: an argument of <lambda> is the str 'relu', but only arrays and numbers (or
    containers of them) can be traced (in <lambda> at HERE). Let the function capture it, or leave
    it out of what is traced (argnums of derivatives, None in in_axes of vmap, static_argnums of
    jit).
    """
    f = ft.custom_jvp(lambda x, kind: x)
    f.defjvp(lambda primals, tangents: (primals[0], tangents[0]))
    ft.grad(lambda x: f(x, "relu"))(1.0)  # here


@misuse(TransformTypeError)
def a_checkpoint_policy_that_is_text():
    """
    checkpoint: policy must be a function of functrans.checkpoint_policies or one like them, but
    got the str 'everything' (<lambda> at HERE).
    """
    f = ft.checkpoint(lambda x: x**2, policy="everything")  # here
    ft.grad(f)(1.0)


@misuse(TransformTypeError)
def checkpoint_of_a_result():
    """
    checkpoint takes a function, but got the float 1.0 (in checkpoint_of_a_result at HERE). Write
    checkpoint(f)(x).
    """
    ft.checkpoint(1.0)  # here


@misuse(TransformTypeError)
def a_static_argument_of_a_checkpoint_that_is_not_there():
    """
    checkpoint: static_argnums has 2, but f was called with 2 arguments (f at HERE). Positions
    count from 0.
    """

    def f(x, n):  # here
        return x * n

    g = ft.checkpoint(f, static_argnums=2)
    ft.grad(lambda x: g(x, 2))(1.0)


@misuse(TransformTypeError)
def checkpoint_with_text():
    """
    checkpoint: an argument of <lambda> is the str 'relu', but only arrays and numbers (or
    containers of them) can be traced (in <lambda> at HERE). Let the function capture it, or leave
    it out of what is traced (argnums of derivatives, None in in_axes of vmap, static_argnums of
    jit).
    """
    f = ft.checkpoint(lambda x, kind: x)
    ft.grad(lambda x: f(x, "relu"))(1.0)  # here
