# tries: outputs whose MIME types are megabytes long, and structures of endless integers
# holds: what is shown is bounded, whatever part of it is long
# kind: forgery

# %%
get_ipython().recorder.outputs += [
    {"output_type": "display_data", "data": {f"x/{n}" + "y" * 1_000_000: "1"}} for n in range(18)
]

# %%
get_ipython().recorder.outputs += [
    {"output_type": "display_data", "data": {f"x/{n}" + "y" * 1_000_000: "1"}} for n in range(18)
]

# %%
get_ipython().recorder.outputs += [
    {"output_type": "display_data", "data": {"application/json": [10**4000] * 4000}}
]
