"""Make a master's notebooks: the instructor's source and the release that nbgrader makes of it."""

import logging
import re
import sqlite3
import tempfile
import tomllib
import uuid
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import nbformat
from nbformat import NotebookNode, v4

from autograder.authoring import HOME, AuthoringError
from autograder.authoring.master import Cell, Master, MasterError

BADGE = "https://colab.research.google.com/assets/colab-badge.svg"
KERNEL = {"display_name": "Python 3", "language": "python", "name": "python3"}

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


# --- source


def source_notebook(
    master: Master, points: Callable[[str], float], project: Project
) -> NotebookNode:
    """The instructor's notebook: solutions, hidden tests, nbgrader's metadata on each cell.

    Raises:
        MasterError: an exercise has no points, or two cells would have the same id.
    """
    cells = [badge(f"release/{master.unit}/{master.notebook}.ipynb", project)]
    names = ["cell-01"]
    others, number = 1, 0
    for cell in master.cells:
        others += cell.role not in ("exercise", "test")
        number += cell.role == "heading"
        worth = _points(master, cell, points) if cell.role in ("heading", "test") else 0
        cells.append(source_cell(master, cell, number, worth, project))
        names.append(_grade_id(cell, others))
    name_cells(master, cells, names)
    for cell, name, made in zip((None, *master.cells), names, cells, strict=True):
        made.metadata["nbgrader"] = _nbgrader(cell, name, made.cell_type)
        if cell and cell.role == "test":
            made.metadata["nbgrader"]["points"] = _points(master, cell, points)
    return new_notebook(cells)


def source_cell(
    master: Master, cell: Cell, number: int, points: float, project: Project
) -> NotebookNode:
    """One cell of a master, with what its role adds: installation, heading, hidden tests."""
    source = cell.source
    if cell.role == "setup":
        source = INSTALL.format(install=project.install) + source
    elif cell.role == "heading":
        source = _heading(source, number, points)
    elif cell.role == "test":
        source += "\n" + HIDDEN.format(unit=master.unit, exercise=cell.exercise)
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


def name_cells(master: Master, cells: list[NotebookNode], names: Sequence[str]) -> None:
    """Give the badge and the master's cells their ids, made of these names.

    Raises:
        MasterError: two cells would have the same id.
    """
    seen: set[str] = set()
    for made, name, cell in zip(cells, names, (None, *master.cells), strict=True):
        made.id = name.replace("_", "-")
        if made.id in seen or not re.fullmatch(r"[A-Za-z0-9-]{1,64}", made.id):
            line = cell.line if cell else 1
            raise MasterError(master.path, line, f"cell id {made.id!r} is taken or too long")
        seen.add(made.id)


def badge(path: str, project: Project) -> NotebookNode:
    """The first cell: a link that opens the notebook at `path` in Colab."""
    return v4.new_markdown_cell(f"[![Open in Colab]({BADGE})]({project.colab(path)})")


def new_notebook(cells: list[NotebookNode]) -> NotebookNode:
    """A notebook of these cells, with the same metadata for all."""
    metadata = {"kernelspec": dict(KERNEL), "language_info": {"name": "python"}}
    notebook = v4.new_notebook(cells=cells, metadata=metadata)
    notebook.nbformat_minor = 5
    return notebook


def as_text(notebook: NotebookNode) -> str:
    """What is written into the notebook's file."""
    return nbformat.writes(notebook) + "\n"


# --- release


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
        (home / "source" / unit).mkdir(parents=True)
        for name, text in sources.items():
            (home / "source" / unit / f"{name}.ipynb").write_text(text, "utf-8")
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
