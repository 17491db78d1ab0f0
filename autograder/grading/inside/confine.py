"""What separates one student's process from the next: namespaces, limits and a system-call filter.

Called by the fork server, itself inside bubblewrap: `Processes.fork` makes the process that will
run the student's code, `confine` is called there before any of it runs. Linux only.
"""

import ctypes
import errno
import os
from pathlib import Path

import pyseccomp

from . import limits

SCRATCH = "/scratch"  # the student's home, temporary and working folder
SCRATCH_OPTIONS = "size=256m,nr_inodes=20000,mode=0700"
SHARED_OPTIONS = "size=64m,nr_inodes=1000,mode=0700"  # /dev/shm, which data loaders use
UNPRIVILEGED = 65534  # whom root becomes: limits on processes do not bind root
STUDENT = 1000  # the id that the student's code sees
MAX_PROCESSES = 64  # processes and threads of a child

_NEW_PROCESSES, _NEW_USERS = 0x20000000, 0x10000000
_NEW_OTHERS = (
    0x00020000  # mounts
    | 0x02000000  # cgroups
    | 0x04000000  # host name
    | 0x08000000  # System V and POSIX message queues
    | 0x40000000  # network
)
_PRIVATE = 0x00044000  # MS_REC | MS_PRIVATE: no mount of a child shows elsewhere
_NOSUID_NODEV, _NOEXEC = 6, 8
_PR_SET_DUMPABLE, _PR_CAPBSET_DROP = 4, 24
_LAST_CAPABILITY = 63

# Student code needs none of these. What is not on the list stays allowed: torch, numpy and the
# allocators use far more calls than anyone could name for every version.
_DENIED = (
    # other processes' memory and descriptors
    *("ptrace", "process_vm_readv", "process_vm_writev", "process_madvise", "kcmp"),
    *("pidfd_open", "pidfd_getfd", "perf_event_open", "userfaultfd"),
    # namespaces and mounts
    *("unshare", "setns", "mount", "umount2", "pivot_root", "chroot", "move_mount", "open_tree"),
    *("fsopen", "fsconfig", "fsmount", "fspick", "mount_setattr", "open_by_handle_at"),
    *("name_to_handle_at", "quotactl", "quotactl_fd", "swapon", "swapoff", "acct"),
    # the network, and what reaches the kernel past this filter; socketpair stays, asyncio needs it
    *("socket", "connect", "bind", "listen", "accept", "accept4"),
    *("io_uring_setup", "io_uring_enter", "io_uring_register", "bpf"),
    # the kernel
    *("init_module", "finit_module", "delete_module", "kexec_load", "kexec_file_load", "reboot"),
    *("settimeofday", "clock_settime", "clock_adjtime", "adjtimex", "sethostname"),
    *("setdomainname", "syslog", "vhangup", "fanotify_init", "iopl", "ioperm", "modify_ldt"),
    *("keyctl", "add_key", "request_key", "personality", "lookup_dcookie"),
    # memory that no limit of a process counts
    *("memfd_create", "memfd_secret", "shmget", "semget", "msgget", "mq_open"),
)

_libc = ctypes.CDLL(None, use_errno=True)


class Processes:
    """The fork server's own namespace of processes, and a fresh one for each child."""

    def __init__(self) -> None:
        self._own = os.open("/proc/self/ns/pid", os.O_RDONLY | os.O_CLOEXEC)

    def fork(self) -> int:
        """As os.fork; the child is the first process of a namespace.

        Raises:
            OSError: the kernel refuses; the text says what.
        """
        _call("unshare", _NEW_PROCESSES)  # for the next child, not for this process
        pid = -1
        try:
            pid = os.fork()
        finally:
            if pid:
                _call("setns", self._own, _NEW_PROCESSES)
        if not pid:
            os.close(self._own)
        return pid


def confine() -> None:
    """Give this process a scratch folder of its own and take everything else away.

    Raises:
        OSError: the kernel refuses; the text says what.
    """
    _call("unshare", _NEW_OTHERS)
    owner = f",uid={UNPRIVILEGED},gid={UNPRIVILEGED}" if _is_root() else ""
    _call("mount", b"none", b"/", None, _PRIVATE, None)
    _mount("tmpfs", SCRATCH, _NOSUID_NODEV, SCRATCH_OPTIONS + owner)
    _mount("tmpfs", "/dev/shm", _NOSUID_NODEV | _NOEXEC, SHARED_OPTIONS + owner)
    _mount("proc", "/proc", _NOSUID_NODEV | _NOEXEC, "")
    Path("/proc/self/oom_score_adj").write_text("1000")  # the kernel ends it before its parent
    _become_nobody()
    limits.apply(MAX_PROCESSES)
    _drop_capabilities()
    _filter_system_calls()


def _become_nobody() -> None:
    """Limits on processes do not bind root, and root owns the kernel's settings."""
    if _is_root():
        os.setgroups([])
        os.setresgid(UNPRIVILEGED, UNPRIVILEGED, UNPRIVILEGED)
        os.setresuid(UNPRIVILEGED, UNPRIVILEGED, UNPRIVILEGED)
        _call("prctl", _PR_SET_DUMPABLE, 1, 0, 0, 0)  # its own uid_map was root's until here
    user, group = os.getuid(), os.getgid()
    _call("unshare", _NEW_USERS)
    Path("/proc/self/setgroups").write_text("deny")
    Path("/proc/self/uid_map").write_text(f"{STUDENT} {user} 1")
    Path("/proc/self/gid_map").write_text(f"{STUDENT} {group} 1")


def _is_root() -> bool:
    """Whether this is the machine's root; an ordinary user is called so too in a sandbox."""
    first, _, count = map(int, Path("/proc/self/uid_map").read_text().split()[:3])
    return os.getuid() == 0 and first <= UNPRIVILEGED < first + count


def _mount(kind: str, target: str, flags: int, options: str) -> None:
    _call("mount", kind.encode(), target.encode(), kind.encode(), flags, options.encode())


def _drop_capabilities() -> None:
    for capability in range(_LAST_CAPABILITY + 1):  # beyond the kernel's last one: EINVAL
        _libc.prctl(_PR_CAPBSET_DROP, capability, 0, 0, 0)
    header = (ctypes.c_uint32 * 2)(0x20080522, 0)  # _LINUX_CAPABILITY_VERSION_3, this process
    _call("capset", header, (ctypes.c_uint32 * 6)())


def _filter_system_calls() -> None:
    """No new privileges, and the calls above fail with EPERM."""
    calls = pyseccomp.SyscallFilter(pyseccomp.ALLOW)
    for name in _DENIED:
        try:
            calls.add_rule(pyseccomp.ERRNO(errno.EPERM), name)
        except (OSError, RuntimeError, ValueError):
            if name in ("unshare", "ptrace", "mount", "socket"):  # known everywhere
                raise
            continue  # this libseccomp does not know it, or the processor has no such call
    # Flags of clone3 lie in memory, where no filter sees them; glibc then falls back to clone.
    calls.add_rule(pyseccomp.ERRNO(errno.ENOSYS), "clone3")
    for flag in (0x20000, 0x02000000, 0x04000000, 0x08000000, 0x10000000, 0x20000000, 0x40000000):
        new_namespace = pyseccomp.Arg(0, pyseccomp.MASKED_EQ, flag, flag)
        calls.add_rule(pyseccomp.ERRNO(errno.EPERM), "clone", new_namespace)
    calls.load()


def _call(name: str, *arguments: object) -> None:
    if getattr(_libc, name)(*arguments) != 0:
        number = ctypes.get_errno()
        raise OSError(number, f"{name}: {os.strerror(number)}")
