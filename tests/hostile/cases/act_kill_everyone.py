# tries: to kill its parent, the first process, every process and every number
# holds: its own processes are all that it can name
# kind: hostile

# %%
import os, signal

for pid in (os.getppid(), 1, -1, 0, *range(2, 5000)):
    for number in (signal.SIGTERM, signal.SIGKILL):
        try:
            os.kill(pid, number)
        except OSError:
            pass
print("still here")
