"""Many submissions side by side: what a worker is given, what it does, what it gives back."""

import gc
import itertools
import os
import signal
import threading
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import FIRST_COMPLETED, CancelledError, Future, wait
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cache
from multiprocessing import util
from typing import Any, Protocol

import nbformat
import torch

from autograder import contract
from autograder.diagnosis import Diagnostician
from autograder.grading.forkserver import ForkServer
from autograder.grading.grade import Graded, grade_file, unreadable
from autograder.grading.journal import checks_fingerprint
from autograder.grading.pool import LocalPool, WorkerDied
from autograder.grading.wall import ISOLATIONS, NoWall

AHEAD = 2  # jobs that wait for each worker, so that none waits for the coordinator
QUIET = 5.0  # seconds without a result after which the pool is asked whether any can come
MAX_REASON = 300  # characters
_one_at_a_time = threading.Lock()  # torch's random generator is the whole process's


@dataclass(frozen=True)
class Job:
    """One notebook of one student, with all that a worker needs.

    Attributes:
        name: the file's name, for messages.
        data: the file's bytes.
        problem: why the file could not be read, if so.
        checks: the fingerprint of the checks that it is to be judged by.
        fingerprint: the same with the submission's own bytes; the judged notebook carries it.
        isolation: the wall around the student's code.
    """

    student: str
    unit: str
    notebook: str
    name: str
    data: bytes = field(repr=False)
    problem: str
    checks: str
    fingerprint: str
    isolation: str


@dataclass
class Done:
    """What became of a job; `failure` is set where the grader itself went wrong."""

    student: str
    notebook: str
    judged: str | None = field(default=None, repr=False)  # the notebook as JSON
    timings: dict[str, float] = field(default_factory=dict)
    failure: str | None = None


class Pool(Protocol):
    """Where jobs run: processes of this machine, or a cluster."""

    @property
    def workers(self) -> int:
        """How many jobs can run at once."""
        ...

    def submit(self, function: Callable[[Any], Any], job: Any) -> "Future[Any]":
        """Run `function(job)` there."""
        ...

    def check(self, cancelled: bool = False) -> None:
        """Raise where no result can be expected any more, or one was `cancelled`."""
        ...


def default_isolation() -> str:
    """The wall that is used where none is named.

    Raises:
        NoWall: the environment names one that is not known.
    """
    named = os.environ.get("AUTOGRADER_ISOLATION") or ISOLATIONS[0]
    if named not in ISOLATIONS:
        choices = " or ".join(ISOLATIONS)
        raise NoWall(f"AUTOGRADER_ISOLATION is {named!r}, which is no wall: set it to {choices}")
    return named


def tools(isolation: str | None = None) -> tuple[ForkServer, Diagnostician]:
    """One fork server for each worker process, started when the first job comes."""
    return _tools(isolation or default_isolation())


@cache
def _tools(isolation: str) -> tuple[ForkServer, Diagnostician]:
    server = ForkServer(isolation)
    # Not atexit: multiprocessing's processes end without it.
    util.Finalize(None, server.close, exitpriority=10)
    return server, Diagnostician(server)


def start_tools(isolation: str) -> None:
    """Start a worker's fork server before its first job comes."""
    with _one_at_a_time:
        tools(isolation)


def prepare_worker() -> None:
    """A worker uses one core, and leaves Ctrl-C to the coordinator."""
    torch.set_num_threads(1)
    gc.collect()
    gc.freeze()  # a full collection walks through all of torch, a fifth of a second each time
    signal.signal(signal.SIGINT, signal.SIG_IGN)


def run_job(job: Job) -> Done:
    """Grade one notebook, in a worker."""
    try:
        with _one_at_a_time:
            graded = _grade(job)
    except Exception as error:  # the class goes on; the summary names it
        return Done(job.student, job.notebook, failure=_words(error))
    graded.notebook.metadata["autograder"]["graded"] = job.fingerprint
    text = nbformat.v4.writes(graded.notebook)
    timings = {
        "seconds": graded.seconds,
        "cells_seconds": graded.cells_seconds,
        "probes_seconds": graded.probes_seconds,
    }
    return Done(job.student, job.notebook, text, timings)


def _grade(job: Job) -> Graded:
    ours = checks_fingerprint(job.unit, job.notebook)
    if ours != job.checks:
        raise OtherChecks(
            f"the worker has other checks ({ours[:12]}) than the coordinator "
            f"({job.checks[:12]}): give both the same commit"
        )
    release = contract.RELEASE / job.unit / f"{job.notebook}.ipynb"
    if job.problem:
        return unreadable(
            nbformat.read(release, as_version=4), contract.load(job.unit), job.problem
        )
    return grade_file(job.data, job.name, release, job.unit, *tools(job.isolation))


class OtherChecks(Exception):
    """A worker would judge by something else than the coordinator."""


@contextmanager
def local_pool(jobs: int | None) -> Iterator[LocalPool]:
    """Worker processes on this machine; whatever goes wrong, none is left."""
    pool = LocalPool(jobs or cores(), prepare_worker, ["autograder.grading.preload"])
    try:
        yield pool
    except BaseException:
        pool.stop()
        raise
    pool.close()


def cores() -> int:
    """How many cores this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def grade_all(jobs: Iterable[Job], pool: Pool) -> Iterator[Done]:
    """Grade jobs side by side and give each result as it comes.

    A job is taken only when a worker will soon be free, and nothing of it is kept once its result
    was given: memory does not grow with the class.
    """
    jobs = iter(jobs)
    running: dict[Future[Any], tuple[str, str]] = {}
    while True:
        room = max(1, (1 + AHEAD) * pool.workers - len(running))
        for job in itertools.islice(jobs, room):
            running[pool.submit(run_job, job)] = job.student, job.notebook
        if not running:
            return
        ready, _ = wait(running, timeout=QUIET, return_when=FIRST_COMPLETED)
        if not ready:
            pool.check()
        for future in ready:
            yield _result(future, pool, *running.pop(future))


def _result(future: "Future[Any]", pool: Pool, student: str, notebook: str) -> Done:
    try:
        return future.result()
    except CancelledError:
        pool.check(cancelled=True)
        raise
    except WorkerDied as error:
        return Done(student, notebook, failure=str(error))
    except Exception as error:
        return Done(student, notebook, failure=_words(error))


def _words(error: Exception) -> str:
    return " ".join(f"{type(error).__name__}: {error}".split())[:MAX_REASON]
