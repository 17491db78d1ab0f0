"""What an exercise is, on the instructor's side: checks, known mistakes, alternative solutions.

A check is a function of the student: it calls the student's functions over the wire, gets plain
data back and compares it with an oracle, all in the judge's process. `expect` and `require` are
soft: they record and go on, so that the record of a wrong solution can be compared with those of
the known mistakes.
"""

import ast
import contextlib
import contextvars
import importlib
import inspect
import itertools
import json
import math
import textwrap
import time
import zlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from types import ModuleType
from typing import Any, Protocol

import cloudpickle
import numpy as np
import torch

from autograder.grading.inside import probes, wire
from autograder.grading.inside.wire import Opaque
from course.compare import difference

__all__ = ["Exercise", "Student", "check_here", "expect", "load", "probes", "require"]

REFERENCES = Path(__file__).with_name("reference")
EXERCISES = Path(__file__).with_name("exercises")
RELEASE = Path(__file__).parents[1] / "release"

_made = itertools.count()

# Probes travel by value: the student's process has neither this package nor the exercises.
cloudpickle.register_pickle_by_value(probes)


class Connection(Protocol):
    """What a check needs of the student's process."""

    def probe(
        self, probe: Any, args: Any, kwargs: Any, limit: float, forbidden: list[str]
    ) -> tuple[Any, list[str]]: ...

    def seed(self, seed: int) -> None: ...


class ForbiddenCall(Exception):
    """The student's code called what the exercise asks to write."""


class Student:
    """The student's namespace as a check sees it: `student.relu(x)` runs over there."""

    def __init__(
        self,
        connection: Connection,
        forbidden: Sequence[str] = (),
        limit: float = 10.0,
        total: float = math.inf,
    ) -> None:
        self._connection = connection
        self._forbidden = [name for name in forbidden if name.startswith("aten::")]
        self._limit, self._left = limit, total

    def run(self, probe: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        """Call `probe(student, *args, **kwargs)` in the student's process; get plain data.

        A call may take `limit` seconds, all calls together `total`.
        """
        limit = min(self._limit, max(self._left, 0.1))
        start = time.monotonic()
        try:
            value, seen = self._connection.probe(probe, args, kwargs, limit, self._forbidden)
        finally:
            self._left -= time.monotonic() - start
        if seen:
            raise ForbiddenCall(f"it calls {', '.join(seen)}, which the exercise asks you to write")
        return value

    def raises(self, name: str, *args: Any, **kwargs: Any) -> str | None:
        """Name of the exception type that the call raises over there, None if it returns."""
        return self.run(probes.raises, name, *args, **kwargs)

    def unchanged(self, name: str, *args: Any, **kwargs: Any) -> bool:
        """True if the call over there leaves every tensor and list among its arguments as it was.

        The arguments come back and are compared here: a comparison over there proves nothing.
        """
        after = self.run(probes.arguments_after, name, *args, **kwargs)
        return _identical(after, wire.decode(*wire.encode((args, kwargs))))

    def __getattr__(self, name: str) -> Callable[..., Any]:
        return lambda *args, **kwargs: self.run(probes.call, name, *args, **kwargs)


def _identical(a: Any, b: Any) -> bool:
    """Equality of plain data, to the bit of a tensor."""
    if type(a) is not type(b):
        return False
    if isinstance(a, torch.Tensor):
        return a.dtype == b.dtype and torch.equal(a, b)
    if isinstance(a, list | tuple):
        return len(a) == len(b) and all(map(_identical, a, b))
    if isinstance(a, dict):
        return a.keys() == b.keys() and all(_identical(a[key], b[key]) for key in a)
    if isinstance(a, np.ndarray):
        return a.dtype == b.dtype and np.array_equal(a, b)
    return a == b


@dataclass
class Record:
    """All that one check compared: values with tolerances, and the first failure in words."""

    entries: list["Entry"] = field(default_factory=list)
    failure: str | None = None

    def fail(self, message: str) -> None:
        """Keep the first failure."""
        if self.failure is None:
            self.failure = message

    def matches(self, other: "Record") -> bool:
        """True if the other check saw the same values, within the tolerances of the comparison."""
        if (self.failure is None) != (other.failure is None) or len(self.entries) != len(
            other.entries
        ):
            return False
        return all(map(_same_entry, self.entries, other.entries))


Entry = tuple[str, Any, float, float]


def _same_entry(a: Entry, b: Entry) -> bool:
    try:
        return a[0] == b[0] and difference(a[1], b[1], rtol=a[2], atol=a[3], dtype=True) is None
    except TypeError:  # a mistake that gives what is no plain data
        return type(a[1]) is type(b[1]) is Opaque and a[1] == b[1]


_record: contextvars.ContextVar[Record] = contextvars.ContextVar("record")


def expect(
    got: Any,
    want: Any,
    what: str = "result",
    *,
    rtol: float = 1e-4,
    atol: float = 1e-6,
    dtype: bool = False,
) -> None:
    """Compare what the student's code gave with what is right; a difference fails the check.

    Args:
        got: plain data from the student's process.
        want: the oracle's answer.
        what: its name in the message to the student.
        rtol: relative tolerance.
        atol: absolute tolerance.
        dtype: also demand the same dtype.
    """
    record = _record.get()
    record.entries.append((what, got, rtol, atol))
    found = difference(got, want, rtol=rtol, atol=atol, dtype=dtype)
    if found is not None:
        record.fail(f"{what}: {found}")


def require(condition: bool, message: str, *, got: Any = None) -> None:
    """Fail the check unless the condition holds; `got` takes part in the diagnosis."""
    record = _record.get()
    record.entries.append((message, got if got is not None else bool(condition), 1e-4, 1e-6))
    if not condition:
        record.fail(message)


@contextlib.contextmanager
def recording() -> Iterator[Record]:
    """Collect what `expect` and `require` see."""
    record = Record()
    token = _record.set(record)
    try:
        yield record
    finally:
        _record.reset(token)


@dataclass(frozen=True)
class Check:
    """One hidden check: its name in words, its points and its function."""

    name: str
    points: float
    run: Callable[[Student], None]

    @property
    def seed(self) -> int:
        """The seed of the random generators on both sides."""
        return zlib.crc32(self.name.encode())


@dataclass(frozen=True)
class Variant:
    """Another program for the same exercise: a known mistake or an alternative solution."""

    name: str
    hint: str
    source: str


class Exercise:
    """One exercise; `autograder/exercises/UNIT/NOTEBOOK.py` defines those of a notebook.

    Args:
        name: the exercise's name, as in the master's `exercise="..."`.
        defines: the names that the student's cell defines; by default the exercise's own.
        forbids: what the solution may not use: identifiers (`softmax`, `F.relu`), looked for in the
            syntax tree, and operators (`aten::relu`), watched while the code runs.
        unit: the unit's folder; by default that of the module which makes the exercise.
        notebook: the notebook's name; by default that of the module which makes the exercise.
    """

    def __init__(
        self,
        name: str,
        *,
        defines: Sequence[str] = (),
        forbids: Sequence[str] = (),
        unit: str = "",
        notebook: str = "",
    ) -> None:
        caller = inspect.currentframe()
        assert caller is not None and caller.f_back is not None
        home = inspect.getmodule(caller.f_back)
        place = Path(caller.f_back.f_code.co_filename)
        self.name = name
        self.unit, self.notebook = unit or place.parent.name, notebook or place.stem
        self.defines = tuple(defines) or (name,)
        self.forbids = tuple(forbids)
        self.number = next(_made)
        self.checks: list[Check] = []
        self._variants: dict[str, list[tuple[str, str, Any, str]]] = {
            "mistake": [],
            "alternative": [],
        }
        self.equivalents: dict[str, str] = {}
        if home is not None:
            cloudpickle.register_pickle_by_value(home)

    @property
    def path(self) -> str:
        """`UNIT/NAME`."""
        return f"{self.unit}/{self.name}"

    @property
    def points(self) -> float:
        """The sum of its checks' points."""
        return sum(check.points for check in self.checks)

    def check(self, name: str, points: float = 1) -> Callable[[Callable[[Student], None]], Any]:
        """Add a hidden check; decorates a function of the student."""
        if any(check.name == name for check in self.checks):
            raise ValueError(f"{self.path} has two checks named {name!r}")

        def add(run: Callable[[Student], None]) -> Callable[[Student], None]:
            self.checks.append(Check(name, points, run))
            return run

        return add

    def mistake(self, name: str, hint: str, edit: Any = None, replaces: str | None = None) -> Any:
        """Add a known mistake: an edit of the reference source, or a decorated replacement."""
        return self._add("mistake", name, hint, edit, replaces)

    def alternative(self, name: str, edit: Any = None, replaces: str | None = None) -> Any:
        """Add another correct solution, given as a mistake is."""
        return self._add("alternative", name, "", edit, replaces)

    def equivalent(self, mutant: str, reason: str) -> None:
        """Say why a surviving automatic mutant is no wrong program."""
        self.equivalents[mutant] = reason

    def _add(self, kind: str, name: str, hint: str, edit: Any, replaces: str | None) -> Any:
        if any(known[0] == name for known in self._variants[kind]):
            raise ValueError(f"{self.path} has two variants named {name!r}")
        target = replaces or self.defines[0]
        if edit is not None:
            self._variants[kind].append((name, hint, edit, target))
            return None

        def add(replacement: Any) -> Any:
            self._variants[kind].append((name, hint, replacement, target))
            return replacement

        return add

    @property
    def reference(self) -> str:
        """Source of the reference solution: this exercise's definitions."""
        return _sections(self.notebook)[self.name]

    @property
    def stub(self) -> str:
        """Source of the student's cell as the release has it."""
        notebook = json.loads((RELEASE / self.unit / f"{self.notebook}.ipynb").read_text())
        for cell in notebook["cells"]:
            if cell["metadata"].get("nbgrader", {}).get("grade_id") == self.name:
                return "".join(cell["source"])
        raise LookupError(
            f"the release of {self.notebook} has no cell {self.name!r}: build it first"
        )

    @property
    def mistakes(self) -> list[Variant]:
        """The known mistakes, as sources."""
        return [self._variant(*known) for known in self._variants["mistake"]]

    @property
    def alternatives(self) -> list[Variant]:
        """The other correct solutions, as sources."""
        return [self._variant(*known) for known in self._variants["alternative"]]

    def _variant(self, name: str, hint: str, change: Any, target: str) -> Variant:
        if callable(change):
            source = replace_definition(self.reference, target, _renamed(change, target))
        else:
            source = self._edited(name, change)
        return Variant(name, hint, source)

    def _edited(self, name: str, edit: Any) -> str:
        source = self.reference
        for old, new in [edit] if isinstance(edit[0], str) else edit:
            if source.count(old) != 1:
                raise ValueError(
                    f"{self.path}, {name!r}: {old!r} stands {source.count(old)} times, not once"
                )
            source = source.replace(old, new)
        return source

    def module(self, source: str) -> str:
        """A whole program: the reference module with `source` in this exercise's place."""
        sections = {**_sections(self.notebook), self.name: source}
        return "\n\n".join(sections.values())


BEGIN, END = "# --- exercise: ", "# --- end"


@cache
def _sections(notebook: str) -> dict[str, str]:
    """The reference module, cut at its markers; given code has keys that start with `#`."""
    sections: dict[str, str] = {}
    lines: list[str] = []
    name = ""

    def close() -> None:
        if name or any(line.strip() for line in lines):
            sections[name or f"#{len(sections)}"] = "\n".join(lines).strip("\n") + "\n"
        lines.clear()

    for line in (REFERENCES / f"{notebook}.py").read_text().splitlines():
        if line.startswith(BEGIN):
            close()
            name = line.removeprefix(BEGIN).strip()
        elif line.startswith(END):
            close()
            name = ""
        else:
            lines.append(line)
    close()
    return sections


def replace_definition(source: str, name: str, new: str) -> str:
    """Put `new` in the place of the top-level definition of `name`."""
    for node in ast.parse(source).body:
        if getattr(node, "name", None) == name and node.end_lineno is not None:
            decorators = getattr(node, "decorator_list", [])
            first = min([node.lineno, *(decorator.lineno for decorator in decorators)])
            lines = source.splitlines()
            return (
                "\n".join([*lines[: first - 1], new.rstrip("\n"), *lines[node.end_lineno :]]) + "\n"
            )
    raise ValueError(f"no definition of {name} to replace")


def _renamed(function: Any, target: str) -> str:
    """Source of a decorated replacement, without its decorator and under the target's name."""
    tree = ast.parse(textwrap.dedent(inspect.getsource(function)))
    (node,) = tree.body
    assert isinstance(node, ast.FunctionDef | ast.ClassDef)
    old, node.name = node.name, target
    node.decorator_list = []
    for inner in ast.walk(node):  # a recursive solution, or a class that makes its own instances
        if isinstance(inner, ast.Name) and inner.id == old and old != "_":
            inner.id = target
    return ast.unparse(node) + "\n"


def exercises_in(module: ModuleType) -> list[Exercise]:
    """The exercises that a module defines, in the order in which they were made."""
    found = {value for value in vars(module).values() if isinstance(value, Exercise)}
    return sorted(found, key=lambda exercise: exercise.number)


def units() -> list[str]:
    """The units that have exercises."""
    return sorted({path.parent.name for path in EXERCISES.glob("*/*.py")})


@cache
def _exercises(unit: str) -> dict[str, Exercise] | None:
    """The exercises of one unit. Other units' modules are left alone: they may be half written."""
    if unit not in units():
        return None
    names = sorted(path.stem for path in (EXERCISES / unit).glob("*.py"))
    modules = [importlib.import_module(f"autograder.exercises.{unit}.{name}") for name in names]
    return {exercise.name: exercise for module in modules for exercise in exercises_in(module)}


def load(unit: str) -> dict[str, Exercise]:
    """The exercises of one unit by name, in the order of their modules.

    Raises:
        KeyError: the unit has none.
    """
    found = _exercises(unit)
    if found is None:
        raise KeyError(unit)
    return found


def find(path: str) -> Exercise:
    """The exercise `UNIT/NAME`; KeyError if there is none."""
    unit, _, name = path.partition("/")
    return load(unit)[name]


class Here:
    """The connection for code that one trusts: it runs in this process, on the given namespace."""

    def __init__(self, names: dict[str, Any]) -> None:
        self._names = names

    def probe(
        self, probe: Any, args: Any, kwargs: Any, limit: float, forbidden: list[str]
    ) -> tuple[Any, list[str]]:
        """As over the wire: the arguments are copies and only plain data comes back."""
        from autograder.grading.inside import child, wire

        probe, args, kwargs = cloudpickle.loads(cloudpickle.dumps((probe, args, kwargs)))
        with child.ForbiddenCalls(forbidden) as watch:
            value = probe(child.Namespace(self._names), *args, **kwargs)
        return wire.decode(*wire.encode(value)), sorted(watch.seen)

    def seed(self, seed: int) -> None:
        """The judge has just seeded the generators of this process."""


def check_here(path: str, names: dict[str, Any]) -> None:
    """Run an exercise's hidden checks on code that one trusts: what the source notebook's cells do.

    Raises:
        AssertionError: a check failed; its text names each.
    """
    exercise = find(path)
    student = Student(Here(names), exercise.forbids)
    failures = []
    for check in exercise.checks:
        torch.manual_seed(check.seed)
        with recording() as record:
            check.run(student)
        if record.failure:
            failures.append(f"{check.name}: {record.failure}")
    assert not failures, "\n".join(failures)
