"""The head of a classifier: where its features are, and what turns them into logits."""

from __future__ import annotations

import math
from dataclasses import dataclass, field, replace
from typing import Literal

import torch
from torch import Tensor

from cam.maps.activation import image_scales


@dataclass(frozen=True)
class Site:
    """One call inside a network whose result are the features; sites are equal when the call is the same.

    Attributes:
        layer: name of the innermost module that makes the call, "" for the network itself.
        operation: name of the function called, such as `relu_`.
        occurrence: which of the calls of that operation made while the layer runs, from 0, in one forward pass.
        channel: dimension of the tensor that holds the channels.
        tokens: how many tokens in front and at the end are no places (class and register tokens), where the places
            are a row of tokens; else None.
    """

    layer: str
    operation: str
    occurrence: int
    channel: int = field(default=1, compare=False)
    tokens: tuple[int, int] | None = field(default=None, compare=False)

    def to_grid(self, tensor: Tensor, input_size: tuple[int, int]) -> Tensor:
        """Lay the tensor taken at this site out as features (N, K, h, w).

        Args:
            tensor: what the call returned, (N, ...), channels and places in this site's own order.
            input_size: (H, W) of the network's input, whose aspect tells how tokens stand in rows.

        Example:
            >>> Site("", "relu", 0, channel=2, tokens=(1, 0)).to_grid(torch.zeros(1, 7, 16), (64, 96)).shape
            torch.Size([1, 16, 2, 3])
        """
        tensor = tensor.movedim(self.channel, 1)
        if self.tokens is None:
            return tensor
        front, end = self.tokens
        tokens = tensor[:, :, front : tensor.shape[2] - end]
        return tokens.reshape(*tokens.shape[:2], *token_grid(tokens.shape[2], input_size))


def token_grid(places: int, input_size: tuple[int, int]) -> tuple[int, int]:
    """Arrange a number of places in rows and columns with the aspect of the input.

    Example:
        >>> token_grid(6, (64, 96))
        (2, 3)
    """
    height, width = input_size
    pairs = [(rows, places // rows) for rows in range(1, places + 1) if places % rows == 0]
    return min(pairs, key=lambda pair: abs(math.log(pair[0] * width / (pair[1] * height))))


Kind = Literal["gap-linear", "conv-gap", "gap-norm-linear", "nonlinear", "one-token", "not-gap"]


@dataclass(frozen=True)
class Head:
    """What turns features into logits: logit = scale * mean over places of (weight @ features) + bias.

    Attributes:
        kind: how the head is built.
        site: where the features are taken.
        weight: (C, K), float32, logits a feature.
        bias: (C,), float32, logits.
    """

    kind: Kind
    site: Site
    weight: Tensor
    bias: Tensor

    @property
    def classes(self) -> int:
        """Number of class scores."""
        return len(self.bias)

    def to(self, device: torch.device | str, dtype: torch.dtype = torch.float32) -> Head:
        """Move weight and bias.

        Example:
            >>> head = Head("gap-linear", Site("", "relu", 0), torch.eye(2), torch.zeros(2))
            >>> head.to("cpu", torch.float64).weight.dtype
            torch.float64
        """
        return replace(self, weight=self.weight.to(device, dtype), bias=self.bias.to(device, dtype))

    def scales(self, features: Tensor, logits: Tensor) -> Tensor:
        """Give the number by which a normalization multiplies each picture; 1 where there is no normalization.

        Args:
            features: (N, K, h, w).
            logits: (N, C).

        Returns:
            (N,), in the weight's dtype, no unit.

        Example:
            >>> head = Head("gap-linear", Site("", "relu", 0), torch.eye(2), torch.zeros(2))
            >>> head.scales(torch.rand(3, 2, 4, 4), torch.rand(3, 2)).tolist()
            [1.0, 1.0, 1.0]
        """
        if self.kind != "gap-norm-linear":
            return self.weight.new_ones(len(features))
        return image_scales(features.to(self.weight.dtype).mean((2, 3)), self.weight, self.bias, logits)
