# tries: 200 MB of output in one line
# holds: the output is cut; the notebook stays small
# kind: hostile
# shows: more output was left out

# %%
print("spam" * 50_000_000)
