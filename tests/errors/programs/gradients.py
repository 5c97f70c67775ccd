"""Misuses of grad, value_and_grad and the Jacobians: the function, its result, its arguments."""

from __future__ import annotations

import warnings

import numpy as np

import functrans as ft
from functrans.errors import DtypeError, TransformTypeError, TreeError, UnsupportedError
from tests.errors.pins import misuse


def matrix(rows):
    """np.matrix, less the warning that NumPy gives."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return np.matrix(rows)


@misuse(TransformTypeError)
def grad_of_a_vector():
    """
    grad: the function must return a scalar, but it returned f64[3] (loss at HERE). Take a sum or
    mean, or use jacrev, or vjp with a cotangent.
    """

    def loss(x):  # here
        return 2 * x

    ft.grad(loss)(np.ones(3))


@misuse(TransformTypeError)
def grad_of_a_dict():
    """
    value_and_grad: the function must return a scalar, but it returned {'loss': f64[], 'norm':
    f64[]} (loss at HERE). Return one number; what needs no derivative can be returned through
    has_aux=True.
    """

    def loss(x):  # here
        return {"loss": x.sum(), "norm": (x**2).sum()}

    ft.value_and_grad(loss)(np.ones(3))


@misuse(TransformTypeError)
def grad_of_nothing():
    """
    grad: the function must return a scalar, but it returned None (loss at HERE). Is a return
    statement missing?
    """

    def loss(x):  # here
        x.sum()

    ft.grad(loss)(np.ones(3))


@misuse(TransformTypeError)
def grad_of_a_string():
    """
    grad: the function must return arrays, numbers or containers of them, but it returned the str
    '1.0' (loss at HERE). Other things can be returned through has_aux=True, where the transform
    has it.
    """

    def loss(x):  # here
        return f"{x}"

    ft.grad(loss)(1.0)


@misuse(TransformTypeError)
def grad_of_an_index():
    """
    grad: the function must return a floating scalar, but it returned i64[] (best at HERE), which
    has no derivative. Return it through has_aux=True, beside the value to differentiate.
    """

    def best(x):  # here
        return x.argmax()

    ft.grad(best)(np.ones(3))


@misuse(TransformTypeError)
def grad_of_a_complex_result():
    """
    grad: the function must return a real scalar, but it returned c128[] (loss at HERE). Take its
    real part or its absolute value, or give holomorphic=True.
    """

    def loss(x):  # here
        return x * 1j

    ft.grad(loss)(2.0)


@misuse(TransformTypeError)
def holomorphic_with_real_arguments():
    """
    grad: holomorphic=True needs complex arguments, but argument 0 (x) of f is the float 2.0 (in
    holomorphic_with_real_arguments at HERE). Convert it with .astype(complex), or drop
    holomorphic.
    """

    def f(x):
        return x**2

    ft.grad(f, holomorphic=True)(2.0)  # here


@misuse(TransformTypeError)
def jacrev_of_a_complex_result():
    """
    jacrev: the result of f is c128[2] (f at HERE), and reverse mode with complex results needs
    holomorphic=True. For a function that is not holomorphic take jacrev of its real and imaginary
    parts.
    """

    def f(x):  # here
        return x * 1j

    ft.jacrev(f)(np.ones(2))


@misuse(TransformTypeError)
def hessian_of_complex_arguments():
    """
    hessian: argument 0 (z) of f is c128[2], and forward mode with complex arguments needs
    holomorphic=True (in hessian_of_complex_arguments at HERE). For a real function of complex
    arguments differentiate by their parts.
    """

    def f(z):
        return np.sum((z * np.conj(z)).real)

    ft.hessian(f)(np.ones(2, complex))  # here


@misuse(TransformTypeError)
def jacfwd_of_complex_arguments():
    """
    jacfwd: argument 0 (z) of f is c128[2], and forward mode with complex arguments needs
    holomorphic=True (in jacfwd_of_complex_arguments at HERE). For a real function of complex
    arguments use jacrev.
    """

    def f(z):
        return z * z

    ft.jacfwd(f)(np.ones(2, complex))  # here


@misuse(TransformTypeError)
def jacobian_of_an_integer_result():
    """
    jacrev: the result['order'] of f is i64[2] (f at HERE), and only floating results have
    derivatives. Return it through has_aux=True.
    """

    def f(x):  # here
        return {"value": x, "order": np.argsort(x)}

    ft.jacrev(f)(np.ones(2))


@misuse(TransformTypeError)
def grad_by_an_integer_array():
    """
    grad: argument 0 (params)['w'] of loss is i64[3], and derivatives exist with respect to
    floating values only (in grad_by_an_integer_array at HERE). Convert it with .astype(float), or
    leave it out of argnums.
    """

    def loss(params, x):
        return (params["w"] * x).sum()

    ft.grad(loss)({"w": np.array([1, 2, 3])}, np.ones(3))  # here


@misuse(TransformTypeError)
def grad_by_a_bool():
    """
    grad: argument 1 (training) of loss is the bool True, and derivatives exist with respect to
    floating values only (in grad_by_a_bool at HERE). Convert it with .astype(float), or leave it
    out of argnums.
    """

    def loss(x, training):
        return x if training else 2 * x

    ft.grad(loss, argnums=(0, 1))(1.0, True)  # here


@misuse(TransformTypeError)
def grad_by_a_string():
    """
    grad: argument 0 (params)['activation'] of loss is the str 'relu', but only arrays and numbers
    (or containers of them) can be traced (in grad_by_a_string at HERE). Let the function capture
    it, or leave it out of what is traced (argnums of derivatives, None in in_axes of vmap,
    static_argnums of jit).
    """

    def loss(params):
        return params["w"].sum()

    ft.grad(loss)({"w": np.ones(2), "activation": "relu"})  # here


@misuse(TransformTypeError)
def grad_by_an_object():
    """
    grad: argument 0 (model) of loss is an object of type Model, but only arrays and numbers (or
    containers of them) can be traced (in grad_by_an_object at HERE). Let the function capture it,
    or leave it out of what is traced (argnums of derivatives, None in in_axes of vmap,
    static_argnums of jit).
    """

    class Model:
        weight = 1.0

    def loss(model):
        return model.weight**2

    ft.grad(loss)(Model())  # here


@misuse(DtypeError)
def grad_by_an_object_array():
    """
    grad: argument 0 (x) of loss has the dtype object, which functrans does not have (in
    grad_by_an_object_array at HERE). Convert it with .astype to bool, an integer of 8 to 64 bits,
    float16, float32, float64, complex64 or complex128.
    """

    def loss(x):
        return x.sum()

    ft.grad(loss)(np.array([1.0, None], dtype=object))  # here


@misuse(DtypeError)
def grad_by_a_masked_array():
    """
    grad: argument 0 (x) of loss is a MaskedArray, whose operations differ from those of arrays (in
    grad_by_a_masked_array at HERE). Pass numpy.asarray(x), with a mask as an argument of its own.
    """

    def loss(x):
        return x.sum()

    ft.grad(loss)(np.ma.masked_invalid([1.0, np.nan]))  # here


@misuse(UnsupportedError)
def a_captured_masked_array():
    """
    mul: an operand is a MaskedArray, whose operations differ from those of arrays (in loss at
    HERE). Pass numpy.asarray(x), with a mask as an array of its own.
    """
    data = np.ma.masked_invalid([1.0, np.nan])

    def loss(x):
        return (x * data).sum()  # here

    ft.grad(loss)(1.0)


@misuse(DtypeError)
def grad_by_a_matrix():
    """
    grad: argument 0 (x) of loss is a matrix, whose operations differ from those of arrays (in
    grad_by_a_matrix at HERE). Pass numpy.asarray(x), with a mask as an argument of its own.
    """

    def loss(x):
        return (x * x).sum()

    ft.grad(loss)(matrix([[1.0, 2.0]]))  # here


@misuse(UnsupportedError)
def a_captured_matrix():
    """
    mul: an operand is a matrix, whose operations differ from those of arrays (in loss at HERE).
    Pass numpy.asarray(x), with a mask as an array of its own.
    """
    data = matrix([[1.0, 2.0], [3.0, 4.0]])

    def loss(x):
        return (x * data).sum()  # here

    ft.grad(loss)(np.ones((2, 2)))


@misuse(DtypeError)
def grad_by_long_doubles():
    """
    grad: argument 0 (x) of loss has the dtype float128, which functrans does not have (in
    grad_by_long_doubles at HERE). Convert it with .astype to bool, an integer of 8 to 64 bits,
    float16, float32, float64, complex64 or complex128.
    """

    def loss(x):
        return x.sum()

    ft.grad(loss)(np.ones(2, np.longdouble))  # here


@misuse(TransformTypeError)
def argnums_out_of_range():
    """
    grad: argnums=2 asks for an argument that loss was not given: it was called with 2 positional
    arguments (loss at HERE). Positions count from 0; keyword arguments are chosen by name.
    """

    def loss(w, x):  # here
        return (w * x).sum()

    ft.grad(loss, argnums=2)(np.ones(2), np.ones(2))


@misuse(TransformTypeError)
def argnums_given_twice():
    """grad: argnums=(0, -2) names argument 0 (w) twice (loss at HERE). Name each argument once."""

    def loss(w, x):  # here
        return (w * x).sum()

    ft.grad(loss, argnums=(0, -2))(np.ones(2), np.ones(2))


@misuse(TransformTypeError)
def argnums_of_an_unknown_name():
    """
    grad: argnums='weights' is not an argument that loss was called with (loss at HERE). Its
    arguments were w, x.
    """

    def loss(w, x):  # here
        return (w * x).sum()

    ft.grad(loss, argnums="weights")(np.ones(2), np.ones(2))


@misuse(TransformTypeError)
def argnums_that_is_a_float():
    """grad: argnums must be ints or argument names, but got the float 1.0 (loss at HERE)."""

    def loss(w, x):  # here
        return (w * x).sum()

    ft.grad(loss, argnums=1.0)(np.ones(2), np.ones(2))


@misuse(TransformTypeError)
def argnums_that_is_empty():
    """
    grad: argnums is empty, so that there is nothing to differentiate by (loss at HERE). Give the
    position or the name of at least one argument.
    """

    def loss(w, x):  # here
        return (w * x).sum()

    ft.grad(loss, argnums=())(np.ones(2), np.ones(2))


@misuse(TransformTypeError)
def no_arguments_at_all():
    """
    grad: argnums=0 asks for an argument that loss was not given: it was called with 0 positional
    arguments (loss at HERE). Positions count from 0; keyword arguments are chosen by name.
    """

    def loss(w=1.0):  # here
        return w**2

    ft.grad(loss)()


@misuse(TransformTypeError)
def unused_argument():
    """
    grad: the result does not depend on argument 0 (params)['bias'] of loss (loss at HERE), and
    unused='error' was asked for. Leave it out of argnums, or use unused='zeros'.
    """

    def loss(params, x):  # here
        return (params["w"] * x).sum()

    ft.grad(loss, unused="error")({"w": np.ones(2), "bias": np.ones(2)}, np.ones(2))


@misuse(TransformTypeError)
def unused_of_another_word():
    """
    grad: unused must be 'zeros' or 'error', but got the str 'none' (in unused_of_another_word at
    HERE).
    """

    def loss(w):
        return w**2

    ft.grad(loss, unused="none")(1.0)  # here


@misuse(TransformTypeError)
def has_aux_without_a_pair():
    """
    grad: with has_aux=True the function must return (result, aux), but it returned f64[] (loss at
    HERE). Return a tuple of two, or drop has_aux.
    """

    def loss(w):  # here
        return w**2

    ft.grad(loss, has_aux=True)(1.0)


@misuse(TransformTypeError)
def has_aux_forgotten():
    """
    grad: the function must return a scalar, but it returned (f64[], {'w': f64[]}) (loss at HERE).
    Return one number, or give has_aux=True if the second one needs no derivative.
    """

    def loss(w):  # here
        return w**2, {"w": w}

    ft.grad(loss)(1.0)


@misuse(TransformTypeError)
def grad_of_a_result():
    """
    grad takes a function, but got the float 1.0 (in grad_of_a_result at HERE). Give it the
    function itself and call the result: grad(f)(x).
    """

    def loss(w):
        return w**2

    ft.grad(loss(1.0))  # here


@misuse(TypeError)
def a_missing_argument():
    """a_missing_argument.<locals>.loss() missing 1 required positional argument: 'x'"""

    def loss(w, x):
        return (w * x).sum()

    ft.grad(loss)(1.0)


@misuse(TreeError)
def an_argument_that_contains_itself():
    """
    flatten: the tree is nested too deeply, or contains itself (in an_argument_that_contains_itself
    at HERE).
    """

    def loss(params):
        return params[0]

    params = [1.0]
    params.append(params)
    ft.grad(loss)(params)  # here
