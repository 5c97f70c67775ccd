"""Misuses of operations on traced values: shapes, dtypes, axes, indices, what cannot be traced."""

from __future__ import annotations

import numpy as np

import functrans as ft
import functrans.numpy as fnp
from functrans.errors import (
    AxisError,
    DtypeError,
    MissingAttributeError,
    OptionError,
    OutOfBoundsError,
    RangeError,
    ShapeError,
    UnsupportedError,
)
from tests.errors.pins import misuse


@misuse(ShapeError)
def matmul_of_shapes_that_do_not_fit():
    """
    matmul: the lengths to be summed over differ: 4 and 3, of operands f64[5,4] and f64[3,2] (in
    loss at HERE). Transpose or reshape one of them.
    """

    def loss(w, x):
        return (x @ w).sum()  # here

    ft.grad(loss)(np.ones((3, 2)), np.ones((5, 4)))


@misuse(ShapeError)
def matmul_with_a_scalar():
    """matmul: operands must have at least one dimension (in loss at HERE). Use * for scalars."""

    def loss(w, x):
        return (x @ w).sum()  # here

    ft.grad(loss)(2.0, np.ones(3))


@misuse(ShapeError)
def dot_of_shapes_that_do_not_fit():
    """
    dot: the lengths to be summed over differ: 4 and 3, of operands f64[4] and f64[3] (in loss at
    HERE). Transpose or reshape one of them.
    """

    def loss(w, x):
        return np.dot(x, w)  # here

    ft.grad(loss)(np.ones(3), np.ones(4))


@misuse(ShapeError)
def einsum_of_sizes_that_do_not_fit():
    """einsum: 'j' in 'ij,jk->' stands for both 4 and 3 (in loss at HERE)"""

    def loss(w, x):
        return np.einsum("ij,jk->", x, w)  # here

    ft.grad(loss)(np.ones((3, 2)), np.ones((5, 4)))


@misuse(OptionError)
def einsum_of_too_many_operands():
    """einsum: 'ij->' names 1 operands, but got 2 (in loss at HERE)."""

    def loss(w, x):
        return np.einsum("ij->", x, w)  # here

    ft.grad(loss)(np.ones((3, 2)), np.ones((5, 4)))


@misuse(ShapeError)
def shapes_that_do_not_broadcast():
    """
    add: operands could not be broadcast together with shapes (3,) and (4,) (in loss at HERE).
    Sizes must be equal or 1, counted from the last axis: insert axes with x[:, None], or reshape.
    """

    def loss(x):
        return (x + np.ones(4)).sum()  # here

    ft.grad(loss)(np.ones(3))


@misuse(ShapeError)
def comparison_of_shapes_that_do_not_broadcast():
    """
    greater: operands could not be broadcast together with shapes (3,) and (2,) (in loss at HERE).
    Sizes must be equal or 1, counted from the last axis: insert axes with x[:, None], or reshape.
    """

    def loss(x):
        return np.where(x > np.zeros(2), x, 0.0).sum()  # here

    ft.grad(loss)(np.ones(3))


@misuse(ShapeError)
def concatenate_of_other_shapes():
    """
    concatenate: all the input array dimensions except for the concatenation axis must match
    exactly, but along axis 0 the shapes are (2, 3) and (2, 4) (in loss at HERE).
    """

    def loss(x):
        return np.concatenate([x, np.ones((2, 4))]).sum()  # here

    ft.grad(loss)(np.ones((2, 3)))


@misuse(ShapeError)
def concatenate_of_numbers():
    """
    zero-dimensional arrays cannot be concatenated (in loss at HERE). Use stack, which makes an
    axis of them.
    """

    def loss(x):
        return np.concatenate([x, x]).sum()  # here

    ft.grad(loss)(1.0)


@misuse(ShapeError)
def stack_of_other_shapes():
    """
    stack: all input arrays must have the same shape, but have (2,) and (3,) (in loss at HERE). Use
    concatenate to join along an axis that they have.
    """

    def loss(x):
        return np.stack([x, x[1:]]).sum()  # here

    ft.grad(loss)(np.ones(3))


@misuse(ShapeError)
def reshape_to_another_size():
    """
    reshape: cannot reshape array of size 3 into shape (2, 2) (in loss at HERE). One size may be
    -1, for what is left.
    """

    def loss(x):
        return x.reshape(2, 2).sum()  # here

    ft.grad(loss)(np.ones(3))


@misuse(AxisError)
def transpose_with_other_axes():
    """
    transpose: axis 2 is out of bounds for array of dimension 2 (in loss at HERE). Its axes are -2
    to 1.
    """

    def loss(x):
        return x.transpose(0, 2, 1).sum()  # here

    ft.grad(loss)(np.ones((3, 2)))


@misuse(ShapeError)
def squeeze_of_a_long_axis():
    """
    cannot select an axis to squeeze out which has size not equal to one: axis 0 of shape (3, 2)
    (in loss at HERE). Index it or reduce over it instead.
    """

    def loss(x):
        return np.squeeze(x, axis=0).sum()  # here

    ft.grad(loss)(np.ones((3, 2)))


@misuse(ShapeError)
def split_into_unequal_parts():
    """
    array split does not result in an equal division: 3 elements along axis 0 into 2 parts (in loss
    at HERE). Use array_split, or pad.
    """

    def loss(x):
        return np.split(x, 2)[0].sum()  # here

    ft.grad(loss)(np.ones(3))


@misuse(AxisError)
def a_sum_over_an_axis_that_is_not_there():
    """
    sum: axis 2 is out of bounds for array of dimension 2 (in loss at HERE). Its axes are -2 to 1.
    """

    def loss(x):
        return x.sum(axis=2).sum()  # here

    ft.grad(loss)(np.ones((3, 2)))


@misuse(OptionError)
def a_sum_over_an_axis_twice():
    """sum: duplicate value in axis (0, 0) (in loss at HERE). Name each axis once."""

    def loss(x):
        return x.sum(axis=(0, 0)).sum()  # here

    ft.grad(loss)(np.ones((3, 2)))


@misuse(UnsupportedError)
def an_axis_that_is_a_float():
    """sum: an axis must be an integer, but got the float 1.0 (in loss at HERE)."""

    def loss(x):
        return x.sum(axis=1.0).sum()  # here

    ft.grad(loss)(np.ones((3, 2)))


@misuse(ShapeError)
def the_maximum_of_nothing():
    """
    zero-size array to reduction operation max which has no identity: it was given f64[0] (in loss
    at HERE). Give initial=, or test x.size first.
    """

    def loss(x):
        return x[x < 0].max()  # here

    ft.grad(loss)(np.ones(3))


@misuse(OutOfBoundsError)
def an_index_out_of_bounds():
    """index 3 is out of bounds for axis 0 with size 3 (in loss at HERE)."""

    def loss(x):
        return x[3]  # here

    ft.grad(loss)(np.ones(3))


@misuse(OutOfBoundsError)
def an_array_of_indices_out_of_bounds():
    """gather: index 7 is out of bounds for axis 0 with size 3 (in loss at HERE)"""

    def loss(table, rows):
        return table[rows].sum()  # here

    ft.grad(loss)(np.ones((3, 2)), np.array([0, 7]))


@misuse(OutOfBoundsError)
def an_index_out_of_bounds_in_compiled_code():
    """gather: an index is out of bounds for axis 0 with size 3 (in loss at HERE)"""

    @ft.jit
    def loss(table, rows):
        return table[rows].sum()  # here

    ft.grad(loss)(np.ones((3, 2)), np.array([0, 7]))


@misuse(OutOfBoundsError)
def an_index_out_of_bounds_under_vmap():
    """gather: index 3 is out of bounds for axis 1 with size 3 (in pick at HERE)"""

    def pick(row, i):
        return row[i]  # here

    ft.vmap(pick)(np.ones((2, 3)), np.array([0, 3]))


@misuse(OutOfBoundsError)
def take_out_of_bounds():
    """gather: index 5 is out of bounds for axis 0 with size 3 (in loss at HERE)"""

    def loss(x):
        return np.take(x, [0, 5]).sum()  # here

    ft.grad(loss)(np.ones(3))


@misuse(OutOfBoundsError)
def too_many_indices():
    """
    too many indices for array: array is 1-dimensional, but 2 were indexed (in loss at HERE). Give
    at most one index for each axis; None makes new ones.
    """

    def loss(x):
        return x[0, 1]  # here

    ft.grad(loss)(np.ones(3))


@misuse(OutOfBoundsError)
def an_index_that_is_text():
    """
    only integers, slices (`:`), ellipsis (`...`), numpy.newaxis (`None`) and integer or boolean
    arrays are valid indices, but got the str 'w' (in loss at HERE). Convert a float with int(i),
    an array of them with astype(int).
    """

    def loss(params):
        return params["w"]  # here

    ft.grad(loss)(np.ones(3))


@misuse(OutOfBoundsError)
def a_mask_of_another_shape():
    """
    boolean index did not match indexed array along axis 0; size of axis is 3 but size of
    corresponding boolean axis is 2 (in loss at HERE). Make the mask from the array itself, or
    index with integers.
    """

    def loss(x):
        return x[np.array([True, False])].sum()  # here

    ft.grad(loss)(np.ones(3))


@misuse(UnsupportedError)
def a_slice_with_floats():
    """a bound of a slice must be an integer, but got the float 2.0 (in loss at HERE)."""

    def loss(x):
        return x[: len(x) / 2].sum()  # here

    ft.grad(loss)(np.ones(4))


@misuse(RangeError)
def a_number_that_does_not_fit():
    """
    Python integer 300 out of bounds for uint8 (in f at HERE). Convert the array to a dtype that
    can hold it first: x.astype(int).
    """

    def f(image):
        return image + 300  # here

    ft.vmap(f)(np.zeros(3, np.uint8))


@misuse(RangeError)
def a_negative_number_for_unsigned_integers():
    """
    Python integer -1 out of bounds for uint8 (in f at HERE). Convert the array to a dtype that can
    hold it first: x.astype(int).
    """

    def f(image):
        return image * -1  # here

    ft.vmap(f)(np.zeros(3, np.uint8))


@misuse(RangeError)
def an_argument_that_does_not_fit():
    """
    Python integer 300 out of bounds for uint8 (in an_argument_that_does_not_fit at HERE). Convert
    the array to a dtype that can hold it first: x.astype(int).
    """

    def f(image, offset):
        return image + offset

    step = ft.jit(f)
    step(np.zeros(3, np.uint8), 200)
    step(np.zeros(3, np.uint8), 300)  # here


@misuse(OptionError)
def a_negative_power_of_integers():
    """
    Integers to negative integer powers are not allowed (in f at HERE). Convert to float first, or
    write a float exponent: x ** -2.0.
    """

    def f(n):
        return n**-2  # here

    ft.vmap(f)(np.arange(1, 4))


@misuse(DtypeError)
def bits_of_floats():
    """
    bitwise_and is not defined for f64[3] and i64[] (in loss at HERE). Convert with .astype, or use
    the function that NumPy has for such dtypes.
    """

    def loss(x):
        return (x & 1).sum()  # here

    ft.grad(loss)(np.ones(3))


@misuse(DtypeError)
def a_shift_of_floats():
    """
    left_shift is not defined for f64[3] and i64[] (in loss at HERE). Convert with .astype, or use
    the function that NumPy has for such dtypes.
    """

    def loss(x):
        return (x << 1).sum()  # here

    ft.grad(loss)(np.ones(3))


@misuse(DtypeError)
def the_difference_of_booleans():
    """
    subtract is not defined for bool[] and bool[] (in f at HERE). Convert with .astype, or use the
    function that NumPy has for such dtypes.
    """

    def f(x, y):
        return x - y  # here

    ft.vmap(f)(np.ones(3, bool), np.ones(3, bool))


@misuse(DtypeError)
def the_floor_of_a_complex_number():
    """
    floor is not defined for c128[] (in f at HERE). Convert with .astype, or use the function that
    NumPy has for such dtypes.
    """

    def f(z):
        return np.floor(z)  # here

    ft.vmap(f)(np.ones(3, complex))


@misuse(DtypeError)
def conversion_to_text():
    """
    astype: functrans has no dtype str (in loss at HERE). There are bool, integers of 8 to 64 bits,
    float16, float32, float64, complex64 and complex128.
    """

    def loss(x):
        return x.astype(str)  # here

    ft.grad(loss)(np.ones(3))


@misuse(UnsupportedError)
def arithmetic_with_none():
    """
    add: the operands are f64[3] and None, but must be arrays or numbers (in loss at HERE). Give
    the arrays inside a container one by one.
    """

    def loss(x, bias=None):
        return (x + bias).sum()  # here

    ft.grad(loss)(np.ones(3))


@misuse(UnsupportedError)
def arithmetic_with_text():
    """
    mul: the operands are f64[3] and the str '2', but must be arrays or numbers (in loss at HERE).
    Give the arrays inside a container one by one.
    """

    def loss(x):
        return (x * "2").sum()  # here

    ft.grad(loss)(np.ones(3))


@misuse(UnsupportedError)
def arithmetic_with_a_dict():
    """
    mul: the operands are {'w': f64[3]} and f64[3], but must be arrays or numbers (in loss at
    HERE). Give the arrays inside a container one by one.
    """

    def loss(params, x):
        return (params * x).sum()  # here

    ft.grad(lambda x: loss({"w": x}, x))(np.ones(3))


@misuse(ShapeError)
def arithmetic_of_a_ragged_list():
    """
    mul: the rows of [[1.0], [2.0, 3.0]] differ in length (in loss at HERE). Pad them to one
    length.
    """

    def loss(x):
        return (x * [[1.0], [2.0, 3.0]]).sum()  # here

    ft.grad(loss)(np.ones(2))


@misuse(DtypeError)
def arithmetic_with_an_object_array():
    """
    mul: an operand has the dtype object, which functrans does not have (in loss at HERE). Convert
    it with .astype to bool, an integer of 8 to 64 bits, float16, float32, float64, complex64 or
    complex128.
    """
    weights = np.array([1.0, None], dtype=object)

    def loss(x):
        return (x * weights).sum()  # here

    ft.grad(loss)(np.ones(2))


@misuse(DtypeError)
def arithmetic_with_dates():
    """
    mul: an operand has the dtype datetime64[D], which functrans does not have (in loss at HERE).
    Convert it with .astype to bool, an integer of 8 to 64 bits, float16, float32, float64,
    complex64 or complex128.
    """
    days = np.array(["2020-01-01", "2020-01-02"], dtype="datetime64[D]")

    def loss(x):
        return (x * days).sum()  # here

    ft.grad(loss)(np.ones(2))


@misuse(UnsupportedError)
def a_numpy_function_that_cannot_be_traced():
    """
    numpy.fft.fft2 is not supported on values that are being traced (in loss at HERE). See
    functrans.numpy for what is; for a value that needs no derivative, pass
    numpy.asarray(functrans.stop_gradient(x)).
    """

    def loss(x):
        return abs(np.fft.fft2(x)).sum()  # here

    ft.grad(loss)(np.eye(2))


@misuse(UnsupportedError)
def another_numpy_function_that_cannot_be_traced():
    """
    numpy.savetxt is not supported on values that are being traced (in loss at HERE). See
    functrans.numpy for what is; for a value that needs no derivative, pass
    numpy.asarray(functrans.stop_gradient(x)).
    """

    def loss(x):
        np.savetxt("x.txt", x)  # here
        return x.sum()

    ft.grad(loss)(np.eye(2))


@misuse(UnsupportedError)
def an_option_that_cannot_be_traced():
    """
    add: the option `casting` is not supported on values that are being traced (in loss at HERE).
    It takes dtype, out and where.
    """

    def loss(x):
        return np.add(x, 1.0, casting="unsafe").sum()  # here

    ft.grad(loss)(np.ones(2))


@misuse(UnsupportedError)
def an_option_that_does_not_exist():
    """
    sum: the option `axes` is not supported on values that are being traced (in loss at HERE). It
    takes a, axis, dtype, initial, keepdims, where and out.
    """

    def loss(x):
        return fnp.sum(x, axes=0)  # here

    ft.grad(loss)(np.ones(2))


@misuse(MissingAttributeError)
def a_method_that_does_not_exist():
    """
    a traced f64[2] has no attribute 'add' (in loss at HERE). It has those of numpy.ndarray, and
    x.at.
    """

    def loss(x):
        return x.add(1.0)  # here

    ft.grad(loss)(np.ones(2))


@misuse(MissingAttributeError)
def a_method_that_cannot_be_traced():
    """
    the attribute 'tofile' of arrays is not supported on values that are being traced (in loss at
    HERE). Do this outside of the traced function, on what it returns.
    """

    def loss(x):
        x.tofile("x.bin")  # here
        return x.sum()

    ft.grad(loss)(np.ones(2))
