# tries: never to end, in a cell of its own, in an answer and in a function
# holds: each is stopped and costs itself
# kind: hostile
# marks: half=0 cube=0
# shows: stopped: this cell ran for more than

# %%
while True:
    pass

# %% exercise="half"
while True:
    pass

def half(x):
    return x / 2

# %% exercise="cube"
def cube(x):
    while True:
        x = x + 1
