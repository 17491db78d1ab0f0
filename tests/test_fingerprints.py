"""What students carry of the known mistakes: enough to name them, and no code."""

import json
from collections import Counter

import pytest
import torch

import course
from autograder.contract import load, units
from course.diagnosis import FOLDER, explain

STORED = {path.stem: json.loads(path.read_text()) for path in FOLDER.glob("*.json")}
MISTAKES = [(u, e.name, m.name) for u in units() for e in load(u).values() for m in e.mistakes]


def seen() -> set[tuple[str, str, str]]:
    """Which mistakes some visible test shows."""
    return {
        (stored["unit"], mistake["exercise"], mistake["name"])
        for stored in STORED.values()
        for entry in stored["values"].values()
        for mistake in entry["mistakes"]
    }


def test_visible_tests_name_a_dozen_mistakes_an_exercise():
    assert seen() <= set(MISTAKES)
    # Numbers, no share: a bank grows by mistakes that only hidden checks can tell (overlaps,
    # float64, arguments written to), and that makes the visible tests no worse.
    named = Counter((unit, exercise) for unit, exercise, _ in seen())
    assert set(named) == {(unit, exercise) for unit, exercise, _ in MISTAKES}
    assert min(named.values()) >= 3
    assert sum(named.values()) >= 12 * len(named)


@pytest.mark.parametrize("name", STORED)
def test_fingerprints_hold_values_and_no_code(name):
    def values(node):
        if isinstance(node, dict):
            return [
                v for key, item in node.items() if key not in ("name", "hint") for v in values(item)
            ]
        return [v for item in node for v in values(item)] if isinstance(node, list) else [node]

    texts = [value for value in values(STORED[name]["values"]) if isinstance(value, str)]
    assert not [text for text in texts if "def " in text or "import " in text or "\n" in text]


def test_a_student_is_told_the_name_of_the_mistake(capsys):
    course.setup("01_backprop")
    entry = STORED["autodiff"]["values"]["softmax_cross_entropy: loss"]
    mistake = next(m for m in entry["mistakes"] if m["name"] == "summed, not averaged")
    said = explain("softmax_cross_entropy: loss", torch.tensor(mistake["actual"]), entry["desired"])
    assert said is not None and "summed, not averaged" in said and mistake["hint"] in said
