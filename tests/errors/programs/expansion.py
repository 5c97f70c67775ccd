"""Misuses of jet, taylor, derivative and laplacian."""

from __future__ import annotations

import numpy as np

import functrans as ft
from functrans.errors import RangeError, ShapeError, TransformTypeError
from tests.errors.pins import misuse


def curve(x):
    return np.sin(x)


def counted(x):
    return x.sum(), x.size * np.ones(2, int)


@misuse(TransformTypeError)
def series_without_lists():
    """
    jet: series must hold a list of derivatives for each argument of curve, but got the float 1.0
    (in series_without_lists at HERE). Write [x1] for a first derivative alone.
    """
    ft.jet(curve, (1.0,), (1.0,))  # here


@misuse(TransformTypeError)
def series_of_two_lengths():
    """
    jet: the series of all arguments of hypot must have the same length, but they have 1, 2 (in
    series_of_two_lengths at HERE). Fill up with zeros.
    """
    ft.jet(np.hypot, (1.0, 2.0), ([1.0], [1.0, 0.0]))  # here


@misuse(TransformTypeError)
def fewer_series_than_primals():
    """
    jet: hypot got 2 primals but 1 series (hypot) (in fewer_series_than_primals at HERE). Give one
    series for each primal.
    """
    ft.jet(np.hypot, (1.0, 2.0), ([1.0],))  # here


@misuse(ShapeError)
def a_term_of_another_shape():
    """
    jet of curve, order 2: the term[0] must have the shape of the value it belongs to, f64[3], but
    it is f64[2] (in a_term_of_another_shape at HERE). Reshape it, or make one like that value with
    numpy.ones_like or zeros_like.
    """
    ft.jet(curve, (np.ones(3),), ([np.ones(3), np.ones(2)],))  # here


@misuse(TransformTypeError)
def order_that_is_no_whole_number():
    """
    taylor: the order must be a whole number, 0 or more, but it is the float 2.5 (in
    order_that_is_no_whole_number at HERE).
    """
    ft.taylor(curve, 1.0, 2.5)  # here


@misuse(ShapeError)
def taylor_of_an_array_without_direction():
    """
    taylor: argument 0 (x) of curve must be a scalar, but it is f64[3] (in
    taylor_of_an_array_without_direction at HERE). Say by direction=v in which direction it is to
    move.
    """
    ft.taylor(curve, np.ones(3), 2)  # here


@misuse(ShapeError)
def derivative_at_an_array():
    """
    derivative: argument 0 (x) of curve must be a scalar, but it is f64[3] (in
    derivative_at_an_array at HERE). For many scalars vmap the derivative; for directions use
    taylor or jet.
    """
    ft.derivative(curve, 2)(np.ones(3))  # here


@misuse(TransformTypeError)
def negative_order():
    """
    derivative: n must be a whole number, 0 or more, but it is the int -1 (in negative_order at
    HERE).
    """
    ft.derivative(curve, -1)  # here


@misuse(TransformTypeError)
def derivative_of_a_number():
    """
    derivative takes a function, but got the float 3.0 (in derivative_of_a_number at HERE). Give it
    the function itself, not what the function returns.
    """
    ft.derivative(3.0, 1)  # here


@misuse(TransformTypeError)
def laplacian_by_integers():
    """
    laplacian: argument 0 (x) of curve is i64[3], and derivatives exist with respect to floating
    values only (in laplacian_by_integers at HERE). Convert it with .astype(float), or leave it out
    of argnums.
    """
    ft.laplacian(curve)(np.arange(3))  # here


@misuse(TransformTypeError)
def laplacian_of_integers():
    """
    laplacian: a result of counted is i64[2], and only floating results have derivatives (in
    laplacian_of_integers at HERE). Convert it with .astype(float), or do not return it.
    """
    ft.laplacian(counted)(np.ones(3))  # here


@misuse(TransformTypeError)
def derivative_at_a_complex_number():
    """
    derivative: argument 0 (x) of curve is the complex (1+2j), and this is about real arguments (in
    derivative_at_a_complex_number at HERE). For a holomorphic function say holomorphic=True.
    """
    ft.derivative(curve, 2)(1.0 + 2.0j)  # here


@misuse(TransformTypeError)
def laplacian_at_complex_numbers():
    """
    laplacian: argument 0 (x) of curve is c128[3], and this is about real arguments (in
    laplacian_at_complex_numbers at HERE). Give its real and imaginary parts as two arguments.
    """
    ft.laplacian(curve)(np.ones(3, complex))  # here


@misuse(ShapeError)
def derivative_of_two_numbers_at_once():
    """
    derivative: the argument of <lambda> must be a scalar, but it is 2 arrays (in
    derivative_of_two_numbers_at_once at HERE). For many scalars vmap the derivative; for
    directions use taylor or jet.
    """
    ft.derivative(lambda p: p["a"] * p["b"], 2)({"a": 1.0, "b": 2.0})  # here


@misuse(RangeError)
def derivative_beyond_the_factorials():
    """
    derivative: a derivative of order 40 is a Taylor coefficient times 40!, which is more than
    float32 holds (in derivative_beyond_the_factorials at HERE). Take the coefficients, by taylor.
    """
    ft.derivative(curve, 40)(np.float32(1.0))  # here
