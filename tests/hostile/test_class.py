"""The whole corpus as one class: through nbgrader's own Autograde, and through `autograder grade`.

Both must find the marks that each case has earned, name no secret, and come to their end.
"""

import contextlib
import shutil
import sqlite3
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from pathlib import Path
from typing import Any

import corpus
import nbformat
import pytest
import toy
from corpus import Case
from nbgrader.api import Gradebook
from nbgrader.apps.api import NbGraderAPI
from nbgrader.converters import Autograde
from nbgrader.coursedir import CourseDirectory
from safety import Outside
from test_hostile import shorten
from traitlets.config import Config
from traitlets.config.loader import PyFileConfigLoader

from autograder import contract
from autograder.grading import fanout, nbgrader, run
from autograder.grading.forkserver import ForkServer

ROOT = Path(__file__).resolve().parents[2]
CASES = corpus.read_corpus()
# Cases that are about time alone: a class of them would take minutes and show nothing new.
SLOW = {"act_sleep_in_many_cells", "act_fork_in_a_function", "act_memory_bomb_of_many"}


@pytest.fixture
def unit(server: ForkServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A house of its own in which the toy unit is a unit like others."""
    shorten(monkeypatch)
    house = tmp_path / "house"
    source = house / "source" / toy.UNIT
    release = house / "release" / toy.UNIT
    for folder in (source, release, house / "reference"):
        folder.mkdir(parents=True)
    nbformat.write(toy.release(), release / f"{toy.NOTEBOOK}.ipynb")
    nbformat.write(toy.source(), source / f"{toy.NOTEBOOK}.ipynb")
    (house / "reference" / f"{toy.NOTEBOOK}.py").write_text("")
    shutil.copy(ROOT / "nbgrader_config.py", house)
    for module in (contract, nbgrader):
        monkeypatch.setattr(module, "RELEASE", house / "release")
    monkeypatch.setattr(contract, "REFERENCES", house / "reference")
    monkeypatch.setattr(contract, "_exercises", {toy.UNIT: toy.EXERCISES}.get)
    monkeypatch.setattr(nbgrader, "REPOSITORY", house)
    for module in (fanout, nbgrader):
        monkeypatch.setattr(module, "tools", lambda isolation=None: (server, lambda e, v: None))
    return house


def the_class(submitted: Path, outside: Outside, cases: list[Case]) -> dict[str, dict[str, float]]:
    """Hand in these cases; what each has earned."""
    for case in cases:
        corpus.hand_in(case, submitted, outside.words)
    return {case.name: case.marks for case in cases}


def entered(url: str) -> dict[str, dict[str, float]]:
    """The marks in a gradebook."""
    marks: dict[str, dict[str, float]] = {}
    with Gradebook(url) as book:
        for submission in book.assignment_submissions(toy.UNIT):
            grades = [grade for notebook in submission.notebooks for grade in notebook.grades]
            named = {g.name.removeprefix("test_"): g.auto_score or 0.0 for g in grades}
            marks[submission.student.id] = named
    return marks


def assert_no_secret(folder: Path, outside: Outside) -> None:
    """Neither the judged notebooks nor the gradebook nor the log hold what lies outside."""
    outside.assert_untouched()
    for path in folder.rglob("*"):
        inside = path.relative_to(folder).parts[0] not in ("submitted", "house")
        if inside and path.is_file():
            assert outside.token.encode() not in path.read_bytes(), path
    with contextlib.closing(sqlite3.connect(folder / "gradebook.db")) as book:
        assert outside.token not in "\n".join(book.iterdump())


@pytest.mark.timeout(900)
def test_nbgrader_autograde_finds_the_same_marks(unit, outside, tmp_path):
    cases = [case for case in CASES if case.name not in SLOW]
    earned = the_class(tmp_path / "submitted", outside, cases)
    config = Config(PyFileConfigLoader("nbgrader_config.py", path=str(unit)).load_config())
    config.CourseDirectory.update(
        {
            "root": str(tmp_path),
            "source_directory": str(unit / "source"),
            "db_url": f"sqlite:///{tmp_path / 'gradebook.db'}",
            "assignment_id": toy.UNIT,
        }
    )
    NbGraderAPI(CourseDirectory(config=config), config=config).generate_assignment(toy.UNIT)
    autograde = Autograde(coursedir=CourseDirectory(config=config), config=config)
    autograde.start()
    assert entered(config.CourseDirectory.db_url) == earned
    assert_no_secret(tmp_path, outside)


class Here:
    """A pool that does each job at once, in this process, where every child shows its wall."""

    workers = 1

    def submit(self, function: Callable[[Any], Any], job: Any) -> "Future[Any]":
        future: Future[Any] = Future()
        future.set_result(function(job))
        return future


@pytest.mark.timeout(900)
def test_autograder_grade_finds_the_same_marks(unit, outside, tmp_path, monkeypatch):
    @contextlib.contextmanager
    def pool(*_: object) -> Iterator[Here]:
        yield Here()

    monkeypatch.setattr(run, "_pool", pool)
    # What acts only while cells run is the same by both ways: the case's own test has run it.
    cases = [case for case in CASES if not case.name.startswith("act_")]
    earned = the_class(tmp_path / "submitted", outside, cases)
    found = run.grade_class(toy.UNIT, tmp_path / "submitted", isolation="bubblewrap")
    assert found.failures == []
    marks = {s.student: {m.exercise: m.marks for m in s.marks} for s in found.students}
    assert marks == earned
    assert entered(f"sqlite:///{tmp_path / 'gradebook.db'}") == earned
    assert_no_secret(tmp_path, outside)

    again = run.grade_class(toy.UNIT, tmp_path / "submitted", isolation="bubblewrap")
    assert (again.judged, again.kept) == (0, len(earned))
