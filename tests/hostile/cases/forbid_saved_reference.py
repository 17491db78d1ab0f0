# tries: a reference to the built-in, saved in a cell of its own, in a container
# holds: seen when it runs
# kind: forgery
# marks: soft_max=0

# %%
tools = [torch.softmax]

# %% exercise="soft_max"
def soft_max(x):
    return tools[0](x, -1)
