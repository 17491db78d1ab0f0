# tries: the forbidden built-in by a name that is put together when it runs
# holds: its operator is seen when it runs
# kind: forgery
# marks: soft_max=0

# %% exercise="soft_max"
def soft_max(x):
    return getattr(torch, "soft" + "max")(x, -1)
