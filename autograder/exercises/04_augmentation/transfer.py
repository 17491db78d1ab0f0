"""Hidden checks, known mistakes and alternatives of `04_augmentation/transfer`."""

import copy
from typing import TYPE_CHECKING, Any, ClassVar

import torch
from torch import Tensor, nn

from autograder.contract import Exercise, expect, probes, require

if TYPE_CHECKING:  # replacements run in the namespace of the reference
    from autograder.reference.transfer import FrozenBatchNorm, param_groups, select


# ----------------------------------------------------------------------------------------------
# Nets of several kinds


class Nested(nn.Module):
    """Layers within layers; the names begin alike."""

    def __init__(self) -> None:
        super().__init__()
        self.layer1 = nn.Sequential(nn.Linear(4, 6), nn.BatchNorm1d(6), nn.ReLU())
        self.layer10 = nn.ModuleDict({"fc": nn.Linear(6, 5), "layer1": nn.Linear(5, 5, bias=False)})
        self.layer1x = nn.Linear(5, 5)
        self.scale = nn.Parameter(torch.ones(5))
        self.fc = nn.Linear(5, 3)

    def forward(self, x: Tensor) -> Tensor:
        x = self.layer10["layer1"](self.layer10["fc"](self.layer1(x)))
        return self.fc(self.scale * self.layer1x(x).tanh())


class Tied(nn.Module):
    """An embedding whose weight is the output layer's too."""

    def __init__(self) -> None:
        super().__init__()
        self.embed = nn.Embedding(7, 4)
        self.body = nn.Sequential(nn.Linear(4, 4), nn.LayerNorm(4))
        self.decoder = nn.Linear(4, 7)
        self.decoder.weight = self.embed.weight

    def forward(self, x: Tensor) -> Tensor:
        return self.decoder(self.body(self.embed(x)))


class Branched(nn.Module):
    """A head that is not registered last, and linear layers that are not of the path's end."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(2, 3, 3, padding=1, bias=False), nn.BatchNorm2d(3))
        self.gate = nn.Sequential(nn.Linear(3, 3), nn.Sigmoid())
        self.classifier = nn.Sequential(nn.Dropout(0.5), nn.Sequential(nn.Linear(3, 6, bias=False)))
        self.last_act = nn.Softplus()

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x).mean(dim=(2, 3))
        return self.last_act(self.classifier(x * self.gate(x)))


class Recorder(nn.Module):
    """Remembers the sizes of its batches and whether a graph was recorded, copies included."""

    seen: ClassVar[list[list[int]]] = []

    def __init__(self) -> None:
        super().__init__()
        self.fc = nn.Linear(2, 3)

    def forward(self, x: Tensor) -> Tensor:
        y = self.fc(x)
        graph = y.requires_grad or y.grad_fn is not None
        Recorder.seen.append([len(x), int(graph), int(self.training)])
        return y


def conv_net() -> nn.Sequential:
    """Images (B, 2, H, W) to logits (B, 3): two blocks with batch normalisation, and a head."""
    return nn.Sequential(
        nn.Sequential(nn.Conv2d(2, 4, 3, bias=False), nn.BatchNorm2d(4, eps=1e-2), nn.ReLU()),
        nn.Sequential(nn.Conv2d(4, 5, 3, padding=1), nn.BatchNorm2d(5), nn.ReLU(), nn.Dropout(0.5)),
        nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.BatchNorm1d(5), nn.Linear(5, 3)),
    )


def lived(net: nn.Module) -> nn.Module:
    """The net with normalisation layers whose numbers are not those of a start."""
    for module in net.modules():
        if isinstance(module, nn.BatchNorm1d | nn.BatchNorm2d):
            module.running_mean.normal_()
            module.running_var.uniform_(0.3, 3.0)
            module.num_batches_tracked.fill_(17)
            if module.affine:
                nn.init.uniform_(module.weight, 0.5, 2.0)
                nn.init.normal_(module.bias)
    return net


def plain(net: nn.Module) -> dict[str, Tensor]:
    return {name: tensor.detach().clone() for name, tensor in net.state_dict().items()}


# ----------------------------------------------------------------------------------------------
# few_shot_split

ex = few_shot_split = Exercise("few_shot_split", forbids=["sklearn"])


def split_of(student: Any, labels: Tensor, n: int, seed: int) -> list[Tensor]:
    """A probe: both parts, each in ascending order."""
    parts = student.few_shot_split(labels, n, torch.Generator().manual_seed(seed))
    return [*(torch.as_tensor(part).sort().values for part in parts), labels]


def splits_of(student: Any, labels: Tensor, n: int, seeds: int) -> Tensor:
    """A probe: how often each row is drawn, and how often each pair of rows."""
    counts = torch.zeros(len(labels), len(labels))
    for seed in range(seeds):
        support, _ = student.few_shot_split(labels, n, torch.Generator().manual_seed(seed))
        drawn = torch.zeros(len(labels))
        drawn[support] = 1.0
        counts += drawn[:, None] * drawn
    return counts


def global_state(student: Any, labels: Tensor) -> list[Tensor]:
    """A probe: splits by equal generators under unequal global seeds, and what was drawn then."""
    found = []
    for seed in [1, 2]:
        torch.manual_seed(seed)
        parts = student.few_shot_split(labels, 3, torch.Generator().manual_seed(5))
        found += [torch.as_tensor(part).sort().values for part in parts]
    return [*found, torch.rand(3)]


def two_from_one(student: Any, labels: Tensor) -> list[Tensor]:
    """A probe: two splits in a row from one generator."""
    generator = torch.Generator().manual_seed(5)
    both = [student.few_shot_split(labels, 3, generator)[0] for _ in range(2)]
    return [torch.as_tensor(rows).sort().values for rows in both]


@ex.check("n rows of each class, all others in the rest", points=1)
def _(student):
    for classes, n in [
        ([2, 5, 11], 3),
        ([0, 1], 1),
        ([4], 2),
        ([3, 0, 7, 1000], 4),
        ([-3, 0, -1], 2),
    ]:
        sizes = [n + 3 * i + 1 for i in range(len(classes))]
        labels = torch.cat([torch.full((s,), c) for c, s in zip(classes, sizes, strict=True)])
        labels = labels[torch.randperm(len(labels))]
        support, rest, after = student.run(split_of, labels, n, 3)
        expect(after, labels, "labels afterwards")
        for name, part in [("support", support), ("rest", rest)]:
            expect(str(part.dtype), "torch.int64", f"dtype of the {name}")
        want = torch.tensor(sorted(classes)).repeat_interleave(n)
        expect(labels[support].sort().values, want, f"classes drawn, n = {n}")
        every = torch.cat([support, rest]).sort().values
        expect(every, torch.arange(len(labels)), f"support and rest together, n = {n}", dtype=True)


@ex.check("a class with exactly n rows, and one with fewer", points=0.5)
def _(student):
    labels = torch.tensor([3, 1, 3, 1, 1, 3, 1])
    support, rest, _ = student.run(split_of, labels, 3, 0)
    expect(labels[rest], [1], "classes of the rest if class 3 has exactly n rows")
    expect(len(support), 6, "rows of the support if class 3 has exactly n rows")
    support, rest, _ = student.run(split_of, torch.tensor([5, 5, 2, 2]), 2, 0)
    expect(rest, torch.zeros(0, dtype=torch.int64), "rest if all rows are drawn", dtype=True)
    for n in [4, 5]:
        expect(
            student.run(raises_split, labels, n), "ValueError", f"class 3 has three rows, n = {n}"
        )
    for classes in [[0, 0, 0, 0, 0, 1], [1, 1, 0, 1], [0, 2, 2, 1, 0]]:
        got = student.run(raises_split, torch.tensor(classes), 2)
        expect(got, "ValueError", f"labels {classes}, n = 2")


def raises_split(student: Any, labels: Tensor, n: int) -> str | None:
    """A probe: the exception that a split raises."""
    try:
        student.few_shot_split(labels, n, torch.Generator().manual_seed(0))
    except Exception as error:
        return probes.kind_of(error)
    return None


@ex.check("every set of n rows equally likely, each class for itself", points=1)
def _(student):
    labels = torch.tensor([0, 1, 0, 1, 0, 1, 0, 1, 0, 1])
    pairs = student.run(splits_of, labels, 2, 400)
    single = pairs.diagonal() / 400
    expect(single, torch.full((10,), 0.4), "share of the draws that hold a row", rtol=0, atol=0.13)
    mixed = pairs[0::2, 1::2] / 400
    expect(
        mixed, torch.full((5, 5), 0.16), "share that hold two of unequal class", rtol=0, atol=0.1
    )
    for value in [0, 1]:
        within = (pairs[value::2, value::2] / 400)[~torch.eye(5, dtype=torch.bool)]
        expect(
            within, torch.full((20,), 0.1), "share that hold two of one class", rtol=0, atol=0.075
        )
    labels = torch.tensor([1, 0, 1, 1, 0, 1, 1, 1, 0, 1, 1, 1, 1])  # three and ten rows
    single = student.run(splits_of, labels, 2, 400).diagonal() / 400
    want = torch.where(labels == 0, 2 / 3, 0.2)
    expect(single, want, "share that hold a row, classes of unequal size", rtol=0, atol=0.13)


@ex.check("all randomness from the generator", points=0.5)
def _(student):
    labels = torch.arange(60) % 3
    a, b, c, d, after = student.run(global_state, labels)
    expect(c, a, "support for the same generator, another global seed")
    expect(d, b, "rest for the same generator, another global seed")
    torch.manual_seed(2)
    expect(after, torch.rand(3), "the next numbers of the global generator")
    first, second = student.run(two_from_one, labels)
    require(not torch.equal(first, second), "the second split from a generator equals the first")


ex.mistake(
    "the first n rows of each class",
    "Data often come in an order (by writer, by day): draw at random.",
    edit=("rows[torch.randperm(len(rows), generator=generator)[:n]]", "rows[:n]"),
)
ex.mistake(
    "the global generator",
    "Pass the generator on to randperm, or the split cannot be repeated.",
    edit=("torch.randperm(len(rows), generator=generator)", "torch.randperm(len(rows))"),
)
ex.mistake(
    "one draw for several classes or calls",
    "Draw from the generator that is passed, anew for every class and in every call.",
    edit=(
        "generator=generator)[:n]",
        "generator=torch.Generator().manual_seed(generator.initial_seed()))[:n]",
    ),
)
ex.mistake(
    "drawn with replacement",
    "A row that is drawn twice counts once: randperm, not randint.",
    edit=(
        "torch.randperm(len(rows), generator=generator)[:n]",
        "torch.randint(len(rows), (n,), generator=generator)",
    ),
)
ex.mistake(
    "support left in the rest",
    "What one learns from may not be measured with.",
    edit=("(~chosen).nonzero()[:, 0]", "torch.arange(len(labels))"),
)
ex.mistake(
    "a small class is taken whole",
    "A class with fewer than n rows is an error: ValueError.",
    edit=("if len(rows) < n:", "if False:"),
)
ex.mistake(
    "exactly n rows are too few",
    "A class of exactly n rows gives all of them.",
    edit=("if len(rows) < n:", "if len(rows) <= n:"),
)
ex.mistake(
    "rows counted over all classes together",
    "Each class needs n rows of its own: test every class.",
    edit=("if len(rows) < n:", "if len(labels) < n * len(labels.unique()):"),
)
ex.mistake(
    "only the largest class number is tested",
    "Each class needs n rows of its own: test every class.",
    edit=("if len(rows) < n:", "if len(rows) < n and value == labels.max():"),
)
ex.mistake(
    "bincount",
    "bincount wants numbers from 0 on: labels.unique() takes any.",
    edit=("in labels.unique():", "in labels.bincount().nonzero()[:, 0]:"),
)
ex.mistake(
    "row numbers of int32",
    "Row numbers are int64.",
    edit=("support.to(labels.device), rest", "support.int().to(labels.device), rest"),
)
ex.mistake(
    "an empty rest is floating point",
    "torch.tensor([]) is float32: give the dtype.",
    edit=("rest.to(labels.device)", "torch.tensor(rest.tolist(), device=labels.device)"),
)
ex.mistake(
    "classes from 0 on",
    "Class numbers may have gaps: labels.unique() has those that occur.",
    edit=("for value in labels.unique():", "for value in torch.arange(len(labels.unique())):"),
)


ex.mistake(
    "one seed for all classes",
    "Generators of one seed take the same positions in each class: draw anew for every class.",
    edit=[
        (
            "    for value in labels.unique():\n",
            "    seed = int(torch.randint(2**31, (1,), generator=generator))\n"
            "    for value in labels.unique():\n",
        ),
        ("generator=generator)[:n]", "generator=torch.Generator().manual_seed(seed))[:n]"),
    ],
)
ex.mistake(
    "as many rows of each class as the smallest has",
    "Every row of a large class can be drawn, not only the first ones.",
    edit=(
        "torch.randperm(len(rows), generator=generator)",
        "torch.randperm(int(labels.unique(return_counts=True)[1].min()), generator=generator)",
    ),
)
ex.mistake(
    "n rows in a row",
    "Every set of n rows is equally likely, not only neighbours.",
    edit=(
        "torch.randperm(len(rows), generator=generator)[:n]",
        "(torch.randint(len(rows), (1,), generator=generator) + torch.arange(n)) % len(rows)",
    ),
)


@ex.mistake("not stratified", "n rows of each class, not n times K rows of all.")
def _(labels, n, generator):
    order = torch.randperm(len(labels), generator=generator)
    number = n * len(labels.unique())
    if int(labels.unique(return_counts=True)[1].min()) < n:
        raise ValueError("too few")
    return order[:number], order[number:]


@ex.mistake("the same positions in each class", "Draw anew for every class.")
def _(labels, n, generator):
    counts = labels.unique(return_counts=True)[1]
    if int(counts.min()) < n:
        raise ValueError("too few")
    order = torch.randperm(int(counts.min()), generator=generator)[:n]
    support = torch.cat([(labels == c).nonzero()[:, 0][order] for c in labels.unique()])
    rest = torch.ones(len(labels), dtype=torch.bool)
    rest[support] = False
    return support, rest.nonzero()[:, 0]


@ex.mistake("classes instead of rows", "Row numbers are asked for.")
def _(labels, n, generator):
    chosen = torch.zeros(len(labels), dtype=torch.bool)
    for value in labels.unique():
        rows = (labels == value).nonzero()[:, 0]
        if len(rows) < n:
            raise ValueError("too few")
        chosen[rows[torch.randperm(len(rows), generator=generator)[:n]]] = True
    return labels[chosen], labels[~chosen]


@ex.alternative("one shuffle, the first n of each class")
def _(labels, n, generator):
    order = torch.randperm(len(labels), generator=generator).tolist()
    counts = {int(value): 0 for value in labels}
    support, rest = [], []
    for row in order:
        value = int(labels[row])
        (support if counts[value] < n else rest).append(row)
        counts[value] += 1
    if min(counts.values()) < n:
        raise ValueError("a class is too small")
    return torch.tensor(support), torch.tensor(rest, dtype=torch.int64)


@ex.alternative("random keys, sorted by class")
def _(labels, n, generator):
    keys = torch.rand(len(labels), generator=generator, dtype=torch.float64)
    support, rest = [], []
    for value in sorted(set(labels.tolist()), reverse=True):
        rows = torch.where(labels == value)[0]
        if rows.numel() < n:
            raise ValueError(f"class {value}")
        rows = rows[keys[rows].argsort()]
        support.append(rows[:n])
        rest.append(rows[n:])
    return torch.cat(support), torch.cat(rest)


# ----------------------------------------------------------------------------------------------
# freeze

ex = freeze = Exercise("freeze", defines=["select", "freeze", "unfreeze"])


def selected(student: Any, net: nn.Module, *parts: str) -> list[Any]:
    """A probe: the names, the values, and whether the tensors are the net's own."""
    found = student.select(net, *parts)
    own = dict(net.named_parameters())
    return [list(found), [found[n] for n in found], [found[n] is own.get(n) for n in found]]


def names_in(net: nn.Module, *parts: str) -> list[str]:
    """The oracle: by modules, so that prefixes and ties cannot mislead."""
    wanted = set()
    for part in parts:
        owner, _, leaf = part.rpartition(".")
        module = net.get_submodule(owner)
        direct = dict(module.named_parameters(recurse=False, remove_duplicate=False))
        found = [direct[leaf]] if leaf in direct else net.get_submodule(part).parameters()
        wanted |= {id(param) for param in found}
    return [name for name, param in net.named_parameters() if id(param) in wanted]


def switched(student: Any, net: nn.Module, old: list[Tensor], calls: list[list[str]]) -> list[Any]:
    """A probe: what each call of freeze or unfreeze returns, and the state after it."""
    found = []
    for param, grad in zip(net.parameters(), old, strict=True):
        param.grad = grad
    for function, *parts in calls:
        returned = getattr(student, function)(net, *parts)
        grads = [None if p.grad is None else p.grad.clone() for p in net.parameters()]
        modes = [module.training for module in net.modules()]
        found.append([list(returned), [p.requires_grad for p in net.parameters()], grads, modes])
    return found


def want_switched(net: nn.Module, calls: list[list[str]]) -> list[Any]:
    """The oracle of `switched`."""
    own, found = dict(net.named_parameters()), []
    for function, *parts in calls:
        names, on = names_in(net, *parts), function == "unfreeze"
        changed = [name for name in names if own[name].requires_grad != on]
        for name in names:
            own[name].requires_grad_(on)
            if not on:
                own[name].grad = None
        grads = [None if p.grad is None else p.grad.clone() for p in net.parameters()]
        modes = [module.training for module in net.modules()]
        found.append([changed, [p.requires_grad for p in net.parameters()], grads, modes])
    return found


def expect_switches(student: Any, net: nn.Module, calls: list[list[str]]) -> None:
    for param in net.parameters():
        param.grad = torch.randn_like(param)
    old = [param.grad for param in net.parameters()]  # a pickled parameter leaves its gradient
    got = student.run(switched, net, old, calls)
    for call, a, b in zip(calls, got, want_switched(net, calls), strict=True):
        what = f"{call[0]}({', '.join(map(repr, call[1:]))})"
        expect(a[0], b[0], f"what {what} returns")
        expect(a[1], b[1], f"requires_grad after {what}")
        expect(a[3], b[3], f"training modes after {what}")
        for got_grad, want_grad in zip(a[2], b[2], strict=True):
            expect(got_grad, want_grad, f"gradients after {what}")


def raised_by(student: Any, function: str, net: nn.Module, *args: Any) -> str | None:
    """A probe: the exception that a call with a net raises."""
    try:
        getattr(student, function)(net, *args)
    except Exception as error:
        return probes.kind_of(error)
    return None


@ex.check("select: parts by name, at any depth", points=1)
def _(student):
    for parts in [
        *[["layer1"], ["layer10"], ["layer10.layer1"], ["layer1.0.bias"], ["scale"], ["layer1.2"]],
        *[["fc", "layer1.1"], [""], [], ["layer1x", "layer1x.weight"]],
    ]:
        net = Nested()
        names, values, own = student.run(selected, net, *parts)
        want = names_in(net, *parts)
        expect(names, want, f"names in {parts}")
        params = dict(net.named_parameters())
        expect(values, [params[name].detach() for name in want], f"parameters in {parts}")
        expect(own, [True] * len(want), f"the net's own parameters, {parts}")


@ex.check("select: tied parameters", points=1)
def _(student):
    for parts in [["decoder"], ["embed"], ["decoder.weight"], ["embed", "decoder"], ["body"], [""]]:
        net = Tied()
        names, _, own = student.run(selected, net, *parts)
        want = names_in(net, *parts)
        expect(names, want, f"names in {parts}, decoder.weight is embed.weight")
        expect(own, [True] * len(want), f"the net's own parameters, {parts}")
    shared = nn.Linear(2, 2)
    net = nn.Sequential(nn.Linear(2, 2), nn.Sequential(shared), nn.Sequential(nn.Tanh(), shared))
    for parts in [["2"], ["2.1"], ["2.1.bias"], ["1"]]:
        names, _, _ = student.run(selected, net, *parts)
        expect(names, names_in(net, *parts), f"names in {parts}, 2.1 is 1.0")


@ex.check("select: no such part", points=0.5)
def _(student):
    for parts in [["layer"], ["layer1", "blok"], ["layer1.weight"], ["fc.weights"], ["layer10.b"]]:
        got = student.run(raised_by, "select", Nested(), *parts)
        expect(got, "ValueError", f"select of {parts}")
    for part in ["forward", "layer1.0.training", "1.running_mean"]:
        net = nn.Sequential(nn.Linear(2, 2), nn.BatchNorm1d(2)) if part[0] == "1" else Nested()
        got = student.run(raised_by, "select", net, part)
        expect(got, "ValueError", f"select of {part!r}, neither module nor parameter")
    got = student.run(raised_by, "freeze", Nested(), "layer2")
    expect(got, "ValueError", "freeze of a part that is not there")
    got = student.run(raised_by, "unfreeze", Nested(), "layer2")
    expect(got, "ValueError", "unfreeze of a part that is not there")


@ex.check("freeze: requires_grad, gradients, what has changed", points=1)
def _(student):
    calls = [["freeze", "layer1.0.weight"], ["freeze", "layer1", "fc.bias"], ["freeze", "layer1"]]
    expect_switches(student, Nested(), [*calls, ["freeze", ""]])
    expect_switches(student, Tied(), [["freeze", "decoder"], ["freeze", "embed"]])
    net = Nested()
    net.fc.requires_grad_(False)
    expect_switches(student, net, [["freeze", "fc"], ["freeze"]])


@ex.check("unfreeze, and freezing again", points=0.5)
def _(student):
    calls = [["unfreeze", "layer10", "scale"], ["freeze", "layer10.fc"], ["unfreeze", "", "fc"]]
    net = Nested().requires_grad_(False)
    net.scale.requires_grad_(True)
    expect_switches(student, net, calls)
    expect_switches(student, Tied().requires_grad_(False), [["unfreeze", "decoder"]])


ex.mistake(
    "names that begin alike",
    "`layer1` must not catch `layer10`: a name belongs to a part if the part is a module above it.",
    replaces="select",
    edit=(
        """    chosen: set[nn.Parameter] = set()
    for part in parts:
        if part in modules:
            chosen.update(modules[part].parameters())
        elif part in names:
            chosen.add(names[part])
        else:
            raise ValueError(f"the net has no part {part!r}")
""",
        """    chosen = set()
    for part in parts:
        if part not in modules and part not in names:
            raise ValueError(f"the net has no part {part!r}")
        chosen.update(p for name, p in names.items() if name.startswith(part))
""",
    ),
)


@ex.mistake(
    "any attribute passes for a part",
    "A method or a buffer is no part: look the name up among the modules and the parameters.",
    replaces="select",
)
def _(model, *parts):
    chosen = set()
    for part in parts:
        found = [
            param
            for name, param in model.named_parameters(remove_duplicate=False)
            if part in ("", name) or name.startswith(part + ".")
        ]
        chosen.update(found)
        if not found:
            target = model
            for step in part.split("."):
                if not hasattr(target, step):
                    raise ValueError(part)
                target = getattr(target, step)
    return {name: param for name, param in model.named_parameters() if param in chosen}


@ex.mistake(
    "names that contain the part",
    "A part is a way from the top: `fc` is not in `head.fc2.weight`.",
    replaces="select",
)
def _(model, *parts):
    modules = dict(model.named_modules(remove_duplicate=False))
    names = dict(model.named_parameters(remove_duplicate=False))
    for part in parts:
        if part not in modules and part not in names:
            raise ValueError(part)
    chosen = {p for part in parts for name, p in names.items() if part in name}
    return {name: p for name, p in model.named_parameters() if p in chosen}


@ex.mistake(
    "tied parameters under their first name only",
    "named_parameters() leaves out second names; a tied weight belongs to both parts.",
    replaces="select",
)
def _(model, *parts):
    modules = dict(model.named_modules(remove_duplicate=False))
    every = dict(model.named_parameters(remove_duplicate=False))
    for part in parts:
        if part not in modules and part not in every:
            raise ValueError(part)
    return {
        name: p
        for name, p in model.named_parameters()
        if any(part in ("", name) or name.startswith(part + ".") for part in parts)
    }


ex.mistake(
    "tied parameters twice",
    "A tied parameter is one parameter and stands under its first name, once.",
    edit=(
        "{name: param for name, param in model.named_parameters() if param in chosen}",
        "{name: param for name, param in names.items() if param in chosen}",
    ),
)
ex.mistake(
    "an unknown part selects nothing",
    "A typing error would freeze nothing and say nothing: raise ValueError.",
    edit=('raise ValueError(f"the net has no part {part!r}")', "pass"),
)
ex.mistake(
    "another exception",
    "ValueError is asked for.",
    edit=("raise ValueError(", "raise KeyError("),
)
ex.mistake(
    "a parameter is no part",
    "A part may be a single parameter as well.",
    edit=("elif part in names:\n            chosen.add(names[part])\n        ", ""),
)
ex.mistake(
    "only the layers just below",
    "Modules hold modules: take parameters at any depth.",
    edit=("modules[part].parameters()", "modules[part].parameters(recurse=False)"),
)


@ex.mistake(
    "in the order of the parts", "The order is that of named_parameters().", replaces="select"
)
def _(model, *parts):
    first = {p: name for name, p in model.named_parameters()}
    modules = dict(model.named_modules(remove_duplicate=False))
    names = dict(model.named_parameters(remove_duplicate=False))
    found = {}
    for part in parts:
        if part not in modules and part not in names:
            raise ValueError(part)
        for p in modules[part].parameters() if part in modules else [names[part]]:
            found[first[p]] = p
    return found


ex.mistake(
    "an old gradient is left",
    "An optimiser that holds the parameter would take one more step with it: set .grad to None.",
    edit=("        param.grad = None\n", ""),
)
ex.mistake(
    "the gradient is set to zero",
    "Momentum and weight decay move a parameter whose gradient is zero; None makes it skipped.",
    edit=("param.grad = None", "param.grad = torch.zeros_like(param)"),
)
ex.mistake(
    "freeze calls eval()",
    "requires_grad and .grad are all that freeze changes; the mode is another matter (part 3).",
    edit=("        param.grad = None\n", "        param.grad = None\n        model.eval()\n"),
)
ex.mistake(
    "freeze returns all selected names",
    "Only what has changed is returned.",
    edit=(
        "        if param.requires_grad:\n            changed.append(name)",
        "        changed.append(name)",
    ),
)
ex.mistake(
    "unfreeze returns all selected names",
    "Only what has changed is returned.",
    edit=(" if not p.requires_grad]", "]"),
)
ex.mistake(
    "unfreeze drops gradients",
    "unfreeze leaves .grad alone.",
    edit=(
        "        param.requires_grad = True",
        "        param.requires_grad, param.grad = True, None",
    ),
)


@ex.mistake(
    "freezes all the rest too", "Parts that are not named stay as they are.", replaces="freeze"
)
def _(model, *parts):
    inside = select(model, *parts)
    changed = [name for name, p in inside.items() if p.requires_grad]
    for name, p in model.named_parameters():
        p.requires_grad = name not in inside
        if name in inside:
            p.grad = None
    return changed


@ex.alternative("get_submodule, by identity", replaces="select")
def _(model, *parts):
    wanted = set()
    for part in parts:
        try:
            wanted |= {id(p) for p in model.get_submodule(part).parameters()}
        except AttributeError:
            try:
                wanted.add(id(model.get_parameter(part)))
            except AttributeError:
                raise ValueError(part) from None
    return {name: p for name, p in model.named_parameters() if id(p) in wanted}


@ex.alternative("prefixes with a dot over all names", replaces="select")
def _(model, *parts):
    every = list(model.named_parameters(remove_duplicate=False))
    known = {name for name, _ in every}
    known |= {name for name, _ in model.named_modules(remove_duplicate=False)}
    chosen = []
    for part in parts:
        if part not in known:
            raise ValueError(part)
        for name, p in every:
            if part == "" or name == part or name.startswith(f"{part}."):
                chosen.append(p)
    result = {}
    for name, p in model.named_parameters():
        for other in chosen:
            if other is p:
                result[name] = p
    return result


@ex.alternative("requires_grad_ in a loop", replaces="freeze")
def _(model, *parts):
    found = select(model, *parts)
    changed = [name for name in found if found[name].requires_grad]
    for p in found.values():
        p.requires_grad_(False)
        p.grad = None
    return changed


# ----------------------------------------------------------------------------------------------
# replace_head

ex = replace_head = Exercise("replace_head")


def with_new_head(student: Any, net: nn.Module, number: int, inputs: Tensor) -> dict[str, Any]:
    """A probe: what is in the net afterwards, which objects stayed, and the old tensors."""
    modules, params = dict(net.named_modules()), dict(net.named_parameters())
    name = student.replace_head(net, number)
    head = net.get_submodule(name) if isinstance(name, str) else None
    after = dict(net.named_modules())
    modes = [module.training for other, module in after.items() if other != name]
    head_mode = getattr(head, "training", None)
    return {
        "output": net.eval()(inputs),
        "name": name,
        "state": plain(net),
        "dtypes": [str(p.dtype) for p in net.parameters()],
        "modules kept": [other for other in modules if after.get(other) is modules[other]],
        "names": list(after),
        "params kept": [n for n, p in net.named_parameters() if params.get(n) is p],
        "trainable": [n for n, p in net.named_parameters() if p.requires_grad],
        "old": {n: p.detach().clone() for n, p in params.items()},
        "old shapes": [list(p.shape) for p in params.values()],
        "modes": modes,
        "head's mode": head_mode,
        "sizes": [getattr(head, "in_features", None), getattr(head, "out_features", None)],
    }


def expect_new_head(student: Any, net: nn.Module, head: str, number: int, inputs: Tensor) -> None:
    old = net.get_submodule(head)
    before = {name: p.detach().clone() for name, p in net.named_parameters()}
    got = student.run(with_new_head, net, number, inputs)
    expect(got["name"], head, "name of the head")
    expect(got["sizes"], [old.in_features, number], "in_features and out_features of the new head")
    expect(list(got["output"].shape), [len(inputs), number], "shape of the output")
    own = [n for n, _ in net.named_parameters() if not n.startswith(head + ".")]
    expect(got["params kept"], own, "parameters that are the same objects as before")
    modules = [name for name, _ in net.named_modules()]
    expect(got["names"], modules, "names of all modules")
    expect(got["modules kept"], [n for n in modules if n != head], "modules that stayed")
    modes = [module.training for name, module in net.named_modules() if name != head]
    expect(got["modes"], modes, "training modes of the other modules")
    expect(got["head's mode"], True, "training mode of the new head")
    expect(got["old"], before, "all old tensors afterwards")
    state = got["state"]
    expect(list(state[f"{head}.weight"].shape), [number, old.in_features], "shape of the weight")
    expect(f"{head}.bias" in state, old.bias is not None, "whether there is a bias")
    trainable = [n for n, p in net.named_parameters() if p.requires_grad or n.startswith(head)]
    if f"{head}.weight" in [n for n, _ in net.named_parameters()]:
        expect(got["trainable"], trainable, "trainable parameters")
    else:
        require(f"{head}.weight" in got["trainable"], "the new weight is not trainable")


def two_heads(student: Any, net: nn.Module) -> list[Tensor]:
    """A probe: the weights of two heads, one made after the other."""
    found = []
    for _ in range(2):
        head = net.get_submodule(student.replace_head(net, 4))
        found.append(head.weight.detach().clone())
    return found


@ex.check("the last linear layer of nets of several kinds", points=1)
def _(student):
    expect_new_head(student, Nested(), "fc", 4, torch.randn(2, 4))
    expect_new_head(student, conv_net(), "2.3", 6, torch.randn(3, 2, 6, 5))
    expect_new_head(student, Branched(), "classifier.1.0", 2, torch.randn(2, 2, 4, 3))
    net = nn.Sequential(nn.Linear(3, 5, bias=False), nn.Linear(5, 4), nn.ReLU())
    expect_new_head(student, net, "1", 4, torch.randn(1, 3))


@ex.check("tied and frozen weights", points=1)
def _(student):
    expect_new_head(student, Tied(), "decoder", 5, torch.tensor([[1, 2], [3, 6]])[:, 0])
    expect_new_head(student, Tied(), "decoder", 7, torch.tensor([4]))
    expect_new_head(student, Nested().requires_grad_(False), "fc", 3, torch.randn(2, 4))
    net = Branched().eval()
    net.gate.train()
    expect_new_head(student, net, "classifier.1.0", 4, torch.randn(2, 2, 3, 4))
    net = Nested()
    net.fc.eval()
    expect_new_head(student, net, "fc", 2, torch.randn(2, 4))


@ex.check("dtype, and torch's initialisation", points=0.5)
def _(student):
    net = nn.Sequential(nn.Linear(4, 100), nn.Tanh(), nn.Linear(100, 3)).double()
    net[2].weight.data.fill_(9.0)
    got = student.run(with_new_head, net, 80, torch.randn(2, 4).double())
    expect(got["dtypes"], ["torch.float64"] * 4, "dtypes")
    weight, bias = got["state"]["2.weight"], got["state"]["2.bias"]
    for name, values in [("weight", weight), ("bias", bias)]:
        require(bool((values.abs() <= 0.1).all()), f"new {name}: an entry above 1/sqrt(100)")
    expect(weight.std(), 0.1 / 3**0.5, "deviation of the new weight", rtol=0.1)
    expect(bias.std(), 0.1 / 3**0.5, "deviation of the new bias", rtol=0.4)
    first, second = student.run(two_heads, nn.Sequential(nn.Linear(5, 3)))
    require(not torch.equal(first, second), "a second head has the weights of the first")


@ex.check("no linear layer", points=0.5)
def _(student):
    net = nn.Sequential(nn.Conv2d(1, 2, 1), nn.Sequential(nn.ReLU(), nn.Bilinear(2, 2, 2)))
    expect(student.run(raised_by, "replace_head", net, 3), "ValueError", "a net without nn.Linear")
    expect_new_head(student, nn.Sequential(nn.Linear(2, 2)), "0", 5, torch.randn(3, 2))


ex.mistake(
    "not the last linear layer",
    "The head is the last linear layer in the order of named_modules().",
    edit=[
        ("names[-1])\n    fresh", "names[0])\n    fresh"),
        ("(names[-1], fresh", "(names[0], fresh"),
        ("return names[-1]", "return names[0]"),
    ],
)
ex.mistake(
    "always a bias",
    "A head without bias gets a head without bias.",
    edit=(", bias=head.bias is not None", ""),
)
ex.mistake(
    "never a bias",
    "A head with bias gets a head with bias.",
    edit=("bias=head.bias is not None", "bias=False"),
)
ex.mistake(
    "float32 in a float64 net",
    "The new layer follows the old one's device and dtype.",
    edit=("fresh.to(head.weight.device, head.weight.dtype)", "fresh"),
)
ex.mistake(
    "in and out exchanged",
    "nn.Linear(in_features, out_features).",
    edit=("nn.Linear(head.in_features, num_classes", "nn.Linear(num_classes, head.in_features"),
)
ex.mistake(
    "a head on top of the head",
    "The old layer goes: replace it, do not add to it.",
    edit=(
        "model.set_submodule(names[-1], fresh.to(",
        "fresh = nn.Linear(head.out_features, num_classes)\n"
        "    model.set_submodule(names[-1], nn.Sequential(head, fresh).to(",
    ),
)
ex.mistake(
    "the new head is frozen",
    "A new head has to learn, whatever the old one did.",
    edit=(
        "    model.set_submodule(names[-1], fresh.to(head.weight.device, head.weight.dtype))",
        "    fresh.requires_grad_(head.weight.requires_grad)\n"
        "    model.set_submodule(names[-1], fresh.to(head.weight.device, head.weight.dtype))",
    ),
)
ex.mistake(
    "a net without linear layer passes",
    "Raise ValueError: nobody would notice that nothing was replaced.",
    edit=('raise ValueError("the net has no linear layer")', 'return ""'),
)
ex.mistake(
    "all zeros",
    "torch's default initialisation is asked for.",
    edit=(
        "    return names[-1]",
        "    for p in model.get_submodule(names[-1]).parameters():\n"
        "        nn.init.zeros_(p)\n    return names[-1]",
    ),
)


ex.mistake(
    "calls eval()",
    "Everything but the head stays as it is, the modes included.",
    edit=("    return names[-1]", "    model.eval()\n    return names[-1]"),
)


ex.mistake(
    "train() on the whole net",
    "Everything but the head stays as it is, the modes included.",
    edit=("    return names[-1]", "    model.train()\n    return names[-1]"),
)
ex.mistake(
    "the new head in the old one's mode",
    "A fresh layer is in training mode, whatever the old one was.",
    edit=("fresh.to(", "fresh.train(head.training).to("),
)
ex.mistake(
    "the same numbers in every call",
    "A head starts from new random numbers: no seed inside.",
    edit=("    fresh = nn.Linear(", "    torch.manual_seed(0)\n    fresh = nn.Linear("),
)


@ex.mistake(
    "set under a dotted name", "setattr needs the module that holds the layer, not the net."
)
def _(model, num_classes):
    names = [name for name, module in model.named_modules() if isinstance(module, nn.Linear)]
    if not names:
        raise ValueError("no linear layer")
    head = model.get_submodule(names[-1])
    fresh = nn.Linear(head.in_features, num_classes, bias=head.bias is not None)
    model._modules[names[-1]] = fresh.to(head.weight)
    return names[-1]


@ex.mistake("only at the top level", "The head may be nested: look through named_modules().")
def _(model, num_classes):
    names = [name for name, module in model.named_children() if isinstance(module, nn.Linear)]
    if not names:
        raise ValueError("no linear layer")
    head = getattr(model, names[-1])
    fresh = nn.Linear(head.in_features, num_classes, bias=head.bias is not None)
    setattr(model, names[-1], fresh.to(head.weight))
    return names[-1]


@ex.mistake("the old layer is changed in place", "Its tensors may be tied: make a new nn.Linear.")
def _(model, num_classes):
    names = [name for name, module in model.named_modules() if isinstance(module, nn.Linear)]
    if not names:
        raise ValueError("no linear layer")
    head = model.get_submodule(names[-1])
    fresh = nn.Linear(head.in_features, num_classes, bias=head.bias is not None).to(head.weight)
    head.weight.data = fresh.weight.data
    if head.bias is not None:
        head.bias.data = fresh.bias.data
    head.requires_grad_(True)
    head.out_features = num_classes
    return names[-1]


@ex.alternative("setattr on the parent")
def _(model, num_classes):
    last = None
    for name, module in model.named_modules():
        if isinstance(module, nn.Linear):
            last = name, module
    if last is None:
        raise ValueError("no linear layer")
    name, old = last
    parent, _, leaf = name.rpartition(".")
    new = nn.Linear(
        old.in_features,
        num_classes,
        bias=old.bias is not None,
        device=old.weight.device,
        dtype=old.weight.dtype,
    )
    setattr(model.get_submodule(parent), leaf, new)
    return name


@ex.alternative("a recursion from the end")
def _(model, num_classes):
    def visit(module, path):
        for name, child in reversed(list(module.named_children())):
            found = visit(child, [*path, name])
            if found:
                return found
            if isinstance(child, nn.Linear):
                new = nn.Linear(child.in_features, num_classes, child.bias is not None)
                module._modules[name] = new.to(child.weight)
                return ".".join([*path, name])
        return None

    found = visit(model, [])
    if found is None:
        raise ValueError("no linear layer")
    return found


# ----------------------------------------------------------------------------------------------
# load_matching

ex = load_matching = Exercise("load_matching", forbids=[])
KINDS = ["loaded", "mismatched", "missing", "unexpected"]


def loaded(student: Any, net: nn.Module, state: dict[str, Tensor]) -> dict[str, Any]:
    """A probe: the report, all tensors, and whether they are the same objects as before."""
    params, buffers = dict(net.named_parameters()), dict(net.named_buffers())
    frozen = [name for name, p in params.items() if not p.requires_grad]
    report = student.load_matching(net, state)
    after = {**dict(net.named_parameters()), **dict(net.named_buffers())}
    before = {**params, **buffers}
    found = {
        "report": {kind: list(report[kind]) for kind in KINDS},
        "state": plain(net),
        "same": {name: after.get(name) is tensor for name, tensor in before.items()},
        "held": {name: tensor.detach().clone() for name, tensor in before.items()},
        "frozen": [[n for n, p in net.named_parameters() if not p.requires_grad], frozen],
        "given": {name: tensor.clone() for name, tensor in state.items()},
    }
    for tensor in state.values():  # whoever keeps the caller's tensors changes with them
        tensor.zero_()
    found["later"] = plain(net)
    return found


def want_loaded(net: nn.Module, state: dict[str, Tensor]) -> tuple[dict, dict]:
    """The oracle: the report and the state afterwards."""
    after, report = plain(net), {kind: [] for kind in KINDS}
    for name in after:
        if name not in state:
            report["missing"].append(name)
        elif list(state[name].shape) != list(after[name].shape):
            report["mismatched"].append(name)
        else:
            report["loaded"].append(name)
            after[name] = state[name].detach().to(after[name].dtype).clone()
    report["unexpected"] = [name for name in state if name not in after]
    return report, after


def expect_loaded(student: Any, net: nn.Module, state: dict[str, Tensor]) -> None:
    report, after = want_loaded(net, state)
    got = student.run(loaded, net, state)
    for kind in KINDS:
        expect(got["report"][kind], report[kind], kind)
    expect(got["state"], after, "all tensors of the net", rtol=0, atol=0, dtype=True)
    expect(got["same"], dict.fromkeys(got["same"], True), "tensors that are the same objects")
    expect(got["held"], {n: after[n] for n in got["held"]}, "tensors that an optimiser holds")
    expect(got["frozen"][0], got["frozen"][1], "frozen parameters")
    expect(got["given"], state, "the state that was passed", dtype=True)
    expect(got["later"], after, "the net after the state's tensors were changed")


@ex.check("another head, a layer less, a layer more", points=1)
def _(student):
    state = plain(lived(Nested()))
    state["fc.weight"] = torch.randn(8, 5)
    state["fc.bias"] = torch.randn(8)
    state["extra.weight"] = torch.randn(2)
    del state["layer10.fc.weight"], state["scale"]
    state = dict(reversed(state.items()))
    state["another"] = torch.randn(3)
    expect_loaded(student, Nested(), state)


@ex.check("buffers, and shapes that could be broadcast or reshaped", points=1)
def _(student):
    state = plain(lived(conv_net()))
    state["0.0.weight"] = torch.randn(4, 2, 1, 1)
    state["1.0.bias"] = torch.randn(1)
    state["0.1.running_mean"] = torch.randn(1, 4)
    state["2.3.weight"] = torch.randn(5, 3)
    state["1.1.num_batches_tracked"] = torch.tensor([5])
    state["2.2.running_var"] = torch.tensor(2.0)
    expect_loaded(student, conv_net(), state)


@ex.check("dtypes, frozen and tied parameters", points=0.5)
def _(student):
    net = Nested()
    net.layer1.requires_grad_(False)
    expect_loaded(student, net, {n: t.double() for n, t in plain(lived(Nested())).items()})
    expect_loaded(student, Tied().double(), plain(Tied()))
    state = {n: t / 3 for n, t in plain(Tied().double()).items()}
    state["embed.weight"] = state["decoder.weight"] = torch.randn(7, 4).double()
    expect_loaded(student, Tied().double(), state)


@ex.check("everything fits, or nothing does", points=0.5)
def _(student):
    expect_loaded(student, conv_net(), plain(lived(conv_net())))
    expect_loaded(student, lived(conv_net()), {})
    expect_loaded(student, Nested(), {"module." + n: t for n, t in plain(Nested()).items()})


ex.mistake(
    "broadcasts",
    "copy_ stretches (1, 2) over (3, 2) without a word: compare the shapes.",
    edit=("state[name].shape != tensor.shape", "state[name].numel() > tensor.numel()"),
)
ex.mistake(
    "reshapes what has as many numbers",
    "A (2, 3) is no (3, 2): compare the shapes, not the number of elements.",
    edit=[
        ("state[name].shape != tensor.shape", "state[name].numel() != tensor.numel()"),
        ("tensor.copy_(state[name])", "tensor.copy_(state[name].reshape(tensor.shape))"),
    ],
)
ex.mistake(
    "parameters only",
    "The running statistics are buffers and belong to the trained net: use state_dict().",
    edit=(
        "own = model.state_dict()",
        "own = {name: p.data for name, p in model.named_parameters(remove_duplicate=False)}",
    ),
)
ex.mistake(
    "mismatched counts as missing",
    "A name that is there with another shape is mismatched.",
    edit=('report["mismatched"].append(name)', 'report["missing"].append(name)'),
)
ex.mistake(
    "mismatched counts as missing and unexpected",
    "A name that both have is neither missing nor unexpected, whatever its shape.",
    edit=(
        "[name for name in state if name not in own]}",
        '[name for name in state if name not in report["loaded"]]}',
    ),
)
ex.mistake(
    "reports and does not load",
    "Copy the values into the model's tensors.",
    edit=("            tensor.copy_(state[name])\n", ""),
)
ex.mistake(
    "copies the wrong way",
    "The model's tensor is written to, the state's is read.",
    edit=("tensor.copy_(state[name])", "state[name].copy_(tensor)"),
)
ex.mistake(
    "unexpected left empty",
    "What the state has and the net has not is unexpected.",
    edit=("[name for name in state if name not in own]", "[]"),
)
ex.mistake(
    "sorted by name",
    "The order is that of the state dicts.",
    edit=("in own.items():", "in sorted(own.items(), key=lambda item: item[0]):"),
)
ex.mistake(
    "stops at the first misfit",
    "Go on with the other names.",
    edit=(
        '            report["mismatched"].append(name)',
        '            report["mismatched"].append(name)\n            break',
    ),
)


ex.mistake(
    "through float32",
    "copy_ converts by itself: a float64 net gets the state's float64 numbers.",
    edit=("tensor.copy_(state[name])", "tensor.copy_(state[name].float())"),
)


@ex.mistake("new parameters", "Copy into the tensors that are there: an optimiser holds them.")
def _(model, state):
    own = model.state_dict()
    report = {"loaded": [], "mismatched": [], "missing": []}
    for name, tensor in own.items():
        if name not in state:
            report["missing"].append(name)
        elif state[name].shape != tensor.shape:
            report["mismatched"].append(name)
        else:
            owner, _, leaf = name.rpartition(".")
            module = model.get_submodule(owner)
            value = state[name].clone().to(tensor)
            if leaf in module._parameters:
                value = nn.Parameter(value, requires_grad=getattr(module, leaf).requires_grad)
            setattr(module, leaf, value)
            report["loaded"].append(name)
    return {**report, "unexpected": [name for name in state if name not in own]}


@ex.mistake(
    "net and state share their tensors", "Copy the values: neither may hold the other's tensors."
)
def _(model, state):
    own = model.state_dict(keep_vars=True)
    report = {"loaded": [], "mismatched": [], "missing": []}
    for name, tensor in own.items():
        if name not in state:
            report["missing"].append(name)
        elif state[name].shape != tensor.shape:
            report["mismatched"].append(name)
        else:
            tensor.data = state[name]
            report["loaded"].append(name)
    return {**report, "unexpected": [name for name in state if name not in own]}


@ex.alternative("load_state_dict with what fits")
def _(model, state):
    own = model.state_dict()
    fits = {n: t for n, t in state.items() if n in own and own[n].shape == t.shape}
    model.load_state_dict(fits, strict=False)
    return {
        "unexpected": [n for n in state if n not in own],
        "missing": [n for n in own if n not in state],
        "mismatched": [n for n in own if n in state and n not in fits],
        "loaded": [n for n in own if n in fits],
    }


@ex.alternative("through named parameters and buffers")
def _(model, state):
    own = {**dict(model.named_parameters(remove_duplicate=False)), **dict(model.named_buffers())}
    report = {kind: [] for kind in ["loaded", "mismatched", "missing", "unexpected"]}
    with torch.no_grad():
        for name in model.state_dict():
            if name in state and tuple(state[name].shape) == tuple(own[name].shape):
                own[name][...] = state[name].to(own[name].dtype)
                report["loaded"].append(name)
            else:
                report["mismatched" if name in state else "missing"].append(name)
    report["unexpected"] += [name for name in state if name not in own]
    return report


# ----------------------------------------------------------------------------------------------
# features

ex = features = Exercise("features")


def looked(student: Any, net: nn.Module, x: Tensor, *sizes: int) -> dict[str, Any]:
    """A probe: the table, and everything that a call could leave behind."""
    for param in net.parameters():
        param.grad = torch.ones_like(param)
    table = student.features(net, x, *sizes)
    return {
        "table": table,
        "dtype": str(table.dtype),
        "requires_grad": table.requires_grad,
        "state": plain(net),
        "grads": [param.grad for param in net.parameters()],
        "flags": [param.requires_grad for param in net.parameters()],
        "modes": [module.training for module in net.modules()],
        "enabled": torch.is_grad_enabled(),
        "x": x,
    }


def recorded(student: Any, rows: int, *sizes: int) -> list[list[int]]:
    """A probe: size, whether a graph was recorded, and training mode of each call."""
    Recorder.seen.clear()
    student.features(Recorder(), torch.zeros(rows, 2), *sizes)
    return list(Recorder.seen)


def without_recording(student: Any, x: Tensor) -> bool:
    """A probe: whether torch records after a call where it did not before."""
    with torch.no_grad():
        student.features(Recorder(), x)
        return torch.is_grad_enabled()


def changed_between(student: Any, net: nn.Module, x: Tensor) -> list[Tensor]:
    """A probe: two tables of the same inputs; the weights change in between."""
    first = student.features(net, x, 2)
    for param in net.parameters():
        param.data.mul_(2.0)
    return [first, student.features(net, x, 2)]


def expect_features(student: Any, net: nn.Module, x: Tensor, size: int) -> None:
    state, flags = plain(net), [param.requires_grad for param in net.parameters()]
    modes, shapes = [m.training for m in net.modules()], [p.shape for p in net.parameters()]
    got = student.run(looked, net, x, size)
    with torch.no_grad():
        want = copy.deepcopy(net).eval()(x)
    expect(got["table"], want, f"features, {len(x)} rows in batches of {size}", atol=1e-5)
    expect(got["dtype"], str(want.dtype), "dtype of the features")
    expect(got["requires_grad"], False, "whether the features require gradients")
    expect(got["state"], state, "parameters and buffers afterwards")
    expect(got["modes"], modes, "training modes of all modules afterwards")
    expect(got["flags"], flags, "requires_grad of the parameters afterwards")
    expect(got["grads"], [torch.ones(s) for s in shapes], "gradients afterwards")
    expect(got["enabled"], True, "whether gradients are recorded afterwards")
    expect(got["x"], x, "the inputs afterwards")


@ex.check("values of nets with batch normalisation and dropout", points=1)
def _(student):
    expect_features(student, lived(conv_net()), torch.randn(7, 2, 6, 5), 3)
    expect_features(student, lived(Nested()).double(), torch.randn(5, 4).double(), 2)
    expect_features(student, lived(conv_net()), torch.randn(1, 2, 5, 6), 4)
    net, x = nn.Sequential(nn.Linear(3, 4), nn.Tanh()), torch.randn(4, 3)
    first, second = student.run(changed_between, net, x)
    with torch.no_grad():
        expect(first, net(x), "features before the weights change", atol=1e-5)
        for param in net.parameters():
            param.data.mul_(2.0)
        expect(second, net(x), "features after the weights have changed", atol=1e-5)


@ex.check("modes, one by one", points=1)
def _(student):
    net = lived(conv_net())
    net[1].eval()
    net[2].requires_grad_(False)
    expect_features(student, net, torch.randn(4, 2, 5, 5), 4)
    net = lived(conv_net()).eval()
    net[1][3].train()
    expect_features(student, net, torch.randn(3, 2, 5, 5), 2)
    expect_features(student, lived(Nested()).eval(), torch.randn(3, 4), 9)


@ex.check("batches, without recording gradients", points=0.5)
def _(student):
    for rows, size in [(7, 3), (8, 4), (3, 10), (2, 1), (41, 2)]:
        seen = student.run(recorded, rows, size)
        sizes = [call[0] for call in seen]
        require(sum(sizes) >= rows, f"fewer than {rows} rows pass through the net", got=sizes)
        require(max(sizes, default=0) <= size, f"more than {size} rows at a time", got=sizes)
        require(min(sizes, default=1) > 0, "the net is called without any row", got=sizes)
        require(not any(call[1] for call in seen), "a graph is recorded in the forward pass")
        require(not any(call[2] for call in seen), "the net is in training mode")
    sizes = [call[0] for call in student.run(recorded, 300)]
    require(max(sizes, default=0) <= 256, "more than 256 rows at a time by default", got=sizes)
    got = student.run(without_recording, torch.zeros(3, 2))
    expect(got, False, "whether torch records after a call under no_grad()")


ex.mistake(
    "training mode",
    "Dropout and the batch's statistics do not belong into features: call eval().",
    edit=("    backbone.eval()\n", ""),
)
ex.mistake(
    "gradients are recorded",
    "Without torch.no_grad() the whole graph is kept.",
    edit=(
        "    with torch.no_grad():\n        outputs = [backbone(rows) for",
        "    outputs = [backbone(rows) for",
    ),
)
ex.mistake(
    "detached afterwards",
    "detach() comes too late: the graph of each batch was built. Use no_grad().",
    edit=(
        "    with torch.no_grad():\n        outputs = [backbone(rows) for",
        "    outputs = [backbone(rows).detach() for",
    ),
)
ex.mistake(
    "left in evaluation mode",
    "Afterwards every module has the mode that it had.",
    edit=("    for module, was in training.items():\n        module.training = was\n", ""),
)
ex.mistake(
    "train() at the end",
    "Not all modules were in training mode before.",
    edit=(
        "    for module, was in training.items():\n        module.training = was\n",
        "    backbone.train()\n",
    ),
)
ex.mistake(
    "the mode of the whole for every module",
    "Modes may differ inside a net: remember each module's own.",
    edit=(
        "    for module, was in training.items():\n        module.training = was\n",
        "    backbone.train(training[backbone])\n",
    ),
)
ex.mistake(
    "all rows at once",
    "At most batch_size rows at a time.",
    edit=("x.split(batch_size)", "[x]"),
)
ex.mistake(
    "the last, smaller batch is dropped",
    "Every row has features: keep the rest.",
    edit=(
        "x.split(batch_size)",
        "x[: max(1, len(x) // batch_size * batch_size)].split(batch_size)",
    ),
)
ex.mistake(
    "parameters are frozen on the way",
    "no_grad() is enough: leave requires_grad alone.",
    edit=("    backbone.eval()\n", "    backbone.eval().requires_grad_(False)\n"),
)
ex.mistake(
    "gradients are thrown away",
    "Somebody may still need them: leave .grad alone.",
    edit=("    backbone.eval()\n", "    backbone.eval().zero_grad()\n"),
)
ex.mistake(
    "gradients stay switched off",
    "set_grad_enabled(False) holds for all that follows: use the context manager.",
    edit=(
        "    with torch.no_grad():\n        outputs",
        "    torch.set_grad_enabled(False)\n    if True:\n        outputs",
    ),
)
ex.mistake(
    "all that is left at once",
    "At most batch_size rows at a time, also after the first few batches.",
    edit=(
        "x.split(batch_size)",
        "[r for r in [*x[: 4 * batch_size].split(batch_size), x[4 * batch_size :]] if len(r)]",
    ),
)


ex.mistake(
    "one more call with no rows",
    "If N is a multiple of batch_size there is no rest: a net need not take zero rows.",
    edit=(
        "in x.split(batch_size)]",
        "in [*x.split(batch_size), x[len(x) // batch_size * batch_size :]]]",
    ),
)
ex.mistake(
    "recording switched on afterwards",
    "The caller may be under no_grad() too: use the context manager, which restores what was.",
    edit=(
        "    with torch.no_grad():\n"
        "        outputs = [backbone(rows) for rows in x.split(batch_size)]\n",
        "    torch.set_grad_enabled(False)\n"
        "    outputs = [backbone(rows) for rows in x.split(batch_size)]\n"
        "    torch.set_grad_enabled(True)\n",
    ),
)
ex.mistake(
    "eval() for the layers only",
    "A module that holds others may ask for its own mode: eval() on the whole net.",
    edit=(
        "    backbone.eval()\n",
        "    for module in backbone.modules():\n"
        "        module.training = module.training and any(True for _ in module.children())\n",
    ),
)


@ex.mistake(
    "the table of the first call",
    "Nothing may be kept between calls: the weights may have changed.",
)
def _(backbone, x, batch_size=256):
    known = globals().setdefault("TABLES", {})
    if (id(backbone), id(x)) not in known:
        modes = [(m, m.training) for m in backbone.modules()]
        backbone.eval()
        with torch.no_grad():
            known[id(backbone), id(x)] = torch.cat([backbone(r) for r in x.split(batch_size)])
        for m, mode in modes:
            m.training = mode
    return known[id(backbone), id(x)]


@ex.alternative("a frozen copy, without no_grad")
def _(backbone, x, batch_size=256):
    look = copy.deepcopy(backbone).eval().requires_grad_(False)
    return torch.vstack([look(part) for part in x.detach().split(batch_size)])


@ex.alternative("flags off and on again")
def _(backbone, x, batch_size=256):
    flags = [(p, p.requires_grad) for p in backbone.parameters()]
    modes = [(m, m.training) for m in backbone.modules()]
    for p, _ in flags:
        p.requires_grad_(False)
    backbone.eval()
    try:
        return torch.cat([backbone(part) for part in x.detach().split(batch_size)])
    finally:
        for m, mode in modes:
            m.training = mode
        for p, flag in flags:
            p.requires_grad_(flag)


@ex.alternative("smaller batches than allowed, from the end")
def _(backbone, x, batch_size=256):
    trained = {name for name, m in backbone.named_modules() if m.training}
    table, start = None, len(x)
    with torch.inference_mode():
        backbone.eval()
        while start > 0:
            stop, start = start, max(0, start - max(1, batch_size // 2))
            part = backbone(x[start:stop].clone())
            if table is None:
                table = part.new_empty(len(x), part.shape[1])
            table[start:stop] = part
    for name, m in backbone.named_modules():
        m.training = name in trained
    return table


@ex.alternative("a copy in evaluation mode")
def _(backbone, x, batch_size=256):
    camera = copy.deepcopy(backbone).eval()
    with torch.no_grad():
        return torch.cat([camera(part) for part in x.split(batch_size)])


@ex.alternative("a loop over slices, inference mode")
def _(backbone, x, batch_size=256):
    modes = [m.training for m in backbone.modules()]
    table = []
    try:
        for m in backbone.modules():
            m.training = False
        with torch.inference_mode():
            for start in range(0, len(x), batch_size):
                table.extend(backbone(x[start : start + batch_size]))
    finally:
        for m, mode in zip(backbone.modules(), modes, strict=True):
            m.training = mode
    return torch.stack(table).clone()


@ex.alternative("filled into a tensor, with a decorator")
def _(backbone, x, batch_size=256):
    @torch.no_grad()
    def run():
        out = None
        for i, rows in enumerate(x.split(batch_size)):
            part = backbone(rows)
            if out is None:
                out = part.new_empty(len(x), *part.shape[1:])
            out[i * batch_size : i * batch_size + len(part)] = part
        return out

    was_training = [m for m in backbone.modules() if m.training]
    backbone.train(False)
    result = run()
    for m in was_training:
        m.training = True
    return result


# ----------------------------------------------------------------------------------------------
# linear_probe

ex = linear_probe = Exercise("linear_probe", forbids=["sklearn", "Ridge", "RidgeClassifier"])


def ridge(x: Tensor, labels: Tensor, number: int, strength: float) -> tuple[Tensor, Tensor]:
    """The oracle: the stationary point in float64, bias and weights in one system."""
    ones = torch.cat([x.double(), torch.ones(len(x), 1, dtype=torch.float64)], dim=1)
    targets = torch.eye(number, dtype=torch.float64)[labels]
    penalty = strength * torch.eye(x.shape[1] + 1, dtype=torch.float64)
    penalty[-1, -1] = 0.0
    found = torch.linalg.solve(ones.T @ ones + penalty, ones.T @ targets).T
    return found[:, :-1], found[:, -1]


def expect_probe(student: Any, x: Tensor, labels: Tensor, number: int, strength: float) -> None:
    got = student.linear_probe(x, labels, number, strength)
    want = ridge(x, labels, number, strength)
    what = f"N = {len(x)}, D = {x.shape[1]}, K = {number}, λ = {strength}"
    for name, a, b in zip(["weights", "biases"], got, want, strict=True):
        expect(a, b.to(x.dtype), f"{name}, {what}", rtol=1e-3, atol=1e-4, dtype=True)


@ex.check("weights and biases, more rows than features", points=1)
def _(student):
    for rows, width, number, strength in [(20, 3, 4, 0.5), (9, 5, 2, 3.0), (30, 2, 7, 40.0)]:
        x, labels = torch.randn(rows, width) + 2.0, torch.randint(0, number, (rows,))
        expect_probe(student, x, labels, number, strength)


@ex.check("fewer rows than features, classes without rows", points=1)
def _(student):
    expect_probe(student, torch.randn(4, 9) - 1.0, torch.tensor([1, 4, 4, 1]), 6, 0.1)
    expect_probe(student, 3 * torch.randn(1, 2), torch.tensor([2]), 3, 1.0)
    x = torch.randn(8, 1).repeat(1, 3) + 1.0
    expect_probe(student, x, torch.arange(8) % 2, 2, 0.7)


@ex.check("float64, and the arguments are not modified", points=0.5)
def _(student):
    x, labels = torch.randn(12, 4).double() + 1.0, torch.randint(0, 3, (12,))
    expect_probe(student, x, labels, 3, 1e-3)
    got, want = student.linear_probe(x, labels, 3, 1e-3), ridge(x, labels, 3, 1e-3)
    expect(got[0], want[0], "weights in float64", rtol=1e-8, atol=1e-9)
    require(
        student.unchanged("linear_probe", x, labels, 3, 0.5), "linear_probe changes its arguments"
    )
    x = torch.randn(6, 4).T.contiguous().T
    expect_probe(student, x, torch.randint(0, 3, (6,)), 3, 0.5)


ex.mistake(
    "no bias",
    "Without a bias the plane has to go through the origin: centre features and targets.",
    edit=[("    x, y = x - centre, y - mean\n", ""), ("mean - weight @ centre", "0 * mean")],
)
ex.mistake(
    "the bias is penalised",
    "λ is for the weights only.",
    edit=(
        "    centre, mean = x.mean(dim=0), y.mean(dim=0)\n    x, y = x - centre, y - mean\n"
        "    penalty = strength * torch.eye(x.shape[1]).to(x)\n"
        "    weight = torch.linalg.solve(x.T @ x + penalty, x.T @ y).T\n"
        "    return weight, mean - weight @ centre",
        "    x = torch.cat([x, torch.ones_like(x[:, :1])], dim=1)\n"
        "    penalty = strength * torch.eye(x.shape[1], dtype=x.dtype)\n"
        "    weight = torch.linalg.solve(x.T @ x + penalty, x.T @ y).T\n"
        "    return weight[:, :-1], weight[:, -1]",
    ),
)
ex.mistake(
    "the bias is the mean target",
    "The features' mean has to be taken out: b = mean of y - W times mean of x.",
    edit=("mean - weight @ centre", "mean"),
)
ex.mistake(
    "the sign in the bias",
    "b = mean of y minus W times mean of x.",
    edit=("mean - weight @ centre", "mean + weight @ centre"),
)
ex.mistake(
    "no penalty",
    "λ I is added to the matrix.",
    edit=("x.T @ x + penalty", "x.T @ x + 1e-9 * penalty"),
)
ex.mistake(
    "λ times N",
    "By the formula stated the squares are summed, not averaged, so λ stands as it is.",
    edit=("strength * torch.eye", "len(x) * strength * torch.eye"),
)
ex.mistake(
    "λ squared",
    "The penalty in the normal equations is λ, not its square.",
    edit=("strength * torch.eye", "strength**2 * torch.eye"),
)
ex.mistake(
    "half of λ",
    "Both squares have the factor 2 in the derivative; it cancels.",
    edit=("strength * torch.eye", "0.5 * strength * torch.eye"),
)
ex.mistake(
    "λ in every entry",
    "λ times the identity: on the diagonal only.",
    edit=("torch.eye(x.shape[1]).to(x)", "torch.ones_like(x.T @ x)"),
)
ex.mistake(
    "targets of plus and minus one",
    "One-hot targets are 0 and 1.",
    edit=(
        "F.one_hot(labels, num_classes).to(x.dtype)",
        "2 * F.one_hot(labels, num_classes).to(x.dtype) - 1",
    ),
)
ex.mistake(
    "transposed",
    "Weights have the shape (K, D), as nn.Linear's.",
    edit=("weight, mean - weight @ centre", "weight.T, mean - weight @ centre"),
)
ex.mistake(
    "targets are not centred and features not either",
    "The closed form is for the centred problem.",
    edit=("    x, y = x - centre, y - mean\n", ""),
)
ex.mistake(
    "standardised features",
    "The features are centred, not scaled: the weights would be for other features.",
    edit=("x - centre, y - mean", "(x - centre) / (x.std(dim=0) + 1e-5), y - mean"),
)
ex.mistake(
    "float32 inside",
    "Results have the features' dtype and its precision.",
    edit=(
        "    y = F.one_hot(labels, num_classes).to(x.dtype)",
        "    x = x.float()\n    y = F.one_hot(labels, num_classes).to(x.dtype)",
    ),
)


ex.equivalent(
    "y - mean -> y + mean", "the centred features sum to zero: any constant in y drops out"
)


@ex.alternative("one system with a column of ones, float64")
def _(x, labels, num_classes, strength):
    rows, width = x.shape
    a = torch.cat([x.double(), torch.ones(rows, 1).double()], dim=1)
    y = torch.zeros(rows, num_classes, dtype=torch.float64)
    y[torch.arange(rows), labels] = 1.0
    matrix = a.T @ a
    for i in range(width):
        matrix[i, i] += strength
    found = torch.linalg.inv(matrix) @ a.T @ y
    return found[:width].T.to(x.dtype), found[width].to(x.dtype)


@ex.alternative("dual form")
def _(x, labels, num_classes, strength):
    y = (labels[:, None] == torch.arange(num_classes)).to(x.dtype)
    xc, yc = x - x.mean(0, keepdim=True), y - y.mean(0, keepdim=True)
    gram = xc @ xc.T + strength * torch.eye(len(x), dtype=x.dtype)
    weight = (xc.T @ torch.linalg.solve(gram, yc)).T
    return weight, y.mean(0) - weight @ x.mean(0)


@ex.alternative("least squares on stacked rows")
def _(x, labels, num_classes, strength):
    y = torch.eye(num_classes, dtype=torch.float64)[labels]
    x64 = x.double()
    mx, my = x64.mean(0), y.mean(0)
    top = torch.cat([x64 - mx, strength**0.5 * torch.eye(x.shape[1], dtype=torch.float64)])
    right = torch.cat([y - my, torch.zeros(x.shape[1], num_classes, dtype=torch.float64)])
    weight = torch.linalg.lstsq(top, right).solution.T
    return weight.to(x.dtype), (my - weight @ mx).to(x.dtype)


# ----------------------------------------------------------------------------------------------
# frozen_batch_norm

ex = frozen_batch_norm = Exercise(
    "frozen_batch_norm",
    defines=["FrozenBatchNorm", "freeze_batch_norm"],
    # No operators: a layer that a wrong solution has left in a net calls them rightly.
    forbids=["batch_norm", "FrozenBatchNorm2d", "torchvision", "native_batch_norm"],
)
NUMBERS = ["weight", "bias", "running_mean", "running_var"]


def numbers(channels: int) -> dict[str, Tensor]:
    """What a trained layer might hold."""
    found = {name: torch.randn(channels) for name in NUMBERS}
    found["running_var"] = torch.rand(channels) * 2 + 0.01
    return found


def frozen_layer(
    student: Any, channels: int, eps: float | None, state: dict[str, Tensor], x: Tensor
) -> dict[str, Any]:
    """A probe: a layer with these numbers in training mode, and what is left afterwards."""
    layer = student.FrozenBatchNorm(channels, *([] if eps is None else [eps]))
    fresh = {name: tensor.clone() for name, tensor in layer.named_buffers()}
    layer.load_state_dict(state, strict=False)  # the names are compared
    layer.to(x.dtype)
    found: dict[str, Any] = {"fresh": fresh, "params": [n for n, _ in layer.named_parameters()]}
    for mode in [True, False]:
        layer.train(mode)
        leaf = x.clone().requires_grad_(True)
        output = layer(leaf)
        (output * torch.arange(x.numel(), dtype=x.dtype).cos().reshape(x.shape)).sum().backward()
        found[f"output {mode}"], found[f"grad {mode}"] = output.detach(), leaf.grad
    found["after"] = dict(layer.named_buffers())
    found["state"] = list(layer.state_dict())
    return found


def reloaded_layer(student: Any, states: list[dict[str, Tensor]], x: Tensor) -> list[Tensor]:
    """A probe: outputs of one layer whose numbers are loaded or overwritten between the calls."""
    layer, outputs = student.FrozenBatchNorm(len(states[0]["weight"])), []
    for i, state in enumerate(states):
        if i % 2:
            for name, buffer in layer.named_buffers():
                if name in state:
                    buffer.copy_(state[name])
        else:
            layer.load_state_dict(state, strict=False)
        outputs.append(layer(x).detach())
    return outputs


def mixed_layer(student: Any, state: dict[str, Tensor], xs: list[Tensor]) -> list[Tensor]:
    """A probe: outputs of a float32 layer for inputs of other dtypes."""
    layer = student.FrozenBatchNorm(len(state["weight"]), 0.5)
    layer.load_state_dict(state, strict=False)
    return [layer(x).detach() for x in xs]


def expect_layer(
    student: Any, shape: tuple[int, ...], eps: float | None, dtype=torch.float32
) -> None:
    channels, state = shape[1], numbers(shape[1])
    x = (3 * torch.randn(shape) + 1).to(dtype)
    got = student.run(frozen_layer, channels, eps, state, x)
    side = [1, -1] + [1] * (len(shape) - 2)
    gamma, beta, mean, var = (state[name].double().reshape(side) for name in NUMBERS)
    scale = gamma / (var + (1e-5 if eps is None else eps)).sqrt()
    weights = torch.arange(x.numel(), dtype=torch.float64).cos().reshape(shape)
    for mode in [True, False]:
        name = "training mode" if mode else "evaluation mode"
        want = ((x.double() - mean) * scale + beta).to(dtype)
        expect(
            got[f"output {mode}"],
            want,
            f"output of {shape} in {name}",
            rtol=1e-3,
            atol=1e-4,
            dtype=True,
        )
        expect(
            got[f"grad {mode}"],
            (weights * scale).to(dtype),
            f"gradient in {name}",
            rtol=1e-3,
            atol=1e-4,
        )
    want = {name: tensor.to(dtype) for name, tensor in state.items()}
    expect(got["after"], want, "buffers afterwards")


@ex.check("values and gradients, two to four dimensions", points=1)
def _(student):
    for shape, eps in [
        ((3, 4), None),
        ((2, 3, 5), 0.5),
        ((2, 5, 3, 4), 1e-2),
        ((1, 2, 1, 1), None),
    ]:
        expect_layer(student, shape, eps)
    expect_layer(student, (4, 4), 0.1)
    expect_layer(student, (3, 3, 3, 3), 2.0, torch.float64)


@ex.check("buffers, not parameters", points=0.5)
def _(student):
    got = student.run(frozen_layer, 3, None, numbers(3), torch.randn(2, 3))
    expect(got["params"], [], "names of parameters")
    expect(sorted(got["state"]), sorted(NUMBERS), "names in the state dict")
    want = {"weight": 1.0, "bias": 0.0, "running_mean": 0.0, "running_var": 1.0}
    for name, value in want.items():
        expect(got["fresh"].get(name), torch.full((3,), value), f"{name} of a fresh layer")
    state = {**numbers(3), "running_var": torch.full((3,), 3e-5)}  # eps counts here: 1e-5
    x = torch.randn(2, 3)
    got = student.run(frozen_layer, 3, None, state, x)["output True"]
    want = (x - state["running_mean"]) / 4e-5**0.5 * state["weight"] + state["bias"]
    expect(got, want, "output for tiny variances, eps by default", rtol=1e-3, atol=1e-3)
    states = [numbers(3) for _ in range(4)]
    for i, got in enumerate(student.run(reloaded_layer, states, x)):
        gamma, beta, mean, var = (states[i][name] for name in NUMBERS)
        want = (x - mean) / (var + 1e-5).sqrt() * gamma + beta
        what = f"output after the buffers were changed {i} times"
        expect(got, want, what, rtol=1e-3, atol=1e-3)


def frozen_net(student: Any, net: nn.Module, batches: list[Tensor]) -> dict[str, Any]:
    """A probe: the net with frozen layers, trained on a little, in training mode."""
    others = {
        n: m for n, m in net.named_modules() if not isinstance(m, nn.modules.batchnorm._BatchNorm)
    }
    params = dict(net.named_parameters())
    names = student.freeze_batch_norm(net)
    after = dict(net.named_modules())
    modes = {name: after[name].training for name in others if name in after}
    flags = [name for name, p in net.named_parameters() if p.requires_grad]
    buffers = [name for name, buffer in net.named_buffers() if buffer.requires_grad]
    found = {
        "names": names,
        "kinds": [isinstance(after[name], student.FrozenBatchNorm) for name in names],
        "kept": [name for name in others if after.get(name) is others[name]],
        "modules": list(after),
        "params": [n for n, p in net.named_parameters() if p is params[n]],
        "modes": modes,
        "flags": flags,
        "buffers": buffers,
        "start": plain(net),
        "outputs": [],
    }
    if not flags:
        return {**found, "end": found["start"]}
    for module in net.modules():
        if isinstance(module, nn.Dropout):
            module.p = 0.0
    outputs = []
    optimizer = torch.optim.SGD(net.parameters(), lr=0.1, momentum=0.9, weight_decay=0.1)
    for x in batches:
        net.train()
        output = net(x)
        outputs.append(output.detach())
        optimizer.zero_grad()
        output.square().sum().backward()
        optimizer.step()
    return {**found, "outputs": outputs, "end": plain(net)}


def want_frozen(net: nn.Module, batches: list[Tensor]) -> tuple[list[Tensor], dict[str, Tensor]]:
    """The oracle: the same training with torch's layers held in evaluation mode."""
    norms = [m for m in net.modules() if isinstance(m, nn.modules.batchnorm._BatchNorm)]
    held = {id(p) for norm in norms for p in norm.parameters()}
    outputs = []
    optimizer = torch.optim.SGD(
        [p for p in net.parameters() if id(p) not in held], lr=0.1, momentum=0.9, weight_decay=0.1
    )
    for module in net.modules():
        if isinstance(module, nn.Dropout):
            module.p = 0.0
    for x in batches:
        net.train()
        for norm in norms:
            norm.eval()
        output = net(x)
        outputs.append(output.detach())
        net.zero_grad()
        output.square().sum().backward()
        optimizer.step()
    return outputs, plain(net)


def expect_frozen(student: Any, net: nn.Module, batches: list[Tensor]) -> None:
    norms = [n for n, m in net.named_modules() if isinstance(m, nn.modules.batchnorm._BatchNorm)]
    got = student.run(frozen_net, net, batches)
    expect(list(got["names"]), norms, "names of the layers replaced")
    expect(got["kinds"], [True] * len(norms), "whether they are FrozenBatchNorm now")
    expect(
        got["kept"],
        [n for n, _ in net.named_modules() if n not in norms],
        "other modules that stayed",
    )
    expect(got["modules"], [n for n, _ in net.named_modules()], "names of all modules")
    own = [n for n, _ in net.named_parameters() if n.rpartition(".")[0] not in norms]
    expect(got["params"], own, "parameters that are left")
    modes = {n: m.training for n, m in net.named_modules() if n not in norms}
    expect(got["modes"], modes, "training modes of the other modules afterwards")
    expect(got["flags"], own, "trainable parameters afterwards")
    expect(got["buffers"], [], "buffers that require a gradient")
    outputs, end = want_frozen(copy.deepcopy(net), batches)
    for i, (a, b) in enumerate(zip(got["outputs"], outputs, strict=False)):
        expect(a, b, f"output in training mode after {i} steps", rtol=1e-3, atol=1e-4, dtype=True)
    left = {n: t for n, t in end.items() if not n.endswith("num_batches_tracked")}
    frozen = {f"{n}.{name}" for n in norms for name in NUMBERS}
    for name in sorted(frozen & set(left)):
        expect(got["end"].get(name), left[name], f"{name} after training", dtype=True)
    for name in sorted(set(left) - frozen):
        expect(got["end"].get(name), left[name], f"{name} after training", rtol=1e-3, atol=1e-4)


@ex.check("all layers inside a net, while it trains", points=1)
def _(student):
    expect_frozen(student, lived(conv_net()), [torch.randn(3, 2, 6, 5) + i for i in range(3)])
    expect_frozen(student, lived(Nested()), [torch.randn(4, 4) for _ in range(2)])
    deep = nn.Sequential(nn.Sequential(nn.Sequential(nn.BatchNorm1d(3, eps=0.5)), nn.Linear(3, 2)))
    expect_frozen(student, lived(deep).eval(), [torch.randn(1, 3), torch.randn(2, 3)])
    inner = nn.Sequential(nn.Sequential(nn.BatchNorm1d(3, eps=0.2)))
    image = [nn.Unflatten(1, (3, 1, 1)), nn.BatchNorm2d(3), nn.Flatten()]
    long = [nn.Linear(3, 3), inner, nn.BatchNorm1d(3), *image, *[nn.Tanh() for _ in range(4)]]
    net = nn.Sequential(*long, nn.BatchNorm1d(3), nn.Linear(3, 2))  # 1.0.0, 2, 4, 10
    expect_frozen(student, lived(net), [torch.randn(2, 3)])


@ex.check("other dtypes, layers without affine, a net without layers", points=0.5)
def _(student):
    net = lived(
        nn.Sequential(
            nn.BatchNorm2d(3, affine=False, eps=0.3), nn.Conv2d(3, 2, 1), nn.BatchNorm2d(2)
        )
    )
    expect_frozen(student, net, [torch.randn(2, 3, 4, 2)])
    expect_frozen(student, lived(conv_net()).double(), [torch.randn(2, 2, 5, 4).double()])
    expect_frozen(student, nn.Sequential(nn.Linear(2, 3), nn.LayerNorm(3)), [torch.randn(2, 2)])
    state, x = numbers(3), torch.randn(4, 3)
    want = (x - state["running_mean"]) / (state["running_var"] + 0.5).sqrt()
    want = want * state["weight"] + state["bias"]
    kinds = [torch.float16, torch.float64]
    for kind, got in zip(
        kinds, student.run(mixed_layer, state, [x.to(k) for k in kinds]), strict=True
    ):
        what = f"output for {kind} through float32 buffers"
        expect(got, want.to(kind), what, rtol=0.02, atol=0.03, dtype=True)


BODY = """        scale = self.weight / (self.running_var + self.eps).sqrt()
        shift = self.bias - self.running_mean * scale
        shape = (-1, *[1] * (x.ndim - 2))
        return (x * scale.reshape(shape) + shift.reshape(shape)).to(x.dtype)"""

ex.mistake(
    "parameters that require no gradient",
    "Buffers are asked for: parameters can be unfrozen, and one day somebody does.",
    edit=[
        (
            'self.register_buffer("weight", torch.ones(num_features))',
            "self.weight = nn.Parameter(torch.ones(num_features), requires_grad=False)",
        ),
        (
            'self.register_buffer("bias", torch.zeros(num_features))',
            "self.bias = nn.Parameter(torch.zeros(num_features), requires_grad=False)",
        ),
    ],
)
ex.mistake(
    "parameters",
    "Buffers are asked for: these would be trained.",
    edit=[
        (
            'self.register_buffer("weight", torch.ones(num_features))',
            "self.weight = nn.Parameter(torch.ones(num_features))",
        ),
        (
            'self.register_buffer("bias", torch.zeros(num_features))',
            "self.bias = nn.Parameter(torch.zeros(num_features))",
        ),
    ],
)
ex.mistake(
    "plain attributes",
    "A tensor that is not registered is neither saved nor moved: register_buffer.",
    edit=[
        (
            'self.register_buffer("running_mean", torch.zeros(num_features))',
            "self.running_mean = torch.zeros(num_features)",
        )
    ],
)
ex.mistake(
    "the batch's own statistics",
    "A frozen layer uses the stored mean and variance, whatever the batch is.",
    edit=(
        BODY,
        """        shape = (-1, *[1] * (x.ndim - 2))
        axes = [0, *range(2, x.ndim)]
        mean, var = x.mean(axes), x.var(axes, correction=0)
        scale = self.weight / (var + self.eps).sqrt()
        return x * scale.reshape(shape) + (self.bias - mean * scale).reshape(shape)""",
    ),
)
ex.mistake(
    "batch statistics in training mode",
    "train() must not make a difference.",
    edit=(
        BODY,
        """        shape, mean, var = (-1, *[1] * (x.ndim - 2)), self.running_mean, self.running_var
        if self.training:
            axes = [0, *range(2, x.ndim)]
            mean, var = x.mean(axes), x.var(axes, correction=0)
        scale = self.weight / (var + self.eps).sqrt()
        return x * scale.reshape(shape) + (self.bias - mean * scale).reshape(shape)""",
    ),
)
ex.mistake(
    "statistics still updated",
    "Nothing in the layer may change.",
    edit=(
        "        shape = (-1, *[1]",
        "        if self.training:\n"
        "            self.running_mean.lerp_(x.detach().mean([0, *range(2, x.ndim)]), 0.1)\n"
        "        shape = (-1, *[1]",
    ),
)
ex.mistake(
    "scale and shift of the first call",
    "The buffers may be loaded later: compute from them in every call.",
    edit=(
        BODY,
        """        if not hasattr(self, "known"):
            scale = self.weight / (self.running_var + self.eps).sqrt()
            self.known = scale, self.bias - self.running_mean * scale
        scale, shift = self.known
        shape = (-1, *[1] * (x.ndim - 2))
        return x * scale.reshape(shape) + shift.reshape(shape)""",
    ),
)
ex.mistake(
    "eps outside the root",
    "sqrt(variance + eps), as torch has it.",
    edit=("(self.running_var + self.eps).sqrt()", "(self.running_var.sqrt() + self.eps)"),
)
ex.mistake(
    "divides by the variance",
    "Divide by the deviation, the root of the variance.",
    edit=("(self.running_var + self.eps).sqrt()", "(self.running_var + self.eps)"),
)
ex.mistake(
    "without weight and bias",
    "The trained scale and shift belong to the layer.",
    edit=[
        ("self.weight / (self.running_var", "1 / (self.running_var"),
        ("self.bias - self.running_mean * scale", "-self.running_mean * scale"),
    ],
)
ex.mistake(
    "channels last",
    "Channels are the second dimension: reshape to (C, 1, 1).",
    edit=("(x * scale.reshape(shape) + shift.reshape(shape))", "(x * scale + shift)"),
)
ex.mistake(
    "images only",
    "Inputs of two and three dimensions come too.",
    edit=("(-1, *[1] * (x.ndim - 2))", "(-1, 1, 1)"),
)
ex.mistake(
    "detached",
    "The gradient goes through the layer to x.",
    edit=("return (x * scale", "return (x.detach() * scale"),
)
ex.mistake(
    "eps of the default",
    "The layer that is replaced has its own eps.",
    edit=("FrozenBatchNorm(old.num_features, old.eps)", "FrozenBatchNorm(old.num_features)"),
)
ex.mistake(
    "a fresh layer, without the old one's numbers",
    "Copy weight, bias, running mean and variance.",
    edit=(
        "fixed.load_state_dict(old.state_dict(), strict=False)",
        "pass",
    ),
)
ex.mistake(
    "only BatchNorm2d",
    "BatchNorm1d has the same statistics.",
    edit=("kinds = (nn.BatchNorm1d, nn.BatchNorm2d)", "kinds = (nn.BatchNorm2d,)"),
)
ex.mistake(
    "only at the top level",
    "Layers may be nested: look through named_modules().",
    edit=("in model.named_modules() if", "in model.named_children() if"),
)
ex.mistake(
    "names in another order",
    "The order is that of named_modules(): not by kind, depth or alphabet.",
    edit=("return list(found)", "return sorted(found)"),
)
ex.mistake(
    "the dtype of the buffers",
    "The result has the dtype of x, also in a net of another one: .to(x.dtype).",
    edit=(".to(x.dtype)", ""),
)
ex.mistake(
    "eps as a lower bound",
    "eps is added to every variance, not only to the tiny ones.",
    edit=("(self.running_var + self.eps)", "self.running_var.clamp(min=self.eps)"),
)
ex.mistake(
    "a buffer more",
    "Four buffers and no other: what is registered is saved with the net.",
    edit=(
        "        self.eps = eps\n",
        "        self.eps = eps\n"
        '        self.register_buffer("num_batches_tracked", torch.tensor(0))\n',
    ),
)
ex.mistake(
    "a buffer that is not saved",
    "With persistent=False a buffer is missing in the state dict.",
    edit=(
        'self.register_buffer("running_mean", torch.zeros(num_features))',
        'self.register_buffer("running_mean", torch.zeros(num_features), persistent=False)',
    ),
)
ex.mistake(
    "the old parameters as buffers",
    "A registered nn.Parameter still requires a gradient: copy its numbers, or detach it.",
    edit=(
        "        model.set_submodule(name, fixed)",
        "        if old.affine:\n"
        '            fixed.register_buffer("weight", old.weight)\n'
        '            fixed.register_buffer("bias", old.bias)\n'
        "        model.set_submodule(name, fixed)",
    ),
)
ex.mistake(
    "the whole net is frozen",
    "Only batch normalisation is replaced; the other layers still learn.",
    edit=("    return list(found)", "    model.requires_grad_(False)\n    return list(found)"),
)
ex.mistake(
    "the whole net in evaluation mode",
    "The modes of the other modules stay as they are.",
    edit=("    return list(found)", "    model.eval()\n    return list(found)"),
)
ex.mistake(
    "all normalisation layers",
    "LayerNorm has no running statistics and is left as it is.",
    edit=(
        "for name, module in model.named_modules() if isinstance(module, kinds)}",
        "for name, module in model.named_modules() if isinstance(module, kinds)}\n"
        "    for name, module in list(model.named_modules()):\n"
        "        if isinstance(module, nn.LayerNorm):\n"
        "            model.set_submodule(name, nn.Identity())",
    ),
)


@ex.mistake(
    "eval() and requires_grad",
    "The next train() undoes eval(): replace the layers.",
    replaces="freeze_batch_norm",
)
def _(model):
    names = []
    for name, module in model.named_modules():
        if isinstance(module, nn.BatchNorm1d | nn.BatchNorm2d):
            module.eval().requires_grad_(False)
            names.append(name)
    return names


@ex.mistake(
    "momentum zero",
    "In training mode such a layer still normalises by the batch.",
    replaces="freeze_batch_norm",
)
def _(model):
    names = []
    for name, module in model.named_modules():
        if isinstance(module, nn.BatchNorm1d | nn.BatchNorm2d):
            module.momentum = 0.0
            module.requires_grad_(False)
            names.append(name)
    return names


@ex.alternative("normalise first, buffers in a loop", replaces="FrozenBatchNorm")
class _(nn.Module):
    def __init__(self, num_features, eps=1e-5):
        super().__init__()
        values = {"running_mean": 0.0, "running_var": 1.0, "weight": 1.0, "bias": 0.0}
        for name, value in values.items():
            self.register_buffer(name, torch.full((num_features,), value))
        self.eps = eps

    def forward(self, x):
        view = [1, len(self.weight)] + [1] * (x.dim() - 2)
        centred = x - self.running_mean.view(view)
        normed = centred * torch.rsqrt(self.running_var.view(view) + self.eps)
        return torch.addcmul(self.bias.view(view), normed, self.weight.view(view)).to(x)


@ex.alternative("channels moved to the end, float64", replaces="FrozenBatchNorm")
class _(nn.Module):
    def __init__(self, num_features, eps=1e-5):
        super().__init__()
        self.register_buffer("bias", torch.zeros(num_features))
        self.register_buffer("weight", torch.ones(num_features))
        self.register_buffer("running_var", torch.ones(num_features))
        self.register_buffer("running_mean", torch.zeros(num_features))
        self.small = eps

    def forward(self, x):
        last = x.movedim(1, -1).double()
        last = (last - self.running_mean) / torch.sqrt(self.running_var.double() + self.small)
        return (last * self.weight + self.bias).movedim(-1, 1).to(x.dtype)


@ex.alternative("a recursion over children", replaces="freeze_batch_norm")
def _(model):
    names = []

    def visit(module, path):
        for name, child in list(module.named_children()):
            if isinstance(child, nn.BatchNorm1d | nn.BatchNorm2d):
                new = FrozenBatchNorm(child.num_features, eps=child.eps)
                new.to(device=child.running_mean.device, dtype=child.running_mean.dtype)
                with torch.no_grad():
                    for key in ["weight", "bias", "running_mean", "running_var"]:
                        value = getattr(child, key)
                        if value is not None:
                            getattr(new, key).copy_(value)
                setattr(module, name, new)
                names.append(".".join([*path, name]))
            else:
                visit(child, [*path, name])

    visit(model, [])
    return names


# ----------------------------------------------------------------------------------------------
# param_groups

ex = param_groups_ = Exercise("param_groups")

TIED = ["embed", "body.0", "body.1", "decoder"]
NESTED = ["layer1", "layer10", "layer1x", "scale", "fc"]


def grouped(student: Any, net: nn.Module, *args: Any) -> dict[str, Any]:
    """A probe: rate and decay by parameter, and how often each of them stands there."""
    groups = student.param_groups(net, *args)
    names = {id(p): n for n, p in net.named_parameters()}
    table: dict[str, list[list[float]]] = {}
    for group in groups:
        for param in group["params"]:
            entry = [float(group["lr"]), float(group["weight_decay"])]
            table.setdefault(names.get(id(param), "another tensor"), []).append(entry)
    holder = torch.optim.SGD(groups, lr=1.0).param_groups if groups else []  # [] is refused
    held = sum(len(group["params"]) for group in holder)
    return {
        "table": dict(sorted(table.items())),
        "empty": sum(not list(group["params"]) for group in groups),
        "held": held,
        "flags": [p.requires_grad for p in net.parameters()],
        "blocks": args[0],
    }


def want_groups(
    net: nn.Module, blocks: list[str], lr: float, decay: float, weight_decay: float
) -> dict[str, list[list[float]]]:
    """The oracle, from the last block to the first: an earlier block takes what is tied."""
    table, params, rate = {}, dict(net.named_parameters()), lr
    for part in reversed(blocks):
        for name in names_in(net, part):
            if params[name].requires_grad:
                table[name] = [[rate, weight_decay if params[name].dim() >= 2 else 0.0]]
        rate = rate * decay
    return dict(sorted(table.items()))


def expect_groups(student: Any, net: nn.Module, blocks: list[str], *args: float) -> None:
    got, want = student.run(grouped, net, blocks, *args), want_groups(net, blocks, *args)
    what = f"blocks {blocks}, lr, decay and weight_decay {args}"
    expect(list(got["table"]), list(want), f"parameters in the groups, {what}")
    expect(got["table"], want, f"[rate, weight decay] by parameter, {what}")
    expect(got["empty"], 0, "empty groups")
    expect(got["held"], len(want), "parameters that an optimiser then holds")
    expect(got["flags"], [p.requires_grad for p in net.parameters()], "requires_grad afterwards")
    expect(got["blocks"], blocks, "the list of blocks afterwards")


@ex.check("rates by depth", points=1)
def _(student):
    expect_groups(student, Nested(), NESTED, 0.3, 0.5, 0.0)
    expect_groups(student, conv_net(), ["0", "1", "2"], 1e-2, 0.1, 0.0)
    expect_groups(student, Nested(), [""], 0.7, 0.5, 0.0)
    expect_groups(student, conv_net(), ["0.0", "0.1", "1", "2.2", "2.3"], 2.0, 1.0, 0.0)


@ex.check("weight decay for matrices and kernels only", points=0.5)
def _(student):
    expect_groups(student, conv_net(), ["0", "1", "2"], 0.1, 0.25, 0.05)
    expect_groups(student, Nested(), NESTED, 0.1, 0.5, 0.3)
    net = nn.Sequential(nn.Linear(2, 3), nn.PReLU(), nn.Conv1d(3, 1, 1))
    expect_groups(student, net, ["0", "1", "2"], 0.5, 0.2, 0.01)
    net.register_parameter("temperature", nn.Parameter(torch.tensor(1.0)))
    expect_groups(student, net, ["0", "1", "2", "temperature"], 0.5, 0.2, 0.01)


@ex.check("frozen parameters are left out, the rates stay", points=1)
def _(student):
    net = conv_net()
    net[1].requires_grad_(False)
    expect_groups(student, net, ["0", "1", "2"], 0.8, 0.5, 0.1)
    net = Nested()
    net.fc.requires_grad_(False)
    net.layer1[0].weight.requires_grad_(False)
    expect_groups(student, net, NESTED, 0.8, 0.5, 0.1)
    net = Nested().requires_grad_(False)
    net.layer10.requires_grad_(True)
    expect_groups(student, net, ["layer10", "layer1x"], 0.8, 0.5, 0.1)
    net = nn.Sequential(nn.Linear(2, 3), nn.ReLU(), nn.Linear(3, 2))
    expect_groups(student, net, ["0", "1", "2"], 0.8, 0.5, 0.1)
    expect_groups(student, net.requires_grad_(False), ["0", "1", "2"], 0.8, 0.5, 0.1)


@ex.check("tied parameters, blocks that overlap", points=1)
def _(student):
    expect_groups(student, Tied(), TIED, 0.4, 0.5, 0.1)
    expect_groups(student, Tied(), TIED[::-1], 0.4, 0.5, 0.1)
    expect_groups(student, Nested(), ["layer1.0", "layer1", "", "fc"], 0.4, 0.5, 0.1)


@ex.check("a trainable parameter in no block", points=0.5)
def _(student):
    for blocks in [NESTED[:-1], NESTED[1:], ["layer1", "layer10", "layer1x", "fc"]]:
        got = student.run(raised_by, "param_groups", Nested(), blocks, 0.1, 0.5, 0.0)
        expect(got, "ValueError", f"blocks {blocks}")
    net = Nested()
    net.layer1x.requires_grad_(False)
    net.scale.requires_grad_(False)
    expect_groups(student, net, ["layer1", "layer10", "fc"], 0.1, 0.5, 0.01)


ex.mistake(
    "the same rate for all",
    "Block j has the rate lr * decay^(M - j).",
    edit=("lr * decay ** (len(blocks) - j)", "lr"),
)
ex.mistake(
    "the first block fastest",
    "The rate falls towards the input: the last block has lr.",
    edit=("lr * decay ** (len(blocks) - j)", "lr * decay ** (j - 1)"),
)
ex.mistake(
    "one factor too many",
    "The last block has lr itself.",
    edit=("(len(blocks) - j)", "(len(blocks) - j + 1)"),
)
ex.mistake(
    "divided by decay",
    "The rate is multiplied by decay from a block to the one before it.",
    edit=("lr * decay **", "lr / decay **"),
)
ex.mistake(
    "linear decay",
    "The factor is applied once for each block: a power.",
    edit=("lr * decay ** (len(blocks) - j)", "lr * (decay * (len(blocks) - j) or 1)"),
)
ex.mistake(
    "frozen parameters included",
    "What is frozen is left out.",
    edit=("in model.named_parameters() if p.requires_grad}", "in model.named_parameters()}"),
)
ex.mistake(
    "weight decay for all",
    "Biases and the weights of normalisation have weight_decay 0.",
    edit=("weight_decay if param.ndim > 1 else 0.0", "weight_decay"),
)
ex.mistake(
    "weight decay by name",
    "A normalisation's scale is called weight too: the number of dimensions decides.",
    edit=(
        "weight_decay if param.ndim > 1 else 0.0",
        "0.0 if dict(zip(map(id, model.parameters()), [n for n, _ in model.named_parameters()], "
        'strict=True))[id(param)].endswith("bias") else weight_decay',
    ),
)
ex.mistake(
    "a scalar decays",
    "At most one dimension: a parameter without any has weight_decay 0 too.",
    edit=("param.ndim > 1", "param.ndim != 1"),
)
ex.mistake(
    "weight decay exchanged",
    "Matrices and kernels decay, vectors do not.",
    edit=("param.ndim > 1", "param.ndim <= 1"),
)
ex.mistake(
    "what is in no block is left out",
    "It would silently never be trained: raise ValueError.",
    edit=("    if waiting:\n", "    if False:\n"),
)
ex.mistake(
    "frozen parameters must be in a block too",
    "Only trainable parameters need a block.",
    edit=[
        (
            "    groups = []",
            "    every = {p: n for n, p in model.named_parameters()}\n    groups = []",
        ),
        (
            "            if waiting.pop",
            "            every.pop(param, None)\n            if waiting.pop",
        ),
        ("    if waiting:", "    if every:"),
    ],
)
ex.mistake(
    "an error where all is frozen",
    "Then there is nothing to train, and no group: [].",
    edit=(
        "    return groups",
        '    if not groups:\n        raise ValueError("nothing to train")\n    return groups',
    ),
)
ex.mistake(
    "blocks without parameters do not count",
    "Each name in blocks counts in M, an activation's too.",
    edit=(
        "    groups = []\n",
        "    groups, blocks = [], [part for part in blocks if select(model, part)]\n",
    ),
)
ex.mistake(
    "tied parameters with the last block",
    "The first of its blocks decides: the smaller rate is the careful one.",
    edit=("enumerate(blocks, start=1)", "reversed(list(enumerate(blocks, start=1)))"),
)


@ex.mistake(
    "empty blocks do not count", "A frozen block keeps its place: the rates of the others stay."
)
def _(model, blocks, lr, decay, weight_decay):
    waiting = {p: name for name, p in model.named_parameters() if p.requires_grad}
    found = []
    for part in blocks:
        params = [p for p in select(model, part).values() if waiting.pop(p, None) is not None]
        if params:
            found.append(params)
    if waiting:
        raise ValueError("in no block")
    return [
        {
            "params": [p],
            "lr": lr * decay ** (len(found) - j),
            "weight_decay": weight_decay * (p.ndim > 1),
        }
        for j, params in enumerate(found, start=1)
        for p in params
    ]


@ex.mistake(
    "a parameter in several blocks stands twice", "Each parameter stands in one group, once."
)
def _(model, blocks, lr, decay, weight_decay):
    every = {p for part in blocks for p in select(model, part).values()}
    if any(p.requires_grad and p not in every for p in model.parameters()):
        raise ValueError("in no block")
    return [
        {
            "params": [p],
            "lr": lr * decay ** (len(blocks) - j),
            "weight_decay": weight_decay * (p.ndim > 1),
        }
        for j, part in enumerate(blocks, start=1)
        for p in select(model, part).values()
        if p.requires_grad
    ]


@ex.alternative("two groups a block")
def _(model, blocks, lr, decay, weight_decay):
    taken, groups = set(), []
    for depth, part in enumerate(blocks):
        rate = lr * decay ** (len(blocks) - 1 - depth)
        fresh = [p for p in select(model, part).values() if p.requires_grad and id(p) not in taken]
        taken.update(map(id, fresh))
        for chosen, shrink in [
            ([p for p in fresh if p.ndim >= 2], weight_decay),
            ([p for p in fresh if p.ndim < 2], 0.0),
        ]:
            if chosen:
                groups.append({"params": chosen, "lr": rate, "weight_decay": shrink})
    if any(p.requires_grad and id(p) not in taken for p in model.parameters()):
        raise ValueError("a parameter is in no block")
    return groups


@ex.alternative("from the last block back, overwriting")
def _(model, blocks, lr, decay, weight_decay):
    entries, rate = {}, lr
    for part in blocks[::-1]:
        for name, p in select(model, part).items():
            entries[name] = (p, rate)
        rate *= decay
    groups = []
    for name, p in model.named_parameters():
        if p.requires_grad:
            if name not in entries:
                raise ValueError(name)
            p, eta = entries[name]
            shrink = 0 if len(p.shape) <= 1 else weight_decay
            groups.append({"params": [p], "lr": eta, "weight_decay": shrink})
    return groups


# ----------------------------------------------------------------------------------------------
# unfreezing

ex = unfreezing = Exercise("unfreezing", defines=["open_blocks", "thaw"])
RATES = (0.1, 0.5, 0.01)


def thawed(
    student: Any,
    net: nn.Module,
    held: list[str],
    blocks: list[str],
    calls: list[list[str]],
    xs: list[Tensor],
) -> list[dict[str, Any]]:
    """A probe: after each call the state of net and optimiser, and two steps of training."""
    names = {id(p): n for n, p in net.named_parameters()}
    first = [p for n, p in net.named_parameters() if n in held]
    optimizer = torch.optim.SGD(first, lr=0.2, momentum=0.9, weight_decay=0.03)
    found = []
    for number, opened in enumerate(calls):
        added = student.thaw(net, optimizer, blocks, list(opened), *RATES)
        table: dict[str, list[list[float]]] = {}
        for group in optimizer.param_groups:
            for p in group["params"]:
                entry = [group["lr"], group["weight_decay"], group["momentum"]]
                table.setdefault(names[id(p)], []).append(entry)
        found.append(
            {
                "added": list(added),
                "trainable": [n for n, p in net.named_parameters() if p.requires_grad],
                "grads": [n for n, p in net.named_parameters() if p.grad is not None],
                "table": dict(sorted(table.items())),
                "empty": sum(not group["params"] for group in optimizer.param_groups),
            }
        )
        for x in xs[2 * number : 2 * number + 2]:
            if number or held:
                optimizer.zero_grad()
            net(x).square().sum().backward()
            optimizer.step()
        found[-1]["state"] = plain(net)
    return found


class Oracle:
    """`thaw` written for the checks: by names, with its own list of rates."""

    def thaw(self, net, optimizer, blocks, opened, lr, decay, weight_decay):
        params = dict(net.named_parameters())
        inside = set(names_in(net, *opened))
        for name, p in params.items():
            p.requires_grad_(name in inside)
            if name not in inside:
                p.grad = None
        # What an earlier block closes may be open by another: its gradient was dropped as well.
        for part in blocks:
            for name in names_in(net, part):
                params[name].grad = None
        held = {id(p) for group in optimizer.param_groups for p in group["params"]}
        table = want_groups(net, blocks, lr, decay, weight_decay)
        added = [name for name in params if name in table and id(params[name]) not in held]
        for name in added:
            rate, shrink = table[name][0]
            optimizer.add_param_group(
                {"params": [params[name]], "lr": rate, "weight_decay": shrink}
            )
        return added


def expect_thawed(
    student: Any,
    net: nn.Module,
    held: list[str],
    blocks: list[str],
    calls: list[list[str]],
    xs: list[Tensor],
) -> None:
    want = thawed(Oracle(), copy.deepcopy(net), held, blocks, calls, xs)
    got = student.run(thawed, net, held, blocks, calls, xs)
    for opened, a, b in zip(calls, got, want, strict=True):
        expect(a["trainable"], b["trainable"], f"trainable with {opened} open")
        expect(a["added"], b["added"], f"what is added with {opened} open")
        expect(a["table"], b["table"], f"[rate, decay, momentum] with {opened} open")
        expect(a["empty"], 0, f"empty groups in the optimiser with {opened} open")
        expect(a["state"], b["state"], f"parameters after two steps with {opened} open", atol=1e-5)


@ex.check("open_blocks", points=0.5)
def _(student):
    blocks = ["a", "b", "c", "d", "e"]
    for start, every in [(1, 1), (1, 3), (2, 2), (5, 1), (3, 10**6)]:
        for epoch in range(12):
            got = student.open_blocks(blocks, epoch, start, every)
            want = blocks[-min(5, start + epoch // every) :]
            expect(list(got), want, f"epoch {epoch}, start {start}, every {every}")
    expect(list(student.open_blocks(["a"], 4, 1, 2)), ["a"], "a net of one block")
    require(student.unchanged("open_blocks", blocks, 2, 1, 1), "open_blocks changes its argument")


@ex.check("thaw: from the top, the optimiser gets what is new", points=1)
def _(student):
    net, xs = Nested().double(), list(torch.randn(8, 3, 4).double())
    calls = [NESTED[-1:], NESTED[-2:], NESTED[-4:], NESTED]
    expect_thawed(student, net, ["fc.weight", "fc.bias"], NESTED, calls, xs)
    net, calls = Nested().double(), [["layer1", "fc"], ["fc"], NESTED]
    expect_thawed(student, net, ["fc.weight"], NESTED, calls, xs)
    net = Nested().double()  # all are held, few have been moved
    everything = [name for name, _ in net.named_parameters()]
    expect_thawed(student, net, everything, NESTED, [["fc"], NESTED[-3:]], xs)


@ex.check("thaw: a second call, several blocks at once, closing again", points=1)
def _(student):
    xs = list(torch.randn(12, 3, 2, 5, 4).double())
    net = lived(conv_net()).double().eval()
    calls = [["2"], ["2"], ["0", "1", "2"], ["1"], ["1", "2"], ["0"]]
    expect_thawed(student, net, ["2.3.weight"], ["0", "1", "2"], calls, xs)
    net = lived(conv_net()).double().eval().requires_grad_(False)
    expect_thawed(student, net, ["0.0.weight"], ["0", "1", "2"], [["2"], ["1", "2"]], xs)


@ex.check("thaw: tied parameters, gradients left over", points=1)
def _(student):
    net, xs = Tied().double(), [torch.tensor([[1, 2], [3, 6]]), torch.tensor([[0, 4], [5, 5]])]
    calls = [["decoder"], ["body.1", "decoder"], ["body.0"], TIED]
    expect_thawed(student, net, ["decoder.bias"], TIED, calls, xs * 4)
    net = Nested().double()
    held = [name for name, _ in net.named_parameters()]
    got = student.run(left_over, net, held)
    want = left_over(Oracle(), copy.deepcopy(net), held)
    expect(got["state"], want["state"], "parameters after a step on the gradients that are left")
    expect(got["grads"], want["grads"], "closed parameters that still have a gradient")


def left_over(student: Any, net: nn.Module, held: list[str]) -> dict[str, Any]:
    """A probe: the optimiser steps before any new backward."""
    net(torch.ones(2, 4).double()).sum().backward()
    optimizer = torch.optim.SGD([p for n, p in net.named_parameters() if n in held], lr=0.5)
    student.thaw(net, optimizer, NESTED, ["layer1x", "fc"], *RATES)
    closed = [p for n, p in net.named_parameters() if not n.startswith(("layer1x", "fc"))]
    found = {"grads": sum(p.grad is not None for p in closed)}
    optimizer.step()
    state = plain(net)
    return {
        **found,
        "state": {n: t for n, t in state.items() if not n.startswith(("layer1x", "fc"))},
    }


ex.mistake(
    "from the input",
    "The head is opened first: the last blocks.",
    edit=("return blocks[closed:]", "return blocks[: len(blocks) - closed]"),
)
ex.mistake(
    "one more every epoch",
    "One more block every `every` epochs.",
    edit=("epoch // every", "epoch"),
)
ex.mistake(
    "rounded, not floored",
    "A block opens when `every` epochs are over.",
    edit=("epoch // every", "round(epoch / every)"),
)
ex.mistake(
    "counts epochs from 1",
    "Epochs are counted from 0.",
    edit=("epoch // every", "(epoch + 1) // every"),
)
ex.mistake(
    "start is ignored",
    "s blocks are open from the beginning.",
    edit=("len(blocks) - start -", "len(blocks) - 1 -"),
)
ex.mistake(
    "open blocks run out",
    "When all are open they stay open: max(0, ...).",
    edit=("max(0, len(blocks) - start - epoch // every)", "(len(blocks) - start - epoch // every)"),
)
ex.mistake(
    "the optimiser never hears of it",
    "requires_grad is not enough: add_param_group.",
    edit=("            optimizer.add_param_group(group)", "            pass"),
)
ex.mistake(
    "all parameters from the start",
    "Only open parameters are added; the others are added when they open.",
    edit=(
        "    freeze(model, *blocks)\n    unfreeze(model, *opened)\n",
        "    unfreeze(model, *blocks)\n",
    ),
)
ex.mistake(
    "rates over the open blocks only",
    "The rates are those of all M blocks, open or not.",
    edit=("in param_groups(model, blocks, lr,", "in param_groups(model, opened, lr,"),
)
ex.mistake(
    "closed blocks stay trainable",
    "Freeze what is not open.",
    edit=("    freeze(model, *blocks)\n", ""),
)
ex.mistake(
    "open blocks stay frozen",
    "Unfreeze what is open.",
    edit=("    unfreeze(model, *opened)\n", ""),
)
ex.mistake(
    "closed after opened",
    "A tied parameter that is in an open and a closed block is trainable: unfreeze last.",
    edit=(
        "    freeze(model, *blocks)\n    unfreeze(model, *opened)\n",
        "    unfreeze(model, *opened)\n"
        "    freeze(model, *[b for b in blocks if b not in opened])\n",
    ),
)
ex.mistake(
    "returns what is open",
    "Only what was added to the optimiser is returned.",
    edit=("if param in added]", "if param.requires_grad]"),
)
ex.mistake(
    "one rate for what is new",
    "New parameters come with the rate of their block.",
    edit=(
        "            optimizer.add_param_group(group)",
        "            optimizer.add_param_group({**group, 'lr': lr})",
    ),
)
ex.mistake(
    "weight decay forgotten",
    "New parameters come with the decay of their kind.",
    edit=(
        "            optimizer.add_param_group(group)",
        "            optimizer.add_param_group({'params': group['params'], 'lr': group['lr']})",
    ),
)
ex.mistake(
    "momenta thrown away",
    "What the optimiser holds keeps its state.",
    edit=("    added = set()\n", "    added = set()\n    optimizer.state.clear()\n"),
)
ex.mistake(
    "empty groups",
    "If all of a group is held already there is nothing to add: leave the group out.",
    edit=(
        '        if group["params"]:\n            optimizer.add_param_group(group)',
        "        optimizer.add_param_group(group)",
    ),
)
ex.mistake(
    "names in the order of the blocks",
    "The order is that of named_parameters(), which need not be that of the blocks.",
    edit=(
        "for name, param in model.named_parameters() if param in added]",
        "for name, param in {n: p for part in blocks for n, p in select(model, part).items()}"
        ".items() if param in added]",
    ),
)
ex.mistake(
    "held is what has a state",
    "Before its first step a parameter has no state: look into optimizer.param_groups.",
    edit=(
        'held = {param for group in optimizer.param_groups for param in group["params"]}',
        'held = set(optimizer.state) or set(optimizer.param_groups[0]["params"])',
    ),
)
ex.mistake(
    "names that begin alike",
    "If `layer1` is open, `layer10` need not be: compare whole names.",
    edit=(
        "    unfreeze(model, *opened)\n",
        "    unfreeze(model, *[part for part in blocks if part.startswith(tuple(opened))])\n",
    ),
)
ex.mistake(
    "all groups made anew",
    "Parameters that the optimiser holds already keep their groups and rates.",
    edit=(
        "    added = set()\n",
        "    added = set()\n    optimizer.param_groups.clear()\n    held = set()\n",
    ),
)
ex.mistake(
    "closed parameters leave the optimiser",
    "They stay in it; without a gradient it passes over them.",
    edit=(
        "    added = set()\n",
        "    added = set()\n    for group in optimizer.param_groups:\n"
        "        group['params'] = [p for p in group['params'] if p.requires_grad]\n",
    ),
)
ex.mistake(
    "the old gradient of a closed block",
    "What is closed has no gradient, or the optimiser moves it once more.",
    edit=(
        "    freeze(model, *blocks)\n",
        "    for p in select(model, *blocks).values():\n        p.requires_grad = False\n",
    ),
)


ex.equivalent("max(0, len(blocks)", "the larger of two numbers, in either order")


@ex.alternative("a slice with a count", replaces="open_blocks")
def _(blocks, epoch, start, every):
    number = min(len(blocks), start + epoch // every)
    return [name for i, name in enumerate(blocks) if i >= len(blocks) - number]


@ex.alternative("one group by hand for each parameter", replaces="thaw")
def _(model, optimizer, blocks, opened, lr, decay, weight_decay):
    inside = select(model, *opened)
    for name, p in model.named_parameters():
        p.requires_grad_(name in inside)
        if name not in inside:
            p.grad = None
    known = [id(p) for g in optimizer.param_groups for p in g["params"]]
    rates = {}
    for j in range(len(blocks))[::-1]:
        for name in select(model, blocks[j]):
            rates[name] = lr * decay ** (len(blocks) - 1 - j)
    added = []
    for name, p in inside.items():
        if id(p) not in known:
            shrink = weight_decay if p.ndim >= 2 else 0
            optimizer.add_param_group({"params": p, "lr": rates[name], "weight_decay": shrink})
            added.append(name)
    return added


@ex.alternative("gradients of open parameters are kept", replaces="thaw")
def _(model, optimizer, blocks, opened, lr, decay, weight_decay):
    inside = {id(p) for p in select(model, *opened).values()}
    for p in model.parameters():
        p.requires_grad = id(p) in inside
        if id(p) not in inside:
            p.grad = None
    names = {id(p): name for name, p in model.named_parameters()}
    order, added = list(names.values()), []
    known = {id(p) for g in optimizer.param_groups for p in g["params"]}
    for group in param_groups(model, blocks, lr, decay, weight_decay):
        for p in group["params"]:
            if id(p) not in known:
                optimizer.add_param_group({**group, "params": [p]})
                added.append(names[id(p)])
    return sorted(added, key=order.index)


# ----------------------------------------------------------------------------------------------
# finetune_epoch

ex = finetune_epoch = Exercise("finetune_epoch")


class Modes(nn.Module):
    """Remembers the modes and the sizes of the batches it sees."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4))
        self.second = nn.ModuleDict({"inner": nn.Sequential(nn.Linear(4, 4), nn.BatchNorm1d(4))})
        self.free = nn.BatchNorm1d(4)
        self.fc = nn.Linear(4, 5)
        self.seen: list[list[Any]] = []

    def forward(self, x: Tensor) -> Tensor:
        self.seen.append([len(x), [module.training for module in self.modules()]])
        return self.fc(self.free(self.second["inner"](self.first(x))))


def tuned(
    student: Any,
    net: nn.Module,
    trained: list[str],
    blocks: list[str],
    opened: list[str],
    pairs: list[tuple[Tensor, Tensor]],
    options: dict[str, float],
    epochs: int = 1,
) -> dict[str, Any]:
    """A probe: losses of some epochs, everything in the net, what the net saw."""
    params = dict(net.named_parameters())
    for name, p in params.items():
        p.requires_grad_(name in trained)
        p.grad = torch.ones_like(p) if p.requires_grad else None  # left over from something else
    optimizer = torch.optim.SGD([params[name] for name in trained], **options)
    losses = [
        student.finetune_epoch(net, optimizer, blocks, opened, iter(pairs)) for _ in range(epochs)
    ]
    return {
        "losses": losses,
        "kind": [isinstance(loss, float) for loss in losses],
        "state": plain(net),
        "modes": [module.training for module in net.modules()],
        "seen": getattr(net, "seen", []),
        "flags": [n for n, p in net.named_parameters() if p.requires_grad],
    }


class Trainer:
    """The oracle of `finetune_epoch`, with the loss written out."""

    def finetune_epoch(self, model, optimizer, blocks, opened, pairs):
        closed = [name for name in blocks if name not in opened]
        for name, module in model.named_modules():
            inside = [c for c in closed if name == c or name.startswith(c + ".")]
            module.training = not inside
        weighted = []
        for x, labels in pairs:
            log_p = torch.log_softmax(model(x), dim=1)
            losses = -log_p[torch.arange(len(labels)), labels]
            for group in optimizer.param_groups:
                for p in group["params"]:
                    p.grad = None
            losses.mean().backward()
            optimizer.step()
            weighted += losses.tolist()
        return sum(weighted) / len(weighted)


def expect_tuned(
    student: Any,
    net: nn.Module,
    trained: list[str],
    blocks: list[str],
    opened: list[str],
    pairs: list[tuple[Tensor, Tensor]],
    epochs: int = 1,
    **options: float,
) -> None:
    options = {"lr": 0.2, **options}
    want = tuned(Trainer(), copy.deepcopy(net), trained, blocks, opened, pairs, options, epochs)
    got = student.run(tuned, net, trained, blocks, opened, pairs, options, epochs)
    expect(got["losses"], want["losses"], f"mean loss with {opened} open", rtol=1e-3, atol=1e-5)
    expect(got["modes"], want["modes"], f"modes afterwards with {opened} open")
    expect(got["seen"], want["seen"], f"batches and modes that the net saw with {opened} open")
    for name in want["state"]:
        expect(got["state"][name], want["state"][name], f"{name} afterwards", rtol=1e-3, atol=1e-4)
    expect(got["flags"], want["flags"], "what is trainable afterwards")


def some_pairs(
    sizes: list[int], shape: tuple[int, ...], classes: int
) -> list[tuple[Tensor, Tensor]]:
    return [(torch.randn(n, *shape), torch.randint(0, classes, (n,))) for n in sizes]


@ex.check("steps and mean loss", points=1)
def _(student):
    net = nn.Sequential(nn.Linear(3, 6), nn.Tanh(), nn.Linear(6, 4))
    everything = names_in(net, "")
    expect_tuned(student, net, everything, ["0", "2"], ["0", "2"], some_pairs([5], (3,), 4))
    pairs = some_pairs([6, 6, 1], (3,), 4)
    expect_tuned(student, net, everything, ["0", "2"], ["0", "2"], pairs, epochs=2, momentum=0.9)
    pairs = some_pairs([2, 7], (3,), 4)
    expect_tuned(student, net, ["2.weight"], ["0", "2"], ["2"], pairs, weight_decay=0.1)
    net = nn.Sequential(nn.Linear(2, 3, bias=False))
    net[0].weight.data = torch.tensor([[900.0, 0.0], [-300.0, 500.0], [0.0, -1000.0]])
    pairs = [(torch.tensor([[1.0, 0.5], [-0.5, 1.0]]), torch.tensor([1, 2]))]
    expect_tuned(student, net, ["0.weight"], ["0"], ["0"], pairs)
    net = Tied()  # the weight of the closed embedding trains in the decoder
    pairs = [(torch.randint(0, 7, (n,)), torch.randint(0, 7, (n,))) for n in [5, 2]]
    expect_tuned(student, net, names_in(net, "decoder"), TIED, ["decoder"], pairs)


@ex.check("closed blocks keep their statistics and use them", points=1)
def _(student):
    for opened in [["2"], ["1", "2"], ["0", "1", "2"], ["0"]]:
        net = lived(conv_net())
        net[1][3].p = 0.0
        trained = names_in(net, *opened)
        pairs = some_pairs([4, 3], (2, 6, 5), 3)
        expect_tuned(student, net, trained, ["0", "1", "2"], opened, pairs)
    net = lived(conv_net())  # dropout in a closed block
    expect_tuned(
        student, net, names_in(net, "2"), ["0", "1", "2"], ["2"], some_pairs([4], (2, 5, 6), 3)
    )


@ex.check("modes, whatever they were", points=1)
def _(student):
    blocks = ["first", "second.inner", "fc"]
    for opened in [["fc"], ["second.inner", "fc"], blocks]:
        for before in [True, False]:
            net = lived(Modes()).train(before)
            net.first[1].train(not before)
            pairs = some_pairs([3, 4], (3,), 5)
            expect_tuned(student, net, names_in(net, *opened), blocks, opened, pairs, epochs=2)
    net, blocks_ = lived(Nested()), ["layer1", "layer10", "layer1x", "fc"]
    for opened in [["layer10", "fc"], ["layer1", "fc"]]:
        pairs = some_pairs([3, 2], (4,), 3)
        expect_tuned(student, net, names_in(net, *opened), blocks_, opened, pairs)
    net = nn.Sequential(nn.Linear(3, 6), nn.Dropout(0.5), nn.Linear(6, 2))
    pairs = some_pairs([4], (3,), 2)
    expect_tuned(student, net, names_in(net, "2"), ["0", "1", "2"], ["2"], pairs)
    net, pairs = lived(Modes()), some_pairs([4, 2], (3,), 5)  # open, yet nothing in it trains
    expect_tuned(student, net, names_in(net, "fc"), blocks, ["first", "fc"], pairs)


@ex.check("batches that can be read once, a float", points=0.5)
def _(student):
    net = nn.Sequential(nn.Linear(2, 3))
    pairs = some_pairs([3, 2, 4], (2,), 3)
    got = student.run(tuned, net, ["0.weight"], ["0"], ["0"], pairs, {"lr": 0.1})
    want = tuned(Trainer(), copy.deepcopy(net), ["0.weight"], ["0"], ["0"], pairs, {"lr": 0.1})
    expect(got["losses"], want["losses"], "mean loss", rtol=1e-3)
    expect(got["kind"], [True], "whether the result is a float")


ex.mistake(
    "closed blocks train",
    "First model.train(), then eval() for what is closed: train() reaches every module.",
    edit=("    for name in blocks:\n        model.get_submodule(name).train(name in opened)\n", ""),
)
ex.mistake(
    "the mode that the net came with",
    "What is in no block, and the net itself, are in training mode.",
    edit=("    model.train()\n", ""),
)
ex.mistake(
    "everything in evaluation mode",
    "Open blocks train.",
    edit=("    model.train()\n", "    model.eval()\n"),
)
ex.mistake(
    "open and closed exchanged",
    "Open blocks train, closed ones evaluate.",
    edit=("train(name in opened)", "train(name not in opened)"),
)
ex.mistake(
    "only the blocks' own flag",
    "A block is a module with modules inside: train() and eval() reach all of them.",
    edit=(
        "model.get_submodule(name).train(name in opened)",
        "model.get_submodule(name).training = name in opened",
    ),
)
ex.mistake(
    "only batch normalisation evaluates",
    "A closed block evaluates as a whole: its dropout is off as well.",
    edit=(
        "        model.get_submodule(name).train(name in opened)\n",
        "        for module in model.get_submodule(name).modules():\n"
        "            if isinstance(module, nn.BatchNorm1d | nn.BatchNorm2d):\n"
        "                module.train(name in opened)\n",
    ),
)
ex.mistake(
    "names that begin alike",
    "A closed `layer1` says nothing of `layer10`: take the module by its whole name.",
    edit=(
        "        model.get_submodule(name).train(name in opened)\n",
        "        if name not in opened:\n"
        "            for other, module in model.named_modules():\n"
        "                if other.startswith(name):\n"
        "                    module.eval()\n",
    ),
)
ex.mistake(
    "closed blocks are frozen here",
    "requires_grad is not touched: a tied weight may be in an open block too.",
    edit=(
        "        model.get_submodule(name).train(name in opened)\n",
        "        model.get_submodule(name).train(name in opened)\n"
        "        if name not in opened:\n"
        "            model.get_submodule(name).requires_grad_(False)\n",
    ),
)
ex.mistake(
    "a closed block without parameters trains",
    "A dropout that is a block by itself evaluates like any other closed block.",
    edit=("train(name in opened)", "train(name in opened or not select(model, name))"),
)
ex.mistake(
    "the logarithm of a softmax",
    "A probability may be rounded to 0, whose logarithm is infinite: cross_entropy takes logits.",
    edit=(
        "F.cross_entropy(model(x), labels)",
        "F.nll_loss(model(x).softmax(dim=1).log(), labels)",
    ),
)
ex.mistake(
    "modes by requires_grad",
    "`opened` says which blocks train; what is trainable is another matter.",
    edit=(
        ".train(name in opened)",
        ".train(any(p.requires_grad for p in select(model, name).values()))",
    ),
)
ex.mistake(
    "gradients add up",
    "Gradients start from zero for each batch.",
    edit=("        optimizer.zero_grad()\n", ""),
)
ex.mistake(
    "the optimiser moves nothing",
    "Zero the gradients, then backward, then step(): in another order it finds none.",
    edit=[
        ("        optimizer.zero_grad()\n", ""),
        ("        loss.backward()\n", "        loss.backward()\n        optimizer.zero_grad()\n"),
    ],
)
ex.mistake(
    "gradients from zero once an epoch",
    "Gradients start from zero for each batch.",
    edit=[
        ("        optimizer.zero_grad()\n", ""),
        ("    total, count = 0.0, 0\n", "    total, count = 0.0, 0\n    optimizer.zero_grad()\n"),
    ],
)
ex.mistake(
    "mean of the batches' means",
    "A smaller batch counts for less: weight by the number of examples.",
    edit=(
        "total + len(labels) * loss.item(), count + len(labels)",
        "total + loss.item(), count + 1",
    ),
)
ex.mistake(
    "the sum of the loss",
    "The gradient is that of the mean over the batch.",
    edit=(
        "F.cross_entropy(model(x), labels)",
        'F.cross_entropy(model(x), labels, reduction="sum")',
    ),
)
ex.mistake(
    "the loss of the last batch",
    "The mean over all examples of the epoch is asked for.",
    edit=("return total / count", "return loss.item()"),
)
ex.mistake(
    "the loss after the step",
    "Each batch's loss is taken before its step; another forward pass also moves the statistics.",
    edit=(
        "        optimizer.step()\n",
        "        optimizer.step()\n        loss = F.cross_entropy(model(x), labels)\n",
    ),
)
ex.mistake(
    "softmax before cross-entropy",
    "cross_entropy expects logits.",
    edit=("F.cross_entropy(model(x), labels)", "F.cross_entropy(model(x).softmax(dim=1), labels)"),
)
ex.mistake(
    "open blocks are unfrozen here",
    "requires_grad is not touched: thaw has decided.",
    edit=(
        "    total, count = 0.0, 0\n",
        "    model.requires_grad_(True)\n    total, count = 0.0, 0\n",
    ),
)
ex.mistake(
    "evaluation mode afterwards",
    "The modes stay as the epoch had them.",
    edit=("    return total / count", "    model.eval()\n    return total / count"),
)


@ex.alternative("named modules one by one, the loss by hand")
def _(model, optimizer, blocks, opened, pairs):
    closed = set(blocks) - set(opened)
    model.train(True)
    for name, module in model.named_modules():
        if name in closed:
            module.eval()
    losses = []
    for batch, targets in pairs:
        model.zero_grad()
        log_p = model(batch).log_softmax(-1)
        each = -log_p.gather(1, targets[:, None])[:, 0]
        each.mean().backward()
        optimizer.step()
        losses.append(each.detach())
    return float(torch.cat(losses).double().mean())


@ex.alternative("modes set at each batch")
def _(model, optimizer, blocks, opened, pairs):
    total = torch.zeros((), dtype=torch.float64)
    count = 0
    for x, y in pairs:
        model.train()
        for name in blocks:
            if name not in opened:
                model.get_submodule(name).eval()
        loss = nn.CrossEntropyLoss()(model(x), y)
        optimizer.zero_grad(set_to_none=False)
        loss.backward()
        optimizer.step()
        total += loss.detach() * y.shape[0]
        count += y.shape[0]
    return (total / count).item()
