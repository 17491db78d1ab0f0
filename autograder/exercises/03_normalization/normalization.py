"""Hidden checks, known mistakes and alternatives of `03_normalization/normalization`."""

import math
from typing import TYPE_CHECKING, Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from autograder.contract import Exercise, expect, probes, require

if TYPE_CHECKING:  # replacements run in the namespace of the reference
    from autograder.reference.normalization import (
        BatchNorm,
        Normalize,
        copy,
        fold_batch_norm,
        normalize,
        normalize_backward,
    )

READY = [
    *["BatchNorm1d", "BatchNorm2d", "BatchNorm3d", "LazyBatchNorm1d", "LazyBatchNorm2d"],
    *["LayerNorm", "GroupNorm", "InstanceNorm1d", "InstanceNorm2d", "InstanceNorm3d", "RMSNorm"],
    *["F.batch_norm", "F.layer_norm", "F.group_norm", "F.instance_norm", "F.normalize"],
    *["torch.batch_norm", "torch.layer_norm", "torch.group_norm", "torch.instance_norm"],
    *["aten::native_batch_norm", "aten::_native_batch_norm_legit", "aten::cudnn_batch_norm"],
    *["aten::_batch_norm_with_update", "aten::native_layer_norm", "aten::native_group_norm"],
]
# Not `backward`: a class of the student's own may have a method of that name. See `by_hand`.
BY_HAND = [
    *["autograd", "requires_grad", "requires_grad_", "enable_grad", "set_grad_enabled"],
    *["inference_mode", "func", "functorch", "vjp"],
]


def close(got: Any, want: Any, what: str, **options: float) -> None:
    """Tensors that passed through a few sums and a root in float32."""
    expect(got, want, what, **{"rtol": 1e-3, "atol": 1e-5, **options})


def by_hand(student: Any, name: str, *args: Any, **kwargs: Any) -> Any:
    """A probe: what a function returns while autograd records nothing."""
    with torch.no_grad():
        return getattr(student, name)(*args, **kwargs)


# ----------------------------------------------------------------------------------------------
# normalize

ex = normalize_exercise = Exercise("normalize", forbids=READY)


def normalized(x: Tensor, dims: tuple[int, ...], eps: float = 1e-5) -> Tensor:
    """The oracle, in float64."""
    x = x.double()
    var, mean = torch.var_mean(x, dim=dims, correction=0, keepdim=True)
    return (x - mean) * (var + eps).rsqrt()


@ex.check("the groups are those of dims", points=1)
def _(student):
    x = 3 * torch.randn(5, 3) + 2
    for dims in [(0,), (1,), (-1,), (0, 1)]:
        close(student.normalize(x, dims), normalized(x, dims), f"shape (5, 3), dims {dims}")
    x = 3 * torch.randn(2, 3, 4, 5) - 1
    for dims in [(0, 2, 3), (2, 3), (1, 2, 3), (-2, -1), (0, -1), (0, 1, 2, 3)]:
        close(student.normalize(x, dims), normalized(x, dims), f"shape (2, 3, 4, 5), dims {dims}")


@ex.check("eps inside the root, the variance biased", points=1)
def _(student):
    x = torch.randn(3, 4)
    for eps in [0.5, 3.0]:
        close(student.normalize(x, (0,), eps=eps), normalized(x, (0,), eps), f"eps {eps}")
    close(student.normalize(x, (1,), 2.0), normalized(x, (1,), 2.0), "eps 2, rows")
    small = 0.003 * torch.randn(3, 6)
    close(student.normalize(small, (1,)), normalized(small, (1,)), "small numbers, default eps")


@ex.check("far from zero, and groups of equal numbers", points=0.5)
def _(student):
    x = torch.randn(20, 3) + torch.tensor([1e4, -1e4, 3e3])
    got = student.normalize(x, (0,))
    expect(got, normalized(x, (0,)), "numbers near 10000", rtol=1e-2, atol=1e-2)
    x = torch.tensor([[7.0, 7.0, 7.0, 7.0], [1.0, 2.0, 3.0, 4.0]])
    close(student.normalize(x, (1,)), normalized(x, (1,)), "a group of equal numbers")
    x = torch.tensor([[-5e-4, 5e-4], [2e-5, -2e-5], [1e-3, 3e-3]])
    close(student.normalize(x, (1,)), normalized(x, (1,)), "groups of nearly equal numbers")
    x = torch.tensor([[0.0, 1e-6]])
    close(student.normalize(x, (1,)), normalized(x, (1,)), "0 and a millionth", atol=1e-7)


@ex.check("float64, not contiguous, not modified", points=0.5)
def _(student):
    x = torch.randn(4, 3, 2).double()
    want = normalized(x, (0, 2))
    expect(student.normalize(x, (0, 2)), want, "float64", rtol=1e-7, atol=1e-9, dtype=True)
    turned = torch.randn(3, 5).T
    close(student.normalize(turned, (0,)), normalized(turned, (0,)).float(), "transposed")
    got = student.normalize(torch.randn(3, 2), (0,))
    expect(str(got.dtype), "torch.float32", "dtype of a float32 input")
    require(student.unchanged("normalize", x, (0,)), "normalize changes its argument")


ex.mistake(
    "eps outside the root",
    "eps is added to the variance, inside the root.",
    edit=(
        "(centred.square().mean(dim=dims, keepdim=True) + eps).sqrt()",
        "(centred.square().mean(dim=dims, keepdim=True).sqrt() + eps)",
    ),
)
ex.mistake(
    "Bessel's correction",
    "The variance is the biased one: divide by m, not by m - 1.",
    edit=(
        "centred.square().mean(dim=dims, keepdim=True)",
        "x.var(dim=dims, keepdim=True)",
    ),
)
ex.mistake(
    "divides by the variance",
    "Divide by the root of the variance.",
    edit=(" + eps).sqrt()", " + eps)"),
)
ex.mistake(
    "the mean is not subtracted",
    "The numerator is x minus the mean.",
    edit=("return centred / ", "return x / "),
)
ex.mistake(
    "the mean square in place of the variance",
    "The variance is the mean square of what is left after the mean is subtracted.",
    edit=("(centred.square()", "(x.square()"),
)
ex.mistake(
    "without eps",
    "Without eps a group of equal numbers is 0/0.",
    edit=(" + eps).sqrt()", ").sqrt()"),
)
ex.mistake(
    "the variance is kept above eps",
    "eps is added, whatever the variance is.",
    edit=(
        "(centred.square().mean(dim=dims, keepdim=True) + eps).sqrt()",
        "centred.square().mean(dim=dims, keepdim=True).clamp(min=eps).sqrt()",
    ),
)
ex.mistake(
    "eps is fixed",
    "Use the argument eps.",
    edit=(" + eps)", " + 1e-5)"),
)
ex.mistake(
    "one group of all numbers",
    "Mean and variance run over dims only.",
    edit=[
        ("x.mean(dim=dims, keepdim=True)", "x.mean()"),
        ("centred.square().mean(dim=dims, keepdim=True)", "centred.square().mean()"),
    ],
)
ex.mistake(
    "only the first of dims",
    "All of dims together form a group.",
    edit=[
        ("x.mean(dim=dims,", "x.mean(dim=dims[:1],"),
        (".square().mean(dim=dims,", ".square().mean(dim=dims[:1],"),
    ],
)
ex.mistake(
    "the other dimensions",
    "dims are the dimensions over which the mean runs, not those that are kept.",
    edit=(
        "    centred =",
        "    dims = tuple(d for d in range(x.dim()) if d not in [i % x.dim() for i in dims])"
        " or (0,)\n    centred =",
    ),
)
ex.mistake(
    "cancellation far from zero",
    "Near 10^4 the float32 squares have lost all that counts: subtract the mean first.",
    edit=(
        "centred.square().mean(dim=dims, keepdim=True)",
        "(x.square().mean(dim=dims, keepdim=True) - x.mean(dim=dims, keepdim=True) ** 2)",
    ),
)
ex.mistake(
    "nearly equal numbers become zeros",
    "eps takes care of small variances: the formula holds for every group.",
    edit=(
        "    return centred / ",
        "    tiny = centred.square().mean(dim=dims, keepdim=True) < 1e-6\n"
        "    return torch.where(tiny, 0.0, centred) / ",
    ),
)
ex.mistake(
    "a very small variance is taken for none",
    "eps takes care of small variances, however small: (0, 1e-6) does not become (0, 0).",
    edit=(
        "    return centred / ",
        "    tiny = centred.square().mean(dim=dims, keepdim=True) < 1e-11\n"
        "    return torch.where(tiny, 0.0, centred) / ",
    ),
)
ex.mistake(
    "mean absolute deviation",
    "The deviation is the root of the mean square.",
    edit=(
        "(centred.square().mean(dim=dims, keepdim=True) + eps).sqrt()",
        "(centred.abs().mean(dim=dims, keepdim=True) + eps)",
    ),
)
ex.mistake(
    "changes its argument",
    "`-=` writes into the caller's tensor.",
    edit=(
        "centred = x - x.mean(dim=dims, keepdim=True)",
        "x -= x.mean(dim=dims, keepdim=True)\n    centred = x",
    ),
)


@ex.alternative("var_mean")
def _(x, dims, eps=1e-5):
    var, mean = torch.var_mean(x, dim=dims, correction=0, keepdim=True)
    return (x - mean) * torch.rsqrt(var + eps)


@ex.alternative("float64 inside, sums")
def _(x, dims, eps=1e-5):
    wide, count = x.double(), math.prod(x.shape[d] for d in dims)
    wide = wide - wide.sum(dims, keepdim=True) / count
    return (wide / ((wide**2).sum(dims, keepdim=True) / count + eps) ** 0.5).to(x.dtype)


@ex.alternative("rows of a matrix")
def _(x, dims, eps=1e-5):
    dims = [d % x.dim() for d in dims]
    kept = [d for d in range(x.dim()) if d not in dims]
    order = kept + dims
    moved = x.permute(order)
    rows = moved.reshape(math.prod(moved.shape[: len(kept)]), -1)
    rows = torch.stack([(row - row.mean()) / (row.var(correction=0) + eps).sqrt() for row in rows])
    back = [order.index(d) for d in range(x.dim())]
    return rows.reshape(moved.shape).permute(back)


# ----------------------------------------------------------------------------------------------
# batch_norm

ex = batch_norm = Exercise(
    "batch_norm", defines=["batch_norm_train", "batch_norm_eval"], forbids=READY
)


def a_batch(rows: int, features: int) -> list[Tensor]:
    """x, gamma, beta, running mean and variance, all unequal."""
    x = 2 * torch.randn(rows, features) + 5 * torch.randn(features)
    return [x, *torch.randn(3, features), 0.5 + 3 * torch.rand(features)]


def far_from_zero(*shape: int) -> Tensor:
    """Numbers near 10000 or -10000 along dimension 1, with a deviation of about 1."""
    away = 1e4 * (-1.0) ** torch.arange(shape[1])
    return torch.randn(shape) + away.reshape(-1, *[1] * (len(shape) - 2))


def trained(given: list[Tensor], momentum: float = 0.1, eps: float = 1e-5) -> list[Tensor]:
    """The oracle: torch's own."""
    x, gamma, beta, mean, var = (tensor.clone() for tensor in given)
    y = F.batch_norm(x, mean, var, gamma, beta, True, momentum, eps)
    return [y, mean, var]


@ex.check("training: the output", points=1)
def _(student):
    for rows, features in [(5, 3), (2, 4), (7, 1)]:
        given = a_batch(rows, features)
        got = student.batch_norm_train(*given)[0]
        close(got, trained(given)[0], f"output for {rows} rows of {features}")
    given = a_batch(4, 3)
    got = student.batch_norm_train(*given, eps=2.0)[0]
    close(got, trained(given, eps=2.0)[0], "output with eps = 2")


@ex.check("training: the running statistics", points=1)
def _(student):
    given = a_batch(3, 4)
    for got, want, name in zip(
        student.batch_norm_train(*given)[1:], trained(given)[1:], ["mean", "variance"], strict=True
    ):
        close(got, want, f"running {name}, default momentum")
    for momentum, eps in [(0.3, 1.0), (1.0, 0.5), (0.0, 1e-5)]:
        given = a_batch(2, 3)
        got = student.batch_norm_train(*given, momentum=momentum, eps=eps)
        want = trained(given, momentum, eps)
        close(got[1], want[1], f"running mean, momentum {momentum}")
        close(got[2], want[2], f"running variance, momentum {momentum}")


@ex.check("training: a batch of one raises ValueError", points=0.5)
def _(student):
    given = a_batch(1, 3)
    expect(student.raises("batch_norm_train", *given), "ValueError", "a batch of one")
    given = a_batch(2, 3)
    close(student.batch_norm_train(*given)[0], trained(given)[0], "a batch of two")


@ex.check("evaluation", points=1)
def _(student):
    for rows, eps in [(4, 1e-5), (1, 1e-5), (3, 2.0), (300, 1e-5)]:
        given = a_batch(rows, 5)
        x, gamma, beta, mean, var = given
        want = F.batch_norm(x, mean, var, gamma, beta, False, 0.1, eps)
        close(student.batch_norm_eval(*given, eps=eps), want, f"{rows} rows, eps {eps}")
    given = a_batch(3, 4)
    given[-1] = 1e-5 * torch.rand(4)
    x, gamma, beta, mean, var = given
    want = F.batch_norm(x, mean, var, gamma, beta, False)
    close(student.batch_norm_eval(*given), want, "small running variance, default eps")


@ex.check("small variance, numbers far from zero, nothing is modified", points=0.5)
def _(student):
    given = a_batch(8, 3)
    given[0] = far_from_zero(8, 3)
    got, wide = student.batch_norm_train(*given), [tensor.double() for tensor in given]
    expect(got[0], trained(wide)[0], "output for numbers near 10000", rtol=2e-2, atol=2e-2)
    expect(got[2], trained(wide)[2], "running variance near 10000", rtol=1e-2, atol=1e-2)
    given = a_batch(5, 3)
    given[0] = given[0] * 0.002
    got, want = student.batch_norm_train(*given), trained(given)
    close(got[0], want[0], "output for small numbers")
    close(got[2], want[2], "running variance for small numbers")
    require(student.unchanged("batch_norm_train", *given), "batch_norm_train changes its arguments")
    require(student.unchanged("batch_norm_eval", *given), "batch_norm_eval changes its arguments")


ex.mistake(
    "the running variance is biased",
    "torch stores the unbiased variance, divided by N - 1.",
    edit=("x.var(dim=0)", "x.var(dim=0, correction=0)"),
)
ex.mistake(
    "normalises with the unbiased variance",
    "The batch itself is normalised with the biased variance; only the running one is unbiased.",
    edit=(
        "gamma * normalize(x, (0,), eps) + beta",
        "gamma * (x - x.mean(dim=0)) / (x.var(dim=0) + eps).sqrt() + beta",
    ),
)
ex.mistake(
    "momentum weighs the old value",
    "In torch's convention momentum is the weight of the new value.",
    edit=[
        (
            "(1 - momentum) * running_mean + momentum * x.mean",
            "momentum * running_mean + (1 - momentum) * x.mean",
        ),
        (
            "(1 - momentum) * running_var + momentum * x.var",
            "momentum * running_var + (1 - momentum) * x.var",
        ),
    ],
)
ex.mistake(
    "normalises with the running statistics",
    "In training mode the batch's own statistics are used.",
    edit=(
        "gamma * normalize(x, (0,), eps) + beta",
        "gamma * (x - running_mean) / (running_var + eps).sqrt() + beta",
    ),
)
ex.mistake(
    "evaluation uses the batch",
    "In evaluation mode the running statistics stand in for those of the batch.",
    edit=(
        "gamma * (x - running_mean) / (running_var + eps).sqrt() + beta",
        "gamma * normalize(x, (0,), eps) + beta",
    ),
)
ex.mistake(
    "evaluation: eps outside the root",
    "eps is added to the running variance, inside the root.",
    edit=("(running_var + eps).sqrt()", "(running_var.sqrt() + eps)"),
)
ex.mistake(
    "evaluation: divides by the variance",
    "Divide by the root of the running variance.",
    edit=("(running_var + eps).sqrt()", "(running_var + eps)"),
)
ex.mistake(
    "eps in the running variance",
    "eps does not enter the running variance.",
    edit=("momentum * x.var(dim=0)", "momentum * (x.var(dim=0) + eps)"),
)
ex.mistake(
    "the running deviation",
    "What is stored is the variance, not its root.",
    edit=("momentum * x.var(dim=0)", "momentum * x.std(dim=0)"),
)
ex.mistake(
    "the output's statistics",
    "The running statistics are those of the input.",
    edit=("momentum * x.mean(dim=0)", "momentum * y.mean(dim=0)"),
)
ex.mistake(
    "the running statistics stand still",
    "Every training batch enters the running statistics.",
    edit=("return y, new_mean, new_var", "return y, running_mean, running_var"),
)
ex.mistake(
    "the running statistics are the batch's",
    "Only the share `momentum` comes from this batch.",
    edit=("return y, new_mean, new_var", "return y, x.mean(dim=0), x.var(dim=0)"),
)
ex.mistake(
    "normalises the rows",
    "A feature is normalised over the batch, dim 0; rows would be layer normalisation.",
    edit=("normalize(x, (0,), eps)", "normalize(x, (1,), eps)"),
)
ex.mistake(
    "a batch of one gives NaN",
    "A batch of one row has no spread: raise ValueError.",
    edit=("if len(x) < 2:", "if len(x) < 1:"),
)
ex.mistake(
    "a batch of two raises",
    "Two rows are enough.",
    edit=("if len(x) < 2:", "if len(x) < 3:"),
)
ex.mistake(
    "scale and shift left out",
    "y = gamma * x_hat + beta.",
    edit=("y = gamma * normalize(x, (0,), eps) + beta", "y = normalize(x, (0,), eps)"),
)
ex.mistake(
    "training: eps is fixed",
    "batch_norm_train has an argument eps: use it.",
    edit=("normalize(x, (0,), eps)", "normalize(x, (0,))"),
)


ex.mistake(
    "cancellation far from zero",
    "Near 10^4 the float32 squares have lost all that counts: subtract the mean first.",
    edit=(
        "y = gamma * normalize(x, (0,), eps) + beta",
        "var = x.square().mean(dim=0) - x.mean(dim=0) ** 2\n"
        "    y = gamma * (x - x.mean(dim=0)) / (var + eps).sqrt() + beta",
    ),
)
ex.mistake(
    "evaluation uses a large batch",
    "In evaluation mode rows do not know of each other, however many there are.",
    edit=(
        "    return gamma * (x - running_mean)",
        "    if len(x) > 64:\n"
        "        running_mean, running_var = x.mean(dim=0), x.var(dim=0)\n"
        "    return gamma * (x - running_mean)",
    ),
)


@ex.mistake(
    "changes its arguments",
    "`-=`, `sub_` and `lerp_` write into the caller's tensors: x and the running statistics stay "
    "as they were, the results are new.",
)
def _(x, gamma, beta, running_mean, running_var, momentum=0.1, eps=1e-5):
    if len(x) < 2:
        raise ValueError
    running_mean.lerp_(x.mean(dim=0), momentum)
    running_var.lerp_(x.var(dim=0), momentum)
    return gamma * normalize(x, (0,), eps) + beta, running_mean, running_var


@ex.alternative("by hand, Bessel as a factor")
def _(x, gamma, beta, running_mean, running_var, momentum=0.1, eps=1e-5):
    n = x.shape[0]
    if n == 1:
        raise ValueError("one row")
    mean = x.sum(0) / n
    var = ((x - mean) ** 2).sum(0) / n
    y = (x - mean) * (gamma / torch.sqrt(var + eps)) + beta
    new_mean = running_mean + momentum * (mean - running_mean)
    return y, new_mean, torch.lerp(running_var, var * n / (n - 1), momentum)


@ex.alternative("an error of its own")
def _(x, gamma, beta, running_mean, running_var, momentum=0.1, eps=1e-5):
    class TooFewRows(ValueError):
        pass

    if len(x) < 2:
        raise TooFewRows("one row")
    new_mean = torch.lerp(running_mean, x.mean(0), momentum)
    new_var = torch.lerp(running_var, x.var(0), momentum)
    return gamma * normalize(x, (0,), eps) + beta, new_mean, new_var


@ex.alternative("float64 inside, columns in a loop")
def _(x, gamma, beta, running_mean, running_var, momentum=0.1, eps=1e-5):
    if len(x) == 1:
        raise ValueError("one row")
    columns, means, variances = [], [], []
    for column, g, b in zip(x.double().T, gamma, beta, strict=True):
        var, mean = torch.var_mean(column, correction=0)
        columns.append(g * (column - mean) / (var + eps).sqrt() + b)
        means.append(mean)
        variances.append(column.var())
    mean, var = torch.stack(means).to(x.dtype), torch.stack(variances).to(x.dtype)
    y = torch.stack(columns, dim=1).to(x.dtype)
    return (
        y,
        running_mean * (1 - momentum) + mean * momentum,
        running_var * (1 - momentum) + var * momentum,
    )


@ex.alternative("evaluation as one scale and one shift", replaces="batch_norm_eval")
def _(x, gamma, beta, running_mean, running_var, eps=1e-5):
    scale = gamma * torch.rsqrt(running_var + eps)
    return x * scale + (beta - running_mean * scale)


# ----------------------------------------------------------------------------------------------
# batch_norm_backward

ex = batch_norm_backward = Exercise(
    "batch_norm_backward",
    defines=["normalize_backward", "batch_norm_backward"],
    forbids=[*READY, *BY_HAND],
)


def gradients(function: Any, grad: Tensor, *leaves: Tensor) -> list[Tensor]:
    """Autograd's gradients of `function(*leaves)`, in float64."""
    wide = [leaf.detach().double().requires_grad_() for leaf in leaves]
    return list(torch.autograd.grad(function(*wide), wide, grad.double()))


@ex.check("by the input, columns and rows", points=1)
def _(student):
    x, grad = 2 * torch.randn(5, 3) + 1, torch.randn(5, 3)
    for dims in [(0,), (1,), (-1,), (0, 1)]:
        (want,) = gradients(lambda x, dims=dims: normalized(x, dims), grad, x)
        close(
            student.run(by_hand, "normalize_backward", grad, x, dims),
            want,
            f"dims {dims}",
            atol=1e-4,
        )


@ex.check("by the input, several dimensions", points=1)
def _(student):
    x, grad = 2 * torch.randn(2, 3, 4, 5) + 1, torch.randn(2, 3, 4, 5)
    for dims in [(0, 2, 3), (2, 3), (-3, -2, -1), (-1,), (0, -2)]:
        (want,) = gradients(lambda x, dims=dims: normalized(x, dims), grad, x)
        close(
            student.run(by_hand, "normalize_backward", grad, x, dims),
            want,
            f"dims {dims}",
            atol=1e-4,
        )


@ex.check("eps counts in the gradient", points=1)
def _(student):
    x, grad = torch.randn(3, 4), torch.randn(3, 4)
    for eps in [0.5, 4.0]:
        (want,) = gradients(lambda x, eps=eps: normalized(x, (0,), eps), grad, x)
        close(
            student.run(by_hand, "normalize_backward", grad, x, (0,), eps=eps), want, f"eps {eps}"
        )
    x = 0.004 * torch.randn(4, 2)
    (want,) = gradients(lambda x: normalized(x, (0,)), grad[:, :2].new_ones(4, 2).cumsum(0), x)
    got = student.run(by_hand, "normalize_backward", torch.ones(4, 2).cumsum(0), x, (0,))
    close(got, want, "small numbers, default eps")
    x, grad = torch.ones(2, 1), torch.tensor([[4.0], [0.0]])
    (want,) = gradients(lambda x: normalized(x, (0,)), grad, x)
    got = student.run(by_hand, "normalize_backward", grad, x, (0,))
    close(got, want, "a group of equal numbers, default eps")


@ex.check("batch normalisation: x", points=1)
def _(student):
    for rows, features, eps in [(6, 4, 1e-5), (3, 2, 1.0)]:
        x, gamma, beta, *_ = a_batch(rows, features)
        grad = torch.randn(rows, features)
        want = gradients(
            lambda x, g, b, e=eps: g * normalized(x, (0,), e) + b, grad, x, gamma, beta
        )
        got = student.run(by_hand, "batch_norm_backward", grad, x, gamma, eps)
        close(got[0], want[0], f"dx, {rows} rows, eps {eps}", atol=1e-4)


@ex.check("batch normalisation: gamma and beta", points=1)
def _(student):
    for rows, features, eps in [(5, 3, 1e-5), (2, 4, 1.0)]:
        x, gamma, beta, *_ = a_batch(rows, features)
        grad = torch.randn(rows, features)
        want = gradients(
            lambda x, g, b, e=eps: g * normalized(x, (0,), e) + b, grad, x, gamma, beta
        )
        got = student.run(by_hand, "batch_norm_backward", grad, x, gamma, eps=eps)
        close(got[1], want[1], f"dgamma, {rows} rows", atol=1e-4)
        close(got[2], want[2], f"dbeta, {rows} rows", atol=1e-4)
    x, grad = 0.004 * torch.randn(5, 3), torch.randn(5, 3)
    one = torch.ones(3)
    want = gradients(lambda x, g: g * normalized(x, (0,)), grad, x, one)
    got = student.run(by_hand, "batch_norm_backward", grad, x, one)
    close(got[0], want[0], "dx of small numbers, default eps", atol=1e-3)
    close(got[1], want[1], "dgamma of small numbers, default eps")
    x = far_from_zero(8, 3)
    want = gradients(lambda x, g: g * normalized(x, (0,)), grad := torch.randn(8, 3), x, one)
    got = student.run(by_hand, "batch_norm_backward", grad, x, one)
    expect(got[1], want[1], "dgamma of numbers near 10000", rtol=2e-2, atol=5e-2)


@ex.check("float64, not contiguous, far from zero, nothing is modified", points=0.5)
def _(student):
    far, g = far_from_zero(8, 3), torch.randn(8, 3)
    (want,) = gradients(lambda x: normalized(x, (0,)), g, far)
    got = student.run(by_hand, "normalize_backward", g, far, (0,))
    expect(got, want, "dx of numbers near 10000", rtol=2e-2, atol=2e-2)
    x, grad = torch.randn(3, 5).double().T, torch.randn(5, 3).double()
    (want,) = gradients(lambda x: normalized(x, (0,)), grad, x)
    got = student.run(by_hand, "normalize_backward", grad, x, (0,))
    expect(got, want, "dx in float64", rtol=1e-7, atol=1e-9, dtype=True)
    gamma = torch.randn(3).double()
    dx, dgamma, dbeta = student.run(by_hand, "batch_norm_backward", grad, x, gamma)
    (want,) = gradients(lambda x: gamma * normalized(x, (0,)), grad, x)
    expect(dx, want, "dx of batch normalisation in float64", rtol=1e-7, atol=1e-9)
    require(
        student.unchanged("batch_norm_backward", grad, x, gamma)
        and student.unchanged("normalize_backward", grad, x, (1,)),
        "the arguments are changed",
        got=[dgamma, dbeta],
    )


ex.mistake(
    "mean and deviation taken for constants",
    "Both are functions of the group: take the gradient's mean and its part along x_hat away.",
    edit=(
        "(grad - grad.mean(dim=dims, keepdim=True) - along * x_hat) / deviation",
        "grad / deviation",
    ),
)
ex.mistake(
    "the deviation taken for a constant",
    "The path through the deviation is missing: subtract x_hat times the mean of g x_hat.",
    edit=(" - along * x_hat)", ")"),
)
ex.mistake(
    "the mean taken for a constant",
    "The path through the mean is missing: subtract the mean of g.",
    edit=("grad - grad.mean(dim=dims, keepdim=True) - along", "grad - along"),
)
ex.mistake(
    "sums in place of means",
    "The sums over the group are divided by m.",
    edit=[
        ("(grad * x_hat).mean(dim=dims,", "(grad * x_hat).sum(dim=dims,"),
        ("grad - grad.mean(dim=dims,", "grad - grad.sum(dim=dims,"),
    ],
)
ex.mistake(
    "the unbiased deviation",
    "The forward pass divides by the biased deviation, so the gradient does.",
    edit=("correction=0, ", ""),
)
ex.mistake(
    "x in place of x_hat",
    "The part along x_hat is taken away, not the part along x.",
    edit=("x_hat = normalize(x, dims, eps)", "x_hat = x - x.mean(dim=dims, keepdim=True)"),
)
ex.mistake(
    "negative dims counted from the front",
    "dims may be negative: -1 is the last dimension, not the second.",
    edit=(
        "    x_hat = normalize(x, dims, eps)\n",
        "    dims = tuple(abs(d) for d in dims)\n    x_hat = normalize(x, dims, eps)\n",
    ),
)
ex.mistake(
    "no gradient for a group of equal numbers",
    "With eps in s nothing is 0/0: the formula holds there too, and s is the root of eps.",
    edit=(
        "    return (grad - grad.mean(dim=dims, keepdim=True) - along * x_hat) / deviation",
        "    equal = x.amax(dim=dims, keepdim=True) == x.amin(dim=dims, keepdim=True)\n"
        "    grad = torch.where(equal, 0.0, grad)\n"
        "    return (grad - grad.mean(dim=dims, keepdim=True) - along * x_hat) / deviation",
    ),
)
ex.mistake(
    "not divided by the deviation",
    "Stretching x by s shrinks the gradient by s.",
    edit=(" - along * x_hat) / deviation", " - along * x_hat)"),
)
ex.mistake(
    "divided by the variance",
    "Divide by s, the root.",
    edit=(" + eps).sqrt()\n", " + eps)\n"),
)
ex.mistake(
    "eps outside the root",
    "s = sqrt(v + eps), as in the forward pass.",
    edit=(
        "(x.var(dim=dims, correction=0, keepdim=True) + eps).sqrt()",
        "(x.var(dim=dims, correction=0, keepdim=True).sqrt() + eps)",
    ),
)
ex.mistake(
    "the sign of the deviation's path",
    "All three terms: g minus its mean minus its part along x_hat.",
    edit=(" - along * x_hat)", " + along * x_hat)"),
)
ex.mistake(
    "gamma left out of dx",
    "The gradient by x_hat is gamma times the gradient by y.",
    edit=("normalize_backward(gamma * grad, x", "normalize_backward(grad, x"),
)
ex.mistake(
    "gamma's gradient with x",
    "y = gamma x_hat + beta: gamma is multiplied by x_hat.",
    edit=("(grad * normalize(x, (0,), eps)).sum", "(grad * x).sum"),
)
ex.mistake(
    "gamma's gradient averaged",
    "gamma is used in every row: its gradient is the sum.",
    edit=("eps)).sum(dim=0)", "eps)).mean(dim=0)"),
)
ex.mistake(
    "beta's gradient averaged",
    "beta is used in every row: its gradient is the sum.",
    edit=("dgamma, grad.sum(dim=0)", "dgamma, grad.mean(dim=0)"),
)
ex.mistake(
    "beta's gradient times gamma",
    "beta is added after the scale.",
    edit=("dgamma, grad.sum(dim=0)", "dgamma, (gamma * grad).sum(dim=0)"),
)
ex.mistake(
    "dgamma and dbeta swapped",
    "The order is x, gamma, beta.",
    edit=("dgamma, grad.sum(dim=0)", "grad.sum(dim=0), dgamma"),
)
ex.mistake(
    "gamma and beta by row",
    "gamma and beta have one number a feature: sum over the batch, dim 0.",
    edit=[
        ("normalize(x, (0,), eps)).sum(dim=0)", "normalize(x, (0,), eps)).sum(dim=1)"),
        ("dgamma, grad.sum(dim=0)", "dgamma, grad.sum(dim=1)"),
    ],
)
ex.mistake(
    "gradient of the default eps",
    "Pass eps on.",
    edit=(
        "normalize_backward(gamma * grad, x, (0,), eps)",
        "normalize_backward(gamma * grad, x, (0,))",
    ),
)
ex.mistake(
    "cancellation far from zero",
    "Near 10^4 the float32 squares have lost all that counts: subtract the mean first.",
    edit=(
        "x.var(dim=dims, correction=0, keepdim=True)",
        "(x.square().mean(dim=dims, keepdim=True) - x.mean(dim=dims, keepdim=True) ** 2)",
    ),
)


@ex.mistake(
    "autograd takes the gradient",
    "The exercise asks for the formula; the checks run with gradients off.",
)
def _(grad, x, dims, eps=1e-5):
    leaf = nn.Parameter(x.clone())
    normalize(leaf, dims, eps).backward(grad)
    return leaf.grad


@ex.alternative("a class with a method called backward")
def _(grad, x, dims, eps=1e-5):
    class Group:
        def __init__(self, values):
            self.s = (values.var(dim=dims, correction=0, keepdim=True) + eps).sqrt()
            self.hat = (values - values.mean(dim=dims, keepdim=True)) / self.s

        def backward(self, g):
            along = self.hat * (g * self.hat).mean(dim=dims, keepdim=True)
            return (g - g.mean(dim=dims, keepdim=True) - along) / self.s

    return Group(x).backward(grad)


@ex.alternative("the graph, node by node")
def _(grad, x, dims, eps=1e-5):
    m = math.prod(x.shape[d] for d in dims)
    centred = x - x.mean(dims, keepdim=True)
    inverse = 1 / torch.sqrt((centred**2).mean(dims, keepdim=True) + eps)
    dinverse = (grad * centred).sum(dims, keepdim=True)
    dvar = dinverse * -0.5 * inverse**3
    dcentred = grad * inverse + dvar * 2 * centred / m
    return dcentred - dcentred.sum(dims, keepdim=True) / m


@ex.alternative("the Jacobian of each group")
def _(grad, x, dims, eps=1e-5):
    dims = [d % x.dim() for d in dims]
    kept = [d for d in range(x.dim()) if d not in dims]
    order = kept + dims
    rows, grads = (
        t.permute(order).reshape(math.prod(x.shape[d] for d in kept), -1) for t in (x, grad)
    )
    m, found = rows.shape[1], []
    for row, g in zip(rows, grads, strict=True):
        s = (row.var(correction=0) + eps).sqrt()
        hat = (row - row.mean()) / s
        jacobian = (torch.eye(m, dtype=x.dtype) - 1 / m - torch.outer(hat, hat) / m) / s
        found.append(jacobian @ g)
    moved = torch.stack(found).reshape(x.permute(order).shape)
    return moved.permute([order.index(d) for d in range(x.dim())])


@ex.alternative("einsum, without the function before it", replaces="batch_norm_backward")
def _(grad, x, gamma, eps=1e-5):
    n = len(x)
    var, mean = torch.var_mean(x, 0, correction=0)
    s = torch.sqrt(var + eps)
    hat = (x - mean) / s
    dgamma, dbeta = torch.einsum("nc,nc->c", grad, hat), torch.einsum("nc->c", grad)
    return gamma / (n * s) * (n * grad - dbeta - hat * dgamma), dgamma, dbeta


# ----------------------------------------------------------------------------------------------
# batch_norm_module

ex = batch_norm_module = Exercise("batch_norm_module", defines=["BatchNorm"], forbids=READY)


def a_state(channels: int) -> dict[str, Tensor]:
    """Parameters and buffers, all unequal."""
    return {
        "weight": torch.randn(channels),
        "bias": torch.randn(channels),
        "running_mean": torch.randn(channels),
        "running_var": 0.5 + 3 * torch.rand(channels),
    }


def passes(
    student: Any,
    state: dict[str, Tensor],
    inputs: list[Tensor],
    kwargs: dict[str, float],
    training: bool = True,
    made: Any = None,
) -> dict[str, Any]:
    """A probe: forward and backward on each input in turn; also for the oracle `made`."""
    layer = made or student.BatchNorm(len(state["weight"]), **kwargs)
    layer.load_state_dict(state, strict=False)
    if inputs[0].dtype == torch.float64:
        layer.double()
    layer.train(training)
    found: dict[str, Any] = {"outputs": [], "gradients by x": []}
    for x in inputs:
        leaf = x.clone().requires_grad_()
        y = layer(leaf)
        (y * torch.arange(y.numel(), dtype=y.dtype).cos().reshape(y.shape)).sum().backward()
        found["outputs"].append(y)
        found["gradients by x"].append(leaf.grad)
    found["gradients of the parameters"] = {n: p.grad for n, p in layer.named_parameters()}
    found["buffers"] = {n: b for n, b in layer.named_buffers() if n != "num_batches_tracked"}
    return found


def torchs(state: dict[str, Tensor], dim: int, kwargs: dict[str, float]) -> nn.Module:
    """The oracle for inputs of `dim` dimensions."""
    kind = {2: nn.BatchNorm1d, 3: nn.BatchNorm1d, 4: nn.BatchNorm2d, 5: nn.BatchNorm3d}[dim]
    return kind(len(state["weight"]), **kwargs)


def agree(student: Any, inputs: list[Tensor], training: bool, **kwargs: float) -> None:
    """The student's module and torch's, from the same random state."""
    state = a_state(inputs[0].shape[1])
    want = passes(None, state, inputs, {}, training, torchs(state, inputs[0].dim(), kwargs))
    got = student.run(passes, state, inputs, kwargs, training)
    shapes = " and ".join(str(tuple(x.shape)) for x in inputs)
    for key in want:
        expect(got[key], want[key], f"{key} for {shapes}", rtol=1e-3, atol=1e-4)


@ex.check("training on images, H != W", points=1)
def _(student):
    agree(student, [2 * torch.randn(3, 2, 5, 4) + 3], True)
    agree(student, [2 * torch.randn(1, 4, 2, 3) - 1], True)


@ex.check("training on rows, sequences and volumes", points=1)
def _(student):
    for shape in [(6, 3), (2, 5), (4, 3, 5), (2, 3, 2, 2, 4)]:
        agree(student, [2 * torch.randn(shape) + 1], True)


def without_gradients(student: Any, state: dict[str, Tensor], x: Tensor, frozen: bool) -> list:
    """A probe: training mode with frozen parameters, or while autograd records nothing."""
    layer = student.BatchNorm(len(state["weight"]))
    layer.load_state_dict(state, strict=False)
    layer.train().requires_grad_(not frozen)
    with torch.set_grad_enabled(frozen):
        return [layer(x), layer.running_mean, layer.running_var]


def steps_then_evaluation(
    student: Any, state: dict[str, Tensor], weight: Tensor, inputs: list[Tensor], made: Any = None
) -> dict[str, Any]:
    """A probe: steps of a linear layer and the module in training mode, one in evaluation mode."""
    layer = made or student.BatchNorm(len(state["weight"]))
    layer.load_state_dict(state, strict=False)
    layer.double()
    weight, outputs = weight.clone().requires_grad_(), []
    for step, x in enumerate(inputs):
        layer.train(step < len(inputs) - 1)
        y = layer(x @ weight)
        (y * torch.arange(y.numel(), dtype=y.dtype).cos().reshape(y.shape)).sum().backward()
        outputs.append(y)
    return {"outputs": outputs, "gradient": weight.grad}


@ex.check("several steps, other momentum and eps, frozen or under no_grad", points=1)
def _(student):
    state, x = a_state(3), 2 * torch.randn(5, 3) + 1
    for frozen in [True, False]:
        got = student.run(without_gradients, state, x, frozen)
        want, how = trained([x, *state.values()]), "frozen" if frozen else "under no_grad"
        expect(got[0], want[0], f"output, {how}", rtol=1e-3, atol=1e-4)
        expect(got[1:], want[1:], f"running statistics, {how}", rtol=1e-3, atol=1e-4)
    given = state, torch.randn(2, 3).double(), [torch.randn(4, 2).double() for _ in range(3)]
    want = steps_then_evaluation(None, *given, torchs(state, 2, {}))
    got = student.run(steps_then_evaluation, *given)
    what = "two steps behind a linear layer, then evaluation"
    for key in want:
        expect(got[key], want[key], f"{key}, {what}", rtol=1e-3, atol=1e-4)
    agree(
        student, [3 * torch.randn(n, 4, 2, 3) + n for n in [2, 5, 3]], True, momentum=0.3, eps=0.5
    )
    agree(student, [0.003 * torch.randn(3, 2, 2, 3) for _ in range(2)], True)


@ex.check("evaluation mode", points=1)
def _(student):
    agree(student, [torch.randn(2, 3, 4, 5), torch.randn(1, 3, 1, 1)], False)
    agree(student, [torch.randn(1, 4), torch.randn(3, 4)], False, eps=2.0)


def at_first(student: Any) -> dict[str, Any]:
    """A probe: what a new module holds."""
    layer = student.BatchNorm(3)
    return {
        "parameters": dict(layer.named_parameters()),
        "buffers": {n: b for n, b in layer.named_buffers() if n != "num_batches_tracked"},
        "training": layer.training,
    }


def one_number(student: Any, shape: tuple[int, ...], training: bool) -> list[Any]:
    """A probe: the exception that one number a channel raises, and the statistics afterwards."""
    layer, raised = student.BatchNorm(shape[1]).train(training), None
    try:
        layer(torch.full(shape, 3.0))
    except Exception as error:
        raised = probes.kind_of(error)
    return [raised, layer.running_mean, layer.running_var]


@ex.check("starting values; one number a channel raises ValueError", points=0.5)
def _(student):
    want = {
        "parameters": {"weight": torch.ones(3), "bias": torch.zeros(3)},
        "buffers": {"running_mean": torch.zeros(3), "running_var": torch.ones(3)},
        "training": True,
    }
    expect(student.run(at_first), want, "a new module")
    for shape, training, name in [
        ((1, 3), True, "ValueError"),
        ((1, 2, 1, 1), True, "ValueError"),
        ((1, 3), False, None),
        ((1, 2, 1, 2), True, None),
        ((1, 3, 5), True, None),
        ((2, 3), True, None),
    ]:
        mode = "training" if training else "evaluation"
        raised, mean, var = student.run(one_number, shape, training)
        expect(raised, name, f"shape {shape} in {mode} mode")
        if name:
            got, want = [mean, var], [torch.zeros(shape[1]), torch.ones(shape[1])]
            expect(got, want, f"running statistics after the error, shape {shape}")


@ex.check("float64, channels last in memory, far from zero", points=0.5)
def _(student):
    x, state = far_from_zero(3, 2, 2, 3), a_state(2)
    got = student.run(passes, state, [x], {})
    want = trained([tensor.double() for tensor in (x, *state.values())])
    expect(got["outputs"], [want[0]], "output for numbers near 10000", rtol=2e-2, atol=5e-2)
    running = got["buffers"]["running_var"]
    expect(running, want[2], "running variance near 10000", rtol=1e-2, atol=1e-2)
    x = torch.randn(2, 3, 4, 5).double()
    agree(student, [x], True)
    agree(student, [torch.randn(2, 4, 5, 3).permute(0, 3, 1, 2)], True)


ex.mistake(
    "one group for each pixel",
    "A channel's group holds all examples and all pixels.",
    edit=[
        ("dims = (0, *range(2, x.dim()))", "dims = (0,)"),
        (
            "x.detach().mean(dim=dims), x.detach().var(dim=dims)",
            "x.detach().mean(dim=(0, *range(2, x.dim()))), "
            "x.detach().var(dim=(0, *range(2, x.dim())))",
        ),
    ],
)
ex.mistake(
    "one group for each example",
    "The group crosses the batch: dimension 0 belongs to dims.",
    edit=[
        ("dims = (0, *range(2, x.dim()))", "dims = tuple(range(2, x.dim())) or (0,)"),
        (
            "x.detach().mean(dim=dims), x.detach().var(dim=dims)",
            "x.detach().mean(dim=(0, *range(2, x.dim()))), "
            "x.detach().var(dim=(0, *range(2, x.dim())))",
        ),
    ],
)
ex.mistake(
    "evaluation uses the batch",
    "In evaluation mode the running statistics are used.",
    edit=(
        "(x - self.running_mean.view(shape)) / deviation.view(shape)",
        "Normalize.apply(x, dims, self.eps)",
    ),
)
ex.mistake(
    "training uses the running statistics",
    "In training mode the batch's own statistics are used.",
    edit=(
        "x_hat = Normalize.apply(x, dims, self.eps)",
        "x_hat = (x - self.running_mean.view(shape)) "
        "/ (self.running_var + self.eps).sqrt().view(shape)",
    ),
)
ex.mistake(
    "the running variance is biased",
    "torch stores the unbiased variance.",
    edit=("x.detach().var(dim=dims)", "x.detach().var(dim=dims, correction=0)"),
)
ex.mistake(
    "Bessel's correction by the number of images",
    "A channel has m = N H W numbers: the running variance is m / (m - 1) times the biased one.",
    edit=(
        "x.detach().var(dim=dims)",
        "x.detach().var(dim=dims, correction=0) * len(x) / max(len(x) - 1, 1)",
    ),
)
ex.mistake(
    "momentum weighs the old value",
    "momentum is the weight of the new batch.",
    edit=[
        (
            "self.running_mean.lerp_(new_mean, self.momentum)",
            "self.running_mean.lerp_(new_mean, 1 - self.momentum)",
        ),
        (
            "self.running_var.lerp_(new_var, self.momentum)",
            "self.running_var.lerp_(new_var, 1 - self.momentum)",
        ),
    ],
)
ex.mistake(
    "evaluation changes the running statistics",
    "Only training mode counts.",
    edit=[
        ("            new_mean, new_var = x.detach()", "        new_mean, new_var = x.detach()"),
        ("            self.running_mean.lerp_(new_mean, self.momentum)\n", ""),
        (
            "            self.running_var.lerp_(new_var, self.momentum)\n        else:\n",
            "        if not self.training:\n",
        ),
        (
            "        return self.weight",
            "        self.running_mean.lerp_(new_mean, self.momentum)\n"
            "        self.running_var.lerp_(new_var.nan_to_num(), self.momentum)\n"
            "        return self.weight",
        ),
    ],
)
ex.mistake(
    "the running statistics are never updated",
    "Every batch in training mode enters them.",
    edit=[
        ("            self.running_mean.lerp_(new_mean, self.momentum)\n", ""),
        ("            self.running_var.lerp_(new_var, self.momentum)\n", ""),
    ],
)
ex.mistake(
    "the running statistics keep the graph",
    "They are no part of the loss: detach, or the second step finds the first one's graph.",
    edit=[
        (
            "x.detach().mean(dim=dims), x.detach().var(dim=dims)",
            "x.mean(dim=dims), x.var(dim=dims)",
        ),
        (
            "self.running_mean.lerp_(new_mean, self.momentum)",
            "self.running_mean = self.running_mean.lerp(new_mean, self.momentum)",
        ),
        (
            "self.running_var.lerp_(new_var, self.momentum)",
            "self.running_var = self.running_var.lerp(new_var, self.momentum)",
        ),
    ],
)
ex.mistake(
    "the running statistics are parameters",
    "They are counted, not trained: buffers.",
    edit=[
        (
            'self.register_buffer("running_mean", torch.zeros(channels))',
            "self.running_mean = nn.Parameter(torch.zeros(channels), requires_grad=False)",
        ),
        (
            'self.register_buffer("running_var", torch.ones(channels))',
            "self.running_var = nn.Parameter(torch.ones(channels), requires_grad=False)",
        ),
    ],
)
ex.mistake(
    "the running statistics are no buffers",
    "A plain attribute is neither saved nor moved with the module: register_buffer.",
    edit=[
        (
            'self.register_buffer("running_mean", torch.zeros(channels))',
            "self.running_mean = torch.zeros(channels)",
        ),
        (
            'self.register_buffer("running_var", torch.ones(channels))',
            "self.running_var = torch.ones(channels)",
        ),
    ],
)
ex.mistake(
    "one image raises",
    "One image of several pixels has enough numbers in each channel.",
    edit=("if x.numel() == x.shape[1]:", "if len(x) == 1:"),
)
ex.mistake(
    "one number a channel goes through",
    "Its spread is unknown: raise ValueError.",
    edit=("if x.numel() == x.shape[1]:", "if len(x) == 0:"),
)
ex.mistake(
    "the error comes too late",
    "Look at the number of numbers first: after the update the running variance is NaN for good.",
    edit=[
        (
            "            if x.numel() == x.shape[1]:\n                raise",
            "            if x.numel() == 0:\n                raise",
        ),
        (
            "            self.running_var.lerp_(new_var, self.momentum)\n",
            "            self.running_var.lerp_(new_var, self.momentum)\n"
            "            if x.numel() == x.shape[1]:\n"
            '                raise ValueError("one number")\n',
        ),
    ],
)
ex.mistake(
    "the error for every sequence",
    "One sequence of several numbers in each channel is enough, as one image is.",
    edit=(
        "if x.numel() == x.shape[1]:",
        "if x.numel() == x.shape[1] or (len(x) == 1 and x.dim() != 4):",
    ),
)
ex.mistake(
    "weight and bias along the last dimension",
    "gamma and beta belong to dimension 1; without reshaping they are broadcast along the last.",
    edit=(
        "self.weight.view(shape) * x_hat + self.bias.view(shape)",
        "(self.weight.repeat(x.shape[-1])[: x.shape[-1]] * x_hat"
        " + self.bias.repeat(x.shape[-1])[: x.shape[-1]])",
    ),
)
ex.mistake(
    "gamma starts at zero",
    "gamma starts at 1: at first the layer only normalises.",
    edit=("nn.Parameter(torch.ones(channels))", "nn.Parameter(torch.zeros(channels))"),
)
ex.mistake(
    "the running variance starts at zero",
    "It starts at 1.",
    edit=('"running_var", torch.ones(channels)', '"running_var", torch.zeros(channels)'),
)
ex.mistake(
    "no gradient through the statistics",
    "Mean and deviation are functions of the batch: use Normalize, or let autograd see them.",
    edit=(
        "x_hat = Normalize.apply(x, dims, self.eps)",
        "x_hat = (x - x.detach().mean(dims, keepdim=True)) / "
        "(x.detach().var(dims, correction=0, keepdim=True) + self.eps).sqrt()",
    ),
)


ex.mistake(
    "frozen parameters, frozen statistics",
    "The running statistics are counted in every pass in training mode, whoever is frozen.",
    edit=[
        (
            "self.running_mean.lerp_(new_mean, self.momentum)",
            "self.running_mean.lerp_(new_mean, self.momentum * self.weight.requires_grad)",
        ),
        (
            "self.running_var.lerp_(new_var, self.momentum)",
            "self.running_var.lerp_(new_var, self.momentum * self.weight.requires_grad)",
        ),
    ],
)
ex.mistake(
    "no_grad taken for evaluation mode",
    "self.training alone says which statistics are used.",
    edit=("        if self.training:\n", "        if self.training and torch.is_grad_enabled():\n"),
)
ex.mistake(
    "cancellation far from zero",
    "Near 10^4 the float32 squares have lost all that counts: subtract the mean first.",
    edit=(
        "x_hat = Normalize.apply(x, dims, self.eps)",
        "mean = x.mean(dims, keepdim=True)\n"
        "            var = (x * x).mean(dims, keepdim=True) - mean**2\n"
        "            x_hat = (x - mean) / (var + self.eps).sqrt()",
    ),
)


@ex.alternative("columns of a matrix, torch's arithmetic")
class ColumnsOfAMatrix(nn.Module):
    def __init__(self, channels, eps=1e-5, momentum=0.1):
        super().__init__()
        self.eps, self.momentum = eps, momentum
        self.weight = nn.Parameter(torch.ones(channels))
        self.bias = nn.Parameter(torch.zeros(channels))
        self.register_buffer("running_mean", torch.zeros(channels))
        self.register_buffer("running_var", torch.ones(channels))

    def forward(self, x):
        moved = x.movedim(1, -1)
        rows = moved.reshape(-1, x.shape[1])
        if self.training:
            if len(rows) < 2:
                raise ValueError("one number")
            var, mean = torch.var_mean(rows, 0, correction=0)
            with torch.no_grad():
                self.running_mean += self.momentum * (mean - self.running_mean)
                unbiased = var * len(rows) / (len(rows) - 1)
                self.running_var += self.momentum * (unbiased - self.running_var)
        else:
            var, mean = self.running_var, self.running_mean
        rows = (rows - mean) / torch.sqrt(var + self.eps) * self.weight + self.bias
        return rows.reshape(moved.shape).movedim(-1, 1)


@ex.alternative("new tensors for the buffers")
class NewTensors(nn.Module):
    def __init__(self, channels, eps=1e-5, momentum=0.1):
        super().__init__()
        self.eps, self.momentum = eps, momentum
        self.weight = nn.Parameter(torch.full((channels,), 1.0))
        self.bias = nn.Parameter(torch.full((channels,), 0.0))
        self.register_buffer("running_mean", torch.zeros(channels))
        self.register_buffer("running_var", torch.ones(channels))
        self.register_buffer("num_batches_tracked", torch.tensor(0))

    def forward(self, x):
        dims = [d for d in range(x.dim()) if d != 1]
        shape = [1, -1] + [1] * (x.dim() - 2)
        mean, var = self.running_mean, self.running_var
        if self.training:
            count = x.numel() // x.shape[1]
            if count == 1:
                raise ValueError("one number")
            mean = x.mean(dims)
            var = ((x - mean.reshape(shape)) ** 2).mean(dims)
            keep = 1 - self.momentum
            self.running_mean = keep * self.running_mean + self.momentum * mean.detach()
            unbiased = var.detach() * count / (count - 1)
            self.running_var = keep * self.running_var + self.momentum * unbiased
            self.num_batches_tracked += 1
        scale = self.weight / (var + self.eps) ** 0.5
        return x * scale.reshape(shape) + (self.bias - mean * scale).reshape(shape)


# ----------------------------------------------------------------------------------------------
# fold

ex = fold = Exercise(
    "fold", defines=["fold_batch_norm", "ConvNorm"], forbids=[*READY, "fusion", "fuse_conv_bn_eval"]
)


def folded_pair(student: Any, *given: Any) -> list[Tensor]:
    """Weight and bias in float32: the stub leaves the precision open."""
    return [tensor.float() for tensor in student.fold_batch_norm(*given)]


def a_norm(channels: int) -> list[Tensor]:
    """gamma, beta, running mean and variance."""
    return list(a_state(channels).values())


@ex.check("convolution without bias: the outputs are equal", points=1)
def _(student):
    for channels in [5, 3]:
        x, weight, norm = torch.randn(2, 3, 7, 6), torch.randn(channels, 3, 3, 2), a_norm(channels)
        new_weight, new_bias = folded_pair(student, weight, None, *norm)
        gamma, beta, mean, var = norm
        want, what = F.batch_norm(F.conv2d(x, weight), mean, var, gamma, beta), f"3 to {channels}"
        close(F.conv2d(x, new_weight, new_bias), want, f"output, {what} channels", atol=1e-4)
        close(new_bias, (beta - gamma * mean / (var + 1e-5).sqrt()), f"bias, {what} channels")


@ex.check("with bias, groups, a linear layer", points=1)
def _(student):
    x, weight, bias, norm = (
        torch.randn(2, 4, 5, 6),
        torch.randn(6, 2, 3, 3),
        torch.randn(6),
        a_norm(6),
    )
    gamma, beta, mean, var = norm
    new = folded_pair(student, weight, bias, *norm)
    want = F.batch_norm(F.conv2d(x, weight, bias, groups=2), mean, var, gamma, beta)
    close(F.conv2d(x, *new, groups=2), want, "two groups, with bias", atol=1e-4)
    x, weight, bias, norm = torch.randn(3, 4), torch.randn(2, 4), torch.randn(2), a_norm(2)
    gamma, beta, mean, var = norm
    for b in [bias, None]:
        new = folded_pair(student, weight, b, *norm)
        want = F.batch_norm(F.linear(x, weight, b), mean, var, gamma, beta)
        close(
            F.linear(x, *new),
            want,
            f"linear layer {'without' if b is None else 'with'} bias",
            atol=1e-4,
        )


@ex.check("eps, and nothing is modified", points=0.5)
def _(student):
    weight, bias, norm = torch.randn(3, 2, 2, 4), torch.randn(3), a_norm(3)
    gamma, beta, mean, var = norm
    for eps in [2.0, 1e-5]:
        scale = gamma / (var * 1e-5 + eps).sqrt()
        got = student.fold_batch_norm(weight, bias, gamma, beta, mean, var * 1e-5, eps=eps)
        close(got[0], weight * scale[:, None, None, None], f"weight, eps {eps}")
        close(got[1], (bias - mean) * scale + beta, f"bias, eps {eps}")
    got = student.fold_batch_norm(weight, None, gamma, beta, mean, var * 1e-5)
    close(got[0], weight * (gamma / (var * 1e-5 + 1e-5).sqrt())[:, None, None, None], "default eps")
    require(
        student.unchanged("fold_batch_norm", weight, bias, *norm),
        "fold_batch_norm changes its arguments",
    )


def block_pass(student: Any, args: list[int], kwargs: dict, state: dict, x: Tensor) -> dict:
    """A probe: a training step of the block, and its output in evaluation mode."""
    block = student.ConvNorm(*args, **kwargs)
    block.load_state_dict(state, strict=False)
    leaf = x.clone().requires_grad_()
    y = block(leaf)
    (y * torch.arange(y.numel(), dtype=y.dtype).cos().reshape(y.shape)).sum().backward()
    trained = {name: value.clone() for name, value in block.state_dict().items()}
    gradients = {name: value.grad for name, value in block.named_parameters()}
    block.eval()
    return {
        "output": y,
        "gradient by x": leaf.grad,
        "gradients of the parameters": gradients,
        "state after a step": {n: v for n, v in trained.items() if "tracked" not in n},
        "output in evaluation mode": block(x),
    }


class Block(nn.Module):
    """The oracle: torch's convolution and normalisation."""

    def __init__(self, *args: int, **kwargs: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(*args, **kwargs, bias=False)
        self.norm = nn.BatchNorm2d(args[1])

    def forward(self, x: Tensor) -> Tensor:
        return self.norm(self.conv(x)).relu()


class Oracle:
    """Stands where the student's namespace does."""

    ConvNorm = Block


def block_state(args: list[int], kwargs: dict[str, int]) -> dict[str, Tensor]:
    """Random parameters and buffers of a block."""
    weight = nn.Conv2d(*args, **kwargs).weight.detach()
    norm = {f"norm.{name}": value for name, value in a_state(args[1]).items()}
    norm["norm.weight"] = 4 * norm["norm.weight"]
    return {"conv.weight": 2 * weight, **norm}


BLOCKS: list[tuple[list[int], dict[str, int]]] = [
    ([3, 4, 3], {}),
    ([4, 6, 3], {"stride": 2, "padding": 1, "groups": 2}),
    ([2, 5, 1], {"padding": 2}),
]


@ex.check("the block: convolution without bias, normalisation, ReLU", points=1)
def _(student):
    for args, kwargs in BLOCKS:
        state, x = block_state(args, kwargs), torch.randn(3, args[0], 6, 5)
        want = block_pass(Oracle, args, kwargs, state, x)
        got = student.run(block_pass, args, kwargs, state, x)
        for key in want:
            expect(got[key], want[key], f"{key}, {args} {kwargs}", rtol=1e-3, atol=1e-4)


def folds(
    student: Any, args: list[int], kwargs: dict, state: dict, x: Tensor, modes: list[bool]
) -> dict:
    """A probe: the folded block on x, what is left of the block, and what a second fold gives."""
    block = student.ConvNorm(*args, **kwargs)
    block.load_state_dict(state, strict=False)
    block.train(modes[0])
    block.norm.train(modes[1])
    folded = block.fold()
    kinds = [kind.__name__ for kind in type(folded).__mro__]
    with torch.no_grad():
        y = folded(x)
        for parameter in folded.parameters():
            parameter.zero_()
    after = {n: v.clone() for n, v in block.state_dict().items() if "tracked" not in n}
    names = sorted(name for name, _ in folded.named_parameters())
    found = {"kinds": kinds, "y": y, "names": names, "after": after}
    found["modes"] = [block.training, block.norm.training]
    with torch.no_grad():
        block.norm.running_mean.add_(1.0)
        found["y again"] = block.fold()(x)
    return found


def folds_in_float64(student: Any, state: dict, x: Tensor) -> dict:
    """A probe: what a block in float64 with a small running variance folds into."""
    block = student.ConvNorm(2, 3, 3)
    block.load_state_dict(state, strict=False)
    folded = block.double().fold()
    with torch.no_grad():
        return {"dtypes": [str(p.dtype) for p in folded.parameters()], "y": folded.double()(x)}


# The modes of the block and of its normalisation, which may be frozen for itself.
MODES = [[True, True], [True, False], [False, False]]


@ex.check("the folded block, and the block afterwards", points=1)
def _(student):
    for (args, kwargs), modes in zip(BLOCKS, MODES, strict=True):
        state, x = block_state(args, kwargs), torch.randn(2, args[0], 5, 7)
        got = student.run(folds, args, kwargs, state, x, modes)
        gamma, beta, mean, var = (state[f"norm.{n}"] for n in a_state(1))
        z = F.conv2d(x, state["conv.weight"], None, **dict(kwargs.items()))
        want = F.batch_norm(z, mean, var, gamma, beta)
        close(got["y"], want, f"the new convolution's output, {args} {kwargs}", atol=1e-4)
        expect(got["after"], state, "the block's parameters and buffers afterwards")
        require("Conv2d" in got["kinds"], "the new module is no nn.Conv2d", got=got["kinds"])
        expect(got["names"], ["bias", "weight"], "parameters of the new module")
        expect(got["modes"], modes, "is it in training mode afterwards: the block, its norm")
        want = F.batch_norm(z, mean + 1, var, gamma, beta)
        close(got["y again"], want, "a second fold, after the running mean has changed", atol=1e-4)
    state, x = block_state([2, 3, 3], {}), torch.randn(2, 2, 5, 4).double()
    state["norm.running_var"] = 1e-5 * state["norm.running_var"]
    gamma, beta, mean, var = (state[f"norm.{n}"].double() for n in a_state(1))
    want = F.batch_norm(F.conv2d(x, state["conv.weight"].double()), mean, var, gamma, beta)
    got = student.run(folds_in_float64, state, x)
    expect(got["dtypes"], ["torch.float64"] * 2, "dtypes of a float64 block's new parameters")
    close(got["y"], want, "output, float64, small running variance", atol=1e-3)


ex.mistake(
    "the bias is not scaled",
    "The convolution's bias goes through the normalisation too: (b - mean) gamma / sigma + beta.",
    edit=("shift * scale + beta", "shift + beta"),
)
ex.mistake(
    "the running mean is left out",
    "The running mean is subtracted before the scale.",
    edit=(
        "shift = -running_mean if bias is None else bias - running_mean",
        "shift = torch.zeros_like(running_mean) if bias is None else bias",
    ),
)
ex.mistake(
    "beta is left out",
    "beta is added at the end.",
    edit=("shift * scale + beta", "shift * scale"),
)
ex.mistake(
    "the running mean is added",
    "The running mean is subtracted.",
    edit=(
        "shift = -running_mean if bias is None else bias - running_mean",
        "shift = running_mean if bias is None else bias + running_mean",
    ),
)
ex.mistake(
    "divides by the variance",
    "Divide by the root of the running variance.",
    edit=("gamma / (running_var + eps).sqrt()", "gamma / (running_var + eps)"),
)
ex.mistake(
    "eps outside the root",
    "eps is added to the running variance, inside the root.",
    edit=("(running_var + eps).sqrt()", "(running_var.sqrt() + eps)"),
)
ex.mistake(
    "gamma is left out",
    "The scale is gamma over the deviation.",
    edit=("scale = gamma /", "scale = 1 /"),
)
ex.mistake(
    "a bias is ignored",
    "A layer that has a bias keeps it: (b - mean) gamma / sigma + beta.",
    edit=("-running_mean if bias is None else bias - running_mean", "-running_mean"),
)


@ex.mistake(
    "scales the input channels",
    "The normalisation stands behind the convolution: scale along the output channels, dim 0.",
)
def _(weight, bias, gamma, beta, running_mean, running_var, eps=1e-5):
    scale = gamma / (running_var + eps).sqrt()
    shift = -running_mean if bias is None else bias - running_mean
    columns = scale.repeat(weight.shape[1])[: weight.shape[1]]
    return weight * columns.reshape(1, -1, *[1] * (weight.dim() - 2)), shift * scale + beta


ex.mistake(
    "four dimensions only",
    "A linear layer's weight has two dimensions.",
    edit=("scale.reshape(-1, *[1] * (weight.dim() - 1))", "scale[:, None, None, None]"),
)
ex.mistake(
    "the block's convolution has a bias",
    "In front of a batch normalisation a bias has no effect: bias=False.",
    edit=(", groups=groups, bias=False)", ", groups=groups)"),
)
ex.mistake(
    "the block without ReLU",
    "The block ends in a ReLU.",
    edit=("F.relu(self.norm(self.conv(x)))", "self.norm(self.conv(x))"),
)
ex.mistake(
    "the block normalises after the ReLU",
    "Convolution, normalisation, then ReLU.",
    edit=("F.relu(self.norm(self.conv(x)))", "self.norm(F.relu(self.conv(x)))"),
)
ex.mistake(
    "the block forgets the groups",
    "Pass groups on to the convolution.",
    edit=("(*sizes, groups=groups, bias=False)", "(*sizes, bias=False)"),
)
ex.mistake(
    "folds into the block itself",
    "fold returns a new convolution; the block goes on training.",
    edit=("folded = copy.deepcopy(self.conv)", "folded = self.conv"),
)
ex.mistake(
    "the folded convolution forgets the old one's settings",
    "The new convolution has the stride, the padding and the groups of the old one, all three.",
    edit=(
        "folded = copy.deepcopy(self.conv)",
        "folded = nn.Conv2d(self.conv.in_channels, self.conv.out_channels, self.conv.kernel_size)",
    ),
)
ex.mistake(
    "folds with the batch's statistics at the start",
    "The running statistics are folded, not 0 and 1.",
    edit=(
        "norm.bias, norm.running_mean, norm.running_var)",
        "norm.bias, norm.running_mean * 0, norm.running_var * 0 + 1)",
    ),
)
ex.mistake(
    "fold puts the block into evaluation mode",
    "fold leaves the block as it was, its mode too.",
    edit=("        folded = copy", "        self.eval()\n        folded = copy"),
)


ex.mistake(
    "fold sets the mode of the whole block",
    "fold leaves the modes as they were, whichever they are: a norm may be frozen in evaluation "
    "mode inside a block that trains. It need not touch them at all.",
    edit=(
        "        folded = copy.deepcopy(self.conv)",
        "        self.train(self.training)\n        folded = copy.deepcopy(self.conv)",
    ),
)
ex.mistake(
    "fold puts the block into training mode",
    "fold leaves the block as it was, its mode too: it may be in evaluation mode.",
    edit=("        folded = copy", "        self.train()\n        folded = copy"),
)
ex.mistake(
    "the first fold for ever",
    "Each call makes a new convolution from the parameters and statistics of that moment.",
    edit=[
        (
            "        folded = copy.deepcopy(self.conv)",
            '        if hasattr(self, "kept"):\n            return self.kept[0]\n'
            "        folded = copy.deepcopy(self.conv)",
        ),
        ("        return folded", "        self.kept = [folded]\n        return folded"),
    ],
)
ex.mistake(
    "the folded convolution is float32",
    "The new convolution's parameters have the dtype of conv.weight.",
    edit=(
        "nn.Parameter(weight.detach()), nn.Parameter(bias.detach())",
        "nn.Parameter(weight.detach().float()), nn.Parameter(bias.detach().float())",
    ),
)
ex.mistake(
    "the block folds without eps",
    "The block's normalisation has an eps: it counts where the running variance is small.",
    edit=("None, *parameters, norm.eps)", "None, *parameters, 0.0)"),
)
ex.mistake(
    "the block ends in ReLU6",
    "ReLU has no upper limit.",
    edit=("F.relu(self.norm(self.conv(x)))", "F.relu6(self.norm(self.conv(x)))"),
)


@ex.alternative("einsum, channel by channel")
def _(weight, bias, gamma, beta, running_mean, running_var, eps=1e-5):
    scale = gamma * torch.rsqrt(running_var + eps)
    if bias is None:
        bias = torch.zeros_like(beta)
    weights = [kernel * factor for kernel, factor in zip(weight, scale, strict=True)]
    return torch.stack(weights), beta + scale * bias - scale * running_mean


@ex.alternative("read off from inputs", replaces="fold_batch_norm")
def _(weight, bias, gamma, beta, running_mean, running_var, eps=1e-5):
    rows = weight.flatten(1).double()
    sigma = (running_var.double() + eps) ** 0.5
    new = torch.einsum("c,ck->ck", gamma / sigma, rows).reshape(weight.shape)
    old = 0.0 if bias is None else bias
    return new.to(weight.dtype), (gamma * (old - running_mean) / sigma + beta).to(weight.dtype)


@ex.alternative("a convolution made anew", replaces="ConvNorm")
class ConvolutionAnew(nn.Module):
    def __init__(self, in_channels, out_channels, kernel_size, stride=1, padding=0, groups=1):
        super().__init__()
        self.settings = {"stride": stride, "padding": padding, "groups": groups}
        self.conv = nn.Conv2d(in_channels, out_channels, kernel_size, **self.settings, bias=False)
        self.norm = BatchNorm(channels=out_channels)

    def forward(self, x):
        return torch.clamp(self.norm(self.conv(x)), min=0)

    @torch.no_grad()
    def fold(self):
        c_out, c_in, *_ = self.conv.weight.shape
        kernel = self.conv.kernel_size
        folded = nn.Conv2d(c_in * self.settings["groups"], c_out, kernel, **self.settings)
        folded = folded.to(self.conv.weight)
        n = self.norm
        new = fold_batch_norm(
            self.conv.weight, None, n.weight, n.bias, n.running_mean, n.running_var
        )
        folded.weight.copy_(new[0])
        folded.bias.copy_(new[1])
        return folded


ex.alternative(
    "float64, and a subclass",
    edit=[
        ("    scale = gamma / ", "    scale = gamma.double() / "),
        (
            "folded = copy.deepcopy(self.conv)",
            "folded = copy.deepcopy(self.conv)\n"
            '        folded.__class__ = type("Folded", (nn.Conv2d,), {})',
        ),
        (
            "nn.Parameter(weight.detach()), nn.Parameter(bias.detach())",
            "nn.Parameter(weight.detach().to(self.conv.weight)), "
            "nn.Parameter(bias.detach().to(self.conv.weight))",
        ),
    ],
)


# ----------------------------------------------------------------------------------------------
# layer_norm

ex = layer_norm = Exercise(
    "layer_norm",
    defines=["layer_norm", "layer_norm_backward"],
    forbids=[*READY, *BY_HAND],
)

LAYERS: list[tuple[tuple[int, ...], tuple[int, ...]]] = [
    ((5, 4), (4,)),
    ((2, 3, 5), (5,)),
    ((3, 2, 4), (2, 4)),
    ((2, 3, 4, 5), (3, 4, 5)),
    ((2, 3, 2, 5), (2, 5)),
    ((6,), (6,)),
    ((2, 3, 2, 5), (5,)),
]


def a_layer(shape: tuple[int, ...], last: tuple[int, ...]) -> list[Tensor]:
    """x, gamma, beta."""
    return [3 * torch.randn(shape) + 2, torch.randn(last), torch.randn(last)]


@ex.check("forward, the last dimension", points=1)
def _(student):
    for shape, last in LAYERS[:2]:
        x, gamma, beta = a_layer(shape, last)
        want = F.layer_norm(x, last, gamma, beta)
        close(student.layer_norm(x, gamma, beta), want, f"x {shape}, gamma {last}")
    x, gamma, beta = a_layer((1, 4), (4,))
    close(student.layer_norm(x, gamma, beta), F.layer_norm(x, (4,), gamma, beta), "one row")


@ex.check("forward, several dimensions or no other", points=1)
def _(student):
    for shape, last in LAYERS[2:]:
        x, gamma, beta = a_layer(shape, last)
        want = F.layer_norm(x, last, gamma, beta)
        close(student.layer_norm(x, gamma, beta), want, f"x {shape}, gamma {last}")


@ex.check("eps, float64, small numbers, far from zero, not modified", points=0.5)
def _(student):
    far, one, zero = far_from_zero(8, 3).T, torch.ones(8), torch.zeros(8)
    want = F.layer_norm(far.double(), (8,))
    expect(student.layer_norm(far, one, zero), want, "numbers near 10000", rtol=2e-2, atol=2e-2)
    grad = torch.randn(3, 8)
    got = student.run(by_hand, "layer_norm_backward", grad, far, one)
    want = layer_gradients(far, one, grad)
    for a, b, name in zip(got, want, ["dx", "dgamma", "dbeta"], strict=True):
        expect(a, b, f"{name} of numbers near 10000", rtol=2e-2, atol=5e-2)
    x, gamma, beta = (t.double() for t in a_layer((3, 4), (4,)))
    for eps in [0.5, 3.0]:
        want = F.layer_norm(x, (4,), gamma, beta, eps)
        got = student.layer_norm(x, gamma, beta, eps=eps)
        expect(got, want, f"float64, eps {eps}", rtol=1e-7, atol=1e-9, dtype=True)
    small = 0.003 * torch.randn(3, 4)
    one, zero = torch.ones(4), torch.zeros(4)
    close(student.layer_norm(small, one, zero), F.layer_norm(small, (4,)), "small numbers")
    require(student.unchanged("layer_norm", x, gamma, beta), "layer_norm changes its arguments")
    require(
        student.unchanged("layer_norm_backward", x, x.flip(0), gamma),
        "layer_norm_backward changes its arguments",
    )


def layer_gradients(x: Tensor, gamma: Tensor, grad: Tensor, eps: float = 1e-5) -> list[Tensor]:
    """The oracle, in float64."""
    return gradients(
        lambda x, g, b: F.layer_norm(x, list(gamma.shape), g, b, eps), grad, x, gamma, gamma
    )


@ex.check("backward: x", points=1)
def _(student):
    for shape, last in LAYERS:
        x, gamma, _ = a_layer(shape, last)
        grad = torch.randn(shape)
        got = student.run(by_hand, "layer_norm_backward", grad, x, gamma)
        close(got[0], layer_gradients(x, gamma, grad)[0], f"dx, x {shape}, gamma {last}", atol=1e-4)


@ex.check("backward: gamma and beta", points=1)
def _(student):
    for shape, last in LAYERS:
        x, gamma, _ = a_layer(shape, last)
        grad = torch.randn(shape)
        got, want = (
            student.run(by_hand, "layer_norm_backward", grad, x, gamma),
            layer_gradients(x, gamma, grad),
        )
        close(got[1], want[1], f"dgamma, x {shape}, gamma {last}", atol=1e-4)
        close(got[2], want[2], f"dbeta, x {shape}, gamma {last}", atol=1e-4)


@ex.check("backward: eps", points=0.5)
def _(student):
    x, gamma, _ = a_layer((3, 4), (4,))
    for factor, eps in [(1.0, 2.0), (0.003, 1e-5)]:
        grad = torch.randn(3, 4)
        want = layer_gradients(factor * x, gamma, grad, eps)
        got = student.run(by_hand, "layer_norm_backward", grad, factor * x, gamma, eps=eps)
        for a, b, name in zip(got, want, ["dx", "dgamma", "dbeta"], strict=True):
            close(a, b, f"{name}, eps {eps}", atol=1e-3)
    x, grad = 0.003 * torch.randn(3, 4), torch.randn(3, 4)
    got, want = (
        student.run(by_hand, "layer_norm_backward", grad, x, gamma),
        layer_gradients(x, gamma, grad),
    )
    close(got[0], want[0], "dx of small numbers, default eps", atol=1e-2)
    close(got[1], want[1], "dgamma of small numbers, default eps")


ex.mistake(
    "cancellation far from zero",
    "Near 10^4 the float32 squares have lost all that counts: subtract the mean first.",
    edit=(
        "return gamma * normalize(x, dims, eps) + beta",
        "mean = x.mean(dims, keepdim=True)\n"
        "    var = x.square().mean(dims, keepdim=True) - mean**2\n"
        "    return gamma * (x - mean) / (var + eps).sqrt() + beta",
    ),
)


ex.mistake(
    "backward: cancellation far from zero",
    "Near 10^4 the float32 squares have lost all that counts, in the backward pass too.",
    edit=(
        "    dgamma = (grad * normalize(x, dims, eps))",
        "    mean = x.mean(dims, keepdim=True)\n"
        "    var = (x.square().mean(dims, keepdim=True) - mean**2).clamp(min=0)\n"
        "    dgamma = (grad * (x - mean) / (var + eps).sqrt())",
    ),
)


@ex.mistake(
    "autograd takes the gradient",
    "The exercise asks for the formula; the checks run with gradients off.",
    replaces="layer_norm_backward",
)
def _(grad, x, gamma, eps=1e-5):
    leaves = [nn.Parameter(x.clone()), nn.Parameter(gamma.clone()), nn.Parameter(gamma.clone())]
    dims = tuple(range(-gamma.dim(), 0))
    (leaves[1] * normalize(leaves[0], dims, eps) + leaves[2]).backward(grad)
    return tuple(leaf.grad for leaf in leaves)


ex.mistake(
    "normalises over the batch",
    "A group is one example: the last dimensions, not the first.",
    edit=[
        ("    dims = tuple(range(-gamma.dim(), 0))\n    return", "    dims = (0,)\n    return"),
    ],
)
ex.mistake(
    "Bessel's correction",
    "The variance is the biased one.",
    edit=(
        "gamma * normalize(x, dims, eps) + beta",
        "gamma * (x - x.mean(dims, keepdim=True)) "
        "/ (x.var(dims, keepdim=True) + eps).sqrt() + beta",
    ),
)
ex.mistake(
    "eps outside the root",
    "eps is added to the variance, inside the root.",
    edit=(
        "gamma * normalize(x, dims, eps) + beta",
        "gamma * (x - x.mean(dims, keepdim=True)) "
        "/ (x.std(dims, correction=0, keepdim=True) + eps) + beta",
    ),
)
ex.mistake(
    "always the last dimension alone",
    "gamma's shape says how many dimensions form a group.",
    edit=("    dims = tuple(range(-gamma.dim(), 0))\n    return", "    dims = (-1,)\n    return"),
)
ex.mistake(
    "backward: always the last dimension alone",
    "gamma's shape says how many dimensions form a group, in the backward pass too.",
    edit=("    dims = tuple(range(-gamma.dim(), 0))\n    dgamma", "    dims = (-1,)\n    dgamma"),
)
ex.mistake(
    "all dimensions but the first",
    "For x of shape (N, T, D) and gamma of shape (D,) each of the N T vectors is a group.",
    edit=(
        "    dims = tuple(range(-gamma.dim(), 0))\n    return",
        "    dims = tuple(range(1, x.dim())) or (0,)\n    return",
    ),
)
ex.mistake(
    "scale and shift left out",
    "y = gamma * x_hat + beta.",
    edit=("return gamma * normalize(x, dims, eps) + beta", "return normalize(x, dims, eps)"),
)
ex.mistake(
    "gamma left out of dx",
    "The gradient by x_hat is gamma times the gradient by y.",
    edit=("normalize_backward(gamma * grad, x", "normalize_backward(grad, x"),
)
ex.mistake(
    "gamma applied after the backward pass",
    "gamma differs along the group: multiply before the means are taken, not after.",
    edit=(
        "normalize_backward(gamma * grad, x, dims, eps)",
        "gamma * normalize_backward(grad, x, dims, eps)",
    ),
)
ex.mistake(
    "mean and deviation taken for constants",
    "Both are functions of the example.",
    edit=(
        "normalize_backward(gamma * grad, x, dims, eps)",
        "gamma * grad / (x.var(dims, correction=0, keepdim=True) + eps).sqrt()",
    ),
)
ex.mistake(
    "parameters' gradients over the first dimension only",
    "gamma and beta are used at all leading dimensions: sum over every one.",
    edit=[
        (
            "(grad * normalize(x, dims, eps)).sum_to_size(gamma.shape)",
            "(grad * normalize(x, dims, eps)).sum(0)",
        ),
        ("grad.sum_to_size(gamma.shape)", "grad.sum(0)"),
    ],
)
ex.mistake(
    "parameters' gradients over two dimensions at most",
    "There may be any number of leading dimensions: sum over every one.",
    edit=[
        (
            "(grad * normalize(x, dims, eps)).sum_to_size(gamma.shape)",
            "grad * normalize(x, dims, eps)\n"
            "    lead = list(range(min(x.dim() - gamma.dim(), 2)))\n"
            "    dgamma = dgamma.sum(lead) if lead else dgamma",
        ),
        ("grad.sum_to_size(gamma.shape)", "grad.sum(lead) if lead else grad"),
    ],
)
ex.mistake(
    "parameters' gradients averaged",
    "gamma and beta are used by every group: sum.",
    edit=[
        (
            "(grad * normalize(x, dims, eps)).sum_to_size(gamma.shape)",
            "(grad * normalize(x, dims, eps)).reshape(-1, *gamma.shape).mean(0)",
        ),
        ("grad.sum_to_size(gamma.shape)", "grad.reshape(-1, *gamma.shape).mean(0)"),
    ],
)
ex.mistake(
    "gamma's gradient with x",
    "gamma is multiplied by x_hat.",
    edit=("(grad * normalize(x, dims, eps)).sum_to_size", "(grad * x).sum_to_size"),
)
ex.mistake(
    "dgamma and dbeta swapped",
    "The order is x, gamma, beta.",
    edit=(
        "dgamma, grad.sum_to_size(gamma.shape)",
        "grad.sum_to_size(gamma.shape), dgamma",
    ),
)
ex.mistake(
    "backward: eps is not passed on",
    "Pass eps on, in the backward pass too.",
    edit=(
        "normalize_backward(gamma * grad, x, dims, eps)",
        "normalize_backward(gamma * grad, x, dims)",
    ),
)


@ex.alternative("rows of a matrix")
def _(x, gamma, beta, eps=1e-5):
    rows = x.reshape(-1, gamma.numel())
    var, mean = torch.var_mean(rows, dim=1, correction=0, keepdim=True)
    return gamma * ((rows - mean) / torch.sqrt(var + eps)).reshape(x.shape) + beta


@ex.alternative("rows of a matrix, by hand, in float64", replaces="layer_norm_backward")
def _(grad, x, gamma, eps=1e-5):
    rows, g = (t.double().reshape(-1, gamma.numel()) for t in (x, grad))
    centred = rows - rows.mean(1, keepdim=True)
    s = ((centred**2).mean(1, keepdim=True) + eps) ** 0.5
    hat, weighted = centred / s, g * gamma.double().ravel()
    mean, along = weighted.mean(1, keepdim=True), (weighted * hat).mean(1, keepdim=True)
    dx = (weighted - mean - hat * along) / s
    dgamma, dbeta = torch.einsum("nd,nd->d", g, hat), torch.einsum("nd->d", g)
    return dx.reshape(x.shape).to(x.dtype), *(
        t.reshape(gamma.shape).to(x.dtype) for t in (dgamma, dbeta)
    )


@ex.alternative("one example after the other", replaces="layer_norm_backward")
def _(grad, x, gamma, eps=1e-5):
    dims = [-i - 1 for i in range(gamma.dim())]
    xs, grads = x.reshape(-1, *gamma.shape), grad.reshape(-1, *gamma.shape)
    dx, dgamma, dbeta = [], torch.zeros_like(gamma), torch.zeros_like(gamma)
    for one, g in zip(xs, grads, strict=True):
        dx.append(normalize_backward(g * gamma, one, tuple(dims), eps))
        dgamma = dgamma + g * normalize(one, tuple(dims), eps)
        dbeta = dbeta + g
    return torch.stack(dx).reshape(x.shape), dgamma, dbeta


# ----------------------------------------------------------------------------------------------
# group_norm

ex = group_norm_exercise = Exercise(
    "group_norm", defines=["group_norm", "instance_norm"], forbids=READY
)


def image_batch(*shape: int) -> list[Tensor]:
    """x, gamma, beta."""
    return [3 * torch.randn(shape) + 2, torch.randn(shape[1]), torch.randn(shape[1])]


@ex.check("groups of images, H != W", points=1)
def _(student):
    for shape, groups in [((3, 6, 4, 5), 2), ((2, 6, 3, 2), 3), ((1, 4, 2, 3), 2)]:
        x, gamma, beta = image_batch(*shape)
        want = F.group_norm(x, groups, gamma, beta)
        close(student.group_norm(x, groups, gamma, beta), want, f"{shape}, {groups} groups")


@ex.check("one group, as many groups as channels, other dimensions", points=1)
def _(student):
    for shape, groups in [
        ((2, 4, 3, 5), 1),
        ((2, 4, 3, 5), 4),
        ((3, 6), 2),
        ((2, 6, 7), 3),
        ((2, 4, 2, 3, 2), 2),
    ]:
        x, gamma, beta = image_batch(*shape)
        want = F.group_norm(x, groups, gamma, beta)
        close(student.group_norm(x, groups, gamma, beta), want, f"{shape}, {groups} groups")
    x, gamma, beta = image_batch(2, 4)
    close(student.group_norm(x, 4, gamma, beta), beta.expand(2, 4), "groups of a single number")


@ex.check("instance normalisation", points=1)
def _(student):
    for shape in [(3, 4, 2, 5), (1, 2, 6), (2, 3, 2, 2, 3)]:
        x, gamma, beta = image_batch(*shape)
        want = F.instance_norm(x, weight=gamma, bias=beta)
        close(student.instance_norm(x, gamma, beta), want, f"shape {shape}")
    x, gamma, beta = image_batch(2, 3, 4, 2)
    want = F.instance_norm(x, weight=gamma, bias=beta, eps=2.0)
    close(student.instance_norm(x, gamma, beta, eps=2.0), want, "eps 2")
    x = 0.003 * x
    close(
        student.instance_norm(x, gamma, beta), F.instance_norm(x, weight=gamma, bias=beta), "small"
    )


def with_gradients(student: Any, name: str, *args: Any) -> list[Tensor]:
    """A probe: the gradients of a weighted sum of the output."""
    args = tuple(a.clone().requires_grad_() if isinstance(a, torch.Tensor) else a for a in args)
    y = getattr(student, name)(*args)
    (y * torch.arange(y.numel(), dtype=y.dtype).cos().reshape(y.shape)).sum().backward()
    return [a.grad for a in args if isinstance(a, torch.Tensor)]


class Functions:
    """torch's functions where the student's would be."""

    group_norm = staticmethod(F.group_norm)

    @staticmethod
    def instance_norm(x: Tensor, gamma: Tensor, beta: Tensor) -> Tensor:
        return F.instance_norm(x, weight=gamma, bias=beta)


@ex.check("the gradient reaches x, gamma and beta", points=1)
def _(student):
    for shape, groups in [((2, 6, 3, 4), 3), ((3, 4), 2)]:
        x, gamma, beta = image_batch(*shape)
        got = student.run(with_gradients, "group_norm", x, groups, gamma, beta)
        want = with_gradients(Functions, "group_norm", x, groups, gamma, beta)
        close(got, want, f"gradients by x, gamma and beta, {shape}", atol=1e-4)
    x, gamma, beta = image_batch(2, 3, 4, 5)
    got = student.run(with_gradients, "instance_norm", x, gamma, beta)
    want = with_gradients(Functions, "instance_norm", x, gamma, beta)
    close(got, want, "instance_norm: gradients by x, gamma and beta", atol=1e-4)


@ex.check("eps, ValueError, not contiguous, not modified", points=0.5)
def _(student):
    x, gamma, beta = image_batch(2, 6, 3, 4)
    for groups in [4, 5, 12]:
        expect(student.raises("group_norm", x, groups, gamma, beta), "ValueError", f"{groups} of 6")
    want = F.group_norm(x, 2, gamma, beta, 1.5)
    close(student.group_norm(x, 2, gamma, beta, eps=1.5), want, "eps 1.5")
    small = 0.003 * x
    want = F.group_norm(small, 2, gamma, beta)
    close(student.group_norm(small, 2, gamma, beta), want, "small numbers, default eps")
    far = 1e4 + torch.randn(2, 6, 3, 4)
    want = F.group_norm(far.double(), 2, gamma.double(), beta.double())
    got = student.group_norm(far, 2, gamma, beta)
    expect(got, want, "numbers near 10000", rtol=2e-2, atol=5e-2)
    last = torch.randn(2, 4, 3, 6).permute(0, 3, 1, 2)
    want = F.group_norm(last, 2, gamma, beta)
    close(student.group_norm(last, 2, gamma, beta), want, "channels last in memory")
    for given, what in [(far, "numbers near 10000"), (last.mT, "transposed pixels")]:
        want = F.instance_norm(given.double(), weight=gamma.double(), bias=beta.double())
        got = student.instance_norm(given, gamma, beta)
        expect(got, want, f"instance_norm, {what}", rtol=2e-2, atol=5e-2)
    wide = [t.double() for t in (x, gamma, beta)]
    got = student.group_norm(wide[0], 3, wide[1], wide[2])
    expect(got, F.group_norm(wide[0], 3, *wide[1:]), "float64", rtol=1e-7, atol=1e-9, dtype=True)
    got, want = student.instance_norm(*wide), F.instance_norm(wide[0], weight=wide[1], bias=wide[2])
    expect(got, want, "instance_norm, float64", rtol=1e-7, atol=1e-9, dtype=True)
    require(student.unchanged("group_norm", x, 2, gamma, beta), "group_norm changes its arguments")
    require(
        student.unchanged("instance_norm", x, gamma, beta), "instance_norm changes its arguments"
    )


ex.mistake(
    "cancellation far from zero",
    "Near 10^4 the float32 squares have lost all that counts: subtract the mean first.",
    edit=(
        "x_hat = Normalize.apply(x.reshape(n, groups, -1), (2,), eps).reshape(x.shape)",
        "rows = x.reshape(n, groups, -1)\n"
        "    mean = rows.mean(2, keepdim=True)\n"
        "    var = rows.square().mean(2, keepdim=True) - mean**2\n"
        "    x_hat = ((rows - mean) / (var + eps).sqrt()).reshape(x.shape)",
    ),
)
ex.mistake(
    "the pixels are no part of the group",
    "A group holds its channels at all pixels.",
    edit=(
        "Normalize.apply(x.reshape(n, groups, -1), (2,), eps)",
        "Normalize.apply(x.reshape(n, groups, channels // groups, -1), (2,), eps)",
    ),
)
ex.mistake(
    "groups of G channels",
    "G is the number of groups; a group has C / G channels.",
    edit=("x.reshape(n, groups, -1)", "x.reshape(n, channels // groups, -1)"),
)
ex.mistake(
    "every G-th channel",
    "A group's channels are neighbours.",
    edit=(
        "Normalize.apply(x.reshape(n, groups, -1), (2,), eps).reshape(x.shape)",
        "Normalize.apply(x.reshape(n, channels // groups, groups, -1), (1, 3), eps)"
        ".reshape(x.shape)",
    ),
)
ex.mistake(
    "groups cross the batch",
    "Each example is normalised for itself.",
    edit=(
        "Normalize.apply(x.reshape(n, groups, -1), (2,), eps)",
        "Normalize.apply(x.reshape(n, groups, -1), (0, 2), eps)",
    ),
)
ex.mistake(
    "gamma by group",
    "gamma and beta have one number a channel.",
    edit=(
        "gamma.reshape(shape) * x_hat + beta.reshape(shape)",
        "(gamma.reshape(groups, -1)[:, :1].expand(-1, channels // groups).reshape(shape) * x_hat"
        " + beta.reshape(groups, -1)[:, :1].expand(-1, channels // groups).reshape(shape))",
    ),
)
ex.mistake(
    "scale and shift left out",
    "y = gamma * x_hat + beta.",
    edit=("return gamma.reshape(shape) * x_hat + beta.reshape(shape)", "return x_hat"),
)
ex.mistake(
    "scale and shift swapped",
    "gamma multiplies, beta is added.",
    edit=(
        "gamma.reshape(shape) * x_hat + beta.reshape(shape)",
        "beta.reshape(shape) * x_hat + gamma.reshape(shape)",
    ),
)
ex.mistake(
    "Bessel's correction",
    "The variance is the biased one.",
    edit=(
        "Normalize.apply(x.reshape(n, groups, -1), (2,), eps).reshape(x.shape)",
        "((x.reshape(n, groups, -1) - x.reshape(n, groups, -1).mean(2, keepdim=True))"
        " / (x.reshape(n, groups, -1).var(2, keepdim=True) + eps).sqrt()).reshape(x.shape)",
    ),
)
ex.mistake(
    "eps is not passed on",
    "Use the argument eps.",
    edit=("(2,), eps).reshape", "(2,), 1e-5).reshape"),
)
ex.mistake(
    "an uneven division goes through",
    "G has to divide C: raise ValueError.",
    edit=(
        "    if channels % groups:\n"
        '        raise ValueError(f"{groups} groups do not divide {channels} channels")\n',
        "    if channels % groups:\n        groups = 1\n",
    ),
)
ex.mistake(
    "more groups than channels go through",
    "12 does not divide 6: a group has at least one channel. Raise ValueError.",
    edit=("    if channels % groups:\n", "    if channels % groups and groups <= channels:\n"),
)
ex.mistake(
    "a group of one number raises",
    "By the formula such a group is zero and beta is left; only batch normalisation raises.",
    edit=(
        "    x_hat = Normalize",
        '    if x[0].numel() == groups:\n        raise ValueError("one number")\n'
        "    x_hat = Normalize",
    ),
)
ex.mistake(
    "instance: cancellation far from zero",
    "Near 10^4 the float32 squares have lost all that counts: subtract the mean first.",
    edit=(
        "return group_norm(x, x.shape[1], gamma, beta, eps)",
        "dims, shape = list(range(2, x.dim())), (-1,) + (1,) * (x.dim() - 2)\n"
        "    mean = x.mean(dims, keepdim=True)\n"
        "    var = (x.square().mean(dims, keepdim=True) - mean**2).clamp(min=0)\n"
        "    x_hat = (x - mean) / (var + eps).sqrt()\n"
        "    return gamma.reshape(shape) * x_hat + beta.reshape(shape)",
    ),
)
ex.mistake(
    "instance: computes in float32",
    "The result has the dtype of x, and its precision.",
    edit=(
        "group_norm(x, x.shape[1], gamma, beta, eps)",
        "group_norm(x.float(), x.shape[1], gamma, beta, eps)",
    ),
)
ex.mistake(
    "instance: view of what is not contiguous",
    "x need not be contiguous: reshape copies where view cannot.",
    edit=(
        "return group_norm(x, x.shape[1], gamma, beta, eps)",
        "return group_norm(x.view(*x.shape[:2], -1), x.shape[1], gamma, beta, eps).view(x.shape)",
    ),
)
ex.mistake(
    "instance: changes its argument",
    "`-=` and `sub_` write into the caller's tensor.",
    edit=(
        "return group_norm(x, x.shape[1], gamma, beta, eps)",
        "with torch.no_grad():\n"
        "        x.sub_(x.mean(list(range(2, x.dim())), keepdim=True))\n"
        "    return group_norm(x, x.shape[1], gamma, beta, eps)",
    ),
)
ex.mistake(
    "instance: one group for all channels",
    "Instance normalisation has a group for each channel.",
    edit=("group_norm(x, x.shape[1], gamma", "group_norm(x, 1, gamma"),
)
ex.mistake(
    "instance: over the batch too",
    "Instance normalisation takes each example for itself.",
    edit=(
        "return group_norm(x, x.shape[1], gamma, beta, eps)",
        "shape = (-1,) + (1,) * (x.dim() - 2)\n    return gamma.reshape(shape) * Normalize.apply("
        "x, (0, *range(2, x.dim())), eps) + beta.reshape(shape)",
    ),
)
ex.mistake(
    "instance: eps is not passed on",
    "Use the argument eps.",
    edit=("group_norm(x, x.shape[1], gamma, beta, eps)", "group_norm(x, x.shape[1], gamma, beta)"),
)
ex.mistake(
    "no gradient by x",
    "Use Normalize.apply, or arithmetic that autograd can follow; no detach and no .data.",
    edit=(
        "Normalize.apply(x.reshape(n, groups, -1)",
        "Normalize.apply(x.detach().reshape(n, groups, -1)",
    ),
)


@ex.alternative("a loop over the groups")
def _(x, groups, gamma, beta, eps=1e-5):
    if x.shape[1] % groups != 0:
        raise ValueError("groups")
    parts = []
    for part in x.chunk(groups, dim=1):
        dims = list(range(1, x.dim()))
        var, mean = torch.var_mean(part, dims, correction=0, keepdim=True)
        parts.append((part - mean) / torch.sqrt(var + eps))
    hat = torch.cat(parts, dim=1).movedim(1, -1)
    return (hat * gamma + beta).movedim(-1, 1)


@ex.alternative("loops over examples and groups, float64")
def _(x, groups, gamma, beta, eps=1e-5):
    size, rest = divmod(x.shape[1], groups)
    if rest:
        raise ValueError("groups")
    rows = []
    for example in x.double():
        done = []
        for first in range(0, x.shape[1], size):
            part = example[first : first + size]
            done.append((part - part.mean()) / (part.var(correction=0) + eps) ** 0.5)
        rows.append(torch.cat(done))
    shape = [x.shape[1]] + [1] * (x.dim() - 2)
    y = torch.stack(rows) * gamma.double().reshape(shape) + beta.double().reshape(shape)
    return y.to(x.dtype)


@ex.alternative("by its own dimensions", replaces="instance_norm")
def _(x, gamma, beta, eps=1e-5):
    dims = tuple(range(2, x.dim()))
    hat = Normalize.apply(x, dims, eps)
    shape = [len(gamma)] + [1] * len(dims)
    return torch.addcmul(beta.reshape(shape), gamma.reshape(shape), hat)


ex.equivalent("x.reshape(groups, n, -1)", "the same rows of memory, numbered otherwise")


# ----------------------------------------------------------------------------------------------
# dropout

ex = dropout_exercise = Exercise(
    "dropout",
    defines=["dropout", "dropout_backward", "direct_dropout"],
    forbids=[
        *["Dropout", "Dropout1d", "Dropout2d", "AlphaDropout", "F.dropout", "torch.dropout"],
        *["functional.dropout", "dropout_", "feature_dropout", "alpha_dropout"],
        *["aten::native_dropout", "aten::dropout", "aten::feature_dropout"],
    ],
)


def drop(student: Any, x: Tensor, p: float, seed: int = 0) -> list[Tensor]:
    """A probe: output and mask from a generator with this seed."""
    y, mask = student.dropout(x, p, generator=torch.Generator().manual_seed(seed))
    return [y, mask]


def drop_directly(student: Any, x: Tensor, keep: float, training: bool = True) -> Tensor:
    """A probe: direct dropout from a generator."""
    generator = torch.Generator().manual_seed(3)
    return student.direct_dropout(x, keep, training, generator=generator)


def facts(mask: Tensor) -> dict[str, Any]:
    """What can be said of a random mask whatever the order of its draws.

    The masks have 60,000 entries and shares that end in a whole tenth: the margins of the rounding
    are beyond ten standard errors.
    """
    mask = mask.double()
    spread = mask.std(correction=0) + 1e-9
    centred, alike = (mask - mask.mean()) / spread, []
    for dim, size in enumerate(mask.shape):
        pairs = centred.narrow(dim, 1, size - 1) * centred.narrow(dim, 0, size - 1)
        alike.append(abs(round(pairs.mean().item(), 1)))
    mask = mask.reshape(300, 200)
    rows, columns = mask.shape
    return {
        "share that is kept": round(mask.mean().item(), 1),
        "spread of the row means": round((mask.mean(1).std() / spread * columns**0.5).item()),
        "spread of the column means": round((mask.mean(0).std() / spread * rows**0.5).item()),
        "correlation of neighbours along each dimension": alike,
    }


def random_mask(share: float, dims: int = 2) -> dict[str, Any]:
    """The right answer of `facts`."""
    return {
        "share that is kept": share,
        "spread of the row means": 1,
        "spread of the column means": 1,
        "correlation of neighbours along each dimension": [0.0] * dims,
    }


@ex.check("inverted: every element draws, with the right share", points=1)
def _(student):
    for p in [0.3, 0.6]:
        _, mask = student.run(drop, torch.ones(300, 200), p)
        expect(facts(mask), random_mask(round(1 - p, 1)), f"the mask, p = {p}")
    expect(str(mask.dtype), "torch.bool", "dtype of the mask")
    x = torch.zeros(300, 200)
    _, mask = student.run(drop, x, 0.3)
    expect(facts(mask), random_mask(0.7), "the mask of an input of zeros")
    _, mask = student.run(drop, torch.ones(10, 6, 20, 50), 0.3)
    expect(facts(mask), random_mask(0.7, 4), "the mask of an input of four dimensions")


@ex.check("inverted: the output follows from the mask", points=1)
def _(student):
    for p, *shape in [(0.3, 30, 7), (0.6, 3, 4, 5), (0.25, 9), (0.25,)]:
        x = torch.randn(shape)
        y, mask = student.run(drop, x, p)
        close(y, x * mask / (1 - p), f"output for p = {p}")
        expect(list(mask.shape), list(x.shape), "shape of the mask")
    x = torch.randn(6, 5).double().T
    y, mask = student.run(drop, x, 0.5)
    expect(y, 2 * x * mask, "float64, not contiguous", dtype=True)
    require(student.unchanged("dropout", x, 0.5), "dropout changes its argument")


@ex.check("inverted: backward", points=1)
def _(student):
    for p in [0.2, 0.7, 0.0]:
        grad, mask = torch.randn(4, 6), torch.rand(4, 6) >= p
        got = student.dropout_backward(grad, mask, p)
        close(got, torch.where(mask, grad / (1 - p), 0.0), f"gradient for p = {p}")
    grad, mask = torch.randn(2, 3).double(), torch.tensor([[True, False, True], [False] * 3])
    got = student.dropout_backward(grad, mask, 0.5)
    expect(got, 2 * grad * mask, "float64", dtype=True)
    require(
        student.unchanged("dropout_backward", grad, mask, 0.5),
        "dropout_backward changes its arguments",
    )


def dtypes(student: Any, dtype: torch.dtype) -> list[str]:
    """A probe: the dtype of dropout's output, of direct dropout's in training and at test."""
    x = torch.ones(3, dtype=dtype)
    found = [student.dropout(x, 0.5)[0]]
    found += [student.direct_dropout(x, 0.5, training) for training in [True, False]]
    return [str(y.dtype) for y in found]


@ex.check("p = 0, p = 1, and outside; the dtype of x", points=0.5)
def _(student):
    for dtype in [torch.float16, torch.float32, torch.float64]:
        what = f"dropout, direct_dropout in training and at test: dtype for {dtype}"
        expect(student.run(dtypes, dtype), [str(dtype)] * 3, what)
    x, some = torch.randn(4, 5), torch.rand(4, 5) < 0.5
    y, mask = student.run(drop, x, 0.0)
    close([y, mask.float()], [x, torch.ones(4, 5)], "p = 0: output and mask")
    y, mask = student.run(drop, x, 1.0)
    expect(y, torch.zeros(4, 5), "p = 1: output", dtype=True)
    close(mask.float(), torch.zeros(4, 5), "p = 1: mask")
    close(student.dropout_backward(x, some & ~some, 1.0), torch.zeros(4, 5), "p = 1: gradient")
    for p in [-0.1, 1.5]:
        expect(student.raises("dropout", x, p), "ValueError", f"p = {p}")
        expect(student.raises("direct_dropout", x, p, True), "ValueError", f"keep = {p}, training")
        expect(student.raises("direct_dropout", x, p, False), "ValueError", f"keep = {p}, at test")


@ex.check("direct dropout", points=1)
def _(student):
    x = torch.randn(300, 200).abs() + 0.5
    for keep in [0.3, 0.8]:
        y = student.run(drop_directly, x, keep)
        expect(facts(y != 0), random_mask(keep), f"what is kept, keep = {keep}")
        close(y, x * (y != 0), f"output in training, keep = {keep}")
        close(student.direct_dropout(x[:5], keep, False), keep * x[:5], f"at test, keep = {keep}")
    close(student.run(drop_directly, x[:3], 1.0), x[:3], "keep = 1")
    close(student.run(drop_directly, x[:3], 0.0), 0 * x[:3], "keep = 0")
    close(student.run(drop_directly, x[:3], 0.0, False), 0 * x[:3], "keep = 0 at test")
    y = student.run(drop_directly, torch.ones(10, 6, 20, 50), 0.8)
    expect(facts(y != 0), random_mask(0.8, 4), "what is kept of an input of four dimensions")
    require(
        student.unchanged("direct_dropout", x[:3], 0.5, True)
        and student.unchanged("direct_dropout", x[:3], 0.5, False),
        "direct_dropout changes its argument",
    )


def counts(student: Any, name: str) -> list[float]:
    """A probe: how many of 100 elements are kept, in each of 60 draws."""
    generator, x = torch.Generator().manual_seed(4), torch.ones(100)
    if name == "dropout":
        return [student.dropout(x, 0.5, generator)[1].sum().item() for _ in range(60)]
    return [(student.direct_dropout(x, 0.5, True, generator) != 0).sum().item() for _ in range(60)]


@ex.check("the elements are independent: their number varies", points=0.5)
def _(student):
    for name in ["dropout", "direct_dropout"]:
        spread = torch.tensor(student.run(counts, name), dtype=torch.float64).std().item()
        require(  # 5 by the binomial law, give or take 0.5
            2.5 < spread < 7.5,
            f"{name}: how many of 100 are kept has deviation {spread:.1f}, and should have 5",
            got=round(spread / 5),
        )


def streams(student: Any, name: str) -> dict[str, list[Tensor]]:
    """A probe: what is kept, from generators with seeds and without."""

    def draw(generator: torch.Generator | None) -> Tensor:
        x = torch.ones(20, 30)
        if name == "dropout":
            return student.dropout(x, 0.5, generator=generator)[1].float()
        return (student.direct_dropout(x, 0.5, True, generator=generator) != 0).float()

    one, same = (torch.Generator().manual_seed(1) for _ in range(2))
    other = torch.Generator().manual_seed(2)
    torch.manual_seed(5)
    before = torch.get_rng_state()
    seeded = [draw(one), draw(one), draw(same), draw(other)]
    after = torch.get_rng_state()
    free = [draw(None), draw(None)]
    many = [draw(one) for _ in range(100)]
    torch.manual_seed(5)
    return {"seeded": seeded, "free": [*free, draw(None)], "states": [before, after], "many": many}


def habits(found: dict[str, list[Tensor]]) -> dict[str, bool]:
    """What the two sides have to agree on, whatever the numbers are."""
    seeded, free, states = found["seeded"], found["free"], found["states"]
    same = torch.equal
    return {
        "the same seed gives the same mask": same(seeded[0], seeded[2]),
        "a second call gives another mask": not same(seeded[0], seeded[1]),
        "another seed gives another mask": not same(seeded[0], seeded[3]),
        "a hundred calls give a hundred masks": len(torch.stack(found["many"]).unique(dim=0))
        == 100,
        "with a generator the global one is left alone": same(*states),
        "without a generator the global one is used": same(free[0], free[2]),
        "without a generator a second call gives another mask": not same(free[0], free[1]),
    }


@ex.check("where the random numbers come from", points=0.5)
def _(student):
    for name in ["dropout", "direct_dropout"]:
        got = habits(student.run(streams, name))
        expect(got, dict.fromkeys(got, True), name)


ex.mistake(
    "not rescaled",
    "Inverted dropout divides what it keeps by 1 - p.",
    edit=("return grad * mask / (1 - p)", "return grad * mask"),
)
ex.mistake(
    "divides by p",
    "Survivors are divided by the probability to keep, 1 - p.",
    edit=("return grad * mask / (1 - p)", "return grad * mask / p if p else grad"),
)
ex.mistake(
    "p keeps",
    "Here, as in torch, p is the probability to drop.",
    edit=("device=x.device) >= p", "device=x.device) < p"),
)
ex.mistake(
    "multiplies by 1 - p",
    "What is kept grows: divide by 1 - p.",
    edit=("return grad * mask / (1 - p)", "return grad * mask * (1 - p)"),
)
ex.mistake(
    "sixteen masks",
    "The generator draws the mask, not the number of one of a few masks.",
    edit=(
        "mask = torch.rand(x.shape, generator=generator, device=x.device) >= p",
        "seed = int(torch.randint(0, 16, (), generator=generator))\n"
        "    mask = torch.rand(x.shape, generator=torch.Generator().manual_seed(seed)) >= p",
    ),
)
ex.mistake(
    "one draw for a row",
    "Every element draws for itself.",
    edit=(
        "torch.rand(x.shape, generator=generator, device=x.device) >= p",
        "(torch.rand((*x.shape[:-1], 1), generator=generator, device=x.device) >= p)"
        ".expand(x.shape)",
    ),
)
ex.mistake(
    "one draw for a column",
    "Every element draws for itself: the rows have masks of their own.",
    edit=(
        "torch.rand(x.shape, generator=generator, device=x.device) >= p",
        "(torch.rand((1, *x.shape[1:]), generator=generator, device=x.device) >= p)"
        ".expand(x.shape)",
    ),
)
ex.mistake(
    "one draw for a channel",
    "Every element draws for itself, of images too: whole channels are another method (Dropout2d).",
    edit=(
        "torch.rand(x.shape, generator=generator, device=x.device) >= p",
        "(torch.rand(x.shape[:2] + (1,) * (x.dim() - 2), generator=generator, device=x.device)"
        " >= p).expand(x.shape)",
    ),
)
ex.mistake(
    "one mask for all examples",
    "Every element draws for itself: the examples have masks of their own.",
    edit=(
        "torch.rand(x.shape, generator=generator, device=x.device) >= p",
        "(torch.rand(x.shape[-2:], generator=generator, device=x.device) >= p).expand(x.shape)",
    ),
)
ex.mistake(
    "neighbours share a draw",
    "The elements are independent, neighbours too: one draw for each.",
    edit=(
        "torch.rand(x.shape, generator=generator, device=x.device) >= p",
        "(torch.rand((x.numel() + 1) // 2, generator=generator, device=x.device)"
        ".repeat_interleave(2)[: x.numel()].reshape(x.shape) >= p)",
    ),
)
ex.mistake(
    "exactly the share p",
    "The elements are independent: how many are dropped is random too.",
    edit=(
        "torch.rand(x.shape, generator=generator, device=x.device) >= p",
        "(torch.randperm(x.numel(), generator=generator) >= round(p * x.numel())).reshape(x.shape)",
    ),
)
ex.mistake(
    "normal in place of uniform numbers",
    "A uniform number on [0, 1) is below p with probability p; a normal one is not.",
    edit=("torch.rand(x.shape", "torch.randn(x.shape"),
)
ex.mistake(
    "NaN for p = 1",
    "0 / 0 is NaN: where everything is dropped, give zeros.",
    edit=("    if p == 1:\n        return torch.zeros_like(grad)\n", ""),
)
ex.mistake(
    "the generator is ignored",
    "All random numbers come from `generator`.",
    edit=("generator=generator, device=x.device)", "device=x.device)"),
)
ex.mistake(
    "the same mask at every call",
    "A second call gives another mask.",
    edit=("generator=generator, device=x.device)", "generator=torch.Generator().manual_seed(0))"),
)
ex.mistake(
    "no ValueError",
    "p outside [0, 1] is a mistake of the caller: raise ValueError.",
    edit=(
        '    if not 0 <= p <= 1:\n        raise ValueError(f"p is {p}; it must be in [0, 1]")\n',
        "",
    ),
)
ex.mistake(
    "the mask says what is dropped",
    "The mask is True where an element is kept.",
    edit=("p), mask  # the same linear map", "p), ~mask"),
)
ex.mistake(
    "the mask is the output's sign of life",
    "An element of value 0 may be kept too.",
    edit=("p), mask  # the same linear map", "p), dropout_backward(x, mask, p) != 0"),
)
ex.mistake(
    "the backward pass ignores the mask",
    "What was dropped gets no gradient.",
    edit=("return grad * mask / (1 - p)", "return grad / (1 - p)"),
)
ex.mistake(
    "direct: rescaled in training",
    "Direct dropout does not rescale in training; it multiplies at test.",
    edit=("x * dropout(x, 1 - keep, generator)[1] if", "dropout(x, 1 - keep, generator)[0] if"),
)
ex.mistake(
    "direct: nothing at test",
    "At test every output is multiplied by the probability to keep.",
    edit=("if training else x * keep", "if training else x"),
)
ex.mistake(
    "direct: divided at test",
    "At test the outputs are multiplied by the probability to keep.",
    edit=("if training else x * keep", "if training else x / keep"),
)
ex.mistake(
    "direct: the probability to drop",
    "`keep` is the probability to keep.",
    edit=("dropout(x, 1 - keep, generator)[1]", "dropout(x, keep, generator)[1]"),
)
ex.mistake(
    "direct: the drop share at test",
    "At test the outputs are multiplied by the probability to keep, not to drop.",
    edit=("if training else x * keep", "if training else x * (1 - keep)"),
)
ex.mistake(
    "direct: random at test",
    "At test nothing is random.",
    edit=("[1] if training else x * keep", "[1]"),
)
ex.mistake(
    "direct: changes x",
    "`*=` and `mul_` write into the caller's tensor.",
    edit=("if training else x * keep", "if training else x.mul_(keep)"),
)
ex.mistake(
    "direct: the mask decides the dtype",
    "The output has the dtype of x: a float32 mask widens float16. Multiply by the bool mask, or "
    "give the mask the dtype of x.",
    edit=(
        "x * dropout(x, 1 - keep, generator)[1] if",
        "x * dropout(x, 1 - keep, generator)[1].float() if",
    ),
)
ex.mistake(
    "direct: float64",
    "The output has the dtype of x.",
    edit=(
        "    return x * dropout(x, 1 - keep, generator)[1] if",
        "    x = x.double()\n    return x * dropout(x, 1 - keep, generator)[1] if",
    ),
)
ex.mistake(
    "direct: the generator is ignored",
    "Pass the generator on.",
    edit=("dropout(x, 1 - keep, generator)", "dropout(x, 1 - keep)"),
)


@ex.alternative("bernoulli_")
def _(x, p, generator=None):
    if p < 0 or p > 1:
        raise ValueError("p")
    mask = torch.empty_like(x).bernoulli_(1 - p, generator=generator).bool()
    return torch.where(mask, x / max(1 - p, 1e-12), torch.zeros_like(x)), mask


@ex.alternative("drawn from the end, element by element")
def _(x, p, generator=None):
    if not (p >= 0 and p <= 1):
        raise ValueError("p")
    draws = torch.rand(x.numel(), generator=generator, dtype=torch.float64).flip(0)
    mask = (draws < 1 - p).reshape(x.shape)
    y = torch.zeros_like(x)
    if p < 1:
        y[mask] = x[mask] / (1 - p)
    return y, mask


@ex.alternative("backward by masking", replaces="dropout_backward")
def _(grad, mask, p):
    out = grad.clone()
    out[~mask] = 0
    return out if p == 1 else out * (1 / (1 - p))


@ex.alternative("direct, with draws of its own", replaces="direct_dropout")
def _(x, keep, training, generator=None):
    if keep < 0 or keep > 1:
        raise ValueError("keep")
    if not training:
        return keep * x
    chances = torch.full(x.shape, float(keep), dtype=x.dtype)
    return x * torch.bernoulli(chances, generator=generator)


@ex.alternative("direct, a mask in both modes, an error of its own", replaces="direct_dropout")
def _(x, keep, training, generator=None):
    class NoProbability(ValueError):
        pass

    if keep < 0 or keep > 1:
        raise NoProbability("keep")
    mask = torch.rand(x.shape, generator=generator, device=x.device) < keep
    return x * mask if training else x * keep


ex.equivalent("device=x.device) > p", "torch.rand gives exactly p once in 2^24 draws")
ex.equivalent(
    "torch.rand(x.shape, generator=generator)", "the same on the CPU, where the judge computes"
)


# ----------------------------------------------------------------------------------------------
# ensembles

ex = ensembles = Exercise("ensembles", defines=["arithmetic_mean", "geometric_mean"])


def members(m: int, rows: int, classes: int) -> tuple[Tensor, Tensor]:
    """Logits (M, B, K) and unequal weights (M,)."""
    return 3 * torch.randn(m, rows, classes), torch.rand(m).softmax(0)


def means(logits: Tensor, weights: Tensor) -> tuple[Tensor, Tensor]:
    """The oracle, from the definitions, with logarithms in float64."""
    logs, w = logits.double().log_softmax(-1), weights.double()[:, None, None]
    return (w * logs.exp()).sum(0), (w * logs).sum(0).softmax(-1)


@ex.check("arithmetic mean", points=1)
def _(student):
    for sizes in [(3, 4, 5), (2, 1, 3), (1, 3, 2), (5, 5, 2)]:
        logits, weights = members(*sizes)
        want, _ = means(logits, weights)
        close(student.arithmetic_mean(logits, weights), want, f"(M, B, K) = {sizes}")


@ex.check("geometric mean", points=1)
def _(student):
    for sizes in [(3, 4, 5), (2, 1, 3), (1, 3, 2), (5, 5, 2)]:
        logits, weights = members(*sizes)
        _, want = means(logits, weights)
        close(student.geometric_mean(logits, weights), want, f"(M, B, K) = {sizes}")


@ex.check("large logits, many networks, weights of zero", points=1)
def _(student):
    logits, weights = members(4, 3, 5)
    for name, scale in [("1000", 300.0), ("10000", 1500.0)]:
        arithmetic, geometric = means(scale * logits, weights)
        got = student.arithmetic_mean(scale * logits, weights)
        close(got, arithmetic, f"arithmetic, logits up to {name}")
        got = student.geometric_mean(scale * logits, weights)
        expect(got, geometric, f"geometric, logits up to {name}", rtol=1e-2, atol=1e-2)
    logits, weights = members(600, 2, 4)
    for name, want in zip(
        ["arithmetic_mean", "geometric_mean"], means(logits, weights), strict=True
    ):
        close(student.run(two_tensors, name, logits, weights), want, f"{name}, 600 networks")
    logits, weights = members(3, 2, 4)
    logits[1] *= 1000
    weights = torch.tensor([0.3, 0.0, 0.7])
    for name, want in zip(
        ["arithmetic_mean", "geometric_mean"], means(logits, weights), strict=True
    ):
        close(student.run(two_tensors, name, logits, weights), want, f"{name}, a weight of zero")


def two_tensors(student: Any, name: str, logits: Tensor, weights: Tensor) -> Tensor:
    """A probe: one of the two functions."""
    return getattr(student, name)(logits, weights)


@ex.check("float64, nothing is modified", points=0.5)
def _(student):
    logits, weights = (t.double() for t in members(3, 2, 4))
    for name, want in zip(
        ["arithmetic_mean", "geometric_mean"], means(logits, weights), strict=True
    ):
        got = student.run(two_tensors, name, logits, weights)
        expect(got, want, name, rtol=1e-6, atol=1e-9)
        require(student.unchanged(name, logits, weights), f"{name} changes its arguments")


ex.mistake(
    "the mean of the logits for both",
    "The arithmetic mean is that of the probabilities: softmax first, then average.",
    edit=(
        'torch.einsum("m,mbk->bk", weights, logits.softmax(dim=-1))',
        'torch.einsum("m,mbk->bk", weights, logits).softmax(dim=1)',
    ),
)
ex.mistake(
    "the mean of the probabilities for both",
    "The geometric mean is that of the products: average the logits, then softmax.",
    edit=(
        'torch.einsum("m,mbk->bk", weights, logits).softmax(dim=1)',
        'torch.einsum("m,mbk->bk", weights, logits.softmax(dim=-1))',
    ),
)
ex.mistake(
    "arithmetic: the weights are ignored",
    "Each network counts with its weight.",
    edit=(
        'torch.einsum("m,mbk->bk", weights, logits.softmax(dim=-1))',
        "logits.softmax(dim=-1).mean(0)",
    ),
)
ex.mistake(
    "geometric: the weights are ignored",
    "Each network counts with its weight.",
    edit=(
        'torch.einsum("m,mbk->bk", weights, logits).softmax(dim=1)',
        "logits.mean(0).softmax(dim=-1)",
    ),
)
ex.mistake(
    "softmax over the networks",
    "The probabilities of one network sum to 1 over the classes, the last dimension.",
    edit=("logits.softmax(dim=-1))", "logits.softmax(dim=0))"),
)
ex.mistake(
    "geometric: sums the logits",
    "Each logit is multiplied by its network's weight, so the sum is a mean.",
    edit=(
        'torch.einsum("m,mbk->bk", weights, logits).softmax(dim=1)',
        "logits.sum(0).softmax(dim=-1)",
    ),
)
ex.mistake(
    "geometric: not divided by its sum",
    "The products do not sum to 1: divide by their sum over the classes.",
    edit=(
        'torch.einsum("m,mbk->bk", weights, logits).softmax(dim=1)',
        'torch.einsum("m,mbk->bk", weights, logits.log_softmax(-1)).exp()',
    ),
)
ex.mistake(
    "geometric: the product of small numbers",
    "The product is 0 for every class and 0/0 is NaN: work with the logits.",
    edit=(
        'return torch.einsum("m,mbk->bk", weights, logits).softmax(dim=1)',
        "product = (logits.softmax(-1) ** weights[:, None, None]).prod(0)\n"
        "    return product / product.sum(-1, keepdim=True)",
    ),
)
ex.mistake(
    "arithmetic: a vote",
    "Average the probabilities; a vote would throw away how sure each network is.",
    edit=(
        "logits.softmax(dim=-1))",
        "F.one_hot(logits.argmax(-1), logits.shape[-1]).to(logits.dtype))",
    ),
)
ex.mistake(
    "arithmetic: softmax without subtracting the maximum",
    "exp overflows: use the library's softmax, or subtract the maximum.",
    edit=("logits.softmax(dim=-1))", "logits.exp() / logits.exp().sum(-1, keepdim=True))"),
)
ex.mistake(
    "arithmetic: the mean of the logarithms",
    "Average the probabilities, not their logarithms.",
    edit=(
        'torch.einsum("m,mbk->bk", weights, logits.softmax(dim=-1))',
        'torch.einsum("m,mbk->bk", weights, logits.log_softmax(dim=-1)).exp()',
    ),
)


@ex.alternative("a loop over the networks")
def _(logits, weights):
    total = torch.zeros_like(logits[0])
    for w, z in zip(weights, logits, strict=True):
        shifted = (z - z.amax(-1, keepdim=True)).exp()
        total += w * shifted / shifted.sum(-1, keepdim=True)
    return total


@ex.alternative("with logarithms")
def _(logits, weights):
    kept = weights > 0
    logs = logits[kept].log_softmax(-1) + weights[kept].log()[:, None, None]
    return torch.logsumexp(logs, dim=0).exp()


@ex.alternative("logarithms of the probabilities, divided by the sum", replaces="geometric_mean")
def _(logits, weights):
    logs = (weights.double()[:, None, None] * logits.double().log_softmax(-1)).sum(0)
    product = (logs - logs.amax(-1, keepdim=True)).exp()
    return (product / product.sum(-1, keepdim=True)).to(logits.dtype)


# ----------------------------------------------------------------------------------------------
# parameter_groups

ex = parameter_groups = Exercise("parameter_groups")


class Mixed(nn.Module):
    """All kinds of parameters: shared, frozen, nested, without dimensions, with three."""

    def __init__(self) -> None:
        super().__init__()
        self.embedding = nn.Embedding(7, 4)
        self.block = nn.Sequential(nn.Conv2d(3, 2, 3), nn.BatchNorm2d(2), nn.Linear(5, 4))
        self.norm = nn.LayerNorm((2, 4))  # weight and bias have two dimensions
        self.head = nn.Linear(4, 7, bias=False)
        self.head.weight = self.embedding.weight  # tied
        self.again = self.norm  # a module that stands in two places
        self.temperature = nn.Parameter(torch.tensor(1.0))
        self.basis = nn.Parameter(torch.zeros(2, 3, 4))
        self.frozen = nn.Linear(3, 2).requires_grad_(False)
        self.weight = nn.Parameter(torch.zeros(6))  # a name is no rule
        self.wide_bias = nn.Parameter(torch.zeros(1, 6))


def nets() -> dict[str, nn.Module]:
    """Modules to sort the parameters of."""
    half = nn.Sequential(nn.Linear(3, 4), nn.ReLU(), nn.Linear(4, 2))
    half[0].weight.requires_grad_(False)
    return {
        "an MLP": nn.Sequential(nn.Linear(3, 4), nn.ReLU(), nn.Linear(4, 2)),
        "with normalisation": nn.Sequential(
            nn.Conv2d(1, 2, 3, bias=False), nn.BatchNorm2d(2), nn.ReLU(), nn.Flatten()
        ),
        "two alike": nn.Sequential(nn.BatchNorm1d(4), nn.ReLU(), nn.BatchNorm1d(4)),
        "a mixture": Mixed(),
        "half of it frozen": half,
        "only gains": nn.LayerNorm(3),
        "nothing": nn.ReLU(),
    }


def sorted_names(student: Any, make: Any, which: str, decay: float) -> dict[str, Any]:
    """A probe: the names of the parameters in each group, with repetitions, and the decays."""
    net = make()[which]
    names = {id(p): name for name, p in net.named_parameters()}
    groups = list(student.parameter_groups(net, decay))
    found = [sorted(names.get(id(p), "unknown") for p in group["params"]) for group in groups]
    return {"names": found, "decay": [float(group["weight_decay"]) for group in groups]}


def right_names(which: str) -> list[list[str]]:
    """The oracle."""
    trained = {n: p for n, p in nets()[which].named_parameters() if p.requires_grad}
    decayed = sorted(name for name, p in trained.items() if p.dim() >= 2)
    return [decayed, sorted(set(trained) - set(decayed))]


def sorts(student: Any, *which: str) -> None:
    """Compare the groups of these nets."""
    for name in which:
        got = student.run(sorted_names, nets, name, 0.3)
        expect(got["names"], right_names(name), f"parameters of {name}")


@ex.check("weights decay, biases and gains do not", points=1)
def _(student):
    sorts(student, "an MLP", "with normalisation")


@ex.check("shared and nested parameters, other dimensions", points=1)
def _(student):
    sorts(student, "a mixture", "two alike")


@ex.check("frozen parameters, empty groups", points=0.5)
def _(student):
    sorts(student, "half of it frozen", "only gains", "nothing")


@ex.check("the decays, in torch's optimiser", points=0.5)
def _(student):
    for which in ["an MLP", "only gains", "nothing"]:
        for decay in [0.3, 0.0]:
            got = student.run(sorted_names, nets, which, decay)
            expect(got["decay"], [decay, 0.0], f"decay of the two groups for {decay}, {which}")
    got = student.run(one_step)
    expect(got[0], torch.full((2, 3), 0.8), "a weight after a step without gradient")
    expect(got[1], torch.full((2,), 1.0), "a bias after a step without gradient")


def one_step(student: Any) -> list[Tensor]:
    """A probe: parameters of 1 after a step of rate 0.5 with decay 0.4 and no gradient."""
    net = torch.nn.Linear(3, 2)
    optimiser = torch.optim.SGD(student.parameter_groups(net, 0.4), lr=0.5)
    for parameter in net.parameters():
        parameter.data.fill_(1.0)
        parameter.grad = torch.zeros_like(parameter)
    optimiser.step()
    return [net.weight, net.bias]


ex.mistake(
    "everything decays",
    "Biases and gains are left alone: parameters with fewer than two dimensions.",
    edit=[
        ("[p for p in trained if p.dim() >= 2]", "trained"),
        ("[p for p in trained if p.dim() < 2]", "[]"),
    ],
)
ex.mistake(
    "the groups are swapped",
    "First the weights, with decay.",
    edit=[
        ("if p.dim() >= 2]", "if p.dim() < 2 ]"),
        ("if p.dim() < 2]", "if p.dim() >= 2]"),
    ],
)
ex.mistake(
    "by name",
    "A normalisation's gain is called weight too, and a name says nothing of the shape.",
    edit=[
        (
            "trained = [parameter for parameter in net.parameters() if parameter.requires_grad]",
            "named = [(n, p) for n, p in net.named_parameters() if p.requires_grad]",
        ),
        ("[p for p in trained if p.dim() >= 2]", '[p for n, p in named if n.endswith("weight")]'),
        (
            "[p for p in trained if p.dim() < 2]",
            '[p for n, p in named if not n.endswith("weight")]',
        ),
    ],
)
ex.mistake(
    "only biases are left out",
    "Gains do not decay either: look at the number of dimensions.",
    edit=[
        (
            "trained = [parameter for parameter in net.parameters() if parameter.requires_grad]",
            "named = [(n, p) for n, p in net.named_parameters() if p.requires_grad]",
        ),
        ("[p for p in trained if p.dim() >= 2]", '[p for n, p in named if "bias" not in n]'),
        ("[p for p in trained if p.dim() < 2]", '[p for n, p in named if "bias" in n]'),
    ],
)
ex.mistake(
    "frozen parameters too",
    "Frozen parameters belong to no group.",
    edit=("if parameter.requires_grad]", "]"),
)
ex.mistake(
    "exactly two dimensions",
    "A convolution's weight has four: two or more.",
    edit=("if p.dim() >= 2]", "if p.dim() == 2]"),
)
ex.mistake(
    "normalisations are left out, whatever their shape",
    "The rule goes by the number of dimensions alone: a LayerNorm over two dimensions has gains "
    "with two.",
    edit=[
        (
            "trained = [parameter for parameter in net.parameters() if parameter.requires_grad]",
            "trained = [parameter for parameter in net.parameters() if parameter.requires_grad]\n"
            "    gains = {id(p) for m in net.modules() if isinstance(m, nn.LayerNorm)"
            " for p in m.parameters()}",
        ),
        ("if p.dim() >= 2]", "if p.dim() >= 2 and id(p) not in gains]"),
        ("if p.dim() < 2]", "if p.dim() < 2 or id(p) in gains]"),
    ],
)
ex.mistake(
    "an empty group changes the decay",
    "The second group's decay is 0, also if one of the groups is empty.",
    edit=(
        'if p.dim() < 2], "weight_decay": 0.0}',
        "if p.dim() < 2],\n"
        '         "weight_decay": 0.0 if any(p.dim() >= 2 for p in trained) else weight_decay}',
    ),
)
ex.mistake(
    "the others decay too",
    "The second group's decay is 0.",
    edit=('if p.dim() < 2], "weight_decay": 0.0', 'if p.dim() < 2], "weight_decay": weight_decay'),
)
ex.mistake(
    "more than two dimensions",
    "The weight of a linear layer has two dimensions.",
    edit=[("if p.dim() >= 2]", "if p.dim() > 2]"), ("if p.dim() < 2]", "if p.dim() <= 2]")],
)
ex.mistake(
    "shared parameters twice",
    "A parameter that two layers share stands in its group once; torch's optimisers refuse twice.",
    edit=(
        "net.parameters() if parameter.requires_grad",
        "[p for m in net.modules() for p in m._parameters.values() if p is not None]"
        " if parameter.requires_grad",
    ),
)
ex.mistake(
    "equal values taken for shared parameters",
    "Shared means the same object: two gains of ones are two parameters. Compare with `is`.",
    edit=(
        "    trained = [parameter for parameter in net.parameters() if parameter.requires_grad]\n",
        "    trained = []\n"
        "    for parameter in net.parameters():\n"
        "        twin = any(torch.equal(parameter, other) for other in trained)\n"
        "        if parameter.requires_grad and not twin:\n"
        "            trained.append(parameter)\n",
    ),
)
ex.mistake(
    "only one level of layers",
    "Blocks hold layers: net.parameters() goes all the way down.",
    edit=(
        "net.parameters() if parameter.requires_grad",
        "[p for m in [net, *net.children()] for p in m._parameters.values() if p is not None]"
        " if parameter.requires_grad",
    ),
)
ex.mistake(
    "the decay of the default",
    "Use the argument weight_decay.",
    edit=(
        'if p.dim() >= 2], "weight_decay": weight_decay',
        'if p.dim() >= 2], "weight_decay": 0.01',
    ),
)


@ex.alternative("one pass, by name")
def _(net, weight_decay):
    groups = {True: [], False: []}
    for _, parameter in reversed(list(net.named_parameters())):
        if parameter.requires_grad:
            groups[parameter.ndim > 1].append(parameter)
    return [
        {"params": groups[True], "weight_decay": weight_decay},
        {"params": groups[False], "weight_decay": 0},
    ]


@ex.alternative("module by module")
def _(net, weight_decay):
    seen, decayed, others = set(), [], []
    for module in net.modules():
        for parameter in module.parameters(recurse=False):
            if id(parameter) in seen or not parameter.requires_grad:
                continue
            seen.add(id(parameter))
            (others if len(parameter.shape) < 2 else decayed).append(parameter)
    return (
        {"params": decayed, "weight_decay": weight_decay},
        {"params": others, "weight_decay": 0.0},
    )


# ----------------------------------------------------------------------------------------------
# early_stopping

ex = early_stopping = Exercise("early_stopping", defines=["EarlyStopping"])


def watch(student: Any, values: list[float], patience: int, min_delta: float = 0.0) -> dict:
    """A probe: what the stopper says and holds after each value.

    The same tensors are changed in place between the epochs, as an optimiser does.
    """
    stopper = student.EarlyStopping(patience, min_delta=min_delta)
    weight = torch.zeros(2, requires_grad=True)
    state = {"weight": weight, "count": torch.tensor(0)}
    said, best, kept = [], [], []
    for epoch, value in enumerate(values):
        with torch.no_grad():
            weight.fill_(epoch + 0.5)
            state["count"].fill_(epoch)
        said.append(bool(stopper.update(value, state)))
        with torch.no_grad():
            weight.fill_(-1.0)
            state["count"].fill_(-1)
        state["count"] = torch.tensor(-2)
        best.append([float(stopper.best_value), stopper.best_epoch])
        held = stopper.best_state
        kept.append(None if held is None else {name: held[name] for name in held})
    return {"stop": said, "best value and epoch": best, "best state": kept}


class Stopper:
    """The oracle, by another way: it keeps all values and looks back."""

    def __init__(self, patience: int, min_delta: float) -> None:
        self.patience, self.min_delta, self.better = patience, min_delta, []
        self.best_value, self.best_epoch, self.best_state = math.inf, None, None

    def update(self, value: float, state: dict[str, Tensor]) -> bool:
        better = value < self.best_value - self.min_delta
        self.better.append(better)
        if better:
            self.best_value, self.best_epoch = value, len(self.better) - 1
            self.best_state = {name: tensor.detach().clone() for name, tensor in state.items()}
        return len(self.better) >= self.patience and not any(self.better[-self.patience :])


class Stoppers:
    """Stands where the student's namespace does."""

    EarlyStopping = Stopper


def watched(student: Any, values: list[float], patience: int, min_delta: float = 0.0) -> None:
    """Compare a whole run with the oracle."""
    got = student.run(watch, values, patience, min_delta)
    want = watch(Stoppers, values, patience, min_delta)
    for key in want:
        expect(got[key], want[key], f"{key}: values {values}, patience {patience}, {min_delta}")


@ex.check("when to stop", points=1)
def _(student):
    for patience in [1, 2, 3]:
        for values in [[5.0, 4.0, 3.0, 3.5, 3.2, 3.1, 3.3], [1.0, 2.0, 2.0, 0.5, 0.6, 0.7, 0.8]]:
            got = student.run(watch, values, patience)["stop"]
            want = watch(Stoppers, values, patience)["stop"]
            expect(got, want, f"stop: values {values}, patience {patience}")


@ex.check("the best epoch's value and parameters", points=1)
def _(student):
    watched(student, [5.0, 3.0, 4.0, 2.0, 2.5, 2.2], 9)
    watched(student, [-1.0, -3.0, -2.0], 2)
    watched(student, [1.0, 0.0, 5.0, 0.5], 3)


@ex.check("an equal value is no better; min_delta", points=1)
def _(student):
    watched(student, [3.0, 3.0, 2.0, 2.0, 2.0], 2)
    watched(student, [4.0, 3.75, 3.5, 3.25, 3.0, 2.0, 1.75], 2, 0.5)
    watched(student, [4.0, 3.5, 3.25, 2.75], 1, 0.5)
    watched(student, [4.0, 4.25, 3.0, 3.25, 3.5], 3, 0.5)
    watched(student, [1.0, 0.99996, 0.99992, 0.99988], 2)


@ex.check("NaN, infinity, and before the first epoch", points=1)
def _(student):
    watched(student, [math.nan, 5.0, math.nan, 4.0, math.nan, math.nan], 2)
    watched(student, [math.nan, math.nan, math.nan, 1.0], 2)
    watched(student, [math.inf, math.inf, 7.0], 2)
    got = student.run(new_stopper)
    expect(got["value"], math.inf, "best_value at first")
    expect([got["epoch"], got["state"]], [None, None], "best_epoch and best_state at first")


def new_stopper(student: Any) -> dict[str, Any]:
    """A probe: what a new stopper holds."""
    stopper = student.EarlyStopping(3)
    return {
        "value": stopper.best_value,
        "epoch": stopper.best_epoch,
        "state": stopper.best_state,
    }


def two_at_once(student: Any) -> list[Any]:
    """A probe: two stoppers side by side, a net that goes back, the state's own tensors."""
    net = torch.nn.Linear(2, 1)
    first, second = student.EarlyStopping(2), student.EarlyStopping(patience=5)
    for value, fill in [(3.0, 1.0), (2.0, 2.0), (9.0, 3.0)]:
        for parameter in net.parameters():
            parameter.data.fill_(fill)
        first.update(value, net.state_dict())
        second.update(-value, net.state_dict())
    left = net.weight.detach().clone()
    net.load_state_dict(first.best_state)
    return [left, net.weight, net.bias, second.best_state["bias"], second.best_epoch]


def exact_copies(student: Any) -> dict[str, Tensor]:
    """A probe: the copy of tensors that neither float32 nor NumPy can hold."""
    stopper = student.EarlyStopping(2)
    state = {
        "count": torch.tensor(2**53 + 1),
        "half": torch.tensor([1.5], dtype=torch.bfloat16),
        "wide": torch.tensor([1 / 3, -1e-300], dtype=torch.float64),
        "flags": torch.tensor([True, False]),
    }
    stopper.update(1.0, state)
    return {name: stopper.best_state[name] for name in state}


@ex.check("with a network, two side by side, integers and float64", points=0.5)
def _(student):
    got = student.run(exact_copies)
    expect(got["count"], torch.tensor(2**53 + 1), "copy of an integer", rtol=0, atol=0, dtype=True)
    expect(got["half"], torch.tensor([1.5], dtype=torch.bfloat16), "copy of bfloat16", dtype=True)
    want = torch.tensor([1 / 3, -1e-300], dtype=torch.float64)
    expect(got["wide"], want, "copy of float64", rtol=0, atol=0, dtype=True)
    expect(got["flags"], torch.tensor([True, False]), "copy of bool", dtype=True)
    left, weight, bias, other, epoch = student.run(two_at_once)
    expect(left, [[3.0, 3.0]], "the network while it trains")
    expect([weight, bias], [torch.full((1, 2), 2.0), torch.full((1,), 2.0)], "after going back")
    expect(other, [3.0], "best state of the second stopper")
    expect(epoch, 2, "best epoch of the second stopper")


ex.mistake(
    "keeps a reference, not a copy",
    "state_dict's tensors are the parameters themselves: clone them.",
    edit=("{name: tensor.detach().clone() for name, tensor in state.items()}", "state"),
)
ex.mistake(
    "copies the dictionary, not the tensors",
    "A new dictionary holds the same tensors: clone each.",
    edit=("tensor.detach().clone() for name", "tensor.detach() for name"),
)
ex.mistake(
    "one copy for all stoppers",
    "A dictionary in the class belongs to all its objects: make it in __init__ or in update.",
    edit=[
        (
            "    def __init__(self, patience",
            "    kept = {}\n\n    def __init__(self, patience",
        ),
        (
            "self.best_state = {name: tensor.detach().clone() for name, tensor in state.items()}",
            "self.kept.update((n, t.detach().clone()) for n, t in state.items())\n"
            "            self.best_state = self.kept",
        ),
    ],
)
ex.mistake(
    "a best value of zero is taken for none",
    "0.0 is false in Python: ask for `is None`, or start from infinity.",
    edit=(
        "if value < self.best_value - self.min_delta:",
        "if value < (self.best_value or math.inf) - self.min_delta:",
    ),
)
ex.mistake(
    "small improvements do not count",
    "Only min_delta says how much is enough, and it is 0 unless given.",
    edit=("self.best_value - self.min_delta:", "self.best_value - max(self.min_delta, 1e-4):"),
)
ex.mistake(
    "copies in float32",
    "A copy has the dtype of its tensor: a counter is an integer.",
    edit=("tensor.detach().clone() for name", "tensor.detach().float().clone() for name"),
)
ex.mistake(
    "the count is not started anew",
    "A better epoch starts the count anew.",
    edit=(
        "self.best_value, self.best_epoch, self.waited = value, self.epochs, 0",
        "self.best_value, self.best_epoch, self.waited = value, self.epochs, self.waited - 1",
    ),
)
ex.mistake(
    "stops one epoch too late",
    "With patience 2, at the second epoch in a row that is not better.",
    edit=("self.waited >= self.patience", "self.waited > self.patience"),
)
ex.mistake(
    "stops one epoch too early",
    "With patience 2, at the second epoch in a row that is not better.",
    edit=("self.waited >= self.patience", "self.waited >= max(self.patience - 1, 1)"),
)
ex.mistake(
    "an equal value counts as better",
    "Smaller by more than min_delta: < and not <=.",
    edit=("if value < self.best_value", "if value <= self.best_value"),
)
ex.mistake(
    "larger is better",
    "A loss is watched: smaller is better.",
    edit=(
        "if value < self.best_value - self.min_delta:",
        "if value > self.best_value - self.min_delta or self.best_epoch is None:",
    ),
)
ex.mistake(
    "min_delta is ignored",
    "Better means smaller by more than min_delta.",
    edit=("self.best_value - self.min_delta:", "self.best_value:"),
)
ex.mistake(
    "min_delta with the wrong sign",
    "Smaller than the best one minus min_delta.",
    edit=("self.best_value - self.min_delta:", "self.best_value + self.min_delta:"),
)
ex.mistake(
    "NaN counts as better",
    "A comparison with NaN is False: write the condition so that False means not better.",
    edit=(
        "if value < self.best_value - self.min_delta:",
        "if not value >= self.best_value - self.min_delta:",
    ),
)
ex.mistake(
    "compares with the last epoch",
    "Better than the best epoch so far, not than the last one.",
    edit=(
        "        self.epochs += 1\n",
        "        self.epochs, self.best_value = self.epochs + 1, value\n",
    ),
)
ex.mistake(
    "epochs from 1",
    "The first call is epoch 0.",
    edit=("self.epochs, self.waited = 0, 0", "self.epochs, self.waited = 1, 0"),
)
ex.mistake(
    "keeps the last epoch's parameters",
    "best_state is that of the best epoch.",
    edit=(
        "            self.best_state = {name",
        "        self.best_state = {name",
    ),
)
ex.mistake(
    "the best epoch is not noted",
    "best_epoch is the number of the best epoch.",
    edit=("self.waited = value, self.epochs, 0", "self.waited = value, self.best_epoch, 0"),
)


@ex.alternative("by the epochs' numbers, deepcopy")
class ByNumbers:
    best_value = math.inf
    best_epoch = None
    best_state = None

    def __init__(self, patience, min_delta=0.0):
        self.patience, self.min_delta, self.values = patience, min_delta, []

    def update(self, value, state):
        self.values.append(value)
        epoch = len(self.values) - 1
        if not math.isnan(value) and self.best_value - value > self.min_delta:
            self.best_value, self.best_epoch = value, epoch
            self.best_state = copy.deepcopy({k: v.detach() for k, v in state.items()})
        since = epoch - (-1 if self.best_epoch is None else self.best_epoch)
        return since >= self.patience


@ex.alternative("counts down, tensors as attributes")
class CountsDown:
    def __init__(self, patience: int, min_delta: float = 0.0):
        self.allowed = self.left = patience
        self.delta = min_delta
        self.best_value, self.best_epoch, self.best_state = float("inf"), None, None
        self.epoch = -1

    def update(self, value, state):
        self.epoch += 1
        if value + self.delta < self.best_value:
            self.left = self.allowed
            self.best_epoch = self.epoch
            self.best_value = value
            self.best_state = {}
            for name in state:
                self.best_state[name] = torch.empty_like(state[name], requires_grad=False)
                self.best_state[name].copy_(state[name].detach())
            return False
        self.left -= 1
        return self.left <= 0
