# tries: to read another student's notebook and to list the class
# holds: neither the notebook nor the folders above it are there
# kind: hostile
# shows: tried: FileNotFoundError tried: FileNotFoundError

# %%
import os

for look in (open, os.listdir):
    try:
        path = "@OTHER@"
        print(look(path if look is open else os.path.dirname(path)))
    except OSError as error:
        print("tried:", type(error).__name__, end=" ")
