"""Mutants that change nothing that can be observed, each with the reason."""

from __future__ import annotations

from dataclasses import dataclass

from tests.mutants.mutate import Mutant


@dataclass(frozen=True)
class Equivalent:
    """The changes to a function whose old text contains `old` (and whose new text, `new`)."""

    function: str
    old: str
    reason: str
    new: str = ""

    def covers(self, mutant: Mutant) -> bool:
        before, after = mutant.change.split("  ->  ")
        return mutant.function == self.function and self.old in before and self.new in after


EQUIVALENT: tuple[Equivalent, ...] = (
    Equivalent("_patches", "min(hi, 0)", "what is cut at the far end lies behind the last window"),
    Equivalent("given", "len(coefficients) - 1", "given coefficients end in zeros", "(len("),
    Equivalent("reduction", "a < dim", "shifted axes never equal the mapped one"),
    Equivalent("_position", "moved < dim", "shifted axes never equal the mapped one"),
    Equivalent("_gather_batch", "a < dim", "shifted axes never equal the mapped one"),
    Equivalent("_segment_tangents", "-1", "the fill meets factors of 1 and tangents of 0", "1"),
    Equivalent("choose_dot", "prod(p.batch) * m", "it chooses among ways to the same product"),
    Equivalent("erfinv", "1 + y * newton", "the steps converge all the same"),
    Equivalent("_erfinv_start", "-p * p", "the steps converge all the same", "(-p, p)"),
    Equivalent("linear_recurrence_transpose", "axis, 0", "the first factor is not used"),
    Equivalent("_factored", "1 - i", "the operands are two: -1 is the last of them", "i - 1"),
    Equivalent("logaddexp", "b.sub(x, y)", "its absolute value is taken", "b.sub(y, x)"),
    Equivalent("nextafter", "b.add(x, y)", "NaN either way", "b.sub(x, y)"),
    Equivalent("nextafter", "b.ne(x, x)", "the bits beside those of a NaN are a NaN's", "(b.ne(y"),
    Equivalent("Window.work", "self.n", "it chooses among ways to the same convolution"),
    Equivalent("Writer.branch", "len(self.b.scopes) - 1", "less is computed ahead", "(len(self"),
    Equivalent("Windows.padded", "n - 1", "a longer copy holds the same windows", "(n, 1)"),
    Equivalent("Windows.__init__", "MOST_SLOTS //", "it decides how the same sum is cut"),
    Equivalent("steps_of_polygamma", "STEPS + n", "a dozen terms are enough", "(STEPS,"),
    Equivalent("convolve", "c.work / 8", "it decides about threads, which change no bits"),
    Equivalent("VectorLoop.masked", "n < self.lanes", "a mask of all lanes masks nothing"),
    Equivalent("VectorLoop.active", "icmp sgt i64 {left}, {lanes}", "equal ones are the same"),
    Equivalent("_added_to_slice", "1 - i", "the operands are two: -1 is the last", "i - 1"),
    Equivalent("Asker.add", "copies * steps", "it decides whether a loop runs in registers"),
    Equivalent("Asker.add", "steps * (inner", "it decides whether a loop runs in registers"),
    Equivalent("Asker.scalar", "-count", "it decides whether a loop runs in registers"),
    Equivalent("write_lanes", "part.needs.work", "it decides about threads"),
    Equivalent("inside", "is_dynamic(place)", "the place beside it is as dynamic"),
    Equivalent("Scan.ask", "self.length * needs", "it decides whether a loop runs in registers"),
    Equivalent("RegisterForm.cost", "part.lanes.extent", "it chooses among ways to the same loop"),
    Equivalent("is_crowded", "4 * PARTS", "it decides how the same sum is cut"),
    Equivalent("write_product", "m * n", "it decides about threads, which change no bits", "(m"),
    Equivalent("write_product", "call * outer", "it decides about threads, which change no bits"),
    Equivalent("is_small", "m * n", "it chooses among ways to the same product"),
    Equivalent("takes", "c.i * prod(c.kernel)", "it chooses among ways to the same convolution"),
    Equivalent("choose_conv", "prod(c.kernel)", "it chooses among ways to the same convolution"),
    Equivalent("lower_direct_conv", "copies_at", "a stated length: the offset is what counts"),
    Equivalent("convolve", "direct.slots * size", "a stated length: the offset is what counts"),
    Equivalent("lower_windows_conv", "w.slots *", "a stated length: the offset is what counts"),
    Equivalent("multiply", "w.tasks * ", "a stated length: the offset is what counts"),
    Equivalent("Crowd.__init__", "PARTS * ", "a stated length: the offset is what counts"),
    Equivalent("Space.__init__", "count * ", "a stated length: the offset is what counts"),
    Equivalent("pack_weights", "4.0 * w.aval.size", "it decides about threads"),
    Equivalent("multiply", "c.work / 8", "it decides about threads, which change no bits"),
    Equivalent("add_slots", "w.sums * w.slots", "it decides about threads, which change no bits"),
    Equivalent("add_up", "8.0 * w.sums", "it decides about threads, which change no bits"),
    Equivalent("fill", "size * 1.0", "it decides about threads, which change no bits"),
    Equivalent("fill", "size * element_bytes(x)", "the same zeros either way", "(size"),
    Equivalent("Crowd.write", "size * PARTS", "it decides about threads, which change no bits"),
    Equivalent("Run.rows_from_memory", "prod(self.extents)", "it decides about threads"),
    Equivalent("Run.in_registers", "prod(self.extents)", "it decides about threads"),
    Equivalent("is_crowded", "size", "it decides how the same sum is cut"),
    Equivalent("power", "bits - 1", "the last square is not used", "(bits"),
    Equivalent("lane_slots", "min(lanes, SLOTS)", "slots beyond the lanes run none"),
    Equivalent("Order.taken", "self.n - 1", "a wider range promises less", "(self.n"),
    Equivalent("resolved", "n - 1", "a wider range promises less", "(n, 1)"),
    Equivalent("Divided.range", "self.divisor - 1", "a wider range promises less", "(self"),
    Equivalent("Windows.__init__", "c.i * pieces", "it decides how the same sum is cut", "(min("),
    Equivalent("Scan.write_rolled", "len(b.scopes) - 1", "it orders the terms of the same place"),
    Equivalent(
        "Asker.element_by_element", "self.cost - bef", "it chooses a form of loops", "(self"
    ),
    Equivalent("select_largest", "n - 1", "a wider range promises less", "(n, 1)"),
    Equivalent("lower_concatenate", "both(mask, rest)", "the rest lies behind it", "(rest, mask)"),
    Equivalent("lower_overlap", "4.0 * y.aval.size", "it decides about threads"),
    Equivalent("axis_of", "first * stride + t * rhs", "a number divides as its negative", "low -"),
    Equivalent("scalar_cost", "rule.cost * COMPLEX", "it chooses among ways to the same result"),
    Equivalent("step", "GROUP * MOST_GROUPS", "it decides whether a body is written twice"),
    Equivalent(
        "Writer.depth", "len(self.memos) - 1", "no open loop is without a memo", "(len(self"
    ),
    Equivalent("Writer.hoisted", "len(scopes) - 1", "all of the scopes are the scopes", "(len("),
    Equivalent("names", "known - place", "a difference and its negative are 0 alike", "place - kn"),
    Equivalent("select_largest", "rows * n", "it decides about threads, which change no bits"),
)


def is_equivalent(mutant: Mutant) -> bool:
    return any(e.covers(mutant) for e in EQUIVALENT)
