"""Hidden checks, known mistakes and alternatives of `02_cnns/convolution`."""

import math
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from autograder.contract import Exercise, expect, probes, require

if TYPE_CHECKING:  # replacements run in the namespace of the reference
    from autograder.reference.convolution import (
        avg_pool2d,
        conv2d,
        conv2d_naive,
        fold,
        output_size,
        pad,
        unfold,
    )

CONV = (
    *("conv1d", "conv2d", "conv3d", "conv_transpose1d", "conv_transpose2d", "conv_transpose3d"),
    *("conv_tbc", "convolution", "_convolution", "Conv1d", "Conv2d", "Conv3d", "LazyConv2d"),
    *("ConvTranspose2d", "conv2d_input", "conv2d_weight", "convolution_backward", "scipy"),
    *("F.unfold", "F.fold", "functional.unfold", "functional.fold", "nn.functional.unfold"),
    *("nn.functional.fold", "torch.nn.functional.unfold", "torch.nn.functional.fold"),
    *("Unfold", "Fold", "im2col", "col2im", "mkldnn_convolution", "thnn_conv2d"),
    *("aten::convolution", "aten::_convolution", "aten::convolution_backward"),
    *("aten::im2col", "aten::col2im", "aten::mkldnn_convolution", "aten::thnn_conv2d"),
)
AUTOGRAD = ("autograd", "backward", "requires_grad", "requires_grad_", "func", "functorch")
AUTOGRAD += ("torch.func", "vjp", "jvp", "jacrev", "jacfwd")
POOL = (
    *(f"{kind}_pool{d}d" for kind in ("max", "avg", "lp") for d in (1, 2, 3)),
    *(f"adaptive_{kind}_pool{d}d" for kind in ("max", "avg") for d in (1, 2, 3)),
    *("max_pool2d_with_indices", "max_pool1d_with_indices", "fractional_max_pool2d"),
    *("max_unpool1d", "max_unpool2d", "MaxUnpool2d", "MaxPool1d", "MaxPool2d", "MaxPool3d"),
    *("AvgPool1d", "AvgPool2d", "AvgPool3d", "AdaptiveMaxPool2d", "AdaptiveAvgPool2d", "LPPool2d"),
    *("aten::max_pool2d_with_indices", "aten::max_pool2d_with_indices_backward"),
    *("aten::avg_pool2d", "aten::avg_pool2d_backward", "aten::adaptive_max_pool2d"),
    *("aten::max_pool3d_with_indices", "aten::avg_pool3d", "aten::_adaptive_avg_pool2d"),
)


def whole(value: Any) -> bool:
    """True for an int; numpy's arrive as arrays and count too."""
    if isinstance(value, np.ndarray | np.generic):
        return value.ndim == 0 and np.issubdtype(value.dtype, np.integer)
    return isinstance(value, int)


def integral(value: Any) -> bool:
    """True for an int, and for a tensor of shape () with an integer type."""
    return whole(value) or (isinstance(value, Tensor) and not value.is_floating_point())


def noise(*shape: int) -> Tensor:
    """Random numbers in float64."""
    return torch.randn(*shape, dtype=torch.float64)


def few(*shape: int) -> Tensor:
    """Small whole numbers in float16: sums of their products are exact in it."""
    return torch.randint(-3, 4, shape).half()


def overwritten(name: str, result: str) -> str:
    """The last lines of a mistake: each result lies where the last one of its shape lay."""
    return (
        f"    result, kept = {result}, {name}.__dict__.setdefault('kept', {{}})\n"
        "    key = result.shape, result.dtype\n"
        "    return kept.setdefault(key, torch.empty_like(result)).copy_(result)\n"
    )


def strided(student: Any, name: str, *args: Any, **kwargs: Any) -> Any:
    """A probe: the call with tensors of the same values whose memory is in another order."""

    def other(value: Any) -> Any:
        if not isinstance(value, Tensor) or value.dim() < 2:
            return value
        return value.transpose(-1, -2).contiguous().transpose(-1, -2)

    return getattr(student, name)(*map(other, args), **kwargs)


def operations(student: Any, name: str, *args: Any, **kwargs: Any) -> int:
    """A probe: how many tensor operations the call takes."""
    from torch.utils._python_dispatch import TorchDispatchMode

    class Watch(TorchDispatchMode):
        count = 0

        def __torch_dispatch__(self, func, types, args=(), kwargs=None):
            self.count += 1
            return func(*args, **(kwargs or {}))

    with Watch() as watch:
        getattr(student, name)(*args, **kwargs)
    return watch.count


# ----------------------------------------------------------------------------------------------
# output_size

ex = output_size = Exercise("output_size")


def starts(size: int, kernel: int, stride: int = 1, padding: int = 0, dilation: int = 1) -> int:
    """The oracle: count the windows that end inside."""
    last = dilation * (kernel - 1)
    return sum(1 for a in range(0, size + 2 * padding, stride) if a + last < size + 2 * padding)


@ex.check("stride 1, without padding", points=0.5)
def _(student):
    for size, kernel in [(7, 3), (5, 5), (9, 1), (1, 1)]:
        expect(student.output_size(size, kernel), starts(size, kernel), f"n = {size}, k = {kernel}")


@ex.check("strides that do not divide, padding", points=0.5)
def _(student):
    for args in [(11, 3, 2), (10, 3, 2), (10, 4, 3, 1), (8, 3, 5, 2), (2, 1, 3), (6, 2, 2)]:
        expect(student.output_size(*args), starts(*args), f"n, k, s, p = {args}")
    for args in [(2, 3, 1, 1), (1, 4, 3, 2), (3, 4, 2, 1)]:
        expect(student.output_size(*args), starts(*args), f"room by padding, n, k, s, p = {args}")
    require(whole(student.output_size(10, 3, 2)), "the number of windows is to be an int")


@ex.check("dilation", points=0.5)
def _(student):
    for args in [
        (12, 3, 1, 0, 2),
        (13, 4, 2, 1, 3),
        (9, 2, 1, 2, 5),
        (15, 1, 4, 0, 7),
        (4, 3, 1, 1, 2),
    ]:
        expect(student.output_size(*args), starts(*args), f"n, k, s, p, d = {args}")
    named = student.output_size(size=20, kernel=3, stride=3, padding=2, dilation=4)
    expect(named, starts(20, 3, 3, 2, 4), "by name")


@ex.check("no window fits, or one exactly", points=0.5)
def _(student):
    for args in [(2, 3), (2, 3, 2), (4, 6, 5), (1, 9, 2), (3, 3, 1, 0, 2), (2, 7, 2, 1)]:
        expect(student.output_size(*args), 0, f"n, k, s, p, d = {args}")
    for args in [(5, 3, 1, 0, 2), (3, 3, 2), (4, 4, 3), (5, 3, 4, 0, 2)]:
        expect(student.output_size(*args), 1, f"one window fits exactly, n, k, s, p, d = {args}")


ex.mistake(
    "rounds up",
    "A window that does not fit is left out: floor, not ceil.",
    edit=(
        "(size + 2 * padding - span) // stride + 1",
        "-(-(size + 2 * padding - span) // stride) + 1",
    ),
)
ex.mistake(
    "padding at one end",
    "The padding p is added at each of the two ends.",
    edit=("2 * padding", "padding"),
)
ex.mistake(
    "dilation ignored",
    "A dilated window spans d(k - 1) + 1 numbers.",
    edit=("dilation * (kernel - 1) + 1", "kernel"),
)
ex.mistake(
    "dilation times the kernel",
    "There are k - 1 gaps between k taps: the window spans d(k - 1) + 1 numbers, not dk.",
    edit=("dilation * (kernel - 1) + 1", "dilation * kernel"),
)
ex.mistake(
    "without the last window",
    "The window that starts at 0 counts too: + 1.",
    edit=("// stride + 1", "// stride"),
)
ex.mistake(
    "one window too many",
    "n - k + 1 windows fit, not n - k + 2: subtract the whole span.",
    edit=("- span", "- span + 1"),
)
ex.mistake(
    "negative sizes",
    "If no window fits there are 0 windows.",
    edit=(
        "max(0, (size + 2 * padding - span) // stride + 1)",
        "((size + 2 * padding - span) // stride + 1)",
    ),
)
ex.mistake(
    "at least one window",
    "If no window fits there are 0 windows, not 1.",
    edit=("max(0,", "max(1,"),
)
ex.mistake(
    "truncates towards zero",
    "int() rounds -1/3 up to 0, which gives a window that does not fit: use // or floor.",
    edit=(
        "(size + 2 * padding - span) // stride + 1",
        "int((size + 2 * padding - span) / stride) + 1",
    ),
)
ex.mistake(
    "the stride ignored",
    "Windows start s apart.",
    edit=("// stride", "// 1"),
)
ex.mistake(
    "adds one before dividing",
    "One is added to the number of strides, not to the room.",
    edit=("- span) // stride + 1", "- span + 1) // stride"),
)
ex.mistake(
    "a float",
    "A number of windows is an int: divide with //, or convert.",
    edit=(
        "max(0, (size + 2 * padding - span) // stride + 1)",
        "float(max(0, (size + 2 * padding - span) // stride + 1))",
    ),
)
ex.mistake(
    "no room without the padding",
    "A window may be longer than the row, as long as it fits into the padded one.",
    edit=("return max(0,", "return 0 if size < span else max(0,"),
)
ex.mistake(
    "an exact fit does not count",
    "A window as long as the padded row fits: once, whatever the stride.",
    edit=("return max(0,", "return 0 if size + 2 * padding <= span else max(0,"),
)
ex.mistake(
    "an exact fit does not count beside a stride",
    "A window as long as the padded row fits: once, whatever the stride.",
    edit=(
        "return max(0,",
        "return 0 if size + 2 * padding == span and stride > 1 else max(0,",
    ),
)
ex.mistake(
    "SAME whatever the padding",
    "ceil(n / s) is the number for SAME padding; here the padding is given.",
    edit=("max(0, (size + 2 * padding - span) // stride + 1)", "-(-size // stride)"),
)


ex.equivalent("-> max((size", "max does not care about the order of its arguments")


@ex.alternative("counts the starts")
def _(size, kernel, stride=1, padding=0, dilation=1):
    room = size + 2 * padding - dilation * (kernel - 1)
    return len(range(0, room, stride))


@ex.alternative("math.floor")
def _(size, kernel, stride=1, padding=0, dilation=1):
    room = size + 2 * padding - dilation * (kernel - 1) - 1
    return 0 if room < 0 else math.floor(room / stride) + 1


# ----------------------------------------------------------------------------------------------
# padding

ex = padding = Exercise(
    "padding",
    defines=["same_padding", "pad"],
    forbids=[
        *("pad", "constant_pad_nd", "ZeroPad1d", "ZeroPad2d", "ZeroPad3d", "ConstantPad1d"),
        *("ConstantPad2d", "ConstantPad3d", "aten::constant_pad_nd", "aten::pad"),
    ],
)


def same(size: int, kernel: int, stride: int = 1, dilation: int = 1) -> tuple[int, int]:
    """The oracle: the least total padding that gives ceil(size / stride) windows."""
    total = 0
    while len(range(0, size + total - dilation * (kernel - 1), stride)) < math.ceil(size / stride):
        total += 1
    return total // 2, total - total // 2


@ex.check("SAME, stride 1, odd and even kernels", points=0.5)
def _(student):
    for args in [(7, 3), (7, 5), (6, 4), (6, 2), (5, 1), (3, 7)]:
        expect(tuple(student.same_padding(*args)), same(*args), f"n, k = {args}")


@ex.check("SAME with strides", points=0.5)
def _(student):
    for args in [
        (7, 3, 2),
        (8, 3, 2),
        (10, 2, 3),
        (9, 1, 4),
        (11, 5, 4),
        (13, 6, 5),
        (6, 1, 2),
        (8, 2, 5),
        (1, 2, 2),
        (2, 4, 5),
    ]:
        expect(tuple(student.same_padding(*args)), same(*args), f"n, k, s = {args}")
    require(all(map(integral, student.same_padding(7, 4, 2))), "the two sides are to be ints")


@ex.check("SAME with dilation", points=0.5)
def _(student):
    for args in [
        (9, 3, 1, 2),
        (9, 2, 1, 3),
        (12, 4, 2, 3),
        (7, 1, 3, 5),
        (10, 3, 3, 2),
        (1, 2, 1, 2),
        (2, 4, 1, 3),
        (3, 3, 2, 4),
    ]:
        expect(tuple(student.same_padding(*args)), same(*args), f"n, k, s, d = {args}")
    named = student.same_padding(size=8, kernel=4, stride=3, dilation=2)
    expect(tuple(named), same(8, 4, 3, 2), "by name")


@ex.check("pad: four different sides", points=1)
def _(student):
    x = noise(2, 3, 4, 5)
    for sides in [(1, 2, 3, 4), (0, 2, 1, 0), (3, 0, 0, 1)]:
        got = student.pad(x, *sides)
        expect(got, F.pad(x, sides), f"left, right, top, bottom = {sides}", dtype=True)
    got = student.pad(x.float(), left=1, right=0, top=2, bottom=5)
    expect(got, F.pad(x.float(), (1, 0, 2, 5)), "float32, by name", dtype=True)
    got = student.pad(x.half(), 1, 0, 2, 5)
    expect(got, F.pad(x.half(), (1, 0, 2, 5)), "float16", dtype=True)


@ex.check("pad: other values", points=0.5)
def _(student):
    x = noise(1, 2, 3, 2)
    for value in [-math.inf, 2.5]:
        want = F.pad(x, (2, 1, 0, 3), value=value)
        expect(student.pad(x, 2, 1, 0, 3, value), want, f"filled with {value}", dtype=True)
    want = F.pad(x, (1, 1, 1, 1), value=-1.0)
    expect(student.pad(x, 1, 1, 1, 1, value=-1.0), want, "the value by name")
    x[:, 0, :2] = 0.0
    want = F.pad(x, (1, 0, 2, 1), value=-7.0)
    expect(student.pad(x, 1, 0, 2, 1, -7.0), want, "an image with zeros, filled with -7")


def changes_result(student: Any, x: Tensor) -> Tensor:
    """A probe: write into what padding by nothing returns, and look at the argument."""
    y = student.pad(x, 0, 0, 0, 0)
    y += 1.0
    return x


@ex.check("pad: nothing to add gives a copy, the argument stays", points=0.5)
def _(student):
    x = noise(2, 1, 3, 4)
    expect(student.pad(x, 0, 0, 0, 0), x, "padded by nothing", dtype=True)
    expect(student.run(changes_result, x), x, "x after its result was changed")
    require(student.unchanged("pad", x, 1, 2, 0, 1), "pad changes its argument")
    expect(student.run(strided, "pad", x, 1, 2, 0, 1), F.pad(x, (1, 2, 0, 1)), "another layout")
    sides, other = (1, 2, 0, 1), noise(2, 1, 3, 4)
    got = student.run(probes.calls, "pad", (x, *sides), (other, *sides))
    expect(got, [F.pad(x, sides), F.pad(other, sides)], "the results of two calls")


ex.mistake(
    "the odd one before",
    "If the total is odd, the larger side is the one after (right, bottom).",
    edit=("return total // 2, total - total // 2", "return total - total // 2, total // 2"),
)
ex.mistake(
    "the same on both sides",
    "An odd total cannot be halved: the sides differ by one.",
    edit=("return total // 2, total - total // 2", "return total // 2, total // 2"),
)
ex.mistake(
    "rounded up on both sides",
    "An odd total cannot be halved: the sides differ by one.",
    edit=("return total // 2, total - total // 2", "return (total + 1) // 2, (total + 1) // 2"),
)
ex.mistake(
    "half the kernel whatever the stride",
    "With a stride less is needed: (n' - 1) s + d (k - 1) + 1 - n in total.",
    edit=(
        "max(0, (windows - 1) * stride + dilation * (kernel - 1) + 1 - size)",
        "dilation * (kernel - 1)",
    ),
)
ex.mistake(
    "windows rounded down",
    "SAME gives ceil(n / s) windows.",
    edit=("-(-size // stride)", "size // stride"),
)
ex.mistake(
    "negative padding",
    "A kernel that is smaller than the stride needs no padding, not a negative one.",
    edit=(
        "max(0, (windows - 1) * stride + dilation * (kernel - 1) + 1 - size)",
        "(windows - 1) * stride + dilation * (kernel - 1) + 1 - size",
    ),
)
ex.mistake(
    "dilation ignored in SAME",
    "A dilated window spans d(k - 1) + 1 numbers.",
    edit=("dilation * (kernel - 1) + 1", "kernel"),
)
ex.mistake(
    "the span is dk",
    "There are k - 1 gaps between k taps: the window spans d(k - 1) + 1 numbers.",
    edit=("dilation * (kernel - 1) + 1", "dilation * kernel"),
)
ex.mistake(
    "as if the size were kept",
    "With a stride there are ceil(n / s) windows, not n.",
    edit=("windows = -(-size // stride)", "windows = size"),
)
ex.mistake(
    "left and right swapped",
    "The order is left, right, top, bottom.",
    edit=("left : left + width", "right : right + width"),
)
ex.mistake(
    "top and bottom swapped",
    "The order is left, right, top, bottom.",
    edit=("top : top + height", "bottom : bottom + height"),
)
ex.mistake(
    "rows and columns swapped",
    "left and right lengthen the last axis, top and bottom the one before it.",
    edit=[
        (
            "(batch, channels, top + height + bottom, left + width + right), value",
            "(batch, channels, left + height + right, top + width + bottom), value",
        ),
        ("top : top + height, left : left + width", "left : left + height, top : top + width"),
    ],
)
ex.mistake(
    "always zero",
    "The borders are filled with `value`.",
    edit=("right), value)", "right), 0.0)"),
)
ex.mistake(
    "float32 whatever comes in",
    "The result has the dtype of x.",
    edit=(
        "x.new_full((batch, channels, top + height + bottom, left + width + right), value)",
        "torch.full((batch, channels, top + height + bottom, left + width + right), value)",
    ),
)
ex.mistake(
    "the argument itself for no padding",
    "A new tensor is asked for: whoever writes into the result would write into x.",
    edit=(
        "    padded = x.new_full",
        "    if left + right + top + bottom == 0:\n        return x\n    padded = x.new_full",
    ),
)


ex.mistake(
    "floats for SAME",
    "The two sides are ints: halve with //.",
    edit=("return total // 2, total - total // 2", "return total / 2 // 1, (total + 1) / 2 // 1"),
)
ex.mistake(
    "no padding for a row shorter than the stride",
    "ceil(n / s) is 1 then: the one window may still need more than the row has.",
    edit=("total = max(0,", "total = 0 if size < stride else max(0,"),
)
ex.mistake(
    "no more padding than numbers",
    "A dilated window may need more padding than the row is long.",
    edit=(
        "    return total // 2, total",
        "    total = min(total, size)\n    return total // 2, total",
    ),
)
ex.mistake(
    "zeros of the image filled",
    "Only the border is filled: the image may hold zeros of its own.",
    edit=("    return padded", "    padded[padded == 0] = value\n    return padded"),
)
ex.mistake(
    "one sheet for all calls",
    "The next call overwrites the result of this one: make a new tensor each time.",
    edit=("    return padded", overwritten("pad", "padded")),
)


@ex.mistake(
    "borders of float32 beside float16",
    "torch.full and torch.zeros make float32 unless told: pass x.dtype, or cat gives float32.",
    replaces="pad",
)
def _(x, left, right, top, bottom, value=0.0):
    b, c, h, w = x.shape
    x = torch.cat([torch.full((b, c, h, left), value), x, torch.full((b, c, h, right), value)], 3)
    w = x.shape[3]
    return torch.cat(
        [torch.full((b, c, top, w), value), x, torch.full((b, c, bottom, w), value)], 2
    )


@ex.mistake("the border repeats the edge", "The borders are a constant.", replaces="pad")
def _(x, left, right, top, bottom, value=0.0):
    rows = torch.arange(-top, x.shape[2] + bottom).clamp(0, x.shape[2] - 1)
    columns = torch.arange(-left, x.shape[3] + right).clamp(0, x.shape[3] - 1)
    return x[:, :, rows][:, :, :, columns]


ex.equivalent("-> max((windows", "max does not care about the order of its arguments")


@ex.alternative("concatenation", replaces="pad")
def _(x, left, right, top, bottom, value=0.0):
    b, c, h, w = x.shape

    def block(rows, columns):
        return torch.full((b, c, rows, columns), value, dtype=x.dtype, device=x.device)

    x = torch.cat([block(h, left), x, block(h, right)], dim=3)
    return torch.cat([block(top, left + w + right), x, block(bottom, left + w + right)], dim=2)


@ex.alternative("numpy inside", replaces="pad")
def _(x, left, right, top, bottom, value=0.0):
    b, c, h, w = x.shape
    y = np.full((b, c, h + top + bottom, w + left + right), value, dtype=x.numpy().dtype)
    y[..., top : top + h, left : left + w] = x.numpy()
    return torch.from_numpy(y)


@ex.alternative("math.ceil, a list")
def _(size, kernel, stride=1, dilation=1):
    out = math.ceil(size / stride)
    total = (out - 1) * stride + (kernel - 1) * dilation + 1 - size
    before = max(total, 0) // 2
    return [before, max(total, 0) - before]


# ----------------------------------------------------------------------------------------------
# conv2d_naive

CASES = {  # shapes of x and weight, with what goes along
    "plain": ((2, 3, 6, 5), (4, 3, 3, 2), {}),
    "stride": ((1, 2, 9, 8), (3, 2, 2, 3), {"stride": 3}),
    "padding": ((2, 1, 5, 4), (2, 1, 3, 4), {"padding": 2}),
    "dilation": ((1, 2, 9, 7), (3, 2, 3, 2), {"dilation": 3}),
    "groups": ((2, 6, 5, 4), (4, 3, 2, 3), {"groups": 2}),
    "depthwise": ((2, 3, 4, 6), (6, 1, 3, 2), {"groups": 3}),
    "all": ((3, 4, 10, 9), (6, 2, 3, 2), {"stride": 2, "padding": 1, "dilation": 2, "groups": 2}),
}


def case(name: str) -> tuple[Tensor, Tensor, Tensor, dict[str, int]]:
    """Random x, weight and bias of a case, and its options."""
    x, weight, options = CASES[name]
    return noise(*x), noise(*weight), noise(weight[0]), options


def compare(student: Any, name: str, *cases: str) -> None:
    """Values of a convolution with bias, in float64."""
    for which in cases:
        x, weight, bias, options = case(which)
        got = getattr(student, name)(x, weight, bias, **options)
        expect(got, F.conv2d(x, weight, bias, **options), f"{which}: {options or 'stride 1'}")


ex = conv2d_naive = Exercise("conv2d_naive", forbids=CONV)


@ex.check("values, H != W, k_h != k_w, several channels", points=1)
def _(student):
    compare(student, "conv2d_naive", "plain")
    x, weight = noise(1, 2, 4, 7), noise(3, 2, 1, 4)
    expect(student.conv2d_naive(x, weight), F.conv2d(x, weight), "no bias")
    expect(student.conv2d_naive(x, weight, None), F.conv2d(x, weight), "bias None")


@ex.check("stride and padding", points=1)
def _(student):
    compare(student, "conv2d_naive", "stride", "padding")
    x, weight, bias = noise(2, 2, 7, 5), noise(3, 2, 3, 2), noise(3)
    got, want = student.conv2d_naive(x, weight, bias, 2, 1), F.conv2d(x, weight, bias, 2, 1)
    expect(got, want, "both, by position")


@ex.check("dilation", points=1)
def _(student):
    compare(student, "conv2d_naive", "dilation")
    x, weight = noise(1, 1, 8, 9), noise(2, 1, 2, 3)
    expect(
        student.conv2d_naive(x, weight, None, 2, 2, 3),
        F.conv2d(x, weight, None, 2, 2, 3),
        "2, 2, 3",
    )


@ex.check("groups", points=1)
def _(student):
    compare(student, "conv2d_naive", "groups", "depthwise", "all")


@ex.check("dtype, layout, arguments stay", points=0.5)
def _(student):
    x, weight, bias = noise(2, 2, 5, 4), noise(3, 2, 2, 3), noise(3)
    want = F.conv2d(x, weight, bias, 1, 1)
    got = student.conv2d_naive(x.float(), weight.float(), bias.float(), 1, 1)
    expect(got, want.float(), "float32", dtype=True, atol=1e-5)
    expect(
        student.conv2d_naive(x, weight, bias, 1, 1),
        want,
        "float64",
        dtype=True,
        rtol=1e-9,
        atol=1e-9,
    )
    expect(student.run(strided, "conv2d_naive", x, weight, bias, 1, 1), want, "another layout")
    other = noise(2, 2, 5, 4)
    got = student.run(
        probes.calls, "conv2d_naive", (x, weight, bias, 1, 1), (other, weight, bias, 1, 1)
    )
    expect(got, [want, F.conv2d(other, weight, bias, 1, 1)], "the results of two calls")
    x, weight, bias = few(1, 2, 4, 3), few(3, 2, 2, 2), few(3)
    want = F.conv2d(x.double(), weight.double(), bias.double())
    expect(student.conv2d_naive(x, weight, bias), want.half(), "float16", dtype=True)
    require(
        student.unchanged("conv2d_naive", x, weight, bias, 1, 1),
        "conv2d_naive changes its arguments",
    )


WINDOW = "(window * weight[o]).sum(dim=(1, 2, 3))"
ex.mistake(
    "flips the kernel",
    "Deep learning's convolution is a cross-correlation: do not flip.",
    edit=("window * weight[o]", "window * weight[o].flip(1, 2)"),
)
ex.mistake(
    "kernel transposed",
    "Row u of the kernel belongs to row i s + u d of the image.",
    edit=("window * weight[o]", "window * weight[o].transpose(1, 2).reshape(depth, k_h, k_w)"),
)
ex.mistake(
    "input channels averaged",
    "The input channels are summed.",
    edit=(WINDOW, "(window * weight[o]).mean(dim=1).sum(dim=(1, 2))"),
)
ex.mistake(
    "the mean of the window",
    "The products of a window are summed.",
    edit=(WINDOW, "(window * weight[o]).mean(dim=(1, 2, 3))"),
)
ex.mistake(
    "only the first input channel",
    "A window is as deep as the image: all channels are summed.",
    edit=(WINDOW, "(window * weight[o])[:, 0].sum(dim=(1, 2))"),
)
ex.mistake(
    "the bias is left out",
    "The bias of the output channel is added to each output.",
    edit=("return y if bias is None else y + bias[:, None, None]", "return y"),
)
ex.mistake(
    "the bias for each tap",
    "The bias is added once for each output, not for each product.",
    edit=("y + bias[:, None, None]", "y + bias[:, None, None] * depth * k_h * k_w"),
)
ex.mistake(
    "the stride ignored",
    "Window i starts at row i s.",
    edit=[
        ("i * stride, i * stride + k_h * dilation", "i, i + k_h * dilation"),
        ("j * stride, j * stride + k_w * dilation", "j, j + k_w * dilation"),
    ],
)
ex.mistake(
    "the stride in one axis only",
    "The stride holds for rows and columns.",
    edit=[
        (
            "columns = output_size(x.shape[3], k_w, stride,",
            "columns = output_size(x.shape[3], k_w, 1,",
        ),
        ("j * stride, j * stride + k_w * dilation", "j, j + k_w * dilation"),
    ],
)
ex.mistake(
    "the padding ignored",
    "The image is padded on all four sides before the windows slide.",
    edit=[
        ("k_h, stride, padding, dilation", "k_h, stride, 0, dilation"),
        ("k_w, stride, padding, dilation", "k_w, stride, 0, dilation"),
        ("pad(x, padding, padding, padding, padding)", "x"),
    ],
)
ex.mistake(
    "padding after the image only",
    "The padding is added at each of the two ends.",
    edit=("pad(x, padding, padding, padding, padding)", "pad(x, 0, 2 * padding, 0, 2 * padding)"),
)
ex.mistake(
    "the dilation ignored",
    "Tap u reads row i s + u d: the taps stand d apart.",
    edit=[
        ("k_h, stride, padding, dilation", "k_h, stride, padding"),
        ("k_w, stride, padding, dilation", "k_w, stride, padding"),
        ("i * stride + k_h * dilation, dilation", "i * stride + k_h"),
        ("j * stride + k_w * dilation, dilation", "j * stride + k_w"),
    ],
)
ex.mistake(
    "dilation in the size only",
    "The size is right, but the taps have to stand d apart.",
    edit=[
        ("i * stride + k_h * dilation, dilation", "i * stride + k_h"),
        ("j * stride + k_w * dilation, dilation", "j * stride + k_w"),
    ],
)
ex.mistake(
    "the stride taken for the dilation",
    "The stride lies between windows, the dilation between taps.",
    edit=[
        (
            "i * stride, i * stride + k_h * dilation, dilation",
            "i * dilation, i * dilation + k_h * stride, stride",
        ),
        (
            "j * stride, j * stride + k_w * dilation, dilation",
            "j * dilation, j * dilation + k_w * stride, stride",
        ),
        ("stride, padding, dilation)\n    columns", "dilation, padding, stride)\n    columns"),
        ("stride, padding, dilation)\n    x =", "dilation, padding, stride)\n    x ="),
    ],
)
ex.mistake(
    "all groups read the first block",
    "Group q of the outputs reads group q of the inputs.",
    edit=("first = o // (out_channels // groups) * depth", "first = 0"),
)
ex.mistake(
    "groups interleaved",
    "Output channel o belongs to group o // (C' / g), not o mod g: groups are whole blocks.",
    edit=("first = o // (out_channels // groups) * depth", "first = o % groups * depth"),
)
ex.mistake(
    "input channels taken every g-th",
    "A group's input channels are a consecutive block.",
    edit=(
        "x[:, first : first + depth, down, along]",
        "x[:, first // depth :: groups, down, along]",
    ),
)
ex.mistake(
    "float32 whatever comes in",
    "The result has the dtype of x.",
    edit=(
        "x.new_empty(len(x), out_channels, rows, columns)",
        "torch.zeros(len(x), out_channels, rows, columns)",
    ),
)


ex.mistake(
    "no bias with groups",
    "The bias belongs to the output channels, whatever the groups.",
    edit=("return y if bias is None else", "return y if bias is None or groups > 1 else"),
)
ex.mistake(
    "added to zeros of float32",
    "torch.zeros makes float32 unless told: added to float16 it gives float32.",
    edit=(
        "return y if bias is None else",
        "y = torch.zeros(out_channels, 1, 1) + y\n    return y if bias is None else",
    ),
)
ex.mistake(
    "one result for all calls",
    "The next call overwrites the result of this one: make a new tensor each time.",
    edit=(
        "    return y if bias is None else y + bias[:, None, None]",
        overwritten("conv2d_naive", "y if bias is None else y + bias[:, None, None]"),
    ),
)


@ex.mistake("rows and columns of the result swapped", "The result is (B, C', H', W').")
def _(x, weight, bias=None, stride=1, padding=0, dilation=1, groups=1):
    return conv2d(x, weight, bias, stride, padding, dilation, groups).transpose(2, 3)


@ex.alternative("taps in the outer loops, einsum")
def _(x, weight, bias=None, stride=1, padding=0, dilation=1, groups=1):
    k_h, k_w = weight.shape[2:]
    h = output_size(x.shape[2], k_h, stride, padding, dilation)
    w = output_size(x.shape[3], k_w, stride, padding, dilation)
    x = pad(x, padding, padding, padding, padding)
    parts = []
    for block, kernel in zip(x.chunk(groups, 1), weight.chunk(groups, 0), strict=True):
        total = 0
        for u in range(k_h):
            for v in range(k_w):
                a, b = u * dilation, v * dilation
                seen = block[:, :, a : a + h * stride : stride, b : b + w * stride : stride]
                total = total + torch.einsum("bchw,oc->bohw", seen, kernel[:, :, u, v])
        parts.append(total)
    y = torch.cat(parts, dim=1)
    return y if bias is None else y + bias.reshape(1, -1, 1, 1)


@ex.alternative("one number at a time")
def _(x, weight, bias=None, stride=1, padding=0, dilation=1, groups=1):
    n, _, height, width = x.shape
    out, depth, k_h, k_w = weight.shape
    rows = (height + 2 * padding - dilation * (k_h - 1) - 1) // stride + 1
    columns = (width + 2 * padding - dilation * (k_w - 1) - 1) // stride + 1
    y = torch.zeros((n, out, rows, columns), dtype=x.dtype, device=x.device)
    for o in range(out):
        group = o * groups // out
        for i in range(rows):
            for j in range(columns):
                value = torch.zeros(n, dtype=x.dtype)
                for u in range(k_h):
                    for v in range(k_w):
                        a, b = (
                            i * stride + u * dilation - padding,
                            j * stride + v * dilation - padding,
                        )
                        if 0 <= a < height and 0 <= b < width:
                            seen = x[:, group * depth : (group + 1) * depth, a, b]
                            value = value + seen @ weight[o, :, u, v]
                y[:, o, i, j] = value if bias is None else value + bias[o]
    return y


@ex.alternative("the method unfold")
def _(x, weight, bias=None, stride=1, padding=0, dilation=1, groups=1):
    x = pad(x, padding, padding, padding, padding)
    k_h, k_w = ((k - 1) * dilation + 1 for k in weight.shape[2:])
    windows = x.unfold(2, k_h, stride).unfold(3, k_w, stride)[..., ::dilation, ::dilation]
    n, _, h, w = windows.shape[:4]
    windows = windows.reshape(n, groups, -1, h, w, *weight.shape[2:])
    kernel = weight.reshape(groups, -1, *weight.shape[1:])
    y = torch.einsum("ngchwuv,gocuv->ngohw", windows, kernel).reshape(n, -1, h, w)
    return y if bias is None else y + bias[None, :, None, None]


# ----------------------------------------------------------------------------------------------
# conv_cost

ex = conv_cost = Exercise(
    "conv_cost",
    defines=["conv_parameters", "conv_multiply_adds"],
    forbids=CONV,
)


def macs(size, c_in, c_out, kernel, stride=1, padding=0, dilation=1, groups=1) -> int:
    """The oracle: places times weights."""
    places = [starts(n, k, stride, padding, dilation) for n, k in zip(size, kernel, strict=True)]
    return math.prod(places) * torch.zeros(c_out, c_in // groups, *kernel).numel()


def parameters(*args: int, **kwargs: Any) -> int:
    """The oracle: torch's own layer."""
    return sum(p.numel() for p in torch.nn.Conv2d(*args, **kwargs).parameters())


@ex.check("parameters, with and without bias", points=0.5)
def _(student):
    for args in [(3, 8, (5, 2)), (7, 2, (1, 3)), (1, 1, (1, 1))]:
        expect(student.conv_parameters(*args), parameters(*args), f"{args}")
        want = parameters(*args, bias=False)
        expect(student.conv_parameters(*args, bias=False), want, f"{args} without bias")
    want = 2003 * (3001 * 15 + 1)
    expect(student.conv_parameters(3001, 2003, (5, 3)), want, "3001 to 2003 channels, 5 x 3")


@ex.check("parameters with groups", points=0.5)
def _(student):
    for args, groups in [((6, 9, (3, 2)), 3), ((8, 8, (3, 3)), 8), ((4, 10, (1, 5)), 2)]:
        want = parameters(*args, groups=groups)
        expect(student.conv_parameters(*args, groups), want, f"{args}, {groups} groups")
        want = parameters(*args, groups=groups, bias=False)
        got = student.conv_parameters(*args, groups=groups, bias=False)
        expect(got, want, f"{args}, {groups} groups, without bias")
        require(whole(got), "the number of parameters is to be an int")


@ex.check("multiply-adds, H != W, k_h != k_w", points=0.5)
def _(student):
    for args in [
        ((9, 12), 3, 5, (4, 2)),
        ((7, 5), 2, 3, (1, 5)),
        ((6, 8), 4, 2, (3, 3), 2),
        ((225, 227), 63, 61, (3, 3)),
    ]:
        expect(student.conv_multiply_adds(*args), macs(*args), f"{args}")


@ex.check("multiply-adds with padding, dilation and groups", points=0.5)
def _(student):
    for args in [
        ((9, 14), 4, 6, (3, 2), 2, 1),
        ((13, 10), 2, 3, (2, 3), 1, 2, 3),
        ((8, 11), 6, 4, (3, 1), 3, 1, 2, 2),
    ]:
        expect(student.conv_multiply_adds(*args), macs(*args), f"{args}")
    got = student.conv_multiply_adds((5, 7), 6, 6, (3, 3), groups=6, padding=1)
    expect(got, macs((5, 7), 6, 6, (3, 3), 1, 1, 1, 6), "depthwise, by name")
    require(whole(got), "the number of multiply-adds is to be an int")
    for args in [((2, 2), 3, 4, (5, 5)), ((9, 2), 2, 3, (3, 4)), ((3, 8), 2, 2, (3, 3), 1, 0, 2)]:
        expect(student.conv_multiply_adds(*args), 0, f"{args}: no window fits")


ex.mistake(
    "no bias ever",
    "There is one bias for each output channel, unless bias=False.",
    edit=("return weights + out_channels * bias", "return weights"),
)
ex.mistake(
    "the bias always",
    "bias=False means no bias.",
    edit=("out_channels * bias", "out_channels"),
)
ex.mistake(
    "one bias",
    "Each output channel has its own bias.",
    edit=("out_channels * bias", "bias"),
)
ex.mistake(
    "a bias for each input channel",
    "Each output channel has one bias.",
    edit=("+ out_channels * bias", "+ in_channels * bias"),
)
ex.mistake(
    "one kernel for all input channels",
    "A kernel is as deep as its group of input channels.",
    edit=("(in_channels // groups) * ", ""),
)
ex.mistake(
    "one kernel for all outputs",
    "Each output channel has a kernel of its own.",
    edit=("weights = out_channels * (in", "weights = (in"),
)
ex.mistake(
    "groups ignored",
    "With groups a kernel sees only C / g input channels.",
    edit=("(in_channels // groups)", "in_channels"),
)
ex.mistake(
    "divided by the groups twice",
    "All C' output channels count; each sees C / g inputs.",
    edit=("weights = out_channels * (in", "weights = out_channels // groups * (in"),
)
ex.mistake(
    "square kernels only",
    "The kernel has k_h times k_w taps.",
    edit=("kernel[0] * kernel[1]", "kernel[0] ** 2"),
)
ex.mistake(
    "counts input pixels",
    "Weights are used once at each place of the output map.",
    edit=("return rows * columns", "return size[0] * size[1]"),
)
ex.mistake(
    "FLOPs for multiply-adds",
    "A multiplication and its addition are one multiply-add here.",
    edit=("return rows * columns *", "return 2 * rows * columns *"),
)
ex.mistake(
    "the bias is a multiply-add",
    "The bias's addition does not count.",
    edit=("groups, bias=False)", "groups)"),
)
ex.mistake(
    "groups ignored in the multiply-adds",
    "With groups an output reads only C / g channels.",
    edit=("kernel, groups, bias=False", "kernel, bias=False"),
)
ex.mistake(
    "dilation ignored in the map's size",
    "A dilated window spans more, so fewer fit.",
    edit=[
        ("kernel[0], stride, padding, dilation", "kernel[0], stride, padding"),
        ("kernel[1], stride, padding, dilation", "kernel[1], stride, padding"),
    ],
)
ex.mistake(
    "padding ignored in the map's size",
    "Padding makes room for more windows.",
    edit=[
        ("kernel[0], stride, padding, dilation", "kernel[0], stride, 0, dilation"),
        ("kernel[1], stride, padding, dilation", "kernel[1], stride, 0, dilation"),
    ],
)
ex.mistake(
    "a float for the parameters",
    "A count is an int: divide with //, not with /.",
    edit=("(in_channels // groups)", "(in_channels / groups)"),
)
ex.mistake(
    "a float for the multiply-adds",
    "A count is an int.",
    edit=("return rows * columns *", "return 1.0 * rows * columns *"),
)
ex.mistake(
    "a product in float32",
    "float32 holds all whole numbers up to 2^24 only: multiply Python's ints.",
    edit=[
        (
            "return rows * columns * conv_parameters(in_channels, out_channels, kernel, groups, "
            "bias=False)",
            "weights = conv_parameters(in_channels, out_channels, kernel, groups, bias=False)\n"
            "    return int(torch.tensor([rows, columns, weights]).float().prod())",
        ),
    ],
)
ex.mistake(
    "negative sizes multiplied",
    "If no window fits there are 0 windows, and so 0 multiply-adds.",
    edit=[
        (
            "rows = output_size(size[0], kernel[0], stride, padding, dilation)",
            "rows = (size[0] + 2 * padding - dilation * (kernel[0] - 1) - 1) // stride + 1",
        ),
        (
            "columns = output_size(size[1], kernel[1], stride, padding, dilation)",
            "columns = (size[1] + 2 * padding - dilation * (kernel[1] - 1) - 1) // stride + 1",
        ),
    ],
)
ex.mistake(
    "H and W swapped",
    "k_h belongs to H and k_w to W.",
    edit=[
        ("size[0], kernel[0]", "size[0], kernel[1]"),
        ("size[1], kernel[1]", "size[1], kernel[0]"),
    ],
)
ex.equivalent(
    "-> conv_parameters(out_channels, in_channels",
    "without biases the count is symmetric in the two numbers, as both are divisible by the groups",
)


@ex.alternative("by hand", replaces="conv_multiply_adds")
def _(size, in_channels, out_channels, kernel, stride=1, padding=0, dilation=1, groups=1):
    (height, width), (k_h, k_w) = size, kernel
    rows = len(range(0, height + 2 * padding - dilation * (k_h - 1), stride))
    columns = len(range(0, width + 2 * padding - dilation * (k_w - 1), stride))
    return rows * columns * (in_channels * out_channels * k_h * k_w // groups)


@ex.alternative("group by group", replaces="conv_parameters")
def _(in_channels, out_channels, kernel, groups=1, bias=True):
    total = 0
    for _ in range(groups):
        total += (in_channels // groups) * (out_channels // groups) * math.prod(kernel)
    return total + (out_channels if bias else 0)


# ----------------------------------------------------------------------------------------------
# conv1x1

ex = conv1x1 = Exercise(
    "conv1x1",
    defines=["conv1x1", "principal_channels"],
    forbids=[*CONV, "pca_lowrank", "svd_lowrank", "sklearn", "PCA"],
)


@ex.check("conv1x1: values, with and without bias", points=1)
def _(student):
    for shape, out in [((2, 3, 4, 5), 6), ((1, 5, 3, 2), 2), ((3, 1, 2, 4), 1)]:
        x, weight, bias = noise(*shape), noise(out, shape[1]), noise(out)
        want = F.conv2d(x, weight[:, :, None, None], bias)
        expect(student.conv1x1(x, weight, bias), want, f"{shape} to {out}", dtype=True)
        want = F.conv2d(x, weight[:, :, None, None])
        expect(student.conv1x1(x, weight), want, f"{shape} to {out}, no bias")


@ex.check("conv1x1: square shapes, no loop over pixels, arguments stay", points=0.5)
def _(student):
    x, weight, bias = noise(4, 4, 4, 4), noise(4, 4), noise(4)
    want = F.conv2d(x, weight[:, :, None, None], bias)
    expect(student.conv1x1(x, weight, bias), want, "all sizes 4")
    expect(student.run(strided, "conv1x1", x, weight, bias), want, "another layout")
    got = student.conv1x1(x.float(), weight.float(), bias.float())
    expect(got, want.float(), "float32", dtype=True, atol=1e-5)
    require(student.unchanged("conv1x1", x, weight, bias), "conv1x1 changes its arguments")
    x, weight, bias = few(1, 3, 4, 2), few(2, 3), few(2)
    want = F.conv2d(x.double(), weight[:, :, None, None].double(), bias.double())
    expect(student.conv1x1(x, weight, bias), want.half(), "float16", dtype=True)
    pixels, weight, bias = torch.randn(2, 3, 30, 30), torch.randn(4, 3), torch.randn(4)
    for axis, more in [("H", pixels[..., :2]), ("W", pixels[:, :, :2])]:
        base = student.run(operations, "conv1x1", pixels[:, :, :2, :2], weight, bias)
        count = student.run(operations, "conv1x1", more, weight, bias)
        require(count <= base + 10, f"the number of tensor operations grows with {axis}")


def correlated(*shape: int) -> Tensor:
    """Images whose channels depend on each other, with a mean far from zero."""
    channels = shape[1]
    mix = noise(channels, channels) + 2 * torch.eye(channels, dtype=torch.float64)
    scale = 3.0 ** torch.arange(channels, dtype=torch.float64)
    x = torch.einsum("dc,bchw->bdhw", mix, noise(*shape) * scale[:, None, None])
    return x + 5 * torch.arange(1.0, channels + 1)[:, None, None]


def principal(x: Tensor) -> tuple[Tensor, Tensor]:
    """The oracle: by the singular values."""
    pixels = x.movedim(1, -1).reshape(-1, x.shape[1])
    mean = pixels.mean(dim=0)
    return mean, torch.linalg.svd(pixels - mean, full_matrices=False)[2]


def up_to_sign(got: Any, want: Tensor) -> Any:
    """Rows turned to the side of the oracle's, where that is possible."""
    if not isinstance(got, Tensor) or got.shape != want.shape:
        return got
    signs = (got.double() * want).sum(dim=1).sign()
    return got * torch.where(signs == 0, 1.0, signs).to(got.dtype)[:, None]


def check_principal(student: Any, *shape: int) -> None:
    x = correlated(*shape)
    mean, directions = student.principal_channels(x)
    want_mean, want = principal(x)
    expect(mean, want_mean, f"mean, x of {shape}")
    expect(up_to_sign(directions, want), want, f"directions, x of {shape}", atol=1e-5)


@ex.check("principal_channels: one image", points=0.5)
def _(student):
    check_principal(student, 1, 3, 7, 6)
    check_principal(student, 1, 2, 4, 3)


@ex.check("principal_channels: a batch", points=0.5)
def _(student):
    check_principal(student, 4, 3, 5, 6)
    check_principal(student, 3, 5, 4, 4)
    x = correlated(2, 3, 4, 5)
    require(student.unchanged("principal_channels", x), "principal_channels changes its argument")
    mean, directions = student.principal_channels(x.float())
    want_mean, want = principal(x)
    expect(mean, want_mean.float(), "mean, float32", dtype=True, atol=1e-2)
    turned = up_to_sign(directions, want)
    expect(turned, want.float(), "directions, float32", dtype=True, atol=1e-2)


@ex.check("principal_channels: three channels through one", points=0.5)
def _(student):
    x = correlated(2, 3, 6, 5)
    mean, directions = student.principal_channels(x)
    code = student.conv1x1(x, directions[:1], -(directions[:1] @ mean))
    back = student.conv1x1(code, directions[:1].T, mean)
    want_mean, want = principal(x)
    centred = x - want_mean[:, None, None]
    kept = torch.einsum("d,c,bchw->bdhw", want[0], want[0], centred) + want_mean[:, None, None]
    expect(back, kept, "x after 3 -> 1 -> 3")


ex.mistake(
    "weights transposed",
    "The weights are (C', C): y = W x at each pixel.",
    edit=("weight @ x.reshape", "weight.T.reshape(weight.shape) @ x.reshape"),
)
ex.mistake(
    "the bias is left out",
    "The bias is added to each output channel.",
    edit=("return y if bias is None else y + bias[:, None, None]", "return y"),
)
ex.mistake(
    "the bias along the rows",
    "One bias for each channel: it needs two more axes for H and W.",
    edit=(
        "y + bias[:, None, None]",
        "y + bias if y.shape[3] == len(bias) else y + bias[:, None, None]",
    ),
)
ex.mistake(
    "pixels scrambled",
    "reshape keeps the order of memory: move the channel axis, do not reshape it away.",
    edit=("x.reshape(batch, channels, -1)", "x.permute(0, 2, 3, 1).reshape(batch, channels, -1)"),
)
ex.mistake(
    "the channels averaged",
    "The channels are mixed by a weighted sum, not a mean.",
    edit=(
        "(weight @ x.reshape(batch, channels, -1))",
        "(weight / channels @ x.reshape(batch, channels, -1))",
    ),
)
ex.mistake(
    "the mean of each image",
    "One mean for all pixels of the batch.",
    edit=[
        ("pixels.mean(dim=1)", "x[0].mean(dim=(1, 2))"),
    ],
)
ex.mistake(
    "not centred",
    "Subtract the mean first; otherwise the mean itself is nearly the first direction.",
    edit=("centred = pixels - mean[:, None]", "centred = pixels"),
)
ex.mistake(
    "eigenvectors as columns",
    "Directions are rows: eigh's vectors are its columns.",
    edit=("vectors.T.flip(0)", "vectors.flip(1)"),
)
ex.mistake(
    "smallest variance first",
    "eigh sorts upwards; the largest variance comes first here.",
    edit=("vectors.T.flip(0)", "vectors.T"),
)
ex.mistake(
    "components reversed, not the directions",
    "The last direction has to come first; the order of its components, the channels, stays.",
    edit=("vectors.T.flip(0)", "vectors.T.flip(1)"),
)
ex.mistake(
    "scaled by the eigenvalues",
    "Directions have length 1.",
    edit=[
        ("    _, vectors", "    values, vectors"),
        ("vectors.T.flip(0)", "(vectors * values.sqrt()).T.flip(0)"),
    ],
)
ex.mistake(
    "batch and channels confused",
    "Pixels are vectors of C channels: bring the channel axis to the front before flattening.",
    edit=("x.transpose(0, 1).flatten(1)", "x.reshape(x.shape[1], -1)"),
)
ex.mistake(
    "only the first image",
    "All pixels of the batch count.",
    edit=("x.transpose(0, 1).flatten(1)", "x[0].flatten(1)"),
)
ex.mistake(
    "correlation, not covariance",
    "Channels are not divided by their deviations.",
    edit=(
        "centred = pixels - mean[:, None]",
        "centred = (pixels - mean[:, None]) / pixels.std(dim=1)[:, None]",
    ),
)


ex.mistake(
    "float64 directions for float32",
    "What comes back has the dtype of x: with float64 inside, convert at the end.",
    edit=("x.transpose(0, 1).flatten(1)", "x.double().transpose(0, 1).flatten(1)"),
)
ex.mistake(
    "added to zeros of float32",
    "torch.zeros makes float32 unless told: added to float16 it gives float32.",
    edit=(
        "return y if bias is None else",
        "y = y + torch.zeros(1, 1, 1, 1)\n    return y if bias is None else",
    ),
)


@ex.mistake("loops over the pixels", "One product takes all pixels at once.", replaces="conv1x1")
def _(x, weight, bias=None):
    return conv2d_naive(x, weight[:, :, None, None], bias)


ex.equivalent("x.transpose(0, 1) -> x.transpose(1, 0)", "the same two axes are exchanged")
ex.equivalent("-> mean[:, None] - pixels", "the sign of the centred pixels cancels in the product")


@ex.alternative("einsum", replaces="conv1x1")
def _(x, weight, bias=None):
    y = torch.einsum("bchw,oc->bohw", x, weight)
    return y if bias is None else y + bias.view(1, -1, 1, 1)


@ex.alternative("a linear layer on the last axis", replaces="conv1x1")
def _(x, weight, bias=None):
    return F.linear(x.permute(0, 2, 3, 1), weight, bias).permute(0, 3, 1, 2)


@ex.alternative("singular value decomposition", replaces="principal_channels")
def _(x):
    pixels = x.permute(0, 2, 3, 1).reshape(-1, x.shape[1])
    mean = pixels.mean(0)
    _, _, rows = torch.linalg.svd(pixels - mean, full_matrices=False)
    return mean, -rows


@ex.alternative("covariance by torch.cov, sorted", replaces="principal_channels")
def _(x):
    pixels = torch.stack([x[:, c].flatten() for c in range(x.shape[1])])
    values, vectors = torch.linalg.eigh(torch.cov(pixels.double()))
    order = values.argsort(descending=True)
    return [pixels.mean(1), vectors[:, order].T.to(x.dtype)]


# ----------------------------------------------------------------------------------------------
# unfold

ex = unfold = Exercise("unfold", defines=["unfold", "fold"], forbids=CONV)

GEOMETRY = [  # shape of x, kernel, stride, padding, dilation
    ((2, 3, 5, 6), (2, 3), 1, 0, 1),
    ((1, 2, 8, 9), (3, 2), 3, 0, 1),
    ((2, 1, 4, 6), (3, 2), 2, 2, 1),
    ((1, 2, 9, 8), (2, 3), 1, 1, 3),
    ((3, 2, 10, 7), (3, 2), 2, 1, 2),
]


def library_unfold(x, kernel, stride=1, padding=0, dilation=1) -> Tensor:
    return F.unfold(x, kernel, dilation=dilation, padding=padding, stride=stride)


def library_fold(columns, size, kernel, stride=1, padding=0, dilation=1) -> Tensor:
    return F.fold(columns, size, kernel, dilation=dilation, padding=padding, stride=stride)


def columns_for(shape, *geometry) -> Tensor:
    """Random columns for images of that shape."""
    return noise(*library_unfold(torch.zeros(shape), *geometry).shape)


@ex.check("unfold: order of rows and columns", points=1)
def _(student):
    shape, kernel, *_ = GEOMETRY[0]
    x = noise(*shape)
    expect(
        student.unfold(x, kernel),
        library_unfold(x, kernel),
        f"{shape}, kernel {kernel}",
        dtype=True,
    )
    x = noise(1, 1, 1, 6)
    expect(student.unfold(x, (1, 4)), library_unfold(x, (1, 4)), "a single row")


@ex.check("unfold: stride, padding, dilation", points=1)
def _(student):
    for shape, *geometry in GEOMETRY[1:]:
        x = noise(*shape)
        want = library_unfold(x, *geometry)
        expect(student.unfold(x, *geometry), want, f"kernel, s, p, d = {geometry}", dtype=True)
    x = few(1, 2, 4, 3)
    want = library_unfold(x.double(), (2, 2), 1, 1).half()
    expect(student.unfold(x, (2, 2), 1, 1), want, "float16", dtype=True)


@ex.check("fold: overlaps are added", points=1)
def _(student):
    shape, *geometry = GEOMETRY[0]
    columns = columns_for(shape, *geometry)
    got = student.fold(columns, shape[2:], *geometry)
    expect(got, library_fold(columns, shape[2:], *geometry), f"size {shape[2:]}", dtype=True)
    got = student.fold(columns, shape[2:], geometry[0])
    expect(got, library_fold(columns, shape[2:], geometry[0]), "stride, padding, dilation left out")
    columns = columns_for((2, 3, 4, 6), (3, 3), 1, 1)
    got = student.fold(columns, (4, 6), (3, 3), padding=1)
    expect(got, library_fold(columns, (4, 6), (3, 3), 1, 1), "3 x 3, padding 1")


@ex.check("fold: stride, padding, dilation, pixels not reached", points=1)
def _(student):
    apart, through = ((2, 2, 7, 9), (2, 2), 4, 0, 1), ((1, 2, 7, 8), (2, 2), 2, 0, 2)
    for shape, *geometry in [*GEOMETRY[1:], apart, through]:
        columns = columns_for(shape, *geometry)
        got = student.fold(columns, shape[2:], *geometry)
        want = library_fold(columns, shape[2:], *geometry)
        expect(got, want, f"kernel, s, p, d = {geometry}", dtype=True)
    columns = few(1, 8, 20)
    want = library_fold(columns.double(), (4, 3), (2, 2), 1, 1).half()
    expect(student.fold(columns, (4, 3), (2, 2), 1, 1), want, "float16", dtype=True)


@ex.check("few operations", points=0.5)
def _(student):
    kernel = (2, 3)
    for shape in [(2, 3, 14, 12), (150, 2, 4, 5), (2, 150, 4, 5), (1, 2, 150, 4), (1, 2, 4, 150)]:
        x = torch.randn(shape)
        columns = library_unfold(x, kernel, 1, 1)
        counts = {
            "unfold": student.run(operations, "unfold", x, kernel, 1, 1),
            "fold": student.run(operations, "fold", columns, shape[2:], kernel, 1, 1),
        }
        for name, count in counts.items():
            most = f"{name} takes more than 20 + 20 k_h k_w operations for images of {shape}"
            require(count <= 20 + 20 * 6, most)
    x = torch.randn(2, 3, 14, 12)
    expect(student.unfold(x, kernel, 1, 1), library_unfold(x, kernel, 1, 1), "unfold")
    columns = torch.randn(2, 18, 15 * 12)
    expect(
        student.fold(columns, (14, 12), kernel, 1, 1),
        library_fold(columns, (14, 12), kernel, 1, 1),
        "fold",
        atol=1e-5,
    )


@ex.check("the arguments stay, another layout", points=0.5)
def _(student):
    shape, *geometry = GEOMETRY[3]
    x, columns = noise(*shape), columns_for(shape, *geometry)
    require(student.unchanged("unfold", x, *geometry), "unfold changes its argument")
    require(student.unchanged("fold", columns, shape[2:], *geometry), "fold changes its argument")
    got = student.run(strided, "unfold", x, *geometry)
    expect(got, library_unfold(x, *geometry), "unfold, another layout", rtol=1e-9, atol=1e-9)
    got = student.run(strided, "fold", columns, shape[2:], *geometry)
    want = library_fold(columns, shape[2:], *geometry)
    expect(got, want, "fold, another layout", rtol=1e-9, atol=1e-9)
    x, other = noise(2, *shape), noise(2, *shape[:1], *columns.shape[1:])
    got = student.run(probes.calls, "unfold", *((each, *geometry) for each in x))
    expect(got, [library_unfold(each, *geometry) for each in x], "unfold, the results of two calls")
    got = student.run(probes.calls, "fold", *((each, shape[2:], *geometry) for each in other))
    want = [library_fold(each, shape[2:], *geometry) for each in other]
    expect(got, want, "fold, the results of two calls")


ex.mistake(
    "taps before channels",
    "Rows are numbered (c, u, v): the channel is the slowest index.",
    edit=("torch.stack(taps, dim=2)", "torch.stack(taps, dim=1)"),
)
ex.mistake(
    "taps column by column",
    "Rows are numbered (c, u, v): v runs fastest.",
    edit=[
        (
            "    for u in range(kernel[0]):\n"
            "        down = slice(u * dilation, u * dilation + rows * stride, stride)\n"
            "        for v in range(kernel[1]):\n"
            "            along = slice(v * dilation, v * dilation + columns * stride, stride)\n",
            "    for v in range(kernel[1]):\n"
            "        along = slice(v * dilation, v * dilation + columns * stride, stride)\n"
            "        for u in range(kernel[0]):\n"
            "            down = slice(u * dilation, u * dilation + rows * stride, stride)\n",
        )
    ],
)
ex.mistake(
    "windows column by column",
    "Columns are numbered (i, j): j runs fastest.",
    edit=("taps.append(x[:, :, down, along])", "taps.append(x[:, :, down, along].transpose(2, 3))"),
)
ex.mistake(
    "windows as rows",
    "Windows are columns: the shape is (B, C k_h k_w, H' W').",
    edit=("-1, rows * columns)", "-1, rows * columns).transpose(1, 2)"),
)
ex.mistake(
    "flips the taps",
    "Row (c, u, v) is the image as tap (u, v) sees it: no flip.",
    edit=("torch.stack(taps, dim=2)", "torch.stack(taps[::-1], dim=2)"),
)
ex.mistake(
    "unfold without padding",
    "The windows slide over the padded image.",
    edit=[
        (
            "x.shape[2], kernel[0], stride, padding, dilation)\n"
            "    columns = output_size(x.shape[3], kernel[1], stride, padding",
            "x.shape[2], kernel[0], stride, 0, dilation)\n"
            "    columns = output_size(x.shape[3], kernel[1], stride, 0",
        ),
        ("    x = pad(x, padding, padding, padding, padding)\n", ""),
    ],
)
ex.mistake(
    "unfold pads one side",
    "The padding is added at each of the two ends.",
    edit=("pad(x, padding, padding, padding, padding)", "pad(x, 0, 2 * padding, 0, 2 * padding)"),
)
ex.mistake(
    "unfold ignores the dilation",
    "Tap u starts at row u d.",
    edit=[
        (
            "down = slice(u * dilation, u * dilation + rows * stride",
            "down = slice(u, u + rows * stride",
        ),
        (
            "along = slice(v * dilation, v * dilation + columns * stride",
            "along = slice(v, v + columns * stride",
        ),
    ],
)
ex.mistake(
    "fold overwrites",
    "Where windows overlap the copies of a pixel are added.",
    edit=("along] += taps", "along] = taps"),
)
ex.mistake(
    "fold averages",
    "fold is the transpose of unfold, not its inverse: overlaps are added.",
    edit=(
        "    return x[:, :, padding : padding + height, padding : padding + width]",
        "    x = x[:, :, padding : padding + height, padding : padding + width]\n"
        "    ones = unfold(torch.ones_like(x), kernel, stride, padding, dilation)\n"
        "    count = torch.zeros(height + 2 * padding, width + 2 * padding, dtype=x.dtype)\n"
        "    for u in range(k_h):\n"
        "        for v in range(k_w):\n"
        "            down = slice(u * dilation, u * dilation + h * stride, stride)\n"
        "            along = slice(v * dilation, v * dilation + w * stride, stride)\n"
        "            count[down, along] += 1\n"
        "    return x / count[padding : padding + height, padding : padding + width].clamp(min=1)",
    ),
)
ex.mistake(
    "fold keeps the padding",
    "What belongs to the padding is dropped.",
    edit=("return x[:, :, padding : padding + height, padding : padding + width]", "return x"),
)
ex.mistake(
    "fold drops the wrong border",
    "The image begins `padding` rows and columns inside.",
    edit=("padding : padding + height, padding : padding + width", ":height, :width"),
)
ex.mistake(
    "fold reads channels last",
    "Rows are numbered (c, u, v): the channel is the slowest index.",
    edit=(
        "columns.reshape(len(columns), -1, k_h, k_w, h, w)",
        "columns.reshape(len(columns), k_h, k_w, -1, h, w).permute(0, 3, 1, 2, 4, 5)",
    ),
)
ex.mistake(
    "fold reads windows column by column",
    "Columns are numbered (i, j): j runs fastest.",
    edit=(
        "columns.reshape(len(columns), -1, k_h, k_w, h, w)",
        "columns.reshape(len(columns), -1, k_h, k_w, w, h).transpose(4, 5)",
    ),
)
ex.mistake(
    "fold ignores the dilation",
    "Tap u adds to the rows from u d on.",
    edit=[
        ("down = slice(u * dilation, u * dilation + h * stride", "down = slice(u, u + h * stride"),
        (
            "along = slice(v * dilation, v * dilation + w * stride",
            "along = slice(v, v + w * stride",
        ),
    ],
)


ex.mistake(
    "fold adds only if the stride is short",
    "With dilation windows overlap even if the stride is as long as the kernel: always add.",
    edit=(
        "along] += taps[:, :, u, v]",
        "along] = taps[:, :, u, v] + x[:, :, down, along] * (stride < max(k_h, k_w))",
    ),
)
ex.mistake(
    "added to zeros of float32",
    "torch.zeros makes float32 unless told: added to float16 it gives float32.",
    edit=(
        "x = pad(empty, padding, padding, padding, padding)",
        "x = torch.zeros(1, 1, 1, 1) + pad(empty, padding, padding, padding, padding)",
    ),
)
ex.mistake(
    "one matrix for all calls",
    "The next call overwrites the result of this one: make a new tensor each time.",
    edit=(
        "    return torch.stack(taps, dim=2).reshape(len(x), -1, rows * columns)\n",
        overwritten("unfold", "torch.stack(taps, dim=2).reshape(len(x), -1, rows * columns)"),
    ),
)
ex.mistake(
    "unfold loops over the images",
    "A slice takes all images at once: x[:, :, rows, columns].",
    edit=(
        "    return torch.stack(taps, dim=2).reshape(len(x), -1, rows * columns)\n",
        "    images = [torch.stack([tap[b] for tap in taps], dim=1) for b in range(len(x))]\n"
        "    return torch.stack([image.flatten(2).flatten(0, 1) for image in images])\n",
    ),
)
ex.mistake(
    "fold loops over the channels",
    "A slice takes all channels at once: x[:, :, rows, columns].",
    edit=(
        "            x[:, :, down, along] += taps[:, :, u, v]\n",
        "            for c in range(x.shape[1]):\n"
        "                x[:, c, down, along] += taps[:, c, u, v]\n",
    ),
)


@ex.mistake("loops over the windows", "Take one strided slice for each tap.", replaces="unfold")
def _(x, kernel, stride=1, padding=0, dilation=1):
    h, w = (
        output_size(n, k, stride, padding, dilation)
        for n, k in zip(x.shape[2:], kernel, strict=True)
    )
    x = pad(x, padding, padding, padding, padding)
    columns = []
    for i in range(h):
        for j in range(w):
            a, b = i * stride, j * stride
            window = x[
                :,
                :,
                a : a + dilation * kernel[0] : dilation,
                b : b + dilation * kernel[1] : dilation,
            ]
            columns.append(window.reshape(len(x), -1))
    return torch.stack(columns, dim=2)


@ex.alternative("index arithmetic", replaces="unfold")
def _(x, kernel, stride=1, padding=0, dilation=1):
    h = output_size(x.shape[2], kernel[0], stride, padding, dilation)
    w = output_size(x.shape[3], kernel[1], stride, padding, dilation)
    x = pad(x, padding, padding, padding, padding)
    rows = dilation * torch.arange(kernel[0])[:, None] + stride * torch.arange(h)  # (k_h, H')
    columns = dilation * torch.arange(kernel[1])[:, None] + stride * torch.arange(w)
    taken = x[:, :, rows[:, None, :, None], columns[None, :, None, :]]  # (B, C, k_h, k_w, H', W')
    return taken.flatten(4).flatten(1, 3)


@ex.alternative("the method unfold", replaces="unfold")
def _(x, kernel, stride=1, padding=0, dilation=1):
    x = pad(x, padding, padding, padding, padding)
    spans = [dilation * (k - 1) + 1 for k in kernel]
    windows = x.unfold(2, spans[0], stride).unfold(3, spans[1], stride)
    windows = windows[..., ::dilation, ::dilation].permute(0, 1, 4, 5, 2, 3)
    return windows.reshape(len(x), x.shape[1] * kernel[0] * kernel[1], -1)


@ex.alternative("filled in place", replaces="unfold")
def _(x, kernel, stride=1, padding=0, dilation=1):
    batch, channels = x.shape[:2]
    h = output_size(x.shape[2], kernel[0], stride, padding, dilation)
    w = output_size(x.shape[3], kernel[1], stride, padding, dilation)
    x = pad(x, padding, padding, padding, padding)
    out = torch.zeros((batch, channels, *kernel, h, w), dtype=x.dtype, device=x.device)
    for u in range(kernel[0]):
        for v in range(kernel[1]):
            seen = x[:, :, u * dilation :, v * dilation :][:, :, ::stride, ::stride]
            out[:, :, u, v] = seen[:, :, :h, :w]
    return out.reshape(batch, channels * kernel[0] * kernel[1], h * w)


@ex.alternative("index_add on flat pixels", replaces="fold")
def _(columns, size, kernel, stride=1, padding=0, dilation=1):
    height, width = size[0] + 2 * padding, size[1] + 2 * padding
    numbers = torch.arange(height * width, dtype=torch.float64).reshape(1, 1, height, width)
    places = unfold(numbers, kernel, stride, 0, dilation)[0].long().flatten()
    flat = columns.reshape(len(columns), -1, len(places))
    image = columns.new_zeros(len(columns), flat.shape[1], height * width)
    image.index_add_(2, places, flat)
    image = image.reshape(len(columns), -1, height, width)
    return image[:, :, padding : height - padding, padding : width - padding]


# ----------------------------------------------------------------------------------------------
# conv2d

ex = conv2d = Exercise("conv2d", forbids=CONV)


def count_cases() -> dict[str, tuple[Tensor, Tensor, int]]:
    """Shapes that differ from the first in one number: x, weight (2 x 3) and groups."""
    return {
        "": (torch.randn(1, 2, 5, 6), torch.randn(2, 2, 2, 3), 1),
        "B": (torch.randn(25, 2, 5, 6), torch.randn(2, 2, 2, 3), 1),
        "C": (torch.randn(1, 28, 5, 6), torch.randn(2, 28, 2, 3), 1),
        "C'": (torch.randn(1, 2, 5, 6), torch.randn(35, 2, 2, 3), 1),
        "g": (torch.randn(1, 28, 5, 6), torch.randn(28, 1, 2, 3), 28),
        "B, C, C' and g": (torch.randn(25, 28, 5, 6), torch.randn(35, 4, 2, 3), 7),
    }


@ex.check("values, H != W, k_h != k_w, with and without bias", points=1)
def _(student):
    compare(student, "conv2d", "plain")
    x, weight = noise(1, 2, 4, 7), noise(3, 2, 1, 4)
    expect(student.conv2d(x, weight), F.conv2d(x, weight), "no bias")
    expect(student.conv2d(x, weight, None), F.conv2d(x, weight), "bias None")


@ex.check("stride, padding, dilation", points=1)
def _(student):
    compare(student, "conv2d", "stride", "padding", "dilation")
    x, weight, bias = noise(2, 2, 9, 7), noise(3, 2, 3, 2), noise(3)
    want = F.conv2d(x, weight, bias, 2, 1, 3)
    expect(student.conv2d(x, weight, bias, 2, 1, 3), want, "all three, by position")


@ex.check("groups", points=1)
def _(student):
    compare(student, "conv2d", "groups", "depthwise", "all")


@ex.check("as many operations for more images, channels and groups", points=0.5)
def _(student):
    for kind in ("", ", with a bias"):
        counts = {
            name: student.run(
                operations, "conv2d", x, w, torch.randn(len(w)) if kind else None, groups=g
            )
            for name, (x, w, g) in count_cases().items()
        }
        for name, count in counts.items():
            more = f"the number of tensor operations grows with {name}{kind}"
            require(count <= counts[""] + 10, more)
    many, large = torch.randn(15, 14, 5, 6), torch.randn(21, 2, 2, 3)
    want = F.conv2d(many, large, groups=7)
    expect(student.conv2d(many, large, groups=7), want, "seven groups", atol=1e-5)


@ex.check("dtype, layout, arguments stay", points=0.5)
def _(student):
    x, weight, bias = noise(2, 2, 5, 4), noise(3, 2, 2, 3), noise(3)
    want = F.conv2d(x, weight, bias, 1, 1)
    got = student.conv2d(x.float(), weight.float(), bias.float(), 1, 1)
    expect(got, want.float(), "float32", dtype=True, atol=1e-5)
    expect(student.conv2d(x, weight, bias, 1, 1), want, "float64", dtype=True, rtol=1e-9, atol=1e-9)
    expect(student.run(strided, "conv2d", x, weight, bias, 1, 1), want, "another layout")
    other = noise(2, 2, 5, 4)
    got = student.run(probes.calls, "conv2d", (x, weight, bias, 1, 1), (other, weight, bias, 1, 1))
    expect(got, [want, F.conv2d(other, weight, bias, 1, 1)], "the results of two calls")
    x, weight, bias = few(1, 2, 4, 3), few(3, 2, 2, 2), few(3)
    want = F.conv2d(x.double(), weight.double(), bias.double())
    expect(student.conv2d(x, weight, bias), want.half(), "float16", dtype=True)
    require(student.unchanged("conv2d", x, weight, bias, 1, 1), "conv2d changes its arguments")


ex.mistake(
    "flips the kernel",
    "Deep learning's convolution is a cross-correlation: do not flip.",
    edit=("weight.reshape(groups", "weight.flip(2, 3).reshape(groups"),
)
ex.mistake(
    "kernel transposed",
    "The kernel's numbers have the order of unfold's rows, (c, u, v): do not swap u and v.",
    edit=("weight.reshape(groups", "weight.transpose(2, 3).reshape(groups"),
)
ex.mistake(
    "channels last in the kernel",
    "The kernel's numbers have the order of unfold's rows, (c, u, v).",
    edit=("weight.reshape(groups", "weight.permute(0, 2, 3, 1).reshape(groups"),
)
ex.mistake(
    "the bias is left out",
    "The bias of the output channel is added to each output.",
    edit=("return y if bias is None else y + bias[:, None, None]", "return y"),
)
ex.mistake(
    "the bias subtracted",
    "The bias is added.",
    edit=("y + bias[:, None, None]", "y - bias[:, None, None]"),
)
ex.mistake(
    "the bias along the rows",
    "One bias for each channel: it needs two more axes for H and W.",
    edit=("y + bias[:, None, None]", "y + bias.repeat(y.shape[3])[: y.shape[3]]"),
)
ex.mistake(
    "groups interleaved",
    "Groups are consecutive blocks of channels.",
    edit=(
        "weight.reshape(groups, len(weight) // groups, -1) @ columns",
        "weight.reshape(len(weight) // groups, groups, -1).transpose(0, 1) @ columns",
    ),
)
ex.mistake(
    "results of the groups interleaved",
    "Block q of the outputs comes from block q of the inputs, in order.",
    edit=("y = y.reshape(len(x)", "y = y.transpose(1, 2).reshape(len(x)"),
)
ex.mistake(
    "groups read in reverse",
    "Block q of the outputs sees block q of the inputs.",
    edit=("len(weight) // groups, -1) @ columns", "len(weight) // groups, -1) @ columns.flip(1)"),
)
ex.mistake(
    "rows and columns of the map swapped",
    "Columns are numbered (i, j): reshape to (H', W').",
    edit=("rows, -1)\n", "-1, rows).transpose(2, 3)\n"),
)
ex.mistake(
    "the stride ignored",
    "The options go on to unfold and to the size of the result.",
    edit=[
        ("weight.shape[2], stride, padding", "weight.shape[2], 1, padding"),
        ("weight.shape[2:], stride, padding", "weight.shape[2:], 1, padding"),
    ],
)
ex.mistake(
    "the padding ignored",
    "The options go on to unfold and to the size of the result.",
    edit=[
        ("weight.shape[2], stride, padding", "weight.shape[2], stride, 0"),
        ("weight.shape[2:], stride, padding", "weight.shape[2:], stride, 0"),
    ],
)
ex.mistake(
    "the dilation ignored",
    "The options go on to unfold and to the size of the result.",
    edit=[
        ("weight.shape[2], stride, padding, dilation", "weight.shape[2], stride, padding"),
        ("weight.shape[2:], stride, padding, dilation", "weight.shape[2:], stride, padding"),
    ],
)


ex.mistake(
    "no bias with groups",
    "The bias belongs to the output channels, whatever the groups.",
    edit=("return y if bias is None else", "return y if bias is None or groups > 1 else"),
)
ex.mistake(
    "added to zeros of float32",
    "torch.zeros makes float32 unless told: added to float16 it gives float32.",
    edit=(
        "return y if bias is None else",
        "y = torch.zeros(1, 1, 1, 1) + y\n    return y if bias is None else",
    ),
)
ex.mistake(
    "one result for all calls",
    "The next call overwrites the result of this one: make a new tensor each time.",
    edit=(
        "    return y if bias is None else y + bias[:, None, None]",
        overwritten("conv2d", "y if bias is None else y + bias[:, None, None]"),
    ),
)
ex.mistake(
    "a loop over the images for one group",
    "One product does all images at once, with one group as well.",
    edit=(
        "    y = weight.reshape(groups",
        "    if groups == 1:\n"
        "        flat = weight.flatten(1)\n"
        "        y = torch.stack([flat @ image[0] for image in columns])\n"
        "    else:\n"
        "        y = weight.reshape(groups",
    ),
)
ex.mistake(
    "a loop over the channels for one group",
    "One product sums over all input channels at once.",
    edit=(
        "    y = weight.reshape(groups",
        "    if groups == 1:\n"
        "        parts = columns[:, 0].unflatten(1, (x.shape[1], -1))\n"
        "        y = sum(weight[:, c].flatten(1) @ parts[:, c] for c in range(x.shape[1]))\n"
        "    else:\n"
        "        y = weight.reshape(groups",
    ),
)
ex.mistake(
    "the bias in a loop",
    "Give the bias two more axes, and it is added to all output channels at once.",
    edit=(
        "return y if bias is None else y + bias[:, None, None]",
        "for o in range(len(weight)):\n"
        "        if bias is not None:\n"
        "            y[:, o] += bias[o]\n"
        "    return y",
    ),
)


@ex.mistake("loops over the output channels", "One product does all channels at once.")
def _(x, weight, bias=None, stride=1, padding=0, dilation=1, groups=1):
    return conv2d_naive(x, weight, bias, stride, padding, dilation, groups)


@ex.mistake("loops over the groups", "A batched product does all groups at once.")
def _(x, weight, bias=None, stride=1, padding=0, dilation=1, groups=1):
    rows = output_size(x.shape[2], weight.shape[2], stride, padding, dilation)
    parts = []
    for block, kernel in zip(x.chunk(groups, 1), weight.chunk(groups, 0), strict=True):
        parts.append(kernel.flatten(1) @ unfold(block, kernel.shape[2:], stride, padding, dilation))
    y = torch.cat(parts, dim=1).reshape(len(x), len(weight), rows, -1)
    return y if bias is None else y + bias[:, None, None]


@ex.alternative("einsum")
def _(x, weight, bias=None, stride=1, padding=0, dilation=1, groups=1):
    h, w = (
        output_size(n, k, stride, padding, dilation)
        for n, k in zip(x.shape[2:], weight.shape[2:], strict=True)
    )
    columns = unfold(x, weight.shape[2:], stride, padding, dilation)
    columns = columns.unflatten(1, (groups, -1))
    y = torch.einsum("gok,bgkl->bgol", weight.flatten(1).unflatten(0, (groups, -1)), columns)
    y = y.flatten(1, 2).unflatten(2, (h, w))
    if bias is not None:
        y = y + bias.view(1, -1, 1, 1)
    return y


@ex.alternative("one long product for one group")
def _(x, weight, bias=None, stride=1, padding=0, dilation=1, groups=1):
    b, (out, depth, k_h, k_w) = len(x), weight.shape
    h = output_size(x.shape[2], k_h, stride, padding, dilation)
    w = output_size(x.shape[3], k_w, stride, padding, dilation)
    columns = unfold(x, (k_h, k_w), stride, padding, dilation)
    if groups == 1:
        long = columns.transpose(0, 1).reshape(depth * k_h * k_w, -1)
        y = (weight.reshape(out, -1) @ long).reshape(out, b, h, w).transpose(0, 1)
    else:
        blocks = columns.reshape(b * groups, depth * k_h * k_w, h * w)
        kernels = weight.reshape(groups, out // groups, -1).repeat(b, 1, 1)
        y = torch.bmm(kernels, blocks).reshape(b, out, h, w)
    if bias is not None:
        y += bias.reshape(-1, 1, 1)
    return y


# ----------------------------------------------------------------------------------------------
# conv2d_backward

ex = conv2d_backward = Exercise("conv2d_backward", forbids=[*CONV, *AUTOGRAD])


def conv_gradients(grad: Tensor, x: Tensor, weight: Tensor, **options: int) -> tuple[Tensor, ...]:
    """The oracle: autograd."""
    leaves = [x.clone().requires_grad_(), weight.clone().requires_grad_()]
    bias = torch.zeros(len(weight), dtype=x.dtype, requires_grad=True)
    y = F.conv2d(*leaves, bias, **options)
    return torch.autograd.grad(y, [*leaves, bias], grad)


def upstream(name: str) -> tuple[Tensor, Tensor, Tensor, dict[str, int]]:
    """Random gradient, x and weight of a case, and its options."""
    x, weight, _, options = case(name)
    return noise(*F.conv2d(x, weight, **options).shape), x, weight, options


def compare_gradients(student: Any, part: int, *cases: str) -> None:
    for which in cases:
        grad, x, weight, options = upstream(which)
        got = student.conv2d_backward(grad, x, weight, **options)
        want = conv_gradients(grad, x, weight, **options)
        name = ("x", "weight", "bias")[part]
        expect(got[part], want[part], f"by {name}, {which}: {options or 'stride 1'}")


CASES["remainder"] = ((2, 2, 8, 9), (3, 2, 2, 2), {"stride": 4})
CASES["1 x 1, padding 1"] = ((2, 2, 4, 3), (3, 2, 1, 1), {"padding": 1})
CASES["1 x 2, padding 2"] = ((1, 2, 3, 4), (2, 2, 1, 2), {"stride": 2, "padding": 2})
CASES["as many outputs as inputs"] = ((2, 3, 5, 4), (3, 3, 2, 3), {})


@ex.check("by x", points=1)
def _(student):
    compare_gradients(student, 0, "plain", "padding", "as many outputs as inputs")
    compare_gradients(student, 0, "1 x 1, padding 1", "1 x 2, padding 2")


@ex.check("by x: stride, dilation, pixels not reached", points=1)
def _(student):
    compare_gradients(student, 0, "stride", "dilation", "remainder")


@ex.check("by the weights", points=1)
def _(student):
    compare_gradients(student, 1, "plain", "stride", "padding", "dilation", "remainder")


@ex.check("by the bias", points=0.5)
def _(student):
    compare_gradients(student, 2, "plain", "padding", "groups")


@ex.check("groups", points=1)
def _(student):
    for part in range(3):
        compare_gradients(student, part, "groups", "depthwise", "all")


@ex.check("as many operations for more images, channels and groups", points=0.5)
def _(student):
    counts = {
        name: student.run(
            operations, "conv2d_backward", torch.randn(len(x), len(w), 4, 4), x, w, groups=g
        )
        for name, (x, w, g) in count_cases().items()
    }
    for name, count in counts.items():
        require(count <= counts[""] + 20, f"the number of tensor operations grows with {name}")
    many, large = torch.randn(15, 14, 5, 6), torch.randn(21, 2, 2, 3)
    g_many = torch.randn(15, 21, 4, 4)
    got = student.conv2d_backward(g_many, many, large, groups=7)
    want = conv_gradients(g_many, many, large, groups=7)
    expect(got[0], want[0], "by x, seven groups", atol=1e-4)
    expect(got[1], want[1], "by weight, seven groups", atol=1e-4)


@ex.check("dtype, layout, arguments stay", points=0.5)
def _(student):
    grad, x, weight, options = upstream("padding")
    want = conv_gradients(grad, x, weight, **options)
    low = student.conv2d_backward(grad.float(), x.float(), weight.float(), **options)
    laid = student.run(strided, "conv2d_backward", grad, x, weight, **options)
    for name, single, other, right in zip(["x", "weight", "bias"], low, laid, want, strict=True):
        expect(single, right.float(), f"by {name}, float32", dtype=True, atol=1e-4)
        expect(other, right, f"by {name}, another layout", dtype=True, rtol=1e-9, atol=1e-9)
    require(
        student.unchanged("conv2d_backward", grad, x, weight, **options),
        "conv2d_backward changes its arguments",
    )
    again = torch.randn_like(grad), torch.randn_like(x), weight
    got = student.run(probes.calls, "conv2d_backward", (grad, x, weight, 1, 2), (*again, 1, 2))
    both = [want, conv_gradients(*again, **options)]
    for call, (three, right) in enumerate(zip(got, both, strict=True)):
        expect(list(three), list(right), f"call {call + 1} of two, looked at after both")
    grad, x, weight = few(2, 3, 3, 2), few(2, 2, 4, 3), few(3, 2, 2, 2)
    got = student.conv2d_backward(grad, x, weight)
    want = conv_gradients(grad.double(), x.double(), weight.double())
    for name, half, right in zip(["x", "weight", "bias"], got, want, strict=True):
        expect(half, right.half(), f"by {name}, float16", dtype=True)


ex.mistake(
    "weights averaged over the batch",
    "All images use the same weights: their gradients are summed; the loss has averaged already.",
    edit=("columns.mT).sum(dim=0)", "columns.mT).mean(dim=0)"),
)
ex.mistake(
    "weights of the first image",
    "All images use the same weights: their gradients are summed.",
    edit=("columns.mT).sum(dim=0)", "columns.mT)[0]"),
)
ex.mistake(
    "bias gradient averaged",
    "The bias is used at every place of every image: its gradient is the sum.",
    edit=("grad.sum(dim=(0, 2, 3))", "grad.mean(dim=(0, 2, 3))"),
)
ex.mistake(
    "bias gradient not summed over the places",
    "The bias is used at every place of every image: its gradient is the sum over all.",
    edit=("grad.sum(dim=(0, 2, 3))", "grad.sum(dim=0)"),
)
ex.mistake(
    "bias gradient averaged over the batch",
    "The bias is used at every place of every image: its gradient is the sum.",
    edit=("grad.sum(dim=(0, 2, 3))", "grad.sum(dim=(2, 3)).mean(dim=0)"),
)
ex.mistake(
    "dX with the flipped kernel",
    "The flip comes of itself when fold adds up: W^T G has the kernel as it is.",
    edit=("matrix = weight.reshape", "matrix = weight.flip(2, 3).reshape"),
)
ex.mistake(
    "dW flipped",
    "dw_u collects g_i x_(i s + u d): no flip.",
    edit=(".reshape(weight.shape)", ".reshape(weight.shape).flip(2, 3)"),
)
ex.mistake(
    "dW transposed in the kernel",
    "dW has the axes of W, (C', C / g, k_h, k_w).",
    edit=(
        ".reshape(weight.shape)",
        ".reshape(*weight.shape[:2], weight.shape[3], weight.shape[2]).transpose(2, 3)",
    ),
)
ex.mistake(
    "copies overwritten, not added",
    "A pixel stands in several windows: the gradients of its copies are added.",
    edit=(
        "    dx = fold(dcolumns, x.shape[2:], kernel, stride, padding, dilation)\n",
        "    taps = dcolumns.reshape(\n"
        "        batch, x.shape[1], *kernel, *grad.shape[2:]\n"
        "    )\n"
        "    dx = pad(torch.zeros_like(x), padding, padding, padding, padding)\n"
        "    for u in range(kernel[0]):\n"
        "        for v in range(kernel[1]):\n"
        "            a, b = u * dilation, v * dilation\n"
        "            h, w = grad.shape[2:]\n"
        "            down = slice(a, a + h * stride, stride)\n"
        "            along = slice(b, b + w * stride, stride)\n"
        "            dx[:, :, down, along] = taps[:, :, u, v]\n"
        "    dx = dx[:, :, padding : padding + x.shape[2], padding : padding + x.shape[3]]\n",
    ),
)
ex.mistake(
    "gradient of the padding kept",
    "dX has the shape of x, without the padding.",
    edit=(
        "fold(dcolumns, x.shape[2:], kernel, stride, padding, dilation)",
        "fold(dcolumns, [n + 2 * padding for n in x.shape[2:]], kernel, stride, 0, dilation)",
    ),
)
ex.mistake(
    "pixels not reached cut off",
    "dX has the shape of x: pixels that no window reached have the gradient 0.",
    edit=(
        "    dx = fold(dcolumns, x.shape[2:], kernel, stride, padding, dilation)\n",
        "    size = [\n"
        "        (n - 1) * stride + dilation * (k - 1) + 1 - 2 * padding\n"
        "        for n, k in zip(grad.shape[2:], kernel)\n"
        "    ]\n"
        "    dx = fold(dcolumns, size, kernel, stride, padding, dilation)\n",
    ),
)
ex.mistake(
    "stride forgotten in dX",
    "The gradient goes back to where the windows stood: s apart.",
    edit=(
        "    dx = fold(dcolumns, x.shape[2:], kernel, stride, padding, dilation)\n",
        "    h, w = (n + dilation * (k - 1) for n, k in zip(grad.shape[2:], kernel))\n"
        "    dx = x * 0\n"
        "    small = fold(dcolumns, (h, w), kernel, 1, 0, dilation)\n"
        "    small = small[:, :, padding : padding + x.shape[2], padding : padding + x.shape[3]]\n"
        "    dx[:, :, : small.shape[2], : small.shape[3]] = small\n",
    ),
)
ex.mistake(
    "W, not its transpose, of each tap",
    "The gradient by M is W^T G: output channel o hands g_o w_(o,r) to row r.",
    edit=(
        "(matrix.mT @ rows)",
        "(matrix.reshape(groups, -1, rows.shape[2]) @ rows)",
    ),
)
ex.mistake(
    "groups interleaved",
    "Groups are consecutive blocks of channels.",
    edit=(
        "rows = grad.reshape(batch, groups, -1, columns.shape[3])",
        "rows = grad.reshape(batch, -1, groups, columns.shape[3]).transpose(1, 2)",
    ),
)
ex.mistake(
    "dW divided by the number of places",
    "The gradients of all places are summed.",
    edit=("dweight = (rows @", "dweight = (rows / rows.shape[3] @"),
)
ex.mistake(
    "dX averaged over the output channels",
    "Every output channel that reads a pixel adds its part.",
    edit=("(matrix.mT @ rows)", "(matrix.mT @ rows / rows.shape[2])"),
)
ex.mistake(
    "negative gradients",
    "The gradient, not the step against it, is asked for.",
    edit=("return dx, dweight, grad.sum", "return -dx, -dweight, -grad.sum"),
)


ex.mistake(
    "dW in a buffer for all calls",
    "The next call overwrites the result of this one: make a new tensor each time.",
    edit=(
        "    return dx, dweight, grad.sum(dim=(0, 2, 3))",
        "    kept = conv2d_backward.__dict__.setdefault('kept', {})\n"
        "    key = weight.shape, weight.dtype\n"
        "    dweight = kept.setdefault(key, torch.empty_like(weight)).copy_(dweight)\n"
        "    return dx, dweight, grad.sum(dim=(0, 2, 3))",
    ),
)
ex.mistake(
    "dW added to zeros of float32",
    "torch.zeros makes float32 unless told: added to float16 it gives float32.",
    edit=("dweight = (rows @", "dweight = torch.zeros(weight.shape) + (rows @"),
)
ex.mistake(
    "dX mixes W's channels if they are as many",
    "W^T changes places of the output channels and the windows' numbers, not of C' and C.",
    edit=(
        "matrix = weight.reshape",
        "if weight.shape[0] == weight.shape[1]:\n"
        "        weight = weight.transpose(0, 1)\n"
        "    matrix = weight.reshape",
    ),
)


@ex.mistake(
    "wide padding not cropped in dX",
    "If p > d(k - 1), the first outputs have read zeros only: leave them out, do not shift them.",
)
def _(grad, x, weight, stride=1, padding=0, dilation=1, groups=1):
    (height, width), (h, w), (k_h, k_w) = x.shape[2:], grad.shape[2:], weight.shape[2:]
    top, left = (max(0, dilation * (k - 1) - padding) for k in (k_h, k_w))
    spread = grad.new_zeros(
        *grad.shape[:2], height + dilation * (k_h - 1), width + dilation * (k_w - 1)
    )
    part = spread[:, :, top:, left:]
    part = part[:, :, : (h - 1) * stride + 1 : stride, : (w - 1) * stride + 1 : stride]
    part.copy_(grad[:, :, : part.shape[2], : part.shape[3]])
    flipped = weight.flip(2, 3).unflatten(0, (groups, -1)).transpose(1, 2).flatten(0, 1)
    dx = conv2d(spread, flipped, dilation=dilation, groups=groups)
    columns = unfold(x, (k_h, k_w), stride, padding, dilation).unflatten(1, (groups, -1))
    rows = grad.reshape(len(grad), groups, -1, h * w)
    dweight = (rows @ columns.mT).sum(dim=0).reshape(weight.shape)
    return dx, dweight, grad.sum(dim=(0, 2, 3))


@ex.mistake("loops over the images", "A batched product does all images at once.")
def _(grad, x, weight, stride=1, padding=0, dilation=1, groups=1):
    kernel = weight.shape[2:]
    matrix, dx, dweight = weight.reshape(groups, len(weight) // groups, -1), [], 0
    for g, image in zip(grad, x, strict=True):
        columns = unfold(image[None], kernel, stride, padding, dilation)
        columns = columns.reshape(groups, -1, columns.shape[2])
        rows = g.reshape(groups, -1, columns.shape[2])
        dweight = dweight + rows @ columns.transpose(1, 2)
        dcolumns = (matrix.mT @ rows).reshape(1, -1, columns.shape[2])
        dx.append(fold(dcolumns, x.shape[2:], kernel, stride, padding, dilation))
    return torch.cat(dx), dweight.reshape(weight.shape), grad.sum((0, 2, 3))


@ex.alternative("dX by the flipped kernel over the spread gradient")
def _(grad, x, weight, stride=1, padding=0, dilation=1, groups=1):
    (height, width), (h, w), (k_h, k_w) = x.shape[2:], grad.shape[2:], weight.shape[2:]
    top, left = dilation * (k_h - 1), dilation * (k_w - 1)
    spread = grad.new_zeros(*grad.shape[:2], height + 2 * padding + top, width + 2 * padding + left)
    part = spread[:, :, top:, left:]
    part[:, :, : (h - 1) * stride + 1 : stride, : (w - 1) * stride + 1 : stride] = grad
    flipped = weight.flip(2, 3).unflatten(0, (groups, -1)).transpose(1, 2).flatten(0, 1)
    dx = conv2d(spread, flipped, dilation=dilation, groups=groups)
    columns = unfold(x, (k_h, k_w), stride, padding, dilation).unflatten(1, (groups, -1))
    rows = grad.reshape(len(grad), groups, -1, h * w)
    dweight = (rows @ columns.mT).sum(dim=0).reshape(weight.shape)
    dx = dx[:, :, padding : padding + height, padding : padding + width]
    return dx, dweight, grad.sum(dim=(0, 2, 3))


@ex.alternative("tap by tap, einsum")
def _(grad, x, weight, stride=1, padding=0, dilation=1, groups=1):
    k_h, k_w = weight.shape[2:]
    h, w = grad.shape[2:]
    padded = pad(x, padding, padding, padding, padding).unflatten(1, (groups, -1))
    g = grad.unflatten(1, (groups, -1))
    kernel = weight.unflatten(0, (groups, -1))
    dpadded, dweight = torch.zeros_like(padded), torch.zeros_like(kernel)
    for u in range(k_h):
        for v in range(k_w):
            a, b = u * dilation, v * dilation
            rows, columns = slice(a, a + h * stride, stride), slice(b, b + w * stride, stride)
            seen = padded[..., rows, columns]
            dweight[..., u, v] = torch.einsum("bgohw,bgchw->goc", g, seen)
            dpadded[..., rows, columns] += torch.einsum("bgohw,goc->bgchw", g, kernel[..., u, v])
    dx = dpadded.flatten(1, 2)
    dx = dx[:, :, padding : padding + x.shape[2], padding : padding + x.shape[3]]
    return [dx, dweight.flatten(0, 1), grad.sum(3).sum(2).sum(0)]


@ex.alternative("float64 inside, one product over the batch")
def _(grad, x, weight, stride=1, padding=0, dilation=1, groups=1):
    kernel, b = weight.shape[2:], len(x)
    columns = unfold(x.double(), kernel, stride, padding, dilation)
    places = columns.shape[2]
    columns = columns.reshape(b, groups, -1, places)
    g = grad.double().reshape(b, groups, -1, places)
    dweight = torch.einsum("bgol,bgrl->gor", g, columns).reshape(weight.shape)
    matrix = weight.double().reshape(groups, len(weight) // groups, -1)
    dcolumns = torch.einsum("gor,bgol->bgrl", matrix, g).flatten(1, 2)
    dx = fold(dcolumns, tuple(x.shape[2:]), kernel, stride, padding, dilation)
    dbias = torch.einsum("bohw->o", grad.double())
    return dx.to(x.dtype), dweight.to(x.dtype), dbias.to(x.dtype)


# ----------------------------------------------------------------------------------------------
# max_pool2d

ex = max_pool2d = Exercise(
    "max_pool2d",
    defines=["max_pool2d", "max_pool2d_backward"],
    forbids=[*POOL, *AUTOGRAD, "F.unfold", "F.fold", "aten::im2col", "aten::col2im"],
)

POOLS = [  # shape of x, kernel, stride, padding
    ((2, 3, 6, 8), (2, 2), 2, 0),
    ((1, 2, 7, 6), (3, 2), 1, 0),
    ((2, 1, 8, 11), (2, 3), 3, 1),
    ((1, 3, 9, 7), (3, 4), 2, 1),
    ((3, 2, 8, 5), (1, 2), 4, 0),
    ((1, 2, 11, 14), (4, 6), 5, 2),
]


def distinct(*shape: int) -> Tensor:
    """Distinct numbers in random order, most of them negative."""
    count = math.prod(shape)
    return (torch.randperm(count).double() - 0.8 * count).reshape(shape)


def pool_gradient(pool: Any, grad: Tensor, x: Tensor, *args: Any) -> Tensor:
    """The oracle: autograd."""
    leaf = x.clone().requires_grad_()
    return torch.autograd.grad(pool(leaf, *args), leaf, grad)[0]


def compare_max(student: Any, x: Tensor, *args: Any, backward: bool = False) -> None:
    y = F.max_pool2d(x, *args)
    if not backward:
        expect(student.max_pool2d(x, *args), y, f"kernel, s, p = {args}", dtype=True)
        return
    grad = torch.randn(y.shape, dtype=x.dtype)
    want = pool_gradient(F.max_pool2d, grad, x, *args)
    got = student.max_pool2d_backward(grad, x, *args)
    expect(got, want, f"gradient, kernel, s, p = {args}", dtype=True)


@ex.check("forward: values", points=1)
def _(student):
    for shape, *args in [POOLS[0], POOLS[1], POOLS[4]]:
        compare_max(student, distinct(*shape), *args)

    x = distinct(2, 1, 5, 4)
    expect(student.max_pool2d(x, (2, 3), 1), F.max_pool2d(x, (2, 3), 1), "padding left out")


@ex.check("forward: padding never wins", points=0.5)
def _(student):
    for shape, *args in [*POOLS[2:4], POOLS[5]]:
        compare_max(student, distinct(*shape) - 1000.0, *args)
    compare_max(student, -1e30 - 1e30 * torch.rand(1, 2, 5, 4).double(), (3, 2), 2, 1)


@ex.check("backward: each window has its winner", points=1)
def _(student):
    for shape, *args in [POOLS[0], POOLS[4]]:
        compare_max(student, distinct(*shape), *args, backward=True)

    x, grad = distinct(2, 1, 5, 4), noise(2, 1, 4, 2)
    want = pool_gradient(F.max_pool2d, grad, x, (2, 3), 1)
    expect(student.max_pool2d_backward(grad, x, (2, 3), 1), want, "gradient, padding left out")


@ex.check("backward: overlapping windows, padding", points=1)
def _(student):
    for shape, *args in [*POOLS[1:4], POOLS[5]]:
        compare_max(student, distinct(*shape) - 500.0, *args, backward=True)
    shape, *args = POOLS[2]
    compare_max(student, distinct(*shape), *args, backward=True)
    low = -1e30 - 1e30 * torch.rand(1, 2, 5, 4).double()
    compare_max(student, low, (3, 2), 2, 1, backward=True)


@ex.check("backward: ties", points=1)
def _(student):
    for shape, *args in POOLS:
        compare_max(student, torch.randint(-1, 2, shape).double(), *args, backward=True)
    compare_max(student, torch.zeros(1, 2, 6, 5), (3, 3), 2, 1, backward=True)
    near = 1 + 1e-6 * torch.randint(0, 3, (1, 2, 6, 5)).double()
    compare_max(student, near, (3, 3), 2, 1, backward=True)
    for near, step in [(1.0, 1e-11), (1000.0, 5e-3)]:
        x = near + step * torch.randint(0, 3, (1, 2, 6, 5)).double()
        compare_max(student, x, (3, 3), 2, 1, backward=True)


def winners_anew(student: Any, grad: Tensor, x: Tensor, later: Tensor, *args: Any) -> list[Tensor]:
    """A probe: the gradients by `x` before and after its numbers change."""
    first = student.max_pool2d_backward(grad, x, *args)
    x.copy_(later)
    return [first, student.max_pool2d_backward(grad, x, *args)]


@ex.check("float32, layout, arguments stay", points=0.5)
def _(student):
    x, args = distinct(2, 3, 7, 6).float(), ((3, 2), 2, 1)
    compare_max(student, x, *args)
    compare_max(student, x, *args, backward=True)
    y = F.max_pool2d(x, *args)
    expect(student.run(strided, "max_pool2d", x, *args), y, "another layout")
    grad = torch.randn(y.shape)
    got = student.run(strided, "max_pool2d_backward", grad, x, *args)
    expect(got, pool_gradient(F.max_pool2d, grad, x, *args), "gradient, another layout")
    half = few(2, 3, 7, 6)
    want = F.max_pool2d(half.double(), *args).half()
    expect(student.max_pool2d(half, *args), want, "float16", dtype=True)
    small = few(*y.shape)
    want = pool_gradient(F.max_pool2d, small.double(), half.double(), *args).half()
    expect(student.max_pool2d_backward(small, half, *args), want, "gradient, float16", dtype=True)
    other = distinct(2, 3, 7, 6).float()
    got = student.run(probes.calls, "max_pool2d", (x, *args), (other, *args))
    expect(got, [y, F.max_pool2d(other, *args)], "the results of two calls")
    got = student.run(winners_anew, grad, x, other, *args)
    want = [pool_gradient(F.max_pool2d, grad, each, *args) for each in (x, other)]
    expect(got, want, "gradient, the results of two calls, x changed in between")
    require(student.unchanged("max_pool2d", x, *args), "max_pool2d changes its argument")
    require(
        student.unchanged("max_pool2d_backward", grad, x, *args),
        "max_pool2d_backward changes its arguments",
    )


ex.mistake(
    "pads with zeros",
    "A zero wins over negative numbers: pad with minus infinity.",
    edit=[
        (
            "unfold(pad(x, *[padding] * 4, value=-math.inf), kernel",
            "unfold(pad(x, *[padding] * 4), kernel",
        ),
        ("padded = pad(x, *[padding] * 4, value=-math.inf)", "padded = pad(x, *[padding] * 4)"),
    ],
)
ex.mistake(
    "zeros in the forward padding",
    "A zero wins over negative numbers: pad with minus infinity, forwards as well.",
    edit=(
        "unfold(pad(x, *[padding] * 4, value=-math.inf), kernel",
        "unfold(pad(x, *[padding] * 4), kernel",
    ),
)
ex.mistake(
    "zeros in the backward padding",
    "The winners have to be those of the forward pass: pad with minus infinity there too.",
    edit=("padded = pad(x, *[padding] * 4, value=-math.inf)", "padded = pad(x, *[padding] * 4)"),
)
ex.mistake(
    "pads with a number that is not small enough",
    "Minus infinity is below every number; -1e9 is not.",
    edit=[
        (
            "unfold(pad(x, *[padding] * 4, value=-math.inf), kernel",
            "unfold(pad(x, *[padding] * 4, value=-1e9), kernel",
        ),
        (
            "padded = pad(x, *[padding] * 4, value=-math.inf)",
            "padded = pad(x, *[padding] * 4, value=-1e9)",
        ),
    ],
)
ex.mistake(
    "a number in the backward padding that is not small enough",
    "The winners have to be those of the forward pass: pad with minus infinity there too.",
    edit=(
        "padded = pad(x, *[padding] * 4, value=-math.inf)",
        "padded = pad(x, *[padding] * 4, value=-1000.0)",
    ),
)
ex.mistake(
    "ties within a tolerance",
    "Only equal numbers tie: isclose takes a slightly smaller one for the largest.",
    edit=(
        "windows.argmax(dim=2, keepdim=True)",
        "torch.isclose(windows, windows.amax(2, keepdim=True)).byte().argmax(2, keepdim=True)",
    ),
)
ex.mistake(
    "winners kept from an earlier call",
    "Find the winners anew from x: the same tensor may hold other numbers by now.",
    edit=(
        "    winners = windows.argmax(dim=2, keepdim=True)",
        "    kept = max_pool2d_backward.__dict__.setdefault('kept', {})\n"
        "    key = x.data_ptr(), windows.shape, x.dtype\n"
        "    winners = kept.setdefault(key, windows.argmax(dim=2, keepdim=True))",
    ),
)
ex.mistake(
    "one result for all calls",
    "The next call overwrites the result of this one: make a new tensor each time.",
    edit=(
        "    return windows.amax(dim=2).reshape(batch, channels, rows, -1)\n",
        overwritten("max_pool2d", "windows.amax(dim=2).reshape(batch, channels, rows, -1)"),
    ),
)
ex.mistake(
    "gradient added to zeros of float32",
    "torch.zeros makes float32 unless told: added to float16 it gives float32.",
    edit=("shares = torch.zeros_like", "shares = torch.zeros(1, 1, 1, 1) + torch.zeros_like"),
)
ex.mistake(
    "the smallest number",
    "Max pooling keeps the largest number.",
    edit=[("windows.amax(dim=2)", "windows.amin(dim=2)"), ("windows.argmax(", "windows.argmin(")],
)
ex.mistake(
    "the mean of the window",
    "That is average pooling.",
    edit=("windows.amax(dim=2)", "windows.mean(dim=2)"),
)
ex.mistake(
    "the largest over all channels",
    "Pooling works channel by channel.",
    edit=(
        "windows.amax(dim=2)",
        "windows.amax(dim=(1, 2), keepdim=True).expand(-1, channels, -1, -1)",
    ),
)
ex.mistake(
    "rows and columns of the map swapped",
    "Columns of unfold are numbered (i, j): reshape to (H', W').",
    edit=(
        ".reshape(batch, channels, rows, -1)",
        ".reshape(batch, channels, -1, rows).transpose(2, 3)",
    ),
)
ex.mistake(
    "the stride ignored",
    "The stride is an argument of its own, not 1 and not the kernel.",
    edit=[
        ("kernel[0], stride, padding)", "kernel[0], 1, padding)"),
        ("value=-math.inf), kernel, stride)", "value=-math.inf), kernel, 1)"),
    ],
)
ex.mistake(
    "gradient to every tie",
    "Of equal numbers the first alone has the gradient.",
    edit=(
        "torch.zeros_like(windows).scatter(2, winners, grad.reshape(batch, channels, 1, -1))",
        "(windows == windows.amax(2, keepdim=True)) * grad.reshape(batch, channels, 1, -1)",
    ),
)
ex.mistake(
    "gradient shared among ties",
    "Of equal numbers the first alone has the gradient.",
    edit=(
        "torch.zeros_like(windows).scatter(2, winners, grad.reshape(batch, channels, 1, -1))",
        "(top := (windows == windows.amax(2, keepdim=True)).to(x.dtype)) / top.sum(2, keepdim=True)"
        " * grad.reshape(batch, channels, 1, -1)",
    ),
)
ex.mistake(
    "gradient to the last of equal numbers",
    "Of equal numbers the first in row-major order has the gradient.",
    edit=(
        "windows.argmax(dim=2, keepdim=True)",
        "windows.shape[2] - 1 - windows.flip(2).argmax(dim=2, keepdim=True)",
    ),
)
ex.mistake(
    "first by columns",
    "Row-major order: the smallest u first, then the smallest v.",
    edit=(
        "windows.argmax(dim=2, keepdim=True)",
        "(lambda t: t % kernel[0] * kernel[1] + t // kernel[0])("
        "windows.unflatten(2, kernel).transpose(2, 3).flatten(2, 3).argmax(dim=2, keepdim=True))",
    ),
)
ex.mistake(
    "ties broken by a small bias",
    "A bias that lets the first of equal numbers win lets it beat a slightly larger one too.",
    edit=(
        "windows.argmax(dim=2, keepdim=True)",
        "(windows - 1e-4 * torch.arange(windows.shape[2])[:, None]).argmax(dim=2, keepdim=True)",
    ),
)
ex.mistake(
    "gradient to the whole window",
    "Only the winner changes the output.",
    edit=(
        "torch.zeros_like(windows).scatter(2, winners, grad.reshape(batch, channels, 1, -1))",
        "torch.ones_like(windows) * grad.reshape(batch, channels, 1, -1)",
    ),
)
ex.mistake(
    "gradient times the number",
    "The derivative by the winner is 1, not the winner's value.",
    edit=(
        "grad.reshape(batch, channels, 1, -1))",
        "grad.reshape(batch, channels, 1, -1) * windows.amax(2, keepdim=True))",
    ),
)
ex.mistake(
    "overlaps overwritten",
    "A pixel that wins in several windows collects from each of them.",
    edit=(
        "    dpadded = fold(shares.reshape(columns.shape), padded.shape[2:], kernel, stride)\n",
        "    h, w = grad.shape[2:]\n"
        "    taps = shares.reshape(batch, channels, *kernel, h, w)\n"
        "    dpadded = torch.zeros_like(padded)\n"
        "    for u in range(kernel[0]):\n"
        "        for v in range(kernel[1]):\n"
        "            down = slice(u, u + h * stride, stride)\n"
        "            along = slice(v, v + w * stride, stride)\n"
        "            place = dpadded[:, :, down, along]\n"
        "            place[:] = torch.where(taps[:, :, u, v] != 0, taps[:, :, u, v], place)\n",
    ),
)
ex.mistake(
    "gradient of the padding kept",
    "The result has the shape of x.",
    edit=(
        "return dpadded[:, :, padding : padding + height, padding : padding + width]",
        "return dpadded",
    ),
)
ex.mistake(
    "shifted by the padding",
    "The image begins `padding` rows and columns inside.",
    edit=(
        "return dpadded[:, :, padding : padding + height, padding : padding + width]",
        "return dpadded[:, :, :height, :width]",
    ),
)


@ex.mistake(
    "non-winners' sign",
    "The gradient is 0 where a number did not win.",
    replaces="max_pool2d_backward",
)
def _(grad, x, kernel, stride, padding=0):
    padded = pad(x, *[padding] * 4, value=-math.inf)
    columns = unfold(padded, kernel, stride)
    windows = columns.reshape(*x.shape[:2], -1, columns.shape[2])
    shares = torch.sign(windows - windows.amax(2, keepdim=True)) * grad.flatten(2)[:, :, None]
    dpadded = fold(shares.reshape(columns.shape), padded.shape[2:], kernel, stride)
    return dpadded[:, :, padding : padding + x.shape[2], padding : padding + x.shape[3]]


@ex.alternative("loops over the windows", replaces="max_pool2d_backward")
def _(grad, x, kernel, stride, padding=0):
    dx = torch.zeros_like(x)
    n, channels, height, width = x.shape
    for i in range(grad.shape[2]):
        for j in range(grad.shape[3]):
            top, left = i * stride - padding, j * stride - padding
            rows = range(max(top, 0), min(top + kernel[0], height))
            columns = range(max(left, 0), min(left + kernel[1], width))
            window = x[:, :, rows.start : rows.stop, columns.start : columns.stop]
            at = window.flatten(2).argmax(2)
            for b in range(n):
                for c in range(channels):
                    u, v = divmod(int(at[b, c]), len(columns))
                    dx[b, c, rows[u], columns[v]] += grad[b, c, i, j]
    return dx


@ex.alternative("running maximum over the taps")
def _(x, kernel, stride, padding=0):
    h = output_size(x.shape[2], kernel[0], stride, padding)
    w = output_size(x.shape[3], kernel[1], stride, padding)
    padded = pad(x, padding, padding, padding, padding, -math.inf)
    best = None
    for u in range(kernel[0]):
        for v in range(kernel[1]):
            seen = padded[:, :, u : u + h * stride : stride, v : v + w * stride : stride]
            best = seen.clone() if best is None else torch.maximum(best, seen)
    return best


@ex.alternative("the first True by a running count", replaces="max_pool2d_backward")
def _(grad, x, kernel, stride, padding=0):
    padded = pad(x, padding, padding, padding, padding, -math.inf)
    windows = padded.unfold(2, kernel[0], stride).unfold(3, kernel[1], stride).flatten(4)
    winner = windows == windows.amax(-1, keepdim=True)
    first = winner & (winner.cumsum(-1) == 1)
    shares = first.to(grad.dtype) * grad[..., None]  # (B, C, H', W', k_h k_w)
    columns = shares.flatten(2, 3).transpose(2, 3).flatten(1, 2)
    dpadded = fold(columns, tuple(padded.shape[2:]), kernel, stride)
    return dpadded[:, :, padding:, padding:][:, :, : x.shape[2], : x.shape[3]]


# ----------------------------------------------------------------------------------------------
# avg_pool2d

ex = avg_pool2d = Exercise(
    "avg_pool2d",
    defines=[
        "avg_pool2d",
        "avg_pool2d_backward",
        "global_avg_pool",
        "global_avg_pool_backward",
    ],
    forbids=[*POOL, *CONV, *AUTOGRAD],
)


@ex.check("average pooling: values", points=0.5)
def _(student):
    for shape, *args in [POOLS[0], POOLS[1], POOLS[4]]:
        x = noise(*shape)
        want = F.avg_pool2d(x, *args)
        expect(student.avg_pool2d(x, *args), want, f"kernel, s, p = {args}", dtype=True)

    x = noise(2, 1, 5, 4)
    expect(student.avg_pool2d(x, (2, 3), 1), F.avg_pool2d(x, (2, 3), 1), "padding left out")


@ex.check("average pooling: padded zeros count", points=0.5)
def _(student):
    for shape, *args in [*POOLS[2:4], POOLS[5]]:
        x = noise(*shape) + 3.0
        want = F.avg_pool2d(x, *args)
        expect(student.avg_pool2d(x, *args), want, f"kernel, s, p = {args}", dtype=True)


@ex.check("average pooling: gradient", points=1)
def _(student):
    for shape, *args in [POOLS[0], POOLS[1], POOLS[4]]:
        x = noise(*shape)
        grad = noise(*F.avg_pool2d(x, *args).shape)
        got = student.avg_pool2d_backward(grad, shape[2:], *args)
        want = pool_gradient(F.avg_pool2d, grad, x, *args)
        expect(got, want, f"kernel, s, p = {args}", dtype=True)

    x, grad = noise(2, 1, 5, 4), noise(2, 1, 4, 2)
    want = pool_gradient(F.avg_pool2d, grad, x, (2, 3), 1)
    expect(student.avg_pool2d_backward(grad, (5, 4), (2, 3), 1), want, "padding left out")


@ex.check("average pooling: gradient with padding", points=0.5)
def _(student):
    for shape, *args in [*POOLS[2:4], POOLS[5]]:
        x = noise(*shape)
        grad = noise(*F.avg_pool2d(x, *args).shape)
        got = student.avg_pool2d_backward(grad, shape[2:], *args)
        want = pool_gradient(F.avg_pool2d, grad, x, *args)
        expect(got, want, f"kernel, s, p = {args}", dtype=True)


@ex.check("global average pooling and its gradient", points=0.5)
def _(student):
    for shape in [(2, 3, 4, 5), (1, 4, 1, 7), (3, 1, 2, 2)]:
        x, grad = noise(*shape), noise(*shape[:2])
        expect(student.global_avg_pool(x), x.mean(dim=(2, 3)), f"x of {shape}", dtype=True)
        want = pool_gradient(lambda leaf: leaf.mean(dim=(2, 3)), grad, x)
        got = student.global_avg_pool_backward(grad, shape[2:])
        expect(got, want, f"gradient, x of {shape}", dtype=True)


@ex.check("float32, layout, arguments stay", points=0.5)
def _(student):
    x, args = torch.randn(2, 3, 7, 6), ((3, 2), 2, 1)
    y = F.avg_pool2d(x, *args)
    expect(student.avg_pool2d(x, *args), y, "float32", dtype=True, atol=1e-5)
    expect(student.run(strided, "avg_pool2d", x, *args), y, "another layout", atol=1e-5)
    grad = torch.randn(y.shape)
    want = pool_gradient(F.avg_pool2d, grad, x, *args)
    got = student.avg_pool2d_backward(grad, (7, 6), *args)
    expect(got, want, "gradient, float32", dtype=True, atol=1e-5)
    got = student.run(strided, "avg_pool2d_backward", grad, (7, 6), *args)
    expect(got, want, "gradient, another layout", atol=1e-5)
    other = torch.randn(2, 3, 7, 6)
    got = student.run(probes.calls, "avg_pool2d", (x, *args), (other, *args))
    expect(got, [y, F.avg_pool2d(other, *args)], "the results of two calls")
    half, g, flat = few(2, 3, 2, 4), few(2, 3, 1, 3), few(2, 3)
    want = F.avg_pool2d(half.double(), (2, 2), 1).half()
    expect(student.avg_pool2d(half, (2, 2), 1), want, "float16", dtype=True)
    want = pool_gradient(F.avg_pool2d, g.double(), half.double(), (2, 2), 1).half()
    got = student.avg_pool2d_backward(g, (2, 4), (2, 2), 1)
    expect(got, want, "gradient, float16", dtype=True)
    want = half.double().mean(dim=(2, 3)).half()
    expect(student.global_avg_pool(half), want, "global, float16", dtype=True)
    want = (flat / 8)[:, :, None, None].expand(2, 3, 2, 4)
    got = student.global_avg_pool_backward(flat, (2, 4))
    expect(got, want, "global gradient, float16", dtype=True)
    require(student.unchanged("avg_pool2d", x, *args), "avg_pool2d changes its argument")
    require(
        student.unchanged("avg_pool2d_backward", grad, (7, 6), *args),
        "avg_pool2d_backward changes its argument",
    )
    require(
        student.unchanged("global_avg_pool_backward", x[:, :, 0, 0], (3, 2)),
        "global_avg_pool_backward changes its argument",
    )


ex.mistake(
    "the sum of the window",
    "The mean divides by k_h k_w.",
    edit=("windows.mean(dim=2)", "windows.sum(dim=2)"),
)
ex.mistake(
    "padded zeros do not count",
    "By the convention stated the divisor is k_h k_w at the border too.",
    edit=(
        "windows.mean(dim=2).reshape",
        "(windows.sum(dim=2) / unfold(torch.ones_like(x), kernel, stride, padding).reshape("
        "windows.shape).sum(dim=2)).reshape",
    ),
)
ex.mistake(
    "the largest number",
    "That is max pooling.",
    edit=("windows.mean(dim=2)", "windows.amax(dim=2)"),
)
ex.mistake(
    "channels averaged too",
    "Pooling works channel by channel.",
    edit=(
        "windows.mean(dim=2)",
        "windows.mean(dim=(1, 2), keepdim=True).expand(-1, channels, -1, -1)",
    ),
)
ex.mistake(
    "rows and columns of the map swapped",
    "Columns of unfold are numbered (i, j): reshape to (H', W').",
    edit=(
        ".reshape(batch, channels, rows, -1)",
        ".reshape(batch, channels, -1, rows).transpose(2, 3)",
    ),
)
ex.mistake(
    "padding forgotten in avg_pool2d",
    "The image is padded with zeros first.",
    edit=[
        ("kernel[0], stride, padding)", "kernel[0], stride, 0)"),
        ("unfold(x, kernel, stride, padding)", "unfold(x, kernel, stride, 0)"),
    ],
)
ex.mistake(
    "gradient not divided",
    "Each number of a window has the derivative 1 / (k_h k_w).",
    edit=("(grad / taps)", "grad"),
)
ex.mistake(
    "gradient to one corner",
    "Every number of the window has its share.",
    edit=(
        "(grad / taps).flatten(2).repeat_interleave(taps, dim=1)",
        "((grad / taps).flatten(2)[:, :, None] * torch.eye(taps, dtype=grad.dtype)[0][:, None])"
        ".flatten(1, 2)",
    ),
)
ex.mistake(
    "shares in the order of taps, then channels",
    "fold's rows are numbered (c, u, v): each channel comes once for each tap, then the next.",
    edit=("repeat_interleave(taps, dim=1)", "repeat(1, taps, 1)"),
)
ex.mistake(
    "padding forgotten in the gradient",
    "The windows stand where they stood in the padded image.",
    edit=(
        "return fold(shares, size, kernel, stride, padding)",
        "full = fold(shares, [n + 2 * padding for n in size], kernel, stride)\n"
        "    return full[:, :, : size[0], : size[1]]",
    ),
)
ex.mistake(
    "gradient divided by the covering windows",
    "The gradients of all windows that hold a pixel are added, not averaged.",
    edit=(
        "return fold(shares, size, kernel, stride, padding)",
        "counts = fold(torch.ones_like(shares), size, kernel, stride, padding).clamp(min=1)\n"
        "    return fold(shares, size, kernel, stride, padding) / counts",
    ),
)
ex.mistake(
    "one result for all calls",
    "The next call overwrites the result of this one: make a new tensor each time.",
    edit=(
        "    return windows.mean(dim=2).reshape(batch, channels, rows, -1)\n",
        overwritten("avg_pool2d", "windows.mean(dim=2).reshape(batch, channels, rows, -1)"),
    ),
)
ex.mistake(
    "gradient added to zeros of float32",
    "torch.zeros makes float32 unless told: added to float16 it gives float32.",
    edit=("return fold(shares", "return torch.zeros(1, 1, 1, 1) + fold(shares"),
)
ex.mistake(
    "global gradient added to zeros of float32",
    "torch.zeros makes float32 unless told: added to float16 it gives float32.",
    edit=("[:, :, None, None].expand(-1, -1, *size)", "[:, :, None, None] + torch.zeros(size)"),
)
ex.mistake(
    "the sum of the map",
    "Global average pooling is a mean.",
    edit=("x.mean(dim=(2, 3))", "x.sum(dim=(2, 3))"),
)
ex.mistake(
    "averages over the batch",
    "The mean is over H and W; batch and channels stay.",
    edit=("x.mean(dim=(2, 3))", "x.mean(dim=(2, 3)).mean(dim=0, keepdim=True).expand(len(x), -1)"),
)
ex.mistake(
    "the largest of the map",
    "Global average pooling is a mean.",
    edit=("x.mean(dim=(2, 3))", "x.amax(dim=(2, 3))"),
)
ex.mistake(
    "global gradient not divided",
    "Each pixel of the map has the derivative 1 / (H W).",
    edit=("(grad / (size[0] * size[1]))", "grad"),
)
ex.mistake(
    "global gradient divided by one side",
    "Each pixel of the map has the derivative 1 / (H W).",
    edit=("(grad / (size[0] * size[1]))", "(grad / size[0])"),
)


ex.equivalent(
    "2 -> 3", "fold reads the same numbers, whether the windows lie along one axis or two"
)


@ex.alternative("convolution with a kernel of equal weights")
def _(x, kernel, stride, padding=0):
    flat = x.reshape(-1, 1, *x.shape[2:])
    weight = torch.full((1, 1, *kernel), 1 / (kernel[0] * kernel[1]), dtype=x.dtype)
    y = conv2d(flat, weight, None, stride, padding)
    return y.reshape(*x.shape[:2], *y.shape[2:])


@ex.alternative("loops over the windows", replaces="avg_pool2d_backward")
def _(grad, size, kernel, stride, padding=0):
    dx = grad.new_zeros(*grad.shape[:2], size[0] + 2 * padding, size[1] + 2 * padding)
    for i in range(grad.shape[2]):
        for j in range(grad.shape[3]):
            a, b = i * stride, j * stride
            share = grad[:, :, i, j] / kernel[0] / kernel[1]
            dx[:, :, a : a + kernel[0], b : b + kernel[1]] += share[:, :, None, None]
    return dx[:, :, padding : padding + size[0], padding : padding + size[1]]


@ex.alternative("matrix product", replaces="global_avg_pool")
def _(x):
    flat = x.flatten(2)
    return flat @ torch.full((flat.shape[2],), 1 / flat.shape[2], dtype=x.dtype, device=x.device)


@ex.alternative("ones", replaces="global_avg_pool_backward")
def _(grad, size):
    return grad[..., None, None] * grad.new_ones(1, 1, *size) / math.prod(size)


@ex.alternative("the average pool of the whole map", replaces="global_avg_pool")
def _(x):
    return avg_pool2d(x, tuple(x.shape[2:]), 1)[:, :, 0, 0]


# ----------------------------------------------------------------------------------------------
# receptive_field

ex = receptive_field = Exercise("receptive_field")


def field_by_windows(layers: list[tuple[int, int, int, int]]) -> tuple[int, int, int]:
    """The oracle: follow units 0 and 1 down to the pixels they see."""

    def seen(unit: int) -> set[int]:
        units = {unit}
        for kernel, stride, padding, dilation in reversed(layers):
            units = {u * stride - padding + v * dilation for u in units for v in range(kernel)}
        return units

    first, second = seen(0), seen(1)
    return max(first) - min(first) + 1, min(second) - min(first), min(first)


def check_field(student: Any, *layers: tuple[int, int, int, int]) -> None:
    want = field_by_windows(list(layers))
    got = student.receptive_field(list(layers))
    expect(tuple(got), want, f"layers {list(layers)}")


@ex.check("no layer and one layer", points=0.5)
def _(student):
    check_field(student)
    check_field(student, (5, 1, 0, 1))
    check_field(student, (1, 1, 0, 1))
    check_field(student, (4, 3, 2, 1))


@ex.check("plain layers with padding", points=0.5)
def _(student):
    check_field(student, (3, 1, 1, 1), (5, 1, 2, 1), (2, 1, 0, 1))
    check_field(student, (3, 1, 2, 1), (1, 1, 1, 1), (7, 1, 0, 1))


@ex.check("strides", points=1)
def _(student):
    check_field(student, (7, 2, 3, 1), (3, 2, 1, 1), (3, 1, 1, 1), (3, 2, 1, 1))
    check_field(student, (2, 2, 0, 1), (5, 3, 2, 1), (3, 1, 1, 1))
    check_field(student, (3, 1, 0, 1), (1, 4, 0, 1), (2, 1, 1, 1))


@ex.check("dilation", points=0.5)
def _(student):
    check_field(student, (3, 1, 1, 1), (3, 1, 2, 2), (3, 1, 4, 4))
    check_field(student, (4, 2, 1, 3), (2, 3, 5, 4), (3, 2, 1, 2))


@ex.check("many layers, the list stays", points=0.5)
def _(student):
    check_field(student, *[(2, 1, 0, 2**i) for i in range(10)])
    layers = [(3, 2, 1, 1), (2, 1, 1, 2)]
    expect(tuple(student.receptive_field(layers)), field_by_windows(layers), "two layers")
    require(student.unchanged("receptive_field", layers), "receptive_field changes its argument")
    expect(tuple(student.receptive_field(tuple(layers))), field_by_windows(layers), "a tuple")
    for some in ([(1, 1, 0, 1)], layers):
        require(all(map(integral, student.receptive_field(some))), "the results are to be ints")


ex.mistake(
    "the jump after the stride",
    "Size and start grow with the jump of the layer below, before this layer's stride.",
    edit=[
        ("        size += dilation", "        jump *= stride\n        size += dilation"),
        ("        jump *= stride\n    return", "    return"),
    ],
)
ex.mistake(
    "the start with the new jump",
    "The padding is counted in units of the layer below: take the old jump.",
    edit=[
        (
            "        start -= padding * jump\n        jump *= stride\n",
            "        jump *= stride\n        start -= padding * jump\n",
        ),
    ],
)
ex.mistake(
    "the jump ignored",
    "Units of the layer below lie j pixels apart.",
    edit=("(kernel - 1) * jump", "(kernel - 1)"),
)
ex.mistake(
    "the jump ignored with dilation",
    "Units of the layer below lie j pixels apart, and the taps d of them.",
    edit=(
        "dilation * (kernel - 1) * jump",
        "(kernel - 1) * (jump if dilation == 1 else dilation)",
    ),
)
ex.mistake(
    "floats",
    "Size, jump and start are counts of pixels: ints.",
    edit=("size, jump, start = 1, 1, 0", "size, jump, start = 1.0, 1.0, 0.0"),
)
ex.mistake(
    "the jump of this layer only",
    "The strides of all layers are multiplied.",
    edit=("jump *= stride", "jump = stride"),
)
ex.mistake(
    "strides added",
    "The strides of all layers are multiplied.",
    edit=("jump *= stride", "jump += stride - 1"),
)
ex.mistake(
    "the whole kernel each time",
    "From the first tap to the last are k - 1 steps.",
    edit=("(kernel - 1)", "kernel"),
)
ex.mistake(
    "the dilation ignored",
    "Taps stand d apart.",
    edit=("dilation * (kernel - 1)", "(kernel - 1)"),
)
ex.mistake(
    "padding moves to the right",
    "With padding the first window starts before the first unit: a gets smaller.",
    edit=("start -= padding", "start += padding"),
)
ex.mistake(
    "padding in pixels",
    "The padding is counted in units of the layer below, which lie j pixels apart.",
    edit=("padding * jump", "padding"),
)
ex.mistake(
    "padding ignored",
    "With padding the first window starts before the image: its start is negative, and stays so.",
    edit=("        start -= padding * jump\n", ""),
)
ex.mistake(
    "the field shrinks by the padding",
    "Padding moves the field; its size stays.",
    edit=("(kernel - 1) * jump", "(kernel - 1) * jump - 2 * padding * jump"),
)
ex.mistake(
    "layers from the top",
    "The first layer of the list reads the image.",
    edit=("in layers:", "in layers[::-1]:"),
)
ex.mistake(
    "starts from nothing",
    "A pixel sees itself: the size starts at 1.",
    edit=("size, jump, start = 1, 1, 0", "size, jump, start = 0, 1, 0"),
)


@ex.alternative("two units followed down")
def _(layers):
    first, last, second = 0, 0, 1
    for kernel, stride, padding, dilation in reversed(layers):
        first = first * stride - padding
        second = second * stride - padding
        last = last * stride - padding + dilation * (kernel - 1)
    return last - first + 1, second - first, first


@ex.alternative("products of strides, a list")
def _(layers):
    jumps = [math.prod(layer[1] for layer in layers[:i]) for i in range(len(layers) + 1)]
    size = 1 + sum(d * (k - 1) * j for (k, _, _, d), j in zip(layers, jumps, strict=False))
    start = -sum(p * j for (_, _, p, _), j in zip(layers, jumps, strict=False))
    return [size, jumps[-1], start]
