# tries: a tensor whose comparisons are all true
# holds: its numbers are compared, by the judge
# kind: forgery
# answers: wrong

# %%
import torch

class Yes(torch.Tensor):
    @classmethod
    def __torch_function__(cls, function, types, args=(), kwargs=None):
        return True

    __eq__ = __ne__ = __lt__ = __gt__ = __le__ = __ge__ = lambda self, other: self
    __bool__ = __len__ = lambda self: True
    all = any = item = lambda self, *a: True

# %% exercise="half"
def half(x):
    return torch.zeros(1).as_subclass(Yes)

# %% exercise="cube"
def cube(x):
    return (0 * x).as_subclass(Yes)
