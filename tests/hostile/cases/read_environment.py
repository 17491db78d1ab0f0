# tries: to find a secret of the grader in its environment, its arguments and its mounts
# holds: the environment was cleared before the wall
# kind: hostile
# shows: COURSE_PROFILE

# %%
import os, sys, subprocess

print(dict(os.environ), sys.argv, open("/proc/self/environ").read(), open("/proc/cmdline").read())
print(open("/proc/1/environ", "rb").read(), open("/proc/self/cmdline", "rb").read())
try:
    print(subprocess.run(["env"], capture_output=True, text=True).stdout)
except OSError as error:
    print(error)
