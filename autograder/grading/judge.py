"""Run hidden checks against a student's process, here where the student's code is not."""

import ast
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

import torch

from autograder.contract import (
    Check,
    Connection,
    Exercise,
    ForbiddenCall,
    Record,
    Student,
    recording,
)
from autograder.grading.forkserver import ChildGone, Raised, TimedOut

CHECK_LIMIT = 10.0  # seconds that one call into the student's code may take
STOPPED = "not run: the check before it stopped the program"


@dataclass
class CheckResult:
    """What one check gave; the message says in words why marks were lost."""

    name: str
    points: float
    marks: float
    message: str = ""


@dataclass
class Verdict:
    """What one exercise earned, and the known mistake that it looks like."""

    exercise: str
    points: float
    marks: float
    checks: list[CheckResult]
    diagnosis: dict[str, str] | None = None
    note: str | None = None
    records: dict[str, Record] = field(default_factory=dict, repr=False)

    @property
    def named(self) -> str | None:
        """The diagnosed mistake's name."""
        return self.diagnosis["mistake"] if self.diagnosis else None

    def plain(self) -> dict[str, Any]:
        """As JSON can hold it; the records stay with the judge."""
        kept = {key: value for key, value in vars(self).items() if key != "records"}
        return {**kept, "checks": [asdict(check) for check in self.checks]}


def judge(
    exercise: Exercise,
    connection: Connection,
    source: str | None = None,
    *,
    limit: float = CHECK_LIMIT,
) -> Verdict:
    """Mark one exercise.

    Args:
        exercise: the exercise.
        connection: the student's process.
        source: the student's cell, searched for what the exercise forbids.
        limit: seconds that one call may take.
    """
    try:
        forbidden = used_names(source or "", exercise.forbids)
    except SyntaxError as error:  # IPython may run it all the same, and nobody has read it
        return refused(exercise, f"your code is not Python: {error.msg}, line {error.lineno}")
    if forbidden:
        return refused(
            exercise, f"it uses {', '.join(forbidden)}, which this exercise asks you to do without"
        )
    student = Student(connection, exercise.forbids, limit)
    results, records, note = [], {}, None
    for check in exercise.checks:
        if note:
            results.append(CheckResult(check.name, check.points, 0.0, STOPPED))
            continue
        records[check.name], note = run_check(check, student, connection)
        failure = records[check.name].failure
        results.append(
            CheckResult(check.name, check.points, 0.0 if failure else check.points, failure or "")
        )
    marks = sum(result.marks for result in results)
    return Verdict(exercise.name, exercise.points, marks, results, None, note, records)


def refused(exercise: Exercise, reason: str, note: str | None = None) -> Verdict:
    """No marks, for one reason."""
    results = [CheckResult(check.name, check.points, 0.0, reason) for check in exercise.checks]
    return Verdict(exercise.name, exercise.points, 0.0, results, None, note)


def run_check(check: Check, student: Student, connection: Connection) -> tuple[Record, str | None]:
    """Run one check; returns its record and, if it ended the student's process or its time, why."""
    stopped = None
    with recording() as record:
        try:
            connection.seed(check.seed)
            torch.manual_seed(check.seed)
            check.run(student)
        except Raised as error:
            record.entries.append(("raised", error.kind, 0.0, 0.0))
            record.fail(f"your code raised {error}")
        except TimedOut:
            stopped = "stopped: it did not finish in time"
        except ChildGone as error:
            stopped = f"the process that ran your code ended ({error})"
        except ForbiddenCall as error:
            record.entries.append(("forbidden", str(error), 0.0, 0.0))
            record.fail(str(error))
        except Exception as error:  # the check could not use what came back
            record.entries.append(("unusable", type(error).__name__, 0.0, 0.0))
            record.fail(f"your result could not be used ({type(error).__name__}: {error})")
    if stopped:
        record.entries.append(("stopped", stopped, 0.0, 0.0))
        record.fail(stopped)
    return record, stopped


def used_names(source: str, forbids: Sequence[str]) -> list[str]:
    """Which of the forbidden identifiers the syntax tree uses, as attribute or as an imported name.

    `softmax` is found in `F.softmax(x)`, `x.softmax(1)` and `from torch import softmax`;
    `torch.relu` only where it is written so.

    Raises:
        SyntaxError: something is forbidden and the source cannot be searched for it.
    """
    names = [name for name in forbids if "::" not in name]
    if not names:
        return []
    try:
        tree = ast.parse(source)
    except (ValueError, RecursionError, MemoryError) as error:
        raise SyntaxError(str(error)) from None
    used: set[str] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute):
            used.update((node.attr, ast.unparse(node)))
        elif isinstance(node, ast.ImportFrom):
            used.update(alias.name for alias in node.names)
            used.update(f"{node.module}.{alias.name}" for alias in node.names)
        elif isinstance(node, ast.Import):
            used.update(alias.name for alias in node.names)
    return [name for name in names if name in used]
