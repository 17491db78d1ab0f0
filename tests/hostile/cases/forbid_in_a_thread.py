# tries: the built-in in a thread, where no watch is on
# holds: found in the syntax tree, which looks into getattr
# kind: forgery
# marks: soft_max=0

# %% exercise="soft_max"
from concurrent.futures import ThreadPoolExecutor

pool = ThreadPoolExecutor(1)

def soft_max(x):
    return pool.submit(getattr(torch, "soft" + "max"), x, -1).result()
