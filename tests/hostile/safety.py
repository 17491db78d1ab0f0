"""The wall that must stand, what lies outside of it, and what must not be left behind."""

import os
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path

import cloudpickle
import psutil
import pytest

from autograder.grading.forkserver import ForkServer, StudentProcess

BURIAL = 3.0  # seconds; the kernel needs hundredths of one on a quiet machine
MARK = "HOSTILE_TEST"  # in the environment of the fork server and of all that it starts

FORK = ForkServer.child  # without the question for the wall, which conftest puts before it

cloudpickle.register_pickle_by_value(sys.modules[__name__])


def _wall(student: object) -> dict[str, object]:
    """Asked of a fresh student's process, before anything of a notebook runs in it."""
    import os

    with open("/proc/self/status") as file:
        status = dict(line.rstrip("\n").split(":\t", 1) for line in file if ":\t" in line)
    return {
        "pid": os.getpid(),
        "namespace": os.readlink("/proc/self/ns/pid"),
        "net": os.readlink("/proc/self/ns/net"),
        **{key: status[key].strip() for key in ("CapEff", "CapPrm", "NoNewPrivs", "Seccomp")},
    }


def assert_walled(process: StudentProcess) -> None:
    """End the whole run unless this process stands behind the wall."""
    import conftest
    from cloudpickle import register_pickle_by_value

    register_pickle_by_value(conftest)
    try:
        found = process.probe(_wall, (), {}, 10.0, [])[0]
    except Exception as error:
        found = {"error": repr(error)}
    wanted = {"pid": 1, "NoNewPrivs": "1", "Seccomp": "2"}
    wanted |= {"CapEff": "0" * 16, "CapPrm": "0" * 16}
    same = [os.readlink(f"/proc/self/ns/{kind}") for kind in ("pid", "net")]
    stands = isinstance(found, dict) and all(found.get(k) == v for k, v in wanted.items())
    if not stands or found["namespace"] in same or found["net"] in same:
        process.close()
        pytest.exit(f"no wall around the student's process: {found}; nothing hostile was run", 3)


@dataclass
class Outside:
    """What is to be read, written or reached, and has not to be."""

    folder: Path
    token: str
    words: dict[str, str]
    connections: list[object] = field(default_factory=list)
    untouched: dict[Path, bytes] = field(default_factory=dict)

    def assert_untouched(self) -> None:
        """Nobody has connected, written or left a file."""
        assert self.connections == []
        for path, content in self.untouched.items():
            assert path.read_bytes() == content
        assert {p for p in self.folder.rglob("*") if p.is_file()} == set(self.untouched)


def descendants(marker: str) -> set[int]:
    """Every process of this machine that the fork server has started, orphans too."""
    found = set()
    wanted = f"{MARK}={marker}".encode()
    for process in psutil.process_iter():
        try:
            environment = Path(f"/proc/{process.pid}/environ").read_bytes()
        except OSError:
            continue
        if wanted in environment.split(b"\0"):
            found.add(process.pid)
    return found


def left_behind(marker: str, before: set[int]) -> set[int]:
    """Processes that were not there before; those that were killed have a moment to be gone."""
    deadline = time.monotonic() + BURIAL
    while (left := descendants(marker) - before) and time.monotonic() < deadline:
        time.sleep(0.01)
    return left
