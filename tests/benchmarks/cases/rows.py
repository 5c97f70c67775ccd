"""Reductions along rows and columns, with gradients: the losses and layers of networks."""

from __future__ import annotations

from tests.benchmarks.case import case


def matrix(rows, columns):
    return lambda rng: (rng.normal(size=(rows, columns)).astype("f4"),)


@case("logsumexp", "logsumexp and gradient, 4096x1000 f32", matrix(4096, 1000), tolerance=1e-4)
def logsumexp(lib):
    return lib.jit(lib.value_and_grad(lambda x: lib.np.sum(lib.logsumexp(x, 1))))


def logits_and_labels(rng):
    return rng.normal(size=(4096, 1000)).astype("f4"), rng.integers(0, 1000, 4096)


@case(
    "cross_entropy",
    "softmax cross-entropy and gradient, 4096x1000 f32",
    logits_and_labels,
    tolerance=1e-4,
)
def cross_entropy(lib):
    np = lib.np

    def loss(logits, labels):
        chosen = logits[np.arange(len(labels)), labels]
        return np.mean(lib.logsumexp(logits, 1) - chosen)

    return lib.jit(lib.value_and_grad(loss))


@cross_entropy.best("torch", "torch.compile")
def cross_entropy_torch(lib):
    return lib.jit(lib.value_and_grad(lib.F.cross_entropy))


def layer_inputs(rng):
    x, gain, bias = rng.normal(size=(4096, 768)), rng.normal(size=768), rng.normal(size=768)
    return tuple(a.astype("f4") for a in (x, gain, bias, rng.normal(size=(4096, 768))))


@case(
    "layer_norm",
    "layer normalisation and gradients, 4096x768 f32",
    layer_inputs,
    tolerance=1e-4,
)
def layer_norm(lib):
    np = lib.np

    def loss(x, gain, bias, weight):
        centred = x - np.mean(x, axis=1, keepdims=True)
        variance = np.mean(centred * centred, axis=1, keepdims=True)
        return np.sum((centred / np.sqrt(variance + 1e-5) * gain + bias) * weight)

    return lib.jit(lib.value_and_grad(loss, (0, 1, 2)))


@layer_norm.best("torch", "torch.compile")
def layer_norm_torch(lib):
    loss = lambda x, g, b, w: (lib.F.layer_norm(x, (768,), g, b) * w).sum()
    return lib.jit(lib.value_and_grad(loss, (0, 1, 2)))


@case(
    "softmax_down", "softmax over the first axis, 1024x1024 f32", matrix(1024, 1024), tolerance=1e-4
)
def softmax_down(lib):
    def softmax(x):
        e = lib.np.exp(x - lib.np.max(x, axis=0, keepdims=True))
        return e / lib.np.sum(e, axis=0, keepdims=True)

    return lib.jit(softmax)


@softmax_down.best("torch", "torch.compile")
def softmax_down_torch(lib):
    return lib.jit(lambda x: lib.torch.softmax(x, 0))


@case("scores", "z-scores down 7 columns, 100003x7 f32", matrix(100_003, 7), tolerance=1e-3)
def scores(lib):
    np = lib.np
    return lib.jit(lambda x: (x - np.mean(x, axis=0)) / np.sqrt(np.mean(x * x, axis=0)))


@case("scores_wide", "z-scores down 256 columns, 4096x256 f32", matrix(4096, 256), tolerance=1e-3)
def scores_wide(lib):
    np = lib.np
    return lib.jit(lambda x: (x - np.mean(x, axis=0)) / (np.std(x, axis=0) + 1e-6))


@case("running_sums", "cumsum along short rows, 50003x7 f32", matrix(50_003, 7), tolerance=1e-4)
def running_sums(lib):
    return lib.jit(lambda x: lib.np.cumsum(x, axis=1))


def factors(rng):
    return (1 + 1e-3 * rng.normal(size=1_000_003),)


@case("running_products", "gradient of a sum of running products, 1000003 f64", factors)
def running_products(lib):
    return lib.jit(lib.grad(lambda x: lib.np.sum(lib.np.cumprod(x, 0))))


def tall_factors(rng):
    return ((1 + 1e-3 * rng.normal(size=(100_003, 7))).astype("f4"),)


@case("products", "gradient of products down 7 columns, 100003x7 f32", tall_factors, tolerance=1e-3)
def products(lib):
    return lib.jit(lib.grad(lambda x: lib.np.sum(lib.np.prod(x, 0) ** 2)))


@case("short_rows", "sum of the rows, 35001x20 f32", matrix(35_001, 20), tolerance=1e-2)
def short_rows(lib):
    return lib.jit(lambda x: lib.np.sum(x, axis=0))


def batch_inputs(rng):
    x, gain, bias = rng.normal(size=(4096, 256)), rng.normal(size=256), rng.normal(size=256)
    return tuple(a.astype("f4") for a in (x, gain, bias))


@case(
    "batch_norm",
    "batch normalisation and gradients, 4096x256 f32",
    batch_inputs,
    tolerance=1e-3,
)
def batch_norm(lib):
    np = lib.np

    def loss(x, gain, bias):
        centred = x - np.mean(x, axis=0)
        variance = np.mean(centred * centred, axis=0)
        return np.sum(np.tanh(centred / np.sqrt(variance + 1e-5) * gain + bias))

    return lib.jit(lib.value_and_grad(loss, (0, 1, 2)))


@batch_norm.best("torch", "torch.compile")
def batch_norm_torch(lib):
    norm = lib.F.batch_norm
    loss = lambda x, g, b: norm(x, None, None, g, b, True).tanh().sum()
    return lib.jit(lib.value_and_grad(loss, (0, 1, 2)))
