"""Automatic mutants: each is a different program, and nothing that cannot matter is changed."""

import ast

from autograder.mutants import mutants

SOURCE = '''
def f(x: int, scale: float = 2.0) -> float:
    """Add 1 to x."""
    total = 0.0
    for i in range(3):
        if i < x:
            total += x - i
    return total / scale
'''


def described(source: str) -> list[str]:
    return [mutant.description for mutant in mutants(source)]


def test_each_kind_of_change_is_made():
    found = " | ".join(described(SOURCE))
    for part in (
        "i < x -> i <= x",
        "x - i -> x + i",
        "x - i -> i - x",
        "total += x - i -> total -= x - i",
        "total / scale -> total * scale",
        "total / scale -> scale / total",
        "0.0 -> 1.0",
        "3 -> 4",
        "3 -> 6",
        "2.0 -> 4.0",
        "not (i < x)",
        "without 'total = 0.0'",
        "without 'return total / scale'",
    ):
        assert part in found, part


def test_mutants_compile_and_differ_from_the_source_and_each_other():
    sources = [mutant.source for mutant in mutants(SOURCE)]
    assert len(set(sources)) == len(sources) > 12
    assert ast.unparse(ast.parse(SOURCE)) not in sources
    for source in sources:
        compile(source, "mutant", "exec")


def test_docstrings_annotations_and_messages_are_left_alone():
    source = 'def f(x: int) -> int:\n    """2 + 2"""\n    raise ValueError("1" + "2")\n'
    assert described(source) == ["line 1: without \"raise ValueError('1' + '2')\""]


def test_calls_lose_keywords_and_swap_arguments():
    found = described("def f(a, b):\n    return g(a, b, axis=1).sum(0)\n")
    text = " | ".join(found)
    assert "g(b, a, axis=1)" in text and "g(a, b).sum(0)" in text.replace(
        "-> g(a, b)", "-> g(a, b).sum(0)"
    )
    assert "g(a, b, axis=1).mean(0)" in text
