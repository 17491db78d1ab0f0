"""One submission's notebook: repair it, run it, judge it, and give back the judged notebook."""

import base64
import binascii
import json
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import nbformat
from nbformat import NotebookNode

from autograder.contract import Exercise, load
from autograder.grading.forkserver import ChildGone, ForkServer, StudentProcess, TimedOut
from autograder.grading.judge import Verdict, judge, refused
from autograder.grading.repair import Repaired, repair
from autograder.grading.submission import UnreadableSubmission, read_submission

CELL_LIMIT = 10.0  # seconds for one cell; a reference notebook's cells take a few seconds together
LATER_CELL_LIMIT = 4.0  # seconds for each cell after one that did not finish
CALL_LIMIT = 5.0  # seconds for one call of a check
MAX_PROCESSES = 6  # fresh processes that one notebook is given
Diagnose = Callable[[Exercise, Verdict], dict[str, str] | None]


@dataclass
class Graded:
    """What became of one notebook."""

    notebook: NotebookNode
    verdicts: list[Verdict]
    notes: list[str] = field(default_factory=list)
    seconds: float = 0.0

    @property
    def marks(self) -> float:
        """The sum over its exercises."""
        return sum(verdict.marks for verdict in self.verdicts)


def grade_file(
    path: Path,
    release: Path,
    unit: str,
    server: ForkServer,
    diagnose: Diagnose,
    within: Path | None = None,
) -> Graded:
    """Grade one file; one that cannot be read becomes a message and no marks.

    Args:
        path: the submitted notebook.
        release: the released notebook that it should answer.
        unit: the unit's name.
        server: gives fresh processes.
        diagnose: names known mistakes.
        within: the folder that the path must not lead out of.
    """
    master = nbformat.read(release, as_version=4)
    try:
        submission = read_submission(path, within=within)
    except UnreadableSubmission as error:
        return unreadable(master, load(unit), str(error))
    return grade(submission, master, load(unit), server, diagnose)


def unreadable(master: NotebookNode, exercises: Mapping[str, Exercise], reason: str) -> Graded:
    """The master's notebook with no marks anywhere and the reason on top."""
    verdicts = []
    for cell in master.cells:
        if exercise := _exercise_of(cell, exercises):
            verdicts.append(refused(exercise, reason))
            _enter(cell, verdicts[-1])
    master.metadata["autograder"] = {"notes": [reason]}
    return Graded(master, verdicts, [reason])


def grade(
    submission: NotebookNode,
    master: NotebookNode,
    exercises: Mapping[str, Exercise],
    server: ForkServer,
    diagnose: Diagnose,
) -> Graded:
    """Grade one notebook that could be read."""
    start = time.perf_counter()
    tested = filter(None, (_exercise_of(cell, exercises) for cell in master.cells))
    defines = {exercise.name: exercise.defines for exercise in tested}
    repaired = repair(submission, master, defines)
    run = _Run(repaired, exercises, server, diagnose)
    run.all_cells()
    notes = [*repaired.notes, *run.notes]
    repaired.notebook.metadata["autograder"] = {"notes": notes}
    return Graded(repaired.notebook, run.verdicts, notes, time.perf_counter() - start)


class _Run:
    """Runs a repaired notebook's cells in order, in as many processes as it takes."""

    def __init__(
        self,
        repaired: Repaired,
        exercises: Mapping[str, Exercise],
        server: ForkServer,
        diagnose: Diagnose,
    ) -> None:
        self._cells = [cell for cell in repaired.notebook.cells if cell.cell_type == "code"]
        self._answers, self._exercises = repaired.answers, exercises
        self._server, self._diagnose = server, diagnose
        self._culprits: set[int] = set()
        self._processes = 0
        self._limit = CELL_LIMIT
        self.verdicts: list[Verdict] = []
        self.notes: list[str] = []

    def all_cells(self) -> None:
        """Run every cell, judge every exercise; a cell that ends the process costs itself alone."""
        process = self._start(0)
        try:
            for number, cell in enumerate(self._cells):
                process = self._alive(process, number)
                cell.execution_count = number + 1
                self._run_cell(process, number, cell)
                exercise = _exercise_of(cell, self._exercises)
                if exercise is not None:
                    process = self._alive(process, number + 1)
                    self._judge(process, cell, exercise)
        finally:
            if process is not None:
                process.close()

    def _start(self, upto: int) -> StudentProcess | None:
        """A fresh process in which the cells before `upto` have run, without the culprits."""
        while self._processes < MAX_PROCESSES:
            self._processes += 1
            process = self._server.child()
            for number in range(upto):
                if number not in self._culprits and not self._replay(process, number):
                    break
            if process.alive:
                return process
        return None

    def _replay(self, process: StudentProcess, number: int) -> bool:
        try:
            process.run_cell(self._cells[number].source, self._limit)
        except TimedOut:
            self._culprits.add(number)
        except ChildGone:
            self._culprits.add(number)
            process.close()
        return process.alive

    def _alive(self, process: StudentProcess | None, upto: int) -> StudentProcess | None:
        return process if process is not None and process.alive else self._start(upto)

    def _run_cell(self, process: StudentProcess | None, number: int, cell: NotebookNode) -> None:
        if process is None:
            cell.outputs = [_message("not run: cells before it kept ending the process")]
            return
        try:
            outputs, _ = process.run_cell(cell.source, self._limit)
            cell.outputs = clean(outputs)
        except TimedOut as error:
            said = clean((error.reply or {}).get("outputs"))
            cell.outputs = [
                *said,
                _message(f"stopped: this cell ran for more than {self._limit:.0f} s"),
            ]
            self._note(number, f"did not finish within {self._limit:.0f} s and was stopped")
            self._limit = LATER_CELL_LIMIT
        except ChildGone as error:
            cell.outputs = [_message(f"this cell ended the process ({error})")]
            self._note(number, f"ended the process ({error}); the rest was run again without it")

    def _note(self, number: int, what: str) -> None:
        self._culprits.add(number)
        self.notes.append(f"Cell {number + 1} {what}.")

    def _judge(
        self, process: StudentProcess | None, cell: NotebookNode, exercise: Exercise
    ) -> None:
        if process is None:
            verdict = refused(exercise, "not run: cells before it kept ending the process")
        elif exercise.name not in self._answers:
            verdict = refused(exercise, "the notebook has no answer to this exercise")
        else:
            source = self._answers[exercise.name]
            verdict = judge(exercise, process, source, limit=CALL_LIMIT)
            verdict.diagnosis = self._diagnose(exercise, verdict)
        self.verdicts.append(verdict)
        _enter(cell, verdict)


def _exercise_of(cell: NotebookNode, exercises: Mapping[str, Exercise]) -> Exercise | None:
    """The exercise that a test cell is the test of."""
    info = cell.metadata.get("nbgrader", {})
    return exercises[info["grade_id"].removeprefix("test_")] if info.get("grade") else None


def _enter(cell: NotebookNode, verdict: Verdict) -> None:
    """Write the verdict into the test cell, in the form that nbgrader reads marks from.

    nbgrader takes an error or a word on stderr for no marks, and the first execute_result for the
    marks: what the visible tests showed is kept as display data, and the one result is the judge's.
    """
    shown = [_harmless(output) for output in cell.get("outputs", [])]
    marks = nbformat.v4.new_output("execute_result", {"text/plain": repr(float(verdict.marks))})
    marks.execution_count = cell.get("execution_count")
    marks.metadata["autograder"] = "marks"
    cell.outputs = [*shown, marks]
    cell.metadata["autograder"] = verdict.plain()


def _harmless(output: NotebookNode) -> NotebookNode:
    if output.output_type == "error":
        text = "\n".join(output.traceback)
        return nbformat.v4.new_output("display_data", {"text/plain": text})
    if output.output_type == "execute_result":
        return nbformat.v4.new_output("display_data", output.data)
    if output.output_type == "stream":
        output.name = "stdout"
    return output


def _message(text: str) -> NotebookNode:
    return nbformat.v4.new_output("stream", name="stderr", text=f"[{text}]\n")


def clean(outputs: Any) -> list[NotebookNode]:
    """What a student's process calls outputs, made into valid ones; anything else is dropped."""
    found = []
    for output in outputs if isinstance(outputs, list) else []:
        if isinstance(output, dict) and (made := _clean(output)) is not None:
            found.append(made)
    return found


def _clean(output: dict[str, Any]) -> NotebookNode | None:
    kind = output.get("output_type")
    if kind == "stream":
        name = "stderr" if output.get("name") == "stderr" else "stdout"
        return nbformat.v4.new_output("stream", name=name, text=_text(output.get("text")))
    if kind == "error":
        lines = output.get("traceback")
        lines = [_text(line) for line in lines] if isinstance(lines, list) else []
        words = {"ename": _text(output.get("ename")), "evalue": _text(output.get("evalue"))}
        return nbformat.v4.new_output("error", **words, traceback=lines)
    if kind in ("display_data", "execute_result") and isinstance(output.get("data"), dict):
        data = {_text(mime): _bundle(_text(mime), value) for mime, value in output["data"].items()}
        return nbformat.v4.new_output(kind, {mime: value for mime, value in data.items() if value})
    return None


def _text(value: Any) -> str:
    return value.encode("utf-8", "replace").decode() if isinstance(value, str) else ""


def _bundle(mime: str, value: Any) -> Any:
    """One representation of an output: text, checked base64, or JSON."""
    if mime.endswith("json"):
        return json.loads(json.dumps(value))
    if mime in ("image/png", "image/jpeg", "image/gif"):
        try:
            base64.b64decode(_text(value).replace("\n", ""), validate=True)
        except (binascii.Error, ValueError):
            return ""
    return _text(value)
