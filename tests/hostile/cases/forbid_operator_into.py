# tries: the variant of the operator that writes into a tensor
# holds: it is the same operator
# kind: forgery
# marks: soft_max=0

# %% exercise="soft_max"
def soft_max(x):
    return torch.ops.aten._softmax.out(x, -1, False, out=torch.empty_like(x))
