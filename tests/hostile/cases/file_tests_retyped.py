# tries: tests that are prose
# holds: they are code
# kind: forgery
# marks: half=0
# damage: tests_retyped

# %% exercise="half"
def half(x):
    return 0 * x
