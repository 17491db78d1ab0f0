"""One module a notebook: hidden checks, known mistakes and alternative solutions."""
