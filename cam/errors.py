"""What can go wrong, as one tree: every error says what was found and what to do about it."""

from __future__ import annotations


class CamError(Exception):
    """Base of every error this package raises for something the caller can mend.

    Args:
        found: what was found, holding the caller's own value, without a full stop.
        remedy: what to do, without a full stop.

    Example:
        >>> str(ImageError("'cat.jpg' is empty", "Copy the file again"))
        "'cat.jpg' is empty. Copy the file again."
    """

    def __init__(self, found: str, remedy: str) -> None:
        super().__init__(f"{found}. {remedy}.")
        self.found = found
        self.remedy = remedy


class UsageError(CamError):
    """An argument that cannot be right, whatever the pictures and the model are."""


class ImageError(CamError):
    """A file that cannot be read as a picture."""


class TransientError(CamError):
    """What another try may not meet: the system was at fault or busy, not what was given."""


class TransientImageError(ImageError, TransientError):
    """A picture that could not be read this time."""


class WeightsError(CamError):
    """A checkpoint that cannot be read, trusted or fitted to the network."""


class ModelError(CamError):
    """A model that cannot be found, built or run."""


class HeadError(ModelError):
    """A network whose class scores are not an average over places, so that it has no exact map."""


class OutOfMemoryError(ModelError, TransientError):
    """A picture for which there was no room in the memory."""


class OutputError(TransientError):
    """A result that cannot be written."""


class DiskFullError(OutputError):
    """No more results can be written: the disk is full, gone or read-only."""


class StoppedError(CamError):
    """A run that was to stop at the first picture that fails."""
