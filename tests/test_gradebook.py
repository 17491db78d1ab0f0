"""Entries in the gradebook: row by row nbgrader's own, in one transaction; manual marks stay."""

import itertools
import os
import shutil
import signal
import sqlite3
import subprocess
import sys
import warnings
from collections.abc import Iterator, Mapping
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import nbformat
import pytest
from nbformat import NotebookNode
from nbgrader.api import Base, Gradebook
from nbgrader.converters import Autograde
from nbgrader.coursedir import CourseDirectory
from sqlalchemy import Engine, create_engine, event, select
from sqlalchemy.exc import SAWarning
from traitlets.config import Config

from autograder.contract import RELEASE, load
from autograder.grading import nbgrader
from autograder.grading.grade import unreadable
from autograder.grading.gradebook import EntryError, GradebookError
from autograder.grading.nbgrader import NbgraderClass

ROOT = Path(__file__).resolve().parent.parent
UNIT = "01_backprop"
DUE = datetime(2026, 2, 1, 12)
PLUGIN = """
from nbgrader.plugins import LateSubmissionPlugin

class HalfAMarkAnHour(LateSubmissionPlugin):
    def late_submission_penalty(self, student_id, score, total_seconds_late):
        if student_id == "owes more":
            return score + 1
        return 0.5 * (total_seconds_late // 3600)

class Broken(LateSubmissionPlugin):
    def late_submission_penalty(self, student_id, score, total_seconds_late):
        raise ZeroDivisionError("by nought")
"""
STUDENTS = {  # student -> (marks as a share of the points, timestamp.txt)
    "Ада Лавлейс": ({"autodiff": 1.0, "training": 1.0}, "2026-02-01 11:00:00 UTC"),
    'o\'neil "jr" %s': ({"autodiff": 0.3, "training": 0.7}, "2026-02-01 15:30:00 UTC"),
    "owes more": ({"autodiff": 0.1, "training": 0.0}, "2026-02-02 09:00:00 Europe/Berlin"),
    "no training": ({"autodiff": 0.6}, "2026-02-01 14:00:00 UTC"),
    "no date": ({"autodiff": 0.9, "training": 0.2}, None),
    "empty date": ({"autodiff": 0.9, "training": 0.2}, " \n"),
    "untouched": ({"autodiff": 0.0, "training": 0.0}, "2026-03-01"),
}


def judged(name: str, share: float, student: str = "") -> NotebookNode:
    """A judged notebook that earned a share of each exercise's points."""
    notebook = nbformat.read(RELEASE / UNIT / f"{name}.ipynb", as_version=4)
    if student == "untouched":
        return unreadable(notebook, load(UNIT), "no answers").notebook
    for cell in notebook.cells:
        info = cell.metadata.nbgrader
        if info.solution:
            cell.source += f"\n# answered by {student}"
        if info.grade:
            marks = repr(info.points * share)
            shown = nbformat.v4.new_output("display_data", {"text/plain": "1.0"})
            result = nbformat.v4.new_output("execute_result", {"text/plain": marks})
            cell.outputs = [shown, result]
    return notebook


def of(student: str) -> dict[str, NotebookNode]:
    """One student's judged notebooks."""
    return {name: judged(name, share, student) for name, share in STUDENTS[student][0].items()}


@pytest.fixture(scope="module")
def registered(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A class folder: what was handed in, and a gradebook with the unit and its due date."""
    folder = tmp_path_factory.mktemp("registered")
    for student, (_, timestamp) in STUDENTS.items():
        place = folder / "submitted" / student / UNIT
        place.mkdir(parents=True)
        for name, notebook in of(student).items():
            nbformat.write(notebook, place / f"{name}.ipynb")
        if timestamp is not None:
            (place / "timestamp.txt").write_text(timestamp)
    with NbgraderClass(folder / "submitted") as book:
        book.register_unit(UNIT)
    with nbgraders(folder) as gradebook:
        gradebook.update_or_create_assignment(UNIT, duedate=DUE)
        gradebook.add_student("no date", first_name="Named")
    return folder


@pytest.fixture
def folder(registered: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of the class folder whose late submissions cost half a mark an hour."""
    copy = tmp_path / "class"
    shutil.copytree(registered, copy)
    (tmp_path / "plugins").mkdir()
    (tmp_path / "plugins" / "late_plugin.py").write_text(PLUGIN)
    monkeypatch.syspath_prepend(str(tmp_path / "plugins"))
    penalise(copy, "HalfAMarkAnHour")
    return copy


def nbgraders(folder: Path) -> Any:
    """nbgrader's own way to the class's gradebook."""
    return Gradebook(f"sqlite:///{folder / 'gradebook.db'}")


def penalise(folder: Path, plugin: str) -> None:
    setting = f'c.AssignLatePenalties.plugin_class = "late_plugin.{plugin}"\n'
    (folder / "nbgrader_config.py").write_text(f"c = get_config()\n{setting}")


@pytest.fixture
def book(folder: Path) -> Iterator[NbgraderClass]:
    with NbgraderClass(folder / "submitted") as opened:
        yield opened


def stock(folder: Path, student: str) -> None:
    """nbgrader's own Autograde enters what lies in `submitted`; it runs no cell."""
    config = Config()
    config.CourseDirectory.root = str(folder)
    config.CourseDirectory.source_directory = str(ROOT / "source")
    config.CourseDirectory.db_url = f"sqlite:///{folder / 'gradebook.db'}"
    config.CourseDirectory.ignore = ["*.py"]
    config.CourseDirectory.assignment_id = UNIT
    config.CourseDirectory.student_id = student
    config.Autograde.sanitize_preprocessors = []
    steps = ["SaveAutoGrades", "AssignLatePenalties"]
    config.Autograde.autograde_preprocessors = [f"nbgrader.preprocessors.{s}" for s in steps]
    config.AssignLatePenalties.plugin_class = "late_plugin.HalfAMarkAnHour"
    autograde = Autograde(coursedir=CourseDirectory(config=config), config=config)
    autograde.force = True
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", SAWarning)  # of nbgrader's own queries
        autograde.start()


def rows(path: Path) -> dict[str, set[tuple[Any, ...]]]:
    """All rows of all tables; an id that was drawn is replaced by what its row is unique by."""
    engine = create_engine(f"sqlite:///{path}")
    drawn: dict[str, Any] = {}
    found = {}
    with engine.connect() as db:
        for table in Base.metadata.sorted_tables:
            keys = [c for c in table.constraints if type(c).__name__ == "UniqueConstraint"]
            made = [dict(row) for row in db.execute(select(table)).mappings()]
            for row in made:
                own = str(row.get("id"))
                for column, value in row.items():
                    if column != "id" and value in drawn:
                        row[column] = drawn[value]
                if table.name in ("submitted_assignment", "submitted_notebook", "grade", "comment"):
                    drawn[own] = tuple(row[column.name] for column in keys[0].columns)
                    row["id"] = "drawn"
            found[table.name] = {tuple(row.items()) for row in made}
            assert len(found[table.name]) == len(made), f"a row of {table.name} stands there twice"
    engine.dispose()
    return found


def sql(folder: Path, statement: str, *values: Any) -> list[tuple[Any, ...]]:
    with sqlite3.connect(folder / "gradebook.db") as db:
        return db.execute(statement, values).fetchall()


def an_instructor_writes(folder: Path) -> None:
    """Manual marks, extra credit, a comment, an extension and a name, as formgrader leaves them."""
    student = 'o\'neil "jr" %s'
    with nbgraders(folder) as gradebook:
        grade = gradebook.find_grade("test_sgd", "training", UNIT, student)
        grade.manual_score, grade.needs_manual_grade = 3.25, False
        gradebook.find_grade("test_adam", "training", UNIT, student).extra_credit = 0.5
        gradebook.find_comment("sgd", "training", UNIT, student).manual_comment = "Well argued."
        gradebook.find_submission_notebook("training", UNIT, student).flagged = True
        gradebook.grant_extension(UNIT, student, hours=1)
        gradebook.update_or_create_student(student, last_name="O'Neil")
        gradebook.db.commit()


def test_the_rows_are_those_of_nbgraders_own_autograde(folder, tmp_path, book):
    theirs = tmp_path / "theirs"
    shutil.copytree(folder, theirs)
    for student in STUDENTS:
        book.enter(student, UNIT, of(student))
        stock(theirs, student)
    assert rows(folder / "gradebook.db") == rows(theirs / "gradebook.db")
    assert book.late_penalty(UNIT, 'o\'neil "jr" %s', "training") == 1.5
    for place in (folder, theirs):
        an_instructor_writes(place)
    for student in STUDENTS:
        book.enter(student, UNIT, of(student))
        stock(theirs, student)
    again = rows(folder / "gradebook.db")
    assert again == rows(theirs / "gradebook.db")
    assert book.late_penalty(UNIT, 'o\'neil "jr" %s', "training") == 1.0
    written = str(again)
    for kept in ("3.25", "Well argued.", "O'Neil", "Named"):
        assert kept in written


def test_what_the_comparison_rests_on_is_there(folder, book):
    """Each kind of row that the two ways in could differ in."""
    for student in STUDENTS:
        book.enter(student, UNIT, of(student))
    assert sql(folder, "select count(*) from comment where auto_comment = 'No response.'") != [(0,)]
    zero = "select count(*) from submitted_notebook where late_submission_penalty > 0"
    assert sql(folder, zero)[0][0] >= 4
    assert book.late_penalty(UNIT, "owes more", "autodiff") == pytest.approx(
        sum(0.1 * e.points for e in load(UNIT).values() if e.notebook == "autodiff")
    )
    assert book.late_penalty(UNIT, "untouched", "autodiff") == 0
    assert book.late_penalty(UNIT, "Ада Лавлейс", "autodiff") == 0
    assert book.late_penalty(UNIT, "nobody", "autodiff") == 0


def test_to_enter_again_changes_nothing(folder, book):
    for student in STUDENTS:
        book.enter(student, UNIT, of(student))
    an_instructor_writes(folder)
    book.enter('o\'neil "jr" %s', UNIT, of('o\'neil "jr" %s'))
    before = sql(folder, "select * from grade order by id")
    for student in STUDENTS:
        book.enter(student, UNIT, of(student))
    assert sql(folder, "select * from grade order by id") == before


def test_marks_count_an_instructors_and_entered_does_not(folder, book):
    student = 'o\'neil "jr" %s'
    book.enter(student, UNIT, of(student))
    points = {name: e.points for name, e in load(UNIT).items()}
    share = {n: 0.3 if e.notebook == "autodiff" else 0.7 for n, e in load(UNIT).items()}
    wanted = {name: points[name] * share[name] for name in points}
    assert book.marks(UNIT) == book.entered(UNIT) == {student: wanted}
    an_instructor_writes(folder)
    assert book.entered(UNIT) == {student: wanted}
    assert book.marks(UNIT)[student] == {**wanted, "sgd": 3.25, "adam": wanted["adam"] + 0.5}


def test_a_notebook_that_was_not_judged_keeps_its_rows(folder, book):
    """Handed in, but the grader has failed on it: neither nought nor full marks."""
    student = "Ада Лавлейс"
    book.enter(student, UNIT, {"autodiff": judged("autodiff", 1.0, student)})
    assert book.entered(UNIT) == {}
    open_ = sql(
        folder, "select count(*) from grade where needs_manual_grade and auto_score is null"
    )
    assert open_ == [(sum(e.notebook == "training" for e in load(UNIT).values()),)]
    book.enter(student, UNIT, of(student))
    assert book.entered(UNIT)[student] == {n: e.points for n, e in load(UNIT).items()}


@pytest.mark.parametrize("moment", ["an entry", "an entry over another"])
def test_killed_at_any_statement_nothing_is_entered_by_halves(folder, book, moment):
    """A child enters, and kills itself with SIGKILL before its n-th statement, for every n."""
    student = 'o\'neil "jr" %s'
    if moment == "an entry over another":
        book.enter(student, UNIT, {n: judged(n, 0.1, student) for n in ("autodiff", "training")})
    book.close()
    before = rows(folder / "gradebook.db")
    notebooks = of(student)
    for n in itertools.count(1):
        assert n < 100
        status = in_a_child(folder, student, notebooks, n)
        if status == 0:
            assert n > 8
            break
        assert status == -signal.SIGKILL
        assert rows(folder / "gradebook.db") == before, f"killed before statement {n}"
    assert rows(folder / "gradebook.db") != before
    share = {k: 0.3 if e.notebook == "autodiff" else 0.7 for k, e in load(UNIT).items()}
    wanted = {name: e.points * share[name] for name, e in load(UNIT).items()}
    assert book.entered(UNIT) == {student: wanted}


def in_a_child(
    folder: Path, student: str, notebooks: Mapping[str, NotebookNode], statement: int
) -> int:
    """Enter in a forked child that is killed before its n-th statement: its exit status."""
    pid = os.fork()
    if pid == 0:
        seen = 0

        def count(*_: Any) -> None:
            nonlocal seen
            seen += 1
            if seen == statement:
                os.kill(os.getpid(), signal.SIGKILL)

        try:
            book = NbgraderClass(folder / "submitted")
            book.marks(UNIT)
            event.listen(Engine, "before_cursor_execute", count)
            event.listen(Engine, "commit", count)
            book.enter(student, UNIT, notebooks)
            os._exit(0)
        finally:
            os._exit(1)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


def test_an_error_in_the_middle_leaves_nothing(folder, book):
    before = rows(folder / "gradebook.db")
    wrong = of('o\'neil "jr" %s')
    wrong["training"].cells[-1].metadata["nbgrader"] = {
        "grade": True, "grade_id": "test_new", "points": 1, "solution": False,
    }  # fmt: skip
    with pytest.raises(GradebookError, match="no cell test_new: register"):
        book.enter('o\'neil "jr" %s', UNIT, wrong)
    penalise(folder, "Broken")
    with NbgraderClass(folder / "submitted") as other:
        with pytest.raises(
            EntryError, match=r"the late penalty failed: Broken: ZeroDivisionError: by nought"
        ):
            other.enter('o\'neil "jr" %s', UNIT, of('o\'neil "jr" %s'))
        other.enter("Ада Лавлейс", UNIT, of("Ада Лавлейс"))  # was in time
    sql(folder, "delete from student where id like 'Ада%'")
    assert rows(folder / "gradebook.db")["student"] == before["student"]
    assert len(sql(folder, "select * from submitted_assignment")) == 1


@pytest.mark.parametrize("said", ["tomorrow", "2026-99-01", "\udcff", "0001-01-01 00:00:00 +1400"])
def test_a_date_that_is_none_is_named(said, folder, book):
    path = folder / "submitted" / "no date" / UNIT / "timestamp.txt"
    path.write_bytes(said.encode("utf-8", "surrogateescape"))
    with pytest.raises(EntryError, match=r"timestamp\.txt: .*or remove it"):
        book.enter("no date", UNIT, of("no date"))
    assert book.marks(UNIT) == {}


def test_no_date_is_read_through_a_link_or_from_a_pipe(folder, book, tmp_path):
    path = folder / "submitted" / "no date" / UNIT / "timestamp.txt"
    (tmp_path / "other").write_text("2026-01-01")
    path.symlink_to(tmp_path / "other")
    with pytest.raises(EntryError, match=r"timestamp\.txt: "):
        book.enter("no date", UNIT, of("no date"))
    path.unlink()
    os.mkfifo(path)
    with pytest.raises(EntryError, match=r"timestamp\.txt: no file"):
        book.enter("no date", UNIT, of("no date"))


def test_a_name_that_is_no_text_is_named(folder, book):
    with pytest.raises(EntryError, match=r"refused by the gradebook: .*surrogates not allowed"):
        book.enter("\udcff", UNIT, of("no date"))


def test_more_marks_than_points_are_refused(folder, book):
    notebooks = {name: judged(name, 1.5) for name in ("autodiff", "training")}
    with pytest.raises(EntryError, match=r"test_\w+: partial credit"):
        book.enter("no date", UNIT, notebooks)


def test_a_registered_unit_is_left_alone(folder, book, monkeypatch):
    monkeypatch.setattr(book, "_generate", lambda unit: pytest.fail("registered again"))
    book.register_unit(UNIT)
    book.register_unit(UNIT)


def test_a_unit_that_is_nowhere_is_not_taken_for_registered(book):
    with pytest.raises(GradebookError, match=r"99_nothing: No notebooks were matched") as caught:
        book.register_unit("99_nothing")
    assert "\n" not in str(caught.value)
    with pytest.raises(GradebookError, match="99_nothing is not registered"):
        book.enter("no date", "99_nothing", {})


@pytest.fixture
def repository(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A repository whose sources a test may change."""
    repository = tmp_path / "repository"
    shutil.copytree(ROOT / "source" / UNIT, repository / "source" / UNIT)
    shutil.copy(ROOT / "nbgrader_config.py", repository)
    monkeypatch.setattr(nbgrader, "REPOSITORY", repository)
    return repository


def edit(repository: Path, change: Any) -> None:
    path = repository / "source" / UNIT / "training.ipynb"
    notebook = nbformat.read(path, as_version=4)
    change(notebook)
    nbformat.write(notebook, path)


def double(notebook: NotebookNode) -> None:
    for cell in notebook.cells:
        if cell.metadata.get("nbgrader", {}).get("grade_id") == "test_sgd":
            cell.metadata.nbgrader.points *= 2


def test_changed_points_are_registered_and_nobodys_marks_are_lost(folder, repository):
    with NbgraderClass(folder / "submitted") as book:
        for student in ("Ада Лавлейс", 'o\'neil "jr" %s'):
            book.enter(student, UNIT, of(student))
        an_instructor_writes(folder)
        kept = {table: sql(folder, f"select * from {table}") for table in ("grade", "comment")}
        edit(repository, double)
        book.register_unit(UNIT)
        for table, before in kept.items():
            assert sql(folder, f"select * from {table}") == before
        points = load(UNIT)["sgd"].points
        held = "select max_score from grade_cells join base_cell using (id) where name = 'test_sgd'"
        assert sql(folder, held) == [(2 * points,)]
        with nbgraders(folder) as gradebook:
            whole = sum(e.points for e in load(UNIT).values()) + points
            assert gradebook.find_submission(UNIT, "Ада Лавлейс").max_score == whole
        notebooks = of("Ада Лавлейс")
        double(notebooks["training"])
        for cell in notebooks["training"].cells:
            if cell.metadata.nbgrader.grade_id == "test_sgd":
                cell.outputs[-1].data["text/plain"] = repr(2.0 * points)
        book.enter("Ада Лавлейс", UNIT, notebooks)
        assert book.marks(UNIT)["Ада Лавлейс"]["sgd"] == 2 * points
        assert book.marks(UNIT)['o\'neil "jr" %s']["sgd"] == 3.25


def test_new_exercises_after_the_first_entry_are_refused_untouched(folder, repository):
    def rename(notebook: NotebookNode) -> None:
        double(notebook)
        for cell in notebook.cells:
            if cell.metadata.get("nbgrader", {}).get("grade_id") == "test_adam":
                cell.metadata.nbgrader.grade_id = "test_adamw"

    edit(repository, rename)
    with NbgraderClass(folder / "submitted") as book:
        book.enter("no date", UNIT, of("no date"))
        before = rows(folder / "gradebook.db")
        with pytest.raises(GradebookError, match="added, removed or renamed") as caught:
            book.register_unit(UNIT)
    assert "\n" not in str(caught.value)
    assert rows(folder / "gradebook.db") == before


def test_without_submissions_a_changed_unit_is_registered_anew(folder, repository):
    def drop(notebook: NotebookNode) -> None:
        notebook.cells = [
            cell
            for cell in notebook.cells
            if cell.metadata.get("nbgrader", {}).get("grade_id") != "test_adam"
        ]

    edit(repository, drop)
    with NbgraderClass(folder / "submitted") as book:
        book.register_unit(UNIT)
    assert sql(folder, "select * from base_cell where name = 'test_adam'") == []


def test_a_gradebook_that_was_killed_while_it_was_made_is_completed(registered, tmp_path):
    (tmp_path / "submitted").mkdir()
    engine = create_engine(f"sqlite:///{tmp_path / 'gradebook.db'}")
    Base.metadata.create_all(engine)
    engine.dispose()
    with NbgraderClass(tmp_path / "submitted") as book:
        assert book.marks(UNIT) == {}
    stamp = "select * from alembic_version"
    assert sql(tmp_path, stamp) == sql(registered, stamp)
    assert len(sql(tmp_path, stamp)) == 1


@pytest.mark.parametrize(
    ("db", "said"),
    [
        ("sqlite:////nowhere/at/all.db", r"unable to open database file; check --db"),
        ("mysql+pymysql://me:secret@127.0.0.1/x", r"me:\*\*\*@.*no driver pymysql.*psycopg://"),
        ("postgresql+psycopg://me:secret@127.0.0.1:1/x", r"me:\*\*\*@.*failed.*; check --db"),
        ("no url", r"Could not parse .*; check --db"),
    ],
    ids=["no folder", "no driver", "no server", "no url"],
)
def test_a_gradebook_that_cannot_be_opened_is_one_line_without_the_password(db, said, tmp_path):
    with (
        NbgraderClass(tmp_path / "submitted", db) as book,
        pytest.raises(GradebookError, match=said) as caught,
    ):
        book.register_unit(UNIT)
    assert "\n" not in str(caught.value) and "secret" not in str(caught.value)


def test_a_locked_gradebook_is_one_line(folder, book, monkeypatch):
    book.marks(UNIT)
    with sqlite3.connect(folder / "gradebook.db") as other:
        other.execute("begin exclusive")
        monkeypatch.setattr(book._book, "_engine", impatient(book.url))
        with pytest.raises(GradebookError, match="locked; close what else has it open"):
            book.enter("no date", UNIT, of("no date"))
        other.rollback()
    book.enter("no date", UNIT, of("no date"))
    assert "no date" in book.marks(UNIT)


def impatient(url: str) -> Engine:
    return create_engine(url, connect_args={"timeout": 0})


def test_a_plugin_that_is_not_there_is_named(folder):
    penalise(folder, "Absent")
    with pytest.raises(GradebookError, match=r"late penalty: .*late_plugin\.Absent"):
        NbgraderClass(folder / "submitted")
    (folder / "nbgrader_config.py").write_text("c = get_config(\n")
    with pytest.raises(GradebookError, match=r"nbgrader_config\.py cannot be read: SyntaxError"):
        NbgraderClass(folder / "submitted")


def test_nbgrader_autograde_enters_a_submission_in_one_transaction(folder, tmp_path):
    """The converter as it is configured, judging replaced: the same rows as nbgrader's own."""
    theirs = tmp_path / "theirs"
    shutil.copytree(folder, theirs)
    program = [sys.executable, "-m", "nbgrader", "autograde", UNIT]
    settings = [
        f"--CourseDirectory.root={folder}",
        f"--CourseDirectory.source_directory={ROOT / 'source'}",
        f"--CourseDirectory.db_url=sqlite:///{folder / 'gradebook.db'}",
        "--Autograde.sanitize_preprocessors=[]",
        "--Autograde.exporter_class=nbconvert.exporters.NotebookExporter",
    ]
    env = {**os.environ, "PYTHONPATH": str(tmp_path / "plugins")}
    done = subprocess.run(
        [*program, *settings], cwd=ROOT, env=env, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    for student in STUDENTS:
        stock(theirs, student)
    assert rows(folder / "gradebook.db") == rows(theirs / "gradebook.db")


def test_extensions_move_the_due_date(folder, book):
    student = "no training"  # two hours late
    book.enter(student, UNIT, of(student))
    assert book.late_penalty(UNIT, student, "autodiff") == 1.0
    with nbgraders(folder) as gradebook:
        gradebook.find_submission(UNIT, student).extension = timedelta(hours=2)
        gradebook.db.commit()
    book.enter(student, UNIT, of(student))
    assert book.late_penalty(UNIT, student, "autodiff") == 0


def test_without_a_wall_nbgrader_autograde_stops_with_one_line(folder, tmp_path):
    before = rows(folder / "gradebook.db")
    env = {**os.environ, "PATH": str(tmp_path), "AUTOGRADER_ISOLATION": "bubblewrap"}
    settings = [
        f"--CourseDirectory.root={folder}",
        f"--CourseDirectory.db_url=sqlite:///{folder / 'gradebook.db'}",
    ]
    program = [sys.executable, "-m", "nbgrader", "autograde", UNIT, *settings]
    env["PYTHONPATH"] = str(tmp_path / "plugins")
    done = subprocess.run(program, cwd=ROOT, env=env, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    (line,) = [line for line in done.stderr.splitlines() if "ERROR" in line]
    assert "no sandbox" in line and "AUTOGRADER_ISOLATION=none" in line
    assert "Traceback" not in done.stderr
    assert not (folder / "autograded").exists()
    assert rows(folder / "gradebook.db") == before
