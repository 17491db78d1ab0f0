# tries: the built-in in a thread, where no watch is on, by a name that is computed
# holds: not held: the watch is the calling thread's own
# kind: limit

# %% exercise="soft_max"
from concurrent.futures import ThreadPoolExecutor

pool = ThreadPoolExecutor(1)
share = getattr(torch, "".join(["soft", "max"]))

def soft_max(x):
    return pool.submit(share, x, -1).result()
