"""Hidden checks, known mistakes and alternatives of `00_foundations/foundations`."""

import math
from typing import TYPE_CHECKING, Any

import torch
import torch.nn.functional as F
from torch import Tensor

from autograder.contract import Exercise, expect, probes, require

if TYPE_CHECKING:  # replacements run in the namespace of the reference
    from autograder.reference.foundations import (
        cross_entropy,
        log_softmax,
        precision_recall_f1,
        regularised_loss,
        softmax,
    )


def expect_unchanged(student: Any, function: str, **given: Any) -> None:
    """Call the function with the arguments given, in their order, and look at each afterwards."""
    after, _ = student.run(probes.arguments_after, function, *given.values())
    for (name, before), value in zip(given.items(), after, strict=True):
        same = not isinstance(before, Tensor) or torch.equal(value, before)
        require(same, f"{function} changes its argument {name}")


# ----------------------------------------------------------------------------------------------
# accuracy

ex = accuracy = Exercise("accuracy")


def classes(rows: int, number: int) -> Tensor:
    """Random classes, as labels or predictions."""
    return torch.randint(0, number, (rows,))


@ex.check("some of many are right", points=0.5)
def _(student):
    for rows, number in [(7, 3), (40, 4)]:
        labels, predicted = classes(rows, number), classes(rows, number)
        right = sum(a == b for a, b in zip(labels.tolist(), predicted.tolist(), strict=True))
        expect(student.accuracy(predicted, labels), right / rows, f"accuracy of {rows} rows")


@ex.check("all and none are right, a batch of one", points=0.5)
def _(student):
    labels = torch.tensor([2, 0, 1, 1, 3])
    expect(student.accuracy(labels, labels), 1.0, "all right")
    expect(student.accuracy((labels + 1) % 4, labels), 0.0, "none right")
    expect(student.accuracy(torch.tensor([0]), torch.tensor([0])), 1.0, "one row, right")
    expect(student.accuracy(torch.tensor([1]), torch.tensor([3])), 0.0, "one row, wrong")
    expect(student.accuracy(torch.tensor([1, 2, 3]), torch.tensor([3, 1, 2])), 0.0, "permuted")
    near = student.accuracy(torch.tensor([100_000]), torch.tensor([100_001]))
    expect(near, 0.0, "large class numbers that differ by one")
    many = student.accuracy(torch.tensor([12, 57, 300, 0]), torch.tensor([12, 57, 300, 256]))
    expect(many, 0.75, "classes 12, 57, 300 and 256, three of them right")
    expect_unchanged(student, "accuracy", predicted=(labels + 1) % 4, labels=labels)


ex.mistake(
    "counts, not the share",
    "Divide by the number of rows.",
    edit=(".mean()", ".sum()"),
)
ex.mistake(
    "percent",
    "The exercise asks for a number from 0 to 1.",
    edit=(".item()", ".item() * 100"),
)
ex.mistake(
    "the share of errors",
    "Accuracy counts what is right.",
    edit=("predicted == labels", "predicted != labels"),
)
ex.mistake(
    "rounds to whole numbers",
    "Integer division throws the fraction away.",
    edit=(
        "(predicted == labels).float().mean().item()",
        "int((predicted == labels).float().mean())",
    ),
)
ex.mistake(
    "classes taken for numbers",
    "Classes are names: it does not matter how far apart two of them are.",
    edit=("(predicted == labels).float()", "1 - (predicted - labels).abs().float()"),
)
ex.mistake(
    "classes taken for truth values",
    "Compare the classes themselves; every class but 0 would count as the same.",
    edit=("(predicted == labels)", "(predicted.bool() == labels.bool())"),
)
ex.mistake(
    "compares sorted classes",
    "Row i's prediction belongs to row i's label: do not reorder.",
    edit=("(predicted == labels)", "(predicted.sort().values == labels.sort().values)"),
)
ex.mistake(
    "ten classes",
    "Nothing says that there are ten classes: compare the numbers themselves.",
    edit=("(predicted == labels)", "((predicted == labels) & (labels < 10))"),
)
ex.mistake(
    "writes into the predictions",
    "A method whose name ends in `_` changes the caller's tensor: compare with `==`.",
    edit=("(predicted == labels)", "predicted.eq_(labels)"),
)
ex.mistake(
    "all or nothing",
    "The share of right rows is asked for, not whether all of them are right.",
    edit=("(predicted == labels).float().mean().item()", "float((predicted == labels).all())"),
)


@ex.alternative("a loop")
def _(predicted, labels):
    right = 0
    for a, b in zip(predicted, labels, strict=True):
        right += int(a == b)
    return right / len(labels)


@ex.alternative("a tensor without dimensions")
def _(predicted, labels):
    return (predicted == labels).sum() / labels.numel()


@ex.alternative("one minus the errors, in float64")
def _(predicted, labels):
    return 1.0 - (predicted - labels).ne(0).double().mean()


# ----------------------------------------------------------------------------------------------
# squared_distances

ex = squared_distances = Exercise(
    "squared_distances",
    forbids=[
        *["cdist", "pdist", "pairwise_distance", "cosine_similarity", "PairwiseDistance"],
        *["numpy", "scipy", "tolist"],  # what the count of tensor operations does not see
        *["aten::_cdist_forward", "aten::_euclidean_dist", "aten::_pdist_forward"],
        *["aten::cosine_similarity"],
    ],
)


def distances_by_hand(x: Tensor, train: Tensor) -> Tensor:
    """The oracle, in float64."""
    return (x.double()[:, None] - train.double()).square().sum(dim=-1)


def cost(student: Any, x: Tensor, train: Tensor) -> dict[str, int]:
    """A probe: number of tensor operations, and numbers held by the largest result of one."""
    from torch.utils._python_dispatch import TorchDispatchMode

    class Watch(TorchDispatchMode):
        operations, largest = 0, 0

        def __torch_dispatch__(self, func, types, args=(), kwargs=None):
            result = func(*args, **(kwargs or {}))
            self.operations += 1
            for value in result if isinstance(result, tuple | list) else [result]:
                if isinstance(value, torch.Tensor):
                    held = value.untyped_storage().nbytes() // value.element_size()
                    self.largest = max(self.largest, held)
            return result

    with Watch() as watch:
        student.squared_distances(x, train)
    return {"operations": watch.operations, "largest": watch.largest}


@ex.check("values, M, N and D differ", points=1)
def _(student):
    for m, n, d in [(4, 7, 3), (1, 5, 9), (6, 1, 2), (3, 2, 1)]:
        x, train = 3 * torch.randn(m, d) + 1, 2 * torch.randn(n, d)
        got = student.squared_distances(x, train)
        want = distances_by_hand(x, train)
        expect(got, want, f"distances, M = {m}, N = {n}, D = {d}", rtol=1e-3, atol=1e-3)


@ex.check("float64", points=0.5)
def _(student):
    x, train = torch.randn(3, 4).double(), torch.randn(5, 4).double()
    want = distances_by_hand(x, train)
    expect(student.squared_distances(x, train), want, "distances", rtol=1e-9, atol=1e-9, dtype=True)
    got = student.squared_distances(x.float(), train.float())
    expect(got, want.float(), "distances of float32 rows", dtype=True, rtol=1e-3, atol=1e-3)


@ex.check("float32 features far from zero", points=1)
def _(student):
    offset = torch.tensor([1e4, -1e4, 0.0, 5e3, -7e3])
    x, train = torch.randn(6, 5) + offset, torch.randn(9, 5) + offset
    want = distances_by_hand(x, train)
    expect(student.squared_distances(x, train), want, "distances", rtol=1e-3, atol=1e-3)


@ex.check("no negative entry, zero for equal rows", points=0.5)
def _(student):
    train = torch.randn(60, 20)
    got = student.squared_distances(train, train)
    require(bool((got >= 0).all()), "an entry is negative", got=int((got < 0).any()))
    expect(got.diagonal(), torch.zeros(60), "distances of rows to themselves", atol=1e-3)
    expect(got, distances_by_hand(train, train), "distances", rtol=1e-3, atol=1e-3)
    x = torch.randn(60, 20)
    got, want = student.squared_distances(x, train), distances_by_hand(x, train)
    expect(got, want, "distances to as many other rows", rtol=1e-3, atol=1e-3)


@ex.check("few operations and no large intermediate tensor", points=1)
def _(student):
    # Pieces of MND fit into one of the first two, not into both; N^2 into none of the others.
    for m, n, d in [(60, 70, 55), (200, 190, 210), (3, 1000, 2), (1000, 3, 2), (3, 4, 500)]:
        x, train, sizes = torch.randn(m, d), torch.randn(n, d), f"M = {m}, N = {n}, D = {d}"
        got = student.run(cost, x, train)
        limit = 2 * (m * n + m * d + n * d)
        require(
            got["largest"] <= limit,
            f"for {sizes} a tensor holds more than 2 (MN + MD + ND) = {limit} numbers",
            got=got["largest"],
        )
        require(
            got["operations"] <= 50,
            f"for {sizes} it takes more than 50 tensor operations",
            got=got["operations"],
        )
        want = distances_by_hand(x, train)
        got = student.squared_distances(x, train)
        expect(got, want, f"distances, {sizes}", rtol=1e-3, atol=1e-3)


@ex.check("the arguments are not modified", points=0.5)
def _(student):
    x, train = torch.randn(4, 3), torch.randn(2, 3)
    for dtype in [torch.float32, torch.float64]:
        given = x.to(dtype), train.to(dtype)
        require(
            student.unchanged("squared_distances", *given),
            f"squared_distances changes its arguments ({dtype}): compute new tensors",
        )
    got = student.squared_distances(x, train)
    expect(got, distances_by_hand(x, train), "distances", rtol=1e-3, atol=1e-3)


ex.mistake(
    "the root is taken",
    "The squared distances are asked for.",
    edit=(".clamp(min=0)", ".clamp(min=0).sqrt()"),
)
ex.mistake(
    "the product is added",
    "(a - b)^2 = a^2 - 2ab + b^2: the mixed term is subtracted.",
    edit=("squares - 2 * x", "squares + 2 * x"),
)
ex.mistake(
    "the mixed term counts once",
    "(a - b)^2 = a^2 - 2ab + b^2: the mixed term has a factor 2.",
    edit=("squares - 2 * x", "squares - x"),
)
ex.mistake(
    "without the training rows' squares",
    "All three terms are needed: also the square of each training row.",
    edit=(" + train.square().sum(dim=1)", ""),
)
ex.mistake(
    "without the queries' squares",
    "All three terms are needed: also the square of each query.",
    edit=("x.square().sum(dim=1)[:, None] + ", ""),
)
ex.mistake(
    "transposed",
    "Rows belong to the queries and columns to the training rows: the shape is (M, N).",
    edit=(".clamp(min=0)", ".clamp(min=0).T"),
)
ex.mistake(
    "the mean over the features",
    "Distances sum over the features.",
    edit=(".clamp(min=0)", ".clamp(min=0) / x.shape[1]"),
)
ex.mistake(
    "cancellation far from zero",
    "Near 10^4 float32 squares have lost all that counts: subtract the same vector from all rows.",
    edit=[
        ("    centre = train.mean(dim=0)\n", ""),
        ("    x, train = x - centre, train - centre\n", ""),
    ],
)
ex.mistake(
    "one centre for all features",
    "Each feature has its own offset: take the mean over the rows, dim=0.",
    edit=("train.mean(dim=0)", "train.mean()"),
)
ex.mistake(
    "each side with its own centre",
    "Distances stay only if all points are moved by the same vector.",
    edit=("x - centre", "x - x.mean(dim=0)"),
)
ex.mistake(
    "negative distances",
    "Rounding can leave -1e-6 where 0 is right: clamp at 0.",
    edit=(".clamp(min=0)", ""),
)


@ex.mistake(
    "builds an (M, N, D) tensor", "Multiply the square out: the largest part is x @ train.T."
)
def _(x, train):
    return (x[:, None] - train).square().sum(dim=-1)


@ex.mistake(
    "an (M, N, D) tensor in twelve pieces",
    "A twelfth of M N D numbers still grows faster than the limit: multiply the square out.",
)
def _(x, train):
    return torch.cat([(part[:, None] - train).square_().sum(dim=2) for part in x.chunk(12)])


@ex.mistake("loops over the queries", "One matrix product does it for all rows at once.")
def _(x, train):
    return torch.stack([(row - train).square().sum(dim=1) for row in x])


@ex.mistake("loops over the features", "One matrix product sums over all features at once.")
def _(x, train):
    total = x.new_zeros(len(x), len(train))
    for a, b in zip(x.T, train.T, strict=True):
        total += (a[:, None] - b) ** 2
    return total


ex.mistake(
    "changes its arguments",
    "`-=` writes into the caller's tensor.",
    edit=("    x, train = x - centre, train - centre\n", "    x -= centre\n    train -= centre\n"),
)


@ex.mistake(
    "changes float64 arguments",
    "`x.double()` of a float64 tensor is that tensor itself: `-=` writes into the caller's.",
)
def _(x, train):
    a, b = x.double(), train.double()
    centre = b.mean(dim=0)
    a -= centre
    b -= centre
    squares = a.square().sum(dim=1)[:, None] + b.square().sum(dim=1)
    return (squares - 2 * a @ b.T).clamp(min=0).to(x.dtype)


@ex.mistake(
    "products of all rows with all rows",
    "Of (M + N)^2 products only M N are wanted: multiply the queries with the training rows alone.",
)
def _(x, train):
    both = torch.cat([x, train])
    both = both - both.mean(dim=0)
    products = both @ both.T
    squares = products.diagonal()
    return (squares[:, None] - 2 * products + squares).clamp(min=0)[: len(x), len(x) :]


ex.mistake(
    "squares from the diagonal of a product",
    "train @ train.T holds N^2 numbers for the sake of N: square and sum instead.",
    edit=("train.square().sum(dim=1)", "(train @ train.T).diagonal()"),
)
ex.mistake(
    "zeros on the diagonal",
    "Row i of the queries is not row i of the training rows, though there be as many.",
    edit=(
        "return (squares - 2 * x @ train.T).clamp(min=0)",
        "found = (squares - 2 * x @ train.T).clamp(min=0)\n"
        "    return found.fill_diagonal_(0) if len(x) == len(train) else found",
    ),
)


@ex.alternative("float64 inside")
def _(x, train):
    a, b = x.double(), train.double()
    squares = (a * a).sum(1, keepdim=True) - 2 * (a @ b.T) + (b * b).sum(1)
    return squares.clamp_min(0).to(x.dtype)


@ex.alternative("einsum, the first row as the origin")
def _(x, train):
    a, b = x - train[0], train - train[0]
    mixed = torch.einsum("md,nd->mn", a, b)
    squares = torch.einsum("md,md->m", a, a)[:, None] + torch.einsum("nd,nd->n", b, b)[None]
    return torch.relu(squares - 2 * mixed)


@ex.alternative("one product of longer rows")
def _(x, train):
    centre = train.mean(0)
    a, b = x - centre, train - centre
    left = torch.cat([a, a.square().sum(1, keepdim=True), torch.ones_like(a[:, :1])], dim=1)
    right = torch.cat([-2 * b, torch.ones_like(b[:, :1]), b.square().sum(1, keepdim=True)], dim=1)
    return torch.maximum(left @ right.T, torch.zeros((), dtype=x.dtype))


# ----------------------------------------------------------------------------------------------
# knn_predict

ex = knn_predict = Exercise("knn_predict")


def vote(distances: Tensor, labels: Tensor, k: int) -> list[int]:
    """The oracle, row by row."""
    winners = []
    for row in distances.tolist():
        nearest = sorted(range(len(row)), key=lambda j: (row[j], j))[:k]
        votes = [int(labels[j]) for j in nearest]
        winners.append(min(set(votes), key=lambda c: (-votes.count(c), c)))
    return winners


@ex.check("one neighbour", points=0.5)
def _(student):
    distances, labels = torch.rand(6, 9), classes(9, 5)
    expect(student.knn_predict(distances, labels, 1), vote(distances, labels, 1), "k = 1")
    distances = 1e-9 * torch.rand(8, 9)
    expect(student.knn_predict(distances, labels, 1), vote(distances, labels, 1), "tiny distances")
    expect(
        student.knn_predict(distances[:1, :1], torch.tensor([3]), 1), [3], "a single training row"
    )
    distances = torch.tensor([[1 + 1e-9, 1.0], [1.0, 1 + 1e-9]], dtype=torch.float64)
    got = student.knn_predict(distances, torch.tensor([1, 0]), 1)
    expect(got, [0, 1], "float64 distances that differ by 1e-9")
    got = student.knn_predict(torch.tensor([[1 + 2**-23, 1.0]]), torch.tensor([1, 0]), 1)
    expect(got, [0], "float32 distances that are neighbours")


@ex.check("several neighbours", points=1)
def _(student):
    distances, labels = torch.rand(40, 30), classes(30, 3)
    for k in [3, 7, 30]:
        expect(student.knn_predict(distances, labels, k), vote(distances, labels, k), f"k = {k}")
    distances, labels = torch.rand(25, 13).double(), 2 * classes(13, 4) + 1
    expect(student.knn_predict(distances, labels, 5), vote(distances, labels, 5), "odd labels")
    labels = torch.arange(30) // 6 * 1100
    distances = torch.rand(9, 30)
    expect(student.knn_predict(distances, labels, 7), vote(distances, labels, 7), "labels to 4400")
    labels = (torch.arange(300) >= 260).long()
    expect(student.knn_predict(torch.rand(1, 300), labels, 300), [0], "260 votes against 40")


@ex.check("equal votes: the smallest class", points=0.5)
def _(student):
    distances, labels = torch.rand(50, 12), torch.tensor([4, 1, 3, 0] * 3)
    for k in [2, 4, 6]:
        expect(student.knn_predict(distances, labels, k), vote(distances, labels, k), f"k = {k}")


@ex.check("equal distances: the smaller index", points=0.5)
def _(student):
    distances = torch.randint(0, 4, (30, 40)).float()
    labels = classes(40, 6)
    for k in [1, 3, 8]:
        expect(student.knn_predict(distances, labels, k), vote(distances, labels, k), f"k = {k}")


@ex.check("int64, and the arguments are not modified", points=0.5)
def _(student):
    distances, labels = torch.rand(5, 8), classes(8, 4)
    got = student.knn_predict(distances, labels, 3)
    expect(got, torch.tensor(vote(distances, labels, 3)), "classes", dtype=True)
    require(
        student.unchanged("knn_predict", distances, labels, 3), "knn_predict changes its arguments"
    )


ex.mistake(
    "the farthest rows vote",
    "Small distances are near: sort upwards.",
    edit=("(stable=True)", "(stable=True, descending=True)"),
)
ex.mistake(
    "always one neighbour",
    "The k nearest rows vote; 1 is only one possible k.",
    edit=("[:, :k]", "[:, :1]"),
)
ex.mistake(
    "leaves out the nearest",
    "The queries are not among the training rows here: the nearest row votes too.",
    edit=("[:, :k]", "[:, 1 : k + 1]"),
)
ex.mistake(
    "gives the row, not its class",
    "Indices of rows have to be turned into their labels.",
    edit=("labels[nearest]", "nearest"),
)
ex.mistake(
    "gives the number of votes",
    "argmax gives the class, max the number of its votes.",
    edit=("votes.argmax(dim=1)", "votes.amax(dim=1)"),
)
ex.mistake(
    "averages the classes",
    "Classes are names: a 2 and a 4 do not make a 3.",
    edit=(
        "votes = F.one_hot(labels[nearest]).sum(dim=1)  # (M, classes)\n"
        "    return votes.argmax(dim=1)",
        "return labels[nearest].float().mean(dim=1).round().long()",
    ),
)
ex.mistake(
    "takes the median class",
    "Classes are names; the most frequent one wins.",
    edit=(
        "votes = F.one_hot(labels[nearest]).sum(dim=1)  # (M, classes)\n"
        "    return votes.argmax(dim=1)",
        "return labels[nearest].median(dim=1).values",
    ),
)


@ex.mistake("equal votes: the nearer row's class", "The smallest class among the most voted wins.")
def _(distances, labels, k):
    nearest = labels[distances.argsort(stable=True)[:, :k]]
    counts = (nearest[:, :, None] == nearest[:, None]).sum(dim=2)  # votes for each one's class
    first = (counts == counts.amax(dim=1, keepdim=True)).int().argmax(dim=1)
    return nearest.gather(1, first[:, None])[:, 0]


ex.mistake(
    "equal votes: the largest class",
    "The smallest class among the most voted wins.",
    edit=("votes.argmax(dim=1)", "votes.shape[1] - 1 - votes.flip(1).argmax(dim=1)"),
)
ex.mistake(
    "equal distances: the larger index",
    "Of two equally far rows the one with the smaller index is nearer.",
    edit=(
        "distances.argsort(stable=True)",
        "(distances.shape[1] - 1 - distances.flip(1).argsort(stable=True))",
    ),
)


@ex.mistake("votes weighed by distance", "Every one of the k rows has one vote, however far it is.")
def _(distances, labels, k):
    nearest = distances.argsort(stable=True)[:, :k]
    weights = 1 / (distances.gather(1, nearest) + 1e-3)
    votes = (F.one_hot(labels[nearest]) * weights[..., None]).sum(dim=1)
    return votes.argmax(dim=1)


@ex.mistake(
    "all rows at the k-th distance vote",
    "Exactly k rows vote: of equally far rows only those with the smaller indices.",
)
def _(distances, labels, k):
    limit = distances.sort(dim=1).values[:, k - 1 : k]
    votes = (F.one_hot(labels) * (distances <= limit)[..., None]).sum(dim=1)
    return votes.argmax(dim=1)


ex.mistake(
    "distances that differ a little count as equal",
    "Rounding loses small differences, and so does adding a little: a stable sort alone keeps "
    "equal distances in order.",
    edit=(
        "distances.argsort(stable=True)",
        "(distances + 1e-7 * torch.arange(distances.shape[1])).argsort(stable=True)",
    ),
)
ex.mistake(
    "the roots of the distances",
    "The root makes equal what differs in the last digit: compare the distances as they are.",
    edit=("distances.argsort", "distances.sqrt().argsort"),
)
ex.mistake(
    "votes counted in bytes",
    "uint8 ends at 255: count in int64.",
    edit=("votes.argmax(dim=1)", "votes.byte().argmax(dim=1)"),
)
ex.mistake(
    "distances rounded to float32",
    "float64 distances may differ by less than float32 can hold: compare them as they are.",
    edit=("distances.argsort", "distances.float().argsort"),
)
ex.mistake(
    "ten classes",
    "Nothing says that there are ten classes: the largest label decides.",
    edit=("F.one_hot(labels[nearest])", "F.one_hot(labels[nearest] % 10, 10)"),
)
ex.mistake(
    "int32",
    "Class numbers are int64.",
    edit=("votes.argmax(dim=1)", "votes.argmax(dim=1).int()"),
)
ex.mistake(
    "sorts in place",
    "The caller's distances stay as they are: sort a copy.",
    edit=(
        "nearest = distances.argsort(stable=True)[:, :k]",
        "nearest = distances.argsort(stable=True)[:, :k]\n"
        "    distances.copy_(distances.sort(dim=1).values)",
    ),
)


@ex.alternative("row by row in Python")
def _(distances, labels, k):
    winners = []
    for row in distances:
        order = sorted(range(len(row)), key=lambda j: float(row[j]))[:k]
        counts: dict[int, int] = {}
        for j in order:
            label = int(labels[j])
            counts[label] = counts.get(label, 0) + 1
        winners.append(min(counts, key=lambda label: (-counts[label], label)))
    return torch.tensor(winners)


@ex.alternative("scatter of votes")
def _(distances, labels, k):
    nearest = labels[distances.sort(dim=1, stable=True).indices[:, :k]]
    votes = torch.zeros(len(distances), int(labels.max()) + 1)
    votes.scatter_add_(1, nearest, torch.ones(nearest.shape))
    return votes.argmax(1)


@ex.alternative("bincount of each row")
def _(distances, labels, k):
    order = torch.sort(distances, stable=True)[1].narrow(1, 0, k)
    return torch.stack([labels[row].bincount().argmax() for row in order])


# ----------------------------------------------------------------------------------------------
# cross_validation

ex = cross_validation = Exercise(
    "cross_validation", defines=["k_fold", "cross_validate"], forbids=["sklearn"]
)


def folds_by_hand(order: list[int], folds: int) -> list[list[list[int]]]:
    """The oracle: [train, valid] of each fold."""
    short, longer = divmod(len(order), folds)
    found, start = [], 0
    for i in range(folds):
        end = start + short + (i < longer)
        found.append([order[:start] + order[end:], order[start:end]])
        start = end
    return found


def lists(splits: Any) -> list[list[list[int]]]:
    return [[torch.as_tensor(part).tolist() for part in split] for split in splits]


@ex.check("folds of equal size", points=0.5)
def _(student):
    order = torch.randperm(12)
    for folds in [2, 3, 12]:
        got = lists(student.k_fold(order, folds))
        expect(got, folds_by_hand(order.tolist(), folds), f"12 rows, {folds} folds")


@ex.check("a number of rows that does not divide", points=1)
def _(student):
    for rows, folds in [(11, 4), (7, 5), (5, 2)]:
        order = 3 * torch.randperm(rows) + 2
        got = lists(student.k_fold(order, folds))
        expect(got, folds_by_hand(order.tolist(), folds), f"{rows} rows, {folds} folds")
    order = torch.randperm(9)
    require(student.unchanged("k_fold", order, 4), "k_fold changes its argument")
    parts = [torch.as_tensor(part) for split in student.k_fold(order, 4) for part in split]
    kinds = sorted({str(part.dtype) for part in parts})
    require(kinds == ["torch.int64"], f"the row numbers are {', '.join(kinds)}", got=kinds)


def quarters(train: Tensor, valid: Tensor, candidate: float) -> float:
    """A score that depends on all three arguments; a multiple of ¼ that floats hold exactly."""
    return (int(train[-1]) + 3 * int(valid[0]) + candidate * len(valid)) / 4


SPLITS = [
    (torch.tensor(train), torch.tensor(valid))
    for train, valid in [([4, 1, 7], [2, 5]), ([2, 5, 7], [9]), ([1, 3], [0, 8, 6])]
]


@ex.check("means and standard errors", points=1)
def _(student):
    candidates = [5.0, -2.0, 3.0, 0.5]
    scores = torch.tensor([[quarters(*split, c) for split in SPLITS] for c in candidates]).double()
    for some in [scores, scores[:, :2]]:
        number = some.shape[1]
        _, means, errors = student.cross_validate(quarters, SPLITS[:number], candidates)
        expect(means, some.mean(1), f"means over {number} splits")
        expect(errors, some.std(1) / math.sqrt(number), f"standard errors over {number} splits")
    _, means, errors = student.cross_validate(large, SPLITS, [4, -8])
    expect(means, [1001.25, 998.25], "means of scores near 1000")
    expect(errors, [0.25 / math.sqrt(3)] * 2, "standard errors of scores near 1000")
    _, means, errors = student.cross_validate(whole, SPLITS[:2], [3, 1])
    expect(means, [4.5, 1.5], "means of scores that are ints")
    expect(errors, [1.5, 0.5], "standard errors of scores that are ints")
    want = [[candidate, len(valid)] for candidate in candidates for _, valid in SPLITS]
    scored = student.run(pairs_scored, SPLITS, candidates)
    expect(scored, sorted(want), "the pairs (candidate, rows held out) that are scored")


@ex.check("the best candidate", points=0.5)
def _(student):
    for candidates in [[3, 9, 4], [1, 2, 6, 0], [8, 1], [7]]:
        best, _, _ = student.cross_validate(quarters, SPLITS, candidates)
        expect(best, max(candidates), f"best of {candidates}")
    best, _, _ = student.cross_validate(lucky, SPLITS, [9, 2])
    expect(best, 2, "best where another candidate has the best single fold")
    best, means, _ = student.cross_validate(whole, SPLITS, [2, 4, 3])
    expect(best, 4, "best of [2, 4, 3], scores that are ints")
    expect(means, [4, 8, 6], "means of scores that are ints")
    best, means, _ = student.cross_validate(negative, SPLITS, [4, 1, 2])
    expect(best, 1, "best of [4, 1, 2], scores that are all negative")
    expect(means, [-1, -0.25, -0.5], "means of scores that are all negative")
    best, means, _ = student.cross_validate(far_below, SPLITS, [4, 1, 2])
    expect(best, 1, "best of [4, 1, 2], scores far below 0")
    expect(means, [-4e10, -1e10, -2e10], "means of scores far below 0")
    best, _, _ = student.cross_validate(middle, SPLITS, [0.1, 0.34567, 0.7])
    expect(best, 0.34567, "best of [0.1, 0.34567, 0.7], not rounded", rtol=1e-12, atol=0)


@ex.check("equal means: the first candidate", points=0.5)
def _(student):
    for candidates in [[4, 2, 3], [2, 5, 3, 4]]:
        best, means, _ = student.cross_validate(constant, SPLITS, candidates)
        expect(best, candidates[0], f"equal means, {candidates}")
        expect(means, [0.75] * len(candidates), f"means of {candidates}")
    best, means, _ = student.cross_validate(capped, SPLITS, [1, 6, 2, 5, 9])
    expect(best, 6, "three equal means, not at the beginning")
    best, means, _ = student.cross_validate(spread, SPLITS, [2, 0, 1])
    expect(best, 2, "equal means, unequal spreads")
    expect(means, [1.5, 1.5, 1.5], "means of unequal spreads")


def large(train: Tensor, valid: Tensor, candidate: float) -> float:
    """1000, 1000.25 and 1000.5 on the three splits, and a quarter of the candidate."""
    return 1000 + (len(valid) - 1 + candidate) / 4


def negative(train: Tensor, valid: Tensor, candidate: float) -> float:
    return -candidate / 4


def far_below(train: Tensor, valid: Tensor, candidate: float) -> float:
    return -1e10 * candidate


def pairs_scored(student: Any, splits: Any, candidates: Any) -> list[list[float]]:
    """A probe: candidate and number of rows held out of every call of the score, sorted."""
    seen = []

    def score(train: Tensor, valid: Tensor, candidate: float) -> float:
        seen.append([float(candidate), len(valid)])
        return float(candidate)

    student.cross_validate(score, splits, candidates)
    return sorted(seen)


def middle(train: Tensor, valid: Tensor, candidate: float) -> float:
    return 0.75 if 0.2 < candidate < 0.5 else 0.25


def whole(train: Tensor, valid: Tensor, candidate: float) -> float:
    return int(candidate) * len(valid)


def lucky(train: Tensor, valid: Tensor, candidate: float) -> float:
    """A large candidate is good on one fold and bad on the others."""
    return 1.5 if candidate < 5 else 3.0 if len(valid) == 3 else 0.25


def constant(train: Tensor, valid: Tensor, candidate: float) -> float:
    return 0.75


def capped(train: Tensor, valid: Tensor, candidate: float) -> float:
    return min(candidate, 5) / 4


def spread(train: Tensor, valid: Tensor, candidate: float) -> float:
    """Mean 1.5 for every candidate; only the spread grows with it."""
    return 1.5 + candidate * {2: -1, 1: 1, 3: 0}[len(valid)] / 4


ex.mistake(
    "train and valid exchanged",
    "Each pair is (train, valid): the block that is left out comes second.",
    edit=(
        "(torch.cat(blocks[:i] + blocks[i + 1 :]), block)",
        "(block, torch.cat(blocks[:i] + blocks[i + 1 :]))",
    ),
)
ex.mistake(
    "trains on the validation rows too",
    "A fold's rows are left out of its training rows.",
    edit=("torch.cat(blocks[:i] + blocks[i + 1 :])", "order"),
)
ex.mistake(
    "the last block takes the rest",
    "Sizes differ by one at most: the first n mod F blocks are one longer.",
    edit=(
        "order.tensor_split(folds)",
        "order.tensor_split([len(order) // folds * i for i in range(1, folds)])",
    ),
)
ex.mistake(
    "blocks of the size rounded up",
    "Sizes differ by one at most: the first n mod F blocks are one longer.",
    edit=("order.tensor_split(folds)", "order.split(-(-len(order) // folds))"),
)
ex.mistake(
    "the remainder is dropped",
    "Every row is held out once, the last few too.",
    edit=("order.tensor_split(folds)", "order.split(len(order) // folds)[:folds]"),
)
ex.mistake(
    "the last blocks are longer",
    "The first n mod F blocks are one longer, not the last.",
    edit=(
        "order.tensor_split(folds)",
        "tuple(b.flip(0) for b in reversed(order.flip(0).tensor_split(folds)))",
    ),
)
ex.mistake(
    "every F-th row",
    "Blocks are consecutive pieces of `order`.",
    edit=("order.tensor_split(folds)", "tuple(order[i::folds] for i in range(folds))"),
)
ex.mistake(
    "positions, not row numbers",
    "The pairs hold entries of `order`, not positions in it.",
    edit=("order.tensor_split(folds)", "torch.arange(len(order)).tensor_split(folds)"),
)
ex.mistake(
    "sorted training rows",
    "Within both parts the order is that of `order`.",
    edit=(
        "torch.cat(blocks[:i] + blocks[i + 1 :])",
        "torch.cat(blocks[:i] + blocks[i + 1 :]).sort()[0]",
    ),
)
ex.mistake(
    "the deviation, not the standard error",
    "The standard error of a mean is the deviation over the square root of F.",
    edit=(" / math.sqrt(len(splits))", ""),
)
ex.mistake(
    "the deviation over F",
    "Divide the deviation by the square root of F.",
    edit=("math.sqrt(len(splits))", "len(splits)"),
)
ex.mistake(
    "biased deviation",
    "By the formula stated the sum of squares is divided by F - 1.",
    edit=("scores.std(dim=1)", "scores.std(dim=1, correction=0)"),
)
ex.mistake(
    "the variance for the deviation",
    "Take the root of the variance.",
    edit=("scores.std(dim=1)", "scores.var(dim=1)"),
)
ex.mistake(
    "mean of squares minus squared mean",
    "Near 1000 the squares need more digits than float32 has: subtract the mean first.",
    edit=(
        "scores.std(dim=1)",
        "((scores.square().mean(dim=1) - means.square()) * len(splits) / (len(splits) - 1))"
        ".clamp(min=0).sqrt()",
    ),
)
ex.mistake(
    "no negative mean can win",
    "Scores may all be negative: begin with the first candidate's mean, not with 0.",
    edit=("means.argmax()", "means.clamp(min=0).argmax()"),
)
ex.mistake(
    "no mean below -1000 can win",
    "Scores have no lower limit: begin with the first candidate's mean.",
    edit=("means.argmax()", "means.clamp(min=-1000).argmax()"),
)
ex.mistake(
    "scores every pair twice",
    "Each score may cost a training: keep the scores, mean and deviation need the same.",
    edit=(
        "errors = scores.std(dim=1)",
        "again = [[float(score(*split, c)) for split in splits] for c in candidates]\n"
        "    errors = torch.tensor(again).std(dim=1)",
    ),
)
ex.mistake(
    "int32 row numbers",
    "Row numbers are int64, as those in `order` are.",
    edit=("order.tensor_split(folds)", "order.int().tensor_split(folds)"),
)
ex.mistake(
    "the candidate rounded to float32",
    "The candidate itself is asked for: a float32 tensor makes 0.10000000149 of 0.1.",
    edit=(
        "candidates[int(means.argmax())]",
        "torch.tensor(candidates, dtype=torch.float32)[means.argmax()].item()",
    ),
)
ex.mistake(
    "the position of the best candidate",
    "The candidate itself is asked for.",
    edit=("candidates[int(means.argmax())]", "int(means.argmax())"),
)
ex.mistake(
    "the worst candidate",
    "Scores are larger for better candidates.",
    edit=("means.argmax()", "means.argmin()"),
)
ex.mistake(
    "the candidate with the best single score",
    "The mean over all folds decides, not the luckiest fold.",
    edit=("means.argmax()", "scores.amax(dim=1).argmax()"),
)
ex.mistake(
    "the candidate that is surely good",
    "The largest mean decides; its standard error is for the reader.",
    edit=("means.argmax()", "(means - errors).argmax()"),
)
ex.mistake(
    "the median over the folds",
    "The mean of the scores decides.",
    edit=("scores.mean(dim=1)", "scores.median(dim=1).values"),
)
ex.mistake(
    "equal means: the last candidate",
    "Of several candidates with the largest mean the first one counts.",
    edit=("int(means.argmax())", "len(means) - 1 - int(means.flip(0).argmax())"),
)
ex.mistake(
    "equal means: the smallest candidate",
    "Of several candidates with the largest mean the first in `candidates` counts.",
    edit=(
        "candidates[int(means.argmax())]",
        "min(c for c, m in zip(candidates, means, strict=True) if m == means.max())",
    ),
)


@ex.alternative("sizes by divmod", replaces="k_fold")
def _(order, folds):
    short, longer = divmod(len(order), folds)
    result, start = [], 0
    for i in range(folds):
        size = short + 1 if i < longer else short
        held = torch.zeros(len(order), dtype=torch.bool)
        held[start : start + size] = True
        result.append([order[~held], order[held]])
        start += size
    return result


@ex.alternative("array_split by numpy", replaces="k_fold")
def _(order, folds):
    import numpy as np

    blocks = np.array_split(order.numpy(), folds)
    pairs = []
    for i in range(folds):
        rest = np.concatenate([block for j, block in enumerate(blocks) if j != i])
        pairs.append((torch.from_numpy(rest), torch.from_numpy(blocks[i].copy())))
    return tuple(pairs)


@ex.alternative("plain Python", replaces="cross_validate")
def _(score, splits, candidates):
    best, means, errors = None, [], []
    for candidate in candidates:
        scores = [score(train, valid, candidate) for train, valid in splits]
        mean = sum(scores) / len(scores)
        variance = sum((s - mean) ** 2 for s in scores) / (len(scores) - 1)
        if best is None or mean > max(means):
            best = candidate
        means.append(mean)
        errors.append((variance / len(scores)) ** 0.5)
    return best, means, errors


# ----------------------------------------------------------------------------------------------
# confusion_matrix

ex = confusion_matrix = Exercise("confusion_matrix", forbids=["sklearn"])


def count_pairs(labels: Tensor, predicted: Tensor, number: int) -> Tensor:
    """The oracle, one row at a time."""
    counts = torch.zeros(number, number, dtype=torch.int64)
    for i, j in zip(labels.tolist(), predicted.tolist(), strict=True):
        counts[i, j] += 1
    return counts


@ex.check("counts of several classes", points=1)
def _(student):
    for rows, number in [(50, 4), (30, 7)]:
        labels, predicted = classes(rows, number), classes(rows, number)
        want = count_pairs(labels, predicted, number)
        expect(student.confusion_matrix(labels, predicted, number), want, f"{number} classes")
    labels = torch.cat([torch.arange(20), classes(40, 20)])
    predicted = labels.clone()
    predicted[20:] = classes(40, 20)
    want = count_pairs(labels, predicted, 20)
    expect(student.confusion_matrix(labels, predicted, 20), want, "20 classes")
    same = torch.ones(3001, dtype=torch.int64)
    got = student.confusion_matrix(same, 0 * same, 2)
    expect(got, [[0, 0], [3001, 0]], "3001 equal rows")
    calls = [(classes(9, 3), classes(9, 3), 3) for _ in range(2)]
    got = student.run(probes.calls, "confusion_matrix", *calls)
    expect(got[0], count_pairs(*calls[0]), "a table, looked at after the next call")


@ex.check("classes that do not occur", points=0.5)
def _(student):
    labels, predicted = classes(20, 3) + 1, classes(20, 2) + 2
    want = count_pairs(labels, predicted, 7)
    expect(student.confusion_matrix(labels, predicted, 7), want, "classes 1 to 3 of 7")


@ex.check("a single row, and int64", points=0.5)
def _(student):
    labels, predicted = torch.tensor([2]), torch.tensor([0])
    got = student.confusion_matrix(labels, predicted, 3)
    expect(got, count_pairs(labels, predicted, 3), "one row", dtype=True)
    zeros = torch.zeros(3, dtype=torch.int64)
    got = student.confusion_matrix(zeros, zeros, 1)
    expect(got, torch.tensor([[3]]), "a single class", dtype=True)
    given = {"labels": classes(9, 3), "predicted": classes(9, 3), "num_classes": 3}
    expect_unchanged(student, "confusion_matrix", **given)


ex.mistake(
    "transposed",
    "Rows are the true classes, columns the predicted ones.",
    edit=("num_classes * labels + predicted", "num_classes * predicted + labels"),
)


@ex.mistake(
    "pairs that repeat count once",
    "`C[labels, predicted] += 1` reads before it writes: use bincount, index_put_ with accumulate "
    "or a loop.",
)
def _(labels, predicted, num_classes):
    counts = torch.zeros(num_classes, num_classes, dtype=torch.int64)
    counts[labels, predicted] += 1
    return counts


@ex.mistake(
    "only the classes that occur", "Classes that do not occur have rows and columns of zeros."
)
def _(labels, predicted, num_classes):
    number = int(torch.maximum(labels, predicted).max()) + 1
    pairs = number * labels + predicted
    return pairs.bincount(minlength=number**2).reshape(number, number)


ex.mistake(
    "shares, not counts",
    "The entries are counts.",
    edit=("(num_classes, num_classes)", "(num_classes, num_classes) / len(labels)"),
)


@ex.mistake("ten classes", "The number of classes is an argument: K may be above ten.")
def _(labels, predicted, num_classes):
    table = torch.histc((labels * 10 + predicted).float(), 100, 0, 100).reshape(10, 10)
    return table[:num_classes, :num_classes].long()


ex.mistake(
    "counts in bytes",
    "uint8 ends at 255: count in int64 from the start.",
    edit=(".reshape(num_classes, num_classes)", ".byte().long().reshape(num_classes, num_classes)"),
)


ex.mistake(
    "the table of a single class squeezed",
    "One class has a (1, 1) table: do not squeeze.",
    edit=("(num_classes, num_classes)", "(num_classes, num_classes).squeeze()"),
)
ex.mistake(
    "the same table at every call",
    "The next call overwrites the table that the last one returned: make a new one.",
    edit=[
        ("def confusion_matrix(", "TABLES: dict[int, Tensor] = {}\n\n\ndef confusion_matrix("),
        ("    return pairs", "    new = pairs"),
        (
            "(num_classes, num_classes)",
            "(num_classes, num_classes)\n    return TABLES.setdefault(num_classes, new).copy_(new)",
        ),
    ],
)


@ex.mistake("shares of each true class", "The entries are counts: do not divide the rows.")
def _(labels, predicted, num_classes):
    counts = torch.zeros(num_classes, num_classes)
    for i, j in zip(labels, predicted, strict=True):
        counts[i, j] += 1
    return counts / counts.sum(dim=1, keepdim=True).clamp(min=1)


ex.mistake(
    "errors only",
    "Right predictions stand on the diagonal.",
    edit=(
        "pairs = num_classes * labels + predicted",
        "pairs = (num_classes * labels + predicted)[labels != predicted]",
    ),
)
ex.mistake(
    "right ones only",
    "Errors count too: off the diagonal.",
    edit=(
        "pairs = num_classes * labels + predicted",
        "pairs = (num_classes * labels + predicted)[labels == predicted]",
    ),
)
ex.mistake(
    "float counts",
    "Counts are whole numbers: int64.",
    edit=("(num_classes, num_classes)", "(num_classes, num_classes).float()"),
)


@ex.alternative("a loop")
def _(labels, predicted, num_classes):
    counts = torch.zeros(num_classes, num_classes, dtype=torch.long)
    for i, j in zip(labels, predicted, strict=True):
        counts[i, j] += 1
    return counts


@ex.alternative("product of one-hot matrices")
def _(labels, predicted, num_classes):
    return F.one_hot(labels, num_classes).T @ F.one_hot(predicted, num_classes)


@ex.alternative("index_put with accumulate")
def _(labels, predicted, num_classes):
    counts = torch.zeros(num_classes, num_classes, dtype=torch.int64)
    return counts.index_put_((labels, predicted), torch.ones_like(labels), accumulate=True)


# ----------------------------------------------------------------------------------------------
# precision_recall_f1

ex = precision_recall_f1_ = Exercise(
    "precision_recall_f1",
    defines=["precision_recall_f1", "macro_f1"],
    forbids=["sklearn"],
)


def measures(counts: Tensor) -> list[list[float]]:
    """The oracle: precision, recall and F1 of each class, from TP, FP and FN."""
    table, found = counts.tolist(), []
    for c in range(len(table)):
        tp = table[c][c]
        fp = sum(row[c] for row in table) - tp
        fn = sum(table[c]) - tp
        ratios = [(tp, tp + fp), (tp, tp + fn), (2 * tp, 2 * tp + fp + fn)]
        found.append([a / b if b else 0.0 for a, b in ratios])
    return [list(column) for column in zip(*found, strict=True)]


def expect_measures(student: Any, counts: Tensor, what: str) -> None:
    got = student.precision_recall_f1(counts)
    for name, value, want in zip(["precision", "recall", "F1"], got, measures(counts), strict=True):
        expect(value, want, f"{name}, {what}")


@ex.check("precision, recall and F1 of each class", points=1)
def _(student):
    for number in [3, 5]:
        counts = torch.randint(0, 20, (number, number)) + torch.eye(number, dtype=torch.int64)
        expect_measures(student, counts, f"{number} classes")
    counts = torch.tensor([[40_000, 20_000], [10_000, 30_000]])
    expect_measures(student, counts, "counts of some ten thousand")


@ex.check("classes that are absent or never predicted", points=1)
def _(student):
    counts = torch.tensor([[5, 0, 2, 0], [3, 0, 1, 0], [1, 0, 4, 0], [0, 0, 0, 0]])
    expect_measures(student, counts, "class 1 is never predicted, class 3 is absent")
    expect_measures(student, counts.T.contiguous(), "class 1 does not occur, class 3 is absent")


@ex.check("small counts", points=0.5)
def _(student):
    expect_measures(student, torch.tensor([[0, 1], [1, 0]]), "all wrong")
    expect_measures(student, torch.tensor([[1, 0], [0, 1]]), "all right")
    expect_measures(student, torch.tensor([[1, 0, 1], [0, 0, 0], [0, 1, 0]]), "three rows")
    require(
        student.unchanged("precision_recall_f1", torch.tensor([[2, 1], [0, 3]])),
        "precision_recall_f1 changes its argument",
    )


@ex.check("macro F1", points=1)
def _(student):
    for number in [2, 5]:
        counts = torch.randint(0, 20, (number, number))
        counts[0] *= 5
        want = sum(measures(counts)[2]) / number
        expect(student.macro_f1(counts), want, f"macro F1 of {number} classes")
    counts = torch.tensor([[5, 0, 2, 0], [3, 0, 1, 0], [1, 0, 4, 0], [0, 0, 0, 0]])
    expect(student.macro_f1(counts), sum(measures(counts)[2]) / 4, "macro F1, absent classes")
    counts = torch.tensor([[3, 1], [0, 0]])
    got = student.macro_f1(counts)
    expect(got, sum(measures(counts)[2]) / 2, "macro F1, a class that is predicted but absent")
    counts = torch.tensor([[3, 0, 1], [0, 0, 0], [2, 0, 4]])
    got = student.macro_f1(counts)
    expect(got, sum(measures(counts)[2]) / 3, "macro F1, the middle one of three classes is absent")
    require(student.unchanged("macro_f1", counts), "macro_f1 changes its argument")


ex.mistake(
    "precision and recall exchanged",
    "Columns hold what was predicted: precision divides by the sum of a column.",
    edit=("hits / predicted, hits / actual", "hits / actual, hits / predicted"),
)
ex.mistake(
    "0 / 0 is NaN",
    "A class without predictions has precision 0 by the convention stated.",
    edit=(
        "precision.nan_to_num(), recall.nan_to_num(), f1.nan_to_num()",
        "precision, recall, f1",
    ),
)
ex.mistake(
    "F1 from precision and recall is NaN",
    "Where precision and recall are both 0, F1 is 0 by the convention stated.",
    edit=[
        ("2 * hits / (predicted + actual)", "2 * precision * recall / (precision + recall)"),
        ("f1.nan_to_num()", "f1"),
    ],
)
ex.mistake(
    "absent classes get 1",
    "Where a denominator is 0, the value is 0.",
    edit=(
        "precision.nan_to_num(), recall.nan_to_num(), f1.nan_to_num()",
        "precision.nan_to_num(1), recall.nan_to_num(1), f1.nan_to_num(1)",
    ),
)
ex.mistake(
    "F1 as the arithmetic mean",
    "F1 is the harmonic mean: 2PR / (P + R).",
    edit=(
        "2 * hits / (predicted + actual)",
        "(precision.nan_to_num() + recall.nan_to_num()) / 2",
    ),
)
ex.mistake(
    "F1 without the 2",
    "2 TP stands above: a perfect class has F1 = 1.",
    edit=("f1 = 2 * hits", "f1 = hits"),
)
ex.mistake(
    "F1 as the geometric mean",
    "F1 is the harmonic mean: 2PR / (P + R).",
    edit=("2 * hits / (predicted + actual)", "hits / (predicted * actual).sqrt()"),
)
ex.mistake(
    "right rows of the other classes count",
    "TP of a class are its own right rows only, its entry on the diagonal.",
    edit=("hits = confusion.diagonal().float()", "hits = confusion.diagonal().sum().float()"),
)
ex.mistake(
    "divides by the errors alone",
    "Precision is TP / (TP + FP): the right ones stand below, too.",
    edit=(
        "predicted, actual = confusion.sum(dim=0), confusion.sum(dim=1)",
        "predicted, actual = confusion.sum(dim=0) - hits, confusion.sum(dim=1) - hits",
    ),
)
ex.mistake(
    "a small number below",
    "Adding 1 to every denominator changes all values: only a denominator of 0 is special.",
    edit=[
        ("(predicted + actual)", "(predicted + actual + 1)"),
        ("hits / predicted, hits / actual", "hits / (predicted + 1), hits / (actual + 1)"),
    ],
)
ex.mistake(
    "macro F1 of mean precision and recall",
    "By the convention stated it is the mean of the classes' F1.",
    edit=(
        "return precision_recall_f1(confusion)[2].mean().item()",
        "p, r, _ = (v.mean().item() for v in precision_recall_f1(confusion))\n"
        "    return 2 * p * r / (p + r)",
    ),
)
ex.mistake(
    "macro F1 leaves out classes",
    "All K classes count, those with F1 = 0 too.",
    edit=(
        "return precision_recall_f1(confusion)[2].mean().item()",
        "f1 = precision_recall_f1(confusion)[2]\n    return f1[f1 > 0].mean().item()",
    ),
)
ex.mistake(
    "macro F1 leaves out absent classes",
    "All K classes count, also those that do not occur.",
    edit=(
        "return precision_recall_f1(confusion)[2].mean().item()",
        "f1 = precision_recall_f1(confusion)[2]\n"
        "    return f1[confusion.sum(dim=1) > 0].mean().item()",
    ),
)
ex.mistake(
    "macro F1 leaves out classes that are only predicted",
    "All K classes count, also those that are predicted and do not occur.",
    edit=(
        "return precision_recall_f1(confusion)[2].mean().item()",
        "f1 = precision_recall_f1(confusion)[2]\n"
        "    return f1[(confusion.sum(dim=1) > 0) | (confusion.sum(dim=0) == 0)].mean().item()",
    ),
)
ex.mistake(
    "macro F1 is NaN",
    "A class that neither occurs nor is predicted counts with F1 = 0.",
    edit=(
        "return precision_recall_f1(confusion)[2].mean().item()",
        "both = confusion.sum(dim=0) + confusion.sum(dim=1)\n"
        "    return (2 * confusion.diagonal() / both).mean().item()",
    ),
)
ex.mistake(
    "macro F1 weighed by the rows",
    "Each class counts once, however many rows it has.",
    edit=(
        "return precision_recall_f1(confusion)[2].mean().item()",
        "share = confusion.sum(dim=1) / confusion.sum()\n"
        "    return (share * precision_recall_f1(confusion)[2]).sum().item()",
    ),
)
ex.mistake(
    "accuracy for macro F1",
    "The right rows over all rows are the accuracy, in which rare classes drown.",
    edit=(
        "return precision_recall_f1(confusion)[2].mean().item()",
        "return (confusion.diagonal().sum() / confusion.sum()).item()",
    ),
)


@ex.alternative("class by class")
def _(confusion):
    rows: list[list[float]] = [[], [], []]
    for c in range(len(confusion)):
        tp = int(confusion[c, c])
        fp, fn = int(confusion[:, c].sum()) - tp, int(confusion[c].sum()) - tp
        p = tp / (tp + fp) if tp + fp else 0.0
        r = tp / (tp + fn) if tp + fn else 0.0
        for row, value in zip(rows, [p, r, 2 * p * r / (p + r) if p + r else 0.0], strict=True):
            row.append(value)
    return [torch.tensor(row) for row in rows]


@ex.alternative("nan_to_num, in float64")
def _(confusion):
    counts = confusion.double()
    tp, columns, rows = counts.diag(), counts.sum(0), counts.sum(1)
    p, r = (tp / columns).nan_to_num(0), (tp / rows).nan_to_num(0)
    return p, r, (2 * p * r / (p + r)).nan_to_num(0)


@ex.alternative("macro F1 as a tensor", replaces="macro_f1")
def _(confusion):
    _, _, f1 = precision_recall_f1(confusion)
    return f1.sum() / len(confusion)


# ----------------------------------------------------------------------------------------------
# top_k_accuracy

ex = top_k_accuracy = Exercise("top_k_accuracy", forbids=["sklearn"])


def top_k(scores: Tensor, labels: Tensor, k: int) -> float:
    """The oracle, row by row."""
    right = 0
    for row, label in zip(scores.tolist(), labels.tolist(), strict=True):
        rivals = sum(s >= row[label] for c, s in enumerate(row) if c != label)
        right += rivals < k
    return right / len(labels)


@ex.check("without ties", points=1)
def _(student):
    scores, labels = torch.randn(30, 7), classes(30, 7)
    for k in [1, 2, 5]:
        expect(student.top_k_accuracy(scores, labels, k), top_k(scores, labels, k), f"k = {k}")


@ex.check("ties count against the class", points=1)
def _(student):
    scores, labels = torch.randint(0, 4, (60, 6)).float(), classes(60, 6)
    for k in [1, 3, 5]:
        expect(student.top_k_accuracy(scores, labels, k), top_k(scores, labels, k), f"k = {k}")
    for k in [1, 5]:
        got = student.top_k_accuracy(torch.zeros(8, 6), classes(8, 6), k)
        expect(got, 0.0, f"equal scores everywhere, k = {k}")


@ex.check("k = K, a batch of one, scores that nearly tie", points=0.5)
def _(student):
    scores, labels = torch.randint(-3, 0, (5, 4)).double(), classes(5, 4)
    expect(student.top_k_accuracy(scores, labels, 4), 1.0, "k = K")
    expect(student.top_k_accuracy(scores[:1].zero_(), labels[:1], 4), 1.0, "k = K, one row of ties")
    expect(
        student.top_k_accuracy(torch.tensor([[1.0, 3.0, 2.0]]), torch.tensor([2]), 1), 0, "k = 1"
    )
    expect(
        student.top_k_accuracy(torch.tensor([[1.0, 3.0, 2.0]]), torch.tensor([2]), 2), 1, "k = 2"
    )
    tiny = torch.tensor([[1e-7, 3e-7, 1.0]])
    expect(student.top_k_accuracy(tiny, torch.tensor([1]), 2), 1, "1e-7 against 3e-7")
    near = torch.tensor([[1.0, 1 + 1e-9]], dtype=torch.float64)
    expect(student.top_k_accuracy(near, torch.tensor([1]), 1), 1, "float64, 1 against 1 + 1e-9")
    tiny = torch.tensor([[1e-10, 3e-10]])
    expect(student.top_k_accuracy(tiny, torch.tensor([1]), 1), 1, "1e-10 against 3e-10")
    far = torch.tensor([[0.0, -200.0, -300.0]])
    expect(student.top_k_accuracy(far, torch.tensor([1]), 2), 1, "-200 against -300, beside 0")
    far = torch.tensor([[1000.0, 0.0, 1e-5]])
    expect(student.top_k_accuracy(far, torch.tensor([2]), 2), 1, "0 against 1e-5, beside 1000")
    many = torch.arange(300.0)[None]
    expect(student.top_k_accuracy(many, torch.tensor([39]), 10), 0, "260 classes are ahead")
    require(
        student.unchanged("top_k_accuracy", torch.randn(3, 4), classes(3, 4), 2),
        "top_k_accuracy changes its arguments",
    )


ex.mistake(
    "ties count for the class",
    "An equal score of another class counts against the true one: >=, not >.",
    edit=("(scores >= own).sum(dim=1) - 1", "(scores > own).sum(dim=1)"),
)
ex.mistake(
    "the class is its own rival",
    "Only other classes count against the true one.",
    edit=("(scores >= own).sum(dim=1) - 1", "(scores >= own).sum(dim=1)"),
)
ex.mistake(
    "k + 1 places",
    "Fewer than k others may be ahead: <, not <=.",
    edit=("rivals < k", "rivals <= k"),
)
ex.mistake(
    "always the first place",
    "The true class may be anywhere among the k best.",
    edit=("rivals < k", "rivals < 1"),
)
ex.mistake(
    "exactly the k-th place",
    "All places up to the k-th count.",
    edit=("rivals < k", "rivals == k - 1"),
)
ex.mistake(
    "the smallest scores",
    "Larger scores are better.",
    edit=("(scores >= own)", "(scores <= own)"),
)
ex.mistake(
    "scores that nearly tie count as equal",
    "Only equal scores are a tie: compare without tolerance.",
    edit=("(scores >= own)", "(scores >= own - 1e-6)"),
)
ex.mistake(
    "scores compared with a tolerance, or rounded",
    "Only equal scores are a tie: no `isclose` and no rounding, compare them with >= as they are.",
    edit=("(scores >= own)", "((scores > own) | scores.isclose(own))"),
)
ex.mistake(
    "softmax before comparing",
    "Softmax rounds small probabilities to 0, so that different scores tie: compare the scores.",
    edit=("own = scores.gather", "scores = scores.softmax(dim=1)\n    own = scores.gather"),
)
ex.mistake(
    "log-softmax before comparing",
    "Beside a score of 1000 a difference of 1e-5 is rounded off: compare the scores as they are.",
    edit=("own = scores.gather", "scores = scores.log_softmax(dim=1)\n    own = scores.gather"),
)
ex.mistake(
    "exponentials compared",
    "exp rounds far scores to 0 or infinity, so that they tie: compare the scores as they are.",
    edit=("own = scores.gather", "scores = scores.exp()\n    own = scores.gather"),
)
ex.mistake(
    "scores rounded to float32",
    "float64 scores may differ by less than float32 can hold: compare them as they are.",
    edit=("own = scores.gather", "scores = scores.float()\n    own = scores.gather"),
)
ex.mistake(
    "counts, not the share",
    "Divide by the number of rows.",
    edit=(".float().mean()", ".float().sum()"),
)


@ex.mistake(
    "ties by chance of the index",
    "topk takes some of the equal scores; by the rule stated all count against the true class.",
)
def _(scores, labels, k):
    best = scores.argsort(dim=1, descending=True, stable=True)[:, :k]
    return (best == labels[:, None]).any(dim=1).float().mean().item()


@ex.mistake("divides by k", "A row is right or not: divide by the number of rows alone.")
def _(scores, labels, k):
    own = scores.gather(1, labels[:, None])
    return (((scores >= own).sum(dim=1) - 1 < k).float().mean() / k).item()


@ex.alternative("a loop")
def _(scores, labels, k):
    right = 0
    for row, label in zip(scores, labels, strict=True):
        others = torch.cat([row[: int(label)], row[int(label) + 1 :]])
        right += int((others >= row[label]).sum()) < k
    return right / len(labels)


@ex.alternative("the k-th largest of the other scores")
def _(scores, labels, k):
    if k == scores.shape[1]:
        return 1.0
    rows = torch.arange(len(labels))
    own = scores[rows, labels]
    others = scores.clone()
    others[rows, labels] = -math.inf
    return (own > others.topk(k, dim=1).values[:, -1]).double().mean()


# ----------------------------------------------------------------------------------------------
# softmax

SOFTMAX = [
    *["softmax", "softmin", "log_softmax", "Softmax", "LogSoftmax", "logsumexp", "logaddexp"],
    *["logaddexp2", "logcumsumexp", "cross_entropy", "nll_loss", "CrossEntropyLoss", "NLLLoss"],
    *["torch.special", "special", "scipy"],
    *["aten::_softmax", "aten::_log_softmax", "aten::logsumexp", "aten::logaddexp"],
    *["aten::logaddexp2", "aten::logcumsumexp", "aten::nll_loss_forward", "aten::_safe_softmax"],
]

ex = softmax_ = Exercise("softmax", defines=["log_softmax", "softmax"], forbids=SOFTMAX)

EXTREME = torch.tensor(
    [
        [1e3, -1e3, 0.0, 5.0],
        [-1e4, -1e4, -1e4, -1e4],
        [0.0, 1.0, -2.0, 3.0],
        [1e4, 1e4 - 1, -1e4, 1e4],
        [-200.0, -210.0, -205.0, -1000.0],
    ]
)


# Float32 numbers near 1e4 are 1e-3 apart: who adds the maximum back is off by half of that.
NEAR = {"rtol": 1e-3, "atol": 1e-3}


@ex.check("log-softmax of ordinary logits", points=1)
def _(student):
    for shape in [(5, 3), (1, 4), (3, 1), (2, 7)]:
        logits = 3 * torch.randn(shape)
        expect(student.log_softmax(logits), F.log_softmax(logits, -1), f"log_softmax, {shape}")


@ex.check("softmax of ordinary logits", points=0.5)
def _(student):
    for shape in [(5, 3), (1, 4), (3, 1)]:
        logits = 3 * torch.randn(shape)
        expect(student.softmax(logits), F.softmax(logits, -1), f"softmax, {shape}")


@ex.check("finite and right for logits up to 1e4", points=1.5)
def _(student):
    want, got = F.log_softmax(EXTREME, -1), student.log_softmax(EXTREME)
    expect(got, want, "log_softmax, float32, up to 1e4", **NEAR)
    want, got = F.softmax(EXTREME, -1), student.softmax(EXTREME)
    expect(got, want, "softmax, float32, up to 1e4", rtol=1e-3)
    for logits in [EXTREME.double(), EXTREME[2:3], 50 + torch.randn(2, 3)]:
        what = f"{len(logits)} rows, {logits.dtype}"
        expect(student.log_softmax(logits), F.log_softmax(logits, -1), f"log_softmax, {what}")
        expect(student.softmax(logits), F.softmax(logits, -1), f"softmax, {what}")


def of_transposed(student: Any, name: str, logits: Tensor) -> Tensor:
    """A probe: an argument that is a view, not contiguous."""
    return getattr(student, name)(logits.transpose(0, 1))


@ex.check("the last of one to four dimensions; float64", points=0.5)
def _(student):
    for shape in [(6,), (2, 3, 4), (3, 3, 3), (2, 3, 5, 4)]:
        logits = 2 * torch.randn(shape).double()
        for name in softmax_.defines:
            want = getattr(F, name)(logits, -1)
            got = getattr(student, name)(logits)
            expect(got, want, f"{name}, {shape}", rtol=1e-9, atol=1e-12, dtype=True)
    logits = torch.randn(2, 3, 4)
    for name in softmax_.defines:
        want = getattr(F, name)(logits.transpose(0, 1), -1)
        expect(student.run(of_transposed, name, logits), want, f"{name} of a transposed tensor")


@ex.check("dtype is kept, the argument is not modified", points=0.5)
def _(student):
    logits = torch.randn(4, 3)
    for name in softmax_.defines:
        want = getattr(F, name)(logits, -1)
        expect(getattr(student, name)(logits), want, f"{name}, float32", dtype=True)
        for dtype in [torch.float32, torch.float64]:
            same = student.unchanged(name, torch.randn(3, 5, dtype=dtype))
            require(same, f"{name} changes its argument, {dtype}")
        got = student.run(probes.calls, name, [logits], [2 * logits])
        expect(got[0], want, f"{name}, looked at after the next call")


ex.mistake(
    "the maximum is not subtracted",
    "exp(1000) is infinite: subtract the largest logit of the row first.",
    edit=("logits - logits.amax(dim=-1, keepdim=True)", "logits"),
)
ex.mistake(
    "one maximum for all rows",
    "A row far below the maximum of all rows has only zeros left: subtract each row's own.",
    edit=("logits.amax(dim=-1, keepdim=True)", "logits.amax()"),
)
ex.mistake(
    "the maximum is added",
    "Subtract the largest logit; then no exponential is above 1.",
    edit=("logits - logits.amax", "logits + logits.amax"),
)
ex.mistake(
    "the mean is subtracted",
    "The largest logit minus the mean may still overflow: subtract the maximum.",
    edit=("logits.amax(dim=-1, keepdim=True)", "logits.mean(dim=-1, keepdim=True)"),
)


@ex.mistake(
    "logarithm of the softmax",
    "A probability that rounds to 0 has the logarithm -inf: go directly.",
)
def _(logits):
    exponentials = (logits - logits.amax(dim=-1, keepdim=True)).exp()
    return (exponentials / exponentials.sum(dim=-1, keepdim=True)).log()


@ex.mistake(
    "a small number inside the logarithm",
    "log(p + 1e-9) is never below -21: compute the logarithm directly.",
)
def _(logits):
    exponentials = (logits - logits.amax(dim=-1, keepdim=True)).exp()
    return (exponentials / exponentials.sum(dim=-1, keepdim=True) + 1e-9).log()


ex.mistake(
    "log-softmax without the sum",
    "Subtract the logarithm of the sum of exponentials.",
    edit=("shifted - shifted.exp().sum(dim=-1, keepdim=True).log()", "shifted"),
)
ex.mistake(
    "the sum is added",
    "Dividing by the sum subtracts its logarithm.",
    edit=("shifted - shifted.exp()", "shifted + shifted.exp()"),
)
ex.mistake(
    "sum over the whole batch",
    "Probabilities of one row sum to 1: sum over the last dimension.",
    edit=(".sum(dim=-1, keepdim=True)", ".sum()"),
)
ex.mistake(
    "along the first dimension",
    "Classes are along the last dimension.",
    edit=[
        ("amax(dim=-1, keepdim=True)", "amax(dim=0, keepdim=True)"),
        ("sum(dim=-1, keepdim=True)", "sum(dim=0, keepdim=True)"),
    ],
)
ex.mistake(
    "along the second dimension",
    "The last dimension is -1; it is 1 only where there are two.",
    edit=[
        ("amax(dim=-1, keepdim=True)", "amax(dim=1, keepdim=True)"),
        ("sum(dim=-1, keepdim=True)", "sum(dim=1, keepdim=True)"),
    ],
)
ex.mistake(
    "float32 inside",
    "A float64 argument is computed in float64: rounding on the way loses digits.",
    edit=("shifted.exp().sum(", "shifted.float().exp().sum("),
)
ex.mistake(
    "logits limited to 50",
    "Limiting the logits changes the answer: subtract the maximum.",
    edit=("logits - logits.amax(dim=-1, keepdim=True)", "logits.clamp(-50, 50)"),
)
ex.mistake(
    "softmax without the exponential",
    "softmax gives probabilities, log_softmax their logarithms.",
    edit=("log_softmax(logits).exp()", "log_softmax(logits)"),
)
ex.mistake(
    "softmax divides logits",
    "The exponentials are divided by their sum, not the logits.",
    edit=("log_softmax(logits).exp()", "logits / logits.sum(dim=-1, keepdim=True)"),
)
ex.mistake(
    "softmax overflows",
    "exp(1000) is infinite: subtract the largest logit of the row in softmax too.",
    edit=("log_softmax(logits).exp()", "logits.exp() / logits.exp().sum(dim=-1, keepdim=True)"),
)
ex.mistake(
    "changes its argument",
    "`-=` writes into the caller's tensor.",
    edit=(
        "shifted = logits - logits.amax(dim=-1, keepdim=True)",
        "logits -= logits.amax(dim=-1, keepdim=True)\n    shifted = logits",
    ),
)


@ex.mistake(
    "changes a float64 argument",
    "`logits.double()` of a float64 tensor is that tensor itself: `-=` writes into the caller's.",
)
def _(logits):
    wide = logits.double()
    wide -= wide.amax(dim=-1, keepdim=True)
    return (wide - wide.exp().sum(dim=-1, keepdim=True).log()).to(logits.dtype)


@ex.mistake(
    "view of a tensor that is not contiguous",
    "`view` raises for a transposed tensor: reshape, or work along dim=-1.",
)
def _(logits):
    rows = logits.view(-1, logits.shape[-1])
    shifted = rows - rows.amax(dim=1, keepdim=True)
    return (shifted - shifted.exp().sum(dim=1, keepdim=True).log()).reshape(logits.shape)


@ex.alternative("max with indices, math in float64")
def _(logits):
    wide = logits.double()
    wide = wide - wide.max(-1, keepdim=True)[0]
    return (wide - torch.log(torch.exp(wide).sum(-1, keepdim=True))).to(logits.dtype)


@ex.alternative("the maximum is added back")
def _(logits):
    top = logits.amax(-1, keepdim=True)
    return logits - (top + torch.log(torch.exp(logits - top).sum(-1, keepdim=True)))


@ex.alternative("softmax on its own", replaces="softmax")
def _(logits):
    e = torch.exp(logits - logits.max(dim=-1, keepdim=True).values)
    return e / e.sum(-1, keepdim=True)


@ex.alternative("row by row")
def _(logits):
    rows = []
    for row in logits.reshape(-1, logits.shape[-1]):
        top = row.max()
        rows.append(row - top - (row - top).exp().sum().log())
    return torch.stack(rows).reshape(logits.shape)


# ----------------------------------------------------------------------------------------------
# cross_entropy

BY_HAND = [
    "autograd",
    "backward",
    "requires_grad",
    "requires_grad_",
    "torch.func",
    "grad_and_value",
]

ex = cross_entropy_ = Exercise("cross_entropy", forbids=[*SOFTMAX, *BY_HAND])


def loss_and_grad(logits: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
    """The oracle: torch's own."""
    leaf = logits.clone().requires_grad_()
    loss = F.cross_entropy(leaf, labels)
    return loss.detach(), torch.autograd.grad(loss, leaf)[0]


@ex.check("the loss, for several batch sizes", points=1)
def _(student):
    for rows, number in [(6, 4), (1, 3), (3, 5), (40, 3)]:
        logits, labels = 2 * torch.randn(rows, number), classes(rows, number)
        want, _ = loss_and_grad(logits, labels)
        expect(student.cross_entropy(logits, labels)[0], want, f"loss of {rows} rows")


@ex.check("the gradient, for several batch sizes", points=1.5)
def _(student):
    for rows, number in [(6, 4), (1, 3), (3, 5), (40, 3)]:
        logits, labels = 2 * torch.randn(rows, number), classes(rows, number)
        _, want = loss_and_grad(logits, labels)
        expect(student.cross_entropy(logits, labels)[1], want, f"gradient of {rows} rows")


@ex.check("finite and right for logits up to 1e4", points=1)
def _(student):
    for labels in [torch.tensor([1, 0, 2, 2, 3]), torch.tensor([0, 3, 3, 0, 0])]:
        loss, grad = loss_and_grad(EXTREME, labels)
        got = student.cross_entropy(EXTREME, labels)
        expect(got[0], loss, f"loss for labels {labels.tolist()}", **NEAR)
        expect(got[1], grad, f"gradient for labels {labels.tolist()}", **NEAR)
        loss, grad = loss_and_grad(EXTREME.double(), labels)
        got = student.cross_entropy(EXTREME.double(), labels)
        expect(got[0], loss, f"loss for labels {labels.tolist()}, float64")
        expect(got[1], grad, f"gradient for labels {labels.tolist()}, float64")


@ex.check("the gradient's dtype, and the arguments are not modified", points=0.5)
def _(student):
    logits, labels = torch.randn(4, 3).double(), classes(4, 3)
    want = loss_and_grad(logits, labels)
    got = student.cross_entropy(logits, labels)
    expect(got[0], want[0], "loss")
    expect(got[1], want[1], "gradient, float64", rtol=1e-9, atol=1e-12, dtype=True)
    expect_unchanged(student, "cross_entropy", logits=logits, labels=labels)
    logits = logits.float()
    got = student.run(probes.calls, "cross_entropy", [logits, labels], [2 * logits, labels])
    expect(got[0][1], want[1].float(), "gradient, float32, after the next call", dtype=True)
    expect_unchanged(student, "cross_entropy", logits=logits, labels=labels)


ex.mistake(
    "the sum over the batch",
    "L is the mean over the batch, and so is its gradient.",
    edit=[(".mean()", ".sum()"), ("grad / len(labels)", "grad")],
)
ex.mistake(
    "the loss is a sum, the gradient a mean",
    "The loss is the mean over the batch.",
    edit=(".mean()", ".sum()"),
)
ex.mistake(
    "the gradient is not averaged",
    "The loss is a mean over B rows, so each row's gradient is divided by B.",
    edit=("grad / len(labels)", "grad"),
)
ex.mistake(
    "the mean over rows and classes",
    "Each row gives one number: the mean is over B rows, not B times K entries.",
    edit=[
        ("[rows, labels].mean()", "[rows, labels].sum() / logits.numel()"),
        ("grad / len(labels)", "grad / logits.numel()"),
    ],
)
ex.mistake(
    "the sign of the loss",
    "The log-likelihood is made large, so its negative is made small.",
    edit=("-log_softmax(logits)", "log_softmax(logits)"),
)
ex.mistake(
    "the sign of the gradient",
    "What is said minus what is true: p - y.",
    edit=("return loss, grad / len(labels)", "return loss, -grad / len(labels)"),
)
ex.mistake(
    "the gradient in float64",
    "The gradient has the dtype of the logits.",
    edit=("return loss, grad / len(labels)", "return loss, grad.double() / len(labels)"),
)
ex.mistake(
    "the gradient in float32",
    "The gradient has the dtype of the logits.",
    edit=("return loss, grad / len(labels)", "return loss, grad.float() / len(labels)"),
)
ex.mistake(
    "the gradient without the labels",
    "At the true class 1 is subtracted from the probability.",
    edit=("    grad[rows, labels] -= 1\n", ""),
)
ex.mistake(
    "1 is subtracted everywhere in the labels' columns",
    "Index pairs of row and label: grad[rows, labels].",
    edit=("grad[rows, labels] -= 1", "grad[:, labels] -= 1"),
)
ex.mistake(
    "logits in place of probabilities",
    "The gradient is made of softmax probabilities.",
    edit=("grad = softmax(logits)", "grad = logits.clone()"),
)
ex.mistake(
    "log-probabilities in the gradient",
    "The gradient is p - y with probabilities, not their logarithms.",
    edit=("grad = softmax(logits)", "grad = log_softmax(logits)"),
)
ex.mistake(
    "softmax twice",
    "log_softmax wants logits: give it no probabilities.",
    edit=("-log_softmax(logits)", "-log_softmax(softmax(logits))"),
)
ex.mistake(
    "logarithm of the softmax",
    "A probability that rounds to 0 has an infinite loss: use log_softmax.",
    edit=("-log_softmax(logits)", "-softmax(logits).log()"),
)
ex.mistake(
    "a small number inside the logarithm",
    "log(p + 1e-9) is never below -21: use log_softmax.",
    edit=("-log_softmax(logits)", "-(softmax(logits) + 1e-9).log()"),
)
ex.mistake(
    "the most probable class for the label",
    "The loss looks at the probability of the true class.",
    edit=("[rows, labels].mean()", ".amax(dim=1).mean()"),
)
ex.mistake(
    "the gradient at the probability",
    "By the logits, the derivative of -log p is p - y; by p it would be -1/p.",
    edit=(
        "    grad = softmax(logits)\n    grad[rows, labels] -= 1\n",
        "    grad = torch.zeros_like(logits)\n"
        "    grad[rows, labels] = -1 / softmax(logits)[rows, labels]\n",
    ),
)


@ex.alternative("one-hot targets")
def _(logits, labels):
    targets = F.one_hot(labels, logits.shape[1]).to(logits.dtype)
    loss = -(targets * log_softmax(logits)).sum() / len(logits)
    return loss, (softmax(logits) - targets) / len(logits)


@ex.alternative("row by row")
def _(logits, labels):
    total, grads = 0.0, []
    for row, label in zip(logits, labels, strict=True):
        log_p = log_softmax(row[None])[0]
        total -= float(log_p[label])
        p = log_p.exp()
        p[label] = p[label] - 1
        grads.append(p)
    return total / len(labels), torch.stack(grads) / len(labels)


@ex.alternative("the loss summed in Python, as a float32 tensor")
def _(logits, labels):
    logs, grad = log_softmax(logits), softmax(logits)
    total = 0.0
    for i in range(len(labels)):
        total -= logs[i, labels[i]].item()
        grad[i, labels[i]] -= 1
    return torch.tensor(total / len(labels)), grad / len(labels)


@ex.alternative("the maximum is added back")
def _(logits, labels):
    top = logits.max(dim=1).values
    lse = top + (logits - top[:, None]).exp().sum(dim=1).log()
    loss = (lse - logits[torch.arange(len(logits)), labels]).mean()
    targets = F.one_hot(labels, logits.shape[1])
    return loss, (torch.exp(logits - lse[:, None]) - targets) / len(logits)


@ex.alternative("from the maximum, without the exercise before")
def _(logits, labels):
    shifted = logits - logits.max(1, keepdim=True).values
    e = shifted.exp()
    total = e.sum(1, keepdim=True)
    picked = shifted.gather(1, labels.unsqueeze(1))
    grad = (e / total).scatter_add(1, labels[:, None], -torch.ones_like(picked))
    return (total.log() - picked).mean(), grad.div(len(labels))


# ----------------------------------------------------------------------------------------------
# other_losses

ex = other_losses_ = Exercise(
    "other_losses",
    defines=["bce_with_logits", "mse", "mae", "huber"],
    forbids=[
        *["binary_cross_entropy", "binary_cross_entropy_with_logits", "mse_loss", "l1_loss"],
        *["huber_loss", "smooth_l1_loss", "logsigmoid", "softplus", "BCELoss", "MSELoss"],
        *["BCEWithLogitsLoss", "L1Loss", "HuberLoss", "SmoothL1Loss", "LogSigmoid", "Softplus"],
        *["aten::binary_cross_entropy", "aten::binary_cross_entropy_with_logits"],
        *["aten::mse_loss", "aten::huber_loss", "aten::smooth_l1_loss", "aten::softplus"],
        *["aten::log_sigmoid_forward", "aten::log_sigmoid", "aten::l1_loss"],
        *SOFTMAX,
    ],
)


@ex.check("binary cross-entropy of ordinary logits", points=1)
def _(student):
    for shape in [(4, 3), (5,), (1, 1), (), (2, 3, 4)]:
        logits, targets = 2 * torch.randn(shape), torch.randint(0, 2, shape).float()
        want = F.binary_cross_entropy_with_logits(logits, targets)
        expect(student.bce_with_logits(logits, targets), want, f"targets 0 and 1, {shape}")
    logits, targets = torch.randn(3, 4), torch.rand(3, 4)
    want = F.binary_cross_entropy_with_logits(logits, targets)
    expect(student.bce_with_logits(logits, targets), want, "targets between 0 and 1")


@ex.check("binary cross-entropy, finite and right for logits up to 1e4", points=1)
def _(student):
    logits = torch.tensor([-1e4, -200.0, -90.0, -20.0, 20.0, 90.0, 200.0, 1e4])
    for number in range(8):  # one at a time: a mean would hide the small ones
        for target in [0.0, 1.0, 0.25]:
            z, t = logits[number : number + 1], torch.tensor([target])
            want = F.binary_cross_entropy_with_logits(z, t)
            got = student.bce_with_logits(z, t)
            expect(got, want, f"logit {z.item()}, target {target}")
    z = torch.tensor([-3.0, 25.0, 0.5]).double()
    want = F.binary_cross_entropy_with_logits(z, torch.zeros(3).double())
    got = student.bce_with_logits(z, torch.zeros(3).double())
    expect(got, want, "float64", rtol=1e-9)


@ex.check("MSE and MAE", points=0.5)
def _(student):
    for shape in [(7,), (2, 3), (1,), (), (2, 3, 4)]:
        predicted, targets = 3 * torch.randn(shape), torch.randn(shape) + 1
        expect(student.mse(predicted, targets), F.mse_loss(predicted, targets), f"mse, {shape}")
        expect(student.mae(predicted, targets), F.l1_loss(predicted, targets), f"mae, {shape}")


@ex.check("Huber's loss", points=1)
def _(student):
    predicted, targets = 4 * torch.randn(3, 5), torch.randn(3, 5)
    want = F.huber_loss(predicted, targets)
    expect(student.huber(predicted, targets), want, "default delta")
    for delta in [0.5, 3.0]:
        want = F.huber_loss(predicted, targets, delta=delta)
        expect(student.huber(predicted, targets, delta=delta), want, f"delta {delta}")
    for shape in [(), (6,), (2, 3, 4)]:
        predicted, targets = 2 * torch.randn(shape), torch.randn(shape)
        want = F.huber_loss(predicted, targets)
        expect(student.huber(predicted, targets), want, f"default delta, {shape}")
    zero = torch.zeros(1)
    for error in [-5.0, -2.0, -0.5, 0.5, 2.0, 5.0]:  # one at a time
        want = F.huber_loss(zero + error, zero, delta=2.0)
        got = student.huber(zero + error, zero, delta=2.0)
        expect(got, want, f"error {error}, delta 2")


@ex.check("the arguments are not modified", points=0.5)
def _(student):
    for name in other_losses_.defines:
        a, b = torch.randn(3, 2), torch.rand(3, 2)
        require(student.unchanged(name, a, b), f"{name} changes its arguments")
        same = student.unchanged(name, a.double(), b.double())
        require(same, f"{name} changes its arguments, float64")
        oracle = {"bce_with_logits": "binary_cross_entropy_with_logits", "mae": "l1_loss"}
        want = getattr(F, oracle.get(name, f"{name}_loss"))(a, b)
        expect(getattr(student, name)(a, b), want, f"{name} of (3, 2)")


BCE = "(logits.clamp(min=0) - logits * targets + (-logits.abs()).exp().log1p()).mean()"
ex.mistake(
    "logarithm of the sigmoid",
    "sigmoid(z) rounds to 0 or 1, and log 0 is infinite: take z out of the logarithm.",
    edit=(
        f"return {BCE}",
        "p = torch.sigmoid(logits)\n"
        "    return -(targets * p.log() + (1 - targets) * (1 - p).log()).mean()",
    ),
)
ex.mistake(
    "probabilities limited",
    "Limiting p limits the loss: for a logit of 200 and target 0 it is 200.",
    edit=(
        f"return {BCE}",
        "p = torch.sigmoid(logits).clamp(1e-6, 1 - 1e-6)\n"
        "    return -(targets * p.log() + (1 - targets) * (1 - p).log()).mean()",
    ),
)
ex.mistake(
    "exp overflows",
    "(1 - t) z + log(1 + exp(-z)) is infinite for z = -1000: use |z|.",
    edit=(BCE, "((1 - targets) * logits + (-logits).exp().log1p()).mean()"),
)
ex.mistake(
    "the half of the targets that are 1",
    "Targets of 0 count too: (1 - t) log(1 - p).",
    edit=(BCE, "(targets * ((-logits).clamp(min=0) + (-logits.abs()).exp().log1p())).mean()"),
)
ex.mistake(
    "targets exchanged",
    "A large logit says yes: its loss is small for target 1.",
    edit=("- logits * targets", "- logits * (1 - targets)"),
)
ex.mistake(
    "BCE summed",
    "The mean over all entries is asked for.",
    edit=("log1p()).mean()", "log1p()).sum()"),
)
ex.mistake(
    "BCE summed over the labels of a row",
    "The mean is over all entries, the labels of a row included.",
    edit=("log1p()).mean()", "log1p()).sum() / len(logits)"),
)
ex.mistake(
    "BCE for targets 0 and 1 only",
    "A target may lie between 0 and 1.",
    edit=("logits * targets", "logits * (targets > 0.5)"),
)
ex.mistake(
    "BCE without the logarithm's part",
    "log(1 + exp(-|z|)) is missing: at z = 0 the loss is ln 2.",
    edit=(" + (-logits.abs()).exp().log1p()", ""),
)
ex.mistake(
    "half the squared error",
    "MSE has no factor of a half, as in torch.",
    edit=(".square().mean()", ".square().mean() / 2"),
)
ex.mistake(
    "root of the mean square",
    "The mean of the squares, without the root.",
    edit=(".square().mean()", ".square().mean().sqrt()"),
)
ex.mistake(
    "MSE summed",
    "The mean over all entries is asked for.",
    edit=(".square().mean()", ".square().sum()"),
)
ex.mistake(
    "MSE divided by rows and columns",
    "The shape may be any: divide by the number of all entries, as mean() does.",
    edit=(".square().mean()", ".square().sum() / math.prod(predicted.shape[:2])"),
)
ex.mistake(
    "MSE changes float64 arguments",
    "`double()` of a float64 tensor is that tensor itself: `-=` then writes into the caller's.",
    edit=(
        "return (predicted - targets).square().mean()",
        "error = predicted.double()\n    error -= targets\n    return error.square().mean()",
    ),
)
ex.mistake(
    "MAE without absolute values",
    "Errors of opposite sign must not cancel.",
    edit=("(predicted - targets).abs().mean()", "(predicted - targets).mean()"),
)
ex.mistake(
    "MAE as the absolute mean",
    "First the absolute value of each error, then the mean.",
    edit=("(predicted - targets).abs().mean()", "(predicted - targets).mean().abs()"),
)
ex.mistake(
    "Huber ignores delta",
    "delta is an argument; 1 is only its default.",
    edit=[
        ("error <= delta, error", "error <= 1, error"),
        ("delta * (error - delta / 2)", "error - 0.5"),
    ],
)
ex.mistake(
    "Huber with the sides exchanged",
    "Squared near zero, linear far out.",
    edit=("error <= delta, error", "error > delta, error"),
)
ex.mistake(
    "Huber without the half",
    "The square has a factor of a half, so that the two pieces meet.",
    edit=("error.square() / 2", "error.square()"),
)
ex.mistake(
    "Huber jumps at delta",
    "The line is delta (|e| - delta / 2): it meets the parabola at |e| = delta.",
    edit=("delta * (error - delta / 2)", "delta * error"),
)
ex.mistake(
    "smooth L1 for Huber",
    "Smooth L1 is Huber's loss over delta.",
    edit=("delta / 2)).mean()", "delta / 2)).mean() / delta"),
)
ex.mistake(
    "Huber forgets negative errors",
    "The size of the error decides, not its sign: take the absolute value.",
    edit=(
        "error = (predicted - targets).abs()",
        "error = predicted - targets",
    ),
)

ex.equivalent(
    "predicted - targets -> targets - predicted", "all three losses are even functions of the error"
)
ex.equivalent("error <= delta -> error < delta", "both pieces are delta^2 / 2 at |e| = delta")


@ex.alternative("BCE by the student's own softmax of two logits")
def _(logits, targets):
    both = log_softmax(torch.stack([torch.zeros_like(logits), logits], dim=-1))
    return -((1 - targets) * both[..., 0] + targets * both[..., 1]).mean()


ex.alternative(
    "BCE without log1p",
    edit=("(-logits.abs()).exp().log1p()", "(1 + (-logits.abs()).exp()).log()"),
)


@ex.alternative("BCE by branches")
def _(logits, targets):
    positive = (1 - targets) * logits + (-logits).exp().log1p()
    negative = -targets * logits + logits.exp().log1p()
    return torch.where(logits >= 0, positive, negative).mean()


@ex.alternative("BCE entry by entry")
def _(logits, targets):
    total = 0.0
    for z, t in zip(logits.flatten().tolist(), targets.flatten().tolist(), strict=True):
        total += max(z, 0.0) - z * t + math.log1p(math.exp(-abs(z)))
    return torch.tensor(total / logits.numel(), dtype=logits.dtype)


@ex.alternative("Huber by a clamped error", replaces="huber")
def _(predicted, targets, delta=1.0):
    e = (predicted - targets).abs()
    near = e.clamp(max=delta)
    return (near * (e - near / 2)).mean()


@ex.alternative("Huber by masks", replaces="huber")
def _(predicted, targets, delta=1.0):
    e = predicted - targets
    small = (e.abs() < delta).to(e.dtype)
    return (small * e**2 / 2 + (1 - small) * delta * (e.abs() - 0.5 * delta)).sum() / e.numel()


# ----------------------------------------------------------------------------------------------
# regularised_loss

ex = regularised_loss_ = Exercise("regularised_loss", forbids=[*SOFTMAX, *BY_HAND])


def objective(
    weight: Tensor, bias: Tensor, x: Tensor, labels: Tensor, strength: float
) -> tuple[Tensor, Tensor, Tensor]:
    """The oracle, by autograd."""
    w, b = (tensor.clone().requires_grad_() for tensor in (weight, bias))
    loss = F.cross_entropy(x @ w.T + b, labels) + strength / 2 * (w * w).sum()
    dw, db = torch.autograd.grad(loss, [w, b])
    return loss.detach(), dw, db


def problem(rows: int, features: int, number: int) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Weight, bias, inputs and labels of random numbers, in float64."""
    weight = torch.randn(number, features).double()
    bias, x = torch.randn(number).double(), torch.randn(rows, features).double()
    return weight, bias, x, classes(rows, number)


@ex.check("the loss, without and with penalty", points=1)
def _(student):
    for strength in [0.0, 0.3, 2.0]:
        given = problem(5, 3, 4)
        got = student.regularised_loss(*given, strength)
        expect(got[0], objective(*given, strength)[0], f"J for λ = {strength}")
    given = problem(4, 6, 2)
    expect(student.regularised_loss(*given)[0], objective(*given, 0.0)[0], "J by default")


@ex.check("the gradient of the weights, without penalty", points=1)
def _(student):
    for rows, features, number in [(5, 3, 4), (1, 6, 2), (7, 2, 5), (4, 1, 3), (6, 3, 3)]:
        given = problem(rows, features, number)
        want = objective(*given, 0.0)[1]
        what = f"dweight, B = {rows}, D = {features}, K = {number}"
        expect(student.regularised_loss(*given)[1], want, what)


@ex.check("the gradient of the weights, with penalty", points=1)
def _(student):
    for rows, strength in [(5, 0.3), (2, 2.0)]:
        given = problem(rows, 3, 4)
        want = objective(*given, strength)[1]
        got = student.regularised_loss(*given, strength=strength)
        expect(got[1], want, f"dweight for λ = {strength}, B = {rows}")


@ex.check("the gradient of the biases", points=1)
def _(student):
    for rows, strength in [(5, 0.0), (3, 1.5), (1, 0.2)]:
        given = problem(rows, 4, 3)
        want = objective(*given, strength)[2]
        got = student.regularised_loss(*given, strength)
        expect(got[2], want, f"dbias for λ = {strength}, B = {rows}")


@ex.check("large logits, dtype, and the arguments are not modified", points=0.5)
def _(student):
    weight, bias = torch.tensor([[1.0, 2.0], [-1.0, 0.5], [0.0, 3.0]]), torch.ones(3)
    x, labels = torch.tensor([[900.0, -800.0], [1000.0, 700.0]]), torch.tensor([2, 1])
    got = student.regularised_loss(weight, bias, x, labels, 0.1)
    for name, value, want in zip(
        ["J", "dweight", "dbias"], got, objective(weight, bias, x, labels, 0.1), strict=True
    ):
        expect(value, want, f"{name} for logits of 1000")
    x = x / 1000
    got = student.regularised_loss(weight, bias, x, labels, 0.1)
    _, dweight, dbias = objective(weight, bias, x, labels, 0.1)
    expect(got[1], dweight, "dweight, float32", dtype=True)
    expect(got[2], dbias, "dbias, float32", dtype=True)
    given = {"weight": weight, "bias": bias, "x": x, "labels": labels}
    expect_unchanged(student, "regularised_loss", **given, strength=0.1)
    given = {name: value.double() for name, value in given.items()} | {"labels": labels}
    got = student.regularised_loss(*given.values(), 0.1)
    _, dweight, dbias = objective(*given.values(), 0.1)
    expect(got[1], dweight, "dweight, float64", dtype=True)
    expect(got[2], dbias, "dbias, float64", dtype=True)
    expect_unchanged(student, "regularised_loss", **given, strength=0.1)


ex.mistake(
    "L2 gradient off by a factor 2",
    "The derivative of λ/2 W² is λ W: the ½ is there to cancel the 2.",
    edit=("+ strength * weight, grad", "+ 2 * strength * weight, grad"),
)
ex.mistake(
    "half of the L2 gradient",
    "The derivative of λ/2 W² is λ W.",
    edit=("+ strength * weight, grad", "+ strength / 2 * weight, grad"),
)
ex.mistake(
    "the penalty without the half",
    "By the convention stated the penalty is λ/2 times the sum of squares.",
    edit=("strength / 2 * weight.square().sum()", "strength * weight.square().sum()"),
)
ex.mistake(
    "the penalty by the mean square",
    "The penalty sums over all weights.",
    edit=("weight.square().sum()", "weight.square().mean()"),
)
ex.mistake(
    "the penalty by the norm",
    "The penalty has the squared norm, without the root.",
    edit=("weight.square().sum()", "weight.square().sum().sqrt()"),
)
ex.mistake(
    "the penalty by absolute values",
    "Absolute values would be an L1 penalty.",
    edit=("weight.square().sum()", "weight.abs().sum()"),
)
ex.mistake(
    "the penalty is not in the loss",
    "J holds the penalty as well as its gradient does.",
    edit=("return loss + penalty", "return loss"),
)
ex.mistake(
    "the penalty is not in the gradient",
    "What is added to J is differentiated too: add λ W.",
    edit=(" + strength * weight, grad", ", grad"),
)
ex.mistake(
    "the penalty pushes away",
    "The gradient of the penalty points along W; the step then goes against it.",
    edit=("+ strength * weight, grad", "- strength * weight, grad"),
)
ex.mistake(
    "the penalty divided by the batch",
    "The penalty does not depend on the batch.",
    edit=[
        ("strength / 2 * weight.square().sum()", "strength / 2 * weight.square().sum() / len(x)"),
        ("+ strength * weight, grad", "+ strength * weight / len(x), grad"),
    ],
)
ex.mistake(
    "the biases are decayed",
    "Only the weights are penalised.",
    edit=("grad.sum(dim=0)", "grad.sum(dim=0) + strength * bias"),
)
ex.mistake(
    "the biases are in the penalty",
    "Only the weights are penalised.",
    edit=[
        ("weight.square().sum()", "(weight.square().sum() + bias.square().sum())"),
        ("grad.sum(dim=0)", "grad.sum(dim=0) + strength * bias"),
    ],
)
ex.mistake(
    "averages over the batch again",
    "cross_entropy has divided by B already: sum.",
    edit=[("grad.T @ x", "grad.T @ x / len(x)"), ("grad.sum(dim=0)", "grad.mean(dim=0)")],
)
ex.mistake(
    "bias gradient averaged",
    "The bias is used in every row, and G holds the 1/B already: sum over the rows.",
    edit=("grad.sum(dim=0)", "grad.mean(dim=0)"),
)
ex.mistake(
    "bias gradient of the first row",
    "The bias is used in every row: its gradient is the sum over the rows.",
    edit=("grad.sum(dim=0)", "grad[0]"),
)
ex.mistake(
    "weight gradient transposed",
    "The gradient has the shape of W, (K, D).",
    edit=("grad.T @ x +", "(x.T @ grad) +"),
)
ex.mistake(
    "weight gradient transposed where K = D",
    "A square result has the shape of W either way: the sum over i of G_ic x_id is G^T X.",
    edit=(
        "return loss + penalty, grad.T @ x + strength * weight",
        "dweight = x.T @ grad\n"
        "    if dweight.shape != weight.shape:\n"
        "        dweight = dweight.T\n"
        "    return loss + penalty, dweight + strength * weight",
    ),
)
ex.mistake(
    "weight gradient squeezed",
    "For D = 1 the gradient has the shape (K, 1), as W has.",
    edit=("grad.T @ x + strength * weight", "(grad.T @ x + strength * weight).squeeze()"),
)
ex.mistake(
    "gradients in float32",
    "The gradients have the dtype of the weights: `torch.zeros(shape)` is float32.",
    edit=[
        ("grad.T @ x + strength * weight", "(grad.T @ x + strength * weight).float()"),
        ("grad.sum(dim=0)", "grad.sum(dim=0).float()"),
    ],
)
ex.mistake(
    "the bias is left out",
    "Z = X W^T + b.",
    edit=("x @ weight.T + bias", "x @ weight.T"),
)
ex.mistake(
    "gradients in float64",
    "The gradients have the dtype of the weights, so that a step keeps it.",
    edit=[
        ("grad.T @ x + strength * weight", "(grad.T @ x + strength * weight).double()"),
        ("grad.sum(dim=0)", "grad.sum(dim=0).double()"),
    ],
)


@ex.alternative("einsum")
def _(weight, bias, x, labels, strength=0.0):
    logits = torch.einsum("bd,kd->bk", x, weight) + bias
    loss, g = cross_entropy(logits, labels)
    loss = loss + 0.5 * strength * torch.einsum("kd,kd->", weight, weight)
    return loss, torch.einsum("bk,bd->kd", g, x).add(weight, alpha=strength), g.sum(0)


@ex.alternative("row by row, loss as a float")
def _(weight, bias, x, labels, strength=0.0):
    loss, g = cross_entropy(torch.stack([weight @ row + bias for row in x]), labels)
    dweight, dbias = strength * weight, torch.zeros_like(bias)
    for row, grad in zip(x, g, strict=True):
        dweight = dweight + torch.outer(grad, row)
        dbias = dbias + grad
    return float(loss) + strength * float((weight**2).sum()) / 2, dweight, dbias


# ----------------------------------------------------------------------------------------------
# sgd_epoch

ex = sgd_epoch = Exercise(
    "sgd_epoch",
    forbids=[
        *SOFTMAX,
        *["autograd", "backward", "torch.func", "grad_and_value", "optim", "torch.optim", "SGD"],
    ],
)


def epoch(
    weight: Tensor,
    bias: Tensor,
    x: Tensor,
    labels: Tensor,
    order: Tensor,
    batch_size: int,
    lr: float,
    strength: float = 0.0,
) -> tuple[Tensor, Tensor, list[float]]:
    """The oracle: torch.optim's SGD on autograd's gradients."""
    w, b = (tensor.clone().requires_grad_() for tensor in (weight, bias))
    optimiser, losses = torch.optim.SGD([w, b], lr=lr), []
    for start in range(0, len(order), batch_size):
        rows = order[start : start + batch_size]
        optimiser.zero_grad()
        loss = F.cross_entropy(x[rows] @ w.T + b, labels[rows]) + strength / 2 * (w * w).sum()
        loss.backward()
        optimiser.step()
        losses.append(loss.item())
    return w.detach(), b.detach(), losses


def compare(student: Any, given: tuple[Tensor, ...], order: Tensor, *args: Any) -> None:
    """Weight, bias and losses after an epoch."""
    weight, bias, x, labels = given
    got = student.sgd_epoch(*given, order, *args)
    want = epoch(weight, bias, x, labels, order, *args)
    for name, value, right in zip(["weight", "bias", "losses"], got, want, strict=True):
        expect(value, right, f"{name}, {len(order)} rows, {args}")


@ex.check("one batch", points=1)
def _(student):
    given = problem(6, 3, 4)
    compare(student, given, torch.randperm(6), 6, 0.5)
    compare(student, given, torch.tensor([4]), 1, 0.3)


@ex.check("several batches in the order given", points=1)
def _(student):
    given = problem(12, 3, 4)
    compare(student, given, torch.randperm(12), 4, 0.5)
    compare(student, given, torch.randperm(12), 1, 0.2)


@ex.check("a last batch that is smaller, a batch that is too large", points=1)
def _(student):
    given = problem(11, 2, 3)
    compare(student, given, torch.randperm(11), 4, 0.7)
    compare(student, given, torch.randperm(11), 5, 0.7)
    compare(student, given, torch.randperm(11), 50, 0.7)


@ex.check("an order that holds some of the rows", points=0.5)
def _(student):
    given = problem(10, 2, 3)
    compare(student, given, torch.tensor([7, 2, 9, 0, 4]), 2, 0.4)
    compare(student, problem(300, 2, 3), torch.randperm(300)[:90], 40, 0.4)


@ex.check("with penalty", points=0.5)
def _(student):
    compare(student, problem(7, 3, 2), torch.randperm(7), 3, 0.5, 0.4)


@ex.check("dtype, and the arguments are not modified", points=0.5)
def _(student):
    weight, bias, x, labels = problem(5, 2, 3)
    order = torch.randperm(5)
    for dtype, batch_size in [(torch.float32, 2), (torch.float64, 2), (torch.float64, 5)]:
        given = weight.to(dtype), bias.to(dtype), x.to(dtype), labels
        got = student.sgd_epoch(*given, order, batch_size, 0.5, 0.1)
        want = epoch(*given, order, batch_size, 0.5, 0.1)
        expect(got[0], want[0], f"weight, {dtype}", dtype=True)
        expect(got[1], want[1], f"bias, {dtype}", dtype=True)
        expect(got[2], want[2], f"losses, {dtype}")
        names = ["weight", "bias", "x", "labels", "order", "batch_size", "lr", "strength"]
        values = [*given, order, batch_size, 0.5, 0.1]
        expect_unchanged(student, "sgd_epoch", **dict(zip(names, values, strict=True)))


ex.mistake(
    "uphill",
    "The step goes against the gradient.",
    edit=(
        "weight - lr * dweight, bias - lr * dbias",
        "weight + lr * dweight, bias + lr * dbias",
    ),
)
ex.mistake(
    "the order is ignored",
    "The batches are pieces of `order`: x[rows], not the first rows of x.",
    edit=("in order.split(batch_size)", "in torch.arange(len(order)).split(batch_size)"),
)
ex.mistake(
    "all rows, whatever the order holds",
    "Only the rows in `order` are visited.",
    edit=(
        "in order.split(batch_size)",
        "in torch.cat([order, torch.tensor([i for i in range(len(x)) if i not in order])])"
        ".long().split(batch_size)",
    ),
)
ex.mistake(
    "the last batch is dropped",
    "A last batch that is smaller is used all the same.",
    edit=(
        "in order.split(batch_size)",
        "in [b for b in order.split(batch_size) if len(b) == batch_size]",
    ),
)
ex.mistake(
    "the last batch takes the rest",
    "The rest is a batch of its own, however small.",
    edit=(
        "in order.split(batch_size)",
        "in order.tensor_split(max(len(order) // batch_size, 1))",
    ),
)
ex.mistake(
    "the last batch is filled up",
    "The last batch may be smaller: no row is visited twice in an epoch.",
    edit=(
        "in order.split(batch_size)",
        "in torch.cat([order, order[: -len(order) % batch_size]]).split(batch_size)",
    ),
)
ex.mistake(
    "the losses without the penalty",
    "The list holds each batch's J, the penalty included.",
    edit=[
        (
            "        weight, bias = weight",
            "        data_loss, _ = cross_entropy(x[rows] @ weight.T + bias, labels[rows])\n"
            "        weight, bias = weight",
        ),
        ("float(loss)", "float(data_loss)"),
    ],
)
ex.mistake(
    "batches of equal size",
    "The batches are pieces of batch_size; only the last may be smaller.",
    edit=(
        "in order.split(batch_size)",
        "in order.tensor_split(-(-len(order) // batch_size))",
    ),
)
ex.mistake(
    "labels in another order",
    "Inputs and labels of the same rows belong together: labels[rows].",
    edit=("labels[rows]", "labels[: len(rows)]"),
)


@ex.mistake(
    "every batch sees the first weights",
    "The next batch is computed with the weights that the last step gave.",
)
def _(weight, bias, x, labels, order, batch_size, lr, strength=0.0):
    new_weight, new_bias, losses = weight, bias, []
    for rows in order.split(batch_size):
        loss, dweight, dbias = regularised_loss(weight, bias, x[rows], labels[rows], strength)
        new_weight, new_bias = new_weight - lr * dweight, new_bias - lr * dbias
        losses.append(float(loss))
    return new_weight, new_bias, losses


@ex.mistake("one step on all rows", "Each batch gives a step of its own.")
def _(weight, bias, x, labels, order, batch_size, lr, strength=0.0):
    loss, dweight, dbias = regularised_loss(weight, bias, x[order], labels[order], strength)
    return weight - lr * dweight, bias - lr * dbias, [float(loss)]


@ex.mistake("one step only", "An epoch goes through all batches.")
def _(weight, bias, x, labels, order, batch_size, lr, strength=0.0):
    rows = order[:batch_size]
    loss, dweight, dbias = regularised_loss(weight, bias, x[rows], labels[rows], strength)
    return weight - lr * dweight, bias - lr * dbias, [float(loss)]


@ex.mistake("losses after the step", "Each batch's loss is the one before its step.")
def _(weight, bias, x, labels, order, batch_size, lr, strength=0.0):
    losses = []
    for rows in order.split(batch_size):
        _, dweight, dbias = regularised_loss(weight, bias, x[rows], labels[rows], strength)
        weight, bias = weight - lr * dweight, bias - lr * dbias
        after, _, _ = regularised_loss(weight, bias, x[rows], labels[rows], strength)
        losses.append(float(after))
    return weight, bias, losses


@ex.mistake(
    "the bias sees the new weights",
    "Both gradients are taken at the same weights and biases.",
)
def _(weight, bias, x, labels, order, batch_size, lr, strength=0.0):
    losses = []
    for rows in order.split(batch_size):
        loss, dweight, _ = regularised_loss(weight, bias, x[rows], labels[rows], strength)
        weight = weight - lr * dweight
        _, _, dbias = regularised_loss(weight, bias, x[rows], labels[rows], strength)
        bias = bias - lr * dbias
        losses.append(float(loss))
    return weight, bias, losses


ex.mistake(
    "the bias stays",
    "The biases are trained too.",
    edit=("weight - lr * dweight, bias - lr * dbias", "weight - lr * dweight, bias"),
)
ex.mistake(
    "the strength is not passed on",
    "Each batch's objective has the penalty.",
    edit=("labels[rows], strength)", "labels[rows])"),
)
ex.mistake(
    "losses weighed by the batch",
    "The list holds each batch's own mean loss.",
    edit=("float(loss)", "float(loss) * len(rows)"),
)
ex.mistake(
    "the rate is divided by the batch size",
    "The loss is a mean already: the step is lr times its gradient.",
    edit=(
        "weight - lr * dweight, bias - lr * dbias",
        "weight - lr / len(rows) * dweight, bias - lr / len(rows) * dbias",
    ),
)
ex.mistake(
    "a small batch counts less",
    "The last batch has its own mean and a whole step.",
    edit=(
        "weight - lr * dweight, bias - lr * dbias",
        "weight - lr * len(rows) / batch_size * dweight, "
        "bias - lr * len(rows) / batch_size * dbias",
    ),
)
ex.mistake(
    "changes its arguments",
    "`-=` writes into the caller's tensors: the old weights are lost.",
    edit=(
        "        weight, bias = weight - lr * dweight, bias - lr * dbias\n",
        "        weight -= lr * dweight\n        bias -= lr * dbias\n",
    ),
)
ex.mistake(
    "changes float64 arguments",
    "`weight.double()` of a float64 tensor is that tensor itself: `-=` writes into the caller's.",
    edit=[
        (
            "    losses = []\n",
            "    losses, dtype = [], weight.dtype\n"
            "    weight, bias, x = weight.double(), bias.double(), x.double()\n",
        ),
        (
            "        weight, bias = weight - lr * dweight, bias - lr * dbias\n",
            "        weight -= lr * dweight\n        bias -= lr * dbias\n",
        ),
        ("return weight, bias, losses", "return weight.to(dtype), bias.to(dtype), losses"),
    ],
)
ex.mistake(
    "results in float64",
    "The new weight and bias have the dtype of the old ones.",
    edit=("return weight, bias, losses", "return weight.double(), bias.double(), losses"),
)
ex.mistake(
    "results in float32",
    "The new weight and bias have the dtype of the old ones.",
    edit=("return weight, bias, losses", "return weight.float(), bias.float(), losses"),
)
ex.mistake(
    "the mean of the losses",
    "One number for each batch is asked for.",
    edit=("return weight, bias, losses", "return weight, bias, [sum(losses) / len(losses)]"),
)


@ex.alternative("positions, copies and in-place steps")
def _(weight, bias, x, labels, order, batch_size, lr, strength=0.0):
    weight, bias, losses = weight.clone(), bias.clone(), []
    for start in range(0, len(order), batch_size):
        rows = order[start : start + batch_size]
        loss, dweight, dbias = regularised_loss(
            weight, bias, x[rows], labels[rows], strength=strength
        )
        weight -= lr * dweight
        bias -= lr * dbias
        losses.append(loss)
    return weight, bias, losses


@ex.alternative("copies that are said to need no gradient")
def _(weight, bias, x, labels, order, batch_size, lr, strength=0.0):
    w, b = weight.detach().clone().requires_grad_(False), bias.detach().clone()
    losses = ()
    for rows in order.split(batch_size):
        j, dw, db = regularised_loss(w, b, x[rows], labels[rows], strength)
        w, b, losses = w - lr * dw, b - lr * db, (*losses, float(j))
    return w, b, losses


@ex.alternative("rows reordered first, losses as a tensor")
def _(weight, bias, x, labels, order, batch_size, lr, strength=0.0):
    x, labels, losses = x[order], labels[order], []
    while len(x):
        j, dw, db = regularised_loss(weight, bias, x[:batch_size], labels[:batch_size], strength)
        weight, bias = torch.sub(weight, dw, alpha=lr), torch.sub(bias, db, alpha=lr)
        x, labels = x[batch_size:], labels[batch_size:]
        losses.append(torch.as_tensor(j))
    return weight, bias, torch.stack(losses)
