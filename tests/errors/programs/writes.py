"""Misuses of writing in place: arguments, captured arrays, views, scalars, casts."""

from __future__ import annotations

import numpy as np

import functrans as ft
import functrans.numpy as fnp
from functrans.errors import (
    DtypeError,
    MutationError,
    OutOfBoundsError,
    ShapeError,
    UnsupportedError,
)
from tests.errors.pins import misuse


@misuse(MutationError)
def a_write_to_an_argument():
    """
    f64[3] is an argument of a function being transformed and cannot be written to in place (in
    loss at HERE): the caller's array must not change. Write to a copy (y = x.copy(); y[i] = v), or
    use functrans.numpy.at(x)[i].set(v), which returns a new one.
    """

    def loss(x):
        x[0] = 0.0  # here
        return x.sum()

    ft.grad(loss)(np.ones(3))


@misuse(MutationError)
def an_update_of_an_argument():
    """
    f64[3] is an argument of a function being transformed and cannot be written to in place (in
    loss at HERE): the caller's array must not change. Write to a copy (y = x.copy(); y[i] = v), or
    use functrans.numpy.at(x)[i].set(v), which returns a new one.
    """

    def loss(x):
        x *= 2  # here
        return x.sum()

    ft.grad(loss)(np.ones(3))


@misuse(MutationError)
def a_write_to_a_view_of_an_argument():
    """
    f64[2] is an argument of a function being transformed and cannot be written to in place (in
    loss at HERE): the caller's array must not change. Write to a copy (y = x.copy(); y[i] = v), or
    use functrans.numpy.at(x)[i].set(v), which returns a new one.
    """

    def loss(x):
        row = x.reshape(3, 2)[1]
        row[:] = 0.0  # here
        return x.sum()

    ft.grad(loss)(np.ones(6))


@misuse(MutationError)
def a_sort_of_an_argument_in_place():
    """
    f64[3] is an argument of a function being transformed and cannot be written to in place (in
    loss at HERE): the caller's array must not change. Write to a copy (y = x.copy(); y[i] = v), or
    use functrans.numpy.at(x)[i].set(v), which returns a new one.
    """

    def loss(x):
        x.sort()  # here
        return x[0]

    ft.grad(loss)(np.ones(3))


@misuse(MutationError)
def a_fill_of_an_argument():
    """
    f64[3] is an argument of a function being transformed and cannot be written to in place (in
    loss at HERE): the caller's array must not change. Write to a copy (y = x.copy(); y[i] = v), or
    use functrans.numpy.at(x)[i].set(v), which returns a new one.
    """

    def loss(x):
        x.fill(0.0)  # here
        return x.sum()

    ft.grad(loss)(np.ones(3))


@misuse(MutationError)
def a_write_to_an_argument_of_vmap():
    """
    f64[3] is an argument of a function being transformed and cannot be written to in place (in f
    at HERE): the caller's array must not change. Write to a copy (y = x.copy(); y[i] = v), or use
    functrans.numpy.at(x)[i].set(v), which returns a new one.
    """

    def f(row):
        row[0] = 1.0  # here
        return row

    ft.vmap(f)(np.ones((2, 3)))


@misuse(MutationError)
def a_write_to_an_argument_of_jit():
    """
    f64[3] is an argument of a function being transformed and cannot be written to in place (in
    step at HERE): the caller's array must not change. Write to a copy (y = x.copy(); y[i] = v), or
    use functrans.numpy.at(x)[i].set(v), which returns a new one.
    """

    @ft.jit
    def step(state):
        state["w"][0] = 1.0  # here
        return state

    step({"w": np.ones(3)})


@misuse(MutationError)
def a_write_to_a_value_of_an_outer_function():
    """
    a traced f64[3] of an enclosing grad was written to inside an inner function that is being
    transformed (in inner at HERE). Work on a copy (y = x.copy()) and return it.
    """

    def loss(x):
        y = x * 2

        def inner(z):
            y[0] = z  # here
            return y.sum() * z

        return ft.grad(inner)(x[0])

    ft.grad(loss)(np.ones(3))


@misuse(MutationError)
def an_update_of_a_value_of_an_outer_function():
    """
    a traced f64[3] of an enclosing grad was written to inside an inner function that is being
    transformed (in inner at HERE). Work on a copy (y = x.copy()) and return it.
    """

    def loss(x):
        total = fnp.zeros(3)

        def inner(z):
            total[:] += z  # here
            return total.sum()

        return ft.grad(inner)(x) * x

    ft.grad(loss)(1.0)


@misuse(ValueError)
def a_write_to_a_large_captured_array():
    """assignment destination is read-only"""
    table = np.ones(200_000)

    def loss(x):
        y = (table * x).sum()
        table[0] = 5.0
        return y

    ft.grad(loss)(1.0)


@misuse(MutationError)
def add_at_of_a_plain_array():
    """
    add.at: f64[3] is a plain array, which cannot hold traced values (in loss at HERE). Make it
    with functrans.numpy, or use functrans.numpy.at(x)[i].add(v).
    """

    def loss(x):
        counts = np.zeros(3)
        np.add.at(counts, [0, 1], x)  # here
        return counts.sum()

    ft.grad(loss)(np.ones(2))


@misuse(UnsupportedError)
def out_that_is_a_plain_array():
    """
    numpy.multiply: out= is a plain array, which cannot hold a traced result (in loss at HERE).
    Make the array with functrans.numpy (fnp.zeros(n), fnp.array(x) for a copy of x), or drop out=
    (y = y + x in place of y += x).
    """

    def loss(x):
        y = np.empty(3)
        np.multiply(x, 2.0, out=y)  # here
        return y.sum()

    ft.grad(loss)(np.ones(3))


@misuse(UnsupportedError)
def an_update_of_a_plain_array():
    """
    numpy.add: out= is a plain array, which cannot hold a traced result (in loss at HERE). Make the
    array with functrans.numpy (fnp.zeros(n), fnp.array(x) for a copy of x), or drop out= (y = y +
    x in place of y += x).
    """

    def loss(x):
        y = np.ones(3)
        y += x  # here
        return y.sum()

    ft.grad(loss)(np.ones(3))


@misuse(TypeError)
def item_assignment_of_a_scalar():
    """'numpy.float64' object does not support item assignment"""

    def loss(x):
        y = x.sum()
        y[()] = 0.0
        return y

    ft.grad(loss)(np.ones(3))


@misuse(DtypeError)
def a_float_added_to_an_integer_array():
    """
    x += y: cannot cast the result from float64 to int64, the dtype of the array being written to
    (in loss at HERE). Make it with a float dtype, or write x = x + y.
    """

    def loss(x):
        counts = fnp.zeros(3, dtype=int)
        counts += 0.5  # here
        return x * counts.sum()

    ft.grad(loss)(1.0)


@misuse(ShapeError)
def a_write_of_another_shape():
    """
    could not broadcast input array from shape (3,) into shape (2,) (in loss at HERE). Write to a
    part of that shape, or reshape what is written.
    """

    def loss(x):
        y = fnp.zeros(4)
        y[1:3] = x  # here
        return y.sum()

    ft.grad(loss)(np.ones(3))


@misuse(ShapeError)
def an_update_that_would_grow():
    """
    could not broadcast input array from shape (2, 3) into shape (3,) (in loss at HERE). Write to a
    part of that shape, or reshape what is written.
    """

    def loss(x):
        y = fnp.zeros(3)
        y += x  # here
        return y.sum()

    ft.grad(loss)(np.ones((2, 3)))


@misuse(OutOfBoundsError)
def a_write_out_of_bounds():
    """index 3 is out of bounds for axis 0 with size 3 (in loss at HERE)."""

    def loss(x):
        y = fnp.zeros(3)
        y[3] = x  # here
        return y.sum()

    ft.grad(loss)(1.0)


@misuse(OutOfBoundsError)
def too_many_indices_in_a_write():
    """
    too many indices for array: array is 1-dimensional, but 2 were indexed (in loss at HERE). Give
    at most one index for each axis; None makes new ones.
    """

    def loss(x):
        y = fnp.zeros(3)
        y[0, 0] = x  # here
        return y.sum()

    ft.grad(loss)(1.0)


@misuse(AttributeError)
def at_of_a_plain_array():
    """'numpy.ndarray' object has no attribute 'at'"""
    table = np.zeros(3)

    def loss(x):
        return table.at[0].set(x).sum()

    ft.grad(loss)(1.0)


@misuse(MutationError)
def deletion_of_an_element():
    """elements of an array cannot be deleted (in loss at HERE). Use numpy.delete, or a slice."""

    def loss(x):
        y = x * 2
        del y[0]  # here
        return y.sum()

    ft.grad(loss)(np.ones(3))


@misuse(AttributeError)
def a_shape_that_is_set():
    """property 'shape' of 'Tracer' object has no setter"""

    def loss(x):
        y = x * 2
        y.shape = (3, 1)
        return y.sum()

    ft.grad(loss)(np.ones(3))
