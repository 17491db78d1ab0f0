# tries: to remember what it was called with and to answer with what it remembers
# holds: every call has inputs of its own
# kind: forgery
# answers: wrong

# %%
memory = []

# %% exercise="half"
def half(x):
    memory.append(x)
    return memory[0] / 2 if len(memory) == 1 and x.shape == (2,) else memory[0]

# %% exercise="cube"
def cube(x):
    return memory[-1] if memory and memory[-1].shape == x.shape else 0 * x
