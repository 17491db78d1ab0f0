# tries: to find the autograder, references, notebooks and gradebooks anywhere on the disk
# holds: none of them is in sight
# kind: hostile
# shows: walked [0-9]+ folders, found \[\]

# %%
import os, time

wanted = {"exercises", "reference", "submitted", "autograded", "gradebook.db", "release", "source"}
found, folders, end = [], 0, time.monotonic() + 0.6
for folder, names, files in os.walk("/"):
    folders += 1
    names[:] = [n for n in names if n not in ("site-packages", "usr", "proc", "python3.11")]
    if "autograder" in folder or wanted & {*names, *files}:
        found.append((folder, names, files))
    if time.monotonic() > end:
        break
print("walked", folders, "folders, found", found)
