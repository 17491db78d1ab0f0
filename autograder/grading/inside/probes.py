"""Ready-made probes: small functions that run in the student's process and return plain data.

A check sends one with `student.run(probes.unchanged, "relu", x)`. Its first argument is the
student's namespace: `student.NAME` is the object that the student defined.
"""

import copy
from typing import Any

import torch


def call(student: Any, name: str, *args: Any, **kwargs: Any) -> Any:
    """What `student.NAME(...)` in a check does."""
    return getattr(student, name)(*args, **kwargs)


def unchanged(student: Any, name: str, *args: Any, **kwargs: Any) -> bool:
    """True if the call leaves every tensor and list among its arguments as it was."""
    before = copy.deepcopy((args, kwargs))
    getattr(student, name)(*args, **kwargs)
    return _same(before, (args, kwargs))


def _same(a: Any, b: Any) -> bool:
    if isinstance(a, torch.Tensor):
        return a.shape == b.shape and a.dtype == b.dtype and torch.equal(a, b)
    if isinstance(a, list | tuple):
        return len(a) == len(b) and all(map(_same, a, b))
    if isinstance(a, dict):
        return a.keys() == b.keys() and all(_same(a[key], b[key]) for key in a)
    return a is b or a == b


def raises(student: Any, name: str, *args: Any, **kwargs: Any) -> str | None:
    """Name of the exception type that the call raises, None if it returns."""
    try:
        getattr(student, name)(*args, **kwargs)
    except Exception as error:
        return type(error).__name__
    return None
