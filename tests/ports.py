"""Nothing in, a port of the loopback that is free, and stays so until its server starts, out."""

import random
import socket

PORTS = range(20_000, 32_768)


def free_port() -> int:
    """One of those that the kernel hands out to nobody: its own begin at 32768.

    A port of the kernel's, looked up and let go, is another process's now and then before the
    server that is to listen on it has started.
    """
    draws = random.SystemRandom()  # the common one is seeded alike in runs beside each other
    while True:
        port = draws.choice(PORTS)
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)) != 0:
                return port
