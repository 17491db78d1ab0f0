# tries: to become root, to regain capabilities, to run programs that are set-uid
# holds: it has no capability and cannot gain one
# kind: hostile
# shows: CapEff:\s+0{16} CapBnd:\s+0{16}
# never: stdout=b.uid=0

# %%
import ctypes, os, re, subprocess

libc = ctypes.CDLL(None, use_errno=True)
for attempt in (lambda: os.setuid(0), lambda: os.setgroups([0]), lambda: os.setresuid(0, 0, 0)):
    try:
        attempt()
    except OSError as error:
        print(error)
print(libc.prctl(8, 1, 0, 0, 0), libc.prctl(47, 2, 21, 0, 0), libc.prctl(38, 0, 0, 0, 0))
for command in (["su", "-c", "echo uid=0(root) from su"], ["sudo", "-n", "id"], ["mount"]):
    try:
        print(subprocess.run(command, capture_output=True, stdin=subprocess.DEVNULL, timeout=1))
    except (OSError, subprocess.SubprocessError) as error:
        print(error)
status = open("/proc/self/status").read()
print(*re.findall(r"Cap(?:Eff|Bnd):\s+\w+", status))
