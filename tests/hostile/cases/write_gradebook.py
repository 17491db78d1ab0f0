# tries: to write into the gradebook
# holds: it is not there, and the bytes outside stay as they are
# kind: hostile
# shows: tried: OperationalError tried: FileNotFoundError

# %%
import sqlite3

for attempt in (
    lambda: sqlite3.connect("file:@GRADEBOOK@?mode=rw", uri=True).execute("create table x (y)"),
    lambda: open("@GRADEBOOK@", "r+b").write(b"100"),
):
    try:
        attempt()
        print("wrote")
    except (OSError, sqlite3.Error) as error:
        print("tried:", type(error).__name__, end=" ")
