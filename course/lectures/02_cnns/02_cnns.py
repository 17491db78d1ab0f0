# %% [markdown]
# # Unit 02 · Convolutional networks: seeing without counting pixels
#
# **Afterwards you can** say which assumption a convolution makes, and what a network loses that
# does not make it; compute output sizes, receptive fields, parameters and multiply-adds in your
# head; derive the backward pass of a convolution with stride and padding; tell LeNet, AlexNet, VGG,
# GoogLeNet, ResNet, DenseNet and EfficientNet apart by what each one changed, and where each spends
# its parameters, its memory and its time.
#
# **Needed before:** units 00 and 01 (cross-entropy, chain rule, matrix products with shapes).
# **Time:** 60 minutes. The assignments, `convolution` and `architectures`, build what is derived
# here.

# %% setup=true
import course

course.setup("02_cnns")

# %%
import copy
import math
import time
from collections.abc import Callable
from itertools import pairwise
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
import torch
import torch.nn.functional as F
import torchvision
from matplotlib.axes import Axes
from matplotlib.cbook import get_sample_data
from matplotlib.patches import Rectangle
from torch import Tensor, nn

from course.plots import COLOURS

torch.set_num_threads(1)  # problems this small run no faster on more
device = course.device()
quick = course.profile() == "grade"

data = course.data.digits(device)  # 8 x 8 pixels in [0, 1], as rows of 64 numbers
y_train, y_valid, y_test = data.train_y, data.valid_y, data.test_y

# %% [markdown]
# ## 1. One pixel
#
# Lay each digit in the middle of an empty canvas of 14 × 14 pixels, and train three classifiers:
# the nearest neighbour of unit 00, the multi-layer perceptron (MLP) of unit 01, and a small
# *convolutional network* (CNN), whose parts this unit explains. Then do two things to them.
#
# **Shift:** move the validation digits by one or two pixels. You would not even notice.
#
# **Shuffle:** draw one permutation of the 196 pixels, apply it to every image, train again and test
# on images shuffled in the same way. You could not read a single one.

# %%
MARGIN, SIDE = 3, 14


def canvas(x: Tensor, right: int = 0, down: int = 0) -> Tensor:
    """Digits (N, 64) on empty canvases (N, 1, 14, 14), moved from the middle."""
    m = MARGIN
    return F.pad(x.view(-1, 1, 8, 8), (m + right, m - right, m + down, m - down))


order = torch.randperm(SIDE**2, generator=torch.Generator().manual_seed(1)).to(device)


def shuffled(x: Tensor) -> Tensor:
    return x.flatten(1)[:, order].view_as(x)


show = data.valid_x[:4]
rows = [canvas(show), canvas(show, right=1, down=0), canvas(show, 2, 0), shuffled(canvas(show))]
names = ["as trained", "1 to the right", "2 to the right", "shuffled"]
x, labels = torch.cat(rows), [name if i == 0 else "" for name in names for i in range(4)]
fig, axes = plt.subplots(2, 8, figsize=(8.6, 2.5))
for ax, image, label in zip(axes.flat, x[:, 0].cpu(), labels, strict=True):
    ax.imshow(image, cmap="gray")
    ax.axis("off")
    ax.set_title(label, fontsize=9, loc="left")
plt.show()


# %%
class GlobalMax(nn.Module):
    """(B, C, H, W) -> (B, C): the largest value of each channel, wherever it stands."""

    def forward(self, x: Tensor) -> Tensor:
        return x.amax((2, 3))


def mlp() -> nn.Sequential:
    return nn.Sequential(nn.Flatten(), nn.Linear(SIDE**2, 128), nn.ReLU(), nn.Linear(128, 10))


def cnn() -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(1, 16, 3, padding=1), nn.ReLU(),
        nn.Conv2d(16, 16, 3, padding=1), nn.ReLU(),
        nn.Conv2d(16, 32, 3, padding=1), nn.ReLU(),
        GlobalMax(), nn.Linear(32, 10),
    )  # fmt: skip


# %%
def train(net: nn.Sequential, x: Tensor, y: Tensor, epochs: int) -> nn.Sequential:
    """Adam on batches of 32 in random order."""
    optimiser = torch.optim.Adam(net.parameters(), lr=3e-3)
    draws = torch.Generator().manual_seed(0)
    for _ in range(1 if quick else epochs):
        for rows in torch.randperm(len(x), generator=draws).to(device).split(32):
            loss = F.cross_entropy(net(x[rows]), y[rows])
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
    return net


@torch.no_grad()
def accuracy(predict: Callable[[Tensor], Tensor], x: Tensor, y: Tensor) -> float:
    """Share of the rows where the largest of the scores (N, K) is that of the class."""
    return (predict(x).argmax(1) == y).float().mean().item()


# %%
def neighbour(x: Tensor, y: Tensor) -> Callable[[Tensor], Tensor]:
    """1-NN as a function that returns scores."""
    return lambda new: F.one_hot(y[torch.cdist(new.flatten(1), x.flatten(1)).argmin(1)], 10)


def fresh(make: Callable[[], nn.Sequential]) -> nn.Sequential:
    """A net with the same initial weights every time."""
    torch.manual_seed(0)
    return make().to(device)


def moved_accuracy(model: Callable[[Tensor], Tensor], by: int) -> float:
    """Validation accuracy, mean over the four directions."""
    moves = [(by, 0), (-by, 0), (0, by), (0, -by)]
    return sum(accuracy(model, canvas(data.valid_x, *m), y_valid) for m in moves) / 4


x_train, x_valid = canvas(data.train_x), canvas(data.valid_x)
epochs = {1197: 12, 300: 35, 100: 80}  # by number of training digits
curves: dict[str, list[float]] = {}
models: dict[str, Any] = {}  # trained on all digits as they are
for n, passes in epochs.items():
    for way, change in {"": torch.clone, ", shuffled": shuffled}.items():
        x, y = change(x_train[:n]), y_train[:n]
        trained = {"1-NN": neighbour(x, y), "MLP": train(fresh(mlp), x, y, passes),
                   "CNN": train(fresh(cnn), x, y, passes)}  # fmt: skip
        if n == 1197 and not way:
            models |= trained
        for name, model in trained.items():
            curves.setdefault(name + way, []).append(accuracy(model, change(x_valid), y_valid))

# %%
for name, model in models.items():
    weights = model.parameters() if isinstance(model, nn.Module) else [x_train]
    count = sum(w.numel() for w in weights)
    moved = ", ".join(f"{moved_accuracy(model, by):6.1%}" for by in range(3))
    print(f"{name:5}{count:8,} numbers kept; moved by 0, 1, 2 pixels: {moved}", end="; ")
    print(f"trained on shuffled {curves[name + ', shuffled'][0]:.1%}")

fig, (left, right) = plt.subplots(1, 2, figsize=(9.2, 2.9))
for (name, model), marker in zip(models.items(), "os^", strict=True):
    left.plot(range(3), [moved_accuracy(model, by) for by in range(3)], marker=marker, label=name)
left.set(xlabel="digits moved by (pixels)", ylabel="validation accuracy", xticks=range(3))
left.set(ylim=(0, 1.05), title="Trained in the middle, tested beside it")
left.legend()
for name, fmt in {"MLP": "s--", "CNN": "^-."}.items():
    colour = COLOURS[1 if name == "MLP" else 2]
    right.plot([*epochs], curves[name], fmt, color=colour, label=name)
    right.plot([*epochs], curves[name + ", shuffled"], fmt, color=colour, mfc="w", alpha=0.6,
               label=f"{name}, shuffled")  # fmt: skip
right.set(xscale="log", xticks=[*epochs], xticklabels=[*epochs], xlabel="training digits")
right.minorticks_off()
right.set_title("Pixels in another order")
right.legend(loc="lower right")
plt.show()

# %% [markdown]
# One pixel takes about half of the digits away from the MLP; two pixels leave it with guessing. The
# CNN, with fewer weights than either, hardly notices. It was never shown a moved digit.
#
# Shuffling teaches the opposite lesson. To 1-NN it is *nothing*: a distance is a sum over pixels,
# in any order. To the MLP it is nothing either: its first layer is a sum over pixels, too, and
# permuted pixels with permuted weights give the same output. Both never knew which pixels are
# neighbours. The CNN falls from above the MLP to below it: it bets that **neighbouring pixels
# belong together, and that what is worth seeing here is worth seeing there**. Where the bet holds
# it needs fewer examples; where it does not, it pays.
#
# What exactly has it assumed? Start with a question that has only one answer.

# %% [markdown]
# ## 2. What a layer must be if position does not matter
#
# A linear layer maps $\mathbf{x} \in \mathbb{R}^N$ to $\mathbf{y} = A\mathbf{x}$, $y_i = \sum_j
# A_{ij} x_j$, with $N^2$ weights that know nothing of one another. Let us *demand* something of it.
# Let $S$ shift a row of pixels by one, $(S\mathbf{x})_j = x_{j-1}$ (to avoid trouble at the ends,
# the pixels stand in a circle and indices count modulo $N$). The layer is to give the shifted
# answer to the shifted question:
#
# $$ A S \mathbf{x} = S A \mathbf{x} \quad \text{for every } \mathbf{x} . $$
#
# Such a map is called **equivariant** to shifts. Write out both sides at place $i$ and rename the
# index of summation on the left:
#
# $$ (AS\mathbf{x})_i = \sum_j A_{ij}\, x_{j-1} = \sum_j A_{i,j+1}\, x_j, \qquad (SA\mathbf{x})_i =
# (A\mathbf{x})_{i-1} = \sum_j A_{i-1,j}\, x_j . $$
#
# They agree for *every* $\mathbf{x}$ only if the coefficients of each $x_j$ agree: $A_{i,j+1} =
# A_{i-1,j}$, or $A_{i+1,j+1} = A_{ij}$. The matrix is constant along its diagonals: $A_{ij}$
# depends on $j - i$ alone. Call it $w_{j-i}$ and put $k = j - i$:
#
# $$ y_i = \sum_k w_k\, x_{i+k} . $$

# %% [markdown]
# This is a **convolution**, and nothing was left to choose. One row of numbers $w_k$, the
# **filter** or **kernel**, is laid over the input at every place: the weights are *shared*. It
# leaves $N$ numbers of $N^2$. A second assumption, that neighbours tell most, keeps only $K$ of
# them, the **taps** $k = 0, \dots, K-1$. The same for images, in numbers:

# %%
torch.manual_seed(0)
N = 6
taps = torch.randn(N)
circulant = torch.stack([taps.roll(i) for i in range(N)])  # A[i, j] = w[j - i]
free = torch.randn(N, N)
x = torch.randn(N)
for name, A in {"constant along diagonals": circulant, "free": free}.items():
    same = torch.allclose(A @ x.roll(1), (A @ x).roll(1), atol=1e-6)
    print(f"A {name:25} A S x = S A x: {same}")

pixels = 224 * 224
print(f"\n3 colours to 64 maps of {224} x {224}: weights of a layer")
print(f"  free                  {3 * pixels * 64 * pixels:>22,}")
print(f"  constant on diagonals {3 * 64 * pixels:>22,}")
print(f"  and 3 x 3 local       {3 * 64 * 9:>22,}")

# %% [markdown]
# ## 3. By hand
#
# Input $(1, 3, 2)$, filter $(1, -1)$. Lay the filter on the first two numbers: $1 \cdot 1 - 1 \cdot
# 3 = -2$. One step on: $1 \cdot 3 - 1 \cdot 2 = 1$. The answer $(-2, 1)$ says how much the next
# pixel is darker: a detector of edges with two taps.
#
# **The name.** In mathematics, convolution runs through the filter backwards:
#
# $$ \underbrace{(x * w)_i = \sum_k w_k\, x_{i-k}}_{\text{convolution}} \qquad \underbrace{(x \star
# w)_i = \sum_k w_k\, x_{i+k}}_{\text{cross-correlation: what deep learning computes}} $$
#
# The two differ by a flip of the filter. Since filters are learnt, a network does not care; it
# would learn the flipped one. You do care when you copy a filter from a book, and in section 6,
# where the flip appears by itself.

# %%
x, w = torch.tensor([1.0, 3.0, 2.0]), torch.tensor([1.0, -1.0])


def correlate(x: Tensor, w: Tensor, stride: int = 1, padding: int = 0) -> Tensor:
    """`F.conv1d` for one row (N,) and one filter (K,)."""
    return F.conv1d(x[None, None], w[None, None], stride=stride, padding=padding)[0, 0]


print("F.conv1d, no flip:   ", correlate(x, w).tolist())
print("np.convolve, flipped:", np.convolve(x, w, mode="valid").tolist())
print("F.conv1d, w flipped: ", correlate(x, w.flip(0)).tolist())
spike = torch.tensor([0.0, 0.0, 1.0, 0.0, 0.0])
three = torch.tensor([1.0, 2.0, 3.0])
print("a single 1 under the filter (1, 2, 3): correlation", correlate(spike, three).tolist())
print("                                       convolution", np.convolve(spike, three, "valid"))

# %% [markdown]
# ### Edges, steps and gaps
#
# Three numbers become two: at the ends the filter finds no input. What to do there, and how far to
# move each time, are the layer's settings. With filter size $K$:
#
# - **padding** $P$: add $P$ zeros on each side. None at all is called **VALID**. **SAME** means
#   enough of them that with stride 1 the output is as long as the input: $K - 1$ in total, so $P =
#   (K-1)/2$ for odd $K$. (For even $K$ one side gets one more; torch and TensorFlow choose the
#   right. TensorFlow's SAME with a stride gives $\lceil N/S \rceil$ outputs. Instead of zeros one
#   may mirror the image: `padding_mode="reflect"`.)
# - **stride** $S$: move by $S$, so that only every $S$-th output is computed;
# - **dilation** $D$: leave $D - 1$ inputs between taps. The filter spans $D(K-1) + 1$ inputs with
#   $K$ weights.
#
# $$ y_i = b + \sum_{k=0}^{K-1} w_k\, x_{iS + kD - P}, \qquad x_j = 0 \text{ outside } 0 \le j < N .
# \tag{1} $$
#
# **How many outputs?** Output $i$ reads the padded places $iS$ to $iS + D(K-1)$. The last padded
# place is $N + 2P - 1$, so $iS \le N + 2P - D(K-1) - 1$. The whole numbers $i \ge 0$ that satisfy
# this are
#
# $$ O = \left\lfloor \frac{N + 2P - D(K-1) - 1}{S} \right\rfloor + 1 \tag{2} $$
#
# many: the floor because a filter that does not fit any more is not applied, the $+1$ because
# counting starts at 0.


# %%
def output_size(n: int, k: int, s: int = 1, p: int = 0, d: int = 1) -> int:
    return (n + 2 * p - d * (k - 1) - 1) // s + 1


settings = {
    "VALID": {}, "SAME, P = 1": {"p": 1}, "stride 2": {"s": 2}, "dilation 2": {"d": 2},
    "S = 3, P = 1:\na remainder unread": {"s": 3, "p": 1},
}  # fmt: skip
fig, axes = plt.subplots(1, 5, figsize=(9.6, 2.7))
for ax, (name, how) in zip(axes, settings.items(), strict=True):
    n, p = 8, how.get("p", 0)
    one_hot = torch.eye(n + 2 * p)[:, None]  # which output sees a 1 at each place?
    used = F.conv1d(one_hot, torch.tensor([[[1.0, 2.0, 3.0]]]), None, how.get("s", 1), 0,
                    how.get("d", 1))[:, 0].T  # fmt: skip
    ax.imshow(used, cmap="Greys", vmin=0, vmax=5, extent=(-p - 0.5, n + p - 0.5, len(used), 0))
    for i, j in used.nonzero().tolist():
        ax.text(j - p, i + 0.5, f"$w_{used[i, j].int() - 1}$", ha="center", va="center", size=7)
    for edge in (-0.5, n - 0.5) if p else ():
        ax.axvline(edge, color=COLOURS[3], ls="--")
    ax.set(title=f"{name}", xlabel="input place", xticks=range(n), yticks=[], aspect="auto")
    ax.grid(False)
    assert len(used) == output_size(n, 3, **how)
axes[0].set_ylabel("output (down)")
fig.suptitle(
    "Which input each of the outputs reads: 8 inputs, 3 taps; beyond the dashes is padding"
)
plt.show()

# %%
tried, wrong = 0, 0
for n in range(1, 14):
    for k, s, p, d in np.ndindex(5, 4, 4, 3):
        k, s, d = k + 1, s + 1, d + 1
        if n + 2 * p >= d * (k - 1) + 1:  # else the filter is longer than the input
            y = F.conv1d(torch.empty(1, 1, n, device="meta"), torch.empty(1, 1, k, device="meta"),
                         None, s, p, d)  # fmt: skip
            tried, wrong = tried + 1, wrong + (y.shape[2] != output_size(n, k, s, p, d))
print(f"formula (2) against torch: {tried} settings, {wrong} differences")

# %% [markdown]
# (The device `meta` has shapes but no numbers. It answers "how large would it be?" at once, even
# for networks that would not fit into memory. We shall let it count all the famous ones.)

# %% [markdown]
# ## 4. Images, channels, groups
#
# An image has two directions and several **channels**, first red, green and blue, later whatever
# the layers before made. A batch $X$ has shape $(B, C, H, W)$. One filter reads *all* channels of
# its window and adds everything up to one number; its shape is $(C, K_H, K_W)$. A layer has $M$
# such filters and makes $M$ output channels, the **feature maps**. With weight $W$ of shape $(M, C,
# K_H, K_W)$ and bias $\mathbf{b} \in \mathbb{R}^M$, stride $S$, padding $P$:
#
# $$ Y_{bmij} = b_m + \sum_{c=1}^{C} \sum_{u=0}^{K_H-1} \sum_{v=0}^{K_W-1} W_{mcuv}\;
# X_{b,\,c,\,iS + u - P,\; jS + v - P} . \tag{3} $$
#
# Parameters: $M(C K_H K_W + 1)$, whatever the size of the image. One value, in code:

# %%
torch.manual_seed(0)
X, W, b = torch.randn(2, 3, 7, 9), torch.randn(4, 3, 3, 5), torch.randn(4)
Y = F.conv2d(X, W, b)
window = X[1, :, 2:5, 3:8]  # all channels, 3 rows from row 2, 5 columns from column 3
print(f"X {tuple(X.shape)}, W {tuple(W.shape)}: Y {tuple(Y.shape)}")
print(f"Y[1, 0, 2, 3] = {Y[1, 0, 2, 3]:.4f};  (window * W[0]).sum() + b[0] = ", end="")
print(f"{(window * W[0]).sum() + b[0]:.4f}")

# %% [markdown]
# Before networks learnt filters, people designed them. On a photograph (Grace Hopper, who wrote one
# of the first compilers):

# %%
photo = torch.from_numpy(plt.imread(get_sample_data("grace_hopper.jpg", asfileobj=False)).copy())
photo = photo.permute(2, 0, 1).float()[None] / 255  # (1, 3, 600, 512)
photo = F.avg_pool2d(photo, 2)[:, :, :250]  # (1, 3, 250, 256)
grey = photo.mean(1, keepdim=True)
bell = torch.tensor([1.0, 4.0, 6.0, 4.0, 1.0]) / 16
slope = torch.tensor([-1.0, 0.0, 1.0])
smooth = torch.tensor([1.0, 2.0, 1.0]) / 4
point = torch.zeros(5, 5).index_put((torch.tensor(2), torch.tensor(2)), torch.tensor(1.0))
filters = {
    "blur": torch.outer(bell, bell),
    "sharpen": 2 * point - torch.outer(bell, bell),
    "left to right (Sobel)": torch.outer(smooth, slope),
    "top to bottom (Sobel)": torch.outer(slope, smooth),
}
fig, axes = plt.subplots(1, 5, figsize=(9.6, 2.3))
axes[0].imshow(grey[0, 0], cmap="gray")
axes[0].set_title("input")
for ax, (name, w) in zip(axes[1:], filters.items(), strict=True):
    y = F.conv2d(grey, w[None, None], padding="same")[0, 0]
    reach = 0.3 if "Sobel" in name else None  # grey is zero, white rises, black falls
    ax.imshow(y, cmap="gray", vmin=-reach if reach else 0, vmax=reach or 1)
    ax.set_title(name)
for ax in axes:
    ax.axis("off")
plt.show()

# %% [markdown]
# ### 1 × 1: mixing channels
#
# A filter of one pixel sees no neighbours. For $K_H = K_W = 1$ formula (3) becomes $Y_{bmij} =
# b_m + \sum_c W_{mc} X_{bcij}$: at each pixel the vector of $C$ channel values is multiplied by the
# same matrix $(M, C)$. It is a linear layer applied to every pixel, which makes more, fewer, or
# better channels of those that are there (Lin et al. 2014, "Network in network"). One such matrix
# is known without training: **principal components**, the directions in colour space in which the
# pixels differ most.

# %%
colours = photo[0].flatten(1).T  # (pixels, 3)
mean = colours.mean(0)
variance, axes_of_colour = torch.linalg.eigh(torch.cov(colours.T))
mixing = axes_of_colour.flip(1).T[:, :, None, None]  # (3, 3, 1, 1), largest variance first
components = F.conv2d(photo - mean.view(1, 3, 1, 1), mixing)
as_matrix = (colours - mean) @ axes_of_colour.flip(1)
print("the 1 x 1 convolution is a matrix product at each pixel:",
      torch.allclose(components[0].flatten(1).T, as_matrix, atol=1e-5))  # fmt: skip
print("share of the variance:", *(f"{v:.1%}" for v in (variance / variance.sum()).flip(0)))

fig, axes = plt.subplots(1, 5, figsize=(9.6, 2.3))
axes[0].imshow(photo[0].permute(1, 2, 0))
axes[0].set_title("3 channels")
for i in range(3):
    axes[i + 1].imshow(components[0, i], cmap="gray", vmin=-0.6, vmax=0.6)
    axes[i + 1].set_title(f"component {i + 1}")
kept = components.clone()
kept[:, 2:] = 0
back = F.conv_transpose2d(kept, mixing) + mean.view(1, 3, 1, 1)
axes[4].imshow(back[0].permute(1, 2, 0).clamp(0, 1))
axes[4].set_title("back from 2")
for ax in axes:
    ax.axis("off")
plt.show()

# %% [markdown]
# Two numbers per pixel instead of three, and hardly anything is missing: the channels of a picture
# say much the same. GoogLeNet, ResNet and all that came later rest on this: shrink the channels by
# 1 × 1, do the expensive 3 × 3 on few, expand again.
#
# ### Groups
#
# With $G$ **groups** the channels are dealt into $G$ stacks and each filter reads one stack only:
# $W$ has shape $(M, C/G, K_H, K_W)$, a $G$-th of the weights and of the work. At the extreme $G =
# C$ each channel has its own filter, a **depthwise** convolution. It mixes no channels; a 1 × 1
# convolution after it does.

# %%
X, W = torch.randn(2, 6, 7, 9), torch.randn(4, 3, 3, 3)
together = F.conv2d(X, W, groups=2)
apart = torch.cat([F.conv2d(X[:, :3], W[:2]), F.conv2d(X[:, 3:], W[2:])], dim=1)
print("two groups = two convolutions side by side:", torch.allclose(together, apart, atol=1e-5))
kinds = {"3 x 3": 9 * 256 * 256, "3 x 3 in 2 groups": 9 * 128 * 256, "3 x 3 depthwise": 9 * 256,
         "1 x 1": 256 * 256, "depthwise, then 1 x 1": 9 * 256 + 256 * 256}  # fmt: skip
for name, count in kinds.items():
    print(f"256 channels to 256, {name:22}{count:>9,} weights ({count / kinds['3 x 3']:.1%})")

# %% [markdown]
# ## 5. The shift, followed through
#
# Section 2 demanded that the shifted input give the shifted output. A test of that takes no
# tolerance: it looks for *equal arrays*. Through the layers of section 1, on a canvas so large that
# nothing touches its border (a convolution does not mind another size):


# %%
@torch.no_grad()
def follow(net: nn.Sequential, x: Tensor, by: int) -> None:
    """After each layer: is the output of the moved images the moved output?"""
    moved, step = x.roll(by, 3), float(by)
    for layer in net:
        x, moved = layer(x), layer(moved)
        if isinstance(layer, nn.MaxPool2d):
            step /= 2  # its stride
        if x.dim() == 2:
            verdict = f"the same vector: {torch.equal(x, moved)}"
        elif step % 1:
            verdict = f"{step} places: there is no half place"
        else:
            s = int(step)
            verdict = (
                f"moved by {s}: {torch.equal(x[..., 8:-8], moved[..., 8 + s : x.shape[3] - 8 + s])}"
            )
        print(f"  {type(layer).__name__:10}{tuple(x.shape)!s:18}{verdict}")


roomy = F.pad(x_valid[:8], (12, 12, 12, 12)).cpu()  # on the CPU sums run in one order
print("digits moved by 3 to the right")
follow(copy.deepcopy(models["CNN"]).cpu(), roomy, 3)

# %% [markdown]
# Every convolution moves its maps along: it is **equivariant**, and so is ReLU, which looks at one
# number at a time. The global maximum forgets *where* and keeps *how much*: its output does not
# change at all, it is **invariant**. So is every global pooling. The logits are identical, hence
# the flat line of section 1; what little it lost came from the border of the small canvas, where
# zero-padding shows the net where it is.
#
# Invariance is not always wanted. To say *that* there is a 6, forget the place; to say *where*, do
# not (unit 10 keeps the maps). And nothing here helps with turning or scaling: those are other
# symmetries, and unit 04 teaches them by examples.

# %% [markdown]
# ## 6. Backward: the same band, transposed
#
# A convolution is linear, so it *is* a matrix, one that is mostly zeros and repeats itself. Three
# inputs and two taps, stride 1, no padding: $y_0 = w_0 x_0 + w_1 x_1$ and $y_1 = w_0 x_1 + w_1
# x_2$, or
#
# $$ \begin{pmatrix} y_0 \\ y_1 \end{pmatrix} = \underbrace{\begin{pmatrix} w_0 & w_1 & 0 \\ 0 & w_0
# & w_1 \end{pmatrix}}_{A} \begin{pmatrix} x_0 \\ x_1 \\ x_2 \end{pmatrix} =
# \underbrace{\begin{pmatrix} x_0 & x_1 \\ x_1 & x_2 \end{pmatrix}}_{U} \begin{pmatrix} w_0 \\ w_1
# \end{pmatrix} . $$
#
# The same two numbers, written twice: once as a matrix of weights times the input, once as a matrix
# of *windows* times the weights. From above comes the gradient of the loss, $g_i = \partial L /
# \partial y_i$. Unit 01 derived what a matrix product does with it: the transposed matrix.
#
# $$ \frac{\partial L}{\partial \mathbf{x}} = A^\top \mathbf{g} = \begin{pmatrix} w_0 g_0 \\ w_1
# g_0 + w_0 g_1 \\ w_1 g_1 \end{pmatrix}, \qquad \frac{\partial L}{\partial \mathbf{w}} = U^\top
# \mathbf{g} = \begin{pmatrix} x_0 g_0 + x_1 g_1 \\ x_1 g_0 + x_2 g_1 \end{pmatrix}, \qquad
# \frac{\partial L}{\partial b} = g_0 + g_1 . $$

# %% [markdown]
# The middle input was read twice, so it collects two terms. Look at the order in them: $w_1 g_0 +
# w_0 g_1$. Lay $\mathbf{g}$ between zeros, $(0, g_0, g_1, 0)$, and slide the **flipped** filter
# $(w_1, w_0)$ over it: out come exactly the three entries. The backward pass of a correlation is a
# true convolution.
#
# **Now stride 2 with padding 1.** The padded input is $(0, x_0, x_1, x_2, 0)$; the windows start at
# places 0 and 2: $y_0 = w_0 \cdot 0 + w_1 x_0$, $y_1 = w_0 x_1 + w_1 x_2$. The last zero is never
# read (the remainder of formula (2)).
#
# $$ A = \begin{pmatrix} w_1 & 0 & 0 \\ 0 & w_0 & w_1 \end{pmatrix}, \qquad \frac{\partial
# L}{\partial \mathbf{x}} = A^\top \mathbf{g} = \begin{pmatrix} w_1 g_0 \\ w_0 g_1 \\ w_1 g_1
# \end{pmatrix}, \qquad U = \begin{pmatrix} 0 & x_0 \\ x_1 & x_2 \end{pmatrix} . $$
#
# To see a sliding filter here, pull $\mathbf{g}$ apart, with $S - 1$ zeros between: $(g_0, 0,
# g_1)$. The flipped filter $(w_1, w_0)$ at its places 0, 1 and 2 (with one zero added on the right)
# gives $w_1 g_0$, $w_0 g_1$, $w_1 g_1$. What fell on padding is thrown away: that is the missing
# entry $w_0 g_0$.

# %%
x = torch.tensor([1.0, 3.0, 2.0], requires_grad=True)
w = torch.tensor([2.0, -1.0], requires_grad=True)
g = torch.tensor([10.0, 1.0])


def band_and_windows(x: Tensor, w: Tensor, s: int, p: int) -> tuple[Tensor, Tensor]:
    """A (O, N) with y = A x, and U (O, K) with y = U w."""
    A = F.conv1d(torch.eye(len(x))[:, None], w[None, None], stride=s, padding=p)[:, 0].T
    U = F.pad(x, (p, p)).unfold(0, len(w), s)
    return A, U


for s, p in [(1, 0), (2, 1)]:
    y = correlate(x, w, stride=s, padding=p)
    dx, dw = torch.autograd.grad(y @ g, (x, w))
    A, U = band_and_windows(x.detach(), w.detach(), s, p)
    print(f"stride {s}, padding {p}:  y = {y.tolist()} = A x: {torch.equal(A @ x, y)}, = U w: "
          f"{torch.equal(U @ w, y)}")  # fmt: skip
    print(f"    dL/dx = {dx.tolist()} = A'g: {torch.equal(A.T @ g, dx)};", end="  ")
    print(f"dL/dw = {dw.tolist()} = U'g: {torch.equal(U.T @ g, dw)}")

# %%
SHADES = ["0.55", "0.78", "0.9"]  # of the taps


def draw_matrix(ax: Axes, cells: Tensor, letter: str, title: str, across: str, down: str) -> None:
    """A matrix whose entries are numbered weights or inputs; -1 is an entry that is always zero."""
    for i, j in np.ndindex(*cells.shape):
        k = int(cells[i, j])
        shade = SHADES[k] if letter == "w" and k >= 0 else "w"
        ax.add_patch(Rectangle((j, i), 1, 1, fc=shade, ec="0.7", lw=0.5))
        if k >= 0:
            ax.text(j + 0.5, i + 0.5, f"${letter}_{k}$", ha="center", va="center", size=8)
    ax.set(xlim=(0, cells.shape[1]), ylim=(cells.shape[0], 0), aspect="equal", title=title)
    ax.set(xticks=[], yticks=[], xlabel=across, ylabel=down)
    ax.grid(False)


fig, axes = plt.subplots(2, 3, figsize=(8.6, 5.0))
for row, (s, p) in zip(axes, [(1, 0), (2, 1)], strict=True):
    numbered = torch.arange(1.0, 8.0)  # an entry k + 1 stands for number k, 0 for nothing
    A, U = band_and_windows(numbered, torch.tensor([1.0, 2.0, 3.0]), s, p)
    name = f"stride {s}, padding {p}"
    draw_matrix(row[0], A - 1, "w", f"forward $A$, {name}", "input", "output")
    draw_matrix(
        row[1], A.T - 1, "w", "to the input: $A^T$", "output's gradient", "input's gradient"
    )
    draw_matrix(row[2], U.T - 1, "x", "to the weights: $U^T$", "output's gradient", "tap")
fig.suptitle("Seven inputs, three taps. Along a row of $A^T$ the taps run backwards")
plt.show()

# %% [markdown]
# **The general rule**, for every stride, padding and dilation. Formula (1) is a list of triples:
# for each output $i$ and each tap $k$, the input $j = iS + kD - P$ is read, and $w_k x_j$ is added
# to $y_i$. So $\partial y_i / \partial x_j$ is $w_k$ for that triple, $\partial y_i / \partial w_k$
# is $x_j$, and by the chain rule
#
# $$ \text{for every triple } (i, k, j): \qquad y_i \mathrel{+}= w_k\, x_j \quad\Longrightarrow\quad
# \frac{\partial L}{\partial x_j} \mathrel{+}= w_k\, g_i, \qquad \frac{\partial L}{\partial w_k}
# \mathrel{+}= x_j\, g_i . \tag{4} $$
#
# One walk, three directions, and the costs are equal: backward takes twice the work of forward. In
# two dimensions the triples have more letters, and nothing else changes: with $m' = iS + u - P$,
# $n' = jS + v - P$
#
# $$ \frac{\partial L}{\partial X_{bcm'n'}} = \sum_{m} \sum_{(i,u),\,(j,v)} W_{mcuv}\, G_{bmij},
# \qquad \frac{\partial L}{\partial W_{mcuv}} = \sum_{b,i,j} G_{bmij}\, X_{b,c,iS+u-P,jS+v-P},
# \qquad \frac{\partial L}{\partial b_m} = \sum_{b,i,j} G_{bmij} , $$
#
# the first sum over all pairs that arrive at $(m', n')$. The weights are used by every image at
# every place, so their gradient is summed over all of them. The map $G \mapsto \partial L /
# \partial X$ is called **transposed convolution**, because it multiplies by $A^\top$. As a layer of
# its own it makes small maps large (units 08 and 10).

# %%
X = torch.randn(2, 3, 8, 6, dtype=torch.double, requires_grad=True)
W = torch.randn(4, 3, 3, 2, dtype=torch.double, requires_grad=True)
S, P = 2, 1
Y = F.conv2d(X, W, stride=S, padding=P)
G = torch.randn_like(Y)
dX, dW = torch.autograd.grad(Y, (X, W), G)

unread = [(n + 2 * P - k) % S for n, k in zip(X.shape[2:], W.shape[2:], strict=True)]
transposed = F.conv_transpose2d(G, W, stride=S, padding=P, output_padding=unread)
# dW is a convolution, too: the input is filtered with G, pulled apart, images being the channels
by_conv = F.conv2d(X.transpose(0, 1), G.transpose(0, 1), padding=P, dilation=S)
by_conv = by_conv[:, :, : W.shape[2], : W.shape[3]].transpose(0, 1)
print(f"rows and columns that no window reads: {unread}")
print("dX is a transposed convolution:", torch.allclose(dX, transposed))
print("dW is a dilated convolution:   ", torch.allclose(dW, by_conv))

# %% [markdown]
# ## 7. Pooling
#
# A later layer should look at larger things, and it need not know to the pixel where they are.
# **Pooling** summarises each window by one number per channel, without weights: its maximum or its
# average. Usual are 2 × 2 windows with stride 2; a window that is the whole map is **global**
# pooling. Formula (2) gives the sizes. Backward,
#
# - **average** of $n$ values: each gets $g/n$;
# - **maximum**: $y_i = x_{j^*}$ with $j^*$ the winner, so the winner gets all of $g_i$ and the
#   others nothing. The forward pass has to remember $j^*$. Where windows overlap, one value may win
#   in several and collects from each. Among equals torch picks the first in reading order.

# %%
x = torch.tensor([[1.0, 5, 2, 0], [3, 4, 1, 6], [0, 2, 9, 7], [1, 1, 3, 8]])[None, None]
x.requires_grad_()
up = torch.tensor([[1.0, 2.0], [3.0, 4.0]])[None, None]


def rows_of(image: Tensor) -> str:
    return " | ".join(" ".join(f"{v:g}" for v in row) for row in image[0, 0].tolist())


print(f"{'input':16}{rows_of(x)}")
for name, pooled in {
    "maximum": F.max_pool2d(x, 2),
    "average": F.avg_pool2d(x, 2),
    "3 x 3, stride 1": F.max_pool2d(x, 3, 1),
}.items():
    (dx,) = torch.autograd.grad(pooled, x, up)
    print(f"{name:16}{rows_of(pooled)}\n{'   gradient':16}{rows_of(dx)}")
flat = torch.ones(1, 1, 2, 2, requires_grad=True)
(dx,) = torch.autograd.grad(F.max_pool2d(flat, 2).sum(), flat)
print("four equal values, gradient:", dx.flatten().tolist())

# %% [markdown]
# In the overlapping case 9 wins all four windows and gets $1 + 2 + 3 + 4$.
#
# Does pooling make a network robust against shifts, as is often said? Let us put a 2 × 2 maximum
# after the first convolution of section 1's network, which also makes it faster, train it on the
# same digits, and move the validation digits on a wide canvas:


# %%
def pooled_cnn() -> nn.Sequential:
    layers = list(cnn())
    return nn.Sequential(*layers[:2], nn.MaxPool2d(2), *layers[2:])


models["CNN, pooled"] = train(fresh(pooled_cnn), x_train, y_train, 20)
wide = F.pad(x_valid, (8, 8, 8, 8))
fig, ax = plt.subplots(figsize=(5.6, 2.6))
for name, fmt in {"CNN": "^-", "CNN, pooled": "o--"}.items():
    right = [accuracy(models[name], wide.roll(by, 3), y_valid) for by in range(7)]
    ax.plot(range(7), right, fmt, label=name)
    print(f"{name:12} moved by 0 to 6:", *(f"{r:.1%}" for r in right))
ax.set(xlabel="digits moved to the right by (pixels)", ylabel="validation accuracy", ylim=(0.6, 1))
ax.set_title("With stride 2, an even number of pixels is harmless, an odd one is not")
ax.legend(loc="lower left", ncols=2)
plt.show()
print("digits moved by 1 to the right")
follow(copy.deepcopy(models["CNN, pooled"]).cpu(), roomy, 1)

# %% [markdown]
# **A move by two pixels costs nothing, a move by one a large part of the digits.** The windows of
# the pooling stand on a fixed grid. Moved by two, every window finds the contents of its neighbour:
# equivariant, by one place. Moved by one, the windows cut the image into other pieces, and their
# maxima are other numbers. The same holds for any layer with stride. In signal processing this is
# aliasing, and there one blurs before taking every second value; networks that do so are steadier
# (Zhang 2019). What usually hides the effect is training on shifted images (unit 04). Pooling buys
# speed and a wide view; invariance comes from *global* pooling.

# %% [markdown]
# ## 8. Counting: how far, how many, how much
#
# **Receptive field**: the patch of the input that one output depends on. Let layer $l = 1, \dots$
# have $K_l$ taps, stride $S_l$, dilation $D_l$. Two numbers travel along: $R_l$, the side of the
# patch, and the **jump** $J_l$, how many input pixels lie between two neighbouring outputs of layer
# $l$. For the input itself $R_0 = J_0 = 1$.
#
# - One step at layer $l$ is $S_l$ steps at layer $l - 1$: $J_l = S_l J_{l-1}$.
# - A window has its outermost taps $(K_l - 1) D_l$ steps of layer $l-1$ apart, that is $(K_l - 1)
#   D_l J_{l-1}$ input pixels. Around them lies half a patch on either side, together one patch:
#
# $$ R_l = R_{l-1} + (K_l - 1)\, D_l\, J_{l-1} . \tag{5} $$
#
# By hand: three 3 × 3 layers give $1 + 2 + 2 + 2 = 7$, as far as one of 7 × 7. With stride 2 in the
# first: $1 + 2 + 4 + 4 = 11$. There is an experiment that must agree: take the gradient of *one*
# output with respect to the input and look where it is not zero.

# %%
Layer = tuple[int, int, int]  # taps, stride, dilation


def receptive_field(layers: list[Layer]) -> tuple[int, int]:
    """Side of the patch that one output sees, and the jump between outputs, in input pixels."""
    field, jump = 1, 1
    for k, s, d in layers:
        field, jump = field + (k - 1) * d * jump, jump * s
    return field, jump


def gradient_field(layers: list[Layer], size: int = 256) -> int:
    """The same, measured: how many inputs of a row have a gradient."""
    x = torch.zeros(1, 1, size, requires_grad=True)
    y = x
    for k, s, d in layers:
        y = F.conv1d(y, torch.full((1, 1, k), 1 / k), stride=s, dilation=d)
    (slope,) = torch.autograd.grad(y[0, 0, y.shape[2] // 2], x)
    return int((slope != 0).sum())


stacks = {"three 3s": [(3, 1, 1)] * 3, "stride 2 first": [(3, 2, 1), (3, 1, 1), (3, 1, 1)],
          "dilations 1, 2, 4": [(3, 1, 1), (3, 1, 2), (3, 1, 4)],
          "5, pool 2, 4": [(5, 1, 1), (2, 2, 1), (4, 1, 1)]}  # fmt: skip
for name, stack in stacks.items():
    print(f"{name:18} formula {receptive_field(stack)[0]:3}, gradient {gradient_field(stack):3}")

# %%
p, v = (3, 2, 1), (3, 1, 1)  # pooling or stride 2; a 3 x 3 convolution
half = (2, 2, 1)
famous = {
    "AlexNet": [(11, 4, 1), p, (5, 1, 1), p, v, v, v, p],
    "VGG-16": [v, v, half, v, v, half, v, v, v, half, v, v, v, half, v, v, v, half],
    "ResNet-50": [(7, 2, 1), p, *[v] * 3, p, *[v] * 3, p, *[v] * 5, p, *[v] * 2],
}
for name, stack in famous.items():
    field, jump = receptive_field(stack)
    print(f"{name:10} last map: sees {field} pixels of 224, one value every {jump}")

# %% [markdown]
# That is the field on paper. Does a pixel at its rim count as much as one in the middle? The number
# of *paths* says no: in a stack of 3 × 3 layers the rim is reached only by always stepping
# outwards, the middle in very many ways. A path is a sum of $n$ steps of $-1$, 0 or 1 in each
# direction, each of variance $2/3$. With independent random weights the squared gradient is on
# average proportional to the number of paths: a bell of standard deviation $\sqrt{2n/3}$ in a field
# of $2n + 1$. Measured on random networks with ReLU:


# %%
def influence(n: int, nets: int, width: int = 8) -> Tensor:
    """Mean squared gradient of the middle output of n layers, 3 x 3, over random nets."""
    side = 2 * n + 1
    total = torch.zeros(side, side)
    torch.manual_seed(0)
    for _ in range(nets):
        x = torch.randn(1, 1, side, side, requires_grad=True)
        y = x
        for layer in range(n):
            fan_in = 9 * y.shape[1]
            w = torch.randn(width, y.shape[1], 3, 3) * math.sqrt(2 / fan_in)
            y = F.relu(F.conv2d(y, w)) if layer < n - 1 else F.conv2d(y, w)
        (slope,) = torch.autograd.grad(y[0, 0, 0, 0], x)
        total += slope[0, 0].square()
    return total / total.sum()


# %%
fig, axes = plt.subplots(1, 4, figsize=(9.6, 2.5), width_ratios=[1, 1, 1, 1.3])
for ax, n in zip(axes, (3, 8, 20), strict=False):
    share = influence(n, 4 if quick else 800 // n)
    across = torch.arange(-n, n + 1)
    std = (share.sum(0) * across**2).sum().sqrt()
    ring = torch.maximum(across.abs()[:, None], across.abs()[None])
    inner = next(r for r in range(n + 1) if share[ring <= r].sum() > 0.9)
    print(
        f"{n:2} layers: field {2 * n + 1}, 90 % of the influence within {2 * inner + 1},", end=" "
    )
    print(f"standard deviation {std:.1f}; counting paths {math.sqrt(2 * n / 3):.1f}")
    ax.imshow(share, cmap="gray_r", extent=(-n - 0.5, n + 0.5) * 2)
    ax.set(title=f"{n} layers", xlabel="pixels from the middle")
    ax.grid(False)
    axes[3].plot(across / n, share.sum(0) / share.sum(0).max(), label=f"{n} layers")
axes[3].set(xlabel="share of the field", title="relative influence")
axes[3].legend(loc="upper right", fontsize=7)
plt.show()

# %% [markdown]
# Deep networks see less than the formula promises: the field grows like $n$, the part that matters
# like $\sqrt n$ (Luo et al. 2016, "Understanding the effective receptive field"; training widens it
# again). A field as large as the object is therefore not enough.
#
# **How many, how much.** A layer with $M$ filters in $G$ groups and outputs of $H' \times W'$ has
#
# $$ \underbrace{M\Big(\tfrac{C}{G} K_H K_W + 1\Big)}_{\text{parameters}}, \qquad \underbrace{M H'
# W'}_{\text{values, kept for backward}}, \qquad \underbrace{M \tfrac{C}{G} K_H K_W \cdot H'
# W'}_{\text{multiply-adds}} \tag{6} $$
#
# (a linear layer is the case $K = H' = W' = 1$). Parameters do not know the image's size, the other
# two grow with its area. Multiply-adds are parameters times places: a layer can be cheap in one and
# dear in the other. (Papers of that time often write "FLOPs" for multiply-adds; counted strictly it
# is two operations.) Why VGG has only 3 × 3, from $C$ channels to $C$: three of them have $27C^2$
# weights, one of 7 × 7 sees as far and has $49C^2$, and has one ReLU instead of three.

# %% [markdown]
# ## 9. What the filters become, and whether it matters
#
# One convolution of 16 filters of 5 × 5, ReLU, average pooling, a linear layer. We train it, and
# draw its filters and what they make of a digit.


# %%
def one_layer(filters: int = 16, k: int = 5) -> nn.Sequential:
    return nn.Sequential(nn.Conv2d(1, filters, k, padding=k // 2), nn.ReLU(), nn.AvgPool2d(2),
                         nn.Flatten(), nn.Linear(filters * 16, 10))  # fmt: skip


def square(x: Tensor) -> Tensor:
    return x.view(-1, 1, 8, 8)


before = fresh(one_layer)
after = train(copy.deepcopy(before), square(data.train_x), y_train, 20)
digit = square(data.valid_x[:1])
fig = plt.figure(figsize=(9.6, 3.2))
fig.suptitle("Filters at the start, after training, and the trained maps of one digit")
panels = {"start": before[0].weight, "trained": after[0].weight, "maps": after[:2](digit)[0]}
for row, (name, images) in enumerate(panels.items()):
    for i, image in enumerate(images.detach().cpu().squeeze(1)):
        ax = fig.add_subplot(3, 17, 17 * row + i + 2)
        ax.imshow(image, cmap="gray")
        ax.axis("off")
    ax = fig.add_subplot(3, 17, 17 * row + 1)
    ax.axis("off")
    ax.text(0, 0.5, name, ha="center", va="center", rotation=90)
plt.show()

# %% [markdown]
# The trained filters are smoother, and some have become what was designed by hand in section 4: an
# edge of some direction, a blob. In networks for photographs the first layer shows this clearly
# (AlexNet's figure 3: stripes and colour blobs), and deeper maps stand for textures, parts, objects
# (Zeiler and Fergus 2014).
#
# How much of the success is in those filters? Control: leave them *random*, as initialised, and
# train nothing but the linear layer. Validation and test digits together, five draws:


# %%
def linear_on(features: Callable[[Tensor], Tensor], decay: float = 1e-5) -> float:
    """Accuracy on unseen digits of a linear classifier on fixed features."""
    with torch.no_grad():
        f, new = features(data.train_x), features(torch.cat([data.valid_x, data.test_x]))
    mean, scale = f.mean(0), (f.std(0) + 0.01) * math.sqrt(f.shape[1])
    f, new = (f - mean) / scale, (new - mean) / scale
    weight = torch.zeros(10, f.shape[1], device=device, requires_grad=True)
    bias = torch.zeros(10, device=device, requires_grad=True)
    optimiser = torch.optim.LBFGS([weight, bias], max_iter=5 if quick else 100,
                                  line_search_fn="strong_wolfe")  # fmt: skip

    def loss() -> Tensor:
        optimiser.zero_grad()
        value = F.cross_entropy(f @ weight.T + bias, y_train) + decay * weight.square().sum()
        value.backward()
        return value

    optimiser.step(loss)
    return accuracy(lambda x: x @ weight.T + bias, new, torch.cat([y_valid, y_test]))


# %%
def mean_of_five(trained: bool) -> str:
    scores = []
    for seed in range(1 if quick else 5):
        torch.manual_seed(seed)
        net = one_layer(32, 3).to(device)
        if trained:
            train(net, square(data.train_x), y_train, 15)
        scores.append(linear_on(lambda x, net=net: net[:-1](square(x))))
    mean, spread = torch.tensor(scores).mean(), torch.tensor(scores).std(correction=0)
    return f"{mean:.1%} ± {spread:.1%}"


print(f"linear on pixels:              {linear_on(lambda x: x):.1%}")
print(f"linear on 32 random filters:   {mean_of_five(trained=False)}")
print(f"linear on 32 trained filters:  {mean_of_five(trained=True)}")

# %% [markdown]
# **Random filters, never trained, do as well as trained ones** and make fewer errors than the
# pixels. Local, shared, rectified, pooled: the *form* of the layer already does much of the work
# (Jarrett et al. 2009; Saxe et al. 2011). So compare a new architecture with its own random
# features before you praise what it has learnt.
#
# Is learning superfluous, then? On digits one layer is enough. The question is what *more* layers
# do:


# %%
def random_stack(depth: int, seed: int) -> float:
    torch.manual_seed(seed)
    layers: list[nn.Module] = []
    for i in range(depth):
        conv = nn.Conv2d(32 if i else 1, 32, 3, padding=1, bias=False)
        nn.init.kaiming_normal_(conv.weight, nonlinearity="relu")
        layers += [conv, nn.ReLU()]
    net = nn.Sequential(*layers, nn.AvgPool2d(2), nn.Flatten()).to(device)
    return linear_on(lambda x: net(square(x)))


for depth in (1, 3, 12):
    scores = torch.tensor([random_stack(depth, seed) for seed in range(1 if quick else 3)])
    print(f"linear on {depth:2} random layers: {scores.mean():.1%}, three draws")

# %% [markdown]
# More random layers bring nothing, and many of them lose what one has found. Features *of features*
# have to be learnt, and how to learn them is the story of the rest of this unit.

# %% [markdown]
# ## 10. From cheques to photographs: LeNet, AlexNet, VGG, GoogLeNet
#
# To read these networks we need a meter: a hook on every layer that notes formula (6) while an
# empty image runs through on the `meta` device. `values` are the numbers that a layer puts out for
# one image (activations that overwrite their input are left out).


# %%
class Row:
    """What one layer costs for one image."""

    def __init__(self, name: str, layer: nn.Module, output: Tensor, stage: int) -> None:
        self.name, self.shape, self.stage = name, tuple(output.shape[1:]), stage
        self.params = sum(p.numel() for p in layer.parameters())
        self.values = output.numel()
        places = output[0, 0].numel()  # 1 for a vector
        multiplies = isinstance(layer, nn.Conv2d | nn.Linear)
        self.macs = layer.weight.numel() * places if multiplies else 0


# %%
SILENT = nn.ReLU | nn.SiLU | nn.Sigmoid | nn.Tanh | nn.Dropout | nn.Flatten | nn.Identity


def meter(make: Callable[[], nn.Module], size: int = 224, channels: int = 3) -> list[Row]:
    """Run an image that has a shape but no pixels through a network that has no weights."""
    rows: list[Row] = []
    with torch.device("meta"):
        net, image = make().eval(), torch.empty(1, channels, size, size)

    def hook_for(name: str) -> Callable[..., None]:
        def hook(layer: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> None:
            halvings = round(math.log2(size / output.shape[-1])) if output.dim() == 4 else 6
            # A 1 x 1 map inside a block (squeeze-and-excite) belongs to its block's stage.
            stage = rows[-1].stage if output.shape[-1] == 1 and rows else halvings
            rows.append(Row(name, layer, output, 6 if isinstance(layer, nn.Linear) else stage))

        return hook

    for name, layer in net.named_modules():
        if not list(layer.children()) and not isinstance(layer, SILENT):
            layer.register_forward_hook(hook_for(name))
    net(image)
    return rows


def total(rows: list[Row], what: str) -> int:
    return sum(getattr(row, what) for row in rows)


# %% [markdown]
# ### LeNet-5 (1998)
#
# Fukushima's **Neocognitron** (1980) already had layers of local, repeated detectors, alternating
# with layers that tolerate shifts, after what Hubel and Wiesel had found in the visual cortex of
# cats. It had no backpropagation. LeCun and others trained such a net by gradient on handwritten
# zip codes in 1989. LeNet-5 is its mature form (LeCun et al. 1998), part of a system that read
# millions of cheques a day. In today's words, with a 32 × 32 input (MNIST's 28 × 28 are padded):


# %%
def lenet() -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(1, 6, 5), nn.Tanh(), nn.AvgPool2d(2),
        nn.Conv2d(6, 16, 5), nn.Tanh(), nn.AvgPool2d(2),
        nn.Conv2d(16, 120, 5), nn.Tanh(), nn.Flatten(),
        nn.Linear(120, 84), nn.Tanh(), nn.Linear(84, 10),
    )  # fmt: skip


rows = meter(lenet, 32, 1)
for name, row in zip(("C1", "S2", "C3", "S4", "C5", "F6", "output"), rows, strict=True):
    print(f"{name:7}{row.shape!s:14}{row.params:7,} parameters, {row.macs:8,} multiply-adds")
print(f"together {total(rows, 'params'):,} parameters")

# %% [markdown]
# Check one by hand: C3 has $16 \cdot (6 \cdot 25 + 1) = 2416$. The original differs in three
# places. Each of C3's maps read only some of the six (1,516 parameters), to save work and to make
# the maps differ. Each pooled map had a trainable factor and bias (12 and 32 parameters). The
# output compared F6 with drawn templates of the characters, 840 fixed numbers. That is the famous
# count of 60,000 trainable ones.
#
# ### AlexNet (2012)
#
# For a decade kernel machines on designed features were as good. Then came ImageNet: over a million
# photographs of 1,000 classes. Krizhevsky, Sutskever and Hinton trained a network of eight layers
# for five to six days on two graphics cards and, seven such networks together, won ILSVRC 2012 with
# 15.3 % top-5 error against 26.2 % of the next team. What was in it:

# %% [markdown]
# - **ReLU** for tanh: trained several times faster (their figure 1);
# - **two groups** in layers 2, 4 and 5, because a card had 3 GB and each held half of the channels:
#   a constraint of hardware that became a design element;
# - **overlapping pooling**, windows of 3 with stride 2 (0.3 points of top-5 error);
# - **local response normalisation** (LRN): each value is divided by the energy of the $n = 5$
#   neighbouring channels, $b_i = a_i / (k + \alpha \sum_{j} a_j^2)^\beta$ with $k = 2$, $\alpha =
#   10^{-4}$, $\beta = 0.75$. VGG found that it did not help; nobody uses it now (unit 03 tells what
#   replaced it);
# - **dropout** of one half in the two large linear layers (unit 03): against overfitting, at the
#   price of about twice as many steps;
# - random crops, flips and colours, and at test time the mean over ten crops (unit 04); weights
#   drawn from $\mathcal N(0, 0.01^2)$, momentum 0.9, weight decay, a rate divided by ten on each
#   plateau.


# %%
def alexnet(groups: int) -> nn.Sequential:
    conv, relu, pool = nn.Conv2d, nn.ReLU, lambda: nn.MaxPool2d(3, 2)
    return nn.Sequential(
        conv(3, 96, 11, 4), relu(), nn.LocalResponseNorm(5, 5e-4, k=2), pool(),
        conv(96, 256, 5, padding=2, groups=groups), relu(),
        nn.LocalResponseNorm(5, 5e-4, k=2), pool(),
        conv(256, 384, 3, padding=1), relu(), conv(384, 384, 3, padding=1, groups=groups), relu(),
        conv(384, 256, 3, padding=1, groups=groups), relu(), pool(), nn.Flatten(),
        nn.Dropout(), nn.Linear(9216, 4096), relu(), nn.Dropout(), nn.Linear(4096, 4096), relu(),
        nn.Linear(4096, 1000),
    )  # fmt: skip


for groups in (2, 1):
    rows = meter(lambda groups=groups: alexnet(groups), 227)
    linear = sum(row.params for row in rows if row.stage == 6)
    count, macs = total(rows, "params"), total(rows, "macs")
    print(f"{groups} group(s): {count:,} parameters, {linear / count:.1%} of them linear;", end=" ")
    print(f"{macs / 1e6:,.0f} M multiply-adds; first map {rows[0].shape}")

a = torch.rand(1, 8, 1, 1)
energy = sum(F.pad(a.square(), (0, 0, 0, 0, 2, 2))[:, i : i + 8] for i in range(5))
ours = a / (2 + 1e-4 * energy) ** 0.75
print("LRN as in the paper is torch's with alpha = 5e-4, as torch divides alpha by n:",
      torch.allclose(ours, F.local_response_norm(a, 5, 5e-4, 0.75, 2)))  # fmt: skip

# %% [markdown]
# (The paper's figure says 224 input pixels; its 55 × 55 maps need 227, or padding.) Remember the
# share of the linear layers: the network spends its parameters on *weighing* features and few on
# *making* them.
#
# ### VGG (2014)
#
# Simonyan and Zisserman asked what depth alone does and removed every other choice: 3 × 3
# convolutions with padding 1, 2 × 2 pooling, and when the maps halve, the channels double. Five
# networks of 11 to 19 layers:

# %%
VGG = {  # channels of each 3 x 3 layer, M pools; "1" in C: a 1 x 1 layer
    "A": "64 M 128 M 256 256 M 512 512 M 512 512 M",
    "B": "64 64 M 128 128 M 256 256 M 512 512 M 512 512 M",
    "C": "64 64 M 128 128 M 256 256 256:1 M 512 512 512:1 M 512 512 512:1 M",
    "D": "64 64 M 128 128 M 256 256 256 M 512 512 512 M 512 512 512 M",
    "E": "64 64 M 128 128 M 256 256 256 256 M 512 512 512 512 M 512 512 512 512 M",
}


def vgg(code: str) -> nn.Sequential:
    layers: list[nn.Module] = []
    channels = 3
    for word in VGG[code].split():
        if word == "M":
            layers.append(nn.MaxPool2d(2))
            continue
        width, _, one = word.partition(":")
        k = int(one or 3)
        layers += [nn.Conv2d(channels, int(width), k, padding=k // 2), nn.ReLU()]
        channels = int(width)
    sizes = [512 * 7 * 7, 4096, 4096, 1000]
    linear = [m for a, b in pairwise(sizes) for m in (nn.Linear(a, b), nn.ReLU(), nn.Dropout())]
    return nn.Sequential(*layers, nn.Flatten(), *linear[:-2])


# %%
for code in VGG:
    rows = meter(lambda code=code: vgg(code))
    weighted = [row for row in rows if row.params]
    conv = sum(row.params for row in rows if row.stage < 6)
    count = total(rows, "params")
    shrink = math.prod(0.01 * math.sqrt(row.macs / row.values / 2) for row in weighted)
    print(f"{code}: {len(weighted)} layers, {count:,} parameters,", end=" ")
    print(f"{conv / count:.1%} in convolutions,", end=" ")
    print(f"{total(rows, 'macs') / 1e9:.1f} G multiply-adds; signal × {shrink:.0e}")
print(f"first linear layer of D: 7 · 7 · 512 · 4096 + 4096 = {7 * 7 * 512 * 4096 + 4096:,}")

# %% [markdown]
# VGG moved work into the convolutions but not parameters: nine tenths are still linear, three
# quarters in *one* matrix, which reads the last maps. D and E are what torchvision calls `vgg16`
# and `vgg19`.
#
# The last column is the reason for the **staged initialisation**. By unit 01, a layer with ReLU
# multiplies the signal's size by about $\sigma \sqrt{\text{fan-in}/2}$. With AlexNet's $\sigma =
# 0.01$ the product over eleven layers is some millionths, which A, fed with pixels of size 100,
# could still overcome; over nineteen layers next to nothing arrives, and the gradient shrinks
# likewise. So A was trained first; its first four convolutions and its three linear layers then
# became the initial weights of the deeper nets, the rest random. Several trainings for one network.
# Later the authors noted in the paper that Glorot's initialisation makes this unnecessary; He et
# al. (2015) gave the right constant for ReLU, and batch normalisation (unit 03) forgave even wrong
# ones.

# %% [markdown]
# ### GoogLeNet (2014)
#
# The winner of the same year (6.7 % top-5 error; VGG 7.3 %) went the other way: many small choices,
# and a budget of multiply-adds. Szegedy et al. asked why a layer must have *one* filter size. An
# **Inception** block has four branches side by side, all with stride 1 and SAME padding, and
# concatenates their channels:
#
# 1. 1 × 1;
# 2. 1 × 1 to fewer channels, then 3 × 3;
# 3. 1 × 1 to fewer channels, then 5 × 5;
# 4. 3 × 3 *max pooling*, then 1 × 1.


# %%
class Inception(nn.Module):
    """Four branches over x (B, C, H, W); the output has sum of the four widths as channels."""

    def __init__(self, c: int, one: int, three: tuple[int, int], five: tuple[int, int], pool: int):
        super().__init__()
        conv, relu = nn.Conv2d, nn.ReLU
        self.branches = nn.ModuleList([
            nn.Sequential(conv(c, one, 1), relu()),
            nn.Sequential(conv(c, three[0], 1), relu(), conv(*three, 3, padding=1), relu()),
            nn.Sequential(conv(c, five[0], 1), relu(), conv(*five, 5, padding=2), relu()),
            nn.Sequential(nn.MaxPool2d(3, 1, padding=1), conv(c, pool, 1), relu()),
        ])  # fmt: skip

    def forward(self, x: Tensor) -> Tensor:
        return torch.cat([branch(x) for branch in self.branches], dim=1)


with torch.device("meta"):
    out = Inception(192, 64, (96, 128), (16, 32), 32)(torch.empty(1, 192, 28, 28))
print(f"block 3a: 192 channels in, {out.shape[1]} out")
# %%
BLOCKS = {  # 1 x 1; 3 x 3 and 5 x 5 with their reductions; after the pooling
    "3a": (64, (96, 128), (16, 32), 32), "3b": (128, (128, 192), (32, 96), 64),
    "4a": (192, (96, 208), (16, 48), 64), "4b": (160, (112, 224), (24, 64), 64),
    "4c": (128, (128, 256), (24, 64), 64), "4d": (112, (144, 288), (32, 64), 64),
    "4e": (256, (160, 320), (32, 128), 128), "5a": (256, (160, 320), (32, 128), 128),
    "5b": (384, (192, 384), (48, 128), 128),
}  # fmt: skip
channels, count = 192, sum(k * k * c * m + m for k, c, m in [(7, 3, 64), (1, 64, 64), (3, 64, 192)])
for one, three, five, pool in BLOCKS.values():
    with torch.device("meta"):
        count += sum(p.numel() for p in Inception(channels, one, three, five, pool).parameters())
    channels = one + three[1] + five[1] + pool
count += channels * 1000 + 1000
print(f"the whole network: {channels} channels at the end, {count:,} parameters,", end=" ")
print(f"{60_965_224 / count:.1f} times fewer than AlexNet")
places = 28 * 28
reduced = places * (192 * (96 + 16) + 9 * 96 * 128 + 25 * 16 * 32)
direct = places * (9 * 192 * 128 + 25 * 192 * 32)
print(f"its 3 x 3 and 5 x 5 branches: {reduced / 1e6:.0f} M multiply-adds;", end=" ")
print(f"without the 1 x 1 reductions {direct / 1e6:.0f} M")

# %% [markdown]
# Nine such blocks, 22 layers with weights on the longest way, and at the end no large matrix but a
# **global average** (GAP, from Lin et al. 2014): each channel is averaged over its 7 × 7 map, and
# one linear layer reads the 1,024 means. That removes what was nine tenths of VGG.
#
# In the middle hang two **auxiliary classifiers**, small heads that also try to name the class.
# They shorten the way of the gradient to the early layers, and count less:
#
# $$ L = L_\text{main} + 0.3\,(L_{\text{aux}_1} + L_{\text{aux}_2}) . $$
#
# After training they are thrown away. The authors later found that the heads hardly speed up the
# start, and regularise rather (Szegedy et al. 2016). The paper announces twelve times fewer
# parameters than AlexNet; from its table, with biases and without the heads, one counts what is
# printed above.

# %% [markdown]
# ## 11. ResNet: why deeper was worse
#
# By 2015 nets of 30 layers could be started: initialisation was understood, batch normalisation was
# there. And then something odd. Take a plain net, repeat its blocks until it is deep, and train it.
# Compare with the same net in which every block *adds* its input to its output:


# %%
class Block(nn.Module):
    """Two 3 x 3 convolutions; with a shortcut the input is added before the last ReLU."""

    def __init__(self, channels: int, shortcut: bool) -> None:
        super().__init__()
        convs = [nn.Conv2d(channels, channels, 3, padding=1, bias=False) for _ in range(2)]
        norms = [nn.BatchNorm2d(channels) for _ in range(2)]  # unit 03
        self.body = nn.Sequential(convs[0], norms[0], nn.ReLU(), convs[1], norms[1])
        self.shortcut, self.skipped = shortcut, False

    def forward(self, x: Tensor) -> Tensor:
        if self.skipped:  # for an experiment below
            return x
        return F.relu(x + self.body(x)) if self.shortcut else F.relu(self.body(x))


# %%
def tower(blocks: int, shortcut: bool, channels: int = 16) -> nn.Sequential:
    """A stem, blocks on 4 x 4 maps, global average, linear: 2 blocks + 2 layers."""
    net = nn.Sequential(
        nn.Conv2d(1, channels, 3, stride=2, padding=1, bias=False), nn.BatchNorm2d(channels),
        nn.ReLU(), *[Block(channels, shortcut) for _ in range(blocks)],
        nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(channels, 10),
    )  # fmt: skip
    for layer in net.modules():
        if isinstance(layer, nn.Conv2d):
            nn.init.kaiming_normal_(layer.weight, mode="fan_out", nonlinearity="relu")
    return net


def fit(net: nn.Module, epochs: int = 10) -> list[float]:
    """SGD with momentum; the mean training loss of each epoch."""
    optimiser = torch.optim.SGD(net.parameters(), lr=0.02, momentum=0.9, weight_decay=1e-4)
    draws, losses = torch.Generator().manual_seed(0), []
    x, y = square(data.train_x) * 2 - 1, y_train
    for _ in range(1 if quick else epochs):
        parts = []
        for rows in torch.randperm(len(x), generator=draws).to(device).split(64):
            loss = F.cross_entropy(net(x[rows]), y[rows])
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
            parts.append(loss.detach())
        losses.append(torch.stack(parts).mean().item())
    return losses


# %%
towers, fig = {}, plt.figure(figsize=(8.6, 2.8))
for ax, shortcut in zip(fig.subplots(1, 2, sharey=True), (False, True), strict=True):
    for blocks in (3, 20):
        net = fresh(lambda s=shortcut, b=blocks: tower(b, s))
        losses = fit(net)
        net.eval()
        seen, new = (accuracy(net, square(x) * 2 - 1, y) for x, y in
                     ((data.train_x, y_train), (data.valid_x, y_valid)))  # fmt: skip
        towers[blocks, shortcut] = net
        kind = "with shortcuts" if shortcut else "plain"
        print(f"{kind:15}{2 * blocks + 2:3} layers: training digits {seen:.1%}, new ones {new:.1%}")
        ax.plot(range(1, len(losses) + 1), losses, label=f"{2 * blocks + 2} layers")
    ax.set(xlabel="epoch", title=kind, ylim=(0, 2.5))
    ax.legend()
fig.axes[0].set_ylabel("training loss")
fig.suptitle("The deeper plain net does worse on the very digits it is trained on")
plt.show()

# %% [markdown]
# The deep plain net is worse on its **training** digits: this is not overfitting. And it *could* do
# at least as well as the shallow one: let three blocks be the shallow net and the rest pass their
# input on unchanged. That solution exists, and gradient descent does not find it. He et al. (2016)
# called this the **degradation problem**. It is hard for a stack of convolutions, normalisations
# and ReLUs to do *nothing*. (With shortcuts both depths learn all training digits; on so easy a
# task depth has little to win.)
#
# So make "nothing" the easy thing. Instead of the wanted map $H(\mathbf{x})$ the block learns the
# **residual** $F(\mathbf{x}) = H(\mathbf{x}) - \mathbf{x}$ and adds $\mathbf{x}$:
#
# $$ \mathbf{x}_{l+1} = \mathbf{x}_l + F_l(\mathbf{x}_l) . $$
#
# With $F = 0$ the block is the identity. (After the sum comes a ReLU, which changes nothing as
# $\mathbf{x}_l \ge 0$ already.)

# %% [markdown]
# **What the gradient sees.** With $J_l = \partial F_l / \partial \mathbf{x}_{l}$ the chain rule for
# blocks $l = 0, \dots, M-1$ gives (without the last ReLUs)
#
# $$ \frac{\partial L}{\partial \mathbf{x}_0} = (I + J_0)^\top (I + J_1)^\top \cdots (I +
# J_{M-1})^\top \frac{\partial L}{\partial \mathbf{x}_M} . $$
#
# Multiply out: for two blocks $I + J_0 + J_1 + J_1 J_0$ (transposed), in general one term for each
# of the $2^M$ subsets of blocks. One of them is $I$: whatever the blocks do, the gradient of the
# loss arrives at the start unchanged, plus corrections. In the plain net there is one term, the
# product of all $J_l$. A residual net is a crowd of short paths (Veit et al. 2016). If that is so,
# it should survive an operation that kills a plain net: **take one block out of the trained
# network.**

# %%
fig, ax = plt.subplots(figsize=(6.4, 2.7))
marks = {(20, True): "o-", (3, True): "s--", (3, False): "x:"}
for (blocks, shortcut), fmt in marks.items():
    net = towers[blocks, shortcut]
    without = []
    for block in (layer for layer in net if isinstance(layer, Block)):
        block.skipped = True
        without.append(accuracy(net, square(data.valid_x) * 2 - 1, y_valid))
        block.skipped = False
    name = f"{'with shortcuts' if shortcut else 'plain'}, {blocks} blocks"
    ax.plot(range(1, blocks + 1), without, fmt, label=name)
ax.axhline(0.1, color="0.5", lw=0.8)
ax.text(20, 0.12, "guessing", ha="right", color="0.4")
ax.set(
    xlabel="block taken out", ylabel="validation accuracy", ylim=(0, 1), xticks=[1, 5, 10, 15, 20]
)
ax.set_title("One block missing after training")
ax.legend(loc="center right")
plt.show()

# %% [markdown]
# Most of the twenty residual blocks can go without retraining (not the first few, where the picture
# is still being made); the plain net, even the shallow one, falls apart whichever is taken. Each
# residual block only *corrects* a picture that flows past it.
#
# **The blocks of the paper.** *Basic* (ResNet-18, 34): two 3 × 3 with $C$ channels, $18C^2$
# weights. *Bottleneck* (50, 101, 152): 1 × 1 from $4C$ channels down to $C$, 3 × 3 at $C$, 1 × 1 up
# to $4C$: $4C^2 + 9C^2 + 4C^2 = 17C^2$ weights, as dear as a basic block but between maps four
# times as wide. Every convolution is followed by batch normalisation and needs no bias.
#
# **Where the size changes** (half the side, twice the channels, so that a layer's multiply-adds
# stay the same) the first convolution has *stride 2*; there is no pooling between stages. The
# shortcut has to change, too: (A) every second pixel of $\mathbf{x}$, and zeros for the new
# channels, no parameters; (B) a 1 × 1 convolution with stride 2. The paper's nets for CIFAR-10 use
# A, torchvision's use B.


# %%
def zero_padded(x: Tensor, channels: int) -> Tensor:
    """Shortcut A: every second pixel, new channels filled with zeros."""
    return F.pad(x[:, :, ::2, ::2], (0, 0, 0, 0, 0, channels - x.shape[1]))


x = torch.randn(2, 16, 7, 5)
y, z = zero_padded(x, 32), nn.Conv2d(16, 32, 1, stride=2, bias=False)(x)
print(f"A {tuple(y.shape)}, zero channels: {(y == 0).all((0, 2, 3)).sum()}; B {tuple(z.shape)}")


def cifar_count(n: int, projected: bool) -> int:
    """Parameters of the CIFAR net of 6n + 2 layers: 16, 32, 64 channels; BN has 2 a channel."""
    count, c = 3 * 16 * 9 + 2 * 16, 16
    for width in (16, 32, 64):
        for i in range(n):
            first = c if i == 0 else width
            count += 9 * first * width + 9 * width * width + 4 * width
            if projected and first != width:
                count += first * width + 2 * width
        c = width
    return count + 64 * 10 + 10


for n in (3, 5, 7, 9, 18):
    a, b = cifar_count(n, projected=False), cifar_count(n, projected=True)
    print(f"ResNet-{6 * n + 2:<4} for CIFAR-10: {a:9,} parameters; with B {b - a:,} more")

# %% [markdown]
# **GAP again.** Because the head averages over whatever map arrives, the network takes other image
# sizes. (It was *trained* for one scale of things, so sizes far from it cost accuracy.)

# %%
models_of = torchvision.models
with torch.device("meta"):
    resnet = models_of.resnet18().eval()
    for height, width in [(224, 224), (160, 320), (97, 131)]:
        out = resnet(torch.empty(1, 3, height, width))
        print(f"ResNet-18, {height} x {width}: {tuple(out.shape)}")
    try:
        lenet()(torch.empty(1, 1, 40, 40))
    except RuntimeError as error:
        print("LeNet-5, 40 x 40:", error)

# %% [markdown]
# An ensemble of such nets won ILSVRC 2015 with 3.57 % top-5 error. The 152 layers need fewer
# multiply-adds than VGG's 19. Shortcuts are now in nearly every deep network, transformers included
# (unit 06).
#
# ## 12. After ResNet: more connections, cheaper layers
#
# **DenseNet** (Huang et al. 2017) concatenates where ResNet adds. In a dense block, layer $l$ reads
# the channels of the block's input *and of all layers before it*, and contributes only a few new
# ones, the growth rate $k$. With $L$ layers, layer $l$ has $l$ incoming connections ($l - 1$ layers
# and the input), together $1 + 2 + \dots + L = L(L+1)/2$ instead of $L$.

# %%
L = 5
edges = [(source, layer) for layer in range(1, L + 1) for source in range(layer)]
print(f"{L} layers: {len(edges)} connections = L(L+1)/2 = {L * (L + 1) // 2}")
channels, path = 64, []
for number, depth in enumerate((6, 12, 24, 16)):  # DenseNet-121
    channels += 32 * depth
    path.append(channels)
    channels = channels // 2 if number < 3 else channels  # a transition layer halves them
print("DenseNet-121, growth rate 32: channels at the end of the four blocks", path)

# %% [markdown]
# As each layer reads up to a thousand channels, a 1 × 1 convolution to $4k$ goes before the 3 × 3;
# between blocks a **transition** halves channels (1 × 1) and sides (2 × 2 average). Features are
# reused instead of recomputed: few parameters, but many values to keep, as we shall see.
#
# **EfficientNet** (Tan and Le 2019) starts from a block made for telephones (MobileNetV2, Sandler
# et al. 2018), **MBConv**, the bottleneck turned inside out: wide in the middle, narrow outside.

# %% [markdown]
# 1. 1 × 1 *expands* $C$ channels to $6C$;
# 2. a **depthwise** 3 × 3 or 5 × 5 filters each of them by itself (section 4);
# 3. **squeeze-and-excite** (Hu et al. 2018): the means $\mathbf{s}$ of all channels (GAP) go
#    through two small linear layers and a sigmoid, and each channel is multiplied by its own number
#    in $[0, 1]$, so that a channel can be turned down because of what stands anywhere in the image;
# 4. 1 × 1 *projects* to $C$ channels, without an activation (a ReLU on few channels would destroy
#    information); a shortcut joins the narrow ends where the shapes agree.

# %%
c, places = 80, 14 * 14
wide, squeezed = 6 * c, c // 4
cost = {
    "expand 1 x 1": wide * c * places, "depthwise 3 x 3": 9 * wide * places,
    "squeeze, excite": 2 * wide * squeezed, "project 1 x 1": c * wide * places,
    "one ordinary 3 x 3, 6C to 6C": 9 * wide * wide * places,
}  # fmt: skip
for name, macs in cost.items():
    print(f"{name:30}{macs / 1e6:8.2f} M multiply-adds")

# %% [markdown]
# The basic net B0 was found by automatic search. The others are B0 *scaled*. A net can be made
# deeper (factor $d$), wider ($w$), or fed larger images ($r$). By formula (6) the multiply-adds of
# a layer are $M C K^2 H' W'$: proportional to $d$, to $w^2$ (both $M$ and $C$ grow), and to $r^2$.
# **Compound scaling** grows all three together, $d = \alpha^\phi$, $w = \beta^\phi$, $r =
# \gamma^\phi$, with $\alpha \beta^2 \gamma^2 \approx 2$, so that each step of $\phi$ about doubles
# the work. A small grid search on B0 gave 1.2, 1.1, 1.15.

# %%
print(f"1.2 · 1.1² · 1.15² = {1.2 * 1.1**2 * 1.15**2:.2f}")
sizes = {"b0": 224, "b1": 240, "b2": 260, "b3": 300}
counted = {name: meter(getattr(models_of, f"efficientnet_{name}"), s) for name, s in sizes.items()}
base = total(counted["b0"], "macs")
for name, rows in counted.items():
    ratio = total(rows, "macs") / base
    print(f"{name.upper()} at {sizes[name]}: {total(rows, 'params'):10,} parameters,", end=" ")
    print(f"{total(rows, 'macs') / 1e9:.2f} G multiply-adds, {ratio:.2f} times B0's,", end=" ")
    print(f"so φ is about {math.log(ratio) / math.log(1.92):.1f}")

# %% [markdown]
# ## 13. Three budgets, three addresses
#
# Which network is the smallest? Count three things for one photograph of 224 × 224 pixels, stage by
# stage, a stage being all layers whose maps have the same side.

# %%
STAGES = ["112", "56", "28", "14", "7", "linear"]
nets = {
    "AlexNet": models_of.alexnet, "VGG-16": models_of.vgg16,
    "GoogLeNet": lambda: models_of.googlenet(init_weights=False, aux_logits=False),
    "ResNet-50": models_of.resnet50, "DenseNet-121": models_of.densenet121,
    "EfficientNet-B0": models_of.efficientnet_b0,
}  # fmt: skip
bills = {name: meter(make) for name, make in nets.items()}
print(f"{'':17}{'parameters':>12}{'values kept':>14}{'multiply-adds':>16}")
for name, rows in bills.items():
    p, v, m = (total(rows, what) / 1e6 for what in ("params", "values", "macs"))
    print(f"{name:17}{p:10.1f} M{v:12.1f} M{m:14,.0f} M")
for what, title in {"params": "parameters", "values": "values", "macs": "multiply-adds"}.items():
    ranked = sorted(bills, key=lambda name: total(bills[name], what))
    print(f"{title:14} fewest {ranked[0]:16} most {ranked[-1]}")

# %%
fig, axes = plt.subplots(1, 3, figsize=(9.8, 3.3), sharey=True)
hatches = ["", "//", "", "xx", "", "\\\\", ""]
greys = ["0.95", "0.8", "0.7", "0.55", "0.4", "0.3", "0.1"]
labels = ["224", *STAGES]
titles = {"params": "parameters", "values": "values kept", "macs": "multiply-adds"}
for ax, (what, title) in zip(axes, titles.items(), strict=True):
    for i, rows in enumerate(bills.values()):
        left = 0.0
        for stage, (grey, hatch) in enumerate(zip(greys, hatches, strict=True)):
            part = sum(getattr(row, what) for row in rows if row.stage == stage)
            part /= total(rows, what)
            ax.barh(i, part, left=left, color=grey, hatch=hatch, ec="w", lw=0.5,
                    label=labels[stage] if i == 0 else None)  # fmt: skip
            left += part
    ax.set(xlim=(0, 1), xlabel="share", title=title)
axes[0].set(yticks=range(len(bills)), yticklabels=list(bills))
axes[0].invert_yaxis()
axes[2].legend(title="side of map", loc="upper left", bbox_to_anchor=(1, 1))
plt.show()

# %%
rows = bills["VGG-16"]
for what in ("params", "values", "macs"):
    by_stage = torch.tensor([
        sum(getattr(row, what) for row in rows if row.stage == stage) for stage in range(7)
    ])  # fmt: skip
    best = int(by_stage.argmax())
    print(f"VGG-16, most {what:7} in stage {labels[best]:7}", end="")
    print(f"{by_stage[best] / by_stage.sum():.0%} of all")

# %% [markdown]
# Read the bars of VGG from left to right: parameters sit at the very *end*, values at the very
# *beginning*, work in the *middle*. The others do much the same, since going down a stage quarters
# the places and (mostly) doubles the channels: values per layer halve, weights per layer grow
# fourfold, multiply-adds stay the same. So the remedy depends on the complaint. Does the *file* not
# fit into the telephone? Attack the last layers. Out of *memory* while training? The first ones:
# smaller images, smaller batches. Too *slow*? The middle.
#
# And no network is the smallest in everything: AlexNet has few values and many parameters, DenseNet
# the other way round, EfficientNet hardly any multiply-adds. Are multiply-adds seconds?


# %%
def milliseconds(make: Callable[[], nn.Module], repeat: int = 1 if quick else 3) -> float:
    """Best time for one image, without gradient."""
    net, image = make().eval().to(device), torch.rand(1, 3, 224, 224, device=device)
    best = math.inf
    with torch.inference_mode():
        for _ in range(repeat + 1):  # the first run is slow
            start = time.perf_counter()
            net(image).sum().item()  # .item() waits for the device
            best = min(best, time.perf_counter() - start)
    return 1000 * best


for name in ("resnet18", "efficientnet_b0"):
    make = getattr(models_of, name)
    macs, ms = total(meter(make), "macs") / 1e6, milliseconds(make)
    print(f"{name:16}{macs:7,.0f} M multiply-adds, {ms:6.1f} ms: {macs / ms:6.1f} M per ms")

# %% [markdown]
# EfficientNet does fewer multiply-adds per millisecond, so that much of its advantage on paper is
# lost: a depthwise 3 × 3 layer uses each number that it fetches nine times, an ordinary one $9M$
# times, and fetching is the slow part. Measure time where it will be spent.

# %% [markdown]
# ## 14. Scores, timeline, practice
#
# **Top-5 error** is the share of images whose label is not among the five highest scores (unit 00).
# ImageNet uses it because a photograph often shows several things and the label names one. It
# flatters: with 1,000 classes top-5 asks for the best half percent, with 10 classes it would be
# worthless.

# %%
with torch.no_grad():
    ranked = models["CNN"](canvas(data.test_x)).topk(5).indices
hits = (ranked == y_test[:, None]).cumsum(1).float().mean(0)
print("digits, test, top-1 to top-5 error:", *(f"{1 - h:.1%}" for h in hits))

# %% [markdown]
# | year | network | new | top-5 error, ILSVRC |
# |---|---|---|---|
# | 1980 | Neocognitron | local, repeated detectors | |
# | 1989 | LeCun et al. | the same, trained by gradient | |
# | 1998 | LeNet-5 | cheques | |
# | 2011 | no network | designed features, winner | 25.8 % |
# | 2012 | AlexNet | ReLU, dropout, two GPUs | 15.3 % |
# | 2014 | VGG | only 3 × 3, deep | 7.3 % |
# | 2014 | GoogLeNet | branches, 1 × 1, GAP | 6.7 % |
# | 2015 | ResNet | shortcuts, batch normalisation | 3.6 % |
# | 2017 | DenseNet | concatenation | |
# | 2019 | EfficientNet | depthwise, compound scaling | |
#
# (The errors from 2012 on are of ensembles on the test set, as submitted. A person who had trained
# for it made 5.1 %, Russakovsky et al. 2015.)

# %% [markdown]
# **Today.** ResNet-50, trained with newer recipes, is still the baseline to beat; ConvNeXt (Liu et
# al. 2022) is a ResNet with large depthwise kernels and the habits of transformers. Vision
# transformers (unit 06) drop the assumption of section 1 and buy it back with data. Where data are
# few, images large, or the answer is a map (medicine, satellites, telephones, the U-Nets inside
# many image generators), convolutions remain. Hardly anyone trains them from nothing: unit 04
# starts from published weights.
#
# **ONNX** is a file format for trained networks: the graph of operations with its weights, without
# Python. `torch.onnx.export(net, (x,), "net.onnx", dynamo=True)` writes it,
# `onnxruntime.InferenceSession("net.onnx").run(None, {name: x.numpy()})` runs it on a server, a
# telephone, or in a browser. Call `net.eval()` before, name the axes that may vary (the batch, the
# image's sides), and compare the outputs on a few inputs: the export is a translation, and
# translations are checked.

# %% [markdown]
# | by hand in this unit | in practice |
# |---|---|
# | formula (3) | `F.conv2d`, `nn.Conv2d(C, M, K, stride, padding, dilation, groups)` |
# | windows as a matrix | `F.unfold`; inside the library also Winograd's and Fourier's ways |
# | $A^\top$ | `F.conv_transpose2d`, `nn.ConvTranspose2d` |
# | pooling, GAP | `nn.MaxPool2d`, `nn.AvgPool2d`, `nn.AdaptiveAvgPool2d(1)` |
# | sizes and parameters | the device `meta`; forward hooks |
# | the networks | `torchvision.models.resnet50(weights="DEFAULT")`; the package `timm` |

# %% [markdown]
# ## 15. One experiment for you
#
# In `cnn()` of section 1 replace `GlobalMax()` by the mean, `nn.AdaptiveAvgPool2d(1)` and
# `nn.Flatten()`. Before you run it, guess: is the new network still unmoved by a shift? Is it as
# accurate after the same number of epochs, and how much does shuffling cost it now? Then think
# about which of the two pools says "there is a loop somewhere" and which "a third of this image is
# loops".

# %% [markdown]
# ## Summary
#
# 1. A linear layer that treats every place alike *is* a convolution: constant diagonals, $K$
#    weights for $N^2$. It is a bet on neighbourhood; shuffled pixels lose it.
# 2. $O = \lfloor (N + 2P - D(K-1) - 1)/S \rfloor + 1$; field $R \mathrel{+}= (K-1) D J$, jump $J
#    \mathrel{*}= S$; what really counts grows like $\sqrt{\text{depth}}$.
# 3. Forward is a band matrix $A$, backward $A^\top$: the flipped filter over the gradient, pulled
#    apart by the stride; $\partial L/\partial W$ sums over images and places.
# 4. Stride and pooling keep only shifts by whole strides; global pooling makes invariant and frees
#    the image's size.
# 5. AlexNet and VGG spend on one matrix; 1 × 1 and GAP ended that, shortcuts made depth trainable,
#    depthwise made it cheap. Parameters, memory and work have three different addresses.

# %% [markdown]
# ## Further reading
#
# - Y. LeCun, L. Bottou, Y. Bengio, P. Haffner, "Gradient-based learning applied to document
#   recognition", *Proceedings of the IEEE* 86 (1998), section II.
# - A. Krizhevsky, I. Sutskever, G. Hinton, "ImageNet classification with deep convolutional neural
#   networks", NIPS 2012.
# - K. Simonyan, A. Zisserman, "Very deep convolutional networks for large-scale image recognition",
#   ICLR 2015, section 3.1 on the staged initialisation.
# - C. Szegedy et al., "Going deeper with convolutions", CVPR 2015; "Rethinking the Inception
#   architecture for computer vision", CVPR 2016, section 4.
# - K. He, X. Zhang, S. Ren, J. Sun, "Deep residual learning for image recognition", CVPR 2016.
# - A. Veit, M. Wilber, S. Belongie, "Residual networks behave like ensembles of relatively shallow
#   networks", NIPS 2016: section 11's operation.
# - G. Huang et al., "Densely connected convolutional networks", CVPR 2017; M. Tan, Q. Le,
#   "EfficientNet", ICML 2019; J. Hu et al., "Squeeze-and-excitation networks", CVPR 2018.
# - W. Luo et al., "Understanding the effective receptive field in deep convolutional neural
#   networks", NIPS 2016; R. Zhang, "Making convolutional networks shift-invariant again",
#   ICML 2019.
# - K. Jarrett et al., "What is the best multi-stage architecture for object recognition?", ICCV
#   2009: random filters.
# - V. Dumoulin, F. Visin, "A guide to convolution arithmetic for deep learning", arXiv:1603.07285.
