"""Read a master: one notebook as percent-format Python, with a role for each cell that has one.

A master that breaks a rule is refused with file and line, before anything is built from it.
"""

import ast
import keyword
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from itertools import takewhile
from pathlib import Path
from typing import Any, Literal

from autograder.authoring import AuthoringError

ROLES = ("setup", "heading", "exercise", "test")
STUB = "raise NotImplementedError"
PLACEHOLDERS = ("number", "points")

# The cell's own text is left alone: without `comment_magics=False` jupytext takes a comment such as
# `# cat or dog` for a shell command and removes its `#`.
PERCENT = {"extension": ".py", "format_name": "percent", "comment_magics": False}

_HEADER = re.compile(r"# %%(\s|$)")
_MARKER = re.compile(r"(BEGIN|END) (SOLUTION|HIDDEN TESTS)")
_MARKER_LINE = re.compile(r"\s*### (BEGIN|END) (SOLUTION|HIDDEN TESTS)\s*")
# Two more delimiters of nbgrader: left in a cell, they would start a kernel or drop lines.
_FOREIGN = re.compile(r"AUTOTEST|(BEGIN|END) MARK SCHEME")


class MasterError(AuthoringError):
    """A master breaks a rule; its text is `path:line: message`."""

    def __init__(self, path: Path, line: int, message: str) -> None:
        super().__init__(f"{path}:{line}: {message}")
        self.path, self.line, self.message = path, line, message


@dataclass(frozen=True)
class Cell:
    """One cell.

    Attributes:
        kind: "markdown" or "code".
        role: what the cell is to its exercise, or "setup"; None for a given cell.
        exercise: the exercise that it belongs to.
        source: its text, without empty lines at its ends.
        line: the line of its `# %%` in the master.
        metadata: other notebook metadata, such as tags.
        skipped: empty lines between the header and the text.
    """

    kind: Literal["markdown", "code"]
    role: str | None
    exercise: str | None
    source: str
    line: int
    metadata: Mapping[str, Any] = field(default_factory=dict)
    skipped: int = 0

    def at(self, line: int | None) -> int:
        """The master's line of the cell's line number `line` (from 1)."""
        return self.line + self.skipped + max(line or 1, 1)


@dataclass(frozen=True)
class Master:
    """One notebook as its author wrote it."""

    path: Path
    unit: str
    notebook: str
    cells: tuple[Cell, ...]

    @property
    def exercises(self) -> tuple[str, ...]:
        """Names of the exercises, in the notebook's order."""
        return tuple(cell.exercise or "" for cell in self.cells if cell.role == "exercise")

    def cell(self, role: str, exercise: str) -> Cell:
        """The cell that has this role for this exercise."""
        return next(c for c in self.cells if c.role == role and c.exercise == exercise)


def read_master(path: Path) -> Master:
    """Read and check a master.

    Args:
        path: `.../UNIT/NOTEBOOK.py`.

    Raises:
        MasterError: it breaks a rule; the first broken one is reported.
    """
    path = Path(path)
    try:
        text = path.read_text(encoding="utf-8")
    except UnicodeDecodeError as error:
        raise MasterError(path, 1, "it is not UTF-8 text") from error
    master = Master(path, path.parent.name, path.stem, tuple(_cells(path, text)))
    for check in (_check_text, _check_code, _check_setup, _check_exercises, _check_expects):
        check(master)
    return master


def stub(source: str) -> str:
    """What nbgrader leaves of an exercise cell: each solution region becomes one `raise`."""
    return "\n".join(line for _, line in _stub_lines(source))


def solution(source: str) -> str:
    """An exercise cell as its author solves it: without the marker lines, else as it was."""
    return "\n".join(line for line in source.split("\n") if not _MARKER_LINE.fullmatch(line))


def definitions(source: str) -> tuple[str, ...]:
    """Names of the functions and classes that a cell defines at its top level."""
    return tuple(
        node.name
        for node in ast.parse(source).body
        if isinstance(node, ast.FunctionDef | ast.ClassDef)
    )


# --- cells


def _cells(path: Path, text: str) -> Iterator[Cell]:
    import jupytext

    notebook = jupytext.reads(text, PERCENT)
    lines = text.splitlines()
    headers = _header_lines(lines)
    if not headers:
        raise MasterError(path, 1, "it has no cells; a cell starts with `# %%`")
    if len(headers) != len(notebook.cells):
        line = next((n for n, line in enumerate(lines, 1) if line.strip()), 1)
        raise MasterError(path, line, "text stands outside the cells; start it with `# %%`")
    for line, found in zip(headers, notebook.cells, strict=True):
        following = lines[line:]
        skipped = next((n for n, text in enumerate(following) if text.strip()), 0)
        yield _cell(path, line, skipped, found)


def _header_lines(lines: list[str]) -> list[int]:
    """Lines of the headers; a `# %%` inside a triple-quoted string is none."""
    found, quote = [], ""
    for number, line in enumerate(lines, 1):
        if not quote and _HEADER.match(line):
            found.append(number)
        elif quote or not line.lstrip().startswith("#"):
            for mark in re.findall(r'"""|\'\'\'', line):
                quote = mark if not quote else "" if mark == quote else quote
    return found


def _cell(path: Path, line: int, skipped: int, found: Any) -> Cell:
    metadata = dict(found.metadata)
    metadata.pop("lines_to_next_cell", None)
    roles = {key: metadata.pop(key) for key in ROLES if key in metadata}
    unknown = sorted(set(metadata) - {"tags"})
    if unknown:
        known = ", ".join(ROLES)
        raise MasterError(path, line, f"unknown key {unknown[0]!r} in the header (known: {known})")
    if found.cell_type not in ("markdown", "code"):
        raise MasterError(path, line, f"a {found.cell_type} cell; use markdown or code")
    if len(roles) > 1:
        raise MasterError(path, line, f"a cell has one role, this one has {' and '.join(roles)}")
    role, name = next(iter(roles.items()), (None, None))
    if role is not None:
        _check_role(path, line, role, name, found.cell_type)
    exercise = name if role != "setup" else None
    source = found.source.strip("\n")
    return Cell(found.cell_type, role, exercise, source, line, metadata, skipped)


def _check_role(path: Path, line: int, role: str, name: Any, kind: str) -> None:
    if role == "setup":
        if name is not True:
            raise MasterError(path, line, "write setup=true")
    elif not isinstance(name, str) or not name.isidentifier() or keyword.iskeyword(name):
        raise MasterError(path, line, f'{role}={name!r}: a name is needed, as in {role}="relu"')
    wanted = "markdown" if role == "heading" else "code"
    if kind != wanted:
        raise MasterError(path, line, f"a cell with {role}= is {wanted}, this one is {kind}")


# --- rules


def _check_text(master: Master) -> None:
    """Markers stand alone on their lines, in pairs, and where they belong."""
    for cell in master.cells:
        opened: tuple[int, str] | None = None
        for number, line in enumerate(cell.source.split("\n"), 1):
            where = cell.at(number)
            foreign = _FOREIGN.search(line)
            if foreign:
                raise MasterError(master.path, where, f"{foreign[0]} means something to nbgrader")
            if not _MARKER.search(line):
                continue
            match = _MARKER_LINE.fullmatch(line)
            if match is None:
                raise MasterError(
                    master.path, where, "a marker stands alone on its line: `### BEGIN SOLUTION`"
                )
            edge, kind = match.groups()
            _check_place(master, cell, where, kind)
            if edge == "BEGIN" and opened:
                message = f"BEGIN {kind} inside the {opened[1]} that began on line {opened[0]}"
                raise MasterError(master.path, where, message)
            if edge == "END" and (not opened or opened[1] != kind):
                raise MasterError(master.path, where, f"END {kind} without its BEGIN")
            opened = (where, kind) if edge == "BEGIN" else None
        if opened:
            raise MasterError(master.path, opened[0], f"BEGIN {opened[1]} without its END")


def _check_place(master: Master, cell: Cell, where: int, kind: str) -> None:
    role = "exercise" if kind == "SOLUTION" else "test"
    if cell.role != role:
        raise MasterError(master.path, where, f"{kind} stands in a cell without {role}=")


def _check_code(master: Master) -> None:
    for cell in master.cells:
        if cell.kind == "code":
            _compile(master, cell, cell.source, "the cell")
        if cell.role == "exercise":
            _check_regions(master, cell)


def _compile(master: Master, cell: Cell, source: str, what: str) -> None:
    try:
        compile(source, str(master.path), "exec", dont_inherit=True)
    except SyntaxError as error:
        message = f"{what} does not compile: {error.msg}"
        raise MasterError(master.path, cell.at(error.lineno), message) from error


def _check_regions(master: Master, cell: Cell) -> None:
    regions = _regions(cell.source)
    if not regions:
        raise MasterError(master.path, cell.line, "an exercise cell needs ### BEGIN SOLUTION")
    _check_stub(master, cell)
    used: set[tuple[int, int]] = set()
    for node in ast.parse(cell.source).body:
        used |= _check_definition(master, cell, node, regions)
    for begin, _ in regions:
        if begin not in {first for first, _ in used}:
            message = "a solution region stands inside the body of a function"
            raise MasterError(master.path, cell.at(begin), message)


def _check_stub(master: Master, cell: Cell) -> None:
    lines = _stub_lines(cell.source)
    try:
        compile("\n".join(line for _, line in lines), str(master.path), "exec", dont_inherit=True)
    except SyntaxError as error:
        number = lines[min(error.lineno or 1, len(lines)) - 1][0]
        message = f"the stub does not compile: {error.msg}"
        raise MasterError(master.path, cell.at(number), message) from error


def _check_definition(
    master: Master, cell: Cell, node: ast.stmt, regions: list[tuple[int, int]]
) -> set[tuple[int, int]]:
    """Check one statement of an exercise cell; returns the regions that belong to it."""
    if isinstance(node, ast.ClassDef):
        used: set[tuple[int, int]] = set()
        for inner in _body(node):
            if not isinstance(inner, ast.Assign | ast.AnnAssign | ast.Pass):
                used |= _check_definition(master, cell, inner, regions)
        return used
    if not isinstance(node, ast.FunctionDef):
        message = "an exercise cell holds functions and classes only; put this into a given cell"
        raise MasterError(master.path, cell.at(node.lineno), message)
    return {_check_function(master, cell, node, regions)}


def _check_function(
    master: Master, cell: Cell, node: ast.FunctionDef, regions: list[tuple[int, int]]
) -> tuple[int, int]:
    last = _last_line(cell.source.split("\n"), node)
    inside = [region for region in regions if node.lineno <= region[0] and region[0] <= last]
    body = _body(node)
    if not inside:
        message = f"{node.name} holds no solution region; put given code into a given cell"
        raise MasterError(master.path, cell.at(node.lineno), message)
    if len(inside) > 1:
        message = f"{node.name} holds more than one solution region"
        raise MasterError(master.path, cell.at(inside[1][0]), message)
    begin, end = inside[0]
    for statement in body:
        if not begin < statement.lineno <= (statement.end_lineno or statement.lineno) < end:
            message = f"{node.name} holds code outside its solution region"
            raise MasterError(master.path, cell.at(statement.lineno), message)
    if not body:
        raise MasterError(master.path, cell.at(begin), f"the solution of {node.name} is empty")
    return inside[0]


def _last_line(lines: list[str], node: ast.FunctionDef) -> int:
    """The body's last line, comments after its last statement included."""
    last = node.end_lineno or node.lineno
    indented = " " * (node.col_offset + 1)
    return last + len(list(takewhile(lambda line: line.startswith(indented), lines[last:])))


def _body(node: ast.FunctionDef | ast.ClassDef) -> list[ast.stmt]:
    return node.body[1:] if ast.get_docstring(node, clean=False) is not None else node.body


def _check_setup(master: Master) -> None:
    first = next((cell for cell in master.cells if cell.kind == "code"), None)
    if first is None or first.role != "setup":
        message = "the first code cell is not the setup cell, `# %% setup=true`"
        raise MasterError(master.path, first.line if first else 1, message)
    again = [cell for cell in master.cells if cell.role == "setup"][1:]
    if again:
        raise MasterError(master.path, again[0].line, "a second setup cell")
    wanted = ast.parse(f"import course\ncourse.setup({master.unit!r})")
    if ast.dump(ast.parse(first.source)) != ast.dump(wanted):
        message = f'the setup cell is `import course` and `course.setup("{master.unit}")`'
        raise MasterError(master.path, first.at(1), message)


def _check_exercises(master: Master) -> None:
    found: dict[str, dict[str, int]] = {"heading": {}, "exercise": {}, "test": {}}
    for index, cell in enumerate(master.cells):
        if cell.exercise is None or cell.role is None:
            continue
        known = found[cell.role]
        if cell.exercise in known:
            line = master.cells[known[cell.exercise]].line
            message = f"{cell.role} {cell.exercise!r} stands on line {line} already"
            raise MasterError(master.path, cell.line, message)
        known[cell.exercise] = index
    for name, index in found["exercise"].items():
        for role, order in (("heading", -1), ("test", 1)):
            if name not in found[role]:
                message = f"exercise {name!r} has no {role} cell"
                raise MasterError(master.path, master.cells[index].line, message)
            if (found[role][name] - index) * order < 0:
                place = "before" if order < 0 else "after"
                message = f"{role} {name!r} does not stand {place} its exercise"
                raise MasterError(master.path, master.cells[found[role][name]].line, message)
    for role in ("heading", "test"):
        for name, index in found[role].items():
            if name not in found["exercise"]:
                message = f"{role} {name!r} belongs to no exercise"
                raise MasterError(master.path, master.cells[index].line, message)
    _check_definitions(master)
    _check_headings(master)


def _check_definitions(master: Master) -> None:
    """No name is defined by two exercises: the reference module would keep the later one."""
    owner: dict[str, str] = {}
    for cell in master.cells:
        if cell.role != "exercise":
            continue
        for name in definitions(cell.source):
            if name in owner:
                message = f"{name} is defined by exercise {owner[name]!r} already"
                raise MasterError(master.path, cell.line, message)
            owner[name] = cell.exercise or ""


def _check_headings(master: Master) -> None:
    for cell in master.cells:
        if cell.role != "heading":
            continue
        title = cell.source.split("\n")[0]
        if not re.match(r"#+ ", title):
            message = "the first line of a heading cell starts with `###`"
            raise MasterError(master.path, cell.at(1), message)
        names = re.findall(r"\{(\w*)\}", re.sub(r"\$[^$]*\$", "", title))
        for name in names:
            if name not in PLACEHOLDERS:
                message = f"unknown placeholder {{{name}}} (known: {{number}}, {{points}})"
                raise MasterError(master.path, cell.at(1), message)
        for name in PLACEHOLDERS:
            if names.count(name) != 1:
                raise MasterError(master.path, cell.at(1), f"the heading needs {{{name}}} once")


def _check_expects(master: Master) -> None:
    """Each `expect` names what it looks at, in words that no other one in the notebook uses."""
    seen: dict[str, int] = {}
    for cell in master.cells:
        if cell.kind != "code":
            continue
        for call in _expects(cell.source):
            where = cell.at(call.lineno)
            what = _what(call)
            if what is None:
                message = 'expect needs a plain string as third argument, such as "relu: values"'
                raise MasterError(master.path, where, message)
            if what in seen:
                message = f"expect(..., {what!r}) stands on line {seen[what]} already"
                raise MasterError(master.path, where, message)
            _check_subject(master, cell, where, what)
            seen[what] = where


def _check_subject(master: Master, cell: Cell, where: int, what: str) -> None:
    if cell.role != "test" or cell.exercise is None:
        return
    names = (cell.exercise, *definitions(master.cell("exercise", cell.exercise).source))
    if not any(re.match(rf"{name}\b", what) for name in names):
        raise MasterError(master.path, where, f"{what!r} does not start with {' or '.join(names)}")


def _expects(source: str) -> list[ast.Call]:
    calls = [node for node in ast.walk(ast.parse(source)) if isinstance(node, ast.Call)]
    named = {"expect", "course.expect"}
    return sorted((c for c in calls if ast.unparse(c.func) in named), key=lambda c: c.lineno)


def _what(call: ast.Call) -> str | None:
    given = [keyword.value for keyword in call.keywords if keyword.arg == "what"]
    node = given[0] if given else call.args[2] if len(call.args) > 2 else None
    if isinstance(node, ast.Constant) and isinstance(node.value, str) and node.value.strip():
        return node.value
    return None


# --- solution regions


def _regions(source: str) -> list[tuple[int, int]]:
    """Line numbers (from 1) of each BEGIN SOLUTION with its END."""
    lines = [
        number
        for number, line in enumerate(source.split("\n"), 1)
        if (match := _MARKER_LINE.fullmatch(line)) and match[2] == "SOLUTION"
    ]
    return list(zip(lines[::2], lines[1::2], strict=True))


def _stub_lines(source: str) -> list[tuple[int, str]]:
    """The stub's lines, each with the number of the line that it comes from."""
    kept: list[tuple[int, str]] = []
    inside = False
    for number, line in enumerate(source.split("\n"), 1):
        if "BEGIN SOLUTION" in line:
            inside = True
            kept.append((number, line[: len(line) - len(line.lstrip())] + STUB))
        elif "END SOLUTION" in line:
            inside = False
        elif not inside:
            kept.append((number, line))
    return kept
