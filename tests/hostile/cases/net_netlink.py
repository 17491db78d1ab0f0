# tries: netlink, packet, vsock and Bluetooth sockets (made only, never connected)
# holds: none can be made
# kind: hostile
# shows: made \[\]

# %%
import socket

made = []
for family in (16, 17, 38, 40, 31, 21, 29, 44):
    for kind in (1, 2, 3, 5):
        try:
            socket.socket(family, kind, 0).close()
            made.append((family, kind))
        except OSError:
            pass
print("made", made)
