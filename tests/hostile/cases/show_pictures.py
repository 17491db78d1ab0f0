# tries: pictures that are none: scripts in SVG, entities that explode, endless sizes, broken base64
# holds: each is shown as a picture that can do nothing, or not at all
# kind: hostile

# %%
import base64, struct

svg = '<svg xmlns="http://www.w3.org/2000/svg" onload="alert(1)"><script>alert(1)</script></svg>'
bomb = '<!DOCTYPE x [<!ENTITY a "aaaaaaaaaa">]>'.replace("]>", "".join(
    f'<!ENTITY {chr(98 + n)} "{("&" + chr(97 + n) + ";") * 10}">' for n in range(9)) + "]>")
huge = b"\x89PNG\r\n\x1a\n" + struct.pack(">I4sIIBBBBB", 13, b"IHDR", 65_000, 65_000, 8, 6, 0, 0, 0)
for data in (
    {"image/svg+xml": svg},
    {"image/svg+xml": bomb + '<svg xmlns="http://www.w3.org/2000/svg"><text>&j;</text></svg>'},
    {"image/png": base64.b64encode(huge).decode()},
    {"image/png": "no base64"},
    {"image/png": '" onerror="alert(1)'},
    {"image/jpeg": base64.b64encode(b"<script>alert(1)</script>").decode()},
    {"image/gif": "A" * 3_000_000},
    {'image/"><script>alert(1)</script>': "x"},
):
    display(data, raw=True)
