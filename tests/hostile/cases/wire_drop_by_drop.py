# tries: to send its reply byte by byte, so that something always comes
# holds: the time is that of the whole reply
# kind: forgery
# marks: cube=0

# %% exercise="cube"
import json, os, struct, sys, time

def cube(x):
    def write_frame(fd, message, buffers=(), deadline=None):
        text = json.dumps([message, [len(b) for b in buffers]]).encode()
        data = struct.pack("<4sIQ", b"DLC1", len(text), sum(map(len, buffers)))
        for byte in b"".join([data, text, *buffers]):
            os.write(fd, bytes([byte]))
            time.sleep(0.1)

    sys.modules["inside.wire"].write_frame = write_frame
    return x**3
