"""Weights: how much there is to do in a block."""

from __future__ import annotations

from jit.loop_ir.nodes import INTRINSICS, Block, For, If, Op, While

INTRINSIC_WEIGHT = 25
"""So many simple instructions take as long as an elementary function."""


def weigh(block: Block) -> int:
    """Roughly the number of instructions of a body."""
    total = 0
    for stmt in block.stmts:
        match stmt:
            case Op():
                total += INTRINSIC_WEIGHT if stmt.name in INTRINSICS else 1
            case For():
                total += 4 + weigh(stmt.body)
            case While():
                total += 4 + weigh(stmt.test_block) + weigh(stmt.body)
            case If():
                total += 2 + weigh(stmt.then) + weigh(stmt.orelse)
            case _:
                total += 1
    return total
