"""nbgrader's side of grading: `nbgrader autograde` and the gradebook, with our judge in the middle.

`nbgrader_config.py` puts `TolerantExporter`, `JudgeNotebook` and `EnterMarks` into nbgrader's
Autograde. `autograder grade` enters what its workers judged through `NbgraderClass`. Both write a
submission's marks by the same code.
"""

import contextlib
import copy
import logging
import sys
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import nbformat
from jupyter_core.paths import jupyter_config_path
from nbconvert.exporters import NotebookExporter
from nbformat import NotebookNode
from nbgrader.converters import Autograde, GenerateAssignment
from nbgrader.converters.base import NbGraderException
from nbgrader.coursedir import CourseDirectory
from nbgrader.preprocessors import NbGraderPreprocessor, SaveCells
from traitlets.config import Application, Config

from autograder.contract import RELEASE, load
from autograder.grading.fanout import tools
from autograder.grading.grade import Graded, grade, unreadable
from autograder.grading.gradebook import Book, Cells, GradebookError, described, late_penalties
from autograder.grading.journal import keep_timestamp
from autograder.grading.submission import UnreadableSubmission, read_submission
from autograder.grading.wall import NoWall

REPOSITORY = RELEASE.parent
UNREADABLE = "autograder_unreadable"


class TolerantExporter(NotebookExporter):
    """Reads what was handed in; what cannot be read becomes an empty notebook that says why."""

    def __init__(self, config: Any = None, **kwargs: Any) -> None:
        super().__init__(config=config, **kwargs)
        try:
            tools()  # before nbgrader has touched the first submission
        except NoWall as error:
            said = f"{error} (for nbgrader: AUTOGRADER_ISOLATION=none)"
            self.log.error(said)
            raise NbGraderException(said) from None
        converter = self.parent
        if isinstance(converter, Autograde):
            # nbgrader would copy what lies beside the notebooks, through a student's links. The
            # course's own settings are a server's for long, so this holds for a copy of them.
            course: Any = copy.copy(converter.coursedir)
            course.ignore = ["*", ".*"]
            converter.coursedir = course

    def from_filename(self, filename: str, resources: Any = None, **kwargs: Any) -> Any:
        """As nbconvert's; tolerant in Autograde's first pass, which reads what a student wrote."""
        if not getattr(self.parent, "_sanitizing", True):
            return super().from_filename(filename, resources=resources, **kwargs)
        course: Any = getattr(self.parent, "coursedir", None)
        within = Path(course.format_path(course.submitted_directory, "", "")) if course else None
        try:
            notebook = read_submission(Path(filename), within=within)
        except UnreadableSubmission as error:
            notebook = nbformat.v4.new_notebook(metadata={UNREADABLE: str(error)})
        return self.from_notebook_node(notebook, resources=resources, **kwargs)


class JudgeNotebook(NbGraderPreprocessor):
    """Puts the judged notebook in the place of the submission."""

    def preprocess(self, nb: NotebookNode, resources: Any) -> tuple[NotebookNode, Any]:
        """See nbconvert."""
        names = resources["nbgrader"]
        return self._judge(nb, names["assignment"], names["notebook"]).notebook, resources

    def _judge(self, nb: NotebookNode, unit: str, notebook: str) -> Graded:
        master = nbformat.read(RELEASE / unit / f"{notebook}.ipynb", as_version=4)
        if reason := nb.metadata.get(UNREADABLE):
            return unreadable(master, load(unit), reason)
        return grade(nb, master, load(unit), *tools())


class EnterMarks(NbGraderPreprocessor):
    """Enters a submission when its last notebook comes: SaveAutoGrades and AssignLatePenalties.

    nbgrader's own two commit cell by cell; this leaves the same rows in one transaction.
    """

    def preprocess(self, nb: NotebookNode, resources: Any) -> tuple[NotebookNode, Any]:
        """See nbconvert."""
        names = resources["nbgrader"]
        exporter: Any = self.parent
        autograde = exporter.parent
        every = [Path(path).stem for path in autograde.notebooks]
        if names["notebook"] != every[-1]:
            return nb, resources
        course = autograde.coursedir
        judged = course.format_path(
            course.autograded_directory, names["student"], names["assignment"]
        )
        notebooks = {
            name: nbformat.read(Path(judged) / f"{name}.ipynb", as_version=4) for name in every[:-1]
        }
        with contextlib.closing(Book(names["db_url"], late_penalties(parent=self.parent))) as book:
            book.enter(names["student"], names["assignment"], {**notebooks, every[-1]: nb})
        handed_in = course.format_path(
            course.submitted_directory, names["student"], names["assignment"]
        )
        keep_timestamp(Path(handed_in), Path(judged))
        return nb, resources


class NbgraderClass:
    """nbgrader on one class: gradebook, autograded notebooks and feedback lie beside `submitted`.

    The gradebook is opened when it is first used; `close` it, or use this as a context manager.

    Args:
        submitted: the folder with STUDENT/UNIT/NAME.ipynb in it.
        db: the gradebook's SQLAlchemy URL; by default the file gradebook.db beside `submitted`.

    Raises:
        GradebookError: nbgrader's configuration cannot be read.
    """

    def __init__(self, submitted: Path, db: str | None = None) -> None:
        self.submitted = submitted.resolve()
        self.folder = self.submitted.parent
        self.url = db or f"sqlite:///{self.folder / 'gradebook.db'}"
        self._config = _configuration(self.folder)
        self._config.CourseDirectory.root = str(self.folder)
        self._config.CourseDirectory.submitted_directory = str(self.submitted)
        self._config.CourseDirectory.source_directory = str(REPOSITORY / "source")
        self._config.CourseDirectory.db_url = self.url
        with _importable(Path.cwd()):  # as nbgrader does for a plugin beside its configuration
            self._book = Book(self.url, late_penalties(self._config))

    def __enter__(self) -> "NbgraderClass":
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the gradebook."""
        self._book.close()

    @property
    def gradebook(self) -> str:
        """The gradebook's URL as it may be shown: without its password."""
        return self._book.name

    def register_unit(self, unit: str) -> None:
        """Enter the unit's exercises and points, as `nbgrader generate_assignment` does.

        What is registered as it should be is left alone. Points that have changed are changed;
        marks that were entered stay.

        Raises:
            GradebookError: the gradebook cannot be opened or written, or holds submissions to a
                unit of other exercises.
        """
        held, wanted = self._book.cells(unit), _source_cells(unit, self._config)
        if wanted and held == wanted:
            return
        if held and _names(held) != _names(wanted) and self._book.has_submissions(unit):
            raise GradebookError(
                f"gradebook {self.gradebook}: cells of {unit} were added, removed or renamed since "
                "students were entered; keep this gradebook and grade into a new one (--db)"
            )
        self._generate(unit)
        if self._book.cells(unit) != wanted:
            raise GradebookError(f"gradebook {self.gradebook}: {unit} could not be registered")

    def enter(self, student: str, unit: str, notebooks: Mapping[str, NotebookNode]) -> None:
        """Write one student's marks, comments and late penalty in one transaction.

        The gradebook's rows are those that `nbgrader autograde` would leave. To enter the same
        again changes nothing; what an instructor wrote into the gradebook stays.

        Args:
            student: who.
            unit: the unit.
            notebooks: the judged notebooks by name. One that was not handed in earns nothing; one
                that was handed in and is not given here keeps its rows.

        Raises:
            EntryError: this submission cannot be entered; others can.
            GradebookError: the gradebook cannot be opened or written.
        """
        self._book.enter(student, unit, notebooks, self.submitted / student / unit)

    def marks(self, unit: str) -> dict[str, dict[str, float]]:
        """What the gradebook holds, with an instructor's marks: student -> exercise -> marks."""
        return self._book.marks(unit)

    def entered(self, unit: str) -> dict[str, dict[str, float]]:
        """The marks that were judged, of the students whose entry is complete."""
        return self._book.entered(unit)

    def late_penalty(self, unit: str, student: str, notebook: str) -> float:
        """What was deducted for a late submission."""
        return self._book.late_penalty(unit, student, notebook)

    def _generate(self, unit: str) -> None:
        with tempfile.TemporaryDirectory() as release:
            config = copy.deepcopy(self._config)
            config.CourseDirectory.release_directory = release
            config.CourseDirectory.assignment_id = unit
            converter = GenerateAssignment(coursedir=CourseDirectory(config=config), config=config)
            converter.force = True
            converter.log.setLevel(logging.CRITICAL)
            try:
                converter.start()
            except NbGraderException as error:
                reason = " ".join(str(error).split())
                raise GradebookError(f"gradebook {self.gradebook}: {unit}: {reason}") from None


def _configuration(root: Path) -> Config:
    """nbgrader's configuration, from where nbgrader looks: the class's folder before all others."""
    application = Application(raise_config_file_errors=True)
    try:
        places = [str(root), str(REPOSITORY), *jupyter_config_path()]
        application.load_config_file("nbgrader_config", path=places)
    except Exception as error:  # an instructor's own file
        what = f"{type(error).__name__}: {error}"
        raise GradebookError(f"nbgrader_config.py cannot be read: {what}") from error
    return Config(application.config)


@contextlib.contextmanager
def _importable(folder: Path) -> Iterator[None]:
    sys.path.insert(0, str(folder))
    try:
        yield
    finally:
        sys.path.remove(str(folder))


def _source_cells(unit: str, config: Config) -> Cells:
    """What nbgrader would register: the cells of the source after the steps before SaveCells."""
    before: list[Any] = []
    for step in GenerateAssignment(config=config).preprocessors:
        if step is SaveCells:
            break
        before.append(step(config=config))
    found: Cells = {}
    for path in sorted((REPOSITORY / "source" / unit).glob("*.ipynb")):
        notebook = nbformat.read(path, as_version=4)
        resources: Any = {"nbgrader": {"assignment": unit, "notebook": path.stem, "student": "."}}
        for step in before:
            notebook, resources = step.preprocess(notebook, resources)
        found[path.stem] = described(notebook)
    return found


def _names(cells: Cells) -> dict[str, set[tuple[str, str]]]:
    return {notebook: {cell[:2] for cell in found} for notebook, found in cells.items()}
