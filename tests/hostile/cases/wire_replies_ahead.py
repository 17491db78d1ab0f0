# tries: to answer calls that have not come yet, with the answers to those that have
# holds: an answer counts for its own call; what was sent too much ends the process
# kind: forgery
# answers: wrong

# %%
import sys

wire = sys.modules["inside.wire"]

def write_frame(fd, message, buffers=(), deadline=None, original=wire.write_frame):
    original(fd, message, buffers)
    if "value" in message:
        for ahead in (1, 2, 3):
            original(fd, {**message, "number": message["number"] + ahead}, buffers)

wire.write_frame = write_frame
