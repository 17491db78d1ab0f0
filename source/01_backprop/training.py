# %% [markdown]
# # Training a network: activations, initialisation, optimisers, schedules
#
# **Unit 01, notebook 2 of 2.** Allow three hours; the experiments run on the CPU, in about a
# minute on two cores.
#
# *Afterwards you can* write from memory the activations, initialisations, optimisers and
# learning-rate schedules that networks are trained with, say why each is as it is, and find out
# which of them is at fault when a network does not learn.
#
# *You need* tensors and broadcasting (unit 00), the chain rule and backpropagation (the lecture
# of this unit and its notebook `autodiff`).
#
# *How it works.* An exercise is one cell to fill in, followed by a cell of visible tests with
# numbers small enough for paper. The hidden checks ask for what the text and the docstrings
# state, nothing else. The cells between exercises are given: run them, look, read on.

# %% setup=true
import course

course.setup("01_backprop")

# %%
import math
from collections.abc import Callable
from itertools import pairwise

import matplotlib.pyplot as plt
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from course import expect, plots
from course.data import digits
from course.training import History, fit

FULL = course.profile() != "grade"  # the grader runs the same cells with fewer steps

# %% [markdown]
# ## Five networks: which of them learn?
#
# The network below has eight layers and reads handwritten digits of 8 × 8 pixels. Its first
# version learns. Each of the others differs from it in one thing; there is no bug and no wrong
# gradient in any of them. (*Deviation* is short for standard deviation, the root of the
# variance, throughout.) Before you run the cells, guess which of them still learn.


# %%
def first_steps(act=nn.ReLU, std: float | None = None, scale: float = 1.0, lr: float = 0.05):
    """Loss at each of the first steps, with torch's own parts throughout."""
    torch.manual_seed(0)
    data = digits(course.device())
    layers = [nn.Linear(64, 64) for _ in range(7)] + [nn.Linear(64, 10)]
    for layer in layers:
        nn.init.zeros_(layer.bias)
        if std is None:
            nn.init.kaiming_normal_(layer.weight)
        else:
            nn.init.normal_(layer.weight, 0, std)
    parts = [part for layer in layers for part in (layer, act())][:-1]
    net = nn.Sequential(*parts).to(course.device())
    optimiser, losses = torch.optim.SGD(net.parameters(), lr), []
    for _ in range(200 if FULL else 2):
        batch = torch.randint(0, len(data.train_x), (64,))
        loss = F.cross_entropy(net(scale * (data.train_x[batch] - 0.3)), data.train_y[batch])
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        losses.append(loss.item())
    return losses


# %%
changes = {
    "the healthy one": {},
    "weights of deviation 0.01": {"std": 0.01},
    "sigmoid in place of ReLU": {"act": nn.Sigmoid},
    "pixels 0..255, not 0..1": {"scale": 255.0},
    "a learning rate of 2": {"lr": 2.0},
}
fig, ax = plt.subplots(figsize=(6.5, 3))
print(f"{'':28s} first loss   mean of the last 20")
for name, change in changes.items():
    losses = first_steps(**change)
    ax.plot(losses, label=name)
    print(f"{name:28s} {losses[0]:10.3f}   {sum(losses[-20:]) / len(losses[-20:]):10.3f}")
ax.axhline(math.log(10), color="0.5", lw=1, ls="-")
ax.set(xlabel="step", ylabel="training loss", ylim=(0, 4), title="grey line: ln 10")
ax.legend(fontsize=8)
plt.show()

# %% [markdown]
# Four of the five are dead: three rest on the grey line, one overflows. The line is no accident:
# a classifier that gives each of $K$ classes the probability $1/K$ has the cross-entropy
# $-\ln(1/K) = \ln K$, here $\ln 10 = 2.303$.
# **A loss that stays at $\ln K$ belongs to a network that says the same of every input.**
#
# Each part of this notebook brings one of the four back: the scale of the inputs (part 1), the
# activation (2), the initialisation (3), the steps (4 to 6). In part 7 you train a digit reader
# in which every piece is yours.
#
# **Notation.** Batch size $B$, number of inputs and outputs of a layer $n_\text{in}$ and
# $n_\text{out}$, classes $K$, loss $L$, learning rate $\eta$. Vectors are bold, matrices
# capital.

# %% [markdown]
# ## 1. The network and its data
#
# A multilayer perceptron (MLP) with widths $n_0, n_1, \dots, n_d$ has $d$ layers. Layer $l$
# takes $n_{l-1}$ numbers to $n_l$ by a weight matrix $W_l$ of shape $(n_l, n_{l-1})$ and a bias
# $\mathbf b_l$ of shape $(n_l,)$.

# %% [markdown] heading="count_parameters"
# ### Exercise {number} · Counting parameters ({points} points, about 3 min)
#
# How large is a network? You will want the number before you train (memory), and when you
# compare two networks (a fair comparison has equal counts). Count the weights and, if there are
# any, the biases of an MLP:
#
# $$\sum_{l=1}^{d} \left(n_{l-1}\, n_l + n_l\right).$$
#
# The inputs have no parameters of their own. With `bias=False` no layer has a bias. Count by
# arithmetic: build no layers (`nn` and `numel` may not appear).


# %% exercise="count_parameters"
def count_parameters(sizes: list[int], bias: bool = True) -> int:
    """Number of trainable numbers of a multilayer perceptron.

    Args:
        sizes: widths [n_0, n_1, ..., n_d] from the input to the output, at least two.
        bias: whether every layer has a bias.

    Returns:
        The count as an int.
    """
    ### BEGIN SOLUTION
    return sum(n_in * n_out + bias * n_out for n_in, n_out in pairwise(sizes))
    ### END SOLUTION


# %% test="count_parameters"
expect(count_parameters([3, 4, 2]), 26, "count_parameters: 3-4-2")  # 12 + 4 + 8 + 2
expect(count_parameters([3, 4, 2], bias=False), 20, "count_parameters: 3-4-2 without biases")

# %%
for name, sizes in {
    "digits, 8 x 8": [64, 64, 64, 10],
    "MNIST, 28 x 28": [784, 64, 64, 10],
    "a photo, 224 x 224 x 3": [224 * 224 * 3, 64, 64, 10],
}.items():
    total, first = count_parameters(sizes), count_parameters(sizes[:2])
    print(f"{name:24s} {total:10,d} parameters, {first / total:6.1%} of them in the first layer")

# %% [markdown]
# With photographs nearly all of the network is its first layer: a weight for each pixel and each
# unit. That is one reason why images get convolutions (unit 02).

# %% [markdown] heading="standardize"
# ### Exercise {number} · Standardising the inputs ({points} points, about 6 min)
#
# The gradient of a first-layer weight is proportional to its input. A feature that is 255 times
# larger than another has gradients 255 times larger, and no single learning rate suits both. And
# if all features are 255 times larger, as in the fourth network, logits and gradients are huge,
# and the first steps throw the weights so far that they overflow. The cure for both is to give
# every feature $j$ mean 0 and deviation 1:
#
# $$\hat x_{ij} = \frac{x_{ij} - \mu_j}{\sigma_j}, \qquad
# \mu_j = \frac1N \sum_{i=1}^N x_{ij}, \qquad
# \sigma_j = \sqrt{\frac1N \sum_{i=1}^N (x_{ij} - \mu_j)^2},$$
#
# with $N$ rows in the *training* split. $\sigma_j$ is the biased deviation: divide by $N$, not
# $N-1$.
#
# * Validation and test rows are transformed with $\mu$ and $\sigma$ of the training split. They
#   stand for data of the future, of which nothing is known yet, and there may be a single row of
#   it.
# * A feature that is constant on the training split (all its rows are equal, $\sigma_j = 0$) is
#   divided by 1. Every other is divided by its $\sigma_j$ as it is, even one of $10^{-7}$. (In
#   float32 the mean of 1197 times 0.1 is not 0.1, so a $\sigma_j$ computed in two passes is not 0
#   but $2\cdot10^{-8}$. Comparing rows finds such features too. The checks use small whole
#   numbers, whose mean is exact: there $\sigma_j = 0$ and equal rows are the same test.)
# * Features may lie far from zero (around $10^4$, with deviation 1, in float32). There
#   $\sigma^2 = \overline{x^2} - \bar x^2$ subtracts two numbers near $10^8$ that agree in all
#   the digits float32 has. Subtract the mean first.


# %% exercise="standardize"
def standardize(train: Tensor, other: Tensor) -> tuple[Tensor, Tensor]:
    """Standardise features with the statistics of the training split alone.

    Args:
        train: (N, D) floating point, not modified. A feature whose N values are equal is
            divided by 1.
        other: (M, D) of the same dtype, M >= 1, not modified.

    Returns:
        Standardised `train` (N, D) and standardised `other` (M, D), of the same dtype.
    """
    ### BEGIN SOLUTION
    mean = train.mean(dim=0)
    std = train.std(dim=0, correction=0)
    std = torch.where(std == 0, 1.0, std)
    return (train - mean) / std, (other - mean) / std
    ### END SOLUTION


# %% test="standardize"
rows = torch.tensor([[1.0, 7.0, 2.0], [5.0, 7.0, 8.0]])  # means 3, 7, 5; deviations 2, 0, 3
new_train, new_other = standardize(rows, torch.tensor([[9.0, 8.0, 5.0]]))
expect(new_train, [[-1.0, 0.0, -1.0], [1.0, 0.0, 1.0]], "standardize: train")
expect(new_other, [[3.0, 1.0, 0.0]], "standardize: other")


# %%
def standardized_digits():
    """Inputs and classes of the three splits: (train, valid, test), each a pair (x, y)."""
    data = digits(course.device())
    train_x, valid_x = standardize(data.train_x, data.valid_x)
    _, test_x = standardize(data.train_x, data.test_x)
    return (train_x, data.train_y), (valid_x, data.valid_y), (test_x, data.test_y)


(x, _), (x_valid, _), _ = standardized_digits()
fig, axes = plt.subplots(1, 3, figsize=(7, 2.3))
raw = digits().train_x
for ax, values, title in zip(
    axes,
    [raw.mean(0), raw.std(0, correction=0), x.std(0, correction=0).cpu()],
    ["mean of each pixel", "its deviation", "deviation, standardised"],
    strict=True,
):
    picture = ax.imshow(values.reshape(8, 8), vmin=0)
    fig.colorbar(picture, ax=ax, shrink=0.8)
    ax.set(title=title, xticks=[], yticks=[])
plt.show()
print(f"pixels that never change in the training split: {int((x.std(0) == 0).sum())}")
print(f"largest standardised value: {x.max():.1f} in training, {x_valid.max():.1f} in validation")

# %% [markdown]
# The corners and edges of real data are where the edge cases live: some pixels are blank in
# every training image, and without the rule for $\sigma_j = 0$ the first batch would be full of
# NaN. The largest value is $\sqrt{N-1} = 34.6$ with $N = 1197$: this is what a pixel becomes
# that has ink in one image alone. Work it out.

# %% [markdown]
# ## 2. Activations
#
# Without a nonlinearity between them, two layers are one:
# $W_2(W_1\mathbf x) = (W_2W_1)\mathbf x$. The first nonlinearity was a threshold. The neuron of
# McCulloch and Pitts (1943) fires, $y = 1$, if a weighted sum of its inputs reaches a threshold:
# $y = H(\mathbf w\cdot\mathbf x + b)$, a half-plane. Its derivative is zero wherever it exists,
# so gradient descent cannot train it. All that came later are compromises between a threshold
# and something with a useful slope.

# %% [markdown] heading="activations"
# ### Exercise {number} · Six activations ({points} points, about 12 min)
#
# Each function works element by element on a tensor of any shape:
#
# | function | definition | history |
# |---|---|---|
# | $H(x)$ | 1 if $x \ge 0$, else 0; so $H(0) = 1$ | McCulloch and Pitts 1943 |
# | $\sigma(x)$ | $\dfrac{1}{1 + e^{-x}}$ | output as a probability |
# | $\tanh(x)$ | $\dfrac{e^x - e^{-x}}{e^x + e^{-x}} = 2\sigma(2x) - 1$ | centred at 0 |
# | $\mathrm{ReLU}(x)$ | $x$ if $x > 0$, else 0 | Nair and Hinton 2010 |
# | leaky ReLU | $x$ if $x > 0$, else $s\,x$ with slope $0 \le s < 1$ | Maas et al. 2013 |
# | ELU | $x$ if $x > 0$, else $\alpha\,(e^x - 1)$ with $\alpha > 0$ | Clevert et al. 2016 |
#
# **Stability.** In float32 $e^x$ is infinite from $x = 88.8$, and $\infty/\infty$,
# $0\cdot\infty$ and $\infty - \infty$ are NaN. Results have to be finite for every
# $|x| \le 1000$ and right to the precision of the dtype: absolute errors up to $10^{-6}$ in
# float32 and $10^{-12}$ in float64 do not count. Which of the two forms of $\sigma$,
# $1/(1+e^{-x})$ and $e^x/(1+e^x)$, survives $x = 1000$? Which $x = -1000$?
#
# **Rules.** Results have the shape and the dtype of `x`; `x` is not modified. What a library has
# ready may not be called, neither as function nor as method: `sigmoid`, `expit`, `logit`,
# `logsigmoid`, `softplus`, `softmax`, `tanh`, `hardtanh`, `relu`, `rrelu`, `prelu`,
# `leaky_relu`, `threshold`, `elu`, `celu`, `selu`, `heaviside`, anything of `torch.nn` or
# `torch.special`. The rest is free: `exp`, `expm1`, `where`, `clamp`, comparisons, masks.


# %% exercise="activations"
def heaviside(x: Tensor) -> Tensor:
    """1 where x >= 0, else 0, in the dtype of x."""
    ### BEGIN SOLUTION
    return (x >= 0).to(x.dtype)
    ### END SOLUTION


def sigmoid(x: Tensor) -> Tensor:
    """1 / (1 + exp(-x)), finite and right for |x| up to 1000."""
    ### BEGIN SOLUTION
    small = torch.exp(-x.abs())  # in (0, 1]: never overflows
    return torch.where(x >= 0, 1.0, small) / (1 + small)
    ### END SOLUTION


def tanh(x: Tensor) -> Tensor:
    """Hyperbolic tangent, finite and right for |x| up to 1000."""
    ### BEGIN SOLUTION
    return 2 * sigmoid(2 * x) - 1
    ### END SOLUTION


def relu(x: Tensor) -> Tensor:
    """x where x > 0, else 0."""
    ### BEGIN SOLUTION
    return x.clamp(min=0)
    ### END SOLUTION


def leaky_relu(x: Tensor, slope: float = 0.01) -> Tensor:
    """x where x > 0, else slope * x; 0 <= slope < 1."""
    ### BEGIN SOLUTION
    return torch.where(x > 0, x, slope * x)
    ### END SOLUTION


def elu(x: Tensor, alpha: float = 1.0) -> Tensor:
    """x where x > 0, else alpha * (exp(x) - 1); alpha > 0. Finite and right for |x| up to 1000."""
    ### BEGIN SOLUTION
    return torch.where(x > 0, x, alpha * (torch.exp(x) - 1))
    ### END SOLUTION


# %% test="activations"
ln2, ln3 = math.log(2), math.log(3)
x3 = torch.tensor([-2.0, 0.0, 3.0])
expect(heaviside(x3), [0.0, 1.0, 1.0], "heaviside: -2, 0, 3")
expect(heaviside(x3).dtype, torch.float32, "heaviside: dtype")
x = torch.tensor([-1000, -ln3, 0, ln3, 1000])
expect(sigmoid(x), [0, 0.25, 0.5, 0.75, 1], "sigmoid: values")
expect(tanh(torch.tensor([-1000, 0, ln2, 1000])), [-1, 0, 0.6, 1], "tanh: values")  # (2-½)/(2+½)
expect(relu(x3), [0.0, 0.0, 3.0], "relu: -2, 0, 3")
expect(leaky_relu(x3), [-0.02, 0.0, 3.0], "leaky_relu: default slope")
expect(leaky_relu(torch.tensor([-2.0, 3.0]), slope=0.25), [-0.5, 3.0], "leaky_relu: slope 0.25")
expect(elu(torch.tensor([-ln2, 0.0, 1000.0])), [-0.5, 0.0, 1000.0], "elu: alpha 1")
expect(elu(torch.tensor([-ln2, 3.0]), alpha=4.0), [-2.0, 3.0], "elu: alpha 4")

# %% [markdown]
# Backpropagation multiplies the gradient, at each layer, by the derivative of the activation at
# the value that passed forward. So the derivative decides how much of the gradient arrives.

# %% [markdown] heading="activation_derivatives"
# ### Exercise {number} · Their derivatives ({points} points, about 12 min)
#
# As functions of the input $x$, element by element:
#
# $$\sigma'(x) = \sigma(x)\,(1 - \sigma(x)), \qquad \tanh'(x) = 1 - \tanh^2(x),$$
#
# $$\mathrm{ReLU}'(x) = \begin{cases}1 & x > 0\\ 0 & x \le 0\end{cases} \qquad
# \text{leaky: } \begin{cases}1 & x > 0\\ s & x \le 0\end{cases} \qquad
# \mathrm{ELU}'(x) = \begin{cases}1 & x > 0\\ \alpha e^x & x \le 0.\end{cases}$$
#
# The first takes two lines: with $u = 1 + e^{-x}$, $\sigma = u^{-1}$ and
# $\sigma' = e^{-x} u^{-2} = \frac1u\cdot\frac{u - 1}{u} = \sigma(1-\sigma)$.
#
# At $x = 0$ ReLU and leaky ReLU have a kink, and so has ELU unless $\alpha = 1$. By the
# convention above (torch's too) the lower branch counts: $\mathrm{ReLU}'(0) = 0$, leaky $s$,
# $\mathrm{ELU}'(0) = \alpha$.
#
# The argument is $x$, not the activation's output. Results have the shape and dtype of `x`, are
# finite and right for $|x| \le 1000$ (here absolute errors up to $10^{-6}$ do not count in
# either dtype), and `x` is not modified. You may call your functions from the exercise before,
# whose rules hold; `autograd`, `backward` and `torch.func` may not be used.


# %% exercise="activation_derivatives"
def d_sigmoid(x: Tensor) -> Tensor:
    """Derivative of the sigmoid at x."""
    ### BEGIN SOLUTION
    return sigmoid(x) * (1 - sigmoid(x))
    ### END SOLUTION


def d_tanh(x: Tensor) -> Tensor:
    """Derivative of tanh at x."""
    ### BEGIN SOLUTION
    return 1 - tanh(x) ** 2
    ### END SOLUTION


def d_relu(x: Tensor) -> Tensor:
    """Derivative of ReLU at x; 0 at 0."""
    ### BEGIN SOLUTION
    return (x > 0).to(x.dtype)
    ### END SOLUTION


def d_leaky_relu(x: Tensor, slope: float = 0.01) -> Tensor:
    """Derivative of leaky ReLU at x; `slope` at 0."""
    ### BEGIN SOLUTION
    return torch.where(x > 0, 1.0, slope).to(x.dtype)
    ### END SOLUTION


def d_elu(x: Tensor, alpha: float = 1.0) -> Tensor:
    """Derivative of ELU at x; `alpha` at 0."""
    ### BEGIN SOLUTION
    return torch.where(x > 0, 1.0, alpha * torch.exp(x))
    ### END SOLUTION


# %% test="activation_derivatives"
ln2, ln3, x3 = math.log(2), math.log(3), torch.tensor([-2.0, 0.0, 3.0])
x = torch.tensor([-1000.0, 0.0, ln3, 1000.0])
expect(d_sigmoid(x), [0.0, 0.25, 0.1875, 0.0], "d_sigmoid: values")  # ½ · ½, ¾ · ¼
expect(d_tanh(torch.tensor([0.0, ln2, -1000.0])), [1.0, 0.64, 0.0], "d_tanh: values")  # 1 - 0.6²
expect(d_relu(x3), [0.0, 0.0, 1.0], "d_relu: -2, 0, 3")
expect(d_relu(x3).dtype, torch.float32, "d_relu: dtype")
expect(d_leaky_relu(x3), [0.01, 0.01, 1.0], "d_leaky_relu: default slope")
expect(d_leaky_relu(x3, slope=0.25), [0.25, 0.25, 1.0], "d_leaky_relu: slope 0.25")
expect(d_elu(torch.tensor([-ln2, 0.0, 1000.0]), alpha=4.0), [2.0, 4.0, 1.0], "d_elu: alpha 4")

# %%
ACTIVATIONS = {
    "sigmoid": (sigmoid, d_sigmoid),
    "tanh": (tanh, d_tanh),
    "ReLU": (relu, d_relu),
    "leaky ReLU": (leaky_relu, d_leaky_relu),
    "ELU": (elu, d_elu),
}
x = torch.linspace(-4, 4, 401)
fig, axes = plt.subplots(1, 2, figsize=(8, 3), sharex=True)
for ax, column, title in zip(axes, [0, 1], ["activation", "derivative"], strict=True):
    for name, functions in ACTIVATIONS.items():
        ax.plot(x, functions[column](x), label=name)
    ax.set(title=title, xlabel="x")
axes[0].plot(x, heaviside(x), label="Heaviside", color="0.6", ls="-", zorder=1)
axes[0].set(ylim=(-1.3, 2.5))
axes[0].legend(fontsize=8)
plt.show()

largest = {name: d(x).max().item() for name, (_, d) in ACTIVATIONS.items()}
print("largest derivative, and its product through 7 activations:")
for name, value in largest.items():
    print(f"  {name:11s} {value:.2f}   {value**7:.1e}")

# %% [markdown]
# The third network is explained: each sigmoid passes on at most a quarter of the gradient, its
# seven together at most $4^{-7}$, unless the weights make up for it. ReLU passes on all or
# nothing. What the weights have to do is the next question.

# %% [markdown]
# ## 3. Initialisation
#
# Take one layer, $a_i = \sum_{j=1}^{n_\text{in}} W_{ij} h_j$ for $i = 1 \dots n_\text{out}$,
# with zero bias and weights drawn independently with mean 0 and variance $v$, independent of
# $\mathbf h$. How large is $a_i$, compared with the layer before? The terms are uncorrelated and
# have mean 0, so that
#
# $$\operatorname{Var}(a_i) = \sum_j \operatorname{E}[W_{ij}^2]\operatorname{E}[h_j^2]
# = n_\text{in}\, v \operatorname{E}[h^2].$$
#
# Note that $\operatorname{E}[h^2]$ is the mean square, not the variance: after a ReLU
# $\mathbf h$ does not have mean 0. This is where the factor 2 comes from. If the pre-activation
# $a$ of the layer before is symmetric around 0, ReLU keeps the positive half of it, and with it
# half of the mean square: $\operatorname{E}[h^2] = \tfrac12\operatorname{Var}(a)$. A leaky ReLU
# of slope $s$ keeps $\tfrac12(1 + s^2)$ of it; tanh near 0 is the identity and keeps all. Hence
# from layer to layer
#
# $$\frac{\operatorname{Var}(a_l)}{\operatorname{Var}(a_{l-1})} = n_\text{in}\, v \cdot
# \begin{cases}1 & \text{linear, tanh near 0}\\ \tfrac12(1+s^2) & \text{(leaky) ReLU.}\end{cases}$$
#
# Through thirty layers this factor is raised to the thirtieth power: it has to be 1.

# %% [markdown]
# The same count backwards. The gradient at $h_j$ is $\sum_{i=1}^{n_\text{out}} W_{ij}\, g_i$, a
# sum of $n_\text{out}$ terms, where $g_i$ is the gradient at $a_i$; the activation then
# multiplies it by $f'(a_j)$. The mean square of $f'$ is 1 for linear units and, as a (leaky)
# ReLU has slope 1 on one half and $s$ on the other, $\tfrac12(1 + s^2)$. So the factor is the
# same with $n_\text{out}$ in place of $n_\text{in}$, and both cannot be 1 unless the two are
# equal.
#
# * **Xavier** (Glorot and Bengio 2010, eqs. 12 and 16) satisfies both on average,
#   $\tfrac12(n_\text{in} + n_\text{out})\,v = 1$, for linear units and tanh:
#   $v = \gamma^2\,\dfrac{2}{n_\text{in} + n_\text{out}}$, with a gain $\gamma$, usually 1.
# * **He** (He et al. 2015, eqs. 10 and 15) takes the forward one, for (leaky) ReLU of slope $s$:
#   $v = \dfrac{2}{(1 + s^2)\, n_\text{in}}$.

# %% [markdown] heading="initialization"
# ### Exercise {number} · Xavier and He ({points} points, about 15 min)
#
# Draw a weight matrix of shape $(n_\text{out}, n_\text{in})$, as in `nn.Linear`, with
# independent entries:
#
# * `xavier_uniform`: uniform on $[-b, b]$. A uniform distribution on $[-b, b]$ has variance
#   $b^2/3$; find $b$ such that it is Xavier's $v$.
# * `he_normal`: normal with mean 0 and He's variance. Note: variance, and `torch.randn` wants a
#   deviation.
#
# Results are float32. All random numbers come from `generator`: a generator with the same seed
# gives the same matrix, one with another seed another matrix. A second call with the same
# generator goes on where the first stopped: it gives another matrix. The state of torch's global
# generator stays as it was. With `generator=None` the global one is used, which likewise goes on
# from call to call. The checks look at the shape, the scale and the form of the distribution, so
# draw as you like (`torch.rand`, `torch.randn`, `uniform_`, `normal_`, any order); `nn.init` may
# not be used.


# %% exercise="initialization"
def xavier_uniform(
    fan_in: int, fan_out: int, gain: float = 1.0, generator: torch.Generator | None = None
) -> Tensor:
    """Weights uniform on [-b, b] with variance gain^2 * 2 / (fan_in + fan_out).

    Args:
        fan_in: number of inputs of the layer.
        fan_out: number of outputs of the layer.
        gain: multiplies the weights.
        generator: where all random numbers come from; None for torch's global generator.

    Returns:
        (fan_out, fan_in) float32.

    Source: Glorot and Bengio 2010, eq. 16.
    """
    ### BEGIN SOLUTION
    bound = gain * math.sqrt(6 / (fan_in + fan_out))
    return bound * (2 * torch.rand(fan_out, fan_in, generator=generator) - 1)
    ### END SOLUTION


def he_normal(
    fan_in: int, fan_out: int, slope: float = 0.0, generator: torch.Generator | None = None
) -> Tensor:
    """Normal weights with mean 0 and variance 2 / ((1 + slope^2) * fan_in).

    Args:
        fan_in: number of inputs of the layer.
        fan_out: number of outputs of the layer.
        slope: of the leaky ReLU that follows; 0 for ReLU.
        generator: where all random numbers come from; None for torch's global generator.

    Returns:
        (fan_out, fan_in) float32.

    Source: He et al. 2015, eqs. 10 and 15.
    """
    ### BEGIN SOLUTION
    std = math.sqrt(2 / ((1 + slope**2) * fan_in))
    return std * torch.randn(fan_out, fan_in, generator=generator)
    ### END SOLUTION


# %% test="initialization"
weight = xavier_uniform(200, 400, gain=2.0, generator=torch.Generator().manual_seed(0))
expect(list(weight.shape), [400, 200], "xavier_uniform: shape")
expect(round(weight.mean().item(), 2), 0.0, "xavier_uniform: mean")
expect(round(weight.abs().max().item(), 2), 0.2, "xavier_uniform: largest")  # 2 · sqrt(6 / 600)
weight = he_normal(160, 400, slope=0.5, generator=torch.Generator().manual_seed(0))
expect(list(weight.shape), [400, 160], "he_normal: shape")
expect(round(weight.std().item(), 2), 0.1, "he_normal: deviation")  # sqrt(2 / (1.25 · 160))
generator = torch.Generator().manual_seed(0)
repeated = torch.equal(he_normal(3, 2, generator=generator), he_normal(3, 2, generator=generator))
expect(repeated, False, "he_normal: a second call gives the same matrix")

# %% [markdown]
# Now let us see it. `Activation` puts your function and your derivative into torch's autograd,
# which then sees nothing inside them; the linear parts, which you differentiated by hand in
# `autodiff`, are left to torch from here on. We send noise forward through thirty layers of 100
# units, and a random gradient backward.


# %%
class Activation(torch.autograd.Function):
    """Your activation on the way forward, your derivative on the way back."""

    @staticmethod
    def forward(ctx, x, function, derivative):
        ctx.save_for_backward(x)
        ctx.derivative = derivative
        return function(x)

    @staticmethod
    def backward(ctx, *grads):
        (x,) = ctx.saved_tensors
        return grads[0] * ctx.derivative(x), None, None


# %%
def through_depth(
    draw: Callable, function: Callable, derivative: Callable, depth: int, width: int = 100
):
    """Deviations of the pre-activations, and of their gradients, at each layer."""
    generator = torch.Generator().manual_seed(0)
    h = torch.randn(200, width, generator=generator, requires_grad=True)
    before = []
    for _ in range(depth):
        before.append(h @ draw(width, width, generator=generator).T)
        h = Activation.apply(before[-1], function, derivative)
    grads = torch.autograd.grad(h, before, torch.randn(h.shape, generator=generator))
    return [a.std().item() for a in before], [g.std().item() for g in grads]


def small_normal(fan_in: int, fan_out: int, generator: torch.Generator) -> Tensor:
    return 0.01 * torch.randn(fan_out, fan_in, generator=generator)


def torch_default(fan_in: int, fan_out: int, generator: torch.Generator) -> Tensor:
    """What nn.Linear draws: uniform up to ±1/sqrt(fan_in), variance 1 / (3 fan_in)."""
    return torch.empty(fan_out, fan_in).uniform_(-(fan_in**-0.5), fan_in**-0.5, generator=generator)


# %%
def depth_figure(depth: int):
    _, axes = plt.subplots(2, 2, figsize=(8, 5), sharex=True, sharey=True)
    for row, name in zip(axes, ["tanh", "ReLU"], strict=True):
        for label, draw in {
            "normal, 0.01": small_normal,
            "nn.Linear's default": torch_default,
            "Xavier": xavier_uniform,
            "He": he_normal,
        }.items():
            forward, backward = through_depth(draw, *ACTIVATIONS[name], depth=depth)
            row[0].semilogy(range(1, depth + 1), forward, label=label)
            row[1].semilogy(range(1, depth + 1), backward, label=label)
            print(
                f"{name:5s} {label:20s} at the last layer {forward[-1]:8.1e}, "
                f"gradient at the first {backward[0]:8.1e}"
            )
        row[0].set(ylabel=f"{name}: deviation", ylim=(1e-12, 1e2))
    axes[0, 0].set(title="forward: pre-activations")
    axes[0, 1].set(title="backward: their gradients")
    axes[1, 0].set(xlabel="layer")
    axes[1, 1].set(xlabel="layer")
    axes[0, 1].legend(fontsize=8, loc="lower left")
    plt.show()


depth_figure(30 if FULL else 4)

# %% [markdown]
# Read the picture by its slopes. The blue line is the second network: 0.01 where He has
# $\sqrt{2/100} = 0.14$. With ReLU only He is level, forwards and backwards; Xavier loses half of
# the variance at each layer, as derived. torch's default for `nn.Linear` is not He: with
# $v = 1/(3n_\text{in})$ a ReLU layer keeps a sixth of the variance.
#
# With tanh Xavier looks level, but is not. For small $a$,
# $\tanh^2 a \approx a^2 - \tfrac23 a^4$, and for normal $a$ of variance $q$,
# $\operatorname{E}[a^4] = 3q^2$. So $q_l \approx q_{l-1} - 2q_{l-1}^2$, which falls as
# $q_l \approx 1/(2l)$: after 30 layers a deviation of $\sqrt{1/60} = 0.13$, near the printed
# one. He stays up with tanh, because tanh saturates, and its gradient grows on the way back
# while Xavier's shrinks.
#
# (If your tanh is a difference of numbers that nearly cancel, $2\sigma(2x) - 1$ or
# $(1 - e)/(1 + e)$ with $e = e^{-2x}$, its line for 0.01 breaks off near $10^{-8}$: in float32
# the numbers next to ½ and to 1 lie $3\cdot10^{-8}$ and $6\cdot10^{-8}$ away.)
#
# One question is left: with He's weights everywhere, does the loss start at $\ln K$?


# %%
def init_mlp(sizes: list[int], seed: int = 0, last: float = 1.0, draw: Callable = he_normal):
    """[W_1, b_1, W_2, b_2, ...]: your weights, the last times `last`, and zero biases."""
    generator = torch.Generator().manual_seed(seed)
    params = []
    for n_in, n_out in pairwise(sizes):
        params += [draw(n_in, n_out, generator=generator), torch.zeros(n_out)]
    params[-2] = last * params[-2]
    return [param.to(course.device()) for param in params]


def forward(params: list[Tensor], x: Tensor, name: str = "ReLU") -> Tensor:
    """Logits (B, K) of an MLP for inputs (B, D)."""
    for weight, bias in zip(params[:-2:2], params[1:-2:2], strict=True):
        x = Activation.apply(x @ weight.T + bias, *ACTIVATIONS[name])
    return x @ params[-2].T + params[-1]


(x, y), _, _ = standardized_digits()
for last in [1.0, 0.1, 0.0]:
    loss = F.cross_entropy(forward(init_mlp([64, 64, 64, 10], last=last), x), y)
    print(f"last weights times {last}: loss {loss:.4f} at the start (ln 10 = {math.log(10):.4f})")

# %% [markdown]
# It does not: He is made for layers with a ReLU after them, and there is none after the last.
# Logits of deviation above 1 are confident guesses, and wrong nine times in ten. Scaling the
# last layer down repairs it, and even a last layer of zeros trains, because the layers below
# break the symmetry.
# **A loss far above $\ln K$ at the first step means a last layer that is too large, or a bug**:
# the cheapest test there is.

# %% [markdown]
# ## 4. Steps: gradient descent and momentum
#
# From here on each optimiser is one function with the same convention:
#
# ```python
# new_param = some_step(param, grad, state, lr, ...)
# ```
#
# * `param` and `grad` are float tensors of the same shape and dtype. Neither is modified; the
#   new parameter is returned and has the same shape and dtype.
# * `state` is a dictionary that belongs to one parameter. It is empty at the first call; the
#   function changes it in place, keeps there whatever it has to remember, and finds it again at
#   the next call. The caller never looks inside, so the keys are yours. Two parameters have two
#   dictionaries.
# * `lr` is the rate $\eta$ for this very step and may be another at the next: schedules depend
#   on it.
# * torch.optim may not be used. Where textbooks differ, torch's convention holds.

# %% [markdown] heading="sgd"
# ### Exercise {number} · SGD, momentum, Nesterov, weight decay ({points} points, about 15 min)
#
# Plain gradient descent takes $\boldsymbol\theta \leftarrow \boldsymbol\theta - \eta\,\mathbf g$
# with $\mathbf g = \partial L/\partial\boldsymbol\theta$ on a mini-batch. In a long narrow
# valley it zigzags across and creeps along. Momentum (Polyak 1964) steps along a sum of the past
# gradients that fades by $\mu$ a step: what alternates cancels, what persists adds up.
#
# $$\begin{aligned}
# \mathbf g_t &= \frac{\partial L}{\partial\boldsymbol\theta} + \lambda\,\boldsymbol\theta_t
#    && \text{(L2 penalty } \tfrac{\lambda}{2}\lVert\boldsymbol\theta\rVert^2\text{)}\\
# \mathbf v_t &= \mu\,\mathbf v_{t-1} + \mathbf g_t, \quad \mathbf v_0 = \mathbf 0\\
# \boldsymbol\theta_{t+1} &= \boldsymbol\theta_t - \eta_t\,\mathbf v_t && \text{momentum}\\
# \boldsymbol\theta_{t+1} &= \boldsymbol\theta_t - \eta_t\,(\mathbf g_t + \mu\,\mathbf v_t)
#    && \text{Nesterov, with the new } \mathbf v_t
# \end{aligned}$$
#
# Two points where sources differ. Sutskever et al. (2013) put the rate inside,
# $\mathbf v_t = \mu\mathbf v_{t-1} - \eta_t\mathbf g_t$: the same while $\eta$ is constant, not
# when it changes. And some weigh the new gradient by $1 - \mu$. Here, as in torch, neither.


# %% exercise="sgd"
def sgd_step(
    param: Tensor,
    grad: Tensor,
    state: dict,
    lr: float,
    momentum: float = 0.0,
    nesterov: bool = False,
    weight_decay: float = 0.0,
) -> Tensor:
    """One step of stochastic gradient descent, in torch's convention.

    Args:
        param: any shape, floating point; not modified.
        grad: gradient of the loss, same shape and dtype; not modified.
        state: this parameter's memory, empty at the first call; changed in place.
        lr: learning rate of this step.
        momentum: mu, 0 for plain gradient descent.
        nesterov: step along g + mu * v instead of v.
        weight_decay: lambda; lambda * param is added to the gradient first.

    Returns:
        The new parameter.
    """
    ### BEGIN SOLUTION
    grad = grad + weight_decay * param
    velocity = momentum * state.get("velocity", 0.0) + grad
    state["velocity"] = velocity
    return param - lr * (grad + momentum * velocity if nesterov else velocity)
    ### END SOLUTION


# %% test="sgd"
one, state = torch.tensor([1.0]), {}
first = sgd_step(one, torch.tensor([0.5]), state, lr=0.1, momentum=0.5)  # v = 0.5
second = sgd_step(first, torch.tensor([1.0]), state, lr=0.2, momentum=0.5)  # v = 0.25 + 1
expect(first, [0.95], "sgd_step: momentum, first step")
expect(second, [0.70], "sgd_step: momentum, second step")
state = {}
half = {"momentum": 0.5, "nesterov": True}
first = sgd_step(one, torch.tensor([0.5]), state, lr=0.1, **half)  # 0.5 + 0.25
second = sgd_step(first, torch.tensor([1.0]), state, lr=0.2, **half)  # 1 + 0.625
expect(first, [0.925], "sgd_step: Nesterov, first step")
expect(second, [0.60], "sgd_step: Nesterov, second step")
pulled = sgd_step(torch.tensor([2.0]), torch.zeros(1), {}, lr=0.5, weight_decay=0.1)
expect(pulled, [1.9], "sgd_step: weight decay, no gradient")  # 2 - 0.5 · 0.2
start, zero, state = torch.tensor([2.0]), torch.zeros(1), {}
first = sgd_step(start, zero, state, 0.5, momentum=0.5, weight_decay=0.1)  # v = g = 0.2
second = sgd_step(first, zero, state, 0.5, momentum=0.5, weight_decay=0.1)  # v = 0.1 + 0.19
expect(second, [1.755], "sgd_step: weight decay goes through the momentum")  # 1.9 - 0.5 · 0.29
pulled = sgd_step(start, zero, {}, 0.5, momentum=0.5, nesterov=True, weight_decay=0.1)
expect(pulled, [1.85], "sgd_step: Nesterov with weight decay")  # g + µv = 0.2 + 0.5 · 0.2

# %% [markdown]
# With this you can train. `update` is one step of the whole network: loss, gradients, a step for
# each parameter, with a dictionary for each. `train` repeats it on batches drawn at random.


# %%
def update(params, states, x, y, step, lr, activation="ReLU", loss_scale=1.0, **options):
    """One step on the batch (x, y); returns the new parameters and the loss before it."""
    params = [param.detach().requires_grad_() for param in params]
    loss = F.cross_entropy(forward(params, x, activation), y)
    grads = torch.autograd.grad(loss_scale * loss, params)
    with torch.no_grad():
        params = [
            step(param, grad, state, lr, **options)
            for param, grad, state in zip(params, grads, states, strict=True)
        ]
    return params, loss.item()


def train(
    step: Callable,
    rate: Callable[[int], float],
    steps: int,
    hidden=(64, 64),
    draw=he_normal,
    **options,
):
    """Train an MLP on the digits with your parts; returns its parameters and each batch's loss."""
    (x, y), _, _ = standardized_digits()
    params, losses = init_mlp([64, *hidden, 10], last=0.1, draw=draw), []
    states: list[dict] = [{} for _ in params]
    generator = torch.Generator().manual_seed(1)
    for t in range(steps):
        batch = torch.randint(0, len(x), (64,), generator=generator)
        params, loss = update(params, states, x[batch], y[batch], step, rate(t), **options)
        losses.append(loss)
    return params, losses


# %%
def score(params, split: tuple[Tensor, Tensor], activation: str = "ReLU") -> tuple[float, float]:
    """Mean loss and accuracy on a split."""
    x, y = split
    logits = forward(params, x, activation)
    return F.cross_entropy(logits, y).item(), (logits.argmax(1) == y).float().mean().item()


def smooth(losses: list[float], window: int = 20) -> Tensor:
    """Means over `window` steps, for curves that can be read."""
    return torch.tensor(losses).unfold(0, min(window, len(losses)), 1).mean(-1)


# %% [markdown]
# **How much of momentum is momentum?** The usual demonstration takes some rate, adds $\mu = 0.9$
# and shows how much faster the loss falls. Guess before you run: what is missing from that
# comparison?


# %%
def momentum_question(steps: int):
    (train_split, _, _), runs = standardized_digits(), {}
    for lr, mu in [(0.002, 0.0), (0.002, 0.9), (0.02, 0.0)]:
        params, losses = train(sgd_step, lambda t, lr=lr: lr, steps, momentum=mu)
        runs[f"rate {lr}, momentum {mu}"] = losses
        print(f"rate {lr:5}, momentum {mu}: training loss {score(params, train_split)[0]:.3f}")
    for name, losses in runs.items():
        plt.plot(smooth(losses), label=name)
    plt.gca().set(xlabel="step", ylabel="loss, mean of 20 batches")
    plt.legend(fontsize=8)
    plt.show()


momentum_question(300 if FULL else 4)

# %% [markdown]
# The two lower curves nearly lie on each other. While the gradient hardly changes, $\mathbf v$
# grows to $\mathbf g\,(1 + \mu + \mu^2 + \dots) = \mathbf g/(1-\mu)$, ten times the gradient at
# $\mu = 0.9$: **most of what the usual demonstration shows is a rate ten times larger.** Compare
# optimisers each at its own best rate.
#
# What momentum truly adds shows in a narrow valley, here $L = \tfrac12(w_1^2 + 100\,w_2^2)$.
# Plain descent multiplies $w_2$ by $1 - 100\,\eta$ at each step and diverges beyond
# $\eta = 0.02$ (what a rate of 2 did to the fifth network), so the tenfold rate is not to be
# had.


# %%
def valley(lr: float, steps: int = 100, **options) -> float:
    """Distance from the minimum after descending from (1, 1)."""
    w, state = torch.ones(2, dtype=torch.float64), {}
    curvature = torch.tensor([1.0, 100.0], dtype=torch.float64)
    for _ in range(steps):
        w = sgd_step(w, curvature * w, state, lr, **options)
    return w.norm().item()


for label, lr, options in [
    ("plain", 0.01, {}),
    ("plain, tenfold rate", 0.1, {}),
    ("momentum 0.9", 0.01, {"momentum": 0.9}),
    ("Nesterov 0.9", 0.01, {"momentum": 0.9, "nesterov": True}),
]:
    print(f"{label:20s} rate {lr:4}: {valley(lr, **options):8.1e} from the minimum after 100 steps")

# %% [markdown]
# ## 5. Schedules: the rate over time
#
# A large rate travels, a small one settles. A schedule is a function from the step number
# $t = 0, 1, 2, \dots$ to the rate of that step, where $t = 0$ is the very first update.

# %% [markdown] heading="schedules"
# ### Exercise {number} · Four schedules ({points} points, about 15 min)
#
# **Steps.** Multiply by $\gamma$ after every $S$ updates:
# $\eta_t = \eta_0\,\gamma^{\lfloor t/S \rfloor}$. The first $S$ updates ($t = 0 \dots S-1$) have
# the rate $\eta_0$.
#
# **Cosine** (Loshchilov and Hutter 2017, eq. 5, without restarts): half a cosine from $\eta_0$
# at $t = 0$ to $\eta_T$ at $t = T$, then constant at $\eta_T$:
# $$\eta_t = \eta_T + \tfrac12(\eta_0 - \eta_T)\left(1 + \cos\frac{\pi t}{T}\right)
# \text{ for } t \le T,
# \qquad \eta_t = \eta_T \text{ for } t > T.$$
# The formula holds for $\eta_T > \eta_0$ too: the rate rises then.
#
# **Cyclic** (Smith 2017, "triangular"): straight up from $\eta_\text{low}$ at $t = 0$ to
# $\eta_\text{high}$ at $t = P$, straight down to $\eta_\text{low}$ at $t = 2P$, and so on. $P$
# is *half* a cycle.
#
# **Warm-up** of $W$ updates before another schedule $r$: linear up to $r(0)$, which is reached
# for the first time at $t = W$. No rate is zero, and $r$ begins where the warm-up ends:
# $$\eta_t = \frac{t + 1}{W + 1}\, r(0) \text{ for } t < W,
# \qquad \eta_t = r(t - W) \text{ for } t \ge W.$$
#
# Return a number. $S$, $T$ and $P$ are whole numbers, at least 1; $W \ge 0$. $r$ is never called
# with a negative number. `torch.optim.lr_scheduler` may not be used.


# %% exercise="schedules"
def step_decay(step: int, initial: float, step_size: int, gamma: float = 0.1) -> float:
    """`initial` times gamma once for every `step_size` updates that were made before update `step`.

    Args:
        step: number of the update, from 0.
        initial: rate of the first `step_size` updates.
        step_size: updates between two decays, at least 1.
        gamma: factor of a decay.
    """
    ### BEGIN SOLUTION
    return initial * gamma ** (step // step_size)
    ### END SOLUTION


def cosine(step: int, initial: float, total: int, final: float = 0.0) -> float:
    """Half a cosine from `initial` at step 0 to `final` at step `total`, and `final` after that.

    `total` is at least 1; `final` may be above `initial`.
    """
    ### BEGIN SOLUTION
    progress = min(step / total, 1.0)
    return final + (initial - final) * (1 + math.cos(math.pi * progress)) / 2
    ### END SOLUTION


def cyclic(step: int, low: float, high: float, half_cycle: int) -> float:
    """Triangles: `low` at 0, `high` at `half_cycle`, `low` at 2 * `half_cycle`, and so on.

    `half_cycle` is at least 1.
    """
    ### BEGIN SOLUTION
    position = (step % (2 * half_cycle)) / half_cycle  # from 0 to 2 within a cycle
    return low + (high - low) * (1 - abs(position - 1))
    ### END SOLUTION


def warmup(step: int, warmup_steps: int, schedule: Callable[[int], float]) -> float:
    """A linear warm-up in front of another schedule r.

    Args:
        step: number of the update, from 0.
        warmup_steps: W, updates below the full rate; 0 for none.
        schedule: rate of update 0, 1, ... after the warm-up; `lambda t: 0.1` for a constant.
    """
    ### BEGIN SOLUTION
    if step < warmup_steps:
        return schedule(0) * (step + 1) / (warmup_steps + 1)
    return schedule(step - warmup_steps)
    ### END SOLUTION


# %% test="schedules"
expect([step_decay(t, 8.0, 2, gamma=0.5) for t in range(5)], [8, 8, 4, 4, 2], "step_decay: every 2")
expect(step_decay(3, 8.0, 3), 0.8, "step_decay: default gamma")
expect([cosine(t, 1.0, 4, final=0.2) for t in [0, 2, 4, 6]], [1, 0.6, 0.2, 0.2], "cosine: to 0.2")
expect(cosine(1, 1.0, 3), 0.75, "cosine: a third of the way")  # (1 + cos 60°) / 2
expect([cyclic(t, 1.0, 3.0, 2) for t in range(6)], [1, 2, 3, 2, 1, 2], "cyclic: half a cycle of 2")
rates = [warmup(t, 3, lambda t: 8.0 - t) for t in range(5)]
expect(rates, [2, 4, 6, 8, 7], "warmup: 3 steps, then 8, 7")

# %%
shapes = {
    "step_decay": lambda t: step_decay(t, 1.0, 30, gamma=0.4),
    "cosine": lambda t: cosine(t, 1.0, 100, final=0.05),
    "cyclic": lambda t: cyclic(t, 0.1, 1.0, 15),
    "warmup + cosine": lambda t: warmup(t, 12, lambda s: cosine(s, 1.0, 88, final=0.05)),
}
fig, axes = plt.subplots(1, 4, figsize=(9, 2), sharey=True)
for ax, (name, schedule) in zip(axes, shapes.items(), strict=True):
    ax.plot([schedule(t) for t in range(120)], ls="-")
    ax.set(title=name, xlabel="step")
axes[0].set(ylabel="rate", ylim=(0, 1.05))
plt.show()

# %% [markdown]
# ## 6. Steps that adapt
#
# One rate for all parameters is a compromise: the weights of a rare pixel get a gradient seldom,
# those of a common one at every step. Adaptive methods divide each component of the gradient by
# a measure of its own past size. All operations below are element by element.

# %% [markdown] heading="adaptive"
# ### Exercise {number} · Adagrad and RMSprop ({points} points, about 15 min)
#
# **Adagrad** (Duchi et al. 2011) sums all squared gradients since the beginning,
#
# $$\mathbf s_t = \mathbf s_{t-1} + \mathbf g_t^2, \qquad
# \boldsymbol\theta_{t+1} = \boldsymbol\theta_t
# - \eta_t \frac{\mathbf g_t}{\sqrt{\mathbf s_t} + \epsilon},
# \qquad \mathbf s_0 = \mathbf 0.$$
#
# The sum only grows, so the steps only shrink: good for convex problems, too early an end for
# networks. **RMSprop** (Hinton's lecture 6e, 2012) forgets with a running mean instead:
#
# $$\mathbf s_t = \alpha\,\mathbf s_{t-1} + (1 - \alpha)\,\mathbf g_t^2, \qquad
# \boldsymbol\theta_{t+1} = \boldsymbol\theta_t
# - \eta_t \frac{\mathbf g_t}{\sqrt{\mathbf s_t} + \epsilon},
# \qquad \mathbf s_0 = \mathbf 0.$$
#
# $\epsilon$ stands *outside* the root (as in torch; elsewhere it is found inside). It keeps
# $0/0$ from happening: with a zero gradient the parameter stays where it is. The formulas hold
# all the same: RMSprop's $\mathbf s$ shrinks to $\alpha\,\mathbf s$ at such a step. Everything
# else is the convention of part 4.


# %% exercise="adaptive"
def adagrad_step(param: Tensor, grad: Tensor, state: dict, lr: float, eps: float = 1e-10) -> Tensor:
    """One step of Adagrad.

    Args:
        param: any shape, floating point; not modified.
        grad: same shape and dtype; not modified.
        state: this parameter's memory, empty at the first call; changed in place.
        lr: learning rate of this step.
        eps: added to the root.

    Returns:
        The new parameter.
    """
    ### BEGIN SOLUTION
    state["sum"] = state.get("sum", 0.0) + grad**2
    return param - lr * grad / (state["sum"].sqrt() + eps)
    ### END SOLUTION


def rmsprop_step(
    param: Tensor, grad: Tensor, state: dict, lr: float, alpha: float = 0.99, eps: float = 1e-8
) -> Tensor:
    """One step of RMSprop; as `adagrad_step`, with alpha, the memory of the running mean."""
    ### BEGIN SOLUTION
    state["mean"] = alpha * state.get("mean", 0.0) + (1 - alpha) * grad**2
    return param - lr * grad / (state["mean"].sqrt() + eps)
    ### END SOLUTION


# %% test="adaptive"
ten, state = torch.tensor([10.0]), {}
first = adagrad_step(ten, torch.tensor([3.0]), state, lr=1.0)  # 3 / sqrt(9)
second = adagrad_step(first, torch.tensor([4.0]), state, lr=2.0)  # 2 · 4 / sqrt(9 + 16)
expect(first, [9.0], "adagrad_step: first step")
expect(second, [7.4], "adagrad_step: second step")
state = {}
first = rmsprop_step(ten, torch.tensor([6.0]), state, lr=0.5, alpha=0.75)  # 0.5 · 6 / sqrt(9)
second = rmsprop_step(first, torch.tensor([3.0]), state, lr=0.25, alpha=0.75)  # 6.75 + 2.25
expect(first, [9.0], "rmsprop_step: first step")
expect(second, [8.75], "rmsprop_step: second step")
third = rmsprop_step(second, torch.zeros(1), state, lr=0.5, alpha=0.75)  # only s moves: 6.75
fourth = rmsprop_step(third, torch.tensor([6.0]), state, lr=0.5, alpha=0.75)  # s = 3.75²
expect(fourth, [7.95], "rmsprop_step: after a zero gradient")  # 8.75 - 0.5 · 6 / 3.75
first = adagrad_step(ten, torch.tensor([3.0]), {}, lr=1.0, eps=1.0)  # 3 / (3 + 1)
expect(first, [9.25], "adagrad_step: eps outside the root")
first = rmsprop_step(ten, torch.tensor([6.0]), {}, lr=2.0, alpha=0.75, eps=1.0)  # 6 / (3 + 1)
expect(first, [7.0], "rmsprop_step: eps outside the root")

# %% [markdown]
# Before you go on: with the default $\alpha = 0.99$, how long is the very first step of RMSprop,
# in units of $\eta$, for a gradient of 5? For a gradient of 0.001?

# %%
for g in [5.0, 0.001]:
    step_length = -rmsprop_step(torch.zeros(1), torch.tensor([g]), {}, lr=1.0).item()
    print(f"gradient {g}: first step of {step_length:.3f} times the rate")

# %% [markdown]
# Ten times $\eta$, whatever the gradient: the running mean starts at zero and holds only a
# hundredth of the first square. Keep that in mind for Adam.

# %% [markdown] heading="adadelta"
# ### Exercise {number} · Adadelta ({points} points, about 20 min)
#
# Zeiler (2012) looked at units. A parameter measured in metres has a gradient in 1/metre (per
# unit of loss), so gradient descent adds 1/metre to metres. Adagrad and RMSprop divide the
# gradient by a gradient: their steps have no unit at all. Newton's method, gradient over second
# derivative, has metres. Adadelta restores them by a numerator that is measured in past *steps*:
#
# $$\begin{aligned}
# \mathbf s_t &= \rho\,\mathbf s_{t-1} + (1-\rho)\,\mathbf g_t^2, & \mathbf s_0 &= \mathbf 0\\
# \boldsymbol\delta_t &= \frac{\sqrt{\mathbf u_{t-1} + \epsilon}}{\sqrt{\mathbf s_t + \epsilon}}
#    \;\mathbf g_t
#    & &\text{with the old } \mathbf u\\
# \mathbf u_t &= \rho\,\mathbf u_{t-1} + (1-\rho)\,\boldsymbol\delta_t^2,
#    & \mathbf u_0 &= \mathbf 0\\
# \boldsymbol\theta_{t+1} &= \boldsymbol\theta_t - \eta_t\,\boldsymbol\delta_t
# \end{aligned}$$
#
# $\epsilon$ stands *inside* both roots here: without it the first step would be zero, and so
# would all that follow. The defaults are torch's ($\rho = 0.9$, $\epsilon = 10^{-6}$,
# $\eta = 1$); Zeiler's paper has $\rho = 0.95$ and no $\eta$. Note that $\mathbf u$ collects
# $\boldsymbol\delta$, without $\eta$. Everything else is the convention of part 4.


# %% exercise="adadelta"
def adadelta_step(
    param: Tensor, grad: Tensor, state: dict, lr: float = 1.0, rho: float = 0.9, eps: float = 1e-6
) -> Tensor:
    """One step of Adadelta, in torch's convention.

    Args:
        param: any shape, floating point; not modified.
        grad: same shape and dtype; not modified.
        state: this parameter's memory, empty at the first call; changed in place.
        lr: factor of this step, 1 in the paper.
        rho: memory of both running means.
        eps: added inside both roots.

    Returns:
        The new parameter.

    Source: Zeiler 2012, algorithm 1.
    """
    ### BEGIN SOLUTION
    zero = torch.zeros_like(grad)
    squares = rho * state.get("squares", zero) + (1 - rho) * grad**2
    past = state.get("steps", zero)
    delta = (past + eps).sqrt() / (squares + eps).sqrt() * grad
    state["squares"], state["steps"] = squares, rho * past + (1 - rho) * delta**2
    return param - lr * delta
    ### END SOLUTION


# %% test="adadelta"
one, state = torch.tensor([1.0]), {}
first = adadelta_step(one, torch.tensor([4.0]), state, lr=0.3, rho=0.5, eps=1.0)
expect(first, [0.6], "adadelta_step: first step")  # s = 8, so that 1 / sqrt(9) · 4 · 0.3 = 0.4
second = adadelta_step(first, torch.tensor([0.0]), state, lr=0.3, rho=0.5, eps=1.0)
expect(second, [0.6], "adadelta_step: zero gradient")  # but s = 4 and u = 4/9 now
third = adadelta_step(second, torch.tensor([2.0]), state, lr=0.3, rho=0.5, eps=1.0)
right = 0.6 - 0.6 * math.sqrt(13 / 9 / 5)  # s = 4, old u = 4/9
expect(third, [right], "adadelta_step: third step")
first = adadelta_step(torch.zeros(1), torch.ones(1), {})  # the defaults: u = 0 and s = 0.1
expect(first, [-math.sqrt(1e-6 / 0.100001)], "adadelta_step: default arguments")

# %% [markdown] heading="adam"
# ### Exercise {number} · Adam and AdamW ({points} points, about 30 min)
#
# Adam (Kingma and Ba 2015, algorithm 1) joins momentum and RMSprop: a running mean of the
# gradient over the root of a running mean of its square. And it repairs the start. If the
# gradient were constant, then, from $\mathbf m_0 = \mathbf 0$,
#
# $$\mathbf m_t = (1-\beta_1)\sum_{i=1}^{t}\beta_1^{\,t-i}\,\mathbf g
# = (1 - \beta_1^t)\,\mathbf g,$$
#
# too small by the known factor $1 - \beta_1^t$. Dividing by it is called bias correction. With
# $\mathbf g_t = \partial L/\partial\boldsymbol\theta + \lambda\boldsymbol\theta_t$ and $t = 1$
# at the first step:
#
# $$\begin{aligned}
# \mathbf m_t &= \beta_1\mathbf m_{t-1} + (1-\beta_1)\,\mathbf g_t, &
# \hat{\mathbf m}_t &= \mathbf m_t / (1-\beta_1^t)\\
# \mathbf v_t &= \beta_2\mathbf v_{t-1} + (1-\beta_2)\,\mathbf g_t^2, &
# \hat{\mathbf v}_t &= \mathbf v_t / (1-\beta_2^t)\\
# \boldsymbol\theta_{t+1} &= \boldsymbol\theta_t
#    - \eta_t\,\frac{\hat{\mathbf m}_t}{\sqrt{\hat{\mathbf v}_t} + \epsilon}
# \end{aligned}$$
#
# The first step is $\eta\cdot\operatorname{sign}(\mathbf g)$ (up to $\epsilon$): work it out.
#
# **AdamW** (Loshchilov and Hutter 2019) takes the decay out of $\mathbf g$, where Adam divides
# it by $\sqrt{\hat{\mathbf v}}$ with everything else, and shrinks the parameter itself: the same
# step with $\mathbf g_t = \partial L/\partial\boldsymbol\theta$ and
#
# $$\boldsymbol\theta_{t+1} = (1 - \eta_t\lambda)\,\boldsymbol\theta_t
#    - \eta_t\,\frac{\hat{\mathbf m}_t}{\sqrt{\hat{\mathbf v}_t} + \epsilon}.$$
#
# This is torch's form; the paper's decay has the schedule's factor in place of all of $\eta_t$.
# Everything else is the convention of part 4.


# %% exercise="adam"
def adam_step(
    param: Tensor,
    grad: Tensor,
    state: dict,
    lr: float,
    betas: tuple[float, float] = (0.9, 0.999),
    eps: float = 1e-8,
    weight_decay: float = 0.0,
) -> Tensor:
    """One step of Adam; the decay is an L2 penalty, part of the gradient.

    Args:
        param: any shape, floating point; not modified.
        grad: same shape and dtype; not modified.
        state: this parameter's memory, empty at the first call; changed in place.
        lr: learning rate of this step.
        betas: memories of the means of the gradient and of its square.
        eps: added to the root, outside it.
        weight_decay: lambda; lambda * param is added to the gradient first.

    Returns:
        The new parameter.

    Source: Kingma and Ba 2015, algorithm 1.
    """
    ### BEGIN SOLUTION
    grad = grad + weight_decay * param
    beta1, beta2 = betas
    t = state.get("t", 0) + 1
    mean = beta1 * state.get("mean", 0.0) + (1 - beta1) * grad
    square = beta2 * state.get("square", 0.0) + (1 - beta2) * grad**2
    state.update(t=t, mean=mean, square=square)
    mean_hat, square_hat = mean / (1 - beta1**t), square / (1 - beta2**t)
    return param - lr * mean_hat / (square_hat.sqrt() + eps)
    ### END SOLUTION


def adamw_step(
    param: Tensor,
    grad: Tensor,
    state: dict,
    lr: float,
    betas: tuple[float, float] = (0.9, 0.999),
    eps: float = 1e-8,
    weight_decay: float = 0.01,
) -> Tensor:
    """One step of AdamW: the parameter itself shrinks by the factor 1 - lr * weight_decay."""
    ### BEGIN SOLUTION
    shrunk = (1 - lr * weight_decay) * param
    return adam_step(shrunk, grad, state, lr, betas, eps)
    ### END SOLUTION


# %% test="adam"
one, two, state = torch.tensor([1.0]), torch.tensor([2.0]), {}
first = adam_step(
    one, torch.tensor([4.0]), state, lr=0.3, betas=(0.5, 0.75)
)  # both means corrected: 4, 16
second = adam_step(first, torch.tensor([-4.0]), state, lr=0.6, betas=(0.5, 0.75))  # m = -1, v = 7
expect(first, [0.7], "adam_step: first step")
expect(second, [0.9], "adam_step: second step")  # -4/3 and 16: 0.6 / 3 upwards
expect(adam_step(one, torch.tensor([3.0]), {}, lr=0.5, eps=1.0), [0.625], "adam_step: eps")  # ½ · ¾
decayed = adamw_step(one, torch.tensor([3.0]), {}, lr=0.5, eps=1.0, weight_decay=0.0)
expect(decayed, [0.625], "adamw_step: eps")
decayed = adam_step(two, torch.zeros(1), {}, lr=0.5, weight_decay=0.1)
expect(decayed, [1.5], "adam_step: decay, no gradient")  # g = 0.2, a step of 0.5 · sign(g)
decayed = adamw_step(two, torch.zeros(1), {}, lr=0.5, weight_decay=0.1)
expect(decayed, [1.9], "adamw_step: decay, no gradient")  # 2 · (1 - 0.05)
decayed = adamw_step(two, torch.tensor([4.0]), {}, lr=0.5, weight_decay=0.1)
expect(decayed, [1.4], "adamw_step: decay and gradient")  # 1.9 - 0.5

# %% [markdown]
# What does each method make of the simplest input, a gradient that is always 1? The picture
# shows the length of its steps, over $\eta$.

# %%
STEPS = {
    "momentum 0.9": lambda *args: sgd_step(*args, momentum=0.9),
    "Adagrad": adagrad_step,
    "RMSprop": rmsprop_step,
    "Adadelta": adadelta_step,
    "Adam": adam_step,
}
fig, ax = plt.subplots(figsize=(6, 3))
for name, step in STEPS.items():
    param, state, lengths = torch.zeros(1), {}, []
    for _ in range(300):
        new = step(param, torch.ones(1), state, 1.0)
        lengths.append((param - new).item())
        param = new
    ax.loglog(range(1, 301), lengths, label=name)
ax.set(xlabel="step", ylabel="step length / rate", title="a constant gradient of 1")
ax.legend(fontsize=8, loc="center left", bbox_to_anchor=(1, 0.5))
plt.show()

# %% [markdown]
# Adam's line is flat at 1: that is bias correction. RMSprop without it begins with a step of 10.
# Adagrad falls as $1/\sqrt t$; Adadelta has to find its scale, from
# $\sqrt{\epsilon/(1-\rho)} = 0.003$ upwards; momentum rises to $1/(1-\mu) = 10$, the tenfold
# rate of part 4.

# %% [markdown]
# ## 7. Everything together
#
# First the fair comparison: each optimiser tries four rates, and the one with the lowest
# *validation* loss counts. A comparison at one common rate would only say whom that rate suits.

# %%
CONTESTANTS = {
    "SGD": (sgd_step, {}, [0.1, 0.3, 1.0, 3.0]),
    "Nesterov": (sgd_step, {"momentum": 0.9, "nesterov": True}, [0.003, 0.01, 0.03, 0.1]),
    "Adagrad": (adagrad_step, {}, [0.003, 0.01, 0.03, 0.1]),
    "RMSprop": (rmsprop_step, {}, [0.0003, 0.001, 0.003, 0.01]),
    "Adadelta": (adadelta_step, {}, [0.3, 1.0, 3.0, 10.0]),
    "AdamW": (adamw_step, {}, [0.0003, 0.001, 0.003, 0.01]),
}


def compare(steps: int):
    _, valid_split, _ = standardized_digits()
    for name, (step, options, rates) in CONTESTANTS.items():
        runs = []
        for lr in rates if FULL else rates[:1]:
            params, losses = train(step, lambda t, lr=lr: lr, steps, **options)
            runs.append((score(params, valid_split), lr, losses))
        (_, accuracy), lr, losses = min(runs, key=lambda run: run[0][0])
        spread = "  ".join(f"{run[0][0]:5.3f}" for run in runs)
        print(f"{name:9s} validation loss by rate: {spread}   best {lr:6}: {accuracy:.1%} right")
        plt.semilogy(smooth(losses), label=f"{name}, {lr}")
    plt.gca().set(xlabel="step", ylabel="training loss, mean of 20")
    plt.legend(fontsize=8)
    plt.show()


compare(250 if FULL else 2)

# %% [markdown]
# Look at the table before the picture. The training losses end far apart, the validation losses
# close together: after 250 steps each method nearly fits the training split, and what it gains
# from there on is overfitting. Plain SGD is among the best, at a rate that few would have tried,
# and one notch further it diverges. Within most rows the numbers differ more than the best ones
# of two rows:
# **on a problem as small as this the rate matters more than the name of the method.**
#
# **A question about the loss.** Somebody reports the loss in other units, as a sum over 100
# pixels in place of a mean or as a mean in place of a sum: it is multiplied by 100, or by 0.01.
# For SGD this is a change of the rate. Adam divides the gradient by its own size, so it should
# not matter. Does it, with weight decay?


# %%
def loss_scale_question(steps: int):
    train_split, valid_split, _ = standardized_digits()
    print("loss times    Adam with L2 0.01               AdamW, decay 1")
    for scale in [100.0, 1.0, 0.01]:
        line = f"{scale:10}"
        for step, decay in [(adam_step, 0.01), (adamw_step, 1.0)]:
            params, _ = train(step, lambda t: 0.003, steps, loss_scale=scale, weight_decay=decay)
            norm = math.sqrt(sum(param.square().sum().item() for param in params))
            loss, _ = score(params, train_split)
            accuracy = score(params, valid_split)[1]
            line += f"    loss {loss:5.3f} |w| {norm:4.1f} {accuracy:5.1%}"
        print(line)


loss_scale_question(300 if FULL else 3)

# %% [markdown]
# AdamW gives the same network three times, to the digits shown. Adam with L2 gives three
# different ones, and the last is dead: its loss is $\ln 10$. The penalty's gradient
# $\lambda\boldsymbol\theta$ is divided by $\sqrt{\hat{\mathbf v}}$, which grows with the scale
# of the loss, so a hundredfold loss leaves a hundredth of the decay, and a loss of a hundredth
# drowns in it. For plain SGD penalty and decay are one formula,
# $(1 - \eta\lambda)\boldsymbol\theta - \eta\mathbf g$; for Adam they are two, and that is the
# whole of AdamW.

# %% [markdown]
# ### A digit reader of your own
#
# The goal: 97 % of the test images read right. The pieces: your standardisation, ReLU and its
# derivative, He weights, AdamW, warm-up and cosine. `course.training.fit` shuffles, counts the
# epochs (passes over the data) and watches the validation loss: after ten epochs without a
# better one it stops, and the parameters of the best epoch are put back (*early stopping*). The
# test split is used once, at the end. Beside the network stand two baselines: *nearest mean*
# gives an image the class whose mean image is nearest; *softmax regression* is the same training
# without hidden layers.


# %%
def train_well(hidden: tuple[int, ...], epochs: int) -> tuple[list[Tensor], History]:
    """AdamW with warm-up, cosine and early stopping; returns the best parameters and the curves."""
    train_split, valid_split, _ = standardized_digits()
    params = init_mlp([64, *hidden, 10], last=0.1)
    states: list[dict] = [{} for _ in params]
    t, total = 0, epochs * math.ceil(len(train_split[0]) / 64)
    ramp = total // 20

    def on_batch(x: Tensor, y: Tensor) -> float:
        nonlocal params, t
        lr = warmup(t, ramp, lambda s: cosine(s, 0.003, total - ramp))
        params, loss = update(params, states, x, y, adamw_step, lr, weight_decay=0.1)
        t += 1
        return loss

    def evaluate() -> dict[str, float]:
        loss, accuracy = score(params, valid_split)
        return {"valid_loss": loss, "valid_accuracy": accuracy}

    history = fit(
        on_batch,
        train_split,
        epochs=epochs,
        batch_size=64,
        evaluate=evaluate,
        patience=10,
        keep=lambda: params,
    )
    return params, history


# %%
def nearest_mean() -> float:
    """Test accuracy of the baseline."""
    (x, y), _, (x_test, y_test) = standardized_digits()
    means = torch.stack([x[y == k].mean(0) for k in range(10)])
    return (torch.cdist(x_test, means).argmin(1) == y_test).float().mean().item()


def show_examples(params: list[Tensor]):
    """Ten digits read with the most confidence, and the ten mistakes made with the most."""
    _, _, (x, y) = standardized_digits()
    confidence, guess = forward(params, x).softmax(1).max(1)
    order = confidence.argsort(descending=True)
    hit = guess[order] == y[order]
    for title, rows in {"right": order[hit][:10], "wrong": order[~hit][:10]}.items():
        names = [f"{guess[i]} (is {y[i]})" for i in rows]
        if names:  # a network may make no mistake
            shown = digits().test_x[rows.cpu()]
            plots.images(shown, names, columns=10, title=f"{title}, and most sure of it")
            plt.show()


# %%
def final(epochs: int):
    _, _, test_split = standardized_digits()
    _, ax = plt.subplots(figsize=(6, 3))
    results, params = {"nearest mean": (nearest_mean(), 10 * 64)}, []
    for name, hidden in {"softmax regression": (), "network": (64, 64)}.items():
        params, history = train_well(hidden, epochs)
        ax.semilogy(history["loss"], label=f"{name}, training")
        ax.semilogy(history["valid_loss"], label=f"{name}, validation")
        results[name] = (score(params, test_split)[1], count_parameters([64, *hidden, 10]))
    ax.set(xlabel="epoch", ylabel="loss")
    ax.legend(fontsize=8)
    plt.show()
    for name, (accuracy, count) in results.items():
        error = math.sqrt(accuracy * (1 - accuracy) / len(test_split[1]))
        print(f"{name:18s} {count:6,d} numbers   test accuracy {accuracy:.1%} ± {error:.1%}")
    show_examples(params)


final(50 if FULL else 1)

# %% [markdown]
# The network should be above its goal of 97 %. Look at its mistakes: some of them you would make
# too. And look at the baselines before you praise it: nearest mean needs no training at all, and
# softmax regression, without a hidden layer, is a point or two behind. With 300 test images
# the error bars (one standard error) are about a point wide, so differences of a point mean
# nothing. Five other seeds gave the network 97.3 % to 98.7 % and softmax regression 95.3 % to
# 97.0 %.

# %% [markdown]
# ### Your experiment
#
# Change one thing at a time in the cell below and predict the result before you run it.
# Suggestions:
#
# * `hidden=(64,) * 8` with `activation="sigmoid"`, the third network of the beginning; which
#   optimiser, which initialisation brings it to life?
# * the rate 0.2 throughout, then `warmup(t, 50, lambda s: 0.2)`;
# * `draw=lambda *fans, generator: torch.zeros(fans[1], fans[0])`: why does nothing move?


# %%
def experiment(steps: int):
    _, valid_split, _ = standardized_digits()
    params, losses = train(
        sgd_step,
        rate=lambda t: cyclic(t, 0.01, 0.1, 50),
        steps=steps,
        hidden=(64, 64),
        draw=he_normal,
        activation="ReLU",
        momentum=0.9,
    )
    loss, accuracy = score(params, valid_split, activation="ReLU")
    print(f"validation: loss {loss:.3f}, accuracy {accuracy:.1%}")
    plt.semilogy(smooth(losses))
    plt.gca().set(xlabel="step", ylabel="training loss, mean of 20")
    plt.show()


experiment(300 if FULL else 2)

# %% [markdown]
# ## Summary
#
# 1. Standardise with the training split's statistics; a loss that stays at $\ln K$ says that
#    nothing is learned.
# 2. An activation's derivative multiplies the gradient at each layer: at most ¼ for the sigmoid,
#    0 or 1 for ReLU.
# 3. Weights of variance $2/n_\text{in}$ (He, ReLU) or $2/(n_\text{in} + n_\text{out})$ (Xavier)
#    keep signals level.
# 4. Momentum is mostly a larger rate that narrow valleys tolerate; Adam is momentum over RMSprop
#    with its start repaired; AdamW takes the decay out of the division.
# 5. Compare optimisers at their own best rates, choose on validation data, and warm up, then
#    decay.
#
# ## In practice, and further reading
#
# The library calls are `torch.nn.functional.relu` and its kin, `torch.nn.init`,
# `torch.optim.SGD` and `AdamW`, and `torch.optim.lr_scheduler`; `fit(..., logdir="runs")` writes
# the curves for TensorBoard. Transformers are mostly trained with AdamW, warm-up and cosine,
# convolutional networks often with SGD and momentum. In many large models ReLU's smooth
# relatives GELU and SiLU have replaced it.
#
# * X. Glorot, Y. Bengio, *Understanding the difficulty of training deep feedforward neural
#   networks*, AISTATS 2010.
# * K. He et al., *Delving deep into rectifiers*, ICCV 2015: section 2.2 is the derivation above.
# * I. Sutskever et al., *On the importance of initialization and momentum in deep learning*,
#   ICML 2013.
# * D. Kingma, J. Ba, *Adam*, ICLR 2015; I. Loshchilov, F. Hutter, *Decoupled weight decay
#   regularization*, ICLR 2019.
# * G. Goh, *Why momentum really works*, Distill 2017, https://distill.pub/2017/momentum.
