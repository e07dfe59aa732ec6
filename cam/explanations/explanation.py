"""Why a picture got its score for a class, and how that is drawn."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TypedDict

import numpy as np
import torch
from numpy.typing import NDArray

from cam.drawing.legend import with_legend
from cam.drawing.overlay import draw, draw_boxes
from cam.images.io import shrink
from cam.maps.activation import completeness_error
from cam.maps.boxes import Box, boxes_of
from cam.maps.evidence import Evidence
from cam.maps.geometry import Frame, Grid
from cam.maps.projection import peak, project

_UNITS = {
    "logit": "evidence (logit)",
    "contrast": "one over the other (logit)",
    "margin": "lead over the others (logit)",
    "posterior": "probability of each place",
}


class _Style(TypedDict):
    """How both heat and color bar are colored."""

    vmax: float
    colormap: str
    signed: bool


@dataclass(frozen=True)
class Rival:
    """The class that a class is contrasted with; attributes as in `Explanation`."""

    class_idx: int
    label: str
    logit: float
    bias: float
    map_logit: float


@dataclass(frozen=True)
class Channel:
    """One channel's part in the score for a class.

    Attributes:
        index: of the channel among the last features.
        share: w_k * mean f_k, logit units; those of all channels and the bias add up to the map's logit.
        cam: (h, w) float32, logit units: its mean is the share.
    """

    index: int
    share: float
    cam: NDArray[np.float32] = field(repr=False)


@dataclass(frozen=True)
class Explanation:
    """Why a picture got its score for one class: `cam.mean() + bias == map_logit`, which is the logit.

    Attributes:
        class_idx: the class.
        label: its text.
        logit: its score at the model's own input size.
        probability: after softmax (the logistic function where there is one logit), in [0, 1].
        bias: the part of the logit that comes from no place.
        cam: (h, w) float32, signed, in logit units.
        evidence_map: (h, w) float32, what is drawn: the cam itself, or another kind of evidence on the same grid.
        grid: where the cells of the map lie in the network's input.
        frame: where the input of the map lies in the photograph.
        image: the photograph, (H, W, 3) uint8 RGB, upright; `frame.photo` may be its size before it was read at less.
        map_logit: score that the cam adds up to: the logit, or that of the larger input that the map comes from.
        evidence: what the map says of the class.
        rival: the class it is contrasted with; None for other kinds of evidence.
        channels: those with the largest shares of the logit, as many as were asked for.
        dead: whether all the last features are zero.
        part_of: the logit of which this is one channel's share; None for the whole.
    """

    class_idx: int
    label: str
    logit: float
    probability: float
    bias: float
    cam: NDArray[np.float32] = field(repr=False)
    evidence_map: NDArray[np.float32] = field(repr=False)
    grid: Grid
    frame: Frame
    image: NDArray[np.uint8] = field(repr=False)
    map_logit: float
    evidence: Evidence = "logit"
    rival: Rival | None = None
    channels: tuple[Channel, ...] = field(default=(), repr=False)
    dead: bool = False
    part_of: float | None = None

    @property
    def completeness_error(self) -> float:
        """abs(mean(cam) + bias - logit) / max(1, abs(logit)), no unit; for a contrast, of map and margin."""
        cam, bias, logit = self.cam, self.bias, self.map_logit
        if self.rival:
            cam, bias, logit = self.evidence_map, bias - self.rival.bias, logit - self.rival.map_logit
        return float(completeness_error(torch.from_numpy(cam), torch.tensor(bias), torch.tensor(logit)))

    @property
    def title(self) -> str:
        """The label, or "A over B"."""
        return f"{self.label} over {self.rival.label}" if self.rival else self.label

    @property
    def margin(self) -> float | None:
        """By how much the logit exceeds the rival's."""
        return self.logit - self.rival.logit if self.rival else None

    @property
    def note(self) -> str:
        """Why there is nothing to see in the map; "" where there is."""
        if self.dead:
            return "dead features: all of them are zero here"
        if not self.evidence_map.any():
            return "the map of this class is zero everywhere"
        if self.evidence_map.max() > 0:
            return ""
        return "it wins at no place" if self.evidence == "margin" else "all evidence for this class is negative"

    @property
    def peak(self) -> tuple[int, int]:
        """Pixel (y, x) of the photograph with the most evidence for the class."""
        return peak(self.evidence_map, self.grid, self.frame)

    @property
    def vmax(self) -> float:
        """Largest value of the map, up or down, in its unit: the ends of this picture's own color scale."""
        return float(np.abs(self.evidence_map).max())

    @property
    def signed(self) -> bool:
        """Whether the map has two signs; probabilities have not."""
        return self.evidence != "posterior"

    def heat(self) -> NDArray[np.float32]:
        """Place the map on the photograph: (H, W) float32, in its unit, not a number where nothing was seen."""
        return project(self.evidence_map, self.grid, self.frame)

    def boxes(self, share: float = 0.2) -> list[Box]:
        """Draw boxes (x0, y0, x1, y1), pixels of the photograph, around heat above a share of its maximum."""
        return boxes_of(self.evidence_map, self.grid, self.frame, share)

    def of_channel(self, channel: Channel) -> Explanation:
        """Explain one channel's share of the map's logit, with no bias."""
        label = f"{self.label}: channel {channel.index}"
        plain = replace(self, label=label, evidence="logit", rival=None, channels=())
        maps = replace(plain, cam=channel.cam, evidence_map=channel.cam)
        return replace(maps, logit=channel.share, map_logit=channel.share, bias=0.0, part_of=self.map_logit)

    def overlay(
        self,
        *,
        vmax: float | None = None,
        opacity: float = 0.5,
        colormap: str = "signed",
        legend: bool = False,
        box_share: float | None = None,
        max_side: int | None = None,
        blended: NDArray[np.uint8] | None = None,
    ) -> NDArray[np.uint8]:
        """Blend the colored heat over the photograph.

        Args:
            vmax: value at the ends of the color scale, in the map's unit; the map's own largest by default.
            opacity: of the heat: 0 photograph only, 1 heat only.
            colormap: "signed", or the name of an OpenCV color map.
            legend: whether label, probability, logit and color bar are written below.
            box_share: draw boxes around the heat above that share of its maximum.
            max_side: pixels that the longer side has at most; a smaller image is not made larger.
            blended: the heat over the seen part, where `blend_all` has made it in the same way.

        Returns:
            (H, W, 3) uint8 RGB of the size of the image, or smaller; with the legend higher, and small ones wider.

        Raises:
            UsageError: an argument that cannot be right.
        """
        vmax = self.vmax if vmax is None else vmax
        style = _Style(vmax=vmax, colormap=colormap, signed=self.signed)
        image = shrink(self.image, max_side)
        height, width = image.shape[:2]
        frame = replace(self.frame, photo=(height, width))
        canvas = np.empty(image.shape, np.uint8)
        if legend:
            canvas = with_legend(
                (height, width),
                title=self.title,
                details=self._details(),
                notes=self._notes(vmax),
                unit=_UNITS[self.evidence],
                **style,
            )
        picture = canvas[:height, :width]
        draw(picture, image, self.evidence_map, self.grid, frame, opacity=opacity, blended=blended, **style)
        if box_share is not None:
            draw_boxes(picture, boxes_of(self.evidence_map, self.grid, frame, box_share))
        return canvas

    def _details(self) -> str:
        if self.rival:
            return f"margin {self.margin:+.2f} = logit {self.logit:.2f} - {self.rival.logit:.2f}"
        if self.part_of is not None:
            return f"share {self.logit:.2f} of the logit {self.part_of:.2f}"
        return f"probability {100 * self.probability:.1f} %   logit {self.logit:.2f}"

    def _notes(self, vmax: float) -> list[str]:
        """What else has to be known to read the picture, a line each."""
        (height, width), other = self.frame.input, self.map_logit != self.logit
        whole = self.evidence == "logit" and self.part_of is None
        short = [
            self.note,
            f"{height} x {width} input" if other else "",
            f"reaches {self.evidence_map.flat[np.abs(self.evidence_map).argmax()]:+.3g}" if self.vmax > vmax else "",
            "" if self.frame.seen == (0, 0, self.frame.photo[1], self.frame.photo[0]) else "hatched: not seen",
        ]
        terms = f"{self.map_logit - self.bias:.2f} + bias {self.bias:.2f}" if self.bias else ""
        of_map = "at other inputs: logit" if other else "logit"
        sums = f"{of_map} {self.map_logit:.2f} = mean of the map {terms}" if whole else ""
        return [sums, "; ".join(filter(None, short))]
