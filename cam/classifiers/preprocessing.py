"""From a photograph to the network's input, the way the model was evaluated."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any, Literal, get_args

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn.functional import interpolate

from cam.errors import UsageError
from cam.images.io import resize
from cam.maps.geometry import Frame, Size, fit_crop, fit_whole
from cam.tensors import to_device

Fit = Literal["crop", "whole", "stretch"]
Backend = Literal["torch", "pillow"]
MAX_SIDE = 4096  # pixels of an input; a larger one does not fit in any memory
_MAX_PIXELS = 2**24  # of a resized image
ANTIALIASED: tuple[str, ...] = "bilinear", "bicubic"  # that torch has for bytes
INTERPOLATIONS = "nearest", "bilinear", "bicubic", "lanczos", "box", "hamming"  # of Pillow
_LUMINANCE = np.array([0.299, 0.587, 0.114], np.float32)
_TTA_SCALES = (2.0, 1.5, 1.0)  # of the inputs whose maps are averaged; the finest first


@dataclass(frozen=True)
class Preprocessing:
    """What a model does to a photograph; ImageNet's values by default.

    Attributes:
        resize: shorter side after resizing, pixels; or (H, W), whatever the image's aspect.
        crop: (H, W) of the center crop: the model's own input size.
        mean: of each channel, of values in [0, 1]; one number makes the input gray, three are red, green and blue, and
            another count is that of the bands that images must have.
        std: of each channel, likewise.
        interpolation: of the resizing, "bilinear", "bicubic", "nearest", "lanczos", "box" or "hamming".
        fit: by default "crop" for the center crop, "whole" for the whole image at that scale, or "stretch" for the
            whole image in the crop's size.
        backend: "torch" resizes as torchvision does tensors, "pillow" as it does Pillow's images.
    """

    resize: int | Size = 224
    crop: Size = (224, 224)
    mean: tuple[float, ...] = (0.485, 0.456, 0.406)
    std: tuple[float, ...] = (0.229, 0.224, 0.225)
    interpolation: str = "bilinear"
    fit: Fit = "crop"
    backend: Backend = "torch"

    def __post_init__(self) -> None:
        sides = (*np.atleast_1d(self.resize).tolist(), *np.atleast_1d(self.crop).tolist())
        shapes = np.shape(self.resize), np.shape(self.crop)
        if shapes not in (((), (2,)), ((2,), (2,))) or not all(isinstance(side, int) and side > 0 for side in sides):
            problem = f"resize must be pixels, and crop (H, W) in pixels, got {self.resize} and {self.crop}"
            raise UsageError(problem, "Give positive whole numbers, such as 256 and (224, 224)")
        for name, value, known in (
            ("interpolation", self.interpolation, INTERPOLATIONS),
            ("fit", self.fit, get_args(Fit)),
            ("backend", self.backend, get_args(Backend)),
        ):
            if value not in known:
                raise UsageError(f"{name} must be one of {', '.join(known)}, got {value!r}", "Leave it out")
        if np.shape(self.mean) != np.shape(self.std) or np.ndim(self.mean) != 1 or not len(self.mean):
            problem = f"mean and std must have a number for each channel, got {self.mean} and {self.std}"
            raise UsageError(problem, "Give red, green and blue, (0.5,) for gray images, or one for each band")
        if not (all(map(math.isfinite, self.mean)) and all(0 < std < math.inf for std in self.std)):
            problem = f"mean and std must be finite, and std positive, got {self.mean} and {self.std}"
            raise UsageError(problem, "Give values for pixels in [0, 1]")

    @property
    def input_shape(self) -> tuple[int, int, int]:
        """(channels, H, W) of the model's own input."""
        return len(self.mean), *self.crop

    def check_channels(self, channels: int) -> None:
        """Raise UsageError unless the input can be made of images of so many channels."""
        if len(self.mean) != channels and not (channels == 3 and len(self.mean) == 1):
            problem = f"The network takes {len(self.mean)} channels, and images have {channels}"
            raise UsageError(problem, "Name its bands with --bands of cam explain, or with bands= of read_image")

    def adjusted(
        self,
        input_size: int | None = None,
        mean: Sequence[float] | None = None,
        std: Sequence[float] | None = None,
        *,
        resize: int | Size | None = None,
        crop: int | Size | None = None,
        interpolation: str | None = None,
        channels_in: int | None = None,
    ) -> Preprocessing:
        """Replace the values that are given.

        The input becomes a square of `input_size` pixels, of the same part of the image, or `crop`; without a crop,
        `resize` is its size. With another number of channels (`channels_in`) each has the average of mean and std.
        """
        if input_size is not None and input_size not in range(1, MAX_SIDE + 1):
            problem = f"--input-size must be from 1 to {MAX_SIDE} pixels, got {input_size!r}"
            raise UsageError(problem, "Give the side of a square input, such as 224")
        changes: dict[str, Any] = {}
        if input_size:  # the shorter side grows with the crop, as in timm
            sides = [int(side * input_size / crop) for side, crop in zip(_pair(self.resize), self.crop, strict=True)]
            changes["resize"] = (sides[0], sides[1]) if isinstance(self.resize, tuple) else max(sides)
            changes["crop"] = input_size, input_size
        if resize:
            changes["resize"] = resize
        if crop or (resize and not input_size):
            changes["crop"] = _pair(crop or resize)
        if channels_in and channels_in != len(self.mean):
            changes.update(mean=(_average(self.mean),) * channels_in, std=(_average(self.std),) * channels_in)
        given = {"mean": mean, "std": std}
        changes.update(
            {name: tuple(np.atleast_1d(value).tolist()) for name, value in given.items() if value is not None}
        )
        if interpolation:
            changes["interpolation"] = interpolation
        return replace(self, **changes) if changes else self

    def scaled(self, factor: float) -> Preprocessing:
        """Show the network the same part of the photograph with more pixels, or fewer."""
        height, width = (max(1, round(side * factor)) for side in self.crop)
        resize: int | Size
        if isinstance(self.resize, int):
            resize = max(1, round(self.resize * factor))
        else:
            resize = max(1, round(self.resize[0] * factor)), max(1, round(self.resize[1] * factor))
        return replace(self, resize=resize, crop=(height, width))

    def for_inputs(self, size: Size) -> Preprocessing:
        """Take images of (H, W) pixels without resizing or cropping."""
        return replace(self, resize=min(size), crop=size, fit="crop")

    @property
    def min_side(self) -> int | None:
        """Pixels that are needed of an image's shorter side; None for all."""
        return int(np.max(self.resize if self.fit != "stretch" else self.crop))

    def frame(self, photo: Size, fit: Fit | None = None) -> Frame:
        """Where the input lies in a photograph of (H, W) pixels.

        Example:
            >>> Preprocessing(256, (224, 224)).frame((480, 640), "whole").input
            (256, 341)
        """
        fit = fit or self.fit
        if fit == "whole":
            return fit_whole(photo, int(np.min(self.resize)))
        return fit_crop(photo, self.crop if fit == "stretch" else self.resize, self.crop)

    def describe(self) -> str:
        """Say in words what is done to a photograph.

        Example:
            >>> Preprocessing(256, (224, 224), mean=(0.5,), std=(0.25,)).describe()
            'input 224x224 gray, center crop of the image resized to shorter side 256, bilinear, mean 0.5, std 0.25'
        """
        (height, width), channels = self.crop, {1: " gray", 3: ""}.get(len(self.mean), f" of {len(self.mean)} bands")
        parts = [f"input {width}x{height}{channels}", self._describe_fit(), self.interpolation]
        for name in ("mean", "std"):
            parts.append(f"{name} {','.join(f'{value:.4g}' for value in getattr(self, name))}")
        return ", ".join(part for part in parts if part)

    def _describe_fit(self) -> str:
        if self.fit == "whole":
            return f"whole image resized to shorter side {np.min(self.resize)}"
        if self.fit == "stretch" or self.resize == self.crop:
            return "whole image squashed"
        if isinstance(self.resize, int):
            return f"center crop of the image resized to shorter side {self.resize}"
        return f"center crop of the image squashed to {self.resize[1]}x{self.resize[0]}"

    def to_json(self) -> dict[str, Any]:
        """Values for run.json."""
        return asdict(self)

    def prepare(self, image: NDArray[np.uint8], fit: Fit | None = None) -> tuple[Tensor, Frame]:
        """Make the network's input: within 1e-5 of what torchvision's transforms make of the image as a tensor.

        From a Pillow image they make one that differs by at most 2 of 255, in 1 of 300 values of photographs, in ten
        times the time: `backend` "pillow" does. Pillow resizes, too, if torch has no such interpolation of bytes, or
        if over 16 million pixels would have to be resized.

        Args:
            image: (H, W, 3) uint8 RGB, upright, or (H, W, channels) as the network takes.
            fit: the center crop that the model was evaluated on, or the whole image at the same scale.

        Returns:
            (channels, H, W) float32, normalized, and where it lies in the photograph.

        Example:
            >>> tensor, frame = Preprocessing(256, (224, 224)).prepare(np.zeros((480, 640, 3), np.uint8))
            >>> tensor.shape, frame.offset
            (torch.Size([3, 224, 224]), (16, 58))
        """
        pixels, frame = self.resize_and_crop(image, fit)
        return self.normalize(to_device(pixels[None], torch.device("cpu")))[0].contiguous(), frame

    def resize_and_crop(
        self, image: NDArray[np.uint8], fit: Fit | None = None, photo: Size | None = None
    ) -> tuple[NDArray[np.uint8], Frame]:
        """Crop the network's input (H, W, channels) uint8, which `prepare` normalizes, and say where it lies.

        `photo` is (H, W) of the photograph that the image is a smaller copy of, the image's own by default.
        """
        height, width = image.shape[:2]
        frame = self.frame(photo or (height, width), fit)
        pixels = self.crop_pixels(image, frame)
        if len(self.mean) == 1:
            pixels = np.rint(pixels @ _LUMINANCE)[..., None].astype(np.uint8)
        return pixels.copy(), frame  # not a view of the whole resized image

    def crop_pixels(self, image: NDArray[np.uint8], frame: Frame) -> NDArray[np.uint8]:
        """Resize an image (H, W, C) and crop the input of a frame from it, (h, w, C); black outside the image."""
        return crop_resized(image, frame, self.interpolation, self.backend)

    def normalize(self, pixels: Tensor) -> Tensor:
        """Normalize cropped pixels (N, H, W, channels) uint8: (N, channels, H, W) float32, channels last in memory.

        Example:
            >>> Preprocessing(mean=(0.5,), std=(0.25,)).normalize(torch.full((1, 2, 2, 1), 255)).flatten().tolist()
            [2.0, 2.0, 2.0, 2.0]
        """
        rows = pixels.float().flatten(2)  # all channels of a row in one: torch is slow with rows of three numbers
        mean, std = (
            to_device(np.tile(np.array(values, np.float32), pixels.shape[2]), pixels.device)
            for values in (self.mean, self.std)
        )
        rows.div_(255).sub_(mean).div_(std)
        if pixels.shape[3] == 1:  # permuted, it would count as contiguous, and the network's features would not be
            return rows[:, None]
        return rows.view(pixels.shape).permute(0, 3, 1, 2)


def crop_resized(
    image: NDArray[np.uint8], frame: Frame, interpolation: str = "bilinear", backend: Backend = "torch"
) -> NDArray[np.uint8]:
    """Resize an image (H, W, 3) and crop the network's input of a frame from it; black outside the image."""
    (top, left), (height, width), (full_h, full_w) = frame.offset, frame.input, frame.resized
    image_h, image_w = image.shape[:2]
    y0, x0, y1, x1 = max(0, top), max(0, left), min(full_h, top + height), min(full_w, left + width)
    if full_h * full_w > _MAX_PIXELS:  # a line of pixels would fill the memory: resize only the crop
        box = x0 * image_w / full_w, y0 * image_h / full_h, x1 * image_w / full_w, y1 * image_h / full_h
        part = resize(image, (y1 - y0, x1 - x0), interpolation, box)
    elif interpolation in ANTIALIASED and backend == "torch":
        pixels = torch.from_numpy(np.require(image, requirements=["C", "W"])).permute(2, 0, 1)[None]
        resized = interpolate(pixels, (full_h, full_w), mode=interpolation, antialias=True)
        part = resized[0].permute(1, 2, 0).numpy()[y0:y1, x0:x1]
    else:
        part = resize(image, (full_h, full_w), interpolation)[y0:y1, x0:x1]
    if part.shape[:2] == (height, width):
        return part
    return np.pad(part, ((y0 - top, top + height - y1), (x0 - left, left + width - x1), (0, 0)))


def _pair(size: int | Size | None) -> Size:
    height, width = np.broadcast_to(np.asarray(size), 2).tolist()
    return height, width


def _average(values: Sequence[float]) -> float:
    return sum(values) / len(values)


def multi_scale(preprocessing: Preprocessing, resolution: int | None, tta: bool) -> list[Preprocessing]:
    """Preprocessing of each scale, the finest first, for maps of `resolution` pixels along the input's shorter side."""
    factor = 1 if resolution is None else resolution / min(preprocessing.crop)
    return [preprocessing.scaled(factor * scale) for scale in (_TTA_SCALES if tta else (1,))]
