# %% [markdown]
# # Unit 01 · Backpropagation: how a network learns
#
# **Afterwards you can** draw any formula as a graph and push derivatives through it by hand; derive
# the backward pass of a linear layer with every index in place; test a backward pass so that bugs
# show; choose an initialisation for a given nonlinearity and say why; tell the eight usual
# optimisers apart; read a training curve.
#
# **Needed before:** unit 00 (softmax, cross-entropy, mini-batches), partial derivatives, matrix
# products. **Time:** 40-60 minutes. The two assignments, `autodiff` and `training`, build what is
# derived here.

# %% setup=true
import course

course.setup("01_backprop")

# %%
import math
from itertools import pairwise

import matplotlib.pyplot as plt
import torch
import torch.nn.functional as F
from matplotlib.axes import Axes
from torch import Tensor, nn

from course.plots import COLOURS

torch.set_num_threads(1)  # nets this small run no faster on more: threads would only wait
device = course.device()
steps = {"grade": 60, "small": 200, "full": 200}[course.profile()]

data = course.data.digits(device)  # 8 x 8 pixels in [0, 1], as rows of 64 numbers
mean, std = data.train_x.mean(0), data.train_x.std(0) + 0.01  # section 8 says why
x_train, x_valid, x_test = ((x - mean) / std for x in (data.train_x, data.valid_x, data.test_x))
y_train, y_valid, y_test = data.train_y, data.valid_y, data.test_y

# %% [markdown]
# ## 1. The same network, three times
#
# Here is a network of 20 layers that is to read handwritten digits. We train it three times: same
# architecture, same batches, same learning rate, *the same random numbers* as initial weights. The
# only difference is one constant that multiplies these weights at the start: 1, 0.5, or 1.5.


# %%
def twenty_layers(scale: float) -> nn.Sequential:
    """20 linear layers of 64 units with ReLU between; the same draws for every scale."""
    torch.manual_seed(0)
    layers: list[nn.Module] = []
    for _ in range(20):
        linear = nn.Linear(64, 64 if len(layers) < 38 else 10)
        nn.init.normal_(linear.weight, std=scale * math.sqrt(2 / 64))
        nn.init.zeros_(linear.bias)
        layers += [linear, nn.ReLU()]
    return nn.Sequential(*layers[:-1]).to(device)


def train(net: nn.Module, optimiser: torch.optim.Optimizer, scale: float = 1.0) -> list[float]:
    """Train on batches of 64 with the gradient of `scale` times the loss; returns the losses."""
    losses = []
    for step in range(steps):
        rows = torch.arange(64 * step, 64 * step + 64) % len(x_train)
        loss = F.cross_entropy(net(x_train[rows]), y_train[rows])
        optimiser.zero_grad()
        (scale * loss).backward()
        optimiser.step()
        losses.append(loss.item())
    return losses


# %%
nets = {scale: twenty_layers(scale) for scale in (1.0, 0.5, 1.5)}
curves = {s: train(n, torch.optim.SGD(n.parameters(), lr=0.02)) for s, n in nets.items()}
print("weights × 1.5, losses of the first steps:", *(f"{v:.4g}" for v in curves[1.5][:3]))

fig, ax = plt.subplots(figsize=(6.5, 2.8))
ax.plot(curves[1.0], label="weights × 1")
ax.plot(curves[0.5], label="weights × 0.5")
ax.axhline(math.log(10), color="0.5", lw=0.8, ls=":")
ax.text(steps, math.log(10) + 0.04, "ln 10", ha="right", color="0.4")
ax.set(xlabel="step", ylabel="training loss", ylim=(0, 3))
ax.set_title("Half the initial weights: a network that does not learn")
ax.legend()
plt.show()

# %% [markdown]
# Half the weights: the loss stays where it began. One and a half times: it starts in the thousands
# and is `nan` two steps later. Nothing is wrong with the code, the data or the optimiser, and no
# error message appears.
#
# Why would a factor of two decide everything? Why does the dead network rest at exactly that loss,
# 2.30? To answer we have to know how a derivative travels through 20 layers, backwards. That
# journey is this unit; in section 9 we come back with the answer.

# %% [markdown]
# ## 2. One neuron cuts the plane in two
#
# McCulloch and Pitts (1943) described a nerve cell as a switch: it adds its inputs and fires if the
# sum passes a threshold. With real weights, a later generalisation, that is: for inputs
# $\mathbf{x} \in \mathbb{R}^D$, weights $\mathbf{w} \in \mathbb{R}^D$ and a bias $b \in \mathbb{R}$
# (the negative of the threshold)
#
# $$ a = \varphi(z), \qquad z = \mathbf{w}^\top \mathbf{x} + b = \sum_{d=1}^{D} w_d x_d + b, \qquad
# \varphi(z) = [z > 0] , $$
#
# where $[\,\cdot\,]$ is 1 if what stands inside is true, else 0. $z = 0$ is a line (in $D$
# dimensions a hyperplane) perpendicular to $\mathbf{w}$. On one side the neuron fires, on the other
# it is silent: **a neuron is a half-plane.** Their neurons were wired by hand. Rosenblatt (1958)
# let one learn; his rule, as it is written today, after each example with target $t \in \{0, 1\}$:
#
# $$ \mathbf{w} \leftarrow \mathbf{w} + (t - a)\,\mathbf{x}, \qquad b \leftarrow b + (t - a) . $$
#
# A right answer changes nothing; a wrong one turns $\mathbf{w}$ towards the example if the neuron
# should have fired, away from it if it should not.

# %%
corners = torch.tensor([[0.0, 0.0], [0.0, 1.0], [1.0, 0.0], [1.0, 1.0]])
targets = {"AND": [0, 0, 0, 1], "OR": [0, 1, 1, 1], "XOR": [0, 1, 1, 0]}


def perceptron(target: list[int], epochs: int = 20) -> tuple[Tensor, float, list[int]]:
    """Rosenblatt's rule on the four corners: weights (2,), bias, mistakes in each epoch."""
    w, b, mistakes = torch.tensor([0.2, -0.3]), 0.1, []  # any start
    for _ in range(epochs):
        wrong = 0
        for x, t in zip(corners, target, strict=True):
            error = t - int(w @ x + b > 0)
            w, b, wrong = w + error * x, b + error, wrong + abs(error)
        mistakes.append(wrong)
    return w, b, mistakes


for name, target in targets.items():
    print(f"{name:4} mistakes per epoch:", *perceptron(target)[2])

# %% [markdown]
# From the fifth epoch on AND and OR make no more mistakes. XOR never gets there, and no other rule
# would. Suppose one neuron computed it. Then
#
# $$ b \le 0, \qquad w_1 + b > 0, \qquad w_2 + b > 0, \qquad w_1 + w_2 + b \le 0 . $$
#
# Add the two in the middle: $w_1 + w_2 + 2b > 0$, so $w_1 + w_2 + b > -b \ge 0$, which contradicts
# the last. Two neurons are enough, though, if a third one combines them: one fires when at least
# one input is on, the other when both are, and the output is "first but not second".

# %%
grid = torch.linspace(-0.5, 1.5, 201)
plane = torch.cartesian_prod(grid, grid)


def fires(w: tuple[float, float] | Tensor, b: float) -> Tensor:
    return (plane @ torch.as_tensor(w) + b > 0).float()


regions = {f"{name}: one neuron": fires(*perceptron(t)[:2]) for name, t in targets.items()}
regions["XOR: two neurons and a third"] = fires((1.0, 1.0), -0.5) - fires((1.0, 1.0), -1.5)

wanted = [*targets.values(), targets["XOR"]]
fig, axes = plt.subplots(1, 4, figsize=(9.8, 2.8), sharey=True)
for ax, (title, region), target in zip(axes, regions.items(), wanted, strict=True):
    ax.contourf(grid, grid, region.view(201, 201).T, levels=[-0.5, 0.5, 1.5], colors=["w", "0.82"])
    for x, t in zip(corners, target, strict=True):
        ax.plot(*x, "o", ms=10, mfc="k" if t else "w", mec="k")
    ax.set(title=title, xlabel="$x_1$", aspect="equal", xticks=[0, 1], yticks=[0, 1])
axes[0].set_ylabel("$x_2$")
fig.suptitle("Black points should lie in the grey region (neuron fires), white ones outside")
plt.show()

# %% [markdown]
# The lesson of the fourth panel: **layers**. But Rosenblatt's rule has no answer to the question
# that now arises. When the output is wrong, which of the two *hidden* neurons is to blame, and by
# how much? Minsky and Papert (1969) wrote the book on what single-layer perceptrons cannot do; the
# answer to the question of blame is a derivative. A threshold has no useful one: it is 0
# everywhere except at the jump, where there is none. So the first thing to go is the threshold.

# %% [markdown]
# ## 3. Six activations and their slopes
#
# | | $\varphi(z)$ | $\varphi'(z)$ |
# |---|---|---|
# | Heaviside | $[z > 0]$ | $0$ for $z \ne 0$ |
# | sigmoid $\sigma$ | $1 / (1 + e^{-z})$ | $\sigma(z)\,(1 - \sigma(z)) \le 1/4$ |
# | tanh | $\tanh z = 2\sigma(2z) - 1$ | $1 - \tanh^2 z \le 1$ |
# | ReLU | $\max(0, z)$ | $[z > 0]$ (value at 0: torch takes 0) |
# | leaky ReLU | $z$ if $z > 0$, else $a z$; usually $a = 0.01$ | $1$ if $z > 0$, else $a$ |
# | ELU | $z$ if $z > 0$, else $\alpha(e^z - 1)$ | $1$ if $z > 0$, else $\varphi(z) + \alpha$ |
#
# Look at the dashed lines below: the slope is what a derivative gets multiplied by on its way back
# through the neuron.

# %%
z = torch.linspace(-4, 4, 401, requires_grad=True)
activations = {
    "Heaviside": lambda z: (z > 0).float() + 0 * z,
    "sigmoid": torch.sigmoid,
    "tanh": torch.tanh,
    "ReLU": torch.relu,
    "leaky ReLU (a = 0.1)": lambda z: F.leaky_relu(z, 0.1),
    "ELU (α = 1)": F.elu,
}
fig, axes = plt.subplots(2, 3, figsize=(9, 4.6), sharex=True, sharey=True)
for ax, (name, phi) in zip(axes.flat, activations.items(), strict=True):
    value = phi(z)
    (slope,) = torch.autograd.grad(value.sum(), z)
    ax.plot(z.detach(), value.detach(), label=r"$\varphi(z)$")
    ax.plot(z.detach(), slope, label=r"$\varphi'(z)$")
    ax.set(title=f"{name}, largest slope {slope.max():.2f}", ylim=(-1.3, 2))
    ax.grid(alpha=0.3)
axes[0, 0].legend()
for ax in axes[1]:
    ax.set_xlabel("z")
plt.show()
print(f"20 sigmoids in a row multiply a derivative by at most {0.25**20:.1e}")

# %% [markdown]
# Sigmoid and tanh **saturate**: far from zero their slope vanishes, and the layers nearer to the
# input learn nothing through them. ReLU keeps slope 1 on the half where it fires, at the price that
# it passes nothing on the other. Leaky ReLU (Maas et al. 2013) and ELU (Clevert et al. 2016) repair
# that half. Transformers mostly use smooth relatives, GELU and SiLU; the derivatives work the same
# way.

# %% [markdown]
# ## 4. The chain rule, one arrow at a time
#
# Take $f(x, y, z) = (x + y)\,z$ at $x = -2$, $y = 5$, $z = -4$. Name the intermediate result
# $q = x + y$. Each operation knows only its own derivatives:
#
# $$ q = x + y:\quad \frac{\partial q}{\partial x} = 1,\ \frac{\partial q}{\partial y} = 1;
# \qquad\qquad f = q z:\quad \frac{\partial f}{\partial q} = z,\ \frac{\partial f}{\partial z} = q
# . $$

# %% [markdown]
# **Forward**, left to right: $q = 3$, $f = -12$. **Backward**, right to left, starting from
# $\partial f / \partial f = 1$. The product hands to each factor *the other factor* times what came
# in: $\partial f/\partial q = z = -4$, $\partial f/\partial z = q = 3$. The sum hands on what came
# in, to both:
#
# $$ \frac{\partial f}{\partial x} = \frac{\partial f}{\partial q}\,\frac{\partial q}{\partial x}
# = -4 \cdot 1 = -4,
# \qquad \frac{\partial f}{\partial y} = -4 \cdot 1 = -4 . $$

# %%
x, y, z = -2.0, 5.0, -4.0
q = x + y  # forward: compute, and remember
f = q * z

df = 1.0  # backward: the same statements, last one first
dq, dz = df * z, df * q  # needs z and q: values of the forward pass
dx, dy = dq * 1.0, dq * 1.0
values = {"x": x, "y": y, "z": z, "q": q, "f": f}
grads = {"x": dx, "y": dy, "z": dz, "q": dq, "f": df}

nudge = 0.01
for name, changed in {
    "x": (x + nudge + y) * z,
    "y": (x + y + nudge) * z,
    "z": q * (z + nudge),
}.items():
    print(f"{name} + {nudge}: f changes by {changed - f:+.2f}; derivative {grads[name]:+.0f}")

# %%
PLACE = {"x": (0, 4.2), "y": (0, 2.1), "z": (0, 0), "q": (1, 3.1), "f": (2, 1.5)}
SIGN = {"x": "x", "y": "y", "z": "z", "q": "+", "f": "×"}
EDGES = ["xq", "yq", "qf", "zf"]


def draw(ax: Axes, known: str, active: str = "") -> None:
    """Values above the nodes, the derivatives in `known` below; `active` edges are bold."""
    for start, end in EDGES:
        on = start + end in active.split()
        tail, head = (PLACE[end], PLACE[start]) if on else (PLACE[start], PLACE[end])
        arrow = {"arrowstyle": "-|>", "shrinkA": 13, "shrinkB": 13}
        arrow |= {"color": COLOURS[3], "lw": 2.2} if on else {"color": "0.6", "lw": 1}
        ax.annotate("", xy=head, xytext=tail, arrowprops=arrow)
    for name, (px, py) in PLACE.items():
        ax.plot(px, py, "o", ms=22, mfc="w", mec="0.2")
        ax.text(px, py, SIGN[name], ha="center", va="center")
        ax.text(px, py + 0.42, f"{values[name]:g}", ha="center", va="bottom", color=COLOURS[0])
        if name in known:
            below = ax.text(px, py - 0.42, f"{grads[name]:g}", ha="center", va="top")
            below.set(color=COLOURS[3], weight="bold")
    ax.set(xlim=(-0.4, 2.4), ylim=(-1.1, 5.3))
    ax.axis("off")


# %%
stages = {
    "1  forward": ("", ""), "2  start: df/df = 1": ("f", ""),
    "3  through ×": ("fqz", "qf zf"), "4  through +": ("fqzxy", "xq yq"),
}  # fmt: skip
fig, axes = plt.subplots(1, 4, figsize=(9.8, 3.4))
for ax, (title, (known, active)) in zip(axes, stages.items(), strict=True):
    draw(ax, known, active)
    ax.set_title(title, loc="left")
fig.suptitle("Values flow forward (above each node), derivatives of f flow back (below, bold)")
plt.show()

# %% [markdown]
# Two things to keep.
#
# **Why forward values are cached.** Backward through $\times$ needed $z$ and $q$, numbers that the
# forward pass had in hand. Recomputing them for each node would mean to run the network again from
# the input for each layer. So training remembers every intermediate result, which is why it takes
# so much more memory than inference.
#
# **Locality.** No node knew the whole formula. Each received one number, multiplied it by its own
# slopes, and sent it on. A library therefore needs the derivatives of a fixed list of operations,
# and gets the derivative of every program made of them.

# %% [markdown]
# ## 5. When a value is used twice
#
# Let now $u = a + b$, $v = ab$, $f = uv$. The value $a$ reaches $f$ on two roads, and the chain
# rule **adds** them:
#
# $$ \frac{\partial f}{\partial a} = \frac{\partial f}{\partial u}\frac{\partial u}{\partial a} +
# \frac{\partial f}{\partial v}\frac{\partial v}{\partial a} = v \cdot 1 + u \cdot b . $$
#
# At $a = 2$, $b = 3$: $u = 5$, $v = 6$, so $6 + 15 = 21$. In code the plus sign is `+=`; with `=`
# the road walked last wins. Here is a whole differentiator. A program is a list of lines (a
# *tape*), each "result, operation, two arguments".

# %%
Line = tuple[str, str, str, str]
OPERATIONS = {  # value, and the two slopes
    "+": (lambda a, b: a + b, lambda a, b: (1.0, 1.0)),
    "*": (lambda a, b: a * b, lambda a, b: (b, a)),
}


def run_forward(tape: list[Line], **inputs: float) -> dict[str, float]:
    values = dict(inputs)
    for out, op, a, b in tape:
        values[out] = OPERATIONS[op][0](values[a], values[b])
    return values


def run_backward(
    tape: list[Line], values: dict[str, float], accumulate: bool = True
) -> dict[str, float]:
    """Derivatives of the last line's result with respect to every value."""
    grads = dict.fromkeys(values, 0.0)
    grads[tape[-1][0]] = 1.0
    for out, op, a, b in reversed(tape):
        for arg, slope in zip((a, b), OPERATIONS[op][1](values[a], values[b]), strict=True):
            grads[arg] = grads[out] * slope + (grads[arg] if accumulate else 0.0)
    return grads


diamond = [("u", "+", "a", "b"), ("v", "*", "a", "b"), ("f", "*", "u", "v")]
values = run_forward(diamond, a=2.0, b=3.0)
print("added:      df/da =", run_backward(diamond, values)["a"])
print("overwritten: df/da =", run_backward(diamond, values, accumulate=False)["a"])

# %% [markdown]
# **Order matters too.** A node may send its derivative on only when *all* its users have reported.
# For $p = a \cdot a$, $r = p \cdot a$, $f = p + r$ the product $p$ has two users, $f$ and $r$;
# going back from $f$ one must visit $r$ before $p$. Any order in which each node comes after its
# arguments is a **topological order**, and its reverse is safe. A tape is in that order by
# construction, since nothing can be computed before its arguments; an engine that keeps only a
# graph has to sort it.

# %%
tape = [("p", "*", "a", "a"), ("r", "*", "p", "a"), ("f", "+", "p", "r")]
values = run_forward(tape, a=2.0)
print("f = a² + a³, f' = 2a + 3a² = 16")
print("in the order f, r, p:", run_backward(tape, values)["a"])
hasty = [tape[1], tape[0], tape[2]]
print("in the order f, p, r:", run_backward(hasty, values)["a"], "(p did not wait for r)")

doubling = [(f"x{k + 1}", "+", f"x{k}", f"x{k}") for k in range(50)]
values = run_forward(doubling, x0=1.0)
print(
    f"50 doublings: {len(doubling)} lines, derivative {run_backward(doubling, values)['x0']:.6g},"
)
print(f"paths from x0 to the end: {2**50:.6g}")

# %% [markdown]
# The last two lines say why backpropagation is an *algorithm* and not just the chain rule. The
# derivative is a sum over all paths, and there are $2^{50}$ of them; yet 50 lines of work
# found it, since what several paths share is computed once.
#
# **Why backwards?** For layers $\mathbf{h}_l = g_l(\mathbf{h}_{l-1})$, $l = 1, \dots, M$, with
# Jacobians $J_l$ the chain rule is a product, $J_M \cdots J_2 J_1$, and a product can be bracketed
# from either end. The loss is one number, so $J_M$ is a single *row*. From the left, everything
# stays a row: vector times matrix. From the right, one drags a whole matrix along.

# %%
widths = [64, 128, 128, 10, 1]  # input, two hidden layers, logits, loss
sizes = list(zip(widths[1:], widths[:-1], strict=True))  # shape (out, in) of each layer's Jacobian
reverse = sum(1 * out * inp for out, inp in sizes[:-1])
forward = sum(out * inp * widths[0] for out, inp in sizes[1:])
print(f"multiplications for one example: reverse {reverse:,}, forward {forward:,}")
print(f"forward needs {forward / reverse:.0f} times as many")

# %% [markdown]
# Reverse order costs a small multiple of evaluating the function, whatever the number of inputs (we
# shall see two matrix products in a layer's backward for one in its forward). Forward order costs
# such a multiple *for every input*, and wins where there are few inputs and many outputs. Training
# is the other extreme: all weights are inputs, the loss is one output.

# %% [markdown]
# ## 6. The same on tensors: one layer at a time
#
# A node per number is far too slow. Let a node be a whole **layer**: it gets the derivative of the
# loss with respect to its output and must return those with respect to its input and its
# parameters. The linear layer for a batch:
#
# $$ Z = X W^\top + \mathbf{1}\mathbf{b}^\top, \qquad Z_{nk} = \sum_{d=1}^{D} X_{nd} W_{kd} + b_k $$
#
# with $X$ $(B, D)$ holding one example a row, $W$ $(K, D)$ one neuron a row (torch's convention),
# $\mathbf{b}$ $(K)$, $Z$ $(B, K)$, and $\mathbf{1}$ a column of $B$ ones. From behind arrives
# $G = \partial L / \partial Z$, of shape $(B, K)$: $G_{nk} = \partial L / \partial Z_{nk}$. We want
# $\partial L/\partial W$, $\partial L/\partial \mathbf{b}$, $\partial L/\partial X$.
#
# Before any formula: which numbers of $Z$ does *one* weight touch? That decides which terms its
# derivative has.

# %%
torch.manual_seed(0)
B, D, K = 4, 3, 5
X, W, b = torch.randint(-3, 4, (B, D)).float(), torch.randint(-3, 4, (K, D)).float(), torch.zeros(K)
by_weight, by_input, by_bias = torch.autograd.functional.jacobian(
    lambda W, X, b: X @ W.T + b, (W, X, b)
)
touched = {  # each (B, K): the derivative of every Z[n, k] with respect to one number
    "the weight W[1, 2]:\ncolumn 1 of Z, by X[:, 2]": by_weight[:, :, 1, 2],
    "the input X[3, 0]:\nrow 3 of Z, by W[:, 0]": by_input[:, :, 3, 0],
    "the bias b[4]:\ncolumn 4 of Z, by 1": by_bias[:, :, 4],
}
fig, axes = plt.subplots(1, 3, figsize=(8, 2.7))
for ax, (title, slopes) in zip(axes, touched.items(), strict=True):
    ax.imshow(slopes.abs() > 0, cmap="Greys", vmin=0, vmax=3)
    for n in range(B):
        for k in range(K):
            ax.text(k, n, f"{slopes[n, k]:g}", ha="center", va="center")
    ax.set(title=title, xlabel="neuron k", ylabel="example n", xticks=range(K), yticks=range(B))
    ax.grid(False)
fig.suptitle("What Z[n, k] changes by when one number is raised by 1")
plt.show()
print("X[:, 2] =", X[:, 2].tolist(), "  W[:, 0] =", W[:, 0].tolist())

# %% [markdown]
# ### The weight: the step where people get lost
#
# $L$ depends on $W_{ij}$ only through the numbers $Z_{nk}$, so the chain rule sums over *all* of
# them, $n$ and $k$:
#
# $$ \frac{\partial L}{\partial W_{ij}} = \sum_{n=1}^{B} \sum_{k=1}^{K} \frac{\partial L}{\partial
# Z_{nk}}\,
# \frac{\partial Z_{nk}}{\partial W_{ij}} = \sum_n \sum_k G_{nk}\, \frac{\partial}{\partial W_{ij}}
# \Big( \sum_{d} X_{nd} W_{kd} + b_k \Big) . $$
#
# Three different letters run here and one must not mix them: $(i, j)$ is the one weight that we
# hold; $k$ and $d$ merely count. $\partial W_{kd}/\partial W_{ij}$ is 1 if it is the same weight,
# $k = i$ and $d = j$, else 0. Written with $\delta_{ki}$, which is 1 for $k = i$ and 0 otherwise:
#
# $$ \frac{\partial Z_{nk}}{\partial W_{ij}} = \sum_d X_{nd}\, \delta_{ki}\, \delta_{dj} =
# \delta_{ki}\, X_{nj} . $$
#
# This is the left picture: zero outside column $k = i$, and in that column the inputs $X_{nj}$.

# %% [markdown]
# Put it in. The sum over $k$ meets $\delta_{ki}$ and only the term $k = i$ survives. The sum over
# $n$ stays, because every example of the batch used the weight:
#
# $$ \frac{\partial L}{\partial W_{ij}} = \sum_n \sum_k G_{nk}\, \delta_{ki}\, X_{nj} = \sum_n
# G_{ni}\, X_{nj} . $$
#
# To read it as a matrix product the summed index has to stand in the middle, last of the first
# factor and first of the second: $\sum_n (G^\top)_{in} X_{nj}$. Hence
#
# $$ \boxed{\;\frac{\partial L}{\partial W} = G^\top X\;} \qquad (K, B)\,(B, D) = (K, D),
# \text{ the shape of } W . $$

# %% [markdown]
# **The bias** takes the same step with $\partial Z_{nk} / \partial b_i = \delta_{ki}$ (right
# picture), **the input** with $\partial Z_{nk} / \partial X_{ij} = \delta_{ni} W_{kj}$ (middle
# picture: now $n$ collapses and $k$ stays):
#
# $$ \frac{\partial L}{\partial b_i} = \sum_n G_{ni}, \qquad \frac{\partial L}{\partial X_{ij}} =
# \sum_k G_{ik} W_{kj}
# \;\Rightarrow\; \boxed{\;\frac{\partial L}{\partial X} = G\,W\;} \qquad (B, K)\,(K, D) = (B, D)
# . $$
#
# In one sentence: what was shared is summed over. Weights and biases are shared by examples, an
# input by neurons.

# %%
G = torch.randint(-3, 4, (B, K)).float()  # any upstream derivative
leaves = [t.clone().requires_grad_() for t in (X, W, b)]
theirs = torch.autograd.grad(leaves[0] @ leaves[1].T + leaves[2], leaves, G)
for name, ours, other in zip("XWb", (G @ W, G.T @ X, G.sum(0)), theirs, strict=True):
    print(f"dL/d{name}: shape {tuple(ours.shape)}, equal to autograd: {torch.equal(ours, other)}")
terms = [f"({G[n, 1]:g})({X[n, 2]:g})" for n in range(B)]
print("by hand, dL/dW[1, 2] =", " + ".join(terms), "=", (G.T @ X)[1, 2].item())

# %% [markdown]
# **Activation.** $A_{nk} = \varphi(Z_{nk})$ touches nothing but its own place, so all sums collapse
# and the product is elementwise: $\partial L/\partial Z = \partial L/\partial A \odot \varphi'(Z)$.
# For ReLU: pass where the *input* was positive, whatever the sign of what arrives.
#
# **Softmax and cross-entropy** belong in one node. For one example with logits $\mathbf{z}$, class
# $y$ and $p_k = e^{z_k} / \sum_j e^{z_j}$:
#
# $$ L = -\ln p_y = -z_y + \ln \sum_j e^{z_j} \quad\Rightarrow\quad \frac{\partial L}{\partial
# z_k} =
# -[k = y] + \frac{e^{z_k}}{\sum_j e^{z_j}} = p_k - [k = y] . $$
#
# With the mean over a batch, $G = (P - Y)/B$, $Y$ one-hot, both $(B, K)$. What the net believed,
# minus what was true: the gradient is the error itself. Taken apart, the two nodes compute $1/p_y$
# and multiply it by a $p_y$ that may have underflowed to 0; together there is nothing to divide by.

# %%
z = torch.tensor([2.0, 0.5, -1.0, 1.0], requires_grad=True)
(dz,) = torch.autograd.grad(F.cross_entropy(z, torch.tensor(1)), z)
p = z.detach().softmax(0)

fig, (left, right) = plt.subplots(1, 2, figsize=(6.5, 2.3))
left.bar(range(4), p, color=COLOURS[0])
left.set(title="what the net believes: p", xlabel="class k", xticks=range(4), ylim=(0, 1))
right.bar(range(4), dz, color=COLOURS[1], hatch="//", edgecolor="k", lw=0.5)
right.axhline(0, color="k", lw=0.8)
right.set(title="derivative by each logit: p − y (true class 1)", xlabel="class k", xticks=range(4))
plt.show()
difference = p - F.one_hot(torch.tensor(1), 4)
print("autograd's", dz.numpy().round(4), "  p - y", difference.numpy().round(4))
print("sum of the derivatives:", round(dz.sum().item(), 6))

# %% [markdown]
# The bars on the right sum to zero: a step against them raises the true logit and lowers each other
# one in proportion to how much it was believed.
#
# **The loss before training is known.** A net that knows nothing should say $p_k = 1/K$, and
# $-\ln(1/K) = \ln K$. For ten digits $\ln 10 \approx 2.303$. Print the loss at step 0. If it is
# something else, stop and look:


# %%
def first_loss(logits: Tensor) -> float:
    return F.cross_entropy(logits, y_train).item()


torch.manual_seed(1)
hidden = torch.relu(x_train @ (torch.randn(64, 64, device=device) * math.sqrt(2 / 64)))
directions = torch.randn(64, 10, device=device)
right_answer = 1000.0 * F.one_hot(y_train, 10)
print(f"ln 10                                     {math.log(10):.3f}")
print(f"last layer small (std 0.01)               {first_loss(hidden @ directions * 0.01):.3f}")
print(f"last layer far too large (std 1)          {first_loss(hidden @ directions):.3f}")
print(
    "softmax before the loss, at the start    ",
    f"{first_loss((hidden @ directions * 0.01).softmax(1)):.3f}",
)
print(f"softmax before the loss, all answers right {first_loss(right_answer.softmax(1)):.3f}")

# %% [markdown]
# Far above $\ln K$: the last layer's weights are too large, and the net starts out convinced of
# nonsense. The fourth line looks innocent; the fifth betrays it: with a softmax too many the loss
# of a *perfect* ten-class net is not 0 but 1.461, since the "logits" cannot leave $[0, 1]$. And the
# first experiment? Its half-sized net produced $\ln 10$ and stayed there: logits that are
# practically zero whatever the input.
#
# ### All layers together
#
# A multi-layer perceptron: linear, ReLU, linear, ReLU, …, linear. Everything derived so far in one
# class, no autograd.


# %%
class MLP:
    """Linear layers with ReLU between them; weights from He's rule (section 9)."""

    def __init__(self, *widths: int, seed: int = 0) -> None:
        draws = torch.Generator().manual_seed(seed)
        shapes = list(zip(widths[1:], widths[:-1], strict=True))
        self.weights = [
            (torch.randn(s, generator=draws) * math.sqrt(2 / s[1])).to(device) for s in shapes
        ]
        self.biases = [torch.zeros(s[0], device=device) for s in shapes]

    # the three local rules of backward, by name, so that we can break them below
    mask = staticmethod(lambda grad, out: grad * (out > 0))
    weight_grad = staticmethod(lambda grad, inp: grad.T @ inp)
    bias_grad = staticmethod(lambda grad: grad.sum(0))

    def forward(self, x: Tensor) -> Tensor:  # x (B, D)
        self.inputs = [x]  # cached for backward: what each layer received
        for w, b in zip(self.weights, self.biases, strict=True):
            x = self.inputs[-1] @ w.T + b
            self.inputs.append(torch.relu(x))
        return x  # the last layer's z, without ReLU: the logits (B, K)

    def backward(self, grad: Tensor) -> None:  # grad (B, K): dL/dlogits
        for i in reversed(range(len(self.weights))):
            self.weights[i].grad = self.weight_grad(grad, self.inputs[i])
            self.biases[i].grad = self.bias_grad(grad)
            if i > 0:
                grad = self.mask(grad @ self.weights[i], self.inputs[i])


# %% [markdown]
# **How many parameters?** A layer from $n_\text{in}$ to $n_\text{out}$ has
# $n_\text{out}(n_\text{in} + 1)$: each neuron owns a weight per input *and one bias*. Forgetting
# the bias is the usual slip. For 64 pixels, two hidden layers of 64 and 10 classes:

# %%
widths = (64, 64, 64, 10)
by_layer = [out * (inp + 1) for inp, out in pairwise(widths)]
net = MLP(*widths)
print(" + ".join(map(str, by_layer)), "=", sum(by_layer), "parameters")
print("without the biases it would be", sum(by_layer) - sum(widths[1:]))
assert sum(by_layer) == sum(t.numel() for t in net.weights + net.biases)

# %% [markdown]
# ### Is the backward pass right?
#
# It ran; the shapes fit (torch refuses a `.grad` of another shape); surely the loss will show
# whether it is wrong? Five plausible bugs, each a change of one expression. Of each we ask: does
# the net train? And do its gradients agree with numbers obtained without any backward pass,
# $\big(L(\theta + h) - L(\theta - h)\big) / 2h$ for a few parameters $\theta$? Before you read the
# table, bet on which bugs the accuracy will give away.

# %%
BUGS = {
    "correct": {},
    "ReLU's mask forgotten": {"mask": lambda grad, out: grad},
    "mask by the sign of the gradient": {"mask": lambda grad, out: grad * (grad > 0)},
    "square weight gradient transposed": {
        "weight_grad": lambda g, x: x.T @ g if g.shape == x.shape else g.T @ x
    },
    "bias gradient averaged": {"bias_grad": lambda grad: grad.mean(0)},
    "bias gradient of the first example": {"bias_grad": lambda grad: grad[0]},
}


def gradient_error(net: MLP, x: Tensor, y: Tensor, h: float = 1e-5) -> float:
    """Largest relative error against central differences, sampled in each tensor (float64)."""
    params = net.weights = [w.double() for w in net.weights]
    net.biases = [b.double() for b in net.biases]
    net.backward((net.forward(x.double()).softmax(1) - F.one_hot(y, 10)) / len(y))
    worst = 0.0
    for tensor in params + net.biases:
        assert tensor.grad is not None
        flat, grad = tensor.view(-1), tensor.grad.reshape(-1)
        for i in range(0, len(flat), len(flat) // 5):
            loss = []
            for step in (h, -2 * h):  # up, then down by twice as much
                flat[i] += step
                loss.append(F.cross_entropy(net.forward(x.double()), y).item())
            flat[i] += h
            numeric = (loss[0] - loss[1]) / (2 * h)
            size = max(abs(numeric) + abs(grad[i].item()), 1e-6)
            worst = max(worst, abs(numeric - grad[i].item()) / size)
    return worst


# %%
print(f"{'':38}{'loss':>7}{'valid. accuracy':>17}{'gradient check':>16}")
for name, pieces in BUGS.items():
    Buggy = type("Buggy", (MLP,), {k: staticmethod(v) for k, v in pieces.items()})
    net = Buggy(64, 64, 64, 10)
    optimiser = torch.optim.SGD(net.weights + net.biases, lr=0.1)  # p -= 0.1 * p.grad
    for step in range(steps):
        rows = torch.arange(64 * step, 64 * step + 64) % len(x_train)
        probs = net.forward(x_train[rows]).softmax(1)
        net.backward((probs - F.one_hot(y_train[rows], 10)) / len(rows))
        optimiser.step()
    loss = F.cross_entropy(net.forward(x_train), y_train).item()
    score = (net.forward(x_valid).argmax(1) == y_valid).float().mean().item()
    error = gradient_error(Buggy(64, 64, 64, 10, seed=1), x_train[:32], y_train[:32])
    print(f"{name:38}{loss:7.3f}{score:17.1%}{error:16.0e}")

# %% [markdown]
# Read the table line by line. All the shapes fitted, or the cell would have stopped. A net with
# wrong gradients for its biases loses nothing that one would notice; one whose ReLU forgot its mask
# little more; a square weight matrix with a transposed gradient still gets most digits right. Only
# one bug is fatal. **"It trains" is not a test; the gradient check is:** its error separates right
# from wrong by eight orders of magnitude.

# %% [markdown]
# ## 7. How small should h be?
#
# "As small as possible" is wrong. Let $u \approx 1.1 \cdot 10^{-16}$ be the relative rounding error
# of one float64 number. Taylor, and two values of $f$ each wrong by up to $u|f|$:
#
# $$ \frac{f(x+h) - f(x)}{h} \approx f' + \underbrace{\tfrac{h}{2} f''}_{\text{truncation}} +
# \underbrace{\tfrac{2u|f|}{h}}_{\text{rounding, at most}},
# \qquad \frac{f(x+h) - f(x-h)}{2h} \approx f' + \tfrac{h^2}{6} f''' + \tfrac{u|f|}{h} . $$
#
# (In the central quotient the terms with $f''$ cancel: that is its whole point.) One error falls
# with $h$, the other grows. Setting the derivative of their sum to zero:
#
# $$ \tfrac{1}{2}|f''| = \frac{2u|f|}{h^2} \Rightarrow h^* = 2\sqrt{u\,|f/f''|} \sim u^{1/2}; \qquad
# \tfrac{h}{3}|f'''| = \frac{u|f|}{h^2} \Rightarrow h^* = \sqrt[3]{3u\,|f/f'''|} \sim u^{1/3} . $$
#
# At $h^*$ the error is of order $u^{1/2}$ one-sided, but $u^{2/3}$ for the central quotient. Take
# $f = \exp$ at $x = 1$: there $f = f' = f'' = f'''$ and the constants drop out.

# %%
h = 2.0 ** -torch.arange(2, 50, dtype=torch.float64)  # powers of two: x + h is exact
one, u = torch.tensor(1.0, dtype=torch.float64), 2.0**-53


def relative(estimate: Tensor) -> Tensor:
    return (estimate.double() / math.e - 1).abs()


one_sided = relative(((one + h).exp() - one.exp()) / h)
central = relative(((one + h).exp() - (one - h).exp()) / (2 * h))
low = h[h > 1e-7].float()
single = relative(((1 + low).exp() - (1 - low).exp()) / (2 * low))

# %%
fig, ax = plt.subplots(figsize=(7, 3.4))
ax.loglog(h, one_sided, "o", color=COLOURS[0], label="one-sided")
ax.loglog(h, central, "^", color=COLOURS[3], label="central")
ax.loglog(low, single, "s", color="k", mfc="none", label="central, float32")
ax.loglog(h, h / 2 + 2 * u / h, color=COLOURS[0], lw=1, ls="-")
ax.loglog(h, h**2 / 6 + u / h, color=COLOURS[3], lw=1, ls="--")
ax.set(xlabel="h", ylabel="relative error", ylim=(1e-13, 1))
ax.set_title("Numerical derivative of exp: points measured, lines derived")
ax.legend()
plt.show()
for name, error, best in [
    ("one-sided", one_sided, 2 * u**0.5), ("central", central, (3 * u) ** (1 / 3))
]:  # fmt: skip
    found = h[error.argmin()]
    print(f"{name:10} best h {best:.1e} derived, {found:.1e} found, error {error.min():.0e}")
i = (h - 1e-5).abs().argmin()
print(f"at h = {h[i]:.1e}: one-sided {one_sided[i]:.0e}, central {central[i]:.0e}")
print(f"float32, central: at best {single.min():.0e}")

# %% [markdown]
# The lines are the two formulas, not fits: on the right the points follow them, on the left, where
# they are a bound, the points scatter below. Rules that follow: use **central** differences, in
# **float64**, with $h \approx 10^{-5}$; in float32 one cannot tell a small bug from rounding.
# Compare relative errors. And keep away from kinks: if $z - h < 0 < z + h$ inside a ReLU, the
# quotient averages two slopes and accuses a correct backward.

# %% [markdown]
# ## 8. Data first: why inputs are normalised
#
# Gradient descent on a quadratic loss with Hessian $H$, eigenvalues
# $\lambda_\min \le \dots \le \lambda_\max$: along each eigenvector the distance to the minimum is
# multiplied by $1 - \eta\lambda$ in each step. The steepest direction demands
# $\eta < 2/\lambda_\max$, or it diverges; with $\eta = 1/\lambda_\max$ the flattest one is
# multiplied by $1 - 1/\kappa$ a step, where $\kappa = \lambda_\max/\lambda_\min$ is the **condition
# number**. So the number of steps grows like $\kappa$.
#
# The smallest example: one input $x$, a weight and a bias, squared error
# $\frac{1}{2N}\sum_n (w x_n + b - t_n)^2$. Its Hessian (a bar is a mean over the $N$ examples)
#
# $$ H = \begin{pmatrix} \overline{x^2} & \bar{x} \\ \bar{x} & 1 \end{pmatrix} $$
#
# becomes the identity, $\kappa = 1$, once $x$ has mean 0 and variance 1. Below $x$ is the pixel
# with the most ink, and $t$ says whether the digit is a zero.

# %%
pixel = data.train_x.mean(0).argmax()
raw, target = data.train_x[:, pixel].double().cpu(), (y_train == 0).double().cpu()
fig, axes = plt.subplots(1, 2, figsize=(7.5, 3.2))
normalised = (raw - raw.mean()) / raw.std(unbiased=False)
for ax, name, x in zip(axes, ("raw", "normalised"), (raw, normalised), strict=True):
    features = torch.stack([x, torch.ones_like(x)], dim=1)  # (N, 2): for w and for b
    hessian = features.T @ features / len(x)
    low, high = torch.linalg.eigvalsh(hessian)
    best = torch.linalg.solve(hessian, features.T @ target / len(x))
    path = [best + torch.tensor([1.2, 0.9])]  # the same distance from the minimum in both
    while len(path) < 2000 and (path[-1] - best).norm() > 1e-3:
        path.append(path[-1] - hessian @ (path[-1] - best) / high)
    offset = torch.cartesian_prod(*[torch.linspace(-1.6, 1.6, 81, dtype=torch.float64)] * 2)
    loss = 0.5 * (offset @ hessian * offset).sum(1).view(81, 81).T
    side = torch.linspace(-1.6, 1.6, 81)
    ax.contour(
        side, side, loss, levels=[0.01, 0.05, 0.15, 0.4, 0.8, 1.5], colors="0.7", linewidths=0.8
    )
    ax.plot(*(torch.stack(path) - best).T, "o-", color=COLOURS[0], ms=3)
    ax.set(
        title=f"{name}: κ = {high / low:.1f}, steps: {len(path) - 1}",
        xlabel="w − best w",
        aspect="equal",
    )
    ax.grid(False)
axes[0].set_ylabel("b − best b")
fig.suptitle("Gradient descent with rate 1/λmax until within 0.001 of the minimum")
plt.show()
features = torch.stack([1000 * raw, torch.ones_like(raw)], dim=1)
print(f"the same ink counted in thousandths: κ = {torch.linalg.cond(features.T @ features):.1e}")

# %% [markdown]
# A step straight to the goal, against a walk along a valley: and this is *one* well-behaved input.
# A mere change of its unit takes $\kappa$ into the millions. So: subtract the mean, divide by
# the standard deviation, feature by feature. Two conventions that are easily forgotten: the
# statistics come from the **training** split alone and are applied unchanged to the others; and a
# pixel that never changes has standard deviation 0, hence the small constant that section 1 added.

# %% [markdown]
# ## 9. Initialisation
#
# ### Why not start at zero?
#
# Because then all neurons of a layer are one neuron. Suppose two hidden neurons have equal incoming
# weights, equal biases and equal outgoing weights. Then they compute the same $z$ and the same
# activation, and receive the same derivative. So their rows of $\partial L / \partial W = G^\top X$
# are equal (equal columns of $G$), and so are their columns in the next layer's gradient (equal
# columns of its $X$): after the step the two are equal still. By induction: for ever. Any constant
# does it, with any optimiser of this lecture, for they all treat equal histories equally.
#
# We train a net with two hidden layers of 32 tanh neurons from four starts and look at the rank of
# its three weight matrices. (In float64 on the CPU, so that what we see is not rounding.)


# %%
def constant_start(value: float | None, seed: int = 0) -> nn.Sequential:
    """64-32-32-10 with tanh, every parameter equal to `value`; None: torch's random default."""
    torch.manual_seed(seed)
    net = nn.Sequential(
        nn.Linear(64, 32), nn.Tanh(), nn.Linear(32, 32), nn.Tanh(), nn.Linear(32, 10)
    )
    if value is not None:
        for parameter in net.parameters():
            nn.init.constant_(parameter, value)
    return net.double()


def linears(net: nn.Sequential) -> list[nn.Linear]:
    """The linear layers of a net, in order."""
    return [layer for layer in net.children() if isinstance(layer, nn.Linear)]


# %%
x64, v64, labels = x_train.double().cpu(), x_valid.double().cpu(), y_train.cpu()
twins = {}
for value in (0.0, 0.1, 0.5, None):
    net = twins[value] = constant_start(value)
    optimiser = torch.optim.SGD(net.parameters(), lr=0.1)
    most = torch.zeros(3, dtype=torch.int64)
    for step in range(steps):
        rows = torch.arange(64 * step, 64 * step + 64) % len(x64)
        optimiser.zero_grad()
        F.cross_entropy(net(x64[rows]), labels[rows]).backward()
        optimiser.step()
        if step % 10 == 0:
            ranks = [torch.linalg.matrix_rank(layer.weight) for layer in linears(net)]
            most = most.maximum(torch.stack(ranks))
    score = (net(v64).argmax(1) == y_valid.cpu()).double().mean()
    name = "random" if value is None else value
    print(
        f"start {name!s:7} largest ranks seen {most.tolist()!s:13}",
        f"validation accuracy {score:.1%}",
    )

# %%
fig, axes = plt.subplots(2, 8, figsize=(8.5, 2.5))
for row, (value, name) in zip(axes, {0.1: "all 0.1", None: "random"}.items(), strict=True):
    images = linears(twins[value])[0].weight.detach()[:8].view(8, 8, 8)
    for k, ax in enumerate(row):
        ax.imshow(images[k], vmin=-images.abs().max(), vmax=images.abs().max())
        ax.set(xticks=[], yticks=[])
        ax.set_title(f"neuron {k}" if value else "")
    row[0].set_ylabel(name)
fig.suptitle(
    "Weights of the first 8 of 32 neurons after training: copies of one neuron, or 32 neurons"
)
plt.show()

wide = twins[0.1]
narrow = nn.Sequential(nn.Linear(64, 1), nn.Tanh(), nn.Linear(1, 1), nn.Tanh(), nn.Linear(1, 10))
narrow.double()
with torch.no_grad():
    for one, many in zip(linears(narrow), linears(wide), strict=True):
        copies = many.in_features // one.in_features  # equal inputs that become one: 1, 32, 32
        one.weight.copy_(copies * many.weight[: one.out_features, : one.in_features])
        one.bias.copy_(many.bias[: one.out_features])
    difference = (wide(v64) - narrow(v64)).abs().max()
print(f"32 neurons a layer against one a layer: the logits differ by at most {difference:.0e}")

# %% [markdown]
# The net with 32 neurons a layer *is* a net with one neuron a layer (whose outgoing weights are 32
# times as large), to the last digits of a float64: **the first surprise**. Started at exactly zero
# it is worse still: all activations are $\tanh 0 = 0$, so every $G^\top A$ is 0, nothing comes back
# through $G W$, and only the last bias learns how frequent the classes are. Randomness at the start
# is no nuisance that one tolerates; it is what makes the neurons different. (Biases may start at
# zero: the weights have already broken the tie.)

# %% [markdown]
# ### How large, then? The signal forward
#
# Let the weights of a layer be independent, of each other and of the layer's inputs, with mean 0
# and variance $\sigma^2$, biases 0, and follow $z_k = \sum_d W_{kd}\, x_d$ with
# $d = 1, \dots, n_\text{in}$. Since $\mathbb{E}[W_{kd}] = 0$, also $\mathbb{E}[z_k] = 0$, and
#
# $$ \operatorname{Var}(z_k) = \mathbb{E}[z_k^2] = \sum_{d} \sum_{d'} \mathbb{E}[W_{kd}
# W_{kd'}]\;\mathbb{E}[x_d x_{d'}]
# = \sum_d \sigma^2\, \mathbb{E}[x_d^2] = n_\text{in}\,\sigma^2\;\mathbb{E}[x^2] . $$

# %% [markdown]
# Two places to stop at. The double sum collapsed because *different weights* are uncorrelated; the
# inputs may depend on each other as they like. And what remains is $\mathbb{E}[x^2]$ (the average
# of $\mathbb{E}[x_d^2]$ over $d$), **not** $\operatorname{Var}(x)$: they differ when the inputs
# have a mean, and after a ReLU they do.
#
# *Nearly linear activation* (tanh near 0): $x \approx z$ of the layer before, so the variance is
# kept if $n_\text{in}\sigma^2 = 1$.
#
# *ReLU:* $z$ is distributed symmetrically about 0 if $W$ is (Gaussian or uniform), so squaring and
# keeping the positive half gives $\mathbb{E}[\max(0, z)^2] = \tfrac12 \mathbb{E}[z^2]$. Each layer
# multiplies the mean square by $\tfrac12 n_\text{in}\sigma^2$, and
#
# $$ \sigma^2 = \frac{2}{n_\text{in}} \qquad \text{(He et al. 2015, eq. 10)}. $$

# %% [markdown]
# ### And the gradient backward
#
# With $g_d = \varphi'(z_d) \sum_{k=1}^{n_\text{out}} W_{kd}\, g'_k$, where $g'$ comes from the
# layer behind, the same steps give
# $\mathbb{E}[g^2] = \mathbb{E}[\varphi'^2]\; n_\text{out}\, \sigma^2\; \mathbb{E}[g'^2]$ (now
# assuming that $g'$ is independent of $W$, which is only nearly so). For ReLU
# $\mathbb{E}[\varphi'^2] = \tfrac12$: kept if $\sigma^2 = 2/n_\text{out}$. In the linear case
# forward wants $1/n_\text{in}$ and backward $1/n_\text{out}$; **Xavier** takes the middle,
#
# $$ \sigma^2 = \frac{2}{n_\text{in} + n_\text{out}} \quad
# \text{(Glorot and Bengio 2010, eq. 12)}, \qquad
# W \sim U\Big(\pm\sqrt{\tfrac{6}{n_\text{in} + n_\text{out}}}\Big) \quad \text{(eq. 16)}, $$
#
# as $U(\pm a)$ has variance $a^2/3$. Now the test, 50 layers deep.

# %%
STARTS = {  # standard deviation for a layer n -> n, where Xavier's variance is 1/n
    "small, 0.01": lambda n: 0.01,
    "torch default": lambda n: math.sqrt(1 / (3 * n)),
    "Xavier": lambda n: math.sqrt(1 / n),
    "He": lambda n: math.sqrt(2 / n),
}
PHI = {"tanh": torch.tanh, "ReLU": torch.relu, "sigmoid": torch.sigmoid}


def through_depth(phi: str, std: float, n: int, batch: int = 64) -> tuple[Tensor, Tensor]:
    """Mean squares of activations and of derivatives by z in 50 layers of n units (float64)."""
    torch.manual_seed(0)
    h, zs, forward = torch.randn(batch, n, dtype=torch.float64), [], []
    for _ in range(50):
        zs.append((h @ (std * torch.randn(n, n, dtype=torch.float64)).T).requires_grad_())
        h = PHI[phi](zs[-1])
        forward.append(h.square().mean().detach())
    grads = torch.autograd.grad((h * torch.randn_like(h)).sum(), zs)
    return torch.stack(forward), torch.stack([g.square().mean() for g in grads])


# %%
units = {"grade": 64, "small": 256, "full": 256}[course.profile()]
profiles = {
    (phi, name): through_depth(phi, std(units), units)
    for phi in PHI
    for name, std in STARTS.items()
}


def plot_depth(which: int, ylabel: str, title: str) -> None:
    fig, axes = plt.subplots(1, 3, figsize=(9.5, 3.1), sharey=True)
    for ax, phi in zip(axes, PHI, strict=True):
        for name in STARTS:
            ax.semilogy(range(1, 51), profiles[phi, name][which].clamp(min=1e-40), label=name)
        ax.set(title=phi, xlabel="layer", ylim=(1e-24, 1e3))
    axes[0].set_ylabel(ylabel)
    axes[1].legend(fontsize=8)
    fig.suptitle(title)
    plt.show()


plot_depth(0, "mean square of the activations", "Forward: only He keeps a ReLU net alive")

# %%
plot_depth(
    1, "mean square of ∂L/∂z", "Backward, from layer 50 to 1: sigmoid loses it with all four starts"
)
for phi, name in [("ReLU", "He"), ("ReLU", "Xavier"), ("tanh", "Xavier"), ("sigmoid", "Xavier")]:
    forward, backward = profiles[phi, name]
    ratio = backward[0] / backward[-1]
    print(f"{phi:8}{name:7} activations at layer 50 {forward[-1]:.1e}, gradient 1 : 50 {ratio:.1e}")
print(
    f"predicted: ReLU with Xavier 2**-50 = {2.0**-50:.1e}; tanh with Xavier 1/(2 * 50) = {1 / 100}"
)

# %% [markdown]
# - **ReLU with Xavier** halves the mean square at each layer, as derived: about $2^{-50}$ after 50
#   layers. He holds it (the wobble is the luck of 256 units).
# - **tanh with Xavier** does not stay level, it decays slowly. For small $q = \mathbb{E}[z^2]$,
#   $\tanh^2 z \approx z^2 - \frac23 z^4$, and with $\mathbb{E}[z^4] = 3q^2$ (Gaussian) each layer
#   makes $q - 2q^2$ of $q$. Then $1/q$ grows by about 2 a layer and $q \approx 1/(2l)$ after
#   $l$ layers.
# - **sigmoid** looks perfectly healthy in the first figure. Its activations are about ½ whatever
#   comes in: a mean square near ¼ that carries no information. The second figure shows the damage.
#   *Look both ways.*
# - **torch's default** for `nn.Linear`, $U(\pm 1/\sqrt{n_\text{in}})$, has variance
#   $1/(3 n_\text{in})$: neither Xavier nor He. The three layers above learnt well with it (the
#   start called random); through fifty no signal would come.

# %% [markdown]
# ### The answer to section 1
#
# The 20-layer net at factor 1 was He's initialisation. With biases 0 ReLU layers are homogeneous:
# multiply all weights by $s > 0$ and the logits are multiplied by *exactly* $s^{20}$; the gradient
# of each weight matrix by $s^{19}$, for the other 19 matrices (up to $p - y$, which changes with
# the logits).

# %%
for scale in (1.0, 0.5, 1.5):
    net = twenty_layers(scale)
    logits = net(x_train)
    loss = F.cross_entropy(logits, y_train)
    (first,) = torch.autograd.grad(loss, [linears(net)[0].weight])
    size, grad = logits.std().item(), first.norm().item()
    print(f"{scale}^20 = {scale**20:.1e}  logits {size:.1e}  loss {loss:7.2f}  gradient {grad:.1e}")

# %% [markdown]
# Half the weights: forward a millionth of the signal, backward two millionths. The net can say
# nothing but "all classes alike", whose loss is $\ln 10$, and the gradient that might change that
# all but vanishes. With 1.5 the logits are thousands, and so is the loss. Nothing was broken:
# $0.5^{20}$ is simply a very small number.

# %% [markdown]
# ## 10. Optimisers
#
# The gradient of a mini-batch says which way is down *here*. What to do with it is the optimiser's
# business. Let $\theta$ be one parameter, $g$ its gradient, $\eta$ the learning rate; every buffer
# ($v$, $s$, $r$) belongs to that parameter and starts at 0. Written as torch computes them:
#
# $$
# \begin{array}{lll}
# \text{SGD} & & \theta \leftarrow \theta - \eta\, g \\[2pt]
# \text{momentum} & v \leftarrow \mu v + g & \theta \leftarrow \theta - \eta\, v \\[2pt]
# \text{Nesterov} & v \leftarrow \mu v + g & \theta \leftarrow \theta - \eta\,(g + \mu v) \\[2pt]
# \text{Adagrad} & s \leftarrow s + g^2 & \theta \leftarrow \theta - \eta\, g / (\sqrt{s} +
# \varepsilon) \\[2pt]
# \text{RMSProp} & s \leftarrow \alpha s + (1-\alpha)\, g^2 & \theta \leftarrow \theta - \eta\, g
# / (\sqrt{s} + \varepsilon) \\[2pt]
# \text{Adadelta} & s \leftarrow \rho s + (1-\rho)\, g^2, \quad
# \Delta = g\, \sqrt{r + \varepsilon} \big/ \sqrt{s + \varepsilon}, \quad r \leftarrow \rho r +
# (1-\rho)\, \Delta^2 &
# \theta \leftarrow \theta - \eta\, \Delta
# \end{array}
# $$
#
# Sources differ. Sutskever et al. (2013) write momentum as $v \leftarrow \mu v - \eta g$,
# $\theta \leftarrow \theta + v$, the same until $\eta$ changes, and take Nesterov's gradient at
# $\theta + \mu v$. Torch's defaults: RMSProp $\alpha = 0.99$; Adadelta $\rho = 0.9$, $\eta = 1$,
# where Zeiler (2012) has $\rho = 0.95$ and no rate.
#
# Momentum sums up *directions*; Adagrad, RMSProp and Adadelta divide by the usual *size* of the
# gradient, each coordinate by its own. (Adadelta then multiplies by the usual size of its steps.)

# %% [markdown]
# **Adam** (Kingma and Ba 2015, Algorithm 1) does both. With $t = 1, 2, \dots$ counting steps,
#
# $$ m \leftarrow \beta_1 m + (1 - \beta_1) g, \quad s \leftarrow \beta_2 s + (1 - \beta_2) g^2,
# \quad
# \hat m = \frac{m}{1 - \beta_1^t}, \quad \hat s = \frac{s}{1 - \beta_2^t}, \quad
# \theta \leftarrow \theta - \eta\, \frac{\hat m}{\sqrt{\hat s} + \varepsilon} . $$
#
# Why the hats? The buffers start at 0. For a constant gradient $g$ the first average is
# $m = (1 - \beta_1)(1 + \beta_1 + \dots + \beta_1^{t-1})\, g = (1 - \beta_1^t)\, g$: too small by
# just the factor that we divide by. In the first step $\hat m = g$, $\hat s = g^2$, so every
# coordinate moves by $\eta \cdot \operatorname{sign}(g)$, be the gradient $10^{-3}$ or $10^{3}$.
# Without the hats the first step would be $(1 - \beta_1)/\sqrt{1 - \beta_2}$ times as long.

# %% [markdown]
# **Weight decay.** Adding $\frac{\lambda}{2}\|\theta\|^2$ to the loss adds $\lambda\theta$ to the
# gradient. **AdamW** (Loshchilov and Hutter 2019) keeps it out of the gradient and shrinks the
# weights directly, $\theta \leftarrow (1 - \eta\lambda)\,\theta$ in torch, before the Adam step (in
# the paper the schedule scales $\lambda$, the base rate does not). Below we see that this is not
# the same.

# %%
p = torch.tensor([1.0, 1.0], requires_grad=True)
adam = torch.optim.Adam([p], lr=0.1)
(p * torch.tensor([1e-3, -1e3])).sum().backward()
adam.step()
print(
    "gradient (0.001, -1000): Adam's first step with rate 0.1 is", (p.detach() - 1).numpy().round(4)
)
print(f"without bias correction it would be {(1 - 0.9) / math.sqrt(1 - 0.999):.2f} times as long")

# %%
OPTIMISERS = {  # a rate that suits each: another rate gives another picture
    "SGD, 0.026": lambda p: torch.optim.SGD(p, 0.026),
    "momentum 0.8, 0.026": lambda p: torch.optim.SGD(p, 0.026, momentum=0.8),
    "Nesterov 0.8, 0.026": lambda p: torch.optim.SGD(p, 0.026, momentum=0.8, nesterov=True),
    "Adagrad, 0.5": lambda p: torch.optim.Adagrad(p, 0.5),
    "RMSProp (α 0.9), 0.05": lambda p: torch.optim.RMSprop(p, 0.05, alpha=0.9),
    "Adadelta, 1": lambda p: torch.optim.Adadelta(p, 1.0),
    "Adam, 0.2": lambda p: torch.optim.Adam(p, 0.2),
    "AdamW (λ 0.5), 0.2": lambda p: torch.optim.AdamW(p, 0.2, weight_decay=0.5),
}


def walk(make, surface, start: list[float], steps: int = 60) -> Tensor:
    """The points that an optimiser visits, (steps + 1, 2)."""
    p = torch.tensor(start, requires_grad=True)
    optimiser, points = make([p]), [p.detach().clone()]
    for _ in range(steps):
        optimiser.zero_grad()
        surface(*p).backward()
        optimiser.step()
        points.append(p.detach().clone())
    return torch.stack(points)


# %%
def show_walks(
    surface, start: list[float], x: Tensor, y: Tensor, levels: list[float], title: str
) -> None:
    fig, axes = plt.subplots(2, 4, figsize=(9.8, 4), sharex=True, sharey=True)
    for ax, (name, make) in zip(axes.flat, OPTIMISERS.items(), strict=True):
        path = walk(make, surface, start)
        ax.contour(
            x, y, surface(x[None, :], y[:, None]), levels=levels, colors="0.75", linewidths=0.7
        )
        ax.plot(*path.T, ".-", color=COLOURS[0], ms=3, lw=0.9)
        ax.plot(*path[0], "ks", *path[-1], "k*", ms=7)
        ax.set_title(f"{name}: f = {surface(*path[-1]):.2g}", fontsize=8.5)
        ax.grid(False)
        ax.set(xlabel="x", ylabel="y")
        ax.label_outer()
    fig.suptitle(title)
    plt.show()


# %%
show_walks(
    lambda x, y: 0.5 * (x**2 + 50 * y**2),
    start=[-4.0, 0.5],
    x=torch.linspace(-4.5, 1, 101),
    y=torch.linspace(-0.8, 0.8, 101),
    levels=[0.05, 0.5, 2, 5, 10],
    title="A ravine, κ = 50: 60 steps from the square to the star; the minimum is at (0, 0)",
)
show_walks(
    lambda x, y: 0.5 * x**2 - 0.5 * y**2 + 0.25 * y**4,
    start=[-1.5, 0.001],
    x=torch.linspace(-1.8, 0.6, 101),
    y=torch.linspace(-0.4, 1.4, 101),
    levels=[-0.24, -0.2, -0.12, -0.03, 0.03, 0.2, 0.5, 1],
    title="A saddle at (0, 0), start 0.001 beside the ridge: who finds the minimum at (0, 1)?",
)

# %% [markdown]
# **Ravine.** At this rate SGD soon lies on the floor and creeps; at a larger one it would flip from
# wall to wall. Momentum adds up the creeping and overshoots. The methods that divide by the
# gradient's size take a first step of equal length in both coordinates, however steep. Adagrad's
# sum only grows, so its steps shrink; Adadelta starts slowly, its first steps being of the order of
# $\sqrt{\varepsilon}$. AdamW beats Adam by luck: its decay pulls to the origin, which happens to be
# the minimum.
#
# **Saddle.** The gradient across the ridge is 0.001. SGD takes it at face value and does not leave
# in 60 steps; momentum has just begun to. Divide by its size, and 0.001 is as good as 1: even slow
# Adadelta has left the ridge. Dauphin et al. (2014) argue that in high dimensions saddles, not bad
# minima, are the usual obstacle.

# %% [markdown]
# ### Second surprise: where does momentum's gain come from?
#
# Digits, 64-64-64-10, 200 steps. Momentum 0.9 at the same rate is an enormous gain:


# %%
def fresh() -> nn.Sequential:
    torch.manual_seed(0)
    net = nn.Sequential(
        nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 10)
    )
    for layer in linears(net):
        nn.init.kaiming_normal_(layer.weight, nonlinearity="relu")
        nn.init.zeros_(layer.bias)
    return net.to(device)


print(f"{'rate':>6}{'momentum':>10}{'rate / (1 - momentum)':>24}{'loss after training':>22}")
for rate, momentum in [(0.002, 0.0), (0.002, 0.9), (0.02, 0.0), (0.02, 0.9), (0.2, 0.0)]:
    net = fresh()
    train(net, torch.optim.SGD(net.parameters(), lr=rate, momentum=momentum))
    loss = F.cross_entropy(net(x_train), y_train).item()
    print(f"{rate:6}{momentum:10}{rate / (1 - momentum):24.3f}{loss:22.3f}")

# %% [markdown]
# Now compare lines with equal values in the third column. They are as good as equal. For a steady
# gradient $v = g\,(1 + \mu + \mu^2 + \dots) \to g/(1 - \mu)$, so $\mu = 0.9$ is a rate ten times
# larger in disguise; and on this problem *that was all*. A comparison "with and without momentum"
# at equal rates compares two learning rates.
#
# Is momentum useless, then? Not where plain descent cannot take the tenfold rate, because it would
# diverge in the steep direction: in a ravine. Give both methods their best possible constants
# (Polyak 1964) and count steps:


# %%
def count(curvature: Tensor, rate: float, momentum: float) -> int:
    """Steps until both coordinates of a quadratic bowl are a millionth of the start."""
    p, v, n = torch.ones(2, dtype=torch.float64), torch.zeros(2, dtype=torch.float64), 0
    while p.abs().max() > 1e-6:
        v = momentum * v + curvature * p
        p, n = p - rate * v, n + 1
    return n


for kappa in (10, 100, 1000):
    curvature, root = torch.tensor([1.0, kappa], dtype=torch.float64), math.sqrt(kappa)
    plain = count(curvature, 2 / (1 + kappa), 0.0)
    heavy = count(curvature, 4 / (1 + root) ** 2, ((root - 1) / (root + 1)) ** 2)
    print(
        f"κ = {kappa:5}: plain {plain:5} steps, momentum {heavy:4}: {plain / heavy:.1f} times fewer"
    )

# %% [markdown]
# The steps of plain descent grow like $\kappa$, those of momentum like $\sqrt\kappa$: that is the
# real gain, and it is largest where the problem is worst conditioned.
#
# ### Adam with L2 is not AdamW
#
# Multiply the loss by 100, as a change of units would. The direction of every gradient stays, and
# Adam, which divides by the gradient's size, should not care. We watch the length of the weight
# vector, with $\lambda = 0.1$ both ways:

# %%
print(f"{'':18}{'loss × 1':>10}{'loss × 100':>12}   length of all parameters after training")
for name, make in {
    "start": None,
    "Adam, no decay": lambda p: torch.optim.Adam(p, 1e-3),
    "Adam + L2 gradient": lambda p: torch.optim.Adam(p, 1e-3, weight_decay=0.1),
    "AdamW": lambda p: torch.optim.AdamW(p, 1e-3, weight_decay=0.1),
}.items():
    lengths = []
    for scale in (1.0, 100.0):
        net = fresh()
        if make is not None:
            train(net, make(net.parameters()), scale)
        lengths.append(math.sqrt(sum(p.square().sum().item() for p in net.parameters())))
    print(f"{name:18}{lengths[0]:10.2f}{lengths[1]:12.2f}")

# %% [markdown]
# With L2 in the gradient the decay, too, is divided by $\sqrt{\hat s}$: weights with large
# gradients are hardly decayed, and with a loss 100 times as large most of the decay is gone. (Part
# of what is left shrinks weights that get no other gradient, such as those of pixels that never
# change: there $\lambda\theta$ is divided by its own size.) AdamW's length is the same in both
# columns: the decay was *decoupled*. So a $\lambda$ tuned for one means nothing to the other. For
# SGD without momentum the two coincide.

# %% [markdown]
# ## 11. Learning-rate schedules
#
# A gradient of a mini-batch is the true one plus noise. With a constant rate the noise never
# averages out: the weights hover around the minimum at a distance that grows with $\eta$. Small
# $\eta$ from the start would take for ever. So begin large and end small:
#
# - **step**: $\eta_t = \eta_0\, \gamma^{\lfloor t / T_s \rfloor}$, a factor $\gamma$ every $T_s$
#   steps;
# - **cosine** (Loshchilov and Hutter 2017):
#   $\eta_t = \eta_\min + \frac12 (\eta_0 - \eta_\min)\big(1 + \cos(\pi t / T)\big)$;
# - **cyclic**, triangular (Smith 2017): up and down between two rates, each half in $T_c$ steps;
# - **warm-up** (Goyal et al. 2017): linearly up during the first $T_w$ steps, then any of the
#   others. The first steps are the least trustworthy: Adam's $\hat s$ then rests on few values.

# %%
T = 200
sched = torch.optim.lr_scheduler
SCHEDULES = {
    "step: × 0.3 every 50": lambda o: sched.StepLR(o, 50, gamma=0.3),
    "cosine": lambda o: sched.CosineAnnealingLR(o, T),
    "cyclic: 25 up, 25 down": lambda o: sched.CyclicLR(o, 0.1, 1.0, 25, cycle_momentum=False),
    "warm-up 20, then cosine": lambda o: sched.SequentialLR(
        o, [sched.LinearLR(o, 0.05, 1.0, 20), sched.CosineAnnealingLR(o, T - 20)], milestones=[20]),
}  # fmt: skip
fig, axes = plt.subplots(1, 4, figsize=(9.8, 2.2), sharey=True)
for ax, (name, make) in zip(axes, SCHEDULES.items(), strict=True):
    optimiser = torch.optim.SGD([nn.Parameter(torch.zeros(1))], lr=1.0)
    schedule, rates = make(optimiser), []
    for _ in range(T):
        rates.append(optimiser.param_groups[0]["lr"])
        optimiser.step()
        schedule.step()
    ax.plot(rates)
    ax.set(xlabel="step")
    ax.set_title(name, fontsize=9)
axes[0].set_ylabel(r"rate, in units of $\eta_0$")
plt.show()

# %% [markdown]
# What a schedule buys, on the simplest noisy problem: $L = \frac12\theta^2$, gradients
# $\theta + \xi$ with $\xi \sim \mathcal{N}(0, 1)$, 2,000 independent copies. At a constant rate,
# $\theta \leftarrow (1 - \eta)\theta - \eta\xi$ has a steady variance $V = (1-\eta)^2 V + \eta^2$,
# hence $V = \eta / (2 - \eta)$: a floor that no patience breaks.

# %%
torch.manual_seed(0)
runs = {
    "constant 0.5": lambda t: 0.5,
    "constant 0.02": lambda t: 0.02,
    "cosine from 0.5": lambda t: 0.25 * (1 + math.cos(math.pi * t / T)),
}
fig, ax = plt.subplots(figsize=(6.5, 2.8))
for name, rate in runs.items():
    theta, spread = torch.full((2000,), 10.0), []
    for t in range(T):
        spread.append(theta.square().mean())
        theta = theta - rate(t) * (theta + torch.randn(2000))
    ax.semilogy(torch.stack(spread), label=name)
    print(f"{name:16} mean of θ² at the end {theta.square().mean():.4f}")
for eta in (0.5, 0.02):
    ax.axhline(eta / (2 - eta), color="0.5", lw=0.8, ls=":")
    ax.text(62, eta / (2 - eta) * 1.2, f"η / (2 − η) for η = {eta}", color="0.3", fontsize=8)
ax.set(xlabel="step", ylabel="mean of θ²", title="Fast then hovering, slow, or both virtues")
ax.legend(loc="upper right")
plt.show()

# %% [markdown]
# ## 12. Training, with everything
#
# The digits, with section 6's `MLP` and its hand-made backward. Optimiser and schedule are torch's;
# they only read `.grad`. **Early stopping:** after each epoch (one pass through the training data)
# measure the loss on the *validation* digits and keep a copy of the best weights; once `patience`
# epochs have brought no improvement, stop and go back to the copy. The test digits are touched
# once, at the end.
#
# To show what it is good for we train twice: with the true labels, and with 30 % of the training
# labels drawn anew at random, as if a tired person had typed them. Both runs go on to the end, and
# we note where early stopping would have stopped.

# %%
epochs, patience = {"grade": (8, 5), "small": (30, 5), "full": (30, 5)}[course.profile()]


def fit(net: MLP, labels: Tensor, seed: int = 0) -> dict[str, list]:
    """Train; returns both losses and a copy of the parameters for every epoch."""
    params, draws = net.weights + net.biases, torch.Generator().manual_seed(seed)
    optimiser = torch.optim.SGD(params, lr=0.05, momentum=0.9)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, epochs)
    history: dict[str, list] = {"train": [], "valid": [], "params": []}
    for _ in range(epochs):
        for rows in torch.randperm(len(labels), generator=draws).to(device).split(32):
            probs = net.forward(x_train[rows]).softmax(1)
            net.backward((probs - F.one_hot(labels[rows], 10)) / len(rows))
            optimiser.step()
        schedule.step()
        for name, x, y in [("train", x_train, labels), ("valid", x_valid, y_valid)]:
            history[name].append(F.cross_entropy(net.forward(x), y).item())
        history["params"].append([p.clone() for p in params])
    return history


def early_stop(losses: list[float]) -> tuple[int, int]:
    """(epoch kept, epoch of the stop), counted from 1."""
    kept = 1
    for epoch, loss in enumerate(losses, start=1):
        if loss == min(losses[:epoch]):
            kept = epoch
        elif epoch - kept >= patience:
            return kept, epoch
    return kept, len(losses)


# %%
draws = torch.Generator().manual_seed(1)
noisy = y_train.clone().cpu()
hit = torch.rand(len(noisy), generator=draws) < 0.3
noisy[hit] = torch.randint(10, (int(hit.sum()),), generator=draws)
noisy = noisy.to(device)
print(f"labels that are now wrong: {(noisy != y_train).float().mean():.0%}")

models = {"true labels": MLP(64, 128, 64, 10), "30 % redrawn": MLP(64, 128, 64, 10)}
histories = {n: fit(m, t) for (n, m), t in zip(models.items(), (y_train, noisy), strict=True)}
fig, axes = plt.subplots(1, 2, figsize=(8.5, 2.9), sharey=True)
for ax, (name, history) in zip(axes, histories.items(), strict=True):
    kept, stop = early_stop(history["valid"])
    for part in ("train", "valid"):
        ax.plot(range(1, epochs + 1), history[part], label=part)
    ax.plot(kept, history["valid"][kept - 1], "k*", ms=10, label="kept")
    ax.axvline(stop, color="0.3", lw=1, ls=":", label="early stop")
    ax.set(title=f"{name}: keep epoch {kept}, stop after {stop}", xlabel="epoch", ylim=(0, 1.5))
axes[0].legend()
axes[0].set_ylabel("cross-entropy")
fig.suptitle(
    "Where labels are wrong, learning them by heart costs: the validation loss turns back up"
)
plt.show()

# %% [markdown]
# On the left nothing gets worse, and early stopping merely saves time. On the right the first
# epochs learn what digits look like; the later ones learn the wrong labels, one by one, while the
# training loss still falls. Now the test digits, with two baselines: the nearest class
# mean, and the same training for a net without hidden layer.


# %%
def accuracy(net: MLP, params: list[Tensor]) -> float:
    """Share of the test digits that the net gets right with these parameters."""
    for p, value in zip(net.weights + net.biases, params, strict=True):
        p.copy_(value)
    return (net.forward(x_test).argmax(1) == y_test).float().mean().item()


means = torch.stack([x_train[y_train == k].mean(0) for k in range(10)])
linear = MLP(64, 10)
last = accuracy(linear, fit(linear, y_train)["params"][-1])
nearest = torch.cdist(x_test, means).argmin(1)
print(f"nearest class mean   {(nearest == y_test).float().mean():.1%}")
print(f"no hidden layer      {last:.1%}")
for name, net in models.items():
    history = histories[name]
    kept, _ = early_stop(history["valid"])
    early, last = accuracy(net, history["params"][kept - 1]), accuracy(net, history["params"][-1])
    print(f"MLP, {name:14} stopped early {early:.1%}, at the end {last:.1%}")

# %%
net = models["true labels"]
probs = net.forward(x_test).softmax(1).cpu()
sure, guess = probs.max(1)
truth = y_test.cpu()
wrong = (guess != truth).nonzero().flatten()[:5]
right = (guess == truth).nonzero().flatten()[:5]
fig, axes = plt.subplots(1, 10, figsize=(9.8, 1.7))
for ax in axes:
    ax.axis("off")
for ax, i in zip(axes, [*right, *wrong], strict=False):
    ax.imshow(data.test_x[i].view(8, 8).cpu(), cmap="gray_r")
    ax.set_title(f"says {guess[i]}, {sure[i]:.0%}\nis {truth[i]}", fontsize=8)
fig.suptitle("Test digits: five of the right ones, then the wrong ones (five at most)")
plt.show()
missed = (net.forward(x_train).argmax(1) != y_train).sum()
print(
    f"wrong: {(guess != truth).sum()} of {len(truth)} test digits, {missed} of the training digits"
)

# %% [markdown]
# One test digit is a third of a per cent: the gain from hidden layers is four digits, which may be
# chance; the loss from learning wrong labels by heart is over thirty, which is not. On some of its
# errors the net is sure of itself, too: it got all *training* digits right, so nothing ever
# punished it for that.
#
# **Curves in the browser.** TensorBoard reads a log that two lines write. Point
# `tensorboard --logdir runs` (or, in a notebook, `%load_ext tensorboard` and
# `%tensorboard --logdir runs`) at the folder; here it is a temporary one.

# %%
import importlib.util
import tempfile
from pathlib import Path

if importlib.util.find_spec("tensorboard") is None:
    print("tensorboard is not installed here: pip install tensorboard")
else:
    from torch.utils.tensorboard import SummaryWriter

    with tempfile.TemporaryDirectory() as folder:
        with SummaryWriter(folder) as writer:
            for epoch, loss in enumerate(histories["true labels"]["valid"]):
                writer.add_scalar("loss/valid", loss, epoch)
        print("files written:", len(list(Path(folder).iterdir())))

# %% [markdown]
# ## 13. One experiment for you
#
# Two cures for the dead net of section 1, factor 0.5: (a) a `nn.LayerNorm(64)` before every
# `nn.ReLU()`; (b) `torch.optim.Adam(net.parameters(), lr=1e-3)` instead of SGD. Both wake it up.
# Guess before you run: which at once, which only after a while? Then give Adam `eps=1e-15`. Why
# does that make it wake up a little sooner? (Section 9 printed the norm of the first layer's
# gradient; divide it by the square root of 4,096 weights and compare with the default
# $\varepsilon = 10^{-8}$.) Unit 03 is about cure (a).

# %% [markdown]
# ## 14. History and practice
#
# - **Reverse mode** was published by Linnainmaa (master's thesis 1970; *BIT* 1976) as a way to
#   track rounding errors. Werbos (thesis 1974, article 1982) brought it to networks; Rumelhart,
#   Hinton and Williams (1986) showed that hidden units then learn useful features, and made it
#   widely known.
# - **Sigmoid or tanh and small random weights** were common until about 2010; then came Xavier
#   (2010), ReLU (Nair and Hinton 2010; Glorot et al. 2011) and He (2015). Normalisation layers
#   (unit 03) and residual connections (unit 02) made nets less sensitive to their initialisation,
#   not indifferent.
# - **Today** one writes the forward pass and calls `loss.backward()`. `torch.autograd` records the
#   graph during the forward pass, as this lecture's tape does, and lets a node send on its
#   derivative when all its users have reported; `torch.autograd.gradcheck` is section 7 in one
#   call, in float64.
# - **Usual first choices:** `nn.init.kaiming_normal_`, `torch.optim.AdamW`, warm-up and cosine
#   (`torch.optim.lr_scheduler`); for image nets still often SGD with momentum 0.9.
#   `F.cross_entropy` takes *logits*.

# %%
x = torch.randn(3, 4, dtype=torch.float64, requires_grad=True)
w = torch.randn(5, 4, dtype=torch.float64, requires_grad=True)
print("gradcheck:", torch.autograd.gradcheck(lambda x, w: torch.tanh(x @ w.T), (x, w)))

# %% [markdown]
# ## Summary
#
# 1. Backpropagation is the chain rule in reverse topological order: each node multiplies what
#    arrives by its local slope and *adds* it to its arguments.
# 2. For $Z = XW^\top + \mathbf{1}\mathbf{b}^\top$: $\partial L/\partial W = G^\top X$,
#    $\partial L/\partial \mathbf{b} = G^\top \mathbf{1}$, $\partial L/\partial X = GW$; for softmax
#    with cross-entropy $G = (P - Y)/B$.
# 3. "It trains" proves nothing. Check a backward pass against central differences in float64 with
#    $h \approx 10^{-5}$, and the first loss against $\ln K$.
# 4. Initialise at random, with variance $2/n_\text{in}$ for ReLU, because $s^{20}$ is merciless;
#    check forward *and* backward. Normalise the inputs.
# 5. Compare optimisers at equal effective rates: momentum is $1/(1 - \mu)$ times the rate plus a
#    cure for ravines; decay belongs outside Adam's division; end with a small rate, and stop by the
#    validation loss.

# %% [markdown]
# ## Further reading
#
# - W. McCulloch, W. Pitts, *Bulletin of Mathematical Biophysics* 5 (1943), 115-133; F. Rosenblatt,
#   *Psychological Review* 65 (1958), 386-408: the neuron, and how it learns.
# - D. Rumelhart, G. Hinton, R. Williams, "Learning representations by back-propagating errors",
#   *Nature* 323 (1986), 533-536. Four pages.
# - A. Baydin, B. Pearlmutter, A. Radul, J. Siskind, "Automatic differentiation in machine learning:
#   a survey", *JMLR* 18 (2018), section 3: forward and reverse mode.
# - Y. LeCun, L. Bottou, G. Orr, K.-R. Müller, "Efficient BackProp" (1998), sections 4.3
#   (normalising inputs) and 4.6 (initialising weights).
# - X. Glorot, Y. Bengio, "Understanding the difficulty of training deep feedforward neural
#   networks", AISTATS 2010, section 4.2.
# - K. He, X. Zhang, S. Ren, J. Sun, "Delving deep into rectifiers", ICCV 2015, section 2.2.
# - I. Sutskever, J. Martens, G. Dahl, G. Hinton, "On the importance of initialization and momentum
#   in deep learning", ICML 2013, section 2.
# - D. Kingma, J. Ba, "Adam", ICLR 2015, sections 2 and 3. I. Loshchilov, F. Hutter, "Decoupled
#   weight decay regularization", ICLR 2019, section 2.
# - I. Goodfellow, Y. Bengio, A. Courville, *Deep Learning* (2016), section 6.5 (back-propagation)
#   and chapter 8 (optimisation).
# - A. Karpathy, *micrograd* (github.com/karpathy/micrograd): a whole scalar engine to read after
#   the first assignment.
