"""A classifier with everything that belongs to it: network, head, preprocessing, labels and grid."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from pathlib import Path

import torch
from torch import Tensor, nn

from cam.classifiers.preprocessing import Preprocessing
from cam.errors import CamError, ModelError
from cam.heads.head import Head
from cam.heads.hooks import Engine, forward
from cam.heads.prove import Proof
from cam.maps.geometry import Grid, Size, stretched
from cam.tensors import device_and_dtype


@dataclass(frozen=True)
class Classifier:
    """A network whose head is known and proved, ready to explain pictures.

    Attributes:
        name: what it was loaded as.
        network: unwrapped, on its device.
        head: weight and bias, on the network's device.
        preprocessing: from photograph to input.
        labels: of the classes, in order. A network with one logit has two: against and for.
        grid: where the cells of a map lie in an input.
        proof: how well the maps of random inputs added up.
        tensors_sha256: of the network's tensors when its head was proved, as `hash_tensors` gives it.
        weights: file the weights came from; None where they did not come from a file.
        engine: runs the network faster; None runs it as it is, one thread at a time.
    """

    name: str
    network: nn.Module = field(repr=False)
    head: Head = field(repr=False)
    preprocessing: Preprocessing
    labels: tuple[str, ...]
    grid: Grid
    proof: Proof
    tensors_sha256: str = field(repr=False)
    weights: Path | None = None
    engine: Engine | None = field(default=None, repr=False)

    @property
    def binary(self) -> bool:
        """Whether one logit decides between two classes."""
        return self.head.classes == 1

    def forward(self, inputs: Tensor) -> tuple[Tensor, Tensor, Head]:
        """Run the network once, from any number of threads.

        Args:
            inputs: (N, channels, H, W) float32, normalized, on any device.

        Returns:
            Logits (N, C) float32 and features (N, K, h, w), on the network's device, and the head to read them
            with. One logit z is spelled out as two, -z against and z for the class.

        Raises:
            ModelError: the network does not run on inputs of this size.

        Example:
            >>> import cam
            >>> network = nn.Sequential(nn.Conv2d(3, 4, 3), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 1))
            >>> logits, features, head = cam.wrap(network, input_size=16).forward(torch.zeros(2, 3, 16, 16))
            >>> logits.shape, features.shape
            (torch.Size([2, 2]), torch.Size([2, 4, 14, 14]))
        """
        try:
            logits, features = (self.engine or self._as_it_is)(inputs)
        except CamError:
            raise
        except Exception as error:  # whatever a stranger's network may raise
            raise ModelError(
                f"{self.name!r} does not run on inputs of shape {tuple(inputs.shape)}: {str(error).rstrip('.')}",
                "Look at the size it was made for (--fit crop, no --resolution, no --tta), or take smaller batches",
            ) from error
        if {len(logits), len(features)} != {len(inputs)}:
            found = f"{self.name!r} gives {len(logits)} results and {len(features)} features for {len(inputs)} inputs"
            raise ModelError(found, "Take one picture at a time (--batch-size 1), or mend the network")
        logits, head = logits.float(), self.head
        if self.binary:
            logits = torch.cat((-logits, logits), 1)
            weight, bias = torch.cat((-head.weight, head.weight)), torch.cat((-head.bias, head.bias))
            head = replace(head, weight=weight, bias=bias)
        return logits, features, head

    def _as_it_is(self, inputs: Tensor) -> tuple[Tensor, Tensor]:
        return forward(self.network, self.head.site, inputs.to(*device_and_dtype(self.network)).contiguous())

    def probabilities(self, logits: Tensor) -> Tensor:
        """Turn logits (N, C) into probabilities: softmax, or the logistic function where there is one logit.

        Example:
            >>> import cam
            >>> network = nn.Sequential(nn.Conv2d(3, 4, 3), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 2))
            >>> cam.wrap(network, input_size=16).probabilities(torch.zeros(1, 2)).tolist()
            [[0.5, 0.5]]
        """
        return logits.sigmoid() if self.binary else logits.softmax(1)

    def with_input_size(self, size: Size) -> Classifier:
        """Look at pictures of (H, W) pixels as they are, neither resized nor cropped.

        Example:
            >>> import cam
            >>> network = nn.Sequential(nn.Conv2d(3, 4, 3), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 2))
            >>> cam.wrap(network, input_size=16).with_input_size((32, 48)).preprocessing.frame((32, 48)).input
            (32, 48)
        """
        return replace(self, preprocessing=self.preprocessing.with_input_size(size))

    def grid_for(self, cells: Size, input_size: Size) -> Grid:
        """Give the grid for a map of (h, w) cells over an input of (H, W) pixels."""
        return stretched(cells, input_size) if self.grid.method == "stretched" else self.grid
