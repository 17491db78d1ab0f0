"""The command line: help everywhere, and one line with the remedy for a user's mistake."""

import json
import sqlite3
import sys

import pytest
import tiny

from autograder import cli
from autograder.contract import load
from autograder.grading import fanout, wall
from autograder.grading.wall import NoWall

COMMANDS = ["build", "new", "verify", "check", "grade", "feedback", "demo"]


@pytest.fixture
def run(capsys, monkeypatch):
    """Run the command line in this process: exit code, stdout, stderr."""

    monkeypatch.setenv("AUTOGRADER_ISOLATION", tiny.isolation())

    def call(*arguments):
        monkeypatch.setattr(sys, "argv", ["autograder", *map(str, arguments)])
        monkeypatch.setattr(cli, "err", cli.Console(stderr=True, width=200))
        monkeypatch.setattr(cli, "out", cli.Console(width=200))
        try:
            cli.main()
            code = 0
        except SystemExit as stop:
            code = stop.code
        said = capsys.readouterr()
        return code, said.out, said.err

    return call


@pytest.mark.parametrize("command", [[], *([name] for name in COMMANDS)])
def test_every_command_answers_help(run, command):
    code, out, _ = run(*command, "--help")
    assert code == 0 and "Usage" in out


def submission(folder, text="{}"):
    path = folder / "submitted" / "ada" / "01_backprop" / "autodiff.ipynb"
    path.parent.mkdir(parents=True)
    path.write_text(text)
    return folder / "submitted"


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["build", "99_nothing"], "no masters in source/99_nothing (units: "),
        (["new", "01_backprop", "autodiff"], "autodiff"),
        (["new", "no unit", "x"], "unit"),
        (["verify", "99_nothing"], "no exercise or unit '99_nothing'; there are: 0"),
        (["verify", "01_backprop/nothing"], "there are: 01_backprop/value_operations"),
        (["check", "01_backprop", "x.py"], "is no UNIT/EXERCISE"),
        (["check", "01_backprop/linear", "missing.py"], "cannot be read as Python text"),
        (["grade", "99_nothing"], "no exercise or unit"),
        (["grade", "01_backprop", "--submitted", "nowhere"], "no folder nowhere"),
        (
            ["feedback", "01_backprop", "--submitted", "nowhere"],
            "run `autograder grade 01_backprop`",
        ),
    ],
)
def test_a_users_mistake_is_one_line_with_the_remedy(run, arguments, words, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    code, _, err = run(*arguments)
    assert code == 2 and words in err
    assert len(err.strip().splitlines()) == 1 and "Traceback" not in err


def test_an_empty_folder_of_submissions_is_said(run, tmp_path):
    (tmp_path / "submitted").mkdir()
    code, _, err = run("grade", "01_backprop", "--submitted", tmp_path / "submitted")
    assert code == 2 and "expected STUDENT/01_backprop/*.ipynb" in err


@pytest.mark.parametrize("url", ["nonsense", "sqlite:////no/such/folder/gradebook.db"])
def test_a_gradebook_that_cannot_be_opened_is_said(run, tmp_path, url):
    folder = submission(tmp_path)
    code, _, err = run("grade", "01_backprop", "--submitted", folder, "--db", url)
    assert code == 2 and "check --db" in err and "Traceback" not in err


def test_a_locked_gradebook_is_said(run, tmp_path):
    folder = submission(tmp_path)
    with sqlite3.connect(tmp_path / "gradebook.db") as holder:
        holder.execute("create table held (x)")
        holder.execute("begin exclusive")
        code, _, err = run("grade", "01_backprop", "--submitted", folder)
    assert code == 2 and "locked" in err and "try again" in err and "Traceback" not in err


def test_an_unreadable_notebook_is_graded_and_named(run, tmp_path):
    folder = submission(tmp_path, "{'not': json")
    code, out, _ = run("grade", "01_backprop", "--submitted", folder, "--json")
    graded = json.loads(out)
    (ada,) = graded["students"]
    assert code == 0 and all(mark["marks"] == 0 for mark in ada["marks"])
    assert "autodiff.ipynb is damaged or no notebook" in " ".join(ada["notes"])
    assert graded["notes"] == ["ada handed in no training.ipynb"]
    assert (graded["judged"], graded["entered"]) == (1, 1)
    assert "autodiff.ipynb is damaged" in (tmp_path / "grading.log").read_text()


def test_without_a_wall_grading_is_refused_in_one_line(run, tmp_path, monkeypatch):
    def none_here(isolation):
        raise NoWall("no sandbox: install bubblewrap, or ... --isolation none")

    monkeypatch.setattr(wall, "check", none_here)
    monkeypatch.setattr(fanout, "LocalPool", None)  # nothing is started
    folder = submission(tmp_path)
    code, out, err = run("grade", "01_backprop", "--submitted", folder)
    assert code == 2 and out == "" and "install bubblewrap" in err
    assert len(err.strip().splitlines()) == 1
    assert [path.name for path in tmp_path.iterdir()] == ["submitted"]


def test_an_unknown_wall_is_refused(run, tmp_path, monkeypatch):
    code, _, err = run("grade", "01_backprop", "--isolation", "paper")
    assert code == 2 and "bubblewrap" in err and "none" in err
    monkeypatch.setenv("AUTOGRADER_ISOLATION", "paper")
    code, _, err = run("grade", "01_backprop", "--submitted", submission(tmp_path))
    assert code == 2 and "set it to bubblewrap or none" in err and "Traceback" not in err


def test_an_unknown_scheduler_is_said(run, tmp_path):
    folder = submission(tmp_path)
    code, _, err = run(
        "grade", "01_backprop", "--submitted", folder, "--scheduler", "127.0.0.1:8786"
    )
    assert code == 2 and "write tcp://HOST:8786" in err and len(err.strip().splitlines()) == 1


def test_check_marks_one_file(run, tmp_path):
    exercise = load("01_backprop")["linear"]
    file = tmp_path / "linear.py"
    file.write_text(exercise.reference)
    code, out, _ = run("check", exercise.path, file, "--json")
    verdict = json.loads(out)
    assert code == 0 and verdict["exercise"] == "01_backprop/linear"
    assert verdict["marks"] == verdict["points"] == exercise.points
    assert [check["name"] for check in verdict["checks"]] == [c.name for c in exercise.checks]
    assert verdict["diagnosis"] is None

    mistake = exercise.mistakes[0]
    file.write_text(mistake.source)
    code, out, _ = run("check", exercise.path, file, "--json")
    verdict = json.loads(out)
    assert verdict["marks"] < verdict["points"]
    assert verdict["diagnosis"] == {"mistake": mistake.name, "hint": mistake.hint}
    assert any(check["message"] for check in verdict["checks"] if not check["marks"])


def test_check_marks_several_files(run, tmp_path):
    exercise = load("01_backprop")["linear"]
    files = [tmp_path / "right.py", tmp_path / "wrong.py"]
    for file, source in zip(files, [exercise.reference, exercise.mistakes[0].source], strict=True):
        file.write_text(source)
    code, out, _ = run("check", exercise.path, *files)
    assert code == 0 and out.index("right.py") < out.index("wrong.py")
    assert f"linear: {exercise.points:g} of {exercise.points:g} marks" in out
    assert exercise.mistakes[0].name in out[out.index("wrong.py") :]
    code, out, _ = run("check", exercise.path, *files, "--json")
    right, wrong = json.loads(out)
    assert [right["file"], wrong["file"]] == [str(file) for file in files]
    assert right["marks"] == exercise.points > wrong["marks"]


def test_check_says_in_words_what_was_lost(run, tmp_path):
    file = tmp_path / "wrong.py"
    file.write_text("def linear_forward(x, weight, bias)\n    return x\n")
    code, out, _ = run("check", "01_backprop/linear", file)
    assert code == 0 and "0 of" in out and "SyntaxError" in out


def test_verify_one_exercise_as_json(run):
    code, out, _ = run("verify", "01_backprop/count_parameters", "--json")
    (row,) = json.loads(out)
    assert code == 0 and row["exercise"] == "01_backprop/count_parameters"
    assert row["reference"] == 1 and row["stub"] == 0
    assert len(row["alternatives"]) >= 2 and set(row["alternatives"].values()) == {1}
    assert len(row["mistakes"]) >= 5
    assert all(found["fraction"] < 1 and found["named"] for found in row["mistakes"].values())
    assert (
        row["mutants"]["killed"] + len(row["mutants"]["survivors"]) == row["mutants"]["total"] > 3
    )


def test_verify_fails_when_a_mistake_gets_through(run, monkeypatch):
    exercise = load("01_backprop")["count_parameters"]
    monkeypatch.setattr(exercise, "checks", exercise.checks[2:])
    code, out, _ = run("verify", "01_backprop/count_parameters")
    assert code == 1 and "is not caught" in out
