"""One command's worth of grading: find the submissions, fan out, enter the marks as they come."""

import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from autograder.contract import load
from autograder.grading.fanout import Done, Job, find_submissions, grade_all, local_pool
from autograder.grading.grade import Graded
from autograder.grading.nbgrader import NbgraderClass

Track = Callable[[Iterable[Any], int], Iterator[Any]]


@dataclass
class Mark:
    """One exercise of one student."""

    exercise: str
    marks: float
    points: float
    mistake: str | None = None


@dataclass
class StudentResult:
    """One student's marks, and what happened on the way."""

    student: str
    marks: list[Mark] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    seconds: float = 0.0


@dataclass
class GradedClass:
    """A graded class and where its results lie."""

    unit: str
    folder: Path
    gradebook: str
    students: list[StudentResult] = field(default_factory=list)
    failures: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    seconds: float = 0.0

    def plain(self) -> dict[str, Any]:
        """As `autograder grade --json` prints it."""
        return {**asdict(self), "folder": str(self.folder)}


def grade_class(
    unit: str,
    submitted: Path,
    *,
    jobs: int | None = None,
    student: str | None = None,
    db: str | None = None,
    track: Track = lambda items, total: iter(items),
) -> GradedClass:
    """Grade all submissions to a unit and enter them into the gradebook.

    Args:
        unit: the unit.
        submitted: the folder with STUDENT/UNIT/NAME.ipynb in it.
        jobs: worker processes; all cores by default.
        student: grade this one only.
        db: the gradebook's SQLAlchemy URL; by default gradebook.db beside `submitted`.
        track: wraps the results as they come, for a progress bar.

    Raises:
        FileNotFoundError: nothing to grade was found.
        GradebookError: the gradebook refused.
    """
    start = time.perf_counter()
    found = find_submissions(unit, submitted, student)
    book = NbgraderClass(submitted, db)
    result = GradedClass(unit, book.folder, book.url, notes=found.notes)
    with local_pool(jobs) as pool:
        coming = grade_all(found.jobs, pool)
        book.register_unit(unit)
        waiting = {
            name: [job for job in found.jobs if job.student == name] for name in found.students
        }
        done: dict[str, list[Done]] = {name: [] for name in waiting}
        for item in track(coming, len(found.jobs)):
            name = item.job.student
            done[name].append(item)
            if len(done[name]) == len(waiting[name]):
                book.enter(name, unit, _judged(done[name]))
                result.students.append(_student(unit, name, done[name]))
        result.failures = [
            f"{_where(d.job)}: {d.failure}" for all_ in done.values() for d in all_ if d.failure
        ]
    result.students.sort(key=lambda student: student.student)
    result.seconds = time.perf_counter() - start
    return result


def _judged(done: Iterable[Done]) -> dict[str, Graded]:
    return {item.job.notebook: item.graded for item in done if item.graded is not None}


def _where(job: Job) -> str:
    return f"{job.student}/{job.unit}/{job.notebook}.ipynb"


def _student(unit: str, name: str, done: list[Done]) -> StudentResult:
    """Marks in the order of the unit's exercises; those of a notebook not handed in are 0."""
    verdicts = {v.exercise: v for item in done if item.graded for v in item.graded.verdicts}
    result = StudentResult(name)
    for exercise in load(unit).values():
        verdict = verdicts.get(exercise.name)
        marks, named = (verdict.marks, verdict.named) if verdict else (0.0, None)
        result.marks.append(Mark(exercise.name, marks, exercise.points, named))
    for item in done:
        if item.graded:
            result.notes += [f"{item.job.notebook}: {note}" for note in item.graded.notes]
            result.seconds += item.graded.seconds
    return result
