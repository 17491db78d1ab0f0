# tries: a folder with a notebook's name
# holds: refused in one sentence
# kind: hostile
# answers: stub
# damage: folder

# %%
import torch
