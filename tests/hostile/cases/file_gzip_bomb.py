# tries: a gzip stream that unpacks to 200 MB
# holds: refused, not unpacked
# kind: hostile
# answers: stub
# shows: gzip archive
# damage: gzip_bomb

# %%
import torch
