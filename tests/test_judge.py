"""The judge against a student's process: right, wrong, forbidden, endless and dying programs."""

import time
import types

import pytest
import torch
from torch import nn

from autograder import contract
from autograder.contract import Exercise, expect, probes, require
from autograder.diagnosis import Diagnostician
from autograder.grading.candidate import judge_source
from autograder.grading.forkserver import ChildGone, ForkServer, Raised, TimedOut
from autograder.grading.judge import used_names
from course.compare import difference

REFERENCE = '''"""A toy."""

import torch
from torch import Tensor

# --- exercise: half
def half(x: Tensor) -> Tensor:
    return torch.relu(x) / 2
# --- end
'''


@pytest.fixture(scope="module")
def server():
    with ForkServer() as server:
        yield server


@pytest.fixture
def half(tmp_path, monkeypatch):
    (tmp_path / "toy.py").write_text(REFERENCE)
    monkeypatch.setattr(contract, "REFERENCES", tmp_path)
    contract._sections.cache_clear()
    exercise = Exercise("half", unit="00_toy", notebook="toy", forbids=["clamp_min", "aten::abs"])

    @exercise.check("values", points=2)
    def _(student):
        x = torch.randn(3, 4)
        expect(student.half(x), x.clamp(min=0) / 2)

    @exercise.check("dtype and shape")
    def _(student):
        expect(
            student.half(torch.ones(2, dtype=torch.float64)), torch.ones(2).double() / 2, dtype=True
        )
        require(student.raises("half", "word") is not None, "a word is refused")

    exercise.mistake("keeps the sign", "Negative values give 0.", edit=("torch.relu(x)", "x"))
    exercise.mistake("does not halve", "Halve.", edit=("/ 2", ""))

    @exercise.mistake("halves twice", "Halve once.")
    def _(x):
        return torch.relu(x) / 4

    exercise.alternative("where", edit=("torch.relu(x)", "torch.where(x > 0, x, 0)"))
    yield exercise
    contract._sections.cache_clear()


def test_reference_and_alternatives_earn_all(half, server):
    for source in (half.reference, *(variant.source for variant in half.alternatives)):
        verdict = judge_source(half, source, server)
        assert verdict.marks == verdict.points == 3, verdict


def test_each_mistake_loses_marks_and_is_named(half, server):
    diagnose = Diagnostician(server)
    assert len(half.mistakes) == 3
    for mistake in half.mistakes:
        verdict = judge_source(half, mistake.source, server)
        assert verdict.marks < verdict.points
        assert diagnose(half, verdict) == {"mistake": mistake.name, "hint": mistake.hint}


def test_a_mistake_that_gives_no_plain_data_can_be_named(half, server):
    half.mistake("gives a set", "Return a tensor.", edit=("torch.relu(x) / 2", "{1}"))
    diagnose = Diagnostician(server)
    verdict = judge_source(half, half.mistakes[-1].source, server)
    assert (diagnose(half, verdict) or {})["mistake"] == "gives a set"
    verdict = judge_source(half, "def half(x): return [{1}, 2]", server)
    assert diagnose(half, verdict) is None


def test_an_unknown_mistake_is_not_given_a_name(half, server):
    verdict = judge_source(half, "import torch\ndef half(x): return torch.relu(x) / 7\n", server)
    assert verdict.marks == 0 and Diagnostician(server)(half, verdict) is None


@pytest.mark.parametrize(
    ("source", "marks", "word"),
    [
        ("def half(x): raise NotImplementedError", 0, "NotImplementedError"),
        ("def half(x): return None", 0, "None"),
        ("def half(x): return object()", 0, "object"),
        ("def half(x): return x.tolist()[0][:1]", 0, "shape"),
        ("def nothing(): pass", 0, "half is not defined"),
        ("def half(x) return x", 0, "SyntaxError"),
        ("import os\ndef half(x): os._exit(0)", 0, "ended"),
        ("import sys\ndef half(x): sys.exit()", 0, "SystemExit"),
        ("def half(x): return half(x)", 0, "RecursionError"),
        ("import torch\ndef half(x): return torch.abs(torch.relu(x)) / 2", 0, "aten::abs"),
        ("import torch\ndef half(x): return x.clamp_min(0) / 2", 0, "clamp_min"),
        (
            "import torch\ndef half(x): return getattr(torch, 'ab' + 's')(torch.relu(x)) / 2",
            0,
            "abs",
        ),
        ("import torch\ndef half(x): return torch.relu(x).float() / 2", 2, "dtype"),
    ],
)
def test_wrong_programs_lose_marks_with_a_reason(half, server, source, marks, word):
    verdict = judge_source(half, source, server)
    assert verdict.marks == marks
    assert word in " ".join(check.message for check in verdict.checks)


@pytest.mark.parametrize(
    "body", ["while True: pass", "while True:\n    try:\n      while True: pass\n    except: pass"]
)
def test_endless_programs_are_stopped_once(half, server, body):
    verdict = judge_source(half, f"def half(x):\n  {body}\n", server, limit=0.5)
    assert verdict.marks == 0 and verdict.note is not None
    assert "time" in verdict.checks[0].message and "not run" in verdict.checks[1].message


def test_children_share_nothing(server):
    with server.child() as first, server.child() as second:
        first.run_module("import torch\ntorch.mark = 1\n", "m", 5)
        with pytest.raises(Raised, match="mark"):
            second.run_module("import torch\ntorch.mark\n", "m", 5)


def test_the_autograder_is_not_importable_beside_the_student(server):
    with server.child() as child:
        for name in ("autograder", "autograder.reference.autodiff", "source"):
            with pytest.raises(Raised, match="ModuleNotFoundError"):
                child.run_module(f"import {name}\n", "m", 5)
        child.run_module("import course\n", "m", 10)


def test_a_child_that_answers_with_garbage_is_gone(server):
    forge = """
import os
for fd in range(3, 200):
    try:
        os.write(fd, b"x" * 64)
    except OSError:
        pass
"""
    with server.child() as child, pytest.raises(ChildGone):
        child.run_module(forge, "m", 5)


def test_a_child_that_fails_in_our_own_code_leaves_the_server_alone(server):
    broken = "import inside.wire\ninside.wire.write_frame = None\n"
    with server.child() as other, server.child() as child:
        with pytest.raises(ChildGone):
            child.run_module(broken, "m", 5)
        other.run_module("x = 1\n", "m", 5)
    with server.child() as child:
        child.run_module("x = 1\n", "m", 5)


def test_a_child_that_reads_nothing_more_is_gone(server):
    with server.child() as child:
        child.run_module(
            "import signal\nsignal.signal(signal.SIGALRM, lambda *a: time.sleep(60))\n"
            "import time\nsignal.setitimer(signal.ITIMER_REAL, 0.2)\n",
            "m",
            5,
        )
        time.sleep(0.5)
        big = torch.zeros(2**20)
        start = time.monotonic()
        with pytest.raises(ChildGone):
            child.probe(print, (big,), {}, 1.0, [])
        assert time.monotonic() - start < 5


def test_an_interrupted_cell_keeps_its_outputs_and_its_process(server):
    with server.child() as child:
        with pytest.raises(TimedOut) as stopped:
            child.run_cell("print('before')\nwhile True: pass", 0.5)
        assert stopped.value.reply is not None
        assert stopped.value.reply["outputs"][0]["text"] == "before\n"
        outputs, failed = child.run_cell("print('after')", 5)
        assert not failed and outputs[0]["text"] == "after\n"


OWN = """
class Layer:
    def __init__(self, weight):
        self.weight = weight

    def backward(self, grad):
        return grad @ self.weight

    def step(self, grad):
        return self.backward(grad)

layer = Layer(weight)
"""


@pytest.mark.parametrize(
    "source",
    [
        OWN,
        OWN + "def f(grad):\n    return layer.backward(grad)",
        OWN + "def f(grad):\n    mine: Layer = Layer(grad)\n    return mine.backward(grad)",
        OWN + "class Net(Layer):\n    def backward(me, g):\n        return me.backward(g)",
        OWN + "def f(grad):\n    mine, losses = Layer(grad), []\n    return mine.backward(grad)",
        OWN + "Layer(weight).backward(grad)",
        "class Rule:\n    @staticmethod\n    def backward(x):\n        return 2 * x\n"
        "    @classmethod\n    def f(cls, x):\n        return cls.backward(x)\nRule.backward(3)",
    ],
)
def test_methods_of_ones_own_may_have_a_forbidden_name(source):
    assert used_names(source, ["backward"]) == []


@pytest.mark.parametrize(
    "source",
    [
        OWN + "loss.backward()",
        OWN + "layer = loss\nlayer.backward()",
        OWN + "Layer.backward(loss)",
        OWN + "def f(layer):\n    layer.backward()",
        OWN + "for layer in losses:\n    layer.backward()",
        OWN + "Layer = torch.sum\nlayer.backward()",
        OWN.replace("layer = Layer", "layer = torch.sum") + "layer.backward()",
        OWN.replace("    def backward", "    @staticmethod\n    def backward").replace(
            "(self, grad):\n        return grad @ self.weight", "(x):\n        x.backward()"
        ),
        OWN.replace("    def step", "    @torch.compile\n    def step"),
        OWN.replace("    def step", "    @classmethod\n    def step"),
        OWN + "layer, other = loss, Layer(weight)\nlayer.backward()",
        OWN + "Layer = torch.sum\nLayer(weight).backward()",
        OWN.replace("return grad @", "grad.backward()\n        return grad @"),
        OWN.replace("return self.backward", "self = grad\n        return self.backward"),
        OWN.replace("def backward", "def forward"),
        OWN + "class Leaf(torch.Tensor):\n    def f(self):\n        self.backward()",
        OWN + "class Leaf(Tensor):\n    def backward(self):\n        super().backward()",
        OWN + "with torch.enable_grad() as layer:\n    layer.backward()",
        OWN + "try:\n    pass\nexcept E as layer:\n    layer.backward()",
        OWN + "from x import loss as layer\nlayer.backward()",
        OWN + "match loss:\n    case layer:\n        layer.backward()",
    ],
)
def test_a_class_of_ones_own_hides_no_forbidden_name(source):
    assert used_names(source, ["backward"]) == ["backward"]


def test_forbidden_names_are_found_in_the_syntax_tree():
    forbids = ["softmax", "torch.relu", "aten::x"]
    assert used_names("import torch\ntorch.softmax(x, 0)", forbids) == ["softmax"]
    assert used_names("from torch.nn.functional import softmax as s", forbids) == ["softmax"]
    assert used_names("torch.relu(x)", forbids) == ["torch.relu"]
    assert used_names("F.relu(x)\nsoftmax = 3\n# torch.relu\n'softmax'", forbids) == []
    for lookup in (
        "getattr(torch, 'softmax')",
        "getattr(torch.nn.functional, 'so' + 'ft' + 'max')(x)",
        "vars(torch)['softmax']",
        "operator.methodcaller('softmax', 0)(x)",
    ):
        assert used_names(lookup, forbids) == ["softmax"], lookup
    assert used_names("print('softmax')\nx['soft']\ngetattr(x, name)", forbids) == []
    assert used_names("x" + ".T" * 600, forbids) == []
    blind = "from torch.utils._python_dispatch import _disable_current_modes"
    assert used_names(blind, forbids) == ["_disable_current_modes", "_python_dispatch"]
    assert used_names(blind, ["aten::x"]) == ["_disable_current_modes", "_python_dispatch"]
    assert used_names(blind, ["softmax"]) == [] == used_names("def (", ["aten::x"])
    for source in ("def (", "x = " + "(" * 5000, "\0"):
        with pytest.raises(SyntaxError):
            used_names(source, forbids)


def test_a_contract_that_contradicts_itself_is_refused(half):
    with pytest.raises(ValueError, match="two checks"):
        half.check("values")
    half.mistake("no such text", "", edit=("sigmoid", "x"))
    with pytest.raises(ValueError, match="0 times"):
        _ = half.mistakes


class Twice(nn.Module):
    """A layer with two names, and a buffer that the oracle lacks."""

    def __init__(self) -> None:
        super().__init__()
        self.net = nn.Sequential(nn.Linear(2, 3), nn.BatchNorm1d(3))
        self.first, self.second = self.net
        self.register_buffer("more", torch.zeros(1))

    def forward(self, x):
        return self.net(x) + self.more


class Oracle(nn.Module):
    """The same layers under the names that were asked for."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = nn.Linear(2, 3), nn.BatchNorm1d(3)

    def forward(self, x):
        return self.second(self.first(x))


def test_second_names_and_more_buffers_do_no_harm():
    oracle, student, x = Oracle(), types.SimpleNamespace(Net=Twice), torch.randn(4, 2)
    state = {key: value.clone() for key, value in oracle.state_dict().items()}
    got = probes.module(student, "Net", [], {}, [x], state)
    want = probes.forward_backward(oracle, [x])
    assert difference(got, want, rtol=1e-5, atol=1e-6) is None


def test_parameters_that_were_not_asked_for_or_are_missing_are_named():
    student = types.SimpleNamespace(Net=Twice)
    state = Oracle().state_dict()
    bias = state.pop("first.bias")
    with pytest.raises(RuntimeError, match=r"not asked for: \['net.0.bias', 'first.bias'\]"):
        probes.module(student, "Net", [], {}, [torch.randn(4, 2)], state)
    state |= {"first.bias": bias, "third.bias": bias}
    with pytest.raises(RuntimeError, match=r"missing: \['third.bias'\]"):
        probes.module(student, "Net", [], {}, [torch.randn(4, 2)], state)


def test_an_exception_derived_from_a_builtin_one_is_that_one():
    class TooFew(ValueError):
        pass

    def f(error):
        raise error

    student = types.SimpleNamespace(f=f)
    assert probes.raises(student, "f", TooFew()) == "ValueError"
    assert probes.raises(student, "f", KeyError()) == "KeyError"
