"""Judge a program that is not a notebook: a reference, a mistake, a mutant, a file."""

from autograder.contract import Exercise
from autograder.grading.forkserver import ChildGone, ForkServer, Raised, TimedOut
from autograder.grading.judge import CHECK_LIMIT, Verdict, judge, refused


def judge_source(
    exercise: Exercise, source: str, server: ForkServer, *, limit: float = CHECK_LIMIT
) -> Verdict:
    """Mark `source` as a solution of the exercise; all other exercises are the reference's.

    Args:
        exercise: the exercise.
        source: a program that defines the exercise's names.
        server: gives the fresh process that it runs in.
        limit: seconds that one call may take.
    """
    with server.child() as process:
        try:
            process.run_module(exercise.module(source), f"<{exercise.name}>", limit)
        except Raised as error:
            return refused(exercise, f"your code does not run: {error}")
        except TimedOut:
            return refused(
                exercise, "your code did not finish in time", "stopped while it was loaded"
            )
        except ChildGone:
            return refused(exercise, "your code ended the process", "ended while it was loaded")
        return judge(exercise, process, source, limit=limit)
