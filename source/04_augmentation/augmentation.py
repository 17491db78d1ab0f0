# %% [markdown]
# # Augmentation: images, boxes, masks and labels that move together
#
# **Unit 04, notebook 1 of 2, thirteen exercises.** Allow four hours; the experiments run on
# the CPU, in less than a minute on two cores.
#
# *Afterwards you can* write every augmentation in common use, move boxes and masks with the
# image, say when an augmentation harms, and measure it where it does not flatter.
#
# *You need* indexing and broadcasting in torch, the product of a matrix and a vector, and a
# training loop (unit 01). Convolutions are used, not written.
#
# *How it works.* An exercise is one cell to fill in, followed by a cell of visible tests with
# numbers small enough for paper. The hidden checks ask for what the text and the docstrings
# state, nothing else. The cells between exercises are given. torchvision, which has most of this
# ready, comes at the end as a referee; it may not be used in an answer.

# %% setup=true
import course

course.setup("04_augmentation")

# %%
import math
from collections.abc import Callable, Sequence
from functools import cache
from typing import Any

import matplotlib.pyplot as plt
import torch
import torch.nn.functional as F
from matplotlib.colors import to_rgb
from matplotlib.patches import Rectangle
from torch import Tensor, nn

from course import expect, plots
from course.data import digits

FULL = course.profile() != "grade"  # the grader runs the same cells with less data

# %% [markdown]
# ## One number, three networks, two reports
#
# 200 digits of 8 × 8 pixels are few to learn ten classes from. The usual remedy costs a line:
# each time an image is used, turn it by a random angle. By *how much* is one number, and here are
# three values of it; everything else is the same.
#
# Two people measure the three networks on the same 300 validation images. The second one sends
# them through the line that turned the training images of the third network.


# %%
def few_digits(device: torch.device) -> tuple[Tensor, Tensor]:
    """200 random training digits (200, 1, 8, 8) and their classes."""
    data = digits(device)
    rows = torch.randperm(len(data.train_y), generator=torch.Generator().manual_seed(0))[:200]
    return data.train_x[rows.to(device)].reshape(-1, 1, 8, 8), data.train_y[rows.to(device)]


def turned(images: Tensor, degrees: float, generator: torch.Generator) -> Tensor:
    """Each image by its own angle in [-degrees, degrees]; the library does the work here."""
    angle = math.radians(degrees) * (2 * torch.rand(len(images), generator=generator) - 1)
    zero = torch.zeros_like(angle)
    rows = [angle.cos(), -angle.sin(), zero, angle.sin(), angle.cos(), zero]
    theta = torch.stack(rows, dim=1).reshape(-1, 2, 3).to(images.device)
    grid = F.affine_grid(theta, list(images.shape), align_corners=False)
    return F.grid_sample(images, grid, align_corners=False)


def small_cnn(seed: int) -> nn.Module:
    """Three convolutions and a linear layer, for images of 8 x 8."""
    torch.manual_seed(seed)
    layers = [nn.Conv2d(1, 16, 3, padding=1), nn.ReLU(), nn.Conv2d(16, 32, 3, padding=1), nn.ReLU()]
    layers += [nn.MaxPool2d(2), nn.Conv2d(32, 32, 3, padding=1), nn.ReLU(), nn.Flatten()]
    return nn.Sequential(*layers, nn.Linear(32 * 4 * 4, 10)).to(course.device())


# %%
Batch = Callable[[Tensor, Tensor, torch.Generator], tuple[Tensor, Tensor]]


def train_cnn(prepare: Batch, epochs: int, seed: int = 0) -> nn.Module:
    """Train on the 200 digits; `prepare` makes of images and targets (B, 10) what is learned."""
    x, y = few_digits(course.device())
    model, generator = small_cnn(seed), torch.Generator().manual_seed(seed)
    optimizer = torch.optim.Adam(model.parameters(), lr=0.002)
    for _ in range(epochs):
        for rows in torch.randperm(len(x), generator=generator).split(50):
            chosen = rows.to(x.device)
            images, targets = prepare(x[chosen], F.one_hot(y[chosen], 10).float(), generator)
            loss = F.cross_entropy(model(images), targets)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
    return model.eval()


@torch.no_grad()
def right(model: Callable[[Tensor], Tensor], images: Tensor, labels: Tensor) -> Tensor:
    """(B,) 1.0 where the model's largest output is the label."""
    return (model(images).argmax(dim=1) == labels).float()


# %%
data = digits(course.device())
valid_x, valid_y = data.valid_x.reshape(-1, 1, 8, 8), data.valid_y
EPOCHS = 60 if FULL else 1


def two_reports(epochs: int) -> None:
    """Accuracies of three networks, measured twice."""
    turned_valid = turned(valid_x, 180.0, torch.Generator().manual_seed(1))
    print("trained with turns up to     first report    second report")
    for degrees in [0.0, 15.0, 180.0]:
        model = train_cnn(lambda x, t, g, d=degrees: (turned(x, d, g), t), epochs)
        first = right(model, valid_x, valid_y).mean().item()
        second = right(model, turned_valid, valid_y).mean().item()
        print(f"{degrees:22.0f}° {first:17.1%} {second:16.1%}")


two_reports(EPOCHS)

# %% [markdown]
# The reports disagree about which network is best, and not by a little. Who is right, and what
# has the third network lost? This notebook builds the tools to answer: parts 1 and 2 move images
# with everything that is known about them, part 3 changes their colours, part 4 mixes them, part
# 5 puts augmentation where it belongs, part 6 leaves images. Part 7 asks torchvision, part 8
# trains.
#
# **Notation and convention.** Batch $B$, channels $C$, height $H$, width $W$, classes $K$; $n$
# objects in an image. Coordinates are *continuous*: $x$ runs to the right from 0 to $W$, $y$ runs
# **down** from 0 to $H$. The pixel in row $i$ and column $j$ covers $[j, j+1) \times [i, i+1)$, so
# its centre is $(j + 0.5,\ i + 0.5)$. A box is $(x_1, y_1, x_2, y_2)$ with $x_1 \le x_2$,
# $y_1 \le y_2$; a box around the one pixel $(0, 0)$ is $(0, 0, 1, 1)$ and its area is 1.
# Tensors that a function is given are never modified, also where its docstring does not repeat it.

# %% [markdown]
# ## 1. What an image carries with it
#
# A photograph with three objects. Each has a label, a box and a mask (the set of its pixels).


# %%
@cache
def photo() -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Image (3, 150, 128) in [0, 1], boxes (3, 4), masks (3, 150, 128), labels (3,)."""
    from matplotlib.cbook import get_sample_data

    pixels = torch.tensor(plt.imread(str(get_sample_data("grace_hopper.jpg", asfileobj=False))))
    image = pixels[::4, ::4].movedim(-1, 0) / 255
    y = torch.arange(image.shape[1])[:, None] + 0.5
    x = torch.arange(image.shape[2]) + 0.5
    face = ((x - 66) / 25) ** 2 + ((y - 61) / 25) ** 2 < 1
    cap = (((x - 65) / 28) ** 2 + ((y - 25) / 20) ** 2 < 1) & ~face
    ribbons = (x > 81) & (x < 114) & (y > 121 + (x < 100) * 2) & (y < 132)
    masks = torch.stack([cap, face, ribbons])
    boxes = torch.tensor([[37, 5, 93, 44], [41, 36, 91, 86], [81, 121, 114, 132]]).float()
    where = course.device()
    return image.to(where), boxes.to(where), masks.to(where), torch.arange(3, device=where)


NAMES = ["cap", "face", "ribbons"]


def show(ax, image, boxes, masks, labels, title: str = "") -> None:
    """Draw an image, its masks as tints, its boxes as frames."""
    picture = image.detach().cpu().movedim(0, -1).clamp(0, 1).clone()
    for mask, label in zip(masks.cpu(), labels.tolist(), strict=True):
        tint = torch.tensor(to_rgb(plots.COLOURS[(1, 4, 5)[label]]))
        picture[mask.bool()] = 0.72 * picture[mask.bool()] + 0.28 * tint.float()
    ax.imshow(picture, extent=(0, picture.shape[1], picture.shape[0], 0))
    for (x1, y1, x2, y2), label in zip(boxes.tolist(), labels.tolist(), strict=True):
        colour = plots.COLOURS[(1, 4, 5)[label]]
        ax.add_patch(Rectangle((x1, y1), x2 - x1, y2 - y1, fill=False, ec="white", lw=2.6))
        ax.add_patch(Rectangle((x1, y1), x2 - x1, y2 - y1, fill=False, ec=colour, lw=1.4))
        ax.text(x1 + 2, y1 + 1, NAMES[label], color="white", fontsize=6, va="top")
    ax.set_title(title, fontsize=8)
    ax.axis("off")


# %%
def wrong_flip() -> None:
    """The image is flipped, its annotation forgotten."""
    image, boxes, masks, labels = photo()
    _, axes = plt.subplots(1, 2, figsize=(4.6, 2.9))
    show(axes[0], image, boxes, masks, labels, "as annotated")
    show(axes[1], image.flip(-1), boxes, masks, labels, "image flipped, annotation not")
    plt.show()


wrong_flip()

# %% [markdown]
# On the right nothing complains. The shapes fit and a detector would train; what it is told are
# ribbons is a name plate now, and on the face, which stands near the middle, one hardly sees that
# anything is wrong. Every function below therefore takes the image with its annotation and returns
# both.

# %% [markdown] heading="hflip"
# ### Exercise {number} · Left becomes right ({points} points, about 5 min)
#
# Flip an image, its boxes and its masks from left to right. Column $j$ goes to column $W - 1 - j$,
# but the *coordinate* $x$ goes to $W - x$ (the left border 0 goes to the right border $W$). What
# was a box's left side is its right side afterwards, and boxes have to keep $x_1 \le x_2$. The
# order of the objects stays. Floating-point boxes keep their dtype.


# %% exercise="hflip"
def hflip(image: Tensor, boxes: Tensor, masks: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Flip from left to right.

    Args:
        image: (..., H, W), any dtype; not modified.
        boxes: (n, 4) floating point x1, y1, x2, y2; n may be 0; not modified.
        masks: (n, H, W) bool; not modified.

    Returns:
        The flipped image, boxes and masks; shapes and dtypes as given.
    """
    ### BEGIN SOLUTION
    x1, y1, x2, y2 = boxes.unbind(dim=1)
    width = image.shape[-1]
    flipped = torch.stack([width - x2, y1, width - x1, y2], dim=1)
    return image.flip(-1), flipped, masks.flip(-1)
    ### END SOLUTION


# %% test="hflip"
one = torch.tensor([[[1.0, 2.0, 3.0, 4.0, 5.0], [0.0, 0.0, 0.0, 0.0, 9.0]]])
flipped, moved, mask = hflip(one, torch.tensor([[0.0, 1.0, 2.0, 2.0]]), one < 2)
expect(flipped, [[[5.0, 4, 3, 2, 1], [9, 0, 0, 0, 0]]], "hflip: image")
expect(moved, [[3.0, 1, 5, 2]], "hflip: box")  # columns 0 and 1 of 5 become columns 3 and 4
expect(mask.int(), [[[0, 0, 0, 0, 1], [0, 1, 1, 1, 1]]], "hflip: mask")

# %% [markdown] heading="crop"
# ### Exercise {number} · A window of the image ({points} points, about 20 min)
#
# A random crop shows an object at another place each time, or only a part of it. It needs two
# functions.
#
# **`random_window`** draws the place: `top` uniformly from $0, 1, \dots, H - h$ and `left`
# uniformly from $0, \dots, W - w$, independently. Both ends are included: a window as large as
# the image has one place.
#
# **`crop`** cuts the window (top, left, $h$, $w$) out. Boxes are moved into the window's
# coordinates and clipped to it. What if only an ear of an object is left? Let $A$ be the area of
# its box before and $A'$ after clipping. The object stays if
#
# $$A' > 0 \quad\text{and}\quad A' \ge \texttt{min\_visible} \cdot A ,$$
#
# otherwise it goes, with its mask **and its label**. The order of those that stay is kept; it may
# be that none does (then the shapes are (0, 4), (0, h, w) and (0,)). The image is cut, not
# resized.


# %% exercise="crop"
def random_window(
    height: int, width: int, out_height: int, out_width: int, generator: torch.Generator
) -> tuple[int, int]:
    """Upper left corner of a random window inside an image.

    Args:
        height: H of the image.
        width: W of the image.
        out_height: h of the window, at most H.
        out_width: w of the window, at most W.
        generator: on the CPU; the only source of randomness.

    Returns:
        top and left as ints: all places are equally likely.
    """
    ### BEGIN SOLUTION
    top = torch.randint(0, height - out_height + 1, (), generator=generator)
    left = torch.randint(0, width - out_width + 1, (), generator=generator)
    return int(top), int(left)
    ### END SOLUTION


def crop(
    image: Tensor,
    boxes: Tensor,
    masks: Tensor,
    labels: Tensor,
    window: tuple[int, int, int, int],
    min_visible: float = 0.25,
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Cut a window out; drop objects of which too little is left.

    Args:
        image: (..., H, W); not modified.
        boxes: (n, 4) floating point x1, y1, x2, y2, each with an area above 0; they may stick out
            of the image; not modified.
        masks: (n, H, W) bool; not modified.
        labels: (n,); not modified.
        window: top, left, height h, width w, inside the image.
        min_visible: smallest share of a box's area that has to be left, from 0 to 1.

    Returns:
        Image (..., h, w), boxes (m, 4) in the window's coordinates, masks (m, h, w), labels (m,).
    """
    ### BEGIN SOLUTION
    top, left, height, width = window
    clipped = boxes - boxes.new_tensor([left, top, left, top])
    clipped = clipped.clamp(min=0).minimum(boxes.new_tensor([width, height, width, height]))
    area, visible = ((b[:, 2:] - b[:, :2]).prod(dim=1) for b in (boxes, clipped))
    keep = (visible > 0) & (visible >= min_visible * area)
    rows, columns = slice(top, top + height), slice(left, left + width)
    return image[..., rows, columns], clipped[keep], masks[keep][:, rows, columns], labels[keep]
    ### END SOLUTION


# %% test="crop"
# A window of 2 rows and 3 columns at row 1, column 2. Three boxes: half of the first is left,
# a quarter of the second, nothing of the third.
grid = torch.arange(20.0).reshape(1, 4, 5)
three = torch.tensor([[0.0, 1, 4, 3], [3.0, 2, 5, 6], [0.0, 0, 2, 1]])
marks = torch.ones(3, 4, 5, dtype=torch.bool)
window = (1, 2, 2, 3)
cut, kept, marks_left, names = crop(grid, three, marks, torch.tensor([7, 8, 9]), window, 0.25)
expect(cut, [[[7.0, 8, 9], [12, 13, 14]]], "crop: image")
expect(kept, [[0.0, 0, 2, 2], [1, 1, 3, 2]], "crop: boxes, a quarter is enough")
expect(names, [7, 8], "crop: labels")
expect(tuple(marks_left.shape), (2, 2, 3), "crop: shape of the masks")
names = crop(grid, three, marks, torch.tensor([7, 8, 9]), window, 0.5)[3]
expect(names, [7], "crop: half is asked for")
names = crop(grid, three, marks, torch.tensor([7, 8, 9]), window, 0.0)[3]
expect(names, [7, 8], "crop: nothing left is too little")
generator = torch.Generator().manual_seed(0)
places = {random_window(4, 5, 3, 5, generator) for _ in range(50)}
expect(sorted(places), [(0, 0), (1, 0)], "random_window: all places of 3 x 5 in 4 x 5")


# %%
def show_crops() -> None:
    """Three random windows of the photo."""
    image, boxes, masks, labels = photo()
    generator = torch.Generator().manual_seed(5)
    _, axes = plt.subplots(1, 4, figsize=(7.6, 2.9))
    show(axes[0], *hflip(image, boxes, masks), labels, "flipped")
    for ax in axes[1:]:
        top, left = random_window(150, 128, 100, 90, generator)
        cut = crop(image, boxes, masks, labels, (top, left, 100, 90), min_visible=0.3)
        show(ax, *cut, f"100 × 90 at row {top}, column {left}")
    plt.show()


show_crops()

# %% [markdown]
# The threshold is a choice. With 0 the detector is asked to find a face by its chin; with 1 every
# object that touches the border becomes background, which teaches the detector not to look there.

# %% [markdown]
# ## 2. Turn, scale, move
#
# All three are one kind of map, *affine*: a point $\mathbf p = (x, y)$ of the image goes to
# $\mathbf A\mathbf p + \mathbf b$. With a third coordinate that is always 1, a map is a matrix
# $3 \times 3$ and maps are chained by the matrix product.

# %% [markdown] heading="affine_matrix"
# ### Exercise {number} · The matrix ({points} points, about 15 min)
#
# Scale by $s$ and rotate by $\theta$ about the **centre of the image**
# $\mathbf c = (W/2, H/2)$, then move by $\mathbf t = (t_x, t_y)$ pixels:
#
# $$\mathbf p' = \mathbf c + s\,\mathbf R\,(\mathbf p - \mathbf c) + \mathbf t, \qquad
# \mathbf R = \begin{pmatrix} \cos\theta & -\sin\theta \\ \sin\theta & \cos\theta \end{pmatrix}.$$
#
# In a coordinate system whose $y$ points up, this $\mathbf R$ turns counter-clockwise. Ours
# points down, so on the screen a positive angle turns **clockwise**: try $\theta = 90°$ on the
# vector $(1, 0)$, which points right. (torchvision's `affine` has the same sign, its `rotate` the
# opposite one.) Multiply the formula out into $\mathbf A\mathbf p + \mathbf b$ and write
#
# $$\mathbf M = \begin{pmatrix} a_{11} & a_{12} & b_1 \\ a_{21} & a_{22} & b_2 \\ 0 & 0 & 1
# \end{pmatrix}, \qquad \mathbf M \begin{pmatrix} x \\ y \\ 1 \end{pmatrix}
# = \begin{pmatrix} x' \\ y' \\ 1 \end{pmatrix}.$$


# %% exercise="affine_matrix"
def affine_matrix(
    height: int,
    width: int,
    degrees: float = 0.0,
    scale: float = 1.0,
    translate: tuple[float, float] = (0.0, 0.0),
) -> Tensor:
    """Matrix that scales and rotates about the image's centre, then translates.

    Args:
        height: H of the image.
        width: W of the image.
        degrees: angle; positive turns clockwise on the screen.
        scale: above 1 enlarges.
        translate: t_x to the right and t_y down, in pixels.

    Returns:
        (3, 3) float32 on the CPU; maps (x, y, 1) of the old image to (x', y', 1) of the new one.
    """
    ### BEGIN SOLUTION
    angle = math.radians(degrees)
    cos, sin = scale * math.cos(angle), scale * math.sin(angle)
    cx, cy = width / 2, height / 2
    x = cx - cos * cx + sin * cy + translate[0]
    y = cy - sin * cx - cos * cy + translate[1]
    return torch.tensor([[cos, -sin, x], [sin, cos, y], [0.0, 0.0, 1.0]])
    ### END SOLUTION


# %% test="affine_matrix"
corner = torch.tensor([0.0, 0.0, 1.0])  # of an image 4 high and 6 wide: its centre is (3, 2)
expect(affine_matrix(4, 6), torch.eye(3), "affine_matrix: nothing to do")
quarter = affine_matrix(4, 6, degrees=90) @ corner
expect(quarter, [5.0, -1.0, 1.0], "affine_matrix: a quarter turn", atol=1e-5)
expect(affine_matrix(4, 6, scale=0.5) @ corner, [1.5, 1.0, 1.0], "affine_matrix: half the size")
both = affine_matrix(4, 6, scale=0.5, translate=(1.0, -2.0)) @ corner
expect(both, [2.5, -1.0, 1.0], "affine_matrix: translation is not scaled")

# %% [markdown]
# ### Where does a pixel come from?
#
# Send every pixel of the old image where $\mathbf M$ says. The next cell does exactly this, for
# a turn by 30° and a scale of 1.5.


# %%
def forward_mapping() -> None:
    """Each old pixel is painted at its new place, rounded; what nobody hits stays black."""
    image, _, _, _ = photo()
    height, width = image.shape[1:]
    i, j = torch.meshgrid(torch.arange(height), torch.arange(width), indexing="ij")
    centres = torch.stack([j + 0.5, i + 0.5, torch.ones(height, width)], dim=-1)
    x, y, _ = (centres @ affine_matrix(height, width, 30, 1.5).T).floor().long().unbind(dim=-1)
    inside = (x >= 0) & (x < width) & (y >= 0) & (y < height)
    result = torch.zeros_like(image)
    result[:, y[inside], x[inside]] = image[:, i[inside], j[inside]]
    _, ax = plt.subplots(figsize=(2.6, 3.0))
    ax.imshow(result.cpu().movedim(0, -1))
    ax.axis("off")
    ax.set_title("old pixels, sent to new places", fontsize=8)
    plt.show()


forward_mapping()

# %% [markdown]
# It has holes: enlarged, the old pixels are too few to cover the new ones, and where the image
# shrinks several land on one. So everybody asks the other way round. For each pixel of the
# **new** image, take its centre $\mathbf q$, find the point $\mathbf p = \mathbf M^{-1}\mathbf q$
# of the old image that it came from, and read the old image there. Each new pixel gets exactly
# one answer. This is *inverse mapping*.

# %% [markdown] heading="inverse"
# ### Exercise {number} · Inverse mapping ({points} points, about 25 min)
#
# Three functions; together they warp a batch, each image by a matrix of its own.
#
# **`source_points`**: for each matrix $\mathbf M_b$ (old to new) and each pixel $(i, j)$ of a new
# image of height $h$ and width $w$, the point $\mathbf p = \mathbf M_b^{-1}\mathbf q$ with
# $\mathbf q = (j + 0.5,\ i + 0.5,\ 1)$. The last row of each matrix is $(0, 0, 1)$, and it is
# invertible; otherwise it is any matrix, not only those of exercise 3.
#
# **`pixels_at`**: reads $(B, C, H, W)$ images at integer rows and columns, both of shape
# $(B, h, w)$; those for image $b$ stand at index $b$. Outside the image there is 0 (`False`).
# Careful: a negative index is no error in Python.
#
# **`sample_nearest`**: the value at a point is that of the pixel which covers it: row
# $\lfloor y\rfloor$, column $\lfloor x\rfloor$, and 0 where no pixel does. It keeps the dtype,
# which is what masks and label maps need: between class 2 and class 4 there is no class 3.


# %% exercise="inverse"
def source_points(matrices: Tensor, height: int, width: int) -> Tensor:
    """Points of the old images that the pixels of the new ones come from.

    Args:
        matrices: (B, 3, 3) floating point, old to new; not modified.
        height: h of the new images.
        width: w of the new images.

    Returns:
        (B, h, w, 2): x, y in the old image for each pixel centre of the new one; dtype and device
        of the matrices.
    """
    ### BEGIN SOLUTION
    y, x = torch.arange(height).to(matrices) + 0.5, torch.arange(width).to(matrices) + 0.5
    y, x = y[:, None].expand(height, width), x.expand(height, width)
    centres = torch.stack([x, y, torch.ones_like(x)], dim=-1)
    inverse = torch.linalg.inv(matrices)
    return torch.einsum("bkl,hwl->bhwk", inverse, centres)[..., :2]
    ### END SOLUTION


def pixels_at(images: Tensor, rows: Tensor, columns: Tensor) -> Tensor:
    """Pixels of each image at integer places; 0 outside.

    Args:
        images: (B, C, H, W), any dtype, bool included; not modified.
        rows: (B, h, w) int64, any values.
        columns: (B, h, w) int64, any values.

    Returns:
        (B, C, h, w) of the images' dtype.
    """
    ### BEGIN SOLUTION
    batch, _, height, width = images.shape
    inside = (rows >= 0) & (rows < height) & (columns >= 0) & (columns < width)
    index = torch.arange(batch).to(images.device)[:, None, None]
    found = images[index, :, rows.clamp(0, height - 1), columns.clamp(0, width - 1)]
    return (found * inside[..., None]).movedim(-1, 1)
    ### END SOLUTION


def sample_nearest(images: Tensor, points: Tensor) -> Tensor:
    """Value of the pixel that covers each point; 0 where there is none.

    Args:
        images: (B, C, H, W), any dtype, bool included; not modified.
        points: (B, h, w, 2) floating point x, y; not modified.

    Returns:
        (B, C, h, w) of the images' dtype.
    """
    ### BEGIN SOLUTION
    columns, rows = points.floor().long().unbind(dim=-1)
    return pixels_at(images, rows, columns)
    ### END SOLUTION


# %% test="inverse"
right_by_one = affine_matrix(2, 3, translate=(1.0, 0.0))[None]
points = source_points(right_by_one, 2, 3)
expect(points[0, 1], [[-0.5, 1.5], [0.5, 1.5], [1.5, 1.5]], "source_points: second row")
tiny = torch.tensor([[[[1, 2, 3], [4, 5, 6]]]])
far, near = torch.tensor([[[-1, 0, 2]]]), torch.tensor([[[0, 2, 1]]])
expect(pixels_at(tiny, far, near), [[[[0, 3, 0]]]], "pixels_at: outside there is 0")
expect(sample_nearest(tiny, points), [[[[0, 1, 2], [0, 4, 5]]]], "sample_nearest: to the right")
edges = torch.tensor([[[[0.0, 0.0], [0.99, 1.99], [1.0, 1.0], [3.0, 0.0], [-0.01, 0.0]]]])
expect(sample_nearest(tiny, edges), [[[[1, 4, 5, 0, 0]]]], "sample_nearest: borders of pixels")

# %% [markdown]
# Nearest leaves stairs on an edge, and for a picture one wants a smooth transition. *Bilinear*
# interpolation weighs the four pixels whose **centres** surround the point.

# %% [markdown] heading="bilinear"
# ### Exercise {number} · Between four pixels ({points} points, about 25 min)
#
# Let $u = x - 0.5$ and $v = y - 0.5$: in these coordinates the centres of the pixels are whole
# numbers. With $j = \lfloor u\rfloor$, $i = \lfloor v\rfloor$, $f = u - j$ and $g = v - i$, the
# value of image $I$ at the point is
#
# $$(1-g)(1-f)\,I_{i,\,j} + (1-g)\,f\,I_{i,\,j+1} + g\,(1-f)\,I_{i+1,\,j} + g\,f\,I_{i+1,\,j+1} .$$
#
# Check three cases before you write: at a centre it is the pixel itself; halfway between two
# centres it is their mean; at the corner of four pixels it is the mean of the four. A neighbour
# outside the image counts as 0, so an image fades out over one pixel at its border, half of it
# inside and half outside.
#
# You may use your `pixels_at`. What has this ready is not allowed: `grid_sample`, `affine_grid`,
# `interpolate`, torchvision, SciPy, and what is built on them. Gradients by the images come for
# free if you stay in torch.


# %% exercise="bilinear"
def sample_bilinear(images: Tensor, points: Tensor) -> Tensor:
    """Bilinear interpolation of each image at its points; 0 outside.

    Args:
        images: (B, C, H, W) floating point; not modified.
        points: (B, h, w, 2) x, y of the same dtype, any values; not modified.

    Returns:
        (B, C, h, w) of the same dtype, differentiable by the images.
    """
    ### BEGIN SOLUTION
    u, v = (points - 0.5).unbind(dim=-1)
    j, i = u.floor(), v.floor()
    f, g = (u - j)[:, None], (v - i)[:, None]
    rows, columns = i.long(), j.long()
    upper = (1 - f) * pixels_at(images, rows, columns) + f * pixels_at(images, rows, columns + 1)
    rows = rows + 1
    lower = (1 - f) * pixels_at(images, rows, columns) + f * pixels_at(images, rows, columns + 1)
    return (1 - g) * upper + g * lower
    ### END SOLUTION


# %% test="bilinear"
square = torch.tensor([[[[0.0, 4.0], [8.0, 20.0]]]])
places = torch.tensor([[[[0.5, 0.5], [1.0, 0.5], [0.5, 1.0], [1.0, 1.0], [1.25, 0.5]]]])
expect(sample_bilinear(square, places), [[[[0.0, 2, 4, 8, 3]]]], "sample_bilinear: inside")
places = torch.tensor([[[[2.0, 1.5], [1.5, 2.25], [2.5, 1.5], [-7.0, 0.5]]]])
expect(sample_bilinear(square, places), [[[[10.0, 5, 0, 0]]]], "sample_bilinear: at the border")

# %%
Sample = Callable[[Tensor, Tensor], Tensor]


def warp(images: Tensor, matrices: Tensor, sample: Sample | None = None) -> Tensor:
    """Warp images (B, C, H, W) by matrices (B, 3, 3), bilinear unless told otherwise."""
    sample = sample or sample_bilinear
    return sample(images, source_points(matrices.to(images.device), *images.shape[-2:]))


def show_sampling() -> None:
    """The same warp with both ways of reading, and what a coarse grid makes of them."""
    image, _, _, _ = photo()
    small = image[None, :, 30:94:2, 34:98:2]  # 32 x 32
    matrix = affine_matrix(32, 32, degrees=20, scale=1.6)[None]
    pictures = [warp(small, matrix, sample)[0] for sample in (sample_nearest, sample_bilinear)]
    _, axes = plt.subplots(1, 2, figsize=(4.6, 2.5))
    for ax, picture, name in zip(axes, pictures, ["nearest", "bilinear"], strict=True):
        ax.imshow(picture.cpu().movedim(0, -1))
        ax.set_title(name, fontsize=8)
        ax.axis("off")
    plt.show()


show_sampling()

# %% [markdown]
# **One warp, not three.** Chain the matrices, then sample once. Sampling is an average of four
# pixels and blurs, so each further sampling blurs again. The cell turns the photo by 10° and
# back, again and again, and measures how far the middle of the image is from the original; then
# it does the same with the product of all the matrices.


# %%
def repeated_sampling(turns: int) -> list[float]:
    """Mean absolute error in the middle after 2, 4, ... samplings; the last one for one product."""
    image, _, _, _ = photo()
    height, width = image.shape[1:]
    forth = affine_matrix(height, width, 10)[None]
    back, product = affine_matrix(height, width, -10)[None], torch.eye(3)[None]
    current, errors = image[None], []
    for _ in range(turns):
        current = warp(warp(current, forth), back)
        product = back @ forth @ product
        errors.append((current - image)[0, :, 40:110, 30:100].abs().mean().item())
    at_once = warp(image[None], product)
    return [*errors, (at_once - image)[0, :, 40:110, 30:100].abs().mean().item()]


*errors, at_once = repeated_sampling(8 if FULL else 1)
for turns, error in enumerate(errors, start=1):
    print(f"{2 * turns:2d} samplings: mean error {error:.4f}")
print(f"product of all matrices, one sampling: {at_once:.6f}")

# %% [markdown] heading="boxes"
# ### Exercise {number} · Boxes under a warp ({points} points, about 20 min)
#
# A box turned by 30° is no box any more: its sides are slanted. What is done everywhere is to
# send its **four corners** through $\mathbf M$ and take the smallest box around the results,
# their *hull*; then it is clipped to the image, $[0, W] \times [0, H]$. Two corners are not
# enough (turn $(x_1, y_1)$ and $(x_2, y_2)$ of a square by 45°: they end above each other).
#
# When there is a mask, one can do better and ask the warped mask itself. **`mask_boxes`** gives
# the smallest box around the `True` pixels of each mask: a single pixel $(i, j)$ gives
# $(j, i, j+1, i+1)$, an empty mask gives four zeros.


# %% exercise="boxes"
def warp_boxes(boxes: Tensor, matrix: Tensor, height: int, width: int) -> Tensor:
    """Smallest boxes around the warped corners, clipped to the image.

    Args:
        boxes: (n, 4) float32 x1, y1, x2, y2, anywhere; n may be 0; not modified.
        matrix: (3, 3) float32, old to new, last row (0, 0, 1), may mirror; not modified.
        height: H of the new image.
        width: W of the new image.

    Returns:
        (n, 4) float32.
    """
    ### BEGIN SOLUTION
    corners = boxes[:, [0, 1, 2, 1, 2, 3, 0, 3]].reshape(-1, 4, 2)
    moved = corners @ matrix[:2, :2].T + matrix[:2, 2]
    hull = torch.cat([moved.amin(dim=1), moved.amax(dim=1)], dim=1)
    return hull.clamp(min=0).minimum(boxes.new_tensor([width, height, width, height]))
    ### END SOLUTION


def mask_boxes(masks: Tensor) -> Tensor:
    """Smallest box around each mask.

    Args:
        masks: (n, H, W) bool; n may be 0.

    Returns:
        (n, 4) float32; zeros for an empty mask.
    """
    ### BEGIN SOLUTION
    boxes = torch.zeros(len(masks), 4).to(masks.device)
    for index, mask in enumerate(masks):
        rows, columns = mask.nonzero().unbind(dim=1)
        if len(rows) > 0:
            low, high = (columns.min(), rows.min()), (columns.max() + 1, rows.max() + 1)
            boxes[index] = torch.stack([*low, *high])
    return boxes
    ### END SOLUTION


# %% test="boxes"
# The unit square around (3, 2), turned by 45° about (3, 2): its corners are sqrt(½) away.
unit = torch.tensor([[2.5, 1.5, 3.5, 2.5]])
half = math.sqrt(0.5)
expect(
    warp_boxes(unit, affine_matrix(4, 6, degrees=45), 4, 6),
    [[3 - half, 2 - half, 3 + half, 2 + half]],
    "warp_boxes: a square on its corner",
)
expect(
    warp_boxes(torch.tensor([[0.0, 1.0, 2.0, 3.0]]), affine_matrix(4, 6, translate=(-1, 2)), 4, 6),
    [[0.0, 3.0, 1.0, 4.0]],
    "warp_boxes: clipped",
)
marks = torch.zeros(2, 4, 6, dtype=torch.bool)
marks[1, 1, 2] = marks[1, 3, 2] = True
expect(mask_boxes(marks), [[0.0, 0, 0, 0], [2, 1, 3, 4]], "mask_boxes: an empty one, two pixels")


# %%
def warp_all(image, boxes, masks, labels, matrix):
    """Image bilinear, masks nearest, boxes by their corners."""
    height, width = image.shape[-2:]
    matrices = matrix.to(image.device).expand(len(masks), 3, 3)
    moved = warp(masks[:, None], matrices, sample_nearest)[:, 0]
    boxes = warp_boxes(boxes, matrix.to(boxes), height, width)
    return warp(image[None], matrix[None])[0], boxes, moved, labels


def show_warps() -> None:
    """The photo under four warps; dashed: the box of the warped mask."""
    image, boxes, masks, labels = photo()
    height, width = image.shape[-2:]
    warps = {
        "turned by 20°": {"degrees": 20},
        "turned by 45°": {"degrees": 45},
        "half the size, moved": {"scale": 0.5, "translate": (25, -20)},
        "-30°, 1.2 times": {"degrees": -30, "scale": 1.2},
    }
    _, axes = plt.subplots(1, 4, figsize=(7.8, 2.7))
    for ax, (title, parameters) in zip(axes, warps.items(), strict=True):
        warped = warp_all(image, boxes, masks, labels, affine_matrix(height, width, **parameters))
        show(ax, *warped, title)
        for x1, y1, x2, y2 in mask_boxes(warped[2]).tolist():
            frame = Rectangle((x1, y1), x2 - x1, y2 - y1, fill=False, ec="white", lw=1, ls="--")
            ax.add_patch(frame)
    plt.show()


show_warps()

# %% [markdown]
# Solid: the hull of the warped box. Dashed: the box of the warped mask. They do not agree. The
# label that a detector is trained on after a rotation is **too large**, though no line of the
# code is wrong: the corners of a box are background, and the hull goes around them. How much is
# that? A disc stays the same under a rotation, so for it the truth is known.


# %%
def hull_growth(angles: list[int]) -> dict[str, list[float]]:
    """Area of the hull over the area of the warped mask's box, for three shapes of 201 x 201."""
    y, x = torch.meshgrid(torch.arange(201.0) - 100, torch.arange(201.0) - 100, indexing="ij")
    masks = torch.stack([x**2 + y**2 < 60**2, (x.abs() < 60) & (y.abs() < 60), y.abs() < 15])
    masks[2] &= x.abs() < 80
    shapes = ["disc", "square, all of its box", "bar, all of its box"]
    growth: dict[str, list[float]] = {name: [] for name in shapes}
    for degrees in angles:
        matrix = affine_matrix(201, 201, degrees)
        hulls = warp_boxes(mask_boxes(masks), matrix, 201, 201)
        tight = mask_boxes(warp(masks[:, None], matrix.expand(3, 3, 3), sample_nearest)[:, 0])
        for name, hull, box in zip(growth, hulls, tight, strict=True):
            area, true = ((b[2] - b[0]) * (b[3] - b[1]) for b in (hull, box))
            growth[name].append((area / true).item())
    return growth


angles = list(range(0, 91, 5)) if FULL else [0, 45]
for name, line in hull_growth(angles).items():
    plt.plot(angles, line, label=name)
plt.gca().set(
    xlabel="rotation in degrees", ylabel="area of hull / area of true box", ylim=(0.9, 2.2)
)
plt.legend()
plt.show()

# %% [markdown]
# For a disc of radius $r$, the hull of the rotated box has sides
# $2r(|\cos\theta| + |\sin\theta|)$, so the ratio is $(|\cos\theta| + |\sin\theta|)^2
# = 1 + |\sin 2\theta|$: a third too large at 10°, twice as large at 45°. For shapes that fill
# their box the hull is right. And it gets worse when boxes are warped step by step:


# %%
def turn_in_steps(step: int) -> float:
    """Side of a box of side 60 after turns by `step` degrees that add up to 90."""
    box, matrix = torch.tensor([[970.0, 970.0, 1030.0, 1030.0]]), affine_matrix(2000, 2000, step)
    for _ in range(90 // step):
        box = warp_boxes(box, matrix, 2000, 2000)
    return (box[0, 2] - box[0, 0]).item()


for step in [90, 45, 30, 15, 10]:
    print(f"90° in {90 // step} steps of {step:2d}°: side {turn_in_steps(step):6.1f} (right: 60)")

# %% [markdown]
# Turned by 90° at once the box is exact; in nine steps of 10° its side grows almost fourfold, by
# $(\cos 10° + \sin 10°)^9 \approx 3.76$. Chain matrices, not boxes; and where there are masks,
# make boxes from masks last.

# %% [markdown]
# ## 3. Colours, noise, holes
#
# What follows leaves every pixel where it is: boxes, masks and labels stay.

# %% [markdown] heading="colour"
# ### Exercise {number} · Brightness, contrast, saturation ({points} points, about 15 min)
#
# All three are one formula: a step from a dull image $\mathbf D$ through the image $\mathbf I$,
# by a factor $a \ge 0$, and a clamp,
#
# $$\mathbf I' = \operatorname{clamp}\bigl(a\,\mathbf I + (1 - a)\,\mathbf D,\ 0,\ 1\bigr).$$
#
# $a = 0$ gives $\mathbf D$, $a = 1$ changes nothing, $a > 1$ moves away from $\mathbf D$. The grey
# version of an image with the channels red, green and blue is
# $\mathbf Y = 0.299\,\mathbf R + 0.587\,\mathbf G + 0.114\,\mathbf B$ (ITU-R BT.601).
#
# | | $\mathbf D$ |
# |---|---|
# | brightness | black, 0 everywhere |
# | contrast | the **mean of** $\mathbf Y$ over the pixels, one number for each image of the batch |
# | saturation | $\mathbf Y$, in all three channels |


# %% exercise="colour"
def brightness(images: Tensor, factor: float) -> Tensor:
    """Scale all values and clamp to [0, 1].

    Args:
        images: (..., 3, H, W) floating point in [0, 1], channels red, green, blue: one image, or
            several along any number of leading axes; not modified.
        factor: at least 0; 1 changes nothing.

    Returns:
        The same shape and dtype.
    """
    ### BEGIN SOLUTION
    return (factor * images).clamp(0, 1)
    ### END SOLUTION


def contrast(images: Tensor, factor: float) -> Tensor:
    """Spread values about the mean of each image's grey version; as `brightness` otherwise."""
    ### BEGIN SOLUTION
    weights = images.new_tensor([0.299, 0.587, 0.114])[:, None, None]
    mean = (weights * images).sum(dim=-3, keepdim=True).mean(dim=(-2, -1), keepdim=True)
    return (factor * images + (1 - factor) * mean).clamp(0, 1)
    ### END SOLUTION


def saturation(images: Tensor, factor: float) -> Tensor:
    """Spread the channels about the grey version of each pixel; as `brightness` otherwise."""
    ### BEGIN SOLUTION
    weights = images.new_tensor([0.299, 0.587, 0.114])[:, None, None]
    grey = (weights * images).sum(dim=-3, keepdim=True)
    return (factor * images + (1 - factor) * grey).clamp(0, 1)
    ### END SOLUTION


# %% test="colour"
# Two pixels: pure red, whose grey is 0.299, and a grey of 0.5. The mean grey is 0.3995.
two = torch.tensor([[[1.0, 0.5]], [[0.0, 0.5]], [[0.0, 0.5]]])
expect(brightness(two, 1.5)[:, 0], [[1.0, 0.75], [0, 0.75], [0, 0.75]], "brightness: 1.5")
dull = contrast(two, 0.5)
expect(dull[:, 0, 0], [0.69975, 0.19975, 0.19975], "contrast: red, half", atol=1e-5)
expect(dull[:, 0, 1], [0.44975] * 3, "contrast: grey, half", atol=1e-5)
expect(saturation(two, 0.0)[:, 0, 0], [0.299] * 3, "saturation: none", atol=1e-5)
expect(saturation(two, 3.0)[:, 0, 1], [0.5] * 3, "saturation: grey stays grey", atol=1e-5)

# %% [markdown] heading="noise"
# ### Exercise {number} · Noise and holes ({points} points, about 20 min)
#
# **`add_noise`** adds to every value of every channel of every image its own Gaussian number of
# mean 0 and standard deviation $\sigma$, then clamps to $[0, 1]$. All randomness comes from the
# generator: in the same state it gives the same noise, and each call moves it on. (A generator
# lives on a device, the CPU here; draw there and move the numbers to the image.)
#
# **`cutout`** (DeVries and Taylor 2017) erases a square of side $s$ from each image, so that the
# network cannot rely on one detail. The centre $(r, c)$ of a hole is a pixel; the hole covers the
# rows from $r - \lfloor s/2\rfloor$ on, $s$ of them, and the columns from
# $c - \lfloor s/2\rfloor$ on, $s$ of them, in all channels. What sticks out is cut off: the hole
# is *not* pushed inside. Erased values are 0.


# %% exercise="noise"
def add_noise(images: Tensor, std: float, generator: torch.Generator) -> Tensor:
    """Independent Gaussian noise on every value, clamped to [0, 1].

    Args:
        images: any shape, floating point in [0, 1]; not modified.
        std: standard deviation of the noise before clamping, at least 0.
        generator: on the CPU; the only source of randomness.

    Returns:
        The same shape, dtype and device.
    """
    ### BEGIN SOLUTION
    noise = torch.randn(images.shape, generator=generator)
    return (images + std * noise.to(images)).clamp(0, 1)
    ### END SOLUTION


def cutout(images: Tensor, centres: Tensor, size: int) -> Tensor:
    """Erase a square from each image.

    Args:
        images: (B, C, H, W); not modified.
        centres: (B, 2) int64, row and column of each hole's centre, inside the image; not modified.
        size: side s of the square, at least 1.

    Returns:
        The same shape and dtype; 0 in the holes.
    """
    ### BEGIN SOLUTION
    _, _, height, width = images.shape
    start = centres - size // 2
    rows = torch.arange(height).to(centres) - start[:, :1]  # (B, H), from the upper side
    columns = torch.arange(width).to(centres) - start[:, 1:]
    rows, columns = (rows >= 0) & (rows < size), (columns >= 0) & (columns < size)
    return images.masked_fill((rows[:, :, None] & columns[:, None])[:, None], 0)
    ### END SOLUTION


# %% test="noise"
ones = torch.ones(2, 1, 3, 5)
holes = cutout(ones, torch.tensor([[1, 2], [0, 4]]), 2)
expect(holes[0, 0], [[1.0, 0, 0, 1, 1], [1, 0, 0, 1, 1], [1, 1, 1, 1, 1]], "cutout: side 2")
expect(holes[1, 0], [[1.0, 1, 1, 0, 0], [1, 1, 1, 1, 1], [1, 1, 1, 1, 1]], "cutout: at a corner")
grey = torch.full((1, 3, 40, 50), 0.5)
noisy = add_noise(grey, 0.1, torch.Generator().manual_seed(0))
expect((noisy - 0.5).std(), 0.1, "add_noise: deviation", rtol=0.05)
again = add_noise(grey, 0.1, torch.Generator().manual_seed(0))
expect(again, noisy, "add_noise: the same generator")


# %%
def random_centres(images: Tensor, generator: torch.Generator) -> Tensor:
    """(B, 2) rows and columns, any pixel of each image."""
    high = torch.tensor(images.shape[-2:])
    return (torch.rand(len(images), 2, generator=generator) * high).long().to(images.device)


def gallery() -> None:
    """One photo under everything so far."""
    image = photo()[0]
    generator = torch.Generator().manual_seed(4)
    holes = cutout(image[None], random_centres(image[None], generator), 50)[0]
    pictures = {
        "brightness 0.5": brightness(image, 0.5),
        "brightness 1.6": brightness(image, 1.6),
        "contrast 0.4": contrast(image, 0.4),
        "contrast 2": contrast(image, 2.0),
        "saturation 0": saturation(image, 0.0),
        "saturation 3": saturation(image, 3.0),
        "noise 0.15": add_noise(image, 0.15, generator),
        "cut-out 50": holes,
    }
    _, axes = plt.subplots(2, 4, figsize=(6.4, 4.1))
    for ax, (title, picture) in zip(axes.flat, pictures.items(), strict=True):
        ax.imshow(picture.cpu().movedim(0, -1))
        ax.set_title(title, fontsize=8)
        ax.axis("off")
    plt.show()


gallery()

# %% [markdown]
# Which of these keep the label? All, for a face. For a ripe tomato among green ones, saturation 0
# has erased the answer. For an 8 of 8 × 8 pixels a hole may turn it into a 3. *An augmentation
# states what the label does not depend on.* That is knowledge about the task, and no library
# has it.

# %% [markdown]
# ## 4. Two images at once
#
# Everything so far kept the label. Mixing does not, and says so: the target becomes a
# distribution over classes. Targets are rows $\mathbf t \in [0, 1]^K$ that sum to one (one-hot at
# first); `F.cross_entropy(logits, targets)` accepts them as they are.

# %% [markdown] heading="mixup"
# ### Exercise {number} · Mixup ({points} points, about 15 min)
#
# Mixup (Zhang et al. 2018) blends each image of a batch with a partner, and the targets by **the
# same weight**:
#
# $$\tilde{\mathbf x}_b = \lambda_b\,\mathbf x_b + (1 - \lambda_b)\,\mathbf x_{\pi(b)}, \qquad
# \tilde{\mathbf t}_b = \lambda_b\,\mathbf t_b + (1 - \lambda_b)\,\mathbf t_{\pi(b)} .$$
#
# $\pi(b)$ is the row of $b$'s partner. Here every row has a weight of its own,
# $\lambda_b \sim \mathrm{Beta}(\alpha, \alpha)$, independently; the paper's code draws one for the
# whole batch. `mixing_weights` draws them. The distribution is symmetric about ½; with $\alpha = 1$
# it is uniform, with a small $\alpha$ nearly all weights are close to 0 or 1.
#
# torch's distributions take no generator, so this function may use torch's global one.


# %% exercise="mixup"
def mixing_weights(count: int, alpha: float) -> Tensor:
    """Weights drawn from Beta(alpha, alpha), one for each row.

    Args:
        count: B, how many, at least 1.
        alpha: above 0.

    Returns:
        (B,) float32 in [0, 1], independent, others on each call.
    """
    ### BEGIN SOLUTION
    return torch.distributions.Beta(alpha, alpha).sample((count,))
    ### END SOLUTION


def mixup(
    images: Tensor, targets: Tensor, partner: Tensor, weights: Tensor
) -> tuple[Tensor, Tensor]:
    """Blend each image and each target with those of its partner.

    Args:
        images: (B, C, H, W) floating point; not modified.
        targets: (B, K) floating point, rows sum to one; not modified.
        partner: (B,) int64, the row of each one's partner; any rows, not only a permutation.
        weights: (B,) of each row itself; the partner has the rest.

    Returns:
        Mixed images and targets, shapes as given, dtypes as given or float64.
    """
    ### BEGIN SOLUTION
    w = weights[:, None, None, None]
    mixed = w * images + (1 - w) * images[partner]
    w = weights[:, None]
    return mixed, w * targets + (1 - w) * targets[partner]
    ### END SOLUTION


# %% test="mixup"
pair = torch.tensor([[[[8.0]]], [[[0.0]]]])
both, target = mixup(pair, torch.eye(2), torch.tensor([1, 0]), torch.tensor([0.75, 0.5]))
expect(both.flatten(), [6.0, 4.0], "mixup: images")
expect(target, [[0.75, 0.25], [0.5, 0.5]], "mixup: targets")
weights = mixing_weights(2000, 0.2)
expect(weights.mean(), 0.5, "mixing_weights: mean", atol=0.05)
expect(weights.var(), 0.25 / 1.4, "mixing_weights: variance", rtol=0.1)  # 1 / (4 (2 alpha + 1))

# %% [markdown] heading="cutmix"
# ### Exercise {number} · CutMix ({points} points, about 20 min)
#
# CutMix (Yun et al. 2019) does not blend. It pastes a rectangle of the partner, of the share
# $1 - \lambda$ of the area, into the image. The paper's sides, in whole pixels, about a centre
# $(c_y, c_x)$, a pixel:
#
# $$r_w = \lfloor W\sqrt{1 - \lambda}\rfloor, \qquad
# x_1 = \max(c_x - \lfloor r_w/2\rfloor,\ 0), \qquad
# x_2 = \min(c_x - \lfloor r_w/2\rfloor + r_w,\ W),$$
#
# and the same for the height. The rectangle has the image's proportions. Near the border it is
# clipped, and it consists of whole pixels, so its area is *not* $1 - \lambda$. The label has to
# tell the truth about the picture: the weight of row $b$'s own target is the share of its own
# pixels,
#
# $$\lambda_b' = 1 - \frac{(x_2 - x_1)(y_2 - y_1)}{H W} .$$


# %% exercise="cutmix"
def cutmix_boxes(weights: Tensor, centres: Tensor, height: int, width: int) -> Tensor:
    """Rectangles that hold about the share 1 - weight of an image, clipped to it.

    Args:
        weights: (B,) float32 in [0, 1]; not modified.
        centres: (B, 2) int64, row and column of each centre, inside the image; not modified.
        height: H.
        width: W.

    Returns:
        (B, 4) int64 x1, y1, x2, y2; columns x1 ... x2 - 1 and rows y1 ... y2 - 1 are pasted.
    """
    ### BEGIN SOLUTION
    share = (1 - weights).sqrt()
    size = torch.stack([(height * share).long(), (width * share).long()], dim=1)
    low = centres - size // 2
    high = (low + size).minimum(centres.new_tensor([height, width]))
    return torch.cat([low.clamp(min=0).flip(1), high.flip(1)], dim=1)
    ### END SOLUTION


def cutmix(
    images: Tensor, targets: Tensor, partner: Tensor, boxes: Tensor
) -> tuple[Tensor, Tensor]:
    """Paste a rectangle of each one's partner; mix the targets by the areas.

    Args:
        images: (B, C, H, W); not modified.
        targets: (B, K) floating point, rows sum to one; not modified.
        partner: (B,) int64, the row of each one's partner; any rows, not only a permutation.
        boxes: (B, 4) int64 x1, y1, x2, y2 inside the image; a box may be empty.

    Returns:
        Mixed images and targets, shapes as given, dtypes as given or float64.
    """
    ### BEGIN SOLUTION
    _, _, height, width = images.shape
    x1, y1, x2, y2 = boxes.unbind(dim=1)
    mixed = images.clone()
    for b in range(len(images)):
        rows, columns = slice(y1[b], y2[b]), slice(x1[b], x2[b])
        mixed[b, :, rows, columns] = images[partner[b], :, rows, columns]
    own = (1 - (x2 - x1) * (y2 - y1) / (height * width))[:, None].to(targets)
    return mixed, own * targets + (1 - own) * targets[partner]
    ### END SOLUTION


# %% test="cutmix"
# Weight ¾: the square root of a quarter is ½, so half of 4 rows and half of 6 columns.
centres = torch.tensor([[2, 3], [0, 5], [2, 3]])
found = cutmix_boxes(torch.tensor([0.75, 0.75, 1.0]), centres, 4, 6)
expect(found[0], [2, 1, 5, 3], "cutmix_boxes: in the middle")
expect(found[1], [4, 0, 6, 1], "cutmix_boxes: clipped")
expect(int((found[2, 2:] - found[2, :2]).prod()), 0, "cutmix_boxes: weight 1 pastes nothing")
black_white = torch.stack([torch.zeros(1, 2, 4), torch.ones(1, 2, 4)])
mixed, target = cutmix(
    black_white, torch.eye(2), torch.tensor([1, 0]), torch.tensor([[1, 0, 3, 1], [0, 0, 0, 0]])
)
expect(mixed[0, 0], [[0.0, 1, 1, 0], [0, 0, 0, 0]], "cutmix: image")
expect(target, [[0.75, 0.25], [0.0, 1.0]], "cutmix: targets")


# %%
def show_mixing() -> None:
    """A 3 and a 7, mixed by several weights in both ways."""
    few, labels = few_digits(course.device())
    pair = torch.stack([few[labels == 3][0], few[labels == 7][0]])
    pair = F.interpolate(pair, scale_factor=4.0)  # larger pixels, for finer rectangles
    targets, partner = torch.eye(2, device=pair.device), torch.tensor([1, 0], device=pair.device)
    centres = torch.tensor([[20, 24]] * 2, device=pair.device)
    _, axes = plt.subplots(2, 5, figsize=(6.4, 3.0))
    for row, mix in zip(axes, ("mixup", "CutMix"), strict=True):
        for ax, weight in zip(row, (1.0, 0.75, 0.5, 0.25, 0.0), strict=True):
            w = torch.full((2,), weight, device=pair.device)
            second = w if mix == "mixup" else cutmix_boxes(w, centres, 32, 32)
            function = mixup if mix == "mixup" else cutmix
            images, mixed = function(pair, targets, partner, second)
            ax.imshow(images[0, 0].cpu(), cmap="gray", vmin=0, vmax=1)
            ax.set_title(f"{mix}\n{mixed[0, 0]:.2f} of a 3, {mixed[0, 1]:.2f} of a 7", fontsize=6.5)
            ax.axis("off")
    plt.show()


show_mixing()

# %% [markdown]
# The weights asked for are 1, 0.75, 0.5, 0.25 and 0 in both rows. In the lower row the titles
# say what clipping has left of them.

# %% [markdown]
# ## 5. Only while training
#
# The second report of the beginning came from augmented validation images. Two rules keep one
# from writing it: random changes happen in training mode only, and *all* statistics come from
# the training split. Both fit into one object.

# %% [markdown] heading="pipeline"
# ### Exercise {number} · A pipeline with a mode ({points} points, about 20 min)
#
# `Pipeline` is an `nn.Module`, so it has `train()`, `eval()` and `self.training`, and a model that
# contains it switches it along.
#
# * It is made from the training images $(N, C, H, W)$. It stores two **buffers**
#   (`register_buffer`), `mean` and `std`, both of shape $(C, 1, 1)$: for each channel the mean and
#   the standard deviation over all images and pixels, the latter with the divisor $N H W$. No
#   channel is constant. Whether the buffers are saved in the `state_dict` is up to you.
# * In training mode, `forward` applies the augmentations in the order given, each called as
#   `augmentation(images, generator)`; in evaluation mode, none (and the generator does not move).
# * In both modes it then subtracts `mean` and divides by `std`. The augmentations see values in
#   $[0, 1]$, for they clamp to that range.
#
# `augmentations` may be empty. The batch that `forward` gets is not modified, whatever the
# augmentations return (they do not modify their input either).


# %% exercise="pipeline"
class Pipeline(nn.Module):
    """Augment while training, normalise always.

    Args:
        train_images: (N, C, H, W) float32, what the statistics are computed from; not modified.
        augmentations: functions of images (B, C, H, W), the whole batch, and a generator that
            return images; the sequence is not modified.
        generator: handed to the augmentations.

    Attributes:
        mean, std: buffers (C, 1, 1) float32.
    """

    mean: Tensor
    std: Tensor

    def __init__(
        self,
        train_images: Tensor,
        augmentations: Sequence[Callable[[Tensor, torch.Generator], Tensor]],
        generator: torch.Generator,
    ) -> None:
        """Store the statistics of the training images."""
        ### BEGIN SOLUTION
        super().__init__()
        self.augmentations, self.generator = list(augmentations), generator
        std, mean = torch.std_mean(train_images, dim=(0, 2, 3), correction=0)
        self.register_buffer("mean", mean[:, None, None])
        self.register_buffer("std", std[:, None, None])
        ### END SOLUTION

    def forward(self, images: Tensor) -> Tensor:
        """Images (B, C, H, W) in [0, 1] -> (B, C, H, W), augmented in training mode, normalised."""
        ### BEGIN SOLUTION
        if self.training:
            for augmentation in self.augmentations:
                images = augmentation(images, self.generator)
        return (images - self.mean) / self.std
        ### END SOLUTION


# %% test="pipeline"
two_values = torch.tensor([1.0, 3.0]).reshape(2, 1, 1, 1)  # mean 2, deviation 1
steps = [lambda x, g: x + 1, lambda x, g: 2 * x]
pipeline = Pipeline(two_values, steps, torch.Generator())
one = torch.ones(1, 1, 1, 1)
expect(pipeline(one).flatten(), [2.0], "Pipeline: training")  # (2 · (1 + 1) - 2) / 1
expect(pipeline.eval()(one).flatten(), [-1.0], "Pipeline: evaluation")
expect(sorted(dict(pipeline.named_buffers())), ["mean", "std"], "Pipeline: names of the buffers")

# %% [markdown]
# **When it is right to change a test image.** Not to measure on harder images, but to predict
# better: show the network several views of *one* image and average what it says. AlexNet's
# published error is such an average, over ten crops.

# %% [markdown] heading="tta"
# ### Exercise {number} · Test-time augmentation ({points} points, about 15 min)
#
# **`predict_views`**: a model gives logits $(B, K)$. For each view $v$ of the images,
# probabilities by a softmax; the prediction is their mean over the $V$ views,
#
# $$\bar{\mathbf p} = \frac1V\sum_{v=1}^{V} \operatorname{softmax}\bigl(f(v(\mathbf x))\bigr).$$
#
# **`predict_maps`**: a model gives a logit for each pixel, $(B, 1, H, W)$, and the probability is
# its sigmoid. If the image was flipped, so is the answer: each view comes with the function that
# takes the answer **back**, to be applied to the probabilities *before* the mean. Views are pairs
# (there, back).
#
# In both, no gradient is recorded, not even inside the model (`torch.no_grad()`; afterwards
# gradients are on or off as they were). The model is called once for each view, with the whole
# batch; it is in the mode that the caller wants, training or evaluation, and it stays there.
# Include the identity among the views if it shall count: nothing is added here.


# %% exercise="tta"
def predict_views(
    model: Callable[[Tensor], Tensor], images: Tensor, views: Sequence[Callable[[Tensor], Tensor]]
) -> Tensor:
    """Mean of the probabilities over several views of each image.

    Args:
        model: (B, C, H, W) -> logits (B, K).
        images: (B, C, H, W).
        views: at least one function (B, C, H, W) -> (B, C, H, W).

    Returns:
        (B, K) probabilities, float32 or float64, without gradient.
    """
    ### BEGIN SOLUTION
    with torch.no_grad():
        return torch.stack([model(view(images)).softmax(dim=1) for view in views]).mean(dim=0)
    ### END SOLUTION


def predict_maps(
    model: Callable[[Tensor], Tensor],
    images: Tensor,
    views: Sequence[tuple[Callable[[Tensor], Tensor], Callable[[Tensor], Tensor]]],
) -> Tensor:
    """Mean of the probability maps over several views, each taken back first.

    Args:
        model: (B, C, H, W) -> logits (B, 1, H, W).
        images: (B, C, H, W).
        views: at least one pair (there, back).

    Returns:
        (B, 1, H, W) probabilities, float32 or float64, without gradient.
    """
    ### BEGIN SOLUTION
    with torch.no_grad():
        maps = [back(model(there(images)).sigmoid()) for there, back in views]
        return torch.stack(maps).mean(dim=0)
    ### END SOLUTION


# %% test="tta"
# Logits (0, ln 3) for a pixel 1 and (0, 0) for a pixel 0: probabilities (¼, ¾) and (½, ½).
def slope(x: Tensor) -> Tensor:
    return torch.stack([torch.zeros(len(x)), math.log(3) * x.flatten(1)[:, 0]], dim=1)


lamp = torch.ones(1, 1, 1, 2)
got = predict_views(slope, lamp, [lambda x: x, lambda x: 0 * x])
expect(got, [[0.375, 0.625]], "predict_views: mean of probabilities")
half_lit = torch.tensor([[[[math.log(3), 0.0]]]])
mirror = (lambda x: x.flip(-1), lambda x: x.flip(-1))
got = predict_maps(lambda x: x, half_lit, [(lambda x: x, lambda x: x), mirror])
expect(got, [[[[0.75, 0.5]]]], "predict_maps: taken back")

# %% [markdown]
# ## 6. Rows of a table
#
# A table has no left and right. What does the label not depend on there? Two classical answers.

# %% [markdown] heading="tabular"
# ### Exercise {number} · New rows, wild rows ({points} points, about 25 min)
#
# **`smote`** (Chawla et al. 2002) makes rows for a rare class: between two of its rows that are
# close there should be more of it. For each new row, independently:
#
# 1. a base row $\mathbf a$, uniformly from the $n$ rows;
# 2. a neighbour $\mathbf b$, uniformly from the $k$ rows nearest to $\mathbf a$ (Euclidean
#    distance, $\mathbf a$ itself is not its neighbour);
# 3. $\mathbf a + u\,(\mathbf b - \mathbf a)$ with **one** number $u$, uniform in $[0, 1)$: a
#    point on the line between the two.
#
# No two rows are equal, no two distances, and $k < n$.
#
# **`add_outliers`** damages a table on purpose, to see what a model makes of it: in
# $\lfloor\text{share}\cdot N\rfloor$ *different* rows, chosen uniformly, one feature, chosen
# uniformly, is replaced by $m \pm \text{reach}\cdot s$. $m$ and $s$ are that feature's mean and
# standard deviation (divisor $N$) over all rows of the undamaged table; both signs are equally
# likely. All else stays.


# %% exercise="tabular"
def smote(rows: Tensor, count: int, k: int, generator: torch.Generator) -> Tensor:
    """New rows between neighbours of one class.

    Args:
        rows: (n, D) floating point, all of one class; not modified.
        count: how many new rows, at least 1.
        k: number of neighbours to choose from, 1 <= k < n.
        generator: on the CPU, as the rows; the only source of randomness.

    Returns:
        (count, D), in any order, dtype of the rows or float64.
    """
    ### BEGIN SOLUTION
    neighbours = torch.cdist(rows, rows).argsort()[:, 1:]  # the nearest is the row itself
    base = torch.randint(0, len(rows), (count,), generator=generator)
    other = neighbours[base, torch.randint(0, k, (count,), generator=generator)]
    u = torch.rand(count, 1, generator=generator).to(rows)
    return rows[base] + u * (rows[other] - rows[base])
    ### END SOLUTION


def add_outliers(x: Tensor, share: float, reach: float, generator: torch.Generator) -> Tensor:
    """Replace one value in some of the rows by one far from the mean.

    Args:
        x: (N, D) floating point; not modified.
        share: from 0 to 1, of the rows to damage, rounded down.
        reach: distance from the feature's mean, in standard deviations.
        generator: on the CPU, as x; the only source of randomness.

    Returns:
        (N, D), a damaged copy.
    """
    ### BEGIN SOLUTION
    number = int(share * len(x))
    chosen = torch.randperm(len(x), generator=generator)[:number]
    feature = torch.randint(0, x.shape[1], (number,), generator=generator)
    sign = 2 * torch.randint(0, 2, (number,), generator=generator) - 1
    std, mean = torch.std_mean(x, dim=0, correction=0)
    damaged = x.clone()
    damaged[chosen, feature] = mean[feature] + reach * sign * std[feature]
    return damaged
    ### END SOLUTION


# %% test="tabular"
line = torch.tensor([[0.0, 0.0], [1.0, 2.0], [10.0, 20.0]])  # neighbours: 0 and 1, 1 and 0, 2 and 1
made = smote(line, 200, 1, torch.Generator().manual_seed(0))
expect(made[:, 1], 2 * made[:, 0], "smote: on the line")
expect(bool(((made[:, 0] > 1) & (made[:, 0] < 10)).any()), True, "smote: between rows 2 and 1")
expect(made.shape, (200, 2), "smote: shape")
table = torch.tensor([[1.0, 10.0], [3.0, 10.0], [1.0, 30.0], [3.0, 30.0]])  # (2 ± 1, 20 ± 10)
bad = add_outliers(table, 0.75, 5.0, torch.Generator().manual_seed(0))
expect((bad != table).any(dim=1).sum(), 3, "add_outliers: rows damaged")
expect((bad != table).sum(), 3, "add_outliers: values damaged")
expect(set(bad[bad != table].tolist()) <= {-3.0, 7.0, -30.0, 70.0}, True, "add_outliers: values")

# %% [markdown]
# **A trap.** The labels in the next cell are drawn by lot: nothing can be learned. Class 1 is
# rare, so it is filled up with `smote`, once *before* the rows are split into training and
# validation, once after (in the training part only). The classifier is the nearest neighbour, the
# figure is the mean of the recalls of the two classes: guessing gives 50 %.


# %%
def lottery(split_first: bool) -> float:
    """Mean recall of 1-NN on validation rows whose labels were drawn by lot."""
    generator = torch.Generator().manual_seed(0)
    x = digits().train_x[:800]
    y = (torch.rand(800, generator=generator) < 0.1).long()

    def filled(x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
        new = smote(x[y == 1], int((y == 0).sum() - (y == 1).sum()), 5, generator)
        return torch.cat([x, new]), torch.cat([y, y.new_ones(len(new))])

    if not split_first:
        x, y = filled(x, y)
    train = torch.rand(len(x), generator=generator) < 0.7
    known, known_y = filled(x[train], y[train]) if split_first else (x[train], y[train])
    guess = known_y[torch.cdist(x[~train], known).argmin(dim=1)]
    return sum((guess[y[~train] == c] == c).float().mean().item() for c in (0, 1)) / 2


print(f"filled up, then split: {lottery(False):.1%}")
print(f"split, then filled up: {lottery(True):.1%}")

# %% [markdown]
# The first figure is an excellent classifier of noise. The new rows on the validation side lie
# between rows that the classifier knows. It is the mistake of the second report again:
# **augmented data on both sides of a split measure the augmentation**.
#
# `add_outliers` now tells two losses apart, on a line of which the truth is known.


# %%
def fit_line(x: Tensor, loss: Callable[[Tensor, Tensor], Tensor], steps: int) -> float:
    """Slope of y = slope * x + offset, by gradient descent on rows (x, y); the truth is 2."""
    weights = torch.zeros(2, requires_grad=True)
    optimizer = torch.optim.Adam([weights], lr=0.05)
    for _ in range(steps):
        optimizer.zero_grad()
        loss(weights[0] * x[:, 0] + weights[1], x[:, 1]).backward()
        optimizer.step()
    return weights[0].item()


def compare_losses(steps: int) -> None:
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(300, 1, generator=generator)
    clean = torch.cat([x, 2 * x + 0.1 * torch.randn(300, 1, generator=generator)], dim=1)
    print("share of outliers     squared loss    Huber loss     (slope; right is 2)")
    for share in [0.0, 0.05, 0.2]:
        bad = add_outliers(clean, share, 8.0, torch.Generator().manual_seed(1))
        slopes = [fit_line(bad, loss, steps) for loss in (F.mse_loss, F.huber_loss)]
        print(f"{share:17.0%} {slopes[0]:16.2f} {slopes[1]:13.2f}")


compare_losses(300 if FULL else 2)

# %% [markdown]
# A wild $x$ at the end of a long lever pulls the squared loss's line flat; the Huber loss, whose
# gradient is bounded, is pulled less, but it is pulled.

# %% [markdown]
# ## 7. The same with torchvision
#
# In practice you would write `torchvision.transforms.v2` and annotate tensors with what they are:
# `tv_tensors.BoundingBoxes` and `tv_tensors.Mask` know how to move. The same call turns the image
# bilinearly, masks by nearest neighbour and boxes by their hull. The cell asks for your results.


# %%
def library_photo() -> dict[str, Any]:
    """The photo with its annotation, as tensors that know what they are."""
    from torchvision import tv_tensors

    image, boxes, masks, labels = photo()
    as_boxes: Any = tv_tensors.BoundingBoxes
    return {
        "image": tv_tensors.Image(image),
        "boxes": as_boxes(boxes, format="XYXY", canvas_size=(150, 128)),
        "masks": tv_tensors.Mask(masks),
        "labels": labels,
    }


def library_warp(**arguments: Any) -> list[Tensor]:
    """Image, boxes and masks of the photo by torchvision's `affine`."""
    from torchvision.transforms.v2 import InterpolationMode
    from torchvision.transforms.v2 import functional as TF

    how = {"image": InterpolationMode.BILINEAR, "masks": InterpolationMode.NEAREST, "boxes": None}
    arguments["shear"] = [0.0, 0.0]
    return [
        TF.affine(library_photo()[kind], interpolation=how[kind], **arguments).as_subclass(Tensor)
        for kind in ("image", "boxes", "masks")
    ]


def hold_against_torchvision() -> None:
    image, boxes, masks, labels = photo()
    matrix = affine_matrix(150, 128, 25, 0.8, (7.5, -3.0))
    ours = warp_all(image, boxes, masks, labels, matrix)
    library = library_warp(angle=25, scale=0.8, translate=[7.5, -3.0])
    print(f"image: largest difference {(ours[0] - library[0]).abs().max():.1e}")
    print(f"boxes: largest difference {(ours[1] - library[1]).abs().max():.1e} pixels")
    print(f"masks: {(ours[2] != library[2]).float().mean():.2%} of the pixels differ")
    expect(ours[0], library[0], "warp: image as torchvision's", atol=2e-3)
    expect(ours[1], library[1], "warp: boxes as torchvision's", atol=1e-2)
    assert (ours[2] != library[2]).float().mean() < 1e-3, "masks differ from torchvision's"


hold_against_torchvision()

# %% [markdown]
# A pixel of a mask may differ where a point falls on the border of two pixels and rounding
# decides. A whole training pipeline in the library's words, with mixing for batches:


# %%
def library_pipeline() -> None:
    from torchvision.transforms import v2

    transform = v2.Compose(
        [
            v2.RandomHorizontalFlip(p=0.5),
            v2.RandomAffine(degrees=[-15, 15], scale=(0.8, 1.2), translate=(0.1, 0.1)),
            v2.RandomCrop((110, 100)),
            v2.ColorJitter(brightness=0.3, contrast=0.3, saturation=0.3),
            v2.SanitizeBoundingBoxes(min_size=3),  # drops boxes, masks and labels together
        ]
    )
    _, axes = plt.subplots(1, 5, figsize=(8, 2.1))
    for seed, ax in enumerate(axes):
        torch.manual_seed(seed)
        show(ax, *transform(library_photo()).values())
    plt.show()


library_pipeline()


# %%
def hold_mixing_against_torchvision() -> None:
    """v2 draws its weight itself; its targets tell which one, and its pairs are neighbours."""
    from torchvision.transforms import v2

    images = torch.stack([photo()[0][:, :60, left : left + 50] for left in (0, 30, 60)])
    targets = torch.eye(3, device=images.device)
    partner = torch.tensor([2, 0, 1], device=images.device)
    torch.manual_seed(0)
    mixed, soft = v2.MixUp(num_classes=3)(images, torch.arange(3, device=images.device))
    ours = mixup(images, targets, partner, soft.diagonal())
    expect(ours[0], mixed, "mixup: images as torchvision's", atol=1e-5)
    expect(ours[1], soft, "mixup: targets as torchvision's", atol=1e-5)
    mixed, soft = v2.CutMix(num_classes=3)(images, torch.arange(3, device=images.device))
    box = mask_boxes((mixed != images).any(dim=1).any(dim=0)[None])[0].long()
    ours = cutmix(images, targets, partner, box.expand(3, 4))
    expect(ours[0], mixed, "cutmix: images as torchvision's")
    expect(ours[1], soft, "cutmix: targets as torchvision's", atol=1e-5)
    print("mixup and CutMix agree with torchvision")


hold_mixing_against_torchvision()

# %% [markdown]
# Two differences to know: v2 draws one weight for the whole batch and takes the previous row as
# partner (so shuffle the batch); and `RandomCrop` clips boxes, but it is `SanitizeBoundingBoxes`
# that drops those with nothing left, by size in pixels, not by the share that is visible.

# %% [markdown]
# ## 8. What is it worth?
#
# Now the opening again, with your pieces: `Pipeline` around your `warp`, 200 digits, the same
# small network. *Small* is a turn up to 10°, a scale between 0.9 and 1.1 and a shift of up to one
# pixel; *harmful* a turn of up to 180°.


# %%
def random_warp(degrees: float, scale: float = 0.0, shift: float = 0.0):
    """An augmentation: each image under its own random matrix."""

    def augment(images: Tensor, generator: torch.Generator) -> Tensor:
        height, width = images.shape[-2:]
        draws = 2 * torch.rand(len(images), 4, generator=generator) - 1  # uniform in [-1, 1)
        matrices = [
            affine_matrix(height, width, degrees * a, 1 + scale * s, (shift * x, shift * y))
            for a, s, x, y in draws.tolist()
        ]
        return warp(images, torch.stack(matrices))

    return augment


def with_holes(images: Tensor, generator: torch.Generator) -> Tensor:
    return cutout(images, random_centres(images, generator), 3)


def with_noise(images: Tensor, generator: torch.Generator) -> Tensor:
    return add_noise(images, 0.1, generator)


RECIPES = {
    "none": [],
    "small": [random_warp(10, 0.1, 1.0)],
    "harmful": [random_warp(180)],
    "cut-out": [with_holes],
    "noise": [with_noise],
}


# %%
def random_pairs(mix: str) -> Batch:
    """Mix a batch with itself in another order."""

    def prepare(images: Tensor, targets: Tensor, generator: torch.Generator):
        partner = torch.randperm(len(images), generator=generator).to(images.device)
        weights = mixing_weights(len(images), 0.4).to(images.device)
        if mix == "mixup":
            return mixup(images, targets, partner, weights)
        centres = random_centres(images, generator)
        return cutmix(images, targets, partner, cutmix_boxes(weights, centres, *images.shape[-2:]))

    return prepare


@cache
def trained(name: str, seed: int) -> nn.Module:
    """Pipeline and network as one module, in evaluation mode."""
    generator = torch.Generator().manual_seed(seed)
    recipe = RECIPES.get(name, RECIPES["small"] if "small" in name else [])
    pipeline = Pipeline(few_digits(course.device())[0], recipe, generator).to(course.device())

    def prepare(images: Tensor, targets: Tensor, generator: torch.Generator):
        for mix in ("mixup", "CutMix"):
            if mix in name:
                images, targets = random_pairs(mix)(images, targets, generator)
        return pipeline(images), targets

    model = train_cnn(prepare, EPOCHS, seed)
    return nn.Sequential(pipeline, model).eval()


# %%
SEEDS = range(2 if FULL else 1)


def per_class(name: str, images: Tensor | None = None) -> Tensor:
    """(10,) mean accuracy of each class over the seeds, on validation images."""
    images = valid_x if images is None else images
    rows = torch.stack([right(trained(name, seed), images, valid_y) for seed in SEEDS]).mean(dim=0)
    return torch.stack([rows[valid_y == digit].mean() for digit in range(10)]).cpu()


def show_per_class() -> None:
    """Accuracies of the ten classes under three recipes."""
    names = ["none", "small", "harmful"] if FULL else ["small"]
    _, ax = plt.subplots(figsize=(7, 2.8))
    for offset, name in enumerate(names):
        places = [digit + 0.27 * (offset - 1) for digit in range(10)]
        ax.bar(places, per_class(name), 0.25, color=plots.COLOURS[offset], label=name)
    ax.set(xticks=range(10), xlabel="digit", ylabel="validation accuracy", ylim=(0, 1.02))
    ax.legend(ncols=3, loc="lower center", bbox_to_anchor=(0.5, 1.0))
    plt.show()


show_per_class()

# %% [markdown]
# The loss is not spread evenly. 6 and 9 together are right about half of the time, which is what
# guessing between the two gives (which of the two names the network prefers is up to the seed);
# the classes that only have to share the network with many more shapes fall far less. A turned 6
# *is* a 9: the augmentation has told the network that the label does not
# depend on what it depends on. Now the second report, and what the small recipe is good for.


# %%
def shifted(images: Tensor) -> Tensor:
    """One pixel to the right."""
    return F.pad(images, (1, 0))[..., :-1]


def report(names: list[str]) -> None:
    """Validation accuracy on the images as they are, turned at random, and moved by a pixel."""
    generator = torch.Generator().manual_seed(1)
    kinds = [valid_x, random_warp(180)(valid_x, generator), shifted(valid_x)]
    print(
        f"{'trained with':18s} {'as they are':>12s} {'turned at random':>18s} {'one pixel on':>14s}"
    )
    for name in names:
        line = [per_class(name, images).mean().item() for images in kinds]
        print(f"{name:18s} {line[0]:12.1%} {line[1]:18.1%} {line[2]:14.1%}")


report(["none", "small", "harmful"] if FULL else ["small"])

# %% [markdown]
# By the column in the middle the harmful recipe wins by a wide margin: whoever augments the
# validation data with the same line as the training data chooses it, and never sees what became
# of 6 and 9. By the first column, the only one that resembles the task, it is the worst. The last
# column is why one augments at all: the average over the images as they are gains little (they
# were centred when the data were made), but an image that is not centred is no longer a stranger.
#
# **The others, and two at once.** Standard errors first: 300 images at about 90 % leave a
# deviation of $\sqrt{0.9 \cdot 0.1 / 300} \approx 1.7$ points for one network, so two rows must
# lie well apart to mean anything.

# %%
report(["cut-out", "noise", "mixup", "CutMix", "small + mixup"] if FULL else ["mixup"])

# %% [markdown]
# **Test-time augmentation**, with nine views: the image moved by up to one pixel in each
# direction. For the network that never saw a shift and for the one that did.


# %%
View = Callable[[Tensor], Tensor]


def moved_views(step: float) -> list[View]:
    """Nine views, moved by -step, 0 or step pixels along each axis."""

    def view(x: float, y: float) -> View:
        matrix = affine_matrix(8, 8, translate=(x, y))
        return lambda images: warp(images, matrix.expand(len(images), 3, 3))

    return [view(x, y) for x in (-step, 0, step) for y in (-step, 0, step)]


def averaged(name: str, seed: int, views: list[View]) -> View:
    """A classifier: images -> probabilities, averaged over the views."""
    model = trained(name, seed)
    return lambda images: predict_views(model, images, views)


def test_time(names: list[str]) -> None:
    """Validation accuracy with one view and with nine, for two kinds of images."""
    some = 300 if FULL else 20
    y = valid_y[:some]
    print(f"{'':12s}{'as they are':>30s}{'one pixel on':>30s}")
    print(f"{'trained with':12s}" + 2 * f"{'1 view':>10s}{'9 of ½':>10s}{'9 of 1':>10s}")
    for name in names:
        line = f"{name:12s}"
        for x in (valid_x[:some], shifted(valid_x)[:some]):
            for views in ([lambda x: x], moved_views(0.5), moved_views(1.0)):
                rows = torch.stack([right(averaged(name, seed, views), x, y) for seed in SEEDS])
                line += f"{rows.mean().item():10.1%}"
        print(line)


test_time(["none", "small"] if FULL else ["small"])

# %% [markdown]
# Views help where the network tolerates them. For the network that never saw a shift, views moved
# by a whole pixel are eight bad opinions against one good one, unless the image itself is
# off-centre: then three of the nine undo the shift in $x$, and one of these restores the image. The
# price is nine times the computation.
#
# **The measurement.** The recipe was chosen on validation data; the test split is used once, now.
# The baseline is the nearest neighbour among the same 200 digits, in pixels.


# %%
def final() -> None:
    """Test accuracy, and the most confident errors of the chosen recipe."""
    test_x, test_y = data.test_x.reshape(-1, 1, 8, 8), data.test_y
    x, y = few_digits(course.device())
    nearest = y[torch.cdist(test_x.flatten(1), x.flatten(1)).argmin(dim=1)] == test_y
    print(f"{'nearest neighbour':18s} {nearest.float().mean():.1%}")
    for name in ["none", "small"] if FULL else ["small"]:
        rows = torch.stack([right(trained(name, seed), test_x, test_y) for seed in SEEDS])
        print(f"{name:18s} {rows.mean():.1%}   (seeds: {rows.mean(dim=1).min():.1%} and up)")
    confidence, guess = predict_views(trained("small", 0), test_x, [lambda x: x]).max(dim=1)
    wrong = (guess != test_y).nonzero()[:, 0]
    worst = wrong[confidence[wrong].argsort(descending=True)][: 10 if FULL else 2]
    titles = [f"{int(guess[i])} (is {int(test_y[i])})" for i in worst]
    plots.images(test_x[worst].cpu(), titles, columns=10, title="wrong, and most sure of it")
    plt.show()


final()

# %% [markdown]
# ### Your experiment
#
# Change one thing at a time and predict the result before you run it. Suggestions:
#
# * `random_warp(0, 0.0, 2.0)`: is a shift of two pixels of eight still "small"?
# * `[lambda x, g: x.flip(-1)]` for all images, or for half of them: which digits suffer?
# * the turn at which 6 and 9 begin to fall: 30°, 60°, 90°?
# * 1,000 digits in place of 200 (change `few_digits`): what is left of the gain?


# %%
def experiment(recipe: list, epochs: int) -> None:
    pipeline = Pipeline(few_digits(course.device())[0], recipe, torch.Generator().manual_seed(0))
    pipeline = pipeline.to(course.device())
    model = train_cnn(lambda x, t, g: (pipeline(x), t), epochs)
    rows = right(nn.Sequential(pipeline, model).eval(), valid_x, valid_y)
    print(f"validation accuracy {rows.mean():.1%}; by class:")
    print("   ".join(f"{digit}: {rows[valid_y == digit].mean():.0%}" for digit in range(10)))


experiment([random_warp(60)], EPOCHS)

# %% [markdown]
# ## Summary
#
# 1. An augmentation claims that the label does not depend on something. Where the claim is false
#    (6 and 9), it harms, and only data that were left as they are show it.
# 2. Image, boxes, masks and labels move together: masks by nearest neighbour, boxes by the hull of
#    four corners, which grows at each step; chain matrices and warp once.
# 3. A warp asks for each new pixel where it came from; pixel centres lie at +0.5.
# 4. Mixing changes the label too: mixup by the weight, CutMix by the area that is really pasted.
# 5. Augment in training mode only, split before you fill up, take statistics from the training
#    split; views at test time are averaged as probabilities and taken back.
#
# ## In practice, and further reading
#
# The library calls are those of part 7; `v2.RandAugment` and `v2.TrivialAugmentWide` choose among
# them, `v2.RandomErasing` is cut-out. Albumentations is another widely used library, and
# imbalanced-learn has SMOTE and its many variants.
#
# * P. Simard, D. Steinkraus, J. Platt, *Best practices for convolutional neural networks applied
#   to visual document analysis*, ICDAR 2003: elastic distortions of digits.
# * A. Krizhevsky, I. Sutskever, G. Hinton, *ImageNet classification with deep convolutional neural
#   networks*, NIPS 2012: section 4.1 is on crops, flips and colours.
# * N. Chawla et al., *SMOTE: synthetic minority over-sampling technique*, JAIR 16, 2002.
# * T. DeVries, G. Taylor, *Improved regularization of convolutional neural networks with cutout*,
#   arXiv:1708.04552, 2017.
# * H. Zhang et al., *mixup: beyond empirical risk minimization*, ICLR 2018.
# * S. Yun et al., *CutMix*, ICCV 2019.
