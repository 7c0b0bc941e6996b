"""The one exception for faults in what the user gave."""


class InputError(Exception):
    """A file, line, id or setting that the user can mend.

    The message is one line: what is wrong, where (file, line or id), and what to do. The command line prints
    it to standard error and exits with status 2.
    """
