"""Limits that every process of a student has for itself; children of it inherit them."""

import resource
from pathlib import Path

MAX_MEMORY = 4 * 2**30  # bytes that a child may map beyond what it inherits
MAX_FILE = 64 * 2**20  # bytes that a child may write into one file
MAX_FILES = 256  # open files of a process
MAX_CPU = 900  # seconds of one process; each cell and call has a limit of its own long before


def apply(processes: int | None = None) -> None:
    """Set them for this process.

    Args:
        processes: the most processes and threads of this user; None leaves their number free.
    """
    mapped = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    limits = {
        resource.RLIMIT_AS: mapped + MAX_MEMORY,
        resource.RLIMIT_FSIZE: MAX_FILE,
        resource.RLIMIT_CORE: 0,
        resource.RLIMIT_NOFILE: MAX_FILES,
        resource.RLIMIT_CPU: MAX_CPU,
    }
    if processes is not None:
        limits[resource.RLIMIT_NPROC] = processes
    for kind, most in limits.items():
        hard = resource.getrlimit(kind)[1]
        most = most if hard == resource.RLIM_INFINITY else min(most, hard)
        resource.setrlimit(kind, (most, most))
