"""What the hostile tests share: a fork server behind the wall, and what lies outside of it.

Nothing of the corpus runs before the process that is to run it has shown that the wall stands.
"""

import os
import secrets
import socket
import tempfile
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from safety import FORK, MARK, Outside, assert_walled

from autograder.grading import forkserver
from autograder.grading.forkserver import ForkServer, StudentProcess
from autograder.grading.wall import NoWall


# Not for the session: the programs of other modules are our own and need no wall.
@pytest.fixture(scope="module", autouse=True)
def every_child_is_walled() -> Iterator[None]:
    """Whoever asks for a child in these tests gets one that has shown its wall, or ends the run."""

    def child(server: ForkServer) -> StudentProcess:
        process = FORK(server)
        assert_walled(process)
        process.waited = 0.0
        return process

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(ForkServer, "child", child)
        yield


@pytest.fixture(scope="session")
def outside() -> Iterator[Outside]:
    """Files with a secret in them and listeners, all outside of the wall."""
    with tempfile.TemporaryDirectory(prefix="outside-") as name:
        folder, token = Path(name), secrets.token_hex(16)
        paths = {
            "CANARY": folder / "canary.png",
            "GRADEBOOK": folder / "gradebook.db",
            "OTHER": folder / "submitted" / "other" / "00_toy" / "toy.ipynb",
        }
        words = {key: str(path) for key, path in paths.items()}
        words |= {"PICKLED": str(folder / "pickled"), "MARKER": f"marker-{token[::-1]}"}
        words |= {"NOTE": secrets.token_hex(16), "ABSTRACT": f"hostile-{token[::-1]}"}
        made = Outside(folder, token, words)
        for path in paths.values():
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(f'{{"cells": [], "token": "{token}"}}')
            made.untouched[path] = path.read_bytes()
        with socket.socket() as listener, socket.socket(type=socket.SOCK_DGRAM) as datagrams:
            listener.bind(("127.0.0.1", 0))
            datagrams.bind(listener.getsockname())
            words["PORT"] = str(listener.getsockname()[1])
            with socket.socket(socket.AF_UNIX) as abstract, socket.socket(socket.AF_UNIX) as named:
                abstract.bind(f"\0{words['ABSTRACT']}")
                words["SOCKET"] = str(folder / "socket")
                named.bind(words["SOCKET"])
                for plug in (listener, abstract, named):
                    plug.listen()
                    _collect(plug, made.connections)
                _collect(datagrams, made.connections)
                yield made


def _collect(plug: socket.socket, connections: list[object]) -> None:
    def wait() -> None:
        stream = plug.type == socket.SOCK_STREAM
        try:
            while True:
                connections.append(plug.accept() if stream else plug.recv(100))
        except OSError:  # closed at the end of the session
            return

    threading.Thread(target=wait, daemon=True).start()


@pytest.fixture(scope="session")
def server(outside: Outside) -> Iterator[ForkServer]:
    """One fork server behind the wall for each worker."""
    os.environ["HOSTILE_SECRET"] = outside.token
    forkserver.ENVIRONMENT[MARK] = outside.words["MARKER"]
    try:
        made = ForkServer(isolation="bubblewrap")
    except NoWall as error:
        pytest.exit(f"the hostile corpus runs behind the wall only: {error}", 3)
    with made:
        with made.child():
            pass
        yield made
