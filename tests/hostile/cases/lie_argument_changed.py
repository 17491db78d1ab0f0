# tries: to change its argument while the functions that would notice say that all are equal
# holds: what became of the argument is compared by the judge
# kind: forgery
# marks: half=1

# %% exercise="half"
import copy

def half(x):
    torch.equal = torch.allclose = lambda *a, **k: True
    torch.Tensor.__eq__ = torch.Tensor.equal = lambda *a: True
    copy.deepcopy = lambda value, *a: value
    result = x / 2
    x += 1
    return result
