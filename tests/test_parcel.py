"""A call on its way to a student's process arrives as cloudpickle would deliver it."""

import cloudpickle
import numpy as np
import pytest
import torch

from autograder.contract import probes
from autograder.grading import parcel

TENSORS = {
    "float32": torch.randn(3, 4),
    "float64": torch.randn(3, dtype=torch.float64),
    "float16": torch.randn(3).half(),
    "bfloat16": torch.randn(3).bfloat16(),
    "complex64": torch.randn(3, dtype=torch.complex64),
    "conjugate": torch.randn(3, dtype=torch.complex64).conj(),
    "int64": torch.arange(5),
    "bool": torch.tensor([True, False]),
    "a scalar": torch.tensor(2.5),
    "empty": torch.empty(0, 3),
    "transposed": torch.randn(3, 4).T,
    "a view": torch.randn(3, 4)[1],
    "expanded": torch.randn(3, 1).expand(3, 4),
    "sparse": torch.eye(3).to_sparse(),
    "with a gradient": torch.randn(3, requires_grad=True),
    "permuted": torch.randn(2, 3, 4).permute(2, 0, 1),
    "a parameter": torch.nn.Parameter(torch.randn(3)),
}


def arrived(probe, *args, **kwargs):
    """What the other side unpickles."""
    return cloudpickle.loads(parcel.dumps(probe, args, kwargs))


@pytest.mark.parametrize("name", TENSORS)
def test_a_tensor_arrives_as_it_is(name):
    sent = TENSORS[name]
    _, (got,), _ = arrived(probes.call, sent)
    assert type(got) is type(sent)
    assert (got.dtype, got.shape, got.layout) == (sent.dtype, sent.shape, sent.layout)
    assert got.requires_grad == sent.requires_grad
    assert torch.equal(got.to_dense(), sent.to_dense())
    if sent.layout is torch.strided:
        assert got.stride() == sent.stride()


def test_a_tensor_arrives_in_memory_of_its_own():
    sent = torch.zeros(3)
    _, (got,), _ = arrived(probes.call, sent)
    got.add_(1).resize_(5)
    assert sent.tolist() == [0.0, 0.0, 0.0]


def test_one_tensor_given_twice_is_one_tensor_over_there():
    sent = torch.zeros(3)
    _, (first, second), _ = arrived(probes.call, sent, sent)
    assert first is second


def test_other_arguments_arrive_too():
    array = np.arange(3)
    _, args, kwargs = arrived(probes.call, "name", [1, 2.0], array, key=None)
    assert args[:2] == ("name", [1, 2.0])
    assert args[2].tolist() == [0, 1, 2]
    assert kwargs == {"key": None}


def test_a_probe_travels_by_value():
    probe, _, _ = arrived(probes.call)
    assert probe is not probes.call
    assert probe(torch, "add", 1, 2) == 3


def test_a_probe_of_a_module_is_pickled_once(monkeypatch):
    arrived(probes.raises)
    monkeypatch.setattr(parcel.cloudpickle, "dumps", None)
    arrived(probes.raises)


def test_a_probe_made_in_a_check_is_pickled_each_time():
    values = []
    for number in range(2):
        probe, _, _ = arrived(lambda student, number=number: (student, number))
        values.append(probe("student"))
        probe, _, _ = arrived(lambda student: (student, number))  # noqa: B023
        values.append(probe("student"))
    assert values == [("student", 0)] * 2 + [("student", 1)] * 2
