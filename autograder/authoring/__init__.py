"""From one master to everything that is built: source, release, reference, executed lecture."""

from pathlib import Path

HOME = Path(__file__).resolve().parents[2]  # the repository


class AuthoringError(Exception):
    """What an author can mend; its text is one line with the remedy."""
