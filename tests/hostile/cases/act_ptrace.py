# tries: to trace its parent and to read and write the memory of others
# holds: refused
# kind: hostile
# shows: got \[\]

# %%
import ctypes, os

libc = ctypes.CDLL(None, use_errno=True)
got = []
buffer = ctypes.create_string_buffer(64)
local = (ctypes.c_size_t * 2)(ctypes.addressof(buffer), 64)
for pid in (os.getppid(), 1, 2, 3, 10, 100, 1000):
    if pid == os.getpid():
        continue
    if libc.ptrace(16, pid, None, None) == 0 or libc.ptrace(0x4206, pid, None, None) == 0:
        got.append(("ptrace", pid))
    for call in (310, 311):  # process_vm_readv, process_vm_writev
        if libc.syscall(call, pid, local, 1, local, 1, 0) > 0:
            got.append((call, pid))
    try:
        got.append(open(f"/proc/{pid}/mem", "r+b"))
    except OSError:
        pass
if libc.ptrace(0, 0, None, None) == 0:
    got.append("traceme")
print("got", got)
