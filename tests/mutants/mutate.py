"""Makes mutants: one small change each to the body of a rule, a lowering or the emitter's loops.

Kinds: a flipped sign, a dropped term, swapped operands, a wrong axis, a wrong mask tail. Error
messages, the checks that raise them, and what is printed are left alone.
"""

from __future__ import annotations

import ast
import hashlib
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]

RULES = ("functrans/primitives/*.py", "functrans/transforms/*.py", "functrans/control/*.py")
LOWERINGS = ("jit/lowering/*.py",)
TAILS = ("jit/loops.py", "jit/vector_loop.py", "jit/squares.py", "jit/memory.py")

OPPOSITE = {"add": "sub", "sub": "add", "max": "min", "min": "max", "sin": "cos", "cos": "sin"}
TERMS = {"add", "sub", "mul", "scale", "div", "and_", "or_", "both"}
ORDERED = {"sub", "div", "pow", "lt", "le", "gt", "ge", "remainder", "fmod", "floor_divide"}
CHOICES = {"select", "where", "choose"}
AXES = {"axis", "dim", "place", "along"}
NAMES_OF_TAILS = ("mask", "active", "full", "lanes", "vector", "copy")
COMPARISONS = {"icmp sgt": "icmp sge", "icmp slt": "icmp sle", "icmp ult": "icmp ule"}


@dataclass(frozen=True)
class Mutant:
    """The change numbered `index` among those of its file.

    Of equal changes to one function it is the one numbered `again`. `text` is a digest of the
    function, or of the statement that is no function.
    """

    file: str
    index: int
    kind: str
    line: int
    function: str
    change: str
    again: int
    text: str

    @property
    def id(self) -> str:
        """The same for the same change, wherever in the file it stands."""
        repeated = f" ({self.again + 1})" if self.again else ""
        return f"{self.file} {self.function}: {self.kind}: {self.change}{repeated}"

    def __str__(self) -> str:
        return f"{self.file}:{self.line} in {self.function}: {self.kind}: {self.change}"


@dataclass(frozen=True)
class Site:
    """A place where a change can be made; `make` gives the new node."""

    node: ast.expr
    kind: str
    make: Callable[[], ast.expr]


def mutants(patterns: tuple[str, ...] = (*RULES, *LOWERINGS, *TAILS)) -> list[Mutant]:
    """Every mutant of the files, in a fixed order."""
    files = sorted({f for p in patterns for f in ROOT.glob(p)})
    return [m for file in files for m in mutants_of(file)]


def mutants_of(file: Path) -> Iterator[Mutant]:
    name, met = str(file.relative_to(ROOT)), Counter[tuple[str, str, str]]()
    digests = dict[ast.AST, str]()
    for index, (scope, function, site) in enumerate(sites(ast.parse(file.read_text()), name)):
        before, after = ast.unparse(site.node), ast.unparse(site.make())
        change = f"{_short(before)}  ->  {_short(after)}"
        key = function, site.kind, change
        if scope not in digests:
            digests[scope] = digest(ast.unparse(scope))
        yield Mutant(
            name, index, site.kind, site.node.lineno, function, change, met[key], digests[scope]
        )
        met[key] += 1


def digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def _short(text: str) -> str:
    text = " ".join(text.split())
    return text if len(text) <= 90 else text[:87] + "..."


@cache
def parsed(file: str) -> tuple[ast.Module, list[Site]]:
    """The syntax tree of a file, and its sites."""
    tree = ast.parse((ROOT / file).read_text())
    return tree, [site for _, _, site in sites(tree, file)]


def mutated_tree(mutant: Mutant) -> ast.Module:
    """The file's syntax tree with the change made. What `parsed` kept is used up."""
    tree, found = parsed(mutant.file)
    parsed.cache_clear()
    site = found[mutant.index]
    return replaced(tree, {site.node: lambda _: site.make()})


def probed_tree(file: str, probe: str, first: int) -> tuple[ast.Module, list[int]]:
    """The file's syntax tree in which each site, when evaluated, calls `probe` with its number.

    The sites are numbered from `first`; what stands at several has the number of the first one.
    The second result is the number that each has.
    """
    tree = ast.parse((ROOT / file).read_text())
    numbers, each = dict[ast.expr, int](), list[int]()
    for number, (_, _, site) in enumerate(sites(tree, file), first):
        each.append(numbers.setdefault(site.node, number))

    def probed(node: ast.expr) -> ast.expr:
        told = ast.Call(ast.Name(probe, ast.Load()), [ast.Constant(numbers[node])], [])
        return ast.Subscript(
            ast.Tuple([told, _copy(node)], ast.Load()), ast.Constant(1), ast.Load()
        )

    return replaced(tree, dict.fromkeys(numbers, probed)), each


def _copy(node: ast.expr) -> ast.expr:
    """Another node with the same children: one that is not replaced again."""
    fields = dict(ast.iter_fields(node))
    return ast.copy_location(type(node)(**fields), node)


def replaced(tree: ast.Module, new: dict[ast.expr, Callable[[ast.expr], ast.expr]]) -> ast.Module:
    """The tree with some of its nodes exchanged, the inner ones first."""

    class Replace(ast.NodeTransformer):
        def visit(self, node: ast.AST) -> ast.AST:
            self.generic_visit(node)
            if isinstance(node, ast.expr) and node in new:
                return ast.copy_location(new[node](node), node)
            return node

    return ast.fix_missing_locations(Replace().visit(tree))


# -- where changes can be made ------------------------------------------------------------------


def sites(tree: ast.Module, file: str) -> Iterator[tuple[ast.AST, str, Site]]:
    """The sites of a file, each with the function or assignment it stands in, and its name."""
    tails = file in TAILS
    for statement in tree.body:
        yield from _sites_in(statement, _name_of(statement), tails)


def _name_of(node: ast.AST) -> str:
    match node:
        case ast.FunctionDef() | ast.ClassDef():
            return node.name
        case ast.Assign(targets=[target, *_]):
            return ast.unparse(target)
        case _:
            return "module"


def _sites_in(node: ast.AST, name: str, tails: bool) -> Iterator[tuple[ast.AST, str, Site]]:
    if isinstance(node, ast.ClassDef):
        for child in node.body:
            if isinstance(child, ast.FunctionDef):
                yield from _sites_in(child, f"{name}.{child.name}", tails)
        return
    bodies = [n for n in ast.walk(node) if isinstance(n, ast.Lambda | ast.FunctionDef)]
    inside = set[ast.AST]()
    for body in bodies:
        if isinstance(body, ast.FunctionDef) and body.name.startswith(
            ("check", "require", "_check", "__repr__")
        ):
            continue
        parts = [body.body] if isinstance(body, ast.Lambda) else body.body
        for part in parts:
            inside.update(_walk(part))
    inside -= _mapped_axes(node)
    found = tail_sites if tails else rule_sites
    if tails and not any(word in name for word in NAMES_OF_TAILS):
        return
    for child in _in_order(node, inside):
        for site in found(child):
            yield node, name, site


def _mapped_axes(node: ast.AST) -> set[ast.AST]:
    """Calls that pass on the mapped axis of a batching rule, which is not a number."""
    names = {
        a.arg
        for a in ast.walk(node)
        if isinstance(a, ast.arg) and a.annotation and "MappedAxis" in ast.unparse(a.annotation)
    }
    return {
        n
        for n in ast.walk(node)
        if isinstance(n, ast.Call)
        and any(isinstance(a, ast.Name) and a.id in names for a in n.args)
    }


def _walk(node: ast.AST) -> Iterator[ast.AST]:
    """All below a node, but errors, assertions, docstrings, annotations, patterns and checks."""
    if _is_check(node):
        return
    yield node
    for field, child in ast.iter_fields(node):
        if field in ("annotation", "returns", "decorator_list", "args") and isinstance(
            node, ast.FunctionDef | ast.arg | ast.AnnAssign
        ):
            continue
        for item in child if isinstance(child, list) else [child]:
            if isinstance(item, ast.AST):
                yield from _walk(item)


def _is_check(node: ast.AST) -> bool:
    match node:
        case ast.Raise() | ast.Assert() | ast.JoinedStr() | ast.pattern():
            return True
        case ast.If(body=[*_, ast.Raise()]):
            return True
        case ast.Call(func=ast.Name(id=name)) if name.startswith(("check_", "require_", "_check")):
            return True
        case ast.Expr(value=ast.Constant()):
            return True
        case _:
            return False


def _in_order(node: ast.AST, inside: set[ast.AST]) -> Iterator[ast.AST]:
    return (n for n in ast.walk(node) if n in inside)


def rule_sites(node: ast.AST) -> Iterator[Site]:
    """Sign, dropped term, swapped operands and wrong axis."""
    match node:
        case ast.UnaryOp(op=ast.USub(), operand=operand):
            yield Site(node, "sign", lambda: operand)
        case ast.BinOp(left=left, op=ast.Add() | ast.Sub(), right=right):
            if not _is_sequence(left) and not _is_sequence(right):
                yield from _arithmetic(node)
        case ast.BinOp(left=left, op=ast.Mult(), right=right):
            if not _is_sequence(left) and not _is_sequence(right):
                yield Site(node, "dropped term", lambda: first_of(left, right))
        case ast.BinOp(left=left, op=op, right=right) if isinstance(
            op, ast.Div | ast.FloorDiv | ast.Mod | ast.MatMult
        ):
            yield Site(node, "swapped operands", lambda: ast.BinOp(right, op, left))
        case ast.Call(func=func, args=args):
            yield from _call_sites(node, _called(func), args)
        case ast.Compare(left=ast.expr() as left, ops=[op], comparators=[right]):
            yield from _wrong_bound(node, left, op, right)
        case ast.keyword(arg="axis" | "dim", value=value):
            if not (isinstance(value, ast.Constant) and not value.value):
                yield Site(value, "wrong axis", lambda: one_less(value))
        case _:
            pass


def _is_sequence(node: ast.expr) -> bool:
    return isinstance(node, ast.List | ast.Tuple | ast.JoinedStr | ast.ListComp) or (
        isinstance(node, ast.Constant) and isinstance(node.value, str)
    )


def _arithmetic(node: ast.BinOp) -> Iterator[Site]:
    left, right = node.left, node.right
    if isinstance(node.op, ast.Add):
        yield Site(node, "sign", lambda: ast.BinOp(left, ast.Sub(), right))
    else:
        yield Site(node, "swapped operands", lambda: ast.BinOp(right, ast.Sub(), left))
    yield Site(node, "dropped term", lambda: first_of(left, right))


def _called(func: ast.expr) -> str:
    match func:
        case ast.Name(id=name) | ast.Attribute(attr=name):
            return name
        case _:
            return ""


def _call_sites(node: ast.Call, name: str, args: list[ast.expr]) -> Iterator[Site]:
    """`b`, the builder that lowerings pass along, is not an operand."""
    if any(isinstance(a, ast.Starred) for a in args):
        return
    operands = args[1:] if args and ast.unparse(args[0]) == "b" else args
    lead = args[: len(args) - len(operands)]
    if name in ("neg", "_neg") and len(operands) == 1:
        yield Site(node, "sign", lambda: operands[0])
    if name in OPPOSITE and len(operands) == (1 if name in ("sin", "cos") else 2):
        yield Site(
            node, "sign", lambda: ast.Call(_renamed(node.func, OPPOSITE[name]), args, node.keywords)
        )
    if name in TERMS and len(operands) == 2:
        yield Site(node, "dropped term", lambda: first_of(*operands))
        yield Site(node, "dropped term", lambda: first_of(*operands[::-1]))
    if name in ORDERED | CHOICES and len(operands) >= 2 and not node.keywords:
        swapped = [*operands[:-2], operands[-1], operands[-2]]
        yield Site(node, "swapped operands", lambda: ast.Call(node.func, [*lead, *swapped], []))
    for i, operand in enumerate(operands):
        if isinstance(operand, ast.Name) and operand.id in AXES and name != "isinstance":
            moved = lambda i=i, operand=operand: [
                *operands[:i],
                one_less(operand),
                *operands[i + 1 :],
            ]
            yield Site(
                node,
                "wrong axis",
                lambda moved=moved: ast.Call(node.func, [*lead, *moved()], node.keywords),
            )


def _renamed(func: ast.expr, name: str) -> ast.expr:
    match func:
        case ast.Attribute(value=value):
            return ast.Attribute(value, name, ast.Load())
        case _:
            return ast.Name(name, ast.Load())


def _wrong_bound(
    node: ast.Compare, left: ast.expr, op: ast.cmpop, right: ast.expr
) -> Iterator[Site]:
    """Which axes lie after an inserted one: `a >= dim` for `a > dim`."""
    sides = {side.id for side in (left, right) if isinstance(side, ast.Name)}
    if not sides & AXES:
        return
    other = {ast.GtE: ast.Gt, ast.Gt: ast.GtE, ast.Lt: ast.LtE, ast.LtE: ast.Lt}.get(type(op))
    if other is not None:
        yield Site(node, "wrong axis", lambda: ast.Compare(left, [other()], [right]))


def tail_sites(node: ast.AST) -> Iterator[Site]:
    """A mask that lets one lane too many through, forgets itself, or counts from elsewhere."""
    match node:
        case ast.Compare(left=left, ops=[ast.Lt()], comparators=[right]):
            yield Site(node, "mask tail", lambda: ast.Compare(left, [ast.LtE()], [right]))
        case ast.Call(func=func, args=args) if args and ast.unparse(args[-1]) in (
            "mask",
            "self.active(i, stop)",
            "f'<{bits}>'",
        ):
            yield Site(
                node, "mask tail", lambda: ast.Call(func, [*args[:-1], ast.Constant(None)], [])
            )
        case ast.BinOp(left=left, op=ast.Mod(), right=right):
            yield Site(node, "mask tail", lambda: ast.BinOp(node, ast.Sub(), ast.Constant(1)))
        case ast.BinOp(left=left, op=ast.Mult() | ast.Add() | ast.FloorDiv(), right=right):
            yield Site(node, "mask tail", lambda: ast.BinOp(node, ast.Add(), ast.Constant(1)))
        case ast.Call(
            func=ast.Attribute(attr="w") | ast.Name(id="w"), args=[ast.JoinedStr() as text]
        ):
            for i, part in enumerate(text.values):
                if isinstance(part, ast.Constant):
                    for old, new in COMPARISONS.items():
                        if old in part.value:
                            yield Site(
                                node,
                                "mask tail",
                                lambda i=i, o=old, n=new: _with_text(node, text, i, o, n),
                            )
        case _:
            pass


def _with_text(node: ast.Call, text: ast.JoinedStr, i: int, old: str, new: str) -> ast.expr:
    values = list(text.values)
    values[i] = ast.Constant(values[i].value.replace(old, new))  # type: ignore[attr-defined]
    return ast.Call(node.func, [ast.JoinedStr(values)], [])


def first_of(kept: ast.expr, dropped: ast.expr) -> ast.expr:
    """`kept`, in a form that still mentions what is dropped, so that closures stay the same."""
    return ast.Subscript(ast.Tuple([kept, dropped], ast.Load()), ast.Constant(0), ast.Load())


def one_less(axis: ast.expr) -> ast.expr:
    """The axis before, unless it is the first or None."""
    return ast.BoolOp(ast.And(), [axis, ast.BinOp(axis, ast.Sub(), ast.Constant(1))])
