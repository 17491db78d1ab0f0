# tries: to sleep, in a cell and in a function that a check calls
# holds: both are stopped
# kind: hostile
# marks: running_mean=0

# %%
import time

time.sleep(100_000)

# %% exercise="running_mean"
class RunningMean:
    def update(self, x):
        time.sleep(100_000)
