"""The course's pictures: curves, images, decision regions, histograms, computational graphs."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure
from torch import Tensor

from course.figures import COLOURS, LINES, MARKERS, Picture, figure_of, new_figure, style
from course.graphs import graph

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from course.training import History


__all__ = [
    "COLOURS",
    "LINES",
    "MARKERS",
    "Picture",
    "boundary",
    "curves",
    "graph",
    "histograms",
    "images",
    "new_figure",
    "style",
]

CELL = 0.75  # inches of an image in a grid


def _array(values: Any) -> np.ndarray:
    if isinstance(values, Tensor):
        values = values.detach().cpu().double().numpy()
    return np.asarray(values)


def curves(
    history: History | Mapping[str, Sequence[float]],
    *keys: str,
    xlabel: str = "epoch",
    ylabel: str | None = None,
    title: str = "",
    log: bool = False,
    figure: Figure | None = None,
) -> Figure:
    """Draw curves over the epochs (or steps), each kind of quantity in its own panel.

    The kind is the last word of a key: "loss" and "valid_loss" share a panel, "valid_accuracy" has
    another.

    Args:
        history: of `fit`, or sequences of numbers by name.
        keys: what to draw; all by default.
        xlabel: the quantity that is counted.
        ylabel: puts all curves into one panel with this label.
        title: of the figure.
        log: a logarithmic vertical axis.
        figure: an empty figure to draw in; a new one by default.

    Returns:
        The figure.

    Raises:
        ValueError: there is nothing to draw.
    """
    from matplotlib.ticker import MaxNLocator

    values: Mapping[str, Any] = history if isinstance(history, Mapping) else history.values
    best = None if isinstance(history, Mapping) else history.best_epoch
    panels: dict[str, dict[str, np.ndarray]] = {}
    for key in keys or values:
        kind = ylabel or key.split("_")[-1]
        panels.setdefault(kind, {})[key] = _array(values[key])
    if not panels:
        raise ValueError("nothing to draw: the history is empty")
    # A split looks the same in every panel and every figure.
    numbers = {} if ylabel else {"train": 0, "valid": 1, "test": 2}
    figure = figure or new_figure(3.5 * len(panels) if len(panels) > 1 else 5.0, 2.6)
    for ax, (kind, lines) in zip(_row(figure, len(panels)), panels.items(), strict=True):
        for key, line in lines.items():
            label = key if ylabel else _label(key, kind)
            _curve(ax, numbers.setdefault(label, len(numbers)), line, label)
        if best is not None and len(next(iter(lines.values()))) > 1:
            ax.axvline(best, color="0.5", linewidth=0.8, linestyle=(0, (4, 3)), label="best epoch")
        ax.set(xlabel=xlabel, ylabel=kind, yscale="log" if log else "linear")
        ax.xaxis.set_major_locator(MaxNLocator(integer=True))
        ax.legend()
    if title:
        figure.suptitle(title, fontsize="medium")
    return figure


def _row(figure: Figure, count: int) -> list[Axes]:
    return list(figure.subplots(1, count, squeeze=False)[0])


def _label(key: str, kind: str) -> str:
    return key.removesuffix(kind).rstrip("_").replace("_", " ") or "train"


def _curve(ax: Axes, number: int, line: np.ndarray, label: str) -> None:
    colour, dashes = COLOURS[number % len(COLOURS)], LINES[number % len(LINES)]
    marker = MARKERS[number % len(MARKERS)]
    ax.plot(
        np.arange(1, len(line) + 1),
        line,
        color=colour,
        linestyle=dashes,
        marker=marker,
        # About eight markers on a long curve: enough to tell the curves apart in grey.
        markevery=max(1, len(line) // 8),
        label=label,
    )


def images(
    x: Tensor | np.ndarray,
    titles: Sequence[object] | None = None,
    *,
    columns: int = 8,
    title: str = "",
) -> Figure:
    """Draw images in a grid.

    Args:
        x: (N, height, width), (N, height * width) of square images, or (N, channels, height, width)
            with 1 or 3 channels; grey values are stretched over all images together, colours are in
            [0, 1].
        titles: one for each image.
        columns: images in a row.
        title: of the figure.

    Returns:
        The figure.

    Raises:
        ValueError: another shape, no images, or not as many titles as images.
    """
    values = _as_images(_array(x))
    if not len(values):
        raise ValueError("there are no images to draw")
    if titles is not None and len(titles) != len(values):
        raise ValueError(f"{len(titles)} titles for {len(values)} images")
    columns = max(1, min(columns, len(values)))
    rows = math.ceil(len(values) / columns)
    # One pair of axes for all, in inches: a pair for each image takes eight times as long.
    names = [] if titles is None else [str(name) for name in titles]
    lines = max((name.count("\n") + 1 for name in names), default=0)
    height = CELL + (0.06 + 0.14 * lines if lines else 0)
    top = 0.25 if title else 0.0
    figure = new_figure(CELL * columns, height * rows + top)
    figure.set_layout_engine("none")
    ax = figure.add_axes((0, 0, 1, rows * height / (rows * height + top)), frameon=False)
    low, high = float(values.min()), float(values.max())
    for number, image in enumerate(values):
        row, column = divmod(number, columns)
        left, right, bottom, upper = _place(image, CELL * column, height * (row + 1))
        ax.imshow(
            image,
            cmap="gray",
            vmin=low,
            vmax=high,
            interpolation="nearest",
            extent=(left, right, bottom, upper),
        )
        if names:
            middle = (left + right) / 2
            ax.text(middle, upper - 0.03, names[number], fontsize=8, ha="center", va="bottom")
    ax.set(xlim=(0, CELL * columns), ylim=(height * rows, 0))
    ax.axis("off")
    if title:
        figure.suptitle(title, fontsize="medium")
    return figure


def _place(image: np.ndarray, left: float, bottom: float) -> tuple[float, float, float, float]:
    """Left, right, bottom and top of an image in the middle of its cell; the axis points down."""
    scale = 0.92 * CELL / max(image.shape[:2])
    height, width = scale * image.shape[0], scale * image.shape[1]
    across, up = (CELL - width) / 2, (CELL - height) / 2
    return left + across, left + across + width, bottom - up, bottom - up - height


def _as_images(x: np.ndarray) -> np.ndarray:
    """(N, height, width) or (N, height, width, 3)."""
    if x.ndim == 2 and math.isqrt(x.shape[1]) ** 2 == x.shape[1]:
        side = math.isqrt(x.shape[1])
        return x.reshape(-1, side, side)
    if x.ndim == 4 and x.shape[1] == 1:
        return x[:, 0]
    if x.ndim == 4 and x.shape[1] == 3:
        return x.transpose(0, 2, 3, 1)
    if x.ndim == 3:
        return x
    raise ValueError(
        f"cannot draw images of shape {x.shape}; give (N, height, width), "
        "(N, height * width) or (N, 1 or 3, height, width)"
    )


def boundary(
    predict: Callable[[Tensor], Any],
    x: Tensor,
    y: Tensor,
    *,
    ax: Axes | None = None,
    resolution: int = 120,
    title: str = "",
) -> Figure:
    """Draw points of the plane and the regions in which each class is predicted.

    Args:
        predict: gets points (M, 2) float32, returns scores (M, K), classes (M,) of an integer type,
            or one score (M,) or (M, 1), which is positive for class 1. It is called once, without
            gradient.
        x: the points (N, 2).
        y: their classes (N,), from 0.
        ax: where to draw; a new figure by default.
        resolution: predictions along each axis.
        title: of the axes.

    Returns:
        The figure.
    """
    points, classes = _array(x), _array(y).astype(int)
    low, high = points.min(0), points.max(0)
    margin = 0.1 * (high - low).clip(1e-6)
    across, up = (
        np.linspace(low[i] - margin[i], high[i] + margin[i], resolution) for i in range(2)
    )
    grid = np.stack(np.meshgrid(across, up), axis=-1).reshape(-1, 2)
    with torch.no_grad():
        output = predict(torch.from_numpy(grid).float().to(x.device))
    regions = _classes(output).reshape(resolution, resolution)
    count = max(int(classes.max()), int(regions.max())) + 1
    ax = ax or new_figure(4.2, 3.2).subplots()
    # Tints of different lightness: on grey paper too, neighbouring regions differ.
    tints = [_tint(COLOURS[k % len(COLOURS)], (0.80, 0.93, 0.87)[k % 3]) for k in range(count)]
    ax.contourf(across, up, regions, levels=np.arange(count + 1) - 0.5, colors=tints)
    for k in range(count - 1):
        ax.contour(across, up, regions > k, levels=[0.5], colors="black", linewidths=0.8)
    for k in range(count):
        own = points[classes == k]
        ax.scatter(
            own[:, 0],
            own[:, 1],
            s=14,
            marker=MARKERS[k % len(MARKERS)],
            color=COLOURS[k % len(COLOURS)],
            edgecolors="white",
            linewidths=0.4,
            label=f"class {k}",
        )
    ax.set(xlabel="$x_1$", ylabel="$x_2$", title=title)
    ax.grid(False)
    ax.legend(loc="upper left", bbox_to_anchor=(1, 1), handletextpad=0.1)
    return figure_of(ax)


def _classes(output: Any) -> np.ndarray:
    if not isinstance(output, Tensor):
        output = torch.as_tensor(np.asarray(output))
    if output.dim() == 2 and output.shape[1] > 1:
        return output.argmax(1).cpu().numpy()
    output = output.flatten()
    if output.is_floating_point():
        output = output > 0
    return output.long().cpu().numpy()


def _tint(colour: str, lightness: float) -> tuple[float, ...]:
    """The colour mixed with white until it has this grey value."""
    red, green, blue = to_rgb(colour)
    grey = 0.299 * red + 0.587 * green + 0.114 * blue
    share = (1 - lightness) / (1 - grey)
    return tuple(1 - share * (1 - part) for part in (red, green, blue))


def histograms(
    layers: Mapping[str, Tensor] | Sequence[Tensor],
    *,
    xlabel: str = "value",
    bins: int = 40,
    title: str = "",
) -> Figure:
    """Draw the distribution of each layer's values in a panel, all on the same axes.

    Args:
        layers: tensors of any shape, by name or in order.
        xlabel: what the values are.
        bins: of each histogram.
        title: of the figure.

    Returns:
        The figure; above each panel stand the layer's name and standard deviation.

    Raises:
        ValueError: there are no layers.
    """
    from matplotlib.ticker import MaxNLocator

    if not isinstance(layers, Mapping):
        layers = {f"layer {number}": values for number, values in enumerate(layers, start=1)}
    if not layers:
        raise ValueError("nothing to draw: there are no layers")
    arrays = {name: _array(values).ravel() for name, values in layers.items()}
    finite = {name: values[np.isfinite(values)] for name, values in arrays.items()}
    # The common range holds all but the tails; with a range of nothing one bin would be all there
    # is.
    every = np.concatenate(list(finite.values()))
    low, high = np.quantile(every, [0.001, 0.999]) if every.size else (0.0, 1.0)
    low, high = (low - 0.5, high + 0.5) if high - low < 1e-12 else (low, high)
    figure = new_figure(max(3.0, 1.35 * len(layers)), 1.9 + (0.25 if title else 0))
    figure.set_layout_engine("constrained")  # fixed margins would cut two lines of a title off
    axes = figure.subplots(1, len(layers), squeeze=False, sharex=True, sharey=True)[0]
    for ax, (name, values) in zip(axes, finite.items(), strict=True):
        weights = np.full(values.shape, 1 / max(1, arrays[name].size))
        ax.hist(values.clip(low, high), bins, range=(low, high), weights=weights, color=COLOURS[0])
        spread = f"std {values.std():.2g}" if values.size else "no finite value"
        ax.set_title(f"{name}\n{spread}", fontsize=8)
        ax.tick_params(labelsize=7)
        ax.xaxis.set_major_locator(MaxNLocator(3))
    axes[0].set_ylabel("share of values")
    figure.supxlabel(xlabel, fontsize="medium")
    if title:
        figure.suptitle(title, fontsize="medium")
    return figure
