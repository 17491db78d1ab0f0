"""The corpus's forgeries against stock nbgrader and against ours: `python benchmarks/forgeries.py`.

The toy unit of tests/hostile is made into a classical assignment, whose hidden tests are assert
cells. Stock nbgrader grades one class of all forgeries, inside bubblewrap: no network, one writable
folder, no capability, an ordinary user. Our marks come from the same submissions behind the
grader's own wall. Writes docs/forgeries.md.
"""

import os
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import nbformat
from nbformat import NotebookNode
from nbgrader.api import Gradebook

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests" / "hostile"))

import corpus
import damage
import toy
from corpus import Case

from autograder.grading import wall
from autograder.grading.forkserver import ForkServer
from autograder.grading.grade import grade, unreadable
from autograder.grading.inside.confine import UNPRIVILEGED
from autograder.grading.submission import UnreadableSubmission, read_submission

PAGE = Path(__file__).resolve().parents[1] / "docs" / "forgeries.md"
BEGIN, END = "<!-- measured -->\n", "<!-- end -->\n"
HIDDEN = {
    "half": """x = torch.randn(3, 4)
torch.testing.assert_close(half(x), x / 2)
before = x.clone()
half(x)
assert torch.equal(x, before)""",
    "soft_max": """x = 1000 * torch.randn(2, 3, 4)
torch.testing.assert_close(soft_max(x), torch.softmax(x, -1))""",
    "running_mean": """first, second = RunningMean(), RunningMean()
for n, number in enumerate([0.5, -2.0, 4.0], 1):
    assert abs(first.update(number) - sum([0.5, -2.0, 4.0][:n]) / n) < 1e-6
    second.update(-number)
assert first.update(1.0) == 0.875""",
    "cube": """x = torch.randn(2, 3, requires_grad=True)
cube(x).sum().backward()
torch.testing.assert_close(x.grad, 3 * x.detach() ** 2)""",
}
CONFIG = """
c = get_config()
c.CourseDirectory.course_id = "stock"
c.CourseDirectory.root = {root!r}
c.ExecutePreprocessor.timeout = 20
c.ClearSolutions.code_stub = {{"python": "raise NotImplementedError"}}
"""
HOUSE = "/stock"  # where the course lies in the sandbox
CONTROLS = {"right": 8.0, "wrong": 0.0, "stub": 0.0}


def classical() -> NotebookNode:
    """The instructor's notebook, its hidden tests in it."""
    notebook = toy.source()
    for cell in notebook.cells:
        name = cell.id.removeprefix("test-")
        if cell.id.startswith("test-"):
            hidden = f"### BEGIN HIDDEN TESTS\n{HIDDEN[name]}\n### END HIDDEN TESTS"
            cell.source = f"{cell.source}\n{hidden}"
    return notebook


def forgeries() -> list[Case]:
    """The corpus's forgeries that stock nbgrader can be shown without harm, and honest ones."""
    honest = [
        Case(f"honest_{name}", f"nothing: {name} answers", "", "forgery", {}, "# %%\n", name)
        for name in CONTROLS
    ]
    return [
        *honest,
        *(
            c
            for c in corpus.read_corpus()
            if c.kind == "forgery" and c.damage not in damage.OF_FILES
        ),
    ]


def sandbox(folder: Path, program: list[str]) -> list[str]:
    """The grader's wall around another program, without what its fork server may do."""
    walled = wall.walled(program)
    for name in [*wall.NEEDS, "CAP_SETFCAP"]:
        if name in walled:
            del walled[walled.index(name) - 1 : walled.index(name) + 1]
    end = walled.index("--remount-ro")
    options = ["--bind", str(folder), HOUSE]
    if os.getuid() == 0:
        options += [
            word for n in ("SETUID", "SETGID", "SETPCAP") for word in ("--cap-add", f"CAP_{n}")
        ]
        start = walled.index("--") + 1
        become = ["setpriv", "--reuid", str(UNPRIVILEGED), "--regid", str(UNPRIVILEGED)]
        become += ["--clear-groups", "--bounding-set", "-all", "--no-new-privs", "--"]
        walled[start:start] = become
    return [*walled[:end], *options, *walled[end:]]


def stock(folder: Path, cases: list[Case], words: dict[str, str]) -> dict[str, dict[str, float]]:
    """What stock nbgrader gives each case."""
    source = folder / "source" / toy.UNIT
    source.mkdir(parents=True)
    nbformat.write(classical(), source / f"{toy.NOTEBOOK}.ipynb")
    (folder / "nbgrader_config.py").write_text(CONFIG.format(root=HOUSE))
    for case in cases:
        corpus.hand_in(case, folder / "submitted", words)
    if os.getuid() == 0:
        for path in [folder, *folder.rglob("*")]:
            os.chown(path, UNPRIVILEGED, UNPRIVILEGED)
    path = f"{Path(sys.executable).parent}:/usr/bin:/bin"
    env = {"PATH": path, "HOME": HOUSE, "LANG": "C.UTF-8", "OMP_NUM_THREADS": "1"}
    for command in (["generate_assignment", toy.UNIT], ["autograde", toy.UNIT]):
        program = [sys.executable, "-m", "nbgrader", *command]
        there = ["sh", "-c", 'cd "$0" && exec "$@"', HOUSE, *program]
        with (folder / "log").open("a") as log:
            subprocess.run(sandbox(folder, there), env=env, stdout=log, stderr=log)
    marks: dict[str, dict[str, float]] = {}
    with Gradebook(f"sqlite:///{folder / 'gradebook.db'}") as book:
        for submission in book.assignment_submissions(toy.UNIT):
            grades = [grade for notebook in submission.notebooks for grade in notebook.grades]
            marks[submission.student.id] = {g.name: g.score or 0.0 for g in grades}
    return marks


def ours(folder: Path, cases: list[Case], words: dict[str, str]) -> dict[str, float]:
    """What our grader gives each case."""
    marks = {}
    with ForkServer() as server:
        for case in cases:
            path = corpus.hand_in(case, folder / "ours", words)
            try:
                notebook = read_submission(path, within=folder / "ours")
                found = grade(notebook, toy.release(), toy.EXERCISES, server, lambda e, v: None)
            except UnreadableSubmission as error:
                found = unreadable(toy.release(), toy.EXERCISES, str(error))
            marks[case.name] = found.marks
    return marks


def earned(case: Case) -> float:
    """The marks of its honest part."""
    return CONTROLS[case.answers] if case.name.startswith("honest_") else sum(case.marks.values())


def table(cases: list[Case], theirs: dict[str, dict[str, float]], mine: dict[str, float]) -> str:
    """The comparison as Markdown."""
    lines = ["| what it tries | earned | stock nbgrader | ours |", "|---|---:|---:|---:|"]
    wrong = {"stock": 0, "ours": 0}
    for case in cases:
        right, given = earned(case), theirs.get(case.name)
        total = sum(given.values()) if given else None
        shown = "not graded" if total is None else f"{total:g}"
        wrong["stock"] += total != right
        wrong["ours"] += mine[case.name] != right
        mark = "" if total == right else "**"
        lines.append(f"| {case.tries} | {right:g} | {mark}{shown}{mark} | {mine[case.name]:g} |")
    date = time.strftime("%Y-%m-%d")
    said = (
        f"{len(cases)} submissions, 8 points each; {date}. Other marks than were earned: "
        f"stock nbgrader {wrong['stock']}, ours {wrong['ours']}.\n\n"
    )
    return said + "\n".join(lines) + "\n"


def main() -> None:
    """Grade both ways and write the page."""
    words = {
        "CANARY": "/nowhere", "GRADEBOOK": "/nowhere", "OTHER": "/nowhere", "PICKLED": "/nowhere",
        "MARKER": "marker", "NOTE": "note", "ABSTRACT": "nobody", "SOCKET": "/nowhere", "PORT": "9",
    }  # fmt: skip
    cases = forgeries()
    folder = Path(tempfile.mkdtemp(prefix="forgeries-"))
    folder.chmod(0o755)
    try:
        mine = ours(folder, cases, words)
        start = time.monotonic()
        theirs = stock(folder, cases, words)
        print(f"stock nbgrader: {len(cases)} submissions in {time.monotonic() - start:.0f} s")
        page = PAGE.read_text()
        before, after = page.partition(BEGIN)[0], page.partition(END)[2]
        PAGE.write_text(before + BEGIN + table(cases, theirs, mine) + END + after)
        print(table(cases, theirs, mine))
    finally:
        shutil.rmtree(folder)


if __name__ == "__main__":
    main()
