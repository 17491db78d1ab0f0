# tries: a file of 8 GB that takes no room on the disk
# holds: refused before it is read
# kind: hostile
# answers: stub
# shows: larger than
# damage: oversized

# %%
import torch
