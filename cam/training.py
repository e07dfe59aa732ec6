"""Watch in TensorBoard where a network looks while it is trained."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray
from torch import Tensor, nn

from cam.classifiers.labels import Labels
from cam.classifiers.load import wrap
from cam.classifiers.preprocessing import Preprocessing
from cam.explanations.explain import explain_batch
from cam.explanations.explanation import ExplanationList
from cam.heads.outputs import unwrap
from cam.maps.evidence import Evidence


class Writer(Protocol):
    """What `torch.utils.tensorboard.SummaryWriter` has."""

    def add_image(self, tag: str, img_tensor: Any, global_step: int, *, dataformats: str) -> None:
        """Write an image."""


def log_images(
    writer: Writer,
    step: int,
    network: nn.Module,
    inputs: Tensor,
    targets: Sequence[int | str] | Tensor | None = None,
    *,
    labels: Labels | None = None,
    preprocessing: Preprocessing | None = None,
    evidence: Evidence = "logit",
    tag: str = "cam",
) -> ExplanationList:
    """Explain a batch with the network as it is now, and write an overlay of each input with its legend.

    The network is wrapped anew, which takes seconds, as training changed it; it stays in training mode.

    Args:
        writer: a SummaryWriter, or what has its `add_image`.
        step: of the training.
        network: that is trained.
        inputs: (N, channels, H, W) float, normalized: the same few in each step, so that they can be compared.
        targets: index or label of a class for each; None for the predicted class.
        labels: of the classes.
        preprocessing: whose mean and std the inputs have; ImageNet's by default.
        evidence: "logit", "contrast", "margin" or "posterior".
        tag: of the images, which get their number behind it.

    Raises:
        HeadError: the class scores follow from no features with rows and columns.
        UsageError: an argument is wrong.
    """
    size = inputs.shape[2], inputs.shape[3]
    preprocessing = (preprocessing or Preprocessing()).for_inputs(size)
    classifier = wrap(unwrap(network), preprocessing=preprocessing, labels=labels)
    explanations = explain_batch(classifier, inputs, targets, evidence=evidence)
    for number, (explanation, image) in enumerate(zip(explanations, _images(inputs, preprocessing), strict=True)):
        overlay = explanation.overlay(image=image, legend=True)
        writer.add_image(f"{tag}/{number}", overlay, step, dataformats="HWC")
    return explanations


def lightning_callback(
    inputs: Tensor, targets: Sequence[int | str] | Tensor | None = None, *, every_n_epochs: int = 1, **options: Any
) -> Any:
    """Make a Lightning callback that logs images after the validation of every n-th epoch; `options` of `log_images`.

    The trainer's logger must be a TensorBoardLogger.
    """
    from lightning.pytorch import Callback, LightningModule, Trainer

    class LogImages(Callback):
        def on_validation_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
            if trainer.current_epoch % every_n_epochs == 0 and not trainer.sanity_checking:
                writer = trainer.logger.experiment  # type: ignore[union-attr]  # without a logger nothing can be logged
                log_images(writer, trainer.global_step, pl_module, inputs, targets, **options)

    return LogImages()


def _images(inputs: Tensor, preprocessing: Preprocessing) -> NDArray[np.uint8]:
    """Normalized inputs as images again: (N, H, W, 3) uint8 RGB."""
    pixels = inputs.detach().float().cpu().permute(0, 2, 3, 1).numpy()
    light = pixels * np.array(preprocessing.std) + np.array(preprocessing.mean)
    image = np.rint(255 * light.clip(0, 1)).astype(np.uint8)
    return np.asarray(image[..., :3] if image.shape[3] >= 3 else image[..., [0, 0, 0]], np.uint8)
