"""Memory while a class of 500 is graded: `python benchmarks/large_class.py [--students 500]`.

The unit is the tests' tiny one, two notebooks a student, so that the class and not its notebooks is
what grows. Prints the memory of the coordinator and of everything that it started, at each tenth.
"""

import argparse
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import psutil

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests"))

import tiny


def megabytes(process: psutil.Process) -> tuple[float, float]:
    """The process's own memory, and its children's; shared pages count in parts (PSS)."""
    own = process.memory_full_info().pss
    below = 0
    for child in process.children(recursive=True):
        try:
            below += child.memory_full_info().pss
        except psutil.Error:
            continue
    return own / 2**20, below / 2**20


def main() -> None:
    """Grade the class and print a table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--students", type=int, default=500)
    count = parser.parse_args().students
    with tempfile.TemporaryDirectory() as folder:
        home = Path(folder)
        tiny.make(home)
        for number in range(count):
            tiny.hand_in(home, f"student{number:03d}")
        start = time.monotonic()
        grader = subprocess.Popen(
            tiny.command(home),
            env=tiny.environment(home),
            cwd=home,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
        )
        process, marks = psutil.Process(grader.pid), [count * 2 * n // 10 for n in range(1, 10)]
        print("notebooks   coordinator   all below it   seconds")
        assert grader.stderr is not None
        for done, _ in enumerate(grader.stderr, 1):
            if done in marks:
                own, below = megabytes(process)
                seconds = time.monotonic() - start
                print(f"{done:9d}   {own:8.0f} MB   {below:9.0f} MB   {seconds:7.1f}", flush=True)
        grader.wait()
        print(f"{count} students in {time.monotonic() - start:.1f} s, {os.cpu_count()} cores")


if __name__ == "__main__":
    main()
