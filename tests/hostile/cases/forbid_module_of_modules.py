# tries: the built-in from a module that is found in sys.modules
# holds: seen when it runs
# kind: forgery
# marks: soft_max=0

# %% exercise="soft_max"
import sys

def soft_max(x):
    names = vars(sys.modules["torch.nn.functional"])
    (share,) = [names[name] for name in names if name[::-1] == "xamtfos"]
    return share(x, -1)
