"""What a notebook runs on: its unit, the seeds, the device and the profile."""

from __future__ import annotations

import os
import random
import re
import sys
from typing import Any, Literal, cast

import numpy as np
import torch

__version__ = "0.1.0"

Profile = Literal["small", "full", "grade"]
_PROFILES = ("small", "full", "grade")
_UNIT = re.compile(r"[0-9]{2}_[a-z][a-z0-9_]*")

_current_unit: str | None = None


def profile() -> Profile:
    """The size at which a notebook runs.

    `small`: bundled data, seconds on a CPU. `full`: the real data sets, minutes on a GPU. `grade`:
    the fewest steps that still tell right from wrong, always on the CPU.

    Returns:
        The environment variable `COURSE_PROFILE`; where it is not set, "full" with a CUDA device
        and "small" without.

    Raises:
        ValueError: `COURSE_PROFILE` is none of the three.
    """
    chosen = os.environ.get("COURSE_PROFILE", "").strip()
    if not chosen:
        return "full" if torch.cuda.is_available() else "small"
    if chosen not in _PROFILES:
        raise ValueError(
            f"COURSE_PROFILE is {chosen!r}; set it to one of {', '.join(_PROFILES)}, "
            "or unset it for the default"
        )
    return cast(Profile, chosen)


def device() -> torch.device:
    """The device that the course computes on.

    Returns:
        The environment variable `COURSE_DEVICE` ("cpu", "cuda", "mps", ...) where it is set; else
        CUDA where there is any, else the CPU. The profile "grade" is always on the CPU: marks must
        not depend on the machine, and a forked child cannot use CUDA.

    Raises:
        ValueError: `COURSE_DEVICE` is not the name of a device.
    """
    if profile() == "grade":
        return torch.device("cpu")
    chosen = os.environ.get("COURSE_DEVICE", "").strip()
    if chosen:
        try:
            return torch.device(chosen)
        except RuntimeError:
            raise ValueError(
                f"COURSE_DEVICE is {chosen!r}; set it to cpu, cuda or mps, or unset it"
            ) from None
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def current_unit() -> str | None:
    """The unit of the last `setup`, or None before it."""
    return _current_unit


def seed_everything(seed: int) -> None:
    """Seed the generators of Python, NumPy and torch (all devices)."""
    random.seed(seed)
    np.random.seed(seed % 2**32)
    torch.manual_seed(seed)


def setup(unit: str, seed: int = 0) -> None:
    """Prepare a notebook: seeds, device, profile and figure style; prints one line.

    Args:
        unit: the unit's folder, two digits and a topic, for example "01_backprop".
        seed: for Python's, NumPy's and torch's generators.

    Raises:
        ValueError: the unit has another form, or `COURSE_PROFILE` or `COURSE_DEVICE` is unknown.
    """
    global _current_unit
    if not isinstance(unit, str) or not _UNIT.fullmatch(unit):
        raise ValueError(
            f"unit {unit!r} is not of the form NN_topic; write it like its folder, "
            'for example course.setup("01_backprop")'
        )
    chosen, where = profile(), device()
    seed_everything(seed)
    _style_figures()
    _current_unit = unit
    release = torch.__version__.split("+")[0]
    print(
        f"course {__version__} | unit {unit} | {_describe(where)} | profile {chosen} "
        f"| torch {release}"
    )


def _describe(where: torch.device) -> str:
    if where.type == "cuda" and torch.cuda.is_available():
        return f"{where} ({torch.cuda.get_device_name(where)})"
    return str(where)


def _style_figures() -> None:
    try:
        from course import plots
    except ImportError:  # no matplotlib: a notebook without pictures still works
        return
    plots.style()
    shell = notebook_shell()
    if shell is None:
        return
    # Twice the pixels at the same size on the page. Before pyplot is imported, the inline backend
    # reads its configuration when it starts; afterwards it has to be told.
    shell.config.InlineBackend.figure_formats = {"retina"}
    if "matplotlib_inline.backend_inline" in sys.modules:
        from matplotlib_inline.backend_inline import set_matplotlib_formats

        set_matplotlib_formats("retina")


def notebook_shell() -> Any:
    """The shell of the notebook kernel that this runs in, else None; never imports IPython."""
    ipython = sys.modules.get("IPython")
    shell = ipython.get_ipython() if ipython is not None else None
    return shell if getattr(shell, "kernel", None) is not None else None
