# tries: tags by which runners leave cells out
# holds: tags are the release's
# kind: forgery
# damage: tagged_to_be_skipped

# %%
import torch
