"""Where a student's source uses methods of the classes that it defines itself."""

import ast
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass


@dataclass(frozen=True)
class Own:
    """What a class of the source defines: methods of its instances, and those of itself."""

    node: ast.ClassDef
    methods: frozenset[str]
    statics: frozenset[str]  # static and class methods


def own_methods(tree: ast.Module) -> set[int]:
    """The ids of the attributes in a syntax tree that can only be methods of its own classes.

    A class that defines `backward` may call `self.backward(...)`, and so may who made it:
    `Linear(3, 2).backward(...)`, or `layer = Linear(3, 2)` and then `layer.backward(...)`. Names
    have to be bound in no other way anywhere in the source: `layer` might be a tensor otherwise.
    """
    bound = _bindings(tree)
    classes = [_own(node) for node in ast.walk(tree) if isinstance(node, ast.ClassDef)]
    known = {own.node.name: own for own in classes if bound[own.node.name] == 1}
    allowed = {name: own.statics for name, own in known.items()}
    for name, makers in _makers(tree).items():
        if len(makers) == bound[name] and all(maker in known for maker in makers):
            each = [known[maker].methods | known[maker].statics for maker in makers]
            allowed[name] = frozenset.intersection(*each)
    found = set(_uses(tree, allowed)) | set(_uses_of_new(tree, known))
    for own in classes:
        found.update(_uses_of_self(own))
    return found


def _own(node: ast.ClassDef) -> Own:
    parts = [part for part in node.body if isinstance(part, ast.FunctionDef)]
    plain = frozenset(part.name for part in parts if not part.decorator_list)
    return Own(node, plain, frozenset(part.name for part in parts if _decorator(part)))


def _decorator(function: ast.FunctionDef) -> str:
    """`staticmethod` or `classmethod`, where nothing else stands above the function."""
    names = [getattr(decorator, "id", "") for decorator in function.decorator_list]
    return names[0] if names in (["staticmethod"], ["classmethod"]) else ""


def _uses_of_self(own: Own) -> Iterator[int]:
    """`self.method` in a method, where `self` is its first argument and nothing else."""
    for function in own.node.body:
        if not isinstance(function, ast.FunctionDef) or _decorator(function) == "staticmethod":
            continue
        arguments = function.args.posonlyargs + function.args.args
        if arguments and _bindings(function)[arguments[0].arg] == 1:
            if not function.decorator_list:
                yield from _uses(function, {arguments[0].arg: own.methods | own.statics})
            elif _decorator(function):
                yield from _uses(function, {arguments[0].arg: own.statics})


def _uses(tree: ast.AST, allowed: dict[str, frozenset[str]]) -> Iterator[int]:
    """`name.method` for names with the methods that are allowed for each."""
    for node in ast.walk(tree):
        if (
            isinstance(node, ast.Attribute)
            and isinstance(node.value, ast.Name)
            and node.attr in allowed.get(node.value.id, ())
        ):
            yield id(node)


def _uses_of_new(tree: ast.Module, known: dict[str, Own]) -> Iterator[int]:
    """`Class(...).method`."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Call):
            own = known.get(getattr(node.value.func, "id", ""))
            if own is not None and node.attr in own.methods | own.statics:
                yield id(node)


def _makers(tree: ast.Module) -> dict[str, list[str]]:
    """For each variable what is called to make it: `layer = Linear(3, 2)` gives "Linear"."""
    found: dict[str, list[str]] = {}
    for node in ast.walk(tree):
        if isinstance(node, ast.Assign):
            pairs = [pair for target in node.targets for pair in _pairs(target, node.value)]
        elif isinstance(node, ast.AnnAssign) and node.value is not None:
            pairs = _pairs(node.target, node.value)
        else:
            continue
        for target, value in pairs:
            if isinstance(target, ast.Name) and isinstance(value, ast.Call):
                found.setdefault(target.id, []).append(getattr(value.func, "id", ""))
    return found


def _pairs(target: ast.expr, value: ast.expr) -> list[tuple[ast.expr, ast.expr]]:
    """`a, b = 1, 2` is two assignments."""
    if isinstance(target, ast.Tuple) and isinstance(value, ast.Tuple):
        return list(zip(target.elts, value.elts, strict=False))
    return [(target, value)]


def _bindings(tree: ast.AST) -> Counter[str]:
    """How often each name is bound, in whatever way."""
    found: Counter[str] = Counter()
    for node in ast.walk(tree):
        if isinstance(node, ast.Name) and not isinstance(node.ctx, ast.Load):
            found[node.id] += 1
        elif isinstance(node, ast.arg):
            found[node.arg] += 1
        elif isinstance(node, ast.alias):
            found[(node.asname or node.name).partition(".")[0]] += 1
        elif isinstance(node, ast.Global | ast.Nonlocal):
            found.update(node.names)
        elif isinstance(node, ast.MatchMapping):
            found[node.rest or ""] += 1
        elif isinstance(node, ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            found[node.name] += 1
        elif isinstance(node, ast.ExceptHandler | ast.MatchAs | ast.MatchStar):
            found[node.name or ""] += 1
    return found
