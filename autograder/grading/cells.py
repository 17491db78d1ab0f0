"""What the cells of a notebook say: their statements, and the names that these bind and read."""

import ast
import hashlib
import re
import warnings
from collections.abc import Iterable, Iterator, Mapping, Set
from dataclasses import dataclass
from functools import cached_property, lru_cache
from typing import Any

from nbformat import NotebookNode

from autograder.grading.submission import MAX_PARSED, tidy_cell

KEPT = 500  # sources whose statements are kept; the cells of several notebooks
_PYTHON_MAGICS = {"time", "capture", "prun"}  # those cell magics whose body runs in the notebook
_CELL_MAGIC = re.compile(r"\s*%%(\w*)")
_MAGIC = re.compile(r"(?:\w[\w, ]*=\s*)?[%!].*|\?.*|[\w.]+\?{1,2}\s*")
_DEFINITION = re.compile(r"^(?:async[ \t]+def|def|class)[ \t]+(\w+)", re.MULTILINE)
_DEFS = (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)


@dataclass(frozen=True)
class Statement:
    """One top-level statement; its digest is blind to layout, comments and docstrings."""

    start: int
    end: int
    digest: bytes
    binds: frozenset[str]  # names bound by any means
    defines: frozenset[str]  # of these, the ones bound to a function, a class or another name
    alters: frozenset[str]  # names whose attributes or items are set
    reads: frozenset[str]
    kind: str  # import, definition, constant or other


@dataclass(frozen=True, eq=False)
class Cell:
    """A cell of the submission or the release, with what its syntax tree tells."""

    index: int
    kind: str
    source: str
    grade_id: str | None
    ids: tuple[str, ...]
    solution: bool
    graded: bool
    python: str  # the source with magics turned into strings, line by line
    statements: tuple[Statement, ...]
    broken: frozenset[str]  # names that a cell which does not parse seems to define

    @cached_property
    def squeezed(self) -> str:
        """The source without its layout."""
        return "".join(self.source.split())

    @cached_property
    def lines(self) -> frozenset[str]:
        return frozenset(line.strip() for line in self.source.split("\n")) - {""}

    @cached_property
    def defines(self) -> frozenset[str]:
        return self.defines_beside(frozenset())

    @cached_property
    def rebound(self) -> frozenset[str]:
        """Names bound by other means than a definition, and not to something made of themselves."""
        # `relu = partial(f, 0)` is an answer to relu, `relu = relu(x)` is an accident.
        return frozenset().union(*(s.binds - s.defines - s.reads for s in self.statements))

    def defines_beside(self, digests: Set[bytes]) -> frozenset[str]:
        """Names that the cell defines in other statements than these."""
        return frozenset().union(*(s.defines for s in self.statements if s.digest not in digests))

    def text(self, statements: Iterable[Statement], *, python: bool = False) -> str:
        """The lines of some statements, as they stand or as Python."""
        lines = (self.python if python else self.source).split("\n")
        return "\n".join("\n".join(lines[s.start - 1 : s.end]) for s in statements)


def read_cells(notebook: Mapping[str, Any]) -> list[Cell]:
    """The cells of any notebook, in order."""
    found = notebook.get("cells")
    nodes = [tidy_cell(c) for c in found if isinstance(c, dict)] if isinstance(found, list) else []
    return [_cell(index, node) for index, node in enumerate(nodes)]


def _cell(index: int, node: NotebookNode) -> Cell:
    nbgrader = node.metadata.nbgrader
    # Prose is worth parsing only if it may be an answer in a cell of the wrong type.
    prose = node.cell_type != "code" and not _DEFINITION.search(node.source)
    parsed = ("", ()) if prose else _parse(node.source)
    return Cell(
        index=index,
        kind=node.cell_type,
        source=node.source,
        grade_id=nbgrader.get("grade_id"),
        ids=tuple(place["id"] for place in (node, node.metadata) if "id" in place),
        solution=nbgrader.get("solution", False),
        graded=nbgrader.get("grade", False),
        python=parsed[0] if parsed else "",
        statements=parsed[1] if parsed else (),
        broken=frozenset() if parsed else frozenset(_DEFINITION.findall(node.source)),
    )


@lru_cache(KEPT)
def _parse(source: str) -> tuple[str, tuple[Statement, ...]] | None:
    """A cell as Python and its top-level statements, None where it is neither Python nor magics.

    A class hands in the same given cells, tests and stubs again and again: each is parsed once.
    """
    magic = _CELL_MAGIC.match(source)
    if magic and magic[1] not in _PYTHON_MAGICS:
        return "", ()  # %%bash, %%writefile: Python, if any, that this notebook does not run
    if len(source) > MAX_PARSED:
        return None
    for python in (source, _without_magics(source)):
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # invalid escapes in the student's strings
                body = ast.parse(python).body
            return python, tuple(_statement(node) for node in body)
        except (SyntaxError, ValueError, RecursionError, MemoryError):
            continue
    return None


def _without_magics(source: str) -> str:
    """The same lines as Python: dedented as IPython does, each magic a string in its place."""
    lines = source.split("\n")
    first = next((line for line in lines if line.strip()), "")
    indent = first[: len(first) - len(first.lstrip())]
    return "\n".join(_quoted(line.removeprefix(indent)) for line in lines)


def _quoted(line: str) -> str:
    text = line.lstrip()
    return line[: len(line) - len(text)] + repr(text) if _MAGIC.fullmatch(text) else line


def _statement(node: ast.stmt) -> Statement:
    start = min([node.lineno, *(d.lineno for d in getattr(node, "decorator_list", []))])
    top = list(_top_level(node))
    return Statement(
        start=start,
        end=node.end_lineno or node.lineno,
        digest=_digest(node),
        binds=frozenset(name for n in top for name in _bound(n)),
        defines=frozenset(name for n in top for name in _defined(n)),
        alters=frozenset(name for n in top for name in _altered(n)),
        reads=_reads(node),
        kind=_kind(node),
    )


def _top_level(node: ast.AST) -> Iterator[ast.AST]:
    """The parts of a statement that run in the notebook's namespace, under if and try too."""
    stack = [node]
    while stack:
        node = stack.pop()
        yield node
        if not isinstance(node, (*_DEFS, ast.Lambda, ast.comprehension)):
            stack.extend(ast.iter_child_nodes(node))


def _bound(node: ast.AST) -> list[str]:
    if isinstance(node, _DEFS):
        return [node.name]
    if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
        return [node.id]
    return [node.asname or node.name.partition(".")[0]] if isinstance(node, ast.alias) else []


def _targets(node: ast.AST) -> list[ast.expr]:
    if isinstance(node, ast.Assign):
        return node.targets
    return [node.target] if isinstance(node, ast.AnnAssign | ast.AugAssign) else []


def _defined(node: ast.AST) -> list[str]:
    if isinstance(node, _DEFS):
        return [node.name]
    value = getattr(node, "value", None)
    if not isinstance(value, ast.Lambda | ast.Name | ast.Attribute):
        return []
    return [target.id for target in _targets(node) if isinstance(target, ast.Name)]


def _altered(node: ast.AST) -> list[str]:
    roots = []
    for target in _targets(node):
        while isinstance(target, ast.Attribute | ast.Subscript):
            target = target.value
        roots += [target.id] if isinstance(target, ast.Name) else []
    return roots


def _reads(node: ast.AST) -> frozenset[str]:
    """Names that the statement takes from the notebook; parameters and locals left out."""
    nodes = list(ast.walk(node))
    names = [n for n in nodes if isinstance(n, ast.Name)]
    loaded = {n.id for n in names if isinstance(n.ctx, ast.Load)}
    local = {n.arg for n in nodes if isinstance(n, ast.arg)}
    if isinstance(node, _DEFS):
        local |= {n.id for n in names if isinstance(n.ctx, ast.Store)}
    return frozenset(loaded - local)


def _kind(node: ast.stmt) -> str:
    if isinstance(node, ast.Import | ast.ImportFrom):
        return "import"
    if isinstance(node, _DEFS):
        return "definition"
    if not isinstance(node, ast.Assign | ast.AnnAssign) or node.value is None:
        return "other"
    if not all(isinstance(target, ast.Name) for target in _targets(node)):
        return "other"
    try:
        ast.literal_eval(node.value)
    except (ValueError, TypeError, SyntaxError):
        return "other"
    return "constant"


def _digest(node: ast.stmt) -> bytes:
    for inner in ast.walk(node):
        if isinstance(inner, _DEFS) and ast.get_docstring(inner, clean=False) is not None:
            inner.body = inner.body[1:]
    return hashlib.sha256(ast.dump(node).encode("utf-8", "replace")).digest()
