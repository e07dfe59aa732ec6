"""Measure cam audit on a large run, made of the maps of a small one, against the time of explaining as many images.

python benchmarks/audit.py photos/ -m squeezenet1_0
"""

from __future__ import annotations

import json
import resource
import time
from argparse import ArgumentParser
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import cam
from cam.audit.audit import audit_run
from cam.images.find import find_pictures
from cam.runs.options import RunOptions
from cam.runs.run import explain_folder


def repeat(out: Path, images: int, classes: int) -> None:
    """Make the manifest of a run of many images and classes, which share the maps of the images in it."""
    manifest, run_file = out / "manifest.jsonl", out / "run.json"
    records = [json.loads(line) for line in manifest.read_text("utf-8").splitlines()]
    with manifest.open("w", encoding="utf-8") as file:
        for index in range(images):
            record: dict[str, Any] = records[index % len(records)]
            class_idx = index * classes // images
            record["predicted"] = {"class_idx": class_idx, "label": f"class {class_idx}"}
            record["targets"][0]["class_idx"] = class_idx
            file.write(json.dumps({**record, "index": index, "path": f"{class_idx}/{index}.jpg"}) + "\n")
    run_info = json.loads(run_file.read_text("utf-8"))
    run_file.write_text(json.dumps({**run_info, "explained": images}), encoding="utf-8")


def main() -> None:
    parser = ArgumentParser(description=__doc__)
    parser.add_argument("photos", help="A folder of some hundred photographs.")
    parser.add_argument("-m", "--model", required=True)
    parser.add_argument("--images", type=int, default=50_000)
    parser.add_argument("--classes", type=int, default=1000)
    arguments = parser.parse_args()
    classifier, pictures = cam.load_classifier(arguments.model), find_pictures([arguments.photos])
    with TemporaryDirectory() as folder:
        options = RunOptions(save=frozenset({"cam", "overlay"}), overwrite=True)
        for _ in range(2):  # the first run warms up
            started = time.monotonic()
            explain_folder(classifier, pictures, Path(folder), options)
            explaining = (time.monotonic() - started) / len(pictures) * arguments.images
        repeat(Path(folder), arguments.images, arguments.classes)
        started = time.monotonic()
        audit = audit_run(Path(folder))
        seconds = time.monotonic() - started
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**10
    print(
        f"{len(audit.paths)} images, {audit.classes} classes: cam audit {seconds:.1f} s, {seconds / explaining:.1%} of"
    )
    print(f"explaining them ({explaining:.0f} s); {peak:.0f} MiB at most, network included")


if __name__ == "__main__":
    main()
