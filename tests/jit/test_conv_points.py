"""Convolutions without axes: products over the channels, whatever the sizes."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.testing import assert_allclose

from functrans.extend import PRIMITIVES, aval_of, bind, stage_walk
from tests.native import compiled

NOWHERE = {"strides": (), "padding": (), "lhs_dilation": (), "rhs_dilation": ()}


@pytest.mark.parametrize("images", [3, 5000])
@pytest.mark.parametrize("groups", [1, 2])
def test_a_convolution_of_points(images: int, groups: int, rng: np.random.Generator) -> None:
    x, w = rng.normal(size=(images, 8 * groups)), rng.normal(size=(6 * groups, 8))
    conv = lambda x, w: bind(PRIMITIVES["conv"], x, w, groups=groups, batch_groups=1, **NOWHERE)
    (found,) = compiled(stage_walk(conv, [aval_of(x), aval_of(w)], "test"))([x, w])
    apart = np.einsum("ngi,goi->ngo", x.reshape(images, groups, 8), w.reshape(groups, 6, 8))
    assert_allclose(found, apart.reshape(images, 6 * groups), rtol=0, atol=1e-12)
