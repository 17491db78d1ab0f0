"""What grading one submission costs, part by part: `python benchmarks/grading.py`.

Grades the reference solution of unit 01 a few times in one process, as a worker does, and prints
the best of each figure. Results with machine and date are kept in benchmarks/results.md.
"""

import os
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import torch

from autograder import demo
from autograder.contract import RELEASE
from autograder.grading.fanout import prepare_worker, tools
from autograder.grading.grade import Graded, grade_file

RUNS = 4


def best(action: Callable[[], object]) -> float:
    """Seconds of the fastest of a few runs."""
    seconds = []
    for _ in range(RUNS):
        start = time.perf_counter()
        action()
        seconds.append(time.perf_counter() - start)
    return min(seconds)


def fork() -> None:
    """Start a child with its shell, run nothing, end it."""
    with tools()[0].child() as child:
        child.run_cell("", 10.0)


def judged(path: Path, release: Path) -> Graded:
    """The fastest of a few gradings of one notebook; the first one imports and caches."""
    data = path.read_bytes()
    graded = [grade_file(data, path.name, release, demo.UNIT, *tools()) for _ in range(1 + RUNS)]
    return min(graded[1:], key=lambda one: one.seconds - one.cells_seconds)


def main() -> None:
    """Print one line a figure."""
    prepare_worker()
    start = time.perf_counter()
    server, _ = tools()
    print(f"start of the fork server        {time.perf_counter() - start:6.2f} s")
    print(f"a fresh child with its shell    {best(fork):6.3f} s")
    with tempfile.TemporaryDirectory() as folder:
        demo.write(demo.Submission("reference"), Path(folder))
        for release in sorted((RELEASE / demo.UNIT).glob("*.ipynb")):
            one = judged(Path(folder) / "reference" / demo.UNIT / release.name, release)
            rest = one.seconds - one.cells_seconds - one.probes_seconds
            print(
                f"{release.stem:31s} {one.seconds:6.2f} s, judged: its cells "
                f"{one.cells_seconds:.2f}, probes of its code {one.probes_seconds:.3f}, "
                f"the rest {rest:.3f}"
            )
    server.close()
    print(f"cores {os.cpu_count()}, torch {torch.__version__}; wall: {server.isolation}")


if __name__ == "__main__":
    main()
