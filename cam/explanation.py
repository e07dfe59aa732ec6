"""The straight line: photograph -> input -> features and logits -> maps -> heat -> overlay."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import groupby, islice
from pathlib import Path
from typing import TypeAlias

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from cam.classifiers import Classifier
from cam.errors import CamError, ModelError, UsageError
from cam.geometry import Frame, Grid, peak, place
from cam.images import checked, read_image
from cam.jacobian import tolerance_of
from cam.legend import with_legend
from cam.maps import class_activation_maps, completeness_error
from cam.overlay import overlay
from cam.preprocessing import Fit
from cam.targets import OneClass, Target, TopClasses, resolve
from cam.twins import device_and_dtype

Photo: TypeAlias = str | Path | NDArray[np.uint8]

TOP1: tuple[Target, ...] = (TopClasses(1),)


@dataclass(frozen=True)
class Explanation:
    """Why a picture got its score for one class: `cam.mean() + bias == logit`.

    Attributes:
        class_idx: the class.
        label: its text.
        logit: its score.
        probability: after softmax (the logistic function where there is one logit), in [0, 1].
        bias: the part of the logit that comes from no place.
        cam: (h, w) float32, signed, in logit units.
        grid: where the cells of the map lie in the network's input.
        frame: where the input lies in the photograph.
        image: the photograph, (H, W, 3) uint8 RGB, upright.
    """

    class_idx: int
    label: str
    logit: float
    probability: float
    bias: float
    cam: NDArray[np.float32] = field(repr=False)
    grid: Grid
    frame: Frame
    image: NDArray[np.uint8] = field(repr=False)

    @property
    def completeness_error(self) -> float:
        """abs(mean(cam) + bias - logit) / max(1, abs(logit)), no unit."""
        values = (torch.from_numpy(self.cam), torch.tensor(self.bias), torch.tensor(self.logit))
        return float(completeness_error(*values))

    @property
    def peak(self) -> tuple[int, int]:
        """Pixel (y, x) of the photograph with the most evidence for the class."""
        return peak(self.cam, self.grid, self.frame)

    @property
    def limit(self) -> float:
        """Largest evidence for or against the class, logit units: the ends of this picture's own colour scale."""
        return float(np.abs(self.cam).max())

    def heat(self) -> NDArray[np.float32]:
        """Place the map on the photograph: (H, W) float32, logit units, not a number where nothing was seen."""
        return place(self.cam, self.grid, self.frame)

    def overlay(
        self, *, limit: float | None = None, opacity: float = 0.5, colormap: str = "signed", legend: bool = False
    ) -> NDArray[np.uint8]:
        """Blend the coloured heat over the photograph.

        Args:
            limit: evidence at the ends of the colour scale, logit units; the map's own largest by default.
            opacity: of the heat: 0 photograph only, 1 heat only.
            colormap: "signed", or the name of an OpenCV colour map.
            legend: whether label, probability, logit and colour bar are written below.

        Returns:
            (H, W, 3) uint8 RGB; higher, and wider for small pictures, with the legend.

        Raises:
            UsageError: an argument that cannot be right.
        """
        limit = self.limit if limit is None else limit
        picture = overlay(self.image, self.heat(), limit=limit, opacity=opacity, colormap=colormap)
        if not legend:
            return picture
        details = f"probability {100 * self.probability:.1f} %   logit {self.logit:.2f}"
        whole = self.frame.seen == (0, 0, self.frame.photo[1], self.frame.photo[0])
        notes = [f"peak {self.cam.flat[np.abs(self.cam).argmax()]:+.3g}"] if self.limit > limit else []
        note = "; ".join(notes if whole else [*notes, "hatched: not seen"])
        return with_legend(picture, title=self.label, details=details, limit=limit, colormap=colormap, note=note)


def explain(
    classifier: Classifier, photo: Photo, class_idx: int | None = None, *, fit: Fit | None = None
) -> Explanation:
    """Explain one picture's score for one class.

    Args:
        classifier: from `load_classifier` or `wrap`.
        photo: a file, or (H, W, 3) uint8 RGB.
        class_idx: the class; None for the predicted one.
        fit: "crop" looks at the centre the model was evaluated on, "whole" at all of the picture at the same scale.

    Raises:
        ImageError: the file cannot be read as a picture.
        UsageError: there is no such class.
        ModelError: the network does not run on the picture, or its scores are not finite.

    Example:
        >>> import cam
        >>> explanation = cam.explain(cam.load_classifier("digits"), np.zeros((64, 96, 3), np.uint8))
        >>> round(float(explanation.cam.mean() + explanation.bias - explanation.logit), 4) == 0
        True
    """
    return next(explain_all(classifier, [photo], class_idx, fit=fit))


def explain_all(
    classifier: Classifier,
    photos: Iterable[Photo],
    class_idx: int | None = None,
    *,
    fit: Fit | None = None,
    batch_size: int = 32,
) -> Iterator[Explanation]:
    """Explain pictures in batches, in order, with memory for one batch.

    Args:
        classifier: from `load_classifier` or `wrap`.
        photos: files, or (H, W, 3) uint8 RGB.
        class_idx: the class to explain in all of them; None for the predicted one of each.
        fit: as for `explain`.
        batch_size: pictures in one forward pass.

    Raises:
        ImageError, UsageError, ModelError: as for `explain`, when the picture's turn comes.

    Example:
        >>> import cam
        >>> photos = [np.zeros((64, 96, 3), np.uint8), np.zeros((96, 64, 3), np.uint8)]
        >>> [e.cam.shape for e in cam.explain_all(cam.load_classifier("digits"), photos)]
        [(18, 27), (27, 18)]
    """
    targets = TOP1 if class_idx is None else (OneClass(class_idx),)
    if batch_size < 1:
        raise UsageError(f"A batch of {batch_size} pictures cannot be run", "Give 1 or more")
    remaining = iter(photos)
    while some := list(islice(remaining, batch_size)):
        images: list[NDArray[np.uint8]] = []
        bad: CamError | None = None
        for photo in some:
            try:
                images.append(read_image(photo) if isinstance(photo, (str, Path)) else checked(photo))
            except CamError as error:  # the pictures before it come first
                bad = error
                break
        for result in explain_images(classifier, images, targets, fit=fit):
            if isinstance(result, ModelError):
                raise result
            yield result[0]
        if bad is not None:
            raise bad


def explain_images(
    classifier: Classifier,
    images: Sequence[NDArray[np.uint8]],
    targets: Iterable[Target] = TOP1,
    *,
    fit: Fit | None = None,
) -> Iterator[list[Explanation] | ModelError]:
    """Explain a batch of pictures, all targets of a picture from one forward pass.

    Args:
        classifier: from `load_classifier` or `wrap`.
        images: (H, W, 3) uint8 RGB, of any sizes; those of one input size share a pass.
        targets: the classes wanted of each.
        fit: as for `explain`.

    Returns:
        In order, for each picture one explanation a class, or what went wrong with it.

    Raises:
        UsageError: a class that the classifier does not have.
    """
    targets = tuple(targets)
    prepared = [classifier.preprocessing.prepare(image, fit) for image in images]
    results: dict[int, list[Explanation] | ModelError] = {}
    by_size = sorted(range(len(images)), key=lambda index: prepared[index][1].input)
    for _, same in groupby(by_size, key=lambda index: prepared[index][1].input):
        indices = list(same)
        inputs = torch.stack([prepared[index][0] for index in indices])
        views = [(images[index], prepared[index][1]) for index in indices]
        try:
            group = _explain_inputs(classifier, inputs, views, targets)
        except ModelError as error:
            group = [error] * len(indices)
        results.update(zip(indices, group, strict=True))
    return (results[index] for index in range(len(images)))


def _explain_inputs(
    classifier: Classifier,
    inputs: Tensor,
    views: Sequence[tuple[NDArray[np.uint8], Frame]],
    targets: tuple[Target, ...],
) -> list[list[Explanation] | ModelError]:
    height, width = inputs.shape[2:]
    logits, features, head = classifier.evaluate(inputs)
    scales = head.scales(features, logits).tolist()
    grid = classifier.grid_for((features.shape[2], features.shape[3]), (height, width))
    tolerance = max(tolerance_of(features.dtype), tolerance_of(device_and_dtype(classifier.network)[1]))
    on_cpu, probabilities = logits.cpu(), classifier.probabilities(logits).cpu()
    results: list[list[Explanation] | ModelError] = []
    for row, (image, frame) in enumerate(views):
        if not on_cpu[row].isfinite().all():
            found = f"The class scores that {classifier.name!r} gives this picture are not finite"
            results.append(ModelError(found, "Check its weights, or run it in float32"))
            continue
        classes = resolve(targets, on_cpu[row])
        cams = class_activation_maps(features[row, None], scales[row] * head.weight[classes])[0].cpu().numpy()
        missed = np.abs(cams.mean((1, 2)) + head.bias[classes].cpu().numpy() - on_cpu[row, classes].numpy()).max()
        if not missed <= tolerance * max(1.0, float(on_cpu[row].abs().max())):
            found = f"The maps of this picture miss the class scores of {classifier.name!r} by {missed:.3g} logits"
            results.append(ModelError(found, "Look at it as the model was evaluated, with --fit crop"))
            continue
        figures = (values[classes].tolist() for values in (on_cpu[row], probabilities[row], head.bias))
        results.append(
            [
                Explanation(class_idx, classifier.labels[class_idx], logit, probability, bias, cam, grid, frame, image)
                for class_idx, logit, probability, bias, cam in zip(classes, *figures, cams, strict=True)
            ]
        )
    return results
