# tries: to lift the limits of output, which stand in its own process, and to send 60 MB
# holds: the judge has limits of its own; the notebook stays small
# kind: hostile

# %%
import sys

notebook = sys.modules["inside.notebook"]
notebook.MAX_OUTPUT = notebook.MAX_OUTPUTS = 10**12
get_ipython().recorder._left = 10**12
print("x" * 30_000_000)

# %%
for _ in range(4):
    display({"application/json": ["x" * 5_000_000], "text/plain": "x" * 5_000_000}, raw=True)
