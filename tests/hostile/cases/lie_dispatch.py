# tries: a wrapper tensor that has no storage and computes something else at every operation
# holds: what is no plain tensor is no answer
# kind: forgery
# answers: wrong

# %%
import torch

class Wrapper(torch.Tensor):
    @staticmethod
    def __new__(cls, shape):
        return torch.Tensor._make_wrapper_subclass(cls, shape, dtype=torch.float32)

    @classmethod
    def __torch_dispatch__(cls, function, types, args=(), kwargs=None):
        return torch.zeros(3, 4)

    def tolist(self):
        return [0.0]

# %% exercise="half"
def half(x):
    return Wrapper(x.shape)

# %% exercise="cube"
def cube(x):
    return Wrapper(x.shape)
