"""Pictures of a notebook as data URIs, once they have proved to be pictures of a sane size."""

import base64
import binascii
import re
import struct
from collections.abc import Callable
from typing import Any
from xml.etree import ElementTree

from markupsafe import Markup

from autograder.report.text import as_number

MAX_IMAGE = 400_000  # characters of base64
MAX_PIXELS = 25_000_000  # a few kilobytes of PNG can ask a browser for gigabytes
MAX_USES = 1000  # references of an SVG to its own parts


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


RASTER: dict[str, Callable[[bytes], tuple[int, int] | None]] = {
    "image/png": _png_size,
    "image/jpeg": _jpeg_size,
    "image/gif": _gif_size,
}


def raster_uri(mime: str, encoded: str) -> str | None:
    """A data URI, if the bytes are what the type says and the picture is of a sane size."""
    encoded = re.sub(r"\s+", "", encoded[: MAX_IMAGE + 10_000])
    if mime not in RASTER or len(encoded) > MAX_IMAGE:
        return None
    try:
        data = base64.b64decode(encoded, validate=True)
        size = RASTER[mime](data)
    except (binascii.Error, ValueError, struct.error):
        return None
    if size is None or not 0 < size[0] * size[1] <= MAX_PIXELS:
        return None
    return f"data:{mime};base64,{base64.b64encode(data).decode()}"


def _svg_root(source: str) -> ElementTree.Element | None:
    """The root of an SVG; entities, by which a short text can explode, are refused."""
    if len(source) > MAX_IMAGE * 3 // 4 or "<!entity" in source.lower():
        return None
    try:
        root = ElementTree.fromstring(source)
    except ElementTree.ParseError:
        return None
    return root if _name(root) == "svg" else None


def _name(element: ElementTree.Element) -> str:
    return str(element.tag).rpartition("}")[2]


def _stalls(root: ElementTree.Element) -> bool:
    """Many or nested references: sixteen levels of three draw a shape forty million times."""
    uses = [element for element in root.iter() if _name(element) == "use"]
    if len(uses) > MAX_USES:
        return True
    used = {
        value.strip().removeprefix("#")
        for use in uses
        for name, value in use.items()
        if name.rpartition("}")[2] == "href"
    }
    targets = {element.get("id"): element for element in root.iter() if element.get("id") in used}
    return any(_name(part) == "use" for target in targets.values() for part in target.iter())


def image(mime: str, source: str, attributes: dict[str, Any]) -> Markup | None:
    """A picture; a note in place of a drawing that could stall a browser; None for no picture."""
    if mime == "image/svg+xml":
        return _drawing(source)
    uri = raster_uri(mime, source)
    if uri is None:
        return None
    width = as_number(attributes.get("width"))  # set by matplotlib for high-resolution figures
    size = f' width="{int(width)}"' if width and 1 <= width <= 4000 else ""
    return Markup('<img alt="figure" src="{}"{}>').format(uri, Markup(size))


def _drawing(source: str) -> Markup | None:
    """An SVG inside <img>, where it runs no script and loads nothing."""
    root = _svg_root(source)
    if root is None:
        return None
    if _stalls(root):
        return Markup('<span class="more">[{}]</span>').format(
            f"this SVG has more than {MAX_USES} or nested <use>: show the figure as PNG instead"
        )
    encoded = base64.b64encode(source.encode()).decode()
    return Markup('<img alt="figure" src="data:image/svg+xml;base64,{}">').format(encoded)
