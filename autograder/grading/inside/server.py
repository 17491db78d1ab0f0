"""The fork server: imports the heavy libraries once, then forks one child per request.

It runs no student code, holds no secret, and starts no thread and no parallel region: what a fork
inherits has to be still. Commands come one a line on a socket: `fork` with two pipe ends attached,
`interrupt PID`, and `kill PID`, which ends a child with all that it started.
"""

import contextlib
import gc
import importlib
import os
import shutil
import signal
import socket
import sys
import tempfile
from typing import Protocol

from . import limits

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


class Children(Protocol):
    """How children are made and ended: behind the wall, or without one."""

    def fork(self) -> int:
        """As os.fork: 0 in the child, which may then run student code."""
        ...

    def kill(self, pid: int) -> None:
        """Kill a child with all that it started."""
        ...

    def bury(self, pid: int) -> None:
        """Wait until a child that was killed is gone, and remove what it leaves."""
        ...


def main(fd: int, confined: bool) -> None:
    """Serve on an inherited socket until the other side closes it.

    Args:
        fd: the socket.
        confined: give each child namespaces, limits and a system-call filter of its own.
    """
    for name in PRELOAD:
        with contextlib.suppress(ImportError):
            importlib.import_module(name)
    from . import child, notebook

    notebook.warm()
    server = socket.socket(fileno=fd)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    children: Children = Confined() if confined else Unconfined()
    gc.collect()
    gc.freeze()  # a collection in a child would touch, and so copy, every inherited page
    try:
        server.sendall(b"ready\n")
    except BrokenPipeError:
        return  # whoever started it has been killed meanwhile
    alive: set[int] = set()
    try:
        while True:
            data, fds, _, _ = socket.recv_fds(server, 100, 2)
            if not data:
                return
            command, _, argument = data.decode().partition(" ")
            if command == "fork":
                try:
                    pid = children.fork()
                except OSError as error:
                    server.sendall(f"error {error}\n".encode())
                    continue
                if pid == 0:
                    try:
                        server.close()
                        child.run(*fds)
                    finally:  # whatever was raised: what follows is the server's alone
                        os._exit(1)
                for end in fds:
                    os.close(end)
                alive.add(pid)
                server.sendall(b"%d\n" % pid)
            elif command == "interrupt":
                with contextlib.suppress(ProcessLookupError):
                    os.kill(int(argument), signal.SIGINT)
                server.sendall(b"sent\n")
            elif command == "kill":
                children.kill(int(argument))
                server.sendall(b"killed\n")  # the kernel needs a hundredth of a second for the rest
                children.bury(int(argument))
                alive.discard(int(argument))
    finally:
        for pid in alive:
            children.kill(pid)
            children.bury(pid)


class Confined:
    """Each child is the first process of its own namespaces: whatever it starts ends with it."""

    def __init__(self) -> None:
        from . import confine

        self._confine = confine
        self._processes = confine.Processes()

    def fork(self) -> int:
        """Fork, and wait until the child is confined."""
        reading, writing = os.pipe()
        pid = self._processes.fork()
        if pid == 0:
            try:
                os.close(reading)
                self._confine.confine()
                _settle(self._confine.SCRATCH)
                os.write(writing, b"ready")
                os.close(writing)
            except OSError as error:
                os.write(writing, str(error).encode())
                os._exit(1)
            return 0
        os.close(writing)
        said = os.read(reading, 1000).decode()
        os.close(reading)
        if said != "ready":
            self.kill(pid)
            self.bury(pid)
            raise OSError(said or "the child died")
        return pid

    def kill(self, pid: int) -> None:
        """Kill a first process, and so all of its namespace."""
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)

    def bury(self, pid: int) -> None:
        """The kernel has ended the whole namespace before the wait returns."""
        with contextlib.suppress(ChildProcessError):
            os.waitpid(pid, 0)


class Unconfined:
    """Each child leads a process group and has a folder of its own; for code that one trusts."""

    def __init__(self) -> None:
        self._folders: dict[int, str] = {}

    def fork(self) -> int:
        """Fork once."""
        folder = tempfile.mkdtemp(prefix="student-")
        pid = os.fork()
        if pid:
            self._folders[pid] = folder
            return pid
        os.setsid()
        limits.apply()
        _settle(folder)
        return 0

    def kill(self, pid: int) -> None:
        """Kill a process group, as far as the child did not leave it."""
        with contextlib.suppress(ProcessLookupError):
            os.killpg(pid, signal.SIGKILL)
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)

    def bury(self, pid: int) -> None:
        """Reap it and remove its folder."""
        with contextlib.suppress(ChildProcessError):
            os.waitpid(pid, 0)
        if folder := self._folders.pop(pid, None):
            shutil.rmtree(folder, ignore_errors=True)


def _settle(folder: str) -> None:
    """Make a folder this process's home, temporary and working folder."""
    os.chdir(folder)
    os.environ["HOME"] = os.environ["TMPDIR"] = folder
    tempfile.tempdir = None
    sys.path.insert(0, "")
