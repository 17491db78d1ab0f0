"""What the visible tests see of each known mistake: outputs on fixed inputs, and no code.

Students carry them in `course/fingerprints/NOTEBOOK.json`: a failed `expect` names the mistake.
"""

import json
import sys
from pathlib import Path
from typing import Any

import cloudpickle

from autograder.authoring.master import Master, MasterError, read_master
from autograder.contract import Exercise, load
from autograder.grading.forkserver import ChildGone, ForkServer, Raised, TimedOut
from course.compare import difference
from course.diagnosis import restore

cloudpickle.register_pickle_by_value(sys.modules[__name__])
MAX_VALUE = 2000  # characters: a visible test shows what can be read
LIMIT = 10.0  # seconds for one mistake on one test cell


def write_fingerprints(unit: str, root: Path, check: bool) -> list[Path]:
    """Write the fingerprints of a unit's notebooks; with `check` only say which would change."""
    changed = []
    exercises = load(unit)
    for path in sorted((root / "source" / unit).glob("*.py")):
        master = read_master(path)
        target = root / "course" / "fingerprints" / f"{master.notebook}.json"
        text = json.dumps(fingerprints(master, exercises), indent=1, sort_keys=True) + "\n"
        if not target.is_file() or target.read_text() != text:
            changed.append(target)
            if not check:
                target.parent.mkdir(exist_ok=True)
                target.write_text(text)
    return changed


def fingerprints(master: Master, exercises: dict[str, Exercise]) -> dict[str, Any]:
    """All that the mistakes of one notebook show to its visible tests."""
    values: dict[str, Any] = {}
    with ForkServer("none") as server:
        for name in master.exercises:
            exercise, test = exercises[name], master.cell("test", name)
            _, error = _seen(exercise, exercise.reference, test.source, server)
            if error:
                raise MasterError(master.path, test.line, f"the visible tests fail: {error}")
            for mistake in exercise.mistakes:
                facts = {"exercise": name, "name": mistake.name, "hint": mistake.hint}
                for what, actual, desired in _seen(exercise, mistake.source, test.source, server)[
                    0
                ]:
                    small = len(json.dumps(actual)) <= MAX_VALUE
                    if small and difference(restore(actual), restore(desired)) is not None:
                        entry = values.setdefault(what, {"desired": desired, "mistakes": []})
                        entry["mistakes"].append({**facts, "actual": actual})
    return {"unit": master.unit, "notebook": master.notebook, "values": values}


def _seen(
    exercise: Exercise, source: str, test: str, server: ForkServer
) -> tuple[list[Any], str | None]:
    """What a test cell's `expect` calls are given by this source, and what ended the cell."""
    with server.child() as process:
        try:
            process.run_module(exercise.module(source), "<mistake>", LIMIT)
            process.seed(0)
            return process.probe(_record, (test,), {}, LIMIT, [])[0]
        except (Raised, TimedOut, ChildGone) as error:
            return [], str(error)


def _record(student: Any, test: str) -> tuple[list[Any], str | None]:
    import course
    from course import diagnosis

    found: list[Any] = []

    def note(what: str, actual: Any, desired: Any) -> None:
        text = json.dumps([diagnosis.plain(actual), diagnosis.plain(desired)])
        found.append([what, *json.loads(text)])

    with diagnosis.recording(note):
        try:
            # The reference module drops what only tests use.
            exec(test, {**student._names, "course": course, "expect": course.expect})
        except Exception as error:
            return found, f"{type(error).__name__}: {error}"
    return found, None
