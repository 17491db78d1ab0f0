# tries: a link to a device that never ends
# holds: refused in one sentence
# kind: hostile
# answers: stub
# shows: symbolic link
# damage: device

# %%
import torch
