# tries: tags by which tests are left out of a notebook that would fail them
# holds: tags are the release's
# kind: forgery
# answers: wrong
# damage: tagged_to_be_skipped

# %%
import torch
