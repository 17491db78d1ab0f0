"""The notebook on the page: which cells make up an exercise, what is open and what is folded.

A plan first says where verdicts start and end; the body then draws the cells into blocks within
the room that the page has.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from markupsafe import Markup, escape

from autograder.report.cells import CellRenderer, highlighted
from autograder.report.images import MAX_IMAGE
from autograder.report.text import as_dict, as_list, as_text, counted, more, short, strip_ansi
from autograder.report.verdicts import Verdict, read_verdict


def _metadata(cell: dict[str, Any], key: str) -> dict[str, Any]:
    return as_dict(as_dict(cell.get("metadata")).get(key))


def _role(cell: dict[str, Any]) -> str:
    """'test', 'answer', 'own' or 'given'; cells of unknown make count as given."""
    nbgrader, judged = _metadata(cell, "nbgrader"), _metadata(cell, "autograder")
    if judged.get("student") is True:
        return "own"
    if nbgrader.get("solution") is True:
        return "answer"
    return "test" if nbgrader.get("grade") is True or "checks" in judged else "given"


def _heading(source: str) -> str:
    """The first heading of a Markdown cell as plain text, without "(3 points, about 5 min)"."""
    match = re.search(r"^ {0,3}#{1,6}[ \t]+(.+?)[ \t#]*$", source[:2_000], re.MULTILINE)
    title = re.sub(r"\s*\([^()]*\bpoints?\b[^()]*\)\s*$", "", match[1]) if match else ""
    return short(re.sub(r"[*`]", "", title), 120)


def _without_heading(source: str) -> str:
    return re.sub(r"\A\s*#{1,6}[ \t]+[^\n]*\n?", "", source, count=1)


@dataclass
class Plan:
    """Which verdict starts and which ends at which cell."""

    cells: list[dict[str, Any]]
    roles: list[str]
    starts: dict[int, Verdict]
    ends: dict[int, Verdict]

    @property
    def verdicts(self) -> list[Verdict]:
        return list(self.ends.values())


def plan_page(notebook: Any) -> Plan:
    """An exercise is what leads to a test cell: a heading, answers, the student's own cells."""
    cells = [cell for cell in as_list(as_dict(notebook).get("cells")) if isinstance(cell, dict)]
    plan = Plan(cells, [_role(cell) for cell in cells], {}, {})
    first = 0
    for index, role in enumerate(plan.roles):
        # An answer that is marked by hand has no test cell.
        by_hand = role == "answer" and _metadata(cells[index], "nbgrader").get("grade") is True
        if role == "test" or by_hand:
            _plan_exercise(plan, first, index)
            first = index + 1
    return plan


def _plan_exercise(plan: Plan, first: int, last: int) -> None:
    answers = [i for i in range(first, last + 1) if plan.roles[i] == "answer"]
    begin = answers[0] if answers else last
    before = begin - 1
    # The student's own cells may stand between the heading and the answer.
    while before >= first and plan.roles[before] == "own":
        before -= 1
    title = ""
    if before >= first and plan.cells[before].get("cell_type") == "markdown":
        title = _heading(as_text(plan.cells[before].get("source")))
        begin = before if title else begin
    verdict = read_verdict(plan.cells[last], len(plan.ends) + 1, title)
    said = [_metadata(plan.cells[i], "nbgrader").get("comment") for i in sorted({*answers, last})]
    verdict.comments = [comment for text in said if (comment := short(text))]
    sources = [as_text(plan.cells[i].get("source")) for i in answers]
    verdict.untouched = any("raise NotImplementedError" in source for source in sources)
    plan.starts[begin], plan.ends[last] = verdict, verdict


@dataclass
class _Room:
    """Bytes that one kind of content may still take."""

    left: int
    refused: int = 0

    @property
    def closed(self) -> bool:
        """After a few refusals in a row: what comes then is not even rendered."""
        return self.refused >= 3 or self.left <= 0

    def take(self, html: str) -> bool:
        """Whether it fits; if so, its room is taken."""
        size = len(html.encode())
        if size > self.left:
            self.refused += 1
            return False
        self.left, self.refused = self.left - size, 0
        return True


@dataclass(frozen=True)
class Block:
    """A piece of the page's notebook, drawn by the template.

    `kind` is "heading", "task", "cell", "verdict", "tests", "given" or "left_out".
    """

    kind: str
    body: Markup = field(default_factory=Markup)
    title: Markup = field(default_factory=Markup)
    figures: Markup = field(default_factory=Markup)
    verdict: Verdict | None = None


class Body:
    """Turns the cells into blocks within the room that the page has."""

    def __init__(self, plan: Plan, room: int) -> None:
        self.plan, self.cells = plan, CellRenderer()
        # The exercises keep room of their own: a flood elsewhere does not crowd them out.
        self._exercises, self._rest = _Room(room * 2 // 5), _Room(room * 3 // 5)
        self._given: list[int] = []
        self._left_out = 0
        self.blocks: list[Block] = []

    def build(self) -> list[Block]:
        """All blocks in the notebook's order."""
        for index, role in enumerate(self.plan.roles):
            if role != "given" or index in self.plan.starts:
                self._flush_given()
            self._cell(index, role)
        self._flush_given()
        if self._left_out:
            self.blocks.append(Block("left_out", more(self._left_out, "cell")))
        return self.blocks

    def _cell(self, index: int, role: str) -> None:
        begun, ended = self.plan.starts.get(index), self.plan.ends.get(index)
        if begun:
            self.blocks.append(Block("heading", verdict=begun))
        if role == "given" and begun:
            self._add(self._rest, lambda: Block("task", self._task(index)))
        elif role == "given":
            self._given.append(index)
        elif role == "answer":
            self._add(self._exercises, lambda: self._own(index, "Your answer"))
        elif role == "own":
            self._add(self._rest, lambda: self._own(index, "Your own cell"))
        if ended:
            self.blocks.append(Block("verdict", verdict=ended))
        if role == "test":
            self._add(self._exercises, lambda: self._tests(index))

    def _add(self, room: _Room, make: Callable[[], Block]) -> None:
        block = None if room.closed else make()
        if block is not None and not block.body and not block.figures:
            return
        if block is not None and room.take(block.body + block.figures):
            self.blocks.append(block)
        else:
            self._left_out += 1

    def _source(self, index: int) -> Markup:
        cell = self.plan.cells[index]
        source = as_text(cell.get("source"))
        if not source.strip():
            return Markup("")
        markdown = cell.get("cell_type") == "markdown"
        return self.cells.markdown(source) if markdown else highlighted(source)

    def _all_outputs(self, index: int) -> list[dict[str, Any]]:
        outputs = [o for o in as_list(self.plan.cells[index].get("outputs")) if isinstance(o, dict)]
        if index not in self.plan.ends:
            return outputs
        # Grading adds an output that tells nbgrader the marks.
        return [o for o in outputs if as_dict(o.get("metadata")).get("autograder") != "marks"]

    def _outputs(self, outputs: list[dict[str, Any]], *, unfold: bool = False) -> Markup:
        """Outputs of one cell; if they are too large together, a sentence instead."""
        html = self.cells.outputs(outputs, unfold=unfold)
        if len(html) <= 2 * MAX_IMAGE:
            return html
        return Markup('<p class="more">[these outputs are too large to be shown here]</p>')

    def _own(self, index: int, label: str) -> Block:
        body = self._source(index) + self._outputs(self._all_outputs(index), unfold=True)
        return Block("cell", body, escape(label))

    def _tests(self, index: int) -> Block:
        body = self._source(index) + self._outputs(self._all_outputs(index))
        return Block("tests", body, escape(_stopped([self.plan.cells[index]])))

    def _task(self, index: int) -> Markup:
        source = _without_heading(as_text(self.plan.cells[index].get("source")))
        return self.cells.markdown(source) if source.strip() else Markup("")

    def _flush_given(self) -> None:
        indices, self._given = self._given, []
        if indices:
            self._add(self._rest, lambda: self._folded(indices))

    def _folded(self, indices: list[int]) -> Block:
        """What was given since the student's last cell, except its pictures: they stay open."""
        body = figures = Markup("")
        for index in indices:
            outputs = self._all_outputs(index)
            body += self._source(index) + self._outputs([o for o in outputs if not _is_figure(o)])
            figures += self._outputs([o for o in outputs if _is_figure(o)])
        title = _given_summary([self.plan.cells[index] for index in indices])
        return Block("given", body, title, figures)


def _stopped(cells: list[dict[str, Any]]) -> str:
    """The first error among the outputs, for a summary line."""
    outputs = [output for cell in cells for output in as_list(cell.get("outputs"))]
    names = [name for output in outputs if (name := _error_name(as_dict(output)))]
    return f" · ✗ stopped with {names[0]}" if names else ""


def _error_name(output: dict[str, Any]) -> str:
    if output.get("output_type") == "error":
        return short(output.get("ename"), 60) or "an error"
    text = as_text(as_dict(output.get("data")).get("text/plain"))
    if "Traceback (most recent" not in text[:2_000]:
        return ""
    # Grading keeps the errors of test cells as text.
    named = r"(?m)^(\w+(?:Error|Exception|Interrupt|Exit))\b"
    match = re.search(named, strip_ansi(text[-4_000:]))
    return match[1] if match else "an error"


def _is_figure(output: dict[str, Any]) -> bool:
    return any(str(mime).startswith("image/") for mime in as_dict(output.get("data")))


def _given_summary(cells: list[dict[str, Any]]) -> Markup:
    texts = [as_text(cell.get("source")) for cell in cells if cell.get("cell_type") == "markdown"]
    title = next((heading for text in texts if (heading := _heading(text))), "")
    code = sum(cell.get("cell_type") == "code" for cell in cells)
    pairs = ((len(texts), "text"), (code, "code cell"))
    counts = [counted(number, noun) for number, noun in pairs if number]
    parts = [Markup("<b>{}</b>").format(title)] if title else []
    return Markup("Given: ") + Markup(" · ").join([*parts, ", ".join(counts)]) + _stopped(cells)
