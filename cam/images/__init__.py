"""Image files to (H, W, 3) uint8 RGB arrays."""

from __future__ import annotations

from cam.images.find import Picture, find_pictures
from cam.images.io import read_image, write_image
from cam.images.read import Limits
from cam.images.samples import ReadOptions

__all__ = ["Limits", "Picture", "ReadOptions", "find_pictures", "read_image", "write_image"]
