"""A class of submissions: graded side by side, entered into the gradebook one at a time."""

import os
import signal
from collections.abc import Iterator, Sequence
from concurrent.futures import Executor, ProcessPoolExecutor, as_completed
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path

import torch

from autograder.contract import RELEASE
from autograder.diagnosis import Diagnostician
from autograder.grading.forkserver import ForkServer
from autograder.grading.grade import Graded, grade_file


@dataclass(frozen=True)
class Job:
    """One notebook of one student."""

    student: str
    unit: str
    notebook: str
    path: Path
    submitted: Path


@dataclass
class Done:
    """A job and what became of it; `failure` is set where the grader itself went wrong."""

    job: Job
    graded: Graded | None = None
    failure: str | None = None


@dataclass
class Submissions:
    """What was found below a folder of submissions."""

    jobs: list[Job] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    @property
    def students(self) -> list[str]:
        """Who handed in something, in alphabetical order."""
        return sorted({job.student for job in self.jobs})


def find_submissions(unit: str, submitted: Path, student: str | None = None) -> Submissions:
    """All notebooks of the unit below `submitted/STUDENT/UNIT/`.

    Raises:
        FileNotFoundError: the folder is missing, or nobody in it handed in this unit.
    """
    if not submitted.is_dir():
        raise FileNotFoundError(
            f"no folder {submitted}: name the one with STUDENT/{unit}/ in it (--submitted)"
        )
    names = [path.stem for path in sorted((RELEASE / unit).glob("*.ipynb"))]
    found = Submissions()
    for folder in sorted(submitted.iterdir()):
        if not (folder / unit).is_dir() or (student and folder.name != student):
            continue
        for name in names:
            path = folder / unit / f"{name}.ipynb"
            if path.exists() or path.is_symlink():
                found.jobs.append(Job(folder.name, unit, name, path, submitted))
            else:
                found.notes.append(f"{folder.name} handed in no {name}.ipynb")
        for path in sorted((folder / unit).glob("*.ipynb")):
            if path.stem not in names:
                found.notes.append(
                    f"{folder.name}: {path.name} is no notebook of {unit} and is left out"
                )
    if not found.jobs:
        who = f"of {student} " if student else ""
        raise FileNotFoundError(
            f"no submission {who}to {unit} in {submitted}: expected STUDENT/{unit}/*.ipynb"
        )
    return found


@cache
def tools() -> tuple[ForkServer, Diagnostician]:
    """One fork server for each worker process, started when the first job comes."""
    server = ForkServer()
    return server, Diagnostician(server)


def prepare_worker() -> None:
    """A worker uses one core, and leaves Ctrl-C to the coordinator."""
    torch.set_num_threads(1)
    signal.signal(signal.SIGINT, signal.SIG_IGN)


def run_job(job: Job) -> Done:
    """Grade one notebook, in a worker."""
    try:
        release = RELEASE / job.unit / f"{job.notebook}.ipynb"
        return Done(job, grade_file(job.path, release, job.unit, *tools(), within=job.submitted))
    except Exception as error:  # the batch goes on; the summary names it
        return Done(job, failure=f"{type(error).__name__}: {error}")


@contextmanager
def local_pool(jobs: int | None) -> Iterator[Executor]:
    """Worker processes on this machine: the seam where a cluster's executor goes."""
    pool = ProcessPoolExecutor(jobs or os.cpu_count(), initializer=prepare_worker)
    try:
        yield pool
    finally:
        pool.shutdown(cancel_futures=True)


def grade_all(jobs: Sequence[Job], executor: Executor) -> Iterator[Done]:
    """Grade every job side by side: begins at once, gives each result as it comes."""
    futures = [executor.submit(run_job, job) for job in jobs]
    return (future.result() for future in as_completed(futures))
