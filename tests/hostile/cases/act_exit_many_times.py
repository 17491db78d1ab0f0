# tries: ten cells that each end the process
# holds: each costs itself; all answers earn their marks
# kind: hostile
# damage: ten_exits

# %%
import os
