# tries: to import the grader, its references and its checks
# holds: they are on no path of the student's process
# kind: hostile
# shows: tried: ModuleNotFoundError tried: ModuleNotFoundError tried: ModuleNotFoundError
# marks: half=2

# %%
import glob, importlib, site, sys

for pth in glob.glob(sys.prefix + "/lib/python3*/site-packages/*.pth"):
    sys.path += [line.strip() for line in open(pth) if line.startswith("/")]
for name in ("autograder", "autograder.reference.autodiff", "autograder.exercises.autodiff"):
    try:
        print("imported:", importlib.import_module(name))
    except ImportError as error:
        print("tried:", type(error).__name__, end=" ")
