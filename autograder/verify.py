"""The matrix that proves the hidden checks: reference, stub, alternatives, mistakes, mutants."""

from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import dataclass, field
from typing import Any

from autograder.contract import Exercise, find, load
from autograder.grading.candidate import judge_source
from autograder.grading.fanout import prepare_worker, tools
from autograder.mutants import mutants

MIN_MISTAKES, MIN_ALTERNATIVES = 5, 2  # for each exercise
MIN_NAMED, MIN_KILLED = 0.95, 0.98  # over all
MUTANT_LIMIT = 3.0  # seconds for one call of a mutant: many of them never end


@dataclass(frozen=True)
class Trial:
    """One program to judge."""

    exercise: str  # UNIT/NAME
    kind: str  # reference, stub, alternative, mistake or mutant
    name: str
    source: str
    number: int  # its place among the trials of its exercise


@dataclass(frozen=True)
class Outcome:
    """What a trial earned, as a fraction, and the mistake that was named."""

    trial: Trial
    fraction: float
    named: str | None
    lost: tuple[str, ...] = ()


@dataclass
class Row:
    """One exercise's line of the matrix."""

    exercise: str
    reference: float = 0.0
    stub: float = 1.0
    alternatives: dict[str, float] = field(default_factory=dict)
    mistakes: dict[str, dict[str, Any]] = field(default_factory=dict)
    mutants: dict[str, Any] = field(
        default_factory=lambda: {"total": 0, "killed": 0, "survivors": []}
    )
    problems: list[str] = field(default_factory=list)

    def plain(self) -> dict[str, Any]:
        """The row as `autograder verify --json` prints it."""
        return dict(vars(self))


def trials(exercise: Exercise) -> list[Trial]:
    """Everything that is judged for one exercise."""
    programs = [("reference", "reference", exercise.reference), ("stub", "stub", exercise.stub)]
    programs += [("alternative", v.name, v.source) for v in exercise.alternatives]
    programs += [("mistake", v.name, v.source) for v in exercise.mistakes]
    programs += [("mutant", m.description, m.source) for m in mutants(exercise.reference)]
    return [Trial(exercise.path, *program, n) for n, program in enumerate(programs)]


def run_trial(trial: Trial) -> Outcome:
    """Judge one program; runs in a worker."""
    server, diagnose = tools("none")  # our own programs, and nothing to guard them from
    exercise = find(trial.exercise)
    limit = MUTANT_LIMIT if trial.kind == "mutant" else 10.0
    verdict = judge_source(exercise, trial.source, server, limit=limit)
    if trial.kind == "mistake":
        verdict.diagnosis = diagnose(exercise, verdict)
    lost = tuple(f"{check.name}: {check.message}" for check in verdict.checks if not check.marks)
    fraction = verdict.marks / verdict.points
    return Outcome(trial, fraction, verdict.named, lost)


def outcomes(every: Sequence[Trial], jobs: int) -> Iterator[Outcome]:
    """Judge all trials side by side; gives each outcome as it comes."""
    with ProcessPoolExecutor(jobs, initializer=prepare_worker) as pool:
        futures = [pool.submit(run_trial, trial) for trial in every]
        try:
            for future in as_completed(futures):
                yield future.result()
        finally:
            for future in futures:
                future.cancel()


def matrix(exercises: Sequence[Exercise], found: Sequence[Outcome]) -> list[Row]:
    """Sort the outcomes into one row an exercise, with what is wrong in words."""
    rows = {exercise.path: Row(exercise.path) for exercise in exercises}
    for outcome in sorted(found, key=lambda outcome: outcome.trial.number):
        _enter(rows[outcome.trial.exercise], outcome)
    for exercise in exercises:
        _check_equivalents(rows[exercise.path], exercise)
    return list(rows.values())


def _enter(row: Row, outcome: Outcome) -> None:
    kind, name, fraction = outcome.trial.kind, outcome.trial.name, outcome.fraction
    why = "; ".join(outcome.lost)
    if kind == "reference":
        row.reference = fraction
        if fraction < 1:
            row.problems.append(f"the reference loses marks: {why}")
    elif kind == "stub":
        row.stub = fraction
        if fraction > 0:
            row.problems.append(f"the stub earns {fraction:.0%}")
    elif kind == "alternative":
        row.alternatives[name] = fraction
        if fraction < 1:
            row.problems.append(f"the alternative {name!r} loses marks: {why}")
    elif kind == "mistake":
        row.mistakes[name] = {"fraction": fraction, "named": outcome.named == name}
        if fraction == 1:
            row.problems.append(f"the mistake {name!r} is not caught")
        elif outcome.named != name:
            row.mistakes[name]["taken_for"] = outcome.named
    else:
        row.mutants["total"] += 1
        row.mutants["killed"] += fraction < 1
        if fraction == 1:
            row.mutants["survivors"].append({"mutant": name, "reason": None})


def _check_equivalents(row: Row, exercise: Exercise) -> None:
    """Give each surviving mutant its author's reason, and see that no reason is left over."""
    unused = dict(exercise.equivalents)
    for survivor in row.mutants["survivors"]:
        for key in exercise.equivalents:
            if key in survivor["mutant"]:
                survivor["reason"] = exercise.equivalents[key]
                unused.pop(key, None)
    for key in unused:
        row.problems.append(f"no surviving mutant contains {key!r}")


def shortfalls(rows: Sequence[Row]) -> list[str]:
    """Where the rows stay below the course's own bars, in words."""
    found = []
    for row in rows:
        if len(row.mistakes) < MIN_MISTAKES or len(row.alternatives) < MIN_ALTERNATIVES:
            found.append(
                f"{row.exercise} has {len(row.mistakes)} mistakes and {len(row.alternatives)}"
                f" alternatives, fewer than {MIN_MISTAKES} and {MIN_ALTERNATIVES}"
            )
        for survivor in row.mutants["survivors"]:
            if survivor["reason"] is None:
                found.append(f"{row.exercise}: no reason why {survivor['mutant']!r} may survive")
    mistakes = [mistake["named"] for row in rows for mistake in row.mistakes.values()]
    killed, total = (sum(row.mutants[key] for row in rows) for key in ("killed", "total"))
    if sum(mistakes) < MIN_NAMED * len(mistakes):
        found.append(f"{sum(mistakes)} of {len(mistakes)} mistakes named, under {MIN_NAMED:.0%}")
    if killed < MIN_KILLED * total:
        found.append(f"{killed} of {total} mutants killed, under {MIN_KILLED:.0%}")
    return found


def chosen(path: str) -> list[Exercise]:
    """The exercises of `UNIT` or the one of `UNIT/EXERCISE`; KeyError if there is none."""
    return [find(path)] if "/" in path else list(load(path).values())
