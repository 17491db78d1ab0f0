# tries: socket() as a bare system call, also by the numbers of the x32 interface
# holds: each is refused, or ends the process and costs its own cell alone
# kind: hostile
# never: tried: (0|[1-9])

# %%
import ctypes

libc = ctypes.CDLL(None, use_errno=True)
for family in (2, 10, 1, 16, 17, 40):  # inet, inet6, unix, netlink, packet, vsock
    print("tried:", libc.syscall(41, family, 1, 0), libc.socket(family, 1, 0))

# %%
print("tried:", libc.syscall(0x40000000 + 41, 2, 1, 0))
