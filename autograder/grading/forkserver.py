"""Fresh student processes for the judge: forked by a server, spoken to over pipes."""

import contextlib
import os
import re
import socket
import subprocess
import tempfile
import threading
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Self

from autograder.grading import parcel, wall
from autograder.grading.cgroup import Group
from autograder.grading.inside import wire

MAX_OUTPUTS = 24 * 2**20  # bytes of a reply to `run_cell`
MAX_WORDS, MAX_NAME = 2000, 200  # characters of a message, of a name
INTERRUPT_GRACE = 2.0  # seconds between an interrupt and the kill
COMMAND_LIMIT = 60.0  # seconds that the fork server may take to make or end a child
START_LIMIT = 120.0  # seconds that the fork server may take to import its libraries
ENVIRONMENT = {
    "COURSE_PROFILE": "grade",
    "CUDA_VISIBLE_DEVICES": "",
    "LOGNAME": "student",  # behind the wall no file gives a name to the user
    "MKL_NUM_THREADS": "1",
    "MPLBACKEND": "agg",
    "OMP_NUM_THREADS": "1",
    "PYTHONHASHSEED": "0",
    "PYTHONIOENCODING": "utf-8",
}


class ChildGone(Exception):
    """The student's process died or stopped speaking the protocol."""


class TimedOut(Exception):
    """The student's code did not finish in time; `reply` is its answer to the interrupt, if any."""

    def __init__(self, reply: dict[str, Any] | None = None) -> None:
        super().__init__("it did not finish in time")
        self.reply = reply


class Raised(Exception):
    """The student's code raised an exception."""

    def __init__(self, kind: str, words: str) -> None:
        super().__init__(f"{kind}: {words}" if words else kind)
        self.kind = kind


class ServerGone(Exception):
    """The fork server died or does not answer."""


class ForkServer:
    """One process that has imported torch and forks a fresh child for every submission.

    The children see the standard library, the installed packages, `course` and the package
    `inside`; neither the autograder nor the masters are on their path. A server that died is
    started again when the next child is asked for. Several threads may use one server.

    Args:
        isolation: `bubblewrap`, or `none` for code that one trusts.

    Raises:
        NoWall: there is no such wall here.
    """

    def __init__(self, isolation: str = "bubblewrap") -> None:
        wall.check(isolation)
        self.isolation = isolation
        self._lock = threading.Lock()
        self._start()

    def _start(self) -> None:
        self._view = tempfile.TemporaryDirectory(prefix="view-")
        self._group = Group() if self.isolation != "none" else None
        ours, theirs = socket.socketpair()
        self._process = subprocess.Popen(
            self._command(theirs.fileno()),
            pass_fds=[theirs.fileno()],
            env=self._environment(),
            cwd=self._view.name,
            stdin=subprocess.DEVNULL,
            start_new_session=True,
        )
        theirs.close()
        self._socket = ours
        ours.settimeout(START_LIMIT)
        try:
            ready = ours.recv(100) == b"ready\n"
        except OSError:
            ready = False
        if not ready:
            self.close()
            raise RuntimeError("the fork server did not start; its message stands above")
        ours.settimeout(COMMAND_LIMIT)

    def _command(self, fd: int) -> list[str]:
        confined = self._group is not None
        serve = f"from inside import server; server.main({fd}, {confined})"
        if self._group is not None:
            return self._group.around(wall.walled(wall.python(serve)))
        for name, folder in wall.VISIBLE.items():
            Path(self._view.name, name).symlink_to(folder)
        return wall.python(serve, view=self._view.name)

    def _environment(self) -> dict[str, str]:
        if self._group is not None:
            found, scratch = {"PATH": "/usr/bin:/bin", "LANG": "C.UTF-8"}, wall.SCRATCH
        else:
            kept = ("PATH", "LANG", "LD_LIBRARY_PATH")
            found = {key: os.environ[key] for key in kept if key in os.environ}
            scratch = self._view.name
        places = dict.fromkeys(("HOME", "IPYTHONDIR", "MPLCONFIGDIR", "TMPDIR"), scratch)
        return {**found, **ENVIRONMENT, **places}

    def _ask(self, message: bytes, fds: Sequence[int] = ()) -> bytes:
        with self._lock:
            try:
                socket.send_fds(self._socket, [message], fds)
                answer = self._socket.recv(1000)
            except OSError as error:
                raise ServerGone(str(error)) from None
        if not answer:
            raise ServerGone("it closed its socket")
        return answer

    def child(self) -> "StudentProcess":
        """Fork a fresh child.

        Raises:
            NoWall: the kernel refuses what separates a child from the next one.
        """
        try:
            return self._fork()
        except ServerGone:
            self.close()
            self._start()
            return self._fork()

    def _fork(self) -> "StudentProcess":
        requests, to_child = os.pipe()
        replies, from_child = os.pipe()
        try:
            answer = self._ask(b"fork", [requests, from_child])
            if answer.startswith(b"error"):
                raise wall.NoWall(f"no process could be made: {answer.decode()[6:].strip()}")
        except BaseException:
            os.close(to_child)
            os.close(replies)
            raise
        finally:
            os.close(requests)
            os.close(from_child)
        return StudentProcess(self, int(answer), to_child, replies)

    def interrupt(self, pid: int) -> None:
        """Send a child the signal of Ctrl-C."""
        with contextlib.suppress(ServerGone):
            self._ask(b"interrupt %d" % pid)

    def end(self, pid: int) -> None:
        """Kill a child with all that it started, and reap it."""
        with contextlib.suppress(ServerGone):  # then the child is gone as well
            self._ask(b"kill %d" % pid)

    def close(self) -> None:
        """End the server and every child."""
        self._socket.close()
        try:
            self._process.wait(5)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._view.cleanup()
        if self._group is not None:
            self._group.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


class StudentProcess:
    """The judge's end of one child."""

    def __init__(self, server: ForkServer, pid: int, requests: int, replies: int) -> None:
        self._server, self._pid = server, pid
        self._requests, self._replies = requests, replies
        os.set_blocking(requests, False)
        self._number = 0
        self.alive = True
        self.waited = 0.0  # seconds between the requests so far and their replies

    def run_cell(self, source: str, limit: float) -> tuple[list[dict[str, Any]], bool]:
        """Run one cell; returns its outputs, which nobody has checked, and whether it failed."""
        request = {"op": "cell", "source": source}
        reply, _ = self._request(request, [], limit, text_limit=MAX_OUTPUTS)
        if not isinstance(reply.get("outputs"), list):
            raise ChildGone("the notebook's shell was broken")
        return reply["outputs"], reply.get("failed") is not False

    def run_module(self, source: str, name: str, limit: float) -> None:
        """Execute plain source in the child's `__main__`."""
        self._checked(*self._request({"op": "module", "source": source, "name": name}, [], limit))

    def seed(self, seed: int) -> None:
        """Seed the child's random generators."""
        self._request({"op": "seed", "seed": seed}, [], INTERRUPT_GRACE)

    def probe(
        self, probe: Any, args: Any, kwargs: Any, limit: float, forbidden: list[str]
    ) -> tuple[Any, list[str]]:
        """Call `probe(namespace, *args, **kwargs)` over there.

        Returns:
            What it returned, as plain data, and which forbidden operators ran.
        """
        data = parcel.dumps(probe, args, kwargs)
        request = {"op": "probe", "forbidden": forbidden}
        reply, buffers = self._checked(*self._request(request, [data], limit))
        try:
            seen = reply["forbidden"]
            return wire.decode(reply["value"], buffers), [n for n in forbidden if n in seen]
        except (wire.WireError, KeyError, TypeError) as error:
            raise ChildGone(f"it answered with garbage ({error})") from None

    def _checked(self, reply: dict, buffers: list[bytes]) -> tuple[dict, list[bytes]]:
        if "raised" in reply:
            raised = reply["raised"]
            kind, words = raised if isinstance(raised, list) and len(raised) == 2 else ("", "")
            raise Raised(_words(kind, MAX_NAME) or "Exception", _words(words, MAX_WORDS))
        return reply, buffers

    def _request(
        self,
        message: dict[str, Any],
        buffers: list[bytes],
        limit: float,
        text_limit: int = wire.MAX_TEXT,
    ) -> tuple[dict[str, Any], list[bytes]]:
        if not self.alive:
            raise ChildGone("it had ended before")
        self._number += 1
        start = time.monotonic()
        deadline = start + limit
        try:
            numbered = {**message, "number": self._number}
            wire.write_frame(self._requests, numbered, buffers, deadline)
            return self._reply(deadline, text_limit)
        except TimedOut:
            raise
        except wire.WireTimeout:
            self.close()
            raise ChildGone("it took no more requests") from None
        except (EOFError, BrokenPipeError, wire.WireError) as error:
            self.close()
            reason = (
                "it died" if isinstance(error, EOFError | BrokenPipeError) else "it sent garbage"
            )
            raise ChildGone(reason) from None
        finally:
            self.waited += time.monotonic() - start

    def _reply(self, deadline: float, text_limit: int) -> tuple[dict[str, Any], list[bytes]]:
        try:
            return self._read(deadline, text_limit)
        except wire.WireTimeout:
            self._server.interrupt(self._pid)
        try:
            reply, _ = self._read(time.monotonic() + INTERRUPT_GRACE, text_limit)
        except wire.WireTimeout:
            self.close()
            reply = None
        raise TimedOut(reply)

    def _read(self, deadline: float, text_limit: int) -> tuple[dict[str, Any], list[bytes]]:
        reply, buffers = wire.read_frame(self._replies, deadline, text_limit=text_limit)
        if not isinstance(reply, dict) or reply.get("number") != self._number:
            raise wire.WireError("not the reply to this request")
        return reply, buffers

    def close(self) -> None:
        """Kill the child; nothing of it is left."""
        if self.alive:
            self.alive = False
            os.close(self._requests)
            os.close(self._replies)
            self._server.end(self._pid)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def _words(value: Any, most: int) -> str:
    """What a student's process says, as text that a log or a terminal can show."""
    text = value[:most] if isinstance(value, str) else ""
    return re.sub("[\x00-\x08\x0b-\x1f\x7f-\x9f\ud800-\udfff]", "\ufffd", text)
