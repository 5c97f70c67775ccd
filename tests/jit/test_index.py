"""Index arithmetic: quotients and remainders have their values, and take their simplest forms."""

from __future__ import annotations

from itertools import product

import pytest

from jit.lowering.index import (
    Divided,
    Index,
    Loop,
    Splits,
    constant,
    divide,
    of_loop,
    ravel,
    unravel,
)


def value(index: Index, at: dict[Loop, int]) -> int:
    """What an index is where its loops stand."""
    total = index.const
    for atom, factor in index.terms.items():
        if isinstance(atom, Divided):
            inner = value(atom.index, at)
            total += factor * (inner // atom.divisor if atom.quotient else inner % atom.divisor)
        else:
            assert isinstance(atom, Loop)
            total += factor * at[atom]
    return total


@pytest.mark.parametrize("divisor", [2, 3, 4, 6, 8, 12, 24])
@pytest.mark.parametrize(("a", "b", "c"), [(1, 0, 0), (4, 1, 0), (4, 1, 5), (6, 2, 1), (12, -3, 7)])
def test_quotients_and_remainders(a: int, b: int, c: int, divisor: int) -> None:
    i, j = Loop(6), Loop(4)
    index = of_loop(i) * a + of_loop(j) * b + c
    quotient, remainder = divide(index, divisor, Splits())
    for at in product(range(6), range(4)):
        where = dict(zip((i, j), at, strict=True))
        found = value(quotient, where), value(remainder, where)
        assert found == divmod(a * at[0] + b * at[1] + c, divisor)


def test_positions_and_places() -> None:
    i = Loop(60)
    places = unravel(of_loop(i), (3, 4, 5))
    for k in range(60):
        assert [value(p, {i: k}) for p in places] == [k // 20, k // 5 % 4, k % 5]
    assert ravel(places, (3, 4, 5)) == of_loop(i)


def test_common_factors_are_divided_out() -> None:
    """(4 i + j) // 8 is i // 2 where j is less than 4."""
    i, j = of_loop(Loop(6)), of_loop(Loop(4))
    quotient, remainder = divide(i * 4 + j, 8)
    half, odd = Index(0, {Divided(i, 2, True): 1}), Index(0, {Divided(i, 2, False): 1})
    assert (quotient, remainder) == (half, odd * 4 + j)


def test_loops_are_split_where_that_takes_divisions_away() -> None:
    splits, loop, other = Splits(), Loop(12), Loop(10)
    divide(of_loop(loop), 4, splits)
    divide(of_loop(other), 4, splits)
    divide(of_loop(Loop(3)), 4, splits)
    divide(of_loop(Loop(8)) + 1, 4, splits)
    assert splits.wanted == {loop: 4}
    assert divide(of_loop(loop), 12, splits) == (constant(0), of_loop(loop))
