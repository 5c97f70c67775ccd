"""Calls of compiled functions so small that only the call costs."""

from __future__ import annotations

from tests.benchmarks.case import case

COMPILED = {"small": True, "without": ("torch", "autograd")}
PLAIN = {**COMPILED, "eager": True}
"""NumPy itself beside them: what the same operations cost without a compiled function."""


@case("call_vector", "call of jit(f), f = sin(x)*2, 3-vector", lambda rng: (rng.normal(size=3),),
      **PLAIN)  # fmt: skip
def call_vector(lib):
    return lib.jit(lambda x: lib.np.sin(x) * 2.0)


@case("call_number", "call of jit(f), float to float", lambda rng: (1.5,), **PLAIN)
def call_number(lib):
    return lib.jit(lambda x: x * 2.0 + 1.0)


def six_arrays(rng):
    return ({name: rng.normal(size=4) for name in "abcdef"},)


@case("call_dict", "call of jit(f), dict of 6 arrays to dict", six_arrays, **PLAIN)
def call_dict(lib):
    return lib.jit(lambda p: {name: 2.0 * x for name, x in p.items()})


@case("call_tuple", "call of jit(f), dict of 6 arrays to tuple", six_arrays, **PLAIN)
def call_tuple(lib):
    return lib.jit(lambda p: tuple([2.0 * x for x in p.values()]))


def layers(rng, size):
    return {
        f"layer{i}": {"w": rng.normal(size=(size, size)) / size, "b": rng.normal(size=size)}
        for i in range(10)
    }


def training_state(rng):
    params = layers(rng, 4)
    state = {"mean": layers(rng, 4), "rate": 0.1}
    return params, state, rng.normal(size=(3, 4))


@case("call_step", "value_and_grad step, 20-leaf params, momentum in a dict", training_state,
      **COMPILED)  # fmt: skip
def call_step(lib):
    def loss(params, x):
        for layer in params.values():
            x = lib.np.tanh(x @ layer["w"] + layer["b"])
        return (x * x).sum()

    slope = lib.value_and_grad(loss)

    def step(params, state, x):
        value, grads = slope(params, x)
        mean = {
            name: {
                k: 0.9 * m + g for (k, m), g in zip(old.items(), grads[name].values(), strict=True)
            }
            for name, old in state["mean"].items()
        }
        moved = {
            name: {
                k: p - state["rate"] * m
                for (k, p), m in zip(old.items(), mean[name].values(), strict=True)
            }
            for name, old in params.items()
        }
        return moved, {"mean": mean, "rate": state["rate"]}, value

    return lib.jit(step)
