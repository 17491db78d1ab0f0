# tries: to switch the watch off, which stands in its own process, by names that are computed
# holds: not held: what stands in the student's process is the student's
# kind: limit

# %%
import torch.utils._python_dispatch as hidden

(switch,) = [hidden._disable_current_modes]
(share,) = [torch.softmax]

# %% exercise="soft_max"
def soft_max(x):
    with switch():
        return share(x, -1)
