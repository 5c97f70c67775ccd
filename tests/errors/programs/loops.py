"""Misuses of loops, branches and solvers: trees, types, bounds, budgets."""

from __future__ import annotations

import numpy as np

import functrans as ft
from functrans import lax
from functrans.errors import (
    BudgetError,
    ConcretizationError,
    NonLinearError,
    ShapeError,
    TransformTypeError,
    TreeError,
    UnsupportedError,
)
from tests.errors.pins import misuse


@misuse(TransformTypeError)
def a_carry_that_grows():
    """
    scan: init['b'][0] is f64[], but step returns f64[2] in its place (step at HERE). A carry keeps
    its shape: start with an array of the shape that each step leaves.
    """

    def step(c, x):  # here
        return {"a": c["a"], "b": [np.stack([c["b"][0], x])]}, None

    lax.scan(step, {"a": 1.0, "b": [0.0]}, np.ones(3))


@misuse(TreeError)
def a_carry_of_another_structure():
    """
    scan: step (step at HERE) must return a carry with the structure of the initial one, but it
    differs at ['b']: expected a leaf, but got (f64[],).
    """

    def step(c, x):  # here
        return {"a": c["a"], "b": (c["b"],)}, None

    lax.scan(step, {"a": 1.0, "b": 0.0}, np.ones(3))


@misuse(TransformTypeError)
def a_scan_without_y():
    """
    scan: step must return (carry, y), but it returned f64[] (step at HERE). Return None for y
    where there is none.
    """

    def step(c, x):  # here
        return c + x

    lax.scan(step, 0.0, np.ones(3))


@misuse(ShapeError)
def slices_of_different_numbers():
    """
    scan: xs['q'] has 4 slices where 3 are expected (step at HERE). All of xs must have one first
    axis, of the given length.
    """

    def step(c, x):  # here
        return c, x

    lax.scan(step, 0.0, {"p": np.ones(3), "q": np.ones(4)})


@misuse(ShapeError)
def slices_of_a_number():
    """
    scan: xs[1] is f64[], which has no axis to run over (step at HERE). Let the function capture
    what every step gets whole.
    """

    def step(c, x):  # here
        return c, x

    lax.scan(step, 0.0, (np.ones(3), 2.0))


@misuse(TransformTypeError)
def a_scan_of_unknown_length():
    """
    scan: xs has no leaves, so that the number of steps is not known (step at HERE). Give length=.
    """

    def step(c, x):  # here
        return c, x

    lax.scan(step, 0.0)


@misuse(ConcretizationError)
def a_value_of_a_carry():
    """
    the value of a traced bool[] was asked for (in body at HERE), but it depends on init_val, which
    has no value while fori_loop traces the function. Use functrans.numpy.where or lax.cond for a
    choice, lax.while_loop or lax.fori_loop for a loop.
    """

    def body(i, x):
        return x if x > 0 else -x  # here

    lax.fori_loop(0, 3, body, 1.0)


@misuse(TransformTypeError)
def a_fori_loop_whose_shape_changes():
    """
    fori_loop: init_val is f64[2], but body returns f64[2,2] in its place (body at HERE). A carry
    keeps its shape: start with an array of the shape that each step leaves.
    """

    def body(i, x):  # here
        return np.stack([x, x])

    lax.fori_loop(0, 3, body, np.ones(2))


@misuse(TransformTypeError)
def bounds_that_are_floats():
    """
    fori_loop: upper must be an integer, but it is the float 2.5 (in bounds_that_are_floats at
    HERE). Convert it with int(x) or .astype(int).
    """
    lax.fori_loop(0, 2.5, lambda i, x: x, 1.0)  # here


@misuse(TransformTypeError)
def a_condition_that_is_an_array():
    """
    while_loop: the predicate that positive returns must be a boolean scalar, but it is bool[3]
    (positive at HERE). Reduce it with .all() or .any().
    """

    def positive(x):  # here
        return x > 0

    lax.while_loop(positive, lambda x: x - 1, np.ones(3))


@misuse(TreeError)
def a_while_loop_that_drops_its_counter():
    """
    while_loop: body (body at HERE) must return a carry with the structure of the initial one, but
    it differs at the root: expected a tuple of length 2, but got f64[].
    """

    def body(c):  # here
        return c[1] * 2

    lax.while_loop(lambda c: c[0] < 3, body, (0, 1.0))


@misuse(TreeError)
def branches_of_different_structures():
    """
    cond: the branches must return the same structure, but yes (yes at HERE) returns {'a': f64[]}
    and no (no at HERE) {'a': f64[], 'b': f64[]}, which differs at the root: expected {'a': *}, but
    got {'a': *, 'b': *}.
    """

    def yes(x):  # here
        return {"a": x}

    def no(x):  # here
        return {"a": x, "b": x}

    lax.cond(True, yes, no, 1.0)


@misuse(TransformTypeError)
def branches_of_different_shapes():
    """
    cond: the branches must return the same shapes, but the result['a'] of yes (yes at HERE) is
    f64[3] and that of no (no at HERE) f64[]. Broadcast or reshape one of them.
    """

    def yes(x):  # here
        return {"a": x}

    def no(x):  # here
        return {"a": x[0]}

    lax.cond(True, yes, no, np.ones(3))


@misuse(TransformTypeError)
def a_predicate_that_is_an_array():
    """
    cond: the predicate must be a boolean scalar, but it is bool[2] (in
    a_predicate_that_is_an_array at HERE). Reduce it with .all() or .any().
    """
    lax.cond(np.array([True, False]), lambda x: x, lambda x: -x, 1.0)  # here


@misuse(TransformTypeError)
def operands_given_twice():
    """
    cond: operands were given both by position and as operand= (in operands_given_twice at HERE).
    Use one of the two.
    """
    lax.cond(True, lambda x: x, lambda x: -x, 1.0, operand=2.0)  # here


@misuse(TransformTypeError)
def a_switch_by_a_float():
    """
    switch: the index must be an integer scalar, but it is the float 1.0 (in a_switch_by_a_float at
    HERE). Use cond for a bool, and .astype(int) for a float.
    """
    lax.switch(1.0, [lambda x: x, lambda x: -x], 1.0)  # here


@misuse(TransformTypeError)
def a_switch_without_branches():
    """switch: there must be at least one branch (in a_switch_without_branches at HERE)."""
    lax.switch(0, [], 1.0)  # here


@misuse(TransformTypeError)
def an_unroll_below_zero():
    """scan: unroll must be a positive int or a bool, but it is the int -1 (step at HERE)."""

    def step(c, x):  # here
        return c, x

    lax.scan(step, 0.0, np.ones(3), unroll=-1)


@misuse(TransformTypeError)
def a_checkpoint_of_no_steps():
    """
    scan: checkpoint must be a bool, a positive int or 'sqrt', but it is the int 0 (step at HERE).
    """

    def step(c, x):  # here
        return c, x

    lax.scan(step, 0.0, np.ones(3), checkpoint=0)


@misuse(BudgetError)
def a_budget_that_is_too_small():
    """
    grad of loss: memory=1000 falls short by 17400 bytes: 18400 are needed at once, however many
    steps of its scans are taken again (in a_budget_that_is_too_small at HERE). Give that much, or
    keep less: smaller carries, fewer members at a time, lower precision.
    """

    def loss(x):
        return np.sum(lax.fori_loop(0, 100, lambda i, c: np.sin(c) * c, x))

    ft.grad(loss, memory=1000)(np.ones(100))  # here


@misuse(BudgetError)
def a_budget_for_a_while_loop():
    """
    grad of loss: memory= cannot be kept to, since a while_loop (or a fori_loop whose bounds are
    traced) takes a number of steps that nobody knows before (in a_budget_for_a_while_loop at
    HERE). Use scan, or fori_loop with fixed bounds.
    """

    def loss(x):
        return lax.while_loop(lambda x: x < 1e6, lambda x: x * x, x)

    ft.grad(loss, memory=10**6)(2.0)  # here


@misuse(TransformTypeError)
def a_budget_that_is_text():
    """
    grad of loss: memory must be a number of bytes, but it is the str '1GB' (in
    a_budget_that_is_text at HERE).
    """

    def loss(x):
        return x * x

    ft.grad(loss, memory="1GB")(2.0)  # here


@misuse(TransformTypeError)
def a_linear_solve_without_a_transpose():
    """
    custom_linear_solve: reverse mode solves a system with the transposed matrix (in
    a_linear_solve_without_a_transpose at HERE). Give transpose_solve, or symmetric=True where the
    matrix is its own transpose.
    """

    def solution(b):
        return lax.custom_linear_solve(lambda x: 2 * x, b, lambda matvec, b: b / 2)

    ft.grad(solution)(3.0)  # here


@misuse(NonLinearError)
def a_matvec_that_is_affine():
    """
    custom_linear_solve: matvec is affine, not linear: it adds something that is not zero (add in
    matvec at HERE). Its transpose would silently leave that out. Take the part that is linear
    only.
    """

    def matvec(x):
        return 2 * x + 1  # here

    def solution(b):
        return lax.custom_linear_solve(matvec, b, lambda matvec, b: b / 2, symmetric=True)

    ft.jit(ft.grad(solution))(3.0)


@misuse(ShapeError)
def a_solution_of_another_shape():
    """
    custom_root: solve (solve at HERE) must return the shapes it was given, but the result is
    f64[2] in the place of f64[].
    """

    def solve(f, x):  # here
        return np.stack([x, x])

    def solution(a):
        return lax.custom_root(lambda x: x - a, 1.0, solve, lambda jvp, b: b)

    ft.grad(solution)(3.0)


@misuse(UnsupportedError)
def a_collective_in_lanes_that_stop_apart():
    """
    while_loop: the body uses a collective over the axis 'i', but members of that axis stop after
    different numbers of steps (in a_collective_in_lanes_that_stop_apart at HERE). Make the
    condition the same for all, such as psum of it over the axis.
    """

    def f(x):
        return lax.while_loop(lambda c: c < 10, lambda c: c + lax.psum(c, "i"), x)

    ft.vmap(f, axis_name="i")(np.arange(3.0))  # here


@misuse(ShapeError)
def an_associative_scan_of_different_lengths():
    """
    associative_scan: the leaves of elems must be of one length along axis 0, but have [3, 4]
    (combine at HERE).
    """

    def combine(a, b):  # here
        return a

    lax.associative_scan(combine, (np.ones(3), np.ones(4)))


@misuse(TreeError)
def a_reduction_of_another_structure():
    """
    reduce: combine (combine at HERE) must return the structure of operands, but it differs at the
    root: expected a leaf, but got (f64[1], f64[1]).
    """

    def combine(a, b):  # here
        return (a, b)

    lax.reduce(np.ones(3), 0.0, combine, (0,))


@misuse(ShapeError)
def a_map_over_different_lengths():
    """
    map: all of xs must have one first axis, but there are map: xs[0] f64[3], map: xs[1] f64[4]
    (<lambda> at HERE).
    """
    lax.map(lambda x: x[0], (np.ones(3), np.ones(4)), batch_size=2)  # here
