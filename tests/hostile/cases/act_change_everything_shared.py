# tries: to change folder, umask, limits, priorities, locale and working files, then to go on
# holds: later cells earn their marks
# kind: hostile

# %%
import locale, os, resource, shutil, sys

shutil.rmtree(os.environ["HOME"], ignore_errors=True)
os.chdir("/")
os.umask(0o777)
os.environ.clear()
sys.path.clear()
sys.stdout = sys.stderr = sys.stdin = None
os.nice(19)
for limit in (resource.RLIMIT_NOFILE, resource.RLIMIT_CPU):
    try:
        resource.setrlimit(limit, (64, 1000))
    except (OSError, ValueError):
        pass
try:
    resource.setrlimit(resource.RLIMIT_AS, (-1, -1))
except (OSError, ValueError):
    pass
