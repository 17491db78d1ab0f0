# tries: cells from the last to the first
# holds: the release's order counts
# kind: forgery
# marks: half=0
# damage: cells_reversed

# %% exercise="half"
def half(x):
    return 0 * x
