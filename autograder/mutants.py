"""Automatic mutants of a reference solution: one small change each, as a slip of the pen would
make.

Left alone are docstrings, annotations, messages of exceptions and names: to change those changes
no result.
"""

import ast
import copy
from collections.abc import Callable, Iterator
from dataclasses import dataclass

BINARY: dict[type[ast.operator], type[ast.operator]] = {
    ast.Add: ast.Sub,
    ast.Sub: ast.Add,
    ast.Mult: ast.Div,
    ast.Div: ast.Mult,
    ast.Pow: ast.Mult,
    ast.FloorDiv: ast.Mult,
    ast.Mod: ast.FloorDiv,
    ast.MatMult: ast.Mult,
    ast.BitAnd: ast.BitOr,
    ast.BitOr: ast.BitAnd,
}
COMPARE: dict[type[ast.cmpop], type[ast.cmpop]] = {
    ast.Lt: ast.LtE,
    ast.LtE: ast.Lt,
    ast.Gt: ast.GtE,
    ast.GtE: ast.Gt,
    ast.Eq: ast.NotEq,
    ast.NotEq: ast.Eq,
    ast.In: ast.NotIn,
    ast.NotIn: ast.In,
    ast.Is: ast.IsNot,
    ast.IsNot: ast.Is,
}
METHODS = {
    "sum": "mean",
    "mean": "sum",
    "max": "min",
    "min": "max",
    "amax": "amin",
    "amin": "amax",
    "exp": "expm1",
    "sqrt": "square",
    "cos": "sin",
    "sin": "cos",
    "zeros_like": "ones_like",
    "ones_like": "zeros_like",
    "zeros": "ones",
    "ones": "zeros",
    "append": "remove",
    "clamp_min": "clamp_max",
}


@dataclass(frozen=True)
class Mutant:
    """A changed program and the change in words: `line 3: a + b -> a - b`."""

    description: str
    source: str


def mutants(source: str) -> list[Mutant]:
    """All mutants that differ from the source and from each other, in its order."""
    tree = ast.parse(source)
    plain = ast.unparse(tree)
    found: dict[str, Mutant] = {}
    for index, node in enumerate(_code(tree)):
        for change in _changes(node):
            mutated = copy.deepcopy(tree)
            target = list(_code(mutated))[index]
            before = _short(target)
            words = change(target)
            text = ast.unparse(ast.fix_missing_locations(mutated))
            if text != plain and text not in found:
                words = words or f"{before} -> {_short(target)}"
                found[text] = Mutant(f"line {getattr(target, 'lineno', 0)}: {words}", text)
    return list(found.values())


def _short(node: ast.AST) -> str:
    text = ast.unparse(node).split("\n")[0]
    return text if len(text) <= 70 else text[:67] + "..."


def _code(tree: ast.AST) -> Iterator[ast.AST]:
    """Nodes whose change can change a result, in a fixed order."""
    for name, value in ast.iter_fields(tree):
        if name in ("annotation", "returns", "decorator_list", "ctx") or isinstance(
            tree, ast.Raise
        ):
            continue
        for child in value if isinstance(value, list) else [value]:
            if not isinstance(child, ast.AST) or _is_docstring(child):
                continue
            yield child
            yield from _code(child)


def _is_docstring(node: ast.AST) -> bool:
    return (
        isinstance(node, ast.Expr)
        and isinstance(node.value, ast.Constant)
        and isinstance(node.value.value, str)
    )


Change = Callable[[ast.AST], str | None]


def _changes(node: ast.AST) -> Iterator[Change]:
    """The changes at one node: each edits it in place, and may put itself into words."""
    if isinstance(node, ast.BinOp) and type(node.op) in BINARY:
        yield lambda n: setattr(n, "op", BINARY[type(n.op)]())  # type: ignore[attr-defined]
        if isinstance(node.op, ast.Sub | ast.Div | ast.MatMult):
            yield _swap_operands
    if isinstance(node, ast.AugAssign) and type(node.op) in BINARY:
        yield lambda n: setattr(n, "op", BINARY[type(n.op)]())  # type: ignore[attr-defined]
    if isinstance(node, ast.Compare) and type(node.ops[0]) in COMPARE:
        yield lambda n: n.ops.__setitem__(0, COMPARE[type(n.ops[0])]())  # type: ignore[attr-defined]
    if isinstance(node, ast.BoolOp):
        yield lambda n: setattr(n, "op", ast.Or() if isinstance(n.op, ast.And) else ast.And())  # type: ignore
    if isinstance(node, ast.If | ast.IfExp | ast.While):
        yield _negate
    if isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.USub):
        yield lambda n: setattr(n, "op", ast.UAdd())
    if isinstance(node, ast.Constant):
        yield from _constants(node)
    if isinstance(node, ast.Call):
        yield from _calls(node)
    if isinstance(node, ast.FunctionDef | ast.If | ast.For | ast.While | ast.With):
        yield from _dropped(node)


def _swap_operands(node: ast.AST) -> None:
    assert isinstance(node, ast.BinOp)
    node.left, node.right = node.right, node.left


def _negate(node: ast.AST) -> str:
    assert isinstance(node, ast.If | ast.IfExp | ast.While)
    before = ast.unparse(node.test)
    node.test = ast.UnaryOp(ast.Not(), node.test)
    return f"{before} -> not ({before})"


def _constants(node: ast.Constant) -> Iterator[Change]:
    if isinstance(node.value, bool):
        yield lambda n: setattr(n, "value", not n.value)  # type: ignore[attr-defined]
    elif isinstance(node.value, int | float):
        yield lambda n: setattr(n, "value", n.value + 1)  # type: ignore[attr-defined]
        if abs(node.value) not in (0, 1):
            yield lambda n: setattr(n, "value", n.value * 2)  # type: ignore[attr-defined]


def _calls(node: ast.Call) -> Iterator[Change]:
    if isinstance(node.func, ast.Attribute) and node.func.attr in METHODS:
        yield lambda n: setattr(n.func, "attr", METHODS[n.func.attr])  # type: ignore[attr-defined]
    if len(node.args) >= 2 and not any(isinstance(arg, ast.Starred) for arg in node.args[:2]):
        yield lambda n: n.args.__setitem__(slice(0, 2), n.args[1::-1])  # type: ignore[attr-defined]
    for index in range(len(node.keywords)):
        yield _drop_keyword(index)


def _drop_keyword(index: int) -> Change:
    def change(node: ast.AST) -> None:
        assert isinstance(node, ast.Call)
        del node.keywords[index]

    return change


def _dropped(node: ast.AST) -> Iterator[Change]:
    """Leave out one statement of a block; the value of a `return` becomes None."""
    for index, statement in enumerate(getattr(node, "body", [])):
        if not _is_docstring(statement) and not isinstance(statement, ast.Pass):
            yield _drop_statement(index)


def _drop_statement(index: int) -> Change:
    def change(node: ast.AST) -> str:
        body = node.body  # type: ignore[attr-defined]
        gone, body[index] = body[index], ast.Pass()
        return f"without {_short(gone)!r}"

    return change
