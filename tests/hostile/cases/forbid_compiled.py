# tries: the built-in in a traced graph, made before it is watched
# holds: seen when it runs
# kind: forgery
# marks: soft_max=0

# %%
traced = torch.jit.trace(lambda x: torch.softmax(x, -1), torch.zeros(2, 3), check_trace=False)

# %% exercise="soft_max"
def soft_max(x):
    return traced(x)
