"""A kws process on a terminal: what it shows, and keys for it."""

import os
import pty
import re

from conftest import start

CODES = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]")


def on_a_terminal(*arguments, answers=(), env=None, **options):
    """Run `kws ARGUMENTS` on a terminal; return its exit status and what it shows.

    answers: [(what is shown, keys)]: each is typed once that is shown, after the answer before.
    """
    controller, terminal = pty.openpty()
    environment = {"TERM": "xterm-256color", "COLUMNS": "150", **(env or {})}
    process = start(*arguments, env=environment, stdin=terminal, stdout=terminal, stderr=terminal, **options)
    os.close(terminal)
    text, answered, left = b"", 0, [*answers]
    while True:
        try:
            chunk = os.read(controller, 65536)
        except OSError:  # how a terminal ends on Linux
            break
        if not chunk:
            break
        text += chunk
        if left and (place := text.find(left[0][0].encode(), answered)) >= 0:
            answered = place + len(left[0][0])
            os.write(controller, left.pop(0)[1].encode())
    status = process.wait(60)
    os.close(controller)
    return status, CODES.sub("", text.decode())
