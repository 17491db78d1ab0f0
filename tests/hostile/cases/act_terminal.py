# tries: to type into the terminal of whoever grades
# holds: there is no terminal
# kind: hostile
# shows: got \[\]

# %%
import fcntl, os, termios

got = []
for fd in range(64):
    try:
        fcntl.ioctl(fd, termios.TIOCSTI, b"x")
        got.append(fd)
    except OSError:
        pass
try:
    got.append(os.open("/dev/tty", os.O_RDWR))
except OSError:
    pass
print("got", got)
