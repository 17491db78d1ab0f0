"""The bars that `autograder verify --strict` holds a unit to."""

import pytest

from autograder.verify import Row, shortfalls


def row(mistakes=5, named=5, alternatives=2, killed=49, total=50, reason: str | None = "x"):
    """A row of the matrix, by default just good enough."""
    survivors = [{"mutant": f"m{n}", "reason": reason} for n in range(total - killed)]
    return Row(
        "01_unit/exercise",
        alternatives={f"a{n}": 1.0 for n in range(alternatives)},
        mistakes={f"m{n}": {"fraction": 0.0, "named": n < named} for n in range(mistakes)},
        mutants={"total": total, "killed": killed, "survivors": survivors},
    )


def test_a_good_row_falls_short_of_nothing():
    assert shortfalls([row()]) == []


@pytest.mark.parametrize(
    ("rows", "words"),
    [
        ([row(mistakes=4, named=4)], "fewer than 5 and 2"),
        ([row(alternatives=1)], "fewer than 5 and 2"),
        ([row(reason=None)], "no reason why 'm0'"),
        ([row(killed=48)], "48 of 50 mutants killed"),
        ([row(mistakes=10, named=10), row(mistakes=10, named=8)], "18 of 20 mistakes named"),
    ],
)
def test_what_falls_short_is_said(rows, words):
    (line,) = shortfalls(rows)
    assert words in line
