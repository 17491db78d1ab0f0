"""One style for all figures: readable in grey, by the colour-blind, and beside the text.

pyplot is imported with the first figure, not with the style: it takes longer than the rest.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import matplotlib
from cycler import cycler
from matplotlib.figure import Figure

from course.session import profile

if TYPE_CHECKING:
    from matplotlib.axes import Axes

# Okabe and Ito, "Color Universal Design" (2008); dark and light alternate, so that neighbours
# differ in grey too. Yellow is left out: it vanishes on white.
COLOURS = ("#0072B2", "#E69F00", "#009E73", "#D55E00", "#56B4E9", "#CC79A7", "#000000")
LINES = ("-", "--", "-.", ":", (0, (6, 1)), (0, (3, 1, 1, 1)), (0, (1, 1)))
MARKERS = ("o", "s", "^", "D", "v", "P", "X")


def style() -> None:
    """Set matplotlib's defaults: small, crisp figures; colour and line style together.

    While notebooks are graded margins and titles have fixed places: to look for the best ones takes
    longer than to draw.
    """
    graded = profile() == "grade"
    matplotlib.rcParams.update(
        {
            "figure.figsize": (5.0, 3.0),
            "figure.dpi": 90,
            "savefig.dpi": 180,
            "figure.constrained_layout.use": not graded,
            "figure.subplot.bottom": 0.18,
            "figure.subplot.left": 0.14,
            "figure.subplot.wspace": 0.35,
            "axes.titley": 1.0 if graded else None,
            "font.size": 9,
            "axes.titlesize": 10,
            "axes.spines.top": False,
            "axes.spines.right": False,
            "axes.grid": True,
            "axes.axisbelow": True,
            "grid.color": "#dddddd",
            "grid.linewidth": 0.6,
            "legend.frameon": False,
            "lines.linewidth": 1.6,
            "lines.markersize": 4,
            "image.cmap": "gray",
            "image.interpolation": "nearest",
            "axes.prop_cycle": cycler(color=COLOURS) + cycler(linestyle=LINES),
        }
    )


class Picture(Figure):
    """A figure that a notebook shows once, whether or not a cell ends in it.

    pyplot's figures are shown at the end of their cell; one that is also the cell's value would
    be shown twice.
    """

    def _ipython_display_(self) -> None:
        import matplotlib.pyplot as plt
        from IPython.core.getipython import get_ipython
        from IPython.display import publish_display_data

        shell = get_ipython()
        formatter = getattr(shell, "display_formatter", None)
        png = formatter.formatters["image/png"](self) if formatter is not None else None
        if png is None:  # not inline: let the window show it
            raise NotImplementedError
        image, metadata = png if isinstance(png, tuple) else (png, {})
        publish_display_data(
            {"image/png": image, "text/plain": repr(self)}, {"image/png": metadata}
        )
        plt.close(self)


def new_figure(width: float, height: float) -> Figure:
    """An empty figure of the given size in inches; pyplot knows it."""
    import matplotlib.pyplot as plt

    layout = "none" if profile() == "grade" else "constrained"  # as in `style`
    return plt.figure(FigureClass=Picture, figsize=(width, height), layout=layout)


def figure_of(ax: Axes) -> Figure:
    """The figure that the axes are in, also where they are in a subfigure."""
    figure = ax.get_figure(root=True)
    assert isinstance(figure, Figure)  # only None for axes that were removed
    return figure
