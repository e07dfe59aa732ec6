"""Make archives member by member, and read images from them."""

from __future__ import annotations

import io
import tarfile
import zipfile
from pathlib import Path

import numpy as np
import pytest

from cam.errors import ImageError
from cam.images import Limits, Picture, find_pictures
from cam.images.io import encode
from cam.images.read import read_picture


def png(value: int, side: int = 3) -> bytes:
    return encode(np.full((side, side, 3), value, np.uint8), ".png")


def make_tar(path: Path, *members: tuple[str | tarfile.TarInfo, bytes]) -> Path:
    with tarfile.open(path, "w") as archive:
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


def read(picture: Picture, **limits: int) -> np.ndarray:
    return read_picture(picture, Limits(**limits)).image


def first_value(picture: Picture) -> int:
    return int(read(picture)[0, 0, 0])


def check_refused(picture: Picture, message: str, **limits: int) -> None:
    with pytest.raises(ImageError, match=message) as caught:
        read(picture, **limits)
    assert repr(str(picture.path)) in str(caught.value)


def find_one(path: Path) -> Picture:
    (picture,) = find_pictures([path])
    return picture
