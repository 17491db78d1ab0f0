"""What a student's process calls outputs: valid and bounded afterwards, whatever it sends."""

import json

import nbformat
import pytest
from nbformat.v4 import new_code_cell, new_notebook

from autograder.grading import outputs
from autograder.grading.outputs import Cleaner


def written(found) -> str:
    """The notebook's text with these outputs in it, valid as nbformat has it."""
    notebook = new_notebook(cells=[new_code_cell("", outputs=found)])
    nbformat.validate(notebook)
    return nbformat.writes(notebook).encode().decode()


def deep(levels):
    value = []
    for _ in range(levels):
        value = [value]
    return value


def shown(**data):
    return {
        "output_type": "display_data",
        "data": {k.replace("_", "/"): v for k, v in data.items()},
    }


def test_honest_outputs_stay_as_they_are():
    sent = [
        {"output_type": "stream", "name": "stderr", "text": "50 %\r100 %\n\x1b[31mred\x1b[0m"},
        {"output_type": "error", "ename": "E", "evalue": "why", "traceback": ["a", "b"]},
        {"output_type": "execute_result", "data": {"text/plain": "1", "application/json": [1, {}]}},
        shown(image_png="aGk="),
    ]
    found = Cleaner()(sent)
    assert [output.output_type for output in found] == [output["output_type"] for output in sent]
    assert found[0].text == sent[0]["text"] and found[2].data["application/json"] == [1, {}]
    assert found[3].data == {"image/png": "aGk="}
    written(found)


@pytest.mark.parametrize(
    "sent",
    [
        None,
        "text",
        [None, 3, "x", [], {"output_type": "pickle"}],
        [{"output_type": "stream", "name": 3, "text": {"a": 1}}],
        [{"output_type": "error", "ename": None, "evalue": [], "traceback": "x" * 10}],
        [shown(xjson={"a": 1})],
        [shown(text_json={"a": 1})],
        [shown(application_json=deep(900))],
        [shown(application_json={"a": float("nan"), "\ud800": "\udfff"})],
        [shown(image_png="not base64 <script>")],
        [shown(**{"text_" + "x" * 10_000_000: "a"})],
        [shown(application_json=[10**400] * 1000)],
        [{"output_type": "stream", "text": "\x1b]0;title\x07\x1b[2J\x1b]8;;a"}],
        [{"output_type": "stream", "text": "\ud800\x00\x07"}],
        [{"output_type": "display_data", "data": "text"}],
    ],
)
def test_whatever_is_sent_the_notebook_is_valid_and_can_be_written(sent):
    text = written(Cleaner()(sent))
    assert "<script>" not in text and "\\u0000" not in text and "\\u001b" not in text
    assert len(text) < 50_000
    json.loads(text)


def test_a_cell_and_a_notebook_show_so_much_and_no_more(monkeypatch):
    monkeypatch.setattr(outputs, "MAX_CELL", 1000)
    monkeypatch.setattr(outputs, "MAX_NOTEBOOK", 2500)
    clean = Cleaner()
    long = [{"output_type": "stream", "text": "x" * 450}] * 5
    texts = [written(clean(long)) for _ in range(5)]
    assert [text.count("x" * 450) for text in texts] == [2, 2, 1, 0, 0]
    assert all("left out" in text for text in texts)
    assert "left out" in written(Cleaner()([shown(application_json=list(range(2000)))]))
    assert len(Cleaner()([{"output_type": "stream", "text": "a"}] * 10_000)) <= outputs.MAX_OUTPUTS
