"""A kws process on a terminal: what it shows, and keys for it."""

import os
import pty
import re

from conftest import start

CODES = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]")


def on_a_terminal(*arguments, keys=b"", env=None, **options):
    """Run `kws ARGUMENTS` on a terminal on which `keys` are typed at once; return its exit status and what it shows."""
    controller, terminal = pty.openpty()
    environment = {"TERM": "xterm-256color", "COLUMNS": "150", **(env or {})}
    process = start(*arguments, env=environment, stdin=terminal, stdout=terminal, stderr=terminal, **options)
    os.close(terminal)
    os.write(controller, keys)
    text = b""
    while True:
        try:
            chunk = os.read(controller, 65536)
        except OSError:  # how a terminal ends on Linux
            break
        if not chunk:
            break
        text += chunk
    status = process.wait(60)
    os.close(controller)
    return status, CODES.sub("", text.decode())
