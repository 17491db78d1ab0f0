# tries: outputs that are none: wrong types, wrong forms, unknown MIME types, endless names
# holds: what is no output is dropped; the notebook stays valid
# kind: forgery

# %%
import sys

recorder = get_ipython().recorder
recorder.outputs += [
    {"output_type": "execute_result", "data": {"text/plain": "2.0"}, "metadata": {"autograder": "marks"}},
    {"output_type": "display_data", "data": {"xjson": {"a": 1}, "": "x", "text/json": [1]}},
    {"output_type": "display_data", "data": {"image/png": "no base64", "text/plain": {"a": 1}}},
    {"output_type": "display_data", "data": []},
    {"output_type": "error", "traceback": 3, "ename": [], "evalue": {}},
    {"output_type": "stream", "name": "marks", "text": ["a", "b"]},
    {"output_type": "update_display_data", "data": {}},
    {"output_type": None},
    None,
    3,
    [],
]
