"""nbgrader's own tools on the same class: the same marks, export, validation, formgrader."""

import copy
import csv
import json
import os
import shutil
import sqlite3
import subprocess
import sys
import time
import urllib.request
from dataclasses import replace
from pathlib import Path

import pytest
from nbgrader.apps.api import NbGraderAPI
from nbgrader.coursedir import CourseDirectory
from traitlets.config.loader import PyFileConfigLoader

from autograder import demo
from autograder.contract import RELEASE, load
from autograder.demo import Submission, mistaken
from autograder.grading.nbgrader import NbgraderClass
from autograder.grading.run import grade_class
from autograder.report.pages import write_class

ROOT = Path(__file__).resolve().parent.parent
UNIT = "01_backprop"
STUDENTS = [
    Submission("Ада", damage=demo.strip_as_colab),
    Submission(
        "o'neil jr",
        mistaken(schedules="cosine rises again"),
        lost={"schedules": ("cosine stays at the final rate",)},
    ),
]


@pytest.fixture(scope="module")
def graded(tmp_path_factory):
    """A class of three, graded by our own command; the third handed in no notebook at all."""
    folder = tmp_path_factory.mktemp("class")
    for student in STUDENTS:
        demo.write(student, folder / "submitted")
    damaged = folder / "submitted" / "damaged" / UNIT
    damaged.mkdir(parents=True)
    (damaged / "autodiff.ipynb").write_text("no notebook")
    shutil.copy(folder / "submitted" / "Ада" / UNIT / "training.ipynb", damaged)
    return grade_class(UNIT, folder / "submitted", jobs=2)


def nbgrader(folder: Path, *arguments: str) -> subprocess.CompletedProcess:
    """Run nbgrader's own command line, as an instructor does in the repository."""
    directory = [
        f"--CourseDirectory.root={folder}",
        f"--CourseDirectory.source_directory={ROOT / 'source'}",
        f"--CourseDirectory.db_url=sqlite:///{folder / 'gradebook.db'}",
    ]
    program = [sys.executable, "-m", "nbgrader", *arguments, *directory]
    return subprocess.run(program, cwd=ROOT, capture_output=True, text=True, check=False)


def test_our_command_gives_each_student_what_was_earned(graded):
    marks = {student.student: student for student in graded.students}
    assert sorted(marks) == ["damaged", "o'neil jr", "Ада"]
    for student in STUDENTS:
        wanted = demo.earned(student)
        assert {m.exercise: m.marks for m in marks[student.name].marks} == wanted
    lost = [m.exercise for m in marks["damaged"].marks if m.marks == 0]
    assert lost == [n for n, e in load(UNIT).items() if e.notebook == "autodiff"]
    assert not graded.failures
    named = [(m.exercise, m.mistake) for m in marks["o'neil jr"].marks if m.mistake]
    assert named == [("schedules", "cosine rises again")]


def test_the_demo_sees_every_kind_of_difference(graded):
    assert list(demo.differences(graded, STUDENTS)) == []
    wrong = copy.deepcopy(graded)
    student = next(s for s in wrong.students if s.student == "o'neil jr")
    mark = next(m for m in student.marks if m.exercise == "schedules")
    mark.marks, mark.mistake = mark.points, "another"
    absent = Submission("absent")
    promised = replace(STUDENTS[1], mistakes={"schedules": "cosine rises again"})
    found = " | ".join(demo.differences(wrong, [STUDENTS[0], promised, absent]))
    for words in ("has earned 3", "the gradebook says 3", "taken for 'another'", "absent was not"):
        assert words in found


def test_the_gradebook_holds_these_marks(graded):
    book = NbgraderClass(graded.folder / "submitted").marks(UNIT)
    for student in graded.students:
        assert book[student.student] == {mark.exercise: mark.marks for mark in student.marks}


def test_nbgrader_autograde_gives_the_same_marks(graded, tmp_path):
    shutil.copytree(graded.folder / "submitted", tmp_path / "submitted")
    plant_links(tmp_path)
    for command in (["generate_assignment", UNIT], ["autograde", UNIT]):
        done = nbgrader(tmp_path, *command)
        assert done.returncode == 0, done.stderr
    ours = NbgraderClass(graded.folder / "submitted").marks(UNIT)
    theirs = NbgraderClass(tmp_path / "submitted").marks(UNIT)
    assert theirs == ours

    copied = [p.name for p in (tmp_path / "autograded").rglob("*") if p.is_file()]
    assert set(copied) == {"autodiff.ipynb", "training.ipynb", "timestamp.txt"}


def plant_links(folder: Path) -> None:
    """Beside one student's notebooks: links that nbgrader by itself would follow and copy."""
    (folder / "secret").write_text("canary")
    place = folder / "submitted" / "Ада" / UNIT
    (place / "timestamp.txt").write_text("2026-01-01 12:00:00 UTC")
    for name in ("data.csv", ".hidden"):
        (place / name).symlink_to(folder / "secret")
    (place / "folder").symlink_to(folder / "submitted")


def test_formgraders_button_grades_one_student_again(graded, tmp_path):
    """What the button calls, with nbgrader's configuration as it is."""
    shutil.copytree(graded.folder, tmp_path / "class")
    config = PyFileConfigLoader("nbgrader_config.py", path=str(ROOT)).load_config()
    config.CourseDirectory.root = str(tmp_path / "class")
    config.CourseDirectory.source_directory = str(ROOT / "source")
    config.CourseDirectory.db_url = f"sqlite:///{tmp_path / 'class' / 'gradebook.db'}"
    button = NbGraderAPI(CourseDirectory(config=config), config=config)
    with sqlite3.connect(tmp_path / "class" / "gradebook.db") as db:
        db.execute("update grade set auto_score = 0.25")
    done = button.autograde(UNIT, "damaged")
    assert done["success"], done
    ours = NbgraderClass(graded.folder / "submitted").marks(UNIT)
    theirs = NbgraderClass(tmp_path / "class" / "submitted").marks(UNIT)
    assert theirs["damaged"] == ours["damaged"]
    assert set(theirs["Ада"].values()) == {0.25}


def test_nbgrader_exports_the_marks(graded, tmp_path):
    target = tmp_path / "marks.csv"
    done = nbgrader(graded.folder, "export", f"--to={target}")
    assert done.returncode == 0, done.stderr
    with target.open(newline="") as file:
        rows = {row["student_id"]: row for row in csv.DictReader(file)}
    for student in graded.students:
        wanted = sum(mark.marks for mark in student.marks)
        assert float(rows[student.student]["score"]) == wanted
    assert float(rows["Ада"]["max_score"]) == sum(e.points for e in load(UNIT).values())


@pytest.mark.parametrize("path", sorted((RELEASE / UNIT).glob("*.ipynb")), ids=lambda p: p.stem)
def test_nbgrader_validate_opens_the_release_without_a_warning(path, tmp_path):
    copy = shutil.copy(path, tmp_path)
    program = [sys.executable, "-m", "nbgrader", "validate", str(copy)]
    env = {**os.environ, "COURSE_PROFILE": "grade", "OMP_NUM_THREADS": "1"}
    done = subprocess.run(program, cwd=ROOT, env=env, capture_output=True, text=True, check=False)
    assert "NotImplementedError" in done.stdout and "CELL(S)" in done.stdout
    assert "ValidateApp | WARNING" not in done.stderr and "Traceback" not in done.stderr, (
        done.stderr
    )


def test_feedback_says_why_and_shows_no_hidden_check(graded):
    pages = write_class(UNIT, graded.folder / "submitted")
    assert len(pages) == 6
    page = (graded.folder / "feedback" / "o'neil jr" / UNIT / "training.html").read_text()
    hint = next(m.hint for m in load(UNIT)["schedules"].mistakes if m.name == "cosine rises again")
    assert "cosine rises again" in page and hint in page
    for secret in ("autograder.exercises", "check_here", "BEGIN HIDDEN", "student.run"):
        assert not [p for p in pages if secret in p.read_text()], secret
    damaged = (graded.folder / "feedback" / "damaged" / UNIT / "autodiff.html").read_text()
    assert "damaged or no notebook" in damaged


def test_formgrader_opens_the_class(graded, tmp_path):
    """A real Jupyter server with nbgrader's extension, on loopback."""
    config = {
        "ServerApp": {
            "token": "t",
            "password": "",
            "port": 0,
            "allow_root": True,
            "ip": "127.0.0.1",
        },
        "CourseDirectory": {
            "root": str(graded.folder),
            "db_url": f"sqlite:///{graded.folder / 'gradebook.db'}",
            "source_directory": str(ROOT / "source"),
        },
    }
    (tmp_path / "jupyter_server_config.json").write_text(json.dumps(config))
    (tmp_path / "nbgrader_config.json").write_text(json.dumps(config))
    log = (tmp_path / "log").open("w")
    env = {
        **os.environ,
        "JUPYTER_CONFIG_DIR": str(tmp_path),
        "JUPYTER_RUNTIME_DIR": str(tmp_path / "runtime"),
        "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
    }
    extension = ["--ServerApp.jpserver_extensions", "nbgrader.server_extensions.formgrader=True"]
    program = [sys.executable, "-m", "jupyter_server", "--no-browser", *extension]
    server = subprocess.Popen(program, cwd=graded.folder, env=env, stdout=log, stderr=log)
    try:
        base = wait_for_server(tmp_path / "runtime", server)
        assignments = get(f"{base}/formgrader/api/assignments?token=t")
        (assignment,) = [found for found in assignments if found["name"] == UNIT]
        assert assignment["num_submissions"] == 3
        assert assignment["max_score"] == sum(e.points for e in load(UNIT).values())
        found = get(f"{base}/formgrader/api/submissions/{UNIT}?token=t")
        assert {s["id"] for s in found} and len(found) == 3
        assert not any(s["needs_manual_grade"] for s in found)
        page = urllib.request.urlopen(f"{base}/formgrader/gradebook/{UNIT}?token=t", timeout=30)
        assert page.status == 200
    finally:
        server.terminate()
        server.wait(30)
        log.close()
    assert "Traceback" not in (tmp_path / "log").read_text()


def wait_for_server(runtime: Path, server: subprocess.Popen) -> str:
    deadline = time.monotonic() + 90
    while time.monotonic() < deadline and server.poll() is None:
        for path in runtime.glob("jpserver-*.json"):
            return json.loads(path.read_text())["url"].rstrip("/")
        time.sleep(0.2)
    raise TimeoutError("the Jupyter server did not start")


def get(url: str):
    with urllib.request.urlopen(url, timeout=60) as answer:
        return json.loads(answer.read())
