"""What `autograder grade` shows on a terminal: marks, named mistakes, what happened."""

from collections.abc import Iterable

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from autograder.contract import load
from autograder.grading.collect import printable
from autograder.grading.run import GradedClass, StudentResult


def show(graded: GradedClass, out: Console) -> None:
    """The class's table, one part for each notebook, and where the results lie."""
    notebooks = dict.fromkeys(exercise.notebook for exercise in load(graded.unit).values())
    for notebook in notebooks if graded.students else ():
        show_notebook(graded, notebook, out)
    show_notes(graded.students, out)
    for note in graded.notes:
        out.print(note, markup=False, soft_wrap=True)
    show_summary(graded, out)


def show_summary(graded: GradedClass, out: Console) -> None:
    """How long it took, what took longest, what failed, and where everything lies."""
    if graded.judged > len(graded.slowest) > 0:
        out.print("slowest", style="bold")
        for judged in graded.slowest:
            where = f"{printable(judged.student)}/{judged.notebook}"
            out.print(f"{judged.seconds:7.1f} s  {where}", markup=False, soft_wrap=True)
    for failure in graded.failures:
        out.print(f"not graded: {printable(failure)}", style="red", markup=False, soft_wrap=True)
    parts = [f"{_count(graded.judged, 'notebook')} judged in {graded.seconds:.0f} s"]
    if graded.judged:
        parts[0] += f" ({graded.per_minute:.0f} a minute)"
    if graded.kept:
        parts.append(f"{graded.kept} judged before (--force judges them again)")
    parts.append(f"{_count(len(graded.students), 'student')}, {graded.entered} entered now")
    if graded.failures:
        parts.append(f"{len(graded.failures)} failed")
    out.print("; ".join(parts), soft_wrap=True)
    out.print(f"gradebook  {graded.gradebook}", markup=False, soft_wrap=True)
    out.print(f"log        {graded.log}", markup=False, soft_wrap=True)


def _count(number: int, what: str) -> str:
    return f"{number} {what}" if number == 1 else f"{number} {what}s"


def show_notebook(graded: GradedClass, notebook: str, out: Console) -> None:
    """Marks per exercise of one notebook; a column's number is the exercise's.

    No mark is cut off: where a terminal is too narrow, the sums alone are shown.
    """
    exercises = [e for e in load(graded.unit).values() if e.notebook == notebook]
    names = {exercise.name for exercise in exercises}
    rows = [("[dim]points", [exercise.points for exercise in exercises])]
    for student in graded.students:
        marks = [mark.marks for mark in student.marks if mark.exercise in names]
        rows.append((escape(printable(student.student)), marks))
    table = _table(rows)
    needed = table.__rich_measure__(out, out.options.update(max_width=10_000)).maximum
    if needed > out.width and not out.is_terminal:
        out = Console(file=out.file, width=needed, highlight=False)
    elif needed > out.width:
        table = _table(rows, sums_only=True)
    out.print(f"{graded.unit}/{notebook}", style="italic", soft_wrap=True)
    out.print(table)
    out.print()


def _table(rows: list[tuple[str, list[float]]], sums_only: bool = False) -> Table:
    table = Table(box=None, pad_edge=False)
    table.add_column("student", no_wrap=True)
    numbers = [] if sums_only else range(1, len(rows[0][1]) + 1)
    for number in numbers:
        table.add_column(str(number), justify="right")
    table.add_column("sum", justify="right")
    for name, marks in rows:
        dim = "[dim]" if name.startswith("[dim]") else ""
        cells = [f"{dim}{mark:g}" if mark else "[dim]0" for mark in marks]
        table.add_row(name, *([] if sums_only else cells), f"{sum(marks):g}")
    return table


def show_notes(students: Iterable[StudentResult], out: Console) -> None:
    """Named mistakes, and what became of damaged or stopped notebooks."""
    for student in students:
        for mark in student.marks:
            if mark.mistake:
                out.print(
                    f"{printable(student.student)}: {mark.exercise}: {mark.mistake}",
                    markup=False,
                    soft_wrap=True,
                )
        for note in student.notes:
            out.print(
                f"{printable(student.student)}: {note}", style="dim", markup=False, soft_wrap=True
            )
