# tries: to search every object of its process for checks, oracles, marks and answers
# holds: there are none
# kind: forgery
# answers: wrong
# shows: found \[\]

# %% exercise="half"
import gc, types

found = []

def half(x):
    for o in gc.get_objects():
        if isinstance(o, types.FunctionType) and o.__module__ in ("toy", "autograder.contract"):
            found.append(o.__qualname__)
        if isinstance(o, dict) and {"marks", "points"} & {k for k in o if isinstance(k, str)}:
            o["marks"] = 2.0
        if type(o).__name__ in ("Exercise", "Check", "Verdict", "Record"):
            found.append(type(o))

# %% after="cube"
print("found", [name for name in found if name not in ("means", "pair_of_means", "gradient_of")])
