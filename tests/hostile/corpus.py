"""The corpus: each file in `cases` is one notebook, with what it tries and what must come of it.

A case is a text of percent cells. Its header, the comments above the first cell, says

    tries    what it attempts, in words
    holds    what must come of it, in words
    kind     hostile (acts against the machine), forgery (wants marks that it has not earned), or
             limit (a forgery that is not held: what it gets today, so that a change is seen)
    marks    what its honest part has earned, "half=0 cube=1"; exercises not named have full marks
    answers  right, wrong or stub: what stands in the cells that the case does not fill
    damage   a function of `damage` that edits the notebook or its file
    shows    a regular expression that the judged notebook must match: the attempt was made
    never    a regular expression that it must not match

A cell `# %% exercise="half"` is the answer to half; any other cell is the student's own and stands
after the answer named by `after="half"`, else after the exercise before it, else at the top.
"""

import copy
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import damage
import jupytext
import toy
from nbformat import NotebookNode
from nbformat.v4 import new_code_cell

CASES = Path(__file__).with_name("cases")
KINDS = ("hostile", "forgery", "limit")
FIELDS = ("tries", "holds", "kind", "marks", "answers", "damage", "shows", "never")


@dataclass(frozen=True)
class Case:
    """One notebook of the corpus."""

    name: str
    tries: str
    holds: str
    kind: str
    marks: dict[str, float]
    cells: str
    answers: str = "right"
    damage: str = ""
    shows: str = ""
    never: str = ""

    def notebook(self, words: Mapping[str, str]) -> NotebookNode:
        """The submission; @WORD@ in its cells is replaced by what the test has prepared."""
        text = re.sub(r"@([A-Z_]+)@", lambda found: words[found[1]], self.cells)
        made = jupytext.reads(text, fmt="py:percent")
        notebook = toy.release()
        place = {cell.id: index for index, cell in enumerate(notebook.cells)}
        own: dict[int, list[NotebookNode]] = {}
        for name, source in toy.ANSWERS[self.answers].items():
            notebook.cells[place[name]].source = source
        last = 0
        for cell in made.cells:
            exercise = cell.metadata.get("exercise")
            if exercise:
                last = place[exercise]
                notebook.cells[last].source = cell.source
            else:
                after = place.get(cell.metadata.get("after"), last)
                own.setdefault(after, []).append(new_code_cell(cell.source))
        cells = []
        for index, cell in enumerate(notebook.cells):
            cells += [copy.deepcopy(cell), *own.get(index, [])]
        notebook.cells = cells
        return notebook


def read_case(path: Path) -> Case:
    """Read one file of the corpus.

    Raises:
        ValueError: its header is not as it should be.
    """
    header, mark, cells = path.read_text(encoding="utf-8").partition("# %%")
    fields: dict[str, str] = {}
    name = ""
    for line in header.splitlines():
        found = re.fullmatch(r"# ([a-z]+): (.+)", line)
        if found and found[1] in FIELDS:
            name = found[1]
            fields[name] = found[2]
        elif found_more := re.fullmatch(r"#   (.+)", line):
            fields[name] += " " + found_more[1]
        elif line.strip():
            raise ValueError(f"{path.name}: {line!r} is no line of a header")
    if {"tries", "holds", "kind"} - fields.keys() or fields["kind"] not in KINDS:
        raise ValueError(f"{path.name}: tries, holds and kind are needed, kind one of {KINDS}")
    if fields.get("answers", "right") not in toy.ANSWERS:
        raise ValueError(f"{path.name}: answers are one of {', '.join(toy.ANSWERS)}")
    full = 0.0 if fields.get("answers", "right") != "right" else toy.POINTS
    marks = dict.fromkeys(toy.EXERCISES, full)
    for pair in fields.pop("marks", "").split():
        exercise, _, number = pair.partition("=")
        if exercise not in marks:
            raise ValueError(f"{path.name}: there is no exercise {exercise!r}")
        marks[exercise] = float(number)
    return Case(name=path.stem, marks=marks, cells=mark + cells, **fields)


def read_corpus() -> list[Case]:
    """All cases, in the order of their names."""
    return [read_case(path) for path in sorted(CASES.glob("*.py"))]


def hand_in(case: Case, submitted: Path, words: Mapping[str, str]) -> Path:
    """Write a case as a student's file, damaged as it says."""
    path = submitted / case.name / toy.UNIT / f"{toy.NOTEBOOK}.ipynb"
    path.parent.mkdir(parents=True)
    notebook = case.notebook(words)
    if case.damage in damage.OF_NOTEBOOKS:
        notebook = damage.OF_NOTEBOOKS[case.damage](notebook)
    path.write_text(json.dumps(notebook))  # as it is: nbformat would mend it
    if case.damage in damage.OF_FILES:
        damage.OF_FILES[case.damage](path, Path(words["OTHER"]))
    return path
