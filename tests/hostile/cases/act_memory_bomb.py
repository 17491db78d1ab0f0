# tries: to take all memory in one process
# holds: memory is limited; the cell fails or the process ends, the rest earns its marks
# kind: hostile

# %%
hoard = []
for _ in range(1000):
    hoard.append(bytearray(b"x") * 2**26)
print("hoarded 64 GB")
