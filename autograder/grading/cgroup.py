"""A control group for one fork server and all its children, where one can be made.

A limit of a process is each child's own; a group counts them together. Version 1 and 2 of the
kernel's interface are used where this user may write there, and silently not where it may not.
"""

import contextlib
import itertools
import os
import shlex
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

MOUNT = Path("/sys/fs/cgroup")
MAX_MEMORY = 6 * 2**30  # bytes: the fork server and one student's processes
MAX_TASKS = 256  # processes and threads

_names = itertools.count()
_LIMITS = {  # version 2, version 1
    "memory": (("memory.max", "memory.limit_in_bytes"), MAX_MEMORY),
    "pids": (("pids.max", "pids.max"), MAX_TASKS),
}


class Group:
    """One control group; `folders` is empty where none could be made."""

    def __init__(self, mount: Path = MOUNT) -> None:
        self.folders: list[Path] = []
        self.limits: list[str] = []
        name = f"dlcourse-{os.getpid()}-{next(_names)}"
        for parent, controllers in _parents(mount):
            _sweep(parent)
            folder = parent / name
            limited = []
            with contextlib.suppress(OSError):
                folder.mkdir()
                limited = [c for c in controllers if c not in self.limits and _limit(folder, c)]
            if limited:
                self.folders.append(folder)
                self.limits += limited
            else:
                with contextlib.suppress(OSError):
                    folder.rmdir()

    def around(self, program: Sequence[str]) -> list[str]:
        """The command that runs `program` in this group."""
        if not self.folders:
            return list(program)
        steps = [f"echo $$ > {shlex.quote(str(f / 'cgroup.procs'))}" for f in self.folders]
        return ["/bin/sh", "-c", " && ".join([*steps, 'exec "$@"']), "sh", *program]

    def close(self) -> None:
        """Remove the group, when its processes have ended."""
        for folder in self.folders:
            for _ in range(20):
                try:
                    folder.rmdir()
                except FileNotFoundError:
                    pass
                except OSError:  # the last process is being buried
                    time.sleep(0.05)
                    continue
                break
        self.folders = []


def _sweep(parent: Path) -> None:
    """Remove the groups of graders that were killed."""
    for folder in parent.glob("dlcourse-*-*"):
        if not Path("/proc", folder.name.split("-")[1]).exists():
            with contextlib.suppress(OSError):
                folder.rmdir()


def _limit(folder: Path, controller: str) -> bool:
    """Set one limit; False where the folder does not have that controller."""
    names, most = _LIMITS[controller]
    for name in names:
        if (folder / name).exists():
            try:
                (folder / name).write_text(str(most))
            except OSError:
                return False
            return True
    return False


def _parents(mount: Path) -> Iterator[tuple[Path, list[str]]]:
    """Folders in which this process might make a group, and what it would limit there.

    /proc/self/cgroup has one line a hierarchy: `number:controllers:path`; version 2 names none.
    In version 2 a folder with processes in it cannot pass on controllers, so its parent is tried.
    """
    with contextlib.suppress(OSError):
        for line in Path("/proc/self/cgroup").read_text().splitlines():
            _, controllers, path = line.split(":", 2)
            inner = path.lstrip("/")
            if controllers:
                found = [name for name in controllers.split(",") if name in _LIMITS]
                if found:
                    yield mount / controllers / inner, found
            else:
                home = mount / inner
                yield home, list(_LIMITS)
                if inner:
                    yield home.parent, list(_LIMITS)
