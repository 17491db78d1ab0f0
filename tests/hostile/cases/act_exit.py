# tries: to end the process at once: in a cell, in an answer, in a function
# holds: each costs itself; the exercise between them earns its marks
# kind: hostile
# marks: half=0 running_mean=0
# shows: ended the process

# %%
import os

os._exit(0)

# %% exercise="half"
import os

os._exit(0)

# %% exercise="running_mean"
class RunningMean:
    def update(self, x):
        import os

        os._exit(0)
