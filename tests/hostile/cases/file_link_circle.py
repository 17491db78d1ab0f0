# tries: a symbolic link to itself
# holds: refused in one sentence
# kind: hostile
# answers: stub
# shows: symbolic link
# damage: link_to_itself

# %%
import torch
