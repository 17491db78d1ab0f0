"""A class whose grader is killed, stopped or started twice: nothing lost, nothing graded twice."""

import contextlib
import json
import os
import random
import signal
import subprocess
import sys
import time
from collections import Counter
from concurrent.futures import Future
from pathlib import Path

import psutil
import pytest
import tiny

from autograder import contract
from autograder.grading import nbgrader, run
from autograder.grading.journal import checks_fingerprint

STUDENTS = [f"student {number}" for number in range(6)]
WRONG = "def twice(x):\n    return 1 + x * 2\n"
SLOW = "import time\ntime.sleep(0.4)\n\ndef square(x):\n    return x * x\n"
STOPPED = "autograder: stopped; start it again to go on"
ENDLESS = "import time\ntime.sleep(600)\n"
EVERY = sorted(f"{student}/{notebook}" for student in STUDENTS for notebook in tiny.UNIT_OF)


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    return tiny.make(tmp_path_factory.mktemp("tiny"))


@pytest.fixture(scope="module")
def expected(home, tmp_path_factory):
    """The marks of a class that nobody disturbed."""
    folder = tmp_path_factory.mktemp("calm")
    hand_in(folder)
    done = tiny.grade(home, folder, "--jobs", 2)
    assert done.returncode == 0, done.stderr
    return tiny.marks(folder)


def hand_in(folder):
    for number, student in enumerate(STUDENTS):
        wrong = {"twice": WRONG} if number % 2 else {}
        tiny.hand_in(folder, student, square=SLOW, **wrong)


@contextlib.contextmanager
def started(program, folder, home=None):
    """A grader in a session of its own; whatever the test finds, nothing of it is left."""
    process = subprocess.Popen(
        program,
        env=tiny.environment(home),
        cwd=folder,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    try:
        yield process
    finally:
        for left in [*descendants(process.pid), process]:
            with contextlib.suppress(psutil.Error, ProcessLookupError):
                left.kill()
        process.communicate()


def descendants(pid):
    with contextlib.suppress(psutil.Error):
        return psutil.Process(pid).children(recursive=True)
    return []


def workers(pid):
    """The grader's worker processes: what its multiprocessing server has forked."""
    found = []
    for process in descendants(pid):
        with contextlib.suppress(psutil.Error):
            if process.ppid() != pid and "multiprocessing.forkserver" in " ".join(
                process.cmdline()
            ):
                found.append(process)
    return found


def wait_until(condition, seconds=120.0):
    deadline = time.monotonic() + seconds
    while not (found := condition()):
        if time.monotonic() > deadline:
            raise TimeoutError(condition)
        time.sleep(0.02)
    return found


def gone(processes, seconds):
    """Wait for the end of all of them; gives those that are left, in words."""
    deadline = time.monotonic() + seconds
    while (left := [p for p in processes if running(p)]) and time.monotonic() < deadline:
        time.sleep(0.02)
    return [f"{process.pid}: {process.cmdline()}" for process in left]


def running(process):
    """True unless it has ended; whether an init has buried it is not ours."""
    with contextlib.suppress(psutil.Error):
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    return False


@pytest.mark.timeout(600)
def test_twenty_kills_cost_nothing(home, expected, tmp_path):
    """Ten runs, in each of which first a worker and then the coordinator is killed."""
    hand_in(tmp_path)
    moments = random.Random(20)
    killed = Counter()
    for number in range(10):
        with started(tiny.command(tmp_path, "--jobs", 2), tmp_path, home) as grader:
            if number % 3 == 0:  # imports, the making of the gradebook
                time.sleep(moments.uniform(0.3, 4.0))
            else:
                wait_until(lambda g=grader: workers(g.pid) or g.poll() is not None)
                time.sleep(moments.uniform(0.0, 0.6))
            if victims := workers(grader.pid):
                moments.choice(victims).kill()
                killed["worker"] += 1
                time.sleep(moments.uniform(0.0, 0.6))
            below = descendants(grader.pid)
            grader.kill()
            killed["coordinator"] += 1
            assert gone(below, 10) == []
    assert killed["coordinator"] == 10 and killed["worker"] >= 5, killed
    last = tiny.grade(home, tmp_path, "--jobs", 2, "--json")
    assert last.returncode == 0, last.stderr
    report = json.loads(last.stdout)
    assert report["judged"] + report["kept"] == len(EVERY) and not report["failures"]
    assert tiny.marks(tmp_path) == expected
    # A judged notebook is logged after it is written: one kill can lose a line, none can double it.
    once = Counter(tiny.log(tmp_path))
    assert set(once) <= set(EVERY) and set(once.values()) == {1}
    assert len(once) >= len(EVERY) - killed["coordinator"]

    again = json.loads(tiny.grade(home, tmp_path, "--jobs", 2, "--json").stdout)
    assert (again["judged"], again["kept"], again["entered"]) == (0, len(EVERY), 0)
    assert [s["marks"] for s in again["students"]] == [s["marks"] for s in report["students"]]


@pytest.mark.parametrize("whole_group", [True, False], ids=["group", "coordinator"])
def test_ctrl_c_stops_within_two_seconds_and_leaves_no_process(home, tmp_path, whole_group):
    tiny.hand_in(tmp_path, "ada")
    tiny.hand_in(tmp_path, "zoe", half=ENDLESS, square=ENDLESS)
    with started(tiny.command(tmp_path, "--jobs", 2), tmp_path, home) as grader:
        wait_until(lambda: len(tiny.log(tmp_path)) == 2)
        time.sleep(0.5)  # zoe's cells are running
        below = descendants(grader.pid)
        assert len(below) > 4
        start = time.monotonic()
        (os.killpg if whole_group else os.kill)(grader.pid, signal.SIGINT)
        out, err = grader.communicate(timeout=60)
        took = time.monotonic() - start
        assert gone(below, 2 - took) == [] and took < 2
        assert grader.returncode == 130 and out == ""
        assert err.splitlines()[-1] == STOPPED
        assert "Traceback" not in err
    assert set(tiny.marks(tmp_path)) == {"ada"}
    tiny.hand_in(tmp_path, "zoe")
    report = json.loads(tiny.grade(home, tmp_path, "--json").stdout)
    assert (report["judged"], report["kept"], report["entered"]) == (2, 2, 1)


@pytest.mark.parametrize("seconds", [0.0, 0.7, 1.5, 3.0])
def test_ctrl_c_while_it_starts_leaves_no_process(tmp_path, seconds):
    """The real command, at moments from its first import of torch on."""
    tiny.hand_in(tmp_path, "ada")
    (tmp_path / "submitted" / "ada" / tiny.UNIT).rename(tmp_path / "submitted/ada/01_backprop")
    for old, new in (("alpha", "autodiff"), ("beta", "training")):
        path = tmp_path / "submitted" / "ada" / "01_backprop" / f"{old}.ipynb"
        path.rename(path.with_stem(new))
    program = [sys.executable, "-m", "autograder", "grade", "01_backprop"]
    program += ["--isolation", tiny.isolation()]
    with started(program, tmp_path) as grader:
        maps = Path(f"/proc/{grader.pid}/maps")
        wait_until(lambda: "libtorch" in maps.read_text())
        time.sleep(seconds)
        below = descendants(grader.pid)
        os.killpg(grader.pid, signal.SIGINT)
        err = grader.communicate(timeout=20)[1]
        assert gone(below, 2) == []
        assert grader.returncode == 130 and err.splitlines() == [STOPPED], err


def test_a_second_command_on_the_same_class_is_refused_in_one_line(home, tmp_path):
    tiny.hand_in(tmp_path, "ada", square=ENDLESS)
    with started(tiny.command(tmp_path), tmp_path, home) as grader:
        wait_until(lambda: (tmp_path / "grading.lock").exists() and workers(grader.pid))
        second = tiny.grade(home, tmp_path)
        assert second.returncode == 2 and second.stdout == ""
        (line,) = second.stderr.splitlines()
        assert "is being graded already" in line and str(grader.pid) in line


class HerePool:
    """A pool that runs each job at once, in this process."""

    workers = 1

    def check(self, cancelled=False):
        """There is nothing to wait for."""

    def submit(self, function, job):
        future = Future()
        future.set_result(function(job))
        return future


@pytest.fixture
def here(tmp_path, monkeypatch):
    """Grade a class of the tiny unit in this process: which notebooks were judged, and the report.

    The unit is read anew each time, as a new command would.
    """
    home, folder = tiny.make(tmp_path / "home"), tmp_path / "class"
    monkeypatch.setattr(contract, "RELEASE", home / "release")
    monkeypatch.setattr(contract, "REFERENCES", home / "reference")
    monkeypatch.setattr(nbgrader, "REPOSITORY", home)
    monkeypatch.setattr(run, "local_pool", lambda jobs: contextlib.nullcontext(HerePool()))

    def grade(**options):
        units = tiny.exercises(home)
        monkeypatch.setattr(contract, "_exercises", units.get)
        checks_fingerprint.cache_clear()
        before = len(tiny.log(folder))
        options.setdefault("isolation", tiny.isolation())
        result = run.grade_class(tiny.UNIT, folder / "submitted", **options)
        return sorted(tiny.log(folder)[before:]), result

    yield home, folder, grade
    checks_fingerprint.cache_clear()


def test_what_decides_the_marks_decides_what_is_judged_again(here):
    home, folder, grade = here
    for student in ("ada", "bob"):
        tiny.hand_in(folder, student)

    every = ["ada/alpha", "ada/beta", "bob/alpha", "bob/beta"]
    assert grade()[0] == every
    assert grade()[0] == []
    assert grade(student="bob")[1].kept == 2
    assert grade(force=True, student="bob")[0] == ["bob/alpha", "bob/beta"]

    tiny.hand_in(folder, "ada", twice=WRONG)  # handed in again
    judged, result = grade()
    assert judged == ["ada/alpha"] and result.entered == 1
    assert tiny.marks(folder)["ada"] == {"half": 2, "twice": 0, "square": 2}

    checks = home / "exercises" / "beta.py"  # a hidden check that nobody meets
    checks.write_text(checks.read_text().replace("x**2", "x**2 + 1"))
    judged, result = grade()
    assert judged == ["ada/beta", "bob/beta"] and result.entered == 2
    assert tiny.marks(folder)["bob"] == {"half": 2, "twice": 2, "square": 0.5}

    reference = home / "reference" / "alpha.py"
    reference.write_text(reference.read_text() + "# changed\n")
    assert grade()[0] == ["ada/alpha", "bob/alpha"]

    released = home / "release" / tiny.UNIT / "beta.ipynb"
    released.write_text(released.read_text().replace("(2,)", "(2, )"))
    assert grade()[0] == ["ada/beta", "bob/beta"]

    assert grade(force=True)[0] == every


def test_the_journal_and_the_gradebook_mend_each_other(here):
    _, folder, grade = here
    for student in ("ada", "bob"):
        tiny.hand_in(folder, student)
    grade()
    before = tiny.marks(folder)
    place = folder / "autograded" / "bob" / tiny.UNIT
    (place / "alpha.ipynb").write_text("{")  # a damaged file
    (place / "beta.ipynb").unlink()
    judged, result = grade()
    assert judged == ["bob/alpha", "bob/beta"] and result.entered == 1

    (folder / "gradebook.db").unlink()  # judged, and in no gradebook
    judged, result = grade()
    assert judged == [] and result.entered == 2 and tiny.marks(folder) == before

    stamp = folder / "submitted" / "ada" / tiny.UNIT / "timestamp.txt"
    stamp.write_text("2026-02-03 12:00:00 UTC")  # known later than the notebooks
    judged, result = grade()
    assert judged == [] and result.entered == 1
    assert grade()[1].entered == 0


def test_a_student_who_cannot_be_entered_stops_nobody_else(here):
    _, folder, grade = here
    for student in ("ada", "bob"):
        tiny.hand_in(folder, student)
    stamp = folder / "submitted" / "ada" / tiny.UNIT / "timestamp.txt"
    stamp.write_text("the day before yesterday")
    judged, result = grade()
    assert len(judged) == 4 and result.entered == 1
    (failure,) = result.failures
    assert "ada" in failure and "timestamp.txt" in failure
    stamp.unlink()
    judged, result = grade()
    assert judged == [] and result.entered == 1 and not result.failures
    assert set(tiny.marks(folder)) == {"ada", "bob"}


def test_a_killed_worker_costs_its_job_a_retry_and_the_class_nothing(home, expected, tmp_path):
    hand_in(tmp_path)
    with started(tiny.command(tmp_path, "--jobs", 1, "--json"), tmp_path, home) as grader:
        wait_until(lambda: tiny.log(tmp_path))
        (worker,) = workers(grader.pid)
        worker.kill()
        out, err = grader.communicate(timeout=120)
    assert grader.returncode == 0, err
    assert json.loads(out)["judged"] == len(EVERY) and tiny.marks(tmp_path) == expected


def test_a_job_that_ends_its_workers_is_named_and_the_class_goes_on(home, tmp_path):
    tiny.hand_in(tmp_path, "ada", half=ENDLESS, square=ENDLESS)
    tiny.hand_in(tmp_path, "bob")
    with started(tiny.command(tmp_path, "--jobs", 1, "--json"), tmp_path, home) as grader:
        killed = set()
        while len(killed) < 6:  # three that only start their tools, then the first job's three
            (worker,) = wait_until(lambda: [w for w in workers(grader.pid) if w.pid not in killed])
            killed.add(worker.pid)
            time.sleep(0.3)
            worker.kill()
        out, err = grader.communicate(timeout=120)
    report = json.loads(out)
    assert grader.returncode == 1
    assert report["failures"] == [
        f"ada/{tiny.UNIT}/alpha.ipynb: its process died 3 times (SIGKILL)"
    ]
    assert report["judged"] == 3 and "Traceback" not in err
    assert tiny.marks(tmp_path)["bob"] == {"half": 2, "twice": 2, "square": 2}
