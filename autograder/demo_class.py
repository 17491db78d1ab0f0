"""The sixteen students of the demo's class."""

from autograder import demo
from autograder.demo import Submission, mistaken

BAD_CELLS = {
    "a syntax error": "def numerical_gradient(f, x, h)\n    return x\n",
    "an endless loop": "def numerical_gradient(f, x, h):\n    while True:\n        h = h / 2\n",
    "the end of the process": "import os\ndef numerical_gradient(f, x, h):\n    os._exit(1)\n",
}


def submissions() -> list[Submission]:
    """Who handed in what, and what that has earned."""
    return [
        Submission("01-reference"),
        Submission("02-first-alternatives", demo.alternatives(0)),
        Submission("03-second-alternatives", demo.alternatives(1)),
        *_with_known_mistakes(),
        Submission(
            "08-untouched",
            demo.stubs(demo.exercises()),
            lost=dict.fromkeys(demo.exercises(), "all"),
        ),
        Submission(
            "09-half-done",
            demo.stubs(demo.of_notebook("training")),
            lost=dict.fromkeys(demo.of_notebook("training"), "all"),
        ),
        _bad("10-syntax-error", "a syntax error"),
        _bad("11-endless-loop", "an endless loop"),
        _bad("12-kills-its-process", "the end of the process"),
        Submission("13-prints-2000-times", _loud()),
        Submission("14-from-colab", damage=demo.strip_as_colab),
        Submission("15-cell-copied", damage=demo.copy_cell_as_vscode("linear")),
        Submission("16-test-deleted", damage=demo.delete_test("sgd")),
    ]


def _bad(name: str, what: str) -> Submission:
    """One broken exercise, which costs nothing but itself."""
    answers = {"numerical_gradient": BAD_CELLS[what]}
    return Submission(name, answers, lost={"numerical_gradient": "all"})


def _loud() -> dict[str, str]:
    """A right answer that shows one line two thousand times whenever it is called."""
    source = demo.exercises()["count_parameters"].reference
    loud = 'for _ in range(2000):\n        print("so many parameters")\n    return'
    return {"count_parameters": source.replace("return", loud, 1)}


def _with_known_mistakes() -> list[Submission]:
    return [
        Submission(
            "04-mistakes-a",
            mistaken(
                softmax_cross_entropy="maximum not subtracted",
                numerical_gradient="one-sided, forwards",
                standardize="unbiased deviation",
            ),
            lost={
                "softmax_cross_entropy": ("large logits, rows that differ by thousands",),
                "numerical_gradient": (
                    "central differences with the given step",
                    "tensors of any shape and layout",
                ),
                "standardize": (
                    "the training split gets mean 0 and deviation 1",
                    "the other split is transformed with the statistics of training",
                    "constant features are divided by 1",
                ),
            },
            mistakes={
                "softmax_cross_entropy": "maximum not subtracted",
                "numerical_gradient": "one-sided, forwards",
                "standardize": "unbiased deviation",
            },
        ),
        Submission(
            "05-mistakes-b",
            mistaken(
                value_operations="each factor gets itself",
                schedules="cosine rises again",
                initialization="Xavier ignores the gain",
            ),
            lost={
                "value_operations": ("the product and its local gradients",),
                "schedules": ("cosine stays at the final rate",),
                "initialization": ("Xavier: the gain",),
            },
            mistakes={
                "value_operations": "each factor gets itself",
                "schedules": "cosine rises again",
                "initialization": "Xavier ignores the gain",
            },
        ),
        Submission(
            "06-mistakes-c",
            mistaken(
                activations="heaviside is 0 at 0",
                adaptive="Adagrad without the root",
            ),
            lost={
                "activations": ("heaviside, with H(0) = 1",),
                "adaptive": (
                    "Adagrad over four steps with changing rates",
                    "eps outside the root",
                ),
            },
            mistakes={
                "activations": "heaviside is 0 at 0",
                "adaptive": "Adagrad without the root",
            },
        ),
        Submission(
            "07-mistakes-d",
            mistaken(
                backward="overwrites",
                adam="no bias correction",
            ),
            lost={
                "backward": (
                    "shared nodes collect from all that use them",
                    "old gradients do not enter, other nodes are left alone",
                    "5,000 nodes deep",
                ),
                "adam": (
                    "Adam: the first step is the rate times the sign",
                    "Adam over four steps with changing rates",
                    "Adam: eps outside the root",
                    "Adam: L2 penalty in the gradient",
                    "AdamW over four steps with changing rates",
                ),
            },
            mistakes={"backward": "overwrites", "adam": "no bias correction"},
        ),
    ]
