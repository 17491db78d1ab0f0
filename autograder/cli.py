"""The command line: one function a command, no logic of its own."""

import json
import os
import sys
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

app = typer.Typer(
    help="Build, check and grade the course's notebooks.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
out, err = Console(highlight=False), Console(stderr=True, highlight=False)

Unit = Annotated[
    str, typer.Argument(help="A unit's folder, such as 01_backprop.", show_default=False)
]
Path_ = Annotated[str, typer.Argument(help="UNIT or UNIT/EXERCISE.", show_default=False)]
Jobs = Annotated[
    int | None, typer.Option("--jobs", "-j", min=1, help="Processes; all cores by default.")
]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON.")]
Submitted = Annotated[Path, typer.Option(help="The folder with STUDENT/UNIT/NAME.ipynb in it.")]
Db = Annotated[str | None, typer.Option(help="The gradebook's SQLAlchemy URL.", show_default=False)]


class Isolation(StrEnum):
    """The wall around students' code."""

    bubblewrap = "bubblewrap"
    none = "none"


Wall = Annotated[
    Isolation | None,
    typer.Option(
        "--isolation",
        help="The wall around students' code; `none` only for code that you trust. By default "
        "$AUTOGRADER_ISOLATION, or bubblewrap.",
        show_default=False,
    ),
]


class UserError(Exception):
    """A user's mistake, in one line with its remedy."""


def main() -> None:
    """Run the command line; a user's mistake is one line on stderr and exit code 2."""
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    try:
        app()
    except UserError as error:
        err.print(f"autograder: {error}", style="red", markup=False, soft_wrap=True)
        sys.exit(2)
    except KeyboardInterrupt:
        stopped()
    except SystemExit as end:  # typer's answer to Ctrl-C
        if end.code == 130:
            stopped()
        raise


def stopped() -> None:
    """End after Ctrl-C: nothing is left to wait for, and torch takes a second to be unloaded."""
    err.print("autograder: stopped; start it again to go on")
    sys.stdout.flush()
    os._exit(130)


def checked(action: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
    """Call `action`; what a user can have caused becomes a `UserError`."""
    from autograder.authoring import AuthoringError
    from autograder.grading.cluster import ClusterError
    from autograder.grading.gradebook import GradebookError
    from autograder.grading.journal import ClassBusy
    from autograder.grading.wall import NoWall

    told = (AuthoringError, ClassBusy, ClusterError, GradebookError, NoWall)
    try:
        return action(*args, **kwargs)
    except (*told, FileNotFoundError, FileExistsError) as error:
        raise UserError(str(error)) from None


def exercises_of(path: str) -> list[Any]:
    """The exercises named by UNIT or UNIT/EXERCISE."""
    from autograder.verify import chosen

    try:
        return chosen(path)
    except KeyError:
        raise UserError(
            f"no exercise or unit {path!r}; there are: {', '.join(known(path))}"
        ) from None


def known(path: str) -> list[str]:
    """What one could have meant: the unit's exercises, or the units."""
    from autograder.contract import load, units

    unit, slash, _ = path.partition("/")
    return (
        [exercise.path for exercise in load(unit).values()]
        if slash and unit in units()
        else units()
    )


@contextmanager
def progress(what: str) -> Iterator[Callable[[Iterable[Any], int], Iterator[Any]]]:
    """A progress bar on a terminal's stderr, nothing elsewhere."""
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=err, transient=True, disable=not err.is_terminal) as bar:
        task = bar.add_task(what, total=None)

        def track(items: Iterable[Any], total: int) -> Iterator[Any]:
            bar.update(task, total=total)
            for item in items:
                yield item
                bar.advance(task)

        yield track


@app.command()
def build(
    unit: Annotated[str | None, typer.Argument(help="One unit; all by default.")] = None,
    check: Annotated[
        bool, typer.Option("--check", help="Write nothing; fail on any drift.")
    ] = False,
) -> None:
    """Make source, release, reference and fingerprints from the masters."""
    from autograder.authoring import HOME
    from autograder.authoring.build import build_unit

    units = [unit] if unit else sorted(path.name for path in (HOME / "source").glob("[0-9]*"))
    changed = [path for name in units for path in checked(build_unit, name, HOME, check=check)]
    for path in changed:
        out.print(f"{'differs' if check else 'wrote'} {path.relative_to(HOME)}", soft_wrap=True)
    if check and changed:
        raise UserError(
            "what is built differs from its master: run `autograder build` and commit the result"
        )
    if not changed:
        out.print("everything matches its master")


@app.command()
def new(unit: Unit, name: Annotated[str, typer.Argument(help="The notebook's name.")]) -> None:
    """Start a master that builds, with one exercise in it."""
    from autograder.authoring import HOME
    from autograder.authoring.template import new_master

    for path in checked(new_master, unit, name, HOME):
        out.print(f"wrote {path.relative_to(HOME)}", soft_wrap=True)


@app.command()
def verify(
    path: Path_,
    as_json: AsJson = False,
    jobs: Jobs = None,
    strict: Annotated[
        bool, typer.Option("--strict", help="Fail below the course's own bars as well.")
    ] = False,
) -> None:
    """Prove the hidden checks: reference, stub, alternatives, mistakes and automatic mutants."""
    from autograder.report import matrix as report
    from autograder.verify import matrix, outcomes, shortfalls, trials

    exercises = exercises_of(path)
    every = [trial for exercise in exercises for trial in trials(exercise)]
    with progress("judging") as track:
        found = list(track(outcomes(every, jobs or os.cpu_count() or 1), len(every)))
    rows = matrix(exercises, found)
    if as_json:
        print(json.dumps([row.plain() for row in rows], indent=1))
    else:
        report.show(rows, out)
    short = shortfalls(rows) if strict else []
    for line in short:
        err.print(line, style="red", markup=False, soft_wrap=True)
    if short or any(row.problems for row in rows):
        raise typer.Exit(1)


@app.command()
def check(
    path: Annotated[str, typer.Argument(help="UNIT/EXERCISE.", show_default=False)],
    files: Annotated[list[Path], typer.Argument(help="They define the exercise's names.")],
    as_json: AsJson = False,
) -> None:
    """Mark .py files, as one would try doubtful solutions.

    With --json one file gives an object, several a list of them.
    """
    from autograder.diagnosis import Diagnostician
    from autograder.grading.candidate import judge_source
    from autograder.grading.forkserver import ForkServer
    from autograder.report import matrix as report

    if "/" not in path:
        raise UserError(f"{path!r} is no UNIT/EXERCISE; there are: {', '.join(known(path + '/'))}")
    (exercise,) = exercises_of(path)
    sources = [source_of(file) for file in files]
    verdicts = []
    with ForkServer() as server:
        diagnose = Diagnostician(server)
        for source in sources:
            verdict = judge_source(exercise, source, server)
            verdict.diagnosis = diagnose(exercise, verdict)
            verdicts.append(verdict)
    if as_json:
        plain = [
            {**verdict.plain(), "exercise": exercise.path, "file": str(file)}
            for file, verdict in zip(files, verdicts, strict=True)
        ]
        print(json.dumps(plain if len(plain) > 1 else plain[0], indent=1))
        return
    for file, verdict in zip(files, verdicts, strict=True):
        if len(files) > 1:
            out.print(str(file), markup=False, soft_wrap=True)
        report.show_verdict(verdict, out)


def source_of(file: Path) -> str:
    """A Python file's text."""
    try:
        return file.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(
            f"{file} cannot be read as Python text ({error}); name a .py file"
        ) from None


@app.command()
def grade(
    unit: Unit,
    submitted: Submitted = Path("submitted"),
    jobs: Jobs = None,
    student: Annotated[
        str | None, typer.Option(help="One student only.", show_default=False)
    ] = None,
    db: Db = None,
    force: Annotated[
        bool, typer.Option("--force", help="Judge again what was judged already.")
    ] = False,
    isolation: Wall = None,
    scheduler: Annotated[
        str | None,
        typer.Option(help="A dask scheduler, such as tcp://host:8786.", show_default=False),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Grade a class: marks go into the gradebook beside the folder of submissions.

    What was judged already is not judged again, so a command that was stopped goes on where it was.
    """
    from autograder.grading.run import grade_class
    from autograder.report import classes
    from autograder.report.progress import watching

    exercises_of(unit)
    with watching(err) as watch:
        graded = checked(
            grade_class,
            unit,
            submitted,
            jobs=jobs,
            student=student,
            db=db,
            force=force,
            isolation=isolation and isolation.value,
            scheduler=scheduler,
            watch=watch,
        )
    if as_json:
        print(json.dumps(graded.plain(), indent=1))
    else:
        classes.show(graded, out)
    if graded.failures:
        raise typer.Exit(1)


@app.command()
def feedback(unit: Unit, submitted: Submitted = Path("submitted"), db: Db = None) -> None:
    """Write each student's feedback as HTML, from the graded notebooks."""
    from autograder.report.pages import write_class

    exercises_of(unit)
    pages = checked(write_class, unit, submitted, db)
    out.print(
        f"wrote {len(pages)} pages below {submitted.resolve().parent / 'feedback'}", soft_wrap=True
    )


@app.command()
def demo(
    folder: Annotated[Path, typer.Option(help="Where the class is made.")] = Path("class"),
    jobs: Jobs = None,
) -> None:
    """Make a class of submissions to unit 01, grade it, and compare with what each has earned."""
    from autograder.demo import run
    from autograder.report.progress import watching

    with watching(err) as watch:
        wrong = checked(run, folder, jobs, watch, out)
    if wrong:
        raise typer.Exit(1)


if __name__ == "__main__":
    main()
