# tries: to lift the limits of output, which stand in its own process, and to show 9 MB in each cell
# holds: the judge has limits of its own; the notebook stays small
# kind: hostile

# %%
import sys

notebook = sys.modules["inside.notebook"]
notebook.MAX_OUTPUT = notebook.MAX_OUTPUTS = 10**12
get_ipython().recorder._left = 10**12
print("x" * 9_000_000)

# %%
get_ipython().recorder._left = 10**12
print("x" * 9_000_000)

# %%
get_ipython().recorder._left = 10**12
print("x" * 9_000_000)

# %%
get_ipython().recorder._left = 10**12
print("x" * 9_000_000)

# %%
get_ipython().recorder._left = 10**12
print("x" * 40_000_000)
