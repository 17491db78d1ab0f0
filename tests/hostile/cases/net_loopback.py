# tries: to reach a listener on the loopback of the machine that grades
# holds: no connection arrives, no datagram either
# kind: hostile
# shows: tried: PermissionError tried: PermissionError
# never: tried: connected

# %%
import socket, urllib.request

for kind in (socket.SOCK_STREAM, socket.SOCK_DGRAM):
    try:
        with socket.socket(socket.AF_INET, kind) as plug:
            plug.settimeout(0.3)
            plug.connect(("127.0.0.1", int("@PORT@")))
            plug.send(b"GET / HTTP/1.0\r\n\r\n")
            print("tried: connected")
    except OSError as error:
        print("tried:", type(error).__name__, end=" ")
try:
    print("tried: connected", urllib.request.urlopen("http://127.0.0.1:@PORT@/", timeout=0.3))
except OSError as error:
    print("tried:", error)
