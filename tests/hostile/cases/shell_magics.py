# tries: to hide its answers from the syntax tree in cells of magics and in files
# holds: the hidden checks call what was defined; a forbidden operator is seen when it runs
# kind: forgery
# marks: soft_max=0

# %% exercise="soft_max"
# %%capture nothing
# from torch.nn.functional import softmax as chosen
def soft_max(x):
    return chosen(x, -1)
