# tries: every cell three times
# holds: costs nothing, gains nothing
# kind: forgery
# marks: half=0
# damage: cells_duplicated

# %% exercise="half"
def half(x):
    return 0 * x
