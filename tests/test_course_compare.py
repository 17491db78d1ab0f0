"""`course.compare.difference`: what agrees, what does not, and in which words."""

from __future__ import annotations

import math
from collections import OrderedDict, namedtuple

import numpy as np
import pytest
import torch
from torch import Tensor, nn, tensor

from course.compare import describe, difference

nan, inf = math.nan, math.inf
Pair = namedtuple("Pair", "first second")


EQUAL = [
    # numbers
    (1, 1),
    (1.0, 1),
    (1, 1.0),
    (True, True),
    (True, 1),
    (tensor(1.0), 1.0),
    (1.0, tensor(1.0)),
    (tensor(3), 3),
    (np.float32(0.1), 0.1),
    (0.1, np.float64(0.1)),
    (np.array(2.5), 2.5),
    (tensor(0.1, dtype=torch.float16), np.float16(0.1)),
    (np.bool_(True), True),
    (tensor(True), True),
    (1 + 2j, tensor(1 + 2j)),
    (10**400, 10**400),
    (1.00009, 1.0),
    (9e-7, 0.0),
    (nan, nan),
    (tensor(nan), nan),
    (inf, inf),
    (-inf, tensor(-inf)),
    (np.longdouble(2.5), 2.5),
    # arrays
    (tensor([1.0, 2.0]), [1.0, 2.0]),
    (tensor([1.0, 2.0]), (1, 2)),
    ([1.0, 2.0], tensor([1.0, 2.0])),
    (tensor([1.0, 2.0]), [tensor(1.0), np.float32(2)]),
    ([1.0, 2.0], [tensor(1.0), tensor(2.0)]),
    ((1, 2), tensor([1.0, 2.0])),
    ([[1, 2], (3, 4.0)], tensor([[1.0, 2.0], [3.0, 4.0]])),
    (tensor([1.0, 2.5]), [1, 2.5]),
    ([tensor(1.0), np.float32(2)], tensor([1.0, 2.0])),
    ([tensor([1.0, 2.0]), [3, 4]], tensor([[1.0, 2.0], [3.0, 4.0]])),
    (np.arange(6).reshape(2, 3), torch.arange(6).view(2, 3)),
    (torch.arange(6).view(2, 3), np.arange(6.0).reshape(2, 3)),
    (tensor([1.0, nan, inf]), [1.0, nan, inf]),
    (torch.empty(0), []),
    ([], torch.empty(0)),
    (torch.empty(0, 3), torch.empty(0, 3)),
    (np.empty((2, 0)), [[], []]),
    (torch.ones(2, 3).T, np.ones((3, 2))),
    (np.arange(4)[::-1], [3, 2, 1, 0]),
    (np.arange(4, dtype=">i4"), [0, 1, 2, 3]),
    (torch.ones(3, requires_grad=True), torch.ones(3)),
    (torch.ones(3), torch.ones(3, requires_grad=True)),
    (torch.ones(3, requires_grad=True) * 2, [2.0, 2.0, 2.0]),
    (nn.Parameter(torch.ones(2)), [1.0, 1.0]),
    (torch.eye(3).to_sparse(), torch.eye(3)),
    (torch.eye(2), torch.eye(2).to_sparse()),
    (torch.quantize_per_tensor(torch.ones(2), 0.5, 0, torch.quint8), [1.0, 1.0]),
    (tensor([1 + 1j]).conj(), [1 - 1j]),
    (torch.ones(2, dtype=torch.complex64), [1.0, 1.0]),
    (tensor([1 + 1j]).conj().imag, [-1.0]),
    (torch.ones(3, dtype=torch.bfloat16), torch.ones(3, dtype=torch.float64)),
    (torch.ones(3, dtype=torch.float8_e4m3fn), [1.0, 1.0, 1.0]),
    (tensor([True, False]), [True, False]),
    (tensor([1, 0]), tensor([True, False])),
    (tensor([2**63], dtype=torch.uint64), np.array([2**63], dtype=np.uint64)),
    (tensor([7], dtype=torch.uint64), [7]),
    (torch.zeros(1).expand(3), [0.0, 0.0, 0.0]),
    (np.ma.masked_array([1.0, 2.0], mask=np.array([False, True])), [1.0, 2.0]),
    (tensor([[[1.0]]]), [[[1.0]]]),
    # the rest
    ("abc", "abc"),
    (np.str_("abc"), "abc"),
    (b"abc", b"abc"),
    (None, None),
    (torch.float32, torch.float32),
    ([], ()),
    ([1, "a", None], (1, "a", None)),
    (Pair(1, "b"), (1, "b")),
    (torch.Size([2, 3]), [2, 3]),
    (torch.ones(2, 3).shape, (2, 3)),
    ([1, 2.5], [1.0, 2.5]),
    ([[1, 2], [3]], ((1, 2), (3,))),
    ([tensor([1.0]), tensor([1.0, 2.0])], ([1.0], [1.0, 2.0])),
    ({"a": tensor([1.0]), "b": {"c": 2}}, {"b": {"c": 2.0}, "a": [1]}),
    (OrderedDict(a=1), {"a": 1}),
    ({1: "x", None: "y", (1, 2): "z"}, {1: "x", None: "y", (1, 2): "z"}),
    (np.array(["a", "b"]), ["a", "b"]),
    (np.array([1.0, "x"], dtype=object), [1.0, "x"]),
    ([10**30, 1], [10**30, 1]),
    ([10**30, 1], [1e30, 1]),
]


@pytest.mark.parametrize(("actual", "desired"), EQUAL, ids=range(len(EQUAL)))
def test_agree(actual, desired):
    assert difference(actual, desired) is None


DIFFERENT = [
    # numbers
    (1.1, 1.0, "got 1.1, expected 1.0"),
    (2, 1, "got 2, expected 1"),
    (False, True, "got False, expected True"),
    (1.0002, 1.0, "got 1.0002, expected 1.0"),
    (100001, 100000, "got 100001, expected 100000"),
    (nan, 1.0, "got NaN, expected 1.0"),
    (1.0, nan, "got 1.0, expected NaN"),
    (inf, 1.0, "got inf, expected 1.0"),
    (1.0, inf, "got 1.0, expected inf"),
    (-inf, inf, "got -inf, expected inf"),
    (nan, inf, "got NaN, expected inf"),
    (1e308, -1e308, "got 1e+308, expected -1e+308"),
    (1j, 1.0, "got 0.0+1.0j, expected 1.0"),
    (10**5000, 1, "got an integer of 16610 bits, expected 1"),
    (1, 10**5000, "got 1, expected an integer of 16610 bits"),
    (10**5000, 1.0, "got an integer of 16610 bits, expected 1.0"),
    (10**5000, inf, "got an integer of 16610 bits, expected inf"),
    (1.0, 10**400, "got 1.0, expected an integer of 1329 bits"),
    ([10**400], [inf], "at [0]: got an integer of 1329 bits, expected a number"),
    (tensor([1.0]), 1.0, "shape (1,), expected a single number, shape ()"),
    ([1.0], 1.0, "shape (1,), expected a single number, shape ()"),
    (np.array([1.0]), tensor(1.0), "shape (1,), expected a single number, shape ()"),
    (1.0, [1.0], "shape (), expected (1,)"),
    (tensor(1.0), tensor([1.0]), "shape (), expected (1,)"),
    (None, 1.0, "got None, expected 1.0 (is a return missing?)"),
    ("1", 1, "got '1', expected 1"),
    (object(), 1, "got an object of type object, expected 1"),
    ({"a": 1}, 1, "got a dict of 1, expected 1"),
    # arrays
    (
        tensor([[1.0, 2.0], [3.0, 5.0]]),
        [[1, 2], [3, 4]],
        "1 of 4 values is wrong, first at [1, 1]: got 5.0, expected 4",
    ),
    (
        tensor([1.0, 3.0, 4.0]),
        tensor([1.0, 2.0, 3.0]),
        "2 of 3 values are wrong, first at [1]: got 3.0, expected 2.0",
    ),
    ([0.0, 0.0], [1.0, 2.0], "all 2 values are wrong, first at [0]: got 0.0, expected 1.0"),
    (tensor([2.0]), [1.0], "the only value is wrong, first at [0]: got 2.0, expected 1.0"),
    (
        tensor([nan, 2.0, inf]),
        [1.0, 2.0, 3.0],
        "2 of 3 values are wrong, first at [0]: got NaN, expected 1.0 (1 is NaN, 1 is infinite)",
    ),
    (tensor([nan, 1.0]), [nan, nan], "1 of 2 values is wrong, first at [1]: got 1.0, expected NaN"),
    (torch.ones(3, 2), torch.ones(2, 3), "shape (3, 2), expected (2, 3), its transpose"),
    (torch.ones(2, 1), torch.ones(2), "shape (2, 1), expected (2,)"),
    (torch.ones(2), [[1.0, 1.0]], "shape (2,), expected (1, 2)"),
    (torch.empty(0, 3), torch.empty(0, 2), "shape (0, 3), expected (0, 2)"),
    ([[1, 2, 3], [4, 5, 6]], torch.ones(3, 2), "shape (2, 3), expected (3, 2), its transpose"),
    ([[1, 2], [3]], torch.ones(2, 2), "at [1]: got a list of 1, expected a list of 2"),
    ([1, "x"], torch.ones(2), "at [1]: got 'x', expected a number"),
    ([1, None], torch.ones(2), "at [1]: got None, expected a number"),
    ([tensor([1.0]), 2.0], torch.ones(2), "shape (2, 1), expected (2,)"),
    ([2.0, tensor([1.0])], torch.ones(2), "at [1]: shape (1,), expected a single number, shape ()"),
    (None, torch.ones(2), "got None, expected a tensor of shape (2,) (is a return missing?)"),
    ("abc", [1.0, 2.0], "got 'abc', expected a list of 2"),
    ({}, np.ones(2), "got a dict of 0, expected an array of shape (2,)"),
    (tensor([True, False]), [True, True], "1 of 2 values is wrong, first at [1]: got False"),
    (tensor([2**53 + 1]), [2**53], "the only value is wrong, first at [0]: got 9007199254740993"),
    (tensor([2**64 - 1], dtype=torch.uint64), [-1], "the only value is wrong"),
    (tensor([100001]), tensor([100000]), "the only value is wrong"),
    (tensor([1 + 1j]), [1.0], "the only value is wrong, first at [0]: got 1.0+1.0j, expected 1.0"),
    (tensor([1e-5], dtype=torch.float64), [0.0], "got 1e-05, expected 0.0"),
    (tensor([0.1 + 2e-5]), [0.1], "got 0.10002, expected 0.1"),
    (torch.eye(3).to_sparse(), torch.zeros(3, 3), "3 of 9 values are wrong, first at [0, 0]"),
    (torch.zeros(1).expand(10**13), [0.0], "shape (10000000000000,), expected (1,)"),
    (
        torch.empty(2, device="meta"),
        torch.ones(2),
        "got a tensor on the device meta whose values cannot be read",
    ),
    (np.array([1, None]), torch.ones(2), "at [1]: got None, expected a number"),
    (np.array(["2020-01-01"], dtype="datetime64[D]"), [1.0], "got an array of dtype datetime64[D]"),
    # the rest
    ("abd", "abc", "got 'abd', expected 'abc'"),
    ("x" * 80 + "a", "x" * 80 + "b", "(first different character: 80)"),
    ("abc", b"abc", "got 'abc', expected b'abc'"),
    (torch.ones(2), "abc", "got a tensor of shape (2,), expected 'abc'"),
    (None, "abc", "got None, expected 'abc' (is a return missing?)"),
    (0, None, "got 0, expected None"),
    ("torch.float32", torch.float32, "got 'torch.float32', expected torch.float32"),
    (torch.float64, torch.float32, "got torch.float64, expected torch.float32"),
    ([1, "a"], [1, "b"], "at [1]: got 'a', expected 'b'"),
    (["a"], ["a", "b"], "1 items, expected 2"),
    ([tensor(1.0), 3.0], [tensor(1.0), tensor(2.0)], "1 of 2 values is wrong, first at [1]"),
    ([tensor(True)], [tensor(False)], "first at [0]: got True, expected False"),
    ([11689513, 0.5], [11689512, 0.5], "at [0]: got 11689513, expected 11689512"),
    (["a", ["b", [1.0]]], ["a", ["b", [2.0]]], "at [1][1]: the only value is wrong"),
    ({"a": {"b": [1, 2]}}, {"a": {"b": [1, 3]}}, "at ['a']['b']: 1 of 2 values is wrong"),
    ({"a": 1}, {"a": 1, "b": 2}, "the key 'b' is missing"),
    ({"a": 1, "b": 2}, {"a": 1}, "unexpected key 'b'"),
    ([("a", 1)], {"a": 1}, "got a list of 1, expected a dict of 1"),
    (torch.ones(2), ["a", "b"], "got a tensor of shape (2,), expected a list of 2"),
    ((x for x in [1.0]), [1.0], "got an object of type generator, expected a list of 1"),
]


@pytest.mark.parametrize(("actual", "desired", "words"), DIFFERENT, ids=range(len(DIFFERENT)))
def test_differ(actual, desired, words):
    message = difference(actual, desired)
    assert message is not None
    assert words in message
    assert "\n" not in message


def test_first_wrong_index_and_count_are_those_of_numpy():
    generator = torch.Generator().manual_seed(0)
    desired = torch.randn(3, 4, 5, generator=generator)
    wrong = torch.rand(3, 4, 5, generator=generator) < 0.1
    message = difference(desired + wrong, desired)
    first = [int(i) for i in np.argwhere(wrong.numpy())[0]]
    assert message is not None
    assert message.startswith(f"{int(wrong.sum())} of 60 values are wrong, first at {first}:")


@pytest.mark.parametrize("excess", [0.99, 1.01])
def test_tolerances_are_those_of_numpy(excess):
    desired = torch.tensor([3.0, -0.5, 0.0], dtype=torch.float64)
    for sign in (1, -1):
        actual = desired + sign * excess * (1e-3 + 1e-2 * desired.abs())
        close = bool(np.isclose(actual, desired, rtol=1e-2, atol=1e-3).all())
        assert (difference(actual, desired, rtol=1e-2, atol=1e-3) is None) == close
        assert close == (excess < 1)


def test_numbers_that_print_alike_get_more_digits():
    message = difference(1.0000001, 1.0, rtol=0, atol=0)
    assert message == "got 1.0000001, expected 1.0"


def test_tolerance_is_relative_to_the_desired_value():
    assert difference(100.0, 50.0, rtol=0.6, atol=0) is not None
    assert difference(50.0, 100.0, rtol=0.6, atol=0) is None


@pytest.mark.parametrize(
    ("actual", "desired", "message"),
    [
        (torch.ones(2), torch.ones(2, dtype=torch.float64), "dtype float32, expected float64"),
        (torch.ones(2).long(), torch.ones(2), "dtype int64, expected float32"),
        (torch.ones(2).bool(), torch.ones(2).long(), "dtype bool, expected int64"),
        (np.ones(2), torch.ones(2), "dtype float64, expected float32"),
        (3.0, 3, "dtype float, expected int"),
        (True, 1, "dtype bool, expected int"),
        (tensor(3), 3.0, "dtype int, expected float"),
        (np.float64(1), tensor(1.0), "dtype float64, expected float32"),
        ([1, 1], torch.ones(2), "dtype int, expected float"),
        (torch.ones(2), torch.ones(2), None),
        (np.ones(2, np.float32), torch.ones(2), None),
        (3.0, tensor(3.0), None),
        (tensor(3, dtype=torch.int32), 3, None),
        (tensor(3.0, dtype=torch.bfloat16), 3.0, None),
        ([1.0, 2.0], tensor([1.0, 2.0]), None),
        ([tensor(1.0)], [tensor(1.0).double()], "at [0]: dtype float32, expected float64"),
        ([], torch.empty(0), None),
        ((torch.ones(1), 2), (torch.ones(1), 2), None),
    ],
)
def test_dtype_on_request(actual, desired, message):
    assert difference(actual, desired, dtype=True) == message
    assert difference(actual, desired) is None


def test_what_cannot_be_desired():
    for desired in ({1, 2}, object(), range(3), [object()]):
        with pytest.raises(TypeError, match="cannot compare with an object of type"):
            difference([1] if isinstance(desired, list) else 1, desired)
    for desired in (torch.ones(2, device="meta"), np.array(["2020-01-01"], dtype="datetime64[D]")):
        with pytest.raises(TypeError, match=r"cannot compare with an? (tensor|array)"):
            difference([1.0, 2.0], desired)


def test_describe_never_calls_repr():
    class Loud:
        def __repr__(self):
            raise RuntimeError

    assert describe(Loud()) == "an object of type Loud"
    assert describe([Loud()]) == "a list of 1"


# ---- objects that try to decide about their own equality


class Agreeable:
    """Equal to everything, and pretends to be a tensor."""

    __class__ = Tensor  # type: ignore[assignment]
    shape = torch.Size([])

    def __eq__(self, other):
        return True

    def __float__(self):
        return 1.0

    __hash__ = object.__hash__


class Float(float):
    def __eq__(self, other):
        return True

    __sub__ = __rsub__ = lambda self, other: 0.0
    __hash__ = float.__hash__


class Int(int):
    def __eq__(self, other):
        return True

    __hash__ = int.__hash__


class Str(str):
    def __eq__(self, other):
        return True

    def __str__(self):
        return "abc"

    __hash__ = str.__hash__


class List(list):
    def __len__(self):
        return 2

    def __iter__(self):
        return iter([1.0, 2.0])

    def __getitem__(self, index):
        return [1.0, 2.0][index]

    def __eq__(self, other):
        return True


class Tuple(tuple):
    def __iter__(self):
        return iter((1.0, 2.0))

    def __getitem__(self, index):
        return (1.0, 2.0)[index]


class Dict(dict):
    def __contains__(self, key):
        return True

    def __getitem__(self, key):
        return 1

    def items(self):  # type: ignore[override]
        return {"a": 1}.items()

    keys = __iter__ = None  # type: ignore[assignment]


class Key:
    def __eq__(self, other):
        return True

    def __hash__(self):
        return hash("a")


class Shy(Tensor):
    """Answers every torch function with what is desired."""

    @classmethod
    def __torch_function__(cls, func, types, args=(), kwargs=None):
        return torch.ones(2)


class Wrapper(Tensor):
    """Holds no storage; answers every operation."""

    @staticmethod
    def __new__(cls):
        return Tensor._make_wrapper_subclass(cls, (2,))  # type: ignore[attr-defined]

    @classmethod
    def __torch_dispatch__(cls, func, types, args=(), kwargs=None):
        return torch.ones(2)


class Array(np.ndarray):
    def __array_ufunc__(self, *args, **kwargs):
        return True

    def tolist(self):  # type: ignore[override]
        return [1.0, 1.0]

    shape = property(lambda self: (2,))  # type: ignore[assignment]


@pytest.mark.parametrize(
    ("actual", "desired"),
    [
        (Agreeable(), 1.0),
        (Agreeable(), torch.tensor(1.0)),
        (Agreeable(), "abc"),
        (Agreeable(), None),
        ([Agreeable(), 2.0], [1.0, 2.0]),
        (Float(2.0), 1.0),
        (Int(2), 1),
        (Str("xyz"), "abc"),
        (List([5.0, 6.0]), [1.0, 2.0]),
        (List(["x", "y"]), ["x", "z"]),
        (Tuple((5.0, 6.0)), [1.0, 2.0]),
        (Dict(b=2), {"a": 1}),
        ({Key(): 1}, {"a": 1}),
        (torch.zeros(2).as_subclass(Shy), torch.ones(2)),
        (torch.zeros(3).as_subclass(Shy), torch.ones(2)),
        (Wrapper(), torch.ones(2)),
        (np.zeros(2).view(Array), torch.ones(2)),
        (np.zeros(3).view(Array), torch.ones(2)),
    ],
    ids=lambda value: type(value).__name__,
)
def test_hostile_objects_do_not_pass(actual, desired):
    assert difference(actual, desired) is not None


def test_subclasses_are_compared_by_their_values():
    assert difference(torch.ones(2).as_subclass(Shy), torch.ones(2)) is None
    assert difference(np.ones(2).view(Array), torch.ones(2)) is None
    assert difference(List([5.0, 6.0]), [5.0, 6.0]) is None
    assert difference(Float(2.0), 2.0) is None
    assert difference(Str("xyz"), "xyz") is None


def test_nested_without_end():
    endless: list = []
    endless.append(endless)
    assert difference(endless, torch.ones(1)) == "too deeply nested"
    assert difference(endless, [[1.0]]) == "too deeply nested"
    assert difference(endless, "x") == "got a list of 1, expected 'x'"
    bomb: list = [0.0]
    for _ in range(60):
        bomb = [bomb] * 100
    assert difference(bomb, torch.ones(2, 2)) == "too deeply nested"
    assert "expected" in (difference(bomb, [1.0, "x"]) or "")


def test_types_with_a_hostile_name():
    class Meta(type):
        @property
        def __name__(cls):  # type: ignore[override]
            raise RuntimeError("no name")

    class Nameless(metaclass=Meta):
        pass

    assert difference(Nameless(), 1.0) == "got an object of type Nameless, expected 1.0"


@pytest.mark.filterwarnings("ignore:Sparse")
def test_sparse_layouts():
    huge = torch.sparse_coo_tensor(torch.empty(2, 0).long(), torch.empty(0), (10**7, 10**7))
    assert difference(huge, torch.ones(2, 2)) == "shape (10000000, 10000000), expected (2, 2)"
    for layout in (torch.sparse_csr, torch.sparse_csc):
        assert difference(torch.eye(3).to_sparse(layout=layout), torch.eye(3)) is None
        assert difference(torch.eye(3).to_sparse(layout=layout), torch.ones(3, 3)) is not None


@pytest.mark.filterwarnings("ignore:The PyTorch API of nested tensors")
def test_nested_tensor_has_no_shape():
    nested = torch.nested.nested_tensor([torch.ones(1), torch.ones(2)])
    assert "nested tensor" in (difference(nested, torch.ones(2)) or "")
    assert difference([nested], torch.ones(1, 2)) is not None


def test_values_and_graph_are_left_alone():
    actual = torch.ones(2, requires_grad=True)
    product = actual * 2
    assert difference(product, [2.0, 2.0]) is None
    product.sum().backward()
    assert actual.grad is not None
    assert actual.grad.tolist() == [2.0, 2.0]
    desired = np.ones(2)
    desired.flags.writeable = False
    assert difference(torch.ones(2), desired) is None


@pytest.mark.parametrize("setting", ["float64", "meta"])
def test_torch_defaults_do_not_matter(setting):
    previous = torch.get_default_dtype()
    try:
        if setting == "meta":
            torch.set_default_device("meta")
        else:
            torch.set_default_dtype(torch.float64)
        assert difference([1.0, 2.0], (1.0, 2.0)) is None
        assert difference([1.0, 2.0], (1.0, 3.0)) is not None
        assert difference(1.0, 1.0) is None
    finally:
        torch.set_default_device(None)  # type: ignore[arg-type]
        torch.set_default_dtype(previous)
