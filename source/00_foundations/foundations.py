# %% [markdown]
# # Foundations: neighbours, measures, and a softmax classifier by hand
#
# **Unit 00, one notebook, twelve exercises.** Allow three and a half hours: the exercises take
# about two and three quarters, the rest is for reading. The experiments run on the CPU, in well
# under a minute on two cores.
#
# *Afterwards you can* say of a figure such as "99 % accuracy" what it is worth, choose a
# hyper-parameter without fooling yourself, compute softmax and cross-entropy for logits of any
# size, derive their gradient, and train a linear classifier without any library's help.
#
# *You need* Python, tensors and broadcasting in torch (`x[:, None]`, `sum(dim=1)`, indexing with
# tensors), derivatives and the matrix product.
#
# *How it works.* An exercise is one cell to fill in, followed by a cell of visible tests with
# numbers small enough for paper. The hidden checks ask for what the text and the docstrings
# state, nothing else; and what a function has returned stays as it is when it is called again.
# The cells between exercises are given: run them, look, read on. scikit-learn, which has much of
# this ready, may not be used in an answer.

# %% setup=true
import course

course.setup("00_foundations")

# %%
import math
from collections.abc import Callable, Sequence
from functools import cache

import matplotlib.pyplot as plt
import torch
import torch.nn.functional as F
from torch import Tensor

from course import expect, plots
from course.data import digits, spirals

FULL = course.profile() != "grade"  # the grader runs the same cells with less data

# %% [markdown]
# ## Three reports: which would you trust?
#
# The data of this notebook are handwritten digits of 8 × 8 pixels: 1,197 images to learn from
# (the *training* split), 300 for decisions (*validation*) and 300 for the very last measurement
# (*test*). Three programs are handed to you, each with the accuracy that its author measured:
#
# * **A** tells the ten digits apart;
# * **B** finds the digit 8 where it is rare;
# * **C** tells odd digits from even ones.


# %%
def report_a() -> tuple[float, float]:
    """Accuracy as reported, and on images of the validation split."""
    data = digits(course.device())
    order = torch.randperm(len(data.train_y), generator=torch.Generator().manual_seed(0))
    labels = data.train_y[order.to(data.train_y.device)]  # whose labels are these?

    def program(x: Tensor) -> Tensor:
        return labels[torch.cdist(x, data.train_x).argmin(dim=1)]

    reported = (program(data.train_x) == labels).float().mean().item()
    return reported, (program(data.valid_x) == data.valid_y).float().mean().item()


def report_b() -> tuple[float, float]:
    """Accuracy as reported, and the share of the eights that are found."""
    labels = digits().train_y
    rare = torch.cat([labels[labels != 8], labels[labels == 8][:10]]) == 8
    found = torch.zeros_like(rare)  # the program, whole
    return (found == rare).float().mean().item(), found[rare].float().mean().item()


def report_c() -> tuple[float, float]:
    """Accuracy as reported, and on images of the validation split."""
    data, generator = digits(), torch.Generator().manual_seed(0)
    coins = torch.randint(0, 2, (1000, 300), generator=generator)
    correct = (coins == data.valid_y % 2).float()
    reported = correct[:, :100].mean(dim=1)
    return reported.max().item(), correct[reported.argmax(), 100:].mean().item()


print(f"A   reported {report_a()[0]:6.1%}   guessing gives about 10 %")
print(f"B   reported {report_b()[0]:6.1%}   guessing gives about 50 %")
print(f"C   reported {report_c()[0]:6.1%}   guessing gives about 50 %")

# %% [markdown]
# Read the three functions before you go on: each returns a second number. Nothing in them is a
# lie, and the first numbers are computed correctly. Here are the second ones.

# %%
print(f"A   on images that it has not seen           {report_a()[1]:6.1%}")
print(f"B   of the eights it finds                   {report_b()[1]:6.1%}")
print(f"C   on images that it was not chosen by      {report_c()[1]:6.1%}")

# %% [markdown]
# None of the three has learned anything. A was given *shuffled* labels and has memorised them; it
# was measured on what it memorised. B says "no" to everything, and nearly always no is right. C
# is the luckiest of a thousand coins, measured on the 100 images by which it was picked.
#
# Part 1 builds program A honestly, part 2 chooses without C's mistake, part 3 measures what B
# hides. In parts 4 and 5 you write a classifier that learns, down to its last derivative, and
# measure it as parts 1 to 3 say.
#
# **Notation.** $N$ training rows, $M$ queries, a batch of $B$ rows, $D$ features, $K$ classes
# numbered from 0, $k$ neighbours, loss $L$, learning rate $\eta$. Vectors are bold, matrices
# capital.

# %% [markdown] heading="accuracy"
# ### Exercise {number} · Accuracy ({points} points, about 2 min)
#
# The share of predictions that are right, a number from 0 to 1:
#
# $$\text{accuracy} = \frac1B \sum_{i=1}^{B} [\hat y_i = y_i],$$
#
# where $[\cdot]$ is 1 if the statement holds and 0 if not. Classes are names: predicting 3 for a
# 4 is as wrong as predicting 9 for it.


# %% exercise="accuracy"
def accuracy(predicted: Tensor, labels: Tensor) -> float:
    """Share of the predictions that equal their labels.

    Args:
        predicted: (B,) int64 classes, numbered from 0 without a limit, B >= 1; not modified.
        labels: (B,) int64 classes; not modified.

    Returns:
        A number from 0 to 1 (a float or a tensor without dimensions).
    """
    ### BEGIN SOLUTION
    return (predicted == labels).float().mean().item()
    ### END SOLUTION


# %% test="accuracy"
expect(accuracy(torch.tensor([7, 0, 2, 1]), torch.tensor([7, 0, 3, 9])), 0.5, "accuracy: 2 of 4")
expect(accuracy(torch.tensor([4]), torch.tensor([4])), 1.0, "accuracy: 1 of 1")

# %% [markdown]
# ## 1. The classifier that only remembers
#
# To classify an image, find the training images that look most like it and let them vote. Nothing
# is learned; all the work is done when a question comes. *Alike* has to be a number: here the
# squared Euclidean distance, the sum over the pixels of the squared difference.

# %% [markdown] heading="squared_distances"
# ### Exercise {number} · All distances at once ({points} points, about 20 min)
#
# Every query against every training row: $d_{ij} = \lVert\mathbf x_i - \mathbf t_j\rVert^2$ for
# $i = 1 \dots M$ and $j = 1 \dots N$, a matrix of shape $(M, N)$. Two Python loops are slow. The
# short way without loops, `x[:, None] - train`, makes a tensor of shape $(M, N, D)$: for 10,000
# queries and 60,000 images of 784 pixels that is 1.9 TB. Multiply the square out instead,
#
# $$\lVert\mathbf x_i - \mathbf t_j\rVert^2
#   = \lVert\mathbf x_i\rVert^2 - 2\,\mathbf x_i\cdot\mathbf t_j + \lVert\mathbf t_j\rVert^2 ,$$
#
# and the expensive part is one matrix product. It has a price. In float32, which holds about
# seven digits, rows near $10^4$ have squares near $10^8$: their difference has lost everything
# that counts, and may even be negative. But a distance does not change when all points are moved
# by the same vector. Use that, or a wider dtype.
#
# * Entries are never negative. For float32 rows with features far from zero (up to
#   $\pm10^4$, another offset for each feature, with deviations about 1) relative errors up to
#   $10^{-3}$ and absolute errors up to $10^{-3}$ do not count. For float64 rows of ordinary size
#   errors up to $10^{-9}$ do not count.
# * No intermediate tensor holds more than $2\,(MN + MD + ND)$ numbers.
# * No Python loop over rows or features: at most 50 tensor operations, however large $M$, $N$ and
#   $D$ are.
# * Stay in torch: `numpy`, `scipy` and `tolist` may not be used, nor what computes distances:
#   `cdist`, `pdist`, `pairwise_distance`, `cosine_similarity`.


# %% exercise="squared_distances"
def squared_distances(x: Tensor, train: Tensor) -> Tensor:
    """Squared Euclidean distance of every query to every training row.

    Args:
        x: (M, D) floating point, not modified.
        train: (N, D) of the same dtype, not modified.

    Returns:
        (M, N) of the same dtype, no entry negative.
    """
    ### BEGIN SOLUTION
    centre = train.mean(dim=0)
    x, train = x - centre, train - centre
    squares = x.square().sum(dim=1)[:, None] + train.square().sum(dim=1)
    return (squares - 2 * x @ train.T).clamp(min=0)
    ### END SOLUTION


# %% test="squared_distances"
queries, rows = torch.tensor([[0.0, 0.0], [3.0, 4.0]]), torch.tensor([[3.0, 4.0], [0, 1], [1, 0]])
# From (3, 4): to itself 0, to (0, 1) 9 + 9, to (1, 0) 4 + 16.
expect(squared_distances(queries, rows), [[25, 1, 1], [0, 18, 20]], "squared_distances: 2 x 3")
shift = torch.tensor([10000.0, -10000.0])
far = squared_distances(queries + shift, rows + shift)
expect(far, [[25, 1, 1], [0, 18, 20]], "squared_distances: far from zero", rtol=1e-3, atol=1e-3)

# %% [markdown]
# A first look at the digits through your distances: twelve images of each class, sorted by class.
# If likeness in pixels means anything, the blocks along the diagonal have to be darker.

# %%
data = digits(course.device())
x, y = data.train_x, data.train_y
some = torch.cat([(y == digit).nonzero()[:12, 0] for digit in range(10)])
between = squared_distances(x[some], x[some]).cpu()
fig, ax = plt.subplots(figsize=(3.8, 3.2))
fig.colorbar(ax.imshow(between, cmap="gray"), label="squared distance")
ax.set(xticks=range(6, 120, 12), yticks=range(6, 120, 12), xlabel="digit", ylabel="digit")
ax.set_xticklabels(list("0123456789"))
ax.set_yticklabels(list("0123456789"))
ax.grid(False)
plt.show()

# %% [markdown] heading="knn_predict"
# ### Exercise {number} · The neighbours vote ({points} points, about 10 min)
#
# Given the distances of $M$ queries to $N$ training rows and the labels of those rows: the $k$
# nearest rows of each query vote with their labels, and the class with the most votes wins. All
# votes count the same, whatever their distance. Ties are common, so they are settled by rule:
#
# * *equal distances*: of two rows that are equally far, the one with the smaller index is nearer;
# * *equal votes*: the smallest class number among those with the most votes wins.
#
# Rows are numbered as they stand in `distances`; $1 \le k \le N$. Labels need not include all of
# $0 \dots K - 1$. Distances are compared as they are, in the dtype that they have: two that differ
# a little are not equal.


# %% exercise="knn_predict"
def knn_predict(distances: Tensor, labels: Tensor, k: int) -> Tensor:
    """Class of each query by a vote of its k nearest training rows.

    Args:
        distances: (M, N) floating point, from each query to each training row; compared in their
            own dtype; not modified.
        labels: (N,) int64 classes of the training rows, from 0; not modified.
        k: number of neighbours, 1 <= k <= N.

    Returns:
        (M,) int64 classes. Equal distances: the smaller row index is nearer. Equal votes: the
        smallest class wins.
    """
    ### BEGIN SOLUTION
    nearest = distances.argsort(stable=True)[:, :k]
    votes = F.one_hot(labels[nearest]).sum(dim=1)  # (M, classes)
    return votes.argmax(dim=1)
    ### END SOLUTION


# %% test="knn_predict"
d = torch.tensor([[0.1, 0.2, 0.3, 0.4], [4.0, 1.0, 2.0, 3.0]])
expect(knn_predict(d, torch.tensor([5, 2, 2, 7]), 1), [5, 2], "knn_predict: k = 1")
expect(knn_predict(d, torch.tensor([5, 2, 2, 7]), 3), [2, 2], "knn_predict: k = 3")
expect(knn_predict(d, torch.tensor([5, 2, 7, 2]), 2), [2, 2], "knn_predict: equal votes")
d = torch.tensor([[3.0, 1.0, 1.0, 2.0]])
expect(knn_predict(d, torch.tensor([0, 6, 4, 0]), 1), [6], "knn_predict: equal distances")

# %% [markdown]
# What does $k$ do? Points of two classes lie along two arms, and every tenth point was given the
# wrong class. The black line is where your classifier changes its mind.

# %%
points, classes = spirals(70, noise=0.3, seed=1)
classes = torch.where(torch.arange(140) % 10 == 0, 1 - classes, classes)
fig, axes = plt.subplots(1, 3, figsize=(9, 2.9), sharey=True)
for ax, k in zip(axes, [1, 9, 101], strict=True):
    plots.boundary(
        lambda grid, k=k: knn_predict(squared_distances(grid, points), classes, k),
        points,
        classes,
        ax=ax,
        resolution=120 if FULL else 20,
    )
    right = float(accuracy(knn_predict(squared_distances(points, points), classes, k), classes))
    ax.set_title(f"k = {k}: {right:.0%} of these points")
    ax.get_legend().remove()
plt.show()

# %% [markdown]
# With $k = 1$ every point is right, for it is its own nearest neighbour, and the wrong ones have
# islands of their own: the picture shows the noise (*overfitting*). With $k = 101$ of 140 points
# the vote is nearly that of all points, and the arms are gone (*underfitting*). The accuracy on
# these points falls from picture to picture, though the one in the middle is surely the best.
# **Accuracy on the training rows cannot choose $k$**: that is report A.
#
# A $k$ that is chosen, not learned, is called a *hyper-parameter*. What can choose it?

# %% [markdown]
# ## 2. Choosing without fooling yourself
#
# Measure on rows that the classifier has not seen. With one validation split a small difference
# is luck; and what is held out cannot be learned from. *Cross-validation* holds out each row
# once: cut the rows into $F$ folds, train $F$ times on all folds but one and measure on the one
# left out.

# %% [markdown] heading="cross_validation"
# ### Exercise {number} · Folds, and a choice ({points} points, about 20 min)
#
# **`k_fold`** gets the row numbers in the order in which they are to be cut (you will pass a
# random permutation) and cuts them into $F$ consecutive blocks. With $n$ row numbers, the first
# $n \bmod F$ blocks hold $\lfloor n/F \rfloor + 1$ of them and the others $\lfloor n/F \rfloor$.
# Fold $i$ validates on block $i$ and trains on all the others. Within both, the order is that of
# the argument.
#
# **`cross_validate`** gets a function `score(train_rows, valid_rows, candidate)` that trains
# and returns a number (larger is better), the splits, and the candidates for a hyper-parameter.
# It calls `score` once for each pair of candidate and split, in any order. For each candidate it
# computes over the $F$ splits the mean of the scores and its *standard error*, the deviation over
# the square root of $F$:
#
# $$\bar s = \frac1F\sum_{i=1}^F s_i, \qquad
# \text{error} = \frac{1}{\sqrt F}\sqrt{\frac1{F-1}\sum_{i=1}^F (s_i - \bar s)^2}$$
#
# (note the $F - 1$), and returns the candidate with the largest mean, as it stands in `candidates`:
# 0.1 stays 0.1 and is not rounded to float32. If several have the largest mean, the first of them
# in `candidates` is returned. Scores may be negative, all of them too, and large beside their
# spread: the error of 1000, 1000.25 and 1000.5 has to be right. The checks use scores that are
# multiples of ¼, whose means are equal in floating point when they are equal on paper.


# %% exercise="cross_validation"
def k_fold(order: Tensor, folds: int) -> list[tuple[Tensor, Tensor]]:
    """Cut row numbers into folds; each is held out once.

    Args:
        order: (n,) int64 row numbers, in any order; not modified.
        folds: F, number of blocks, 2 <= F <= n. The first n % F blocks are one longer.

    Returns:
        F pairs (train, valid) of int64 row numbers: `valid` is block i of `order`, `train` the
        rest, both in the order of `order`.
    """
    ### BEGIN SOLUTION
    blocks = order.tensor_split(folds)
    return [(torch.cat(blocks[:i] + blocks[i + 1 :]), block) for i, block in enumerate(blocks)]
    ### END SOLUTION


def cross_validate(
    score: Callable[[Tensor, Tensor, float], float],
    splits: list[tuple[Tensor, Tensor]],
    candidates: Sequence[float],
) -> tuple[float, Tensor, Tensor]:
    """Score every candidate on every split and choose.

    Args:
        score: called as score(train_rows, valid_rows, candidate); returns a number, an int or a
            float of any sign, larger is better.
        splits: F >= 2 pairs (train_rows, valid_rows), as from `k_fold`.
        candidates: C different values of a hyper-parameter, in any order.

    Returns:
        The candidate with the largest mean (the first of several, not rounded), the means (C,)
        and their standard errors (C,), in the order of `candidates`.
    """
    ### BEGIN SOLUTION
    rows = [[float(score(train, valid, c)) for train, valid in splits] for c in candidates]
    scores = torch.tensor(rows)
    means = scores.mean(dim=1)
    errors = scores.std(dim=1) / math.sqrt(len(splits))
    return candidates[int(means.argmax())], means, errors
    ### END SOLUTION


# %% test="cross_validation"
parts = k_fold(torch.tensor([4, 0, 3, 1, 2]), 2)
expect([part.tolist() for part in parts[0]], [[1, 2], [4, 0, 3]], "k_fold: first of two")
expect([part.tolist() for part in parts[1]], [[4, 0, 3], [1, 2]], "k_fold: second of two")
# A score by hand: the candidate times the first row that is held out, 4 or 1.
best, means, errors = cross_validate(lambda train, valid, c: c * valid[0].item(), parts, [2, 6, 4])
expect(best, 6, "cross_validate: best")
expect(means, [5, 15, 10], "cross_validate: means")  # 6 · (4 + 1) / 2
expect(errors, [3, 9, 6], "cross_validate: standard errors")  # 24 and 6: deviation 9 · sqrt(2)
first, _, _ = cross_validate(lambda train, valid, c: 0.5, parts, [7, 3, 5])
expect(first, 7, "cross_validate: equal means")

# %% [markdown]
# Now choose $k$ for the digits, twice: with the labels as they are, and with every fifth label
# replaced by a random one. Guess first: which of the two wants the larger $k$?


# %%
def choose_k(labels: Tensor, candidates: list[int], rows: int):
    """Cross-validated accuracies of kNN on the training split; (best k, means, errors)."""
    order = torch.randperm(len(labels), generator=torch.Generator().manual_seed(0))[:rows]
    distances = squared_distances(data.train_x, data.train_x)

    def score(train: Tensor, valid: Tensor, k: float) -> float:
        predicted = knn_predict(distances[valid][:, train], labels[train], int(k))
        return float(accuracy(predicted, labels[valid]))

    return cross_validate(score, k_fold(order.to(labels.device), 5), candidates)


def with_noise(labels: Tensor) -> Tensor:
    """Every fifth label replaced by a random class."""
    generator = torch.Generator().manual_seed(0)
    noise = torch.randint(0, 10, labels.shape, generator=generator).to(labels.device)
    return torch.where(torch.arange(len(labels), device=labels.device) % 5 == 0, noise, labels)


# %%
candidates = [1, 2, 3, 5, 9, 15, 25, 45, 81] if FULL else [1, 5]
fig, ax = plt.subplots(figsize=(5.5, 3))
chosen_k = {}
for name, labels in {"true labels": data.train_y, "noisy labels": with_noise(data.train_y)}.items():
    best, means, errors = choose_k(labels, candidates, len(labels) if FULL else 100)
    ax.errorbar(candidates, means, errors, capsize=3, marker="o", label=f"{name}: best k = {best}")
    chosen_k[name] = int(best)
ax.set(xscale="log", xlabel="k", ylabel="accuracy, five folds", xticks=candidates)
ax.set_xticklabels([str(k) for k in candidates])
ax.minorticks_off()
ax.legend()
plt.show()

# %% [markdown]
# Clean labels want few neighbours, noisy labels more: a vote averages the noise away. ($k = 2$
# does not: a vote of two is unanimous or a tie, which the rule gives to the smaller class.) The
# bars are one standard error; candidates whose bars overlap are not told apart by these data, and
# any of them would do. (With noise no classifier gets far above 80 %: the labels that it is
# *measured* by are noisy too.)
#
# The winner's own figure is a little too good, since it won partly by luck. That is report C, on
# a small scale: **choose on validation data, report on data that had no part in any choice.** The
# test split is for one measurement at the end of this notebook.

# %% [markdown]
# ## 3. Measures that do not hide the rare class
#
# B's accuracy is one number, and the rare class drowns in it. The *confusion matrix* keeps all
# there is to know about classes: how many rows of class $i$ were predicted as class $j$.

# %% [markdown] heading="confusion_matrix"
# ### Exercise {number} · Confusion matrix ({points} points, about 6 min)
#
# $C_{ij}$ is the number of rows with label $i$ and prediction $j$:
# **rows are the true classes, columns the predicted ones** (scikit-learn's convention; some books
# have the transpose). Classes that do not occur have rows or columns of zeros.
#
# One trap: `C[labels, predicted] += 1` counts a pair that occurs several times only once, because
# all reads come before all writes.


# %% exercise="confusion_matrix"
def confusion_matrix(labels: Tensor, predicted: Tensor, num_classes: int) -> Tensor:
    """Count the pairs of true and predicted class.

    Args:
        labels: (B,) int64 true classes, from 0 to num_classes - 1, any B >= 1; not modified.
        predicted: (B,) int64 predicted classes, of the same range; not modified.
        num_classes: K, any number >= 1.

    Returns:
        (K, K) int64; row: true class, column: predicted class.
    """
    ### BEGIN SOLUTION
    pairs = num_classes * labels + predicted
    return pairs.bincount(minlength=num_classes**2).reshape(num_classes, num_classes)
    ### END SOLUTION


# %% test="confusion_matrix"
true, guessed = torch.tensor([0, 0, 0, 1, 1]), torch.tensor([0, 1, 1, 1, 0])
expect(confusion_matrix(true, guessed, 3), [[1, 2, 0], [1, 1, 0], [0, 0, 0]], "confusion_matrix: 3")

# %% [markdown] heading="precision_recall_f1"
# ### Exercise {number} · Precision, recall, F1 ({points} points, about 12 min)
#
# For class $c$ let $\mathrm{TP}$ (true positives) be the rows of class $c$ that are predicted as
# $c$, $\mathrm{FP}$ the rows of *other* classes that are predicted as $c$, and $\mathrm{FN}$ the
# rows of class $c$ that are predicted as something else.
#
# $$\text{precision} = \frac{\mathrm{TP}}{\mathrm{TP} + \mathrm{FP}}, \qquad
# \text{recall} = \frac{\mathrm{TP}}{\mathrm{TP} + \mathrm{FN}}, \qquad
# F_1 = \frac{2\,\text{precision}\cdot\text{recall}}{\text{precision} + \text{recall}}
# = \frac{2\,\mathrm{TP}}{2\,\mathrm{TP} + \mathrm{FP} + \mathrm{FN}} .$$
#
# Precision: of what was called $c$, how much is? Recall: of what is $c$, how much was found? The
# harmonic mean $F_1$ is high only if both are. Derive the last form from the one before it.
#
# * Where a denominator is 0, the value is 0: the precision of a class that is never predicted,
#   the recall of a class that does not occur, the $F_1$ of a class that does neither. (The middle
#   form of $F_1$ is 0/0 wherever $\mathrm{TP} = 0$. The last form says that the value is 0 there.)
# * **Macro $F_1$** is the mean of the $K$ classes' $F_1$, each class counting once, those with
#   value 0 too: classes that do not occur, are never predicted, or both. (It is not the $F_1$ of
#   the mean precision and mean recall, which is also found under this name.)


# %% exercise="precision_recall_f1"
def precision_recall_f1(confusion: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Precision, recall and F1 of each class.

    Args:
        confusion: (K, K) int64 counts; row: true class, column: predicted class. Not modified.

    Returns:
        Three float tensors (K,): precision, recall, F1; 0 where a denominator is 0.
    """
    ### BEGIN SOLUTION
    hits = confusion.diagonal().float()
    predicted, actual = confusion.sum(dim=0), confusion.sum(dim=1)
    precision, recall = hits / predicted, hits / actual
    f1 = 2 * hits / (predicted + actual)
    return precision.nan_to_num(), recall.nan_to_num(), f1.nan_to_num()  # 0 / 0 counts as 0
    ### END SOLUTION


def macro_f1(confusion: Tensor) -> float:
    """Mean of the F1 of all K classes, a number; `confusion` is not modified."""
    ### BEGIN SOLUTION
    return precision_recall_f1(confusion)[2].mean().item()
    ### END SOLUTION


# %% test="precision_recall_f1"
counts = torch.tensor([[3, 1, 0], [2, 4, 0], [0, 0, 0]])  # class 2 neither occurs nor is predicted
precision, recall, f1 = precision_recall_f1(counts)
expect(precision, [3 / 5, 4 / 5, 0], "precision_recall_f1: precision")  # columns
expect(recall, [3 / 4, 4 / 6, 0], "precision_recall_f1: recall")  # rows
expect(f1, [6 / 9, 8 / 11, 0], "precision_recall_f1: F1")
expect(macro_f1(counts), (6 / 9 + 8 / 11) / 3, "macro_f1: an absent class counts")

# %% [markdown]
# Report B again, beside your nearest neighbours, on the same rows: eights are rare among them.

# %%
is_8 = torch.cat([data.train_y[data.train_y != 8], data.train_y[data.train_y == 8][:10]]) == 8
rows = torch.cat([data.train_x[data.train_y != 8], data.train_x[data.train_y == 8][:10]])
half = torch.randperm(len(rows), generator=torch.Generator().manual_seed(4)).to(rows.device)
known, asked = half[::2], half[1::2]
distances = squared_distances(rows[asked], rows[known])
print(f"{'':16s} accuracy  precision  recall     F1")
for name, guess in {
    "program B": torch.zeros(len(asked), dtype=torch.int64, device=rows.device),
    "one neighbour": knn_predict(distances, is_8[known].long(), 1),
    "nine neighbours": knn_predict(distances, is_8[known].long(), 9),
}.items():
    table = confusion_matrix(is_8[asked].long(), guess, 2)
    p, r, f = (float(values[1]) for values in precision_recall_f1(table))
    right = accuracy(guess, is_8[asked].long())
    print(f"{name:16s} {float(right):8.1%} {p:10.2f} {r:7.2f} {f:6.2f}")
print(f"({int(is_8[asked].sum())} eights among {len(asked)} images)")

# %% [markdown]
# The accuracies lie within one per cent; recall and $F_1$ say what happened. Note the third row:
# to win a vote of nine takes five eights among the nearest nine, and there is only a handful of
# known eights at all. A $k$ that is good for the frequent classes can be fatal for a rare one.

# %% [markdown] heading="top_k_accuracy"
# ### Exercise {number} · Top-k accuracy ({points} points, about 10 min)
#
# With a thousand classes, some of them close relatives, one guess is harsh: ImageNet was judged
# for years by whether the right class is among the *five* with the highest scores. Ties need a
# rule here too, and most programs leave it to chance. Ours is strict: a row counts as right if
# **fewer than $k$ other classes have a score that is equal to or higher than that of its true
# class**. So a classifier that gives all classes the same score is right nowhere, unless
# $k = K$. *Equal* means equal: scores are compared as they are, in the dtype that they have, and
# probabilities of $10^{-7}$ and $3\cdot10^{-7}$ are no tie.


# %% exercise="top_k_accuracy"
def top_k_accuracy(scores: Tensor, labels: Tensor, k: int) -> float:
    """Share of the rows whose true class is among the k best, ties counting against it.

    Args:
        scores: (B, K) floating point, larger is better; compared exactly, in their own dtype; not
            modified.
        labels: (B,) int64 true classes, B >= 1; not modified.
        k: 1 <= k <= K.

    Returns:
        A number from 0 to 1 (a float or a tensor without dimensions).
    """
    ### BEGIN SOLUTION
    own = scores.gather(1, labels[:, None])
    rivals = (scores >= own).sum(dim=1) - 1  # a class is no rival of itself
    return (rivals < k).float().mean().item()
    ### END SOLUTION


# %% test="top_k_accuracy"
scores = torch.tensor([[0.1, 0.5, 0.4], [0.3, 0.3, 0.2]])
true = torch.tensor([2, 0])
expect(top_k_accuracy(scores, true, 1), 0.0, "top_k_accuracy: k = 1")  # second place; a tie
expect(top_k_accuracy(scores, true, 2), 1.0, "top_k_accuracy: k = 2")
expect(top_k_accuracy(scores, torch.tensor([0, 2]), 2), 0.0, "top_k_accuracy: last places")

# %% [markdown]
# ## 4. From scores to probabilities to a loss
#
# Now a classifier that learns. It is linear: class $c$ has a weight for every pixel and a bias,
# and its score for the image $\mathbf x$ is $z_c = \mathbf w_c\cdot\mathbf x + b_c$. For a batch
# $X$ of shape $(B, D)$, weights $W$ of shape $(K, D)$ and biases $\mathbf b$ of shape $(K,)$,
#
# $$Z = X W^\top + \mathbf b, \qquad \text{shape } (B, K).$$
#
# Scores like these, of any size and sign, are called *logits*. Softmax makes probabilities of
# them, positive and with sum 1:
#
# $$p_c = \frac{e^{z_c}}{\sum_{j} e^{z_j}}, \qquad
# \log p_c = z_c - \log\sum_j e^{z_j} .$$

# %% [markdown] heading="softmax"
# ### Exercise {number} · Softmax and its logarithm ({points} points, about 15 min)
#
# In float32 $e^{89}$ is infinite and $e^{-104}$ is zero, so the formulas as they stand give
# $\infty/\infty$ for logits of 1000 and $\log 0$ for logits of $-1000$. The way out: adding a
# number $m$ to all logits of a row changes no probability, since $e^m$ cancels. With
# $m = -\max_j z_j$ no exponential is above 1 and at least one of them *is* 1.
#
# The logarithm of a stable softmax is still wrong: for the logits $(0, -1000)$ the second
# probability is zero in any floating-point format that torch has, and its logarithm $-\infty$,
# where the right answer is $-1000$. So `log_softmax` is computed directly, by the second formula.
#
# Both work along the **last** dimension of a tensor with one or more dimensions, keep shape and
# dtype, and are finite and right for $|z| \le 10^4$ (probabilities may round to 0). Near $10^4$
# float32 numbers are $10^{-3}$ apart: for float32 logits of that size, errors up to $10^{-3}$ of a
# logarithm and relative errors up to $10^{-3}$ of a probability do not count. Ordinary float64
# logits are worth float64 arithmetic: relative errors up to $10^{-9}$ do not count.
#
# What a library has ready may not be called, neither as function nor as method: `softmax`,
# `softmin`, `log_softmax`, `logsumexp`, `logaddexp`, `logcumsumexp`, `cross_entropy`, `nll_loss`,
# their forms as modules (`Softmax`, `CrossEntropyLoss`, ...), `torch.special` and `scipy`. The
# same holds for all exercises below. What you have written yourself may be called.


# %% exercise="softmax"
def log_softmax(logits: Tensor) -> Tensor:
    """Logarithms of the softmax probabilities along the last dimension.

    Args:
        logits: (..., K) floating point, |logits| <= 1e4; not modified.

    Returns:
        Same shape and dtype, finite, no entry above 0.
    """
    ### BEGIN SOLUTION
    shifted = logits - logits.amax(dim=-1, keepdim=True)
    return shifted - shifted.exp().sum(dim=-1, keepdim=True).log()
    ### END SOLUTION


def softmax(logits: Tensor) -> Tensor:
    """Softmax probabilities along the last dimension; shapes as in `log_softmax`."""
    ### BEGIN SOLUTION
    return log_softmax(logits).exp()
    ### END SOLUTION


# %% test="softmax"
ln2 = math.log(2)
logits = torch.tensor([[0.0, ln2, 0.0], [1000.0, 1000.0, 0.0], [0.0, -1000.0, -1000.0]])
expect(softmax(logits), [[0.25, 0.5, 0.25], [0.5, 0.5, 0.0], [1.0, 0.0, 0.0]], "softmax: rows")
logs = [[-2 * ln2, -ln2, -2 * ln2], [-ln2, -ln2, -1000 - ln2], [0.0, -1000.0, -1000.0]]
expect(log_softmax(logits), logs, "log_softmax: rows")
expect(softmax(torch.zeros(2, 1, 4)), torch.full((2, 1, 4), 0.25), "softmax: three dimensions")

# %% [markdown]
# **Which weights are best?** The ones under which the labels that were seen are most probable
# (*maximum likelihood*). For independent rows the probability of all labels is
# $\prod_i p_{i,y_i}$, where $p_{i,y_i}$ is the probability that row $i$ gives its own label
# $y_i$. A product of a thousand such numbers is zero in floating point; its logarithm is a sum.
# With the sign turned, so that there is something to minimise, and divided by $B$, so that its
# size does not depend on the batch:
#
# $$L = -\frac1B\sum_{i=1}^{B} \log p_{i,y_i} = \frac1B \sum_{i=1}^B
# \Bigl(\log\sum_j e^{z_{ij}} - z_{i,y_i}\Bigr).$$
#
# This is the *cross-entropy*. Its gradient by the logits is short enough to remember. Take one
# row, $\ell = \log\sum_j e^{z_j} - z_y$, and one logit $z_c$:
#
# $$\frac{\partial \ell}{\partial z_c}
# = \frac{1}{\sum_j e^{z_j}}\cdot\frac{\partial}{\partial z_c}\sum_j e^{z_j} - [c = y]
# = \frac{e^{z_c}}{\sum_j e^{z_j}} - [c = y] = p_c - [c = y] ,$$
#
# because of all terms $e^{z_j}$ only the one with $j = c$ depends on $z_c$, and $z_y$ depends on
# $z_c$ only if $c = y$. In words: *what the classifier says minus what is true*.

# %% [markdown] heading="cross_entropy"
# ### Exercise {number} · Cross-entropy and its gradient ({points} points, about 15 min)
#
# Return the loss, the **mean** over the batch as above, and its gradient by the logits,
# $\partial L/\partial z_{ic} = \frac1B\,(p_{ic} - [c = y_i])$. Both are finite and right for
# $|z| \le 10^4$: use your `log_softmax`, not the logarithm of your `softmax`. For float32 logits
# near $10^4$, errors up to $10^{-3}$ of loss and gradient do not count. For ordinary float64
# logits relative errors up to $10^{-4}$ of the loss and $10^{-9}$ of the gradient do not count.
#
# The gradient is written by hand: `autograd`, `backward`, `requires_grad`, `requires_grad_` and
# `torch.func` may not be used, nor what the exercise before forbids. (`F.one_hot` may.)


# %% exercise="cross_entropy"
def cross_entropy(logits: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
    """Mean cross-entropy of a batch, and its gradient by the logits.

    Args:
        logits: (B, K) floating point, |logits| <= 1e4, B >= 1; not modified.
        labels: (B,) int64 true classes; not modified.

    Returns:
        The loss, without dimensions (tensor or float), and the gradient (B, K) in the dtype of
        `logits`.
    """
    ### BEGIN SOLUTION
    rows = torch.arange(len(labels)).to(labels.device)
    loss = -log_softmax(logits)[rows, labels].mean()
    grad = softmax(logits)
    grad[rows, labels] -= 1
    return loss, grad / len(labels)
    ### END SOLUTION


# %% test="cross_entropy"
two = torch.tensor([[0.0, math.log(3)], [0.0, 0.0]])  # probabilities ¼, ¾ and ½, ½
loss, grad = cross_entropy(two, torch.tensor([1, 0]))
expect(loss, (math.log(4 / 3) + math.log(2)) / 2, "cross_entropy: loss")
expect(grad, [[0.125, -0.125], [-0.25, 0.25]], "cross_entropy: gradient")
loss, grad = cross_entropy(torch.tensor([[0.0, -1000.0, 0.0]]), torch.tensor([1]))
expect(loss, 1000 + math.log(2), "cross_entropy: a label of probability 0")
expect(grad, [[0.5, -1.0, 0.5]], "cross_entropy: gradient there")

# %% [markdown]
# The library has the same: `torch.nn.functional.cross_entropy` takes *logits* (giving it
# probabilities is a common bug that trains, badly) and leaves the derivative to autograd. The
# next cell holds your two functions against it.

# %%
random_logits = 5 * torch.randn(6, 4, generator=torch.Generator().manual_seed(0))
random_labels = torch.tensor([0, 3, 1, 1, 2, 0])
leaf = random_logits.clone().requires_grad_()
loss, grad = cross_entropy(random_logits, random_labels)
library = F.cross_entropy(leaf, random_labels)
expect(loss, library.detach(), "cross_entropy: beside the library")
expect(grad, torch.autograd.grad(library, leaf)[0], "cross_entropy: beside autograd")
print(f"yours {float(loss):.6f}, the library's {library.item():.6f}")

# %% [markdown]
# ### Other targets, other losses
#
# Softmax says *one of K*. If several labels can hold at once (a photo with a dog *and* a beach),
# each of them is a yes-or-no question of its own with its own logit: $p = \sigma(z) =
# 1/(1+e^{-z})$. The negative log-likelihood of a target $t \in [0, 1]$ is the *binary
# cross-entropy*
#
# $$\ell(z, t) = -t\log\sigma(z) - (1-t)\log(1-\sigma(z)) .$$
#
# If the target is a number (*regression*), maximum likelihood depends on how the error
# $e = \text{prediction} - \text{target}$ is distributed: normally, and it asks for the squared
# error; with Laplace's density $\propto e^{-|e|}$, for the absolute error. Huber's loss is the
# first near zero and the second far out, joined smoothly at $|e| = \delta$:
#
# $$\text{MSE: } e^2, \qquad \text{MAE: } |e|, \qquad
# \text{Huber: } \begin{cases} \tfrac12 e^2 & |e| \le \delta\\
# \delta\,(|e| - \tfrac12\delta) & |e| > \delta \end{cases}$$

# %% [markdown] heading="other_losses"
# ### Exercise {number} · Many labels, and numbers ({points} points, about 15 min)
#
# Four losses, each the **mean over all entries** of two tensors of the same shape and floating
# dtype, which are not modified. Huber's has the ½ in it and MSE has not, as in torch.
#
# `bce_with_logits` has to be finite and right for $|z| \le 10^4$ (in float32, absolute errors up
# to $10^{-6}$ do not count). Derive a stable form: write
# $\log\sigma(z) = -\log(1 + e^{-z})$ and $\log(1-\sigma(z)) = -z - \log(1+e^{-z})$, which turns
# $\ell$ into $(1-t)\,z + \log(1 + e^{-z})$. That is fine for $z \ge 0$. What do you get when you
# take $z$ out of the logarithm for $z < 0$, and how can one formula with $|z|$ and $\max(z, 0)$
# say both?
#
# May not be called: `binary_cross_entropy`, `binary_cross_entropy_with_logits`, `mse_loss`,
# `l1_loss`, `huber_loss`, `smooth_l1_loss`, `logsigmoid`, `softplus` and their forms as modules
# (`BCEWithLogitsLoss`, ...), nor what the exercise on softmax forbids: `logaddexp`, the library's
# `log_softmax` and the others.


# %% exercise="other_losses"
def bce_with_logits(logits: Tensor, targets: Tensor) -> Tensor:
    """Binary cross-entropy of independent labels, from logits; the mean over all entries.

    Args:
        logits: any shape, floating point, |logits| <= 1e4; not modified.
        targets: same shape and dtype, entries in [0, 1]; not modified.

    Returns:
        The loss, without dimensions (tensor or float).
    """
    ### BEGIN SOLUTION
    return (logits.clamp(min=0) - logits * targets + (-logits.abs()).exp().log1p()).mean()
    ### END SOLUTION


def mse(predicted: Tensor, targets: Tensor) -> Tensor:
    """Mean squared error of two tensors of the same shape and dtype, which are not modified.

    Returns:
        The loss, without dimensions (tensor or float).
    """
    ### BEGIN SOLUTION
    return (predicted - targets).square().mean()
    ### END SOLUTION


def mae(predicted: Tensor, targets: Tensor) -> Tensor:
    """Mean absolute error of two tensors of the same shape and dtype, which are not modified.

    Returns:
        The loss, without dimensions (tensor or float).
    """
    ### BEGIN SOLUTION
    return (predicted - targets).abs().mean()
    ### END SOLUTION


def huber(predicted: Tensor, targets: Tensor, delta: float = 1.0) -> Tensor:
    """Mean Huber loss: e^2 / 2 up to |e| = delta, delta (|e| - delta / 2) beyond.

    Args:
        predicted: any shape, floating point; not modified.
        targets: same shape and dtype; not modified.
        delta: where the two pieces meet, above 0.

    Returns:
        The loss, without dimensions (tensor or float).
    """
    ### BEGIN SOLUTION
    error = (predicted - targets).abs()
    return torch.where(error <= delta, error.square() / 2, delta * (error - delta / 2)).mean()
    ### END SOLUTION


# %% test="other_losses"
z, t = torch.tensor([[0.0, math.log(3)]]), torch.tensor([[1.0, 0.0]])  # probabilities ½ and ¾
expect(bce_with_logits(z, t), (math.log(2) + math.log(4)) / 2, "bce_with_logits: two labels")
wrong = bce_with_logits(torch.tensor([1000.0, -1000.0]), torch.tensor([0.0, 1.0]))
expect(wrong, 1000.0, "bce_with_logits: confident and wrong")
right = bce_with_logits(torch.tensor([1000.0, -1000.0]), torch.tensor([1.0, 0.0]))
expect(right, 0.0, "bce_with_logits: confident and right")
guess, truth = torch.tensor([1.0, 2.0, 3.0, 4.0]), torch.tensor([1.0, 2.5, 3.0, 1.0])
expect(mse(guess, truth), (0.25 + 9) / 4, "mse: four numbers")
expect(mae(guess, truth), (0.5 + 3) / 4, "mae: four numbers")
expect(huber(guess, truth), (0.125 + 2.5) / 4, "huber: default delta")  # 1 · (3 - ½)
expect(huber(guess, truth, delta=2.0), (0.125 + 4) / 4, "huber: delta 2")  # 2 · (3 - 1)

# %% [markdown]
# Two questions for the next cell. Left: how do the formula as it is written in books and yours
# differ for a confident wrong answer? Right: six measurements, one of them broken, are to be
# summed up by a single number $c$; which $c$ does each loss prefer?

# %%
z = torch.linspace(-150, 150, 61)
book = [-(1 - torch.sigmoid(value)).log().item() for value in z]
stable = [float(bce_with_logits(value, torch.zeros(()))) for value in z]
fig, axes = plt.subplots(1, 2, figsize=(8, 2.9))
axes[0].plot(z, stable, label="from the logit")
axes[0].plot(z, book, label="by the formula, float32", lw=3)
axes[0].set(xlabel="logit z, target 0", ylabel="binary cross-entropy")
axes[0].legend()
measured = torch.tensor([0.0, 1.0, 2.0, 2.5, 3.0, 15.0])
c = torch.linspace(-2, 16, 361)
for name, loss_of in {"MSE": mse, "MAE": mae, "Huber, δ = 1": huber}.items():
    values = torch.stack([torch.as_tensor(loss_of(m.expand(6), measured)) for m in c])
    best = c[values.argmin()].item()
    axes[1].plot(c, values / values.min(), label=f"{name}: least at {best:.2f}")
axes[1].plot(measured, torch.full((6,), 1.0), "k|", ms=12, label="measurements")
axes[1].set(xlabel="c", ylabel="loss / least loss", ylim=(0.9, 3))
axes[1].legend(fontsize=8)
plt.show()
print(f"mean {measured.mean():.3f}; median between 2 and 2.5")

# %% [markdown]
# The book's formula ends between $z = 15$ and $z = 20$: there $\sigma(z)$ rounds to 1 in float32,
# and the logarithm of zero is infinite. And the squared error prefers the *mean*, which one broken
# measurement pulls away from all the others; the absolute error prefers a *median* and does not
# care how far out it is; Huber lies between. Prove the first two: set the derivative by $c$ to
# zero.
#
# And the two kinds of cross-entropy are one. With $K = 2$ softmax depends on the difference
# $z = z_1 - z_0$ alone, $p_1 = e^{z_1}/(e^{z_0} + e^{z_1}) = 1/(1 + e^{-z}) = \sigma(z)$: a softmax
# classifier of two classes *is* logistic regression. The next cell holds your functions together.

# %%
z = torch.tensor([-2.0, 0.5, 3.0])
two_logits, two_labels = torch.stack([torch.ones(3), 1 + z], dim=1), torch.tensor([0, 1, 0])
softmax_loss, _ = cross_entropy(two_logits, two_labels)
expect(softmax_loss, bce_with_logits(z, two_labels.float()), "cross_entropy: two classes, as BCE")
print(f"both are {float(softmax_loss):.6f}")

# %% [markdown]
# ## 5. A classifier that learns
#
# Everything is there but two things: the way from the logits back to the weights, and a brake.
# With enough features a linear classifier can make the training loss as small as it likes, by
# letting the weights grow. *L2 regularisation* charges for that, with a strength $\lambda$:
#
# $$J = L + \frac{\lambda}{2}\sum_{c,d} W_{cd}^2 .$$
#
# The biases are free: they say how frequent a class is, and ten numbers fit little noise.

# %% [markdown] heading="regularised_loss"
# ### Exercise {number} · Gradients of the weights ({points} points, about 20 min)
#
# With $Z = XW^\top + \mathbf b$ and $G = \partial L/\partial Z$ of shape $(B, K)$ (your
# `cross_entropy` returns it), find $\partial J/\partial W$ and $\partial J/\partial\mathbf b$.
# One weight $W_{cd}$ is used in every row $i$, where it adds $W_{cd}\,x_{id}$ to $z_{ic}$ and to
# no other logit; so a small change of it changes $L$ through column $c$ of $Z$, that is through
# $z_{ic}$ for all rows $i$:
#
# $$\frac{\partial L}{\partial W_{cd}} = \sum_{i=1}^{B} G_{ic}\,x_{id}, \qquad
# \frac{\partial L}{\partial b_c} = \sum_{i=1}^{B} G_{ic} .$$
#
# Write the first sum as one product of matrices: which one has to be transposed so that the
# result has the shape of $W$? Then add the derivative of the penalty. Three conventions, each of
# which is found otherwise elsewhere: the penalty has the factor ½; it is **not** divided by $B$
# (the mean in $L$ is already taken); it does **not** include the biases. Loss and gradients are
# finite and right for logits up to $10^4$ in size, as in `cross_entropy`.
#
# The gradients are written by hand; what the two exercises on softmax and cross-entropy forbid
# is forbidden here too.


# %% exercise="regularised_loss"
def regularised_loss(
    weight: Tensor, bias: Tensor, x: Tensor, labels: Tensor, strength: float = 0.0
) -> tuple[Tensor, Tensor, Tensor]:
    """Cross-entropy of a linear classifier with an L2 penalty, and its gradients.

    The logits are x times the transpose of weight, plus bias, with |logits| <= 1e4.

    Args:
        weight: (K, D) floating point; not modified.
        bias: (K,) of the same dtype; not modified.
        x: (B, D) of the same dtype, B >= 1; not modified.
        labels: (B,) int64 true classes; not modified.
        strength: lambda >= 0; the penalty is lambda / 2 times the sum of the squared weights.

    Returns:
        J (without dimensions, tensor or float), its gradient by `weight` (K, D) and its gradient
        by `bias` (K,), both in the dtype of `weight`.
    """
    ### BEGIN SOLUTION
    loss, grad = cross_entropy(x @ weight.T + bias, labels)
    penalty = strength / 2 * weight.square().sum()
    return loss + penalty, grad.T @ x + strength * weight, grad.sum(dim=0)
    ### END SOLUTION


# %% test="regularised_loss"
# Two rows of three features; all logits are 0, so that G = ½ · [[-½, ½], [½, -½]].
inputs, zero = torch.tensor([[1.0, 2.0, 0.0], [3.0, 0.0, 4.0]]), torch.zeros(2, 3)
j, dweight, dbias = regularised_loss(zero, torch.zeros(2), inputs, torch.tensor([0, 1]))
expect(j, math.log(2), "regularised_loss: loss of zero weights")
expect(dweight, [[0.5, -0.5, 1.0], [-0.5, 0.5, -1.0]], "regularised_loss: gradient of the weights")
expect(dbias, [0.0, 0.0], "regularised_loss: gradient of the biases")
# Equal rows of weights give equal logits again; their squares have the sum 28.
same, ones = torch.tensor([[1.0, 2.0, 3.0]] * 2), torch.ones(2)
j, dweight, dbias = regularised_loss(same, ones, inputs, torch.tensor([0, 0]), strength=0.5)
expect(j, math.log(2) + 7, "regularised_loss: with penalty")
expect(dweight, [[-0.5, 0.5, 0.5], [1.5, 1.5, 2.5]], "regularised_loss: gradient with penalty")
expect(dbias, [-0.5, 0.5], "regularised_loss: biases are not decayed")

# %% [markdown]
# Before any training, the cheapest test there is. With all weights zero the classifier gives each
# of the ten classes the probability 1/10, so the loss *must* be $-\ln\frac1{10} = \ln 10$.

# %%
weight, bias = torch.zeros(10, 64, device=x.device), torch.zeros(10, device=x.device)
start, _, _ = regularised_loss(weight, bias, data.train_x, data.train_y)
print(f"loss at the start {float(start):.6f}, ln 10 = {math.log(10):.6f}")

# %% [markdown]
# (Starting at zero is harmless here, as each class has its own gradient and $J$ has no local
# minima to be caught in. In a network with hidden layers it is fatal: unit 01.)

# %% [markdown] heading="sgd_epoch"
# ### Exercise {number} · An epoch of mini-batch SGD ({points} points, about 20 min)
#
# The gradient over all rows is exact and slow. A gradient over a few random rows is noisy, costs
# a fraction, and on average points the same way. *Stochastic gradient descent* takes a step on
# each of many small batches; one pass over the data is an *epoch*:
#
# $$W \leftarrow W - \eta\,\frac{\partial J}{\partial W}, \qquad
# \mathbf b \leftarrow \mathbf b - \eta\,\frac{\partial J}{\partial \mathbf b} .$$
#
# `order` holds the row numbers of this epoch in the order in which they are visited (none twice,
# and not necessarily all). Consecutive pieces of `batch_size` of them are the batches; if the last
# piece is shorter, it is used all the same, as a smaller batch with its own mean. Each batch gives
# one step, with both gradients taken at the *same* weights and biases, and the next batch sees the
# new ones. The list returned holds each batch's $J$ (penalty included) *before* its step, as
# numbers. The arguments stay as they are: the caller may still need the old weights.
#
# `torch.optim` (`SGD`), `autograd`, `backward` and `torch.func` may not be used, nor what the
# exercise on softmax forbids.


# %% exercise="sgd_epoch"
def sgd_epoch(
    weight: Tensor,
    bias: Tensor,
    x: Tensor,
    labels: Tensor,
    order: Tensor,
    batch_size: int,
    lr: float,
    strength: float = 0.0,
) -> tuple[Tensor, Tensor, list[float]]:
    """One epoch of mini-batch gradient descent on J, by hand.

    Args:
        weight: (K, D) floating point; not modified.
        bias: (K,) of the same dtype; not modified.
        x: (N, D) of the same dtype, all rows; not modified.
        labels: (N,) int64 classes of all rows; not modified.
        order: (n,) int64 row numbers, n >= 1, none twice, in the order of visiting; not modified.
        batch_size: rows of a step, at least 1; the last batch may be smaller.
        lr: learning rate.
        strength: lambda of the L2 penalty.

    Returns:
        The new weight (K, D) and the new bias (K,), in their own dtype, and the list of the
        batches' J, each before its step.
    """
    ### BEGIN SOLUTION
    losses = []
    for rows in order.split(batch_size):
        loss, dweight, dbias = regularised_loss(weight, bias, x[rows], labels[rows], strength)
        weight, bias = weight - lr * dweight, bias - lr * dbias
        losses.append(float(loss))
    return weight, bias, losses
    ### END SOLUTION


# %% test="sgd_epoch"
# One feature, two classes. `order` holds row 1 alone: G = [½, -½], x = 2.
one_x, one_y = torch.tensor([[1.0], [2.0], [-1.0]]), torch.tensor([0, 1, 0])
w0, b0 = torch.zeros(2, 1), torch.zeros(2)
w1, b1, losses = sgd_epoch(w0, b0, one_x, one_y, torch.tensor([1]), 2, lr=0.5)
expect(w1, [[-0.5], [0.5]], "sgd_epoch: weights after one batch")  # 0.5 · ½ · 2
expect(b1, [-0.25, 0.25], "sgd_epoch: biases after one batch")
expect(losses, [math.log(2)], "sgd_epoch: loss before the step")
expect(w0, [[0.0], [0.0]], "sgd_epoch: the argument afterwards")
# Rows 0 and 2 first: same class, opposite x, so only the biases move. Then row 1.
w2, b2, losses = sgd_epoch(w0, b0, one_x, one_y, torch.tensor([0, 2, 1]), 2, lr=math.log(3))
expect(len(losses), 2, "sgd_epoch: number of batches")
expect(losses[1], math.log(4), "sgd_epoch: the second batch sees the new biases")  # p = ¼
expect(w2, [[-1.5 * math.log(3)], [1.5 * math.log(3)]], "sgd_epoch: a last batch of one row")

# %% [markdown]
# Now train. `train` calls your epoch with a fresh random order each time and measures the loss
# on the whole training and validation splits after each.


# %%
def loss_and_accuracy(weight: Tensor, bias: Tensor, x: Tensor, labels: Tensor):
    """Mean cross-entropy without penalty, and accuracy."""
    logits = x @ weight.T + bias
    return float(cross_entropy(logits, labels)[0]), float(accuracy(logits.argmax(dim=1), labels))


def train(x, labels, epochs: int, lr: float, strength: float = 0.0, batch_size=32, valid=None):
    """Softmax regression from zero weights; returns weight, bias and curves by name."""
    weight, bias = torch.zeros(10, x.shape[1], device=x.device), torch.zeros(10, device=x.device)
    generator, curves = torch.Generator().manual_seed(0), {}
    for _ in range(epochs):
        order = torch.randperm(len(x), generator=generator).to(x.device)
        weight, bias, _ = sgd_epoch(weight, bias, x, labels, order, batch_size, lr, strength)
        for name, split in {"train": (x, labels), "valid": valid}.items():
            if split is not None:
                loss, right = loss_and_accuracy(weight, bias, *split)
                curves.setdefault(f"{name}_loss", []).append(loss)
                curves.setdefault(f"{name}_accuracy", []).append(right)
    return weight, bias, curves


# %%
valid = (data.valid_x, data.valid_y)
weight, bias, curves = train(
    data.train_x, data.train_y, epochs=60 if FULL else 2, lr=0.3, valid=valid
)
plots.curves(curves)
plt.show()
print(f"validation: loss {curves['valid_loss'][-1]:.3f}, {curves['valid_accuracy'][-1]:.1%} right")

# %% [markdown]
# These are *learning curves*, the picture to draw of every training run. The training loss falls
# on and on; the validation loss falls with it, then flattens out above it. The gap between the two
# is what the classifier has learned about these 1,197 images in particular; with 650 numbers it
# can remember only so much of them.
#
# **What has it learned?** A class's weights are as many as there are pixels, so they are a
# picture: bright where ink speaks for the class, dark where it speaks against it.

# %%
shown = weight.cpu() if FULL else weight[:2]
plots.images(shown, range(len(shown)), columns=10, title="weights of each class")

# %% [markdown]
# A template for each digit: look for the hole of the 0. $\mathbf w_c\cdot\mathbf x$ is large if
# the ink lies where the template is bright.
#
# **And what does the brake do?** It should matter where there is noise to be fitted. The next cell
# trains on 300 images, every fifth with a random label, without and with a penalty, and validates
# on true labels.

# %%
few_x, few_y = data.train_x[:300], with_noise(data.train_y)[:300]
for strength in [0.0, 0.003]:
    w, b, _ = train(few_x, few_y, epochs=100 if FULL else 1, lr=1.0, strength=strength)
    train_loss, _ = loss_and_accuracy(w, b, few_x, few_y)
    valid_loss, right = loss_and_accuracy(w, b, *valid)
    shown = w.cpu() if FULL else w[:2]
    plots.images(shown, range(len(shown)), columns=10, title=f"weights by class, λ = {strength}")
    plt.show()
    print(f"loss {train_loss:.3f} in training, {valid_loss:.3f} in validation ({right:.1%} right)")
    print(f"root of the sum of the squared weights {w.norm():.1f}")

# %% [markdown]
# The penalised weights are smaller and fit the training labels less well, which is the point: many
# of those labels are wrong. On true labels they do better.

# %% [markdown]
# ### Choose, then measure once
#
# The rate and the strength are hyper-parameters. Each pair is trained on the training split and
# judged by its *validation* loss. The rate is tried in factors of ten. If the best rate lay at the
# edge of the table, the table would be too small.

# %%
EPOCHS = 25 if FULL else 1
rates, strengths = ([0.03, 0.3, 3.0, 30.0], [0.0, 0.0001, 0.001]) if FULL else ([3.0], [0.0])
chosen_lr, chosen_strength, tried = 0.3, 0.0, {}  # until the table below says better
print("validation loss   " + "".join(f"λ = {strength:<8}" for strength in strengths))
for lr in rates:
    line = f"rate {lr:<12} "
    for strength in strengths:
        w, b, _ = train(data.train_x, data.train_y, EPOCHS, lr, strength)
        tried[lr, strength] = loss_and_accuracy(w, b, *valid)[0]
        line += f"{tried[lr, strength]:<12.3f}"
    print(line)
chosen_lr, chosen_strength = min(tried, key=lambda pair: tried[pair])
print(f"chosen: rate {chosen_lr}, λ = {chosen_strength}")

# %% [markdown]
# Without label noise there is little for the brake to do on these data, and a rate far too large
# makes the loss jump about. (Such a table is read with its error in mind: neighbours that differ
# in the third digit are equal.)
#
# **Which digits does it confuse?** A confusion matrix worth reading needs errors, and a few
# hundred images hold few. Your `k_fold` has a second use: train five times, each time on four
# folds, and let each classifier predict the fold that it has not seen. In the end every training
# image has a prediction by a classifier that did not know it.


# %%
@cache
def out_of_fold(epochs: int) -> Tensor:
    """Logits (N, 10) of the training images, each by a classifier that has not seen it."""
    order = torch.randperm(len(data.train_y), generator=torch.Generator().manual_seed(0))
    logits = torch.zeros(len(order), 10, device=data.train_x.device)
    for known, held_out in k_fold(order.to(logits.device), 5):
        w, b, _ = train(
            data.train_x[known], data.train_y[known], epochs, chosen_lr, chosen_strength
        )
        logits[held_out] = data.train_x[held_out] @ w.T + b
    return logits


def show_confusion(logits: Tensor) -> None:
    """The counts as a picture; only errors are shaded, for the diagonal would drown them."""
    counts = confusion_matrix(data.train_y, logits.argmax(dim=1), 10).cpu()
    wrong = counts - counts.diag().diag()
    _, ax = plt.subplots(figsize=(3.8, 3.6))
    ax.imshow(wrong, cmap="gray_r")
    for i, j in counts.nonzero().tolist():
        colour = "w" if wrong[i, j] > 0.5 * wrong.max() else "k"
        ax.text(j, i, f"{counts[i, j]}", ha="center", va="center", fontsize=8, color=colour)
    ax.set(xticks=range(10), yticks=range(10), xlabel="predicted", ylabel="true")
    ax.set_title("shade: errors only")
    ax.grid(False)
    plt.show()


show_confusion(out_of_fold(EPOCHS))


# %%
def show_measures(logits: Tensor) -> None:
    """Measures for each class, and top-k accuracy."""
    counts = confusion_matrix(data.train_y, logits.argmax(dim=1), 10)
    print("digit      " + "".join(f"{digit:6d}" for digit in range(10)))
    for name, row in zip(["precision", "recall", "F1"], precision_recall_f1(counts), strict=True):
        print(f"{name:11s}" + "".join(f"{float(value):6.2f}" for value in row))
    print(f"macro F1 {float(macro_f1(counts)):.3f}")
    for k in [1, 2, 3]:
        print(f"top-{k} accuracy {float(top_k_accuracy(logits, data.train_y, k)):.1%}")


def show_errors(logits: Tensor) -> None:
    """The errors with the most confidence."""
    confidence, guess = softmax(logits).max(dim=1)
    errors = (guess != data.train_y).nonzero()[:, 0]
    worst = errors[confidence[errors].argsort(descending=True)][: 20 if FULL else 2]
    titles = [f"{int(guess[i])} (is {int(data.train_y[i])})" for i in worst]
    title = "wrong, and most sure of it: the guess, and what it is"
    plots.images(data.train_x[worst].cpu(), titles, columns=10, title=title)
    plt.show()


show_measures(out_of_fold(EPOCHS))
show_errors(out_of_fold(EPOCHS))

# %% [markdown]
# The errors are not spread evenly: look for the darkest cells, then for pictures of that pair, and
# ask what the templates above make of them. In most errors the true class comes second: compare
# top-1 with top-2. Some of the pictures you would get wrong too.
#
# **The measurement.** Now, once, the test split. Beside your classifier stand three baselines:
# *always the most frequent class*, *nearest mean* (the class whose mean training image is
# nearest) and your nearest neighbours with the $k$ that cross-validation chose.


# %%
def final() -> dict[str, Callable[[Tensor], Tensor]]:
    """Four classifiers: functions from images to classes."""
    w, b, _ = train(data.train_x, data.train_y, EPOCHS, chosen_lr, chosen_strength)
    means = torch.stack([data.train_x[data.train_y == digit].mean(dim=0) for digit in range(10)])
    frequent = data.train_y.bincount().argmax()
    k = chosen_k["true labels"]
    return {
        "most frequent class": lambda x: frequent.expand(len(x)),
        "nearest mean": lambda x: squared_distances(x, means).argmin(dim=1),
        f"{k} nearest neighbour{'s' if k > 1 else ''}": lambda x: knn_predict(
            squared_distances(x, data.train_x), data.train_y, k
        ),
        "softmax classifier": lambda x: (x @ w.T + b).argmax(dim=1),
    }


def shifted(x: Tensor) -> Tensor:
    """The images, moved one pixel to the right."""
    return F.pad(x.reshape(-1, 8, 8), (1, 0))[:, :, :8].flatten(1)


print(f"{'':22s} test accuracy    one pixel to the right")
for name, classifier in final().items():
    right = float(accuracy(classifier(data.test_x), data.test_y))
    moved = float(accuracy(classifier(shifted(data.test_x)), data.test_y))
    error = math.sqrt(right * (1 - right) / len(data.test_y))
    print(f"{name:22s} {right:6.1%} ± {error:.1%} {moved:18.1%}")

# %% [markdown]
# Two surprises. The neighbours, which learn nothing, are no worse than the classifier that learns.
# (The ± is one standard error, $\sqrt{a(1-a)/300}$ for an accuracy $a$ on 300 images, so one
# measurement does not part the two. Five folds of 1,197 images do: compare the top-1 accuracy
# above with the first points of the figure in part 2.) On 8 × 8 pixels, likeness is a strong
# idea; it costs 1,197 images to keep and to compare with at every question, where the softmax
# classifier keeps ten templates.
#
# The other is the last column: moved by one pixel of eight, a digit is as easy for you to read as
# before, and every classifier that looks at the pixels is ruined. To each of them an image is a
# list of 64 numbers, and which pixels are neighbours means nothing to it. Convolutions (unit 02)
# are built to repair that.

# %% [markdown]
# ### Your experiment
#
# Change one thing at a time and predict the result before you run it. Suggestions:
#
# * `lr=30.0`: what happens to the loss, and why does your `log_softmax` survive it?
# * `batch_size=1`, then `batch_size=1197`, at the same rate: which one is further after ten
#   epochs, and which curve is smooth?
# * `features=lambda x: torch.cat([x, x**2], dim=1)`, or the products of neighbouring pixels: a
#   linear classifier on better features. When does the validation curve begin to rise?
# * Train on `with_noise(data.train_y)`: how high can validation accuracy get?


# %%
def experiment(epochs: int, lr=0.3, strength=0.0, batch_size=32, features=lambda x: x):
    x, valid_x = features(data.train_x), features(data.valid_x)
    _, _, curves = train(
        x, data.train_y, epochs, lr, strength, batch_size, valid=(valid_x, data.valid_y)
    )
    plots.curves(curves)
    plt.show()
    print(f"validation accuracy {curves['valid_accuracy'][-1]:.1%}")


experiment(20 if FULL else 1)

# %% [markdown]
# ## Summary
#
# 1. Rows that a program has seen, or was chosen by, say nothing about new ones: train, choose and
#    report on three different sets of rows.
# 2. A hyper-parameter such as $k$ trades overfitting for underfitting; cross-validation chooses
#    it, and its error bars say how firmly.
# 3. Accuracy hides rare classes; the confusion matrix, precision and recall show them.
# 4. Cross-entropy is the mean negative log-likelihood; compute it from logits, with the maximum
#    subtracted. Its gradient is *what is said minus what is true*, and its first value is $\ln K$.
# 5. A linear classifier compares an image with one template a class; L2 keeps the templates
#    smooth, SGD finds them a batch at a time.
#
# ## In practice, and further reading
#
# The library calls are `torch.cdist`, `torch.nn.functional.cross_entropy`,
# `binary_cross_entropy_with_logits` and `huber_loss`, and scikit-learn's `KFold`,
# `KNeighborsClassifier`, `confusion_matrix` and `classification_report`. Nearest neighbours are
# in use every day, in the space of a network's features and with an approximate search, where
# "most similar" is asked of millions of items.
#
# * T. Cover, P. Hart, *Nearest neighbor pattern classification*, IEEE Trans. Inf. Theory, 1967.
# * C. Bishop, *Pattern Recognition and Machine Learning*, 2006: section 4.3.4 has the gradient
#   above.
# * S. Arlot, A. Celisse, *A survey of cross-validation procedures for model selection*,
#   Statistics Surveys 4, 2010.
# * T. Hastie, R. Tibshirani, J. Friedman, *The Elements of Statistical Learning*, 2009: section
#   7.10.2 is on the wrong way to do cross-validation.
