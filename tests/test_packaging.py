"""What is installed where, and in which versions."""

import ast
import re
import subprocess
import sys
import tomllib
import zipfile
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

import course

ROOT = Path(__file__).resolve().parent.parent
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
WORKSHOP = PROJECT["dependencies"] + PROJECT["optional-dependencies"]["workshop"]
LOCKS = [ROOT / "requirements.lock", *sorted(ROOT.glob("tests/colab/*.lock"))]
# What the course may import: what it declares, and what Jupyter's and matplotlib's own parts are.
STUDENT_SIDE = {"IPython", "course", "google", "matplotlib", "numpy", "torch", "torchvision"}
STUDENT_SIDE |= {"cycler", "matplotlib_inline", "tqdm"}


def locked(lock: Path) -> Iterator[Requirement]:
    """The requirements of a lock, one version each."""
    for line in lock.read_text(encoding="utf-8").splitlines():
        if re.match(r"[A-Za-z0-9]", line):
            yield Requirement(line.removesuffix("\\"))


def versions(lock: Path, python: str) -> dict[str, str]:
    """Name -> version that a lock gives a Linux machine with that Python (`3.12`)."""
    machine = {"python_version": python, "python_full_version": f"{python}.0"}
    machine |= {"sys_platform": "linux", "platform_machine": "x86_64"}
    found: dict[str, str] = {}
    for requirement in locked(lock):
        if requirement.marker is None or requirement.marker.evaluate(machine):
            name = canonicalize_name(requirement.name)
            assert name not in found, f"{name} twice"
            found[name] = str(requirement.specifier).removeprefix("==")
    return found


@pytest.mark.parametrize("lock", LOCKS, ids=lambda path: path.name)
def test_lock_has_hashes_and_no_host(lock: Path) -> None:
    text = lock.read_text(encoding="utf-8")
    assert "://" not in text
    blocks = re.split(r"\n(?=\S)", text.strip())
    assert len(blocks) == len(list(locked(lock)))
    assert [block.splitlines()[0] for block in blocks if "--hash=sha256:" not in block] == []


@pytest.mark.parametrize("python", ["3.11", "3.12", "3.13"])
def test_lock_satisfies_pyproject(python: str) -> None:
    found = versions(ROOT / "requirements.lock", python)
    for wanted in map(Requirement, WORKSHOP):
        assert found[canonicalize_name(wanted.name)] in wanted.specifier, wanted


def test_the_three_torches_belong_together() -> None:
    # torchaudio 2.11.0 is its last release and refuses a newer torch.
    found = versions(ROOT / "requirements.lock", "3.11")
    trio = {name: found[name] for name in ("torch", "torchvision", "torchaudio")}
    assert trio == {"torch": "2.11.0", "torchvision": "0.26.0", "torchaudio": "2.11.0"}


def test_conda_environment_has_the_locked_versions() -> None:
    environment = yaml.safe_load((ROOT / "environment.yml").read_text(encoding="utf-8"))
    conda = [entry for entry in environment["dependencies"] if isinstance(entry, str)]
    (by_pip,) = [entry["pip"] for entry in environment["dependencies"] if isinstance(entry, dict)]
    editable = [line for line in by_pip if line.startswith("-e ")]
    assert editable == ["-e .", "-e ./autograder"]

    given: dict[str, str] = {}
    extras: dict[str, set[str]] = {}
    for line in set(by_pip) - set(editable):
        requirement = Requirement(line)
        given[canonicalize_name(requirement.name)] = str(requirement.specifier).removeprefix("==")
        extras[canonicalize_name(requirement.name)] = requirement.extras
    by_conda = {name: version for name, _, version in (entry.partition("=") for entry in conda)}
    python = by_conda.pop("python")
    assert by_conda.pop("pip") == ""
    given |= by_conda

    wanted = {canonicalize_name(r.name): r for r in map(Requirement, WORKSHOP)}
    found = versions(ROOT / "requirements.lock", python)
    assert given == {name: found[name] for name in wanted}
    assert {name: extras[name] for name in extras if extras[name]} == {
        name: r.extras for name, r in wanted.items() if r.extras
    }


def test_colab_runtimes_hold_only_what_colab_holds() -> None:
    absent = {"dlcourse", "dlcourse-autograder", "jupyterlab", "nbgrader", "torchaudio"}
    torches = {}
    for lock in (ROOT / "tests/colab/locked.lock", ROOT / "tests/colab/newest.lock"):
        found = versions(lock, "3.12")
        assert not absent & set(found)
        assert {"ipykernel", "matplotlib", "numpy", "pip", "scikit-learn", "tqdm"} <= set(found)
        torches[lock.stem] = found["torch"], found["torchvision"]
    assert torches["locked"] == ("2.11.0", "0.26.0")
    assert torches["newest"] == ("2.15.0", "0.29.2")


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Iterator[zipfile.ZipFile]:
    """The wheel that students install."""
    folder = tmp_path_factory.mktemp("wheel")
    command = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(folder)]
    subprocess.run(command, cwd=ROOT, check=True, capture_output=True)
    with zipfile.ZipFile(next(folder.glob("*.whl"))) as archive:
        yield archive


def test_wheel_holds_the_course_and_nothing_else(wheel: zipfile.ZipFile) -> None:
    names = set(wheel.namelist())
    inside = {name for name in names if not re.match(r"dlcourse-[^/]*\.dist-info/", name)}
    expected = {
        path.relative_to(ROOT).as_posix()
        for path in (ROOT / "course").rglob("*")
        if path.is_file() and not {"__pycache__", "lectures"} & set(path.parts)
        if not path.name.startswith("make_")
    }
    assert inside == expected
    assert "course/__init__.py" in inside


def test_wheel_holds_no_solution_and_no_check(wheel: zipfile.ZipFile) -> None:
    solved = re.compile(rb"### BEGIN |import autograder|from autograder|jupytext|\.mistake\(")
    names = [name for name in wheel.namelist() if name.startswith("course/")]
    assert [name for name in names if solved.search(wheel.read(name))] == []


def test_course_imports_only_what_colab_has(wheel: zipfile.ZipFile) -> None:
    wrong = []
    for module in (name for name in wheel.namelist() if name.endswith(".py")):
        for node in ast.walk(ast.parse(wheel.read(module))):
            names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            if isinstance(node, ast.ImportFrom) and node.level == 0 and node.module:
                names = [node.module]
            top = {name.partition(".")[0] for name in names}
            wrong += [(module, name) for name in top - STUDENT_SIDE - sys.stdlib_module_names]
    assert wrong == []


def test_course_knows_its_version() -> None:
    assert course.__version__ == PROJECT["version"]


def test_autograder_is_one_console_script() -> None:
    text = (ROOT / "autograder/pyproject.toml").read_text(encoding="utf-8")
    assert tomllib.loads(text)["project"]["scripts"] == {"autograder": "autograder.cli:main"}
