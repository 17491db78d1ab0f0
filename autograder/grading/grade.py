"""One submission's notebook: repair it, run it, judge it, and give back the judged notebook."""

import contextlib
import copy
import logging
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Any

import nbformat
from nbformat import NotebookNode

from autograder.contract import Exercise, load
from autograder.grading.forkserver import ChildGone, ForkServer, StudentProcess, TimedOut
from autograder.grading.judge import Verdict, judge, refused
from autograder.grading.outputs import Cleaner, shown_data
from autograder.grading.repair import Repaired, repair
from autograder.grading.submission import UnreadableSubmission, parse

CELL_LIMIT = 10.0  # seconds for one cell; a reference notebook's cells take a few seconds together
LATER_CELL_LIMIT = 4.0  # seconds for each cell after one that did not finish
CELLS_LIMIT = 120.0  # seconds for all cells; then cells that the student added are not run
SPENT_CELL_LIMIT = 1.0  # seconds for each of the other cells when that time is spent
CALL_LIMIT = 5.0  # seconds for one call of a check
CALLS_LIMIT = 30.0  # seconds for all calls of an exercise's checks
MAX_PROCESSES = 40  # fresh processes that one notebook is given
NOT_RUN = "not run: cells before it kept ending the process"
Diagnose = Callable[[Exercise, Verdict], dict[str, str] | None]


@dataclass
class Graded:
    """What became of one notebook.

    Attributes:
        notebook: the judged notebook.
        verdicts: one for each exercise.
        notes: what the student should know, in words.
        seconds: how long it took altogether.
        cells_seconds: of these, how long the notebook's own cells ran.
        probes_seconds: how long the student's process ran the judge's probes.
    """

    notebook: NotebookNode
    verdicts: list[Verdict]
    notes: list[str] = field(default_factory=list)
    seconds: float = 0.0
    cells_seconds: float = 0.0
    probes_seconds: float = 0.0

    @property
    def marks(self) -> float:
        """The sum over its exercises."""
        return sum(verdict.marks for verdict in self.verdicts)


def grade_file(
    data: bytes, name: str, release: Path, unit: str, server: ForkServer, diagnose: Diagnose
) -> Graded:
    """Grade one file; one that cannot be read becomes a message and no marks.

    Args:
        data: the submitted file's bytes.
        name: its name, for messages.
        release: the released notebook that it should answer.
        unit: the unit's name.
        server: gives fresh processes.
        diagnose: names known mistakes.
    """
    master = released(release)
    try:
        submission = parse(data, name)
    except UnreadableSubmission as error:
        return unreadable(master, load(unit), str(error))
    return grade(submission, master, load(unit), server, diagnose)


def released(path: Path) -> NotebookNode:
    """A released notebook, read once; it is shared and must not be changed."""
    return _released(path, path.stat().st_mtime_ns)


@lru_cache(20)
def _released(path: Path, changed: int) -> NotebookNode:
    del changed
    return nbformat.read(path, as_version=4)


def unreadable(master: NotebookNode, exercises: Mapping[str, Exercise], reason: str) -> Graded:
    """The master's notebook with no marks anywhere and the reason on top."""
    notebook, verdicts = copy.deepcopy(master), []
    for cell in notebook.cells:
        if exercise := _exercise_of(cell, exercises):
            verdicts.append(refused(exercise, reason))
            _enter(cell, verdicts[-1])
    notebook.metadata["autograder"] = {"notes": [reason]}
    return Graded(notebook, verdicts, [reason])


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
    seconds = time.perf_counter() - start
    return Graded(repaired.notebook, run.verdicts, notes, seconds, run.cells, run.probes)


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
        self._clean = Cleaner()
        self.verdicts: list[Verdict] = []
        self.notes: list[str] = []
        self.cells = self.probes = 0.0  # seconds

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
            with contextlib.suppress(TimedOut, ChildGone):
                process.run_cell("", self._limit)  # starts the shell
            for number in range(upto):
                if number not in self._culprits and not self._replay(process, number):
                    break
            if process.alive:
                return process
        return None

    def _replay(self, process: StudentProcess, number: int) -> bool:
        try:
            self._outputs(process, self._cells[number].source)
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
            cell.outputs = [_message(NOT_RUN)]
            return
        limit = self._cell_limit
        if self.cells > CELLS_LIMIT and cell.metadata.get("autograder", {}).get("student"):
            cell.outputs = [_message("not run: the time for all cells was spent")]
            self._note(number, "was not run: the time for all cells was spent")
            return
        try:
            cell.outputs = self._clean(self._outputs(process, cell.source))
        except TimedOut as error:
            said = self._clean((error.reply or {}).get("outputs"))
            cell.outputs = [
                *said,
                _message(f"stopped: this cell ran for more than {limit:.0f} s"),
            ]
            self._note(number, f"did not finish within {limit:.0f} s and was stopped")
            self._limit = LATER_CELL_LIMIT
        except ChildGone as error:
            cell.outputs = [_message(f"this cell ended the process ({error})")]
            self._note(number, f"ended the process ({error}); the rest was run again without it")

    @property
    def _cell_limit(self) -> float:
        spent = self.cells > CELLS_LIMIT
        return min(self._limit, SPENT_CELL_LIMIT) if spent else self._limit

    def _outputs(self, process: StudentProcess, source: str) -> list[dict[str, Any]]:
        before = process.waited
        try:
            return process.run_cell(source, self._cell_limit)[0]
        finally:
            self.cells += process.waited - before

    def _note(self, number: int, what: str) -> None:
        self._culprits.add(number)
        self.notes.append(f"Cell {number + 1} {what}.")

    def _judge(
        self, process: StudentProcess | None, cell: NotebookNode, exercise: Exercise
    ) -> None:
        if process is None:
            verdict = refused(exercise, NOT_RUN)
        elif exercise.name not in self._answers:
            verdict = refused(exercise, "the notebook has no answer to this exercise")
        else:
            source = self._answers[exercise.name]
            before = process.waited
            verdict = judge(exercise, process, source, limit=CALL_LIMIT, total=CALLS_LIMIT)
            self.probes += process.waited - before
            try:
                verdict.diagnosis = self._diagnose(exercise, verdict)
            except Exception:  # marks do not depend on it
                logging.getLogger(__name__).exception("no diagnosis of %s", exercise.path)
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
    marks = shown_data("execute_result", {"text/plain": repr(float(verdict.marks))})
    marks.execution_count = cell.get("execution_count")
    marks.metadata["autograder"] = "marks"
    cell.outputs = [*shown, marks]
    cell.metadata["autograder"] = verdict.plain()


def _harmless(output: NotebookNode) -> NotebookNode:
    if output.output_type == "error":
        text = "\n".join(output.traceback)
        return shown_data("display_data", {"text/plain": text})
    if output.output_type == "execute_result":
        return shown_data("display_data", output.data)
    if output.output_type == "stream":
        output.name = "stdout"
    return output


def _message(text: str) -> NotebookNode:
    return NotebookNode(output_type="stream", name="stderr", text=f"[{text}]\n")
