# tries: exceptions and names whose words are surrogates, terminal escapes and markup
# holds: the judged notebook can be written and its page shows them as text
# kind: forgery
# marks: half=0 cube=0
# never: \x1b\]0;

# %%
display({"application/json": {"\ud800": ["\udfff"]}, "text/plain": "\ud83d"}, raw=True)
raise ValueError("\ud800\x1b]0;owned\x07<script>alert(1)</script>")

# %% exercise="half"
def half(x):
    raise ValueError("\ud800\udfff\x1b]0;owned\x07\x00<script>alert(1)</script>")

# %% exercise="cube"
def cube(x):
    return type("<script>alert(1)</script>", (), {})()
