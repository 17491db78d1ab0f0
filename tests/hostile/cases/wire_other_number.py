# tries: to answer with the numbers of other calls, as text, as fractions and as truth values
# holds: only the reply to this call counts
# kind: forgery
# answers: wrong

# %%
import sys

wire = sys.modules["inside.wire"]
kept = []

def write_frame(fd, message, buffers=(), deadline=None, original=wire.write_frame):
    kept.append((message, buffers))
    numbers = [message["number"] - 1, message["number"] + 1, str(message["number"]), True, None]
    if "value" in message:
        message = {**message, "number": numbers[len(kept) % 5]}
    original(fd, message, buffers)

wire.write_frame = write_frame
