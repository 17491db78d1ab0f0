"""One module a notebook: reference solutions, generated from the masters by `autograder build`."""
