# tries: to replace the grader's own recorder, shell and cell runner by ones that say all is well
# holds: their answers are outputs at most
# kind: forgery
# answers: wrong

# %%
import sys

notebook = sys.modules["inside.notebook"]
right = {"output_type": "execute_result", "data": {"text/plain": "2.0"}, "execution_count": 1}
notebook.run_cell = lambda shell, source: ([right], False)
notebook.Shell.run_cell = lambda self, *a, **k: None
