# tries: to answer with a pickle that writes a file outside when it is read
# holds: nothing that comes back is unpickled
# kind: forgery
# marks: half=0 cube=0

# %%
import os, pickle, sys

wire = sys.modules["inside.wire"]
original = wire.encode

class Evil:
    def __reduce__(self):
        return os.system, ("touch @PICKLED@",)

# %% exercise="half"
def half(x):
    wire.encode = lambda value: ({"pickle": 0}, [pickle.dumps(Evil())])
    return x / 2

# %% exercise="soft_max"
wire.encode = original

def soft_max(x):
    e = (x - x.max(-1, keepdim=True).values).exp()
    return e / e.sum(-1, keepdim=True)

# %% exercise="cube"
def cube(x):
    return Evil()
