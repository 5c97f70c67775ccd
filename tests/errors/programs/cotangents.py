"""Misuses of vjp, jvp, linearize and hvp: tangents and cotangents that do not fit."""

from __future__ import annotations

import numpy as np

import functrans as ft
from functrans.errors import NonLinearError, ShapeError, TransformTypeError, TreeError
from tests.errors.pins import misuse


def outputs(x):
    return {"a": x, "b": [x, x.sum()]}


@misuse(TreeError)
def cotangent_of_another_tree():
    """
    the pullback of outputs: the cotangent must have the structure of the value it belongs to, but
    differs at ['b']: expected a list of length 2, but got a list of length 1 (in
    cotangent_of_another_tree at HERE).
    """
    _, pullback = ft.vjp(outputs, np.ones(3))
    pullback({"a": np.ones(3), "b": [np.ones(3)]})  # here


@misuse(TreeError)
def cotangent_with_another_key():
    """
    the pullback of outputs: the cotangent must have the structure of the value it belongs to, but
    differs at the root: expected {'a': *, 'b': *}, but got {'a': *, 'c': *} (in
    cotangent_with_another_key at HERE).
    """
    _, pullback = ft.vjp(outputs, np.ones(3))
    pullback({"a": np.ones(3), "c": [np.ones(3), 1.0]})  # here


@misuse(ShapeError)
def cotangent_of_another_shape():
    """
    the pullback of outputs: the cotangent['b'][0] must have the shape of the value it belongs to,
    f64[3], but it is f64[3,1] (in cotangent_of_another_shape at HERE). Reshape it, or make one
    like that value with numpy.ones_like or zeros_like.
    """
    _, pullback = ft.vjp(outputs, np.ones(3))
    pullback({"a": np.ones(3), "b": [np.ones((3, 1)), 1.0]})  # here


@misuse(TransformTypeError)
def cotangent_of_another_dtype():
    """
    the pullback of outputs: the cotangent['a'] must have the dtype of the value it belongs to,
    f32[3], but it is f64[3] (in cotangent_of_another_dtype at HERE). Convert it with
    .astype('float32').
    """
    _, pullback = ft.vjp(outputs, np.ones(3, np.float32))
    pullback({"a": np.ones(3), "b": [np.ones(3, np.float32), np.float32(1)]})  # here


@misuse(TransformTypeError)
def complex_cotangent_of_a_real_result():
    """
    the pullback of <lambda>: the cotangent must have the dtype of the value it belongs to, f64[3],
    but it is c128[3] (in complex_cotangent_of_a_real_result at HERE). Give its real and imaginary
    parts apart.
    """
    _, pullback = ft.vjp(lambda x: 2 * x, np.ones(3))
    pullback(1j * np.ones(3))  # here


@misuse(TransformTypeError)
def cotangent_that_is_text():
    """
    the pullback of <lambda>: the cotangent is the str 'one', but only arrays and numbers (or
    containers of them) can be traced (in cotangent_that_is_text at HERE). Let the function capture
    it, or leave it out of what is traced (argnums of derivatives, None in in_axes of vmap,
    static_argnums of jit).
    """
    _, pullback = ft.vjp(lambda x: 2 * x, 1.0)
    pullback("one")  # here


@misuse(TypeError)
def pullback_without_a_cotangent():
    """Pullback.__call__() missing 1 required positional argument: 'cotangent'"""
    _, pullback = ft.vjp(lambda x: 2 * x, 1.0)
    pullback()


@misuse(TransformTypeError)
def jvp_with_a_bare_primal():
    """
    jvp: primals must be a tuple with one entry for each argument of f, but got f64[3] (in
    jvp_with_a_bare_primal at HERE). Write (primal,) for a single argument.
    """

    def f(x):
        return x**2

    ft.jvp(f, np.ones(3), np.ones(3))  # here


@misuse(TransformTypeError)
def jvp_with_a_missing_tangent():
    """jvp: f got 2 primals but 1 tangents (f at HERE). Give one tangent for each primal."""

    def f(x, y):  # here
        return x * y

    ft.jvp(f, (1.0, 2.0), (1.0,))


@misuse(ShapeError)
def tangent_of_another_shape():
    """
    jvp of f: the tangent[0]['w'] must have the shape of the value it belongs to, f64[2,3], but it
    is f64[3,2] (in tangent_of_another_shape at HERE). Reshape it, or make one like that value with
    numpy.ones_like or zeros_like.
    """

    def f(params):
        return params["w"].sum()

    ft.jvp(f, ({"w": np.ones((2, 3))},), ({"w": np.ones((3, 2))},))  # here


@misuse(TransformTypeError)
def tangent_of_another_dtype():
    """
    jvp of f: the tangent[0] must have the dtype of the value it belongs to, f32[2], but it is
    f64[2] (in tangent_of_another_dtype at HERE). Convert it with .astype('float32').
    """

    def f(x):
        return x.sum()

    ft.jvp(f, (np.ones(2, np.float32),), (np.ones(2),))  # here


@misuse(TransformTypeError)
def integer_tangent():
    """
    jvp of f: the tangent[0] must have the dtype of the value it belongs to, f64[2], but it is
    i64[2] (in integer_tangent at HERE). Convert it with .astype('float64').
    """

    def f(x):
        return x.sum()

    ft.jvp(f, (np.ones(2),), (np.array([1, 0]),))  # here


@misuse(TransformTypeError)
def tangent_of_an_integer_argument():
    """
    jvp of f: the tangent[1] belongs to i64[], which has no derivative, but it is the float 3.0 (in
    tangent_of_an_integer_argument at HERE). Make the value a float if its derivative is wanted;
    otherwise give numpy.zeros(shape, 'int64').
    """

    def f(x, n):
        return x * n

    ft.jvp(f, (1.0, np.array(2)), (1.0, 3.0))  # here


@misuse(TreeError)
def derivative_with_too_many_tangents():
    """
    the derivative of <lambda>: the tangent must have the structure of the value it belongs to, but
    differs at the root: expected a tuple of length 1, but got a tuple of length 2 (in
    derivative_with_too_many_tangents at HERE).
    """
    _, derivative = ft.linearize(lambda x: x**2, 3.0)
    derivative(1.0, 2.0)  # here


@misuse(NonLinearError)
def transpose_of_a_product():
    """
    mul is not linear in the values being transposed (in f at HERE). Functions given to
    linear_transpose, tangents in custom_jvp rules and, in forward mode, the bwd of a custom_vjp
    must be linear. Where a bwd is not (it clips, say), give the derivative by custom_jvp (defjvp)
    instead.
    """

    def f(x):
        return x * x  # here

    ft.linear_transpose(f, np.ones(3))(np.ones(3))


@misuse(NonLinearError)
def transpose_of_an_affine_function():
    """
    linear_transpose: f (f at HERE) is affine, not linear: it adds something that is not zero (add
    in f at HERE). Its transpose would silently leave that out. Take the part that is linear only.
    """

    def f(x):  # here
        return 2 * x + 1.0  # here

    ft.linear_transpose(f, np.ones(3))


@misuse(NonLinearError)
def transpose_of_a_function_that_adds_a_captured_array():
    """
    linear_transpose: f (f at HERE) is affine, not linear: it adds something that is not zero
    (concatenate in f at HERE). Its transpose would silently leave that out. Take the part that is
    linear only.
    """
    offset = np.ones(3)

    def f(x):  # here
        return np.concatenate([2 * x, offset])  # here

    ft.linear_transpose(f, np.ones(3))


@misuse(NonLinearError)
def transpose_of_a_function_with_a_constant_result():
    """
    linear_transpose: f (f at HERE) is affine, not linear: it adds something that is not zero (a
    result that no argument reaches). Its transpose would silently leave that out. Take the part
    that is linear only.
    """

    def f(x):  # here
        return 3 * x, np.cos(1.0)

    ft.linear_transpose(f, 1.0)


@misuse(ShapeError)
def hvp_with_another_shape():
    """
    hvp of f: the tangent[0] must have the shape of the value it belongs to, f64[3], but it is
    f64[4] (in hvp_with_another_shape at HERE). Reshape it, or make one like that value with
    numpy.ones_like or zeros_like.
    """

    def f(x):
        return (x**3).sum()

    ft.hvp(f, np.ones(3), np.ones(4))  # here


@misuse(TransformTypeError)
def hvp_of_a_vector():
    """
    grad: the function must return a scalar, but it returned f64[3] (f at HERE). Take a sum or
    mean, or use jacrev, or vjp with a cotangent.
    """

    def f(x):  # here
        return x**3

    ft.hvp(f, np.ones(3), np.ones(3))
