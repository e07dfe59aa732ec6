"""Find the images in files, folders, archives and globs, and give each a name for its results."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from fnmatch import fnmatchcase
from functools import cache
from hashlib import blake2b
from pathlib import Path, PurePath, PurePosixPath

from cam.errors import ImageError, UsageError
from cam.images.archives import Member, is_archive, leads_out, list_members
from cam.images.content import Fingerprint, fingerprint

IMAGE_SUFFIXES = frozenset(
    {".jpg", ".jpeg", ".jpe", ".jfif", ".png", ".webp", ".gif", ".bmp", ".tif", ".tiff"}
    | {".ppm", ".pgm", ".pbm", ".pnm", ".jp2", ".avif"}
)


@dataclass(frozen=True, slots=True)
class Picture:
    """An image that has not been read: its path, and the name of its results.

    Attributes:
        path: the file, or the archive and the path in it; it may be missing.
        name: relative path, unique in the result of `find_pictures`, without `..`.
        member: the entry of the archive, if it is in one.
        fingerprint: size and time of the file when it was read; None before, and if it could not be read.
    """

    path: Path
    name: PurePosixPath
    member: Member | None = None
    fingerprint: Fingerprint | None = None

    def current_fingerprint(self) -> Fingerprint | None:
        """Return size and time of the file now; of a member, as its archive declared them."""
        return self.member.fingerprint if self.member else fingerprint(self.path)


def find_pictures(
    inputs: Sequence[str | Path],
    exclude: Path | None = None,
    *,
    patterns: Sequence[str] = (),
    listed: Sequence[str | Path] = (),
) -> list[Picture]:
    """Find the images in files, folders, archives and globs.

    A file is taken whatever its suffix, and even if it is missing: reading it raises the error. A folder (with the
    folders below it, links followed once), an archive (.zip, uncompressed .tar) or a glob gives the files with the
    suffix of an image in natural order (2 before 10), without hidden files and folders. Archives inside folders are
    not entered. A damaged archive, or a folder below that cannot be listed, is taken as a file, too.

    Args:
        inputs: paths of files, folders and archives, and globs (`*`, `?`, `[...]`, `**`).
        exclude: a folder of results, left out of folders and globs.
        patterns: globs that images in folders, archives and globs must match; none by default. A pattern with a slash
            is matched with the path relative to the input, another with the file name; `*` also matches slashes.
        listed: more inputs, which are never globs; an empty folder is taken as a file.

    Returns:
        Every image once, in the order of the inputs, named relative to their common folder. An archive counts as a
        folder.

    Raises:
        UsageError: an input holds no image or cannot be listed, or no image matches a pattern.

    Example:
        >>> from tempfile import TemporaryDirectory
        >>> with TemporaryDirectory() as folder:
        ...     for name in ("10.png", "2.png", "notes.txt"):
        ...         Path(folder, name).touch()
        ...     [str(picture.name) for picture in find_pictures([folder])]
        ['2.png', '10.png']
    """
    if "-" in map(str, inputs) and not os.path.lexists("-"):
        raise UsageError("There is no file called '-'", "Give a list of images on standard input with --list -")
    excluded = os.path.realpath(exclude) if exclude else ""
    real_path = cache(os.path.realpath)  # a list of files names the same few folders again and again
    roots: set[str] = set()
    pictures: dict[str, Picture] = {}  # by their real paths
    filtered = 0
    for source, is_listed in [*((path, False) for path in inputs), *((path, True) for path in listed)]:
        root, candidates = _expand(Path(source), excluded, is_listed)
        if not candidates:
            suffixes = ", ".join(sorted(IMAGE_SUFFIXES))
            raise UsageError(f"{str(source)!r} holds no image", f"Give another input, or files with {suffixes}")
        real_root = real_path(root)
        roots.add(real_root)
        for picture in candidates:
            if picture.path == Path(source) or _matches(picture, patterns):
                pictures.setdefault(os.path.join(real_root, picture.name), picture)  # noqa: PTH118
            else:
                filtered += 1
    if filtered and not pictures:
        message = f"None of {filtered} images matches {' or '.join(map(repr, patterns))}"
        raise UsageError(message, "Write --pattern as in a shell: '*.png', or 'val/*.png' with the path in the input")
    common = os.path.commonpath(roots) if roots else ""
    names = (PurePosixPath(Path(path).relative_to(common).as_posix()) for path in pictures)
    return [replace(picture, name=name) for picture, name in zip(pictures.values(), names, strict=True)]


def _expand(path: Path, excluded: str, is_listed: bool) -> tuple[Path, list[Picture]]:
    """List the images of an input, named relative to the folder that is returned first."""
    if _is_folder(path):
        pictures = _list_folder(path, excluded)
        if pictures or not (is_listed and path.name):  # an empty folder in a list is a bad image, not a wrong command
            return path, pictures
    if path.name == "..":  # of a missing folder
        return path, []
    magic = [re.search(r"[*?[]", part) is not None for part in path.parts]
    if any(magic) and not is_listed and not os.path.lexists(path):
        first = magic.index(True)
        root = Path(*path.parts[:first])
        return root, list(_glob(root, "/".join(path.parts[first:]), excluded))
    if is_archive(path.name):
        with suppress(ImageError):  # reading it says why
            return path, _list_archive(path)
    return path.parent, [Picture(path, PurePosixPath(path.name))]


def _list_folder(folder: Path, excluded: str) -> list[Picture]:
    """List the images in a folder and the folders below it, links followed once, in natural order."""
    seen = {excluded}
    names: list[str] = []
    errors: list[OSError] = []
    for base, folders, files in os.walk(folder, followlinks=True, onerror=errors.append):
        real_base = os.path.realpath(base)
        if real_base in seen:  # a link back, or the folder of results
            folders.clear()
            continue
        seen.add(real_base)
        prefix = PurePath(base).relative_to(folder)
        # A folder with the name of an image is a bad image, and is not entered.
        names += [(prefix / name).as_posix() for name in folders + files if is_picture(name)]
        folders[:] = sorted(name for name in folders if not (is_picture(name) or name.startswith(".")))
    for error in errors:
        if error.filename == str(folder):
            message = f"The folder {str(folder)!r} cannot be listed ({error.strerror})"
            raise UsageError(message, "Change its permissions, or name the files to read") from error
        names.append(PurePath(error.filename).relative_to(folder).as_posix())
    return [Picture(folder / name, PurePosixPath(name)) for name in sorted(names, key=natural_sort_key)]


def _glob(root: Path, pattern: str, excluded: str) -> Iterator[Picture]:
    """List the images that a glob matches, also those in folders and archives that it matches."""
    try:
        paths = {match.relative_to(root).as_posix(): match for match in root.glob(pattern)}
    except ValueError:  # ** is only a part of a name
        return
    for name in sorted(paths, key=natural_sort_key):
        path = paths[name]
        if any(part.startswith(".") for part in PurePosixPath(name).parts):  # hidden
            continue
        if is_picture(path.name):
            if not excluded or not Path(os.path.realpath(path)).is_relative_to(excluded):
                yield Picture(path, PurePosixPath(name))
        elif _is_folder(path) or is_archive(path.name):
            base, pictures = _expand(path, excluded, is_listed=False)
            prefix = PurePosixPath(name) if base == path else PurePosixPath(name).parent
            yield from (replace(picture, name=prefix / picture.name) for picture in pictures)


def _list_archive(archive: Path) -> list[Picture]:
    """List the images in an archive; the last of several with one name, as unpacking leaves them."""
    pictures: dict[str, Picture] = {}
    # Refused members first: they need another name, and a good one of that name must not be lost.
    for member in sorted(list_members(archive), key=lambda member: not leads_out(member.name)):
        *folders, name = re.split(r"[/\\]", member.name)
        hidden = any(re.match(r"\.(?!\.?$)", folder) for folder in folders)
        if is_picture(name) and not hidden:
            refused = leads_out(member.name)
            safe = PurePosixPath(re.sub(r"[/\\:]|\.\.", "_", member.name) if refused else member.name)
            pictures[str(safe)] = Picture(Path(f"{archive}/{member.name}"), safe, member)
    return [pictures[name] for name in sorted(pictures, key=natural_sort_key)]


def _matches(picture: Picture, patterns: Sequence[str]) -> bool:
    """True if it matches a pattern, or is an archive or a folder that could not be listed."""
    path, name = str(picture.name), picture.name.name
    if not patterns or (picture.member is None and not is_picture(name)):
        return True
    return any(fnmatchcase(path if "/" in pattern else name, pattern) for pattern in patterns)


def is_picture(name: str) -> bool:
    """True if a file has the suffix of an image and is not hidden."""
    return not name.startswith(".") and os.path.splitext(name)[1].lower() in IMAGE_SUFFIXES  # noqa: PTH122


def _is_folder(path: str | Path) -> bool:
    return os.path.isdir(path)  # noqa: PTH112  # Path.is_dir raises if a folder above is not readable


def natural_sort_key(path: str) -> tuple[list[list[str | int]], str]:
    """Sort 2 before 10, and A next to a; ties by the path."""
    parts = [re.split(r"([0-9]+)", part) for part in path.casefold().split("/")]
    return [[int(text) if index % 2 else text for index, text in enumerate(part)] for part in parts], path


def shard(pictures: Sequence[Picture], index: int, count: int) -> list[Picture]:
    """Take the share of one of several machines: share `index` (from 1) of `count`.

    The share depends on a hash of the name only, so it is the same whatever other images there are.
    """
    if not 1 <= index <= count:
        raise UsageError(f"There is no share {index}/{count}", "Give 1/3, 2/3 and 3/3 to share among three")

    def hash_name(picture: Picture) -> int:
        return int.from_bytes(blake2b(os.fsencode(picture.name), digest_size=8).digest(), "big")

    return [picture for picture in pictures if hash_name(picture) % count == index - 1]


def check_output(inputs: Sequence[str | Path], out: Path) -> None:
    """Raise UsageError if the output folder lies in an input folder: a second run would read its results."""
    real_out = Path(os.path.realpath(out))
    for folder in inputs:
        if _is_folder(folder) and real_out.is_relative_to(os.path.realpath(folder)):
            message = f"--out {str(out)!r} lies in the input folder {str(folder)!r}"
            raise UsageError(message, "Choose an output folder outside it")
