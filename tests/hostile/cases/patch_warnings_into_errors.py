# tries: to turn all warnings into errors and all errors into warnings
# holds: costs nothing and gains nothing
# kind: forgery

# %%
import sys, warnings

warnings.simplefilter("error")
sys.excepthook = sys.unraisablehook = lambda *a: None
