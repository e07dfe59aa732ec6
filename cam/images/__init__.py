"""Image files to (H, W, 3) uint8 RGB arrays."""

from __future__ import annotations

from cam.images.find import Picture, find_pictures
from cam.images.io import read_image, resize, write_image
from cam.images.read import Limits, LoadedImage, read_picture
from cam.images.tables import read_list

__all__ = [
    "Limits",
    "LoadedImage",
    "Picture",
    "find_pictures",
    "read_image",
    "read_list",
    "read_picture",
    "resize",
    "write_image",
]
