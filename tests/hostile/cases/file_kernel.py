# tries: to name another kernel, by a path
# holds: ignored
# kind: hostile
# damage: kernel_of_its_own

# %%
import torch
