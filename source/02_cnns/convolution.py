# %% [markdown]
# # Convolution: windows, their cost, and their gradients
#
# **Unit 02, notebook 1 of 2.** Eleven exercises; allow three and a half hours. The experiments
# run on the CPU, in well under a minute on two cores.
#
# *Afterwards you can* write a convolution in two ways and its gradient by hand, pool forwards and
# backwards, say of a stack of layers which pixels one of its outputs sees and what it costs, and
# train a small convolutional network in which no line is a library's.
#
# *You need* tensors and broadcasting in torch, and backpropagation through a linear layer:
# for $Y = XW^\top$ and a gradient $G = \partial L/\partial Y$, the gradients are $GW$ for $X$ and
# $G^\top X$ for $W$ (unit 01).
#
# *How it works.* An exercise is one cell to fill in, followed by a cell of visible tests with
# numbers small enough for paper. The hidden checks ask for what the text and the docstrings
# state, nothing else. A result stays as it is when the function is called again. The cells
# between exercises are given: run them, look, read on.

# %% setup=true
import course

course.setup("02_cnns")

# %%
import math
import time
from collections.abc import Callable, Sequence
from functools import cache

import matplotlib.pyplot as plt
import numpy as np
import torch
import torch.nn.functional as F
from matplotlib.cbook import get_sample_data
from matplotlib.patches import Rectangle
from PIL import Image
from torch import Tensor, nn

from course import expect, plots
from course.data import digits

FULL = course.profile() != "grade"  # the grader runs the same cells with less data
DEVICE = course.device()

# %% [markdown]
# ## Two networks see a bar
#
# Images of 8 × 8 pixels, each with one bar of three pixels: vertical is class 0, horizontal is
# class 1. In training all bars lie in the left half. Two networks learn the two classes there:
# a linear classifier with a weight for each pixel, and a small convolutional one, with fewer
# parameters. Both are then asked about bars in the right half. What do you expect?


# %%
def counted(height: int, width: int) -> Tensor:
    """An image (1, 1, height, width) of the numbers 1, 2, 3, ..., row by row, for the tests."""
    return torch.arange(1.0, height * width + 1).reshape(1, 1, height, width)


def bars(count: int, columns: tuple[int, int], seed: int) -> tuple[Tensor, Tensor]:
    """Images (count, 1, 8, 8), one bar each, its centre in the given columns; and the classes."""
    generator = torch.Generator().manual_seed(seed)
    label = torch.randint(0, 2, (count,), generator=generator)
    row = torch.randint(1, 7, (count,), generator=generator)
    column = torch.randint(columns[0], columns[1] + 1, (count,), generator=generator)
    x, every = torch.zeros(count, 1, 8, 8), torch.arange(count)
    for step in (-1, 0, 1):
        x[every, 0, row + step * (1 - label), column + step * label] = 1.0
    return x.to(DEVICE), label.to(DEVICE)


def learn_bars(net: nn.Module, x: Tensor, labels: Tensor) -> None:
    """Gradient descent on all images at once."""
    for _ in range(400 if FULL else 2):
        net.zero_grad()
        F.cross_entropy(net(x), labels).backward()
        for parameter in net.parameters():
            parameter.data -= 0.5 * parameter.grad


# %%
torch.manual_seed(0)
linear_net = nn.Sequential(nn.Flatten(), nn.Linear(64, 2)).to(DEVICE)
conv_net = nn.Sequential(
    nn.Conv2d(1, 4, 3), nn.ReLU(), nn.AdaptiveMaxPool2d(1), nn.Flatten(), nn.Linear(4, 2)
).to(DEVICE)
before = linear_net[1].weight.detach().clone().reshape(2, 8, 8)
left, right = bars(200, (1, 2), seed=1), bars(200, (5, 6), seed=2)
for name, net in {"linear": linear_net, "convolutional": conv_net}.items():
    learn_bars(net, *left)
    rates = [(net(x).argmax(dim=1) == labels).float().mean().item() for x, labels in (left, right)]
    size = sum(parameter.numel() for parameter in net.parameters())
    print(f"{name:14s} {size:4d} parameters   left {rates[0]:6.1%}   right {rates[1]:6.1%}")
moved = (linear_net[1].weight.detach().reshape(2, 8, 8) - before).abs().amax(dim=(0, 1))
print("largest change of a linear weight, by column:", [round(v, 2) for v in moved.tolist()])

# %% [markdown]
# On the right the linear classifier guesses. The last line says why: its weights for the right
# half have not moved *at all*. A pixel that was never lit gives no gradient to its weights, so
# what was learned at one place is known at no other. (It is unit 00's shift by one pixel again.)
#
# A convolution uses the same few weights at every place. What one window teaches, all windows
# know. This notebook builds that idea, counts what it saves, and differentiates it.
#
# **Notation.** Batch $B$, channels $C$ (an image's colours, or a layer's *feature maps*), height
# $H$, width $W$; kernel $k_h \times k_w$, stride $s$, padding $p$, dilation $d$, groups $g$.
# Images are tensors of shape $(B, C, H, W)$. A dash marks outputs: $H', W', C'$.

# %% [markdown]
# ## 1. Where a window fits
#
# A kernel of $k$ taps looks at $k$ numbers of a row of $n$, then moves on by $s$ (the *stride*)
# and looks again. The row may be lengthened by $p$ zeros at **each** end (*padding*). With
# *dilation* $d$ the taps stand $d$ apart, so that the window spans $d(k-1)+1$ numbers, with gaps.

# %% [markdown] heading="output_size"
# ### Exercise {number} · How many windows ({points} points, about 4 min)
#
# The first window starts at 0, the next at $s$, then $2s$, ...; the last one still has to **end**
# inside. The padded row has $n + 2p$ numbers and a window spans $d(k-1)+1$ of them, so starts
# from 0 to $n + 2p - d(k-1) - 1$ are possible, and every $s$-th of them is used:
#
# $$n' = \left\lfloor \frac{n + 2p - d\,(k-1) - 1}{s} \right\rfloor + 1 .$$
#
# Numbers at the end that no whole stride reaches are left out: hence *floor*. If not even one
# window fits, there are **0** windows. (Check what the formula gives then.)


# %% exercise="output_size"
def output_size(
    size: int, kernel: int, stride: int = 1, padding: int = 0, dilation: int = 1
) -> int:
    """Number of windows along one axis.

    Args:
        size: n >= 1, without the padding.
        kernel: k >= 1, number of taps.
        stride: s >= 1, from the start of a window to the start of the next.
        padding: p >= 0, at each of the two ends.
        dilation: d >= 1, from a tap to the next; 1 leaves no gap.

    Returns:
        n' >= 0, an int; 0 if no window fits.
    """
    ### BEGIN SOLUTION
    span = dilation * (kernel - 1) + 1
    return max(0, (size + 2 * padding - span) // stride + 1)
    ### END SOLUTION


# %% test="output_size"
expect(output_size(5, 3), 3, "output_size: starts 0, 1, 2")
expect(output_size(8, 3, stride=2), 3, "output_size: starts 0, 2, 4")  # 4 + 3 is 7: one is left out
expect(output_size(8, 3, stride=2, padding=1), 4, "output_size: padded to 10")
expect(output_size(7, 3, dilation=2), 3, "output_size: a window spans 5")
expect(output_size(2, 5), 0, "output_size: no room")

# %% [markdown]
# Two figures from the literature. AlexNet's first layer has 11 × 11 kernels with stride 4 and
# maps of 55 × 55. The paper says 224 × 224 for the input. Does that fit?

# %%
for size, padding in [(224, 0), (227, 0), (224, 2)]:
    print(f"input {size}, padding {padding}: maps of {output_size(size, 11, 4, padding)}")

# %% [markdown]
# It does not, without padding: 54. Programs that rebuild the net either read 227 or pad by 2, and
# both are around.
#
# ### How much padding?
#
# Two answers have names. **VALID**: none. **SAME**: so much that $n' = \lceil n/s \rceil$, which is
# $n$ for $s = 1$. By the formula above the $n'$ windows need $(n'-1)\,s + d(k-1) + 1$ numbers, so
#
# $$P = \max\bigl(0,\ (n'-1)\,s + d\,(k-1) + 1 - n\bigr), \qquad n' = \lceil n/s \rceil ,$$
#
# has to be added in total. If $P$ is odd, the odd one goes **after** (right, bottom).

# %% [markdown] heading="padding"
# ### Exercise {number} · SAME, and padding itself ({points} points, about 10 min)
#
# `same_padding` returns the two sides, $\lfloor P/2 \rfloor$ before and the rest after.
#
# `pad` puts constant borders around images: `left` and `right` lengthen the rows (the **last**
# axis, $W$), `top` and `bottom` the columns (axis $H$). The order of the four arguments is that of
# the library. The constant is zero unless `value` says otherwise (max pooling will ask for
# $-\infty$). It returns a new tensor, also when nothing is to be added, in the dtype of `x`.
#
# What pads may not be called: `F.pad` (`pad` as an attribute), `constant_pad_nd`, `ZeroPad2d`,
# `ConstantPad2d`, nor the like in numpy.


# %% exercise="padding"
def same_padding(size: int, kernel: int, stride: int = 1, dilation: int = 1) -> tuple[int, int]:
    """Padding (before, after) of one axis with which there are ceil(size / stride) windows.

    Args are those of `output_size`, without its `padding`.

    Returns:
        Two ints >= 0; if their sum is odd, the second is the larger one.
    """
    ### BEGIN SOLUTION
    windows = -(-size // stride)
    total = max(0, (windows - 1) * stride + dilation * (kernel - 1) + 1 - size)
    return total // 2, total - total // 2
    ### END SOLUTION


def pad(x: Tensor, left: int, right: int, top: int, bottom: int, value: float = 0.0) -> Tensor:
    """Borders of a constant around each image.

    Args:
        x: (B, C, H, W) floating point; not modified.
        left, right: columns to add, >= 0.
        top, bottom: rows to add, >= 0.
        value: what they are filled with.

    Returns:
        (B, C, top + H + bottom, left + W + right), a new tensor of the dtype of `x`.
    """
    ### BEGIN SOLUTION
    batch, channels, height, width = x.shape
    padded = x.new_full((batch, channels, top + height + bottom, left + width + right), value)
    padded[:, :, top : top + height, left : left + width] = x
    return padded
    ### END SOLUTION


# %% test="padding"
expect(same_padding(5, 3), (1, 1), "same_padding: three taps")
expect(same_padding(5, 4), (1, 2), "same_padding: four taps")
expect(same_padding(6, 3, stride=2), (0, 1), "same_padding: windows at 0, 2, 4")
expect(same_padding(9, 2, stride=4), (0, 1), "same_padding: windows at 0, 4, 8")
expect(same_padding(8, 2, stride=4), (0, 0), "same_padding: windows that leave gaps")
expect(same_padding(9, 3, dilation=2), (2, 2), "same_padding: a window spans 5")
small = torch.tensor([[[[1.0, 2.0], [3.0, 4.0]]]])
expect(pad(small, 1, 0, 0, 0), [[[[0, 1, 2], [0, 3, 4]]]], "pad: left")
expect(pad(small, 0, 2, 0, 1), [[[[1, 2, 0, 0], [3, 4, 0, 0], [0] * 4]]], "pad: right and bottom")
expect(pad(small, 0, 0, 1, 0, value=-7.0), [[[[-7, -7], [1, 2], [3, 4]]]], "pad: top, a value")

# %% [markdown]
# Libraries disagree here, and it has cost people days. With $n = 8$, $k = 3$, $s = 2$ both of the
# following give four outputs, so nothing complains when weights are carried from one library to
# another; but the windows stand at different places.

# %%
print("SAME (TensorFlow):  ", same_padding(8, 3, 2), "windows start at", [0, 2, 4, 6])
print("padding=1 (PyTorch):", (1, 1), "windows start at", [-1, 1, 3, 5])
print("In the second, no window reads the zero after row 7.")
sample = torch.randn(1, 1, 4, 7, generator=torch.Generator().manual_seed(0))
expect(pad(sample, 2, 1, 0, 3), F.pad(sample, (2, 1, 0, 3)), "pad: beside the library")

# %% [markdown]
# ## 2. The convolution, as it is defined
#
# Lay a window of the kernel's size on the image, multiply number by number, add up: one output.
# Move the window and do it again. The window is as **deep** as the image: it covers all input
# channels, and they are summed into one number. Each *output* channel has a kernel of its own.
# For output channel $o$, row $i$ and column $j$ (all counted from 0; $x$ is the padded image)
#
# $$y_{b,o,i,j} = \beta_o + \sum_{c=0}^{C-1}\ \sum_{u=0}^{k_h-1}\ \sum_{v=0}^{k_w-1}
# w_{o,c,u,v}\; x_{b,\,c,\;i s + u d,\;j s + v d} ,$$
#
# with weights $w$ of shape $(C', C, k_h, k_w)$ and a bias $\beta$ of shape $(C',)$. Mathematics
# calls this a *cross-correlation*; a convolution there has the kernel flipped, $x_{i-u,j-v}$. Every
# deep-learning library calls the unflipped one convolution, and so do we: **no flip**. (Learned
# weights do not care. The flip returns in the gradient, in part 4.)

# %% [markdown] heading="conv2d_naive"
# ### Exercise {number} · Window by window ({points} points, about 25 min)
#
# Write the formula as loops over what you like; clarity counts, not speed. With **groups** the
# channels are cut into $g$ consecutive blocks of equal size, input and output alike, and block $q$
# of the outputs sees only block $q$ of the inputs. So the weights have shape
# $(C', C/g, k_h, k_w)$; with $n = C'/g$ output channels in a block, output channel $o$ belongs to
# block $\lfloor o/n \rfloor$ and reads the input channels from $\lfloor o/n \rfloor\, C/g$ on.
# $g = C$ gives every channel a kernel of its own (*depthwise*).
#
# Stride, padding (zeros on all four sides) and dilation are the same for both axes; $k_h$ and
# $k_w$ may differ, and so may $H$ and $W$. $g$ divides $C$ and $C'$; at least one window fits.
#
# Throughout this notebook the library's convolutions may not be called: no `conv1d`, `conv2d`,
# `conv3d`, `conv_transpose2d` or the like as attributes, no `Conv2d`, no `F.unfold`, `F.fold`,
# `Unfold`, `Fold` (im2col and col2im), no `scipy`. The method `x.unfold(dim, size, step)` may, and
# from here on `F.pad` too.


# %% exercise="conv2d_naive"
def conv2d_naive(
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None = None,
    stride: int = 1,
    padding: int = 0,
    dilation: int = 1,
    groups: int = 1,
) -> Tensor:
    """Two-dimensional convolution (cross-correlation) by sliding a window.

    Args:
        x: (B, C, H, W) floating point; not modified.
        weight: (C', C / groups, k_h, k_w) of the same dtype.
        bias: (C',) of the same dtype, or None for no bias.
        stride, padding, dilation: for both axes; the padding is of zeros.
        groups: divides C and C'.

    Returns:
        (B, C', H', W') of the dtype of `x`, with H' and W' as in `output_size`.
    """
    ### BEGIN SOLUTION
    out_channels, depth, k_h, k_w = weight.shape
    rows = output_size(x.shape[2], k_h, stride, padding, dilation)
    columns = output_size(x.shape[3], k_w, stride, padding, dilation)
    x = pad(x, padding, padding, padding, padding)
    y = x.new_empty(len(x), out_channels, rows, columns)
    for o in range(out_channels):
        first = o // (out_channels // groups) * depth
        for i in range(rows):
            for j in range(columns):
                down = slice(i * stride, i * stride + k_h * dilation, dilation)
                along = slice(j * stride, j * stride + k_w * dilation, dilation)
                window = x[:, first : first + depth, down, along]
                y[:, o, i, j] = (window * weight[o]).sum(dim=(1, 2, 3))
    return y if bias is None else y + bias[:, None, None]
    ### END SOLUTION


# %% test="conv2d_naive"
image = counted(3, 3)
kernel = torch.tensor([[[[1.0, 2.0], [0.0, -1.0]]]])
# Top left: 1 · 1 + 2 · 2 + 0 · 4 - 1 · 5 = 0.
expect(conv2d_naive(image, kernel), [[[[0, 2], [6, 8]]]], "conv2d_naive: 3 x 3 and 2 x 2")
strided = [[[[-1, -3], [1, 8]]]]  # top left: the window's last tap only, -1 · 1
expect(conv2d_naive(image, kernel, stride=2, padding=1), strided, "conv2d_naive: padded, stride 2")
expect(conv2d_naive(image, kernel, dilation=2), [[[[-2]]]], "conv2d_naive: dilation")  # 1 + 2·3 - 9
tall = torch.tensor([[[[1.0], [-1.0]]]])
expect(conv2d_naive(image, tall), [[[[-3] * 3] * 2]], "conv2d_naive: two rows, one column")
deep = torch.cat([image, 10 * image], dim=1)  # two channels
ones = torch.ones(1, 2, 3, 3)
bias = torch.tensor([0.5])
expect(conv2d_naive(deep, ones, bias), [[[[495.5]]]], "conv2d_naive: channels are summed")
each = torch.tensor([[[[1.0]]], [[[2.0]]]])
grouped = conv2d_naive(deep, each, groups=2)
expect(grouped[0, :, 0, 0], [1, 20], "conv2d_naive: groups")

# %% [markdown]
# What can nine numbers see? A digit, and kernels written by hand: a mean, and two differences
# (Sobel's; I. Sobel and G. Feldman, 1968). `same_padding` keeps the size.

# %%
data = digits(DEVICE)
digit = data.train_x[5].reshape(1, 1, 8, 8)
smooth = torch.full((3, 3), 1 / 9)
down = torch.tensor([[-1.0, -2.0, -1.0], [0.0, 0.0, 0.0], [1.0, 2.0, 1.0]])
by_hand = torch.stack([smooth, down, down.T])[:, None].to(DEVICE)  # (3, 1, 3, 3)
before_after = same_padding(8, 3)
maps = conv2d_naive(pad(digit, *before_after, *before_after), by_hand)
fig, axes = plt.subplots(1, 4, figsize=(7, 2))
for ax, picture, name in zip(
    axes,
    [digit[0, 0], *maps[0]],
    ["a digit", "mean", "darker to lighter\ngoing down", "darker to lighter\ngoing right"],
    strict=True,
):
    limit = float(picture.abs().max())
    ax.imshow(picture.cpu(), vmin=-limit, vmax=limit)
    ax.set_title(name, fontsize=8)
    ax.axis("off")
plt.show()
expect(maps, F.conv2d(digit, by_hand, padding=1), "conv2d_naive: beside the library")

# %% [markdown]
# Grey is zero, white positive, black negative. The kernels answer *where* something is, at every
# place with the same question. A network learns the questions.
#
# ### What it costs
#
# Convolution is a linear layer with two economies: an output looks at few inputs (*local*), and
# all places *share* the weights. How much is that worth?

# %% [markdown] heading="conv_cost"
# ### Exercise {number} · Parameters and multiply-adds ({points} points, about 8 min)
#
# Each of the $C'$ output channels has $\frac{C}{g}\,k_h k_w$ weights and, if there are any, one
# bias. In computing, every weight is used once at every place of the output map, and each use is
# one multiplication and one addition, a *multiply-add* (MAC):
#
# $$\text{parameters} = C'\left(\tfrac{C}{g}\,k_h k_w + 1\right), \qquad
# \text{multiply-adds} = H'\,W'\,C'\,\tfrac{C}{g}\,k_h k_w .$$
#
# Multiply-adds are counted for **one** image, products with padded zeros included, the bias's
# addition not. Without biases the $+\,1$ is left out. (Some papers count a multiplication and an
# addition as two "FLOPs"; we do not.) Compute, do not build layers.


# %% exercise="conv_cost"
def conv_parameters(
    in_channels: int,
    out_channels: int,
    kernel: tuple[int, int],
    groups: int = 1,
    bias: bool = True,
) -> int:
    """Number of weights and biases of a convolution, an int; kernel is (k_h, k_w)."""
    ### BEGIN SOLUTION
    weights = out_channels * (in_channels // groups) * kernel[0] * kernel[1]
    return weights + out_channels * bias
    ### END SOLUTION


def conv_multiply_adds(
    size: tuple[int, int],
    in_channels: int,
    out_channels: int,
    kernel: tuple[int, int],
    stride: int = 1,
    padding: int = 0,
    dilation: int = 1,
    groups: int = 1,
) -> int:
    """Multiply-adds of a convolution for one image; size is (H, W), kernel is (k_h, k_w).

    Returns:
        An int; 0 if no window fits.
    """
    ### BEGIN SOLUTION
    rows = output_size(size[0], kernel[0], stride, padding, dilation)
    columns = output_size(size[1], kernel[1], stride, padding, dilation)
    return rows * columns * conv_parameters(in_channels, out_channels, kernel, groups, bias=False)
    ### END SOLUTION


# %% test="conv_cost"
expect(conv_parameters(3, 4, (2, 5)), 124, "conv_parameters: 4 kernels of 30, and 4 biases")
expect(conv_parameters(3, 4, (2, 5), bias=False), 120, "conv_parameters: no bias")
expect(conv_parameters(6, 4, (3, 3), groups=2), 112, "conv_parameters: groups")  # 4 · 27 + 4
macs = conv_multiply_adds((6, 9), 3, 4, (2, 5))
expect(macs, 3000, "conv_multiply_adds: 5 x 5 places, 120 weights")
expect(
    conv_multiply_adds((6, 9), 3, 4, (2, 5), 2, 1), 1920, "conv_multiply_adds: stride 2"
)  # 4 · 4
grouped = conv_multiply_adds((3, 3), 4, 6, (1, 1), groups=2)
expect(grouped, 108, "conv_multiply_adds: groups")  # 9 places, 6 · 2 weights

# %% [markdown]
# A layer of a photo network, $224 \times 224 \times 3$ to $224 \times 224 \times 64$, in four ways:

# %%
pixels = 224 * 224
rows = {
    "fully connected": ((3 * pixels + 1) * 64 * pixels, 3 * pixels * 64 * pixels),
    "convolution 3 x 3": (
        conv_parameters(3, 64, (3, 3)),
        conv_multiply_adds((224, 224), 3, 64, (3, 3), padding=1),
    ),
    "convolution 11 x 11, stride 4": (
        conv_parameters(3, 64, (11, 11)),
        conv_multiply_adds((224, 224), 3, 64, (11, 11), 4, 2),
    ),
}
later = conv_parameters(64, 64, (3, 3)), conv_multiply_adds((224, 224), 64, 64, (3, 3), padding=1)
for name, (parameters, macs) in {**rows, "the next 3 x 3, 64 to 64": later}.items():
    print(f"{name:30s} {parameters:18,d} parameters {macs:18,d} multiply-adds")

# %% [markdown]
# The fully connected layer would need almost two terabytes for its float32 weights. Sharing brings
# the count below two thousand. But look at the other column: the last layer has some 37,000
# parameters and well over a billion multiply-adds. **Convolutions are small and slow**; fully
# connected layers are large and quick, since each of their weights is used once. Both numbers are
# to be looked at, and the second notebook of this unit does so for whole networks.

# %% [markdown]
# ### The smallest kernel
#
# With $k = 1$ nothing is left of the neighbourhood: $y_{b,o,i,j} = \beta_o + \sum_c w_{o,c}\,
# x_{b,c,i,j}$. It is a linear layer applied to the vector of $C$ channels of each pixel, with the
# same weights at all pixels (M. Lin et al., *Network in Network*, 2013). Why should one want
# that? To have fewer channels: every later layer becomes cheaper by the same factor. Which
# few mixtures of the channels keep most of the image? Principal component analysis knows.

# %% [markdown] heading="conv1x1"
# ### Exercise {number} · One by one, and principal channels ({points} points, about 15 min)
#
# **`conv1x1`**: the formula above, for weights of shape $(C', C)$, without any loop over pixels
# (and so without `conv2d_naive`): the number of tensor operations may not depend on $H$ or $W$.
#
# **`principal_channels`** takes all $N = B\,H\,W$ pixels of a batch as vectors $\mathbf z_n$ of
# $C$ channels. With their mean $\boldsymbol\mu$, the covariance is the $C \times C$ matrix
#
# $$\Sigma = \frac1N\sum_{n=1}^N (\mathbf z_n - \boldsymbol\mu)
# (\mathbf z_n - \boldsymbol\mu)^\top .$$
#
# Its eigenvectors of length 1 are the principal directions: the first is the direction in which
# the pixels vary most. Return $\boldsymbol\mu$ and the eigenvectors **as rows**, the one of the
# largest eigenvalue first; the sign of a row is free. (`torch.linalg.eigh` gives eigenvectors as
# *columns*, the smallest eigenvalue first.) `pca_lowrank`, `svd_lowrank` and `sklearn` may not be
# used; `eigh` and `svd` may.


# %% exercise="conv1x1"
def conv1x1(x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """Mix the channels of each pixel.

    Args:
        x: (B, C, H, W) floating point; not modified.
        weight: (C', C) of the same dtype.
        bias: (C',) of the same dtype, or None for no bias.

    Returns:
        (B, C', H, W) of the dtype of `x`.
    """
    ### BEGIN SOLUTION
    batch, channels, height, width = x.shape
    y = (weight @ x.reshape(batch, channels, -1)).reshape(batch, -1, height, width)
    return y if bias is None else y + bias[:, None, None]
    ### END SOLUTION


def principal_channels(x: Tensor) -> tuple[Tensor, Tensor]:
    """Mean and principal directions of the pixels' channel vectors.

    Args:
        x: (B, C, H, W) floating point, B H W > C; not modified.

    Returns:
        The mean (C,) and the directions (C, C): orthonormal rows, largest variance first; both of
        the dtype of `x`.
    """
    ### BEGIN SOLUTION
    pixels = x.transpose(0, 1).flatten(1)  # (C, B H W)
    mean = pixels.mean(dim=1)
    centred = pixels - mean[:, None]
    _, vectors = torch.linalg.eigh(centred @ centred.T)
    return mean, vectors.T.flip(0)
    ### END SOLUTION


# %% test="conv1x1"
two = torch.tensor([[[[1.0, 2.0, 3.0]], [[10.0, 20.0, 30.0]]]])  # two channels of 1 x 3 pixels
mix = torch.tensor([[1.0, 1.0], [-1.0, 0.0], [0.0, 2.0]])
mixed = conv1x1(two, mix, torch.tensor([0.0, 0.5, 0.0]))
expect(mixed[0, :, 0], [[11, 22, 33], [-0.5, -1.5, -2.5], [20, 40, 60]], "conv1x1: 2 to 3 channels")
# Pixels (1, 2), (4, 6) and (7, 10) lie on a line of slope 4 : 3.
line = torch.tensor([[[[1.0, 4.0, 7.0]], [[2.0, 6.0, 10.0]]]])
mean, directions = principal_channels(line)
expect(mean, [4, 6], "principal_channels: mean")
expect(directions.abs(), [[0.6, 0.8], [0.8, 0.6]], "principal_channels: directions up to sign")

# %% [markdown]
# A photograph (it comes with matplotlib: Grace Hopper, who wrote the first compiler) has three
# channels. The next cell sends its pixels through a 1 × 1 convolution to $k$ channels, whose rows
# are the first $k$ directions $V_k$, and back through another with $V_k^\top$. The centring is
# done by the biases: $-V_k\boldsymbol\mu$ on the way there, $\boldsymbol\mu$ on the way back.

# %%
photo = Image.open(str(get_sample_data("grace_hopper.jpg", asfileobj=False)))
photo = np.asarray(photo.resize((96, 112) if FULL else (12, 14)))
photo = torch.tensor(photo).permute(2, 0, 1)[None].float().to(DEVICE) / 255  # (1, 3, 112, 96)
mean, directions = principal_channels(photo)
variance = photo.var(dim=(2, 3), correction=0).sum().item()
versions = {"3 channels": photo}
for k in (2, 1):
    code = conv1x1(photo, directions[:k], -(directions[:k] @ mean))  # (1, k, 112, 96)
    back = conv1x1(code, directions[:k].T, mean)
    lost = (photo - back).square().sum(dim=1).mean().item() / variance
    versions[f"{k} channel{'s' if k > 1 else ''}\n{1 - lost:.1%} of the variance"] = back
fig, axes = plt.subplots(1, 3, figsize=(6, 2.6))
for ax, (name, picture) in zip(axes, versions.items(), strict=True):
    ax.imshow(picture[0].permute(1, 2, 0).clamp(0, 1).cpu())
    ax.set_title(name, fontsize=8)
    ax.axis("off")
plt.show()
print("first direction (red, green, blue):", [round(v, 2) for v in directions[0].abs().tolist()])

# %% [markdown]
# One number for each pixel keeps most of the variance: the first direction is roughly
# brightness. Two numbers bring most of the colour back. The same happens to the hundreds of maps
# inside a network: they resemble each other, and a learned 1 × 1 convolution in front of an
# expensive layer (a *bottleneck*, notebook 2) loses little. To *which pixel* a vector belongs does
# not matter to a 1 × 1 convolution at all: it sees no shape.

# %% [markdown]
# ## 3. The convolution as a matrix product
#
# Your loops compute the right thing slowly. Every library has had the same trick since 2006
# (K. Chellapilla et al., *High performance convolutional neural networks for document
# processing*): write all windows as the columns of one big matrix; then all outputs are *one*
# product of matrices, which is what computers do best.
#
# The matrix for one image has $C\,k_h k_w$ rows, one for each number of a window, and $H'W'$
# columns, one for each window. For a channel of 3 × 3 and windows of 2 × 2 it is
#
# $$\begin{pmatrix} 1&2&3\\4&5&6\\7&8&9\end{pmatrix} \quad\longrightarrow\quad
# \begin{pmatrix} 1&2&4&5\\ 2&3&5&6\\ 4&5&7&8\\ 5&6&8&9 \end{pmatrix} .$$
#
# Read a column: it is a window. Read a **row**: it is the image as one tap of the kernel sees it,
# a strided slice. That makes it easy to build: $k_h k_w$ slices, no loop over windows.

# %% [markdown] heading="unfold"
# ### Exercise {number} · Unfold and fold ({points} points, about 30 min)
#
# **`unfold`** (im2col). Row $(c, u, v)$, counted as $c\,k_h k_w + u\,k_w + v$, and column
# $(i, j)$, counted as $i\,W' + j$, hold the number of the padded image
#
# $$M_{(c,u,v),(i,j)} = x_{c,\;i s + u d,\;j s + v d} .$$
#
# **`fold`** (col2im) takes such a matrix back to an image of `size` $(H, W)$. Where windows
# overlap, a pixel stands in the matrix several times; `fold` **adds** all its copies. What belongs
# to padding is dropped; a pixel that no window has reached is 0. So `fold` does not undo `unfold`:
# it is its *transpose*. Unfolding is linear (each entry copies a pixel), so it is a matrix $U$ of
# zeros and ones, and `fold` is $U^\top$:
#
# $$\langle U x, m\rangle = \langle x, U^\top m\rangle \quad\text{for all } x, m .$$
#
# Rows and columns of $M$ are numbered as in the library. Loop over the taps, not over the windows:
# each of the two may take at most $20 + 20\,k_h k_w$ tensor operations, whatever the sizes are.
# (Whatever torch carries out counts; an index such as `m[:, :, u, v]` counts once for each axis
# that it cuts, here twice.) At least one window fits. Forbidden is what exercise 3 forbids.


# %% exercise="unfold"
def unfold(
    x: Tensor, kernel: tuple[int, int], stride: int = 1, padding: int = 0, dilation: int = 1
) -> Tensor:
    """Write all windows as columns.

    Args:
        x: (B, C, H, W) floating point; not modified.
        kernel: (k_h, k_w).
        stride, padding, dilation: for both axes; the padding is of zeros.

    Returns:
        (B, C k_h k_w, H' W') of the dtype of `x`: rows in the order of (C, k_h, k_w), columns in
        that of (H', W'), the last index running fastest.
    """
    ### BEGIN SOLUTION
    rows = output_size(x.shape[2], kernel[0], stride, padding, dilation)
    columns = output_size(x.shape[3], kernel[1], stride, padding, dilation)
    x = pad(x, padding, padding, padding, padding)
    taps = []
    for u in range(kernel[0]):
        down = slice(u * dilation, u * dilation + rows * stride, stride)
        for v in range(kernel[1]):
            along = slice(v * dilation, v * dilation + columns * stride, stride)
            taps.append(x[:, :, down, along])
    return torch.stack(taps, dim=2).reshape(len(x), -1, rows * columns)
    ### END SOLUTION


def fold(
    columns: Tensor,
    size: tuple[int, int],
    kernel: tuple[int, int],
    stride: int = 1,
    padding: int = 0,
    dilation: int = 1,
) -> Tensor:
    """The transpose of `unfold`: add up what belongs to the same pixel.

    Args:
        columns: (B, C k_h k_w, H' W'), as `unfold` makes it from images of that size; not modified.
        size: (H, W), without padding.
        kernel, stride, padding, dilation: as for `unfold`.

    Returns:
        (B, C, H, W) of the dtype of `columns`.
    """
    ### BEGIN SOLUTION
    (height, width), (k_h, k_w) = size, kernel
    h = output_size(height, k_h, stride, padding, dilation)
    w = output_size(width, k_w, stride, padding, dilation)
    taps = columns.reshape(len(columns), -1, k_h, k_w, h, w)
    empty = columns.new_zeros(len(columns), taps.shape[1], height, width)
    x = pad(empty, padding, padding, padding, padding)
    for u in range(k_h):
        down = slice(u * dilation, u * dilation + h * stride, stride)
        for v in range(k_w):
            along = slice(v * dilation, v * dilation + w * stride, stride)
            x[:, :, down, along] += taps[:, :, u, v]
    return x[:, :, padding : padding + height, padding : padding + width]
    ### END SOLUTION


# %% test="unfold"
image = counted(3, 3)
windows = [[1, 2, 4, 5], [2, 3, 5, 6], [4, 5, 7, 8], [5, 6, 8, 9]]
expect(unfold(image, (2, 2)), [windows], "unfold: windows of 2 x 2")
expect(unfold(image, (1, 2), stride=2), [[[1, 7], [2, 8]]], "unfold: 1 x 2, stride 2")
expect(unfold(image, (2, 1), dilation=2), [[[1, 2, 3], [7, 8, 9]]], "unfold: 2 x 1, dilation 2")
deep = torch.cat([image, 10 * image], dim=1)  # two channels
expect(unfold(deep[..., :1], (3, 1)), [[[1], [4], [7], [10], [40], [70]]], "unfold: two channels")
corners = [[[0, 0, 0, 4], [0, 0, 3, 0], [0, 2, 0, 0], [1, 0, 0, 0]]]
expect(unfold(counted(2, 2), (2, 2), 2, 1), corners, "unfold: padded")
# How many of the four windows of 2 x 2 hold each pixel?
holds = [[[[1, 2, 1], [2, 4, 2], [1, 2, 1]]]]
expect(fold(torch.ones(1, 4, 4), (3, 3), (2, 2)), holds, "fold: overlaps are added")
reached = [[[[1, 1, 0], [1, 1, 0], [0, 0, 0]]]]
expect(fold(torch.ones(1, 4, 1), (3, 3), (2, 2), 2), reached, "fold: pixels not reached")
expect(fold(torch.ones(1, 4, 4), (2, 2), (2, 2), 2, 1), [[[[1] * 2] * 2]], "fold: padding dropped")

# %% [markdown]
# The test of a transpose is the equation itself, with random numbers on both sides. It finds any
# pixel that the two treat differently, without another implementation to compare with. What both
# have wrong alike it does not find (rows in another order, say); the last two lines do.

# %%
generator = torch.Generator().manual_seed(0)
x = torch.randn(2, 3, 7, 6, generator=generator, dtype=torch.float64)
options = {"kernel": (3, 2), "stride": 2, "padding": 1, "dilation": 2}
m = torch.randn(unfold(x, **options).shape, generator=generator, dtype=torch.float64)
inside, outside = (unfold(x, **options) * m).sum(), (x * fold(m, (7, 6), **options)).sum()
print(f"<unfold x, m> = {inside.item():.12f}    <x, fold m> = {outside.item():.12f}")
torch_options = {"kernel_size": (3, 2), "stride": 2, "padding": 1, "dilation": 2}
expect(unfold(x, **options), F.unfold(x, **torch_options), "unfold: beside the library")
expect(fold(m, (7, 6), **options), F.fold(m, (7, 6), **torch_options), "fold: beside the library")

# %% [markdown] heading="conv2d"
# ### Exercise {number} · Convolution by one product ({points} points, about 12 min)
#
# Write the kernel of each output channel as a row: $W$ becomes a matrix of shape
# $(C',\ C\,k_h k_w)$ whose columns are numbered as the rows of $M$. Then
#
# $$Y = W M + \boldsymbol\beta, \qquad (C',\ C\,k_hk_w) \cdot (C\,k_hk_w,\ H'W') = (C',\ H'W') .$$
#
# With groups, cut both into $g$ blocks, $W$ by its rows and $M$ by its rows (why is that right?),
# and multiply block by block: one batched product. The number of tensor operations may not depend
# on $B$, $C$, $C'$ or $g$: no loop over any of them. (A case of its own for one group is fine.)


# %% exercise="conv2d"
def conv2d(
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None = None,
    stride: int = 1,
    padding: int = 0,
    dilation: int = 1,
    groups: int = 1,
) -> Tensor:
    """Two-dimensional convolution by `unfold` and one product; as `conv2d_naive`."""
    ### BEGIN SOLUTION
    rows = output_size(x.shape[2], weight.shape[2], stride, padding, dilation)
    columns = unfold(x, weight.shape[2:], stride, padding, dilation)
    columns = columns.reshape(len(x), groups, -1, columns.shape[2])  # (B, g, C/g k_h k_w, H' W')
    y = weight.reshape(groups, len(weight) // groups, -1) @ columns
    y = y.reshape(len(x), len(weight), rows, -1)
    return y if bias is None else y + bias[:, None, None]
    ### END SOLUTION


# %% test="conv2d"
image, kernel = counted(3, 3), torch.tensor([[[[1.0, 2.0], [0.0, -1.0]]]])
expect(conv2d(image, kernel), [[[[0, 2], [6, 8]]]], "conv2d: 3 x 3 and 2 x 2")
deep = torch.cat([image, 10 * image], dim=1)
summed = conv2d(deep, torch.ones(1, 2, 3, 3), torch.tensor([0.5]))
expect(summed, [[[[495.5]]]], "conv2d: channels are summed")
wide = torch.tensor([[[[1.0, 0.0, -1.0]]]])
expect(conv2d(image[:, :, :2], wide), [[[[-2], [-2]]]], "conv2d: two rows, one column")
four = torch.arange(1.0, 5.0).reshape(1, 4, 1, 1)  # four channels, one pixel
taps = torch.tensor([[1.0, 0], [0, 1], [1, 1]]).repeat(2, 1)[:, :, None, None]  # (6, 2, 1, 1)
expect(conv2d(four, taps, groups=2).flatten(), [1, 2, 3, 3, 4, 7], "conv2d: groups")
strided = [[[[-1, -3], [1, 8]]]]
expect(conv2d(image, kernel, None, 2, 1), strided, "conv2d: padded, stride 2")

# %% [markdown]
# Three programs for the same layer. The time is the least of a few runs.


# %%
def seconds(run: Callable[[], Tensor], times: int = 3) -> float:
    """The shortest of several runs."""
    took = []
    for _ in range(times if FULL else 1):
        start = time.perf_counter()
        run()
        took.append(time.perf_counter() - start)
    return min(took)


size = 24 if FULL else 6
x = torch.randn(4, 8, size, size, generator=generator)
w = torch.randn(16, 8, 3, 3, generator=generator)
programs = {"window by window": conv2d_naive, "one product": conv2d, "the library's": F.conv2d}
for name, program in programs.items():
    print(f"{name:18s} {1e3 * seconds(lambda program=program: program(x, w, padding=1)):9.2f} ms")
expect(conv2d(x, w, padding=1), F.conv2d(x, w, padding=1), "conv2d: beside the library", atol=1e-4)
print(f"the matrix holds {unfold(x, (3, 3), padding=1).numel() / x.numel():.0f} times the image")

# %% [markdown]
# The price is memory: with stride 1 each pixel is copied once for each tap. Libraries today avoid
# the copy (they form the columns piece by piece in the cache, or transform the problem), but the
# arithmetic is still a matrix product.

# %% [markdown]
# ## 4. The gradient: the same windows, read from the other side
#
# Three inputs, two taps, stride 1. Written out, the convolution is two equations, and they are a
# product with a matrix $K$ that has the same taps in every row, one step further to the right:
#
# $$\begin{aligned} y_0 &= w_0x_0 + w_1x_1\\ y_1 &= w_0x_1 + w_1x_2\end{aligned}
# \qquad\qquad \mathbf y = K\mathbf x, \qquad
# K = \begin{pmatrix} w_0 & w_1 & 0\\ 0 & w_0 & w_1\end{pmatrix} .$$
#
# Let $g_i = \partial L/\partial y_i$ be known.
#
# **By the inputs.** $x_1$ stands in both equations, so a small change of it changes $L$ by both
# ways, and the chain rule adds them: $g_0 w_1 + g_1 w_0$. In general $x_j$ reaches $y_i$ with the
# factor $K_{ij}$, so $\partial L/\partial x_j = \sum_i g_i K_{ij}$, a sum down a *column*:
#
# $$\frac{\partial L}{\partial\mathbf x} = K^\top\mathbf g =
# (\,w_0g_0,\;\; w_1g_0 + w_0g_1,\;\; w_1g_1\,) .$$
#
# **By the taps.** $w_0$ stands in every row: with $x_0$ in the first, $x_1$ in the second. So
#
# $$\frac{\partial L}{\partial w_0} = g_0x_0 + g_1x_1, \qquad
# \frac{\partial L}{\partial w_1} = g_0x_1 + g_1x_2, \qquad
# \frac{\partial L}{\partial w_u} = \sum_i g_i\, x_{is + ud} .$$
#
# **By the bias**, which is added to every output: $\sum_i g_i$.
#
# The next cell reads $K$ off your `conv2d`: column $j$ is the answer to an image that is 1 at pixel
# $j$ and 0 elsewhere. Below it the same with stride 2 and a zero at each end.


# %%
def band(inputs: int, taps: int, stride: int = 1, padding: int = 0) -> Tensor:
    """Which tap joins output i (row) to input j (column), counted from 1; 0 for none."""
    basis = pad(torch.eye(inputs)[:, None, None], padding, padding, 0, 0)  # one image a pixel
    one_tap = torch.eye(taps)[:, None, None]  # (taps, 1, 1, taps): tap u alone
    answers = conv2d(basis, one_tap, stride=stride)[:, :, 0]  # (inputs, taps, outputs)
    return (answers * torch.arange(1.0, taps + 1)[:, None]).sum(dim=1).T


def draw_band(axes: Sequence, tap: Tensor, name: str) -> None:
    """K, its transpose, and which products belong to which tap."""
    outputs, inputs = tap.shape
    for ax, matrix in zip(axes, [tap, tap.T, tap], strict=True):
        ax.imshow(matrix, cmap="Blues", vmin=0, vmax=4)
        ax.set(xticks=range(matrix.shape[1]), yticks=range(matrix.shape[0]))
        ax.grid(False)
        for i, j in matrix.nonzero().tolist():
            label = f"$g_{i}x_{j}$" if ax is axes[2] else f"$w_{int(matrix[i, j]) - 1}$"
            ax.text(j, i, label, ha="center", va="center", fontsize=9)
    x, y, g = ([f"${letter}_{i}$" for i in range(8)] for letter in "xyg")
    axes[0].set(xticklabels=x[:inputs], yticklabels=y[:outputs], title=f"{name}\nforward: $y = Kx$")
    axes[1].set(xticklabels=g[:outputs], yticklabels=x[:inputs], title="by $x$: $K^{T} g$")
    axes[2].set(xticklabels=x[:inputs], yticklabels=g[:outputs], title="by $w$: sum of each shade")


fig, grid = plt.subplots(2, 3, figsize=(7.5, 4.2))
draw_band(grid[0], band(3, 2), "stride 1")
draw_band(grid[1], band(3, 2, stride=2, padding=1), "stride 2, padded")
plt.show()

# %% [markdown]
# Left to right: a row of $K$ is a window; a row of $K^\top$ says which outputs have read $x_j$, and
# with which tap; each tap's gradient collects the cells of its shade.
#
# In the upper row $K^\top$ is a band matrix too, with the taps in the **other order**: the gradient
# by $x$ is a convolution of $(0, g_0, g_1, 0)$ with the flipped kernel. The lower row shows what a
# stride does: $K^\top\mathbf g = (w_1g_0,\ w_0g_1,\ w_1g_1)$ is the flipped kernel once more, but
# over $(g_0, 0, g_1)$: between two outputs stand $s - 1$ zeros. Without the padding $K$ would be
# $(w_0\ w_1\ 0)$. Its last column is zero: **an input that no window reached gets the gradient
# zero**, and still has its place in the result.
#
# **In general.** For one image and one group, $Y = WM$ with $M = $ `unfold(x)`, and $G = \partial
# L/ \partial Y$ of shape $(C', H'W')$. The first step is the linear layer of unit 01, with windows
# in the place of a batch:
#
# $$\frac{\partial L}{\partial W_{o,r}} = \sum_{l} G_{o,l}\,M_{r,l} = (GM^\top)_{o,r}, \qquad
# \frac{\partial L}{\partial M_{r,l}} = \sum_o W_{o,r}\,G_{o,l} = (W^\top G)_{r,l} .$$
#
# The second step goes from $M$ to $x$. A pixel stands in $M$ once for every window that holds it,
# and each of these copies has its own gradient. A change of the pixel changes all copies, so their
# gradients are added. Adding the copies of each pixel is what `fold` does. In matrices: $M = Ux$,
# hence $\partial L/\partial x = U^\top\,\partial L/\partial M$.
#
# In a batch all images use the same $W$ and $\boldsymbol\beta$: their gradients are summed over
# $b$.

# %% [markdown] heading="conv2d_backward"
# ### Exercise {number} · Convolution, backward ({points} points, about 35 min)
#
# From the gradient $G$ by the output, of shape $(B, C', H', W')$, compute those by the input, the
# weights and the bias:
#
# $$\frac{\partial L}{\partial x} = \mathrm{fold}(W^\top G), \qquad
# \frac{\partial L}{\partial W} = \sum_b G_b M_b^\top, \qquad
# \frac{\partial L}{\partial\beta_o} = \sum_{b,i,j} G_{b,o,i,j} ,$$
#
# each of them block by block if there are groups, and each in the shape of what it belongs to.
# Sum, do not average: what is to be averaged the loss has averaged. `fold` needs the size of `x`,
# so that pixels that no window reached have a place, with gradient zero.
#
# As before, no loop over $B$, $C$, $C'$ or $g$. Autograd may not be used (`autograd`, `backward`,
# `requires_grad`, `requires_grad_`, `torch.func`, `vjp`), nor what exercise 3 forbids.


# %% exercise="conv2d_backward"
def conv2d_backward(
    grad: Tensor,
    x: Tensor,
    weight: Tensor,
    stride: int = 1,
    padding: int = 0,
    dilation: int = 1,
    groups: int = 1,
) -> tuple[Tensor, Tensor, Tensor]:
    """Gradients of `conv2d`.

    Args:
        grad: (B, C', H', W'), gradient of the loss by the output; not modified.
        x: (B, C, H, W), the input of the forward pass, of the same dtype; not modified.
        weight: (C', C / groups, k_h, k_w) of the same dtype; not modified.
        stride, padding, dilation, groups: those of the forward pass.

    Returns:
        The gradients by `x` (B, C, H, W), by `weight` (C', C / groups, k_h, k_w) and by the bias
        (C',), all of the dtype of `x`.
    """
    ### BEGIN SOLUTION
    kernel, batch = weight.shape[2:], len(x)
    columns = unfold(x, kernel, stride, padding, dilation)
    columns = columns.reshape(batch, groups, -1, columns.shape[2])  # (B, g, C/g k_h k_w, H' W')
    rows = grad.reshape(batch, groups, -1, columns.shape[3])  # (B, g, C'/g, H' W')
    dweight = (rows @ columns.mT).sum(dim=0).reshape(weight.shape)
    matrix = weight.reshape(groups, rows.shape[2], -1)
    dcolumns = (matrix.mT @ rows).reshape(batch, -1, columns.shape[3])
    dx = fold(dcolumns, x.shape[2:], kernel, stride, padding, dilation)
    return dx, dweight, grad.sum(dim=(0, 2, 3))
    ### END SOLUTION


# %% test="conv2d_backward"
row = torch.tensor([[[[1.0, 2.0, 3.0]]]])  # x of the derivation
taps = torch.tensor([[[[10.0, 1.0]]]])  # w
g = torch.tensor([[[[1.0, -2.0]]]])
dx, dweight, dbias = conv2d_backward(g, row, taps)
expect(dx, [[[[10, -19, -2]]]], "conv2d_backward: by x")  # 10 · 1, 1 · 1 - 10 · 2, -1 · 2
expect(dweight, [[[[-3, -4]]]], "conv2d_backward: by w")  # 1 - 2 · 2, 2 - 2 · 3
expect(dbias, [-1], "conv2d_backward: by the bias")
image, kernel = counted(3, 3), torch.tensor([[[[1.0, 2.0], [0.0, -1.0]]]])
dx, dweight, _ = conv2d_backward(torch.tensor([[[[2.0]]]]), image, kernel, stride=2)
expect(dx, [[[[2, 4, 0], [0, -2, 0], [0, 0, 0]]]], "conv2d_backward: pixels not reached")
expect(dweight, [[[[2, 4], [8, 10]]]], "conv2d_backward: by w, stride 2")
both = torch.cat([row, row + 1])  # two images
_, dweight, dbias = conv2d_backward(torch.cat([g, g]), both, taps)
expect(dweight, [[[[-7, -9]]]], "conv2d_backward: images are summed")  # -3 - 4, -4 - 5
expect(dbias, [-2], "conv2d_backward: by the bias, two images")
pair = torch.tensor([1.0, 5.0]).reshape(1, 2, 1, 1)  # two channels, two groups
dx, dweight, _ = conv2d_backward(
    pair, 2 * pair, torch.tensor([3.0, 4]).reshape(2, 1, 1, 1), 1, 0, 1, 2
)
expect(dx.flatten(), [3, 20], "conv2d_backward: by x, groups")
expect(dweight.flatten(), [2, 50], "conv2d_backward: by w, groups")

# %% [markdown]
# The judge of every gradient is the difference quotient. In float64, for each number $a$ of an
# argument, $(L(a + h) - L(a - h)) / 2h$ with $h = 10^{-5}$; here $L$ is a sum of the outputs with
# random weights, which are then the upstream gradient.


# %%
def numerical(loss: Callable[[], Tensor], argument: Tensor, h: float = 1e-5) -> Tensor:
    """Central differences of a loss by each number of an argument, which is moved in place."""
    flat, found = argument.view(-1), []
    for index in range(len(flat)):
        value = flat[index].item()
        flat[index] = value + h
        above = loss()
        flat[index] = value - h
        found.append((above - loss()) / (2 * h))
        flat[index] = value
    return torch.stack(found).reshape(argument.shape)


shape = ((2, 4, 6, 5), (6, 2, 3, 2)) if FULL else ((1, 2, 4, 3), (2, 1, 2, 1))
options = {"stride": 2, "padding": 1, "dilation": 2 if FULL else 1, "groups": 2}
x, w = (torch.randn(s, generator=generator, dtype=torch.float64) for s in shape)
b = torch.randn(len(w), generator=generator, dtype=torch.float64)
upstream = torch.randn(conv2d(x, w, b, **options).shape, generator=generator, dtype=torch.float64)
got = conv2d_backward(upstream, x, w, **options)
for name, argument, gradient in zip(["x", "weight", "bias"], [x, w, b], got, strict=True):
    quotient = numerical(lambda: (conv2d(x, w, b, **options) * upstream).sum(), argument)
    print(f"{name:7s} largest difference {(gradient - quotient).abs().max().item():.1e}")
library = torch.nn.grad.conv2d_input(x.shape, w, upstream, **options)
expect(got[0], library, "conv2d_backward: beside the library")
plain = conv2d_backward(
    upstream := torch.randn(1, 6, 4, 3), torch.zeros(1, 2, 6, 5), torch.ones(6, 2, 3, 3)
)
transposed = F.conv_transpose2d(upstream, torch.ones(6, 2, 3, 3))
expect(plain[0], transposed, "conv2d_backward: the transposed convolution", atol=1e-5)

# %% [markdown]
# The last line is a layer that you may have met: the *transposed convolution*, used to make maps
# larger, is the backward pass by $x$ and nothing else. (It is also called deconvolution, which it
# is not: it does not undo anything.)
#
# How often is each pixel read? The gradient of the sum of all outputs, for a kernel of ones, counts
# it. Three layers that are in use:

# %%
fig, axes = plt.subplots(1, 3, figsize=(7, 2.5))
for ax, (k, s) in zip(axes, [(3, 1), (3, 2), (1, 2)], strict=True):
    x, w = torch.zeros(1, 1, 9, 9), torch.ones(1, 1, k, k)
    reads = conv2d_backward(torch.ones_like(conv2d(x, w, None, s)), x, w, s)[0][0, 0]
    ax.imshow(reads, vmin=0, vmax=9)
    for i, j in torch.cartesian_prod(torch.arange(9), torch.arange(9)).tolist():
        dark = "w" if reads[i, j] < 5 else "k"
        ax.text(j, i, int(reads[i, j]), ha="center", va="center", fontsize=6, color=dark)
    ax.set_title(f"{k} × {k}, stride {s}: reads of each pixel", fontsize=8)
    ax.axis("off")
plt.show()

# %% [markdown]
# Stride 1 treats all pixels alike, but for the border. With a 3 × 3 kernel and stride 2 a pixel is
# read once, twice or four times, according to where it stands: the chequered pattern is known from
# images that were *made* with transposed convolutions (A. Odena et al., *Deconvolution and
# checkerboard artifacts*, Distill, 2016). The third is the surprise: a 1 × 1 convolution with
# stride 2 never looks at three pixels in four. ResNets have this layer in their shortcuts.

# %% [markdown]
# ## 5. Pooling
#
# A convolution says *where* a stroke is, to the pixel. Often *about where* is enough, and a smaller
# map saves work in all later layers. *Max pooling* keeps the largest number of each window, channel
# by channel:
#
# $$y_{b,c,i,j} = \max_{u,v}\; x_{b,c,\;is+u,\;js+v}, \qquad 0 \le u < k_h,\quad 0 \le v < k_w .$$
#
# It has no parameters. Its gradient: a small change of the largest number changes the output by
# as much; a small change of any other changes nothing. So $g_{b,c,i,j}$ goes to the place of the
# largest number, whole. A pixel that wins in several overlapping windows collects from each.

# %% [markdown] heading="max_pool2d"
# ### Exercise {number} · Max pooling ({points} points, about 25 min)
#
# * **Padding is of $-\infty$**, not of zero: a border must never win, and the numbers may be
#   negative. ($2p \le k_h, k_w$, so that every window holds a real pixel.)
# * **Ties.** If the largest number of a window stands there several times, its gradient goes to the
#   **first** place in row-major order: the smallest $u$, and among those the smallest $v$. That is
#   the library's rule too. (It is rarely written down, and ties are not rare, as you will see.)
# * Kernel $(k_h, k_w)$ and stride are independent: windows may overlap or leave gaps. What no
#   window reaches gets the gradient 0.
#
# Your `pad`, `unfold` and `fold` do most of it: `unfold` treats channels alike, so reshaping to
# $(B, C, k_hk_w, H'W')$ separates them again. In `backward`, find the winners anew from `x`.
#
# Forbidden: `max_pool1d`, `max_pool2d`, `max_pool3d`, `avg_pool2d`, `adaptive_max_pool2d`,
# `adaptive_avg_pool2d`, ... as attributes, their modules (`MaxPool2d`, ...), `max_unpool2d`; the
# library's convolutions, `F.unfold` and `F.fold` as in exercise 3; autograd as in exercise 8.


# %% exercise="max_pool2d"
def max_pool2d(x: Tensor, kernel: tuple[int, int], stride: int, padding: int = 0) -> Tensor:
    """The largest number of each window, channel by channel.

    Args:
        x: (B, C, H, W) floating point, finite; not modified.
        kernel: (k_h, k_w).
        stride: for both axes.
        padding: of minus infinity, for both axes; at most half of k_h and of k_w.

    Returns:
        (B, C, H', W') of the dtype of `x`, with H' and W' as in `output_size`.
    """
    ### BEGIN SOLUTION
    batch, channels = x.shape[:2]
    rows = output_size(x.shape[2], kernel[0], stride, padding)
    columns = unfold(pad(x, *[padding] * 4, value=-math.inf), kernel, stride)
    windows = columns.unflatten(1, (channels, -1))  # (B, C, k_h k_w, H' W')
    return windows.amax(dim=2).reshape(batch, channels, rows, -1)
    ### END SOLUTION


def max_pool2d_backward(
    grad: Tensor, x: Tensor, kernel: tuple[int, int], stride: int, padding: int = 0
) -> Tensor:
    """Gradient of `max_pool2d` by its input.

    Args:
        grad: (B, C, H', W'), gradient of the loss by the output; not modified.
        x: (B, C, H, W), the input of the forward pass, of the same dtype; not modified.
        kernel, stride, padding: those of the forward pass.

    Returns:
        (B, C, H, W) of the dtype of `x`; of equal largest numbers in a window the first in
        row-major order has it.
    """
    ### BEGIN SOLUTION
    batch, channels, height, width = x.shape
    padded = pad(x, *[padding] * 4, value=-math.inf)
    columns = unfold(padded, kernel, stride)
    windows = columns.unflatten(1, (channels, -1))
    winners = windows.argmax(dim=2, keepdim=True)  # the first of several
    shares = torch.zeros_like(windows).scatter(2, winners, grad.reshape(batch, channels, 1, -1))
    dpadded = fold(shares.reshape(columns.shape), padded.shape[2:], kernel, stride)
    return dpadded[:, :, padding : padding + height, padding : padding + width]
    ### END SOLUTION


# %% test="max_pool2d"
hills = torch.tensor([[[[1.0, 5.0, 2.0], [4.0, 3.0, 9.0], [-6.0, -7.0, -8.0]]]])
expect(max_pool2d(hills, (2, 2), 1), [[[[5, 9], [4, 9]]]], "max_pool2d: overlapping")
expect(max_pool2d(hills, (2, 2), 2), [[[[5]]]], "max_pool2d: stride 2, no padding")
expect(max_pool2d(hills, (1, 2), 1), [[[[5, 5], [4, 9], [-6, -7]]]], "max_pool2d: 1 x 2")
edges = [[[[1, 5], [4, 9]]]]  # windows at -1 and 1
expect(max_pool2d(hills, (2, 2), 2, 1), edges, "max_pool2d: padded")
cold = [[[[-1, -2], [-3, -4]]]]
expect(max_pool2d(torch.tensor(cold) * 1.0, (2, 2), 2, 1), cold, "max_pool2d: padding never wins")
g = torch.tensor([[[[10.0, 20.0], [30.0, 40.0]]]])
won = [[[[0, 10, 0], [30, 0, 60], [0, 0, 0]]]]  # 9 wins two windows
expect(max_pool2d_backward(g, hills, (2, 2), 1), won, "max_pool2d_backward: overlapping")
flat = torch.zeros(1, 1, 3, 3)
first = [[[[10, 20, 0], [30, 40, 0], [0, 0, 0]]]]
expect(max_pool2d_backward(g, flat, (2, 2), 1), first, "max_pool2d_backward: ties")
edge = [[[[10, 20, 0], [30, 0, 40], [0, 0, 0]]]]
expect(max_pool2d_backward(g, hills, (2, 2), 2, 1), edge, "max_pool2d_backward: padded")

# %% [markdown]
# How rare are ties? Digits go through one convolution with random kernels and a ReLU; the next cell
# counts the windows whose largest number is not alone.

# %%
some = data.train_x[: 100 if FULL else 3].reshape(-1, 1, 8, 8)
random_kernels = torch.randn(8, 1, 3, 3, generator=generator).to(DEVICE)
maps = conv2d(some, random_kernels, padding=1).clamp(min=0)  # ReLU
windows = unfold(maps, (2, 2), 2).reshape(len(maps), 8, 4, -1)
tied = (windows == windows.amax(dim=2, keepdim=True)).sum(dim=2) > 1
print(f"{tied.float().mean().item():.0%} of the windows have a tie")
leaf, g = maps.clone().requires_grad_(), torch.randn(len(maps), 8, 4, 4, generator=generator)
F.max_pool2d(leaf, 2).backward(g.to(DEVICE))
expect(max_pool2d(maps, (2, 2), 2), F.max_pool2d(maps, 2), "max_pool2d: beside the library")
ours = max_pool2d_backward(g.to(DEVICE), maps, (2, 2), 2)
expect(ours, leaf.grad, "max_pool2d_backward: beside the library")

# %% [markdown]
# After a ReLU whole windows are zero, and zero is then the maximum four times over. Sharing the
# gradient among the winners would be a subgradient just as good, but not the same numbers.
# (A ReLU in front lets none of these gradients through. So why does it hardly matter here?)

# %% [markdown] heading="avg_pool2d"
# ### Exercise {number} · Average pooling, and the whole map ({points} points, about 15 min)
#
# *Average pooling* takes the mean of each window. It is linear, and each number of a window has the
# derivative $1/(k_h k_w)$:
#
# $$y_{b,c,i,j} = \frac{1}{k_hk_w} \sum_{u,v} x_{b,c,\;is+u,\;js+v}, \qquad
# \frac{\partial L}{\partial x_{b,c,m,n}} = \frac{1}{k_hk_w}
# \sum_{\text{windows } (i,j) \text{ that hold } (m,n)} g_{b,c,i,j} .$$
#
# Padding is of zeros, and they **count**: the divisor is $k_hk_w$ at the border as well (the
# library's default, `count_include_pad=True`).
#
# *Global average pooling* has one window, the whole map: from $(B, C, H, W)$ to $(B, C)$. It makes
# a network accept images of any size, and took the place of the huge fully connected layers at the
# end (Lin et al., 2013, again).
#
# Forbidden is what exercise 9 forbids: the library's pooling, its convolutions (`conv2d`, ...),
# `F.unfold`, `F.fold` and autograd.


# %% exercise="avg_pool2d"
def avg_pool2d(x: Tensor, kernel: tuple[int, int], stride: int, padding: int = 0) -> Tensor:
    """Mean of each window (padded zeros count), channel by channel.

    Args are those of `max_pool2d`; the padding is of zeros. `x` is not modified.

    Returns:
        (B, C, H', W') of the dtype of `x`, with H' and W' as in `output_size`.
    """
    ### BEGIN SOLUTION
    batch, channels = x.shape[:2]
    rows = output_size(x.shape[2], kernel[0], stride, padding)
    columns = unfold(x, kernel, stride, padding)
    windows = columns.unflatten(1, (channels, -1))
    return windows.mean(dim=2).reshape(batch, channels, rows, -1)
    ### END SOLUTION


def avg_pool2d_backward(
    grad: Tensor, size: tuple[int, int], kernel: tuple[int, int], stride: int, padding: int = 0
) -> Tensor:
    """Gradient of `avg_pool2d` by its input.

    Args:
        grad: (B, C, H', W'), gradient of the loss by the output; not modified.
        size: (H, W) of the input.
        kernel, stride, padding: those of the forward pass.

    Returns:
        (B, C, H, W) of the dtype of `grad`.
    """
    ### BEGIN SOLUTION
    taps = kernel[0] * kernel[1]
    shares = (grad / taps).flatten(2).repeat_interleave(taps, dim=1)  # (B, C k_h k_w, H' W')
    return fold(shares, size, kernel, stride, padding)
    ### END SOLUTION


def global_avg_pool(x: Tensor) -> Tensor:
    """Mean of each map: (B, C, H, W) to (B, C) of the dtype of `x`, which is not modified."""
    ### BEGIN SOLUTION
    return x.mean(dim=(2, 3))
    ### END SOLUTION


def global_avg_pool_backward(grad: Tensor, size: tuple[int, int]) -> Tensor:
    """Gradient of `global_avg_pool` by its input.

    Args:
        grad: (B, C), gradient of the loss by the output; not modified.
        size: (H, W) of the input.

    Returns:
        (B, C, H, W) of the dtype of `grad`.
    """
    ### BEGIN SOLUTION
    return (grad / (size[0] * size[1]))[:, :, None, None].expand(-1, -1, *size)
    ### END SOLUTION


# %% test="avg_pool2d"
image = counted(3, 3)
expect(avg_pool2d(image, (2, 2), 1), [[[[3, 4], [6, 7]]]], "avg_pool2d: overlapping")
border = [[[[0.25, 1.25], [2.75, 7]]]]  # 1 / 4, (2 + 3) / 4, (4 + 7) / 4, 28 / 4
expect(avg_pool2d(image, (2, 2), 2, 1), border, "avg_pool2d: padded zeros count")
expect(avg_pool2d(image, (1, 3), 1), [[[[2], [5], [8]]]], "avg_pool2d: 1 x 3")
g = torch.tensor([[[[4.0, 8.0], [12.0, 16.0]]]])
shared = [[[[1, 3, 2], [4, 10, 6], [3, 7, 4]]]]
expect(avg_pool2d_backward(g, (3, 3), (2, 2), 1), shared, "avg_pool2d_backward: overlapping")
halves = [[[[2, 2, 4, 4, 0]]]]
got = avg_pool2d_backward(g[:, :, :1], (1, 5), (1, 2), 2)
expect(got, halves, "avg_pool2d_backward: a pixel not reached")
deep = torch.cat([image, 10 * image], dim=1)
expect(global_avg_pool(deep), [[5, 50]], "global_avg_pool: two maps")
spread = global_avg_pool_backward(torch.tensor([[6.0, 12.0]]), (1, 3))
expect(spread, [[[[2] * 3], [[4] * 3]]], "global_avg_pool_backward: two maps of 1 x 3")

# %%
x = torch.randn(2, 3, 8, 6, generator=generator, requires_grad=True)
y = F.avg_pool2d(x, (3, 2), 2, 1)
upstream = torch.randn(y.shape, generator=generator)
y.backward(upstream)
expect(avg_pool2d(x.detach(), (3, 2), 2, 1), y.detach(), "avg_pool2d: beside the library")
ours = avg_pool2d_backward(upstream, (8, 6), (3, 2), 2, 1)
expect(ours, x.grad, "avg_pool2d_backward: beside the library")
print("avg_pool2d and its gradient agree with the library's")

# %% [markdown]
# ## 6. What does a unit see?
#
# A unit of the first layer sees a window of $k$ pixels. A unit of the second sees a window of such
# units, hence more pixels; and so on. Its *receptive field* is the range of pixels that can change
# it. Take one axis, and describe a layer's units by three numbers: the first unit's field starts at
# pixel $a$ and is $r$ wide, and the field of the next unit starts $j$ pixels later (the *jump*).
# Unit $i$ sees pixels $a + ij, \dots, a + ij + r - 1$. The pixels themselves have
# $a = 0,\ r = 1,\ j = 1$.
#
# Now a layer $(k, s, p, d)$ on top. Its first window starts $p$ units before the first, and
# so at pixel $a - pj$. From its first tap to its last are $d(k-1)$ units, that is $d(k-1)\,j$
# pixels, and the last tap's unit adds its own width $r$. The next window starts $s$ units, $sj$
# pixels, later:
#
# $$a' = a - p\,j, \qquad r' = r + d\,(k-1)\,j, \qquad j' = s\,j .$$
#
# The right-hand sides hold the **old** $j$.

# %% [markdown] heading="receptive_field"
# ### Exercise {number} · Receptive field ({points} points, about 10 min)
#
# Apply the recursion to a stack of layers, the first of which reads the image. Pooling is a layer
# like any other. $a$ is negative if the field begins in the padding, which is not an error; do not
# cut anything off there.


# %% exercise="receptive_field"
def receptive_field(layers: Sequence[tuple[int, int, int, int]]) -> tuple[int, int, int]:
    """What one unit behind a stack of layers sees, along one axis.

    Args:
        layers: (kernel, stride, padding, dilation) of each layer, the one next to the image first;
            may be empty; not modified.

    Returns:
        Three ints: the size r of the field, the jump j from a unit's field to the next unit's, and
        the pixel a (0 is the first) at which the first unit's field starts.
    """
    ### BEGIN SOLUTION
    size, jump, start = 1, 1, 0
    for kernel, stride, padding, dilation in layers:
        size += dilation * (kernel - 1) * jump
        start -= padding * jump
        jump *= stride
    return size, jump, start
    ### END SOLUTION


# %% test="receptive_field"
expect(receptive_field([]), (1, 1, 0), "receptive_field: a pixel")
expect(receptive_field([(3, 1, 0, 1)]), (3, 1, 0), "receptive_field: one layer")
expect(receptive_field([(3, 1, 1, 1), (3, 1, 1, 1)]), (5, 1, -2), "receptive_field: two of 3 taps")
# Pairs (0 1) (2 3) (4 5), then windows of three pairs: six pixels, two further each time.
expect(receptive_field([(2, 2, 0, 1), (3, 1, 1, 1)]), (6, 2, -2), "receptive_field: pool, conv")
expect(receptive_field([(3, 1, 0, 1), (2, 2, 0, 1)]), (4, 2, 0), "receptive_field: conv, pool")
expect(receptive_field([(3, 1, 0, 1), (3, 1, 0, 4)]), (11, 1, 0), "receptive_field: dilation")

# %% [markdown]
# Is it true? Put the gradient 1 at *one* unit of the last layer and 0 at all others, and go back to
# the image with your `conv2d_backward`, through random kernels: exactly the pixels of the field can
# have a gradient that is not zero.


# %%
def stack_gradient(layers: Sequence[tuple[int, ...]], size: int, channels: int, seed: int):
    """Gradient (size, size) of the middle unit behind random convolutions; and the unit's index."""
    made = torch.Generator().manual_seed(seed)
    x, passed = torch.ones(1, 1, size, size), []
    for kernel, *geometry in layers:
        scale = math.sqrt(x.shape[1] * kernel**2)
        weight = torch.randn(channels, x.shape[1], kernel, kernel, generator=made) / scale
        passed.append((x, weight, geometry))
        x = conv2d(x, weight, None, *geometry)
    middle, grad = x.shape[2] // 2, torch.zeros_like(x)
    grad[0, 0, middle, middle] = 1.0
    for x, weight, geometry in reversed(passed):
        grad, _, _ = conv2d_backward(grad, x, weight, *geometry)
    return grad[0, 0], middle


stacks = {
    "five 3 × 3": [(3, 1, 1, 1)] * 5,
    "with two of stride 2": [(3, 1, 1, 1), (3, 2, 1, 1)] * 2 + [(3, 1, 1, 1)],
    "dilations 1, 2, 4": [(3, 1, 1, 1), (3, 1, 2, 2), (3, 1, 4, 4)],
}
side = 41 if FULL else 23
for name, layers in stacks.items():
    grad, unit = stack_gradient(layers, side, 2, seed=0)
    seen = grad.abs().sum(dim=0).nonzero()[:, 0]
    size, jump, start = receptive_field(layers)
    formula = (start + unit * jump, start + unit * jump + size - 1)
    measured = (int(seen.min()), int(seen.max()))
    print(f"{name:22s} {size:3d} wide: pixels {formula} by the formula, {measured} by the gradient")
    assert formula == measured, "the gradient has another opinion"

# %% [markdown]
# The three dilated layers see as far as seven plain ones: doubling the dilation doubles the field.
#
# But do all the pixels in the field count alike? Draw the size of that gradient, averaged over many
# random stacks.

# %%
deep_stack = [(3, 1, 1, 1)] * (10 if FULL else 2)
size, _, _ = receptive_field(deep_stack)
mean_square = torch.stack(
    [stack_gradient(deep_stack, side, 4, seed)[0].square() for seed in range(150 if FULL else 1)]
).mean(dim=0)
half = size // 4
core = mean_square[side // 2 - half : side // 2 + half + 1, side // 2 - half : side // 2 + half + 1]
fig, axes = plt.subplots(1, 2, figsize=(6.5, 2.6))
axes[0].imshow(mean_square.sqrt())
edge = side // 2 - size // 2 - 0.5
axes[0].add_patch(Rectangle((edge, edge), size, size, fill=False, ec="w", ls="--"))
axes[0].set(title="size of the gradient, and the field", xlabel="pixel", ylabel="pixel")
axes[0].grid(False)
profile = mean_square.sum(dim=0).sqrt()
axes[1].plot(torch.arange(side) - side // 2, profile / profile.max())
axes[1].set(xlabel="pixels from the centre", ylabel="relative size", xlim=(-size, size))
axes[1].axvspan(-(size / 2), size / 2, color="0.9")
plt.show()
print(
    f"{core.sum() / mean_square.sum():.0%} of its square in the middle quarter of the field's area"
)

# %% [markdown]
# The field is what *can* matter. What *does* is concentrated in its middle: from a border pixel one
# path leads to the unit, from the middle thousands do, and their number grows like a bell curve
# (W. Luo et al., *Understanding the effective receptive field in deep convolutional neural
# networks*, 2016). A network that has to see an object needs a field a good deal larger than it.

# %% [markdown]
# ## 7. A network, every line yours
#
# Digits again, on a larger sheet: each 8 × 8 image lies somewhere on a 16 × 16 canvas, at least one
# pixel from its edge: 7 × 7 places. The network is two convolutions with a max pooling between
# them, a global average, and a linear layer from 20 numbers to 10 classes. Its rival is a linear
# classifier on the 256 pixels.
#
# The classes below keep in `forward` what `backward` needs, and call your functions; nothing else
# computes. (The linear layer and the loss are those of unit 01.)


# %%
class Conv:
    """A convolution with its parameters and gradients."""

    def __init__(self, c_in: int, c_out: int, kernel: int = 3, padding: int = 1) -> None:
        scale = math.sqrt(2 / (c_in * kernel**2))  # He's initialisation
        self.values = [scale * torch.randn(c_out, c_in, kernel, kernel), torch.zeros(c_out)]
        self.values = [value.to(DEVICE) for value in self.values]
        self.padding, self.grads = padding, []

    def forward(self, x: Tensor) -> Tensor:
        self.x = x
        return conv2d(x, *self.values, padding=self.padding)

    def backward(self, grad: Tensor) -> Tensor:
        dx, *self.grads = conv2d_backward(grad, self.x, self.values[0], padding=self.padding)
        return dx


class Linear:
    """A linear layer on flat rows (images are flattened)."""

    def __init__(self, inputs: int, outputs: int) -> None:
        self.values = [torch.randn(outputs, inputs) / math.sqrt(inputs), torch.zeros(outputs)]
        self.values, self.grads = [value.to(DEVICE) for value in self.values], []

    def forward(self, x: Tensor) -> Tensor:
        self.shape, self.x = x.shape, x.flatten(1)
        return self.x @ self.values[0].T + self.values[1]

    def backward(self, grad: Tensor) -> Tensor:
        self.grads = [grad.T @ self.x, grad.sum(dim=0)]
        return (grad @ self.values[0]).reshape(self.shape)


# %%
class Plain:
    """A layer without parameters: a function, and its gradient as a function of (grad, x)."""

    values, grads = (), ()

    def __init__(self, function: Callable, derivative: Callable) -> None:
        self.function, self.derivative = function, derivative

    def forward(self, x: Tensor) -> Tensor:
        self.x = x
        return self.function(x)

    def backward(self, grad: Tensor) -> Tensor:
        return self.derivative(grad, self.x)


def relu() -> Plain:
    return Plain(lambda x: x.clamp(min=0), lambda grad, x: grad * (x > 0))


def max_pool(k: int = 2) -> Plain:
    return Plain(
        lambda x: max_pool2d(x, (k, k), k), lambda grad, x: max_pool2d_backward(grad, x, (k, k), k)
    )


def global_average() -> Plain:
    return Plain(global_avg_pool, lambda grad, x: global_avg_pool_backward(grad, x.shape[2:]))


def small_cnn(first: int = 12, second: int = 20, pooled: bool = True) -> list:
    """Two convolutions; nearly as many parameters as 256 pixels times ten classes."""
    pooling = [max_pool()] if pooled else []
    top = [Conv(first, second), relu(), global_average(), Linear(second, 10)]
    return [Conv(1, first), relu(), *pooling, *top]


def run(net: list, x: Tensor) -> Tensor:
    for layer in net:
        x = layer.forward(x)
    return x


# %%
SIDE, CENTRE = 16, (4, 4)
PLACES = [(i, j) for i in range(1, 8) for j in range(1, 8)]  # row and column of the corner


def at(x: Tensor, place: tuple[int, int]) -> Tensor:
    """Digits (N, 64) on canvases (N, 1, 16, 16), at one place."""
    top, left = place
    return pad(x.reshape(-1, 1, 8, 8), left, SIDE - 8 - left, top, SIDE - 8 - top)


def anywhere(x: Tensor, made: torch.Generator) -> Tensor:
    """Digits (N, 64) on canvases, each at a place of its own."""
    canvases = x.new_zeros(len(x), 1, SIDE, SIDE)
    which = torch.randint(0, len(PLACES), (len(x),), generator=made).to(x.device)
    for number, place in enumerate(PLACES):
        canvases[which == number] = at(x[which == number], place)
    return canvases


def train(net: list, epochs: int, lr: float, places: Callable[[Tensor], Tensor]) -> list[float]:
    """SGD with momentum 0.9 and batches of 32; the mean training loss of each epoch."""
    made, losses = torch.Generator().manual_seed(0), []
    speed = [[torch.zeros_like(value) for value in layer.values] for layer in net]
    images, labels = (
        (data.train_x, data.train_y) if FULL else (data.train_x[:40], data.train_y[:40])
    )
    for _ in range(epochs):
        x, total = places(images), 0.0
        for rows in torch.randperm(len(x), generator=made).to(x.device).split(32):
            logits = run(net, x[rows])
            total += F.cross_entropy(logits, labels[rows], reduction="sum").item()
            grad = (logits.softmax(dim=1) - F.one_hot(labels[rows], 10)) / len(rows)
            for layer in reversed(net):
                grad = layer.backward(grad)
            for layer, velocities in zip(net, speed, strict=True):
                for value, slope, velocity in zip(
                    layer.values, layer.grads, velocities, strict=True
                ):
                    velocity.mul_(0.9).add_(slope)
                    value.sub_(lr * velocity)
        losses.append(total / len(x))
    return losses


def accuracy_by_place(net: list) -> Tensor:
    """Validation accuracy (7, 7) with all digits at one place, for each place."""
    x, labels = (data.valid_x, data.valid_y) if FULL else (data.valid_x[:9], data.valid_y[:9])
    right = torch.zeros(7, 7)
    for i, j in PLACES if FULL else [CENTRE]:
        guess = run(net, at(x, (i, j))).argmax(dim=1)
        right[i - 1, j - 1] = (guess == labels).float().mean().item()
    return right


# %%
made = torch.Generator().manual_seed(1)
regimes = {"centre": lambda x: at(x, CENTRE), "anywhere": lambda x: anywhere(x, made)}
plans = {
    "linear, centre": lambda: [Linear(SIDE * SIDE, 10)],
    "linear, anywhere": lambda: [Linear(SIDE * SIDE, 10)],
    "convolutional, anywhere": small_cnn,
    "convolutional, centre": small_cnn,
    "no pooling, centre": lambda: small_cnn(pooled=False),
}


@cache
def trained(name: str) -> tuple[list, list[float], Tensor]:
    """Net, losses and accuracy by place of one plan; it is trained when first asked for."""
    torch.manual_seed(0)
    net = plans[name]()
    rate = 0.1 if name.startswith("linear") else 0.2
    losses = train(net, 20 if FULL else 1, rate, regimes[name.split(", ")[1]])
    return net, losses, accuracy_by_place(net)


linear_count = SIDE * SIDE * 10 + 10
cnn_count = conv_parameters(1, 12, (3, 3)) + conv_parameters(12, 20, (3, 3)) + 20 * 10 + 10
print(f"parameters: linear {linear_count}, convolutional {cnn_count}")
plots.curves({name: trained(name)[1] for name in plans}, ylabel="training loss")
plt.show()


# %%
def draw_places(maps: dict[str, Tensor]) -> None:
    """Accuracy at each place, in per cent; the square is where "centre" was trained."""
    _, axes = plt.subplots(1, len(maps), figsize=(2.7 * len(maps), 2.9), squeeze=False)
    for ax, (name, right) in zip(axes[0], maps.items(), strict=True):
        ax.imshow(right, vmin=0, vmax=1, extent=(0.5, 7.5, 7.5, 0.5))
        for i, j in PLACES:
            share = right[i - 1, j - 1].item()
            dark = "k" if share > 0.5 else "w"
            ax.text(j, i, f"{100 * share:.0f}", ha="center", va="center", fontsize=7, color=dark)
        corner = (CENTRE[1] - 0.5, CENTRE[0] - 0.5)
        ax.add_patch(Rectangle(corner, 1, 1, fill=False, ec="tab:orange", lw=2))
        ax.set_title(f"{name}\nmean {right.mean():.0%}", fontsize=8)
        ax.set(xlabel="columns from the left", ylabel="rows from the top")
        ax.grid(False)
    plt.show()


draw_places({name: trained(name)[2] for name in list(plans)[:3]})

# %% [markdown]
# *Linear, centre*: excellent at home, and lost two pixels away. That is the bar again. *Linear,
# anywhere*: it has seen every place, and still fails (at other learning rates too), since one
# weight a pixel cannot serve 49 places. *Convolutional, anywhere*: right nearly everywhere, with
# fewer parameters.
#
# Now train the convolutional net in the centre only. The same kernels look at every place, and a
# global average does not care where an answer stands. What accuracy do you expect elsewhere?

# %%
draw_places({name: trained(name)[2] for name in list(plans)[3:]})

# %% [markdown]
# The left picture is a chessboard of period two: the net is as good as at home where the digit has
# moved by an *even* number of rows and columns, and worst where both are odd. A convolution moves
# its answer with the image (*equivariance*), but pooling with stride 2 does so only for moves by
# two pixels: a digit that moves by one is cut into other windows, which the net has never seen.
#
# On the right there is no pooling (same epochs; it is slower to learn), and now nearly all places
# are alike. What is left comes from the padding at the edge of the canvas. One cure is to blur
# before the stride (R. Zhang, *Making convolutional networks shift-invariant again*, 2019); the
# common one is the one above, to train with digits anywhere.

# %%
net = trained("convolutional, anywhere")[0]
x = anywhere(data.valid_x[: 300 if FULL else 8], torch.Generator().manual_seed(2))
labels = data.valid_y[: len(x)]
count = 12 if FULL else 2
plots.images(net[0].values[0][:count].cpu(), range(count), columns=12, title="kernels, first layer")
plt.show()
maps = net[0].forward(x[:1])[0].clamp(min=0).cpu()[:count]
shown = torch.cat([x[0].cpu(), maps / maps.amax().clamp(min=1e-6)])
plots.images(shown, ["input", *range(count)], columns=13, title="an image and its maps")
plt.show()
guess = run(net, x).argmax(dim=1)
for name, chosen in {"right": guess == labels, "wrong": guess != labels}.items():
    rows = chosen.nonzero()[: 10 if FULL else 1, 0]
    if len(rows):
        titles = [f"{int(guess[i])} (is {int(labels[i])})" for i in rows]
        plots.images(x[rows].cpu(), titles, columns=10, title=f"{name}: the guess, and what it is")
        plt.show()

# %% [markdown]
# Some kernels have become edge detectors like those written by hand above; nobody told them to.
# (Kernel 0 need not resemble kernel 0 of another run: the order of channels means nothing.)
#
# **The test split, once**, with a random place for each digit. And one more question: must kernels
# be learned at all? The last two lines are for the digits as they are, 8 × 8 pixels, all in the
# same place: a linear classifier on the pixels, and one on the pooled maps of 64 *random* kernels,
# which are never trained.


# %%
def test_accuracy(net: list, places: Callable[[Tensor], Tensor]) -> float:
    """Accuracy on the test split."""
    x, labels = (data.test_x, data.test_y) if FULL else (data.test_x[:9], data.test_y[:9])
    return (run(net, places(x)).argmax(dim=1) == labels).float().mean().item()


for name in plans:
    net = trained(name)[0]
    placed = torch.Generator().manual_seed(3)
    right = test_accuracy(net, lambda x, placed=placed: anywhere(x, placed))
    print(f"{name:26s} {right:6.1%}")
torch.manual_seed(0)
random_layer = Conv(1, 64)


def random_maps(x: Tensor) -> Tensor:
    """Digits (N, 64) through random kernels, ReLU and max pooling: (N, 64, 4, 4)."""
    return max_pool2d(random_layer.forward(x.reshape(-1, 1, 8, 8)).clamp(min=0), (2, 2), 2)


for name, places, inputs in [("pixels", lambda x: x, 64), ("random maps", random_maps, 1024)]:
    net = [Linear(inputs, 10)]
    train(net, 15 if FULL else 1, 0.02 if inputs > 64 else 0.1, places)
    print(f"{'linear on ' + name:26s} {test_accuracy(net, places):6.1%}")

# %% [markdown]
# Random kernels are no worse than none, and usually better: bends, ends and edges come out of *any*
# kernels that differ, and the linear layer finds the useful mixtures. What learning adds is doing
# the same with twelve maps instead of 64, and at every place.

# %% [markdown]
# ### Your experiment
#
# Change one thing at a time and predict the result before you run it. Suggestions:
#
# * Average pooling in the place of max pooling: `Plain(...)` with your two functions. Does the
#   picture of the even and odd rows change?
# * `small_cnn(4, 8)`: with how few channels is the net still better than the linear one?
# * Kernels of 5 × 5 (`Conv(1, 12, 5, 2)`), or three layers of 3 × 3: what does a unit before the
#   global average see then? Ask `receptive_field`.
# * `data.train_x[:, order]` with one fixed permutation `order` of the 64 pixels, in training and
#   validation alike: what does a linear classifier care, and what does a convolution?


# %%
def experiment(net: list, epochs: int = 6, lr: float = 0.2) -> None:
    """Train in the centre and measure at all places."""
    train(net, epochs, lr, regimes["centre"])
    draw_places({"experiment": accuracy_by_place(net)})


torch.manual_seed(0)
wide = [Conv(1, 12, 5, 2), relu(), max_pool(), Conv(12, 20), relu(), global_average()]
experiment([*wide, Linear(20, 10)], epochs=6 if FULL else 1)

# %% [markdown]
# ## Summary
#
# 1. A convolution is a linear layer with few weights, used at every place: windows, kernels as deep
#    as the image, channels summed, no flip. $n' = \lfloor (n + 2p - d(k-1) - 1)/s \rfloor + 1$.
# 2. Written as columns, all windows make the convolution one matrix product, at the price of
#    copying each pixel $k_hk_w$ times.
# 3. Its gradient is that of a linear layer: $GM^\top$ for the weights, $W^\top G$ for the columns,
#    and `fold`, the transpose of `unfold`, adds up each pixel's copies.
# 4. Max pooling sends a gradient to one winner, average pooling shares it; padding and ties need a
#    rule. A unit's field grows with every layer by $d(k-1)$ jumps; its middle counts most.
# 5. Parameters are few and multiply-adds many. Sharing gives equivariance; invariance has to be
#    built, or learned from examples at all places.
#
# ## In practice, and further reading
#
# The library calls are `F.conv2d`, `F.unfold`, `F.fold`, `F.conv_transpose2d`, `F.max_pool2d`,
# `F.avg_pool2d` and `F.adaptive_avg_pool2d(x, 1)`; the modules have the same names with capitals.
#
# * Y. LeCun et al., *Gradient-based learning applied to document recognition*, Proc. IEEE 86, 1998.
# * V. Dumoulin, F. Visin, *A guide to convolution arithmetic for deep learning*, 2016: every case
#   of part 1 and of the transposed convolution as a picture.
# * M. Lin, Q. Chen, S. Yan, *Network in network*, 2013.
# * W. Luo et al., *Understanding the effective receptive field in deep convolutional neural
#   networks*, NIPS 2016.
