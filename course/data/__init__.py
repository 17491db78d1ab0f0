"""Small data that ships with the course, and real data that is downloaded.

Images are returned as tensors, split once and for all into train, valid and test.
"""

from course.data.canvases import Canvases, canvases
from course.data.cifar import cifar10
from course.data.fashion import cache_folder, fashion_mnist, read_idx
from course.data.small import Digits, Images, digits, spirals

__all__ = [
    "Canvases",
    "Digits",
    "Images",
    "cache_folder",
    "canvases",
    "cifar10",
    "digits",
    "fashion_mnist",
    "read_idx",
    "spirals",
]
