# tries: marks and a judge's output that the file brings along
# holds: neither is looked at
# kind: forgery
# answers: wrong
# damage: marks_written

# %%
import torch
