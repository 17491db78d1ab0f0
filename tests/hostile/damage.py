"""What a text cannot express: notebooks and files damaged or forged as such.

A function of a notebook returns it; a function of a path changes the file that was written there.
"""

import copy
import gzip
import io
import json
import os
import zipfile
from collections.abc import Callable
from pathlib import Path

from nbformat import NotebookNode

Notebook = dict  # as JSON has it: these edits need not leave a valid notebook
OF_NOTEBOOKS: dict[str, Callable[[NotebookNode], NotebookNode]] = {}
OF_FILES: dict[str, Callable[[Path, Path], None]] = {}


def _notebook(function: Callable[[NotebookNode], NotebookNode]) -> object:
    OF_NOTEBOOKS[function.__name__] = function
    return function


def _file(function: Callable[[Path, Path], None]) -> object:
    OF_FILES[function.__name__] = function
    return function


def _tests(notebook: NotebookNode) -> list[NotebookNode]:
    return [c for c in notebook.cells if c.metadata.get("nbgrader", {}).get("grade")]


@_notebook
def tagged_to_be_skipped(notebook: NotebookNode) -> NotebookNode:
    """Every cell carries the tags by which runners leave cells out."""
    for cell in notebook.cells:
        cell.metadata.tags = ["skip-execution", "raises-exception", "remove_cell", "nbgrader-skip"]
    return notebook


@_notebook
def points_edited(notebook: NotebookNode) -> NotebookNode:
    """The tests are worth a hundred points each and test nothing."""
    for cell in _tests(notebook):
        cell.metadata.nbgrader.points = 100
        cell.source = "pass"
    return notebook


@_notebook
def marks_written(notebook: NotebookNode) -> NotebookNode:
    """Judged outputs and marks that the submission brings along."""
    for cell in _tests(notebook):
        marks = {"marks": 2.0, "points": 2.0, "exercise": "half", "checks": []}
        cell.metadata["autograder"] = marks
        data = {"text/plain": "2.0"}
        cell.outputs = [
            NotebookNode(
                output_type="execute_result",
                data=data,
                execution_count=1,
                metadata={"autograder": "marks"},
            )
        ]
        cell.execution_count = 1
    notebook.metadata["autograder"] = {"notes": [], "graded": "0" * 64, "marks": 8.0}
    return notebook


@_notebook
def ids_edited(notebook: NotebookNode) -> NotebookNode:
    """Grade ids and cell ids point to other exercises, in a circle."""
    tests = _tests(notebook)
    ids = [(c.metadata.nbgrader.grade_id, c.id) for c in tests]
    for cell, (grade_id, cell_id) in zip(tests, [*ids[1:], ids[0]], strict=True):
        cell.metadata.nbgrader.grade_id, cell.id = grade_id, cell_id
    return notebook


@_notebook
def ids_all_alike(notebook: NotebookNode) -> NotebookNode:
    """Every cell carries the ids of the first exercise's test."""
    for cell in notebook.cells:
        cell.metadata.nbgrader = {"grade_id": "test_half", "grade": True, "points": 2}
        cell.id = "test-half"
    return notebook


@_notebook
def unlocked(notebook: NotebookNode) -> NotebookNode:
    """Tests are ungraded, unlocked and changed; answers are marked as tests."""
    for cell in notebook.cells:
        info = cell.metadata.get("nbgrader")
        if info:
            info.update(grade=not info["grade"], locked=False, solution=info["grade"], task=True)
            if info["solution"]:
                cell.source = "print('all tests passed')"
    return notebook


@_notebook
def cells_duplicated(notebook: NotebookNode) -> NotebookNode:
    """Every cell stands three times."""
    notebook.cells = [copy.deepcopy(cell) for cell in notebook.cells for _ in range(3)]
    return notebook


@_notebook
def tests_deleted(notebook: NotebookNode) -> NotebookNode:
    """No test is left."""
    tests = _tests(notebook)
    notebook.cells = [cell for cell in notebook.cells if cell not in tests]
    return notebook


@_notebook
def cells_reversed(notebook: NotebookNode) -> NotebookNode:
    """The last cell comes first."""
    notebook.cells = notebook.cells[::-1]
    return notebook


@_notebook
def tests_retyped(notebook: NotebookNode) -> NotebookNode:
    """Tests are prose and raw cells."""
    for number, cell in enumerate(_tests(notebook)):
        cell.cell_type = ("markdown", "raw")[number % 2]
        cell.pop("outputs", None)
        cell.pop("execution_count", None)
    return notebook


@_notebook
def answers_retyped(notebook: NotebookNode) -> NotebookNode:
    """Answers are prose: nothing of them may run as a test, and they are still read."""
    for cell in notebook.cells:
        if cell.metadata.get("nbgrader", {}).get("solution"):
            cell.cell_type = "markdown"
            cell.pop("outputs", None)
            cell.pop("execution_count", None)
    return notebook


@_notebook
def metadata_of_the_wrong_kind(notebook: NotebookNode) -> NotebookNode:
    """Ids, tags and metadata are numbers, lists and nothing at all."""
    wrong = [None, 3, [], "x", {"nbgrader": 7}, {"nbgrader": {"grade_id": ["half"], "points": "x"}}]
    for number, cell in enumerate(notebook.cells):
        cell["metadata"] = wrong[number % len(wrong)]
        cell["id"] = wrong[(number + 1) % len(wrong)]
        cell["outputs"] = wrong[(number + 2) % len(wrong)]
    notebook["metadata"] = []
    return notebook


@_notebook
def kernel_of_its_own(notebook: NotebookNode) -> NotebookNode:
    """The notebook names another kernel and another language."""
    notebook.metadata.kernelspec = {"name": "../../evil", "display_name": "x", "language": "bash"}
    notebook.metadata.language_info = {"name": "bash", "file_extension": ".sh"}
    return notebook


@_notebook
def many_cells(notebook: NotebookNode) -> NotebookNode:
    """Six thousand cells in front of the answers."""
    cell = {"cell_type": "code", "metadata": {}, "source": "1", "outputs": [], "id": "x"}
    notebook.cells = [NotebookNode(cell)] * 6000 + notebook.cells
    return notebook


@_file
def link_to_a_file(path: Path, outside: Path) -> None:
    """The submission is a symbolic link to another student's notebook."""
    path.unlink()
    path.symlink_to(outside)


@_file
def link_to_a_folder(path: Path, outside: Path) -> None:
    """The submission's folder is a symbolic link to another student's folder."""
    path.unlink()
    path.parent.rmdir()
    path.parent.symlink_to(outside.parent)


@_file
def link_to_itself(path: Path, outside: Path) -> None:
    """A symbolic link that leads in a circle."""
    del outside
    path.unlink()
    path.symlink_to(path.name)


@_file
def device(path: Path, outside: Path) -> None:
    """A link to a device without end."""
    del outside
    path.unlink()
    path.symlink_to("/dev/zero")


@_file
def pipe(path: Path, outside: Path) -> None:
    """A named pipe, whose opening waits for a writer that never comes."""
    del outside
    path.unlink()
    os.mkfifo(path)


@_file
def folder(path: Path, outside: Path) -> None:
    """A folder with a notebook's name."""
    del outside
    path.unlink()
    path.mkdir()


@_file
def zip_bomb(path: Path, outside: Path) -> None:
    """A zip archive that unpacks to 200 MB."""
    del outside
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("toy.ipynb", b"0" * 200_000_000)
    path.write_bytes(packed.getvalue())


@_file
def gzip_bomb(path: Path, outside: Path) -> None:
    """A gzip stream that unpacks to 200 MB."""
    del outside
    path.write_bytes(gzip.compress(bytes(200_000_000)))


@_file
def oversized(path: Path, outside: Path) -> None:
    """A sparse file of 8 GB."""
    del outside
    with path.open("r+b") as file:
        file.truncate(8 * 2**30)


@_file
def nested_json(path: Path, outside: Path) -> None:
    """A hundred thousand brackets."""
    del outside
    path.write_text("[" * 100_000 + "]" * 100_000)


@_file
def json_of_numbers(path: Path, outside: Path) -> None:
    """A number of a million digits where the format stands."""
    del outside
    path.write_text('{"cells": [], "nbformat": ' + "9" * 1_000_000 + "}")


@_file
def names_that_climb(path: Path, outside: Path) -> None:
    """Cell ids, attachments and file names that are paths out of the folder."""
    notebook = json.loads(path.read_text())
    climb = f"../../../{outside}"
    for cell in notebook["cells"]:
        cell["id"] = climb
        cell["attachments"] = {climb: {"text/plain": climb}}
    notebook["metadata"] = {"name": climb, "path": climb, "resources": {"output_files_dir": climb}}
    path.write_text(json.dumps(notebook))


def _own_cells(notebook: NotebookNode, source: str, number: int) -> NotebookNode:
    cell = {"cell_type": "code", "metadata": {}, "source": source, "outputs": []}
    own = [NotebookNode(cell, source=f"{source}  # {n}", id=f"own{n}") for n in range(number)]
    notebook.cells = [*notebook.cells[:2], *own, *notebook.cells[2:]]
    return notebook


@_notebook
def forty_sleeps(notebook: NotebookNode) -> NotebookNode:
    """Forty cells that each sleep for most of the time that one cell has."""
    return _own_cells(notebook, "import time; time.sleep(0.8)", 40)


@_notebook
def ten_exits(notebook: NotebookNode) -> NotebookNode:
    """Ten cells that each end the process."""
    return _own_cells(notebook, "import os; os._exit(1)", 10)


@_notebook
def chain_of_attributes(notebook: NotebookNode) -> NotebookNode:
    """The answer to soft_max holds chains of hundreds of attributes that are never read."""
    for cell in notebook.cells:
        if "def soft_max" in cell.source:
            cell.source += "\n\ndef unused(x):\n    return x" + ".T" * 900 + "\n"
            cell.source += "    return x" + "[0]" * 900 + "\n"
    return notebook
