"""From one master to everything that is built: source, release, reference, executed lecture."""


class AuthoringError(Exception):
    """What an author can mend; its text is one line with the remedy."""
