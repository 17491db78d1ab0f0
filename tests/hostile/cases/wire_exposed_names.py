# tries: to report forbidden operators in a form that breaks the judge, and none where there are some
# holds: what breaks the protocol costs the exercise
# kind: forgery
# marks: soft_max=0

# %% exercise="soft_max"
import sys

wire = sys.modules["inside.wire"]

def soft_max(x, original=wire.write_frame):
    def write_frame(fd, message, buffers=(), deadline=None):
        original(fd, {**message, "forbidden": 7} if "value" in message else message, buffers)

    wire.write_frame = write_frame
    e = (x - x.max(-1, keepdim=True).values).exp()
    return e / e.sum(-1, keepdim=True)
