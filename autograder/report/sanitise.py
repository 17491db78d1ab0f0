"""HTML that a student's program wrote, reduced to an allowlist of elements and attributes."""

import re

import nh3
from markupsafe import Markup

from autograder.report.images import raster_uri
from autograder.report.text import printable

MAX_HTML = 100_000  # characters of a text/html output
MAX_DEPTH = 60  # nested HTML elements

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
# A mark that the caller fills with markup of its own after cleaning.
HOLE = re.compile("\ue000([0-9]+)\ue001")


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
        return raster_uri(match[1], value[match.end() :]) if match else None
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


def clean(html: str) -> Markup | None:
    """Balanced HTML of what is on the allowlist; None if it is too large or too deep.

    No class, id or style survives: what a student prints cannot look like a verdict of this page.
    """
    if len(html) > MAX_HTML:
        return None
    cleaned = nh3.clean(
        printable(html),
        tags=_TAGS,
        clean_content_tags=_DROPPED,
        attributes=_ATTRIBUTES,
        attribute_filter=_attribute,
        url_schemes={"https", "data"},
        link_rel="noopener noreferrer nofollow",
    )
    cleaned = re.sub(r'<img(?: alt="([^"]*)")?>', _missing_picture, cleaned)
    return Markup(cleaned) if _depth(cleaned) <= MAX_DEPTH else None


def has_content(html: Markup) -> bool:
    """Whether anything of it can be seen."""
    return "<img" in html or bool(html.striptags().strip())
