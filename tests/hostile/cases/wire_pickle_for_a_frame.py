# tries: to send a bare pickle, a torch archive and a JSON text with a class in it
# holds: nothing that comes back is unpickled
# kind: forgery
# marks: cube=0

# %% exercise="cube"
import gc, io, os, pickle, sys

class Evil:
    def __reduce__(self):
        return os.system, ("touch @PICKLED@",)

def cube(x):
    child = next(o for o in gc.get_objects() if type(o).__name__ == "Child")
    archive = io.BytesIO()
    torch.save(Evil(), archive)
    os.write(child._replies, pickle.dumps(Evil()) + archive.getvalue())
    sys.modules["inside.wire"].write_frame(child._replies, {"__class__": "Evil", "number": 1})
    return x**3
