# tries: to overflow the stack, of Python and of C
# holds: an exception or a crash, which costs itself
# kind: hostile
# marks: cube=0

# %%
import sys

sys.setrecursionlimit(10**9)

def down(x):
    return down(x) + 1

down(1)

# %% exercise="cube"
def cube(x):
    return cube(x)
