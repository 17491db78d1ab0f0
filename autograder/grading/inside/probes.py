"""Ready-made probes: small functions that run in the student's process and return plain data.

A check sends one with `student.run(probes.call, "relu", x)`. Its first argument is the
student's namespace: `student.NAME` is the object that the student defined.
"""

from collections.abc import Sequence
from typing import Any

import torch


def call(student: Any, name: str, *args: Any, **kwargs: Any) -> Any:
    """What `student.NAME(...)` in a check does."""
    return getattr(student, name)(*args, **kwargs)


def arguments_after(student: Any, name: str, *args: Any, **kwargs: Any) -> Any:
    """The arguments as they are after the call; what `student.unchanged` compares."""
    getattr(student, name)(*args, **kwargs)
    return args, kwargs


def raises(student: Any, name: str, *args: Any, **kwargs: Any) -> str | None:
    """Name of the exception type that the call raises, None if it returns."""
    try:
        getattr(student, name)(*args, **kwargs)
    except Exception as error:
        return type(error).__name__
    return None


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
    if state is not None:
        made.load_state_dict(state)
    return forward_backward(made, inputs, training)


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
