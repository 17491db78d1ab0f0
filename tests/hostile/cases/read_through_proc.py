# tries: to reach the file system and the environment of other processes through /proc
# holds: only its own processes are there, and their root is its own
# kind: hostile
# shows: processes \[1\]
# never: tried: read

# %%
import os

pids = sorted(int(name) for name in os.listdir("/proc") if name.isdigit())
print("processes", pids)
for pid in [1, 2, *range(3, 400, 7), os.getppid(), "self", "thread-self"]:
    for path in (f"/proc/{pid}/root@CANARY@", f"/proc/{pid}/cwd/../../../..@CANARY@"):
        try:
            print("tried: read", open(path).read())
        except OSError:
            pass
for pid in pids:
    print(open(f"/proc/{pid}/environ", "rb").read())
