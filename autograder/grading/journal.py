"""What has been judged already, on disk, so that a class goes on where it was stopped.

A judged notebook is written as soon as it is there, to nbgrader's own place
`autograded/STUDENT/UNIT/NAME.ipynb`, and carries a fingerprint of all that decided its marks. The
same command again judges only what has no such file.
"""

import contextlib
import fcntl
import hashlib
import inspect
import os
import stat
import time
from collections.abc import Iterator, Sequence
from functools import cache
from pathlib import Path

import nbformat
from nbformat import NotebookNode

from autograder import contract
from autograder.grading.collect import printable

_AUTOGRADER = Path(contract.__file__).parent
_COURSE = _AUTOGRADER.parent / "course"
# What brings submissions to the judge and marks into the gradebook decides no mark.
_CARRIERS = frozenset(
    {"cgroup", "cluster", "collect", "fanout", "gradebook", "journal", "nbgrader", "pool"}
    | {"preload", "run", "wall"}
)
TIMESTAMP = "timestamp.txt"  # nbgrader's: when the student handed in


class ClassBusy(Exception):
    """Another command is grading this class; one line with the remedy."""


@contextlib.contextmanager
def sole(folder: Path) -> Iterator[None]:
    """Only one command grades a class at a time; the lock goes with the process that holds it.

    Raises:
        ClassBusy: another one has it.
    """
    with (folder / "grading.lock").open("a+") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            file.seek(0)
            other = file.read().strip() or "unknown"
            raise ClassBusy(
                f"{folder} is being graded already (process {other}): wait for it or stop it"
            ) from None
        file.truncate(0)
        file.write(f"{os.getpid()}\n")
        file.flush()
        yield


@cache
def checks_fingerprint(unit: str, notebook: str) -> str:
    """A hash of all that decides the marks of a notebook, but for the submission."""
    exercises = [e for e in contract.load(unit).values() if e.notebook == notebook]
    homes = {inspect.getsourcefile(check.run) for e in exercises for check in e.checks}
    files = [Path(home) for home in sorted(filter(None, homes))]
    files += [contract.REFERENCES / f"{notebook}.py", _release(unit, notebook)]
    files += _general()
    digest = hashlib.sha256()
    for path in files:
        data = path.read_bytes()
        digest.update(f"{path.name} {len(data)}\n".encode() + data)
    return digest.hexdigest()


@cache
def _general() -> tuple[Path, ...]:
    """The grader's and the course's own files."""
    grading = (_AUTOGRADER / "grading").rglob("*.py")
    course = (p for kind in ("py", "json", "npz") for p in _COURSE.rglob(f"*.{kind}"))
    return (
        *(_AUTOGRADER / name for name in ("contract.py", "diagnosis.py")),
        *sorted((_AUTOGRADER / "exercises").glob("_*.py")),
        *sorted(path for path in grading if path.stem not in _CARRIERS),
        *sorted(path for path in course if "lectures" not in path.relative_to(_COURSE).parts),
    )


def _release(unit: str, notebook: str) -> Path:
    return contract.RELEASE / unit / f"{notebook}.ipynb"


def fingerprint(checks: str, data: bytes, problem: str = "") -> str:
    """A hash of a submission and of all that decides its marks."""
    return hashlib.sha256(b"\0".join([checks.encode(), problem.encode(), data])).hexdigest()


class Journal:
    """The judged notebooks of one class and unit, and the log of how they came.

    Args:
        folder: the class's folder, where the gradebook lies.
        unit: the unit.
    """

    def __init__(self, folder: Path, unit: str) -> None:
        self._folder, self._unit = folder, unit
        self.log = folder / "grading.log"

    def _place(self, student: str) -> Path:
        return self._folder / "autograded" / student / self._unit

    def judged(self, student: str, notebook: str, wanted: str) -> NotebookNode | None:
        """The judged notebook, if it is there and has this fingerprint."""
        path = self._place(student) / f"{notebook}.ipynb"
        try:
            found = nbformat.v4.reads(path.read_text(encoding="utf-8"))
            return found if found.metadata.autograder.graded == wanted else None
        except (OSError, ValueError, AttributeError, KeyError, TypeError, RecursionError):
            return None

    def write(self, student: str, notebook: str, text: str) -> None:
        """Put a judged notebook into its place, whole or not at all."""
        _replace(self._place(student) / f"{notebook}.ipynb", text.encode("utf-8", "replace"))

    def entered(self, student: str, submitted: Path) -> bool:
        """Whether the gradebook was given this student's time of submission."""
        return _timestamp(self._place(student)) == _timestamp(submitted)

    def enter(self, student: str, submitted: Path) -> None:
        """Note what time of submission the gradebook was given."""
        keep_timestamp(submitted, self._place(student))

    def say(self, where: str, words: Sequence[str]) -> None:
        """One line of the log."""
        now = time.strftime("%Y-%m-%d %H:%M:%S")
        with self.log.open("a", encoding="utf-8", errors="backslashreplace") as file:
            file.write("  ".join(printable(part) for part in [now, where, *words] if part) + "\n")


def keep_timestamp(submitted: Path, judged: Path) -> None:
    """Put a submission's time of arrival beside its judged notebooks: nbgrader looks there."""
    time_ = _timestamp(submitted)
    if time_ is None:
        (judged / TIMESTAMP).unlink(missing_ok=True)
    else:
        _replace(judged / TIMESTAMP, time_)


def _timestamp(folder: Path) -> bytes | None:
    # A student may have put anything there: no link, no pipe that never ends, no gigabytes.
    try:
        with open(
            os.open(folder / TIMESTAMP, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK), "rb"
        ) as f:
            return f.read(1000) if stat.S_ISREG(os.fstat(f.fileno()).st_mode) else None
    except OSError:
        return None


def _replace(path: Path, data: bytes) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    beside = path.with_name(f".{path.name}.new")  # one writer, so one name
    with beside.open("wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())
    os.replace(beside, path)
