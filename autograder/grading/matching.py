"""Find which cell of a submission is which of the release's, and which answers what.

The rules, in the order in which they are trusted:

1. A cell equal to one of the master's, or made of the master's statements only, is the master's.
2. An exercise is answered by the last code cell that really defines its names (the stub does not
   define them). Content comes before metadata: an editor copies metadata onto any cell.
3. Where no cell does: a definition merged into a test or given cell, one in a cell retyped as
   Markdown, one in a cell that does not parse, any other assignment to the name.
4. Else the untouched stub, else the cell that carries the exercise's grade id or cell id, else the
   student's cell that stands where the answer should.
"""

from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from operator import attrgetter

from nbformat import NotebookNode

from autograder.grading.cells import Cell, read_cells

# A cell that shares at least this part of its lines with a given cell is that cell, edited.
ALIKE = 0.5


@dataclass(frozen=True)
class Master:
    """The release: its cells, which of them are answers, and what is the master's own."""

    cells: list[Cell]
    slots: dict[str, int]  # exercise -> index of its answer cell
    names: dict[str, frozenset[str]]  # exercise -> names that its cell defines
    stubs: frozenset[bytes]
    given: dict[bytes, int]  # statement of the other code cells -> first cell that has it
    lines: dict[str, list[int]]  # line -> cells that have it, answer cells left out

    @cached_property
    def wanted(self) -> frozenset[str]:
        """The names of all exercises."""
        return frozenset().union(*self.names.values())

    @cached_property
    def own(self) -> frozenset[bytes]:
        """Every statement of the master's, stubs included."""
        return self.stubs | self.given.keys()

    @cached_property
    def bound(self) -> frozenset[str]:
        """Every name that the master's cells bind."""
        return self.wanted.union(*(s.binds for cell in self.cells for s in cell.statements))

    @cached_property
    def fixed(self) -> list[Cell]:
        """All cells but the answers."""
        slots = set(self.slots.values())
        return [cell for cell in self.cells if cell.index not in slots]

    def real(self, cell: Cell) -> frozenset[str]:
        """The exercises' names that the cell defines in statements of the student's."""
        return cell.defines_beside(self.own) & self.wanted

    def shares(self, cell: Cell, exercise: str) -> bool:
        """Whether the cell answers other exercises too."""
        return bool(self.real(cell) - self.names[exercise])

    def claim(self, cell: Cell) -> int | None:
        """The master's cell whose grade id, else whose cell id, this one carries."""
        for other in self.cells:
            if cell.grade_id is not None and cell.grade_id == other.grade_id:
                return other.index
        found = (other.index for other in self.cells if set(cell.ids) & set(other.ids))
        return next(found, None)

    def likeness(self, cell: Cell) -> dict[int, float]:
        """Fixed cell -> the part of lines that it and the given cell share."""
        shared = Counter(index for line in cell.lines for index in self.lines.get(line, ()))
        sizes = {i: len(cell.lines) + len(self.cells[i].lines) for i in shared}
        return {i: 2 * count / sizes[i] for i, count in shared.items()}


def read_release(release: NotebookNode, defines: Mapping[str, Sequence[str]]) -> Master:
    """The release's cells; `defines` gives the names of an exercise (default: its own name)."""
    cells = read_cells(release)
    answers = [cell for cell in cells if cell.solution and not cell.graded and cell.grade_id]
    slots = {str(cell.grade_id): cell.index for cell in answers}
    lines = defaultdict(list)
    for cell in cells:
        for line in cell.lines if cell.index not in slots.values() else ():
            lines[line].append(cell.index)
    return Master(
        cells=cells,
        slots=slots,
        names={name: frozenset(defines.get(name, [name])) for name in slots},
        stubs=frozenset(s.digest for cell in answers for s in cell.statements),
        given={
            s.digest: cell.index
            for cell in reversed(cells)
            if cell.kind == "code" and cell not in answers
            for s in cell.statements
        },
        lines=dict(lines),
    )


@dataclass
class Match:
    """Which cell of the submission is which of the master's."""

    owner: dict[int, int] = field(default_factory=dict)  # submission -> the master's fixed cell
    answers: dict[str, list[Cell]] = field(default_factory=dict)  # its last cell takes the slot
    rule: dict[str, str] = field(default_factory=dict)  # exercise -> one of RULES

    def places(self, master: Master) -> dict[int, int]:
        """Master's cell -> where the submission has it (the first copy of several)."""
        places = {master.slots[name]: parts[-1].index for name, parts in self.answers.items()}
        for index, owner in sorted(self.owner.items(), reverse=True):
            places[owner] = index
        return places


def match_cells(cells: list[Cell], master: Master) -> Match:
    """Find the master's cells and the answers among a submission's cells."""
    match = Match()
    _equal_cells(cells, master, match)
    _edited_cells(cells, master, match)
    _alike_cells(cells, master, match)
    for rule, find in RULES.items():
        for exercise in master.slots:
            if exercise not in match.answers and (parts := find(exercise, cells, master, match)):
                match.answers[exercise], match.rule[exercise] = parts, rule
    for parts in match.answers.values():
        for cell in parts:
            match.owner.pop(cell.index, None)
    return match


def _equal_cells(cells: list[Cell], master: Master, match: Match) -> None:
    """A cell with a fixed cell's source is that cell, or one more copy of it."""
    equal = defaultdict(list)
    for fixed in master.fixed:
        equal[fixed.squeezed].append(fixed.index)
    for cell in cells:
        found = equal.get(cell.squeezed, []) if cell.squeezed else []
        free = [index for index in found if index not in match.owner.values()]
        if found:
            match.owner[cell.index] = (free or found)[0]


def _edited_cells(cells: list[Cell], master: Master, match: Match) -> None:
    """A cell that carries a fixed cell's id is that cell, edited, unless a better one carries it.

    Editors copy the metadata with a cell: a student pastes a test cell and types a helper there.
    """
    slots = set(master.slots.values())
    claims = defaultdict(list)
    for cell in cells:
        claim = master.claim(cell)
        if claim is not None and claim not in slots and cell.index not in match.owner:
            claims[claim].append((master.likeness(cell).get(claim, 0.0), -cell.index))
    for claim, rivals in claims.items():
        taken = claim in match.owner.values()
        for likeness, index in rivals:
            if likeness >= ALIKE or (not taken and (likeness, index) == max(rivals)):
                match.owner[-index] = claim


def _alike_cells(cells: list[Cell], master: Master, match: Match) -> None:
    """Without metadata, a cell that mostly repeats a fixed cell not found so far is that cell."""
    for cell in cells:
        if cell.index in match.owner or master.claim(cell) is not None or master.real(cell):
            continue
        found = {i: part for i, part in master.likeness(cell).items() if part >= ALIKE}
        free = {i: part for i, part in found.items() if i not in match.owner.values()}
        if free:
            match.owner[cell.index] = max(free, key=lambda i: free[i])


def _by_definition(exercise: str, cells: list[Cell], master: Master, match: Match) -> list[Cell]:
    """The last cells that together define the exercise's names, in the notebook's order."""
    code = [cell for cell in cells if cell.kind == "code"]
    own = [cell for cell in code if cell.index not in match.owner]
    lodgers = [cell for cell in code if cell.index in match.owner]
    retyped = [cell for cell in cells if cell.kind != "code"]
    tiers = [
        (own, master.real),
        (lodgers, master.real),
        (retyped, master.real),
        (own, attrgetter("broken")),
        (own, attrgetter("rebound")),
    ]
    wanted, parts = master.names[exercise], set()
    for tier, names in tiers:
        for cell in reversed(tier):
            if wanted & names(cell):
                parts.add(cell)
                wanted -= names(cell)
    return sorted(parts, key=lambda cell: cell.index)


def _by_stub(exercise: str, cells: list[Cell], master: Master, match: Match) -> list[Cell]:
    """The exercise's cell as it was handed out, or the last one that still has its definitions."""
    del match
    stub = master.cells[master.slots[exercise]].squeezed
    names = master.names[exercise]
    found = [cell for cell in cells if cell.squeezed == stub or names <= cell.defines]
    return found[-1:]


def _by_claim(exercise: str, cells: list[Cell], master: Master, match: Match) -> list[Cell]:
    """The last code cell with the exercise's grade id or cell id that answers nothing else."""
    slot = master.slots[exercise]
    return [c for c in _unused(cells, master, match) if master.claim(c) == slot][-1:]


def _by_position(exercise: str, cells: list[Cell], master: Master, match: Match) -> list[Cell]:
    """The student's code cell between those cells of the master that stand around the answer."""
    slot, places = master.slots[exercise], match.places(master)
    before = max((index for index in places if index < slot), default=None)
    after = min((index for index in places if index > slot), default=None)
    if before is None or after is None:
        return []
    between = range(places[before] + 1, places[after])
    free = [cell for cell in _unused(cells, master, match) if cell.index in between]
    rivals = [i for i in master.slots.values() if before < i < after]
    if len(rivals) == 1:
        return free[-1:]
    # Neighbouring answers without anything between them: only a full set can be told apart.
    return [free[0]] if len(free) == len(rivals) else []


def _unused(cells: list[Cell], master: Master, match: Match) -> list[Cell]:
    """The student's code cells that answer nothing so far."""
    used = {cell.index for parts in match.answers.values() for cell in parts} | set(match.owner)
    code = [cell for cell in cells if cell.kind == "code" and cell.squeezed]
    return [cell for cell in code if cell.index not in used and not master.real(cell)]


RULES = {
    "definition": _by_definition,
    "stub": _by_stub,
    "claim": _by_claim,
    "position": _by_position,
}
