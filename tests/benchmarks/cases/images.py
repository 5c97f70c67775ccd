"""Convolutions and poolings of images: a small network, and gradients of single layers."""

from __future__ import annotations

import importlib

from tests.benchmarks.case import case

BATCH = 64
WITHOUT = ("autograd",)


def lax_of(lib):
    """The library's module of operations with explicit axes."""
    return importlib.import_module("jax.lax" if lib.name == "jax" else "functrans.lax")


def images(rng):
    """Filters, biases, weights of the last layer, 64 images of 28 x 28 and their labels."""
    shapes = [(8, 1, 3, 3), (16, 8, 3, 3), (784, 10)]
    weights = [(rng.normal(size=s) / 10).astype("f4") for s in shapes]
    biases = [rng.normal(size=n).astype("f4") for n in (8, 16, 10)]
    x = rng.normal(size=(BATCH, 1, 28, 28)).astype("f4")
    return weights + biases, x, rng.integers(0, 10, BATCH)


@case(
    "cnn",
    "small CNN on 28x28 images, batch 64, f32",
    images,
    products=True,
    tolerance=1e-4,
    without=WITHOUT,
)
def cnn(lib):
    np, lax = lib.np, lax_of(lib)

    def layer(x, weight, bias):
        y = lax.conv_general_dilated(x, weight, (1, 1), "SAME") + bias[:, None, None]
        two = (1, 1, 2, 2)
        return lax.reduce_window(np.maximum(y, 0), -np.inf, lax.max, two, two, "VALID")

    def loss(params, x, labels):
        weights, biases = params[:3], params[3:]
        for weight, bias in zip(weights[:2], biases[:2], strict=True):
            x = layer(x, weight, bias)
        logits = x.reshape(BATCH, -1) @ weights[2] + biases[2]
        return np.mean(lib.logsumexp(logits, 1) - logits[np.arange(BATCH), labels])

    return lib.jit(lib.value_and_grad(loss))


@cnn.best("torch", "torch.compile")
def cnn_torch(lib):
    F = lib.F

    def loss(params, x, labels):
        weights, biases = params[:3], params[3:]
        for weight, bias in zip(weights[:2], biases[:2], strict=True):
            x = F.max_pool2d(F.relu(F.conv2d(x, weight, bias, padding=1)), 2)
        return F.cross_entropy(lib.torch.addmm(biases[2], x.flatten(1), weights[2]), labels)

    return lib.jit(lib.value_and_grad(loss))


def pictures(rng):
    """Filters, biases and a last matrix for 32 images of 32 x 32 x 3, and their labels."""
    shapes = [(16, 3, 3, 3), (32, 16, 3, 3), (64, 32, 3, 3)]
    weights = [(rng.normal(size=s) / (9 * s[1]) ** 0.5).astype("f4") for s in shapes]
    biases = [rng.normal(size=s[0]).astype("f4") for s in shapes]
    dense = (rng.normal(size=(1024, 10)) / 32).astype("f4")
    x = rng.normal(size=(32, 3, 32, 32)).astype("f4")
    return weights, biases, dense, x, rng.integers(0, 10, 32)


@case(
    "cnn_strided",
    "strided CNN on 32x32x3 images, batch 32, f32",
    pictures,
    products=True,
    tolerance=1e-4,
    without=WITHOUT,
)
def cnn_strided(lib):
    np, lax = lib.np, lax_of(lib)

    def loss(params, x, labels):
        weights, biases, dense = params
        for weight, bias in zip(weights, biases, strict=True):
            y = lax.conv_general_dilated(x, weight, (2, 2), [(1, 1), (1, 1)])
            x = np.maximum(y + bias[:, None, None], 0)
        logits = x.reshape(len(labels), -1) @ dense
        return np.mean(lib.logsumexp(logits, 1) - logits[np.arange(len(labels)), labels])

    gradient = lib.value_and_grad(loss)
    return lib.jit(lambda w, b, d, x, labels: gradient((w, b, d), x, labels))


@cnn_strided.best("torch", "torch.compile")
def cnn_strided_torch(lib):
    F = lib.F

    def loss(params, x, labels):
        weights, biases, dense = params
        for weight, bias in zip(weights, biases, strict=True):
            x = F.relu(F.conv2d(x, weight, bias, stride=2, padding=1))
        return F.cross_entropy(x.flatten(1) @ dense, labels)

    gradient = lib.value_and_grad(loss)
    return lib.jit(lambda w, b, d, x, labels: gradient((w, b, d), x, labels))


def layer_of(n, inner, outer, size, groups=1):
    """An input, filters of 3 x 3, and what the result is multiplied with."""

    def inputs(rng):
        shapes = (n, inner, size, size), (outer, inner // groups, 3, 3), (n, outer, size, size)
        return tuple(rng.normal(size=s).astype("f4") for s in shapes)

    return inputs


def layer_gradient(groups=1):
    def program(lib):
        np, lax = lib.np, lax_of(lib)

        def f(x, w, y):
            out = lax.conv_general_dilated(x, w, (1, 1), "SAME", feature_group_count=groups)
            return np.sum(out * y)

        return lib.jit(lib.value_and_grad(f, (0, 1)))

    return program


def layer_gradient_torch(groups=1):
    def program(lib):
        f = lambda x, w, y: (lib.F.conv2d(x, w, padding=1, groups=groups) * y).sum()
        return lib.jit(lib.value_and_grad(f, (0, 1)))

    return program


for _name, _sizes in {
    "conv_few": (64, 8, 16, 14),
    "conv_many": (8, 64, 64, 14),
    "conv_wide": (1, 64, 64, 56),
    "conv_depthwise": (8, 64, 64, 28, 64),
}.items():
    _n, _inner, _outer, _size, *_groups = _sizes
    _case = case(
        _name,
        f"conv 3x3 and both gradients, {_n}x{_inner}x{_size}x{_size} to {_outer}"
        + (", depthwise" if _groups else ""),
        layer_of(*_sizes),
        products=True,
        tolerance=1e-4,
        without=WITHOUT,
    )(layer_gradient(*_groups))
    _case.best("torch", "torch.compile")(layer_gradient_torch(*_groups))


@case(
    "line_pool",
    "gradient of max pooling along lines, 33x1009 f64, window 7",
    lambda rng: (rng.normal(size=(33, 1009)),),
    without=(*WITHOUT, "torch", "torch.compile"),
)
def line_pool(lib):
    np, lax = lib.np, lax_of(lib)

    def loss(x):
        return np.sum(lax.reduce_window(x, -np.inf, lax.max, (1, 7), (1, 1), "VALID") ** 2)

    return lib.jit(lib.grad(loss))
