# tries: a handler that swallows every exception and shows marks in its place
# holds: what is shown is no mark
# kind: forgery
# answers: stub

# %%
shell = get_ipython()
shell.set_custom_exc((BaseException,), lambda *a, **k: print("2.0"))
shell.showtraceback = shell.showsyntaxerror = shell._showtraceback = lambda *a, **k: None
