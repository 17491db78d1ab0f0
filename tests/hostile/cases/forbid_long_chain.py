# tries: an answer whose syntax tree is a chain too deep to be written out again
# holds: the search for forbidden names does not fall over it
# kind: forgery
# damage: chain_of_attributes

# %%
import torch
