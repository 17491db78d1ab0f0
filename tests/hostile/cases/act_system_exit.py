# tries: SystemExit and KeyboardInterrupt, in a cell and in functions
# holds: they are exceptions like others
# kind: hostile
# marks: half=0 cube=0

# %%
import sys

sys.exit("bye")

# %% exercise="half"
def half(x):
    raise SystemExit(0)

# %% exercise="cube"
def cube(x):
    raise KeyboardInterrupt
