"""Random bits equal JAX's for the same keys (pinned here), and distributions have their moments."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import scipy.stats

import functrans as ft
from functrans import random

KEY = random.key(7)

# What jax.random 0.10 gives under x64 for key 7, with the partitionable Threefry.
WORDS: list[tuple[str, Any, Any]] = [
    ("key", KEY, [0, 7]),
    ("negative key", random.key(-3), [4294967295, 4294967293]),
    ("long key", random.key(2**40 + 5), [256, 5]),
    ("split", random.split(KEY), [[3625411723, 1954958720], [195045567, 4062205631]]),
    ("split 3", random.split(KEY, 3)[2], [966301609, 1948237315]),
    ("fold_in", random.fold_in(KEY, 12345), [3187294848, 248916179]),
    ("bits 8", random.bits(KEY, (3,), np.uint8), [11, 0, 170]),
    ("bits 16", random.bits(KEY, (3,), np.uint16), [10507, 32256, 10666]),
    ("bits 32", random.bits(KEY, (3,), np.uint32), [2895194379, 4185947648, 1300703658]),
    (
        "bits 64",
        random.bits(KEY, (3,)),
        [15571024786774969728, 837714335556982463, 4150233810675416579],
    ),
    ("uniform 16", random.uniform(KEY, (3,), np.float16), [0.16015625, 0.4921875, 0.162109375]),
    (
        "uniform 32",
        random.uniform(KEY, (3,), np.float32),
        [0.6740899085998535, 0.9746168851852417, 0.3028435707092285],
    ),
    (
        "uniform 64",
        random.uniform(KEY, (3,)),
        [0.8441069450823528, 0.04541258512665647, 0.22498462569285382],
    ),
    ("permutation", random.permutation(KEY, 10), [9, 4, 2, 3, 5, 0, 7, 6, 1, 8]),
    ("randint", random.randint(KEY, (6,), 3, 77), [24, 40, 33, 42, 74, 11]),
    ("randint 8", random.randint(KEY, (6,), 3, 77, np.int8), [60, 69, 31, 32, 33, 61]),
    ("bernoulli", random.bernoulli(KEY, 0.3, (8,)), [0, 1, 1, 1, 1, 0, 0, 0]),
    ("choice", random.choice(KEY, 10, (5,)), [7, 9, 6, 9, 1]),
    ("choice without", random.choice(KEY, 10, (5,), replace=False), [9, 4, 2, 3, 5]),
    ("choice p", random.choice(KEY, 4, (6,), p=np.arange(1, 5) / 10), [1, 3, 3, 3, 3, 1]),
    (
        "categorical",
        random.categorical(KEY, np.log(np.arange(1, 5) / 10), shape=(6,)),
        [0, 3, 2, 0, 2, 2],
    ),
]


@pytest.mark.parametrize(("got", "wanted"), [w[1:] for w in WORDS], ids=[w[0] for w in WORDS])
def test_bits_are_those_of_jax(got: Any, wanted: Any) -> None:
    assert got.tolist() == wanted


CLOSE: list[tuple[Any, list[float]]] = [
    (random.normal(KEY, (3,)), [1.0114813355590866, -1.6910609087906374, -0.7554662899926428]),
    (random.normal(KEY, (2,), np.float32), [0.4512351453304291, 1.9534509181976318]),
    (random.gumbel(KEY, (2,)), [1.7750434817033711, -1.12880713678253]),
    (random.exponential(KEY, (2,)), [1.8585850522259963, 0.04647605816229587]),
    (random.laplace(KEY, (2,)), [-1.1654378716660514, 2.3988188263562535]),
    (random.cauchy(KEY, (2,)), [1.8759253820352535, -6.961667356611034]),
    (random.logistic(KEY, (2,)), [1.6891089719953885, -3.0454899487539038]),
    (random.truncated_normal(KEY, -1.0, 2.0, (2,)), [1.034876278399035, -0.8566117260155717]),
]


@pytest.mark.parametrize(("got", "wanted"), CLOSE)
def test_transformed_numbers_are_close_to_those_of_jax(got: Any, wanted: list[float]) -> None:
    np.testing.assert_allclose(got, wanted, rtol=1e-6 if got.dtype == np.float32 else 1e-11)


LAWS: list[tuple[Callable[..., Any], Any]] = [
    (random.uniform, scipy.stats.uniform()),
    (random.normal, scipy.stats.norm()),
    (random.gumbel, scipy.stats.gumbel_r()),
    (random.exponential, scipy.stats.expon()),
    (random.laplace, scipy.stats.laplace()),
    (random.logistic, scipy.stats.logistic()),
    (random.cauchy, scipy.stats.cauchy()),
    (lambda k, s: random.truncated_normal(k, -1.0, 2.0, s), scipy.stats.truncnorm(-1, 2)),
    (lambda k, s: random.lognormal(k, 0.5, s), scipy.stats.lognorm(0.5)),
    (lambda k, s: random.uniform(k, s, minval=-2.0, maxval=3.0), scipy.stats.uniform(-2, 5)),
]


@pytest.mark.parametrize(("draw", "law"), LAWS)
def test_distributions_follow_their_laws(draw: Callable[..., Any], law: Any) -> None:
    drawn = draw(KEY, (20000,))
    assert scipy.stats.kstest(drawn, law.cdf).statistic < 0.015


def test_complex_normal_numbers_have_variance_one() -> None:
    z = random.normal(KEY, (20000,), np.complex128)
    assert z.dtype == np.complex128
    assert abs((np.abs(z) ** 2).mean() - 1) < 0.02


def test_integers_and_signs() -> None:
    drawn = random.randint(KEY, (20000,), -2, 3)
    assert set(drawn.tolist()) == {-2, -1, 0, 1, 2}
    assert abs(drawn.mean()) < 0.05
    assert random.randint(KEY, (3,), 5, 5).tolist() == [5, 5, 5]
    assert set(random.rademacher(KEY, (50,)).tolist()) == {-1, 1}


def test_permutations() -> None:
    x = np.arange(20).reshape(4, 5)
    rows = random.permutation(KEY, x)
    assert sorted(rows.tolist()) == x.tolist()
    each = random.permutation(KEY, x, axis=1, independent=True)
    assert np.sort(each, 1).tolist() == x.tolist()
    assert sorted(random.permutation(KEY, 1000).tolist()) == list(range(1000))


def test_choice_without_replacement_and_with_weights() -> None:
    x = np.arange(12.0).reshape(3, 4)
    chosen = random.choice(KEY, x, (4,), replace=False, axis=1)
    assert sorted(chosen[0].tolist()) == [0, 1, 2, 3]
    weights = np.array([0.0, 0.5, 0.5, 0.0])
    assert set(random.choice(KEY, 4, (2,), replace=False, p=weights).tolist()) == {1, 2}
    with pytest.raises(ValueError, match="too few"):
        random.choice(KEY, 3, (4,), replace=False)


def test_bits_do_not_depend_on_how_many_are_asked_for() -> None:
    assert random.bits(KEY, (5,)).tolist() == random.bits(KEY, (100,))[:5].tolist()


def test_keys_under_vmap_and_jit() -> None:
    keys = random.split(KEY, 4)
    mapped = ft.vmap(random.normal)(keys)
    assert mapped.tolist() == [float(random.normal(k)) for k in keys]
    drawn = ft.jit(lambda k: random.uniform(k, (3,)))(KEY)
    assert drawn.tolist() == random.uniform(KEY, (3,)).tolist()
    folded = ft.jit(random.fold_in)(KEY, 12345)
    assert folded.tolist() == random.fold_in(KEY, 12345).tolist()


def test_gradients_pass_through_scale_and_location() -> None:
    draw = lambda mean, scale: (mean + scale * random.normal(KEY, (5,))).sum()
    by_mean, by_scale = ft.grad(draw, (0, 1))(1.0, 2.0)
    assert by_mean == 5
    np.testing.assert_allclose(by_scale, random.normal(KEY, (5,)).sum())


def test_what_is_no_key_is_refused() -> None:
    with pytest.raises(ValueError, match=r"a key is an array uint32\[2\]"):
        random.uniform(np.zeros(2))
    with pytest.raises(TypeError, match="the seed must be an integer"):
        random.key(1.5)
    with pytest.raises(TypeError, match="must be floating"):
        random.uniform(KEY, (2,), np.int32)
