# tries: forty cells that each stay just below the limit of one
# holds: the time of a whole notebook is limited; its answers are judged all the same
# kind: hostile
# damage: forty_sleeps

# %%
import time
