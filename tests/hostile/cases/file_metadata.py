# tries: metadata, ids and outputs of the wrong kinds
# holds: ignored
# kind: forgery
# damage: metadata_of_the_wrong_kind

# %%
import torch
