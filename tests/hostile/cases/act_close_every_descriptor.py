# tries: to close every descriptor
# holds: the judge hears no more of it; the cell costs itself
# kind: hostile

# %%
import os

os.closerange(0, 4096)
