# tries: to reach the listener by IPv6, also by the address that maps IPv4
# holds: no connection arrives
# kind: hostile
# shows: tried: PermissionError
# never: tried: connected

# %%
import socket

for address in ("::1", "::ffff:127.0.0.1"):
    try:
        with socket.socket(socket.AF_INET6) as plug:
            plug.settimeout(0.3)
            plug.connect((address, int("@PORT@")))
            print("tried: connected")
    except OSError as error:
        print("tried:", type(error).__name__)
