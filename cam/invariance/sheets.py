"""The object at some of its places, with its heat: side by side, and one after the other."""

from __future__ import annotations

from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from cam.drawing.colormaps import lookup
from cam.drawing.overlay import overlay
from cam.invariance.results import Equivariance, Invariance
from cam.maps.geometry import Frame, Size
from cam.maps.projection import project

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure


_DPI = 110

_SHEET, _FILM = 3, 5  # places along each axis that are shown

_FRAMES_A_SECOND = 4

_PEAK = "#00e676"

_LABEL = 24  # letters of a class that are shown

_NARROWEST, _LOWEST = 0.8, 0.3  # a scene, by its longer side, with room for its caption

_LEGEND = 5.0  # inches that it needs


def contact_sheet(result: Invariance) -> Figure:
    """The object at up to three by three places with its heat, the peak marked, on one color scale."""
    rows, columns = (few(count, _SHEET) for count in result.scenes.shape)
    height, width = shown(result.scenes.canvas)
    side = 2.7 / max(height, width)
    size = 1.6 + len(columns) * (side * width + 0.3), 1.3 + len(rows) * (side * height + 0.7)
    figure = new_figure(max(_LEGEND, size[0]), size[1])
    axes = figure.subplots(len(rows), len(columns), sharex=True, sharey=True, squeeze=False)
    for (i, j), each in np.ndenumerate(axes):
        _scene(each, result, rows[i], columns[j])
        in_pixels(each, result)
        _caption(each, result, rows[i], columns[j], fontsize=8)
    _legend(figure, axes, result)
    return figure


def film(result: Invariance, heat: Equivariance) -> bytes:
    """The object's way over the places, there and back from row to row, as an animated WebP."""
    from matplotlib.animation import PillowWriter

    rows, columns = (few(count, _FILM) for count in result.scenes.shape)
    way = [(row, column) for turn, row in enumerate(rows) for column in (columns[::-1] if turn % 2 else columns)]
    height, width = shown(result.scenes.canvas)
    side = 4 / max(height, width)
    figure = new_figure(max(_LEGEND, 1.9 + side * width), 1.4 + side * height)
    scene = figure.subplots()
    in_pixels(scene, result)
    _legend(figure, scene, result)
    with TemporaryDirectory() as folder:
        path, writer = Path(folder, "heat.webp"), PillowWriter(_FRAMES_A_SECOND)
        with writer.saving(figure, path, _DPI):
            for row, column in way:
                for artist in (*scene.images, *scene.collections, *scene.lines):
                    artist.remove()
                _scene(scene, result, row, column)
                _caption(scene, result, row, column, fontsize=9, family="monospace")
                writer.grab_frame()
                figure.set_layout_engine("none")  # the first frame's stays: nothing jumps, and the rest is quick
        return path.read_bytes()


def scene_with_heat(result: Invariance, row: int, column: int) -> NDArray[np.uint8]:
    """Paint one scene with its heat over it, on the color scale of all: (H, W, 3) uint8 RGB; without, as it is."""
    image = result.scenes.at((result.scenes.ys[row], result.scenes.xs[column]))
    heat, canvas = result.equivariance, result.scenes.canvas
    if heat is None:
        return image
    placed = project(heat.cams[row, column], heat.grid, Frame(canvas, canvas, (0, 0), canvas))
    return overlay(image, placed, vmax=heat.vmax)


def new_figure(width: float, height: float) -> Figure:
    """An empty figure, in inches, that finds room for everything on it."""
    from matplotlib.figure import Figure

    return Figure((width, height), dpi=_DPI, layout="constrained")


def outline(axes: Axes, result: Invariance, row: int, column: int, color: str, width: float, style: str = "-") -> None:
    """Draw the object's contour at one place: where its mask falls to half, or its rectangle."""
    alpha = np.pad(result.scenes.thing.alpha, 1)
    ys = np.arange(alpha.shape[0]) + result.scenes.ys[row] - 1
    xs = np.arange(alpha.shape[1]) + result.scenes.xs[column] - 1
    axes.contour(xs, ys, alpha, [alpha.max() / 2], colors=color, linewidths=width, linestyles=style, clip_on=False)


def shown(canvas: Size) -> tuple[float, float]:
    """Height and width, pixels, of what is shown: the canvas, with room beside it where it is long and thin.

    Example:
        >>> shown((1000, 100)), shown((100, 200))
        ((1000, 800.0), (100, 200))
    """
    height, width = canvas
    return max(height, _LOWEST * width), max(width, _NARROWEST * height)


def in_pixels(axes: Axes, result: Invariance) -> None:
    """Show all of the canvas, pixel i at i, framed where there is room beside it."""
    from matplotlib.patches import Rectangle

    (height, width), (high, wide) = result.scenes.canvas, shown(result.scenes.canvas)
    top, left = (height - high - 1) / 2, (width - wide - 1) / 2
    axes.set(xlim=(left, left + wide), ylim=(top + high, top), aspect="equal")
    axes.add_patch(Rectangle((-0.5, -0.5), width, height, fill=False, edgecolor="gray", linewidth=0.5))
    for axis, name in ((axes.xaxis, "x"), (axes.yaxis, "y")):
        axis.set_label_text(f"{name} (pixels of the canvas)", fontsize=8)
        axis.set_tick_params(labelsize=8)
    axes.label_outer()


def plain(text: str) -> str:
    r"""Text on one line that no formula is read into.

    Example:
        >>> print(plain("5\t$"))
        5?\$
    """
    return "".join(letter if letter.isprintable() else "?" for letter in text).replace("$", r"\$")


def few(count: int, wanted: int) -> list[int]:
    """Take some of so many indices, evenly spread.

    Example:
        >>> few(17, 5)
        [0, 4, 8, 12, 16]
    """
    return sorted({round(index) for index in np.linspace(0, count - 1, wanted)})


def _caption(axes: Axes, result: Invariance, row: int, column: int, **style: Any) -> None:
    """The score at a place and the class predicted there, in red where it is another."""
    share, won = (f"{each[row, column]:.1%}" for each in (result.probabilities, result.predicted_probabilities))
    label = result.labels[result.predicted[row, column]]
    text = plain(label if len(label) <= _LABEL else f"{label[: _LABEL - 1]}\N{HORIZONTAL ELLIPSIS}")
    score = f"logit {result.logits[row, column]:6.2f}, probability {share:>6}"
    color = "black" if result.stays[row, column] else "red"
    axes.set_title(f"{score}\npredicted: {text}, {won}", color=color, **style)


def _scene(axes: Axes, result: Invariance, row: int, column: int) -> None:
    """A scene with its heat, the object outlined and the peak marked."""
    axes.imshow(scene_with_heat(result, row, column), interpolation="nearest")
    outline(axes, result, row, column, "black", 3)
    outline(axes, result, row, column, "white", 1.2)
    if result.equivariance is not None:
        y, x = result.equivariance.peak.points[row, column]
        axes.plot(x, y, "P", color=_PEAK, markeredgecolor="black", markersize=9)


def _legend(figure: Figure, axes: Axes | NDArray[Any], result: Invariance) -> None:
    """What the marks and the colors of scenes mean."""
    from matplotlib.cm import ScalarMappable
    from matplotlib.colors import ListedColormap, Normalize
    from matplotlib.lines import Line2D
    from matplotlib.patches import Patch

    marks: list[Any] = [Patch(facecolor="white", edgecolor="black", label="outline of the object")]
    heat = result.equivariance
    if heat is None:
        figure.suptitle(f"{plain(result.model)}, {plain(result.label)}: no exact map", fontsize=10)
    else:
        peak = Line2D([], [], color=_PEAK, marker="P", markeredgecolor="black", linestyle="", label="peak of the heat")
        marks.append(peak)
        colors = ListedColormap(lookup("signed")[1:] / 255)
        bar = figure.colorbar(ScalarMappable(Normalize(-heat.vmax, heat.vmax), colors), ax=axes, shrink=0.8)
        bar.set_label(f"evidence for {plain(result.label)} (logit)", fontsize=8)
        bar.ax.tick_params(labelsize=8)
        figure.suptitle(f"{plain(result.model)}, {plain(result.label)}", fontsize=10)
    figure.legend(handles=marks, loc="outside lower center", ncols=2, fontsize=8)
