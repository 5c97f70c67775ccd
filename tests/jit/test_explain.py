"""The reasons in a compile report: traffic, work, why a kernel was opened or joined."""

from __future__ import annotations

from typing import Any

import numpy as np

import functrans as ft
import functrans.numpy as fnp

X = ft.ShapeDtypeStruct((1000, 256), np.float64)


def details(f: Any, *args: Any) -> list[str]:
    return list(ft.jit(f).lower(*args).compile_report().details)


def softmax(x: Any) -> Any:
    e = fnp.exp(x - fnp.max(x, axis=1, keepdims=True))
    return e / fnp.sum(e, axis=1, keepdims=True)


def test_traffic_counts_each_array_once() -> None:
    first, *rest = details(softmax, X)
    assert first.startswith("0: reads 2.05 MB, writes 2.05 MB, about ")
    assert "3 passes over each row" in first
    assert len(rest) == 4


def test_each_thing_made_has_its_reason() -> None:
    lines = details(softmax, X)
    assert "opens a kernel: no kernel before it has to do with what it reads" in lines[1]
    assert "computed once for several passes or kernels; in registers or a row" in lines[2]
    assert lines[4].strip() == (
        "full f64[1000,256] by div: reads what the kernel makes; in memory (result)"
    )


def test_a_kernel_that_cannot_be_joined_says_why() -> None:
    text = "\n".join(details(lambda x: x * fnp.sum(x), X))
    assert "opens a kernel: not in kernel 0: f64[] is complete only at its end" in text


def test_roots_and_arrangements() -> None:
    text = "\n".join(details(lambda x: fnp.sum(fnp.tanh(x @ x.T), axis=0), X))
    assert "0: dot_general: reads 2.05 MB, writes 8 MB: reads and writes whole arrays" in text
    assert "row by row, sums of columns in cache, in 8 blocks" in text


def test_the_report_prints_them() -> None:
    assert "\nreasons:\n  0: reads" in str(ft.jit(softmax).lower(X).compile_report())
