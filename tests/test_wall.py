"""The wall itself: what a process behind it has and can do. All of this code runs behind it."""

import contextlib
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import matplotlib
import psutil
import pytest

from autograder.contract import probes
from autograder.grading import cgroup, wall
from autograder.grading.cgroup import Group
from autograder.grading.forkserver import ChildGone, ForkServer, Raised
from autograder.grading.wall import NoWall

ROOT = Path(__file__).resolve().parent.parent

LOOK = """
import ctypes, os, resource, sys
status = dict(line.split(":", 1) for line in open("/proc/self/status"))
def fails(name, *arguments):
    libc = ctypes.CDLL(None, use_errno=True)
    return getattr(libc, name)(*arguments) == -1 and ctypes.get_errno()
def target(fd):
    try:
        return os.readlink(f"/proc/self/fd/{fd}")
    except OSError:  # the listing's own
        return ""
def found():
    return {
        "pid": os.getpid(),
        "capabilities": [status[f"Cap{kind}"].strip() for kind in ("Inh", "Prm", "Eff", "Bnd")],
        "no new privileges": status["NoNewPrivs"].strip(),
        "filter": status["Seccomp"].strip(),
        "processes": [int(name) for name in os.listdir("/proc") if name.isdigit()],
        "home": os.listdir(os.path.expanduser("~")),
        "writable": [p for p in ("/", "/dev", "/proc/sys/kernel", "/usr", "/view/course",
                                 sys.prefix) if os.access(p, os.W_OK)],
        "interfaces": [line.split(":")[0].strip() for line in open("/proc/net/dev")][2:],
        "open files": sorted(map(target, os.listdir("/proc/self/fd"))),
        "tasks": resource.getrlimit(resource.RLIMIT_NPROC)[0],
        "socket": fails("socket", 2, 1, 0), "local socket": fails("socket", 1, 1, 0),
        "netlink": fails("socket", 16, 3, 0), "unshare": fails("unshare", 0x10000000),
        "mount": fails("mount", b"x", b"/tmp", b"tmpfs", 0, None),
        "ptrace": fails("ptrace", 0, 0, 0, 0), "chroot": fails("chroot", b"/tmp"),
        "environment": sorted(os.environ),
    }
"""


def look(server):
    with server.child() as child:
        child.run_module(LOOK, "look", 10)
        return child.probe(probes.call, ("found",), {}, 10, [])[0]


@pytest.fixture(scope="module")
def server():
    with ForkServer() as server:
        yield server


def test_a_child_has_nothing_but_its_own_scratch_folder(server):
    seen = look(server)
    assert seen["pid"] == 1 and seen["processes"] == [1]
    assert set(seen["capabilities"]) == {"0" * 16}
    assert seen["no new privileges"] == "1" and seen["filter"] == "2"
    assert seen["home"] == [] and seen["writable"] == []
    assert seen["interfaces"] in ([], ["lo"])
    fonts = str(Path(matplotlib.get_data_path()).resolve())
    others = [name for name in seen["open files"] if name and not name.startswith(fonts)]
    assert [name.split(":")[0] for name in others] == [*["/dev/null"] * 3, "pipe", "pipe"]
    assert seen["tasks"] == 64
    for call in ("socket", "local socket", "netlink", "unshare", "mount", "ptrace", "chroot"):
        assert seen[call] == 1, call  # EPERM
    assert not {"SSH_AUTH_SOCK", "VIRTUAL_ENV", "PYTHONPATH"} & set(seen["environment"])


AS_USER = """
import sys
sys.path.insert(0, {root!r})
sys.path.insert(0, {tests!r})
from test_wall import ForkServer, look
from autograder.grading import wall
print(wall.describe("bubblewrap"))
with ForkServer() as server:
    seen = look(server)
    assert seen["pid"] == 1 and seen["processes"] == [1] and seen["writable"] == [], seen
    assert set(seen["capabilities"]) == {{"0" * 16}} and seen["filter"] == "2", seen
    assert seen["socket"] == 1 and seen["unshare"] == 1 and seen["tasks"] == 64, seen
print("held")
"""


def opened_up(paths):
    """Shell commands that let anyone reach these folders, in a mount namespace of their own."""
    closed = [p for p in paths if not all(q.stat().st_mode & 0o001 for q in p.parents)]
    keep = [f'mkdir -p "$kept/{i}"; mount --bind "{p}" "$kept/{i}"' for i, p in enumerate(closed)]
    homes = {Path(*p.parts[:2]) for p in closed}
    hide = [f'mount -t tmpfs none "{home}"; chmod 755 "{home}"' for home in homes]
    show = [f'mkdir -p "{p}"; mount --bind "$kept/{i}" "{p}"' for i, p in enumerate(closed)]
    return "; ".join(["kept=$(mktemp -d)", *keep, *hide, *show])


@pytest.mark.skipif(os.getuid() != 0, reason="every other test here runs as an ordinary user")
def test_an_ordinary_user_has_the_same_wall():
    """Root becomes somebody else; a Python in root's own folder is shown to that user as well."""
    script = AS_USER.format(root=str(ROOT), tests=str(ROOT / "tests"))
    paths = {Path(path).resolve() for path in (sys.base_prefix, sys.prefix, ROOT)}
    become = "exec setpriv --reuid 4242 --regid 4242 --clear-groups env -i PATH=/usr/bin:/bin"
    command = f'{opened_up(sorted(paths))}; cd /; {become} "$@"'
    done = subprocess.run(
        ["unshare", "-m", "sh", "-ec", command, "sh", sys.executable, "-c", script],
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 0 and done.stdout.endswith("held\n"), done.stdout + done.stderr


def test_children_share_no_folder_and_leave_none(server):
    write = "import os\nfor p in ('x', '/dev/shm/x'):\n    open(p, 'w').write('x')\n"
    read = "import os\nassert os.listdir() == os.listdir('/dev/shm') == []\n"
    with server.child() as first, server.child() as second:
        first.run_module(write, "m", 10)
        second.run_module(read, "m", 10)
    with server.child() as third:
        third.run_module(read, "m", 10)


@pytest.mark.parametrize(
    ("code", "word"),
    [
        ("open('big', 'wb').write(bytes(80_000_000))", "OSError|File too large"),
        ("for i in range(9):\n    open(str(i), 'wb').write(bytes(60_000_000))", "No space left"),
        ("for i in range(30_000):\n    open(str(i), 'w').close()", "No space left"),
        ("import numpy\nnumpy.ones(5 * 2**30, numpy.uint8)", "MemoryError"),
        ("held = [open('/dev/null') for _ in range(1000)]", "Too many open files"),
    ],
)
def test_limits_end_in_an_exception_of_the_student(server, code, word):
    with server.child() as child, pytest.raises(Raised, match=word):
        child.run_module(code, "m", 30)


def named(word):
    """Processes of this machine with that word on their command line."""
    lines = []
    for process in psutil.process_iter(["cmdline"]):
        lines += [process.pid] if word in (process.info["cmdline"] or []) else []
    return lines


def test_what_a_child_leaves_behind_ends_with_it(server):
    word = "left-behind-by-a-test"
    leave = f"""
import os, subprocess, sys
if os.fork() == 0:
    os.setsid()
    if os.fork() == 0:
        os.execv(sys.executable, [sys.executable, "-c", "import time; time.sleep(60)", "{word}"])
    os._exit(0)
import time
time.sleep(0.5)
"""
    with server.child() as child:
        child.run_module(leave, "m", 10)
        assert named(word)
    with server.child():  # the server buries one child before it makes the next
        assert not named(word)


def test_a_server_that_was_killed_is_started_again():
    with ForkServer() as server:
        child = server.child()
        with pytest.raises(ChildGone):
            os.kill(server._process.pid, signal.SIGKILL)
            child.run_module("import time\ntime.sleep(20)", "m", 20)
        with server.child() as other:
            other.run_module("x = 1", "m", 10)
        child.close()


def test_the_sandbox_ends_with_whoever_started_it():
    start = (
        "import os, signal\nfrom autograder.grading.forkserver import ForkServer\n"
        "server = ForkServer()\nprint(server._process.pid, flush=True)\n"
        "os.kill(os.getpid(), signal.SIGKILL)\n"
    )
    done = subprocess.run([sys.executable, "-c", start], capture_output=True, text=True, cwd=ROOT)
    pid = int(done.stdout)
    for _ in range(100):
        if not psutil.pid_exists(pid):
            break
        time.sleep(0.05)
    assert not psutil.pid_exists(pid)


def test_no_wall_is_refused_with_the_remedy(monkeypatch):
    wall.check.cache_clear()
    monkeypatch.setenv("PATH", "/nonexistent")
    with pytest.raises(NoWall, match=r"apt-get install bubblewrap.*--isolation none"):
        ForkServer()
    with pytest.raises(ValueError, match="choose bubblewrap or none"):
        ForkServer("chroot")


def test_a_kernel_that_refuses_is_refused_with_the_remedy(monkeypatch, tmp_path):
    wall.check.cache_clear()
    bwrap = tmp_path / "bwrap"
    bwrap.write_text(
        "#!/bin/sh\necho 'bwrap: No permissions to create new namespace' >&2\nexit 1\n"
    )
    bwrap.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(NoWall, match=r"No permissions.*sysctl.*--isolation none"):
        ForkServer()
    wall.check.cache_clear()


def may_make_groups():
    """Whether this user may write where a group would stand, and memory is limited there."""
    for parent, _ in cgroup._parents(cgroup.MOUNT):
        passed_on = parent / "cgroup.subtree_control"  # version 2 alone has it
        memory = "memory" in _text(passed_on) if passed_on.exists() else True
        if (parent / "cgroup.procs").exists() and os.access(parent, os.W_OK) and memory:
            return True
    return False


def test_a_control_group_counts_the_server_and_its_children(server):
    if not may_make_groups():  # asked of the kernel's files, not of the code under test
        pytest.skip("this user can make no control group here")
    group = Group()
    limits = group.limits
    group.close()
    assert limits and not any(folder.exists() for folder in group.folders)
    (name,) = {folder.name for folder in server._group.folders}
    with server.child():
        inside = [
            process
            for process in psutil.process_iter()
            if name in _text(Path(f"/proc/{process.pid}/cgroup"))
        ]
        assert len(inside) >= 3  # bubblewrap, the fork server, the child


def _text(path):
    with contextlib.suppress(OSError):
        return path.read_text()
    return ""


def test_groups_of_both_versions_are_made_where_their_files_are(tmp_path, monkeypatch):
    """The kernel makes a new folder's files; here a patched mkdir does, as version 2 has them."""
    made = []

    def mkdir(self, *args, **kwargs):
        os.mkdir(self)
        made.append(self)
        for name in ("memory.max", "pids.max", "cgroup.procs"):
            (self / name).write_text("max")

    monkeypatch.setattr(Path, "mkdir", mkdir)
    monkeypatch.setattr("autograder.grading.cgroup._parents", lambda m: [(m, ["memory", "pids"])])
    group = Group(tmp_path)
    assert group.limits == ["memory", "pids"] and group.folders == made
    assert int((made[0] / "memory.max").read_text()) == 6 * 2**30
    (command,) = {group.around(["echo", "x"])[2]}
    assert command == f'echo $$ > {made[0]}/cgroup.procs && exec "$@"'
    shutil.rmtree(made[0])
    group.close()
