"""A tiny unit of two notebooks, a class that hands it in, and its grader as a program.

Grading one of its notebooks takes a tenth of a second, so a test can grade a class, kill the
grader twenty times, or grade on a cluster.
"""

import importlib.util
import os
import shutil
import sqlite3
import subprocess
import sys
from pathlib import Path

import nbformat
from nbformat import NotebookNode
from nbformat.v4 import new_code_cell, new_notebook

from autograder import contract
from autograder.grading.wall import NoWall, check

ROOT = Path(__file__).resolve().parent.parent
GRADER = ROOT / "tests" / "tiny_grader.py"
UNIT = "00_tiny"
# notebook -> exercise -> reference
UNIT_OF = {
    "alpha": {
        "half": "def half(x):\n    return x / 2\n",
        "twice": "def twice(x):\n    return x * 2\n",
    },
    "beta": {"square": "def square(x):\n    return x * x\n"},
}
EXERCISES = {name: source for part in UNIT_OF.values() for name, source in part.items()}
POINTS = 2.0  # for each exercise
_CHECKS = """
{name} = Exercise("{name}", unit="00_tiny", notebook="{notebook}")


@{name}.check("numbers", points=1.5)
def numbers_{name}(student):
    x = torch.randn(3)
    expect(student.{name}(x), {right})


@{name}.check("one number", points=0.5)
def one_{name}(student):
    expect(student.{name}(torch.tensor(3.0)), torch.tensor({at_3}))


{name}.mistake("adds one", "Nothing is added.", edit=("return x", "return 1 + x"))
"""
_RIGHT = {"half": ("x / 2", "1.5"), "twice": ("x + x", "6.0"), "square": ("x**2", "9.0")}


def isolation() -> str:
    """The wall of this machine, or none: what this unit's students hand in is harmless."""
    try:
        check("bubblewrap")
    except NoWall:
        return "none"
    return "bubblewrap"


def make(home: Path) -> Path:
    """Write the unit: what `tiny_grader.py` finds in TINY_HOME."""
    for folder in ("exercises", "reference", f"release/{UNIT}", f"source/{UNIT}"):
        (home / folder).mkdir(parents=True)
    shutil.copy(ROOT / "nbgrader_config.py", home)
    for notebook, solved in UNIT_OF.items():
        checks = "import torch\n\nfrom autograder.contract import Exercise, expect\n"
        reference = "import torch\n"
        for name, source in solved.items():
            right, at_3 = _RIGHT[name]
            checks += _CHECKS.format(name=name, notebook=notebook, right=right, at_3=at_3)
            reference += f"# --- exercise: {name}\n{source}# --- end\n"
        (home / "exercises" / f"{notebook}.py").write_text(checks)
        (home / "reference" / f"{notebook}.py").write_text(reference)
        solution = {
            name: source.replace("    return", "    ### BEGIN SOLUTION\n    return")
            + "    ### END SOLUTION\n"
            for name, source in solved.items()
        }
        nbformat.write(notebook_of(solution), home / "source" / UNIT / f"{notebook}.ipynb")
        stubs = dict.fromkeys(solved, "")
        stubs = {n: f"def {n}(x):\n    raise NotImplementedError\n" for n in stubs}
        nbformat.write(notebook_of(stubs), home / "release" / UNIT / f"{notebook}.ipynb")
    return home


def notebook_of(answers: dict[str, str]) -> NotebookNode:
    """A notebook of the unit with these answers in it."""
    cells = [new_code_cell("import torch", id="start", metadata=_locked("start"))]
    for name, source in answers.items():
        answer = _locked(name, solution=True, locked=False)
        test = _locked(f"test_{name}", grade=True, points=POINTS)
        cells.append(new_code_cell(source, id=name, metadata=answer))
        shape = f"assert {name}(torch.ones(2)).shape == (2,)"
        cells.append(new_code_cell(shape, id=f"test-{name}", metadata=test))
    kernel = {"display_name": "Python 3", "language": "python", "name": "python3"}
    return new_notebook(cells=cells, metadata={"kernelspec": kernel})


def _locked(grade_id: str, **changes: object) -> dict[str, object]:
    info = {"grade": False, "solution": False, "locked": True, "task": False, "schema_version": 3}
    return {"nbgrader": {**info, "grade_id": grade_id, **changes}}


def exercises(home: Path) -> dict[str, dict[str, contract.Exercise]]:
    """The unit's exercises, one module a notebook, as `contract` finds the course's."""
    found: dict[str, contract.Exercise] = {}
    for path in sorted((home / "exercises").glob("*.py")):
        name = f"tiny_{path.stem}"
        spec = importlib.util.spec_from_file_location(name, path)
        assert spec is not None and spec.loader is not None
        sys.modules[name] = module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
        found |= {exercise.name: exercise for exercise in contract.exercises_in(module)}
    return {UNIT: found}


def hand_in(folder: Path, student: str, **answers: str) -> None:
    """Hand in both notebooks below `folder/submitted`; what is not named here is right."""
    for notebook, solved in UNIT_OF.items():
        path = folder / "submitted" / student / UNIT / f"{notebook}.ipynb"
        path.parent.mkdir(parents=True, exist_ok=True)
        nbformat.write(
            notebook_of({name: answers.get(name, solved[name]) for name in solved}), path
        )


def command(folder: Path, *arguments: object) -> list[str]:
    """The command line that grades the class in `folder`."""
    words = ["grade", UNIT, "--submitted", folder / "submitted", *arguments]
    if "--isolation" not in arguments:
        words += ["--isolation", isolation()]
    return [sys.executable, str(GRADER), *map(str, words)]


def environment(home: Path | None) -> dict[str, str]:
    """What `command` runs in."""
    kept = {key: value for key, value in os.environ.items() if not key.startswith("COV")}
    ours = {"TINY_HOME": str(home), "PYTHONPATH": str(GRADER.parent)}
    return {**kept, **ours, "OMP_NUM_THREADS": "1", "COLUMNS": "200"}


def grade(home: Path, folder: Path, *arguments: object) -> subprocess.CompletedProcess[str]:
    """Grade the class and wait for the end."""
    return subprocess.run(
        command(folder, *arguments),
        env=environment(home),
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=240,
    )


def log(folder: Path) -> list[str]:
    """Which notebooks the log says were judged, in order: STUDENT/NOTEBOOK."""
    path = folder / "grading.log"
    lines = path.read_text().splitlines() if path.exists() else []
    places = [line.split("  ")[1] for line in lines]
    files = [place for place in places if place.endswith(".ipynb")]
    return [place.replace(f"/{UNIT}/", "/").removesuffix(".ipynb") for place in files]


def marks(folder: Path) -> dict[str, dict[str, float]]:
    """What the gradebook holds: student -> exercise -> judged marks."""
    query = """
        select a.student_id, c.name, g.auto_score from grade g
        join submitted_notebook n on n.id = g.notebook_id
        join submitted_assignment a on a.id = n.assignment_id
        join base_cell c on c.id = g.cell_id
    """
    found: dict[str, dict[str, float]] = {}
    with sqlite3.connect(folder / "gradebook.db") as book:
        for student, cell, score in book.execute(query):
            found.setdefault(student, {})[cell.removeprefix("test_")] = score
    return found
