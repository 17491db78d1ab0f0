"""Execute a unit's lecture, and see whether its notebook still is what its master says."""

import os
import re
import tempfile
from pathlib import Path
from typing import Any

import nbformat
from nbformat import NotebookNode

from autograder.authoring.master import Master, MasterError
from autograder.authoring.notebooks import Project, badge, name_cells, new_notebook, source_cell

LECTURE_SECONDS = 600


def lecture_master(unit: str, root: Path) -> Path:
    """Where a unit's lecture is written; its notebook stands beside it."""
    return root / "course" / "lectures" / unit / f"{unit}.py"


def lecture_notebook(master: Master, project: Project) -> NotebookNode:
    """The lecture before it is executed."""
    path = f"course/lectures/{master.unit}/{master.notebook}.ipynb"
    cells = [badge(path, project)]
    cells += [source_cell(master, cell, 0, 0, project) for cell in master.cells]
    name_cells(master, cells, [f"cell-{n:02d}" for n in range(1, len(cells) + 1)])
    return new_notebook(cells)


def is_executed(wanted: NotebookNode, path: Path) -> bool:
    """True if the notebook at `path` has the wanted cells, all executed without an error."""
    try:
        found = nbformat.read(path, as_version=4)
    except (ValueError, nbformat.reader.NotJSONError, nbformat.ValidationError):
        return False
    code = [cell for cell in found.cells if cell.cell_type == "code"]
    return (
        _bare(found) == _bare(wanted)
        and [cell.execution_count for cell in code] == list(range(1, len(code) + 1))
        and not any(out.output_type == "error" for cell in code for out in cell.outputs)
    )


def _bare(notebook: NotebookNode) -> tuple[Any, ...]:
    cells = [(c.cell_type, c.id, c.source, dict(c.metadata)) for c in notebook.cells]
    return dict(notebook.metadata), cells


def execute(master: Master, notebook: NotebookNode, root: Path) -> NotebookNode:
    """Run a lecture in a fresh kernel, in the small profile unless COURSE_PROFILE says otherwise.

    Raises:
        MasterError: a cell fails; the line is that of the cell.
    """
    from nbclient import NotebookClient
    from nbclient.exceptions import CellExecutionError, CellTimeoutError, DeadKernelError

    path = os.pathsep.join(filter(None, [str(root), os.environ.get("PYTHONPATH")]))
    # With MPLBACKEND set the kernel would show no pictures; a private IPYTHONDIR keeps the author's
    # own start-up files out of the lecture.
    env = {k: v for k, v in os.environ.items() if k != "MPLBACKEND"}
    env = {"COURSE_PROFILE": "small", **env, "PYTHONPATH": path}
    with tempfile.TemporaryDirectory() as profile:
        client = NotebookClient(
            notebook,
            timeout=LECTURE_SECONDS,
            kernel_name="python3",
            record_timing=False,
            store_widget_state=False,
            resources={"metadata": {"path": str(root)}},
        )
        try:
            client.execute(env={**env, "IPYTHONDIR": profile})
        except (CellExecutionError, CellTimeoutError, DeadKernelError) as error:
            raise _failure(master, notebook, error) from error
    return _settled(notebook, root)


def _failure(master: Master, notebook: NotebookNode, error: Exception) -> MasterError:
    """Name the cell: the last one that was begun."""
    begun = [
        n for n, c in enumerate(notebook.cells) if c.get("execution_count") or c.get("outputs")
    ]
    cell = master.cells[max(begun[-1] - 1, 0) if begun else 0]
    name, value = getattr(error, "ename", ""), getattr(error, "evalue", "")
    said = f"{name}: {value}" if name else str(error) or type(error).__name__
    return MasterError(master.path, cell.line, "the cell fails: " + " ".join(said.split()))


def _settled(notebook: NotebookNode, root: Path) -> NotebookNode:
    """Leave out what differs from run to run: stderr (bars, warnings), addresses, paths."""
    notebook.metadata = new_notebook([]).metadata
    for cell in notebook.cells:
        cell.metadata.pop("execution", None)
        if cell.cell_type == "code":
            kept = [o for o in cell.outputs if o.get("name") != "stderr" and not _is_widget(o)]
            cell.outputs = [_settled_output(output, str(root)) for output in kept]
    return notebook


def _is_widget(output: NotebookNode) -> bool:
    return "application/vnd.jupyter.widget-view+json" in output.get("data", {})


def _settled_output(output: NotebookNode, root: str) -> NotebookNode:
    def settle(text: str) -> str:
        return re.sub(r" at 0x[0-9a-f]+", "", text.replace(root, "."))

    if output.output_type == "stream":
        output.text = settle(output.text)
    elif "text/plain" in output.get("data", {}):
        output.data["text/plain"] = settle(output.data["text/plain"])
    return output
