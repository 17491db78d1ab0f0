"""How a value differs from the desired one, in words for a student.

The notebooks' visible tests and the grader's judge use the same function. The desired value comes
from the course and is trusted; the actual one comes from a student. It is therefore first reduced
to exact built-in types, with the methods of the base classes, so that no method that the student's
class overrides decides on its equality.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, TypeGuard, cast

import numpy as np
import torch
from torch import Tensor

_MAX_DEPTH = 32  # of a nested list whose shape is only described


@dataclass(frozen=True)
class _Rules:
    rtol: float
    atol: float
    dtype: bool


@dataclass(frozen=True)
class _Array:
    """A tensor, an array or a nested list of numbers.

    `load` gives the values as int64, float64 or complex128 on the CPU. It is called only once the
    shapes agree: an expanded or sparse tensor of a wrong shape may be too large to be made dense.
    """

    shape: tuple[int, ...]
    dtype: str
    load: Callable[[], Tensor]


class _Unreadable(Exception):
    """A value that holds no comparable numbers; the text says why."""


def difference(
    actual: object, desired: object, *, rtol: float = 1e-4, atol: float = 1e-6, dtype: bool = False
) -> str | None:
    """Describe the first difference between two values.

    Two numbers agree when |actual - desired| <= atol + rtol * |desired|; two integers (or bools)
    only when they are equal. NaN agrees with a desired NaN only, an infinity with the same infinity
    only. A Python number, a NumPy scalar and a tensor of shape () are alike, but a tensor of shape
    (1,) is not a number. Lists and tuples are alike; nested lists of numbers, arrays and tensors
    are alike. Whether a tensor requires a gradient, and its device, layout and class do not matter.

    Args:
        actual: a student's value; may be anything.
        desired: None, a number, bool, string, bytes, `torch.dtype`, tensor, array, or lists, tuples
            and dicts of those.
        rtol: relative tolerance.
        atol: absolute tolerance.
        dtype: also demand the same dtype. Python's numbers have a kind only: a float agrees with
            float32 and float64, an int with every integer type.

    Returns:
        None when the values agree, else the difference in one line.

    Raises:
        TypeError: `desired` is of a type that cannot be compared.
    """
    try:
        return _compare(actual, desired, "", _Rules(rtol, atol, dtype))
    except _Unreadable as error:  # of the actual value it has become a message already
        raise TypeError(f"cannot compare with {error}") from None


def _compare(actual: object, desired: object, path: str, rules: _Rules) -> str | None:
    actual, desired = _exact(actual), _exact(desired)
    if type(desired) is list:
        array = _from_list(desired, mixed=_is_array(actual), scalars=not rules.dtype)
        if array is None:
            return _compare_lists(actual, desired, path, rules)
        return _at(path, _compare_arrays(actual, desired, array, rules))
    if type(desired) is dict:
        return _compare_dicts(actual, desired, path, rules)
    if _is_array(desired):
        return _at(path, _compare_arrays(actual, desired, _as_array(desired), rules))
    if _is_number(desired):
        return _at(path, _compare_scalars(actual, desired, rules))
    if desired is None:
        return None if actual is None else _at(path, _wrong_type(actual, desired))
    if type(desired) in (str, bytes):
        return _at(path, _compare_texts(actual, cast(str | bytes, desired)))
    if type(desired) is torch.dtype:
        same = type(actual) is torch.dtype and actual == desired
        return None if same else _at(path, f"got {describe(actual)}, expected {desired}")
    raise TypeError(f"cannot compare with {describe(desired)}")


def _at(path: str, message: str | None) -> str | None:
    return f"at {path}: {message}" if message and path else message


# ---- reducing a value to exact types


def _exact(value: object) -> object:
    """Strip subclasses without calling any method that they define; tuples become lists."""
    kind = type(value)
    if value is None or kind in (bool, int, float, complex, str, bytes, list, Tensor):
        return value
    if issubclass(kind, np.generic):
        return _numpy_scalar(value)
    if issubclass(kind, Tensor):
        return _plain_tensor(value)
    if issubclass(kind, np.ndarray):
        array = np.ndarray.view(cast(np.ndarray, value), np.ndarray)
        return _exact(array.tolist()) if array.dtype.kind in "OSU" else array
    for base, reduce in _REDUCE:
        if issubclass(kind, base):
            return reduce(value)
    return value


_REDUCE: tuple[tuple[type, Callable[[Any], object]], ...] = (
    (tuple, lambda value: list(tuple.__getitem__(value, slice(None)))),
    (list, lambda value: list.__getitem__(value, slice(None))),
    (dict, lambda value: dict(dict.items(value))),
    (str, str.__str__),
    (bytes, lambda value: bytes.__getitem__(value, slice(None))),
    (int, int.__int__),
    (float, float.__float__),
    (complex, lambda value: complex.__add__(value, 0)),
)


def _numpy_scalar(value: Any) -> object:
    """A 0-d array where the scalar is a number (it keeps its dtype), else Python's value."""
    if issubclass(type(value), np.number | np.bool_):
        return np.array(np.generic.item(value), dtype=np.generic.dtype.__get__(value))
    return np.generic.item(value)


def _plain_tensor(value: Any) -> object:
    try:
        with _base_methods():
            plain = torch.Tensor.as_subclass(value, torch.Tensor)
            # A wrapper subclass holds no storage, and reading it would end the process.
            lost = plain.numel() > 0 and not plain.is_meta and plain.data_ptr() == 0
    except Exception:  # some wrappers say so themselves
        return value
    return value if lost else plain


# After `_exact` only `type(...) is` tells the truth: `isinstance` believes a forged `__class__`.


def _is_array(value: object) -> TypeGuard[Tensor | np.ndarray]:
    return type(value) in (Tensor, np.ndarray)


def _is_number(value: object) -> TypeGuard[complex]:
    return type(value) in (bool, int, float, complex)


@contextmanager
def _base_methods() -> Iterator[None]:
    """Neither `__torch_function__` nor `__torch_dispatch__` of a subclass, and no gradient."""
    no_function = torch._C.DisableTorchFunctionSubclass()
    no_dispatch = torch._C._DisableTorchDispatch()
    with no_function, no_dispatch, torch.no_grad():
        yield


# ---- numbers


def _as_array(value: object) -> _Array:
    """The array of an exact tensor, ndarray or number.

    Raises:
        _Unreadable: it holds no numbers.
    """
    if type(value) is Tensor:
        return _from_tensor(value)
    if type(value) is np.ndarray:
        return _from_numpy(value)
    if _is_number(value):
        if _is_too_large(value):
            raise _Unreadable(_show(value))
        return _Array((), type(value).__name__, lambda: _pack([value], ()))
    raise _Unreadable(describe(value))


def _from_tensor(value: Tensor) -> _Array:
    if value.is_nested:
        raise _Unreadable("a nested tensor, which has no single shape")
    name = str(value.dtype).removeprefix("torch.")
    return _Array(tuple(value.shape), name, lambda: _dense(value))


def _dense(value: Tensor) -> Tensor:
    try:
        with _base_methods():
            value = value.detach()
            if value.layout is not torch.strided:
                value = value.to_dense()
            if value.is_quantized:
                value = value.dequantize()
            value = value.to("cpu").resolve_conj().resolve_neg()
            if value.dtype is torch.uint64:
                return _dense_numpy(value.numpy())
            return value.to(_widest(value.dtype))
    except Exception as error:
        where = f" on the device {value.device}" if value.device.type != "cpu" else ""
        raise _Unreadable(
            f"a tensor{where} whose values cannot be read ({type(error).__name__})"
        ) from None


def _widest(dtype: torch.dtype) -> torch.dtype:
    if dtype.is_complex:
        return torch.complex128
    return torch.float64 if dtype.is_floating_point else torch.int64


def _from_numpy(value: np.ndarray) -> _Array:
    if value.dtype.kind not in "biufc":
        raise _Unreadable(f"an array of dtype {value.dtype.name}")
    return _Array(value.shape, value.dtype.name, lambda: _dense_numpy(value))


def _dense_numpy(value: np.ndarray) -> Tensor:
    if value.dtype.kind == "u" and value.size and int(value.max()) > np.iinfo(np.int64).max:
        return torch.from_numpy(value.astype(np.float64))
    wide = {"c": np.complex128, "f": np.float64}.get(value.dtype.kind, np.int64)
    # A copy: torch refuses negative strides and foreign byte orders, and warns of read-only memory.
    return torch.from_numpy(np.array(value, dtype=wide, order="C"))


def _pack(numbers: list[Any], shape: tuple[int, ...]) -> Tensor:
    kinds = {type(number) for number in numbers}
    if numbers and kinds <= {bool, int} and all(-(2**63) <= n < 2**63 for n in numbers):
        wide = torch.int64
    else:
        wide = torch.complex128 if complex in kinds else torch.float64
    return torch.tensor(numbers, dtype=wide, device="cpu").reshape(shape)


def _is_too_large(number: complex) -> bool:
    """An integer that is no float: only integers are compared with it."""
    return isinstance(number, int) and number.bit_length() > 1023


def _kind(dtype: str) -> str:
    for kind in ("bool", "complex", "float"):
        if kind in dtype:
            return kind
    return "int"


def _wrong_dtype(actual: str, desired: str) -> str | None:
    python = ("int", "float", "complex")
    if "" in (actual, desired):  # an empty list has no kind
        return None
    if actual in python or desired in python:
        actual, desired = _kind(actual), _kind(desired)
    return None if actual == desired else f"dtype {actual}, expected {desired}"


# ---- nested lists of numbers


def _from_list(values: list[Any], *, mixed: bool, scalars: bool) -> _Array | None:
    """The array of a rectangular list of numbers, else None.

    Integers among floats count only with `mixed`: element by element, integers stay exact. Tensors
    of shape () count only with `scalars`: element by element, each keeps its dtype.
    """
    shape = _shape(values)
    numbers: list[Any] = []
    if shape is None or _flatten(values, shape, "", numbers, 0 if scalars else -1) is not None:
        return None
    kinds = {"int" if isinstance(n, int) else "float" for n in numbers}
    large = any(isinstance(n, int) and not -(2**63) <= n < 2**63 for n in numbers)
    if (len(kinds) > 1 and not mixed) or large:
        return None
    return _Array(shape, _list_dtype(numbers), lambda: _pack(numbers, shape))


def _list_dtype(numbers: list[Any]) -> str:
    kinds = {type(number) for number in numbers}
    for kind in (complex, float, int, bool):
        if kind in kinds:
            return kind.__name__
    return ""


def _shape(value: object, depth: int = 0) -> tuple[int, ...] | None:
    """The shape of nested lists, read along their first items; None where they are too deep."""
    value = _exact(value)
    if type(value) is Tensor and not value.is_nested:
        return tuple(value.shape)
    if type(value) is np.ndarray:
        return value.shape
    if type(value) is not list:
        return ()
    if depth == _MAX_DEPTH:
        return None
    rest = _shape(value[0], depth + 1) if value else ()
    return None if rest is None else (len(value), *rest)


def _flatten(
    value: object, shape: tuple[int, ...], path: str, numbers: list[Any], array_dims: int
) -> str | None:
    """Append the numbers of nested lists of a given shape; a message where they differ.

    Arrays in the lists are read if they have at most `array_dims` dimensions.
    """
    value = _exact(value)
    if _is_number(value) and not shape and not _is_too_large(value):
        numbers.append(value)
        return None
    if _is_array(value) and len(shape) <= array_dims:
        array = _as_array(value)
        if array.shape != shape:
            return _at(path, _wrong_shape(array.shape, shape))
        found = array.load().flatten().tolist()
        numbers.extend(map(bool, found) if array.dtype == "bool" else found)
        return None
    expected = f"a list of {shape[0]}" if shape else "a number"
    if not shape or type(value) is not list or len(value) != shape[0]:
        return _at(path, f"got {describe(value)}, expected {expected}")
    if len(shape) == 1 and _are_plain(value):  # thousands of numbers at once
        numbers.extend(value)
        return None
    for index, item in enumerate(value):
        message = _flatten(item, shape[1:], f"{path}[{index}]", numbers, array_dims)
        if message:
            return message
    return None


def _are_plain(values: list[Any]) -> bool:
    """Whether all are exact floats, or all integers of 64 bits: what `_flatten` takes as it is."""
    kinds = set(map(type, values))
    if kinds == {int}:
        return min(values) >= -(2**63) and max(values) < 2**63
    return kinds == {float}


def _read(value: object, shape: tuple[int, ...]) -> _Array | str:
    """The actual value as an array; a message where it cannot be one of that shape."""
    if type(value) is not list:
        return _as_array(value)
    found = _shape(value)
    if found is None or len(found) != len(shape):
        text = "too deeply nested" if found is None else _wrong_shape(found, shape)
        return text
    numbers: list[Any] = []
    message = _flatten(value, shape, "", numbers, len(shape))
    if message and found != shape:
        return _wrong_shape(found, shape)
    return message or _Array(shape, _list_dtype(numbers), lambda: _pack(numbers, shape))


# ---- comparing


def _compare_arrays(actual: object, desired: object, array: _Array, rules: _Rules) -> str | None:
    if not (type(actual) is list or _is_array(actual) or _is_number(actual)):
        return _wrong_type(actual, desired)
    try:
        found = _read(actual, array.shape)
        if isinstance(found, str):
            return found
        if found.shape != array.shape:
            return _wrong_shape(found.shape, array.shape)
        if rules.dtype and (message := _wrong_dtype(found.dtype, array.dtype)):
            return message
        values = found.load()
    except _Unreadable as error:
        return f"got {error}, expected {describe(desired)}"
    return _wrong_values(values, array.load(), found.dtype, array.dtype, rules)


def _compare_scalars(actual: object, desired: Any, rules: _Rules) -> str | None:
    if type(actual) in (bool, int) and type(desired) in (bool, int):  # of any size
        if rules.dtype and (message := _wrong_dtype(type(actual).__name__, type(desired).__name__)):
            return message
        return None if actual == desired else f"got {_show(actual)}, expected {_show(desired)}"
    if _is_too_large(desired):
        return _wrong_type(actual, desired)
    return _compare_arrays(actual, desired, _as_array(desired), rules)


def _wrong_values(
    actual: Tensor, desired: Tensor, actual_dtype: str, desired_dtype: str, rules: _Rules
) -> str | None:
    if actual.dtype == desired.dtype and torch.equal(actual, desired):  # most are, and it is quick
        return None
    wrong = ~_agree(actual, desired, rules)
    count = int(wrong.sum())
    if not count:
        return None
    index = tuple(wrong.nonzero()[0].tolist())
    got, expected = _show_pair(
        _item(actual, index, actual_dtype), _item(desired, index, desired_dtype)
    )
    text = f"got {got}, expected {expected}"
    if actual.dim() == 0:
        return text
    of = (
        f"all {count} values are"
        if count == wrong.numel()
        else f"{count} of {wrong.numel()} values are"
    )
    if wrong.numel() == 1:
        of = "the only value is"
    elif count == 1:
        of = f"1 of {wrong.numel()} values is"
    return f"{of} wrong, first at {list(index)}: {text}{_count_nan(actual, desired)}"


def _agree(actual: Tensor, desired: Tensor, rules: _Rules) -> Tensor:
    if actual.dtype == desired.dtype == torch.int64:
        return actual == desired
    wide = torch.complex128 if actual.is_complex() or desired.is_complex() else torch.float64
    actual, desired = actual.to(wide), desired.to(wide)
    close = (actual - desired).abs() <= rules.atol + rules.rtol * desired.abs()
    close &= actual.isfinite() & desired.isfinite()
    return close | (actual == desired) | (actual.isnan() & desired.isnan())


def _count_nan(actual: Tensor, desired: Tensor) -> str:
    found = {
        "NaN": int((actual.isnan() & ~desired.isnan()).sum()),
        "infinite": int((actual.isinf() & ~desired.isinf()).sum()),
    }
    parts = [
        f"{count} {'is' if count == 1 else 'are'} {name}" for name, count in found.items() if count
    ]
    return f" ({', '.join(parts)})" if parts else ""


def _compare_lists(actual: object, desired: list[Any], path: str, rules: _Rules) -> str | None:
    if type(actual) is not list:
        return _at(path, _wrong_type(actual, desired))
    if len(actual) != len(desired):
        return _at(path, f"{len(actual)} items, expected {len(desired)}")
    for index, (item, wanted) in enumerate(zip(actual, desired, strict=True)):
        message = _compare(item, wanted, f"{path}[{index}]", rules)
        if message:
            return message
    return None


def _compare_dicts(actual: object, desired: dict[Any, Any], path: str, rules: _Rules) -> str | None:
    if type(actual) is not dict:
        return _at(path, _wrong_type(actual, desired))
    # Keys of other classes could claim equality; none of the desired keys is of such a class.
    plain = {key: value for key, value in actual.items() if _is_plain_key(key)}
    missing = [key for key in desired if key not in plain]
    if missing:
        return _at(path, f"the key {_show(missing[0])} is missing")
    for key, wanted in desired.items():
        message = _compare(plain[key], wanted, f"{path}[{_show(key)}]", rules)
        if message:
            return message
    extra = [key for key in actual if not _is_plain_key(key) or key not in desired]
    return _at(path, f"unexpected key {_show(extra[0])}") if extra else None


def _is_plain_key(key: object) -> bool:
    if type(key) is tuple:
        return all(_is_plain_key(item) for item in key)
    return key is None or type(key) in (bool, int, float, str, bytes)


def _compare_texts(actual: object, desired: str | bytes) -> str | None:
    if not (type(actual) is type(desired) and isinstance(actual, str | bytes)):
        return _wrong_type(actual, desired)
    if actual == desired:
        return None
    text = f"got {_show(actual)}, expected {_show(desired)}"
    shorter = min(len(actual), len(desired))
    first = next((i for i in range(shorter) if actual[i] != desired[i]), shorter)
    return f"{text} (first different character: {first})" if first > 10 else text


# ---- words


def _wrong_type(actual: object, desired: object) -> str:
    hint = " (is a return missing?)" if actual is None else ""
    return f"got {describe(actual)}, expected {describe(desired)}{hint}"


def _wrong_shape(actual: tuple[int, ...], desired: tuple[int, ...]) -> str:
    expected = f"{desired}" if desired else "a single number, shape ()"
    hint = ", its transpose" if len(actual) == 2 and actual == desired[::-1] else ""
    return f"shape {actual}, expected {expected}{hint}"


def describe(value: object) -> str:
    """What a value is, in a few words: "a tensor of shape (2, 3)", "a list of 3", "None"."""
    value = _exact(value)
    if value is None or _is_number(value) or type(value) in (str, bytes, torch.dtype):
        return _show(value)
    if type(value) is Tensor:
        return "a nested tensor" if value.is_nested else f"a tensor of shape {tuple(value.shape)}"
    if type(value) is np.ndarray:
        return f"an array of shape {value.shape}"
    if type(value) is list or type(value) is dict:
        return f"a {type(value).__name__} of {len(value)}"
    # From the slot, because a metaclass could compute `__name__`.
    name = type.__dict__["__name__"].__get__(type(value))[:40]
    return f"an object of type {name}"


def _item(values: Tensor, index: tuple[int, ...], dtype: str) -> object:
    value = values[index].item()
    return bool(value) if dtype == "bool" else value


def _show_pair(actual: object, desired: object) -> tuple[str, str]:
    """Both numbers with as few digits as tell them apart."""
    for digits in (6, 10, 17):
        shown = _show(actual, digits), _show(desired, digits)
        if shown[0] != shown[1]:
            break
    return shown


def _show(value: object, digits: int = 6) -> str:
    if isinstance(value, float):
        if math.isnan(value):
            return "NaN"
        text = f"{value:.{digits}g}"
        return text if set(text) & set(".einf") else f"{text}.0"
    if isinstance(value, complex):
        sign = "-" if math.copysign(1, value.imag) < 0 else "+"
        return f"{_show(value.real, digits)}{sign}{_show(abs(value.imag), digits)}j"
    if (
        isinstance(value, int) and value.bit_length() > 256
    ):  # Python refuses to print very long ones
        return f"an integer of {value.bit_length()} bits"
    if isinstance(value, str | bytes):
        return repr(value if len(value) <= 60 else value[:60]) + ("..." if len(value) > 60 else "")
    if value is None or isinstance(value, int | torch.dtype):
        return repr(value)
    return describe(value)
