# tries: the same function of another library, by a name that is computed
# holds: not held: only torch's operators are watched
# kind: limit

# %% exercise="soft_max"
import scipy.special

share = getattr(scipy.special, "".join(["soft", "max"]))

def soft_max(x):
    return torch.from_numpy(share(x.numpy(), axis=-1))
