"""Archives made member by member, and what is read from them."""

from __future__ import annotations

import io
import tarfile
import zipfile
from pathlib import Path

import numpy as np
import pytest

from cam.errors import ImageError
from cam.images.find import Picture, find_pictures
from cam.images.io import encode
from cam.images.read import Limits, read_picture


def picture(value: int, side: int = 3) -> bytes:
    return encode(np.full((side, side, 3), value, np.uint8), ".png")


def make_tar(path: Path, *members: tuple[str | tarfile.TarInfo, bytes], **options: object) -> Path:
    with tarfile.open(path, "w", **options) as archive:  # type: ignore[call-overload]
        for name, data in members:
            entry = tarfile.TarInfo(name) if isinstance(name, str) else name
            entry.size = len(data)
            archive.addfile(entry, io.BytesIO(data))
    return path


def make_zip(path: Path, *members: tuple[str | zipfile.ZipInfo, bytes], method: int = zipfile.ZIP_DEFLATED) -> Path:
    with zipfile.ZipFile(path, "w", method) as archive:
        for name, data in members:
            archive.writestr(name, data, method)
    return path


def read(found: Picture, **limits: int) -> np.ndarray:
    return read_picture(found, Limits(**limits)).image


def refused(found: Picture, saying: str, **limits: int) -> None:
    with pytest.raises(ImageError, match=saying) as caught:
        read(found, **limits)
    assert repr(str(found.path)) in str(caught.value)


def only(path: Path) -> Picture:
    (found,) = find_pictures([path])
    return found
