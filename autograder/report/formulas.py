"""TeX as inline SVG, so that a page needs neither scripts nor fonts.

matplotlib's mathtext lays formulas out; glyphs are drawn once a page and used by reference. TeX
that it does not know stays readable as source.
"""

import re
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from markupsafe import Markup

MAX_TEX = 800  # characters of a formula that is typeset
MAX_FORMULAS = 1_500  # different lines typeset for one page, at some milliseconds each
MAX_TEX_PAGE = 10_000  # characters of these together

_GROUP = r"(?:[^{}]|\{(?:[^{}]|\{[^{}]*\})*\})*"  # what stands between balanced braces
_REWRITES = [
    # mathtext spaces \top as a relation.
    (r"\^\s*(?:\\top(?![A-Za-z])|\{\s*\\top\s*\})", r"^{\\mathsf{T}}"),
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
    (r"\\(le|ge)(?![A-Za-z])", r"\\\1q "),
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
# Letters beyond Latin and Greek, which mathtext's font lacks and draws as a dummy.
_NO_GLYPH = re.compile(r"[\u0400-\u1fff\u2c00-\U0010ffff]")
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
    """Lay out one line; None if it is beyond mathtext or of no sane size."""
    from matplotlib.font_manager import FontProperties
    from matplotlib.textpath import text_to_path

    if _NO_GLYPH.search(tex):
        return None
    for pattern, replacement in _REWRITES:
        tex = re.sub(pattern, replacement, tex)
    font = FontProperties(size=_EM, math_fontfamily="cm")
    try:
        box = text_to_path.mathtext_parser.parse(f"${tex.strip()}$", 72, font)
        glyphs, paths, bars = text_to_path.get_glyphs_mathtext(font, f"${tex.strip()}$")
    except (ValueError, RecursionError):
        return None
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
        numbers = "" if code == 79 else " ".join(f"{x:.4g} {-y:.4g}" for x, y in pairs)
        parts.append(letters[int(code)] + numbers)
    return "".join(parts)


def _with_tall_fractions(tex: str) -> str:
    """In display style the outermost fractions are set at full size."""
    depth, parts = 0, []
    for piece in re.split(r"(\\frac(?![A-Za-z])|[{}])", tex):
        depth += (piece == "{") - (piece == "}")
        parts.append(r"\dfrac" if piece == r"\frac" and depth == 0 else piece)
    return "".join(parts)


class Formulas:
    """Turns TeX into inline SVG and remembers which glyphs the page has to define."""

    def __init__(self) -> None:
        self._ids: dict[str, str] = {}
        self._tried: set[str] = set()
        self._left = MAX_TEX_PAGE

    def render(self, tex: str, *, display: bool = False) -> Markup:
        """TeX without its dollars -> HTML; what cannot be typeset is shown as source."""
        tex = tex.strip()
        drawn = self._lines(tex, display) if len(tex) <= MAX_TEX else None
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

    def _affords(self, tex: str) -> bool:
        """Whether the page has time for this line; one that was typeset before costs none."""
        if tex in self._tried:
            return True
        if len(self._tried) >= MAX_FORMULAS or len(tex) > self._left:
            return False
        self._tried.add(tex)
        self._left -= len(tex)
        return True

    def _svg(self, tex: str) -> Markup | None:
        formula = _typeset(tex) if self._affords(tex) else None
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
