# tries: to ignore or block every signal, and to sleep
# holds: the process is killed; the cell costs itself
# kind: hostile

# %%
import signal, time

for number in range(1, 65):
    try:
        signal.signal(number, signal.SIG_IGN)
    except (OSError, ValueError):
        pass
signal.pthread_sigmask(signal.SIG_BLOCK, range(1, 65))
while True:
    time.sleep(1000)
