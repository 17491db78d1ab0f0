# tries: objects that do something when they are copied, pickled, printed, hashed or deleted
# holds: in the judge's process nothing of them exists
# kind: forgery
# answers: wrong

# %%
import os

def act(self, *a, **k):
    os._exit(0)

names = ("reduce_ex", "reduce", "deepcopy", "copy", "repr", "str", "hash", "len", "bool", "index")
Trap = type("Trap", (), {f"__{name}__": act for name in names})
half = cube = lambda x: Trap()
soft_max = lambda x: [{"a": Trap()}, (Trap(),)]
