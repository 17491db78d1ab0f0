# tries: the forbidden built-in, as a method and as a function
# holds: found in the syntax tree
# kind: forgery
# marks: soft_max=0

# %% exercise="soft_max"
def soft_max(x):
    return x.softmax(-1)
