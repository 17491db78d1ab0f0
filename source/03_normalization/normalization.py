# %% [markdown]
# # Normalisation and regularisation
#
# **Unit 03, one notebook, eleven exercises.** Allow four hours; the experiments run on the CPU,
# in about a minute on two cores.
#
# *Afterwards you can* write batch, layer, instance and group normalisation with their gradients,
# say which numbers each of them averages over and what goes wrong with it, fold a normalisation
# into a convolution, and slow down overfitting with dropout, weight decay, early stopping and
# ensembles.
#
# *You need* backpropagation through a layer by hand (unit 01), convolutions as a library call
# (unit 02), and tensors: `mean(dim=(0, 2), keepdim=True)`, `reshape`, broadcasting.
#
# *How it works.* An exercise is one cell to fill in, followed by a cell of visible tests with
# numbers small enough for paper. The hidden checks ask for what the text and the docstrings
# state, nothing else. The cells between exercises are given: run them, look, read on.

# %% setup=true
import course

course.setup("03_normalization")

# %%
import copy
import itertools
import math
import time
from collections.abc import Callable
from functools import cache

import matplotlib.pyplot as plt
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

from course import expect, plots
from course.data import digits
from course.training import fit

FULL = course.profile() != "grade"  # the grader runs the same cells with fewer steps

# %% [markdown]
# ## One line apart
#
# Two networks of ten layers read handwritten digits of 8 × 8 pixels. They have the same widths,
# the same He initialisation (the one that keeps signals level, unit 01) and the same batches. The
# second has one more line in each layer, `nn.BatchNorm1d`. Both are trained with plain gradient
# descent at four rates from 0.01 to 3. Guess first: how much larger may the rate of the second
# be?


# %%
def accuracy_at(rate: float, normalised: bool, steps: int) -> float:
    """Validation accuracy after some steps, with torch's own parts throughout."""
    torch.manual_seed(0)
    data, layers = digits(course.device()), []
    for n_in in [64] * 9:
        layers += [nn.Linear(n_in, 64)]
        layers += [nn.BatchNorm1d(64)] if normalised else []
        layers += [nn.ReLU()]
    net = nn.Sequential(*layers, nn.Linear(64, 10))
    for layer in net:
        if isinstance(layer, nn.Linear):
            nn.init.kaiming_normal_(layer.weight)
            nn.init.zeros_(layer.bias)
    net.to(course.device())
    optimiser = torch.optim.SGD(net.parameters(), rate)
    for _ in range(steps):
        batch = torch.randint(0, len(data.train_x), (64,), device=course.device())
        optimiser.zero_grad()
        F.cross_entropy(net(data.train_x[batch] - 0.3), data.train_y[batch]).backward()
        optimiser.step()
    right = net.eval()(data.valid_x - 0.3).argmax(1) == data.valid_y
    return right.float().mean().item()


RATES = [0.01, 0.1, 1.0, 3.0] if FULL else [0.1]
print("rate                " + "".join(f"{rate:8}" for rate in RATES))
for name, normalised in {"plain": False, "with BatchNorm1d": True}.items():
    found = [accuracy_at(rate, normalised, 100 if FULL else 2) for rate in RATES]
    print(f"{name:20s}" + "".join(f"{right:8.1%}" for right in found))

# %% [markdown]
# After the same 100 steps the plain network has its best rate near 0.1 and is dead at 1 (one right
# in ten is guessing). The normalised one learns at 1 and even at 3, and its best is well above
# the plain one's. Nothing else was changed. What does that line do, what does its gradient look
# like, and what does it cost?
#
# It does cost something. Your own version of the network, in part 4, will give one image the true
# class with 99 % certainty, or with 1 %, depending on which other images are in the batch.
# %% [markdown]
# ## 1. One formula, many groupings
#
# All normalisations of this notebook do the same thing to a group of $m$ numbers
# $x_1, \dots, x_m$: they subtract the group's mean and divide by its deviation. They differ only
# in which numbers form a group.
#
# **Notation.** Batch of $N$ examples, $C$ features or channels, images of height $H$ and width
# $W$, groups $G$, loss $L$, learning rate $\eta$. For a group of $m$ numbers: mean $\mu$, biased
# variance $v$ (divided by $m$), and $s = \sqrt{v + \epsilon}$.

# %% [markdown] heading="normalize"
# ### Exercise {number} · Normalise ({points} points, about 5 min)
#
# $$\hat x_i = \frac{x_i - \mu}{s}, \qquad \mu = \frac1m\sum_{i=1}^m x_i, \qquad
# v = \frac1m\sum_{i=1}^m (x_i - \mu)^2, \qquad s = \sqrt{v + \epsilon} .$$
#
# `dims` are the dimensions over which the mean runs: numbers whose indices differ in these
# dimensions only form a group. For `x` of shape $(N, C)$ and `dims=(0,)` there are $C$ groups of
# $m = N$ numbers, the columns.
#
# * $\epsilon$ stands *inside* the root, and $v$ is divided by $m$, not by $m - 1$.
# * A group of equal numbers becomes zeros. (With $\epsilon = 0$ it would be $0/0$.) The formula
#   gives that by itself; groups of nearly equal numbers follow it too and do not become zeros.
# * Numbers may lie far from zero (around $10^4$, deviation 1, in float32), here and in the other
#   normalisations: there $\overline{x^2} - \mu^2$ subtracts two numbers near $10^8$ that agree in
#   all the digits that float32 has. Subtract the mean first.
#
# For this exercise and all that follow: write the arithmetic yourself. Nothing of torch that
# normalises may be called (`F.batch_norm`, `F.layer_norm`, `F.group_norm`, `F.instance_norm`,
# `F.normalize`, the modules `nn.BatchNorm1d` and so on, `torch.batch_norm`,
# `torch.native_layer_norm`, ...). `mean`, `var`, `std` and `var_mean` are allowed. Where a
# docstring names no dtype for a result, only its values are compared.


# %% exercise="normalize"
def normalize(x: Tensor, dims: tuple[int, ...], eps: float = 1e-5) -> Tensor:
    """Subtract the mean over some dimensions, divide by the root of the variance plus eps.

    Args:
        x: any shape, floating point; not modified, not necessarily contiguous.
        dims: dimensions over which mean and (biased) variance are taken, at least one; they
            may be negative.
        eps: added to the variance, inside the root.

    Returns:
        Same shape and dtype.
    """
    ### BEGIN SOLUTION
    centred = x - x.mean(dim=dims, keepdim=True)
    return centred / (centred.square().mean(dim=dims, keepdim=True) + eps).sqrt()
    ### END SOLUTION


# %% test="normalize"
rows = torch.tensor([[1.0, 4.0], [5.0, 4.0]])  # columns: means 3 and 4, variances 4 and 0
expect(normalize(rows, (0,)), [[-1, 0], [1, 0]], "normalize: columns", rtol=1e-3)
expect(normalize(rows, (1,)), [[-1, 1], [1, -1]], "normalize: rows", rtol=1e-3)
# All four: mean 3.5, variance (6.25 + 0.25 + 2.25 + 0.25) / 4 = 2.25, and 1.75 + 2.25 = 2².
everything = [[-1.25, 0.25], [0.75, 0.25]]
expect(normalize(rows, (0, 1), eps=1.75), everything, "normalize: all, with a large eps")
far = torch.tensor([[9998.0], [10000.0], [10002.0]])  # variance 8/3
expect(normalize(far, (0,)), [[-(1.5**0.5)], [0], [1.5**0.5]], "normalize: far from 0", rtol=1e-3)

# %% [markdown]
# ## 2. Batch normalisation
#
# Ioffe and Szegedy (2015) normalise every feature over the batch, and then let the network scale
# and shift it again: with $\gamma_c$ and $\beta_c$ learned for each feature $c$,
#
# $$y_{nc} = \gamma_c\,\hat x_{nc} + \beta_c ,$$
#
# so that nothing the layer could express is lost: with $\gamma_c = s_c$ and $\beta_c = \mu_c$,
# the root and the mean of feature $c$ over the batch, it would be the identity.

# %% [markdown] heading="batch_norm"
# ### Exercise {number} · Batch normalisation, forward ({points} points, about 20 min)
#
# **Training.** Means and variances are those of the batch. For a single image at test time there
# is no batch, so during training *running statistics* are kept beside the parameters:
#
# $$\mu^\text{run}_c \leftarrow (1 - \alpha)\,\mu^\text{run}_c + \alpha\,\mu_c, \qquad
# v^\text{run}_c \leftarrow (1 - \alpha)\,v^\text{run}_c + \alpha\,\frac{N}{N-1}\,v_c .$$
#
# This is torch's convention, and three of its points trip people up:
#
# * the batch is normalised with the *biased* variance $v_c$, and the running variance takes the
#   *unbiased* one, $\frac{N}{N-1}v_c$: it stands for the variance of data not seen yet;
# * `momentum` $\alpha$ weighs the **new** value (in Keras it weighs the old one; their 0.99 is
#   our 0.01);
# * $\epsilon$ stands inside the root, in training and in evaluation, and does not enter the
#   running variance.
#
# A batch of one row has no spread: $\hat x = 0$ whatever the row holds, and $N/(N-1)$ is $1/0$.
# It raises `ValueError`.
#
# **Evaluation.** The running statistics stand in for the batch's; rows do not know of each other,
# and one row is enough:
# $$y_{nc} = \gamma_c\,\frac{x_{nc} - \mu^\text{run}_c}{\sqrt{v^\text{run}_c + \epsilon}}
# + \beta_c .$$
#
# The functions return new running statistics and leave their arguments alone.


# %% exercise="batch_norm"
def batch_norm_train(
    x: Tensor,
    gamma: Tensor,
    beta: Tensor,
    running_mean: Tensor,
    running_var: Tensor,
    momentum: float = 0.1,
    eps: float = 1e-5,
) -> tuple[Tensor, Tensor, Tensor]:
    """Batch normalisation in training mode.

    Args:
        x: (N, C) floating point; not modified.
        gamma: (C,) scale.
        beta: (C,) shift.
        running_mean: (C,); not modified.
        running_var: (C,); not modified.
        momentum: weight of this batch in the running statistics.
        eps: added to the variance, inside the root.

    Returns:
        The output (N, C), the new running mean (C,) and the new running variance (C,).

    Raises:
        ValueError: the batch has one row.

    Source: Ioffe and Szegedy 2015, algorithm 1; running statistics as in torch.
    """
    ### BEGIN SOLUTION
    if len(x) < 2:
        raise ValueError("batch normalisation cannot train on a batch of one row")
    y = gamma * normalize(x, (0,), eps) + beta
    new_mean = (1 - momentum) * running_mean + momentum * x.mean(dim=0)
    new_var = (1 - momentum) * running_var + momentum * x.var(dim=0)
    return y, new_mean, new_var
    ### END SOLUTION


def batch_norm_eval(
    x: Tensor,
    gamma: Tensor,
    beta: Tensor,
    running_mean: Tensor,
    running_var: Tensor,
    eps: float = 1e-5,
) -> Tensor:
    """Batch normalisation in evaluation mode: the running statistics stand in for the batch's.

    Arguments as in `batch_norm_train`, N >= 1; returns the output (N, C).
    """
    ### BEGIN SOLUTION
    return gamma * (x - running_mean) / (running_var + eps).sqrt() + beta
    ### END SOLUTION


# %% test="batch_norm"
x, one, zero = torch.tensor([[0.0], [2.0]]), torch.ones(1), torch.zeros(1)
y, mean, var = batch_norm_train(x, one, zero, zero, one)  # mean 1; variance 1, unbiased 2
expect(y, [[-1.0], [1.0]], "batch_norm_train: output", rtol=1e-3)
expect(mean, [0.1], "batch_norm_train: running mean")  # 0.9 · 0 + 0.1 · 1
expect(var, [1.1], "batch_norm_train: running variance")  # 0.9 · 1 + 0.1 · 2
y, mean, var = batch_norm_train(x, 3 * one, 5 * one, 4 * one, one, momentum=0.25, eps=3.0)
expect(y, [[3.5], [6.5]], "batch_norm_train: gamma, beta, eps")  # 3 · (±1 / sqrt(1 + 3)) + 5
expect(mean, [3.25], "batch_norm_train: running mean, momentum ¼")
expect(var, [1.25], "batch_norm_train: running variance, momentum ¼")
y = batch_norm_eval(torch.tensor([[7.0]]), 3 * one, 5 * one, 4 * one, 6 * one, eps=3.0)
expect(y, [[8.0]], "batch_norm_eval: one row")  # 3 · (7 - 4) / sqrt(6 + 3) + 5
try:
    batch_norm_train(x[:1], one, zero, zero, one)
    raised = "nothing"
except ValueError:
    raised = "ValueError"
expect(raised, "ValueError", "batch_norm_train: a batch of one")

# %% [markdown]
# The running statistics are estimates. How good are they, and how soon? Batches of 16 numbers are
# drawn from a normal distribution with mean 3 and variance 4.

# %%
generator = torch.Generator().manual_seed(0)
fig, axes = plt.subplots(1, 2, figsize=(7.5, 2.6))
for momentum in [0.5, 0.1, 0.01]:
    mean, var = torch.zeros(1), torch.ones(1)
    path = []
    for _ in range(200 if FULL else 2):
        batch = 3 + 2 * torch.randn(16, 1, generator=generator)
        _, mean, var = batch_norm_train(batch, torch.ones(1), torch.zeros(1), mean, var, momentum)
        path.append((mean.item(), var.item()))
    for ax, values in zip(axes, zip(*path, strict=True), strict=True):
        ax.plot(values, label=f"momentum {momentum}")
for ax, name, truth in zip(axes, ["mean", "variance"], [3, 4], strict=True):
    ax.axhline(truth, color="0.5", lw=1, ls="-")
    ax.set(xlabel="batches", title=f"running {name}")
axes[1].legend(fontsize=8)
plt.show()

# %% [markdown]
# A small momentum is smooth and late: after 200 batches with $\alpha = 0.01$ there is still
# $0.99^{200} = 13\,\%$ of the starting value in it. A network that is evaluated after a few steps
# of training may be evaluated with statistics that are mostly their starting values. Keep this in
# mind when validation looks terrible in the first epoch, and only then.

# %% [markdown]
# ## 3. The gradient: the batch looks at itself
#
# Backpropagation has to give $\partial L/\partial x_i$ from $g_i = \partial L/\partial \hat x_i$.
# It is tempting to take $\mu$ and $s$ for constants, which gives $g_i/s$. But they are functions
# of the batch: moving $x_i$ moves $\mu$ and $s$, and with them *every* $\hat x_j$ of the group.
# Here is the whole derivation, in three steps.
#
# **How the deviation moves.** With $c_j = x_j - \mu$ the variance is $v = \frac1m\sum_j c_j^2$.
# Since $\partial\mu/\partial x_i = \frac1m$,
# $$\frac{\partial c_j}{\partial x_i} = \delta_{ij} - \frac1m, \qquad
# \frac{\partial v}{\partial x_i} = \frac2m\sum_j c_j\left(\delta_{ij} - \frac1m\right)
# = \frac2m\Big(c_i - \frac1m\underbrace{\textstyle\sum_j c_j}_{0}\Big) = \frac{2c_i}{m} ,$$
# where $\delta_{ij}$ is 1 for $i = j$ and 0 otherwise. From $s = \sqrt{v + \epsilon}$ follows
# $$\frac{\partial s}{\partial x_i} = \frac{1}{2s}\cdot\frac{2c_i}{m} = \frac{c_i}{m\,s}
# = \frac{\hat x_i}{m} .$$

# %% [markdown]
# **How every output moves.** $\hat x_j = c_j/s$, so by the quotient rule
# $$\frac{\partial \hat x_j}{\partial x_i}
# = \frac1s\,\frac{\partial c_j}{\partial x_i} - \frac{c_j}{s^2}\,\frac{\partial s}{\partial x_i}
# = \frac1s\left(\delta_{ij} - \frac1m - \frac{\hat x_j\,\hat x_i}{m}\right).$$
# Three terms: the number's own path, the one through the mean, the one through the deviation.
#
# **The gradient** sums over the outputs, $\frac{\partial L}{\partial x_i} = \sum_j g_j\,
# \frac{\partial\hat x_j}{\partial x_i}$:
# $$\frac{\partial L}{\partial x_i} = \frac1s\left(g_i - \frac1m\sum_{j=1}^m g_j
# - \hat x_i\cdot\frac1m\sum_{j=1}^m g_j\,\hat x_j\right).$$
# Nothing was neglected; $\epsilon$ is in $s$. In words: *take from the gradient its mean, and its
# part along* $\hat{\mathbf x}$, *then divide by* $s$. Moving all $x_i$ by the same amount changes
# no output, and (up to $\epsilon$) neither does stretching them about their mean: so no gradient
# may point into these two directions, and both parts go.
#
# **Scale and shift.** $y_{nc} = \gamma_c\hat x_{nc} + \beta_c$, and $\gamma_c$, $\beta_c$ are used
# in every row: with $\bar g_{nc} = \partial L/\partial y_{nc}$,
# $$\frac{\partial L}{\partial\gamma_c} = \sum_n \bar g_{nc}\,\hat x_{nc}, \qquad
# \frac{\partial L}{\partial\beta_c} = \sum_n \bar g_{nc}, \qquad
# g_{nc} = \frac{\partial L}{\partial\hat x_{nc}} = \gamma_c\,\bar g_{nc} .$$

# %% [markdown] heading="batch_norm_backward"
# ### Exercise {number} · Batch normalisation, backward ({points} points, about 30 min)
#
# `normalize_backward` is the formula for any groups, `dims` as in `normalize`; the other
# normalisations will use it too. `batch_norm_backward` is training mode on $(N, C)$.
#
# By hand: the column $1, 1, 5, 5$ has $\mu = 3$, $v = 4$, and with $\epsilon = 0$
# $s = 2$ and $\hat{\mathbf x} = (-1, -1, 1, 1)$. For $\mathbf g = (4, 0, 0, 0)$ the mean of $g$ is
# 1 and the mean of $g\hat x$ is $-1$. So the first entry is $\frac12(4 - 1 - 1) = 1$, the second
# $\frac12(0 - 1 - 1) = -1$, the others $\frac12(0 - 1 + 1) = 0$: three of the four numbers did not
# touch the loss, and one of them gets a gradient all the same.
#
# The functions above may be used, what autograd offers may not: the checks run with gradients off,
# and nothing called `autograd`, `requires_grad`, `requires_grad_`, `enable_grad`,
# `set_grad_enabled`, `inference_mode`, `func`, `functorch` or `vjp` may be imported or stand after
# a dot in your cell. A method of your own may be called `backward`.


# %% exercise="batch_norm_backward"
def normalize_backward(grad: Tensor, x: Tensor, dims: tuple[int, ...], eps: float = 1e-5) -> Tensor:
    """Gradient by the input of `normalize`.

    Args:
        grad: gradient by the output, shape and dtype of x; not modified.
        x: the input that `normalize` was given, floating point; not modified.
        dims: as given to `normalize`.
        eps: as given to `normalize`.

    Returns:
        Gradient by x, same shape and dtype.
    """
    ### BEGIN SOLUTION
    x_hat = normalize(x, dims, eps)
    deviation = (x.var(dim=dims, correction=0, keepdim=True) + eps).sqrt()
    along = (grad * x_hat).mean(dim=dims, keepdim=True)
    return (grad - grad.mean(dim=dims, keepdim=True) - along * x_hat) / deviation
    ### END SOLUTION


def batch_norm_backward(
    grad: Tensor, x: Tensor, gamma: Tensor, eps: float = 1e-5
) -> tuple[Tensor, Tensor, Tensor]:
    """Gradients of batch normalisation in training mode.

    Args:
        grad: (N, C) gradient by the output; not modified.
        x: (N, C) the input, N >= 2; not modified.
        gamma: (C,) scale.
        eps: as in the forward pass.

    Returns:
        Gradients by x (N, C), by gamma (C,) and by beta (C,).
    """
    ### BEGIN SOLUTION
    dgamma = (grad * normalize(x, (0,), eps)).sum(dim=0)
    return normalize_backward(gamma * grad, x, (0,), eps), dgamma, grad.sum(dim=0)
    ### END SOLUTION


# %% test="batch_norm_backward"
column, g = torch.tensor([[1.0], [1.0], [5.0], [5.0]]), torch.tensor([[4.0], [0.0], [0.0], [0.0]])
dx = normalize_backward(g, column, (0,), eps=0.0)
expect(dx, [[1.0], [-1.0], [0.0], [0.0]], "normalize_backward: a column")
dx = normalize_backward(g.T, column.T, (1,), eps=0.0)
expect(dx, [[1.0, -1.0, 0.0, 0.0]], "normalize_backward: a row")
# eps = 5: s = 3, x_hat = ∓2/3, mean of g x_hat -2/3; (4 - 1 - 4/9) / 3 = 23/27 and so on.
dx = normalize_backward(g, column, (0,), eps=5.0)
expect(dx, [[23 / 27], [-13 / 27], [-5 / 27], [-5 / 27]], "normalize_backward: eps 5")
dx, dgamma, dbeta = batch_norm_backward(g, column, torch.tensor([3.0]), eps=0.0)
expect(dx, [[3.0], [-3.0], [0.0], [0.0]], "batch_norm_backward: dx")
expect(dgamma, [-4.0], "batch_norm_backward: dgamma")
expect(dbeta, [4.0], "batch_norm_backward: dbeta")

# %% [markdown]
# **Is it right?** Every gradient that you derive is to be held against a numerical one:
# $\frac{\partial L}{\partial x_i} \approx \frac{L(x_i + h) - L(x_i - h)}{2h}$, in float64. The
# cell draws both for $L = \sum_{nc} r_{nc}\,y_{nc}$ with random $r$, and beside them the gradient
# that takes mean and deviation for constants.


# %%
def numerical(loss: Callable[[Tensor], Tensor], x: Tensor, h: float = 1e-5) -> Tensor:
    """Central differences, one entry at a time."""
    grad = torch.zeros_like(x)
    for i in range(x.numel()):
        step = torch.zeros_like(x)
        step.view(-1)[i] = h
        grad.view(-1)[i] = (loss(x + step) - loss(x - step)) / (2 * h)
    return grad


def check_gradient(rows: int):
    generator = torch.Generator().manual_seed(0)
    x, r = (torch.randn(rows, 5, generator=generator, dtype=torch.float64) for _ in range(2))
    one, zero = torch.ones(5, dtype=torch.float64), torch.zeros(5, dtype=torch.float64)
    truth = numerical(lambda x: (r * batch_norm_train(x, one, zero, zero, one)[0]).sum(), x)
    yours, _, _ = batch_norm_backward(r, x, one)
    naive = r / (x.var(0, correction=0) + 1e-5).sqrt()
    _, ax = plt.subplots(figsize=(3.6, 3))
    ax.plot(truth.ravel(), naive.ravel(), "s", label="mean and deviation constant")
    ax.plot(truth.ravel(), yours.ravel(), "o", label="yours")
    ax.axline((0, 0), slope=1, color="0.5", lw=1, ls="-")
    ax.set(xlabel="numerical gradient", ylabel="gradient by formula", title=f"batch of {rows}")
    ax.legend(fontsize=8)
    plt.show()
    print(f"largest difference: yours {(yours - truth).abs().max():.1e}, ", end="")
    print(f"naive {(naive - truth).abs().max():.1e}")


check_gradient(6 if FULL else 3)

# %% [markdown]
# The squares are far off: with a batch of six the paths through mean and deviation are as large
# as the direct one. They shrink as the batch grows (each sum has a $\frac1m$), which is why the
# wrong gradient still trains, badly, and is not noticed.
#
# **The smallest batch that trains?** A batch of one raises an error. Two rows do not, so all is
# well? Guess the gradient before you run this.

# %%
generator = torch.Generator().manual_seed(1)
for rows in [2, 3, 4, 16]:
    x, g = torch.randn(rows, 1, generator=generator), torch.randn(rows, 1, generator=generator)
    y = normalize(x, (0,)).ravel()
    dx = normalize_backward(g, x, (0,)).ravel()
    shown = " ".join(f"{value:5.2f}" for value in y[:4])
    print(f"{rows:3d} rows: output {shown:24s} gradient up to {dx.abs().max():.5f}, ", end="")
    print(f"its sum {dx.sum().abs():.5f}")

# %% [markdown]
# Of two rows, one is above the mean and one below, by the same amount: the outputs are $\pm1$
# *whatever the rows hold* (unless they are nearly equal), and the gradient is zero (up to
# $\epsilon$). Two directions are always taken out, and two numbers have only two. With three rows
# one direction in three is left. The last column is the other fact worth keeping: the gradient of a
# batch sums to zero.
# %% [markdown]
# ## 4. Batch normalisation as a module
#
# `Normalize` puts your two functions into torch's autograd: `Normalize.apply(x, dims, eps)` is
# your `normalize` on the way forward and your `normalize_backward` on the way back. All
# networks below are made with it, so what trains in them is your gradient.


# %%
class Normalize(torch.autograd.Function):
    """Your `normalize` with your gradient; call `Normalize.apply(x, dims, eps)`."""

    @staticmethod
    def forward(ctx, x, dims, eps):
        ctx.save_for_backward(x)
        ctx.given = dims, eps
        return normalize(x, dims, eps)

    @staticmethod
    def backward(ctx, *grads):
        (x,) = ctx.saved_tensors
        return normalize_backward(grads[0], x, *ctx.given), None, None


# %% [markdown] heading="batch_norm_module"
# ### Exercise {number} · BatchNorm for features and images ({points} points, about 25 min)
#
# A convolution uses the same weights at every pixel, so its output is to be normalised alike at
# every pixel: the group of a channel $c$ are the numbers $x_{nchw}$ of *all* examples and *all*
# pixels, $m = NHW$ of them (not one group for each pixel). $\gamma$, $\beta$ and the running
# statistics have one number a channel.
#
# Write the module for any `x` of shape $(N, C, \dots)$ with no, one or more dimensions after the
# channels.
#
# * Parameters `weight` ($\gamma$, starts at 1) and `bias` ($\beta$, starts at 0); buffers
#   `running_mean` (starts at 0) and `running_var` (starts at 1), all of shape $(C,)$. A *buffer*
#   (`self.register_buffer(name, tensor)`) is saved and moved with the module and is no
#   parameter.
# * In training mode (`self.training`) normalise with the batch, and update the running statistics
#   by the rules of `batch_norm_train`, with $m$ in place of $N$. If a channel has only one
#   number ($m = 1$), raise `ValueError` and leave the running statistics as they were; one image
#   of more than one pixel is fine.
# * In evaluation mode use the running statistics and do not change them. `self.training` alone
#   decides: parameters that are frozen and calls under `torch.no_grad()` make no difference.
# * The gradient flows to `x`, `weight` and `bias` in both modes, and not into the running
#   statistics: a second step must not find the first one's graph.


# %% exercise="batch_norm_module"
class BatchNorm(nn.Module):
    """Batch normalisation over all dimensions but the second.

    Args of the constructor:
        channels: C.
        eps: added to the variance, inside the root.
        momentum: weight of the new batch in the running statistics.

    Attributes:
        weight, bias: parameters (C,), gamma and beta, 1 and 0 at first.
        running_mean, running_var: buffers (C,), 0 and 1 at first; the variance is unbiased.
    """

    running_mean: Tensor
    running_var: Tensor

    def __init__(self, channels: int, eps: float = 1e-5, momentum: float = 0.1) -> None:
        ### BEGIN SOLUTION
        super().__init__()
        self.eps, self.momentum = eps, momentum
        self.weight = nn.Parameter(torch.ones(channels))
        self.bias = nn.Parameter(torch.zeros(channels))
        self.register_buffer("running_mean", torch.zeros(channels))
        self.register_buffer("running_var", torch.ones(channels))
        ### END SOLUTION

    def forward(self, x: Tensor) -> Tensor:
        """Normalise x (N, C, ...); ValueError in training mode with one number a channel."""
        ### BEGIN SOLUTION
        dims = (0, *range(2, x.dim()))
        shape = (-1,) + (1,) * (x.dim() - 2)  # one number a channel, along dimension 1 of x
        if self.training:
            if x.numel() == x.shape[1]:
                raise ValueError("training needs more than one number in each channel")
            x_hat = Normalize.apply(x, dims, self.eps)
            new_mean, new_var = x.detach().mean(dim=dims), x.detach().var(dim=dims)
            self.running_mean.lerp_(new_mean, self.momentum)
            self.running_var.lerp_(new_var, self.momentum)
        else:
            deviation = (self.running_var + self.eps).sqrt()
            x_hat = (x - self.running_mean.view(shape)) / deviation.view(shape)
        return self.weight.view(shape) * x_hat + self.bias.view(shape)
        ### END SOLUTION


# %% test="batch_norm_module"
layer = BatchNorm(2)
expect(
    sorted(layer.state_dict()),
    ["bias", "running_mean", "running_var", "weight"],
    "BatchNorm: names",
)
# Two images of 1 x 2 pixels. Channel 0 holds 0, 2, 4, 6 (mean 3, variances 5 and 20/3).
images = torch.tensor([[[[0.0, 2.0]], [[1.0, 1.0]]], [[[4.0, 6.0]], [[1.0, 1.0]]]])
expect(layer(images)[:, 0, 0] * 5**0.5, [[-3, -1], [1, 3]], "BatchNorm: channel 0", rtol=1e-3)
expect(layer(images)[:, 1, 0], [[0, 0], [0, 0]], "BatchNorm: a constant channel", atol=1e-4)
layer = BatchNorm(2, momentum=0.5)
layer(images)
expect(layer.running_mean, [1.5, 0.5], "BatchNorm: running mean")
expect(layer.running_var, [0.5 + 10 / 3, 0.5], "BatchNorm: running variance")
layer.eval()
expect(layer(torch.tensor([[1.5, 0.5]])), [[0.0, 0.0]], "BatchNorm: one row in evaluation mode")
expect(layer.running_mean, [1.5, 0.5], "BatchNorm: running mean after evaluation")

# %% [markdown]
# ### Three things that happen to people
#
# A network with your module is trained on the digits: six layers, rate 0.5, a few seconds. Then
# three small experiments with it.


# %%
def mlp(normaliser: Callable[[], nn.Module] | None, depth: int, width: int = 64) -> nn.Sequential:
    """He-initialised network for the digits: `depth` linear layers, a normaliser after each but
    the last. In front of a normaliser the linear layer has no bias (the next exercise says why).
    """
    torch.manual_seed(0)
    layers: list[nn.Module] = []
    for _ in range(depth - 1):
        layers.append(nn.Linear(64 if not layers else width, width, bias=normaliser is None))
        layers += [normaliser()] if normaliser else []
        layers.append(nn.ReLU())
    layers.append(nn.Linear(width, 10))
    for layer in layers:
        if isinstance(layer, nn.Linear):
            nn.init.kaiming_normal_(layer.weight)
            if layer.bias is not None:
                nn.init.zeros_(layer.bias)
    return nn.Sequential(*layers).to(course.device())


def inputs(x: Tensor) -> Tensor:
    """Pixels with mean near 0 and deviation near 1."""
    return (x - 0.3) / 0.37


def train(net: nn.Module, rate: float, steps: int, batch_size: int = 64) -> list[float]:
    """Plain gradient descent on the digits; the batches' losses, until one is not finite."""
    data, generator = digits(course.device()), torch.Generator().manual_seed(1)
    optimiser, losses = torch.optim.SGD(net.parameters(), rate), []
    net.train()
    for _ in range(steps):
        batch = torch.randint(0, len(data.train_x), (batch_size,), generator=generator)
        batch = batch.to(course.device())
        loss = F.cross_entropy(net(inputs(data.train_x[batch])), data.train_y[batch])
        losses.append(loss.item())
        if not math.isfinite(losses[-1]):
            break
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    return losses


@torch.no_grad()
def accuracy(net: nn.Module, x: Tensor, y: Tensor) -> float:
    """Share of right answers, in the mode in which the net is."""
    return (net(inputs(x)).argmax(1) == y).float().mean().item()


# %%
data = digits(course.device())


@cache
def batch_normed() -> nn.Sequential:
    """Six layers with your BatchNorm, trained, in evaluation mode; copy it before you change it."""
    net = mlp(lambda: BatchNorm(64), depth=6)
    train(net, rate=0.5, steps=200 if FULL else 2)
    return net.eval()


print(f"validation accuracy {accuracy(batch_normed(), data.valid_x, data.valid_y):.1%}")

# %% [markdown]
# **One: the forgotten `eval()`, seen by one image.** The same image goes through the network
# eight times, each time beside three other images. No weight changes. How sure is the network of
# the true class?


# %%
def beside(net: nn.Module, image: int, mates: int, times: int) -> Tensor:
    """Probability of the true class of one validation image, beside other images each time."""
    generator = torch.Generator().manual_seed(0)
    found = []
    for _ in range(times):
        others = torch.randint(0, len(data.train_x), (mates,), generator=generator)
        batch = torch.cat([data.valid_x[[image]], data.train_x[others.to(data.train_x.device)]])
        with torch.no_grad():
            found.append(net(inputs(batch)).softmax(1)[0, data.valid_y[image]])
    return torch.stack(found)


def strangers(mates: int, images: int, times: int):
    """Median of how far an image's probability moves, and the numbers of the worst image."""
    net = copy.deepcopy(batch_normed()).train()  # the forgotten eval()
    found = torch.stack([beside(net, image, mates, times) for image in range(images)])
    spread = found.amax(1) - found.amin(1)
    return spread.median().item(), found[spread.argmax()].tolist()


for mates in [3, 15, 63]:
    median, worst = strangers(mates, *((60, 8) if FULL else (1, 2)))
    shown = " ".join(f"{value:4.2f}" for value in worst)
    print(f"beside {mates:2d} others: half of the images move by {median:.1%} or more")
    print(f"    the worst of them: {shown}")

# %% [markdown]
# With $N = 4$ the mean and deviation of each unit are guesses from four numbers, and what the
# network says of your image is decided by whom it stands beside. With larger batches most images
# are safe, and some are not. In evaluation mode all these numbers would be one.
#
# **Two: the batch that is not like the training batches.** Validation images sorted by class, one
# class after the other, in training mode. No image is unusual; only the batches are.

# %%
for digit in [0, 1, 2]:
    own = data.valid_y == digit
    net = copy.deepcopy(batch_normed())
    right = {
        mode: accuracy(net.train(mode), data.valid_x[own], data.valid_y[own])
        for mode in [False, True]
    }
    print(
        f"all {int(own.sum())} images of a {digit}: {right[False]:6.1%} in evaluation mode, ",
        end="",
    )
    print(f"{right[True]:6.1%} in training mode")

# %% [markdown]
# What all images of a batch have in common is subtracted, and here that is the very thing which
# makes them a 0.
#
# **Three: frozen, and yet it changes.** All parameters are frozen, as one does with a borrowed
# network (unit 04). Batches of inverted images (white on black) pass through it *in training
# mode*, nobody trains. Then it is put into evaluation mode and measured on the ordinary images.

# %%
net = copy.deepcopy(batch_normed())
for parameter in net.parameters():
    parameter.requires_grad_(False)
frozen = [parameter.clone() for parameter in net.parameters()]
generator = torch.Generator().manual_seed(0)
print(f"before      {accuracy(net.eval(), data.valid_x, data.valid_y):6.1%}")
for passed in range(1, 21 if FULL else 2):
    batch = torch.randint(0, len(data.train_x), (64,), generator=generator).to(course.device())
    net.train()(inputs(1 - data.train_x[batch]))
    if passed in [1, 5, 10, 20]:
        right = accuracy(net.eval(), data.valid_x, data.valid_y)
        print(f"{passed:2d} batches  {right:6.1%}")
same = all(torch.equal(*pair) for pair in zip(frozen, net.parameters(), strict=True))
print(f"weights as they were: {same}")

# %% [markdown]
# No weight has changed, and the network is ruined: `requires_grad_(False)` stops gradients, but
# the running statistics are not trained, they are *counted*, in every forward pass in training
# mode. Frozen layers have to be in evaluation mode too.
#
# (And the fourth, which at least says so: the last batch of an epoch may hold one example, and
# then training stops with your `ValueError`. Data loaders have `drop_last=True` for it.)

# %% [markdown] heading="fold"
# ### Exercise {number} · Folding it into a convolution ({points} points, about 20 min)
#
# In evaluation mode batch normalisation multiplies each channel by a fixed number and adds
# another. A convolution before it can do both itself: one layer less to compute when the network
# is in use. With the convolution's output $z_c = (W * x)_c + b_c$ and
# $\sigma_c = \sqrt{v^\text{run}_c + \epsilon}$
#
# $$y_c = \gamma_c\frac{z_c - \mu^\text{run}_c}{\sigma_c} + \beta_c .$$
#
# Collect what multiplies $x$ and what does not, and find $W'$ and $b'$ with
# $y_c = (W' * x)_c + b'_c$. `weight` has shape $(C_\text{out}, C_\text{in}/\text{groups}, h, w)$:
# $c$ is its first dimension, however many groups there are. A linear layer's
# $(C_\text{out}, C_\text{in})$ is to work as well.
#
# In *training* mode the bias $b_c$ cancels: it moves all $z_c$ and their mean alike. So a
# convolution in front of a batch normalisation gets none (`bias=False`); $\beta$ is its bias.
# **`ConvNorm`** is the block that networks since 2015 are made of: convolution without bias,
# your `BatchNorm`, ReLU. Its `fold` returns a *new* `nn.Conv2d` (or an object of a subclass), with
# a bias, that gives what `norm(conv(x))` gives in evaluation mode (the ReLU is left out), and
# leaves the block as it was, its mode included. The new convolution's parameters have dtype and
# device of `conv.weight`; whether they need gradients is up to you.


# %% exercise="fold"
def fold_batch_norm(
    weight: Tensor,
    bias: Tensor | None,
    gamma: Tensor,
    beta: Tensor,
    running_mean: Tensor,
    running_var: Tensor,
    eps: float = 1e-5,
) -> tuple[Tensor, Tensor]:
    """Weight and bias of a layer that does what a layer and its batch normalisation do.

    Args:
        weight: (C_out, C_in / groups, h, w) of a convolution with any groups, or (C_out, C_in) of
            a linear layer; not modified.
        bias: (C_out,), or None for a layer without; not modified.
        gamma: (C_out,) scale of the normalisation, and so on as in `batch_norm_eval`.
        beta: (C_out,) shift.
        running_mean: (C_out,).
        running_var: (C_out,).
        eps: added to the running variance, inside the root.

    Returns:
        New weight, of the shape of `weight`, and new bias (C_out,), both floating point.
    """
    ### BEGIN SOLUTION
    scale = gamma / (running_var + eps).sqrt()
    shift = -running_mean if bias is None else bias - running_mean
    return weight * scale.reshape(-1, *[1] * (weight.dim() - 1)), shift * scale + beta
    ### END SOLUTION


class ConvNorm(nn.Module):
    """Convolution without bias, BatchNorm, ReLU; maps (N, C_in, H, W) to (N, C_out, H', W').

    Attributes:
        conv: an nn.Conv2d made with the constructor's arguments, without bias.
        norm: a BatchNorm of `out_channels`, with its default eps and momentum.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: int,
        stride: int = 1,
        padding: int = 0,
        groups: int = 1,
    ) -> None:
        ### BEGIN SOLUTION
        super().__init__()
        sizes = (in_channels, out_channels, kernel_size, stride, padding)
        self.conv = nn.Conv2d(*sizes, groups=groups, bias=False)
        self.norm = BatchNorm(out_channels)
        ### END SOLUTION

    def forward(self, x: Tensor) -> Tensor:
        """ReLU of the normalised convolution."""
        ### BEGIN SOLUTION
        return F.relu(self.norm(self.conv(x)))
        ### END SOLUTION

    def fold(self) -> nn.Conv2d:
        """A new convolution with bias, equal to norm(conv(x)) in evaluation mode.

        Its stride, padding and groups are those of `conv`; the block itself is not changed.
        """
        ### BEGIN SOLUTION
        folded = copy.deepcopy(self.conv)
        norm = self.norm
        parameters = (norm.weight, norm.bias, norm.running_mean, norm.running_var)
        weight, bias = fold_batch_norm(self.conv.weight, None, *parameters, norm.eps)
        folded.weight, folded.bias = nn.Parameter(weight.detach()), nn.Parameter(bias.detach())
        return folded
        ### END SOLUTION


# %% test="fold"
# Two channels of one weight each. Channel 0: gamma / sqrt(3 + 1) = 1, channel 1: 6 / 2 = 3.
kernel, gamma, beta = (
    torch.tensor([[10.0], [20.0]]),
    torch.tensor([2.0, 6.0]),
    torch.tensor([7.0, 8]),
)
mean, var = torch.tensor([1.0, -1.0]), torch.tensor([3.0, 3.0])
weight, bias = fold_batch_norm(kernel, torch.tensor([4.0, 5.0]), gamma, beta, mean, var, eps=1.0)
expect(weight, [[10.0], [60.0]], "fold_batch_norm: weight")
expect(bias, [10.0, 26.0], "fold_batch_norm: bias")  # (4 - 1) · 1 + 7, (5 + 1) · 3 + 8
_, bias = fold_batch_norm(kernel, None, gamma, beta, mean, var, eps=1.0)
expect(bias, [6.0, 11.0], "fold_batch_norm: a layer without bias")  # -1 · 1 + 7, 1 · 3 + 8
block = ConvNorm(4, 6, 3, stride=2, padding=1, groups=2)
expect(sorted(block.state_dict())[0], "conv.weight", "ConvNorm: no bias in the convolution")
block(torch.randn(3, 4, 5, 7))
block.eval()
x = torch.randn(1, 4, 5, 7)
expect(F.relu(block.fold()(x)), block(x), "ConvNorm: folded and not", rtol=1e-3, atol=1e-5)

# %% [markdown]
# Is the bias really lost on the way? And is the folded block the same, and quicker?

# %%
generator = torch.Generator().manual_seed(0)
x, r = torch.randn(16, 1, 8, 8, generator=generator), torch.randn(16, 8, 6, 6, generator=generator)
conv, norm = nn.Conv2d(1, 8, 3), BatchNorm(8)
(r * norm(conv(x))).sum().backward()
print(f"largest gradient of the weights {conv.weight.grad.abs().max():8.1e}")
print(f"largest gradient of the biases  {conv.bias.grad.abs().max():8.1e}")


def seconds(layer: Callable[[Tensor], Tensor], x: Tensor, times: int) -> float:
    """Median time of a call."""
    found = []
    for _ in range(times):
        start = time.perf_counter()
        layer(x)
        found.append(time.perf_counter() - start)
    return sorted(found)[times // 2]


block = ConvNorm(16, 32, 3, padding=1).eval()
block.norm.running_mean.normal_(generator=generator)
block.norm.running_var.uniform_(0.5, 2, generator=generator)
torchs = nn.BatchNorm2d(32).eval()
torchs.load_state_dict(block.norm.state_dict(), strict=False)
library = fuse_conv_bn_eval(block.conv, torchs)
folded, x = block.fold(), torch.randn(8, 16, 24, 24)
with torch.no_grad():
    apart = (F.relu(folded(x)) - block(x)).abs().max().item()
    times = seconds(block, x, 15), seconds(lambda x: F.relu(folded(x)), x, 15)
apart_library = (folded.weight - library.weight).abs().max().item()
print(
    f"largest difference of the outputs {apart:.1e}; of the weights to torch's {apart_library:.1e}"
)
print(f"block {1e3 * times[0]:.2f} ms, folded {1e3 * times[1]:.2f} ms")

# %% [markdown]
# The bias gets no gradient but rounding. The folded block gives the same numbers without a
# normalisation to compute: this is what inference engines do to a network before they run it
# (`torch.nn.utils.fusion.fuse_conv_bn_eval` is torch's call for it, and gives your weights), and
# the quantisation of unit 12 begins with it.

# %% [markdown]
# ## 5. Groups that do not cross the batch
#
# The troubles of part 4 have one cause: the group of a number holds other examples. Three ways
# to group within one example:
#
# | normalisation | group of $x_{nchw}$ | $m$ | where it is at home |
# |---|---|---|---|
# | batch (Ioffe, Szegedy 2015) | same $c$ | $NHW$ | convolutional networks |
# | layer (Ba, Kiros, Hinton 2016) | same $n$ | $CHW$ | recurrent networks, transformers |
# | instance (Ulyanov et al. 2016) | same $n$ and $c$ | $HW$ | style transfer |
# | group (Wu, He 2018) | same $n$, same group of channels | $CHW/G$ | detection, tiny batches |
#
# With no other example involved there are no running statistics, and training and evaluation are
# the same function.

# %%
groupings = {
    "batch": lambda n, c: c == 2,
    "layer": lambda n, c: n == 1,
    "instance": lambda n, c: (n == 1) & (c == 2),
    "group, G = 3": lambda n, c: (n == 1) & (c // 2 == 1),
}
n, c = torch.arange(4)[:, None].expand(4, 6), torch.arange(6).expand(4, 6)
fig, axes = plt.subplots(1, 4, figsize=(8.5, 1.9), sharey=True)
for ax, (name, group) in zip(axes, groupings.items(), strict=True):
    shade = torch.zeros(4, 6)
    shade[group(n, c)] = 0.7
    shade[1, 2] = 1.0
    ax.pcolormesh(shade.flip(0), cmap="gray_r", edgecolors="0.7", linewidth=0.8, vmax=1.2)
    ax.set(title=name, xlabel="channel", xticks=[], yticks=[], aspect="equal")
    ax.grid(False)
axes[0].set_ylabel("example")
plt.show()

# %% [markdown]
# Each cell is a whole map of $H \times W$ pixels. The black cell's mean and deviation are taken
# over all shaded cells.

# %% [markdown] heading="layer_norm"
# ### Exercise {number} · Layer normalisation, forward and backward ({points} points, about 15 min)
#
# The group is one example: the last dimension, or the last few. How many, $\gamma$ says, which has
# their shape: for `x` of shape $(N, T, D)$ and $\gamma$ of shape $(D,)$ there are $N\cdot T$
# groups of $D$ numbers; for $\gamma$ of shape $(T, D)$ there are $N$ groups of $TD$ numbers.
# $$y = \gamma\,\hat x + \beta, \qquad \text{element by element over the last dimensions.}$$
# Biased variance, $\epsilon$ inside the root. $\gamma$ and $\beta$ are used by every group, so
# their gradients sum over all the leading dimensions, of which there may be none, one or several.
# The rules of `normalize_backward` hold, also for the names that may not stand in the cell; your
# functions may be used.


# %% exercise="layer_norm"
def layer_norm(x: Tensor, gamma: Tensor, beta: Tensor, eps: float = 1e-5) -> Tensor:
    """Layer normalisation over the last dimensions, those of gamma.

    Args:
        x: (..., *gamma.shape) floating point, with any number of leading dimensions; not modified.
        gamma: scale, one or more dimensions.
        beta: shift, shape of gamma.
        eps: added to the variance, inside the root.

    Returns:
        Shape and dtype of x.

    Source: Ba, Kiros and Hinton 2016.
    """
    ### BEGIN SOLUTION
    dims = tuple(range(-gamma.dim(), 0))
    return gamma * normalize(x, dims, eps) + beta
    ### END SOLUTION


def layer_norm_backward(
    grad: Tensor, x: Tensor, gamma: Tensor, eps: float = 1e-5
) -> tuple[Tensor, Tensor, Tensor]:
    """Gradients by x (shape of x), by gamma and by beta (shape of gamma).

    `grad` is the gradient by the output, shape of x; nothing is modified.
    """
    ### BEGIN SOLUTION
    dims = tuple(range(-gamma.dim(), 0))
    dgamma = (grad * normalize(x, dims, eps)).sum_to_size(gamma.shape)
    return normalize_backward(gamma * grad, x, dims, eps), dgamma, grad.sum_to_size(gamma.shape)
    ### END SOLUTION


# %% test="layer_norm"
gamma, beta = torch.tensor([1.0, 1.0, 2.0, 2.0]), torch.tensor([0.0, 0.0, 0.0, 5.0])
x = torch.tensor([[1.0, 1.0, 5.0, 5.0], [20.0, 0.0, 20.0, 0.0]])  # deviations 2 and 10
expect(layer_norm(x, gamma, beta, 0.0), [[-1, -1, 2, 7], [1, -1, 2, 3]], "layer_norm: two rows")
both = torch.tensor([[1.0, 1.0], [5.0, 5.0]])
expect(
    layer_norm(both, torch.ones(2, 2), both, 0.0), [[0, 0], [6, 6]], "layer_norm: two dimensions"
)
g = torch.tensor([[4.0, 0.0, 0.0, 0.0], [0.0, 0.0, 0.0, 0.0]])
dx, dgamma, dbeta = layer_norm_backward(g, x, gamma, 0.0)  # the numbers of part 3, in a row
expect(dx, [[1.0, -1.0, 0.0, 0.0], [0.0, 0.0, 0.0, 0.0]], "layer_norm_backward: dx")
dx, dgamma, dbeta = layer_norm_backward(torch.ones(2, 4), x, gamma, 0.0)
expect(dx, [[0, 0, 0, 0], [-0.05, -0.05, 0.05, 0.05]], "layer_norm_backward: dx, grad of ones")
expect(dgamma, [0.0, -2.0, 2.0, 0.0], "layer_norm_backward: dgamma")  # sums of the columns of x_hat
expect(dbeta, [2.0, 2.0, 2.0, 2.0], "layer_norm_backward: dbeta")
# %% [markdown]
# **What does layer normalisation not see?** Adding a number to all of $\mathbf x$ changes nothing.
# Multiplying it by $a$ changes nothing either, one reads everywhere,
# $\mathrm{LN}(a\mathbf x) = \mathrm{LN}(\mathbf x)$. Try it.

# %%
x = torch.tensor([[2.0, -1.0, 4.0, 3.0]])
for a in [1.0, 1000.0, 0.01, -1.0, -50.0, 0.001]:
    y = layer_norm(a * x, torch.ones(4), torch.zeros(4))[0]
    print(f"LN({a:7} x) = " + " ".join(f"{value:7.3f}" for value in y))

# %% [markdown]
# $\mathrm{LN}(a\mathbf x) = \operatorname{sign}(a)\,\mathrm{LN}(\mathbf x)$: the deviation is
# multiplied by $|a|$, the centred numbers by $a$. The last line shows the other limit: where the
# variance comes down to $\epsilon$, the scale is no longer lost.

# %% [markdown] heading="group_norm"
# ### Exercise {number} · Group and instance normalisation ({points} points, about 15 min)
#
# The $C$ channels are cut into $G$ groups of $C/G$ *neighbouring* channels, and each group of
# each example is normalised over its channels and all its pixels. $\gamma$ and $\beta$ have one
# number a *channel*, as in batch normalisation, whatever $G$ is.
#
# Instance normalisation is the case of a group for each channel. With $G = 1$ all of an example
# is one group, as in layer normalisation over $(C, H, W)$; but there $\gamma$ has a number for
# every channel *and pixel*, so for images only the $\hat x$ of the two are equal. (For `x` of shape
# $(N, C)$, without pixels, they are the same.)
#
# `x` has shape $(N, C, \dots)$ with no, one or more dimensions after the channels (for
# `instance_norm` one or more). A group of a single number gives $\hat x = 0$ by the formula, so
# $\beta$ is left; torch raises an error there. Use `Normalize.apply`, or any arithmetic that
# autograd can follow: the gradient has to reach `x`, `gamma` and `beta`.


# %% exercise="group_norm"
def group_norm(x: Tensor, groups: int, gamma: Tensor, beta: Tensor, eps: float = 1e-5) -> Tensor:
    """Normalise each group of channels of each example.

    Args:
        x: (N, C, ...) floating point; not modified, not necessarily contiguous.
        groups: G, the number of groups, at least 1.
        gamma: (C,) scale.
        beta: (C,) shift.
        eps: added to the variance, inside the root.

    Returns:
        Shape and dtype of x.

    Raises:
        ValueError: G does not divide C.

    Source: Wu and He 2018.
    """
    ### BEGIN SOLUTION
    n, channels = x.shape[:2]
    if channels % groups:
        raise ValueError(f"{groups} groups do not divide {channels} channels")
    x_hat = Normalize.apply(x.reshape(n, groups, -1), (2,), eps).reshape(x.shape)
    shape = (-1,) + (1,) * (x.dim() - 2)  # one number a channel, along dimension 1 of x
    return gamma.reshape(shape) * x_hat + beta.reshape(shape)
    ### END SOLUTION


def instance_norm(x: Tensor, gamma: Tensor, beta: Tensor, eps: float = 1e-5) -> Tensor:
    """Normalise each channel of each example over its pixels; arguments as in `group_norm`.

    Source: Ulyanov, Vedaldi and Lempitsky 2016.
    """
    ### BEGIN SOLUTION
    return group_norm(x, x.shape[1], gamma, beta, eps)
    ### END SOLUTION


# %% test="group_norm"
x = torch.tensor([[[0.0, 2.0], [4.0, 6.0], [0.0, 4.0], [0.0, 4.0]]])  # one example, 4 channels
one, zero = torch.ones(4), torch.zeros(4)
y = group_norm(x, 2, one, zero, eps=0.0)  # channels 0 and 1: mean 3, variance 5
expect(y[0, :2] * 5**0.5, [[-3, -1], [1, 3]], "group_norm: first group of two")
expect(y[0, 2:], [[-1, 1], [-1, 1]], "group_norm: second group of two")
y = instance_norm(x, torch.tensor([1.0, 2, 3, 4]), torch.tensor([0.0, 0, 0, 5]), eps=0.0)
expect(y, [[[-1, 1], [-2, 2], [-3, 3], [1, 9]]], "instance_norm: gamma and beta by channel")
try:
    group_norm(x, 3, one, zero)
    raised = "nothing"
except ValueError:
    raised = "ValueError"
expect(raised, "ValueError", "group_norm: three groups of four channels")

# %% [markdown]
# The four beside torch's own, on the same images, with gradients: your formulas should agree to
# rounding.


# %%
def beside_torch() -> dict[str, tuple[Tensor, Tensor]]:
    """Your output and torch's for the same input and parameters."""
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(5, 6, 4, 3, generator=generator)
    gamma, beta = torch.randn(6, generator=generator), torch.randn(6, generator=generator)
    norm = BatchNorm(6)
    norm.weight.data, norm.bias.data = gamma, beta
    last = torch.randn(2, 4, 3, generator=generator)
    return {
        "batch": (norm(x), F.batch_norm(x, None, None, gamma, beta, training=True)),
        "layer": (layer_norm(x, *last), F.layer_norm(x, (4, 3), *last)),
        "instance": (instance_norm(x, gamma, beta), F.instance_norm(x, weight=gamma, bias=beta)),
        "group": (group_norm(x, 3, gamma, beta), F.group_norm(x, 3, gamma, beta)),
    }


for name, (yours, torchs) in beside_torch().items():
    print(f"{name:9s} largest difference {(yours - torchs).abs().max():.1e}")

# %% [markdown]
# ## 6. Dropout
#
# The second half of this notebook is about the opposite trouble: networks that learn too well.
# Srivastava, Hinton, Krizhevsky, Sutskever and Salakhutdinov (2014) switch off each unit with
# some probability, anew for each example and step, so that no unit can rely on another.
#
# **The letter $p$ means two things.** In the paper $p$ is the probability to *keep* a unit, in
# torch to *drop* it. Here: `keep` and `p`, torch's.

# %% [markdown] heading="dropout"
# ### Exercise {number} · Dropout, direct and inverted ({points} points, about 20 min)
#
# Let $m_i \in \{0, 1\}$ be independent for all elements of $\mathbf x$, with
# $P(m_i = 1) = q$ the probability to keep.
#
# **Direct** (the paper): in training $y_i = m_i x_i$, at test $y_i = q\,x_i$, so that the next
# layer sees the same mean as in training. (The paper multiplies the next layer's weights by $q$:
# $(qW)\mathbf x = W(q\,\mathbf x)$.)
#
# **Inverted** (what libraries do): in training $y_i = m_i x_i / q$, at test $y_i = x_i$: nothing
# is left to do, or to forget, when the network is in use. With $q = 1 - p$
#
# $$\operatorname{E}[y_i] = \frac{q\,x_i}{q} = x_i, \qquad
# \operatorname{Var}(y_i) = \frac{x_i^2\,q(1-q)}{q^2} = x_i^2\,\frac{p}{1-p} .$$
#
# **Backward**: $y_i = m_i x_i/(1-p)$ is linear in $x_i$, so
# $\partial L/\partial x_i = m_i\,g_i/(1-p)$ with *the mask of the forward pass*: what was dropped
# gets no gradient.
#
# * Every element draws for itself: not one draw for a row or a column.
# * $p = 0$ keeps all, $p = 1$ gives zeros (no NaN), in the forward and in the backward pass.
#   Outside $[0, 1]$: `ValueError` (of `dropout` and `direct_dropout`).
# * All random numbers come from `generator` (on the device of `x`): the same seed gives the same
#   mask, and every further call with the same generator another one. With `None` torch's global
#   generator is used, which otherwise stays as it was. The order of the draws is yours: the checks
#   look at frequencies.
# * `F.dropout`, `nn.Dropout` and their like may not be used.


# %% exercise="dropout"
def dropout(x: Tensor, p: float, generator: torch.Generator | None = None) -> tuple[Tensor, Tensor]:
    """Inverted dropout in training.

    Args:
        x: any shape, floating point; not modified.
        p: probability to drop an element, 0 <= p <= 1.
        generator: where all random numbers come from; None for torch's global one.

    Returns:
        The output, shape and dtype of x, and the mask, bool, same shape: True where kept.

    Raises:
        ValueError: p is outside [0, 1].
    """
    ### BEGIN SOLUTION
    if not 0 <= p <= 1:
        raise ValueError(f"p is {p}; it must be in [0, 1]")
    mask = torch.rand(x.shape, generator=generator, device=x.device) >= p
    return dropout_backward(x, mask, p), mask  # the same linear map
    ### END SOLUTION


def dropout_backward(grad: Tensor, mask: Tensor, p: float) -> Tensor:
    """Gradient by the input of `dropout`.

    Args:
        grad: gradient by the output, floating point; not modified.
        mask: as `dropout` returned it.
        p: as given to `dropout`.

    Returns:
        Shape and dtype of grad.
    """
    ### BEGIN SOLUTION
    if p == 1:
        return torch.zeros_like(grad)
    return grad * mask / (1 - p)
    ### END SOLUTION


def direct_dropout(
    x: Tensor, keep: float, training: bool, generator: torch.Generator | None = None
) -> Tensor:
    """Direct dropout of the paper; `keep` is the probability to keep an element.

    Args:
        x: any shape, floating point; not modified.
        keep: q, 0 <= q <= 1.
        training: drop at random; else multiply by q.
        generator: as in `dropout`.

    Returns:
        Shape and dtype of x.

    Raises:
        ValueError: keep is outside [0, 1].

    Source: Srivastava et al. 2014, section 4.
    """
    ### BEGIN SOLUTION
    if not 0 <= keep <= 1:
        raise ValueError(f"keep is {keep}; it must be in [0, 1]")
    return x * dropout(x, 1 - keep, generator)[1] if training else x * keep
    ### END SOLUTION


# %% test="dropout"
x = torch.full((100, 100), 4.0)
y, mask = dropout(x, 0.2, torch.Generator().manual_seed(0))
expect(sorted({round(v, 4) for v in y.ravel().tolist()}), [0.0, 5.0], "dropout: 4 becomes 0 or 5")
expect(round(mask.float().mean().item(), 1), 0.8, "dropout: share that is kept, p = 0.2")
expect(y, 5.0 * mask, "dropout: zero where the mask is False")
kept = torch.tensor([True, False, True])
dx = dropout_backward(torch.tensor([6.0, 6.0, -3.0]), kept, 0.25)
expect(dx, [8.0, 0.0, -4.0], "dropout_backward: the mask, and 1 / (1 - p)")
expect(dropout(x[:2, :2], 1.0)[0], [[0.0, 0.0], [0.0, 0.0]], "dropout: p = 1")
y = direct_dropout(x, 0.2, True, torch.Generator().manual_seed(0))
expect(sorted(set(y.ravel().tolist())), [0.0, 4.0], "direct_dropout: 4 stays or becomes 0")
expect(round(y.mean().item() / 4, 1), 0.2, "direct_dropout: share that is kept, keep = 0.2")
expect(direct_dropout(x[0, :2], 0.2, False), [0.8, 0.8], "direct_dropout: at test")

# %% [markdown]
# ## 7. Many networks for the price of one
#
# With $D$ units there are $2^D$ masks: dropout trains that many networks, all with the same
# weights, and at test stands in for their average. Whose average is it? Two are in use, and the
# same two for *ensembles*, networks trained separately whose answers are combined.

# %% [markdown] heading="ensembles"
# ### Exercise {number} · Two ways to average networks ({points} points, about 15 min)
#
# $M$ networks give logits $z^{(m)}_{bk}$ for an example $b$, and with them probabilities
# $p^{(m)}_{bk} = \operatorname{softmax}_k z^{(m)}_{bk}$. With weights $w_m \ge 0$ that sum to 1,
# the *arithmetic* and the *geometric* mean are
#
# $$\bar p_{bk} = \sum_m w_m\,p^{(m)}_{bk}, \qquad
# \tilde p_{bk} = \frac{\prod_m \big(p^{(m)}_{bk}\big)^{w_m}}
# {\sum_j \prod_m \big(p^{(m)}_{bj}\big)^{w_m}} .$$
#
# The second looks worse than it is. Write the softmax out: the product is
# $\exp\big(\sum_m w_m z^{(m)}_{bk}\big)$ over something that does not depend on $k$ and cancels.
# What is left? (Computed as it stands, the product of a few hundred small numbers is $0$ for every
# class, and $0/0$ is NaN.)
#
# Logits may be as large as $\pm10^4$, and a network whose weight is 0 has no say. `softmax` and
# its relatives may be called.


# %% exercise="ensembles"
def arithmetic_mean(logits: Tensor, weights: Tensor) -> Tensor:
    """Weighted mean of the networks' probabilities.

    Args:
        logits: (M, B, K) floating point, |logits| <= 1e4; not modified.
        weights: (M,) at least 0, with sum 1; not modified.

    Returns:
        Probabilities (B, K).
    """
    ### BEGIN SOLUTION
    return torch.einsum("m,mbk->bk", weights, logits.softmax(dim=-1))
    ### END SOLUTION


def geometric_mean(logits: Tensor, weights: Tensor) -> Tensor:
    """Weighted geometric mean of the networks' probabilities, divided by its sum over the classes.

    Arguments and result as in `arithmetic_mean`.
    """
    ### BEGIN SOLUTION
    return torch.einsum("m,mbk->bk", weights, logits).softmax(dim=1)
    ### END SOLUTION


# %% test="ensembles"
# Probabilities 8/9, 1/9 and 1/3, 2/3; their products 8/27 and 2/27, the roots of which are 2 : 1.
two = torch.tensor([[[math.log(8), 0.0]], [[0.0, math.log(2)]]])
half, third = torch.tensor([0.5, 0.5]), torch.tensor([1 / 3, 2 / 3])
expect(arithmetic_mean(two, half), [[11 / 18, 7 / 18]], "arithmetic_mean: two networks")
expect(geometric_mean(two, half), [[2 / 3, 1 / 3]], "geometric_mean: two networks")
two = torch.tensor([[[math.log(8), 0.0]], [[0.0, math.log(8)]]])  # 8/9, 1/9 and 1/9, 8/9
expect(arithmetic_mean(two, third), [[10 / 27, 17 / 27]], "arithmetic_mean: weights ⅓ and ⅔")
expect(geometric_mean(two, third), [[1 / 3, 2 / 3]], "geometric_mean: weights ⅓ and ⅔")  # 2 : 4
sure = torch.tensor([[[0.0, 1000.0]], [[5.0, 5.0]]])
expect(geometric_mean(sure, half), [[0.0, 1.0]], "geometric_mean: large logits")

# %% [markdown]
# **Dropout as an ensemble.** A softmax layer with ten inputs has $2^{10} = 1024$ masks: few enough
# to try them all. A mask that keeps $k$ of the ten has the probability $q^k(1-q)^{10-k}$, its
# logits are $W(\mathbf m\odot\mathbf x) + \mathbf b$. Compare the two means of all 1,024 networks
# with the one network that dropout uses at test, the inputs multiplied by $q$.


# %%
def all_masks(keep: float, features: int):
    """Every mask (2^D, D) and its probability (2^D,)."""
    masks = torch.tensor(list(itertools.product([0.0, 1.0], repeat=features)), dtype=torch.float64)
    kept = masks.sum(1)
    return masks, keep**kept * (1 - keep) ** (features - kept)


def dropout_ensemble(keep: float, features: int):
    """For one example: the two means over all masks, the scaled net, and a sample of masks."""
    generator = torch.Generator().manual_seed(0)
    double = {"generator": generator, "dtype": torch.float64}
    x, bias = torch.randn(1, features, **double), torch.randn(4, **double)
    weight = torch.randn(4, features, **double)
    masks, weights = all_masks(keep, features)
    logits = ((masks * x) @ weight.T + bias)[:, None]  # (2^D, 1, 4)
    scaled = direct_dropout(x, keep, training=False) @ weight.T + bias
    drawn = torch.stack(
        [direct_dropout(x, keep, True, generator) @ weight.T + bias for _ in range(100)]
    )
    return {
        "arithmetic, 1024 masks": arithmetic_mean(logits, weights),
        "arithmetic, 100 drawn": arithmetic_mean(
            drawn, torch.full((100,), 0.01, dtype=torch.float64)
        ),
        "geometric, 1024 masks": geometric_mean(logits, weights),
        "one net, inputs times q": scaled.softmax(1),
    }


for name, found in dropout_ensemble(keep=0.6, features=10 if FULL else 4).items():
    print(f"{name:25s}" + " ".join(f"{value:.6f}" for value in found[0].tolist()))

# %% [markdown]
# The last two lines are equal, to all digits: the geometric mean is the softmax of the mean logits,
# the logits are linear in the mask, and the mean mask is $q$. So for *one* softmax layer the scaled
# network **is** the geometric mean of all $2^D$ networks. The arithmetic mean, which a hundred
# drawn masks estimate already, is another and less sure of itself. With hidden layers in between
# neither is exact, for a ReLU of a mean is no mean of ReLUs; it is a good approximation that
# costs one pass in place of hundreds.
#
# ## 8. Less is learned, and stopped in time
#
# How much *can* a network learn? Here are 300 images whose labels were drawn at random: there is
# nothing to understand in them.


# %%
class Dropout(nn.Module):
    """Your inverted dropout, with your gradient, in training mode; else the identity."""

    def __init__(self, p: float) -> None:
        super().__init__()
        self.p = p

    def forward(self, x: Tensor) -> Tensor:
        return DropoutFunction.apply(x, self.p) if self.training else x


class DropoutFunction(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x, p):
        y, mask = dropout(x, p)
        ctx.save_for_backward(mask)
        ctx.p = p
        return y

    @staticmethod
    def backward(ctx, *grads):
        (mask,) = ctx.saved_tensors
        return dropout_backward(grads[0], mask, ctx.p), None


def wide(p: float = 0.0, seed: int = 0) -> nn.Sequential:
    """Two hidden layers of 256 units with dropout: 85,002 parameters."""
    torch.manual_seed(seed)
    sizes = [(64, 256), (256, 256)]
    parts = [part for size in sizes for part in (nn.Linear(*size), nn.ReLU(), Dropout(p))]
    return nn.Sequential(*parts, nn.Linear(256, 10)).to(course.device())


@torch.no_grad()
def loss_of(net: nn.Module, x: Tensor, y: Tensor) -> float:
    """Mean cross-entropy in evaluation mode."""
    return F.cross_entropy(net.eval()(inputs(x)), y).item()


def sgd_step(net: nn.Module, optimiser: torch.optim.Optimizer) -> Callable:
    """A step for `fit`: one mini-batch in training mode."""

    def step(x: Tensor, y: Tensor) -> float:
        loss = F.cross_entropy(net.train()(inputs(x)), y)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        return loss.item()

    return step


# %%
few_x = data.train_x[:300]
generator = torch.Generator().manual_seed(0)
random_y = torch.randint(0, 10, (300,), generator=generator).to(course.device())
net = wide()
step = sgd_step(net, torch.optim.SGD(net.parameters(), 0.05, momentum=0.9))
fit(step, (few_x, random_y), epochs=80 if FULL else 1, batch_size=50, quiet=True)
print(f"accuracy on the 300 random labels {accuracy(net.eval(), few_x, random_y):.1%}, ", end="")
print(f"on validation images {accuracy(net, data.valid_x, data.valid_y):.1%}")

# %% [markdown]
# All 300 learned by heart, to no avail (Zhang et al. 2017 did it with a million images). A network
# that *can* do that will do some of it whenever labels are wrong or few. Two brakes, then the
# clock.

# %% [markdown] heading="parameter_groups"
# ### Exercise {number} · Weight decay on the right parameters ({points} points, about 10 min)
#
# Weight decay pulls parameters to zero: each step subtracts $\eta\lambda$ times the parameter. A
# large weight makes a steep function. A bias only shifts it, and a normalisation's gain that is
# pulled to zero switches its unit off: so biases, gains and shifts are usually left alone. torch's
# optimisers take *parameter groups* for this, a list of dictionaries:
#
# ```python
# [{"params": [...], "weight_decay": 0.01}, {"params": [...], "weight_decay": 0.0}]
# ```
#
# Return two such groups, first with decay, second without. The rule: parameters with **two or more
# dimensions** (weights of linear layers, convolutions, embeddings) decay, those with fewer do not,
# whatever their layer or name. Each parameter stands in one of the groups exactly once, even if two
# layers share it. (Shared is the same object; two parameters with equal values are two.) Parameters
# that are frozen (`requires_grad` is False) stand in neither. The groups may be empty, their order
# inside is free.


# %% exercise="parameter_groups"
def parameter_groups(net: nn.Module, weight_decay: float) -> list[dict]:
    """Parameter groups for an optimiser: weights decay, biases and gains do not.

    Args:
        net: any module.
        weight_decay: lambda of the first group.

    Returns:
        Two dictionaries with the keys "params" (list of parameters) and "weight_decay": the
        parameters with two or more dimensions with `weight_decay`, the others with 0.
    """
    ### BEGIN SOLUTION
    trained = [parameter for parameter in net.parameters() if parameter.requires_grad]
    return [
        {"params": [p for p in trained if p.dim() >= 2], "weight_decay": weight_decay},
        {"params": [p for p in trained if p.dim() < 2], "weight_decay": 0.0},
    ]
    ### END SOLUTION


# %% test="parameter_groups"
net = nn.Sequential(nn.Conv2d(1, 2, 3, bias=False), BatchNorm(2), nn.Flatten(), nn.Linear(8, 3))
decayed, others = parameter_groups(net, 0.1)
expect(
    sorted(list(p.shape) for p in decayed["params"]),
    [[2, 1, 3, 3], [3, 8]],
    "parameter_groups: decayed",
)
expect(sorted(list(p.shape) for p in others["params"]), [[2], [2], [3]], "parameter_groups: others")
expect([decayed["weight_decay"], others["weight_decay"]], [0.1, 0.0], "parameter_groups: decay")

# %% [markdown] heading="early_stopping"
# ### Exercise {number} · Early stopping ({points} points, about 20 min)
#
# The validation loss falls, flattens and rises again. Stop when it has not become better for
# `patience` epochs in a row, and go back to the best epoch's parameters. `update` is called once
# an epoch, with the validation loss and `net.state_dict()`.
#
# * An epoch is *better* if its value is smaller than the best one so far by more than `min_delta`:
#   value < best − min_delta. Before the first better epoch the best is $\infty$, so any finite
#   value is better then. NaN never is, nor $+\infty$.
# * `update` returns True when the last `patience` epochs ($\ge 1$) were not better, so with
#   `patience=2` at the second of two such epochs in a row. Any better epoch starts the count anew.
#   The rule stays the same if `update` is called again after a True.
# * Before the first better epoch `best_value` is `math.inf`, `best_epoch` is `None` and
#   `best_state` is `None`. Epochs count from 0, the first call of `update` is epoch 0.
# * `best_state` is a **copy** of the best epoch's tensors. `net.state_dict()` does not copy: its
#   tensors *are* the parameters, and training goes on writing into them. Each copy has the dtype
#   and the exact values of its tensor (there may be integers among them).


# %% exercise="early_stopping"
class EarlyStopping:
    """Watches a validation loss, keeps the best epoch's parameters, says when to stop.

    Attributes:
        best_value: smallest value that counted as better, math.inf at first.
        best_epoch: its epoch, from 0; None at first.
        best_state: a copy of the tensors of that epoch, by name; None at first.
    """

    best_value: float
    best_epoch: int | None
    best_state: dict[str, Tensor] | None

    def __init__(self, patience: int, min_delta: float = 0.0) -> None:
        ### BEGIN SOLUTION
        self.patience, self.min_delta = patience, min_delta
        self.best_value, self.best_epoch, self.best_state = math.inf, None, None
        self.epochs, self.waited = 0, 0
        ### END SOLUTION

    def update(self, value: float, state: dict[str, Tensor]) -> bool:
        """Take note of an epoch; True if training should stop.

        Args:
            value: the validation loss, smaller is better; may be NaN.
            state: tensors by name, as `net.state_dict()`; not modified.
        """
        ### BEGIN SOLUTION
        self.waited += 1
        if value < self.best_value - self.min_delta:
            self.best_value, self.best_epoch, self.waited = value, self.epochs, 0
            self.best_state = {name: tensor.detach().clone() for name, tensor in state.items()}
        self.epochs += 1
        return self.waited >= self.patience
        ### END SOLUTION


# %% test="early_stopping"
stopper, state, said = EarlyStopping(patience=2), {"w": torch.zeros(1)}, []
for value in [5.0, 3.0, 4.0, 2.0, 2.5, 2.0]:
    said.append(stopper.update(value, state))
    state["w"] += 1  # what the optimiser does: write into the same tensor
expect(said, [False, False, False, False, False, True], "EarlyStopping: when")
expect([stopper.best_value, stopper.best_epoch], [2.0, 3], "EarlyStopping: best epoch")
expect(stopper.best_state["w"], [3.0], "EarlyStopping: the best epoch's parameters")
stopper = EarlyStopping(patience=1, min_delta=0.5)
said = [stopper.update(value, state) for value in [math.nan, 5.0, 4.0, 3.75]]
expect(said, [True, False, False, True], "EarlyStopping: NaN, and min_delta")

# %% [markdown]
# Now the three brakes on one problem: 300 training images, every fifth with a random label, and a
# network of 85,002 parameters.


# %%
def overfit(p: float, decay: float, epochs: int):
    """Curves of one run, and the stopper, which has the best epoch's parameters."""
    net = wide(p)
    optimiser = torch.optim.SGD(parameter_groups(net, decay), lr=0.02, momentum=0.9)
    stopper, generator = EarlyStopping(epochs), torch.Generator().manual_seed(0)
    step, curves = sgd_step(net, optimiser), {"training": [], "validation": []}
    for _ in range(epochs):
        for rows in torch.randperm(len(few_x), generator=generator).to(few_x.device).split(50):
            step(few_x[rows], noisy_y[rows])
        curves["training"].append(loss_of(net, few_x, noisy_y))
        curves["validation"].append(loss_of(net, data.valid_x, data.valid_y))
        stopper.update(curves["validation"][-1], net.state_dict())
    last = accuracy(net, data.valid_x, data.valid_y)
    net.load_state_dict(stopper.best_state)
    return curves, stopper, last, accuracy(net, data.valid_x, data.valid_y)


def stops_at(values: list[float], patience: int) -> int | None:
    """The epoch after which training would have stopped; None if it would not."""
    stopper = EarlyStopping(patience)
    return next((epoch for epoch, value in enumerate(values) if stopper.update(value, {})), None)


# %%
noisy_y = torch.where(torch.arange(300, device=few_x.device) % 5 == 0, random_y, data.train_y[:300])
RUNS = {"nothing": (0.0, 0.0), "dropout, p = ½": (0.5, 0.0), "weight decay 0.02": (0.0, 0.02)}
fig, axes = plt.subplots(1, 3, figsize=(9, 2.8), sharey=True)
for ax, (name, (p, decay)) in zip(axes, RUNS.items(), strict=True):
    curves, stopper, last, best = overfit(p, decay, 60 if FULL else 1)
    for label, values in curves.items():
        ax.plot(values, label=label)
    ax.axvline(stopper.best_epoch, color="0.5", lw=1, ls="-")
    ax.set(title=name, xlabel="epoch", ylim=(0, 2))
    print(f"{name:18s} last epoch {last:6.1%} right, best epoch {best:6.1%}; ", end="")
    print(f"patience 8 stops after epoch {stops_at(curves['validation'], 8)}")
axes[0].set_ylabel("loss; grey line: best epoch")
axes[0].legend(fontsize=8)
plt.show()

# %% [markdown]
# Without a brake the training loss goes towards zero, wrong labels included, and the validation
# loss turns round: the last epoch is some ten points worse than the best. Stopping there (the
# grey line) is the cheapest brake of all. With dropout or decay the training loss stays higher,
# nearer to what the wrong labels deserve, and the validation loss hardly turns: then stopping
# matters less.
#
# **An honest number** needs the test split: the best epoch was chosen by validation images, so
# their loss is a little too good.

# %% [markdown]
# ## 9. Everything together
#
# ### The map of learning rates
#
# The network of the beginning, ten layers, now from your parts: no normalisation, your batch, layer
# and group normalisation. Each is trained at nine rates from 0.001 to 10, with the same batches.
# (Instance normalisation needs pixels; it follows below.) Layer normalisation runs on your own
# backward pass too.


# %%
class LayerNormFunction(torch.autograd.Function):
    """Your `layer_norm` with your `layer_norm_backward`."""

    @staticmethod
    def forward(ctx, x, gamma, beta):
        ctx.save_for_backward(x, gamma)
        return layer_norm(x, gamma, beta)

    @staticmethod
    def backward(ctx, *grads):
        return layer_norm_backward(grads[0], *ctx.saved_tensors)


class Norm(nn.Module):
    """One of your normalisations with its parameters; `shape` is that of gamma and beta."""

    def __init__(self, shape: tuple[int, ...], function: Callable) -> None:
        super().__init__()
        self.weight, self.bias = nn.Parameter(torch.ones(shape)), nn.Parameter(torch.zeros(shape))
        self.function = function

    def forward(self, x: Tensor) -> Tensor:
        return self.function(x, self.weight, self.bias)


NORMALISERS: dict[str, Callable[[], nn.Module] | None] = {
    "none": None,
    "batch": lambda: BatchNorm(64),
    "layer": lambda: Norm((64,), LayerNormFunction.apply),
    "group, G = 8": lambda: Norm((64,), lambda x, *params: group_norm(x, 8, *params)),
}


def rate_map(rates: list[float], steps: int) -> dict[str, list[float]]:
    """Validation accuracy of the ten-layer net by normaliser, one for each rate."""
    found: dict[str, list[float]] = {name: [] for name in NORMALISERS}
    for name, normaliser in NORMALISERS.items():
        for rate in rates:
            net = mlp(normaliser, depth=10)
            train(net, rate, steps)
            found[name].append(accuracy(net.eval(), data.valid_x, data.valid_y))
    return found


# %%
rates = [10 ** (-3 + i / 2) for i in range(9)] if FULL else [1.0]
found = rate_map(rates, steps=100 if FULL else 1)
fig, ax = plt.subplots(figsize=(6.5, 2.4))
picture = ax.imshow(list(found.values()), cmap="gray", vmin=0, vmax=1, aspect="auto")
for row, values in enumerate(found.values()):
    for column, value in enumerate(values):
        colour = "k" if value > 0.5 else "w"
        ax.text(column, row, f"{value:.0%}", ha="center", va="center", color=colour, fontsize=8)
ax.set(yticks=range(len(found)), xticks=range(len(rates)), xlabel="learning rate")
ax.set_yticklabels(found)
ax.set_xticklabels([f"{rate:.2g}" for rate in rates])
ax.set_title(f"validation accuracy after {100 if FULL else 1} steps")
ax.grid(False)
plt.show()
for name, values in found.items():
    best = max(range(len(rates)), key=values.__getitem__)
    print(f"{name:13s} best {values[best]:.1%} at rate {rates[best]:.2g}")

# %% [markdown]
# Read it along the rows. The plain network has a peak, and a decade to the right of it the network
# is dead. Batch normalisation has a plateau: rates that differ by a factor of thirty do about
# equally well, and the largest of them is tens of times the plain network's best. Layer and group
# normalisation help at moderate rates, but hardly move the cliff.
#
# Look at the left edge as well: at rates that are too small the *plain* network is ahead.
# Normalisation does not make a given step better. It allows larger ones.
#
# ### Why?
#
# The authors of 2015 named the reason in their title, *reducing internal covariate shift*: each
# layer's inputs change their distribution while the layers below learn, and normalising holds it
# still. **This is disputed.** Santurkar et al. (2018) put noise *behind* each batch normalisation,
# a random shift and scale, new at each step, so that the distributions jump about more than in the
# plain network. If the explanation were right, that should undo the gain.


# %%
class Restless(nn.Module):
    """Your BatchNorm, and in training a random scale and shift for each unit, new at each step."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.norm, self.channels = BatchNorm(channels), channels

    def forward(self, x: Tensor) -> Tensor:
        y = self.norm(x)
        if not self.training:
            return y
        scale, shift = torch.rand(2, self.channels, device=x.device) - 0.5
        return (1 + scale) * y + shift


print("rate      " + "".join(f"{rate:>16}" for rate in [0.1, 1.0]) + "   validation accuracy")
for name, normaliser in {
    "none": None,
    "batch": lambda: BatchNorm(64),
    "batch, then noise": lambda: Restless(64),
}.items():
    line = f"{name:18s}"
    for rate in [0.1, 1.0]:
        net = mlp(normaliser, depth=10)
        train(net, rate, steps=150 if FULL else 1)
        line += f"{accuracy(net.eval(), data.valid_x, data.valid_y):10.1%}      "
    print(line)

# %% [markdown]
# It does not: with its distributions shaken at every step the network still learns at a rate at
# which the plain one is dead. (They measured instead that the loss and its gradient change less
# abruptly along a step. The question is not closed.)
#
# Two things can be said for certain, and you have derived one of them. Multiply all weights in
# front of a normalisation by $a > 0$: the output is the same (up to $\epsilon$), so
# $L(aW) = L(W)$. Differentiate by $a$ at $a = 1$, and by $W$:
# $$\sum_{ij} W_{ij}\frac{\partial L}{\partial W_{ij}} = 0, \qquad
# \frac{\partial L}{\partial W}\Big|_{aW} = \frac1a\,\frac{\partial L}{\partial W}\Big|_{W} .$$
# The gradient stands at a right angle to the weights, so every step makes them *longer*, and the
# longer they are the smaller their gradient. A rate that is too large lowers itself.

# %%
print("                 angle between W and its gradient   length of the gradient at W, at 10 W")
for name, normaliser in NORMALISERS.items():
    lengths, angle = [], 0.0
    for factor in [1.0, 10.0]:
        net = mlp(normaliser, depth=10)
        weight = net[2 if normaliser is None else 3].weight  # the second linear layer
        weight.data *= factor
        F.cross_entropy(net(inputs(data.train_x[:256])), data.train_y[:256]).backward()
        lengths.append(weight.grad.norm().item())
        angle = F.cosine_similarity(weight.ravel(), weight.grad.ravel(), dim=0).acos().item()
    print(f"{name:16s} {math.degrees(angle):14.2f}°  {lengths[0]:30.3f}  {lengths[1]:10.3f}")


# %% [markdown]
# The other: who is still alive? A ReLU unit that is zero for every image has no gradient and never
# comes back. After batch normalisation (while $\beta$ is near 0) each unit is positive for about
# half of the batch, by construction. Layer normalisation cannot promise that: it looks at one image
# at a time, and a unit may lie below that image's mean for every image.


# %%
@torch.no_grad()
def dead_units(net: nn.Sequential) -> float:
    """Share of the ReLU units that are zero for every training image."""
    h, dead = inputs(data.train_x), []
    for layer in net.eval():
        h = layer(h)
        if isinstance(layer, nn.ReLU):
            dead.append((~(h > 0).any(0)).float().mean().item())
    return sum(dead) / len(dead)


for name, normaliser in NORMALISERS.items():
    net = mlp(normaliser, depth=10)
    train(net, 1.0, steps=60 if FULL else 1)
    print(f"{name:13s} dead units after training at rate 1: {dead_units(net):6.1%}")

# %% [markdown]
# ### A network that fails without
#
# Twelve convolutions of eight channels on 8 × 8 pixels, weights as `nn.Conv2d` draws them (a sixth
# of He's variance, unit 01), no shortcuts. Without normalisation and with each of the four, at one
# rate and with the same batches.


# %%
def conv_net(normaliser: Callable[[], nn.Module] | None, depth: int = 12) -> nn.Sequential:
    torch.manual_seed(0)
    layers: list[nn.Module] = [nn.Unflatten(1, (1, 8, 8))]
    for i in range(depth):
        stride = 2 if i == 0 else 1
        bias = normaliser is None
        layers.append(nn.Conv2d(8 if i else 1, 8, 3, stride, padding=1, bias=bias))
        layers += [normaliser()] if normaliser else []
        layers.append(nn.ReLU())
    return nn.Sequential(*layers, nn.Flatten(), nn.Linear(128, 10)).to(course.device())


IMAGE_NORMALISERS: dict[str, Callable[[], nn.Module] | None] = {
    "none": None,
    "batch": lambda: BatchNorm(8),
    "layer": lambda: Norm((8, 4, 4), LayerNormFunction.apply),
    "instance": lambda: Norm((8,), instance_norm),
    "group, G = 2": lambda: Norm((8,), lambda x, *params: group_norm(x, 2, *params)),
}


def smooth(losses: list[float], window: int = 20) -> Tensor:
    """Means over `window` steps, for curves that can be read."""
    return torch.tensor(losses).unfold(0, min(window, len(losses)), 1).mean(-1)


fig, ax = plt.subplots(figsize=(6.5, 3))
for name, normaliser in IMAGE_NORMALISERS.items():
    net = conv_net(normaliser)
    losses = train(net, rate=0.03, steps=150 if FULL else 1)
    ax.plot(smooth(losses), label=name)
    print(f"{name:13s} validation accuracy {accuracy(net.eval(), data.valid_x, data.valid_y):6.1%}")
ax.axhline(math.log(10), color="0.5", lw=1, ls="-")
ax.set(xlabel="step", ylabel="training loss, mean of 20", title="grey line: ln 10")
ax.legend(fontsize=8)
plt.show()

# %% [markdown]
# Without normalisation the loss rests at $\ln 10$: the signal has faded before it reaches the last
# layer, whatever the image, and so has the gradient on its way back. Any of the four repairs it.
#
# ### The measurement
#
# Five networks with batch normalisation and dropout, from five seeds; each alone, and their two
# averages. Beside them stands softmax regression. The test split is used here for the first time.


# %%
def member(seed: int, epochs: int) -> nn.Sequential:
    """A net with your BatchNorm and Dropout, trained with your groups and stopped by you."""
    torch.manual_seed(seed)
    blocks = [
        part
        for n_in in [64, 128]
        for part in (nn.Linear(n_in, 128, bias=False), BatchNorm(128), nn.ReLU(), Dropout(0.2))
    ]
    net = nn.Sequential(*blocks, nn.Linear(128, 10)).to(course.device())
    return stopped(net, epochs, seed)


def stopped(net: nn.Sequential, epochs: int, seed: int) -> nn.Sequential:
    """Train, watch the validation loss, go back to the best epoch."""
    optimiser = torch.optim.SGD(parameter_groups(net, 0.001), lr=0.05, momentum=0.9)
    step, stopper = sgd_step(net, optimiser), EarlyStopping(patience=8)
    generator = torch.Generator().manual_seed(seed)
    for _ in range(epochs):
        order = torch.randperm(len(data.train_x), generator=generator).to(data.train_x.device)
        for rows in order.split(64)[:-1]:  # leave out the last, which may be small
            step(data.train_x[rows], data.train_y[rows])
        if stopper.update(loss_of(net, data.valid_x, data.valid_y), net.state_dict()):
            break
    net.load_state_dict(stopper.best_state)
    return net.eval()


def show(name: str, probabilities: Tensor):
    right = (probabilities.argmax(1) == data.test_y).float().mean().item()
    loss = F.nll_loss(probabilities.clamp(min=1e-30).log(), data.test_y).item()
    error = math.sqrt(right * (1 - right) / len(data.test_y))
    print(f"{name:20s} test loss {loss:.3f}, accuracy {right:.1%} ± {error:.1%}")


# %%
MEMBERS, EPOCHS = (5, 25) if FULL else (2, 1)
baseline = stopped(nn.Sequential(nn.Linear(64, 10)).to(course.device()), EPOCHS, 0)
nets = [member(seed, EPOCHS) for seed in range(MEMBERS)]
with torch.no_grad():
    show("softmax regression", baseline(inputs(data.test_x)).softmax(1))
    logits = torch.stack([net(inputs(data.test_x)) for net in nets])
for seed in range(MEMBERS):
    show(f"network {seed}", logits[seed].softmax(1))
equal = torch.full((MEMBERS,), 1 / MEMBERS, device=logits.device)
show("arithmetic mean", arithmetic_mean(logits, equal))
show("geometric mean", geometric_mean(logits, equal))
wrong = (arithmetic_mean(logits, equal).argmax(1) != data.test_y).nonzero()[:, 0][:10]
guesses = arithmetic_mean(logits, equal).argmax(1)
if len(wrong):
    titles = [f"{int(guesses[i])} (is {int(data.test_y[i])})" for i in wrong]
    plots.images(
        data.test_x[wrong].cpu(), titles, columns=10, title="wrong: the guess, and what it is"
    )
    plt.show()

# %% [markdown]
# The ensemble's loss is below the *mean* of its members' losses, always: $-\log$ is convex, so
# $-\log\frac1M\sum_m p_m \le \frac1M\sum_m(-\log p_m)$. It may beat even the best member, for
# networks from other seeds err on other images. The price is $M$ times the work, in training and
# in use; dropout is the cheap imitation, and distillation (unit 12) gets some of it back.

# %% [markdown]
# ### Your experiment
#
# Change one thing at a time and predict the result before you run it. Suggestions:
#
# * `batch_size=4`, then 2: which normaliser minds, and why do the others not?
# * `depth=30` without normalisation, with any rate you like; then with `BatchNorm`.
# * `rate=3.0` with `"layer"`; then put the normalisation *before* the linear layer.
# * `lambda: BatchNorm(64, momentum=0.001)`: the training loss is fine, the accuracy is not. Why?


# %%
def experiment(normaliser: str, depth: int, rate: float, batch_size: int, steps: int):
    net = mlp(NORMALISERS[normaliser], depth)
    losses = train(net, rate, steps, batch_size)
    print(f"validation accuracy {accuracy(net.eval(), data.valid_x, data.valid_y):.1%}")
    plt.figure(figsize=(5, 2.4))
    plt.semilogy(smooth(losses))
    plt.gca().set(xlabel="step", ylabel="training loss, mean of 20")
    plt.show()


experiment("batch", depth=10, rate=0.3, batch_size=64, steps=150 if FULL else 1)

# %% [markdown]
# ## Summary
#
# 1. Normalisations subtract a group's mean and divide by its deviation; batch, layer, instance and
#    group differ in what forms a group.
# 2. Mean and deviation are functions of the group, so the gradient loses its mean and its part
#    along $\hat{\mathbf x}$; what was stretched has a gradient at a right angle to it.
# 3. Batch normalisation couples the images of a batch in training and counts running statistics
#    for evaluation; most of its accidents are a wrong mode. In evaluation it folds into the layer
#    before.
# 4. Dropout rescales by $1/(1-p)$ in training and is the identity at test, where it stands in for
#    the average of $2^D$ networks.
# 5. Networks can learn random labels by heart; dropout, weight decay on the weights alone, and
#    early stopping with a *copy* of the best epoch are the brakes.
#
# ## In practice, and further reading
#
# The library calls are `nn.BatchNorm1d`, `nn.BatchNorm2d`, `nn.LayerNorm`, `nn.GroupNorm`,
# `nn.InstanceNorm2d`, `nn.Dropout` and `torch.nn.utils.fusion.fuse_conv_bn_eval`. Today
# convolutional networks have batch normalisation, or group normalisation where batches are small;
# transformers have layer normalisation or its form without the mean, `nn.RMSNorm`. Dropout is rare
# between convolutions and common in large linear layers.
#
# * S. Ioffe, C. Szegedy, *Batch normalization: accelerating deep network training by reducing
#   internal covariate shift*, ICML 2015: algorithm 1, and section 3 for inference.
# * J. Ba, J. Kiros, G. Hinton, *Layer normalization*, 2016. D. Ulyanov, A. Vedaldi, V. Lempitsky,
#   *Instance normalization*, 2016. Y. Wu, K. He, *Group normalization*, ECCV 2018.
# * S. Santurkar, D. Tsipras, A. Ilyas, A. Madry, *How does batch normalization help optimization?*,
#   NeurIPS 2018.
# * N. Srivastava et al., *Dropout: a simple way to prevent neural networks from overfitting*, JMLR
#   15, 2014.
# * C. Zhang et al., *Understanding deep learning requires rethinking generalization*, ICLR 2017.
