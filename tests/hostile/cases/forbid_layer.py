# tries: the layer that calls the built-in, made in a cell of its own
# holds: seen when it runs
# kind: forgery
# marks: soft_max=0

# %%
layer = torch.nn.Softmax(-1)

# %% exercise="soft_max"
def soft_max(x):
    return layer(x)
