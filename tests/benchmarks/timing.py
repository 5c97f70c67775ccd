"""Timing: several ways to do one thing, interleaved round by round, as medians of blocks."""

from __future__ import annotations

import gc
import statistics
import time
from collections.abc import Callable, Mapping

Call = Callable[[], object]

BLOCK_SECONDS = 0.01
WARM_SECONDS = 0.25
"""So long each call is repeated before it is timed: libraries start threads, and finish compiling
what their next calls will use, beside their first ones. What that costs is timed in fresh.py."""


def interleaved(
    calls: Mapping[str, Call],
    waits: Mapping[str, Callable[[object], None]],
    *,
    rounds: int,
    small: bool,
) -> dict[str, float]:
    """The median seconds of one call, for each name.

    Each round times one block of every call, in an order that rotates; a block is as many calls
    as take about 10 ms. Each call makes a fresh result. A block waits for its last result only
    if `small`, else for every one.
    """
    for name, call in calls.items():
        _warm_up(call, waits[name])
    counts = {name: _calls_per_block(calls[name], waits[name], small) for name in calls}
    times: dict[str, list[float]] = {name: [] for name in calls}
    order = list(calls)
    for _ in range(rounds):
        for name in order:
            times[name].append(_block(calls[name], waits[name], counts[name], small))
        order.append(order.pop(0))
    return {name: statistics.median(values) for name, values in times.items()}


def _warm_up(call: Call, wait: Callable[[object], None]) -> None:
    end = time.perf_counter() + WARM_SECONDS
    while time.perf_counter() < end:
        wait(call())


def _calls_per_block(call: Call, wait: Callable[[object], None], small: bool) -> int:
    count = 1
    while True:
        spent = _block(call, wait, count, small) * count
        if spent >= BLOCK_SECONDS / 2:
            return max(1, round(count * BLOCK_SECONDS / spent))
        count *= 2


def _block(call: Call, wait: Callable[[object], None], count: int, small: bool) -> float:
    """The mean seconds of a call, after one that is not timed; the collector is off."""
    wait(call())
    collecting = gc.isenabled()
    gc.disable()
    try:
        start = time.perf_counter()
        if small:
            for _ in range(count):
                result = call()
            wait(result)
        else:
            for _ in range(count):
                wait(call())
        return (time.perf_counter() - start) / count
    finally:
        if collecting:
            gc.enable()
