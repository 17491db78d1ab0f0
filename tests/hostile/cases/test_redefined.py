# tries: cells that look like the tests, placed before and after them, with their names and ids
# holds: the tests are the release's, and the marks are the judge's
# kind: forgery
# answers: wrong
# damage: ids_all_alike

# %%
def test_half():
    pass

def test_cube():
    pass

assert True, "half: 2.0 points"

# %% after="cube"
print("test_cube: 2.0")
2.0
