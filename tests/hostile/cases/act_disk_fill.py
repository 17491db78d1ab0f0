# tries: to fill the scratch folder, then to go on
# holds: the folder is limited; later cells earn their marks
# kind: hostile
# shows: filled [0-9]{1,3} MB

# %%
import os

block, total = b"x" * 2**20, 0
try:
    for number in range(4096):
        with open(f"fill{number}", "wb") as file:
            for _ in range(60):
                total += file.write(block) >> 20
except OSError as error:
    print(error)
print("filled", total, "MB")
