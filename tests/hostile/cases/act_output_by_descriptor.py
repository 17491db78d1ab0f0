# tries: 200 MB by the descriptors of standard output and error, past Python's streams
# holds: dropped
# kind: hostile

# %%
import os

block = b"spam" * 2**18
for _ in range(100):
    os.write(1, block)
    os.write(2, block)
print("written")
