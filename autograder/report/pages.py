"""Feedback pages for a graded class: one for each notebook that was graded."""

from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import nbformat

from autograder.grading.nbgrader import NbgraderClass
from autograder.report.feedback import write_feedback


def write_class(unit: str, submitted: Path, db: str | None = None) -> list[Path]:
    """Write feedback/STUDENT/UNIT/NAME.html beside the folder of submissions.

    Raises:
        FileNotFoundError: nothing was graded yet.
        GradebookError: the gradebook cannot be read.
    """
    book = NbgraderClass(submitted, db)
    graded = sorted((book.folder / "autograded").glob(f"*/{unit}/*.ipynb"))
    if not graded:
        missing = book.folder / "autograded"
        raise FileNotFoundError(f"nothing graded in {missing}: run `autograder grade {unit}` first")
    penalties = [book.late_penalty(unit, path.parts[-3], path.stem) for path in graded]
    with ProcessPoolExecutor() as pool:
        return list(pool.map(_write, [book.folder] * len(graded), graded, penalties))


def _write(root: Path, path: Path, late_penalty: float) -> Path:
    student, unit = path.parts[-3:-1]
    return write_feedback(
        nbformat.read(path, as_version=4),
        root,
        student=student,
        unit=unit,
        name=path.stem,
        late_penalty=late_penalty,
    )
