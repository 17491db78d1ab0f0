# tries: a zip archive that unpacks to 200 MB
# holds: refused, not unpacked
# kind: hostile
# answers: stub
# shows: zip archive
# damage: zip_bomb

# %%
import torch
