"""Every notebook runs, with the network blocked.

Source and lecture notebooks run through nbval to the end. In a release notebook only calls of a
stub fail, and only with NotImplementedError.
"""

import os
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import nbformat
import pytest
from nbclient import NotebookClient
from nbformat import NotebookNode
from nbformat.v4 import new_code_cell, new_notebook

ROOT = Path(__file__).resolve().parent.parent
SOURCES = sorted(ROOT.glob("source/*/*.ipynb"))
LECTURES = sorted(ROOT.glob("course/lectures/*/*.ipynb"))
RELEASES = sorted(ROOT.glob("release/*/*.ipynb"))

CONNECT = {
    "socket": "import socket\nsocket.create_connection(('127.0.0.1', {port}), timeout=5)",
    "_socket": "import _socket\n_socket.socket().connect(('127.0.0.1', {port}))",
    "urllib": (
        "import socket, urllib.request\nsocket.setdefaulttimeout(5)\n"
        "urllib.request.urlopen('http://127.0.0.1:{port}')"
    ),
    "asyncio": "import asyncio\nawait asyncio.open_connection('127.0.0.1', {port})",
    "name": "import socket\nsocket.getaddrinfo('localhost', {port})",
}

Kernel = Callable[..., str]


def relative(path: Path) -> str:
    return str(path.relative_to(ROOT))


def nbval(notebook: Path, kernel: str, profile: str) -> subprocess.CompletedProcess[str]:
    """Run a notebook through `pytest --nbval-lax`: each cell is a test, an error fails it."""
    env = {name: value for name, value in os.environ.items() if not name.startswith("PYTEST_")}
    env |= {"COURSE_PROFILE": profile, "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-m", "pytest", "--nbval-lax", "--nbval-kernel-name", kernel]
    command += ["--nbval-cell-timeout", "120", "-p", "no:cacheprovider", "-q", str(notebook)]
    return subprocess.run(command, cwd=ROOT, env=env, capture_output=True, text=True, check=False)


def execute(notebook: NotebookNode, kernel: str, folder: Path) -> NotebookNode:
    """Run all cells, those after an error too."""
    resources = {"metadata": {"path": str(folder)}}
    client = NotebookClient(
        notebook, kernel_name=kernel, timeout=120, allow_errors=True, resources=resources
    )
    return client.execute()


def errors(cell: NotebookNode) -> list[tuple[str, str]]:
    """Name and text of each error among a cell's outputs."""
    outputs = cell.get("outputs", [])
    return [(o.ename, o.evalue) for o in outputs if o.output_type == "error"]


@pytest.fixture
def port() -> Iterator[int]:
    """A port of this machine that answers: connections queue up and are answered by nobody."""
    with socket.create_server(("127.0.0.1", 0), backlog=16) as server:
        yield server.getsockname()[1]


@pytest.mark.parametrize("way", [way for way in CONNECT if way != "urllib"])
def test_an_ordinary_kernel_connects(way: str, port: int, kernel: Kernel, tmp_path: Path) -> None:
    notebook = new_notebook(cells=[new_code_cell(CONNECT[way].format(port=port))])
    done = execute(notebook, kernel("ordinary", offline=False), tmp_path)
    assert errors(done.cells[0]) == []


def test_the_offline_kernel_connects_to_nothing(port: int, kernel: Kernel, tmp_path: Path) -> None:
    cells = [new_code_cell(code.format(port=port)) for code in CONNECT.values()]
    done = execute(new_notebook(cells=cells), kernel("offline"), tmp_path)
    for way, cell in zip(CONNECT, done.cells, strict=True):
        assert [("is blocked" in text) for _, text in errors(cell)] == [True], (way, cell.outputs)


def test_nbval_reports_a_cell_that_fails(kernel: Kernel, tmp_path: Path) -> None:
    notebook = tmp_path / "broken.ipynb"
    for code, status in [("1 / 1", 0), ("1 / 0", 1)]:
        nbformat.write(new_notebook(cells=[new_code_cell(code)]), notebook)
        result = nbval(notebook, kernel(f"offline-{status}"), "grade")
        assert result.returncode == status, result.stdout + result.stderr


@pytest.mark.parametrize("notebook", SOURCES, ids=relative)
def test_source_runs(notebook: Path, kernel: Kernel) -> None:
    result = nbval(notebook, kernel("offline"), "grade")
    assert result.returncode == 0, result.stdout + result.stderr


@pytest.mark.parametrize("notebook", LECTURES, ids=relative)
def test_lecture_runs(notebook: Path, kernel: Kernel) -> None:
    result = nbval(notebook, kernel("offline"), "small")
    assert result.returncode == 0, result.stdout + result.stderr


@pytest.mark.parametrize("notebook", RELEASES, ids=relative)
def test_release_fails_only_at_stubs(
    notebook: Path, kernel: Kernel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COURSE_PROFILE", "grade")
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    done = execute(nbformat.read(notebook, as_version=4), kernel("offline"), tmp_path)
    found = [(cell.id, *error) for cell in done.cells for error in errors(cell)]
    assert found
    assert [entry for entry in found if entry[1] != "NotImplementedError"] == []
    answers = [cell for cell in done.cells if cell.metadata.get("nbgrader", {}).get("solution")]
    assert answers and not [cell.id for cell in answers if errors(cell)]
    # Nobody has solved anything yet: no visible test passes.
    tests = [cell for cell in done.cells if cell.metadata.get("nbgrader", {}).get("grade")]
    assert tests and not [cell.id for cell in tests if not errors(cell)]
