"""Notebooks compute on whatever `course.device()` says: all of each runs on a device of its own."""

import contextlib
import importlib
import io
from pathlib import Path

import matplotlib
import pytest
import torch
from IPython.core.interactiveshell import InteractiveShell
from other_device import FAR, Far, far_device
from torch import nn

import course
from autograder.authoring.master import read_master, solution
from course import compare

ROOT = Path(__file__).resolve().parent.parent
MASTERS = sorted([*ROOT.glob("source/*/*.py"), *ROOT.glob("course/lectures/*/*.py")])


def test_mixing_devices_is_refused() -> None:
    with far_device() as device:
        x = torch.ones(2, 3, device=device)
        with pytest.raises(RuntimeError, match=r"add.*\(3,\) is on the CPU"):
            torch.add(x, torch.ones(3))
        with pytest.raises(RuntimeError, match="generator"):
            torch.randn(3, device=device, generator=torch.Generator())
        with pytest.raises(TypeError, match="numpy"):
            x.numpy()
        assert (x + torch.tensor(1.0)).cpu().tolist() == [[2.0] * 3] * 2
        assert (x * torch.arange(3).to(device)).sum().item() == 6
        assert type(x[torch.tensor([1])]) is Far  # an index may lie on the CPU, as with CUDA


def test_a_net_trains_over_there() -> None:
    with far_device() as device:
        x, y = torch.randn(8, 3, device=device), torch.tensor([0, 1] * 4, device=device)
        net = nn.Sequential(nn.Linear(3, 5), nn.BatchNorm1d(5), nn.ReLU(), nn.Linear(5, 2))
        net.to(device)
        optimiser = torch.optim.Adam(net.parameters(), lr=0.1)
        losses = []
        for _ in range(10):
            loss = nn.functional.cross_entropy(net(x), y)
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
            losses.append(loss.item())
        assert losses[-1] < losses[0]
        assert {parameter.device for parameter in net.parameters()} == {FAR}


@pytest.fixture
def readable(monkeypatch: pytest.MonkeyPatch) -> None:
    """What works on a GPU and cannot know a device of ours: `expect`, fused optimisers."""
    plain = compare._plain_tensor
    monkeypatch.setattr(
        compare, "_plain_tensor", lambda x: x.detach().cpu() if isinstance(x, Far) else plain(x)
    )
    optimizer = importlib.import_module("torch.optim.optimizer")  # torch.optim hides its name
    monkeypatch.setattr(optimizer, "_get_fused_kernels_supported_devices", lambda: ["cpu", "meta"])


@pytest.mark.usefixtures("readable")
@pytest.mark.parametrize("path", MASTERS, ids=lambda path: path.stem)
def test_a_notebook_runs_over_there(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COURSE_PROFILE", "grade")
    for module in (course, course.session):
        monkeypatch.setattr(module, "device", lambda: FAR)
    monkeypatch.setattr(course.session, "_describe", str)
    matplotlib.use("Agg")
    shell = InteractiveShell()
    with far_device(), contextlib.redirect_stdout(io.StringIO()):
        for cell in read_master(path).cells:
            if cell.kind == "code":
                source = solution(cell.source) if cell.role == "exercise" else cell.source
                result = shell.run_cell(source, silent=True)
                # torchvision's annotated tensors cannot hold one that is of another class already.
                if "Creating a new Tensor subclass" in str(result.error_in_exec):
                    continue
                assert result.success, f"line {cell.line}: {result.error_in_exec!r}"
