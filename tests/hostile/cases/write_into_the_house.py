# tries: to change what later submissions import: the course, torch, the grader's own modules,
#   start-up files, the fork server's folder of settings
# holds: all of it is read-only
# kind: hostile
# shows: wrote \[\]

# %%
import os, site, sys
import IPython, course, matplotlib, torch

inside = sys.modules["inside"]
wrote = []
homes = [os.path.dirname(m.__file__) for m in (course, torch, IPython, inside)]
homes += [os.path.dirname(os.path.dirname(m.__file__)) for m in (course, torch, inside)]
homes += [os.path.dirname(os.__file__), sys.prefix, "/usr/local/bin", "/etc", "/usr/bin", "/"]
homes += [os.environ.get(key, "/") for key in ("MPLCONFIGDIR", "IPYTHONDIR")]
for home in homes:
    for name in ("sitecustomize.py", "usercustomize.py", "matplotlibrc", "evil.pth"):
        try:
            with open(os.path.join(home, name), "a") as file:
                file.write("\n")
            if not home.startswith(os.environ["HOME"]):
                wrote.append(os.path.join(home, name))
        except OSError:
            pass
for module in (course, torch, inside):
    try:
        os.chmod(module.__file__, 0o666)
        open(module.__file__, "a").write("\n")
        wrote.append(module.__file__)
    except OSError:
        pass
print("wrote", wrote)
