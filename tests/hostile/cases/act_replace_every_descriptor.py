# tries: to put other files in the places of the judge's pipes
# holds: the judge hears no more of it; the cell costs itself
# kind: hostile

# %%
import os

null = os.open("/dev/null", os.O_RDWR)
for fd in range(3, 64):
    if fd != null:
        os.dup2(null, fd)
