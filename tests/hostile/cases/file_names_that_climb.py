# tries: ids, attachments and names that are paths out of the folder
# holds: no file is written by a name from inside
# kind: hostile
# damage: names_that_climb

# %%
import torch
