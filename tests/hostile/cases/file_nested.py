# tries: a hundred thousand brackets
# holds: refused in one sentence
# kind: hostile
# answers: stub
# shows: damaged or no notebook
# damage: nested_json

# %%
import torch
