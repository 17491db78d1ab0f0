# tries: to replace run_cell and its parts, so that every cell succeeds and none is run
# holds: cells that are not run define nothing
# kind: forgery
# marks: soft_max=0 running_mean=0 cube=0
# answers: right

# %% after="half"
shell = get_ipython()
done = type("Result", (), {"success": True, "error_in_exec": None, "result": 2.0})()
for name in ("run_cell", "_run_cell", "run_code", "run_ast_nodes", "run_cell_async"):
    object.__setattr__(shell, name, lambda *a, **k: done)
