"""What a fork server does before it forks, and where the time of a notebook went."""

import time

import pytest
import torch
from nbformat.v4 import new_code_cell, new_notebook

from autograder.contract import Exercise, expect
from autograder.grading.forkserver import ForkServer
from autograder.grading.grade import grade

PICTURE = "import matplotlib.pyplot as plt; plt.plot([1, 2]); plt.show()"
SLOW = 0.3  # seconds that the slow cell and the slow call sleep


@pytest.fixture(scope="module")
def server():
    with ForkServer() as server:
        yield server


def test_a_child_shows_pictures(server):
    with server.child() as process:
        (output,), failed = process.run_cell(PICTURE, 10.0)
    assert not failed
    assert set(output["data"]) == {"image/png", "text/plain"}


def test_a_child_finds_nothing_of_the_first_shell(server):
    seen = "print(sorted(n for n in dir() if n in ('axes', 'plt')), len(In), __name__)"
    figures = "import matplotlib.pyplot as plt; print(plt.get_fignums())"
    with server.child() as process:
        (names,), _ = process.run_cell(seen, 10.0)
        (open_figures,), _ = process.run_cell(figures, 10.0)
    assert names["text"] == "[] 2 __main__\n"
    assert open_figures["text"] == "[]\n"


def test_seeds_are_those_of_torch(server):
    torch.manual_seed(7)
    wanted = torch.randn(3).tolist()
    with server.child() as process:
        process.seed(7)
        (output,), _ = process.run_cell("import torch; print(torch.randn(3).tolist())", 10.0)
    assert output["text"] == f"{wanted}\n"


def test_a_notebook_says_where_its_time_went(server):
    slow = Exercise("slow", unit="00_toy", notebook="toy")

    @slow.check("a number")
    def _(student):
        expect(student.slow(1.0), 1.0)
        time.sleep(SLOW)  # the judge's own time

    def cell(source, **info):
        known = {"grade": False, "solution": False, "locked": False, "schema_version": 3}
        return new_code_cell(source, metadata={"nbgrader": {**known, **info}})

    answer = f"import time\ndef slow(x):\n    time.sleep({SLOW})\n    return x"
    master = new_notebook(
        cells=[
            cell(f"import time\ntime.sleep({2 * SLOW})", grade_id="given", locked=True),
            cell(answer, grade_id="slow", solution=True),
            cell("assert slow", grade_id="test_slow", grade=True, locked=True, points=1),
        ]
    )
    graded = grade(master, master, {"slow": slow}, server, lambda exercise, verdict: None)
    assert graded.marks == 1.0
    assert 2 * SLOW <= graded.cells_seconds <= graded.seconds - 2 * SLOW
    assert SLOW <= graded.probes_seconds <= graded.seconds - 3 * SLOW
