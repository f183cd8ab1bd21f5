"""Errors that the user can fix, and notices to the user."""

import sys


class KwsError(Exception):
    """Something that the person at the keyboard can mend.

    Its message is one line: what is wrong, where, and what to do. The command line prints it to stderr
    and exits with status 2; every other exception is a defect of ours and keeps its traceback.
    """


class NotResumable(KwsError):
    """A run whose checkpoint cannot be taken up again: what it was to do can only be begun anew, as another run."""


def notify(line):
    """Say one line to a person, on stderr."""
    print(f"kws: {line}", file=sys.stderr, flush=True)
