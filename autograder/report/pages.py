"""Feedback pages for a graded class: one for each notebook that was graded."""

from pathlib import Path

import nbformat

from autograder.grading.nbgrader import NbgraderClass
from autograder.report.feedback import write_feedback


def write_class(unit: str, submitted: Path, db: str | None = None) -> list[Path]:
    """Write feedback/STUDENT/UNIT/NAME.html beside the folder of submissions.

    Raises:
        FileNotFoundError: nothing was graded yet.
    """
    book = NbgraderClass(submitted, db)
    graded = sorted((book.folder / "autograded").glob(f"*/{unit}/*.ipynb"))
    if not graded:
        missing = book.folder / "autograded"
        raise FileNotFoundError(f"nothing graded in {missing}: run `autograder grade {unit}` first")
    return [_write(book, unit, path) for path in graded]


def _write(book: NbgraderClass, unit: str, path: Path) -> Path:
    student = path.parts[-3]
    return write_feedback(
        nbformat.read(path, as_version=4),
        book.folder,
        student=student,
        unit=unit,
        name=path.stem,
        late_penalty=book.late_penalty(unit, student, path.stem),
    )
