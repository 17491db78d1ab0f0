# tries: escape sequences, carriage returns and direction marks, to rewrite what an instructor reads
# holds: they are text, in the page and in the notebook
# kind: hostile

# %%
print("\x1b[2J\x1b[H\x1b]0;owned\x07\x1b]8;;http://127.0.0.1\x07x\x1b]8;;\x07", end="")
print("\u202e2.0 fo 2.0\u202c\rmarks: 2.0\x08\x08\x08\x00\x85\u2028")
raise ValueError("\x1b[2K\r2.0 of 2.0")
