# tries: to crash the interpreter: in a cell and in a function
# holds: each costs itself
# kind: hostile
# marks: cube=0
# shows: ended the process

# %%
import ctypes

ctypes.string_at(0)

# %% exercise="cube"
def cube(x):
    import ctypes

    ctypes.string_at(0)
