"""A class for unit 01, made to order: who handed in what, and what that has earned.

Expected marks are stated by hand, as the checks that a submission loses; the grader's are compared.
"""

import copy
import shutil
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import nbformat
from nbformat import NotebookNode
from rich.console import Console

from autograder.contract import RELEASE, Exercise, load
from autograder.grading import wall
from autograder.grading.fanout import default_isolation
from autograder.grading.nbgrader import NbgraderClass
from autograder.grading.run import GradedClass, Watch, grade_class
from autograder.report import classes
from autograder.report.pages import write_class

UNIT = "01_backprop"
Notebooks = dict[str, NotebookNode]
Answers = dict[str, str]
Damage = Callable[[Notebooks], None]


@dataclass(frozen=True)
class Submission:
    """One made-up student.

    Attributes:
        name: the student's id.
        answers: exercise -> source; what is not named here is the reference.
        damage: what happened to the notebooks afterwards.
        lost: exercise -> the checks that it loses, or "all".
        mistakes: exercise -> the mistake that has to be named.
    """

    name: str
    answers: Answers = field(default_factory=dict)
    damage: Damage = lambda notebooks: None
    lost: dict[str, tuple[str, ...] | str] = field(default_factory=dict)
    mistakes: dict[str, str] = field(default_factory=dict)


def exercises() -> dict[str, Exercise]:
    """The unit's exercises."""
    return load(UNIT)


def alternatives(number: int) -> Answers:
    """Every exercise solved in another correct way."""
    return {
        name: exercise.alternatives[number % len(exercise.alternatives)].source
        for name, exercise in exercises().items()
    }


def mistaken(**named: str) -> Answers:
    """Each named exercise answered with that known mistake."""
    found = {}
    for name, mistake in named.items():
        found[name] = next(m.source for m in exercises()[name].mistakes if m.name == mistake)
    return found


def stubs(names: Iterable[str]) -> Answers:
    """Exercises left as they were handed out."""
    return {name: exercises()[name].stub for name in names}


def of_notebook(notebook: str) -> list[str]:
    """The exercises of one notebook."""
    return [name for name, exercise in exercises().items() if exercise.notebook == notebook]


def answer_cell(notebooks: Notebooks, exercise: str) -> tuple[NotebookNode, int]:
    """The notebook and the place of an answer."""
    for notebook in notebooks.values():
        for index, cell in enumerate(notebook.cells):
            if cell.metadata.get("nbgrader", {}).get("grade_id") == exercise:
                return notebook, index
    raise LookupError(exercise)


def strip_as_colab(notebooks: Notebooks) -> None:
    """Colab drops the cells' metadata and gives them ids of its own."""
    for notebook in notebooks.values():
        notebook.metadata = nbformat.from_dict({"colab": {"provenance": []}})
        for number, cell in enumerate(notebook.cells):
            cell.metadata = nbformat.from_dict({"id": f"Xy{number}"})
            cell.id = f"xy{number:06d}"


def copy_cell_as_vscode(exercise: str) -> Damage:
    """VS Code copies a cell with its metadata, grade id included."""

    def damage(notebooks: Notebooks) -> None:
        notebook, index = answer_cell(notebooks, exercise)
        notebook.cells.insert(index + 1, copy.deepcopy(notebook.cells[index]))

    return damage


def delete_test(exercise: str) -> Damage:
    """The cell after the answer, its test, is gone."""

    def damage(notebooks: Notebooks) -> None:
        notebook, index = answer_cell(notebooks, exercise)
        del notebook.cells[index + 1]

    return damage


def write(submission: Submission, folder: Path) -> None:
    """Write one student's notebooks below `folder/STUDENT/UNIT/`."""
    notebooks = {
        path.stem: nbformat.read(path, as_version=4)
        for path in sorted((RELEASE / UNIT).glob("*.ipynb"))
    }
    for name, exercise in exercises().items():
        notebook, index = answer_cell(notebooks, name)
        notebook.cells[index].source = submission.answers.get(name, exercise.reference)
    submission.damage(notebooks)
    target = folder / submission.name / UNIT
    target.mkdir(parents=True)
    for name, notebook in notebooks.items():
        (target / f"{name}.ipynb").write_text(
            nbformat.writes(notebook, version=nbformat.NO_CONVERT)
        )


def earned(submission: Submission) -> dict[str, float]:
    """What a submission has earned, exercise by exercise."""
    marks = {}
    for name, exercise in exercises().items():
        lost = submission.lost.get(name, ())
        names = {check.name for check in exercise.checks}
        if lost != "all" and not set(lost) <= names:
            raise LookupError(f"{name} has no check {set(lost) - names}")
        marks[name] = sum(c.points for c in exercise.checks if lost != "all" and c.name not in lost)
    return marks


def differences(graded: GradedClass, expected: Iterable[Submission]) -> Iterator[str]:
    """Where the marks, the gradebook or the named mistakes are not as they should be."""
    book = NbgraderClass(graded.folder / "submitted").marks(UNIT)
    results = {student.student: student for student in graded.students}
    for submission in expected:
        if submission.name not in results:
            yield f"{submission.name} was not graded"
            continue
        wanted = earned(submission)
        for mark in results[submission.name].marks:
            where = f"{submission.name}, {mark.exercise}"
            if mark.marks != wanted[mark.exercise]:
                yield f"{where}: {mark.marks:g} marks, has earned {wanted[mark.exercise]:g}"
            if book[submission.name][mark.exercise] != mark.marks:
                yield f"{where}: the gradebook says {book[submission.name][mark.exercise]:g}"
            named = submission.mistakes.get(mark.exercise)
            if named and mark.mistake != named:
                yield f"{where}: taken for {mark.mistake!r}, is {named!r}"


def found_wall() -> tuple[str, str]:
    """The wall and its description; `none` will do for a class that was made here."""
    isolation = default_isolation()
    try:
        wall.check(isolation)
    except wall.NoWall as error:
        return "none", f"none, for this class was made here; {error}"
    return isolation, wall.describe(isolation)


def run(folder: Path, jobs: int | None, watch: Watch, out: Console) -> list[str]:
    """Make the class, grade it, show it, write feedback, and compare.

    Returns:
        The differences, one line each.
    """
    from autograder.demo_class import submissions

    isolation, said = found_wall()
    out.print(f"wall  {said}", markup=False, soft_wrap=True)
    made = submissions()
    marker = folder / "submitted"
    if folder.exists() and any(folder.iterdir()) and not marker.is_dir():
        raise FileExistsError(f"{folder} holds something else: name another folder (--folder)")
    shutil.rmtree(folder, ignore_errors=True)
    for submission in made:
        write(submission, marker)
    graded = grade_class(UNIT, marker, jobs=jobs, isolation=isolation, watch=watch)
    classes.show(graded, out)
    pages = write_class(UNIT, marker)
    out.print(f"feedback  {pages[0].parents[2]} ({len(pages)} pages)", soft_wrap=True)
    wrong = [*graded.failures, *differences(graded, made)]
    for line in wrong:
        out.print(f"WRONG  {line}", style="red", markup=False, soft_wrap=True)
    if not wrong:
        out.print(f"all {len(made)} submissions got what they have earned", style="green")
    return wrong
