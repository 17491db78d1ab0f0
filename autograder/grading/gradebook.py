"""nbgrader's gradebook, one submission at a time: each goes in as one transaction or not at all.

nbgrader's Autograde leaves a submission's rows behind in two dozen commits; here the same rows are
written in one, with nbgrader's own models and its own reading of a judged notebook. A test
compares every row of every table.
"""

import contextlib
import os
import signal
import stat
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from nbformat import NotebookNode
from nbgrader import api, utils
from nbgrader.preprocessors import AssignLatePenalties
from sqlalchemy import (
    Boolean,
    Connection,
    Engine,
    bindparam,
    create_engine,
    exists,
    insert,
    inspect,
    make_url,
    or_,
    select,
    text,
    update,
)
from sqlalchemy.exc import ArgumentError, DataError, IntegrityError, SQLAlchemyError
from traitlets import TraitError

Cells = dict[str, set[tuple[Any, ...]]]
nb: Any = api  # its models, which are not typed


class GradebookError(Exception):
    """The gradebook cannot be opened or written; one sentence with the remedy."""


class EntryError(GradebookError):
    """One submission cannot be entered, those of others can; whoever shows it names the student."""


@dataclass(frozen=True)
class _Notebook:
    """What the gradebook knows of one of a unit's notebooks: its id, and its cells' by name."""

    id: str
    graded: Mapping[str, str]
    commented: Mapping[str, str]


@dataclass(frozen=True)
class _Judged:
    """What nbgrader reads from one judged notebook, by cell."""

    scores: Mapping[str, float | None]
    comments: Mapping[str, str | None]


class Book:
    """The gradebook behind a URL: opened when it is first used, open until `close`.

    Args:
        url: SQLAlchemy's.
        late: nbgrader's preprocessor for late submissions, configured as the instructor wants.
    """

    def __init__(self, url: str, late: AssignLatePenalties) -> None:
        self.url = url
        self._late = late
        self._engine: Engine | None = None
        self._units: dict[str, dict[str, _Notebook]] = {}

    @property
    def name(self) -> str:
        """The URL as it may be shown: without its password."""
        try:
            return make_url(self.url).render_as_string(hide_password=True)
        except ArgumentError:
            return self.url

    def close(self) -> None:
        """Close the connection; the next use opens it again."""
        if self._engine is not None:
            self._engine.dispose()
        self._engine = None
        self._units.clear()

    def enter(
        self,
        student: str,
        unit: str,
        notebooks: Mapping[str, NotebookNode],
        folder: Path | None = None,
    ) -> None:
        """Write one submission's marks, comments and late penalty: all of them, or none.

        What an instructor wrote stays: manual scores, extra credit, comments, extensions.

        Args:
            student: who.
            unit: the unit.
            notebooks: the judged notebooks by name.
            folder: what was handed in. Its timestamp.txt is taken over; a notebook of the unit that
                is not in it earns nothing. One that is in it but not judged keeps its rows.

        Raises:
            EntryError: this submission cannot be entered.
            GradebookError: the gradebook cannot be opened or written.
        """
        timestamp = _timestamp(folder) if folder else None
        judged = {name: _read(notebook) for name, notebook in notebooks.items()}
        with self._transaction() as db:
            known = self._notebooks(db, unit)
            submission, seconds_late = _submission(db, student, unit, timestamp)
            rows = _rows(db, submission, known.values())
            for name, found in judged.items():
                if name not in known:
                    raise GradebookError(f"the gradebook has no notebook {name} of {unit}")
                row = rows[known[name].id]
                _write(db, row, known[name], found)
                penalty = self._penalty(db, student, row, seconds_late) if seconds_late else None
                late = update(nb.SubmittedNotebook).where(nb.SubmittedNotebook.id == row)
                db.execute(late.values(late_submission_penalty=penalty))
            for name in known.keys() - judged.keys():
                if folder and not os.path.exists(folder / f"{name}.ipynb"):
                    nothing = update(nb.Grade).where(nb.Grade.notebook_id == rows[known[name].id])
                    db.execute(nothing.values(auto_score=0, needs_manual_grade=False))

    def marks(self, unit: str) -> dict[str, dict[str, float]]:
        """Everybody's marks as they count, with an instructor's: student -> exercise -> marks."""
        return self._scores(unit, nb.Grade.score)

    def entered(self, unit: str) -> dict[str, dict[str, float]]:
        """Everybody's marks as they were judged; without the students who lack some."""
        found = self._scores(unit, nb.Grade.auto_score)
        return {name: marks for name, marks in found.items() if None not in marks.values()}

    def late_penalty(self, unit: str, student: str, notebook: str) -> float:
        """What was deducted for a late submission."""
        with self._transaction() as db:
            penalty = db.scalar(
                select(nb.SubmittedNotebook.late_submission_penalty)
                .join(nb.SubmittedNotebook.notebook)
                .join(nb.SubmittedNotebook.assignment)
                .join(nb.SubmittedAssignment.assignment)
                .where(
                    nb.Assignment.name == unit,
                    nb.SubmittedAssignment.student_id == student,
                    nb.Notebook.name == notebook,
                )
            )
        return float(penalty or 0.0)

    def cells(self, unit: str) -> Cells:
        """What is registered of the unit: notebook -> its cells, in the form of `described`."""
        self._units.pop(unit, None)
        with self._transaction() as db:
            notebooks = {row.id: row.name for row in db.execute(_OF_UNIT, {"unit": unit})}
            found: Cells = {name: set() for name in notebooks.values()}
            for kind, columns in _DESCRIBED.items():
                wanted = [getattr(kind, column) for column in ("notebook_id", *columns)]
                rows = db.execute(select(*wanted).where(kind.notebook_id.in_(notebooks)))
                for notebook, *cell in rows:
                    found[notebooks[notebook]].add((kind.__name__, *cell))
        return found

    def has_submissions(self, unit: str) -> bool:
        """Whether anybody was entered for the unit."""
        with self._transaction() as db:
            of_unit = select(nb.Assignment.id).where(nb.Assignment.name == unit)
            found = exists().where(nb.SubmittedAssignment.assignment_id.in_(of_unit))
            return bool(db.scalar(select(found)))

    @contextlib.contextmanager
    def _transaction(self) -> Iterator[Connection]:
        """A connection whose work counts as a whole when the block ends, and not otherwise."""
        try:
            if self._engine is None:
                self._engine = _open(self.url)
            with self._engine.begin() as db:
                yield db
        except (DataError, UnicodeError) as error:
            raise EntryError(f"refused by the gradebook: {_reason(error)}") from None
        except (SQLAlchemyError, api.InvalidEntry) as error:
            reason = _reason(error)
            busy = "locked" in reason or isinstance(error, IntegrityError | api.InvalidEntry)
            remedy = "close what else has it open and try again" if busy else "check --db"
            raise GradebookError(f"gradebook {self.name}: {reason}; {remedy}") from None
        except ModuleNotFoundError as error:
            remedy = "install it; PostgreSQL's is --db postgresql+psycopg://..."
            raise GradebookError(
                f"gradebook {self.name}: no driver {error.name} here: {remedy}"
            ) from None

    def _notebooks(self, db: Connection, unit: str) -> dict[str, _Notebook]:
        """The unit's notebooks by name, read once."""
        if unit not in self._units:
            self._units[unit] = _unit(db, unit)
        return self._units[unit]

    def _penalty(
        self, db: Connection, student: str, notebook: str, seconds_late: float
    ) -> float | None:
        """As nbgrader's AssignLatePenalties: of the score that counts, manual marks included."""
        owner = nb.SubmittedNotebook.id == notebook
        score = float(db.scalar(select(nb.SubmittedNotebook.score).where(owner)) or 0.0)
        plugin: Any = self._late.plugin_inst
        try:
            penalty = plugin.late_submission_penalty(student, score, seconds_late)
            return None if penalty is None else min(max(penalty, 0), score)
        except Exception as error:  # an instructor's own code
            what = f"{type(plugin).__name__}: {type(error).__name__}: {error}"
            raise EntryError(f"the late penalty failed: {what}") from error

    def _scores(self, unit: str, column: Any) -> dict[str, dict[str, Any]]:
        found: dict[str, dict[str, Any]] = {}
        with self._transaction() as db:
            rows = db.execute(
                select(nb.SubmittedAssignment.student_id, nb.BaseCell.name, column)
                .select_from(nb.Grade)
                .join(nb.Grade.cell)
                .join(nb.Grade.notebook)
                .join(nb.SubmittedNotebook.assignment)
                .join(nb.SubmittedAssignment.assignment)
                .where(nb.Assignment.name == unit)
            )
            for student, cell, score in rows:
                found.setdefault(student, {})[cell.removeprefix("test_")] = score
        return found


def late_penalties(config: Any = None, parent: Any = None) -> AssignLatePenalties:
    """nbgrader's preprocessor for late submissions, with the plugin that is configured.

    Raises:
        GradebookError: the plugin cannot be imported.
    """
    try:
        late = AssignLatePenalties(parent=parent) if parent else AssignLatePenalties(config=config)
        late.init_plugin()
    except (TraitError, ImportError) as error:
        raise GradebookError(f"nbgrader's late penalty: {_reason(error)}") from None
    return late


def described(notebook: NotebookNode) -> set[tuple[Any, ...]]:
    """A notebook's cells as nbgrader's SaveCells registers them."""
    found: set[tuple[Any, ...]] = set()
    for cell in notebook.cells:
        info = cell.metadata.get("nbgrader", {})
        name = info.get("grade_id")
        if utils.is_grade(cell):
            found.add(("GradeCell", name, cell.cell_type, float(info["points"])))
        if utils.is_solution(cell):
            found.add(("SolutionCell", name))
        if utils.is_task(cell):
            found.add(("TaskCell", name, cell.cell_type, float(info["points"])))
        locked = utils.is_locked(cell)
        if locked or utils.is_grade(cell) or utils.is_solution(cell) or utils.is_task(cell):
            checksum = info.get("checksum")
            found.add(("SourceCell", name, cell.cell_type, locked, cell.source, checksum))
    return found


_DESCRIBED: dict[Any, tuple[str, ...]] = {
    nb.GradeCell: ("name", "cell_type", "max_score"),
    nb.SolutionCell: ("name",),
    nb.TaskCell: ("name", "cell_type", "max_score"),
    nb.SourceCell: ("name", "cell_type", "locked", "source", "checksum"),
}
_OF_UNIT = (
    select(nb.Notebook.id, nb.Notebook.name)
    .join(nb.Notebook.assignment)
    .where(nb.Assignment.name == bindparam("unit"))
)
# The database looks at manual_score itself: an instructor may be writing one at this moment.
_SCORES = (
    update(nb.Grade)
    .where(nb.Grade.notebook_id == bindparam("row"), nb.Grade.cell_id == bindparam("cell"))
    .values(
        auto_score=bindparam("score"),
        needs_manual_grade=or_(
            nb.Grade.manual_score.is_not(None), bindparam("unknown", type_=Boolean)
        ),
    )
)
_COMMENTS = (
    update(nb.Comment)
    .where(nb.Comment.notebook_id == bindparam("row"), nb.Comment.cell_id == bindparam("cell"))
    .values(auto_comment=bindparam("said"))
)


@contextlib.contextmanager
def _ctrl_c_waits() -> Iterator[None]:
    """nbgrader runs alembic as a process, which would answer Ctrl-C too, with a traceback."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _open(url: str) -> Engine:
    """nbgrader's Gradebook makes the tables or finds them; a stamp that is missing is added."""
    with _ctrl_c_waits(), api.Gradebook(url) as gradebook:
        if "alembic_version" not in inspect(gradebook.engine).get_table_names():
            # The process that made the tables was killed; `nbgrader db upgrade` needs the stamp.
            stamp = {"version": api.get_alembic_version()}
            with gradebook.engine.begin() as db:
                db.execute(text("CREATE TABLE alembic_version (version_num VARCHAR(32) NOT NULL)"))
                db.execute(text("INSERT INTO alembic_version VALUES (:version)"), stamp)
    return create_engine(url, pool_pre_ping=True)


def _unit(db: Connection, unit: str) -> dict[str, _Notebook]:
    """The unit's notebooks by name, with the cells that are graded or commented on."""
    notebooks = {row.id: row.name for row in db.execute(_OF_UNIT, {"unit": unit})}
    columns = (nb.BaseCell.notebook_id, nb.BaseCell.type, nb.BaseCell.name, nb.BaseCell.id)
    cells = db.execute(select(*columns).where(nb.BaseCell.notebook_id.in_(notebooks))).all()

    def ids(notebook: str, *kinds: str) -> dict[str, str]:
        return {c.name: c.id for c in cells if c.notebook_id == notebook and c.type in kinds}

    return {
        name: _Notebook(
            row, ids(row, "GradeCell", "TaskCell"), ids(row, "SolutionCell", "TaskCell")
        )
        for row, name in notebooks.items()
    }


def _submission(
    db: Connection, student: str, unit: str, timestamp: datetime | None
) -> tuple[str, float]:
    """The student's and the submission's row, made if missing: its id, and how late it is."""
    assignments = select(nb.Assignment.id, nb.Assignment.duedate).where(nb.Assignment.name == unit)
    assignment = db.execute(assignments).one_or_none()
    if assignment is None:
        raise GradebookError(f"{unit} is not registered in the gradebook")
    if not db.scalar(select(exists().where(nb.Student.id == student))):
        db.execute(insert(nb.Student), {"id": student})
    own = {"assignment_id": assignment.id, "student_id": student}
    table = nb.SubmittedAssignment.__table__
    held = db.execute(select(table).filter_by(**own)).one_or_none()
    if held is None:
        row, extension = api.new_uuid(), None
        db.execute(insert(table), {"id": row, "timestamp": timestamp, **own})
    else:
        row, extension = held.id, held.extension
        timestamp = timestamp or held.timestamp
        db.execute(update(table).where(table.c.id == row).values(timestamp=timestamp))
    if timestamp is None or assignment.duedate is None:
        return row, 0.0
    due = assignment.duedate + extension if extension else assignment.duedate
    return row, max(0.0, (timestamp - due).total_seconds())


def _rows(db: Connection, submission: str, unit: Collection[_Notebook]) -> dict[str, str]:
    """The submission's notebooks and the rows of their cells, made where they are missing.

    Returns:
        A submitted notebook's id by that of the notebook.
    """
    table = nb.SubmittedNotebook.__table__
    held = db.execute(select(table).filter_by(assignment_id=submission)).all()
    rows: dict[str, str] = {row.notebook_id: row.id for row in held}
    new = [notebook.id for notebook in unit if notebook.id not in rows]
    rows |= {notebook: api.new_uuid() for notebook in new}
    _insert(
        db, table, [{"id": rows[n], "notebook_id": n, "assignment_id": submission} for n in new]
    )
    _fill(db, nb.Grade, [(rows[n.id], cell) for n in unit for cell in n.graded.values()])
    _fill(db, nb.Comment, [(rows[n.id], cell) for n in unit for cell in n.commented.values()])
    return rows


def _fill(db: Connection, kind: Any, wanted: Collection[tuple[str, str]]) -> None:
    """A row for each (submitted notebook, cell) that has none."""
    of_them = kind.notebook_id.in_({notebook for notebook, _ in wanted})
    held = db.execute(select(kind.notebook_id, kind.cell_id).where(of_them))
    there = {(row.notebook_id, row.cell_id) for row in held}
    new = [pair for pair in wanted if pair not in there]
    _insert(db, kind, [{"notebook_id": notebook, "cell_id": cell} for notebook, cell in new])


def _insert(db: Connection, table: Any, rows: list[dict[str, Any]]) -> None:
    if rows:
        db.execute(insert(table), rows)


def _write(db: Connection, row: str, notebook: _Notebook, judged: _Judged) -> None:
    """What was judged into one submitted notebook's rows; an instructor's columns stay."""
    unknown = (judged.scores.keys() - notebook.graded.keys()) | (
        judged.comments.keys() - notebook.commented.keys()
    )
    if unknown:
        raise GradebookError(f"the gradebook has no cell {min(unknown)}: register the unit anew")
    scores = [
        {"row": row, "cell": notebook.graded[name], "score": score, "unknown": score is None}
        for name, score in judged.scores.items()
    ]
    comments = [
        {"row": row, "cell": notebook.commented[name], "said": said}
        for name, said in judged.comments.items()
    ]
    for statement, values in ((_SCORES, scores), (_COMMENTS, comments)):
        if values:
            db.execute(statement, values)


def _read(notebook: NotebookNode) -> _Judged:
    """Scores and comments as nbgrader's SaveAutoGrades reads them."""
    scores: dict[str, float | None] = {}
    comments: dict[str, str | None] = {}
    for cell in notebook.cells:
        info = cell.metadata.get("nbgrader", {})
        if utils.is_grade(cell):
            try:
                scores[info["grade_id"]] = utils.determine_grade(cell)[0]
            except (ValueError, KeyError) as error:
                raise EntryError(f"{info['grade_id']}: {_reason(error)}") from None
        if utils.is_task(cell):
            comments[info["grade_id"]] = None
        elif utils.is_solution(cell):
            untouched = info.get("checksum") == utils.compute_checksum(cell)
            comments[info["grade_id"]] = "No response." if untouched else None
    return _Judged(scores, comments)


def _timestamp(folder: Path) -> datetime | None:
    """What nbgrader reads from timestamp.txt; never through a link, never more than a line."""
    try:
        # O_NONBLOCK: opening a named pipe must not wait for a writer that never comes.
        flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK
        with open(os.open(folder / "timestamp.txt", flags), "rb") as file:
            if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
                raise ValueError("no file")
            said = file.read(200).decode().strip()
        return utils.parse_utc(said) if said else None
    except FileNotFoundError:
        return None
    except (OSError, ValueError, OverflowError, TypeError) as error:
        remedy = "write it as 2026-02-03 12:00:00 UTC, or remove it"
        raise EntryError(f"timestamp.txt: {_reason(error)}; {remedy}") from None


def _reason(error: Exception) -> str:
    """The first line of what went wrong, the database's own words where it has some."""
    said = str(getattr(error, "orig", None) or getattr(error, "strerror", None) or error)
    return (said.strip() or type(error).__name__).splitlines()[0]
