"""An explanation: why an image got its score for a class, and how to draw it."""

from __future__ import annotations

import math
from base64 import b64encode
from dataclasses import dataclass, field, replace
from html import escape
from pathlib import Path
from typing import Any, Literal, cast

import cv2
import numpy as np
from numpy.typing import NDArray

from cam.drawing.colormaps import has_negative
from cam.drawing.legend import MIN_WIDTH, PAPER, make_legend
from cam.drawing.overlay import Photo, draw, draw_boxes
from cam.drawing.planes import Planes, draw_planes
from cam.explanations.texts import RUNS, legend_texts
from cam.files import write_whole
from cam.heads.general import Method
from cam.images.io import check_image, encode, encode_planes, show_image, shrink
from cam.maps.boxes import Box, boxes_of, half_boxes
from cam.maps.evidence import Evidence
from cam.maps.geometry import Frame, Grid
from cam.maps.projection import peak, project, value_at

NUMBERS = "class_idx", "label", "logit", "probability", "bias", "map_logit", "evidence"
_NOTEBOOK_SIDE = 512  # pixels of an overlay in a notebook


@dataclass(frozen=True)
class OtherClass:
    """The class that a class is contrasted with; attributes as in `Explanation`."""

    class_idx: int
    label: str
    logit: float
    bias: float
    map_logit: float


@dataclass(frozen=True)
class Channel:
    """One channel's part in the score for a class."""

    index: int  # of the channel in the last features
    share: float  # w_k * mean f_k, logit units; the shares of all channels and the bias add up to the map's logit
    cam: NDArray[np.float32] = field(repr=False)  # (h, w) float32, logit units; its mean is the share

    @property
    def vmax(self) -> float:
        """Largest absolute value of the map."""
        return float(np.abs(self.cam).max())


@dataclass(frozen=True)
class Explanation:
    """Why an image got its score for one class: `cam.mean() + bias == map_logit`, which is the logit.

    That is so by algebra where the `exactness` is "exact", up to `completeness_error` where it is "complete", and not
    where it is "reference". None of them says what is causal.

    Attributes:
        class_idx: index of the class.
        label: text of the class.
        logit: score of the class at the model's own input size.
        probability: of the class, by the activation, in [0, 1]; None if the scores are values (regression).
        bias: part of the logit that comes from no position; of a complete map the logit where the features are zero.

        cam: (h, w) float32, signed, logit units.
        evidence_map: (h, w) float32, what is drawn: the cam, or another kind of evidence on the same grid.
        evidence: kind of the evidence: "logit", "contrast", "margin" or "posterior".
        map_logit: score that the cam adds up to: the logit, or the score of the larger input that the map comes from.

        grid: where the cells of the map lie in the network's input.
        frame: where the input of the map lies in the photograph.
        image: the photograph, (H, W, 3) uint8 RGB, upright; plain gray for a prepared input. A large file may be read
            at a fraction of its size, and `frame.photo` is its full size.

        against: the class of a contrast; None for other kinds of evidence.
        channels: those with the largest shares of the logit; as many as `ExplainOptions.channels` says.
        zero_features: True if all the last features are zero.
        method: how the map was computed: "exact", "integrated" or "shapley", or that of a reference.
        runs: nodes of integrated gradients, or permutations of Shapley values; 0 for an exact map.
        sampling_error: standard error of sampled Shapley values, as a share of their size; 0 for other methods.
    """

    class_idx: int
    label: str
    logit: float
    probability: float | None
    bias: float

    cam: NDArray[np.float32] = field(repr=False)
    evidence_map: NDArray[np.float32] = field(repr=False)
    evidence: Evidence
    map_logit: float

    grid: Grid
    frame: Frame
    image: NDArray[np.uint8] = field(repr=False)

    against: OtherClass | None = None
    channels: tuple[Channel, ...] = field(default=(), repr=False)
    zero_features: bool = False
    method: Method = "exact"
    runs: int = 0
    sampling_error: float = 0.0

    @property
    def exactness(self) -> Literal["exact", "complete", "reference"]:
        """Whether the map adds up to the logit by algebra, up to the `completeness_error`, or not."""
        if self.method == "exact":
            return "exact"
        return "complete" if self.method in ("integrated", "shapley") else "reference"

    @property
    def base(self) -> float:
        """The bias: what the map adds up to the logit with."""
        return self.bias

    @property
    def nodes(self) -> int | None:
        """Number of points at which integrated gradients were taken; None for another method."""
        return self.runs if self.method == "integrated" else None

    @property
    def permutations(self) -> int | None:
        """Number of orders that Shapley values average; None for another method."""
        return self.runs if self.method == "shapley" else None

    @property
    def title(self) -> str:
        """The label, or "A over B" for a contrast."""
        return f"{self.label} over {self.against.label}" if self.against else self.label

    @property
    def score(self) -> str:
        """What the logit is called: a value where there is no probability."""
        return "value" if self.probability is None else "logit"

    @property
    def margin(self) -> float | None:
        """Difference between the logit and that of the other class; None without one."""
        return self.logit - self.against.logit if self.against else None

    @property
    def completeness_error(self) -> float:
        """abs(mean(cam) + bias - logit) / max(1, abs(logit)), no unit; for a contrast, of map and margin."""
        cam, bias, logit = self.cam, self.bias, self.map_logit
        if self.against:
            cam, bias, logit = self.evidence_map, bias - self.against.bias, logit - self.against.map_logit
        return abs(float(cam.mean(dtype=np.float64)) + bias - logit) / max(1, abs(logit))

    @property
    def vmax(self) -> float:
        """Largest absolute value of the map, in its unit: the ends of this image's own color scale."""
        return float(np.abs(self.evidence_map).max())

    @property
    def note(self) -> str:
        """Why the map shows no positive evidence; "" if it does."""
        if self.zero_features:
            return "dead features: all of them are zero here"
        if not self.evidence_map.any():
            return "the map of this class is zero everywhere"
        if self.evidence_map.max() > 0:
            return ""
        return "it wins at no position" if self.evidence == "margin" else "all evidence for this class is negative"

    @property
    def peak(self) -> tuple[int, int]:
        """Pixel (y, x) of the photograph with the most evidence for the class."""
        return peak(self.evidence_map, self.grid, self.frame)

    def heat(self) -> NDArray[np.float32]:
        """Project the map on the photograph: (H, W) float32, in its unit; NaN where the network saw nothing."""
        return project(self.evidence_map, self.grid, self.frame)

    def heat_at(self, y: int, x: int) -> float:
        """Return the heat at one pixel of the photograph, in its unit; NaN where the network saw nothing."""
        return float(value_at(self.evidence_map, self.grid, self.frame, (y, x)))

    def boxes(self, share: float = 0.2) -> list[Box]:
        """Find boxes (x0, y0, x1, y1), in pixels of the photograph, around heat above a share of its maximum."""
        return boxes_of(self.evidence_map, self.grid, self.frame, share)

    def heatmap(self, normalize: bool = True) -> NDArray[np.float32]:
        """Heat in [0, 1], (H, W) float32, as other tools draw it: evidence for the class over its largest value.

        It is 0 where there is none, and does not say how much there is. With `normalize=False` it is `heat()`.
        """
        heat = self.heat()
        if not normalize:
            return heat
        positive = np.nan_to_num(heat).clip(0)
        return np.asarray(positive / max(float(positive.max()), 1e-30), np.float32)

    def to_dict(self, box_share: float = 0.2) -> dict[str, Any]:
        """Numbers ready for JSON, as in a line of the manifest."""
        record: dict[str, Any] = {
            **{name: getattr(self, name) for name in NUMBERS},
            "exactness": self.exactness,
            "method": self.method,
            **({RUNS[self.method]: self.runs} if self.method in RUNS else {}),
            **({"sampling_error": self.sampling_error} if self.method == "shapley" else {}),
            "completeness_error": None if self.exactness == "reference" else self.completeness_error,
            "map_input": list(self.frame.input),
            "peak": list(self.peak),
            "boxes": [list(box) for box in self.boxes(box_share)],
            "note": self.note or None,
        }
        if other := self.against:
            record["against"] = dict(vars(other))
            record["margin"] = self.margin
            where = half_boxes(self.evidence_map, self.grid, self.frame)
            record["where"] = [{"box": list(box), "share": share} for box, share in where]
        if self.channels:
            record["channels"] = [{"channel": channel.index, "share": channel.share} for channel in self.channels]
        return record

    def save(self, path: str | Path, **style: Any) -> None:
        """Write the overlay with its legend to a .png, .jpg or .webp file; `style` as for `overlay`."""
        write_whole(Path(path), self.encode(Path(path).suffix, **style))

    def show(self, **style: Any) -> None:
        """Open the overlay with its legend in the viewer of the system; `style` as for `overlay`."""
        show_image(self.overlay(**{"legend": True, **style}), self.title)

    def plot(self, ax: Any = None, **style: Any) -> Any:
        """Draw the overlay into axes of matplotlib, new ones by default, and return them; `style` as for `overlay`."""
        if ax is None:
            import matplotlib.pyplot as plt

            ax = plt.subplots()[1]
        ax.imshow(self.overlay(**style))
        ax.set_title(self._caption())
        ax.set_axis_off()
        return ax

    def _caption(self) -> str:
        probability = "" if self.probability is None else f"{100 * self.probability:.1f} %, "
        return f"{self.title}: {probability}{self.score} {self.logit:.2f}"

    def _repr_png_(self) -> bytes:
        return self.encode(".png", max_side=_NOTEBOOK_SIDE)

    def _repr_html_(self) -> str:
        picture = b64encode(self.encode(".jpg", max_side=_NOTEBOOK_SIDE)).decode()
        caption = escape(self._caption(), quote=True)
        image = f'<img alt="Evidence for {caption}" src="data:image/jpeg;base64,{picture}">'
        return f'<figure style="margin:0">{image}<figcaption>{caption}</figcaption></figure>'

    def overlay(
        self,
        *,
        image: NDArray[np.uint8] | None = None,
        vmax: float | None = None,
        opacity: float = 0.85,
        colormap: str = "signed",
        photo: Photo = "gray",
        contours: bool = True,
        legend: bool = False,
        box_share: float | None = None,
        max_side: int | None = None,
        channel: Channel | None = None,
        painted: NDArray[np.uint8] | None = None,
        note_rows: int = 0,
    ) -> NDArray[np.uint8]:
        """Paint the heat over the photograph: the more evidence, the more color.

        Args:
            image: (H, W, 3) uint8 RGB to draw on, of what `image` shows but of any size; for prepared inputs.
            vmax: value at the ends of the color scale, in the map's unit; the map's largest by default.
            opacity: of the most evidence, from 0 to 1.
            colormap: "signed", or the name of an OpenCV color map, which leaves out evidence against the class.
            photo: "gray" or "color", under the heat.
            contours: draw a thin line around half of the scale.
            legend: write label, probability, logit and a color bar below.
            box_share: draw boxes around the heat above this share of its maximum.
            max_side: largest length of the longer side, in pixels; a smaller image is not enlarged.
            channel: draw the map of one of `channels` instead.
            painted: the seen part of the photograph with its heat, if computed before; then the size stays.
            note_rows: rows of the legend that notes have at least, so that the frames of a film are alike.

        Returns:
            (H, W, 3) uint8 RGB of the size of the image, or smaller; with the legend higher, and enlarged if narrow.

        Raises:
            UsageError: an argument is wrong.

        Example:
            >>> import cam
            >>> explanation = cam.explain(cam.load_classifier("digits"), np.zeros((64, 96, 3), np.uint8))
            >>> explanation.overlay(max_side=48).shape
            (32, 48, 3)
        """
        looks: dict[str, Any] = {"opacity": opacity, "colormap": colormap, "photo": photo, "contours": contours}
        parts: dict[str, Any] = {"legend": legend, "note_rows": note_rows, "box_share": box_share, "channel": channel}
        size: dict[str, Any] = {"image": image, "max_side": max_side, "painted": painted}
        return np.asarray(self._draw(vmax=vmax, **looks, **parts, **size), np.uint8)

    def encode(self, suffix: str, **style: Any) -> bytes:
        """Encode the overlay as the content of a .jpg, .png or .webp file; `style` as for `overlay`.

        The legend is drawn by default. A JPEG is made of luma and chroma, without RGB in between.
        """
        if suffix == ".jpg" and style.get("photo", "gray") == "gray" and style.get("painted") is None:
            planes = self.planes(**style)
            return encode_planes(planes.y, planes.cb, planes.cr)
        return encode(self.overlay(**{"legend": True, **style}), suffix)

    def planes(self, **style: Any) -> Planes:
        """Draw the overlay with its legend as luma and chroma, over a gray photograph; `style` as for `overlay`."""
        style = {**(Explanation.overlay.__kwdefaults__ or {}), "legend": True, **style}
        return cast("Planes", self._draw(**style, planar=True))

    def _draw(
        self,
        *,
        image: NDArray[np.uint8] | None,
        vmax: float | None,
        photo: Photo,
        legend: bool,
        note_rows: int,
        box_share: float | None,
        max_side: int | None,
        channel: Channel | None,
        painted: NDArray[np.uint8] | None,
        planar: bool = False,
        **looks: Any,
    ) -> Any:
        """Draw an overlay as `overlay` says: RGB, or `Planes`."""
        values = channel.cam if channel else self.evidence_map
        evidence: Evidence = "logit" if channel else self.evidence
        looks["vmax"] = float(np.abs(values).max()) if vmax is None else vmax
        image = self.image if image is None else check_image(image)
        if painted is None:
            image = shrink(image, max_side)
            image = enlarge_for_legend(image) if legend else image
        height, width = image.shape[:2]
        strip = np.empty((0, width, 3), np.uint8)
        if legend:
            texts = {**legend_texts(self, looks["vmax"], channel), "note_rows": note_rows}
            signed = evidence != "posterior" and has_negative(looks["colormap"])
            strip = make_legend((height, width), **texts, **looks, signed=signed)
        frame = replace(self.frame, photo=(height, width))
        boxes = [] if box_share is None else boxes_of(values, self.grid, frame, box_share)
        if planar:
            return draw_planes(image, values, self.grid, frame, **looks, boxes=boxes, below=strip)
        canvas = np.full((height + strip.shape[0], max(width, strip.shape[1]), 3), PAPER, np.uint8)
        canvas[height:] = strip
        picture = canvas[:height, :width]
        draw(picture, image, values, self.grid, frame, **looks, photo=photo, painted=painted)
        draw_boxes(picture, boxes)
        return canvas


class ExplanationList(list[Explanation]):
    """Explanations that a notebook shows side by side."""

    def _repr_html_(self) -> str:
        figures = "".join(explanation._repr_html_() for explanation in self)
        return f'<div style="display:flex;flex-wrap:wrap;gap:8px">{figures}</div>'


def enlarge_for_legend(image: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Enlarge an image that is narrower than a legend, by a whole factor without smoothing."""
    times = math.ceil(MIN_WIDTH / image.shape[1])
    if times == 1:
        return image
    return np.asarray(cv2.resize(image, None, fx=times, fy=times, interpolation=cv2.INTER_NEAREST), np.uint8)
