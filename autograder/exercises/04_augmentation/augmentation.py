"""Hidden checks, known mistakes and alternatives of `04_augmentation/augmentation`."""

import math
from typing import TYPE_CHECKING, Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from autograder.contract import Exercise, expect, probes, require

if TYPE_CHECKING:  # replacements run in the namespace of the reference
    from autograder.reference.augmentation import pixels_at

# What has the answers ready.
LIBRARIES = ["torchvision", "v2", "cv2", "scipy", "PIL", "kornia", "albumentations"]


def seeded(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def some_boxes(number: int, height: int, width: int) -> Tensor:
    """Random boxes (n, 4), each with an area."""
    low = torch.rand(number, 2) * torch.tensor([width, height]) * 0.6
    size = (0.1 + 0.3 * torch.rand(number, 2)) * torch.tensor([width, height])
    return torch.cat([low, low + size], dim=1)


def some_masks(number: int, height: int, width: int) -> Tensor:
    return torch.rand(number, height, width) < 0.4


def expect_unchanged(student: Any, name: str, names: str, *arguments: Any) -> None:
    """After a call each tensor among the arguments is as it was; `names` are the arguments'."""
    after, _ = student.run(probes.arguments_after, name, *arguments)
    for what, found, given in zip(names.split(), after, arguments, strict=True):
        if isinstance(given, Tensor):
            expect(found, given, f"{name} modifies its {what}", rtol=0, atol=0, dtype=True)


# ----------------------------------------------------------------------------------------------
# hflip

ex = hflip = Exercise("hflip", forbids=LIBRARIES)


def hflip_boxes(boxes: Tensor, size: tuple[int, int]) -> Tensor:
    """The oracle."""
    from torchvision import tv_tensors
    from torchvision.transforms.v2 import functional as TF

    kind = tv_tensors.BoundingBoxFormat.XYXY
    return TF.horizontal_flip_bounding_boxes(boxes, format=kind, canvas_size=size)


@ex.check("images of several shapes and dtypes", points=0.5)
def _(student):
    images = [torch.rand(3, 4, 7), torch.rand(2, 3, 5, 6).double(), torch.rand(6, 9)]
    images += [torch.randint(0, 255, (1, 3, 8), dtype=torch.uint8), torch.rand(3, 7, 4).mT]
    for image in images:
        size = image.shape[-2:]
        got = student.hflip(image, some_boxes(1, *size), some_masks(1, *size))[0]
        expect(got, image.flip(-1), f"image {tuple(image.shape)}", dtype=True)


@ex.check("boxes", points=1)
def _(student):
    for n, height, width in [(4, 5, 9), (1, 12, 4)]:
        boxes = some_boxes(n, height, width)
        got = student.hflip(torch.rand(3, height, width), boxes, some_masks(n, height, width))[1]
        expect(got, hflip_boxes(boxes, (height, width)), f"{n} boxes", dtype=True)
    got = student.hflip(torch.rand(3, 5, 9), boxes.double(), some_masks(1, 5, 9))[1]
    expect(got, hflip_boxes(boxes.double(), (5, 9)), "float64 boxes", dtype=True)
    got = student.hflip(torch.rand(1, 4, 6), torch.zeros(0, 4), some_masks(0, 4, 6))
    expect(got[1], torch.zeros(0, 4), "no box")
    expect(got[2], torch.zeros(0, 4, 6, dtype=torch.bool), "no mask")
    image = torch.rand(1, 4, 6)
    got = student.hflip(image, torch.zeros(0, 4), some_masks(0, 4, 6))
    expect(got[0], image.flip(-1), "the image, no box")


@ex.check("masks, and nothing is modified", points=0.5)
def _(student):
    image, boxes, masks = torch.rand(3, 4, 7), some_boxes(3, 4, 7), some_masks(3, 4, 7)
    got = student.hflip(image, boxes, masks)
    expect(got[2], masks.flip(-1), "masks", dtype=True)
    expect(got[1], hflip_boxes(boxes, (4, 7)), "boxes")
    expect_unchanged(student, "hflip", "image boxes masks", image, boxes, masks)


BOXES = "torch.stack([width - x2, y1, width - x1, y2], dim=1)"
ex.mistake(
    "the boxes stay",
    "What the image goes through its boxes go through.",
    edit=(BOXES, "boxes.clone()"),
)
ex.mistake(
    "the masks stay",
    "What the image goes through its masks go through.",
    edit=("masks.flip(-1)", "masks.clone()"),
)
ex.mistake(
    "left and right sides not exchanged",
    "The old right side is the new left side: x1 has to stay below x2.",
    edit=(BOXES, "torch.stack([width - x1, y1, width - x2, y2], dim=1)"),
)
ex.mistake(
    "pixels counted instead of coordinates",
    "Column j goes to W - 1 - j, but the coordinate x goes to W - x.",
    edit=(BOXES, "torch.stack([width - 1 - x2, y1, width - 1 - x1, y2], dim=1)"),
)
ex.mistake(
    "top and bottom",
    "Left and right are the last axis of an image.",
    edit=[
        (BOXES, "torch.stack([x1, image.shape[-2] - y2, x2, image.shape[-2] - y1], dim=1)"),
        ("image.flip(-1)", "image.flip(-2)"),
        ("masks.flip(-1)", "masks.flip(-2)"),
    ],
)
ex.mistake(
    "the height for the width",
    "x is measured against the width, the last size of the image.",
    edit=("width = image.shape[-1]", "width = image.shape[-2]"),
)
ex.mistake(
    "boxes in [0, 1]",
    "Coordinates are in pixels: the right border is W, not 1.",
    edit=("width = image.shape[-1]", "width = 1"),
)
ex.mistake(
    "turned by 180°",
    "Only left and right are exchanged.",
    edit=("image.flip(-1)", "image.flip(-1, -2)"),
)
ex.mistake(
    "the order of the masks is reversed",
    "The first axis of the masks counts objects: it stays.",
    edit=("masks.flip(-1)", "masks.flip(0, -1)"),
)
ex.mistake(
    "the corner moves, the size does not follow",
    "The new left side is W minus the old right side.",
    edit=(BOXES, "torch.stack([width - x1, y1, width - x1 + (x2 - x1), y2], dim=1)"),
)
ex.mistake(
    "writes into the boxes",
    "The caller's boxes stay as they are: make new ones.",
    edit=(
        BOXES,
        "boxes\n    boxes[:, 0], boxes[:, 2] = (width - x2).clone(), (width - x1).clone()",
    ),
)


ex.mistake(
    "writes into the image",
    "The caller's image stays as it is: flip makes a new one.",
    edit=("return image.flip(-1)", "return image.copy_(image.flip(-1))"),
)
ex.mistake(
    "writes into the masks",
    "The caller's masks stay as they are: flip makes new ones.",
    edit=("masks.flip(-1)", "masks.copy_(masks.flip(-1))"),
)
ex.mistake(
    "no boxes, no flip",
    "An image without objects is flipped too.",
    edit=(
        "x1, y1, x2, y2 = ",
        "if len(boxes) == 0:\n        return image, boxes, masks\n    x1, y1, x2, y2 = ",
    ),
)


@ex.alternative("index tensors, boxes by a sign")
def _(image, boxes, masks):
    width = image.shape[-1]
    order = torch.arange(width - 1, -1, -1)
    moved = boxes.clone()
    moved[:, [0, 2]] = width - boxes[:, [2, 0]]
    return [image[..., order], moved, masks[..., order]]


@ex.alternative("numpy and a loop")
def _(image, boxes, masks):
    import numpy as np

    rows = [[image.shape[-1] - b[2], b[1], image.shape[-1] - b[0], b[3]] for b in boxes.tolist()]
    moved = torch.tensor(rows, dtype=boxes.dtype).reshape(-1, 4)
    mirrored = torch.from_numpy(np.ascontiguousarray(image.numpy()[..., ::-1]))
    return mirrored, moved, torch.fliplr(masks.movedim(0, -1)).movedim(-1, 0)


# ----------------------------------------------------------------------------------------------
# crop

ex = crop = Exercise("crop", defines=["random_window", "crop"], forbids=LIBRARIES)


def windows(
    student: Any, sizes: tuple[int, int, int, int], number: int, seed: int, other: int = 0
) -> list:
    """A probe: places of several windows, all from one generator."""
    import torch

    torch.manual_seed(other)  # the global generator must not matter
    generator = torch.Generator().manual_seed(seed)
    return [list(map(int, student.random_window(*sizes, generator))) for _ in range(number)]


def cropped(image, boxes, masks, labels, window, share):
    """The oracle: torchvision moves and clips, the rule is applied in plain numbers."""
    from torchvision import tv_tensors
    from torchvision.transforms.v2 import functional as TF

    top, left, height, width = window
    kind = tv_tensors.BoundingBoxFormat.XYXY
    clipped, _ = TF.crop_bounding_boxes(boxes, kind, top, left, height, width)
    keep = []
    for old, new in zip(boxes.tolist(), clipped.tolist(), strict=True):
        area, left_over = ((b[2] - b[0]) * (b[3] - b[1]) for b in (old, new))
        keep.append(left_over > 0 and left_over >= share * area)
    keep = torch.tensor(keep, dtype=torch.bool)
    part = (..., slice(top, top + height), slice(left, left + width))
    return image[part], clipped[keep], masks[part][keep], labels[keep]


PARTS = ("image", "boxes", "masks", "labels")


def expect_crop(student, image, boxes, masks, labels, window, share, what=""):
    got = student.crop(image, boxes, masks, labels, window, share)
    want = cropped(image, boxes, masks, labels, window, share)
    for name, a, b in zip(PARTS, got, want, strict=True):
        expect(a, b, f"{name}{what}", dtype=True)


@ex.check("places of the window", points=1)
def _(student):
    got = student.run(windows, (5, 7, 3, 4), 2400, 3)
    counts = torch.zeros(5, 7)
    for top, left in got:
        counts[min(max(top, -1), 4), min(max(left, -1), 6)] += 1
    inside = counts[:3, :4].sum()
    require(bool(inside == 2400), "a window leaves the image or starts elsewhere", got=counts)
    require(
        bool((counts[:3, :4] > 130).all() and (counts[:3, :4] < 275).all()),
        "of 12 places that are equally likely some are drawn too often or too seldom",
        got=counts,
    )


@ex.check("windows: one place, and the generator decides", points=0.5)
def _(student):
    expect(student.run(windows, (4, 6, 4, 6), 3, 0), [[0, 0]] * 3, "a window as large as the image")
    tall = student.run(windows, (9, 6, 4, 6), 200, 1)
    expect(sorted({top for top, _ in tall}), list(range(6)), "rows where only they are free")
    expect([left for _, left in tall], [0] * 200, "columns where only rows are free")
    wide = student.run(windows, (4, 9, 4, 6), 200, 2)
    expect(sorted({left for _, left in wide}), list(range(4)), "columns where only they are free")
    expect([top for top, _ in wide], [0] * 200, "rows where only columns are free")
    first, again = (student.run(windows, (90, 70, 4, 5), 6, 5, other) for other in (1, 2))
    require(first == again, "the same generator gives other windows", got=[first, again])
    other = student.run(windows, (90, 70, 4, 5), 6, 6)
    require(first != other, "another generator gives the same windows", got=[first, other])


@ex.check("boxes are moved and clipped", points=1)
def _(student):
    image, masks = torch.rand(3, 20, 30), some_masks(6, 20, 30)
    boxes, labels = some_boxes(6, 20, 30), torch.tensor([4, 2, 9, 7, 5, 3])
    for window in [(0, 0, 20, 30), (3, 7, 11, 14), (9, 1, 10, 8), (2, 12, 5, 18)]:
        expect_crop(student, image, boxes, masks, labels, window, 0.1, f", window {window}")
    expect_crop(student, image, boxes.double(), masks, labels, (3, 7, 11, 14), 0.3, ", float64")
    large = torch.tensor([[1.0, 0, 29, 20], [0, 2, 30, 19], [4, 1, 27, 20]])
    for window in [(1, 3, 17, 5), (3, 2, 5, 26), (2, 4, 16, 6)]:
        some = (image[0], large, masks[:3], labels[:3], window, 0.01)
        expect_crop(student, *some, f", large boxes, image (H, W), window {window}")


EDGE = torch.tensor(
    [[0.0, 0, 4, 4], [2.0, 0, 6, 8], [-0.0, 4, 8, 8], [4.0, 4, 12, 12], [0.0, 0, 2, 2]]
)


@ex.check("how much has to be left", points=1)
def _(student):
    image, masks, labels = torch.rand(1, 12, 16), some_masks(5, 12, 16), torch.arange(5) + 10
    for share in [0.0, 0.25, 0.26, 0.5, 0.75, 1.0]:
        for window in [(2, 2, 8, 10), (4, 2, 6, 14), (0, 4, 5, 7)]:
            what = f", min_visible {share}, window {window}"
            expect_crop(student, image, EDGE, masks, labels, window, share, what)
    corner = torch.tensor([[0.0, 0, 2.5, 2.25], [1, 3, 2.5, 4], [11.75, 9.5, 14, 12], [3, 3, 4, 4]])
    some = (image, corner, masks[:4], labels[:4])
    expect_crop(student, *some, (2, 2, 8, 10), 0.01, ", less than a pixel is left")
    inner = torch.tensor([[2.0, 2, 12, 10], [3, 4, 7, 5], [2, 3, 4, 10], [1.75, 3, 4, 9]])
    whole = (image, inner, masks[:4], labels[:4])
    expect_crop(student, *whole, (2, 2, 8, 10), 1.0, ", all but one are wholly visible")
    outer = torch.tensor([[-4.0, 0, 4, 4], [10, 8, 18, 16], [0, -8, 4, 4], [12, 4, 20, 8]])
    what = ", boxes stick out of the image"
    expect_crop(student, image, outer, masks[:4], labels[:4], (0, 0, 12, 16), 0.5, what)
    expect_crop(student, image, outer, masks[:4], labels[:4], (0, 0, 12, 16), 0.3, what)
    blank = torch.zeros_like(masks)
    expect_crop(student, image, EDGE, blank, labels, (2, 2, 8, 10), 0.25, ", empty masks")
    got = student.crop(image, EDGE, masks, labels, (2, 2, 8, 10))
    want = cropped(image, EDGE, masks, labels, (2, 2, 8, 10), 0.25)
    expect(got[3], want[3], "labels with the default")
    expect(got[1], want[1], "boxes with the default")


@ex.check("nothing is left, nothing was there, nothing is modified", points=0.5)
def _(student):
    image, boxes = torch.rand(2, 3, 9, 11), torch.tensor([[0.0, 0, 3, 3], [6, 1, 9, 4]])
    masks, labels = some_masks(2, 9, 11), torch.tensor([1, 0])
    expect_crop(student, image, boxes, masks, labels, (5, 2, 4, 6), 0.25, ", all dropped")
    none = (torch.zeros(0, 4), some_masks(0, 9, 11), torch.zeros(0, dtype=torch.int64))
    expect_crop(student, image, *none, (1, 2, 4, 6), 0.25, ", no objects")
    arguments = (image, boxes, masks, labels, (1, 2, 6, 7), 0.1)
    expect_crop(student, *arguments)
    names = "image boxes masks labels window share"
    expect_unchanged(student, "crop", names, *arguments)
    some = (torch.rand(1, 12, 16), EDGE, some_masks(5, 12, 16), torch.arange(5) + 10)
    expect_unchanged(student, "crop", names, *some, (2, 2, 8, 10), 0.5)


ex.mistake(
    "the last place is never drawn",
    "randint's upper end is excluded: H - h + 1 places.",
    edit=[
        ("height - out_height + 1", "max(height - out_height, 1)"),
        ("width - out_width + 1", "max(width - out_width, 1)"),
    ],
)
ex.mistake(
    "one draw for both",
    "Rows and columns are drawn independently.",
    edit=(
        "left = torch.randint(0, width - out_width + 1, (), generator=generator)",
        "left = top % (width - out_width + 1)",
    ),
)
ex.mistake(
    "always the centre",
    "The place is random.",
    edit=(
        "return int(top), int(left)",
        "return (height - out_height) // 2, (width - out_width) // 2",
    ),
)
ex.mistake(
    "left and top exchanged in the window",
    "The row comes first: top, left.",
    edit=("return int(top), int(left)", "return int(left), int(top)"),
)
ex.mistake(
    "the global generator",
    "All randomness comes from the generator that is given.",
    edit=[
        ("height - out_height + 1, (), generator=generator", "height - out_height + 1, ()"),
        ("width - out_width + 1, (), generator=generator", "width - out_width + 1, ()"),
    ],
)
ex.mistake(
    "boxes not moved",
    "Coordinates are counted from the window's corner: subtract left and top.",
    edit=(" - boxes.new_tensor([left, top, left, top])", ""),
)
ex.mistake(
    "top subtracted from x",
    "x is horizontal: it loses left, y loses top.",
    edit=("[left, top, left, top]", "[top, left, top, left]"),
)
ex.mistake(
    "not clipped",
    "A box ends where the window ends.",
    edit=(
        "clipped = clipped.clamp(min=0).minimum(boxes.new_tensor([width, height, width, height]))",
        "pass",
    ),
)
ex.mistake(
    "clipped above only",
    "The window also has a left and an upper side, at 0.",
    edit=(".clamp(min=0)", ""),
)
ex.mistake(
    "clipped below only",
    "The window also has a right and a lower side.",
    edit=(".minimum(boxes.new_tensor([width, height, width, height]))", ""),
)
ex.mistake(
    "height and width exchanged when clipping",
    "x is clipped at the width.",
    edit=("[width, height, width, height]", "[height, width, height, width]"),
)
ex.mistake(
    "all objects stay",
    "An object of which too little is left is dropped.",
    edit=("keep = (visible > 0) & (visible >= min_visible * area)", "keep = area > 0"),
)
ex.mistake(
    "labels of dropped objects stay",
    "Boxes, masks and labels are dropped together.",
    edit=("labels[keep]", "labels"),
)
ex.mistake(
    "masks of dropped objects stay",
    "Boxes, masks and labels are dropped together.",
    edit=("masks[keep][:, rows, columns]", "masks[:, rows, columns]"),
)
ex.mistake(
    "more than the share is asked for",
    "Exactly min_visible is enough: A' >= min_visible * A.",
    edit=("visible >= min_visible", "visible > min_visible"),
)
ex.mistake(
    "boxes without area stay",
    "With min_visible 0 an object of which nothing is left is dropped all the same.",
    edit=("(visible > 0) & ", ""),
)
ex.mistake(
    "the share of the window",
    "The visible area is compared with the box's own area, not with the window's.",
    edit=("min_visible * area", "min_visible * height * width"),
)
ex.mistake(
    "kept by its centre",
    "The visible share of the area decides.",
    edit=(
        "keep = (visible > 0) & (visible >= min_visible * area)",
        "centre = (boxes[:, :2] + boxes[:, 2:]) / 2 - boxes.new_tensor([left, top])\n"
        "    size = boxes.new_tensor([width, height])\n"
        "    keep = ((centre > 0) & (centre < size)).all(dim=1)",
    ),
)
ex.mistake(
    "share of each side",
    "The share of the area decides, not that of each side.",
    edit=(
        "keep = (visible > 0) & (visible >= min_visible * area)",
        "sides, left_over = (b[:, 2:] - b[:, :2] for b in (boxes, clipped))\n"
        "    keep = (left_over >= min_visible * sides).all(dim=1) & (visible > 0)",
    ),
)
ex.mistake(
    "the masks keep their size",
    "Masks are cut like the image.",
    edit=("masks[keep][:, rows, columns]", "masks[keep]"),
)
ex.mistake(
    "share of the mask",
    "The share of the box's area decides here, not that of the mask.",
    edit=(
        "keep = (visible > 0) & (visible >= min_visible * area)",
        "part = masks[:, top : top + height, left : left + width].sum(dim=(1, 2))\n"
        "    keep = (part > 0) & (part >= min_visible * masks.sum(dim=(1, 2)))",
    ),
)
ex.mistake(
    "moves the caller's boxes",
    "The caller's boxes stay as they are: compute new ones.",
    edit=(
        "clipped = boxes - boxes.new_tensor([left, top, left, top])",
        "clipped = boxes.sub_(boxes.new_tensor([left, top, left, top]))",
    ),
)


ex.mistake(
    "wholly visible is not enough",
    "A box that is wholly visible has A' = A: with min_visible 1 it stays.",
    edit=(
        "visible >= min_visible * area",
        "(visible > min_visible * area if min_visible == 1 else visible >= min_visible * area)",
    ),
)
ex.mistake(
    "y clipped at the shorter side",
    "y is clipped at the height, also where the window is higher than wide.",
    edit=("[width, height, width, height]", "2 * [width, min(width, height)]"),
)
ex.mistake(
    "objects with an empty mask go",
    "The share of the box's area alone decides.",
    edit=(
        "keep = (visible > 0) & (visible >= min_visible * area)",
        "keep = (visible > 0) & (visible >= min_visible * area)\n"
        "    keep &= masks[:, top : top + height, left : left + width].flatten(1).any(dim=1)",
    ),
)
ex.mistake(
    "the box's area inside the image",
    "A is the area of the whole box, also of one that sticks out of the image.",
    edit=(
        "area, visible = ((b[:, 2:] - b[:, :2]).prod(dim=1) for b in (boxes, clipped))",
        "size = boxes.new_tensor([image.shape[-1], image.shape[-2]] * 2)\n"
        "    inside = boxes.clamp(min=0).minimum(size)\n"
        "    area, visible = ((b[:, 2:] - b[:, :2]).prod(dim=1) for b in (inside, clipped))",
    ),
)
ex.mistake(
    "full height, no draw",
    "Where only one row is possible the column is still drawn.",
    edit=(
        "top = torch.randint(",
        "if height == out_height:\n        return 0, 0\n    top = torch.randint(",
    ),
)
ex.mistake(
    "images with channels only",
    "The image is (..., H, W): it may have no channel axis.",
    edit=(
        "top, left, height, width = window",
        "top, left, height, width = window\n    _, _, _ = image.shape[-3:]",
    ),
)
ex.mistake(
    "erases the boxes that go",
    "The caller's boxes stay as they are, those of dropped objects too.",
    edit=("rows, columns = slice(", "boxes[~keep] = 0\n    rows, columns = slice("),
)


@ex.alternative("a loop over the objects", replaces="crop")
def _(image, boxes, masks, labels, window, min_visible=0.25):
    top, left, height, width = window
    kept, new = [], []
    for index, (x1, y1, x2, y2) in enumerate(boxes.tolist()):
        box = [
            min(max(x1 - left, 0.0), float(width)),
            min(max(y1 - top, 0.0), float(height)),
            min(max(x2 - left, 0.0), float(width)),
            min(max(y2 - top, 0.0), float(height)),
        ]
        area = (box[2] - box[0]) * (box[3] - box[1])
        if area > 0 and area >= min_visible * (x2 - x1) * (y2 - y1):
            kept.append(index)
            new.append(box)
    index = torch.tensor(kept, dtype=torch.int64)
    found = torch.tensor(new, dtype=boxes.dtype).reshape(-1, 4)
    image = image.narrow(-2, top, height).narrow(-1, left, width).clone()
    return image, found, masks[index, top : top + height, left : left + width], labels[index]


@ex.alternative("clips first, moves then", replaces="crop")
def _(image, boxes, masks, labels, window, min_visible=0.25):
    top, left, h, w = window
    clipped = torch.stack(
        [
            boxes[:, 0].clamp(left, left + w) - left,
            boxes[:, 1].clamp(top, top + h) - top,
            boxes[:, 2].clamp(left, left + w) - left,
            boxes[:, 3].clamp(top, top + h) - top,
        ],
        dim=1,
    )
    sides = clipped[:, 2:] - clipped[:, :2]
    visible = sides[:, 0] * sides[:, 1]
    area = (boxes[:, 2] - boxes[:, 0]) * (boxes[:, 3] - boxes[:, 1])
    keep = torch.logical_and(visible > 0, visible >= min_visible * area).nonzero()[:, 0]
    masks = masks.index_select(0, keep)[..., top : top + h, left : left + w]
    return [image[..., top : top + h, left : left + w], clipped[keep], masks, labels[keep]]


@ex.alternative("one number for the place, columns first", replaces="random_window")
def _(height, width, out_height, out_width, generator):
    down, across = height - out_height + 1, width - out_width + 1
    place = torch.randint(down * across, (1,), generator=generator).item()
    return place % down, place // down


@ex.alternative("uniform numbers, rounded down", replaces="random_window")
def _(height, width, out_height, out_width, generator):
    left, top = torch.rand(2, generator=generator, dtype=torch.float64).tolist()
    return int(top * (height - out_height + 1)), int(left * (width - out_width + 1))


ex.equivalent(
    "b[:, 2:] - b[:, :2] -> b[:, :2] - b[:, 2:]",
    "Both sides change their sign, and their product does not.",
)


# ----------------------------------------------------------------------------------------------
# affine_matrix

ex = affine_matrix = Exercise("affine_matrix", forbids=LIBRARIES)


def matrix_by_steps(height, width, degrees=0.0, scale=1.0, translate=(0.0, 0.0)) -> Tensor:
    """The oracle: to the centre, rotate and scale, back, translate; in float64."""
    angle = math.radians(degrees)

    def move(x: float, y: float) -> Tensor:
        return torch.tensor([[1.0, 0, x], [0, 1, y], [0, 0, 1]], dtype=torch.float64)

    turn = torch.eye(3, dtype=torch.float64)
    turn[:2, :2] = scale * torch.tensor(
        [[math.cos(angle), -math.sin(angle)], [math.sin(angle), math.cos(angle)]]
    )
    back = move(*translate) @ move(width / 2, height / 2)
    return back @ turn @ move(-width / 2, -height / 2)


def expect_matrix(student, what, *args, **kwargs):
    got = student.affine_matrix(*args, **kwargs)
    expect(got, matrix_by_steps(*args, **kwargs).float(), what, atol=2e-4, dtype=True)


@ex.check("rotation about the centre, odd and even sizes", points=1)
def _(student):
    for height, width, degrees in [
        (4, 6, 30),
        (5, 9, -75),
        (8, 8, 40),
        (31, 20, 180),
        (7, 3, 400.5),
    ]:
        expect_matrix(student, f"{height} x {width}, {degrees}°", height, width, degrees)


@ex.check("scale about the centre", points=0.5)
def _(student):
    for height, width, scale in [(4, 6, 2.0), (9, 5, 0.3)]:
        expect_matrix(student, f"{height} x {width}, scale {scale}", height, width, scale=scale)


@ex.check("translation", points=0.5)
def _(student):
    expect_matrix(student, "moved", 8, 5, translate=(3.5, -2.0))
    expect_matrix(student, "nothing to do", 8, 5)


@ex.check("all of it", points=1)
def _(student):
    expect_matrix(student, "all parameters", 40, 60, 33.0, 1.7, (-6.0, 4.5))
    expect_matrix(student, "all parameters, by name", 13, 7, translate=(2.0, 9.0), scale=0.6,
                  degrees=-140.0)  # fmt: skip


ex.mistake(
    "the angle is taken for radians",
    "math.cos wants radians: math.radians(degrees).",
    edit=("math.radians(degrees)", "degrees"),
)
ex.mistake(
    "turns the other way",
    "With y down a positive angle is clockwise: the minus stands above, at a12.",
    edit=("math.radians(degrees)", "-math.radians(degrees)"),
)
ex.mistake(
    "about the corner",
    "Rotation and scale leave the centre of the image where it is.",
    edit=("cx, cy = width / 2, height / 2", "cx, cy = 0.0, 0.0"),
)
ex.mistake(
    "about the centre of pixels counted from 0",
    "Coordinates run from 0 to W: the centre is W / 2, not (W - 1) / 2.",
    edit=("cx, cy = width / 2, height / 2", "cx, cy = (width - 1) / 2, (height - 1) / 2"),
)
ex.mistake(
    "the centre rounded down",
    "The centre of an odd number of pixels is no whole number.",
    edit=("cx, cy = width / 2, height / 2", "cx, cy = width // 2, height // 2"),
)
ex.mistake(
    "height and width exchanged",
    "The centre is (W / 2, H / 2): x belongs to the width.",
    edit=("cx, cy = width / 2, height / 2", "cx, cy = height / 2, width / 2"),
)
ex.mistake(
    "translation first",
    "The translation comes after rotation and scale, and is changed by neither.",
    edit=[
        (
            "x = cx - cos * cx + sin * cy + translate[0]",
            "tx, ty = translate\n    x = cx - cos * (cx - tx) + sin * (cy - ty)",
        ),
        (
            "y = cy - sin * cx - cos * cy + translate[1]",
            "y = cy - sin * (cx - tx) - cos * (cy - ty)",
        ),
    ],
)
ex.mistake(
    "translation as (down, right)",
    "t_x comes first and goes to the right.",
    edit=[
        ("+ translate[0]", "+ translate[1]"),
        ("cos * cy + translate[1]", "cos * cy + translate[0]"),
    ],
)
ex.mistake(
    "translation as a share of the size",
    "The translation is given in pixels.",
    edit=[
        ("+ translate[0]", "+ translate[0] * width"),
        ("cos * cy + translate[1]", "cos * cy + translate[1] * height"),
    ],
)
ex.mistake(
    "new to old",
    "The matrix maps old points to new ones; its inverse does the other.",
    edit=(
        "return torch.tensor([[cos, -sin, x], [sin, cos, y], [0.0, 0.0, 1.0]])",
        "return torch.tensor([[cos, -sin, x], [sin, cos, y], [0.0, 0.0, 1.0]]).inverse()",
    ),
)
ex.mistake(
    "for rows of points",
    "The matrix stands left of the column (x, y, 1): the translation is its last column.",
    edit=("[0.0, 0.0, 1.0]])", "[0.0, 0.0, 1.0]]).T"),
)
ex.mistake(
    "the scale is forgotten",
    "The rotation is multiplied by the scale.",
    edit=(
        "cos, sin = scale * math.cos(angle), scale * math.sin(angle)",
        "cos, sin = math.cos(angle), math.sin(angle)",
    ),
)
ex.mistake(
    "only the cosines are scaled",
    "All four entries of the rotation are multiplied by the scale.",
    edit=("scale * math.sin(angle)", "math.sin(angle)"),
)
ex.mistake(
    "float64",
    "The stub asks for float32.",
    edit=("[0.0, 0.0, 1.0]])", "[0.0, 0.0, 1.0]], dtype=torch.float64)"),
)


@ex.alternative("a product of matrices")
def _(height, width, degrees=0.0, scale=1.0, translate=(0.0, 0.0)):
    def move(x, y):
        return torch.tensor([[1.0, 0.0, x], [0.0, 1.0, y], [0.0, 0.0, 1.0]], dtype=torch.float64)

    angle = torch.deg2rad(torch.tensor(float(degrees), dtype=torch.float64))
    c, s = scale * angle.cos(), scale * angle.sin()
    zero, one = torch.zeros_like(c), torch.ones_like(c)
    turn = torch.stack([c, -s, zero, s, c, zero, zero, zero, one]).reshape(3, 3)
    back = move(width / 2 + translate[0], height / 2 + translate[1])
    return (back @ turn @ move(-width / 2, -height / 2)).float()


@ex.alternative("numpy, where three points go")
def _(height, width, degrees=0.0, scale=1.0, translate=(0.0, 0.0)):
    import numpy as np

    a = np.deg2rad(degrees)
    linear = scale * np.array([[np.cos(a), -np.sin(a)], [np.sin(a), np.cos(a)]])
    centre = np.array([width, height]) / 2
    matrix = np.eye(3)
    matrix[:2, :2] = linear
    matrix[:2, 2] = centre + np.array(translate) - linear @ centre
    return torch.from_numpy(matrix.astype(np.float32))


@ex.alternative("complex numbers")
def _(height, width, degrees=0.0, scale=1.0, translate=(0.0, 0.0)):
    import cmath

    factor = scale * cmath.exp(1j * math.radians(degrees))
    centre = complex(width / 2, height / 2)
    offset = centre - factor * centre + complex(*translate)
    rows = [[factor.real, -factor.imag, offset.real], [factor.imag, factor.real, offset.imag]]
    return torch.tensor([*rows, [0, 0, 1]], dtype=torch.float32)


# ----------------------------------------------------------------------------------------------
# inverse

SAMPLERS = ["grid_sample", "affine_grid", "grid_sampler", "grid_sampler_2d", "interpolate"]
ATEN = ["aten::grid_sampler_2d", "aten::affine_grid_generator", "aten::upsample_bilinear2d"]

ex = inverse = Exercise(
    "inverse",
    defines=["source_points", "pixels_at", "sample_nearest"],
    forbids=[*LIBRARIES, *SAMPLERS, *ATEN],
)


def some_matrices(number: int, height: int, width: int) -> Tensor:
    """Matrices that also shear, (B, 3, 3) float32, far from singular."""
    turn = matrix_by_steps(height, width, 35.0, 1.2, (1.0, -0.7)).float()
    shear = torch.eye(3) + 0.25 * (2 * torch.rand(number, 3, 3) - 1)
    shear[:, 2] = torch.tensor([0.0, 0.0, 1.0])
    return turn @ shear


def points_by_loop(matrices: Tensor, height: int, width: int) -> Tensor:
    """The oracle: one equation to solve for each pixel, in float64."""
    points = torch.empty(len(matrices), height, width, 2, dtype=torch.float64)
    for b, matrix in enumerate(matrices.double()):
        for i in range(height):
            for j in range(width):
                centre = torch.tensor([j + 0.5, i + 0.5, 1.0], dtype=torch.float64)
                points[b, i, j] = torch.linalg.solve(matrix, centre)[:2]
    return points


def pixels_by_loop(images: Tensor, rows: Tensor, columns: Tensor) -> Tensor:
    """The oracle, pixel by pixel."""
    found = images.new_zeros(*images.shape[:2], *rows.shape[1:])
    height, width = images.shape[-2:]
    for b in range(len(images)):
        for i in range(rows.shape[1]):
            for j in range(rows.shape[2]):
                row, column = int(rows[b, i, j]), int(columns[b, i, j])
                if 0 <= row < height and 0 <= column < width:
                    found[b, :, i, j] = images[b, :, row, column]
    return found


def inner_points(shape: tuple[int, ...], height: int, width: int) -> Tensor:
    """Points in and around an image, none near the border of a pixel."""
    low, size = -2, torch.tensor([width + 4, height + 4])
    whole = (torch.rand(*shape, 2) * size).floor() + low
    return whole + 0.1 + 0.8 * torch.rand(*shape, 2)


@ex.check("where pixels come from", points=1.5)
def _(student):
    for number, height, width in [(3, 4, 6), (1, 5, 2), (2, 1, 3)]:
        matrices = some_matrices(number, height, width)
        want = points_by_loop(matrices, height, width)
        what = f"{number} matrices, {height} x {width}"
        expect(student.source_points(matrices, height, width), want.float(), what, atol=1e-3)
    double = some_matrices(2, 5, 4).double()
    got = student.source_points(double, 3, 7)
    expect(got, points_by_loop(double, 3, 7), "float64", rtol=1e-9, atol=1e-9, dtype=True)
    expect_unchanged(student, "source_points", "matrices height width", double, 3, 7)


@ex.check("where pixels come from: turn, scale and shift apart", points=0.5)
def _(student):
    for name, arguments in {
        "turned": (30.0, 1.0),
        "enlarged": (0.0, 2.0),
        "moved": (0.0, 1.0, (2.0, -1.0)),
    }.items():
        matrices = matrix_by_steps(4, 7, *arguments).float()[None]
        want = points_by_loop(matrices, 4, 7).float()
        expect(student.source_points(matrices, 4, 7), want, name, atol=1e-3)


@ex.check("pixels inside and outside", points=1)
def _(student):
    for shape, out in [((3, 2, 4, 7), (5, 3)), ((1, 3, 6, 2), (2, 9))]:
        images = 0.5 + torch.rand(shape)
        rows = torch.randint(-9, shape[2] + 9, (shape[0], *out))
        columns = torch.randint(-3, shape[3] + 3, (shape[0], *out))
        want = pixels_by_loop(images, rows, columns)
        expect(student.pixels_at(images, rows, columns), want, f"images {shape}", dtype=True)


@ex.check("pixels: the border, and several dtypes", points=1)
def _(student):
    rows = torch.tensor([[[-1, 0, 3, 4]], [[2, -4, 0, 3]]])
    columns = torch.tensor([[[0, -1, 5, 4]], [[4, 0, 0, -5]]])
    whole = torch.randint(1, 99, (2, 3, 4, 5))
    for images in [whole, whole > 50, whole.double() / 7, whole.to(torch.uint8), whole.mT.mT]:
        got = student.pixels_at(images, rows, columns)
        want = pixels_by_loop(images, rows, columns)
        expect(got, want, f"{images.dtype}", dtype=True)
    expect_unchanged(student, "pixels_at", "images rows columns", whole, rows, columns)
    for far in (2**32, -(2**32)):
        got = student.pixels_at(whole, rows, columns + far)
        expect(got, torch.zeros_like(got), f"columns moved by {far}", dtype=True)
    large = whole + 2**24
    got = student.pixels_at(large, rows, columns)
    expect(got, pixels_by_loop(large, rows, columns), "int64 above 2^24", rtol=0, atol=0)
    big = torch.full((1, 1, 3, 3), float("inf"))
    require(
        not bool(
            torch.as_tensor(student.pixels_at(big, rows[:1] * 0, columns[:1] * 0)).isnan().any()
        ),
        "an infinite pixel turns into NaN",
    )


@ex.check("nearest neighbour", points=1)
def _(student):
    for shape, out in [((2, 3, 5, 8), (4, 6)), ((1, 1, 7, 3), (3, 2))]:
        images, points = 0.5 + torch.rand(shape), inner_points((shape[0], *out), *shape[2:])
        size = torch.tensor([shape[3], shape[2]])
        want = F.grid_sample(images, 2 * points / size - 1, mode="nearest", align_corners=False)
        expect(student.sample_nearest(images, points), want, f"images {shape}", dtype=True)
    classes = torch.randint(1, 9, (2, 1, 5, 8))
    for images in [classes, classes > 4]:
        points = inner_points((2, 3, 4), 5, 8)
        columns, rows = points.floor().long().unbind(-1)
        want = pixels_by_loop(images, rows, columns)
        expect(student.sample_nearest(images, points), want, f"{images.dtype}", dtype=True)
    expect_unchanged(student, "sample_nearest", "images points", classes, points)
    edge = torch.tensor([[[[1.0, 1.0], [3.0, 2.0], [8.0, 5.0]]]]).double() - 1e-12
    columns, rows = edge.floor().long().unbind(-1)
    want = pixels_by_loop(classes[:1], rows, columns)
    expect(student.sample_nearest(classes[:1], edge), want, "1e-12 before a border, float64")
    for below in [5e-5, 1e-5]:  # a little less than a whole number belongs to the pixel before
        points = torch.tensor([[[[1.0, 1.0], [3.0, 2.0], [8.0, 5.0], [0.0, 0.0]]]]).double() - below
        columns, rows = points.floor().long().unbind(-1)
        want = pixels_by_loop(classes[:1], rows, columns)
        got = student.sample_nearest(classes[:1], points)
        expect(got, want, f"{below} before the border of a pixel")
        got = student.sample_nearest(classes[:1], points.float())
        expect(got, want, f"{below} before the border of a pixel, float32")
    corners = torch.tensor([[[[0.0, 0.0], [7.0, 4.0], [8.0, 2.0], [3.0, 5.0], [-1.0, 0.0]]]])
    want = torch.stack([classes[0, 0, 0, 0], classes[0, 0, 4, 7], *(3 * [torch.tensor(0)])])
    got = student.sample_nearest(classes[:1], corners)
    expect(got, want.reshape(1, 1, 1, 5), "points on the borders of pixels")


ex.mistake(
    "forward, not inverse",
    "For each new pixel the old point is asked for: multiply by the inverse.",
    edit=("torch.linalg.inv(matrices)", "matrices"),
)
ex.mistake(
    "the transpose for the inverse",
    "Only a rotation about the origin has its transpose as its inverse.",
    edit=("torch.linalg.inv(matrices)", "matrices.mT"),
)
ex.mistake(
    "corners, not centres",
    "A pixel is asked at its centre, half a pixel from its corner.",
    edit=("[x, y, ", "[x - 0.5, y - 0.5, "),
)
ex.mistake(
    "row first",
    "Points are (x, y): the column comes first.",
    edit=("[x, y, ", "[y, x, "),
)
ex.mistake(
    "the first matrix for all",
    "Each image has a matrix of its own.",
    edit=("torch.linalg.inv(matrices)", "torch.linalg.inv(matrices[:1]).expand_as(matrices)"),
)
ex.mistake(
    "points shifted by half a pixel",
    "The points stay in continuous coordinates; subtract nothing.",
    edit=("[..., :2]", "[..., :2] - 0.5"),
)
ex.mistake(
    "translation dropped",
    "The third coordinate of a centre is 1: it carries the translation.",
    edit=("torch.ones_like(x)", "torch.zeros_like(x)"),
)
ex.mistake(
    "negative indices wrap around",
    "Index -1 is the last row in Python; outside the image there is 0.",
    edit=("(rows >= 0) & (rows < height) & (columns >= 0) & (columns < width)",
          "(rows < height) & (columns < width)"),
)  # fmt: skip
ex.mistake(
    "repeats the border",
    "Outside the image there is 0, not the nearest pixel.",
    edit=("(found * inside[..., None])", "found"),
)
ex.mistake(
    "rows and columns exchanged",
    "Images are indexed by row, then column.",
    edit=(
        "rows.clamp(0, height - 1), columns.clamp(0, width - 1)]",
        "columns.clamp(0, height - 1), rows.clamp(0, width - 1)]",
    ),
)
ex.mistake(
    "all places read from the first image",
    "The places at index b are those of image b.",
    edit=("(images.device)[", "(images.device)[:1].expand(batch)["),
)
ex.mistake(
    "channels last",
    "The result is (B, C, h, w).",
    edit=(".movedim(-1, 1)", ""),
)
ex.mistake(
    "the border pixel counts as outside",
    "Row H - 1 is the last one inside.",
    edit=("(rows < height)", "(rows < height - 1)"),
)
ex.mistake(
    "float in, float out",
    "Masks stay bool and labels stay whole: keep the dtype.",
    edit=("(found * inside[..., None])", "(found.float() * inside[..., None])"),
)
ex.mistake(
    "rounds the coordinate",
    "The pixel [j, j + 1) covers x: that is the floor, not the nearest whole number.",
    edit=("points.floor()", "points.round()"),
)
ex.mistake(
    "cuts towards zero",
    "-0.3 lies outside, in column -1: floor first, then make it an integer.",
    edit=("points.floor().long()", "points.long()"),
)
ex.mistake(
    "nearest centre, with a small margin",
    "A point just below a border belongs to the pixel before it: floor needs no margin.",
    edit=("points.floor()", "(points - 0.5 + 1e-4).round()"),
)
ex.mistake(
    "y taken for the column",
    "Points are (x, y): x gives the column.",
    edit=("columns, rows = points", "rows, columns = points"),
)


ex.mistake(
    "inverts the caller's matrices",
    "The caller's matrices stay as they are.",
    edit=("torch.linalg.inv(matrices)", "matrices.copy_(torch.linalg.inv(matrices))"),
)
ex.mistake(
    "rounds the caller's points",
    "The caller's points stay as they are: floor, not floor_.",
    edit=("points.floor()", "points.floor_()"),
)
ex.mistake(
    "pixels through float32",
    "Whole numbers above 2^24 do not survive float32: index the images as they are.",
    edit=[
        ("found = images[index", "found = images.float()[index"),
        ("(found * inside[..., None])", "(found.to(images.dtype) * inside[..., None])"),
    ],
)
ex.mistake(
    "places as 32-bit integers",
    "Rows and columns are int64 of any value: 2^32 becomes 0 in 32 bits.",
    edit=(
        "batch, _, height, width = images.shape",
        "batch, _, height, width = images.shape\n"
        "    rows, columns = rows.int().long(), columns.int().long()",
    ),
)
ex.mistake(
    "points through float32",
    "Points in float64 stay in float64: rounding moves them over the border of a pixel.",
    edit=("points.floor()", "points.float().floor()"),
)


@ex.alternative("solve, one matrix at a time", replaces="source_points")
def _(matrices, height, width):
    y, x = torch.meshgrid(torch.arange(height), torch.arange(width), indexing="ij")
    flat = torch.stack([x.flatten() + 0.5, y.flatten() + 0.5, torch.ones(height * width)])
    results = [torch.linalg.solve(m, flat.to(m))[:2].T.reshape(height, width, 2) for m in matrices]
    return torch.stack(results)


@ex.alternative("linear part and translation apart", replaces="source_points")
def _(matrices, height, width):
    linear = torch.linalg.inv(matrices[:, :2, :2].double())
    x = torch.arange(width, dtype=torch.float64) + 0.5
    y = torch.arange(height, dtype=torch.float64) + 0.5
    dx = x[None, None, :] - matrices[:, 0, 2, None, None].double()
    dy = y[None, :, None] - matrices[:, 1, 2, None, None].double()
    a = linear[:, :, :, None, None]
    return torch.stack(
        [a[:, 0, 0] * dx + a[:, 0, 1] * dy, a[:, 1, 0] * dx + a[:, 1, 1] * dy], dim=-1
    ).to(matrices.dtype)


@ex.alternative("a padded image", replaces="pixels_at")
def _(images, rows, columns):
    height, width = images.shape[-2:]
    padded = images.new_zeros(*images.shape[:2], height + 2, width + 2)
    padded[..., 1:-1, 1:-1] = images
    i, j = rows.clamp(-1, height) + 1, columns.clamp(-1, width) + 1
    return torch.stack([image[:, a, b] for image, a, b in zip(padded, i, j, strict=True)])


@ex.alternative("gather on flat pixels", replaces="pixels_at")
def _(images, rows, columns):
    batch, channels, height, width = images.shape
    inside = (rows >= 0) & (rows < height) & (columns >= 0) & (columns < width)
    place = torch.where(inside, rows * width + columns, 0).reshape(batch, 1, -1)
    found = images.reshape(batch, channels, -1).gather(2, place.expand(-1, channels, -1))
    found = found.reshape(batch, channels, *rows.shape[1:])
    return torch.where(inside[:, None], found, torch.zeros((), dtype=images.dtype))


@ex.alternative("floor by division", replaces="sample_nearest")
def _(images, points):
    index = torch.div(points, 1, rounding_mode="floor").to(torch.int64)
    return pixels_at(images, index[..., 1], index[..., 0])


# ----------------------------------------------------------------------------------------------
# bilinear

ex = bilinear = Exercise(
    "bilinear",
    defines=["sample_bilinear"],
    forbids=[*LIBRARIES, *SAMPLERS, *ATEN, "map_coordinates", "EmbeddingBag"],
)


def by_grid_sample(images: Tensor, points: Tensor) -> Tensor:
    """The oracle: torch's own, in its coordinates from -1 to 1."""
    size = points.new_tensor([images.shape[3], images.shape[2]])
    return F.grid_sample(images, 2 * points / size - 1, align_corners=False)


@ex.check("inside the image", points=1.5)
def _(student):
    for shape, out in [((2, 3, 5, 8), (4, 6)), ((1, 1, 7, 3), (3, 2)), ((3, 2, 2, 9), (1, 5))]:
        images = torch.randn(shape)
        size = torch.tensor([shape[3], shape[2]])
        points = 0.5 + torch.rand(shape[0], *out, 2) * (size - 1)
        want = by_grid_sample(images, points)
        expect(student.sample_bilinear(images, points), want, f"images {shape}", atol=1e-5)
    row, column = torch.meshgrid(torch.arange(4), torch.arange(6), indexing="ij")
    centres = torch.stack([column + 0.5, row + 0.5], dim=-1)[None]
    images = torch.randn(1, 2, 4, 6)
    expect(student.sample_bilinear(images, centres), images, "at the centres", atol=1e-5)


@ex.check("at the border and outside", points=1)
def _(student):
    images = 1 + torch.rand(2, 3, 4, 6)
    points = torch.rand(2, 9, 7, 2) * torch.tensor([10.0, 8.0]) - 2
    want = by_grid_sample(images, points)
    expect(student.sample_bilinear(images, points), want, "around the image", atol=1e-5)
    tall = 1 + torch.rand(2, 2, 7, 3)
    points = torch.rand(2, 8, 9, 2) * torch.tensor([7.0, 11.0]) - 2
    want = by_grid_sample(tall, points)
    expect(student.sample_bilinear(tall, points), want, "around a tall image", atol=1e-5)
    far = torch.tensor([[[[-900.0, 2.0], [2.0, 900.0], [-0.5, 2.0], [3.0, 4.5], [6.5, -0.5]]]])
    expect(student.sample_bilinear(images[:1], far), torch.zeros(1, 3, 1, 5), "far outside")
    far = torch.tensor([[[[65537.5, 2.0], [2.0, 65537.5], [-65534.5, 2.0]]]])
    expect(student.sample_bilinear(images[:1], far), torch.zeros(1, 3, 1, 3), "further outside")
    pixel = torch.full((1, 1, 1, 1), 8.0)
    near = torch.tensor([[[[0.5, 0.5], [0.75, 0.5], [0.0, 0.5], [0.75, 0.0], [0.1, 1.2]]]])
    want = by_grid_sample(pixel, near)
    expect(student.sample_bilinear(pixel, near), want, "an image of one pixel", atol=1e-5)


def image_gradient(student: Any, images: Tensor, points: Tensor, weights: Tensor) -> Any:
    """A probe: gradient of a weighted sum of the samples."""
    images = images.clone().requires_grad_()
    (student.sample_bilinear(images, points) * weights).sum().backward()
    return images.grad


@ex.check("gradient by the images", points=0.5)
def _(student):
    images, weights = torch.randn(2, 3, 4, 5), torch.randn(2, 3, 6, 2)
    points = torch.rand(2, 6, 2, 2) * torch.tensor([7.0, 6.0]) - 1
    leaf = images.clone().requires_grad_()
    (by_grid_sample(leaf, points) * weights).sum().backward()
    got = student.run(image_gradient, images, points, weights)
    expect(got, leaf.grad, "gradient", atol=1e-5)


@ex.check("float64, inputs that are not contiguous or not to be modified", points=1)
def _(student):
    images, points = torch.randn(2, 3, 5, 4).double().mT, torch.rand(2, 3, 6, 2).double() * 5 - 0.5
    want = by_grid_sample(images, points)
    got = student.sample_bilinear(images, points)
    expect(got, want, "float64", rtol=1e-9, atol=1e-9, dtype=True)
    require(
        student.unchanged("sample_bilinear", images, points),
        "sample_bilinear changes its arguments",
    )


ex.mistake(
    "centres at whole numbers",
    "Centres lie at +0.5: subtract 0.5 before the floor.",
    edit=("(points - 0.5)", "points"),
)
ex.mistake(
    "half a pixel in the wrong direction",
    "u = x - 0.5: subtract, do not add.",
    edit=("(points - 0.5)", "(points + 0.5)"),
)
ex.mistake(
    "weights exchanged",
    "The nearer pixel weighs more: f = 0 means column j alone.",
    edit=("(u - j)[:, None], (v - i)[:, None]", "(1 - u + j)[:, None], (1 - v + i)[:, None]"),
)
ex.mistake(
    "the rows' weights exchanged",
    "g = 0 means row i alone: the upper row has the weight 1 - g.",
    edit=("(1 - g) * upper + g * lower", "g * upper + (1 - g) * lower"),
)
ex.mistake(
    "x and y exchanged",
    "Points are (x, y): x belongs to the columns.",
    edit=("u, v = (points", "v, u = (points"),
)
ex.mistake(
    "f and g exchanged",
    "f is the fraction of u and weighs columns, g that of v and weighs rows.",
    edit=("f, g = ", "g, f = "),
)
ex.mistake(
    "nearest neighbour",
    "Four pixels are weighed by their distances.",
    edit=(
        "return (1 - g) * upper + g * lower",
        "return pixels_at(images, points[..., 1].floor().long(), points[..., 0].floor().long())",
    ),
)
ex.mistake(
    "along the rows only",
    "Interpolate along both axes.",
    edit=("return (1 - g) * upper + g * lower", "return upper"),
)
ex.mistake(
    "the border pixel is repeated",
    "A neighbour outside counts as 0.",
    edit=(
        "u, v = (points - 0.5).unbind(dim=-1)",
        "size = points.new_tensor([images.shape[3], images.shape[2]])\n"
        "    u, v = (points.clamp(min=0.5).minimum(size - 0.5) - 0.5).unbind(dim=-1)",
    ),
)
ex.mistake(
    "no fading at the border",
    "Divide by nothing: where neighbours are missing the value is smaller.",
    edit=(
        "return (1 - g) * upper + g * lower",
        "one, images = (1 - g) * upper + g * lower, torch.ones_like(images)\n"
        "    upper = (1 - f) * pixels_at(images, rows - 1, columns)\n"
        "    upper = upper + f * pixels_at(images, rows - 1, columns + 1)\n"
        "    lower = (1 - f) * pixels_at(images, rows, columns)\n"
        "    lower = lower + f * pixels_at(images, rows, columns + 1)\n"
        "    return one / ((1 - g) * upper + g * lower).clamp(min=1e-6)",
    ),
)
ex.mistake(
    "0 unless the point is inside",
    "Up to half a pixel outside an image a pixel inside still counts.",
    edit=(
        "return (1 - g) * upper + g * lower",
        "size = points.new_tensor([images.shape[3], images.shape[2]])\n"
        "    inside = ((points >= 0) & (points < size)).all(dim=-1)[:, None]\n"
        "    return ((1 - g) * upper + g * lower) * inside",
    ),
)
ex.mistake(
    "corners aligned",
    "An image is W wide, and its outer pixels end at 0 and W: there is no stretching.",
    edit=(
        "u, v = (points - 0.5).unbind(dim=-1)",
        "size = points.new_tensor([images.shape[3], images.shape[2]])\n"
        "    u, v = (points / size * (size - 1)).unbind(dim=-1)",
    ),
)
ex.mistake(
    "cuts towards zero",
    "-0.3 lies between columns -1 and 0: use floor, not int.",
    edit=("u.floor(), v.floor()", "u.trunc(), v.trunc()"),
)
ex.mistake(
    "no gradient",
    "Stay with differentiable operations: no detach, no .data, no numpy.",
    edit=("upper = (1 - f)", "images = images.detach()\n    upper = (1 - f)"),
)


ex.mistake(
    "rows end at the longer side",
    "Rows are counted against the height, columns against the width.",
    edit=("rows = rows + 1", "rows = (rows + 1).clamp(max=max(images.shape[-2:]) - 1)"),
)
ex.mistake(
    "the right border of a tall image is repeated",
    "A neighbour outside counts as 0, whatever the image's proportions.",
    edit=(
        "u, v = (points - 0.5).unbind(dim=-1)",
        "u, v = (points - 0.5).unbind(dim=-1)\n"
        "    if images.shape[2] > images.shape[3]:\n"
        "        u = u.clamp(max=images.shape[3] - 1)",
    ),
)


@ex.alternative("a sum over four neighbours")
def _(images, points):
    x, y = points[..., 0] - 0.5, points[..., 1] - 0.5
    total = torch.zeros(*images.shape[:2], *points.shape[1:3], dtype=images.dtype)
    for down in (0, 1):
        for right in (0, 1):
            row, column = y.floor() + down, x.floor() + right
            weight = (1 - (y - row).abs()) * (1 - (x - column).abs())
            total = total + weight[:, None] * pixels_at(images, row.long(), column.long())
    return total


@ex.alternative("tents over all pixels, as matrix products")
def _(images, points):
    height, width = images.shape[-2:]
    x = points[..., 0, None] - 0.5 - torch.arange(width, dtype=points.dtype)
    y = points[..., 1, None] - 0.5 - torch.arange(height, dtype=points.dtype)
    across, down = (1 - x.abs()).clamp(min=0), (1 - y.abs()).clamp(min=0)
    return torch.einsum("bchw,bijh,bijw->bcij", images, down, across)


@ex.alternative("image by image on a padded copy")
def _(images, points):
    height, width = images.shape[-2:]
    results = []
    for image, place in zip(images, points, strict=True):
        padded = torch.nn.functional.pad(image, (2, 2, 2, 2))
        x = (place[..., 0] + 1.5).clamp(0, width + 2)
        y = (place[..., 1] + 1.5).clamp(0, height + 2)
        j, i = x.detach().floor().long(), y.detach().floor().long()
        f, g = x - j, y - i
        results.append(
            padded[:, i, j] * (1 - f) * (1 - g)
            + padded[:, i, j + 1] * f * (1 - g)
            + padded[:, i + 1, j] * (1 - f) * g
            + padded[:, i + 1, j + 1] * f * g
        )
    return torch.stack(results)


# ----------------------------------------------------------------------------------------------
# boxes

ex = boxes = Exercise(
    "boxes", defines=["warp_boxes", "mask_boxes"], forbids=[*LIBRARIES, "masks_to_boxes"]
)


def hulls_by_loop(boxes: Tensor, matrix: Tensor, height: int, width: int) -> Tensor:
    """The oracle, in Python numbers."""
    (a, b, c), (d, e, f), _ = matrix.double().tolist()
    rows = []
    for x1, y1, x2, y2 in boxes.double().tolist():
        corners = [(x, y) for x in (x1, x2) for y in (y1, y2)]
        xs = [min(max(a * x + b * y + c, 0), width) for x, y in corners]
        ys = [min(max(d * x + e * y + f, 0), height) for x, y in corners]
        rows.append([min(xs), min(ys), max(xs), max(ys)])
    return torch.tensor(rows, dtype=torch.float32).reshape(-1, 4)


def tight_boxes(masks: Tensor) -> Tensor:
    """The oracle: torchvision's, which counts the last pixel where we take its far side."""
    from torchvision.ops import masks_to_boxes

    boxes = torch.zeros(len(masks), 4)
    for row, mask in enumerate(masks):
        if mask.any():
            boxes[row] = masks_to_boxes(mask[None])[0] + torch.tensor([0, 0, 1, 1])
    return boxes


@ex.check("hulls inside the image", points=1)
def _(student):
    for degrees in [10.0, 45.0, 100.0, 200.0, -70.0]:
        boxes = 35 + 30 * torch.rand(4, 4).sort(dim=1).values[:, [0, 1, 2, 3]]
        matrix = matrix_by_steps(100, 120, degrees, 0.8).float()
        want = hulls_by_loop(boxes, matrix, 100, 120)
        expect(student.warp_boxes(boxes, matrix, 100, 120), want, f"{degrees}°", atol=1e-3)


@ex.check("any matrix, as torchvision does it", points=1)
def _(student):
    from torchvision import tv_tensors
    from torchvision.transforms.v2 import functional as TF

    kind = tv_tensors.BoundingBoxFormat.XYXY
    boxes = some_boxes(5, 40, 60)
    for degrees, scale, shift in [(25.0, 0.7, [4.0, -3.0]), (-160.0, 1.4, [0.0, 8.0])]:
        want = TF.affine_bounding_boxes(boxes, kind, (40, 60), degrees, shift, scale, [0.0, 0.0])
        matrix = matrix_by_steps(40, 60, degrees, scale, tuple(shift)).float()
        expect(student.warp_boxes(boxes, matrix, 40, 60), want, f"{degrees}°", atol=2e-3)
    matrix = torch.tensor([[0.2, -1.3, 40.0], [1.6, 0.7, -9.0], [0.0, 0.0, 1.0]])
    want = hulls_by_loop(boxes, matrix, 40, 60)
    expect(student.warp_boxes(boxes, matrix, 40, 60), want, "a matrix that shears", atol=1e-3)
    for name, mirror in {
        "left and right": [[-1.0, 0.0, 60.0], [0.0, 1.0, 0.0]],
        "top and bottom": [[1.0, 0.0, 0.0], [0.0, -1.0, 40.0]],
        "a diagonal, slanted": [[0.2, 0.9, 3.0], [1.1, -0.1, 2.0]],
    }.items():
        matrix = torch.tensor([*mirror, [0.0, 0.0, 1.0]])
        want = hulls_by_loop(boxes, matrix, 40, 60)
        expect(student.warp_boxes(boxes, matrix, 40, 60), want, f"mirrored: {name}", atol=1e-3)
    want = hulls_by_loop(boxes[:1], matrix, 40, 60)
    expect(student.warp_boxes(boxes[:1], matrix, 40, 60), want, "one box", atol=1e-3)


@ex.check("boxes: clipped, none, not modified", points=0.5)
def _(student):
    boxes = torch.tensor([[0.0, 0, 30, 20], [20.0, 10, 30, 20], [1.0, 2, 5, 6], [25.0, 1, 29, 4]])
    for shift in [(12.0, 5.0), (-9.0, -4.0), (40.0, 0.0), (0.0, -25.0)]:
        matrix = matrix_by_steps(20, 30, 0.0, 1.0, shift).float()
        want = hulls_by_loop(boxes, matrix, 20, 30)
        expect(student.warp_boxes(boxes, matrix, 20, 30), want, f"moved by {shift}", atol=1e-4)
    for height, width in [(30, 12), (12, 30)]:
        for shift in [(25.0, 0.0), (0.0, 25.0), (9.0, 9.0)]:
            far = torch.tensor([[0.0, 0, 6, 8], [5.0, 4, 11, 11]])
            moved = matrix_by_steps(height, width, 0.0, 1.0, shift).float()
            want = hulls_by_loop(far, moved, height, width)
            got = student.warp_boxes(far, moved, height, width)
            expect(got, want, f"moved by {shift} in {height} x {width}", atol=1e-4)
    outer = torch.tensor([[8.0, 1, 12, 3], [-2.0, 1, 9, 3], [-6.0, -5, -1, -2], [2.0, -1, 3, 9]])
    for shift in [(-7.0, 0.0), (7.0, 5.0), (0.0, 0.0)]:
        matrix = matrix_by_steps(4, 6, 0.0, 1.0, shift).float()
        want = hulls_by_loop(outer, matrix, 4, 6)
        got = student.warp_boxes(outer, matrix, 4, 6)
        expect(got, want, f"boxes that leave 4 x 6, moved by {shift}", atol=1e-4)
    got = student.warp_boxes(torch.zeros(0, 4), torch.eye(3), 20, 30)
    expect(got, torch.zeros(0, 4), "no box")
    expect_unchanged(student, "warp_boxes", "boxes matrix height width", boxes, matrix, 20, 30)


@ex.check("boxes of masks", points=1)
def _(student):
    for height, width in [(9, 14), (12, 5)]:
        masks = torch.rand(6, height, width) < 0.06
        masks[:, 0], masks[:, :, 0] = False, False
        masks[2] = False
        want = tight_boxes(masks)
        expect(student.mask_boxes(masks), want, f"masks {height} x {width}", dtype=True)
    corners = torch.zeros(4, 6, 8, dtype=torch.bool)
    corners[0, 5, 7] = corners[1, 0, 0] = corners[2, 0, 7] = corners[2, 5, 0] = True
    expect(student.mask_boxes(corners), tight_boxes(corners), "pixels in the corners")
    expect(student.mask_boxes(corners[:0]), torch.zeros(0, 4), "no mask")
    expect(student.mask_boxes(corners & False), torch.zeros(4, 4), "four empty masks")
    expect_unchanged(student, "mask_boxes", "masks", corners)
    expect(student.mask_boxes(~corners[3:]), torch.tensor([[0.0, 0, 8, 6]]), "a full mask")


ex.mistake(
    "two corners only",
    "Under a rotation other corners may lie furthest out: send all four.",
    edit=("[0, 1, 2, 1, 2, 3, 0, 3]].reshape(-1, 4, 2)", "[0, 1, 2, 3]].reshape(-1, 2, 2)"),
)
ex.mistake(
    "two corners, not even ordered",
    "The smallest x is the new left side, whichever corner it belongs to.",
    edit=(
        "hull = torch.cat([moved.amin(dim=1), moved.amax(dim=1)], dim=1)",
        "hull = torch.cat([moved[:, 0], moved[:, 2]], dim=1)",
    ),
)
ex.mistake(
    "not clipped",
    "Boxes end at the border of the image.",
    edit=("hull.clamp(min=0).minimum(boxes.new_tensor([width, height, width, height]))", "hull"),
)
ex.mistake(
    "clipped at 0 only",
    "Boxes end at the right and the lower border too.",
    edit=(".minimum(boxes.new_tensor([width, height, width, height]))", ""),
)
ex.mistake(
    "height and width exchanged",
    "x is clipped at the width.",
    edit=("[width, height, width, height]", "[height, width, height, width]"),
)
ex.mistake(
    "x clipped at the longer side",
    "x is clipped at the width, also where the image is higher than wide.",
    edit=("[width, height, width, height]", "2 * [max(width, height), height]"),
)
ex.mistake(
    "y clipped at the longer side",
    "y is clipped at the height, also where the image is wider than high.",
    edit=("[width, height, width, height]", "2 * [width, max(width, height)]"),
)
ex.mistake(
    "the inverse matrix",
    "Points of the old image go forward to the new one: no inverse here.",
    edit=("moved = corners", "matrix = matrix.inverse()\n    moved = corners"),
)
ex.mistake(
    "the transposed matrix",
    "Points are rows here: multiply by the transpose of A, p' = p A^T + b.",
    edit=("matrix[:2, :2].T", "matrix[:2, :2]"),
)
ex.mistake(
    "without the translation",
    "p' = A p + b: the last column is added.",
    edit=(" + matrix[:2, 2]", ""),
)
ex.mistake(
    "centre and size",
    "The hull of a rotated box is larger than the box: sizes change too.",
    edit=(
        "hull = torch.cat([moved.amin(dim=1), moved.amax(dim=1)], dim=1)",
        "half = (boxes[:, 2:] - boxes[:, :2]) / 2 * matrix[:2, 0].norm()\n"
        "    hull = torch.cat([moved.mean(dim=1) - half, moved.mean(dim=1) + half], dim=1)",
    ),
)
ex.mistake(
    "the last pixel's near side",
    "The far side of pixel j is j + 1: a mask of one pixel has the area 1.",
    edit=("(columns.max() + 1, rows.max() + 1)", "(columns.max(), rows.max())"),
)
ex.mistake(
    "rows before columns",
    "Boxes are x1, y1, x2, y2: columns come first.",
    edit=[
        ("(columns.min(), rows.min())", "(rows.min(), columns.min())"),
        ("(columns.max() + 1, rows.max() + 1)", "(rows.max() + 1, columns.max() + 1)"),
    ],
)
ex.mistake(
    "x, y, width, height",
    "Boxes hold two corners, not a corner and a size.",
    edit=(
        "(columns.max() + 1, rows.max() + 1)",
        "(columns.max() + 1 - columns.min(), rows.max() + 1 - rows.min())",
    ),
)
ex.mistake(
    "fails at an empty mask",
    "An empty mask gives four zeros: ask before you take a minimum.",
    edit=("if len(rows) > 0:", "if True:"),
)
ex.mistake(
    "whole numbers",
    "Boxes are float32.",
    edit=("torch.zeros(len(masks), 4)",
          "torch.zeros(len(masks), 4, dtype=torch.int64)"),
)  # fmt: skip
ex.mistake(
    "an empty mask gives the whole image",
    "An empty mask gives four zeros.",
    edit=(
        "    return boxes\n",
        "    empty = ~masks.flatten(1).any(dim=1)\n"
        "    boxes[empty] = torch.tensor([0.0, 0, masks.shape[2], masks.shape[1]])\n"
        "    return boxes\n",
    ),
)
ex.mistake(
    "from the first pixel to the last",
    "The first and the last pixel in reading order need not be the leftmost and rightmost.",
    edit=[
        ("columns.min(), rows.min()", "columns[0], rows[0]"),
        ("columns.max() + 1, rows.max() + 1", "columns[-1] + 1, rows[-1] + 1"),
    ],
)


ex.mistake(
    "a mirrored box is not ordered",
    "A matrix may mirror: sort the corners after the warp, by minimum and maximum.",
    edit=(
        "hull = torch.cat([moved.amin(dim=1), moved.amax(dim=1)], dim=1)",
        "hull = torch.cat([moved.amin(dim=1), moved.amax(dim=1)], dim=1)\n"
        "    if torch.linalg.det(matrix) < 0:\n"
        "        hull = torch.cat([moved[:, 0], moved[:, 2]], dim=1)",
    ),
)
ex.mistake(
    "clipped before the warp too",
    "The size is that of the new image: boxes are clipped after the warp, not before.",
    edit=(
        "moved = corners",
        "corners = corners.clamp(min=0).minimum(boxes.new_tensor([width, height]))\n"
        "    moved = corners",
    ),
)
ex.mistake(
    "nothing to do, not even to clip",
    "The identity moves nothing, but the boxes are still clipped.",
    edit=(
        "corners = boxes[:, [",
        "if torch.equal(matrix, torch.eye(3)):\n        return boxes\n    corners = boxes[:, [",
    ),
)
ex.mistake(
    "only empty masks, no boxes",
    "Each empty mask gives a row of four zeros, also where all are empty.",
    edit=(
        "boxes = torch.zeros(len(masks), 4).to(masks.device)",
        "if not masks.any():\n"
        "        return torch.zeros(0, 4).to(masks.device)\n"
        "    boxes = torch.zeros(len(masks), 4).to(masks.device)",
    ),
)


@ex.alternative("homogeneous corners, box by box", replaces="warp_boxes")
def _(boxes, matrix, height, width):
    results = torch.zeros(len(boxes), 4)
    for index, (x1, y1, x2, y2) in enumerate(boxes.tolist()):
        corners = torch.tensor([[x1, x1, x2, x2], [y1, y2, y1, y2], [1, 1, 1, 1]])
        x, y, _ = matrix @ corners
        x, y = x.clamp(0, width), y.clamp(0, height)
        results[index] = torch.stack([x.min(), y.min(), x.max(), y.max()])
    return results


@ex.alternative("interval arithmetic", replaces="warp_boxes")
def _(boxes, matrix, height, width):
    a, b = matrix[:2, :2].double(), matrix[:2, 2].double()
    centre = (boxes[:, :2] + boxes[:, 2:]).double() / 2
    half = (boxes[:, 2:] - boxes[:, :2]).double() / 2
    middle, reach = centre @ a.T + b, half @ a.abs().T
    size = torch.tensor([width, height], dtype=torch.float64)
    low, high = ((middle + sign * reach).clamp(min=0).minimum(size) for sign in (-1, 1))
    return torch.cat([low, high], dim=1).float()


@ex.alternative("projections of the masks", replaces="mask_boxes")
def _(masks):
    columns, rows = masks.any(dim=1).int(), masks.any(dim=2).int()
    x1, y1 = columns.argmax(dim=1), rows.argmax(dim=1)
    x2 = columns.shape[1] - columns.flip(1).argmax(dim=1)
    y2 = rows.shape[1] - rows.flip(1).argmax(dim=1)
    boxes = torch.stack([x1, y1, x2, y2], dim=1).float()
    return boxes * masks.flatten(1).any(dim=1)[:, None]


@ex.alternative("numpy", replaces="mask_boxes")
def _(masks):
    import numpy as np

    result = []
    for mask in masks.numpy():
        i, j = np.where(mask)
        result.append([j.min(), i.min(), j.max() + 1, i.max() + 1] if i.size else [0, 0, 0, 0])
    return torch.tensor(np.array(result, dtype=np.float32).reshape(-1, 4))


# ----------------------------------------------------------------------------------------------
# colour

ex = colour = Exercise(
    "colour",
    defines=["brightness", "contrast", "saturation"],
    forbids=[*LIBRARIES, "adjust_brightness", "adjust_contrast", "adjust_saturation"],
)

GREY = torch.tensor([0.299, 0.587, 0.114])


def blend_with(images: Tensor, dull: Tensor, factor: float) -> Tensor:
    return (dull + factor * (images - dull)).clamp(0, 1)


def grey_of(images: Tensor) -> Tensor:
    """(..., 1, H, W)."""
    return torch.einsum("c,...chw->...hw", GREY.to(images), images).unsqueeze(-3)


def dull_of(kind: str, images: Tensor) -> Tensor:
    """The oracle's dull image."""
    if kind == "brightness":
        return torch.zeros_like(images)
    grey = grey_of(images)
    return grey.flatten(-2).mean(-1)[..., None, None] if kind == "contrast" else grey


def some_colours(*shape: int) -> Tensor:
    """Images whose channels, pixels and batch-mates differ in level."""
    images = torch.rand(*shape) * torch.rand(*shape[:-2], 1, 1)
    return images * (0.5 + 0.5 * torch.rand(*shape[:-3], 1, 1, 1))


def expect_colour(student, kind, images, factors, what):
    for factor in factors:
        want = blend_with(images, dull_of(kind, images), factor)
        got = getattr(student, kind)(images, factor)
        expect(got, want, f"{what}, factor {factor}", atol=1e-5, dtype=True)


@ex.check("brightness", points=0.5)
def _(student):
    expect_colour(student, "brightness", some_colours(3, 4, 6), [0.0, 0.4, 1.0, 1.7], "an image")
    expect_colour(student, "brightness", some_colours(2, 3, 5, 3), [0.8, 2.5], "a batch")


@ex.check("contrast", points=1)
def _(student):
    expect_colour(student, "contrast", some_colours(3, 4, 6), [0.0, 0.4, 1.0, 1.7], "an image")
    expect_colour(student, "contrast", some_colours(4, 3, 5, 3), [0.3, 2.5], "a batch")
    expect_colour(student, "contrast", torch.rand(3, 5, 4), [3.0], "bright pixels")
    expect_colour(student, "contrast", some_colours(2, 3, 3, 5, 4), [0.3], "two leading axes")


@ex.check("saturation", points=1)
def _(student):
    expect_colour(student, "saturation", some_colours(3, 4, 6), [0.0, 0.4, 1.0, 1.7], "an image")
    expect_colour(student, "saturation", some_colours(2, 3, 5, 3), [0.3, 2.5], "a batch")
    expect_colour(student, "saturation", torch.rand(3, 5, 4), [3.0], "bright pixels")
    expect_colour(student, "saturation", some_colours(2, 3, 3, 5, 4), [0.3], "two leading axes")


@ex.check("as torchvision does it; float64; nothing is modified", points=0.5)
def _(student):
    from torchvision.transforms.v2 import functional as TF

    images = some_colours(2, 3, 7, 5).double()
    for kind in ("brightness", "contrast", "saturation"):
        got = getattr(student, kind)(images, 1.4)
        want = getattr(TF, f"adjust_{kind}")(images, 1.4)
        # Its red has the weight 0.2989.
        expect(got, want, f"{kind} of a batch", rtol=0, atol=5e-4, dtype=True)
        expect_unchanged(student, kind, "images factor", images, 1.4)


ex.mistake(
    "brightness is added",
    "The formula multiplies: a * I + (1 - a) * 0.",
    edit=("(factor * images).clamp(0, 1)", "(images + factor - 1).clamp(0, 1)"),
)
ex.mistake(
    "brightness is not clamped",
    "Values stay in [0, 1].",
    edit=("(factor * images).clamp(0, 1)", "factor * images"),
)
ex.mistake(
    "contrast is not clamped",
    "Values stay in [0, 1].",
    edit=("(factor * images + (1 - factor) * mean).clamp(0, 1)",
          "factor * images + (1 - factor) * mean"),
)  # fmt: skip
ex.mistake(
    "saturation is not clamped",
    "Values stay in [0, 1].",
    edit=("(factor * images + (1 - factor) * grey).clamp(0, 1)",
          "factor * images + (1 - factor) * grey"),
)  # fmt: skip
ex.mistake(
    "contrast about ½",
    "The dull image of contrast is the mean of the grey image, not ½.",
    edit=("(1 - factor) * mean", "(1 - factor) * 0.5"),
)
ex.mistake(
    "contrast about the mean of each channel",
    "One number for each image: the mean of its grey version.",
    edit=(
        "(weights * images).sum(dim=-3, keepdim=True).mean(dim=(-2, -1), keepdim=True)",
        "images.mean(dim=(-2, -1), keepdim=True)",
    ),
)
ex.mistake(
    "contrast about the mean of all values",
    "The channels are weighed when the image is made grey.",
    edit=(
        "(weights * images).sum(dim=-3, keepdim=True).mean(dim=(-2, -1), keepdim=True)",
        "images.mean(dim=(-3, -2, -1), keepdim=True)",
    ),
)
ex.mistake(
    "one mean for the batch",
    "Each image has its own mean.",
    edit=(".mean(dim=(-2, -1), keepdim=True)", ".mean()"),
)
ex.mistake(
    "one mean for several images of the batch",
    "Each image has its own mean, however many leading axes there are.",
    edit=(
        ".mean(dim=(-2, -1), keepdim=True)",
        ".mean(dim=tuple(range(min(1, images.dim() - 3), images.dim())), keepdim=True)",
    ),
)
ex.mistake(
    "contrast about each pixel's grey",
    "That is saturation: contrast takes the mean of the grey image.",
    edit=(".mean(dim=(-2, -1), keepdim=True)", ""),
)
ex.mistake(
    "the plain mean of the channels",
    "Grey is 0.299 R + 0.587 G + 0.114 B.",
    edit=("grey = (weights * images).sum(dim=-3, keepdim=True)",
          "grey = images.mean(dim=-3, keepdim=True)"),
)  # fmt: skip
ex.mistake(
    "red and blue exchanged",
    "The channels are red, green, blue: 0.299 belongs to the first.",
    edit=(
        "weights = images.new_tensor([0.299, 0.587, 0.114])[:, None, None]\n    grey",
        "weights = images.new_tensor([0.114, 0.587, 0.299])[:, None, None]\n    grey",
    ),
)
ex.mistake(
    "saturation the wrong way round",
    "a = 1 changes nothing, a = 0 gives the grey image.",
    edit=("factor * images + (1 - factor) * grey", "(1 - factor) * images + factor * grey"),
)
ex.mistake(
    "contrast the wrong way round",
    "a = 1 changes nothing, a = 0 gives the mean.",
    edit=("factor * images + (1 - factor) * mean", "(1 - factor) * images + factor * mean"),
)
ex.mistake(
    "the grey is added",
    "Both parts are weighed: a and 1 - a.",
    edit=("(1 - factor) * grey", "grey"),
)
ex.mistake(
    "works in place",
    "The caller's image stays as it is.",
    edit=("(factor * images).clamp(0, 1)", "images.mul_(factor).clamp_(0, 1)"),
)


@ex.alternative("lerp", replaces="contrast")
def _(images, factor):
    r, g, b = images.unbind(dim=-3)
    grey = 0.299 * r + 0.587 * g + 0.114 * b
    mean = grey.mean((-1, -2))[..., None, None, None]
    return torch.lerp(mean.expand_as(images), images, factor).clamp(0.0, 1.0)


@ex.alternative("a 1x1 matrix of channels", replaces="saturation")
def _(images, factor):
    weights = torch.tensor([0.299, 0.587, 0.114], dtype=torch.float64)
    matrix = factor * torch.eye(3, dtype=torch.float64) + (1 - factor) * weights.expand(3, 3)
    mixed = torch.einsum("dc,...chw->...dhw", matrix, images.double())
    return mixed.clamp(0, 1).to(images.dtype)


@ex.alternative("minimum and maximum", replaces="brightness")
def _(images, factor):
    return torch.minimum(images * factor, torch.ones_like(images)).relu()


@ex.alternative("image by image", replaces="contrast")
def _(images, factor):
    batch = images.reshape(-1, *images.shape[-3:])
    results = []
    for image in batch:
        grey = image[0] * 0.299 + image[1] * 0.587 + image[2] * 0.114
        results.append((grey.mean() + factor * (image - grey.mean())).clamp(0, 1))
    return torch.stack(results).reshape(images.shape)


# ----------------------------------------------------------------------------------------------
# noise

ex = noise = Exercise(
    "noise", defines=["add_noise", "cutout"], forbids=[*LIBRARIES, "GaussianNoise", "RandomErasing"]
)


def noises(
    student: Any, images: Tensor, std: float, number: int, seed: int, other: int = 0
) -> list[Tensor]:
    """A probe: several calls with one generator."""
    import torch

    torch.manual_seed(other)  # the global generator must not matter
    generator = torch.Generator().manual_seed(seed)
    return [student.add_noise(images, std, generator) for _ in range(number)]


def noise_afterwards(student: Any, images: Tensor, std: float, seed: int) -> dict[str, Any]:
    """A probe: the argument and the generator's next number after a call."""
    import torch

    generator = torch.Generator().manual_seed(seed)
    student.add_noise(images, std, generator)
    return {"images": images, "next": torch.rand(1, generator=generator).item()}


def cut_by_loop(images: Tensor, centres: Tensor, size: int) -> Tensor:
    """The oracle."""
    result = images.clone()
    height, width = images.shape[-2:]
    for image, (r, c) in zip(result, centres.tolist(), strict=True):
        for i in range(r - size // 2, r - size // 2 + size):
            for j in range(c - size // 2, c - size // 2 + size):
                if 0 <= i < height and 0 <= j < width:
                    image[:, i, j] = 0
    return result


@ex.check("noise: mean, deviation, shape of the distribution", points=1)
def _(student):
    images = torch.full((4, 3, 50, 40), 0.5)
    (noisy,) = student.run(noises, images, 0.08, 1, 5)
    z = (noisy - images).double() / 0.08
    expect(z.mean(), 0.0, "mean of the noise over its deviation", atol=0.04)
    expect(z.std(), 1.0, "deviation of the noise over what was asked for", rtol=0.03)
    for quantile, value in [(0.0228, -2.0), (0.1587, -1.0), (0.8413, 1.0), (0.9772, 2.0)]:
        expect(torch.quantile(z, quantile), value, f"quantile {quantile}", atol=0.12)
    largest = float(z.abs().max())
    require(largest > 3.2, "of 24000 values none is further than 3.2 deviations", got=largest)
    few = torch.full((2, 2), 0.5)
    means = [float((n - 0.5).mean()) for n in student.run(noises, few, 0.05, 12, 9)]
    require(max(map(abs, means)) > 1e-3, "four numbers always have the mean 0", got=means)


@ex.check("noise: every value has its own", points=1)
def _(student):
    images = torch.full((2, 3, 30, 40), 0.5)
    (noisy,) = student.run(noises, images, 0.1, 1, 6)
    z = (noisy - images).double()
    for name, a, b in [
        ("images", z[0], z[1]),
        ("channels", z[:, 0], z[:, 2]),
        ("rows", z[:, :, :-1], z[:, :, 1:]),
        ("columns", z[..., :-1], z[..., 1:]),
    ]:
        correlation = torch.corrcoef(torch.stack([a.flatten(), b.flatten()]))[0, 1]
        expect(correlation, 0.0, f"correlation between {name}", atol=0.12)
    for shape in [(60,), (5, 12), (3, 4, 5), (1, 3, 4, 5), (2, 1, 3, 4, 5)]:
        images = torch.full(shape, 0.5)
        (noisy,) = student.run(noises, images, 0.01, 1, 4)
        expect(noisy, images, f"images {shape}, noise below a tenth", rtol=0, atol=0.1, dtype=True)
        changed = (noisy != 0.5).double().mean()
        expect(changed, 1.0, f"images {shape}, share of the values with noise", atol=0.05)


@ex.check("noise: the generator decides, the range stays", points=1)
def _(student):
    images = torch.rand(2, 3, 6, 5).double()
    first, second = student.run(noises, images, 0.3, 2, 7)
    again = student.run(noises, images, 0.3, 2, 7, other=1)
    expect(again[0], first, "noise of the same generator", dtype=True)
    require(
        not torch.equal(first, second), "a second call gives the same noise", got=second - first
    )
    low, high = float(first.min()), float(first.max())
    require(low >= 0 and high <= 1, "values leave [0, 1]", got=[low, high])
    require(bool(((first == 0) | (first == 1)).any()), "nothing was clamped", got=[low, high])
    expect(student.run(noises, images, 0.0, 1, 7)[0], images, "no noise", dtype=True)
    moved = student.run(noises, images, 0.3, 1, 8)[0]
    require(not torch.equal(first, moved), "another generator gives the same noise")
    for std in (0.3, 0.0):
        after = student.run(noise_afterwards, images, std, 5)
        expect(after["images"], images, f"the images afterwards, std {std}", rtol=0, atol=0)
        still = torch.rand(1, generator=seeded(5)).item()
        require(after["next"] != still, f"the generator was not moved, std {std}", got=after)


@ex.check("holes of odd and even sides, also at the border", points=1)
def _(student):
    for size in [1, 2, 3, 4, 7]:
        images = 0.5 + torch.rand(6, 2, 9, 12)
        centres = torch.stack([torch.randint(0, 9, (6,)), torch.randint(0, 12, (6,))], dim=1)
        centres[:3] = torch.tensor([[0, 0], [8, 11], [0, 11]])
        want = cut_by_loop(images, centres, size)
        expect(student.cutout(images, centres, size), want, f"side {size}", dtype=True)


@ex.check("holes: larger than the image, other dtypes, nothing modified", points=0.5)
def _(student):
    images, centres = torch.randint(1, 200, (3, 1, 5, 8)), torch.tensor([[0, 7], [2, 1], [4, 4]])
    for values in [images, images.double(), images.to(torch.uint8)]:
        for size in [3, 6, 30]:
            want = cut_by_loop(values, centres, size)
            expect(student.cutout(values, centres, size), want, f"side {size}", dtype=True)
    for size in (2, 5):
        want = cut_by_loop(images[1:2], centres[1:2], size)
        got = student.cutout(images[1:2], centres[1:2], size)
        expect(got, want, f"one image, side {size}", dtype=True)
    expect_unchanged(student, "cutout", "images centres size", images, centres, 3)


ex.mistake(
    "uniform noise",
    "Gaussian noise: torch.randn.",
    edit=("torch.randn(images.shape, generator=generator)",
          "(torch.rand(images.shape, generator=generator) - 0.5) * 12**0.5"),
)  # fmt: skip
ex.mistake(
    "torch.rand as it is",
    "Noise has the mean 0: torch.randn, not torch.rand.",
    edit=("torch.randn(images.shape", "torch.rand(images.shape"),
)
ex.mistake(
    "the variance for the deviation",
    "Multiply by std itself.",
    edit=("std * noise", "std**2 * noise"),
)
ex.mistake(
    "the root of the deviation",
    "Multiply by std itself.",
    edit=("std * noise", "std**0.5 * noise"),
)
ex.mistake(
    "no clamp",
    "Values stay in [0, 1].",
    edit=(" * noise.to(images)).clamp(0, 1)", " * noise.to(images))"),
)
ex.mistake(
    "the same noise for all images",
    "Each image gets its own noise.",
    edit=("torch.randn(images.shape, ", "torch.randn(images.shape[1:], "),
)
ex.mistake(
    "the same noise for all channels",
    "Each channel gets its own noise.",
    edit=(
        "torch.randn(images.shape, generator=generator)",
        "torch.randn(*images.shape[:-3], 1, *images.shape[-2:], generator=generator)",
    ),
)
ex.mistake(
    "the noise multiplies",
    "Noise is added, whatever the pixel's value.",
    edit=("images + std", "images + images * std"),
)
ex.mistake(
    "the global generator",
    "All randomness comes from the generator that is given.",
    edit=("(images.shape, generator=generator)", "(images.shape)"),
)
ex.mistake(
    "the generator is seeded anew",
    "Each call moves the generator on: do not seed it.",
    edit=("noise = torch.randn(", "generator.manual_seed(0)\n    noise = torch.randn("),
)
ex.mistake(
    "noise with mean 0 and deviation 1 exactly",
    "Each number is drawn on its own: the noise of one call is not standardised.",
    edit=(
        "(images + std * noise.to(images))",
        "(images + std * ((noise - noise.mean()) / noise.std()).to(images))",
    ),
)
ex.mistake(
    "noise cut at three deviations",
    "Gaussian numbers have no bounds; only the result is clamped.",
    edit=("noise.to(images)", "noise.clamp(-3, 3).to(images)"),
)
ex.mistake(
    "batches only",
    "add_noise takes images of any shape.",
    edit=("noise = torch.randn(", "_, _, _, _ = images.shape\n    noise = torch.randn("),
)
ex.mistake(
    "a single image gets an axis more",
    "The result has the shape of the argument.",
    edit=(
        "noise = torch.randn(",
        "images = images[None] if images.dim() == 3 else images\n    noise = torch.randn(",
    ),
)
ex.mistake(
    "a batch of one loses its axis",
    "The result has the shape of the argument: squeeze nothing.",
    edit=("noise = torch.randn(", "images = images.squeeze(0)\n    noise = torch.randn("),
)
ex.mistake(
    "no noise, no draw",
    "Each call moves the generator on, with std 0 too.",
    edit=(
        "noise = torch.randn(",
        "if std == 0:\n        return images.clone()\n    noise = torch.randn(",
    ),
)
ex.mistake(
    "adds the noise in place",
    "The caller's images stay as they are.",
    edit=("(images + std * noise.to(images))", "images.add_(std * noise.to(images))"),
)
ex.mistake(
    "the centre taken for the corner",
    "The hole begins s // 2 above its centre.",
    edit=("centres - size // 2", "centres"),
)
ex.mistake(
    "pushed inside",
    "What sticks out is cut off: the hole does not move.",
    edit=(
        "start = centres - size // 2",
        "start = (centres - size // 2).clamp(min=0)\n"
        "    start = start.minimum((start.new_tensor([height, width]) - size).clamp(min=0))",
    ),
)
ex.mistake(
    "even sides grow by one",
    "s rows from r - s // 2 on: with an even s one row less below than above.",
    edit=[
        ("(rows < size)", "(rows <= size - size % 2)"),
        ("(columns < size)", "(columns <= size - size % 2)"),
    ],
)
ex.mistake(
    "odd sides shrink by one",
    "s rows in all, not twice s // 2.",
    edit=[
        ("(rows < size)", "(rows < size // 2 * 2)"),
        ("(columns < size)", "(columns < size // 2 * 2)"),
    ],
)
ex.mistake(
    "one hole for all",
    "Each image has its own centre.",
    edit=(
        "start = centres - size // 2",
        "start = (centres - size // 2)[:1].expand(len(centres), 2)",
    ),
)
ex.mistake(
    "rows and columns exchanged",
    "A centre is (row, column).",
    edit=("start = centres - size // 2", "start = centres.flip(1) - size // 2"),
)
ex.mistake(
    "only the first channel",
    "The hole goes through all channels.",
    edit=(
        "return images.masked_fill((rows[:, :, None] & columns[:, None])[:, None], 0)",
        "result = images.clone()\n"
        "    result[:, 0] = result[:, 0].masked_fill(rows[:, :, None] & columns[:, None], 0)\n"
        "    return result",
    ),
)
ex.mistake(
    "a cross",
    "A pixel is erased if its row AND its column lie in the hole.",
    edit=("rows[:, :, None] & columns[:, None]", "rows[:, :, None] | columns[:, None]"),
)
ex.mistake(
    "the hole is kept",
    "The square is erased, not what is around it.",
    edit=("(rows[:, :, None] & columns[:, None])", "~(rows[:, :, None] & columns[:, None])"),
)
ex.mistake(
    "a slice that starts below zero",
    "A negative start counts from the end in Python: clip it at 0.",
    edit=(
        "return images.masked_fill((rows[:, :, None] & columns[:, None])[:, None], 0)",
        "result = images.clone()\n"
        "    for image, (r, c) in zip(result, start.tolist()):\n"
        "        image[:, r : r + size, c : c + size] = 0\n"
        "    return result",
    ),
)
ex.mistake(
    "erases in place",
    "The caller's images stay as they are.",
    edit=("images.masked_fill(", "images.masked_fill_("),
)


ex.mistake(
    "moves the caller's centres",
    "The caller's centres stay as they are: compute new ones.",
    edit=("start = centres - size // 2", "start = centres.sub_(size // 2)"),
)
ex.mistake(
    "a batch of one has no hole",
    "A batch may hold one image.",
    edit=(
        "return images.masked_fill(",
        "if len(images) == 1:\n        return images.clone()\n    return images.masked_fill(",
    ),
)


@ex.alternative("slices, image by image", replaces="cutout")
def _(images, centres, size):
    result = images.clone()
    for b in range(len(images)):
        r, c = (int(value) - size // 2 for value in centres[b])
        result[b, :, max(r, 0) : max(r + size, 0), max(c, 0) : max(c + size, 0)] = 0
    return result


@ex.alternative("a product with a mask", replaces="cutout")
def _(images, centres, size):
    height, width = images.shape[-2:]
    y = torch.arange(height)[None, :, None] - centres[:, 0, None, None] + size // 2
    x = torch.arange(width)[None, None] - centres[:, 1, None, None] + size // 2
    keep = ~((y >= 0) & (y < size) & (x >= 0) & (x < size))
    return images * keep[:, None].to(images.dtype)


@ex.alternative("torch.normal, last value first", replaces="add_noise")
def _(images, std, generator):
    noise = torch.normal(0.0, 1.0, (images.numel(),), generator=generator).flip(0)
    return torch.clip(images + (std * noise).reshape(images.shape).to(images.dtype), 0.0, 1.0)


@ex.alternative("Box and Muller, in float64", replaces="add_noise")
def _(images, std, generator):
    u = torch.rand(2, *images.shape, generator=generator, dtype=torch.float64)
    z = (-2 * (1 - u[0]).log()).sqrt() * (2 * math.pi * u[1]).cos()
    return (images.double() + std * z).clamp(0, 1).to(images.dtype)


ex.equivalent(
    "images + std * noise.to(images) -> images - std * noise.to(images)",
    "Gaussian noise is symmetric about 0.",
)


# ----------------------------------------------------------------------------------------------
# mixup

ex = mixup = Exercise("mixup", defines=["mixing_weights", "mixup"], forbids=[*LIBRARIES, "MixUp"])


def some_targets(rows: int, number: int) -> Tensor:
    return torch.rand(rows, number).softmax(dim=1)


def blended(values: Tensor, partner: Tensor, weights: Tensor) -> Tensor:
    """The oracle, row by row."""
    rows = [float(w) * values[b] + (1 - float(w)) * values[int(partner[b])]
            for b, w in enumerate(weights)]  # fmt: skip
    return torch.stack(rows)


@ex.check("the distribution of the weights", points=1)
def _(student):
    for alpha in [0.2, 1.0, 4.0]:
        weights = student.mixing_weights(6000, alpha).double()
        what = f"alpha = {alpha}"
        expect(weights.shape, (6000,), f"shape, {what}")
        require(
            bool((weights >= 0).all() and (weights <= 1).all()), f"range, {what}", got=weights[:9]
        )
        expect(weights.mean(), 0.5, f"mean, {what}", atol=0.03)
        expect(weights.var(), 1 / (4 * (2 * alpha + 1)), f"variance, {what}", rtol=0.07)
        fourth = ((weights - 0.5) ** 4).mean()
        # E (x - 1/2)^4 of Beta(a, a) is 3 / (16 (2a + 1)(2a + 3)).
        expect(
            fourth,
            3 / (16 * (2 * alpha + 1) * (2 * alpha + 3)),
            f"fourth moment, {what}",
            rtol=0.12,
        )
    pairs = student.mixing_weights(6000, 1.0).double()
    correlation = torch.corrcoef(torch.stack([pairs[:-1], pairs[1:]]))[0, 1]
    expect(correlation, 0.0, "correlation of neighbouring weights", atol=0.07)
    correlation = torch.corrcoef(torch.stack([pairs[:3000], pairs[3000:]]))[0, 1]
    expect(correlation, 0.0, "correlation of the first half with the second", atol=0.1)
    first, second = student.run(probes.calls, "mixing_weights", (50, 1.0), (50, 1.0))
    expect(first.dtype == torch.float32, True, "dtype is float32")
    require(not torch.equal(first, second), "two calls give the same weights", got=first)


@ex.check("images are blended", points=1)
def _(student):
    images, targets = torch.randn(5, 3, 4, 6), some_targets(5, 7)
    for partner in ([4, 2, 0, 1, 3], [1, 1, 4, 4, 0], [0, 1, 2, 3, 4]):
        order, weights = torch.tensor(partner), torch.rand(5)
        got = student.mixup(images, targets, order, weights)
        expect(got[0], blended(images, order, weights), f"images, partners {partner}", atol=1e-5)


@ex.check("targets are blended by the same weights", points=1)
def _(student):
    images, targets = torch.randn(4, 2, 3, 5), some_targets(4, 6)
    for partner in ([3, 2, 0, 1], [1, 1, 0, 0]):
        order, weights = torch.tensor(partner), torch.rand(4)
        got = student.mixup(images, targets, order, weights)
        want = blended(targets, order, weights)
        expect(got[1], want, f"targets, partners {partner}", atol=1e-5)
        expect(torch.as_tensor(got[1]).sum(1), torch.ones(4), "sums of the targets", atol=1e-5)


@ex.check("one row, float64, nothing modified", points=0.5)
def _(student):
    images, targets = torch.randn(1, 1, 2, 3).double(), some_targets(1, 4).double()
    order, weights = torch.tensor([0]), torch.tensor([0.3]).double()
    got = student.mixup(images, targets, order, weights)
    expect(got[0], images, "the only image", dtype=True)
    expect(got[1], targets, "the only target", dtype=True)
    images, targets, order = torch.randn(3, 2, 3, 3), some_targets(3, 3), torch.tensor([2, 0, 1])
    arguments = (images, targets, order, torch.tensor([0.2, 1.0, 0.0]))
    got = student.mixup(*arguments)
    expect(got[0], blended(images, order, arguments[3]), "images, weights 1 and 0", atol=1e-5)
    expect_unchanged(student, "mixup", "images targets partner weights", *arguments)


MIXED = "w * images + (1 - w) * images[partner]"
ex.mistake(
    "targets are not mixed",
    "Images AND targets are blended, by the same weight.",
    edit=("w * targets + (1 - w) * targets[partner]", "targets.clone()"),
)
ex.mistake(
    "the larger part decides the target",
    "The target is the blend, not the class with more weight.",
    edit=(
        "return mixed, w * targets + (1 - w) * targets[partner]",
        "return mixed, torch.where(w >= 0.5, targets, targets[partner])",
    ),
)
ex.mistake(
    "half and half for the targets",
    "The targets have the weights of the images.",
    edit=("w * targets + (1 - w) * targets[partner]", "0.5 * targets + 0.5 * targets[partner]"),
)
ex.mistake(
    "both targets in full",
    "The weights sum to one: a sum of 2 is no distribution.",
    edit=("w * targets + (1 - w) * targets[partner]", "targets + targets[partner]"),
)
ex.mistake(
    "the partner has the weight",
    "The weight belongs to the row itself.",
    edit=(MIXED, "(1 - w) * images + w * images[partner]"),
)
ex.mistake(
    "the partner's target has the weight",
    "The weight belongs to the row itself, in image and target.",
    edit=("w * targets + (1 - w) * targets[partner]", "(1 - w) * targets + w * targets[partner]"),
)
ex.mistake(
    "one weight for the batch",
    "Every row has its own weight here.",
    edit=("w = weights[:, None, None, None]", "w = weights[0]"),
)
ex.mistake(
    "the weight of the partner",
    "Row b is blended with weight b, not with its partner's.",
    edit=("w = weights[:, None, None, None]", "w = weights[partner][:, None, None, None]"),
)
ex.mistake(
    "the previous row as partner",
    "The partner is given.",
    edit=(MIXED, "w * images + (1 - w) * images.roll(1, 0)"),
)
ex.mistake(
    "another partner for the targets",
    "Image and target have the same partner.",
    edit=("(1 - w) * targets[partner]", "(1 - w) * targets.flip(0)"),
)
ex.mistake(
    "partners the other way round",
    "Row b gets row partner[b], not the row whose partner is b.",
    edit=[
        (MIXED, "w * images + (1 - w) * images[partner.argsort()]"),
        ("(1 - w) * targets[partner]", "(1 - w) * targets[partner.argsort()]"),
    ],
)
ex.mistake(
    "partners that are already mixed",
    "The partner is a row of the original batch: do not write where you still read.",
    edit=(
        "mixed = w * images + (1 - w) * images[partner]",
        "mixed = images.clone()\n"
        "    for b in range(len(mixed)):\n"
        "        mixed[b] = w[b] * mixed[b] + (1 - w[b]) * mixed[partner[b]]",
    ),
)
ex.mistake(
    "a uniform weight",
    "Beta(alpha, alpha) is uniform for alpha = 1 only.",
    edit=("torch.distributions.Beta(alpha, alpha).sample((count,))", "torch.rand(count)"),
)
ex.mistake(
    "one draw for all",
    "Each row has a draw of its own.",
    edit=(".sample((count,))", ".sample().expand(count)"),
)
ex.mistake(
    "Beta(alpha, 1)",
    "Both parameters are alpha: the distribution is symmetric.",
    edit=(
        "return torch.distributions.Beta(alpha, alpha)",
        "return torch.distributions.Beta(alpha, 1.0)",
    ),
)
ex.mistake(
    "the larger of lambda and 1 - lambda",
    "Nothing of that is stated here: the weights are symmetric about ½.",
    edit=(
        "return torch.distributions.Beta(alpha, alpha).sample((count,))",
        "w = torch.distributions.Beta(alpha, alpha).sample((count,))\n"
        "    return torch.maximum(w, 1 - w)",
    ),
)
ex.mistake(
    "a Gaussian weight",
    "The weights are drawn from Beta(alpha, alpha).",
    edit=(
        "torch.distributions.Beta(alpha, alpha).sample((count,))",
        "(0.5 + torch.randn(count) / (8 * alpha + 4) ** 0.5).clamp(0, 1)",
    ),
)
ex.mistake(
    "blends in place",
    "The caller's images stay as they are.",
    edit=(
        "mixed = " + MIXED,
        "mixed = images.mul_(w).add_((1 - w) * images[partner] / w.clamp(1e-3))",
    ),
)


SAMPLE = "torch.distributions.Beta(alpha, alpha).sample((count,))"
ex.mistake(
    "the same weights on every call",
    "Weights are drawn anew on each call: seed nothing and keep nothing.",
    edit=("return " + SAMPLE, "torch.manual_seed(0)\n    return " + SAMPLE),
)
ex.mistake(
    "the second half mirrors the first",
    "The weights are independent: draw all of them.",
    edit=(
        "return " + SAMPLE,
        "half = torch.distributions.Beta(alpha, alpha).sample(((count + 1) // 2,))\n"
        "    return torch.cat([half, 1 - half])[:count]",
    ),
)
ex.mistake(
    "weights in float64",
    "The stub asks for float32.",
    edit=(SAMPLE, SAMPLE + ".double()"),
)


@ex.alternative("lerp", replaces="mixup")
def _(images, targets, partner, weights):
    def blend(values):
        w = weights.reshape(-1, *[1] * (values.dim() - 1))
        return torch.lerp(values[partner], values, w.expand_as(values))

    return [blend(images), blend(targets)]


@ex.alternative("a mixing matrix", replaces="mixup")
def _(images, targets, partner, weights):
    matrix = torch.diag(weights)
    matrix[torch.arange(len(partner)), partner] += 1 - weights
    return torch.einsum("ab,bchw->achw", matrix, images), matrix @ targets


@ex.alternative("all in float64", replaces="mixup")
def _(images, targets, partner, weights):
    w = weights.double()
    pictures, rows, v = images.double(), targets.double(), w[:, None, None, None]
    mixed = v * pictures + (1 - v) * pictures[partner]
    return mixed, w[:, None] * rows + (1 - w[:, None]) * rows[partner]


@ex.alternative("two gammas", replaces="mixing_weights")
def _(count, alpha):
    a, b = torch.distributions.Gamma(torch.tensor(alpha).double(), 1.0).sample((2, count))
    return (a / (a + b)).nan_to_num(0.5).float()


@ex.alternative("numpy", replaces="mixing_weights")
def _(count, alpha):
    import numpy as np

    seed = int(torch.randint(0, 2**31, ()))
    return torch.from_numpy(np.random.default_rng(seed).beta(alpha, alpha, count)).float()


# ----------------------------------------------------------------------------------------------
# cutmix

ex = cutmix = Exercise("cutmix", defines=["cutmix_boxes", "cutmix"], forbids=[*LIBRARIES, "CutMix"])


def rectangles_by_loop(weights: Tensor, centres: Tensor, height: int, width: int) -> Tensor:
    """The oracle, in Python numbers."""
    rows = []
    for weight, (r, c) in zip(weights.tolist(), centres.tolist(), strict=True):
        share = math.sqrt(1 - weight)
        h, w = math.floor(height * share), math.floor(width * share)
        low = (max(c - w // 2, 0), max(r - h // 2, 0))
        rows.append([*low, min(c - w // 2 + w, width), min(r - h // 2 + h, height)])
    return torch.tensor(rows)


def pasted(
    images: Tensor, targets: Tensor, partner: Tensor, boxes: Tensor
) -> tuple[Tensor, Tensor]:
    """The oracle: pixels that come from the partner are counted."""
    mixed, soft = images.clone(), targets.clone()
    height, width = images.shape[-2:]
    for b, (x1, y1, x2, y2) in enumerate(boxes.tolist()):
        other, count = int(partner[b]), 0
        for i in range(y1, y2):
            for j in range(x1, x2):
                mixed[b, :, i, j] = images[other, :, i, j]
                count += 1
        share = count / (height * width)
        soft[b] = (1 - share) * targets[b] + share * targets[other]
    return mixed, soft


# The square roots of 1 - weight are 0.3, 0.55, 0.72, 0.45, 0.9 and 0.12, up to the last digits.
SAFE = torch.tensor([0.91, 0.6975, 0.4816, 0.7975, 0.19, 0.9856])


@ex.check("rectangles in the middle", points=1)
def _(student):
    for height, width in [(23, 37), (31, 17)]:
        centres = torch.tensor([[height // 2, width // 2], [height // 2 + 1, width // 2 - 1]] * 3)
        want = rectangles_by_loop(SAFE, centres, height, width)
        expect(student.cutmix_boxes(SAFE, centres, height, width), want, f"{height} x {width}")
    flat = student.cutmix_boxes(torch.tensor([0.9856]), torch.tensor([[2, 9]]), 4, 20)
    x1, y1, x2, y2 = torch.as_tensor(flat)[0].tolist()
    expect([x2 - x1, y2 - y1], [2, 0], "sides of 0.12 of 20 columns and 4 rows, rounded down")
    names = "weights centres height width"
    expect_unchanged(student, "cutmix_boxes", names, SAFE, centres, height, width)


@ex.check("rectangles at the border", points=1)
def _(student):
    height, width = 23, 37
    corners = [[0, 0], [22, 36], [0, 36], [22, 0], [3, 30], [20, 1]]
    for order in ([0, 1, 2, 3, 4, 5], [5, 4, 3, 2, 1, 0], [2, 5, 4, 0, 3, 1]):
        centres = torch.tensor([corners[k] for k in order])
        want = rectangles_by_loop(SAFE, centres, height, width)
        got = student.cutmix_boxes(SAFE, centres, height, width)
        expect(got, want, f"corners in the order {order}", dtype=True)
    ends = student.cutmix_boxes(torch.tensor([0.0]), torch.tensor([[11, 18]]), height, width)
    expect(ends, torch.tensor([[0, 0, 37, 23]]), "weight 0 in the middle")
    centres, zeros = torch.tensor([[0, 0], [22, 36], [5, 30]]), torch.zeros(3)
    want = rectangles_by_loop(zeros, centres, height, width)
    got = student.cutmix_boxes(zeros, centres, height, width)
    expect(got, want, "weight 0 away from the middle")
    full = student.cutmix_boxes(torch.tensor([1.0]), torch.tensor([[4, 9]]), height, width)
    x1, y1, x2, y2 = torch.as_tensor(full)[0].tolist()
    expect((x2 - x1) * (y2 - y1), 0, "area for weight 1")


BOXES_TO_PASTE = torch.tensor([[1, 0, 4, 3], [0, 2, 7, 5], [2, 2, 2, 4], [5, 1, 6, 2]])


@ex.check("images", points=1)
def _(student):
    images, targets = torch.randn(4, 3, 5, 7), some_targets(4, 6)
    for partner in ([1, 0, 3, 2], [2, 2, 0, 0], [3, 0, 1, 2]):
        order = torch.tensor(partner)
        got = student.cutmix(images, targets, order, BOXES_TO_PASTE)
        want = pasted(images, targets, order, BOXES_TO_PASTE)
        expect(got[0], want[0], f"images, partners {partner}")
    some = (images[:1], targets[:1], torch.tensor([0]), BOXES_TO_PASTE[:1])
    got = student.cutmix(*some)
    expect(got[0], images[:1], "a batch of one, pasted into itself")
    expect(got[1], targets[:1], "targets of a batch of one", atol=1e-5)


@ex.check("targets by the area that is pasted", points=1)
def _(student):
    images, targets = torch.randn(4, 1, 5, 7), some_targets(4, 5)
    for partner in ([1, 0, 3, 2], [3, 3, 1, 1]):
        order = torch.tensor(partner)
        got = student.cutmix(images, targets, order, BOXES_TO_PASTE)
        want = pasted(images, targets, order, BOXES_TO_PASTE)
        expect(got[1], want[1], f"targets, partners {partner}", atol=1e-5)
    whole = torch.tensor([[0, 0, 7, 5]] * 4)
    got = student.cutmix(images, targets, order, whole)
    expect(got[1], targets[order], "targets, all is pasted", atol=1e-5)
    expect(got[0], images[order], "images, all is pasted")
    images[:, :, :2] = 0
    for what, values in [("black borders", images), ("black images", 0 * images)]:
        got = student.cutmix(values, targets, order, BOXES_TO_PASTE)
        want = pasted(values, targets, order, BOXES_TO_PASTE)
        expect(got[1], want[1], f"targets, {what}", atol=1e-5)


@ex.check("float64, and nothing is modified", points=0.5)
def _(student):
    images, targets = torch.randn(4, 2, 5, 7).double(), some_targets(4, 3).double()
    order = torch.tensor([3, 0, 1, 2])
    got = student.cutmix(images, targets, order, BOXES_TO_PASTE)
    want = pasted(images, targets, order, BOXES_TO_PASTE)
    expect(got[0], want[0], "images", dtype=True)
    expect(got[1], want[1], "targets", atol=1e-6, dtype=True)
    names = "images targets partner boxes"
    expect_unchanged(student, "cutmix", names, images, targets, order, BOXES_TO_PASTE)


ex.mistake(
    "the weight is the pasted share",
    "The rectangle has the share 1 - weight.",
    edit=("share = (1 - weights).sqrt()", "share = weights.sqrt()"),
)
ex.mistake(
    "no square root",
    "Both sides are scaled by the root, so that the area is scaled by 1 - weight.",
    edit=("(1 - weights).sqrt()", "(1 - weights)"),
)
ex.mistake(
    "a square",
    "The rectangle has the image's proportions.",
    edit=("(width * share).long()], dim=1)", "(height * share).long()], dim=1)"),
)
ex.mistake(
    "the centre taken for the corner",
    "Half of the rectangle lies on either side of the centre.",
    edit=("low = centres - size // 2", "low = centres"),
)
ex.mistake(
    "not clipped",
    "The rectangle ends at the border.",
    edit=[
        (".minimum(centres.new_tensor([height, width]))", ""),
        ("low.clamp(min=0).flip(1)", "low.flip(1)"),
    ],
)
ex.mistake(
    "pushed inside",
    "What sticks out is cut off: the rectangle does not move.",
    edit=(
        "low = centres - size // 2",
        "low = (centres - size // 2).clamp(min=0)\n"
        "    low = low.minimum(centres.new_tensor([height, width]) - size)",
    ),
)
ex.mistake(
    "rows before columns",
    "Boxes are x1, y1, x2, y2: columns come first.",
    edit=[("low.clamp(min=0).flip(1)", "low.clamp(min=0)"), ("high.flip(1)", "high")],
)
ex.mistake(
    "clipped before the size is added",
    "x2 starts from the unclipped corner: clip both ends last.",
    edit=("low = centres - size // 2", "low = (centres - size // 2).clamp(min=0)"),
)
ex.mistake(
    "a pixel is lost",
    "x2 = x1 + r_w before clipping; twice r_w // 2 loses a pixel when r_w is odd.",
    edit=("high = (low + size)", "high = (centres + size // 2)"),
)
ex.mistake(
    "the size is rounded up",
    "The sides are rounded down.",
    edit=[
        ("(height * share).long()", "(height * share).ceil().long()"),
        ("(width * share).long()", "(width * share).ceil().long()"),
    ],
)
ex.mistake(
    "the share exchanged in the targets",
    "The row's own target has the share of its own pixels.",
    edit=(
        "own * targets + (1 - own) * targets[partner]",
        "(1 - own) * targets + own * targets[partner]",
    ),
)
ex.mistake(
    "targets are not mixed",
    "Part of the image is the partner's, so part of the target is.",
    edit=("own * targets + (1 - own) * targets[partner]", "targets.clone()"),
)
ex.mistake(
    "all images with the first rectangle",
    "Each row has its own rectangle.",
    edit=("slice(y1[b], y2[b]), slice(x1[b], x2[b])", "slice(y1[0], y2[0]), slice(x1[0], x2[0])"),
)
ex.mistake(
    "the last row and column left out",
    "x2 and y2 are ends as in a slice, not the last pixel less one.",
    edit=(
        "slice(y1[b], y2[b]), slice(x1[b], x2[b])",
        "slice(y1[b], y2[b] - 1), slice(x1[b], x2[b] - 1)",
    ),
)
ex.mistake(
    "rows and columns exchanged in the image",
    "x1 and x2 are columns, the last axis.",
    edit=("slice(y1[b], y2[b]), slice(x1[b], x2[b])", "slice(x1[b], x2[b]), slice(y1[b], y2[b])"),
)
ex.mistake(
    "pastes from images that are already mixed",
    "The partner's pixels come from the original batch.",
    edit=("= images[partner[b], :, rows, columns]", "= mixed[partner[b], :, rows, columns]"),
)
ex.mistake(
    "what is around the rectangle is pasted",
    "The rectangle is the partner's, the rest is the row's own.",
    edit=[
        ("mixed = images.clone()", "mixed = images[partner]"),
        ("= images[partner[b], :, rows, columns]", "= images[b, :, rows, columns]"),
    ],
)
ex.mistake(
    "the blend inside the rectangle",
    "CutMix replaces; mixup blends.",
    edit=(
        "mixed[b, :, rows, columns] = images[partner[b], :, rows, columns]",
        "mixed[b, :, rows, columns] = (images[b] + images[partner[b]])[:, rows, columns] / 2",
    ),
)
ex.mistake(
    "the area of the sides' sum",
    "Area is the product of the sides.",
    edit=(
        "(x2 - x1) * (y2 - y1) / (height * width)",
        "((x2 - x1) / width + (y2 - y1) / height) / 2",
    ),
)
ex.mistake(
    "pastes into the caller's images",
    "The caller's images stay as they are: clone first.",
    edit=("mixed = images.clone()", "mixed = images"),
)


ex.mistake(
    "weight 0 is the whole image",
    "With weight 0 the rectangle is as large as the image, but about its centre: it is clipped.",
    edit=(
        "return torch.cat([low.clamp(min=0).flip(1), high.flip(1)], dim=1)",
        "boxes = torch.cat([low.clamp(min=0).flip(1), high.flip(1)], dim=1)\n"
        "    boxes[weights == 0] = boxes.new_tensor([0, 0, width, height])\n"
        "    return boxes",
    ),
)
ex.mistake(
    "at least one pixel",
    "The sides are rounded down, to 0 too.",
    edit=(
        "low = centres - size // 2",
        "size = torch.where(weights[:, None] < 1, size.clamp(min=1), size)\n"
        "    low = centres - size // 2",
    ),
)
ex.mistake(
    "moves the caller's centres",
    "The caller's centres stay as they are: compute new ones.",
    edit=("low = centres - size // 2", "low = centres.sub_(size // 2)"),
)
ex.mistake(
    "writes into the caller's weights",
    "The caller's weights stay as they are: compute new ones.",
    edit=("(1 - weights).sqrt()", "weights.neg_().add_(1).sqrt_()"),
)
ex.mistake(
    "the share of pixels that changed",
    "A pasted pixel may have the colour of the one below it: take the area of the rectangle.",
    edit=(
        "(1 - (x2 - x1) * (y2 - y1) / (height * width))[:, None]",
        "(mixed == images).all(dim=1).double().mean(dim=(1, 2))[:, None]",
    ),
)


@ex.alternative("a mask and where", replaces="cutmix")
def _(images, targets, partner, boxes):
    y, x = torch.arange(images.shape[2])[:, None], torch.arange(images.shape[3])
    b = boxes[:, :, None, None]
    inside = (x >= b[:, 0]) & (x < b[:, 2]) & (y >= b[:, 1]) & (y < b[:, 3])
    share = inside.double().mean(dim=(1, 2)).to(targets.dtype)[:, None]
    mixed = torch.where(inside[:, None], images[partner], images)
    return [mixed, torch.lerp(targets, targets[partner], share.expand_as(targets))]


@ex.alternative("a product with a mask, in float64", replaces="cutmix")
def _(images, targets, partner, boxes):
    keep = torch.ones(len(images), 1, *images.shape[-2:], dtype=torch.float64)
    for b, (x1, y1, x2, y2) in enumerate(boxes.tolist()):
        keep[b, :, y1:y2, x1:x2] = 0
    own = keep.mean((1, 2, 3))[:, None]
    mixed = keep * images + (1 - keep) * images[partner]
    return mixed, own * targets + (1 - own) * targets[partner]


@ex.alternative("row by row, in Python numbers", replaces="cutmix")
def _(images, targets, partner, boxes):
    mixed, soft = [], []
    for b, (x1, y1, x2, y2) in enumerate(boxes.tolist()):
        image = images[b].clone()
        image[:, y1:y2, x1:x2] = images[partner[b]][:, y1:y2, x1:x2]
        share = (x2 - x1) * (y2 - y1) / image[0].numel()
        mixed.append(image)
        soft.append((1 - share) * targets[b] + share * targets[partner[b]])
    return torch.stack(mixed), torch.stack(soft)


@ex.alternative("math, row by row", replaces="cutmix_boxes")
def _(weights, centres, height, width):
    boxes = torch.zeros(len(weights), 4, dtype=torch.int64)
    for b, weight in enumerate(weights.tolist()):
        r_h, r_w = (int(side * (1 - weight) ** 0.5) for side in (height, width))
        y, x = int(centres[b, 0]) - r_h // 2, int(centres[b, 1]) - r_w // 2
        ends = [max(x, 0), max(y, 0), min(x + r_w, width), min(y + r_h, height)]
        boxes[b] = torch.tensor(ends)
    return boxes


@ex.alternative("float64, column by column", replaces="cutmix_boxes")
def _(weights, centres, height, width):
    root = torch.sqrt(1 - weights.double())
    columns = []
    for side, centre in ((width, centres[:, 1]), (height, centres[:, 0])):
        length = torch.floor(side * root).to(torch.int64)
        first = centre - torch.div(length, 2, rounding_mode="floor")
        columns.append((first.clamp(0, side), (first + length).clamp(0, side)))
    (x1, x2), (y1, y2) = columns
    return torch.stack([x1, y1, x2, y2], dim=1)


# ----------------------------------------------------------------------------------------------
# pipeline

ex = pipeline = Exercise("pipeline", defines=["Pipeline"], forbids=[*LIBRARIES, "Normalize"])


def add_one(images: Tensor, generator: torch.Generator) -> Tensor:
    return images + 1


def double(images: Tensor, generator: torch.Generator) -> Tensor:
    return 2 * images


def square(images: Tensor, generator: torch.Generator) -> Tensor:
    return images**2


def next_image(images: Tensor, generator: torch.Generator) -> Tensor:
    return images + images.roll(1, 0)


def untouched(images: Tensor, generator: torch.Generator) -> Tensor:
    return images


def random_shift(images: Tensor, generator: torch.Generator) -> Tensor:
    return images + torch.rand(len(images), 1, 1, 1, generator=generator)


def run_pipeline(
    student: Any,
    train: Tensor,
    steps: list,
    batches: list[Tensor],
    modes: list[bool],
    seed: int = 0,
) -> dict[str, Any]:
    """A probe: a pipeline on several batches, each in its mode; outputs, buffers, next number."""
    import torch

    generator = torch.Generator().manual_seed(seed)
    made = student.Pipeline(train, steps, generator)
    outputs = []
    for batch, mode in zip(batches, modes, strict=True):
        made.train(mode)
        outputs.append(made(batch))
    return {
        "outputs": outputs,
        "buffers": dict(made.named_buffers()),
        "batches": batches,
        "train": train,
        "steps": len(steps),
        "next": torch.rand(1, generator=generator).item(),
    }


def normalised(train: Tensor, images: Tensor) -> Tensor:
    """The oracle, in float64."""
    channels = train.double().movedim(1, 0).flatten(1)
    mean = channels.mean(1)
    std = ((channels - mean[:, None]) ** 2).mean(1).sqrt()
    return ((images.double() - mean[:, None, None]) / std[:, None, None]).float()


def training_images(*shape: int) -> Tensor:
    level = torch.arange(1, shape[1] + 1)[:, None, None] / (2 * shape[1])
    return level * torch.rand(*shape) + level / 3


@ex.check("statistics of the training images", points=1)
def _(student):
    for shape in [(5, 3, 4, 6), (2, 1, 2, 3), (1, 2, 3, 2)]:
        train = training_images(*shape)
        got = student.run(run_pipeline, train, [], [], [])
        channels = train.double().movedim(1, 0).flatten(1)
        mean = channels.mean(1)[:, None, None].float()
        std = channels.std(1, correction=0)[:, None, None].float()
        expect(got["buffers"].get("mean"), mean, f"mean of {shape}", dtype=True)
        expect(got["buffers"].get("std"), std, f"std of {shape}", dtype=True)
        expect(sorted(got["buffers"]), ["mean", "std"], "names of the buffers")
        expect(got["train"], train, "the training images afterwards", rtol=0, atol=0)
        expect(got["steps"], 0, "length of the list of augmentations afterwards")


@ex.check("evaluation: normalised with these statistics, nothing else", points=1)
def _(student):
    train, batch = training_images(6, 3, 4, 5), torch.rand(4, 3, 7, 2)
    steps = [add_one, random_shift]
    got = student.run(run_pipeline, train, steps, [batch, batch[:1]], [False, False], 3)
    expect(got["outputs"][0], normalised(train, batch), "a batch", atol=1e-5)
    expect(got["outputs"][1], normalised(train, batch[:1]), "a batch of one", atol=1e-5)
    first = torch.rand(1, generator=seeded(3)).item()
    expect(got["next"], first, "next number of the generator")
    dark, batch = 0.003 * train, 0.01 * batch
    got = student.run(run_pipeline, dark, [], [batch], [False])
    expect(got["outputs"][0], normalised(dark, batch), "dark images", rtol=1e-3, atol=1e-4)


@ex.check("training: augmented in this order, then normalised", points=1)
def _(student):
    train, batch = training_images(6, 3, 4, 5), torch.rand(2, 3, 3, 4)
    for steps, value in [
        ([add_one, double], 2 * (batch + 1)),
        ([double, add_one, square], (2 * batch + 1) ** 2),
        ([square], batch**2),
        ([next_image, square], (batch + batch.flip(0)) ** 2),
        ([], batch),
    ]:
        got = student.run(run_pipeline, train, steps, [batch], [True])
        what = " then ".join(step.__name__ for step in steps) or "no augmentation"
        expect(got["outputs"][0], normalised(train, value), what, rtol=1e-3, atol=1e-4)


def default_mode(student: Any, train: Tensor, batch: Tensor, steps: list) -> list[Tensor]:
    """A probe: as made, then inside a model that is switched."""
    import torch

    made = student.Pipeline(train, steps, torch.Generator())
    outputs = [made(batch)]
    model = torch.nn.Sequential(made, torch.nn.Identity())
    for mode in (False, True):
        outputs.append(model.train(mode)(batch))
    with torch.no_grad():
        outputs.append(made(batch))
    return outputs


@ex.check("the mode is a module's mode", points=0.5)
def _(student):
    train, batch = training_images(4, 2, 3, 3), torch.rand(2, 2, 3, 3)
    got = student.run(default_mode, train, batch, [add_one])
    plain, augmented = normalised(train, batch), normalised(train, batch + 1)
    what = "as made, evaluation, training, training without gradients"
    expect(got, [augmented, plain, augmented, augmented], what, atol=1e-4)


@ex.check("the generator is handed on, the batch is not modified", points=1)
def _(student):
    train, batch = training_images(4, 2, 3, 3), torch.rand(3, 2, 4, 3)
    got = student.run(run_pipeline, train, [random_shift], [batch, batch], [True, True], 11)
    generator = seeded(11)
    for number, output in enumerate(got["outputs"]):
        want = normalised(train, random_shift(batch, generator))
        expect(output, want, f"call {number + 1}", atol=1e-4)
    expect(got["batches"], [batch, batch], "the batch afterwards")
    for steps, mode in [([], True), ([untouched], True), ([untouched], False)]:
        after = student.run(run_pipeline, train, steps, [batch], [mode])["batches"]
        names = [step.__name__ for step in steps]
        expect(after, [batch], f"the batch afterwards, training {mode}, {names}", rtol=0, atol=0)
    following = torch.rand(1, generator=generator).item()
    expect(got["next"], following, "next number of the generator after two calls")


ex.mistake(
    "augments in evaluation too",
    "Random changes only if self.training is true.",
    edit=("if self.training:", "if True:"),
)
ex.mistake(
    "never augments",
    "In training mode the augmentations are applied.",
    edit=("if self.training:", "if False:"),
)
ex.mistake(
    "augments in evaluation only",
    "The mode is exchanged.",
    edit=("if self.training:", "if not self.training:"),
)
ex.mistake(
    "normalises first",
    "The augmentations see values in [0, 1]: normalise last.",
    edit=[
        (
            "        if self.training:\n",
            "        images = (images - self.mean) / self.std\n        if self.training:\n",
        ),
        ("return (images - self.mean) / self.std", "return images"),
    ],
)
ex.mistake(
    "normalises in training only",
    "Both modes normalise.",
    edit=(
        "return (images - self.mean) / self.std",
        "return (images - self.mean) / self.std if self.training else images",
    ),
)
ex.mistake(
    "statistics of the batch",
    "Statistics come from the training split, once and for all.",
    edit=(
        "return (images - self.mean) / self.std",
        "std, mean = torch.std_mean(images, dim=(0, 2, 3), correction=0, keepdim=True)\n"
        "        return (images - mean) / std",
    ),
)
ex.mistake(
    "one number for all channels",
    "Each channel has its own statistics.",
    edit=[
        ("mean[:, None, None]", "mean.mean().expand(len(mean))[:, None, None]"),
        ("std[:, None, None]", "train_images.std(correction=0).expand(len(std))[:, None, None]"),
    ],
)
ex.mistake(
    "a mean for each pixel",
    "A channel's statistics are over all images and all pixels.",
    edit=[
        ("dim=(0, 2, 3), correction=0)", "dim=0, correction=0)"),
        ('"mean", mean[:, None, None]', '"mean", mean'),
        ('"std", std[:, None, None]', '"std", std'),
    ],
)
ex.mistake(
    "divides by the variance",
    "Divide by the standard deviation.",
    edit=("/ self.std", "/ self.std**2"),
)
ex.mistake(
    "divisor N H W - 1",
    "The stub states the divisor N H W: correction=0.",
    edit=("correction=0", "correction=1"),
)
ex.mistake(
    "reversed order",
    "The augmentations are applied in the order given.",
    edit=("in self.augmentations:", "in self.augmentations[::-1]:"),
)
ex.mistake(
    "only the last augmentation",
    "Each augmentation works on what the one before returned.",
    edit=[
        (
            "for augmentation in self.augmentations:",
            "original = images\n            for augmentation in self.augmentations:",
        ),
        ("augmentation(images, self.generator)", "augmentation(original, self.generator)"),
    ],
)
ex.mistake(
    "no buffers",
    "register_buffer makes a tensor a part of the module, which moves with it.",
    edit=[
        ('self.register_buffer("mean", mean[:, None, None])', "self.mean = mean[:, None, None]"),
        ('self.register_buffer("std", std[:, None, None])', "self.std = std[:, None, None]"),
    ],
)
ex.mistake(
    "a generator of its own",
    "The augmentations get the generator that was given.",
    edit=("augmentation(images, self.generator)", "augmentation(images, torch.Generator())"),
)
ex.mistake(
    "normalises in place",
    "The caller's batch stays as it is.",
    edit=("(images - self.mean) / self.std", "images.sub_(self.mean).div_(self.std)"),
)


ex.mistake(
    "normalises in place while training",
    "An augmentation may return the batch itself: subtract and divide into new tensors.",
    edit=(
        "return (images - self.mean) / self.std",
        "if self.training:\n"
        "            return images.sub_(self.mean).div_(self.std)\n"
        "        return (images - self.mean) / self.std",
    ),
)
ex.mistake(
    "shifts the training images",
    "The caller's training images stay as they are.",
    edit=(
        'self.register_buffer("mean", mean[:, None, None])',
        "train_images -= mean[:, None, None]\n"
        '        self.register_buffer("mean", mean[:, None, None])',
    ),
)
ex.mistake(
    "one image at a time",
    "An augmentation gets the whole batch: it may mix its images.",
    edit=(
        "images = augmentation(images, self.generator)",
        "images = torch.cat([augmentation(x[None], self.generator) for x in images])",
    ),
)
ex.mistake(
    "augments only where gradients are recorded",
    "The mode is self.training, whether gradients are on or off.",
    edit=("if self.training:", "if self.training and torch.is_grad_enabled():"),
)
ex.mistake(
    "a lower bound for the deviation",
    "No channel is constant: divide by the deviation as it is, however small.",
    edit=("/ self.std", "/ self.std.clamp(min=0.01)"),
)
ex.mistake(
    "adds to the caller's list",
    "The caller's list of augmentations stays as it is: copy it.",
    edit=(
        "self.augmentations, self.generator = list(augmentations), generator",
        "self.augmentations, self.generator = augmentations, generator\n"
        "        augmentations.append(lambda x, g: x)",
    ),
)


@ex.alternative("statistics by hand")
class _(nn.Module):
    mean: Tensor
    std: Tensor

    def __init__(self, train_images, augmentations, generator):
        super().__init__()
        channels = train_images.transpose(0, 1).reshape(train_images.shape[1], -1).double()
        mean = channels.mean(dim=1)
        deviation = (channels - mean[:, None]).square().mean(dim=1).sqrt()
        self.register_buffer("std", deviation.reshape(-1, 1, 1).float())
        self.register_buffer("mean", mean.reshape(-1, 1, 1).float())
        self.steps = tuple(augmentations)
        self.random = generator

    def forward(self, images):
        steps = self.steps if self.training else ()
        for step in steps:
            images = step(images, self.random)
        return images.sub(self.mean).div(self.std)


@ex.alternative("reduce, and an early return")
class _(nn.Module):
    mean: Tensor
    std: Tensor

    def __init__(self, train_images, augmentations, generator):
        nn.Module.__init__(self)
        self.generator = generator
        self.augmentations = augmentations
        dims = (0, 2, 3)
        self.register_buffer("mean", train_images.mean(dims, keepdim=True)[0])
        self.register_buffer("std", train_images.var(dims, unbiased=False, keepdim=True)[0].sqrt())

    def normalise(self, images):
        return (images - self.mean) * (1 / self.std)

    def forward(self, images):
        from functools import reduce

        if not self.training:
            return self.normalise(images)
        steps: Any = self.augmentations
        return self.normalise(reduce(lambda x, f: f(x, self.generator), steps, images))


@ex.alternative("buffers that are not saved")
class _(nn.Module):
    mean: Tensor
    std: Tensor

    def __init__(self, train_images, augmentations, generator):
        super().__init__()
        self.augmentations, self.generator = augmentations, generator
        std, mean = torch.std_mean(train_images, dim=(0, 2, 3), correction=0)
        self.register_buffer("mean", mean[:, None, None], persistent=False)
        self.register_buffer("std", std[:, None, None], persistent=False)

    def forward(self, images):
        for augmentation in self.augmentations if self.training else []:
            images = augmentation(images, self.generator)
        return (images - self.mean) / self.std


# ----------------------------------------------------------------------------------------------
# tta

ex = tta = Exercise("tta", defines=["predict_views", "predict_maps"], forbids=LIBRARIES)


def linear_model(weight: Tensor) -> Any:
    """A model (B, C, H, W) -> (B, K): not symmetric under any view."""
    return lambda x: torch.einsum("kchw,bchw->bk", weight, x)


def pixel_model(weight: Tensor) -> Any:
    """A model (B, C, H, W) -> (B, 1, H, W) that depends on the place."""
    return lambda x: (x * weight).sum(dim=1, keepdim=True)


def mirror(x: Tensor) -> Tensor:
    return x.flip(-1)


def upside_down(x: Tensor) -> Tensor:
    return x.flip(-2)


def same(x: Tensor) -> Tensor:
    return x


def roll(x: Tensor) -> Tensor:
    return x.roll(1, -1)


def roll_back(x: Tensor) -> Tensor:
    return x.roll(-1, -1)


def dim(x: Tensor) -> Tensor:
    return 0.3 * x


def views_probe(student: Any, weight: Tensor, images: Tensor, views: list) -> dict[str, Any]:
    """A probe: prediction, whether a gradient is recorded, sizes of the model's batches."""
    import torch

    weight = weight.clone().requires_grad_()
    seen, inside = [], []

    def model(x):
        seen.append(len(x))
        inside.append(torch.is_grad_enabled())
        return (weight * x[:, None]).sum(dim=(2, 3, 4))

    got = student.predict_views(model, images, views)
    return {
        "prediction": got,
        "gradient": bool(got.requires_grad),
        "calls": seen,
        "inside": inside,
    }


def maps_probe(student: Any, weight: Tensor, images: Tensor, views: list) -> dict[str, Any]:
    """A probe, as `views_probe`."""
    import torch

    weight = weight.clone().requires_grad_()
    seen, inside = [], []

    def model(x):
        seen.append(len(x))
        inside.append(torch.is_grad_enabled())
        return (x * weight).sum(dim=1, keepdim=True)

    got = student.predict_maps(model, images, views)
    return {
        "prediction": got,
        "gradient": bool(got.requires_grad),
        "calls": seen,
        "inside": inside,
    }


def states_probe(student: Any, name: str, images: Tensor, views: list) -> dict[str, Any]:
    """A probe: a module's mode while it is called and afterwards, and the gradient switch."""
    import torch

    class Model(torch.nn.Module):
        def forward(self, x):
            modes.append(self.training)
            return x.mean(dim=(2, 3)) if name == "predict_views" else x[:, :1]

    model, during, after, switch = Model(), [], [], []
    for mode in (True, False):
        modes: list[bool] = []
        model.train(mode)
        with torch.set_grad_enabled(mode):
            getattr(student, name)(model, images, views)
            switch.append(torch.is_grad_enabled())
        during.append(modes)
        after.append(model.training)
    torch.set_grad_enabled(True)
    return {"during": during, "after": after, "switch": switch}


def views_by_loop(weight: Tensor, images: Tensor, views: list) -> Tensor:
    """The oracle."""
    total = torch.zeros(len(images), len(weight), dtype=torch.float64)
    for view in views:
        logits = linear_model(weight)(view(images)).double()
        total += logits.exp() / logits.exp().sum(dim=1, keepdim=True)
    return (total / len(views)).float()


def maps_by_loop(weight: Tensor, images: Tensor, views: list) -> Tensor:
    """The oracle."""
    total = torch.zeros(len(images), 1, *images.shape[2:], dtype=torch.float64)
    for there, back in views:
        logits = pixel_model(weight)(there(images)).double()
        total += back(1 / (1 + (-logits).exp()))
    return (total / len(views)).float()


@ex.check("classes: the mean of probabilities", points=1)
def _(student):
    images, weight = torch.randn(5, 2, 3, 4), torch.randn(7, 2, 3, 4)
    for views in (
        [same],
        [mirror],
        [same, mirror],
        [mirror, upside_down, roll, dim],
        [roll, roll, same],
    ):
        got = student.run(views_probe, weight, images, views)
        names = ", ".join(view.__name__ for view in views)
        expect(got["prediction"], views_by_loop(weight, images, views), names, atol=1e-5)


@ex.check("classes: confident and unequal views, a batch of one", points=1)
def _(student):
    images, weight = 6 * torch.randn(1, 1, 2, 3), 3 * torch.randn(4, 1, 2, 3)
    views = [mirror, dim, dim, upside_down]
    got = student.run(views_probe, weight, images, views)
    expect(got["prediction"], views_by_loop(weight, images, views), "one image", atol=1e-5)
    large = 60 * images
    got = student.run(views_probe, weight, large, [same])["prediction"]
    want = linear_model(weight)(large).softmax(dim=1)
    expect(got, want, "logits of several hundred", atol=1e-5)


@ex.check("maps: probabilities taken back, then averaged", points=1)
def _(student):
    images, weight = 2 * torch.randn(3, 2, 4, 5), torch.randn(2, 4, 5)
    for views in (
        [(same, same)],
        [(same, same), (mirror, mirror)],
        [(roll, roll_back), (upside_down, upside_down), (dim, same)],
        [(dim, dim)],
    ):
        got = student.run(maps_probe, weight, images, views)
        names = ", ".join(there.__name__ for there, _ in views)
        expect(got["prediction"], maps_by_loop(weight, images, views), names, atol=1e-5)
    for what, some in [("one image", images[:1]), ("logits of several hundred", 100 * images)]:
        got = student.run(maps_probe, weight, some, [(same, same), (mirror, mirror)])
        want = maps_by_loop(weight, some, [(same, same), (mirror, mirror)])
        expect(got["prediction"], want, what, atol=1e-5)


@ex.check("one call for each view, no gradient", points=1)
def _(student):
    images, weight = torch.randn(3, 1, 2, 4), torch.randn(5, 1, 2, 4)
    got = student.run(views_probe, weight, images, [same, mirror, dim])
    expect(got["calls"], [3, 3, 3], "classes: sizes of the batches that the model saw")
    require(not got["gradient"], "classes: a gradient is recorded", got=got["gradient"])
    expect(got["inside"], [False] * 3, "classes: gradients are on inside the model")
    pairs = [(same, same), (mirror, mirror)]
    got = student.run(maps_probe, weight[0], images, pairs)
    expect(got["calls"], [3, 3], "maps: sizes of the batches that the model saw")
    require(not got["gradient"], "maps: a gradient is recorded", got=got["gradient"])
    expect(got["inside"], [False] * 2, "maps: gradients are on inside the model")
    for name, views in [("predict_views", [same, mirror]), ("predict_maps", pairs)]:
        got = student.run(states_probe, name, images, views)
        expect(got["during"], [2 * [True], 2 * [False]], f"{name}: is the model in training mode")
        expect(got["after"], [True, False], f"{name}: is it in training mode afterwards")
        expect(got["switch"], [True, False], f"{name}: are gradients on afterwards")


ex.mistake(
    "the mean of logits",
    "Softmax first, mean then: a view that is sure of itself must not outvote the others.",
    edit=(
        "torch.stack([model(view(images)).softmax(dim=1) for view in views]).mean(dim=0)",
        "torch.stack([model(view(images)) for view in views]).mean(dim=0).softmax(dim=1)",
    ),
)
ex.mistake(
    "logits, no softmax",
    "Probabilities are averaged.",
    edit=("model(view(images)).softmax(dim=1)", "model(view(images))"),
)
ex.mistake(
    "the sum over the views",
    "The mean is a distribution, the sum is not.",
    edit=("for view in views]).mean(dim=0)", "for view in views]).sum(dim=0)"),
)
ex.mistake(
    "a vote",
    "Probabilities are averaged, not decisions.",
    edit=(
        "model(view(images)).softmax(dim=1)",
        "(lambda p: F.one_hot(p.argmax(dim=1), p.shape[1]).float())(model(view(images)))",
    ),
)
ex.mistake(
    "softmax over the batch",
    "The classes are dimension 1.",
    edit=(".softmax(dim=1)", ".softmax(dim=0)"),
)
ex.mistake(
    "the largest probability over the views",
    "The mean over the views, not the maximum.",
    edit=("for view in views]).mean(dim=0)", "for view in views]).amax(dim=0)"),
)
ex.mistake(
    "the original is added",
    "Only the views that are given count.",
    edit=("for view in views])", "for view in [lambda x: x, *views]])"),
)
ex.mistake(
    "views of views",
    "Each view is made of the original images.",
    edit=(
        "return torch.stack([model(view(images)).softmax(dim=1) for view in views]).mean(dim=0)",
        "results = []\n"
        "        for view in views:\n"
        "            images = view(images)\n"
        "            results.append(model(images).softmax(dim=1))\n"
        "        return torch.stack(results).mean(dim=0)",
    ),
)
ex.mistake(
    "the geometric mean",
    "The arithmetic mean of probabilities is asked for.",
    edit=(
        "return torch.stack([model(view(images)).softmax(dim=1) for view in views]).mean(dim=0)",
        "logs = torch.stack([model(view(images)).log_softmax(dim=1) for view in views])\n"
        "        return logs.mean(dim=0).exp()",
    ),
)
ex.mistake(
    "maps not taken back",
    "A flipped image has a flipped answer: take it back before the mean.",
    edit=("back(model(there(images)).sigmoid())", "model(there(images)).sigmoid()"),
)
ex.mistake(
    "the mean of logit maps",
    "Sigmoid first, mean then.",
    edit=[
        ("back(model(there(images)).sigmoid())", "back(model(there(images)))"),
        ("torch.stack(maps).mean(dim=0)", "torch.stack(maps).mean(dim=0).sigmoid()"),
    ],
)
ex.mistake(
    "taken back before the sigmoid",
    "The function goes with the probabilities: it need not commute with the sigmoid.",
    edit=("back(model(there(images)).sigmoid())", "back(model(there(images))).sigmoid()"),
)
ex.mistake(
    "there and back exchanged",
    "The pair is (there, back).",
    edit=("for there, back in views", "for back, there in views"),
)
ex.mistake(
    "the sum of maps",
    "The mean over the views is asked for.",
    edit=("torch.stack(maps).mean(dim=0)", "torch.stack(maps).sum(dim=0)"),
)
ex.mistake(
    "maps through a softmax",
    "One logit a pixel: its probability is the sigmoid.",
    edit=(".sigmoid()", ".softmax(dim=1)"),
)
ex.mistake(
    "taken back before the model",
    "The model sees the view; its answer is taken back.",
    edit=("back(model(there(images)).sigmoid())", "model(back(there(images))).sigmoid()"),
)
ex.mistake(
    "records gradients",
    "Prediction needs no graph: torch.no_grad().",
    edit=[
        (
            "with torch.no_grad():\n        return torch.stack([m",
            "with torch.enable_grad():\n        return torch.stack([m",
        )
    ],
)
ex.mistake(
    "records gradients of maps",
    "Prediction needs no graph: torch.no_grad().",
    edit=[("with torch.no_grad():\n        maps", "with torch.enable_grad():\n        maps")],
)


VIEWS = (
    "with torch.no_grad():\n"
    "        return torch.stack([model(view(images)).softmax(dim=1) for view in views]).mean(dim=0)"
)
MAPS = (
    "with torch.no_grad():\n"
    "        maps = [back(model(there(images)).sigmoid()) for there, back in views]\n"
    "        return torch.stack(maps).mean(dim=0)"
)
ex.mistake(
    "detaches at the end",
    "The model has recorded its graph by then: call it inside torch.no_grad().",
    edit=[
        (VIEWS, "if True:" + VIEWS.removeprefix("with torch.no_grad():") + ".detach()"),
        (MAPS, "if True:" + MAPS.removeprefix("with torch.no_grad():") + ".detach()"),
    ],
)
ex.mistake(
    "detaches maps at the end",
    "The model has recorded its graph by then: call it inside torch.no_grad().",
    edit=(MAPS, "if True:" + MAPS.removeprefix("with torch.no_grad():") + ".detach()"),
)
EVAL = "if isinstance(model, nn.Module):\n        model.eval()\n    "
ex.mistake(
    "switches the model to evaluation",
    "The mode is the caller's choice: call neither eval() nor train().",
    edit=[(VIEWS, EVAL + VIEWS), (MAPS, EVAL + MAPS)],
)
ex.mistake(
    "in evaluation mode, then back",
    "The model is called in the mode that the caller chose.",
    edit=[
        (
            VIEWS,
            "mode = getattr(model, 'training', False)\n    "
            + EVAL
            + VIEWS.replace("return ", "found = ")
            + "\n    if isinstance(model, nn.Module):\n        model.train(mode)\n    return found",
        ),
        (
            MAPS,
            "mode = getattr(model, 'training', False)\n    "
            + EVAL
            + MAPS.replace("return ", "found = ")
            + "\n    if isinstance(model, nn.Module):\n        model.train(mode)\n    return found",
        ),
    ],
)
ex.mistake(
    "gradients stay off",
    "torch.set_grad_enabled as a call works on after the function: use `with torch.no_grad():`.",
    edit=[
        (VIEWS, "torch.set_grad_enabled(False)\n    " + VIEWS),
        (MAPS, "torch.set_grad_enabled(False)\n    " + MAPS),
    ],
)
ex.mistake(
    "gradients are switched on",
    "Afterwards gradients are on or off as they were: use `with torch.no_grad():`.",
    edit=(
        VIEWS,
        VIEWS.replace("return ", "found = ")
        + "\n    torch.set_grad_enabled(True)\n    return found",
    ),
)
ex.mistake(
    "the original is added to a single view",
    "Only the views that are given count, also where there is one.",
    edit=(
        "for view in views])",
        "for view in (views if len(views) > 1 else [lambda x: x, *views])])",
    ),
)
ex.mistake(
    "the model is called twice for each view",
    "Keep what the model returned: each call costs a pass through the network.",
    edit=(
        "model(view(images)).softmax(dim=1)",
        "(model(view(images)), model(view(images)).softmax(dim=1))[1]",
    ),
)
ex.mistake(
    "the sigmoid overflows",
    "exp of a large logit is infinite, and inf / inf is NaN: use torch.sigmoid.",
    edit=(
        "back(model(there(images)).sigmoid())",
        "back((lambda e: e / (1 + e))(model(there(images)).exp()))",
    ),
)


@ex.alternative("a running sum", replaces="predict_views")
def _(model, images, views):
    total = 0.0
    for view in views:
        with torch.no_grad():
            logits = model(view(images))
        weights = (logits - logits.amax(dim=1, keepdim=True)).exp()
        total = total + weights / weights.sum(dim=1, keepdim=True) / len(views)
    return total


@ex.alternative("logsumexp", replaces="predict_views")
def _(model, images, views):
    with torch.inference_mode():
        logs = torch.stack([model(view(images)).double().log_softmax(-1) for view in views])
        return (logs.logsumexp(0) - math.log(len(views))).exp().float().clone()


@ex.alternative("a running mean", replaces="predict_maps")
def _(model, images, views):
    mean = None
    for number, (there, back) in enumerate(views, start=1):
        with torch.inference_mode():
            found = back(torch.sigmoid(model(there(images))))
        found = found.clone()
        mean = found if mean is None else mean + (found - mean) / number
    return mean


@ex.alternative("a sum in float64", replaces="predict_maps")
def _(model, images, views):
    total = torch.zeros(len(images), 1, *images.shape[2:], dtype=torch.float64)
    with torch.no_grad():
        for pair in views:
            total += pair[1](1 / (1 + torch.exp(-model(pair[0](images)))))
    return (total / len(views)).to(images.dtype)


# ----------------------------------------------------------------------------------------------
# tabular

ex = tabular = Exercise(
    "tabular",
    defines=["smote", "add_outliers"],
    forbids=[*LIBRARIES, "sklearn", "imblearn", "SMOTE"],
)


def made_rows(
    student: Any, rows: Tensor, count: int, k: int, seed: int, other: int = 0
) -> list[Tensor]:
    """A probe: two calls with one generator."""
    import torch

    torch.manual_seed(other)  # the global generator must not matter
    generator = torch.Generator().manual_seed(seed)
    return [student.smote(rows, count, k, generator) for _ in range(2)]


def damaged_rows(
    student: Any, x: Tensor, share: float, reach: float, seed: int, other: int = 0
) -> list[Tensor]:
    """A probe: two calls with one generator."""
    import torch

    torch.manual_seed(other)
    generator = torch.Generator().manual_seed(seed)
    return [student.add_outliers(x, share, reach, generator) for _ in range(2)]


def many_calls(student: Any, name: str, arguments: list, number: int, seed: int) -> Tensor:
    """A probe: the results of many calls with one generator."""
    import torch

    function, generator = getattr(student, name), torch.Generator().manual_seed(seed)
    return torch.stack([function(*arguments, generator) for _ in range(number)])


def segments(rows: Tensor, made: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Of each new row: the pair (a, b) of rows whose line is nearest, u on it, and the distance."""
    a, b = rows.double()[:, None], rows.double()[None]
    line = b - a  # (n, n, D)
    length = line.square().sum(-1) + torch.eye(len(rows)) * 1e-9
    u = torch.einsum("mijd,ijd->mij", made.double()[:, None, None] - a, line) / length
    foot = a + u[..., None] * line
    away = (foot - made.double()[:, None, None]).norm(dim=-1)
    away = away + 1e6 * torch.eye(len(rows)) + 1e3 * ((u < -1e-6) | (u > 1 + 1e-6))
    best = away.flatten(1).argmin(dim=1)
    first, second = best // len(rows), best % len(rows)
    every = torch.arange(len(made))
    return first, second, u[every, first, second], away[every, first, second]


def neighbours_of(rows: Tensor, k: int) -> list[set[int]]:
    """The k nearest other rows of each row."""
    found = []
    for i in range(len(rows)):
        order = sorted(
            (j for j in range(len(rows)) if j != i), key=lambda j: float((rows[i] - rows[j]).norm())
        )
        found.append(set(order[:k]))
    return found


@ex.check("new rows lie between neighbours", points=1)
def _(student):
    for n, k in [(9, 2), (6, 5), (7, 1)]:
        rows = torch.randn(n, 4)
        made, _ = student.run(made_rows, rows, 150, k, 4)
        expect(made.shape, (150, 4), f"shape, {n} rows", dtype=False)
        first, second, _, away = segments(rows, made)
        require(
            float(away.max()) < 1e-4,
            f"a new row lies on no line between two of {n} rows",
            got=[float(away.max()), made[:5]],
        )
        near = neighbours_of(rows, k)
        strange = [
            (a, b)
            for a, b in zip(first.tolist(), second.tolist(), strict=True)
            if b not in near[a] and a not in near[b]
        ]
        require(not strange, f"new rows between rows that are no neighbours, k = {k}", got=made[:5])


# Row 0 is nearer to row 1 by the Euclidean distance, but to row 2 by city blocks.
KITE = torch.tensor([[0.0, 0.0], [3.0, 3.0], [4.5, -0.5]])

# A chain: the distances grow, so row i's nearest neighbour is row i - 1, but row 0's is row 1.
CHAIN = torch.tensor([[0.0], [1.0], [2.5], [5.0], [9.0], [16.0]]) * torch.tensor([[1.0, 0.5, -2.0]])


@ex.check("all rows, all neighbours, all places are equally likely", points=1)
def _(student):
    made, _ = student.run(made_rows, CHAIN, 6000, 1, 8)
    # Gaps (0, 1) is drawn from both its ends, every other gap from its upper end.
    gap = torch.bucketize(made[:, 0].contiguous(), CHAIN[:, 0].contiguous()) - 1
    shares = torch.bincount(gap.clamp(0, 4), minlength=5) / 6000
    expect(shares, torch.tensor([2.0, 1, 1, 1, 1]) / 6, "shares of the gaps, k = 1", atol=0.03)
    for number in range(1, 5):
        own = made[gap == number, 0]
        u = (own - CHAIN[number, 0]) / (CHAIN[number + 1, 0] - CHAIN[number, 0])
        expect(u.double().mean(), 0.5, f"mean place in gap {number}", atol=0.05)
        spread = (u.double() - 0.5).square().mean()
        expect(spread, 1 / 12, f"variance of the place in gap {number}", atol=0.012)
    single = student.run(many_calls, "smote", [CHAIN, 1, 1], 600, 11)[:, 0, 0]
    gap = torch.bucketize(single.contiguous(), CHAIN[:, 0].contiguous()) - 1
    shares = torch.bincount(gap.clamp(0, 4), minlength=5) / 600
    want = torch.tensor([2.0, 1, 1, 1, 1]) / 6
    expect(shares, want, "shares of the gaps, one row at a time", atol=0.09)
    corners = torch.tensor(
        [[0.0, 0.0], [1.0, 0.0], [0.0, 1.1], [9.0, 9.0], [9.0, 10.0], [10.2, 9.0]]
    )
    made, _ = student.run(made_rows, corners, 6000, 2, 9)
    first, second, _, _ = segments(corners, made)
    pairs = torch.zeros(6, 6)
    for a, b in zip(first.tolist(), second.tolist(), strict=True):
        pairs[min(a, b), max(a, b)] += 1 / 6000
    want = torch.zeros(6, 6)
    for a, b in [(0, 1), (0, 2), (1, 2), (3, 4), (3, 5), (4, 5)]:
        want[a, b] = 1 / 6
    expect(pairs, want, "shares of the pairs, k = 2", atol=0.03)
    rows = torch.randn(7, 4)
    near, k, number = neighbours_of(rows, 3), 3, 6000
    made, _ = student.run(made_rows, rows, number, k, 12)
    first, second, u, _ = segments(rows, made)
    pairs, want, places = torch.zeros(7, 7), torch.zeros(7, 7), []
    for a in range(7):
        for b in near[a]:
            want[min(a, b), max(a, b)] += 1 / (7 * k)
            if a not in near[b]:  # b is drawn from a, never a from b
                forth, back = (first == a) & (second == b), (first == b) & (second == a)
                places.append(torch.cat([u[forth], 1 - u[back]]).mean())
    for a, b in zip(first.tolist(), second.tolist(), strict=True):
        pairs[min(a, b), max(a, b)] += 1 / number
    expect(pairs, want, "shares of the pairs, k = 3", atol=0.03)
    middle = torch.full((len(places),), 0.5, dtype=torch.float64)
    what = "mean place between a row and each of its neighbours, k = 3"
    expect(torch.stack(places), middle, what, atol=0.12)
    made, _ = student.run(made_rows, KITE, 1500, 1, 10)
    first, second, _, _ = segments(KITE, made)
    shares = torch.bincount(first + second, minlength=4)[1:] / 1500
    expect(shares, torch.tensor([1 / 3, 0, 2 / 3]), "shares of the sides of a triangle", atol=0.06)


@ex.check("new rows: the generator decides, nothing is modified", points=0.5)
def _(student):
    rows = torch.randn(8, 3).double()
    first, second = student.run(made_rows, rows, 5, 3, 1)
    again = student.run(made_rows, rows, 5, 3, 1, other=1)
    expect(again, [first, second], "rows of the same generator", rtol=1e-9)
    require(not torch.equal(first, second), "two calls give the same rows", got=first)
    expect(first, segments_foot(rows, first), "rows in float64", rtol=1e-9, atol=1e-7, dtype=True)
    two = torch.tensor([[0.0], [1.0]])
    made = student.run(made_rows, two, 6, 1, 2)[0]
    expect(made.shape, (6, 1), "shape, two rows of one feature")
    require(bool(((made >= 0) & (made <= 1)).all()), "a row leaves the line", got=made)
    after = student.run(rows_afterwards, rows)
    expect(after, rows, "the rows afterwards")


def rows_afterwards(student: Any, rows: Tensor) -> Tensor:
    """A probe: the argument after a call."""
    import torch

    student.smote(rows, 4, 2, torch.Generator().manual_seed(0))
    return rows


def segments_foot(rows: Tensor, made: Tensor) -> Tensor:
    """The points of the lines that the new rows lie on."""
    first, second, u, _ = segments(rows, made)
    return rows[first] + u[:, None].to(rows) * (rows[second] - rows[first])


@ex.check("outliers: how many, where, how far", points=1)
def _(student):
    x = torch.randn(40, 3) * torch.tensor([1.0, 10.0, 0.1]) + torch.tensor([5.0, -3.0, 0.0])
    mean, std = x.double().mean(0), x.double().std(0, correction=0)
    for share, reach in [(0.25, 6.0), (0.99, 9.0), (0.06, 7.5)]:
        bad, _ = student.run(damaged_rows, x, share, reach, 2)
        changed = bad != x
        number = math.floor(share * 40)
        expect(changed.any(dim=1).sum(), number, f"rows damaged, share {share}")
        expect(changed.sum(), number, f"values damaged, share {share}")
        far = ((bad.double() - mean) / std)[changed].abs()
        want = torch.full((len(far),), reach, dtype=torch.float64)
        expect(far, want, f"distances in deviations, reach {reach}", rtol=1e-3)


@ex.check("outliers: all rows, features and signs are equally likely", points=1)
def _(student):
    x = torch.randn(6000, 4) * torch.tensor([1.0, 3.0, 0.2, 1.0]) + 1
    bad, other = student.run(damaged_rows, x, 0.5, 20.0, 3)
    changed = bad != x
    features = changed.sum(dim=0) / 3000
    expect(features, torch.full((4,), 0.25), "shares of the features", atol=0.04)
    first = changed.any(dim=1).reshape(6, 1000).sum(dim=1) / 1000
    expect(first, torch.full((6,), 0.5), "share of damaged rows in each sixth", atol=0.09)
    up = ((bad > x) & changed).sum(dim=0) / changed.sum(dim=0).clamp(min=1)
    expect(up, torch.full((4,), 0.5), "shares of upward outliers, by feature", atol=0.1)
    require(not torch.equal(bad, other), "two calls damage the same values", got=changed.sum(0))
    again = student.run(damaged_rows, x, 0.5, 20.0, 3, other=1)[0]
    expect(again, bad, "the same generator")
    halves = changed.any(dim=1)[:-1] & changed.any(dim=1)[1:]
    expect(halves.double().mean(), 0.25, "share of neighbours that are both damaged", atol=0.04)
    few = torch.tensor([[0.0, 10.0], [1.0, 30.0], [5.0, 20.0]])  # mean (2, 20)
    calls = student.run(many_calls, "add_outliers", [few, 1.0, 3.0], 800, 4)
    changed = calls != few
    half = torch.full((3, 2), 0.5, dtype=torch.float64)
    found = changed.double().mean(dim=0)
    expect(found, half, "shares of damages, by row and feature, over many calls", atol=0.13)
    up = (changed & (calls > few)).double().sum(dim=0) / changed.sum(dim=0).clamp(min=1)
    what = "shares of upward outliers, by row and feature, over many calls"
    expect(up, half, what, atol=0.15)


def outliers_afterwards(student: Any, x: Tensor) -> list[Tensor]:
    """A probe: result and argument after a call."""
    import torch

    found = []
    for share in (0.5, 0.1, 0.0):
        bad = student.add_outliers(x, share, 3.0, torch.Generator().manual_seed(0))
        found.append(bad.clone())
        bad += 1  # a copy is the caller's to change
    return [*found, x]


@ex.check("outliers: few rows, float64, nothing is modified", points=0.5)
def _(student):
    x = torch.randn(7, 2).double()
    bad, none, zero, after = student.run(outliers_afterwards, x)
    expect(bad.dtype == torch.float64, True, "float64 stays")
    expect((bad != x).sum(), 3, "values damaged, half of 7 rows")
    expect(none, x, "a tenth of 7 rows is none")
    expect(zero, x, "share 0")
    expect(after, x, "the table afterwards, also after a change of the results")


ex.mistake(
    "the row itself is a neighbour",
    "The nearest row to a row is the row: leave it out.",
    edit=("[:, 1:]", ""),
)
ex.mistake(
    "any row is a neighbour",
    "Only the k nearest count: a line between far rows may cross another class.",
    edit=(
        "[:, 1:]",
        "[:, 1:][:, torch.randperm(len(rows) - 1, generator=generator)]",
    ),
)
ex.mistake(
    "always the nearest",
    "One of the k neighbours is drawn.",
    edit=("torch.randint(0, k, (count,), generator=generator)]", "0]"),
)
ex.mistake(
    "always the k-th",
    "One of the k neighbours is drawn.",
    edit=("torch.randint(0, k, (count,), generator=generator)]", "k - 1]"),
)
ex.mistake(
    "the farthest rows",
    "Neighbours are near: sort upwards.",
    edit=("argsort()[:, 1:]", "argsort(descending=True)"),
)
ex.mistake(
    "a number for each feature",
    "One u for a row: the new row lies on the line, not somewhere in the box.",
    edit=(
        "torch.rand(count, 1, generator=generator)",
        "torch.rand(count, rows.shape[1], generator=generator)",
    ),
)
ex.mistake(
    "one number for all rows",
    "Each new row draws its own u.",
    edit=("torch.rand(count, 1, generator=generator)", "torch.rand(1, 1, generator=generator)"),
)
ex.mistake(
    "always the middle",
    "u is uniform in [0, 1).",
    edit=("torch.rand(count, 1, generator=generator)", "torch.full((count, 1), 0.5)"),
)
ex.mistake(
    "beyond the neighbour",
    "u ends at 1: between the rows, not beyond.",
    edit=(
        "torch.rand(count, 1, generator=generator)",
        "2 * torch.rand(count, 1, generator=generator)",
    ),
)
ex.mistake(
    "a Gaussian number",
    "u is uniform in [0, 1).",
    edit=(
        "torch.rand(count, 1, generator=generator)",
        "torch.randn(count, 1, generator=generator).abs()",
    ),
)
ex.mistake(
    "copies",
    "The new rows lie between rows: they are no copies.",
    edit=(" + u * (rows[other] - rows[base])", " + 0 * u"),
)
ex.mistake(
    "the sum of both",
    "a + u (b - a): the difference is scaled.",
    edit=("u * (rows[other] - rows[base])", "u * rows[other]"),
)
ex.mistake(
    "copies with noise",
    "New rows lie on lines between neighbours.",
    edit=(
        " + u * (rows[other] - rows[base])",
        " + u * 0.1 * torch.randn(rows.shape[1], generator=generator).to(rows)",
    ),
)
ex.mistake(
    "the first rows only",
    "Base rows are drawn uniformly from all rows.",
    edit=("torch.randint(0, len(rows), (count,)", "torch.randint(0, len(rows) - 1, (count,)"),
)
ex.mistake(
    "base rows in turn",
    "Each base row is drawn: a call for a single row may start from any of them.",
    edit=(
        "torch.randint(0, len(rows), (count,), generator=generator)",
        "torch.arange(count) % len(rows)",
    ),
)
ex.mistake(
    "squared distances to the mean",
    "Neighbours are near to the row, not to the class mean.",
    edit=("torch.cdist(rows, rows).argsort()[:, 1:]",
          "(rows - rows.mean(0)).norm(dim=1).argsort().expand(len(rows), len(rows))"),
)  # fmt: skip
ex.mistake(
    "city blocks",
    "The distance is Euclidean.",
    edit=("torch.cdist(rows, rows)", "torch.cdist(rows, rows, p=1)"),
)
ex.mistake(
    "divisor N - 1",
    "The stub states the divisor N: correction=0.",
    edit=("correction=0", "correction=1"),
)
ex.mistake(
    "the global generator",
    "All randomness comes from the generator that is given.",
    edit=("u = torch.rand(count, 1, generator=generator)", "u = torch.rand(count, 1)"),
)
ex.mistake(
    "rows drawn with repetition",
    "Different rows are damaged: a permutation, not randint.",
    edit=("torch.randperm(len(x), generator=generator)[:number]",
          "torch.randint(0, len(x), (number,), generator=generator)"),
)  # fmt: skip
ex.mistake(
    "the first rows are damaged",
    "The rows are drawn.",
    edit=("torch.randperm(len(x), generator=generator)[:number]", "torch.arange(number)"),
)
ex.mistake(
    "all features of a row",
    "One feature of each chosen row.",
    edit=(
        "damaged[chosen, feature] = mean[feature] + reach * sign * std[feature]",
        "damaged[chosen] = mean + reach * sign[:, None] * std",
    ),
)
ex.mistake(
    "only upwards",
    "Both signs are equally likely.",
    edit=("2 * torch.randint(0, 2, (number,), generator=generator) - 1",
          "torch.ones(number, dtype=torch.int64)"),
)  # fmt: skip
ex.mistake(
    "the sign follows from row and feature",
    "The sign is drawn: the same value goes up in one call and down in another.",
    edit=("2 * torch.randint(0, 2, (number,), generator=generator) - 1",
          "2 * ((chosen + feature) % 2) - 1"),
)  # fmt: skip
ex.mistake(
    "added to the value",
    "The value is replaced: its distance is measured from the mean.",
    edit=("= mean[feature] + reach", "= x[chosen, feature] + reach"),
)
ex.mistake(
    "one deviation for the table",
    "Each feature has its own mean and deviation.",
    edit=("reach * sign * std[feature]", "reach * sign * x.std()"),
)
ex.mistake(
    "without the mean",
    "The distance is measured from the feature's mean.",
    edit=("mean[feature] + reach", "reach"),
)
ex.mistake(
    "one feature for all",
    "Each row draws its own feature.",
    edit=("torch.randint(0, x.shape[1], (number,), generator=generator)",
          "torch.randint(0, x.shape[1], (1,), generator=generator).expand(number)"),
)  # fmt: skip
ex.mistake(
    "rounded to the nearest number",
    "The number of rows is rounded down.",
    edit=("int(share * len(x))", "round(share * len(x))"),
)
ex.mistake(
    "rounded up",
    "The number of rows is rounded down.",
    edit=("int(share * len(x))", "math.ceil(share * len(x))"),
)
ex.mistake(
    "the feature follows from the row",
    "The feature is drawn: over many calls each row is damaged in each feature.",
    edit=("torch.randint(0, x.shape[1], (number,), generator=generator)", "chosen % x.shape[1]"),
)
ex.mistake(
    "the neighbour follows from the row",
    "The neighbour is drawn: each base row has all of its k neighbours.",
    edit=("torch.randint(0, k, (count,), generator=generator)]", "base % k]"),
)
ex.mistake(
    "one number for neighbour and place",
    "The neighbour and the place on the line are drawn independently.",
    edit=[
        (
            "other = neighbours[base, torch.randint(0, k, (count,), generator=generator)]\n"
            "    u = torch.rand(count, 1, generator=generator).to(rows)",
            "u = torch.rand(count, 1, generator=generator).to(rows)\n"
            "    other = neighbours[base, (u[:, 0] * k).long()]",
        )
    ],
)
ex.mistake(
    "no row to damage, no copy",
    "The result is a copy, also where nothing is damaged.",
    edit=("damaged = x.clone()", "damaged = x.clone() if number > 0 else x"),
)
ex.mistake(
    "damages the caller's table",
    "Damage a copy.",
    edit=("damaged = x.clone()", "damaged = x"),
)


@ex.alternative("row by row", replaces="smote")
def _(rows, count, k, generator):
    made = torch.empty(count, rows.shape[1], dtype=rows.dtype)
    for index in range(count):
        u = torch.rand((), generator=generator, dtype=torch.float64).item()
        base = int(torch.randint(len(rows), (), generator=generator))
        distance = (rows - rows[base]).square().sum(dim=1)
        distance[base] = math.inf
        near = distance.topk(k, largest=False).indices
        other = int(near[torch.randint(k, (1,), generator=generator)])
        made[index] = (1 - u) * rows[base] + u * rows[other]
    return made


@ex.alternative("all numbers in one draw", replaces="smote")
def _(rows, count, k, generator):
    draws = torch.rand(3, count, generator=generator, dtype=torch.float64)
    distance = torch.cdist(rows, rows)
    distance.fill_diagonal_(float("inf"))
    near = distance.topk(k, dim=1, largest=False).indices
    base = (draws[0] * len(rows)).long()
    other = near[base, (draws[1] * k).long()]
    return torch.lerp(
        rows[base], rows[other], draws[2, :, None].to(rows.dtype).expand(count, rows.shape[1])
    )


@ex.alternative("a mask of places", replaces="add_outliers")
def _(x, share, reach, generator):
    signs = torch.rand(len(x), generator=generator) < 0.5
    feature = torch.rand(x.shape, generator=generator).argmax(dim=1)
    order = torch.rand(len(x), generator=generator, dtype=torch.float64).argsort()
    hit = torch.zeros(x.shape, dtype=torch.bool)
    chosen = order[: math.floor(share * len(x))]
    hit[chosen, feature[chosen]] = True
    deviation = (x - x.mean(0)).square().mean(0).sqrt()
    far = x.mean(0) + torch.where(signs, reach, -reach)[:, None].to(x.dtype) * deviation
    return torch.where(hit, far, x)


@ex.alternative("one at a time", replaces="add_outliers")
def _(x, share, reach, generator):
    bad, left = x.clone(), list(range(len(x)))
    for _ in range(int(share * len(x))):
        row = left.pop(int(torch.randint(len(left), (), generator=generator)))
        column = int(torch.randint(x.shape[1], (), generator=generator))
        m, s = x[:, column].mean(), x[:, column].std(correction=0)
        bad[row, column] = (
            m + s * reach if torch.rand((), generator=generator) < 0.5 else m - s * reach
        )
    return bad


SIGNS = "Both signs are equally likely, and a sign is its own inverse."
ex.equivalent("- 1 -> 1 - 2 * torch.randint", SIGNS)
ex.equivalent("mean[feature] - reach * sign", SIGNS)
ex.equivalent("reach * sign -> reach / sign", SIGNS)
