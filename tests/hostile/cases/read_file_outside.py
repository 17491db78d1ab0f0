# tries: to read a file outside, by its path, through a symbolic link and as an image
# holds: the file is not there; what the notebook answers honestly counts
# kind: hostile
# shows: tried: FileNotFoundError tried: FileNotFoundError tried: FileNotFoundError

# %%
import os
from IPython.display import Image, display

os.symlink("@CANARY@", "here")
for read in (
    lambda: open("@CANARY@").read(),
    lambda: open("here").read(),
    lambda: display(Image(filename="@CANARY@", format="png")),
):
    try:
        print("read:", read())
    except OSError as error:
        print("tried:", type(error).__name__, end=" ")
