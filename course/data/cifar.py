"""CIFAR-10: downloaded and checked here, decoded by torchvision, which checks again."""

from __future__ import annotations

import os
import tarfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from course.data.fashion import cache_folder
from course.data.small import Images, digits

CIFAR10_MIRRORS = ("https://www.cs.toronto.edu/~kriz/",)
CIFAR10_ARCHIVE = "cifar-10-python.tar.gz"
CIFAR10_SHA256 = "6d958be074577803d12ecdefd02955f39262c83c16fe9348329d7fe0b5c001ce"


def cifar10(
    device: torch.device | str | None = None,
    root: str | os.PathLike[str] | None = None,
    *,
    mirrors: Sequence[str] = CIFAR10_MIRRORS,
) -> Images:
    """CIFAR-10: 60,000 colour photographs of 32x32 pixels, 10 classes.

    The archive (170 MB) is downloaded once. Of the 50,000 training images the last 5,000 are for
    validation. All of it takes 740 MB as float32. Where the archive cannot be downloaded, the
    bundled `digits` come instead, enlarged to the same shape, and one line says so.

    Args:
        device: where the tensors go; the CPU by default.
        root: folder for the files; by default `cache_folder() / "cifar10"`.
        mirrors: addresses to try, one after the other; each ends in a slash.

    Returns:
        `Images` of shape (N, 3, 32, 32), float32 in [0, 1], channels red, green, blue. The classes
        are airplane, automobile, bird, cat, deer, dog, frog, horse, ship and truck; 0 to 9 where
        it fell back.

    Source: A. Krizhevsky, "Learning Multiple Layers of Features from Tiny Images", technical
    report, University of Toronto, 2009.
    """
    folder = Path(root) if root is not None else cache_folder() / "cifar10"
    try:
        archive = _fetch_any(mirrors, folder)
        train_x, train_y, test_x, test_y = _decode(archive)
    # The archive was right, but the disk was full, or torchvision is missing or finds it damaged.
    except (OSError, tarfile.TarError, RuntimeError, ImportError) as error:
        reason = str(error) or type(error).__name__
        print(f"CIFAR-10 could not be loaded ({reason}); using the bundled digits instead")
        return _enlarged_digits(device)
    train_x, test_x = _images(train_x, device), _images(test_x, device)
    train_y, test_y = (torch.tensor(labels, device=device) for labels in (train_y, test_y))
    return Images(
        train_x[:-5000], train_y[:-5000], train_x[-5000:], train_y[-5000:], test_x, test_y
    )


def _fetch_any(mirrors: Sequence[str], folder: Path) -> Path:
    from course.data.download import fetch

    failure: OSError = OSError("no mirror is given")
    for mirror in mirrors:
        try:
            return fetch(mirror + CIFAR10_ARCHIVE, CIFAR10_SHA256, folder / CIFAR10_ARCHIVE)
        except OSError as error:
            failure = error
    raise failure


def _decode(archive: Path) -> tuple[np.ndarray, list[int], np.ndarray, list[int]]:
    """Images (N, 32, 32, 3) of bytes and labels, for training and for testing."""
    from torchvision.datasets import CIFAR10

    try:
        train = CIFAR10(archive.parent, train=True, download=False)
    except RuntimeError:  # not unpacked yet, or not to the end
        with tarfile.open(archive) as file:
            file.extractall(archive.parent, filter="data")
        train = CIFAR10(archive.parent, train=True, download=False)
    test = CIFAR10(archive.parent, train=False, download=False)
    return train.data, train.targets, test.data, test.targets


def _images(values: np.ndarray, device: torch.device | str | None) -> Tensor:
    # Bytes travel to the device, a quarter of what floats would be.
    images = torch.from_numpy(values).to(device).permute(0, 3, 1, 2)
    return images.float().contiguous().div_(255)


def _enlarged_digits(device: torch.device | str | None) -> Images:
    """The digits with every pixel repeated 4 x 4 times in three equal channels."""
    data = digits(device)

    def enlarge(x: Tensor) -> Tensor:
        images = x.view(-1, 1, 8, 8).repeat_interleave(4, 2).repeat_interleave(4, 3)
        return images.repeat(1, 3, 1, 1)

    return data._replace(
        train_x=enlarge(data.train_x), valid_x=enlarge(data.valid_x), test_x=enlarge(data.test_x)
    )
