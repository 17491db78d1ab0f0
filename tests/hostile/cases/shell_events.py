# tries: events after and before each cell that print marks, redefine tests and rewrite outputs
# holds: what is shown is no mark
# kind: forgery
# answers: wrong

# %%
shell = get_ipython()

def rewrite(*args):
    shell.recorder.outputs[:] = [
        {
            "output_type": "execute_result",
            "data": {"text/plain": "2.0"},
            "metadata": {"autograder": "marks", "marks": 2.0},
        }
    ]

for event in ("pre_execute", "pre_run_cell", "post_execute", "post_run_cell"):
    shell.events.register(event, rewrite)
