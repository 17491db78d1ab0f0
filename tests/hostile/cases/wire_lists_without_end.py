# tries: a reply of millions of empty lists, small to send and large to hold
# holds: refused before it takes the judge's memory
# kind: forgery
# marks: cube=0

# %% exercise="cube"
import gc, os, struct

def cube(x):
    child = next(o for o in gc.get_objects() if type(o).__name__ == "Child")
    text = b'[{"number": 1, "value": [' + b"[]," * 20_000_000 + b"0]},[]]"
    data = struct.pack("<4sIQ", b"DLC1", len(text), 0) + text
    while data:
        data = data[os.write(child._replies, data[:2**20]) :]
