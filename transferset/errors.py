"""Errors that end a command, each with the exit code that scripts can rely on.

An error says what happened and where (`message`) and what to do about it (`hint`).
"""


class TransfersetError(Exception):
    """Anything that a user can be told in one sentence; `exit_code` is what the command ends with."""

    exit_code = 1

    def __init__(self, message: str, hint: str | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint

    def __str__(self) -> str:
        return self.message


class UsageError(TransfersetError):
    """The command was asked for something that it can't do as asked."""

    exit_code = 2


class DataError(TransfersetError):
    """What was given (images, tables, an index, weights) is missing, damaged or doesn't fit."""

    exit_code = 3


class NumericError(TransfersetError):
    """A computation gave no usable number (NaN, infinity, divergence)."""

    exit_code = 4


class OutOfMemoryError(TransfersetError):
    """The memory of the host or of the device doesn't suffice."""

    exit_code = 5


class OpenFilesError(TransfersetError):
    """No more files can be opened, by this process or on the whole machine; the file is as it was."""

    exit_code = 5


class DiskError(TransfersetError):
    """The disk is full, over quota, read-only or failing."""

    exit_code = 6


class BusyError(TransfersetError):
    """A live process is writing the same directory; the same command works when it is done."""

    exit_code = 75


class InterruptedRun(TransfersetError):
    """The command was stopped before its end and resumes when it is run again."""

    exit_code = 75
