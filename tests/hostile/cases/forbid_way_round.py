# tries: library functions that call the built-in inside: a distribution and its logarithm
# holds: seen when they run
# kind: forgery
# marks: soft_max=0

# %% exercise="soft_max"
def soft_max(x):
    return torch.distributions.Categorical(logits=x).probs.exp().log() * 1.0
