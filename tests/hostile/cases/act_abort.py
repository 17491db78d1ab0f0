# tries: abort, an illegal instruction by signal, and stopping itself for ever
# holds: each costs itself
# kind: hostile

# %%
import os

os.abort()

# %%
import os, signal

os.kill(os.getpid(), signal.SIGILL)

# %%
os.kill(os.getpid(), signal.SIGSTOP)
