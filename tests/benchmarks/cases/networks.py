"""Models trained by gradients: a multilayer perceptron, logistic regression, an embedding."""

from __future__ import annotations

from itertools import pairwise

from tests.benchmarks.case import case

WIDTHS = (784, 512, 512, 10)


def network(rng):
    """Weights, biases, a batch of 128 images and their labels."""
    pairs = list(pairwise(WIDTHS))
    weights = [(rng.normal(size=s) / s[0] ** 0.5).astype("f4") for s in pairs]
    biases = [rng.normal(size=n).astype("f4") for n in WIDTHS[1:]]
    return weights + biases, rng.normal(size=(128, 784)).astype("f4"), rng.integers(0, 10, 128)


def network_loss(lib):
    np = lib.np

    def loss(params, x, labels):
        *hidden, last = zip(params[:3], params[3:], strict=True)
        for weight, bias in hidden:
            x = np.tanh(x @ weight + bias)
        logits = x @ last[0] + last[1]
        return np.mean(lib.logsumexp(logits, 1) - logits[np.arange(len(labels)), labels])

    return loss


def network_loss_torch(lib):
    F = lib.F

    def loss(params, x, labels):
        weights, biases = params[:3], params[3:]
        for weight, bias in zip(weights[:2], biases[:2], strict=True):
            x = lib.torch.addmm(bias, x, weight).tanh()
        return F.cross_entropy(lib.torch.addmm(biases[2], x, weights[2]), labels)

    return loss


@case("mlp", "MLP 784-512-512-10, batch 128, f32", network, products=True, tolerance=1e-4)
def mlp(lib):
    return lib.jit(lib.value_and_grad(network_loss(lib)))


@mlp.best("torch", "torch.compile")
def mlp_torch(lib):
    return lib.jit(lib.value_and_grad(network_loss_torch(lib)))


def with_moments(rng):
    params, x, labels = network(rng)
    return params, [0 * p for p in params], [0 * p for p in params], x, labels


@case(
    "mlp_adam",
    "the same with an Adam step in one jit",
    with_moments,
    products=True,
    tolerance=1e-3,
)
def mlp_adam(lib):
    np = lib.np
    gradient = lib.value_and_grad(network_loss(lib))

    def step(params, means, squares, x, labels):
        loss, grads = gradient(params, x, labels)
        means = [0.9 * m + 0.1 * g for m, g in zip(means, grads, strict=True)]
        squares = [0.999 * s + 0.001 * g * g for s, g in zip(squares, grads, strict=True)]
        params = [
            p - 0.001 * (m / 0.1) / (np.sqrt(s / 0.001) + 1e-6)
            for p, m, s in zip(params, means, squares, strict=True)
        ]
        return loss, params, means, squares

    return lib.jit(step)


@mlp_adam.best("torch", "torch.compile")
def mlp_adam_torch(lib):
    """torch.optim's fused Adam, which writes into its parameters; `step` returns them."""
    loss_of, held = network_loss_torch(lib), {}

    def step(params, means, squares, x, labels):
        if not held:
            held["params"] = [p.detach().clone().requires_grad_() for p in params]
            held["adam"] = lib.torch.optim.Adam(held["params"], lr=0.001, eps=1e-6, fused=True)
        adam = held["adam"]
        loss = loss_of(held["params"], x, labels)
        adam.zero_grad()
        loss.backward()
        adam.step()
        states = [adam.state[p] for p in held["params"]]
        return (
            loss.detach(),
            held["params"],
            [s["exp_avg"] for s in states],
            [s["exp_avg_sq"] for s in states],
        )

    return step


def wide_layer(rng):
    """Many rows, the weights and the bias of a layer, and a cotangent of its result."""
    w = (rng.normal(size=(256, 1024)) / 16).astype("f4")
    wide = (rng.normal(size=s).astype("f4") for s in ((1024,), (4096, 256), (4096, 1024)))
    return w, *wide


def activated(lib):
    np = lib.np

    def layer(w, b, x):
        y = x @ w + b
        return 0.5 * y * (1 + np.tanh(0.7978845608 * (y + 0.044715 * y * y * y)))

    return layer


def activated_torch(lib):
    return lambda w, b, x: lib.F.gelu(lib.torch.addmm(b, x, w), approximate="tanh")


@case(
    "layer", "gelu(x @ w + b), 4096x256 @ 256x1024 f32", wide_layer, products=True, tolerance=1e-4
)
def layer(lib):
    run = activated(lib)
    return lib.jit(lambda w, b, x, g: run(w, b, x))


@layer.best("torch", "torch.compile")
def layer_torch(lib):
    run = activated_torch(lib)
    return lib.jit(lambda w, b, x, g: run(w, b, x))


@case("layer_grad", "the same with its gradient", wide_layer, products=True, tolerance=1e-3)
def layer_grad(lib):
    run, np = activated(lib), lib.np
    return lib.jit(lib.value_and_grad(lambda w, b, x, g: np.sum(run(w, b, x) * g), (0, 1, 2)))


@layer_grad.best("torch", "torch.compile")
def layer_grad_torch(lib):
    run = activated_torch(lib)
    return lib.jit(lib.value_and_grad(lambda w, b, x, g: (run(w, b, x) * g).sum(), (0, 1, 2)))


def regression(rng):
    x = rng.normal(size=(100_000, 50))
    y = (rng.uniform(size=100_000) < 0.5).astype("f8")
    return rng.normal(size=50), x, y


@case("logistic", "logistic regression 1e5x50 f64", regression, products=True)
def logistic(lib):
    np = lib.np

    def loss(w, x, y):
        z = x @ w
        return np.mean(np.logaddexp(0.0 * z, z) - y * z)

    return lib.jit(lib.value_and_grad(loss))


@logistic.best("torch", "torch.compile")
def logistic_torch(lib):
    entropy = lib.F.binary_cross_entropy_with_logits
    return lib.jit(lib.value_and_grad(lambda w, x, y: entropy(x @ w, y)))


def embedding_inputs(rng):
    table = rng.normal(size=(100_000, 64)).astype("f4")
    return table, rng.integers(0, 100_000, 4096), rng.normal(size=(4096, 64)).astype("f4")


@case(
    "embedding", "embedding gradient, 4096 of 1e5 rows x 64 f32", embedding_inputs, tolerance=1e-4
)
def embedding(lib):
    loss = lambda table, rows, weight: lib.np.sum(lib.np.tanh(table[rows]) * weight)
    return lib.jit(lib.value_and_grad(loss))


@embedding.best("torch", "torch.compile")
def embedding_torch(lib):
    loss = lambda t, rows, w: (lib.F.embedding(rows, t).tanh() * w).sum()
    return lib.jit(lib.value_and_grad(loss))


def heads(rng):
    """Query, key, value and weights of the result, (batch, length, heads, size)."""
    return tuple(rng.normal(size=(4, 256, 8, 32)).astype("f4") for _ in range(4))


@case(
    "attention",
    "causal attention B4 T256 D256 H8 f32, with gradient",
    heads,
    products=True,
    tolerance=1e-4,
    without=("autograd",),
)
def attention(lib):
    np = lib.np

    def loss(qkv, weight):
        q, k, v = qkv
        scores = np.einsum("bqhd,bkhd->bhqk", q, k) / 32**0.5
        scores = np.where(np.tri(256, dtype=bool), scores, np.float32(-1e30))
        exps = np.exp(scores - lib.stop_gradient(np.max(scores, axis=3, keepdims=True)))
        shares = exps / np.sum(exps, axis=3, keepdims=True)
        return np.sum(np.einsum("bhqk,bkhd->bqhd", shares, v) * weight)

    gradient = lib.value_and_grad(loss)
    return lib.jit(lambda q, k, v, weight: gradient((q, k, v), weight))


@attention.best("torch", "torch.compile")
def attention_torch(lib):
    def loss(q, k, v, weight):
        turned = (x.transpose(1, 2) for x in (q, k, v))
        out = lib.F.scaled_dot_product_attention(*turned, is_causal=True)
        return (out.transpose(1, 2) * weight).sum()

    return lib.jit(lib.value_and_grad(loss, (0, 1, 2)))


@case(
    "per_example",
    "per-example gradients 64-64-10, batch 128 f32, by vmap(grad)",
    lambda rng: (
        *((rng.normal(size=s) / 8).astype("f4") for s in ((64, 64), (64,), (64, 10))),
        rng.normal(size=(128, 64)).astype("f4"),
        rng.normal(size=(128, 10)).astype("f4"),
    ),
    products=True,
    tolerance=1e-4,
    without=("autograd",),
)
def per_example(lib):
    np = lib.np

    def loss(params, x, y):
        w, b, v = params
        return np.sum((np.tanh(x @ w + b) @ v - y) ** 2)

    mapped = lib.vmap(lib.grad(loss), (None, 0, 0))
    return lib.jit(lambda w, b, v, x, y: mapped((w, b, v), x, y))


@per_example.best("torch", "torch.compile")
def per_example_torch(lib):
    def loss(params, x, y):
        w, b, v = params
        return ((((x @ w + b).tanh()) @ v - y) ** 2).sum()

    mapped = lib.vmap(lib.torch.func.grad(loss), (None, 0, 0))
    return lib.jit(lambda w, b, v, x, y: mapped((w, b, v), x, y))


def many_small(n):
    """1000 products of n x n matrices."""

    @case(
        f"small_products_{n}",
        f"1000 products {n}x{n} f32",
        lambda rng: tuple(rng.normal(size=(1000, n, n)).astype("f4") for _ in range(2)),
        products=True,
        tolerance=1e-4,
    )
    def products(lib):
        return lib.jit(lib.np.matmul)

    return products


small_products = [many_small(n) for n in (4, 8, 16, 32)]


def one_product(name, text, *shapes, dtype="f4"):
    """A product of two matrices, or of a matrix and a vector."""

    @case(
        name,
        text,
        lambda rng: tuple(rng.normal(size=s).astype(dtype) for s in shapes),
        products=True,
        tolerance=1e-4,
    )
    def single(lib):
        return lib.jit(lib.np.matmul)

    return single


single_products = [
    one_product("product_64", "64x64 @ 64x64 f32", (64, 64), (64, 64)),
    one_product("product_512", "512x512 @ 512x512 f32", (512, 512), (512, 512)),
    one_product("product_tall", "4096x10 @ 10x1000 f32", (4096, 10), (10, 1000)),
    one_product("product_vector", "1e5x50 @ 50 f32", (100_000, 50), (50,)),
    one_product("product_vector_64", "1e5x50 @ 50 f64", (100_000, 50), (50,), dtype="f8"),
    one_product("product_row", "512 @ 512x512 f32", (512,), (512, 512)),
]
