# tries: replies nested thousands deep, in an answer and in an output
# holds: refused or dropped; the judge does not fall
# kind: forgery
# marks: cube=0

# %%
deep = 0
for _ in range(700):
    deep = [deep]
display({"application/json": deep, "text/plain": "deep"}, raw=True)

# %% exercise="cube"
import gc, os, struct

def cube(x):
    child = next(o for o in gc.get_objects() if type(o).__name__ == "Child")
    text = b"[" * 50_000 + b"]" * 50_000
    os.write(child._replies, struct.pack("<4sIQ", b"DLC1", len(text), 0) + text)
