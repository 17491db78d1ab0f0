# tries: io_uring, which makes system calls that a filter does not see
# holds: refused
# kind: hostile
# shows: tried: -1 (1|38)\b

# %%
import ctypes

libc = ctypes.CDLL(None, use_errno=True)
parameters = (ctypes.c_byte * 120)()
print("tried:", libc.syscall(425, 8, parameters), ctypes.get_errno())
