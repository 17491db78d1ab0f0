"""The feedback page: what it says and shows, and that nothing a student writes acts in it."""

import base64
import struct
import zlib
from pathlib import Path
from typing import Any, cast

import nbformat
import pytest
from bs4 import BeautifulSoup, Tag
from nbformat import NotebookNode
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook, new_output

from autograder.report import formulas
from autograder.report.feedback import CSP, MAX_PAGE, feedback_html, write_feedback

VOID = {"br", "col", "hr", "img", "meta"}


def png(width: int = 4, height: int = 3) -> str:
    """A real PNG; its header may promise any size."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        body = kind + data
        return struct.pack(">I", len(data)) + body + struct.pack(">I", zlib.crc32(body))

    rows = zlib.compress(b"\x00" * (3 * 5))
    header = struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    data = (
        b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", rows) + chunk(b"IEND", b"")
    )
    return base64.b64encode(data).decode()


GIF = base64.b64encode(b"GIF89a\x01\x00\x01\x00\x00\x00\x00;").decode()
JPEG = base64.b64encode(
    bytes.fromhex("ffd8ffe000104a46494600010100000100010000ffc0000b080001000101011100ffd9")
).decode()


def check(name: str, points: float, marks: Any, message: str = "") -> dict[str, Any]:
    return {"name": name, "points": points, "marks": marks, "message": message}


def answer(source: str = "def f():\n    return 1", outputs: Any = ()) -> NotebookNode:
    metadata = {"nbgrader": {"solution": True, "grade": False}}
    return new_code_cell(source, outputs=list(outputs), metadata=metadata)


def judged(
    exercise: str = "f", source: str = "f()", outputs: Any = (), **said: Any
) -> NotebookNode:
    """The test cell of an exercise with what the judge said of it."""
    verdict = {"exercise": exercise, "marks": 1.0, "points": 3.0, "checks": []}
    verdict |= {"diagnosis": None, "note": None, **said}
    metadata = {"nbgrader": {"grade": True, "solution": False}, "autograder": verdict}
    return new_code_cell(source, outputs=list(outputs), metadata=metadata)


def own(source: str = "", outputs: Any = (), kind: str = "code") -> NotebookNode:
    metadata = {"autograder": {"student": True}}
    if kind == "markdown":
        return new_markdown_cell(source, metadata=metadata)
    return new_code_cell(source, outputs=list(outputs), metadata=metadata)


def display(**data: Any) -> NotebookNode:
    return new_output("display_data", data={k.replace("_", "/"): v for k, v in data.items()})


def svg(source: str) -> NotebookNode:
    return new_output("display_data", data={"image/svg+xml": source})


def stream(text: str, name: str = "stdout") -> NotebookNode:
    return new_output("stream", name=name, text=text)


def error(evalue: str, *traceback: str) -> NotebookNode:
    return new_output("error", ename="ValueError", evalue=evalue, traceback=list(traceback))


def page(*cells: NotebookNode, notes: Any = (), **options: Any) -> str:
    # Not new_notebook: it validates, and malformed notebooks are of interest here.
    metadata = {"autograder": {"notes": list(notes)}}
    notebook = nbformat.from_dict({"cells": list(cells), "metadata": metadata})
    named = {"student": "anna", "unit": "01_backprop", "name": "autodiff", **options}
    return feedback_html(cast(NotebookNode, notebook), **named)


def soup(html: str) -> BeautifulSoup:
    return BeautifulSoup(html, "html.parser")


def folded(html: str, text: str) -> bool:
    """Whether the text stands in a <details>."""
    found = soup(html).find(string=lambda string: string is not None and text in string)
    assert found is not None
    return found.find_parent("details") is not None


def only(html: str, selector: str) -> Tag:
    found = soup(html).select(selector)
    assert len(found) == 1, f"{selector}: {len(found)}"
    return found[0]


def words(html: str, selector: str = "main") -> str:
    return " ".join(only(html, selector).get_text(" ").split())


def assert_balanced(html: str) -> None:
    """Every element is closed by its own end tag: nothing broke out of its container."""
    from html.parser import HTMLParser

    class Stack(HTMLParser):
        def __init__(self) -> None:
            super().__init__()
            self.open: list[str] = []

        def handle_starttag(self, tag: str, attrs: Any) -> None:
            if tag not in VOID:
                self.open.append(tag)

        def handle_endtag(self, tag: str) -> None:
            assert self.open and self.open.pop() == tag, f"</{tag}> at {self.getpos()}"

    stack = Stack()
    stack.feed(html)
    assert stack.open == []


# fmt: off
FORBIDDEN = [
    "script", "iframe", "object", "embed", "form", "input", "button", "textarea", "select",
    "base", "link", "frame", "frameset", "applet", "audio", "video", "source", "template",
    "noscript", "math", "foreignobject", "image", "animate", "set", "marquee", "portal",
]
# fmt: on


def assert_harmless(html: str) -> None:
    """No script, no handler, no request, nothing outside of its container."""
    tree = soup(html)
    assert not tree.find_all(FORBIDDEN)
    assert [tag["content"] for tag in tree.select("meta[http-equiv]")] == [CSP]
    assert (
        len(tree.find_all("style")) == len(tree.find_all("html")) == len(tree.find_all("main")) == 1
    )
    for tag in tree.find_all(True):
        for name, value in tag.attrs.items():
            assert_harmless_attribute(tag, name, str(value))
    assert_balanced(html)


def assert_harmless_attribute(tag: Tag, name: str, value: str) -> None:
    assert not name.startswith("on"), f"{tag.name} {name}"
    assert name not in {
        "srcdoc",
        "srcset",
        "action",
        "formaction",
        "background",
        "ping",
        "xlink:href",
    }
    if name == "href":
        assert value.startswith("#") or (tag.name == "a" and value.startswith("https://")), value
        if value.startswith("https://"):
            assert set(tag.get_attribute_list("rel")) == {"noopener", "noreferrer", "nofollow"}
    if name == "src":
        assert tag.name == "img" and value.startswith("data:image/"), value
    if name == "style":
        assert "url" not in value and "expression" not in value, value


HOSTILE = [
    "<script>alert(1)</script>",
    "<SCRIPT SRC=https://evil.example/x.js></SCRIPT>",
    "</pre></div></main><script>alert(1)</script>",
    "</code></pre><script>alert(1)</script>",
    "<img src=x onerror=alert(1)>",
    "<img src='https://evil.example/pixel.png'>",
    '![</em><script>alert(1)</script>" onload="x](https://evil.example/a.png)',
    '<img alt="$x$ > <script>alert(1)</script>" src=x>',
    "<img srcset='https://evil.example/a.png 2x' src='//evil.example/b.png'>",
    "<img src='data:image/png;base64,PHNjcmlwdD4='>",
    "<img src='data:text/html;base64,PHNjcmlwdD4='>",
    "<img src='data:image/svg+xml;base64,PHN2Zy8+'>",
    '<a href="javascript:alert(1)">x</a>',
    '<a href=" java\tscript:alert(1)">x</a>',
    '<a href="&#106;avascript:alert(1)">x</a>',
    '<a href="data:text/html,<script>alert(1)</script>">x</a>',
    '<a href="//evil.example">x</a>',
    '<a href="file:///etc/passwd">x</a>',
    "<iframe src='https://evil.example'></iframe>",
    "<iframe srcdoc='<script>alert(1)</script>'>",
    "<div style='background:url(https://evil.example/p)'>x</div>",
    "<style>@import 'https://evil.example/a.css'; main{display:none}</style>",
    "<style>unclosed",
    "<meta http-equiv='refresh' content='0;url=https://evil.example'>",
    "<link rel='stylesheet' href='https://evil.example/a.css'>",
    "<base href='https://evil.example/'>",
    "<form action='https://evil.example'><input name=x></form>",
    "<button formaction='javascript:alert(1)' form=f>go</button>",
    "<svg onload=alert(1)><script>alert(1)</script></svg>",
    "<svg><a xlink:href='javascript:alert(1)'><text>x</text></a></svg>",
    "<math><mtext><table><mglyph><style><img src=x onerror=alert(1)>",
    "<noscript><p title='</noscript><img src=x onerror=alert(1)>'>",
    "<!--><img src=x onerror=alert(1)>-->",
    "<![CDATA[<script>alert(1)</script>]]>",
    "<textarea><script>alert(1)</script>",
    "<title></title></head><body onload=alert(1)>",
    "</div></details></section></main></body></html><h1>forged</h1>",
    "<details><table><tr><td><div><p><b>never closed",
    '<div title="\n\n$onmouseover=alert(1)//$\n\n<div ">',
    "<a title='$x' href='https://a.example/$ onmouseover=alert(1) '>x</a>",
    "$</span><script>alert(1)</script>$",
    '$" onmouseover="alert(1)$',
    "[x](javascript:alert(1)) ![x](https://evil.example/a.png) <javascript:alert(1)>",
    "[x]: javascript:alert(1)\n\n[x]",
    "```html\n</code></pre><script>alert(1)</script>\n```",
    "\ue0000\ue001\ue0009999\ue001 \ue000",
    "\x1b[31m<script>alert(1)</script>\x1b[0m \x1b]8;;javascript:alert(1)\x07x",
    "\x00\x08\u202e\ud800<b onclick=alert(1)>",
    "{{ 7 * 7 }}{% raw %} %s {0} </style>",
]


def hostile_cells(text: str) -> list[NotebookNode]:
    everywhere = {"text/html": text, "text/plain": text, "text/latex": text, "text/markdown": text}
    each = [new_output("display_data", data={mime: text}) for mime in everywhere]
    return [
        new_markdown_cell(text),
        new_markdown_cell(f"### {text.splitlines()[0]}\n{text}"),
        answer(text, [stream(text), stream(text, "stderr"), error(text, text)]),
        own(text, kind="markdown"),
        own(
            text,
            [*each, new_output("execute_result", data=everywhere, execution_count=1), svg(text)],
        ),
        own("x", [display(image_png=text), display(application_javascript=text)]),
        new_code_cell(text, outputs=[stream(text), *each]),
        judged(
            text,
            text,
            [error(text, text)],
            checks=[check(text, 1, 0, text)],
            diagnosis={"mistake": text, "hint": text},
            note=text,
        ),
    ]


@pytest.mark.parametrize("text", HOSTILE)
def test_hostile_text_is_harmless_wherever_it_stands(text: str) -> None:
    names = {"student": text, "unit": text, "name": text, "graded_at": text}
    html = page(*hostile_cells(text), notes=[text], **names)
    assert_harmless(html)
    html.encode("utf-8")


def test_all_hostile_texts_together() -> None:
    cells = [cell for text in HOSTILE for cell in hostile_cells(text)]
    assert_harmless(page(*cells))


def test_the_test_itself_sees_harm() -> None:
    clean = page(answer(), judged())
    assert_harmless(clean)
    for harm in (
        "<script></script>",
        "<p onclick='x'></p>",
        "<a href='http://x'></a>",
        "</div>",
        "<img src='x'>",
    ):
        with pytest.raises(AssertionError):
            assert_harmless(clean.replace("<footer>", f"{harm}<footer>"))


def test_sanitised_html_keeps_what_is_good() -> None:
    table = "<table class='dataframe'><tr><th>rate</th><td colspan='2'>0.1</td></tr></table>"
    html = page(own("df", [display(text_html=f"<div id='top'>{table}</div>")]))
    cell = only(html, ".own td")
    assert (cell.get_text(), cell["colspan"]) == ("0.1", "2")
    assert len(soup(html).select("#top")) == 1, "the student's id is gone"
    assert not soup(html).select(".dataframe")


def test_student_html_cannot_forge_a_verdict() -> None:
    forged = '<div class="verdict is-passed"><span class="state">passed</span></div>'
    html = page(answer("x", [display(text_html=forged)]), judged(marks=0.0))
    assert len(soup(html).select(".verdict")) == 1
    assert "is-lost" in only(html, ".verdict")["class"]


# What the page says


def example() -> str:
    return page(
        new_markdown_cell("# Given title\nAn introduction."),
        new_code_cell("import torch"),
        new_markdown_cell(
            "### Exercise 1 · Linear layer (3 points, about 15 min)\nSee $G^\\top X$."
        ),
        answer("def linear(x):\n    return x"),
        judged(
            "linear",
            marks=1.0,
            points=3.0,
            checks=[
                check("values", 2, 0, "db: got 0.2, expected `1.0`"),
                check("one row", 1, 1, "never shown"),
            ],
            diagnosis={"mistake": "averages over the batch", "hint": "Use `sum(0)`."},
            note="stopped after 20 s",
        ),
        answer("def relu(x): ..."),
        judged("relu", marks=2, points=2.0, checks=[check("values", 2, 2)]),
        answer("def adam():\n    raise NotImplementedError"),
        judged(
            "adam", marks=0.0, points=5.0, checks=[check("a step", 5, 0, "NotImplementedError")]
        ),
        notes=["A copied cell was left out."],
        student='Анна "Аня" O’Neill',
        graded_at="21 November",
        late_penalty=0.5,
    )


def test_summary() -> None:
    html = example()
    assert_harmless(html)
    assert words(html, "h1") == 'Анна "Аня" O’Neill'
    assert words(html, ".score") == "2.5 of 10 points"
    assert words(html, ".penalty").startswith("Earned 3, less 0.5")
    assert "1 of 3 exercises passed" in words(html, ".advice")
    assert "A copied cell was left out." in words(html, ".repairs")
    assert "Graded 21 November" in words(html)


def test_table_of_exercises() -> None:
    rows = [
        " ".join(row.get_text(" ").split()) for row in soup(example()).select(".marks tbody tr")
    ]
    assert rows == [
        "Exercise 1 · Linear layer 1 / 3 ◐ partly averages over the batch",
        "relu 2 / 2 ✓ passed",
        "adam 0 / 5 ○ not done yet",
    ]
    bars = [bar["style"] for bar in soup(example()).select(".marks .bar > span")]
    assert bars == ["width:33%", "width:100%", "width:0%"]


def test_links_of_the_table_lead_to_the_exercises() -> None:
    tree = soup(example())
    links = [str(link["href"]) for link in tree.select(".marks a")]
    assert len(links) == 3
    headings = [tree.select(f"{link} h3")[0].get_text() for link in links]
    assert headings == ["Exercise 1 · Linear layer", "relu", "adam"]


def test_verdict_says_why() -> None:
    verdict = soup(example()).select(".verdict")[0]
    text = " ".join(verdict.get_text(" ").split())
    assert text.startswith(
        "◐ partly 1 of 3 points This looks like: averages over the batch Use sum(0) ."
    )
    assert "Note: stopped after 20 s" in text
    assert "✗ lost values 0 / 2 db: got 0.2, expected 1.0" in text
    assert "✓ passed one row 1 / 1" in text
    assert "never shown" not in text


def test_a_repeated_reason_is_said_once() -> None:
    checks = [check(str(n), 1, 0, "no answer within 20 s") for n in range(3)]
    text = words(page(judged(checks=checks)), ".verdict")
    assert text.count("no answer within 20 s") == 1
    assert text.count("The same.") == 2


def test_given_cells_are_folded_and_the_students_are_open() -> None:
    tree = soup(example())
    assert [cell.find_parent("details") for cell in tree.select(".own")] == [None] * 3
    assert [box.find_parent("details") for box in tree.select(".verdict")] == [None] * 3
    assert folded(example(), "An introduction.")
    assert not tree.select("details[open]")
    assert "Given: Given title · 1 text, 1 code cell" in words(example())


def test_pictures_of_given_cells_stay_open() -> None:
    given = new_code_cell("plot()", outputs=[display(image_png=png()), stream("from the plot")])
    html = page(answer(), judged(), given)
    assert only(html, ".figures img").find_parent("details") is None
    assert folded(html, "from the plot")


def test_hidden_tests_of_nbgraders_own_format_do_not_show() -> None:
    source = (
        "visible()\n### BEGIN HIDDEN TESTS\nassert secret()\n### END HIDDEN TESTS\nalso_visible()"
    )
    html = page(answer(), judged(source=source))
    assert "secret" not in html
    assert "also_visible" in html
    assert "secret" not in page(answer(), judged(source="a\n    # BEGIN HIDDEN TESTS\nsecret()"))


def test_an_instructors_comment_shows() -> None:
    cell = answer()
    cell.metadata["nbgrader"]["comment"] = "Well <b>done</b>"
    assert "Comment: Well <b>done</b>" in words(page(cell, judged()), ".verdict")


# Missing and malformed data


@pytest.mark.parametrize("value", [None, float("nan"), float("inf"), "3", [], True, 10**400])
def test_marks_that_are_no_numbers(value: Any) -> None:
    checks = [check("a", value, value), check("b", 1, value), check("c", value, 1)]
    html = page(judged(marks=value, points=value, checks=checks), late_penalty=value)
    assert_harmless(html)
    assert words(html, ".score") == "0 of 0 points"
    assert "not marked" in words(html, ".verdict")
    assert "nan" not in words(html).lower()


@pytest.mark.parametrize(
    "value", [None, 3, "text", [], [None], {}, {"checks": [None, {}, 3]}, {"checks": {}}]
)
def test_malformed_metadata(value: Any) -> None:
    for key in ("autograder", "nbgrader"):
        cells = [judged(), answer(), own("x"), new_markdown_cell("x")]
        for cell in cells:
            cell["metadata"][key] = value
        assert_harmless(page(*cells))
    notebook = new_notebook(cells=[judged()], metadata={"autograder": value})
    assert_harmless(feedback_html(notebook, student="a", unit="b", name="c"))


@pytest.mark.parametrize(
    "value", [None, 3, [None], {"text/html": None}, {"image/png": 3}, {3: "x"}]
)
def test_malformed_outputs(value: Any) -> None:
    fields = ["output_type", "text", "data", "metadata", "traceback", "ename", "evalue", "name"]
    outputs = [value]
    for field in fields:
        for output in (stream("x"), error("x", "y"), display(text_plain="x")):
            output[field] = value
            outputs.append(output)
    cell = own("x")
    cell["outputs"] = outputs
    assert_harmless(page(cell))


def test_bare_notebooks() -> None:
    bare: list[Any] = [{}, {"cells": None}, {"cells": [{}, None, {"cell_type": "code"}]}]
    for notebook in bare:
        html = feedback_html(NotebookNode(notebook), student="", unit="", name="")
        assert_harmless(html)
        assert "No exercise of this notebook has been marked." in html


def test_more_marks_than_points_and_less_than_none() -> None:
    html = page(judged(marks=9.0, points=3.0), judged(marks=-2.0, points=3.0), late_penalty=100)
    assert [bar["style"] for bar in soup(html).select(".bar > span")] == [
        f"width:{w}%" for w in (0, 100, 0)
    ]
    assert words(html, ".score") == "0 of 6 points"


def test_tiny_remainders_are_full_marks() -> None:
    html = page(judged(marks=0.1 + 0.2, points=0.3), judged(marks=3 - 1e-12, points=3.0))
    assert words(html, ".score") == "3.3 of 3.3 points"
    assert "Every exercise passed all its checks." in words(html)


# Outputs


@pytest.mark.parametrize(("mime", "data"), [("png", png()), ("gif", GIF), ("jpeg", JPEG)])
def test_pictures(mime: str, data: str) -> None:
    output = new_output("display_data", data={f"image/{mime}": data, "text/plain": "<Figure>"})
    html = page(own("x", [output]))
    assert only(html, "img")["src"] == f"data:image/{mime};base64,{data}"
    assert "<Figure>" not in words(html)


@pytest.mark.parametrize(
    "data", ["", "no base64", "aGVsbG8=", GIF, png(10**6, 10**6), png(0, 0), png()[:20]]
)
def test_what_is_no_png_is_shown_as_text(data: str) -> None:
    html = page(own("x", [display(image_png=data, text_plain="<Figure>")]))
    assert not soup(html).select("img")
    assert "<Figure>" in words(html)


def test_svg_is_a_picture_and_never_markup() -> None:
    source = "<svg xmlns='http://www.w3.org/2000/svg' onload='alert(1)'><script>x</script></svg>"
    html = page(own("x", [svg(source)]))
    kind, data = str(only(html, "img")["src"]).split(",")
    assert kind == "data:image/svg+xml;base64"
    assert base64.b64decode(data).decode() == source
    bomb = "<!DOCTYPE svg [<!ENTITY a 'aaaa'>]><svg>&a;</svg>"
    assert not soup(page(own("x", [svg(bomb)]))).select("img")


def drawing(uses: int, *, nested: bool = False, prefix: str = "") -> str:
    """An SVG in which one shape is drawn `uses` times, from a group that may hold a use itself."""
    inner = f'<{prefix}use href="#b"/>' if nested else "<g/>"
    space = f"xmlns{':' * bool(prefix)}{prefix.rstrip(':')}='http://www.w3.org/2000/svg'"
    target = f"<{prefix}g id='a'>{inner}</{prefix}g>"
    uses_of_it = f"<{prefix}use xlink:href='#a'/>" * uses
    linked = "xmlns:xlink='http://www.w3.org/1999/xlink'"
    return f"<{prefix}svg {space} {linked}>{target}{uses_of_it}</{prefix}svg>"


@pytest.mark.parametrize("prefix", ["", "s:"])
def test_a_drawing_that_could_stall_a_browser_is_noted(prefix: str) -> None:
    assert only(page(own("x", [svg(drawing(1000, prefix=prefix))])), ".own img")
    for source in (drawing(1001, prefix=prefix), drawing(2, nested=True, prefix=prefix)):
        html = page(own("x", [svg(source)]))
        assert not soup(html).select("img")
        assert "this SVG has more than 1000 or nested <use>" in words(html)


def test_text_outputs() -> None:
    html = page(
        own(
            "x",
            [
                display(text_latex="$x < 1$"),
                display(text_plain="<Linear>"),
                display(application_javascript="alert(1)"),
                display(application_javascript="alert(1)", text_plain="instead"),
                display(text_html="<script>x</script>", text_plain="<Player>"),
            ],
        )
    )
    text = words(html)
    for part in (
        "$x < 1$",
        "<Linear>",
        "[not shown here: application/javascript]",
        "instead",
        "<Player>",
    ):
        assert part in text
    assert "alert" not in html


def test_traceback_in_colours() -> None:
    trace = "\x1b[0;31mValueError\x1b[0m: \x1b[1;38;5;28m<x>\x1b[0m \x1b[2K\x1b["
    html = page(answer("f()", [error("<x>", "Traceback", trace)]))
    assert words(html, ".error .what") == "✗ Stopped with ValueError: <x>"
    assert only(html, ".ansi-red-fg").get_text() == "ValueError"
    assert "\x1b" not in html


def test_what_grading_adds_for_nbgrader_does_not_show() -> None:
    marks = new_output(
        "execute_result", data={"text/plain": "2.75"}, metadata={"autograder": "marks"}
    )
    assert "2.75" not in page(answer(), judged(outputs=[marks]))
    assert "2.75" in page(answer("x", [marks]), judged())


def test_of_a_long_traceback_the_end_is_kept() -> None:
    lines = [
        "Traceback (most recent call last)",
        *(f"frame {n};" for n in range(500)),
        "ValueError: x",
    ]
    for output in (error("x", *lines), display(text_plain="\n".join(lines))):
        text = words(page(answer("f()", [output])))
        assert "… 442 more lines" in text
        assert "frame 449;" in text and "frame 444;" not in text
        assert "✗ stopped with ValueError" in words(page(judged(outputs=[output])))


def test_progress_bars_show_their_last_state() -> None:
    html = page(own("x", [stream("\r 10%\r 50%\r100%\ndone", "stderr")]))
    assert words(html, ".stderr") == "100% done"


def test_indentation_and_blank_lines_survive() -> None:
    html = page(answer("\n\nx = [\n    1,\n]\n", [stream("\n  two\n")]))
    sources = [block.get_text() for block in soup(html).select(".own pre")]
    # The first newline of each is the one that HTML parsers drop.
    assert sources == ["\n\n\nx = [\n    1,\n]\n", "\n\n  two"]


def test_markdown_and_its_links() -> None:
    html = page(
        own("**bold** [notes](https://a.example/x) [bad](http://a.example)", kind="markdown")
    )
    link = only(html, ".text a[href]")
    assert link["href"] == "https://a.example/x"
    assert set(link.get_attribute_list("rel")) == {"noopener", "noreferrer", "nofollow"}
    assert only(html, ".text strong").get_text() == "bold"


def test_pictures_from_elsewhere_are_described() -> None:
    source = '![Open in <b>"Colab"](https://a.example/x.svg) <img src="https://a.example/x.png">'
    text = words(page(own(source, kind="markdown")), ".text")
    assert text == '[Open in <b>"Colab"] [a picture that is not shown here]'


@pytest.mark.parametrize(
    "tex",
    [
        r"\frac{\partial L}{\partial x}",
        r"\tfrac12 \lVert x \rVert^2",
        r"\operatorname{softmax}(z)_i = \frac{e^{z_i}}{\sum_j e^{z_j}}",
        r"\begin{aligned} a &= b \\ c &= \frac{d}{e} \end{aligned}",
        r"f(x) = \begin{cases} x & x > 0 \\ 0 & \text{else} \end{cases}, \quad x",
        r"A = \begin{pmatrix} 1 & 2 \end{pmatrix} \begin{bmatrix} 3 \\ 4 \end{bmatrix}",
        r"\boxed{\boldsymbol\theta \mathrel{+}= \sqrt t} \tag{1}",
        r"\underbrace{\tfrac{h}{2} f''}_{\text{truncation}} + \mathbf g_t",
        r"\mathbf 1[x > 0] \implies W^\top x \le \mathcal{N}(0, \sigma^2)",
    ],
)
def test_formulas_are_drawn(tex: str) -> None:
    html = page(own(f"Let $${tex}$$ be.", kind="markdown"))
    assert_harmless(html)
    tree = soup(html)
    assert tree.select("svg.m") and not tree.select("code.tex")
    defined = {f"#{path['id']}" for path in tree.select("defs path")}
    assert {str(use["href"]) for use in tree.select("use")} == defined
    assert all(path["d"] for path in tree.select("path"))


@pytest.mark.parametrize(
    "tex", [r"\overbrace{a<b}^{c}", r"\sqrt{" * 90 + "x" + "}" * 90, "x_1_2", "{", "x_{вход}"]
)
def test_formulas_beyond_reach_stay_readable(tex: str) -> None:
    html = page(own(f"Let ${tex}$ be.", kind="markdown"))
    assert only(html, "code.tex").get_text() in tex
    assert_harmless(html)


def test_of_very_many_different_formulas_the_rest_is_source(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(formulas, "MAX_FORMULAS", 20)
    numbers = " ".join(f"${n}$" for n in range(30))
    grid = r"$$\begin{matrix} 40 & 41 \end{matrix}$$"
    html = page(own(f"{numbers}\n\n{grid}", kind="markdown"), own("$0$", kind="markdown"))
    labels = [drawn["aria-label"] for drawn in soup(html).select("svg.m")]
    assert labels == [*(str(n) for n in range(20)), "0"], "what was typeset before stays drawn"
    sources = [shown.get_text() for shown in soup(html).select("code.tex")]
    assert sources[:-1] == [str(n) for n in range(20, 30)]
    assert "40" in sources[-1], "each cell of a matrix counts"


def test_of_very_long_formulas_the_rest_is_source(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(formulas, "MAX_TEX_PAGE", 9)
    tree = soup(page(own("$x+y+z$ $a+b+c$ $x+y+z$ $w$", kind="markdown")))
    assert [drawn["aria-label"] for drawn in tree.select("svg.m")] == ["x+y+z", "x+y+z", "w"]
    assert [shown.get_text() for shown in tree.select("code.tex")] == ["a+b+c"]


def test_the_source_of_a_formula_is_its_label() -> None:
    html = page(own("Let $x < y$ be.", kind="markdown"))
    assert only(html, "svg.m")["aria-label"] == "x < y"


# Size


def size(html: str) -> int:
    assert_harmless(html)
    return len(html.encode())


def test_one_output_of_two_thousand_lines() -> None:
    html = page(answer("x", [stream("".join(f"line {n}\n" for n in range(2000)))]), judged())
    assert "… 1,990 more lines" in words(html)
    assert "line 4 " in words(html) and "line 5 " not in words(html) and "line 1999" in words(html)
    assert size(html) < 60_000


def test_two_thousand_outputs() -> None:
    prints = page(answer("x", [stream("again\n")] * 2000), judged())
    assert "… 1,990 more lines" in words(prints)
    pictures = page(answer("x", [display(image_png=png())] * 2000), judged())
    assert "… 1,990 more outputs" in words(pictures)
    assert max(size(prints), size(pictures)) < 60_000


@pytest.mark.parametrize("unit", ["x", "<", "x\r", "\x1b[31mx\x1b[0m"])
def test_a_line_of_very_many_characters(unit: str) -> None:
    text = unit * (20_000_000 // len(unit))
    assert size(page(answer("x", [stream(text), display(text_plain=text)]), judged())) < 100_000


def test_two_hundred_megabytes_in_one_line() -> None:
    html = page(answer("x", [stream("x" * 200_000_000)]))
    assert "… 199,999,000 more characters" in words(html)
    assert size(html) < 60_000


@pytest.mark.parametrize(
    "cell",
    [
        own("(" * 200_000),
        own("$x$ " * 200_000 + "z", kind="markdown"),
        own("$x_1$ " * 6_000, kind="markdown"),
        own(">" * 39_000 + "x", kind="markdown"),
        own("[" * 39_000, kind="markdown"),
        own("x", [display(text_html="<div>" * 15_000, text_plain="deep")]),
        own("x", [display(text_html="<b>x</b>" * 500_000, text_plain="long")]),
        own(
            "x", [display(image_png=base64.b64encode(b"x" * 5_000_000).decode(), text_plain="big")]
        ),
        own("x", [svg("<svg>" + "x" * 5_000_000)]),
        own("x", [error("e" * 5_000_000, *["t" * 5_000] * 5_000)]),
        judged(checks=[check("n" * 10_000, 1, 0, "m" * 10_000)] * 500, note="z" * 10_000),
    ],
    ids=lambda cell: str(cell.source)[:3] or "output",
)
def test_excess_is_cut(cell: NotebookNode) -> None:
    assert size(page(cell, answer(), judged("kept", checks=[check("kept check", 1, 1)]))) < MAX_PAGE


def test_a_flood_of_cells_keeps_the_verdicts() -> None:
    flood = [own("(" * 3_000, [stream("<" * 900)]) for _ in range(300)]
    html = page(*flood, answer("mine = 1"), judged(checks=[check("kept check", 1, 1)]))
    assert size(html) < MAX_PAGE
    assert "kept check" in words(html)
    assert "mine" in words(html, "main")
    assert "more cells" in words(html)


def test_a_flood_of_verdicts_stays_under_the_cap() -> None:
    checks = [check("name", 1, 0, f"{n}" + "<" * 600) for n in range(40)]
    cells = [cell for _ in range(12) for cell in (answer("(" * 12_000), judged(checks=checks))]
    assert size(page(*cells)) < MAX_PAGE


# Files


def test_written_where_nbgrader_looks(tmp_path: Path) -> None:
    notebook = new_notebook(cells=[answer(), judged()])
    student = 'Анна "Аня" O\'Neill'
    path = write_feedback(notebook, tmp_path, student=student, unit="01_backprop", name="autodiff")
    assert path == tmp_path / "feedback" / student / "01_backprop" / "autodiff.html"
    assert path.read_text(encoding="utf-8") == feedback_html(
        notebook, student=student, unit="01_backprop", name="autodiff"
    )
    assert list(path.parent.iterdir()) == [path], "no temporary file is left"


def test_a_failed_write_leaves_the_old_page(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    names: dict[str, Any] = {"student": "anna", "unit": "u", "name": "n"}
    path = write_feedback(new_notebook(), tmp_path, **names)
    old = path.read_bytes()

    def fail(*_: Any) -> None:
        raise OSError("disk full")

    monkeypatch.setattr(Path, "replace", fail)
    with pytest.raises(OSError, match="disk full"):
        write_feedback(new_notebook(cells=[judged()]), tmp_path, **names)
    assert path.read_bytes() == old
    assert list(path.parent.iterdir()) == [path]


@pytest.mark.parametrize("bad", ["", ".", "..", "a/b", "../a", "a\\b", "a\0b", "/etc"])
def test_names_that_lead_elsewhere_are_refused(tmp_path: Path, bad: str) -> None:
    for key in ("student", "unit", "name"):
        names: dict[str, Any] = {"student": "a", "unit": "u", "name": "n", key: bad}
        if key == "name" and bad in (".", ".."):
            continue
        with pytest.raises(ValueError, match="cannot be the name of a folder"):
            write_feedback(new_notebook(), tmp_path, **names)
    assert not (tmp_path / "feedback").exists()


def test_the_same_notebook_gives_the_same_page() -> None:
    assert example() == example()
