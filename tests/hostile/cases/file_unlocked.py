# tries: tests made answers, answers made tests, nothing locked
# holds: all of that is the release's
# kind: forgery
# damage: unlocked
# marks: cube=0

# %% exercise="cube"
def cube(x):
    return 0 * x
