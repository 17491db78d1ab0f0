"""Start a new assignment notebook: a master that builds, and its exercise's checks."""

import keyword
import re
from pathlib import Path

from autograder.authoring import AuthoringError

MASTER = '''\
# %% [markdown]
# # NAME
# Open with a question that a student can feel, then say what one can do afterwards and what is
# needed before.

# %% setup=true
import course

course.setup("UNIT")

# %%
import matplotlib.pyplot as plt
import torch
from torch import Tensor

from course import expect

# %% [markdown]
# ## How noisy is a curve?
# Show it in numbers or a picture before any formula.

# %% [markdown] heading="NAME_average"
# ### Exercise {number} · Moving average ({points} points, about 5 min)
# The mean of each window of $k$ neighbours of $x_1, \\dots, x_T$:
#
# $$y_t = \\frac{1}{k} \\sum_{i=0}^{k-1} x_{t+i}, \\qquad t = 1, \\dots, T - k + 1.$$
#
# Only whole windows count, so the result is shorter than $x$ by $k - 1$.


# %% exercise="NAME_average"
def NAME_average(x: Tensor, window: int) -> Tensor:
    """Moving average over whole windows.

    Args:
        x: (T,), any floating dtype.
        window: number of neighbours k, with 1 <= k <= T.

    Returns:
        (T - k + 1,), the dtype of x. Write it without a pooling function.
    """
    ### BEGIN SOLUTION
    return x.unfold(0, window, 1).mean(dim=1)
    ### END SOLUTION


# %% test="NAME_average"
expect(NAME_average(torch.tensor([1.0, 2.0, 6.0]), 2), [1.5, 4.0], "NAME_average: pairs")
expect(NAME_average(torch.tensor([1.0, 2.0, 6.0]), 3), [3.0], "NAME_average: one window")

# %% [markdown]
# ## Use it
# Every result is used: say what to look at in the picture.

# %%
noisy = torch.linspace(0, 1, 100) + 0.2 * torch.randn(100)
fig, ax = plt.subplots()
ax.plot(noisy, label="noisy")
ax.plot(range(5, 95), NAME_average(noisy, 11), label="mean of 11 neighbours")
ax.set(xlabel="t", ylabel="x")
ax.legend()
plt.show()
'''

EXERCISES = '''\
"""Hidden checks, known mistakes and alternative solutions of the notebook `NAME`."""

import torch

from autograder.contract import Exercise, expect

ex = NAME_average = Exercise(
    "NAME_average",
    forbids=["avg_pool1d", "AvgPool1d", "conv1d", "Conv1d"],
)


@ex.check("values for several lengths and windows", points=1)
def _(student):
    for length, window in [(9, 4), (8, 3), (5, 2)]:
        x = torch.randn(length)
        want = torch.stack([x[t : t + window].mean() for t in range(length - window + 1)])
        expect(student.NAME_average(x, window), want, f"T = {length}, k = {window}")


@ex.check("a window of one and a window of all", points=1)
def _(student):
    x = torch.randn(6)
    expect(student.NAME_average(x, 1), x, "k = 1")
    expect(student.NAME_average(x, 6), x.mean().reshape(1), "k = T")


@ex.check("float64 stays float64", points=1)
def _(student):
    x = torch.randn(7, dtype=torch.float64)
    want = (x[:-1] + x[1:]) / 2
    expect(student.NAME_average(x, 2), want, "k = 2 in float64", dtype=True)


ex.mistake("sums", "A mean is the sum divided by the window.", edit=(".mean(", ".sum("))
ex.mistake(
    "windows side by side",
    "Neighbouring windows overlap: they are one step apart.",
    edit=("window, 1)", "window, window)"),
)
ex.mistake(
    "loses the last window",
    "The last window ends with the last number: there are T - k + 1 of them.",
    edit=(".mean(dim=1)", ".mean(dim=1)[:-1]"),
)


@ex.mistake("pads with zeros", "Only whole windows count: nothing stands beyond the ends.")
def _(x, window):
    padded = torch.cat([x.new_zeros(window - 1), x])
    return padded.unfold(0, window, 1).mean(dim=1)


@ex.mistake("median", "The mean is asked for, not the median.")
def _(x, window):
    return x.unfold(0, window, 1).median(dim=1).values


@ex.alternative("loop")
def _(x, window):
    return torch.stack([x[t : t + window].mean() for t in range(len(x) - window + 1)])


@ex.alternative("differences of a cumulative sum")
def _(x, window):
    total = torch.cat([x.new_zeros(1), x.cumsum(0)])
    return (total[window:] - total[:-window]) / window
'''


def new_master(unit: str, name: str, root: Path) -> list[Path]:
    """Write a master that builds, with one example exercise, and the module of its checks.

    Args:
        unit: a unit's folder, `NN_topic`; it is made if it does not exist.
        name: the notebook's name, a lower-case Python name.
        root: the course's folder.

    Returns:
        The files written.

    Raises:
        AuthoringError: a name has another form, or one of the files exists.
    """
    if not re.fullmatch(r"[0-9]{2}_[a-z][a-z0-9_]*", unit):
        raise AuthoringError(f"unit {unit!r} is not of the form NN_topic, such as 02_cnns")
    if not re.fullmatch(r"[a-z][a-z0-9_]*", name) or keyword.iskeyword(name):
        raise AuthoringError(f"{name!r} is not a name such as convolution (a-z, 0-9, _)")
    root = Path(root)
    texts = {
        root / "source" / unit / f"{name}.py": MASTER,
        root / "autograder" / "exercises" / unit / f"{name}.py": EXERCISES,
    }
    for path in [*texts, *sorted(root.glob(f"source/*/{name}.py"))]:
        if path.exists():
            raise AuthoringError(f"{path} exists: choose another name")
    for path, text in texts.items():
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text.replace("UNIT", unit).replace("NAME", name), "utf-8")
    return list(texts)
