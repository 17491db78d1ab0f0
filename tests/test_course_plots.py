"""`course.plots`: each picture says what it has to."""

from __future__ import annotations

from itertools import pairwise

import matplotlib
import matplotlib.pyplot as plt
import numpy as np
import pytest
import torch
from matplotlib.colors import to_rgb
from matplotlib.patches import Rectangle

from course import plots
from course.training import History


@pytest.fixture(autouse=True)
def styled():
    backend = matplotlib.get_backend()
    plt.switch_backend("Agg")
    with matplotlib.rc_context():
        plots.style()
        yield
    plt.close("all")
    plt.switch_backend(backend)


def drawn(figure) -> None:
    figure.canvas.draw()


def texts(ax) -> list[str]:
    return [text.get_text() for text in ax.texts if text.get_text()]


def legend(ax) -> list[str]:
    return [text.get_text() for text in ax.get_legend().get_texts()]


def test_neighbouring_colours_differ_in_grey():
    grey = [np.dot(to_rgb(colour), (0.299, 0.587, 0.114)) for colour in plots.COLOURS[:4]]
    assert all(abs(a - b) > 0.05 for a, b in pairwise(grey))
    assert len(set(plots.LINES)) == len(set(plots.MARKERS)) == len(plots.COLOURS)


def test_curves_of_a_history():
    history = History(best_epoch=2)
    for epoch in range(3):
        history.append(loss=epoch, valid_loss=epoch + 1, valid_accuracy=0.5)
    figure = history.plot(title="digits")
    left, right = figure.axes
    assert (left.get_xlabel(), left.get_ylabel(), right.get_ylabel()) == (
        "epoch",
        "loss",
        "accuracy",
    )
    assert legend(left) == ["train", "valid", "best epoch"]
    assert legend(right) == ["valid", "best epoch"]
    assert np.asarray(left.lines[1].get_xydata()).tolist() == [[1, 1], [2, 2], [3, 3]]
    assert left.lines[0].get_linestyle() != left.lines[1].get_linestyle()
    assert left.lines[1].get_color() == right.lines[0].get_color() == plots.COLOURS[1]
    drawn(figure)
    (only,) = history.plot("valid_accuracy").axes
    assert only.get_ylabel() == "accuracy"


def test_curves_of_several_runs():
    figure = plots.curves({"SGD": [3, 2], "Adam": [2, 1]}, ylabel="loss", log=True, xlabel="step")
    (ax,) = figure.axes
    assert legend(ax) == ["SGD", "Adam"]
    assert (ax.get_yscale(), ax.get_xlabel()) == ("log", "step")
    drawn(figure)


def test_curves_of_nothing():
    with pytest.raises(ValueError, match="history is empty"):
        plots.curves(History())


@pytest.mark.parametrize("shape", [(5, 64), (5, 8, 6), (5, 1, 8, 6), (5, 3, 8, 6), (1, 4)])
def test_images(shape):
    count = shape[0]
    figure = plots.images(torch.rand(shape), titles=range(count), columns=4, title="some")
    (ax,) = figure.axes
    assert [text.get_text() for text in ax.texts] == [str(n) for n in range(count)]
    assert len(ax.images) == count
    assert not ax.axison
    drawn(figure)


def test_images_stand_side_by_side_in_their_shape_with_their_titles_above():
    figure = plots.images(torch.rand(5, 8, 4), titles=["a", "b\nc", "d", "e", "f"], columns=3)
    drawn(figure)
    (ax,) = figure.axes
    boxes = [image.get_window_extent() for image in ax.images]
    words = [text.get_window_extent() for text in ax.texts]
    inside = figure.bbox
    for box, word in zip(boxes, words, strict=True):
        assert box.height == pytest.approx(2 * box.width)
        assert word.y0 >= box.y1
        assert inside.x0 <= box.x0 and box.x1 <= inside.x1
        assert inside.y0 <= box.y0 and word.y1 <= inside.y1 + 1
        assert (word.x0 + word.x1) / 2 == pytest.approx((box.x0 + box.x1) / 2, abs=1)
    assert boxes[0].x1 < boxes[1].x0 and boxes[1].x1 < boxes[2].x0
    assert boxes[3].x0 == pytest.approx(boxes[0].x0)
    assert max(word.y1 for word in words[3:]) < boxes[0].y0


def test_images_keep_one_scale_and_are_not_transposed():
    x = torch.arange(12.0).view(2, 2, 3)
    first, second = plots.images(x).axes[0].images
    assert first.get_clim() == second.get_clim() == (0, 11)
    assert np.array_equal(np.asarray(second.get_array()), x[1])


def test_images_refuse():
    with pytest.raises(ValueError, match="cannot draw images of shape"):
        plots.images(torch.rand(3, 7))
    with pytest.raises(ValueError, match="1 titles for 2 images"):
        plots.images(torch.rand(2, 4), titles=["a"])
    with pytest.raises(ValueError, match="no images"):
        plots.images(torch.rand(0, 4))


@pytest.mark.parametrize(
    "predict",
    [
        lambda q: torch.stack([-q[:, 0], q[:, 0]], dim=1),
        lambda q: q[:, 0],
        lambda q: q[:, :1],
        lambda q: (q[:, 0] > 0).long(),
        lambda q: (q[:, 0] > 0).numpy(),
        lambda q: torch.nn.Linear(2, 2).requires_grad_()(q) * 0 + q * torch.tensor([0.0, 1.0]),
    ],
)
def test_boundary(predict):
    x = torch.tensor([[-1.0, -2.0], [1.0, 2.0], [0.5, 1.0]])
    calls = []

    def counted(points):
        calls.append(points)
        return predict(points)

    (ax,) = plots.boundary(counted, x, torch.tensor([0, 1, 1]), resolution=20).axes
    (grid,) = calls
    assert (grid.shape, grid.dtype) == ((400, 2), torch.float32)
    assert grid.min(0).values.allclose(torch.tensor([-1.2, -2.4]))
    assert legend(ax) == ["class 0", "class 1"]
    assert (ax.get_xlabel(), ax.get_ylabel()) == ("$x_1$", "$x_2$")
    drawn(ax.figure)


def test_boundary_regions_lie_where_predicted():
    x = torch.tensor([[-1.0, 0.0], [1.0, 4.0]])
    (ax,) = plots.boundary(lambda q: q[:, 1] - 1.0, x, torch.tensor([0, 1]), resolution=101).axes
    line = np.concatenate([path.vertices for path in ax.collections[1].get_paths()])
    assert np.allclose(line[:, 1], 1.0, atol=0.05)


def test_histograms():
    layers = {
        "first": torch.randn(1000),
        "second": torch.tensor([torch.nan, 1.0]),
        "none": torch.empty(0),
    }
    figure = plots.histograms(layers, xlabel="activation")
    titles = [ax.get_title() for ax in figure.axes]
    assert titles[0] == f"first\nstd {layers['first'].std(correction=0):.2g}"
    assert titles[1:] == ["second\nstd 0", "none\nno finite value"]
    heights = [
        sum(bar.get_height() for bar in ax.patches if isinstance(bar, Rectangle))
        for ax in figure.axes
    ]
    assert heights == pytest.approx([1.0, 0.5, 0.0])
    drawn(figure)
    drawn(plots.histograms([torch.zeros(3)]))
    with pytest.raises(ValueError, match="there are no layers"):
        plots.histograms([])


class Value:
    def __init__(self, data, parents=(), op="", label=""):
        self.data, self.grad, self.parents, self.op, self.label = data, 0.0, parents, op, label


def test_graph():
    x, y, z = Value(-2.0, label="x"), Value(5.0, label="y"), Value(-4.0, label="z")
    q = Value(3.0, (x, y), "+", "q")
    f = Value(-12.0, (q, z), "*")
    f.grad = 1.0
    (ax,) = plots.graph(f).axes
    assert sorted(texts(ax)) == sorted(
        [
            "x\ndata -2\ngrad 0",
            "y\ndata 5\ngrad 0",
            "z\ndata -4\ngrad 0",
            "q (+)\ndata 3\ngrad 0",
            "*\ndata -12\ngrad 1",
        ]
    )
    column = {text.get_text()[0]: text.get_position()[0] for text in ax.texts if text.get_text()}
    assert column == {"x": 0, "y": 0, "q": 1, "z": 1, "*": 2}
    arrows = [text for text in ax.texts if not text.get_text()]
    assert len(arrows) == 4
    drawn(ax.figure)


def test_graph_boxes_never_overlap_and_long_arrows_pass_beside_them():
    values = [Value(float(i), label=f"v{i}") for i in range(3)]
    for i in range(8):
        values.append(Value(0.0, (values[-1], values[i % 3], values[-1]), "*", f"r{i}"))
    (ax,) = plots.graph(values[-1]).axes
    boxes = [text.get_position() for text in ax.texts if text.get_text()]
    assert len(boxes) == 11
    assert len(set(boxes)) == 11
    for line in ax.lines:
        inner = np.asarray(line.get_xydata())[1:]
        for x, y in inner:
            assert all(abs(y - by) >= 1 - 1e-9 for bx, by in boxes if abs(x - bx) < 0.33)
    drawn(ax.figure)


def test_graph_of_a_single_value_and_odd_contents():
    (ax,) = plots.graph(Value(None)).axes
    assert texts(ax) == ["data ?\ngrad 0"]
    drawn(ax.figure)


def test_graph_refuses():
    node = Value(1.0)
    for _ in range(5000):
        node = Value(1.0, (node,), "+")
    with pytest.raises(ValueError, match="more than 60 values"):
        plots.graph(node)
    loop = Value(1.0)
    loop.parents = (Value(1.0, (loop,)),)
    with pytest.raises(ValueError, match="cycle"):
        plots.graph(loop)
