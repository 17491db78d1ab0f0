"""nbgrader's side of grading: `nbgrader autograde` and the gradebook, with our judge in the middle.

`nbgrader_config.py` puts `TolerantExporter` and `JudgeNotebook` into nbgrader's Autograde.
`autograder grade` hands the notebooks that its workers judged to the same converter, so marks take
one way into the gradebook.
"""

import atexit
import contextlib
import logging
import tempfile
import warnings
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, ClassVar

import nbformat
from nbconvert.exporters import NotebookExporter
from nbformat import NotebookNode
from nbgrader.api import Gradebook, MissingEntry
from nbgrader.apps.api import NbGraderAPI
from nbgrader.converters import GenerateAssignment
from nbgrader.coursedir import CourseDirectory
from nbgrader.preprocessors import NbGraderPreprocessor
from sqlalchemy.exc import SAWarning, SQLAlchemyError
from traitlets.config import Config
from traitlets.config.loader import PyFileConfigLoader

from autograder.contract import RELEASE, load
from autograder.grading.fanout import tools
from autograder.grading.grade import Graded, grade, unreadable
from autograder.grading.submission import UnreadableSubmission, read_submission

REPOSITORY = RELEASE.parent
UNREADABLE = "autograder_unreadable"


class GradebookError(Exception):
    """The gradebook cannot be opened or written; one sentence with the remedy."""


class TolerantExporter(NotebookExporter):
    """Reads what was handed in; what cannot be read becomes an empty notebook that says why."""

    def from_filename(self, filename: str, resources: Any = None, **kwargs: Any) -> Any:
        """As nbconvert's; tolerant in Autograde's first pass, which reads what a student wrote."""
        if not getattr(self.parent, "_sanitizing", True):
            return super().from_filename(filename, resources=resources, **kwargs)
        try:
            notebook = read_submission(Path(filename))
        except UnreadableSubmission as error:
            notebook = nbformat.v4.new_notebook(metadata={UNREADABLE: str(error)})
        return self.from_notebook_node(notebook, resources=resources, **kwargs)


class JudgeNotebook(NbGraderPreprocessor):
    """Puts the judged notebook in the place of the submission: already judged, or judged now."""

    judged: ClassVar[dict[tuple[str, str, str], Graded]] = {}

    def preprocess(self, nb: NotebookNode, resources: Any) -> tuple[NotebookNode, Any]:
        """See nbconvert."""
        names = resources["nbgrader"]
        unit, notebook = names["assignment"], names["notebook"]
        graded = self.judged.get((names["student"], unit, notebook))
        if graded is None:
            graded = self._judge(nb, unit, notebook)
        return graded.notebook, resources

    def _judge(self, nb: NotebookNode, unit: str, notebook: str) -> Graded:
        master = nbformat.read(RELEASE / unit / f"{notebook}.ipynb", as_version=4)
        if reason := nb.metadata.get(UNREADABLE):
            return unreadable(master, load(unit), reason)
        atexit.register(tools()[0].close)
        return grade(nb, master, load(unit), *tools())


class NbgraderClass:
    """nbgrader on one class: gradebook, autograded notebooks and feedback lie beside `submitted`.

    Args:
        submitted: the folder with STUDENT/UNIT/NAME.ipynb in it.
        db: the gradebook's SQLAlchemy URL; by default the file gradebook.db beside `submitted`.
    """

    def __init__(self, submitted: Path, db: str | None = None) -> None:
        self.folder = submitted.resolve().parent
        self.url = db or f"sqlite:///{self.folder / 'gradebook.db'}"
        loader = PyFileConfigLoader("nbgrader_config.py", path=str(REPOSITORY))
        self._config = Config(loader.load_config())
        self._config.CourseDirectory.root = str(self.folder)
        self._config.CourseDirectory.submitted_directory = str(submitted.resolve())
        self._config.CourseDirectory.source_directory = str(REPOSITORY / "source")
        self._config.CourseDirectory.db_url = self.url
        directory = CourseDirectory(config=self._config)
        self._api = NbGraderAPI(directory, config=self._config, log_level=logging.ERROR)

    def register_unit(self, unit: str) -> None:
        """Enter the unit's exercises and points, as `nbgrader generate_assignment` does.

        Raises:
            GradebookError: the gradebook cannot be opened or written.
        """
        with self._errors(), Gradebook(self.url) as gradebook:
            _ = gradebook.assignments  # nbgrader's converter would bury what goes wrong here
        with self._errors(), tempfile.TemporaryDirectory() as release:
            config = Config(self._config)
            config.CourseDirectory.release_directory = release
            config.CourseDirectory.assignment_id = unit
            converter = GenerateAssignment(coursedir=CourseDirectory(config=config), config=config)
            converter.force = True
            converter.log.setLevel(logging.CRITICAL)
            converter.start()

    def enter(self, student: str, unit: str, graded: Mapping[str, Graded]) -> None:
        """Write one student's judged notebooks and marks: nbgrader's Autograde, running nothing.

        Args:
            student: who.
            unit: the unit.
            graded: the judged notebooks by name.

        Raises:
            GradebookError: the gradebook refused.
        """
        JudgeNotebook.judged = {(student, unit, name): item for name, item in graded.items()}
        try:
            with self._errors(), warnings.catch_warnings():
                warnings.simplefilter("ignore", SAWarning)  # of nbgrader's own queries
                result = self._api.autograde(unit, student, force=True, create=True)
        finally:
            JudgeNotebook.judged = {}
        if not result["success"]:
            said = str(result.get("error") or result.get("log") or "unknown").strip()
            raise GradebookError(f"gradebook {self.url}: {student}: {_last_line(said)}")

    def marks(self, unit: str) -> dict[str, dict[str, float]]:
        """What the gradebook holds: student -> exercise -> marks."""
        with self._errors(), Gradebook(self.url) as gradebook:
            return {
                str(submission.student_id): {
                    grade.name.removeprefix("test_"): _number(grade.score)
                    for notebook in submission.notebooks
                    for grade in notebook.grades
                }
                for submission in gradebook.assignment_submissions(unit)
            }

    def late_penalty(self, unit: str, student: str, notebook: str) -> float:
        """What was deducted for a late submission."""
        with self._errors(), Gradebook(self.url) as gradebook:
            try:
                submission = gradebook.find_submission_notebook(notebook, unit, student)
            except MissingEntry:
                return 0.0
            return _number(submission.late_submission_penalty)

    @contextlib.contextmanager
    def _errors(self) -> Iterator[None]:
        try:
            yield
        except SQLAlchemyError as error:
            reason = str(getattr(error, "orig", None) or error).splitlines()[0]
            locked = "close what else has it open and try again"
            remedy = locked if "locked" in reason else "check --db"
            raise GradebookError(f"gradebook {self.url}: {reason}; {remedy}") from None


def _number(value: Any) -> float:
    return float(value or 0.0)


def _last_line(text: str) -> str:
    """The line of a log or traceback that says what went wrong."""
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    telling = [line for line in lines if "Error" in line or "error" in line]
    return (telling or lines or ["unknown"])[-1]
