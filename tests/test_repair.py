"""Whatever happened to a notebook: its answers keep their marks, and the rest is the master's."""

import contextlib
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

from autograder.grading.repair import Repaired, repair
from autograder.grading.submission import UnreadableSubmission, read_submission

DEFINES = {"relu": ["relu"], "scalar": ["Value"], "moments": ["mean", "variance"]}
RAISE = "raise NotImplementedError"
STUBS = {
    "relu": f'def relu(x):\n    """The positive part."""\n    {RAISE}',
    "scalar": f'class Value:\n    """Data."""\n\n    def __init__(self, data):\n        {RAISE}',
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
        cell.id = cell["metadata"].nbgrader.grade_id.replace("_", "-")
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
        with contextlib.suppress(Exception):  # as in a notebook that is run to its end
            exec(self.transform(source), self.names)

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


@pytest.fixture(autouse=True)
def _quiet(recwarn: pytest.WarningsRecorder) -> None:
    """nbformat warns of ids that this module damages on purpose."""


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


BASE = "class Base:\n    def __init__(self, data):\n        self.data = data"
DERIVED = "class Value(Base):\n    pass"


def base_class_at_the_bottom(cells: list[NotebookNode]) -> None:
    cells[9].source = STUBS["scalar"]
    cells += [new_code_cell(BASE), new_code_cell(DERIVED)]


def base_class_in_shared_cell(cells: list[NotebookNode]) -> None:
    cells[4].source, cells[9].source = STUBS["relu"], STUBS["scalar"]
    cells.append(new_code_cell(f"{BASE}\n\n{DERIVED}\n\n{SOLUTIONS['relu']}"))


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
    base_class_at_the_bottom, base_class_in_shared_cell, tags, points, nulls, test_cell_split,
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


# Damage that costs what it should, and no more.


def test_deleted_answer_is_missing() -> None:
    submission = solved()
    del submission.cells[SLOT["scalar"]]
    repaired = check(submission)
    assert repaired.missing == ["scalar"]
    assert earned(repaired.notebook) == {"relu", "moments"}
    assert any("scalar" in note for note in repaired.notes)


def test_emptied_answer_is_missing() -> None:
    submission = solved()
    submission.cells[SLOT["scalar"]].source = " \n"
    assert check(submission).missing == ["scalar"]


def test_syntax_error_costs_its_own_exercise() -> None:
    for damage in (lambda cells: None, strip):
        submission = solved()
        submission.cells[4].source = "def relu(x)\n    return max(x, 0)"
        damage(submission.cells)
        repaired = check(submission)
        assert repaired.missing == []
        assert repaired.notebook.cells[4].source == submission.cells[4].source
        assert earned(repaired.notebook) == {"scalar", "moments"}


def test_unparsable_attempt_loses_against_one_that_runs() -> None:
    submission = solved()
    submission.cells.insert(5, new_code_cell("def relu(x:\n    pass"))
    repaired = check(submission)
    assert repaired.answers == SOLUTIONS
    assert len(extras(repaired)) == 1


def test_renamed_function_is_found_by_place() -> None:
    submission = solved()
    submission.cells[4].source = "def ReLU(x):\n    return max(x, 0)"
    repaired = check(bare(submission))
    assert repaired.answers["relu"] == submission.cells[4].source
    assert earned(repaired.notebook) == {"scalar", "moments"}
    assert any("by its place" in note for note in repaired.notes)


def test_renamed_function_is_found_by_metadata() -> None:
    submission = solved()
    submission.cells[4].source = "def ReLU(x):\n    return max(x, 0)"
    submission.cells.append(submission.cells.pop(4))
    assert check(submission).answers["relu"] == submission.cells[-1].source


def test_untouched_stub_comes_before_metadata_on_a_helper() -> None:
    submission = solved()
    submission.cells[4].source = STUBS["relu"]
    duplicated_metadata(submission.cells)
    repaired = check(submission)
    assert repaired.answers["relu"] == STUBS["relu"]
    assert extras(repaired) == [HELPER]


def test_replaced_version_comes_before_the_answer() -> None:
    submission = solved()
    submission.cells[4].source = STUBS["relu"]
    submission.cells.insert(9, new_code_cell("def relu(x):\n    return x"))
    submission.cells.append(new_code_cell(SOLUTIONS["relu"]))
    repaired = check(submission)
    assert own(repaired.notebook.cells[4])
    assert repaired.notebook.cells[5].source == SOLUTIONS["relu"]


def test_markdown_text_is_no_answer() -> None:
    submission = solved()
    submission.cells[4] = new_markdown_cell("I could not do relu.", metadata=nbgrader("relu"))
    repaired = check(submission)
    assert repaired.missing == ["relu"]
    assert extras(repaired) == ["I could not do relu."]


def test_other_assignment() -> None:
    other = new_notebook(
        cells=[new_code_cell("def gelu(x):\n    return x"), new_markdown_cell("# Hi")]
    )
    for submission in (other, new_notebook()):
        repaired = check(submission)
        assert repaired.missing == list(DEFINES)
        assert repaired.notebook == RELEASE
        assert len(repaired.notes) == 1 and "right notebook" in repaired.notes[0]


def test_last_of_two_versions_wins_even_if_wrong() -> None:
    submission = solved()
    submission.cells.append(new_code_cell("def relu(x):\n    return x"))
    repaired = check(submission)
    assert earned(repaired.notebook) == {"scalar", "moments"}
    assert extras(repaired) == [SOLUTIONS["relu"]]
    assert any("2 different answers" in note for note in repaired.notes)


def test_writefile_defines_nothing() -> None:
    submission = solved()
    submission.cells.append(new_code_cell("%%writefile a.py\ndef relu(x):\n    return x"))
    repaired = check(submission)
    assert earned(repaired.notebook) == set(DEFINES)
    assert extras(repaired) == [submission.cells[-1].source]


# What is kept, and where.


def test_own_cells_stay_where_they_were() -> None:
    submission = solved()
    submission.cells.insert(9, new_markdown_cell("My thoughts"))
    submission.cells.insert(7, new_code_cell("print(relu(1))"))
    submission.cells.insert(0, new_raw_cell("raw"))
    submission.cells.append(new_code_cell("!ls"))
    repaired = check(submission)
    found = [cell.source for cell in repaired.notebook.cells]
    assert found == [cell.source for cell in submission.cells]
    kinds = [cell.cell_type for cell in repaired.notebook.cells if own(cell)]
    assert kinds == ["raw", "code", "markdown", "code"]


def test_copies_of_the_masters_cells_are_dropped() -> None:
    submission = solved()
    for place in (0, 2, 5, 6, 4):
        submission.cells.append(copy.deepcopy(submission.cells[place]))
        submission.cells.append(new_code_cell(submission.cells[place].source + "\n"))
    submission.cells[-1].source += "# mine"
    assert extras(check(submission)) == []


def test_edited_given_cells_without_metadata_do_not_run_too() -> None:
    submission = solved()
    given_edited_without_metadata(submission.cells)
    submission.cells[3].source += "\n\nMy remark."
    assert extras(check(submission)) == []


def test_own_import_before_the_masters_is_kept() -> None:
    submission = solved()
    submission.cells.insert(0, new_code_cell("import math"))
    assert extras(check(submission)) == ["import math"]


def test_edited_given_cell_keeps_only_imports_and_helpers() -> None:
    submission = solved()
    new = "import cmath\nEPS = 1e-6\nmath = None\nos.x = 1\nrandom.seed(0)\ndef h(): ...\n"
    submission.cells[2].source = new + "def steps(): ...\nbig = list(range(9))"
    repaired = check(submission)
    assert extras(repaired) == ["import cmath\nEPS = 1e-6\ndef h(): ..."]
    assert own(repaired.notebook.cells[3])


def test_answers_hold_what_the_exercise_uses_and_no_more() -> None:
    submission = solved()
    submission.cells[4].source = f"{SOLUTIONS['relu']}\n\n{TESTS['relu']}\n{SOLUTIONS['scalar']}"
    submission.cells[9].source = STUBS["scalar"]
    submission.cells[14].source = "%time\n" + USES_HELPER
    submission.cells.append(new_code_cell("def cube(x):\n    return x\n\n" + HELPER))
    answers = check(submission).answers
    assert answers["relu"] == SOLUTIONS["relu"]
    assert answers["scalar"] == SOLUTIONS["scalar"]
    assert HELPER in answers["moments"] and "cube" not in answers["moments"]
    compile(answers["moments"], "moments", "exec")


def test_notes_are_in_words() -> None:
    submission = solved()
    del submission.cells[TEST["moments"]]
    submission.cells[5].source += "\nassert relu(3) == 3"
    submission.cells[9].cell_type = "markdown"
    text = " ".join(check(submission).notes)
    assert "put back: test_moments" in text and "handed out: test_relu" in text
    assert "scalar: the answer stood in a markdown cell" in text
    stripped = check(bare(solved())).notes
    assert stripped == [
        "Your notebook had no cell metadata (Colab does this); "
        "3 of 3 answers were found by their function names."
    ]


# Reading.


def write(path: Path, notebook: Any, encoding: str = "utf-8") -> Path:
    path.write_bytes(json.dumps(notebook, ensure_ascii=False).encode(encoding, "surrogatepass"))
    return path


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-16-le", "utf-32"])
def test_encodings(tmp_path: Path, encoding: str) -> None:
    notebook = solved()
    notebook.cells[4].source += "  # ответ"
    repaired = check(read_submission(write(tmp_path / "a.ipynb", notebook, encoding)))
    assert repaired.answers["relu"].endswith("# ответ")


def test_unknown_encoding_spoils_only_comments(tmp_path: Path) -> None:
    notebook = solved()
    notebook.cells[4].source += "  # ответ"
    repaired = check(read_submission(write(tmp_path / "a.ipynb", notebook, "cp1251")))
    assert earned(repaired.notebook) == set(DEFINES)


def test_lists_missing_keys_and_odd_characters(tmp_path: Path) -> None:
    notebook = json.loads(json.dumps(solved()))
    cells = notebook["cells"]
    cells[4] = {"cell_type": "code", "source": SOLUTIONS["relu"].splitlines(keepends=True)}
    cells[9] = {"source": SOLUTIONS["scalar"].splitlines(), "metadata": None, "outputs": 3}
    cells[14]["source"] = (
        "\r\n".join(SOLUTIONS["moments"].split("\n")) + "\r\n# \0 \ud800 \ud83d\ude00"
    )
    cells += [None, 7, {}, {"cell_type": ["code"], "source": {"a": 1}}, {"source": [1, None, "x"]}]
    notebook |= {"metadata": None, "nbformat_minor": 99}
    submission = read_submission(write(tmp_path / "a.ipynb", notebook, "utf-16"))
    repaired = check(submission)
    assert earned(repaired.notebook) == set(DEFINES)
    nbformat.write(repaired.notebook, tmp_path / "b.ipynb")


def test_format_3(tmp_path: Path) -> None:
    old = nbformat.convert(solved(), 3)
    submission = read_submission(write(tmp_path / "a.ipynb", old))
    converted = nbformat.convert(old, 4)
    assert [c.source for c in submission.cells] == [c.source for c in converted.cells]
    assert earned(check(submission).notebook) == set(DEFINES)
    assert read_submission(write(tmp_path / "b.ipynb", {"worksheets": [{}, 1]})).cells == []


NESTED = b'{"nbformat": 4, "cells": ' + b"[" * 200_000 + b"]" * 200_000 + b"}"
REFUSED = {
    "empty": (b"", "is empty"),
    "blank": (b" \n\0", "is empty"),
    "text": (b"def relu(x): return x", "not valid JSON"),
    "page": (b"<!DOCTYPE html><html>", "web page"),
    "cut": (json.dumps(RELEASE).encode()[:-40], "not valid JSON"),
    "list": (b"[1, 2]", "no Jupyter notebook"),
    "string": (b'"cells"', "no Jupyter notebook"),
    "other": (b'{"cells": "x"}', "no Jupyter notebook"),
    "no cells": (b'{"nbformat": 4}', "no Jupyter notebook"),
    "format 5": (b'{"nbformat": 5, "cells": []}', "format 5"),
    "format 2": (b'{"nbformat": 2, "worksheets": []}', "format 2"),
    "nested": (NESTED, "not valid JSON"),
    "digits": (b'{"nbformat": ' + b"9" * 5000 + b"}", "not valid JSON"),
    "gzip": (gzip.compress(json.dumps(RELEASE).encode()), "gzip archive"),
    "pdf": (b"%PDF-1.7", "PDF"),
    "many cells": (b'{"nbformat": 4, "cells": [' + b"{}," * 5000 + b"{}]}", "5000 cells"),
    "much text": (
        json.dumps({"cells": [{"source": "x" * 30_000}] * 34}).encode(),
        "more than 1 MB of text",
    ),
    "binary": (bytes(range(256)) * 9, "not valid JSON"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_refused(tmp_path: Path, name: str) -> None:
    data, reason = REFUSED[name]
    path = tmp_path / "a.ipynb"
    path.write_bytes(data)
    with pytest.raises(UnreadableSubmission, match=reason) as caught:
        read_submission(path)
    message = str(caught.value)
    assert message.startswith("a.ipynb") and "\n" not in message and str(tmp_path) not in message


def test_zip_and_size(tmp_path: Path) -> None:
    path = tmp_path / "a.ipynb"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("a.ipynb", "0" * 10**6)
    with pytest.raises(UnreadableSubmission, match="zip archive"):
        read_submission(path)
    write(path, solved())
    size = path.stat().st_size
    assert read_submission(path, max_bytes=size).cells
    with pytest.raises(UnreadableSubmission, match="larger than"):
        read_submission(path, max_bytes=size - 1)


def test_links_pipes_and_paths(tmp_path: Path) -> None:
    submitted, outside = tmp_path / "submitted", tmp_path / "outside"
    (submitted / "ada").mkdir(parents=True)
    outside.mkdir()
    good = write(submitted / "ada/a.ipynb", solved())
    write(outside / "a.ipynb", solved())
    assert read_submission(good, within=submitted).cells
    (submitted / "eve").symlink_to(outside)
    (submitted / "ada/link.ipynb").symlink_to(good)
    os.mkfifo(submitted / "ada/pipe.ipynb")
    for path, reason in [
        (submitted / "eve/a.ipynb", "symbolic link"),
        (submitted / "ada/link.ipynb", "symbolic link"),
        (submitted / "ada/pipe.ipynb", "is not a file"),
        (submitted / "ada", "is not a file|cannot be read"),
        (submitted / "ada/none.ipynb", "cannot be read"),
        (submitted / "ada/../../outside/a.ipynb", "outside the folder"),
        (outside / "a.ipynb", "outside the folder"),
        (submitted, "outside the folder"),
        (submitted / "a\0.ipynb", "cannot be read"),
    ]:
        with pytest.raises(UnreadableSubmission, match=reason):
            read_submission(path, within=submitted)
    with pytest.raises(UnreadableSubmission, match="symbolic link"):
        read_submission(submitted / "ada/link.ipynb")


# Anything at all.

HOSTILE = {
    "parentheses": "(" * 50_000,
    "minus": "-" * 50_000 + "1",
    "sum": "x = " + "1+" * 20_000 + "1",
    "attributes": "a" + ".b" * 20_000 + " = 1",
    "blocks": "\n".join(" " * n + "if 1:" for n in range(99)) + "\n" + " " * 99 + "x",
    "long": "def relu(x): return x\n" * 200_000,
    "blank": " " * 99_000 + "\n%x",
    "equal signs": "a," * 40_000 + "!",
    "surrogate": "def relu(x): return '\ud800'",
    "null": "def relu(x):\0 return x",
}


@pytest.mark.timeout(60)
@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_source(name: str) -> None:
    submission = solved()
    submission.cells[4].source = HOSTILE[name]
    assert {"scalar", "moments"} <= set(check(submission).answers)


def random_value(rng: random.Random) -> Any:
    texts = [*SOLUTIONS.values(), *STUBS.values(), *TESTS.values(), EXPERIMENT, HELPER, "x ="]
    names = ["relu", "scalar", "test_relu", "cell-02", "moments", "cell-00"]
    values = [None, 3, [], {}, "", ["a", 1], "markdown", "raw", "code", rng.choice(texts)]
    values += [{"nbgrader": rng.choice([None, [], {"grade_id": rng.choice([*names, None, 4])}])}]
    return rng.choice([*values, rng.choice(names), {"id": rng.choice(names)}])


def mutate(rng: random.Random, notebook: dict[str, Any]) -> None:
    cells = notebook["cells"]
    kind = rng.choice(
        ["delete", "duplicate", "move", "merge", "split", "set", "drop", "new", "top"]
    )
    if kind == "top" and rng.random() < 0.1:
        notebook[rng.choice(["cells", "nbformat", "metadata", "worksheets"])] = random_value(rng)
    if kind == "new":
        cells.insert(rng.randint(0, len(cells)), random_value(rng))
    if not isinstance(notebook["cells"], list) or not cells:
        return
    place = rng.randrange(len(cells))
    cell = cells[place]
    if kind == "delete":
        del cells[place]
    if kind == "duplicate":
        cells.insert(rng.randint(0, len(cells)), copy.deepcopy(cell))
    if kind == "move":
        cells.insert(rng.randrange(len(cells)), cells.pop(place))
    if not isinstance(cell, dict) or not cell:
        return
    if kind in ("merge", "split") and isinstance(cell.get("source"), str):
        other = copy.deepcopy(cell)
        lines, cut = cell["source"].split("\n"), rng.randrange(9)
        cell["source"], other["source"] = "\n".join(lines[:cut]), "\n".join(lines[cut:])
        cells.insert(place + rng.randrange(2), other)
    if kind == "set":
        cell[rng.choice(["cell_type", "source", "metadata", "id", "outputs"])] = random_value(rng)
    if kind == "drop":
        del cell[rng.choice(list(cell))]


@pytest.mark.parametrize("seed", range(6))
def test_any_mutation_leaves_the_masters_cells(tmp_path: Path, seed: int) -> None:
    rng = random.Random(seed)
    refused = 0
    for _ in range(50):
        notebook = json.loads(json.dumps(solved()))
        for _ in range(rng.randint(1, 12)):
            if isinstance(notebook["cells"], list):
                mutate(rng, notebook)
        try:
            submission = read_submission(write(tmp_path / "a.ipynb", notebook))
        except UnreadableSubmission:
            refused += 1
            continue
        check(submission)
        if rng.random() < 0.2:  # what has not been through read_submission cannot stop it either
            check(NotebookNode(nbformat.from_dict(notebook)))
    assert refused < 25


@pytest.mark.parametrize("seed", range(4))
def test_moved_and_copied_cells_keep_their_marks(seed: int) -> None:
    rng = random.Random(seed)
    for _ in range(20):
        submission = solved()
        cells = submission.cells
        for _ in range(rng.randint(1, 6)):
            place = rng.randrange(len(cells))
            cell = copy.deepcopy(cells[place]) if rng.random() < 0.5 else cells.pop(place)
            cells.insert(rng.randint(0, len(cells)), cell)
        for damage in rng.sample([strip, colab, renew_ids, tags, points], rng.randint(0, 1)):
            damage(cells)
        repaired = check(submission)
        assert earned(repaired.notebook) == set(DEFINES)
        assert extras(repaired) == []
