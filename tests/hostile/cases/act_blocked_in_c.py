# tries: a loop inside of C, where no interrupt of Python's is looked at
# holds: the process is killed; the cell costs itself
# kind: hostile

# %%
import re

re.match(r"(a*)*(a*)*(a*)*b", "a" * 40)
