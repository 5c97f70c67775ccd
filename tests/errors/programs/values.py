"""Misuses of a traced value: lost derivatives, leaks, threads, values that are asked for."""

from __future__ import annotations

import json
import math
import threading

import numpy as np

import functrans as ft
from functrans.errors import (
    ConcretizationError,
    LeakedTracerError,
    OutOfBoundsError,
    ThreadError,
    TransformTypeError,
    UnsupportedError,
)
from tests.errors.pins import misuse


@misuse(ConcretizationError)
def a_function_of_math():
    """
    float(x) of a traced f64[] that carries a derivative would silently lose it (in loss at HERE).
    Use NumPy's functions in place of math's (np.sin(x)), and functrans.numpy to make arrays of it
    (fnp.array([x, y]), fnp.zeros(n)), or say that no derivative is wanted: x.item() or
    functrans.stop_gradient(x).
    """

    def loss(x):
        return math.sin(x)  # here

    ft.grad(loss)(1.0)


@misuse(ConcretizationError)
def float_of_a_traced_value():
    """
    float(x) of a traced f64[] that carries a derivative would silently lose it (in loss at HERE).
    Use NumPy's functions in place of math's (np.sin(x)), and functrans.numpy to make arrays of it
    (fnp.array([x, y]), fnp.zeros(n)), or say that no derivative is wanted: x.item() or
    functrans.stop_gradient(x).
    """

    def loss(x):
        return float(x) * 2  # here

    ft.grad(loss)(1.0)


@misuse(ConcretizationError)
def complex_of_a_traced_value():
    """
    complex(x) of a traced f64[] that carries a derivative would silently lose it (in loss at
    HERE). Use NumPy's functions in place of math's (np.sin(x)), and functrans.numpy to make arrays
    of it (fnp.array([x, y]), fnp.zeros(n)), or say that no derivative is wanted: x.item() or
    functrans.stop_gradient(x).
    """

    def loss(x):
        return abs(complex(x, 1))  # here

    ft.grad(loss)(1.0)


@misuse(ConcretizationError, wrapped=ValueError)
def a_store_into_a_plain_array():
    """
    float(x) of a traced f64[] that carries a derivative would silently lose it (in loss at HERE).
    Use NumPy's functions in place of math's (np.sin(x)), and functrans.numpy to make arrays of it
    (fnp.array([x, y]), fnp.zeros(n)), or say that no derivative is wanted: x.item() or
    functrans.stop_gradient(x).
    """

    def loss(x):
        y = np.zeros(2)
        y[0] = x  # here
        return y.sum()

    ft.grad(loss)(1.0)


@misuse(ConcretizationError)
def a_slice_stored_into_a_plain_array():
    """
    a plain array of a traced f64[2] that carries a derivative would silently lose it (in loss at
    HERE). Use functrans.numpy to make arrays of it (fnp.array([x, y]), fnp.zeros(n), fnp.stack),
    or say that no derivative is wanted: x.item() or functrans.stop_gradient(x).
    """

    def loss(x):
        y = np.zeros(4)
        y[1:3] = x  # here
        return y.sum()

    ft.grad(loss)(np.ones(2))


@misuse(ConcretizationError)
def a_plain_array_of_traced_values():
    """
    a plain array of a traced f64[] that carries a derivative would silently lose it (in loss at
    HERE). Use functrans.numpy to make arrays of it (fnp.array([x, y]), fnp.zeros(n), fnp.stack),
    or say that no derivative is wanted: x.item() or functrans.stop_gradient(x).
    """

    def loss(x):
        y = np.array([x, 2 * x])  # here
        return y.sum()

    ft.grad(loss)(1.0)


@misuse(ConcretizationError, wrapped=ValueError)
def fromiter_of_traced_values():
    """
    float(x) of a traced f64[] that carries a derivative would silently lose it (in loss at HERE).
    Use NumPy's functions in place of math's (np.sin(x)), and functrans.numpy to make arrays of it
    (fnp.array([x, y]), fnp.zeros(n)), or say that no derivative is wanted: x.item() or
    functrans.stop_gradient(x).
    """

    def loss(x):
        y = np.fromiter((x * i for i in range(3)), float)  # here
        return y.sum()

    ft.grad(loss)(1.0)


@misuse(ConcretizationError)
def a_plain_array_in_forward_mode():
    """
    a plain array of a traced f64[2] that carries a derivative would silently lose it (in f at
    HERE). Use functrans.numpy to make arrays of it (fnp.array([x, y]), fnp.zeros(n), fnp.stack),
    or say that no derivative is wanted: x.item() or functrans.stop_gradient(x).
    """

    def f(x):
        return np.asarray(x)  # here

    ft.jvp(f, (np.ones(2),), (np.ones(2),))


@misuse(ConcretizationError)
def a_list_of_traced_values_for_scipy():
    """
    a plain array of a traced f64[] that carries a derivative would silently lose it (in loss at
    HERE). Use functrans.numpy to make arrays of it (fnp.array([x, y]), fnp.zeros(n), fnp.stack),
    or say that no derivative is wanted: x.item() or functrans.stop_gradient(x).
    """
    from scipy.special import j0

    def loss(x):
        return j0([x, x]).sum()  # here

    ft.grad(loss)(1.0)


@misuse(UnsupportedError)
def a_function_of_scipy():
    """
    the ufunc j0 is not supported on values that are being traced (in loss at HERE). See
    functrans.numpy for what is; for a value that needs no derivative, pass
    numpy.asarray(functrans.stop_gradient(x)).
    """
    from scipy.special import j0

    def loss(x):
        return j0(x)  # here

    ft.grad(loss)(1.0)


@misuse(TypeError)
def text_of_a_traced_array_in_json():
    """Object of type Tracer is not JSON serializable"""

    def loss(x):
        json.dumps({"x": x})
        return x.sum()

    ft.grad(loss)(np.ones(2))


kept = []


@misuse(LeakedTracerError)
def a_leak_through_a_global():
    """
    a traced f64[] of grad was used after the trace had ended (in a_leak_through_a_global at HERE).
    Return what is needed later (grad: has_aux=True) instead of keeping it in a global, an
    attribute, a generator or a list outside.
    """
    kept.clear()

    def loss(x):
        kept.append(x * 2)
        return x * x

    ft.grad(loss)(1.0)
    kept[0] + 1  # here


@misuse(LeakedTracerError)
def a_leak_through_an_attribute():
    """
    a traced f64[2] of grad was used after the trace had ended (in a_leak_through_an_attribute at
    HERE). Return what is needed later (grad: has_aux=True) instead of keeping it in a global, an
    attribute, a generator or a list outside.
    """

    class Model:
        activation = None

        def loss(self, w):
            self.activation = np.tanh(w)
            return self.activation.sum()

    model = Model()
    ft.grad(model.loss)(np.ones(2))
    np.sum(model.activation)  # here


@misuse(LeakedTracerError)
def a_leak_through_a_generator():
    """
    a traced f64[] of grad was used after the trace had ended (in batches at HERE). Return what is
    needed later (grad: has_aux=True) instead of keeping it in a global, an attribute, a generator
    or a list outside.
    """

    def batches(x):
        for i in range(3):
            yield x * i  # here

    feed = []

    def loss(x):
        feed.append(batches(x))
        return next(feed[0]) + x

    ft.grad(loss)(1.0)
    next(feed[0])


@misuse(LeakedTracerError)
def a_leak_that_is_printed():
    """
    a traced f64[] of grad was used after the trace had ended (in a_leak_that_is_printed at HERE).
    Return what is needed later (grad: has_aux=True) instead of keeping it in a global, an
    attribute, a generator or a list outside.
    """
    kept.clear()

    def loss(x):
        kept.append(x * 2)
        return x * x

    ft.grad(loss)(1.0)
    str(kept[0])  # here


@misuse(LeakedTracerError)
def a_leak_of_a_mapped_value():
    """
    a traced f64[] of vmap was used after the trace had ended (in a_leak_of_a_mapped_value at
    HERE). Return what is needed later (grad: has_aux=True) instead of keeping it in a global, an
    attribute, a generator or a list outside.
    """
    kept.clear()

    def f(x):
        kept.append(x)
        return 2 * x

    ft.vmap(f)(np.ones(3))
    bool(kept[0] > 0)  # here


@misuse(LeakedTracerError)
def a_leak_into_another_trace():
    """
    a traced f64[] of grad was used after the trace had ended (in second at HERE). Return what is
    needed later (grad: has_aux=True) instead of keeping it in a global, an attribute, a generator
    or a list outside.
    """
    kept.clear()

    def first(x):
        kept.append(x)
        return x * x

    def second(x):
        return x * kept[0]  # here

    ft.grad(first)(1.0)
    ft.grad(second)(1.0)


@misuse(LeakedTracerError)
def a_leak_from_an_inner_function():
    """
    a traced f64[] of grad was used after the trace had ended (in loss at HERE). Return what is
    needed later (grad: has_aux=True) instead of keeping it in a global, an attribute, a generator
    or a list outside.
    """

    def loss(x):
        held = []

        def inner(y):
            held.append(y * x)
            return y * x

        ft.grad(inner)(x)
        return held[0] + x  # here

    ft.grad(loss)(1.0)


@misuse(LeakedTracerError)
def a_leak_in_the_result_of_another_call():
    """
    a traced f64[] of grad was used after the trace had ended (in loss at HERE). Return what is
    needed later (grad: has_aux=True) instead of keeping it in a global, an attribute, a generator
    or a list outside.
    """
    held = []

    def loss(x):
        held.append(x)
        return held[0] * held[-1]  # here

    gradient = ft.grad(loss)
    gradient(1.0)
    gradient(1.0)


def in_a_thread(f):
    """What f raises in a thread of its own, raised here."""
    errors = []

    def run():
        try:
            f()
        except Exception as error:
            errors.append(error)

    thread = threading.Thread(target=run)
    thread.start()
    thread.join()
    raise errors[0]


@misuse(ThreadError)
def a_traced_value_in_another_thread():
    """
    a traced f64[] of grad was used in another thread than the one that traces (in work at HERE).
    Pass plain arrays to threads, and apply the transform inside the thread.
    """

    def loss(x):
        def work():
            return x * 2  # here

        in_a_thread(work)
        return x

    ft.grad(loss)(1.0)


@misuse(ThreadError)
def a_traced_value_asked_for_in_another_thread():
    """
    a traced f64[] of grad was used in another thread than the one that traces (in work at HERE).
    Pass plain arrays to threads, and apply the transform inside the thread.
    """

    def loss(x):
        def work():
            return x > 0 and x.item()  # here

        in_a_thread(work)
        return x

    ft.grad(loss)(1.0)


@misuse(ThreadError)
def a_captured_value_in_another_thread():
    """
    a traced f64[] of grad was used in another thread than the one that traces (in <lambda> at
    HERE). Pass plain arrays to threads, and apply the transform inside the thread.
    """

    def loss(x):
        def work():
            return ft.grad(lambda y: y * x)(1.0)  # here

        in_a_thread(work)
        return x

    ft.grad(loss)(1.0)


def frozen(x):
    with ft.no_grad():  # here
        yield x * x
    yield x


@misuse(TransformTypeError)
def enable_grad_of_a_number():
    """
    enable_grad takes a function or nothing, but got the float 3.0 (in enable_grad_of_a_number at
    HERE). Write enable_grad(f)(x), or `with enable_grad():`.
    """
    ft.enable_grad(3.0)  # here


@misuse(TransformTypeError)
def no_grad_left_in_another_transform():
    """
    no_grad was left inside another transform than it was entered in, as a generator suspended in
    the middle of the block does (in frozen at HERE). Close the block first.
    """

    def loss(x):
        feed = frozen(x)
        first = next(feed)
        return first + ft.grad(lambda y: y * next(feed))(x)

    ft.grad(loss)(1.0)


@misuse(TransformTypeError)
def no_grad_in_a_suspended_generator():
    """
    grad: a no_grad block that the function entered was not left, as in a generator that is
    suspended in it (in no_grad_in_a_suspended_generator at HERE). Finish the block before the
    function returns.
    """
    feeds = []

    def loss(x):
        feeds.append(frozen(x))
        return next(feeds[0]) + x * x

    ft.grad(loss)(1.0)  # here


@misuse(OutOfBoundsError)
def a_float_as_an_index():
    """
    only integers, slices (`:`), ellipsis (`...`), numpy.newaxis (`None`) and integer or boolean
    arrays are valid indices, but got f64[] (in loss at HERE). Convert a float with int(i), an
    array of them with astype(int).
    """

    def loss(x, i):
        return x[i]  # here

    ft.grad(loss, argnums=(0, 1))(np.ones(3), 1.0)


@misuse(UnsupportedError)
def a_float_as_a_count():
    """
    a traced f64[] cannot be an index, a size or a count, which are integers (in loss at HERE).
    Convert it with int(x), or an array with x.astype(int).
    """

    def loss(n):
        return sum(1.0 for _ in range(n))  # here

    ft.grad(loss)(3.0)


@misuse(TypeError)
def a_traced_value_as_a_key():
    """unhashable type: 'Tracer'"""

    def loss(x):
        table = {x: 1.0}
        return table[x]

    ft.grad(loss)(1.0)


@misuse(ValueError)
def the_truth_of_an_array():
    """
    The truth value of an array with more than one element is ambiguous. Use a.any() or a.all()
    """

    def loss(x):
        return x.sum() if x > 0 else 0.0

    ft.grad(loss)(np.ones(3))


@misuse(TypeError)
def a_loop_over_a_number():
    """iteration over a 0-d array"""

    def loss(x):
        return sum(part for part in x)

    ft.grad(loss)(1.0)


@misuse(ConcretizationError)
def the_floor_of_a_value_under_jit():
    """
    the value of a traced f64[] was asked for (in f at HERE), but it depends on argument 0 (x) of
    f, which has no value while jit traces the function. Use numpy.floor, numpy.ceil or
    numpy.trunc, whose results are arrays. Or make the argument static (static_argnums).
    """
    import math

    @ft.jit
    def f(x):
        return x[: math.floor(x[0])]  # here

    f(np.ones(3))


@misuse(ConcretizationError)
def a_plain_table_with_a_traced_index():
    """
    the value of a traced i64[] was asked for (in loss at HERE), but it depends on argument 1 (i)
    of loss, which has no value while jit traces the function. A plain array that is indexed by it
    must take part: fnp.array(a)[i] in place of a[i]. Use functrans.numpy to make arrays of it
    (fnp.array([x, y]), fnp.zeros(n), fnp.stack). Or make the argument static (static_argnums).
    """
    table = np.array([1.0, 2.0, 4.0])

    @ft.jit
    def loss(x, i):
        return x * table[i]  # here

    loss(2.0, 1)


@misuse(ConcretizationError)
def a_slice_of_a_traced_length():
    """
    the value of a traced i64[] was asked for (in loss at HERE), but it depends on argument 1 (n)
    of loss, which has no value while jit traces the function. Use lax.fori_loop for a loop,
    lax.dynamic_slice for a slice, fnp.array(items)[i] for an item of a list; a size must be known
    without it. Or make the argument static (static_argnums).
    """

    @ft.jit
    def loss(x, n):
        return x[:n].sum()  # here

    loss(np.ones(3), 2)


@misuse(ConcretizationError)
def an_item_of_a_list_by_a_traced_number():
    """
    the value of a traced i64[] was asked for (in loss at HERE), but it depends on argument 1 (i)
    of loss, which has no value while jit traces the function. Use lax.fori_loop for a loop,
    lax.dynamic_slice for a slice, fnp.array(items)[i] for an item of a list; a size must be known
    without it. Or make the argument static (static_argnums).
    """

    @ft.jit
    def loss(x, i):
        return [x, 2 * x, x**2][i]  # here

    loss(2.0, 1)
