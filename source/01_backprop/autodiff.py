# %% [markdown]
# # Autodiff: the derivative of a program
#
# **Unit 01, backprop · assignment 1 of 2 · nine exercises, about two and a half hours**
#
# *Afterwards you can* write a reverse-mode automatic differentiation engine from nothing, derive
# the backward pass of a layer instead of looking it up, test any gradient numerically and say how
# far the test can be trusted, and train a network that contains no line of somebody else's
# calculus.
#
# *Needed before:* unit 00 (softmax, cross-entropy, gradient descent), the chain rule in one
# variable, the matrix product, Python classes. The lecture of this unit tells the same story with
# pictures.

# %% setup=true
import course

course.setup("01_backprop")

# %%
import itertools
import math
import time
from collections.abc import Callable
from functools import partial

import matplotlib.pyplot as plt
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from course import data, expect, plots

# %% [markdown]
# ## Which way should each weight move?
#
# A network is a function with thousands of knobs. To improve it you need, for every single knob,
# the answer to one question: if I turn this one up a little, does the loss rise or fall, and how
# fast? The honest way is to try: turn the knob by a little, compute the loss again, turn it back.
# Let us see what that would cost for a very small network, and what `backward()` costs.


# %%
def seconds(action: Callable[[], object], repeats: int = 20) -> float:
    """Shortest duration of `repeats` runs, in seconds."""
    durations = []
    for _ in range(repeats):
        start = time.perf_counter()
        action()
        durations.append(time.perf_counter() - start)
    return min(durations)


net = nn.Sequential(nn.Linear(64, 32), nn.ReLU(), nn.Linear(32, 10))
net_x, net_labels = torch.rand(256, 64), torch.randint(10, (256,))
n_weights = sum(parameter.numel() for parameter in net.parameters())


def net_loss() -> Tensor:
    """Cross-entropy of the small network, 0-d."""
    return F.cross_entropy(net(net_x), net_labels)


with torch.no_grad():
    one_loss = seconds(net_loss)
one_backward = seconds(lambda: net_loss().backward())
print(f"weights:                       {n_weights:8,}")
print(f"the loss once:                 {1e3 * one_loss:8.2f} ms")
print(f"turning every knob in turn:    {1e3 * one_loss * (n_weights + 1):8.2f} ms")
print(f"loss and backward():           {1e3 * one_backward:8.2f} ms")
print(
    f"one step costs as much as      {one_backward / one_loss:8.1f} losses, not {n_weights + 1:,}"
)

# %% [markdown]
# All derivatives at once cost only a few times as much as the loss alone, and this stays so when
# the weights are billions: the work of the backward pass is at most a small multiple of the forward
# pass's, however many inputs there are (the *cheap gradient principle*; Griewank and Walther,
# *Evaluating Derivatives*, 2008). That bargain is what made deep learning possible. It is neither
# symbolic algebra nor the turning of knobs, and it fits in some thirty lines. You are about to
# write them.

# %% [markdown]
# ## 1 · A graph, by hand
#
# Take $f = (x + y)\,z$ at $x = -2,\ y = 5,\ z = -4$. A machine computes it in two steps, each of
# which is a *node* of a graph. We say that a node's **parents** are the values it was computed
# from:
#
# $$q = x + y = 3, \qquad f = q\,z = -12 .$$
#
# Every node knows the derivatives of its own output by its own inputs, and nothing else. These are
# its **local gradients**:
#
# $$\frac{\partial q}{\partial x} = 1,\quad \frac{\partial q}{\partial y} = 1,\qquad
# \frac{\partial f}{\partial q} = z = -4,\quad \frac{\partial f}{\partial z} = q = 3 .$$
#
# Write $\bar v = \partial f / \partial v$ for what we are after at node $v$, and start at the end,
# where $\bar f = \partial f/\partial f = 1$. Now walk backwards and multiply:
#
# | node | forward value | what arrives | its gradient |
# |---|---|---|---|
# | $f$ | $-12$ | | $\bar f = 1$ |
# | $q$ | $3$ | $\bar f \cdot \partial f/\partial q = 1 \cdot (-4)$ | $\bar q = -4$ |
# | $z$ | $-4$ | $\bar f \cdot \partial f/\partial z = 1 \cdot 3$ | $\bar z = 3$ |
# | $x$ | $-2$ | $\bar q \cdot \partial q/\partial x = -4 \cdot 1$ | $\bar x = -4$ |
# | $y$ | $5$ | $\bar q \cdot \partial q/\partial y = -4 \cdot 1$ | $\bar y = -4$ |
#
# Believe it by turning a knob: $x = -1.99$ gives $f = 3.01 \cdot (-4) = -12.04$, so $f$ moved by
# $-0.04$ for a step of $0.01$, that is $-4$ for a step of one.

# %% [markdown]
# **The general rule.** The one thing missing in this example is a value that is used twice. Let
# $u_1, \dots, u_m$ be the nodes that have $v$ among their parents. A change $\mathrm{d}v$ reaches
# $f$ only through them: each changes by
# $\mathrm{d}u_j = \frac{\partial u_j}{\partial v}\,\mathrm{d}v$, and to first order $f$ changes by
# the sum of what each of them brings about, $\mathrm{d}f = \sum_j \bar u_j\,\mathrm{d}u_j$. Divide
# by $\mathrm{d}v$:
#
# $$\boxed{\ \bar v \;=\; \sum_{j=1}^{m} \bar u_j \, \frac{\partial u_j}{\partial v}\ } \tag{1}$$
#
# *Along a path multiply, where paths meet add.* Every backward pass in this course, up to that of a
# transformer, is equation (1). Note what it needs: the numbers $\partial u_j/\partial v$, which
# depend on the values of the forward pass (above: $z$ and $q$). So the forward pass has to keep
# them, and that is why training takes far more memory than inference.
#
# Here is a number that keeps them. The class is complete, except that its operators call functions
# that you will write.


# %%
class Value:
    """A number in a computational graph.

    Attributes:
        data: the number, a float.
        grad: derivative of the root by this number; 0.0 until `backward` has run.
        parents: the values that it was computed from; empty for an input.
        local_gradients: for each parent, in the same order, the derivative of `data` by it: floats.
        op, label: for drawings only.
    """

    __slots__ = ("data", "grad", "label", "local_gradients", "op", "parents")

    def __init__(
        self,
        data: float,
        parents: "tuple[Value, ...]" = (),
        local_gradients: tuple[float, ...] = (),
        label: str = "",
    ) -> None:
        self.data = float(data)
        self.grad = 0.0
        self.parents = tuple(parents)
        self.local_gradients = tuple(local_gradients)
        self.op = ""
        self.label = label

    def __repr__(self) -> str:
        return f"Value({self.data:.4g}, grad={self.grad:.4g})"

    def made_by(self, op: str) -> "Value":
        """Note the operation, for drawings."""
        self.op = op
        return self

    # Python's operators: each calls a function that you will write.
    def __add__(self, other: "Value | float") -> "Value":
        return add(self, as_value(other)).made_by("+")

    def __mul__(self, other: "Value | float") -> "Value":
        return multiply(self, as_value(other)).made_by("*")

    def __pow__(self, exponent: float) -> "Value":
        return power(self, exponent).made_by(f"^{exponent:g}")

    def exp(self) -> "Value":
        return exp(self).made_by("exp")

    def log(self) -> "Value":
        return log(self).made_by("log")

    def tanh(self) -> "Value":
        return tanh(self).made_by("tanh")

    def relu(self) -> "Value":
        return relu(self).made_by("relu")

    # These are made of the ones above: there is no new calculus in them.
    def __neg__(self) -> "Value":
        return self * -1.0

    def __sub__(self, other: "Value | float") -> "Value":
        return self + as_value(other) * -1.0

    def __truediv__(self, other: "Value | float") -> "Value":
        return self * as_value(other) ** -1.0

    def __radd__(self, other: float) -> "Value":
        return as_value(other) + self

    def __rmul__(self, other: float) -> "Value":
        return as_value(other) * self

    def __rsub__(self, other: float) -> "Value":
        return as_value(other) - self

    def __rtruediv__(self, other: float) -> "Value":
        return as_value(other) / self


def as_value(number: Value | float) -> Value:
    """A `Value` as it is; a plain number as a node without parents."""
    return number if isinstance(number, Value) else Value(number)


# %% [markdown] heading="value_operations"
# ### Exercise {number} · Sum and product ({points} points, about 3 min)
#
# The two operations of the worked example. For $c = a + b$ and for $p = a\,b$ the local gradients
# are
#
# $$\frac{\partial c}{\partial a} = 1,\quad \frac{\partial c}{\partial b} = 1,\qquad\qquad
# \frac{\partial p}{\partial a} = b,\quad \frac{\partial p}{\partial b} = a .$$
#
# Return a new `Value` with the result, the parents `(a, b)`, which are the very objects that came
# in (not copies), and the two local gradients in the parents' order, as plain numbers. `a` and `b`
# may be the same object: then it stands twice among the parents, each time with its own local
# gradient. The result is always a new node, for $a + 0$ too. The inputs stay as they are, their
# `grad` included: nobody computes it yet.


# %% exercise="value_operations"
def add(a: Value, b: Value) -> Value:
    """The sum a + b as a new node.

    Args:
        a: first term.
        b: second term; may be the same object as `a`.

    Returns:
        A new `Value` with `data`, `parents` (a, b) and `local_gradients`: two floats.
    """
    ### BEGIN SOLUTION
    return Value(a.data + b.data, (a, b), (1.0, 1.0))
    ### END SOLUTION


def multiply(a: Value, b: Value) -> Value:
    """The product a * b as a new node.

    Args:
        a: first factor.
        b: second factor; may be the same object as `a`.

    Returns:
        A new `Value` with `data`, `parents` (a, b) and `local_gradients`: two floats.
    """
    ### BEGIN SOLUTION
    return Value(a.data * b.data, (a, b), (b.data, a.data))
    ### END SOLUTION


# %% test="value_operations"
two, five = Value(2.0), Value(5.0)
total, product = add(two, five), multiply(two, five)
expect(total.data, 7.0, "add: data")
expect(list(total.local_gradients), [1.0, 1.0], "add: local gradients")
expect([parent.data for parent in total.parents], [2.0, 5.0], "add: parents")
expect(list(add(two, Value(0.0)).local_gradients), [1.0, 1.0], "add: 0 as the second term")
expect(product.data, 10.0, "multiply: data")
expect(list(product.local_gradients), [5.0, 2.0], "multiply: local gradients")
expect([parent.data for parent in product.parents], [2.0, 5.0], "multiply: parents")
same = [product.parents[0] is two, product.parents[1] is five]
expect(same, [True, True], "multiply: the parents are the objects that came in")
expect(list(multiply(five, five).local_gradients), [5.0, 5.0], "multiply: five times itself")
expect([two.grad, five.grad, product.grad], [0.0, 0.0, 0.0], "multiply: grad is untouched")

# %% [markdown]
# With these two, Python's own operators build the graph of the worked example while they compute
# it. The gradients in the picture are still zero: nobody has walked backwards.

# %%
x, y, z = Value(-2.0, label="x"), Value(5.0, label="y"), Value(-4.0, label="z")
q = x + y
f = q * z
q.label, f.label = "q", "f"
plots.graph(f)
plt.show()

# %% [markdown] heading="value_functions"
# ### Exercise {number} · Functions of one value ({points} points, about 8 min)
#
# A network also needs nonlinear functions. Each has one parent $a$ and one local gradient:
#
# | function | value | local gradient | defined for |
# |---|---|---|---|
# | `power(a, n)` | $a^n$, $n$ a plain number | $n\,a^{n-1}$ | $a > 0$; $a \ne 0$ if $n$ is whole |
# | `exp(a)` | $e^a$ | $e^a$ | $a \le 700$ |
# | `log(a)` | $\ln a$ | $1/a$ | $a > 0$ |
# | `tanh(a)` | $\tanh a$ | $1 - \tanh^2 a$ | all $a$, also $\pm 1000$ |
# | `relu(a)` | $\max(0, a)$ | $1$ if $a > 0$, else $0$ | all $a$ |
#
# The ReLU has no derivative at $a = 0$. Any number in $[0, 1]$ would be defensible; torch takes 0
# and so do we. The functions of Python's `math` module may be used. On paper $\tanh a$ is
# $(e^{2a} - 1)/(e^{2a} + 1)$, but $e^{2000}$ is no float: try `math.exp(2000)`.


# %% exercise="value_functions"
def power(a: Value, exponent: float) -> Value:
    """a to a constant power.

    Args:
        a: the base, not 0; positive unless `exponent` is a whole number.
        exponent: a plain number, no node of the graph; may be negative or a fraction.

    Returns:
        A new `Value` with one parent.
    """
    ### BEGIN SOLUTION
    return Value(a.data**exponent, (a,), (exponent * a.data ** (exponent - 1),))
    ### END SOLUTION


def exp(a: Value) -> Value:
    """e to the power of `a`, as a new `Value` with one parent."""
    ### BEGIN SOLUTION
    result = math.exp(a.data)
    return Value(result, (a,), (result,))
    ### END SOLUTION


def log(a: Value) -> Value:
    """Natural logarithm of `a` (> 0), as a new `Value` with one parent."""
    ### BEGIN SOLUTION
    return Value(math.log(a.data), (a,), (1 / a.data,))
    ### END SOLUTION


def tanh(a: Value) -> Value:
    """Hyperbolic tangent of `a` (of any size), as a new `Value` with one parent."""
    ### BEGIN SOLUTION
    result = math.tanh(a.data)
    return Value(result, (a,), (1 - result**2,))
    ### END SOLUTION


def relu(a: Value) -> Value:
    """max(0, a) as a new `Value` with one parent; its local gradient at 0 is 0."""
    ### BEGIN SOLUTION
    return Value(max(0.0, a.data), (a,), (1.0 if a.data > 0 else 0.0,))
    ### END SOLUTION


# %% test="value_functions"
cube = power(Value(2.0), 3)
expect([cube.data, *cube.local_gradients], [8.0, 12.0], "power: 2 cubed")
negative = power(Value(-2.0), 3)
expect([negative.data, *negative.local_gradients], [-8.0, 12.0], "power: -2 cubed")
inverse = power(Value(4.0), -1)
expect([inverse.data, *inverse.local_gradients], [0.25, -0.0625], "power: one over 4")
tripled = exp(Value(math.log(3.0)))
expect([tripled.data, *tripled.local_gradients], [3.0, 3.0], "exp: of ln 3")
expect(exp(Value(200.0)).data / math.exp(200.0), 1.0, "exp: of 200, over the right number")
logarithm = log(Value(4.0))
expect([logarithm.data, *logarithm.local_gradients], [math.log(4.0), 0.25], "log: of 4")
# tanh(ln 3) = (3 - 1/3) / (3 + 1/3) = 0.8
squashed = tanh(Value(math.log(3.0)))
expect([squashed.data, *squashed.local_gradients], [0.8, 0.36], "tanh: of ln 3")
expect(tanh(Value(1000.0)).data, 1.0, "tanh: of 1000")
expect(tanh(Value(-1000.0)).data, -1.0, "tanh: of -1000")
kinks = [relu(Value(number)) for number in (3.0, -3.0, 0.0)]
expect([kink.data for kink in kinks], [3.0, 0.0, 0.0], "relu: data")
slopes = [kink.local_gradients[0] for kink in kinks]
expect(slopes, [1.0, 0.0, 0.0], "relu: local gradients of 3, -3 and 0")
expect(len(cube.parents), 1, "power: one parent")
expect(len(tripled.parents), 1, "exp: one parent")
expect(len(logarithm.parents), 1, "log: one parent")
expect(len(squashed.parents), 1, "tanh: one parent")
expect(len(kinks[0].parents), 1, "relu: one parent")

# %% [markdown]
# Three derivatives came for free: $-a$, $a - b$ and $a / b$ are made of sums, products and powers,
# so the chain rule will handle them without anyone having written down the quotient rule.
#
# ## 2 · In which order?
#
# Consider $q = 2x,\ u = 3q,\ f = q + u$ at $x = 1$. Clearly $f = 8x$, so $\bar x = 8$. The value
# $q$ is used twice, by $u$ and by $f$:
#
# $$\bar q = \underbrace{\bar f \cdot 1}_{\text{from } f}
# + \underbrace{\bar u \cdot 3}_{\text{from } u} = 1 + 3 = 4,
# \qquad \bar x = 2\,\bar q = 8 .$$
#
# Now be a hasty engine that starts at $f$ and visits parents as it meets them. It reaches $q$ with
# $\bar q = 1$ and passes $2$ on to $x$. Then it goes through $u$, adds $3$ to $\bar q$, and is at
# $q$ again. If it stops there because it has been at $q$ before, then $\bar x = 2$. If it passes on
# $\bar q = 4$ once more, then $\bar x = 2 + 8 = 10$. Both are wrong, and on graphs without shared
# values both would be right.
#
# **A node may pass its gradient on only when that gradient is complete**: after all nodes that use
# it. Put the nodes in a row such that every parent stands before its children, a *topological
# order*, and walk the row from right to left: then completeness holds at every step.

# %% [markdown] heading="topological_order"
# ### Exercise {number} · Topological order ({points} points, about 20 min)
#
# Return a list of all nodes that `root` depends on, directly or through others, and `root` itself,
# so that
#
# 1. each node is in the list exactly once, however many paths lead to it;
# 2. every node comes *after* all of its parents; hence `root` is the last.
#
# Usually many orders satisfy this, and any of them will do. A node is an object, not a number: two
# different nodes that both hold 1.0 are two nodes.
#
# A textbook does this by depth-first search: *visit all parents first, then append yourself*.
# Written as a recursive function that fails here: Python stops a recursion about 1,000 calls deep,
# and a sum of 5,000 losses is a chain of 5,000 nodes. So keep your own stack in a list. A node has
# to come up **twice**: at first to put its parents on top of the stack, and then, when they are all
# done, to be appended. `sys.setrecursionlimit` is not allowed: it exchanges the error for a crash.
# The time should grow with the number of nodes and edges, not with the number of paths: a chain of
# 50 diamonds has 151 nodes and $2^{50}$ paths.


# %% exercise="topological_order"
def topological_order(root: Value) -> list[Value]:
    """All nodes that `root` depends on, parents before children.

    Args:
        root: the last node of an acyclic graph.

    Returns:
        Each node once (the very objects), every node after all of its parents, `root` last.
    """
    ### BEGIN SOLUTION
    order = []
    seen = set()
    stack = [(root, False)]
    while stack:
        node, parents_are_done = stack.pop()
        if parents_are_done:
            order.append(node)
        elif node not in seen:
            seen.add(node)
            stack.append((node, True))
            stack.extend((parent, False) for parent in node.parents)
    return order
    ### END SOLUTION


# %% test="topological_order"
# The graph from above, made by hand: x = 1, q = 2x, u = 3q, f = q + u. It has only one valid order.
x = Value(1.0)
q = Value(2.0, (x,), (2.0,))
u = Value(6.0, (q,), (3.0,))
f = Value(8.0, (q, u), (1.0, 1.0))
expect(
    [node.data for node in topological_order(f)],
    [1.0, 2.0, 6.0, 8.0],
    "topological_order: x, q, u, f",
)
f = Value(8.0, (u, q), (1.0, 1.0))
expect(
    [node.data for node in topological_order(f)],
    [1.0, 2.0, 6.0, 8.0],
    "topological_order: parents exchanged",
)
expect([node.data for node in topological_order(x)], [1.0], "topological_order: a single node")
twins = Value(2.0, (Value(1.0), Value(1.0)), (1.0, 1.0))
expect(len(topological_order(twins)), 3, "topological_order: equal numbers, different nodes")
chain = Value(0.0)
for _ in range(5000):
    chain = Value(chain.data + 1.0, (chain,), (1.0,))
expect(
    [node.data for node in topological_order(chain)],
    list(range(5001)),
    "topological_order: a long chain",
)

# %% [markdown] heading="backward"
# ### Exercise {number} · Backward ({points} points, about 15 min)
#
# Everything is in place for equation (1). For each node $u$, from the root back to the inputs, hand
# to each of its parents $v$
#
# $$\bar v \mathrel{+}= \bar u\,\frac{\partial u}{\partial v},$$
#
# where $\bar u$ is `u.grad` and $\partial u/\partial v$ stands in `u.local_gradients` at the place
# where $v$ stands in `u.parents`. Note the plus sign.
#
# **Convention.** After `backward(root)`, every node that the root depends on has `grad`
# $= \partial\,\text{root}/\partial\,\text{node}$, *whatever stood there before*: reset these nodes
# to 0 first, then set the root's own gradient to 1. So a second call, or a call for another root of
# the same graph, gives the right numbers and not the sum of both. Nodes that the root does not
# depend on are left alone.
#
# Other engines choose otherwise: torch adds to the `grad` of the inputs at each call (hence
# `zero_grad`), which is handy for summing over batches and a famous source of bugs. What no engine
# may do is to keep the gradients of the nodes *between* inputs and root from one call to the next.
#
# Graphs may again be 5,000 nodes deep, and `sys.setrecursionlimit` is again not allowed. You may
# use `topological_order`.


# %% exercise="backward"
def backward(root: Value) -> None:
    """Set `grad` of every node that `root` depends on to d root / d node.

    Args:
        root: the node to differentiate; its own `grad` becomes 1.0.

    Returns:
        Nothing; gradients left by earlier calls do not enter, and nodes that `root` does not
        depend on are not touched.
    """
    ### BEGIN SOLUTION
    order = topological_order(root)
    for node in order:
        node.grad = 0.0
    root.grad = 1.0
    for node in reversed(order):
        for i, parent in enumerate(node.parents):
            parent.grad += node.grad * node.local_gradients[i]
    ### END SOLUTION


# %% test="backward"
# f = (x + y) z, the table above
x, y, z = Value(-2.0), Value(5.0), Value(-4.0)
q = Value(3.0, (x, y), (1.0, 1.0))
f = Value(-12.0, (q, z), (-4.0, 3.0))
backward(f)
expect([node.grad for node in (x, y, z, q, f)], [-4.0, -4.0, 3.0, -4.0, 1.0], "backward: (x + y) z")
# f = q + u with q = 2x, u = 3q: the shared node from above
x = Value(1.0)
q = Value(2.0, (x,), (2.0,))
u = Value(6.0, (q,), (3.0,))
f = Value(8.0, (q, u), (1.0, 1.0))
backward(f)
expect([node.grad for node in (x, q, u, f)], [8.0, 4.0, 1.0, 1.0], "backward: a shared node")
backward(f)
expect([node.grad for node in (x, q, u, f)], [8.0, 4.0, 1.0, 1.0], "backward: the same again")
backward(u)
expect([node.grad for node in (x, q, u)], [6.0, 3.0, 1.0], "backward: from another root")
f = Value(8.0, (u, q), (1.0, 1.0))
backward(f)
expect([node.grad for node in (x, q, u)], [8.0, 4.0, 1.0], "backward: parents exchanged")
# a * a: the same parent twice
a = Value(3.0)
square = Value(9.0, (a, a), (3.0, 3.0))
backward(square)
expect(a.grad, 6.0, "backward: the same parent twice")
thrice = Value(9.0, (a, a), (1.0, 2.0))  # a + 2a as one node
backward(thrice)
expect(a.grad, 3.0, "backward: the same parent in two different places")
# 2a + 3y where a ReLU is off: its input gets 0, whatever its `grad` was before
off, y = Value(-1.0), Value(1.0)
off.grad = 7.0
f = Value(3.0, (Value(0.0, (off,), (0.0,)), Value(3.0, (y,), (3.0,))), (2.0, 1.0))
backward(f)
expect([off.grad, y.grad], [0.0, 3.0], "backward: a ReLU that is off")

# %% [markdown]
# The picture of the worked example again, now with what flowed back. Compare each number with the
# table in section 1.

# %%
x, y, z = Value(-2.0, label="x"), Value(5.0, label="y"), Value(-4.0, label="z")
q = x + y
f = q * z
q.label, f.label = "q", "f"
backward(f)
plots.graph(f)
plt.show()

# %% [markdown]
# And a formula that nobody wants to differentiate by hand. torch is the judge: the two columns
# should agree to the last digits.


# %%
def tangle(a, b):
    """A formula with every operation; works on `Value` and on torch tensors alike."""
    c = (a * b + b**3).tanh() / (2.0 - a)
    d = (c - a * c + 4.0 * b).relu() + (1.0 + (-c).exp()).log()
    return d * c / (a * a + 1.0)


mine = [Value(0.7), Value(0.4)]
theirs = [torch.tensor(node.data, dtype=torch.float64, requires_grad=True) for node in mine]
root = tangle(*mine)
backward(root)
judged = torch.autograd.grad(tangle(*theirs), theirs)
print(f"nodes in the graph: {len(topological_order(root))}")
for name, own, judge in zip("ab", mine, judged, strict=True):
    print(f"d tangle / d {name}: yours {own.grad:.15f}   torch {judge.item():.15f}")

# %% [markdown]
# ## 3 · Your engine learns
#
# Two spiral arms of twenty points each, which no straight line can part. The network has two
# inputs, two hidden layers of eight tanh neurons and one output, the *score* $s$: positive means
# class 1. Every weight is one of your `Value`s. With labels $t \in \{-1, +1\}$ the loss is the mean
# over the points of
#
# $$\ell = \ln\bigl(1 + e^{-t s}\bigr),$$
#
# which is the cross-entropy of a sigmoid, written for labels $\pm 1$. It is $\ln 2$ for a network
# that does not know, $s = 0$.

# %%
Neuron = tuple[list[Value], Value]


def make_network(sizes: list[int], seed: int = 0) -> list[list[Neuron]]:
    """Layers of neurons (weights, bias); weights of variance 1 / inputs, biases zero."""
    generator = torch.Generator().manual_seed(seed)

    def neuron(inputs: int) -> Neuron:
        weights = torch.randn(inputs, generator=generator) / inputs**0.5
        return [Value(weight) for weight in weights.tolist()], Value(0.0)

    return [[neuron(n_in) for _ in range(n_out)] for n_in, n_out in itertools.pairwise(sizes)]


def score(network: list[list[Neuron]], point: list[float]) -> Value:
    """The network's output for one point."""
    values = [Value(number) for number in point]
    for number, layer in enumerate(network, start=1):
        values = [sum((w * v for w, v in zip(ws, values, strict=True)), bias) for ws, bias in layer]
        if number < len(network):
            values = [value.tanh() for value in values]
    return values[0]


def spiral_loss(
    network: list[list[Neuron]], points: list[list[float]], labels: list[float]
) -> Value:
    """Mean of ln(1 + exp(-label * score)) over the points."""
    losses = [
        (1.0 + (score(network, p) * -t).exp()).log() for p, t in zip(points, labels, strict=True)
    ]
    return sum(losses, Value(0.0)) / len(losses)


# %% [markdown]
# Training is gradient descent with momentum 0.9 (next assignment), on all points at each step:
# build the graph, walk it back, move each weight against its gradient.

# %%
spiral_x, spiral_y = data.spirals(20, noise=0.05)
scale = 4.0  # inputs of about one: tanh is too straight on smaller ones
points, labels = (scale * spiral_x).tolist(), (2.0 * spiral_y - 1.0).tolist()
network = make_network([2, 8, 8, 1])
knobs = [value for layer in network for ws, bias in layer for value in (*ws, bias)]
velocity = [0.0] * len(knobs)
spiral_losses = []
n_nodes = len(topological_order(spiral_loss(network, points, labels)))
start = time.perf_counter()
for _ in range({"grade": 5}.get(course.profile(), 40)):
    loss = spiral_loss(network, points, labels)
    backward(loss)
    spiral_losses.append(loss.data)
    for i, knob in enumerate(knobs):
        velocity[i] = 0.9 * velocity[i] + knob.grad
        knob.data -= 0.2 * velocity[i]
right = sum((score(network, p).data > 0) == (t > 0) for p, t in zip(points, labels, strict=True))
print(f"{len(knobs)} weights, {n_nodes:,} nodes a step")
print(f"loss {spiral_losses[0]:.3f} -> {spiral_losses[-1]:.3f}  (ln 2 = {math.log(2):.3f})")
print(f"{right} of {len(points)} points right, {time.perf_counter() - start:.1f} s")

# %%
figure, (left, right_side) = plt.subplots(1, 2, figsize=(7.0, 3.0))
left.plot(spiral_losses)
left.axhline(math.log(2), color="grey", linestyle=":", label="knows nothing: ln 2")
left.set(xlabel="step", ylabel="loss", ylim=(0, None), title="Mean loss of the forty points")
left.legend(loc="lower left")


def scores(grid: Tensor) -> Tensor:
    """The network's score at each row of (M, 2) points."""
    return torch.tensor([score(network, point).data for point in (scale * grid).tolist()])


resolution = {"grade": 6}.get(course.profile(), 50)
plots.boundary(scores, spiral_x, spiral_y, ax=right_side, resolution=resolution)
right_side.set_title("What the network says where")
plt.show()

# %% [markdown]
# **What to see.** The border curls along with the arms, made of nothing but sums, products and
# tanh. Far from the points the border is arbitrary, since nothing there entered the loss.
#
# **An experiment for you.** Replace `.tanh()` in `score` by `.relu()`. What does the border look
# like now, and why? Then take the hidden layers away (`make_network([2, 1])`): the best that a
# straight line can do is your baseline.

# %% [markdown]
# ## 4 · From numbers to tensors
#
# Your engine is right, general, and slow: every product is a Python object. The remedy is to keep
# the idea and change the grain. A node becomes a whole **layer**, its value a matrix, and its
# backward pass a function written by hand that takes the gradient of its output and returns those
# of its inputs. How much is there to gain?

# %%
layer_x, layer_w = torch.rand(2, 64), torch.rand(32, 64)
value_x = [[Value(number) for number in row] for row in layer_x.tolist()]
value_w = [[Value(number) for number in row] for row in layer_w.tolist()]


def layer_of_values() -> list[list[Value]]:
    """(2, 64) times (64, 32), one scalar product at a time."""
    return [
        [sum((w * v for w, v in zip(ws, vs, strict=True)), Value(0.0)) for ws in value_w]
        for vs in value_x
    ]


by_values = seconds(layer_of_values, repeats=1)
by_matrix = seconds(lambda: layer_x @ layer_w.T)
print(f"products of values: {1e3 * by_values:8.2f} ms")
print(f"matrix product:     {1e3 * by_matrix:8.4f} ms, {by_values / by_matrix:,.0f} times faster")

# %% [markdown]
# ### The linear layer, derived
#
# Notation: batch size $B$, inputs $D$, outputs $M$; $X$ is $(B, D)$, $W$ is $(M, D)$ as in
# `torch.nn.Linear`, $\mathbf b$ is $(M)$, and $Y = XW^\top + \mathbf b$ is $(B, M)$:
#
# $$Y_{no} = \sum_{i=1}^{D} X_{ni}\,W_{oi} + b_o, \qquad n = 1..B,\quad o = 1..M .$$
#
# What arrives from behind is $G = \partial L/\partial Y$, a matrix of the shape of $Y$, with
# $G_{no} = \bar Y_{no}$. The layer must return $\bar X$, $\bar W$ and $\bar{\mathbf b}$, each of
# the shape of what it belongs to.
#
# **This is the step where most people guess.** Do not: equation (1) says to look for *all* places
# where a number is used.
#
# *The weight* $W_{oi}$ is used in $Y_{no}$ for every row $n$ of the batch, and in no other output
# than $o$. There its local gradient is $\partial Y_{no}/\partial W_{oi} = X_{ni}$. So
#
# $$\bar W_{oi} = \sum_{n=1}^{B} G_{no}\,X_{ni} \qquad\Longleftrightarrow\qquad
# \bar W = G^\top X \quad (M, B)(B, D) = (M, D) .$$
#
# *The bias* $b_o$ is used in $Y_{no}$ for every row too, with local gradient 1:
# $\ \bar b_o = \sum_n G_{no}$, the column sums of $G$.
#
# *The input* $X_{ni}$ is used in $Y_{no}$ for every output $o$, of its own row only, with local
# gradient $W_{oi}$:
#
# $$\bar X_{ni} = \sum_{o=1}^{M} G_{no}\,W_{oi} \qquad\Longleftrightarrow\qquad
# \bar X = G\,W \quad (B, M)(M, D) = (B, D) .$$
#
# The sums over the batch are sums because the gradient adds wherever a value is used more than
# once: the `+=` of your `backward`. They are no means; where a mean is wanted, the loss has divided
# by $B$ already.

# %% [markdown] heading="linear"
# ### Exercise {number} · The linear layer ({points} points, about 10 min)
#
# Write $Y = XW^\top + \mathbf b$ and its backward pass in the shapes above. Both keep the dtype of
# their inputs, and its precision (float64 is not computed in float32), and leave them unchanged.
# The batch may have a single row, the layer a single output. `torch.nn`'s and
# `torch.nn.functional`'s ready-made layer and torch's autograd are not allowed; matrix products and
# sums are.


# %% exercise="linear"
def linear_forward(x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    """The linear layer of `torch.nn.Linear`.

    Args:
        x: inputs (B, D).
        weight: (M, D).
        bias: (M,).

    Returns:
        x weight^T + bias, (B, M), of the inputs' dtype. The arguments are unchanged.
    """
    ### BEGIN SOLUTION
    return x @ weight.T + bias
    ### END SOLUTION


def linear_backward(grad: Tensor, x: Tensor, weight: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Gradients of the linear layer.

    Args:
        grad: gradient of the loss by the layer's output, (B, M).
        x: the input of the forward pass, (B, D).
        weight: (M, D).

    Returns:
        Gradients by x (B, D), by weight (M, D) and by bias (M,), in this order, of the inputs'
        dtype. The arguments are unchanged.
    """
    ### BEGIN SOLUTION
    return grad @ weight, grad.T @ x, grad.sum(0)
    ### END SOLUTION


# %% test="linear"
x, weight = torch.tensor([[1.0, 2.0]]), torch.tensor([[1.0, 0.0], [3.0, 1.0]])
expect(linear_forward(x, weight, torch.zeros(2)), [[1.0, 5.0]], "linear_forward: one row")
dx = linear_backward(torch.tensor([[1.0, 10.0]]), x, weight)[0]
expect(dx, [[31.0, 10.0]], "linear_backward: dx of one row")
x = torch.tensor([[1.0, 2.0, 3.0], [4.0, 5.0, 6.0]])  # B = 2, D = 3
weight = torch.tensor([[1.0, 0.0, 2.0], [0.0, 1.0, -1.0]])  # M = 2
bias = torch.tensor([10.0, 20.0])
expect(linear_forward(x, weight, bias), [[17.0, 19.0], [26.0, 19.0]], "linear_forward: two rows")
grad = torch.tensor([[1.0, 2.0], [3.0, -1.0]])
dx, dweight, dbias = linear_backward(grad, x, weight)
expect(dx, [[1.0, 2.0, 0.0], [3.0, -1.0, 7.0]], "linear_backward: dx")
expect(dweight, [[13.0, 17.0, 21.0], [-2.0, -1.0, 0.0]], "linear_backward: dweight")
expect(dbias, [4.0, 1.0], "linear_backward: dbias")
dbias = linear_backward(torch.tensor([[2.0], [3.0]]), torch.ones(2, 1), torch.ones(1, 1))[2]
expect(dbias, [5.0], "linear_backward: dbias of a single output")

# %% [markdown] heading="activation_backward"
# ### Exercise {number} · Activations, backward ({points} points, about 8 min)
#
# An activation $y = \varphi(x)$ works on each number by itself, so each has exactly one path:
# $\bar x = \bar y \cdot \varphi'(x)$, number by number, for tensors of any shape. For two of them
# the derivative is cheapest from the *output* $y$, which the forward pass has computed anyway:
#
# $$\text{ReLU: } \varphi'(x) = [x > 0], \qquad
# \text{sigmoid } y = \frac{1}{1 + e^{-x}}: \ \varphi' = y\,(1 - y), \qquad
# \tanh: \ \varphi' = 1 - y^2 .$$
#
# $[x > 0]$ is 1 where $x > 0$ and 0 elsewhere, at $x = 0$ too. It asks for the sign of the *input
# of the forward pass*, not for that of the gradient: a negative gradient has to pass as well. For
# the sigmoid: with $q = e^{-x}$ we have $y = 1/(1+q)$, $\ \mathrm{d}y/\mathrm{d}x = q/(1+q)^2$ and
# $1 - y = q/(1+q)$; the product of $y$ and $1-y$ is the derivative. For $\tanh = \sinh/\cosh$ the
# quotient rule gives $(\cosh^2 - \sinh^2)/\cosh^2 = 1 - \tanh^2$.
#
# Results have the shape, dtype and precision of `grad` (float64 is not computed in float32), and
# hold exactly in the corners: however small a positive $x$ is, the ReLU is on, and outputs of 0, 1
# and -1 do occur. Arguments stay unchanged. No autograd.


# %% exercise="activation_backward"
def relu_backward(grad: Tensor, x: Tensor) -> Tensor:
    """Gradient of the ReLU by its input.

    Args:
        grad: gradient by the output, any shape.
        x: the *input* of the forward pass, same shape.

    Returns:
        Gradient by the input, same shape and dtype as `grad`; the derivative at x = 0 is 0. The
        arguments are unchanged.
    """
    ### BEGIN SOLUTION
    return grad * (x > 0)
    ### END SOLUTION


def sigmoid_backward(grad: Tensor, y: Tensor) -> Tensor:
    """Gradient of the sigmoid by its input.

    Args:
        grad: gradient by the output, any shape.
        y: the *output* of the forward pass, same shape, in [0, 1].

    Returns:
        Gradient by the input, same shape and dtype as `grad`. The arguments are unchanged.
    """
    ### BEGIN SOLUTION
    return grad * y * (1 - y)
    ### END SOLUTION


def tanh_backward(grad: Tensor, y: Tensor) -> Tensor:
    """Gradient of tanh by its input.

    Args:
        grad: gradient by the output, any shape.
        y: the *output* of the forward pass, same shape, in [-1, 1].

    Returns:
        Gradient by the input, same shape and dtype as `grad`. The arguments are unchanged.
    """
    ### BEGIN SOLUTION
    return grad * (1 - y**2)
    ### END SOLUTION


# %% test="activation_backward"
grad = torch.tensor([10.0, -10.0, 10.0, -10.0])
x = torch.tensor([2.0, 3.0, -1.0, 0.0])
expect(relu_backward(grad, x), [10.0, -10.0, 0.0, 0.0], "relu_backward: signs")
expect(grad, [10.0, -10.0, 10.0, -10.0], "relu_backward: the gradient is left alone")
y = torch.tensor([0.5, 0.2, 0.9, 1.0])
expect(sigmoid_backward(grad, y), [2.5, -1.6, 0.9, 0.0], "sigmoid_backward: from the output")
y = torch.tensor([0.0, 0.5, -0.8, 1.0])
expect(tanh_backward(grad, y), [10.0, -7.5, 3.6, 0.0], "tanh_backward: from the output")

# %% [markdown]
# Read the last column of the two tests: at $y = 1$ nothing passes. A *saturated* neuron does not
# learn, however wrong it is. That is what made deep networks of sigmoids so hard to train, and why
# the ReLU, which passes the gradient whole or not at all, replaced them.
#
# ### Softmax and cross-entropy in one
#
# The last node is the loss. From unit 00: logits $\mathbf z$ of $K$ classes,
# $p_k = e^{z_k} / \sum_j e^{z_j}$, and the loss of one example with label $t$ is
#
# $$\ell = -\ln p_t = -z_t + \ln \sum_{j=1}^{K} e^{z_j} .$$
#
# In this form it needs no Jacobian of the softmax at all. Differentiate the two terms by $z_k$. The
# first gives $-1$ for $k = t$ and nothing otherwise, in short $-[k = t]$. The second, by the chain
# rule, gives one over the sum, times $e^{z_k}$, and that is $p_k$:
#
# $$\frac{\partial \ell}{\partial z_k} = p_k - [k = t] .$$
#
# *What the network said, minus what was true.* The gradients of one row sum to zero, and once the
# network is sure and right, they vanish. The loss of a batch is the mean over its $B$ rows, so
# every gradient carries a factor $1/B$:
#
# $$L = \frac1B \sum_{n=1}^{B} \ell_n, \qquad
# \frac{\partial L}{\partial Z_{nk}} = \frac{p_{nk} - [k = t_n]}{B} .$$

# %% [markdown] heading="softmax_cross_entropy"
# ### Exercise {number} · Softmax cross-entropy with its gradient ({points} points, about 20 min)
#
# Return the loss $L$ and $\partial L/\partial Z$ for logits $Z$ of shape $(B, K)$ and labels $t$ of
# shape $(B)$.
#
# **Stability.** $e^{1000}$ is infinite in floating point, and then $\infty/\infty$ is not a number.
# Adding a constant to all logits of a row changes no probability, so subtract from *each row* its
# own maximum $m$ first: $\ln\sum_j e^{z_j} = m + \ln\sum_j e^{z_j - m}$. The largest exponent is
# then 0, and the sum is at least 1. Never take the logarithm of a probability that may have become
# 0: from logits $(1000, 0)$ with label 1 the loss is $1000$, not infinite. Rows may differ from one
# another by thousands. No small constant belongs inside the logarithm.
#
# By hand, with logits $(0, \ln 2, \ln 5)$: $\mathbf p = (\frac18, \frac28, \frac58)$. Not allowed
# are torch's own softmax, log-softmax and cross-entropy, and autograd; `torch.logsumexp` and
# `F.nll_loss` are. float64 is not computed in float32.


# %% exercise="softmax_cross_entropy"
def softmax_cross_entropy(logits: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
    """Mean cross-entropy of softmax(logits), and its gradient.

    Args:
        logits: (B, K), floating point, of any size (1e6 and more).
        labels: (B,) int64 class numbers in 0..K-1; not every class need occur.

    Returns:
        The mean loss over the batch, 0-d, and its gradient by the logits (B, K), both of the
        logits' dtype. The arguments are unchanged.
    """
    ### BEGIN SOLUTION
    shifted = logits - logits.amax(dim=1, keepdim=True)
    log_p = shifted - shifted.exp().sum(dim=1, keepdim=True).log()
    loss = -log_p.gather(1, labels[:, None]).mean()
    dlogits = (log_p.exp() - F.one_hot(labels, logits.shape[1])) / len(labels)
    return loss, dlogits
    ### END SOLUTION


# %% test="softmax_cross_entropy"
logits = torch.tensor([[0.0, math.log(2.0), math.log(5.0)], [7.0, 7.0, 7.0]])
labels = torch.tensor([1, 2])
loss, dlogits = softmax_cross_entropy(logits, labels)
# p = (1/8, 2/8, 5/8) and (1/3, 1/3, 1/3): losses ln 4 and ln 3
expect(loss, math.log(12.0) / 2, "softmax_cross_entropy: loss")
expect(
    dlogits, [[1 / 16, -3 / 8, 5 / 16], [1 / 6, 1 / 6, -1 / 3]], "softmax_cross_entropy: dlogits"
)
expect(logits[1], [7.0, 7.0, 7.0], "softmax_cross_entropy: logits are left alone")
loss, dlogits = softmax_cross_entropy(
    torch.tensor([[1000.0, 0.0], [-3000.0, -3000.0]]), torch.tensor([1, 0])
)
expect(loss, (1000.0 + math.log(2.0)) / 2, "softmax_cross_entropy: loss of large logits")
expect(dlogits, [[0.5, -0.5], [-0.25, 0.25]], "softmax_cross_entropy: dlogits of large logits")

# %% [markdown]
# ## 5 · Whom can you trust? The numerical gradient
#
# You have derived five backward passes. Hand-checked examples catch much, but the next layer may be
# a convolution or an attention head. There is a test that needs no derivation: turn the knob. For a
# function $f$ of a tensor $\mathbf x$ and the unit vector $\mathbf e_i$ of its $i$-th element,
#
# $$\frac{\partial f}{\partial x_i} \approx
# \frac{f(\mathbf x + h\,\mathbf e_i) - f(\mathbf x - h\,\mathbf e_i)}{2h} . \tag{2}$$
#
# Why on both sides? Taylor:
# $f(x \pm h) = f \pm h f' + \frac{h^2}{2} f'' \pm \frac{h^3}{6} f''' + \dots$ In the difference all
# even terms cancel; divided by $2h$ there remains $f' + \frac{h^2}{6} f'''$. The one-sided quotient
# $(f(x+h) - f(x))/h$ keeps $\frac h2 f''$, an error of first order.

# %% [markdown] heading="numerical_gradient"
# ### Exercise {number} · Numerical gradient ({points} points, about 12 min)
#
# Write formula (2) for every element of a tensor. $\mathbf x$ is float64, of any shape: 0-d,
# several dimensions, and also a transposed view, where `x.view(-1)` is refused and `x.reshape(-1)`
# silently makes a copy. $f$ takes a tensor of the shape of $\mathbf x$ and gives one number, as a
# 0-d tensor or a Python float. You may change $\mathbf x$ in place while you work, but on return it
# has to hold exactly the same values, bit for bit. (Adding $h$ and subtracting it again does not
# restore a float: see `0.1 + 0.7 - 0.7`.) No autograd.


# %% exercise="numerical_gradient"
def numerical_gradient(f: Callable[[Tensor], Tensor | float], x: Tensor, h: float = 1e-5) -> Tensor:
    """Gradient of `f` at `x` by central differences.

    Args:
        f: function of a tensor of x's shape; returns a 0-d tensor or a float.
        x: the point, float64, any shape, not necessarily contiguous; the same after the call.
        h: the step to either side.

    Returns:
        float64 tensor of x's shape: (f(x + h e_i) - f(x - h e_i)) / 2h for each element i.
    """
    ### BEGIN SOLUTION
    gradient = torch.empty_like(x)
    for index in itertools.product(*map(range, x.shape)):
        step = torch.zeros_like(x)
        step[index] = h
        gradient[index] = (f(x + step) - f(x - step)) / (2 * h)
    return gradient
    ### END SOLUTION


# %% test="numerical_gradient"
# For a cube the error of formula (2) is h^2 exactly: ((x + h)^3 - (x - h)^3) / 2h = 3 x^2 + h^2.
x = torch.tensor([[1.0, 2.0], [0.0, -1.0]], dtype=torch.float64)
approximation = numerical_gradient(lambda v: (v**3).sum(), x, h=0.5)
expect(approximation, [[3.25, 12.25], [0.25, 3.25]], "numerical_gradient: cubes, h = 0.5")
tenths = torch.tensor([0.1, 0.2], dtype=torch.float64)
numerical_gradient(lambda v: (v**3).sum(), tenths, h=0.7)
expect(tenths.tolist(), [0.1, 0.2], "numerical_gradient: x afterwards", rtol=0, atol=0)
# f = 1 a + 2 b + 3 c + 4 d has the gradient 1, 2, 3, 4, in the order of the elements
ramp = torch.tensor([[1.0, 2.0], [3.0, 4.0]], dtype=torch.float64)
slope = numerical_gradient(lambda v: (ramp * v).sum(), x.T)
expect(slope, ramp, "numerical_gradient: a transposed view")
slope = numerical_gradient(lambda v: float((v**3).sum()), tenths, h=0.5)
expect(slope, [0.28, 0.37], "numerical_gradient: f returns a float")
slope = numerical_gradient(lambda v: v**3, torch.tensor(2.0, dtype=torch.float64), h=0.5)
expect(slope, 12.25, "numerical_gradient: a 0-d tensor")

# %% [markdown]
# ### Smaller is not better
#
# A mathematician would let $h$ go to zero. What would you choose: $10^{-3}$, $10^{-8}$, $10^{-12}$?
# Guess before you run the next cell.

# %%
point = torch.tensor(1.0, dtype=torch.float64)
steps = [10 ** (exponent / 4) for exponent in range(-60, -1)]


def one_sided(h: float) -> float:
    """Forward difference of the sine at 1, float64."""
    return (math.sin(1 + h) - math.sin(1)) / h


def in_float32(h: float) -> float:
    """Central difference of the sine at 1, every number a float32."""
    one, small = torch.tensor(1.0), torch.tensor(h)
    return (((one + small).sin() - (one - small).sin()) / (2 * small)).item()


errors = {
    "central, float64 (yours)": [
        numerical_gradient(torch.sin, point, h).item() - math.cos(1) for h in steps
    ],
    "one-sided, float64": [one_sided(h) - math.cos(1) for h in steps],
    "central, float32": [in_float32(h) - math.cos(1) for h in steps],
}
for name, curve in errors.items():
    sizes = [max(abs(error), 1e-17) for error in curve]
    plt.loglog(steps, sizes, label=name)
    print(f"{name:26} smallest error {min(sizes):.0e} at h = {steps[sizes.index(min(sizes))]:.0e}")
plt.gca().set(xlabel="step $h$", ylabel="|error|", title="Derivative of sin at 1: the error is a V")
plt.legend()
plt.show()

# %% [markdown]
# **What to see.** On the right the truncation error falls with $h^2$ (slope 2), one-sided only with
# $h$. On the left the error *rises* as $h$ shrinks: $f(x+h)$ and $f(x-h)$ agree in nearly all
# digits, and their difference consists of rounding. Each value is known to about $\varepsilon |f|$,
# with $\varepsilon \approx 1.1\cdot10^{-16}$ in float64, so the error is about
#
# $$E(h) = \frac{h^2}{6}|f'''| + \frac{\varepsilon |f|}{h}, \qquad
# E'(h) = 0 \ \text{ at }\ h = \sqrt[3]{3\,\varepsilon\,|f| / |f'''|} .$$
#
# For the sine at 1 this is $8\cdot10^{-6}$: hence the default `1e-5`. In float32, with
# $\varepsilon \approx 6\cdot10^{-8}$, the same formula asks for $h \approx 7\cdot10^{-3}$, and $E$
# is some $700{,}000$ times larger there. (A single lucky step may lie below the V: rounding errors
# have either sign.) So gradient checks run in **float64**, always.

# %% [markdown]
# ### The gallery
#
# Now let formula (2) examine all your backward passes. The scalar function is
# $f = \sum (\text{output} \cdot R)$ with a fixed random $R$ as the gradient that comes from behind;
# for softmax cross-entropy, which is a number already, it is the loss itself. (A plain sum, $R$ all
# ones, would miss mistakes: why?) The figure of merit is the relative error
# $\max|a - n| / \max(|a| + |n|)$ between explicit $a$ and numerical $n$. Beside them hang five
# forgeries, made from your own results.

# %%
torch.manual_seed(1)
gallery_x, gallery_w, gallery_b, behind = (
    torch.randn(shape, dtype=torch.float64) for shape in [(5, 4), (3, 4), (3,), (5, 3)]
)
gallery_z, gallery_t = torch.randn(5, 3, dtype=torch.float64), torch.tensor([0, 2, 1, 1, 0])


def relative_error(explicit: Tensor, numerical: Tensor) -> float:
    """Largest difference, relative to the largest magnitude."""
    return ((explicit - numerical).abs().max() / (explicit.abs() + numerical.abs()).max()).item()


def through(function: Callable[[Tensor], Tensor], x: Tensor) -> Tensor:
    """Numerical gradient of sum(function(x) * behind)."""
    return numerical_gradient(lambda v: (function(v) * behind).sum(), x)


def originals() -> dict[str, tuple[Tensor, Tensor]]:
    """Your gradients, each beside the numerical one."""
    x, w, b, z = gallery_x, gallery_w, gallery_b, gallery_z
    dx, dweight, dbias = linear_backward(behind, x, w)
    _, dlogits = softmax_cross_entropy(z, gallery_t)
    return {
        "linear: dx": (dx, through(lambda v: linear_forward(v, w, b), x)),
        "linear: dweight": (dweight, through(lambda v: linear_forward(x, v, b), w)),
        "linear: dbias": (dbias, through(lambda v: linear_forward(x, w, v), b)),
        "relu": (relu_backward(behind, z), through(torch.relu, z)),
        "sigmoid": (sigmoid_backward(behind, z.sigmoid()), through(torch.sigmoid, z)),
        "tanh": (tanh_backward(behind, z.tanh()), through(torch.tanh, z)),
        "softmax cross-entropy": (
            dlogits,
            numerical_gradient(lambda v: softmax_cross_entropy(v, gallery_t)[0], z),
        ),
    }


# %%
exhibits = originals()
dbias, dlogits = exhibits["linear: dbias"][0], exhibits["softmax cross-entropy"][0]
forgeries = {
    "dbias: mean for sum": (dbias / len(behind), "linear: dbias"),
    "relu: passes everything": (behind, "relu"),
    "relu: mask from the gradient": (relu_backward(behind, behind), "relu"),
    "tanh: input for output": (tanh_backward(behind, gallery_z), "tanh"),
    "dlogits: not divided by B": (dlogits * len(gallery_t), "softmax cross-entropy"),
}
exhibits |= {name: (forged, exhibits[of][1]) for name, (forged, of) in forgeries.items()}
figure, axes = plt.subplots(figsize=(6.0, 3.2))
for place, (name, pair) in enumerate(exhibits.items()):
    error = relative_error(*pair)
    marker, color = ("X", "black") if name in forgeries else ("o", "C0")
    axes.plot(max(error, 1e-13), -place, marker, color=color)
    print(f"{name:30} {error:8.1e}  {'forgery' if name in forgeries else ''}")
axes.set_yticks([-place for place in range(len(exhibits))], list(exhibits))
axes.set(xscale="log", xlabel="relative error against the numerical gradient")
axes.set_title("Originals (dots) and forgeries (crosses)")
plt.show()

# %% [markdown]
# **What to see.** Between originals and forgeries lie many powers of ten, so no finely tuned
# threshold is needed: below $10^{-7}$ all is well, above $10^{-4}$ look for a mistake, and in
# between ask whether an input sits within $h$ of a kink, where the ReLU has no derivative and
# formula (2) takes the mean of both sides.
#
# ## 6 · A network from your own pieces
#
# A multi-layer perceptron with $N$ linear layers $(W_1, \mathbf b_1), \dots, (W_N, \mathbf b_N)$ is
# a chain. With $A_0 = X$, for $l = 1, \dots, N$:
#
# $$Z_l = A_{l-1} W_l^\top + \mathbf b_l, \qquad
# A_l = \max(0, Z_l) \ \text{ for } l < N, \qquad
# L = \text{cross-entropy}(Z_N, \mathbf t) .$$
#
# A ReLU stands *between* linear layers; the last $Z_N$ are the logits and stay as they are. The
# backward pass meets the same nodes in reverse. It starts with $\bar Z_N$ from the loss, and each
# layer turns the $\bar Z_l$ that it receives into three gradients: $\bar W_l$ and
# $\bar{\mathbf b}_l$, which are results, and $\bar A_{l-1}$, which goes through the ReLU and
# becomes $\bar Z_{l-1}$. For that the forward pass must have kept, for each layer, its input
# $A_{l-1}$ and the values $Z_l$ before the ReLU.

# %% [markdown] heading="mlp_gradients"
# ### Exercise {number} · Loss and all gradients of a network ({points} points, about 30 min)
#
# Put the chain together for any number of layers, one layer included (then there is no ReLU at
# all). You may use your functions from above, and the last experiment of this notebook assumes that
# you do: `linear_forward`, `linear_backward`, `relu_backward`, `softmax_cross_entropy`. For the
# forward ReLU use any torch function. The gradients come as a list of pairs in the order of the
# layers, each of the shape of what it belongs to. Arguments are unchanged, dtype and precision are
# those of the inputs (float64 is not computed in float32), and autograd is not allowed.


# %% exercise="mlp_gradients"
def mlp_gradients(
    x: Tensor, labels: Tensor, parameters: list[tuple[Tensor, Tensor]]
) -> tuple[Tensor, list[tuple[Tensor, Tensor]]]:
    """Loss of a ReLU network with softmax cross-entropy, and its gradients.

    Args:
        x: inputs (B, D_0).
        labels: (B,) int64 class numbers.
        parameters: for each layer l = 1..N its weight (D_l, D_{l-1}) and bias (D_l,); D_N is the
            number of classes. N >= 1.

    Returns:
        The mean loss, 0-d, and for each layer, first to last, the gradients by weight and bias,
        all of the inputs' dtype. The arguments are unchanged.
    """
    ### BEGIN SOLUTION
    inputs, outputs = [x], []
    for weight, bias in parameters:
        outputs.append(linear_forward(inputs[-1], weight, bias))
        inputs.append(outputs[-1].clamp(min=0))
    loss, grad = softmax_cross_entropy(outputs[-1], labels)
    gradients = []
    for layer in reversed(range(len(parameters))):
        if layer < len(parameters) - 1:
            grad = relu_backward(grad, outputs[layer])
        grad, dweight, dbias = linear_backward(grad, inputs[layer], parameters[layer][0])
        gradients.append((dweight, dbias))
    return loss, gradients[::-1]
    ### END SOLUTION


# %% test="mlp_gradients"
# One example, two inputs, two hidden neurons of which the second is off, two classes.
x, labels = torch.tensor([[-1.0, -2.0]]), torch.tensor([0])
parameters = [
    (torch.tensor([[-1.0, -1.0], [1.0, 0.0]]), torch.zeros(2)),  # z = (3, -1), a = (3, 0)
    (torch.tensor([[1.0, 2.0], [-1.0, 5.0]]), torch.tensor([-4.0, 2.0 - math.log(3.0)])),
]
# logits (-1, -1 - ln 3), p = (3/4, 1/4), dlogits = (-1/4, 1/4)
loss, gradients = mlp_gradients(x, labels, parameters)
expect(loss, math.log(4 / 3), "mlp_gradients: loss")
expect(gradients[1][0], [[-0.75, 0.0], [0.75, 0.0]], "mlp_gradients: second weight")
expect(gradients[1][1], [-0.25, 0.25], "mlp_gradients: second bias")
# W^T dlogits = (-1/2, 3/4) arrives at the hidden neurons; the second one is off
expect(gradients[0][0], [[0.5, 1.0], [0.0, 0.0]], "mlp_gradients: first weight")
expect(gradients[0][1], [-0.5, 0.0], "mlp_gradients: first bias")
# Two examples, three layers, one neuron each: z1 = (1, 3), z2 = (1, -1), off in the second example.
# Logits (ln 3, 0) and (0, 0), p = (3/4, 1/4) and (1/2, 1/2); dlogits carries 1/B = 1/2.
x, labels = torch.tensor([[1.0], [2.0]]), torch.tensor([1, 0])
parameters = [
    (torch.tensor([[2.0]]), torch.tensor([-1.0])),
    (torch.tensor([[-1.0]]), torch.tensor([2.0])),
    (torch.tensor([[math.log(3.0)], [0.0]]), torch.zeros(2)),
]
loss, gradients = mlp_gradients(x, labels, parameters)
expect(loss, math.log(8.0) / 2, "mlp_gradients: loss of two examples")
expect(gradients[2][0], [[3 / 8], [-3 / 8]], "mlp_gradients: last weight, two examples")
expect(gradients[2][1], [1 / 8, -1 / 8], "mlp_gradients: last bias, two examples")
# 3/8 ln 3 and -1/4 ln 3 arrive at the second layer, of which the ReLU stops the second
arrived = 3 / 8 * math.log(3.0)
expect(gradients[1], [[[arrived]], [arrived]], "mlp_gradients: middle layer, two examples")
expect(gradients[0], [[[-arrived]], [-arrived]], "mlp_gradients: first layer, two examples")
# A single layer: logits (0, -ln 3), of which no ReLU may take the second
single = [(torch.zeros(2, 1), torch.tensor([0.0, -math.log(3.0)]))]
loss, _ = mlp_gradients(torch.ones(1, 1), torch.tensor([0]), single)
expect(loss, math.log(4 / 3), "mlp_gradients: loss of a single layer")

# %% [markdown]
# One last examination, of the whole: three layers, every parameter, formula (2) against yours.

# %%
torch.manual_seed(2)
small_x, small_t = torch.randn(6, 5, dtype=torch.float64), torch.randint(3, (6,))
small_net = [
    (torch.randn(n_out, n_in, dtype=torch.float64), torch.randn(n_out, dtype=torch.float64))
    for n_in, n_out in itertools.pairwise([5, 4, 4, 3])
]


def loss_with(number: int, part: int, value: Tensor) -> Tensor:
    """Loss of the small network with one parameter exchanged."""
    changed = [list(layer) for layer in small_net]
    changed[number][part] = value
    return mlp_gradients(small_x, small_t, [(w, b) for w, b in changed])[0]


_, explicit = mlp_gradients(small_x, small_t, small_net)
for number, part in itertools.product(range(3), range(2)):
    numerical = numerical_gradient(partial(loss_with, number, part), small_net[number][part])
    error = relative_error(explicit[number][part], numerical)
    print(f"layer {number + 1}, {('weight', 'bias')[part]:6}  relative error {error:.1e}")

# %% [markdown]
# ## 7 · Digits
#
# 1,197 handwritten digits of 8 by 8 pixels to learn from, and 600 others, the validation and the
# test part together, which training does not see. The network: 64 inputs, two layers of 64 ReLU
# neurons, 10 classes; plain gradient descent in batches of 32. The 600 are no untouched test:
# widths and rate were settled with these curves in view, so take their accuracies as slightly
# flattered. Who wants to report a number chooses on the validation part, and looks at the test part
# once.
#
# A habit worth having: **look at the loss before the first step.** A network that knows nothing
# says $\frac1K$ for each class, so its loss is near $\ln K = \ln 10 \approx 2.30$. If yours starts
# far above, something is wrong.

# %%
device = course.device()
digits = data.digits(device)
unseen_x = torch.cat([digits.valid_x, digits.test_x])
unseen_y = torch.cat([digits.valid_y, digits.test_y])
Parameters = list[tuple[Tensor, Tensor]]


def make_mlp(sizes: list[int], seed: int = 0) -> Parameters:
    """Weights of variance 1 / inputs, biases zero."""
    generator = torch.Generator().manual_seed(seed)
    shapes = itertools.pairwise(sizes)
    return [
        (
            (torch.randn(n_out, n_in, generator=generator) / n_in**0.5).to(device),
            torch.zeros(n_out, device=device),
        )
        for n_in, n_out in shapes
    ]


def mlp_logits(x: Tensor, parameters: Parameters) -> Tensor:
    """Forward pass with your linear layer, (B, D_0) to (B, K)."""
    for number, (weight, bias) in enumerate(parameters, start=1):
        x = linear_forward(x, weight, bias)
        if number < len(parameters):
            x = x.clamp(min=0)
    return x


def accuracy(x: Tensor, labels: Tensor, parameters: Parameters) -> float:
    """Share of rows whose largest logit is the label's."""
    return (mlp_logits(x, parameters).argmax(dim=1) == labels).float().mean().item()


# %%
def train(
    parameters: Parameters, epochs: int, rate: float = 0.2, seed: int = 0
) -> dict[str, list[float]]:
    """Gradient descent in batches of 32; changes `parameters`, returns the curves."""
    generator = torch.Generator().manual_seed(seed)
    history: dict[str, list[float]] = {"loss": [], "train": [], "unseen": []}
    for _ in range(epochs):
        losses = []
        for rows in torch.randperm(len(digits.train_x), generator=generator).split(32):
            rows = rows.to(device)
            loss, gradients = mlp_gradients(digits.train_x[rows], digits.train_y[rows], parameters)
            losses.append(loss.item())
            for layer, layer_gradients in zip(parameters, gradients, strict=True):
                for parameter, gradient in zip(layer, layer_gradients, strict=True):
                    parameter -= rate * gradient
        history["loss"].append(sum(losses) / len(losses))
        history["train"].append(accuracy(digits.train_x, digits.train_y, parameters))
        history["unseen"].append(accuracy(unseen_x, unseen_y, parameters))
    return history


# %%
widths = [64, 64, 64, 10]
epochs = {"grade": 4}.get(course.profile(), 40)
means = torch.stack([digits.train_x[digits.train_y == k].mean(dim=0) for k in range(10)])
nearest = (torch.cdist(unseen_x, means).argmin(dim=1) == unseen_y).float().mean().item()
mlp = make_mlp(widths)
first_loss, _ = mlp_gradients(digits.train_x, digits.train_y, mlp)
curves, linear_curves = train(mlp, epochs), train(make_mlp([64, 10]), epochs)
print(f"loss before the first step {first_loss.item():.3f}, ln 10 = {math.log(10):.3f}")
print(f"accuracy on unseen digits: nearest class mean {nearest:.1%}")
print(f"                           one layer          {linear_curves['unseen'][-1]:.1%}")
print(f"                           three layers       {curves['unseen'][-1]:.1%}")

figure, (left, middle) = plt.subplots(1, 2, figsize=(7.0, 2.8))
left.semilogy(curves["loss"], label="three layers")
left.semilogy(linear_curves["loss"], label="one layer")
left.set(xlabel="epoch", ylabel="training loss (log scale)", title="Loss")
left.legend()
middle.plot(curves["train"], label="three layers, training")
middle.plot(curves["unseen"], label="three layers, unseen")
middle.plot(linear_curves["unseen"], label="one layer, unseen")
middle.axhline(nearest, color="grey", linestyle=":", label="nearest class mean")
middle.set(xlabel="epoch", ylabel="accuracy", ylim=(0.8, 1.005), title="Accuracy")
middle.legend()
plt.show()

# %%
logits = mlp_logits(unseen_x, mlp)
sure, said = (logits - torch.logsumexp(logits, dim=1, keepdim=True)).exp().max(dim=1)
for title, hits in [("Right", said == unseen_y), ("Wrong", said != unseen_y)]:
    chosen = hits.nonzero()[:8, 0].tolist()
    titles = [f"{unseen_y[i]} as {said[i]}\n{sure[i]:.0%}" for i in chosen]
    plots.images(1 - unseen_x[chosen], titles, title=f"{title}: label, answer, how sure")
    plt.show()

# %% [markdown]
# **What to see.** The hidden layers remove a good part of the errors that one layer leaves, and one
# layer of those of the class means. On the training digits nothing is left to learn: the rest is
# the gap between the two upper curves. Look at the wrong ones: some you would misread yourself, and
# still the network is often sure. A softmax says how the classes compare with each other, not how
# well it knows.
#
# ## 8 · A surprise: it trains, so it must be right?
#
# Suppose somebody forgets the ReLU in the backward pass: the gradient passes every neuron, on or
# off. The gallery has shown that this is plainly wrong. Somebody else takes the *wrong weights* on
# the way back: random numbers, drawn once, that have nothing to do with the network's own. And a
# third masks by the sign of the gradient. What will the three reach on the digits? Make a guess for
# each before you run the cell.
#
# The cell exchanges your functions only while it trains (it has an effect if your `mlp_gradients`
# calls `relu_backward` and `linear_backward`).

# %%
honest_linear, honest_relu = linear_backward, relu_backward
random_weights = {tuple(weight.shape): weight for weight, _ in make_mlp(widths, seed=99)}


def random_feedback(grad: Tensor, x: Tensor, weight: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """The linear layer's gradients, but dx is sent on through random weights."""
    _, dweight, dbias = honest_linear(grad, x, weight)
    return honest_linear(grad, x, random_weights[tuple(weight.shape)])[0], dweight, dbias


def train_with(exchange: dict[str, Callable], parameters: Parameters) -> dict[str, list[float]]:
    """Train while some of this notebook's functions are exchanged for others."""
    kept = {name: globals()[name] for name in exchange}
    globals().update(exchange)
    try:
        return train(parameters, epochs)
    finally:
        globals().update(kept)


# %%
faults: dict[str, dict[str, Callable]] = {
    "right": {},
    "ReLU passes everything": {"relu_backward": lambda grad, x: grad},
    "random weights on the way back": {"linear_backward": random_feedback},
    "ReLU masks by the gradient": {"relu_backward": lambda grad, x: honest_relu(grad, grad)},
}
for name, exchange in faults.items():
    faulty = make_mlp(widths)
    history = train_with(exchange, faulty)
    first = linear_forward(digits.train_x, *faulty[0]).clamp(min=0)
    second = linear_forward(first, *faulty[1]).clamp(min=0)
    never_on = [(layer == 0).all(dim=0).sum().item() for layer in (first, second)]
    plt.plot(history["unseen"], label=name)
    print(f"{name:31} {history['unseen'][-1]:.1%}   neurons never on, by layer: {never_on} of 64")
plt.gca().set(xlabel="epoch", ylabel="accuracy on unseen digits", title="One right, three wrong")
plt.legend()
plt.show()

# %% [markdown]
# **What to see.** Two of the three wrong gradients train, one of them about as well as the right
# one. A direction that is only *roughly* downhill is enough for gradient descent, and the last
# layer, whose gradient is still exact, makes use of whatever the layers before it offer. The second
# fault even has a name: in *feedback alignment* the network's own weights turn towards the random
# ones until these are good enough (Lillicrap et al., 2016). Here it costs a point or two; on
# ImageNet it falls far behind (Bartunov et al., 2018). In your own project you would blame the
# learning rate or the data.
#
# The third fault kills: where only positive gradients pass, each hidden neuron is only ever told to
# fall. Its inputs are never negative (pixels, or outputs of a ReLU), so its weights can only
# shrink, until it is off for every image, or until the layer behind it is and sends nothing back
# any more; the last numbers of each line count the neurons that are off.
#
# So "it trains" is no test of a gradient. The numerical gradient is, and it takes three lines.
#
# **One experiment for you.** Start with all weights zero: `make_mlp` with `torch.zeros` in place of
# `torch.randn`. Which accuracy do you expect, and which gradients are zero at the first step? Print
# them, and explain with the formulas of `linear_backward`.

# %% [markdown]
# ## Summary
#
# 1. A program is a graph of steps; each step knows only its local gradients, and the forward pass
#    keeps them.
# 2. Along a path multiply, where paths meet add:
#    $\bar v = \sum_j \bar u_j\,\partial u_j/\partial v$, each node after all of its users.
# 3. A layer is a node that returns $\bar W = G^\top X$, $\bar{\mathbf b} = \sum_n G_n$,
#    $\bar X = G W$; a value used $B$ times collects $B$ terms.
# 4. Softmax and cross-entropy together have the gradient $(\mathbf p - \text{one-hot})/B$, computed
#    from shifted logits.
# 5. Check every backward pass by central differences in float64 with $h \approx 10^{-5}$: a wrong
#    one may well train.
#
# **Where it came from, and what is used today.** Linnainmaa described reverse accumulation in his
# master's thesis of 1970; Rumelhart, Hinton and Williams (1986) made it the way to train networks.
# Your scalar engine is the idea of `torch.autograd`, which records a graph of tensor operations as
# you did, and of JAX, which transforms the program instead. The library calls are
# `loss.backward()`, `torch.nn.functional.cross_entropy` (from logits) and
# `torch.autograd.gradcheck` (your exercise 8, float64 and all).
#
# **Further reading.** A. Baydin et al., *Automatic differentiation in machine learning: a survey*,
# JMLR 18 (2018). A. Karpathy, *micrograd* (the engine of sections 1-3 in a hundred lines). D.
# Rumelhart, G. Hinton, R. Williams, *Learning representations by back-propagating errors*, Nature
# 323 (1986). T. Lillicrap et al., *Random synaptic feedback weights support error backpropagation
# for deep learning*, Nature Communications 7 (2016). S. Bartunov et al., *Assessing the scalability
# of biologically-motivated deep learning algorithms and architectures*, NeurIPS 2018.
