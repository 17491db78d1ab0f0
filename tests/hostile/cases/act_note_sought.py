# tries: to find what another student's notebook has left, or its processes and files
# holds: there is nothing
# kind: hostile
# shows: notes \[\]

# %%
import ctypes, os

notes = []
places = ["/tmp", "/var/tmp", "/dev/shm", "/dev/mqueue", "/run", "/run/lock", os.getcwd(), "/dev"]
places += [os.environ[k] for k in ("HOME", "TMPDIR", "MPLCONFIGDIR", "IPYTHONDIR") if k in os.environ]
for place in places:
    try:
        notes.append(open(f"{place}/note").read())
    except OSError:
        pass
libc = ctypes.CDLL(None, use_errno=True)
key = libc.syscall(249, b"user", b"note", None, 0)
for ring in (-1, -2, -3, -4, -5):
    found = libc.syscall(250, 10, ring, b"user", b"note", 0)
    if max(found, key) > 0:
        buffer = ctypes.create_string_buffer(100)
        libc.syscall(250, 11, max(found, key), buffer, 100)
        notes.append(buffer.value)
libc.shmat.restype = ctypes.c_void_p
number = libc.shmget(0x0D1CE, 4096, 0)
if number >= 0:
    notes.append(ctypes.string_at(libc.shmat(number, None, 0), 64))
if libc.msgget(0x0D1CE, 0) >= 0:
    notes.append("a queue")
notes += [name for name in os.listdir(".") if name != "profile_default"]  # IPython's own
print("notes", notes)
