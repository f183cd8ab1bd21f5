"""Errors that the user can fix, and notices to the user."""

import errno
import sys

DISK_FAULTS = (
    errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EACCES, errno.EPERM, errno.ENOENT, errno.ENOTDIR, errno.EIO,
    errno.ESTALE,
)  # fmt: skip
PATH_FAULTS = (errno.ENAMETOOLONG, errno.ELOOP, errno.EACCES, errno.EPERM)  # of a path that was given


class KwsError(Exception):
    """An error the user can fix.

    Its message is one line: what is wrong, where, and what to do. The command line prints it to stderr and exits with
    status 2. Every other exception is a defect of kws and keeps its traceback.
    """


class NotResumable(KwsError):
    """A run that cannot be resumed from its checkpoint; a new run has to be started."""


class CannotWrite(KwsError):
    """A disk is full, read-only or gone: what failed for it has no fault of its own and can be done later."""


def notify(line: str) -> None:
    """Print a one-line notice to the user on stderr."""
    print(f"kws: {line}", file=sys.stderr, flush=True)
