"""Pictures from their files to their explanations, a batch at a time."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import TypeAlias

from cam.classifiers import Classifier
from cam.errors import CamError
from cam.explanation import Explanation
from cam.inputs import Picture
from cam.options import Options
from cam.pipeline import explain_images
from cam.reading import Photograph, look_at

Batch: TypeAlias = tuple[Picture, ...]
Outcome: TypeAlias = tuple[Picture, list[Explanation] | CamError]

_AT_ONCE = 2**25  # pixels of photographs that a batch holds before it goes on with them


def explain_pictures(classifier: Classifier, pictures: Iterable[Picture], options: Options) -> Iterator[Outcome]:
    """Read and explain pictures; what goes wrong with one stays with it.

    Args:
        classifier: from `load_classifier` or `wrap`.
        pictures: from `find_pictures`.
        options: which classes are wanted, and what is asked.

    Returns:
        Each picture, in order and stamped, with its explanations or what went wrong with it.

    Raises:
        UsageError: a class that the classifier does not have.

    Example:
        >>> from pathlib import Path, PurePosixPath
        >>> from cam.classifiers import load_classifier
        >>> missing = Picture(Path("a.jpg"), PurePosixPath("a.jpg"))
        >>> ((_, error),) = explain_pictures(load_classifier("digits", device="cpu"), [missing], Options())
        >>> len(str(error))
        39
    """
    for part in _read(pictures, options, options.least_side(classifier.preprocessing)):
        photos = [photo for _, photo in part if isinstance(photo, Photograph)]
        wanted = [options.targets] * len(photos)
        images, sizes = [photo.image for photo in photos], [photo.size for photo in photos]
        results = explain_images(classifier, images, wanted, options.question, sizes)
        for picture, photo in part:
            yield picture, photo if isinstance(photo, CamError) else next(results)


def _read(
    pictures: Iterable[Picture], options: Options, at_least: int | None
) -> Iterator[Sequence[tuple[Picture, Photograph | CamError]]]:
    """Read pictures, and give so many at a time as may be held at once."""
    part: list[tuple[Picture, Photograph | CamError]] = []
    pixels = 0
    for picture in pictures:
        stamped, photo = look_at(picture, options.limits, at_least)
        pixels += photo.image.size // 3 if isinstance(photo, Photograph) else 0
        part.append((stamped, photo))
        if pixels >= _AT_ONCE:
            yield part
            part, pixels = [], 0
    yield part
