# tries: to fill the process table from a function that a check calls
# holds: costs that exercise alone, and no process outlives it
# kind: hostile
# marks: half=0

# %% exercise="half"
import os, time

def half(x):
    for _ in range(5000):
        try:
            if os.fork() == 0:
                time.sleep(1000)
        except OSError:
            break
    time.sleep(1000)
