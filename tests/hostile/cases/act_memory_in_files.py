# tries: to take memory that no address space counts: anonymous files, never mapped
# holds: refused or limited
# kind: hostile
# never: hoarded

# %%
import os

block, total, files = b"x" * 2**20, 0, []
try:
    while total < 16_000:
        files.append(os.memfd_create(str(total)))
        for _ in range(60):
            total += os.write(files[-1], block) >> 20
    print("hoarded", total, "MB")
except OSError as error:
    print("tried:", total, "MB,", error)
