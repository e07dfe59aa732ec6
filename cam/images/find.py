"""Find the images in files, folders, archives and globs, and give each a name for its results."""

from __future__ import annotations

import os
import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from fnmatch import fnmatchcase
from functools import cache
from hashlib import blake2b
from importlib.util import find_spec
from pathlib import Path, PurePath, PurePosixPath
from typing import TypeAlias

from cam.errors import ImageError, UsageError, reason_of
from cam.images.archives import Member, is_archive, leads_out, list_members
from cam.images.content import Fingerprint, fingerprint
from cam.remote import Address, as_path

_HEIC_SUFFIXES = {".heic", ".heif", ".hif"}
IMAGE_SUFFIXES = frozenset(
    {".jpg", ".jpeg", ".jpe", ".jfif", ".png", ".webp", ".gif", ".bmp", ".tif", ".tiff"}
    | {".ppm", ".pgm", ".pbm", ".pnm", ".jp2", ".avif"}
    | (_HEIC_SUFFIXES if find_spec("pillow_heif") else set())
)
VIDEO_SUFFIXES = frozenset({".mp4", ".mov", ".avi", ".mkv", ".webm"})
ANIMATION_SUFFIXES = frozenset({".gif", ".webp"})
_READ_SUFFIXES = IMAGE_SUFFIXES | (VIDEO_SUFFIXES if find_spec("av") else frozenset())


@dataclass(frozen=True, slots=True)
class Picture:
    """An image that has not been read: its path, and the name of its results."""

    path: Path  # the file, or the archive and the path in it; it may be missing
    name: PurePosixPath  # relative, unique in the result of `find_pictures`, without `..`
    member: Member | None = None  # the entry of the archive, if it is in one
    fingerprint: Fingerprint | None = None  # of the file when it was read; None before, and if it could not be read

    def current_fingerprint(self) -> Fingerprint | None:
        """Return size and time of the file now; of a member, as its archive declared them."""
        return self.member.fingerprint if self.member else fingerprint(self.path)


Listing: TypeAlias = tuple[list[Picture], list[PurePosixPath]]
"""Images, and the names of the files that are not read as images."""


def find_pictures(
    inputs: Sequence[str | Path],
    exclude: Path | None = None,
    *,
    patterns: Sequence[str] = (),
    listed: Sequence[str | Path] = (),
    left_out: Counter[str] | None = None,
    videos: bool = False,
) -> list[Picture]:
    """Find the images in files, folders, archives and globs: each once, named relative to their common folder.

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
        left_out: counts by suffix the other files in folders, archives and globs, which are not read.
        videos: True if videos (.mp4, .mov, .avi, .mkv, .webm) in folders, archives and globs are inputs, too.

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
    excluded = _real_path(exclude) if exclude else ""
    real_path = cache(_real_path)  # a list of files names the same few folders again and again
    roots: set[str] = set()
    pictures: dict[str, Picture] = {}  # by their real paths
    others: set[str] = set()
    filtered = 0
    for source, is_listed in [*((path, False) for path in inputs), *((path, True) for path in listed)]:
        root, (candidates, unread) = _expand(as_path(source), excluded, is_listed)
        if not videos:
            unread = [*unread, *(picture.name for picture in candidates if _is_video_inside(picture, source))]
            candidates = [picture for picture in candidates if not _is_video_inside(picture, source)]
        if not candidates:
            is_glob = {*"*?["} & {*str(source)} and not os.path.lexists(source)
            problem = f"{str(source)!r} {'matches' if is_glob else 'holds'} no image"
            note = f" ({describe_left_out(_count_suffixes(map(str, unread)))})" if unread else ""
            raise UsageError(problem + note, f"Give another input, or files with {', '.join(sorted(IMAGE_SUFFIXES))}")
        real_root = real_path(root)
        roots.add(real_root)
        others.update(os.path.join(real_root, name) for name in unread if _matches(name, patterns))  # noqa: PTH118
        for picture in candidates:
            unlisted = picture.member is None and not is_picture(picture.name.name)  # an archive or a folder
            if picture.path == as_path(source) or unlisted or _matches(picture.name, patterns):
                pictures.setdefault(os.path.join(real_root, picture.name), picture)  # noqa: PTH118
            else:
                filtered += 1
    if left_out is not None:
        left_out.update(_count_suffixes(others))
    if filtered and not pictures:
        problem = f"--pattern {' or '.join(map(repr, patterns))} matches none of {filtered} images"
        raise UsageError(problem, "Write it as in a shell: '*.png', or 'val/*.png' with the path in the input")
    common = os.path.commonpath(roots) if roots else ""
    names = (PurePosixPath(Path(path).relative_to(common).as_posix()) for path in pictures)
    return [replace(picture, name=name) for picture, name in zip(pictures.values(), names, strict=True)]


def _is_video_inside(picture: Picture, source: str | Path) -> bool:
    """True if it has the suffix of a video, and is not itself the input."""
    return picture.name.suffix.lower() in VIDEO_SUFFIXES and picture.path != as_path(source)


def _count_suffixes(paths: Iterable[str]) -> Counter[str]:
    return Counter(os.path.splitext(path)[1].lower() or "no suffix" for path in paths)  # noqa: PTH122


def describe_left_out(left_out: Mapping[str, int]) -> str:
    """Say how many files are not read as images, the most frequent suffixes first, and the remedy where there is one.

    Example:
        >>> describe_left_out({".dcm": 1, ".heic": 2})
        "3 files left out: .heic 2, .dcm 1; pip install 'gapcam[heic]' to read .heic"
    """
    total = sum(left_out.values())
    ranked = sorted(left_out.items(), key=lambda item: (-item[1], item[0]))
    counts = [f"{suffix} {count}" for suffix, count in ranked[:8]]
    more = ["..."] if len(left_out) > 8 else []
    remedies = ""
    for extra, suffixes in ("heic", _HEIC_SUFFIXES), ("video", VIDEO_SUFFIXES - _READ_SUFFIXES):
        if found := sorted(suffixes & left_out.keys()):
            remedies += f"; pip install 'gapcam[{extra}]' to read {' and '.join(found)}"
    archives = sorted({".zip", ".tar"} & left_out.keys())
    remedies += f"; give {' and '.join(archives)} as inputs themselves" if archives else ""
    return f"{total} file{'s' * (total > 1)} left out: {', '.join(counts + more)}{remedies}"


def _expand(path: Path, excluded: str, is_listed: bool) -> tuple[Path, Listing]:
    """List the files of an input, named relative to the folder that is returned first."""
    if isinstance(path, Address):
        return _expand_address(path, excluded, is_listed)
    if _is_folder(path):
        listing = _list_folder(path, excluded)
        if listing[0] or not (is_listed and path.name):  # an empty folder in a list is a bad image, not a wrong command
            return path, listing
    if path.name == "..":  # of a missing folder
        return path, ([], [])
    magic = [re.search(r"[*?[]", part) is not None for part in path.parts]
    if any(magic) and not is_listed and not os.path.lexists(path):
        first = magic.index(True)
        root = Path(*path.parts[:first])
        return root, _glob(root, "/".join(path.parts[first:]), excluded)
    if is_archive(path.name):
        with suppress(ImageError):  # reading it says why
            return path, _list_archive(path)
    return path.parent, ([Picture(path, PurePosixPath(path.name))], [])


def _expand_address(path: Address, excluded: str, is_listed: bool) -> tuple[Path, Listing]:
    """List the files of an input at an address, as `_expand` does; archives there are not read."""
    path.check()
    magic = [re.search(r"[*?[]", part) is not None for part in path.parts]
    try:
        if any(magic) and not is_listed:
            root: Path = Address(*path.parts[: magic.index(True)])
            found = list(root.glob("/".join(path.parts[magic.index(True) :])))
            names = [file.relative_to(root).as_posix() for file in found if not _is_folder(file)]
        elif path.is_dir():
            root, names = path, path.find()
        else:
            if is_archive(path.name):
                raise UsageError(f"{str(path)!r} is an archive at an address", "Copy it to this machine, or unpack it")
            return path.parent, ([Picture(path, PurePosixPath(path.name))], [])
    except UsageError:
        raise
    except OSError as error:
        message = f"{str(path)!r} cannot be listed ({reason_of(error)})"
        raise UsageError(message, "Check the address and your permissions") from error
    names = [name for name in names if not any(part.startswith(".") for part in PurePosixPath(name).parts)]
    names = [name for name in names if not (excluded and Path(_real_path(root / name)).is_relative_to(excluded))]
    images = sorted(filter(is_picture, names), key=natural_sort_key)
    others = [PurePosixPath(name) for name in names if not is_picture(name)]
    return root, ([Picture(root / name, PurePosixPath(name)) for name in images], others)


def _real_path(path: str | Path) -> str:
    """The path without links; of an address, one that no file of this machine has."""
    path = as_path(path)
    return "/" + str(path).replace("://", ":/", 1) if isinstance(path, Address) else os.path.realpath(path)


def _list_folder(folder: Path, excluded: str) -> Listing:
    """List the files in a folder and the folders below it, links followed once, images in natural order."""
    seen = {excluded}
    names: list[str] = []
    others: list[PurePosixPath] = []
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
        others += [PurePosixPath((prefix / name).as_posix()) for name in files if _is_other(name)]
        folders[:] = sorted(name for name in folders if not (is_picture(name) or name.startswith(".")))
    for error in errors:
        if error.filename == str(folder):
            message = f"The folder {str(folder)!r} cannot be listed ({error.strerror})"
            raise UsageError(message, "Change its permissions, or name the files to read") from error
        names.append(PurePath(error.filename).relative_to(folder).as_posix())
    return [Picture(folder / name, PurePosixPath(name)) for name in sorted(names, key=natural_sort_key)], others


def _glob(root: Path, pattern: str, excluded: str) -> Listing:
    """List the files that a glob matches, also those in folders and archives that it matches."""
    pictures: list[Picture] = []
    others: list[PurePosixPath] = []
    try:
        paths = {match.relative_to(root).as_posix(): match for match in root.glob(pattern)}
    except ValueError:  # ** is only a part of a name
        return [], []
    for name in sorted(paths, key=natural_sort_key):
        path = paths[name]
        if any(part.startswith(".") for part in PurePosixPath(name).parts):  # hidden
            continue
        if is_picture(path.name):
            if not excluded or not Path(os.path.realpath(path)).is_relative_to(excluded):
                pictures.append(Picture(path, PurePosixPath(name)))
        elif _is_folder(path) or is_archive(path.name):
            base, (inside, unread) = _expand(path, excluded, is_listed=False)
            prefix = PurePosixPath(name) if base == path else PurePosixPath(name).parent
            pictures += [replace(picture, name=prefix / picture.name) for picture in inside]
            others += [prefix / other for other in unread]
        elif not excluded or not Path(os.path.realpath(path)).is_relative_to(excluded):
            others.append(PurePosixPath(name))
    return pictures, others


def _list_archive(archive: Path) -> Listing:
    """List the files in an archive; the last of several images with one name, as unpacking leaves them."""
    pictures: dict[str, Picture] = {}
    others: list[PurePosixPath] = []
    # Refused members first: they need another name, and a good one of that name must not be lost.
    for member in sorted(list_members(archive), key=lambda member: not leads_out(member.name)):
        *folders, name = re.split(r"[/\\]", member.name)
        hidden = any(re.match(r"\.(?!\.?$)", folder) for folder in folders)
        if is_picture(name) and not hidden:
            refused = leads_out(member.name)
            safe = PurePosixPath(re.sub(r"[/\\:]|\.\.", "_", member.name) if refused else member.name)
            pictures[str(safe)] = Picture(Path(f"{archive}/{member.name}"), safe, member)
        elif _is_other(name) and not hidden:
            others.append(PurePosixPath(*folders, name))
    return [pictures[name] for name in sorted(pictures, key=natural_sort_key)], others


def _matches(name: PurePosixPath, patterns: Sequence[str]) -> bool:
    """True if a file matches a pattern, or there is none."""
    return not patterns or any(fnmatchcase(str(name) if "/" in text else name.name, text) for text in patterns)


def _is_other(name: str) -> bool:
    """True if a file is neither an image nor hidden."""
    return not (name.startswith(".") or is_picture(name))


def is_picture(name: str) -> bool:
    """True if a file has the suffix of an image, or of a video that can be read, and is not hidden."""
    return not name.startswith(".") and os.path.splitext(name)[1].lower() in _READ_SUFFIXES  # noqa: PTH122


def _is_folder(path: str | Path) -> bool:
    path = as_path(path)
    return path.is_dir() if isinstance(path, Address) else os.path.isdir(path)  # noqa: PTH112  # Path.is_dir raises if a folder above is not readable


def natural_sort_key(path: str) -> tuple[list[list[str | tuple[int, str]]], str]:
    """Sort 2 before 10, and A next to a; ties by the path."""

    def number(digits: str) -> tuple[int, str]:  # Python refuses to convert thousands of digits to a number
        return len(digits.lstrip("0")), digits.lstrip("0")

    parts = [re.split(r"([0-9]+)", part) for part in path.casefold().split("/")]
    return [[number(text) if index % 2 else text for index, text in enumerate(part)] for part in parts], path


def shard(pictures: Sequence[Picture], part: tuple[int, int] | None) -> list[tuple[int, Picture]]:
    """Take the share of one of several machines, with indices among all images: `part` is (i, n), i from 1; None: all.

    The share depends on a hash of the name only, so it is the same whatever other images there are.
    """
    index, count = part or (1, 1)
    if not 1 <= index <= count:
        raise UsageError(f"--shard must be I/N with I from 1 to N, got {index}/{count}", "Give 1/3, 2/3 and 3/3")

    def hash_name(picture: Picture) -> int:
        return int.from_bytes(blake2b(os.fsencode(picture.name), digest_size=8).digest(), "big")

    return [pair for pair in enumerate(pictures) if count == 1 or hash_name(pair[1]) % count == index - 1]


def check_output(inputs: Sequence[str | Path], out: Path) -> None:
    """Raise UsageError if the output folder lies in an input folder: a second run would read its results."""
    real_out = Path(_real_path(out))
    for folder in inputs:
        if _is_folder(folder) and real_out.is_relative_to(_real_path(folder)):
            problem = f"--out {str(out)!r} lies in the input folder {str(folder)!r}"
            raise UsageError(problem, "Choose an output folder outside it")
