# %% [markdown]
# # Unit 03 · Normalisation and regularisation: making deep nets train, and stop in time
#
# **Afterwards you can** compute batch normalisation by hand, forward and backward, and derive every
# step; say what train and eval mode change, and recognise the four accidents that follow from it;
# tell BatchNorm, LayerNorm, InstanceNorm, GroupNorm and RMSNorm apart by the numbers that they
# average; explain what weight decay does to a normalised net; fold a BatchNorm into a convolution;
# choose between early stopping, dropout and an ensemble when a net learns by heart.
#
# **Needed before:** unit 00 (overfitting, cross-entropy), unit 01 (backward passes, initialisation,
# SGD), convolutions from unit 02. **Time:** about 60 minutes. The assignment, `normalization`,
# builds what is derived here.

# %% setup=true
import course

course.setup("03_normalization")

# %%
import copy
import itertools
import math
import time
from collections.abc import Callable

import matplotlib.pyplot as plt
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from course.plots import COLOURS, LINES, MARKERS

torch.set_num_threads(1)  # nets this small run no faster on more: threads would only wait
device = course.device()
grade = course.profile() == "grade"
steps = 20 if grade else 200

data = course.data.digits(device)  # 8 x 8 pixels in [0, 1], as rows of 64 numbers
mean, std = data.train_x.mean(0), data.train_x.std(0) + 0.01  # unit 01, section 8
x_train, x_valid, x_test = ((x - mean) / std for x in (data.train_x, data.valid_x, data.test_x))
y_train, y_valid, y_test = data.train_y, data.valid_y, data.test_y

# %% [markdown]
# ## 1. Ten layers, one line
#
# A network of ten layers is to read handwritten digits. We train it twice, with the same initial
# weights and the same batches. The second time there is one more line for each hidden layer.


# %%
Norm = Callable[[int], nn.Module]


def deep(depth: int, norm: Norm | None = None, he: bool = False, seed: int = 0) -> nn.Sequential:
    """`depth` linear layers of 64 units with ReLU between; the same draws whatever the norm."""
    torch.manual_seed(seed)
    layers: list[nn.Module] = []
    for _ in range(depth - 1):
        linear = nn.Linear(64, 64)
        if he:
            nn.init.kaiming_normal_(linear.weight, nonlinearity="relu")
            nn.init.zeros_(linear.bias)
        layers.append(linear)
        if norm is not None:
            layers.append(norm(64))  # the one line
        layers.append(nn.ReLU())
    return nn.Sequential(*layers, nn.Linear(64, 10)).to(device)


def linears(net: nn.Sequential) -> list[nn.Linear]:
    """The linear layers of a net, in order."""
    return [layer for layer in net if isinstance(layer, nn.Linear)]


# %%
def train(net: nn.Module, rate: float, steps: int = steps, size: int = 64, seed: int = 0,
          x: Tensor = x_train, y: Tensor = y_train, decay: float = 0.0) -> list[float]:  # fmt: skip
    """SGD on random batches of `size`; returns the losses, which end at the first that is nan."""
    optimiser = torch.optim.SGD(net.parameters(), lr=rate, weight_decay=decay)
    draws, losses = torch.Generator().manual_seed(seed), []
    net.train()
    for _ in range(steps):
        rows = torch.randint(len(x), (size,), generator=draws).to(device)
        loss = F.cross_entropy(net(x[rows]), y[rows])
        losses.append(loss.item())
        if not math.isfinite(losses[-1]):
            break
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    return losses


@torch.no_grad()
def accuracy(net: nn.Module, x: Tensor = x_valid, y: Tensor = y_valid) -> float:
    """Share of right answers in eval mode (section 3 says what that is)."""
    net.eval()
    return (net(x).argmax(1) == y).float().mean().item()


# %%
fig, ax = plt.subplots(figsize=(6.4, 2.7))
for name, norm in {"ten layers": None, "with the line": nn.BatchNorm1d}.items():
    net = deep(10, norm)
    ax.plot(train(net, rate=0.1), label=f"{name}: validation accuracy {accuracy(net):.0%}")
ax.axhline(math.log(10), color="0.5", lw=0.8, ls=":")
ax.text(steps, math.log(10) + 0.06, "ln 10", ha="right", color="0.4")
ax.set(xlabel="step", ylabel="training loss", ylim=(0, 2.8))
ax.set_title("The same ten layers, the same numbers to start from")
ax.legend(loc="center right")
plt.show()

# %% [markdown]
# The line is `nn.BatchNorm1d(64)`. Without it the loss stays at $\ln 10$: every digit gets the same
# answer. Unit 01 knows why. torch's default start has variance $1/(3n)$, so each ReLU layer
# multiplies the mean square of the signal by $\frac12 \cdot n \cdot \frac{1}{3n} = \frac16$, and
# after nine layers hardly anything is left of the image.
#
# Then let us simply start with He's variance $2/n$. Is that not the same cure, for free? We ask for
# every learning rate from 0.001 to 10.

# %%
RATES = [0.1, 10.0] if grade else [0.001, 0.003, 0.01, 0.03, 0.1, 0.3, 1.0, 3.0, 10.0]
contest: dict[str, list[float]] = {}


def enter(name: str, norm: Norm | None = None, he: bool = False) -> None:
    """Train a ten-layer net at each rate and note the validation accuracies in `contest`."""
    contest[name] = []
    for rate in RATES:
        net = deep(10, norm, he)
        alive = math.isfinite(train(net, rate)[-1])
        contest[name].append(accuracy(net) if alive else 0.1)  # nan: no better than chance


def show_contest(title: str) -> None:
    _, ax = plt.subplots(figsize=(6.4, 3.0))
    for (name, scores), marker in zip(contest.items(), MARKERS, strict=False):
        ax.plot(RATES, scores, marker=marker, label=name)
    ax.axhline(0.1, color="0.5", lw=0.8, ls=":")
    ax.text(RATES[0], 0.12, "chance", color="0.4")
    ax.set(xscale="log", xlabel="learning rate η", ylabel="validation accuracy", ylim=(0, 1.02))
    ax.set_title(title)
    ax.legend(loc="upper left", bbox_to_anchor=(1, 1))
    plt.show()


enter("torch's default start")
enter("He's start", he=True)
enter("BatchNorm", nn.BatchNorm1d)
show_contest("Ten layers, 200 steps: what each rate arrives at")

# %% [markdown]
# **The first surprise: rates that kill the net without the line are among the best with it.** He's
# start makes the net trainable, but only while the rate is small; then it falls off a cliff. With
# BatchNorm, rates a hundredfold apart do about equally well, and the largest of them is tens of
# times as large as the largest that serves the other net.
#
# An initialisation is a promise about step 0. Something here keeps working during training. What?

# %% [markdown]
# ## 2. Forward, by hand
#
# Take a batch of two examples with one feature each: $\{0, 2\}$. Its mean is $\mu = 1$, its
# variance $v = \frac12 (1^2 + 1^2) = 1$. Subtract the mean, divide by the standard deviation: out
# comes $\{-1, +1\}$. A second feature that reads $\{100, 500\}$ becomes $\{-1, +1\}$ as well:
# the unit in which a layer counts is gone.
#
# In general $X$ is a batch of shape $(B, C)$, $B$ examples in rows and $C$ features in columns.
# **Batch normalisation** (Ioffe and Szegedy 2015, Algorithm 1) treats each column on its own:
#
# $$ \mu_c = \frac1B \sum_{b=1}^{B} x_{bc}, \qquad v_c = \frac1B \sum_{b=1}^{B} (x_{bc} - \mu_c)^2,
# \qquad \hat x_{bc} = \frac{x_{bc} - \mu_c}{\sqrt{v_c + \varepsilon}}, \qquad
# y_{bc} = \gamma_c\, \hat x_{bc} + \beta_c . $$
#
# $\mu$, $v$, $\gamma$ and $\beta$ have shape $(C,)$. The variance is the biased one, divided by
# $B$. $\varepsilon = 10^{-5}$ stands *inside* the root, for columns that do not vary. $\gamma$ and
# $\beta$ are learnt, from 1 and 0: a column with mean 0 and variance 1 may not be what the next
# layer wants. With $\gamma_c = \sqrt{v_c + \varepsilon}$ and $\beta_c = \mu_c$ the layer does
# nothing.


# %%
def batch_norm(x: Tensor, gamma: Tensor, beta: Tensor, eps: float = 1e-5) -> Tensor:
    """Normalise each column of x (B, C) over the batch; gamma and beta are (C,)."""
    mean = x.mean(0)  # (C,)
    var = (x - mean).square().mean(0)  # (C,), divided by B
    return gamma * (x - mean) / (var + eps).sqrt() + beta


x = torch.tensor([[0.0, 100.0], [2.0, 500.0]])
for scale, shift in [(1.0, 0.0), (3.0, 7.0)]:
    y = batch_norm(x, torch.full((2,), scale), torch.full((2,), shift))
    print(f"γ = {scale:g}, β = {shift:g}: columns", *(torch.round(y.T, decimals=3).tolist()))
x, gamma, beta = torch.randn(5, 3), torch.randn(3), torch.randn(3)
same = torch.allclose(
    batch_norm(x, gamma, beta), F.batch_norm(x, None, None, gamma, beta, training=True), atol=1e-6
)
print("the same as torch:", same)

# %% [markdown]
# If a layer that can do nothing is allowed to do anything, what is gained? Before, the mean and the
# spread of a feature were a joint result of *all* the weights below, and every step changed them.
# Now they are two parameters, $\beta_c$ and $\gamma_c$, of their own. Nothing below can make a
# feature explode, die out, or move to where its ReLU is always off. Here is what that means before
# the first step:


# %%
@torch.no_grad()
def spreads(net: nn.Sequential) -> list[float]:
    """At each ReLU: how much a unit's input varies between digits (median over the units)."""
    net.train()
    h, found = x_train, []
    for layer in net:
        if isinstance(layer, nn.ReLU):
            found.append(h.std(0).median().item())
        h = layer(h)
    return found


starts = {
    "torch's default": deep(10),
    "He": deep(10, he=True),
    "BatchNorm": deep(10, nn.BatchNorm1d),
}
fig, ax = plt.subplots(figsize=(6.0, 2.6))
for (name, net), marker in zip(starts.items(), MARKERS, strict=False):
    ax.semilogy(range(1, 10), spreads(net), marker=marker, label=name)
ax.set(xlabel="hidden layer", ylabel="spread over the digits")
ax.set_title("How differently a unit answers to different digits, before training")
ax.legend(loc="lower left")
plt.show()

# %% [markdown]
# In the default net all digits look alike after nine layers. He's start keeps the *mean square* of
# the signal, as derived in unit 01; even so the part that differs between digits shrinks, slowly,
# in favour of a part that is the same for all. BatchNorm subtracts just that common part and brings
# what is left to size 1, at every layer.

# %% [markdown]
# ## 3. Two modes
#
# A trained net gets a single image. Whose mean should it subtract? The answer to a question must
# not depend on what else is asked. So the layer keeps **running statistics** $\bar\mu, \bar v$ of
# shape $(C,)$ while it trains, from $\bar\mu = 0$, $\bar v = 1$, and uses those afterwards:
#
# | mode | normalises with | running statistics |
# |---|---|---|
# | `net.train()` | $\mu, v$ of this batch | are updated, *at each forward pass* |
# | `net.eval()` | $\bar\mu, \bar v$ | rest |
#
# Each source has its own way of keeping them:
#
# | source | running value after each batch | variance kept |
# |---|---|---|
# | torch, `momentum=0.1` | `0.9 * old + 0.1 * new` | unbiased, `v * B / (B - 1)` |
# | Keras 3, `momentum=0.99` | `0.99 * old + 0.01 * new` | biased, `v` |
# | the paper | after training: mean over many batches | unbiased |
#
# Two traps. The word *momentum* weighs the new value in torch and the old one in Keras: 0.1 there
# is 0.9 in Keras' way of speaking. And torch divides by $B$ where it normalises, but by $B - 1$ in
# what it stores. This course follows torch. Our batch $\{0, 2\}$ has $\mu = 1$ and
# $\frac{B}{B-1} v = 2$:

# %%
layer = nn.BatchNorm1d(1)
batch = torch.tensor([[0.0], [2.0]])
print("train:", [round(v, 3) for v in layer(batch).flatten().tolist()])
print("by hand: running mean", 0.9 * 0 + 0.1 * 1, " running variance", 0.9 * 1 + 0.1 * 2)
kept = {name: round(value.item(), 4) for name, value in layer.named_buffers()}
print("torch:  ", kept)
layer.eval()
print("eval, the same batch:", [round(v, 3) for v in layer(batch).flatten().tolist()])

# %% [markdown]
# The same input, another output: $(0 - 0.1)/\sqrt{1.1}$ and $(2 - 0.1)/\sqrt{1.1}$. Running
# statistics are no parameters, no gradient reaches them, but they must be saved with the net;
# torch calls them *buffers*. And they lag. After $n$ batches the invented start, 0 and 1, still has
# the weight $0.9^n$ (35 % after ten), while the weights have moved on. So the same net, at the same
# moment, in both modes:


# %%
@torch.no_grad()
def accuracy_in_train_mode(net: nn.Module, x: Tensor = x_valid, y: Tensor = y_valid) -> float:
    """With the statistics of these very images; a copy is asked, for asking changes buffers."""
    return (copy.deepcopy(net).train()(x).argmax(1) == y).float().mean().item()


net, passed = deep(10, nn.BatchNorm1d), 0
print(f"{'steps':>6}{'eval mode':>11}{'batch statistics':>18}")
for goal in (1, 3, 10, 30) if grade else (1, 3, 10, 20, 30, 50, 100):
    train(net, rate=0.3, steps=goal - passed, seed=goal)
    passed = goal
    print(f"{passed:6}{accuracy(net):11.0%}{accuracy_in_train_mode(net):18.0%}")

# %% [markdown]
# A young net, or one with too small a rate for its statistics, looks untrained in eval mode while
# it is not. When a validation curve is bad and the training curve is good, look at this before
# you think of overfitting. The cure is the paper's: freeze the weights and take fresh averages
# (`momentum=None` makes torch keep the plain mean over all batches since `reset_running_stats()`).

# %% [markdown]
# ## 4. Backward, whole
#
# Columns do not mix, so take one of them: $\mathbf{x} \in \mathbb{R}^B$ with entries $x_a$, its
# output $y_b = \gamma \hat x_b + \beta$, and what arrives from above, $g_b = \partial L/\partial
# y_b$. Write $d_b = x_b - \mu$ and $s = \sqrt{v + \varepsilon}$, so that $\hat x_b = d_b/s$.
#
# **The two parameters.** Every row uses the same $\gamma$ and $\beta$, so their gradients are sums
# over the rows:
#
# $$ \frac{\partial L}{\partial \beta} = \sum_b g_b, \qquad
# \frac{\partial L}{\partial \gamma} = \sum_b g_b\, \hat x_b . $$
#
# **The input.** One input $x_a$ reaches the outputs in three ways: through its own $d_a$, through
# the mean (and so through *all* $d_b$), and through the standard deviation (and so through all
# $\hat x_b$). One after the other, with $\delta_{ab} = 1$ if $a = b$, else 0:
#
# $$ \frac{\partial \mu}{\partial x_a} = \frac1B, \qquad
# \frac{\partial d_b}{\partial x_a} = \delta_{ab} - \frac1B . $$
#
# The variance is where most people get lost, because the mean is inside it, too:
#
# $$ \frac{\partial v}{\partial x_a} = \frac1B \sum_b 2 d_b \frac{\partial d_b}{\partial x_a}
# = \frac2B \sum_b d_b \Big(\delta_{ab} - \frac1B\Big)
# = \frac{2 d_a}{B} - \frac{2}{B^2} \underbrace{\sum_b d_b}_{=\,0} = \frac{2 d_a}{B} . $$
#
# Deviations from the mean sum to zero, so the path from $x_a$ over $\mu$ into $v$ carries nothing:
# the bottom of a parabola is flat. Then, by $\partial s/\partial v = 1/(2s)$,

# %% [markdown]
# $$ \frac{\partial s}{\partial x_a} = \frac{1}{2s} \cdot \frac{2 d_a}{B} = \frac{\hat x_a}{B} ,
# \qquad
# \frac{\partial \hat x_b}{\partial x_a} = \frac1s \frac{\partial d_b}{\partial x_a} -
# \frac{d_b}{s^2} \frac{\partial s}{\partial x_a}
# = \frac1s \Big( \delta_{ab} - \frac1B - \frac{\hat x_a \hat x_b}{B} \Big) . $$
#
# Three terms for three ways. What remains is the chain rule, a sum over all outputs, with
# $\partial L/\partial \hat x_b = \gamma g_b$:
#
# $$ \frac{\partial L}{\partial x_a} = \sum_b \gamma g_b \frac{\partial \hat x_b}{\partial x_a}
# = \frac{\gamma}{s} \Big( g_a - \frac1B \sum_b g_b - \hat x_a \frac1B \sum_b g_b \hat x_b \Big)
# = \frac{\gamma}{B s} \Big( B\, g_a - \frac{\partial L}{\partial \beta} - \hat x_a
# \frac{\partial L}{\partial \gamma} \Big) . $$
#
# One line, made of what is already there. By hand, for $\mathbf{x} = (0, 2, 4)$ and $\gamma = 1$:
# $\mu = 2$, $v = \frac83$, $\hat{\mathbf{x}} = (-\sqrt{1.5},\, 0,\, \sqrt{1.5})$. Let only the
# first output matter, $\mathbf{g} = (1, 0, 0)$. The mean of $g$ is $\frac13$, that of $g \hat x$ is
# $-\frac13\sqrt{1.5}$, and the bracket is
#
# $$ \big(1 - \tfrac13 - \tfrac12,\;\; 0 - \tfrac13 - 0,\;\; 0 - \tfrac13 + \tfrac12\big) = \tfrac16
# (1, -2, 1) . $$
#
# We asked about $y_1$, and the one to move most is $x_2$: mean and spread are steered through
# whoever can. In code for the whole batch: $G$ and $\hat X$ are $(B, C)$, everything else is $(C,)$
# and is repeated over the rows.


# %%
def batch_norm_backward(
    g: Tensor, x: Tensor, gamma: Tensor, eps: float = 1e-5
) -> tuple[Tensor, Tensor, Tensor]:
    """Gradients by x (B, C), gamma (C,) and beta (C,), for g = dL/dy of shape (B, C)."""
    mean = x.mean(0)
    s = ((x - mean).square().mean(0) + eps).sqrt()
    x_hat = (x - mean) / s
    dbeta, dgamma = g.sum(0), (g * x_hat).sum(0)
    return gamma / (len(x) * s) * (len(x) * g - dbeta - x_hat * dgamma), dgamma, dbeta


three, first = torch.tensor([[0.0], [2.0], [4.0]]), torch.tensor([[1.0], [0.0], [0.0]])
dx = batch_norm_backward(first, three, torch.ones(1))[0].flatten()
print("(0, 2, 4), times 6 s:", [round(v, 3) for v in (6 * math.sqrt(8 / 3) * dx).tolist()])
x, g = torch.randn(2, 7, 3, dtype=torch.float64)
x = (5 * x + 2).requires_grad_()
gamma, beta = torch.randn(2, 3, dtype=torch.float64).requires_grad_().unbind()
loss = (batch_norm(x, gamma, beta) * g).sum()
theirs = torch.autograd.grad(loss, [x, gamma, beta])
ours = batch_norm_backward(g, x.detach(), gamma.detach())
for name, a, b in zip(("x", "γ", "β"), ours, theirs, strict=True):
    print(f"gradient by {name}: largest difference from autograd {(a - b).abs().max():.0e}")
s = (x.detach().var(0, unbiased=False) + 1e-5).sqrt()
forgetful = gamma.detach() * g / s  # as if μ and s were constants
cosine = F.cosine_similarity(forgetful.flatten(), theirs[0].flatten(), dim=0)
print(f"taking μ and s for constants: cosine with the true gradient {cosine:.2f}")

# %% [markdown]
# The Jacobian in a picture: what each of five inputs (down) does to each of the five outputs
# (across), first by each of the three ways alone, then all together, as autograd finds it.

# %%
x = torch.tensor([-2.0, -1.0, 0.0, 1.0, 4.0], dtype=torch.float64)
one, none = torch.ones(1, dtype=torch.float64), torch.zeros(1, dtype=torch.float64)
jacobian = torch.autograd.functional.jacobian(lambda x: batch_norm(x[:, None], one, none)[:, 0], x)
x_hat, n = batch_norm(x[:, None], one, none)[:, 0], len(x)
own, by_mean = torch.eye(n).double(), torch.full((n, n), -1 / n).double()
by_spread = -torch.outer(x_hat, x_hat) / n
together = jacobian * (x.var(unbiased=False) + 1e-5).sqrt()
print("the three add up:", torch.allclose(own + by_mean + by_spread, together))
ways = {
    "its own $d_a$": own,
    "the mean": by_mean,
    "the standard deviation": by_spread,
    "together (autograd)": together,
}
fig, axes = plt.subplots(1, 4, figsize=(9.6, 2.7))
for ax, (name, matrix) in zip(axes, ways.items(), strict=True):
    ax.imshow(matrix, cmap="PuOr", vmin=-1.4, vmax=1.4)
    for a, b in itertools.product(range(n), repeat=2):
        ax.text(b, a, f"{matrix[a, b]:.2f}", ha="center", va="center", fontsize=7)
    ax.set(xticks=[], yticks=range(n), yticklabels=[f"{v:g}" for v in x.tolist()], title=name)
    ax.grid(False)
axes[0].set_ylabel("input")
fig.suptitle(r"$s\,\partial\hat x_b/\partial x_a$: an outlier hardly moves its own output")
plt.show()

# %% [markdown]
# The outlier 4 all but makes its own mean and spread: pull it further out, and its own output
# changes little; some of the others move more.
#
# The usual mistake, $\gamma g/s$, has the right shape and roughly the right direction, and a net
# trained with it may still learn something. Only a comparison with numbers shows it (unit 01,
# section 7).
#
# ### What the line says
#
# Without $\varepsilon$, $\sum_b \hat x_b^2 = B$, so $\hat{\mathbf{x}}/\sqrt B$ is a unit vector, as
# is $\mathbf{1}/\sqrt B$, and they are orthogonal. The bracket subtracts from $\mathbf{g}$ its
# component along each. So *the gradient never asks to shift the column or to stretch it*. Of
# course: the output does not change if one does either. Forward blindness and backward silence are
# the same fact.
#
# It also says how much is lost. A random $\mathbf{g}$ has $B$ components, of which two are removed,
# so the share $\sqrt{(B - 2)/B}$ of its length passes. For $B = 2$ that is nothing at all.


# %%
def passes(size: int) -> float:
    """Root mean square of the gradient behind BN (times s), relative to that before it."""
    draws = torch.Generator().manual_seed(size)
    x, g = torch.randn(2, size, 20_000, dtype=torch.float64, generator=draws)
    s = x.std(0, unbiased=False)
    dx = batch_norm_backward(g, x, torch.ones(x.shape[1]), eps=0.0)[0] * s
    return (dx.square().mean() / g.square().mean()).sqrt().item()


for size in (2, 3, 4, 8, 64):
    predicted = math.sqrt((size - 2) / size)
    print(f"batch of {size:2}: passes {passes(size):.3f}, predicted {predicted:.3f}")
two = torch.tensor([[[0.0], [2.0]], [[-3.25], [-3.0]], [[500.0], [1e6]]])
for pair in two:
    out = batch_norm(pair, torch.ones(1), torch.zeros(1)).flatten().tolist()
    print(f"{pair.flatten().tolist()!s:20} -> {[round(v, 3) for v in out]}")

# %% [markdown]
# **A batch of two teaches nothing below the layer.** Whatever two numbers go in, $-1$ and $+1$ come
# out, so no small change of the weights changes anything, and the gradient is zero. With a batch of
# one even that bit is gone: $x - \mu = 0$, and every input gives $\beta$. torch refuses:

# %%
print("our batch_norm, batches of one:", *(
    batch_norm(torch.tensor([[v]]), torch.ones(1), torch.tensor([0.5])).item() for v in (3.0, -80.0)
))  # fmt: skip
try:
    nn.BatchNorm1d(4)(torch.randn(1, 4))
except ValueError as error:
    print("torch:", error)

# %% [markdown]
# (You will meet this message when 1,197 digits are cut into batches of 4 or 23: one digit is left
# over. `drop_last=True` in a `DataLoader` is the usual remedy.)
#
# ## 5. Images: BatchNorm2d
#
# After a convolution $X$ has the shape $(B, C, H, W)$: examples, channels, height, width. The
# kernel is the same at every pixel, so "feature $c$" is the whole channel, and all $N = B H W$
# numbers of channel $c$ are samples of it:
#
# $$ \mu_c = \frac{1}{BHW} \sum_{b,h,w} x_{bchw}, \qquad v_c = \frac{1}{BHW} \sum_{b,h,w}
# (x_{bchw} - \mu_c)^2 , $$
#
# with $\gamma$ and $\beta$ of shape $(C,)$. Statistics for every *pixel* would undo what weight
# sharing is for: the same stroke would be scaled differently in the middle and at the rim. No new
# derivation is needed. Bring the channels last and call each pixel an example: $(B, C, H, W) \to
# (BHW, C)$, forward and backward, with $N$ instead of $B$.


# %%
def as_rows(x: Tensor) -> Tensor:
    """(B, C, H, W) -> (B H W, C): every pixel of every image is a row."""
    return x.permute(0, 2, 3, 1).reshape(-1, x.shape[1])


def as_images(rows: Tensor, like: Tensor) -> Tensor:
    """The inverse of `as_rows`, into the shape of `like`."""
    b, c, h, w = like.shape
    return rows.view(b, h, w, c).permute(0, 3, 1, 2)


x = torch.randn(4, 3, 5, 6).requires_grad_()
g, layer = torch.randn(4, 3, 5, 6), nn.BatchNorm2d(3)
nn.init.normal_(layer.weight)
nn.init.normal_(layer.bias)
gamma, beta = layer.weight.detach(), layer.bias.detach()
y = layer(x)
ours = as_images(batch_norm(as_rows(x.detach()), gamma, beta), x)
(dx,) = torch.autograd.grad((y * g).sum(), [x])
ours_dx = as_images(batch_norm_backward(as_rows(g), as_rows(x.detach()), gamma)[0], x)
print("forward: ", torch.allclose(ours, y, atol=1e-5))
print("backward:", torch.allclose(ours_dx, dx, atol=1e-5))
unbiased = as_rows(x).var(0)  # divides by B H W - 1
kept = layer.state_dict()
print("running variance:", torch.allclose(kept["running_var"], 0.9 + 0.1 * unbiased))
print("learnt numbers:", sum(p.numel() for p in layer.parameters()), end="; ")
print("kept statistics:", kept["running_mean"].numel() + kept["running_var"].numel())

# %% [markdown]
# Four numbers a channel, two learnt and two kept. Beside a $3 \times 3$ convolution with $9 C^2$
# weights they are nothing.
#
# ## 6. Four accidents
#
# BatchNorm is the first layer in this course for which the examples of a batch are not independent.
# Every accident with it comes from there.
#
# **First: batch-mates change the answer.** A trained net, left in train mode, is shown one digit of
# which it is not quite sure, each time beside other digits:

# %%
net = deep(4, nn.BatchNorm1d)
train(net, rate=0.1)
net.eval()
with torch.no_grad():
    probs = net(x_valid).softmax(1)
right = (probs.argmax(1) == y_valid).nonzero().flatten()
shown = right[probs[right, y_valid[right]].argsort()[len(right) // 20]]  # rather unsure, but right
label = y_valid[shown].item()
mates, tries, draws = [4, 8, 16, 64, 256], 20 if grade else 300, torch.Generator().manual_seed(0)
beside: dict[int, Tensor] = {}
copied = copy.deepcopy(net).train()
for size in mates:
    said = []
    for _ in range(tries):
        rows = torch.randperm(len(x_train), generator=draws)[: size - 1].to(device)
        with torch.no_grad():
            logits = copied(torch.cat([x_valid[shown][None], x_train[rows]]))
        said.append(logits[0].softmax(0)[label])
    beside[size] = torch.stack(said).cpu()
alone = probs[shown, label].item()

# %%
fig, (left, ax) = plt.subplots(1, 2, figsize=(7.4, 2.7), width_ratios=[1, 3.6])
left.imshow(data.valid_x[shown].view(8, 8).cpu(), cmap="gray_r")
left.set_title(f"a {label}; in eval mode\n{alone:.0%} sure", fontsize=9)
left.axis("off")
for k, size in enumerate(mates):
    jitter = torch.rand(tries, generator=torch.Generator().manual_seed(k)) - 0.5
    ax.plot(k + 0.5 * jitter, beside[size], "o", ms=2, color=COLOURS[0], alpha=0.4)
ax.axhline(alone, color="k", lw=1, ls="--")
ax.set(xticks=range(len(mates)), xticklabels=mates, ylim=(0, 1.02))
ax.set(xlabel="images in the batch, this one included", ylabel=f"probability of {label}")
ax.set_title(f"One image, {tries} sets of batch-mates of each size")
plt.show()
for size in mates:
    low, high = beside[size].quantile(torch.tensor([0.05, 0.95])).tolist()
    print(f"batch of {size:3}: 90 % of the answers lie between {low:.2f} and {high:.2f}")

# %% [markdown]
# Nothing but the neighbours has changed. Whoever forgets `net.eval()` gets answers that depend on
# who else asked, and may blame the net. (In training the same jitter is a kind of noise, which
# regularises a little, more so for small batches.)
#
# **Second: frozen is not frozen.** Take a well-trained net, forbid all gradients, so that no weight
# can change, and let it look at some images in train mode: negatives of the digits, white on black
# instead of black on white. Then back to eval mode, and to the validation digits.

# %%
train(net, rate=0.1, steps=2 * steps)
for parameter in net.parameters():
    parameter.requires_grad_(False)
before = {name: value.clone() for name, value in net.state_dict().items()}
print(f"accuracy before: {accuracy(net):.1%}")
negatives = (1 - data.train_x - mean) / std
seen = 0
for looks in (1, 3, 10):
    net.train()
    with torch.no_grad():
        for _ in range(looks - seen):
            net(negatives[:256])
    seen = looks
    print(f"after {looks:2} batches of negatives: {accuracy(net):.1%}")
changed = [k for k, v in net.state_dict().items() if not torch.equal(v, before[k])]
print("changed:", sorted({name.split(".")[1] for name in changed}))

# %% [markdown]
# No weight moved; the running statistics did. `requires_grad_(False)` and `no_grad()` stop
# gradients, and a buffer has none. To freeze a BatchNorm means `layer.eval()`, and to do so again
# after every `net.train()`, which goes through all layers. In transfer learning (unit 04) this is
# the classic.
#
# **Third: the batch is not what it was.** Run the good net of before in train mode once more: the
# 300 validation digits in ten batches of about 30, first shuffled, then sorted, so that each batch
# holds one class.

# %%
net.load_state_dict(before)
shuffled = torch.randperm(len(x_valid), generator=draws).to(device)
for name, order in {"shuffled": shuffled, "sorted by class": y_valid.argsort()}.items():
    counts = y_valid.bincount().tolist() if name != "shuffled" else [30] * 10
    parts = [accuracy_in_train_mode(net, x_valid[r], y_valid[r]) for r in order.split(counts)]
    print(f"train mode, {name:16} mean accuracy {sum(parts) / 10:.0%}", end="; ")
    print(f"batch by batch {min(parts):.0%} to {max(parts):.0%}")

# %% [markdown]
# The same images, the same weights, and the reading is gone. **The second surprise, and the
# clearest picture of what the layer does:** it shows the net how an image differs from its batch.
# In a batch of eights nobody is remarkable for being an eight. So shuffle the training data; expect
# trouble where a batch cannot be mixed (neighbouring frames of a video, the turns of a game); and
# when several machines share a batch, know that each normalises its own part unless
# `nn.SyncBatchNorm` joins them.
#
# **Fourth: small batches.** Section 4 said that of the gradient the share $\sqrt{(B-2)/B}$ passes,
# and the statistics themselves get noisy. Five layers, equal numbers of steps, and as a control a
# layer that does not look at other examples, LayerNorm, of which more in section 9:

# %%
sizes = [2, 64] if grade else [2, 3, 4, 8, 16, 64]
controls: dict[str, Norm] = {"BatchNorm": nn.BatchNorm1d, "LayerNorm": nn.LayerNorm}
fig, ax = plt.subplots(figsize=(6.2, 2.6))
for (name, norm), marker in zip(controls.items(), MARKERS, strict=False):
    scores = []
    for size in sizes:
        net = deep(5, norm)
        train(net, rate=0.03, steps=3 * steps // 2, size=size)
        scores.append(accuracy(net))
    ax.plot(sizes, scores, marker=marker, label=name)
ax.set(xscale="log", xticks=sizes, xticklabels=sizes, ylim=(0, 1.02))
ax.set(xlabel="examples in a batch", ylabel="validation accuracy")
ax.minorticks_off()
ax.set_title("Below about four examples BatchNorm falls behind")
ax.legend(loc="lower right")
plt.show()

# %% [markdown]
# ## 7. Why does it help?
#
# ### The first explanation, and what became of it
#
# The title of Ioffe and Szegedy (2015) names the reason they had in mind: *internal covariate
# shift*. While the lower layers learn, the distribution of what they send up keeps changing, so
# every layer aims at a moving target; fix mean and variance, and the target holds still.
#
# Santurkar et al. (2018) put that to the test. They let BatchNorm do its work and then shift and
# scale every unit again, *at random, anew at each step*. If steady distributions were what helps,
# this should destroy it. Three nets at a rate of 0.5, and how far the inputs of the fifth ReLU move
# in one step (their mean, in units of their standard deviation):


# %%
class ShiftedAgain(nn.Module):
    """BatchNorm, then every unit is scaled and shifted at random, anew at each training step."""

    def __init__(self, units: int) -> None:
        super().__init__()
        self.norm = nn.BatchNorm1d(units)

    def forward(self, x: Tensor) -> Tensor:
        y = self.norm(x)
        if not self.training:
            return y
        scale, shift = torch.rand(2, y.shape[1], device=y.device) - 0.5
        return (1 + scale) * y + shift


def follow(norm: Norm | None) -> tuple[list[float], float]:
    """Losses at rate 0.5, and the mean movement of the fifth ReLU's inputs in a step."""
    net, losses, means, moved = deep(10, norm, he=True), [], None, []
    fifth = [i for i, layer in enumerate(net) if isinstance(layer, nn.ReLU)][4]
    for step in range(steps):
        losses += train(net, rate=0.5, steps=1, seed=step)
        with torch.no_grad():
            z = net[:fifth](x_train[:256])
        if means is not None:
            moved.append(((z.mean(0) - means).abs() / z.std(0).clamp(min=1e-6)).mean())
        means = z.mean(0)
    return losses, torch.stack(moved).mean().item()


# %%
kinds = {"no normalisation": None, "BatchNorm": nn.BatchNorm1d, "shifted again": ShiftedAgain}
fig, ax = plt.subplots(figsize=(6.4, 2.8))
for name, norm in kinds.items():
    losses, moved = follow(norm)
    smooth = torch.tensor(losses).unfold(0, 10, 10).mean(1)
    ax.plot(range(10, len(losses) + 1, 10), smooth, label=f"{name}: moves by {moved:.2f}")
ax.set(xlabel="step", ylabel="loss, mean of 10 steps", ylim=(0, 3))
ax.set_title("Moving the targets on purpose does little harm")
ax.legend()
plt.show()

# %% [markdown]
# The net whose distributions are shaken on purpose moves most, and yet it trains nearly as well as
# plain BatchNorm. So steadiness is not what does it, or not alone. That is the state of the
# discussion: *whether BatchNorm helps by reducing covariate shift is disputed*. Three effects, on
# the other hand, can be derived or measured.
#
# ### One: the length of the weights no longer matters
#
# Let $\mathbf{w}$ be the weights of one unit, a row of $W$, followed by BatchNorm. Multiply it by
# $a > 0$. Its outputs over the batch, their mean and their standard deviation are all multiplied by
# $a$, and $\hat x$ stays as it was ($\varepsilon$ aside). So $L(a\mathbf{w}) = L(\mathbf{w})$ for
# every $a > 0$. Differentiate this identity twice, by $a$ at $a = 1$ and by $\mathbf{w}$:
#
# $$ \langle \mathbf{w}, \nabla L(\mathbf{w}) \rangle = 0 , \qquad
# a\, \nabla L(a\mathbf{w}) = \nabla L(\mathbf{w})
# \;\Rightarrow\; \nabla L(a\mathbf{w}) = \frac1a \nabla L(\mathbf{w}) . $$
#
# The gradient is orthogonal to the weights, and *shorter where they are longer*. Hence a step
# $\mathbf{w}' = \mathbf{w} - \eta \nabla L$ has the length (Pythagoras)
#
# $$ \|\mathbf{w}'\|^2 = \|\mathbf{w}\|^2 + \eta^2 \|\nabla L\|^2 , $$
#
# and what matters, the *direction* of $\mathbf{w}$, turns by an angle $\theta$ with
# $\tan\theta = \eta\,\|\nabla L(\mathbf{w})\| / \|\mathbf{w}\| = \frac{\eta}{\|\mathbf{w}\|^2}
# \|\nabla L(\mathbf{w}/\|\mathbf{w}\|)\|$. The **effective learning rate** is
# $\eta/\|\mathbf{w}\|^2$. Choose $\eta$ far too large: the first steps make the weights long, and
# that brings the effective rate down. The layer brakes by itself.


# %%
ten, found = deep(10, nn.BatchNorm1d), []
third = linears(ten)[2].weight
for longer in (1.0, 10.0):
    with torch.no_grad():
        third.mul_(longer)
    found += torch.autograd.grad(F.cross_entropy(ten(x_train), y_train), [third])
cosines = F.cosine_similarity(third, found[0])  # one for each of the 64 units
print(f"cosine of weights and gradient: {cosines.abs().max():.1e} at most")
ratio = found[0].norm() / found[1].norm()
print(f"weights 10 times as long: gradient {ratio:.2f} times shorter")
print(f"{'η':>6}  length of the third layer's weights after 0, 1, 5, 20 and {steps} steps")
for rate in (0.1, 1.0, 3.0):
    net, lengths = deep(10, nn.BatchNorm1d), []
    for step in range(steps + 1):
        lengths.append(linears(net)[2].weight.norm().item())
        train(net, rate, steps=1, seed=step)
    print(f"{rate:6}  " + "  ".join(f"{lengths[k]:7.1f}" for k in (0, 1, 5, 20, steps)))

# %% [markdown]
# And it makes the start nearly irrelevant. Twenty scales of the initial weights, from a hundredth
# of He's to a hundred times, six layers:

# %%
scales = torch.logspace(-2, 2, 5 if grade else 20).tolist()
fig, ax = plt.subplots(figsize=(6.2, 2.8))
for (name, norm), marker in zip(list(kinds.items())[:2], MARKERS, strict=False):
    scores = []
    for scale in scales:
        net = deep(6, norm, he=True)
        with torch.no_grad():
            for linear in linears(net)[:-1]:
                linear.weight.mul_(scale)
        alive = math.isfinite(train(net, rate=0.1, steps=steps // 2)[-1])
        scores.append(accuracy(net) if alive else 0.1)
    ax.plot(scales, scores, marker=marker, label=name)
ax.set(
    xscale="log", xlabel="initial weights of the hidden layers, in units of He's", ylim=(0, 1.02)
)
ax.set(ylabel="validation accuracy")
ax.set_title(f"A narrow peak, and a plateau ({steps // 2} steps, rate 0.1)")
ax.legend(loc="center left")
plt.show()

# %% [markdown]
# Why does the plateau slope down on the right? Weights 30 times as long have an effective rate
# 1/900 of the usual one: the hidden layers stand still, and the last one does what it can with
# random features. Even that reads most digits (unit 02 made the same point with frozen filters).
#
# ### Two: a smoother way down
#
# A gradient is a promise for a small step. How far does it hold? At several moments of training
# (rate 0.05, both from He's start) we take the gradient and walk along it, up to 60 times too far,
# without keeping the step.


# %%
def walks(norm: Norm | None, lengths: Tensor) -> Tensor:
    """Loss after a step of each length along the gradient, at six moments: (6, len(lengths))."""
    net, found = deep(10, norm, he=True), []
    for moment in range(6):
        train(net, rate=0.05, steps=steps // 8, seed=moment)
        parameters = list(net.parameters())
        x, y = x_train[:256], y_train[:256]
        slopes = torch.autograd.grad(F.cross_entropy(net(x), y), parameters)
        kept, row = [p.detach().clone() for p in parameters], []
        with torch.no_grad():
            for length in lengths.tolist():
                for p, start, slope in zip(parameters, kept, slopes, strict=True):
                    p.copy_(start - length * slope)
                row.append(F.cross_entropy(net(x), y))
            for p, start in zip(parameters, kept, strict=True):
                p.copy_(start)
        found.append(torch.stack(row))
    return torch.stack(found).cpu()


lengths = torch.logspace(-2, math.log10(3), 5 if grade else 24)
fig, ax = plt.subplots(figsize=(6.2, 2.8))
for (name, norm), colour, line in zip(list(kinds.items())[:2], COLOURS, LINES, strict=False):
    lines = ax.plot(lengths, walks(norm, lengths).T, color=colour, ls=line)
    lines[0].set_label(name)
ax.set(xscale="log", yscale="log", xlabel="step length along the gradient", ylabel="loss")
ax.axvline(0.05, color="0.5", lw=0.8, ls=":")
ax.text(0.052, 1e3, "the rate used", color="0.4")
ax.set_title("Follow a gradient too far: a wall, or a gentle slope")
ax.legend(loc="center left", bbox_to_anchor=(0, 0.65))
plt.show()

# %% [markdown]
# This is Santurkar et al.'s own explanation: with BatchNorm loss and gradient change more slowly
# along the way, so that long steps are safe. The measurement is clear; how far it is the *cause* of
# all that BatchNorm does, one may still ask.
#
# ### Three: depth, with a catch
#
# Forward, BatchNorm holds the signal at every depth. And backward? Unit 01's calculation again, for
# wide layers $\mathbf{z}' = W \operatorname{ReLU}(\hat{\mathbf{z}})$ of $n$ units, weights of
# variance $\sigma^2$, where the normalised $\hat z$ of a unit is about standard normal over the
# batch. Then $\mathbb{E}[\operatorname{ReLU}(\hat z)^2] = \frac12$ and
# $\mathbb{E}[\operatorname{ReLU}(\hat z)] = \frac{1}{\sqrt{2\pi}}$, so
#
# $$ \operatorname{Var}(\operatorname{ReLU}(\hat z)) = \frac12 - \frac{1}{2\pi} =
# \frac{\pi - 1}{2\pi} , \qquad
# s^2 = \operatorname{Var}(z') = n \sigma^2\, \frac{\pi - 1}{2\pi} . $$
#
# Backward a mean square is multiplied by $1/s^2$ in BatchNorm (the two removed components are few
# among many), by $n\sigma^2$ in $W^\top$ and by $\frac12$ in the ReLU:
#
# $$ \frac{1}{s^2} \cdot n \sigma^2 \cdot \frac12 = \frac{2\pi}{\pi - 1} \cdot \frac12 =
# \frac{\pi}{\pi - 1} \approx 1.47 \quad \text{per layer, whatever } \sigma^2 \text{ is} $$
#
# (Yang et al. 2019). Growth that no initialisation can cure, for $\sigma^2$ has cancelled. Measured
# in 40 layers:

# %%
net, h, at_layers = deep(40, nn.BatchNorm1d), x_train, []
for layer in net:
    h = layer(h)
    if isinstance(layer, nn.Linear):
        at_layers.append(h)
slopes = torch.autograd.grad(F.cross_entropy(h, y_train), at_layers)
squares = torch.stack([slope.square().mean() for slope in slopes[:-1]]).cpu()
growth = (squares[2] / squares[-3]) ** (1 / (len(squares) - 5))
print(f"per layer, backward: {growth:.2f}; predicted {math.pi / (math.pi - 1):.2f}")
print(f"first hidden layer against the last: {squares[0] / squares[-1]:.0e} times as large")

# %%
depths, tried = ([3, 10], [0.1]) if grade else ([3, 6, 10, 20, 30], [0.03, 0.1, 0.3])
fig, ax = plt.subplots(figsize=(6.2, 2.8))
entries = {
    "torch's default start": (None, False),
    "He's start": (None, True),
    "BatchNorm": (nn.BatchNorm1d, False),
}
for (name, (norm, he)), marker in zip(entries.items(), MARKERS, strict=False):
    best = []
    for depth in depths:
        nets = [deep(depth, norm, he) for _ in tried]
        ends = [
            train(net, rate, steps=steps // 2)[-1] for net, rate in zip(nets, tried, strict=True)
        ]
        best.append(
            max(
                accuracy(net) if math.isfinite(e) else 0.1
                for net, e in zip(nets, ends, strict=True)
            )
        )
    ax.plot(depths, best, marker=marker, label=name)
ax.set(xlabel="layers", ylabel="validation accuracy", ylim=(0, 1.02))
ax.set_title(f"Trainable depth: {steps // 2} steps, the best of the rates {tried}")
ax.legend(loc="upper left", bbox_to_anchor=(1, 1))
plt.show()

# %% [markdown]
# Normalisation moves the limit, it does not remove it. At thirty layers this net fails again,
# because its first layers get gradients hundreds of times as long as its last. What carries
# hundreds of layers is normalisation *with* residual connections (unit 02), where the identity path
# multiplies gradients by 1.

# %% [markdown]
# ## 8. Weight decay changes its meaning
#
# Unit 00 introduced $\frac\lambda2\|W\|^2$ as a preference for simple functions: short weights. But
# before a BatchNorm, weights of any length give the *same* function. So what does decay do there?
# It keeps the effective rate up. With decay the step is
# $\mathbf{w}' = (1 - \eta\lambda)\mathbf{w} - \eta\nabla L$, and as $\nabla L \perp \mathbf{w}$,
#
# $$ \|\mathbf{w}'\|^2 = (1 - \eta\lambda)^2 \|\mathbf{w}\|^2 + \eta^2 \|\nabla L\|^2 . $$
#
# Decay shortens, gradients lengthen. In balance both sides are equal, and dropping
# $\eta^2\lambda^2$ beside $2\eta\lambda$,
#
# $$ 2 \eta\lambda\, \|\mathbf{w}\|^2 = \eta^2 \|\nabla L\|^2 \quad\Longrightarrow\quad
# \theta \approx \frac{\eta \|\nabla L\|}{\|\mathbf{w}\|} = \sqrt{2 \eta \lambda} . $$
#
# Whatever data, net or gradient: the weights turn by $\sqrt{2\eta\lambda}$ radians a step (van
# Laarhoven 2017 for the balance). After about $1/(2\eta\lambda)$ steps, and as long as gradients do
# not die out, only the *product* counts. Three pairs with the same product, and one without decay:


# %%
def turning(rate: float, decay: float, steps: int) -> tuple[float, float, float]:
    """Length of the second layer's weights, their turn per step at the end, accuracy."""
    net, turns = deep(4, nn.BatchNorm1d), []
    weight = linears(net)[1].weight
    for step in range(steps):
        old = weight.detach().cpu().double()
        train(net, rate, steps=1, size=32, seed=step, decay=decay)
        new = weight.detach().cpu().double()
        turns.append(F.cosine_similarity(old, new).clamp(max=1).acos())
    late = torch.stack(turns[-steps // 4 :]).square().mean().sqrt().item()
    return weight.norm().item(), late, accuracy(net)


print(f"{'η':>6}{'λ':>7}{'length':>9}{'turn per step':>15}{'predicted':>11}{'accuracy':>10}")
for rate, decay in [(0.5, 0.01), (0.1, 0.05), (0.05, 0.1), (0.1, 0.0)]:
    length, turn, score = turning(rate, decay, 3 * steps)
    predicted = math.sqrt(2 * rate * decay)
    print(f"{rate:6}{decay:7}{length:9.2f}{turn:15.3f}{predicted:11.3f}{score:10.1%}")

# %% [markdown]
# (`decay` here reaches all parameters.) Without decay the turn per step falls by itself, like a
# schedule that nobody has written. With it the net keeps learning at the pace $\eta\lambda$ sets;
# to come to rest the rate itself must fall. Two practical rules follow: tune $\eta$ and $\lambda$
# together; and exclude $\gamma$, $\beta$ and biases from decay, since their size *is* part of the
# function.
#
# ## 9. LayerNorm, InstanceNorm, GroupNorm
#
# All of them subtract a mean and divide by a standard deviation. They differ only in *which numbers
# are averaged together*. One can ask the layers: take one output (dot) and see on which inputs its
# gradient depends. Four examples, six channels, each $3 \times 3$ pixels:

# %%
shape, at = (4, 6, 3, 3), (1, 2, 1, 1)
LAYERS = {
    "BatchNorm": nn.BatchNorm2d(6),
    "LayerNorm": nn.LayerNorm([6, 3, 3]),
    "InstanceNorm": nn.InstanceNorm2d(6),
    "GroupNorm, 3 groups": nn.GroupNorm(3, 6),
    "per pixel": lambda x: F.layer_norm(x.movedim(1, -1), [6]).movedim(-1, 1),
}
fig, axes = plt.subplots(1, 5, figsize=(9.8, 2.2))
for ax, (name, layer) in zip(axes, LAYERS.items(), strict=True):
    x = torch.randn(shape, requires_grad=True)
    (slope,) = torch.autograd.grad(layer(x)[at], [x])
    used = (slope != 0).float()  # (4, 6, 3, 3)
    tiles = F.pad(used, (0, 1, 0, 1), value=math.nan)  # a white gap after every map
    ax.imshow(tiles.permute(0, 2, 1, 3).reshape(16, 24), cmap="gray_r", vmin=-0.15, vmax=1.6)
    ax.plot(4 * at[1] + at[3], 4 * at[0] + at[2], "ko", ms=4)
    ax.set(xticks=[1, 5, 9, 13, 17, 21], yticks=[1, 5, 9, 13])
    ax.set(xticklabels=range(1, 7), yticklabels=range(1, 5), xlabel="channel")
    ax.grid(False)
    ax.set_title(f"{name}: {int(used.sum())}", fontsize=9)
axes[0].set_ylabel("example")
fig.suptitle("Dark: the inputs that share mean and variance with the dotted output, and how many")
plt.show()

# %% [markdown]
# Only BatchNorm crosses from one example to another. All the rest need no running statistics, have
# no second mode, work with a batch of one, and know no batch-mates. In formulas, for example $b$
# and a set $S$ of positions $(c, h, w)$:
#
# $$ \mu_{b} = \frac{1}{|S|} \sum_{(c,h,w) \in S} x_{bchw} , \qquad
# v_{b} = \frac{1}{|S|} \sum_{(c,h,w) \in S} (x_{bchw} - \mu_{b})^2 , $$
#
# where $S$ is everything (LayerNorm, Ba et al. 2016), one channel (InstanceNorm, Ulyanov et al.
# 2016), a group of $C/G$ channels (GroupNorm, Wu and He 2018), or all channels of one pixel or
# token (LayerNorm as transformers use it, over the last axis alone). $\gamma$ and $\beta$ are per
# channel, except that `nn.LayerNorm([C, H, W])` has them for every position, and
# `nn.InstanceNorm2d` has none unless asked with `affine=True`. GroupNorm is the general case:

# %%
x = torch.randn(4, 6, 3, 5) * 3 + 2
one, six = F.group_norm(x, 1), F.group_norm(x, 6)
print("one group is LayerNorm:", torch.allclose(one, F.layer_norm(x, [6, 3, 5]), atol=1e-5))
print("a group a channel is InstanceNorm:", torch.allclose(six, F.instance_norm(x), atol=1e-5))
rows = torch.randn(5, 8)
ours = batch_norm(rows.T, torch.ones(5), torch.zeros(5)).T  # examples and features exchanged
print(
    "LayerNorm is BatchNorm of the transpose:",
    torch.allclose(ours, F.layer_norm(rows, [8]), atol=1e-5),
)
g, gamma, ones = torch.randn(5, 8), torch.randn(8), torch.ones(5)
leaf = rows.clone().requires_grad_()
(theirs,) = torch.autograd.grad((F.layer_norm(leaf, [8], gamma) * g).sum(), [leaf])
ours = batch_norm_backward((gamma * g).T, rows.T, ones)[0].T
print("... and backward, with γ g for g:", torch.allclose(ours, theirs, atol=1e-5))
layer = nn.LayerNorm(8)
same = torch.equal(layer.train()(rows), layer.eval()(rows)) and not list(layer.buffers())
print("LayerNorm: the same in both modes, no buffers:", same)

# %% [markdown]
# The third line saves a derivation: section 4 holds with rows for columns. One difference: in
# LayerNorm $\gamma$ varies *along* the averaged axis, so it has to be multiplied in before the
# averages are taken: $\gamma_c\, g_{bc}$ takes the place of $g_{bc}$.
#
# What LayerNorm does not see: multiply an example by $a \ne 0$. Its mean becomes $a\mu$, its
# standard deviation $|a|\,s$, so (without $\gamma$, $\beta$, $\varepsilon$)
#
# $$ \operatorname{LN}(a\mathbf{x}) = \frac{a\mathbf{x} - a\mu}{|a|\,s} = \operatorname{sign}(a)
# \operatorname{LN}(\mathbf{x}) . $$
#
# Often quoted without the sign. A negative image becomes a negative output, not the same one. And
# $\varepsilon$ has the last word on very small inputs:

# %%
x = torch.tensor([1.0, 2.0, 6.0])
for a in (1.0, 1000.0, -2.0, 1e-3, 1e-6):
    print(f"LN({a:g} x) =", [round(v, 3) for v in F.layer_norm(a * x, [3]).tolist()])

# %% [markdown]
# **RMSNorm** (Zhang and Sennrich 2019) leaves out the mean: $y_c = \gamma_c\, x_c /
# \sqrt{\frac1D \sum_{c'} x_{c'}^2 + \varepsilon}$, $D$ the number of features. No centring, no
# $\beta$, one sum instead of two; the direction of $\mathbf{x}$ stays. It is what most large
# language models use since LLaMA (2023).
#
# | layer | averages over | where today |
# |---|---|---|
# | BatchNorm | batch and pixels, per channel | convolutional nets: ResNet, EfficientNet |
# | LayerNorm | features of one token | transformers: BERT, GPT-2, ViT |
# | RMSNorm | the same, without the mean | large language models: LLaMA and after |
# | InstanceNorm | pixels of one channel | style transfer, image-to-image nets |
# | GroupNorm | pixels of a few channels | detection with small batches, diffusion U-Nets |
#
# Back to the contest of section 1 (one number per channel, so InstanceNorm has nothing to average):

# %%
x = torch.randn(2, 5)
ours = x / (x.square().mean(1, keepdim=True) + 1e-5).sqrt()
print("RMSNorm:", torch.allclose(ours, F.rms_norm(x, [5], eps=1e-5), atol=1e-6))
enter("LayerNorm", nn.LayerNorm)
enter("GroupNorm, 8 groups", lambda units: nn.GroupNorm(8, units))
show_contest("Only BatchNorm bears the large rates")

# %% [markdown]
# Not what one would guess from the formulas. Both new layers rescue torch's default start, which
# was dead at every rate. But at large rates they fail, even sooner than the bare net from He's
# start. What have they given up together with the batch? Look at the units after training:


# %%
@torch.no_grad()
def silent(net: nn.Sequential) -> list[float]:
    """For each ReLU: share of its units that are 0 for every training digit."""
    net.eval()
    h, shares = x_train, []
    for layer in net:
        h = layer(h)
        if isinstance(layer, nn.ReLU):
            shares.append((h.amax(0) == 0).float().mean().item())
    return shares


for name, norm in controls.items():
    for rate in (0.1, 0.3, 1.0):
        net = deep(10, norm)
        train(net, rate)
        shares = " ".join(f"{share:4.0%}" for share in silent(net))
        print(f"{name}, η = {rate:3}: silent units in layers 1 to 9: {shares}")

# %% [markdown]
# A unit that is silent for all digits gets no gradient: it comes back only if the layers below
# happen to wake it. LayerNorm controls the *sum* over the units of one example; a single unit may
# sink for ever. BatchNorm centres each unit over the batch: unless $\beta$ says otherwise, some
# examples always lie above the mean. Of the three in the contest it alone keeps every unit alive.
# Transformers get by without: residual connections, warm-up and Adam with small rates make large
# steps unnecessary.

# %% [markdown]
# ## 10. Free of charge: no bias, and folding
#
# **No bias before BatchNorm.** A constant $b_c$ that the layer below adds to column $c$ moves the
# mean by $b_c$, and the mean is subtracted. So $b_c$ has no effect and a gradient of exactly zero
# (up to rounding). Its work is done by $\beta_c$. Hence `nn.Conv2d(..., bias=False)` before every
# BatchNorm, in all the nets of unit 02 that have one.
#
# **Folding.** In eval mode $\bar\mu$ and $\bar v$ are constants, and BatchNorm is a line with the
# slope $\gamma/\sqrt{\bar v + \varepsilon}$. A linear map followed by a line is a linear map. With
# $W$ of shape $(C_\text{out}, C_\text{in}, k, k)$, output channel $c$, and $b_c = 0$ if there is no
# bias:
#
# $$ \gamma_c \frac{(W_c * x) + b_c - \bar\mu_c}{\sqrt{\bar v_c + \varepsilon}} + \beta_c
# = \underbrace{\frac{\gamma_c}{\sqrt{\bar v_c + \varepsilon}} W_c}_{W'_c} * x +
# \underbrace{\beta_c + \frac{\gamma_c (b_c - \bar\mu_c)}{\sqrt{\bar v_c + \varepsilon}}}_{b'_c} .
# $$


# %%
def stack(depth: int, norm: bool = True, channels: int = 16, drop: float = 0.0) -> nn.Sequential:
    """`depth` 3x3 convolutions on 8 x 8 digits, pooling in the middle, one linear layer."""
    torch.manual_seed(0)
    layers: list[nn.Module] = [nn.Unflatten(1, (1, 8, 8))]
    for k in range(depth):
        layers.append(nn.Conv2d(channels if k else 1, channels, 3, padding=1, bias=not norm))
        layers += [nn.BatchNorm2d(channels)] if norm else []
        layers += [nn.ReLU()] + ([nn.MaxPool2d(2)] if k == depth // 2 else [])
    head = [nn.Flatten(), nn.Dropout(drop), nn.Linear(channels * 16, 10)]
    return nn.Sequential(*layers, *head).to(device)


# %%
@torch.no_grad()
def fold(conv: nn.Conv2d, norm: nn.BatchNorm2d) -> nn.Conv2d:
    """One convolution that does what `conv` and then `norm` do in eval mode."""
    mean, var = norm.get_buffer("running_mean"), norm.get_buffer("running_var")
    slope = norm.weight / (var + norm.eps).sqrt()  # (C,)
    bias = 0 if conv.bias is None else conv.bias
    both = copy.deepcopy(conv)
    both.weight.mul_(slope[:, None, None, None])
    both.bias = nn.Parameter(norm.bias + slope * (bias - mean))
    return both


def folded(net: nn.Sequential) -> nn.Sequential:
    """The net with every pair (convolution, BatchNorm) replaced by one convolution."""
    layers = list(net)
    for k in reversed(range(len(layers) - 1)):
        conv, norm = layers[k : k + 2]
        if isinstance(conv, nn.Conv2d) and isinstance(norm, nn.BatchNorm2d):
            layers[k : k + 2] = [fold(conv, norm)]
    return nn.Sequential(*layers).eval()


# %%
def milliseconds(net: nn.Module, runs: int = 3 if grade else 60) -> float:
    """Median time for one image."""
    times = []
    for _ in range(runs):
        start = time.perf_counter()
        with torch.no_grad():
            net(x_valid[:1]).cpu()  # waits for a GPU, too
        times.append(1000 * (time.perf_counter() - start))
    return sorted(times)[runs // 2]


net = stack(12)
train(net, rate=0.1, steps=steps // 4)  # so that γ, β and the statistics are no longer 1 and 0
net.eval()
short = folded(net)
with torch.no_grad():
    a, b = net(x_valid), short(x_valid)
difference, largest = (a - b).abs().max(), a.abs().max()
print(f"largest difference of the logits {difference:.0e}, of logits up to {largest:.0f}")
for name, each in {"convolution, BatchNorm": net, "folded": short}.items():
    numbers = sum(v.numel() for v in each.state_dict().values() if v.is_floating_point())
    print(f"{name:23}{len(each):3} layers, {numbers:,} numbers kept,", end=" ")
    print(f"{milliseconds(each):.2f} ms an image")
pixels = 7 * 64 + 5 * 16  # seven layers before the pooling, five behind it
products = 64 * 9 * 16 + 6 * 64 * 9 * 16 * 16 + 5 * 16 * 9 * 16 * 16
print(f"multiplications: {pixels * 16:,} in BatchNorm, {products:,} in convolutions")
conv = next(layer for layer in net if isinstance(layer, nn.Conv2d))
norm = next(layer for layer in net if isinstance(layer, nn.BatchNorm2d))
ours, torchs = fold(conv, norm), nn.utils.fusion.fuse_conv_bn_eval(conv, norm)
print("torch's fusion, the same:", torch.allclose(ours.weight, torchs.weight, atol=1e-6))

# %% [markdown]
# The arithmetic of BatchNorm is under a hundredth of the convolutions', yet the time saved is far
# more than that: each layer reads and writes all activations once more, and each call costs
# something of its own. Every deployment tool does this (unit 12). It works in eval mode only, and
# for a BatchNorm *behind* the convolution. In front of a padded convolution it fails at the rim:
# the padding is 0 after BatchNorm, not before.

# %% [markdown]
# ## 11. The opposite trouble: learning too well
#
# So far we fought to make nets train. Now they do. How far will they go? We give the training
# digits *random labels*: the true ones in shuffled order, so that nothing connects an image with
# its label. There is nothing to learn. One net, two hidden layers of 256 units, once with the true
# labels, once with these:


# %%
def wide(drop: float = 0.0, seed: int = 0) -> nn.Sequential:
    """64-256-256-10 with ReLU; dropout (section 12) behind both hidden layers."""
    torch.manual_seed(seed)
    sizes, layers = [64, 256, 256], []
    for a, b in itertools.pairwise(sizes):
        layers += [nn.Linear(a, b), nn.ReLU(), nn.Dropout(drop)]
    return nn.Sequential(*layers, nn.Linear(256, 10)).to(device)


# %%
def fit(net: nn.Module, x: Tensor, y: Tensor, epochs: int, rate: float, decay: float = 0.0,
        size: int = 32) -> dict[str, list[float]]:  # fmt: skip
    """SGD with momentum 0.9; loss and accuracy on both splits after every epoch, in eval mode."""
    optimiser = torch.optim.SGD(net.parameters(), lr=rate, momentum=0.9, weight_decay=decay)
    draws = torch.Generator().manual_seed(0)
    history: dict[str, list[float]] = {"loss": [], "valid loss": [], "train": [], "valid": []}
    for _ in range(epochs):
        net.train()
        for rows in torch.randperm(len(x), generator=draws).to(device).split(size):
            optimiser.zero_grad()
            F.cross_entropy(net(x[rows]), y[rows]).backward()
            optimiser.step()
        net.eval()
        for name, key, a, b in [("loss", "train", x, y), ("valid loss", "valid", x_valid, y_valid)]:
            with torch.no_grad():
                z = net(a)
            history[name].append(F.cross_entropy(z, b).item())
            history[key].append((z.argmax(1) == b).float().mean().item())
    return history


# %%
draws = torch.Generator().manual_seed(1)
nonsense = y_train[torch.randperm(len(y_train), generator=draws).to(device)]
runs = {
    name: fit(wide(), x_train, labels, 2 if grade else 45, rate=0.05, size=64)
    for name, labels in {"true labels": y_train, "random labels": nonsense}.items()
}
fig, axes = plt.subplots(1, 2, figsize=(8.2, 2.7), sharey=True)
for ax, (name, run) in zip(axes, runs.items(), strict=True):
    for key in ("train", "valid"):
        ax.plot(range(1, len(run[key]) + 1), run[key], label=key)
    ax.set(xlabel="epoch", ylim=(0, 1.03))
    ax.set_title(f"{name}: training {run['train'][-1]:.0%}, validation {run['valid'][-1]:.0%}")
axes[0].set_ylabel("accuracy")
axes[1].legend(loc="center right")
plt.show()
count = sum(p.numel() for p in wide().parameters())
print(
    f"{count:,} parameters; {len(y_train):,} labels hold {len(y_train) * math.log2(10):,.0f} bits"
)

# %% [markdown]
# **The third surprise: it learns the nonsense, all of it.** Same net, same optimiser, only a few
# times as many epochs (Zhang et al. 2017 did it with ImageNet). So a training accuracy of 100 %
# proves nothing at all, and neither the size of the net nor the optimiser *prevents* learning by
# heart. What keeps the net on the left from doing so? That with true labels the rule is learnt
# sooner than the exceptions. Look at the right curve: it is slow. This difference in speed can be
# used.
#
# ### Overfitting curves, and three brakes
#
# A realistic case between the two: 300 digits, of which 30 % got a label drawn at random. Measured
# on validation digits with correct labels.

# %%
few = torch.randperm(len(x_train), generator=draws)[:300].to(device)
x_few, y_few = x_train[few], y_train[few].clone()
hit = (torch.rand(300, generator=draws) < 0.3).to(device)
y_few[hit] = torch.randint(10, (int(hit.sum()),), generator=draws).to(device)

brakes = {
    "none": (0.0, 0.0),
    "weight decay 0.01": (0.0, 0.01),
    "dropout ½": (0.5, 0.0),
    "both": (0.5, 0.01),
}
overfit = {
    name: fit(wide(drop), x_few, y_few, 3 if grade else 60, rate=0.02, decay=decay)
    for name, (drop, decay) in brakes.items()
}
fig, axes = plt.subplots(1, 2, figsize=(8.6, 2.8))
for (name, run), marker in zip(overfit.items(), MARKERS, strict=False):
    for ax, key in zip(axes, ("loss", "valid loss"), strict=True):
        epochs = range(1, len(run[key]) + 1)
        ax.plot(epochs, run[key], marker=marker, markevery=8, label=name)
axes[0].set(xlabel="epoch", ylabel="loss on the 300", ylim=(0, 2.4))
axes[1].set(xlabel="epoch", ylabel="loss on validation digits", ylim=(0, 2.4))
axes[1].legend()
fig.suptitle("Learnt by heart, sooner or later: the validation loss turns back up")
plt.show()

# %%
print(f"{'brake':20}{'training labels':>16}{'validation, at the end':>24}{'stopped early':>22}")
for name, run in overfit.items():
    best = min(range(len(run["valid loss"])), key=run["valid loss"].__getitem__)
    print(f"{name:20}{run['train'][-1]:16.0%}{run['valid'][-1]:24.1%}", end="")
    print(f"{run['valid'][best]:12.1%}, epoch {best + 1}")

# %% [markdown]
# - **Early stopping**: keep a copy of the weights with the lowest validation loss so far; stop when
#   there was no better one for some epochs; go back to the copy. It uses just that difference in
#   speed, costs nothing, and here does more than any other brake. (The validation digits are used
#   up by it, as by every choice: unit 00.)
# - **Weight decay** (this net has no BatchNorm, so here it means what unit 00 says) and **dropout**
#   slow down learning by heart and soften its damage. Together they do most.
# - More data, or data made from data (unit 04), is better than all of them.
#
# ## 12. Dropout
#
# Hinton and his group (2012; Srivastava et al. 2014) asked why a unit should rely on company. While
# training, switch each unit off at random; then it has to be useful in many companies, and cannot
# specialise in correcting one partner's errors. Let $\mathbf{h}$ be a layer's output of $D$ numbers
# and $m_d \in \{0, 1\}$ independent coins. Which probability is called $p$ differs:
#
# | source | p is the probability to | in training | in use |
# |---|---|---|---|
# | Srivastava et al., *direct* | keep | `m * h` | weights times `p` |
# | torch, Keras, *inverted* | drop | `m * h / (1 - p)` | nothing to do |
# | cs231n notes, inverted | keep | `m * h / p` | nothing to do |
#
# This course follows torch. With $P(m_d = 1) = 1 - p$,
#
# $$ \mathbb{E}\Big[\frac{m_d h_d}{1-p}\Big] = \frac{(1-p)\, h_d}{1 - p} = h_d , \qquad
# \operatorname{Var}\Big[\frac{m_d h_d}{1-p}\Big] = \frac{h_d^2\,(1-p)}{(1-p)^2} - h_d^2 =
# \frac{p}{1-p}\, h_d^2 . $$
#
# Dividing while training keeps the *mean* right, so that in use the layer is the identity. All four
# cases of two units, $\mathbf{h} = (2, 4)$ and $p = \frac12$:


# %%
def dropout(h: Tensor, p: float, training: bool, draws: torch.Generator | None = None) -> Tensor:
    """Inverted dropout: each number is 0 with probability p, else divided by 1 - p."""
    if not training or p == 0:
        return h
    kept = torch.rand(h.shape, generator=draws) >= p
    return h * kept.to(h.device) / (1 - p)


h, p = torch.tensor([2.0, 4.0]), 0.5
cases = torch.tensor(list(itertools.product([0.0, 1.0], repeat=2)))
for mask in cases:
    print(f"coins {mask.tolist()}: {(h * mask / (1 - p)).tolist()}")
print("mean of the four:", (h * cases / (1 - p)).mean(0).tolist())
many = dropout(h.expand(100_000, 2), 0.1, training=True, draws=torch.Generator().manual_seed(0))
print("p = 0.1, 100,000 draws: mean", [round(v, 2) for v in many.mean(0).tolist()], end=", ")
print(
    "variance",
    [round(v, 2) for v in many.var(0).tolist()],
    "predicted",
    [round(v / 9, 2) for v in (4.0, 16.0)],
)

# %% [markdown]
# Backward is the same mask once more: $\partial L/\partial h_d = \frac{m_d}{1-p}\, g_d$.
#
# ### An ensemble of $2^D$ nets
#
# Each mask makes another, smaller net; they all share their weights. Using the full net instead of
# averaging $2^D$ of them, is that justified? For a linear layer with softmax, *exactly*, if the
# average is the geometric one. Let $P(k \mid \mathbf{m}) \propto \exp \sum_d W_{kd}\, m_d h_d$
# (direct, keep probability ½, all $2^D$ masks equally likely). The logarithm of the geometric mean
# of all of them is the mean of the logarithms,
#
# $$ \frac{1}{2^D} \sum_{\mathbf{m}} \ln P(k \mid \mathbf{m}) = \sum_d W_{kd}\, h_d
# \underbrace{\frac{1}{2^D} \sum_{\mathbf{m}} m_d}_{=\,1/2} - \frac{1}{2^D} \sum_{\mathbf{m}} \ln
# \sum_{j} e^{\sum_d W_{jd} m_d h_d} , $$
#
# and the last term is the same for every class $k$, so it disappears when the result is normalised:
# what remains is the softmax with the weights $\frac12 W$. That is where "times $p$" comes from.

# %%
draws = torch.Generator().manual_seed(0)
h, weight = torch.randn(10, generator=draws), torch.randn(3, 10, generator=draws)
masks = torch.tensor(list(itertools.product([0.0, 1.0], repeat=10)))  # all 1024
log_probs = ((masks * h) @ weight.T).log_softmax(1)  # (1024, 3)
for name, found in {
    "geometric mean of 1,024 nets": log_probs.mean(0).softmax(0),
    "one net with half the weights": (0.5 * h @ weight.T).softmax(0),
    "arithmetic mean of 1,024 nets": log_probs.exp().mean(0),
    "one net with the full weights": (h @ weight.T).softmax(0),
}.items():
    print(f"{name:32}", " ".join(f"{v:.4f}" for v in found.tolist()))

# %% [markdown]
# Equal to the last digit. Through several layers with ReLU it is an approximation, and how good a
# one has to be measured. The net of section 11 with dropout, on the validation digits: one mask,
# the average over many, and the one pass without masks.

# %%
net = wide(0.5)
run = fit(net, x_few, y_few, 3 if grade else 20, rate=0.02)  # about where it would be stopped
net.eval()
with torch.no_grad():
    whole = net(x_valid).softmax(1)
    net.train()
    sampled = torch.stack([net(x_valid).softmax(1) for _ in range(10 if grade else 300)])
right = (sampled.argmax(2) == y_valid).float().mean(1)
print(f"one random mask     {right.mean():.1%} (from {right.min():.1%} to {right.max():.1%})")
for k in (3, 10, 300):
    score = (sampled[:k].mean(0).argmax(1) == y_valid).float().mean()
    print(f"mean of {k:3} masks   {score:.1%}")
print(f"eval mode, one pass {(whole.argmax(1) == y_valid).float().mean():.1%}")
apart = (sampled.mean(0) - whole).abs().max(1).values
print(f"probabilities differ by {apart.mean():.3f} on average, {apart.max():.2f} at most")
average = sampled.mean(0).amax(1).mean()
print(f"mean confidence: average {average:.2f}, eval mode {whole.amax(1).mean():.2f}")

# %% [markdown]
# One pass does nearly as well as hundreds. (The average is the less sure of the two; its spread can
# serve as a measure of doubt, "Monte Carlo dropout", Gal and Ghahramani 2016.)
#
# ### Dropout in front of BatchNorm
#
# Dropout keeps the mean but not the variance: it adds $\frac{p}{1-p} h^2$, in training only.
# A BatchNorm behind it stores the variance *with* that term and uses it when the term is gone (Li
# et al. 2019). For $h = \operatorname{ReLU}(z)$ with standard normal $z$, section 7 gave
# $\mathbb{E}[h^2] = \frac12$ and $\operatorname{Var}(h) = \frac{\pi - 1}{2\pi}$. With $p = \frac12$
# the stored variance is $\frac{\pi-1}{2\pi} + \frac12$, and in eval mode what BatchNorm sends on
# has a standard deviation well below 1:

# %%
layers = nn.Sequential(nn.ReLU(), nn.Dropout(0.5), nn.BatchNorm1d(64, momentum=None))
draws = torch.Generator().manual_seed(0)
for _ in range(20):
    layers(torch.randn(1000, 64, generator=draws))
out = layers.eval()(torch.randn(1000, 64, generator=draws)).detach()
v = (math.pi - 1) / (2 * math.pi)
predicted = math.sqrt(v / (v + 0.5))
print(f"standard deviation in eval mode {out.std(0).mean():.3f}, predicted {predicted:.3f}")

# %% [markdown]
# The next layers were trained for 1. So dropout goes *behind* the last BatchNorm, most often just
# before the last linear layer; convolutional nets with BatchNorm often have none at all.
# Transformers, whose LayerNorm stores nothing, use it freely.
#
# ## 13. Ensembles
#
# If averaging over crippled copies helps, what about averaging over grown-up nets? Train several
# from different starts, average their *probabilities* (not their weights). For any nets $P_1,
# \dots, P_M$ and the right class $y$, as $-\ln$ is convex (Jensen),
#
# $$ -\ln \Big( \frac1M \sum_{i=1}^{M} P_i(y) \Big) \;\le\; \frac1M \sum_{i=1}^{M} -\ln P_i(y) : $$
#
# the average's loss is never above the average loss, on any example. For the accuracy nothing of
# the kind holds, yet mostly it rises: errors that come from the start differ from net to net and
# are outvoted, those that come from the data stay. Eight nets on the 300 digits, and all subsets of
# one to eight of them:

# %%
members = []
for seed in range(2 if grade else 8):
    net = wide(seed=seed)
    train(net, rate=0.1, steps=2 * steps, size=32, seed=seed, x=x_few, y=y_few)
    net.eval()
    with torch.no_grad():
        members.append(net(x_valid).softmax(1))
stacked, count = torch.stack(members), len(members)
mean_of, spread_of, loss_of = [], [], []
for k in range(1, count + 1):
    subsets = [stacked[list(c)].mean(0) for c in itertools.combinations(range(count), k)]
    scores = torch.tensor([(q.argmax(1) == y_valid).float().mean().item() for q in subsets])
    mean_of.append(scores.mean())
    spread_of.append(scores.std(unbiased=False))
    loss_of.append(sum(F.nll_loss(q.log(), y_valid).item() for q in subsets) / len(subsets))

fig, axes = plt.subplots(1, 2, figsize=(7.6, 2.6))
axes[0].errorbar(range(1, count + 1), mean_of, spread_of, marker="o", capsize=3)
axes[0].set(xlabel="nets averaged", ylabel="validation accuracy")
axes[1].plot(range(1, count + 1), loss_of, "s-", color=COLOURS[1])
axes[1].set(xlabel="nets averaged", ylabel="validation loss")
fig.suptitle("All subsets of eight nets, each of which has learnt the wrong labels by heart")
plt.show()

# %% [markdown]
# The gain is real but modest: most errors here come from the wrong labels, and those all members
# share. Early stopping in section 11, which attacks the cause, brought several times as much. The
# price of an ensemble is $M$ times the work, in training and in use. Dropout is a cheap relative,
# bagging (Breiman 1996: a resampled training set for each member) an older one.
#
# ## 14. Everything together: twelve convolutions
#
# The net `stack(12)`, from torch's default start, with and without its BatchNorms. Everything else
# is the same: dropout before the last layer, weight decay, momentum, early stopping on the
# validation loss. The goal, set beforehand: 97 % of the test digits, which are opened once.


# %%
def finish(net: nn.Module, epochs: int) -> tuple[list[float], int]:
    """Train; put the best epoch's state back (buffers, too); validation losses and that epoch."""
    optimiser = torch.optim.SGD(net.parameters(), lr=0.05, momentum=0.9, weight_decay=1e-3)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, epochs)
    draws, losses, best = torch.Generator().manual_seed(0), [], {}
    for _ in range(epochs):
        net.train()
        for rows in torch.randperm(len(x_train), generator=draws).to(device).split(64):
            optimiser.zero_grad()
            F.cross_entropy(net(x_train[rows]), y_train[rows]).backward()
            optimiser.step()
        schedule.step()
        net.eval()
        with torch.no_grad():
            losses.append(F.cross_entropy(net(x_valid), y_valid).item())
        if losses[-1] == min(losses):
            best = copy.deepcopy(net.state_dict())
    net.load_state_dict(best)
    return losses, losses.index(min(losses)) + 1


# %%
epochs = 1 if grade else 12
normed, bare = stack(12, drop=0.3), stack(12, norm=False, drop=0.3)
fig, ax = plt.subplots(figsize=(6.2, 2.6))
for name, net in {"with BatchNorm": normed, "without": bare}.items():
    losses, best = finish(net, epochs)
    ax.plot(range(1, epochs + 1), losses, marker="o", label=f"{name}: epoch {best} kept")
ax.set(xlabel="epoch", ylabel="validation loss", yscale="log")
ax.set_title("Twelve convolutions on the digits")
ax.legend(loc="center right")
plt.show()

# %%
means = torch.stack([x_train[y_train == k].mean(0) for k in range(10)])
nearest = (torch.cdist(x_test, means).argmin(1) == y_test).float().mean().item()
linear = nn.Linear(64, 10).to(device)
train(linear, rate=0.1, steps=2 * steps)
answers = {
    "nearest class mean": nearest,
    "linear classifier": accuracy(linear, x_test, y_test),
    "twelve convolutions, without": accuracy(bare, x_test, y_test),
    "twelve convolutions, BatchNorm": accuracy(normed, x_test, y_test),
    "the same, folded": accuracy(folded(normed.eval()), x_test, y_test),
}
for name, a in answers.items():
    print(f"{name:32}{a:6.1%} ± {math.sqrt(a * (1 - a) / len(y_test)):.1%} of the test digits")

# %%
with torch.no_grad():
    sure, guess = normed.eval()(x_test).softmax(1).max(1)
wrong = (guess != y_test).nonzero().flatten()[:6].tolist()
doubt = [i for i in sure.argsort().tolist() if i not in wrong][: 10 - len(wrong)]
fig, axes = plt.subplots(1, 10, figsize=(9.6, 1.7))
for ax in axes:
    ax.axis("off")
for ax, i in zip(axes, doubt + wrong, strict=True):
    ax.imshow(data.test_x[i].view(8, 8).cpu(), cmap="gray_r")
    ax.set_title(f"says {guess[i]}, {sure[i]:.0%}\nis {y_test[i]}", fontsize=8)
fig.suptitle("Left: right, but the least sure. Right: the wrong ones (six at most)")
plt.show()

# %% [markdown]
# The net without normalisation says the same for every digit, as in section 1. (The other's first
# validation loss is as bad or worse: running statistics lag behind, section 3.) With BatchNorm
# twelve layers are no harder than two, and what is left to do for dropout, decay and early stopping
# is fine tuning.
#
# ## 15. One experiment for you
#
# In section 1 the line stands *before* the ReLU. Put it behind: in `deep` exchange `norm(64)` and
# `nn.ReLU()`. Guess first: does the net still train, and at which rates? Then start from He with a
# rate of 1, remove all but one of the nine BatchNorms, and ask where the one has to stand: behind
# the first layer, in the middle, before the last? (By section 7 it makes the length of the weights
# irrelevant, but of which layers? ReLU lets a factor $a > 0$ pass.)
#
# ## 16. History and practice
#
# - **Before**: inputs were normalised (LeCun et al. 1998). AlexNet (2012) divided each activation
#   by a sum over neighbouring channels, *local response normalisation*; VGG's authors found no gain
#   in it, and it went out of use.
# - **2015**: BatchNorm. The Inception net of the time reached its accuracy with fourteen times
#   fewer steps, the authors report; ResNets of over a hundred layers, a few months later, have one
#   behind every convolution.
# - **2016-2019**: LayerNorm for recurrent nets, where every step would need statistics of its own;
#   it became the transformer's (2017). InstanceNorm for style transfer, GroupNorm for detection,
#   where an image fills the memory and $B$ is 1 or 2; RMSNorm.
# - **Dropout** (2012) was what AlexNet's fully connected layers needed. Where BatchNorm,
#   augmentation and global average pooling came, it went; in transformers it is common, in the
#   largest language models, which see each text about once, often 0.
# - **Today**: convolutional nets use BatchNorm, folded when deployed, or GroupNorm; transformers
#   LayerNorm or RMSNorm in front of each block (unit 06); fine-tuning keeps BatchNorm in eval mode
#   (unit 04). Brock et al. (2021) trained ImageNet nets without any normalisation, with scaled
#   weights and clipped gradients: it is one way, not the only one.
#
# | by hand in this unit | in practice |
# |---|---|
# | `batch_norm` | `nn.BatchNorm1d`, `nn.BatchNorm2d`; several machines: `nn.SyncBatchNorm` |
# | fresh averages | `BatchNorm(momentum=None)`, `torch.optim.swa_utils.update_bn` |
# | layer, group, RMS | `nn.LayerNorm`, `nn.GroupNorm`, `nn.RMSNorm` |
# | folding | `torch.nn.utils.fusion.fuse_conv_bn_eval` |
# | dropout | `nn.Dropout(p)`: $p$ drops; whole channels: `nn.Dropout2d` |
# | decay without $\gamma$, $\beta$, biases | two parameter groups in the optimiser |

# %%
net = stack(2)
matrices = [p for p in net.parameters() if p.dim() > 1]
vectors = [p for p in net.parameters() if p.dim() <= 1]  # biases, γ and β
groups = [{"params": matrices, "weight_decay": 0.01}, {"params": vectors, "weight_decay": 0.0}]
optimiser = torch.optim.SGD(groups, lr=0.1)
print("tensors with decay:", len(matrices), " without:", len(vectors))

# %% [markdown]
# ## Summary
#
# 1. BatchNorm standardises each feature over the batch (each channel over batch and pixels), then
#    scales by $\gamma$ and shifts by $\beta$. In use it takes running statistics, which are updated
#    in train mode and by nothing else: `eval()` before every measurement.
# 2. Backward: $\frac{\gamma}{Bs}(B\,\mathbf{g} - \sum g - \hat{\mathbf{x}} \sum g \hat x)$; what
#    would shift or stretch the column is removed, for a batch of two that is everything.
# 3. It makes the length of the weights irrelevant and keeps every unit alive, so that much larger
#    rates are safe; weight decay then sets the pace, a turn of $\sqrt{2\eta\lambda}$ a step.
#    Whether less covariate shift is the reason is disputed.
# 4. LayerNorm, RMSNorm, GroupNorm, InstanceNorm average within one example: no state, no modes, no
#    batch-mates. No bias before BatchNorm, and fold it away before deployment.
# 5. A net can learn random labels by heart. Stop early; decay; drop units ($p$ drops in torch, and
#    survivors are divided by $1 - p$), behind the last BatchNorm; average several nets.

# %% [markdown]
# ## Further reading
#
# - S. Ioffe, C. Szegedy, "Batch normalization: accelerating deep network training by reducing
#   internal covariate shift", ICML 2015: Algorithms 1 and 2, section 3.
# - S. Santurkar, D. Tsipras, A. Ilyas, A. Madry, "How does batch normalization help optimization?",
#   NeurIPS 2018.
# - G. Yang et al., "A mean field theory of batch normalization", ICLR 2019.
# - T. van Laarhoven, "L2 regularization versus batch and weight normalization", 2017.
# - J. Ba, J. Kiros, G. Hinton, "Layer normalization", 2016. Y. Wu, K. He, "Group normalization",
#   ECCV 2018. D. Ulyanov, A. Vedaldi, V. Lempitsky, "Instance normalization", 2016. B. Zhang, R.
#   Sennrich, "Root mean square layer normalization", NeurIPS 2019.
# - N. Srivastava et al., "Dropout: a simple way to prevent neural networks from overfitting",
#   *JMLR* 15 (2014). X. Li, S. Chen, X. Hu, J. Yang, "Understanding the disharmony between
#   dropout and batch normalization by variance shift", CVPR 2019.
# - C. Zhang et al., "Understanding deep learning requires rethinking generalization", ICLR 2017.
# - A. Brock, S. De, S. Smith, K. Simonyan, "High-performance large-scale image recognition without
#   normalization", ICML 2021.
# - I. Goodfellow, Y. Bengio, A. Courville, *Deep Learning* (2016), sections 7.8 (early stopping),
#   7.11 (ensembles) and 7.12 (dropout).
