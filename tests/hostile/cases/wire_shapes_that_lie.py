# tries: shapes that do not fit the data: negative, broken, huge, of truth values, of text
# holds: refused
# kind: forgery
# answers: wrong

# %%
import itertools, sys

wire = sys.modules["inside.wire"]
shapes = itertools.cycle([[-1, -3], [1.5, 2], [2**63], [True, 3], ["3"], {"3": 1}, None, [3] * 64])

def encode(value):
    return {"tensor": ["float32", next(shapes), 0]}, [bytes(12)]

wire.encode = encode
