"""What several tests share."""

import json
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent


@pytest.fixture(scope="session")
def root() -> Path:
    """The repository's folder."""
    return ROOT


@pytest.fixture
def kernel(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., str]:
    """Register a kernel for this test: `kernel(name, *arguments)` gives its name."""
    folder = tmp_path / "jupyter"
    monkeypatch.setenv("JUPYTER_PATH", str(folder))

    def register(
        name: str, *arguments: str, python: str | Path = sys.executable, offline: bool = True
    ) -> str:
        program = [str(ROOT / "tests/offline_kernel.py")] if offline else ["-m", "ipykernel"]
        # -P: the folder of the program stays off the path.
        argv = [str(python), "-P", *program, "-f", "{connection_file}", *arguments]
        spec = {"argv": argv, "display_name": name, "language": "python"}
        (folder / "kernels" / name).mkdir(parents=True)
        (folder / "kernels" / name / "kernel.json").write_text(json.dumps(spec), encoding="utf-8")
        return name

    return register
