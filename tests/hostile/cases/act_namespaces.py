# tries: new namespaces, to be root in them, and to enter those of others
# holds: refused
# kind: hostile
# shows: got \[\]

# %%
import ctypes, os

libc = ctypes.CDLL(None, use_errno=True)
got = []
for flag in (0x10000000, 0x20000, 0x20000000, 0x40000000, 0x8000000, 0x4000000, 0x2000000):
    if libc.unshare(flag) == 0:
        got.append(("unshare", hex(flag)))
for kind in ("mnt", "net", "pid", "user", "ipc", "cgroup"):
    for pid in (1, os.getppid(), "self"):
        try:
            if libc.setns(os.open(f"/proc/{pid}/ns/{kind}", os.O_RDONLY), 0) == 0:
                got.append(("setns", kind))
        except OSError:
            pass
pid = libc.syscall(56, 0x10000000 | 17, 0, 0, 0, 0)  # clone with a new user namespace
if pid == 0:
    os._exit(0)
if pid > 0:
    got.append("clone")
arguments = (ctypes.c_uint64 * 11)(0x10000000)
pid = libc.syscall(435, arguments, 88)  # clone3
if pid == 0:
    os._exit(0)
if pid > 0:
    got.append("clone3")
print("got", got)
