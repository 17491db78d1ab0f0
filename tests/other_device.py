"""A device that is not the CPU, on a machine without one: what would fail on a GPU fails here.

A `Far` tensor says that it lies on the `meta` device, keeps its values in a CPU tensor inside, and
`far_device` computes with those. As with CUDA, an operation that mixes a tensor over there with one
on the CPU is refused, unless the latter has no dimensions; so are NumPy's view of it and a random
generator of the CPU.
"""

import contextlib
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_flatten, tree_map, tree_unflatten

FAR = torch.device("meta")
CPU = torch.device("cpu")
# CUDA takes these with one operand on the CPU: copies between devices, and indices.
MIXES = {"copy_", "_copy_from", "index", "index_put_", "index_put", "_index_put_impl_"}


class Far(Tensor):
    """A tensor whose values lie inside, on the CPU, and which says that it lies elsewhere."""

    inside: Tensor

    @staticmethod
    def __new__(cls, inside: Tensor) -> "Far":
        far = Tensor._make_wrapper_subclass(  # type: ignore[attr-defined]
            cls,
            inside.shape,
            strides=inside.stride(),
            storage_offset=inside.storage_offset(),
            dtype=inside.dtype,
            device=FAR,
            requires_grad=False,
        )
        far.inside = inside
        return far

    def __repr__(self, *, tensor_contents: Any = None) -> str:
        return f"far({self.inside!r})"

    def __format__(self, spec: str) -> str:
        return format(self.item() if self.dim() == 0 else self, spec)

    def tolist(self) -> Any:
        return self.detach().to("cpu").tolist()

    def numpy(self, *, force: bool = False) -> Any:
        if not force:
            raise TypeError("can't convert a tensor of another device to numpy: use .cpu() first")
        return self.detach().to("cpu").numpy()

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> Any:
        raise RuntimeError("can't convert a tensor of another device to numpy: use .cpu() first")

    @classmethod
    def __torch_dispatch__(cls, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        return run(func, args, kwargs or {})


class _FromData(TorchFunctionMode):
    """Makes tensors from numbers on the CPU first, since the `meta` device would lose them."""

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = dict(kwargs or {})
        target = kwargs.get("device")
        if func in (torch.tensor, torch.as_tensor, torch.asarray) and target is not None:
            wanted = kwargs.pop("requires_grad", False)
            made = func(*args, **{**kwargs, "device": CPU}).to(target)
            return made.requires_grad_(wanted)
        if getattr(func, "__name__", "") == "new_tensor" and isinstance(args[0], Far):
            made = torch.tensor(*args[1:], **{"dtype": args[0].dtype, **kwargs, "device": CPU})
            return made.to(kwargs.get("device", FAR))
        return func(*args, **kwargs)


class _FarDevice(TorchDispatchMode):
    """Sees what makes a tensor over there, also where no argument lies there yet."""

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        return run(func, args, kwargs or {})


def run(func: Any, args: Any, kwargs: dict[str, Any]) -> Any:
    """One operation: computed on the CPU, its result over there if that is where it belongs."""
    flat, shape = tree_flatten((args, kwargs))
    tensors = [value for value in flat if isinstance(value, Tensor)]
    far = [value for value in tensors if isinstance(value, Far)]
    name = func.overloadpacket.__name__
    target = kwargs.get("device")
    target = torch.device(target) if target is not None else None
    if far and name not in MIXES:
        near = [t for t in tensors if not isinstance(t, Far) and t.dim() > 0]
        if near:
            raise RuntimeError(
                f"{name}: expected all tensors to be on the same device, but one of shape "
                f"{tuple(near[0].shape)} is on the CPU"
            )
    there = target == FAR if target is not None else bool(far) and not _stays_near(name, args)
    if there and any(isinstance(value, torch.Generator) for value in flat):
        raise RuntimeError(f"{name}: expected a generator of the tensor's device, not the CPU's")
    inner = [_inside(value) for value in flat]
    inner_args, inner_kwargs = tree_unflatten(inner, shape)
    if target is not None:
        inner_kwargs["device"] = CPU
    result = func(*inner_args, **inner_kwargs)
    if not there:
        return result
    owner = {id(value.inside): value for value in far}  # in-place operations return their argument
    return tree_map(lambda value: _outside(value, owner), result)


def _outside(value: Any, owner: dict[int, Far]) -> Any:
    if not isinstance(value, Tensor):
        return value
    return owner[id(value)] if id(value) in owner else Far(value)


def _stays_near(name: str, args: Any) -> bool:
    """A copy into a tensor on the CPU leaves the result there."""
    return name in MIXES and bool(args) and not isinstance(args[0], Far)


def _inside(value: Any) -> Any:
    if isinstance(value, Far):
        return value.inside
    return CPU if isinstance(value, torch.device) and value == FAR else value


@contextlib.contextmanager
def far_device() -> Iterator[torch.device]:
    """The device while this context lasts: `torch.zeros(3, device=device)` is a `Far` tensor."""
    before = torch.__future__.get_swap_module_params_on_conversion()
    torch.__future__.set_swap_module_params_on_conversion(True)
    try:
        with _FromData(), _FarDevice():
            yield FAR
    finally:
        torch.__future__.set_swap_module_params_on_conversion(before)
