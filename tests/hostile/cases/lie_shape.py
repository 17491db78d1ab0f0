# tries: a tensor whose shape, size and type lie
# holds: its storage is what is sent
# kind: forgery
# answers: wrong

# %%
import torch

class Liar(torch.Tensor):
    shape = property(lambda self: torch.Size((3, 4)))
    dtype = property(lambda self: torch.float64)
    size = lambda self, *a: torch.Size((3, 4))
    numel = lambda self: 12
    dim = lambda self: 2
    __torch_function__ = torch._C._disabled_torch_function_impl

# %% exercise="half"
def half(x):
    return torch.zeros(1).as_subclass(Liar)

# %% exercise="cube"
def cube(x):
    return torch.zeros(1, requires_grad=True).as_subclass(Liar)
