"""The one exception that speaks to a person."""


class KwsError(Exception):
    """Something that the person at the keyboard can mend.

    Its message is one line: what is wrong, where, and what to do. The command line prints it to stderr
    and exits with status 2; every other exception is a defect of ours and keeps its traceback.
    """
