"""Which known mistake a wrong solution looks like: the one with the same answers."""

from functools import cache

from autograder.contract import Exercise, Record
from autograder.grading.candidate import judge_source
from autograder.grading.forkserver import ForkServer
from autograder.grading.judge import Verdict

# What any unfinished program raises: two that do so need not have anything in common.
GENERIC = frozenset(
    {"NotImplementedError", "NameError", "AttributeError", "TypeError", "ImportError"}
)


class Diagnostician:
    """Names mistakes; each exercise's known mistakes are run once, when they are first needed."""

    def __init__(self, server: ForkServer) -> None:
        self._server = server
        self._known = cache(self._run_known)

    def _run_known(self, exercise: Exercise) -> dict[str, tuple[str, dict[str, Record]]]:
        return {
            mistake.name: (
                mistake.hint,
                judge_source(exercise, mistake.source, self._server).records,
            )
            for mistake in exercise.mistakes
        }

    def __call__(self, exercise: Exercise, verdict: Verdict) -> dict[str, str] | None:
        """The mistake's name and hint, or None where no known mistake explains what was lost.

        A mistake explains a failed check if the student's answers there are the mistake's own. It
        has to explain at least half of the failed checks; the one that explains the most is named,
        and of those that explain equally many the one that agrees with the student on the most
        checks altogether.
        """
        failed = [name for name, record in verdict.records.items() if record.failure]
        if all(is_generic(verdict.records[name]) for name in failed):
            return None
        best, best_rank = None, (0, 0)
        for name, (hint, records) in self._known(exercise).items():
            same = [
                check
                for check, record in verdict.records.items()
                if alike(record, records.get(check))
            ]
            rank = (sum(check in failed for check in same), len(same))
            if 2 * rank[0] >= len(failed) and rank > best_rank:
                best, best_rank = {"mistake": name, "hint": hint}, rank
        return best


def is_generic(record: Record) -> bool:
    """True if the code raised what any unfinished program raises."""
    return any(entry[0] == "raised" and entry[1] in GENERIC for entry in record.entries)


def alike(record: Record, other: Record | None) -> bool:
    """True if both checks saw the same, and that says something about the code."""
    return other is not None and not is_generic(record) and record.matches(other)
