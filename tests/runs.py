"""The samples, the embedded model, and what `cam explain` leaves of them, read back."""

from __future__ import annotations

import json
from pathlib import Path

SAMPLES = Path(__file__).parents[1] / "samples"
FIVE = SAMPLES / "five.png"
CARD = json.loads((SAMPLES.parent / "models" / "digits.json").read_text())
DIGITS = "-m", "digits", "--device", "cpu"
PNG = *DIGITS, "--format", "png", "--save", "overlay,heat"
NAMES = sorted(path.name for path in SAMPLES.glob("*.png"))


def lines(out: Path) -> list[dict]:
    return [json.loads(line) for line in (out / "manifest.jsonl").read_text().splitlines()]


def classes(out: Path) -> dict[str, tuple[int, float]]:
    return {
        Path(line["path"]).name: (line["targets"][0]["class_idx"], round(line["targets"][0]["logit"], 3))
        for line in lines(out)
    }


def contents(out: Path) -> dict[str, bytes]:
    """All files."""
    return {str(path.relative_to(out)): path.read_bytes() for path in sorted(out.rglob("*")) if path.is_file()}
