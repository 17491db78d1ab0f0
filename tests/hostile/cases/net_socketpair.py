# tries: to turn a socket pair, which needs no address, into a connection to the abstract socket
# holds: no connection arrives, no message either
# kind: hostile
# never: tried: (connected|sent)

# %%
import socket

try:
    for kind in (socket.SOCK_STREAM, socket.SOCK_DGRAM):
        ours, theirs = socket.socketpair(socket.AF_UNIX, kind)
        for name, attempt in {
            "connected": lambda: ours.connect("\0@ABSTRACT@"),
            "sent": lambda: ours.sendto(b"x", "\0@ABSTRACT@"),
        }.items():
            try:
                attempt()
                print("tried:", name)
            except OSError as error:
                print("refused:", type(error).__name__)
except OSError as error:
    print("refused:", type(error).__name__)
