"""Hidden checks, known mistakes and alternatives of `02_cnns/architectures`."""

import copy
import math
from collections import OrderedDict
from collections.abc import Sequence
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torchvision.models import densenet, efficientnet, resnet
from torchvision.models._utils import _make_divisible
from torchvision.models.googlenet import Inception as TorchvisionInception
from torchvision.ops import SqueezeExcitation

from autograder.contract import Exercise, expect, probes, require

if TYPE_CHECKING:  # replacements run in the namespace of the reference
    from autograder.reference.architectures import (
        ConvReLU,
        DenseLayer,
        SqueezeExcite,
        make_shortcut,
    )


# ----------------------------------------------------------------------------------------------
# what several exercises share


def named(**layers: nn.Module) -> nn.Sequential:
    """Layers one after the other, with names of their own: an oracle."""
    return nn.Sequential(OrderedDict(layers))


def shaken(module: nn.Module) -> nn.Module:
    """The module with random scales, shifts and running statistics in its normalisations."""
    for layer in module.modules():
        if isinstance(layer, nn.BatchNorm2d):
            nn.init.uniform_(layer.weight, 0.5, 1.5)
            nn.init.normal_(layer.bias, 0, 0.5)
            layer.running_mean = 0.3 * torch.randn(layer.num_features)
            layer.running_var = 0.05 + torch.rand(layer.num_features)
    return module


def compare(
    student: Any,
    name: str,
    args: Sequence[Any],
    oracle: nn.Module,
    x: Tensor,
    *,
    training: bool = True,
    other: Sequence[Any] | None = None,
    dtype: bool = False,
    **kwargs: Any,
) -> None:
    """Load the oracle's state into the student's module; compare outputs, gradients, buffers.

    The module has been called before with a batch of another size, and another module has been made
    after it, with the arguments `other` or its own.
    """
    state = {key: value.clone() for key, value in oracle.state_dict().items()}
    before = torch.randn(len(x) - 1 or 2, *x.shape[1:]).to(x.dtype)
    last = args if other is None else other
    got = student.run(second_call, name, args, last, kwargs, [before, x], state, training)
    with torch.no_grad():
        first = copy.deepcopy(oracle).train(training)(before)
    oracle.zero_grad()  # an oracle may be compared twice
    want = probes.forward_backward(oracle, [x], training)
    want["output of the call before"] = first
    mode = "training" if training else "evaluation"
    what = f"{name}{tuple(args)}, input {tuple(x.shape)}, {mode} mode"
    # Sums over a batch may be taken in any order: gradients through a normalisation cancel.
    expect(got, want, what, rtol=1e-3, atol=1e-4, dtype=dtype)


def second_call(
    student: Any,
    name: str,
    args: Sequence[Any],
    other: Sequence[Any],
    kwargs: dict[str, Any],
    inputs: Sequence[Tensor],
    state: dict[str, Tensor],
    training: bool,
) -> dict[str, Any]:
    """A probe: what `probes.module` gives for the second of two inputs, and the first's output.

    That output is what has become of it after the second call. A module that is made last has
    weights of zero.
    """
    make = getattr(student, name)
    made, last = make(*args, **kwargs), make(*other, **kwargs)
    probes.load(made, state)
    with torch.no_grad():
        for parameter in last.parameters():
            parameter.zero_()
        first = made.train(training)(inputs[0])
    again = SimpleNamespace(made=lambda: made)
    found = probes.module(again, "made", [], {}, inputs[1:], state, training)
    return found | {"output of the call before": first}


def parameter_shapes(
    student: Any, name: str, args: Sequence[Any], kwargs: dict[str, Any], wanted: Sequence[str]
) -> dict[str, list[int]]:
    """A probe: names and shapes in the state_dict.

    Of a parameter with several names those that are wanted count; buffers count if they are wanted.
    """
    made = getattr(student, name)(*args, **kwargs)
    names: dict[int, list[str]] = {}
    for key, parameter in made.named_parameters(remove_duplicate=False):
        names.setdefault(id(parameter), []).append(key)
    kept = [key for keys in names.values() for key in sorted(set(keys) & set(wanted)) or keys[:1]]
    state = made.state_dict()
    kept += [key for key in state if key in wanted and key not in kept]
    return {key: list(state[key].shape) for key in state if key in kept}


def shape_on_meta(student: Any, name: str, args: Sequence[Any], shape: Sequence[int]) -> list[int]:
    """A probe: the output's shape where no tensor has data."""
    with torch.device("meta"):
        made = getattr(student, name)(*args)
    return list(made(torch.empty(*shape, device="meta")).shape)


def input_after(student: Any, name: str, args: Sequence[Any], x: Tensor) -> Tensor:
    """A probe: the input after a forward pass."""
    with torch.no_grad():
        getattr(student, name)(*args)(x)
    return x


def conv_settings(student: Any, name: str, args: Sequence[Any]) -> list[list[Any]]:
    """A probe: kernel, stride and padding of the convolutions, for the diagnosis alone."""
    found = []
    for layer in getattr(student, name)(*args).modules():
        if isinstance(layer, torch.nn.Conv2d | torch.nn.MaxPool2d):
            found.append([str(layer.kernel_size), str(layer.stride), str(layer.padding)])
    return found


def note_settings(student: Any, name: str, args: Sequence[Any]) -> None:
    """Let the settings take part in the diagnosis; they decide nothing."""
    require(True, "settings", got=student.run(conv_settings, name, args))


def expect_shapes(
    student: Any, name: str, args: Sequence[Any], oracle: nn.Module, **kwargs: Any
) -> None:
    """Names and shapes of parameters and buffers; the convolutions' settings help the diagnosis."""
    want = {key: list(value.shape) for key, value in oracle.state_dict().items()}
    got = student.run(parameter_shapes, name, args, kwargs, list(want))
    missing, unknown = sorted(want.keys() - got.keys()), sorted(got.keys() - want.keys())
    message = f"{name}{tuple(args)} lacks {missing} and has {unknown} in its state_dict"
    require(not missing and not unknown, message, got=got)
    expect(got, want, f"shapes of the parameters of {name}{tuple(args)}")


class Unit(nn.Module):
    """A unit that is none of the notebook's: convolution with bias, normalisation, ReLU."""

    def __init__(self, in_channels: int, out_channels: int, **options: Any) -> None:
        super().__init__()
        self.conv = nn.Conv2d(in_channels, out_channels, **options)
        self.bn = nn.BatchNorm2d(out_channels)

    def forward(self, x: Tensor) -> Tensor:
        return torch.relu(self.bn(self.conv(x)))


# ----------------------------------------------------------------------------------------------
# census

ex = census = Exercise("census")


class Gate(nn.Module):
    """A parameter of its own beside a layer; it cannot be called."""

    def __init__(self, layer: nn.Module, size: int) -> None:
        super().__init__()
        self.gate = nn.Parameter(torch.zeros(size))
        self.layer = layer
        self.register_buffer("seen", torch.zeros(50))
        self.register_buffer("mean", torch.zeros(5, 8))


class Filters(nn.Conv2d):
    """A subclass."""


def census_twice(student: Any, net: nn.Module) -> list[Any]:
    """A probe: two censuses of one network, and what has become of the network."""
    for parameter in net.parameters():
        parameter.grad = torch.full_like(parameter, 2.0)
    found = [dict(student.census(net)) for _ in range(2)]
    modes = [layer.training for layer in net.modules()]
    trained = [parameter.requires_grad for parameter in net.parameters()]
    values = [[parameter, parameter.grad] for parameter in net.parameters()]
    return [*found, modes, trained, values]


@ex.check("a flat network", points=1)
def _(student):
    net = nn.Sequential(
        nn.Conv2d(3, 5, (2, 4)),
        nn.BatchNorm2d(5),
        nn.Conv2d(5, 4, 1, bias=False),
        nn.Linear(7, 11),
        nn.GroupNorm(2, 4),
        nn.Linear(11, 2, bias=False),
        nn.PReLU(),
    )
    want = {"conv": 125 + 20, "linear": 88 + 22, "other": 10 + 8 + 1}
    expect(student.census(net), {**want, "total": 274}, "census")
    none = {"conv": 0, "linear": 0, "other": 0, "total": 0}
    expect(student.census(nn.ReLU()), none, "census of a ReLU")
    expect(student.census(nn.Linear(3, 4)), {**none, "linear": 16, "total": 16}, "of one layer")
    # The output projection of an attention is of a subclass of nn.Linear.
    derived = nn.Sequential(Filters(2, 3, 3), nn.MultiheadAttention(4, 2))
    want = {"conv": 57, "linear": 20, "other": 60, "total": 137}
    expect(student.census(derived), want, "subclasses of nn.Conv2d and nn.Linear")
    kin = nn.Sequential(nn.Conv1d(2, 3, 4), nn.ConvTranspose2d(2, 3, 4), nn.Conv2d(2, 3, 4))
    want = {"conv": 99, "linear": 0, "other": 126, "total": 225}
    expect(student.census(kin), want, "nn.Conv1d and nn.ConvTranspose2d beside nn.Conv2d")


@ex.check("nested modules, frozen parameters, buffers, nothing is modified", points=1)
def _(student):
    inner = nn.Sequential(nn.Conv2d(2, 3, 3), nn.Sequential(nn.Linear(4, 5), nn.BatchNorm2d(3)))
    net = Gate(nn.ModuleDict({"a": inner, "b": nn.Conv2d(2, 3, 3)}), 9)
    for parameter in inner.parameters():
        parameter.requires_grad = False
    want = {"conv": 114, "linear": 25, "other": 15, "total": 154}
    expect(student.census(net), want, "census")
    with torch.device("meta"):
        large = Gate(nn.Sequential(nn.Linear(30000, 20000), nn.Conv2d(900, 1000, 3)), 3)
    want = {"conv": 8101000, "linear": 600020000, "other": 3, "total": 608121003}
    expect(student.census(large), want, "census on the meta device")
    with torch.device("meta"):
        equal = nn.Sequential(nn.Linear(4, 4), nn.Linear(4, 4), nn.Conv2d(1, 2, 3))
    want = {"conv": 20, "linear": 40, "other": 0, "total": 60}
    expect(student.census(equal), want, "two layers of equal shape on the meta device")
    adapted = nn.Linear(4, 5)
    adapted.add_module("side", nn.Sequential(nn.Linear(4, 2), nn.PReLU(), nn.Conv2d(1, 2, 3)))
    want = {"conv": 20, "linear": 35, "other": 1, "total": 56}
    expect(student.census(adapted), want, "a linear layer with modules inside")
    net = nn.Sequential(nn.Linear(2, 3), nn.BatchNorm2d(3).eval(), nn.Conv2d(1, 2, 1))
    net[2].weight.requires_grad = False
    twice, modes, trained, values = [], [True, True, False, True], [True] * 6, []
    trained[4] = False
    for _ in range(2):
        twice.append({"conv": 4, "linear": 9, "other": 6, "total": 19})
    for parameter in net.parameters():
        values.append([parameter.detach(), torch.full_like(parameter, 2.0)])
    got = student.run(census_twice, net)
    expect(got[:2], twice, "two censuses of one network")
    expect(got[2:4], [modes, trained], "modes and requires_grad after the census")
    expect(got[4], values, "parameters and gradients after the census")


@ex.check("a shared parameter counts once", points=1)
def _(student):
    embedding, head = nn.Embedding(7, 4), nn.Linear(4, 7, bias=False)
    head.weight = embedding.weight
    twins = nn.Sequential(nn.Conv2d(1, 2, 3), nn.Conv2d(1, 2, 3), nn.Linear(6, 3))
    twins[1].weight = twins[0].weight
    want = {"conv": 22, "linear": 21, "other": 0, "total": 43}
    expect(student.census(twins), want, "two convolutions share their weights")
    with torch.device("meta"):
        tied = nn.Sequential(nn.Linear(4, 4), nn.Linear(4, 4))
    tied[1].weight = tied[0].weight
    want = {"conv": 0, "linear": 24, "other": 0, "total": 24}
    expect(student.census(tied), want, "shared weights on the meta device")
    want = {"conv": 0, "linear": 0, "other": 28, "total": 28}
    expect(student.census(nn.Sequential(embedding, head)), want, "the embedding comes first")
    want = {"conv": 0, "linear": 28, "other": 0, "total": 28}
    expect(student.census(nn.Sequential(head, embedding)), want, "the linear layer comes first")


ex.mistake(
    "counts tensors, not their elements",
    "A parameter is a tensor; count its elements, `numel()`.",
    edit=("+= parameter.numel()", "+= 1"),
)
ex.mistake(
    "counts rows, not elements",
    "len of a tensor is its first size; `numel()` counts all elements.",
    edit=("+= parameter.numel()", "+= len(parameter)"),
)
ex.mistake(
    "biases are left out",
    "Every parameter counts, biases too.",
    edit=("+= parameter.numel()", "+= parameter.numel() * (parameter.dim() > 1)"),
)
ex.mistake(
    "the container takes all",
    "`modules()` yields the network itself first: take each layer's own parameters only.",
    edit=("recurse=False", "recurse=True"),
)
ex.mistake(
    "frozen parameters are left out",
    "A parameter that is not trained is there all the same.",
    edit=(
        "if id(parameter) not in seen",
        "if id(parameter) not in seen and parameter.requires_grad",
    ),
)
ex.mistake(
    "buffers count",
    "Running statistics are buffers, not parameters.",
    edit=(
        "in layer.parameters(recurse=False)",
        "in [*layer.parameters(recurse=False), *layer.buffers(recurse=False)]",
    ),
)
ex.mistake(
    "shared parameters count twice",
    "Remember which parameters have been counted, for instance by `id`.",
    edit=("if id(parameter) not in seen", "if True"),
)
ex.mistake(
    "equal shapes taken for sharing",
    "Two parameters of the same shape are two parameters: remember the objects.",
    edit=[
        ("if id(parameter) not in seen", "if tuple(parameter.shape) not in seen"),
        ("seen.add(id(parameter))", "seen.add(tuple(parameter.shape))"),
    ],
)
ex.mistake(
    "sharing told by the address of the data",
    "On the meta device all addresses are 0: remember the parameters, for instance by `id`.",
    edit=[
        (
            "if id(parameter) not in seen",
            "if (parameter.data_ptr(), parameter.shape) not in seen",
        ),
        ("seen.add(id(parameter))", "seen.add((parameter.data_ptr(), parameter.shape))"),
    ],
)
ex.mistake(
    "sharing is not seen on the meta device",
    "On the meta device all addresses are 0: remember the parameters, for instance by `id`.",
    edit=[
        (
            "if id(parameter) not in seen",
            "if parameter.data_ptr() == 0 or parameter.data_ptr() not in seen",
        ),
        ("seen.add(id(parameter))", "seen.add(parameter.data_ptr())"),
    ],
)
ex.mistake(
    "remembers the parameters of the call before",
    "A default such as `seen=set()` is made once and kept: make the set inside the function.",
    edit=[
        ("def census(net: nn.Module)", "def census(net: nn.Module, seen=set())"),
        ("counts, seen =", "counts, _ ="),
        ("if id(parameter) not in seen", "if parameter not in seen"),
        ("seen.add(id(parameter))", "seen.add(parameter)"),
    ],
)
ex.mistake(
    "puts the network into evaluation mode",
    "The network is not modified: leave its mode, its gradients and `requires_grad` alone.",
    edit=("    counts, seen =", "    net.eval()\n    counts, seen ="),
)
ex.mistake(
    "every kind of convolution counts",
    "Only what an nn.Conv2d holds is `conv`: an nn.Conv1d or nn.ConvTranspose2d is `other`.",
    edit=('nn.Conv2d: "conv"', 'nn.modules.conv._ConvNd: "conv"'),
)
ex.mistake(
    "what lies inside a linear layer counts with it",
    "A linear layer may contain modules: take what each holds itself, recurse=False.",
    edit=("recurse=False", 'recurse=kind != "other"'),
)
ex.mistake(
    "subclasses count as other",
    "An object of a subclass is an nn.Conv2d or nn.Linear too: use `isinstance`.",
    edit=("isinstance(layer, cls)", "type(layer) is cls"),
)
ex.mistake(
    "looks only at the first level",
    "`children()` does not go into the parts of parts; `modules()` does.",
    edit=("in net.modules()", "in net.children()"),
)
ex.mistake(
    "the total without the others",
    "The total is the sum of all three.",
    edit=("sum(counts.values())", 'counts["conv"] + counts["linear"]'),
)
ex.mistake(
    "normalisation counted with the convolutions",
    "What is neither an nn.Conv2d nor an nn.Linear is `other`.",
    edit=('nn.Linear: "linear"}', 'nn.Linear: "linear", nn.BatchNorm2d: "conv"}'),
)
ex.mistake(
    "linear layers counted with the convolutions",
    "The two kinds are counted apart.",
    edit=('nn.Linear: "linear"', 'nn.Linear: "conv"'),
)


@ex.mistake("each level counts what lies below it", "Take each layer's own parameters only.")
def _(net):
    counts = {"conv": 0, "linear": 0, "other": 0}
    for layer in net.modules():
        kind = "conv" if isinstance(layer, nn.Conv2d) else "other"
        kind = "linear" if isinstance(layer, nn.Linear) else kind
        counts[kind] += sum(p.numel() for p in layer.parameters())
    return {**counts, "total": sum(counts.values())}


@ex.mistake("shared parameters go to the last layer", "The first layer that holds it counts.")
def _(net):
    owner = {}
    for layer in net.modules():
        kind = "conv" if isinstance(layer, nn.Conv2d) else "other"
        kind = "linear" if isinstance(layer, nn.Linear) else kind
        for p in layer.parameters(recurse=False):
            owner[p] = kind
    counts = {"conv": 0, "linear": 0, "other": 0}
    for p, kind in owner.items():
        counts[kind] += p.numel()
    return {**counts, "total": sum(counts.values())}


@ex.alternative("named modules, a dictionary of owners")
def _(net):
    owner = {}
    for _, layer in net.named_modules():
        for p in layer._parameters.values():
            if p is not None and p not in owner:
                owner[p] = type(layer).__mro__
    counts = {"conv": 0, "linear": 0, "other": 0, "total": 0}
    for p, kinds in owner.items():
        key = "conv" if nn.Conv2d in kinds else "linear" if nn.Linear in kinds else "other"
        counts[key] += math.prod(p.shape)
        counts["total"] += math.prod(p.shape)
    return counts


@ex.alternative("recursion over children")
def _(net):
    seen, counts = [], {"conv": 0, "linear": 0, "other": 0}

    def visit(layer):
        kind = "other"
        if isinstance(layer, nn.Conv2d):
            kind = "conv"
        elif isinstance(layer, nn.Linear):
            kind = "linear"
        for p in layer.parameters(recurse=False):
            if not any(p is other for other in seen):
                seen.append(p)
                counts[kind] += p.numel()
        for child in layer.children():
            visit(child)

    visit(net)
    counts["total"] = counts["conv"] + counts["linear"] + counts["other"]
    return counts


# ----------------------------------------------------------------------------------------------
# top_k_error

ex = top_k_error = Exercise("top_k_error")


def error_by_hand(logits: Tensor, labels: Tensor, k: int) -> float:
    """The oracle, row by row."""
    wrong = 0
    for row, label in zip(logits.tolist(), labels.tolist(), strict=True):
        wrong += label not in sorted(range(len(row)), key=lambda c: -row[c])[:k]
    return wrong / len(labels)


@ex.check("several k", points=1)
def _(student):
    sizes = [(40, 7, 1), (40, 7, 3), (9, 12, 2), (20, 9, 7), (5, 4, 4), (1, 6, 3), (30, 3, 2)]
    for rows, classes, k in sizes:
        logits, labels = 3 * torch.randn(rows, classes) - 5, torch.randint(0, classes, (rows,))
        got = student.top_k_error(logits, labels, k)
        expect(got, error_by_hand(logits, labels, k), f"error of {rows} rows, k = {k}")
    logits, labels = 1000 * torch.randn(30, 9), torch.randint(0, 9, (30,))
    for k in (3, 8):
        got = student.top_k_error(logits, labels, k)
        expect(got, error_by_hand(logits, labels, k), f"large logits, k = {k}")
    logits, labels = torch.tensor([[3.0, 2, 1], [4, 5, 6]]), torch.tensor([2, 0])
    expect(student.top_k_error(logits, labels, 3), 0.0, "k = K")


@ex.check("five by default, nothing is modified", points=0.5)
def _(student):
    logits, labels = 90 + 0.01 * torch.randn(50, 11).double(), torch.randint(0, 11, (50,))
    expect(student.top_k_error(logits, labels), error_by_hand(logits, labels, 5), "top-5 error")
    require(student.unchanged("top_k_error", logits, labels, 2), "its arguments are changed")


ex.mistake("the accuracy", "The error is the share that is missed.", edit=("1 - (best", "(best"))
ex.mistake("percent", "A number from 0 to 1 is asked for.", edit=("1 - (best", "100 - 100 * (best"))
ex.mistake(
    "the number of errors",
    "Divide by the number of rows.",
    edit=(
        "1 - (best == labels[:, None]).any(dim=1).float().mean()",
        "(best != labels[:, None]).all(dim=1).float().sum()",
    ),
)
ex.mistake(
    "the smallest logits",
    "The k largest logits are the guesses.",
    edit=("topk(k)", "topk(k, largest=False)"),
)
ex.mistake("only the best guess", "k classes may be named.", edit=("topk(k)", "topk(1)"))
ex.mistake("always five", "k is an argument.", edit=("topk(k)", "topk(min(5, logits.shape[1]))"))
ex.mistake(
    "one guess too many",
    "Exactly k classes are named.",
    edit=("topk(k)", "topk(min(k + 1, logits.shape[1]))"),
)
ex.mistake(
    "only the last of the k guesses",
    "The label may be any of the k.",
    edit=("(best == labels[:, None]).any(dim=1)", "(best[:, -1] == labels)"),
)
ex.mistake(
    "the share of all guesses that miss",
    "A row is right if any of its k guesses is.",
    edit=(".any(dim=1)", ""),
)
ex.mistake(
    "any row's label counts",
    "Row i's guesses are compared with row i's label.",
    edit=("(best == labels[:, None]).any(dim=1)", "torch.isin(best, labels).any(dim=1)"),
)
ex.mistake(
    "compares the logits",
    "The places of the largest logits are classes, their values are not.",
    edit=("topk(k).indices", "topk(k).values.round()"),
)


ex.mistake(
    "softmax first",
    "Beside a much larger logit the softmax of several classes is 0: compare the logits.",
    edit=("logits.topk(k)", "logits.softmax(dim=1).topk(k)"),
)
ex.mistake(
    "at most five",
    "k may be as large as K.",
    edit=("topk(k)", "topk(min(k, 5))"),
)


@ex.mistake(
    "a maximum that is taken becomes the smallest logit",
    "Then it ties with the smallest logit, which may be the label's: put -inf in its place.",
)
def _(logits, labels, k=5):
    left, hit = logits.clone(), torch.zeros_like(labels, dtype=torch.bool)
    for _ in range(k):
        best = left.argmax(dim=1)
        hit |= best == labels
        left[torch.arange(len(labels)), best] = logits.min()
    return 1 - hit.float().mean()


@ex.alternative("counts the classes that are better")
def _(logits, labels, k=5):
    own = logits.gather(1, labels[:, None])
    return ((logits > own).sum(dim=1) >= k).double().mean()


@ex.alternative("a loop over sorted rows")
def _(logits, labels, k=5):
    missed = 0
    for row, label in zip(logits, labels, strict=True):
        missed += label.item() not in row.argsort(descending=True)[:k].tolist()
    return missed / len(labels)


# ----------------------------------------------------------------------------------------------
# lenet5

ex = lenet5 = Exercise("lenet5", defines=["LeNet5"])


def lenet(classes: int) -> nn.Sequential:
    """The oracle."""
    return named(
        conv1=nn.Conv2d(1, 6, 5, padding=2),
        tanh1=nn.Tanh(),
        pool1=nn.AvgPool2d(2),
        conv2=nn.Conv2d(6, 16, 5),
        tanh2=nn.Tanh(),
        pool2=nn.AvgPool2d(2),
        flatten=nn.Flatten(),
        fc1=nn.Linear(400, 120),
        tanh3=nn.Tanh(),
        fc2=nn.Linear(120, 84),
        tanh4=nn.Tanh(),
        fc3=nn.Linear(84, classes),
    )


@ex.check("names and shapes of the parameters", points=1)
def _(student):
    note_settings(student, "LeNet5", [])
    expect_shapes(student, "LeNet5", [], lenet(10))
    expect_shapes(student, "LeNet5", [7], lenet(7))


@ex.check("logits and gradients", points=2)
def _(student):
    compare(student, "LeNet5", [], lenet(10), 2 * torch.randn(3, 1, 28, 28))
    compare(student, "LeNet5", [4], lenet(4), torch.rand(1, 1, 28, 28), training=False)


@ex.check("on the meta device, input unchanged", points=0.5)
def _(student):
    got = student.run(shape_on_meta, "LeNet5", [3], [5, 1, 28, 28])
    expect(got, [5, 3], "shape of the logits on the meta device")
    x = torch.randn(2, 1, 28, 28)
    expect(student.run(input_after, "LeNet5", [], x), x, "input after the pass")


ex.mistake(
    "ReLU for tanh",
    "The activations of LeNet-5 are tanh.",
    edit=("self.fc1(x.flatten(1)).tanh()", "self.fc1(x.flatten(1)).relu()"),
)
ex.mistake(
    "max pooling",
    "LeNet-5 averages.",
    edit=("F.avg_pool2d(self.conv1(x).tanh(), 2)", "F.max_pool2d(self.conv1(x).tanh(), 2)"),
)
ex.mistake(
    "max pooling in both places",
    "LeNet-5 averages.",
    edit=[
        ("F.avg_pool2d(self.conv1(x).tanh(), 2)", "F.max_pool2d(self.conv1(x).tanh(), 2)"),
        ("F.avg_pool2d(self.conv2(x).tanh(), 2)", "F.max_pool2d(self.conv2(x).tanh(), 2)"),
    ],
)
ex.mistake(
    "no padding",
    "28 pixels stay 28 in the first convolution: padding 2.",
    edit=("nn.Conv2d(1, 6, 5, padding=2)", "nn.Conv2d(1, 6, 5)"),
)
ex.mistake(
    "padding in the second convolution too",
    "The second convolution has no padding: 14 becomes 10.",
    edit=("nn.Conv2d(6, 16, 5)", "nn.Conv2d(6, 16, 5, padding=2)"),
)
ex.mistake(
    "tanh after the pooling",
    "The activation comes first, then the mean: the two do not commute.",
    edit=[
        ("F.avg_pool2d(self.conv1(x).tanh(), 2)", "F.avg_pool2d(self.conv1(x), 2).tanh()"),
        ("F.avg_pool2d(self.conv2(x).tanh(), 2)", "F.avg_pool2d(self.conv2(x), 2).tanh()"),
    ],
)
ex.mistake(
    "convolutions without activation",
    "Two linear layers without an activation between them are one.",
    edit=[("self.conv1(x).tanh()", "self.conv1(x)"), ("self.conv2(x).tanh()", "self.conv2(x)")],
)
ex.mistake(
    "no tanh after fc2",
    "fc2 is followed by a tanh too.",
    edit=("self.fc2(x).tanh()", "self.fc2(x)"),
)
ex.mistake(
    "tanh on the logits",
    "The last layer gives logits: no activation.",
    edit=("self.fc3(self.fc2(x).tanh())", "self.fc3(self.fc2(x).tanh()).tanh()"),
)
ex.mistake(
    "probabilities, not logits",
    "The loss takes the softmax; the network gives logits.",
    edit=("self.fc3(self.fc2(x).tanh())", "self.fc3(self.fc2(x).tanh()).softmax(dim=1)"),
)
ex.mistake(
    "always ten classes",
    "`num_classes` is an argument.",
    edit=("nn.Linear(84, num_classes)", "nn.Linear(84, 10)"),
)
ex.mistake(
    "convolutions without bias",
    "All five layers have biases.",
    edit=[
        ("nn.Conv2d(1, 6, 5, padding=2)", "nn.Conv2d(1, 6, 5, padding=2, bias=False)"),
        ("nn.Conv2d(6, 16, 5)", "nn.Conv2d(6, 16, 5, bias=False)"),
    ],
)
ex.mistake(
    "channels last before fc1",
    "The order is that of torch.flatten: channel by channel.",
    edit=("x.flatten(1)", "x.permute(0, 2, 3, 1).flatten(1)"),
)
ex.mistake(
    "overlapping pooling",
    "The windows of 2 x 2 do not overlap: stride 2.",
    edit=("F.avg_pool2d(self.conv1(x).tanh(), 2)", "F.avg_pool2d(self.conv1(x).tanh(), 2, 1)"),
)


ex.mistake(
    "keeps the batch size of the first call",
    "Each call may bring a batch of another size: ask `x` for it.",
    edit=(
        "x.flatten(1)",
        'x.reshape(self.__dict__.setdefault("batch", len(x)), 400)',
    ),
)


@ex.alternative("modules for everything")
class LeNetOfModules(nn.Module):
    def __init__(self, num_classes: int = 10) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(1, 6, kernel_size=5, padding="same")
        self.conv2 = nn.Conv2d(6, 16, kernel_size=5)
        self.fc1, self.fc2 = nn.Linear(16 * 5 * 5, 120), nn.Linear(120, 84)
        self.fc3 = nn.Linear(84, num_classes)
        self.act, self.pool = nn.Tanh(), nn.AvgPool2d(2, stride=2)

    def forward(self, x):
        for layer in (self.conv1, self.conv2):
            x = self.pool(self.act(layer(x)))
        x = torch.flatten(x, start_dim=1)
        for layer in (self.fc1, self.fc2):
            x = self.act(layer(x))
        return self.fc3(x)


@ex.alternative("all layers in one Sequential, beside their names")
class LeNetWithSecondNames(nn.Module):
    def __init__(self, num_classes: int = 10) -> None:
        super().__init__()
        self.conv1, self.conv2 = nn.Conv2d(1, 6, 5, padding=2), nn.Conv2d(6, 16, 5)
        self.fc1, self.fc2 = nn.Linear(400, 120), nn.Linear(120, 84)
        self.fc3 = nn.Linear(84, num_classes)
        self.net = nn.Sequential(
            *[self.conv1, nn.Tanh(), nn.AvgPool2d(2), self.conv2, nn.Tanh(), nn.AvgPool2d(2)],
            *[nn.Flatten(), self.fc1, nn.Tanh(), self.fc2, nn.Tanh(), self.fc3],
        )

    def forward(self, x):
        return self.net(x)


@ex.alternative("padding by hand, means by slices")
class LeNetBySlices(nn.Module):
    def __init__(self, num_classes: int = 10) -> None:
        super().__init__()
        self.conv1, self.conv2 = nn.Conv2d(1, 6, 5), nn.Conv2d(6, 16, 5)
        self.fc1, self.fc2, self.fc3 = (
            nn.Linear(400, 120),
            nn.Linear(120, 84),
            nn.Linear(84, num_classes),
        )

    def forward(self, x):
        def quarter(y):
            rows = y[:, :, ::2] + y[:, :, 1::2]
            return (rows[..., ::2] + rows[..., 1::2]) / 4

        x = quarter(torch.tanh(self.conv1(F.pad(x, (2, 2, 2, 2)))))
        x = quarter(torch.tanh(self.conv2(x)))
        x = torch.tanh(self.fc1(x.reshape(len(x), 400)))
        return self.fc3(torch.tanh(self.fc2(x)))


# ----------------------------------------------------------------------------------------------
# response_norm

ex = response_norm = Exercise("response_norm", forbids=["local_response_norm", "LocalResponseNorm"])


def normed(x: Tensor, size: int, alpha: float, beta: float, k: float) -> Tensor:
    """The oracle: torch's mean becomes the paper's sum."""
    return F.local_response_norm(x, size, alpha=alpha * size, beta=beta, k=k)


def meta_norm(student: Any, shape: Sequence[int]) -> list[Any]:
    """A probe: shape and device of the result on the meta device."""
    result = student.response_norm(torch.empty(*shape, device="meta"))
    return [list(result.shape), str(result.device.type)]


def norm_gradient(student: Any, x: Tensor) -> Tensor | None:
    """A probe: the gradient of the cubes' sum."""
    leaf = x.clone().requires_grad_()
    (student.response_norm(leaf, 3, 0.5, 0.75, 1.0) ** 3).sum().backward()
    return leaf.grad


@ex.check("the paper's numbers", points=1)
def _(student):
    for shape in [(2, 9, 4, 3), (1, 6, 1, 5)]:
        x = 60 * torch.randn(*shape)
        expect(student.response_norm(x), normed(x, 5, 1e-4, 0.75, 2.0), f"input {shape}")


@ex.check("other sizes and constants", points=1.5)
def _(student):
    for size, alpha, beta, k in [
        (1, 0.5, 1.0, 1.0),
        (3, 2.0, 0.5, 3.0),
        (7, 0.3, 2.0, 0.5),
        (11, 0.4, 1.5, 1.0),
    ]:
        x = torch.randn(3, size + 5, 2, 5)
        want = normed(x, size, alpha, beta, k)
        what = f"size {size}, alpha {alpha}, beta {beta}, k {k}"
        expect(student.response_norm(x, size, alpha, beta, k), want, what)


@ex.check("more neighbours than channels", points=0.5)
def _(student):
    for channels, size in [(2, 5), (1, 3), (3, 9), (4, 7)]:
        x = torch.randn(2, channels, 3, 2)
        got = student.response_norm(x, size=size, alpha=0.7, beta=0.9, k=1.5)
        expect(got, normed(x, size, 0.7, 0.9, 1.5), f"{channels} channels, size {size}")


@ex.check("dtype, device, gradient, input unchanged", points=1)
def _(student):
    x = torch.randn(2, 5, 3, 4).double()
    want = normed(x, 3, 0.5, 0.75, 1.0)
    got = student.response_norm(x, 3, 0.5, 0.75, 1.0)
    expect(got, want, "float64", rtol=1e-9, atol=1e-12, dtype=True)
    got = student.response_norm(x.float(), 3, 0.5, 0.75, 1.0)
    expect(got, want.float(), "float32", dtype=True)
    got = student.response_norm(x.transpose(2, 3), 3, 0.5, 0.75, 1.0)
    expect(got, want.transpose(2, 3), "not contiguous")
    expect(student.run(meta_norm, [2, 6, 5, 4]), [[2, 6, 5, 4], "meta"], "on the meta device")
    require(student.unchanged("response_norm", x), "the input is changed")
    leaf = x.clone().requires_grad_()
    (normed(leaf, 3, 0.5, 0.75, 1.0) ** 3).sum().backward()
    expect(student.run(norm_gradient, x), leaf.grad, "gradient")
    x = torch.rand(2, 7, 3, 2) + 0.5
    x[:, 1] *= 1e4
    for size in (1, 3):
        got = student.response_norm(x, size, 1.0, 0.5, 1.0)
        expect(got, normed(x, size, 1.0, 0.5, 1.0), f"one large channel, size {size}")


ex.mistake(
    "torch's convention: the mean",
    "By the convention stated alpha multiplies the sum; torch divides it by n.",
    edit=("alpha * squares", "alpha / size * squares"),
)
ex.mistake(
    "without k",
    "k keeps the bracket away from zero.",
    edit=("(k + alpha", "(alpha"),
)
ex.mistake(
    "the power of the sum alone",
    "The whole bracket, k included, is raised to beta.",
    edit=(
        "(k + alpha * squares.unfold(1, size, 1).sum(dim=-1)) ** beta",
        "(k + (alpha * squares.unfold(1, size, 1).sum(dim=-1)) ** beta)",
    ),
)
ex.mistake(
    "without the power",
    "The bracket is raised to beta.",
    edit=(".sum(dim=-1)) ** beta", ".sum(dim=-1))"),
)
ex.mistake(
    "multiplies", "Large neighbours make a response smaller: divide.", edit=("x / (", "x * (")
)
ex.mistake(
    "sums absolute values",
    "The squares are summed.",
    edit=("x.square()", "x.abs()"),
)
ex.mistake(
    "sums the values, squared afterwards",
    "Square first, then sum.",
    edit=[
        ("F.pad(x.square()", "F.pad(x"),
        ("squares.unfold(1, size, 1).sum(dim=-1)", "squares.unfold(1, size, 1).sum(dim=-1) ** 2"),
    ],
)
ex.mistake(
    "neighbours on one side only",
    "The window is centred: half of it lies on each side.",
    edit=("size // 2, size // 2", "size - 1, 0"),
)
ex.mistake(
    "neighbouring pixels",
    "The sum is over channels, at one pixel.",
    edit=[
        ("(0, 0, 0, 0, size // 2, size // 2)", "(size // 2, size // 2)"),
        ("unfold(1, size, 1)", "unfold(3, size, 1)"),
    ],
)
ex.mistake(
    "all channels",
    "Only `size` neighbouring channels are summed.",
    edit=("squares.unfold(1, size, 1).sum(dim=-1)", "x.square().sum(dim=1, keepdim=True)"),
)
ex.mistake(
    "size channels on each side",
    "size counts the whole window, the channel itself included.",
    edit=[
        ("size // 2, size // 2", "size, size"),
        ("unfold(1, size, 1)", "unfold(1, 2 * size + 1, 1)"),
    ],
)
ex.mistake(
    "without the channel itself",
    "The window holds the channel too.",
    edit=(".sum(dim=-1)", ".sum(dim=-1) - alpha * x.square()"),
)


@ex.mistake("wraps around at the border", "At the borders the sum has fewer terms.")
def _(x, size=5, alpha=1e-4, beta=0.75, k=2.0):
    shifts = range(-(size // 2), size // 2 + 1)
    total = sum(x.square().roll(shift, dims=1) for shift in shifts)
    return x / (k + alpha * total) ** beta


@ex.mistake("sums squares that are normalised already", "All squares are those of the input.")
def _(x, size=5, alpha=1e-4, beta=0.75, k=2.0):
    out = x.clone()
    for c in range(x.shape[1]):
        near = out[:, max(0, c - size // 2) : c + size // 2 + 1].square().sum(dim=1)
        out[:, c] = x[:, c] / (k + alpha * near) ** beta
    return out


@ex.mistake("the bracket is taken for a constant", "The squares are differentiated too.")
def _(x, size=5, alpha=1e-4, beta=0.75, k=2.0):
    squares = F.pad(x.detach().square(), (0, 0, 0, 0, size // 2, size // 2))
    return x / (k + alpha * squares.unfold(1, size, 1).sum(dim=-1)) ** beta


@ex.mistake(
    "differences of running sums, in float32",
    "Beside a large channel the small squares are rounded away: sum each window by itself.",
)
def _(x, size=5, alpha=1e-4, beta=0.75, k=2.0):
    half, count = size // 2, x.shape[1]
    sums = F.pad(x.square().cumsum(dim=1), (0, 0, 0, 0, 1, 0))
    ends = [min(count, c + half + 1) for c in range(count)]
    starts = [max(0, c - half) for c in range(count)]
    return x / (k + alpha * (sums[:, ends] - sums[:, starts])) ** beta


@ex.alternative("a loop over the channels")
def _(x, size=5, alpha=1e-4, beta=0.75, k=2.0):
    half, channels = size // 2, []
    for c in range(x.shape[1]):
        near = x[:, max(0, c - half) : c + half + 1]
        channels.append(x[:, c] * (k + alpha * (near * near).sum(1)).pow(-beta))
    return torch.stack(channels, dim=1)


@ex.alternative("differences of running sums, in float64")
def _(x, size=5, alpha=1e-4, beta=0.75, k=2.0):
    half, count = size // 2, x.shape[1]
    sums = F.pad(x.double().square().cumsum(dim=1), (0, 0, 0, 0, 1, 0))
    ends = [min(count, c + half + 1) for c in range(count)]
    starts = [max(0, c - half) for c in range(count)]
    total = sums[:, ends] - sums[:, starts]
    return (x / (k + alpha * total) ** beta).to(x.dtype)


@ex.alternative("a 3d average")
def _(x, size=5, alpha=1e-4, beta=0.75, k=2.0):
    padded = F.pad(x**2, (0, 0, 0, 0, size // 2, size // 2))[:, None]
    mean = F.avg_pool3d(padded, (size, 1, 1), stride=1)[:, 0]
    return x / (k + alpha * size * mean) ** beta


# ----------------------------------------------------------------------------------------------
# vgg_layers

ex = vgg_layers = Exercise("vgg_layers")


def layers_by_hand(configuration: Sequence[Any], in_channels: int = 3) -> nn.Sequential:
    """The oracle."""
    net = nn.Sequential()
    for entry in configuration:
        if entry == "M":
            net.append(nn.MaxPool2d(kernel_size=2, stride=2))
        else:
            out, size = entry if isinstance(entry, tuple) else (entry, 3)
            net.append(nn.Conv2d(in_channels, out, size, padding="same"))
            net.append(nn.ReLU())
            in_channels = out
    return net


@ex.check("names and shapes of the parameters", points=1)
def _(student):
    for args in [[[4, "M", 6, 5, "M"]], [["M", (3, 1), 2, "M", "M", (4, 5)], 7]]:
        note_settings(student, "vgg_layers", args)
        expect_shapes(student, "vgg_layers", args, layers_by_hand(*args))


@ex.check("outputs and gradients", points=1.5)
def _(student):
    for args, shape in [
        ([[4, "M", 6, 5, "M"]], (2, 3, 9, 14)),
        ([[3, 2], 5], (1, 5, 4, 7)),
        ([["M", 4, "M"], 2], (3, 2, 11, 13)),
        ([[4, 4, "M", 4], 4], (2, 4, 5, 6)),
    ]:
        compare(student, "vgg_layers", args, layers_by_hand(*args), torch.randn(*shape))


@ex.check("other kernels", points=1)
def _(student):
    for args, shape in [
        ([[(4, 1), "M", 3]], (2, 3, 6, 5)),
        ([[2, (3, 5), (4, 7)], 1], (2, 1, 8, 6)),
    ]:
        compare(student, "vgg_layers", args, layers_by_hand(*args), torch.randn(*shape))


@ex.check("kinds of the layers, the list unchanged, an empty list", points=0.5)
def _(student):
    configuration = [5, "M", (4, 1), "M"]
    kinds = ["Conv2d", "ReLU", "MaxPool2d", "Conv2d", "ReLU", "MaxPool2d"]
    expect(student.run(layer_kinds, configuration), kinds, "kinds of the layers")
    expect(student.run(layer_kinds, []), [], "kinds of the layers of an empty list")
    require(student.unchanged("vgg_layers", configuration), "the configuration is changed")


def layer_kinds(student: Any, configuration: Sequence[Any]) -> list[str]:
    """A probe: the layers' class names."""
    return [type(layer).__name__ for layer in student.vgg_layers(configuration)]


ex.mistake(
    "no padding",
    "Height and width are kept: padding k // 2.",
    edit=("k, padding=k // 2", "k"),
)
ex.mistake(
    "padding 1 for every kernel",
    "A kernel of 1 needs no padding, one of 5 needs 2.",
    edit=("padding=k // 2", "padding=1"),
)
ex.mistake(
    "padding k - 1",
    "Half of the kernel lies on each side: k // 2.",
    edit=("padding=k // 2", "padding=k - 1"),
)
ex.mistake(
    "every kernel is 3 x 3",
    "A pair names its kernel.",
    edit=("else (entry, 3)\n", "else (entry, 3)\n        k = 3\n"),
)
ex.mistake(
    "without ReLU",
    "Each convolution is followed by a ReLU.",
    edit=(", nn.ReLU()]", "]"),
)
ex.mistake(
    "ReLU first",
    "The ReLU comes after its convolution.",
    edit=(
        "[nn.Conv2d(in_channels, channels, k, padding=k // 2), nn.ReLU()]",
        "[nn.ReLU(), nn.Conv2d(in_channels, channels, k, padding=k // 2)]",
    ),
)
ex.mistake(
    "batch normalisation",
    "VGG of 2015 has none; the positions of the layers shift.",
    edit=(", nn.ReLU()]", ", nn.BatchNorm2d(channels), nn.ReLU()]"),
)
ex.mistake(
    "convolutions without bias",
    "All convolutions have a bias.",
    edit=("padding=k // 2)", "padding=k // 2, bias=False)"),
)
ex.mistake(
    "pooling with stride 1",
    "The windows do not overlap: stride 2.",
    edit=("nn.MaxPool2d(2)", "nn.MaxPool2d(2, stride=1)"),
)
ex.mistake(
    "pooling of 3 x 3",
    "VGG pools 2 x 2.",
    edit=("nn.MaxPool2d(2)", "nn.MaxPool2d(3, stride=2, padding=1)"),
)
ex.mistake(
    "average pooling",
    "VGG takes the maximum.",
    edit=("nn.MaxPool2d(2)", "nn.AvgPool2d(2)"),
)
ex.mistake(
    "the last odd row is kept",
    "An odd last row or column is dropped.",
    edit=("nn.MaxPool2d(2)", "nn.MaxPool2d(2, ceil_mode=True)"),
)
ex.mistake(
    "three input channels whatever is said",
    "`in_channels` is an argument.",
    edit=("    layers = []\n", "    layers, in_channels = [], 3\n"),
)
ex.mistake(
    "every layer reads the image's channels",
    "A convolution reads what the one before it has put out.",
    edit=("        in_channels = channels\n", ""),
)
ex.mistake(
    "a convolution and its ReLU in one block",
    "One flat Sequential is asked for: its positions are the parameters' names.",
    edit=(
        "[nn.Conv2d(in_channels, channels, k, padding=k // 2), nn.ReLU()]",
        "[nn.Sequential(nn.Conv2d(in_channels, channels, k, padding=k // 2), nn.ReLU())]",
    ),
)


ex.mistake(
    "the same network for the same list",
    "Each call makes new layers: two networks must not share their weights.",
    edit=[
        ("in_channels: int = 3\n", "in_channels: int = 3, made={}\n"),
        (
            "return nn.Sequential(*layers)",
            "return made.setdefault(str(configuration), nn.Sequential(*layers))",
        ),
    ],
)


@ex.mistake(
    "equal convolutions are one module",
    "Each entry has a convolution of its own, with weights of its own.",
)
def _(configuration, in_channels=3):
    layers, made = [], {}
    for entry in configuration:
        if entry == "M":
            layers.append(nn.MaxPool2d(2))
            continue
        channels, k = entry if isinstance(entry, tuple) else (entry, 3)
        conv = nn.Conv2d(in_channels, channels, k, padding=k // 2)
        layers += [made.setdefault((in_channels, channels, k), conv), nn.ReLU()]
        in_channels = channels
    return nn.Sequential(*layers)


@ex.alternative("append, padding 'same', in-place ReLU")
def _(configuration, in_channels=3):
    net = nn.Sequential()
    for entry in configuration:
        if isinstance(entry, str):
            net.append(nn.MaxPool2d(kernel_size=2, stride=2))
        else:
            if isinstance(entry, int):
                entry = (entry, 3)
            net.append(nn.Conv2d(in_channels, entry[0], entry[1], padding="same"))
            net.append(nn.ReLU(inplace=True))
            in_channels = entry[0]
    return net


@ex.alternative("pairs of inputs and outputs first")
def _(configuration, in_channels=3):
    widths = [in_channels]
    parts = []
    for entry in list(configuration):
        match entry:
            case "M":
                parts.append(nn.MaxPool2d((2, 2)))
            case (out, size):
                widths.append(out)
                parts += [nn.Conv2d(widths[-2], out, (size, size), 1, (size - 1) // 2), nn.ReLU()]
            case out:
                widths.append(out)
                parts += [nn.Conv2d(widths[-2], out, 3, padding=1), nn.ReLU()]
    return nn.Sequential(*parts)


# ----------------------------------------------------------------------------------------------
# inception

ex = inception = Exercise("inception", defines=["Inception"])


class Branches(nn.Module):
    """Branches side by side."""

    def __init__(self, **branches: nn.Module) -> None:
        super().__init__()
        for name, branch in branches.items():
            self.add_module(name, branch)

    def forward(self, x: Tensor) -> Tensor:
        return torch.cat([branch(x) for branch in self.children()], dim=1)


def unit(in_channels: int, out_channels: int, size: int, norm: bool = False) -> nn.Module:
    """A convolution that keeps the size, perhaps a normalisation, and a ReLU."""
    conv = nn.Conv2d(in_channels, out_channels, size, padding=size // 2)
    bn = {"bn": nn.BatchNorm2d(out_channels)} if norm else {}
    return named(conv=conv, **bn, relu=nn.ReLU())


def four_branches(
    channels: int, one: int, three: Sequence[int], five: Sequence[int], pool: int, **options: Any
) -> Branches:
    """The oracle."""
    large, norm = options.get("large", 5), options.get("norm", False)
    return Branches(
        branch1=unit(channels, one, 1, norm),
        branch2=nn.Sequential(unit(channels, three[0], 1, norm), unit(three[0], three[1], 3, norm)),
        branch3=nn.Sequential(
            unit(channels, five[0], 1, norm), unit(five[0], five[1], large, norm)
        ),
        branch4=nn.Sequential(nn.MaxPool2d(3, 1, 1), unit(channels, pool, 1, norm)),
    )


@ex.check("names and shapes of the parameters", points=1)
def _(student):
    note_settings(student, "Inception", [9, 2, 3, 4, 5, 6, 7])
    oracle = four_branches(9, 2, (3, 4), (5, 6), 7)
    expect_shapes(student, "Inception", [9, 2, 3, 4, 5, 6, 7], oracle)


@ex.check("the paper's block: outputs and gradients", points=1.5)
def _(student):
    oracle = four_branches(4, 2, (3, 5), (6, 3), 7)
    compare(student, "Inception", [4, 2, 3, 5, 6, 3, 7], oracle, torch.randn(2, 4, 6, 9))
    oracle = four_branches(3, 1, (2, 2), (1, 4), 2)
    compare(student, "Inception", [3, 1, 2, 2, 1, 4, 2], oracle, torch.randn(1, 3, 3, 2) - 3)


@ex.check("another unit, a larger kernel", points=1)
def _(student):
    oracle = shaken(four_branches(5, 3, (2, 4), (2, 3), 6, large=7, norm=True))
    args, x = [5, 3, 2, 4, 2, 3, 6], torch.randn(3, 5, 7, 4)
    expect_shapes(student, "Inception", args, oracle, conv_block=Unit, large=7)
    compare(student, "Inception", args, oracle, x, conv_block=Unit, large=7)
    compare(student, "Inception", args, oracle, x, training=False, conv_block=Unit, large=7)


@ex.check("torchvision's block", points=0.5)
def _(student):
    oracle = shaken(TorchvisionInception(6, 4, 3, 5, 2, 3, 4))
    x, state = torch.randn(2, 6, 5, 8), oracle.state_dict()
    state = {key: value.clone() for key, value in state.items()}
    got = student.run(torchvision_block, [6, 4, 3, 5, 2, 3, 4], x, state)
    with torch.no_grad():
        want = oracle(x)
    expect(got, want, "output with torchvision's weights", rtol=1e-3, atol=1e-4)


def torchvision_block(student: Any, widths: Sequence[int], x: Tensor, state: Any) -> Tensor:
    """A probe: the output of the block with batch normalisation and 3 x 3 in branch3."""
    block = student.Inception(*widths, conv_block=student.ConvBNReLU, large=3)
    probes.load(block, state)
    with torch.no_grad():
        return block(x)


ex.mistake(
    "the fourth branch convolves first",
    "Pooling comes first, then the 1 x 1 convolution.",
    edit=(
        """            nn.MaxPool2d(3, stride=1, padding=1),
            conv_block(in_channels, pool_proj, kernel_size=1),
""",
        """            conv_block(in_channels, pool_proj, kernel_size=1),
            nn.MaxPool2d(3, stride=1, padding=1),
""",
    ),
)
ex.mistake(
    "the fourth branch averages",
    "It is max pooling.",
    edit=("nn.MaxPool2d(3, stride=1, padding=1)", "nn.AvgPool2d(3, stride=1, padding=1)"),
)
ex.mistake(
    "the pooling pads with zeros",
    "A zero at the border must not win against negative values: pool with padding=1.",
    edit=(
        "nn.MaxPool2d(3, stride=1, padding=1)",
        "nn.Sequential(nn.ZeroPad2d(1), nn.MaxPool2d(3, stride=1))",
    ),
)
ex.mistake(
    "the fourth branch has no 1 x 1 convolution",
    "Without it the pooled channels would all be passed on.",
    edit=(
        """            nn.MaxPool2d(3, stride=1, padding=1),
            conv_block(in_channels, pool_proj, kernel_size=1),
""",
        "            nn.MaxPool2d(3, stride=1, padding=1),\n",
    ),
)
ex.mistake(
    "pooling that shrinks",
    "All branches keep height and width: stride 1 and padding 1.",
    edit=("nn.MaxPool2d(3, stride=1, padding=1)", "nn.MaxPool2d(3, stride=2, padding=1)"),
)
ex.mistake(
    "3 x 3 without padding",
    "All branches keep height and width.",
    edit=("kernel_size=3, padding=1", "kernel_size=3"),
)
ex.mistake(
    "the large kernel is always 5",
    "`large` is an argument.",
    edit=("kernel_size=large, padding=large // 2", "kernel_size=5, padding=2"),
)
ex.mistake(
    "the large kernel is always 3",
    "`large` is an argument; in the paper it is 5.",
    edit=("kernel_size=large, padding=large // 2", "kernel_size=3, padding=1"),
)
ex.mistake(
    "conv_block is not used",
    "The units are made by `conv_block`.",
    edit=(
        "        super().__init__()\n",
        "        super().__init__()\n        conv_block = ConvReLU\n",
    ),
)
ex.mistake(
    "no reduction before the 3 x 3",
    "A 1 x 1 to `ch3x3red` channels comes first.",
    edit=(
        """            conv_block(in_channels, ch3x3red, kernel_size=1),
            conv_block(ch3x3red, ch3x3, kernel_size=3, padding=1),
""",
        "            conv_block(in_channels, ch3x3, kernel_size=3, padding=1),\n",
    ),
)
ex.mistake(
    "the branches in another order",
    "The channels come in the order branch1, branch2, branch3, branch4.",
    edit=(
        "[self.branch1, self.branch2, self.branch3, self.branch4]",
        "[self.branch2, self.branch3, self.branch4, self.branch1]",
    ),
)
ex.mistake(
    "side by side along the height",
    "The branches are put together along the channels, dim=1.",
    edit=("dim=1)\n", "dim=2)\n"),
)
ex.mistake(
    "a ReLU before the pooling",
    "The fourth branch pools the input as it is; a ReLU comes only after the convolution.",
    edit=(
        "[branch(x) for branch in branches], dim=1)",
        "[self.branch1(x), self.branch2(x), self.branch3(x), self.branch4(x.relu())], dim=1)",
    ),
)
ex.mistake(
    "a branch is left out",
    "There are four branches.",
    edit=(
        "[self.branch1, self.branch2, self.branch3, self.branch4]",
        "[self.branch1, self.branch2, self.branch3]",
    ),
)


@ex.alternative("functional pooling, named parts")
class InceptionByParts(nn.Module):
    def __init__(
        self,
        in_channels,
        ch1x1,
        ch3x3red,
        ch3x3,
        ch5x5red,
        ch5x5,
        pool_proj,
        conv_block=None,
        large=5,
    ):
        super().__init__()
        make = conv_block or ConvReLU
        self.branch1 = make(in_channels, ch1x1, kernel_size=(1, 1))
        self.branch2 = nn.Sequential()
        self.branch2.append(make(in_channels, ch3x3red, kernel_size=1, padding=0))
        self.branch2.append(make(ch3x3red, ch3x3, kernel_size=3, padding="same"))
        self.branch3 = nn.Sequential(
            make(in_channels, ch5x5red, kernel_size=1),
            make(ch5x5red, ch5x5, kernel_size=large, padding=(large - 1) // 2),
        )
        self.branch4 = nn.Sequential(nn.Identity(), make(in_channels, pool_proj, kernel_size=1))

    def forward(self, x):
        pooled = F.max_pool2d(F.pad(x, (1, 1, 1, 1), value=-math.inf), 3, 1)
        parts = (self.branch1(x), self.branch2(x), self.branch3(x), self.branch4(pooled))
        return torch.concat(parts, 1)


ex.alternative(
    "branch by branch into one tensor",
    edit=(
        """        branches = [self.branch1, self.branch2, self.branch3, self.branch4]
        return torch.cat([branch(x) for branch in branches], dim=1)
""",
        """        out = self.branch1(x)
        for branch in (self.branch2, self.branch3, self.branch4):
            out = torch.hstack((out, branch(x)))
        return out
""",
    ),
)


# ----------------------------------------------------------------------------------------------
# auxiliary

ex = auxiliary = Exercise("auxiliary", defines=["InceptionAux", "auxiliary_loss"])


def head(channels: int, classes: int, norm: bool = False) -> nn.Sequential:
    """The oracle."""
    return named(
        pool=nn.AvgPool2d(5, stride=3),
        conv=unit(channels, 128, 1, norm),
        flatten=nn.Flatten(),
        fc1=nn.Linear(2048, 1024),
        relu=nn.ReLU(),
        dropout=nn.Dropout(0.7),
        fc2=nn.Linear(1024, classes),
    )


def dropped(student: Any, x: Tensor) -> Tensor:
    """A probe: the values that reach fc2 in two calls in training mode, ones before dropout.

    2 is added to each.
    """
    made = student.InceptionAux(2, 1024)
    with torch.no_grad():
        for parameter in made.parameters():
            parameter.zero_()
        made.fc1.bias.fill_(1.0)
        made.fc2.weight.copy_(torch.eye(1024))
        made.fc2.bias.fill_(2.0)
        return torch.stack([made.train()(x), made(x)])


def loss_gradients(
    student: Any, logits: Tensor, heads: Sequence[Tensor], labels: Tensor
) -> list[Tensor | None]:
    """A probe: the gradients of the loss by the logits and by each head."""
    leaves = [tensor.clone().requires_grad_() for tensor in (logits, *heads)]
    student.auxiliary_loss(leaves[0], leaves[1:], labels).backward()
    return [leaf.grad for leaf in leaves]


def total_loss(logits: Tensor, heads: Sequence[Tensor], labels: Tensor, weight: float) -> Tensor:
    """The oracle."""
    rows = torch.arange(len(labels))
    losses = [-logs.log_softmax(dim=1)[rows, labels].mean() for logs in (logits, *heads)]
    return losses[0] + weight * torch.stack([logits.new_zeros(()), *losses[1:]]).sum()


@ex.check("names and shapes of the head's parameters", points=0.5)
def _(student):
    note_settings(student, "InceptionAux", [6, 3])
    expect_shapes(student, "InceptionAux", [6, 3], head(6, 3))


@ex.check("the head: logits and gradients", points=1.5)
def _(student):
    oracle = head(3, 4)
    compare(student, "InceptionAux", [3, 4], oracle, torch.randn(2, 3, 14, 14), training=False)
    oracle, x = shaken(head(2, 5, norm=True)), torch.randn(3, 2, 14, 14)
    compare(student, "InceptionAux", [2, 5], oracle, x, training=False, conv_block=Unit)


@ex.check("dropout in training mode", points=1)
def _(student):
    got, again = student.run(dropped, torch.zeros(8, 2, 14, 14)) - 2
    zeros = (got == 0).float().mean()
    require(0.65 < zeros < 0.75, "not 70 % of the values are dropped", got=round(float(zeros), 1))
    kept = got.flatten()[got.flatten() != 0]
    expect(kept, torch.full((len(kept),), 1 / 0.3), "what is kept of ones")
    require(not torch.equal(got[0], got[1]), "both rows lose the same values")
    require(not torch.equal(got, again), "a second call loses the same values")


@ex.check("the loss", points=1)
def _(student):
    labels = torch.randint(0, 6, (7,))
    for count in (2, 0, 1, 3):
        logits, *heads = 2 * torch.randn(count + 1, 7, 6)
        got = student.auxiliary_loss(logits, heads, labels)
        expect(got, total_loss(logits, heads, labels, 0.3), f"loss with {count} heads")
        got = student.auxiliary_loss(logits, heads, labels, weight=0.7)
        expect(got, total_loss(logits, heads, labels, 0.7), f"{count} heads, weight 0.7")
    logits, *heads = torch.randn(3, 7, 6)
    same = student.unchanged("auxiliary_loss", logits, heads, labels)
    require(same, "the logits, the heads or the labels are changed")
    got = student.auxiliary_loss(logits, tuple(heads), labels)
    expect(got, total_loss(logits, heads, labels, 0.3), "loss with a tuple of heads")
    leaves = [tensor.clone().requires_grad_() for tensor in (logits, *heads)]
    total_loss(leaves[0], leaves[1:], labels, 0.3).backward()
    got = student.run(loss_gradients, logits, heads, labels)
    expect(got, [leaf.grad for leaf in leaves], "gradients by the logits and the heads")


ex.mistake(
    "pooling with stride 5",
    "Windows of 5 x 5 with stride 3 leave 4 x 4 of 14 x 14.",
    edit=("F.avg_pool2d(x, 5, stride=3)", "F.avg_pool2d(x, 5)"),
)
ex.mistake(
    "torchvision's adaptive pooling",
    "Of 14 pixels its windows take 4; the paper's are 5 x 5 with stride 3.",
    edit=("F.avg_pool2d(x, 5, stride=3)", "F.adaptive_avg_pool2d(x, 4)"),
)
ex.mistake(
    "max pooling",
    "The head averages.",
    edit=("F.avg_pool2d(x, 5, stride=3)", "F.max_pool2d(x, 5, stride=3)"),
)
ex.mistake(
    "the unit before the pooling",
    "Pooling first: the ReLU in the unit does not commute with the mean.",
    edit=("self.conv(F.avg_pool2d(x, 5, stride=3))", "F.avg_pool2d(self.conv(x), 5, stride=3)"),
)
ex.mistake(
    "no ReLU after fc1",
    "fc1 is followed by a ReLU.",
    edit=("F.relu(self.fc1(x.flatten(1)))", "self.fc1(x.flatten(1))"),
)
ex.mistake(
    "ReLU on the logits",
    "The head gives logits: no activation at the end.",
    edit=("self.fc2(self.dropout(x))", "F.relu(self.fc2(self.dropout(x)))"),
)
ex.mistake(
    "keeps 70 %",
    "70 % are dropped: nn.Dropout(0.7).",
    edit=("nn.Dropout(0.7)", "nn.Dropout(0.3)"),
)
ex.mistake(
    "drops half",
    "70 % are dropped: nn.Dropout(0.7).",
    edit=("nn.Dropout(0.7)", "nn.Dropout()"),
)
ex.mistake(
    "no dropout",
    "70 % of the values are dropped in training mode.",
    edit=("self.dropout(x)", "x"),
)
ex.mistake(
    "dropout in evaluation too",
    "Dropout is for training mode only.",
    edit=("self.fc2(self.dropout(x))", "self.fc2(F.dropout(x, 0.7))"),
)
ex.mistake(
    "dropout on the logits",
    "Dropout comes before fc2.",
    edit=("self.fc2(self.dropout(x))", "self.dropout(self.fc2(x))"),
)
ex.mistake(
    "conv_block is not used",
    "The unit is made by `conv_block`.",
    edit=("self.conv = conv_block(", "self.conv = ConvReLU("),
)
ex.mistake(
    "heads count in full",
    "Each head's loss has the factor 0.3.",
    edit=("weight * others", "others"),
)
ex.mistake(
    "the mean of the heads",
    "The heads' losses are added.",
    edit=("weight * others", "weight * others / max(len(heads), 1)"),
)
ex.mistake(
    "always 0.3",
    "`weight` is an argument.",
    edit=("weight * others", "0.3 * others"),
)
ex.mistake(
    "a weighted mean of all",
    "The main loss counts in full.",
    edit=(
        "F.cross_entropy(logits, labels) + weight * others",
        "(1 - weight) * F.cross_entropy(logits, labels) + weight * others",
    ),
)
ex.mistake(
    "only the first head",
    "Every head counts.",
    edit=("for head in heads)", "for head in heads[:1])"),
)
ex.mistake(
    "heads without gradient",
    "The heads are there to send gradients down: do not detach them.",
    edit=("F.cross_entropy(head, labels)", "F.cross_entropy(head.detach(), labels)"),
)
ex.mistake(
    "the loss of the added logits",
    "Each head has a loss of its own; logits are not added.",
    edit=(
        "F.cross_entropy(logits, labels) + weight * others",
        "F.cross_entropy(logits + weight * sum(heads), labels)",
    ),
)


ex.mistake(
    "subtracts each row's maximum in place",
    "The heads are the caller's: do not change them.",
    edit=(
        "    others = sum(",
        """    for head in heads:
        head.data -= head.data.amax(dim=1, keepdim=True)
    others = sum(""",
    ),
)
ex.mistake(
    "the same values are dropped in every call",
    "Dropout draws anew in each call.",
    edit=(
        "return self.fc2(self.dropout(x))",
        """if self.training and "mask" not in self.__dict__:
            self.mask = self.dropout(torch.ones_like(x))
        return self.fc2(x * self.mask if self.training else x)""",
    ),
)


@ex.alternative("one Sequential beside the names")
class AuxOfModules(nn.Module):
    def __init__(self, in_channels, num_classes, conv_block=None):
        super().__init__()
        self.pool = nn.AvgPool2d((5, 5), 3)
        self.conv = (conv_block or ConvReLU)(in_channels, 128, kernel_size=1, padding=0)
        self.fc1, self.fc2 = nn.Linear(128 * 4 * 4, 1024), nn.Linear(1024, num_classes)

    def forward(self, x):
        x = torch.flatten(self.conv(self.pool(x)), 1)
        x = self.fc1(x).clamp(min=0)
        return self.fc2(F.dropout(x, 0.7, self.training))


@ex.alternative("a loop over the losses", replaces="auxiliary_loss")
def _(logits, heads, labels, weight=0.3):
    loss = F.cross_entropy(logits.double(), labels)
    for other in heads:
        loss = loss + weight * F.nll_loss(other.log_softmax(dim=-1), labels)
    return loss


# ----------------------------------------------------------------------------------------------
# shortcut

ex = shortcut = Exercise("shortcut", defines=["make_shortcut"])


class Zeros(nn.Module):
    """Every stride-th pixel, and channels of zeros behind: the oracle of option A."""

    def __init__(self, out_channels: int, stride: int) -> None:
        super().__init__()
        self.out_channels, self.stride = out_channels, stride

    def forward(self, x: Tensor) -> Tensor:
        x = F.max_pool2d(x, 1, self.stride)
        batch, channels, height, width = x.shape
        empty = x.new_zeros(batch, self.out_channels - channels, height, width)
        return torch.cat([x, empty], dim=1)


def projection(in_channels: int, out_channels: int, stride: int) -> nn.Sequential:
    """The oracle of option B."""
    conv = nn.Conv2d(in_channels, out_channels, 1, stride, bias=False)
    return nn.Sequential(conv, nn.BatchNorm2d(out_channels))


def meta_shortcut(student: Any, args: Sequence[Any], shape: Sequence[int]) -> list[Any]:
    """A probe: shape and device where no tensor has data."""
    with torch.device("meta"):
        made = student.make_shortcut(*args)
    result = made(torch.empty(*shape, device="meta"))
    return [list(result.shape), result.device.type]


def moved_shortcut(student: Any, args: Sequence[Any], shape: Sequence[int]) -> list[Any]:
    """A probe: shape and device on the meta device, of a module that was made elsewhere."""
    result = student.make_shortcut(*args).to("meta")(torch.empty(*shape, device="meta"))
    return [list(result.shape), result.device.type]


@ex.check("names and shapes of the parameters", points=0.5)
def _(student):
    for args in [[3, 5, 2], [3, 5, 1, "projection"], [4, 4, 2]]:
        expect_shapes(student, "make_shortcut", args, projection(*args[:3]))
    for args in [[3, 3, 1], [3, 3, 1, "pad"], [3, 5, 2, "pad"]]:
        expect_shapes(student, "make_shortcut", args, nn.Identity())


@ex.check("projection", points=1)
def _(student):
    for args, shape in [
        ((3, 5, 2), (4, 3, 7, 6)),
        ((4, 6, 1), (2, 4, 3, 5)),
        ((3, 3, 2), (3, 3, 5, 8)),
        ((4, 2, 3), (3, 4, 8, 7)),
    ]:
        oracle, x = shaken(projection(*args)), torch.randn(*shape)
        compare(student, "make_shortcut", [*args, "projection"], oracle, x)
        compare(student, "make_shortcut", [*args], oracle, x, training=False)


@ex.check("zero-padded", points=1.5)
def _(student):
    for args, shape in [
        ((3, 5, 2), (2, 3, 7, 6)),
        ((2, 5, 1), (1, 2, 3, 4)),
        ((3, 3, 2), (3, 3, 4, 9)),
        ((2, 4, 3), (2, 2, 8, 7)),
    ]:
        x = torch.randn(*shape)
        other = [args[0], args[1] + 1, args[2] + 1, "pad"]
        compare(student, "make_shortcut", [*args, "pad"], Zeros(*args[1:]), x, other=other)
    x = torch.randn(2, 3, 5, 4).half()
    compare(student, "make_shortcut", [3, 5, 2, "pad"], Zeros(5, 2), x, dtype=True)


@ex.check("the identity, with either kind", points=0.5)
def _(student):
    for kind in ("projection", "pad"):
        compare(student, "make_shortcut", [4, 4, 1, kind], nn.Identity(), torch.randn(2, 4, 3, 5))


@ex.check("on the meta device", points=0.5)
def _(student):
    for kind in ("projection", "pad"):
        got = student.run(meta_shortcut, [4, 6, 2, kind], [3, 4, 9, 5])
        expect(got, [[3, 6, 5, 3], "meta"], f"shape and device, {kind}")
        got = student.run(moved_shortcut, [4, 6, 2, kind], [3, 4, 9, 5])
        expect(got, [[3, 6, 5, 3], "meta"], f"shape and device after .to('meta'), {kind}")


ex.mistake(
    "zeros in float32, whatever x is",
    "Zeros of another dtype change the dtype of the result: make them like x.",
    edit=(
        """            behind = (0, 0, 0, 0, 0, out_channels - in_channels)
            return F.pad(x[:, :, ::stride, ::stride], behind)""",
        """            x = x[:, :, ::stride, ::stride]
            more = (len(x), out_channels - in_channels, *x.shape[2:])
            return torch.cat([x, torch.zeros(more, device=x.device)], dim=1)""",
    ),
)
ex.mistake(
    "zeros before the channels",
    "By the convention stated the zeros come behind.",
    edit=(
        "(0, 0, 0, 0, 0, out_channels - in_channels)",
        "(0, 0, 0, 0, out_channels - in_channels, 0)",
    ),
)
ex.mistake(
    "zeros on both sides",
    "By the convention stated all zeros come behind.",
    edit=(
        "behind = (0, 0, 0, 0, 0, out_channels - in_channels)",
        "more = out_channels - in_channels\n"
        "            behind = (0, 0, 0, 0, more // 2, more - more // 2)",
    ),
)
ex.mistake(
    "starts with the second pixel",
    "The first pixel is taken: [::stride].",
    edit=("x[:, :, ::stride, ::stride]", "x[:, :, stride - 1 :: stride, stride - 1 :: stride]"),
)
ex.mistake(
    "averages instead of taking every stride-th pixel",
    "Pixels are taken, not averaged.",
    edit=(
        "x[:, :, ::stride, ::stride]",
        "F.avg_pool2d(x, stride, stride, ceil_mode=True)",
    ),
)
ex.mistake(
    "takes the maximum",
    "Pixels are taken, not pooled.",
    edit=("x[:, :, ::stride, ::stride]", "F.max_pool2d(x, stride, stride, ceil_mode=True)"),
)
ex.mistake(
    "skips rows only",
    "Height and width are both reduced.",
    edit=("x[:, :, ::stride, ::stride]", "x[:, :, ::stride]"),
)
ex.mistake(
    "repeats channels",
    "The new channels are zeros.",
    edit=(
        "return F.pad(x[:, :, ::stride, ::stride], behind)",
        "return torch.cat([x] * -(-out_channels // in_channels), 1)"
        "[:, :out_channels, ::stride, ::stride]",
    ),
)
ex.mistake(
    "the convolution has a bias",
    "The normalisation subtracts it again: bias=False.",
    edit=("1, stride, bias=False", "1, stride"),
)
ex.mistake(
    "no normalisation",
    "The projection is followed by batch normalisation.",
    edit=("            nn.BatchNorm2d(out_channels),\n", ""),
)
ex.mistake(
    "a kernel of 3",
    "The projection is 1 x 1.",
    edit=("out_channels, 1, stride, bias=False", "out_channels, 3, stride, 1, bias=False"),
)
ex.mistake(
    "stride 2 whatever is said",
    "`stride` is an argument.",
    edit=("out_channels, 1, stride, bias=False", "out_channels, 1, 2, bias=False"),
)
ex.mistake(
    "a ReLU on the projection",
    "The shortcut is linear.",
    edit=("nn.BatchNorm2d(out_channels),", "nn.BatchNorm2d(out_channels),\n            nn.ReLU(),"),
)
ex.mistake(
    "a projection where nothing changes",
    "With stride 1 and equal channels it is the identity.",
    edit=(
        "if stride == 1 and in_channels == out_channels",
        "if kind == 'pad' and stride == 1 and in_channels == out_channels",
    ),
)
ex.mistake(
    "identity whenever the channels are equal",
    "With stride 2 the shape changes too.",
    edit=("if stride == 1 and in_channels == out_channels", "if in_channels == out_channels"),
)
ex.mistake(
    "identity whenever the stride is 1",
    "With more channels the shape changes too.",
    edit=("if stride == 1 and in_channels == out_channels", "if stride == 1"),
)
ex.mistake(
    "always a projection",
    "`kind` says which of the two.",
    edit=('if kind == "projection"', "if True"),
)
ex.mistake(
    "pads by default",
    "The default is a projection.",
    edit=('kind: str = "projection"', 'kind: str = "pad"'),
)
ex.mistake(
    "zeros of the input's device forgotten",
    "New tensors belong on the device of x: x.new_zeros or F.pad.",
    edit=(
        """            behind = (0, 0, 0, 0, 0, out_channels - in_channels)
            return F.pad(x[:, :, ::stride, ::stride], behind)
""",
        """            x = x[:, :, ::stride, ::stride]
            empty = torch.zeros(len(x), out_channels - in_channels, *x.shape[2:], device="cpu")
            return torch.cat([x, empty], dim=1)
""",
    ),
)


ex.mistake(
    "zeros on the device where the module was made",
    "The module may be moved later: make the zeros in `forward`, on the device of x.",
    edit=[
        (
            "    class Pad(nn.Module):\n",
            "    here = torch.empty(0).device\n\n    class Pad(nn.Module):\n",
        ),
        (
            """            behind = (0, 0, 0, 0, 0, out_channels - in_channels)
            return F.pad(x[:, :, ::stride, ::stride], behind)
""",
            """            x = x[:, :, ::stride, ::stride]
            more = (len(x), out_channels - in_channels, *x.shape[2:])
            return torch.cat([x, torch.zeros(more, dtype=x.dtype, device=here)], dim=1)
""",
        ),
    ],
)
ex.mistake(
    "keeps the zeros of the first call",
    "The next batch may be larger or smaller: make the zeros in each call.",
    edit=(
        """            behind = (0, 0, 0, 0, 0, out_channels - in_channels)
            return F.pad(x[:, :, ::stride, ::stride], behind)
""",
        """            x = x[:, :, ::stride, ::stride]
            if "zeros" not in self.__dict__:
                self.zeros = x.new_zeros(len(x), out_channels - in_channels, *x.shape[2:])
            return torch.cat([x, self.zeros], dim=1)
""",
    ),
)
ex.mistake(
    "the numbers of the last shortcut hold for all",
    "Keep stride and channels on `self`, not in a global name or on the class.",
    edit=[
        (
            "    class Pad(nn.Module):\n",
            "    make_shortcut.last = out_channels, stride\n\n    class Pad(nn.Module):\n",
        ),
        (
            "            behind = (0,",
            "            out_channels, stride = make_shortcut.last\n            behind = (0,",
        ),
    ],
)


@ex.alternative("a zero in a buffer, which is expanded")
def _(in_channels, out_channels, stride, kind="projection"):
    class Padded(nn.Module):
        def __init__(self):
            super().__init__()
            self.register_buffer("zero", torch.zeros(1, 1, 1, 1))

        def forward(self, x):
            x = x[:, :, ::stride, ::stride]
            batch, channels, height, width = x.shape
            zeros = self.zero.to(x).expand(batch, out_channels - channels, height, width)
            return torch.cat([x, zeros], dim=1)

    if stride == 1 and in_channels == out_channels:
        return nn.Identity()
    if kind == "pad":
        return Padded()
    conv = nn.Conv2d(in_channels, out_channels, 1, stride, bias=False)
    return nn.Sequential(conv, nn.BatchNorm2d(out_channels))


@ex.alternative("a tensor of zeros that is filled")
def _(in_channels, out_channels, stride, kind="projection"):
    class Padded(nn.Module):
        def forward(self, x):
            b, c, h, w = x.shape
            out = x.new_zeros(b, out_channels, -(-h // stride), -(-w // stride))
            out[:, :c] = x[:, :, ::stride, ::stride]
            return out

    same = stride == 1 and in_channels == out_channels
    if kind == "pad":
        return nn.Sequential() if same else Padded()
    made = nn.Sequential()
    if not same:
        made.append(nn.Conv2d(in_channels, out_channels, (1, 1), (stride, stride), bias=False))
        made.append(nn.BatchNorm2d(out_channels))
    return made


@ex.alternative("a fixed convolution")
def _(in_channels, out_channels, stride, kind="projection"):
    class Fixed(nn.Module):
        def forward(self, x):
            eye = torch.eye(out_channels, in_channels, dtype=x.dtype, device=x.device)
            return F.conv2d(x, eye[:, :, None, None], stride=stride)

    if in_channels == out_channels and stride == 1:
        return nn.Identity()
    if kind == "pad":
        return Fixed()
    conv = nn.Conv2d(in_channels, out_channels, kernel_size=1, stride=stride, bias=False)
    return nn.Sequential(conv, nn.BatchNorm2d(out_channels))


# ----------------------------------------------------------------------------------------------
# basic_block

ex = basic_block = Exercise("basic_block", defines=["BasicBlock"])


def expansion(student: Any, name: str) -> int:
    """A probe: by how much the block widens, as the ResNet that is built of it asks."""
    return getattr(student, name).expansion


class Nothing(nn.Module):
    """The shortcut of a plain block."""

    def forward(self, x: Tensor) -> Tensor:
        return x.new_zeros(())


def shortcut_by_hand(in_channels: int, out_channels: int, stride: int, kind: str) -> Any:
    """What torchvision's blocks take as `downsample`."""
    if kind == "none":
        return Nothing()
    if stride == 1 and in_channels == out_channels:
        return None
    if kind == "pad":
        return Zeros(out_channels, stride)
    return projection(in_channels, out_channels, stride)


def basic(in_channels: int, channels: int, stride: int = 1, kind: Any = "projection") -> nn.Module:
    """The oracle: torchvision's block."""
    down = shortcut_by_hand(in_channels, channels, stride, kind)
    return shaken(resnet.BasicBlock(in_channels, channels, stride, down))


@ex.check("names and shapes of the parameters", points=0.5)
def _(student):
    note_settings(student, "BasicBlock", [3, 5, 2])
    every: list[Any] = [[3, 5, 2], [4, 4], [4, 4, 2, "pad"], [3, 5, 1, "none"]]
    for args in every:
        expect_shapes(student, "BasicBlock", args, basic(*args))
    expect(student.run(expansion, "BasicBlock"), 1, "expansion")


@ex.check("the identity as shortcut", points=1.5)
def _(student):
    for args, shape in [([4, 4], (3, 4, 5, 7)), ([3, 3, 1, "pad"], (2, 3, 6, 4))]:
        oracle, x = basic(*args), torch.randn(*shape)
        compare(student, "BasicBlock", args, oracle, x, other=[3, 5, 2, "none"])
        compare(student, "BasicBlock", args, oracle, 10 * x, training=False)


@ex.check("a projection", points=1)
def _(student):
    for args, shape in [
        ([3, 5, 2], (4, 3, 7, 6)),
        ([4, 2], (2, 4, 4, 5)),
        ([3, 3, 2], (4, 3, 6, 9)),
        ([2, 3, 3], (4, 2, 8, 7)),
    ]:
        compare(student, "BasicBlock", args, basic(*args), torch.randn(*shape))


@ex.check("zero-padded", points=1)
def _(student):
    for args, shape in [([3, 6, 2, "pad"], (4, 3, 7, 6)), ([2, 3, 1, "pad"], (2, 2, 4, 5))]:
        compare(student, "BasicBlock", args, basic(*args), torch.randn(*shape))


@ex.check("a plain block", points=0.5)
def _(student):
    for args, shape in [
        ([3, 3, 1, "none"], (4, 3, 5, 6)),
        ([2, 5, 2, "none"], (3, 2, 7, 8)),
        ([3, 3, 2, "none"], (3, 3, 6, 7)),
    ]:
        oracle, x = basic(*args), torch.randn(*shape)
        compare(student, "BasicBlock", args, oracle, x, other=[4, 4])


@ex.check("on the meta device, input unchanged", points=0.5)
def _(student):
    for kind in ("projection", "pad", "none"):
        got = student.run(shape_on_meta, "BasicBlock", [4, 6, 2, kind], [3, 4, 9, 5])
        expect(got, [3, 6, 5, 3], f"shape on the meta device, {kind}")
        x = torch.randn(2, 4, 5, 3)
        expect(student.run(input_after, "BasicBlock", [4, 4, 1, kind], x), x, "input afterwards")


BLOCK_MISTAKES = [
    (
        "no ReLU at the end",
        "A ReLU follows after the sum.",
        (
            "return F.relu(out if self.plain else out + self.downsample(x))",
            "return out if self.plain else out + self.downsample(x)",
        ),
    ),
    (
        "the ReLU before the sum only",
        "The ReLU comes after the sum: the block may also lower its input.",
        (
            "return F.relu(out if self.plain else out + self.downsample(x))",
            "return F.relu(out) if self.plain else F.relu(out) + self.downsample(x)",
        ),
    ),
    (
        "without the shortcut",
        "y = ReLU(S(x) + F(x)).",
        ("F.relu(out if self.plain else out + self.downsample(x))", "F.relu(out)"),
    ),
    (
        "subtracts the shortcut",
        "The shortcut is added.",
        ("out + self.downsample(x)", "out - self.downsample(x)"),
    ),
    (
        "multiplies",
        "The shortcut is added.",
        ("out + self.downsample(x)", "out * self.downsample(x)"),
    ),
    (
        "'none' is ignored",
        'With "none" there is no shortcut.',
        ('self.plain = shortcut == "none"', "self.plain = False"),
    ),
    (
        "the kind is not passed on",
        "make_shortcut needs to know which kind.",
        ("channels, stride, shortcut)", "channels, stride)"),
    ),
    (
        "the shortcut keeps the size",
        "The shortcut has the block's stride.",
        ("channels, stride, shortcut)", "channels, 1, shortcut)"),
    ),
    (
        "a ReLU on the shortcut",
        "The shortcut is linear.",
        ("out + self.downsample(x)", "out + F.relu(self.downsample(x))"),
    ),
    (
        "no ReLU after the first normalisation",
        "Without it two convolutions are one.",
        ("out = F.relu(self.bn1(self.conv1(x)))", "out = self.bn1(self.conv1(x))"),
    ),
    (
        "ReLU before the first normalisation",
        "First normalise, then the ReLU.",
        ("out = F.relu(self.bn1(self.conv1(x)))", "out = self.bn1(F.relu(self.conv1(x)))"),
    ),
    (
        "what is asked of the last block holds for all",
        "Keep the options on `self`: what is kept on the class belongs to all blocks.",
        ("self.plain = shortcut", "type(self).plain = shortcut"),
    ),
    (
        "every stride above 1 is taken for 2",
        "`stride` is any number: use it as it is.",
        [
            ("channels, 3, stride, padding=1", "channels, 3, min(stride, 2), padding=1"),
            ("channels, stride, shortcut)", "channels, min(stride, 2), shortcut)"),
        ],
    ),
    (
        "the first normalisation is not used",
        "Each convolution is followed by its normalisation.",
        ("F.relu(self.bn1(self.conv1(x)))", "F.relu(self.conv1(x))"),
    ),
]
for name, hint, edit in BLOCK_MISTAKES:
    ex.mistake(name, hint, edit=edit)
ex.mistake(
    "ReLU before and after the sum",
    "Only the sum passes through the ReLU: otherwise F could never lower x.",
    edit=("out = self.bn2(self.conv2(out))", "out = F.relu(self.bn2(self.conv2(out)))"),
)
ex.mistake(
    "the stride in the second convolution",
    "The first convolution has the stride.",
    edit=[
        ("channels, 3, stride, padding=1", "channels, 3, padding=1"),
        (
            "nn.Conv2d(channels, channels, 3, padding=1, bias=False)",
            "nn.Conv2d(channels, channels, 3, stride, padding=1, bias=False)",
        ),
    ],
)
ex.mistake(
    "convolutions with bias",
    "No convolution has a bias here: the normalisation would subtract it.",
    edit=[
        ("3, stride, padding=1, bias=False", "3, stride, padding=1"),
        ("channels, channels, 3, padding=1, bias=False", "channels, channels, 3, padding=1"),
    ],
)
ex.mistake(
    "a plain block of equal channels keeps the size",
    "The first convolution has the stride, with and without a shortcut.",
    edit=(
        "channels, 3, stride, padding=1",
        'channels, 3, stride if shortcut != "none" or in_channels != channels else 1, padding=1',
    ),
)
ex.mistake(
    "the second normalisation is not used",
    "Each convolution is followed by its normalisation.",
    edit=("out = self.bn2(self.conv2(out))", "out = self.conv2(out)"),
)
ex.mistake(
    "one normalisation for both",
    "Each convolution has its own.",
    edit=("out = self.bn2(self.conv2(out))", "out = self.bn1(self.conv2(out))"),
)
ex.mistake(
    "the shortcut starts after the first convolution",
    "The shortcut starts at x.",
    edit=[
        ("out = F.relu(self.bn1(self.conv1(x)))", "first = out = F.relu(self.bn1(self.conv1(x)))"),
        (
            "out + self.downsample(x)",
            "out + (first if first.shape == x.shape else self.downsample(x))",
        ),
    ],
)


@ex.alternative("torchvision's style, in place")
class BasicBlockInPlace(nn.Module):
    expansion = 1

    def __init__(self, in_channels, channels, stride=1, shortcut="projection"):
        super().__init__()
        self.conv1 = nn.Conv2d(in_channels, channels, 3, stride, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(channels)
        self.relu = nn.ReLU(inplace=True)
        self.conv2 = nn.Conv2d(channels, channels, kernel_size=3, padding="same", bias=False)
        self.bn2 = nn.BatchNorm2d(channels)
        self.downsample = None
        if shortcut != "none":
            self.downsample = make_shortcut(in_channels, channels, stride, shortcut)

    def forward(self, x):
        out = self.relu(self.bn1(self.conv1(x)))
        out = self.bn2(self.conv2(out))
        if self.downsample is not None:
            out += self.downsample(x)
        return self.relu(out)


@ex.alternative("one Sequential under the required names")
class BasicBlockOfParts(nn.Module):
    expansion = 1

    def __init__(self, in_channels, channels, stride=1, shortcut="projection"):
        super().__init__()
        options = {"kernel_size": 3, "padding": 1, "bias": False}
        self.conv1 = nn.Conv2d(in_channels, channels, stride=(stride, stride), **options)
        self.conv2 = nn.Conv2d(channels, channels, **options)
        self.bn1, self.bn2 = nn.BatchNorm2d(channels), nn.BatchNorm2d(channels)
        if shortcut == "none":
            self.add_module("downsample", None)
        else:
            self.add_module("downsample", make_shortcut(in_channels, channels, stride, shortcut))

    def forward(self, x):
        branch = nn.Sequential(self.conv1, self.bn1, nn.ReLU(), self.conv2, self.bn2)
        total = branch(x)
        if self.downsample is not None:
            total = self.get_submodule("downsample")(x) + total
        return torch.where(total > 0, total, 0.0)


# ----------------------------------------------------------------------------------------------
# bottleneck

ex = bottleneck = Exercise("bottleneck", defines=["Bottleneck"])


def narrow(in_channels: int, channels: int, stride: int = 1, kind: Any = "projection") -> nn.Module:
    """The oracle: torchvision's block."""
    down = shortcut_by_hand(in_channels, 4 * channels, stride, kind)
    return shaken(resnet.Bottleneck(in_channels, channels, stride, down))


@ex.check("names and shapes of the parameters", points=0.5)
def _(student):
    note_settings(student, "Bottleneck", [6, 2, 2])
    every: list[Any] = [[6, 2, 2], [8, 2], [4, 3], [4, 2, 2, "pad"], [3, 2, 1, "none"]]
    for args in every:
        expect_shapes(student, "Bottleneck", args, narrow(*args))
    expect(student.run(expansion, "Bottleneck"), 4, "expansion")


@ex.check("the identity as shortcut", points=1)
def _(student):
    for args, shape in [([8, 2], (3, 8, 5, 7)), ([12, 3, 1, "pad"], (2, 12, 6, 4))]:
        oracle, x = narrow(*args), torch.randn(*shape)
        compare(student, "Bottleneck", args, oracle, x, other=[3, 2, 2, "none"])
        compare(student, "Bottleneck", args, oracle, 10 * x, training=False)


@ex.check("a projection", points=1)
def _(student):
    for args, shape in [
        ([3, 2, 2], (4, 3, 7, 6)),
        ([4, 3], (2, 4, 4, 5)),
        ([8, 2, 2], (4, 8, 6, 9)),
        ([3, 2, 3], (4, 3, 8, 7)),
    ]:
        compare(student, "Bottleneck", args, narrow(*args), torch.randn(*shape))


@ex.check("zero-padded and plain", points=0.5)
def _(student):
    for args, shape in [
        ([3, 2, 2, "pad"], (4, 3, 7, 6)),
        ([4, 2, 1, "none"], (3, 4, 4, 5)),
        ([8, 2, 2, "none"], (3, 8, 6, 5)),
    ]:
        compare(student, "Bottleneck", args, narrow(*args), torch.randn(*shape))


@ex.check("on the meta device, input unchanged", points=0.5)
def _(student):
    for kind in ("projection", "pad", "none"):
        got = student.run(shape_on_meta, "Bottleneck", [4, 2, 2, kind], [3, 4, 9, 5])
        expect(got, [3, 8, 5, 3], f"shape on the meta device, {kind}")
        x = torch.randn(2, 8, 5, 3)
        expect(student.run(input_after, "Bottleneck", [8, 2, 1, kind], x), x, "input afterwards")


for name, hint, edit in BLOCK_MISTAKES:
    ex.mistake(name, hint, edit=edit)
ex.mistake(
    "the paper's stride",
    "By the convention stated the 3 x 3 has the stride, not the first 1 x 1.",
    edit=[
        (
            "nn.Conv2d(in_channels, channels, 1, bias=False)",
            "nn.Conv2d(in_channels, channels, 1, stride, bias=False)",
        ),
        ("channels, channels, 3, stride, padding=1", "channels, channels, 3, padding=1"),
    ],
)
ex.mistake(
    "the stride in the last convolution",
    "By the convention stated the 3 x 3 has the stride.",
    edit=[
        ("channels, channels, 3, stride, padding=1", "channels, channels, 3, padding=1"),
        ("4 * channels, 1, bias=False", "4 * channels, 1, stride, bias=False"),
    ],
)
ex.mistake(
    "no expansion",
    "The last convolution gives 4 * channels.",
    edit=[
        (
            "nn.Conv2d(channels, 4 * channels, 1, bias=False)",
            "nn.Conv2d(channels, channels, 1, bias=False)",
        ),
        ("nn.BatchNorm2d(4 * channels)", "nn.BatchNorm2d(channels)"),
        ("make_shortcut(in_channels, 4 * channels", "make_shortcut(in_channels, channels"),
    ],
)
ex.mistake(
    "channels is the width of the result",
    "`channels` is the width inside; the result has four times as many.",
    edit=(
        "        super().__init__()\n",
        "        super().__init__()\n        channels = channels // 2\n",
    ),
)
ex.mistake(
    "no ReLU after the 3 x 3",
    "A ReLU follows after the second normalisation too.",
    edit=("out = F.relu(self.bn2(self.conv2(out)))", "out = self.bn2(self.conv2(out))"),
)
ex.mistake(
    "ReLU before and after the sum",
    "Only the sum passes through the ReLU: otherwise F could never lower x.",
    edit=("out = self.bn3(self.conv3(out))", "out = F.relu(self.bn3(self.conv3(out)))"),
)
ex.mistake(
    "the last normalisation is not used",
    "Each convolution is followed by its normalisation.",
    edit=("out = self.bn3(self.conv3(out))", "out = self.conv3(out)"),
)
ex.mistake(
    "the last convolution has a bias",
    "No convolution has a bias here.",
    edit=("4 * channels, 1, bias=False", "4 * channels, 1"),
)
ex.mistake(
    "no padding in the 3 x 3",
    "The 3 x 3 has padding 1.",
    edit=("3, stride, padding=1", "3, stride, padding=0"),
)


@ex.alternative("torchvision's style, in place")
class BottleneckInPlace(nn.Module):
    expansion = 4

    def __init__(self, in_channels, channels, stride=1, shortcut="projection"):
        super().__init__()
        out = channels * self.expansion
        self.conv1 = nn.Conv2d(in_channels, channels, kernel_size=1, bias=False)
        self.bn1 = nn.BatchNorm2d(channels)
        self.conv2 = nn.Conv2d(channels, channels, 3, stride=stride, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(channels)
        self.conv3 = nn.Conv2d(channels, out, kernel_size=1, bias=False)
        self.bn3 = nn.BatchNorm2d(out)
        self.relu = nn.ReLU(inplace=True)
        self.downsample = None
        if shortcut != "none":
            self.downsample = make_shortcut(in_channels, out, stride, shortcut)

    def forward(self, x):
        out = self.relu(self.bn1(self.conv1(x)))
        out = self.relu(self.bn2(self.conv2(out)))
        out = self.bn3(self.conv3(out))
        if self.downsample is not None:
            out += self.downsample(x)
        return self.relu(out)


@ex.alternative("a loop over three layers")
class BottleneckByLoop(nn.Module):
    expansion = 4

    def __init__(self, in_channels, channels, stride=1, shortcut="projection"):
        super().__init__()
        plan = [(in_channels, channels, 1, 1), (channels, channels, 3, stride)]
        plan.append((channels, channels * 4, 1, 1))
        for i, (before, after, size, step) in enumerate(plan, start=1):
            conv = nn.Conv2d(before, after, size, step, size // 2, bias=False)
            self.add_module(f"conv{i}", conv)
            self.add_module(f"bn{i}", nn.BatchNorm2d(after))
        if shortcut != "none":
            self.downsample = make_shortcut(in_channels, channels * 4, stride, shortcut)
        self.kind = shortcut

    def forward(self, x):
        out = x
        for i in (1, 2, 3):
            out = self.get_submodule(f"bn{i}")(self.get_submodule(f"conv{i}")(out))
            if i < 3:
                out = out.clamp(min=0)
        return torch.relu(out if self.kind == "none" else torch.add(self.downsample(x), out))


# ----------------------------------------------------------------------------------------------
# dense

ex = dense = Exercise("dense", defines=["DenseLayer", "DenseBlock", "Transition"])


@ex.check("names and shapes of the parameters", points=0.5)
def _(student):
    for name, args, oracle in [
        ("DenseLayer", [5, 3], densenet._DenseLayer(5, 3, 4, 0.0)),
        ("DenseBlock", [3, 5, 2], densenet._DenseBlock(3, 5, 4, 2, 0.0)),
        ("DenseBlock", [11, 2, 1], densenet._DenseBlock(11, 2, 4, 1, 0.0)),
        ("Transition", [6, 4], densenet._Transition(6, 4)),
    ]:
        note_settings(student, name, args)
        expect_shapes(student, name, args, oracle)


@ex.check("a dense layer", points=1.5)
def _(student):
    for args, shape in [([5, 3], (4, 5, 7, 6)), ([2, 4], (3, 2, 3, 5))]:
        oracle = shaken(densenet._DenseLayer(args[0], args[1], 4, 0.0))
        x = torch.randn(*shape)
        compare(student, "DenseLayer", args, oracle, x)
        compare(student, "DenseLayer", args, oracle, x, training=False)


@ex.check("a dense block", points=2)
def _(student):
    for args, shape in [
        ([3, 4, 2], (3, 4, 5, 6)),
        ([1, 3, 2], (4, 3, 4, 3)),
        ([4, 2, 3], (2, 2, 6, 7)),
        ([11, 2, 1], (2, 2, 3, 4)),
    ]:
        oracle = shaken(densenet._DenseBlock(args[0], args[1], 4, args[2], 0.0))
        compare(student, "DenseBlock", args, oracle, torch.randn(*shape), training=False)
    oracle = shaken(densenet._DenseBlock(2, 3, 4, 2, 0.0))
    compare(student, "DenseBlock", [2, 3, 2], oracle, torch.randn(4, 3, 5, 6))


@ex.check("a transition", points=1)
def _(student):
    for args, shape in [([6, 4], (3, 6, 7, 4)), ([3, 5], (4, 3, 6, 9))]:
        oracle, x = shaken(densenet._Transition(*args)), torch.randn(*shape)
        compare(student, "Transition", args, oracle, x)
        compare(student, "Transition", args, oracle, x, training=False)


@ex.check("on the meta device, input unchanged", points=0.5)
def _(student):
    for name, args, out in [
        ("DenseLayer", [4, 3], [2, 3, 5, 6]),
        ("DenseBlock", [2, 4, 3], [2, 10, 5, 6]),
        ("Transition", [4, 3], [2, 3, 2, 3]),
    ]:
        got = student.run(shape_on_meta, name, args, [2, 4, 5, 6])
        expect(got, out, f"{name}: shape on the meta device")
        x = torch.randn(2, 4, 5, 6)
        expect(student.run(input_after, name, args, x), x, f"{name}: input afterwards")


ex.mistake(
    "normalisation after the convolutions",
    "In DenseNet normalisation and ReLU come before each convolution.",
    edit=[
        ("self.norm1 = nn.BatchNorm2d(in_channels)", "self.norm1 = nn.BatchNorm2d(4 * growth)"),
        ("self.norm2 = nn.BatchNorm2d(4 * growth)", "self.norm2 = nn.BatchNorm2d(growth)"),
        ("x = self.conv1(F.relu(self.norm1(x)))", "x = F.relu(self.norm1(self.conv1(x)))"),
        ("return self.conv2(F.relu(self.norm2(x)))", "return F.relu(self.norm2(self.conv2(x)))"),
    ],
)
ex.mistake(
    "no ReLU before the first convolution",
    "norm1 is followed by a ReLU.",
    edit=("self.conv1(F.relu(self.norm1(x)))", "self.conv1(self.norm1(x))"),
)
ex.mistake(
    "no ReLU before the second convolution",
    "norm2 is followed by a ReLU.",
    edit=("self.conv2(F.relu(self.norm2(x)))", "self.conv2(self.norm2(x))"),
)
ex.mistake(
    "the ReLU before the normalisation",
    "First normalise, then the ReLU.",
    edit=("self.conv1(F.relu(self.norm1(x)))", "self.conv1(self.norm1(F.relu(x)))"),
)
ex.mistake(
    "a ReLU on the result of the layer",
    "A dense layer ends with its convolution.",
    edit=(
        "return self.conv2(F.relu(self.norm2(x)))",
        "return F.relu(self.conv2(F.relu(self.norm2(x))))",
    ),
)
ex.mistake(
    "a bottleneck of the growth alone",
    "The first convolution gives 4 * growth channels.",
    edit=[
        (
            "nn.Conv2d(in_channels, 4 * growth, 1, bias=False)",
            "nn.Conv2d(in_channels, growth, 1, bias=False)",
        ),
        ("nn.BatchNorm2d(4 * growth)", "nn.BatchNorm2d(growth)"),
        ("nn.Conv2d(4 * growth, growth, 3", "nn.Conv2d(growth, growth, 3"),
    ],
)
ex.mistake(
    "the layer returns its input too",
    "A layer gives the new channels alone; the block puts them together.",
    edit=[
        (
            "        x = self.conv1(F.relu(self.norm1(x)))",
            "        given = x\n        x = self.conv1(F.relu(self.norm1(x)))",
        ),
        (
            "return self.conv2(F.relu(self.norm2(x)))",
            "return torch.cat([given, self.conv2(F.relu(self.norm2(x)))], 1)",
        ),
        ("x = torch.cat([x, layer(x)], dim=1)", "x = layer(x)"),
    ],
)
ex.mistake(
    "new channels in front",
    "The order is that of time: the block's input first.",
    edit=("torch.cat([x, layer(x)], dim=1)", "torch.cat([layer(x), x], dim=1)"),
)
ex.mistake(
    "layers count from 0",
    "The first layer is called denselayer1.",
    edit=('f"denselayer{i + 1}"', 'f"denselayer{i}"'),
)
ex.mistake(
    "every layer has the block's input width",
    "Layer l sees in_channels + (l - 1) * growth channels.",
    edit=("in_channels + i * growth, growth", "in_channels, growth"),
)
ex.mistake(
    "the layers in alphabetical order",
    "Sorted by name, denselayer10 comes before denselayer2: keep the order of the layers.",
    edit=("for layer in self.children():", "for _, layer in sorted(self.named_children()):"),
)
ex.mistake(
    "average pooling with stride 1",
    "The transition halves height and width.",
    edit=("self.conv(F.relu(self.norm(x))), 2)", "self.conv(F.relu(self.norm(x))), 2, 1)"),
)
ex.mistake(
    "max pooling in the transition",
    "The transition averages.",
    edit=("F.avg_pool2d(", "F.max_pool2d("),
)
ex.mistake(
    "no ReLU in the transition",
    "norm is followed by a ReLU.",
    edit=("self.conv(F.relu(self.norm(x)))", "self.conv(self.norm(x))"),
)
ex.mistake(
    "the transition pools first",
    "The ReLU does not commute with the mean: pool after it.",
    edit=(
        "F.avg_pool2d(self.conv(F.relu(self.norm(x))), 2)",
        "self.conv(F.relu(self.norm(F.avg_pool2d(x, 2))))",
    ),
)
ex.mistake(
    "convolutions with bias",
    "No convolution has a bias here.",
    edit=[
        ("4 * growth, 1, bias=False", "4 * growth, 1"),
        ("growth, 3, padding=1, bias=False", "growth, 3, padding=1"),
        ("out_channels, 1, bias=False", "out_channels, 1"),
    ],
)


@ex.mistake(
    "the block returns the new channels alone",
    "The block gives its input too.",
    replaces="DenseBlock",
)
class OnlyNew(nn.Module):
    def __init__(self, layers, in_channels, growth):
        super().__init__()
        for i in range(layers):
            self.add_module(f"denselayer{i + 1}", DenseLayer(in_channels + i * growth, growth))

    def forward(self, x):
        channels = x.shape[1]
        for layer in self.children():
            x = torch.cat([x, layer(x)], dim=1)
        return x[:, channels:]


@ex.mistake(
    "the results of the call before are still in the list",
    "A list that is made in `__init__` grows with every call: make it in `forward`.",
    replaces="DenseBlock",
)
class NeverEmptied(nn.Module):
    def __init__(self, layers, in_channels, growth):
        super().__init__()
        self.found = []
        for i in range(layers):
            self.add_module(f"denselayer{i + 1}", DenseLayer(in_channels + i * growth, growth))

    def forward(self, x):
        self.found.append(x)
        for layer in self.children():
            self.found.append(layer(torch.cat(self.found, dim=1)))
        return torch.cat(self.found, dim=1)


@ex.mistake(
    "each layer sees only the layer before",
    "A layer gets the results of all layers before it.",
    replaces="DenseBlock",
)
class OnlyLast(nn.Module):
    def __init__(self, layers, in_channels, growth):
        super().__init__()
        for i in range(layers):
            self.add_module(f"denselayer{i + 1}", DenseLayer(growth if i else in_channels, growth))

    def forward(self, x):
        found = [x]
        for layer in self.children():
            found.append(layer(found[-1]))
        return torch.cat(found, dim=1)


@ex.mistake("changes its input", "An in-place ReLU on the input changes it.", replaces="Transition")
class InPlaceTransition(nn.Module):
    def __init__(self, in_channels, out_channels):
        super().__init__()
        self.norm = nn.BatchNorm2d(in_channels)
        self.conv = nn.Conv2d(in_channels, out_channels, 1, bias=False)

    def forward(self, x):
        with torch.no_grad():
            x.copy_(F.relu(self.norm(x)))
        return F.avg_pool2d(self.conv(x), 2)


@ex.alternative("a list of results, concatenated for each layer", replaces="DenseBlock")
class BlockOfList(nn.Module):
    def __init__(self, layers, in_channels, growth):
        super().__init__()
        width = in_channels
        for i in range(1, layers + 1):
            setattr(self, f"denselayer{i}", DenseLayer(width, growth))
            width += growth
        self.layers = layers

    def forward(self, x):
        found = [x]
        for i in range(1, self.layers + 1):
            found.append(getattr(self, f"denselayer{i}")(torch.cat(found, 1)))
        return torch.cat(found, 1)


@ex.alternative("layers in a ModuleList too", replaces="DenseBlock")
class BlockOfModuleList(nn.Module):
    def __init__(self, layers, in_channels, growth):
        super().__init__()
        self.layers = nn.ModuleList()
        for i in range(layers):
            self.layers.append(DenseLayer(in_channels + i * growth, growth))
            setattr(self, f"denselayer{i + 1}", self.layers[i])

    def forward(self, x):
        for layer in self.layers:
            x = torch.cat([x, layer(x)], dim=1)
        return x


@ex.alternative("the mean before the convolution", replaces="Transition")
class PoolThenConvolve(nn.Module):
    def __init__(self, in_channels, out_channels):
        super().__init__()
        self.norm = nn.BatchNorm2d(in_channels)
        self.relu = nn.ReLU(inplace=True)
        self.pool = nn.AvgPool2d(2, 2)
        self.conv = nn.Conv2d(in_channels, out_channels, kernel_size=1, bias=False)

    def forward(self, x):
        return self.conv(self.pool(self.relu(self.norm(x))))


@ex.alternative("a layer that is a Sequential", replaces="DenseLayer")
class LayerOfSequence(nn.Sequential):
    def __init__(self, in_channels, growth):
        super().__init__()
        self.add_module("norm1", nn.BatchNorm2d(in_channels))
        self.add_module("relu1", nn.ReLU(inplace=True))
        self.add_module("conv1", nn.Conv2d(in_channels, growth * 4, (1, 1), bias=False))
        self.add_module("norm2", nn.BatchNorm2d(growth * 4))
        self.add_module("relu2", nn.ReLU(inplace=True))
        self.add_module("conv2", nn.Conv2d(growth * 4, growth, 3, 1, 1, bias=False))


# ----------------------------------------------------------------------------------------------
# mbconv

ex = mbconv = Exercise("mbconv", defines=["SqueezeExcite", "MBConv"])


def excite(channels: int, squeezed: int) -> nn.Module:
    """The oracle: torchvision's."""
    return SqueezeExcitation(channels, squeezed, activation=nn.SiLU)


class Inverted(nn.Module):
    """The oracle, for widths that are no multiples of 8 too."""

    def __init__(
        self, before: int, after: int, kernel: int = 3, stride: int = 1, expand: int = 6
    ) -> None:
        super().__init__()
        wide = before * expand

        def part(a: int, b: int, act: bool = True, **options: Any) -> nn.Sequential:
            layers = [nn.Conv2d(a, b, bias=False, **options), nn.BatchNorm2d(b)]
            return nn.Sequential(*layers, *([nn.SiLU()] if act else []))

        options: dict[str, Any] = {"kernel_size": kernel, "stride": stride}
        options["padding"] = (kernel - 1) // 2
        self.block = nn.Sequential(
            *[part(before, wide, kernel_size=1) for _ in range(expand > 1)],
            part(wide, wide, groups=wide, **options),
            excite(wide, max(1, before // 4)),
            part(wide, after, act=False, kernel_size=1),
        )
        self.skip = (before, 1) == (after, stride)

    def forward(self, x: Tensor) -> Tensor:
        return self.block(x) + x if self.skip else self.block(x)


@ex.check("names and shapes of the parameters", points=1)
def _(student):
    for args in [[5, 7], [4, 4, 5, 2, 1], [2, 3, 3, 1, 4]]:
        note_settings(student, "MBConv", args)
        expect_shapes(student, "MBConv", args, Inverted(*args))
    expect_shapes(student, "SqueezeExcite", [6, 2], excite(6, 2))


@ex.check("squeeze-and-excitation", points=1.5)
def _(student):
    for args, shape in [
        ([6, 2], (3, 6, 5, 4)),
        ([3, 5], (1, 3, 2, 7)),
        ([1, 2], (3, 1, 3, 4)),
    ]:
        compare(student, "SqueezeExcite", args, excite(*args), 3 * torch.randn(*shape) + 1)


@ex.check("with the input added", points=1)
def _(student):
    for args, shape in [
        ([4, 4], (3, 4, 6, 5)),
        ([5, 5, 5, 1, 2], (2, 5, 4, 7)),
        ([3, 3, 7, 1, 2], (3, 3, 5, 4)),
    ]:
        oracle, x = shaken(Inverted(*args)), torch.randn(*shape)
        compare(student, "MBConv", args, oracle, x, other=[4, 6, 3, 2])
        compare(student, "MBConv", args, oracle, x, training=False)


@ex.check("without", points=1)
def _(student):
    for args, shape in [
        ([4, 6], (3, 4, 6, 5)),
        ([3, 3, 3, 2, 4], (4, 3, 7, 6)),
        ([4, 5, 5, 2, 3], (3, 4, 8, 9)),
        ([4, 4, 3, 2], (3, 4, 1, 1)),
        ([3, 4, 1, 1, 2], (3, 3, 4, 5)),
    ]:
        oracle, x = shaken(Inverted(*args)), torch.randn(*shape)
        compare(student, "MBConv", args, oracle, x, other=[4, 4])


@ex.check("without expansion", points=0.5)
def _(student):
    for args, shape in [([6, 4, 3, 1, 1], (3, 6, 4, 5)), ([4, 4, 5, 1, 1], (2, 4, 6, 7))]:
        compare(student, "MBConv", args, shaken(Inverted(*args)), torch.randn(*shape))


@ex.check("torchvision's block, the meta device, input unchanged", points=1)
def _(student):
    for before, after, stride in [(8, 8, 1), (16, 8, 2)]:
        config = efficientnet.MBConvConfig(6, 5, stride, before, after, 1)
        oracle = shaken(efficientnet.MBConv(config, 0.0, nn.BatchNorm2d))
        x = torch.randn(2, before, 5, 6)
        compare(student, "MBConv", [before, after, 5, stride, 6], oracle, x, training=False)
    got = student.run(shape_on_meta, "MBConv", [4, 6, 3, 2], [3, 4, 9, 5])
    expect(got, [3, 6, 5, 3], "shape on the meta device")
    for args in ([4, 4], [4, 4, 3, 1, 1]):
        x = torch.randn(2, 4, 5, 3)
        expect(student.run(input_after, "MBConv", args, x), x, "input afterwards")


ex.mistake(
    "a quarter of the expanded width",
    "The squeeze has a quarter of the block's input channels.",
    edit=("max(1, in_channels // 4)", "max(1, wide // 4)"),
)
ex.mistake(
    "the squeeze may have no channels",
    "A quarter of 3 is 0: at least one channel.",
    edit=("max(1, in_channels // 4)", "in_channels // 4"),
)
ex.mistake(
    "ReLU for SiLU in the block",
    "EfficientNet's activation is SiLU.",
    edit=(
        "depthwise, nn.BatchNorm2d(wide), nn.SiLU()",
        "depthwise, nn.BatchNorm2d(wide), nn.ReLU()",
    ),
)
ex.mistake(
    "ReLU for SiLU in the squeeze",
    "By the convention stated the squeeze has SiLU (Hu et al. had ReLU).",
    edit=("F.silu(scale)", "F.relu(scale)"),
)
ex.mistake(
    "an activation after the projection",
    "The narrow end is linear: no activation.",
    edit=(
        "projection, nn.BatchNorm2d(out_channels))",
        "projection, nn.BatchNorm2d(out_channels), nn.SiLU())",
    ),
)
ex.mistake(
    "an ordinary convolution for the depthwise one",
    "Each filter sees one channel: groups = e.",
    edit=(", groups=wide", ""),
)
ex.mistake(
    "padding 1 for every kernel",
    "The padding is kernel // 2.",
    edit=("stride, kernel // 2, groups", "stride, 1, groups"),
)
ex.mistake(
    "the stride in the expansion",
    "The depthwise convolution has the stride.",
    edit=[
        (
            "nn.Conv2d(in_channels, wide, 1, bias=False)",
            "nn.Conv2d(in_channels, wide, 1, stride, bias=False)",
        ),
        ("kernel, stride, kernel // 2", "kernel, 1, kernel // 2"),
    ],
)
ex.mistake(
    "adds the input in evaluation only",
    "The shortcut is there in both modes.",
    edit=("if self.residual else out", "if self.residual and not self.training else out"),
)
ex.mistake(
    "never adds the input",
    "With stride 1 and equal channels the input is added.",
    edit=("return x + out if self.residual else out", "return out"),
)
ex.mistake(
    "adds the input whenever the shapes fit",
    "With stride 2 there is no shortcut, also where the shapes happen to be equal.",
    edit=("stride == 1 and in_channels == out_channels", "in_channels == out_channels"),
)
ex.mistake(
    "adds the input whenever the stride is 1",
    "The channels have to be equal too.",
    edit=("stride == 1 and in_channels == out_channels", "stride == 1"),
)
ex.mistake(
    "expands even by 1",
    "With expand = 1 there is no expansion.",
    edit=("if expand != 1:", "if True:"),
)
ex.mistake(
    "always expands by 6",
    "`expand` is an argument.",
    edit=(
        "wide, layers = expand * in_channels, []",
        "wide, layers = (6 if expand > 1 else 1) * in_channels, []",
    ),
)
ex.mistake(
    "the sum for the mean",
    "The squeeze takes the mean over the pixels.",
    edit=("x.mean(dim=(2, 3), keepdim=True)", "x.sum(dim=(2, 3), keepdim=True)"),
)
ex.mistake(
    "the maximum for the mean",
    "The squeeze takes the mean over the pixels.",
    edit=("x.mean(dim=(2, 3), keepdim=True)", "x.amax(dim=(2, 3), keepdim=True)"),
)
ex.mistake(
    "a mean over the batch too",
    "Each image has its own scales.",
    edit=("x.mean(dim=(2, 3), keepdim=True)", "x.mean(dim=(0, 2, 3), keepdim=True)"),
)
ex.mistake(
    "no sigmoid",
    "The scales lie between 0 and 1: a sigmoid.",
    edit=("torch.sigmoid(self.fc2(F.silu(scale)))", "self.fc2(F.silu(scale))"),
)
ex.mistake(
    "softmax for the sigmoid",
    "Channels do not compete: each has its own sigmoid.",
    edit=(
        "torch.sigmoid(self.fc2(F.silu(scale)))",
        "torch.softmax(self.fc2(F.silu(scale)), dim=1)",
    ),
)
ex.mistake(
    "adds the scales",
    "The scales multiply the input.",
    edit=("x * torch.sigmoid", "x + torch.sigmoid"),
)
ex.mistake(
    "returns the scales",
    "The scales multiply the input.",
    edit=("x * torch.sigmoid(self.fc2(F.silu(scale)))", "torch.sigmoid(self.fc2(F.silu(scale)))"),
)
ex.mistake(
    "no activation between fc1 and fc2",
    "SiLU stands between them.",
    edit=("self.fc2(F.silu(scale))", "self.fc2(scale)"),
)
ex.mistake(
    "convolutions with bias",
    "Beside the squeeze no convolution has a bias.",
    edit=("groups=wide, bias=False)", "groups=wide)"),
)
ex.mistake(
    "squeeze after the projection",
    "The squeeze stands between the depthwise convolution and the projection.",
    edit=[
        ("            SqueezeExcite(wide, max(1, in_channels // 4)),\n", ""),
        (
            "nn.Sequential(projection, nn.BatchNorm2d(out_channels)),\n",
            "nn.Sequential(projection, nn.BatchNorm2d(out_channels)),\n"
            "            SqueezeExcite(out_channels, max(1, in_channels // 4)),\n",
        ),
    ],
)


ex.mistake(
    "padding right for kernels of 3 and 5 only",
    "The padding is kernel // 2: 0 for a kernel of 1, 3 for one of 7.",
    edit=("stride, kernel // 2, groups", "stride, 1 if kernel < 5 else 2, groups"),
)
ex.mistake(
    "the last block decides who adds the input",
    "Keep it on `self`: what is kept on the class belongs to all blocks.",
    edit=("self.residual = ", "MBConv.residual = "),
)
ex.mistake(
    "a single channel is squeezed away",
    "`squeeze()` drops every dimension of size 1, that of the channels or images too.",
    edit=(
        "return x * torch.sigmoid(self.fc2(F.silu(scale)))",
        "return x * torch.sigmoid(self.fc2(F.silu(scale))).squeeze()[..., None, None]",
    ),
)
ex.mistake(
    "keeps the means of the first call",
    "Each image has its own means: take them in each call.",
    edit=(
        "self.fc1(x.mean(dim=(2, 3), keepdim=True))",
        'self.fc1(self.__dict__.setdefault("mean", x.mean(dim=(2, 3), keepdim=True)))',
    ),
)


@ex.alternative("pooling modules and einsum", replaces="SqueezeExcite")
class ExciteOfModules(nn.Module):
    def __init__(self, channels, squeezed):
        super().__init__()
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.fc1 = nn.Conv2d(channels, squeezed, kernel_size=1)
        self.fc2 = nn.Conv2d(squeezed, channels, kernel_size=1)

    def forward(self, x):
        hidden = self.fc1(self.pool(x))
        scale = self.fc2(hidden * hidden.sigmoid()).sigmoid()[:, :, 0, 0]
        return torch.einsum("bchw,bc->bchw", x, scale)


@ex.alternative("appends, adds in place", replaces="MBConv")
class MBConvByAppend(nn.Module):
    def __init__(self, in_channels, out_channels, kernel=3, stride=1, expand=6):
        super().__init__()
        self.block, wide = nn.Sequential(), in_channels * expand

        def unit(a, b, size, step=1, groups=1):
            conv = nn.Conv2d(a, b, size, step, padding=size // 2, groups=groups, bias=False)
            return nn.Sequential(conv, nn.BatchNorm2d(b))

        if expand > 1:
            self.block.append(unit(in_channels, wide, 1).append(nn.SiLU(inplace=True)))
        self.block.append(unit(wide, wide, kernel, stride, wide).append(nn.SiLU(inplace=True)))
        self.block.append(SqueezeExcite(wide, max(in_channels // 4, 1)))
        self.block.append(unit(wide, out_channels, 1))
        self.same = (in_channels, 1) == (out_channels, stride)

    def forward(self, x):
        out = self.block(x)
        if self.same:
            out += x
        return out


ex.equivalent(
    "max(1, in_channels // 4) -> max(in_channels // 4, 1)",
    "max does not care about the order of its arguments",
)


# ----------------------------------------------------------------------------------------------
# compound

ex = compound = Exercise("compound", defines=["round_filters", "round_repeats"])


@ex.check("filters: the nearest multiple of 8", points=1)
def _(student):
    for channels, width in [(32, 1.0), (64, 1.13), (40, 1.37), (112, 1.21), (320, 1.43), (81, 2)]:
        want = _make_divisible(channels * width, 8)
        expect(student.round_filters(channels, width), want, f"{channels} times {width}")
    for channels, width, want in [
        (20, 1.0, 24),
        (52, 1.0, 56),
        (68, 1.0, 72),
        (8, 1.25, 16),
        (179, 0.05, 16),
        (40, 1.25, 48),
        (8, 4.5, 40),
        (24, 1.5, 40),
        (109, 0.4, 40),
    ]:
        got = student.round_filters(channels, width)
        expect(got, want, f"{channels} times {width}, near the middle")


@ex.check("filters: at least 8, never under 90 %", points=1)
def _(student):
    for channels, width in [(1, 1.0), (3, 0.4), (5, 1.0), (9, 1.0), (10, 1.0), (11, 1.0)]:
        want = _make_divisible(channels * width, 8)
        expect(student.round_filters(channels, width), want, f"{channels} times {width}")
    for channels, width in [(17, 1.0), (18, 1.0), (19, 1.0), (27, 1.0), (35, 1.0), (50, 0.37)]:
        want = _make_divisible(channels * width, 8)
        expect(student.round_filters(channels, width), want, f"{channels} times {width}")
    for channels, width, want in [(88, 0.2, 16), (89, 0.2, 24), (8, 1.1, 8)]:
        got = student.round_filters(channels, width)
        expect(got, want, f"{channels} times {width}, near 90 %")


@ex.check("repeats: up", points=0.5)
def _(student):
    for repeats, depth in [(1, 1.0), (2, 1.1), (3, 1.4), (4, 2.0), (5, 1.01), (4, 1.8), (7, 0.5)]:
        want = -int(-repeats * depth // 1)
        expect(student.round_repeats(repeats, depth), want, f"{repeats} times {depth}")


@ex.check("whole numbers", points=0.5)
def _(student):
    got = [student.round_filters(100, 1.03), student.round_repeats(5, 1.3)]
    require(all(type(value) is int for value in got), "the results are not ints", got=got)
    expect(got, [104, 7], "100 filters times 1.03, 5 repeats times 1.3")


ex.mistake(
    "always down",
    "The nearest multiple of 8 is wanted.",
    edit=("int(wanted + 4) // 8 * 8", "int(wanted) // 8 * 8"),
)
ex.mistake(
    "always up",
    "The nearest multiple of 8 is wanted.",
    edit=("int(wanted + 4) // 8 * 8", "math.ceil(wanted / 8) * 8"),
)
ex.mistake(
    "halves to the even multiple",
    "Python's round takes 2.5 to 2; upwards is asked for.",
    edit=("int(wanted + 4) // 8 * 8", "round(wanted / 8) * 8"),
)
ex.mistake(
    "the 90 % rule is forgotten",
    "If less than 90 % is left, take the next multiple.",
    edit=("return rounded + 8 if rounded < 0.9 * wanted else rounded", "return rounded"),
)
ex.mistake(
    "90 % of what went in",
    "90 % of the scaled number, not of `channels`.",
    edit=("0.9 * wanted", "0.9 * channels"),
)
ex.mistake(
    "the factor is forgotten",
    "Scale first.",
    edit=("wanted = channels * width", "wanted = channels"),
)
ex.mistake(
    "multiples of 16",
    "Multiples of 8 are wanted.",
    edit=("int(wanted + 4) // 8 * 8", "int(wanted + 8) // 16 * 16"),
)
ex.mistake(
    "cut off before it is rounded",
    "The product is rounded once; cutting it off first loses up to one.",
    edit=("wanted = channels * width", "wanted = int(channels * width)"),
)
ex.mistake(
    "a bound above 90 %",
    "Only a result below 0.9 v is too small.",
    edit=("0.9 * wanted", "0.91 * wanted"),
)
ex.mistake(
    "the product is rounded first",
    "The product is rounded once, to a multiple of 8; 90 % are those of the product itself.",
    edit=("wanted = channels * width", "wanted = round(channels * width)"),
)
ex.mistake(
    "repeats to the nearest",
    "Repeats are rounded up.",
    edit=("math.ceil(repeats * depth)", "round(repeats * depth)"),
)
ex.mistake(
    "repeats down",
    "Repeats are rounded up.",
    edit=("math.ceil(repeats * depth)", "int(repeats * depth)"),
)
ex.mistake(
    "one repeat too many",
    "A whole number stays.",
    edit=("math.ceil(repeats * depth)", "int(repeats * depth) + 1"),
)
ex.mistake(
    "floats",
    "Whole numbers are asked for.",
    edit=("math.ceil(repeats * depth)", "float(math.ceil(repeats * depth))"),
)


ex.equivalent(
    "rounded < 0.9 * wanted -> rounded <= 0.9 * wanted",
    "a multiple of 8 that is rounded to and exactly 90 % of what is wanted has no exact float",
)


@ex.alternative("searches the multiples")
def _(channels, width):
    wanted = channels * width
    multiples = range(8, int(wanted) + 17, 8)
    best = min(multiples, key=lambda m: (abs(m - wanted), -m))
    return best if best >= 0.9 * wanted else best + 8


@ex.alternative("floor of a half more")
def _(channels, width):
    target = channels * width
    units = max(1, math.floor(target / 8 + 0.5))
    while units * 8 < 0.9 * target:
        units += 1
    return 8 * units


@ex.alternative("negative floor division", replaces="round_repeats")
def _(repeats, depth):
    return int(-(-(repeats * depth) // 1))
