"""Lowerings: how the elements of each primitive's results are made of elements of its operands."""

from __future__ import annotations

from jit.lowering import (
    callbacks,
    contraction,
    control,
    convolution,
    effects,
    elementwise,
    indexing,
    joined,
    loops,
    ordering,
    recurrence,
    reduction,
    sparse_pads,
    structural,
    sweeps,
    unrolled_rules,
    windows,
)

FAMILIES = (
    structural,
    windows,
    elementwise,
    reduction,
    recurrence,
    indexing,
    contraction,
    convolution,
    ordering,
    effects,
    callbacks,
    control,
    unrolled_rules,
    loops,
    sweeps,
    joined,
    sparse_pads,
)
"""The files of rules; importing this package fills the tables in rules.py."""
