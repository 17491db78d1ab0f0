"""Which file is whose, and many of them side by side: names, unreadable files, bounded memory."""

import os
import unicodedata
from concurrent.futures import Future

import psutil
import pytest
import tiny
from rich.console import Console

from autograder import contract
from autograder.grading import run
from autograder.grading.collect import choose, find_submissions, printable
from autograder.grading.fanout import AHEAD, Done, grade_all
from autograder.grading.pool import LocalPool, WorkerDied
from autograder.grading.run import Judged, Progress
from autograder.report.progress import bar, clock, line, watching

NAMES = ["alpha", "beta"]


@pytest.fixture
def unit(tmp_path, monkeypatch):
    """The tiny unit in place of the course's; gives the class's folder."""
    home = tiny.make(tmp_path / "home")
    units = tiny.exercises(home)
    monkeypatch.setattr(contract, "RELEASE", home / "release")
    monkeypatch.setattr(contract, "REFERENCES", home / "reference")
    monkeypatch.setattr(contract, "_exercises", units.get)
    run.checks_fingerprint.cache_clear()
    yield tmp_path / "class"
    run.checks_fingerprint.cache_clear()


@pytest.mark.parametrize(
    ("files", "alpha", "words"),
    [
        (["alpha.ipynb", "notes.txt"], "alpha.ipynb", []),
        (["alpha.ipynb", "alpha (1).ipynb"], "alpha.ipynb", ["alpha (1).ipynb is left out"]),
        (["alpha-Copy1.ipynb"], "alpha-Copy1.ipynb", ["alpha-Copy1.ipynb is taken for alpha"]),
        (
            ["alpha (2).ipynb", "alpha (10).ipynb"],
            "alpha (10).ipynb",
            ["(10).ipynb is taken for alpha.ipynb", "alpha (2).ipynb is left out"],
        ),
        (["Copy of alpha.ipynb"], "Copy of alpha.ipynb", ["is taken for alpha.ipynb"]),
        (["ALPHA.IPYNB"], "ALPHA.IPYNB", ["ALPHA.IPYNB is taken for alpha.ipynb"]),
        (["gamma.ipynb"], None, ["gamma.ipynb is no notebook of", "handed in no alpha.ipynb"]),
        (["alpha.pdf"], None, ["handed in no alpha.ipynb (but alpha.pdf)"]),
        (["alphabet.ipynb"], None, ["alphabet.ipynb is no notebook of"]),
        ([], None, ["handed in no alpha.ipynb"]),
        (["alpha"], None, ["handed in no alpha.ipynb"]),
    ],
)
def test_each_file_is_taken_or_named(files, alpha, words):
    chosen, notes = choose([*files, "beta.ipynb"], NAMES, "00_tiny")
    assert chosen.get("alpha") == alpha and chosen["beta"] == "beta.ipynb"
    assert bool(notes) == bool(words)
    for word in words:
        assert any(word in note for note in notes), notes
    assert all("\n" not in note for note in notes)


ODD = ["Анна Каренина", 'o\'neil "jr"', "a[b]*c?", "with  spaces ", "-rf", "日本", "esc\x1b[31m"]


def test_odd_names_are_found_as_they_are(unit):
    for name in ODD:
        tiny.hand_in(unit, name)
    found = find_submissions(tiny.UNIT, unit / "submitted")
    assert sorted(s.student for s in found.of) == sorted(ODD) and found.notes == []
    assert found.total == 2 * len(ODD)
    assert printable("esc\x1b[31m\n\u202e") == "esc\\x1b[31m\\n\\u202e"
    assert printable("Анна o'neil") == "Анна o'neil"


def test_what_lies_elsewhere_is_named_and_stops_nothing(unit):
    tiny.hand_in(unit, "ada")
    submitted = unit / "submitted"
    (submitted / "loose.ipynb").write_text("{}")
    (submitted / ".DS_Store").write_text("")
    (submitted / "bob").mkdir()
    (submitted / "bob" / "alpha.ipynb").write_text("{}")
    os.mkdir(os.fsencode(submitted) + b"/caf\xe9")
    (submitted / "empty" / tiny.UNIT).mkdir(parents=True)
    found = find_submissions(tiny.UNIT, submitted)
    assert [s.student for s in found.of] == ["ada"]
    assert found.notes == [
        "bob: alpha.ipynb lies outside 00_tiny/ and is left out",
        r"the folder caf\xe9 has a name that is not UTF-8: rename it; left out",
        "empty handed in no alpha.ipynb",
        "empty handed in no beta.ipynb",
        "loose.ipynb lies outside STUDENT/00_tiny/ and is left out",
    ]


def test_folders_that_look_alike_are_graded_and_named(unit):
    composed, decomposed = (unicodedata.normalize(form, "Zoë") for form in ("NFC", "NFD"))
    for name in (composed, decomposed, "ada", "Ada"):
        tiny.hand_in(unit, name)
    found = find_submissions(tiny.UNIT, unit / "submitted")
    assert len(found.of) == 4
    assert sorted(found.notes) == sorted(
        [
            "Ada and ada differ only in case: graded as 2 students",
            f"{decomposed} and {composed} differ only in Unicode's form: graded as 2 students",
        ]
    )
    (only,) = find_submissions(tiny.UNIT, unit / "submitted", student=decomposed).of
    assert only.student == decomposed


@pytest.mark.parametrize("student", [None, "nobody"])
def test_nothing_to_grade_is_said(unit, student):
    (unit / "submitted" / "ada").mkdir(parents=True)
    with pytest.raises(FileNotFoundError, match=r"expected STUDENT/00_tiny/\*\.ipynb"):
        find_submissions(tiny.UNIT, unit / "submitted", student)


class LazyPool:
    """Does the oldest job when it is full, and the last ones at once."""

    workers = 2

    def __init__(self, total):
        self.waiting, self.left = [], total

    def check(self, cancelled=False):
        """There is nothing to wait for."""

    def submit(self, function, job):
        future = Future()
        self.waiting.append((future, job))
        self.left -= 1
        while len(self.waiting) >= self.workers or (self.waiting and not self.left):
            oldest, its = self.waiting.pop(0)
            oldest.set_result(Done(its.student, its.notebook, failure=its.problem or "data"))
        return future


def test_a_class_of_500_with_three_unreadable_files_is_read_job_by_job(unit, monkeypatch):
    for number in range(500):
        tiny.hand_in(unit, f"s{number:03}")
    places = [unit / "submitted" / f"s{n:03}" / tiny.UNIT / "beta.ipynb" for n in (3, 250, 499)]
    for place in places:
        place.unlink()
    places[0].mkdir()
    places[1].symlink_to(unit / "nowhere")
    os.mkfifo(places[2])
    read, count, most = [], 0, 0
    read_bytes = run.read_bytes

    def reading(*arguments, **options):
        read.append(arguments)
        return read_bytes(*arguments, **options)

    monkeypatch.setattr(run, "read_bytes", reading)
    found = find_submissions(tiny.UNIT, unit / "submitted")
    assert found.total == 1000 and found.notes == []
    result = run.GradedClass(tiny.UNIT, unit, "", "", "")

    class Book:
        submitted = unit / "submitted"

    worker = run._Run(result, Book, found, True, "none", lambda progress: None)  # type: ignore[arg-type]
    pool = LazyPool(found.total)
    problems = {}
    for count, done in enumerate(grade_all(worker._jobs(), pool), 1):
        most = max(most, len(read) - count)
        if done.failure != "data":
            problems[done.student] = done.failure
    assert count == 1000 and most <= (1 + AHEAD) * pool.workers
    assert sorted(problems) == ["s003", "s250", "s499"]
    assert "not a file" in problems["s003"] + problems["s499"]
    assert "symbolic link" in problems["s250"]


def double(job):
    """Twice a number; some kill their worker, as many times as they say."""
    number, deaths, attempts = job
    with attempts.open("a") as file:
        file.write(f"{number}\n")
    if attempts.read_text().splitlines().count(str(number)) <= deaths:
        os.kill(os.getpid(), 9)
    return 2 * number


def nothing():
    """Nothing to prepare."""


def test_the_pool_survives_what_kills_a_worker(tmp_path):
    attempts = tmp_path / "attempts"
    pool = LocalPool(2, nothing)
    try:
        jobs = {1: 0, 2: 1, 3: 2, 4: 9, 5: 0}  # how often each kills its worker
        futures = {n: pool.submit(double, (n, deaths, attempts)) for n, deaths in jobs.items()}
        assert [futures[n].result(60) for n in (1, 2, 3, 5)] == [2, 4, 6, 10]
        with pytest.raises(WorkerDied, match=r"died 3 times \(SIGKILL\)"):
            futures[4].result(60)
        assert pool.submit(double, (6, 0, attempts)).result(60) == 12
    finally:
        pool.close()
    assert sorted(attempts.read_text().split()) == [*"1223334445", "6"]


def test_the_pool_survives_the_end_of_the_process_that_workers_are_forked_from(tmp_path):
    attempts = tmp_path / "attempts"
    pool = LocalPool(2, nothing)
    try:
        assert pool.submit(double, (1, 0, attempts)).result(60) == 2
        own = psutil.Process().children(recursive=False)
        (server,) = [p for p in own if "multiprocessing.forkserver" in " ".join(p.cmdline())]
        server.kill()
        futures = {n: pool.submit(double, (n, 1, attempts)) for n in (2, 3, 4)}
        assert {n: future.result(60) for n, future in futures.items()} == {2: 4, 3: 6, 4: 8}
    finally:
        pool.close()


def progress(done=17, total=240, failed=0, kept=0, **last):
    shown = Judged("Анна", "alpha", 3, 4, 1.25, **last)
    made = Progress(total, done, kept, failed, last=shown)
    made.started -= 60
    return made


@pytest.mark.parametrize("width", [20, 40, 80, 120])
@pytest.mark.parametrize("failed", [0, 3])
def test_the_bar_is_one_line_that_fits(width, failed):
    console = Console(width=width, force_terminal=True, no_color=True, legacy_windows=False)
    with console.capture() as capture:
        console.print(bar(progress(failed=failed), width))
    (shown,) = capture.get().splitlines()
    assert len(shown) <= width
    if width >= 40:
        assert "17/240" in shown and "17/min" in shown and "13:07 left" in shown
        assert ("3 failed" in shown) == bool(failed)


def test_lines_say_who_what_and_how_long():
    assert line(progress()) == " 17/240  Анна/alpha  3/4  1.2 s"
    assert line(progress(notes=["a", "b"])) == " 17/240  Анна/alpha  3/4  1.2 s  2 notes"
    assert line(progress(kept=1)).endswith("1.2 s")
    assert line(progress(failure="died\n")) == " 17/240  Анна/alpha  NOT GRADED: died\\n"
    assert [clock(s) for s in (0, 42, 725, 3723)] == ["0:00", "0:42", "12:05", "1:02:03"]


@pytest.mark.parametrize("terminal", ["pipe", "dumb"])
def test_where_no_bar_can_be_drawn_there_are_plain_lines(terminal, monkeypatch, capsys):
    monkeypatch.setenv("TERM", "dumb" if terminal == "dumb" else "xterm")
    console = Console(stderr=True, force_terminal=terminal == "dumb", width=30)
    with watching(console) as watch:
        watch(Progress(240))
        watch(progress())
        watch(progress(done=18))
    assert capsys.readouterr().err.splitlines() == [
        " 17/240  Анна/alpha  3/4  1.2 s",
        " 18/240  Анна/alpha  3/4  1.2 s",
    ]
