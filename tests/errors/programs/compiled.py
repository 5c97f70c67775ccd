"""Misuses of jit: values that are not there, options, arguments."""

from __future__ import annotations

import numpy as np

import functrans as ft
import functrans.numpy as fnp
from functrans.errors import (
    ConcretizationError,
    DtypeError,
    LeakedTracerError,
    MutationError,
    StaleCaptureError,
    TransformTypeError,
)
from functrans.ops import segment_sum
from tests.errors.pins import misuse


@misuse(ConcretizationError)
def a_choice_under_jit():
    """
    the value of a traced bool[] was asked for (in relu at HERE), but it depends on argument 0 (x)
    of relu, which has no value while jit traces the function. Use functrans.numpy.where or
    lax.cond for a choice, lax.while_loop or lax.fori_loop for a loop. Or make the argument static
    (static_argnums).
    """

    @ft.jit
    def relu(x):
        if x > 0:  # here
            return x
        return 0.0

    relu(1.0)


@misuse(ConcretizationError)
def a_choice_on_a_leaf_under_jit():
    """
    the value of a traced bool[] was asked for (in f at HERE), but it depends on argument 0
    (params)['scale'] of f, which has no value while jit traces the function. Use
    functrans.numpy.where or lax.cond for a choice, lax.while_loop or lax.fori_loop for a loop. Or
    make the argument static (static_argnums).
    """

    @ft.jit
    def f(params, x):
        scale = params["scale"] * 2
        return x if scale == 1 else x * scale  # here

    f({"scale": 2.0, "bias": 1.0}, np.ones(3))


@misuse(ConcretizationError)
def a_loop_until_convergence_under_jit():
    """
    the value of a traced bool[] was asked for (in root at HERE), but it depends on argument 0 (x)
    of root, which has no value while jit traces the function. Use functrans.numpy.where or
    lax.cond for a choice, lax.while_loop or lax.fori_loop for a loop. Or make the argument static
    (static_argnums).
    """

    @ft.jit
    def root(x):
        y = x
        while abs(y * y - x) > 1e-6:  # here
            y = (y + x / y) / 2
        return y

    root(2.0)


@misuse(ConcretizationError)
def a_range_of_a_traced_number():
    """
    the value of a traced i64[] was asked for (in power at HERE), but it depends on argument 1 (n)
    of power, which has no value while jit traces the function. Use lax.fori_loop for a loop,
    lax.dynamic_slice for a slice, fnp.array(items)[i] for an item of a list; a size must be known
    without it. Or make the argument static (static_argnums).
    """

    @ft.jit
    def power(x, n):
        y = 1.0
        for _ in range(n):  # here
            y = y * x
        return y

    power(2.0, 3)


@misuse(ConcretizationError)
def a_shape_that_is_traced():
    """
    the value of a traced i64[] was asked for (in f at HERE), but it depends on argument 0 (n) of
    f, which has no value while jit traces the function. Use lax.fori_loop for a loop,
    lax.dynamic_slice for a slice, fnp.array(items)[i] for an item of a list; a size must be known
    without it. Or make the argument static (static_argnums).
    """

    @ft.jit
    def f(n):
        return np.ones(3).reshape(n, 1) * 2  # here

    f(3)


@misuse(ConcretizationError)
def a_function_of_math_under_jit():
    """
    the value of a traced f64[] was asked for (in f at HERE), but it depends on argument 0 (x) of
    f, which has no value while jit traces the function. Use NumPy's functions in place of math's
    (np.sin(x)), and functrans.numpy to make arrays of it (fnp.array([x, y]), fnp.zeros(n)). Or
    make the argument static (static_argnums).
    """
    import math

    @ft.jit
    def f(x):
        return math.exp(x)  # here

    f(1.0)


@misuse(ConcretizationError)
def a_plain_array_under_jit():
    """
    the value of a traced f64[3] was asked for (in f at HERE), but it depends on argument 0 (x) of
    f, which has no value while jit traces the function. Use functrans.numpy to make arrays of it
    (fnp.array([x, y]), fnp.zeros(n), fnp.stack). Or make the argument static (static_argnums).
    """

    @ft.jit
    def f(x):
        return np.asarray(x) * 2  # here

    f(np.ones(3))


@misuse(ConcretizationError)
def a_plain_array_of_traced_values_under_jit():
    """
    the value of a traced f64[] was asked for (in f at HERE), but it depends on argument 0 (x) of
    f, which has no value while jit traces the function. Use functrans.numpy to make arrays of it
    (fnp.array([x, y]), fnp.zeros(n), fnp.stack). Or make the argument static (static_argnums).
    """

    @ft.jit
    def f(x):
        return np.array([x, x])  # here

    f(1.0)


@misuse(ConcretizationError)
def a_mask_that_is_traced():
    """
    the value of a traced bool[3] was asked for (in positive at HERE), but it depends on argument 0
    (x) of positive, which has no value while jit traces the function. Shapes cannot depend on
    values: use fnp.where(mask, x, 0) in place of x[mask]. Or make the argument static
    (static_argnums).
    """

    @ft.jit
    def positive(x):
        return x[x > 0]  # here

    positive(np.ones(3))


@misuse(ConcretizationError)
def bincount_without_a_length_under_jit():
    """
    the value of a traced i64[3] was asked for (in <lambda> at HERE), but it depends on argument 0
    (i) of <lambda>, which has no value while jit traces the function. Give bincount the number of
    bins (length=n), or use functrans.ops.segment_sum with num_segments=n. Or make the argument
    static (static_argnums).
    """
    ft.jit(lambda i: fnp.bincount(i))(np.arange(3))  # here


@misuse(ConcretizationError)
def segments_without_a_number_under_jit():
    """
    the value of a traced i64[3] was asked for (in <lambda> at HERE), but it depends on argument 1
    (i) of <lambda>, which has no value while jit traces the function. Give segment_sum the number
    of segments (num_segments=n). Or make the argument static (static_argnums).
    """
    ft.jit(lambda x, i: segment_sum(x, i))(np.ones(3), np.arange(3))  # here


@misuse(ConcretizationError)
def repeat_without_a_length_under_jit():
    """
    the value of a traced i64[3] was asked for (in <lambda> at HERE), but it depends on argument 1
    (n) of <lambda>, which has no value while jit traces the function. Give repeat the length of
    its result (total_repeat_length=n). Or make the argument static (static_argnums).
    """
    ft.jit(lambda x, n: fnp.repeat(x, n))(np.ones(3), np.arange(3))  # here


@misuse(ConcretizationError)
def unique_under_jit():
    """
    the value of a traced f64[3] was asked for (in <lambda> at HERE), but it depends on argument 0
    (x) of <lambda>, which has no value while jit traces the function. Shapes cannot depend on
    values: sort the values (fnp.sort) and compare each with the one before it. Or make the
    argument static (static_argnums).
    """
    ft.jit(lambda x: fnp.unique(x))(np.ones(3))  # here


@misuse(ConcretizationError)
def a_range_of_traced_length():
    """
    the value of a traced i64[] was asked for (in <lambda> at HERE), but it depends on argument 0
    (n) of <lambda>, which has no value while jit traces the function. A length must be known
    without it: take the greatest, and a mask (fnp.arange(greatest) < n). Or make the argument
    static (static_argnums).
    """
    ft.jit(lambda n: fnp.arange(n))(3)  # here


@misuse(ConcretizationError)
def nonzero_under_jit():
    """
    the value of a traced bool[3] was asked for (in f at HERE), but it depends on argument 0 (x) of
    f, which has no value while jit traces the function. Shapes cannot depend on values: use
    fnp.where(mask, x, 0) in place of x[mask]. Or make the argument static (static_argnums).
    """

    @ft.jit
    def f(x):
        return np.nonzero(x)  # here

    f(np.ones(3))


@misuse(ConcretizationError)
def an_item_under_jit():
    """
    the value of a traced f64[] was asked for (in f at HERE), but it depends on argument 0 (x) of
    f, which has no value while jit traces the function. Return it from the function instead. Or
    make the argument static (static_argnums).
    """

    @ft.jit
    def f(x):
        return x.sum().item()  # here

    f(np.ones(3))


@misuse(ConcretizationError)
def an_assertion_under_jit():
    """
    the value of a traced bool[] was asked for (in f at HERE), but it depends on argument 0 (x) of
    f, which has no value while jit traces the function. Use functrans.numpy.where or lax.cond for
    a choice, lax.while_loop or lax.fori_loop for a loop. Or make the argument static
    (static_argnums).
    """

    @ft.jit
    def f(x):
        assert np.all(np.isfinite(x))  # here
        return x

    f(np.ones(3))


@misuse(ConcretizationError)
def a_choice_in_grad_of_jit():
    """
    the value of a traced bool[] was asked for (in relu at HERE), but it depends on argument 0 (x)
    of relu, which has no value while jit traces the function. Use functrans.numpy.where or
    lax.cond for a choice, lax.while_loop or lax.fori_loop for a loop. Or make the argument static
    (static_argnums).
    """

    @ft.jit
    def relu(x):
        return x if x > 0 else 0.0  # here

    ft.grad(relu)(1.0)


@misuse(TransformTypeError)
def a_static_argument_that_is_an_array():
    """
    jit: argument 1 (table) of f (f at HERE) is static, so it must be hashable, but it is f64[3].
    Pass arrays as traced arguments, lists as tuples.
    """

    def f(x, table):  # here
        return x * table.sum()

    ft.jit(f, static_argnums=1)(1.0, np.ones(3))


@misuse(TransformTypeError)
def a_static_argument_that_is_a_list():
    """
    jit: argument 'sizes' of f (f at HERE) is static, so it must be hashable, but it is [1, 2].
    Pass arrays as traced arguments, lists as tuples.
    """

    def f(x, sizes):  # here
        return x * len(sizes)

    ft.jit(f, static_argnames="sizes")(1.0, sizes=[1, 2])


@misuse(TransformTypeError)
def static_argnums_out_of_range():
    """
    jit: there is no argument 2: f takes 2 positional arguments (f at HERE). Positions count from
    0.
    """

    def f(x, n):  # here
        return x * n

    ft.jit(f, static_argnums=2)(1.0, 2)


@misuse(TransformTypeError)
def static_argnames_of_an_unknown_name():
    """jit: static_argnames='steps' is not an argument of f (f at HERE). Its arguments are x, n."""

    def f(x, n):  # here
        return x * n

    ft.jit(f, static_argnames="steps")(1.0, 2)


@misuse(TransformTypeError)
def static_argnums_that_is_a_string():
    """
    jit: static_argnums must be ints, but got the str 'n' (in static_argnums_that_is_a_string at
    HERE). Name arguments in static_argnames.
    """

    def f(x, n):
        return x * n

    ft.jit(f, static_argnums="n")(1.0, 2)  # here


@misuse(TransformTypeError)
def an_argument_both_static_and_donated():
    """
    jit: argument 0 (x) of f is both static and donated (f at HERE). Static arguments are part of
    the program: donate arrays only.
    """

    def f(x, n):  # here
        return x * n

    ft.jit(f, static_argnums=0, donate_argnums=0)(np.ones(2), 2)


@misuse(TypeError)
def jit_with_an_unknown_option():
    """jit() got an unexpected keyword argument 'backend'"""
    ft.jit(lambda x: x, backend="cpu")


@misuse(TransformTypeError)
def jit_of_a_result():
    """
    jit takes a function, but got f64[3] (in jit_of_a_result at HERE). Write jit(f)(x), not
    jit(f(x)).
    """
    ft.jit(np.ones(3))  # here


@misuse(TransformTypeError)
def jit_with_text():
    """
    jit: argument 1 (kind) of f is the str 'relu', but only arrays and numbers (or containers of
    them) can be traced (in jit_with_text at HERE). Let the function capture it, or leave it out of
    what is traced (argnums of derivatives, None in in_axes of vmap, static_argnums of jit).
    """

    def f(x, kind):
        return x

    ft.jit(f)(1.0, "relu")  # here


@misuse(DtypeError)
def jit_with_an_object_array():
    """
    jit: argument 0 (x) of f has the dtype object, which functrans does not have (in
    jit_with_an_object_array at HERE). Convert it with .astype to bool, an integer of 8 to 64 bits,
    float16, float32, float64, complex64 or complex128.
    """

    def f(x):
        return x

    ft.jit(f)(np.array([1.0, None], dtype=object))  # here


@misuse(DtypeError)
def jit_with_an_array_of_text():
    """
    jit: argument 0 (x) of f has the dtype <U1, which functrans does not have (in
    jit_with_an_array_of_text at HERE). Convert it with .astype to bool, an integer of 8 to 64
    bits, float16, float32, float64, complex64 or complex128.
    """

    def f(x):
        return x

    ft.jit(f)(np.array(["a", "b"]))  # here


@misuse(DtypeError)
def jit_with_a_masked_array():
    """
    jit: argument 0 (x) of f is a MaskedArray, whose operations differ from those of arrays (in
    jit_with_a_masked_array at HERE). Pass numpy.asarray(x), with a mask as an argument of its own.
    """

    def f(x):
        return x

    ft.jit(f)(np.ma.masked_invalid([1.0, np.nan]))  # here


@misuse(DtypeError)
def jit_with_long_doubles():
    """
    jit: argument 0 (x) of f has the dtype float128, which functrans does not have (in
    jit_with_long_doubles at HERE). Convert it with .astype to bool, an integer of 8 to 64 bits,
    float16, float32, float64, complex64 or complex128.
    """

    def f(x):
        return x[::-1]

    ft.jit(f)(np.ones(2, np.longdouble))  # here


@misuse(TransformTypeError)
def jit_that_returns_text():
    """
    jit: the function must return arrays, numbers or containers of them, but it returned the str
    'done' (f at HERE). Other things can be returned through has_aux=True, where the transform has
    it.
    """

    @ft.jit  # here
    def f(x):
        return x, "done"

    f(1.0)


kept = []


@misuse(LeakedTracerError)
def a_leak_from_jit():
    """
    a traced f64[] of jit was used after the trace had ended (in a_leak_from_jit at HERE). Return
    what is needed later (grad: has_aux=True) instead of keeping it in a global, an attribute, a
    generator or a list outside.
    """
    kept.clear()

    @ft.jit
    def f(x):
        kept.append(x * 2)
        return x

    f(1.0)
    kept[0] * 2  # here


@misuse(ValueError)
def an_unknown_stage():
    """as_text: the stage must be one of jaxpr, loops, llvm, asm, not 'mlir'"""

    def f(x):
        return x * 2

    ft.jit(f).lower(np.ones(3)).as_text("mlir")


@misuse(TypeError)
def a_missing_argument_of_jit():
    """a_missing_argument_of_jit.<locals>.f() missing 1 required positional argument: 'y'"""

    def f(x, y):
        return x * y

    ft.jit(f)(1.0)


@misuse(TransformTypeError)
def a_compiled_program_with_another_shape():
    """
    a compiled loss (loss at HERE) was called with f64[6,3] as argument 1 (x) of loss, but was
    lowered for f64[5,3]. Lower the function again for such arguments, or call what jit returned,
    which compiles for each signature.
    """

    def loss(w, x):  # here
        return ((x @ w) ** 2).sum()

    compiled = ft.jit(loss).lower(np.ones(3), np.ones((5, 3))).compile()
    compiled(np.ones(3), np.ones((6, 3)))


@misuse(TransformTypeError)
def a_compiled_program_with_another_tree():
    """
    a compiled loss (loss at HERE) was called with arguments of the tree PyTreeDef((({'b': *, 'w':
    *},), {})), but was lowered for PyTreeDef((({'w': *},), {})). Lower the function again for such
    arguments, or call what jit returned, which compiles for each signature.
    """

    def loss(params):  # here
        return (params["w"] ** 2).sum()

    ft.jit(loss).lower({"w": np.ones(3)}).compile()({"w": np.ones(3), "b": 1.0})


@misuse(TransformTypeError)
def a_compiled_program_with_another_static_argument():
    """
    a compiled power (power at HERE) was called with the static arguments (4,), but was lowered for
    (3,). Lower the function again for such arguments, or call what jit returned, which compiles
    for each signature.
    """

    def power(x, n):  # here
        return x**n

    ft.jit(power, static_argnums=1).lower(2.0, 3).compile()(2.0, 4)


@misuse(StaleCaptureError)
def a_captured_name_that_was_bound_anew():
    """
    jit: rate, which step (step at HERE) captured, was the float 0.5 when it was traced, and is the
    float 0.25 now. Its program has the value of then. Pass it as an argument, or call
    step.clear_cache() to trace again.
    """
    rate = 0.5

    @ft.jit(check_captures=True)  # here
    def step(x):
        return x * rate

    step(1.0)
    rate = 0.25
    step(1.0)


@misuse(StaleCaptureError)
def a_setting_that_was_changed():
    """
    jit: settings['rates'][0] (read by scaled), which step (step at HERE) captured, was the float
    0.5 when it was traced, and is the float 1.0 now. Its program has the value of then. Pass it as
    an argument, or call step.clear_cache() to trace again.
    """
    settings = {"rates": [0.5, 0.25]}

    def scaled(x):
        return x * settings["rates"][0]

    @ft.jit(check_captures=True)  # here
    def step(x):
        return scaled(x)

    step(1.0)
    settings["rates"][0] = 1.0
    step(1.0)


@misuse(MutationError)
def a_captured_array_that_was_resized():
    """
    jit: a captured array had shape (4,) when the function was traced, and has (2,) now (in
    a_captured_array_that_was_resized at HERE). Pass it as an argument.
    """
    scale = np.ones(4)
    step = ft.jit(lambda x: x * scale)
    step(1.0)
    scale.resize(2, refcheck=False)
    step(1.0)  # here


@misuse(TransformTypeError)
def a_check_that_is_no_bool():
    """
    jit: check_captures must be True or False, not the str 'yes' (in a_check_that_is_no_bool at
    HERE).
    """
    ft.jit(np.sin, check_captures="yes")  # here
