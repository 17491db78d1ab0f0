"""Make from each master all that is built: source, release, reference, the executed lecture.

Every file comes out byte for byte the same each time; only a lecture's outputs depend on the
machine, so a lecture is executed again only when its cells have changed.
"""

import ast
import builtins
import logging
import os
import re
import sqlite3
import symtable
import sys
import tempfile
import tomllib
import uuid
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeGuard

import nbformat
from nbformat import NotebookNode, v4

from autograder.authoring import AuthoringError
from autograder.authoring.master import Cell, Master, MasterError, read_master, solution

HOME = Path(__file__).resolve().parents[2]
LECTURE_SECONDS = 600
BADGE = "https://colab.research.google.com/assets/colab-badge.svg"
KERNEL = {"display_name": "Python 3", "language": "python", "name": "python3"}

# Packages that the reference module imports only where its definitions use them; of the others it
# keeps all that the notebook imports, for mistakes and alternatives to use.
NOTEBOOK_ONLY = {"IPython", "course", "matplotlib", "tqdm"}

# What the notebooks' first cell does before `import course`. `%pip` installs into the running
# kernel; the quotes keep "dlcourse @ git+..." one argument.
INSTALL = """\
import importlib.util
import os

# On Colab: install the course, and it alone; torch and numpy stay as they are.
if importlib.util.find_spec("course") is None:
    wheel = os.environ.get("DLCOURSE", "{install}")
    get_ipython().run_line_magic("pip", f"install -q --no-deps '{{wheel}}'")

"""
HIDDEN = """\
### BEGIN HIDDEN TESTS
from autograder.contract import check_here

check_here("{unit}/{exercise}", globals())
### END HIDDEN TESTS"""


def build_unit(
    unit: str,
    root: Path,
    *,
    check: bool = False,
    points: Callable[[str], float] | None = None,
) -> list[Path]:
    """Build all that comes from one unit's masters.

    Args:
        unit: the unit's folder, such as `01_backprop`.
        root: the course's folder, which holds `source/`.
        check: write nothing.
        points: an exercise's points; KeyError if it is not registered. By default those of
            `autograder/exercises`, which are then also compared with the masters and give the
            fingerprints.

    Returns:
        The files that changed, or with `check` those that would.

    Raises:
        MasterError: a master breaks a rule.
        AuthoringError: the unit is unknown, or a built notebook has no master.
    """
    root = Path(root).resolve()
    masters = read_unit(unit, root)
    output = _Output(check)
    for master in masters:
        path = root / "autograder" / "reference" / f"{master.notebook}.py"
        output.put(path, reference_module(master))
    stale = check and bool(output.changed)

    project = read_project(root)
    registered = points is None
    points = points or registered_points(unit, masters)
    sources = {m.notebook: _text(source_notebook(m, points, project)) for m in masters}
    released = release_notebooks(unit, sources, root)
    for folder, texts in (("source", sources), ("release", released)):
        for name, text in texts.items():
            output.put(root / folder / unit / f"{name}.ipynb", text)
        _refuse_strays(root / folder / unit, texts)

    _build_lecture(unit, root, project, output)
    if registered and masters and not stale:  # fingerprints come from the reference modules
        output.changed += _fingerprints(unit, root, check)
    return output.changed


def read_unit(unit: str, root: Path) -> list[Master]:
    """The masters of one unit, by name.

    Raises:
        MasterError: a master breaks a rule, or two share an exercise or a file name.
        AuthoringError: there is no such unit.
    """
    paths = sorted((root / "source" / unit).glob("*.py")) if unit else []
    lecture = lecture_master(unit, root)
    if not paths and not lecture.exists():
        known = ", ".join(sorted(p.name for p in (root / "source").glob("[0-9]*"))) or "none"
        raise AuthoringError(f"no masters in source/{unit} (units: {known})")
    masters = [read_master(path) for path in paths]
    owner: dict[str, Path] = {}
    for master in masters:
        for twin in sorted(root.glob(f"source/*/{master.notebook}.py")):
            if twin.parent.name != unit:
                raise MasterError(master.path, 1, f"{twin.parent.name} has a notebook of this name")
        for name in master.exercises:
            if name in owner:
                line = master.cell("exercise", name).line
                raise MasterError(master.path, line, f"{owner[name].name} has exercise {name!r}")
            owner[name] = master.path
    return masters


class _Output:
    """Writes what differs from what is there, or with `check` only takes note of it."""

    def __init__(self, check: bool) -> None:
        self.check = check
        self.changed: list[Path] = []

    def put(self, path: Path, text: str) -> None:
        data = text.encode()
        if path.is_file() and path.read_bytes() == data:
            return
        self.changed.append(path)
        if not self.check:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(data)


def _refuse_strays(folder: Path, built: Iterable[str]) -> None:
    for path in sorted(folder.glob("*.ipynb")):
        if path.stem not in built:
            raise AuthoringError(f"{path} has no master {path.stem}.py: remove it")


def _fingerprints(unit: str, root: Path, check: bool) -> list[Path]:
    """The known mistakes' outputs on the visible tests, for the diagnosis in students' hands."""
    from autograder.authoring.fingerprints import write_fingerprints  # torch, the grader: not above

    return write_fingerprints(unit, root, check)


# --- what stands once for all notebooks


@dataclass(frozen=True)
class Project:
    """`[tool.dlcourse]` of pyproject.toml: where the course is published and installed from."""

    repository: str
    install: str

    def colab(self, path: str) -> str:
        """Address at which Colab opens a notebook of the repository."""
        place = self.repository.removeprefix("https://github.com/").removesuffix(".git").strip("/")
        return f"https://colab.research.google.com/github/{place}/blob/main/{path}"


def read_project(root: Path) -> Project:
    """Read `[tool.dlcourse]`.

    Raises:
        AuthoringError: a key is missing, or the repository is not on GitHub.
    """
    path = _own_or_ours(root, "pyproject.toml")
    table = tomllib.loads(path.read_text(encoding="utf-8")).get("tool", {}).get("dlcourse", {})
    for key in ("repository", "install"):
        if not isinstance(table.get(key), str):
            raise AuthoringError(f"{path}: [tool.dlcourse] has no {key}")
    if not re.fullmatch(r"https://github\.com/[\w.-]+/[\w.-]+/?", table["repository"]):
        raise AuthoringError(f"{path}: repository is not https://github.com/OWNER/NAME")
    if re.search(r"[\"'\\{}]", table["install"]):
        raise AuthoringError(f"{path}: install holds quotes, braces or backslashes")
    return Project(table["repository"], table["install"])


def _own_or_ours(root: Path, name: str) -> Path:
    """A file of the course's root, else the one of the repository that this module stands in."""
    return root / name if (root / name).is_file() else HOME / name


def registered_points(unit: str, masters: Sequence[Master]) -> Callable[[str], float]:
    """Points by exercise, from `autograder/exercises`, once they and the masters agree.

    Raises:
        MasterError: a cell does not define what its Exercise says.
        AuthoringError: an Exercise has no cell.
    """
    if not masters:
        return {}.__getitem__
    from autograder import contract

    try:
        known = contract.load(unit)
    except KeyError:
        known = {}
    places = {name: master for master in masters for name in master.exercises}
    for name, exercise in known.items():
        if name not in places:
            raise AuthoringError(f"Exercise({name!r}) has no cell in source/{unit}")
        master = places[name]
        cell = master.cell("exercise", name)
        if exercise.notebook != master.notebook:
            message = f"Exercise({name!r}) says notebook={exercise.notebook!r}"
            raise MasterError(master.path, cell.line, message)
        missing = sorted(set(exercise.defines) - _defined(cell.source))
        if missing:
            message = f"Exercise({name!r}) defines {missing[0]}, this cell does not"
            raise MasterError(master.path, cell.line, message)
    return lambda name: known[name].points


# --- source notebook


def source_notebook(
    master: Master, points: Callable[[str], float], project: Project
) -> NotebookNode:
    """The instructor's notebook: solutions, hidden tests, nbgrader's metadata on each cell.

    Raises:
        MasterError: an exercise has no points, or two cells would have the same id.
    """
    cells = [_badge(f"release/{master.unit}/{master.notebook}.ipynb", project)]
    names = ["cell-01"]
    others, number = 1, 0
    for cell in master.cells:
        others += cell.role not in ("exercise", "test")
        number += cell.role == "heading"
        worth = _points(master, cell, points) if cell.role in ("heading", "test") else 0
        cells.append(_source_cell(master, cell, number, worth, project))
        names.append(_grade_id(cell, others))
    _name_cells(master, cells, names)
    for cell, name, made in zip((None, *master.cells), names, cells, strict=True):
        made.metadata["nbgrader"] = _nbgrader(cell, name, made.cell_type)
        if cell and cell.role == "test":
            made.metadata["nbgrader"]["points"] = _points(master, cell, points)
    return _notebook(cells)


def _source_cell(
    master: Master, cell: Cell, number: int, points: float, project: Project
) -> NotebookNode:
    source = cell.source
    if cell.role == "setup":
        source = INSTALL.format(install=project.install) + source
    elif cell.role == "heading":
        source = _heading(source, number, points)
    elif cell.role == "test":
        source += "\n" + HIDDEN.format(unit=master.unit, exercise=cell.exercise)
    return _new_cell(cell, source)


def _new_cell(cell: Cell, source: str) -> NotebookNode:
    make = v4.new_markdown_cell if cell.kind == "markdown" else v4.new_code_cell
    return make(source, metadata=NotebookNode(cell.metadata))


def _heading(source: str, number: int, points: float) -> str:
    title, *rest = source.split("\n")
    shown = f"{points:g}"
    if shown == "1":
        title = title.replace("{points} points", "{points} point")
    title = title.replace("{number}", str(number)).replace("{points}", shown)
    return "\n".join([title, *rest])


def _points(master: Master, cell: Cell, points: Callable[[str], float]) -> float:
    try:
        worth = points(cell.exercise or "")
    except KeyError as error:
        message = f"no Exercise({cell.exercise!r}) in autograder/exercises: it has no points"
        raise MasterError(master.path, cell.line, message) from error
    if worth <= 0:
        message = f"the checks of {cell.exercise!r} have no points"
        raise MasterError(master.path, cell.line, message)
    return int(worth) if worth == int(worth) else float(worth)


def _grade_id(cell: Cell, number: int) -> str:
    if cell.role == "exercise":
        return cell.exercise or ""
    return f"test_{cell.exercise}" if cell.role == "test" else f"cell-{number:02d}"


def _nbgrader(cell: Cell | None, grade_id: str, kind: str) -> NotebookNode:
    role = cell.role if cell else None
    return NotebookNode(
        cell_type=kind,
        grade=role == "test",
        grade_id=grade_id,
        locked=role != "exercise",
        schema_version=3,
        solution=role == "exercise",
        task=False,
    )


def _name_cells(master: Master, cells: list[NotebookNode], names: Sequence[str]) -> None:
    seen: set[str] = set()
    for made, name, cell in zip(cells, names, (None, *master.cells), strict=True):
        made.id = name.replace("_", "-")
        if made.id in seen or not re.fullmatch(r"[A-Za-z0-9-]{1,64}", made.id):
            line = cell.line if cell else 1
            raise MasterError(master.path, line, f"cell id {made.id!r} is taken or too long")
        seen.add(made.id)


def _badge(path: str, project: Project) -> NotebookNode:
    return v4.new_markdown_cell(f"[![Open in Colab]({BADGE})]({project.colab(path)})")


def _notebook(cells: list[NotebookNode]) -> NotebookNode:
    metadata = {"kernelspec": dict(KERNEL), "language_info": {"name": "python"}}
    notebook = v4.new_notebook(cells=cells, metadata=metadata)
    notebook.nbformat_minor = 5
    return notebook


def _text(notebook: NotebookNode) -> str:
    return nbformat.writes(notebook) + "\n"


# --- release notebook


def release_notebooks(unit: str, sources: Mapping[str, str], root: Path) -> dict[str, str]:
    """What nbgrader's generate_assignment makes of the source notebooks, by name.

    It works in a scratch folder that holds these notebooks alone, on a gradebook of its own:
    nothing else of the source folder can reach the release, and the instructor's gradebook is not
    touched.

    Raises:
        AuthoringError: nbgrader had something to complain about.
    """
    if not sources:
        return {}
    from nbgrader.converters import GenerateAssignment
    from nbgrader.converters.base import NbGraderException
    from nbgrader.coursedir import CourseDirectory

    with tempfile.TemporaryDirectory() as scratch, _scratch_gradebook() as gradebook:
        home = Path(scratch).resolve()
        _write_all(home / "source" / unit, sources)
        config = _nbgrader_config(root)
        config.CourseDirectory.root = str(home)
        config.CourseDirectory.db_url = gradebook
        config.CourseDirectory.assignment_id = unit
        with _complaints() as (log, heard):
            course = CourseDirectory(config=config, log=log)
            try:
                GenerateAssignment(coursedir=course, config=config, log=log).start()
            except NbGraderException as error:
                heard.append(str(error))
        if heard:
            # A traceback is heard whole; its last line says what is wrong.
            said = [text.strip().split("\n")[-1] for text in heard]
            raise AuthoringError(f"nbgrader, {unit}: " + "; ".join(dict.fromkeys(said)))
        release = Path(course.format_path(course.release_directory, ".", unit))
        return {name: (release / f"{name}.ipynb").read_text("utf-8") for name in sources}


def _write_all(folder: Path, texts: Mapping[str, str]) -> None:
    folder.mkdir(parents=True)
    for name, text in texts.items():
        (folder / f"{name}.ipynb").write_text(text, "utf-8")


@contextmanager
def _scratch_gradebook() -> Iterator[str]:
    """URL of a gradebook in memory, which lives as long as the context.

    nbgrader commits once a cell, which takes seconds on a disk. The gradebook is not quite empty,
    so that nbgrader does not start `alembic` to date it.
    """
    name = f"file:build-{uuid.uuid4().hex}?mode=memory&cache=shared"
    with closing(sqlite3.connect(name, uri=True)) as database, warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Selection of the SingletonThreadPool")
        database.execute("CREATE TABLE alembic_version (version_num VARCHAR(32) NOT NULL)")
        database.commit()
        yield f"sqlite:///{name}&uri=true"


def _nbgrader_config(root: Path) -> Any:
    from traitlets.config.loader import PyFileConfigLoader

    path = _own_or_ours(root, "nbgrader_config.py")
    return PyFileConfigLoader(path.name, path=str(path.parent)).load_config()


@contextmanager
def _complaints() -> Iterator[tuple[logging.Logger, list[str]]]:
    """A logger for nbgrader, and what it was told from warnings upwards."""
    heard: list[str] = []
    handler = logging.Handler(logging.WARNING)
    handler.emit = lambda record: heard.append(record.getMessage())
    log = logging.Logger("autograder.build", logging.WARNING)
    log.addHandler(handler)
    yield log, heard


# --- reference module


@dataclass
class _Block:
    """A piece of the reference module: a given definition, or one exercise's solution."""

    text: str
    defines: frozenset[str]
    line: int
    exercise: str | None = None
    optional: bool = False  # a constant that is computed: kept only where a definition needs it
    uses: frozenset[str] = field(default_factory=frozenset)


def reference_module(master: Master) -> str:
    """The reference solutions of one notebook as a module that imports without side effects.

    It holds the given cells' imports, functions, classes and UPPER_CASE constants, and the exercise
    cells between the marker lines `# --- exercise: NAME` and `# --- end`, with the master's text.

    Raises:
        MasterError: a solution uses a name that does not reach the module.
    """
    imports: list[_Import] = []
    blocks: list[_Block] = []
    for cell in master.cells:
        if cell.role == "exercise":
            text = solution(cell.source).strip("\n")
            block = _Block(text, _defined(text), cell.line, cell.exercise, False, _used(text))
            blocks.append(block)
        elif cell.kind == "code" and cell.role != "test":
            imports += _imports(master, cell)
            blocks += _given(cell, blocks)
    blocks = _closed(master, blocks, {name.bound for name in imports})
    needed = set().union(*(block.uses for block in blocks)) - _names(blocks)
    title = f'"""Generated by `autograder build` from {_home(master)}; do not edit."""'
    kept = [i for i in imports if i.bound in needed or i.module.split(".")[0] not in NOTEBOOK_ONLY]
    header = _render(kept)
    if any(name.bound not in needed for name in kept):
        header = f"# ruff: noqa: F401  (for mistakes and alternatives)\n\n{header}"
    # ruff's distance from the imports to a constant is smaller than that to a definition.
    constant = bool(blocks) and not re.match(r"@|class |def |#", _marked(blocks[0]))
    gap = "\n\n" if constant else "\n\n\n"
    body = "\n\n\n".join(_marked(block) for block in blocks)
    return f"{title}\n\n" + gap.join(part for part in (header, body) if part) + "\n"


def _home(master: Master) -> str:
    return f"source/{master.unit}/{master.notebook}.py"


def _marked(block: _Block) -> str:
    if block.exercise is None:
        return block.text
    return f"# --- exercise: {block.exercise}\n{block.text}\n\n\n# --- end"


def _given(cell: Cell, before: Sequence[_Block]) -> list[_Block]:
    """What a given cell defines; statements that do something are left out."""
    lines = cell.source.split("\n")
    classes = set().union(*(block.defines for block in before))
    found: list[_Block] = []
    for node in ast.parse(cell.source).body:
        first = min([node.lineno, *(d.lineno for d in getattr(node, "decorator_list", []))])
        text = "\n".join(lines[first - 1 : node.end_lineno])
        defines = _defined(text)
        if isinstance(node, ast.FunctionDef | ast.ClassDef):
            found.append(_Block(text, defines, cell.at(first), uses=_used(text)))
        elif defines and all(name.isupper() for name in defines) and _is_assignment(node):
            computed = not _is_literal(node.value)
            found.append(_Block(text, defines, cell.at(first), None, computed, _used(text)))
        elif _is_attachment(node, classes | {name for block in found for name in block.defines}):
            found.append(_Block(text, frozenset(), cell.at(first), uses=_used(text)))
    return found


def _is_assignment(node: ast.stmt) -> TypeGuard[ast.Assign | ast.AnnAssign]:
    return isinstance(node, ast.Assign | ast.AnnAssign) and node.value is not None


def _is_literal(node: ast.expr | None) -> bool:
    try:
        ast.literal_eval(node or ast.Constant(None))
    except ValueError:
        return False
    return True


def _is_attachment(node: ast.stmt, classes: set[str]) -> bool:
    """A statement such as `Value.__radd__ = Value.__add__`."""
    if not isinstance(node, ast.Assign):
        return False
    owners = [t.value for t in node.targets if isinstance(t, ast.Attribute)]
    return len(owners) == len(node.targets) and all(
        isinstance(owner, ast.Name) and owner.id in classes for owner in owners
    )


def _closed(master: Master, blocks: list[_Block], imported: set[str]) -> list[_Block]:
    """Leave out given blocks that need what the module has not, and constants nobody needs."""
    known = imported | set(dir(builtins)) | {"__name__", "__file__", "__doc__"}
    while True:
        names = known | _names(blocks)
        for block in blocks:
            missing = sorted(block.uses - names)
            if missing and block.exercise:
                message = (
                    f"the solution of {block.exercise!r} uses {missing[0]}, which is no import, "
                    "function, class or UPPER_CASE constant of a given cell"
                )
                raise MasterError(master.path, block.line, message)
        kept = [block for block in blocks if block.uses <= names]
        wanted = set().union(*(block.uses for block in kept))
        kept = [b for b in kept if not b.optional or b.defines & wanted]
        if len(kept) == len(blocks):
            return kept
        blocks = kept


def _names(blocks: Iterable[_Block]) -> set[str]:
    return set().union(*(block.defines for block in blocks))


def _defined(source: str) -> frozenset[str]:
    """Names that the source binds at its top level."""
    table = symtable.symtable(source, "<cell>", "exec")
    return frozenset(s.get_name() for s in table.get_symbols() if s.is_assigned())


def _used(source: str) -> frozenset[str]:
    """Names that the source takes from its module, those in quoted annotations included."""
    table = symtable.symtable(source, "<cell>", "exec")
    found = {s.get_name() for s in table.get_symbols() if s.is_referenced()}
    tables = list(table.get_children())
    while tables:
        table = tables.pop()
        found |= {s.get_name() for s in table.get_symbols() if s.is_global()}
        tables += table.get_children()
    return frozenset(found | _quoted(ast.parse(source)))


def _quoted(tree: ast.AST) -> set[str]:
    found: set[str] = set()
    for node in ast.walk(tree):
        for annotation in (getattr(node, "annotation", None), getattr(node, "returns", None)):
            for inner in ast.walk(annotation) if annotation else ():
                if isinstance(inner, ast.Constant) and isinstance(inner.value, str):
                    found |= set(re.findall(r"[A-Za-z_]\w*", inner.value))
    return found


# --- imports of the reference module, in ruff's order


@dataclass(frozen=True)
class _Import:
    """One imported name: `import module [as alias]` or `from module import name [as alias]`."""

    module: str
    name: str | None
    alias: str | None

    @property
    def bound(self) -> str:
        return self.alias or self.name or self.module.split(".")[0]


def _imports(master: Master, cell: Cell) -> Iterator[_Import]:
    for node in ast.parse(cell.source).body:
        if isinstance(node, ast.Import):
            yield from (_Import(name.name, None, name.asname) for name in node.names)
        elif isinstance(node, ast.ImportFrom):
            if node.level or node.names[0].name == "*":
                message = "import names one by one, from a module with a full name"
                raise MasterError(master.path, cell.at(node.lineno), message)
            for name in node.names:
                yield _Import(node.module or "", name.name, name.asname)


def _render(imports: Iterable[_Import]) -> str:
    sections: dict[int, set[_Import]] = {}
    for item in imports:
        sections.setdefault(_section(item.module), set()).add(item)
    return "\n\n".join(
        "\n".join(_import_lines(found)) for _, found in sorted(sections.items(), key=lambda s: s[0])
    )


def _section(module: str) -> int:
    package = module.split(".")[0]
    if package == "__future__":
        return 0
    if package in sys.stdlib_module_names:
        return 1
    return 3 if package in ("course", "autograder") else 2


def _import_lines(imports: set[_Import]) -> Iterator[str]:
    for item in sorted((i for i in imports if i.name is None), key=lambda i: i.module.lower()):
        yield f"import {item.module}" + (f" as {item.alias}" if item.alias else "")
    members: dict[tuple[str, str], list[str]] = {}
    for item in imports:
        if item.name is not None:
            shown = f"{item.name} as {item.alias}" if item.alias else item.name
            # ruff keeps a renamed member on a line of its own
            members.setdefault((item.module, shown if item.alias else ""), []).append(shown)
    for (module, _), shown in sorted(members.items(), key=lambda m: (m[0][0].lower(), m[0][1])):
        yield _from_line(module, sorted(shown, key=_member_order))


def _member_order(name: str) -> tuple[int, str]:
    kind = 0 if name.isupper() and len(name) > 1 else 1 if name[0].isupper() else 2
    return kind, name.lower()


def _from_line(module: str, names: list[str]) -> str:
    line = f"from {module} import {', '.join(names)}"
    if len(line) <= 100:
        return line
    return "\n    ".join([f"from {module} import (", *(f"{name}," for name in names)]) + "\n)"


# --- lecture


def lecture_master(unit: str, root: Path) -> Path:
    """Where a unit's lecture is written; its notebook stands beside it."""
    return root / "course" / "lectures" / unit / f"{unit}.py"


def _build_lecture(unit: str, root: Path, project: Project, output: _Output) -> None:
    path = lecture_master(unit, root)
    if not path.exists():
        return
    master = read_master(path)
    if master.exercises:
        line = master.cell("exercise", master.exercises[0]).line
        raise MasterError(path, line, "a lecture has no exercises")
    wanted = lecture_notebook(master, project)
    target = path.with_suffix(".ipynb")
    if target.exists() and is_executed(wanted, target):
        return
    if output.check:
        output.changed.append(target)
        return
    output.put(target, _text(execute(master, wanted, root)))


def lecture_notebook(master: Master, project: Project) -> NotebookNode:
    """The lecture before it is executed."""
    path = f"course/lectures/{master.unit}/{master.notebook}.ipynb"
    cells = [_badge(path, project)]
    cells += [_source_cell(master, cell, 0, 0, project) for cell in master.cells]
    _name_cells(master, cells, [f"cell-{n:02d}" for n in range(1, len(cells) + 1)])
    return _notebook(cells)


def is_executed(wanted: NotebookNode, path: Path) -> bool:
    """True if the notebook at `path` has the wanted cells, all executed without an error."""
    try:
        found = nbformat.read(path, as_version=4)
    except (ValueError, nbformat.reader.NotJSONError, nbformat.ValidationError):
        return False
    code = [cell for cell in found.cells if cell.cell_type == "code"]
    return (
        _bare(found) == _bare(wanted)
        and [cell.execution_count for cell in code] == list(range(1, len(code) + 1))
        and not any(out.output_type == "error" for cell in code for out in cell.outputs)
    )


def _bare(notebook: NotebookNode) -> tuple[Any, ...]:
    cells = [(c.cell_type, c.id, c.source, dict(c.metadata)) for c in notebook.cells]
    return dict(notebook.metadata), cells


def execute(master: Master, notebook: NotebookNode, root: Path) -> NotebookNode:
    """Run a lecture in a fresh kernel, in the small profile unless COURSE_PROFILE says otherwise.

    Raises:
        MasterError: a cell fails; the line is that of the cell.
    """
    from nbclient import NotebookClient
    from nbclient.exceptions import CellExecutionError, CellTimeoutError, DeadKernelError

    path = os.pathsep.join(filter(None, [str(root), os.environ.get("PYTHONPATH")]))
    # With MPLBACKEND set the kernel would show no pictures; a private IPYTHONDIR keeps the author's
    # own start-up files out of the lecture.
    env = {k: v for k, v in os.environ.items() if k != "MPLBACKEND"}
    env = {"COURSE_PROFILE": "small", **env, "PYTHONPATH": path}
    with tempfile.TemporaryDirectory() as profile:
        client = NotebookClient(
            notebook,
            timeout=LECTURE_SECONDS,
            kernel_name="python3",
            record_timing=False,
            store_widget_state=False,
            resources={"metadata": {"path": str(root)}},
        )
        try:
            client.execute(env={**env, "IPYTHONDIR": profile})
        except (CellExecutionError, CellTimeoutError, DeadKernelError) as error:
            raise _failure(master, notebook, error) from error
    return _settled(notebook, root)


def _failure(master: Master, notebook: NotebookNode, error: Exception) -> MasterError:
    """Name the cell: the last one that was begun."""
    begun = [
        n for n, c in enumerate(notebook.cells) if c.get("execution_count") or c.get("outputs")
    ]
    cell = master.cells[max(begun[-1] - 1, 0) if begun else 0]
    name, value = getattr(error, "ename", ""), getattr(error, "evalue", "")
    said = f"{name}: {value}" if name else str(error) or type(error).__name__
    return MasterError(master.path, cell.line, "the cell fails: " + " ".join(said.split()))


def _settled(notebook: NotebookNode, root: Path) -> NotebookNode:
    """Leave out what differs from run to run: stderr (bars, warnings), addresses, paths."""
    notebook.metadata = _notebook([]).metadata
    for cell in notebook.cells:
        cell.metadata.pop("execution", None)
        if cell.cell_type == "code":
            kept = [o for o in cell.outputs if o.get("name") != "stderr" and not _is_widget(o)]
            cell.outputs = [_settled_output(output, str(root)) for output in kept]
    return notebook


def _is_widget(output: NotebookNode) -> bool:
    return "application/vnd.jupyter.widget-view+json" in output.get("data", {})


def _settled_output(output: NotebookNode, root: str) -> NotebookNode:
    def settle(text: str) -> str:
        return re.sub(r" at 0x[0-9a-f]+", "", text.replace(root, "."))

    if output.output_type == "stream":
        output.text = settle(output.text)
    elif "text/plain" in output.get("data", {}):
        output.data["text/plain"] = settle(output.data["text/plain"])
    return output
