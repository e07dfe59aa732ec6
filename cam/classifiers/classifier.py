"""A classifier with everything that belongs to it: network, head, preprocessing, labels and grid."""

from __future__ import annotations

import threading
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Self

import torch
from torch import Tensor, nn

from cam.classifiers.activations import Activation, activate
from cam.classifiers.preprocessing import Preprocessing
from cam.errors import CamError, ModelError, UsageError
from cam.heads.choose import make_head
from cam.heads.cut import Cut
from cam.heads.general import GeneralHead, Method
from cam.heads.head import Head
from cam.heads.hooks import Engine, forward, network_lock
from cam.heads.prove import Proof
from cam.heads.snapshot import Snapshot
from cam.maps.geometry import Grid, Size, stretched
from cam.tensors import device_and_dtype, room_for_model


@dataclass(frozen=True)
class BaseClassifier:
    """What every classifier has, with an exact map or without one.

    Attributes:
        name: what it was loaded as.
        network: unwrapped, on its device.
        preprocessing: from photograph to input.
        labels: of the classes, in order. A network with one logit has two: against and for.
        binary: True if one logit decides between two classes.
        activation: what makes probabilities of the logits: "softmax", "sigmoid" or "none".
        weights: file the weights came from, if any.
        notes: what is assumed of it and where that comes from, one line each.
    """

    name: str
    network: nn.Module = field(repr=False)
    preprocessing: Preprocessing
    labels: tuple[str, ...]
    binary: bool = field(default=False, kw_only=True)
    activation: Activation = field(default="softmax", kw_only=True)
    weights: Path | None = field(default=None, kw_only=True)
    notes: tuple[str, ...] = field(default=(), kw_only=True)

    def probabilities(self, logits: Tensor) -> Tensor:
        """Turn logits (N, C) into probabilities by the activation; NaN without one."""
        return activate(logits, self.activation)

    def check_probabilities(self, purpose: str) -> None:
        """Raise UsageError if the scores are values, of which nothing makes probabilities, which the purpose needs."""
        if self.activation == "none":
            problem = f"{purpose} needs probabilities, and the scores of {self.name!r} are values (activation none)"
            raise UsageError(problem, "Give --activation softmax or sigmoid if they are class scores")

    def class_logits(self, logits: Tensor) -> Tensor:
        """Make the logits (N, C) of all classes: one logit z becomes -z against and z for the class."""
        return torch.cat((-logits, logits), 1) if self.binary else logits

    def with_input_size(self, size: Size) -> Self:
        """Take images of (H, W) pixels without resizing or cropping."""
        return replace(self, preprocessing=self.preprocessing.for_inputs(size))


@dataclass(frozen=True)
class Classifier(BaseClassifier):
    """A network whose head is known and proved, ready to explain images.

    Attributes:
        head: weight and bias, on the network's device; or a head of another kind, which is run again for each map.
        grid: where the cells of a map are in an input.
        proof: how well the maps of random inputs added up.
        tensors_sha256: of the network's tensors when its head was proved, as `hash_tensors` gives it.
        engine: runs the network faster; None runs the network itself, one thread at a time.
        snapshot: tells whether the network was changed since.
    """

    head: Head | GeneralHead = field(repr=False)
    grid: Grid
    proof: Proof
    tensors_sha256: str = field(repr=False)
    engine: Engine | None = field(default=None, repr=False)
    snapshot: Snapshot | None = field(default=None, repr=False, compare=False)

    def __post_init__(self) -> None:
        if self.snapshot is None or self.snapshot.network is not self.network:
            self._take_snapshot()

    @property
    def class_head(self) -> Head | GeneralHead:
        """The head, with two classes where the network has one logit."""
        head = self.head
        if isinstance(head, GeneralHead):
            return replace(head, binary=self.binary)
        if not self.binary:
            return head
        return replace(head, weight=torch.cat((-head.weight, head.weight)), bias=torch.cat((-head.bias, head.bias)))

    def exact_head(self, purpose: str) -> Head:
        """The head with weights for all classes; UsageError if it has no exact map, which the purpose needs."""
        head = self.class_head
        if isinstance(head, Head):
            return head
        problem = f"{purpose} needs a head that is an average over positions, and that of {self.name!r} is {head.kind}"
        remedy = "Use a network with global average pooling; --evidence logit and contrast work with any head"
        raise UsageError(problem, remedy)

    def with_method(self, method: Method) -> Classifier:
        """The same classifier with maps by another method, as for `load_classifier`, of the same features.

        Raises UsageError if the method is "exact" and the head has no exact map.
        """
        head = self.head
        if method == "exact":
            self.exact_head("--method exact")
            return self
        if isinstance(head, GeneralHead):
            return replace(self, head=replace(head, method=method), engine=None)
        cut = Cut(head.site, head.weight.norm(dim=0))
        general = make_head(self.network, self.preprocessing.input_shape, cut, head.kind, method)
        return replace(self, head=general, engine=None)

    def to(self, device: torch.device) -> Classifier:
        """Move the network, in place, and the head to a device."""
        self.check_unchanged()
        with room_for_model(device):
            return replace(self, network=self.network.to(device), head=self.head.to(device), snapshot=None)

    def _take_snapshot(self) -> None:
        object.__setattr__(self, "snapshot", Snapshot(self.network, self.head.classes))

    def check_unchanged(self) -> None:
        """Raise a ModelError if the network is no longer the one whose head was proved, as after a training step."""
        snapshot = self.snapshot or Snapshot(self.network, self.head.classes)
        same_layers = snapshot.has_same_layers()
        if same_layers and snapshot.has_same_numbers():
            return
        if not same_layers or not snapshot.has_same_values(self.tensors_sha256):
            problem = f"The {'weights' if same_layers else 'layers'} of {self.name!r} changed after it was wrapped"
            raise ModelError(problem, "Wrap it again: its head, and where it looks, are those of the network before")
        self._take_snapshot()  # the same numbers elsewhere

    def forward(self, inputs: Tensor) -> tuple[Tensor, Tensor, Head | GeneralHead]:
        """Run the network once, from any number of threads.

        Args:
            inputs: (N, channels, H, W) float32, normalized, on any device.

        Returns:
            Logits (N, C) float32 and features (N, K, h, w), on the network's device, and the head that reads them.
            One logit z becomes two: -z against and z for the class. The features of a `GeneralHead` are as the network
            has them.

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
            if self.engine:
                logits, features = self.engine(inputs)
            else:
                with network_lock:
                    self.check_unchanged()
                    inputs = inputs.to(*device_and_dtype(self.network)).contiguous()
                    logits, features = forward(self.network, self.head.site, inputs)
                    if self.snapshot and self.snapshot.was_written():  # by its own pass, such as a counter
                        self._take_snapshot()
        except CamError:
            raise
        except Exception as error:  # a user's network may raise anything
            problem = f"{self.name!r} does not run on inputs of shape {tuple(inputs.shape)}: {str(error).rstrip('.')}"
            remedy = "Give inputs of the size it is for (--fit crop, no --resolution or --tta), or smaller batches"
            raise ModelError(problem, remedy) from error
        except BaseException as error:  # by exit(), or by Ctrl-C and handlers of signals, which run in the main thread
            if threading.current_thread() is threading.main_thread() or isinstance(error, KeyboardInterrupt):
                raise
            problem = f"The code of {self.name!r} raises {type(error).__name__}: {error}"
            raise ModelError(problem, "Remove what raises it, such as a call of exit()") from error
        if {len(logits), len(features)} != {len(inputs)}:
            problem = f"{self.name!r} gives {len(logits)} results and {len(features)} features for {len(inputs)} inputs"
            raise ModelError(problem, "Give one image at a time (--batch-size 1), or fix the network")
        return self.class_logits(logits.float()), features, self.class_head

    def cells(self, features: Tensor, inputs: Tensor) -> Size:
        """The (h, w) of the maps from features, as `forward` returns them for inputs."""
        if isinstance(self.head, GeneralHead):
            features = self.head.to_grid(features, (inputs.shape[2], inputs.shape[3]))
        return features.shape[2], features.shape[3]

    def grid_for(self, cells: Size, input_size: Size) -> Grid:
        """Grid of a map of (h, w) cells over an input of (H, W) pixels."""
        return stretched(cells, input_size) if self.grid.method == "stretched" else self.grid
