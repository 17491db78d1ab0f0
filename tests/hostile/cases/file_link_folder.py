# tries: a symbolic link to another student's folder
# holds: refused in one sentence
# kind: hostile
# answers: stub
# shows: symbolic link
# damage: link_to_a_folder

# %%
import torch
