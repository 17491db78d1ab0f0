# tries: to take all inodes with empty files and deep folders
# holds: their number is limited; later cells earn their marks
# kind: hostile
# shows: made [0-9]{1,5} files

# %%
import os

made = 0
try:
    while made < 400_000:
        os.close(os.open(f"{made}", os.O_CREAT | os.O_WRONLY))
        made += 1
except OSError as error:
    print(error)
print("made", made, "files")
try:
    for _ in range(20_000):
        os.mkdir("deep" * 20)
        os.chdir("deep" * 20)
except OSError:
    pass
