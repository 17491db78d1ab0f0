"""Makes `digits.npz` from scikit-learn's copy: `python -m course.data.make_digits`.

Not needed by students. The split is stored, not drawn when loading, so that it cannot depend on a
version of NumPy.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

VALID = TEST = 30  # of each class


def make(target: Path) -> None:
    """Write images (1797, 8, 8) uint8 in 0..16, labels and split (0 train, 1 valid, 2 test)."""
    from sklearn.datasets import load_digits

    pixels, classes = load_digits(return_X_y=True)
    labels = classes.astype(np.uint8)
    split = np.zeros(len(labels), np.uint8)
    generator = np.random.default_rng(0)
    for label in range(10):
        rows = generator.permutation(np.flatnonzero(labels == label))
        split[rows[:VALID]] = 1
        split[rows[VALID : VALID + TEST]] = 2
    images = pixels.reshape(-1, 8, 8).astype(np.uint8)
    np.savez_compressed(target, images=images, labels=labels, split=split)


if __name__ == "__main__":
    make(Path(__file__).parent / "digits.npz")
