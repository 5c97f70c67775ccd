"""Arrays that are computed again: what of a kernel makes them, and when it may run once more."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from jit.loop_ir.builder import Builder
from jit.loop_ir.check import check_program
from jit.loop_ir.nodes import Buffer, Program, Value
from jit.passes.again import Again, candidates, with_again
from jit.passes.blocked import in_blocks
from jit.passes.touches import member_of
from tests.jit.loop_programs import run

MEMBERS, SIZE = 64, 20_000
COUNT, BYTES = MEMBERS * SIZE, 8 * MEMBERS * SIZE


def layer(spoilt: str = "", made: str = "plain") -> Program:
    """kept = e^x, total = its sums, shares = kept / total, out = (shares - (shares + 1)) + shares.

    spoilt: a kernel in the middle writes over this array. made: how shares are made instead.
    """
    b = Builder("p")
    x, out = b.input("x", "f64", COUNT), b.output("out", "f64", COUNT)
    beside = b.output("beside", "f64", 1)
    sizes = {"kept": COUNT, "shares": COUNT, "near": COUNT, "more": COUNT, "total": MEMBERS}
    kept, shares, near, more, total = [
        b.temp(name, "f64", size, (0 if made == "over it" and place == 1 else place) * BYTES)
        for place, (name, size) in enumerate(sizes.items())
    ]
    with b.kernel("make"), b.for_(MEMBERS, "parallel") as member:
        start = b.mul(member.i, SIZE)
        with b.for_(SIZE, "vector", [(b.const("f64", 0.0), "add")]) as loop:
            place = b.add(start, loop.i)
            value = b.op("exp", b.load(x, place))
            b.store(kept, place, value)
            loop.yield_(b.add(loop.carries[0], value))
        (sums,) = loop.results
        if made != "no total":
            b.store(total, b.mul(member.i, 0 if made == "one place" else 1), sums)
        with b.for_(SIZE, "vector") as loop:
            place = b.add(start, loop.i)
            ahead = SIZE if made == "ahead" else 0
            share = b.div(b.load(kept, b.rem(b.add(place, ahead), COUNT) if ahead else place), sums)
            if made == "sum of a product":
                share = b.add(b.mul(b.load(kept, place), sums), 1.0)
            if made == "on itself":
                share = b.add(share, b.load(shares, place))
            if made == "long":
                share = b.op("log", b.op("exp", share))
            if made == "of two":
                share = b.add(share, b.mul(b.load(x, place), 0.0))
            b.store(shares, place, share)
        if made == "twice":
            b.store(shares, start, 0.0)

    def pass_over(name: str, target: Buffer, work: Callable[[Value], Value]) -> None:
        with b.kernel(name), b.for_(MEMBERS, "parallel") as member:
            start = b.mul(member.i, SIZE)
            with b.for_(SIZE, "vector") as loop:
                place = b.add(start, loop.i)
                b.store(target, place, work(place))

    pass_over("near", near, lambda at: b.add(b.load(shares, at), 1.0))
    with b.kernel("apart"), b.for_(1, "serial") as loop:
        b.store(beside, loop.i, 0.0)
    if spoilt:
        place = list(sizes).index(spoilt)
        over = b.temp("over", "f64", MEMBERS, place * BYTES)
        with b.kernel("spoil"), b.for_(MEMBERS, "serial") as loop:
            b.store(over, loop.i, 0.0)
    pass_over("later", more, lambda at: b.sub(b.load(shares, at), b.load(near, at)))
    pass_over("end", out, lambda at: b.add(b.load(more, at), b.load(shares, at)))
    return b.finish(5 * BYTES)


def found_in(program: Program) -> list[Again]:
    """What may be computed again after the first two kernels."""
    members = [member_of(kernel) for kernel in program.kernels]
    return candidates(program, members, [range(2)], 1 << 22)


def test_shares_are_computed_again_from_what_is_kept() -> None:
    program = layer()
    (again,) = found_in(program)
    assert (again.buffer.name, program.kernels[again.before].name) == ("shares", "later")
    longer = with_again(program, [again])
    check_program(longer)
    assert [k.name for k in longer.kernels][-3:] == ["make_again", "later", "end"]
    values = np.random.default_rng(0).normal(size=COUNT)
    for mine, expected in zip(run(longer, [values]), run(program, [values]), strict=True):
        np.testing.assert_array_equal(mine, expected)


def test_what_is_computed_again_is_as_small_as_a_block() -> None:
    program = layer()
    made, lines = in_blocks(program)
    check_program(made)
    assert lines[-1] == "make_again: computes shares rather than keep it"
    sizes = {b.name: b.size for b in made.buffers}
    assert sizes["kept"] == COUNT
    assert max(sizes["shares"], sizes["shares_again"], sizes["more"]) < COUNT
    values = np.random.default_rng(0).normal(size=COUNT)
    for mine, expected in zip(run(made, [values]), run(program, [values]), strict=True):
        np.testing.assert_array_equal(mine, expected)


@pytest.mark.parametrize("spoilt", ["kept", "total"])
def test_what_is_no_more_cannot_be_read(spoilt: str) -> None:
    assert found_in(layer(spoilt)) == []


@pytest.mark.parametrize(
    "made",
    ["no total", "long", "of two", "twice", "over it", "one place", "ahead", "on itself"]
    + ["sum of a product"],
)
def test_what_takes_long_or_is_not_known_is_kept(made: str) -> None:
    assert found_in(layer(made=made)) == []


def test_only_later_kernels_have_it_computed_again() -> None:
    program = layer()
    earlier = Program("p", program.buffers, program.kernels[:-2], program.arena_bytes)
    assert found_in(earlier) == []
