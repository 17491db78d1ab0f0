# tries: to change the arguments of every check when they arrive: all inputs are zero
# holds: the judge compares with what belongs to the inputs that it sent
# kind: forgery
# answers: wrong

# %%
import sys
import cloudpickle, pickle

def loads(data, original=pickle.loads):
    probe, args, kwargs = original(data)
    args = [0 * a if isinstance(a, torch.Tensor) and a.is_floating_point() else a for a in args]
    return probe, args, kwargs

cloudpickle.loads = sys.modules["inside.child"].cloudpickle.loads = loads

# %% exercise="cube"
def cube(x):
    return 0 * x
