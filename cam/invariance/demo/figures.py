"""Figures of the demonstration: accuracy by position, accuracy by half, and heat in the unseen half."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from cam.explanations.explanation import Explanation
from cam.files import write_whole
from cam.invariance.demo.training import RIGHT_HALF, SIZE, SMALL_SET, DigitScenes
from cam.invariance.figures import PEAK_STYLE, evidence_bar, new_figure, rectangle, to_png

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


def draw_demo(
    out: Path, networks: Sequence[dict[str, Any]], explanations: Sequence[Explanation], scenes: DigitScenes
) -> None:
    """Draw results of `evaluate_network`, and explanations of scenes in the unseen half."""
    networks = sorted(networks, key=lambda network: network["padding_mode"] != "zeros")  # heads first, then padding
    figures = {
        "accuracy-by-place.png": _draw_positions(networks),
        "accuracy.png": _draw_halves(networks),
        "unseen-heat.png": _draw_heat(explanations[:_SHOWN], scenes),
    }
    for name, figure in figures.items():
        write_whole(out / name, to_png(figure))


def _draw_positions(networks: Sequence[dict[str, Any]]) -> Figure:
    figure = new_figure(11.5, 5.2)
    grid = figure.subplots(2, 3)
    for network, axes in zip(networks, grid.flat, strict=False):
        image = axes.imshow(network["by_position"], vmin=0, vmax=1, cmap="viridis", extent=(0, SIZE[1], SIZE[0], 0))
        axes.axvline(RIGHT_HALF[0], color="red", linestyle="--", linewidth=1.2)
        title, seen, unseen = _TITLES[network["name"]].replace("\n", " "), network["seen"][0], network["unseen"][0]
        axes.set_title(f"{title}\nseen half {seen:.1%}, unseen half {unseen:.1%}", fontsize=9)
        axes.set_xlabel("x of the digit's center (pixels)", fontsize=8)
        axes.set_ylabel("y (pixels)", fontsize=8)

    axes = grid[1, 2]
    r2 = {network["padding_mode"]: network["position_r2"] for network in networks if network["head"] == "gap-linear"}
    means, low, high = np.transpose(list(r2.values()))
    axes.bar(list(r2), means, 0.5, yerr=(means - low, high - means), capsize=3, color="tab:purple")
    axes.axhline(0, color="black", linewidth=0.8)
    axes.set_ylim(-0.1, 1)
    axes.set_title("GAP: how much of the digit's x\nits averaged features still tell", fontsize=9)
    axes.set_xlabel("padding", fontsize=8)
    axes.set_ylabel("variance explained (R2)", fontsize=8)

    figure.colorbar(image, ax=grid, shrink=0.8, label="accuracy (chance is 0.1)")
    title = "Trained right of the dashed line only: accuracy by position of the digit"
    figure.suptitle(f"{title} (white: fewer than {MIN_SCENES} scenes)", fontsize=11)
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
        below.imshow(explanation.overlay(vmax=vmax))
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
