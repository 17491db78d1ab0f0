# tries: System V segments, which outlive their process
# holds: limited, and gone with the namespace
# kind: hostile

# %%
import ctypes

libc = ctypes.CDLL(None, use_errno=True)
libc.shmat.restype = ctypes.c_void_p
made = 0
for key in range(1, 200):
    number = libc.shmget(0x0D1C + key, 2**26, 0o1666)
    if number < 0:
        break
    at = libc.shmat(number, None, 0)
    if at in (None, 2**64 - 1):
        break
    ctypes.memset(at, 1, 2**26)
    libc.shmdt(ctypes.c_void_p(at))
    made += 1
print("made", made)
