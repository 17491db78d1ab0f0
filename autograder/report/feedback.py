"""One judged notebook as one HTML page: marks, reasons, named mistakes, the student's own cells.

All of the page except marks, hints and check messages was written by a student or by a student's
program, so three lines of defence stand behind one another: text is escaped (`markupsafe`), HTML
goes through an allowlist (`sanitise.py`), and the page's Content-Security-Policy lets no script,
font, frame or request through. The page is self-contained and its size is bounded whatever the
notebook printed.
"""

import os
import re
from functools import lru_cache
from pathlib import Path
from typing import Any

import jinja2
from markupsafe import Markup
from nbformat import NotebookNode

from autograder.report.blocks import Body, plan_page
from autograder.report.text import as_dict, as_list, format_number, prose, short
from autograder.report.verdicts import advice, totals

CSP = "default-src 'none'; img-src data:; style-src 'unsafe-inline'"
MAX_PAGE = 1_900_000  # bytes of the whole page

_SOURCES = Path(__file__).parent


@lru_cache(maxsize=1)
def _template() -> jinja2.Template:
    loader = jinja2.FileSystemLoader(_SOURCES)
    environment = jinja2.Environment(
        loader=loader, autoescape=True, trim_blocks=True, undefined=jinja2.StrictUndefined
    )
    environment.filters["prose"], environment.filters["number"] = prose, format_number
    return environment.get_template("feedback.html.j2")


@lru_cache(maxsize=1)
def _css() -> Markup:
    return Markup((_SOURCES / "feedback.css").read_text(encoding="utf-8").strip())


def feedback_html(
    notebook: NotebookNode,
    *,
    student: str,
    unit: str,
    name: str,
    graded_at: str | None = None,
    late_penalty: float = 0.0,
) -> str:
    """One self-contained page of one judged notebook.

    Args:
        notebook: the judged notebook. Read are `cell.metadata.nbgrader` (`solution`, `grade`,
            `points`, `comment`), `cell.metadata.autograder` (`exercise`, `marks`, `points`,
            `checks`, `diagnosis`, `note`, `student`) and `notebook.metadata.autograder["notes"]`;
            each may be missing or malformed.
        student: the student's name or id; untrusted text, as all that the notebook holds.
        unit: the assignment, e.g. "01_backprop".
        name: the notebook, e.g. "autodiff".
        graded_at: when it was graded, shown as it is.
        late_penalty: points taken off the total, which does not fall below 0.

    Returns:
        HTML without scripts, loading nothing from outside, at most `MAX_PAGE` bytes as UTF-8.
    """
    plan = plan_page(notebook)
    notes = as_list(as_dict(as_dict(notebook.get("metadata")).get("autograder")).get("notes"))
    fixed: dict[str, Any] = {
        "csp": CSP,
        "css": _css(),
        "student": short(student, 200),
        "unit": short(unit, 200),
        "name": short(name, 200),
        "graded_at": short(graded_at, 100),
        "notes": [prose(note) for note in notes[:50]],
        "verdicts": plan.verdicts,
        "advice": advice(plan.verdicts),
        **totals(plan.verdicts, late_penalty),
    }
    # Verdicts and glyphs count against no room; where they are large, the rest gets less.
    for room in (1_600_000, 500_000, 0):
        body = Body(plan, room)
        blocks = body.build()
        page = _template().render(fixed, blocks=blocks, glyphs=body.cells.math.definitions())
        if len(page.encode()) <= MAX_PAGE:
            break
    return page


def _component(value: str, what: str) -> str:
    """A name that is one component of a path; anything that could climb out is refused."""
    if value in ("", ".", "..") or re.search(r"[/\\\x00-\x1f]", value):
        raise ValueError(f"{what} {value!r} cannot be the name of a folder: rename it")
    return value


def write_feedback(
    notebook: NotebookNode,
    root: Path,
    *,
    student: str,
    unit: str,
    name: str,
    graded_at: str | None = None,
    late_penalty: float = 0.0,
) -> Path:
    """Write the page to ROOT/feedback/STUDENT/UNIT/NAME.html, which is where nbgrader looks for it.

    A reader sees the old page or the new one, never half of one.

    Returns:
        The path of the page.

    Raises:
        ValueError: a name would lead out of the folder.
        OSError: the folder cannot be written.
    """
    folder = root / "feedback" / _component(student, "student") / _component(unit, "unit")
    path = folder / f"{_component(name, 'notebook')}.html"
    page = feedback_html(
        notebook,
        student=student,
        unit=unit,
        name=name,
        graded_at=graded_at,
        late_penalty=late_penalty,
    )
    folder.mkdir(parents=True, exist_ok=True)
    part = folder / f".{os.getpid()}.part"
    try:
        part.write_text(page, encoding="utf-8", newline="\n")
        part.replace(path)
    finally:
        part.unlink(missing_ok=True)
    return path
