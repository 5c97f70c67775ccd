"""The table of elementary functions, and the functions of a module that were asked for.

GENERATORS holds one formula for each name; a name without one is the C function of each lane.
Replacing a C function by a formula is one line there.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import cache, partial
from importlib import import_module
from typing import Literal, TypeAlias

from jit.conversions import rounded
from jit.intrinsics import trigonometric
from jit.intrinsics.algebra import Careful, F, Maths, several
from jit.loop_ir.nodes import COMPLEX_PARTS, DType
from jit.names import COLD
from jit.vectors import Target, Writer, mangled, register, vector

Generator: TypeAlias = Callable[..., F]


GENERATORS: dict[str, str] = {
    "exp": "exponential.exp",
    "exp2": "exponential.exp2",
    "expm1": "exponential.expm1",
    "tanh": "exponential.tanh",
    "logistic": "exponential.logistic",
    "log": "logarithm.log",
    "log2": "logarithm.log2",
    "log10": "logarithm.log10",
    "log1p": "logarithm.log1p",
    "sin": "trigonometric.sin",
    "cos": "trigonometric.cos",
    "tan": "trigonometric.tan",
    "pow": "power.pow",
    "fmod": "power.fmod",
    "erf": "error.erf",
    "erfc": "error.erfc",
    "erfinv": "error.erfinv",
    "sinh": "exponential.sinh",
    "cosh": "exponential.cosh",
    "asin": "inverse.asin",
    "acos": "inverse.acos",
    "atan": "inverse.atan",
    "atan2": "inverse.atan2",
    "asinh": "inverse.asinh",
    "acosh": "inverse.acosh",
    "atanh": "inverse.atanh",
    "lgamma": "gamma.lgamma",
    "digamma": "gamma.digamma",
    "cbrt": "inverse.cbrt",
    "exp_cos": "waves.exp_cos",
    "exp_sin": "waves.exp_sin",
    "cosh_cos": "waves.cosh_cos",
    "cosh_sin": "waves.cosh_sin",
    "sinh_cos": "waves.sinh_cos",
    "sinh_sin": "waves.sinh_sin",
    "tanh_re": "waves.tanh_re",
    "tanh_im": "waves.tanh_im",
    "norm": "waves.norm",
    "norm_rest": "waves.norm_rest",
}
"""The formula of each function, and the file that it stands in."""
PARTS: dict[str, str] = {
    "any log": "logarithm.log_of_any",
    "any log2": "logarithm.log2_of_any",
    "any log10": "logarithm.log10_of_any",
    "signed pow": "power.signed_pow",
    "reflected lgamma": "gamma.reflected_lgamma",
    "reflected digamma": "gamma.reflected_digamma",
}
"""What formulas call where arguments are rare."""
BY_DOUBLE = COMPLEX_PARTS | {"fmod", "lgamma", "digamma"}
"""Functions of floats that go by way of double."""
# Formulas so short that the call and the spills around it show: 15 to 20 % for exp.
SHORT = frozenset({"exp", "exp2", "log", "log2", "log10", "sin", "cos", "logistic", "atan2"})
# Those that are so short for floats alone.
SHORT_SINGLE = SHORT | {"tan", "atan", "tanh", "pow"}
# What a loop that takes long gains from as well: what it keeps in registers stays there.
MOST = SHORT | {"tan", "atan", "tanh", "erf", "erfc", "expm1", "log1p"}
InPlace: TypeAlias = Literal["none", "short", "most"]
"""Which functions a loop writes in place."""


# C functions that are right to one unit everywhere: what runs once is not worth compiling another.
LIBRARY = frozenset({"exp", "exp2", "log", "log2", "sin", "cos", "pow"})


def through_double(formula: Generator) -> Generator:
    """A formula for doubles that serves floats by way of double."""

    def both(m: Maths, *args: F) -> F:
        if m.double:
            return formula(m, *args)
        d = m.doubles()
        return m.narrow(formula(d, *[m.widen(a, d) for a in args]))

    return both


@cache
def generator(name: str) -> Generator:
    """What writes a function: its file is imported when a program first calls it."""
    file, formula = (GENERATORS.get(name) or PARTS[name]).split(".")
    found: Generator = getattr(import_module(f"jit.intrinsics.{file}"), formula)
    return through_double(found) if name in BY_DOUBLE else found


class Intrinsics:
    """Internal functions `ft.<name>.<type>` of one module, each written when first called.

    `once`: the function that is being written evaluates each of its calls once.
    """

    def __init__(self, target: Target) -> None:
        self.target = target
        # With AVX alone LLVM clears the upper halves (vzeroupper) of registers that it counts on
        # to survive calls of this convention; AVX-512 has others that survive, SSE no upper halves.
        survive = "avx" not in target.present or target.vector_bytes == 64
        kept = survive and target.triple.startswith("x86_64")
        self.convention = "intel_ocl_bicc " if kept else ""
        self.functions: list[str] = []
        self.declares: set[str] = set()
        self.externals: set[str] = set()
        self.once = False
        self._written: set[str] = set()

    def call(
        self,
        w: Writer,
        name: str,
        dtype: DType,
        lanes: int,
        args: tuple[str, ...],
        in_place: InPlace = "none",
    ) -> str:
        """name(args) on vectors of `lanes` values of a float type, in register form.

        in_place: which formulas are written here instead of called.
        """
        scalar = register(dtype, 1)
        if self.once and name in LIBRARY:
            found = w.external(scalar, c_name(name, scalar), *[(scalar, a) for a in args])
            return rounded(w, dtype, 1, found)
        short = SHORT if scalar == "double" else SHORT_SINGLE
        if name in {"none": (), "short": short, "most": MOST | short}[in_place]:
            m = Maths(w, scalar, lanes, self)
            found = generator(name)(m, *[F(m, a) for a in args])
            return rounded(w, dtype, lanes, found.text)
        if name in GENERATORS:
            function = self.formula(name, scalar, lanes, len(args))
        else:
            function = self.each(name, scalar, lanes, len(args))
        kind = register(dtype, lanes)
        passed = ", ".join([f"{kind} {a}" for a in args])
        return rounded(w, dtype, lanes, w(f"call {self.convention}{kind} @{function}({passed})"))

    def sin_and_cos(
        self, w: Writer, dtype: DType, lanes: int, arg: str, inline: bool
    ) -> tuple[str, str]:
        """Both of one argument: the bits that `call` gives for each, in less time."""
        scalar, kind = register(dtype, 1), register(dtype, lanes)
        if inline:
            m = Maths(w, scalar, lanes, self)
            found = [each.text for each in trigonometric.sin_and_cos(m, F(m, arg))]
        else:
            function = f"ft.sin_and_cos.{mangled(scalar, lanes)}"
            self._write_pair(function, scalar, lanes)
            both = w(f"call {self.convention}{{ {kind}, {kind} }} @{function}({kind} {arg})")
            found = [w(f"extractvalue {{ {kind}, {kind} }} {both}, {place}") for place in (0, 1)]
        sine, cosine = [rounded(w, dtype, lanes, text) for text in found]
        return sine, cosine

    def _write_pair(self, function: str, scalar: str, lanes: int) -> None:
        if function in self._written:
            return
        self._written.add(function)
        w = Writer(self.target, self.declares, self.externals)
        m = Maths(w, scalar, lanes, self)
        sine, cosine = trigonometric.sin_and_cos(m, F(m, "%a0"))
        kind = vector(scalar, lanes)
        self.define(function, w, kind, 1, together(w, kind, [sine, cosine]), count=2)

    def formula(self, name: str, scalar: str, lanes: int, arity: int) -> str:
        """The function of a generator."""
        function = f"ft.{name.replace(' ', '.')}.{mangled(scalar, lanes)}"
        if function not in self._written:
            self._written.add(function)
            w = Writer(self.target, self.declares, self.externals)
            m = Maths(w, scalar, lanes, self)
            result = generator(name)(m, *[F(m, f"%a{k}") for k in range(arity)])
            self.define(function, w, vector(scalar, lanes), arity, result.text)
        return function

    def each(self, name: str, scalar: str, lanes: int, arity: int) -> str:
        """A function that calls the C function of one lane after the other."""
        function = f"ft.each.{name}.{mangled(scalar, lanes)}"
        if function not in self._written:
            self._written.add(function)
            w = Writer(self.target, self.declares, self.externals)
            operands = [f"%a{k}" for k in range(arity)]
            result = each_lane(w, c_name(name, scalar), scalar, lanes, operands)
            self.define(function, w, vector(scalar, lanes), arity, result, COLD)
        return function

    def beyond(self, careful: Careful, scalar: str, lanes: int, arity: int, results: int) -> str:
        """A function of flags, results and arguments: the results where no flag is set."""
        name = careful if isinstance(careful, str) else careful.__name__
        function = f"ft.{name}.beyond.{mangled(scalar, lanes)}"
        if function not in self._written:
            self._written.add(function)
            w = Writer(self.target, self.declares, self.externals)
            m = Maths(w, scalar, lanes, self)
            flags, *given = [F(m, f"%a{k}") for k in range(1 + results + arity)]
            usual, args = given[:results], given[results:]
            if isinstance(careful, str):
                # The loop over the lanes stands here: one function less.
                careful = partial(in_line, careful)
            chosen = m.chosen(~flags.eq(0.0), usual, careful, args)
            kind = vector(scalar, lanes)
            whole = together(w, kind, chosen)
            count = 1 + results + arity
            self.define(function, w, kind, count, whole, COLD, results)
        return function

    def define(
        self,
        function: str,
        w: Writer,
        kind: str,
        arity: int,
        result: str,
        attributes: str = "nounwind",
        count: int = 1,
    ) -> None:
        """Add a function to the module; its results are of the kind of its arguments."""
        made = several(kind, count)
        params = ", ".join([f"{kind} %a{k}" for k in range(arity)])
        head = f"define internal {self.convention}{made} @{function}({params}) {attributes} {{"
        self.functions.append("\n".join([head, "entry:", *w.lines, f"  ret {made} {result}", "}"]))


def together(w: Writer, kind: str, results: Sequence[F]) -> str:
    """Results as what a function returns."""
    if len(results) == 1:
        return results[0].text
    made = several(kind, len(results))
    whole = "undef"
    for k, result in enumerate(results):
        whole = w(f"insertvalue {made} {whole}, {kind} {result.text}, {k}")
    return whole


def in_line(name: str, m: Maths, *args: F) -> F:
    """The C function of one lane after the other, where a function begins."""
    operands = [a.text for a in args]
    return F(m, each_lane(m.w, c_name(name, m.scalar), m.scalar, m.lanes, operands))


def c_name(name: str, scalar: str) -> str:
    """A function of the C library, by its name for doubles."""
    return name + ("f" if scalar == "float" else "")


def each_lane(w: Writer, name: str, scalar: str, lanes: int, operands: list[str]) -> str:
    """A loop over the lanes, through the stack: small code for a slow path."""
    if lanes == 1:
        return w.external(scalar, name, *[(scalar, v) for v in operands])
    kind = vector(scalar, lanes)
    rooms = [w(f"alloca {kind}, align 64") for _ in operands]
    for room, operand in zip(rooms, operands, strict=True):
        w.do(f"store {kind} {operand}, ptr {room}, align 64")
    w.jump("loop")
    w.open("loop")
    w.do("%k = phi i64 [ 0, %entry ], [ %next, %loop ]")
    places = [w(f"getelementptr {scalar}, ptr {room}, i64 %k") for room in rooms]
    values = [(scalar, w(f"load {scalar}, ptr {place}")) for place in places]
    found = w.external(scalar, name, *values)
    w.do(f"store {scalar} {found}, ptr {places[0]}")
    w.do("%next = add i64 %k, 1")
    w.branch(w(f"icmp ult i64 %next, {lanes}"), "loop", "done")
    w.open("done")
    return w(f"load {kind}, ptr {rooms[0]}, align 64")
