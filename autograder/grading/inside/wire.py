"""Plain data between the judge and a student's process: frames of JSON and raw buffers.

A frame is a fixed header (magic, length of the JSON, length of the buffers), the JSON, the buffers.
Nothing that was read is unpickled, evaluated or imported; a frame that is not exactly as it should
be raises `WireError`.
"""

import json
import math
import os
import select
import struct
import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

HEADER = struct.Struct("<4sIQ")
MAGIC = b"DLC1"
MAX_FRAME = 64 * 2**20  # bytes of a frame
MAX_TEXT = (
    4 * 2**20
)  # bytes of its JSON: numbers travel in buffers, and small lists cost the reader much
MAX_DEPTH = 40
TORCH_DTYPES = {
    str(dtype).removeprefix("torch."): dtype
    for dtype in (
        *(torch.float16, torch.bfloat16, torch.float32, torch.float64, torch.complex64),
        *(
            torch.complex128,
            torch.uint8,
            torch.int8,
            torch.int16,
            torch.int32,
            torch.int64,
            torch.bool,
        ),
    )
}
NUMPY_KINDS = "biufc"


class WireError(Exception):
    """The other side sent something that is no frame, or too large a one."""


class WireTimeout(Exception):
    """The other side did not answer before the deadline."""


@dataclass(frozen=True)
class Opaque:
    """Stands for an object that is not plain data; it equals nothing that a check expects."""

    kind: str


def encode(value: Any) -> tuple[Any, list[bytes]]:
    """Turn plain data into a JSON value and buffers; what is not plain becomes an `Opaque`."""
    buffers: list[bytes] = []
    return _pack(value, buffers, 0), buffers


def _pack(value: Any, buffers: list[bytes], depth: int) -> Any:
    if depth > MAX_DEPTH:
        return {"opaque": "nested too deeply"}
    if value is None or isinstance(value, bool | str):
        return value
    if isinstance(value, int) and not hasattr(value, "dtype"):
        return int(value) if abs(int(value)) < 2**63 else {"opaque": "an integer beyond 64 bits"}
    if isinstance(value, float) and not hasattr(value, "dtype"):
        return float(value)
    if isinstance(value, torch.Tensor):
        return _pack_tensor(value, buffers)
    if isinstance(value, np.ndarray | np.generic):
        return _pack_array(np.asarray(value), buffers)
    if isinstance(value, list | tuple):
        kind = "tuple" if isinstance(value, tuple) else "list"
        return {kind: [_pack(item, buffers, depth + 1) for item in value]}
    if isinstance(value, dict):
        pairs = [
            [_pack(k, buffers, depth + 1), _pack(v, buffers, depth + 1)] for k, v in value.items()
        ]
        return {"dict": pairs}
    return {"opaque": type(value).__name__}


def _pack_tensor(value: torch.Tensor, buffers: list[bytes]) -> Any:
    if value.is_meta or str(value.dtype).removeprefix("torch.") not in TORCH_DTYPES:
        return {"opaque": f"tensor of {value.dtype} on {value.device}"}
    plain = value.detach().to_dense() if value.layout != torch.strided else value.detach()
    plain = plain.resolve_conj().resolve_neg().cpu()
    # A fresh tensor: `contiguous` leaves a single element with the stride of the view it is from.
    flat = torch.empty(plain.numel(), dtype=plain.dtype).copy_(plain.flatten())
    raw = flat.view(torch.uint8) if flat.numel() else torch.empty(0, dtype=torch.uint8)
    buffers.append(raw.numpy().tobytes())
    name = str(plain.dtype).removeprefix("torch.")
    return {"tensor": [name, list(plain.shape), len(buffers) - 1]}


def _pack_array(value: np.ndarray, buffers: list[bytes]) -> Any:
    if value.dtype.kind not in NUMPY_KINDS:
        return {"opaque": f"array of {value.dtype}"}
    buffers.append(value.tobytes())
    return {"array": [value.dtype.str, list(value.shape), len(buffers) - 1]}


def decode(packed: Any, buffers: list[bytes]) -> Any:
    """Rebuild what `encode` was given, with fresh memory. Raises `WireError` on anything else."""
    try:
        return _unpack(packed, enumerate(buffers), 0)
    except (KeyError, IndexError, TypeError, ValueError, RuntimeError, OverflowError) as error:
        raise WireError(f"not plain data: {type(error).__name__}") from None


def _unpack(packed: Any, buffers: Iterator[tuple[int, bytes]], depth: int) -> Any:
    if depth > MAX_DEPTH + 1:
        raise WireError("nested too deeply")
    if packed is None or isinstance(packed, bool | str | int | float):
        return packed
    if not isinstance(packed, dict) or len(packed) != 1:
        raise WireError("not plain data")
    ((kind, body),) = packed.items()
    if kind == "opaque":
        return Opaque(str(body)[:100])
    if kind == "list":
        return [_unpack(item, buffers, depth + 1) for item in body]
    if kind == "tuple":
        return tuple(_unpack(item, buffers, depth + 1) for item in body)
    if kind == "dict":
        return {_unpack(k, buffers, depth + 1): _unpack(v, buffers, depth + 1) for k, v in body}
    if kind in ("tensor", "array"):
        return _unpack_numbers(kind, body, buffers)
    raise WireError("not plain data")


def _unpack_numbers(
    kind: str, body: Any, buffers: Iterator[tuple[int, bytes]]
) -> torch.Tensor | np.ndarray:
    name, shape, index = body
    if not all(type(size) is int and size >= 0 for size in shape) or len(shape) > 32:
        raise WireError("not a shape")
    number, data = next(buffers, (None, b""))
    if type(index) is not int or index != number:  # each is used once, in the order of `encode`
        raise WireError("not a buffer")
    raw = bytearray(data)
    if kind == "tensor":
        dtype = TORCH_DTYPES[name]
        itemsize = torch.empty(0, dtype=dtype).element_size()
    else:
        dtype = np.dtype(name)
        itemsize = dtype.itemsize
        if dtype.kind not in NUMPY_KINDS:
            raise WireError("not numbers")
    if math.prod(shape) * itemsize != len(raw):
        raise WireError("shape and size disagree")
    if (
        math.prod(max(size, 1) for size in shape) > MAX_FRAME
    ):  # [2**40, 0] is empty, its rows are not
        raise WireError("too large a shape")
    if isinstance(dtype, torch.dtype):
        flat = torch.frombuffer(raw, dtype=dtype) if raw else torch.empty(0, dtype=dtype)
        return flat.reshape(shape)
    return np.frombuffer(raw, dtype=dtype).reshape(shape)


def write_frame(
    fd: int,
    message: Any,
    buffers: list[bytes] | tuple[bytes, ...] = (),
    deadline: float | None = None,
) -> None:
    """Write one frame to a pipe.

    Args:
        fd: the writing end; with a deadline it has to be non-blocking.
        message: anything that JSON can hold.
        buffers: raw data that follows it.
        deadline: `time.monotonic()` by which the other side must have taken it; None waits.

    Raises:
        WireTimeout: the deadline passed.
    """
    sizes = [len(buffer) for buffer in buffers]
    text = json.dumps([message, sizes], ensure_ascii=False).encode("utf-8", "replace")
    data = b"".join([HEADER.pack(MAGIC, len(text), sum(map(len, buffers))), text, *buffers])
    view = memoryview(data)
    while view:
        if deadline is not None:
            left = deadline - time.monotonic()
            if left <= 0 or not select.select([], [fd], [], left)[1]:
                raise WireTimeout
        view = view[os.write(fd, view) :]


def read_frame(
    fd: int,
    deadline: float | None = None,
    limit: int = MAX_FRAME,
    text_limit: int = MAX_TEXT,
) -> tuple[Any, list[bytes]]:
    """Read one frame.

    Args:
        fd: the reading end of a pipe.
        deadline: `time.monotonic()` by which the whole frame must be there; None waits for ever.
        limit: the most bytes that the JSON and the buffers together may have.
        text_limit: the most bytes that the JSON may have.

    Raises:
        WireTimeout: the deadline passed.
        WireError: what came is no frame, or too large.
        EOFError: the other end was closed.
    """
    magic, text_size, data_size = HEADER.unpack(_read(fd, HEADER.size, deadline))
    if magic != MAGIC or text_size > text_limit or text_size + data_size > limit:
        raise WireError("not a frame, or too large a one")
    text, data = _read(fd, text_size, deadline), _read(fd, data_size, deadline)
    try:
        message, sizes = json.loads(text)
        if not all(type(size) is int and size >= 0 for size in sizes) or sum(sizes) != data_size:
            raise WireError("sizes disagree")
    except (ValueError, TypeError, RecursionError) as error:
        raise WireError(f"not a frame: {type(error).__name__}") from None
    buffers, start = [], 0
    for size in sizes:
        buffers.append(data[start : start + size])
        start += size
    return message, buffers


def _read(fd: int, size: int, deadline: float | None) -> bytes:
    parts = []
    while size > 0:
        if deadline is not None:
            left = deadline - time.monotonic()
            if left <= 0 or not select.select([fd], [], [], left)[0]:
                raise WireTimeout
        part = os.read(fd, min(size, 2**20))
        if not part:
            raise EOFError
        parts.append(part)
        size -= len(part)
    return b"".join(parts)
