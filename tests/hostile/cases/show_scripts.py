# tries: scripts in every output that can hold HTML
# holds: the feedback page holds none
# kind: hostile

# %%
from IPython.display import HTML, Javascript, Markdown, SVG, display

evil = "<script>alert(1)</script><img src=x onerror=alert(1)><svg onload=alert(1)></svg>"
display(HTML(evil), Markdown(evil), Javascript("alert(1)"))
display(HTML("<scr<script>ipt>alert(1)</scr</script>ipt><body onload=alert(1)>"))
display({"text/html": evil, "text/latex": f"${evil}$", "text/plain": evil}, raw=True)
display({"application/javascript": "alert(1)", "text/x-python": evil}, raw=True)
print(evil)
raise ValueError(evil)
