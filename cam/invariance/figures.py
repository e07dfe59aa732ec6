"""Figures of what a moved object does: its heat at a few places, its score and its heat's error over all of them."""

from __future__ import annotations

import io
import warnings
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from cam.errors import OutputError
from cam.files import write_whole
from cam.invariance.results import Equivariance, Following, Invariance, Summary, mean_and_largest
from cam.invariance.sheets import contact_sheet, few, film, in_pixels, new_figure, outline, plain, shown

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure


FIGURES = ("contact-sheet.png", "score-map.png", "peak-error.png", "heat.webp")

_ARROWS = 9  # along each axis that are drawn

_NARROWEST = 1.0  # logits that the colors span at least: differences that mean nothing shall not look large


def check_matplotlib() -> None:
    """See to it that figures can be drawn, before anything is measured for them.

    Raises:
        OutputError: matplotlib is not installed.
    """
    try:
        import matplotlib.figure  # noqa: F401
    except ImportError as error:
        raise OutputError(
            "The figures need matplotlib, which is not installed", "pip install gapcam[figures]"
        ) from error


def write_figures(result: Invariance, out: Path) -> list[Path]:
    """Draw what was measured; figures of an earlier run are replaced, or taken away where there is no map for them.

    - contact-sheet.png: the object at a few places with its heat, one color scale for all.
    - score-map.png: logit and probability by where the object's center is.
    - peak-error.png: how far the heat's peak, and the centroid of its positive evidence, are from where they would be
      if they moved just as the object does.
    - heat.webp: the heat following the object.

    Args:
        result: from `measure_invariance`.
        out: the folder for them, made where there is none.

    Returns:
        The files; without an exact map only the first two.

    Raises:
        OutputError: matplotlib is not installed, or a file cannot be written.
    """
    check_matplotlib()
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Glyph .* missing")  # a letter that the font lacks is a box
        drawn = {"contact-sheet.png": _png(contact_sheet(result)), "score-map.png": _png(_score_map(result))}
        if result.equivariance is not None:
            drawn["peak-error.png"] = _png(_error_map(result, result.equivariance))
            drawn["heat.webp"] = film(result, result.equivariance)
    for name in FIGURES:
        if name in drawn:
            write_whole(out / name, drawn[name])
        else:
            (out / name).unlink(missing_ok=True)
    return [out / name for name in drawn]


def _png(figure: Figure) -> bytes:
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png")
    return buffer.getvalue()


def _score_map(result: Invariance) -> Figure:
    figure, (left, right) = _pair(result)
    label, places = plain(result.label), result.stays.size
    low, high = _span(result.logits)
    _map(figure, left, result, result.logits, f"logit of {label} (colors span {high - low:.3g})", low, high)
    _map(figure, right, result, result.probabilities, f"probability of {label}", 0.0, 1.0)
    _worst(left, result)
    left.set_title(f"mean {result.logits.mean():.2f}, standard deviation {result.logits.std():.2f}", fontsize=9)
    usual = f", most often {plain(result.labels[result.usual])}" if result.usual != result.class_idx else ""
    right.set_title(f"predicted at {result.stays.sum()} of {places} places{usual}", fontsize=9)
    away = result.scenes.centers[~result.stays]
    if len(away):
        right.plot(away[:, 1], away[:, 0], ".", color="red", markersize=4, label="another class is predicted")
        right.legend(loc="lower right", fontsize=8)
    figure.suptitle(f"Class score by where the object's center is: {plain(result.model)}", fontsize=11)
    return figure


def _error_map(result: Invariance, heat: Equivariance) -> Figure:
    figure, axes = _pair(result)
    followed = {"Peak of the heat": heat.peak, "Centroid of positive evidence": heat.centroid}
    largest = float(max(np.nanmax(each.deviations, initial=1.0) for each in followed.values()))
    for each, (name, following) in zip(axes, followed.items(), strict=True):
        _map(figure, each, result, following.deviations, "pixels off, by the object's center", 0.0, largest)
        _arrows(each, result, following)
        each.set_title(f"{name}: {_way(following)}", fontsize=9)
    about = f"{plain(result.model)}, {plain(result.label)}; cells of the map are {heat.grid.stride[0]:g} pixels apart"
    figure.suptitle(
        f"How far the heat is from where it would be if it moved just as the object (arrows: to scale)\n{about}",
        fontsize=11,
    )
    return figure


def _pair(result: Invariance) -> tuple[Figure, tuple[Axes, Axes]]:
    height, width = shown(result.scenes.canvas)
    figure = new_figure(10.4, 1.5 + 4 * max(0.5, height / width))
    left, right = figure.subplots(1, 2, sharex=True, sharey=True)
    return figure, (left, right)


def _worst(axes: Axes, result: Invariance) -> None:
    """The object where its score is the smallest."""
    row, column = Summary.of(result.logits).worst_place
    y, x = result.scenes.centers[row, column]
    outline(axes, result, row, column, "black", 3)
    outline(axes, result, row, column, "white", 1.2)
    axes.plot(
        x, y, "X", color="white", markeredgecolor="black", markersize=10, linestyle="",
        label="object at its worst place, and its outline",
    )  # fmt: skip
    axes.legend(loc="lower right", fontsize=8, facecolor="lightgray")


def _span(logits: NDArray[np.floating]) -> tuple[float, float]:
    """The ends of the colors."""
    low, high = float(logits.min()), float(logits.max())
    wider = max(0.0, _NARROWEST - (high - low)) / 2
    return low - wider, high + wider


def _map(
    figure: Figure,
    axes: Axes,
    result: Invariance,
    values: NDArray[np.floating],
    unit: str,
    low: float,
    high: float,
) -> None:
    """A value for each place of the object's center, with a color bar."""
    centers, (height, width) = result.scenes.centers, result.scenes.thing.size
    ys, xs = _edges(centers[:, 0, 0], height / 2), _edges(centers[0, :, 1], width / 2)
    bar = figure.colorbar(axes.pcolormesh(xs, ys, values, vmin=low, vmax=high, cmap="viridis"), ax=axes, shrink=0.9)
    bar.set_label(unit, fontsize=9)
    bar.ax.tick_params(labelsize=8)
    in_pixels(axes, result)


def _arrows(axes: Axes, result: Invariance, following: Following) -> None:
    """How far off the heat is, and to where, to scale."""
    some = np.ix_(*(few(count, _ARROWS) for count in result.scenes.shape))
    centers = result.scenes.centers[some].reshape(-1, 2)
    way = following.points[some].reshape(-1, 2) - centers - following.mean_offset
    axes.quiver(
        centers[:, 1], centers[:, 0], way[:, 1], way[:, 0],
        angles="xy", scale_units="xy", scale=1, color="white", edgecolor="black", linewidth=0.4, width=0.006,
    )  # fmt: skip


def _way(following: Following) -> str:
    """How far off it is, and where on the object."""
    y, x = following.mean_offset
    if np.isnan(y):
        return "there is none"
    mean, largest = mean_and_largest(following.deviations)
    where = f"{abs(y):.1f} {'below' if y > 0 else 'above'} and {abs(x):.1f} {'right' if x > 0 else 'left'} of"
    return f"off by {mean:.1f} on average, {largest:.1f} at most;\nin the mean {where} the object's center"


def _edges(centers: NDArray[np.floating], single: float) -> NDArray[np.floating]:
    """The bounds of cells with these centers; of a lone one that far to both sides."""
    half = np.diff(centers) / 2 if len(centers) > 1 else np.array([single])
    return np.concatenate(([centers[0] - half[0]], centers[:-1] + half[: len(centers) - 1], [centers[-1] + half[-1]]))
