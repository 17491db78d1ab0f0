# tries: generators, strings, NumPy scalars, NaN and infinities in the places of numbers
# holds: none of them equals what is right
# kind: forgery
# answers: wrong

# %%
import itertools
import numpy as np

answers = itertools.cycle(
    [
        (number for number in range(3)),
        "tensor([1.])",
        np.float32("nan"),
        np.array([None]),
        float("nan"),
        float("inf"),
        True,
        10**5000,
        torch.full((3, 4), float("nan")),
        torch.empty(0),
        torch.zeros(3, 4, device="meta"),
        torch.quantize_per_tensor(torch.zeros(3), 0.1, 0, torch.quint8),
        torch.nested.nested_tensor([torch.zeros(2), torch.zeros(3)]),
        torch.sparse_coo_tensor(size=(3, 4)),
        Ellipsis,
        type,
    ]
)
half = soft_max = cube = lambda x: next(answers)

# %% exercise="running_mean"
class RunningMean:
    def update(self, x):
        return next(answers)
