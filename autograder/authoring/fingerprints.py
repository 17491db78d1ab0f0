"""What the visible tests see of each known mistake: outputs on fixed inputs, and no code.

Students carry them in `course/fingerprints/NOTEBOOK.json`: a failed `expect` names the mistake.
"""

import json
import sys
from pathlib import Path
from typing import Any

import cloudpickle

from autograder.authoring.master import Master, read_master
from autograder.contract import Exercise, load
from autograder.grading.forkserver import ChildGone, ForkServer, Raised, TimedOut
from course.compare import difference
from course.diagnosis import restore

cloudpickle.register_pickle_by_value(sys.modules[__name__])
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
    with ForkServer() as server:
        for name in master.exercises:
            test = master.cell("test", name).source
            for mistake in exercises[name].mistakes:
                facts = {"exercise": name, "name": mistake.name, "hint": mistake.hint}
                for what, actual, desired in _seen(exercises[name], mistake.source, test, server):
                    if difference(restore(actual), restore(desired)) is not None:
                        entry = values.setdefault(what, {"desired": desired, "mistakes": []})
                        entry["mistakes"].append({**facts, "actual": actual})
    return {"unit": master.unit, "notebook": master.notebook, "values": values}


def _seen(exercise: Exercise, source: str, test: str, server: ForkServer) -> list[Any]:
    """What each `expect` of a test cell was given, with `source` in the place of the solution."""
    with server.child() as process:
        try:
            process.run_module(exercise.module(source), "<mistake>", LIMIT)
            process.seed(0)
            return process.probe(_record, (test,), {}, LIMIT, [])[0]
        except (Raised, TimedOut, ChildGone):
            return []


def _record(student: Any, test: str) -> list[Any]:
    from course import diagnosis

    found: list[Any] = []

    def note(what: str, actual: Any, desired: Any) -> None:
        text = json.dumps([diagnosis.plain(actual), diagnosis.plain(desired)])
        found.append([what, *json.loads(text)])

    with diagnosis.recording(note):
        try:
            exec(test, student._names)
        except Exception:
            return found  # the test cell ends here; what it saw before counts
    return found
