"""What a student's process calls outputs, made into valid ones of a bounded size.

That process keeps limits of its own, which its code can lift; these here are the ones that hold.
"""

import base64
import binascii
import math
import re
from typing import Any

import nbformat
from nbformat import NotebookNode

MAX_CELL = 4_100_000  # characters that one cell may show
MAX_NOTEBOOK = 20_000_000  # characters that one notebook may show
MAX_OUTPUTS = 210  # outputs of one cell
MAX_DEPTH = 40  # of a structure that is shown
MAX_NAME = 200  # characters of a name, such as an exception's

_IMAGES = ("image/png", "image/jpeg", "image/gif")
_JSON = re.compile(r"application/([\w.-]+\+)?json")
_MIME = re.compile(r"[\w.+-]{1,60}/[\w.+-]{1,100}")
# Colours stay; what else an escape character can order a terminal to do does not.
_UNPRINTABLE = re.compile(
    "\x1b(?!\\[[0-9;]*m)|[\x00-\x07\x0b\x0c\x0e-\x1a\x1c-\x1f\x7f-\x9f\ud800-\udfff]"
)
LEFT_OUT = "\n[more output was left out]\n"


class Cleaner:
    """Cleans the outputs of one notebook's cells, one cell at a time."""

    def __init__(self) -> None:
        self._left = MAX_NOTEBOOK

    def __call__(self, outputs: Any) -> list[NotebookNode]:
        """Valid outputs; what is none is dropped, what is too much is cut."""
        outputs = outputs if isinstance(outputs, list) else []
        found, room = [], min(MAX_CELL, self._left)
        for output in outputs[:MAX_OUTPUTS]:
            made, size = _clean(output) if isinstance(output, dict) else (None, 0)
            if size > room:
                found.append(NotebookNode(output_type="stream", name="stderr", text=LEFT_OUT))
                break
            if made is not None:
                found.append(made)
                room -= size
                self._left -= size
        return found


def _clean(output: dict[str, Any]) -> tuple[NotebookNode | None, int]:
    """One output and its size in characters, or None and 0 for what is none."""
    kind = output.get("output_type")
    try:
        if kind == "stream":
            name = "stderr" if output.get("name") == "stderr" else "stdout"
            text = _text(output.get("text"))
            return NotebookNode(output_type=kind, name=name, text=text), len(text)
        if kind == "error":
            lines = output.get("traceback")
            lines = [_text(line) for line in lines] if isinstance(lines, list) else []
            name, value = _text(output.get("ename"))[:MAX_NAME], _text(output.get("evalue"))
            size = sum(map(len, lines)) + len(value)
            said = {"ename": name, "evalue": value, "traceback": lines}
            return NotebookNode(output_type=kind, **said), size
        if kind in ("display_data", "execute_result") and isinstance(output.get("data"), dict):
            shown = {_text(mime): _bundle(_text(mime), v) for mime, v in output["data"].items()}
            shown = {mime: v for mime, v in shown.items() if v and _MIME.fullmatch(mime)}
            return shown_data(kind, shown), sum(_size(value) for value in shown.values())
    except ValueError:
        pass
    return None, 0


def shown_data(kind: str, data: dict[str, Any]) -> NotebookNode:
    """A `display_data` or `execute_result` output."""
    # nbformat.v4.new_output would validate each output on its own, a millisecond a piece.
    output = NotebookNode(output_type=kind, metadata=NotebookNode(), data=nbformat.from_dict(data))
    return output if kind != "execute_result" else NotebookNode(output, execution_count=None)


def _text(value: Any) -> str:
    return _UNPRINTABLE.sub("\ufffd", value) if isinstance(value, str) else ""


def _bundle(mime: str, value: Any) -> Any:
    """One representation of an output: text, checked base64, or JSON."""
    if _JSON.fullmatch(mime):
        return _plain(value, 0)
    if mime in _IMAGES:
        try:
            base64.b64decode(_text(value).replace("\n", ""), validate=True)
        except (binascii.Error, ValueError):
            return ""
    return _text(value)


def _plain(value: Any, depth: int) -> Any:
    if depth > MAX_DEPTH:
        raise ValueError("nested too deeply")
    if isinstance(value, dict):
        return {_text(key): _plain(item, depth + 1) for key, item in value.items()}
    if isinstance(value, list):
        return [_plain(item, depth + 1) for item in value]
    if isinstance(value, float) and not math.isfinite(value):
        return None
    if isinstance(value, int) and abs(value) >= 2**63:
        return None
    return _text(value) if isinstance(value, str) else value


def _size(value: Any) -> int:
    if isinstance(value, dict):
        return sum(len(key) + _size(item) for key, item in value.items())
    if isinstance(value, list):
        return len(value) + sum(map(_size, value))
    return len(value) if isinstance(value, str) else 20  # digits of a number
