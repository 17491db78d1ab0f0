"""Numbers and text as a notebook holds them: read without trust, made short, cut, coloured.

Nothing here fails on what a student's notebook may hold in place of a number or a text, and no
result is longer than its limit allows.
"""

import re
from collections.abc import Sequence
from typing import Any

from markupsafe import Markup, escape

MAX_MESSAGE = 600  # characters of a check's message, a note, a hint
MAX_LINES = 40  # lines of one output shown whole; of more, the first and last five
ENDS = 5
MAX_LINE = 1_000  # characters of one line


def as_number(value: object) -> float | None:
    """A finite number, or None for whatever else a notebook may hold (None, text, NaN, a list)."""
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not abs(value) < 1e6:
        return None
    return float(value)


def format_number(value: float | None) -> str:
    """At most two decimals; a dash for what is no number."""
    if value is None:
        return "–"
    text = f"{value:.2f}".rstrip("0").rstrip(".")
    return "0" if text == "-0" else text


def as_dict(value: object) -> dict[str, Any]:
    """The dictionary, or an empty one for whatever stands in its place."""
    return value if isinstance(value, dict) else {}


def as_list(value: object) -> Sequence[Any]:
    """The list, or an empty one for whatever stands in its place."""
    return value if isinstance(value, (list, tuple)) else ()


def as_text(value: object) -> str:
    """nbformat allows a list of lines for a string; anything but text becomes the empty string."""
    if not isinstance(value, str):
        value = "".join(part for part in as_list(value) if isinstance(part, str))
    # Lone surrogates, which a student's string may hold, cannot be written as UTF-8.
    return value if value.isascii() else value.encode("utf-8", "replace").decode("utf-8")


def short(value: object, limit: int = MAX_MESSAGE) -> str:
    """Plain text of at most `limit` characters, without colours; not yet escaped."""
    text = strip_ansi(printable(as_text(value)[: 4 * limit])).strip()
    return text if len(text) <= limit else f"{text[:limit].rstrip()} …"


def prose(value: object) -> Markup:
    """A sentence in which `code` stands between backticks."""
    return Markup(re.sub(r"`([^`\n]+)`", r"<code>\1</code>", str(escape(short(value)))))


def printable(text: str) -> str:
    """Drop control characters, but keep line ends, tabs and the start of ANSI colour sequences."""
    return re.sub(r"[\x00-\x08\x0b-\x1a\x1c-\x1f\x7f-\x9f]|\x1b(?!\[)", "", text)


def strip_ansi(text: str) -> str:
    """Drop colour sequences, also unfinished ones."""
    return re.sub(r"\x1b\[[0-?]*[ -/]*[@-~]?", "", text)


def counted(number: int, noun: str) -> str:
    """A number with its noun: "1 line", "2,000 lines"."""
    return f"{number:,} {noun}" if number == 1 else f"{number:,} {noun}s"


# Cutting


def _cut(text: str, limit: int, tail: int) -> tuple[str, int, str]:
    """Split into head, number of lines left out, tail, without ever splitting 200 MB into lines."""
    total = text.count("\n") + 1
    if total <= limit:
        return text, 0, ""
    start, stop = -1, len(text)
    for _ in range(ENDS):
        start = text.index("\n", start + 1)
    for _ in range(tail):
        stop = text.rindex("\n", 0, stop)
    return text[:start], total - ENDS - tail, text[stop + 1 :]


def _line(line: str) -> str:
    """What a terminal would show of a line: progress bars overwrite it by carriage returns."""
    line = line.rstrip("\r").rpartition("\r")[2]
    if len(line) <= MAX_LINE:
        return line
    kept = re.sub(r"\x1b\[?[0-?]*$", "", line[:MAX_LINE])
    return f"{kept} … {len(line) - MAX_LINE:,} more characters"


def _coloured(text: str) -> Markup:
    text = printable("\n".join(_line(line) for line in text.split("\n")))
    if "\x1b" not in text:
        return escape(text)
    # More than a second of import, for the few who need it.
    from nbconvert.filters.ansi import ansi2html

    return Markup(str(ansi2html(text)).replace("\x1b", ""))


def more(number: int, noun: str) -> Markup:
    """What stands for that which was left out."""
    return Markup('<span class="more">… {}</span>').format(counted(number, f"more {noun}"))


def pre(text: str, limit: int = MAX_LINES, tail: int = ENDS) -> Markup:
    """Terminal output; of more than `limit` lines the first few and the last `tail`."""
    head, left_out, end = _cut(text.rstrip("\n"), limit, tail)
    parts = [_coloured(head)]
    if left_out:
        parts += [more(left_out, "line"), _coloured(end)]
    # HTML parsers swallow a newline right after <pre>: without one of ours, the text's own is lost.
    return Markup("<pre>\n{}</pre>").format(Markup("\n").join(parts))
