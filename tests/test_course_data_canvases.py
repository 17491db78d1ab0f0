"""Canvases of several digits: reproducible, and boxes, masks and labels that belong together."""

from __future__ import annotations

import pytest
import torch
from torchvision.ops import masks_to_boxes

from course.data import canvases


def seeded(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def test_shapes_and_dtypes():
    data = canvases(40, generator=seeded(1))
    assert (data.images.shape, data.images.dtype) == ((40, 1, 48, 64), torch.float32)
    assert data.images.min() == 0 and 0.5 < data.images.max() <= 1
    assert {len(own) for own in data.labels} == {1, 2, 3}
    for boxes, masks, labels in zip(data.boxes, data.masks, data.labels, strict=True):
        n = len(labels)
        assert (boxes.shape, boxes.dtype) == ((n, 4), torch.float32)
        assert (masks.shape, masks.dtype) == ((n, 48, 64), torch.bool)
        assert (labels.shape, labels.dtype) == ((n,), torch.int64)


def test_boxes_are_those_of_the_masks():
    data = canvases(30, 40, 31, (1, 2), generator=seeded(2))
    for boxes, masks in zip(data.boxes, data.masks, strict=True):
        corner = torch.tensor([0, 0, 1, 1])  # torchvision counts the last pixel, not its far side
        assert boxes.equal(masks_to_boxes(masks) + corner)
        assert (boxes[:, 2:] <= torch.tensor([31, 40])).all()


def test_masks_hold_the_ink_and_do_not_overlap():
    data = canvases(30, digits=(3, 4), generator=seeded(3))
    for image, masks in zip(data.images, data.masks, strict=True):
        assert masks.sum(dim=0).max() == 1
        assert (image[0][masks.any(dim=0)] > 0.25).all()
        assert image[0][~masks.any(dim=0)].max() <= 0.25


def test_the_generator_decides():
    first, again = canvases(5, generator=seeded(4)), canvases(5, generator=seeded(4))
    assert first.images.equal(again.images)
    assert all(a.equal(b) for a, b in zip(first.boxes, again.boxes, strict=True))
    assert not first.images.equal(canvases(5, generator=seeded(5)).images)
    torch.manual_seed(1)
    assert canvases(3).images.equal(canvases(3).images)
    assert not canvases(3).images.equal(canvases(3, split="test").images)


def test_labels_vary():
    labels = torch.cat(canvases(200, generator=seeded(6)).labels)
    assert labels.bincount(minlength=10).min() > 10


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((1, 20, 64), "too small"),
        ((1, 48, 64, (0, 2)), "digits is"),
        ((1, 48, 64, (3, 2)), "digits is"),
        ((1, 24, 24, (9, 9)), "no place"),
    ],
)
def test_what_cannot_be(arguments, message):
    with pytest.raises(ValueError, match=message):
        canvases(*arguments)
