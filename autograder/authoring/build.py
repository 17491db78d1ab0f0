"""Make from each master all that is built: source, release, reference, the executed lecture.

Every file comes out byte for byte the same each time; only a lecture's outputs depend on the
machine, so a lecture is executed again only when its cells have changed.
"""

from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

from autograder.authoring import AuthoringError
from autograder.authoring.lecture import execute, is_executed, lecture_master, lecture_notebook
from autograder.authoring.master import Master, MasterError, read_master
from autograder.authoring.notebooks import (
    Project,
    as_text,
    read_project,
    release_notebooks,
    source_notebook,
)
from autograder.authoring.reference import defined, reference_module


def build_unit(
    unit: str,
    root: Path,
    *,
    check: bool = False,
    points: Callable[[str], float] | None = None,
) -> list[Path]:
    """Build all that comes from one unit's masters.

    Args:
        unit: the unit's folder, such as `01_backprop`.
        root: the course's folder, which holds `source/`.
        check: write nothing.
        points: an exercise's points; KeyError if it is not registered. By default those of
            `autograder/exercises`, which are then also compared with the masters and give the
            fingerprints.

    Returns:
        The files that changed, or with `check` those that would.

    Raises:
        MasterError: a master breaks a rule.
        AuthoringError: the unit is unknown, or a built notebook has no master.
    """
    root = Path(root).resolve()
    masters = read_unit(unit, root)
    output = _Output(check)
    for master in masters:
        path = root / "autograder" / "reference" / f"{master.notebook}.py"
        output.put(path, reference_module(master))
    stale = check and bool(output.changed)

    project = read_project(root)
    registered = points is None
    points = points or registered_points(unit, masters)
    sources = {m.notebook: as_text(source_notebook(m, points, project)) for m in masters}
    released = release_notebooks(unit, sources, root)
    for folder, texts in (("source", sources), ("release", released)):
        for name, text in texts.items():
            output.put(root / folder / unit / f"{name}.ipynb", text)
        _refuse_strays(root / folder / unit, texts)

    _build_lecture(unit, root, project, output)
    if registered and masters and not stale:  # fingerprints come from the reference modules
        from autograder.authoring.fingerprints import write_fingerprints  # torch and the grader

        output.changed += write_fingerprints(unit, root, check)
    return output.changed


def read_unit(unit: str, root: Path) -> list[Master]:
    """The masters of one unit, by name.

    Raises:
        MasterError: a master breaks a rule, or two share an exercise or a file name.
        AuthoringError: there is no such unit.
    """
    paths = sorted((root / "source" / unit).glob("*.py")) if unit else []
    lecture = lecture_master(unit, root)
    if not paths and not lecture.exists():
        known = ", ".join(sorted(p.name for p in (root / "source").glob("[0-9]*"))) or "none"
        raise AuthoringError(f"no masters in source/{unit} (units: {known})")
    masters = [read_master(path) for path in paths]
    owner: dict[str, Path] = {}
    for master in masters:
        for twin in sorted(root.glob(f"source/*/{master.notebook}.py")):
            if twin.parent.name != unit:
                raise MasterError(master.path, 1, f"{twin.parent.name} has a notebook of this name")
        for name in master.exercises:
            if name in owner:
                line = master.cell("exercise", name).line
                raise MasterError(master.path, line, f"{owner[name].name} has exercise {name!r}")
            owner[name] = master.path
    return masters


class _Output:
    """Writes what differs from what is there, or with `check` only takes note of it."""

    def __init__(self, check: bool) -> None:
        self.check = check
        self.changed: list[Path] = []

    def put(self, path: Path, text: str) -> None:
        data = text.encode()
        if path.is_file() and path.read_bytes() == data:
            return
        self.changed.append(path)
        if not self.check:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(data)


def _refuse_strays(folder: Path, built: Iterable[str]) -> None:
    for path in sorted(folder.glob("*.ipynb")):
        if path.stem not in built:
            raise AuthoringError(f"{path} has no master {path.stem}.py: remove it")


def registered_points(unit: str, masters: Sequence[Master]) -> Callable[[str], float]:
    """Points by exercise, from `autograder/exercises`, once they and the masters agree.

    Raises:
        MasterError: a cell does not define what its Exercise says.
        AuthoringError: an Exercise has no cell.
    """
    if not masters:
        return {}.__getitem__
    from autograder import contract

    try:
        known = contract.load(unit)
    except KeyError:
        known = {}
    places = {name: master for master in masters for name in master.exercises}
    for name, exercise in known.items():
        if name not in places:
            raise AuthoringError(f"Exercise({name!r}) has no cell in source/{unit}")
        master = places[name]
        cell = master.cell("exercise", name)
        if exercise.notebook != master.notebook:
            message = f"Exercise({name!r}) says notebook={exercise.notebook!r}"
            raise MasterError(master.path, cell.line, message)
        missing = sorted(set(exercise.defines) - defined(cell.source))
        if missing:
            message = f"Exercise({name!r}) defines {missing[0]}, this cell does not"
            raise MasterError(master.path, cell.line, message)
    return lambda name: known[name].points


def _build_lecture(unit: str, root: Path, project: Project, output: _Output) -> None:
    path = lecture_master(unit, root)
    if not path.exists():
        return
    master = read_master(path)
    if master.exercises:
        line = master.cell("exercise", master.exercises[0]).line
        raise MasterError(path, line, "a lecture has no exercises")
    wanted = lecture_notebook(master, project)
    target = path.with_suffix(".ipynb")
    if target.exists() and is_executed(wanted, target):
        return
    if output.check:
        output.changed.append(target)
        return
    output.put(target, as_text(execute(master, wanted, root)))
