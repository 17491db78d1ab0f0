"""Which file is whose: the notebooks below a folder of submissions, however they are named."""

import os
import re
import unicodedata
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from autograder import contract

# What a browser, Jupyter, a file manager or Colab makes of a name that is taken already.
_COPY = re.compile(
    r"^(?:copy of )?(?P<stem>.+?)"
    r"(?:\s*\((?P<number>\d+)\)|[-_ ]copy[-_ ]?(?P<copy>\d*)(?:\s*\(\d+\))?)?$"
)


@dataclass(frozen=True)
class Submission:
    """What one student handed in: the file of each notebook."""

    student: str
    files: dict[str, Path]


@dataclass
class Submissions:
    """What was found below a folder of submissions, in alphabetical order of the students."""

    of: list[Submission] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    @property
    def total(self) -> int:
        """How many notebooks there are."""
        return sum(len(submission.files) for submission in self.of)


def find_submissions(unit: str, submitted: Path, student: str | None = None) -> Submissions:
    """All notebooks of the unit below `submitted/STUDENT/UNIT/`; nothing is opened.

    Raises:
        FileNotFoundError: the folder is missing, or nobody in it handed in this unit.
    """
    if not submitted.is_dir():
        raise FileNotFoundError(
            f"no folder {submitted}: name the one with STUDENT/{unit}/ in it (--submitted)"
        )
    names = [path.stem for path in sorted((contract.RELEASE / unit).glob("*.ipynb"))]
    found = Submissions()
    for name in sorted(os.listdir(submitted)):
        if not name.startswith(".") and (student is None or _nfc(name) == _nfc(student)):
            _add(found, submitted / name, unit, names)
    if student is None:
        found.notes += _twins(submission.student for submission in found.of)
    elif any(submission.student == student for submission in found.of):
        found.of = [submission for submission in found.of if submission.student == student]
    if not found.of:
        who = f"of {printable(student)} " if student else ""
        said = f" ({'; '.join(found.notes[:3])})" if found.notes else ""
        raise FileNotFoundError(
            f"no submission {who}to {unit} in {submitted}: expected STUDENT/{unit}/*.ipynb{said}"
        )
    return found


def printable(text: str) -> str:
    """The text as a terminal may show it: control and direction characters are escaped."""
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)


def _add(found: Submissions, folder: Path, unit: str, names: list[str]) -> None:
    student = folder.name
    try:
        student.encode()
        if not folder.is_dir():
            if folder.suffix.lower() == ".ipynb":
                found.notes.append(
                    f"{printable(student)} lies outside STUDENT/{unit}/ and is left out"
                )
            return
        inside = (folder / unit).is_dir()
        files = sorted(os.listdir(folder / unit if inside else folder))
    except UnicodeEncodeError:
        raw = os.fsencode(student).decode("ascii", "backslashreplace")
        found.notes.append(f"the folder {raw} has a name that is not UTF-8: rename it; left out")
        return
    except OSError as error:
        found.notes.append(f"{printable(student)} cannot be opened ({error.strerror}); left out")
        return
    files = [name for name in files if not name.startswith(".")]
    if not inside:
        found.notes += [
            f"{printable(student)}: {printable(name)} lies outside {unit}/ and is left out"
            for name in files
            if name.lower().endswith(".ipynb")
        ]
        return
    chosen, notes = choose(files, names, unit)
    found.notes += [f"{printable(student)}{note}" for note in notes]
    if chosen:
        paths = {notebook: folder / unit / file for notebook, file in chosen.items()}
        found.of.append(Submission(student, paths))


def choose(files: list[str], names: list[str], unit: str) -> tuple[dict[str, str], list[str]]:
    """Which file answers which notebook, and what to say of all the others.

    The file with the notebook's own name is taken; where there is none, one that differs only in
    case or Unicode's form, or else the copy with the highest number.

    Returns:
        notebook -> file, and notes that follow a student's name.
    """
    chosen: dict[str, str] = {}
    notes: list[str] = []
    ranked: dict[str, list[tuple[tuple[int, int], str]]] = {name: [] for name in names}
    for file in files:
        stem, dot, suffix = file.rpartition(".")
        if not dot or suffix.lower() != "ipynb":
            continue
        taken = [(rank, name) for name in names if (rank := _rank(stem, name)) is not None]
        if taken:
            rank, name = max(taken)
            ranked[name].append((rank, file))
        else:
            notes.append(f": {printable(file)} is no notebook of {unit} and is left out")
    for name, candidates in ranked.items():
        own = f"{name}.ipynb"
        if not candidates:
            notes.append(f" handed in no {own}{_instead(files, name)}")
            continue
        *others, chosen[name] = [file for _, file in sorted(candidates)]
        if chosen[name] != own:
            notes.append(f": {printable(chosen[name])} is taken for {own}")
        notes += [
            f": {printable(file)} is left out, {printable(chosen[name])} is graded"
            for file in others
        ]
    return chosen, notes


def _rank(stem: str, name: str) -> tuple[int, int] | None:
    """How well a file's stem fits a notebook's name; None if it is another's."""
    if stem == name:
        return 2, 0
    plain, wanted = _nfc(stem).casefold(), _nfc(name).casefold()
    if plain == wanted:
        return 1, 0
    match = _COPY.match(plain)
    if match and match["stem"] == wanted:
        return 0, int(match["number"] or match["copy"] or 0)
    return None


def _instead(files: list[str], name: str) -> str:
    """A file of another kind that may be meant: a PDF, a zip archive."""
    meant = [f for f in files if f.startswith(f"{name}.")]
    return f" (but {', '.join(map(printable, meant[:3]))})" if meant else ""


def _twins(students: Iterable[str]) -> Iterator[str]:
    """Students whose folders' names look the same."""
    alike: dict[str, list[str]] = {}
    for student in students:
        alike.setdefault(_nfc(student).casefold(), []).append(student)
    for names in alike.values():
        if len(names) > 1:
            what = "case" if len(set(map(_nfc, names))) > 1 else "Unicode's form"
            shown = " and ".join(map(printable, names))
            yield f"{shown} differ only in {what}: graded as {len(names)} students"


def _nfc(text: str) -> str:
    return unicodedata.normalize("NFC", text)
