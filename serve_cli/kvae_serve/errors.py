"""Errors of kvae, one class per exit code of the command.

The library raises an error. The command prints its message in one line and ends with `exit_code`. A message states the
problem, the expected value, and the next step. It consists of printable characters, 1,000 at most; 3,000 if it lists
problems of input data.

* KvaeError (1)
  - RequestError (2)
  - MissingExtraError (3)
  - InputDataError (4)
  - ModelFileError (5)
  - VerificationError (6)
  - OutputError (7)
  - WorkerLostError (8)
"""


class KvaeError(Exception):
    """Base class of all errors that kvae raises on purpose.

    Example:
        >>> try:
        ...     kvae.data.load("missing.npz")
        ... except kvae.errors.KvaeError as error:
        ...     error.exit_code
        4
    """

    exit_code = 1
    max_length = 993  # 1,000 with the "Error: " of the command

    def __init__(self, message: object = "") -> None:
        # The message may contain text from a stranger's file.
        super().__init__(printable(message, self.max_length))


class RequestError(KvaeError, ValueError):
    """A request is wrong: bad usage, an unknown label, an unknown suffix.

    Example:
        >>> try:
        ...     kvae.load("mnist").sample(1, label="eleven")
        ... except kvae.errors.RequestError as error:
        ...     error.exit_code
        2
    """

    exit_code = 2


class MissingExtraError(KvaeError, ImportError):
    """A package of an optional extra is not installed.

    Example:
        >>> issubclass(kvae.errors.MissingExtraError, ImportError), kvae.errors.MissingExtraError.exit_code
        (True, 3)
    """

    exit_code = 3


class InputDataError(KvaeError, ValueError):
    """Input data is missing, damaged or out of range.

    Example:
        >>> try:
        ...     kvae.data.load("missing.npz")
        ... except kvae.errors.InputDataError as error:
        ...     error.exit_code
        4
    """

    exit_code = 4
    max_length = 2993


class ModelFileError(KvaeError, ValueError):
    """A model file is missing, damaged, unsafe, or contradicts its manifest.

    Example:
        >>> try:
        ...     kvae.load("missing-model")
        ... except kvae.errors.ModelFileError as error:
        ...     error.exit_code
        5
    """

    exit_code = 5
    max_length = 193


class VerificationError(KvaeError):
    """A check failed: golden values, parity with Keras, or a quality gate.

    Example:
        >>> kvae.errors.VerificationError.exit_code
        6
    """

    exit_code = 6


class OutputError(KvaeError, OSError):
    """An output exists already or cannot be written.

    Example:
        >>> draws = kvae.load("mnist").sample(1, label="3", seed=0)
        >>> draws.save("three.png")
        >>> try:
        ...     draws.save("three.png")
        ... except kvae.errors.OutputError as error:
        ...     error.exit_code
        7
    """

    exit_code = 7


class WorkerLostError(KvaeError):
    """A worker of a distributed run was lost or never connected.

    Example:
        >>> kvae.errors.WorkerLostError.exit_code
        8
    """

    exit_code = 8


def printable(value: object, limit: int = 100) -> str:
    r"""Return `value` as a short line of printable characters that fits in a message.

    File names and texts from model files may contain line ends, escape sequences or bytes that are not UTF-8. A long
    value is shortened in the middle, because a path ends with the file name.

    Example:
        >>> kvae.errors.printable("a name\nof two lines", 12)
        'a nam… lines'
    """
    full = str(value)
    # Only the parts that can be shown are converted.
    text = full if len(full) <= 2 * limit else full[:limit] + full[-limit:]
    text = "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)
    if len(text) <= limit and len(full) <= 2 * limit:
        return text
    end = limit // 2
    return text[: limit - 1 - end] + "…" + text[len(text) - end :]
