# tries: the forbidden built-in under another name
# holds: found in the syntax tree
# kind: forgery
# marks: soft_max=0

# %% exercise="soft_max"
from torch.nn.functional import softmax as exponential_share

def soft_max(x):
    return exponential_share(x, -1)
