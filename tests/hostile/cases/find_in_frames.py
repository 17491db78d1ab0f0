# tries: to find the checks in the frames below its function, and to return in their place
# holds: below it there is the probe only; the judge's frames are in another process
# kind: forgery
# answers: wrong
# never: randn|torch\.softmax\(x

# %%
seen = []

# %% exercise="half"
import inspect, sys

def half(x):
    frame = sys._getframe()
    while frame:
        seen.append((frame.f_code.co_filename, frame.f_code.co_name, sorted(frame.f_globals)))
        for name, value in list(frame.f_locals.items()):
            if isinstance(value, dict) and "marks" in value:
                value["marks"] = 2.0
        try:
            seen.append(inspect.getsource(frame.f_code))
        except (OSError, TypeError):
            pass
        frame = frame.f_back

# %% after="cube"
print(seen)
