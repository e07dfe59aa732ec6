"""The head of a classifier: where its features are, and what turns them into logits."""

from __future__ import annotations

import math
from dataclasses import dataclass, field, replace
from typing import Literal

import torch
from torch import Tensor

from cam.maps.activation import image_scales

Kind = Literal["gap-linear", "conv-gap", "gap-norm-linear", "nonlinear", "one-token", "no-places", "not-gap"]


@dataclass(frozen=True)
class Site:
    """One call inside a network that returns the features, or takes them; sites are equal if the call is the same."""

    layer: str  # name of the innermost module that makes the call, "" for the network itself
    operation: str  # name of the function called, such as `relu_`
    occurrence: int  # which call of that operation while the layer runs, from 0, in one forward pass
    argument: int | None = None  # which of the call's arguments, flattened, they are; None if they are its result
    channel: int = field(default=1, compare=False)  # dimension of the tensor that holds the channels
    tokens: tuple[int, int] | None = field(default=None, compare=False)  # of a row of tokens, those that are no cells
    constant: bool = field(default=False, compare=False)  # True if a channel of ones is added: a bias that is scaled
    transposed: bool = field(default=False, compare=False)  # True if rows of the result are columns of the image
    flipped: tuple[bool, bool] = field(default=(False, False), compare=False)  # along (y, x): last rows are first
    raw: bool = field(default=False, compare=False)  # True if the features are taken as they are, with all tokens

    def to_grid(self, tensor: Tensor, input_size: tuple[int, int]) -> Tensor:
        """Rearrange what the call returned, (N, ...), as features (N, K, h, w) of an input of (H, W) pixels."""
        if self.raw:
            return tensor
        tensor = tensor.movedim(self.channel, 1)
        if self.tokens is not None:
            front, end = self.tokens
            tokens = tensor[:, :, front : tensor.shape[2] - end]
            tensor = tokens.reshape(*tokens.shape[:2], *token_grid(tokens.shape[2], input_size))
        if self.constant:
            tensor = torch.cat([tensor, torch.ones_like(tensor[:, :1])], 1)
        return self.orient(tensor)

    def orient(self, values: Tensor) -> Tensor:
        """Turn rows and columns (..., h, w), as the call returns them, to where they lie in the image."""
        if self.transposed:
            if self.tokens is not None:  # they run down the columns
                height, width = values.shape[-2:]
                values = values.reshape(*values.shape[:-2], width, height)
            values = values.mT
        axes = [axis for axis, flipped in zip((-2, -1), self.flipped, strict=True) if flipped]
        return values.flip(axes) if axes else values


def token_grid(count: int, input_size: tuple[int, int]) -> tuple[int, int]:
    """Rows and columns of a number of tokens, with the aspect ratio closest to that of the input (H, W)."""
    height, width = input_size
    shapes = [(rows, count // rows) for rows in range(1, count + 1) if count % rows == 0]
    return min(shapes, key=lambda shape: abs(math.log(shape[0] * width / (shape[1] * height))))


@dataclass(frozen=True)
class Head:
    """What turns features into logits: logit = scale * mean over positions of (weight @ features) + bias."""

    kind: Kind  # how the head is built
    site: Site  # where the features are taken
    weight: Tensor  # (C, K), float32, logits a feature
    bias: Tensor  # (C,), float32, logits

    @property
    def method(self) -> Literal["exact"]:
        """How maps are computed."""
        return "exact"

    @property
    def classes(self) -> int:
        """Number of class scores."""
        return len(self.bias)

    def to(self, device: torch.device | str, dtype: torch.dtype = torch.float32) -> Head:
        """Move weight and bias to a device and dtype."""
        return replace(self, weight=self.weight.to(device, dtype), bias=self.bias.to(device, dtype))

    def scales(self, features: Tensor, logits: Tensor) -> Tensor:
        """Scale of each image's normalization, (N,), for features (N, K, h, w) and logits (N, C); 1 without one."""
        if self.kind != "gap-norm-linear":
            return self.weight.new_ones(len(features))
        return image_scales(features.to(self.weight.dtype).mean((2, 3)), self.weight, self.bias, logits)
