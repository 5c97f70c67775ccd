"""Misuses of vmap and of collectives: axes, sizes, names."""

from __future__ import annotations

import numpy as np

import functrans as ft
from functrans.errors import AxisNameError, ConcretizationError, ShapeError, TransformTypeError
from tests.errors.pins import misuse


def predict(params, x):
    return x @ params["w"] + params["b"]


PARAMS = {"w": np.ones((3, 2)), "b": np.ones(2)}


@misuse(ShapeError)
def vmap_of_different_sizes():
    """
    vmap: mapped axes must have one size, but axis 0 of argument 0 (x) of f has size 3 and axis 0
    of argument 1 (y) of f has size 4 (in vmap_of_different_sizes at HERE). Put None in the place
    of an argument in in_axes if every call should get it whole.
    """

    def f(x, y):
        return x * y

    ft.vmap(f)(np.ones(3), np.ones((4, 2)))  # here


@misuse(ShapeError)
def vmap_of_another_axis_size():
    """
    vmap: mapped axes must have one size, but axis 0 of argument 0 (x) of f has size 3, and
    axis_size=4 was given (in vmap_of_another_axis_size at HERE). Put None in the place of an
    argument in in_axes if every call should get it whole.
    """

    def f(x):
        return 2 * x

    ft.vmap(f, axis_size=4)(np.ones(3))  # here


@misuse(TransformTypeError)
def in_axes_that_is_a_list():
    """
    vmap: in_axes must be an int, None or a tuple with one entry for each argument of f, but got
    the list [0, None] (in in_axes_that_is_a_list at HERE). Write tuple(in_axes).
    """

    def f(x, y):
        return x * y

    ft.vmap(f, in_axes=[0, None])  # here


@misuse(TransformTypeError)
def in_axes_of_another_length():
    """
    vmap: in_axes has 3 entries, but f was called with 2 positional arguments (f at HERE). Give one
    entry for each.
    """

    def f(x, y):  # here
        return x * y

    ft.vmap(f, in_axes=(0, None, None))(np.ones(3), 1.0)


@misuse(TransformTypeError)
def in_axes_of_another_tree():
    """
    vmap: in_axes of argument 0 (params) must be an int, None or a pytree like the argument, but
    they differ at the root: expected {'weights': *}, but got {'w': *} (f at HERE). One axis for a
    container serves all that is in it.
    """

    def f(params, x):  # here
        return params["w"] * x

    ft.vmap(f, in_axes=({"weights": 0}, 0))({"w": np.ones(3)}, np.ones(3))


@misuse(TransformTypeError)
def in_axes_that_is_a_float():
    """
    vmap: in_axes must hold ints and None, but got the float 0.0 for argument 0 (x) of f (in
    in_axes_that_is_a_float at HERE). Give the number of the axis to map over.
    """

    def f(x):
        return 2 * x

    ft.vmap(f, in_axes=0.0)(np.ones(3))  # here


@misuse(ShapeError)
def in_axes_out_of_range():
    """
    vmap: argument 0 (x) of f is f64[3], which has no axis 1 to map over (in in_axes_out_of_range
    at HERE). Its axes are -1 to 0.
    """

    def f(x):
        return 2 * x

    ft.vmap(f, in_axes=1)(np.ones(3))  # here


@misuse(ShapeError)
def vmap_over_a_number():
    """
    vmap: argument 1 (rate) of step is the float 0.1, which has no axis 0 to map over (in
    vmap_over_a_number at HERE). Put None in its place in in_axes, so that every call gets it
    whole.
    """

    def step(x, rate):
        return x - rate * x

    ft.vmap(step)(np.ones(3), 0.1)  # here


@misuse(TransformTypeError)
def vmap_over_nothing():
    """
    vmap: no argument of f is mapped (f at HERE). Give in_axes an int for at least one of them, or
    say how many members there are: axis_size=n.
    """

    def f(x):  # here
        return 2 * x

    ft.vmap(f, in_axes=None)(np.ones(3))


@misuse(TransformTypeError)
def out_axes_none_for_a_mapped_result():
    """
    vmap: out_axes is None for result 0 of f, but it differs between the members (f at HERE). Give
    it an axis, or reduce it over the mapped axis.
    """

    def f(x):  # here
        return 2 * x

    ft.vmap(f, out_axes=None)(np.ones(3))


@misuse(ShapeError)
def out_axes_out_of_range():
    """
    vmap: out_axes=3 is out of range for a result that is f64[3,2] with the mapped axis (in
    out_axes_out_of_range at HERE). Its axes are -2 to 1.
    """

    def f(x):
        return 2 * x

    ft.vmap(f, out_axes=3)(np.ones((3, 2)))  # here


@misuse(TransformTypeError)
def out_axes_of_another_tree():
    """
    vmap: out_axes must be an int, None or a pytree like the result of f, but they differ at the
    root: expected a tuple of length 3, but got a tuple of length 2 (f at HERE). One axis for a
    container serves all that is in it.
    """

    def f(x):  # here
        return x, 2 * x

    ft.vmap(f, out_axes=(0, 0, 0))(np.ones(3))


@misuse(ConcretizationError)
def a_choice_under_vmap():
    """
    the value of a traced bool[] was asked for (in relu at HERE), but it depends on argument 0 (x)
    of relu, which has no value while vmap traces the function. Use functrans.numpy.where or
    lax.cond for a choice, lax.while_loop or lax.fori_loop for a loop. Or do not map over the
    argument (None in in_axes).
    """

    def relu(x):
        if x > 0:  # here
            return x
        return 0.0

    ft.vmap(relu)(np.array([1.0, -1.0]))


@misuse(ConcretizationError)
def a_choice_under_grad_of_vmap():
    """
    the value of a traced bool[] was asked for (in relu at HERE), but it depends on argument 0 (x)
    of relu, which has no value while vmap traces the function. Use functrans.numpy.where or
    lax.cond for a choice, lax.while_loop or lax.fori_loop for a loop. Or do not map over the
    argument (None in in_axes).
    """

    def relu(x):
        y = 2 * x
        return y if y > 0 else 0.0  # here

    ft.grad(lambda x: ft.vmap(relu)(x).sum())(np.array([1.0, -1.0]))


@misuse(TransformTypeError)
def vmap_of_a_result():
    """
    vmap takes a function, but got f64[3] (in vmap_of_a_result at HERE). Write vmap(f)(x), not
    vmap(f(x)).
    """
    ft.vmap(np.ones(3))  # here


@misuse(TransformTypeError)
def vmap_over_text():
    """
    vmap: argument 1 (kind) of f is the str 'relu', but only arrays and numbers (or containers of
    them) can be traced (in vmap_over_text at HERE). Let the function capture it, or leave it out
    of what is traced (argnums of derivatives, None in in_axes of vmap, static_argnums of jit).
    """

    def f(x, kind):
        return x

    ft.vmap(f)(np.ones(3), "relu")  # here


@misuse(AxisNameError)
def psum_without_an_axis_name():
    """
    no axis is named 'batch' here (in f at HERE). Call the function under vmap(...,
    axis_name='batch')
    """
    from functrans import lax

    def f(x):
        return x / lax.psum(x, "batch")  # here

    ft.vmap(f)(np.ones(3))


@misuse(AxisNameError)
def psum_of_another_axis_name():
    """
    no axis is named 'batch' here (in f at HERE). Call the function under vmap(...,
    axis_name='batch')
    """
    from functrans import lax

    def f(x):
        return x / lax.psum(x, "batch")  # here

    ft.vmap(f, axis_name="examples")(np.ones(3))
