"""What can go wrong, one class for each exit code of the command.

The library raises; the command prints one line and leaves with `exit_code`. A message says
what was found, what was expected and what to do next.
"""


class KvaeError(Exception):
    """Base of all errors that kvae raises on purpose."""

    exit_code = 1


class RequestError(KvaeError, ValueError):
    """The request makes no sense: wrong usage, an unknown label or suffix."""

    exit_code = 2


class MissingExtraError(KvaeError, ImportError):
    """A package of an optional extra is not installed."""

    exit_code = 3


class InputDataError(KvaeError, ValueError):
    """Input data is missing or bad."""

    exit_code = 4


class ModelFileError(KvaeError, ValueError):
    """A model file is missing, damaged, unsafe or not what its manifest says."""

    exit_code = 5


class VerificationError(KvaeError):
    """Golden values, parity or a quality gate failed."""

    exit_code = 6


class OutputError(KvaeError, OSError):
    """The output exists already or cannot be written."""

    exit_code = 7


class WorkerLostError(KvaeError):
    """One of several processes that train together is gone, or never came."""

    exit_code = 8


def printable(value: object, limit: int = 100) -> str:
    """Return `value` as one short line of printable characters.

    Names of files and texts from model files may hold line ends, escape sequences or bytes that
    are no UTF-8: what a message quotes goes through here. What is too long is cut out of the middle: the end of a path
    is its name.
    """
    whole = str(value)
    # No more is looked at than can be shown.
    text = whole if len(whole) <= 2 * limit else whole[:limit] + whole[-limit:]
    text = "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)
    if len(text) <= limit and len(whole) <= 2 * limit:
        return text
    end = limit // 2
    return text[: limit - 1 - end] + "…" + text[len(text) - end :]
