"""What a student of the course installs: `import course`.

`setup`, `expect`, `profile` and `device` are here; the parts `data`, `training`, `plots`, `compare`
and `diagnosis` are imported when they are first used, so that `import course` stays cheap.
"""

from __future__ import annotations

import importlib
from types import ModuleType
from typing import TYPE_CHECKING

from course.diagnosis import expect
from course.session import __version__, device, profile, setup

if TYPE_CHECKING:
    from course import compare, data, diagnosis, plots, training

__all__ = [
    "__version__",
    "compare",
    "data",
    "device",
    "diagnosis",
    "expect",
    "plots",
    "profile",
    "setup",
    "training",
]

_PARTS = ("compare", "data", "diagnosis", "plots", "training")


def __getattr__(name: str) -> ModuleType:
    if name in _PARTS:
        return importlib.import_module(f"course.{name}")
    raise AttributeError(f"module 'course' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted(__all__)
