"""Preprocessing by a callable: what it does to a photograph is measured, so that heat lies in the right place."""

from __future__ import annotations

import random
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import Any, TypeAlias

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from cam.classifiers.preprocessing import ANTIALIASED, INTERPOLATIONS, Backend, Fit, Preprocessing
from cam.errors import CamError, ModelError, UsageError, reason_of
from cam.maps.geometry import Frame, Size

Transform: TypeAlias = Callable[[Any], Any]  # a Pillow image, tensor or array to a tensor, or to a mapping with one
Run: TypeAlias = Callable[[NDArray[np.uint8]], NDArray[np.float32]]  # (H, W, C) to (channels, h, w)
_PHOTOS = (300, 400), (420, 340), (224, 224)  # sizes (H, W) at which a transform is compared with a Preprocessing
_KEYS = "pixel_values", "image", "input"  # of the tensor in a mapping: Hugging Face, albumentations
_NOT_PLAIN = (
    "preprocessing may resize, crop, pad and change values linearly, and it does more (it turns, mirrors or bends the "
    "image, or scales values by what is in the image)"
)
_REMEDY = "Leave that step out or to the network, or pass cam.Preprocessing(resize, crop, mean, std)"
_ADDRESS = re.compile(r" at 0x[0-9a-fA-F]+")  # in the default repr of an object
_TOLERANCE = 1e-3  # of the step between two of 256 values
_SPREAD = 1  # pixels by which measured sizes differ that are the same
_BORDER = 3  # pixels at the border of a resized image, where a ramp is not straight


def as_preprocessing(value: object) -> Preprocessing:
    """Make a Preprocessing of one, or of a callable: torchvision's transforms, timm's, a Hugging Face processor.

    It is that of the same sizes and numbers if one gives the same pixels; else the callable is run for each image.

    Raises:
        UsageError: it is no callable, or random, or does more than resize, crop, pad and normalize linearly.

    Example:
        >>> from torchvision.transforms import v2
        >>> steps = [v2.ToImage(), v2.Resize((64, 64)), v2.ToDtype(torch.float32, scale=True)]
        >>> as_preprocessing(v2.Compose(steps)).describe()
        'input 64x64, whole image squashed, bilinear, mean 0,0,0, std 1,1,1'
    """
    if isinstance(value, Preprocessing):
        return value
    if not callable(value) or isinstance(value, type):
        problem = f"preprocessing must be a cam.Preprocessing or a callable, got {type(value).__name__}"
        raise UsageError(problem, "Pass cam.Preprocessing(resize, crop, mean, std), or what makes a tensor of an image")
    run = _find_run(value)
    _check_repeatable(run)
    black, white = (run(np.full((*_PHOTOS[0], 3), level, np.uint8)) for level in (0, 255))
    frames = [measure_frame(run, photo) for photo in _PHOTOS]
    mean, std = _mean_and_std(black, white)
    measured = MeasuredPreprocessing(224, frames[-1].input, mean, std, transform=value, run=run)
    return _same_pixels(measured, frames) or measured


@dataclass(frozen=True)
class MeasuredPreprocessing(Preprocessing):
    """A user's own transform, run for each image; `crop`, `mean` and `std` are measured."""

    transform: Transform = field(kw_only=True, repr=False)
    run: Run = field(kw_only=True, repr=False, compare=False)
    _frames: dict[Size, Frame] = field(default_factory=dict, init=False, repr=False, compare=False)

    @property
    def min_side(self) -> None:
        """All pixels are needed: nothing is known of how it resizes."""
        return None

    def frame(self, photo: Size, fit: Fit | None = None) -> Frame:
        """Where the input lies in a photograph of (H, W) pixels; `fit` can only be "crop"."""
        self._refuse(fit not in (None, "crop"), f"fit {fit!r}")
        if photo not in self._frames:
            self._frames[photo] = measure_frame(self.run, photo)
        return self._frames[photo]

    def resize_and_crop(
        self, image: NDArray[np.uint8], fit: Fit | None = None, photo: Size | None = None
    ) -> tuple[NDArray[Any], Frame]:
        """Run the transform: (H, W, channels) float32, normalized, and where it lies in the photograph."""
        frame = self.frame((image.shape[0], image.shape[1]), fit)
        return self.run(image).transpose(1, 2, 0), frame

    def normalize(self, pixels: Tensor) -> Tensor:
        """Only change the layout: the transform normalized."""
        return pixels.permute(0, 3, 1, 2)

    def adjusted(self, *args: Any, **changes: Any) -> Preprocessing:
        """Refuse changes."""
        names = ", ".join(f"--{name.replace('_', '-')}" for name, value in changes.items() if value is not None)
        self._refuse(bool(names) or any(value is not None for value in args), names or "--input-size")
        return self

    def scaled(self, factor: float) -> Preprocessing:
        """Refuse another scale."""
        self._refuse(factor != 1, "another resolution")
        return self

    def for_inputs(self, size: Size) -> Preprocessing:
        """Take images of (H, W) pixels without resizing or cropping, and normalize as the transform does."""
        return Preprocessing(min(size), size, self.mean, self.std)

    def describe(self) -> str:
        """Say what is run."""
        return f"input {self.crop[1]}x{self.crop[0]}, by {type(self.transform).__name__}, run for each image"

    def to_json(self) -> dict[str, Any]:
        """Values for run.json, the same in every process."""
        text = _ADDRESS.sub("", repr(self.transform))
        return {"transform": text, "crop": self.crop, "mean": self.mean, "std": self.std}

    def _refuse(self, refused: bool, option: str) -> None:
        if refused:
            problem = f"{option} is not possible with preprocessing by {type(self.transform).__name__}"
            raise UsageError(problem, "Pass a cam.Preprocessing, or change the transform")


def measure_frame(run: Run, photo: Size) -> Frame:
    """Measure where the input of a transform lies in a photograph of (H, W) pixels, with ramps of light.

    Sides and offset are rounded to whole pixels of the resized photograph.

    Raises:
        UsageError: it turns, mirrors or bends the image, or changes values otherwise than linearly.
    """
    black, white = (run(np.full((*photo, 3), level, np.uint8)) for level in (0, 255))
    span = np.abs(white - black)
    seen = (span > span.max() / 2).all(0)  # the rest is padding, whatever the photograph
    rows, columns = np.flatnonzero(seen.any(1)), np.flatnonzero(seen.any(0))
    if not len(rows) or not seen[np.ix_(rows, columns)].all():
        raise UsageError(_NOT_PLAIN, _REMEDY)
    lines = []
    for axis, places in enumerate((rows, columns)):
        levels = np.rint(np.linspace(0, 255, photo[axis])).astype(np.uint8)
        ramp = np.broadcast_to(levels[:, None] if axis == 0 else levels, photo)
        values = run(np.repeat(ramp[..., None], 3, 2))
        light = ((values - black)[:, seen] / (white - black)[:, seen]).mean(0).reshape(len(rows), len(columns))
        lines.append(_fit_line(light if axis == 0 else light.T, places, photo[axis]))
    # Pixel i of the input shows pixel start + slope * i of the photograph; its edge is half a pixel before.
    resized = tuple(max(1, round(side / slope)) for side, (slope, _) in zip(photo, lines, strict=True))
    offset = tuple(round((start + 0.5) / slope - 0.5) for slope, start in lines)
    return Frame(photo, (resized[0], resized[1]), (offset[0], offset[1]), (black.shape[1], black.shape[2]))


def _fit_line(light: NDArray[np.float64], places: NDArray[np.int64], side: int) -> tuple[float, float]:
    """Slope and start, in pixels of the photograph, of the light (n, other) of a ramp at pixels `places`."""
    inner = slice(_BORDER, -_BORDER) if len(places) > 4 * _BORDER else slice(None)
    light, places = light[inner], places[inner]
    profile = light.mean(1)
    slope, start = np.polyfit(places, profile, 1) if len(places) > 1 else (0.0, 0.0)
    allowed = 3 / 255 + 1 / side  # 8 bits in and out, and whole pixels
    straight = np.abs(light - profile[:, None]).max() < allowed
    if slope <= 0 or not straight or np.abs(slope * places + start - profile).max() > allowed:
        raise UsageError(_NOT_PLAIN, _REMEDY)
    return float(slope) * (side - 1), float(start) * (side - 1)


def _find_run(transform: Transform) -> Run:
    """Find out what a transform takes: Pillow images, uint8 tensors (C, H, W), or arrays (H, W, C)."""
    errors: list[CamError] = []
    for convert in (_to_pillow, _to_tensor, np.copy):
        run = partial(_run, transform, convert)
        try:
            run(_photograph(_PHOTOS[0]))
        except (ModelError, UsageError) as error:
            errors.append(error)
        else:
            return run
    raise errors[0]


def _to_pillow(image: NDArray[np.uint8]) -> Image.Image | NDArray[np.uint8]:
    return Image.fromarray(image) if image.shape[2] == 3 else image  # which has no images of other bands


def _to_tensor(image: NDArray[np.uint8]) -> Tensor:
    return torch.tensor(image).permute(2, 0, 1)


def _run(
    transform: Transform, convert: Callable[[NDArray[np.uint8]], Any], image: NDArray[np.uint8]
) -> NDArray[np.float32]:
    """Run a transform on an image (H, W, C) uint8: (channels, h, w) float32."""
    picture = convert(image)
    try:
        output = transform(picture)
        if isinstance(output, Mapping):
            output = next(output[key] for key in _KEYS if key in output)
        if isinstance(output, (list, tuple)):
            output = output[0]
        tensor = output.detach().cpu() if isinstance(output, Tensor) else torch.tensor(np.asarray(output))
        tensor = tensor[0] if tensor.ndim == 4 and len(tensor) == 1 else tensor
    except Exception as error:  # a user's callable may raise anything
        problem = f"preprocessing {type(transform).__name__} fails on a {type(picture).__name__}: {reason_of(error)}"
        raise ModelError(problem, "Let it make a tensor (channels, H, W) of a Pillow image in RGB") from error
    if tensor.ndim != 3 or not tensor.is_floating_point():
        problem = f"preprocessing must give (channels, H, W) floats, got {tuple(tensor.shape)} {tensor.dtype}"
        raise UsageError(problem, "End it with ToTensor(), or ToImage() and ToDtype(torch.float32, scale=True)")
    return tensor.float().numpy()


def _check_repeatable(run: Run) -> None:
    """Raise UsageError if it draws random numbers, or gives one image two results."""
    image = _photograph(_PHOTOS[0])

    def states() -> list[object]:
        return [torch.random.get_rng_state().tolist(), random.getstate(), str(np.random.get_state(legacy=False))]

    before = states()
    first, second, third = (run(image) for _ in range(3))
    if states() != before or not (np.array_equal(first, second) and np.array_equal(first, third)):
        problem = "preprocessing is random: it draws random numbers, or gives one image two results"
        raise UsageError(problem, "Pass the transform of validation, not of training")


def _mean_and_std(black: NDArray[np.float32], white: NDArray[np.float32]) -> tuple[tuple[float, ...], ...]:
    """Mean and std of each channel that turn 0 into `black` and 1 into `white`, as short as they are exact."""
    span = (white - black).astype(float)
    center = np.unravel_index(np.abs(span).sum(0).argmax(), span.shape[1:])
    zero, span = black[:, *center].astype(float), span[:, *center]
    for digits in range(1, 8):
        std, mean = np.round(1 / span, digits), np.round(-zero / span, digits)
        if (std > 0).all() and np.allclose(-mean / std, zero, 0, 1e-6) and np.allclose(1 / std, span, 1e-6):
            break
    return tuple((mean + 0.0).tolist()), tuple(std.tolist())  # no -0


def _same_pixels(measured: MeasuredPreprocessing, frames: list[Frame]) -> Preprocessing | None:
    """The Preprocessing that gives the same pixels as a transform, if there is one."""
    sizes = np.array([frame.resized for frame in frames])
    whole = all(frame.resized == frame.input for frame in frames) and np.ptp(sizes, 0).any()
    resize: int | Size
    if np.ptp(sizes, 0).max() <= _SPREAD:
        height, width = np.median(sizes, 0).round().astype(int).tolist()
        resize = height, width
    elif np.ptp(sizes.min(1)) <= _SPREAD:
        resize = round(float(np.median(sizes.min(1))))
    else:
        return None
    fit: Fit = "whole" if whole else "crop"
    images = [_photograph(photo) for photo in _PHOTOS]
    outputs = [measured.run(image) for image in images]
    tolerance = _TOLERANCE / 255 / min(measured.std)
    backends: tuple[tuple[Backend, tuple[str, ...]], ...] = ("torch", ANTIALIASED), ("pillow", INTERPOLATIONS)
    for backend, method in ((backend, method) for backend, methods in backends for method in methods):
        native = Preprocessing(resize, measured.crop, measured.mean, measured.std, method, fit, backend)
        pairs = zip(images, outputs, strict=True)
        if all(_is_close(native.prepare(image)[0].numpy(), output, tolerance) for image, output in pairs):
            return native
    return None


def _is_close(one: NDArray[np.float32], other: NDArray[np.float32], tolerance: float) -> bool:
    return one.shape == other.shape and np.allclose(one, other, 0, tolerance)


def _photograph(size: Size) -> NDArray[np.uint8]:
    """An image (H, W, 3) with detail in all directions and colors."""
    noise = np.random.default_rng(0).random((3, size[0] // 4 + 1, size[1] // 4 + 1), np.float32)
    smooth = torch.nn.functional.interpolate(torch.from_numpy(noise)[None], size, mode="bicubic")[0]
    return np.asarray(smooth.mul(255).round().clamp(0, 255).byte().permute(1, 2, 0))
