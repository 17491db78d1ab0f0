"""The release notebooks, solved, in environments that hold only what a Colab runtime holds.

`make test-colab` runs this file; its name keeps it out of the other tests. Colab moves its
versions every few months: `locked` has the course's torch, `newest` the newest. Nothing but the
package index is used, and only to make the environments from this folder's *.lock.
"""

import fcntl
import json
import os
import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import nbformat
import pytest
from nbclient import NotebookClient
from nbclient.exceptions import CellExecutionError
from nbformat import NotebookNode
from nbformat.v4 import new_code_cell

ROOT = Path(__file__).resolve().parent.parent.parent
NOTEBOOKS = sorted(ROOT.glob("release/*/*.ipynb"))
# The profile is what a student without a GPU has, and the shortest one for the second runtime.
RUNTIMES = {"locked": "small", "newest": "grade"}
ABSENT = ["autograder", "jupyterlab", "nbgrader", "torchaudio"]

HIDDEN = re.compile(r"^[ \t]*### BEGIN HIDDEN TESTS.*?### END HIDDEN TESTS[^\n]*\n?", re.M | re.S)
COMPLAINT = re.compile(r"^Traceback|\b\w+(Error|Exception):|^\s*(ERROR|WARNING)\b", re.M)
REPORT = f"""
import importlib.util, json, course, torch
found = [name for name in {ABSENT} if importlib.util.find_spec(name)]
print(json.dumps({{"course": course.__file__, "torch": torch.__version__, "found": found}}))
"""

Kernel = Callable[..., str]


def run(command: list[str | Path]) -> str:
    """What a command prints; its error output is shown where it fails."""
    env = {
        k: v for k, v in os.environ.items() if k not in ("PYTHONDONTWRITEBYTECODE", "PYTHONPATH")
    }
    result = subprocess.run(command, cwd=ROOT, env=env, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stdout + result.stderr
    return result.stdout


def solved(release: NotebookNode, source: NotebookNode) -> NotebookNode:
    """The release notebook with the answer cells of its source notebook."""
    answers = {cell.id: cell.source for cell in source.cells}
    for cell in release.cells:
        if cell.metadata.get("nbgrader", {}).get("solution"):
            assert "NotImplementedError" in cell.source, "a release notebook that is solved already"
            cell.source = HIDDEN.sub("", answers[cell.id])
    return release


def printed(cell: NotebookNode) -> str:
    """The text of a cell's outputs."""
    outputs = cell.get("outputs", [])
    parts = [o.get("text", "") or o.get("data", {}).get("text/plain", "") for o in outputs]
    return "\n".join(parts)


def failed(cell: NotebookNode) -> bool:
    return any(output.output_type == "error" for output in cell.get("outputs", []))


@pytest.fixture(scope="session")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The course as students install it."""
    folder = tmp_path_factory.mktemp("wheel")
    run([sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", folder])
    return next(folder.glob("*.whl"))


def fresh_python(name: str) -> Path:
    """The interpreter of an environment that holds exactly what NAME.lock lists."""
    uv = Path(sys.executable).with_name("uv")
    folder = ROOT / ".venv" / f"colab-{name}"
    python = folder / "bin" / "python"
    if not python.exists():
        run([uv, "venv", "--quiet", "--clear", "--python", sys.executable, folder])
    # sync takes away what an earlier run installed.
    command = [uv, "pip", "sync", "--quiet", "--python", python, "--require-hashes"]
    run([*command, "--compile-bytecode", ROOT / f"tests/colab/{name}.lock"])
    return python


@pytest.fixture
def python(name: str) -> Iterator[Path]:
    """A fresh runtime's interpreter; one test at a time has it, whichever process it runs in."""
    with (ROOT / ".venv" / f"colab-{name}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield fresh_python(name)


def colab(home: Path, python: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Make the surroundings of the kernel Colab's; pip has no index from now on."""
    for name in [k for k in os.environ if k.startswith(("PIP_", "UV_", "PYTHON"))]:
        monkeypatch.delenv(name)
    module = home / "stub" / "google" / "colab"
    module.mkdir(parents=True)
    (module / "__init__.py").write_text("", encoding="utf-8")
    (home / "content").mkdir()
    monkeypatch.setenv("PYTHONPATH", str(home / "stub"))
    monkeypatch.setenv("PATH", f"{python.parent}{os.pathsep}{os.environ['PATH']}")
    monkeypatch.setenv("HOME", str(home))
    monkeypatch.setenv("COLAB_RELEASE_TAG", "release-colab")
    monkeypatch.setenv("PIP_CONFIG_FILE", os.devnull)
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.delenv("VIRTUAL_ENV", raising=False)


@pytest.mark.timeout(900)
@pytest.mark.parametrize("notebook", NOTEBOOKS, ids=lambda path: f"{path.parent.name}/{path.stem}")
@pytest.mark.parametrize("name", RUNTIMES)
def test_solved_notebook(
    name: str,
    notebook: Path,
    python: Path,
    wheel: Path,
    kernel: Kernel,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    source = ROOT / "source" / notebook.relative_to(ROOT / "release")
    before = set(run([python, "-m", "pip", "freeze", "--all"]).splitlines())
    assert before and not any(line.startswith("dlcourse") for line in before)

    colab(tmp_path, python, monkeypatch)
    monkeypatch.setenv("DLCOURSE", str(wheel))
    monkeypatch.setenv("COURSE_PROFILE", RUNTIMES[name])
    nb = solved(nbformat.read(notebook, as_version=4), nbformat.read(source, as_version=4))
    nb.cells.append(new_code_cell(REPORT))
    # Colab has imported google.colab before the first cell runs.
    startup = "--IPKernelApp.exec_lines=import google.colab"
    client = NotebookClient(
        nb,
        kernel_name=kernel("colab", startup, python=python),
        timeout=300,
        resources={"metadata": {"path": str(tmp_path / "content")}},
    )
    problem = None
    try:
        client.execute()
    except CellExecutionError as error:
        problem = f"{error.ename}: {error.evalue}"
    if problem:
        cell = next(cell for cell in nb.cells if failed(cell))
        text = f"{problem}\nin the cell\n{cell.source}\nwhich printed\n{printed(cell)}"
        pytest.fail(text, pytrace=False)

    for cell in nb.cells:
        assert not COMPLAINT.search(printed(cell)), printed(cell)
    report = json.loads(printed(nb.cells[-1]))
    assert Path(report["course"]).is_relative_to(python.parent.parent / "lib"), report
    assert report["found"] == []
    assert f"torch=={report['torch'].split('+')[0]}" in {line.split("+")[0] for line in before}
    after = set(run([python, "-m", "pip", "freeze", "--all"]).splitlines())
    assert not before - after
    assert [line.split(" @ ")[0] for line in after - before] == ["dlcourse"]
