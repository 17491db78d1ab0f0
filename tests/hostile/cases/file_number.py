# tries: a number of a million digits
# holds: refused in one sentence
# kind: hostile
# answers: stub
# shows: damaged or no notebook
# damage: json_of_numbers

# %%
import torch
