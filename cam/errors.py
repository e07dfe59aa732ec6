"""The errors of this package: each says what is wrong and what to do about it."""

from __future__ import annotations

import re

# One slash is left where an address was taken for a path. Secrets of S3 may have a slash in them. The lengths are
# limited, so that the time does not grow with the square of the text's.
_PASSWORD = re.compile(
    r"""(s3a?:/{1,2}[^/@:\s]{0,500}:)[^@\s"']{1,4000}@|([a-z][\w+.-]{1,50}:/{1,2}[^/@:\s]{0,500}:)[^/@\s"']{1,4000}@""",
    re.IGNORECASE,
)


def hide_passwords(text: str) -> str:
    """Replace the passwords of addresses by ***.

    Example:
        >>> hide_passwords("'ftp://me:secret@host/a.jpg' does not exist")
        "'ftp://me:***@host/a.jpg' does not exist"
    """
    return _PASSWORD.sub(lambda match: f"{match[1] or match[2]}***@", text)


class CamError(Exception):
    """Base of every error that the caller can fix; passwords in addresses are hidden.

    Args:
        problem: what is wrong, with the caller's own value, without a full stop.
        remedy: what to do, without a full stop.
        example: lines of code to begin with, if any.

    Example:
        >>> str(ImageError("'cat.jpg' is empty", "Copy the file again"))
        "'cat.jpg' is empty. Copy the file again."
    """

    def __init__(self, problem: str, remedy: str, example: str = "") -> None:
        problem, remedy = hide_passwords(problem), hide_passwords(remedy)
        super().__init__("\n".join(filter(None, [f"{problem}. {remedy}.", example])))
        self.problem, self.remedy, self.example = problem, remedy, example

    def __reduce__(self) -> tuple[type[CamError], tuple[str, str, str]]:  # other exceptions are pickled with `args`
        return type(self), (self.problem, self.remedy, self.example)


class UsageError(CamError, ValueError):
    """An argument is wrong, whatever the images and the model are."""


class ImageError(CamError, OSError):
    """A file cannot be read as an image."""


class WeightsError(CamError):
    """A checkpoint cannot be read, is not trusted, or does not fit the network."""


class ModelError(CamError):
    """A model cannot be found, built or run."""


class HeadError(ModelError):
    """A network has no exact map where one is wanted, or no features from which its class scores follow."""


class OutOfMemoryError(ModelError):
    """Out of memory for an image."""


class OutputError(CamError):
    """A result cannot be written."""


class DiskFullError(OutputError):
    """No more results can be written: the disk is full, gone or read-only."""


class StoppedError(CamError):
    """A run stopped at the first image that failed, as requested."""


def reason_of(error: BaseException) -> str:
    """Return what the operating system says, else the first line of the message, else the type of an error."""
    return getattr(error, "strerror", None) or str(error).partition("\n")[0].rstrip(".") or type(error).__name__
