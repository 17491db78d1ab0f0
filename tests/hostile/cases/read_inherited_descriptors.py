# tries: to leave through a descriptor that the grader forgot to close
# holds: there are pipes and devices only; no folder is open
# kind: hostile
# shows: descriptors \[.*\], ways out \[\]

# %%
import os

kinds, ways = [], []
for fd in range(3, 300):
    try:
        kinds.append(os.readlink(f"/proc/self/fd/{fd}").split(":")[0])
    except OSError:
        continue
    for path in ("..", "../../../..@CANARY@", "@CANARY@"[1:]):
        try:
            os.close(os.open(path, os.O_RDONLY, dir_fd=fd))
            ways.append((fd, path, kinds[-1]))
        except OSError:
            pass
print(f"descriptors {kinds}, ways out {ways}")
