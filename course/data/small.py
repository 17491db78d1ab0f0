"""Small data that ships with the course or is made: no network, a few milliseconds."""

from __future__ import annotations

import math
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

_FOLDER = Path(__file__).parent


class Images(NamedTuple):
    """Labelled grey images, flattened row by row, in a fixed split.

    Attributes:
        train_x, valid_x, test_x: (N, height * width) float32 in [0, 1].
        train_y, valid_y, test_y: (N,) int64 class numbers from 0.
    """

    train_x: Tensor
    train_y: Tensor
    valid_x: Tensor
    valid_y: Tensor
    test_x: Tensor
    test_y: Tensor


Digits = Images


def digits(device: torch.device | str | None = None) -> Digits:
    """The 1,797 handwritten digits of 8x8 pixels that scikit-learn ships.

    They are the test part of the UCI data set (13 writers). Each pixel counts the ink in a 4x4
    block of a 32x32 bitmap, 0 to 16; here it is divided by 16. The split is stratified and fixed:
    1,197 for training, 300 for validation, 300 for testing.

    Args:
        device: where the tensors go; the CPU by default.

    Returns:
        `Digits` with rows of 64 values, 10 classes.

    Source: E. Alpaydin and C. Kaynak, "Optical Recognition of Handwritten Digits", UCI Machine
    Learning Repository, 1998, https://doi.org/10.24432/C50P49 (CC BY 4.0). The file is made by
    `python -m course.data.make_digits`.
    """
    with np.load(_FOLDER / "digits.npz") as file:
        images, labels, split = file["images"], file["labels"], file["split"]
    x = torch.from_numpy(images.reshape(len(images), -1).astype(np.float32) / 16).to(device)
    y = torch.from_numpy(labels.astype(np.int64)).to(device)
    parts = [torch.from_numpy(np.flatnonzero(split == part)).to(device) for part in range(3)]
    return Digits(*(values[rows] for rows in parts for values in (x, y)))


def spirals(
    n_per_class: int = 100, classes: int = 2, noise: float = 0.1, seed: int = 0
) -> tuple[Tensor, Tensor]:
    """Interleaved spiral arms in the plane, one a class, in random order.

    Along an arm the radius grows from 0.1 to 1 while the angle turns by 1.5 pi; arm k starts at the
    angle 2 pi k / classes. No straight line parts them.

    Args:
        n_per_class: points in each arm.
        classes: number of arms.
        noise: standard deviation of the Gaussian noise on the angle, in radians.
        seed: the same seed gives the same points.

    Returns:
        Points (n_per_class * classes, 2) float32, about in [-1, 1], and their classes int64.

    Raises:
        ValueError: no points, or fewer than two classes.
    """
    if n_per_class < 1 or classes < 2:
        raise ValueError("spirals needs n_per_class >= 1 and classes >= 2")
    generator = torch.Generator().manual_seed(seed)
    y = torch.arange(classes).repeat_interleave(n_per_class)
    along = torch.linspace(0, 1, n_per_class, dtype=torch.float64).repeat(classes)
    angle = 2 * math.pi * y / classes + 1.5 * math.pi * along
    angle = angle + noise * torch.randn(len(y), generator=generator, dtype=torch.float64)
    x = (0.1 + 0.9 * along)[:, None] * torch.stack([angle.cos(), angle.sin()], dim=1)
    order = torch.randperm(len(y), generator=generator)
    return x.float()[order], y[order]
