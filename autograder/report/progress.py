"""How far a class is, on stderr: a bar on a terminal, one plain line a notebook elsewhere."""

from collections.abc import Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table

from autograder.grading.collect import printable
from autograder.grading.run import Judged, Progress, Watch

BAR_FROM = 64  # columns below which the bar is left out


@contextmanager
def watching(err: Console) -> Iterator[Watch]:
    """What `grade_class` calls after every notebook."""
    if not err.is_terminal or err.is_dumb_terminal:
        yield lambda progress: _line(err, progress)
        return
    with Live(console=err, transient=True, auto_refresh=False) as live:

        def watch(progress: Progress) -> None:
            if progress.last and progress.last.failure:
                live.console.print(line(progress), style="red", markup=False, soft_wrap=True)
            live.update(bar(progress, err.width), refresh=True)

        yield watch


def _line(err: Console, progress: Progress) -> None:
    if progress.last is not None:
        err.print(line(progress), markup=False, soft_wrap=True)


def line(progress: Progress) -> str:
    """One notebook that is done."""
    judged = progress.last
    assert judged is not None
    count = f"{progress.done:{len(str(progress.total))}}/{progress.total}"
    return f"{count}  {printable(judged.student)}/{judged.notebook}  {_what(judged)}"


def _what(judged: Judged) -> str:
    if judged.failure:
        return f"NOT GRADED: {printable(judged.failure)}"
    marks = f"{judged.marks:g}/{judged.points:g}"
    if judged.kept:
        return f"{marks}  judged before"
    count = len(judged.notes)
    notes = f"  {count} note{'s' if count > 1 else ''}" if count else ""
    return f"{marks}  {judged.seconds:.1f} s{notes}"


def bar(progress: Progress, width: int) -> Table:
    """One line of this width: done, rate, time left, failures, and a bar if it fits."""
    grid = Table.grid(padding=(0, 2), expand=False)
    cells: list[str | ProgressBar] = [f"{progress.done}/{progress.total}"]
    if width >= BAR_FROM:
        cells.append(ProgressBar(progress.total, progress.done, width=min(40, width - 50)))
    rate = progress.per_minute
    cells.append(f"{rate:.{0 if rate >= 10 else 1}f}/min" if rate else "starting")
    if progress.left is not None:
        cells.append(f"{clock(progress.left)} left")
    if progress.failed:
        cells.append(f"[red]{progress.failed} failed")
    for _ in cells:
        grid.add_column(no_wrap=True)
    grid.add_row(*cells)
    return grid


def clock(seconds: float) -> str:
    """Seconds as 0:42, 12:05 or 1:02:03."""
    minutes, second = divmod(round(seconds), 60)
    hours, minute = divmod(minutes, 60)
    return f"{hours}:{minute:02}:{second:02}" if hours else f"{minute}:{second:02}"
