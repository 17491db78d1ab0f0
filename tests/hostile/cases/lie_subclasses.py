# tries: subclasses of float, int, str, list and dict whose comparisons are all true
# holds: the plain values are sent and compared
# kind: forgery
# answers: wrong

# %%
def yes(base):
    methods = {f"__{name}__": lambda self, *a: True for name in ("eq", "le", "ge", "lt", "gt")}
    return type("Yes", (base,), {**methods, "__hash__": lambda self: 0})

# %% exercise="half"
def half(x):
    return yes(list)([yes(float)(0.0)])

# %% exercise="running_mean"
class RunningMean:
    def update(self, x):
        return yes(float)(0.0)

# %% exercise="cube"
def cube(x):
    return yes(dict)({yes(str)("x"): yes(int)(1)})
