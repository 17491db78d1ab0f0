"""A unit of four small exercises, on which the corpus is graded: two points each."""

from typing import Any

import torch
from nbformat import NotebookNode
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook

from autograder.contract import Exercise, expect, require

UNIT, NOTEBOOK = "00_toy", "toy"
POINTS = 2.0  # of each exercise

SIGNATURES = {
    "half": "def half(x):",
    "soft_max": "def soft_max(x):",
    "running_mean": "class RunningMean:\n    def __init__(self):",
    "cube": "def cube(x):",
}
STUBS = {
    name: f"{text}\n{' ' * (8 if 'class' in text else 4)}raise NotImplementedError"
    for name, text in SIGNATURES.items()
}
RIGHT = {
    "half": "def half(x):\n    return x / 2",
    "soft_max": "def soft_max(x):\n"
    "    e = (x - x.max(-1, keepdim=True).values).exp()\n"
    "    return e / e.sum(-1, keepdim=True)",
    "running_mean": "class RunningMean:\n"
    "    def __init__(self):\n"
    "        self.total, self.count = 0.0, 0\n\n"
    "    def update(self, x):\n"
    "        self.total, self.count = self.total + float(x), self.count + 1\n"
    "        return self.total / self.count",
    "cube": "def cube(x):\n    return x * x * x",
}
WRONG = {
    "half": "def half(x):\n    return torch.zeros(1)",
    "soft_max": "def soft_max(x):\n    return torch.zeros(1)",
    "running_mean": "class RunningMean:\n    def update(self, x):\n        return -100.0",
    "cube": "def cube(x):\n    return 0 * x",
}
ANSWERS = {"right": RIGHT, "wrong": WRONG, "stub": STUBS}
VISIBLE = {
    "half": "assert half(torch.tensor([2.0, 6.0])).tolist() == [1.0, 3.0]",
    "soft_max": "assert soft_max(torch.zeros(2)).tolist() == [0.5, 0.5]",
    "running_mean": "assert RunningMean().update(3.0) == 3.0",
    "cube": "assert cube(torch.tensor(2.0)).item() == 8.0",
}
DEFINES = {"running_mean": ("RunningMean",)}
FORBIDS = {
    "soft_max": (
        *("softmax", "log_softmax", "Softmax", "LogSoftmax"),
        *("aten::_softmax", "aten::_log_softmax"),
    )
}

half, soft_max, running_mean, cube = (
    Exercise(
        name,
        unit=UNIT,
        notebook=NOTEBOOK,
        defines=DEFINES.get(name, ()),
        forbids=FORBIDS.get(name, ()),
    )
    for name in SIGNATURES
)
EXERCISES = {exercise.name: exercise for exercise in (half, soft_max, running_mean, cube)}


@half.check("numbers")
def _(student: Any) -> None:
    x = torch.randn(3, 4)
    expect(student.half(x), x / 2)


@half.check("the argument is left alone")
def _(student: Any) -> None:
    x = torch.randn(5, dtype=torch.float64)
    expect(student.half(x), x / 2, dtype=True)
    require(student.unchanged("half", x), "half changes its argument")


@soft_max.check("rows")
def _(student: Any) -> None:
    x = torch.randn(4, 5)
    expect(student.soft_max(x), torch.softmax(x, -1))


@soft_max.check("large numbers")
def _(student: Any) -> None:
    x = 1000 * torch.randn(2, 3, 4)
    expect(student.soft_max(x), torch.softmax(x, -1))


def means(student: Any, numbers: list[float]) -> list[float]:
    """What a fresh object answers, number by number."""
    mean = student.RunningMean()
    return [mean.update(number) for number in numbers]


def pair_of_means(student: Any, numbers: list[float]) -> list[float]:
    """Two objects fed in turn: the second must not see the first's numbers."""
    first, second = student.RunningMean(), student.RunningMean()
    return [value for number in numbers for value in (first.update(number), second.update(-number))]


def running(numbers: list[float]) -> list[float]:
    """The oracle."""
    return [sum(numbers[: n + 1]) / (n + 1) for n in range(len(numbers))]


@running_mean.check("numbers")
def _(student: Any) -> None:
    numbers = torch.randn(6).tolist()
    expect(student.run(means, numbers), running(numbers))


@running_mean.check("two objects")
def _(student: Any) -> None:
    numbers = torch.randn(4).tolist()
    wanted = [value for mean in running(numbers) for value in (mean, -mean)]
    expect(student.run(pair_of_means, numbers), wanted)


def gradient_of(student: Any, x: torch.Tensor) -> Any:
    """The gradient of the sum of the cubes."""
    x = x.clone().requires_grad_()
    student.cube(x).sum().backward()
    return x.grad


@cube.check("values")
def _(student: Any) -> None:
    x = torch.randn(7)
    expect(student.cube(x), x**3)


@cube.check("gradient")
def _(student: Any) -> None:
    x = torch.randn(2, 3)
    expect(student.run(gradient_of, x), 3 * x**2)


def _info(grade_id: str, **changes: Any) -> dict[str, Any]:
    info = {"grade": False, "solution": False, "locked": True, "task": False, "schema_version": 3}
    return {"nbgrader": {**info, "grade_id": grade_id, **changes}}


def release() -> NotebookNode:
    """The notebook that was handed out."""
    cells = [new_code_cell("import torch", id="cell-00", metadata=_info("cell-00"))]
    for name in SIGNATURES:
        answer = _info(name, solution=True, locked=False)
        test = _info(f"test_{name}", grade=True, points=POINTS)
        cells += [
            new_markdown_cell(f"### {name}", id=f"h-{name}", metadata=_info(f"h-{name}")),
            new_code_cell(STUBS[name], id=name, metadata=answer),
            new_code_cell(VISIBLE[name], id=f"test-{name}", metadata=test),
        ]
    return new_notebook(cells=cells)


def source() -> NotebookNode:
    """The instructor's notebook of which nbgrader makes the release."""
    notebook = release()
    for cell in notebook.cells:
        if cell.id in RIGHT:
            head, _, body = RIGHT[cell.id].partition("\n")
            lines = ["### BEGIN SOLUTION", *body.strip("\n").split("\n"), "### END SOLUTION"]
            indent = " " * (len(body) - len(body.lstrip()))
            lines[0], lines[-1] = indent + lines[0], indent + lines[-1]
            cell.source = "\n".join([head, *lines])
    return notebook
