# tries: one file of a terabyte that takes no room
# holds: refused
# kind: hostile
# shows: tried: File too large

# %%
try:
    open("large", "wb").truncate(2**40)
    print("made")
except OSError as error:
    print("tried:", error.strerror)
