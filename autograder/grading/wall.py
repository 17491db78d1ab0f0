"""The wall around the fork server: bubblewrap, or none.

Behind it there is a read-only view of the Python environment and of what a student's code may
import, an own /tmp, and nothing else: no network, no other file, no other process. What separates
one student's process from the next stands in `inside/confine.py`.
"""

import os
import shutil
import site
import subprocess
import sys
import sysconfig
from collections.abc import Sequence
from functools import cache
from pathlib import Path

from autograder.grading.cgroup import Group

ISOLATIONS = ("bubblewrap", "none")
REPOSITORY = Path(__file__).resolve().parents[2]
VISIBLE = {"inside": Path(__file__).with_name("inside"), "course": REPOSITORY / "course"}
VIEW = "/view"  # where VISIBLE lies behind the wall
SCRATCH = "/scratch"  # the fork server's folder, and over it each child's own
SERVER_SCRATCH = 64 * 2**20  # bytes
TRIAL_LIMIT = 30.0  # seconds

# What the fork server needs to make a child's namespaces, become nobody in it, and end it. An
# ordinary user has these in the sandbox alone.
NEEDS = ("CAP_SYS_ADMIN", "CAP_SETUID", "CAP_SETGID", "CAP_KILL")
_TRIAL = """
import os
from inside import server
children = server.Confined()
pid = children.fork()
if pid == 0:
    os._exit(0)
children.bury(pid)
"""
_SYSTEM = ("/usr", "/bin", "/sbin", "/lib", "/lib32", "/lib64", "/libx32")
_SETTINGS = ("/etc/ld.so.cache", "/etc/ld.so.conf", "/etc/localtime", "/etc/fonts")
_OR_NONE = "or grade code that you trust with --isolation none"


class NoWall(Exception):
    """No sandbox can be made here; one line with the remedy."""


def walled(program: Sequence[str]) -> list[str]:
    """The command that runs `program` behind the wall.

    Raises:
        NoWall: bubblewrap is not installed.
    """
    bwrap = shutil.which("bwrap")
    if bwrap is None:
        raise NoWall(
            f"no sandbox: install bubblewrap (Debian: apt-get install bubblewrap), {_OR_NONE}"
        )
    options = ["--unshare-ipc", "--unshare-pid", "--unshare-net", "--unshare-uts"]
    options += ["--die-with-parent", "--hostname", "grader"]
    if os.getuid() != 0:
        # As its own root the fork server owns the sandbox's namespaces, and nothing outside; the
        # kernel wants CAP_SETFCAP of whoever maps that root into a child.
        options += ["--unshare-user", "--uid", "0", "--gid", "0", "--cap-add", "CAP_SETFCAP"]
    options += [word for name in NEEDS for word in ("--cap-add", name)]
    options += _system()
    shown = {folder: folder for folder in _python()}
    shown |= {str(folder): f"{VIEW}/{name}" for name, folder in VISIBLE.items()}
    for source, place in shown.items():
        for parent in reversed(Path(place).parents[:-1]):
            options += ["--dir", str(parent)]  # by itself bubblewrap opens it to its owner alone
        options += ["--ro-bind", source, place]
    if not any(place.startswith("/tmp/") for place in shown.values()):
        options += ["--symlink", SCRATCH, "/tmp"]
    options += ["--proc", "/proc", "--dev", "/dev", "--remount-ro", "/dev"]
    options += ["--size", str(SERVER_SCRATCH), "--tmpfs", SCRATCH, "--remount-ro", "/"]
    return [bwrap, *options, "--chdir", SCRATCH, "--", *program]


def _system() -> list[str]:
    options = []
    for path in _SYSTEM:
        if os.path.islink(path):
            options += ["--symlink", os.readlink(path), path]
        elif os.path.isdir(path):
            options += ["--ro-bind", path, path]
    options += ["--dir", "/etc"]
    for path in _SETTINGS:
        options += ["--ro-bind-try", path, path]
    return options


def _python() -> list[str]:
    """The folders of this interpreter and its packages, but for what /usr has already."""
    folders = {sys.prefix, sys.base_prefix, *packages()}
    folders |= {str(Path(folder).resolve()) for folder in folders}
    needed = sorted(folder for folder in folders if not folder.startswith("/usr/"))
    return [f for f in needed if not any(f.startswith(f"{other}/") for other in needed)]


def packages() -> list[str]:
    """The folders of the installed packages."""
    return list(dict.fromkeys([*site.getsitepackages(), sysconfig.get_path("platlib")]))


def python(statements: str, view: str = VIEW) -> list[str]:
    """A Python that sees the standard library, the packages and `view`, and runs statements."""
    paths = f"import sys; sys.path[:0] = {[view, *packages()]}"
    return [sys.executable, "-I", "-S", "-c", f"{paths}; {statements}"]


@cache
def check(isolation: str) -> None:
    """Try the wall once, with all that a child needs.

    Raises:
        NoWall: it does not stand; the text says why, and the remedy.
        ValueError: no such wall is known.
    """
    if isolation not in ISOLATIONS:
        raise ValueError(f"no wall named {isolation!r}: choose {' or '.join(ISOLATIONS)}")
    if isolation == "none":
        return
    trial = walled(python(f"exec({_TRIAL!r})"))
    try:
        done = subprocess.run(
            trial, capture_output=True, text=True, timeout=TRIAL_LIMIT, stdin=subprocess.DEVNULL
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise NoWall(f"bubblewrap does not run here ({error}); {_OR_NONE}") from None
    if done.returncode == 0:
        return
    said = (done.stderr.strip().splitlines() or ["it says nothing"])[-1]
    raise NoWall(f"bubblewrap makes no sandbox here ({said}): {_remedy(said)}, {_OR_NONE}")


def _remedy(said: str) -> str:
    if "seccomp" in said:
        return "install libseccomp2"
    return (
        "let this user make user namespaces (sysctl kernel.unprivileged_userns_clone=1, "
        "kernel.apparmor_restrict_unprivileged_userns=0, user.max_user_namespaces)"
    )


def describe(isolation: str) -> str:
    """The wall that was found, in a few words."""
    if isolation == "none":
        return "none: a student's code can read this machine's files and reach its network"
    version = subprocess.run([*walled([])[:1], "--version"], capture_output=True, text=True)
    group = Group()
    group.close()
    limits = (
        f"{' and '.join(group.limits)} limited by control groups"
        if group.limits
        else ("limits of each process only, no control group can be made here")
    )
    return f"{version.stdout.strip()}, namespaces, seccomp; {limits}"
