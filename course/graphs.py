"""A picture of a computational graph, laid out in columns from the leaves to the result."""

from __future__ import annotations

from itertools import pairwise
from typing import TYPE_CHECKING, Any

from course.figures import COLOURS, figure_of, new_figure

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

# One column is 1.45 inches wide, one row 0.72 inches high; half a box in those units:
_COLUMN, _ROW = 1.45, 0.72
_HALF_WIDTH, _HALF_HEIGHT = 0.32, 0.37

# A place in the layout: a value's id and a column. A value whose result stands further right has a
# place in each column between, through which its arrow goes, so that it does not cross a box.
_Place = tuple[int, int]


def graph(root: Any, *, ax: Axes | None = None, max_nodes: int = 60) -> Figure:
    """Draw the computational graph that ends in `root`, from left to right.

    Each box shows the label and operation of a value, its data and its gradient; results are grey,
    leaves white. Each arrow goes from an operand to the result.

    Args:
        root: an object with `data` and `grad` (numbers) and `parents` (the operands, a tuple);
            `label` and `op` (strings) are shown where there are any.
        ax: where to draw; a new figure of fitting size by default.
        max_nodes: larger graphs are refused.

    Returns:
        The figure.

    Raises:
        ValueError: the graph has more than `max_nodes` values, or a cycle.
    """
    nodes = _topological(root, max_nodes)
    column = _columns(nodes)
    chains = _chains(nodes, column)
    at = _heights(chains, {(id(node), column[id(node)]) for node in nodes})
    width = max(column.values()) + 1
    low, high = min(at.values()), max(at.values())
    if ax is None:
        ax = new_figure(_COLUMN * width, _ROW * (high - low + 1) + 0.1).subplots()
    ax.set(xlim=(-0.5, width - 0.5), ylim=(low - 0.5, high + 0.5))
    ax.axis("off")
    for number, chain in enumerate(chains):
        twice = chain in chains[:number]
        _arrow(ax, [(place[1], at[place]) for place in chain], bend=0.3 if twice else 0.0)
    for node in nodes:
        _box(ax, node, column[id(node)], at[id(node), column[id(node)]])
    return figure_of(ax)


def _topological(root: Any, max_nodes: int) -> list[Any]:
    """All values, operands before results; iterative, since a student's graph may be deep."""
    order: list[Any] = []
    done: dict[int, bool] = {}
    stack = [(root, False)]
    while stack:
        node, leaving = stack.pop()
        if leaving:
            done[id(node)] = True
            order.append(node)
        elif id(node) not in done:
            if len(done) == max_nodes:
                raise ValueError(f"the graph has more than {max_nodes} values; draw a smaller one")
            done[id(node)] = False
            stack.append((node, True))
            stack.extend((parent, False) for parent in reversed(tuple(node.parents)))
        elif not done[id(node)]:
            raise ValueError("the graph has a cycle: a value is its own operand")
    return order


def _columns(nodes: list[Any]) -> dict[int, int]:
    """A value stands one column right of its rightmost operand, a leaf just left of its user."""
    column: dict[int, int] = {}
    for node in nodes:
        column[id(node)] = max((column[id(p)] + 1 for p in node.parents), default=0)
    for leaf in nodes:
        users = [column[id(n)] for n in nodes if any(p is leaf for p in n.parents)]
        if not leaf.parents and users:
            column[id(leaf)] = min(users) - 1
    return column


def _chains(nodes: list[Any], column: dict[int, int]) -> list[list[_Place]]:
    """For each arrow the places that it goes through."""
    chains = []
    for node in nodes:
        end = column[id(node)]
        for parent in node.parents:
            way = [(id(parent), number) for number in range(column[id(parent)], end)]
            chains.append([*way, (id(node), end)])
    return chains


def _heights(chains: list[list[_Place]], boxes: set[_Place]) -> dict[_Place, float]:
    """Heights of all places: in each column in the order of the mean height of their neighbours."""
    neighbours: dict[_Place, set[_Place]] = {box: set() for box in boxes}
    order = list(dict.fromkeys(place for chain in chains for place in chain)) or list(boxes)
    for chain in chains:
        for left, right in pairwise(chain):
            neighbours.setdefault(left, set()).add(right)
            neighbours.setdefault(right, set()).add(left)
    columns = [[place for place in order if place[1] == c] for c in sorted({p[1] for p in order})]
    at: dict[_Place, float] = {}
    for sweep in range(9):
        for places in columns if sweep % 2 == 0 else columns[::-1]:
            if sweep > 0:
                places.sort(key=lambda place: -_mean([at[other] for other in neighbours[place]]))
            for row, place in enumerate(places):
                at[place] = (len(places) - 1) / 2 - row
    return at


def _mean(values: list[float]) -> float:
    return sum(values) / len(values) if values else 0.0


def _box(ax: Axes, node: Any, x: float, y: float) -> None:
    from matplotlib.patches import FancyBboxPatch

    box = FancyBboxPatch(
        (x - _HALF_WIDTH, y - _HALF_HEIGHT),
        2 * _HALF_WIDTH,
        2 * _HALF_HEIGHT,
        boxstyle="round,pad=0,rounding_size=0.05",
        mutation_aspect=_COLUMN / _ROW,
        facecolor="#ececec" if node.parents else "white",
        edgecolor=COLOURS[0],
        linewidth=1.0,
        zorder=3,
    )
    ax.add_patch(box)
    label, op = (str(getattr(node, name, None) or "")[:12] for name in ("label", "op"))
    head = f"{label} ({op})" if label and op else label or op
    lines = [head] if head else []
    lines += [f"data {_number(node.data)}", f"grad {_number(node.grad)}"]
    ax.text(x, y, "\n".join(lines), ha="center", va="center", fontsize=7.5, zorder=4)


def _number(value: Any) -> str:
    try:
        return f"{float(value):.3g}"
    except (TypeError, ValueError):
        return "?"


def _arrow(ax: Axes, points: list[tuple[float, float]], bend: float) -> None:
    (x, y), (end_x, end_y) = points[0], points[-1]
    x, end_x = x + _HALF_WIDTH, end_x - _HALF_WIDTH
    way = [(x, y)]
    for column, height in points[1:-1]:  # level past each box of the column between
        way += [(column - _HALF_WIDTH, height), (column + _HALF_WIDTH, height)]
    ax.plot(*zip(*way, strict=True), color="0.25", linewidth=0.9, linestyle="-", zorder=2)
    style = {"arrowstyle": "-|>", "color": "0.25", "linewidth": 0.9, "shrinkA": 0, "shrinkB": 0}
    style["connectionstyle"] = f"arc3,rad={bend}"
    ax.annotate("", xy=(end_x, end_y), xytext=way[-1], arrowprops=style, zorder=2)
