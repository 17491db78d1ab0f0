"""One command's worth of grading: find the submissions, fan out, enter the marks as they come."""

import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import nbformat
from nbformat import NotebookNode

from autograder.contract import load
from autograder.grading import wall
from autograder.grading.collect import Submission, Submissions, find_submissions, printable
from autograder.grading.fanout import (
    Done,
    Job,
    Pool,
    default_isolation,
    grade_all,
    local_pool,
    start_tools,
)
from autograder.grading.gradebook import EntryError
from autograder.grading.journal import Journal, checks_fingerprint, fingerprint, sole
from autograder.grading.nbgrader import NbgraderClass
from autograder.grading.submission import UnreadableSubmission, read_bytes

SLOWEST = 5  # notebooks that the summary names


@dataclass
class Mark:
    """One exercise of one student."""

    exercise: str
    marks: float
    points: float
    mistake: str | None = None


@dataclass
class Judged:
    """One notebook, as it is shown when it is done."""

    student: str
    notebook: str
    marks: float = 0.0
    points: float = 0.0
    seconds: float = 0.0
    cells_seconds: float = 0.0  # of these, in the notebook's own cells
    probes_seconds: float = 0.0  # and in the judge's calls of the student's functions
    notes: list[str] = field(default_factory=list)
    failure: str | None = None
    kept: bool = False  # judged by an earlier command


@dataclass
class StudentResult:
    """One student's marks, and what happened on the way."""

    student: str
    marks: list[Mark] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    seconds: float = 0.0


@dataclass
class GradedClass:
    """A graded class and where its results lie.

    Attributes:
        judged: notebooks that this command judged.
        kept: notebooks that an earlier command had judged already.
        entered: students that this command entered into the gradebook.
        slowest: the slowest of those that were judged now.
        per_minute: notebooks judged in a minute.
        failures: what could not be graded, and why.
        wall: what stood around the students' code.
    """

    unit: str
    folder: Path
    gradebook: str
    log: str
    wall: str
    students: list[StudentResult] = field(default_factory=list)
    failures: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    slowest: list[Judged] = field(default_factory=list)
    judged: int = 0
    kept: int = 0
    entered: int = 0
    seconds: float = 0.0
    per_minute: float = 0.0

    def plain(self) -> dict[str, Any]:
        """As `autograder grade --json` prints it."""
        return {**asdict(self), "folder": str(self.folder)}


@dataclass
class Progress:
    """How far a class is; `last` is the notebook that was done just now."""

    total: int
    done: int = 0
    kept: int = 0
    failed: int = 0
    started: float = field(default_factory=time.monotonic)
    last: Judged | None = None

    @property
    def per_minute(self) -> float:
        """Notebooks judged in a minute; those that were kept cost nothing."""
        return 60 * (self.done - self.kept) / max(time.monotonic() - self.started, 1e-9)

    @property
    def left(self) -> float | None:
        """Seconds that the rest will take, as far as one can tell."""
        rate = self.per_minute
        return 60 * (self.total - self.done) / rate if rate else None


Watch = Callable[[Progress], None]


def grade_class(
    unit: str,
    submitted: Path,
    *,
    jobs: int | None = None,
    student: str | None = None,
    db: str | None = None,
    force: bool = False,
    isolation: str | None = None,
    scheduler: str | None = None,
    watch: Watch = lambda progress: None,
) -> GradedClass:
    """Grade all submissions to a unit and enter them into the gradebook.

    What an earlier command has judged is not judged again while nothing has changed that decides
    its marks, so a command that was stopped goes on where it was.

    Args:
        unit: the unit.
        submitted: the folder with STUDENT/UNIT/NAME.ipynb in it.
        jobs: worker processes; all cores by default.
        student: grade this one only.
        db: the gradebook's SQLAlchemy URL; by default gradebook.db beside `submitted`.
        force: judge again what was judged already.
        isolation: the wall around the students' code.
        scheduler: a dask scheduler's address; without one, processes on this machine.
        watch: called after every notebook.

    Raises:
        FileNotFoundError: nothing to grade was found.
        NoWall: there is no such wall here.
        ClassBusy: another command grades this class.
        GradebookError: the gradebook refused.
        ClusterError: the cluster cannot be used.
    """
    start = time.perf_counter()
    isolation = isolation or default_isolation()
    found = find_submissions(unit, submitted, student)
    if scheduler is None:
        wall.check(isolation)
    with sole(submitted.resolve().parent), NbgraderClass(submitted, db) as book:
        said = f"{isolation}, at the workers of {scheduler}"
        result = GradedClass(
            unit,
            book.folder,
            book.gradebook,
            str(book.folder / "grading.log"),
            said if scheduler else wall.describe(isolation),
            notes=found.notes,
        )
        with _pool(scheduler, jobs, unit, isolation) as pool:
            for _ in range(pool.workers):  # they import torch while the gradebook is made
                pool.submit(start_tools, isolation)
            book.register_unit(unit)
            _Run(result, book, found, force, isolation, watch).all(pool)
    result.students.sort(key=lambda student: student.student)
    result.failures.sort()
    result.seconds = time.perf_counter() - start
    return result


def _pool(
    scheduler: str | None, jobs: int | None, unit: str, isolation: str
) -> AbstractContextManager[Pool]:
    if scheduler is None:
        return local_pool(jobs)
    from autograder.grading.cluster import cluster

    return cluster(scheduler, unit, isolation)


class _Run:
    """The coordinator's work on one class: jobs out, judged notebooks in, students entered."""

    def __init__(
        self,
        result: GradedClass,
        book: NbgraderClass,
        found: Submissions,
        force: bool,
        isolation: str,
        watch: Watch,
    ) -> None:
        self._result, self._book, self._found = result, book, found
        self._force, self._isolation, self._watch = force, isolation, watch
        self._unit = result.unit
        self._journal = Journal(result.folder, result.unit)
        self._progress = Progress(found.total)
        self._waiting = {submission.student: len(submission.files) for submission in found.of}
        # Students of whom some notebooks are judged; each is dropped once it is entered.
        self._notebooks: dict[str, dict[str, NotebookNode]] = {}
        self._shown: dict[str, list[Judged]] = {}

    def all(self, pool: Pool) -> None:
        """Grade everything."""
        self._held = self._book.entered(self._unit)
        self._watch(self._progress)
        for done in grade_all(self._jobs(), pool):
            self._take(done)
        self._result.per_minute = self._progress.per_minute

    def _jobs(self) -> Iterator[Job]:
        """What has to be judged; what was judged before is taken from the journal on the way."""
        for submission in self._found.of:
            for notebook, path in submission.files.items():
                job = self._job(submission, notebook, path)
                judged = None
                if not self._force:
                    judged = self._journal.judged(job.student, notebook, job.fingerprint)
                if judged is None:
                    yield job
                else:
                    self._keep(submission.student, notebook, judged)

    def _job(self, submission: Submission, notebook: str, path: Path) -> Job:
        data, problem = b"", ""
        try:
            data = read_bytes(path, within=self._book.submitted)
        except UnreadableSubmission as error:
            problem = str(error)
        checks = checks_fingerprint(self._unit, notebook)
        return Job(
            submission.student,
            self._unit,
            notebook,
            path.name,
            data,
            problem,
            checks,
            fingerprint(checks, data, problem),
            self._isolation,
        )

    def _keep(self, student: str, notebook: str, node: NotebookNode) -> None:
        marks = _marks(node)
        shown = Judged(student, notebook, *_sums(marks), kept=True)
        self._result.kept += 1
        self._progress.kept += 1
        self._count(shown, node)

    def _take(self, done: Done) -> None:
        shown = Judged(done.student, done.notebook, failure=done.failure)
        node = None
        if done.judged is not None:
            self._journal.write(done.student, done.notebook, done.judged)
            node = nbformat.v4.reads(done.judged)
            shown.marks, shown.points = _sums(_marks(node))
            shown.notes = _notes(node)
            for what, seconds in done.timings.items():
                setattr(shown, what, seconds)
            self._result.judged += 1
            self._result.slowest = sorted(
                [*self._result.slowest, shown], key=lambda judged: -judged.seconds
            )[:SLOWEST]
        else:
            self._fail(self._where(shown), str(done.failure))
        self._log(shown)
        self._count(shown, node)

    def _count(self, shown: Judged, node: NotebookNode | None) -> None:
        """One notebook more; the student is entered with the last one."""
        student = shown.student
        self._shown.setdefault(student, []).append(shown)
        if node is not None:
            self._notebooks.setdefault(student, {})[shown.notebook] = node
        self._waiting[student] -= 1
        if not self._waiting[student]:
            self._finish(student)
        self._progress.done += 1
        self._progress.last = shown
        self._watch(self._progress)

    def _finish(self, student: str) -> None:
        notebooks, shown = self._notebooks.pop(student, {}), self._shown.pop(student)
        if not notebooks:
            return
        self._result.students.append(self._student(student, notebooks, shown))
        submitted = self._book.submitted / student / self._unit
        if all(s.kept for s in shown) and self._is_entered(student, notebooks, submitted):
            return
        try:
            self._book.enter(student, self._unit, notebooks)
        except EntryError as error:
            self._fail(student, str(error))
            self._journal.say(printable(student), [f"NOT ENTERED: {error}"])
            return
        self._journal.enter(student, submitted)
        self._result.entered += 1

    def _is_entered(
        self, student: str, notebooks: Mapping[str, NotebookNode], submitted: Path
    ) -> bool:
        held = self._held.get(student, {})
        marks = [mark for node in notebooks.values() for mark in _marks(node)]
        same = all(held.get(mark.exercise) == mark.marks for mark in marks)
        return same and bool(held) and self._journal.entered(student, submitted)

    def _student(
        self, student: str, notebooks: Mapping[str, NotebookNode], shown: list[Judged]
    ) -> StudentResult:
        """Marks in the order of the unit's exercises; those of a notebook not handed in are 0."""
        found = {mark.exercise: mark for node in notebooks.values() for mark in _marks(node)}
        result = StudentResult(student, seconds=sum(judged.seconds for judged in shown))
        for exercise in load(self._unit).values():
            missing = Mark(exercise.name, 0.0, exercise.points)
            result.marks.append(found.get(exercise.name, missing))
        for notebook in sorted(notebooks):
            result.notes += [f"{notebook}: {note}" for note in _notes(notebooks[notebook])]
        return result

    def _fail(self, where: str, reason: str) -> None:
        self._progress.failed += 1
        self._result.failures.append(f"{where}: {reason}")

    def _where(self, judged: Judged) -> str:
        return f"{printable(judged.student)}/{self._unit}/{judged.notebook}.ipynb"

    def _log(self, judged: Judged) -> None:
        words = (
            [f"NOT GRADED: {judged.failure}"]
            if judged.failure
            else [
                f"{judged.marks:g}/{judged.points:g}",
                f"{judged.seconds:.2f} s, cells {judged.cells_seconds:.2f} s",
                *judged.notes,
            ]
        )
        self._journal.say(self._where(judged), words)


def _marks(node: NotebookNode) -> list[Mark]:
    """The marks that the judge wrote into a notebook's test cells."""
    found = []
    for cell in node.cells:
        verdict: Any = cell.metadata.get("autograder") or {}
        if "marks" in verdict:
            named = (verdict.get("diagnosis") or {}).get("mistake")
            found.append(Mark(verdict["exercise"], verdict["marks"], verdict["points"], named))
    return found


def _sums(marks: list[Mark]) -> tuple[float, float]:
    return sum(mark.marks for mark in marks), sum(mark.points for mark in marks)


def _notes(node: NotebookNode) -> list[str]:
    return list(node.metadata.get("autograder", {}).get("notes", []))
