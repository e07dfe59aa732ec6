"""What figures need of matplotlib, which is optional: only this module imports it."""

from __future__ import annotations

import io
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from cam.drawing.colormaps import lookup
from cam.errors import OutputError

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_DPI = 110

_FRAMES_PER_SECOND = 4

PEAK_STYLE: dict[str, Any] = {
    "color": "#00e676", "linestyle": "", "marker": "P", "markeredgecolor": "black", "markersize": 9
}  # fmt: skip


def check_matplotlib() -> None:
    """Raise OutputError if matplotlib is not installed, before anything is measured for the figures."""
    try:
        import matplotlib.figure  # noqa: F401
    except ImportError as error:
        found = "The figures need matplotlib, which is not installed"
        raise OutputError(found, "pip install gapcam[figures]") from error


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
    from matplotlib.animation import PillowWriter

    with TemporaryDirectory() as folder:
        path, writer = Path(folder, "animation.webp"), PillowWriter(_FRAMES_PER_SECOND)
        with writer.saving(figure, path, _DPI):
            for _ in frames:
                writer.grab_frame()
                figure.set_layout_engine("none")  # keep the layout of the first frame: steadier, and faster
        return path.read_bytes()


def evidence_bar(figure: Figure, axes: Axes | NDArray[Any], vmax: float, label: str, fontsize: float) -> None:
    """Add the color bar of signed evidence from -vmax to vmax."""
    from matplotlib.cm import ScalarMappable
    from matplotlib.colors import ListedColormap, Normalize

    colors = ListedColormap(lookup("signed")[1:] / 255)
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


def error_bars(estimates: NDArray[np.floating]) -> NDArray[np.floating]:
    """Turn estimates (N, 3), each a value with its interval, into matplotlib's `yerr` (2, N)."""
    return np.abs(estimates[:, 1:] - estimates[:, :1]).T
