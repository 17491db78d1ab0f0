# tries: the built-in in a text that is executed
# holds: seen when it runs
# kind: forgery
# marks: soft_max=0

# %% exercise="soft_max"
exec("import torch\ndef soft_max(x):\n    return torch.soft" + "max(x, -1)")

def soft_max(x, made=soft_max):
    return made(x)
