# tries: never to answer
# holds: the call is given up after its time
# kind: forgery
# marks: cube=0

# %% exercise="cube"
import sys, time

def cube(x):
    sys.modules["inside.wire"].write_frame = lambda *a, **k: time.sleep(1000)
    return x**3
