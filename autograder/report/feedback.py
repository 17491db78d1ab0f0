"""One judged notebook as one HTML page: marks, reasons, named mistakes, the student's own cells.

All of the page except marks, hints and check messages was written by a student or by a student's
program, so three lines of defence stand behind one another: text is escaped (`markupsafe`), HTML
goes through an allowlist (`nh3`), and the page's Content-Security-Policy lets no script, font,
frame or request through. The page is self-contained and its size is bounded whatever the notebook
printed.

Sections below: numbers and text, cutting, images, HTML, formulas, cells, verdicts, the page.
"""

from __future__ import annotations

import base64
import binascii
import os
import re
import struct
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from itertools import groupby
from pathlib import Path
from typing import Any

import jinja2
import nh3
from markdown_it import MarkdownIt
from markdown_it.rules_core import StateCore
from markupsafe import Markup, escape
from mdit_py_plugins.dollarmath import dollarmath_plugin
from nbformat import NotebookNode
from pygments import highlight
from pygments.formatters.html import HtmlFormatter
from pygments.lexers.python import PythonLexer

CSP = "default-src 'none'; img-src data:; style-src 'unsafe-inline'"

MAX_PAGE = 1_900_000  # bytes of the whole page
MAX_OUTPUTS = 20  # outputs of one cell shown whole; of more, the first and last five
MAX_LINES = 40  # lines of one output shown whole; of more, the first and last five
ENDS = 5
MAX_TRACEBACK = 60  # lines; of more, the first five and as many of the last as fit
MAX_LINE = 1_000  # characters of one line
MAX_CODE = 12_000  # characters of one cell's source
MAX_HIGHLIGHTED = 90_000  # characters of HTML; beyond, the source is shown without colours
MAX_HTML = 100_000  # characters of a text/html output
MAX_MARKDOWN = 40_000  # characters of a Markdown cell
MAX_DEPTH = 60  # nested HTML elements
MAX_IMAGE = 400_000  # characters of base64
MAX_PIXELS = 25_000_000  # a few kilobytes of PNG can ask a browser for gigabytes
MAX_MESSAGE = 600  # characters of a check's message, a note, a hint
MAX_TEX = 800  # characters of a formula that is typeset
MAX_TEX_PAGE = 15_000  # of all formulas: some milliseconds each add up

_SOURCES = Path(__file__).parent


# Numbers and text


def _number(value: object) -> float | None:
    """A finite number, or None for whatever else a notebook may hold (None, text, NaN, a list)."""
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not abs(value) < 1e6:
        return None
    return float(value)


def _show(value: float | None) -> str:
    if value is None:
        return "–"
    text = f"{value:.2f}".rstrip("0").rstrip(".")
    return "0" if text == "-0" else text


def _dict(value: object) -> dict[str, Any]:
    return value if isinstance(value, dict) else {}


def _list(value: object) -> Sequence[Any]:
    return value if isinstance(value, (list, tuple)) else ()


def _text(value: object) -> str:
    """nbformat allows a list of lines for a string; anything but text becomes the empty string."""
    if not isinstance(value, str):
        value = "".join(part for part in _list(value) if isinstance(part, str))
    # Lone surrogates, which a student's string may hold, cannot be written as UTF-8.
    return value if value.isascii() else value.encode("utf-8", "replace").decode("utf-8")


def _short(value: object, limit: int = MAX_MESSAGE) -> str:
    text = _strip_ansi(_printable(_text(value)[: 4 * limit])).strip()
    return text if len(text) <= limit else f"{text[:limit].rstrip()} …"


def _prose(value: object) -> Markup:
    """A sentence in which `code` stands between backticks."""
    return Markup(re.sub(r"`([^`\n]+)`", r"<code>\1</code>", str(escape(_short(value)))))


def _printable(text: str) -> str:
    """Drop control characters, but keep line ends, tabs and the start of ANSI colour sequences."""
    return re.sub(r"[\x00-\x08\x0b-\x1a\x1c-\x1f\x7f-\x9f]|\x1b(?!\[)", "", text)


def _strip_ansi(text: str) -> str:
    return re.sub(r"\x1b\[[0-?]*[ -/]*[@-~]?", "", text)


def _count(number: int, noun: str) -> str:
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
    from nbconvert.filters.ansi import (
        ansi2html,
    )  # more than a second of import, for the few who need it

    text = _printable("\n".join(_line(line) for line in text.split("\n")))
    if "\x1b" not in text:
        return escape(text)
    return Markup(str(ansi2html(text)).replace("\x1b", ""))


def _more(number: int, noun: str) -> Markup:
    return Markup('<span class="more">… {}</span>').format(_count(number, f"more {noun}"))


def _pre(text: str, limit: int = MAX_LINES, tail: int = ENDS) -> Markup:
    head, left_out, end = _cut(text.rstrip("\n"), limit, tail)
    parts = [_coloured(head)]
    if left_out:
        parts += [_more(left_out, "line"), _coloured(end)]
    # HTML parsers swallow a newline right after <pre>: without one of ours, the text's own is lost.
    return Markup("<pre>\n{}</pre>").format(Markup("\n").join(parts))


# Images


def _png_size(data: bytes) -> tuple[int, int] | None:
    if data[:8] != b"\x89PNG\r\n\x1a\n" or data[12:16] != b"IHDR" or len(data) < 24:
        return None
    return struct.unpack(">II", data[16:24])


def _gif_size(data: bytes) -> tuple[int, int] | None:
    return struct.unpack("<HH", data[6:10]) if data[:6] in (b"GIF87a", b"GIF89a") else None


def _jpeg_size(data: bytes) -> tuple[int, int] | None:
    """Walk the segments to the frame header, which holds height and width."""
    at = 2 if data[:3] == b"\xff\xd8\xff" else len(data)
    while at + 9 <= len(data) and data[at] == 0xFF:
        marker, length = data[at + 1], int.from_bytes(data[at + 2 : at + 4], "big")
        if 0xC0 <= marker <= 0xCF and marker not in (0xC4, 0xC8, 0xCC):
            height, width = struct.unpack(">HH", data[at + 5 : at + 9])
            return width, height
        at += 2 + length
    return None


_RASTER: dict[str, Callable[[bytes], tuple[int, int] | None]] = {
    "image/png": _png_size,
    "image/jpeg": _jpeg_size,
    "image/gif": _gif_size,
}


def _raster_uri(mime: str, encoded: str) -> str | None:
    """A data URI, if the bytes are what the type says and the picture is of a sane size."""
    encoded = re.sub(r"\s+", "", encoded[: MAX_IMAGE + 10_000])
    if mime not in _RASTER or len(encoded) > MAX_IMAGE:
        return None
    try:
        data = base64.b64decode(encoded, validate=True)
        size = _RASTER[mime](data)
    except (binascii.Error, ValueError, struct.error):
        return None
    if size is None or not 0 < size[0] * size[1] <= MAX_PIXELS:
        return None
    return f"data:{mime};base64,{base64.b64encode(data).decode()}"


def _svg_uri(source: str) -> str | None:
    """An SVG inside <img> runs no script and loads nothing; entities could make it explode."""
    lowered = source.lower()
    if len(source) > MAX_IMAGE * 3 // 4 or "<svg" not in lowered or "<!entity" in lowered:
        return None
    return "data:image/svg+xml;base64," + base64.b64encode(source.encode()).decode()


def _image(mime: str, source: str, attributes: dict[str, Any]) -> Markup | None:
    uri = _svg_uri(source) if mime == "image/svg+xml" else _raster_uri(mime, source)
    if uri is None:
        return None
    width = _number(attributes.get("width"))  # set by matplotlib for high-resolution figures
    size = f' width="{int(width)}"' if width and 1 <= width <= 4000 else ""
    return Markup('<img alt="figure" src="{}"{}>').format(uri, Markup(size))


# HTML

# fmt: off
_TAGS = {
    "a", "b", "blockquote", "br", "caption", "code", "col", "colgroup", "dd", "del", "details",
    "div", "dl", "dt", "em", "h3", "h4", "h5", "h6", "hr", "i", "img", "ins", "kbd",
    "li", "mark", "ol", "p", "pre", "q", "s", "samp", "small", "span", "strong", "sub",
    "summary", "sup", "table", "tbody", "td", "tfoot", "th", "thead", "tr", "tt", "u", "ul",
    "var",
}
# With these, what stands between the tags goes too.
_DROPPED = {
    "script", "style", "title", "textarea", "iframe", "noscript", "noembed", "template",
    "object", "svg", "math", "select",
}
# fmt: on
_ATTRIBUTES = {
    "a": {"href"},
    "img": {"src", "alt"},
    "td": {"colspan", "rowspan"},
    "th": {"colspan", "rowspan"},
}
_HOLE = re.compile("\ue000([0-9]+)\ue001")


def _attribute(_tag: str, name: str, value: str) -> str | None:
    """Keep links to https, pictures that prove to be pictures, and small spans; None drops."""
    if name == "href":
        # A hole would be filled with markup, which must never happen inside of an attribute.
        return value if value.startswith("https://") and "\ue000" not in value else None
    if name == "alt":
        return value[:200] if "\ue000" not in value else None
    if name == "rel":
        return value  # nh3's own, see link_rel: the allowlist has let through no other
    if name == "src":
        match = re.match(r"data:(image/[a-z]+);base64,", value[:40])
        return _raster_uri(match[1], value[match.end() :]) if match else None
    return value if re.fullmatch(r"[0-9]{1,3}", value) else None


def _missing_picture(match: re.Match[str]) -> str:
    """What stands for a picture from elsewhere: its description."""
    alt = Markup(match[1] or "").unescape().strip()
    return str(Markup("<em>[{}]</em>").format(alt or "a picture that is not shown here"))


def _depth(html: str) -> int:
    depth = deepest = 0
    for close, tag in re.findall(r"<(/?)([a-z0-9]+)", html):
        if tag not in {"br", "col", "hr", "img"}:
            depth += -1 if close else 1
            deepest = max(deepest, depth)
    return deepest


def _clean(html: str) -> Markup | None:
    """Balanced HTML of what is on the allowlist; None if it is too large or too deep.

    No class, id or style survives: what a student prints cannot look like a verdict of this page.
    """
    if len(html) > MAX_HTML:
        return None
    cleaned = nh3.clean(
        _printable(html),
        tags=_TAGS,
        clean_content_tags=_DROPPED,
        attributes=_ATTRIBUTES,
        attribute_filter=_attribute,
        url_schemes={"https", "data"},
        link_rel="noopener noreferrer nofollow",
    )
    cleaned = re.sub(r'<img(?: alt="([^"]*)")?>', _missing_picture, cleaned)
    return Markup(cleaned) if _depth(cleaned) <= MAX_DEPTH else None


def _has_content(html: Markup) -> bool:
    return "<img" in html or bool(html.striptags().strip())


# Formulas
#
# matplotlib's mathtext lays them out; glyphs are drawn once a page and used by reference. TeX that
# it does not know stays readable as source.

_GROUP = r"(?:[^{}]|\{(?:[^{}]|\{[^{}]*\})*\})*"  # what stands between balanced braces
_REWRITES = [
    (
        r"\^\s*(?:\\top(?![A-Za-z])|\{\s*\\top\s*\})",
        r"^{\\mathsf{T}}",
    ),  # mathtext spaces it as a relation
    (r"\\(?:displaystyle|textstyle|nonumber|notag|limits|[bB]igg?[lrm]?)(?![A-Za-z])", " "),
    (r"\\[td]?frac\s*([0-9]|(?<=\s)[A-Za-z])\s*([A-Za-z0-9])", r"\\frac{\1}{\2}"),
    (r"\\tfrac(?![A-Za-z])", r"\\frac"),
    (r"\\(math(?:bb|bf|cal|rm|it|sf)|boldsymbol|sqrt)(?:\s+([A-Za-z])|\s*([0-9]))", r"\\\1{\2\3}"),
    (r"\\(boldsymbol|sqrt|mathbf)\s*(\\[A-Za-z]+)", r"\\\1{\2}"),
    (rf"\\underbrace\{{({_GROUP})\}}_\{{({_GROUP})\}}", r"\\underset{\2}{\1}"),
    (r"\\(?:boxed|mathrel|mathbin)(?![A-Za-z])", " "),
    (r"\\[lr]Vert(?![A-Za-z])", r"\\Vert "),
    (r"\\[lr]vert(?![A-Za-z])", r"|"),
    (r"\\implies(?![A-Za-z])", r"\\Rightarrow "),
    (r"\\iff(?![A-Za-z])", r"\\Leftrightarrow "),
    (r"\\(le|ge|ne)(?![A-Za-z])", r"\\\1q "),
    (r"\\operatorname\*", r"\\operatorname"),
    (r"\\textbf(?![A-Za-z])", r"\\mathbf"),
    (r"\\mathop(?![A-Za-z])", ""),
    (r"\\tag\{([^{}]*)\}", r"\\quad (\1)"),
    (r"\s+", " "),
]
_ENVIRONMENT = re.compile(
    r"(?P<before>.*?)\\begin\{(?P<name>aligned|align\*?|gathered|split|cases|[pbvB]?matrix)\}"
    r"(?P<body>.*?)\\end\{(?P=name)\}(?P<after>.*)",
    re.DOTALL,
)
_EM = 100  # mathtext's own font size: all coordinates are hundredths of an em

Glyph = tuple[str, int, int, float]


@dataclass(frozen=True)
class _Formula:
    """One typeset line in hundredths of an em, the origin on the baseline, y downwards."""

    width: float
    height: float
    depth: float
    glyphs: tuple[Glyph, ...]
    bars: tuple[str, ...]


_glyph_paths: dict[str, tuple[Any, Any]] = {}


@lru_cache(maxsize=4096)
def _typeset(tex: str) -> _Formula | None:
    from matplotlib.font_manager import FontProperties
    from matplotlib.textpath import text_to_path

    for pattern, replacement in _REWRITES:
        tex = re.sub(pattern, replacement, tex)
    font = FontProperties(size=_EM, math_fontfamily="cm")
    try:
        box = text_to_path.mathtext_parser.parse(f"${tex.strip()}$", 72, font)
        glyphs, paths, bars = text_to_path.get_glyphs_mathtext(font, f"${tex.strip()}$")
    except (ValueError, RecursionError, RuntimeError, ArithmeticError, LookupError, TypeError):
        return None  # TeX beyond mathtext: the source is shown
    width, height, depth = (float(value) for value in box[:3])
    if not (0 < width < 80 * _EM and 0 < height < 30 * _EM):
        return None
    _glyph_paths.update(paths)
    placed = tuple((key, round(x), round(-y), round(float(size), 3)) for key, x, y, size in glyphs)
    return _Formula(width, height, depth, placed, tuple(_svg_path(*bar) for bar in bars))


def _svg_path(vertices: Any, codes: Any) -> str:
    from matplotlib.path import Path as Outline

    letters = {1: "M", 2: "L", 3: "Q", 4: "C", 79: "Z"}
    parts = []
    for points, code in Outline(vertices, codes).iter_segments(simplify=False):
        pairs = zip(points[::2], points[1::2], strict=True)
        parts.append(
            "Z"
            if code == 79
            else letters[int(code)] + " ".join(f"{x:.4g} {-y:.4g}" for x, y in pairs)
        )
    return "".join(parts)


def _with_tall_fractions(tex: str) -> str:
    """In display style the outermost fractions are set at full size."""
    depth, parts = 0, []
    for piece in re.split(r"(\\frac(?![A-Za-z])|[{}])", tex):
        depth += (piece == "{") - (piece == "}")
        parts.append(r"\dfrac" if piece == r"\frac" and depth == 0 else piece)
    return "".join(parts)


class _Math:
    """Turns TeX into inline SVG and remembers which glyphs the page has to define."""

    def __init__(self) -> None:
        self._ids: dict[str, str] = {}
        self._left = MAX_TEX_PAGE

    def render(self, tex: str, *, display: bool = False) -> Markup:
        """TeX without its dollars -> HTML; what cannot be typeset is shown as source."""
        tex = tex.strip()
        self._left -= len(tex)
        drawn = self._lines(tex, display) if len(tex) <= MAX_TEX and self._left >= 0 else None
        if drawn is None:
            drawn = Markup('<code class="tex">{}</code>').format(tex[: 2 * MAX_TEX])
        return Markup('<span class="math">{}</span>').format(drawn) if display else drawn

    def _lines(self, tex: str, display: bool) -> Markup | None:
        """A formula, or formulas around one or more aligned blocks, cases and matrices."""
        match = _ENVIRONMENT.fullmatch(tex)
        if match is None:
            return self._svg(_with_tall_fractions(tex) if display else tex)
        name = match["name"]
        kind = "matrix" if "matrix" in name else "cases" if name == "cases" else "aligned"
        parts = [
            self._lines(match["before"], display) if match["before"].strip() else Markup(""),
            self._grid(match["body"], kind),
            self._lines(match["after"], display) if match["after"].strip() else Markup(""),
        ]
        drawn = [part for part in parts if part is not None]
        return Markup("").join(drawn) if len(drawn) == len(parts) else None

    def _grid(self, body: str, kind: str) -> Markup | None:
        rows = [
            row.split("&") for row in re.split(r"\\\\(?:\[[^\]]*\])?", body.strip()) if row.strip()
        ]
        tall = kind == "aligned"
        cells = [
            [self._lines(cell, tall) if cell.strip() else Markup("") for cell in row]
            for row in rows
        ]
        if any(cell is None for row in cells for cell in row):
            return None
        lines = [
            Markup("").join(Markup("<span>{}</span>").format(cell) for cell in row) for row in cells
        ]
        table = Markup("").join(Markup("<span>{}</span>").format(line) for line in lines)
        return Markup('<span class="env env-{}">{}</span>').format(kind, table)

    def _svg(self, tex: str) -> Markup | None:
        formula = _typeset(tex)
        if formula is None:
            return None
        ink = "".join(self._use(*glyph) for glyph in formula.glyphs)
        ink += "".join(f'<path d="{bar}"/>' for bar in formula.bars)
        top = formula.height - formula.depth
        return Markup(
            '<svg class="m" role="img" aria-label="{tex}" width="{w:.2f}em" height="{h:.2f}em"'
            ' viewBox="0 {top:.0f} {width:.0f} {height:.0f}"'
            ' style="vertical-align:{depth:.2f}em">{ink}</svg>'
        ).format(
            tex=tex.strip(),
            w=formula.width / _EM * 1.08,
            h=formula.height / _EM * 1.08,
            depth=-formula.depth / _EM * 1.08,
            top=-top,
            width=formula.width,
            height=formula.height,
            ink=Markup(ink),
        )

    def _use(self, key: str, x: int, y: int, size: float) -> str:
        name = self._ids.setdefault(key, f"g{len(self._ids)}")
        if size == 1:
            return f'<use href="#{name}" x="{x}" y="{y}"/>'
        return f'<use href="#{name}" transform="translate({x} {y})scale({size})"/>'

    def definitions(self) -> Markup:
        """The outlines of all glyphs that the page uses."""
        if not self._ids:
            return Markup("")
        paths = "".join(
            f'<path id="{name}" d="{_svg_path(*_glyph_paths[key])}"/>'
            for key, name in self._ids.items()
        )
        hidden = '<svg width="0" height="0" style="position:absolute" aria-hidden="true"><defs>'
        return Markup(f"{hidden}{paths}</defs></svg>")


# Cells


@dataclass
class _Room:
    """Bytes that one kind of content may still take."""

    left: int
    refused: int = 0

    @property
    def closed(self) -> bool:
        """After a few refusals in a row: what comes then is not even rendered."""
        return self.refused >= 3 or self.left <= 0

    def take(self, html: str) -> bool:
        size = len(html.encode())
        if size > self.left:
            self.refused += 1
            return False
        self.left, self.refused = self.left - size, 0
        return True


def _code(source: str) -> Markup:
    """Highlighted Python; hidden tests, which nbgrader's own format puts into cells, never show."""
    source = re.sub(r"(?ms)^[^\n]*BEGIN HIDDEN TESTS.*?(END HIDDEN TESTS[^\n]*\n?|\Z)", "", source)
    note = Markup("")
    if len(source) > MAX_CODE:
        note = Markup("\n") + _more(len(source) - MAX_CODE, "character")
        source = source[:MAX_CODE]
    source = _printable(source).replace("\x1b", "")
    lexer = PythonLexer(stripnl=False, ensurenl=False)
    body = Markup(highlight(source, lexer, HtmlFormatter(nowrap=True)))
    if len(body) > MAX_HIGHLIGHTED:
        body = escape(source)
    return Markup('<div class="code"><pre>\n{}{}</pre></div>').format(body, note)


def _below_the_pages_own(state: StateCore) -> None:
    """Headings of cells rank below the three levels of the page."""
    for token in state.tokens:
        if token.tag in ("h1", "h2", "h3", "h4", "h5", "h6"):
            token.tag = f"h{min(int(token.tag[1]) + 3, 6)}"


class _Cells:
    """Renders sources and outputs of cells."""

    def __init__(self) -> None:
        self.math = _Math()
        self._holes: list[Markup] = []
        self._markdown = MarkdownIt("commonmark", {"html": True}).enable(["table", "strikethrough"])
        self._markdown.core.ruler.push("headings", _below_the_pages_own)
        self._markdown.use(
            dollarmath_plugin, renderer=self._hole, allow_labels=False, double_inline=True
        )

    def _hole(self, tex: str, options: dict[str, Any]) -> str:
        """Formulas are set after sanitising: only a mark stands where one will be."""
        self._holes.append(self.math.render(tex, display=bool(options.get("display_mode"))))
        return f"\ue000{len(self._holes) - 1}\ue001"

    def markdown(self, source: str) -> Markup:
        """Markdown with HTML and $formulas$ -> sanitised HTML."""
        source = re.sub("[\ue000\ue001]", "", _printable(source).replace("\x1b", ""))
        self._holes = []
        cleaned = _clean(self._markdown.render(source)) if len(source) <= MAX_MARKDOWN else None
        if cleaned is None:
            return _pre(source)
        filled = _HOLE.sub(lambda hole: self._holes[int(hole[1])], cleaned)
        return Markup('<div class="text">{}</div>').format(Markup(filled))

    def outputs(self, outputs: Iterable[Any], *, unfold: bool) -> Markup:
        """The outputs of one cell; `unfold` leaves tracebacks open."""
        shown = [self._output(output, unfold) for output in _limited(_merged(outputs))]
        shown = [html for html in shown if html]
        if not shown:
            return Markup("")
        return Markup('<div class="outputs">{}</div>').format(Markup("").join(shown))

    def _output(self, output: Any, unfold: bool) -> Markup:
        if isinstance(output, Markup):
            return Markup('<div class="output">{}</div>').format(output)
        kind = output.get("output_type")
        if kind == "stream":
            name = "stderr" if output.get("name") == "stderr" else "stdout"
            text = _text(output.get("text"))
            return (
                Markup('<div class="output {}">{}</div>').format(name, _pre(text))
                if text.strip()
                else Markup("")
            )
        if kind == "error":
            return _error(output, unfold)
        if kind in ("display_data", "execute_result", "update_display_data"):
            body = self._rich(_dict(output.get("data")), _dict(output.get("metadata")))
            return Markup('<div class="output">{}</div>').format(body) if body else Markup("")
        return Markup("")

    def _rich(self, data: dict[str, Any], metadata: dict[str, Any]) -> Markup:
        """The best of the offered forms that can be shown safely."""
        for mime in (*_RASTER, "image/svg+xml"):
            if mime in data:
                image = _image(mime, _text(data[mime]), _dict(metadata.get(mime)))
                if image:
                    return image
        if "text/html" in data:
            html = _clean(_text(data["text/html"]))
            if html and _has_content(html):
                return Markup('<div class="html">{}</div>').format(html)
        if "text/markdown" in data:
            return self.markdown(_text(data["text/markdown"]))
        for mime in ("text/latex", "text/plain"):
            text = _text(data.get(mime))
            if text.strip():
                # Grading keeps the errors of test cells as text.
                return _traceback(text) if "Traceback (most recent" in text[:2_000] else _pre(text)
        kinds = ", ".join(sorted(_short(kind, 60) for kind in data)[:4]) or "nothing"
        return Markup('<span class="more">[not shown here: {}]</span>').format(kinds)


def _traceback(text: str) -> Markup:
    """The end of a traceback says most."""
    return _pre(text, MAX_TRACEBACK, MAX_TRACEBACK - ENDS)


def _error(output: dict[str, Any], unfold: bool) -> Markup:
    """One line with the error, the traceback below."""
    what = (
        f"{_short(output.get('ename'), 80) or 'Error'}: {_short(output.get('evalue'), 400)}".rstrip(
            ": "
        )
    )
    lines = [_text(line) for line in _list(output.get("traceback"))]
    trace = Markup("")
    if lines:
        trace = Markup("<details{}><summary>Traceback</summary>{}</details>").format(
            Markup(" open" if unfold else ""),
            _traceback("\n".join(lines)),
        )
    return Markup('<div class="output error"><p class="what">✗ Stopped with {}</p>{}</div>').format(
        what, trace
    )


def _merged(outputs: Iterable[Any]) -> list[Any]:
    """Join what one stream said in many pieces: two thousand prints are one output."""

    def stream(output: dict[str, Any]) -> object:
        return output.get("name") if output.get("output_type") == "stream" else id(output)

    merged = []
    for _, group in groupby((o for o in outputs if isinstance(o, dict)), key=stream):
        pieces = list(group)
        if len(pieces) > 1:
            pieces[0] = {**pieces[0], "text": "".join(_text(piece.get("text")) for piece in pieces)}
        merged.append(pieces[0])
    return merged


def _limited(outputs: list[Any]) -> list[Any]:
    """Of very many outputs the first and last few: an error, which says most, comes last."""
    if len(outputs) <= MAX_OUTPUTS:
        return outputs
    return [*outputs[:ENDS], _more(len(outputs) - 2 * ENDS, "output"), *outputs[-ENDS:]]


# Verdicts


@dataclass(frozen=True)
class _State:
    key: str
    sign: str
    word: str


_PASSED = _State("passed", "✓", "passed")
_PARTLY = _State("partly", "◐", "partly")
_LOST = _State("lost", "✗", "lost")
_UNDONE = _State("undone", "○", "not done yet")
_UNMARKED = _State("unmarked", "–", "not marked")


def _state(marks: float | None, points: float | None, message: str = "") -> _State:
    if marks is None:
        return _UNMARKED
    if not points:
        return _LOST if message else _PASSED
    if marks >= points - 1e-9:
        return _PASSED
    return _PARTLY if marks > 0 else _LOST


def _bar(marks: float | None, points: float | None) -> Markup:
    share = min(max((marks or 0.0) / points, 0.0), 1.0) if points and points > 0 else 0.0
    return Markup(
        '<span class="bar" aria-hidden="true"><span style="width:{:.0f}%"></span></span>'
    ).format(100 * share)


@dataclass(frozen=True)
class _Check:
    name: str
    marks: float | None
    points: float | None
    message: str

    @classmethod
    def read(cls, data: Any) -> _Check:
        data = _dict(data)
        marks, points = _number(data.get("marks")), _number(data.get("points"))
        return cls(
            _short(data.get("name"), 200) or "check", marks, points, _short(data.get("message"))
        )

    @property
    def state(self) -> _State:
        return _state(self.marks, self.points, self.message)

    def why(self, previous: str) -> Markup:
        if self.state is _PASSED or not self.message:
            return Markup("")
        return Markup("The same.") if self.message == previous else _prose(self.message)


@dataclass
class _Verdict:
    """What the judge said of one exercise, and where on the page it says so."""

    anchor: str
    title: str
    marks: float | None
    points: float | None
    checks: list[_Check]
    mistake: str
    hint: str
    note: str
    comments: list[str] = field(default_factory=list)
    untouched: bool = False

    @property
    def state(self) -> _State:
        state = _state(self.marks, self.points)
        return _UNDONE if state is _LOST and self.untouched else state

    @property
    def marks_text(self) -> str:
        return _show(self.marks)

    @property
    def points_text(self) -> str:
        return _show(self.points)

    @property
    def bar(self) -> Markup:
        return _bar(self.marks, self.points)

    @property
    def headline(self) -> Markup:
        """The few words of the summary table."""
        if self.state is _PASSED or self.state is _UNDONE:
            return Markup("")
        lost = [check.name for check in self.checks if check.state is not _PASSED]
        return _prose(self.mistake or self.note or (lost[0] if lost else ""))

    @property
    def reasons(self) -> list[tuple[_Check, Markup]]:
        """Each check with why it was lost; a reason like the one before is not repeated."""
        before = ["", *(check.message for check in self.checks)]
        pairs = zip(self.checks, before, strict=False)
        return [(check, check.why(previous)) for check, previous in pairs]


def _read_verdict(cell: dict[str, Any], number: int, title: str) -> _Verdict:
    metadata = _dict(cell.get("metadata"))
    judged, nbgrader = _dict(metadata.get("autograder")), _dict(metadata.get("nbgrader"))
    diagnosis = _dict(judged.get("diagnosis"))
    points = _number(judged.get("points"))
    name = _short(judged.get("exercise"), 80) or _short(nbgrader.get("grade_id"), 80)
    return _Verdict(
        anchor=f"exercise-{number}",
        title=title or name or f"Exercise {number}",
        marks=_number(judged.get("marks")),
        points=_number(nbgrader.get("points")) if points is None else points,
        checks=[_Check.read(check) for check in _list(judged.get("checks"))[:60]],
        mistake=_short(diagnosis.get("mistake"), 200),
        hint=_short(diagnosis.get("hint")),
        note=_short(judged.get("note")),
    )


# The page


def _role(cell: dict[str, Any]) -> str:
    """'test', 'answer', 'own' or 'given'; cells of unknown make count as given."""
    metadata = _dict(cell.get("metadata"))
    nbgrader, judged = _dict(metadata.get("nbgrader")), _dict(metadata.get("autograder"))
    if judged.get("student") is True:
        return "own"
    if nbgrader.get("solution") is True:
        return "answer"
    return "test" if nbgrader.get("grade") is True or "checks" in judged else "given"


def _heading(source: str) -> str:
    """The first heading of a Markdown cell as plain text, without "(3 points, about 5 min)"."""
    match = re.search(r"^ {0,3}#{1,6}[ \t]+(.+?)[ \t#]*$", source[:2_000], re.MULTILINE)
    title = re.sub(r"\s*\([^()]*\bpoints?\b[^()]*\)\s*$", "", match[1]) if match else ""
    return _short(re.sub(r"[*`]", "", title), 120)


def _without_heading(source: str) -> str:
    return re.sub(r"\A\s*#{1,6}[ \t]+[^\n]*\n?", "", source, count=1)


@dataclass
class _Plan:
    """Which verdict starts and which ends at which cell."""

    cells: list[dict[str, Any]]
    roles: list[str]
    starts: dict[int, _Verdict]
    ends: dict[int, _Verdict]

    @property
    def verdicts(self) -> list[_Verdict]:
        return list(self.ends.values())


def _comment(cell: dict[str, Any]) -> str:
    return _short(_dict(_dict(cell.get("metadata")).get("nbgrader")).get("comment"))


def _plan(notebook: Any) -> _Plan:
    """An exercise is what leads to a test cell: a heading, answers, the student's own cells."""
    cells = [cell for cell in _list(_dict(notebook).get("cells")) if isinstance(cell, dict)]
    plan = _Plan(cells, [_role(cell) for cell in cells], {}, {})
    first = 0
    for index, role in enumerate(plan.roles):
        manual = (
            role == "answer"
            and _dict(cells[index]["metadata"].get("nbgrader")).get("grade") is True
        )
        if role == "test" or manual:
            _plan_exercise(plan, first, index)
            first = index + 1
    return plan


def _plan_exercise(plan: _Plan, first: int, last: int) -> None:
    answers = [i for i in range(first, last + 1) if plan.roles[i] == "answer"]
    begin = answers[0] if answers else last
    before = begin - 1
    # The student's own cells may stand between the heading and the answer.
    while before >= first and plan.roles[before] == "own":
        before -= 1
    title = ""
    if before >= first and plan.cells[before].get("cell_type") == "markdown":
        title = _heading(_text(plan.cells[before].get("source")))
        begin = before if title else begin
    verdict = _read_verdict(plan.cells[last], len(plan.ends) + 1, title)
    verdict.comments = [text for i in sorted({*answers, last}) if (text := _comment(plan.cells[i]))]
    sources = [_text(plan.cells[i].get("source")) for i in answers]
    verdict.untouched = any("raise NotImplementedError" in source for source in sources)
    plan.starts[begin], plan.ends[last] = verdict, verdict


@dataclass(frozen=True)
class _Block:
    """A piece of the page's notebook, drawn by the template.

    `kind` is "heading", "task", "cell", "verdict", "tests", "given" or "left_out".
    """

    kind: str
    body: Markup = field(default_factory=Markup)
    title: Markup = field(default_factory=Markup)
    figures: Markup = field(default_factory=Markup)
    verdict: _Verdict | None = None


class _Body:
    """Turns the cells into blocks within the room that the page has."""

    def __init__(self, plan: _Plan, room: int) -> None:
        self.plan, self.cells = plan, _Cells()
        # The exercises keep room of their own: a flood elsewhere does not crowd them out.
        self._exercises, self._rest = _Room(room * 2 // 5), _Room(room * 3 // 5)
        self._given: list[int] = []
        self._left_out = 0
        self.blocks: list[_Block] = []

    def build(self) -> list[_Block]:
        """All blocks in the notebook's order."""
        for index, role in enumerate(self.plan.roles):
            if role != "given" or index in self.plan.starts:
                self._flush_given()
            self._cell(index, role)
        self._flush_given()
        if self._left_out:
            self.blocks.append(_Block("left_out", _more(self._left_out, "cell")))
        return self.blocks

    def _cell(self, index: int, role: str) -> None:
        begun, ended = self.plan.starts.get(index), self.plan.ends.get(index)
        if begun:
            self.blocks.append(_Block("heading", verdict=begun))
        if role == "given" and begun:
            self._add(self._rest, lambda: _Block("task", self._task(index)))
        elif role == "given":
            self._given.append(index)
        elif role == "answer":
            self._add(self._exercises, lambda: self._own(index, "Your answer"))
        elif role == "own":
            self._add(self._rest, lambda: self._own(index, "Your own cell"))
        if ended:
            self.blocks.append(_Block("verdict", verdict=ended))
        if role == "test":
            self._add(self._exercises, lambda: self._tests(index))

    def _add(self, room: _Room, make: Callable[[], _Block]) -> None:
        block = None if room.closed else make()
        if block is not None and not block.body and not block.figures:
            return
        if block is not None and room.take(block.body + block.figures):
            self.blocks.append(block)
        else:
            self._left_out += 1

    def _source(self, index: int) -> Markup:
        cell = self.plan.cells[index]
        source = _text(cell.get("source"))
        if not source.strip():
            return Markup("")
        return self.cells.markdown(source) if cell.get("cell_type") == "markdown" else _code(source)

    def _all_outputs(self, index: int) -> list[dict[str, Any]]:
        outputs = [o for o in _list(self.plan.cells[index].get("outputs")) if isinstance(o, dict)]
        if index not in self.plan.ends:
            return outputs
        # Grading adds an output that tells nbgrader the marks.
        return [o for o in outputs if _dict(o.get("metadata")).get("autograder") != "marks"]

    def _outputs(self, outputs: list[dict[str, Any]], *, unfold: bool = False) -> Markup:
        """Outputs of one cell; if they are too large together, a sentence instead."""
        html = self.cells.outputs(outputs, unfold=unfold)
        if len(html) <= 2 * MAX_IMAGE:
            return html
        return Markup('<p class="more">[these outputs are too large to be shown here]</p>')

    def _own(self, index: int, label: str) -> _Block:
        body = self._source(index) + self._outputs(self._all_outputs(index), unfold=True)
        return _Block("cell", body, escape(label))

    def _tests(self, index: int) -> _Block:
        body = self._source(index) + self._outputs(self._all_outputs(index))
        return _Block("tests", body, escape(_stopped([self.plan.cells[index]])))

    def _task(self, index: int) -> Markup:
        source = _without_heading(_text(self.plan.cells[index].get("source")))
        return self.cells.markdown(source) if source.strip() else Markup("")

    def _flush_given(self) -> None:
        indices, self._given = self._given, []
        if indices:
            self._add(self._rest, lambda: self._folded(indices))

    def _folded(self, indices: list[int]) -> _Block:
        """What was given since the student's last cell, except its pictures: they stay open."""
        body = figures = Markup("")
        for index in indices:
            outputs = self._all_outputs(index)
            body += self._source(index) + self._outputs([o for o in outputs if not _is_figure(o)])
            figures += self._outputs([o for o in outputs if _is_figure(o)])
        title = _given_summary([self.plan.cells[index] for index in indices])
        return _Block("given", body, title, figures)


def _stopped(cells: list[dict[str, Any]]) -> str:
    """The first error among the outputs, for a summary line."""
    outputs = [output for cell in cells for output in _list(cell.get("outputs"))]
    names = [name for output in outputs if (name := _error_name(_dict(output)))]
    return f" · ✗ stopped with {names[0]}" if names else ""


def _error_name(output: dict[str, Any]) -> str:
    if output.get("output_type") == "error":
        return _short(output.get("ename"), 60) or "an error"
    text = _text(_dict(output.get("data")).get("text/plain"))
    if "Traceback (most recent" not in text[:2_000]:
        return ""
    # Grading keeps the errors of test cells as text.
    match = re.search(
        r"^(\w+(?:Error|Exception|Interrupt|Exit))\b", _strip_ansi(text[-4_000:]), re.M
    )
    return match[1] if match else "an error"


def _is_figure(output: dict[str, Any]) -> bool:
    return any(str(mime).startswith("image/") for mime in _dict(output.get("data")))


def _given_summary(cells: list[dict[str, Any]]) -> Markup:
    texts = [_text(cell.get("source")) for cell in cells if cell.get("cell_type") == "markdown"]
    title = next((heading for text in texts if (heading := _heading(text))), "")
    code = sum(cell.get("cell_type") == "code" for cell in cells)
    counts = [
        _count(number, noun)
        for number, noun in ((len(texts), "text"), (code, "code cell"))
        if number
    ]
    parts = [Markup("<b>{}</b>").format(title)] if title else []
    return Markup("Given: ") + Markup(" · ").join([*parts, ", ".join(counts)]) + _stopped(cells)


def _advice(verdicts: list[_Verdict]) -> Markup:
    """One sentence: how far this is, and where to look first."""
    done = sum(verdict.state is _PASSED for verdict in verdicts)
    if not verdicts:
        return Markup("No exercise of this notebook has been marked.")
    if done == len(verdicts):
        return Markup("Every exercise passed all its checks.")
    # A named mistake is the shortest way to more marks.
    open_ones = [verdict for verdict in verdicts if verdict.state is not _PASSED]
    first = next((verdict for verdict in open_ones if verdict.mistake), open_ones[0])
    return Markup('{} of {} passed. Look first at <a href="#{}">{}</a>.').format(
        done, _count(len(verdicts), "exercise"), first.anchor, first.title
    )


@lru_cache(maxsize=1)
def _template() -> jinja2.Template:
    loader = jinja2.FileSystemLoader(_SOURCES)
    environment = jinja2.Environment(
        loader=loader, autoescape=True, trim_blocks=True, undefined=jinja2.StrictUndefined
    )
    environment.filters["prose"], environment.filters["number"] = _prose, _show
    return environment.get_template("feedback.html.j2")


@lru_cache(maxsize=1)
def _css() -> Markup:
    return Markup((_SOURCES / "feedback.css").read_text(encoding="utf-8").strip())


def _totals(verdicts: list[_Verdict], late_penalty: float) -> dict[str, Any]:
    earned = sum(verdict.marks or 0.0 for verdict in verdicts)
    points = sum(verdict.points or 0.0 for verdict in verdicts)
    penalty = max(_number(late_penalty) or 0.0, 0.0)
    marks = max(earned - penalty, 0.0) if penalty else earned
    return {
        "earned": _show(earned),
        "marks": _show(marks),
        "points": _show(points),
        "penalty": _show(penalty) if penalty else "",
        "total_bar": _bar(marks, points),
    }


def feedback_html(
    notebook: NotebookNode,
    *,
    student: str,
    unit: str,
    name: str,
    graded_at: str | None = None,
    late_penalty: float = 0.0,
) -> str:
    """One self-contained page of one judged notebook.

    Args:
        notebook: the judged notebook. Read are `cell.metadata.nbgrader` (`solution`, `grade`,
            `points`, `comment`), `cell.metadata.autograder` (`exercise`, `marks`, `points`,
            `checks`, `diagnosis`, `note`, `student`) and `notebook.metadata.autograder["notes"]`;
            each may be missing or malformed.
        student: the student's name or id; untrusted text, as all that the notebook holds.
        unit: the assignment, e.g. "01_backprop".
        name: the notebook, e.g. "autodiff".
        graded_at: when it was graded, shown as it is.
        late_penalty: points taken off the total, which does not fall below 0.

    Returns:
        HTML without scripts, loading nothing from outside, at most `MAX_PAGE` bytes as UTF-8.
    """
    plan = _plan(notebook)
    notes = _list(_dict(_dict(notebook.get("metadata")).get("autograder")).get("notes"))
    fixed: dict[str, Any] = {
        "csp": CSP,
        "css": _css(),
        "student": _short(student, 200),
        "unit": _short(unit, 200),
        "name": _short(name, 200),
        "graded_at": _short(graded_at, 100),
        "notes": [_prose(note) for note in notes[:50]],
        "verdicts": plan.verdicts,
        "advice": _advice(plan.verdicts),
        **_totals(plan.verdicts, late_penalty),
    }
    # Verdicts and glyphs count against no room; where they are large, the rest gets less.
    for room in (1_600_000, 500_000, 0):
        body = _Body(plan, room)
        blocks = body.build()
        page = _template().render(fixed, blocks=blocks, glyphs=body.cells.math.definitions())
        if len(page.encode()) <= MAX_PAGE:
            break
    return page


def _component(value: str, what: str) -> str:
    """A name that is one component of a path; anything that could climb out is refused."""
    if value in ("", ".", "..") or re.search(r"[/\\\x00-\x1f]", value):
        raise ValueError(f"{what} {value!r} cannot be the name of a folder: rename it")
    return value


def write_feedback(
    notebook: NotebookNode,
    root: Path,
    *,
    student: str,
    unit: str,
    name: str,
    graded_at: str | None = None,
    late_penalty: float = 0.0,
) -> Path:
    """Write the page to ROOT/feedback/STUDENT/UNIT/NAME.html, which is where nbgrader looks for it.

    A reader sees the old page or the new one, never half of one.

    Returns:
        The path of the page.

    Raises:
        ValueError: a name would lead out of the folder.
        OSError: the folder cannot be written.
    """
    folder = root / "feedback" / _component(student, "student") / _component(unit, "unit")
    path = folder / f"{_component(name, 'notebook')}.html"
    page = feedback_html(
        notebook,
        student=student,
        unit=unit,
        name=name,
        graded_at=graded_at,
        late_penalty=late_penalty,
    )
    folder.mkdir(parents=True, exist_ok=True)
    part = folder / f".{os.getpid()}.part"
    try:
        part.write_text(page, encoding="utf-8", newline="\n")
        part.replace(path)
    finally:
        part.unlink(missing_ok=True)
    return path
