# tries: to leave a process behind: forked twice, a session of its own, deaf to signals
# holds: nothing of it is alive when the notebook is judged
# kind: hostile
# shows: left

# %%
import os, signal, time

if os.fork() == 0:
    os.setsid()
    if os.fork() == 0:
        for number in (1, 2, 3, 13, 15):
            signal.signal(number, signal.SIG_IGN)
        end = time.monotonic() + 60
        while time.monotonic() < end:
            try:
                open("@MARKER@", "a").write("still here")
            except OSError:
                pass
            time.sleep(0.05)
    os._exit(0)
print("left")
