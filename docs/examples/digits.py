"""Digits: train a classifier of handwritten digits, then ask about it with composed transforms.

    python docs/examples/digits.py

Trains a small network with jit(value_and_grad) and Adam, then computes per-example gradient norms
(vmap of grad), the largest eigenvalue of the Hessian (power iteration with hvp) and what each
prediction looks at (jacrev). Where matplotlib is installed, draws all of it into digits.png.
"""

from __future__ import annotations

import itertools
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np

import functrans as ft
import functrans.numpy as fnp

Array = np.ndarray
Params = list[dict[str, Array]]

DATA = Path(__file__).parent / "data" / "digits.npz"
TRAIN, TEST = 1437, 360
SIZES = (64, 128, 64, 10)
EPOCHS, BATCH, RATE = 30, 32, 2e-3
SEED = 0


def load(key: Array) -> tuple[Array, Array, Array, Array]:
    """The digits in a fixed random order: train images (1437, 64) in [0, 1], labels; then test."""
    with np.load(DATA) as data:
        images, labels = data["images"], data["labels"]
    order = ft.random.permutation(key, TRAIN + TEST)
    x = images.reshape(-1, 64)[order] / 16.0
    y = labels[order].astype(np.int64)
    return x[:TRAIN], y[:TRAIN], x[TRAIN:], y[TRAIN:]


def init(key: Array) -> Params:
    """Random weights with the variance that keeps tanh alive, and zero biases."""
    params: Params = []
    for inputs, outputs in itertools.pairwise(SIZES):
        key, layer = ft.random.split(key)
        w = ft.random.normal(layer, (inputs, outputs)) / np.sqrt(inputs)
        params.append({"w": w, "b": np.zeros(outputs)})
    return params


def logits(params: Params, x: Array) -> Array:
    """The network: images (..., 64) to scores (..., 10)."""
    *hidden, last = params
    for layer in hidden:
        x = fnp.tanh(x @ layer["w"] + layer["b"])
    return x @ last["w"] + last["b"]


def loss(params: Params, x: Array, y: Array) -> Array:
    """Mean cross-entropy of scores against labels; x may be one image or many."""
    log_p = ft.nn.log_softmax(logits(params, x))
    return -fnp.mean(fnp.sum(log_p * ft.nn.one_hot(y, 10), axis=-1))


optimizer = ft.optim.adam(RATE)


@ft.jit
def step(params: Params, state: Any, x: Array, y: Array) -> tuple[Params, Any, Array]:
    """One step of Adam: new parameters, new optimizer state, and the loss before the step."""
    value, grads = ft.value_and_grad(loss)(params, x, y)
    params, state = optimizer.update(params, grads, state)
    return params, state, value


@ft.jit
def accuracy(params: Params, x: Array, y: Array) -> Array:
    """The share of images whose highest score is the label's."""
    return fnp.mean(fnp.argmax(logits(params, x), axis=-1) == y)


def progress(done: int, total: int, text: str) -> None:
    """Redraw the progress bar; where the output is no terminal, a line now and then instead."""
    if sys.stdout.isatty():
        filled = 30 * done // total
        end = "\n" if done == total else ""
        print(
            f"\r[{'#' * filled}{'.' * (30 - filled)}] {done}/{total}  {text}", end=end, flush=True
        )
    elif done % 5 == 0 or done == total:
        print(f"epoch {done:3d}/{total}  {text}", flush=True)


def train(params: Params, x: Array, y: Array, test_x: Array, test_y: Array, key: Array) -> Any:
    """Train for EPOCHS epochs; the parameters and the history of (loss, test accuracy)."""
    state = optimizer.init(params)
    history: list[tuple[float, float]] = []
    for epoch in range(EPOCHS):
        order = ft.random.permutation(ft.random.fold_in(key, epoch), len(x))
        losses: list[float] = []
        for start in range(0, len(x) - BATCH + 1, BATCH):
            batch = order[start : start + BATCH]
            params, state, value = step(params, state, x[batch], y[batch])
            losses.append(float(value))
        history.append((float(np.mean(losses)), float(accuracy(params, test_x, test_y))))
        progress(epoch + 1, EPOCHS, "loss {:.4f}  test accuracy {:.1%}".format(*history[-1]))
    return params, history


@ft.jit
def gradient_norms(params: Params, x: Array, y: Array) -> Array:
    """For each image, how hard it pulls on the parameters: the norm of its own gradient, (n,)."""
    grads = ft.vmap(ft.grad(loss), in_axes=(None, 0, 0))(params, x, y)
    squares = [fnp.sum(g.reshape(len(x), -1) ** 2, axis=1) for g in ft.tree.leaves(grads)]
    return fnp.sqrt(sum(squares))


@ft.jit
def hessian_times(params: Params, x: Array, y: Array, v: Params) -> Params:
    """The Hessian of the loss times a tree like the parameters, without ever forming it."""
    return ft.hvp(lambda p: loss(p, x, y), params, v)


def norm(t: Params) -> float:
    """The Euclidean norm of all leaves together."""
    return float(np.sqrt(sum(np.sum(leaf**2) for leaf in ft.tree.leaves(t))))


def scaled(t: Params, factor: float) -> Params:
    """Every leaf times a number."""
    return ft.tree.map(lambda leaf: factor * leaf, t)


def largest_eigenvalue(params: Params, x: Array, y: Array, key: Array) -> tuple[float, int]:
    """The Hessian eigenvalue of largest magnitude by power iteration, and the steps it took."""
    leaves, treedef = ft.tree.flatten(params)
    keys = ft.random.split(key, len(leaves))
    v = treedef.unflatten([ft.random.normal(k, p.shape) for k, p in zip(keys, leaves, strict=True)])
    value = 0.0
    for iteration in range(1, 201):
        v = scaled(v, 1 / norm(v))
        product = hessian_times(params, x, y, v)
        dots = ft.tree.map(lambda a, b: float(np.sum(a * b)), v, product)
        before, value = value, ft.tree.reduce(lambda a, b: a + b, dots)
        if abs(value - before) < 1e-6 * abs(value):
            return value, iteration
        v = product
    return value, 200


@ft.jit
def saliency(params: Params, x: Array) -> Array:
    """For each of ten scores, its derivative by each pixel of one image: (10, 64)."""
    return ft.jacrev(logits, argnums=1)(params, x)


def shade(image: Array) -> list[str]:
    """An 8x8 picture as eight lines of text, two characters a pixel."""
    scaled = image.reshape(8, 8) / max(float(image.max()), 1e-12)
    return ["".join(" .:-=+*#%@"[int(9 * v)] * 2 for v in row) for row in scaled]


def main() -> None:
    start = time.perf_counter()
    data_key, init_key, batch_key, power_key = ft.random.split(ft.random.key(SEED), 4)
    x, y, test_x, test_y = load(data_key)
    print(f"{len(x)} training and {len(test_x)} test digits; network {'-'.join(map(str, SIZES))}")

    params, history = train(init(init_key), x, y, test_x, test_y, batch_key)
    print(f"trained in {time.perf_counter() - start:.1f} s")
    print(f"accuracy: train {accuracy(params, x, y):.2%}, test {history[-1][1]:.2%}\n")

    norms = gradient_norms(params, test_x, test_y)
    hardest = np.argsort(-norms)[:5]
    guesses = np.argmax(logits(params, test_x), axis=-1)
    print(f"gradient norm per test digit: median {np.median(norms):.2g}, largest {norms.max():.2g}")
    for i in hardest:
        print(f"  digit {i:3d}: norm {norms[i]:7.2f}, is a {test_y[i]}, was read as {guesses[i]}")

    value, iterations = largest_eigenvalue(params, x, y, power_key)
    print(f"\nlargest Hessian eigenvalue: {value:.4f} ({iterations} Hessian-vector products)")

    shown = int(hardest[0])
    seen = [saliency(params, test_x[i])[guesses[i]] for i in hardest]
    print(f"\ndigit {shown} (left), and the pixels that its score looks at (right)")
    for left, right in zip(shade(test_x[shown]), shade(np.abs(seen[0])), strict=True):
        print(f"  {left}   {right}")

    titles = [f"{test_y[i]}, read as {guesses[i]}" for i in hardest]
    draw(history, norms, list(zip(titles, test_x[hardest], seen, strict=True)))
    print(f"\nall done in {time.perf_counter() - start:.1f} s; test accuracy {history[-1][1]:.2%}")


def draw(
    history: list[tuple[float, float]], norms: Array, pictures: list[tuple[str, Array, Array]]
) -> None:
    """Draw the training curve, the gradient norms and the hardest digits into digits.png."""
    try:
        import matplotlib
    except ImportError:
        print("\n(no picture: matplotlib is not installed)")
        return
    matplotlib.use("Agg")
    from matplotlib import pyplot as plt

    figure, axes = plt.subplots(3, len(pictures), figsize=(10, 6.5), layout="constrained")
    grid = axes[0, 0].get_gridspec()
    for axis in axes[0]:
        axis.remove()
    curve = figure.add_subplot(grid[0, :3])
    curve.semilogy([value for value, _ in history], label="training loss")
    curve.semilogy([1 - share for _, share in history], label="test error")
    curve.set(xlabel="epoch", title="training")
    curve.legend()
    spread = figure.add_subplot(grid[0, 3:])
    spread.hist(np.log10(norms + 1e-12), bins=40)
    spread.set(xlabel="log10 of the gradient norm", title="test digits")
    for column, (title, image, seen) in enumerate(pictures):
        axes[1, column].imshow(image.reshape(8, 8), cmap="gray_r")
        axes[1, column].set_title(title)
        limit = np.abs(seen).max()
        axes[2, column].imshow(seen.reshape(8, 8), cmap="coolwarm", vmin=-limit, vmax=limit)
        for axis in axes[1:, column]:
            axis.set(xticks=[], yticks=[])
    figure.savefig("digits.png", dpi=110)
    plt.close(figure)
    print("\ndrawn: digits.png")


if __name__ == "__main__":
    main()
