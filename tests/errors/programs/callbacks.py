"""Misuses of callbacks: what they return, what is differentiated, what would act twice."""

from __future__ import annotations

import numpy as np

import functrans as ft
from functrans import lax
from functrans.errors import DtypeError, OptionError, ShapeError, TransformTypeError, TreeError
from tests.errors.pins import misuse

F8 = ft.ShapeDtypeStruct((), np.float64)


@misuse(ShapeError)
def a_result_of_another_shape():
    """
    a callback, simulate (simulate at HERE), returned f64[2] where f64[] was announced. Announce
    the shape that it returns.
    """

    def simulate(x):  # here
        return np.array([x, x])

    ft.jit(lambda x: ft.pure_callback(simulate, F8, x))(1.0)


@misuse(DtypeError)
def a_result_of_a_wider_dtype():
    """
    a callback, simulate (simulate at HERE), returned f64[3] where f32[3] was announced. Announce
    the dtype that it returns, or convert the result with .astype.
    """

    def simulate(x):  # here
        return x.astype(np.float64)

    ft.jit(lambda x: ft.pure_callback(simulate, x, x))(np.ones(3, np.float32))


@misuse(TreeError)
def a_result_of_another_tree():
    """
    pure_callback: simulate (simulate at HERE) must return what result_shape_dtypes announces, but
    it differs at the root: expected {'y': *, 'z': *}, but got (f64[], f64[]).
    """

    def simulate(x):  # here
        return x, x

    ft.pure_callback(simulate, {"y": F8, "z": F8}, 1.0)


@misuse(TransformTypeError)
def a_callback_without_a_derivative():
    """
    pure_callback: simulate (simulate at HERE) is differentiated, but has no derivative. Give
    derivative='finite_differences' or a function that computes its Jacobian, wrap the call in
    custom_jvp or custom_vjp, or apply stop_gradient to its arguments.
    """

    def simulate(x):  # here
        return np.sin(x)

    ft.grad(lambda x: ft.pure_callback(simulate, F8, x))(1.0)


@misuse(TransformTypeError)
def the_derivative_of_an_io_callback():
    """
    io_callback: measure (measure at HERE) acts on the world and so has no derivative, but its
    arguments carry one. Apply stop_gradient to them, or wrap the call in custom_jvp.
    """

    def measure(x):  # here
        return np.sin(x)

    ft.grad(lambda x: ft.io_callback(measure, F8, x))(1.0)


@misuse(TreeError)
def a_jacobian_for_one_argument_of_two():
    """
    pure_callback: the derivative slope (slope at HERE) must return, in the tree of the results,
    the Jacobian for the argument or a tuple of one for each, but at the root: expected a tuple of
    length 2, but got f64[].
    """

    def simulate(x, y):
        return x * y

    def slope(x, y):  # here
        return y

    ft.grad(lambda x: ft.pure_callback(simulate, F8, x, 2.0, derivative=slope))(1.0)


@misuse(OptionError)
def an_unknown_way_to_map():
    """
    pure_callback: vmap_method must be one of sequential, expand_dims, broadcast_all, not the str
    'vectorized' (in an_unknown_way_to_map at HERE).
    """
    ft.pure_callback(np.sin, F8, 1.0, vmap_method="vectorized")  # here


@misuse(TransformTypeError)
def an_argument_that_is_no_array():
    """
    pure_callback: the argument [0] of sin is the str 'one', but only arrays and numbers (or
    containers of them) can be traced (in an_argument_that_is_no_array at HERE). Let the function
    capture it, or leave it out of what is traced (argnums of derivatives, None in in_axes of vmap,
    static_argnums of jit).
    """
    ft.pure_callback(np.sin, F8, "one")  # here


@misuse(TransformTypeError)
def a_loop_that_would_read_twice():
    """
    while holds an io_callback and values that carry a derivative (in loss at HERE), and would have
    to run again, since its derivative takes the same steps again. Call io_callback outside of it,
    or apply stop_gradient to what it is given.
    """
    lines = iter(range(100))

    def step(total):
        return total * 2 + ft.io_callback(lambda: next(lines), F8)

    def loss(x):
        return lax.while_loop(lambda total: total < 10, step, x)  # here

    ft.grad(loss)(1.0)
