"""`import course` and `course.setup`."""

from __future__ import annotations

import os
import random
import subprocess
import sys
import tomllib
from pathlib import Path

import numpy as np
import pytest
import torch

import course
from course import session

ROOT = Path(__file__).parents[1]
HEAVY = (
    "matplotlib.pyplot",
    "sklearn",
    "scipy",
    "torchvision",
    "torchaudio",
    "tensorboard",
    "IPython",
    "pandas",
    "torch._dynamo",
)


@pytest.fixture(autouse=True)
def restored(monkeypatch):
    """Setting up a unit here must not reach other tests."""
    import matplotlib

    monkeypatch.setattr(session, "_current_unit", None)
    monkeypatch.delenv("COURSE_PROFILE", raising=False)
    monkeypatch.delenv("COURSE_DEVICE", raising=False)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with matplotlib.rc_context():
        yield


def _loaded_after(code: str) -> set[str]:
    script = f"import sys\n{code}\nprint(*[m for m in {HEAVY!r} if m in sys.modules])"
    done = subprocess.run(
        [sys.executable, "-c", script],
        cwd=ROOT,
        env={**os.environ, "COURSE_PROFILE": "small"},
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    return set(done.stdout.splitlines()[-1].split())


def test_import_and_setup_load_nothing_heavy():
    code = "import course; course.setup('01_backprop'); course.data.digits(); course.training"
    assert _loaded_after(code) == set()


def test_public_names():
    for name in course.__all__:
        assert getattr(course, name) is not None
        assert name in dir(course)
    with pytest.raises(AttributeError, match="has no attribute 'nonsense'"):
        course.nonsense  # noqa: B018


def test_version_is_that_of_the_package():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert project.get("version", course.__version__) == course.__version__


def test_setup_prints_one_line(capsys):
    course.setup("01_backprop")
    captured = capsys.readouterr()
    release = torch.__version__.split("+")[0]
    assert captured.out == (
        f"course {course.__version__} | unit 01_backprop | cpu | profile small | torch {release}\n"
    )
    assert captured.err == ""
    assert session.current_unit() == "01_backprop"


def test_setup_seeds_all_generators(capsys):
    draws = []
    for seed in (0, 0, 1):
        course.setup("01_backprop", seed=seed)
        draws.append((random.random(), np.random.rand(), torch.rand(1).item()))
    assert draws[0] == draws[1]
    assert all(a != b for a, b in zip(draws[0], draws[2], strict=True))


@pytest.mark.parametrize("unit", ["backprop", "1_backprop", "01-backprop", "01_", "01_Back", "", 1])
def test_unit_of_another_form(unit):
    with pytest.raises(ValueError, match=r"not of the form NN_topic.*course.setup"):
        course.setup(unit)
    assert session.current_unit() is None


def test_profile(monkeypatch):
    assert course.profile() == "small"
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    assert course.profile() == "full"
    for name in ("small", "full", "grade"):
        monkeypatch.setenv("COURSE_PROFILE", name)
        assert course.profile() == name
    monkeypatch.setenv("COURSE_PROFILE", "fast")
    with pytest.raises(ValueError, match=r"COURSE_PROFILE is 'fast'; set it to one of small, full"):
        course.profile()
    with pytest.raises(ValueError, match="COURSE_PROFILE"):
        course.setup("01_backprop")


def test_device(monkeypatch):
    assert course.device() == torch.device("cpu")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    assert course.device() == torch.device("cuda")
    monkeypatch.setenv("COURSE_DEVICE", "mps")
    assert course.device() == torch.device("mps")
    monkeypatch.setenv("COURSE_PROFILE", "grade")
    assert course.device() == torch.device("cpu")
    monkeypatch.setenv("COURSE_PROFILE", "small")
    monkeypatch.setenv("COURSE_DEVICE", "toaster")
    with pytest.raises(ValueError, match="COURSE_DEVICE is 'toaster'; set it to cpu"):
        course.device()


def test_the_grade_profile_never_asks_for_a_gpu(monkeypatch):
    def asked():
        raise AssertionError("CUDA must not be touched before a fork")

    monkeypatch.setattr(torch.cuda, "is_available", asked)
    monkeypatch.setenv("COURSE_PROFILE", "grade")
    assert course.profile() == "grade"
    assert course.device().type == "cpu"
