"""An IPython kernel whose Python reaches no network, not even this machine's own.

zmq opens its sockets in C, so the kernel still talks to its client; an audit hook cannot be taken
away again, and sees `_socket` and everything that is built on it.
"""

import errno
import sys

NAMES = {"socket.getaddrinfo", "socket.gethostbyaddr", "socket.gethostbyname", "socket.getnameinfo"}
ADDRESSES = {"socket.connect", "socket.sendmsg", "socket.sendto"}


def refuse(event: str, args: tuple[object, ...]) -> None:
    """Raise OSError where Python looks up a name or sends to an address that is not a file's."""
    if event in NAMES or (event in ADDRESSES and isinstance(args[1], tuple)):
        raise OSError(errno.ENETUNREACH, "the network is blocked in this test")


if __name__ == "__main__":
    sys.addaudithook(refuse)
    from ipykernel.kernelapp import launch_new_instance

    launch_new_instance()
