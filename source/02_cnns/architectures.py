# %% [markdown]
# # Architectures: from LeNet-5 to EfficientNet, block by block
#
# **Unit 02, notebook 2 of 2, thirteen exercises.** Allow three to four hours; the experiments run
# on the CPU, in about a minute on two cores.
#
# *Afterwards you can* write the blocks of seven families of networks as `nn.Module`s, assemble
# whole networks from them that take published weights, say where a network's parameters, its
# memory and its arithmetic lie, and export a trained network.
#
# *You need* convolution, padding, stride, groups and pooling (the notebook `convolution`), and
# `nn.Module`: a class whose `__init__` makes layers and whose `forward` uses them.
#
# *How it works.* An exercise is one cell to fill in, followed by a cell of visible tests. Layers
# of `torch.nn` may be used freely unless an exercise says otherwise. What carries parameters has a
# **name** that the exercise gives, mostly that of torchvision: with equal names, weights trained by
# others fit into your network. The hidden checks load weights by these names and compare outputs,
# gradients and running statistics. A layer may have a second name, for instance because it also
# stands in an `nn.Sequential`. A module may be called many times, with batches of any size: no call
# depends on those before it. Cells between exercises are given: run them, look, read on.

# %% setup=true
import course

course.setup("02_cnns")

# %%
import importlib
import math
import tempfile
import time
import warnings
from collections.abc import Callable, Sequence
from functools import cache
from pathlib import Path
from typing import NamedTuple

import matplotlib.pyplot as plt
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from course import expect, plots
from course.data import cifar10, digits
from course.training import History, fit

FULL = course.profile() != "grade"  # the grader runs the same cells with fewer steps

# %% [markdown]
# ## Does a deeper network fit better?
#
# A network of 56 layers can do all that one of 8 layers can: let 8 of its layers be those of the
# small one and let the other 48 pass on what they get. So on the *training* images the deep one
# should never be worse. Here are both, on the 8 × 8 digits, as a stack of 3 × 3 convolutions, each
# with batch normalisation (which keeps each channel's mean and variance in bounds; unit 03) and a
# ReLU. Initialisation and optimiser are those of the paper that asked the question. Which of
# the two curves will be lower?


# %%
def plain_net(depth: int, width: int = 16) -> nn.Sequential:
    """(B, 1, 8, 8) -> (B, 10): `depth` - 1 convolutions in three stages, then a linear layer."""
    layers: list[nn.Module] = []
    channels, out = 1, width
    for i in range(depth - 1):
        third = i * 3 // (depth - 1)  # 0, 1, 2: 8, 4 and 2 pixels a side
        out, stride = width << third, 2 if width << third > max(channels, width) else 1
        layers += [nn.Conv2d(channels, out, 3, stride, padding=1, bias=False)]
        layers += [nn.BatchNorm2d(out), nn.ReLU()]
        channels = out
    layers += [nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(out, 10)]
    return he_normal(nn.Sequential(*layers))


def he_normal(net):
    """Draw the weights of all convolutions with variance 2 / (out_channels k^2); returns `net`."""
    for layer in net.modules():
        if isinstance(layer, nn.Conv2d):
            nn.init.kaiming_normal_(layer.weight, mode="fan_out", nonlinearity="relu")
    return net


# %%
def digit_images() -> dict[str, tuple[Tensor, Tensor]]:
    """Images (N, 1, 8, 8) less the training split's mean image, and classes, by split."""
    data = digits(course.device())
    mean = data.train_x.mean(dim=0)
    splits = {
        "train": (data.train_x, data.train_y),
        "valid": (data.valid_x, data.valid_y),
        "test": (data.test_x, data.test_y),
    }
    return {name: ((x - mean).reshape(-1, 1, 8, 8), y) for name, (x, y) in splits.items()}


def train(net: nn.Module, epochs: int, lr: float = 0.1, seed: int = 0) -> History:
    """SGD with momentum 0.9, decay 1e-4, and the rate divided by 10 after 1/2 and 3/4 of it."""
    data = digit_images()
    optimiser = torch.optim.SGD(net.parameters(), lr, momentum=0.9, weight_decay=1e-4)
    steps = math.ceil(len(data["train"][0]) / 128) * epochs
    schedule = torch.optim.lr_scheduler.MultiStepLR(optimiser, [steps // 2, steps * 3 // 4])

    def step(x: Tensor, y: Tensor) -> Tensor:
        net.train()
        loss = F.cross_entropy(net(x), y)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        schedule.step()
        return loss

    def evaluate() -> dict[str, float]:
        logits, labels = predict(net, data["valid"][0]), data["valid"][1]
        loss = F.cross_entropy(logits, labels).item()
        return {"valid_loss": loss, "valid_accuracy": accuracy(logits, labels)}

    few = 1197 if FULL else 64
    split = data["train"][0][:few], data["train"][1][:few]
    return fit(step, split, epochs=epochs, batch_size=128, evaluate=evaluate, seed=seed, quiet=True)


def predict(net: nn.Module, x: Tensor) -> Tensor:
    """Logits in evaluation mode."""
    net.eval()
    with torch.no_grad():
        return net(x)


def accuracy(logits: Tensor, labels: Tensor) -> float:
    """Share of the rows whose largest logit is the label's."""
    return (logits.argmax(dim=1) == labels).float().mean().item()


# %%
OPENING = [8, 56] if FULL else [5]
fig, ax = plt.subplots(figsize=(5, 2.6))
for number, depth in enumerate(OPENING):
    torch.manual_seed(0)
    net = plain_net(depth).to(course.device())
    losses = train(net, epochs=5 if FULL else 1)["loss"]
    marker = plots.MARKERS[number]
    ax.plot(range(1, len(losses) + 1), losses, marker=marker, label=f"{depth} layers")
    print(f"{depth:2d} layers: training loss {losses[-1]:.3f} in the last epoch")
ax.axhline(math.log(10), color="0.5", lw=1, ls="-")
ax.set(xlabel="epoch", ylabel="training loss", title="grey line: ln 10, guessing")
ax.set_xticks(range(1, 6 if FULL else 2))
ax.legend()
plt.show()

# %% [markdown]
# The deep network is worse, and not on new images, which would be overfitting: it is worse *on the
# images that it is trained on*. It could copy the small network, and gradient descent does not find
# out how. He et al. (2016) met this on CIFAR-10 and ImageNet with 20 and 56 layers and called it
# *degradation*. Their answer is two lines of code, and you will write them in part 5.
#
# How did one get to networks so deep that this matters? The years from 1998 to 2019 tried one idea
# after another: more data (AlexNet), small filters (VGG), several filters side by side (GoogLeNet),
# shortcuts (ResNet), all shortcuts at once (DenseNet), and a rule for growing (EfficientNet). In
# each part you write the block; given cells stack your blocks into the published network; and the
# number of its parameters, mostly known to the last digit, tells whether it is right.
#
# **Notation.** Images are tensors $(B, C, H, W)$: batch, channels, height, width. $k$ is the side
# of a kernel. "3 × 3, 64" is a convolution with 64 filters of 3 × 3.

# %% [markdown]
# ## 1. Taking stock of a network

# %% [markdown] heading="census"
# ### Exercise {number} · A census of parameters ({points} points, about 8 min)
#
# Where does a network keep its parameters? Write a census that works for every network, on the
# `meta` device too, where no tensor has data (all have the same `data_ptr()`): go through
# `net.modules()`, which yields the network itself, its parts, their parts, and so on, and add up
# the elements of the parameters that each layer holds *itself* (`layer.parameters(recurse=False)`;
# otherwise a container would count its layers' again).
#
# * `"conv"`: held by an `nn.Conv2d`, weight and bias; `"linear"`: by an `nn.Linear`; subclasses
#   included (the `out_proj` in `nn.MultiheadAttention` is one); `"other"`: by any other module,
#   such as `nn.BatchNorm2d`, `nn.Conv1d`, or a module with an `nn.Parameter` of its own;
#   `"total"`: the sum of the three.
# * Frozen parameters (`requires_grad=False`) count. Buffers, such as the running mean of a batch
#   normalisation, do not.
# * A parameter that two layers share counts once, for the layer that `net.modules()` yields first.


# %% exercise="census"
def census(net: nn.Module) -> dict[str, int]:
    """Count the parameters of a network by the kind of layer that holds them.

    Args:
        net: any module; not modified (mode, gradients, what is trained), and never called.

    Returns:
        {"conv": int, "linear": int, "other": int, "total": int}.
    """
    ### BEGIN SOLUTION
    counts, seen = {"conv": 0, "linear": 0, "other": 0}, set()
    for layer in net.modules():
        kinds = {nn.Conv2d: "conv", nn.Linear: "linear"}
        kind = next((name for cls, name in kinds.items() if isinstance(layer, cls)), "other")
        for parameter in layer.parameters(recurse=False):
            if id(parameter) not in seen:
                counts[kind] += parameter.numel()
            seen.add(id(parameter))
    return {**counts, "total": sum(counts.values())}
    ### END SOLUTION


# %% test="census"
small = nn.Sequential(nn.Conv2d(3, 4, 5), nn.BatchNorm2d(4), nn.Flatten(), nn.Linear(4, 2))
found = census(small)
expect(found["conv"], 304, "census: convolution")  # 4 filters of 3 · 5 · 5 weights, 4 biases
expect(found["linear"], 10, "census: linear layer")
expect(found["other"], 8, "census: batch normalisation")  # 4 scales, 4 shifts
expect(found["total"], 322, "census: total")

# %% [markdown]
# A network of 100 million parameters fills 400 MB. To count them nobody has to allocate them: on
# torch's `meta` device tensors have a shape and no data. A layer called on a meta tensor computes
# only the shape of its result. The functions below build and run whole networks so, in a fraction
# of a second, and write down what each layer costs: its parameters, the numbers that it puts out
# (*activations*, kept for the backward pass) and its *multiply-adds*.


# %%
class Cost(NamedTuple):
    """What one convolution or linear layer costs for one image."""

    name: str
    shape: tuple[int, ...]  # of its output
    parameters: int
    activations: int
    multiply_adds: int


def costs(net: nn.Module, shape: Sequence[int]) -> list[Cost]:
    """One row for each convolution and linear layer, in order of execution, for input (1, *shape).

    The network may stand on the meta device, where nothing is computed.
    """
    rows: list[Cost] = []

    def watch(name: str):
        def hook(layer, inputs, output):
            count = sum(parameter.numel() for parameter in layer.parameters())
            each = layer.weight[0].numel()  # multiply-adds for one number of the output
            numbers = output[0].numel()
            rows.append(Cost(name, tuple(output.shape[1:]), count, numbers, each * numbers))

        return hook

    hooks = [
        layer.register_forward_hook(watch(name))
        for name, layer in net.named_modules()
        if isinstance(layer, nn.Conv2d | nn.Linear)
    ]
    device = next(net.parameters()).device
    predict(net, torch.empty(1, *shape, device=device))
    for hook in hooks:
        hook.remove()
    return rows


def stage_shapes(net: nn.Module, shape: Sequence[int]) -> list[tuple[int, ...]]:
    """The last shape (C, H, W) at each resolution above 1 x 1, in order; then the output's."""
    found: dict[tuple[int, ...], tuple[int, ...]] = {}

    def hook(layer, inputs, output):
        if output.dim() == 4 and output.shape[2] > 1:
            found[tuple(output.shape[2:])] = tuple(output.shape[1:])

    hooks = [layer.register_forward_hook(hook) for layer in net.modules() if layer is not net]
    output = predict(net, torch.empty(1, *shape, device=next(net.parameters()).device))
    for handle in hooks:
        handle.remove()
    return [*found.values(), tuple(output.shape[1:])]


def show(name: str, make: Callable[[], nn.Module], shape: Sequence[int]) -> None:
    """Build a network on the meta device and print its census and the shapes of its stages."""
    with torch.device("meta"):
        net = make()
    counts = census(net)
    share = counts["linear"] / counts["total"]
    print(f"{name:24s} {counts['total']:12,d} parameters, {share:5.1%} in linear layers")
    stages = " → ".join(" × ".join(map(str, stage)) for stage in stage_shapes(net, shape))
    print(f"{'':24s} {' × '.join(map(str, shape))} → {stages}")


# %% [markdown] heading="top_k_error"
# ### Exercise {number} · Top-5 error ({points} points, about 5 min)
#
# From 2010 to 2017 the ImageNet challenge ranked programs on 1,000 classes, more than a hundred of
# them breeds of dogs. Each photograph has one label, though it may show a desk with a lamp *and* a
# mouse. So the challenge let a program name five classes:
#
# $$\text{top-}k\text{ error} = \frac1B\sum_{i=1}^{B}
#   [\,y_i \text{ is not among the } k \text{ classes with the largest logits of row } i\,].$$
#
# It is the *error*: small is good. No two logits of a row are equal.


# %% exercise="top_k_error"
def top_k_error(logits: Tensor, labels: Tensor, k: int = 5) -> float:
    """Share of the rows whose label is not among the k largest logits.

    Args:
        logits: (B, K) floating point, B >= 1; no two of a row are equal.
        labels: (B,) int64.
        k: 1 <= k <= K.

    Returns:
        A number from 0 to 1 (a float or a tensor without dimensions).
    """
    ### BEGIN SOLUTION
    best = logits.topk(k).indices
    return 1 - (best == labels[:, None]).any(dim=1).float().mean().item()
    ### END SOLUTION


# %% test="top_k_error"
scores = torch.tensor([[4.0, 3, 2, 1], [1, 2, 3, 4], [1, 4, 2, 3], [-1, -2, -3, -4]])
truth = torch.tensor([1, 1, 1, 1])
# The label 1 has the ranks 2, 3, 1 and 2.
expect(top_k_error(scores, truth, k=1), 0.75, "top_k_error: k = 1")
expect(top_k_error(scores, truth, k=2), 0.25, "top_k_error: k = 2")
expect(top_k_error(scores, truth, k=3), 0.0, "top_k_error: k = 3")

# %% [markdown]
# ## 2. LeNet-5 and AlexNet: convolutions below, linear layers above
#
# LeNet-5 (LeCun, Bottou, Bengio and Haffner 1998) read the amounts on bank cheques. It has all
# that a convolutional network has today: convolutions that widen, subsampling that shrinks,
# linear layers at the end.

# %% [markdown] heading="lenet5"
# ### Exercise {number} · LeNet-5 ({points} points, about 10 min)
#
# Write the variant that is common today (the differences follow below):
#
# | name | layer | output |
# |---|---|---|
# | | input | 1 × 28 × 28 |
# | `conv1` | 5 × 5, 6 filters, padding 2, then tanh | 6 × 28 × 28 |
# | | average pooling 2 × 2, stride 2 | 6 × 14 × 14 |
# | `conv2` | 5 × 5, 16 filters, no padding, then tanh | 16 × 10 × 10 |
# | | average pooling 2 × 2, stride 2 | 16 × 5 × 5 |
# | `fc1` | linear 400 → 120, then tanh | 120 |
# | `fc2` | linear 120 → 84, then tanh | 84 |
# | `fc3` | linear 84 → `num_classes`: logits | `num_classes` |
#
# All five have biases. The 400 inputs of `fc1` are the 16 × 5 × 5 values in the order of
# `torch.flatten`.


# %% exercise="lenet5"
class LeNet5(nn.Module):
    """LeNet-5 with average pooling, tanh and a linear output.

    Parameters: conv1, conv2 (`nn.Conv2d`), fc1, fc2, fc3 (`nn.Linear`), each with a bias.

    Source: LeCun et al. 1998, section II.B.
    """

    def __init__(self, num_classes: int = 10) -> None:
        """Make the layers."""
        ### BEGIN SOLUTION
        super().__init__()
        self.conv1 = nn.Conv2d(1, 6, 5, padding=2)
        self.conv2 = nn.Conv2d(6, 16, 5)
        self.fc1 = nn.Linear(400, 120)
        self.fc2 = nn.Linear(120, 84)
        self.fc3 = nn.Linear(84, num_classes)
        ### END SOLUTION

    def forward(self, x: Tensor) -> Tensor:
        """(B, 1, 28, 28) -> logits (B, num_classes)."""
        ### BEGIN SOLUTION
        x = F.avg_pool2d(self.conv1(x).tanh(), 2)
        x = F.avg_pool2d(self.conv2(x).tanh(), 2)
        x = self.fc1(x.flatten(1)).tanh()
        return self.fc3(self.fc2(x).tanh())
        ### END SOLUTION


# %% test="lenet5"
lenet = LeNet5()
expect(sum(p.numel() for p in lenet.parameters()), 61706, "LeNet5: number of parameters")
expect(list(lenet(torch.zeros(3, 1, 28, 28)).shape), [3, 10], "LeNet5: shape of the logits")
expect(list(lenet.conv2.weight.shape), [16, 6, 5, 5], "LeNet5: shape of conv2.weight")
for p in lenet.parameters():  # all weights 0, all biases 1: what arrives at the end?
    nn.init.constant_(p, float(p.dim() == 1))
nn.init.constant_(lenet.fc3.weight, 1.0)
expect(lenet(torch.zeros(1, 1, 28, 28))[0, 0], 84 * math.tanh(1) + 1, "LeNet5: logits")

# %% [markdown]
# The LeNet-5 of 1998 has 60,000 parameters, not 61,706. In its third layer, C3, a map does not see
# all six maps below: a table says which. Six maps see three neighbours, nine see four, one sees
# all six. The reasons given are the number of connections and that different inputs make different
# features. Its subsampling layers have a trainable factor and shift for each map, and its
# outputs are distances to fixed drawings of the characters instead of a linear layer.

# %%
# Which maps of S2 each map of C3 sees.
TABLE = "012 123 234 345 045 015 0123 1234 2345 0345 0145 0125 0134 1245 0235 012345"
picture = torch.tensor(
    [[float(str(source) in sees) for sees in TABLE.split()] for source in range(6)]
)
fig, ax = plt.subplots(figsize=(5, 2))
ax.imshow(picture, cmap="gray_r")
ax.set(xlabel="map of C3", ylabel="map of S2", xticks=range(16), yticks=range(6))
ax.grid(False)
plt.show()
layers = {"C1": 6 * (25 + 1), "S2": 6 * 2, "C3": sum(25 * len(sees) + 1 for sees in TABLE.split())}
layers |= {"S4": 16 * 2, "C5": 120 * (16 * 25 + 1), "F6": 84 * (120 + 1)}
print("  ".join(f"{name} {count:,}" for name, count in layers.items()), end="  ")
print(f"sum {sum(layers.values()):,}")
show("LeNet-5, today's variant", LeNet5, (1, 28, 28))

# %% [markdown]
# **AlexNet** (Krizhevsky, Sutskever and Hinton 2012) is a LeNet for photographs: 3 × 224 × 224
# in, 1,000 classes out. ReLU in place of tanh, overlapping pooling (3 × 3 with stride 2), dropout
# and 1.2 million images on two GPUs. Its top-5 error in the challenge was 15.3 % where the second
# best team had 26.2 %. And it had one layer that is nearly forgotten today.

# %% [markdown] heading="response_norm"
# ### Exercise {number} · Local response normalisation ({points} points, about 12 min)
#
# ReLU does not saturate, so nothing bounds a response. Let neighbouring *channels* compete: at
# each pixel, divide by a power of the summed squares around a channel. With $a_c$ the input's
# channel $c$ at some pixel, $C$ channels, and $n$ odd,
#
# $$b_c = a_c \Big/ \Big(k + \alpha \sum_{j=\max(0,\,c-\lfloor n/2\rfloor)}
#   ^{\min(C-1,\,c+\lfloor n/2\rfloor)} a_j^2\Big)^{\beta}.$$
#
# **The convention is the paper's:** $\alpha$ multiplies the *sum*. (torch divides by $n$:
# its $\alpha$ belongs to a mean. The same numbers give another result.) At the borders the sum has
# fewer terms. $n$ may exceed $C$.
#
# `local_response_norm` and `LocalResponseNorm` may not be used. `x` stays as it is, and the result
# has its dtype and its device, `meta` included. One channel may be 10,000 times larger than the
# others: where it is not in the window, it must not spoil the sum (as it does in differences of
# running sums in float32).


# %% exercise="response_norm"
def response_norm(
    x: Tensor, size: int = 5, alpha: float = 1e-4, beta: float = 0.75, k: float = 2.0
) -> Tensor:
    """Divide by a power of the sum of squares over `size` neighbouring channels.

    Args:
        x: (B, C, H, W) floating point; not modified.
        size: n, the number of channels in the sum; odd, at least 1.
        alpha: factor of the sum (not of the mean).
        beta: exponent of the bracket.
        k: added to the sum.

    Returns:
        (B, C, H, W).

    Source: Krizhevsky et al. 2012, section 3.3.
    """
    ### BEGIN SOLUTION
    squares = F.pad(x.square(), (0, 0, 0, 0, size // 2, size // 2))
    return x / (k + alpha * squares.unfold(1, size, 1).sum(dim=-1)) ** beta
    ### END SOLUTION


# %% test="response_norm"
pixel = torch.tensor([1.0, 2.0, 3.0, 0.0]).reshape(1, 4, 1, 1)
# Sums over three channels: 1 + 4, 1 + 4 + 9, 4 + 9 + 0, 9 + 0.
got = response_norm(pixel, size=3, alpha=1.0, beta=1.0, k=0.0)
expect(got.flatten(), [1 / 5, 2 / 14, 3 / 13, 0], "response_norm: sums of squares")
got = response_norm(pixel, size=1, alpha=2.0, beta=0.5, k=7.0)
expect(got.flatten(), [1 / 3, 2 / 15**0.5, 3 / 5, 0], "response_norm: alpha, beta and k")

# %%
torch.manual_seed(0)
x = 20 * torch.randn(2, 6, 4, 3)
ours = response_norm(x, size=5, alpha=1e-4)
for name, alpha in [("1e-4", 1e-4), ("5e-4", 5e-4)]:
    theirs = F.local_response_norm(x, size=5, alpha=alpha, beta=0.75, k=2.0)
    print(f"torch with alpha = {name}: largest difference {(ours - theirs).abs().max():.1e}")

# %% [markdown]
# torch gives the same with an $\alpha$ that is $n$ times larger; a port that copies the number
# alone has a fifth of the effect. VGG's authors tried the layer two years later and found no gain,
# and batch normalisation has taken its place.
#
# Two GPUs of 3 GB each shared the work, so most convolutions of 2012 see only the maps on their own
# GPU: convolutions with two groups. torchvision has the version of 2014, "one weird trick", with
# fewer filters and no groups.


# %%
class AlexNet2012(nn.Module):
    """AlexNet as of 2012: overlapping pooling, response normalisation, two groups."""

    def __init__(self, num_classes: int = 1000, groups: int = 2) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(3, 96, 11, stride=4, padding=2)  # 224 -> 55
        self.conv2 = nn.Conv2d(96, 256, 5, padding=2, groups=groups)
        self.conv3 = nn.Conv2d(256, 384, 3, padding=1)
        self.conv4 = nn.Conv2d(384, 384, 3, padding=1, groups=groups)
        self.conv5 = nn.Conv2d(384, 256, 3, padding=1, groups=groups)
        self.pool = nn.MaxPool2d(3, stride=2)
        self.classifier = nn.Sequential(
            *[nn.Dropout(), nn.Linear(256 * 6 * 6, 4096), nn.ReLU()],
            *[nn.Dropout(), nn.Linear(4096, 4096), nn.ReLU()],
            nn.Linear(4096, num_classes),
        )

    def forward(self, x: Tensor) -> Tensor:
        x = self.pool(response_norm(self.conv1(x).relu()))
        x = self.pool(response_norm(self.conv2(x).relu()))
        x = self.conv4(self.conv3(x).relu()).relu()
        return self.classifier(self.pool(self.conv5(x).relu()).flatten(1))


class AlexNet(nn.Module):
    """AlexNet as torchvision has it: Krizhevsky's of 2014."""

    def __init__(self, num_classes: int = 1000) -> None:
        super().__init__()
        self.features = nn.Sequential(
            *[nn.Conv2d(3, 64, 11, stride=4, padding=2), nn.ReLU(), nn.MaxPool2d(3, 2)],
            *[nn.Conv2d(64, 192, 5, padding=2), nn.ReLU(), nn.MaxPool2d(3, 2)],
            *[nn.Conv2d(192, 384, 3, padding=1), nn.ReLU()],
            *[nn.Conv2d(384, 256, 3, padding=1), nn.ReLU()],
            *[nn.Conv2d(256, 256, 3, padding=1), nn.ReLU(), nn.MaxPool2d(3, 2)],
        )
        self.classifier = nn.Sequential(
            *[nn.Dropout(), nn.Linear(256 * 6 * 6, 4096), nn.ReLU()],
            *[nn.Dropout(), nn.Linear(4096, 4096), nn.ReLU()],
            nn.Linear(4096, num_classes),
        )

    def forward(self, x: Tensor) -> Tensor:
        return self.classifier(self.features(x).flatten(1))


# %%
show("AlexNet, 2012", AlexNet2012, (3, 224, 224))
if FULL:
    show("the same without groups", lambda: AlexNet2012(groups=1), (3, 224, 224))
    show("AlexNet, 2014", AlexNet, (3, 224, 224))

# %% [markdown]
# More than nine parameters in ten lie in three linear layers. (They are also nearly free: a linear
# layer costs as many multiply-adds as it has weights, a convolution as many as it has weights
# *for each pixel*.)
#
# ## 3. VGG: small filters, many of them
#
# Two 3 × 3 convolutions, one after the other, see 5 × 5 pixels, three see 7 × 7. With $C$ channels
# three of them have $27\,C^2$ weights where one of 7 × 7 has $49\,C^2$, and three ReLUs in
# place of one. Simonyan and Zisserman (2015) built networks of nothing else: five stages of
# 3 × 3 convolutions, 2 × 2 max pooling between them, the width doubled from stage to stage.

# %% [markdown] heading="vgg_layers"
# ### Exercise {number} · A network from a list ({points} points, about 12 min)
#
# The paper describes its networks in a table with columns A to E. Let a column be a list:
#
# * a number `c` is a convolution of 3 × 3 with `c` filters and padding 1, followed by a ReLU;
# * a pair `(c, k)` is a convolution of $k \times k$ ($k$ odd) with `c` filters and the padding that
#   keeps height and width, followed by a ReLU (column C has some of 1 × 1);
# * `"M"` is max pooling of 2 × 2 with stride 2 (an odd last row or column is dropped).
#
# All convolutions have stride 1 and a bias. Return one flat `nn.Sequential` that holds, in this
# order, an `nn.Conv2d` and an `nn.ReLU` for each convolution and an `nn.MaxPool2d` for each `"M"`:
# the parameters are then called `0.weight`, `0.bias`, `2.weight` and so on, as in torchvision.


# %% exercise="vgg_layers"
def vgg_layers(
    configuration: Sequence[int | tuple[int, int] | str], in_channels: int = 3
) -> nn.Sequential:
    """Turn a list such as [64, "M", (128, 1), "M"] into layers.

    Args:
        configuration: numbers of filters, pairs (filters, kernel), or "M"; not modified.
        in_channels: channels of the images.

    Returns:
        A flat `nn.Sequential` of convolutions, ReLUs and poolings.

    Source: Simonyan and Zisserman 2015, table 1.
    """
    ### BEGIN SOLUTION
    layers = []
    for entry in configuration:
        if isinstance(entry, str):
            layers.append(nn.MaxPool2d(2))
            continue
        channels, k = entry if isinstance(entry, tuple) else (entry, 3)
        layers += [nn.Conv2d(in_channels, channels, k, padding=k // 2), nn.ReLU()]
        in_channels = channels
    return nn.Sequential(*layers)
    ### END SOLUTION


# %% test="vgg_layers"
layers = vgg_layers([5, "M", (7, 1), 2], in_channels=1)
kinds = [type(layer).__name__ for layer in layers]
expect(
    kinds,
    ["Conv2d", "ReLU", "MaxPool2d", "Conv2d", "ReLU", "Conv2d", "ReLU"],
    "vgg_layers: order of the layers",
)
shapes = [list(p.shape) for p in layers.parameters() if p.dim() > 1]
expect(shapes, [[5, 1, 3, 3], [7, 5, 1, 1], [2, 7, 3, 3]], "vgg_layers: shapes of the weights")
expect(list(layers(torch.zeros(1, 1, 6, 9)).shape), [1, 2, 3, 4], "vgg_layers: shape")
for p in layers.parameters():  # all weights 1, all biases -1
    nn.init.constant_(p, 1.0 if p.dim() > 1 else -1.0)
# A corner of 3 x 3 ones sees 4 ones; the maximum of its 2 x 2 is in the middle: 9, less 1.
got = layers[:3](torch.ones(1, 1, 4, 4))
expect(got[0, 0], [[8.0, 8.0], [8.0, 8.0]], "vgg_layers: first stage of ones")

# %%
VGG_COLUMNS = {
    "A": [64, "M", 128, "M", 256, 256, "M", 512, 512, "M", 512, 512, "M"],
    "B": [64, 64, "M", 128, 128, "M", 256, 256, "M", 512, 512, "M", 512, 512, "M"],
    "C": [64, 64, "M", 128, 128, "M", 256, 256, (256, 1), "M"] + [512, 512, (512, 1), "M"] * 2,
    "D": [64, 64, "M", 128, 128, "M", 256, 256, 256, "M"] + [512, 512, 512, "M"] * 2,
    "E": [64, 64, "M", 128, 128, "M", 256, 256, 256, 256, "M"] + [512, 512, 512, 512, "M"] * 2,
}


class VGG(nn.Module):
    """VGG; columns A, B, D, E are torchvision's vgg11, vgg13, vgg16 and vgg19."""

    def __init__(self, column: str, num_classes: int = 1000) -> None:
        super().__init__()
        self.features = vgg_layers(VGG_COLUMNS[column])
        self.classifier = nn.Sequential(
            *[nn.Linear(512 * 7 * 7, 4096), nn.ReLU(), nn.Dropout()],
            *[nn.Linear(4096, 4096), nn.ReLU(), nn.Dropout()],
            nn.Linear(4096, num_classes),
        )

    def forward(self, x: Tensor) -> Tensor:
        return self.classifier(self.features(x).flatten(1))


for column in VGG_COLUMNS if FULL else "A":
    show(f"VGG {column}", lambda column=column: VGG(column), (3, 224, 224))

# %% [markdown]
# **Where is the largest part of VGG D?** Guess for each of the three: parameters, activations,
# multiply-adds. Below are its six stages (the last one are the linear layers).


# %%
def stage_costs(net: nn.Module, shape: Sequence[int]) -> dict[str, list[int]]:
    """Parameters, activations and multiply-adds, summed over the layers of equal output size."""
    sums: dict[str, list[int]] = {}
    for cost in costs(net, shape):
        stage = f"{cost.shape[1]} × {cost.shape[2]}" if len(cost.shape) == 3 else "linear"
        row = sums.setdefault(stage, [0, 0, 0])
        for i, number in enumerate(cost[2:]):
            row[i] += number
    return sums


def draw_stages(net: nn.Module, shape: Sequence[int], title: str) -> None:
    sums = stage_costs(net, shape)
    fig, axes = plt.subplots(1, 3, figsize=(8.5, 2.3), sharey=True)
    names = ["parameters", "activations", "multiply-adds"]
    for i, (ax, name) in enumerate(zip(axes, names, strict=True)):
        values = [row[i] for row in sums.values()]
        ax.barh(list(sums), [value / sum(values) for value in values], color=plots.COLOURS[i])
        ax.set(title=f"{sum(values) / 1e6:,.0f} million {name}", xlabel="share", xlim=(0, 1))
    axes[0].set(ylabel="output size")
    axes[0].invert_yaxis()
    fig.suptitle(title, fontsize="medium")
    plt.show()


with torch.device("meta"):
    vgg = VGG("D" if FULL else "A")
draw_stages(vgg, (3, 224, 224), "VGG: share of each stage")

# %% [markdown]
# Three different winners. The parameters are in the linear layers, the activations (the memory of
# training) in the first stage, the arithmetic in the middle. To make a network *small*, cut linear
# layers; to fit it into memory, shrink images early; to make it *fast*, look at the
# middle. "How large is it?" has three answers.
#
# A and the others were hard to train from small random weights (batch normalisation came a year
# later): A was trained first, and the deeper columns started with some of its layers.
#
# ## 4. GoogLeNet: several filters side by side
#
# Which kernel is right, 1 × 1, 3 × 3 or 5 × 5? All of them, said Szegedy et al. (2015), and let the
# next layer choose. What makes this affordable is the 1 × 1 convolution, a linear map of the
# channels at each pixel: it reduces 192 channels to 16 before the expensive 5 × 5.

# %%
for text, layers in {
    "5 × 5 from 192 to 32 channels": [nn.Conv2d(192, 32, 5)],
    "1 × 1 to 16 channels, then 5 × 5": [nn.Conv2d(192, 16, 1), nn.Conv2d(16, 32, 5)],
}.items():
    weights = sum(layer.weight.numel() for layer in layers)
    millions = weights * 28 * 28 / 1e6
    print(f"{text:34s} {weights:8,d} weights, {millions:6.1f} M multiply-adds at 28 × 28")


# %%
class ConvReLU(nn.Module):
    """A convolution with bias, and a ReLU; `options` are those of `nn.Conv2d`."""

    def __init__(self, in_channels: int, out_channels: int, **options) -> None:
        super().__init__()
        self.conv = nn.Conv2d(in_channels, out_channels, **options)

    def forward(self, x: Tensor) -> Tensor:
        return F.relu(self.conv(x))


class ConvBNReLU(nn.Module):
    """A convolution without bias, batch normalisation, and a ReLU (torchvision's BasicConv2d)."""

    def __init__(self, in_channels: int, out_channels: int, **options) -> None:
        super().__init__()
        self.conv = nn.Conv2d(in_channels, out_channels, bias=False, **options)
        self.bn = nn.BatchNorm2d(out_channels, eps=0.001)

    def forward(self, x: Tensor) -> Tensor:
        return F.relu(self.bn(self.conv(x)))


# %% [markdown] heading="inception"
# ### Exercise {number} · The Inception block ({points} points, about 15 min)
#
# Four branches see the same input. Their results have its height and width and are put side by
# side along the channels, in this order:
#
# | name | first | second |
# |---|---|---|
# | `branch1` | unit 1 × 1, `ch1x1` filters | |
# | `branch2` | unit 1 × 1, `ch3x3red` filters | unit 3 × 3, `ch3x3` filters |
# | `branch3` | unit 1 × 1, `ch5x5red` filters | unit `large` × `large`, `ch5x5` filters |
# | `branch4` | max pooling 3 × 3, stride 1 | unit 1 × 1, `pool_proj` filters |
#
# `branch1` is a unit, each of the others an `nn.Sequential` of its two parts.
# A *unit* is made by `conv_block(in_channels, out_channels, kernel_size=..., padding=...)`, one of
# the two classes above (for 1 × 1 the padding may be left out); each of the six units is a
# convolution and its ReLU. In the fourth branch
# the pooling comes **first**: pooling cannot change the number of channels, the 1 × 1 after it can.
# `large` is odd: 5 in the paper, 3 in torchvision, where it began as a slip and stayed because
# trained weights depended on it. Parameters are called `branch1.conv.weight`,
# `branch2.0.conv.weight`, `branch2.1.conv.weight`, ..., `branch4.1.conv.weight`.


# %% exercise="inception"
class Inception(nn.Module):
    """Four branches, concatenated along the channels.

    Args:
        in_channels: channels of the input.
        ch1x1, ch3x3red, ch3x3, ch5x5red, ch5x5, pool_proj: numbers of filters.
        conv_block: makes a unit: conv_block(in_channels, out_channels, kernel_size=, padding=).
        large: the kernel of the second unit of branch3, odd.

    Source: Szegedy et al. 2015, figure 2(b).
    """

    def __init__(
        self,
        in_channels: int,
        ch1x1: int,
        ch3x3red: int,
        ch3x3: int,
        ch5x5red: int,
        ch5x5: int,
        pool_proj: int,
        conv_block: Callable[..., nn.Module] = ConvReLU,
        large: int = 5,
    ) -> None:
        """Make branch1, branch2, branch3 and branch4."""
        ### BEGIN SOLUTION
        super().__init__()
        self.branch1 = conv_block(in_channels, ch1x1, kernel_size=1)
        self.branch2 = nn.Sequential(
            conv_block(in_channels, ch3x3red, kernel_size=1),
            conv_block(ch3x3red, ch3x3, kernel_size=3, padding=1),
        )
        self.branch3 = nn.Sequential(
            conv_block(in_channels, ch5x5red, kernel_size=1),
            conv_block(ch5x5red, ch5x5, kernel_size=large, padding=large // 2),
        )
        self.branch4 = nn.Sequential(
            nn.MaxPool2d(3, stride=1, padding=1),
            conv_block(in_channels, pool_proj, kernel_size=1),
        )
        ### END SOLUTION

    def forward(self, x: Tensor) -> Tensor:
        """(B, in_channels, H, W) -> (B, ch1x1 + ch3x3 + ch5x5 + pool_proj, H, W)."""
        ### BEGIN SOLUTION
        branches = [self.branch1, self.branch2, self.branch3, self.branch4]
        return torch.cat([branch(x) for branch in branches], dim=1)
        ### END SOLUTION


# %% test="inception"
block = Inception(192, 64, 96, 128, 16, 32, 32)  # block 3a of the paper
expect(sum(p.numel() for p in block.parameters()), 163696, "Inception: parameters of 3a")
expect(list(block(torch.zeros(1, 192, 6, 5)).shape), [1, 256, 6, 5], "Inception: shape of 3a")
block = Inception(1, 1, 1, 1, 1, 1, 1)
for p in block.parameters():  # all weights 1, all biases 0
    nn.init.constant_(p, float(p.dim() > 1))
# 3 x 3 ones, a 2 in the corner: each branch by hand at the opposite corner and in the middle.
image = torch.ones(1, 1, 3, 3)
image[0, 0, 0, 0] = 2.0
expect(block(image)[0, :, 2, 2], [1.0, 4.0, 10.0, 1.0], "Inception: last pixel")
expect(block(image)[0, :, 1, 1], [1.0, 10.0, 10.0, 2.0], "Inception: middle pixel")

# %% [markdown] heading="auxiliary"
# ### Exercise {number} · Two more voices in the loss ({points} points, about 12 min)
#
# GoogLeNet has 22 layers with parameters, and its authors feared that gradients would not reach the
# lower ones (they had no batch normalisation, no He initialisation). So two *auxiliary heads*
# classify from the middle of the network; they are used in training only, then thrown away. A head
# gets $(B, C, 14, 14)$ and consists of
#
# 1. average pooling, 5 × 5 with stride 3, no padding: 4 × 4 pixels remain;
# 2. `conv`: a unit 1 × 1 with 128 filters, made by `conv_block` as above;
# 3. flatten, then `fc1`: linear, 2048 → 1024, and a ReLU;
# 4. dropout of 70 % of the values (in training mode; torch's convention, the rest is scaled up);
# 5. `fc2`: linear, 1024 → `num_classes`: logits.
#
# With $L$ the cross-entropy (mean over the batch) of the main logits and $L_1, \dots, L_m$ those of
# the heads, the training loss is $L + 0.3\,(L_1 + \dots + L_m)$. The list of heads may be empty.
# `F.cross_entropy` may be used.


# %% exercise="auxiliary"
class InceptionAux(nn.Module):
    """An auxiliary head: pooling, 1 x 1 convolution, two linear layers.

    Parameters: those of the unit `conv`; fc1, fc2 (`nn.Linear` with bias).

    Source: Szegedy et al. 2015, section 5.
    """

    def __init__(
        self, in_channels: int, num_classes: int, conv_block: Callable[..., nn.Module] = ConvReLU
    ) -> None:
        """Make the layers."""
        ### BEGIN SOLUTION
        super().__init__()
        self.conv = conv_block(in_channels, 128, kernel_size=1)
        self.fc1 = nn.Linear(2048, 1024)
        self.fc2 = nn.Linear(1024, num_classes)
        self.dropout = nn.Dropout(0.7)
        ### END SOLUTION

    def forward(self, x: Tensor) -> Tensor:
        """(B, in_channels, 14, 14) -> logits (B, num_classes)."""
        ### BEGIN SOLUTION
        x = self.conv(F.avg_pool2d(x, 5, stride=3))
        x = F.relu(self.fc1(x.flatten(1)))
        return self.fc2(self.dropout(x))
        ### END SOLUTION


def auxiliary_loss(
    logits: Tensor, heads: Sequence[Tensor], labels: Tensor, weight: float = 0.3
) -> Tensor:
    """Cross-entropy of the main logits plus `weight` times that of each auxiliary head.

    Args:
        logits: (B, K).
        heads: logits (B, K) of the heads, any number of them, also none; a list or a tuple, not
            modified.
        labels: (B,) int64.
        weight: factor of each head's loss.

    Returns:
        The loss, a tensor without dimensions.
    """
    ### BEGIN SOLUTION
    others = sum(F.cross_entropy(head, labels) for head in heads)
    return F.cross_entropy(logits, labels) + weight * others
    ### END SOLUTION


# %% test="auxiliary"
head = InceptionAux(2, 3)
expect(sum(p.numel() for p in head.parameters()), 2101635, "InceptionAux: number of parameters")
for p in head.parameters():  # averages only: what comes out is the mean of a quarter of the pixels
    nn.init.constant_(p, float(p.dim() > 1) / (p[0].numel() if p.dim() > 1 else 1))
ramp = torch.arange(14.0).expand(1, 2, 14, 14)  # windows 0-4, 3-7, 6-10, 9-13: means 2, 5, 8, 11
expect(head.eval()(ramp), [[6.5, 6.5, 6.5]], "InceptionAux: the mean of the window means")
even, sure = torch.zeros(1, 4), torch.tensor([[0.0, 0.0, math.log(5), 0.0]])
label = torch.tensor([2])  # losses ln 4 and -ln(5/8)
expect(auxiliary_loss(even, [even, even], label), 1.6 * math.log(4), "auxiliary_loss: equal heads")
want = math.log(4) + 0.3 * math.log(8 / 5)
expect(auxiliary_loss(even, [sure], label), want, "auxiliary_loss: one head")
expect(auxiliary_loss(sure, [], label), math.log(8 / 5), "auxiliary_loss: no heads")

# %%
INCEPTION = {  # in_channels, then the six numbers of filters (Szegedy et al. 2015, table 1)
    "3a": (192, 64, 96, 128, 16, 32, 32),
    "3b": (256, 128, 128, 192, 32, 96, 64),
    "4a": (480, 192, 96, 208, 16, 48, 64),
    "4b": (512, 160, 112, 224, 24, 64, 64),
    "4c": (512, 128, 128, 256, 24, 64, 64),
    "4d": (512, 112, 144, 288, 32, 64, 64),
    "4e": (528, 256, 160, 320, 32, 128, 128),
    "5a": (832, 256, 160, 320, 32, 128, 128),
    "5b": (832, 384, 192, 384, 48, 128, 128),
}


class GoogLeNet(nn.Module):
    """GoogLeNet: the paper's, with biases, or torchvision's, with batch normalisation.

    In training mode with heads it returns (logits, [head 1, head 2]), else logits.
    """

    def __init__(
        self, num_classes: int = 1000, heads: bool = True, torchvision: bool = False
    ) -> None:
        super().__init__()
        unit, large = (ConvBNReLU, 3) if torchvision else (ConvReLU, 5)
        self.conv1 = unit(3, 64, kernel_size=7, stride=2, padding=3)
        self.conv2 = unit(64, 64, kernel_size=1)
        self.conv3 = unit(64, 192, kernel_size=3, padding=1)
        for name, widths in INCEPTION.items():
            setattr(self, f"inception{name}", Inception(*widths, conv_block=unit, large=large))
        if heads:
            self.aux1 = InceptionAux(512, num_classes, unit)
            self.aux2 = InceptionAux(528, num_classes, unit)
        self.dropout, self.fc = nn.Dropout(0.4), nn.Linear(1024, num_classes)
        self.heads, self.torchvision = heads, torchvision

    def forward(self, x: Tensor) -> Tensor | tuple[Tensor, list[Tensor]]:
        norm = (lambda y: y) if self.torchvision else response_norm
        x = norm(F.max_pool2d(self.conv1(x), 3, 2, ceil_mode=True))
        x = norm(self.conv3(self.conv2(x)))
        heads = []
        for name in INCEPTION:
            if name in ("3a", "4a", "5a"):  # a new stage
                size = 2 if name == "5a" and self.torchvision else 3
                x = F.max_pool2d(x, size, 2, ceil_mode=True)
            x = self.get_submodule(f"inception{name}")(x)
            if self.heads and self.training and name in ("4a", "4d"):
                heads.append((self.aux1 if name == "4a" else self.aux2)(x))
        logits = self.fc(self.dropout(x.mean(dim=(2, 3))))  # global average pooling
        return (logits, heads) if heads else logits


# %%
if FULL:
    show("GoogLeNet, 2014", lambda: GoogLeNet(heads=False), (3, 224, 224))
    show("GoogLeNet with its heads", GoogLeNet, (3, 224, 224))
    show("torchvision's", lambda: GoogLeNet(heads=False, torchvision=True), (3, 224, 224))

# %% [markdown]
# 22 layers with a ninth of AlexNet's parameters and less than half of its error (6.67 %, top-5).
# The saving is at the end: *global average pooling* takes the mean of each of the 1,024 maps, and
# one linear layer does the rest. VGG's first linear layer alone has about fifteen times
# GoogLeNet's parameters. And look at the two heads: nearly as many parameters as the whole network,
# for something that is thrown away.

# %% [markdown]
# ## 5. ResNet: what if the layers were allowed to do nothing?
#
# Back to the question of the beginning: the deep network could pass on what it gets, if its layers
# could only learn the identity. With weights near zero a stack of convolutions gives zero, and to
# become the identity it has to learn much. He et al. (2016) made the identity what happens for
# nothing:
#
# $$\mathbf y = \mathbf x + F(\mathbf x).$$
#
# Now $F = 0$ is the identity, and the layers of $F$ learn the *residual*, what is to be changed. In
# the backward pass, with $I$ the identity matrix, the chain rule gives
#
# $$\frac{\partial L}{\partial\mathbf x}
#   = \Big(I + \frac{\partial F}{\partial\mathbf x}\Big)^{\!\top}
#     \frac{\partial L}{\partial\mathbf y}:$$
#
# whatever $F$ does, one part of the gradient arrives as it was sent.

# %% [markdown] heading="shortcut"
# ### Exercise {number} · Shortcuts when the shape changes ({points} points, about 12 min)
#
# $\mathbf x + F(\mathbf x)$ needs equal shapes. Two or three times in a network $F$ halves height
# and width (by a convolution of stride 2: a ResNet has no pooling between its stages) and doubles
# the channels. What is the identity then? The paper compares options:
#
# * **A**, `kind="pad"`: take every `stride`-th pixel of $\mathbf x$ in both directions, starting
#   with the first, and append channels of zeros *behind* the others. No parameters (buffers are
#   allowed).
# * **B**, `kind="projection"`: a convolution of 1 × 1 with that stride and no bias, then batch
#   normalisation.
#
# Write `make_shortcut`, which returns a module that maps $(B, \text{in}, H, W)$ to
# $(B, \text{out}, \lceil H/\text{stride}\rceil, \lceil W/\text{stride}\rceil)$. If stride is 1 and
# the channels are equal, it is the identity with either kind and has no parameters. A projection is
# an `nn.Sequential` of the `nn.Conv2d` and the `nn.BatchNorm2d`, so that its parameters are called
# `0.weight`, `1.weight` and `1.bias`. For `"pad"` `out_channels` is never smaller than
# `in_channels`; the zeros have the dtype of $\mathbf x$, float16 for instance, and lie on its
# device, `meta` included, also where the module was made on another one and moved by `.to(...)`.
# You will need a module of your own for it; write it into the same cell, above or inside the
# function.


# %% exercise="shortcut"
def make_shortcut(
    in_channels: int, out_channels: int, stride: int, kind: str = "projection"
) -> nn.Module:
    """A module that brings x to the shape of F(x).

    Args:
        in_channels: channels of x.
        out_channels: channels of F(x).
        stride: 1, 2 or more.
        kind: "projection" or "pad".

    Returns:
        The identity where nothing changes; else `nn.Sequential(conv, bn)` or a module without
        parameters.

    Source: He et al. 2016, section 3.3.
    """
    ### BEGIN SOLUTION
    if stride == 1 and in_channels == out_channels:
        return nn.Identity()
    if kind == "projection":
        return nn.Sequential(
            nn.Conv2d(in_channels, out_channels, 1, stride, bias=False),
            nn.BatchNorm2d(out_channels),
        )

    class Pad(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            behind = (0, 0, 0, 0, 0, out_channels - in_channels)
            return F.pad(x[:, :, ::stride, ::stride], behind)

    return Pad()
    ### END SOLUTION


# %% test="shortcut"
image = torch.arange(1.0, 13.0).reshape(1, 1, 3, 4)  # rows 1-4, 5-8, 9-12
got = make_shortcut(1, 3, 2, "pad")(image)
expect(got[0, 0], [[1.0, 3.0], [9.0, 11.0]], "make_shortcut: every second pixel")
expect(got[0, 1:], torch.zeros(2, 2, 2), "make_shortcut: zeros behind")
expect(make_shortcut(1, 1, 1, "projection")(image), image, "make_shortcut: nothing changes")
layer = make_shortcut(4, 6, 2, "projection")
names = {name: list(p.shape) for name, p in layer.named_parameters()}
wanted = {"0.weight": [6, 4, 1, 1], "1.weight": [6], "1.bias": [6]}
expect(names, wanted, "make_shortcut: parameters of a projection")
expect(list(layer(torch.zeros(1, 4, 5, 7)).shape), [1, 6, 3, 4], "make_shortcut: shape")

# %% [markdown] heading="basic_block"
# ### Exercise {number} · The basic block ({points} points, about 15 min)
#
# $$\mathbf y = \mathrm{ReLU}\big(S(\mathbf x) + F(\mathbf x)\big), \qquad
#   F = \mathrm{BN}_2 \circ \mathrm{conv}_2 \circ \mathrm{ReLU} \circ \mathrm{BN}_1
#       \circ \mathrm{conv}_1 .$$
#
# | name | layer |
# |---|---|
# | `conv1` | 3 × 3, `in_channels` → `channels`, `stride`, padding 1, no bias |
# | `bn1` | batch normalisation, then a ReLU |
# | `conv2` | 3 × 3, `channels` → `channels`, stride 1, padding 1, no bias |
# | `bn2` | batch normalisation, **no** ReLU: it follows after the sum |
# | `downsample` | $S$: your `make_shortcut` of kind `shortcut` |
#
# With `shortcut="none"` there is no $S$: the block gives $\mathrm{ReLU}(F(\mathbf x))$ and has no
# `downsample` parameters. That is the plain network of the beginning, to compare with. `x` is not
# modified. Batch normalisation with torch's defaults (eps 1e-5, momentum 0.1), here and in the next
# exercises. (`expansion = 1` says by how much the block widens; the given networks read it.)


# %% exercise="basic_block"
class BasicBlock(nn.Module):
    """Two 3 x 3 convolutions and a shortcut.

    Parameters: conv1, conv2 (no bias), bn1, bn2, and downsample.0, downsample.1 where the shortcut
    is a projection.

    Args:
        in_channels: channels of x.
        channels: channels of the result.
        stride: of the first convolution and of the shortcut.
        shortcut: "projection", "pad", or "none" for a plain block.

    Source: He et al. 2016, figures 2 and 5 (left).
    """

    expansion = 1

    def __init__(
        self, in_channels: int, channels: int, stride: int = 1, shortcut: str = "projection"
    ) -> None:
        """Make the layers."""
        ### BEGIN SOLUTION
        super().__init__()
        self.conv1 = nn.Conv2d(in_channels, channels, 3, stride, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(channels)
        self.conv2 = nn.Conv2d(channels, channels, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(channels)
        self.plain = shortcut == "none"
        if not self.plain:
            self.downsample = make_shortcut(in_channels, channels, stride, shortcut)
        ### END SOLUTION

    def forward(self, x: Tensor) -> Tensor:
        """(B, in_channels, H, W) -> (B, channels, ceil(H / stride), ceil(W / stride))."""
        ### BEGIN SOLUTION
        out = F.relu(self.bn1(self.conv1(x)))
        out = self.bn2(self.conv2(out))
        return F.relu(out if self.plain else out + self.downsample(x))
        ### END SOLUTION


# %% test="basic_block"
block = BasicBlock(2, 3, stride=2)
expect(sum(p.numel() for p in block.parameters()), 159, "BasicBlock: parameters, projection")
block = BasicBlock(2, 3, stride=2, shortcut="pad")
expect(sum(p.numel() for p in block.parameters()), 147, "BasicBlock: parameters, pad")
block = BasicBlock(1, 1)
for p in (block.conv1.weight, block.conv2.weight):
    nn.init.dirac_(p)  # each convolution passes its input on
image = torch.tensor([[[[-3.0, -1.0, 0.0, 2.0]]]])
block.eval()  # running mean 0 and variance 1: batch normalisation does nothing (up to its eps)
expect(block(image)[0, 0, 0], [0.0, 0.0, 0.0, 4.0], "BasicBlock: x + relu(x), then ReLU")
nn.init.constant_(block.conv1.weight, 0.0)
nn.init.constant_(block.bn2.bias, 2.0)  # F = 2 everywhere
expect(block(image)[0, 0, 0], [0.0, 1.0, 2.0, 4.0], "BasicBlock: x + 2, then ReLU")
plain = BasicBlock(1, 1, shortcut="none").eval()
plain.load_state_dict(block.state_dict())
expect(plain(image)[0, 0, 0], [2.0, 2.0, 2.0, 2.0], "BasicBlock: without a shortcut")

# %% [markdown] heading="bottleneck"
# ### Exercise {number} · The bottleneck ({points} points, about 10 min)
#
# At 50 layers and more, 3 × 3 convolutions on hundreds of channels cost too much. GoogLeNet's cure
# comes back: reduce by 1 × 1, convolve, expand by 1 × 1. The result has four times `channels`.
#
# | name | layer |
# |---|---|
# | `conv1`, `bn1` | 1 × 1, `in_channels` → `channels`, then a ReLU |
# | `conv2`, `bn2` | 3 × 3, `channels` → `channels`, `stride`, padding 1, then a ReLU |
# | `conv3`, `bn3` | 1 × 1, `channels` → `4 * channels`; the ReLU follows after the sum |
# | `downsample` | your `make_shortcut` from `in_channels` to `4 * channels` |
#
# No convolution has a bias. **The stride is in the 3 × 3**, as in torchvision ("ResNet v1.5"). The
# paper has it in the first 1 × 1, which leaves three pixels of four unread; the parameters are
# the same. `shortcut` is as before: `"projection"`, `"pad"` or `"none"`. Batch normalisation with
# torch's defaults (eps 1e-5, momentum 0.1).


# %% exercise="bottleneck"
class Bottleneck(nn.Module):
    """1 x 1, 3 x 3, 1 x 1 and a shortcut; the result has 4 * channels.

    Parameters: conv1, conv2, conv3 (no bias), bn1, bn2, bn3, and downsample.0, downsample.1 where
    the shortcut is a projection.

    Source: He et al. 2016, figure 5 (right); the stride as in torchvision.
    """

    expansion = 4

    def __init__(
        self, in_channels: int, channels: int, stride: int = 1, shortcut: str = "projection"
    ) -> None:
        """Make the layers."""
        ### BEGIN SOLUTION
        super().__init__()
        self.conv1 = nn.Conv2d(in_channels, channels, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(channels)
        self.conv2 = nn.Conv2d(channels, channels, 3, stride, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(channels)
        self.conv3 = nn.Conv2d(channels, 4 * channels, 1, bias=False)
        self.bn3 = nn.BatchNorm2d(4 * channels)
        self.plain = shortcut == "none"
        if not self.plain:
            self.downsample = make_shortcut(in_channels, 4 * channels, stride, shortcut)
        ### END SOLUTION

    def forward(self, x: Tensor) -> Tensor:
        """(B, in_channels, H, W) -> (B, 4 * channels, ceil(H / stride), ceil(W / stride))."""
        ### BEGIN SOLUTION
        out = F.relu(self.bn1(self.conv1(x)))
        out = F.relu(self.bn2(self.conv2(out)))
        out = self.bn3(self.conv3(out))
        return F.relu(out if self.plain else out + self.downsample(x))
        ### END SOLUTION


# %% test="bottleneck"
block = Bottleneck(256, 64)
expect(sum(p.numel() for p in block.parameters()), 70400, "Bottleneck: parameters, 256 to 64")
block = Bottleneck(64, 64)
expect(sum(p.numel() for p in block.parameters()), 75008, "Bottleneck: parameters, 64 to 64")
expect(list(block(torch.zeros(2, 64, 5, 4)).shape), [2, 256, 5, 4], "Bottleneck: shape")
block = Bottleneck(1, 1, stride=2, shortcut="pad").eval()
for p in (block.conv1.weight, block.conv2.weight, block.conv3.weight):
    nn.init.constant_(p, 1.0)
# Ones of 4 x 4: F sums 2 x 2 pixels at the corner, 2 x 3 at an edge, 3 x 3 inside. The shortcut
# adds one, to the first of the four channels.
got = block(torch.ones(1, 1, 4, 4))[0]
expect(got[0], [[5.0, 7.0], [7.0, 10.0]], "Bottleneck: first channel", rtol=1e-3)
expect(got[3], [[4.0, 6.0], [6.0, 9.0]], "Bottleneck: last channel", rtol=1e-3)


# %%
class ResNet(nn.Module):
    """ResNet for photographs; names, strides and counts are those of torchvision."""

    def __init__(self, block, repeats: Sequence[int], num_classes: int = 1000) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(3, 64, 7, stride=2, padding=3, bias=False)
        self.bn1 = nn.BatchNorm2d(64)
        self.maxpool = nn.MaxPool2d(3, stride=2, padding=1)
        width, stages = 64, []
        for stage, count in enumerate(repeats):
            blocks, channels = [], 64 << stage
            for i in range(count):
                blocks.append(block(width, channels, stride=2 if stage and not i else 1))
                width = channels * block.expansion
            stages.append(nn.Sequential(*blocks))
        self.layer1, self.layer2, self.layer3, self.layer4 = stages
        self.avgpool = nn.AdaptiveAvgPool2d(1)
        self.fc = nn.Linear(width, num_classes)
        he_normal(self)

    def forward(self, x: Tensor) -> Tensor:
        x = self.maxpool(F.relu(self.bn1(self.conv1(x))))
        x = self.layer4(self.layer3(self.layer2(self.layer1(x))))
        return self.fc(self.avgpool(x).flatten(1))


class CifarResNet(nn.Module):
    """ResNet for small images: depth 6 n + 2, three stages of n basic blocks.

    With 3 channels, width 16 and padded shortcuts it is the one of He et al. 2016, section 4.2.
    """

    def __init__(
        self,
        depth: int,
        num_classes: int = 10,
        in_channels: int = 3,
        width: int = 16,
        shortcut: str = "pad",
    ) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(in_channels, width, 3, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(width)
        blocks, channels = [], width
        for stage in range(3):
            for i in range((depth - 2) // 6):
                stride = 2 if stage and not i else 1
                blocks.append(BasicBlock(channels, width << stage, stride, shortcut))
                channels = width << stage
        self.blocks = nn.Sequential(*blocks)
        self.fc = nn.Linear(channels, num_classes)
        he_normal(self)

    def forward(self, x: Tensor) -> Tensor:
        x = self.blocks(F.relu(self.bn1(self.conv1(x))))
        return self.fc(x.mean(dim=(2, 3)))


# %%
show("ResNet-18", lambda: ResNet(BasicBlock, [2, 2, 2, 2]), (3, 224, 224))
if FULL:
    show("ResNet-50", lambda: ResNet(Bottleneck, [3, 4, 6, 3]), (3, 224, 224))
    show("CIFAR ResNet-20, A", lambda: CifarResNet(20), (3, 32, 32))
    show("CIFAR ResNet-20, B", lambda: CifarResNet(20, shortcut="projection"), (3, 32, 32))

# %% [markdown]
# **Weights trained by others.** With equal names, torchvision's ResNet-18 pours its parameters into
# yours. If your network computes the same function, the logits agree. (The weights here are random,
# nothing is downloaded; `resnet18(weights="DEFAULT")` would give the trained ones, 45 MB.)


# %%
def same_as_torchvision(names: Sequence[str], makers: Sequence[Callable[[], nn.Module]]) -> None:
    """Load the state_dict of torchvision's networks into ours and compare the logits."""
    try:
        from torchvision import models
    except ImportError:
        print("torchvision is missing: pip install torchvision")
        return
    for name, make in zip(names, makers, strict=True):
        torch.manual_seed(0)
        theirs, ours = getattr(models, name)(), make()
        ours.load_state_dict(theirs.state_dict())
        x = torch.randn(2, 3, 64, 64)
        difference = (predict(ours, x) - predict(theirs, x)).abs().max()
        print(f"{name}: all names fit, largest difference of the logits {difference:.1e}")


resnet18 = [lambda: ResNet(BasicBlock, [2, 2, 2, 2])]
if FULL:
    same_as_torchvision(["resnet18"], resnet18)

# %% [markdown]
# ## 6. DenseNet: keep everything
#
# In a ResNet what a layer has found is added into one running sum. DenseNet (Huang et al. 2017)
# keeps it apart: each layer gets *all* earlier results, put side by side, and adds few channels of
# its own. A block of $L$ layers has $L(L+1)/2$ connections, the block's input included.

# %% [markdown] heading="dense"
# ### Exercise {number} · Dense block and transition ({points} points, about 20 min)
#
# **A dense layer** gives `growth` new channels (the paper's $k$). Normalisation and ReLU come
# *before* each convolution; a 1 × 1 brings the input to $4k$ channels first, a reduction where it
# has more. No convolution has a bias:
#
# | name | layer |
# |---|---|
# | `norm1` | batch normalisation of the `in_channels`, then a ReLU |
# | `conv1` | 1 × 1, `in_channels` → `4 * growth` |
# | `norm2` | batch normalisation, then a ReLU |
# | `conv2` | 3 × 3, `4 * growth` → `growth`, padding 1 |
#
# **A dense block** has `layers` dense layers, called `denselayer1`, `denselayer2`, ...
# (`add_module`, or `setattr`). With $\mathbf x_0$ the block's input, layer $l$ gives
# $\mathbf x_l = H_l([\mathbf x_0, \mathbf x_1, \dots, \mathbf x_{l-1}])$, where the brackets put
# channels side by side in this order. The block gives all of them,
# $[\mathbf x_0, \dots, \mathbf x_L]$.
#
# **A transition** lies between two blocks: `norm` (batch normalisation), a ReLU, `conv` (1 × 1,
# no bias), then average pooling of 2 × 2 with stride 2 (an odd last row or column is dropped).
#
# Batch normalisation with torch's defaults (eps 1e-5, momentum 0.1). No `forward` changes its
# input.


# %% exercise="dense"
class DenseLayer(nn.Module):
    """norm1, ReLU, conv1 (1 x 1), norm2, ReLU, conv2 (3 x 3)."""

    def __init__(self, in_channels: int, growth: int) -> None:
        """Make norm1, conv1, norm2 and conv2."""
        ### BEGIN SOLUTION
        super().__init__()
        self.norm1 = nn.BatchNorm2d(in_channels)
        self.conv1 = nn.Conv2d(in_channels, 4 * growth, 1, bias=False)
        self.norm2 = nn.BatchNorm2d(4 * growth)
        self.conv2 = nn.Conv2d(4 * growth, growth, 3, padding=1, bias=False)
        ### END SOLUTION

    def forward(self, x: Tensor) -> Tensor:
        """(B, in_channels, H, W) -> the new channels alone, (B, growth, H, W)."""
        ### BEGIN SOLUTION
        x = self.conv1(F.relu(self.norm1(x)))
        return self.conv2(F.relu(self.norm2(x)))
        ### END SOLUTION


class DenseBlock(nn.Module):
    """Dense layers denselayer1, denselayer2, ...; each gets all that came before."""

    def __init__(self, layers: int, in_channels: int, growth: int) -> None:
        """Make the `layers` dense layers; layers >= 1."""
        ### BEGIN SOLUTION
        super().__init__()
        for i in range(layers):
            self.add_module(f"denselayer{i + 1}", DenseLayer(in_channels + i * growth, growth))
        ### END SOLUTION

    def forward(self, x: Tensor) -> Tensor:
        """(B, in_channels, H, W) -> (B, in_channels + layers * growth, H, W)."""
        ### BEGIN SOLUTION
        for layer in self.children():
            x = torch.cat([x, layer(x)], dim=1)
        return x
        ### END SOLUTION


class Transition(nn.Module):
    """norm, ReLU, conv (1 x 1), average pooling."""

    def __init__(self, in_channels: int, out_channels: int) -> None:
        """Make norm and conv."""
        ### BEGIN SOLUTION
        super().__init__()
        self.norm = nn.BatchNorm2d(in_channels)
        self.conv = nn.Conv2d(in_channels, out_channels, 1, bias=False)
        ### END SOLUTION

    def forward(self, x: Tensor) -> Tensor:
        """(B, in_channels, H, W) -> (B, out_channels, H // 2, W // 2)."""
        ### BEGIN SOLUTION
        return F.avg_pool2d(self.conv(F.relu(self.norm(x))), 2)
        ### END SOLUTION


# %% test="dense"
layer = DenseLayer(5, growth=2)
expect(sum(p.numel() for p in layer.parameters()), 210, "DenseLayer: number of parameters")
block = DenseBlock(3, 5, growth=2)
widths = [list(p.shape) for name, p in block.named_parameters() if "conv1" in name]
wanted = [[8, 5, 1, 1], [8, 7, 1, 1], [8, 9, 1, 1]]
expect(widths, wanted, "DenseBlock: shapes of conv1.weight")
block = DenseBlock(2, 1, growth=1).eval()
for name, p in block.named_parameters():
    if "conv" in name:
        nn.init.constant_(p, 1.0 if "conv1" in name else 0.25)
# One pixel of 2: the first layer gives 2, the second the sum of both, 4.
got = block(torch.full((1, 1, 1, 1), 2.0)).flatten()
expect(got, [2.0, 2.0, 4.0], "DenseBlock: all inputs and results")
down = Transition(1, 1).eval()
nn.init.constant_(down.conv.weight, 3.0)
image = torch.tensor([[[[-4.0, 0.0, 9.0], [4.0, 8.0, 9.0]]]])
expect(down(image).flatten(), [9.0], "Transition: a mean after the ReLU")


# %%
class DenseNet(nn.Module):
    """DenseNet-121 by default; names and counts are those of torchvision."""

    def __init__(
        self,
        num_classes: int = 1000,
        blocks: Sequence[int] = (6, 12, 24, 16),
        growth: int = 32,
        width: int = 64,
    ) -> None:
        super().__init__()
        self.features = nn.Sequential()
        self.features.add_module("conv0", nn.Conv2d(3, width, 7, 2, padding=3, bias=False))
        self.features.add_module("norm0", nn.BatchNorm2d(width))
        self.features.add_module("relu0", nn.ReLU())
        self.features.add_module("pool0", nn.MaxPool2d(3, 2, padding=1))
        for i, layers in enumerate(blocks, start=1):
            self.features.add_module(f"denseblock{i}", DenseBlock(layers, width, growth))
            width += layers * growth
            if i < len(blocks):  # a transition halves the channels
                self.features.add_module(f"transition{i}", Transition(width, width // 2))
                width //= 2
        self.features.add_module("norm5", nn.BatchNorm2d(width))
        self.classifier = nn.Linear(width, num_classes)
        he_normal(self)

    def forward(self, x: Tensor) -> Tensor:
        return self.classifier(F.relu(self.features(x)).mean(dim=(2, 3)))


if FULL:
    show("DenseNet-121", DenseNet, (3, 224, 224))

# %% [markdown]
# 121 layers with fewer parameters than ResNet-18. The price is memory: the same channels are
# copied into each longer concatenation, and all copies wait for the backward pass.
#
# ## 7. EfficientNet: a block for phones, and a rule for growing
#
# A 3 × 3 convolution does two things at once: it looks at neighbours, and it mixes channels. Done
# one after the other (*depthwise* convolution: `groups` = channels, each filter sees one
# channel; then 1 × 1) both cost a fraction. MobileNetV2 (Sandler et al. 2018) puts the depthwise
# convolution into an *inverted* bottleneck: wide inside, narrow outside, the shortcut between the
# narrow ends. EfficientNet (Tan and Le 2019) adds *squeeze and excitation* (Hu et al. 2018): a
# small network looks at the mean of each channel and decides how loud each one may be.

# %% [markdown] heading="mbconv"
# ### Exercise {number} · Squeeze-and-excitation and MBConv ({points} points, about 25 min)
#
# With $\mathrm{SiLU}(x) = x\,\sigma(x)$ and $\sigma$ the sigmoid (`F.silu`, `torch.sigmoid`):
#
# **`SqueezeExcite`**: the mean over height and width, $(B, C, 1, 1)$; `fc1`, a 1 × 1 convolution
# with bias, $C$ → `squeezed`; SiLU; `fc2`, a 1 × 1 convolution with bias, `squeezed` → $C$;
# sigmoid; the result multiplies the input, channel by channel.
#
# **`MBConv`** holds its parameters in `block`, an `nn.Sequential` of these parts in this order,
# where $e$ = `expand * in_channels`:
#
# 1. *expansion*, left out if `expand` is 1: `nn.Sequential` of a 1 × 1 convolution from
#    `in_channels` to $e$, batch normalisation, `nn.SiLU`;
# 2. *depthwise*: `nn.Sequential` of a `kernel` × `kernel` convolution (odd) from $e$ to $e$ with
#    `groups` = $e$, `stride` and padding `kernel // 2`, batch normalisation, `nn.SiLU`;
# 3. *squeeze*: `SqueezeExcite(e, max(1, in_channels // 4))`, a quarter of the block's **input**;
# 4. *projection*: `nn.Sequential` of a 1 × 1 convolution from $e$ to `out_channels` and batch
#    normalisation, **no** activation.
#
# These convolutions have no bias. If `stride` is 1 and `in_channels == out_channels`, the input is
# added to the result; otherwise there is no shortcut at all. So the first convolution's weight is
# `block.0.0.weight`; with an expansion, the squeeze's first is `block.2.fc1.weight`, without,
# `block.1.fc1.weight`. (torchvision also drops whole blocks at random in training, *stochastic
# depth*; leave it out.) Batch normalisation with torch's defaults (eps 1e-5, momentum 0.1). The
# input is not modified.


# %% exercise="mbconv"
class SqueezeExcite(nn.Module):
    """Scale each channel by what a small network makes of the channels' means.

    Parameters: fc1, fc2 (1 x 1 convolutions with bias).
    """

    def __init__(self, channels: int, squeezed: int) -> None:
        """Make fc1 and fc2."""
        ### BEGIN SOLUTION
        super().__init__()
        self.fc1 = nn.Conv2d(channels, squeezed, 1)
        self.fc2 = nn.Conv2d(squeezed, channels, 1)
        ### END SOLUTION

    def forward(self, x: Tensor) -> Tensor:
        """(B, channels, H, W) -> the same shape."""
        ### BEGIN SOLUTION
        scale = self.fc1(x.mean(dim=(2, 3), keepdim=True))
        return x * torch.sigmoid(self.fc2(F.silu(scale)))
        ### END SOLUTION


class MBConv(nn.Module):
    """Inverted bottleneck with depthwise convolution and squeeze-and-excitation.

    Parameters: those of the `nn.Sequential` called block, in the order of the list above.

    Source: Tan and Le 2019, section 4; the layout is torchvision's.
    """

    def __init__(
        self, in_channels: int, out_channels: int, kernel: int = 3, stride: int = 1, expand: int = 6
    ) -> None:
        """Make block."""
        ### BEGIN SOLUTION
        super().__init__()
        wide, layers = expand * in_channels, []
        if expand != 1:
            expansion = nn.Conv2d(in_channels, wide, 1, bias=False)
            layers.append(nn.Sequential(expansion, nn.BatchNorm2d(wide), nn.SiLU()))
        depthwise = nn.Conv2d(wide, wide, kernel, stride, kernel // 2, groups=wide, bias=False)
        projection = nn.Conv2d(wide, out_channels, 1, bias=False)
        layers += [
            nn.Sequential(depthwise, nn.BatchNorm2d(wide), nn.SiLU()),
            SqueezeExcite(wide, max(1, in_channels // 4)),
            nn.Sequential(projection, nn.BatchNorm2d(out_channels)),
        ]
        self.block = nn.Sequential(*layers)
        self.residual = stride == 1 and in_channels == out_channels
        ### END SOLUTION

    def forward(self, x: Tensor) -> Tensor:
        """(B, in_channels, H, W) -> (B, out_channels, ceil(H / stride), ceil(W / stride))."""
        ### BEGIN SOLUTION
        out = self.block(x)
        return x + out if self.residual else out
        ### END SOLUTION


# %% test="mbconv"
gate = SqueezeExcite(2, 1)
for p in gate.parameters():
    nn.init.constant_(p, 0.0)
image = torch.tensor([[[[1.0, 3.0]], [[5.0, 7.0]]]])
expect(gate(image), image / 2, "SqueezeExcite: zero weights")  # the sigmoid of 0
parts = dict(gate.named_parameters())
nn.init.constant_(parts["fc2.bias"], math.log(3))
expect(gate(image), 0.75 * image, "SqueezeExcite: sigmoid of ln 3")
block = MBConv(4, 4)
expect(sum(p.numel() for p in block.parameters()), 585, "MBConv: number of parameters")
shapes = {name: list(p.shape) for name, p in block.named_parameters() if p.dim() > 1}
expect(shapes["block.0.0.weight"], [24, 4, 1, 1], "MBConv: shape of the expansion")
expect(shapes["block.1.0.weight"], [24, 1, 3, 3], "MBConv: shape of the depthwise convolution")
expect(shapes["block.2.fc1.weight"], [1, 24, 1, 1], "MBConv: shape of the squeeze")
parts = dict(block.named_parameters())
nn.init.constant_(parts["block.3.1.weight"], 0.0)
nn.init.constant_(parts["block.3.1.bias"], -5.0)  # the block proper gives -5 everywhere
expect(block(torch.ones(1, 4, 1, 2))[0, 0], [[-4.0, -4.0]], "MBConv: input added, no activation")

# %% [markdown] heading="compound"
# ### Exercise {number} · Compound scaling ({points} points, about 10 min)
#
# You may use twice the arithmetic. Should the network become deeper, wider, or its images larger?
# Tan and Le found on a small network that all three together are best, in fixed proportions: depth
# by $1.2^\phi$, width by $1.1^\phi$, image size by $1.15^\phi$. Multiply-adds grow with depth,
# with the *square* of the width and the square of the image size, and
# $1.2 \cdot 1.1^2 \cdot 1.15^2 = 1.92$: about twice for each step of $\phi$. B1, B2 and B3 have
# factors near these powers for $\phi = 0.5$, 1 and 2, and channels and repeats have to be whole
# numbers:
#
# * `round_filters(channels, width)`: $v$ = `channels * width` is rounded to the nearest multiple of
#   8, upwards if two are equally near, and never below 8. If the result is less than
#   $0.9\,v$, the next multiple of 8 is taken.
# * `round_repeats(repeats, depth)`: `repeats * depth` rounded **up** to a whole number.
#
# (The checks avoid products that equal a whole number or a bound on paper and miss it in floating
# point, such as $10 \cdot 1.1$.)


# %% exercise="compound"
def round_filters(channels: int, width: float) -> int:
    """Scale a number of channels to a multiple of 8, at least 8 and never under 90 %.

    Args:
        channels: at least 1.
        width: the factor, positive.

    Returns:
        A multiple of 8 as an int.
    """
    ### BEGIN SOLUTION
    wanted = channels * width
    rounded = int(wanted + 4) // 8 * 8  # 0 becomes 8 by the rule of 90 %
    return rounded + 8 if rounded < 0.9 * wanted else rounded
    ### END SOLUTION


def round_repeats(repeats: int, depth: float) -> int:
    """Scale the number of blocks in a stage, rounded up; an int."""
    ### BEGIN SOLUTION
    return math.ceil(repeats * depth)
    ### END SOLUTION


# %% test="compound"
expect(round_filters(32, 1.0), 32, "round_filters: nothing to do")
expect(round_filters(32, 1.1), 32, "round_filters: 35.2 down")
expect(round_filters(40, 1.1), 48, "round_filters: 44 is in the middle")
expect(round_filters(10, 1.0), 16, "round_filters: 8 would be only 80 %")
expect(round_filters(2, 1.5), 8, "round_filters: at least 8")
expect(round_repeats(3, 1.1), 4, "round_repeats: 3.3")
expect(round_repeats(4, 1.0), 4, "round_repeats: 4")

# %%
# repeats, expansion, kernel, stride, in_channels, out_channels (Tan and Le 2019, table 1)
EFFICIENTNET_B0 = [
    (1, 1, 3, 1, 32, 16),
    (2, 6, 3, 2, 16, 24),
    (2, 6, 5, 2, 24, 40),
    (3, 6, 3, 2, 40, 80),
    (3, 6, 5, 1, 80, 112),
    (4, 6, 5, 2, 112, 192),
    (1, 6, 3, 1, 192, 320),
]
EFFICIENTNETS = {  # width, depth, image size, dropout
    "b0": (1.0, 1.0, 224, 0.2),
    "b1": (1.0, 1.1, 240, 0.2),
    "b2": (1.1, 1.2, 260, 0.3),
    "b3": (1.2, 1.4, 300, 0.3),
}


def conv_bn_silu(in_channels: int, out_channels: int, kernel: int, stride: int = 1):
    """A convolution without bias, batch normalisation, SiLU."""
    conv = nn.Conv2d(in_channels, out_channels, kernel, stride, kernel // 2, bias=False)
    return nn.Sequential(conv, nn.BatchNorm2d(out_channels), nn.SiLU())


class EfficientNet(nn.Module):
    """EfficientNet-B0 to B3; names and counts are those of torchvision."""

    def __init__(self, name: str = "b0", num_classes: int = 1000) -> None:
        super().__init__()
        width, depth, _, dropout = EFFICIENTNETS[name]
        channels = round_filters(32, width)
        stages: list[nn.Module] = [conv_bn_silu(3, channels, 3, stride=2)]
        for repeats, expand, kernel, stride, _, out in EFFICIENTNET_B0:
            out, blocks = round_filters(out, width), []
            for i in range(round_repeats(repeats, depth)):
                blocks.append(MBConv(channels, out, kernel, 1 if i else stride, expand))
                channels = out
            stages.append(nn.Sequential(*blocks))
        stages.append(conv_bn_silu(channels, 4 * channels, 1))
        self.features = nn.Sequential(*stages)
        self.classifier = nn.Sequential(nn.Dropout(dropout), nn.Linear(4 * channels, num_classes))
        he_normal(self)

    def forward(self, x: Tensor) -> Tensor:
        return self.classifier(self.features(x).mean(dim=(2, 3)))


print(f"1.2 · 1.1² · 1.15² = {1.2 * 1.1**2 * 1.15**2:.2f}")
for name in ["b0", "b3"] if FULL else []:
    size = EFFICIENTNETS[name][2]
    show(f"EfficientNet-{name.upper()}", lambda name=name: EfficientNet(name), (3, size, size))

# %% [markdown]
# ## 8. The whole family
#
# A registry: names, and how to build what they stand for. Whoever reads a configuration file or
# compares networks in a loop wants one of these; torchvision's is `models.get_model(name)`.

# %%
VARIANTS: dict[str, Callable[[int], nn.Module]] = {
    "lenet5": lambda classes: LeNet5(classes),
    "alexnet2012": lambda classes: AlexNet2012(classes),
    "alexnet2012_ungrouped": lambda classes: AlexNet2012(classes, groups=1),
    "alexnet": lambda classes: AlexNet(classes),
    "vgg_a": lambda classes: VGG("A", classes),
    "vgg_b": lambda classes: VGG("B", classes),
    "vgg_c": lambda classes: VGG("C", classes),
    "vgg_d": lambda classes: VGG("D", classes),
    "vgg_e": lambda classes: VGG("E", classes),
    "googlenet2014": lambda classes: GoogLeNet(classes, heads=False),
    "googlenet2014_heads": lambda classes: GoogLeNet(classes),
    "googlenet": lambda classes: GoogLeNet(classes, heads=False, torchvision=True),
    "googlenet_heads": lambda classes: GoogLeNet(classes, torchvision=True),
    "resnet18": lambda classes: ResNet(BasicBlock, [2, 2, 2, 2], classes),
    "resnet34": lambda classes: ResNet(BasicBlock, [3, 4, 6, 3], classes),
    "resnet50": lambda classes: ResNet(Bottleneck, [3, 4, 6, 3], classes),
    "resnet101": lambda classes: ResNet(Bottleneck, [3, 4, 23, 3], classes),
    "resnet152": lambda classes: ResNet(Bottleneck, [3, 8, 36, 3], classes),
    "cifar_resnet20": lambda classes: CifarResNet(20, classes),
    "cifar_resnet32": lambda classes: CifarResNet(32, classes),
    "cifar_resnet44": lambda classes: CifarResNet(44, classes),
    "cifar_resnet56": lambda classes: CifarResNet(56, classes),
    "cifar_resnet110": lambda classes: CifarResNet(110, classes),
    "densenet121": lambda classes: DenseNet(classes),
    "efficientnet_b0": lambda classes: EfficientNet("b0", classes),
    "efficientnet_b1": lambda classes: EfficientNet("b1", classes),
    "efficientnet_b2": lambda classes: EfficientNet("b2", classes),
    "efficientnet_b3": lambda classes: EfficientNet("b3", classes),
}


def build(name: str, num_classes: int = 1000) -> nn.Module:
    """Build a network by its name in `VARIANTS`; ValueError with the known names if it has none."""
    if name not in VARIANTS:
        raise ValueError(f"no network is called {name!r}; known: {', '.join(VARIANTS)}")
    return VARIANTS[name](num_classes)


def input_shape(name: str) -> tuple[int, int, int]:
    """The shape (C, H, W) of one image for a network of `VARIANTS`."""
    if name == "lenet5":
        return 1, 28, 28
    size = 32 if name.startswith("cifar") else EFFICIENTNETS.get(name[-2:], (0, 0, 224))[2]
    return 3, size, size


# %%
@cache
def family(names: tuple[str, ...]) -> dict[str, tuple[dict[str, int], int]]:
    """Print a line for each network; returns censuses and multiply-adds."""
    found = {}
    print(f"{'':22s}{'parameters':>12s}{'linear':>8s}{'M mult-adds':>13s}   last maps")
    for name in names:
        with torch.device("meta"):
            net = build(name, 10 if name.startswith(("lenet", "cifar")) else 1000)
        counts, shape = census(net), input_shape(name)
        arithmetic = sum(cost.multiply_adds for cost in costs(net, shape))
        maps = " × ".join(map(str, stage_shapes(net, shape)[-2]))
        share = counts["linear"] / counts["total"]
        print(f"{name:22s}{counts['total']:12,d}{share:8.1%}{arithmetic / 1e6:13,.1f}   {maps}")
        found[name] = counts, arithmetic
    return found


NAMES = tuple(VARIANTS) if FULL else ("lenet5", "alexnet", "resnet18")
counted = family(NAMES)  # kept: the next figure asks for it again

# %% [markdown]
# Where torchvision has the same network (AlexNet of 2014, VGG A, B, D and E, `googlenet`, ResNet-18
# to 152, DenseNet and EfficientNet) your count is its count, to the last digit: a single forgotten
# bias would show. The papers round: 60 million for AlexNet, 134 million for VGG C, 0.27 to 1.7
# million for the ResNets on CIFAR-10, and for GoogLeNet a number for each block. Today's LeNet-5
# and the ungrouped AlexNet are in no paper. Two of the columns against each other say what has
# happened in seven years:


# %%
def draw_family(found: dict[str, tuple[dict[str, int], int]]) -> None:
    """Parameters against multiply-adds, each network with its name."""
    chosen = ["alexnet2012", "vgg_d", "googlenet2014", "resnet50", "resnet152", "densenet121"]
    chosen += ["efficientnet_b0", "efficientnet_b3"]
    _, ax = plt.subplots(figsize=(6.5, 3.2))
    for i, name in enumerate(name for name in chosen if name in found):
        counts, arithmetic = found[name]
        x, y = counts["total"] / 1e6, arithmetic / 1e9
        ax.plot(x, y, plots.MARKERS[i % len(plots.MARKERS)], color=plots.COLOURS[0])
        place = (-4, -13) if name == "googlenet2014" else (5, 3)
        ax.annotate(name, (x, y), xytext=place, textcoords="offset points", fontsize=8)
    ax.set(xscale="log", yscale="log", xlabel="million parameters", ylabel="G multiply-adds")
    ax.set(xlim=(3, 400), ylim=(0.2, 30))
    plt.show()


draw_family(family(NAMES))

# %% [markdown]
# AlexNet and EfficientNet-B0 cost about the same arithmetic up to a factor of two, and differ by
# more than ten in parameters; VGG is at the far corner in both. Neither number tells how fast a
# network is: depthwise convolutions read much memory for little arithmetic, and on a GPU
# EfficientNet is slower than its multiply-adds promise.

# %% [markdown]
# ## 9. The question of the beginning, answered
#
# Your own blocks now; the goal is 95 % on the test images, which the residual network exceeded with
# each of five seeds. `CifarResNet` of depth 56 with 8 to 32 channels, and the *same* network with
# `shortcut="none"`: the same convolutions, the same number of parameters, the same first weights
# (the same seed). Zero-padded shortcuts have no parameters at all: whatever the difference is, 27
# additions have made it.

# %%
DEPTH, WIDTH, EPOCHS, GOAL = (56, 8, 12, 0.95) if FULL else (8, 4, 1, 0.0)
Pair = dict[str, tuple[nn.Module, History]]


@cache
def with_and_without(depth: int, epochs: int, seed: int = 0) -> Pair:
    """Train the residual network and the plain one."""
    found: Pair = {}
    for name, shortcut in {"residual": "pad", "plain": "none"}.items():
        torch.manual_seed(seed)
        net = CifarResNet(depth, in_channels=1, width=WIDTH, shortcut=shortcut)
        net.to(course.device())
        start = time.perf_counter()
        history = train(net, epochs, seed=seed)
        print(f"{name:9s} {census(net)['total']:,} parameters", end=", ")
        print(f"{time.perf_counter() - start:.0f} s: {history}")
        found[name] = net, history
    return found


def draw_pair(pair: Pair) -> None:
    """Training loss and validation accuracy of both."""
    _, axes = plt.subplots(1, 2, figsize=(8, 2.8))
    for number, (name, (_, history)) in enumerate(pair.items()):
        for ax, key in zip(axes, ["loss", "valid_accuracy"], strict=True):
            epochs = range(1, len(history) + 1)
            ax.plot(epochs, history[key], marker=plots.MARKERS[number], label=name)
    axes[0].set(xlabel="epoch", ylabel="training loss")
    axes[1].set(xlabel="epoch", ylabel="validation accuracy", ylim=(0, 1.02))
    axes[0].legend()
    plt.show()


draw_pair(with_and_without(DEPTH, EPOCHS))


# %%
def nearest_mean() -> Tensor:
    """Logits of the baseline: less the distance to each class's mean training image."""
    data = digit_images()
    (x, y), test = data["train"], data["test"][0].flatten(1)
    means = torch.stack([x[y == digit].flatten(1).mean(dim=0) for digit in range(10)])
    return -torch.cdist(test, means)


def report(pair: Pair) -> None:
    """Errors on the test split, used here for the first time, and the residual net's mistakes."""
    x, y = digit_images()["test"]
    logits = {"nearest mean": nearest_mean()}
    logits |= {name: predict(net, x) for name, (net, _) in pair.items()}
    for name, scores in logits.items():
        top = [float(top_k_error(scores, y, k)) for k in (1, 2)]
        print(f"{name:13s} test accuracy {1 - top[0]:6.1%}   top-2 error {top[1]:6.1%}")
    right = accuracy(logits["residual"], y)
    print(f"goal: {GOAL:.0%}, {'reached' if right >= GOAL else 'missed'}")
    confidence, guess = logits["residual"].softmax(dim=1).max(dim=1)
    wrong = (guess != y).nonzero()[:, 0]
    wrong = wrong[confidence[wrong].argsort(descending=True)][:10]
    if len(wrong):
        titles = [f"{int(guess[i])} (is {int(y[i])})" for i in wrong]
        shown = digits().test_x[wrong.cpu()]
        plots.images(shown, titles, columns=10, title="wrong, and most sure of it")
        plt.show()


report(with_and_without(DEPTH, EPOCHS))

# %% [markdown]
# The plain network of 56 layers has hardly begun where the residual one has finished. The usual
# explanation is that its gradients vanish on the way down. Do they? Look at both networks
# *before* any training: on the left the norm of the gradient that arrives at the first convolution,
# on the right whether it means anything. Add a little noise to the images (a twentieth of their
# deviation) and take the gradients by the images again: do they still point the same way?


# %%
def first_gradients(depth: int, shortcut: str) -> tuple[float, float]:
    """Norm of the first layer's gradient; mean cosine of input gradients without and with noise."""
    torch.manual_seed(0)
    net = CifarResNet(depth, in_channels=1, width=WIDTH, shortcut=shortcut).to(course.device())
    x, y = (part[: 128 if FULL else 4] for part in digit_images()["train"])
    found, norm = [], 0.0
    for noise in (0.0, 0.05):
        leaf = (x + noise * x.std() * torch.randn_like(x)).requires_grad_()
        net.zero_grad()
        F.cross_entropy(net(leaf), y).backward()
        assert leaf.grad is not None and net.conv1.weight.grad is not None
        found.append(leaf.grad.flatten(1))
        norm = net.conv1.weight.grad.norm().item()
    return norm, F.cosine_similarity(*found, dim=1).mean().item()


# %%
depths = [8, 20, 32, 44, 56] if FULL else [8]
fig, axes = plt.subplots(1, 2, figsize=(8, 2.6))
for number, (name, shortcut) in enumerate({"residual": "pad", "plain": "none"}.items()):
    norms, cosines = zip(*(first_gradients(depth, shortcut) for depth in depths), strict=True)
    for ax, values in zip(axes, [norms, cosines], strict=True):
        ax.plot(depths, values, marker=plots.MARKERS[number], label=name)
    print(f"{name:9s} depth {depths[-1]}: norm {norms[-1]:6.1f}, cosine {cosines[-1]:5.2f}")
axes[0].set(yscale="log", xlabel="depth", ylabel="norm at the first layer", xticks=depths)
axes[1].set(xlabel="depth", ylabel="cosine with and without noise", xticks=depths, ylim=(-0.2, 1))
axes[0].legend()
plt.show()

# %% [markdown]
# They do not vanish: batch normalisation sees to that, and in the plain network they even grow with
# depth. What is lost is their *direction*. At 56 layers two images that no eye could tell apart
# have gradients at right angles to each other, like noise, and a step along one of them
# tells nothing about the place where it ends. With shortcuts most of the direction survives.
# Balduzzi et al. (2017) called this *shattered gradients*.

# %% [markdown]
# ### On CIFAR-10
#
# In the profile `full` the next cell trains ResNet-20 on CIFAR-10 as He et al. did (section 4.2):
# batches of 128, rate 0.1, momentum 0.9, weight decay 1e-4, 64,000 steps, the rate divided by 10
# after 32,000 and 48,000, images shifted by up to 4 pixels and mirrored at random. The target is
# **their error on the test images: 8.75 %** (110 layers: 6.43 %). The run writes a checkpoint every
# 1,000 steps and goes on from it when the cell is run again: Colab may end your session.


# %%
def jitter(x: Tensor) -> Tensor:
    """Each image (C, 32, 32) shifted by up to 4 pixels (zeros come in) and mirrored at random."""
    padded, count = F.pad(x, (4, 4, 4, 4)), len(x)
    across = torch.arange(x.shape[3], device=x.device)
    top, left = torch.randint(0, 9, (2, count, 1), device=x.device)
    columns = left + across
    mirrored = torch.rand(count, 1, device=x.device) < 0.5
    columns = torch.where(mirrored, columns.flip(1), columns)
    rows = top + torch.arange(x.shape[2], device=x.device)
    index = torch.arange(count, device=x.device)[:, None, None]
    return padded.transpose(1, 3)[index, columns[:, :, None], rows[:, None]].transpose(1, 3)


def train_cifar(
    net: nn.Module, x: Tensor, y: Tensor, steps: int, checkpoint: Path, every: int = 1000
) -> None:
    """The recipe of He et al. 2016, section 4.2; goes on from `checkpoint` if the file is there."""
    optimiser = torch.optim.SGD(net.parameters(), 0.1, momentum=0.9, weight_decay=1e-4)
    schedule = torch.optim.lr_scheduler.MultiStepLR(optimiser, [steps // 2, steps * 3 // 4])
    parts = {"net": net, "optimiser": optimiser, "schedule": schedule}
    first = 0
    if checkpoint.exists():
        saved = torch.load(checkpoint, map_location=x.device, weights_only=True)
        first = saved.pop("step")
        for name, state in saved.items():
            parts[name].load_state_dict(state)
        print(f"going on from step {first:,}")
    net.train()
    for step in range(first + 1, steps + 1):
        batch = torch.randint(0, len(x), (128,), device=x.device)
        loss = F.cross_entropy(net(jitter(x[batch])), y[batch])
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        schedule.step()
        if step % every == 0 or step == steps:
            states = {name: part.state_dict() for name, part in parts.items()}
            torch.save({"step": step, **states}, checkpoint.with_suffix(".new"))
            checkpoint.with_suffix(".new").replace(checkpoint)  # whole, or not at all
            print(f"step {step:6,d}: loss {loss.item():.3f}")


def cifar_error(steps: int, checkpoint: Path) -> float:
    """Top-1 error on the test images of a ResNet-20 that is trained for `steps` steps."""
    data = cifar10(course.device())
    mean = data.train_x.mean(dim=0)
    x = torch.cat([data.train_x, data.valid_x]) - mean  # nothing is chosen here: all 50,000
    torch.manual_seed(0)
    net = build("cifar_resnet20", num_classes=10).to(course.device())
    train_cifar(net, x, torch.cat([data.train_y, data.valid_y]), steps, checkpoint)
    logits = torch.cat([predict(net, part - mean) for part in data.test_x.split(1000)])
    return float(top_k_error(logits, data.test_y, k=1))


if course.profile() == "full":
    error = cifar_error(64_000, Path("resnet20_cifar10.pt"))
    print(f"test error {error:.2%}; He et al. 2016 report 8.75 %")
else:
    print("profile full only: set COURSE_PROFILE=full, on a machine with a GPU")

# %% [markdown]
# ### Out of Python: ONNX
#
# A trained network is a graph of operators with numbers. ONNX is a file format for that: what
# you write can be run by onnxruntime, in a browser or on a phone, without torch. Exporting runs the
# network once on an example and records what happened. Whoever exports has to *check*: run the
# file on other inputs and compare. The first dimension is made dynamic here, and the check uses
# another batch size than the export did.


# %%
def onnx_difference(net: nn.Module, example: Tensor, check: Tensor, path: Path) -> float:
    """Export `net` and give the largest difference of onnxruntime's outputs from torch's.

    Args:
        net: the network; put into evaluation mode.
        example: (B, ...) what it is traced with, B >= 2.
        check: (M, ...) what both sides compute.
        path: of the file.

    Raises:
        ImportError: onnx, onnxscript or onnxruntime is missing.
    """
    import onnxruntime

    importlib.import_module("onnxscript")  # what torch.onnx.export works with

    net = net.cpu().eval()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of torch, about itself
        torch.onnx.export(
            net,
            (example.cpu(),),
            str(path),
            input_names=["images"],
            output_names=["logits"],
            dynamic_shapes=({0: torch.export.Dim("batch")},),
            dynamo=True,
            external_data=False,
            verbose=False,
        )
    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    (logits,) = session.run(None, {"images": check.cpu().numpy()})
    return (torch.from_numpy(logits) - predict(net, check.cpu())).abs().max().item()


def export_report(net: nn.Module) -> None:
    """Export the network, into a temporary folder, and say how it compares."""
    x, path = digit_images()["test"][0], Path(tempfile.mkdtemp()) / "digits.onnx"
    try:
        difference = onnx_difference(net, x[:2], x[:50], path)
    except ImportError:
        print("to export, install what it needs: pip install onnx onnxscript onnxruntime")
        return
    size = path.stat().st_size / 1e6
    print(f"{path.name}: {size:.1f} MB, largest difference of the logits {difference:.1e}")


if FULL:
    export_report(with_and_without(DEPTH, EPOCHS)["residual"][0])

# %% [markdown]
# ### Your experiment
#
# Change one thing at a time and predict the result before you run it. Suggestions:
#
# * the depth at which the plain network gives up: 8, 14, 20, 32;
# * `shortcut="projection"` in place of `"pad"`: how many parameters more, and what do they gain?
# * in `BasicBlock`, start with `nn.init.zeros_(self.bn2.weight)`: every block is the identity at
#   first;
# * in `BasicBlock`, normalisation and ReLU *before* each convolution and nothing after the sum, as
#   in He et al.'s second paper (*Identity mappings in deep residual networks*, ECCV 2016);
# * a `DenseBlock` and a `Transition` in place of each stage.


# %%
def experiment(depth: int, epochs: int, shortcut: str) -> None:
    torch.manual_seed(0)
    net = CifarResNet(depth, in_channels=1, width=WIDTH, shortcut=shortcut)
    history = train(net.to(course.device()), epochs)
    print(f"depth {depth}, shortcut {shortcut}: {history}")
    plots.curves(history)
    plt.show()


experiment(depth=14 if FULL else 8, epochs=8 if FULL else 1, shortcut="none")

# %% [markdown]
# ## Summary
#
# 1. Parameters, activations and multiply-adds are three measures of size, and three different
#    places of a network lead in them. On the meta device all three cost nothing to know.
# 2. Small filters in depth (VGG), 1 × 1 convolutions that reduce first (GoogLeNet, bottleneck),
#    depthwise convolutions (MBConv): the same field of view for fewer weights.
# 3. Global average pooling replaced linear layers that held nine parameters in ten.
# 4. Plain networks degrade with depth, on the training images; $\mathbf x + F(\mathbf x)$ makes
#    doing nothing the default, and 56 layers train like 8.
# 5. Names and counts make a network checkable: the published weights fit, the published number
#    agrees, the exported file gives the same logits.
#
# ## In practice, and further reading
#
# The library calls are `torchvision.models.resnet50(weights="DEFAULT")` and its kin, with
# `weights.transforms()` for the images. ResNets with a better recipe are still a baseline to
# beat; the convolutional networks that followed took over what transformers (unit 06) had shown to
# work.
#
# * Y. LeCun et al., *Gradient-based learning applied to document recognition*, Proc. IEEE 1998.
# * A. Krizhevsky, I. Sutskever, G. Hinton, *ImageNet classification with deep convolutional neural
#   networks*, NIPS 2012.
# * K. Simonyan, A. Zisserman, *Very deep convolutional networks for large-scale image recognition*,
#   ICLR 2015.
# * C. Szegedy et al., *Going deeper with convolutions*, CVPR 2015.
# * K. He et al., *Deep residual learning for image recognition*, CVPR 2016: sections 1, 3 and 4.2.
# * G. Huang et al., *Densely connected convolutional networks*, CVPR 2017.
# * D. Balduzzi et al., *The shattered gradients problem: if resnets are the answer, then what is
#   the question?*, ICML 2017.
# * M. Tan, Q. Le, *EfficientNet: rethinking model scaling for convolutional neural networks*,
#   ICML 2019; J. Hu et al., *Squeeze-and-excitation networks*, CVPR 2018; M. Sandler et al.,
#   *MobileNetV2*, CVPR 2018.
