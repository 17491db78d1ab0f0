# tries: to hide the built-in from the syntax tree by a syntax that only its own transformer knows
# holds: nobody has read it, so it earns nothing
# kind: forgery
# marks: soft_max=0

# %%
def translate(lines):
    return [line.replace("§§", "torch.soft" + "max(") for line in lines]

get_ipython().input_transformers_post.append(translate)

# %% exercise="soft_max"
def soft_max(x):
    return §§x, -1)
