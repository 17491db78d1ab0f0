"""Read a submitted notebook tolerantly: whatever is wrong with the file has its own message."""

import json
import os
import re
import stat
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from nbformat import NotebookNode

# Nobody types more than this, and parsing what a hostile student pastes would cost minutes.
MAX_PARSED = 30_000  # characters; a longer cell is kept but not parsed
MAX_TEXT = 1_000_000  # characters in all cells that are parsed
MAX_CELLS = 5000
MAX_BYTES = 20_000_000  # of a submitted file

_NOT_TEXT = {b"PK\x03\x04": "a zip archive", b"\x1f\x8b": "a gzip archive", b"%PDF": "a PDF"}
_MARKS = {b"\xff\xfe\0\0": "utf-32", b"\0\0\xfe\xff": "utf-32", b"\xef\xbb\xbf": "utf-8-sig"}
_MARKS |= {b"\xff\xfe": "utf-16", b"\xfe\xff": "utf-16"}


class UnreadableSubmission(Exception):
    """The submission cannot be read; the message says what is wrong and what to do about it."""


def read_submission(
    path: Path, *, within: Path | None = None, max_bytes: int = MAX_BYTES
) -> NotebookNode:
    """Read a submitted notebook, tolerantly, and keep of it only what `repair` looks at.

    Args:
        path: the submitted file.
        within: the folder of submissions; nothing between it and the file may be a symbolic link.
        max_bytes: larger files are refused before they are read.

    Returns:
        A notebook whose cells have a type, a source, and the ids that they carried.

    Raises:
        UnreadableSubmission: for whatever is wrong with the file; no other exception.
    """
    return parse(read_bytes(path, within=within, max_bytes=max_bytes), Path(path).name)


def read_bytes(path: Path, *, within: Path | None = None, max_bytes: int = MAX_BYTES) -> bytes:
    """The bytes of a submitted file that is neither a link, nor special, nor too large.

    Args and errors as `read_submission`.
    """
    path = Path(path)
    _refuse_links(path, within)
    return _read_bytes(path, max_bytes)


def parse(data: bytes, name: str) -> NotebookNode:
    """The notebook in a submitted file's bytes, of format 3 or 4; `name` stands in the messages.

    Raises:
        UnreadableSubmission: for whatever is wrong with it.
    """
    text = _decode(data, name)
    try:
        found = json.loads(text)
    except (ValueError, RecursionError, MemoryError):
        page = text.lstrip()[:1] == "<"
        what = "a web page" if page else "damaged or no notebook (not valid JSON)"
        raise UnreadableSubmission(
            f"{name} is {what}: download the notebook as .ipynb and hand it in again."
        ) from None
    cells = _raw_cells(found, name)
    if len(cells) > MAX_CELLS:
        raise UnreadableSubmission(
            f"{name} has more than {MAX_CELLS} cells: hand in the assignment's own notebook."
        )
    tidy = [tidy_cell(cell) for cell in cells if isinstance(cell, dict)]
    if sum(len(cell.source) for cell in tidy if len(cell.source) <= MAX_PARSED) > MAX_TEXT:
        raise UnreadableSubmission(
            f"{name} has more than {MAX_TEXT / 1e6:g} MB of text in its cells: "
            "remove what was pasted there and hand it in again."
        )
    return NotebookNode(nbformat=4, nbformat_minor=5, metadata=NotebookNode(), cells=tidy)


def _refuse_links(path: Path, within: Path | None) -> None:
    steps = [path]
    if within is not None:
        try:
            inner = path.absolute().relative_to(within.absolute())
        except ValueError:
            inner = Path("..")
        if ".." in inner.parts or not inner.parts:
            raise UnreadableSubmission(f"{path.name} lies outside the folder of submissions.")
        steps = [within.joinpath(*inner.parts[: n + 1]) for n in range(len(inner.parts))]
    for step in steps:
        try:
            linked = step.is_symlink()
        except (OSError, ValueError):
            linked = False  # cannot be opened either, and that message is clearer
        if linked:
            raise UnreadableSubmission(
                f"{step.name} is a symbolic link: hand in the notebook file itself."
            )


def _read_bytes(path: Path, max_bytes: int) -> bytes:
    # O_NONBLOCK: opening a named pipe must not wait for a writer that never comes.
    flags = os.O_RDONLY | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0)
    try:
        with open(os.open(path, flags), "rb") as file:
            status = os.fstat(file.fileno())
            if not stat.S_ISREG(status.st_mode):
                raise UnreadableSubmission(f"{path.name} is not a file: hand in one .ipynb file.")
            data = file.read(max_bytes + 1) if status.st_size <= max_bytes else None
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or "not a usable file name"
        raise UnreadableSubmission(
            f"{path.name!r} cannot be read ({reason}): hand in one .ipynb file."
        ) from None
    if data is None or len(data) > max_bytes:
        raise UnreadableSubmission(
            f"{path.name} is larger than {max_bytes / 1e6:g} MB: clear the outputs, save, hand in."
        )
    return data


def _decode(data: bytes, name: str) -> str:
    for start, what in _NOT_TEXT.items():
        if data.startswith(start):
            raise UnreadableSubmission(f"{name} is {what}: hand in the notebook (.ipynb) itself.")
    if not data.strip(b"\0 \t\r\n"):
        raise UnreadableSubmission(f"{name} is empty: save the notebook and hand it in again.")
    marked = next((encoding for mark, encoding in _MARKS.items() if data.startswith(mark)), None)
    try:
        return data.decode(marked or json.detect_encoding(data), "surrogatepass")
    except UnicodeDecodeError:
        # JSON and Python keywords are ASCII; an unknown eight-bit encoding can only spoil comments.
        return data.decode("latin-1")


def _raw_cells(data: Any, name: str) -> list[Any]:
    """The cells of a notebook of format 3 or 4, whatever its minor version."""
    refuse = f"{name} is JSON but no Jupyter notebook: hand in the .ipynb file of the assignment."
    if not isinstance(data, dict):
        raise UnreadableSubmission(refuse)
    major = data.get("nbformat", 4 if "cells" in data else 3)
    if isinstance(major, str | float) and str(major).strip() in {"3", "4", "3.0", "4.0"}:
        major = int(float(major))
    if type(major) is int and major not in (3, 4):
        raise UnreadableSubmission(
            f"{name} has notebook format {str(major)[:9]}, this grader reads 3 and 4: "
            "save it with JupyterLab or Colab and hand it in again."
        )
    cells = data.get("cells")
    sheets = data.get("worksheets")
    if not isinstance(cells, list) and isinstance(sheets, list):  # format 3
        lists = [sheet.get("cells") for sheet in sheets if isinstance(sheet, dict)]
        cells = [cell for part in lists if isinstance(part, list) for cell in part]
    if not isinstance(cells, list):
        raise UnreadableSubmission(refuse)
    return cells


def tidy_cell(cell: Mapping[str, Any]) -> NotebookNode:
    """A cell with the few fields that count, each of its proper type."""
    kind = cell.get("cell_type")
    kind = {"heading": "markdown", "html": "markdown"}.get(str(kind), kind)
    metadata = cell.get("metadata")
    metadata = metadata if isinstance(metadata, dict) else {}
    nbgrader = metadata.get("nbgrader")
    nbgrader = nbgrader if isinstance(nbgrader, dict) else {}
    kept: dict[str, Any] = {k: nbgrader[k] is True for k in ("grade", "solution") if k in nbgrader}
    if isinstance(nbgrader.get("grade_id"), str):
        kept["grade_id"] = nbgrader["grade_id"]
    tidy = NotebookNode(
        cell_type=kind if kind in ("markdown", "raw") else "code",
        metadata=NotebookNode(nbgrader=NotebookNode(kept)),
        source=_text(cell.get("source", cell.get("input"))),
    )
    for found, place in ((cell.get("id"), tidy), (metadata.get("id"), tidy.metadata)):  # or Colab's
        if isinstance(found, str):
            place["id"] = found
    return tidy


def _text(source: Any) -> str:
    if isinstance(source, list):
        lines = [line for line in source if isinstance(line, str)]
        # Some tools write the list without the newlines that nbformat wants at the lines' ends.
        bare = not any("\n" in line for line in lines)
        source = ("\n" if bare else "").join(lines)
    if not isinstance(source, str):
        return ""
    source = source.replace("\r\n", "\n").replace("\r", "\n").replace("\0", "")
    return re.sub("[\ud800-\udfff]", "\ufffd", source)
