# tries: the network from a process of its own, started by a magic
# holds: a process inherits the wall
# kind: hostile
# never: tried: connected

# %%
import subprocess, sys

code = "import socket; socket.create_connection(('127.0.0.1', @PORT@), 0.3); print('connected')"
try:
    done = subprocess.run([sys.executable, "-IS", "-c", code], capture_output=True, text=True)
    print("tried:", done.stdout or done.stderr[-60:])
except OSError as error:
    print("refused:", error)

# %%
# !curl -s -m 1 http://127.0.0.1:@PORT@/ && echo tried: connected
