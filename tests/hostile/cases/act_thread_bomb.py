# tries: to start threads without end
# holds: their number is limited; the rest earns its marks
# kind: hostile

# %%
import threading, time

started = 0
try:
    while started < 50_000:
        threading.Thread(target=time.sleep, args=(1000,), daemon=True).start()
        started += 1
except RuntimeError as error:
    print("tried:", started, error)
