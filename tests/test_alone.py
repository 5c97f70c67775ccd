"""Every feature works in a process that has used no other, whatever is imported on demand."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

HEAD = """
import os, sys, traceback
from concurrent.futures import ThreadPoolExecutor
import numpy as np
import functrans as ft
x = np.array([0.5, -0.3, 1.2])
m = np.array([[2.0, 0.3], [0.3, 1.5]])

def agree(found, wanted):
    np.testing.assert_allclose(found, wanted, rtol=1e-5, atol=1e-8)

def slope(f, x, h=1e-6):
    '''By differences, of f without functrans.'''
    e = np.eye(x.size).reshape(x.size, *x.shape)
    return np.array([(f(x + h * d) - f(x - h * d)) / (2 * h) for d in e]).reshape(x.shape)

def graded(f, x=x, plain=None):
    '''The gradient of f, interpreted and compiled, against differences.'''
    wanted = slope(plain or f, x)
    agree(ft.grad(f)(x), wanted)
    agree(ft.jit(ft.grad(f))(x), wanted)
    agree(ft.grad(ft.jit(f))(x), wanted)
"""

PROGRAMS = {
    "elementwise": "graded(lambda x: np.sum(np.sin(x) * np.exp(x)))",
    "special": """
from math import gamma, lgamma
from functrans.scipy import special
graded(lambda x: special.gammaln(x + 3).sum(), plain=lambda x: sum(map(lgamma, x + 3)))""",
    "sort": "graded(lambda x: np.sum(np.sort(x) * np.arange(3)))",
    "cumsum": "graded(lambda x: np.sum(np.cumsum(x) ** 2))",
    "cumprod": "graded(lambda x: np.sum(np.cumprod(x) ** 2))",
    "top_k": "agree(ft.jit(lambda x: ft.lax.top_k(x, 2)[0])(x), [1.2, 0.5])",
    "pad": "graded(lambda x: np.sum(np.pad(x, 2, mode='wrap') ** 3))",
    "pool": """
pooled = lambda x: ft.lax.reduce_window(x, -np.inf, ft.lax.max, (2,), (1,), 'VALID').sum()
graded(pooled, plain=lambda x: np.maximum(x[1:], x[:-1]).sum())""",
    "conv": """
k = np.array([0.5, -1.0])
conv = lambda x: (ft.lax.conv(x[None, None], k[None, None], (1,), 'VALID') ** 2).sum()
graded(conv, plain=lambda x: ((x[:-1] * k[0] + x[1:] * k[1]) ** 2).sum())""",
    "gather": "graded(lambda x: np.sum(x[np.array([0, 2, 2])] ** 2))",
    "scatter": """
graded(lambda x: (ft.numpy.zeros(4).at[np.array([1, 1, 3])].add(x) ** 2).sum(),
       plain=lambda x: (x[0] + x[1]) ** 2 + x[2] ** 2)""",
    "product": "graded(lambda x: np.sum(np.tanh(np.outer(x, x) @ x)))",
    "solve": "graded(lambda a: np.linalg.solve(a, np.ones(2)).sum(), m)",
    "large_solve": """
large = np.eye(40) + 0.01 * np.arange(1600).reshape(40, 40) % 0.07
graded(lambda b: np.linalg.solve(large, b).sum(), np.ones(40))""",
    "determinants": "graded(lambda a: np.linalg.slogdet(a)[1] + np.linalg.inv(a).sum(), m)",
    "cholesky": "graded(lambda a: np.linalg.cholesky(a @ a.T).sum(), m)",
    "eigenvalues": "graded(lambda a: (np.linalg.eigvalsh(a + a.T) ** 3).sum(), m)",
    "cond": """
graded(lambda x: ft.lax.cond(x[0] > 0, lambda y: (y ** 2).sum(), lambda y: y.sum(), x),
       plain=lambda x: (x ** 2).sum())""",
    "switch": """
graded(lambda x: ft.lax.switch(1, [np.sum, lambda y: (y ** 3).sum()], x),
       plain=lambda x: (x ** 3).sum())""",
    "scan": """
step = lambda c, a: (np.sin(c) + a, c)
def plain(x):
    c = 0.1
    for a in x:
        c = np.sin(c) + a
    return c
graded(lambda x: ft.lax.scan(step, 0.1, x)[0], plain=plain)""",
    "fori_loop": """
graded(lambda x: ft.lax.fori_loop(0, 3, lambda i, c: np.sin(c) * x[i], 1.0),
       plain=lambda x: np.sin(np.sin(np.sin(1.0) * x[0]) * x[1]) * x[2])""",
    "while_loop": """
graded(lambda x: ft.lax.while_loop(lambda c: c < 9, lambda c: 2 * c, x[0] ** 2),
       plain=lambda x: x[0] ** 2 * 64)""",
    "while_forward": """
f = lambda a: ft.lax.while_loop(lambda c: c < 9, lambda c: c * c, a)
agree(ft.jvp(f, (2.0,), (1.0,)), (16.0, 32.0))
agree(ft.jit(ft.vmap(f))(np.array([2.0, 4.0])), [16.0, 16.0])
agree(ft.jacfwd(ft.grad(f))(2.0), 48.0)""",
    "associative_scan": """
graded(lambda x: ft.lax.associative_scan(np.multiply, x).sum(),
       plain=lambda x: np.cumprod(x).sum())""",
    "memory": """
body = lambda i, c: np.sin(c) * x
f = lambda y: ft.lax.fori_loop(0, 20, body, y).sum()
agree(ft.grad(f, memory=2000)(x), ft.grad(f)(x))""",
    "checkpoint": """
sines = lambda x: np.sum(np.sin(np.sin(x)))
graded(ft.checkpoint(sines), plain=sines)""",
    "custom_jvp": """
@ft.custom_jvp
def f(x): return np.sum(x ** 2)
f.defjvp(lambda primals, tangents: (f(*primals), np.sum(3 * tangents[0])))
agree(ft.jit(ft.grad(f))(x), [3, 3, 3])
agree(ft.jit(lambda x: ft.jvp(f, (x,), (x,))[1])(x), 3 * x.sum())""",
    "custom_vjp": """
@ft.custom_vjp
def f(x): return np.sum(x ** 2)
f.defvjp(lambda x: (f(x), None), lambda res, bar: (bar * np.full(3, 5.0),))
agree(ft.jit(ft.grad(f))(x), [5, 5, 5])
agree(ft.jit(lambda x: ft.jvp(f, (x,), (np.ones(3),))[1])(x), 15)""",
    "custom_root": """
f = lambda a: ft.lax.custom_root(lambda y: y ** 2 - a, 1.0, lambda g, y: np.sqrt(a),
                              lambda g, y: y / g(1.0))
agree(ft.jit(ft.grad(f))(4.0), 0.25)""",
    "linear_solve": """
def f(b):
    return ft.lax.custom_linear_solve(lambda v: m @ v, b, lambda mv, v: np.linalg.solve(m, v),
                                   symmetric=True).sum()
graded(f, x[:2], plain=lambda b: np.linalg.solve(m, b).sum())""",
    "pure_callback": """
f = lambda x: ft.pure_callback(np.sinc, ft.ShapeDtypeStruct((3,), np.float64), x,
                               derivative='finite_differences').sum()
graded(f, plain=lambda x: np.sinc(x).sum())""",
    "io_callback": """
seen = []
def f(x):
    ft.io_callback(lambda v: seen.append(float(v)), None, x.sum())
    return x * 2
agree(ft.jit(f)(x), 2 * x)
assert seen == [x.sum()]""",
    "debug": """
seen = []
def f(x):
    ft.debug.callback(lambda v: seen.append(float(v)), x.sum())
    return (x * x).sum()
agree(ft.jit(ft.grad(f))(x), 2 * x)
assert seen == [x.sum()]""",
    "vmap": """
slopes = ft.jit(ft.vmap(ft.grad(lambda a, b: np.sin(a * b)), (0, None)))
agree(slopes(x, 2.0), 2 * np.cos(2 * x))""",
    "collective": """
agree(ft.vmap(lambda a: a / ft.lax.psum(a, 'i'), axis_name='i')(x), x / x.sum())""",
    "hessian": "agree(ft.jit(ft.hessian(lambda x: np.sum(x ** 3)))(x), np.diag(6 * x))",
    "jacobians": """
agree(ft.jacfwd(np.sin)(x), np.diag(np.cos(x)))
agree(ft.jit(ft.jacrev(np.sin))(x), np.diag(np.cos(x)))""",
    "vjp": "agree(ft.vjp(np.sin, x)[1](x)[0], x * np.cos(x))",
    "linearize": "agree(ft.linearize(np.sin, x)[1](x), x * np.cos(x))",
    "transpose": "agree(ft.linear_transpose(lambda v: 3 * v, x)(x)[0], 3 * x)",
    "taylor": "agree(ft.derivative(np.exp, 5)(0.3), np.exp(0.3))",
    "taylor_loop": """
f = lambda a: ft.lax.fori_loop(0, 2, lambda i, c: np.exp(c) / 3, a)
agree(ft.jit(lambda a: ft.derivative(ft.jit(f), 2)(a))(0.1), ft.grad(ft.grad(f))(0.1))""",
    "laplacian": "agree(ft.jit(ft.laplacian(lambda x: np.sum(x ** 4)))(x), 12 * np.sum(x ** 2))",
    "no_grad": "agree(ft.grad(lambda x: np.sum(x * ft.stop_gradient(x)))(x), x)",
    "make_jaxpr": "assert 'sin' in str(ft.make_jaxpr(np.sin)(1.0))",
    "eval_shape": "assert ft.eval_shape(np.sin, x).shape == (3,)",
    "report": "ft.jit(lambda x: np.sort(x).sum()).lower(x).compile().compile_report()",
    "texts": """
compiled = ft.jit(lambda x: np.sin(x).sum()).lower(x).compile()
assert all(compiled.as_text(s) for s in ('jaxpr', 'loops', 'llvm', 'asm'))""",
    "random": "assert ft.jit(lambda k: ft.random.normal(k, (2,)))(ft.random.key(0)).shape == (2,)",
    "optim": "assert callable(ft.optim.adam(1e-3).update)",
}

TAIL = """
def run(program):
    try:
        exec(program, dict(globals()))
        return 0
    except BaseException:
        traceback.print_exc()
        return 1

def run_together(programs):
    '''At the same time, so that threads ask for the same imports.'''
    with ThreadPoolExecutor(len(programs)) as pool:
        return sum(pool.map(run, programs))

failed = []
jobs = [(name, run, program) for name, program in PROGRAMS.items()]
for name, job, given in [*jobs, ("together", run_together, list(PROGRAMS.values()))]:
    child = os.fork()
    if child == 0:
        os._exit(min(job(given), 1))
    if os.waitpid(child, 0)[1]:
        failed.append(name)
print(*failed)
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="each program has a process of its own")
@pytest.mark.parametrize("cache", ["off", pytest.param("on", marks=pytest.mark.full)])
def test_each_feature_alone(cache: str, tmp_path: object) -> None:
    """Forked from a process that has done nothing but import; with `on` the disk has them all."""
    environment = os.environ | {"FUNCTRANS_CACHE": cache, "FUNCTRANS_CACHE_DIR": str(tmp_path)}
    script = f"{HEAD}\nPROGRAMS = {PROGRAMS!r}\n{TAIL}"
    for _ in range(1 + (cache == "on")):
        done = subprocess.run(
            [sys.executable, "-c", script],
            env=environment,
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        assert done.stdout.split() == [], done.stderr
