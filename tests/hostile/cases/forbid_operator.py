# tries: the operator below the built-in
# holds: seen when it runs
# kind: forgery
# marks: soft_max=0

# %% exercise="soft_max"
def soft_max(x):
    return torch.ops.aten._softmax(x, -1, False)
