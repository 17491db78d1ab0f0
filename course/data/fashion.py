"""Fashion-MNIST: downloaded, checked and parsed without torchvision."""

from __future__ import annotations

import gzip
import math
import os
import zlib
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from course.data.small import Images, digits

FASHION_MNIST_MIRRORS = (
    "https://raw.githubusercontent.com/zalandoresearch/fashion-mnist/"
    "b2617bb6d3ffa2e429640350f613e3291e10b141/data/fashion/",
    "https://fashion-mnist.s3.eu-central-1.amazonaws.com/",
)
FASHION_MNIST_FILES = {  # name: SHA-256
    "train-images-idx3": "3aede38d61863908ad78613f6a32ed271626dd12800ba2636569512369268a84",
    "train-labels-idx1": "a04f17134ac03560a47e3764e11b92fc97de4d1bfaf8ba1a3aa29af54cc90845",
    "t10k-images-idx3": "346e55b948d973a97e58d2351dde16a484bd415d4595297633bb08f03db6a073",
    "t10k-labels-idx1": "67da17c76eaffca5446c3361aaab5c3cd6d1c2608764d35dfb1850b086bf8dd5",
}


def fashion_mnist(
    root: str | os.PathLike[str] | None = None,
    device: torch.device | str | None = None,
    *,
    mirrors: Sequence[str] = FASHION_MNIST_MIRRORS,
) -> Images:
    """Fashion-MNIST: 70,000 grey images of clothes, 28x28 pixels, 10 classes.

    The files (30 MB) are downloaded once. Of the 60,000 training images the last 5,000 are for
    validation. Where the files cannot be downloaded, the bundled `digits` come instead and one line
    says so: take the number of inputs from the data.

    Args:
        root: folder for the files; by default `cache_folder() / "fashion_mnist"`.
        device: where the tensors go; the CPU by default.
        mirrors: addresses to try, one after the other; each ends in a slash.

    Returns:
        `Images` with rows of 784 values, or 64 where it fell back.

    Source: H. Xiao, K. Rasul and R. Vollgraf, "Fashion-MNIST: a Novel Image Dataset for
    Benchmarking Machine Learning Algorithms", arXiv:1708.07747 (MIT licence).
    """
    folder = Path(root) if root is not None else cache_folder() / "fashion_mnist"
    try:
        files = [
            _fetch_any(mirrors, f"{name}-ubyte.gz", sha256, folder)
            for name, sha256 in FASHION_MNIST_FILES.items()
        ]
        train_x, train_y, test_x, test_y = (_tensor(read_idx(file), device) for file in files)
    except (OSError, ValueError) as error:
        reason = str(error) or type(error).__name__
        print(f"Fashion-MNIST could not be loaded ({reason}); using the bundled digits instead")
        return digits(device)
    return Images(
        train_x[:-5000], train_y[:-5000], train_x[-5000:], train_y[-5000:], test_x, test_y
    )


def cache_folder() -> Path:
    """Where downloads go: the environment variable `COURSE_DATA`, else ~/.cache/dlcourse."""
    chosen = os.environ.get("COURSE_DATA")
    return Path(chosen) if chosen else Path.home() / ".cache" / "dlcourse"


def _fetch_any(mirrors: Sequence[str], name: str, sha256: str, folder: Path) -> Path:
    from course.data.download import fetch

    failure: OSError = OSError("no mirror is given")
    for mirror in mirrors:
        try:
            return fetch(mirror + name, sha256, folder / name)
        except OSError as error:
            failure = error
    raise failure


def _tensor(values: np.ndarray, device: torch.device | str | None) -> Tensor:
    tensor = torch.from_numpy(values)
    if tensor.dim() == 1:
        return tensor.long().to(device)
    return (tensor.flatten(1).float() / 255).to(device)


def read_idx(path: str | os.PathLike[str]) -> np.ndarray:
    """Read an IDX file of bytes, gzipped or not, as MNIST and Fashion-MNIST use them.

    The header is two zero bytes, the type (8: unsigned byte), the number of dimensions, and each
    dimension as a big-endian 32-bit integer; the values follow, the last index running fastest.

    Returns:
        A uint8 array of the file's shape.

    Raises:
        ValueError: the file is not of this form, or its length does not fit its header.
    """
    raw = Path(path).read_bytes()
    if raw[:2] == b"\x1f\x8b":
        try:
            raw = gzip.decompress(raw)
        except (EOFError, zlib.error) as error:
            raise ValueError(f"{Path(path).name} is damaged ({error})") from None
    if len(raw) < 4 or raw[:3] != b"\0\0\x08":
        raise ValueError(f"{Path(path).name} is not an IDX file of unsigned bytes")
    start = 4 + 4 * raw[3]
    shape = tuple(np.frombuffer(raw[4:start], dtype=">u4").astype(int).tolist())
    if len(shape) != raw[3] or len(raw) - start != math.prod(shape):
        raise ValueError(f"{Path(path).name} does not hold the {shape} values that it announces")
    return np.frombuffer(raw, np.uint8, offset=start).reshape(shape).copy()
