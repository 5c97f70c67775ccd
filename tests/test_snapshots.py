"""Printed programs, pinned: jaxprs and loop nests of a few programs that stand for many.

`.ci/run fix` rewrites the files under tests/snapshots; then read the difference.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import functrans as ft
import functrans.numpy as fnp
from functrans import lax, nn

FOLDER = Path(__file__).parent / "snapshots"
F32, F64 = np.dtype(np.float32), np.dtype(np.float64)


def struct(shape: tuple[int, ...], dtype: Any = F64) -> ft.ShapeDtypeStruct:
    return ft.ShapeDtypeStruct(shape, dtype)


def cross_entropy(w: Any, x: Any, labels: Any) -> Any:
    return -(nn.log_softmax(x @ w) * labels).sum(axis=-1).mean()


def written_in_place(x: Any) -> Any:
    out = fnp.zeros(4)
    out[1:3] = x[:2]
    out[0] += out[2]
    return out


def step_by_value(x: Any) -> Any:
    return x * x


def masked_log(x: Any) -> Any:
    return np.where(x > 0, np.log(x), 0.0).sum()


def layer_norm(x: Any, gain: Any, bias: Any) -> Any:
    centred = x - x.mean(axis=1, keepdims=True)
    scale = np.sqrt((centred * centred).mean(axis=1, keepdims=True) + 1e-5)
    return np.tanh(centred / scale * gain + bias).sum()


def linear_model(w: Any, x: Any, y: Any) -> Any:
    z = x @ w
    return (np.logaddexp(0.0, z) - y * z).mean()


def damped(x: Any, k: Any) -> Any:
    """A loop of known length: what its backward pass keeps, and how it goes back."""
    step = lambda i, c: (c[0] + 0.1 * c[1], c[1] - 0.1 * k * c[0])
    return lax.fori_loop(0, 20, step, (x, 0.0))[0]


def halved(x: Any, n: Any) -> Any:
    """A loop that ends when it is done, with a choice in it."""
    step = lambda x: lax.cond(x > n, lambda: x * 0.5, lambda: np.sin(x))
    return lax.while_loop(lambda x: x > 1, step, x)


PROGRAMS: dict[str, tuple[Callable[..., Any], tuple[Any, ...]]] = {
    "scan_grad": (ft.grad(damped, argnums=(0, 1)), (struct(()), struct(()))),
    "while_grad": (ft.grad(halved), (struct(()), struct(()))),
    "while_vmap": (ft.vmap(halved, in_axes=(0, None)), (struct((3,)), struct(()))),
    "sine_grad": (ft.grad(lambda x: np.sin(x) * x), (struct(()),)),
    "tanh_third": (ft.grad(ft.grad(ft.grad(np.tanh))), (struct(()),)),
    "masked_log_grad": (ft.grad(masked_log), (struct((5,)),)),
    "cross_entropy_grad": (
        ft.grad(cross_entropy),
        (struct((7, 3), F32), struct((5, 7), F32), struct((5, 3), F32)),
    ),
    "hessian_vector": (
        lambda x, v: ft.hvp(lambda x: (x[1:] * x[:-1] ** 2).sum(), x, v),
        (struct((6,)), struct((6,))),
    ),
    "per_example_grad": (
        ft.vmap(ft.grad(lambda w, x: np.tanh(w @ x).sum()), in_axes=(None, 0)),
        (struct((2, 3)), struct((4, 3))),
    ),
    "written_in_place": (written_in_place, (struct((3,)),)),
    "checkpointed": (ft.grad(ft.checkpoint(lambda x: np.sin(np.exp(x)))), (struct(()),)),
    "jit_inside": (ft.grad(lambda x: ft.jit(step_by_value)(x) * x), (struct(()),)),
    "frozen_layer": (
        ft.grad(lambda p, frozen, x: np.tanh(np.tanh(x @ frozen) @ p).sum()),
        (struct((3, 2)), struct((4, 3)), struct((5, 4))),
    ),
    "gather_scatter": (
        ft.grad(lambda table, rows: (table[rows] ** 2).sum()),
        (struct((9, 2)), struct((4,), np.int64)),
    ),
    "layer_norm_grad": (
        ft.value_and_grad(layer_norm, (0, 1, 2)),
        (struct((70, 24)), struct((24,)), struct((24,))),
    ),
    "linear_model_grad": (
        ft.value_and_grad(linear_model),
        (struct((16,)), struct((130, 16)), struct((130,))),
    ),
    "softmax_down": (lambda x: nn.softmax(x, axis=0), (struct((70, 300)),)),
}
LOOPS = (
    "sine_grad",
    "masked_log_grad",
    "cross_entropy_grad",
    "gather_scatter",
    "written_in_place",
    "layer_norm_grad",
    "linear_model_grad",
    "softmax_down",
)


def compare(name: str, text: str, update: bool) -> None:
    """The text must equal the pinned one, or becomes it."""
    path = FOLDER / name
    if update:
        path.write_text(text + "\n")
    assert path.read_text() == text + "\n", f"tests/snapshots/{name} differs; see `.ci/run fix`"


@pytest.mark.parametrize("name", PROGRAMS)
def test_jaxpr_snapshot(name: str, update_snapshots: bool) -> None:
    f, args = PROGRAMS[name]
    compare(f"{name}.jaxpr.txt", str(ft.make_jaxpr(f)(*args)), update_snapshots)


@pytest.mark.parametrize("name", LOOPS)
def test_loops_snapshot(name: str, update_snapshots: bool) -> None:
    f, args = PROGRAMS[name]
    compare(f"{name}.loops.txt", ft.jit(f).lower(*args).as_text("loops"), update_snapshots)


def test_no_snapshot_is_left_over() -> None:
    wanted = {f"{n}.jaxpr.txt" for n in PROGRAMS} | {f"{n}.loops.txt" for n in LOOPS}
    assert {p.name for p in FOLDER.iterdir()} == wanted
