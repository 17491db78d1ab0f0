"""The corpus's forgeries against stock nbgrader and against ours: `python benchmarks/forgeries.py`.

The toy unit of tests/hostile is made into a classical assignment, whose hidden tests are assert
cells. Stock nbgrader grades each forgery in a course of its own, inside bubblewrap: no network, one
writable folder, no capability, an ordinary user. Our marks come from the same submissions behind
the grader's own wall. Writes docs/forgeries.md.
"""

import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
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
    "soft_max": """import inspect
assert "softmax" not in inspect.getsource(soft_max)
x = 1000 * torch.randn(2, 3, 4)
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
# In the sandbox: the class as one command, then those that it left out, one by one.
PROGRAM = f"""
import pathlib, subprocess, sys
from nbgrader.apps.api import NbGraderAPI
from nbgrader.coursedir import CourseDirectory
from traitlets.config import Config
from traitlets.config.loader import PyFileConfigLoader
config = Config(PyFileConfigLoader("nbgrader_config.py", path="{HOUSE}").load_config())
api = NbGraderAPI(CourseDirectory(config=config), config=config)
assert api.generate_assignment("{toy.UNIT}")["success"]
subprocess.run([sys.executable, "-m", "nbgrader", "autograde", "{toy.UNIT}"])
done = {{path.parts[-2] for path in pathlib.Path("autograded").glob("*/*")}}
pathlib.Path("at_once").write_text(str(len(done)))
for path in sorted(pathlib.Path("submitted").iterdir()):
    if path.name not in done:
        print(path.name, api.autograde("{toy.UNIT}", path.name, create=True))
"""
CONTROLS = {"right": "right answers", "wrong": "wrong answers", "stub": "no answers"}
PROBE = """
import os
print(open("/proc/self/status").read())
print(sorted(line.split(":")[0].strip() for line in list(open("/proc/net/dev"))[2:]))
print("namespace", os.readlink("/proc/self/ns/pid"))
"""


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
    """Three controls, and the forgeries that mean something to stock nbgrader.

    Left out are damaged files, and what attacks a part that only our grader has.
    """
    honest = [
        Case(f"honest_{name}", f"nothing: {said}", "", "forgery", {}, "# %%\n", name)
        for name, said in CONTROLS.items()
    ]
    ours_alone = re.compile(r"inside\W|\"Child\"|recorder")
    return honest + [
        case
        for case in corpus.read_corpus()
        if case.kind == "forgery"
        and case.damage not in damage.OF_FILES
        and not case.name.startswith("wire_")
        and not ours_alone.search(case.cells)
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


def run(folder: Path, program: list[str]) -> subprocess.CompletedProcess[str]:
    """Run a program in the sandbox, in the course's folder."""
    path = f"{Path(sys.executable).parent}:/usr/bin:/bin"
    env = {"PATH": path, "HOME": HOUSE, "LANG": "C.UTF-8", "OMP_NUM_THREADS": "1"}
    there = ["sh", "-c", 'cd "$0" && exec "$@"', HOUSE, *program]
    return subprocess.run(sandbox(folder, there), env=env, capture_output=True, text=True)


def assert_walled(folder: Path) -> None:
    """Stop unless the sandbox takes network, capabilities and processes away."""
    said = run(folder, [sys.executable, "-c", PROBE]).stdout
    wanted = ("CapEff:\t" + "0" * 16, "CapBnd:\t" + "0" * 16, "NoNewPrivs:\t1", "['lo']")
    if not all(word in said for word in wanted) or os.readlink("/proc/self/ns/pid") in said:
        sys.exit(f"no sandbox, so no forgery is run:\n{said}")


def new_course(folder: Path) -> None:
    """A course of stock nbgrader with the classical assignment in it."""
    source = folder / "source" / toy.UNIT
    source.mkdir(parents=True)
    nbformat.write(classical(), source / f"{toy.NOTEBOOK}.ipynb")
    (folder / "nbgrader_config.py").write_text(CONFIG.format(root=HOUSE))
    _give_away(folder)
    assert_walled(folder)
    made = run(folder, [sys.executable, "-m", "nbgrader", "generate_assignment", toy.UNIT])
    if made.returncode:
        sys.exit(made.stderr)


def _give_away(folder: Path) -> None:
    if os.getuid() == 0:
        for path in [folder, *folder.rglob("*")]:
            os.chown(path, UNPRIVILEGED, UNPRIVILEGED)


def stock(course: Path, case: Case, words: dict[str, str]) -> float | None:
    """What stock nbgrader gives a case; None where it gives no marks but an error."""
    folder = course.with_name(f"stock-{case.name}")
    shutil.copytree(course, folder)
    corpus.hand_in(case, folder / "submitted", words)
    _give_away(folder)
    done = run(folder, [sys.executable, "-m", "nbgrader", "autograde", toy.UNIT])
    with Gradebook(f"sqlite:///{folder / 'gradebook.db'}") as book:
        found = [book.find_submission(toy.UNIT, case.name).score] if not done.returncode else [None]
    shutil.rmtree(folder)
    return found[0]


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
    controls = {"honest_right": len(toy.EXERCISES) * toy.POINTS, "honest_wrong": 0.0}
    return controls.get(case.name, sum(case.marks.values()))


def table(cases: list[Case], theirs: list[float | None], mine: dict[str, float]) -> str:
    """The comparison as Markdown."""
    lines = ["| what it tries | earned | stock nbgrader | ours |", "|---|---:|---:|---:|"]
    count = {"more": 0, "less": 0, "none": 0, "ours": 0}
    for case, given in zip(cases, theirs, strict=True):
        right = earned(case)
        more, less = given is not None and given > right, given is not None and given < right
        for what, is_so in {"more": more, "less": less, "none": given is None}.items():
            count[what] += is_so
        count["ours"] += mine[case.name] != right
        shown = "an error" if given is None else f"**{given:g}**" if more else f"{given:g}"
        lines.append(f"| {case.tries} | {right:g} | {shown} | {mine[case.name]:g} |")
    said = (
        f"{len(cases)} submissions of {len(toy.EXERCISES) * toy.POINTS:g} points each, "
        f"{time.strftime('%Y-%m-%d')}. Stock nbgrader gave {count['more']} of them more than they "
        f"had earned and {count['less']} less, and gave up on {count['none']} with an error; ours "
        f"gave {count['ours']} of them other marks than they had earned.\n\n"
    )
    return said + "\n".join(lines) + "\n"


def main() -> None:
    """Grade both ways and write the page."""
    words = {
        "CANARY": "/nowhere", "GRADEBOOK": "/nowhere", "OTHER": "/nowhere", "PICKLED": "/nowhere",
        "MARKER": "marker", "NOTE": "note", "ABSTRACT": "nobody", "SOCKET": "/nowhere", "PORT": "9",
    }  # fmt: skip
    cases = [c for c in forgeries() if not sys.argv[1:] or re.search(sys.argv[1], c.name)]
    folder = Path(tempfile.mkdtemp(prefix="forgeries-"))
    folder.chmod(0o755)
    try:
        course = folder / "course"
        new_course(course)
        start = time.monotonic()
        with ThreadPoolExecutor(os.cpu_count() or 1) as threads:
            theirs = list(threads.map(lambda case: stock(course, case, words), cases))
        print(f"stock nbgrader: {len(cases)} submissions in {time.monotonic() - start:.0f} s")
        made = table(cases, theirs, ours(folder, cases, words))
    finally:
        shutil.rmtree(folder)
    print(made)
    if not sys.argv[1:]:  # a pattern of names is for trying
        page = PAGE.read_text()
        before, after = page.partition(BEGIN)[0], page.partition(END)[2]
        PAGE.write_text(before + BEGIN + made + END + after)


if __name__ == "__main__":
    main()
