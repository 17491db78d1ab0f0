# tries: objects, structures and times for numbers, indices out of range, names of attributes
# holds: refused
# kind: forgery
# answers: wrong

# %%
import itertools, sys

wire = sys.modules["inside.wire"]
bodies = itertools.cycle(
    [
        {"array": ["O", [1], 0]},
        {"array": ["f4,O", [1], 0]},
        {"array": [[["x", "O"]], [1], 0]},
        {"array": ["M8[s]", [1], 0]},
        {"tensor": ["__class__", [1], 0]},
        {"tensor": ["float32", [2], -1]},
        {"tensor": ["float32", [2], 7]},
        {"dict": [[{"list": []}, 1]]},
        {"__import__": "os"},
        {"opaque": ["x"] * 1000},
        {"list": {"a": 1}},
        {"tuple": 3},
    ]
)
wire.encode = lambda value: (next(bodies), [bytes(8)])
