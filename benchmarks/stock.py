"""Grading a class, beside stock nbgrader: `python benchmarks/stock.py [--students 6]`.

In one run, on the same notebooks of unit 01 and in the same profile: stock `nbgrader autograde`
(its own preprocessors, one process for the whole class, all cores) and `autograder grade` with one
worker and with two; then what each notebook costs besides its own cells, and a child's memory.
Results with machine and date are kept in benchmarks/results.md.
"""

import argparse
import compileall
import json
import os
import platform
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import psutil
import torch
from nbgrader.api import Gradebook

from autograder import demo
from autograder.contract import RELEASE
from autograder.demo_class import submissions
from autograder.grading.fanout import prepare_worker, tools
from autograder.grading.forkserver import ForkServer
from autograder.grading.grade import Graded, grade_file

REPOSITORY = RELEASE.parent
WRONG = ("04-mistakes-a", "05-mistakes-b", "06-mistakes-c", "07-mistakes-d")
STOCK = """
c = get_config()
c.CourseDirectory.course_id = "stock"
c.CourseDirectory.root = {root!r}
"""


def students(count: int) -> list[demo.Submission]:
    """The reference solution, with a wrong one in every third place."""
    wrong = [submission for submission in submissions() if submission.name in WRONG]
    made = []
    for number in range(count):
        right = demo.Submission("reference")
        like = right if number % 3 != 2 else wrong[number // 3 % len(wrong)]
        made.append(replace(like, name=f"student{number:03d}"))
    return made


def write_class(folder: Path, count: int) -> Path:
    """A class's folder of submissions."""
    for submission in students(count):
        demo.write(submission, folder / "submitted")
    return folder / "submitted"


def run(*command: str, cwd: Path, **environment: str) -> tuple[float, str]:
    """Seconds that a command took, and what it printed; it has to succeed."""
    paths = os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", os.defpath)])
    start = time.perf_counter()
    done = subprocess.run(
        command,
        cwd=cwd,
        env={**os.environ, "PATH": paths, "COURSE_PROFILE": "grade", **environment},
        capture_output=True,
        text=True,
    )
    if done.returncode:
        sys.exit(f"{' '.join(command)} failed:\n{done.stderr[-3000:]}")
    return time.perf_counter() - start, done.stdout


def stock(folder: Path, count: int) -> float:
    """Seconds that stock nbgrader takes for a class; its marks have to be the earned ones."""
    write_class(folder, count)
    (folder / "source" / demo.UNIT).mkdir(parents=True)
    for path in (REPOSITORY / "source" / demo.UNIT).glob("*.ipynb"):
        shutil.copy(path, folder / "source" / demo.UNIT)
    (folder / "nbgrader_config.py").write_text(STOCK.format(root=str(folder)))
    path = os.pathsep.join([str(REPOSITORY), os.environ.get("PYTHONPATH", "")]).strip(os.pathsep)
    nbgrader = (sys.executable, "-m", "nbgrader")
    run(*nbgrader, "generate_assignment", demo.UNIT, cwd=folder, PYTHONPATH=path)
    seconds, _ = run(*nbgrader, "autograde", demo.UNIT, cwd=folder, PYTHONPATH=path)
    with Gradebook(f"sqlite:///{folder / 'gradebook.db'}") as book:
        for made in students(count):
            found = book.find_submission(demo.UNIT, made.name)
            print(f"  stock: {made.name} {found.score:g} of {found.max_score:g}")
    return seconds


def ours(folder: Path, count: int, jobs: int, isolation: str) -> float:
    """Seconds that `autograder grade` takes for a class, start-up and gradebook included."""
    submitted = write_class(folder, count)
    command = [sys.executable, "-m", "autograder", "grade", demo.UNIT, "--submitted"]
    options = ["--jobs", str(jobs), "--isolation", isolation, "--json"]
    seconds, said = run(*command, str(submitted), *options, cwd=REPOSITORY)
    marks = {
        s["student"]: sum(m["marks"] for m in s["marks"]) for s in json.loads(said)["students"]
    }
    for made in students(count):
        if marks[made.name] != sum(demo.earned(made).values()):
            sys.exit(f"{made.name} got {marks[made.name]:g} marks, not what it has earned")
    return seconds


def notebooks(folder: Path, count: int, isolation: str) -> Iterator[Graded]:
    """Each notebook of a class, judged in this process as a worker does.

    The first students are not counted: with them come the known mistakes, which a worker runs once
    for each exercise, when it sees it wrong for the first time.
    """
    first = 3 * len(WRONG)
    submitted = write_class(folder, first + count)
    server, diagnose = tools(isolation)
    for number, made in enumerate(students(first + count)):
        for release in sorted((RELEASE / demo.UNIT).glob("*.ipynb")):
            data = (submitted / made.name / demo.UNIT / release.name).read_bytes()
            graded = grade_file(data, release.name, release, demo.UNIT, server, diagnose)
            if number >= first:
                yield graded


def private_memory(server: ForkServer) -> float:
    """MB that only a new child has, before its cells run."""
    known = set(psutil.Process().children(recursive=True))
    with server.child():
        born = set(psutil.Process().children(recursive=True)) - known
        rollup = [Path(f"/proc/{child.pid}/smaps_rollup").read_text() for child in born]
    lines = [line.split() for text in rollup for line in text.splitlines()]
    return sum(int(line[1]) for line in lines if line[0].startswith("Private_")) / 1000


def show(title: str, values: list[float]) -> None:
    """One line of the table: the median and the worst."""
    print(f"{title:58s} {statistics.median(values):8.3f} {max(values):8.3f}")


def main() -> None:
    """Run both and print the table."""
    parser = argparse.ArgumentParser(description=str(__doc__).partition("\n")[0])
    parser.add_argument("--students", type=int, default=6, help="the class that both grade")
    parser.add_argument("--steady", type=int, default=24, help="the larger class that ours grades")
    parser.add_argument("--isolation", default="bubblewrap")
    parser.add_argument("--without-stock", action="store_true")
    options = parser.parse_args()
    few, many, isolation = options.students, options.steady, options.isolation
    per = len(list((RELEASE / demo.UNIT).glob("*.ipynb")))
    for name in ("autograder", "course"):
        compileall.compile_dir(str(REPOSITORY / name), quiet=1)
    print(f"{few} and {many} students of {demo.UNIT}, {per} notebooks each; wall: {isolation}")
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder)
        theirs = None if options.without_stock else stock(place / "stock", few)
        found = {
            (jobs, count): ours(place / f"ours-{jobs}-{count}", count, jobs, isolation)
            for jobs in (1, 2)
            for count in (few, many)
        }
        prepare_worker()
        graded = list(notebooks(place / "parts", few, isolation))
        memory = private_memory(tools(isolation)[0])
        tools(isolation)[0].close()

    steady = {j: (found[j, many] - found[j, few]) / (many - few) for j in (1, 2)}
    if theirs is not None:
        print(
            f"stock nbgrader, {few} students      {theirs:8.1f} s {theirs / few:8.2f} s a student"
        )
    for (jobs, count), seconds in found.items():
        words = f"autograder grade --jobs {jobs}, {count:3d} students"
        ratio = f"{theirs / few / (seconds / count):6.1f} times stock" if theirs else ""
        print(f"{words} {seconds:8.1f} s {seconds / count:8.2f} s a student {ratio}")
    for jobs, seconds in steady.items():
        ratio = f"{theirs / few / seconds:6.1f} times stock" if theirs else ""
        print(f"  --jobs {jobs}, each further student {seconds:17.2f} s a student {ratio}")
    whole = found[1, many] / found[2, many]
    print(f"the second core is worth {steady[1] / steady[2]:.2f}, with the start {whole:.2f}")
    print(f"{'a notebook, seconds':58s} {'median':>8s} {'worst':>8s}")
    show("  all", [g.seconds for g in graded])
    show("  its own cells", [g.cells_seconds for g in graded])
    show("  added: all but its cells", [g.seconds - g.cells_seconds for g in graded])
    show("  of these, probes of its code", [g.probes_seconds for g in graded])
    show(
        "  added, without probes",
        [g.seconds - g.cells_seconds - g.probes_seconds for g in graded],
    )
    print(f"private memory of a child before its cells run: {memory:.0f} MB")
    print(f"{os.cpu_count()} cores, {platform.machine()}, torch {torch.__version__}")


if __name__ == "__main__":
    main()
