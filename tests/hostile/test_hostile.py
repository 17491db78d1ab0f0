"""The corpus, case by case: each notebook earns exactly what its honest part has earned."""

import re
import time
from html.parser import HTMLParser
from pathlib import Path

import corpus
import damage
import nbformat
import pytest
import toy
from corpus import Case
from safety import FORK, Outside, assert_walled, descendants, left_behind

from autograder.grading import forkserver
from autograder.grading import grade as grading
from autograder.grading.forkserver import ForkServer
from autograder.grading.grade import Graded
from autograder.grading.submission import UnreadableSubmission, read_submission
from autograder.report.feedback import write_feedback

CASES = corpus.read_corpus()
MAX_NOTEBOOK = 30_000_000  # bytes of a judged notebook, whatever its cells have shown
LIMIT = 60.0  # seconds for one case, on a busy machine; most take less than two


def shorten(patch: pytest.MonkeyPatch) -> None:
    """A cell has two seconds, so that endless ones do not take a class's time."""
    patch.setattr(grading, "CELL_LIMIT", 2.0)
    patch.setattr(grading, "LATER_CELL_LIMIT", 1.0)
    patch.setattr(grading, "CALL_LIMIT", 2.0)
    patch.setattr(grading, "CALLS_LIMIT", 3.0)
    patch.setattr(grading, "CELLS_LIMIT", 5.0)
    patch.setattr(grading, "SPENT_CELL_LIMIT", 0.5)
    patch.setattr(forkserver, "INTERRUPT_GRACE", 0.5)


@pytest.fixture(autouse=True)
def short_limits(monkeypatch):
    shorten(monkeypatch)


def grade_case(case: Case, submitted: Path, outside: Outside, server: ForkServer) -> Graded:
    """Grade one case as a submission of the toy unit."""
    path = corpus.hand_in(case, submitted, outside.words)
    try:
        submission = read_submission(path, within=submitted)
    except UnreadableSubmission as error:
        return grading.unreadable(toy.release(), toy.EXERCISES, str(error))
    return grading.grade(submission, toy.release(), toy.EXERCISES, server, lambda e, v: None)


@pytest.mark.parametrize("case", CASES, ids=[case.name for case in CASES])
def test_it_earns_what_its_honest_part_has_earned(case, server, outside, tmp_path):
    before = descendants(outside.words["MARKER"])
    start = time.monotonic()
    found = grade_case(case, tmp_path / "submitted", outside, server)
    assert time.monotonic() - start < LIMIT

    earned = {verdict.exercise: verdict.marks for verdict in found.verdicts}
    assert earned == case.marks, [v.plain() for v in found.verdicts if v.marks != v.points]
    assert marks_in(found) == case.marks
    text = nbformat.writes(found.notebook)
    assert len(text.encode()) < MAX_NOTEBOOK
    nbformat.validate(nbformat.reads(text, as_version=4))
    assert outside.token not in text
    assert not case.shows or re.search(case.shows, shown(found)), shown(found)[:3000]
    assert not case.never or not re.search(case.never, shown(found)), shown(found)[:3000]

    outside.assert_untouched()
    assert left_behind(outside.words["MARKER"], before) == set()
    page = write_feedback(found.notebook, tmp_path, student=case.name, unit=toy.UNIT, name="toy")
    assert outside.token not in page.read_text()
    assert dangers(page.read_text()) == []


def marks_in(found: Graded) -> dict[str, float]:
    """The marks as nbgrader reads them from the judged notebook."""
    from nbgrader.utils import determine_grade

    tests = [c for c in found.notebook.cells if c.metadata.get("nbgrader", {}).get("grade")]
    assert all(cell.metadata.nbgrader.points == toy.POINTS for cell in tests)
    marks = {c.metadata.nbgrader.grade_id.removeprefix("test_"): c for c in tests}
    return {name: determine_grade(cell)[0] or 0.0 for name, cell in marks.items()}


def shown(found: Graded) -> str:
    """What the student's cells have shown, and the notes."""
    outputs = [output for cell in found.notebook.cells for output in cell.get("outputs", [])]
    parts = list(found.notes)
    for output in outputs:
        parts += [output.get("text", ""), output.get("evalue", "")]
        parts += [str(value) for value in output.get("data", {}).values()]
    return "\n".join(parts)


class Dangers(HTMLParser):
    """Elements and attributes by which a page runs, loads or sends something."""

    ELEMENTS = (
        *("applet", "audio", "base", "button", "embed", "form", "frame", "frameset", "iframe"),
        *("input", "link", "math", "object", "script", "source", "textarea", "track", "video"),
    )

    def __init__(self) -> None:
        super().__init__()
        self.found: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag in self.ELEMENTS:
            self.found.append(tag)
        for name, value in attrs:
            value = (value or "").strip()
            kept = {"href": r"https://.*|#.*", "src": r"data:image/[a-z+]+;base64,[\w+/=]*"}
            if name.startswith("on") or name in ("srcdoc", "action", "formaction", "background"):
                self.found.append(f"{tag} {name}")
            elif name in kept and not re.fullmatch(kept[name], value):
                self.found.append(f"{tag} {name}={value[:80]}")
            elif name == "style" and re.search(r"url|import|expression|position", value):
                self.found.append(f"{tag} style={value[:80]}")
            elif name == "http-equiv" and value.lower() != "content-security-policy":
                self.found.append(f"{tag} {name}={value}")


def dangers(page: str) -> list[str]:
    """What of a page could do something; the policy that forbids it must stand there, too."""
    parser = Dangers()
    parser.feed(page)
    policy = re.search(r'<meta http-equiv="Content-Security-Policy" content="([^"]*)"', page)
    missing = (
        [] if policy and "default-src 'none'" in policy[1].replace("&#39;", "'") else ["no CSP"]
    )
    return parser.found + missing


def test_dangers_are_seen():
    page = "<script></script><a href='javascript:x'>x</a><img src=x onerror=y>"
    assert dangers(page) == ["script", "a href=javascript:x", "img src=x", "img onerror", "no CSP"]


@pytest.mark.parametrize("answers", ["right", "wrong", "stub"])
def test_without_an_attack_the_toy_unit_earns_what_it_should(answers, server, outside, tmp_path):
    marks = dict.fromkeys(toy.EXERCISES, toy.POINTS if answers == "right" else 0.0)
    case = Case("honest", "", "", "forgery", marks, "# %%\nimport torch\n", answers)
    found = grade_case(case, tmp_path, outside, server)
    assert {v.exercise: v.marks for v in found.verdicts} == marks
    assert found.notes == [] and marks_in(found) == marks


def test_the_corpus_covers_what_it_should():
    kinds = [case.kind for case in CASES]
    assert kinds.count("hostile") >= 60 and kinds.count("forgery") >= 60
    assert len({case.tries for case in CASES}) == len(CASES)
    named = {case.damage for case in CASES if case.damage}
    assert named == damage.OF_NOTEBOOKS.keys() | damage.OF_FILES.keys()


def test_nothing_runs_where_no_wall_stands():
    with ForkServer(isolation="none") as server:
        process = FORK(server)
        with pytest.raises(pytest.exit.Exception, match="no wall around"):
            assert_walled(process)
        assert not process.alive
