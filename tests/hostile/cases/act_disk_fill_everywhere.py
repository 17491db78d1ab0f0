# tries: to fill every folder that can be written, shared memory and /dev among them
# holds: together they are limited
# kind: hostile
# shows: filled [0-9]{1,3} MB

# %%
import os

block, total, places = b"x" * (63 * 2**20), 0, []
tops = ["/", "/tmp", "/var/tmp", "/dev", "/dev/shm", "/dev/mqueue", "/run", "/run/lock", "/proc"]
tops += [os.environ["HOME"], os.getcwd(), os.environ.get("TMPDIR", "/"), "/run/user/0"]
for top in sorted({os.path.realpath(top) for top in tops}):
    try:
        for number in range(20):
            file = os.open(f"{top}/fill{number}", os.O_CREAT | os.O_WRONLY)
            places.append(top)
            written = os.write(file, block) >> 20
            os.close(file)
            total += written
            if written < 63:
                break
    except OSError:
        pass
print("filled", total, "MB", sorted(set(places)))
