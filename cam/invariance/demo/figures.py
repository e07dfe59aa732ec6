"""Figures of the demonstration: accuracy by position, accuracy by half, and heat in the unseen half."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from cam.drawing.colormaps import paint, to_color_indices
from cam.drawing.legend import BAR_GRAY
from cam.explanations.explanation import Explanation
from cam.files import write_whole
from cam.invariance.demo.scenes import Ints
from cam.invariance.demo.training import RIGHT_HALF, SIZE, SMALL_SET, DigitScenes
from cam.invariance.figures import PEAK_STYLE, evidence_bar, new_figure, rectangle, to_png
from cam.maps.geometry import Grid

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

MIN_SCENES = 10  # at a position, for a meaningful accuracy
_SHOWN = 8  # scenes with heat

_TITLES = {
    "position-gap": "GAP + linear",
    "position-gap-circular": "GAP + linear,\ncircular padding",
    "position-gap-reflect": "GAP + linear,\nreflect padding",
    "position-flatten": "flatten + linear",
    "position-flatten-mlp": "flatten + two linear,\ndropout",
}
_WHY_TEXT = """Convolutions see the digit alike at both places:
the features move along with it.

The averaged head weighs them alike in every cell,
so the sum over the cells, which is the mean of the
class map, stays. The flattened head has other weights
in each cell, and those at the left have never learned
from a digit."""
_PADDING_TEXT = """Zeros as padding show the convolutions where the
border is, and so does the mirrored image (reflect);
with the opposite side (circular) there is no border.
The averaged head is right in the half that it never
saw with all three."""


@dataclass(frozen=True)
class CellSums:
    """What each cell adds to the logit of one class: `shares.sum((1, 2)) + bias` is the logit of each image."""

    weights: NDArray[np.float32]  # (K, h, w): of each feature in each cell
    shares: NDArray[np.float32]  # (N, h, w)
    bias: float
    predicted: NDArray[np.integer]  # (N,)
    probabilities: NDArray[np.float32]  # (N,) of the predicted class

    @property
    def logits(self) -> NDArray[np.float32]:
        """(N,) of the class."""
        return np.asarray(self.shares.sum((1, 2)) + self.bias)


@dataclass(frozen=True)
class MovedDigit:
    """One digit in the seen half, and moved to the other, under two heads."""

    class_idx: int
    images: NDArray[np.uint8]  # (2, H, W, 3)
    boxes: Ints  # (2, 4)
    heads: Mapping[str, CellSums]  # by name of the network

    def facts(self) -> dict[str, Any]:
        """Summarize for `demo.json`: logit of the digit, predicted class and its probability, before and after."""
        names = "logits", "predicted", "probabilities"
        heads = {name: {part: getattr(head, part) for part in names} for name, head in self.heads.items()}
        return {"class_idx": self.class_idx, "boxes": self.boxes, "heads": heads}


def draw_demo(
    out: Path,
    networks: Sequence[dict[str, Any]],
    explanations: Sequence[Explanation],
    scenes: DigitScenes,
    moved: MovedDigit,
) -> None:
    """Draw results of `evaluate_network`, explanations of scenes in the unseen half, and a digit moved there."""
    networks = sorted(networks, key=lambda network: network["padding_mode"] != "zeros")  # heads first, then padding
    figures = {
        "why.png": _draw_why(moved, explanations[0].grid),
        "accuracy-by-place.png": _draw_positions(networks),
        "accuracy.png": _draw_halves(networks),
        "unseen-heat.png": _draw_heat(explanations[:_SHOWN], scenes),
    }
    for name, figure in figures.items():
        write_whole(out / name, to_png(figure))


def _draw_why(moved: MovedDigit, grid: Grid) -> Figure:
    """Draw a digit at two places, what each cell adds to its logit under two heads, and the weights of the cells."""
    figure = new_figure(11.5, 6.2)
    rows = figure.subplots(3, 3)
    digit, (left, top) = f"a {moved.class_idx}", (grid.offset[axis] - grid.stride[axis] / 2 for axis in (1, 0))
    extent = left, left + SIZE[1], top + SIZE[0], top
    for axes, image, place in zip(
        rows[0], moved.images, ("where digits were learned", "moved to where none was"), strict=False
    ):
        axes.imshow(image)
        axes.set_title(f"{digit}, {place}", fontsize=9)
    for (name, head), row in zip(moved.heads.items(), rows[1:], strict=True):
        vmax = float(abs(head.shares).max())
        for number, axes in enumerate(row[:2]):
            axes.imshow(_color(head.shares[number], vmax), extent=extent)
            sums = f"cells add up to {head.shares[number].sum():+.2f}, bias {head.bias:+.2f}"
            predicted = f"predicted {head.predicted[number]} ({head.probabilities[number]:.0%})"
            axes.set_title(f"{sums}: logit {head.logits[number]:.2f}\n{predicted}", fontsize=9)
        row[0].set_ylabel(_TITLES[name], fontsize=10)
        side = math.isqrt(len(head.weights))
        blocks = head.weights.reshape(side, side, *head.weights.shape[1:]).transpose(2, 0, 3, 1)
        row[2].imshow(_color(blocks.reshape(SIZE), float(abs(head.weights).max())), extent=extent)
        row[2].vlines(np.arange(left, SIZE[1], grid.stride[1]), 0, SIZE[0], "black", linewidth=0.6)
        row[2].hlines(np.arange(top, SIZE[0], grid.stride[0]), 0, SIZE[1], "black", linewidth=0.6)
        row[2].set_title(f"the {len(head.weights)} weights of each cell for {digit}", fontsize=9)
        evidence_bar(figure, row, vmax, f"share of the\nlogit of {digit}", fontsize=8)
    shown = [moved.boxes[:1]] * 3 + [moved.boxes[1:]] * 3 + [moved.boxes] * 3
    for axes, boxes in zip(rows.T.flat, shown, strict=True):
        axes.axvline(RIGHT_HALF[0] - 0.5, color="red", linestyle="--", linewidth=1)
        axes.set(
            xticks=[], yticks=[], xlim=(-0.5, SIZE[1] - 0.5), ylim=(SIZE[0] - 0.5, -0.5), facecolor=str(BAR_GRAY / 255)
        )
        for box in boxes:
            rectangle(axes, tuple(box.tolist()), "white", 2)
    rows[0, 2].clear()
    rows[0, 2].axis("off")
    rows[0, 2].text(0, 0.5, _WHY_TEXT, va="center", fontsize=9)
    figure.suptitle("Why an average does not care about position: the same weights in every cell", fontsize=11)
    return figure


def _color(values: NDArray[np.floating], vmax: float) -> NDArray[np.uint8]:
    """Signed values (h, w) as colors on gray."""
    return paint(to_color_indices(values, vmax), np.full(values.shape, BAR_GRAY, np.uint8), "signed", 0.85)


def _draw_positions(networks: Sequence[dict[str, Any]]) -> Figure:
    figure = new_figure(11.5, 5.2)
    grid = figure.subplots(2, 3)
    for network, axes in zip(networks, grid.flat, strict=False):
        image = axes.imshow(network["by_position"], vmin=0, vmax=1, cmap="viridis", extent=(0, SIZE[1], SIZE[0], 0))
        axes.set_facecolor("lightgray")
        axes.axvline(RIGHT_HALF[0], color="red", linestyle="--", linewidth=1.2)
        title, seen, unseen = _TITLES[network["name"]].replace("\n", " "), network["seen"][0], network["unseen"][0]
        axes.set_title(f"{title}\nseen half {seen:.1%}, unseen half {unseen:.1%}", fontsize=9)
        axes.set_xlabel("x of the digit's center (pixels)", fontsize=8)
        axes.set_ylabel("y (pixels)", fontsize=8)

    grid[1, 2].axis("off")
    grid[1, 2].text(0, 0.5, _PADDING_TEXT, va="center", fontsize=9)
    figure.colorbar(image, ax=grid, shrink=0.8, label="accuracy (chance is 0.1)")
    title = "Trained right of the dashed line only: accuracy by position of the digit"
    figure.suptitle(f"{title} (gray: fewer than {MIN_SCENES} scenes)", fontsize=11)
    return figure


def _draw_halves(networks: Sequence[dict[str, Any]]) -> Figure:
    figure = new_figure(11.5, 4.2)
    left, right = figure.subplots(1, 2, sharey=True, width_ratios=(5, 3))
    for shift, half, color in ((-0.2, "seen", "tab:blue"), (0.2, "unseen", "tab:orange")):
        means, low, high = np.transpose([network[half] for network in networks])
        x, label = np.arange(len(networks)) + shift, f"digit in the {half} half"
        left.bar(x, means, 0.38, yerr=(means - low, high - means), color=color, capsize=3, label=label)
    left.set_title("Large training set, all digits in the right half", fontsize=10)
    left.set_ylabel("accuracy")
    _set_bar_axes(left, [f"{_TITLES[network['name']]}\n{network['parameters']:,} parameters" for network in networks])

    small = {network["name"]: network["small_set_accuracy"] for network in networks if network["small_set_accuracy"]}
    parts = (-0.2, "train", "training scenes", "tab:gray"), (0.2, "test", "other scenes, same half", "tab:blue")
    for shift, part, label, color in parts:
        shares = [accuracy[part] for accuracy in small.values()]
        right.bar(np.arange(len(small)) + shift, shares, 0.38, color=color, label=label)
    right.set_title(f"Only {SMALL_SET} training scenes: generalization gap", fontsize=10)
    gaps = {name: 100 * (accuracy["train"] - accuracy["test"]) for name, accuracy in small.items()}
    _set_bar_axes(right, [f"{_TITLES[name]}\ngap {gap:.1f} points" for name, gap in gaps.items()])
    return figure


def _set_bar_axes(axes: Axes, titles: Sequence[str]) -> None:
    axes.set_xticks(range(len(titles)), titles, fontsize=7.5)
    axes.set(ylim=(0, 1.3), yticks=np.linspace(0, 1, 6))
    axes.axhline(0.1, color="black", linewidth=0.8, linestyle=":", label="chance")
    axes.legend(loc="upper right", ncols=2, fontsize=8)


def _draw_heat(explanations: Sequence[Explanation], scenes: DigitScenes) -> Figure:
    """Draw scenes, each with its heat below, on one color scale."""
    columns = _SHOWN // 2
    vmax = max(explanation.vmax for explanation in explanations)
    figure = new_figure(11.5, 6.6)
    grid = figure.subplots(4, columns)
    for number, explanation in enumerate(explanations):
        above, below = grid[2 * (number // columns) :, number % columns][:2]
        above.imshow(explanation.image)
        predicted = f"predicted {explanation.label} ({explanation.probability or 0:.0%})"
        above.set_title(f"true {scenes.classes[number]}, {predicted}", fontsize=9)
        below.imshow(explanation.overlay(vmax=vmax, contours=False))
        y, x = explanation.peak
        below.plot(x, y, **PEAK_STYLE)
        for axes in (above, below):
            rectangle(axes, tuple(scenes.boxes[number].tolist()), "white", 1)
            axes.axvline(RIGHT_HALF[0] - 0.5, color="red", linestyle="--", linewidth=1)
            axes.set(xticks=[0, 32, 63], yticks=[0, 31])
            axes.tick_params(labelsize=7)
            axes.set_xlabel("x (pixels)", fontsize=7)
            axes.set_ylabel("y (pixels)", fontsize=7)
            axes.label_outer()
    evidence_bar(figure, grid, vmax, "evidence for the predicted class (logit)", fontsize=9)
    figure.suptitle(
        "GAP + linear, digits left of the dashed line, where none was trained on: box of the digit, peak of the heat",
        fontsize=11,
    )
    return figure
