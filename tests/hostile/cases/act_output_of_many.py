# tries: a hundred thousand displays, and a hundred thousand lines
# holds: cut
# kind: hostile
# shows: more output was left out

# %%
from IPython.display import display

for number in range(5_000):
    display(number)
for number in range(100_000):
    print(number)
