# tries: to break the shell for good: no transformer manager, no hooks, a run_cell that raises
# holds: what was defined before earns its marks, what cannot be run any more earns none
# kind: forgery
# marks: soft_max=0 running_mean=0 cube=0

# %% after="half"
def broken(*a, **k):
    raise SystemExit("broken")

object.__setattr__(get_ipython(), "run_cell", broken)
