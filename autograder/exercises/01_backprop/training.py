"""Hidden checks, known mistakes and alternatives of `01_backprop/training`."""

import math
from collections.abc import Callable
from itertools import pairwise

import torch
import torch.nn.functional as F
from torch import Tensor, nn, optim

from autograder.contract import Exercise, expect, require

# ----------------------------------------------------------------------------------------------
# count_parameters

ex = count_parameters = Exercise("count_parameters", forbids=["nn", "nn.Linear", "Linear", "numel"])


def count_by_torch(sizes: list[int], bias: bool = True) -> int:
    layers = [nn.Linear(a, b, bias=bias) for a, b in pairwise(sizes)]
    return sum(parameter.numel() for layer in layers for parameter in layer.parameters())


@ex.check("several layers, with biases", points=0.5)
def _(student):
    for sizes in [[5, 7, 3, 11], [64, 100, 10]]:
        expect(student.count_parameters(sizes), count_by_torch(sizes), f"count of {sizes}")


@ex.check("without biases", points=0.5)
def _(student):
    for sizes in [[5, 7, 3, 11], [6, 2]]:
        expect(
            student.count_parameters(sizes, bias=False),
            count_by_torch(sizes, False),
            f"count of {sizes}",
        )


@ex.check("a single layer", points=0.5)
def _(student):
    expect(student.count_parameters([13, 4]), count_by_torch([13, 4]), "count of [13, 4]")


ex.mistake(
    "counts no biases",
    "Every unit of a layer has a bias of its own: add n_out for each layer.",
    edit=("n_in * n_out + bias * n_out", "n_in * n_out"),
)
ex.mistake(
    "gives the biases to the inputs",
    "A bias belongs to each output of a layer, so a layer has n_out of them, not n_in.",
    edit=("bias * n_out", "bias * n_in"),
)
ex.mistake(
    "one bias for each layer",
    "The bias of a layer is a vector with one number for each of its outputs.",
    edit=("bias * n_out", "bias"),
)
ex.mistake(
    "counts biases that are not there",
    "With bias=False no layer has a bias.",
    edit=("bias * n_out", "n_out"),
)
ex.mistake(
    "counts units, not connections",
    "A weight belongs to each pair of an input and an output: n_in * n_out of them in a layer.",
    edit=("n_in * n_out + bias * n_out", "n_out"),
)
ex.mistake(
    "leaves out the last layer",
    "d + 1 widths make d layers; the last one goes to the outputs.",
    edit=("pairwise(sizes)", "pairwise(sizes[:-1])"),
)


@ex.mistake("multiplies the layers", "The counts of the layers are added, not multiplied.")
def _(sizes, bias=True):
    return math.prod(a * b + bias * b for a, b in pairwise(sizes))


@ex.alternative("a loop over positions")
def _(sizes, bias=True):
    total = 0
    for layer in range(1, len(sizes)):
        total += (sizes[layer - 1] + (1 if bias else 0)) * sizes[layer]
    return total


@ex.alternative("a recursion")
def recursive(sizes, bias=True):
    if len(sizes) == 1:
        return 0
    return (sizes[0] + int(bias)) * sizes[1] + recursive(sizes[1:], bias)


@ex.alternative("a dot product, as a tensor")
def _(sizes, bias=True):
    widths = torch.tensor(sizes)
    return int(widths[:-1] @ widths[1:]) + (int(widths[1:].sum()) if bias else 0)


# ----------------------------------------------------------------------------------------------
# standardize

ex = standardize = Exercise("standardize")


def standardized(train: Tensor, other: Tensor) -> tuple[Tensor, Tensor]:
    """The oracle, in float64."""
    train, other = train.double(), other.double()
    std, mean = torch.std_mean(train, dim=0, correction=0)
    std[std == 0] = 1
    return (train - mean) / std, (other - mean) / std


@ex.check("the training split gets mean 0 and deviation 1", points=0.5)
def _(student):
    train = torch.randn(7, 3, dtype=torch.float64) * torch.tensor([1.0, 5.0, 0.2]) + 3
    got, _ = student.standardize(train, train[:2] + 1)
    expect(got, standardized(train, train)[0], "train", dtype=True)


@ex.check("the other split is transformed with the statistics of training", points=1)
def _(student):
    train = torch.randn(9, 4) * torch.tensor([1.0, 5.0, 0.2, 2.0])
    other = 3 * torch.randn(5, 4) + 2
    expect(student.standardize(train, other)[1], standardized(train, other)[1], "other")
    expect(
        student.standardize(train, other[:1])[1], standardized(train, other[:1])[1], "a single row"
    )


@ex.check("constant features are divided by 1", points=0.5)
def _(student):
    train = torch.stack([torch.full((6,), 3.0), torch.zeros(6), torch.arange(6.0)], dim=1)
    other = torch.tensor([[5.0, 0.0, 1.0], [3.0, -2.0, 7.0]])
    new_train, new_other = student.standardize(train, other)
    expect(new_train, standardized(train, other)[0], "train")
    expect(new_other, standardized(train, other)[1], "other")
    train = torch.stack([torch.arange(6.0), torch.full((6,), 2.0)], dim=1).double()
    train[:, 0] *= 1e-7  # hardly changes, but does
    got = student.standardize(train, train[:1] + 1e-6)
    desired = standardized(train, train[:1] + 1e-6)
    expect(got[0], desired[0], "train, a feature of deviation 1.7e-7")
    expect(got[1], desired[1], "other, a feature of deviation 1.7e-7")


@ex.check("float32 features far from zero", points=0.5)
def _(student):
    train, other = torch.randn(40, 2) + 1e4, torch.randn(3, 2) + 1e4
    got = student.standardize(train, other)
    # The float32 mean of numbers near 10^4 is good to about 10^-3.
    for name, value, desired in zip(
        ["train", "other"], got, standardized(train, other), strict=True
    ):
        expect(value, desired.float(), name, rtol=1e-2, atol=2e-2, dtype=True)


@ex.check("the arguments are not modified", points=0.5)
def _(student):
    unchanged = student.unchanged("standardize", torch.randn(4, 3), torch.randn(2, 3))
    require(unchanged, "standardize changes its arguments: compute new tensors")


@ex.mistake(
    "statistics of both splits",
    "The other split stands for the future: use the training rows alone.",
)
def _(train, other):
    both = torch.cat([train, other])
    mean, std = both.mean(dim=0), both.std(dim=0, correction=0)
    std = torch.where(std == 0, 1.0, std)
    return (train - mean) / std, (other - mean) / std


@ex.mistake(
    "each split with its own statistics",
    "The network learned in the units of the training split: use the same two numbers.",
)
def _(train, other):
    def alone(x):
        std = x.std(dim=0, correction=0)
        return (x - x.mean(dim=0)) / torch.where(std == 0, 1.0, std)

    return alone(train), alone(other)


ex.mistake(
    "unbiased deviation",
    "torch.std divides by N - 1 by default; here the sum of squares is divided by N.",
    edit=("correction=0", "correction=1"),
)
ex.mistake(
    "divides by the variance",
    "Divide by the standard deviation, the root of the variance.",
    edit=("train.std(", "train.var("),
)
ex.mistake(
    "one mean and deviation for all features",
    "Each feature has its own mean and deviation: reduce over the rows, dim=0.",
    edit=[
        ("train.mean(dim=0)", "train.mean()"),
        ("train.std(dim=0, correction=0)", "train.std(correction=0)"),
    ],
)


@ex.mistake(
    "standardises rows",
    "Statistics are taken over the examples, dim=0, not over one example's features.",
)
def _(train, other):
    def rows(x):
        std = x.std(dim=1, correction=0, keepdim=True)
        return (x - x.mean(dim=1, keepdim=True)) / torch.where(std == 0, 1.0, std)

    return rows(train), rows(other)


ex.mistake(
    "divides by zero",
    "A constant feature has deviation 0, and 0 / 0 is NaN: divide it by 1.",
    edit=("    std = torch.where(std == 0, 1.0, std)\n", ""),
)
ex.mistake(
    "a small number in place of zero",
    "Dividing by 1e-8 makes a constant feature explode when it is not constant in the other split.",
    edit=("torch.where(std == 0, 1.0, std)", "std + 1e-8"),
)
ex.mistake(
    "small deviations replaced by 1",
    "Only a constant feature is divided by 1; a small deviation is a deviation: compare with 0.",
    edit=("torch.where(std == 0, ", "torch.where(std < 1e-6, "),
)
ex.mistake(
    "does not centre the other split",
    "Both splits are shifted by the training mean before they are divided.",
    edit=("(other - mean) / std", "other / std"),
)
ex.mistake(
    "mean of squares minus square of the mean",
    "Far from zero the two nearly equal squares cancel: subtract the mean first, then square.",
    edit=(
        "train.std(dim=0, correction=0)",
        "((train**2).mean(dim=0) - mean**2).clamp(min=0).sqrt()",
    ),
)
ex.mistake(
    "changes its argument",
    "`-=` and methods that end in `_` write into the caller's tensor.",
    edit=("return (train - mean) / std", "train -= mean\n    return train / std"),
)


@ex.alternative("two passes by hand")
def _(train, other):
    mean = train.sum(0) / len(train)
    std = (((train - mean) ** 2).sum(0) / len(train)) ** 0.5
    std[std == 0] = 1
    return (train - mean) / std, (other - mean) / std


@ex.alternative("float64 inside")
def _(train, other):
    mean, std = train.double().mean(0), train.double().std(0, unbiased=False)
    std = std + (std == 0)
    return ((train - mean) / std).to(train.dtype), ((other - mean) / std).to(other.dtype)


@ex.alternative("feature by feature")
def _(train, other):
    new_train, new_other = torch.empty_like(train), torch.empty_like(other)
    for j in range(train.shape[1]):
        std, mean = torch.std_mean(train[:, j], correction=0)
        divisor = std.item() or 1.0
        new_train[:, j] = (train[:, j] - mean) / divisor
        new_other[:, j] = (other[:, j] - mean) / divisor
    return [new_train, new_other]


# ----------------------------------------------------------------------------------------------
# activations

# Attributes and imports only: the student's own `sigmoid(x)` is a plain name.
BUILT_IN = [
    *["sigmoid", "sigmoid_", "tanh", "tanh_", "relu", "relu_", "elu", "celu", "selu", "leaky_relu"],
    *[
        "heaviside",
        "expit",
        "logit",
        "softplus",
        "logsigmoid",
        "rrelu",
        "prelu",
        "threshold",
        "hardtanh",
    ],
    *["Sigmoid", "Tanh", "ReLU", "ELU", "LeakyReLU", "softmax", "torch.nn", "special"],
]

ex = activations = Exercise(
    "activations",
    defines=["heaviside", "sigmoid", "tanh", "relu", "leaky_relu", "elu"],
    forbids=[
        *BUILT_IN,
        *[
            "aten::sigmoid",
            "aten::tanh",
            "aten::relu",
            "aten::elu",
            "aten::leaky_relu",
            "aten::heaviside",
        ],
    ],
)

LARGE = [-1000.0, -200.0, -90.0, -30.0, 30.0, 90.0, 200.0, 1000.0]


def expect_precise(got: Tensor, want: Tensor, what: str) -> None:
    """To the precision that the exercise states for the dtype."""
    # exp(x) - 1 near 0 loses relative precision, not absolute: the small atol is within its reach.
    rtol, atol = (1e-9, 1e-12) if want.dtype == torch.float64 else (1e-4, 1e-6)
    expect(got, want, f"{what}, {want.dtype}", rtol=rtol, atol=atol)


def around_zero() -> Tensor:
    """Both signs, zeros, and not square."""
    return torch.cat([2 * torch.randn(3, 4), torch.tensor([[0.0], [-1e-3], [2.0]])], dim=1)


@ex.check("heaviside, with H(0) = 1", points=0.5)
def _(student):
    x = around_zero()
    expect(student.heaviside(x), torch.heaviside(x, torch.ones(())), "heaviside", dtype=True)


@ex.check("sigmoid and tanh", points=1)
def _(student):
    for x in [around_zero(), around_zero().double()]:
        expect_precise(student.sigmoid(x), torch.sigmoid(x), "sigmoid")
        expect_precise(student.tanh(x), torch.tanh(x), "tanh")


@ex.check("ReLU and leaky ReLU", points=0.5)
def _(student):
    x = around_zero()
    expect(student.relu(x), F.relu(x), "relu")
    expect(student.leaky_relu(100 * x), F.leaky_relu(100 * x), "leaky_relu with the default slope")
    for slope in [0.0, 0.3]:
        expect(
            student.leaky_relu(x, slope=slope),
            F.leaky_relu(x, slope),
            f"leaky_relu with slope {slope}",
        )


@ex.check("ELU", points=0.5)
def _(student):
    x = around_zero()
    expect(student.elu(x), F.elu(x), "elu with the default alpha")
    for alpha in [0.5, 3.0]:
        expect(student.elu(x, alpha=alpha), F.elu(x, alpha), f"elu with alpha {alpha}")
    expect_precise(student.elu(x.double()), F.elu(x.double()), "elu")


@ex.check("right and finite for |x| up to 1000", points=1)
def _(student):
    for dtype in [torch.float32, torch.float64]:
        x = torch.tensor([*LARGE, -12.0, 12.0], dtype=dtype)
        expect_precise(student.sigmoid(x), torch.sigmoid(x), "sigmoid")
        expect_precise(student.tanh(x), torch.tanh(x), "tanh")
        expect_precise(student.elu(x, alpha=2.0), F.elu(x, 2.0), "elu")
        expect_precise(student.relu(x), F.relu(x), "relu")


@ex.check("shape and dtype are kept, the argument is not modified", points=0.5)
def _(student):
    for name in activations.defines:
        for x in [torch.randn(2, 1, 3, dtype=torch.float64), torch.tensor(-0.7)]:
            got = getattr(student, name)(x)
            expect(got, oracle(name)(x), f"{name}, {x.dtype}, {x.dim()} dimensions", dtype=True)
        require(student.unchanged(name, torch.randn(5)), f"{name} changes its argument")


def oracle(name: str) -> Callable[[Tensor], Tensor]:
    return {"heaviside": lambda x: (x >= 0).to(x.dtype)}.get(name) or getattr(F, name)


ex.mistake(
    "heaviside is 0 at 0",
    "The convention stated is H(0) = 1: compare with >=.",
    edit=("(x >= 0).to(x.dtype)", "(x > 0).to(x.dtype)"),
)
ex.mistake(
    "heaviside gives the sign",
    "The threshold unit is 0 where x is negative, not -1.",
    edit=("return (x >= 0).to(x.dtype)", "return torch.where(x >= 0, 1.0, -1.0).to(x.dtype)"),
)
ex.mistake(
    "heaviside gives truth values",
    "A comparison gives bools; the result has the dtype of x.",
    edit=("return (x >= 0).to(x.dtype)", "return x >= 0"),
)
ex.mistake(
    "sigmoid overflows",
    "exp(x) / (1 + exp(x)) is inf / inf for large x: use exp of a negative number only.",
    replaces="sigmoid",
    edit=[
        ("    small = torch.exp(-x.abs())  # in (0, 1]: never overflows\n", ""),
        ("torch.where(x >= 0, 1.0, small) / (1 + small)", "torch.exp(x) / (1 + torch.exp(x))"),
    ],
)
ex.mistake(
    "sigmoid mirrored",
    "exp(-x), not exp(x), stands in the denominator: the sigmoid rises.",
    edit=("torch.where(x >= 0, 1.0, small)", "torch.where(x >= 0, small, 1.0)"),
)


@ex.mistake(
    "tanh overflows",
    "(e^x - e^-x) / (e^x + e^-x) is inf / inf for large |x|: go through the stable sigmoid.",
    replaces="tanh",
)
def _(x):
    return (torch.exp(x) - torch.exp(-x)) / (torch.exp(x) + torch.exp(-x))


ex.mistake(
    "tanh of half the argument",
    "tanh(x) = 2 sigmoid(2x) - 1: the argument is doubled as well.",
    edit=("2 * sigmoid(2 * x) - 1", "2 * sigmoid(x) - 1"),
)
ex.mistake(
    "sigmoid in float32",
    "A float64 argument is computed in float64: rounding to float32 on the way loses digits.",
    replaces="sigmoid",
    edit=("torch.exp(-x.abs())", "torch.exp(-x.abs().float()).to(x.dtype)"),
)
ex.mistake(
    "tanh limited too early",
    "In float64 tanh(7) is 1 - 1.7e-6: a limit must lie where the result is 1 to the last digit.",
    replaces="tanh",
    edit=("sigmoid(2 * x) - 1", "sigmoid(2 * x.clamp(-7, 7)) - 1"),
)
ex.mistake(
    "ReLU in place",
    "clamp_ writes into the caller's tensor.",
    edit=("x.clamp(min=0)", "x.clamp_(min=0)"),
)
ex.mistake(
    "leaky ReLU ignores its slope",
    "The slope is an argument; 0.01 is only its default.",
    edit=("torch.where(x > 0, x, slope * x)", "torch.where(x > 0, x, 0.01 * x)"),
)
ex.mistake(
    "leaky ReLU folds the negative side up",
    "Where x is negative the result is slope * x, negative too.",
    edit=("slope * x)", "-slope * x)"),
)
ex.mistake(
    "ELU ignores alpha",
    "The negative side is alpha * (exp(x) - 1).",
    edit=("alpha * (torch.exp(x) - 1)", "torch.exp(x) - 1"),
)
ex.mistake(
    "ELU without the -1",
    "exp(0) = 1: subtract 1, so that the two sides meet at 0.",
    edit=("alpha * (torch.exp(x) - 1)", "alpha * torch.exp(x)"),
)
ex.mistake(
    "ELU: alpha multiplies the exponential only",
    "alpha multiplies the whole bracket: alpha * (exp(x) - 1) is 0 at 0.",
    edit=("alpha * (torch.exp(x) - 1)", "alpha * torch.exp(x) - 1"),
)
ex.mistake(
    "ELU limited too early",
    "exp of a large negative number does no harm, it is 0; at -10 it is still 4.5e-5.",
    edit=("(torch.exp(x) - 1)", "(torch.exp(x.clamp(min=-10)) - 1)"),
)
ex.mistake(
    "ELU by masks: zero times infinity",
    "exp(1000) is inf and 0 * inf is NaN: choose with torch.where, or clamp before exp.",
    edit=(
        "torch.where(x > 0, x, alpha * (torch.exp(x) - 1))",
        "(x > 0) * x + (x <= 0) * alpha * (torch.exp(x) - 1)",
    ),
)


ex.equivalent(
    "x >= 0 -> x > 0", "at x = 0 exp(-|x|) is 1, so both branches of the sigmoid are 1 / 2"
)
ex.equivalent("x > 0 -> x >= 0", "leaky ReLU and ELU are continuous: both branches are 0 at 0")


@ex.alternative("the plain formula: 1 / inf is 0", replaces="sigmoid")
def _(x):
    return 1 / (1 + torch.exp(-x))


@ex.alternative("sigmoid by logaddexp", replaces="sigmoid")
def _(x):
    return torch.exp(-torch.logaddexp(torch.zeros_like(x), -x))


@ex.alternative("sigmoid element by element with math", replaces="sigmoid")
def _(x):
    def one(v: float) -> float:
        return 1 / (1 + math.exp(-v)) if v >= 0 else math.exp(v) / (1 + math.exp(v))

    return torch.tensor([one(v) for v in x.flatten().tolist()], dtype=x.dtype).reshape(x.shape)


@ex.alternative("tanh by exp of -2|x|", replaces="tanh")
def _(x):
    e = torch.exp(-2 * x.abs())
    return x.sign() * (1 - e) / (1 + e)


@ex.alternative("elu by clamping", replaces="elu")
def _(x, alpha=1.0):
    return x.clamp(min=0) + alpha * torch.expm1(x.clamp(max=0))


ex.alternative("relu by a product with the mask", edit=("x.clamp(min=0)", "x * (x > 0)"))
ex.alternative(
    "leaky ReLU by maximum",
    edit=("torch.where(x > 0, x, slope * x)", "torch.maximum(x, slope * x)"),
)


# ----------------------------------------------------------------------------------------------
# activation_derivatives

ex = activation_derivatives = Exercise(
    "activation_derivatives",
    defines=["d_sigmoid", "d_tanh", "d_relu", "d_leaky_relu", "d_elu"],
    forbids=[
        *BUILT_IN,
        "autograd",
        "backward",
        "requires_grad_",
        "torch.func",
        "vmap",
        "jacrev",
        "jvp",
    ],
)


def derivative(function: Callable[..., Tensor], x: Tensor, *args: float) -> Tensor:
    """By torch's autograd; at kinks it takes the lower branch, as the exercise does."""
    x = x.clone().requires_grad_()
    (grad,) = torch.autograd.grad(function(x, *args).sum(), x)
    return grad


@ex.check("sigmoid and tanh", points=1)
def _(student):
    x = around_zero()
    expect(student.d_sigmoid(x), derivative(torch.sigmoid, x), "d_sigmoid")
    expect(student.d_tanh(x), derivative(torch.tanh, x), "d_tanh")


@ex.check("ReLU and leaky ReLU, also at 0", points=1)
def _(student):
    x = around_zero()
    expect(student.d_relu(x), derivative(F.relu, x), "d_relu")
    expect(
        student.d_leaky_relu(x), derivative(F.leaky_relu, x), "d_leaky_relu with the default slope"
    )
    expect(
        student.d_leaky_relu(x, slope=0.3),
        derivative(F.leaky_relu, x, 0.3),
        "d_leaky_relu with slope 0.3",
    )


@ex.check("ELU, also at 0", points=0.5)
def _(student):
    x = around_zero()
    expect(student.d_elu(x), derivative(F.elu, x), "d_elu with the default alpha")
    for alpha in [0.5, 3.0]:
        expect(
            student.d_elu(x, alpha=alpha), derivative(F.elu, x, alpha), f"d_elu with alpha {alpha}"
        )


@ex.check("right and finite for |x| up to 1000", points=0.5)
def _(student):
    for dtype in [torch.float32, torch.float64]:
        x = torch.tensor(LARGE, dtype=dtype)
        expect(student.d_sigmoid(x), derivative(torch.sigmoid, x), f"d_sigmoid, {dtype}")
        expect(student.d_tanh(x), derivative(torch.tanh, x), f"d_tanh, {dtype}")
        expect(student.d_elu(x, alpha=2.0), derivative(F.elu, x, 2.0), f"d_elu, {dtype}")


@ex.check("shape and dtype are kept, the argument is not modified", points=0.5)
def _(student):
    for name in activation_derivatives.defines:
        for x in [torch.randn(2, 1, 3, dtype=torch.float64), torch.tensor(-0.7)]:
            desired = derivative(getattr(F, name.removeprefix("d_")), x)
            expect(
                getattr(student, name)(x),
                desired,
                f"{name}, {x.dtype}, {x.dim()} dimensions",
                dtype=True,
            )
        require(student.unchanged(name, torch.randn(5)), f"{name} changes its argument")


ex.mistake(
    "d_sigmoid of the output",
    "s (1 - s) holds for s = sigmoid(x); the argument here is x itself.",
    edit=("sigmoid(x) * (1 - sigmoid(x))", "x * (1 - x)"),
)
ex.mistake(
    "d_sigmoid without the second factor",
    "The derivative is sigmoid(x) (1 - sigmoid(x)): it vanishes on both sides.",
    edit=("sigmoid(x) * (1 - sigmoid(x))", "1 - sigmoid(x)"),
)
ex.mistake(
    "d_tanh without the square",
    "tanh'(x) = 1 - tanh(x)^2.",
    edit=("1 - tanh(x) ** 2", "1 - tanh(x)"),
)
ex.mistake(
    "d_tanh of the output",
    "1 - y^2 holds for y = tanh(x); the argument here is x itself.",
    edit=("1 - tanh(x) ** 2", "1 - x**2"),
)
ex.mistake(
    "d_relu is 1 at 0",
    "By the convention stated the lower branch counts at 0: the derivative is 0 there.",
    edit=("(x > 0).to(x.dtype)", "(x >= 0).to(x.dtype)"),
)
ex.mistake(
    "d_relu gives the activation",
    "The derivative of x is 1, not x.",
    edit=("(x > 0).to(x.dtype)", "x * (x > 0)"),
)
ex.mistake(
    "d_leaky_relu is 0 on the negative side",
    "The negative side is slope * x; its derivative is the slope.",
    edit=("torch.where(x > 0, 1.0, slope).to(x.dtype)", "(x > 0).to(x.dtype) + 0 * slope"),
)
ex.mistake(
    "d_leaky_relu ignores its slope",
    "The slope is an argument; 0.01 is only its default.",
    edit=("torch.where(x > 0, 1.0, slope)", "torch.where(x > 0, 1.0, 0.01)"),
)
ex.mistake(
    "d_leaky_relu gives slope times x",
    "The derivative of slope * x is the slope.",
    edit=("torch.where(x > 0, 1.0, slope)", "torch.where(x > 0, 1.0, slope * x)"),
)
ex.mistake(
    "d_elu ignores alpha",
    "The negative side is alpha * (exp(x) - 1); its derivative keeps alpha.",
    edit=("alpha * torch.exp(x))", "torch.exp(x))"),
)
ex.mistake(
    "d_elu keeps the -1",
    "The derivative of the constant -alpha is 0: alpha * exp(x) is left, which is elu(x) + alpha.",
    edit=("alpha * torch.exp(x))", "alpha * (torch.exp(x) - 1))"),
)
ex.mistake(
    "d_elu is 1 at 0",
    "By the convention stated the lower branch counts at 0: the derivative is alpha there.",
    edit=(
        "torch.where(x > 0, 1.0, alpha * torch.exp(x))",
        "torch.where(x >= 0, 1.0, alpha * torch.exp(x))",
    ),
)
ex.mistake(
    "d_elu by masks: zero times infinity",
    "exp(1000) is inf and 0 * inf is NaN: choose with torch.where, or clamp before exp.",
    edit=(
        "torch.where(x > 0, 1.0, alpha * torch.exp(x))",
        "(x > 0) + (x <= 0) * alpha * torch.exp(x)",
    ),
)


@ex.alternative("sigmoid's derivative by exp of -|x|", replaces="d_sigmoid")
def _(x):
    e = torch.exp(-x.abs())
    return e / (1 + e) ** 2


ex.alternative(
    "tanh's derivative by the sigmoid's", edit=("1 - tanh(x) ** 2", "4 * d_sigmoid(2 * x)")
)
ex.alternative(
    "ELU's derivative by ELU",
    edit=(
        "torch.where(x > 0, 1.0, alpha * torch.exp(x))",
        "torch.where(x > 0, torch.ones_like(x), elu(x, alpha) + alpha)",
    ),
)


@ex.alternative("leaky ReLU's derivative by assignment", replaces="d_leaky_relu")
def _(x, slope=0.01):
    result = torch.full_like(x, slope)
    result[x > 0] = 1
    return result


@ex.alternative("ReLU's derivative element by element", replaces="d_relu")
def _(x):
    return torch.tensor([float(v > 0) for v in x.flatten().tolist()], dtype=x.dtype).reshape(
        x.shape
    )


# ----------------------------------------------------------------------------------------------
# initialization

ex = initialization = Exercise(
    "initialization",
    defines=["xavier_uniform", "he_normal"],
    forbids=["init", "xavier_uniform_", "xavier_normal_", "kaiming_uniform_", "kaiming_normal_"],
)


def draw(student, name: str, *args: int, seed: int = 0, **kwargs: float) -> Tensor:
    """A probe: one matrix from a generator with this seed."""
    return getattr(student, name)(*args, generator=torch.Generator().manual_seed(seed), **kwargs)


def measured(weight: Tensor, std: float) -> dict:
    """What can be said of a sample whatever the order of its draws.

    Rounded so coarsely that for 60,000 draws and more chance decides nothing (the margins are
    beyond five standard errors), and so that another way to draw gives the same
    numbers, right or wrong.
    """
    weight = weight.double()
    standard = weight / weight.std()
    rows, columns = weight.shape
    return {
        "shape": [rows, columns],
        "mean / deviation": round(standard.mean().item(), 1) + 0.0,
        "deviation / right deviation": round(weight.std().item() / std, 1),
        "largest / deviation, at most 4": min(round(2 * standard.abs().max().item()) / 2, 4.0),
        "fourth moment": round(2 * (standard**4).mean().item()) / 2,  # uniform 1.8, normal 3
        "spread of row means": round(standard.mean(1).std().item() * columns**0.5),
        "spread of column means": round(standard.mean(0).std().item() * rows**0.5),
    }


def form(rows: int, columns: int, largest: float, fourth: float) -> dict:
    """The right answer of `measured`."""
    return {
        "shape": [rows, columns],
        "mean / deviation": 0.0,
        "deviation / right deviation": 1.0,
        "largest / deviation, at most 4": largest,
        "fourth moment": fourth,
        "spread of row means": 1,
        "spread of column means": 1,
    }


UNIFORM, NORMAL = (1.5, 2.0), (4.0, 3.0)  # largest and fourth moment, as `measured` rounds them


@ex.check("Xavier: shape, scale and form", points=1)
def _(student):
    for fan_in, fan_out in [(300, 200), (50, 1600)]:
        weight = student.run(draw, "xavier_uniform", fan_in, fan_out)
        std = math.sqrt(2 / (fan_in + fan_out))
        expect(
            measured(weight, std),
            form(fan_out, fan_in, *UNIFORM),
            f"sample for fans {fan_in}, {fan_out}",
        )
        require(
            weight.abs().max().item() <= 1.0001 * math.sqrt(3) * std, "no weight is outside [-b, b]"
        )


@ex.check("Xavier: the gain", points=0.5)
def _(student):
    weight = student.run(draw, "xavier_uniform", 400, 200, gain=3.0)
    expect(measured(weight, 3 * math.sqrt(2 / 600)), form(200, 400, *UNIFORM), "sample with gain 3")


@ex.check("He: shape, scale and form", points=1)
def _(student):
    for fan_in, fan_out in [(800, 250), (100, 2000)]:
        weight = student.run(draw, "he_normal", fan_in, fan_out)
        expect(
            measured(weight, math.sqrt(2 / fan_in)),
            form(fan_out, fan_in, *NORMAL),
            f"sample for fans {fan_in}, {fan_out}",
        )


@ex.check("He: the slope", points=0.5)
def _(student):
    weight = student.run(draw, "he_normal", 500, 400, slope=3.0)
    right = form(400, 500, *NORMAL)
    expect(measured(weight, math.sqrt(2 / (10 * 500))), right, "sample with slope 3")


def streams(student, name: str) -> dict[str, list[Tensor]]:
    """A probe: matrices drawn in turn, and the global generator before and after."""
    before = torch.get_rng_state()
    first, again, other = (draw(student, name, 6, 5, seed=seed) for seed in [1, 1, 2])
    generator = torch.Generator().manual_seed(1)
    in_turn = [getattr(student, name)(6, 5, generator=generator) for _ in range(2)]
    after = torch.get_rng_state()
    by_default = []
    for seed in [3, 3, 4]:
        torch.manual_seed(seed)
        by_default.append(getattr(student, name)(6, 5))
    by_default.append(getattr(student, name)(6, 5))
    return {
        "seeds 1, 1, 2": [first, again, other],
        "in turn": in_turn,
        "global generator": [before, after],
        "global seeds 3, 3, 4 and on": by_default,
    }


def habits(drawn: dict[str, list[Tensor]]) -> dict[str, bool]:
    """What the matrices of `streams` say of the function that drew them."""
    first, again, other = drawn["seeds 1, 1, 2"]
    by_default = drawn["global seeds 3, 3, 4 and on"]
    return {
        "the same seed gives the same matrix": torch.equal(first, again),
        "another seed gives another matrix": not torch.equal(first, other),
        "a second call gives another matrix": not torch.equal(*drawn["in turn"]),
        "the global generator is left alone": torch.equal(*drawn["global generator"]),
        "without generator the global one counts": torch.equal(*by_default[:2])
        and not torch.equal(by_default[0], by_default[2]),
        "without generator a second call gives another matrix": not torch.equal(*by_default[2:]),
        "float32": first.dtype == torch.float32 == by_default[0].dtype,
    }


@ex.check("random numbers come from the generator, results are float32", points=0.5)
def _(student):
    for name in initialization.defines:
        got = habits(student.run(streams, name))
        expect(got, dict.fromkeys(got, True), name)


ex.mistake(
    "Xavier with fan_in alone",
    "Xavier's variance is 2 / (fan_in + fan_out).",
    edit=("6 / (fan_in + fan_out)", "6 / fan_in"),
)
ex.mistake(
    "Xavier's deviation taken for the bound",
    "A uniform distribution on [-b, b] has variance b^2 / 3, so b is sqrt(3) deviations.",
    edit=("6 / (fan_in + fan_out)", "2 / (fan_in + fan_out)"),
)
ex.mistake(
    "Xavier between 0 and the bound",
    "torch.rand is uniform on [0, 1): stretch and shift it to [-b, b].",
    edit=(
        "(2 * torch.rand(fan_out, fan_in, generator=generator) - 1)",
        "torch.rand(fan_out, fan_in, generator=generator)",
    ),
)
ex.mistake(
    "Xavier ignores the gain",
    "The bound, and with it every weight, is multiplied by the gain.",
    edit=("bound = gain * math.sqrt", "bound = math.sqrt"),
)
ex.mistake(
    "Xavier: gain inside the root",
    "The gain multiplies the weights; it enters the variance as its square.",
    edit=("gain * math.sqrt(6 / (fan_in + fan_out))", "math.sqrt(6 * gain / (fan_in + fan_out))"),
)
ex.mistake(
    "Xavier transposed",
    "The shape is (fan_out, fan_in), as in nn.Linear.",
    edit=("torch.rand(fan_out, fan_in, ", "torch.rand(fan_in, fan_out, "),
)
ex.mistake(
    "Xavier, normal in place of uniform",
    "The exercise asks for the uniform form: no weight lies outside [-b, b].",
    edit=(
        "bound * (2 * torch.rand(fan_out, fan_in, generator=generator) - 1)",
        "bound / math.sqrt(3) * torch.randn(fan_out, fan_in, generator=generator)",
    ),
)
ex.mistake(
    "He with fan_out",
    "Forward, each unit sums fan_in terms: the variance is 2 / fan_in.",
    edit=("(1 + slope**2) * fan_in", "(1 + slope**2) * fan_out"),
)
ex.mistake(
    "He without the 2",
    "ReLU throws half of the mean square away; the 2 makes up for it.",
    edit=("2 / ((1 + slope**2)", "1 / ((1 + slope**2)"),
)
ex.mistake(
    "He's variance taken for the deviation",
    "2 / fan_in is the variance; torch.randn is multiplied by its root.",
    edit=("math.sqrt(2 / ((1 + slope**2) * fan_in))", "2 / ((1 + slope**2) * fan_in)"),
)
ex.mistake(
    "He ignores the slope",
    "A leaky ReLU keeps (1 + slope^2) / 2 of the mean square.",
    edit=("(1 + slope**2) * fan_in", "fan_in"),
)
ex.mistake(
    "He: slope not squared",
    "The slope enters the variance, so it is squared: 1 + slope^2.",
    edit=("1 + slope**2", "1 + slope"),
)
ex.mistake(
    "He transposed",
    "The shape is (fan_out, fan_in), as in nn.Linear.",
    edit=("torch.randn(fan_out, fan_in, ", "torch.randn(fan_in, fan_out, "),
)
ex.mistake(
    "He repeats one row",
    "Equal rows are equal units with equal gradients, for ever: draw every weight by itself.",
    edit=(
        "std * torch.randn(fan_out, fan_in, generator=generator)",
        "std * torch.randn(1, fan_in, generator=generator).repeat(fan_out, 1)",
    ),
)
ex.mistake(
    "He draws from the global generator",
    "Pass `generator` on to torch.randn.",
    edit=("torch.randn(fan_out, fan_in, generator=generator)", "torch.randn(fan_out, fan_in)"),
)


FRESH = "torch.Generator().manual_seed(generator.initial_seed())"


@ex.mistake(
    "He seeds itself",
    "A function that sets the seed gives all layers the same numbers: that is the caller's.",
    replaces="he_normal",
)
def _(fan_in, fan_out, slope=0.0, generator=None):
    generator = torch.Generator().manual_seed(0)
    return math.sqrt(2 / ((1 + slope**2) * fan_in)) * torch.randn(
        fan_out, fan_in, generator=generator
    )


ex.mistake(
    "starts the generator anew at each call",
    "A generator goes on where it stopped: seeded again, it gives all layers the same numbers.",
    edit=[
        (f"    {name} = ", f"    generator = generator and {FRESH}\n    {name} = ")
        for name in ["bound", "std"]
    ],
)


ex.equivalent(
    "-> 1 - 2 * torch.rand", "1 - 2u has the distribution of 2u - 1: the order of draws is free"
)


@ex.alternative("uniform_ on an empty matrix")
def _(fan_in, fan_out, gain=1.0, generator=None):
    bound = gain * (6 / (fan_in + fan_out)) ** 0.5
    return torch.empty(fan_out, fan_in).uniform_(-bound, bound, generator=generator)


@ex.alternative("normal_ on a transposed matrix: another order of draws", replaces="he_normal")
def _(fan_in, fan_out, slope=0.0, generator=None):
    std = (2 / fan_in / (1 + slope * slope)) ** 0.5
    return torch.empty(fan_in, fan_out).normal_(0, std, generator=generator).T


@ex.alternative("row by row in float64", replaces="he_normal")
def _(fan_in, fan_out, slope=0.0, generator=None):
    std = math.sqrt(2 / ((1 + slope**2) * fan_in))
    rows = [torch.randn(fan_in, generator=generator, dtype=torch.float64) for _ in range(fan_out)]
    return (std * torch.stack(rows)).float()


# ----------------------------------------------------------------------------------------------
# What the optimisers have in common

OPTIMISERS = [
    "optim",
    "torch.optim",
    "SGD",
    "Adagrad",
    "RMSprop",
    "Adadelta",
    "Adam",
    "AdamW",
    "NAdam",
]
RATES = [0.3, 0.1, 0.2, 0.5]


def walk(
    student, name: str, param: Tensor, grads: list[Tensor], rates: list[float], **options
) -> list[Tensor]:
    """A probe: the parameter after each of several steps, with one dictionary."""
    state, path = {}, []
    for grad, lr in zip(grads, rates, strict=True):
        param = getattr(student, name)(param, grad, state, lr, **options)
        path.append(param.clone())
    return path


def torch_walk(
    optimiser: Callable[..., optim.Optimizer],
    param: Tensor,
    grads: list[Tensor],
    rates: list[float],
    **options,
) -> list[Tensor]:
    """The same by torch."""
    param, path = param.clone(), []
    stepper = optimiser([param], lr=rates[0], **options)
    for grad, lr in zip(grads, rates, strict=True):
        stepper.param_groups[0]["lr"] = lr
        param.grad = grad
        stepper.step()
        path.append(param.clone())
    return path


def compare(
    student,
    name: str,
    optimiser: type[optim.Optimizer],
    scale: float = 1.0,
    gaps: bool = False,
    **options,
) -> None:
    """Four steps with other gradients and another rate each, against torch.

    With `gaps` single entries of the second gradient and all of the third are zero: memories fade
    all the same.
    """
    param = torch.randn(2, 3, dtype=torch.float64)
    grads = [scale * torch.randn(2, 3, dtype=torch.float64) for _ in RATES]
    if gaps:
        grads[1][0, 1:] = 0
        grads[2].zero_()
    got = student.run(walk, name, param, grads, RATES, **options)
    desired = torch_walk(optimiser, param, grads, RATES, **options)
    settings = ", ".join(f"{key}={value}" for key, value in options.items()) or "defaults"
    settings += ", some gradients zero" if gaps else ""
    for number, (value, right) in enumerate(zip(got, desired, strict=True), 1):
        expect(value, right, f"{name}, {settings}, after step {number}")


def side_by_side(
    student, name: str, params: list[Tensor], grads: list[list[Tensor]], **options
) -> list[Tensor]:
    """A probe: several parameters in turn, each with its dictionary."""
    states = [{} for _ in params]
    for row in grads:
        params = [
            getattr(student, name)(param, grad, state, 0.1, **options)
            for param, grad, state in zip(params, row, states, strict=True)
        ]
    return params


def kept(student, name: str, param: Tensor, grads: list[Tensor], **options) -> dict[str, list]:
    """A probe: after three steps, the caller's gradients, and each `param` then and now."""
    state, params, then = {}, [param], [param.clone()]
    for grad in grads:
        params.append(getattr(student, name)(params[-1], grad, state, 0.1, **options))
        then.append(params[-1].clone())
    return {"grads": grads, "params then": then, "params": params}


def common_checks(exercise: Exercise, *options: tuple[str, dict]) -> None:
    """What part 4 of the notebook asks of every optimiser: memory, dtype, nothing modified."""

    @exercise.check("two parameters with a dictionary each", points=0.5)
    def _(student):
        for name, chosen in options:
            params = [torch.randn(3), torch.randn(3)]
            grads = [[torch.randn(3), torch.randn(3)] for _ in range(3)]
            together = student.run(side_by_side, name, params, grads, **chosen)
            for index, param in enumerate(params):
                column = [row[index] for row in grads]
                alone = student.run(walk, name, param, column, [0.1] * 3, **chosen)
                expect(together[index], alone[-1], f"{name}, parameter {index + 1}", dtype=True)
                expect(together[index].dtype, torch.float32, f"dtype of {name}")

    @exercise.check("param and grad are not modified", points=0.5)
    def _(student):
        for name, chosen in options:
            grads = [torch.randn(2, 3) for _ in range(3)]
            after = student.run(kept, name, torch.randn(2, 3), grads, **chosen)
            found = {
                "param": not all(map(torch.equal, after["params"], after["params then"])),
                "grad": not all(map(torch.equal, after["grads"], grads)),
            }
            got = [what for what, changed in found.items() if changed]
            require(not got, f"{name} modifies {' and '.join(got)}: return a new tensor", got=got)


# ----------------------------------------------------------------------------------------------
# sgd

ex = sgd = Exercise("sgd", defines=["sgd_step"], forbids=OPTIMISERS)


@ex.check("plain gradient descent", points=0.5)
def _(student):
    compare(student, "sgd_step", optim.SGD)


@ex.check("momentum over four steps with changing rates", points=1)
def _(student):
    compare(student, "sgd_step", optim.SGD, momentum=0.7)
    compare(student, "sgd_step", optim.SGD, gaps=True, momentum=0.7)


@ex.check("Nesterov's momentum", points=1)
def _(student):
    compare(student, "sgd_step", optim.SGD, momentum=0.7, nesterov=True)


@ex.check("weight decay, with and without a gradient", points=0.5)
def _(student):
    compare(student, "sgd_step", optim.SGD, scale=0.0, weight_decay=0.4)
    compare(student, "sgd_step", optim.SGD, momentum=0.6, weight_decay=0.4)
    compare(student, "sgd_step", optim.SGD, momentum=0.6, nesterov=True, weight_decay=0.4)


common_checks(
    ex,
    ("sgd_step", {"momentum": 0.5}),
    ("sgd_step", {"nesterov": True, "momentum": 0.5, "weight_decay": 0.1}),
)

ex.mistake(
    "the velocity is forgotten",
    "Each step has to find the velocity of the last one in `state`.",
    edit=('state.get("velocity", 0.0)', "0.0"),
)
ex.mistake(
    "the rate inside the velocity",
    "Here v collects gradients alone; the present rate multiplies all of v.",
    edit=[
        (
            'momentum * state.get("velocity", 0.0) + grad',
            'momentum * state.get("velocity", 0.0) + lr * grad',
        ),
        (
            "param - lr * (grad + momentum * velocity if nesterov else velocity)",
            "param - (lr * grad + momentum * velocity if nesterov else velocity)",
        ),
    ],
)
ex.mistake(
    "a mean in place of a sum",
    "The new gradient has weight 1, not 1 - momentum.",
    edit=(
        'state.get("velocity", 0.0) + grad',
        'state.get("velocity", 0.0) + (1 - momentum) * grad',
    ),
)
ex.mistake(
    "Nesterov ignored",
    "With nesterov=True the step is g + mu * (new v); with the old v it would be v itself.",
    edit=("(grad + momentum * velocity if nesterov else velocity)", "velocity"),
)


ex.mistake(
    "Nesterov steps along v + mu * v",
    "The look-ahead is added to the gradient: g + mu * v.",
    edit=("grad + momentum * velocity if", "velocity + momentum * velocity if"),
)
ex.mistake(
    "climbs",
    "The gradient points uphill: subtract the step.",
    edit=("return param - lr", "return param + lr"),
)
ex.mistake(
    "weight decay twice as strong",
    "The penalty is lambda / 2 times the square: its gradient is lambda * param, without a 2.",
    edit=("weight_decay * param", "2 * weight_decay * param"),
)
ex.mistake(
    "weight decay with the wrong sign",
    "The penalty's gradient is + lambda * param, which pulls the parameter towards 0.",
    edit=("grad = grad + weight_decay", "grad = grad - weight_decay"),
)
ex.mistake(
    "weight decay outside the velocity",
    "lambda * param is part of the gradient, so it goes through the momentum too.",
    edit=[
        ("    grad = grad + weight_decay * param\n", ""),
        ("return param - lr * (", "return param - lr * weight_decay * param - lr * ("),
    ],
)
ex.mistake(
    "Nesterov's gradient without the decay",
    "g = gradient + lambda * param in both places: in the velocity and in the step g + mu * v.",
    edit=[
        ("    grad = grad + weight_decay * param\n", ""),
        (
            'state.get("velocity", 0.0) + grad',
            'state.get("velocity", 0.0) + grad + weight_decay * param',
        ),
    ],
)
ex.mistake(
    "weight decay left out",
    "lambda * param is added to the gradient.",
    edit=("    grad = grad + weight_decay * param\n", ""),
)


@ex.mistake(
    "the velocity is the gradient itself",
    "The first gradient is stored, not copied, and `mul_` then writes into the caller's tensor.",
)
def _(param, grad, state, lr, momentum=0.0, nesterov=False, weight_decay=0.0):
    if weight_decay:
        grad = grad + weight_decay * param
    velocity = state.setdefault("velocity", grad)
    if velocity is not grad:
        velocity.mul_(momentum).add_(grad)
    return param - lr * (grad + momentum * velocity if nesterov else velocity)


@ex.mistake(
    "one memory for all parameters", "Keep the velocity in `state`: each parameter has its own."
)
def shared(param, grad, state, lr, momentum=0.0, nesterov=False, weight_decay=0.0):
    state = shared.__dict__
    grad = grad + weight_decay * param
    state["velocity"] = momentum * state.get("velocity", 0.0) + grad
    return param - lr * (grad + momentum * state["velocity"] if nesterov else state["velocity"])


@ex.mistake("writes into the parameter", "`-=` changes the caller's tensor: return a new one.")
def _(param, grad, state, lr, momentum=0.0, nesterov=False, weight_decay=0.0):
    grad = grad + weight_decay * param
    state["velocity"] = momentum * state.get("velocity", 0.0) + grad
    param -= lr * (grad + momentum * state["velocity"] if nesterov else state["velocity"])
    return param


@ex.alternative("torch's order: a copy at the first step, then in place")
def _(param, grad, state, lr, momentum=0.0, nesterov=False, weight_decay=0.0):
    if weight_decay != 0:
        grad = grad.add(param, alpha=weight_decay)
    if momentum != 0:
        if "buffer" not in state:
            state["buffer"] = grad.clone()
        else:
            state["buffer"].mul_(momentum).add_(grad)
        grad = grad.add(state["buffer"], alpha=momentum) if nesterov else state["buffer"]
    return param.add(grad, alpha=-lr)


@ex.alternative("the whole history")
def _(param, grad, state, lr, momentum=0.0, nesterov=False, weight_decay=0.0):
    history = state.setdefault("gradients", [])
    history.append(grad + weight_decay * param)
    velocity = sum(momentum**age * g for age, g in enumerate(reversed(history)))
    return param - lr * (history[-1] + momentum * velocity if nesterov else velocity)


@ex.alternative("float64 inside")
def _(param, grad, state, lr, momentum=0.0, nesterov=False, weight_decay=0.0):
    g = grad.double() + weight_decay * param.double()
    state["v"] = g if "v" not in state else momentum * state["v"] + g
    return (param.double() - lr * (g + momentum * state["v"] if nesterov else state["v"])).to(
        param.dtype
    )


# ----------------------------------------------------------------------------------------------
# schedules

ex = schedules = Exercise(
    "schedules",
    defines=["step_decay", "cosine", "cyclic", "warmup"],
    forbids=["optim", "lr_scheduler", "torch.optim", "torch.optim.lr_scheduler", "LambdaLR"],
)


def torch_rates(scheduler: type, steps: int, initial: float, **options) -> list[float]:
    """The rates that torch's scheduler gives to the first updates."""
    optimiser = optim.SGD([torch.zeros(1, requires_grad=True)], lr=initial)
    schedule, rates = scheduler(optimiser, **options), []
    for _ in range(steps):
        rates.append(optimiser.param_groups[0]["lr"])
        optimiser.step()
        schedule.step()
    return rates


def rates(student, name: str, steps: int, *args, **kwargs) -> list[float]:
    """A probe: a schedule's first values as plain numbers."""
    return [float(getattr(student, name)(t, *args, **kwargs)) for t in range(steps)]


def numbered(t: int) -> float:
    """A schedule that tells which step it was asked for."""
    if t < 0:
        raise ValueError("the schedule was called with a negative step")
    return 10.0 - 3.0 * t


def warm_rates(student, steps: int, warmup_steps: int) -> list[float]:
    """A probe: the warm-up in front of `numbered`."""
    return [float(student.warmup(t, warmup_steps, numbered)) for t in range(steps)]


@ex.check("step decay", points=0.5)
def _(student):
    for size, gamma in [(3, 0.5), (1, 0.9), (4, 0.2)]:
        desired = torch_rates(optim.lr_scheduler.StepLR, 13, 0.8, step_size=size, gamma=gamma)
        expect(
            student.run(rates, "step_decay", 13, 0.8, size, gamma=gamma),
            desired,
            f"every {size}, times {gamma}",
        )
    desired = torch_rates(optim.lr_scheduler.StepLR, 9, 2.0, step_size=3)
    expect(student.run(rates, "step_decay", 9, 2.0, 3), desired, "default gamma")


@ex.check("cosine up to its end", points=0.5)
def _(student):
    for total, initial, final in [(7, 0.8, 0.1), (10, 0.8, 0.3), (6, 0.2, 0.7)]:
        desired = torch_rates(
            optim.lr_scheduler.CosineAnnealingLR, total + 1, initial, T_max=total, eta_min=final
        )
        expect(
            student.run(rates, "cosine", total + 1, initial, total, final=final),
            desired,
            f"from {initial} to {final} in {total}",
        )
    desired = torch_rates(optim.lr_scheduler.CosineAnnealingLR, 6, 2.0, T_max=5)
    expect(student.run(rates, "cosine", 6, 2.0, 5), desired, "default final rate")


@ex.check("cosine stays at the final rate", points=0.5)
def _(student):
    got = student.run(rates, "cosine", 20, 0.8, 6, final=0.1)
    expect(got[6:], [0.1] * 14, "steps 6 to 19 of a cosine over 6")


@ex.check("cyclic, two cycles and more", points=1)
def _(student):
    for half, low, high in [(4, 0.1, 0.9), (5, 0.5, 2.0), (1, 0.1, 0.3)]:
        desired = torch_rates(
            optim.lr_scheduler.CyclicLR,
            23,
            low,
            base_lr=low,
            max_lr=high,
            step_size_up=half,
            cycle_momentum=False,
        )
        expect(
            student.run(rates, "cyclic", 23, low, high, half), desired, f"half a cycle of {half}"
        )


@ex.check("warm-up", points=0.5)
def _(student):
    for steps in [1, 4, 5]:
        ramp = [10.0 * (t + 1) / (steps + 1) for t in range(steps)]
        expect(student.run(warm_rates, steps + 1, steps), [*ramp, 10.0], f"warm-up of {steps}")


@ex.check("the schedule after the warm-up", points=0.5)
def _(student):
    expect(
        student.run(warm_rates, 7, 3)[3:],
        [10.0, 7.0, 4.0, 1.0],
        "steps 3 to 6 after a warm-up of 3",
    )
    expect(student.run(warm_rates, 3, 0), [10.0, 7.0, 4.0], "no warm-up")


ex.mistake(
    "step decay: a slope in place of stairs",
    "The exponent is the whole number of decays so far: step // step_size.",
    edit=("step // step_size", "step / step_size"),
)
ex.mistake(
    "step decay one step early",
    "Updates 0 to S-1 have the initial rate: the exponent is step // step_size.",
    edit=("(step // step_size)", "((step + 1) // step_size)"),
)
ex.mistake(
    "step decay one step late",
    "Update S is the first with the decayed rate.",
    edit=("(step // step_size)", "(max(step - 1, 0) // step_size)"),
)
ex.mistake(
    "step decay happens once",
    "The rate decays again after every step_size updates.",
    edit=("gamma ** (step // step_size)", "(gamma if step >= step_size else 1.0)"),
)
ex.mistake(
    "cosine: a whole period",
    "Half a cosine goes from the initial rate to the final one: pi * t / T, not 2 pi.",
    edit=("math.cos(math.pi * progress)", "math.cos(2 * math.pi * progress)"),
)
ex.mistake(
    "cosine rises again",
    "Beyond T the rate stays at its final value: limit t to T.",
    edit=("min(step / total, 1.0)", "step / total"),
)
ex.mistake(
    "cosine never below the final rate",
    "The final rate may be the larger one: limit t to T, not the rate.",
    edit=(
        "return final + (initial - final) * (1 + math.cos(math.pi * progress)) / 2",
        "return max(final, final + (initial - final) * (1 + math.cos(math.pi * progress)) / 2)",
    ),
)
ex.mistake(
    "cosine ends one step early",
    "The final rate is reached at t = T, not at T - 1.",
    edit=("step / total", "step / (total - 1)"),
)
ex.mistake(
    "cosine: final rate added on top",
    "Only the difference of the two rates is multiplied by the cosine.",
    edit=("(initial - final)", "initial"),
)
ex.mistake(
    "cosine ignores the final rate",
    "The rate ends at `final`; 0 is only its default.",
    edit=("final + (initial - final)", "initial"),
)
ex.mistake(
    "cyclic: a saw in place of triangles",
    "After P steps up, the rate goes down for P steps before it rises again.",
    edit=("(1 - abs(position - 1))", "(position / 2)"),
)
ex.mistake(
    "cyclic: half a cycle taken for the whole",
    "The rate needs half_cycle steps up and as many down.",
    edit=[("step % (2 * half_cycle)) / half_cycle", "step % half_cycle) * 2 / half_cycle")],
)
ex.mistake(
    "cyclic begins at the top",
    "At step 0 the rate is `low`.",
    edit=("(1 - abs(position - 1))", "abs(position - 1)"),
)
ex.mistake(
    "cyclic: high added to low",
    "The triangle has the height high - low.",
    edit=("(high - low)", "high"),
)
ex.mistake(
    "warm-up begins at zero",
    "A first update with rate 0 is lost: the factor is (t + 1) / (W + 1).",
    edit=("(step + 1) / (warmup_steps + 1)", "step / warmup_steps"),
)
ex.mistake(
    "warm-up is full one step early",
    "The full rate is reached at t = W for the first time: the factor is (t + 1) / (W + 1).",
    edit=("(step + 1) / (warmup_steps + 1)", "(step + 1) / warmup_steps"),
)
ex.mistake(
    "warm-up eats the schedule",
    "The schedule begins after the warm-up: call it with t - W.",
    edit=("schedule(step - warmup_steps)", "schedule(step)"),
)
ex.mistake(
    "warm-up runs along the schedule",
    "The ramp rises to schedule(0); the schedule does not advance meanwhile.",
    edit=("schedule(0) *", "schedule(step) *"),
)


ex.equivalent("min(1.0, step / total)", "the minimum does not depend on the order")
ex.equivalent("position - 1 -> 1 - position", "only its absolute value is used")
ex.equivalent("step <= warmup_steps", "at t = W both branches are schedule(0)")


@ex.alternative("decay in a loop")
def _(step, initial, step_size, gamma=0.1):
    for _ in range(step_size, step + 1, step_size):
        initial = initial * gamma
    return initial


@ex.alternative("cosine by cases, with tensors", replaces="cosine")
def _(step, initial, total, final=0.0):
    if step >= total:
        return final
    angle = torch.tensor(step / total * torch.pi, dtype=torch.float64)
    return final + 0.5 * (initial - final) * (1 + torch.cos(angle))


@ex.alternative("Smith's formula", replaces="cyclic")
def _(step, low, high, half_cycle):
    cycle = math.floor(1 + step / (2 * half_cycle))
    return low + (high - low) * max(0, 1 - abs(step / half_cycle - 2 * cycle + 1))


@ex.alternative("up and down by cases", replaces="cyclic")
def _(step, low, high, half_cycle):
    inside = step % (2 * half_cycle)
    if inside > half_cycle:
        inside = 2 * half_cycle - inside
    return low * (1 - inside / half_cycle) + high * inside / half_cycle


@ex.alternative("warm-up by min and max", replaces="warmup")
def _(step, warmup_steps, schedule):
    return min(1.0, (step + 1) / (warmup_steps + 1)) * schedule(max(0, step - warmup_steps))


# ----------------------------------------------------------------------------------------------
# adaptive

ex = adaptive = Exercise("adaptive", defines=["adagrad_step", "rmsprop_step"], forbids=OPTIMISERS)


@ex.check("Adagrad over four steps with changing rates", points=1)
def _(student):
    compare(student, "adagrad_step", optim.Adagrad)


@ex.check("RMSprop over four steps with changing rates", points=1)
def _(student):
    compare(student, "rmsprop_step", optim.RMSprop, alpha=0.8)
    compare(student, "rmsprop_step", optim.RMSprop)
    compare(student, "rmsprop_step", optim.RMSprop, gaps=True, alpha=0.8)


@ex.check("eps outside the root", points=0.5)
def _(student):
    compare(student, "adagrad_step", optim.Adagrad, eps=0.3)
    compare(student, "adagrad_step", optim.Adagrad, scale=1e-10)
    compare(student, "rmsprop_step", optim.RMSprop, eps=0.3)
    compare(student, "rmsprop_step", optim.RMSprop, scale=1e-7)


@ex.check("a zero gradient moves nothing", points=0.5)
def _(student):
    for name in adaptive.defines:
        param, grads = torch.randn(4), [torch.tensor([0.0, 1.0, 0.0, -2.0])] * 2
        got = student.run(walk, name, param, grads, [0.1, 0.1])
        expect(got[-1][[0, 2]], param[[0, 2]], f"{name}, components without a gradient")


common_checks(ex, ("adagrad_step", {}), ("rmsprop_step", {}))

ex.mistake(
    "Adagrad forgets its sum",
    "The sum over all past squares is kept in `state`.",
    edit=('state.get("sum", 0.0)', "0.0"),
)
ex.mistake(
    "Adagrad sums gradients, not squares",
    "The squares are summed: gradients of opposite sign must not cancel.",
    edit=('state.get("sum", 0.0) + grad**2', 'state.get("sum", 0.0) + grad.abs()'),
)
ex.mistake(
    "Adagrad without the root",
    "Divide by the root of the sum of squares.",
    edit=('state["sum"].sqrt()', 'state["sum"]'),
)
ex.mistake(
    "Adagrad: eps inside the root",
    "By the convention stated eps is added to the root, not to the sum.",
    edit=('(state["sum"].sqrt() + eps)', '(state["sum"] + eps).sqrt()'),
)


@ex.mistake(
    "Adagrad uses the sum before this step",
    "The square of the present gradient belongs to the sum before the division.",
)
def _(param, grad, state, lr, eps=1e-10):
    before = state.get("sum", torch.zeros_like(grad))
    state["sum"] = before + grad**2
    return param - lr * grad / (before.sqrt() + eps)


ex.mistake(
    "RMSprop forgets its mean",
    "The running mean is kept in `state`.",
    edit=('state.get("mean", 0.0)', "0.0"),
)
ex.mistake(
    "RMSprop: alpha on the wrong side",
    "alpha weighs the past, 1 - alpha the new square.",
    edit=[
        ('alpha * state.get("mean"', '(1 - alpha) * state.get("mean"'),
        ("+ (1 - alpha) * grad**2", "+ alpha * grad**2"),
    ],
)
ex.mistake(
    "RMSprop sums without 1 - alpha",
    "A running mean weighs the new square by 1 - alpha.",
    edit=("(1 - alpha) * grad**2", "grad**2"),
)
ex.mistake(
    "RMSprop without the root",
    "Divide by the root of the mean of squares.",
    edit=('state["mean"].sqrt()', 'state["mean"]'),
)
ex.mistake(
    "RMSprop: eps inside the root",
    "By the convention stated eps is added to the root, not to the mean.",
    edit=('(state["mean"].sqrt() + eps)', '(state["mean"] + eps).sqrt()'),
)
ex.mistake(
    "RMSprop with Adam's bias correction",
    "RMSprop does not correct its start: the first step is long.",
    edit=[
        ('    state["mean"] = ', '    state["t"] = state.get("t", 0) + 1\n    state["mean"] = '),
        (
            '(state["mean"].sqrt() + eps)',
            '((state["mean"] / (1 - alpha ** state["t"])).sqrt() + eps)',
        ),
    ],
)


@ex.mistake(
    "RMSprop skips a step without gradient",
    "The running mean fades at every step, s = alpha * s, also when the gradient is zero.",
    replaces="rmsprop_step",
)
def _(param, grad, state, lr, alpha=0.99, eps=1e-8):
    if not grad.any():
        return param.clone()
    state["mean"] = alpha * state.get("mean", 0.0) + (1 - alpha) * grad**2
    return param - lr * grad / (state["mean"].sqrt() + eps)


@ex.mistake(
    "RMSprop keeps the mean where the gradient is zero",
    "The running mean of each entry fades at every step, also when its gradient is zero.",
    replaces="rmsprop_step",
)
def _(param, grad, state, lr, alpha=0.99, eps=1e-8):
    mean = state.get("mean", torch.zeros_like(grad))
    state["mean"] = torch.where(grad == 0, mean, alpha * mean + (1 - alpha) * grad**2)
    return param - lr * grad / (state["mean"].sqrt() + eps)


@ex.mistake(
    "RMSprop changes the gradient",
    "Methods that end in `_` write into the caller's tensor.",
    replaces="rmsprop_step",
)
def _(param, grad, state, lr, alpha=0.99, eps=1e-8):
    state["mean"] = alpha * state.get("mean", 0.0) + (1 - alpha) * grad**2
    return param - grad.div_(state["mean"].sqrt() + eps).mul_(lr)


@ex.alternative("in-place buffers, as torch does")
def _(param, grad, state, lr, eps=1e-10):
    if "s" not in state:
        state["s"] = torch.zeros_like(param)
    state["s"].addcmul_(grad, grad)
    return param.addcdiv(grad, state["s"].sqrt().add_(eps), value=-lr)


@ex.alternative("all gradients kept")
def all_kept(param, grad, state, lr, eps=1e-10):
    state.setdefault("past", []).append(grad.clone())
    norm = torch.linalg.vector_norm(torch.stack(state["past"]), dim=0)
    return param - grad * (lr / (norm + eps))


@ex.alternative("lerp", replaces="rmsprop_step")
def _(param, grad, state, lr, alpha=0.99, eps=1e-8):
    mean = state.setdefault("m", torch.zeros_like(grad))
    mean.lerp_(grad * grad, 1 - alpha)
    return param - lr * (grad / (mean**0.5 + eps))


# ----------------------------------------------------------------------------------------------
# adadelta

ex = adadelta = Exercise("adadelta", defines=["adadelta_step"], forbids=OPTIMISERS)


@ex.check("four steps with changing rates", points=1.5)
def _(student):
    compare(student, "adadelta_step", optim.Adadelta, rho=0.7, eps=0.02)
    compare(student, "adadelta_step", optim.Adadelta, gaps=True, rho=0.7, eps=0.02)


@ex.check("the first step", points=0.5)
def _(student):
    param, grad = (
        torch.zeros(3, dtype=torch.float64),
        torch.tensor([2.0, -0.5, 0.0], dtype=torch.float64),
    )
    got = student.run(walk, "adadelta_step", param, [grad], [1.0], rho=0.6, eps=0.1)
    expect(got[0], -grad * (0.1 / (0.4 * grad**2 + 0.1)).sqrt(), "first step")


@ex.check("the defaults", points=0.5)
def _(student):
    param, grads = (
        torch.zeros(4, dtype=torch.float64),
        [torch.randn(4, dtype=torch.float64) for _ in range(3)],
    )
    got = student.run(by_default, "adadelta_step", param, grads)
    expect(got, torch_walk(optim.Adadelta, param, grads, [1.0] * 3)[-1], "third step", atol=1e-9)


def by_default(student, name: str, param: Tensor, grads: list[Tensor]) -> Tensor:
    """A probe: the parameter after some steps without any option, not even a rate."""
    state = {}
    for grad in grads:
        param = getattr(student, name)(param, grad, state)
    return param


common_checks(ex, ("adadelta_step", {"eps": 0.01}))

ex.mistake(
    "the new steps in the numerator",
    "u is brought up to date after delta is computed: the numerator knows past steps only.",
    edit=[
        (
            'past = state.get("steps", zero)',
            'old = state.get("steps", zero)\n'
            "    guess = (old + eps).sqrt() / (squares + eps).sqrt() * grad\n"
            "    past = rho * old + (1 - rho) * guess**2",
        ),
        ("rho * past + (1 - rho) * delta**2", "past"),
    ],
)
ex.mistake(
    "eps outside the roots",
    "By the convention stated eps stands inside both roots.",
    edit=(
        "(past + eps).sqrt() / (squares + eps).sqrt()",
        "(past.sqrt() + eps) / (squares.sqrt() + eps)",
    ),
)
ex.mistake(
    "no eps in the numerator",
    "Without eps the first numerator is 0, and so is every step after it.",
    edit=("(past + eps).sqrt()", "past.sqrt()"),
)
ex.mistake(
    "the numerator collects gradients",
    "u is the running mean of the squared steps delta, not of the squared gradients.",
    edit=("(1 - rho) * delta**2", "(1 - rho) * grad**2"),
)
ex.mistake(
    "the rate goes into the memory of steps",
    "u collects delta, without the rate.",
    edit=("(1 - rho) * delta**2", "(1 - rho) * (lr * delta) ** 2"),
)
ex.mistake(
    "the rate is left out",
    "The step is lr * delta; 1 is only the default.",
    edit=("param - lr * delta", "param - delta"),
)
ex.mistake(
    "no numerator: this is RMSprop",
    "The numerator, the root of the mean of past squared steps, sets the scale of the step.",
    edit=("(past + eps).sqrt() / (squares + eps).sqrt()", "1 / (squares + eps).sqrt()"),
)
ex.mistake(
    "without the roots",
    "Numerator and denominator are roots of mean squares.",
    edit=("(past + eps).sqrt() / (squares + eps).sqrt()", "(past + eps) / (squares + eps)"),
)
ex.mistake(
    "upside down",
    "Past steps stand above, past gradients below.",
    edit=(
        "(past + eps).sqrt() / (squares + eps).sqrt()",
        "(squares + eps).sqrt() / (past + eps).sqrt()",
    ),
)
ex.mistake(
    "sums in place of running means",
    "The new square is weighed by 1 - rho.",
    edit=[("(1 - rho) * grad**2", "grad**2"), ("(1 - rho) * delta**2", "delta**2")],
)
ex.mistake(
    "the squares are forgotten",
    "The running mean of the squared gradients is kept in `state`.",
    edit=('rho * state.get("squares", zero)', "rho * zero"),
)
ex.mistake(
    "the steps are forgotten",
    "The running mean of the squared steps is kept in `state`.",
    edit=('past = state.get("steps", zero)', "past = zero"),
)


@ex.alternative("in-place buffers, as torch does")
def _(param, grad, state, lr=1.0, rho=0.9, eps=1e-6):
    if not state:
        state["v"], state["u"] = torch.zeros_like(param), torch.zeros_like(param)
    state["v"].mul_(rho).addcmul_(grad, grad, value=1 - rho)
    delta = state["u"].add(eps).sqrt_().div_(state["v"].add(eps).sqrt_()).mul_(grad)
    state["u"].mul_(rho).addcmul_(delta, delta, value=1 - rho)
    return param.add(delta, alpha=-lr)


@ex.alternative("a tuple in the dictionary, one root")
def _(param, grad, state, lr=1.0, rho=0.9, eps=1e-6):
    s, u = state.get("su", (0.0, 0.0))
    s = rho * s + (1 - rho) * grad * grad
    delta = grad * ((u + eps) / (s + eps)) ** 0.5
    state["su"] = s, rho * u + (1 - rho) * delta * delta
    return param - lr * delta


# ----------------------------------------------------------------------------------------------
# adam

ex = adam = Exercise("adam", defines=["adam_step", "adamw_step"], forbids=OPTIMISERS)


@ex.check("Adam: the first step is the rate times the sign", points=0.5)
def _(student):
    param, grad = (
        torch.zeros(4, dtype=torch.float64),
        torch.tensor([1e-3, -5.0, 200.0, 0.0], dtype=torch.float64),
    )
    got = student.run(walk, "adam_step", param, [grad], [0.3])
    expect(got[0], -0.3 * grad.sign(), "first step")


@ex.check("Adam over four steps with changing rates", points=1.5)
def _(student):
    compare(student, "adam_step", optim.Adam, betas=(0.7, 0.8))
    compare(student, "adam_step", optim.Adam)
    compare(student, "adam_step", optim.Adam, gaps=True, betas=(0.7, 0.8))


@ex.check("Adam: eps outside the root", points=0.5)
def _(student):
    compare(student, "adam_step", optim.Adam, eps=0.3)
    compare(student, "adam_step", optim.Adam, scale=1e-8)


@ex.check("Adam: L2 penalty in the gradient", points=0.5)
def _(student):
    compare(student, "adam_step", optim.Adam, betas=(0.7, 0.8), weight_decay=0.4)


@ex.check("AdamW over four steps with changing rates", points=1)
def _(student):
    compare(student, "adamw_step", optim.AdamW, betas=(0.7, 0.8), weight_decay=0.4, eps=0.1)
    compare(student, "adamw_step", optim.AdamW)
    compare(student, "adamw_step", optim.AdamW, scale=1e-8)


@ex.check("AdamW shrinks a parameter without gradient", points=0.5)
def _(student):
    param, grads = torch.randn(3, dtype=torch.float64), [torch.zeros(3, dtype=torch.float64)] * 2
    got = student.run(walk, "adamw_step", param, grads, [0.5, 0.2], weight_decay=0.3)
    expect(got[0], 0.85 * param, "after step 1")
    expect(got[1], 0.85 * 0.94 * param, "after step 2")


common_checks(ex, ("adam_step", {"weight_decay": 0.1}), ("adamw_step", {"weight_decay": 0.1}))

ex.mistake(
    "no bias correction",
    "The means start at 0: divide them by 1 - beta^t.",
    edit=("mean / (1 - beta1**t), square / (1 - beta2**t)", "mean, square"),
)
ex.mistake(
    "only the first mean is corrected",
    "Both means start at 0, so both are divided by 1 - beta^t.",
    edit=("square / (1 - beta2**t)", "square"),
)
ex.mistake(
    "t is one too large",
    "t is 1 at the first step.",
    edit=('state.get("t", 0) + 1', 'state.get("t", 1) + 1'),
)
ex.mistake(
    "t begins at 0",
    "With t = 0 the correction divides by 1 - beta^0 = 0: t is 1 at the first step.",
    edit=[
        ('state.get("t", 0) + 1', 'state.get("t", 0)'),
        ("state.update(t=t,", "state.update(t=t + 1,"),
    ],
)
ex.mistake(
    "t is forgotten",
    "The step number is part of the memory: keep it in `state`.",
    edit=('state.get("t", 0) + 1', "1"),
)
ex.mistake(
    "the means are forgotten",
    "Both running means are kept in `state`.",
    edit=[('beta1 * state.get("mean", 0.0)', "0.0"), ('beta2 * state.get("square", 0.0)', "0.0")],
)
ex.mistake(
    "betas exchanged",
    "beta1 belongs to the gradient, beta2 to its square.",
    edit=("beta1, beta2 = betas", "beta2, beta1 = betas"),
)
ex.mistake(
    "corrected means are stored",
    "The recursion runs on the uncorrected means; the correction is only for the step.",
    edit=[
        ("    state.update(t=t, mean=mean, square=square)\n", ""),
        (
            "square / (1 - beta2**t)",
            "square / (1 - beta2**t)\n    state.update(t=t, mean=mean_hat, square=square_hat)",
        ),
    ],
)
ex.mistake(
    "eps inside the root",
    "By the convention stated eps is added to the root, not to the mean square.",
    edit=("(square_hat.sqrt() + eps)", "(square_hat + eps).sqrt()"),
)
ex.mistake(
    "eps before the correction",
    "eps is added to the root of the corrected mean square.",
    edit=(
        "lr * mean_hat / (square_hat.sqrt() + eps)",
        "lr * mean_hat * (1 - beta2**t) ** 0.5 / (square.sqrt() + eps)",
    ),
)
ex.mistake(
    "without the root",
    "Divide by the root of the mean square.",
    edit=("square_hat.sqrt()", "square_hat"),
)
ex.mistake(
    "Adam without its weight decay",
    "lambda * param is added to the gradient first.",
    edit=("    grad = grad + weight_decay * param\n", ""),
)
ex.mistake(
    "Adam decays as AdamW does",
    "In Adam the penalty is part of the gradient and goes through both means.",
    edit=[
        ("    grad = grad + weight_decay * param\n", ""),
        ("return param - lr * mean_hat", "return (1 - lr * weight_decay) * param - lr * mean_hat"),
    ],
)
ex.mistake(
    "AdamW couples its decay into the gradient",
    "AdamW shrinks the parameter itself; the means see the gradient of the loss alone.",
    edit=[
        ("    shrunk = (1 - lr * weight_decay) * param\n", ""),
        (
            "adam_step(shrunk, grad, state, lr, betas, eps)",
            "adam_step(param, grad, state, lr, betas, eps, weight_decay)",
        ),
    ],
)
ex.mistake(
    "AdamW grows the parameter",
    "The decay shrinks: the factor is 1 - lr * lambda.",
    edit=("(1 - lr * weight_decay)", "(1 + lr * weight_decay)"),
)
ex.mistake(
    "AdamW's decay without the rate",
    "In torch's convention the decay is lr * lambda.",
    edit=("(1 - lr * weight_decay)", "(1 - weight_decay)"),
)
ex.mistake(
    "AdamW does not decay",
    "The parameter is multiplied by 1 - lr * lambda at each step.",
    edit=("(1 - lr * weight_decay) * param", "param"),
)


ex.mistake(
    "AdamW shrinks after the step",
    "The step is taken off the shrunk parameter; it is not shrunk itself.",
    edit=[
        ("    shrunk = (1 - lr * weight_decay) * param\n", ""),
        ("adam_step(shrunk, ", "(1 - lr * weight_decay) * adam_step(param, "),
    ],
)


@ex.alternative("in-place buffers, as torch does")
def _(param, grad, state, lr, betas=(0.9, 0.999), eps=1e-8, weight_decay=0.0):
    if weight_decay != 0:
        grad = grad.add(param, alpha=weight_decay)
    if len(state) == 0:
        state["step"] = 0
        state["exp_avg"], state["exp_avg_sq"] = torch.zeros_like(param), torch.zeros_like(param)
    state["step"] += 1
    state["exp_avg"].lerp_(grad, 1 - betas[0])
    state["exp_avg_sq"].mul_(betas[1]).addcmul_(grad, grad, value=1 - betas[1])
    first, second = 1 - betas[0] ** state["step"], 1 - betas[1] ** state["step"]
    denominator = (state["exp_avg_sq"].sqrt() / math.sqrt(second)).add_(eps)
    return param.addcdiv(state["exp_avg"], denominator, value=-lr / first)


@ex.alternative("weights of all past gradients")
def _(param, grad, state, lr, betas=(0.9, 0.999), eps=1e-8, weight_decay=0.0):
    past = state.setdefault("past", [])
    past.append(grad + weight_decay * param)
    stacked = torch.stack(past)
    ages = torch.arange(len(past) - 1, -1, -1, dtype=param.dtype).reshape(-1, *[1] * param.dim())

    def mean(values, beta):
        return (beta**ages * values).sum(0) / (beta**ages).sum()

    return param - lr * mean(stacked, betas[0]) / (mean(stacked**2, betas[1]).sqrt() + eps)


@ex.alternative("AdamW on its own", replaces="adamw_step")
def _(param, grad, state, lr, betas=(0.9, 0.999), eps=1e-8, weight_decay=0.01):
    t, m, v = state.get("all", (0, 0.0, 0.0))
    t, m, v = t + 1, betas[0] * m + (1 - betas[0]) * grad, betas[1] * v + (1 - betas[1]) * grad**2
    state["all"] = t, m, v
    step = (m / (1 - betas[0] ** t)) / ((v / (1 - betas[1] ** t)) ** 0.5 + eps)
    return param - lr * (step + weight_decay * param)
