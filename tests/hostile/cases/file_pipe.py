# tries: a named pipe, whose opening waits for ever
# holds: refused in one sentence
# kind: hostile
# answers: stub
# shows: not a file
# damage: pipe

# %%
import torch
