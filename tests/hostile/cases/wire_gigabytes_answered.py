# tries: to answer with a tensor of 4 GB, and with a list of ten million numbers
# holds: refused; the exercise costs itself
# kind: forgery
# marks: half=0 cube=0

# %% exercise="half"
def half(x):
    return torch.zeros(1).expand(2**30)

# %% exercise="cube"
def cube(x):
    return [0] * 10_000_000
