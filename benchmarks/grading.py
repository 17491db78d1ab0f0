"""What grading one submission costs, part by part: `python benchmarks/grading.py`.

Grades the reference solution of unit 01 three times in one process and prints the best of each
figure. Results with machine and date are kept in benchmarks/results.md.
"""

import os
import tempfile
import time
from functools import partial
from pathlib import Path

import torch

from autograder import demo
from autograder.contract import RELEASE
from autograder.grading.fanout import tools
from autograder.grading.grade import grade_file

RUNS = 3


def best(action) -> float:
    """Seconds of the fastest of a few runs."""
    seconds = []
    for _ in range(RUNS):
        start = time.perf_counter()
        action()
        seconds.append(time.perf_counter() - start)
    return min(seconds)


def fork() -> None:
    """Start a child, import nothing, end it."""
    with tools()[0].child() as child:
        child.run_module("pass", "<nothing>", 10.0)


def main() -> None:
    """Print one line a figure."""
    torch.set_num_threads(1)
    start = time.perf_counter()
    server, diagnose = tools()
    print(f"start of the fork server      {time.perf_counter() - start:6.2f} s")
    print(f"a fresh child                 {best(fork):6.3f} s")
    with tempfile.TemporaryDirectory() as folder:
        demo.write(demo.Submission("reference"), Path(folder))
        for release in sorted((RELEASE / demo.UNIT).glob("*.ipynb")):
            path = Path(folder) / "reference" / demo.UNIT / release.name
            seconds = best(partial(grade_file, path, release, demo.UNIT, server, diagnose))
            print(f"{release.stem:29s} {seconds:6.2f} s, judged")
    server.close()
    print(f"cores {os.cpu_count()}, torch {torch.__version__}")


if __name__ == "__main__":
    main()
