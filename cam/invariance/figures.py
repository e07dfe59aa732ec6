"""Figures of a moved object: its heat at some positions, and its score and the heat's error over all of them."""

from __future__ import annotations

import io
import warnings
from collections.abc import Iterator
from fractions import Fraction
from importlib import import_module
from pathlib import Path
from textwrap import wrap
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from cam.drawing.colormaps import paint
from cam.drawing.legend import BAR_GRAY
from cam.drawing.overlay import draw
from cam.errors import OutputError
from cam.explanations.explanation import enlarge_for_legend
from cam.files import write_whole
from cam.images.write_video import VideoFormat, write_video
from cam.invariance.results import Equivariance, Invariance, PointTracking, mean_and_max, summarize_scores
from cam.maps.geometry import Frame

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

FIGURES = ("contact-sheet.png", "score-map.png", "peak-error.png", "heat.webp")
_SHEET, _ANIMATION = 3, 5  # positions along each axis that are shown
_MIN_SPAN = 1.0  # logits that the color scale spans at least, so that tiny differences do not look large
_MAX_LABEL = 24  # characters of a class label
_TITLE = 40  # characters of a line above one of two axes
_TILE = 2.7  # inches, width of one position: enough for its caption
_DPI = 110
_FRAMES_PER_SECOND = 4

PEAK_STYLE: dict[str, Any] = {
    "color": "#00e676", "linestyle": "", "marker": "P", "markeredgecolor": "black", "markersize": 9
}  # fmt: skip
_CENTROID_STYLE = PEAK_STYLE | {"color": "#ff9100", "marker": "o", "markersize": 5}


def write_figures(result: Invariance, out: Path) -> list[Path]:
    """Draw the result, the heat only if there is an exact map, and remove other `FIGURES` of an earlier run."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Glyph .* missing")  # a letter that the font lacks is drawn as a box
        files = {"contact-sheet.png": to_png(contact_sheet(result)), "score-map.png": to_png(score_map(result))}
        if result.equivariance is not None:
            files["peak-error.png"] = to_png(error_map(result, result.equivariance))
            files["heat.webp"] = animation(result)
    for name, content in files.items():
        write_whole(out / name, content)
    for name in set(FIGURES) - set(files):
        (out / name).unlink(missing_ok=True)
    return [out / name for name in files]


def contact_sheet(result: Invariance) -> Figure:
    """Draw the object at up to three by three positions with its heat and its scores."""
    rows, columns = (_spread_indices(count, _SHEET) for count in result.placements.shape)
    height, width = _view_size(result)
    figure = new_figure(1.6 + len(columns) * (_TILE + 0.3), 1.3 + len(rows) * (_TILE * height / width + 0.7))
    grid = figure.subplots(len(rows), len(columns), sharex=True, sharey=True, squeeze=False)
    for (i, j), axes in np.ndenumerate(grid):
        _draw_position(axes, result, rows[i], columns[j], fontsize=8)
        _set_pixel_axes(axes, result)
    _add_legend(figure, grid, result)
    return figure


def animation(result: Invariance) -> bytes:
    """Draw the object at up to five by five positions, back and forth from row to row, as an animated WebP."""
    rows, columns = (_spread_indices(count, _ANIMATION) for count in result.placements.shape)
    height, width = _view_size(result)
    figure = new_figure(1.9 + 1.5 * _TILE, 1.4 + 1.5 * _TILE * height / width)
    axes = figure.subplots()
    _set_pixel_axes(axes, result)
    _add_legend(figure, axes, result)

    def frames() -> Iterator[None]:
        for i, row in enumerate(rows):
            for column in columns[::-1] if i % 2 else columns:
                for artist in (*axes.images, *axes.collections, *axes.lines):
                    artist.remove()
                _draw_position(axes, result, row, column, fontsize=9, family="monospace")
                yield

    return to_webp(figure, frames())


def score_map(result: Invariance) -> Figure:
    """Draw the logit for each position, with that of the image alone and what should be left of it on the canvas."""
    figure, left, right = _two_axes(result)
    label, logits = one_line(result.label), result.logits
    low, high = float(logits.min()), float(logits.max())
    widening = max(0.0, _MIN_SPAN - (high - low)) / 2
    low, high = low - widening, high + widening
    _draw_map(left, result, logits, f"{next(iter(result.scores))} of {label} (colors span {high - low:.3g})", low, high)

    row, column = summarize_scores(logits, result.placements.centers)["min_position"]
    y, x = result.placements.centers[row, column]
    draw_outline(left, result, row, column)
    left.plot(
        x, y, "X", color="white", markeredgecolor="black", markersize=10, linestyle="",
        label="object at its lowest score, and its outline",
    )  # fmt: skip
    others = result.placements.centers[~result.is_predicted]
    if len(others):
        left.plot(others[:, 1], others[:, 0], ".", color="red", markersize=4, label="another class is predicted")
    figure.legend(
        *left.get_legend_handles_labels(), loc="outside lower left", ncols=2, fontsize=8, facecolor="lightgray"
    )
    left.set_title("\n".join(wrap(one_line(result.predictions), _TITLE)), fontsize=9)
    _draw_scores(right, result)
    _add_title(figure, result, result.dilution_note)
    return figure


def _draw_scores(axes: Axes, result: Invariance) -> None:
    """Draw a bar each for the score of the image alone, the one expected on the canvas, and the mean measured there."""
    alone, logits, shares = result.alone, result.logits.astype(np.float64), result.probabilities
    texts = f", probability {alone.probability:.1%}", f", probability {shares.min():.1%} to {shares.max():.1%}"
    texts = texts if "probability" in result.scores else ("", "")
    bars = [("the image alone", alone.logit, "tab:gray", texts[0])]
    if result.dilution:
        bars += [("expected on the canvas, at any position", result.dilution.expected, "tab:blue", "")]
    measured = f" ({logits.min():.2f} to {logits.max():.2f}){texts[1]}"
    bars += [(f"mean of {logits.size} positions on the canvas", float(logits.mean()), "tab:orange", measured)]
    for number, (name, value, color, text) in enumerate(bars):
        axes.barh(number, value, 0.4, color=color)
        line = f"{name}: {value:.2f}{text}"
        axes.annotate(line, (0.01, number - 0.27), xycoords=("axes fraction", "data"), fontsize=8)
    spread = [[max(0, logits.mean() - logits.min())], [max(0, logits.max() - logits.mean())]]  # but for rounding
    axes.errorbar(logits.mean(), len(bars) - 1, xerr=spread, color="black", capsize=4)
    axes.axvline(0, color="black", linewidth=0.8)
    axes.set(ylim=(len(bars) - 0.5, -0.7), yticks=[])
    axes.set_xlabel(f"{next(iter(result.scores))} of {one_line(result.label)}", fontsize=9)
    axes.tick_params(labelsize=8)
    axes.spines[["top", "right", "left"]].set_visible(False)


def error_map(result: Invariance, heat: Equivariance) -> Figure:
    """Draw where peak and centroid of the heat are against where the object is: on a diagonal if they move with it."""
    figure, left, right = _two_axes(result)
    looks = (
        ("peak of the heat", heat.peak, PEAK_STYLE),
        ("centroid of positive evidence", heat.centroid, _CENTROID_STYLE),
    )
    ends = np.array([0, max(result.placements.canvas)])
    for axis, (axes, name) in enumerate(((right, "y, from the top"), (left, "x, from the left"))):
        for title, tracking, style in looks:
            positions, points = result.placements.centers[..., axis].ravel(), tracking.points[..., axis].ravel()
            axes.plot(ends, ends + tracking.mean_offset[axis], color=style["color"], linewidth=1.2)
            axes.plot(positions, points, label=f"{title}: {_describe_tracking(tracking)}", **style)
        side = result.placements.canvas[axis]
        axes.set(xlim=(0, side), ylim=(0, side), aspect="equal")
        axes.set_title(f"{name} (pixels of the canvas)", fontsize=9)
        axes.set_xlabel("center of the object", fontsize=8)
        axes.set_ylabel("heat", fontsize=8)
        axes.tick_params(labelsize=8)
    handles, labels = left.get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", fontsize=8)
    cells = "x".join(f"{stride:g}" for stride in heat.grid.stride)
    _add_title(
        figure, result, f"Heat that moves exactly with the object lies on the lines. Cells are {cells} pixels apart."
    )
    return figure


def overlay_heat(result: Invariance, row: int, column: int) -> NDArray[np.uint8]:
    """Render one position with its heat, if there is any, on the common color scale; a small canvas is enlarged."""
    image = enlarge_for_legend(result.placements.render(result.placements.ys[row], result.placements.xs[column]))
    heat, canvas = result.equivariance, result.placements.canvas
    if heat is None:
        return image
    drawn, frame = np.empty_like(image), Frame((image.shape[0], image.shape[1]), canvas, (0, 0), canvas)
    draw(drawn, image, heat.cams[row, column], heat.grid, frame, vmax=heat.vmax)
    return drawn


def draw_outline(axes: Axes, result: Invariance, row: int, column: int) -> None:
    """Draw the object's contour: where its alpha falls to half, or its rectangle."""
    alpha = np.pad(result.placements.cutout.alpha, 1)
    ys = np.arange(alpha.shape[0]) + result.placements.ys[row] - 1
    xs = np.arange(alpha.shape[1]) + result.placements.xs[column] - 1
    for color, width in (("black", 3), ("white", 1.2)):
        axes.contour(xs, ys, alpha, [alpha.max() / 2], colors=color, linewidths=width, clip_on=False)


def _draw_position(axes: Axes, result: Invariance, row: int, column: int, **title_style: Any) -> None:
    """Draw one position with heat, outline and peak; the title is red if another class is predicted."""
    height, width = result.placements.canvas
    axes.imshow(overlay_heat(result, row, column), extent=(-0.5, width - 0.5, height - 0.5, -0.5))
    draw_outline(axes, result, row, column)
    if result.equivariance is not None:
        y, x = result.equivariance.peak.points[row, column]
        axes.plot(x, y, **PEAK_STYLE)
    label = one_line(result.labels[result.predicted[row, column]][:_MAX_LABEL])
    name, *has_probability = result.scores
    score, predicted = f"{name} {result.logits[row, column]:6.2f}", f"predicted: {label}"
    if has_probability:
        score += f", probability {result.probabilities[row, column]:>6.1%}"
        predicted += f", {result.predicted_probabilities[row, column]:.1%}"
    color = "black" if result.is_predicted[row, column] else "red"
    axes.set_title(f"{score}\n{predicted}", color=color, **title_style)


def _add_legend(figure: Figure, axes: Axes | NDArray[Any], result: Invariance) -> None:
    """Explain the marks and the colors of the heat."""
    heat = result.equivariance
    first = figure.axes[0]
    handles = first.plot([], [], "s", color="white", markeredgecolor="black", label="outline of the object")
    if heat is None:
        _add_title(figure, result, "No exact map.")
    else:
        _add_title(figure, result, result.dilution_note)
        evidence_bar(
            figure, axes, heat.vmax, f"evidence for {one_line(result.label)} ({next(iter(result.scores))})", fontsize=8
        )
        handles += first.plot([], [], label="peak of the heat", **PEAK_STYLE)
    figure.legend(handles=handles, loc="outside lower center", ncols=2, fontsize=8)


def _view_size(result: Invariance) -> tuple[float, float]:
    """Height and width of the view, pixels: the canvas, with margins for captions if it is long and thin."""
    height, width = result.placements.canvas
    return max(height, 0.4 * width), max(width, 0.7 * height)


def _set_pixel_axes(axes: Axes, result: Invariance) -> None:
    """Show the whole canvas with pixel i at i, and a frame around it."""
    (height, width), (view_height, view_width) = result.placements.canvas, _view_size(result)
    top, left = (height - view_height - 1) / 2, (width - view_width - 1) / 2
    axes.set(xlim=(left, left + view_width), ylim=(top + view_height, top), aspect="equal")
    rectangle(axes, (0, 0, width, height), "gray", 0.5)
    for axis, name in ((axes.xaxis, "x"), (axes.yaxis, "y")):
        axis.set_label_text(f"{name} (pixels of the canvas)", fontsize=8)
        axis.set_tick_params(labelsize=8)
    axes.label_outer()


def _two_axes(result: Invariance) -> tuple[Figure, Axes, Axes]:
    height, width = _view_size(result)
    figure = new_figure(10.4, 1.5 + 4 * max(0.5, height / width))
    left, right = figure.subplots(1, 2)
    return figure, left, right


def _draw_map(
    axes: Axes, result: Invariance, values: NDArray[np.floating], label: str, low: float, high: float
) -> None:
    """Draw a value (R, C) for each position of the object's center, with a color bar."""
    centers, (height, width) = result.placements.centers, result.placements.cutout.size
    ys, xs = _cell_edges(centers[:, 0, 0], height / 2), _cell_edges(centers[0, :, 1], width / 2)
    mesh = axes.pcolormesh(xs, ys, values, vmin=low, vmax=high, cmap="viridis")
    bar = axes.figure.colorbar(mesh, ax=axes, shrink=0.9)
    bar.set_label(label, fontsize=9)
    bar.ax.tick_params(labelsize=8)
    _set_pixel_axes(axes, result)


def _cell_edges(centers: NDArray[np.floating], half_width: float) -> NDArray[np.floating]:
    """Edges (N + 1,) of cells with these centers; a single cell extends by `half_width` to both sides."""
    half = np.diff(centers) / 2 if len(centers) > 1 else np.array([half_width])
    return np.concatenate(([centers[0] - half[0]], centers[:-1] + half[: len(centers) - 1], [centers[-1] + half[-1]]))


def _describe_tracking(tracking: PointTracking) -> str:
    if np.isnan(tracking.mean_offset[0]):
        return "none"
    return "{mean:.1f} pixels off on average, {max:.1f} at most".format_map(mean_and_max(tracking.deviations))


def _add_title(figure: Figure, result: Invariance, note: str) -> None:
    """Head a figure with the network, the score of the image alone and a note, in lines of its width."""
    names = f"{result.model}, {result.label}; {result.alone_note}"
    width = int(12.5 * figure.get_figwidth())
    figure.suptitle(
        "\n".join(line for text in (names, note) for line in wrap(one_line(text), width)) + "\n", fontsize=10
    )


def _spread_indices(count: int, shown: int) -> list[int]:
    """Choose up to `shown` of `count` indices, evenly spread."""
    return sorted({round(index) for index in np.linspace(0, count - 1, shown)})


def check_libraries() -> None:
    """Raise OutputError if a library for the figures is not installed, before anything is measured for them."""
    for name, library in (("matplotlib.figure", "matplotlib"), ("av", "PyAV")):
        try:
            import_module(name)
        except ImportError as error:
            raise OutputError(f"The figures need {library}", "Run pip install 'gapcam[figures]'") from error


def new_figure(width: float, height: float) -> Figure:
    """Create an empty figure, in inches, whose layout makes room for labels and legends."""
    from matplotlib.figure import Figure

    return Figure((width, height), dpi=_DPI, layout="constrained")


def to_png(figure: Figure) -> bytes:
    """Encode a figure as PNG."""
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png")
    return buffer.getvalue()


def to_webp(figure: Figure, frames: Iterator[None]) -> bytes:
    """Encode an animated WebP: each step of `frames` draws the next frame on the figure."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg

    canvas: Any = FigureCanvasAgg(figure)
    kind = VideoFormat(".webp", Fraction(1, _FRAMES_PER_SECOND), Fraction(_FRAMES_PER_SECOND))

    def drawn() -> Iterator[Any]:
        for number, _ in enumerate(frames):
            canvas.draw()
            figure.set_layout_engine("none")  # keep the layout of the first frame: steadier, and faster
            yield kind.frame(np.asarray(canvas.buffer_rgba())[..., :3], number, 1)

    write_video(buffer := io.BytesIO(), kind, drawn())
    return buffer.getvalue()


def evidence_bar(figure: Figure, axes: Axes | NDArray[Any], vmax: float, label: str, fontsize: float) -> None:
    """Add the color bar of signed evidence from -vmax to vmax."""
    from matplotlib.cm import ScalarMappable
    from matplotlib.colors import ListedColormap, Normalize

    indices, under = np.arange(1, 256, dtype=np.float32)[None], np.full((1, 255), BAR_GRAY, np.uint8)
    colors = ListedColormap(paint(indices, under, "signed", 0.85)[0] / 255)
    bar = figure.colorbar(ScalarMappable(Normalize(-vmax, vmax), colors), ax=axes, shrink=0.8)
    bar.set_label(label, fontsize=fontsize)
    bar.ax.tick_params(labelsize=8)


def rectangle(axes: Axes, box: tuple[float, float, float, float], color: str, linewidth: float) -> None:
    """Draw the outline of the pixels in a box (x0, y0, x1, y1), ends excluded."""
    from matplotlib.patches import Rectangle

    x0, y0, x1, y1 = box
    corner = x0 - 0.5, y0 - 0.5
    axes.add_patch(Rectangle(corner, x1 - x0, y1 - y0, fill=False, edgecolor=color, linewidth=linewidth))


def one_line(text: str) -> str:
    r"""Escape text for one line of a figure: `$` starts no formula, and control characters become `?`."""
    return "".join(letter if letter.isprintable() else "?" for letter in text).replace("$", r"\$")
