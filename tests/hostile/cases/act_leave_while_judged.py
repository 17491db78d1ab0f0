# tries: to leave a process behind from a function that a check calls
# holds: nothing of it is alive when the notebook is judged; the answers are right
# kind: hostile

# %% exercise="half"
import os, time

def half(x):
    if os.fork() == 0:
        os.setsid()
        time.sleep(60)
        os._exit(0)
    return x / 2
