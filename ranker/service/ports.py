"""A port that cannot be had in, an error that says what to do out."""

import errno
import socket


class PortInUseError(ValueError):
    """Another process listens there already."""

    def __init__(self, *, host: str, port: int, setting: str) -> None:
        super().__init__(
            f"port {port} on {host} is taken: stop the other process or set {setting}; "
            "0 picks a free one"
        )


def why_not(host: str, port: int, *, setting: str) -> ValueError:
    """What the operating system says of a port that could not be had."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        socket.create_server((host, port), family=family).close()
    except OSError as error:
        return refusal(error, host=host, port=port, setting=setting)
    return PortInUseError(host=host, port=port, setting=setting)  # taken a moment ago


def refusal(error: OSError, *, host: str, port: int, setting: str) -> ValueError:
    """What to do about an error of listening; `setting` is the name of the port's."""
    if error.errno == errno.EADDRINUSE:
        return PortInUseError(host=host, port=port, setting=setting)
    return ValueError(
        f"cannot listen on {address(host, port)} ({error.strerror or error}): set "
        f"{setting.replace('port', 'host')} to an address of this machine, such as 127.0.0.1, "
        f"and {setting} to a port that this process may have"
    )


def address(host: str, port: int) -> str:
    """What a client connects to."""
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
