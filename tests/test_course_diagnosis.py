"""`expect` and the names of known mistakes."""

from __future__ import annotations

import json
import math

import numpy as np
import pytest
import torch

import course
from course import diagnosis, session
from course.compare import difference
from course.diagnosis import expect, explain, plain, recording, restore

UNIT = "01_backprop"


@pytest.fixture
def fingerprints(tmp_path, monkeypatch):
    """A folder with one notebook's fingerprints, in unit 01."""
    desired = torch.tensor([[1.0, 2.0], [3.0, 4.0]])
    mistakes = [
        ("forgets the bias", "The bias belongs to every row.", desired - 1),
        ("divides by zero", "Check the norm.", desired / 0),
        ("sums over the rows", "Look at the shapes.", desired.sum(0)),
        ("sums over the batch", "Look at the shapes.", desired.sum(0)),
    ]
    stored = {
        "unit": UNIT,
        "notebook": "autodiff",
        "values": {
            "layer: out": {
                "desired": plain(desired),
                "mistakes": [
                    {"exercise": "layer", "name": name, "hint": hint, "actual": plain(actual)}
                    for name, hint, actual in mistakes
                ],
            }
        },
    }
    (tmp_path / "autodiff.json").write_text(json.dumps(stored))
    monkeypatch.setattr(diagnosis, "FOLDER", tmp_path)
    monkeypatch.setattr(session, "_current_unit", UNIT)
    return tmp_path


DESIRED = [[1.0, 2.0], [3.0, 4.0]]


def test_expect_is_silent_when_right():
    assert course.expect is expect
    expect(torch.tensor(DESIRED), DESIRED, "x")
    expect(1.05, 1.0, "x", rtol=0.1)
    expect(0.05, 0.0, "x", atol=0.1)


def test_expect_says_what_and_where():
    with pytest.raises(AssertionError) as caught:
        expect(torch.tensor([1.0, 3.0]), [1.0, 2.0], "relu: values")
    assert str(caught.value) == (
        "relu: values: 1 of 2 values is wrong, first at [1]: got 3.0, expected 2.0"
    )


def test_expect_shows_no_earlier_error():
    try:
        raise KeyError("noise")
    except KeyError:
        with pytest.raises(AssertionError) as caught:
            expect(1, 2, "x")
    assert caught.value.__suppress_context__


def test_mistake_is_named(fingerprints):
    with pytest.raises(AssertionError) as caught:
        expect(torch.tensor(DESIRED) - 1.000001, DESIRED, "layer: out")
    first, second = str(caught.value).split("\n")
    assert first.startswith("layer: out: all 4 values are wrong")
    assert second == (
        'It looks like a known mistake: "forgets the bias". The bias belongs to every row.'
    )


def test_infinities_survive_the_file(fingerprints):
    named = explain("layer: out", torch.tensor(DESIRED) / 0, torch.tensor(DESIRED))
    assert named is not None
    assert '"divides by zero"' in named


def test_two_mistakes_that_give_the_same(fingerprints):
    named = explain("layer: out", [4.0, 6.0], torch.tensor(DESIRED))
    assert named == (
        'It looks like a known mistake: "sums over the rows" or "sums over the batch". '
        "Look at the shapes."
    )


@pytest.mark.parametrize(
    ("what", "shift", "desired"),
    [
        ("layer: other", 1.0, DESIRED),
        ("layer: out", 1.01, DESIRED),
        ("layer: out", 1.0, [[1.0, 2.0], [3.0, 5.0]]),
    ],
)
def test_no_name_for_what_is_not_known(fingerprints, what, shift, desired):
    assert explain(what, torch.tensor(DESIRED) - shift, desired) is None


def test_no_name_in_another_unit_or_before_setup(fingerprints, monkeypatch):
    for unit in ("02_cnns", None):
        monkeypatch.setattr(session, "_current_unit", unit)
        assert explain("layer: out", torch.tensor(DESIRED) - 1, DESIRED) is None


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"{",
        b"[]",
        b"null",
        b"\xff\xfe",
        b'{"unit": "01_backprop"}',
        b'{"unit": "01_backprop", "values": null}',
        b'{"unit": "01_backprop", "values": {"layer: out": {}}}',
        b'{"unit": "01_backprop", "values": {"layer: out": {"desired": [[1, 2], [3, 4]]}}}',
        b'{"unit": "01_backprop", "values": {"layer: out": {"desired": [[1, 2], [3, 4]], '
        b'"mistakes": [{"actual": [[0, 1], [2, 3]]}]}}}',
        b"[" * 100000,
    ],
)
def test_damaged_files_hide_neither_the_message_nor_other_files(fingerprints, content):
    (fingerprints / "aaa.json").write_bytes(content)
    with pytest.raises(AssertionError, match=r"layer: out: all 4 values are wrong"):
        expect(torch.tensor(DESIRED) - 1, DESIRED, "layer: out")
    (fingerprints / "autodiff.json").unlink()
    with pytest.raises(AssertionError, match=r"layer: out: all 4 values are wrong"):
        expect(torch.tensor(DESIRED) - 1, DESIRED, "layer: out")


def test_missing_folder(fingerprints, monkeypatch):
    monkeypatch.setattr(diagnosis, "FOLDER", fingerprints / "none")
    assert explain("layer: out", 1, 2) is None


def test_recording_neither_compares_nor_raises():
    calls = []
    with recording(lambda *call: calls.append(call)):
        expect(1, 2, "a")
        expect(3, {1, 2}, "b", rtol=1)
    assert calls == [("a", 1, 2), ("b", 3, {1, 2})]
    with pytest.raises(AssertionError):
        expect(1, 2, "a")


def test_recording_ends_with_an_error():
    with pytest.raises(KeyError), recording(lambda *call: None):
        raise KeyError
    with pytest.raises(AssertionError):
        expect(1, 2, "a")


VALUES = [
    None,
    True,
    3,
    2.5,
    math.nan,
    -math.inf,
    1 - 2j,
    "text",
    [1, [2.0, "a"]],
    (1, 2),
    {"a": 1.0, "b": [math.inf]},
    torch.tensor(1.5),
    torch.arange(6).view(2, 3),
    torch.tensor([True, False]),
    torch.tensor([1.0, math.nan, -math.inf]),
    torch.tensor([1 + 1j]).conj(),
    torch.ones(2, requires_grad=True) * 2,
    torch.ones(2, dtype=torch.bfloat16),
    torch.eye(2).to_sparse(),
    np.arange(4).reshape(2, 2),
    np.float32(0.1),
    np.int64(3),
]


@pytest.mark.parametrize("value", VALUES, ids=range(len(VALUES)))
def test_plain_goes_through_json_and_back(value):
    stored = json.loads(json.dumps(plain(value), allow_nan=False))
    assert difference(value, restore(stored)) is None
    assert difference(restore(stored), value) is None


def test_plain_forgets_the_last_bits():
    assert plain(torch.tensor([0.1, 1 / 3])) == [0.1, 0.3333333]
    assert plain(0.1 + 0.2) == plain(0.3)


def test_plain_of_objects_equals_nothing_desired():
    assert plain(object()) == "<an object of type object>"
    assert plain([torch.float32]) == ["<torch.float32>"]
