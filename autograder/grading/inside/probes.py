"""Ready-made probes: small functions that run in the student's process and return plain data.

A check sends one with `student.run(probes.call, "relu", x)`. Its first argument is the
student's namespace: `student.NAME` is the object that the student defined.
"""

from typing import Any


def call(student: Any, name: str, *args: Any, **kwargs: Any) -> Any:
    """What `student.NAME(...)` in a check does."""
    return getattr(student, name)(*args, **kwargs)


def arguments_after(student: Any, name: str, *args: Any, **kwargs: Any) -> Any:
    """The arguments as they are after the call; what `student.unchanged` compares."""
    getattr(student, name)(*args, **kwargs)
    return args, kwargs


def raises(student: Any, name: str, *args: Any, **kwargs: Any) -> str | None:
    """Name of the exception type that the call raises, None if it returns."""
    try:
        getattr(student, name)(*args, **kwargs)
    except Exception as error:
        return type(error).__name__
    return None
