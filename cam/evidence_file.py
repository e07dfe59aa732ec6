"""The file that a report keeps of a picture: small copies of the photograph, and the evidence for all classes."""

from __future__ import annotations

import json
from base64 import b64encode
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from cam.all_classes import QUANTUM, TOP, AllClasses, keep
from cam.geometry import Frame, Grid
from cam.images import encode
from cam.maps import completeness_error
from cam.overlay import shrink
from cam.packing import pack
from cam.placing import cells_on_photo

PHOTO_SIDE = 640
"""Longer side of the photograph in a report, pixels."""

_THUMBNAIL_SIDE = 112
_QUALITY = 82


def evidence_file(evidence: AllClasses, image: NDArray[np.uint8], grid: Grid, frame: Frame) -> bytes:
    """Write what a report needs of a picture: a script with one call, which a page runs as it is.

    Its second line is the JSON of what the list of pictures shows, its third that of what it takes to look at this one.

    Args:
        evidence: of the picture.
        image: (H, W, 3) uint8 RGB photograph, or a smaller copy.
        grid: where the cells of the maps lie in the network's input.
        frame: where the input lies in the photograph.

    Returns:
        ASCII in which nothing can end a script: `<` is written as an escape.

    Example:
        >>> from cam.geometry import fit_crop, stretched
        >>> logits, maps = torch.tensor([1.0, 2.0]), torch.ones(2, 3, 4)
        >>> evidence = AllClasses(logits, logits.softmax(0), logits, logits - 1, maps, None)
        >>> grid, frame = stretched((3, 4), (30, 40)), fit_crop((30, 40), 30, (30, 40))
        >>> lines = evidence_file(evidence, np.zeros((30, 40, 3), np.uint8), grid, frame).splitlines()
        >>> row = json.loads(lines[1].rstrip(b","))
        >>> row["size"], len(row["top"])
        ([30, 40], 2)
    """
    cams = evidence.cams()
    row, rest = _row(evidence, cams, image, frame), _evidence(evidence, cams, image, grid, frame)
    return f"gapcam.keep(\n{as_json(row)},\n{as_json(rest)}\n)\n".encode()


def as_json(value: object) -> str:
    """Write JSON in ASCII in which nothing can end a script.

    Example:
        >>> len(as_json("<"))
        8
    """
    return json.dumps(value, separators=(",", ":")).replace("<", "\\u003c")


def border_share(cam: NDArray[np.floating]) -> float:
    """Say how much of the positive evidence lies in the outermost cells, 0 to 1; 0 where there is none.

    Example:
        >>> border_share(np.array([[0, 1, 0], [0, 3, 0], [0, -9, 0]]))
        0.25
    """
    positive = np.clip(cam, 0, None)
    total = float(positive.sum())
    return 1 - float(positive[1:-1, 1:-1].sum()) / total if total else 0.0


def _row(evidence: AllClasses, cams: NDArray[np.float32], image: NDArray[np.uint8], frame: Frame) -> dict[str, Any]:
    top = np.argsort(-evidence.logits.numpy(), kind="stable")[:TOP].tolist()
    cam, bias = cams[top[0]], evidence.bias[top[0]].cpu()
    return {
        "size": list(frame.photo),
        "top": [[c, float(evidence.logits[c]), float(evidence.probabilities[c])] for c in top],
        "completeness": completeness_error(torch.from_numpy(cam), bias, evidence.map_logits[top[0]]).item(),
        "border": border_share(cam),
        "map": pack(cam, QUANTUM),
        "thumbnail": _jpeg(image, _THUMBNAIL_SIDE),
    }


def _evidence(
    evidence: AllClasses, cams: NDArray[np.float32], image: NDArray[np.uint8], grid: Grid, frame: Frame
) -> dict[str, Any]:
    """Places are shares of the photograph's height and width."""
    height, width = frame.photo
    rows, columns = cells_on_photo((evidence.features.shape[1], evidence.features.shape[2]), grid, frame)
    x0, y0, x1, y1 = frame.seen
    finer = not torch.equal(evidence.logits, evidence.map_logits)
    return {
        "rows": ((rows + 0.5) / height).tolist(),
        "columns": ((columns + 0.5) / width).tolist(),
        "seen": [x0 / width, y0 / height, x1 / width, y1 / height],
        "logits": pack(evidence.logits.numpy(), QUANTUM),
        "map_logits": pack(evidence.map_logits.numpy(), QUANTUM) if finer else None,
        "maps": keep(evidence, cams),
        "photo": _jpeg(image, PHOTO_SIDE),
    }


def _jpeg(image: NDArray[np.uint8], side: int) -> str:
    return b64encode(encode(shrink(image, side), ".jpg", _QUALITY)).decode()
