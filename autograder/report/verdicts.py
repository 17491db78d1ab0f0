"""What the judge said: states of checks and exercises, the reasons, the totals, the advice."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from markupsafe import Markup

from autograder.report.text import as_dict, as_list, as_number, counted, format_number, prose, short


@dataclass(frozen=True)
class State:
    """What became of a check or an exercise: a CSS class, and a sign and a word that say it."""

    key: str
    sign: str
    word: str


PASSED = State("passed", "✓", "passed")
_PARTLY = State("partly", "◐", "partly")
_LOST = State("lost", "✗", "lost")
_UNDONE = State("undone", "○", "not done yet")
_UNMARKED = State("unmarked", "–", "not marked")


def _state(marks: float | None, points: float | None, message: str = "") -> State:
    if marks is None:
        return _UNMARKED
    if not points:
        return _LOST if message else PASSED
    if marks >= points - 1e-9:
        return PASSED
    return _PARTLY if marks > 0 else _LOST


def _bar(marks: float | None, points: float | None) -> Markup:
    share = min(max((marks or 0.0) / points, 0.0), 1.0) if points and points > 0 else 0.0
    return Markup(
        '<span class="bar" aria-hidden="true"><span style="width:{:.0f}%"></span></span>'
    ).format(100 * share)


@dataclass(frozen=True)
class Check:
    """One check of an exercise, as the judge recorded it."""

    name: str
    marks: float | None
    points: float | None
    message: str

    @classmethod
    def read(cls, data: Any) -> Check:
        """Read a judge's record, which may be malformed."""
        data = as_dict(data)
        marks, points = as_number(data.get("marks")), as_number(data.get("points"))
        return cls(
            short(data.get("name"), 200) or "check", marks, points, short(data.get("message"))
        )

    @property
    def state(self) -> State:
        return _state(self.marks, self.points, self.message)

    def why(self, previous: str) -> Markup:
        """Why it was lost; what the check before said is not said again."""
        if self.state is PASSED or not self.message:
            return Markup("")
        return Markup("The same.") if self.message == previous else prose(self.message)


@dataclass
class Verdict:
    """What the judge said of one exercise, and where on the page it says so."""

    anchor: str
    title: str
    marks: float | None
    points: float | None
    checks: list[Check]
    mistake: str
    hint: str
    note: str
    comments: list[str] = field(default_factory=list)
    untouched: bool = False

    @property
    def state(self) -> State:
        state = _state(self.marks, self.points)
        return _UNDONE if state is _LOST and self.untouched else state

    @property
    def marks_text(self) -> str:
        return format_number(self.marks)

    @property
    def points_text(self) -> str:
        return format_number(self.points)

    @property
    def bar(self) -> Markup:
        return _bar(self.marks, self.points)

    @property
    def headline(self) -> Markup:
        """The few words of the summary table."""
        if self.state is PASSED or self.state is _UNDONE:
            return Markup("")
        lost = [check.name for check in self.checks if check.state is not PASSED]
        return prose(self.mistake or self.note or (lost[0] if lost else ""))

    @property
    def reasons(self) -> list[tuple[Check, Markup]]:
        """Each check with why it was lost; a reason like the one before is not repeated."""
        before = ["", *(check.message for check in self.checks)]
        pairs = zip(self.checks, before, strict=False)
        return [(check, check.why(previous)) for check, previous in pairs]


def read_verdict(cell: dict[str, Any], number: int, title: str) -> Verdict:
    """The verdict that a graded cell's metadata holds, for the page's exercise `number`."""
    metadata = as_dict(cell.get("metadata"))
    judged, nbgrader = as_dict(metadata.get("autograder")), as_dict(metadata.get("nbgrader"))
    diagnosis = as_dict(judged.get("diagnosis"))
    points = as_number(judged.get("points"))
    name = short(judged.get("exercise"), 80) or short(nbgrader.get("grade_id"), 80)
    return Verdict(
        anchor=f"exercise-{number}",
        title=title or name or f"Exercise {number}",
        marks=as_number(judged.get("marks")),
        points=as_number(nbgrader.get("points")) if points is None else points,
        checks=[Check.read(check) for check in as_list(judged.get("checks"))[:60]],
        mistake=short(diagnosis.get("mistake"), 200),
        hint=short(diagnosis.get("hint")),
        note=short(judged.get("note")),
    )


def advice(verdicts: list[Verdict]) -> Markup:
    """One sentence: how far this is, and where to look first."""
    done = sum(verdict.state is PASSED for verdict in verdicts)
    if not verdicts:
        return Markup("No exercise of this notebook has been marked.")
    if done == len(verdicts):
        return Markup("Every exercise passed all its checks.")
    # A named mistake is the shortest way to more marks.
    open_ones = [verdict for verdict in verdicts if verdict.state is not PASSED]
    first = next((verdict for verdict in open_ones if verdict.mistake), open_ones[0])
    return Markup('{} of {} passed. Look first at <a href="#{}">{}</a>.').format(
        done, counted(len(verdicts), "exercise"), first.anchor, first.title
    )


def totals(verdicts: list[Verdict], late_penalty: float) -> dict[str, Any]:
    """The sums at the head of the page, as the template shows them."""
    earned = sum(verdict.marks or 0.0 for verdict in verdicts)
    points = sum(verdict.points or 0.0 for verdict in verdicts)
    penalty = max(as_number(late_penalty) or 0.0, 0.0)
    marks = max(earned - penalty, 0.0) if penalty else earned
    return {
        "earned": format_number(earned),
        "marks": format_number(marks),
        "points": format_number(points),
        "penalty": format_number(penalty) if penalty else "",
        "total_bar": _bar(marks, points),
    }
