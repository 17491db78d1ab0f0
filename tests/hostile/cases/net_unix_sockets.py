# tries: to reach sockets of the machine: an abstract one and one in the file system
# holds: no connection arrives
# kind: hostile
# shows: tried: PermissionError tried: PermissionError
# never: tried: connected

# %%
import socket

for address in ("\0@ABSTRACT@", "@SOCKET@"):
    try:
        with socket.socket(socket.AF_UNIX) as plug:
            plug.connect(address)
            print("tried: connected")
    except OSError as error:
        print("tried:", type(error).__name__, end=" ")
