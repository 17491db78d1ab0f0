"""Take the student's cells out of a submission and put them into the master's notebook.

A submission is only a source of cells. Tests, points, metadata, tags and given cells are always the
master's, so nothing that happened to them (deleted, edited, moved, metadata stripped by Colab or
duplicated by VS Code) changes a mark. The rules, in the order in which they are trusted:

1. A cell equal to one of the master's, or made of the master's statements only, is the master's.
2. An exercise is answered by the last code cell that really defines its names (the stub does not
   define them). Content comes before metadata: an editor copies metadata onto any cell.
3. Where no cell does: a definition merged into a test or given cell, one in a cell retyped as
   Markdown, one in a cell that does not parse, any other assignment to the name.
4. Else the untouched stub, else the cell that carries the exercise's grade id or cell id, else the
   student's cell that stands where the answer should.
5. What is left is the student's own and is kept where it stood, or earlier if an answer needs it.
"""

from __future__ import annotations

import ast
import copy
import hashlib
import json
import os
import re
import stat
import warnings
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence, Set
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

from nbformat import NotebookNode

# Nobody types more than this, and parsing what a hostile student pastes would cost minutes.
MAX_PARSED = 30_000  # characters; a longer cell is kept but not parsed
MAX_TEXT = 1_000_000  # characters in all cells that are parsed
MAX_CELLS = 5000
# A cell that shares at least this part of its lines with a given cell is that cell, edited.
ALIKE = 0.5

_NOT_TEXT = {b"PK\x03\x04": "a zip archive", b"\x1f\x8b": "a gzip archive", b"%PDF": "a PDF"}
_MARKS = {b"\xff\xfe\0\0": "utf-32", b"\0\0\xfe\xff": "utf-32", b"\xef\xbb\xbf": "utf-8-sig"}
_MARKS |= {b"\xff\xfe": "utf-16", b"\xfe\xff": "utf-16"}
_PYTHON_MAGICS = {"time", "capture", "prun"}  # those cell magics whose body runs in the notebook
_CELL_MAGIC = re.compile(r"\s*%%(\w*)")
_MAGIC = re.compile(r"(?:\w[\w, ]*=\s*)?[%!].*|\?.*|[\w.]+\?{1,2}\s*")
_DEFINITION = re.compile(r"^(?:async[ \t]+def|def|class)[ \t]+(\w+)", re.MULTILINE)
_DEFS = (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)


class UnreadableSubmission(Exception):
    """The submission cannot be read; the message says what is wrong and what to do about it."""


@dataclass
class Repaired:
    """A submission in the master's frame.

    Attributes:
        notebook: the release's cells in its order, answers filled in, without outputs; the
            student's own cells among them carry the metadata `{"autograder": {"student": True}}`.
        notes: what was repaired, in words for the student; empty for a clean submission.
        answers: exercise -> the student's code for it, as Python (magics are strings), with the
            helpers that it uses and without what the cell holds for other exercises or tests.
        missing: the exercises for which nothing was found; the release's stub stands in.
    """

    notebook: NotebookNode
    notes: list[str] = field(default_factory=list)
    answers: dict[str, str] = field(default_factory=dict)
    missing: list[str] = field(default_factory=list)


# Reading -----------------------------------------------------------------------------------------


def read_submission(
    path: Path, *, within: Path | None = None, max_bytes: int = 20_000_000
) -> NotebookNode:
    """Read a submitted notebook, tolerantly, and keep of it only what `repair` looks at.

    Args:
        path: the submitted file.
        within: the folder of submissions; nothing between it and the file may be a symbolic link.
        max_bytes: larger files are refused before they are read.

    Returns:
        A notebook whose cells have a type, a source, and the ids that they carried.

    Raises:
        UnreadableSubmission: for whatever is wrong with the file; no other exception.
    """
    path = Path(path)
    _refuse_links(path, within)
    text = _decode(_read_bytes(path, max_bytes), path.name)
    try:
        data = json.loads(text)
    except (ValueError, RecursionError, MemoryError):
        page = text.lstrip()[:1] == "<"
        what = "a web page" if page else "damaged or no notebook (not valid JSON)"
        raise UnreadableSubmission(
            f"{path.name} is {what}: download the notebook as .ipynb and hand it in again."
        ) from None
    cells = _raw_cells(data, path.name)
    if len(cells) > MAX_CELLS:
        raise UnreadableSubmission(
            f"{path.name} has more than {MAX_CELLS} cells: hand in the assignment's own notebook."
        )
    tidy = [_tidy(cell) for cell in cells if isinstance(cell, dict)]
    if sum(len(cell.source) for cell in tidy if len(cell.source) <= MAX_PARSED) > MAX_TEXT:
        raise UnreadableSubmission(
            f"{path.name} has more than {MAX_TEXT / 1e6:g} MB of text in its cells: "
            "remove what was pasted there and hand it in again."
        )
    return NotebookNode(nbformat=4, nbformat_minor=5, metadata=NotebookNode(), cells=tidy)


def _refuse_links(path: Path, within: Path | None) -> None:
    steps = [path]
    if within is not None:
        try:
            inner = path.absolute().relative_to(within.absolute())
        except ValueError:
            inner = Path("..")
        if ".." in inner.parts or not inner.parts:
            raise UnreadableSubmission(f"{path.name} lies outside the folder of submissions.")
        steps = [within.joinpath(*inner.parts[: n + 1]) for n in range(len(inner.parts))]
    for step in steps:
        try:
            linked = step.is_symlink()
        except (OSError, ValueError):
            linked = False  # cannot be opened either, and that message is clearer
        if linked:
            raise UnreadableSubmission(
                f"{step.name} is a symbolic link: hand in the notebook file itself."
            )


def _read_bytes(path: Path, max_bytes: int) -> bytes:
    # O_NONBLOCK: opening a named pipe must not wait for a writer that never comes.
    flags = os.O_RDONLY | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0)
    try:
        with open(os.open(path, flags), "rb") as file:
            status = os.fstat(file.fileno())
            if not stat.S_ISREG(status.st_mode):
                raise UnreadableSubmission(f"{path.name} is not a file: hand in one .ipynb file.")
            data = file.read(max_bytes + 1) if status.st_size <= max_bytes else None
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or "not a usable file name"
        raise UnreadableSubmission(
            f"{path.name!r} cannot be read ({reason}): hand in one .ipynb file."
        ) from None
    if data is None or len(data) > max_bytes:
        raise UnreadableSubmission(
            f"{path.name} is larger than {max_bytes / 1e6:g} MB: clear the outputs, save, hand in."
        )
    return data


def _decode(data: bytes, name: str) -> str:
    for start, what in _NOT_TEXT.items():
        if data.startswith(start):
            raise UnreadableSubmission(f"{name} is {what}: hand in the notebook (.ipynb) itself.")
    if not data.strip(b"\0 \t\r\n"):
        raise UnreadableSubmission(f"{name} is empty: save the notebook and hand it in again.")
    marked = next((encoding for mark, encoding in _MARKS.items() if data.startswith(mark)), None)
    try:
        return data.decode(marked or json.detect_encoding(data), "surrogatepass")
    except UnicodeDecodeError:
        # JSON and Python keywords are ASCII; an unknown eight-bit encoding can only spoil comments.
        return data.decode("latin-1")


def _raw_cells(data: Any, name: str) -> list[Any]:
    """The cells of a notebook of format 3 or 4, whatever its minor version."""
    refuse = f"{name} is JSON but no Jupyter notebook: hand in the .ipynb file of the assignment."
    if not isinstance(data, dict):
        raise UnreadableSubmission(refuse)
    major = data.get("nbformat", 4 if "cells" in data else 3)
    if isinstance(major, str | float) and str(major).strip() in {"3", "4", "3.0", "4.0"}:
        major = int(float(major))
    if type(major) is int and major not in (3, 4):
        raise UnreadableSubmission(
            f"{name} has notebook format {str(major)[:9]}, this grader reads 3 and 4: "
            "save it with JupyterLab or Colab and hand it in again."
        )
    cells = data.get("cells")
    sheets = data.get("worksheets")
    if not isinstance(cells, list) and isinstance(sheets, list):  # format 3
        lists = [sheet.get("cells") for sheet in sheets if isinstance(sheet, dict)]
        cells = [cell for part in lists if isinstance(part, list) for cell in part]
    if not isinstance(cells, list):
        raise UnreadableSubmission(refuse)
    return cells


def _tidy(cell: Mapping[str, Any]) -> NotebookNode:
    """A cell with the few fields that count, each of its proper type."""
    kind = cell.get("cell_type")
    kind = {"heading": "markdown", "html": "markdown"}.get(str(kind), kind)
    metadata = cell.get("metadata")
    metadata = metadata if isinstance(metadata, dict) else {}
    nbgrader = metadata.get("nbgrader")
    nbgrader = nbgrader if isinstance(nbgrader, dict) else {}
    kept: dict[str, Any] = {k: nbgrader[k] is True for k in ("grade", "solution") if k in nbgrader}
    if isinstance(nbgrader.get("grade_id"), str):
        kept["grade_id"] = nbgrader["grade_id"]
    tidy = NotebookNode(
        cell_type=kind if kind in ("markdown", "raw") else "code",
        metadata=NotebookNode(nbgrader=NotebookNode(kept)),
        source=_text(cell.get("source", cell.get("input"))),
    )
    for found, place in ((cell.get("id"), tidy), (metadata.get("id"), tidy.metadata)):  # or Colab's
        if isinstance(found, str):
            place["id"] = found
    return tidy


def _text(source: Any) -> str:
    if isinstance(source, list):
        lines = [line for line in source if isinstance(line, str)]
        # Some tools write the list without the newlines that nbformat wants at the lines' ends.
        bare = not any("\n" in line for line in lines)
        source = ("\n" if bare else "").join(lines)
    if not isinstance(source, str):
        return ""
    source = source.replace("\r\n", "\n").replace("\r", "\n").replace("\0", "")
    return re.sub("[\ud800-\udfff]", "\ufffd", source)


# What a cell says --------------------------------------------------------------------------------


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

    def defines_beside(self, digests: Set[bytes]) -> frozenset[str]:
        """Names that the cell defines in other statements than these."""
        return frozenset().union(*(s.defines for s in self.statements if s.digest not in digests))

    def text(self, statements: Iterable[Statement], *, python: bool = False) -> str:
        """The lines of some statements, as they stand or as Python."""
        lines = (self.python if python else self.source).split("\n")
        return "\n".join("\n".join(lines[s.start - 1 : s.end]) for s in statements)


def _cells(notebook: Mapping[str, Any]) -> list[Cell]:
    found = notebook.get("cells")
    nodes = [_tidy(c) for c in found if isinstance(c, dict)] if isinstance(found, list) else []
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


def _parse(source: str) -> tuple[str, tuple[Statement, ...]] | None:
    """A cell as Python and its top-level statements, None where it is neither Python nor magics."""
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


# What belongs where ------------------------------------------------------------------------------


@dataclass(frozen=True)
class Master:
    """The release: its cells, which of them are answers, and what is the master's own."""

    cells: list[Cell]
    slots: dict[str, int]  # exercise -> index of its answer cell
    names: dict[str, frozenset[str]]  # exercise -> names that its cell defines
    stubs: frozenset[bytes]
    given: dict[bytes, int]  # statement of the other code cells -> first cell that has it
    lines: dict[str, list[int]]  # line -> cells that have it, answer cells left out

    @cached_property
    def wanted(self) -> frozenset[str]:
        """The names of all exercises."""
        return frozenset().union(*self.names.values())

    @cached_property
    def bound(self) -> frozenset[str]:
        """Every name that the master's cells bind."""
        return self.wanted.union(*(s.binds for cell in self.cells for s in cell.statements))

    @cached_property
    def fixed(self) -> list[Cell]:
        """All cells but the answers."""
        slots = set(self.slots.values())
        return [cell for cell in self.cells if cell.index not in slots]

    def real(self, cell: Cell) -> frozenset[str]:
        """The exercises' names that the cell defines in statements of the student's."""
        return cell.defines_beside(self.stubs | self.given.keys()) & self.wanted

    def shares(self, cell: Cell, exercise: str) -> bool:
        """Whether the cell answers other exercises too."""
        return bool(self.real(cell) - self.names[exercise])

    def claim(self, cell: Cell) -> int | None:
        """The master's cell whose grade id, else whose cell id, this one carries."""
        for other in self.cells:
            if cell.grade_id is not None and cell.grade_id == other.grade_id:
                return other.index
        found = (other.index for other in self.cells if set(cell.ids) & set(other.ids))
        return next(found, None)

    def likeness(self, cell: Cell) -> dict[int, float]:
        """Fixed cell -> the part of lines that it and the given cell share."""
        shared = Counter(index for line in cell.lines for index in self.lines.get(line, ()))
        sizes = {i: len(cell.lines) + len(self.cells[i].lines) for i in shared}
        return {i: 2 * count / sizes[i] for i, count in shared.items()}


def _master(release: NotebookNode, defines: Mapping[str, Sequence[str]]) -> Master:
    cells = _cells(release)
    answers = [cell for cell in cells if cell.solution and not cell.graded and cell.grade_id]
    slots = {str(cell.grade_id): cell.index for cell in answers}
    lines = defaultdict(list)
    for cell in cells:
        for line in cell.lines if cell.index not in slots.values() else ():
            lines[line].append(cell.index)
    return Master(
        cells=cells,
        slots=slots,
        names={name: frozenset(defines.get(name, [name])) for name in slots},
        stubs=frozenset(s.digest for cell in answers for s in cell.statements),
        given={
            s.digest: cell.index
            for cell in reversed(cells)
            if cell.kind == "code" and cell not in answers
            for s in cell.statements
        },
        lines=dict(lines),
    )


@dataclass
class Match:
    """Which cell of the submission is which of the master's."""

    owner: dict[int, int] = field(default_factory=dict)  # submission -> the master's fixed cell
    answers: dict[str, list[Cell]] = field(default_factory=dict)  # its last cell takes the slot
    rule: dict[str, str] = field(default_factory=dict)  # exercise -> how its answer was found


def _match(cells: list[Cell], master: Master) -> Match:
    match = Match()
    _equal_cells(cells, master, match)
    _edited_cells(cells, master, match)
    _alike_cells(cells, master, match)
    for rule in (_by_definition, _by_stub, _by_claim, _by_position):
        for exercise in master.slots:
            if exercise not in match.answers and (parts := rule(exercise, cells, master, match)):
                match.answers[exercise] = parts
                match.rule[exercise] = rule.__name__
    for parts in match.answers.values():
        for cell in parts:
            match.owner.pop(cell.index, None)
    return match


def _equal_cells(cells: list[Cell], master: Master, match: Match) -> None:
    """A cell with a fixed cell's source is that cell, or one more copy of it."""
    equal = defaultdict(list)
    for fixed in master.fixed:
        equal[fixed.squeezed].append(fixed.index)
    for cell in cells:
        found = equal.get(cell.squeezed, []) if cell.squeezed else []
        free = [index for index in found if index not in match.owner.values()]
        if found:
            match.owner[cell.index] = (free or found)[0]


def _edited_cells(cells: list[Cell], master: Master, match: Match) -> None:
    """A cell that carries a fixed cell's id is that cell, edited, unless a better one carries it.

    Editors copy the metadata with a cell: a student pastes a test cell and types a helper there.
    """
    slots = set(master.slots.values())
    claims = defaultdict(list)
    for cell in cells:
        claim = master.claim(cell)
        if claim is not None and claim not in slots and cell.index not in match.owner:
            claims[claim].append((master.likeness(cell).get(claim, 0.0), -cell.index))
    for claim, rivals in claims.items():
        taken = claim in match.owner.values()
        for likeness, index in rivals:
            if likeness >= ALIKE or (not taken and (likeness, index) == max(rivals)):
                match.owner[-index] = claim


def _alike_cells(cells: list[Cell], master: Master, match: Match) -> None:
    """Without metadata, a cell that mostly repeats a fixed cell not found so far is that cell."""
    for cell in cells:
        if cell.index in match.owner or master.claim(cell) is not None or master.real(cell):
            continue
        found = {i: part for i, part in master.likeness(cell).items() if part >= ALIKE}
        free = {i: part for i, part in found.items() if i not in match.owner.values()}
        if free:
            match.owner[cell.index] = max(free, key=lambda i: free[i])


def _by_definition(exercise: str, cells: list[Cell], master: Master, match: Match) -> list[Cell]:
    """The last cells that together define the exercise's names, in the notebook's order."""
    code = [cell for cell in cells if cell.kind == "code"]
    own = [cell for cell in code if cell.index not in match.owner]
    lodgers = [cell for cell in code if cell.index in match.owner]
    retyped = [cell for cell in cells if cell.kind != "code"]
    tiers = [
        [(cell, master.real(cell)) for cell in own],
        [(cell, master.real(cell)) for cell in lodgers],
        [(cell, master.real(cell)) for cell in retyped],
        [(cell, cell.broken) for cell in own],
        [(cell, _rebound(cell)) for cell in own],
    ]
    wanted, parts = set(master.names[exercise]), []
    for tier in tiers:
        for cell, names in reversed(tier):
            if wanted & names:
                parts.append(cell)
                wanted -= names
    return sorted(set(parts), key=lambda cell: cell.index)


def _rebound(cell: Cell) -> frozenset[str]:
    # `relu = partial(f, 0)` is an answer to relu, `relu = relu(x)` is an accident.
    return frozenset().union(*(s.binds - s.defines - s.reads for s in cell.statements))


def _by_stub(exercise: str, cells: list[Cell], master: Master, match: Match) -> list[Cell]:
    """The exercise's cell as it was handed out, or the last one that still has its definitions."""
    del match
    stub = master.cells[master.slots[exercise]].squeezed
    names = master.names[exercise]
    found = [cell for cell in cells if cell.squeezed == stub or names <= cell.defines]
    return found[-1:]


def _by_claim(exercise: str, cells: list[Cell], master: Master, match: Match) -> list[Cell]:
    """The last code cell with the exercise's grade id or cell id that answers nothing else."""
    slot = master.slots[exercise]
    return [c for c in _unused(cells, master, match) if master.claim(c) == slot][-1:]


def _by_position(exercise: str, cells: list[Cell], master: Master, match: Match) -> list[Cell]:
    """The student's code cell between those cells of the master that stand around the answer."""
    slot, places = master.slots[exercise], _places(master, match)
    before = max((index for index in places if index < slot), default=None)
    after = min((index for index in places if index > slot), default=None)
    if before is None or after is None:
        return []
    between = range(places[before] + 1, places[after])
    free = [cell for cell in _unused(cells, master, match) if cell.index in between]
    rivals = [i for i in master.slots.values() if before < i < after]
    if len(rivals) == 1:
        return free[-1:]
    # Neighbouring answers without anything between them: only a full set can be told apart.
    return [free[0]] if len(free) == len(rivals) else []


def _unused(cells: list[Cell], master: Master, match: Match) -> list[Cell]:
    """The student's code cells that answer nothing so far."""
    used = {cell.index for parts in match.answers.values() for cell in parts} | set(match.owner)
    code = [cell for cell in cells if cell.kind == "code" and cell.squeezed]
    return [cell for cell in code if cell.index not in used and not master.real(cell)]


def _places(master: Master, match: Match) -> dict[int, int]:
    """Master's cell -> where the submission has it (the first copy of several)."""
    places = {master.slots[name]: parts[-1].index for name, parts in match.answers.items()}
    for index, owner in sorted(match.owner.items(), reverse=True):
        places[owner] = index
    return places


# Putting it together -----------------------------------------------------------------------------


@dataclass
class Extra:
    """A cell of the student's own, to be put after the master's cell number `after`."""

    cell: Cell
    source: str
    after: int


def repair(
    submission: NotebookNode, release: NotebookNode, defines: Mapping[str, Sequence[str]]
) -> Repaired:
    """Put the student's cells into the master's notebook. Total: any submission has a result.

    Args:
        submission: what `read_submission` gave, or any notebook.
        release: the release notebook, with nbgrader's metadata; it is not changed.
        defines: exercise -> the top-level names that its cell defines (default: its own name).
    """
    master = _master(release, defines)
    cells = _cells(submission)
    match = _match(cells, master)
    placed = {
        parts[-1].index: master.slots[name]
        for name, parts in match.answers.items()
        if not master.shares(parts[-1], name)
    }
    done = _done(master, match)
    extras = _extras(cells, master, match, placed, done) if match.answers else []
    for _ in range(3):  # a helper's helper moves with it
        _pull_up_earlier(cells, extras, placed, master)
        _pull_up_later(cells, extras, placed, master)
    return Repaired(
        notebook=_assemble(release, master, match, extras, done),
        notes=_notes(cells, master, match, extras),
        answers={
            name: _answer(name, parts, cells, master, match)
            for name, parts in match.answers.items()
        },
        missing=[name for name in master.slots if name not in match.answers],
    )


def _done(master: Master, match: Match) -> frozenset[str]:
    """The names that some answer really defines: no stub may define them again."""
    parts = [cell for parts in match.answers.values() for cell in parts]
    return frozenset().union(*(master.real(c) | c.broken | _rebound(c) for c in parts))


def _without_stubs(cell: Cell, master: Master, done: frozenset[str]) -> str:
    gone = [s for s in cell.statements if s.digest in master.stubs and s.defines & done]
    dropped = {n for s in gone for n in range(s.start, s.end + 1)}
    return "\n".join(line for n, line in enumerate(cell.source.split("\n"), 1) if n not in dropped)


def _about(cell: Cell, names: frozenset[str], master: Master) -> list[Statement]:
    """The statements of a cell that make these names; a stub only where there is nothing else."""
    made = [s for s in cell.statements if names & (s.defines | s.alters | (s.binds - s.reads))]
    return [s for s in made if s.digest not in master.stubs] or made


def _slot_source(name: str, last: Cell, master: Master, done: frozenset[str]) -> str:
    if master.shares(last, name):  # the cell itself is kept above the first answer that it holds
        return last.text(_about(last, master.names[name], master))
    return _without_stubs(last, master, done)


def _extras(
    cells: list[Cell], master: Master, match: Match, placed: dict[int, int], done: frozenset[str]
) -> list[Extra]:
    """The student's own cells, each after the master's cell that it followed."""
    extras, last = [], -1
    places = _places(master, match)
    answers = {tuple(s.digest for s in c.statements) for c in cells if c.index in placed}
    for cell in cells:
        owner = match.owner.get(cell.index)
        if owner is not None:
            last = owner if places.get(owner) == cell.index else last
            if added := _additions(cell, master.cells[owner], master):
                extras.append(Extra(cell, cell.text(added), owner))
        elif cell.index in placed:
            last = max(last, placed[cell.index])
        elif not _is_known(cell, answers, master, last):
            source = _without_stubs(cell, master, done)
            extras += [Extra(cell, source, last)] if source.strip() else []
    return extras


def _is_known(cell: Cell, answers: set[tuple[bytes, ...]], master: Master, last: int) -> bool:
    """Whether the cell repeats an answer, or only statements that the master has run before it."""
    digests = tuple(s.digest for s in cell.statements)
    ran = (d in master.stubs or master.given.get(d, last + 1) <= last for d in digests)
    return bool(digests) and (digests in answers or all(ran))


def _additions(cell: Cell, owner: Cell, master: Master) -> list[Statement]:
    """What an edited given cell keeps: imports, and helpers under names that the master has not."""
    if owner.kind != "code" or cell.kind != "code" or owner.graded:
        return []
    return [
        s
        for s in cell.statements
        if s.digest not in master.given
        and (s.kind == "import" or (s.kind != "other" and not s.binds & master.bound))
    ]


def _pull_up_earlier(
    cells: list[Cell], extras: list[Extra], placed: dict[int, int], master: Master
) -> None:
    """Keep the student's order: what stood before an answer that needs it stays before it.

    A cell with definitions that a later answer replaces has to come before it, too.
    """
    own = {extra.cell.index: extra for extra in extras}
    need: dict[str, int] = {}
    for cell in reversed(cells):
        extra = own.get(cell.index)
        if extra is None and cell.index not in placed:
            continue
        place = placed.get(cell.index, 0) - 1
        if extra is not None:
            real = master.real(cell)
            slots = [slot - 1 for name, slot in master.slots.items() if real & master.names[name]]
            limits = [need[name] for s in cell.statements for name in s.binds if name in need]
            place = extra.after = min([extra.after, *slots, *limits])
        for name in {name for s in cell.statements for name in s.reads}:
            need[name] = min(place, need.get(name, place))


def _pull_up_later(
    cells: list[Cell], extras: list[Extra], placed: dict[int, int], master: Master
) -> None:
    """A helper typed below the answer that calls it (a live kernel allows it) comes after it."""
    at = placed | {extra.cell.index: extra.after for extra in extras}
    own = [cell for cell in cells if cell.index in at]
    bound = Counter(name for cell in own for s in cell.statements for name in s.binds)
    readers: dict[str, int] = {}
    for cell in own:
        for name in {name for s in cell.statements for name in s.reads}:
            readers[name] = min(at[cell.index], readers.get(name, at[cell.index]))
    for extra in extras:
        only = [n for n in extra.cell.defines if bound[n] == 1 and n not in master.bound]
        extra.after = min([extra.after, *(readers[name] for name in only if name in readers)])


def _assemble(
    release: NotebookNode,
    master: Master,
    match: Match,
    extras: list[Extra],
    done: frozenset[str],
) -> NotebookNode:
    notebook = copy.deepcopy(release)
    for cell in notebook.cells:
        if cell.cell_type == "code":
            cell.outputs, cell.execution_count = [], None
    for name, parts in match.answers.items():
        notebook.cells[master.slots[name]].source = _slot_source(name, parts[-1], master, done)
    taken = {cell.get("id") for cell in notebook.cells}
    cells = []
    for after in range(-1, len(notebook.cells)):
        cells += [notebook.cells[after]] if after >= 0 else []
        cells += [_new_cell(extra, taken) for extra in extras if extra.after == after]
    notebook.cells = cells
    return notebook


def _new_cell(extra: Extra, taken: set[Any]) -> NotebookNode:
    name = f"student-{extra.cell.index}"
    while name in taken:
        name += "-x"
    taken.add(name)
    metadata = NotebookNode(autograder=NotebookNode(student=True))
    kind = extra.cell.kind
    cell = NotebookNode(cell_type=kind, id=name, metadata=metadata, source=extra.source)
    return cell if kind != "code" else NotebookNode(cell, outputs=[], execution_count=None)


def _answer(name: str, parts: list[Cell], cells: list[Cell], master: Master, match: Match) -> str:
    """The student's source for one exercise, as Python, for the rules on what it may use."""
    parsed = [cell for cell in parts if cell.statements]
    if not parsed:
        return parts[-1].source
    chosen = [(cell, s) for cell in parsed for s in _own(cell, name, master)]
    if len(parts) == 1 and len(chosen) == len(parts[0].statements):
        text = [parts[0].python]
    else:
        text = [cell.text([s], python=True) for cell, s in chosen]
    text += [cell.text([s], python=True) for cell, s in _helpers(chosen, cells, master, match)]
    return "\n\n".join(text)


def _own(cell: Cell, name: str, master: Master) -> list[Statement]:
    if master.shares(cell, name):
        return _about(cell, master.names[name], master)
    others = master.wanted - master.names[name]
    return [s for s in cell.statements if s.digest not in master.given and not s.defines & others]


def _helpers(
    chosen: list[tuple[Cell, Statement]], cells: list[Cell], master: Master, match: Match
) -> list[tuple[Cell, Statement]]:
    """The student's definitions outside an answer that it uses, and those that they use."""
    pool: dict[str, tuple[Cell, Statement]] = {}
    for cell in cells:
        owner = match.owner.get(cell.index)
        ours = owner is None or not master.cells[owner].graded
        for s in cell.statements if ours and cell.kind == "code" else ():
            if s.digest not in master.given:
                pool |= dict.fromkeys(s.defines - master.bound, (cell, s))
    seen, helpers = {id(s) for _, s in chosen}, []
    queue = [s for _, s in chosen]
    while queue:
        for name in sorted(queue.pop().reads & pool.keys()):
            cell, s = pool[name]
            if id(s) not in seen:
                seen.add(id(s))
                helpers.append((cell, s))
                queue.append(s)
    return helpers


# Telling the student -----------------------------------------------------------------------------


def _notes(cells: list[Cell], master: Master, match: Match, extras: list[Extra]) -> list[str]:
    if not match.answers:
        return ["No answer to this assignment was found: was the right notebook handed in?"]
    return [
        *_notes_on_metadata(cells, master, match),
        *_notes_on_answers(cells, master, match),
        *_notes_on_fixed_cells(cells, master, match, extras),
    ]


def _notes_on_metadata(cells: list[Cell], master: Master, match: Match) -> list[str]:
    if any(cell.grade_id is not None or master.claim(cell) is not None for cell in cells):
        return []
    named = [rule in ("_by_definition", "_by_stub") for rule in match.rule.values()].count(True)
    return [
        "Your notebook had no cell metadata (Colab does this); "
        f"{named} of {len(master.slots)} answers were found by their function names."
    ]


def _notes_on_answers(cells: list[Cell], master: Master, match: Match) -> list[str]:
    notes = []
    for name in master.slots:
        parts = match.answers.get(name)
        if parts is None:
            notes.append(f"{name}: no answer was found.")
            continue
        last, names = parts[-1], master.names[name]
        versions = {c.squeezed for c in cells if c.kind == "code" and master.real(c) & names}
        if match.rule[name] == "_by_position":
            notes.append(
                f"{name}: the answer was found only by its place; is its name still right?"
            )
        if last.kind != "code":
            notes.append(f"{name}: the answer stood in a {last.kind} cell; it was read as code.")
        if master.shares(last, name):
            notes.append(
                f"{name}: the answer was taken from a cell that answers other exercises too."
            )
        elif len(parts) > 1:
            notes.append(f"{name}: the answer was put together from {len(parts)} cells.")
        elif len(versions) > 1:
            notes.append(f"{name}: {len(versions)} different answers were found; the last counts.")
    return notes


def _notes_on_fixed_cells(
    cells: list[Cell], master: Master, match: Match, extras: list[Extra]
) -> list[str]:
    notes, places = [], _places(master, match)
    tests = [cell for cell in master.fixed if cell.graded]
    lost = [str(cell.grade_id) for cell in tests if cell.index not in places]
    if lost:
        notes.append(f"Test cells that were missing have been put back: {', '.join(lost)}.")
    edited = {
        owner
        for index, owner in match.owner.items()
        if cells[index].squeezed != master.cells[owner].squeezed
    }
    changed = [str(cell.grade_id) for cell in tests if cell.index in edited]
    if changed:
        notes.append(f"Test cells that were edited count as handed out: {', '.join(changed)}.")
    if any(extra.cell.index in match.owner for extra in extras):
        notes.append(
            "Given cells that were edited run as handed out; "
            "imports and helpers added there were kept."
        )
    order = [places[cell.index] for cell in master.fixed if cell.index in places]
    if order != sorted(order):
        notes.append("Cells had been moved; the assignment's own order was used.")
    return notes
