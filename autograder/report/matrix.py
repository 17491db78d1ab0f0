"""What `autograder verify` and `autograder check` show on a terminal."""

from collections.abc import Sequence

from rich.console import Console
from rich.table import Table

from autograder.grading.judge import Verdict
from autograder.verify import Row


def show(rows: Sequence[Row], out: Console) -> None:
    """The matrix, one line an exercise, then in words what is wrong and which mutants survive."""
    table = Table(box=None, pad_edge=False, header_style="bold")
    table.add_column("exercise", no_wrap=True)
    for name in ("reference", "stub", "alternatives", "mistakes", "named", "mutants"):
        table.add_column(name, justify="right")
    for row in rows:
        table.add_row(row.exercise.partition("/")[2], *_figures(row))
    out.print(table)
    _show_details(rows, out)
    _show_total(rows, out)


def _figures(row: Row) -> list[str]:
    right = sum(fraction == 1 for fraction in row.alternatives.values())
    caught = sum(found["fraction"] < 1 for found in row.mistakes.values())
    named = sum(found["named"] for found in row.mistakes.values())
    return [
        f"{row.reference:.0%}",
        f"{row.stub:.0%}",
        f"{right}/{len(row.alternatives)}",
        f"{caught}/{len(row.mistakes)}",
        f"{named}/{len(row.mistakes)}",
        f"{row.mutants['killed']}/{row.mutants['total']}",
    ]


def _show_details(rows: Sequence[Row], out: Console) -> None:
    for row in rows:
        for problem in row.problems:
            out.print(f"{row.exercise}: {problem}", style="red", markup=False, soft_wrap=True)
        for name, found in row.mistakes.items():
            if found["fraction"] < 1 and not found["named"]:
                text = f"{row.exercise}: {name!r} is taken for {found.get('taken_for')!r}"
                out.print(text, markup=False, soft_wrap=True)
        for survivor in row.mutants["survivors"]:
            reason = survivor["reason"] or "NO REASON GIVEN"
            text = f"{row.exercise}: survives: {survivor['mutant']} ({reason})"
            out.print(text, markup=False, soft_wrap=True)


def _show_total(rows: Sequence[Row], out: Console) -> None:
    mistakes = [found for row in rows for found in row.mistakes.values()]
    caught = sum(found["fraction"] < 1 for found in mistakes)
    named = sum(found["named"] for found in mistakes)
    killed = sum(row.mutants["killed"] for row in rows)
    total = sum(row.mutants["total"] for row in rows)
    out.print(
        f"{len(rows)} exercise{'' if len(rows) == 1 else 's'}:"
        f" {caught} of {len(mistakes)} mistakes caught, {named} named,"
        f" {killed} of {total} mutants killed"
    )


def show_verdict(verdict: Verdict, out: Console) -> None:
    """One exercise's marks, check by check."""
    out.print(f"{verdict.exercise}: {verdict.marks:g} of {verdict.points:g} marks", style="bold")
    for check in verdict.checks:
        word = "passed" if check.marks else "lost  "
        out.print(f"  {word} {check.name} ({check.marks:g}/{check.points:g})", markup=False)
        if check.message:
            out.print(f"         {check.message}", markup=False, soft_wrap=True)
    if verdict.diagnosis:
        hint = f"it looks like: {verdict.diagnosis['mistake']}. {verdict.diagnosis['hint']}"
        out.print(hint, markup=False, soft_wrap=True)
