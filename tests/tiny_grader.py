"""The command line with one tiny unit instead of the course's: `tests/tiny_grader.py grade ...`.

The unit lies in the folder that TINY_HOME names (`tiny.make` writes it). It is put in place when
this file is imported, so it holds in worker processes (which import the program that started them)
and in a dask worker (`--preload`).
"""

import os
from pathlib import Path

import tiny

from autograder import contract

HOME = Path(os.environ["TINY_HOME"])

contract.RELEASE = HOME / "release"
contract.REFERENCES = HOME / "reference"
_units = tiny.exercises(HOME)
contract._exercises = _units.get  # type: ignore[assignment]

if __name__ == "__main__":
    from autograder import cli

    cli.main()
