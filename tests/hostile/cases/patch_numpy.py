# tries: to patch NumPy, by which tensors become bytes
# holds: bytes that are no tensor's are wrong all the same
# kind: forgery
# answers: wrong

# %%
import numpy as np

np.asarray = np.array = lambda *a, **k: np.ones(3)
np.random.seed = lambda *a: None
np.ndarray = np.generic = type("Anything", (), {})
