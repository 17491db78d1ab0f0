# tries: to open for writing what steers the kernel: sysctl, cgroups, core patterns (never written)
# holds: none can be opened
# kind: hostile
# shows: got \[\]

# %%
import glob, os

got = []
paths = ["/proc/sysrq-trigger", "/proc/sys/kernel/core_pattern"]
paths += ["/proc/self/uid_map", "/proc/self/gid_map", "/proc/self/setgroups", "/proc/kcore"]
paths += glob.glob("/proc/sys/vm/*") + glob.glob("/sys/kernel/*") + glob.glob("/sys/fs/cgroup/*")
paths += glob.glob("/sys/fs/cgroup/*/*")
for path in paths:
    try:
        os.close(os.open(path, os.O_WRONLY))
        got.append(path)
    except OSError:
        pass
print("got", [path for path in got if not path.endswith("_map")])
