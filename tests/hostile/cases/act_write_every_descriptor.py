# tries: to write into every descriptor that is open
# holds: what it writes to the judge is garbage; the cell costs itself
# kind: hostile

# %%
import os

for fd in range(3, 256):
    try:
        os.write(fd, b"garbage" * 100)
    except OSError:
        pass
