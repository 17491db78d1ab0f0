"""Frames and plain data: what goes in comes out, and nothing else gets through."""

import json
import math
import os
import time

import numpy as np
import pytest
import torch

from autograder.grading.inside import wire


def roundtrip(value):
    message, buffers = wire.encode(value)
    return wire.decode(json.loads(json.dumps(message)), buffers)


@pytest.mark.parametrize(
    "value",
    [None, True, 3, -2.5, "word", [1, (2, [])], {"a": 1, 2: [None]}, math.inf, (), {}],
)
def test_plain_data_comes_back_as_it_was(value):
    assert roundtrip(value) == value and type(roundtrip(value)) is type(value)


@pytest.mark.parametrize("dtype", list(wire.TORCH_DTYPES.values()))
@pytest.mark.parametrize("shape", [(), (0, 3), (2, 3)])
def test_tensors_keep_dtype_shape_and_bits(dtype, shape):
    tensor = torch.arange(6).reshape(2, 3).to(dtype)
    tensor = tensor.expand(2, 3) if shape == (2, 3) else torch.zeros(shape, dtype=dtype)
    back = roundtrip(tensor)
    assert back.dtype == dtype and back.shape == torch.Size(shape) and torch.equal(back, tensor)


def test_a_view_that_needs_grad_comes_back_plain():
    tensor = torch.randn(4, 3, requires_grad=True).T[:, 1:]
    back = roundtrip(tensor)
    assert torch.equal(back, tensor) and not back.requires_grad and back.is_contiguous()


@pytest.mark.parametrize(
    "view",
    [
        torch.arange(6.0).reshape(1, 6)[:, -1],
        torch.arange(6.0).expand(3, 6).T,
        torch.arange(6).flip(0)[::2],
        torch.tensor([1 + 2j]).conj(),
        torch.eye(3).to_sparse(),
    ],
)
def test_views_of_every_kind_come_back_as_their_values(view):
    assert torch.equal(roundtrip(view), view.to_dense().resolve_conj())


def test_arrays_and_numpy_scalars():
    array = np.arange(6, dtype=">i2").reshape(2, 3)
    assert (roundtrip(array) == array).all() and roundtrip(array).shape == (2, 3)
    assert roundtrip(np.float32(1.5)) == 1.5


@pytest.mark.parametrize("value", [object(), {1, 2}, lambda: 0, torch.empty(1, device="meta")])
def test_other_objects_become_opaque_and_equal_nothing(value):
    assert isinstance(roundtrip(value), wire.Opaque)


def test_nan_and_huge_integers():
    assert math.isnan(roundtrip(math.nan))
    assert isinstance(roundtrip(2**200), wire.Opaque)


@pytest.mark.parametrize(
    ("packed", "buffers"),
    [
        ({"tensor": ["float32", [2], 0]}, [b"1234"]),  # size and shape disagree
        ({"tensor": ["float32", [-1], 0]}, [b""]),
        ({"tensor": ["float32", [1], -1]}, [b"1234"]),
        ({"tensor": ["qint8", [1], 0]}, [b"1"]),
        ({"tensor": ["float32", [1], 5]}, [b"1234"]),
        ({"tensor": ["float32", [1e99], 0]}, [b"1234"]),
        ({"array": ["O", [1], 0]}, [b"12345678"]),
        ({"array": ["V4", [1], 0]}, [b"1234"]),
        ({"pickle": "x"}, []),
        ({"list": [1], "tuple": [2]}, []),
        ({"dict": [[{"list": []}, 1]]}, []),
        ([1, 2], []),
        ({"list": 3}, []),
        ({"list": [{"tensor": ["uint8", [1], 0]}, {"tensor": ["uint8", [1], 0]}]}, [b"1", b"2"]),
        ({"tensor": ["uint8", [1], 1]}, [b"1", b"2"]),
        ({"tensor": ["float32", [2**40, 0], 0]}, [b""]),
    ],
)
def test_what_is_no_plain_data_is_refused(packed, buffers):
    with pytest.raises(wire.WireError):
        wire.decode(packed, buffers)


def test_deep_nesting_is_cut_when_sent_and_refused_when_received():
    deep: list = []
    for _ in range(200):
        deep = [deep]
    wire.decode(*wire.encode(deep))
    packed: dict = {"list": []}
    for _ in range(200):
        packed = {"list": [packed]}
    with pytest.raises(wire.WireError):
        wire.decode(packed, [])


def test_frames_go_through_a_pipe():
    reading, writing = os.pipe()
    wire.write_frame(writing, {"a": 1}, [b"xy", b""])
    assert wire.read_frame(reading, time.monotonic() + 1) == ({"a": 1}, [b"xy", b""])


@pytest.mark.parametrize(
    "data",
    [
        b"GET / HTTP/1.1\r\n\r\n",
        wire.HEADER.pack(wire.MAGIC, 2, 2**60),
        wire.HEADER.pack(wire.MAGIC, wire.MAX_TEXT + 1, 0) + b"[]",
        wire.HEADER.pack(wire.MAGIC, 4, 0) + b"[[[[",
        wire.HEADER.pack(wire.MAGIC, 2, 0) + b"[]",
        wire.HEADER.pack(wire.MAGIC, 8, 3) + b"[1, [5]]abc",
        wire.HEADER.pack(wire.MAGIC, 9, 0) + b"[1, [-1]]",
        wire.HEADER.pack(wire.MAGIC, 200_000, 0) + b"[" * 200_000,
    ],
)
def test_garbage_is_refused(data):
    reading, writing = os.pipe()
    os.set_blocking(writing, False)
    if len(data) > 60_000:
        os.close(reading)
        reading = os.memfd_create("garbage")
        os.write(reading, data)
        os.lseek(reading, 0, 0)
    else:
        os.write(writing, data)
    with pytest.raises(wire.WireError):
        wire.read_frame(reading, time.monotonic() + 1)


def test_text_beyond_unicode_is_replaced():
    reading, writing = os.pipe()
    wire.write_frame(writing, {"a": "\ud800 Я"})
    assert wire.read_frame(reading, time.monotonic() + 1)[0] == {"a": "? Я"}


def test_a_late_and_a_closed_sender_are_told_apart():
    reading, writing = os.pipe()
    os.write(writing, wire.MAGIC)
    with pytest.raises(wire.WireTimeout):
        wire.read_frame(reading, time.monotonic() + 0.05)
    os.close(writing)
    with pytest.raises(EOFError):
        wire.read_frame(reading, time.monotonic() + 1)
