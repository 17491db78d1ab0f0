"""One notebook from submission to judged notebook: mess, crashes and forgeries."""

import copy

import nbformat
import pytest
import torch
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook

from autograder.contract import Exercise, expect
from autograder.grading import grade as grading
from autograder.grading.forkserver import ForkServer

STUBS = {
    name: f"def {name}(x):\n    raise NotImplementedError" for name in ("half", "twice", "square")
}
RIGHT = {
    "half": "def half(x):\n    return x / 2",
    "twice": "def twice(x):\n    return 2 * x",
    "square": "def square(x):\n    return x * x",
}
ALL_WRONG = {name: f"def {name}(x):\n    return torch.zeros(1)" for name in STUBS}


@pytest.fixture(scope="module")
def server():
    with ForkServer() as server:
        yield server


def exercise(name, right):
    made = Exercise(name, unit="00_toy", notebook="toy")

    @made.check("numbers")
    def _(student):
        x = torch.randn(3)
        expect(getattr(student, name)(x), right(x))

    @made.check("one number")
    def _(student):
        expect(getattr(student, name)(torch.tensor(3.0)), right(torch.tensor(3.0)))

    return made


EXERCISES = {
    "half": exercise("half", lambda x: x / 2),
    "twice": exercise("twice", lambda x: 2 * x),
    "square": exercise("square", lambda x: x * x),
}


def locked(grade_id, **changes):
    info = {"grade": False, "solution": False, "locked": True, "task": False, "schema_version": 3}
    return {"nbgrader": {**info, "grade_id": grade_id, **changes}}


def notebook(answers=STUBS):
    """The released notebook, with these answers in it."""
    cells = [new_code_cell("import torch", id="cell-00", metadata=locked("cell-00"))]
    for name in STUBS:
        answer = locked(name, solution=True, locked=False)
        test = locked(f"test_{name}", grade=True, points=2)
        cells.append(new_markdown_cell(f"### {name}", id=f"h-{name}", metadata=locked(f"h-{name}")))
        cells.append(new_code_cell(answers[name], id=name, metadata=answer))
        visible = f"assert {name}(torch.ones(2)).shape == (2,)"
        cells.append(new_code_cell(visible, id=f"test-{name}", metadata=test))
    return new_notebook(cells=cells)


@pytest.fixture
def marks(server):
    def graded(submission):
        found = grading.grade(submission, notebook(), EXERCISES, server, lambda e, v: None)
        assert [v.exercise for v in found.verdicts] == list(EXERCISES)
        return [v.marks for v in found.verdicts], found

    return graded


def test_a_right_notebook_earns_all_and_keeps_its_outputs(marks):
    submission = notebook(RIGHT)
    submission.cells[2].source += "\nprint('hello')\nhalf(torch.ones(1))"
    earned, found = marks(submission)
    assert earned == [2, 2, 2] and found.marks == 6 and found.notes == []
    outputs = found.notebook.cells[2].outputs
    assert outputs[0].text == "hello\n" and "0.5" in outputs[1].data["text/plain"]
    nbformat.validate(found.notebook)


def test_the_stub_earns_nothing(marks):
    earned, found = marks(notebook())
    assert earned == [0, 0, 0]
    assert "NotImplementedError" in found.verdicts[0].checks[0].message


def test_the_judged_cell_says_the_marks_as_nbgrader_reads_them(marks):
    from nbgrader.utils import determine_grade

    _, found = marks(notebook({**RIGHT, "half": "def half(x):\n    return x[:1] / 2"}))
    cell = found.notebook.cells[3]
    assert cell.metadata["autograder"]["marks"] == 0
    assert determine_grade(cell) == (0, 2)
    assert determine_grade(found.notebook.cells[6]) == (2, 2)


def test_words_on_stderr_cost_nothing(marks):
    from nbgrader.utils import determine_grade

    loud = (
        "import sys, warnings\ndef half(x):\n    warnings.warn('w'); print('e', file=sys.stderr)\n"
    )
    earned, found = marks(notebook({**RIGHT, "half": loud + "    return x / 2"}))
    assert earned[0] == 2 and determine_grade(found.notebook.cells[3]) == (2, 2)


@pytest.mark.parametrize(
    ("broken", "word"),
    [
        ("def half(x)\n    return x", "SyntaxError"),
        ("while True: pass", "did not finish"),
        (
            "while True:\n    try:\n        while True: pass\n    except BaseException: pass",
            "stopped",
        ),
        ("import os\nos._exit(1)", "ended the process"),
        ("import ctypes\nctypes.string_at(0)", "ended the process"),
        ("raise SystemExit", "half is not defined"),
    ],
)
def test_a_bad_cell_costs_its_own_exercise_only(marks, monkeypatch, broken, word):
    monkeypatch.setattr(grading, "CELL_LIMIT", 1.0)
    earned, found = marks(notebook({**RIGHT, "twice": broken.replace("half", "twice")}))
    assert earned == [2, 0, 2]
    words = " ".join(check.message for v in found.verdicts for check in v.checks)
    assert word.replace("half", "twice") in words + " ".join(found.notes) + str(found.notebook)


def test_a_function_that_kills_its_process_costs_its_own_exercise_only(marks):
    killer = "import os\ndef twice(x):\n    os._exit(3)"
    earned, found = marks(notebook({**RIGHT, "twice": killer}))
    assert earned == [2, 0, 2]
    assert any("ended the process" in note for note in found.notes)


def own_cells(source, count):
    """The right notebook with cells of the student's own before the first answer."""
    submission = notebook(RIGHT)
    submission.cells[1:1] = [new_code_cell(f"{source}\n# {i}") for i in range(count)]
    return submission


def test_cells_that_kill_their_process_do_not_use_up_the_honest_ones(marks):
    earned, found = marks(own_cells("import os\nos._exit(1)", 8))
    assert earned == [2, 2, 2]
    assert sum("ended the process" in note for note in found.notes) == 8


def test_a_notebook_has_so_much_time_and_the_answers_run_all_the_same(marks, monkeypatch):
    monkeypatch.setattr(grading, "CELLS_LIMIT", 1.0)
    earned, found = marks(own_cells("import time\ntime.sleep(0.4)", 20))
    assert earned == [2, 2, 2] and found.cells_seconds < 4
    assert sum("was not run" in note for note in found.notes) >= 15


def test_an_exercise_has_so_much_time_for_all_its_calls(marks, monkeypatch):
    monkeypatch.setattr(grading, "CALLS_LIMIT", 1.0)
    slow = "import time\ndef twice(x):\n    time.sleep(0.9)\n    return 2 * x"
    assert marks(notebook({**RIGHT, "twice": slow}))[0] == [2, 1, 2]


def test_a_diagnosis_that_fails_costs_nothing(server):
    def diagnose(exercise, verdict):
        raise RecursionError

    found = grading.grade(notebook(RIGHT), notebook(), EXERCISES, server, diagnose)
    assert found.marks == 6


def test_endless_output_is_cut(marks):
    loud = "def half(x):\n    for i in range(200_000): print('spam' * 50)\n    return x / 2"
    earned, found = marks(notebook({**RIGHT, "half": loud}))
    assert earned == [2, 2, 2] and len(nbformat.writes(found.notebook)) < 6_000_000


def damaged(kind):
    submission = notebook(RIGHT)
    cells = submission.cells
    if kind == "metadata stripped, ids renewed":
        for number, cell in enumerate(cells):
            cell.metadata, cell.id = {}, f"renewed{number}"
    elif kind == "cell copied":
        cells.insert(3, copy.deepcopy(cells[2]))
    elif kind == "test deleted":
        del cells[3]
    elif kind == "points and tests edited":
        cells[3].metadata.nbgrader.points = 100
        cells[3].source = "pass"
    elif kind == "tagged to be skipped":
        for cell in cells:
            cell.metadata.tags = ["skip-execution"]
    return submission


@pytest.mark.parametrize(
    "kind",
    [
        "metadata stripped, ids renewed",
        "cell copied",
        "test deleted",
        "points and tests edited",
        "tagged to be skipped",
    ],
)
def test_damage_costs_nothing_and_gains_nothing(marks, kind):
    earned, found = marks(damaged(kind))
    assert earned == [2, 2, 2]
    tests = [c for c in found.notebook.cells if c.metadata.get("nbgrader", {}).get("grade")]
    assert [cell.metadata.nbgrader.points for cell in tests] == [2, 2, 2]


FORGERIES = {
    "assert helpers": "import torch.testing\ntorch.testing.assert_close = lambda *a, **k: None",
    "allclose": "torch.allclose = torch.equal = torch.isclose = lambda *a, **k: True",
    "equality": "torch.Tensor.__eq__ = torch.Tensor.__ne__ = lambda *a: True\n"
    "torch.Tensor.__bool__ = torch.Tensor.all = lambda *a: True",
    "input transformer": "get_ipython().input_transformers_post.append(\n"
    "    lambda lines: ['pass\\n'] if any('assert' in line for line in lines) else lines)",
    "ast transformer": "import ast\nclass Drop(ast.NodeTransformer):\n"
    "    def visit_Assert(self, node): return ast.Pass()\n"
    "get_ipython().ast_transformers.append(Drop())",
    "display formatter": "get_ipython().display_formatter.format = lambda *a, **k: "
    "({'text/plain': '2.0'}, {})\nget_ipython().display_formatter.format(1)",
    "shown marks": "import sys\nsys.displayhook = lambda v: print('2.0')\nprint('2.0')\n2.0",
    "run_cell": "get_ipython().run_cell = lambda *a, **k: type('R', (), {'success': True})()",
    "builtins": "import builtins\nbuiltins.isinstance = lambda *a: True\n"
    "builtins.float = lambda x: 2.0\nbuiltins.repr = lambda x: '2.0'",
    "frames": "import gc\nfor o in gc.get_objects():\n"
    "    if isinstance(o, dict) and 'marks' in o:\n        o['marks'] = 2.0",
    "a tensor that equals all": "class Yes(torch.Tensor):\n"
    "    @classmethod\n"
    "    def __torch_function__(cls, f, types, args=(), kwargs=None): return True\n"
    "    shape = property(lambda self: (2,))\n"
    "half = twice = square = lambda x: torch.zeros(1).as_subclass(Yes)",
    "the wire": "import sys\nfor m in list(sys.modules.values()):\n"
    "    if m and getattr(m, '__name__', '') == 'inside.wire':\n"
    "        m.encode = lambda v: ({'tensor': ['float32', [3], 0]}, [bytes(12)])",
}


@pytest.mark.parametrize("name", FORGERIES)
def test_an_all_wrong_solution_earns_nothing_whatever_it_patches(marks, name):
    submission = notebook(ALL_WRONG)
    last = submission.cells[-2]
    submission.cells[2].source += "\n" + FORGERIES[name]
    last.source += "\n" + FORGERIES[name]
    assert marks(submission)[0] == [0, 0, 0]


def test_an_unreadable_file_is_a_message_and_no_marks():
    found = grading.unreadable(notebook(), EXERCISES, "not JSON")
    assert found.marks == 0 and len(found.verdicts) == 3
    assert found.notebook.metadata["autograder"]["notes"] == ["not JSON"]
