"""Put the student's cells of a submission into the master's notebook.

A submission is only a source of cells. Tests, points, metadata, tags and given cells are always the
master's, so nothing that happened to them (deleted, edited, moved, metadata stripped by Colab or
duplicated by VS Code) changes a mark. `matching` says which cell answers what; what is left is the
student's own and is kept where it stood, or earlier if an answer needs it.
"""

import copy
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from nbformat import NotebookNode

from autograder.grading.cells import Cell, Statement, read_cells
from autograder.grading.matching import Master, Match, match_cells, read_release


@dataclass
class Repaired:
    """A submission in the master's frame.

    Attributes:
        notebook: the release's cells in its order, answers filled in, without outputs; the
            student's own cells among them carry the metadata `{"autograder": {"student": True}}`.
        notes: what was repaired, in words for the student; empty for a clean submission.
        answers: exercise -> the student's code for it, as Python (magics are strings), with the
            helpers that it uses and without what the cell holds for other exercises or tests.
        missing: the exercises for which nothing was found; the release's stub stands in.
    """

    notebook: NotebookNode
    notes: list[str] = field(default_factory=list)
    answers: dict[str, str] = field(default_factory=dict)
    missing: list[str] = field(default_factory=list)


@dataclass
class Extra:
    """A cell of the student's own, to be put after the master's cell number `after`."""

    cell: Cell
    source: str
    after: int


def repair(
    submission: NotebookNode, release: NotebookNode, defines: Mapping[str, Sequence[str]]
) -> Repaired:
    """Put the student's cells into the master's notebook. Total: any submission has a result.

    Args:
        submission: what `read_submission` gave, or any notebook.
        release: the release notebook, with nbgrader's metadata; it is not changed.
        defines: exercise -> the top-level names that its cell defines (default: its own name).
    """
    master = read_release(release, defines)
    cells = read_cells(submission)
    match = match_cells(cells, master)
    placed = {
        parts[-1].index: master.slots[name]
        for name, parts in match.answers.items()
        if not master.shares(parts[-1], name)
    }
    done = _done(master, match)
    extras = _extras(cells, master, match, placed, done) if match.answers else []
    for _ in range(3):  # a helper's helper moves with it
        _pull_up_earlier(cells, extras, placed, master)
        _pull_up_later(cells, extras, placed, master)
    return Repaired(
        notebook=_assemble(release, master, match, extras, done),
        notes=_notes(cells, master, match, extras),
        answers={
            name: _answer(name, parts, cells, master, match)
            for name, parts in match.answers.items()
        },
        missing=[name for name in master.slots if name not in match.answers],
    )


def _done(master: Master, match: Match) -> frozenset[str]:
    """The names that some answer really defines: no stub may define them again."""
    parts = [cell for parts in match.answers.values() for cell in parts]
    return frozenset().union(*(master.real(c) | c.broken | c.rebound for c in parts))


def _without_stubs(cell: Cell, master: Master, done: frozenset[str]) -> str:
    gone = [s for s in cell.statements if s.digest in master.stubs and s.defines & done]
    dropped = {n for s in gone for n in range(s.start, s.end + 1)}
    return "\n".join(line for n, line in enumerate(cell.source.split("\n"), 1) if n not in dropped)


def _about(cell: Cell, names: frozenset[str], master: Master) -> list[Statement]:
    """The statements of a cell that make these names; a stub only where there is nothing else."""
    made = [s for s in cell.statements if names & (s.defines | s.alters | (s.binds - s.reads))]
    return [s for s in made if s.digest not in master.stubs] or made


def _slot_source(name: str, last: Cell, master: Master, done: frozenset[str]) -> str:
    if master.shares(last, name):  # the cell itself is kept above the first answer that it holds
        return last.text(_about(last, master.names[name], master))
    return _without_stubs(last, master, done)


def _extras(
    cells: list[Cell], master: Master, match: Match, placed: dict[int, int], done: frozenset[str]
) -> list[Extra]:
    """The student's own cells, each after the master's cell that it followed."""
    extras, last = [], -1
    places = match.places(master)
    answers = {tuple(s.digest for s in c.statements) for c in cells if c.index in placed}
    for cell in cells:
        owner = match.owner.get(cell.index)
        if owner is not None:
            last = owner if places.get(owner) == cell.index else last
            if added := _additions(cell, master.cells[owner], master):
                extras.append(Extra(cell, cell.text(added), owner))
        elif cell.index in placed:
            last = max(last, placed[cell.index])
        elif not _is_known(cell, answers, master, last):
            source = _without_stubs(cell, master, done)
            extras += [Extra(cell, source, last)] if source.strip() else []
    return extras


def _is_known(cell: Cell, answers: set[tuple[bytes, ...]], master: Master, last: int) -> bool:
    """Whether the cell repeats an answer, or only statements that the master has run before it."""
    digests = tuple(s.digest for s in cell.statements)
    ran = (d in master.stubs or master.given.get(d, last + 1) <= last for d in digests)
    return bool(digests) and (digests in answers or all(ran))


def _additions(cell: Cell, owner: Cell, master: Master) -> list[Statement]:
    """What an edited given cell keeps: imports, and helpers under names that the master has not."""
    if owner.kind != "code" or cell.kind != "code" or owner.graded:
        return []
    return [
        s
        for s in cell.statements
        if s.digest not in master.given
        and (s.kind == "import" or (s.kind != "other" and not s.binds & master.bound))
    ]


def _pull_up_earlier(
    cells: list[Cell], extras: list[Extra], placed: dict[int, int], master: Master
) -> None:
    """Keep the student's order: what stood before an answer that needs it stays before it.

    A cell with definitions that a later answer replaces has to come before it, too.
    """
    own = {extra.cell.index: extra for extra in extras}
    need: dict[str, int] = {}
    for cell in reversed(cells):
        extra = own.get(cell.index)
        if extra is None and cell.index not in placed:
            continue
        place = placed.get(cell.index, 0) - 1
        if extra is not None:
            real = master.real(cell)
            slots = [slot - 1 for name, slot in master.slots.items() if real & master.names[name]]
            limits = [need[name] for s in cell.statements for name in s.binds if name in need]
            place = extra.after = min([extra.after, *slots, *limits])
        for name in {name for s in cell.statements for name in s.reads}:
            need[name] = min(place, need.get(name, place))


def _pull_up_later(
    cells: list[Cell], extras: list[Extra], placed: dict[int, int], master: Master
) -> None:
    """A helper typed below the answer that calls it (a live kernel allows it) comes after it."""
    at = placed | {extra.cell.index: extra.after for extra in extras}
    own = [cell for cell in cells if cell.index in at]
    bound = Counter(name for cell in own for s in cell.statements for name in s.binds)
    readers: dict[str, int] = {}
    for cell in own:
        for name in {name for s in cell.statements for name in s.reads}:
            readers[name] = min(at[cell.index], readers.get(name, at[cell.index]))
    for extra in extras:
        only = [n for n in extra.cell.defines if bound[n] == 1 and n not in master.bound]
        extra.after = min([extra.after, *(readers[name] for name in only if name in readers)])


def _assemble(
    release: NotebookNode,
    master: Master,
    match: Match,
    extras: list[Extra],
    done: frozenset[str],
) -> NotebookNode:
    notebook = copy.deepcopy(release)
    for cell in notebook.cells:
        if cell.cell_type == "code":
            cell.outputs, cell.execution_count = [], None
    for name, parts in match.answers.items():
        notebook.cells[master.slots[name]].source = _slot_source(name, parts[-1], master, done)
    taken = {cell.get("id") for cell in notebook.cells}
    cells = []
    for after in range(-1, len(notebook.cells)):
        cells += [notebook.cells[after]] if after >= 0 else []
        cells += [_new_cell(extra, taken) for extra in extras if extra.after == after]
    notebook.cells = cells
    return notebook


def _new_cell(extra: Extra, taken: set[Any]) -> NotebookNode:
    name = f"student-{extra.cell.index}"
    while name in taken:
        name += "-x"
    taken.add(name)
    metadata = NotebookNode(autograder=NotebookNode(student=True))
    kind = extra.cell.kind
    cell = NotebookNode(cell_type=kind, id=name, metadata=metadata, source=extra.source)
    return cell if kind != "code" else NotebookNode(cell, outputs=[], execution_count=None)


def _answer(name: str, parts: list[Cell], cells: list[Cell], master: Master, match: Match) -> str:
    """The student's source for one exercise, as Python, for the rules on what it may use."""
    parsed = [cell for cell in parts if cell.statements]
    if not parsed:
        return parts[-1].source
    chosen = [(cell, s) for cell in parsed for s in _own(cell, name, master)]
    if len(parts) == 1 and len(chosen) == len(parts[0].statements):
        text = [parts[0].python]
    else:
        text = [cell.text([s], python=True) for cell, s in chosen]
    text += [cell.text([s], python=True) for cell, s in _helpers(chosen, cells, master, match)]
    return "\n\n".join(text)


def _own(cell: Cell, name: str, master: Master) -> list[Statement]:
    if master.shares(cell, name):
        return _about(cell, master.names[name], master)
    others = master.wanted - master.names[name]
    return [s for s in cell.statements if s.digest not in master.given and not s.defines & others]


def _helpers(
    chosen: list[tuple[Cell, Statement]], cells: list[Cell], master: Master, match: Match
) -> list[tuple[Cell, Statement]]:
    """The student's definitions outside an answer that it uses, and those that they use."""
    pool: dict[str, tuple[Cell, Statement]] = {}
    for cell in cells:
        owner = match.owner.get(cell.index)
        ours = owner is None or not master.cells[owner].graded
        for s in cell.statements if ours and cell.kind == "code" else ():
            if s.digest not in master.given:
                pool |= dict.fromkeys(s.defines - master.bound, (cell, s))
    seen, helpers = {(cell.index, id(s)) for cell, s in chosen}, []
    queue = [s for _, s in chosen]
    while queue:
        for name in sorted(queue.pop().reads & pool.keys()):
            cell, s = pool[name]
            if (cell.index, id(s)) not in seen:  # equal cells have the same statements
                seen.add((cell.index, id(s)))
                helpers.append((cell, s))
                queue.append(s)
    return helpers


# Telling the student -----------------------------------------------------------------------------


def _notes(cells: list[Cell], master: Master, match: Match, extras: list[Extra]) -> list[str]:
    if not match.answers:
        return ["No answer to this assignment was found: was the right notebook handed in?"]
    return [
        *_notes_on_metadata(cells, master, match),
        *_notes_on_answers(cells, master, match),
        *_notes_on_fixed_cells(cells, master, match, extras),
    ]


def _notes_on_metadata(cells: list[Cell], master: Master, match: Match) -> list[str]:
    if any(cell.grade_id is not None or master.claim(cell) is not None for cell in cells):
        return []
    named = sum(rule in ("definition", "stub") for rule in match.rule.values())
    return [
        "Your notebook had no cell metadata (Colab does this); "
        f"{named} of {len(master.slots)} answers were found by their function names."
    ]


def _notes_on_answers(cells: list[Cell], master: Master, match: Match) -> list[str]:
    notes = []
    for name in master.slots:
        parts = match.answers.get(name)
        if parts is None:
            notes.append(f"{name}: no answer was found.")
            continue
        last, names = parts[-1], master.names[name]
        versions = {c.squeezed for c in cells if c.kind == "code" and master.real(c) & names}
        if match.rule[name] == "position":
            notes.append(
                f"{name}: the answer was found only by its place; is its name still right?"
            )
        if last.kind != "code":
            notes.append(f"{name}: the answer stood in a {last.kind} cell; it was read as code.")
        if master.shares(last, name):
            notes.append(
                f"{name}: the answer was taken from a cell that answers other exercises too."
            )
        elif len(parts) > 1:
            notes.append(f"{name}: the answer was put together from {len(parts)} cells.")
        elif len(versions) > 1:
            notes.append(f"{name}: {len(versions)} different answers were found; the last counts.")
    return notes


def _notes_on_fixed_cells(
    cells: list[Cell], master: Master, match: Match, extras: list[Extra]
) -> list[str]:
    notes, places = [], match.places(master)
    tests = [cell for cell in master.fixed if cell.graded]
    lost = [str(cell.grade_id) for cell in tests if cell.index not in places]
    if lost:
        notes.append(f"Test cells that were missing have been put back: {', '.join(lost)}.")
    edited = {
        owner
        for index, owner in match.owner.items()
        if cells[index].squeezed != master.cells[owner].squeezed
    }
    changed = [str(cell.grade_id) for cell in tests if cell.index in edited]
    if changed:
        notes.append(f"Test cells that were edited count as handed out: {', '.join(changed)}.")
    if any(extra.cell.index in match.owner for extra in extras):
        notes.append(
            "Given cells that were edited run as handed out; "
            "imports and helpers added there were kept."
        )
    order = [places[cell.index] for cell in master.fixed if cell.index in places]
    if order != sorted(order):
        notes.append("Cells had been moved; the assignment's own order was used.")
    return notes
