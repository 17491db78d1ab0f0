# tries: to take memory of the kernel's: many pipes of a megabyte each, all full
# holds: limited
# kind: hostile
# never: hoarded [0-9]{4}

# %%
import fcntl, os

total = 0
try:
    while total < 2000:
        end, start = os.pipe()
        os.set_blocking(start, False)
        try:
            fcntl.fcntl(start, 1031, 2**20)  # F_SETPIPE_SZ
        except OSError:
            pass
        total += os.write(start, b"x" * 2**20) / 2**20
except OSError as error:
    print("tried:", error)
print("hoarded", int(total))
