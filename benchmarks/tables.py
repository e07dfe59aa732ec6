"""Tables of measurements: printed, or written to the page between two marks."""

from __future__ import annotations

import os
import platform
import re
import shlex
import sys
from collections.abc import Iterable, Sequence
from datetime import date
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from statistics import quantiles

PAGE = Path(__file__).parents[1] / "docs" / "performance.md"
_PACKAGES = ("torch", "torchvision", "opencv-python", "pillow", "onnxruntime", "torchcam", "grad-cam")


def spread(values: Sequence[float], digits: int = 2) -> str:
    """The median, with quartiles if there are several values; a dash if there are none."""
    if len(values) < 2:
        return f"{values[0]:.{digits}f}" if values else "-"
    low, middle, high = (f"{value:.{digits}f}" for value in quantiles(values, n=4, method="inclusive"))
    return f"{middle} ({low} to {high})"


def table(titles: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Format a table in Markdown."""
    lines = ["| " + " | ".join(cells) + " |" for cells in (titles, *rows)]
    return "\n".join([lines[0], "|---" * len(titles) + "|", *lines[1:]])


def publish(text: str, mark: str | None, page: Path = PAGE) -> None:
    """Write a table to the page, with the command that made it, the machine and the date.

    Args:
        text: the table.
        mark: the table goes between `<!-- NAME -->` and `<!-- end of NAME -->`; None prints it.
        page: the file to change.

    Raises:
        SystemExit: the page has no marks of this name.
    """
    text = f"`{_command()}`, {date.today().isoformat()}, {machine()}.\n\n{text}"
    if mark is None:
        print(text)
        return
    begin, end = f"<!-- {mark} -->", f"<!-- end of {mark} -->"
    before, start, rest = page.read_text("utf-8").partition(begin)
    _, closing, after = rest.partition(end)
    if not (start and closing):
        raise SystemExit(f"{text}\n\n{page} must have the lines {begin} and {end}. Add them.")
    page.write_text(f"{before}{begin}\n{text}\n{end}{after}", "utf-8")


def machine() -> str:
    """Describe the machine: processor, cores, threads, versions."""
    match = re.search(r"^model name\s*: (.+)$", _read("/proc/cpuinfo"), re.MULTILINE)
    processor = match[1] if match else platform.processor() or platform.machine()
    limit = os.environ.get("OMP_NUM_THREADS")
    threads = f", OMP_NUM_THREADS={limit}" if limit else ""
    packages = ", ".join(f"{name} {known}" for name in _PACKAGES if (known := _version(name)))
    return f"{processor}, {os.cpu_count()} cores{threads}, Python {platform.python_version()}, {packages}"


def _command() -> str:
    return shlex.join(["python", f"benchmarks/{Path(sys.argv[0]).name}", *sys.argv[1:]])


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def _read(path: str) -> str:
    return Path(path).read_text("utf-8") if Path(path).exists() else ""
