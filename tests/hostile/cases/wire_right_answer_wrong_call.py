# tries: to send right answers as replies to another call
# holds: a reply without the number of its call is no answer, whatever is in it
# kind: forgery
# marks: cube=0

# %% exercise="cube"
import sys

wire = sys.modules["inside.wire"]

def write_frame(fd, message, buffers=(), deadline=None, original=wire.write_frame):
    if "value" in message:
        message = {**message, "number": message["number"] + 1}
    original(fd, message, buffers)

def cube(x):
    wire.write_frame = write_frame
    return x**3
