# tries: to swallow the interrupt for ever
# holds: the process is killed; the cell costs itself
# kind: hostile

# %%
while True:
    try:
        while True:
            pass
    except BaseException:
        pass
