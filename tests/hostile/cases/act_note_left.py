# tries: to leave a note for the next student's notebook wherever one can be left
# holds: the next notebook finds none
# kind: hostile
# shows: left a note

# %%
import ctypes, os

note = "@NOTE@"
places = ["/tmp", "/var/tmp", "/dev/shm", "/dev/mqueue", "/run", "/run/lock", os.getcwd(), "/dev"]
places += [os.environ[k] for k in ("HOME", "TMPDIR", "MPLCONFIGDIR", "IPYTHONDIR") if k in os.environ]
for place in places:
    try:
        with open(f"{place}/note", "w") as file:
            file.write(note)
    except OSError:
        pass
libc = ctypes.CDLL(None, use_errno=True)
for ring in (-1, -2, -3, -4, -5):
    libc.syscall(248, b"user", b"note", note.encode(), len(note), ring)
libc.shmat.restype = ctypes.c_void_p
number = libc.shmget(0x0D1CE, 4096, 0o1666)
at = libc.shmat(number, None, 0) if number >= 0 else None
if at not in (None, 2**64 - 1):
    ctypes.memmove(at, note.encode(), len(note))
queue = libc.msgget(0x0D1CE, 0o1666)
if queue >= 0:
    libc.msgsnd(queue, b"\1" + bytes(7) + note.encode(), len(note), 0o4000)
print("left a note")
