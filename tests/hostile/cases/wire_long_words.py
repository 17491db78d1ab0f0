# tries: exceptions whose kind and words have 50 MB, sent past its own process's limits
# holds: the message is cut; the notebook stays small
# kind: forgery
# marks: half=0 cube=0

# %%
import sys

wire = sys.modules["inside.wire"]

def raised(pair, original=wire.write_frame):
    def write_frame(fd, message, buffers=(), deadline=None):
        wire.write_frame = original
        original(fd, {"number": message["number"], "raised": pair, "forbidden": pair})

    wire.write_frame = write_frame

# %% exercise="half"
def half(x):
    raised(["Error" * 100_000, "spam" * 5_000_000])

# %% exercise="cube"
def cube(x):
    raised({"a": 1, "b": [[["x"]]]})
