"""The fork server: imports the heavy libraries once, then forks one child per request.

It runs no student code, holds no secret, and starts no thread and no parallel region: what a fork
inherits has to be still. Commands come one a line on a socket: `fork` with two pipe ends attached,
`kill PID` which ends a child's whole process group and reaps it.
"""

import contextlib
import importlib
import os
import resource
import shutil
import signal
import socket
import sys
import tempfile
from pathlib import Path

PRELOAD = (
    *("numpy", "torch", "torch._dynamo", "torch.optim", "torch.nn", "cloudpickle", "tqdm.auto"),
    *(
        "IPython",
        "matplotlib.pyplot",
        "matplotlib_inline.backend_inline",
        "course",
        "course.training",
    ),
)
MAX_FILE = 64 * 2**20  # bytes that a child may write into one file
MAX_MEMORY = 4 * 2**30  # bytes that a child may map beyond what it inherits


def main(fd: int) -> None:
    """Serve on an inherited socket until the other side closes it."""
    for name in PRELOAD:
        with contextlib.suppress(ImportError):
            importlib.import_module(name)
    from . import child

    server = socket.socket(fileno=fd)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    scratch = Path(tempfile.mkdtemp(prefix="student-"))
    folders: dict[int, Path] = {}
    server.sendall(b"ready\n")
    try:
        while True:
            data, fds, _, _ = socket.recv_fds(server, 100, 2)
            if not data:
                return
            if data == b"fork":
                folder = Path(tempfile.mkdtemp(dir=scratch))
                pid = os.fork()
                if pid == 0:
                    try:
                        server.close()
                        _enter(folder)
                        child.run(*fds)
                    finally:  # whatever was raised: what follows is the server's alone
                        os._exit(1)
                folders[pid] = folder
                for end in fds:
                    os.close(end)
                server.sendall(b"%d\n" % pid)
            elif data.startswith(b"kill "):
                pid = int(data[5:])
                _end(pid)
                shutil.rmtree(folders.pop(pid, scratch / "none"), ignore_errors=True)
                server.sendall(b"ended\n")
    finally:
        for pid in folders:
            _end(pid)
        shutil.rmtree(scratch, ignore_errors=True)


def _enter(folder: Path) -> None:
    os.setsid()
    os.chdir(folder)
    os.environ["HOME"] = os.environ["TMPDIR"] = str(folder)
    sys.path.insert(0, "")
    mapped = int(Path("/proc/self/statm").read_text().split()[0]) * os.sysconf("SC_PAGE_SIZE")
    resource.setrlimit(resource.RLIMIT_AS, (mapped + MAX_MEMORY, mapped + MAX_MEMORY))
    resource.setrlimit(resource.RLIMIT_FSIZE, (MAX_FILE, MAX_FILE))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))


def _end(pid: int) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.killpg(pid, signal.SIGKILL)
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, signal.SIGKILL)
    with contextlib.suppress(ChildProcessError):
        os.waitpid(pid, 0)
