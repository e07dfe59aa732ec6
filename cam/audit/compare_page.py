"""The page of a comparison: both heats of an image and their difference, side by side."""

from __future__ import annotations

import os
from base64 import b64decode, b64encode
from collections import defaultdict
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cam.audit.compare import Comparison, Row
from cam.audit.difference import Difference
from cam.audit.read import PlacedMap, RunMaps, ScoredMap
from cam.audit.sides import Pair, Records, Side, open_sides, read_pair
from cam.drawing.colormaps import lookup
from cam.errors import CamError
from cam.files import write_whole
from cam.images.io import encode, read_image, shrink, to_image
from cam.report.evidence import QUANTUM
from cam.report.html import join_page, read_part
from cam.report.packing import pack
from cam.runs.manifest import Record, records_by_name
from cam.version import VERSION

PAGE = "compare.html"
SHOWN = 100  # images of each verdict in the page
_SIDE, _QUALITY = 320, 80  # of the photographs in the page, pixels
_SCALE_QUANTILE = 0.9  # of the peaks of the maps: the end of the common color scale
_READ = "value_range", "bands"
_SCRIPTS = "data", "evidence", "geometry", "color", "drawing", "format"  # of the report


def write_page(comparison: Comparison, out: Path) -> Path:
    """Write compare.html with up to 100 images of each verdict, and return its path."""
    summary, rows = comparison.summary, _shown(comparison.rows)
    sides = open_sides(Path(summary["a"]["out"]), Path(summary["b"]["out"]))
    peaks: list[float] = []
    items = []
    with (
        records_by_name(sides[0].run.folder.manifest) as find_a,
        records_by_name(sides[1].run.folder.manifest) as find_b,
    ):
        for row in rows:
            pair = read_pair(sides, (find_a(row["name"]), find_b(row["name"])))
            peaks += [float(np.abs(placed.cam).max()) for placed in pair.own_maps() if placed]
            items.append(
                {**row, "size": pair.records[0]["size"], "panels": _panels(pair), "photo": _photo(sides, pair.records)}
            )
    facts = {
        "title": f"{Path(summary['a']['out']).name} and {Path(summary['b']['out']).name}, compared",
        "version": VERSION,
        "summary": summary,
        "verdicts": summary["meanings"],
        "shown": SHOWN,
        "failed": [{"name": row["name"], "error": row["error"]} for row in comparison.rows if row["error"]][:SHOWN],
        "vmax": float(np.quantile(peaks, _SCALE_QUANTILE)) if any(peaks) else 1.0,
        "drawing": {"colormaps": {"signed": b64encode(lookup("signed").tobytes()).decode()}},
        **{"labels": [], "pictures": [], "rows": items},  # the first two for the scripts of the report
    }
    script = "".join(read_part(f"{name}.js") for name in _SCRIPTS) + read_part("compare.js", "cam.audit")
    style = read_part("base.css") + read_part("compare.css", "cam.audit")
    page = join_page(read_part("compare.html", "cam.audit"), script, style, facts)
    write_whole(out / PAGE, page.encode("ascii"))
    return out / PAGE


def _shown(rows: list[Row]) -> list[Row]:
    """The first rows of each verdict."""
    by_verdict: defaultdict[str, list[Row]] = defaultdict(list)
    for row in rows:
        if row["verdict"] and len(by_verdict[row["verdict"]]) < SHOWN:
            by_verdict[row["verdict"]].append(row)
    return [row for found in by_verdict.values() for row in found]


def _panels(pair: Pair) -> list[dict[str, Any]]:
    """Three maps each: a class in A and in B, and the difference; of own answers only, if nothing else was kept."""
    labels = [record["predicted"]["label"] for record in pair.records]
    differences = dict(pair.differences())
    if len(pair.classes) == 2 and not differences:
        return [_panel(labels, pair.own_maps(), None)]
    return [
        _panel([labels[number]] * 2, (pair.map_of(0, number), pair.map_of(1, number)), differences.get(number))
        for number in range(len(pair.classes))
    ]


def _panel(
    labels: list[str], maps: tuple[ScoredMap | None, ScoredMap | None], difference: Difference | None
) -> dict[str, Any]:
    change = difference and {
        **_placed(difference.map, difference.seen),
        **{"score": difference.score, "base": difference.base, "same_grid": difference.same_grid},
    }
    placed = [one and {**_placed(one, one.seen), "score": one.score} for one in maps]
    return {"labels": labels, "maps": [*placed, change]}


def _placed(placed: PlacedMap, seen: tuple[float, float, float, float]) -> dict[str, Any]:
    positions = {"rows": placed.rows.round(6).tolist(), "columns": placed.columns.round(6).tolist(), "seen": list(seen)}
    return {**positions, "values": pack(placed.cam, QUANTUM)}


def _photo(sides: tuple[Side, Side], records: Records) -> str | None:
    """The photograph as a small JPEG: from the evidence of a report, else from its file; None if it has neither."""
    found = (_photo_in(side.run, record) for side, record in zip(sides, records, strict=True))
    image = next((image for image in found if image is not None), None)
    return None if image is None else b64encode(encode(shrink(image, _SIDE), ".jpg", _QUALITY)).decode()


def _photo_in(run: RunMaps, record: Record) -> NDArray[np.uint8] | None:
    """The photograph in the evidence of a run, or in its file, if that is still there and as long as it was."""
    if run.evidence:
        return to_image(b64decode(run.evidence.details(record)["photo"]))
    path, settings = os.path.join(run.info["directory"], record["path"]), run.info["settings"]  # noqa: PTH118
    value_range, bands = (tuple(value) if isinstance(value, list) else value for value in map(settings.get, _READ))
    try:
        if Path(path).stat().st_size != record["bytes"]:
            return None
        image = read_image(path, value_range=value_range, bands=bands)
    except (OSError, CamError):
        return None
    return image if image.shape[2] == 3 else None
