# tries: to send every reply twice
# holds: what was sent too much ends the process
# kind: forgery
# marks: cube=0

# %% exercise="cube"
import sys

wire = sys.modules["inside.wire"]

def cube(x, original=wire.write_frame):
    def write_frame(fd, message, buffers=(), deadline=None):
        original(fd, message, buffers)
        original(fd, message, buffers)

    wire.write_frame = write_frame
    return x**3
