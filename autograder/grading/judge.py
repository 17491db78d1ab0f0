"""Run hidden checks against a student's process, here where the student's code is not."""

import ast
import math
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
from autograder.grading.own_methods import own_methods

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
    total: float = math.inf,
) -> Verdict:
    """Mark one exercise.

    Args:
        exercise: the exercise.
        connection: the student's process.
        source: the student's cell, searched for what the exercise forbids.
        limit: seconds that one call may take.
        total: seconds that all calls together may take.
    """
    try:
        forbidden = used_names(source or "", exercise.forbids)
    except SyntaxError as error:  # IPython may run it all the same, and nobody has read it
        return refused(exercise, f"your code is not Python: {error.msg}, line {error.lineno}")
    if forbidden:
        return refused(
            exercise, f"it uses {', '.join(forbidden)}, which this exercise asks you to do without"
        )
    student = Student(connection, exercise.forbids, limit, total)
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
            # Not torch.manual_seed: it keeps a traceback for every device that it cannot seed yet.
            torch.default_generator.manual_seed(check.seed)
            check.run(student)
        except Raised as error:
            record.entries.append(("raised", error.kind, 0.0, 0.0))
            if error.kind == "RuntimeError":  # torch's, for anything: the words tell them apart
                record.entries.append(("in words", str(error), 0.0, 0.0))
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


# What looks an attribute or a module up by its name.
_LOOKUPS = frozenset(
    {"getattr", "attrgetter", "methodcaller", "import_module", "__import__", "__getattribute__"}
)
# What only serves to call an operator where nobody watches; see `inside.child.ForbiddenCalls`.
_BLINDS = ("_disable_current_modes", "_DisableTorchDispatch", "_python_dispatch", "inside")
_BLINDS += ("_ExcludeDispatchKeyGuard", "_AutoDispatchBelowAutograd", "_len_torch_dispatch_stack")


def used_names(source: str, forbids: Sequence[str]) -> list[str]:
    """Which of the forbidden identifiers the syntax tree uses.

    `softmax` is found in `F.softmax(x)`, `x.softmax(1)`, `from torch import softmax` and
    `getattr(torch, "soft" + "max")`; `torch.relu` only where it is written so. A method of a class
    that the source defines is no such use, see `own_methods`. Where operators (`aten::relu`) are
    forbidden, what hides them from the watch is forbidden too.

    Raises:
        SyntaxError: an identifier is forbidden and the source cannot be searched for it.
    """
    names = [name for name in forbids if "::" not in name]
    blinds = [name for name in _BLINDS if len(names) < len(forbids)]
    if not forbids:
        return []
    try:
        tree = ast.parse(source)
    except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
        if not names:  # operators are watched while the code runs, if it runs
            return []
        raise error if isinstance(error, SyntaxError) else SyntaxError(str(error)) from None
    longest = 1 + max(name.count(".") for name in [*names, ""])
    used: set[str] = set()
    own = own_methods(tree)
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute) and id(node) not in own:
            used.update((node.attr, _dotted(node, longest)))
        elif isinstance(node, ast.ImportFrom):
            used.update(alias.name for alias in node.names)
            used.update(f"{node.module}.{alias.name}" for alias in node.names)
            used.update((node.module or "").split("."))
        elif isinstance(node, ast.Import):
            used.update(alias.name for alias in node.names)
        elif isinstance(node, ast.Call | ast.Subscript):
            used.update(_looked_up(node))
    return [name for name in dict.fromkeys([*names, *blinds]) if name in used]


def _dotted(node: ast.expr, longest: int) -> str:
    """`a.b.c` as it is written, or nothing for a chain that is longer or not of names alone."""
    parts: list[str] = []
    while isinstance(node, ast.Attribute) and len(parts) < longest:
        parts.append(node.attr)
        node = node.value
    return ".".join([node.id, *reversed(parts)]) if isinstance(node, ast.Name) else ""


def _looked_up(node: ast.Call | ast.Subscript) -> list[str]:
    """The constant names that a call of `getattr` and its like, or a subscript, looks up."""
    if isinstance(node, ast.Subscript):
        return [_constant(node.slice)]
    name = getattr(node.func, "attr", getattr(node.func, "id", ""))
    return [_constant(argument) for argument in node.args] if name in _LOOKUPS else []


def _constant(node: ast.expr) -> str:
    """A string that is written out, in one piece or in several that are added."""
    pieces: list[str] = []
    while isinstance(node, ast.BinOp) and isinstance(node.op, ast.Add):
        pieces.append(_constant(node.right) if isinstance(node.right, ast.Constant) else "")
        node = node.left
    if isinstance(node, ast.Constant) and isinstance(node.value, str):
        pieces.append(node.value)
    return "".join(reversed(pieces))
