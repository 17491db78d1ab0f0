"""`expect`, and the name of the mistake that a wrong value looks like.

The build runs each known mistake of an exercise on the notebook's visible tests and stores what
comes out, no code, as `course/fingerprints/NOTEBOOK.json`:

    {
      "unit": "01_backprop",
      "notebook": "autodiff",
      "values": {
        "<what>": {
          "desired": <plain>,
          "mistakes": [
            {"exercise": "linear_backward", "name": "...", "hint": "...", "actual": <plain>}
          ]
        }
      }
    }

`<what>` is the third argument of `expect`. `<plain>` is what `plain` returns. When `expect` fails
in a notebook of that unit, and what it desires is what is stored, the mistakes whose `actual`
equals the student's value are named.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from course import session
from course.compare import describe, difference

FOLDER = Path(__file__).parent / "fingerprints"

Callback = Callable[[str, object, object], None]
_callbacks: list[Callback] = []


class Difference(AssertionError):
    """A visible test's failure; a notebook shows its words and no frames of the course."""

    def _render_traceback_(self) -> list[str]:
        return str(self).splitlines()


def expect(
    actual: object, desired: object, what: str, *, rtol: float = 1e-4, atol: float = 1e-6
) -> None:
    """Check a value against the desired one.

    Args:
        actual: what the student's code gave.
        desired: a number, string, tensor, array, or lists and dicts of those.
        what: the value's name in the message, unique in its notebook; it begins with the
        function's.
        rtol: relative tolerance.
        atol: absolute tolerance.

    Raises:
        Difference: the values differ; it is an AssertionError. The message says where, shows
            both values and, when the value is that of a known mistake, names it.
    """
    if _callbacks:
        _callbacks[-1](what, actual, desired)
        return
    message = difference(actual, desired, rtol=rtol, atol=atol)
    if message is None:
        return
    named = explain(what, actual, desired)
    # `from None`: an error that is being handled has nothing to do with this one.
    raise Difference(f"{what}: {message}" + (f"\n{named}" if named else "")) from None


@contextmanager
def recording(callback: Callback) -> Iterator[None]:
    """Meanwhile `expect` calls `callback(what, actual, desired)`; it does not compare or raise."""
    _callbacks.append(callback)
    try:
        yield
    finally:
        _callbacks.remove(callback)


def explain(what: str, actual: object, desired: object) -> str | None:
    """Name the known mistakes of the current unit that give this value.

    Args:
        what: the value's name, as given to `expect`.
        actual: the wrong value.
        desired: the right one; fingerprints made for another one are ignored.

    Returns:
        A sentence and the hint, or None where nothing is known. Never raises: a damaged file is as
        good as none.
    """
    unit = session.current_unit()
    for path in sorted(FOLDER.glob("*.json")) if unit else ():
        try:
            stored = json.loads(path.read_text(encoding="utf-8"))
            if stored["unit"] != unit or what not in stored["values"]:
                continue
            mistakes = _matching(stored["values"][what], actual, desired)
            if mistakes:
                return _sentence(mistakes)
        except Exception:  # whatever is in the file, the student's own message must come out
            continue
    return None


def _matching(entry: dict[str, Any], actual: object, desired: object) -> list[dict[str, str]]:
    if difference(desired, restore(entry["desired"])) is not None:
        return []
    return [m for m in entry["mistakes"] if difference(actual, restore(m["actual"])) is None]


def _sentence(mistakes: list[dict[str, str]]) -> str:
    names = list(dict.fromkeys(f'"{mistake["name"]}"' for mistake in mistakes))
    hints = list(dict.fromkeys(mistake["hint"] for mistake in mistakes))
    return f"It looks like a known mistake: {' or '.join(names)}. {' '.join(hints)}"


def plain(value: object) -> Any:
    """The JSON form of a value: nested lists, dicts, numbers, bools, strings and None.

    Floats are rounded to seven significant digits, so that a file is the same on every machine
    whose last bits differ; NaN and infinities become "nan", "inf" and "-inf"; a complex number
    becomes {"real": ..., "imag": ...}. What is none of these, for instance a student's object,
    becomes a string that equals no desired value.
    """
    if value is None or isinstance(value, bool | str):
        return value
    if isinstance(value, Tensor):
        return plain(_values(value))
    if isinstance(value, np.ndarray | np.generic):
        return plain(value.tolist())
    if isinstance(value, int):
        return int(value)
    if isinstance(value, float):
        return float(f"{value:.7g}") if math.isfinite(value) else str(float(value))
    if isinstance(value, complex):
        return {"real": plain(value.real), "imag": plain(value.imag)}
    if isinstance(value, list | tuple):
        return [plain(item) for item in value]
    if isinstance(value, dict):
        return {str(key): plain(item) for key, item in value.items()}
    return f"<{value if isinstance(value, torch.dtype) else describe(value)}>"


def _values(value: Tensor) -> object:
    dense = value.detach().to_dense() if value.layout is not torch.strided else value.detach()
    return dense.cpu().resolve_conj().tolist()


def restore(value: Any) -> Any:
    """The value that `plain` encoded, up to types that JSON does not have."""
    if isinstance(value, list):
        return [restore(item) for item in value]
    if isinstance(value, dict):
        if value.keys() == {"real", "imag"}:
            return complex(restore(value["real"]), restore(value["imag"]))
        return {key: restore(item) for key, item in value.items()}
    if value in ("nan", "inf", "-inf"):
        return float(value)
    return value
