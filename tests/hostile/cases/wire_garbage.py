# tries: to answer a check with bytes that are no frame
# holds: the process is given up and the exercise costs itself
# kind: forgery
# marks: half=0

# %% exercise="half"
import sys

def half(x):
    import os

    os.write(REPLIES(), b"2.0\n" * 1000)
    return x / 2

# %% after="half"
def REPLIES():
    import gc

    return next(o for o in gc.get_objects() if type(o).__name__ == "Child")._replies
