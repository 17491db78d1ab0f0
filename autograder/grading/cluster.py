"""The same jobs on the workers of a dask.distributed cluster."""

import logging
import re
import time
import warnings
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from contextlib import contextmanager
from typing import Any

from autograder.contract import load
from autograder.grading import wall
from autograder.grading.journal import checks_fingerprint

CONNECT_LIMIT = 5.0  # seconds to reach the scheduler
WORKERS_LIMIT = 30.0  # seconds to wait for the first worker
NO_WORKERS_LIMIT = 60.0  # seconds to wait for a new worker once all are gone


class ClusterError(Exception):
    """The cluster cannot be used; one line with the remedy."""


class Cluster:
    """A pool of the cluster's workers; the scheduler gives a lost worker's job to another one."""

    def __init__(self, client: Any, address: str) -> None:
        self._client, self._address = client, address
        self._executor = client.get_executor(pure=False)
        self._seen = time.monotonic()  # when there was a worker

    @property
    def workers(self) -> int:
        """The cluster's threads at this moment."""
        try:
            threads = sum(self._client.nthreads().values())
        except (OSError, TimeoutError):
            threads = 0
            self.check(cancelled=True)
        if threads:
            self._seen = time.monotonic()
        return max(1, threads)

    def submit(self, function: Callable[[Any], Any], job: Any) -> "Future[Any]":
        """Run `function(job)` on a worker."""
        return self._executor.submit(function, job)

    def check(self, cancelled: bool = False) -> None:
        """See that the scheduler is there and has workers.

        Raises:
            ClusterError: it is gone, or has had no worker for a while.
        """
        again = "then this command again, which goes on from here"
        if cancelled or self._client.status != "running":
            raise ClusterError(f"the scheduler at {self._address} is gone: start it, {again}")
        _ = self.workers
        if time.monotonic() - self._seen > NO_WORKERS_LIMIT:
            raise ClusterError(f"the workers of {self._address} are gone: start new ones, {again}")


@contextmanager
def cluster(address: str, unit: str, isolation: str) -> Iterator[Cluster]:
    """Connect, and see that every worker judges as this machine would.

    Raises:
        ClusterError: it cannot be reached, or one of its workers cannot take part.
    """
    client = _connect(address)
    try:
        _wait_for_workers(client, address)
        _refuse_others(client, unit, isolation)
        yield Cluster(client, address)
    finally:
        client.close(timeout=1)


def _connect(address: str) -> Any:
    try:
        from distributed import Client
    except ImportError:
        raise ClusterError(
            "--scheduler needs dask.distributed: pip install 'dlcourse[cluster]'"
        ) from None
    if not re.fullmatch(r"(tcp|tls)://\S+:\d+", address):
        raise ClusterError(f"{address!r} is no scheduler's address: write tcp://HOST:8786")
    for name in list(logging.root.manager.loggerDict):
        if name.split(".")[0] == "distributed":  # each has a level of its own
            logging.getLogger(name).setLevel(logging.CRITICAL)
    warnings.filterwarnings("ignore", "Sending large graph", UserWarning)
    try:
        return Client(address, timeout=CONNECT_LIMIT, set_as_default=False)
    except (OSError, ValueError, TimeoutError):
        raise ClusterError(
            f"no scheduler answers at {address}: start it there with `dask scheduler`"
        ) from None


def _wait_for_workers(client: Any, address: str) -> None:
    try:
        client.wait_for_workers(1, timeout=WORKERS_LIMIT)
    except TimeoutError:
        raise ClusterError(
            f"the scheduler at {address} has no workers: start some with `dask worker {address}`"
        ) from None


def _refuse_others(client: Any, unit: str, isolation: str) -> None:
    checks = checks_of(unit)
    answers = client.run(problem, unit, checks, isolation, on_error="return")
    for worker, answer in sorted(answers.items()):
        if isinstance(answer, ImportError):
            answer = f"{answer}; install this repository there (make install)"
        if answer:
            raise ClusterError(f"worker {worker}: {answer}")


def checks_of(unit: str) -> dict[str, str]:
    """The fingerprint of each notebook's checks."""
    return {
        name: checks_fingerprint(unit, name) for name in {e.notebook for e in load(unit).values()}
    }


def problem(unit: str, checks: dict[str, str], isolation: str) -> str | None:
    """Why this machine cannot grade for another one, if so; runs at a worker."""
    try:
        ours = checks_of(unit)
        wall.check(isolation)
    except KeyError:
        return f"it has no unit {unit}: give it the coordinator's commit"
    except (wall.NoWall, OSError) as error:
        return str(error)
    for name in sorted(checks):
        if ours.get(name) != checks[name]:
            return (
                f"it has other checks of {name} ({ours.get(name, 'none')[:12]}) than this machine "
                f"({checks[name][:12]}): give both the same commit"
            )
    return None
