"""Ready-made probes: small functions that run in the student's process and return plain data.

A check sends one with `student.run(probes.call, "relu", x)`. Its first argument is the
student's namespace: `student.NAME` is the object that the student defined.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import torch


def call(student: Any, name: str, *args: Any, **kwargs: Any) -> Any:
    """What `student.NAME(...)` in a check does."""
    return getattr(student, name)(*args, **kwargs)


def calls(student: Any, name: str, *arguments: Sequence[Any]) -> list[Any]:
    """What several calls return, each looked at after the last: none may write into another's."""
    return [getattr(student, name)(*args) for args in arguments]


def arguments_after(student: Any, name: str, *args: Any, **kwargs: Any) -> Any:
    """The arguments as they are after the call; what `student.unchanged` compares."""
    getattr(student, name)(*args, **kwargs)
    return args, kwargs


def raises(student: Any, name: str, *args: Any, **kwargs: Any) -> str | None:
    """Which of Python's own exceptions the call raises, None if it returns; see `kind_of`."""
    try:
        getattr(student, name)(*args, **kwargs)
    except Exception as error:
        return kind_of(error)
    return None


def kind_of(error: BaseException) -> str:
    """Name of the built-in exception that an error is: a class derived from ValueError is one."""
    return next(kind.__name__ for kind in type(error).__mro__ if kind.__module__ == "builtins")


def module(
    student: Any,
    name: str,
    args: Sequence[Any],
    kwargs: dict[str, Any],
    inputs: Sequence[torch.Tensor],
    state: dict[str, torch.Tensor] | None = None,
    training: bool = True,
) -> dict[str, Any]:
    """Build `student.NAME(*args, **kwargs)`, an nn.Module, load `state`, and run it.

    Returns what `forward_backward` gives. With the state_dict of an oracle whose parameters the
    stub names, equal results mean an equal module, whatever its inside looks like.
    """
    made = getattr(student, name)(*args, **kwargs)
    if state is None:
        return forward_backward(made, inputs, training)
    load(made, state)
    found = forward_backward(made, inputs, training)
    return found | {
        "buffers": {n: b for n, b in _all_names(made, "buffers").items() if n in state},
        "gradients of the parameters": {
            n: p.grad for n, p in _all_names(made, "parameters").items() if n in state
        },
    }


def load(module: torch.nn.Module, state: Mapping[str, torch.Tensor]) -> None:
    """Load the state_dict of an oracle into a student's module.

    A layer may have a second name, as in `self.net = nn.Sequential(self.conv1, ...)`, and a module
    may keep buffers that the oracle lacks; but every parameter has to have a value from the state.

    Raises:
        RuntimeError: a name of the state is missing, a shape differs, or a parameter is left over.
    """
    own = _all_names(module, "parameters")
    loaded = {id(own[name]) for name in own if name in state}
    left = [name for name, parameter in own.items() if id(parameter) not in loaded]
    missing = sorted(state.keys() - module.state_dict().keys())
    if left or missing:
        raise RuntimeError(f"parameters that are missing: {missing}; not asked for: {left}")
    module.load_state_dict(state, strict=False)


def _all_names(module: torch.nn.Module, kind: str) -> dict[str, Any]:
    """All parameters or buffers of a module, each under all its names."""
    return dict(getattr(module, f"named_{kind}")(remove_duplicate=False))


def forward_backward(
    module: torch.nn.Module, inputs: Sequence[torch.Tensor], training: bool = True
) -> dict[str, Any]:
    """Output, gradients and buffers of one pass; for the oracle of `module` too.

    The loss is a sum of the output's elements with unequal weights, so that a gradient which
    went to the wrong place shows.
    """
    module.train(training)
    leaves = [x.clone().requires_grad_(x.is_floating_point()) for x in inputs]
    output = module(*leaves)
    weights = torch.arange(output.numel(), dtype=output.dtype).cos().reshape(output.shape)
    (output * weights).sum().backward()
    return {
        "output": output,
        "buffers": dict(module.named_buffers()),
        "gradients of the inputs": [leaf.grad for leaf in leaves],
        "gradients of the parameters": {n: p.grad for n, p in module.named_parameters()},
    }
