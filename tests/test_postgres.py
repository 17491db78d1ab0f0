"""PostgreSQL as gradebook: a real server from Debian's package, on loopback and a socket."""

import os
import pwd
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import nbformat
import psycopg
import pytest
from nbformat import NotebookNode
from nbgrader.api import Gradebook, get_alembic_version

from autograder.contract import RELEASE, load
from autograder.grading.gradebook import EntryError
from autograder.grading.nbgrader import NbgraderClass

ROOT = Path(__file__).resolve().parent.parent
UNIT = "01_backprop"
STUDENT = 'o\'neil "jr" Ада %s'
INSTALLED = sorted(Path("/usr/lib/postgresql").glob("*/bin/postgres"))
FOUND = shutil.which("postgres") or (str(INSTALLED[-1]) if INSTALLED else None)
BIN = Path(FOUND).resolve().parent if FOUND else Path()

pytestmark = pytest.mark.skipif(
    FOUND is None, reason="no PostgreSQL server here: apt-get install postgresql"
)


@pytest.fixture(scope="module")
def server() -> Iterator[str]:
    """A server of its own with a password; its URL."""
    folder = Path(tempfile.mkdtemp(prefix="postgres-"))  # a socket's path has to be short
    owner: dict[str, Any] = {}
    if os.getuid() == 0:  # the server refuses to run as root
        owner = {"user": "nobody", "group": pwd.getpwnam("nobody").pw_gid}
        shutil.chown(folder, **owner)
    password = folder / "password"
    password.write_text("s3cr%t@/")
    if owner:
        shutil.chown(password, **owner)
    data = folder / "data"
    made = ["-D", data, "-U", "grader", "--pwfile", password, "-A", "scram-sha-256", "--no-sync"]
    encoding = ["-E", "UTF8", "--locale=C.UTF-8"]
    env = {"PATH": os.defpath, "HOME": str(folder)}
    subprocess.run(
        [BIN / "initdb", *made, *encoding],
        check=True,
        cwd=folder,
        env=env,
        capture_output=True,
        **owner,
    )
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    listen = ["-h", "127.0.0.1", "-p", str(port), "-k", folder, "-F"]
    with (folder / "log").open("w") as log:
        running = subprocess.Popen(
            [BIN / "postgres", "-D", data, *listen],
            cwd=folder,
            env=env,
            stdout=log,
            stderr=log,
            **owner,
        )
    try:
        url = f"grader:s3cr%25t%40%2F@127.0.0.1:{port}/postgres"
        wait(f"postgresql://{url}", running)
        yield f"postgresql+psycopg://{url}"
    finally:
        running.terminate()
        try:
            running.wait(10)
        except subprocess.TimeoutExpired:
            running.kill()
            running.wait()
        shutil.rmtree(folder)


def wait(url: str, running: subprocess.Popen) -> None:
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline and running.poll() is None:
        try:
            psycopg.connect(url).close()
            return
        except psycopg.OperationalError:
            time.sleep(0.1)
    raise TimeoutError("the server did not start")


def judged(name: str, share: float) -> NotebookNode:
    notebook = nbformat.read(RELEASE / UNIT / f"{name}.ipynb", as_version=4)
    for cell in notebook.cells:
        if cell.metadata.nbgrader.grade:
            marks = repr(cell.metadata.nbgrader.points * share)
            cell.outputs = [nbformat.v4.new_output("execute_result", {"text/plain": marks})]
    return notebook


def marks(share: float) -> dict[str, float]:
    return {name: exercise.points * share for name, exercise in load(UNIT).items()}


def test_a_class_is_graded_into_postgresql(server, tmp_path):
    notebooks = {name: judged(name, 0.5) for name in ("autodiff", "training")}
    handed_in = tmp_path / "submitted" / STUDENT / UNIT
    handed_in.mkdir(parents=True)
    (handed_in / "timestamp.txt").write_text("2026-02-01 15:30:00 Europe/Berlin")
    with NbgraderClass(tmp_path / "submitted", server) as book:
        assert "s3cr" not in book.gradebook and ":***@127.0.0.1:" in book.gradebook
        book.register_unit(UNIT)
        book.register_unit(UNIT)
        book.enter(STUDENT, UNIT, notebooks)
        assert book.marks(UNIT) == book.entered(UNIT) == {STUDENT: marks(0.5)}
        book.enter(STUDENT, UNIT, {**notebooks, "training": judged("training", 1.0)})
        with pytest.raises(EntryError, match="too long for type character varying"):
            book.enter("x" * 129, UNIT, notebooks)
        book.enter("second", UNIT, notebooks)
    wanted = {
        name: exercise.points * (1.0 if exercise.notebook == "training" else 0.5)
        for name, exercise in load(UNIT).items()
    }
    with NbgraderClass(tmp_path / "submitted", server) as again:
        assert again.marks(UNIT) == {STUDENT: wanted, "second": marks(0.5)}
        assert again.late_penalty(UNIT, STUDENT, "training") == 0
    with psycopg.connect(server.replace("+psycopg", "")) as db:
        assert db.execute("select * from alembic_version").fetchall() == [(get_alembic_version(),)]
        assert db.execute("select count(*) from submitted_assignment").fetchone() == (2,)
        when = db.execute("select timestamp from submitted_assignment where timestamp is not null")
        assert str(when.fetchone()) == "(datetime.datetime(2026, 2, 1, 14, 30),)"
        waiting = "select count(*) from pg_stat_activity where state like 'idle in transaction%'"
        assert db.execute(waiting).fetchone() == (0,)
    exported(server, tmp_path, sum(wanted.values()))
    with Gradebook(server) as gradebook:  # formgrader's queries
        found = {row["student"]: row["score"] for row in gradebook.submission_dicts(UNIT)}
        assert found[STUDENT] == sum(wanted.values())


def exported(server: str, folder: Path, score: float) -> None:
    """nbgrader's own export from the same server."""
    target = folder / "marks.csv"
    settings = [f"--CourseDirectory.db_url={server}", f"--CourseDirectory.root={folder}"]
    program = [sys.executable, "-m", "nbgrader", "export", f"--to={target}", *settings]
    done = subprocess.run(program, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    lines = [line for line in target.read_text().splitlines() if "Ада" in line]
    assert len(lines) == 1 and f",{score}," in lines[0]
