"""The wall around the fork server: one seam, through which its command line passes."""

from collections.abc import Sequence

ISOLATIONS = ("none",)


def walled(command: Sequence[str], isolation: str) -> list[str]:
    """The command that runs `command` behind the wall.

    Args:
        command: the fork server's command line.
        isolation: the wall's name; `none` puts nothing around it.

    Raises:
        ValueError: no such wall is known.
    """
    if isolation not in ISOLATIONS:
        raise ValueError(f"no wall named {isolation!r}: choose {', '.join(ISOLATIONS)}")
    return list(command)
