"""Sources and outputs of cells as HTML: code, Markdown with formulas, text, errors, pictures."""

import re
from collections.abc import Iterable
from itertools import groupby
from typing import Any

from markdown_it import MarkdownIt
from markdown_it.rules_core import StateCore
from markupsafe import Markup, escape
from mdit_py_plugins.dollarmath import dollarmath_plugin
from pygments import highlight
from pygments.formatters.html import HtmlFormatter
from pygments.lexers.python import PythonLexer

from autograder.report.formulas import Formulas
from autograder.report.images import RASTER, image
from autograder.report.sanitise import HOLE, clean, has_content
from autograder.report.text import ENDS, as_dict, as_list, as_text, more, pre, printable, short

MAX_OUTPUTS = 20  # outputs of one cell shown whole; of more, the first and last five
MAX_TRACEBACK = 60  # lines; of more, the first five and as many of the last as fit
MAX_CODE = 12_000  # characters of one cell's source
MAX_HIGHLIGHTED = 90_000  # characters of HTML; beyond, the source is shown without colours
MAX_MARKDOWN = 40_000  # characters of a Markdown cell


def highlighted(source: str) -> Markup:
    """Highlighted Python; hidden tests, which nbgrader's own format puts into cells, never show."""
    source = re.sub(r"(?ms)^[^\n]*BEGIN HIDDEN TESTS.*?(END HIDDEN TESTS[^\n]*\n?|\Z)", "", source)
    note = Markup("")
    if len(source) > MAX_CODE:
        note = Markup("\n") + more(len(source) - MAX_CODE, "character")
        source = source[:MAX_CODE]
    source = printable(source).replace("\x1b", "")
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


class CellRenderer:
    """Renders sources and outputs of cells."""

    def __init__(self) -> None:
        self.math = Formulas()
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
        source = re.sub("[\ue000\ue001]", "", printable(source).replace("\x1b", ""))
        self._holes = []
        cleaned = clean(self._markdown.render(source)) if len(source) <= MAX_MARKDOWN else None
        if cleaned is None:
            return pre(source)
        filled = HOLE.sub(lambda hole: self._holes[int(hole[1])], cleaned)
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
            text = as_text(output.get("text"))
            body = pre(text) if text.strip() else Markup("")
            return Markup('<div class="output {}">{}</div>').format(name, body) if body else body
        if kind == "error":
            return _error(output, unfold)
        if kind in ("display_data", "execute_result"):
            body = self._rich(as_dict(output.get("data")), as_dict(output.get("metadata")))
            return Markup('<div class="output">{}</div>').format(body) if body else Markup("")
        return Markup("")

    def _rich(self, data: dict[str, Any], metadata: dict[str, Any]) -> Markup:
        """The best of the offered forms that can be shown safely."""
        for mime in (*RASTER, "image/svg+xml"):
            if mime in data:
                picture = image(mime, as_text(data[mime]), as_dict(metadata.get(mime)))
                if picture:
                    return picture
        if "text/html" in data:
            html = clean(as_text(data["text/html"]))
            if html and has_content(html):
                return Markup('<div class="html">{}</div>').format(html)
        if "text/markdown" in data:
            return self.markdown(as_text(data["text/markdown"]))
        for mime in ("text/latex", "text/plain"):
            text = as_text(data.get(mime))
            if text.strip():
                # Grading keeps the errors of test cells as text.
                return _traceback(text) if "Traceback (most recent" in text[:2_000] else pre(text)
        kinds = ", ".join(sorted(short(kind, 60) for kind in data)[:4]) or "nothing"
        return Markup('<span class="more">[not shown here: {}]</span>').format(kinds)


def _traceback(text: str) -> Markup:
    """The end of a traceback says most."""
    return pre(text, MAX_TRACEBACK, MAX_TRACEBACK - ENDS)


def _error(output: dict[str, Any], unfold: bool) -> Markup:
    """One line with the error, the traceback below."""
    name, value = short(output.get("ename"), 80) or "Error", short(output.get("evalue"), 400)
    lines = [as_text(line) for line in as_list(output.get("traceback"))]
    trace = Markup("")
    if lines:
        trace = Markup("<details{}><summary>Traceback</summary>{}</details>").format(
            Markup(" open" if unfold else ""),
            _traceback("\n".join(lines)),
        )
    return Markup('<div class="output error"><p class="what">✗ Stopped with {}</p>{}</div>').format(
        f"{name}: {value}".rstrip(": "), trace
    )


def _merged(outputs: Iterable[Any]) -> list[Any]:
    """Join what one stream said in many pieces: two thousand prints are one output."""

    def stream(output: dict[str, Any]) -> object:
        return output.get("name") if output.get("output_type") == "stream" else id(output)

    merged = []
    for _, group in groupby((o for o in outputs if isinstance(o, dict)), key=stream):
        pieces = list(group)
        if len(pieces) > 1:
            text = "".join(as_text(piece.get("text")) for piece in pieces)
            pieces[0] = {**pieces[0], "text": text}
        merged.append(pieces[0])
    return merged


def _limited(outputs: list[Any]) -> list[Any]:
    """Of very many outputs the first and last few: an error, which says most, comes last."""
    if len(outputs) <= MAX_OUTPUTS:
        return outputs
    return [*outputs[:ENDS], more(len(outputs) - 2 * ENDS, "output"), *outputs[-ENDS:]]
