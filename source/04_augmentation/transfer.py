# %% [markdown]
# # Transfer: borrowing a trained network
#
# **Unit 04, second notebook, ten exercises.** Allow three hours; the experiments take under a
# minute on two cores.
#
# *Afterwards you can* take a network that somebody else trained, keep the parts that you want,
# give it a new head, say for each parameter whether, when and how fast it learns, and tell from
# numbers whether the borrowing paid.
#
# *You need* `nn.Module`, `state_dict`, optimisers and batch normalisation in training and
# evaluation mode (unit 03).
#
# *How it works.* An exercise is one cell to fill in, followed by visible tests with numbers small
# enough for paper. The hidden checks ask for what the text and the docstrings state, on nets that
# you have not seen: sequential, nested, with batch normalisation, with tied parameters. You may
# define helpers of your own in a cell. The cells between exercises are given.

# %% setup=true
import course

course.setup("04_augmentation")

# %%
import copy
from collections.abc import Callable, Iterable
from functools import cache

import matplotlib.pyplot as plt
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from course import expect, plots
from course.data import Images, digits
from course.training import batches

FULL = course.profile() != "grade"  # the grader runs the same cells with less data
DEVICE = course.device()

# %% [markdown]
# ## Two puzzles
#
# A colleague has a network that tells the digits 0 to 4 apart. You need one for 5 to 9, and you
# have **ten images of each**. To make it a task, every 8 × 8 image lies at a random place of a
# 12 × 12 field.


# %%
def placed(x: Tensor, generator: torch.Generator) -> Tensor:
    """Each 8 x 8 image at a random place of a 12 x 12 field: (N, 64) -> (N, 1, 12, 12)."""
    fields = x.new_zeros(len(x), 1, 12, 12)
    corners = torch.randint(0, 25, (len(x),), generator=generator).to(x.device)
    for corner in range(25):
        i, j, here = corner // 5, corner % 5, corners == corner
        fields[here, :, i : i + 8, j : j + 8] = x[here].reshape(-1, 1, 8, 8)
    return fields


def task(first: int, copies: int = 1) -> Images:
    """The digits from `first` to `first + 4` as classes 0 to 4; `copies` of each training image."""
    data, generator = digits(DEVICE), torch.Generator().manual_seed(first)
    parts = []
    for number, (x, y) in enumerate([data[:2], data[2:4], data[4:]]):
        keep = (y >= first) & (y < first + 5)
        times = copies if number == 0 else 1
        parts += [placed(x[keep].repeat(times, 1), generator), (y[keep] - first).repeat(times)]
    return Images(*parts)


old, new = task(0, copies=8), task(5)
if FULL:
    plots.images(torch.cat([old.train_x[:8], new.train_x[:8]]).cpu(), title="theirs, and yours")
    plt.show()
print(
    f"theirs: {len(old.train_y)} fields to learn from; yours: 10 a class, {len(new.test_y)} to test"
)


# %%
def block(c_in: int, c_out: int, stride: int = 1) -> nn.Sequential:
    """Convolution 3 x 3, batch normalisation, ReLU."""
    conv = nn.Conv2d(c_in, c_out, 3, stride, padding=1, bias=False)
    return nn.Sequential(conv, nn.BatchNorm2d(c_out), nn.ReLU())


class SmallNet(nn.Module):
    """Fields (B, 1, 12, 12) to logits (B, K)."""

    def __init__(self, num_classes: int) -> None:
        super().__init__()
        self.block1 = block(1, 16)
        self.block2 = block(16, 32, stride=2)
        self.block3 = block(32, 32, stride=2)
        self.pool = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten())
        self.head = nn.Linear(32, num_classes)

    def forward(self, x: Tensor) -> Tensor:
        """Logits (B, K)."""
        return self.head(self.pool(self.block3(self.block2(self.block1(x)))))


BLOCKS = ["block1", "block2", "block3", "head"]  # from the input to the output


# %%
@torch.no_grad()
def accuracy(net: nn.Module, x: Tensor, y: Tensor) -> float:
    """Share of right answers in evaluation mode."""
    return (net.eval()(x).argmax(dim=1) == y).float().mean().item()


def train_all(net: nn.Module, x: Tensor, y: Tensor, steps: int, lr: float = 0.01) -> None:
    """AdamW on all parameters, a rate that falls to zero, batches of 64."""
    net.train()
    optimizer = torch.optim.AdamW(net.parameters(), lr)
    scheduler = torch.optim.lr_scheduler.LinearLR(optimizer, 1, 0, steps)
    generator = torch.Generator().manual_seed(0)
    for _ in range(steps):
        rows = torch.randperm(len(x), generator=generator)[:64].to(x.device)
        optimizer.zero_grad()
        F.cross_entropy(net(x[rows]), y[rows]).backward()
        optimizer.step()
        scheduler.step()


torch.manual_seed(0)
theirs = SmallNet(5).to(DEVICE)
train_all(theirs, old.train_x, old.train_y, 300 if FULL else 3)
few = torch.cat([(new.train_y == k).nonzero()[:10, 0] for k in range(5)])
mine = SmallNet(5).to(DEVICE)
train_all(mine, new.train_x[few], new.train_y[few], 80 if FULL else 2)
print(f"theirs on 0 to 4:                 {accuracy(theirs, old.test_x, old.test_y):.1%}")
print(f"mine on my fifty images:          {accuracy(mine, new.train_x[few], new.train_y[few]):.1%}")
print(f"mine on 5 to 9 that it never saw: {accuracy(mine, new.test_x, new.test_y):.1%}")

# %% [markdown]
# Fifty images are learned by heart and little else is. **First puzzle: can a network that has
# never seen a 5 help to read one?** And how many images does it take until nobody needs its help?
#
# The second puzzle looks like a bug. The colleague's network is *frozen*: no parameter may change.
# It looks at some of your images, photographed by another device (black and white exchanged). No
# optimiser exists, no gradient is computed.


# %%
def look(net: nn.Module, times: int) -> None:
    """The net looks at inverted images of the new task, as it would while a head is trained."""
    generator = torch.Generator().manual_seed(0)
    net.train()
    for _ in range(times):
        rows = torch.randperm(len(new.train_x), generator=generator)[:32].to(DEVICE)
        with torch.no_grad():
            net(1 - new.train_x[rows])


frozen = copy.deepcopy(theirs).requires_grad_(False)
before = accuracy(frozen, old.test_x, old.test_y)
look(frozen, 30 if FULL else 1)
after = accuracy(frozen, old.test_x, old.test_y)
pairs = zip(theirs.parameters(), frozen.parameters(), strict=True)
print(f"parameters unchanged: {all(torch.equal(p, q) for p, q in pairs)}")
print(f"accuracy on 0 to 4: {before:.1%} before, {after:.1%} after looking")

# %% [markdown]
# **Second puzzle: what has changed, when nothing was allowed to?** Part 3 answers it.
#
# **Notation.** A batch of $B$ inputs, $N$ inputs in all, $D$ features, $K$ classes numbered from
# 0, $M$ blocks of a net numbered from the input, loss $L$, learning rate $\eta$. A *part* of a net
# is named as torch names it, by the way to it with dots: `"layer1.0.weight"` is a parameter of
# the module `"layer1.0"`, which is in the module `"layer1"`. The *head* is the last linear layer,
# the *backbone* is the rest.

# %% [markdown] heading="few_shot_split"
# ### Exercise {number} · A few images of each class ({points} points, about 10 min)
#
# How does one draw "ten images of each class" fairly? From each class that occurs in `labels`, $n$
# different rows at random, every set of $n$ rows of the class equally likely: the *support* rows to
# learn from. All other rows are the *rest*, to measure with. No row is in both, or the measurement
# is worth nothing.
#
# The order within the two tensors is free. All randomness comes from the generator that is passed,
# so that the same seed gives the same split; the global generator is neither read nor changed.
# Draw *every class for itself*: do not take the same positions in each.


# %% exercise="few_shot_split"
def few_shot_split(labels: Tensor, n: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """Draw n rows of each class; the others are for measuring.

    Args:
        labels: (N,) int64 classes, any numbers, negative ones too; not modified.
        n: rows of each class, n >= 1.
        generator: a generator on the CPU; the only source of randomness.

    Returns:
        Row numbers (n * classes,) and (N - n * classes,), int64 on the device of `labels`.

    Raises:
        ValueError: a class has fewer than n rows.
    """
    ### BEGIN SOLUTION
    chosen = torch.zeros(len(labels), dtype=torch.bool)
    for value in labels.unique():
        rows = (labels == value).nonzero()[:, 0].cpu()
        if len(rows) < n:
            raise ValueError(f"class {int(value)} has {len(rows)} rows, fewer than {n}")
        chosen[rows[torch.randperm(len(rows), generator=generator)[:n]]] = True
    support, rest = chosen.nonzero()[:, 0], (~chosen).nonzero()[:, 0]
    return support.to(labels.device), rest.to(labels.device)
    ### END SOLUTION


# %% test="few_shot_split"
y = torch.tensor([7, 3, 7, 3, 3, 7, 7])
support, rest = few_shot_split(y, 2, torch.Generator().manual_seed(1))
expect(y[support].sort().values, [3, 3, 7, 7], "few_shot_split: classes drawn")
expect(y[rest].sort().values, [3, 7, 7], "few_shot_split: classes of the rest")
every = torch.cat([support, rest]).sort().values
expect(every, [0, 1, 2, 3, 4, 5, 6], "few_shot_split: each row once")
again, _ = few_shot_split(y, 2, torch.Generator().manual_seed(1))
expect(again, support, "few_shot_split: the same seed")

# %% [markdown]
# ## 1. What to keep: freezing
#
# A trained network is a file of named tensors and a program that uses them. Borrowing begins with
# deciding which of the tensors are *kept as they are*. In torch a parameter with
# `requires_grad = False` gets no gradient. If everything below it is frozen too, nothing between
# it and the input need be differentiated at all, which saves time and memory.

# %% [markdown] heading="freeze"
# ### Exercise {number} · Freeze and unfreeze ({points} points, about 20 min)
#
# Three functions on any net.
#
# **`select`** gives the parameters of the named parts, by name and in the order of
# `named_parameters()`. A part is the name of a module (all parameters in it, however deep), of a
# parameter, or `""`, the whole net. Three traps:
#
# * `"layer1"` must not catch `"layer10.weight"`;
# * one tensor may have two names. In a language model the output layer often uses the weight of
#   the embedding (*tied* parameters): `decoder.weight is embed.weight`. `named_parameters()`
#   lists it once, under its first name, `embed.weight`; but it is a parameter of `decoder` too, so
#   `select(net, "decoder")` has to find it. It stands in the result under its first name;
# * a typing error such as `"blok1"` would silently select nothing: raise `ValueError`, and also for
#   the name of anything that is neither module nor parameter, such as a buffer or a method. (A
#   module without parameters, a ReLU say, is no error. It adds nothing.)
#
# **`freeze`** sets `requires_grad = False` for what `select` gives, and `.grad = None`, since a
# gradient left over from before lets an optimiser move a frozen parameter once more.
# **`unfreeze`** sets `requires_grad = True` and leaves `.grad` alone. Both return the list of the
# names that *changed*, in the same order: a parameter that was frozen already is not among them.
# Nothing else changes, not even the training mode.


# %% exercise="freeze"
def select(model: nn.Module, *parts: str) -> dict[str, nn.Parameter]:
    """The parameters of some parts of a net.

    Args:
        model: any net.
        parts: names of modules or parameters, "" for the whole net; no parts select nothing.

    Returns:
        Parameters by their names in `model.named_parameters()`, in its order, each once.

    Raises:
        ValueError: the net has no module and no parameter of that name.
    """
    ### BEGIN SOLUTION
    modules = dict(model.named_modules(remove_duplicate=False))
    names = dict(model.named_parameters(remove_duplicate=False))
    chosen: set[nn.Parameter] = set()
    for part in parts:
        if part in modules:
            chosen.update(modules[part].parameters())
        elif part in names:
            chosen.add(names[part])
        else:
            raise ValueError(f"the net has no part {part!r}")
    return {name: param for name, param in model.named_parameters() if param in chosen}
    ### END SOLUTION


def freeze(model: nn.Module, *parts: str) -> list[str]:
    """Stop the training of some parts: no gradient, and none left over.

    Returns:
        Names of the parameters that were trainable before, in the order of `select`.
    """
    ### BEGIN SOLUTION
    changed = []
    for name, param in select(model, *parts).items():
        if param.requires_grad:
            changed.append(name)
        param.requires_grad = False
        param.grad = None
    return changed
    ### END SOLUTION


def unfreeze(model: nn.Module, *parts: str) -> list[str]:
    """Let some parts train again.

    Returns:
        Names of the parameters that were frozen before, in the order of `select`.
    """
    ### BEGIN SOLUTION
    changed = [name for name, p in select(model, *parts).items() if not p.requires_grad]
    for param in select(model, *parts).values():
        param.requires_grad = True
    return changed
    ### END SOLUTION


# %% test="freeze"
net = nn.Sequential()
for name in ["layer1", "layer2", "layer10"]:
    net.add_module(name, nn.Linear(2, 2))
net.layer10.weight = net.layer2.weight  # tied
expect(list(select(net, "layer1")), ["layer1.weight", "layer1.bias"], "select: one part")
tied = ["layer2.weight", "layer10.bias"]
expect(list(select(net, "layer10")), tied, "select: a tied weight has its first name")
expect(
    list(select(net, "layer2.bias", "layer1")),
    ["layer1.weight", "layer1.bias", "layer2.bias"],
    "select: order",
)
net(torch.ones(1, 2)).sum().backward()
expect(freeze(net, "layer1.bias"), ["layer1.bias"], "freeze: a parameter")
expect(freeze(net, "layer1"), ["layer1.weight"], "freeze: what has changed")
trainable = [p.requires_grad for p in net.parameters()]
expect(trainable, [False, False, True, True, True], "freeze: requires_grad")
expect([p.grad is None for p in net.layer1.parameters()], [True, True], "freeze: gradients")
expect(unfreeze(net, "layer1.weight", "layer2"), ["layer1.weight"], "unfreeze: what has changed")

# %% [markdown] heading="replace_head"
# ### Exercise {number} · A new head ({points} points, about 10 min)
#
# The colleague's last layer answers "which of 0 to 4?". Yours has to answer another question,
# perhaps with another number of classes. Find the **last `nn.Linear` in the order of
# `named_modules()`**, wherever it is nested, and put a fresh one in its place: same
# `in_features`, $K$ outputs, a bias only if the old one had one, on the same device and of the
# same dtype, with torch's default initialisation (drawn anew in every call), trainable and in
# training mode, as a fresh module is, also where the old one was frozen or in evaluation mode.
#
# All other modules and parameters stay the very same objects, in the mode in which they were.
# The old layer's tensors are not written to: they may be tied to another layer, or held by
# somebody else. The net passed is never itself a linear layer, and no linear layer stands at two
# places of it.


# %% exercise="replace_head"
def replace_head(model: nn.Module, num_classes: int) -> str:
    """Put a fresh nn.Linear in the place of the last one; changes the net in place.

    Args:
        model: a net with linear layers anywhere inside.
        num_classes: K, the number of outputs.

    Returns:
        The name of the layer that was replaced, as in `named_modules()`.

    Raises:
        ValueError: the net has no linear layer.
    """
    ### BEGIN SOLUTION
    names = [name for name, module in model.named_modules() if isinstance(module, nn.Linear)]
    if not names:
        raise ValueError("the net has no linear layer")
    head = model.get_submodule(names[-1])
    fresh = nn.Linear(head.in_features, num_classes, bias=head.bias is not None)
    model.set_submodule(names[-1], fresh.to(head.weight.device, head.weight.dtype))
    return names[-1]
    ### END SOLUTION


# %% test="replace_head"
net = nn.Sequential(
    nn.Linear(3, 4), nn.Sequential(nn.ReLU(), nn.Linear(4, 2, bias=False)), nn.Tanh()
)
first, last = net[0], net[1][1]
expect(replace_head(net, 7), "1.1", "replace_head: name")
expect(tuple(net[1][1].weight.shape), (7, 4), "replace_head: shape")
expect(net[1][1].bias is None, True, "replace_head: no bias before, none after")
expect(net[0] is first, True, "replace_head: the other layer")
expect(tuple(last.weight.shape), (2, 4), "replace_head: the old layer")

# %% [markdown] heading="load_matching"
# ### Exercise {number} · Weights from a file ({points} points, about 20 min)
#
# Published weights rarely fit your net exactly: another head, a layer more, a layer less.
# `load_state_dict(..., strict=False)` forgives names that are missing, yet a *shape* that differs
# is still an error. Write the patient version. Compare the names of `model.state_dict()`
# (parameters *and* buffers) with those of the given state:
#
# * **loaded**: in both, with equal shapes. The values are copied into the model's own tensors,
#   which stay the same objects (an optimiser may hold them), on their device and in their dtype;
# * **mismatched**: in both, but the shapes differ: left as they are. Not even where torch could
#   broadcast or reshape one into the other;
# * **missing**: in the model only, left as they are;
# * **unexpected**: in the state only.
#
# Return all four lists, the first three in the order of `model.state_dict()` and the last in that
# of the state. Whoever does not read them trains a net whose first layer is random. What is
# frozen is loaded too, and stays frozen.


# %% exercise="load_matching"
def load_matching(model: nn.Module, state: dict[str, Tensor]) -> dict[str, list[str]]:
    """Copy what fits by name and shape into a net, and report.

    Args:
        model: any net; changed in place, its tensors stay the same objects.
        state: tensors by name, of any device and dtype; not modified and not kept.

    Returns:
        Lists of names under "loaded", "mismatched", "missing" and "unexpected".
    """
    ### BEGIN SOLUTION
    own = model.state_dict()
    report: dict[str, list[str]] = {"loaded": [], "mismatched": [], "missing": []}
    for name, tensor in own.items():
        if name not in state:
            report["missing"].append(name)
        elif state[name].shape != tensor.shape:
            report["mismatched"].append(name)
        else:
            tensor.copy_(state[name])
            report["loaded"].append(name)
    return {**report, "unexpected": [name for name in state if name not in own]}
    ### END SOLUTION


# %% test="load_matching"
net = nn.Sequential(nn.Linear(2, 2), nn.Linear(2, 3))
weight, old_bias = net[0].weight, net[0].bias.detach().clone()
state = {"1.weight": torch.ones(1, 2), "1.bias": torch.tensor([5, 6, 7]), "extra": torch.ones(1)}
report = load_matching(net, {"0.weight": torch.eye(2), **state})
expect(report["loaded"], ["0.weight", "1.bias"], "load_matching: loaded")
expect(report["mismatched"], ["1.weight"], "load_matching: mismatched")
expect(report["missing"], ["0.bias"], "load_matching: missing")
expect(report["unexpected"], ["extra"], "load_matching: unexpected")
expect(weight, [[1, 0], [0, 1]], "load_matching: values in the old tensor")
expect(net[1].bias, [5.0, 6.0, 7.0], "load_matching: integers into floats")
expect(net[0].bias, old_bias, "load_matching: what is missing stays")

# %% [markdown]
# Now the colleague's file arrives. Read the report before the accuracy.

# %%
WEIGHTS = {name: tensor.clone() for name, tensor in theirs.state_dict().items()}  # "the file"


def borrowed() -> nn.Module:
    """The colleague's net with a new head for five classes."""
    net = SmallNet(5).to(DEVICE)
    load_matching(net, WEIGHTS)
    replace_head(net, 5)
    return net


for classes in [5, 7]:
    report = load_matching(SmallNet(classes).to(DEVICE), WEIGHTS)
    print(f"a net of {classes} classes:", {key: len(names) for key, names in report.items()})
    print("   mismatched:", report["mismatched"])
net = borrowed()
freeze(net, *BLOCKS[:-1])
sizes = {name: p.numel() for name, p in select(net, "").items()}
print(
    "trainable:", {name: sizes[name] for name, p in select(net, "head").items() if p.requires_grad}
)
print(f"that is {sum(sizes[n] for n in select(net, 'head'))} of {sum(sizes.values())} numbers")

# %% [markdown]
# With five classes everything fits, the head included: same name, same shape, and it answers the
# wrong question. No program can see that; `borrowed` therefore replaces it in any case.

# %% [markdown]
# ## 2. The frozen backbone as a camera
#
# If the backbone never changes, neither do its outputs for a given image: computed once, they are
# a table of $N$ rows of $D$ *features*, and any classifier can be trained on it in no time. This
# is the oldest form of transfer with deep nets (Donahue et al., *DeCAF*, and Razavian et al.,
# *CNN features off-the-shelf*, both 2014), and it remains the first thing to try.

# %% [markdown] heading="features"
# ### Exercise {number} · Features, once ({points} points, about 15 min)
#
# Write the function that makes this table. It has to leave no trace:
#
# * no gradients: no graph is recorded on the way (`torch.no_grad` or `torch.inference_mode`, both
#   will do), the result does not require any, and no parameter's `.grad` or `requires_grad`
#   changes. Whether torch records afterwards is as it was before the call;
# * *evaluation mode* while it runs, for every module: dropout off, batch normalisation by its
#   running statistics, which do not change. An image's features must not depend on its batch;
# * afterwards *every module* is in the mode in which it was. Some may have been in training mode
#   and others not, so that a single `model.train()` at the end is wrong;
# * at most `batch_size` rows at a time (fewer are allowed, but not none), for a million images
#   do not fit into memory at once. Every call computes anew: the weights may have changed.


# %% exercise="features"
def features(backbone: nn.Module, x: Tensor, batch_size: int = 256) -> Tensor:
    """Outputs of a net that is only looked through.

    Args:
        backbone: maps (B, ...) to (B, D) for any B >= 1; unchanged afterwards.
        x: (N, ...) inputs, N >= 1, on the net's device; not modified.
        batch_size: largest number of rows of one call, at least 1.

    Returns:
        (N, D) in the order of `x`, without gradient.
    """
    ### BEGIN SOLUTION
    training = {module: module.training for module in backbone.modules()}
    backbone.eval()
    with torch.no_grad():
        outputs = [backbone(rows) for rows in x.split(batch_size)]
    for module, was in training.items():
        module.training = was
    return torch.cat(outputs)
    ### END SOLUTION


# %% test="features"
norm = nn.BatchNorm1d(1)
norm.running_mean.fill_(1.0)
norm.running_var.fill_(4.0 - norm.eps)  # in evaluation mode: (x - 1) / 2
net = nn.Sequential(norm, nn.Dropout(0.5))
norm.eval()  # the net as a whole is in training mode, this layer is not
x = torch.tensor([[1.0], [3.0], [-3.0], [7.0], [9.0]])
got = features(net, x, batch_size=2)
expect(got, [[0.0], [1.0], [-2.0], [3.0], [4.0]], "features: values")
expect(got.requires_grad, False, "features: gradient")
expect(norm.running_mean, [1.0], "features: running mean afterwards")
modes = [net.training, net[0].training, net[1].training]
expect(modes, [True, False, True], "features: modes afterwards")

# %% [markdown] heading="linear_probe"
# ### Exercise {number} · A linear probe in closed form ({points} points, about 20 min)
#
# How good are features? Ask what a *linear* classifier can read from them. With few rows the
# quickest is ridge regression on one-hot targets: no rate, no epochs, one solution. Features
# $X\,(N, D)$, targets $Y\,(N, K)$ with $Y_{ik} = 1$ if row $i$ has class $k$ and else 0; weights
# $W\,(K, D)$, biases $\mathbf b\,(K)$ and the vector $\mathbf 1$ of $N$ ones. Minimise
#
# $$J(W, \mathbf b) = \lVert X W^\top + \mathbf 1\mathbf b^\top - Y\rVert^2
#   + \lambda\,\lVert W\rVert^2$$
#
# (sums of squares over all entries; the bias is not penalised). First the bias:
# $\partial J/\partial\mathbf b = 2\,(XW^\top + \mathbf 1\mathbf b^\top - Y)^\top\mathbf 1 = 0$
# gives
#
# $$\mathbf b = \bar{\mathbf y} - W\bar{\mathbf x},$$
#
# with the means $\bar{\mathbf x}\,(D)$ and $\bar{\mathbf y}\,(K)$ over the rows. Put it in: what
# remains is a problem without bias in the centred $\tilde X = X - \mathbf 1\bar{\mathbf x}^\top$
# and $\tilde Y = Y - \mathbf 1\bar{\mathbf y}^\top$. Its derivative by $W^\top$,
# $2\tilde X^\top(\tilde X W^\top - \tilde Y) + 2\lambda W^\top$, is zero for
#
# $$W^\top = (\tilde X^\top\tilde X + \lambda I)^{-1}\,\tilde X^\top\tilde Y .$$
#
# With $\lambda > 0$ the matrix can be inverted even for $N < D$. A class that has no row in the
# training set gets weights and a bias of 0.


# %% exercise="linear_probe"
def linear_probe(
    x: Tensor, labels: Tensor, num_classes: int, strength: float
) -> tuple[Tensor, Tensor]:
    """Ridge regression on one-hot targets; the bias is free.

    Args:
        x: (N, D) features, floating point, N >= 1; not modified.
        labels: (N,) int64 classes from 0 to K - 1.
        num_classes: K.
        strength: lambda > 0.

    Returns:
        Weights (K, D) and biases (K,) of the features' dtype; `x @ weight.T + bias` are scores.
    """
    ### BEGIN SOLUTION
    y = F.one_hot(labels, num_classes).to(x.dtype)
    centre, mean = x.mean(dim=0), y.mean(dim=0)
    x, y = x - centre, y - mean
    penalty = strength * torch.eye(x.shape[1]).to(x)
    weight = torch.linalg.solve(x.T @ x + penalty, x.T @ y).T
    return weight, mean - weight @ centre
    ### END SOLUTION


# %% test="linear_probe"
# One feature, 1 and 3: centred ±1, so its square sum is 2. Targets centred ±½: product ∓1.
weight, bias = linear_probe(torch.tensor([[1.0], [3.0]]), torch.tensor([0, 1]), 2, 2.0)
expect(weight, [[-0.25], [0.25]], "linear_probe: weights")  # ∓1 / (2 + 2)
expect(bias, [1.0, 0.0], "linear_probe: biases")  # ½ ± ¼ · 2
weight, bias = linear_probe(torch.tensor([[1.0], [3.0]]), torch.tensor([0, 1]), 3, 2.0)
expect(weight[2], [0.0], "linear_probe: a class without rows")

# %% [markdown]
# How far into the net should one cut? Features after the first block, the second, the third, each
# averaged over the image, and two baselines: the pixels themselves, and the same net with the
# *random weights that it started from*. Ten images a class; the strength is chosen on the
# validation split. Guess the order first.


# %%
def backbone(net: nn.Module, depth: int) -> nn.Sequential:
    """The first blocks of a SmallNet and the mean over the image."""
    parts = [net.get_submodule(name) for name in BLOCKS[:depth]]
    return nn.Sequential(*parts, nn.AdaptiveAvgPool2d(1), nn.Flatten())


def probe_accuracy(look: Callable[[Tensor], Tensor], n: int, seed: int) -> float:
    """Test accuracy of a probe on features of n images a class; validation chooses the strength."""
    rows, _ = few_shot_split(new.train_y, n, torch.Generator().manual_seed(seed))
    x, valid, test = look(new.train_x[rows]), look(new.valid_x), look(new.test_x)
    results = []
    for strength in [0.001, 0.01, 0.1, 1.0]:
        weight, bias = linear_probe(x, new.train_y[rows], 5, strength)
        right = [
            ((part @ weight.T + bias).argmax(dim=1) == labels).float().mean().item()
            for part, labels in [(valid, new.valid_y), (test, new.test_y)]
        ]
        results.append(right)
    return max(results, key=lambda right: right[0])[1]


def eyes() -> dict[str, Callable[[Tensor], Tensor]]:
    """Ways to look at an image."""
    torch.manual_seed(0)
    random, net = SmallNet(5).to(DEVICE), borrowed()
    found = {"pixels": lambda x: x.flatten(1), "random, block 3": backbone(random, 3)}
    found |= {f"borrowed, block {depth}": backbone(net, depth) for depth in [1, 2, 3]}
    return {
        name: look if name == "pixels" else lambda x, look=look: features(look, x)
        for name, look in found.items()
    }


def show_bars(scores: dict[str, list[float]], xlabel: str) -> None:
    """Means as bars, single results as circles."""
    _, ax = plt.subplots(figsize=(5.8, 0.8 + 0.3 * len(scores)))
    labels = []
    for number, (name, values) in enumerate(scores.items()):
        mean, spread = torch.tensor(values).mean().item(), torch.tensor(values).std().item()
        ax.barh(number, mean, color="0.8", height=0.7)
        ax.plot(values, [number] * len(values), "ko", fillstyle="none")
        labels.append(f"{name}: {mean:.0%} ± {spread:.0%}")
    ax.set(yticks=range(len(labels)), xlim=(0, 1), xlabel=xlabel)
    ax.set_yticklabels(labels)
    ax.grid(False, axis="y")
    ax.invert_yaxis()
    plt.show()


SEEDS = range(5) if FULL else range(2)
show_bars(
    {name: [probe_accuracy(see, 10, seed) for seed in SEEDS] for name, see in eyes().items()},
    "test accuracy, a circle for each draw of ten images a class",
)

# %% [markdown]
# The last block, by which the colleague's net reads 0 to 4 almost without error, is *not* the best
# place to cut. It was trained to keep what tells 0 to 4 apart and to drop everything else, and the
# strokes that make a 5 or a 9 are among what it dropped. The blocks below it are more general: the
# first one has only sixteen numbers to say, and says more. Yosinski et al. (*How transferable are
# features in deep neural networks?*, 2014) measured this layer by layer on ImageNet. And the
# borrowed weights are what counts: random ones are no better than pixels.
#
# In practice one fits scikit-learn's logistic regression. Is the closed form much worse?

# %%
if FULL:
    from sklearn.linear_model import LogisticRegression

    rows, _ = few_shot_split(new.train_y, 10, torch.Generator().manual_seed(0))
    camera = backbone(borrowed(), 2)
    known, unknown = features(camera, new.train_x[rows]), features(camera, new.test_x)
    print("test accuracy on the features of block 2")
    for strength in [0.01, 0.1, 1.0]:
        weight, bias = linear_probe(known, new.train_y[rows], 5, strength)
        ridge = ((unknown @ weight.T + bias).argmax(dim=1) == new.test_y).float().mean().item()
        model = LogisticRegression(C=1 / strength, max_iter=2000)
        model.fit(known.cpu().numpy(), new.train_y[rows].cpu().numpy())
        score = model.score(unknown.cpu().numpy(), new.test_y.cpu().numpy())
        print(f"λ = {strength:<5} ridge {ridge:.1%}   logistic regression {float(score):.1%}")

# %% [markdown]
# With 50 rows the strength matters more than the loss. (λ is on another scale in the two.) The
# probe takes a millisecond, and *every* change to data or net can be judged by it.

# %% [markdown]
# ## 3. The frozen net that changes
#
# Back to the second puzzle. Frozen means that the *parameters* do not change. What else is in a
# net?

# %%
for name, tensor in theirs.block1.named_buffers():
    before, now = (
        tensor.flatten()[:4].tolist(),
        frozen.block1.get_buffer(name).flatten()[:4].tolist(),
    )
    print(f"block1.{name}:\n   before {[round(v, 2) for v in before]}")
    print(f"   after  {[round(v, 2) for v in now]}")

# %% [markdown]
# Batch normalisation's running statistics are *buffers*. They are not learned by gradient but
# updated by every forward pass in training mode, whether or not anything requires a gradient. In
# evaluation mode the net then uses the statistics of *your* images. Four repairs come to mind:
#
# 1. `requires_grad = False` on weight and bias: that is what we had;
# 2. `momentum = 0`: the statistics stay, yet in training mode the layer still normalises by the
#    *batch*, so that an image's output depends on its neighbours;
# 3. `.eval()` on these layers: right, until somebody calls `net.train()`, which every training loop
#    does at the start of each epoch;
# 4. replace the layer by one that *has* no training mode.
#
# The fourth is what detection libraries do, where batches are too small for statistics.

# %% [markdown] heading="frozen_batch_norm"
# ### Exercise {number} · Batch normalisation that stays frozen ({points} points, about 25 min)
#
# For inputs $x\,(B, C)$, $(B, C, T)$ or $(B, C, H, W)$, with one number for each channel $c$:
#
# $$y_c = \gamma_c\,\frac{x_c - \mu_c}{\sqrt{\sigma^2_c + \epsilon}} + \beta_c .$$
#
# **`FrozenBatchNorm`** holds `weight` $\gamma$, `bias` $\beta$, `running_mean` $\mu$ and
# `running_var` $\sigma^2$, each $(C)$, as **buffers** (`register_buffer`): they are saved and
# moved with the net, but no optimiser gets them. A fresh one has $\gamma = 1$, $\beta = 0$,
# $\mu = 0$, $\sigma^2 = 1$. It has no parameters and no other buffers and computes the same in
# training and in evaluation mode. The gradient flows through to $x$. Each call uses what the
# buffers hold at that time: between two calls other numbers may be loaded or written into them.
#
# **`freeze_batch_norm`** replaces each `nn.BatchNorm1d` and `nn.BatchNorm2d` *inside* a net, at any
# depth, by a `FrozenBatchNorm` with that layer's numbers, `eps`, device and dtype. Every such layer
# has running statistics and stands at one place only; one made with `affine=False` has neither
# weight nor bias ($\gamma = 1$, $\beta = 0$). The buffers require no gradient; whether they are
# copies or the old layer's memory is free. All else, modes and `requires_grad` included, stays as
# it is. Not to be called: torch's own batch normalisation and torchvision's frozen one.


# %% exercise="frozen_batch_norm"
class FrozenBatchNorm(nn.Module):
    """Batch normalisation with fixed numbers, equal in training and evaluation mode.

    Buffers, each (C,): weight, bias, running_mean, running_var.
    """

    def __init__(self, num_features: int, eps: float = 1e-5) -> None:
        """A fresh layer for C = `num_features` channels: weights and variances 1, the others 0."""
        ### BEGIN SOLUTION
        super().__init__()
        self.eps = eps
        self.register_buffer("weight", torch.ones(num_features))
        self.register_buffer("bias", torch.zeros(num_features))
        self.register_buffer("running_mean", torch.zeros(num_features))
        self.register_buffer("running_var", torch.ones(num_features))
        ### END SOLUTION

    def forward(self, x: Tensor) -> Tensor:
        """Normalise (B, C), (B, C, T) or (B, C, H, W).

        The result has the shape and the dtype of `x`, also where the buffers have another dtype.
        """
        ### BEGIN SOLUTION
        scale = self.weight / (self.running_var + self.eps).sqrt()
        shift = self.bias - self.running_mean * scale
        shape = (-1, *[1] * (x.ndim - 2))
        return (x * scale.reshape(shape) + shift.reshape(shape)).to(x.dtype)
        ### END SOLUTION


def freeze_batch_norm(model: nn.Module) -> list[str]:
    """Replace the batch normalisation layers inside a net by frozen ones, in place.

    Args:
        model: any net that is not itself such a layer.

    Returns:
        Names of the layers replaced, in the order of `named_modules()`.
    """
    ### BEGIN SOLUTION
    kinds = (nn.BatchNorm1d, nn.BatchNorm2d)
    found = {name: module for name, module in model.named_modules() if isinstance(module, kinds)}
    for name, old in found.items():
        fixed = FrozenBatchNorm(old.num_features, old.eps).to(old.running_mean)
        fixed.load_state_dict(old.state_dict(), strict=False)  # without num_batches_tracked
        model.set_submodule(name, fixed)
    return list(found)
    ### END SOLUTION


# %% test="frozen_batch_norm"
norm = FrozenBatchNorm(2, eps=1.0)
norm.weight.fill_(6.0)
norm.running_mean.copy_(torch.tensor([1.0, -1.0]))
norm.running_var.copy_(torch.tensor([3.0, 8.0]))
# Channel 0: 6 (x - 1) / sqrt(3 + 1); channel 1: 6 (x + 1) / sqrt(8 + 1).
expect(
    norm(torch.tensor([[1.0, -1.0], [2.0, 2.0]])),
    [[0.0, 0.0], [3.0, 6.0]],
    "frozen_batch_norm: (B, C)",
)
expect(norm(torch.ones(1, 2, 1, 3))[0, :, 0, 2], [0.0, 4.0], "frozen_batch_norm: (B, C, H, W)")
expect(len(list(norm.parameters())), 0, "frozen_batch_norm: number of parameters")
net = nn.Sequential(nn.Linear(2, 2), nn.Sequential(nn.ReLU(), nn.BatchNorm1d(2, eps=3.0)))
net[1][1].running_mean.fill_(5.0)
expect(freeze_batch_norm(net), ["1.1"], "freeze_batch_norm: names")
net.train()
expect(net[1](torch.tensor([[7.0, 0.0]])), [[1.0, -2.5]], "freeze_batch_norm: a batch of one")
expect(net[1][1].running_mean, [5.0, 5.0], "freeze_batch_norm: running mean after training mode")

# %% [markdown]
# The four repairs on the second puzzle, measured; and torchvision's layer beside yours.


# %%
def repaired(kind: str) -> nn.Module:
    """A copy of the colleague's net, frozen in one of the ways."""
    net = copy.deepcopy(theirs).requires_grad_(False)
    for module in net.modules():
        if isinstance(module, nn.BatchNorm2d):
            if kind == "momentum = 0":
                module.momentum = 0.0
            if kind == "eval(), then train() again":
                module.eval()
    if kind == "FrozenBatchNorm":
        freeze_batch_norm(net)
    return net


print(f"{'':28s}accuracy on 0 to 4 afterwards    largest change of an output by its batch")
for kind in [
    "requires_grad = False",
    "momentum = 0",
    "eval(), then train() again",
    "FrozenBatchNorm",
]:
    net = repaired(kind)
    look(net, 30 if FULL else 1)
    alone = net.train()(old.test_x[:32])[:8]
    beside = net(torch.cat([old.test_x[:8], 1 - old.test_x[8:32]]))[:8]
    score = accuracy(net, old.test_x, old.test_y)
    print(f"{kind:28s}{score:20.1%}{(alone - beside).abs().max().item():30.3f}")

if FULL:
    from torchvision.ops import FrozenBatchNorm2d

    library = FrozenBatchNorm2d(16).to(DEVICE)
    ours = FrozenBatchNorm(16).to(DEVICE)
    for layer in (library, ours):
        load_matching(layer, theirs.block1[1].state_dict())
    x = torch.randn(3, 16, 5, 7, device=DEVICE)
    expect(ours(x), library(x), "frozen_batch_norm: beside torchvision's", atol=1e-5)
    print("torchvision.ops.FrozenBatchNorm2d gives the same")

# %% [markdown]
# Only the last row is frozen in both columns. (The third row is what a training loop does to you:
# `look` calls `train()`, as all do.) There is another side to it: where *only* the new task
# counts, letting the statistics move to the new images may help, and is then a choice, not an
# accident. (Li et al., *Revisiting batch normalization for practical domain adaptation*, 2016,
# adapt a net by nothing else.)

# %% [markdown]
# ## 4. Fine-tuning: not all parameters are equal
#
# Between a frozen backbone and training everything lies the interesting range. The first layers
# find edges and are nearly right already; the head is random. So let the rate fall from the head
# to the input (*discriminative rates*, Howard and Ruder, *Universal language model fine-tuning
# for text classification*, 2018, section 3.2: a factor 1/2.6 a layer).

# %% [markdown] heading="param_groups"
# ### Exercise {number} · A rate for every depth ({points} points, about 20 min)
#
# An optimiser takes a list of *groups*: dictionaries with the keys `"params"`, `"lr"` and
# `"weight_decay"`. Blocks are parts of the net in order from the input to the output, numbered
# $j = 1 \dots M$. Block $j$ learns with
#
# $$\eta_j = \eta\,\gamma^{\,M - j}, \qquad 0 < \gamma \le 1,$$
#
# so the last one has $\eta$. Further:
#
# * frozen parameters are left out, and do not change the rates of the others: each name in `blocks`
#   counts in $M$, also that of a block without any trainable parameter;
# * every trainable parameter stands in exactly one group, exactly once. A parameter that belongs to
#   several blocks (tied) goes with the *first* of them in `blocks`;
# * a trainable parameter that is in no block would silently never be trained: `ValueError`;
# * weight decay is for matrices and kernels. Parameters with at most one dimension (biases, the
#   weights of normalisation) have `weight_decay` 0, all others the given one.
#
# How many groups you make, and in which order, is free; none may be empty. Where all is frozen
# there is none: `[]`.


# %% exercise="param_groups"
def param_groups(
    model: nn.Module, blocks: list[str], lr: float, decay: float, weight_decay: float
) -> list[dict]:
    """Groups for an optimiser, with rates that fall towards the input.

    Args:
        model: any net.
        blocks: names of parts, M >= 1, from the input to the output.
        lr: rate of the last block.
        decay: factor from a block to the one before it.
        weight_decay: for parameters of two and more dimensions; 0 for the others.

    Returns:
        Dictionaries with "params" (a list, not empty), "lr" and "weight_decay".

    Raises:
        ValueError: a trainable parameter is in no block.
    """
    ### BEGIN SOLUTION
    waiting = {p: name for name, p in model.named_parameters() if p.requires_grad}
    groups = []
    for j, part in enumerate(blocks, start=1):
        rate = lr * decay ** (len(blocks) - j)
        for param in select(model, part).values():
            if waiting.pop(param, None) is not None:
                shrink = weight_decay if param.ndim > 1 else 0.0
                groups.append({"params": [param], "lr": rate, "weight_decay": shrink})
    if waiting:
        raise ValueError(f"in no block: {', '.join(waiting.values())}")
    return groups
    ### END SOLUTION


# %% test="param_groups"
net = nn.Sequential(nn.Linear(2, 2), nn.Linear(2, 2), nn.Linear(2, 2))
freeze(net, "1.weight")
groups = param_groups(net, ["0", "1", "2"], lr=0.8, decay=0.5, weight_decay=0.1)
names = {param: name for name, param in net.named_parameters()}
table = {names[p]: [g["lr"], g["weight_decay"]] for g in groups for p in g["params"]}
expect(sum(len(group["params"]) for group in groups), 5, "param_groups: each once")
expect(table["0.weight"], [0.2, 0.1], "param_groups: first block")
expect(table["1.bias"], [0.4, 0.0], "param_groups: second block, a bias")
expect(table["2.weight"], [0.8, 0.1], "param_groups: last block")
try:
    param_groups(net, ["0", "1"], 0.8, 0.5, 0.1)
    complaint = None
except ValueError:
    complaint = "ValueError"
expect(complaint, "ValueError", "param_groups: a forgotten block")

# %% [markdown] heading="unfreezing"
# ### Exercise {number} · Thawing from the top ({points} points, about 25 min)
#
# At the start the head is random, and its gradients push the layers below in random directions.
# *Gradual unfreezing* trains the head first and opens the blocks one after another, from the
# output to the input.
#
# **`open_blocks`**: in epoch $e = 0, 1, \dots$ the last $\min(M,\ s + \lfloor e/k\rfloor)$ of the
# $M$ blocks are open: $s \ge 1$ of them from the start and one more every $k \ge 1$ epochs. With
# $s = M$ all are open at once; with $s = 1$ and a huge $k$ it is the head alone, for ever.
#
# **`thaw`** brings net and optimiser to that state. It freezes all blocks that are not open and
# unfreezes those that are (a parameter in an open *and* a closed block is trainable). Then the
# optimiser must *get* the newly trainable parameters: one that it does not hold is never
# updated, whatever its `requires_grad`. Those that it does not hold yet are added, with the rates
# and decays of `param_groups` over **all** $M$ blocks. Those that it holds stay as they are, with
# their groups and their momenta, so do not make a new optimiser. A second call changes nothing and
# adds no group, not even an empty one; a call may open several blocks at once, or close some.
# What is closed stays in the optimiser, but without gradient (`.grad = None`). Whether gradients of
# open parameters, left over from before, are kept or dropped is free.


# %% exercise="unfreezing"
def open_blocks(blocks: list[str], epoch: int, start: int, every: int) -> list[str]:
    """The blocks that train in an epoch.

    Args:
        blocks: M names from the input to the output.
        epoch: from 0.
        start: number of blocks open in epoch 0, from 1 to M.
        every: epochs until one more opens, at least 1.

    Returns:
        The open ones, in the order of `blocks`.
    """
    ### BEGIN SOLUTION
    closed = max(0, len(blocks) - start - epoch // every)
    return blocks[closed:]
    ### END SOLUTION


def thaw(
    model: nn.Module,
    optimizer: torch.optim.Optimizer,
    blocks: list[str],
    opened: list[str],
    lr: float,
    decay: float,
    weight_decay: float,
) -> list[str]:
    """Make the open blocks trainable, the others frozen; tell the optimiser what is new to it.

    Args:
        model: any net; all its parameters are in `blocks`.
        optimizer: holds some of the net's parameters, maybe none that is open; changed in place.
        blocks: M names from the input to the output.
        opened: those that are open, at least one; any of them, not only the last.
        lr, decay, weight_decay: as for `param_groups`.

    Returns:
        Names of the parameters added to the optimiser, in the order of `named_parameters()`.
    """
    ### BEGIN SOLUTION
    freeze(model, *blocks)
    unfreeze(model, *opened)
    held = {param for group in optimizer.param_groups for param in group["params"]}
    added = set()
    for group in param_groups(model, blocks, lr, decay, weight_decay):
        group["params"] = [param for param in group["params"] if param not in held]
        added.update(group["params"])
        if group["params"]:
            optimizer.add_param_group(group)
    return [name for name, param in model.named_parameters() if param in added]
    ### END SOLUTION


# %% test="unfreezing"
expect(open_blocks(["a", "b", "c"], 0, 1, 2), ["c"], "open_blocks: epoch 0")
expect(open_blocks(["a", "b", "c"], 3, 1, 2), ["b", "c"], "open_blocks: epoch 3")
expect(open_blocks(["a", "b", "c"], 9, 1, 2), ["a", "b", "c"], "open_blocks: epoch 9")
net = nn.Sequential(nn.Linear(1, 1, bias=False), nn.Linear(1, 1, bias=False))
net.load_state_dict({"0.weight": torch.tensor([[2.0]]), "1.weight": torch.tensor([[3.0]])})
optimizer = torch.optim.SGD(net[1].parameters(), lr=1.0, momentum=0.5)
step = {"lr": 1.0, "decay": 0.25, "weight_decay": 0.0}
expect(thaw(net, optimizer, ["0", "1"], ["1"], **step), [], "thaw: the head is held already")
net(torch.ones(1, 1)).sum().backward()  # gradients: 3 for the first weight if it were open, 2
optimizer.step()
expect([net[0].weight.item(), net[1].weight.item()], [2.0, 1.0], "thaw: one step of the head")
optimizer.zero_grad()
expect(thaw(net, optimizer, ["0", "1"], ["0", "1"], **step), ["0.weight"], "thaw: what is added")
net(torch.ones(1, 1)).sum().backward()  # gradients 1 and 2, the head's momentum ½ · 2
optimizer.step()
expect([net[0].weight.item(), net[1].weight.item()], [1.75, -2.0], "thaw: a step of both")

# %% [markdown] heading="finetune_epoch"
# ### Exercise {number} · An epoch of fine-tuning ({points} points, about 25 min)
#
# Everything together. For each batch $(\mathbf x, \mathbf y)$: gradients from zero, forward, mean
# cross-entropy of the logits, backward, one step of the optimiser. Before the first batch, the
# modes: open blocks train, *closed blocks evaluate*, that is, their batch normalisation uses and
# keeps its statistics and their dropout is off. A module in no block is in training mode. (So is
# the net itself.) No module is in two blocks, but a tied parameter may be. No matter in which modes
# the net comes; afterwards they stay as the epoch had them. `requires_grad` is not touched: `thaw`
# has been called. What is trainable stays so, in a closed block too.
#
# The result is the mean of the loss over all *examples* of the epoch, each batch's taken before
# its step. The last batch may be smaller, and counts for less.


# %% exercise="finetune_epoch"
def finetune_epoch(
    model: nn.Module,
    optimizer: torch.optim.Optimizer,
    blocks: list[str],
    opened: list[str],
    pairs: Iterable[tuple[Tensor, Tensor]],
) -> float:
    """One pass over the batches; closed blocks are in evaluation mode.

    Args:
        model: maps inputs (B, ...) to logits (B, K) of any size, ±1000 too; changed in place.
        optimizer: already holds what is to be trained.
        blocks: names of modules, from the input to the output.
        opened: those of them that train, at least one.
        pairs: at least one batch (inputs (B, ...), int64 labels (B,)); can be read only once.

    Returns:
        Mean loss over the examples, a float.
    """
    ### BEGIN SOLUTION
    model.train()
    for name in blocks:
        model.get_submodule(name).train(name in opened)
    total, count = 0.0, 0
    for x, labels in pairs:
        optimizer.zero_grad()
        loss = F.cross_entropy(model(x), labels)
        loss.backward()
        optimizer.step()
        total, count = total + len(labels) * loss.item(), count + len(labels)
    return total / count
    ### END SOLUTION


# %% test="finetune_epoch"
net = nn.Sequential(nn.BatchNorm1d(1), nn.Linear(1, 2, bias=False)).eval()
net[1].weight.data.zero_()
net[0].requires_grad_(False)
optimizer = torch.optim.SGD([net[1].weight], lr=2.0)
pair = (torch.tensor([[1.0], [3.0]]), torch.tensor([0, 1]))
loss = finetune_epoch(net, optimizer, ["0", "1"], ["1"], iter([pair]))
expect(loss, 0.693147, "finetune_epoch: the loss before any step is ln 2")
# p = ½: the gradient of the first weight is the mean of -½ · 1 and ½ · 3, which is ½.
expect(net[1].weight, [[-1.0], [1.0]], "finetune_epoch: weights after a step", atol=1e-4)
expect(net[0].running_mean, [0.0], "finetune_epoch: statistics of a closed block")
expect(
    [net.training, net[0].training, net[1].training], [True, False, True], "finetune_epoch: modes"
)

# %% [markdown]
# ## 5. Ten images of each, again
#
# Six ways to spend fifty images. All use the loop below: your split, your loading, your head, your
# groups, your thawing, your epochs, with the same number of epochs for each. The rates are round
# numbers, set once after a few trials and not tuned for each way. Those trials and the choice of
# block 2 had seen test images, so do not make much of differences of a few points.


# %%
def batches_of(x: Tensor, y: Tensor, generator: torch.Generator) -> Iterable[tuple[Tensor, Tensor]]:
    """Batches of 32; all rows at once if there are few."""
    return batches(x, y, 32 if len(x) > 64 else 64, generator)


def fine_tune(
    net: nn.Module, x: Tensor, y: Tensor, steps: int, start: int, every=10**6, lr=0.01, decay=1.0
) -> list[float]:
    """Fine-tune with AdamW; the rates of all groups fall to zero together."""
    rates = {"lr": lr, "decay": decay, "weight_decay": 0.01}
    freeze(net, *BLOCKS)
    unfreeze(net, *open_blocks(BLOCKS, 0, start, every))
    optimizer = torch.optim.AdamW(param_groups(net, BLOCKS, **rates))
    generator, losses = torch.Generator().manual_seed(0), []
    epochs = max(2, steps // max(1, len(x) // 32)) if FULL else 2
    for epoch in range(epochs):
        opened = open_blocks(BLOCKS, epoch, start, every)
        thaw(net, optimizer, BLOCKS, opened, **rates)
        for group in optimizer.param_groups:
            group.setdefault("top", group["lr"])
            group["lr"] = group["top"] * (1 - epoch / epochs)
        losses.append(finetune_epoch(net, optimizer, BLOCKS, opened, batches_of(x, y, generator)))
    return losses


WAYS = {
    "from scratch": None,
    "head only": {"start": 1, "lr": 0.03},
    "last block and head": {"start": 2},
    "all, one rate": {"start": 4},
    "all, rate by depth": {"start": 4, "decay": 0.4},
    "thawed from the top": {"start": 1, "every": 12, "decay": 0.4},
}


@cache
def result(way: str, n: int, seed: int) -> float:
    """Test accuracy after fine-tuning in one of the ways with n images a class."""
    rows, _ = few_shot_split(new.train_y, n, torch.Generator().manual_seed(seed))
    torch.manual_seed(seed)
    options = WAYS[way] or {"start": 4}
    net = SmallNet(5).to(DEVICE) if WAYS[way] is None else borrowed()
    fine_tune(net, new.train_x[rows], new.train_y[rows], 80, **options)
    return accuracy(net, new.test_x, new.test_y)


@cache
def probe_result(n: int, seed: int) -> float:
    """Test accuracy of the linear probe on the frozen features of block 2."""
    return probe_accuracy(eyes()["borrowed, block 2"], n, seed)


# %%
def compare(n: int) -> None:
    """All ways with n images a class, a circle for each draw of the images."""
    scores = {
        way: [result(way, n, seed) for seed in SEEDS] for way in (WAYS if FULL else list(WAYS)[:2])
    }
    scores["probe on frozen block 2"] = [probe_result(n, seed) for seed in SEEDS]
    show_bars(scores, f"test accuracy, {n} images a class, a circle for each draw")


compare(10)

# %% [markdown]
# The bars are means over draws of the fifty images, ± one standard deviation between draws, and
# the draws differ by more than some methods do: a comparison on one draw proves nothing. Read
# three things.
#
# * Everything borrowed beats *from scratch*, which had the same images and as many steps.
# * The probe on frozen block 2 is at the top, although it trains fewer numbers than all but one of
#   the others: **where one cuts matters more than how one tunes.**
# * The ways of tuning are close to each other on a net of four blocks; gentleness below (rates by
#   depth, thawing from the top) helps a little. It was made for nets of dozens of layers.
#
# **When does nobody need help any more?**

# %%
COUNTS = [1, 2, 5, 10, 20, 50] if FULL else [2]
CURVES = ["from scratch", "all, one rate"]


def show_counts() -> None:
    """Accuracy against images per class."""
    _, ax = plt.subplots(figsize=(5.5, 3.2))
    seeds = list(SEEDS)[:3]
    for way in [*CURVES, "probe on frozen block 2"]:
        run = probe_result if way not in WAYS else lambda n, seed, way=way: result(way, n, seed)
        scores = torch.tensor([[run(n, seed) for seed in seeds] for n in COUNTS])
        ax.errorbar(COUNTS, scores.mean(1), scores.std(1), capsize=3, marker="o", label=way)
        print(
            f"{way:24s}",
            "  ".join(f"{n}: {s:.0%}" for n, s in zip(COUNTS, scores.mean(1), strict=True)),
        )
    ax.axhline(0.2, color="0.5", linewidth=0.8)
    ax.set(xscale="log", xticks=COUNTS, xlabel="images per class", ylabel="test accuracy")
    ax.set_xticklabels([str(n) for n in COUNTS])
    ax.minorticks_off()
    ax.legend()
    plt.show()


show_counts()

# %% [markdown]
# There are two crossings. The frozen features win by far while images are few; then fine-tuning
# overtakes them, and later even the net that borrowed nothing: what block 2 dropped cannot be had
# back, however many images come. Fine-tuning's own lead over *from scratch* shrinks as well. With
# fifty images of each class it is about as wide as the bars (one deviation over three draws). Few
# images: freeze. More: fine-tune. Plenty: it hardly matters where you start, only how long it
# takes. (He et al., *Rethinking ImageNet pre-training*, 2019, found the last part for detection on
# COCO.)
#
# One thing cannot be seen in these figures. What has fine-tuning done to the *old* task? Put the
# colleague's head back on the tuned backbone.


# %%
def forgetting(way: str) -> float:
    """Accuracy on 0 to 4 after fine-tuning on 5 to 9, with the old head put back."""
    rows, _ = few_shot_split(new.train_y, 10, torch.Generator().manual_seed(0))
    torch.manual_seed(0)
    net = borrowed()
    fine_tune(net, new.train_x[rows], new.train_y[rows], 80, **(WAYS[way] or {}))
    load_matching(net, {name: WEIGHTS[name] for name in ["head.weight", "head.bias"]})
    return accuracy(net, old.test_x, old.test_y)


for way in list(WAYS)[1:] if FULL else ["head only"]:
    print(f"{way:22s} leaves {forgetting(way):6.1%} on 0 to 4")

# %% [markdown]
# A closed block is the only one that forgets nothing. Smaller rates below forget less. (McCloskey
# and Cohen named it *catastrophic interference* in 1989.)

# %% [markdown]
# ### Your experiment
#
# Change one thing at a time and predict before you run. Suggestions:
#
# * `cut=1` and `cut=3`: which blocks do you borrow? The others start at random.
# * `decay=0.1`, then `decay=1.0`, with `start=4`.
# * `augment=8`: each of your images at eight random places. Is augmentation worth more than the
#   colleague's network? And both together?
# * `frozen_norm=True`: the statistics of the old task stay in the whole net. With `start=4`, is it
#   good or bad for the new one?


# %%
def experiment(n=10, cut=3, start=4, every=10**6, lr=0.01, decay=1.0, augment=1, frozen_norm=False):
    """Mean test accuracy over three draws."""
    scores = []
    for seed in range(3 if FULL else 1):
        rows, _ = few_shot_split(new.train_y, n, torch.Generator().manual_seed(seed))
        x, y = new.train_x[rows], new.train_y[rows].repeat(augment)
        if (
            augment > 1
        ):  # roll inside the field: an image that leaves on one side enters on the other
            shifts = torch.randint(
                -2, 3, (augment, 2), generator=torch.Generator().manual_seed(seed)
            )
            x = torch.cat([x.roll(tuple(shift), (2, 3)) for shift in shifts.tolist()])
        net = SmallNet(5).to(DEVICE)
        kept = tuple(f"{name}." for name in BLOCKS[:cut])
        load_matching(net, {k: v for k, v in WEIGHTS.items() if k.startswith(kept)})
        if frozen_norm:
            freeze_batch_norm(net)
        fine_tune(net, x, y, 80, start=start, every=every, lr=lr, decay=decay)
        scores.append(accuracy(net, new.test_x, new.test_y))
    print(f"test accuracy {sum(scores) / len(scores):.1%}")


experiment(cut=2)

# %% [markdown]
# ## In practice: a published network
#
# Your functions ask nothing of a net but its names, so they work on torchvision's ResNet-18 as
# they are. First the structure, without weights and without network access.

# %%
STAGES = ["conv1", "bn1", "layer1", "layer2", "layer3", "layer4", "fc"]  # from input to output

if FULL:
    from torchvision.models import resnet18

    net = resnet18()
    print(replace_head(net, 10), "replaced;", len(freeze_batch_norm(net)), "norms frozen")
    for opened in [["fc"], ["layer4", "fc"], STAGES]:
        freeze(net, "")
        unfreeze(net, *opened)
        groups = param_groups(net, STAGES, lr=1e-3, decay=0.4, weight_decay=1e-4)
        count = sum(param.numel() for group in groups for param in group["params"])
        rates = sorted({group["lr"] for group in groups})
        print(
            f"{' + '.join(opened):54s}{count:11,d} trainable, "
            f"rates {rates[0]:.0e} to {rates[-1]:.0e}"
        )

# %% [markdown]
# The next cell is for the `full` profile, with network access and best with a GPU. **It was not run
# when this notebook was made, and no number here comes from it.** It downloads weights that were
# trained on ImageNet (45 MB) and EuroSAT (90 MB; satellite images of ten kinds of land, Helber et
# al. 2019), draws ten images a class with your split, and fits your probe on frozen features. Note
# `weights.transforms()`: a borrowed net must see its images scaled and normalised as in *its*
# training.


# %%
def real_transfer(n: int = 10, tested: int = 1000) -> None:
    """A probe on ResNet-18's features of n satellite images a class; downloads."""
    from torchvision.datasets import EuroSAT
    from torchvision.models import ResNet18_Weights, resnet18

    from course.data import cache_folder

    weights = ResNet18_Weights.IMAGENET1K_V1
    net = resnet18(weights=weights, progress=True)
    net.fc = nn.Identity()  # all but the head: 512 features
    images = EuroSAT(str(cache_folder()), transform=weights.transforms(), download=True)
    labels = torch.tensor(images.targets)
    rows, rest = few_shot_split(labels, n, torch.Generator().manual_seed(0))
    rest = rest[torch.randperm(len(rest), generator=torch.Generator().manual_seed(0))[:tested]]

    def table(chosen: Tensor) -> Tensor:
        parts = [torch.stack([images[i][0] for i in part]) for part in chosen.split(64)]
        return torch.cat([features(net.to(DEVICE), part.to(DEVICE)) for part in parts])

    known, unknown = table(rows), table(rest)
    for strength in [1.0, 10.0, 100.0]:
        weight, bias = linear_probe(known, labels[rows].to(DEVICE), 10, strength)
        right = (unknown @ weight.T + bias).argmax(dim=1).cpu() == labels[rest]
        print(f"λ = {strength:<6} test accuracy {right.float().mean():.1%}")


if course.profile() == "full":
    try:
        real_transfer()
    except OSError as error:
        print(f"no download: {error}")
else:
    print('skipped: set COURSE_PROFILE to "full", with network access')

# %% [markdown]
# ## Summary
#
# 1. With few images of one's own, a net that was trained on something else is the best start, also
#    when it has never seen one's classes.
# 2. The last features know the old task best. Cut earlier, and let a linear probe say where.
# 3. Frozen means three things: no gradient, evaluation mode, and nothing that undoes it. Batch
#    normalisation's statistics are neither parameters nor frozen by freezing them.
# 4. Fine-tuning gives each depth its rate; every trainable parameter must be in the optimiser
#    once, and what is thawed later has to be given to it.
# 5. What borrowing is worth depends on the number of one's own images: draw the curve, several
#    draws a point, before believing in either side.
#
# ## Further reading
#
# * J. Yosinski et al., *How transferable are features in deep neural networks?*, NeurIPS 2014.
# * J. Howard, S. Ruder, *Universal language model fine-tuning for text classification*, ACL 2018:
#   rates by depth (section 3.2) and gradual unfreezing (section 3.3).
# * S. Kornblith, J. Shlens, Q. Le, *Do better ImageNet models transfer better?*, CVPR 2019.
# * K. He, R. Girshick, P. Dollár, *Rethinking ImageNet pre-training*, ICCV 2019.
# * A. Kumar et al., *Fine-tuning can distort pretrained features and underperform
#   out-of-distribution*, ICLR 2022: a probe first, then fine-tuning from its weights.
