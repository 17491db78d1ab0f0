# tries: to mount, to move the root and to write to devices
# holds: refused
# kind: hostile
# shows: got \[\]

# %%
import ctypes, os

libc = ctypes.CDLL(None, use_errno=True)
got = []
os.makedirs("m/old", exist_ok=True)
here = os.path.abspath("m").encode()
for name, value in {
    "bind": libc.mount(b"/", here, None, 4096 | 16384, None),
    "proc": libc.mount(b"proc", here, b"proc", 0, None),
    "tmpfs": libc.mount(b"none", here, b"tmpfs", 0, None),
    "remount": libc.mount(b"none", b"/", None, 32 | 4096, None),
    "umount": libc.umount2(b"/proc", 2),
    "pivot_root": libc.syscall(155, here, here + b"/old"),
    "chroot": libc.chroot(here),
    "open_tree": libc.syscall(428, -100, b"/", 1),
    "fsopen": libc.syscall(430, b"tmpfs", 0),
    "mount_setattr": libc.syscall(442, -100, b"/", 0, None, 0) and -1,
    "mknod": libc.syscall(133, b"disk", 0o60666, 0x800),
    "swapon": libc.syscall(167, b"m", 0),
}.items():
    if value >= 0:
        got.append(name)
for path in ("/dev/sda", "/dev/vda", "/dev/mem", "/dev/kmsg", "/dev/fuse", "/dev/kvm"):
    try:
        got.append(open(path, "rb"))
    except OSError:
        pass
print("got", got)
