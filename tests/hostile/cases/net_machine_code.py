# tries: socketcall through the 32-bit interrupt, whose numbers a filter may not know
# holds: refused, or the process ends and costs its own cell alone
# kind: hostile
# never: tried: [0-9]

# %%
import ctypes, mmap

code = bytes.fromhex("53 b866000000 bb01000000 b900000000 cd80 5b c3".replace(" ", ""))
low = mmap.mmap(-1, 4096, mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS | 0x40, 7)  # MAP_32BIT
at = ctypes.addressof(ctypes.c_char.from_buffer(low))
ctypes.cast(at + 256, ctypes.POINTER(ctypes.c_int))[0:3] = [2, 1, 0]
code = code.replace(bytes.fromhex("b900000000"), b"\xb9" + (at + 256).to_bytes(8, "little")[:4])
low[: len(code)] = code
print("tried:", ctypes.CFUNCTYPE(ctypes.c_int)(at)())
