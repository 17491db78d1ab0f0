"""Authoring: broken masters are refused by file and line, what is built is whole and repeatable."""

import ast
import importlib.util
import itertools
import json
import os
import shutil
import subprocess
import sys
import warnings
from pathlib import Path

import jupytext
import nbformat
import pytest
import torch

from autograder.authoring import AuthoringError
from autograder.authoring.build import build_unit
from autograder.authoring.master import (
    PERCENT,
    STUB,
    MasterError,
    definitions,
    read_master,
    solution,
    stub,
)
from autograder.authoring.notebooks import read_project
from autograder.authoring.reference import reference_module
from autograder.authoring.template import new_master

UNIT = "03_sample"
POINTS = {"halve": 1, "counter": 2.5}
ROOT = Path(__file__).resolve().parents[1]

MASTER = '''\
# %% [markdown]
# # A sample
# With $x_{number}$ and a comment.

# %% setup=true
import course

course.setup("03_sample")

# %%
import math
import os.path
from collections import OrderedDict
from dataclasses import dataclass

from course import expect, profile

SCALE = 2.0
STEPS = {"grade": 1}.get(profile(), 2)
LIMIT = math.sqrt(4)
history = []


@dataclass
class Pair:
    """Two numbers."""

    left: float
    right: "OrderedDict | float"


def show():
    print(history)


# %% [markdown] heading="halve"
# ### Exercise {number} · Half of $\\\\frac{a}{b}$ ({points} points, about 5 min)
# Text with {braces}.

# %% exercise="halve"
def halve(x: float) -> float:
    """Half of x.

    Returns:
        x / 2.
    """
    ### BEGIN SOLUTION
    half = x / SCALE  # secret
    return half
    ### END SOLUTION


# %% test="halve"
# cat is a word here
expect(halve(4.0), 2.0, "halve: four")

# %% [markdown] heading="counter"
# ### Exercise {number} · Counter ({points} points, about 9 min)

# %% exercise="counter"
class Counter:
    """Counts."""

    step: int = 1

    def __init__(self, start: int) -> None:
        """Start there."""
        ### BEGIN SOLUTION
        self.value = start
        ### END SOLUTION

    def up(self) -> int:
        ### BEGIN SOLUTION
        self.value += self.step * math.floor(LIMIT / 2)
        return self.value
        ### END SOLUTION


# %% test="counter"
expect(Counter(3).up(), 4, "Counter: up")

# %% tags=["experiment"]
Counter.twice = lambda self: (self.up(), self.up())
for _ in range(STEPS):
    history.append(Counter(0).up())
history
'''

LECTURE = """\
# %% [markdown]
# # A lecture

# %% setup=true
import course

course.setup("03_sample")

# %%
import sys

print("seen by a student")
print("not kept", file=sys.stderr)

# %%
6 * 7
"""

# What the notebooks need of `course`, so that these tests stand on nothing else.
COURSE = """\
def setup(unit):
    print(unit)
def profile():
    return "grade"
def expect(actual, desired, what):
    assert actual == desired, what
"""


def place(root: Path, text: str, name: str = "sample") -> Path:
    path = root / "source" / UNIT / f"{name}.py"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, "utf-8")
    return path


def built(root: Path, **options) -> list[str]:
    changed = build_unit(UNIT, root, points=POINTS.__getitem__, **options)
    return [path.relative_to(root).as_posix() for path in changed]


@pytest.fixture
def course(tmp_path: Path) -> Path:
    """A course's root with one master and a stand-in for the students' package."""
    place(tmp_path, MASTER)
    (tmp_path / "course").mkdir()
    (tmp_path / "course" / "__init__.py").write_text(COURSE)
    return tmp_path


@pytest.fixture(scope="module")
def once(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same, built; for tests that only read."""
    root = tmp_path_factory.mktemp("course")
    place(root, MASTER)
    (root / "course").mkdir()
    (root / "course" / "__init__.py").write_text(COURSE)
    built(root)
    return root


def notebook(root: Path, kind: str) -> nbformat.NotebookNode:
    return nbformat.read(root / kind / UNIT / "sample.ipynb", as_version=4)


def by_id(found: nbformat.NotebookNode) -> dict[str, nbformat.NotebookNode]:
    return {cell.id: cell for cell in found.cells}


# --- reading


def test_a_good_master_is_read_with_its_lines(tmp_path):
    path = place(tmp_path, MASTER)
    master = read_master(path)
    assert (master.unit, master.notebook) == (UNIT, "sample")
    assert master.exercises == ("halve", "counter")
    lines = MASTER.split("\n")
    for cell in master.cells:
        assert lines[cell.line - 1].startswith("# %%")
        if cell.kind == "code":
            last = len(cell.source.split("\n"))
            assert lines[cell.at(last) - 1] == cell.source.split("\n")[-1]


def test_the_reader_agrees_with_jupytext(tmp_path):
    ours = read_master(place(tmp_path, MASTER)).cells
    theirs = jupytext.reads(MASTER, PERCENT).cells
    assert [(c.kind, c.source) for c in ours] == [
        (c.cell_type, c.source.strip("\n")) for c in theirs
    ]


HALVE_TEST = '# cat is a word here\nexpect(halve(4.0), 2.0, "halve: four")\n'
SETUP = '# %% setup=true\nimport course\n\ncourse.setup("03_sample")\n'
BEGIN, END = "    ### BEGIN SOLUTION\n", "    ### END SOLUTION\n"
HALVE_BODY = BEGIN + "    half = x / SCALE  # secret\n    return half\n" + END

# (what is replaced, by what, text of the line that is blamed, words of the message)
REFUSED = {
    "no test": ('# %% test="halve"\n', "# %%\n", '# %% exercise="halve"', "no test"),
    "test of nothing": (
        '# %% test="counter"\n',
        '# %% test="other"\nhalve(1.0)\n\n# %% test="counter"\n',
        '# %% test="other"',
        "belongs to no exercise",
    ),
    "no heading": (' heading="halve"', "", '# %% exercise="halve"', "no heading"),
    "heading of nothing": (
        '# %% [markdown] heading="counter"\n',
        '# %% [markdown] heading="other"\n# ### {number} {points}\n\n'
        '# %% [markdown] heading="counter"\n',
        'heading="other"',
        "belongs to no exercise",
    ),
    "test before its exercise": (
        '# %% exercise="halve"\n',
        '# %% test="counter"\n1\n\n# %% exercise="halve"\n',
        '# %% test="counter"\nexpect',
        "stands on line",
    ),
    "two exercises of one name": (
        '# %% test="halve"\n',
        '# %% exercise="halve"\ndef other():\n' + HALVE_BODY + '\n\n# %% test="halve"\n',
        '# %% exercise="halve"\ndef other',
        "stands on line",
    ),
    "one name defined twice": (
        "class Counter:",
        "def halve():\n" + HALVE_BODY + "\n\nclass Counter:",
        '# %% exercise="counter"',
        "defined by exercise 'halve'",
    ),
    "END missing": (END, "", "### BEGIN SOLUTION", "without its END"),
    "BEGIN missing": (BEGIN, "", "### END SOLUTION", "without its BEGIN"),
    "nested": (BEGIN, BEGIN + BEGIN, "### BEGIN SOLUTION\n    half", "inside the SOLUTION"),
    "mixed": (END, "    ### END HIDDEN TESTS\n", "### END HIDDEN", "HIDDEN TESTS stands in a cell"),
    "hidden tests not closed": (
        HALVE_TEST,
        HALVE_TEST + "### BEGIN HIDDEN TESTS\nassert halve(2.0) == 1.0\n",
        "### BEGIN HIDDEN",
        "without its END",
    ),
    "solution in a given cell": (
        "history = []\n",
        "### BEGIN SOLUTION\nhistory = []\n### END SOLUTION\n",
        "### BEGIN SOLUTION\nhistory",
        "without exercise=",
    ),
    "marker beside code": (
        "return half\n",
        "return half  ### END SOLUTION\n",
        "return half",
        "alone on its line",
    ),
    "no region": (HALVE_BODY, "    return x / 2\n", '# %% exercise="halve"', "BEGIN SOLUTION"),
    "solution does not compile": (
        "    return half\n",
        "    return half +\n",
        "return half",
        "compile",
    ),
    "test does not compile": ('"halve: four")', '"halve: four"', "expect(halve", "compile"),
    "stub does not compile": (
        BEGIN + "    half = x / SCALE  # secret\n",
        "    if x:\n    ### BEGIN SOLUTION\n        half = x / SCALE\n",
        "### BEGIN SOLUTION\n        half",
        "stub does not compile",
    ),
    "code before the region": (
        BEGIN,
        "    y = x\n" + BEGIN,
        "y = x",
        "outside its solution region",
    ),
    "code after the region": (END, END + "    print()\n", "print()", "outside its solution region"),
    "method without a region": (
        "    def up(self) -> int:\n",
        "    def get(self):\n        return 1\n\n    def up(self) -> int:\n",
        "def get",
        "holds no solution region",
    ),
    "two regions": (
        "    half = x / SCALE  # secret\n",
        "    half = x / SCALE\n" + END + BEGIN,
        "### BEGIN SOLUTION\n    return half",
        "more than one",
    ),
    "empty region": (HALVE_BODY, BEGIN + END, "### BEGIN SOLUTION", "is empty"),
    "statement in an exercise cell": (
        "def halve(",
        "import os\n\n\ndef halve(",
        "import os\n\n\n",
        "functions and classes only",
    ),
    "unknown key": ('test="halve"', 'tests="halve"', 'tests="halve"', "unknown key 'tests'"),
    "two roles": (
        'test="halve"',
        'test="halve" exercise="x"',
        '# %% test="halve"',
        "has one role",
    ),
    "role without a name": ('test="halve"', "test=true", "# %% test=true", "a name is needed"),
    "heading in code": (
        '# %% [markdown] heading="halve"\n',
        '# %% heading="halve"\n',
        '# %% heading="halve"',
        "is markdown",
    ),
    "no setup": (SETUP, "", "# %%\nimport math", "not the setup cell"),
    "setup of another unit": ("03_sample", "04_other", "import course\n", "course.setup"),
    "two setups": (
        '# %% test="halve"\n',
        '# %% setup=true\n1\n\n# %% test="halve"\n',
        "# %% setup=true\n1",
        "second setup",
    ),
    "duplicate what": ('"Counter: up"', '"halve: four"', "expect(Counter", "already"),
    "no what": (', "Counter: up"', "", "expect(Counter", "plain string"),
    "computed what": ('"Counter: up"', 'f"Counter: {1}"', "expect(Counter", "plain string"),
    "what of something else": ('"Counter: up"', '"up"', "expect(Counter", "does not start with"),
    "unknown placeholder": (
        "({points} points",
        "({point} points",
        "Half of",
        "unknown placeholder",
    ),
    "no number": ("Exercise {number} · Half", "Exercise 1 · Half", "Half of", "needs {number}"),
    "text outside cells": (
        "# %% [markdown]\n# # A",
        "x = 1\n# %% [markdown]\n# # A",
        "x = 1",
        "outside",
    ),
    "nbgrader's autotest": (
        HALVE_TEST,
        "### AUTOTEST halve(2)\n",
        "### AUTOTEST",
        "means something",
    ),
}


def line_of(text: str, words: str) -> int:
    return text[: text.index(words)].count("\n") + 1


@pytest.mark.parametrize("case", REFUSED)
def test_a_broken_master_is_refused_with_file_and_line(tmp_path, case):
    old, new, blamed, words = REFUSED[case]
    assert old in MASTER
    broken = MASTER.replace(old, new, 1)
    path = place(tmp_path, broken)
    with pytest.raises(MasterError) as error:
        read_master(path)
    assert error.value.line == line_of(broken, blamed), str(error.value)
    assert str(error.value).startswith(f"{path}:{error.value.line}: ")
    assert words in error.value.message


def test_a_header_inside_a_string_starts_no_cell(tmp_path):
    text = MASTER.replace("history = []\n", 'history = []\nTEXT = """\n# %% not a cell\n"""\n')
    text = text.replace("Counter(3).up(), 4,", "Counter(3).up(), 4, 5,")
    path = place(tmp_path, text)
    with pytest.raises(MasterError) as error:
        read_master(path)
    assert error.value.line == line_of(text, "expect(Counter")


def test_exercises_without_points_are_refused(course):
    with pytest.raises(MasterError, match=r"sample\.py:\d+: no Exercise\('halve'\)"):
        build_unit(UNIT, course, points={}.__getitem__)
    with pytest.raises(MasterError, match=r"sample\.py:\d+: the checks of 'halve' have no points"):
        build_unit(UNIT, course, points=lambda name: 0)


def test_names_are_unique_across_notebooks(course):
    second = place(course, MASTER, "second")
    with pytest.raises(MasterError, match=r"second\.py:\d+: sample\.py has exercise 'halve'"):
        built(course)
    second.unlink()
    twin = course / "source" / "04_other" / "sample.py"
    twin.parent.mkdir()
    twin.write_text("")
    with pytest.raises(MasterError, match=r"sample\.py:1: 04_other has a notebook of this name"):
        built(course)


def test_a_solution_that_leans_on_a_variable_of_the_notebook_is_refused(course):
    place(course, MASTER.replace("x / SCALE", "x / len(history)"))
    with pytest.raises(MasterError, match=r"'halve' uses history, which is no import"):
        built(course)


def test_an_unknown_unit_names_the_known_ones(course):
    with pytest.raises(AuthoringError, match=r"no masters in source/09_none \(units: 03_sample\)"):
        build_unit("09_none", course)


# --- pure text


def test_stub_solution_and_definitions():
    source = 'def f(x):\n    """Doc."""\n    ### BEGIN SOLUTION\n    return x\n    ### END SOLUTION'
    assert stub(source) == f'def f(x):\n    """Doc."""\n    {STUB}'
    assert solution(source) == 'def f(x):\n    """Doc."""\n    return x'
    assert definitions("class A:\n    def f(self): ...\nx = 1\ndef g(): ...") == ("A", "g")


# --- what is built


def test_a_second_build_changes_nothing(course):
    first = built(course)
    assert first == [
        "autograder/reference/sample.py",
        f"source/{UNIT}/sample.ipynb",
        f"release/{UNIT}/sample.ipynb",
    ]
    before = {name: (course / name).read_bytes() for name in first}
    assert built(course) == []
    for name in first:
        (course / name).unlink()
    assert built(course) == first
    assert {name: (course / name).read_bytes() for name in first} == before
    assert sorted(p.name for p in (course / "release" / UNIT).iterdir()) == ["sample.ipynb"]


@pytest.mark.parametrize(
    "name",
    [
        "autograder/reference/sample.py",
        f"source/{UNIT}/sample.ipynb",
        f"release/{UNIT}/sample.ipynb",
    ],
)
def test_check_finds_the_drift_of_each_file_and_mends_none(course, name):
    built(course)
    assert built(course, check=True) == []
    drifted = (course / name).read_bytes() + b"\n"
    (course / name).write_bytes(drifted)
    assert built(course, check=True) == [name]
    assert (course / name).read_bytes() == drifted


def test_check_sees_a_changed_master(course):
    built(course)
    place(course, MASTER.replace("# secret", "# another"))
    assert built(course, check=True) == [
        "autograder/reference/sample.py",
        f"source/{UNIT}/sample.ipynb",
    ]


def test_a_notebook_without_a_master_is_refused(course):
    built(course)
    stray = course / "release" / UNIT / "old.ipynb"
    stray.write_text("{}")
    with pytest.raises(AuthoringError, match=r"old\.ipynb has no master"):
        built(course, check=True)


def test_the_source_notebook_has_nbgraders_metadata(once):
    found = notebook(once, "source")
    cells = by_id(found)
    assert (found.nbformat, found.nbformat_minor) == (4, 5)
    assert found.metadata.kernelspec.name == "python3"
    exercise = {"grade": False, "solution": True, "locked": False, "task": False}
    test = {"grade": True, "solution": False, "locked": True, "task": False}
    given = {"grade": False, "solution": False, "locked": True, "task": False}
    wanted = {"halve": exercise, "test-halve": test, "cell-01": given, "cell-04": given}
    for name, flags in wanted.items():
        meta = cells[name].metadata.nbgrader
        assert {key: meta[key] for key in flags} == flags
        assert meta.schema_version == 3
        assert meta.cell_type == cells[name].cell_type
        assert meta.grade_id == name.replace("test-", "test_")
    assert cells["test-halve"].metadata.nbgrader.points == 1
    assert cells["test-counter"].metadata.nbgrader.points == 2.5
    assert {key for cell in found.cells for key in cell.metadata} == {"nbgrader", "tags"}
    assert f'check_here("{UNIT}/halve", globals())' in cells["test-halve"].source


def test_headings_show_number_and_points(once):
    text = "\n".join(cell.source for cell in notebook(once, "release").cells)
    assert "### Exercise 1 · Half of $\\\\frac{a}{b}$ (1 point, about 5 min)" in text
    assert "### Exercise 2 · Counter (2.5 points, about 9 min)" in text
    assert "Text with {braces}." in text
    assert "$x_{number}$" in text


def test_the_badge_opens_the_release_on_colab(once):
    place_on_colab = read_project(ROOT).colab(f"release/{UNIT}/sample.ipynb")
    first = notebook(once, "release").cells[0]
    assert place_on_colab in first.source
    assert place_on_colab.startswith("https://colab.research.google.com/github/")


def test_nothing_of_a_solution_reaches_the_release(once):
    text = (once / "release" / UNIT / "sample.ipynb").read_text()
    for word in (
        "SOLUTION",
        "HIDDEN",
        "check_here",
        "secret",
        "autograder",
        "jupytext",
        "half = x",
    ):
        assert word not in text
    assert "heading" not in {key for cell in json.loads(text)["cells"] for key in cell["metadata"]}


def test_the_released_stub_is_what_stub_says_and_raises(once):
    source, release = by_id(notebook(once, "source")), by_id(notebook(once, "release"))
    for name in ("halve", "counter"):
        assert release[name].source == stub(source[name].source)
    names: dict = {}
    exec(release["halve"].source, names)
    exec(release["counter"].source, names)
    for call in (lambda: names["halve"](1.0), lambda: names["Counter"](1)):
        with pytest.raises(NotImplementedError):
            call()


def test_tests_keep_their_text_without_the_hidden_part(once):
    release = by_id(notebook(once, "release"))
    assert release["test-halve"].source + "\n" == HALVE_TEST


def test_plain_nbgrader_makes_the_same_release(once, tmp_path):
    """What an instructor's `nbgrader generate_assignment` writes is no drift and no leak."""
    shutil.copytree(once / "source", tmp_path / "source")
    (tmp_path / "nbgrader_config.py").write_bytes((ROOT / "nbgrader_config.py").read_bytes())
    code = "from nbgrader.apps.nbgraderapp import main; main()"
    done = subprocess.run(
        [sys.executable, "-c", code, "generate_assignment", UNIT],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    assert "WARNING" not in done.stderr
    released = tmp_path / "release" / UNIT
    assert [path.name for path in released.iterdir()] == ["sample.ipynb"]
    ours = once / "release" / UNIT / "sample.ipynb"
    assert (released / "sample.ipynb").read_bytes() == ours.read_bytes()


def test_nbgrader_validates_the_release_without_a_warning(once, tmp_path, monkeypatch, caplog):
    """A stub fails for its own reason only; filled in, the same notebook passes all."""
    from nbgrader.validator import Validator

    monkeypatch.setenv("PYTHONPATH", str(once))
    released = once / "release" / UNIT / "sample.ipynb"
    with warnings.catch_warnings():
        warnings.simplefilter("error", category=UserWarning)
        found = Validator().validate(str(released))
    assert set(found) == {"failed"}
    assert ["NotImplementedError" in cell["raw_error"] for cell in found["failed"]] == [True] * 2

    solved = nbformat.read(released, as_version=4)
    answers = by_id(notebook(once, "source"))
    for cell in solved.cells:
        if cell.metadata.nbgrader.solution:
            cell.source = solution(answers[cell.id].source)
    path = tmp_path / "sample.ipynb"
    nbformat.write(solved, path)
    assert Validator().validate(str(path)) == {}
    assert [record for record in caplog.records if record.levelname != "INFO"] == []


# --- the setup cell


def run_setup(root: Path, tmp_path: Path, **env: str) -> list[str]:
    """Run the released setup cell in a bare interpreter; returns the lines given to %pip."""
    (cell,) = [cell for cell in notebook(root, "release").cells if "course.setup" in cell.source]
    code = f"""
import sys
class Shell:
    def run_line_magic(self, name, line):
        print(name, line)
        sys.path.insert(0, {str(root)!r})
get_ipython = Shell
{cell.source}
"""
    done = subprocess.run(
        [sys.executable, "-I", "-S", "-c", code],
        cwd=tmp_path,
        env={"PATH": os.environ["PATH"], **env},
        capture_output=True,
        text=True,
        check=True,
    )
    return done.stdout.splitlines()


def test_on_colab_the_first_cell_installs_the_course_alone(once, tmp_path):
    install = read_project(ROOT).install
    assert run_setup(once, tmp_path) == [f"pip install -q --no-deps '{install}'", UNIT]
    wheel = run_setup(once, tmp_path, DLCOURSE="/a place/dlcourse.whl")
    assert wheel == ["pip install -q --no-deps '/a place/dlcourse.whl'", UNIT]


def test_where_the_course_is_installed_nothing_is_run(once, tmp_path):
    (cell,) = [c for c in notebook(once, "release").cells if "course.setup" in c.source]
    done = subprocess.run(
        [sys.executable, "-c", cell.source],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(once)},
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.split() == [UNIT]


# --- the reference module


def test_the_reference_holds_the_definitions_and_no_more(once):
    text = (once / "autograder" / "reference" / "sample.py").read_text()
    body = ast.parse(text).body
    names = [getattr(node, "name", None) for node in body]
    assert [name for name in names if name] == ["Pair", "halve", "Counter"]
    assert "SCALE = 2.0" in text and "LIMIT = math.sqrt(4)" in text
    for word in ("STEPS", "history", "show", "course", "SOLUTION", "expect"):
        assert word not in text, word
    section = text.split("# --- exercise: halve\n")[1].split("# --- end")[0]
    cell = by_id(notebook(once, "source"))["halve"].source
    assert section.strip("\n") == solution(cell)


def test_the_reference_imports_and_works(once):
    code = "import sample; print(sample.halve(3.0), sample.Counter(1).twice())"
    done = subprocess.run(
        [sys.executable, "-I", "-c", f"import sys; sys.path.append('.'); {code}"],
        cwd=once / "autograder" / "reference",
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout == "1.5 (2, 3)\n"


def ruff(*paths: Path, ignore: str = "B018") -> None:
    config = ["--config", str(ROOT / "pyproject.toml"), "--no-cache", *map(str, paths)]
    for command in (["check", f"--extend-ignore={ignore}"], ["format", "--check"]):
        done = subprocess.run(
            [sys.executable, "-m", "ruff", *command, *config], capture_output=True, text=True
        )
        assert done.returncode == 0, done.stdout + done.stderr


IMPORTS = """\
import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from course.data import digits
from math import pi, tau as TAU, floor
from collections.abc import Callable
"""


@pytest.mark.parametrize("first", ["constant", "definition", "exercise"])
def test_the_reference_passes_ruff(once, tmp_path, first):
    ruff(once / "autograder" / "reference" / "sample.py")
    uses = "np, torch, Tensor, nn, F, digits, pi, TAU, floor, Callable"
    given = {
        "constant": f"THINGS = [{uses}]\n",
        "definition": f"def given():\n    return [{uses}]\n",
        "exercise": "",
    }[first]
    text = MASTER.replace("import math\n", IMPORTS + "import math\n")
    head, rest = text.split("SCALE = 2.0\n")
    rest = rest[rest.index("# %% [markdown] heading") :].replace("LIMIT / 2", "2")
    body = f"return [half, {uses}]" if first == "exercise" else "return half"
    text = head + given + rest.replace("x / SCALE", "x / 2").replace("return half", body)
    path = tmp_path / "sample.py"
    path.write_text(reference_module(read_master(place(tmp_path, text))))
    ruff(path)


# --- lectures


def test_a_lecture_is_executed_once_and_kept_until_its_cells_change(course):
    master = course / "course" / "lectures" / UNIT / f"{UNIT}.py"
    master.parent.mkdir(parents=True)
    master.write_text(LECTURE)
    name = f"course/lectures/{UNIT}/{UNIT}.ipynb"
    assert name in built(course, check=True)
    assert not (course / name).exists()
    assert name in built(course)
    lecture = nbformat.read(course / name, as_version=4)
    nbformat.validate(lecture)
    shown = [out for cell in lecture.cells for out in cell.get("outputs", [])]
    assert [out.get("text") for out in shown] == [f"{UNIT}\n", "seen by a student\n", None]
    assert shown[-1].data["text/plain"] == "42"
    assert name not in built(course) and name not in built(course, check=True)

    lecture.cells[-1].outputs = [nbformat.v4.new_output("error", ename="E", evalue="")]
    nbformat.write(lecture, course / name)
    assert built(course, check=True) == [name]
    master.write_text(LECTURE + "1 / 0\n")
    with pytest.raises(MasterError, match=r"03_sample\.py:15: the cell fails: ZeroDivisionError"):
        built(course)


# --- a new master


def test_a_new_master_builds(tmp_path):
    written = new_master("04_new", "fresh", tmp_path)
    assert [path.relative_to(tmp_path).as_posix() for path in written] == [
        "source/04_new/fresh.py",
        "autograder/exercises/04_new/fresh.py",
    ]
    assert len(build_unit("04_new", tmp_path, points=lambda name: 3)) == 3
    ruff(*written, ignore="B018,E402")


def test_a_new_exercise_keeps_the_contract(tmp_path, monkeypatch):
    """The reference and both alternatives pass, each mistake fails and looks like no other."""
    from autograder import contract

    _, path = new_master("04_new", "fresh", tmp_path)
    build_unit("04_new", tmp_path, points=lambda name: 3)
    monkeypatch.setattr(contract, "REFERENCES", tmp_path / "autograder" / "reference")
    spec = importlib.util.spec_from_file_location("fresh_exercises", path)
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    monkeypatch.setitem(sys.modules, "fresh_exercises", module)
    spec.loader.exec_module(module)
    (exercise,) = contract.exercises_in(module)

    def records(source: str) -> list[contract.Record]:
        names: dict = {}
        exec(exercise.module(source), names)
        student = contract.Student(contract.Here(names))
        found = []
        for check in exercise.checks:
            torch.manual_seed(check.seed)
            with contract.recording() as record:
                try:
                    check.run(student)
                except RuntimeError as error:
                    record.fail(str(error))
            found.append(record)
        return found

    assert len(exercise.checks) == 3 and exercise.points == 3
    assert [r.failure for r in records(exercise.reference)] == [None] * 3
    assert len(exercise.alternatives) == 2 and len(exercise.mistakes) == 5
    for alternative in exercise.alternatives:
        assert [r.failure for r in records(alternative.source)] == [None] * 3
    wrong = [records(mistake.source) for mistake in exercise.mistakes]
    assert all(any(r.failure for r in found) for found in wrong)
    for one, other in itertools.combinations(wrong, 2):
        assert not all(a.matches(b) for a, b in zip(one, other, strict=True))


@pytest.mark.parametrize(
    ("unit", "name", "words"),
    [
        ("new", "fresh", "NN_topic"),
        ("4_new", "fresh", "NN_topic"),
        ("04_new", "not-a-name", "not a name"),
        ("04_new", "class", "not a name"),
        ("04_new", "Fresh", "not a name"),
        ("../04_new", "fresh", "NN_topic"),
    ],
)
def test_a_new_master_needs_good_names(tmp_path, unit, name, words):
    with pytest.raises(AuthoringError, match=words):
        new_master(unit, name, tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_a_new_master_overwrites_nothing(tmp_path):
    new_master("04_new", "fresh", tmp_path)
    (tmp_path / "source" / "04_new" / "fresh.py").unlink()
    with pytest.raises(AuthoringError, match=r"exercises/04_new/fresh\.py exists"):
        new_master("04_new", "fresh", tmp_path)
    assert not (tmp_path / "source" / "04_new" / "fresh.py").exists()
