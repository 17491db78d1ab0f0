# %% [markdown]
# # Unit 00 · Foundations: learning from examples, and not fooling yourself
#
# **Afterwards you can** compute all distances between two sets of points without a loop; choose a
# hyper-parameter by cross-validation without cheating; say what precision and recall answer that
# accuracy does not; derive the cross-entropy and its gradient with every step; train a linear
# classifier by hand with mini-batches; choose a loss for labels, several labels and numbers.
#
# **Needed before:** matrix products, partial derivatives, mean and variance, Python with tensors.
# **Time:** 40-60 minutes. The assignment, `foundations`, builds what is derived here.

# %% setup=true
import course

course.setup("00_foundations")

# %%
import math
import time
from collections.abc import Callable

import matplotlib.pyplot as plt
import torch
import torch.nn.functional as F
from torch import Tensor

from course.plots import COLOURS, LINES, boundary

torch.set_num_threads(1)  # problems this small run no faster on more
device = course.device()
repeats = {"grade": 2, "small": 20, "full": 20}[course.profile()]

data = course.data.digits(device)  # 8 x 8 pixels in [0, 1], as rows of 64 numbers
x_train, x_valid, x_test = data.train_x, data.valid_x, data.test_x
y_train, y_valid, y_test = data.train_y, data.valid_y, data.test_y

# %% [markdown]
# ## 1. A blood test
#
# A laboratory asks whether a disease shows in the blood. It has 100 people, half of them ill, and
# measures 2,000 substances in each. It keeps the 20 substances whose means differ most between ill
# and healthy, and takes the simplest classifier there is: a new person belongs to the group whose
# mean is nearer.
#
# It also knows that one must test on people whom the classifier has not seen. So it puts a fifth of
# the people aside, computes the two means from the others, diagnoses those put aside, and does this
# five times, until everybody has been diagnosed once.

# %%
people, substances, kept = 100, 2000, 20


def most_different(x: Tensor, ill: Tensor, keep: int = kept) -> Tensor:
    """Numbers of the columns whose means differ most between the two groups."""
    return (x[ill].mean(0) - x[~ill].mean(0)).abs().topk(keep).indices


def diagnose(x: Tensor, ill: Tensor, new: Tensor) -> Tensor:
    """True for each row of `new` that is nearer to the mean of the ill."""
    return (new - x[ill].mean(0)).square().sum(1) < (new - x[~ill].mean(0)).square().sum(1)


draws = torch.Generator().manual_seed(3)
blood = torch.randn(people, substances, generator=draws)
ill = torch.randperm(people, generator=draws) % 2 == 0

panel = blood[:, most_different(blood, ill)]
right = 0
for aside in torch.arange(people).chunk(5):
    rest = torch.ones(people, dtype=torch.bool)
    rest[aside] = False
    right += int((diagnose(panel[rest], ill[rest], panel[aside]) == ill[aside]).sum())
print(f"diagnosed correctly: {right / people:.0%}, each by a classifier that had not seen them")

# %% [markdown]
# Would you take this test?
#
# Look at the line `blood = ...` again. There is no disease. The measurements are random numbers,
# and who is "ill" was drawn by lot. Nothing can be predicted here, and no honest method gets more
# than about half of the people right. Yet nobody was diagnosed by a classifier that had been
# trained on them.
#
# So where do all those right answers come from? The same lines, with the same care, are in
# published papers (Ambroise and McLachlan 2002). In section 4 we find the line that is wrong. Until
# then: a way to classify, and a way to know how good it is.

# %% [markdown]
# ## 2. Remember everything: nearest neighbours
#
# The oldest idea: to classify something new, look for the most similar thing that you remember. Let
# the training examples be $(\mathbf{x}_n, y_n)$, $n = 1, \dots, N$, with $\mathbf{x}_n \in
# \mathbb{R}^D$ and a class $y_n$. The **$k$-nearest-neighbour** classifier sorts them by their
# distance to the new point $\mathbf{x}$,
#
# $$ d(\mathbf{x}, \mathbf{x}_n) = \|\mathbf{x} - \mathbf{x}_n\|_2 = \sqrt{\textstyle\sum_{d=1}^{D}
# (x_d - x_{nd})^2} , $$
#
# and lets the $k$ nearest vote. Training is free, all work is done when a question comes. By hand:
# three examples in the plane, a new point at (1, 1).

# %%
examples, classes = torch.tensor([[0.0, 0.0], [3.0, 1.0], [1.0, 3.0]]), ["A", "B", "B"]
new = torch.tensor([1.0, 1.0])
squared = (examples - new).square().sum(1)
for point, label, value in zip(examples.tolist(), classes, squared, strict=True):
    print(f"{label} at {point}: squared distance {value:g}, distance {value.sqrt():.2f}")
print("k = 1: A is nearest;  k = 3: two votes for B, one for A")

# %% [markdown]
# Two answers to one question, so $k$ matters: it is a **hyper-parameter**, something that is not
# learnt from the examples but chosen by us. The distance is another one. (To find the nearest, the
# root may be left out, as it changes no order. Where distances are *added*, for instance to weigh
# the votes, it does make a difference.)
#
# ### All distances at once
#
# For $M$ new points and $N$ remembered ones we need an $(M, N)$ matrix. Two loops, one loop and no
# loop do the same arithmetic. The last way rewrites it: with $\mathbf{a}$ new and $\mathbf{b}$
# remembered,
#
# $$ \|\mathbf{a} - \mathbf{b}\|^2 = \sum_d (a_d - b_d)^2 = \sum_d a_d^2 - 2 \sum_d a_d b_d +
# \sum_d b_d^2 = \|\mathbf{a}\|^2 - 2\,\mathbf{a}^\top \mathbf{b} + \|\mathbf{b}\|^2 , $$
#
# and all products $\mathbf{a}^\top \mathbf{b}$ together are *one* matrix product $A B^\top$, shapes
# $(M, D)(D, N)$: what computers do fastest.


# %%
def two_loops(a: Tensor, b: Tensor) -> Tensor:
    return torch.stack([torch.stack([(p - q).square().sum() for q in b]) for p in a])


def one_loop(a: Tensor, b: Tensor) -> Tensor:
    return torch.stack([(p - b).square().sum(1) for p in a])


def no_loop(a: Tensor, b: Tensor) -> Tensor:
    return (a[:, None, :] - b[None, :, :]).square().sum(2)  # (M, 1, D) - (1, N, D)


def one_product(a: Tensor, b: Tensor) -> Tensor:
    return a.square().sum(1)[:, None] - 2 * a @ b.T + b.square().sum(1)


# %%
a, b = x_valid[: {"grade": 5, "small": 60, "full": 60}[course.profile()]].cpu(), x_train.cpu()
held = {
    two_loops: b.shape[1],
    one_loop: b.numel(),
    no_loop: len(a) * b.numel(),
    one_product: len(a) * len(b),
}
print(f"{len(a)} x {len(b)} distances between points of {a.shape[1]} pixels, on the CPU")
results = []
for way, numbers in held.items():
    way(a[:1], b[:1])  # the first call of anything is slow
    start = time.perf_counter()
    results.append(way(a, b))
    milliseconds = 1000 * (time.perf_counter() - start)
    print(f"{way.__name__:12}{milliseconds:9.2f} ms, {numbers:10,} intermediate numbers at once")
print("the same results:", all(torch.allclose(results[0], r, atol=1e-3) for r in results[1:]))
sizes = 10_000 * 60_000
print(f"10,000 x 60,000 images of 28 x 28: no_loop holds {sizes * 784 * 4 / 1e12:.1f} TB,", end=" ")
print(f"one_product {sizes * 4 / 1e9:.1f} GB")

# %% [markdown]
# The arithmetic is the same. What two loops cost is Python, which takes microseconds for every
# operation, however small. Broadcasting leaves Python out, but writes down all $M \cdot N \cdot D$
# differences before it adds them up, and memory is slow, too: "no loop" need not beat one loop. The
# product wins: no Python, no differences.
#
# It has a price, though: it subtracts large numbers to get a small one. A float32 keeps 24 binary
# digits. For 64 coordinates near 10,000 the squared length is near $6 \cdot 10^9$, and there
# float32 knows only every 512th integer. Points that are far from the origin and close together:

# %%
draws = torch.Generator().manual_seed(0)
cloud = 10_000 + torch.rand(200, 64, generator=draws)  # in a cube of side 1, far away
exact = no_loop(cloud.double(), cloud.double())
centred = cloud - cloud.mean(0)
print(f"squared distances, exact: from {exact.min():.2f} to {exact.max():.2f}")
for name, points in {"far from the origin": cloud, "mean subtracted first": centred}.items():
    got = one_product(points, points)
    error = (got - exact).abs().max()
    print(f"{name:22} from {got.min():.2f} to {got.max():.2f}; largest error {error:.1e}")

# %% [markdown]
# Negative squared distances, whose root is `nan`. Distances do not change when all points are
# shifted, so subtract the mean first; and set what is still below zero to zero before the root.
#
# ### Look at the distances
#
# Our examples for this unit: 1,197 handwritten digits for training, of $D = 64$ pixels. All
# distances among 300 of them, sorted by class, as an image:

# %%
order = torch.cat([(y_train == c).nonzero().flatten()[:30] for c in range(10)])
matrix = torch.cdist(x_train[order], x_train[order]).cpu()

fig, ax = plt.subplots(figsize=(4.6, 3.9))
picture = ax.imshow(matrix, cmap="gray")
ax.set(xticks=range(15, 300, 30), yticks=range(15, 300, 30))
ax.set(xticklabels=range(10), yticklabels=range(10))
ax.set(xlabel="class of the digit", ylabel="class of the digit")
ax.grid(False)
ax.set_title("Dark: near. The blocks on the diagonal are the classes")
fig.colorbar(picture, label="Euclidean distance")
plt.show()
block = matrix.view(10, 30, 10, 30).mean((1, 3))  # mean distance between two classes
within, between = block.diagonal(), block[~torch.eye(10, dtype=torch.bool)]
print(f"mean distance between classes {between.mean():.2f}, within a class {within.mean():.2f}:")
print(f"least for {within.argmin()} ({within.min():.2f}), most for {within.argmax()}", end=" ")
print(f"({within.max():.2f})")

# %% [markdown]
# Such an image is worth drawing before any accuracy. Classes differ in how much their members
# differ; a class in several dark squares is written in several ways (look at the ones); a bright
# line across everything would be an image that resembles nothing, most often a broken one.


# %%
def votes(x: Tensor, y: Tensor, new: Tensor, k: int, classes: int) -> Tensor:
    """How many of the k nearest rows of x (N, D) are of each class, for new (M, D): (M, K)."""
    nearest = torch.cdist(new, x).topk(k, largest=False).indices  # (M, k)
    return F.one_hot(y[nearest], classes).sum(1)


def knn(x: Tensor, y: Tensor, new: Tensor, k: int, classes: int = 10) -> Tensor:
    """The class with the most votes; among equals the first."""
    return votes(x, y, new, k, classes).argmax(1)


def share(correct: Tensor) -> float:
    return correct.float().mean().item()


def shifted(x: Tensor, right: int, down: int) -> Tensor:
    """Images (N, 64), moved by whole pixels; what comes in is empty."""
    return F.pad(x.view(-1, 8, 8), (right, -right, down, -down)).flatten(1)


moves = {"as they are": (0, 0), "right": (1, 0), "left": (-1, 0), "down": (0, 1)}
print("1-NN, validation digits, moved by a pixel:")
for name, (right, down) in moves.items():
    guess = knn(x_train, y_train, shifted(x_valid, right, down), 1)
    print(f"  {name:12} {share(guess == y_valid):.1%} right")

# %% [markdown]
# Almost perfect without having learnt anything, and then ruined by one pixel. To the distance an
# image is a list of numbers; that pixel 12 is the neighbour of pixel 13 it does not know. The
# method is as good as its distance, a thought to which units 02 and 07 return.

# %% [markdown]
# ## 3. Under- and overfitting
#
# To see what $k$ does we need a problem that can be drawn, and whose best possible answer is known.
# Two classes in the plane, each a mixture of three equally likely Gaussian clouds of standard
# deviation 0.55. We know the densities, so we know $P(y = 1 \mid \mathbf{x})$ exactly. Nobody can
# do better than to choose the likelier class everywhere; its error, $\min(p, 1 - p)$ averaged over
# $\mathbf{x}$, is the **Bayes error** $R^*$.

# %%
CENTRES = torch.tensor(
    [[[-1.5, 0.0], [0.3, 1.3], [1.5, -0.6]], [[-0.4, -1.0], [0.2, 0.1], [1.8, 1.0]]]
)  # (class, cloud, coordinate)


def draw_points(n: int, draws: torch.Generator) -> tuple[Tensor, Tensor]:
    y = torch.randint(2, (n,), generator=draws)
    cloud = torch.randint(3, (n,), generator=draws)
    return CENTRES[y, cloud] + 0.55 * torch.randn(n, 2, generator=draws), y


def probability(x: Tensor) -> Tensor:
    """P(y = 1 | x), from the densities; x (N, 2) gives (N,)."""
    squared = (x[:, None, None] - CENTRES).square().sum(3)  # (N, class, cloud)
    density = (-squared / (2 * 0.55**2)).exp().mean(2)
    return density[:, 1] / density.sum(1)


draws = torch.Generator().manual_seed(0)
many_x, many_y = draw_points(4000, draws)
few_x, few_y = draw_points(200, draws)
p = probability(many_x)
bayes = torch.minimum(p, 1 - p).mean().item()
print(f"Bayes error, the best that is possible: {bayes:.1%}")

# %%
fig, axes = plt.subplots(1, 3, figsize=(9.4, 3.0), sharey=True)
for ax, k in zip(axes, (1, 15, 101), strict=True):
    boundary(lambda g, k=k: knn(few_x, few_y, g, k, 2), few_x, few_y, ax=ax)
    error = 1 - share(knn(few_x, few_y, many_x, k, 2) == many_y)
    ax.set_title(f"k = {k}: {error:.0%} wrong on new points")
    ax.get_legend().remove()
    ax.label_outer()
axes[-1].legend(loc="upper left", bbox_to_anchor=(1, 1), handletextpad=0.1)
fig.suptitle("The same 200 points: islands for every stray point, a smooth border, hardly any")
plt.show()

# %% [markdown]
# $k = 1$ believes every point and draws an island round each stray one: it **overfits**, learns the
# accidents of this sample. $k = 101$, half of all points, hardly listens to where $\mathbf{x}$ is:
# it **underfits**. Count errors on the training points and on new ones, over many samples of 200:

# %%
ks = [1, 3, 5, 9, 15, 25, 41, 65, 101, 151]
samples = [draw_points(200, draws) for _ in range(repeats)]
on_train, on_new = torch.zeros(repeats, len(ks)), torch.zeros(repeats, len(ks))
for i, (x, y) in enumerate(samples):
    for j, k in enumerate(ks):
        on_train[i, j] = 1 - share(knn(x, y, x, k, 2) == y)
        on_new[i, j] = 1 - share(knn(x, y, many_x[:1500], k, 2) == many_y[:1500])

fig, ax = plt.subplots(figsize=(6.2, 2.9))
ax.errorbar(ks, on_new.mean(0), on_new.std(0), fmt="s-", capsize=3, label="new points")
ax.errorbar(ks, on_train.mean(0), on_train.std(0), fmt="o--", capsize=3, label="training points")
ax.axhline(bayes, color="0.3", lw=1, ls=":")
ax.text(190, bayes - 0.01, "Bayes error", color="0.3", va="top")
ax.set(xscale="log", xlabel="neighbours k (to the right: more flexible)", ylabel="share wrong")
ax.set(xlim=(200, 0.9), xticks=[1, 3, 10, 30, 100], xticklabels=[1, 3, 10, 30, 100])
ax.set_title("Training error falls with flexibility; error on new points turns back up")
ax.legend()
plt.show()

# %% [markdown]
# The picture to keep for the whole course. On the left both errors are high: underfitting. Going
# right the training error falls to exactly zero, because every training point is its own nearest
# neighbour, while the error on new points has long been rising. **The training error says nothing
# about new points.** How little, one can see by giving the digits labels in random order:

# %%
draws = torch.Generator().manual_seed(0)
nonsense = y_train[torch.randperm(len(y_train), generator=draws).to(device)]
print("1-NN with shuffled labels:")
print(f"  training   {share(knn(x_train, nonsense, x_train, 1) == nonsense):.1%} right")
print(f"  validation {share(knn(x_train, nonsense, x_valid, 1) == y_valid):.1%} right")

# %% [markdown]
# Perfect on what it has seen, guessing on what it has not. And yet 1-NN is not a bad classifier.
# Let $N \to \infty$: the nearest neighbour comes arbitrarily close, so (if $p$ is continuous) its
# label is drawn with the same probability $p = P(y = 1 \mid \mathbf{x})$ as the new one,
# independently. The two differ, and 1-NN errs, with probability
#
# $$ p(1-p) + (1-p)p = 2\,r(1-r), \qquad r = \min(p, 1-p) . $$
#
# $r$ is the error of the best rule at $\mathbf{x}$, and $R^* = \mathbb{E}[r]$. Averaged over
# $\mathbf{x}$, with $\mathbb{E}[r^2] \ge (\mathbb{E}[r])^2$,
#
# $$ R_{1\text{NN}} = 2\,\mathbb{E}[r] - 2\,\mathbb{E}[r^2] \;\le\; 2R^*(1 - R^*) \;\le\; 2R^* . $$
#
# Cover and Hart (1967), whose result this is, put it so: half of the information about the class
# that infinitely many examples hold is in the nearest one.

# %%
n = {"grade": 2000, "small": 10_000, "full": 10_000}[course.profile()]
big_x, big_y = draw_points(n, draws)
error = 1 - share(knn(big_x, big_y, many_x, 1, 2) == many_y)
print(f"Bayes error R*             {bayes:.3f}")
print(f"1-NN with {n:6,} points    {error:.3f}")
print(f"its limit, mean of 2r(1-r) {(2 * p * (1 - p)).mean():.3f}")
print(f"Cover and Hart's bound     {2 * bayes * (1 - bayes):.3f}")

# %% [markdown]
# ## 4. Train, validation, test
#
# Which $k$, then? Not the best on the training data, that is always $k = 1$. So we put examples
# aside and choose the $k$ that does best on them. But then *these* are used up, too: the best of
# many is in part the luckiest. How much luck? Let models that toss a coin compete on 100 examples:

# %%
draws = torch.Generator().manual_seed(0)
once, again = ((torch.rand(100, 1000, 100, generator=draws) < 0.5).float().mean(2) for _ in "12")
print(f"{'models tried':>13}{'best score':>12}{'the same model on new data':>29}")
for tried in (1, 10, 100, 1000):
    best, winner = once[:, :tried].max(1)  # 100 competitions
    print(f"{tried:13}{best.mean():12.0%}{again.gather(1, winner[:, None]).mean():29.0%}")

# %% [markdown]
# Every choice that looks at a score makes that score too good. Hence three parts:
#
# | part | used for | how often |
# |---|---|---|
# | **training** | fitting the parameters | always |
# | **validation** | choosing hyper-parameters, features, when to stop | as often as you like |
# | **test** | one number, for the report | once, at the end |
#
# Our digits come in such parts: 1,197, 300 and 300. The test digits stay closed until section 10.
#
# ### V-fold cross-validation
#
# With little data, 300 validation examples are a waste for training and still too few to trust. So
# let everyone take turns. Shuffle, cut into $V$ **folds** $F_1, \dots, F_V$ of equal size (up to
# one), and for each $v$ train on all others and measure on $F_v$:
#
# $$ \text{score} = \frac{1}{V} \sum_{v=1}^{V} s_v, \qquad s_v = \text{accuracy on } F_v \text{ of
# the model trained without } F_v . $$
#
# (It is mostly called *k-fold*; here $k$ counts neighbours.) Each example is in a validation fold
# exactly once, and never in the training set of its own turn.

# %%
draws = torch.Generator().manual_seed(0)
for v, fold in enumerate(torch.randperm(7, generator=draws).tensor_split(3), start=1):
    others = [n for n in range(7) if n not in fold]
    print(f"7 examples, 3 folds: turn {v} validates on {fold.tolist()!s:10} trains on {others}")


def fold_scores(x: Tensor, y: Tensor, k: int, folds: tuple[Tensor, ...]) -> Tensor:
    """Accuracy of k-NN on each fold, trained on the others."""
    accuracies = []
    for fold in folds:
        rest = torch.ones(len(x), dtype=torch.bool, device=x.device)
        rest[fold] = False
        accuracies.append(share(knn(x[rest], y[rest], x[fold], k) == y[fold]))
    return torch.tensor(accuracies)


# %% [markdown]
# Which $k$ for the digits? And is it the same if 30 % of the labels have been drawn anew at random,
# as if a tired person had typed them? (A perfect reader of digits would then agree with
# $0.7 + 0.3/10 = 73\,\%$ of the labels.)

# %%
pool_x, pool_y = torch.cat([x_train, x_valid]), torch.cat([y_train, y_valid])
draws = torch.Generator().manual_seed(0)
tired = torch.where(
    torch.rand(len(pool_y), generator=draws) < 0.3,
    torch.randint(10, (len(pool_y),), generator=draws),
    pool_y.cpu(),
).to(device)
folds = tuple(f.to(device) for f in torch.randperm(len(pool_y), generator=draws).tensor_split(5))
ks, chosen = [1, 2, 3, 5, 7, 10, 14, 20, 30, 50, 80, 120], {}

fig, axes = plt.subplots(1, 2, figsize=(8.6, 2.9))
for ax, (name, y) in zip(axes, {"true labels": pool_y, "30 % redrawn": tired}.items(), strict=True):
    by_fold = torch.stack([fold_scores(pool_x, y, k, folds) for k in ks])  # (len(ks), V)
    mean, spread = by_fold.mean(1), by_fold.std(1)
    ax.plot(ks, by_fold, "o", color="0.6", ms=2.5)
    ax.errorbar(ks, mean, spread, color=COLOURS[0], marker="s", capsize=3)
    chosen[name] = ks[int(mean.argmax())]
    ax.set(xscale="log", xlabel="neighbours k", title=f"{name}: best k = {chosen[name]}")
    ax.set(xticks=[1, 3, 10, 30, 100], xticklabels=[1, 3, 10, 30, 100])
axes[0].set_ylabel("accuracy on the fold")
fig.suptitle("k against five folds (dots), their mean and standard deviation (bars)")
plt.show()

# %% [markdown]
# A hyper-parameter belongs to a data set, not to a method: with clean labels one neighbour is
# enough, with doubtful ones many have to be asked. The bars say what to make of small differences:
# where they overlap, a difference between neighbouring $k$ may be luck. (The bar is the
# spread of one fold's score. The mean is surer than that, though not by $\sqrt V$: the training
# sets share examples.)
#
# ### The answer to section 1
#
# The laboratory did cross-validate. But the 20 substances had been chosen *before*, with the labels
# of all people, those put aside included. Move one line into the loop:


# %%
def study(seed: int, inside: bool, keep: int = kept) -> float:
    """Share diagnosed correctly on noise; `inside`: substances chosen anew in every fold."""
    draws = torch.Generator().manual_seed(seed)
    blood = torch.randn(people, substances, generator=draws)
    ill = torch.randperm(people, generator=draws) % 2 == 0
    chosen, right = most_different(blood, ill, keep), 0
    for aside in torch.arange(people).chunk(5):
        rest = torch.ones(people, dtype=torch.bool)
        rest[aside] = False
        if inside:
            chosen = most_different(blood[rest], ill[rest], keep)
        x = blood[:, chosen]
        right += int((diagnose(x[rest], ill[rest], x[aside]) == ill[aside]).sum())
    return right / people


keeps = [1, 5, 20, 50, 200, 2000]
fig, ax = plt.subplots(figsize=(6.2, 2.9))
for inside, name in [(False, "chosen before the split"), (True, "chosen inside each fold")]:
    runs = torch.tensor([[study(s, inside, keep) for keep in keeps] for s in range(repeats)])
    mean, spread = runs.mean(0), runs.std(0)
    ax.errorbar(keeps, mean, spread, marker="^" if inside else "o", capsize=3, label=name)
    at = keeps.index(kept)
    print(f"{name:24} {mean[at]:.0%} ± {spread[at]:.0%} in {repeats} studies of pure noise")
ax.axhline(0.5, color="0.3", lw=1, ls=":")
ax.set(xscale="log", xlabel="substances kept of 2,000", ylabel="diagnosed correctly")
ax.set_title("There is nothing to find. Choosing before the split finds it")
ax.legend()
plt.show()

# %% [markdown]
# **That is the surprise of this unit: a line in the wrong place turns noise into a diagnosis.** (On
# the far right all 2,000 are kept; where nothing is chosen, nothing leaks.) How can such a mild
# peek do so much? Under pure noise the difference of two means of 50 people has standard deviation
# $\sqrt{1/50 + 1/50} = 0.2$. The largest 20 of 2,000, one in a hundred, lie beyond 2.58 standard
# deviations, and 2.9 on average: a difference of $\delta \approx 0.58$ in each of the 20 kept
# columns, *all people included*. Two clouds with this difference in 20 directions are
# $\delta\sqrt{20}$ apart, and a boundary midway is right with probability
# $\Phi(\delta\sqrt{20}/2)$, where $\Phi$ is the normal distribution function:

# %%
normal = torch.distributions.Normal(0.0, 1.0)
cut = normal.icdf(torch.tensor(1 - 0.01 / 2))
delta = 0.2 * normal.log_prob(cut).exp() / 0.005  # mean of a normal variable beyond its cut
print(f"beyond {cut:.2f} standard deviations, on average {delta / 0.2:.2f}: δ = {delta:.2f}")
print(f"predicted accuracy on noise: {normal.cdf(delta * math.sqrt(kept) / 2):.0%}")

# %% [markdown]
# (A little less was found, as the means are estimated.) The rule: **whatever looks at the labels,
# or at more than one example, happens inside the fold**, on its training part only: choosing
# features, means and scales for normalising, filling gaps, tuning. The test data see only the
# finished recipe.
#
# Two leaks that no line of code shows. *Twins*: several images of one patient, frames of one video,
# on both sides of the split; then 1-NN is examined on what it has memorised. (Our digits were
# written by 13 people, and the split did not ask by whom: what we measure is reading *their*
# hands.) And *time*: a model that is to forecast may not be trained on days after those it is
# tested on.

# %% [markdown]
# ## 5. The curse of dimensionality
#
# Neighbours are a fine idea in the plane. In $D$ dimensions a squared distance is a sum of $D$
# terms. If the coordinates are independent, the sum grows like $D$ but its standard deviation only
# like $\sqrt D$: the *relative* spread shrinks like $1/\sqrt D$, and all points become equally far.
# How much nearer than an average point is the nearest one?


# %%
def nearest_to_mean(x: Tensor) -> float:
    """Distance to the nearest other point, divided by the mean distance (average over 300)."""
    distance = torch.cdist(x[:300], x)
    mean = distance.sum(1) / (len(x) - 1)
    distance.diagonal().fill_(math.inf)
    return (distance.min(1).values / mean).mean().item()


draws = torch.Generator().manual_seed(0)
dims, n = [1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1024], len(x_train)
digits = x_train.cpu()
columns = [digits[torch.randperm(n, generator=draws), d] for d in range(64)]
ratios = [nearest_to_mean(torch.rand(n, D, generator=draws)) for D in dims]

fig, ax = plt.subplots(figsize=(6.2, 2.9))
ax.plot(dims, ratios, "o-", label=f"{n:,} random points in a cube")
ax.plot(64, nearest_to_mean(torch.stack(columns, 1)), "s", ms=7, color="k", mfc="w",
        label="digits, every pixel column shuffled by itself")  # fmt: skip
ax.plot(64, nearest_to_mean(digits), "k*", ms=11, label="digits")
ax.set(xscale="log", xlabel="dimensions D", ylabel="nearest / mean distance", ylim=(0, 1))
ax.set(xticks=[1, 10, 64, 1000], xticklabels=[1, 10, 64, 1000])
ax.set_title("In many dimensions the nearest point is hardly nearer; digits are an exception")
ax.legend(loc="upper left")
plt.show()

# %% [markdown]
# In one dimension the nearest of 1,197 points is practically here; in a thousand it is almost as
# far as all the others, and to say "nearest" means little. More examples hardly help: to have one
# within a tenth of the range in every coordinate takes of the order of $10^D$.
#
# Why then does 1-NN read digits? The star: real images fill almost nothing of their 64 dimensions.
# Shuffle every pixel over the images, so that each keeps its grey values but loses its companions,
# and the digits become ordinary dust (square). **Learning is possible because data have
# structure.** Networks look for it.

# %% [markdown]
# ## 6. Which errors?
#
# A test for a disease that one person in a hundred has. It finds 95 % of the ill, and gives the
# all-clear to 95 % of the healthy. It says that you are ill. How worried should you be? Count
# 10,000 people:

# %%
ill, healthy = 100, 9900
tp, tn = round(0.95 * ill), round(0.95 * healthy)  # true positives, true negatives
fn, fp = ill - tp, healthy - tn  # ill and missed; healthy and alarmed
print(f"{'':10}{'says ill':>9}{'says no':>9}")
print(f"{'is ill':10}{tp:9}{fn:9}\n{'is not':10}{fp:9}{tn:9}")
print(f"of {tp + fp} alarms {tp} are right: {tp / (tp + fp):.1%}")
print(f"accuracy of the test {(tp + tn) / 10_000:.1%}; of always saying no {healthy / 10_000:.1%}")

# %% [markdown]
# Five alarms in six are false. And by **accuracy**, the share of right answers, the test is *worse*
# than a machine that says no to everybody and finds nobody. Where classes are **imbalanced**,
# accuracy answers a question that nobody asked. Two that are asked:
#
# $$ \text{precision } P = \frac{TP}{TP + FP}, \qquad \text{recall } R = \frac{TP}{TP + FN}, \qquad
# F_1 = \Big(\tfrac12\big(P^{-1} + R^{-1}\big)\Big)^{-1} = \frac{2PR}{P + R} =
# \frac{2\,TP}{2\,TP + FP + FN} . $$
#
# *Of those alarmed, how many are ill? Of the ill, how many were found?* Each alone is easily
# perfect: alarm only the surest one, or everybody. $F_1$ is their harmonic mean, which stays near
# the smaller one: alarm everybody, and $P = 0.01$, $R = 1$ have the arithmetic mean 0.505 but $F_1
# \approx 0.02$. Where the denominator is 0 (no alarm at all), the usual convention is the value 0.
# And the true negatives, of which there are so many, appear in none of the three.


# %%
def scores(alarm: Tensor, ill: Tensor) -> tuple[float, float, float, float]:
    """Accuracy, precision, recall, F1 of boolean tensors (N,)."""
    tp, fp = (alarm & ill).sum().item(), (alarm & ~ill).sum().item()
    fn = (~alarm & ill).sum().item()
    precision = tp / (tp + fp) if tp + fp else 0.0
    recall = tp / (tp + fn) if tp + fn else 0.0
    f1 = 2 * tp / (2 * tp + fp + fn) if tp + fp + fn else 0.0
    return share(alarm == ill), precision, recall, f1


draws = torch.Generator().manual_seed(0)
truth = torch.arange(10_000) < 100
value = torch.randn(10_000, generator=draws) + 2.5 * truth  # higher in the ill
limits = torch.linspace(-1, 5, 121)
table = torch.tensor([scores(value > limit, truth) for limit in limits])

fig, ax = plt.subplots(figsize=(6.2, 2.9))
for i, name in enumerate(["accuracy", "precision", "recall", "F1"]):
    ax.plot(limits, table[:, i], label=name, color=COLOURS[i], ls=LINES[i], lw=1 + (i == 3))
best = limits[table[:, 3].argmax()].item()
ax.axvline(best, color="0.4", lw=0.8)
ax.set(xlabel="alarm if the measured value is above", ylabel="score", ylim=(0, 1.03))
ax.set_title("Where to put the limit: precision is paid for with recall")
ax.legend(loc="center left", bbox_to_anchor=(1, 0.5))
plt.show()
most = limits[table[:, 0].argmax()]
print(f"limit with the best F1 {best:.2f}, with the best accuracy {most:.2f}")

# %% [markdown]
# Same measurement, another limit, another test. Whether a missed patient is worse than a false
# alarm is not a question of statistics; but once it is answered, the limit follows, and it is a
# hyper-parameter: chosen on validation data.
#
# ### More than two classes
#
# The **confusion matrix** $C$ $(K, K)$ counts: $C_{ij}$ examples of class $i$ were called $j$ (rows
# true, columns predicted; some books have it the other way round). Precision and recall of class
# $i$ are $C_{ii}$ divided by the sum of its column and of its row. Averaging them over the classes
# (*macro*) gives a rare class as much weight as a frequent one. Pooling all counts first (*micro*)
# gives nothing new: each wrong answer is one false positive (for the class named) and one false
# negative (for the true class), so micro precision, recall and $F_1$ all equal the accuracy.


# %%
def confusion(truth: Tensor, guess: Tensor, classes: int = 10) -> Tensor:
    counts = torch.bincount(classes * truth + guess, minlength=classes**2)
    return counts.view(classes, classes).cpu()


def show_confusion(counts: Tensor, title: str) -> None:
    _, ax = plt.subplots(figsize=(4.4, 3.6))
    ax.imshow(counts.sqrt(), cmap="Greys", vmax=1.3 * math.sqrt(counts.max()))
    for i, j in counts.nonzero().tolist():
        dark = counts[i, j] > 0.45 * counts.max()
        ax.text(j, i, f"{counts[i, j]}", ha="center", va="center", color="w" if dark else "k")
    ax.set(xticks=range(10), yticks=range(10), xlabel="predicted", ylabel="true", title=title)
    ax.grid(False)
    plt.show()


guess = knn(x_train, y_train, shifted(x_valid, 1, 0), 1)
counts = confusion(y_valid, guess)
show_confusion(counts, "1-NN, validation digits moved one pixel to the right")
recall = counts.diagonal() / counts.sum(1)
precision = counts.diagonal() / counts.sum(0).clamp(min=1)
print("class     ", *(f"{c:5}" for c in range(10)))
print("precision ", *(f"{v:5.2f}" for v in precision))
print("recall    ", *(f"{v:5.2f}" for v in recall))
print(f"accuracy {share(guess == y_valid):.3f}, macro recall {recall.mean():.3f}")

# %% [markdown]
# One number, the accuracy, has become a picture of *what* goes wrong: most zeros, for one, are now
# read as sixes. A column with many counts off the diagonal is a class that is named too often (low
# precision), a row one that is missed (low recall).

# %% [markdown]
# ## 7. A linear classifier, and its probabilities
#
# Nearest neighbours carry all examples about. The opposite: read the examples once, keep a few
# numbers. One row of weights for each class (from here on $k$ counts the $K$ classes):
#
# $$ \mathbf{z} = W\mathbf{x} + \mathbf{b}, \qquad z_k = \sum_{d=1}^{D} W_{kd}\, x_d + b_k, \qquad
# \text{for a batch: } Z = X W^\top + \mathbf{1}\mathbf{b}^\top, $$
#
# with $W$ $(K, D)$, $\mathbf{b}$ $(K)$, $X$ $(B, D)$, $Z$ $(B, K)$ and $\mathbf{1}$ a column of $B$
# ones. $z_k$ is the **score** or **logit** of class $k$; the answer is the largest. Row $k$ of $W$
# has a weight for each pixel: it is an image, a *template*, and $z_k$ says how well $\mathbf{x}$
# fits it. Between two classes $i$ and $j$ the border is $(\mathbf{w}_i - \mathbf{w}_j)^\top
# \mathbf{x} + b_i - b_j = 0$: a hyperplane.
#
# ### Two classes: logistic regression
#
# A score is any real number, a probability lies in $(0, 1)$, and its *odds* $p/(1-p)$ in
# $(0, \infty)$. The logarithm of the odds is any real number again: let *that* be linear.
#
# $$ \ln \frac{p}{1 - p} = z = \mathbf{w}^\top\mathbf{x} + b \quad\Longleftrightarrow\quad p =
# (1-p)\,e^{z} \quad\Longleftrightarrow\quad p = \frac{e^z}{1 + e^z} = \frac{1}{1 + e^{-z}} =
# \sigma(z) . $$
#
# Each unit of $z$ multiplies the odds by $e$.

# %% [markdown]
# ### Many classes: softmax
#
# In the same spirit let the odds of any two classes be $p_i / p_j = e^{z_i - z_j}$. Then $p_k$ is
# proportional to $e^{z_k}$, and as all must sum to 1,
#
# $$ p_k = \operatorname{softmax}(\mathbf{z})_k = \frac{e^{z_k}}{\sum_{j=1}^{K} e^{z_j}} . $$
#
# Only differences of logits count: for any number $c$
#
# $$ \frac{e^{z_k - c}}{\sum_j e^{z_j - c}} = \frac{e^{-c}\,e^{z_k}}{e^{-c} \sum_j e^{z_j}} = p_k .
# \qquad (*) $$
#
# With two classes and $c = z_1$ this gives $p_1 = 1/(1 + e^{-(z_1 - z_0)})$: the sigmoid of the
# difference. Logistic regression is softmax with $K = 2$. By hand, $\mathbf{z} = (2, 1, 0)$:

# %%
z = [2.0, 1.0, 0.0]
powers = [math.exp(v) for v in z]
print("e^z", *(f"{v:.3f}" for v in powers), " sum", f"{sum(powers):.3f}")
print("p  ", *(f"{v / sum(powers):.3f}" for v in powers))

# %% [markdown]
# ### What breaks at 1000, and why
#
# Floating-point numbers end somewhere. $e^z$ overflows when $z$ exceeds the logarithm of the
# largest one, and that is closer than one thinks:


# %%
def naive(z: Tensor) -> Tensor:
    return z.exp() / z.exp().sum()


for kind in (torch.float16, torch.bfloat16, torch.float32, torch.float64):
    largest = torch.finfo(kind).max
    print(f"{kind!s:15} ends at {largest:8.2g}: e^z overflows for z > {math.log(largest):.1f}")
for z in ([1000.0, 999.0, 998.0], [-1000.0, -1001.0, -1002.0], [0.0, -200.0, -1000.0]):
    print(f"\nz = {z}")
    z = torch.tensor(z)
    print("  softmax, naive     ", naive(z).tolist())
    print("  softmax, torch     ", [round(v, 4) for v in z.softmax(0).tolist()])
    print("  log of torch's     ", [round(v, 4) for v in z.softmax(0).log().tolist()])
    print("  log_softmax, torch ", [round(v, 4) for v in z.log_softmax(0).tolist()])

# %% [markdown]
# Three failures. *Too large:* $e^{1000} = \infty$, and $\infty/\infty$ is `nan`. *Too small:* all
# $e^{-1000}$ become 0, and $0/0$ is `nan`. Both vanish by $(*)$ with $c = m = \max_j z_j$: then the
# largest exponent is 0, no power exceeds 1, and the sum is at least 1.
#
# *The third is subtler.* The softmax of $(0, -200, -1000)$ is fine: 1, 0, 0. But the loss will need
# $\ln p_k$, and $\ln 0 = -\infty$, although the true values $-200$ and $-1000$ are harmless
# numbers. The information was lost when the small power was rounded to zero. So never take the
# logarithm of a softmax; do it on paper first:
#
# $$ \ln p_k = \ln \frac{e^{z_k - m}}{\sum_j e^{z_j - m}} = z_k - m - \ln \sum_j e^{z_j - m} . $$
#
# Nothing is divided, and the logarithm is taken of a number between 1 and $K$. This is
# **log-softmax**; $m + \ln\sum_j e^{z_j - m}$ is called log-sum-exp.

# %% [markdown]
# ## 8. From likelihood to cross-entropy
#
# Scores need weights; weights need a criterion. A coin first. It has shown heads, heads, tails,
# heads. If heads has the probability $q$, what we saw had the probability $L(q) = q^3(1 - q)$, the
# **likelihood** of $q$. Choose the $q$ under which the data are least surprising:
#
# $$ \ln L = 3 \ln q + \ln(1 - q), \qquad \frac{d \ln L}{dq} = \frac3q - \frac1{1-q} = 0
# \;\Rightarrow\; q = \frac34 . $$
#
# That is **maximum likelihood**: it found what one would have said anyway. Now the same for a
# classifier with parameters $\theta = (W, \mathbf{b})$, which gives class $k$ the probability
# $p_\theta(k \mid \mathbf{x})$.

# %% [markdown]
# **1. Likelihood.** The examples are independent, so the labels that we saw have the probability
#
# $$ \mathcal{L}(\theta) = \prod_{n=1}^{N} p_\theta(y_n \mid \mathbf{x}_n) . $$
#
# **2. Logarithm.** It is increasing, so its maximum lies at the same $\theta$; and it turns the
# product, which no float survives, into a sum: $\ln \mathcal{L} = \sum_n \ln p_\theta(y_n \mid
# \mathbf{x}_n)$.
#
# **3. Sign and scale.** Minimise instead of maximise, and divide by $N$, so that the size of the
# loss (and of its gradient) does not depend on the number of examples:
#
# $$ L(\theta) = -\frac1N \sum_{n=1}^{N} \ln p_\theta(y_n \mid \mathbf{x}_n) . $$
#
# **4. One-hot.** Let $P_{nk} = p_\theta(k \mid \mathbf{x}_n)$, and $Y_{nk} = 1$ if $k = y_n$,
# else 0. The sum over $k$ picks the one term that counts:
#
# $$ L = -\frac1N \sum_n \sum_k Y_{nk} \ln P_{nk} = \frac1N \sum_n H(\mathbf{Y}_n, \mathbf{P}_n),
# \qquad H(\mathbf{q}, \mathbf{p}) = -\sum_k q_k \ln p_k . $$
#
# $H$ is the **cross-entropy** between $\mathbf{q}$ and $\mathbf{p}$. Nothing was assumed but
# independent examples: to minimise cross-entropy *is* to maximise likelihood.
#
# **5. With softmax**, by section 7:
#
# $$ \boxed{\;L = \frac1N \sum_n \Big( \ln \sum_j e^{Z_{nj}} - Z_{n y_n} \Big)\;} $$

# %%
log_p = torch.tensor([[0.2, 0.7, 0.1], [0.5, 0.25, 0.25]]).log()
label = torch.tensor([1, 2])
print("by hand: -(ln 0.7 + ln 0.25) / 2 =", round(-(math.log(0.7) + math.log(0.25)) / 2, 4))
print("torch:  ", round(F.cross_entropy(log_p, label).item(), 4), "(log p are logits, too)")
print("0.1 multiplied 1,197 times:", torch.full((1197,), 0.1).prod().item())
print(f"a guess among ten classes: -ln(1/10) = {math.log(10):.4f}")

# %% [markdown]
# **What the minimum means.** Suppose that for some $\mathbf{x}$ nature draws the label with
# probabilities $\mathbf{q}$. The mean loss there is $H(\mathbf{q}, \mathbf{p})$. Compare with what
# it is for $\mathbf{p} = \mathbf{q}$, using $\ln t \le t - 1$:
#
# $$ H(\mathbf{q}, \mathbf{p}) - H(\mathbf{q}, \mathbf{q}) = \sum_k q_k \ln \frac{q_k}{p_k} =
# -\sum_k q_k \ln \frac{p_k}{q_k} \ge -\sum_k q_k \Big(\frac{p_k}{q_k} - 1\Big) = 1 - \sum_k p_k \ge
# 0 $$
#
# (all sums over the $k$ with $q_k > 0$). The difference is the
# **Kullback-Leibler divergence** $\mathrm{KL}(\mathbf{q} \,\|\, \mathbf{p})$. So the loss is
# smallest for the true probabilities, and what then remains, the entropy $H(\mathbf{q},
# \mathbf{q})$, no model can remove.
#
# **What a model that knows nothing pays.** $p_k = 1/K$ costs $\ln K$, whatever the labels: 2.303
# for ten digits. A net before training should print about this; anything much larger is a bug or a
# bad start.
#
# **Why not count errors?** The share of wrong answers does not change when $W$ changes a little:
# its derivative is zero almost everywhere. And why not the squared error of $p$?

# %%
z = torch.linspace(-6, 6, 241, requires_grad=True)  # logit of the true class, two classes
p = torch.sigmoid(z)
losses = {"wrong or right": (z <= 0).float(), "squared error (1 − p)²": (1 - p) ** 2,
          "cross-entropy −ln p": -F.logsigmoid(z)}  # fmt: skip
fig, (left, right) = plt.subplots(1, 2, figsize=(9, 2.9))
for (name, loss), colour, dashes in zip(losses.items(), COLOURS, LINES, strict=False):
    left.plot(z.detach(), loss.detach(), color=colour, ls=dashes, label=name)
    if loss.requires_grad:
        (slope,) = torch.autograd.grad(loss.sum(), z, retain_graph=True)
        right.plot(z.detach(), slope, color=colour, ls=dashes)
left.set(xlabel="logit z of the true class", ylabel="loss", ylim=(-0.1, 4))
right.set(xlabel="logit z of the true class", ylabel="slope of the loss")
left.legend()
fig.suptitle("Sure and wrong (far left): only cross-entropy still pulls")
plt.show()

# %% [markdown]
# A classifier that is sure and wrong gets no correction from the squared error, because there the
# sigmoid is flat. The logarithm undoes just this flatness, as we shall now see in formulas.

# %% [markdown]
# ## 9. The gradient: p − y
#
# One example with label $y$: $L = -\ln p_y$. The direct way, from $L = \ln \sum_j e^{z_j} - z_y$:
#
# $$ \frac{\partial}{\partial z_i} \ln \sum_j e^{z_j} = \frac{1}{\sum_j e^{z_j}} \cdot
# \frac{\partial}{\partial z_i} \sum_j e^{z_j} = \frac{e^{z_i}}{\sum_j e^{z_j}} = p_i, \qquad
# \frac{\partial z_y}{\partial z_i} = [i = y] , $$
#
# where $[\,\cdot\,]$ is 1 if what stands inside is true, else 0 (of $\sum_j e^{z_j}$ only the term
# $j = i$ depends on $z_i$). With $Y_i = [i = y]$:
#
# $$ \boxed{\;\frac{\partial L}{\partial z_i} = p_i - Y_i\;} $$
#
# Believed minus true: for the true class negative (raise it), for the others positive, in
# proportion to how much they were believed, and in total 0. For section 7's $\mathbf{z} = (2, 1,
# 0)$ and $y = 1$, counted from 0: $(0.665,\ 0.245 - 1,\ 0.090)$.

# %% [markdown]
# **The long way** leads through the probabilities, and is where people get lost. Every $p_k$
# depends on *every* $z_i$, as all share the denominator $S = \sum_j e^{z_j}$. Quotient rule, with
# $\partial e^{z_k}/\partial z_i = [k = i]\, e^{z_k}$ and $\partial S / \partial z_i = e^{z_i}$:
#
# $$ \frac{\partial p_k}{\partial z_i} = \frac{[k = i]\, e^{z_k}\, S - e^{z_k}\, e^{z_i}}{S^2} =
# p_k\,\big([k = i] - p_i\big) . $$
#
# The loss $L = -\sum_k Y_k \ln p_k$ has $\partial L/\partial p_k = -Y_k/p_k$. The chain rule sums
# over *all* $k$:
#
# $$ \frac{\partial L}{\partial z_i} = \sum_k \Big( -\frac{Y_k}{p_k} \Big)\, p_k \big([k = i] -
# p_i\big) = -\sum_k Y_k [k = i] + p_i \sum_k Y_k = -Y_i + p_i . $$
#
# The $p_k$ of the logarithm cancels the $p_k$ of the softmax: that is why a sure and wrong answer
# still gets a gradient near 1. For two classes with one logit, $L = -y \ln \sigma(z) - (1 - y)
# \ln(1 - \sigma(z))$ and $\sigma' = \sigma(1 - \sigma)$ give likewise $-y(1 - \sigma) + (1 -
# y)\,\sigma = \sigma(z) - y$.

# %% [markdown]
# **To the weights.** $L$ is now the mean over a batch of $B$ examples, $G = \partial L / \partial
# Z = (P - Y)/B$, of shape $(B, K)$. The weight $W_{kd}$ appears in column $k$ of $Z$ only, in each
# row $n$ with the factor $X_{nd}$; the bias $b_k$ with the factor 1:
#
# $$ \frac{\partial L}{\partial W_{kd}} = \sum_n G_{nk} X_{nd} \;\Rightarrow\;
# \boxed{\;\frac{\partial L}{\partial W} = \frac1B (P - Y)^\top X, \qquad \frac{\partial L}{\partial
# \mathbf{b}} = \frac1B (P - Y)^\top \mathbf{1}\;} $$
#
# Read it: the template of class $k$ moves (against the gradient) towards the images of class $k$
# that it does not yet believe, and away from the others that it does. In code, and against
# numerical derivatives:


# %%
def loss_and_grads(
    x: Tensor, y: Tensor, weight: Tensor, bias: Tensor
) -> tuple[float, Tensor, Tensor]:
    """Mean cross-entropy of a linear classifier, and its gradients by weight (K, D), bias (K,)."""
    log_p = (x @ weight.T + bias).log_softmax(1)  # (B, K)
    loss = -log_p.gather(1, y[:, None]).mean()
    error = (log_p.exp() - F.one_hot(y, len(bias))) / len(x)  # (P - Y) / B
    return loss.item(), error.T @ x, error.sum(0)


draws = torch.Generator().manual_seed(0)
weight = torch.randn(3, 4, generator=draws, dtype=torch.float64)
bias = torch.randn(3, generator=draws, dtype=torch.float64)
x = torch.randn(5, 4, generator=draws, dtype=torch.float64)
y = torch.tensor([0, 2, 1, 1, 2])
_, dweight, dbias = loss_and_grads(x, y, weight, bias)
for name, tensor, grad, at in [("W[2, 1]", weight, dweight, (2, 1)), ("b[0]", bias, dbias, (0,))]:
    ends = []
    for step in (1e-5, -2e-5):  # up, then down by twice as much
        tensor[at] += step
        ends.append(loss_and_grads(x, y, weight, bias)[0])
    tensor[at] += 1e-5
    numeric = (ends[0] - ends[1]) / 2e-5
    print(f"{name:8} formula {grad[at]:+.8f}, (L(θ + h) − L(θ − h)) / 2h {numeric:+.8f}")

# %% [markdown]
# ## 10. Training by hand
#
# The gradient points uphill. **Gradient descent** goes the other way in steps of the learning rate
# $\eta$: $W \leftarrow W - \eta\, \partial L/\partial W$. Computed on all $N$ examples a step is
# expensive. A random **mini-batch** of $B$ gives an estimate that is right on average: if each
# example is equally likely to be drawn, the expected mean of the batch is the mean of all. Its
# standard deviation falls only like $1/\sqrt B$ (for independent draws):

# %%
weight, bias = torch.zeros(10, 64, device=device), torch.zeros(10, device=device)
_, full, _ = loss_and_grads(x_train, y_train, weight, bias)
draws = torch.Generator().manual_seed(0)
sizes, errors = [1, 4, 16, 64, 256, 1024], []
for size in sizes:
    total = 0.0
    for _ in range(5 * repeats):
        rows = torch.randint(len(x_train), (size,), generator=draws).to(device)
        estimate = loss_and_grads(x_train[rows], y_train[rows], weight, bias)[1]
        total += (estimate - full).square().sum().item()
    errors.append(math.sqrt(total / (5 * repeats)) / full.norm().item())

fig, ax = plt.subplots(figsize=(5.6, 2.7))
ax.loglog(sizes, errors, "o", label="measured")
ax.loglog(sizes, [errors[0] / math.sqrt(size) for size in sizes], "k--", lw=1, label="1 / √B")
ax.set(xlabel="batch size B", ylabel="error / length of the gradient")
ax.set(xticks=sizes, xticklabels=sizes, yticks=[0.3, 1, 3, 10], yticklabels=[0.3, 1, 3, 10])
ax.minorticks_off()
ax.set_title("Half the error costs four times the work")
ax.legend()
plt.show()

# %% [markdown]
# With one example the error is several times as long as the gradient itself, and that still helps
# on average. To halve the error one must quadruple the work, while the same work would pay for four
# steps. So batches are small, and mini-batch **SGD** (stochastic gradient descent) it is: shuffle,
# cut into batches, one step each; one pass through all examples is an **epoch**.


# %%
def sgd(
    x: Tensor, y: Tensor, epochs: int, size: int = 32, rate: float = 0.5, decay: float = 0.0
) -> tuple[Tensor, Tensor, list[float]]:
    """Train a linear classifier from zero: weight, bias, the loss before each step."""
    weight, bias = torch.zeros(10, x.shape[1], device=x.device), torch.zeros(10, device=x.device)
    draws, losses = torch.Generator().manual_seed(0), []
    for _ in range(epochs):
        for rows in torch.randperm(len(x), generator=draws).to(x.device).split(size):
            loss, dweight, dbias = loss_and_grads(x[rows], y[rows], weight, bias)
            weight = weight - rate * (dweight + decay * weight)  # decay: section 11
            bias = bias - rate * dbias
            losses.append(loss)
    return weight, bias, losses


epochs = {"grade": 4, "small": 30, "full": 30}[course.profile()]
weight, bias, losses = sgd(x_train, y_train, epochs)
fig, ax = plt.subplots(figsize=(6.2, 2.7))
ax.plot(losses, lw=0.8, label="loss of each batch")
ax.axhline(math.log(10), color="0.4", lw=0.8, ls=":")
ax.text(len(losses), math.log(10) - 0.05, "ln 10", ha="right", va="top", color="0.4")
ax.set(xlabel="step", ylabel="cross-entropy", ylim=(0, 2.5))
ax.set_title("The loss starts at ln 10, as it must")
plt.show()
print(f"first loss {losses[0]:.4f}, ln 10 = {math.log(10):.4f}")

# %% [markdown]
# A linear classifier may start at zero: its $K$ outputs get different gradients from the first step
# on. (A network with hidden layers may not; unit 01 shows why.) What has it learnt? Its rows,
# as images:

# %%
fig, axes = plt.subplots(2, 5, figsize=(6.6, 3.1))
limit = weight.abs().max().item()
for c, ax in enumerate(axes.flat):
    ax.imshow(weight[c].view(8, 8).cpu(), vmin=-limit, vmax=limit, cmap="gray")
    ax.set_title(f"{c}", pad=2)
    ax.axis("off")
fig.suptitle("Ten templates. White: ink speaks for the class, black: against, grey: no matter")
fig.colorbar(axes[0, 0].images[0], ax=axes, label="weight", shrink=0.8)
plt.show()

# %% [markdown]
# The template of 0 punishes ink in the middle; most others show what *distinguishes* a digit rather
# than what it looks like.
#
# **Top-k accuracy** asks whether the true class is among the $k$ highest scores: fair where several
# answers are plausible. ImageNet results are given as top-1 and top-5. Equal scores need a rule:
# the assignment counts a tie against the model, since one that scores all classes alike knows
# nothing. (`topk` here takes any of the equals.)


# %%
def top_k(scores: Tensor, y: Tensor, k: int) -> float:
    return share((scores.topk(k).indices == y[:, None]).any(1))


models = {"1-NN": F.one_hot(knn(x_train, y_train, x_valid, 1), 10).float(),
          "15-NN, share of votes": votes(x_train, y_train, x_valid, 15, 10) / 15,
          "linear": x_valid @ weight.T + bias}  # fmt: skip
print(f"{'validation digits':24}{'top-1':>8}{'top-2':>8}{'top-3':>8}")
for name, model in models.items():
    print(f"{name:24}" + "".join(f"{top_k(model, y_valid, k):8.1%}" for k in (1, 2, 3)))
print("(1-NN has one vote; its second and third places are a tie of nine classes)")
guess = models["linear"].argmax(1)
show_confusion(confusion(y_valid, guess), "Linear classifier, validation digits")

# %%
sure, guess = (x_valid @ weight.T + bias).softmax(1).cpu().max(1)
wrong = (guess != y_valid.cpu()).nonzero().flatten()[:8].tolist()
fig, axes = plt.subplots(1, 8, figsize=(9.4, 1.9))
for ax in axes:
    ax.axis("off")
for ax, i in zip(axes, wrong, strict=False):
    ax.imshow(x_valid[i].view(8, 8).cpu(), cmap="gray_r")
    ax.set_title(f"says {guess[i]}, {sure[i]:.0%}\nis {y_valid[i]}", fontsize=8)
fig.suptitle("What the linear classifier gets wrong (the first eight)")
plt.show()

# %% [markdown]
# ### The test digits, once
#
# The choices are made: $k$ by section 4's folds, 30 epochs because they seemed enough. Now the part
# that nobody has looked at, with the uncertainty that 300 digits allow: an accuracy $a$ of $n$
# independent answers has the standard error $\sqrt{a(1-a)/n}$.

# %%
frequent, k = torch.bincount(y_train, minlength=10).argmax(), chosen["true labels"]
finals = {"always the most frequent class": frequent.expand_as(y_test),
          "linear, 650 numbers": (x_test @ weight.T + bias).argmax(1),
          f"{k}-NN, 76,608 numbers": knn(x_train, y_train, x_test, k)}  # fmt: skip
assert weight.numel() + bias.numel() == 650 and x_train.numel() == 76_608
for name, answer in finals.items():
    a = share(answer == y_test)
    print(f"{name:32}{a:6.1%} ± {math.sqrt(a * (1 - a) / len(y_test)):.1%}")

# %% [markdown]
# (The ± says how much of the difference may be luck.) One template per class has to do for all the
# ways in which people write it. Remembering everything has a template for every example, at a
# hundred times as many numbers. Layers (unit 01) and convolutions (unit 02) look for what lies
# between.

# %% [markdown]
# ## 11. L2 regularisation
#
# Take 100 of the digits, with the labels of section 4's tired person. Even so ten classes in 64
# dimensions are easily separated without an error. What does maximum likelihood do then? Multiply
# weights and biases that separate by 2: every answer stays right, every $p_y$ grows, the loss
# falls. By 4: it falls again. **There is no minimum**; the weights grow for ever. Likelihood wants
# to be *sure*, and with few examples it is sure of accidents. So make large weights cost something:
#
# $$ L_\text{reg} = L + \frac{\lambda}{2} \sum_{k,d} W_{kd}^2, \qquad \frac{\partial
# L_\text{reg}}{\partial W_{kd}} = \frac{\partial L}{\partial W_{kd}} + \lambda W_{kd} , $$
#
# since $\partial W_{kd}^2/\partial W_{kd} = 2 W_{kd}$ and all other terms are constants. The ½ is
# there to cancel the 2. Written without it, $\lambda \sum W^2$, the gradient is $2\lambda W$:
# sources differ, and a $\lambda$ from one means half or double in the other. (`weight_decay=λ` of
# torch's SGD adds $\lambda W$: the form with ½.) The step becomes $W \leftarrow (1 - \eta\lambda)
# W - \eta\, \partial L/\partial W$: each weight shrinks by a fixed share. Biases are left alone;
# they only set how frequent a class is.

# %%
few = torch.randperm(len(x_train), generator=torch.Generator().manual_seed(0))[:100].to(device)
x_few, y_few, y_check = x_train[few], tired[few], tired[len(x_train) :]
steps = {"grade": 100, "small": 3000, "full": 3000}[course.profile()]


def descend(decay: float, rate: float = 0.8) -> tuple[Tensor, Tensor, list[float]]:
    """Plain gradient descent on 100 digits: weight, bias, the norm of the weight at every step."""
    weight, bias, norms = torch.zeros(10, 64, device=device), torch.zeros(10, device=device), []
    for _ in range(steps):
        _, dweight, dbias = loss_and_grads(x_few, y_few, weight, bias)
        weight, bias = weight - rate * (dweight + decay * weight), bias - rate * dbias
        norms.append(weight.norm())
    return weight, bias, torch.stack(norms).tolist()


decays = [1.0, 1e-1, 1e-2, 1e-3, 1e-4, 0.0]
fits = {decay: descend(decay) for decay in decays}
fig, ax = plt.subplots(figsize=(6.2, 2.8))
for decay in (0.0, 1e-3, 1e-2, 1e-1):
    ax.plot(range(1, steps + 1), fits[decay][2], label=f"λ = {decay:g}")
ax.set(xscale="log", xlabel="step", ylabel="length of all weights")
ax.set_title("Separable data: without λ the weights never settle")
ax.legend()
plt.show()

# %% [markdown]
# The solid line has no end: it grows, in the long run like the logarithm of the step (Soudry et al.
# 2018). With $\lambda$ it rests where the pull of the data and the pull to zero are equal. How
# large should $\lambda$ be? A hyper-parameter again, and the picture of section 3 again:


# %%
def mean_loss(x: Tensor, y: Tensor, weight: Tensor, bias: Tensor) -> float:
    return F.cross_entropy(x @ weight.T + bias, y).item()


train_loss = [mean_loss(x_few, y_few, w, b) for w, b, _ in fits.values()]
valid_loss = [mean_loss(x_valid, y_check, w, b) for w, b, _ in fits.values()]
labels = [f"{decay:g}" for decay in decays]
fig, ax = plt.subplots(figsize=(6.2, 2.8))
ax.plot(labels, valid_loss, "s-", label="300 validation digits")
ax.plot(labels, train_loss, "o--", label="100 training digits")
ax.axhline(math.log(10), color="0.4", lw=0.8, ls=":")
ax.text(5, math.log(10) - 0.05, "ln 10", ha="right", va="top", color="0.4")
ax.set(xlabel="λ (to the right: more flexible)", ylabel="cross-entropy")
ax.set_title("Too much: sure of nothing. Too little: sure of accidents")
ax.legend()
plt.show()
for label, (w, b, _), loss in zip(labels, fits.values(), valid_loss, strict=True):
    learnt, right = top_k(x_few @ w.T + b, y_few, 1), top_k(x_valid @ w.T + b, y_valid, 1)
    print(f"λ = {label:6} training labels learnt {learnt:4.0%},", end=" ")
    print(f"validation loss {loss:.2f}, validation digits read correctly {right:.1%}")


# %% [markdown]
# The last column uses the true labels, which the tired person's employer would not have; the
# validation loss, from labels as doubtful as the training ones, finds a good $\lambda$ without
# them. Learning every training label by heart, the wrong ones too, is paid for in the last column.
#
# In the language of section 8: suppose that before seeing data we hold each weight for normal with
# mean 0 and variance $s^2$. Then $-\ln$ of likelihood times prior is $NL + \sum W^2/2s^2$ plus a
# constant; divided by $N$, this is $L_\text{reg}$ with $\lambda = 1/(N s^2)$. The belief fades as
# examples come in.

# %% [markdown]
# ## 12. Several labels at once
#
# Lay two digits over each other, like slides. The label is no longer one class but a *set*, written
# as $\mathbf{y} \in \{0, 1\}^K$. Softmax is the wrong tool: its probabilities compete for a total
# of 1, so it can say neither "both" nor "none". Instead of one question with $K$ answers, ask $K$
# questions with two: a sigmoid for each logit, and the mean of $K$ **binary cross-entropies**,
#
# $$ \ell(z, y) = -y \ln \sigma(z) - (1 - y) \ln(1 - \sigma(z)) = \max(z, 0) - z y + \ln\big(1 +
# e^{-|z|}\big) . $$
#
# The right-hand side is safe for any $z$: with $1 - \sigma(z) = \sigma(-z)$ and $-\ln \sigma(z) =
# \ln(1 + e^{-z})$ the middle is $\ln(1 + e^{-z}) + (1 - y)z$. For $z \ge 0$ that is the right-hand
# side; for $z < 0$ use $\ln(1 + e^{-z}) = -z + \ln(1 + e^{z})$. By section 9 its derivative is
# $\sigma(z) - y$.


# %%
def overlay(x: Tensor, y: Tensor, seed: int) -> tuple[Tensor, Tensor]:
    """Each image with another one of the set laid over it: (N, 64), labels (N, 10) of 0 and 1."""
    other = torch.randperm(len(x), generator=torch.Generator().manual_seed(seed)).to(x.device)
    return torch.maximum(x, x[other]), (F.one_hot(y, 10) | F.one_hot(y[other], 10)).float()


pairs = [overlay(x_train, y_train, seed) for seed in range({"grade": 1}.get(course.profile(), 10))]
x_pair, y_pair = torch.cat([x for x, _ in pairs]), torch.cat([y for _, y in pairs])
w_pair, b_pair = torch.zeros(10, 64, device=device), torch.zeros(10, device=device)
draws = torch.Generator().manual_seed(0)
for _ in range({"grade": 1}.get(course.profile(), 10)):
    for rows in torch.randperm(len(x_pair), generator=draws).to(device).split(32):
        x = x_pair[rows]
        error = (torch.sigmoid(x @ w_pair.T + b_pair) - y_pair[rows]) / len(rows)
        w_pair, b_pair = w_pair - 0.2 * error.T @ x, b_pair - 0.2 * error.sum(0)

x_both, y_both = overlay(x_valid, y_valid, 0)
z_both = x_both @ w_pair.T + b_pair
each = F.binary_cross_entropy_with_logits(z_both, y_both).item()
print(f"binary cross-entropy {each:.3f}; of σ = 1/2 everywhere ln 2 = {math.log(2):.3f}")
accuracy, precision, recall, f1 = scores(z_both.flatten() > 0, y_both.flatten() == 1)
print(f"per label: accuracy {accuracy:.1%},", end=" ")
print(f"precision {precision:.1%}, recall {recall:.1%}, F1 {f1:.3f}")
print(f"saying no to every label: accuracy {share(y_both == 0):.1%}, F1 0")
print(f"whole set right: {share(((z_both > 0) == (y_both == 1)).all(1)):.1%}")

# %%
one_label = (x_both @ weight.T + bias).softmax(1)  # section 10's classifier, for comparison
fig, axes = plt.subplots(1, 6, figsize=(9.4, 2.5))
for i, ax in enumerate(axes):
    truth = y_both[i].nonzero().flatten().tolist()
    ax.imshow(x_both[i].view(8, 8).cpu(), cmap="gray_r")
    ax.axis("off")
    says = torch.sigmoid(z_both[i])
    lines = [f"{c}: σ {says[c]:.2f}, softmax {one_label[i, c]:.2f}" for c in truth]
    ax.set_title("\n".join([f"is {' and '.join(map(str, truth))}", *lines]), fontsize=7.5)
fig.suptitle("Probabilities of the true labels: from ten sigmoids, from the softmax of section 10")
plt.show()

# %% [markdown]
# The accuracy per label is flattered by the many easy "no": section 6's always-no machine gets
# about four fifths, so look at $F_1$ and at whole sets. The task is hard for ten templates; but the
# *question* is now the right one.

# %% [markdown]
# ## 13. When the answer is a number
#
# **Regression**: target $t \in \mathbb{R}$, prediction $\hat t$, residual $r = \hat t - t$. Maximum
# likelihood again, now with a model of the noise. Normal with variance $s^2$: $-\ln p(t \mid
# \mathbf{x}) = r^2/2s^2 + \text{const}$, the **squared error**. Laplace, $p \propto e^{-|r|/s}$:
# the **absolute error**. **Huber** joins them:
#
# $$ \begin{array}{lll} \text{MSE} & r^2 & \text{slope } 2r \\ \text{MAE} & |r| & \text{slope }
# \operatorname{sign}(r) \\ \text{Huber} & \tfrac12 r^2 \text{ if } |r| \le \delta, \text{ else }
# \delta\,(|r| - \tfrac12 \delta) & \text{slope } r, \text{ cut off at } \pm\delta \end{array} $$
#
# (At $|r| = \delta$ both pieces of Huber's are $\frac12\delta^2$ with slope $\delta$.) By hand:
# which one number $c$ predicts 1, 2 and 9 best? The slopes have to sum to zero. MSE: $3c = 12$, so
# $c = 4$, the *mean*. MAE: as many below as above, $c = 2$, the *median*. Huber with $\delta = 2$:
# $(c - 1) + (c - 2) - 2 = 0$, so $c = 2.5$; the outlier pulls, but no harder than $\delta$.

# %%
SLOPES: dict[str, Callable[[Tensor], Tensor]] = {
    "MSE": lambda r: 2 * r,
    "MAE": torch.sign,
    "Huber, δ = 1": lambda r: r.clamp(-1, 1),
}


def fit_line(
    x: Tensor, t: Tensor, slope: Callable[[Tensor], Tensor], steps: int = 4000
) -> tuple[float, float]:
    """The a and c of the line a x + c, by gradient descent with a rate that falls to 0."""
    a, c = 0.0, 0.0
    for step in range(steps):
        pull, rate = slope(a * x + c - t), 0.02 * (1 - step / steps)
        a, c = a - rate * (pull * x).mean().item(), c - rate * pull.mean().item()
    return a, c


# %%
x = torch.linspace(0, 10, 21)
clean = 0.5 * x + 1 + 0.4 * torch.randn(21, generator=torch.Generator().manual_seed(1))
t = clean.clone()
t[19] = 25.0  # a slip of the keyboard

fig, (left, right) = plt.subplots(1, 2, figsize=(9, 2.9), width_ratios=[2, 3])
right.plot(x, t, "ko", mfc="w")
for (name, slope), dashes, colour in zip(SLOPES.items(), LINES, COLOURS, strict=False):
    (a, c), (a0, c0) = fit_line(x, t, slope), fit_line(x, clean, slope)
    print(f"{name:13} without the slip {a0:.2f} x {c0:+.2f}, with it {a:.2f} x {c:+.2f}")
    r = torch.linspace(-3, 3, 121)
    left.plot(r, slope(r), ls=dashes, color=colour)
    right.plot(x, a * x + c, ls=dashes, color=colour, label=name)
left.set(xlabel="residual r", ylabel="slope of the loss", title="How hard a residual pulls")
right.set(xlabel="x", ylabel="t", title="One slip among 21 points")
right.legend(loc="upper left")
plt.show()

# %% [markdown]
# The squared error gives the outlier the pull of many points, and the line follows. MAE and Huber
# let it pull no harder than any other point. What to take? MSE if large errors are what one fears,
# and for its smooth slope; MAE if outliers are mistakes in the data (its slope does not shrink near
# the minimum, so the rate must); Huber for both, at the price of a $\delta$ in units of $t$. Fast
# R-CNN (unit 10) regresses its boxes with it.

# %% [markdown]
# ## 14. One experiment for you
#
# In section 3, $k = 151$ of 200 is about as good as tossing a coin. Why so bad? (How many points of
# each class do the 200 hold, and what do 151 of them say?) Then weigh each vote by $1/(d +
# 10^{-9})$, $d$ the distance, and draw the curve again. Where does it change, and what happens to
# the training error, for *every* $k$? Guess before you run.

# %% [markdown]
# ## 15. History and practice
#
# - **Least squares** was published by Legendre (1805); **maximum likelihood** got its name and
#   theory from Fisher (1922). His linear discriminant of 1936, on the iris flowers, is a linear
#   classifier in closed form.
# - **Logistic regression** comes from statistics: the curve from Verhulst's studies of populations
#   (1838, 1845), the word *logit* from Berkson (1944), the regression of binary data in general
#   from Cox (1958). **SGD** goes back to Robbins and Monro (1951), **Huber's** loss to 1964,
#   **cross-validation** as a way to choose to Stone (1974).
# - **Nearest neighbours**: a report of Fix and Hodges (1951), then Cover and Hart (1967) with the
#   bound of section 3. "Curse of dimensionality" is Bellman's phrase.
# - **Today** neighbours are sought among *learnt* features instead of pixels, in collections of
#   millions to billions of vectors: search by image, retrieval for language models. That is done
#   approximately: a library such as FAISS (Johnson et al. 2019) or a graph such as HNSW (Malkov and
#   Yashunin 2020) looks at a small part of the vectors and misses a true neighbour now and then.
# - The linear classifier with softmax and cross-entropy is the **last layer** of nearly every
#   classifying network, and of every language model: there $K$ is the size of the vocabulary.

# %% [markdown]
# | by hand in this unit | in practice |
# |---|---|
# | distances, k-NN | `torch.cdist`; `KNeighborsClassifier` of scikit-learn; `faiss` |
# | choice inside the fold | scikit-learn: `cross_val_score` of a `Pipeline` with all steps |
# | twins, time, rare classes | `GroupKFold`, `TimeSeriesSplit`, `StratifiedKFold` |
# | precision, recall, confusion | scikit-learn: `classification_report`, `confusion_matrix` |
# | log-softmax, cross-entropy | `F.cross_entropy(logits, y)`: takes logits, never probabilities |
# | several labels | `F.binary_cross_entropy_with_logits` |
# | Huber | `F.huber_loss(…, delta=δ)`; `F.smooth_l1_loss(…, beta=δ)` is Huber divided by δ |
# | SGD, L2 | `torch.optim.SGD(…, weight_decay=λ)`: decays biases, too, unless told not to |

# %%
logits, target = torch.randn(4, 10), torch.tensor([3, 0, 9, 3])
r = torch.linspace(-3, 3, 7)
huber, smooth = F.huber_loss(r, 0 * r, delta=2.0), F.smooth_l1_loss(r, 0 * r, beta=2.0)
ours = -logits.log_softmax(1)[range(4), target].mean()
print("huber_loss = δ · smooth_l1_loss:", torch.allclose(huber, 2.0 * smooth))
print("cross_entropy = mean of -log p_y:", torch.allclose(F.cross_entropy(logits, target), ours))

# %% [markdown]
# ## Summary
#
# 1. A score that was looked at in choosing is too good. Fit on training data, choose on validation
#    data or folds, report the test once; whatever sees labels belongs inside the fold.
# 2. Flexibility lowers the training error for ever, the error on new points only for a while; $k$,
#    $\lambda$ and the rest are chosen where the second is smallest.
# 3. Accuracy is silent about rare classes: look at the confusion matrix, precision and recall.
# 4. Maximum likelihood with softmax is cross-entropy; compute it from logits as $m + \ln\sum_j
#    e^{z_j - m} - z_y$, $m = \max_j z_j$; its gradient is $P - Y$, divided by $B$; before training
#    it is about $\ln K$.
# 5. Other answers, other losses: sigmoids and BCE for several labels, MSE for means, MAE or Huber
#    where outliers are mistakes; $\frac\lambda2\|W\|^2$ keeps weights from growing for ever.

# %% [markdown]
# ## Further reading
#
# - T. Cover, P. Hart, "Nearest neighbor pattern classification", *IEEE Transactions on Information
#   Theory* 13 (1967), 21-27.
# - T. Hastie, R. Tibshirani, J. Friedman, *The Elements of Statistical Learning* (2nd ed. 2009),
#   section 7.10.2, "The wrong and right way to do cross-validation"; section 2.5 on many
#   dimensions.
# - C. Ambroise, G. McLachlan, "Selection bias in gene extraction on the basis of microarray
#   gene-expression data", *PNAS* 99 (2002), 6562-6566: section 1 of this lecture, in print.
# - Y. Bengio, Y. Grandvalet, "No unbiased estimator of the variance of k-fold cross-validation",
#   *JMLR* 5 (2004), 1089-1105.
# - C. Bishop, *Pattern Recognition and Machine Learning* (2006), sections 4.3.2-4.3.4: logistic
#   regression and softmax.
# - I. Goodfellow, Y. Bengio, A. Courville, *Deep Learning* (2016), section 4.1 (overflow and
#   underflow) and chapter 5 (machine learning basics).
# - D. Soudry et al., "The implicit bias of gradient descent on separable data", *JMLR* 19 (2018).
# - P. Huber, "Robust estimation of a location parameter", *Annals of Mathematical Statistics* 35
#   (1964), 73-101.
# - *CS231n*, notes on image classification and linear classification (cs231n.github.io).
