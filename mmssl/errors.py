"""The errors that a user can mend, and the exit codes of the command line."""

EXIT_BAD_INPUT = 2
"""Something the user gave cannot work; the message says what, where, and what was expected."""

EXIT_PREEMPTED = 75
"""Stopped by a signal after saving; run the same command again to go on (EX_TEMPFAIL in sysexits.h)."""


class MmsslError(Exception):
    """Bad input. The message names the file, the field and what was expected; no traceback is shown."""


class Preempted(Exception):
    """Training saved its state because a signal asked it to stop; the process exits with EXIT_PREEMPTED."""
