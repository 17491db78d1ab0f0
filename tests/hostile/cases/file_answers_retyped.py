# tries: answers that are prose
# holds: they are read as code, as an editor's accident may have made them
# kind: forgery
# marks: half=0
# damage: answers_retyped

# %% exercise="half"
def half(x):
    return 0 * x
