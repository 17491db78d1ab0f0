# tries: links that run code, forms, frames, styles and pictures that tell who looks
# holds: nothing is loaded, sent or run
# kind: hostile

# %%
from IPython.display import HTML, IFrame, Markdown, display

for html in (
    "<a href='javascript:alert(1)'>x</a><a href='JaVa&#09;Script:alert(1)'>x</a>",
    "<a href='data:text/html,<script>alert(1)</script>'>x</a><a href=vbscript:x>x</a>",
    "<form action='http://127.0.0.1:@PORT@'><input name=x autofocus onfocus=alert(1)></form>",
    "<iframe src='http://127.0.0.1:@PORT@'></iframe><object data='x.swf'></object><embed src=x>",
    "<img src='http://127.0.0.1:@PORT@/seen.png'><link rel=stylesheet href='http://127.0.0.1'>",
    "<style>@import 'http://127.0.0.1:@PORT@'; body { display: none }</style>",
    "<meta http-equiv=refresh content='0;url=http://127.0.0.1:@PORT@'><base href='http://x'>",
    "<div style='background: url(http://127.0.0.1:@PORT@)' class='verdict passed'>2 of 2</div>",
    "</div></main></body></html><script>alert(1)</script><!-- ",
):
    display(HTML(html), Markdown(html), Markdown(f"[x]({html.split(chr(39))[1:2]})"))
display(Markdown("[x](javascript:alert(1)) ![x](http://127.0.0.1:@PORT@/x.png) <javascript:alert(1)>"))
display(IFrame("http://127.0.0.1:@PORT@", 1, 1))
