# tries: to announce a reply of a terabyte
# holds: refused before anything of it is read
# kind: forgery
# marks: cube=0

# %% exercise="cube"
import gc, os, struct

def cube(x):
    child = next(o for o in gc.get_objects() if type(o).__name__ == "Child")
    os.write(child._replies, struct.pack("<4sIQ", b"DLC1", 2**32 - 1, 2**40))
    while True:
        os.write(child._replies, bytes(2**20))
