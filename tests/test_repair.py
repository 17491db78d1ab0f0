"""Whatever happened to a notebook, its answers earn what they earned and everything else is ours."""

import copy
import gzip
import json
import os
import random
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import nbformat
import pytest
from IPython.core.inputtransformer2 import TransformerManager
from nbformat import NotebookNode
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook, new_raw_cell

from autograder.grading.repair import Repaired, UnreadableSubmission, read_submission, repair

DEFINES = {"relu": ["relu"], "scalar": ["Value"], "moments": ["mean", "variance"]}
RAISE = "raise NotImplementedError"
STUBS = {
    "relu": f'def relu(x):\n    """The positive part."""\n    {RAISE}',
    "scalar": f'class Value:\n    """A number."""\n\n    def __init__(self, data):\n        {RAISE}',
    "moments": f"def mean(xs):\n    {RAISE}\n\n\ndef variance(xs):\n    {RAISE}",
}
MEAN = "def mean(xs):\n    return math.fsum(xs) / len(xs)"
VARIANCE = "def variance(xs):\n    m = mean(xs)\n    return mean([(x - m) ** 2 for x in xs])"
SOLUTIONS = {
    "relu": 'def relu(x):\n    """Mine."""\n    return max(x, 0)',
    "scalar": "class Value:\n    def __init__(self, data):\n        self.data = data",
    "moments": f"{MEAN}\n\n\n{VARIANCE}",
}
TESTS = {
    "relu": "assert relu(2) == 2\nassert relu(-2) == 0",
    "scalar": "v = Value(3)\nassert v.data == 3",
    "moments": "assert mean([1, 3]) == 2\nassert variance([1, 3]) == 1",
}
HIDDEN = {
    "relu": "relu(-5) == 0 and relu(7) == 7",
    "scalar": "Value(4).data == 4",
    "moments": "mean([2, 4]) == 3 and variance([2, 4]) == 1",
}
EXPERIMENT = "steps = 30\nlosses = []\nfor step in range(steps):\n    losses.append(1 / (step + 1))"


def nbgrader(name: str, *, solution: bool = False, points: int | None = None) -> dict[str, Any]:
    info: dict[str, Any] = {"grade": points is not None, "grade_id": name, "solution": solution}
    info |= {"locked": not solution, "schema_version": 3, "task": False}
    return {"nbgrader": info if points is None else {**info, "points": points}}


def make_release() -> NotebookNode:
    cells = [
        new_markdown_cell("# An assignment\n\nWhy do nets not learn?"),
        new_code_cell("import os"),
        new_code_cell("import math\nimport random"),
    ]
    for points, name in enumerate(DEFINES, 2):
        cells += [
            new_markdown_cell(f"### Exercise {name} ({points} points)\n\nWhat {name} is."),
            new_code_cell(STUBS[name], id=name, metadata=nbgrader(name, solution=True)),
            new_code_cell(TESTS[name], metadata=nbgrader(f"test_{name}", points=points)),
            new_code_cell(f"# look at {name}\n{EXPERIMENT.replace('losses', f'l_{name}')}"),
            new_markdown_cell(f"What did you see in {name}?"),
        ]
    for number, cell in enumerate(cells):
        if "nbgrader" not in cell.metadata:
            cell.metadata = NotebookNode(nbgrader(f"cell-{number:02}"))
        cell.metadata = nbformat.from_dict(cell.metadata)
        cell.id = cell.metadata.nbgrader.grade_id.replace("_", "-")
    return new_notebook(cells=cells)


RELEASE = make_release()
SLOT = {name: 4 + 5 * i for i, name in enumerate(DEFINES)}
TEST = {name: 5 + 5 * i for i, name in enumerate(DEFINES)}


def solved() -> NotebookNode:
    notebook = copy.deepcopy(RELEASE)
    for name, slot in SLOT.items():
        notebook.cells[slot].source = SOLUTIONS[name]
    return notebook


def bare(notebook: NotebookNode) -> NotebookNode:
    """As Colab and others leave a notebook: no metadata, new ids."""
    for number, cell in enumerate(notebook.cells):
        cell.metadata, cell.id = NotebookNode(), f"new{number}"
    return notebook


class Shell:
    """What IPython's magics need, without IPython's shell."""

    def __init__(self) -> None:
        self.names: dict[str, Any] = {"get_ipython": lambda: self}
        self.transform = TransformerManager().transform_cell

    def run(self, source: str) -> None:
        try:
            exec(self.transform(source), self.names)
        except Exception:
            pass  # as in a notebook that is run to its end

    def run_line_magic(self, *_: str) -> None: ...

    def system(self, _: str) -> None: ...

    def run_cell_magic(self, name: str, _: str, body: str) -> None:
        if name == "time":
            self.run(body)


def earned(notebook: NotebookNode) -> set[str]:
    """Run the cells in order; at each test cell, is its exercise solved?"""
    shell, passed = Shell(), set()
    for cell in notebook.cells:
        if cell.cell_type == "code":
            shell.run(cell.source)
        info = cell.metadata.get("nbgrader", {})
        if info.get("grade"):
            name = info["grade_id"].removeprefix("test_")
            try:
                passed |= {name} if eval(HIDDEN[name], shell.names) else set()
            except Exception:
                continue
    return passed


def own(cell: NotebookNode) -> bool:
    return cell.metadata.get("autograder", {}).get("student", False)


def extras(repaired: Repaired) -> list[str]:
    return [cell.source for cell in repaired.notebook.cells if own(cell)]


def check(submission: NotebookNode) -> Repaired:
    """Repair, and check what always holds."""
    before = copy.deepcopy(RELEASE)
    repaired = repair(submission, RELEASE, DEFINES)
    assert before == RELEASE
    nbformat.validate(repaired.notebook)
    frame = [cell for cell in repaired.notebook.cells if not own(cell)]
    assert len(frame) == len(RELEASE.cells)
    for number, (cell, ours) in enumerate(zip(frame, RELEASE.cells, strict=True)):
        assert (cell.id, cell.metadata, cell.cell_type) == (ours.id, ours.metadata, ours.cell_type)
        if number not in SLOT.values():
            assert cell.source == ours.source
        assert cell.cell_type != "code" or (cell.outputs, cell.execution_count) == ([], None)
    assert sorted([*repaired.answers, *repaired.missing]) == sorted(DEFINES)
    for name in repaired.missing:
        assert frame[SLOT[name]].source == STUBS[name]
    assert repaired == repair(submission, RELEASE, DEFINES)
    return repaired


def test_release_earns_nothing_and_solutions_everything() -> None:
    assert earned(RELEASE) == set()
    assert earned(solved()) == set(DEFINES)


def test_clean_submission_has_no_notes() -> None:
    repaired = check(solved())
    assert (repaired.notes, repaired.missing, extras(repaired)) == ([], [], [])
    assert repaired.answers == SOLUTIONS
    assert repaired.notebook == solved()


def test_untouched_release() -> None:
    repaired = check(copy.deepcopy(RELEASE))
    assert (repaired.notes, repaired.missing, repaired.answers) == ([], [], STUBS)
    assert repaired.notebook == RELEASE


# Damage after which every answer still earns its marks; each edits a solved notebook's cells.

HELPER = "def square(x):\n    return x * x"
USES_HELPER = MEAN + "\n\n\ndef variance(xs):\n    return mean([square(x - mean(xs)) for x in xs])"


def strip(cells: list[NotebookNode]) -> None:
    for number, cell in enumerate(cells):
        cell.metadata, cell.id = NotebookNode(), f"new{number}"


def colab(cells: list[NotebookNode]) -> None:
    for cell in cells:
        cell.metadata = NotebookNode(id=cell.id)
        del cell["id"]


def renew_ids(cells: list[NotebookNode]) -> None:
    for number, cell in enumerate(cells):
        cell.id = f"fresh-{number}"


def copy_twice(cells: list[NotebookNode]) -> None:
    cells.insert(SLOT["scalar"], copy.deepcopy(cells[SLOT["scalar"]]))


def stub_copied_below(cells: list[NotebookNode]) -> None:
    cells.append(copy.deepcopy(RELEASE.cells[SLOT["relu"]]))


def stripped_stub_copied_below(cells: list[NotebookNode]) -> None:
    cells.append(new_code_cell("# the original\n" + STUBS["relu"]))


def last_version_counts(cells: list[NotebookNode]) -> None:
    cells.insert(
        SLOT["relu"], new_code_cell("def relu(x):\n    return x", metadata=cells[4].metadata)
    )


def delete_tests(cells: list[NotebookNode]) -> None:
    cells[:] = [cell for number, cell in enumerate(cells) if number not in TEST.values()]


def edit_tests(cells: list[NotebookNode]) -> None:
    for place in TEST.values():
        cells[place].source = "def relu(x): return 99\nassert True"


def delete_given(cells: list[NotebookNode]) -> None:
    del cells[:3]


def reverse(cells: list[NotebookNode]) -> None:
    cells.reverse()


def split_helper_off(cells: list[NotebookNode]) -> None:
    cells[SLOT["moments"]].source = USES_HELPER
    cells.insert(SLOT["moments"] + 1, new_code_cell(HELPER, metadata=cells[14].metadata))


def split_in_two_with_metadata(cells: list[NotebookNode]) -> None:
    cells[SLOT["moments"]].source = MEAN
    cells.insert(SLOT["moments"] + 1, new_code_cell(VARIANCE, metadata=cells[14].metadata))


def split_in_two_without_metadata(cells: list[NotebookNode]) -> None:
    split_in_two_with_metadata(cells)
    strip(cells)


def half_elsewhere(cells: list[NotebookNode]) -> None:
    cells[SLOT["moments"]].source = f"{MEAN}\n\n\ndef variance(xs):\n    {RAISE}"
    cells.insert(SLOT["moments"], new_code_cell(VARIANCE))


def merge_with_test(cells: list[NotebookNode]) -> None:
    cells[SLOT["relu"]].source += "\n\n" + TESTS["relu"]
    del cells[TEST["relu"]]


def merge_into_test(cells: list[NotebookNode]) -> None:
    cells[TEST["relu"]].source = SOLUTIONS["relu"] + "\n\n" + TESTS["relu"]
    del cells[SLOT["relu"]]


def merge_into_given(cells: list[NotebookNode]) -> None:
    cells[2].source += "\n\n" + SOLUTIONS["relu"]
    cells[SLOT["relu"]].source = STUBS["relu"]


def merge_two_answers(cells: list[NotebookNode]) -> None:
    cells[SLOT["relu"]].source += "\n\n" + cells.pop(SLOT["scalar"]).source


def all_on_top(cells: list[NotebookNode]) -> None:
    for name, slot in SLOT.items():
        cells[slot].source = STUBS[name]
    cells.insert(0, new_code_cell("import math\n\n" + "\n\n".join(SOLUTIONS.values())))


def all_on_top_stripped(cells: list[NotebookNode]) -> None:
    all_on_top(cells)
    strip(cells)


def all_at_the_bottom(cells: list[NotebookNode]) -> None:
    all_on_top(cells)
    cells.append(cells.pop(0))


def separate_at_the_bottom(cells: list[NotebookNode]) -> None:
    for name, slot in SLOT.items():
        cells[slot].source = STUBS[name]
    mine = {**SOLUTIONS, "moments": USES_HELPER}
    cells += [new_code_cell(HELPER), *(new_code_cell(source) for source in mine.values())]


def helper_at_the_bottom(cells: list[NotebookNode]) -> None:
    cells[SLOT["moments"]].source = USES_HELPER.replace("square(", "square_(")
    cells.append(new_code_cell("def square_(x):\n    return square(x)"))
    cells.append(new_code_cell(HELPER))


def retype_markdown(cells: list[NotebookNode]) -> None:
    cells[4] = new_markdown_cell(cells[4].source, metadata=cells[4].metadata)


def retype_raw_stripped(cells: list[NotebookNode]) -> None:
    cells[9] = new_raw_cell(cells[9].source)
    strip(cells)


def duplicated_metadata(cells: list[NotebookNode]) -> None:
    # VS Code: the answer was cut and typed anew, its metadata went with a pasted helper.
    cells[4].metadata = NotebookNode()
    cells[4].id = "vs-code"
    cells.insert(4, new_code_cell(HELPER, id="relu", metadata=nbgrader("relu", solution=True)))


def test_metadata_on_helper(cells: list[NotebookNode]) -> None:
    cells[SLOT["moments"]].source = USES_HELPER
    cells.insert(14, new_code_cell(HELPER, metadata=nbgrader("test_relu", points=50)))


test_metadata_on_helper.__test__ = False  # type: ignore[attr-defined]


def swapped_metadata(cells: list[NotebookNode]) -> None:
    one, two = cells[4], cells[9]
    one.source, two.source = two.source, one.source


def magics(cells: list[NotebookNode]) -> None:
    strip(cells)
    cells[4].source = "%%time\n" + cells[4].source
    cells[9].source = "%matplotlib inline\n!pip install x\n" + cells[9].source + "\nfiles = !ls"
    cells[14].source += "\n%timeit mean([1])\nmean?"


def indented(cells: list[NotebookNode]) -> None:
    strip(cells)
    cells[4].source = "\n".join("    " + line for line in SOLUTIONS["relu"].split("\n"))


def lambda_answer(cells: list[NotebookNode]) -> None:
    strip(cells)
    cells[4].source = "relu = lambda x: max(x, 0)"


def partial_answer(cells: list[NotebookNode]) -> None:
    cells[4].source = "from functools import partial\nrelu = partial(max, 0)"


def partial_on_top_of_stub(cells: list[NotebookNode]) -> None:
    cells[4].source = STUBS["relu"]
    cells.insert(4, new_code_cell("from functools import partial\nrelu = partial(max, 0)"))


def alias_of_helper(cells: list[NotebookNode]) -> None:
    cells[4].source = "def my_relu(x):\n    return max(x, 0)"
    cells.insert(5, new_code_cell("relu = my_relu"))


def import_added_to_given(cells: list[NotebookNode]) -> None:
    cells[2].source = "import math, cmath\nimport random\n\nZERO = 0"
    cells[4].source = "def relu(x):\n    cmath.exp(0)\n    return max(x, ZERO)"


def helper_typed_into_given(cells: list[NotebookNode]) -> None:
    cells[2].source += "\n\n" + HELPER
    cells[14].source = USES_HELPER


def given_edited_without_metadata(cells: list[NotebookNode]) -> None:
    cells[6].source = cells[6].source.replace("30", "30_000_000")
    cells[5].source += "\nprint('works')"
    strip(cells)


def broken_scratch_below(cells: list[NotebookNode]) -> None:
    cells.append(new_code_cell("def relu(x:\n    return 0"))


def scratch_uses_the_name(cells: list[NotebookNode]) -> None:
    cells.insert(6, new_code_cell("relu = relu(3)\nxs = [1, 2]"))


def patched_class(cells: list[NotebookNode]) -> None:
    cells[9].source = "class Value:\n    pass"
    cells.insert(10, new_code_cell("def init(self, data):\n    self.data = data"))
    cells.insert(11, new_code_cell("Value.__init__ = init"))


def patched_class_with_all_in_one(cells: list[NotebookNode]) -> None:
    patched = "class Value:\n    pass\n\ndef init(self, data):\n    self.data = data\n"
    cells[4].source += f"\n\n{patched}\nValue.__init__ = init"
    cells[9].source = STUBS["scalar"]


def tags(cells: list[NotebookNode]) -> None:
    for cell in cells:
        cell.metadata["tags"] = ["skip-execution", "raises-exception"]


def points(cells: list[NotebookNode]) -> None:
    for cell in cells:
        cell.metadata["nbgrader"] |= {"points": 100, "grade": True, "solution": True}


def nulls(cells: list[NotebookNode]) -> None:
    for cell in cells:
        cell.metadata = None
        cell["id"] = None
        cell["outputs"] = None


def test_cell_split(cells: list[NotebookNode]) -> None:
    one, two = TESTS["relu"].split("\n")
    cells[5].source = two
    cells.insert(5, new_code_cell(one))


test_cell_split.__test__ = False  # type: ignore[attr-defined]

DAMAGES: list[Callable[[list[NotebookNode]], None]] = [
    strip, colab, renew_ids, copy_twice, stub_copied_below, stripped_stub_copied_below,
    last_version_counts, delete_tests, edit_tests, delete_given, reverse, split_helper_off,
    split_in_two_with_metadata, split_in_two_without_metadata, half_elsewhere, merge_with_test,
    merge_into_test, merge_into_given, merge_two_answers, all_on_top, all_on_top_stripped,
    all_at_the_bottom, separate_at_the_bottom, helper_at_the_bottom, retype_markdown,
    retype_raw_stripped, duplicated_metadata, test_metadata_on_helper, swapped_metadata, magics,
    indented, lambda_answer, partial_answer, partial_on_top_of_stub, alias_of_helper,
    import_added_to_given, helper_typed_into_given, given_edited_without_metadata,
    broken_scratch_below, scratch_uses_the_name, patched_class, patched_class_with_all_in_one,
    tags, points, nulls, test_cell_split,
]  # fmt: skip


@pytest.mark.parametrize("damage", DAMAGES, ids=lambda damage: damage.__name__)
def test_damage_costs_nothing(damage: Callable[[list[NotebookNode]], None]) -> None:
    submission = solved()
    damage(submission.cells)
    repaired = check(submission)
    assert repaired.missing == []
    assert earned(repaired.notebook) == set(DEFINES)
    for source in repaired.answers.values():
        compile(source, "answer", "exec")
