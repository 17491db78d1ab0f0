# tries: calls that attack kernels: bpf, perf, userfaultfd, modules, keys, kexec, time, reboot
# holds: each is refused
# kind: hostile
# shows: got \[\]

# %%
import ctypes

libc = ctypes.CDLL(None, use_errno=True)
got = []
zeros = (ctypes.c_byte * 256)()
for name, (number, *arguments) in {
    "bpf": (321, 0, zeros, 72),
    "perf_event_open": (298, zeros, 0, -1, -1, 0),
    "userfaultfd": (323, 0),
    "userfaultfd, user mode": (323, 1),
    "init_module": (175, zeros, 0, b""),
    "finit_module": (313, -1, b"", 0),
    "add_key": (248, b"user", b"note", b"x", 1, -4),
    "keyctl": (250, 0, -4, 1),
    "request_key": (249, b"user", b"note", None, 0),
    "personality": (135, 0x0040000),
    "quotactl": (179, 0, None, 0, None),
    "acct": (163, None),
    "settimeofday": (164, None, zeros),
    "sethostname": (170, b"evil", 4),
    "iopl": (172, 3),
    "fanotify_init": (300, 0, 0),
    "lookup_dcookie": (212, 0, zeros, 10),
    "syslog": (103, 3, zeros, 10),
    "pidfd_getfd": (438, 0, 0, 0),
}.items():
    if libc.syscall(number, *arguments) >= 0:
        got.append(name)
print("got", got)
