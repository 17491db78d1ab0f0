"""Canvases of several digits, for detection and segmentation; made on the spot, no network."""

from __future__ import annotations

from typing import Literal, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from course.data.small import digits as bundled_digits

_SMALLEST, _INK = 12, 0.25  # pixels on a side; a pixel this dark belongs to the mask
_TRIES, _RESTARTS = 60, 20


class Canvases(NamedTuple):
    """Images with several digits each, and where those are.

    Coordinates count pixels from the upper left corner of the image: x to the right, from 0 to
    width, y down, from 0 to height; the centre of the first pixel is (0.5, 0.5).

    Attributes:
        images: (N, 1, height, width) float32 in [0, 1], ink bright.
        boxes: N tensors (n, 4) float32, rows x1, y1, x2, y2 with x1 < x2 and y1 < y2: the smallest
            box around the digit's mask.
        masks: N tensors (n, height, width) bool; masks of one image do not overlap.
        labels: N tensors (n,) int64, digits 0 to 9.
    """

    images: Tensor
    boxes: list[Tensor]
    masks: list[Tensor]
    labels: list[Tensor]


def canvases(
    count: int,
    height: int = 48,
    width: int = 64,
    digits: tuple[int, int] = (1, 3),
    *,
    split: Literal["train", "valid", "test"] = "train",
    generator: torch.Generator | None = None,
    device: torch.device | str | None = None,
) -> Canvases:
    """Paste enlarged digits onto black canvases. Masks never overlap, boxes may a little.

    Each digit is enlarged (bilinear) to between 12 pixels and half the canvas's shorter side, its
    width and height drawn separately. The digits come from the bundled 8x8 images, see
    `course.data.digits`.

    Args:
        count: number of canvases.
        height: of each, in pixels, at least 24.
        width: of each, in pixels, at least 24.
        digits: the smallest and the largest number of digits on a canvas.
        split: the part of the bundled digits to take them from.
        generator: on the CPU; decides everything. By default a new one with seed 0, so that every
            such call gives the same canvases.
        device: where the tensors go; the CPU by default.

    Returns:
        `Canvases`.

    Raises:
        ValueError: a canvas is too small, `digits` is no range from 1 on, or so many digits do not
        find a place.
    """
    if min(height, width) < 2 * _SMALLEST:
        raise ValueError(f"a canvas of {height} x {width} is too small: at least 24 x 24")
    if not 1 <= digits[0] <= digits[1]:
        raise ValueError(f"digits is {digits}; it must be a range such as (1, 3)")
    generator = generator or torch.Generator().manual_seed(0)
    data = bundled_digits()
    source: Tensor = getattr(data, f"{split}_x").reshape(-1, 1, 8, 8)
    classes: Tensor = getattr(data, f"{split}_y")
    images = torch.zeros(count, 1, height, width)
    masks, labels = [], []
    for image in images:
        number = _draw(digits[0], digits[1], generator)
        rows = torch.randint(len(source), (number,), generator=generator)
        masks.append(_paste(image[0], source[rows], generator).to(device))
        labels.append(classes[rows].to(device))
    return Canvases(images.to(device), [_boxes(own) for own in masks], masks, labels)


def _draw(low: int, high: int, generator: torch.Generator) -> int:
    """A whole number from low to high, both included."""
    return int(torch.randint(low, high + 1, (), generator=generator))


def _paste(canvas: Tensor, glyphs: Tensor, generator: torch.Generator) -> Tensor:
    """Put glyphs (n, 1, 8, 8) on a canvas (height, width), in place; returns masks (n, ...)."""
    for _ in range(_RESTARTS):
        canvas.zero_()
        masks: list[Tensor] = []
        for glyph in glyphs:
            mask = _place(canvas, glyph, masks, generator)
            if mask is None:
                break
            masks.append(mask)
        else:
            return torch.stack(masks)
    raise ValueError(
        f"{len(glyphs)} digits find no place on a canvas of {canvas.shape[0]} x {canvas.shape[1]}"
    )


def _place(
    canvas: Tensor, glyph: Tensor, others: list[Tensor], generator: torch.Generator
) -> Tensor | None:
    """Enlarge a glyph and put it where its mask meets no other; None if there is no such place."""
    height, width = canvas.shape
    largest = min(height, width) // 2
    h, w = _draw(_SMALLEST, largest, generator), _draw(_SMALLEST, largest, generator)
    ink = F.interpolate(glyph[None], (h, w), mode="bilinear", align_corners=False)[0, 0]
    taken = torch.stack(others).any(dim=0) if others else torch.zeros_like(canvas, dtype=torch.bool)
    for _ in range(_TRIES):
        y, x = _draw(0, height - h, generator), _draw(0, width - w, generator)
        place = (slice(y, y + h), slice(x, x + w))
        if not (taken[place] & (ink > _INK)).any():
            canvas[place] = torch.maximum(canvas[place], ink)
            mask = torch.zeros_like(taken)
            mask[place] = ink > _INK
            return mask
    return None


def _boxes(masks: Tensor) -> Tensor:
    """The smallest boxes (n, 4) around masks (n, height, width), none of them empty."""
    columns, rows = masks.any(dim=1).int(), masks.any(dim=2).int()
    lows = [columns.argmax(dim=1), rows.argmax(dim=1)]
    highs = [
        line.shape[1] - line.flip(1).argmax(dim=1)  # one past the last pixel
        for line in (columns, rows)
    ]
    return torch.stack([*lows, *highs], dim=1).float()
