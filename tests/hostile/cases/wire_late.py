# tries: to answer when the time is over, on the interrupt
# holds: too late is no answer
# kind: forgery
# marks: half=0

# %% exercise="half"
import time

def half(x):
    try:
        time.sleep(1000)
    except BaseException:
        return x / 2
