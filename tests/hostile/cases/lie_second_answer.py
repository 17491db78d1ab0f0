# tries: a tensor that answers differently each time it is looked at
# holds: it is looked at once, and what was sent is compared
# kind: forgery
# answers: wrong

# %%
import torch

class Fickle(torch.Tensor):
    looks = 0

    @classmethod
    def __torch_function__(cls, function, types, args=(), kwargs=None):
        cls.looks += 1
        with torch._C.DisableTorchFunctionSubclass():
            value = function(*args, **(kwargs or {}))
            return value + cls.looks % 2 if isinstance(value, torch.Tensor) else value

# %% exercise="half"
def half(x):
    return torch.zeros_like(x).as_subclass(Fickle)

# %% exercise="cube"
def cube(x):
    return (0 * x).as_subclass(Fickle)
