"""Worker processes on this machine, each with a pipe of its own.

One thread of the coordinator holds one worker. What kills a worker breaks only its own pipe: the
thread starts another one and gives it the job again. (Pools whose workers share a queue, among them
`concurrent.futures` and pebble, lose the queue with a worker that is killed while it reads.)
"""

import contextlib
import multiprocessing
import multiprocessing.forkserver
import os
import shutil
import signal
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from multiprocessing.connection import Connection, wait
from typing import Any

import psutil

RETRIES = 2  # fresh workers that one job is given after its first one died
JOB_LIMIT = 3600.0  # seconds; cells and calls have limits of their own, far below
START_PAUSE = 1.0  # seconds before another start is tried
END_LIMIT = 1.0  # seconds in which a worker ends by itself once it is told to


class WorkerDied(Exception):
    """The job's workers died, or one never finished."""


class _Late(Exception):
    """The job took longer than `JOB_LIMIT`."""


class LocalPool:
    """Worker processes: each runs one job at a time.

    Args:
        workers: how many.
        prepare: called in each worker when it starts.
        preload: modules that the workers find imported.
    """

    def __init__(
        self, workers: int, prepare: Callable[[], None], preload: Sequence[str] = ()
    ) -> None:
        self.workers = workers
        self._context = multiprocessing.get_context("forkserver")
        multiprocessing.forkserver.set_forkserver_preload(list(preload))
        self._threads = ThreadPoolExecutor(workers, thread_name_prefix="worker")
        self._own = threading.local()
        self._alive: set[_Worker] = set()
        self._lock, self._starting = threading.Lock(), threading.Lock()
        self._stopped = False
        self._prepare = prepare
        self._scratch = tempfile.mkdtemp(prefix="grading-")
        with _interrupts_ignored():
            multiprocessing.forkserver.ensure_running()

    def submit(self, function: Callable[[Any], Any], job: Any) -> "Future[Any]":
        """Run `function(job)` in a worker; both are pickled."""
        return self._threads.submit(self._run, function, job)

    def _run(self, function: Callable[[Any], Any], job: Any) -> Any:
        said = ""
        for _ in range(1 + RETRIES):
            if self._stopped:
                break
            try:
                worker = self._worker()
            except (EOFError, OSError) as error:  # the process that workers are forked from died
                said = f"no worker could be started: {error}"
                time.sleep(START_PAUSE)
                continue
            try:
                return worker.call(function, job)
            except (EOFError, OSError):
                said = self._drop(worker)
            except _Late:
                self._drop(worker)
                raise WorkerDied(f"not judged within {JOB_LIMIT / 60:.0f} minutes") from None
        raise WorkerDied(f"its process died {1 + RETRIES} times ({said})")

    def _worker(self) -> "_Worker":
        worker = getattr(self._own, "worker", None)
        if worker is None:
            if self._stopped:
                raise WorkerDied("stopped")
            with self._starting:
                worker = _Worker(self._context, self._prepare, self._scratch)
            with self._lock:
                self._alive.add(worker)
            self._own.worker = worker
        return worker

    def _drop(self, worker: "_Worker") -> str:
        self._own.worker = None
        with self._lock:
            self._alive.discard(worker)
        return worker.end()

    def check(self, cancelled: bool = False) -> None:
        """Nothing to ask: a worker that dies is noticed at once."""

    def close(self) -> None:
        """Let the workers end, once all jobs are done."""
        self._threads.shutdown()
        self._end_all(5 * END_LIMIT)

    def stop(self) -> None:
        """End every process at once, in the middle of whatever it does."""
        self._stopped = True
        with _interrupts_ignored():
            self._stop()

    def _stop(self) -> None:
        self._threads.shutdown(wait=False, cancel_futures=True)
        below = [process for worker in self._running() for process in _children(worker.process.pid)]
        self._end_all(END_LIMIT)
        # A thread may wait for a worker that is just being forked, or for its server's imports.
        own = _children(os.getpid(), recursive=False)
        servers = [process for process in own if "multiprocessing.forkserver" in _line(process)]
        _kill([*below, *servers])

    def _running(self) -> list["_Worker"]:
        with self._lock:
            return list(self._alive)

    def _end_all(self, limit: float) -> None:
        workers = self._running()
        for worker in workers:
            worker.process.terminate()
        deadline = time.monotonic() + limit
        for worker in workers:
            worker.end(deadline)
        shutil.rmtree(self._scratch, ignore_errors=True)


class _Worker:
    """The coordinator's end of one worker process."""

    def __init__(self, context: Any, prepare: Callable[[], None], scratch: str) -> None:
        self._connection, theirs = context.Pipe()
        arguments = (theirs, prepare, scratch)
        self.process = context.Process(target=_serve, args=arguments, daemon=True)
        self.process.start()
        theirs.close()

    def call(self, function: Callable[[Any], Any], job: Any) -> Any:
        """Run one job there."""
        self._connection.send((function, job))
        if not self._connection.poll(JOB_LIMIT):
            raise _Late
        return self._connection.recv()

    def end(self, deadline: float = 0.0) -> str:
        """Wait for its end until the deadline, then kill it; says how it ended."""
        self.process.join(max(0.0, deadline - time.monotonic()))
        if self.process.exitcode is None:
            self.process.kill()
            self.process.join()
        code = self.process.exitcode or 0
        return signal.Signals(-code).name if code < 0 else f"exit code {code}"


def _serve(connection: Connection, prepare: Callable[[], None], scratch: str) -> None:
    """A worker's life: jobs from the pipe, until it is closed or the coordinator is gone."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the coordinator's
    signal.signal(signal.SIGTERM, _leave)
    tempfile.tempdir = scratch
    threading.Thread(target=_end_with_the_coordinator, daemon=True).start()
    prepare()
    with contextlib.suppress(EOFError, OSError):
        while True:
            function, job = connection.recv()
            connection.send(function(job))


def _leave(*_: object) -> None:
    raise SystemExit(0)  # unwinds: the student's process and the fork server are ended on the way


def _end_with_the_coordinator() -> None:
    coordinator = multiprocessing.parent_process()
    if coordinator is not None:
        wait([coordinator.sentinel])
        shutil.rmtree(tempfile.gettempdir(), ignore_errors=True)  # the coordinator's to remove
        os.kill(os.getpid(), signal.SIGTERM)
        time.sleep(END_LIMIT)
        os._exit(1)


@contextlib.contextmanager
def _interrupts_ignored() -> Iterator[None]:
    """Processes that are started here ignore Ctrl-C from their first moment on."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)


def _children(pid: int | None, recursive: bool = True) -> list[psutil.Process]:
    with contextlib.suppress(psutil.Error):
        return psutil.Process(pid).children(recursive=recursive)
    return []


def _line(process: psutil.Process) -> str:
    with contextlib.suppress(psutil.Error):
        return " ".join(process.cmdline())
    return ""


def _kill(processes: Sequence[psutil.Process]) -> None:
    for process in processes:
        with contextlib.suppress(psutil.Error):
            process.kill()
