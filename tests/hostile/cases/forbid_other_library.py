# tries: the same function of another library
# holds: found in the syntax tree
# kind: forgery
# marks: soft_max=0

# %% exercise="soft_max"
import scipy.special

def soft_max(x):
    return torch.from_numpy(scipy.special.softmax(x.numpy(), axis=-1))
