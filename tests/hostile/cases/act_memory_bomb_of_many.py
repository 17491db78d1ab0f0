# tries: to take all memory by many processes, none of which takes much
# holds: the processes together are limited; the rest earns its marks
# kind: hostile
# never: hoarded

# %%
import os, time

for _ in range(60):
    try:
        if os.fork() == 0:
            hoard = [bytearray(b"x") * 2**26 for _ in range(12)]
            time.sleep(1000)
    except OSError:
        break
time.sleep(1000)
print("hoarded 45 GB")
