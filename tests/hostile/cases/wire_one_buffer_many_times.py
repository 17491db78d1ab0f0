# tries: a list of ten thousand tensors that are all the same buffer of 40 MB
# holds: each buffer is one value; the judge's memory stays as it was
# kind: forgery
# marks: cube=0

# %% exercise="cube"
import sys

def cube(x):
    def encode(value):
        return {"list": [{"tensor": ["float32", [10**7], 0]}] * 10_000}, [bytes(4 * 10**7)]

    sys.modules["inside.wire"].encode = encode
