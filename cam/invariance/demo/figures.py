"""Figures of the demonstration: accuracy by place, accuracy by half, and heat where no digit was ever learned."""

from __future__ import annotations

import io
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from cam.drawing.colormaps import lookup
from cam.explanations.explanation import Explanation
from cam.files import write_whole
from cam.invariance.demo.positions import FEWEST, Measured
from cam.invariance.demo.training import FEW, RIGHT, SIZE, Scenes
from cam.invariance.sheets import new_figure

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure


_SHOWN = 8  # scenes on the sheet

_TITLES = {
    "position-gap": "GAP + linear",
    "position-gap-circular": "GAP + linear,\ncircular padding",
    "position-gap-reflect": "GAP + linear,\nreflect padding",
    "position-flatten": "flatten + linear",
    "position-flatten-mlp": "flatten + two linear,\ndropout",
}


def draw_demo(
    out: Path,
    measured: Sequence[Measured],
    explanations: Sequence[Explanation],
    scenes: Scenes,
    explained: NDArray[np.integer],
) -> None:
    """Draw what was measured.

    Args:
        out: the folder for `accuracy-by-place.png`, `accuracy.png` and `unseen-heat.png`.
        measured: a network each.
        explanations: of scenes whose digit stands in the half that nothing was learned from.
        scenes: all of them.
        explained: the indices of those explained.

    Raises:
        OutputError: a file cannot be written.
    """
    figures = {
        "accuracy-by-place.png": _maps(measured),
        "accuracy.png": _bars(measured),
        "unseen-heat.png": _sheet(explanations, scenes.classes[explained], scenes.boxes[explained]),
    }
    for name, figure in figures.items():
        buffer = io.BytesIO()
        figure.savefig(buffer, format="png")
        write_whole(out / name, buffer.getvalue())


def _maps(measured: Sequence[Measured]) -> Figure:
    figure = new_figure(11.5, 5.2)
    axes = figure.subplots(2, 3)
    for each, axis in zip(_heads_first(measured), axes.flat, strict=False):
        image = axis.imshow(each.by_place, vmin=0, vmax=1, cmap="viridis", extent=(0, SIZE[1], SIZE[0], 0))
        axis.axvline(RIGHT[0], color="red", linestyle="--", linewidth=1.2)
        halves = f"seen half {each.seen[0]:.1%}, unseen half {each.unseen[0]:.1%}"
        axis.set_title(f"{_TITLES[each.name].replace(chr(10), ' ')}\n{halves}", fontsize=9)
        axis.set_xlabel("x of the digit's center (pixels)", fontsize=8)
        axis.set_ylabel("y (pixels)", fontsize=8)
    _told(axes[1, 2], measured)
    figure.colorbar(image, ax=axes, shrink=0.8, label="accuracy (chance is 0.1)")
    title = f"Learned right of the dashed line only: accuracy by where the digit is (white: fewer than {FEWEST} scenes)"
    figure.suptitle(title, fontsize=11)
    return figure


def _told(axes: Axes, measured: Sequence[Measured]) -> None:
    """How much of the digit's place the average still tells, by the padding that may let it."""
    averaged = [each for each in measured if each.head == "gap-linear"]
    estimates = np.array([each.told_place for each in averaged])
    axes.bar(
        [each.padding_mode for each in averaged],
        estimates[:, 0],
        0.5,
        yerr=np.abs(estimates[:, 1:] - estimates[:, :1]).T,
        capsize=3,
        color="tab:purple",
    )
    axes.axhline(0, color="black", linewidth=0.8)
    axes.set_ylim(-0.1, 1)
    axes.set_title("GAP: how much of the digit's x\nits averaged features still tell", fontsize=9)
    axes.set_xlabel("padding", fontsize=8)
    axes.set_ylabel("variance explained (R2)", fontsize=8)


def _heads_first(measured: Sequence[Measured]) -> list[Measured]:
    """The networks that differ in the head, then those that differ in padding."""
    return sorted(measured, key=lambda each: each.padding_mode != "zeros")


def _bars(measured: Sequence[Measured]) -> Figure:
    measured = _heads_first(measured)
    figure = new_figure(11.5, 4.2)
    left, right = figure.subplots(1, 2, sharey=True, width_ratios=(5, 3))
    titles = [f"{_TITLES[each.name]}\n{each.parameters:,} parameters" for each in measured]
    for shift, half, color in ((-0.2, "seen", "tab:blue"), (0.2, "unseen", "tab:orange")):
        estimates = np.array([getattr(each, half) for each in measured])
        errors = np.abs(estimates[:, 1:] - estimates[:, :1]).T
        places = np.arange(len(measured)) + shift
        left.bar(places, estimates[:, 0], 0.38, yerr=errors, color=color, capsize=3, label=f"digit in the {half} half")
    left.set_title("Many scenes to learn from, all with the digit in the right half", fontsize=10)
    few = [each for each in measured if each.few]
    for shift, part, color in ((-0.2, "train", "tab:gray"), (0.2, "test", "tab:blue")):
        shares = [each.few[part] for each in few]
        label = {"train": "the scenes learned from", "test": "other scenes, same half"}[part]
        right.bar(np.arange(len(few)) + shift, shares, 0.38, color=color, label=label)
    right.set_title(f"Only {FEW} scenes to learn from: generalization gap", fontsize=10)
    _finish(left, titles)
    _finish(
        right, [f"{_TITLES[each.name]}\ngap {100 * (each.few['train'] - each.few['test']):.1f} points" for each in few]
    )
    left.set_ylabel("accuracy")
    return figure


def _finish(axes: Axes, titles: Sequence[str]) -> None:
    axes.set_xticks(range(len(titles)), titles, fontsize=7.5)
    axes.set_ylim(0, 1.3)
    axes.set_yticks(np.linspace(0, 1, 6))
    axes.axhline(0.1, color="black", linewidth=0.8, linestyle=":", label="chance")
    axes.legend(loc="upper right", ncols=2, fontsize=8)


def _sheet(explanations: Sequence[Explanation], classes: NDArray[np.integer], boxes: NDArray[np.integer]) -> Figure:
    """The first scenes, right or wrong, each with its heat below, all on one color scale."""
    from matplotlib.cm import ScalarMappable
    from matplotlib.colors import ListedColormap, Normalize

    columns = _SHOWN // 2
    vmax = max(each.vmax for each in explanations[:_SHOWN])
    figure = new_figure(11.5, 6.6)
    axes = figure.subplots(4, columns)
    for number, (each, class_idx, box) in enumerate(zip(explanations[:_SHOWN], classes, boxes, strict=False)):
        above, below = axes[2 * (number // columns) :, number % columns][:2]
        above.imshow(each.image)
        above.set_title(f"true {class_idx}, predicted {each.label} ({each.probability:.0%})", fontsize=9)
        below.imshow(each.overlay(vmax=vmax))
        y, x = each.peak
        below.plot(x, y, "P", color="#00e676", markeredgecolor="black", markersize=9)
        for axis in (above, below):
            _mark(axis, box)
    colors = ListedColormap(lookup("signed")[1:] / 255)
    bar = figure.colorbar(ScalarMappable(Normalize(-vmax, vmax), colors), ax=axes, shrink=0.8)
    bar.set_label("evidence for the predicted class (logit)", fontsize=9)
    figure.suptitle(
        "GAP + linear, digits left of the dashed line, where none was learned: box of the digit, peak of the heat",
        fontsize=11,
    )
    return figure


def _mark(axes: Axes, box: NDArray[np.integer]) -> None:
    from matplotlib.patches import Rectangle

    x0, y0, x1, y1 = box.tolist()
    axes.add_patch(Rectangle((x0 - 0.5, y0 - 0.5), x1 - x0, y1 - y0, fill=False, edgecolor="white", linewidth=1))
    axes.axvline(RIGHT[0] - 0.5, color="red", linestyle="--", linewidth=1)
    axes.set_xticks([0, 32, 63])
    axes.set_yticks([0, 31])
    axes.tick_params(labelsize=7)
    axes.set_xlabel("x (pixels)", fontsize=7)
    axes.set_ylabel("y (pixels)", fontsize=7)
    axes.label_outer()
