"""The same jobs on a dask.distributed cluster: a real scheduler and workers, on loopback alone."""

import contextlib
import json
import shutil
import socket
import subprocess
import sys
import time

import pytest
import tiny

from autograder.grading import cluster
from autograder.grading.cluster import ClusterError

WRONG = "def twice(x):\n    return 1 + x * 2\n"
SLOW = "import time\ntime.sleep(0.5)\n\ndef square(x):\n    return x * x\n"
STUDENTS = [f"student {number}" for number in range(8)]


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    return tiny.make(tmp_path_factory.mktemp("tiny"))


def hand_in(folder):
    for number, student in enumerate(STUDENTS):
        wrong = {"twice": WRONG} if number % 3 == 0 else {}
        tiny.hand_in(folder, student, square=SLOW, **wrong)


@contextlib.contextmanager
def running(home, folder, *command):
    """One of dask's programs, in a folder of its own."""
    folder.mkdir()
    with (folder / "log").open("w") as log:
        process = subprocess.Popen(
            [sys.executable, "-m", "dask", *command],
            cwd=folder,
            env=tiny.environment(home),
            stdout=log,
            stderr=log,
        )
        try:
            yield process
        finally:
            process.terminate()
            try:
                process.wait(10)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


def free_port():
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return found.getsockname()[1]


@contextlib.contextmanager
def scheduler(home, folder):
    """A scheduler; gives its address."""
    port = free_port()
    program = ["scheduler", "--host", "127.0.0.1", "--port", str(port), "--no-dashboard"]
    with running(home, folder, *program) as process:
        deadline = time.monotonic() + 60
        while time.monotonic() < deadline and process.poll() is None:
            with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 1):
                break
            time.sleep(0.1)
        yield f"tcp://127.0.0.1:{port}"


def worker(home, folder, address):
    """A worker that has the tiny unit, and shares no folder with anyone."""
    options = ["--host", "127.0.0.1", "--nthreads", "1", "--no-nanny", "--no-dashboard"]
    options += ["--local-directory", str(folder), "--preload", "tiny_grader"]
    return running(home, folder, "worker", address, *options)


@pytest.mark.timeout(300)
def test_a_cluster_that_loses_a_worker_gives_the_same_marks(home, tmp_path):
    there, here = tmp_path / "there", tmp_path / "here"
    hand_in(there)
    hand_in(here)
    with contextlib.ExitStack() as stack:
        address = stack.enter_context(scheduler(home, tmp_path / "scheduler"))
        own = [tmp_path / name / "home" for name in ("one", "two")]
        workers = []
        for folder in own:
            copy = shutil.copytree(home, tmp_path / f"copy for {folder.parent.name}")
            workers.append(stack.enter_context(worker(copy, folder.parent, address)))
        grader = subprocess.Popen(
            tiny.command(there, "--scheduler", address, "--json"),
            env=tiny.environment(home),
            cwd=there,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        try:
            deadline = time.monotonic() + 120
            while len(tiny.log(there)) < 4 and time.monotonic() < deadline:
                time.sleep(0.05)
            assert 4 <= len(tiny.log(there)) < 16 and grader.poll() is None
            workers[0].kill()
            out, err = grader.communicate(timeout=120)
        finally:
            grader.kill()
    assert grader.returncode == 0, err
    report = json.loads(out)
    assert report["judged"] == 16 and not report["failures"]
    assert tiny.grade(home, here, "--jobs", 2).returncode == 0
    assert tiny.marks(there) == tiny.marks(here)
    assert sorted(tiny.log(there)) == sorted(tiny.log(here))


def test_a_worker_with_other_checks_is_refused_by_name(home, tmp_path):
    other = tiny.make(tmp_path / "other")
    checks = other / "exercises" / "beta.py"
    checks.write_text(checks.read_text().replace("x**2", "x**2 + 1"))
    folder = tmp_path / "class"
    tiny.hand_in(folder, "ada")
    with (
        scheduler(home, tmp_path / "scheduler") as address,
        worker(other, tmp_path / "one", address),
    ):
        done = tiny.grade(home, folder, "--scheduler", address)
    assert done.returncode == 2 and done.stdout == ""
    (line,) = done.stderr.splitlines()
    assert "worker tcp://127.0.0.1:" in line and "it has other checks of beta (" in line
    assert "than this machine (" in line and "the same commit" in line
    assert tiny.log(folder) == []


@pytest.mark.parametrize(
    ("address", "words"),
    [
        ("here", "write tcp://HOST:8786"),
        ("127.0.0.1:8786", "write tcp://HOST:8786"),
        ("tcp://127.0.0.1:0", "no scheduler answers at"),
        ("tcp://127.0.0.1:1", "no scheduler answers at"),
    ],
)
def test_an_address_where_no_scheduler_is_takes_seconds_and_one_line(address, words):
    start = time.monotonic()
    with pytest.raises(ClusterError, match=words) as caught, cluster.cluster(address, "x", "none"):
        pass
    assert time.monotonic() - start < 20 and "\n" not in str(caught.value)


def test_without_distributed_the_remedy_is_said(monkeypatch):
    monkeypatch.setitem(sys.modules, "distributed", None)
    with (
        pytest.raises(ClusterError, match=r"pip install 'dlcourse\[cluster\]'"),
        cluster.cluster("tcp://127.0.0.1:8786", "x", "none"),
    ):
        pass


def test_a_cluster_without_workers_is_said(home, tmp_path, monkeypatch):
    monkeypatch.setattr(cluster, "WORKERS_LIMIT", 1.0)
    with (
        scheduler(home, tmp_path / "scheduler") as address,
        pytest.raises(ClusterError, match=f"no workers: start some with `dask worker {address}`"),
        cluster.cluster(address, "x", "none"),
    ):
        pass
