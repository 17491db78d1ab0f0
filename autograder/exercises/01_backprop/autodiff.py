"""Unit 01, autodiff: hidden checks, known mistakes and alternative solutions.

The checks of `topological_order` and `backward` build their graphs node by node, so that a wrong
`add` or `multiply` costs no marks there. A graph is a list with, for each node, its parents'
numbers and its local gradients; parents have smaller numbers than their children.
"""

import itertools
import math
import random
from functools import partial
from typing import TYPE_CHECKING

import torch
from torch.nn import functional as F

from autograder.contract import Exercise, expect, require

if TYPE_CHECKING:  # replacements run in the namespace of the reference
    from autograder.reference.autodiff import (
        Value,
        linear_backward,
        linear_forward,
        relu_backward,
        softmax_cross_entropy,
        topological_order,
    )

# For float64: what any way of computing reaches, and no detour through float32 does.
exactly = partial(expect, rtol=1e-9, atol=1e-12, dtype=True)
AUTOGRAD = ("autograd", "backward", "requires_grad", "requires_grad_", "vjp", "jacrev", "func")


# --- value_operations

ex = value_operations = Exercise("value_operations", defines=["add", "multiply"], forbids=AUTOGRAD)


def combine(student, name, a, b):
    """Data and local gradients of a function of two values."""
    result = getattr(student, name)(student.Value(a), student.Value(b))
    return {"data": result.data, "local gradients": list(result.local_gradients)}


def parents_of(student, name, a, b):
    """Which of the two inputs the parents are, by identity, and what the inputs are afterwards."""
    inputs = [student.Value(a), student.Value(b)]
    inputs[0].grad, inputs[1].grad = 0.5, -0.25
    result = getattr(student, name)(*inputs)
    places = [[parent is known for known in inputs].index(True) for parent in result.parents]
    return {"parents": places, "inputs": [[v.data, v.grad, len(v.parents)] for v in inputs]}


def square(student, name, a):
    """One value used twice: are both parents that value, and how much is handed to each place?"""
    value = student.Value(a)
    result = getattr(student, name)(value, value)
    same = [parent is value for parent in result.parents]
    return {"same": same, "data": result.data, "local gradients": list(result.local_gradients)}


@ex.check("the sum and its local gradients", points=0.5)
def _(student):
    for a, b in [(2.0, 5.0), (-1.5, 0.25), (0.0, -3.0), (4.0, 0.0)]:
        got = student.run(combine, "add", a, b)
        expect(got, {"data": a + b, "local gradients": [1.0, 1.0]}, f"add of {a:g} and {b:g}")


@ex.check("the product and its local gradients", points=0.5)
def _(student):
    for a, b in [(2.0, 5.0), (-1.5, 0.25), (0.0, -3.0), (4.0, 0.0), (1.0, 6.0), (7.0, 1.0)]:
        got = student.run(combine, "multiply", a, b)
        expect(got, {"data": a * b, "local gradients": [b, a]}, f"multiply of {a:g} and {b:g}")


@ex.check("parents are the objects that came in, also twice the same", points=1)
def _(student):
    for name, data, local in [("add", 6.0, 1.0), ("multiply", 9.0, 3.0)]:
        got = student.run(square, name, 3.0)
        want = {"same": [True, True], "data": data, "local gradients": [local, local]}
        expect(got, want, f"{name} of a value with itself")
        for a, b in [(2.0, 7.0), (2.0, 0.0), (0.0, 7.0), (1.0, 1.0)]:
            got = student.run(parents_of, name, a, b)
            want = {"parents": [0, 1], "inputs": [[a, 0.5, 0], [b, -0.25, 0]]}
            expect(got, want, f"parents and inputs of {name}, {a:g} and {b:g}")


ex.mistake(
    "each factor gets itself",
    "How much does a * b change when a does? By b: each factor's local gradient is the other "
    "factor.",
    edit=("(b.data, a.data)", "(a.data, b.data)"),
)
ex.mistake(
    "the product has the sum's local gradients",
    "Only a sum passes changes on one to one; d(ab)/da is b.",
    edit=("(b.data, a.data)", "(1.0, 1.0)"),
)
ex.mistake(
    "the product itself as local gradient",
    "d(ab)/da is b, not ab.",
    edit=("(b.data, a.data)", "(a.data * b.data, a.data * b.data)"),
)
ex.mistake(
    "the sum has the product's local gradients",
    "d(a + b)/da is 1, whatever b is.",
    edit=("(1.0, 1.0)", "(b.data, a.data)"),
)
ex.mistake(
    "the sum shares its change among the terms",
    "Each term's change reaches the sum whole: both local gradients are 1, not one half.",
    edit=("(1.0, 1.0)", "(0.5, 0.5)"),
)
ex.mistake(
    "copies for parents",
    "The parents must be the objects a and b: the gradient of a copy never reaches the original.",
    edit=("Value(a.data * b.data, (a, b)", "Value(a.data * b.data, (Value(a.data), Value(b.data))"),
)
ex.mistake(
    "no parents",
    "Without parents the graph ends here and nothing can flow back.",
    edit=("Value(a.data + b.data, (a, b), (1.0, 1.0))", "Value(a.data + b.data)"),
)
ex.mistake(
    "one parent when both are the same",
    "In a * a the value is used in two places: it stands twice among the parents.",
    edit=(
        "return Value(a.data * b.data, (a, b), (b.data, a.data))",
        "return Value(a.data * b.data, *(((a,), (b.data,)) if a is b else ((a, b), (b.data, "
        "a.data))))",
    ),
)


@ex.mistake("adds in place", "A new node is wanted: the old value of a is still needed by others.")
def _(a, b):
    a.data += b.data
    a.parents, a.local_gradients = (a, b), (1.0, 1.0)
    return a


ex.mistake(
    "a + 0 is a",
    "The sum is a new node even if one term is 0: a zero today is another number after the next "
    "step.",
    edit=("return Value(a.data + b.data,", "return a if b.data == 0 else Value(a.data + b.data,"),
)
ex.mistake(
    "resets the inputs' gradients",
    "Building the graph leaves `grad` alone: the inputs may hold gradients that are still needed.",
    edit=(
        "    return Value(a.data + b.data,",
        "    a.grad = b.grad = 0.0\n    return Value(a.data + b.data,",
    ),
)


ex.alternative("integers and lists", edit=("(a, b), (1.0, 1.0)", "[a, b], [1, 1]"))


@ex.alternative("attributes set afterwards", replaces="multiply")
def _(a, b):
    result = Value(a.data * b.data)
    result.parents = (a, b)
    result.local_gradients = (b.data, a.data)
    return result


# --- value_functions

ex = value_functions = Exercise(
    "value_functions",
    defines=["power", "exp", "log", "tanh", "relu"],
    forbids=AUTOGRAD,
)


def apply(student, name, a, *rest):
    """Data and local gradients of a function of one value; is that value the parent?"""
    value = student.Value(a)
    result = getattr(student, name)(value, *rest)
    parents = [parent is value for parent in result.parents]
    return [parents, result.data, *result.local_gradients]


@ex.check("power: whole, negative and fractional exponents", points=0.5)
def _(student):
    for a, n in [(2.0, 3), (-1.5, 3), (4.0, 0.5), (5.0, -1), (-2.0, -2.0), (3.0, 1)]:
        want = [[True], a**n, n * a ** (n - 1)]
        expect(student.run(apply, "power", a, n), want, f"power of {a:g} to the {n:g}")


@ex.check("exp and log", points=0.5)
def _(student):
    for a in (0.3, 2.0, -1.7, 0.0, 200.0, 700.0):
        want = [[True], math.exp(a), math.exp(a)]
        expect(student.run(apply, "exp", a), want, f"exp of {a:g}")
    for a in (0.3, 2.0, 40.0, 1.0, 1e-6):
        want = [[True], math.log(a), 1 / a]
        expect(student.run(apply, "log", a), want, f"log of {a:g}")


@ex.check("tanh, also of large numbers", points=0.5)
def _(student):
    for a in (0.4, -1.3, 0.0, 1000.0, -1000.0):
        want = [[True], math.tanh(a), 1 - math.tanh(a) ** 2]
        expect(student.run(apply, "tanh", a), want, f"tanh of {a:g}")


@ex.check("relu and its derivative, 0 at 0", points=0.5)
def _(student):
    cases = [(3.0, 1.0), (0.5, 1.0), (-0.5, 0.0), (-4.0, 0.0), (0.0, 0.0)]
    for a, slope in [*cases, (1e-12, 1.0), (-1e-12, 0.0)]:
        expect(student.run(apply, "relu", a), [[True], max(0.0, a), slope], f"relu of {a:g}")


ex.mistake(
    "power keeps its exponent",
    "The derivative of a^n is n a^(n-1): the exponent falls by one.",
    edit=("a.data ** (exponent - 1)", "a.data ** exponent"),
)
ex.mistake(
    "power without the factor n",
    "The derivative of a^n is n a^(n-1): the exponent comes down as a factor.",
    edit=("exponent * a.data ** (exponent - 1)", "a.data ** (exponent - 1)"),
)
ex.mistake(
    "exp by the power rule",
    "In e^a the exponent is the variable, so the power rule does not apply: the derivative is e^a.",
    edit=("(result,))\n\n\ndef log", "(a.data * math.exp(a.data - 1),))\n\n\ndef log"),
)
ex.mistake(
    "log divides by its output",
    "The derivative of ln a is 1/a, one over the input.",
    edit=("(1 / a.data,)", "(1 / math.log(a.data) if a.data != 1 else math.inf,)"),
)
ex.mistake(
    "logarithm to base 10",
    "Here log is the natural logarithm.",
    edit=("math.log(a.data), (a,)", "math.log10(a.data), (a,)"),
)
ex.mistake(
    "tanh without the square",
    "The derivative of tanh is 1 - tanh^2.",
    edit=("1 - result**2", "1 - result"),
)
ex.mistake(
    "tanh's derivative from the input",
    "1 - tanh^2 takes the output of tanh, not its input.",
    edit=("1 - result**2", "1 - a.data**2"),
)
ex.mistake(
    "tanh overflows",
    "e^2000 is no float: use math.tanh, or exponentials of negative numbers only.",
    edit=("math.tanh(a.data)", "(math.exp(2 * a.data) - 1) / (math.exp(2 * a.data) + 1)"),
)
ex.mistake(
    "relu's derivative is 1 at 0",
    "The exercise takes 0 for the derivative at 0: strictly greater than.",
    edit=("a.data > 0", "a.data >= 0"),
)
ex.mistake(
    "relu passes everything back",
    "Where the input is negative the output does not move: the local gradient is 0 there.",
    edit=("1.0 if a.data > 0 else 0.0", "1.0"),
)
ex.mistake(
    "relu's value as its derivative",
    "Where it is on, the ReLU has slope 1, whatever its value.",
    edit=("1.0 if a.data > 0 else 0.0", "max(0.0, a.data)"),
)
ex.mistake(
    "leaky relu",
    "A ReLU is exactly 0 for negative inputs, and so is its derivative.",
    edit=[("max(0.0, a.data)", "max(0.01 * a.data, a.data)"), ("else 0.0", "else 0.01")],
)
ex.mistake(
    "exp clipped",
    "e^a is a float up to a = 709: nothing is to be clipped.",
    edit=("math.exp(a.data)", "math.exp(min(a.data, 88.0))"),
)


ex.equivalent(
    "max(0.0, a.data) -> max(a.data, 0.0)",
    "the larger of two numbers does not depend on their order",
)


@ex.alternative("tanh by exponentials of negative numbers", replaces="tanh")
def _(a):
    small = math.exp(-2 * abs(a.data))
    result = math.copysign((1 - small) / (1 + small), a.data)
    return Value(result, (a,), ((1 - result) * (1 + result),))


@ex.alternative("relu with if", replaces="relu")
def _(a):
    if a.data > 0:
        return Value(a.data, (a,), (1,))
    return Value(0, (a,), (0,))


ex.alternative("exp as a power of e", edit=("math.exp(a.data)", "math.e**a.data"))


# --- topological_order

ex = topological_order_ = Exercise(
    "topological_order",
    forbids=("setrecursionlimit", *AUTOGRAD),
)

Graph = list[tuple[list[int], list[float]]]


def build(student, graph):
    """The graph's nodes, all of which hold 1.0."""
    nodes = []
    for parents, local_gradients in graph:
        chosen = tuple(nodes[parent] for parent in parents)
        nodes.append(student.Value(1.0, chosen, tuple(local_gradients)))
    return nodes


def order_of(student, graph, root):
    """The order as the nodes' numbers; -1 for a node that is not of the graph."""
    nodes = build(student, graph)
    numbers = {id(node): number for number, node in enumerate(nodes)}
    return [numbers.get(id(node), -1) for node in student.topological_order(nodes[root])]


def orders_of(student, graphs):
    """The orders of many graphs, each from its last node."""
    return [order_of(student, graph, len(graph) - 1) for graph in graphs]


def small_graphs(count: int) -> list[Graph]:
    """Random graphs of four to nine nodes: each has one or two parents among all before it."""
    draw = random.Random(0)

    def node(number: int) -> tuple[list[int], list[float]]:
        parents = draw.choices(range(number), k=draw.choice([1, 2, 2])) if number else []
        return parents, [1.0] * len(parents)

    return [[node(number) for number in range(draw.randint(4, 9))] for _ in range(count)]


def random_graph(size: int) -> Graph:
    """Three inputs and nodes of one to three parents, of which some may be the same."""
    graph: Graph = [([], [])] * 3
    for number in range(3, size):
        count = 1 + int(torch.randint(3, ()))
        parents = torch.randint(max(0, number - 5), number, (count,)).tolist()
        graph.append((parents, torch.randn(count).tolist()))
    return graph


def chain(size: int, local_gradient: float = 1.0) -> Graph:
    """A single path."""
    return [([], []), *(([number], [local_gradient]) for number in range(size - 1))]


def diamonds(count: int) -> Graph:
    """A chain of diamonds: three more nodes and twice as many paths for each."""
    graph: Graph = [([], [])]
    for _ in range(count):
        top = len(graph) - 1
        graph += [([top], [2.0]), ([top], [-1.0]), ([top + 1, top + 2], [1.0, 0.5])]
    return graph


def below(graph: Graph, root: int) -> list[int]:
    """Numbers of the nodes that the root depends on, itself included, in ascending order."""
    found = {root}
    for number in range(root, -1, -1):
        if number in found:
            found.update(graph[number][0])
    return sorted(found)


def is_in_order(order: list[int], graph: Graph, root: int) -> bool:
    """True if every node that the root depends on appears, at first, after its parents."""
    if not isinstance(order, list) or not all(isinstance(number, int) for number in order):
        return False
    needed = below(graph, root)
    if set(needed) - set(order):
        return False
    return all(order.index(parent) < order.index(n) for n in needed for parent in graph[n][0])


@ex.check("each node exactly once, and no others", points=1)
def _(student):
    for graph, root in [(diamonds(4), 12), (random_graph(14), 13), (random_graph(14), 9)]:
        order = student.run(order_of, graph, root)
        expect(sorted(order), below(graph, root), "the nodes by number, sorted")


@ex.check("every node after its parents", points=1)
def _(student):
    cases = [(diamonds(2), 6), ([*diamonds(1), ([0, 3], [1.0, 1.0]), ([4, 0, 1], [1.0] * 3)], 5)]
    cases += [(random_graph(12), 11) for _ in range(5)]
    for graph, root in cases:
        order = student.run(order_of, graph, root)
        require(
            is_in_order(order, graph, root), "a node stands before one of its parents", got=order
        )
    graphs = small_graphs(300)
    orders = student.run(orders_of, graphs)
    wrong = [
        [graph, order]
        for graph, order in zip(graphs, orders, strict=True)
        if not is_in_order(order, graph, len(graph) - 1)
    ]
    found = "no" if not wrong else f"for the parents {[parents for parents, _ in wrong[0][0]]}, a"
    require(
        not wrong,
        f"{found} node stands before one of its parents",
        got=[len(wrong), [order for _, order in wrong[:3]]],
    )


@ex.check("5,000 nodes in a chain, 65,536 paths through 16 diamonds", points=1)
def _(student):
    expect(student.run(order_of, chain(5000), 4999), list(range(5000)), "a chain of 5,000 nodes")
    order = student.run(order_of, diamonds(16), 48)
    expect(len(order), 49, "number of nodes in the order of 16 diamonds")


ex.mistake(
    "root first",
    "Parents come before their children: the root is the last of the list.",
    edit=("return order", "return order[::-1]"),
)
ex.mistake(
    "a node for every path",
    "Remember which nodes you have seen: a shared node is in the list once, not once for each "
    "path.",
    edit=[("elif node not in seen:\n            seen.add(node)", "else:")],
)
ex.mistake(
    "equal numbers taken for one node",
    "A node is an object: two nodes that hold the same number are two nodes.",
    edit=[("node not in seen", "node.data not in seen"), ("seen.add(node)", "seen.add(node.data)")],
)
ex.mistake(
    "without the inputs",
    "Nodes without parents belong to the list too: their gradients are the ones we want.",
    edit=(
        "            order.append(node)",
        "            order.extend([node] if node.parents else [])",
    ),
)
ex.mistake(
    "without the root",
    "The root belongs to the list, as its last node.",
    edit=("return order", "return order[:-1]"),
)


@ex.mistake(
    "breadth first, reversed",
    "The distance from the root does not decide: a node near the root can depend on one that is "
    "further away.",
)
def _(root):
    order, seen = [root], {root}
    for node in order:
        for parent in node.parents:
            if parent not in seen:
                seen.add(parent)
                order.append(parent)
    return order[::-1]


@ex.mistake(
    "breadth first, repaired once",
    "Each exchange can put another node before its parents: a topological order is found by depth "
    "first, or by counting.",
)
def _(root):
    order, seen = [root], {root}
    for node in order:
        for parent in node.parents:
            if parent not in seen:
                seen.add(parent)
                order.append(parent)
    order.reverse()
    place = {node: number for number, node in enumerate(order)}
    for node in list(order):
        for parent in node.parents:
            if place[parent] > place[node]:
                i, j = place[parent], place[node]
                order[i], order[j] = order[j], order[i]
                place[order[i]], place[order[j]] = i, j
    return order


@ex.mistake(
    "appended at the first visit",
    "Append a node when all its parents are done, that is when it comes up for the second time.",
)
def _(root):
    order, seen, stack = [], set(), [root]
    while stack:
        node = stack.pop()
        if node not in seen:
            seen.add(node)
            order.append(node)
            stack.extend(node.parents)
    return order[::-1]


@ex.mistake(
    "recursive",
    "Python stops a recursion about 1,000 calls deep: keep the nodes to visit in a list of your "
    "own.",
)
def _(root):
    order, seen = [], set()

    def visit(node):
        if node not in seen:
            seen.add(node)
            for parent in node.parents:
                visit(parent)
            order.append(node)

    visit(root)
    return order


@ex.alternative("counting children (Kahn)")
def _(root):
    children, found = {root: 0}, [root]
    for node in found:
        for parent in node.parents:
            if parent not in children:
                children[parent] = 0
                found.append(parent)
            children[parent] += 1
    order, ready = [], [root]
    while ready:
        node = ready.pop()
        order.insert(0, node)
        for parent in node.parents:
            children[parent] -= 1
            if children[parent] == 0:
                ready.append(parent)
    return order


@ex.alternative("a stack of iterators")
def _(root):
    order, seen, stack = [], {root}, [(root, iter(root.parents))]
    while stack:
        node, parents = stack[-1]
        for parent in parents:
            if parent not in seen:
                seen.add(parent)
                stack.append((parent, iter(parent.parents)))
                break
        else:
            order.append(node)
            stack.pop()
    return order


@ex.alternative("looks at its stack, remembers by id")
def _(root):
    order, done, stack = [], {}, [root]
    while stack:
        node = stack[-1]
        waiting = [parent for parent in node.parents if id(parent) not in done]
        if waiting:
            stack.append(waiting[0])
        else:
            stack.pop()
            done[id(node)] = True
            order.append(node)
    return order


# --- backward

ex = backward = Exercise("backward", forbids=("setrecursionlimit", *AUTOGRAD))


def gradients_of(student, graph, roots, before=0.0):
    """All nodes' gradients after a backward pass from each of the roots in turn."""
    nodes = build(student, graph)
    for number, node in enumerate(nodes):
        node.data = 1.0 + 0.25 * number  # no gradient is any node's number
        node.grad = before
    for root in roots:
        student.backward(nodes[root])
    return [node.grad for node in nodes]


def true_gradients(graph: Graph, root: int, before: list[float]) -> list[float]:
    """d root / d node: equation (1) for all nodes at once, solved as a linear system."""
    local = torch.zeros(len(graph), len(graph), dtype=torch.float64)
    for child, (parents, local_gradients) in enumerate(graph):
        for parent, local_gradient in zip(parents, local_gradients, strict=True):
            local[parent, child] += local_gradient
    one = torch.eye(len(graph), dtype=torch.float64)
    solved = torch.linalg.solve(one - local, one[root]).tolist()
    needed = set(below(graph, root))
    return [solved[n] if n in needed else before[n] for n in range(len(graph))]


@ex.check("a chain and a tree", points=0.5)
def _(student):
    tree: Graph = [
        *[([], [])] * 4,
        ([0, 1], [2.0, -3.0]),
        ([2, 3], [0.5, 4.0]),
        ([5, 4], [-1.5, 7.0]),
    ]
    for graph in ([*chain(3, 3.0), ([2], [-0.5])], tree):
        got = student.run(gradients_of, graph, [len(graph) - 1])
        expect(got, true_gradients(graph, len(graph) - 1, [0.0] * len(graph)), "gradients")


@ex.check("shared nodes collect from all that use them", points=1)
def _(student):
    twice: Graph = [([], []), ([], []), ([0, 0], [2.0, 3.0]), ([2, 1, 2], [1.0, 4.0, -5.0])]
    hasty: Graph = [([], []), ([0], [2.0]), ([1], [3.0]), ([1, 2], [1.0, 1.0])]
    for graph in (hasty, twice, diamonds(3), random_graph(12), random_graph(12)):
        got = student.run(gradients_of, graph, [len(graph) - 1])
        expect(got, true_gradients(graph, len(graph) - 1, [0.0] * len(graph)), "gradients")


@ex.check("old gradients do not enter, other nodes are left alone", points=1)
def _(student):
    deep: Graph = [([], []), ([0], [2.0]), ([1], [3.0]), ([2], [-1.0])]
    for graph, middle in [(deep, 2), (random_graph(12), 8)]:
        last = len(graph) - 1
        first = true_gradients(graph, last, [7.0] * len(graph))
        expect(student.run(gradients_of, graph, [last], 7.0), first, "gradients that were 7 before")
        expect(
            student.run(gradients_of, graph, [last, last], 7.0), first, "gradients after two calls"
        )
        both = true_gradients(graph, middle, first)
        got = student.run(gradients_of, graph, [last, middle], 7.0)
        expect(got, both, "gradients after a call for another root")
    # x, y, q = 2x, relu(q) where it is off, 3y; the sum of the last two in either order
    off: Graph = [([], []), ([], []), ([0], [2.0]), ([2], [0.0]), ([1], [3.0])]
    for parents in ([3, 4], [4, 3]):
        got = student.run(gradients_of, [*off, (parents, [1.0, 1.0])], [5], 7.0)
        expect(got, [0.0, 3.0, 0.0, 1.0, 1.0, 1.0], "gradients behind a ReLU that is off")


@ex.check("5,000 nodes deep", points=0.5)
def _(student):
    graph = [*chain(5000), ([4999, 0], [2.0, 0.5])]
    got = student.run(gradients_of, graph, [5000])
    expect(got, [2.5, *[2.0] * 4999, 1.0], "gradients along the chain")


ex.mistake(
    "overwrites",
    "Where paths meet, add: a node that is used twice gets a gradient from both uses (+=, not =).",
    edit=("parent.grad += ", "parent.grad = "),
)
ex.mistake(
    "the root's gradient stays 0",
    "Start with d root / d root = 1, or zero is all that flows.",
    edit=("    root.grad = 1.0\n", ""),
)
ex.mistake(
    "walks from the inputs to the root",
    "Gradients flow from the root to the inputs: go through the order backwards.",
    edit=("reversed(order)", "order"),
)
ex.mistake(
    "adds up over calls",
    "Reset the gradients first: a second call has to give the same numbers.",
    edit=("        node.grad = 0.0\n", "        node.grad += 0.0\n"),
)
ex.mistake(
    "resets the inputs only",
    "The nodes between inputs and root keep their old gradients and hand them on again: reset "
    "all of them.",
    edit=("        node.grad = 0.0\n", "        node.grad = node.grad if node.parents else 0.0\n"),
)
ex.mistake(
    "adds up at the inputs, as torch does",
    "This exercise's convention differs from torch's: reset the inputs' gradients too.",
    edit=("        node.grad = 0.0\n", "        node.grad = 0.0 if node.parents else node.grad\n"),
)
ex.mistake(
    "the node's number for its gradient",
    "Multiply the local gradient by the gradient that arrived, node.grad, not by node.data.",
    edit=("node.grad * node.local_gradients[i]", "node.data * node.local_gradients[i]"),
)
ex.mistake(
    "forgets what arrives",
    "Along a path multiply: local gradient times the gradient that arrived.",
    edit=("node.grad * node.local_gradients[i]", "node.local_gradients[i]"),
)
ex.mistake(
    "adds along the path",
    "Along a path multiply, where paths meet add.",
    edit=("node.grad * node.local_gradients[i]", "node.grad + node.local_gradients[i]"),
)
ex.mistake(
    "the first local gradient for all parents",
    "Each parent has its own local gradient, at the same place in the list.",
    edit=("node.local_gradients[i]", "node.local_gradients[0]"),
)
ex.mistake(
    "a parent that stands twice is served once",
    "In a * a both places hand on a gradient: go through the places, not through a set of parents.",
    edit=(
        "for i, parent in enumerate(node.parents):",
        "for parent in dict.fromkeys(node.parents):\n            i = node.parents.index(parent)",
    ),
)


ex.mistake(
    "a parent's first place for all its places",
    "`parents.index` finds the first place only: where a parent stands twice, each place has its "
    "own local gradient.",
    edit=("node.local_gradients[i]", "node.local_gradients[node.parents.index(parent)]"),
)
ex.mistake(
    "stops at the first gradient that is 0",
    "A node whose gradient is 0 has nothing to hand on, but others that come later do: go on.",
    edit=(
        "    for node in reversed(order):\n",
        "    for node in reversed(order):\n        if node.grad == 0.0:\n            break\n",
    ),
)


@ex.mistake(
    "local gradients of 0 skipped, and with them the reset",
    "Behind a local gradient of 0 the gradient is 0, not what an earlier call has left there: "
    "reset all nodes first.",
)
def _(root):
    root.grad, fresh = 1.0, {root}
    for node in reversed(topological_order(root)):
        for parent, local_gradient in zip(node.parents, node.local_gradients, strict=True):
            if local_gradient == 0:
                continue
            if parent not in fresh:
                parent.grad = 0.0
                fresh.add(parent)
            parent.grad += node.grad * local_gradient


@ex.mistake(
    "in the order of a stack search",
    "The order in which a stack gives out nodes is no topological order: a node may come up before "
    "all that use it.",
)
def _(root):
    order, seen, stack = [], set(), [root]
    while stack:
        node = stack.pop()
        if node not in seen:
            seen.add(node)
            order.append(node)
            stack.extend(node.parents)
    for node in order:
        node.grad = 0.0
    root.grad = 1.0
    for node in order:
        for parent, local_gradient in zip(node.parents, node.local_gradients, strict=True):
            parent.grad += node.grad * local_gradient


@ex.mistake(
    "hands on before all has arrived",
    "Use the topological order: a node may hand its gradient on only once, when it is complete.",
)
def _(root):
    for node in topological_order(root):
        node.grad = 0.0
    root.grad = 1.0
    stack = [root]
    while stack:
        node = stack.pop()
        for parent, local_gradient in zip(node.parents, node.local_gradients, strict=True):
            parent.grad += node.grad * local_gradient
            stack.append(parent)


@ex.mistake(
    "breadth first",
    "A node near the root may still wait for a gradient from further away: use the topological "
    "order.",
)
def _(root):
    order, seen = [root], {root}
    for node in order:
        for parent in node.parents:
            if parent not in seen:
                seen.add(parent)
                order.append(parent)
    for node in order:
        node.grad = 0.0
    root.grad = 1.0
    for node in order:
        for parent, local_gradient in zip(node.parents, node.local_gradients, strict=True):
            parent.grad += node.grad * local_gradient


@ex.alternative("gradients in a dictionary first")
def _(root):
    arrived = {root: 1.0}
    for node in topological_order(root)[::-1]:
        node.grad = arrived[node]
        for parent, local_gradient in zip(node.parents, node.local_gradients, strict=True):
            arrived[parent] = arrived.get(parent, 0.0) + local_gradient * node.grad


@ex.alternative("each node collects from its children")
def _(root):
    order = topological_order(root)
    uses = {id(node): [] for node in order}
    for child in order:
        for place, parent in enumerate(child.parents):
            uses[id(parent)].append((child, child.local_gradients[place]))
    for node in order[::-1]:
        node.grad = float(node is root) + sum(child.grad * local for child, local in uses[id(node)])


@ex.alternative("counts the gradients that are still to come")
def _(root):
    waiting, found = {root: 0}, [root]
    for node in found:
        node.grad = 0
        for parent in node.parents:
            if parent not in waiting:
                waiting[parent] = 0
                found.append(parent)
            waiting[parent] += 1
    root.grad, ready = 1, [root]
    while ready:
        node = ready.pop()
        for parent, local_gradient in zip(node.parents, node.local_gradients, strict=True):
            parent.grad += node.grad * local_gradient
            waiting[parent] -= 1
            if not waiting[parent]:
                ready.append(parent)


# --- linear

ex = linear = Exercise(
    "linear",
    defines=["linear_forward", "linear_backward"],
    forbids=("linear", "Linear", *AUTOGRAD),
)

# Rows, inputs, outputs. Equal ones first: there a transposed product has the right shape and wrong
# numbers, by which the mistake is known.
SIZES = [(3, 3, 3), (5, 4, 3), (1, 2, 6), (4, 2, 1), (1, 3, 1)]


def true_linear(grad, x, weight):
    """Gradients of x, weight and bias by torch."""
    x, weight = x.clone().requires_grad_(), weight.clone().requires_grad_()
    bias = torch.zeros(len(weight), dtype=x.dtype, requires_grad=True)
    return torch.autograd.grad(F.linear(x, weight, bias), [x, weight, bias], grad)


def linear_cases():
    """Random (grad, x, weight) for all sizes."""
    return [(torch.randn(b, m), torch.randn(b, d), torch.randn(m, d)) for b, d, m in SIZES]


def lists(student, name, *args):
    """The results as nested lists, of which the depth tells (M,) from a 0-d tensor."""
    results = getattr(student, name)(*args)
    if isinstance(results, torch.Tensor):
        return results.tolist()
    return [result.tolist() for result in results]


@ex.check("forward", points=0.5)
def _(student):
    for _, x, weight in linear_cases():
        bias = torch.randn(len(weight))
        got = student.run(lists, "linear_forward", x, weight, bias)
        expect(got, F.linear(x, weight, bias), f"output for x {tuple(x.shape)}")


@ex.check("gradient by the input", points=0.5)
def _(student):
    for case in linear_cases():
        got = student.run(lists, "linear_backward", *case)[0]
        expect(got, true_linear(*case)[0], "dx")


@ex.check("gradient by the weight", points=1)
def _(student):
    for case in linear_cases():
        got = student.run(lists, "linear_backward", *case)[1]
        expect(got, true_linear(*case)[1], "dweight")


@ex.check("gradient by the bias", points=0.5)
def _(student):
    for case in linear_cases():
        got = student.run(lists, "linear_backward", *case)[2]
        expect(got, true_linear(*case)[2], "dbias")


@ex.check("float64 stays float64, arguments stay as they are", points=0.5)
def _(student):
    grad, x, weight = (tensor.double() for tensor in linear_cases()[1])
    bias = torch.randn(3, dtype=torch.float64)
    exactly(student.linear_forward(x, weight, bias), F.linear(x, weight, bias), "output")
    for got, want, what in zip(
        student.linear_backward(grad, x, weight),
        true_linear(grad, x, weight),
        ("dx", "dweight", "dbias"),
        strict=True,
    ):
        exactly(got, want, what)
    same = [
        student.unchanged("linear_forward", x, weight, bias),
        student.unchanged("linear_backward", grad, x, weight),
    ]
    require(all(same), "an argument was changed", got=same)


ex.mistake(
    "weight not transposed",
    "The weight is (M, D): the output is x times its transpose.",
    edit=("x @ weight.T + bias", "x @ weight + bias"),
)
ex.mistake(
    "no bias",
    "The bias is added to each row of the output.",
    edit=("x @ weight.T + bias", "x @ weight.T"),
)
ex.mistake(
    "dx through the transposed weight",
    "Forward goes through weight.T, so backward goes through weight itself: (B, M)(M, D).",
    edit=("grad @ weight", "grad @ weight.T"),
)
ex.mistake(
    "dweight transposed",
    "dweight has the shape of weight, (M, D): grad.T times x.",
    edit=("grad.T @ x", "x.T @ grad"),
)
ex.mistake(
    "dweight averaged over the batch",
    "The weight is used by every row: its gradient is the sum over rows. The loss has taken the "
    "mean already.",
    edit=("grad.T @ x", "grad.T @ x / len(x)"),
)
ex.mistake(
    "dbias averaged over the batch",
    "The bias is used by every row: its gradient is the sum over rows. The loss has taken the "
    "mean already.",
    edit=("grad.sum(0)", "grad.mean(0)"),
)
ex.mistake(
    "dbias not summed over the batch",
    "All rows share one bias, of shape (M,): sum the rows' gradients.",
    edit=("grad.sum(0)", "grad"),
)
ex.mistake(
    "dbias summed over the outputs",
    "Each output has its own bias; what is summed is the batch, axis 0.",
    edit=("grad.sum(0)", "grad.sum(1)"),
)
ex.mistake(
    "dbias keeps a batch axis",
    "The bias has shape (M,), and so has its gradient.",
    edit=("grad.sum(0)", "grad.sum(0, keepdim=True)"),
)
ex.mistake(
    "dbias squeezed",
    "squeeze() drops every axis of length 1, the layer's single output too: dbias is (M,), also "
    "for M = 1.",
    edit=("grad.sum(0)", "grad.sum(0).squeeze()"),
)
ex.mistake(
    "forward in float32",
    "float64 goes in, so the sums have to be taken in float64: a float32 on the way loses half of "
    "the digits.",
    edit=("x @ weight.T + bias", "(x.float() @ weight.float().T + bias.float()).to(x.dtype)"),
)
ex.mistake(
    "dweight before dx",
    "The order is: by x, by weight, by bias.",
    edit=("grad @ weight, grad.T @ x,", "grad.T @ x, grad @ weight,"),
)


@ex.alternative("index notation", replaces="linear_backward")
def _(grad, x, weight):
    dx = torch.einsum("bm,md->bd", grad, weight)
    return [dx, torch.einsum("bm,bd->md", grad, x), torch.einsum("bm->m", grad)]


@ex.alternative("row by row", replaces="linear_backward")
def _(grad, x, weight):
    dweight = torch.zeros_like(weight)
    dbias = torch.zeros_like(weight[:, 0])
    rows = []
    for arrived, row in zip(grad, x, strict=True):
        rows.append(weight.T @ arrived)
        dweight += torch.outer(arrived, row)
        dbias += arrived
    return torch.stack(rows), dweight, dbias


@ex.alternative("addmm")
def _(x, weight, bias):
    return torch.addmm(bias, x, weight.t())


# --- activation_backward

ex = activation_backward = Exercise(
    "activation_backward",
    defines=["relu_backward", "sigmoid_backward", "tanh_backward"],
    forbids=AUTOGRAD,
)


def check_activation(student, name, function):
    """Compare with torch's gradient for several shapes; in float64; arguments unchanged."""
    for shape in [(7,), (3, 4), (2, 3, 2)]:
        x = torch.randn(shape, dtype=torch.float64, requires_grad=True)
        grad = torch.randn(shape, dtype=torch.float64)
        y = function(x)
        (want,) = torch.autograd.grad(y, x, grad)
        second = (x if name == "relu_backward" else y).detach()
        got = getattr(student, name)(grad, second)
        exactly(got, want, f"gradient of shape {shape}")
    same = student.unchanged(name, grad, second)
    require(same, "an argument was changed", got=same)


@ex.check("relu", points=1)
def _(student):
    check_activation(student, "relu_backward", torch.relu)
    x = torch.tensor([0.0, -0.0, 0.3, -0.3, 0.01, 1e-6, 1e-12, -1e-12])
    for sign in (1.0, -1.0):
        got = student.relu_backward(sign * torch.arange(5.0, 13.0), x)
        want = sign * torch.tensor([0.0, 0.0, 7.0, 0.0, 9.0, 10.0, 11.0, 0.0])
        expect(got, want, "gradient at and near 0")


@ex.check("sigmoid, from its output", points=0.5)
def _(student):
    check_activation(student, "sigmoid_backward", torch.sigmoid)
    y = torch.tensor([0.0, 1.0, 1e-6, 1e-3, 1 - 1e-6, 0.5], dtype=torch.float64)
    got = student.sigmoid_backward(torch.full_like(y, 1e6), y)
    want = [0.0, 0.0, 1 - 1e-6, 999.0, 1 - 1e-6, 0.25e6]
    expect(got, want, "gradient at and near outputs of 0 and 1")


@ex.check("tanh, from its output", points=0.5)
def _(student):
    check_activation(student, "tanh_backward", torch.tanh)
    y = torch.tensor([-1.0, 1.0, 0.0, 1 - 1e-6, 1e-6 - 1], dtype=torch.float64)
    got = student.tanh_backward(torch.full_like(y, 1e6), y)
    expect(got, [0.0, 0.0, 1e6, 2 - 1e-6, 2 - 1e-6], "gradient at and near outputs of -1 and 1")


ex.mistake(
    "relu masks by the gradient",
    "The mask is where the *input* was positive; a negative gradient has to pass as well.",
    edit=("grad * (x > 0)", "grad * (grad > 0)"),
)
ex.mistake(
    "relu's derivative is 1 at 0",
    "The exercise takes 0 for the derivative at 0: strictly greater than.",
    edit=("x > 0", "x >= 0"),
)
ex.mistake(
    "relu forgets what arrives",
    "The local derivative has to be multiplied by the gradient that comes from behind.",
    edit=("grad * (x > 0)", "(x > 0).to(grad.dtype)"),
)
ex.mistake(
    "relu passes everything",
    "Where the input was negative, the output does not depend on it: nothing passes.",
    edit=("grad * (x > 0)", "grad.clone()"),
)
ex.mistake(
    "relu's value for its slope",
    "The slope of the ReLU is 1 where it is on, not x.",
    edit=("grad * (x > 0)", "grad * x.clamp(min=0)"),
)
ex.mistake(
    "relu writes into the gradient",
    "The gradient belongs to somebody else: make a new tensor.",
    edit=("return grad * (x > 0)", "grad[x <= 0] = 0\n    return grad"),
)
ex.mistake(
    "relu with a threshold",
    "A small positive input is on like a large one: compare with 0.",
    edit=("x > 0", "x > 1e-3"),
)
ex.mistake(
    "relu's mask as a quotient",
    "A constant in the denominator falsifies the slope of small inputs: compare with 0.",
    edit=("grad * (x > 0)", "grad * x.clamp(min=0) / (x.abs() + 1e-7)"),
)
ex.mistake(
    "sigmoid's output clamped",
    "An output of 0 or 1 is allowed, and there the derivative is 0: nothing is to be clamped.",
    edit=("grad * y * (1 - y)", "grad * y.clamp(1e-4, 1 - 1e-4) * (1 - y.clamp(1e-4, 1 - 1e-4))"),
)
ex.mistake(
    "tanh in float32",
    "float64 goes in, so compute in float64: a float32 on the way loses half of the digits.",
    edit=("grad * (1 - y**2)", "(grad.float() * (1 - y.float() ** 2)).to(grad.dtype)"),
)
ex.mistake(
    "sigmoid of the output once more",
    "y is the output already: its derivative is y (1 - y).",
    edit=("grad * y * (1 - y)", "grad * y.sigmoid() * (1 - y.sigmoid())"),
)
ex.mistake(
    "sigmoid with tanh's derivative",
    "1 - y^2 belongs to tanh; the sigmoid has y (1 - y).",
    edit=("grad * y * (1 - y)", "grad * (1 - y**2)"),
)
ex.mistake(
    "sigmoid without the factor y",
    "The sigmoid's derivative y (1 - y) is small at both ends.",
    edit=("grad * y * (1 - y)", "grad * (1 - y)"),
)
ex.mistake(
    "tanh of the output once more",
    "y is the output already: the derivative is 1 - y^2.",
    edit=("1 - y**2", "1 - y.tanh() ** 2"),
)
ex.mistake(
    "tanh without the square",
    "The derivative of tanh is 1 - y^2, which is the same for y and -y.",
    edit=("1 - y**2", "1 - y"),
)
ex.mistake(
    "tanh with the sigmoid's derivative",
    "y (1 - y) belongs to the sigmoid; tanh has 1 - y^2.",
    edit=("1 - y**2", "y * (1 - y)"),
)


@ex.alternative("torch.where")
def _(grad, x):
    return torch.where(x > 0, grad, torch.zeros_like(grad))


@ex.alternative("a copy, changed in place")
def _(grad, x):
    result = grad.clone()
    result[x <= 0] = 0
    return result


ex.alternative(
    "other forms of the same polynomials",
    edit=[("grad * y * (1 - y)", "(y - y * y) * grad"), ("1 - y**2", "(1 + y) * (1 - y)")],
)


# --- softmax_cross_entropy

ex = softmax_cross_entropy_ = Exercise(
    "softmax_cross_entropy",
    forbids=(
        *("softmax", "log_softmax", "cross_entropy", "CrossEntropyLoss", "LogSoftmax"),
        *("aten::_softmax", "aten::_log_softmax", *AUTOGRAD),
    ),
)


def true_cross_entropy(logits, labels):
    """Loss and gradient by torch, in float64."""
    leaf = logits.double().requires_grad_()
    loss = F.cross_entropy(leaf, labels)
    return loss.detach(), torch.autograd.grad(loss, leaf)[0]


def cross_entropy_cases():
    """Logits and labels of several shapes; in the last, not every class occurs."""
    cases = [(2 * torch.randn(b, k), torch.randint(k, (b,))) for b, k in [(3, 3), (6, 4), (1, 5)]]
    return [*cases, (torch.randn(4, 7), torch.tensor([2, 0, 2, 1]))]


@ex.check("the loss, a mean over the batch", points=0.5)
def _(student):
    for logits, labels in cross_entropy_cases():
        loss, _ = student.softmax_cross_entropy(logits, labels)
        expect(
            loss, true_cross_entropy(logits, labels)[0], f"loss for logits {tuple(logits.shape)}"
        )
    # The loss of a sure and right answer is small, not 0, and no constant may hide it.
    for label in (0, 1):
        logits = torch.full((1, 2), 1.0, dtype=torch.float64)
        logits[0, label] = 21.0
        loss, _ = student.softmax_cross_entropy(logits, torch.tensor([label]))
        expect(loss, math.log1p(math.exp(-20)), "loss of logits that differ by 20", atol=1e-12)


@ex.check("the gradient by the logits", points=1)
def _(student):
    for logits, labels in cross_entropy_cases():
        _, dlogits = student.softmax_cross_entropy(logits, labels)
        expect(
            dlogits, true_cross_entropy(logits, labels)[1], f"gradient for {tuple(logits.shape)}"
        )


@ex.check("large logits, rows that differ by thousands", points=1)
def _(student):
    rows = [[1000.0, 0.0, -1000.0], [-3000.0, -3001.0, -3003.0], [0.5, 0.0, 200.0]]
    # float64: near -3000 a float32 is known to 1e-4 only, and a right logsumexp would lose marks.
    logits = torch.tensor([*rows, [0.0, 1e6, -1e6]], dtype=torch.float64)
    for labels in torch.tensor([[1, 0, 2, 1], [0, 2, 0, 1], [2, 1, 1, 0]]):
        loss, dlogits = student.softmax_cross_entropy(logits, labels)
        true_loss, true_dlogits = true_cross_entropy(logits, labels)
        expect(loss, true_loss, "loss of large logits")
        expect(dlogits, true_dlogits, "gradient of large logits", atol=1e-9)


@ex.check("float64 stays float64, arguments stay as they are", points=0.5)
def _(student):
    logits, labels = torch.randn(3, 4, dtype=torch.float64), torch.tensor([3, 0, 2])
    got = student.softmax_cross_entropy(logits, labels)
    want = true_cross_entropy(logits, labels)
    for value, wanted, what in zip(got, want, ("loss", "gradient"), strict=True):
        exactly(value, wanted, f"float64 {what}")
    same = student.unchanged("softmax_cross_entropy", logits, labels)
    require(same, "an argument was changed", got=same)


ex.mistake(
    "maximum not subtracted",
    "e^1000 is infinite: subtract each row's maximum before the exponential.",
    edit=("shifted = logits - logits.amax(dim=1, keepdim=True)", "shifted = logits"),
)
ex.mistake(
    "one maximum for the whole batch",
    "A row far below the batch's maximum has only zeros left after the exponential: take each "
    "row's own maximum.",
    edit=("logits.amax(dim=1, keepdim=True)", "logits.amax()"),
)
ex.mistake(
    "logarithm of a probability that is 0",
    "Do not form p and take its logarithm: subtract the logarithm of the sum from the shifted "
    "logits.",
    edit=(
        "log_p = shifted - shifted.exp().sum(dim=1, keepdim=True).log()",
        "log_p = (shifted.exp() / shifted.exp().sum(dim=1, keepdim=True)).log()",
    ),
)
ex.mistake(
    "a small constant inside the logarithm",
    "The constant hides large losses (ln 1e-9 is only -21): subtract the logarithm of the sum "
    "instead.",
    edit=(
        "log_p = shifted - shifted.exp().sum(dim=1, keepdim=True).log()",
        "log_p = (shifted.exp() / shifted.exp().sum(dim=1, keepdim=True) + 1e-9).log()",
    ),
)
ex.mistake(
    "a small constant beside the sum",
    "The sum is at least 1, so its logarithm needs no help; the constant falsifies small losses.",
    edit=("keepdim=True).log()", "keepdim=True).add(1e-7).log()"),
)
ex.mistake(
    "logits clamped",
    "A row may hold any number: subtract its maximum and nothing overflows.",
    edit=("shifted = logits - ", "logits = logits.clamp(-1e4, 1e4)\n    shifted = logits - "),
)
ex.mistake(
    "computed in float32",
    "float64 goes in, so compute in float64: a float32 on the way loses half of the digits.",
    edit=[
        (
            "shifted = logits - ",
            "logits, wide = logits.float(), logits.dtype\n    shifted = logits - ",
        ),
        ("return loss, dlogits", "return loss.to(wide), dlogits.to(wide)"),
    ],
)
ex.mistake(
    "summed, not averaged",
    "The loss is the mean over the batch, and its gradient carries 1/B.",
    edit=[(".mean()", ".sum()"), (" / len(labels)", "")],
)
ex.mistake(
    "gradient of the sum beside the mean loss",
    "The loss was divided by B, so its gradient carries 1/B too.",
    edit=(" / len(labels)", ""),
)
ex.mistake(
    "gradient divided by B and by K",
    "The mean is over the B examples only; the classes of one example are summed.",
    edit=("/ len(labels)", "/ logits.numel()"),
)
ex.mistake(
    "the label not subtracted",
    "The gradient is p minus one at the label: without that, every class is pushed down.",
    edit=("(log_p.exp() - F.one_hot(labels, logits.shape[1]))", "log_p.exp()"),
)
ex.mistake(
    "gradient with the wrong sign",
    "It is what the network said minus what was true, p - one-hot.",
    edit=(
        "log_p.exp() - F.one_hot(labels, logits.shape[1])",
        "F.one_hot(labels, logits.shape[1]) - log_p.exp()",
    ),
)
ex.mistake(
    "softmax over the batch",
    "Probabilities sum to one over the classes of an example, axis 1.",
    edit=[("amax(dim=1", "amax(dim=0"), ("sum(dim=1", "sum(dim=0")],
)
ex.mistake(
    "a loss for each example",
    "One number is wanted, the mean over the batch.",
    edit=("-log_p.gather(1, labels[:, None]).mean()", "-log_p.gather(1, labels[:, None])[:, 0]"),
)
ex.mistake(
    "mean over all classes",
    "Of each row only the label's log-probability counts.",
    edit=("log_p.gather(1, labels[:, None]).mean()", "log_p.mean()"),
)
ex.mistake(
    "the logits are shifted in place",
    "The logits belong to somebody else: make a new tensor.",
    edit=(
        "shifted = logits - logits.amax(dim=1, keepdim=True)",
        "shifted = logits.sub_(logits.amax(1, True))",
    ),
)


@ex.alternative("logsumexp, changed in place")
def _(logits, labels):
    rows = torch.arange(len(logits))
    log_p = logits - torch.logsumexp(logits, dim=1, keepdim=True)
    dlogits = log_p.exp()
    dlogits[rows, labels] -= 1
    return -log_p[rows, labels].mean(), dlogits.div_(len(rows))


@ex.alternative("nll_loss of one's own log-probabilities")
def _(logits, labels):
    log_p = logits - torch.logsumexp(logits, 1, keepdim=True)
    one_hot = F.one_hot(labels, logits.shape[1])
    return [F.nll_loss(log_p, labels), (log_p.exp() - one_hot) / logits.shape[0]]


@ex.alternative("example by example")
def _(logits, labels):
    losses, rows = [], []
    for row, label in zip(logits, labels.tolist(), strict=True):
        powers = torch.exp(row - max(row.tolist()))
        losses.append(powers.sum().log() + max(row.tolist()) - row[label])
        gradient = powers / powers.sum()
        gradient[label] = gradient[label] - 1
        rows.append(gradient / len(logits))
    return sum(losses) / len(losses), torch.stack(rows)


@ex.alternative("float64 inside")
def _(logits, labels):
    wide = logits.to(torch.float64)
    wide = wide - wide.max(1, keepdim=True).values
    total = wide.exp().sum(1, keepdim=True)
    one_hot = torch.zeros_like(wide).scatter_(1, labels.unsqueeze(1), 1.0)
    loss = ((total.log() - wide) * one_hot).sum() / len(labels)
    return loss.to(logits.dtype), ((wide.exp() / total - one_hot) / len(labels)).to(logits.dtype)


# --- numerical_gradient

ex = numerical_gradient = Exercise("numerical_gradient", forbids=("gradcheck", *AUTOGRAD))


def differences(student, kind, x, *h, transpose=False):
    """Numerical gradient of one of a few functions, and x afterwards."""
    functions = {
        "coupled": lambda v: (v**3).sum() + v.sum() ** 3,
        "float": lambda v: float((v**3).sum() + v.sum() ** 3),
        "steep": lambda v: 1e10 * (v**3).sum(),
        "sine": lambda v: v.sin().sum(),
    }
    x = x.T if transpose else x
    gradient = student.numerical_gradient(functions[kind], x, *h)
    return {"gradient": gradient, "x": x}


def true_differences(x, h):
    """Formula (2) for the coupled cubes, in closed form."""
    return 3 * x**2 + h**2 + 3 * x.sum() ** 2 + h**2


@ex.check("central differences with the given step", points=1)
def _(student):
    x = torch.randn(4, dtype=torch.float64)
    for kind, h in [("coupled", 0.5), ("coupled", 0.125), ("float", 0.25)]:
        got = student.run(differences, kind, x, h)["gradient"]
        exactly(got, true_differences(x, h), f"gradient of cubes, h = {h}")
    got = student.run(differences, "sine", x)["gradient"]
    expect(got, x.cos(), "gradient of the sine, h by default")
    got = student.run(differences, "steep", 0 * x)["gradient"]
    expect(got, torch.ones(4), "gradient of 1e10 x^3 at 0, which is 1e10 h^2, h by default")


@ex.check("tensors of any shape and layout", points=0.5)
def _(student):
    for shape in [(2, 3), (3, 1, 2), ()]:
        x = torch.randn(shape, dtype=torch.float64)
        got = student.run(differences, "coupled", x, 0.25)["gradient"]
        expect(got, true_differences(x, 0.25), f"gradient at x of shape {shape}")
    x = torch.randn(2, 3, dtype=torch.float64)
    got = student.run(differences, "coupled", x, 0.25, transpose=True)["gradient"]
    expect(got, true_differences(x.T, 0.25), "gradient at a transposed view")


@ex.check("x is the same afterwards, bit for bit", points=0.5)
def _(student):
    x = torch.randn(3, 8, dtype=torch.float64)
    for transpose in (False, True):
        got = student.run(differences, "coupled", x, 0.7, transpose=transpose)["x"]
        want = x.T if transpose else x
        # Enlarged, so that the diagnosis sees differences in the last bits.
        require(
            torch.is_tensor(got) and torch.equal(got, want),
            "x was changed",
            got=(got - want) * 1e20,
        )


ex.mistake(
    "one-sided, forwards",
    "Formula (2) goes to both sides: (f(x + h) - f(x - h)) / 2h; one-sided, the error is of "
    "first order.",
    edit=("(f(x + step) - f(x - step)) / (2 * h)", "(f(x + step) - f(x)) / h"),
)
ex.mistake(
    "one-sided, backwards",
    "Formula (2) goes to both sides: (f(x + h) - f(x - h)) / 2h; one-sided, the error is of "
    "first order.",
    edit=("(f(x + step) - f(x - step)) / (2 * h)", "(f(x) - f(x - step)) / h"),
)
ex.mistake(
    "divided by h",
    "From x - h to x + h the way is 2h.",
    edit=("/ (2 * h)", "/ h"),
)
ex.mistake(
    "divided by 2, then multiplied by h",
    "a / 2 * h is (a / 2) * h in Python: the denominator needs brackets.",
    edit=("/ (2 * h)", "/ 2 * h"),
)
ex.mistake(
    "all elements moved at once",
    "Move one element at a time, or you get the sum of all derivatives.",
    edit=("step[index] = h", "step.fill_(h)"),
)
ex.mistake(
    "a step of its own",
    "The step is an argument: use h.",
    edit=("        step = ", "        h = 1e-5\n        step = "),
)
ex.mistake(
    "sign exchanged",
    "The value at x + h comes first.",
    edit=("f(x + step) - f(x - step)", "f(x - step) - f(x + step)"),
)
ex.mistake(
    "float32 inside",
    "In float32 the difference of two nearly equal numbers is mostly rounding: stay in float64.",
    edit=("(f(x + step) - f(x - step))", "(f((x + step).float()) - f((x - step).float()))"),
)
ex.mistake(
    "stored in float32",
    "x is float64 and so is its gradient: `torch.zeros(x.shape)` is float32 and rounds what you "
    "write into it.",
    edit=[
        ("torch.empty_like(x)", "torch.zeros(x.shape)"),
        ("return gradient", "return gradient.double()"),
    ],
)


@ex.mistake(
    "never put back",
    "Put each element back before you go on to the next one: the others are evaluated at another "
    "point.",
)
def _(f, x, h=1e-5):
    gradient = torch.empty_like(x)
    for index in itertools.product(*map(range, x.shape)):
        x[index] += h
        above = f(x)
        x[index] -= 2 * h
        gradient[index] = (above - f(x)) / (2 * h)
    return gradient


@ex.mistake(
    "put back by adding",
    "Adding h, subtracting 2h and adding h again does not give the same float: keep the old "
    "value and write it back.",
)
def _(f, x, h=1e-5):
    gradient = torch.empty_like(x)
    for index in itertools.product(*map(range, x.shape)):
        x[index] += h
        above = f(x)
        x[index] -= 2 * h
        gradient[index] = (above - f(x)) / (2 * h)
        x[index] += h
    return gradient


@ex.mistake(
    "moves a flattened copy",
    "reshape(-1) of a transposed view is a copy: changing it does not change x, and all "
    "differences are 0.",
)
def _(f, x, h=1e-5):
    flat, gradient = x.reshape(-1), torch.zeros(x.numel(), dtype=x.dtype)
    for i in range(len(flat)):
        old = flat[i].item()
        flat[i] = old + h
        above = f(x)
        flat[i] = old - h
        gradient[i] = (above - f(x)) / (2 * h)
        flat[i] = old
    return gradient.reshape(x.shape)


@ex.alternative("in place, old values written back")
def _(f, x, h=1e-5):
    gradient = torch.zeros(x.shape, dtype=torch.float64)
    for index in itertools.product(*(range(size) for size in x.shape)):
        old = x[index].item()
        x[index] = old - h
        below = float(f(x))
        x[index] = old + h
        gradient[index] = (float(f(x)) - below) / h / 2
        x[index] = old
    return gradient


@ex.alternative("unit vectors from an identity matrix")
def _(f, x, h=1e-5):
    steps = h * torch.eye(x.numel(), dtype=x.dtype)
    slopes = [float(f(x + s.reshape(x.shape))) - float(f(x - s.reshape(x.shape))) for s in steps]
    return torch.tensor(slopes, dtype=x.dtype).reshape(x.shape) / (2 * h)


@ex.alternative("a flat copy of its own")
def _(f, x, h=1e-5):
    flat = x.flatten().clone()
    slopes = []
    for i in range(flat.numel()):
        values = []
        for sign in (1, -1):
            moved = flat.clone()
            moved[i] += sign * h
            values.append(f(moved.view(x.shape)))
        slopes.append((values[0] - values[1]) / (2 * h))
    return torch.tensor(slopes, dtype=torch.float64).view(x.shape)


# --- mlp_gradients

ex = mlp_gradients = Exercise("mlp_gradients", forbids=AUTOGRAD)

# Equal widths first: there the wrong layer's matrices have the right shape and wrong numbers.
WIDTHS = [(4, 4, 4, 4), (5, 6, 3), (3, 7, 5, 4, 6)]


def mlp_case(widths, rows=5):
    """Random inputs, labels and parameters in float64."""
    parameters = [
        (torch.randn(n_out, n_in, dtype=torch.float64), torch.randn(n_out, dtype=torch.float64))
        for n_in, n_out in itertools.pairwise(widths)
    ]
    x = torch.randn(rows, widths[0], dtype=torch.float64)
    return x, torch.randint(widths[-1], (rows,)), parameters


def true_mlp(x, labels, parameters):
    """Loss and gradients by torch."""
    layers = [[tensor.clone().requires_grad_() for tensor in layer] for layer in parameters]
    for number, layer in enumerate(layers):
        x = F.linear(x.relu() if number else x, *layer)
    loss = F.cross_entropy(x, labels)
    flat = torch.autograd.grad(loss, [tensor for layer in layers for tensor in layer])
    return loss.detach(), list(zip(flat[::2], flat[1::2], strict=True))


@ex.check("the loss", points=0.5)
def _(student):
    for widths in WIDTHS:
        case = mlp_case(widths)
        expect(student.mlp_gradients(*case)[0], true_mlp(*case)[0], f"loss, widths {widths}")


@ex.check("a single layer", points=0.5)
def _(student):
    case = mlp_case((4, 3))
    expect(student.mlp_gradients(*case)[1], true_mlp(*case)[1], "gradients of one layer")


@ex.check("gradients of all weights", points=1.5)
def _(student):
    for widths in WIDTHS:
        case = mlp_case(widths)
        got = [weight for weight, _ in student.mlp_gradients(*case)[1]]
        expect(got, [weight for weight, _ in true_mlp(*case)[1]], f"weights, widths {widths}")


@ex.check("gradients of all biases", points=1)
def _(student):
    for widths in WIDTHS:
        case = mlp_case(widths)
        got = [bias for _, bias in student.mlp_gradients(*case)[1]]
        expect(got, [bias for _, bias in true_mlp(*case)[1]], f"biases, widths {widths}")


@ex.check("dtype kept, arguments unchanged", points=0.5)
def _(student):
    case = mlp_case((3, 4, 2))
    (loss, gradients), (true_loss, true_gradients) = student.mlp_gradients(*case), true_mlp(*case)
    exactly(loss, true_loss, "loss in float64")
    for got, want in zip(gradients, true_gradients, strict=True):
        exactly(list(got), list(want), "gradients in float64")
    same = student.unchanged("mlp_gradients", *case)
    require(same, "an argument was changed", got=same)


ex.mistake(
    "ReLU after the last layer",
    "The last layer gives logits, which may be negative: no ReLU there.",
    edit=(
        "softmax_cross_entropy(outputs[-1], labels)",
        "softmax_cross_entropy(inputs[-1], labels)",
    ),
)
ex.mistake(
    "no ReLU forward",
    "Without a nonlinearity between them, two linear layers are one.",
    edit=("outputs[-1].clamp(min=0)", "outputs[-1]"),
)
ex.mistake(
    "no ReLU backward",
    "The gradient has to pass the ReLU too: nothing goes back through a neuron that is off.",
    edit=("grad = relu_backward(grad, outputs[layer])", "pass"),
)
ex.mistake(
    "ReLU masks by the gradient",
    "The mask is where the ReLU's input was positive, not where the gradient is.",
    edit=("relu_backward(grad, outputs[layer])", "relu_backward(grad, grad)"),
)
ex.mistake(
    "ReLU masks by the layer's input",
    "The ReLU stands behind the layer: its input is the layer's output.",
    edit=("relu_backward(grad, outputs[layer])", "relu_backward(grad, inputs[layer])"),
)
ex.mistake(
    "the first layer's mask for all",
    "Each ReLU has its own mask: where its own input was positive.",
    edit=("relu_backward(grad, outputs[layer])", "relu_backward(grad, outputs[0])"),
)
ex.mistake(
    "the next layer's mask",
    "The gradient that a layer receives passes the ReLU behind it, whose input is that layer's "
    "own output.",
    edit=("relu_backward(grad, outputs[layer])", "relu_backward(grad, outputs[layer + 1])"),
)
ex.mistake(
    "gradients of the sum beside the mean loss",
    "The loss is a mean over the batch, so all gradients carry 1/B.",
    edit=("    gradients = []\n", "    grad, gradients = grad * len(x), []\n"),
)
ex.mistake(
    "biases averaged over the batch",
    "The loss has divided by B already: dbias is the sum over rows.",
    edit=("(dweight, dbias)", "(dweight, dbias / len(x))"),
)
ex.mistake(
    "ReLU masks the logits' gradient too",
    "Behind the last layer there is no ReLU: the loss's gradient enters it as it is.",
    edit=("if layer < len(parameters) - 1:", "if True:"),
)
ex.mistake(
    "gradients from last to first",
    "The backward pass finds the last layer's gradients first; the list has to run from first to "
    "last.",
    edit=("gradients[::-1]", "gradients"),
)
ex.mistake(
    "values before the ReLU as the layer's input",
    "What a layer saw is its predecessor's output *after* the ReLU.",
    edit=("inputs[layer], parameters", "outputs[layer - 1] if layer else x, parameters"),
)
ex.mistake(
    "the same gradient for every layer",
    "Each layer hands on its own dx; the loss's gradient is only for the last layer.",
    edit=("grad, dweight, dbias = linear_backward", "_, dweight, dbias = linear_backward"),
)
ex.mistake(
    "the first layer sees the last input",
    "Each weight's gradient takes the input of its own layer.",
    edit=("inputs[layer], parameters", "inputs[-2], parameters"),
)
ex.mistake(
    "bias before weight",
    "The pairs are (weight, bias), as in the parameters.",
    edit=("(dweight, dbias)", "(dbias, dweight)"),
)


@ex.alternative("recursive")
def _(x, labels, parameters):
    def loss_from(a, layers):
        (weight, bias), rest = layers[0], layers[1:]
        z = linear_forward(a, weight, bias)
        if rest:
            loss, da, found = loss_from(z.relu(), rest)
            dz = relu_backward(da, z)
        else:
            (loss, dz), found = softmax_cross_entropy(z, labels), []
        dx, dweight, dbias = linear_backward(dz, a, weight)
        return loss, dx, [(dweight, dbias), *found]

    loss, _, gradients = loss_from(x, parameters)
    return loss, gradients


@ex.alternative("nothing but torch")
def _(x, labels, parameters):
    kept = []
    for number, (weight, bias) in enumerate(parameters):
        x = torch.relu(x) if number else x
        kept.append(x)
        x = torch.einsum("bd,md->bm", x, weight) + bias
    log_p = x - x.logsumexp(1, keepdim=True)
    g = (log_p.exp() - F.one_hot(labels, x.shape[1])) / x.shape[0]
    gradients = []
    for a, (weight, _) in zip(kept[::-1], parameters[::-1], strict=True):
        gradients.insert(0, [g.T.mm(a), g.sum(dim=0)])
        g = g.mm(weight) * a.gt(0)
    return -log_p[range(len(labels)), labels].mean(), gradients
