"""The manifest accounts for every input of a run, a line of JSON each, and tells the next run what to take away."""

from __future__ import annotations

import json
import os
from contextlib import suppress
from pathlib import Path
from typing import Any, TypeAlias

from cam.errors import OutputError, UsageError

Record: TypeAlias = dict[str, Any]

MANIFEST = "manifest.jsonl"


def append_record(manifest: Path, record: Record) -> None:
    """Add a line that is on disk at once, should the run be cut short.

    Args:
        manifest: the file; made if need be.
        record: what JSON can hold.

    Raises:
        OutputError: it cannot be written.

    Example:
        >>> from tempfile import TemporaryDirectory
        >>> with TemporaryDirectory() as folder:
        ...     append_record(Path(folder, MANIFEST), {"path": "dog.jpg"})
        ...     Path(folder, MANIFEST).stat().st_size
        20
    """
    try:
        with manifest.open("ab") as file:
            file.write((json.dumps(record) + "\n").encode())
    except OSError as error:
        found = f"{str(manifest)!r} cannot be written ({error.strerror})"
        raise OutputError(found, "Choose another folder, or mend its permissions or free space") from error


def make_room(out: Path, overwrite: bool) -> None:
    """Refuse to mix two runs, or take the files away that the manifest of the earlier one lists.

    Args:
        out: the folder; it need not exist.
        overwrite: whether the results of an earlier run may go; one that made nothing may always.

    Raises:
        UsageError: it holds an earlier run that may not go.
        OutputError: its files cannot be removed.

    Example:
        >>> make_room(Path("a folder that does not exist"), overwrite=False)
    """
    manifest = out / MANIFEST
    if not os.path.isfile(manifest):  # noqa: PTH113 - Path.is_file raises where a folder may not be entered
        return
    try:
        earlier = _listed(manifest)
        if earlier and not overwrite:
            raise UsageError(f"{str(out)!r} holds the results of an earlier run", "Give --overwrite, or another folder")
        for name in earlier:
            if (out / name).is_file() and (out / name).resolve().is_relative_to(out.resolve()):
                (out / name).unlink()
        manifest.unlink()
    except OSError as error:
        found = f"The earlier results in {str(out)!r} cannot be removed ({error.strerror})"
        raise OutputError(found, "Mend its permissions, or choose another folder") from error


def _listed(manifest: Path) -> list[str]:
    """Names of the files that an earlier run wrote; a torn or strange line names none."""
    names: list[object] = []
    for line in manifest.read_text("utf-8", errors="replace").splitlines():
        with suppress(ValueError, LookupError, TypeError, AttributeError):
            names += [name for target in json.loads(line)["targets"] for name in target["files"].values()]
    return [name for name in names if isinstance(name, str)]
