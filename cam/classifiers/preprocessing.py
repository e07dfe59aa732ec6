"""From a photograph to the network's input, the way the model was evaluated."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn.functional import interpolate

from cam.errors import UsageError
from cam.images.io import resize
from cam.maps.geometry import Frame, Size, fit_crop, fit_whole
from cam.tensors import put

Fit = Literal["crop", "whole"]

_LARGEST = 2**24  # pixels of a resized picture

_AVERAGING = ("bilinear", "bicubic")  # those that torch has for bytes, with antialiasing

_LUMINANCE = np.array([0.299, 0.587, 0.114], np.float32)


@dataclass(frozen=True)
class Preprocessing:
    """What a model does to a photograph before it looks; ImageNet's figures by default.

    Attributes:
        resize: shorter side after resizing, pixels.
        crop: (H, W) of the center that `crop` keeps: the model's own input size.
        mean: of each channel, of values in [0, 1]; one number makes the input gray.
        std: likewise.
        interpolation: of the resizing, "bilinear", "bicubic" or "nearest".
        fit: how the model looks unless it is told otherwise.
    """

    resize: int = 224
    crop: Size = (224, 224)
    mean: tuple[float, ...] = (0.485, 0.456, 0.406)
    std: tuple[float, ...] = (0.229, 0.224, 0.225)
    interpolation: str = "bilinear"
    fit: Fit = "crop"

    def __post_init__(self) -> None:
        if len(self.mean) != len(self.std) or len(self.mean) not in (1, 3):
            raise UsageError(
                f"A mean {self.mean} and a standard deviation {self.std} do not go together",
                "Give three numbers of each (red, green, blue), or one of each for gray pictures",
            )
        if not all(0 < std < math.inf for std in self.std):
            raise UsageError(f"A standard deviation of {self.std} cannot be divided by", "Give numbers above 0")
        if not all(map(math.isfinite, self.mean)):
            raise UsageError(f"A mean of {self.mean} cannot be taken away", "Give finite numbers")
        if min(self.resize, *self.crop) < 1:
            raise UsageError(f"An input of {min(self.resize, *self.crop)} pixels is empty", "Give 1 or more")

    @property
    def input_shape(self) -> tuple[int, int, int]:
        """(channels, H, W) of the model's own input."""
        return len(self.mean), *self.crop

    def scaled(self, factor: float) -> Preprocessing:
        """Look at the same part of the photograph with more pixels, or fewer.

        Example:
            >>> Preprocessing(256, (224, 224)).scaled(2).crop
            (448, 448)
        """
        height, width = (max(1, round(side * factor)) for side in self.crop)
        return replace(self, resize=max(1, round(self.resize * factor)), crop=(height, width))

    def with_input_size(self, size: Size) -> Preprocessing:
        """Look at pictures of (H, W) pixels as they are, neither resized nor cropped.

        Example:
            >>> Preprocessing(256, (224, 224)).with_input_size((32, 48)).frame((32, 48)).input
            (32, 48)
        """
        return replace(self, resize=min(size), crop=size, fit="crop")

    def frame(self, photo: Size, fit: Fit | None = None) -> Frame:
        """Say where the input lies in a photograph of (H, W) pixels.

        Example:
            >>> Preprocessing(256, (224, 224)).frame((480, 640), "whole").input
            (256, 341)
        """
        if (fit or self.fit) == "whole":
            return fit_whole(photo, self.resize)
        return fit_crop(photo, self.resize, self.crop)

    def prepare(
        self, image: NDArray[np.uint8], fit: Fit | None = None, photo: Size | None = None
    ) -> tuple[Tensor, Frame]:
        """Make the network's input of a photograph: to 1e-5 what torchvision's transforms make of it as a tensor.

        Of a Pillow picture they make one that differs by at most 2 of 255, in 1 of 300 values of photographs, and that
        takes ten times as long. Pillow resizes here, too, where the interpolation is "nearest", and where over 16
        million pixels would have to be resized.

        Args:
            image: as for `resize_and_crop`.
            fit: as for `resize_and_crop`.
            photo: as for `resize_and_crop`.

        Returns:
            (channels, H, W) float32, normalized, and where it lies in the photograph.

        Example:
            >>> tensor, frame = Preprocessing(256, (224, 224)).prepare(np.zeros((480, 640, 3), np.uint8))
            >>> tensor.shape, frame.offset
            (torch.Size([3, 224, 224]), (16, 58))
        """
        pixels, frame = self.resize_and_crop(image, fit, photo)
        return self.normalize(put(pixels[None], torch.device("cpu")))[0].contiguous(), frame

    def resize_and_crop(
        self, image: NDArray[np.uint8], fit: Fit | None = None, photo: Size | None = None
    ) -> tuple[NDArray[np.uint8], Frame]:
        """Resize a photograph and cut out what the network is to see.

        Args:
            image: (H, W, 3) uint8 RGB, upright.
            fit: the center crop that the model was evaluated on, or the whole picture at the same scale.
            photo: (H, W) of the photograph that the image is a smaller copy of; the image's own by default.

        Returns:
            (H, W, channels) uint8, and where it lies in the photograph.
        """
        height, width = image.shape[:2]
        frame = self.frame(photo or (height, width), fit)
        pixels = crop_resized(image, frame, self.interpolation)
        if len(self.mean) == 1:
            pixels = np.rint(pixels @ _LUMINANCE)[..., None].astype(np.uint8)
        return pixels.copy(), frame  # not a view of all that was resized

    def normalize(self, pixels: Tensor) -> Tensor:
        """Make network inputs of what was cut out of photographs.

        Args:
            pixels: (N, H, W, channels) uint8, on any device.

        Returns:
            (N, channels, H, W) float32 on the same device, normalized, with the channels last in its memory.

        Example:
            >>> Preprocessing(mean=(0.5,), std=(0.25,)).normalize(torch.full((1, 2, 2, 1), 255)).flatten().tolist()
            [2.0, 2.0, 2.0, 2.0]
        """
        rows = pixels.float().flatten(2)  # all channels of a row in one: torch is slow with rows of three numbers
        mean, std = (
            put(np.tile(np.array(values, np.float32), pixels.shape[2]), pixels.device)
            for values in (self.mean, self.std)
        )
        rows.div_(255).sub_(mean).div_(std)
        if pixels.shape[3] == 1:  # permuted, it would pass for contiguous, and the network's features would not be
            return rows[:, None]
        return rows.view(pixels.shape).permute(0, 3, 1, 2)


def crop_resized(image: NDArray[np.uint8], frame: Frame, interpolation: str = "bilinear") -> NDArray[np.uint8]:
    """Resize a photograph and cut the network's input out of it; what lies outside the picture is black.

    Args:
        image: (H, W, 3) uint8 RGB, upright; the photograph, or a smaller copy.
        frame: where the input lies in the photograph.
        interpolation: of the resizing, "bilinear", "bicubic" or "nearest".

    Returns:
        (H, W, 3) uint8 RGB of the input's size.

    Example:
        >>> crop_resized(np.zeros((480, 640, 3), np.uint8), fit_crop((480, 640), 256, (224, 224))).shape
        (224, 224, 3)
    """
    (top, left), (height, width), (full_h, full_w) = frame.offset, frame.input, frame.resized
    photo_h, photo_w = image.shape[:2]
    y0, x0, y1, x1 = max(0, top), max(0, left), min(full_h, top + height), min(full_w, left + width)
    if full_h * full_w > _LARGEST:  # a line of pixels would fill the memory: resize only what is looked at
        box = x0 * photo_w / full_w, y0 * photo_h / full_h, x1 * photo_w / full_w, y1 * photo_h / full_h
        part = resize(image, (y1 - y0, x1 - x0), interpolation, box)
    elif interpolation in _AVERAGING:
        pixels = torch.from_numpy(np.require(image, requirements=["C", "W"])).permute(2, 0, 1)[None]
        resized = interpolate(pixels, (full_h, full_w), mode=interpolation, antialias=True)
        part = resized[0].permute(1, 2, 0).numpy()[y0:y1, x0:x1]
    else:
        part = resize(image, (full_h, full_w), interpolation)[y0:y1, x0:x1]
    if part.shape[:2] == (height, width):
        return part
    return np.pad(part, ((y0 - top, top + height - y1), (x0 - left, left + width - x1), (0, 0)))


TTA_SCALES = (2.0, 1.5, 1.0)
"""Sizes of the views that are averaged, as factors of the input's; the finest first."""


def multi_scale(preprocessing: Preprocessing, resolution: int | None, several: bool) -> list[Preprocessing]:
    """Give the preprocessing of each view, the finest first.

    Args:
        preprocessing: the model's own.
        resolution: shorter side of the input that maps are wanted from, pixels; the model's own by default.
        several: whether views of several sizes are wanted.

    Example:
        >>> [view.crop for view in multi_scale(Preprocessing(256, (224, 224)), 448, several=False)]
        [(448, 448)]
    """
    factor = 1 if resolution is None else resolution / min(preprocessing.crop)
    return [preprocessing.scaled(factor * scale) for scale in (TTA_SCALES if several else (1,))]
